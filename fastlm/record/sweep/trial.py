"""One trial: a run of the trainer, whose evaluations are told to whoever searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from fastlm.data.config import SOURCE, DataConfig
from fastlm.record.sweep.recipe import Search
from fastlm.record.view import number
from fastlm.train import metrics
from fastlm.train.config import RunConfig
from fastlm.train.metrics import Scores
from fastlm.train.runfolder import CONFIG, METRICS
from fastlm.train.trainer import train

#: called with the number of an evaluation, from 1, and the searched value; True gives the trial up
Told = Callable[[int, float], bool]


@dataclass(frozen=True)
class Trial:
    """One row of a search's end.

    Attributes:
        state: ``done``, ``given up``, ``failed`` or ``not finished``.
        chosen: flag -> value.
        value: lowest validation value, None where there is none.
        why: of a failure.
    """

    number: int
    state: str
    chosen: Mapping[str, Any]
    value: float | None
    why: str = ""


def run(search: Search, chosen: Mapping[str, Any], folder: Path, reading: DataConfig, threads: int, told: Told) -> None:
    """Trains with the choices of a trial; in a folder where one has begun, goes on with it.

    Raises:
        ConfigError: choices that do not fit each other.
        Interrupted: SIGINT or SIGTERM came and the run is saved.
        FastlmError: as `train`.
    """
    config = search.config(chosen)
    resume = "auto" if (folder / CONFIG).exists() else ""
    place = {name: getattr(reading, name) for name in SOURCE}
    settings: dict[str, Any] = {"run": str(folder), "resume": resume, "threads": threads, "keep": 1}
    full = RunConfig(
        model=config.model,
        data=dataclasses.replace(config.data, **place),
        train=dataclasses.replace(config.train, **settings),
    )

    def watch(step: int, scores: Scores) -> bool:
        evaluations = sum(line["split"] == "valid" for line in metrics.read(folder / METRICS))
        return told(evaluations, getattr(scores.overall, search.metric))

    train(full, console=Console(quiet=True), watch=watch, charts=False)


def values(folder: Path, metric: str) -> list[float | None]:
    """The validation values of a trial's run, one an evaluation; None where one is not finite."""
    lines = metrics.read(folder / METRICS) if (folder / METRICS).exists() else []
    return [number(line.get(metric)) for line in lines if line["split"] == "valid"]


def best(folder: Path, metric: str) -> float | None:
    """The lowest validation value of a trial's run; None before a finite one."""
    return min((value for value in values(folder, metric) if value is not None), default=None)
