"""Who may write in a run folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlm.config import as_dict
from fastlm.errors import CheckpointError
from fastlm.train import runfolder
from fastlm.train.config import RunConfig
from fastlm.train.runfolder import RunFolder

MakeConfig = Callable[..., RunConfig]
HOLD = (
    "import sys; from pathlib import Path; from fastlm.train.runfolder import RunFolder\n"
    "with RunFolder(Path(sys.argv[1])):"
)


def hold(path: Path, body: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", f"{HOLD} {body}", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_in_use_is_refused_with_its_holder_and_a_dead_holder_does_not_matter(tmp_path: Path) -> None:
    process = hold(tmp_path / "run", "print('held', flush=True); sys.stdin.read()")
    try:
        with pytest.raises(CheckpointError, match=f"in use by process {process.pid} on "), RunFolder(tmp_path / "run"):
            pass
    finally:
        process.kill()
        process.communicate()
    assert str(process.pid) in (tmp_path / "run" / "lock").read_text()  # stale
    with RunFolder(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / "lock").read_text()
        with pytest.raises(CheckpointError, match="in use"), RunFolder(tmp_path / "run"):
            pass
    with RunFolder(tmp_path / "run"):
        pass


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CheckpointError, match=r"file/run: cannot be written \(Not a directory\)"),
        RunFolder(tmp_path / "file/run"),
    ):
        pass

    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(
        runfolder.atomic, "replace_file", refuse
    )  # root may write anywhere, so permissions alone prove nothing
    with (
        pytest.raises(CheckpointError, match=r"\.probe: cannot be written \(Permission denied\)"),
        RunFolder(tmp_path / "run"),
    ):
        pass
    monkeypatch.undo()
    with RunFolder(tmp_path / "run"):  # the refusal let go of the lock
        assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["checkpoints", "lock"]


@pytest.mark.parametrize(
    ("run", "resume", "chosen"), [("r", "", "r"), ("r", "auto", "r"), ("", "r/checkpoints/step-5", "r")]
)
def test_the_folder_that_the_flags_name(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, resume: str, chosen: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runfolder.choose(make_config(run=run, resume=resume)).resolve() == tmp_path / chosen


@pytest.mark.parametrize(
    ("run", "resume", "message"),
    [
        ("", "auto", "--resume auto needs --run"),
        ("", "r", "not a checkpoint folder (RUN/checkpoints/step-N); for a whole run use --run r --resume auto"),
        ("other", "r/checkpoints/step-5", "belongs to"),
    ],
)
def test_flags_that_name_no_folder(make_config: MakeConfig, run: str, resume: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        runfolder.choose(make_config(run=run, resume=resume))


def test_a_new_run_never_takes_the_folder_of_another(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = runfolder.choose(make_config(run=""))
    assert first.parts[0] == "runs"
    assert first.name.startswith("encoder-")
    first.mkdir(parents=True)
    assert runfolder._fresh(first) != first


def test_the_requested_config_comes_back(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(layers=3, data=("ko=가 나.txt",))
    with RunFolder(tmp_path / "run") as run:
        run.write_config({"requested": as_dict(config)})
    assert runfolder.requested_config(tmp_path / "run") == config
    (tmp_path / "run" / "config.json").write_text('{"requested": {"model": {"layerz": 3}}}')
    with pytest.raises(CheckpointError, match=r"config.json: unknown key 'layerz'.*did you mean layers"):
        runfolder.requested_config(tmp_path / "run")
    with pytest.raises(CheckpointError, match="is not a run folder"):
        runfolder.requested_config(tmp_path)
