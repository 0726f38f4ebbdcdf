"""A case as the page shows it: its runs, from their folders alone, and the numbers of its tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastlm.errors import CheckpointError
from fastlm.record import events, state
from fastlm.record.folder import CaseFolder
from fastlm.train.config import RunConfig

Line = dict[str, Any]


@dataclass(frozen=True)
class RunView:
    """One run of a case.

    Attributes:
        config: its settings; None of another tool's run.
        decided: what it found out (``config.json``); empty before it has begun.
        lines: of its metrics.
        words: how far it is.
    """

    name: str
    config: RunConfig | None
    decided: dict[str, Any]
    lines: list[Line]
    words: str


@dataclass(frozen=True)
class Scores:
    """Best and last of a run; None where there is no such line.

    Attributes:
        best: the validation line with the lowest loss.
        last: the last validation line.
        train: means over the training lines of the last epoch, each weighed by its targets.
        seconds: wall time.
        tokens_per_second: median of the training lines.
    """

    best: Line | None
    last: Line | None
    train: Line | None
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class CaseView:
    """A case with all its runs."""

    folder: CaseFolder
    about: dict[str, Any]
    runs: list[RunView]


def case(folder: CaseFolder) -> CaseView:
    """Reads a case's folder.

    Raises:
        CheckpointError: a file of it is damaged, or a run that was added is gone.
    """
    about = folder.read()
    runs = []
    for name, planned in folder.configs().items():
        found = state.read(folder.run(name))
        runs.append(RunView(name, found.config or planned, found.decided, found.lines, found.words))
    return CaseView(folder, about, runs + [extra(name, path) for name, path in folder.extras().items()])


def extra(name: str, path: Path) -> RunView:
    """A run from elsewhere: a run folder, or a folder of TensorBoard files.

    Raises:
        CheckpointError: it is neither, or has no number that a chart shows.
        ConfigError: TensorBoard files, and no TensorBoard to read them.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such folder; it was added to a case as {name}")
    if events.is_event_folder(path):
        return RunView(name, None, {}, events.read(path), "added from TensorBoard files")
    found = state.read(path)
    if found.config is None:
        raise CheckpointError(f"{path}: neither a run folder nor a folder of TensorBoard files")
    return RunView(name, found.config, found.decided, found.lines, f"added; {found.words}")


def scores(run: RunView) -> Scores:
    """The numbers of a run's row."""
    valid = [line for line in run.lines if line["split"] == "valid"]
    train = [line for line in run.lines if line["split"] == "train"]
    finite = [line for line in valid if number(line.get("loss")) is not None]
    speeds = [speed for line in train if (speed := number(line.get("tokens_per_second"))) is not None]
    seconds = [time for line in run.lines if (time := number(line.get("seconds"))) is not None]
    return Scores(
        best=min(finite, key=lambda line: line["loss"]) if finite else None,
        last=valid[-1] if valid else None,
        train=_last_epoch(train),
        seconds=max(seconds, default=math.nan),
        tokens_per_second=statistics.median(speeds) if speeds else math.nan,
    )


def _last_epoch(train: Sequence[Line]) -> Line | None:
    """Means of the training lines since one epoch before the last, or of the last line where epochs are not told."""
    if not train:
        return None
    end = number(train[-1].get("epoch"))
    chosen = [line for line in train if end is not None and (number(line.get("epoch")) or 0) > end - 1] or [train[-1]]
    return {field: _mean(chosen, field) for field in ("loss", "accuracy", "bits_per_character")}


def _mean(lines: Sequence[Line], field: str) -> float | None:
    weighed = [
        (value, number(line.get("targets")) or 1.0) for line in lines if (value := number(line.get(field))) is not None
    ]
    total = sum(weight for _, weight in weighed)
    return sum(value * weight for value, weight in weighed) / total if total else None


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
