"""Files that are either wholly there or not at all, also after a power cut.

Everything is written under a temporary name, flushed to the disk, and renamed; the folder that holds the name is
flushed too, since a rename is only durable once its folder is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

TEMPORARY = ".tmp"


def write(path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Writes and flushes one file; returns its size in bytes and its SHA-256 in hexadecimal."""
    digest, size = hashlib.sha256(), 0
    with open(path, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def sync_folder(path: Path) -> None:
    """Flushes a folder's names to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes) -> None:
    """Puts ``data`` at ``path``; a reader sees the old content or the new, never a part."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        write(temporary, [data])
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def publish_folder(temporary: Path, path: Path) -> None:
    """Gives a finished folder its name; its files must have been flushed already."""
    sync_folder(temporary)
    os.rename(temporary, path)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Removes a folder in one step as readers see it; what is already gone is fine.

    It first loses its name, so that a crash or a failure half-way never leaves a folder that looks like a damaged
    checkpoint.
    """
    temporary = path if path.suffix == TEMPORARY else path.with_name(path.name + ".old" + TEMPORARY)
    try:
        if temporary != path:
            shutil.rmtree(temporary, ignore_errors=True)
            os.rename(path, temporary)
    except FileNotFoundError:
        return
    shutil.rmtree(temporary, ignore_errors=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
