"""Loss, accuracy and bits per character of runs, as PNG: training beside validation, by step and by epoch."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D

from fastlm.errors import CheckpointError
from fastlm.train import metrics
from fastlm.train.runfolder import CONFIG, METRICS

#: file name -> (field, label)
CHARTS = {
    "loss": ("loss", "loss (nats per predicted token)"),
    "accuracy": ("accuracy", "accuracy (share predicted right)"),
    "bits_per_character": ("bits_per_character", "bits per character"),
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

Line = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """Points of one line; ``y`` is NaN where a value is missing."""

    step: list[float]
    epoch: list[float]
    y: list[float]


@dataclass(frozen=True)
class Chart:
    """One quantity of several runs: ``curves[run, split][language]``, ``""`` being all languages."""

    runs: list[str]
    label: str
    curves: dict[tuple[str, str], dict[str, Curve]]
    baseline: float | None


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
    out.mkdir(parents=True, exist_ok=True)
    baseline = _unigram(runs[0]) if len(paths) == 1 else None
    with drawing():
        charts = [
            _draw(_chart(lines, field, label, baseline if field == "loss" else None), out / f"{stem}.png")
            for stem, (field, label) in CHARTS.items()
        ]
    return [path for path in charts if path is not None]


def _chart(runs: dict[str, list[Line]], field: str, label: str, baseline: float | None) -> Chart:
    curves = {(run, split): _curves(lines, split, field) for run, lines in runs.items() for split in SPLITS}
    return Chart(list(runs), label, curves, baseline)


def _unigram(run: Path) -> float | None:
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


def _curve(lines: Sequence[Line], split: str, value: Callable[[Line], Any]) -> Curve:
    """One line of a chart; what is missing becomes NaN, which leaves a gap."""
    chosen = [line for line in lines if line["split"] == split]
    numbers = [value(line) for line in chosen]
    return Curve(
        step=[line["step"] for line in chosen],
        epoch=[_number(line.get("epoch")) for line in chosen],
        y=[_number(number) for number in numbers],
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


def _draw(chart: Chart, path: Path) -> Path | None:
    """One PNG of four panels, or None where no run has the value."""
    languages = {language for found in chart.curves.values() for language in found}
    if not languages:
        return None
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex="row", sharey=True)
    looks = _Looks(chart.runs, sorted(languages - {""}))
    for row, axis in enumerate(("step", "epoch")):
        for column, split in enumerate(SPLITS):
            _panel(axes[row][column], chart, looks, split, axis)
        axes[row][0].set_ylabel(chart.label)
    for column, title in enumerate(SPLITS.values()):
        axes[0][column].set_title(title, fontweight="bold")
    handles = looks.legend(languages)
    if chart.baseline is not None:
        handles.append(Line2D([], [], label=f"unigram baseline {chart.baseline:.2f}", **BASELINE))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    if len(chart.runs) == 1:
        figure.suptitle(_plain(chart.runs[0]))
    figure.savefig(path, dpi=120)
    return path


def _panel(panel: Axes, chart: Chart, looks: _Looks, split: str, axis: str) -> None:
    """The curves of one split over steps or epochs."""
    for run in chart.runs:
        for language, curve in chart.curves[run, split].items():
            if split == "train" and language and len(chart.runs) > 1:
                continue  # noisy curves of several runs and languages over each other tell nothing
            _line(panel, getattr(curve, axis), curve.y, looks.of(run, language), raw=not language)
    if chart.baseline is not None:
        panel.axhline(chart.baseline, **BASELINE)
    panel.set_xlabel(axis)
    panel.grid(True, color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _line(panel: Axes, x: list[float], y: list[float], look: dict[str, Any], *, raw: bool) -> None:
    """A line; of a long one the running mean, and behind it faintly, where ``raw``, the points themselves."""
    if len(y) <= SMOOTH_ABOVE:
        panel.plot(x, y, marker="o" if len(y) <= MARK_BELOW else None, markersize=3, **look)
        return
    if raw:
        panel.plot(x, y, **{**look, "linewidth": 0.6, "alpha": 0.25})
    panel.plot(x, _running_mean(y, len(y) // SMOOTHED_POINTS), **look)


def _running_mean(y: list[float], window: int) -> list[float]:
    """The mean of the finite values in the last ``window``; NaN where there is none."""
    means = []
    for end in range(1, len(y) + 1):
        finite = [value for value in y[max(0, end - window) : end] if math.isfinite(value)]
        means.append(sum(finite) / len(finite) if finite else math.nan)
    return means


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
            return [Line2D([], [], label=_plain(name or "all"), **self.of(self._runs[0], name)) for name in names]
        handles = [Line2D([], [], label=_plain(run), **self.of(run, "")) for run in self._runs]
        if len(names) > 1:
            looks = {name: {**self.of(self._runs[0], name), "color": "0.4"} for name in names if name}
            handles += [Line2D([], [], label=_plain(name), **look) for name, look in looks.items()]
        return handles


def _plain(name: str) -> str:
    """A label that matplotlib takes literally: no mathematics between dollar signs, no hiding by an underscore."""
    return ("\u200b" if name.startswith("_") else "") + name.replace("$", r"\$")
