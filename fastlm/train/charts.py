"""Loss, accuracy and bits per character of runs, as PNG: training beside validation, by step and by epoch.

`plot` draws run folders. `draw` takes lines of metrics from anywhere and has more to choose from: the learning rate,
tokens and wall time as the x axis, a column for each language.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D
from PIL import Image

from fastlm.errors import CheckpointError
from fastlm.train import metrics
from fastlm.train.runfolder import CONFIG, METRICS

#: file name -> (field, label)
CHARTS = {
    "loss": ("loss", "loss (nats per predicted token)"),
    "accuracy": ("accuracy", "accuracy (share predicted right)"),
    "bits_per_character": ("bits_per_character", "bits per character"),
}
#: the same of what is no score
RATES = {"lr": ("lr", "learning rate")}
#: x axis -> (field, label, what the field is divided by)
AXES = {
    "step": ("step", "step", 1.0),
    "epoch": ("epoch", "epoch", 1.0),
    "tokens": ("tokens", "tokens read (millions)", 1e6),
    "time": ("seconds", "wall time (minutes)", 60.0),
}
#: fonts with Hangul, in order of liking
HANGUL_FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "Nanum Gothic",
    "Malgun Gothic",
    "AppleGothic",
    "UnDotum",
)
SPLITS = {"train": "training", "valid": "validation"}
BASELINE: dict[str, Any] = {"color": "0.5", "linewidth": 1.0, "linestyle": ":"}
STYLES = ("--", ":", "-.", (0, (5, 1, 1, 1)))
#: points up to which every one is marked, above which a running mean is drawn, and how many its window leaves
MARK_BELOW, SMOOTH_ABOVE, SMOOTHED_POINTS = 40, 100, 60
#: inches
WIDTH, ROW_HEIGHT, MARGIN = 11.0, 3.4, 0.7
NOTE_WIDTH = 130  # characters of a figure's note in a row
#: of a PNG; a palette makes it a third as large, and a record has hundreds
DPI, COLOURS = 120, 256

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """Points of one line; NaN where a value is missing. ``x`` has the points' place on each of ``AXES``."""

    x: dict[str, list[float]]
    y: list[float]


@dataclass(frozen=True)
class Chart:
    """One quantity of several runs: ``curves[run, split][language]``, ``""`` being all languages.

    Attributes:
        noisy: whether many points are drawn as their running mean. A rate is what it is.
    """

    runs: list[str]
    label: str
    curves: dict[tuple[str, str], dict[str, Curve]]
    baseline: float | None = None
    noisy: bool = True

    @property
    def languages(self) -> set[str]:
        """Those that have a curve, ``""`` among them; empty where no run has the value."""
        return {language for found in self.curves.values() for language in found}


@dataclass(frozen=True)
class Panel:
    """One pair of axes: a split over an x axis, of all languages together, of one, or (None) of both overlaid."""

    title: str
    split: str
    axis: str
    language: str | None = None


def plot(runs: Sequence[Path], out: Path) -> list[Path]:
    """Draws every chart that the runs have values for and returns their paths.

    Runs of different lengths, values that are missing or not finite, and names in any script are fine.

    Args:
        runs: run folders; several are overlaid.
        out: folder for the PNGs, made if need be.

    Raises:
        CheckpointError: a run without readable metrics, or with none yet.
        OSError: ``out`` cannot be written.
    """
    paths = _names(runs)
    lines = {name: metrics.read(run / METRICS) for name, run in paths.items()}
    for name, found in lines.items():
        if not found:
            raise CheckpointError(f"{name}: no metrics yet")
    return draw(lines, out, baseline=unigram(runs[0]) if len(paths) == 1 else None)


def draw(
    lines: Mapping[str, Sequence[Line]],
    out: Path,
    *,
    charts: Mapping[str, tuple[str, str]] = CHARTS,
    axes: Sequence[str] = ("step", "epoch"),
    splits: Sequence[str] = tuple(SPLITS),
    languages: str = "overlaid",
    baseline: float | None = None,
    title: str = "",
    note: str = "",
    suffix: str = "",
) -> list[Path]:
    """Draws ``OUT/NAME+suffix.png`` for each of ``charts`` that a run has values for, and returns their paths.

    Args:
        lines: by the run's name, lines of metrics.
        out: folder for the PNGs, made if need be.
        charts: name -> (field of the lines, label).
        axes: the rows, from ``AXES``; with ``languages="apart"`` the first is every row's.
        splits: the columns, from ``SPLITS``; with ``languages="apart"`` the rows.
        languages: ``overlaid`` (thin curves beside those of all languages), ``together`` (no curves of their own), or
            ``apart`` (a column each; nothing is drawn of text in one language).
        baseline: a loss to compare with, drawn across the loss chart.
        title: of each figure; default the name of a single run.
        note: small print under it.
        suffix: of the files' names.

    Raises:
        OSError: ``out`` cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = []
    with drawing():
        for stem, (field, label) in charts.items():
            chart = Chart(
                list(lines),
                label,
                _all_curves(lines, field),
                baseline=baseline if field == "loss" else None,
                noisy=stem not in RATES,
            )
            grid = _grid(chart, axes, splits, languages)
            if grid:
                _draw(chart, grid, out / f"{stem}{suffix}.png", title, note)
                made.append(out / f"{stem}{suffix}.png")
    return made


def unigram(run: Path) -> float | None:
    """The validation targets' cross-entropy under the training text's unigram distribution, where the run noted it."""
    try:
        value = json.loads((run / CONFIG).read_bytes())["decided"]["text"]["unigram_loss"]["overall"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, float) else None


def _names(runs: Sequence[Path]) -> dict[str, Path]:
    """Runs by the shortest ending of their path that tells them apart."""
    resolved = [run.resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(set(resolved)):
            break
    return dict(zip(names, runs, strict=True))


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Text in any script, as far as a font has it (else boxes are drawn)."""
    style = {"font.family": _fonts(), "font.size": 10, "axes.unicode_minus": False}
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _fonts() -> list[str]:
    """The default font, then one with Hangul where there is one."""
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in HANGUL_FONTS if name in installed][:1]]


def _all_curves(runs: Mapping[str, Sequence[Line]], field: str) -> dict[tuple[str, str], dict[str, Curve]]:
    return {(run, split): _curves(lines, split, field) for run, lines in runs.items() for split in SPLITS}


def _curve(lines: Sequence[Line], split: str, value: Callable[[Line], Any]) -> Curve:
    """One line of a chart; what is missing becomes NaN, which leaves a gap."""
    chosen = [line for line in lines if line["split"] == split]
    return Curve(
        x={axis: [_number(line.get(field)) / unit for line in chosen] for axis, (field, _, unit) in AXES.items()},
        y=[_number(value(line)) for line in chosen],
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _curves(lines: Sequence[Line], split: str, field: str) -> dict[str, Curve]:
    """The overall curve under ``""`` and one per language; curves without a single value are left out."""
    languages = sorted({name for line in lines for name in line.get("languages", {})})

    def of(language: str) -> Callable[[Line], Any]:
        return lambda line: line.get("languages", {}).get(language, {}).get(field)

    found = {"": _curve(lines, split, lambda line: line.get(field))}
    if len(languages) > 1:  # a run in one language has nothing to compare
        found |= {language: _curve(lines, split, of(language)) for language in languages}
    return {name: curve for name, curve in found.items() if any(math.isfinite(y) for y in curve.y)}


def _grid(chart: Chart, axes: Sequence[str], splits: Sequence[str], languages: str) -> list[list[Panel]]:
    """Rows of panels; none where there is nothing to draw."""
    if not chart.languages or (languages == "together" and "" not in chart.languages):
        return []
    if languages == "apart":
        names = sorted(chart.languages - {""})
        rows = [[Panel(f"{name}, {SPLITS[split]}", split, axes[0], name) for name in names] for split in splits]
        return rows if names else []
    overall = None if languages == "overlaid" else ""
    return [[Panel(SPLITS[split], split, axis, overall) for split in splits] for axis in axes]


def _draw(chart: Chart, grid: list[list[Panel]], path: Path, title: str, note: str) -> None:
    """One PNG."""
    figure = Figure(figsize=(WIDTH, MARGIN + ROW_HEIGHT * len(grid)), layout="constrained")
    # Each split has a scale of its own: on a common one, what runs differ in is lost beside the gap between the splits.
    same: Literal["row", "col"] = "row" if grid[0][0].language else "col"
    axes = figure.subplots(len(grid), len(grid[0]), sharex="row", sharey=same, squeeze=False)
    looks = _Looks(chart.runs, sorted(chart.languages - {""}))
    for row, panels in enumerate(grid):
        for column, panel in enumerate(panels):
            _fill(axes[row][column], chart, looks, panel)
            if row == 0 or panel.title != grid[0][column].title:
                axes[row][column].set_title(_plain(panel.title), fontweight="bold")
        axes[row][0].set_ylabel(chart.label)
    shown = chart.languages if grid[0][0].language is None else {""}
    handles = looks.legend(shown)
    if chart.baseline is not None and _has_baseline(grid[0][0]):
        handles.append(Line2D([], [], label=f"unigram baseline {chart.baseline:.2f}", **BASELINE))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    title = title or (chart.runs[0] if len(chart.runs) == 1 else "")
    small = "\n".join(textwrap.wrap(note, NOTE_WIDTH))
    if title or small:
        figure.suptitle(_plain("\n".join(part for part in (title, small) if part)), fontsize=9 if small else "large")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    whole = Image.open(drawn).convert("RGB")
    # Maximum coverage keeps rare colours apart: median cut, the default, greys a run that only the legend shows.
    few = whole.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _fill(axes: Axes, chart: Chart, looks: _Looks, panel: Panel) -> None:
    """The curves of one split over one x axis."""
    for run in chart.runs:
        for language, curve in chart.curves[run, panel.split].items():
            if panel.language is not None and language != panel.language:
                continue
            if panel.language is None and panel.split == "train" and language and len(chart.runs) > 1:
                continue  # noisy curves of several runs and languages over each other tell nothing
            look = looks.of(run, "" if panel.language else language)
            x, y = curve.x[panel.axis], curve.y
            if chart.noisy and len(y) > SMOOTH_ABOVE:
                _smoothed(axes, x, y, look, raw=not language or bool(panel.language))
            else:
                axes.plot(x, y, marker="o" if len(y) <= MARK_BELOW else None, markersize=3, **look)
    if chart.baseline is not None and _has_baseline(panel):
        axes.axhline(chart.baseline, **BASELINE)
    axes.set_xlabel(AXES[panel.axis][1])
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _has_baseline(panel: Panel) -> bool:
    """The baseline is that of all languages."""
    return not panel.language


def _smoothed(panel: Axes, x: list[float], y: list[float], look: dict[str, Any], *, raw: bool) -> None:
    """The running mean, and behind it faintly, where ``raw``, the points themselves."""
    if raw:
        panel.plot(x, y, **{**look, "linewidth": 0.6, "alpha": 0.25})
    panel.plot(x, _running_mean(y, len(y) // SMOOTHED_POINTS), **look)


def _running_mean(y: list[float], window: int) -> list[float]:
    """The mean of the finite values in the last ``window``; NaN where there is none."""
    values = np.array(y)
    finite = np.isfinite(values)
    # Sums up to each point: a window's are a difference, whatever its length.
    totals, counts = (np.cumsum(part) for part in (np.where(finite, values, 0.0), finite))
    before = [np.concatenate([np.zeros(window, part.dtype), part])[: len(y)] for part in (totals, counts)]
    inside = counts - before[1]
    return list(np.where(inside > 0, (totals - before[0]) / np.maximum(inside, 1), np.nan))


class _Looks:
    """One run: a colour per language. Several: a colour per run and a dash pattern per language."""

    def __init__(self, runs: list[str], languages: list[str]) -> None:
        self._runs, self._languages = runs, languages
        self._colours = colormaps["tab10" if len(runs) <= 10 else "turbo"]

    def of(self, run: str, language: str) -> dict[str, Any]:
        place = self._languages.index(language) if language else -1
        if len(self._runs) == 1:
            return {"color": f"C{place}" if language else "black", "linewidth": 1.3 if language else 2.0}
        return {
            "color": self._colour(self._runs.index(run)),
            "linestyle": STYLES[place % len(STYLES)] if language else "-",
            "linewidth": 0.9 if language else 2.0,
            "alpha": 0.8 if language else 1.0,
        }

    def _colour(self, index: int) -> Any:
        return self._colours(index if len(self._runs) <= 10 else index / (len(self._runs) - 1))

    def legend(self, languages: set[str]) -> list[Line2D]:
        names = [name for name in ("", *self._languages) if name in languages]
        if len(self._runs) == 1:
            whole = "all" if len(names) > 1 else self._runs[0]
            return [Line2D([], [], label=_plain(name or whole), **self.of(self._runs[0], name)) for name in names]
        handles = [Line2D([], [], label=_plain(run), **self.of(run, "")) for run in self._runs]
        if len(names) > 1:
            looks = {name: {**self.of(self._runs[0], name), "color": "0.4"} for name in names if name}
            handles += [Line2D([], [], label=_plain(name), **look) for name, look in looks.items()]
        return handles


def _plain(name: str) -> str:
    """A label that matplotlib takes literally: no mathematics between dollar signs, no hiding by an underscore."""
    return ("\u200b" if name.startswith("_") else "") + name.replace("$", r"\$")
