"""The end of a search: a table of its trials, the best first, and a picture with an axis for each flag."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fastlm.record import tables
from fastlm.record.sweep.recipe import Range, Search
from fastlm.record.sweep.trial import Trial
from fastlm.train import atomic

LABEL: dict[str, Any] = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8}
PAGE, PICTURE = "SWEEP.md", "parallel.png"
#: how trials that were given up are drawn
FAINT: dict[str, Any] = {"color": "0.75", "linewidth": 0.8, "zorder": 1}


def write(out: Path, search: Search, trials: Sequence[Trial]) -> str:
    """Writes ``SWEEP.md`` and ``parallel.png`` and returns the table and their paths."""
    page = table(search, trials)
    made = [out / PAGE]
    picture = draw(search, trials, out / PICTURE)
    shown = f"\n\n![every trial across its flags]({PICTURE})" if picture else ""
    atomic.replace_file(out / PAGE, f"# {search.title}\n\n{page}{shown}\n".encode())
    made += [picture] if picture else []
    return "\n".join([page, "", *(f"written  {path}" for path in made)])


def table(search: Search, trials: Sequence[Trial]) -> str:
    """A row for each trial: those that are done by their value, then the others."""
    order = sorted(trials, key=lambda t: (t.state != "done", math.inf if t.value is None else t.value, t.number))
    head = ["trial", "end", f"lowest validation {search.metric.replace('_', ' ')}", *search.ranges]
    rows = [
        [str(t.number), t.state + (f": {t.why}" if t.why else ""), tables.NONE if t.value is None else f"{t.value:.4f}"]
        + [_plain(t.chosen.get(name)) for name in search.ranges]
        for t in order
    ]
    return tables.table(head, rows)


def _plain(value: Any) -> str:
    if value is None:
        return tables.NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(search: Search, trials: Sequence[Trial], path: Path) -> Path | None:
    """Parallel coordinates: a line for each trial through its flags to its value; those given up are grey.

    Returns:
        The picture's path, or None where no trial has a value.
    """
    drawn = [(t.value, t) for t in trials if t.value is not None and len(t.chosen) == len(search.ranges)]
    if not drawn:
        return None
    values = [value for value, _ in drawn]
    done = [value for value, trial in drawn if trial.state == "done"] or values
    colours, rated = colormaps["viridis"], Normalize(min(done), max(done))
    last = Range("value", low=min(values), high=max(values))
    places = [_place(span) for span in (*search.ranges.values(), last)]
    figure = Figure(figsize=(2.2 * len(places) + 1, 5), layout="constrained")
    axes = figure.subplots()
    for value, trial in sorted(drawn, key=lambda pair: -pair[0]):  # the best is drawn last, on top
        chosen = [*(trial.chosen[name] for name in search.ranges), value]
        heights = [place(at) for place, at in zip(places, chosen, strict=True)]
        look = {"color": colours(rated(value)), "linewidth": 1.6} if trial.state == "done" else FAINT
        axes.plot(range(len(places)), heights, **look)
    for column, (span, place) in enumerate(zip((*search.ranges.values(), last), places, strict=True)):
        _axis(axes, column, span, place)
    names = [*search.ranges, f"validation\n{search.metric.replace('_', ' ')}"]
    axes.set_xticks(range(len(places)), [name.replace("_", " ") for name in names], fontweight="bold")
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.2, len(places) - 0.4)
    axes.set_title(f"{search.title}: {len(drawn)} trials; grey: given up or not finished")
    figure.savefig(path, dpi=120)
    return path


def _place(span: Range) -> Callable[[Any], float]:
    """Where a value is on its axis, 0 at the bottom and 1 at the top."""
    if span.choices:
        return lambda value: span.choices.index(value) / (len(span.choices) - 1)
    scale: Callable[[float], float] = math.log if span.log else float
    low, high = scale(span.low), scale(span.high)
    return lambda value: (scale(value) - low) / (high - low) if high > low else 0.5


def _axis(axes: Axes, column: int, span: Range, place: Callable[[Any], float]) -> None:
    axes.axvline(column, color="0.4", linewidth=1.0, zorder=2)
    for value in span.choices or _marks(span):
        axes.plot([column - 0.03, column], [place(value)] * 2, color="0.4", linewidth=1.0)
        axes.text(column + 0.05, place(value), _plain(value), fontsize=8, va="center", zorder=3, bbox=LABEL)


def _marks(span: Range) -> list[float]:
    """Five values evenly along a range."""
    if span.high <= span.low:
        return [span.low]
    if span.log:
        marks = [span.low * (span.high / span.low) ** (i / 4) for i in range(5)]
    else:
        marks = [span.low + (span.high - span.low) * i / 4 for i in range(5)]
    return sorted({float(round(mark)) for mark in marks}) if span.whole else marks
