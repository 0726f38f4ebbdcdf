"""The folder of a search: ``recipe.toml``, ``text.json``, Optuna's ``study.db``, run folders ``trials/NNNN``."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastlm.config import as_dict, update
from fastlm.data.config import DataConfig
from fastlm.errors import CheckpointError, ConfigError
from fastlm.record.sweep import recipe
from fastlm.record.sweep.recipe import Search
from fastlm.train import atomic
from fastlm.train.config import RunConfig

RECIPE, TEXT, STUDY, TRIALS, LOCKS, LOGS = "recipe.toml", "text.json", "study.db", "trials", "locks", "logs"


@dataclass(frozen=True)
class SweepFolder:
    """Paths of a search, and its locks: ``flock``, which a dead process cannot hold."""

    path: Path

    def run(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.path / TRIALS / f"{number:04}"

    def settle(self, search: Search, text: str, reading: DataConfig) -> None:
        """Writes what the search is, when the folder is new or was begun with the same; more trials are fine.

        Args:
            search: the parsed recipe.
            text: of the recipe's file.
            reading: where the text to train on is.

        Raises:
            ConfigError: the folder holds another search; what differs is named.
        """
        place = dataclasses.replace(reading, data=tuple(map(_absolute, reading.data)))
        if (self.path / RECIPE).exists():
            before, then = self.search(), self.reading()
            different = [f.name for f in dataclasses.fields(Search) if _part(before, f.name) != _part(search, f.name)]
            different += ["--data"] if then != place else []
            if different:
                raise ConfigError(f"{self.path}: begun with another {', '.join(different)}; choose another --out")
        self.path.mkdir(parents=True, exist_ok=True)
        for name in (LOCKS, TRIALS):
            (self.path / name).mkdir(exist_ok=True)
        plain = as_dict(RunConfig(data=place))["data"]
        atomic.replace_file(self.path / TEXT, (json.dumps(plain, ensure_ascii=False, indent=1) + "\n").encode())
        atomic.replace_file(self.path / RECIPE, text.encode())

    def search(self) -> Search:
        """What the folder was begun with."""
        return recipe.read(self.path / RECIPE)

    def reading(self) -> DataConfig:
        """Where its text is.

        Raises:
            CheckpointError: the file that says so is damaged.
        """
        try:
            return update(RunConfig(), {"data": json.loads((self.path / TEXT).read_bytes())}).data
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path / TEXT}: damaged ({error})") from None

    @contextlib.contextmanager
    def claiming(self) -> Iterator[None]:
        """One process at a time decides which trial is next."""
        handle = _open(self.path / LOCKS / "claim")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def hold(self, number: int) -> int | None:
        """The lock of a trial, to be closed at its end; None where a living process has it."""
        handle = _open(self.path / LOCKS / f"{number:04}")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        return handle


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _absolute(entry: str) -> str:
    """``--data`` as seen from anywhere; LANG=FILE keeps its language."""
    language, separator, path = entry.partition("=")
    return f"{language}={os.path.abspath(path)}" if separator and not os.path.exists(entry) else os.path.abspath(entry)


def _part(search: Search, name: str) -> Any:
    return None if name in ("title", "trials") else getattr(search, name)
