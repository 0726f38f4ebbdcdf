"""The charts of a case: all runs in one figure, over the axis of the comparison, over the others, and per language."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastlm.record.view import CaseView, number
from fastlm.train import charts

#: axes that depend on the machine's speed
TIMES = ("time",)


@dataclass(frozen=True)
class Pictures:
    """Paths of a case's charts.

    Attributes:
        main: over the axis that the case is compared by.
        languages: the same, a column for each language.
        others: over every other axis.
    """

    main: list[Path]
    languages: list[Path]
    others: list[Path]


def draw(case: CaseView, out: Path, *, timings: bool) -> Pictures:
    """Draws what the runs of a case have values for.

    Args:
        case: with its runs; those without a line yet are left out.
        out: folder for the PNGs.
        timings: whether to draw over wall time.
    """
    lines = {run.name: run.lines for run in case.runs if run.lines}
    compare = case.about["recipe"]["compare"]
    axes = [axis for axis in charts.AXES if timings or axis not in TIMES]
    by = compare["by"] if compare["by"] in axes else "step"
    wanted = {name: chart for name, chart in charts.CHARTS.items() if name in compare["charts"]}
    title = f"{case.about['case']}: {case.about['recipe']['title']}"
    common: dict[str, Any] = {"title": title, "note": case.about["note"], "baseline": _baseline(case)}
    if not lines:
        return Pictures([], [], [])
    main = charts.draw(lines, out, charts=wanted, axes=[by], languages="together", **common)
    if "lr" in compare["charts"]:
        main += charts.draw(
            lines, out, charts=charts.RATES, axes=[by], splits=["train"], languages="together", **common
        )
    return Pictures(
        main=main,
        languages=charts.draw(lines, out, charts=wanted, axes=[by], languages="apart", suffix="-languages", **common),
        others=charts.draw(
            lines, out, charts=wanted, axes=[a for a in axes if a != by], languages="together", suffix="-axes", **common
        ),
    )


def _baseline(case: CaseView) -> float | None:
    """The unigram baseline, where it is the same of every run that has one."""
    found = {
        number(run.decided.get("text", {}).get("unigram_loss", {}).get("overall")) for run in case.runs if run.decided
    }
    return found.pop() if len(found) == 1 else None
