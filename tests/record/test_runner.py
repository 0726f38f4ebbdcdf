"""A case from one command: killed and resumed, skipped, refused."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from fastlm.cli.main import main
from fastlm.data.config import DataConfig
from fastlm.errors import ConfigError
from fastlm.record import page, recipe, state
from fastlm.record.folder import CaseFolder
from fastlm.record.runner import How, RunFailed, run_case
from fastlm.record.scale import SCALES
from tests.record.conftest import Command, finish


def lines_in(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def pages(record: Path, to: Path) -> list[bytes]:
    return [path.read_bytes() for path in page.write(record, to, timings=False)]


def test_a_case_killed_half_way_and_started_again_has_the_page_of_one_that_ran_through(
    fastlm: Command, text: Path, case: Path, tmp_path: Path
) -> None:
    words = ("record", "run", case, "--data", text, "--threads", 1)
    finish(fastlm(*words, "--out", tmp_path / "straight"))
    killed = fastlm(*words, "--out", tmp_path / "killed")
    second = tmp_path / "killed" / "toy" / "runs" / "layers-2"
    while lines_in(second / "metrics.jsonl") < 12 and killed.poll() is None:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)  # as if the machine had died: the command and its run
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert state.read(second.with_name("layers-1")).done
    assert not state.read(second).done and state.read(second).step > 0
    half = pages(tmp_path / "killed", tmp_path / "half")
    said = finish(fastlm(*words, "--out", tmp_path / "killed"))
    assert "run layers-1: done" in said and "run layers-1: begins" not in said
    assert "resuming from" in said
    whole = pages(tmp_path / "straight", tmp_path / "a")
    assert pages(tmp_path / "killed", tmp_path / "b") == whole
    assert half != whole
    assert b"wall time" not in whole[0].lower()
    with_times = page.write(tmp_path / "killed", tmp_path / "c")[0].read_text(encoding="utf-8")
    assert "*Wall time* is that of training" in with_times and "tokens/s" in with_times


def test_the_command_killed_alone_leaves_no_run_behind(fastlm: Command, text: Path, case: Path, tmp_path: Path) -> None:
    words = ("record", "run", case, "--data", text, "--threads", 1, "--only", "layers-2", "--out", tmp_path)
    killed = fastlm(*words)
    run = tmp_path / "toy" / "runs" / "layers-2"
    while lines_in(run / "metrics.jsonl") < 5 and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.communicate(timeout=60)  # its run holds the same pipe: this waits for it, too
    saved = state.read(run)
    assert not saved.done
    assert "resuming from" in finish(fastlm(*words))
    assert state.read(run).done
    assert state.read(tmp_path / "toy" / "runs" / "layers-1").words == "not begun"


@pytest.fixture(scope="module")
def made(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The toy case, shorter, run with two jobs."""
    from tests.record.conftest import CASE

    out = tmp_path_factory.mktemp("made")
    toml = CASE.replace("epochs = 4.0", "epochs = 0.5")
    run_case(parsed(toml), SCALES["full"], out, reading(text), How(jobs=2, threads=1), lambda line: None)
    return toml, out


def parsed(toml: str) -> recipe.Recipe:
    return recipe.parse(toml, "toy", "toy.toml")


def reading(text: Path) -> DataConfig:
    return DataConfig(data=(str(text),))


def test_jobs_write_logs_and_runs_share_one_store(made: tuple[str, Path]) -> None:
    folder = CaseFolder(made[1] / "toy")
    for name in ("layers-1", "layers-2"):
        assert state.read(folder.run(name)).done
        assert "finished step 17" in (folder.path / "logs" / f"{name}.log").read_text(encoding="utf-8")
    stores = {state.read(folder.run(name)).config.data.data for name in ("layers-1", "layers-2")}  # type: ignore[union-attr]
    assert len(stores) == 1


def test_what_is_done_is_skipped(made: tuple[str, Path], text: Path) -> None:
    said: list[str] = []
    before = {path: path.stat().st_mtime_ns for path in (made[1] / "toy" / "runs").rglob("*.safetensors")}
    run_case(parsed(made[0]), SCALES["full"], made[1], reading(text), How(), said.append)
    assert said == ["run layers-1: done", "run layers-2: done"]
    assert {path: path.stat().st_mtime_ns for path in (made[1] / "toy" / "runs").rglob("*.safetensors")} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("warmup = 5", "warmup = 6"), "train.warmup 5 -> 6"),
        (("layers = 2", "layers = 3"), "model.layers 2 -> 3"),
        (("[runs.layers-1]", "[runs.one]"), "holds the run layers-1, which the recipe no longer has"),
    ],
)
def test_other_settings_are_refused_by_name(
    made: tuple[str, Path], text: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_case(parsed(made[0].replace(*change)), SCALES["full"], made[1], reading(text), How(), print)


def test_another_scale_or_text_is_refused(made: tuple[str, Path], text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="begun with --scale full, not small"):
        run_case(parsed(made[0]), SCALES["small"], made[1], reading(text), How(), print)
    (tmp_path / "other").mkdir()
    for name in ("ko.txt", "en.txt"):
        lines = (text / name).read_text(encoding="utf-8").splitlines()[:500]
        (tmp_path / "other" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="was trained on other text; choose another --out"):
        run_case(parsed(made[0]), SCALES["full"], made[1], reading(tmp_path / "other"), How(), print)


def test_a_run_that_fails_leaves_the_others_alone(text: Path, tmp_path: Path) -> None:
    toml = parsed_with_a_fault()
    with pytest.raises(RunFailed, match=r"not all runs are done: broken \(exit code 2\)"):
        run_case(toml, SCALES["full"], tmp_path, reading(text), How(threads=1), print)
    assert state.read(tmp_path / "toy" / "runs" / "good").done


def parsed_with_a_fault() -> recipe.Recipe:
    """A run whose batch leaves too little text to be split is no fault; a device that is not there is one."""
    from tests.record.conftest import CASE

    base = CASE.split("[runs.layers-1]")[0].replace("epochs = 4.0", "epochs = 0.2")
    return parsed(f'{base}[runs.broken]\nlayers = 1\ndtype = "fp16"\n[runs.good]\nlayers = 1\n')


def test_commands_refuse_in_one_line(
    made: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (["run", "case-26"], "no case 'case-26' (did you mean case-2"),
        (["run", "1", "--scale", "tiny"], "'tiny' is not one of small, cpu, full"),
        (["run", "1", "--jobs", "0"], "--jobs: 0 is below 1"),
        (["run", "1", "--only", "layers-5", "--scale", "small"], "case-01 has no such run (did you mean layers-"),
        (["page", "--out", str(tmp_path)], "no case here yet"),
        (["add", "toy", str(tmp_path / "nowhere"), "--out", str(made[1])], "no such folder"),
        (["add", "toy", f"layers-1={tmp_path}", "--out", str(made[1])], "has a run layers-1 of its own"),
    ):
        assert main(["record", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error


def test_a_run_from_elsewhere_joins_the_page(made: tuple[str, Path], tmp_path: Path) -> None:
    old = made[1] / "toy" / "runs" / "layers-2"
    assert main(["record", "add", "toy", f"of last year={old}", "--out", str(made[1])]) == 0
    markdown = page.write(made[1], tmp_path)[0].read_text(encoding="utf-8")
    assert "| of last year | added; done |" in markdown
    assert "| layers | **1** | **2** | **2** |" in markdown
    (made[1] / "toy" / "extra.json").unlink()
