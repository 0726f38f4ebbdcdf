"""What the whole record would take: from measured tokens/s, the arithmetic of each run and the tokens of its text.

A run's time is its tokens times the operations of one (`fastlm.models.size`), divided by a speed in operations per
second. This machine's speed is measured: the tokens/s of run folders, or of one short run, times the operations of a
token of that model. The GPU's is the goal of a whole step: half of the rate of its matrix products.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from fastlm.data.batching import FRAME
from fastlm.data.config import DataConfig
from fastlm.errors import CheckpointError
from fastlm.models.size import flops_per_token
from fastlm.record import recipe, state, tables
from fastlm.record.recipe import Recipe
from fastlm.record.scale import Scale, scaled, share_factor
from fastlm.record.view import number
from fastlm.train.config import RunConfig
from fastlm.train.trainer import train

#: one NVIDIA H200 (performance.md): matrix products in bf16, and the share of it that a whole step is to reach
GPU, GPU_FLOPS, GPU_SHARE = "one H200", 790e12, 0.5
#: the AI-Hub corpus: sentences of a language in training, and tokens of one with a vocabulary of some 30,000 (33 to 36)
LANGUAGES, SENTENCES, TOKENS = ("ko", "en"), 1_442_176, 34.5
#: sentences of the news workbooks of 1,602,418
NEWS = 801_387 / 1_602_418
#: the short run: case 1's with 6 layers
SHORT = {"epochs": 0.0, "max_steps": 14, "warmup": 2, "log_every": 2, "eval_every": 14, "valid_sentences": 64}
SHORT_BATCH = 64
LEFT_OUT = 2  # lines at the beginning, while memory is first touched


@dataclass(frozen=True)
class Speed:
    """Operations per second of this machine, and in words where they come from."""

    flops: float
    words: str


def report(scale: Scale, reading: DataConfig, measured: Sequence[Path], *, threads: int = 0) -> str:
    """The table of hours, in Markdown.

    Args:
        scale: of the cases.
        reading: text for the short run (none: the demo corpus).
        measured: run folders whose tokens/s count; none makes a short run.
        threads: of the short run.

    Raises:
        CheckpointError: a run folder without tokens/s.
    """
    speed = of_runs(measured) if measured else of_short_run(reading, threads)
    return f"{_words(scale, speed)}\n\n{_table(scale, speed)}"


def of_runs(runs: Sequence[Path]) -> Speed:
    """The median speed of run folders."""
    found = [_flops(run) for run in runs]
    return Speed(statistics.median(found), f"the median of {len(found)} runs: {', '.join(run.name for run in runs)}")


def _flops(run: Path, left_out: int = 0) -> float:
    found = state.read(run)
    speeds = [
        speed
        for line in found.lines
        if line["split"] == "train"
        if (speed := number(line.get("tokens_per_second"))) is not None
    ]
    if found.config is None or not speeds:
        raise CheckpointError(f"{run}: no training line with tokens/s; give a run folder that has trained")
    text = found.decided["text"]["train"]
    length = text["tokens"] / text["sentences"] + FRAME
    return statistics.median(speeds[left_out:] or speeds) * flops_per_token(found.config.model, sequence_length=length)


def of_short_run(reading: DataConfig, threads: int) -> Speed:
    """Trains case 1's model of 6 layers for a few steps, on a vocabulary that any text fills."""
    config = recipe.find("case-01").runs["layers-6"]
    data = dataclasses.replace(
        config.data,
        **{field: getattr(reading, field) for field in ("data", "cache", "encoding", "on_bad_text", "on_bad_row")},
        **{field: getattr(reading, field) for field in ("columns", "sheet", "align")},
        batch_size=SHORT_BATCH,
    )
    with tempfile.TemporaryDirectory(prefix="fastlm-hours-") as folder:
        settings: dict[str, Any] = {**SHORT, "run": str(Path(folder) / "run"), "threads": threads}
        short = RunConfig(
            model=dataclasses.replace(config.model, vocab_size=0),
            data=data,
            train=dataclasses.replace(config.train, **settings),
        )
        run = train(short, console=Console(quiet=True), charts=False)
        return Speed(_flops(run, LEFT_OUT), f"a run of {SHORT['max_steps']} steps of case 1's model with 6 layers")


def _words(scale: Scale, speed: Speed) -> str:
    return (
        f"This machine: {speed.flops / 1e12:.3g} TFLOP/s ({speed.words}). {GPU}: {GPU_SHARE:.0%} of "
        f"{GPU_FLOPS / 1e12:.0f} TFLOP/s, the goal of a whole step, not a measurement. Text: the AI-Hub corpus, "
        f"{SENTENCES:,} training sentences of a language, {TOKENS:g} tokens each whatever the vocabulary (a smaller "
        f"one gives more). Evaluations and saves are not counted. {scale.words[:1].upper()}{scale.words[1:]}"
    ).strip()


def _table(scale: Scale, speed: Speed) -> str:
    rows, here, there = [], 0.0, 0.0
    for name in recipe.names():
        case = recipe.find(name)
        tokens, flops = work(case, scale)
        here += flops / speed.flops / 3600
        there += flops / (GPU_FLOPS * GPU_SHARE) / 3600
        rows.append(
            [
                name,
                case.title,
                f"{len(case.runs)}",
                f"{tokens / 1e9:,.3f}",
                f"{flops / 1e15:,.1f}",
                _hours(flops / speed.flops),
                _hours(flops / (GPU_FLOPS * GPU_SHARE)),
                f"{case.original.hours:g}" if case.original.hours else tables.NONE,
            ]
        )
    total = ["", "all", "", "", "", f"{here:,.1f}", f"{there:,.2f}", tables.NONE]
    head = ["case", "", "runs", "billion tokens", "PFLOP", "hours here", f"hours on {GPU}", "hours of the original"]
    return tables.table(head, [*rows, total])


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f}"


def work(case: Recipe, scale: Scale) -> tuple[float, float]:
    """Tokens that all runs of a case read on the AI-Hub corpus, and the operations that this takes."""
    runs = [scaled(config, scale) for config in case.runs.values()]
    visits = [_sentences(config) * config.train.epochs for config in runs]
    factor = share_factor(visits, scale)
    length = TOKENS + FRAME
    tokens = [count * factor * length for count in visits]
    flops = [n * flops_per_token(run.model, sequence_length=length) for n, run in zip(tokens, runs, strict=True)]
    return sum(tokens), sum(flops)


def _sentences(config: RunConfig) -> float:
    """Training sentences of a run on the AI-Hub corpus."""
    languages = len(config.data.languages or LANGUAGES)
    return languages * SENTENCES * config.data.share * (NEWS if config.data.domains else 1)
