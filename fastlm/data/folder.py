"""Folders that appear whole or not at all, built by one process at a time.

A folder is built under a hidden name beside its place and renamed into it after every file has reached the disk. A lock
file (flock, so it dies with its process) lets one process build while others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastlm.errors import DataError

_POLL_SECONDS = 0.1


def _hidden(out: Path, what: str) -> Path:
    # A hash, since the folder's own name may already be as long as the file system allows.
    return out.parent / f".fastlm-{hashlib.sha256(os.fsencode(out.name)).hexdigest()[:16]}.{what}"


@contextmanager
def locked(out: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of ``out``, waiting for it as long as another living process has it.

    ``on_wait`` is called once, with the holder's ``pid host``, before waiting. On file systems without flock (some
    network mounts) the lock may not hold across hosts; publishing stays atomic all the same.

    Raises:
        DataError: the folder around ``out`` cannot be written.
    """
    path = _hidden(out, "lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _try_lock(path)
        if descriptor is None:
            on_wait(_holder(path))
        while descriptor is None:
            time.sleep(_POLL_SECONDS)
            descriptor = _try_lock(path)
    except OSError as error:
        raise DataError(f"{out.parent}: {error.strerror}; name a folder that can be written") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except FileNotFoundError:  # it has just finished
        return "another process"


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us removes the file when it is done: a lock on a removed file protects nothing.
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new empty folder that becomes ``out`` when the block ends well, and is removed when it does not.

    Call it with the lock held: leftovers of builders that were killed are removed first. What was at ``out`` goes away
    only after the new folder is on the disk.
    """
    for leftover in out.parent.glob(f"{_hidden(out, 'new').name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    new = Path(f"{_hidden(out, 'new')}-{os.getpid()}")
    new.mkdir()
    try:
        yield new
        for path in new.iterdir():
            sync(path)
        sync(new)
        if out.exists():
            out.rename(f"{_hidden(out, 'new')}-old-{os.getpid()}")
        new.rename(out)
        sync(out.parent)
    finally:
        for leftover in (new, Path(f"{_hidden(out, 'new')}-old-{os.getpid()}")):
            shutil.rmtree(leftover, ignore_errors=True)


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
