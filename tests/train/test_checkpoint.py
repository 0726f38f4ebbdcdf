"""Checkpoints under crashes, full disks, flipped bits and other misfortunes (faults.md, rows 1 to 13)."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fastlm.errors import CheckpointError
from fastlm.train import atomic, checkpoint


def tensors(value: float) -> dict[str, Tensor]:
    return {"w": torch.full((3, 5), value), "b": torch.tensor(value), "none": torch.zeros(0, 4)}


def save(run: Path, step: int) -> Path:
    return checkpoint.save(run, step, tensors(step), {"exp_avg/w": torch.full((3, 5), -step)}, {"note": "한글"})


def newest_step(run: Path, warnings: list[str] | None = None) -> int | None:
    found = checkpoint.newest(run, (warnings if warnings is not None else []).append)
    return None if found is None else found.step


class Crash(BaseException):
    """The process is gone: nothing may catch it."""


def operations() -> list[tuple[Any, str]]:
    """Every call through which saving, replacing and pruning touch the disk."""
    return [
        (os, "fsync"), (os, "rename"), (os, "replace"), (os, "open"), (Path, "mkdir"), (shutil, "rmtree"),
        (Path, "unlink"), (atomic, "write"),
    ]  # fmt: skip


def crash_at(
    monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool, error: type[BaseException] = Crash
) -> list[str]:
    """Makes disk operation ``number`` raise, before or after it takes effect; returns the list of operations."""
    seen: list[str] = []

    def wrap(plain: Callable[..., Any], name: str) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            seen.append(name)
            strike = len(seen) == number + 1
            if strike and not after:
                raise error(f"at {name}")
            result = plain(*arguments, **options)
            if strike:
                raise error(f"after {name}")
            return result

        return operation

    for owner, name in operations():
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name), name))
    return seen


def save_and_prune(run: Path) -> None:
    save(run, 3)
    checkpoint.point_to_best(run, 3, 1.5)
    checkpoint.prune(run, 2, protect=[])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_disk_operation_leaves_a_valid_checkpoint(tmp_path: Path, after: bool) -> None:
    for number in range(100):
        run = tmp_path / f"run-{number}"
        run.mkdir()
        for step in (1, 2):
            save(run, step)
        with pytest.MonkeyPatch.context() as monkeypatch:
            seen = crash_at(monkeypatch, number, after=after)
            try:
                save_and_prune(run)
            except Crash:
                pass
            else:
                break
        warnings: list[str] = []
        assert newest_step(run, warnings) in (2, 3), seen
        assert not warnings, (seen, warnings)  # nothing half-written looks like a checkpoint
        checkpoint.clean(run)
        assert not list((run / checkpoint.FOLDER).glob("*.tmp"))
        save_and_prune(run)  # and the run goes on
        assert checkpoint.steps(run) == [2, 3]
        assert checkpoint.best_step(run) == 3
    else:
        pytest.fail("the loop never came to the end of a save")
    assert number > 15


def test_a_failing_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for number in range(100):
        with pytest.MonkeyPatch.context() as monkeypatch:
            seen = crash_at(monkeypatch, number, after=False, error=OSError)
            try:
                save(tmp_path, 2)
            except OSError:
                pass
            else:
                break
        assert newest_step(tmp_path) in (1, 2), seen
        checkpoint.clean(tmp_path)
        assert not list((tmp_path / checkpoint.FOLDER).glob("*.tmp")), seen
    assert newest_step(tmp_path) == 2


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoint.save(tmp_path, 2, {"w": torch.zeros(1 << 16)}, {}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in (tmp_path / checkpoint.FOLDER).iterdir()] == ["step-0000000001"]
    assert newest_step(tmp_path) == 1


def test_files_are_flushed_before_the_name_and_the_manifest_is_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    write, fsync, rename = atomic.write, os.fsync, os.rename
    monkeypatch.setattr(atomic, "write", lambda path, chunks: (write(path, chunks), events.append(path.name))[0])
    monkeypatch.setattr(os, "fsync", lambda handle: (fsync(handle), events.append("fsync"))[0])
    monkeypatch.setattr(os, "rename", lambda a, b: (rename(a, b), events.append("rename"))[0])
    save(tmp_path, 1)
    files = [x for name in (checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE) for x in ("fsync", name)]
    assert events == [*files, "fsync", checkpoint.MANIFEST, "fsync", "rename", "fsync"]


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE, checkpoint.MANIFEST])
@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "gone"])
def test_damage_is_named_and_stepped_over(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path, 9)
    file = save(tmp_path, 10) / name
    data = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes({"bit": data, "cut": data[:-1], "empty": b""}[damage])
    with pytest.raises(CheckpointError) as refused:
        checkpoint.read(checkpoint.folder(tmp_path, 10))
    assert name in str(refused.value)
    warnings: list[str] = []
    assert newest_step(tmp_path, warnings) == 9
    assert len(warnings) == 1
    assert name in warnings[0]


def test_every_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    file = save(tmp_path, 1) / checkpoint.MANIFEST
    good = file.read_bytes()
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 2]) + good[place + 1 :])
        with pytest.raises(CheckpointError):
            checkpoint.verify(file.parent)


def test_a_bit_flip_names_the_hash(tmp_path: Path) -> None:
    file = save(tmp_path, 1) / checkpoint.MODEL
    said = json.loads((file.parent / checkpoint.MANIFEST).read_text())["files"][checkpoint.MODEL]["sha256"]
    data = bytearray(file.read_bytes())
    data[-1] ^= 128
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"model.safetensors: damaged: SHA-256 .* where {said} was written"):
        checkpoint.verify(file.parent)


def test_all_damaged_is_an_error_and_none_is_not(tmp_path: Path) -> None:
    assert newest_step(tmp_path) is None
    (save(tmp_path, 1) / checkpoint.STATE).unlink()
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints is intact"):
        newest_step(tmp_path)


def test_a_newer_format_is_refused_by_version_and_never_stepped_over(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / checkpoint.MANIFEST
    manifest = json.loads(path.read_text())
    manifest.pop("sha256")
    manifest |= {"format": 2, "fastlm": "7.1"}
    path.write_text(json.dumps({**manifest, "sha256": checkpoint._digest(manifest)}))
    with pytest.raises(checkpoint.NewerFormat, match=r"format 2, written by fastlm 7\.1.*install fastlm 7\.1"):
        newest_step(tmp_path)


def test_order_is_by_number_not_by_name_or_time(tmp_path: Path) -> None:
    for step in (100, 10, 9):
        save(tmp_path, step)
    root = tmp_path / checkpoint.FOLDER
    for step in (9, 10, 100):  # names without leading zeros, as someone may have renamed them
        (root / f"step-{step:010d}").rename(root / f"step-{step}")
        os.utime(root / f"step-{step}", (1e9 - step, 1e9 - step))
    assert checkpoint.steps(tmp_path) == [9, 10, 100]
    assert newest_step(tmp_path) == 100


def test_a_folder_with_another_steps_name_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 5).rename(checkpoint.folder(tmp_path, 50))
    with pytest.raises(CheckpointError, match="holds step 5"):
        checkpoint.read(checkpoint.folder(tmp_path, 50))


def test_pruning_keeps_the_newest_the_protected_and_what_it_cannot_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 7):
        save(tmp_path, step)
    remove = atomic.remove_folder

    def refuse_three(path: Path) -> None:
        if path.name.endswith("3"):
            raise PermissionError(13, "not yours", str(path))
        remove(path)

    monkeypatch.setattr(atomic, "remove_folder", refuse_three)
    checkpoint.prune(tmp_path, 2, protect=[1])
    assert checkpoint.steps(tmp_path) == [1, 3, 5, 6]
    atomic.remove_folder(tmp_path / "was never there")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("unpickled",))

    path = save(tmp_path, 1)
    (path / checkpoint.MODEL).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    manifest.pop("sha256")
    data = (path / checkpoint.MODEL).read_bytes()
    manifest["files"][checkpoint.MODEL] = {"size": len(data), "sha256": atomic.sha256(path / checkpoint.MODEL)}
    (path / checkpoint.MANIFEST).write_text(json.dumps({**manifest, "sha256": checkpoint._digest(manifest)}))
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a safetensors file"):  # hashes that lie
        checkpoint.read(path)


@pytest.mark.parametrize("dtype", checkpoint._DTYPES, ids=str)
def test_the_file_is_safetensors(tmp_path: Path, dtype: torch.dtype) -> None:
    values = {"x": torch.arange(6).reshape(2, 3).to(dtype), "transposed": torch.arange(6).reshape(2, 3).to(dtype).t()}
    path = checkpoint.save(tmp_path, 1, values, {}, {})
    found = load_file(path / checkpoint.MODEL)
    assert found.keys() == values.keys()
    for name, tensor in values.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor)


def test_shared_weights_are_written_once_and_loaded(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

    one, two = Tied(), Tied()
    assert list(checkpoint.weights(one)) == ["a.weight"]
    checkpoint.load_weights(two, checkpoint.weights(one), tmp_path)
    assert torch.equal(one.a.weight, two.b.weight)
    with pytest.raises(CheckpointError, match=r"a\.weight: the checkpoint lacks it"):
        checkpoint.load_weights(two, {}, tmp_path)
    with pytest.raises(CheckpointError, match=r"a\.weight is \(3,\), the model's is \(2, 2\)"):
        checkpoint.load_weights(two, {"a.weight": torch.zeros(3)}, tmp_path)
