"""The run folder: who may write in it, and what a run says about itself there.

``config.json``, ``metrics.jsonl``, ``tokenizer.json``, ``checkpoints/``, ``best.json``, ``charts/`` and ``lock``.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from fastlm.errors import CheckpointError
from fastlm.train import atomic, checkpoint
from fastlm.train.config import RunConfig

CONFIG, METRICS, TOKENIZER, LOCK, CHARTS = "config.json", "metrics.jsonl", "tokenizer.json", "lock", "charts"


def choose(config: RunConfig) -> Path:
    """The folder that the flags name: ``--run``, else the one that holds the ``--resume`` checkpoint, else a new one.

    Raises:
        CheckpointError: ``--resume auto`` without ``--run``, or a checkpoint that belongs to another run.
    """
    train = config.train
    if train.resume == "auto":
        if not train.run:
            raise CheckpointError("--resume auto needs --run: the folder of the run to go on with")
        return Path(train.run)
    if train.resume:
        owner = Path(train.resume).resolve().parent.parent
        if Path(train.resume).resolve().parent.name != checkpoint.FOLDER:
            raise CheckpointError(
                f"--resume {train.resume}: not a checkpoint folder (RUN/{checkpoint.FOLDER}/step-N); "
                f"for a whole run use --run {train.resume} --resume auto"
            )
        if train.run and Path(train.run).resolve() != owner:
            raise CheckpointError(f"--resume {train.resume} belongs to {owner}, not to --run {train.run}")
        return Path(train.run) if train.run else owner
    if train.run:
        return Path(train.run)
    return _fresh(Path("runs") / f"{config.model.model}-{datetime.datetime.now():%Y%m%d-%H%M%S}")


def _fresh(path: Path) -> Path:
    """``path``, or with a number where another run of the same second has it."""
    number, chosen = 1, path
    while chosen.exists():
        number += 1
        chosen = path.with_name(f"{path.name}-{number}")
    return chosen


class RunFolder:
    """A run folder that this process may write in; a context manager that holds its lock.

    The lock is the kernel's (``flock``): a dead process cannot hold it, so a stale one needs no cleaning. On a network
    file system that keeps locks per host, the host in the message tells where the other run is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / METRICS
        self.charts = path / CHARTS
        self._handle = -1

    def __enter__(self) -> RunFolder:
        """Makes the folder if need be, takes the lock and proves that files can be written.

        Raises:
            CheckpointError: another run is in it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be written ({error.strerror}); choose another --run") from None
        try:
            self._take()
            self._probe()
        except CheckpointError:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _take(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._handle, 200, 0).decode(errors="replace").strip() or "another process"
            raise CheckpointError(f"{self.path}: in use by {holder}; stop it, or choose another --run") from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def _probe(self) -> None:
        try:
            checkpoints = self.path / checkpoint.FOLDER
            checkpoints.mkdir(exist_ok=True)
            for place in (self.path, checkpoints):
                atomic.replace_file(place / ".probe", b"fastlm")
                (place / ".probe").unlink()
        except OSError as error:
            raise CheckpointError(
                f"{error.filename or self.path}: cannot be written ({error.strerror}); "
                "free space, mend the permissions, or choose another --run"
            ) from None

    def _release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def write_config(self, plain: dict[str, Any]) -> None:
        """``config.json``: the resolved config and what was decided."""
        atomic.replace_file(self.path / CONFIG, (json.dumps(plain, ensure_ascii=False, indent=1) + "\n").encode())


def requested_config(run: Path) -> RunConfig:
    """The config that a run was started with, before defaults were resolved: the base to resume it from.

    Raises:
        CheckpointError: no run, or a config that this fastlm does not read.
    """
    path = run / CONFIG
    try:
        plain = json.loads(path.read_bytes())["requested"]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; {run} is not a run folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from None
    return checkpoint.saved_config(plain, path)
