"""The folder of a case: ``case.json``, ``runs/NAME`` (run folders of the trainer), ``extra.json``, ``result.md``.

``case.json`` says what the case is in this folder - its words, its scale, the config of every run - and is what keeps
runs of different settings apart. ``result.md`` is the user's: it is read, never written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastlm.config import as_dict, differences
from fastlm.errors import CheckpointError, ConfigError
from fastlm.record.recipe import Recipe
from fastlm.record.scale import Scale
from fastlm.train import atomic, checkpoint, runfolder
from fastlm.train.config import RunConfig
from fastlm.train.resume import READING

CASE, RUNS, EXTRA, RESULT, CONFIGS, LOGS = "case.json", "runs", "extra.json", "result.md", "configs", "logs"
FORMAT = 1


@dataclass(frozen=True)
class CaseFolder:
    """Paths in the folder of a case."""

    path: Path

    @property
    def name(self) -> str:
        """Of the case."""
        return self.path.name

    def run(self, name: str) -> Path:
        """The run folder of a run."""
        return self.path / RUNS / name

    @property
    def result(self) -> str:
        """What the user wrote about the case; empty before that."""
        try:
            return (self.path / RESULT).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path / RESULT}: cannot be read ({error})") from None

    def read(self) -> dict[str, Any]:
        """``case.json``.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        path = self.path / CASE
        try:
            plain = json.loads(path.read_bytes())
            plain["format"], plain["runs"], plain["recipe"], plain["scale"]
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file; {self.path} is not the folder of a case") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: damaged ({error})") from None
        if plain["format"] != FORMAT:
            raise CheckpointError(f"{path}: format {plain['format']}; this fastlm reads format {FORMAT}")
        return dict(plain)

    def configs(self) -> dict[str, RunConfig]:
        """The config of every run of the case."""
        return {name: checkpoint.saved_config(plain, self.path / CASE) for name, plain in self.read()["runs"].items()}

    def extras(self) -> dict[str, Path]:
        """Runs from elsewhere that were added to the case, by name."""
        try:
            plain = json.loads((self.path / EXTRA).read_bytes())
            return {name: Path(path) for name, path in plain.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{self.path / EXTRA}: damaged ({error})") from None

    def add_extras(self, extras: Mapping[str, Path]) -> None:
        """Adds runs from elsewhere; one of the same name is replaced."""
        plain = {name: str(path) for name, path in {**self.extras(), **extras}.items()}
        atomic.replace_file(self.path / EXTRA, (json.dumps(plain, ensure_ascii=False, indent=1) + "\n").encode())

    def check_scale(self, scale: Scale) -> None:
        """Refuses another scale than the folder was begun with, before any text is read for it."""
        if (self.path / CASE).exists() and (before := self.read()["scale"]) != scale.name:
            raise ConfigError(f"{self.path}: begun with --scale {before}, not {scale.name}; choose another --out")

    def settle(self, recipe: Recipe, scale: Scale, runs: Mapping[str, RunConfig], text: list[str]) -> None:
        """Writes ``case.json``, when the folder is new or was begun with these very settings.

        Args:
            recipe: of the case; its words may have changed.
            scale: of the runs.
            runs: every run's config as it is trained.
            text: ``--data`` as given.

        Raises:
            ConfigError: the folder holds the case with other settings; the first is named.
        """
        if (self.path / CASE).exists():
            self._refuse_other(self.configs(), runs)
        words = {"title": recipe.title, "date": recipe.date, "compares": recipe.compares}
        plain = {
            "format": FORMAT,
            "case": recipe.name,
            "scale": scale.name,
            "scaled": scale.words,
            "note": scale.note,
            "text": text,
            "recipe": {**words, **{part: asdict(getattr(recipe, part)) for part in ("corpus", "original", "compare")}},
            "runs": {name: as_dict(config) for name, config in runs.items()},
        }
        self.path.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(self.path / CASE, (json.dumps(plain, ensure_ascii=False, indent=1) + "\n").encode())

    def _refuse_other(self, before: Mapping[str, RunConfig], runs: Mapping[str, RunConfig]) -> None:
        for name in before:
            if name not in runs and self.run(name).exists():
                raise ConfigError(
                    f"{self.path}: holds the run {name}, which the recipe no longer has; choose another --out"
                )
        for name, config in runs.items():
            if name in before and self.run(name).exists():
                refuse_other(self.run(name), before[name], config)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the case: a second process that would run it is refused.

        Raises:
            CheckpointError: another process has it, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / runfolder.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be written ({error.strerror}); choose another --out") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise CheckpointError(f"{self.path}: another process runs this case; wait for it") from None
        finally:
            os.close(handle)


def refuse_other(run: Path, before: RunConfig, wanted: RunConfig) -> None:
    """Refuses to go on in a run folder with settings that are not those that it was begun with.

    Where the text lies, and what changes nothing that is learnt, may differ.

    Raises:
        ConfigError: naming each setting.
    """
    found = [
        f"{name} {old!r} -> {new!r}"
        for name, old, new, harmless in differences(before, wanted)
        if not harmless and name not in READING
    ]
    if found:
        raise ConfigError(f"{run}: was begun with other settings: {'; '.join(found)}; choose another --out")


def cases(record: Path) -> list[CaseFolder]:
    """The cases in a record's folder, by name."""
    return [CaseFolder(path.parent) for path in sorted(record.glob(f"*/{CASE}"))]
