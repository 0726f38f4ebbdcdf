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
from fastlm.data.config import SOURCE, DataConfig
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
    """What was measured.

    Attributes:
        flops: operations per second of this machine.
        length: tokens of a sentence of the measured text, with [BOS] and [EOS].
        words: where both come from.
    """

    flops: float
    length: float
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
    found = [_measured(run) for run in runs]
    flops, lengths = (statistics.median(values) for values in zip(*found, strict=True))
    return Speed(flops, lengths, f"the median of {len(found)} runs: {', '.join(run.name for run in runs)}")


def _measured(run: Path, left_out: int = 0) -> tuple[float, float]:
    """Operations per second of a run, and tokens of a sentence of its text."""
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
    each = flops_per_token(found.config.model, sequence_length=length)
    return statistics.median(speeds[left_out:] or speeds) * each, length


def of_short_run(reading: DataConfig, threads: int) -> Speed:
    """Trains case 1's model of 6 layers for a few steps, on a vocabulary that any text fills."""
    config = recipe.find("case-01").runs["layers-6"]
    data = dataclasses.replace(
        config.data,
        **{field: getattr(reading, field) for field in SOURCE},
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
        return Speed(*_measured(run, LEFT_OUT), f"a run of {SHORT['max_steps']} steps of case 1's model with 6 layers")


def _words(scale: Scale, speed: Speed) -> str:
    tokens = f"{_length(scale, speed):.1f} tokens, [BOS] and [EOS] among them"
    text = (
        f"Text: {tokens}, in a sentence of the measured text."
        if scale.visits
        else f"Text: the AI-Hub corpus, {SENTENCES:,} training sentences of a language, {tokens}, in each whatever the "
        "vocabulary (a smaller one gives more)."
    )
    parts = [f"This machine: {speed.flops / 1e12:.3g} TFLOP/s ({speed.words}).", text]
    if scale.visits:
        parts.append(f"{scale.words[:1].upper()}{scale.words[1:]}.")
    else:
        parts.append(f"On {GPU}: {GPU_SHARE:.0%} of {GPU_FLOPS / 1e12:.0f} TFLOP/s, a goal, not a measurement.")
    return " ".join([*parts, "Evaluations and saves are not counted."])


def _length(scale: Scale, speed: Speed) -> float:
    """Tokens of a sentence: a case in full size is the AI-Hub corpus, a scaled one some of the text that is here."""
    return speed.length if scale.visits else TOKENS + FRAME


def _table(scale: Scale, speed: Speed) -> str:
    head = ["case", "", "runs", "million tokens", "PFLOP", "hours here"]
    head += [] if scale.visits else [f"hours on {GPU}", "hours of the original"]
    rows, here, there = [], 0.0, 0.0
    for name in recipe.names():
        case = recipe.find(name)
        tokens, flops = work(case, scale, _length(scale, speed))
        hours, gpu_hours = flops / speed.flops / 3600, flops / (GPU_FLOPS * GPU_SHARE) / 3600
        here, there = here + hours, there + gpu_hours
        original = f"{case.original.hours:g}" if case.original.hours else tables.NONE
        counts = [f"{len(case.runs)}", f"{tokens / 1e6:,.1f}", f"{flops / 1e15:,.2f}", f"{hours:,.2f}"]
        rows.append([name, case.title, *counts, f"{gpu_hours:,.2f}", original][: len(head)])
    total = ["", "all", "", "", "", f"{here:,.1f}", f"{there:,.2f}", tables.NONE][: len(head)]
    return tables.table(head, [*rows, total])


def work(case: Recipe, scale: Scale, length: float = TOKENS + FRAME) -> tuple[float, float]:
    """Tokens that all runs of a case read of sentences of ``length`` tokens, and the operations that this takes."""
    runs = [scaled(config, scale) for config in case.runs.values()]
    visits = [_sentences(config) * config.train.epochs for config in runs]
    factor = share_factor(visits, scale)
    tokens = [count * factor * length for count in visits]
    flops = [n * flops_per_token(run.model, sequence_length=length) for n, run in zip(tokens, runs, strict=True)]
    return sum(tokens), sum(flops)


def _sentences(config: RunConfig) -> float:
    """Training sentences of a run on the AI-Hub corpus."""
    languages = len(config.data.languages or LANGUAGES)
    return languages * SENTENCES * config.data.share * (NEWS if config.data.domains else 1)
