"""Locks exclude, folders appear whole."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from fastlm.data import folder
from fastlm.data.folder import locked, replacing


def test_one_holder_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_POLL_SECONDS", 0.0005)
    inside, most, done = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, done
        for _ in range(25):
            with locked(tmp_path / "out", lambda holder: None):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1
                    done += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, done) == (1, 100) and not list(tmp_path.iterdir())


def test_a_lock_on_a_file_that_was_removed_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        os.unlink(path)  # the last holder leaves between our opening and our locking
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert folder._try_lock(path) is None
    monkeypatch.undo()
    descriptor = folder._try_lock(path)
    assert descriptor is not None
    os.close(descriptor)


def test_a_folder_replaces_another_only_when_it_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "한글 folder with a name of many characters " / ("x" * 240)
    out.mkdir(parents=True)
    (out / "old").write_text("old")
    with pytest.raises(RuntimeError), replacing(out) as new:
        (new / "new").write_text("half")
        raise RuntimeError
    assert [path.name for path in out.parent.iterdir()] == [out.name] and (out / "old").exists()
    with replacing(out) as new:
        assert (out / "old").exists()
        (new / "new").write_text("whole")
    assert [path.name for path in out.iterdir()] == ["new"] and len(list(out.parent.iterdir())) == 1
