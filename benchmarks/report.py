"""From pytest-benchmark's JSON to what the project keeps: one small JSON, tables and a chart.

``python -m benchmarks.report RAW.json benchmarks/results/cpu`` writes ``cpu.json``, ``cpu.md`` and ``cpu.png``, and
puts the training steps' table into the README between its markers. ``make bench`` runs the benchmarks and then this.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from benchmarks.goals import Result, Results, goals_table

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"

Cell = Callable[[Result], str]


# ---- reading -------------------------------------------------------------------------------------------------------
def compact(raw: dict[str, Any]) -> dict[str, Any]:
    """What is worth keeping of pytest-benchmark's file: medians, not samples."""
    return {
        "datetime": raw["datetime"],
        "commit": raw["commit_info"].get("id"),
        "processor": raw["machine_info"]["cpu"].get("brand_raw", raw["machine_info"]["processor"]),
        "fastlm": raw["fastlm"],
        "results": [
            {
                "group": b["group"],
                "name": provider_of(b),
                "seconds": b["stats"]["median"],
                "rounds": b["stats"]["rounds"],
                **b["extra_info"],
            }
            for b in raw["benchmarks"]
            if "smoke" not in b["group"] and "smoke" not in b["name"]
        ],
    }


def provider_of(benchmark: dict[str, Any]) -> str:
    """Who was timed; where that is not a parameter, the parameters themselves."""
    return (benchmark["params"] or {}).get("provider") or str(benchmark["param"])


# ---- tables --------------------------------------------------------------------------------------------------------
def _number(key: str, form: str, scale: float = 1.0) -> Cell:
    return lambda r: form.format(r[key] * scale) if r.get(key) is not None else ""


def _error(result: Result) -> str:
    errors = result.get("errors") or {}
    if not errors:
        return ""
    what, (error, budget) = max(errors.items(), key=lambda e: e[1][0] / e[1][1] if e[1][1] else 0.0)
    return f"{error:.1e} of {budget:.1e} ({what})"


CELLS: dict[str, Cell] = {
    "ms": _number("seconds", "{:.3g}", 1e3),
    "real tokens/s": _number("real_tokens_per_second", "{:,.0f}"),
    "GB/s": _number("gigabytes_per_second", "{:.1f}"),
    "of a copy": _number("of_copy_bandwidth", "{:.0%}"),
    "GFLOP/s": _number("gigaflops_per_second", "{:.0f}"),
    "of a large product": _number("of_product_rate", "{:.0%}"),
    "extra MiB": _number("peak_extra_bytes", "{:.0f}", 2**-20),
    "largest error of its budget": _error,
}


def table(group: dict[str, Result]) -> str:
    """One row a result, with the columns that any of them fills."""
    filled = {head: cell for head, cell in CELLS.items() if any(cell(result) for result in group.values())}
    lines = [f"| | {' | '.join(filled)} |", "|---" * (len(filled) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cell(r) for cell in filled.values())} |" for name, r in group.items()]
    return "\n".join(lines)


def document(data: dict[str, Any]) -> str:
    """The whole of ``cpu.md``."""
    results, limits, facts = Results(data["results"]), data["fastlm"]["limits"], data["fastlm"]
    parts = [
        "# Benchmarks",
        f"Written by `make bench`, {data['datetime'][:16]}, at {str(data['commit'])[:10]}. {_machine(data)} "
        "Median times. Limits measured in the same run: a copy moves "
        f"{limits['copy_gigabytes_per_second']:.1f} GB/s (read and written), a product of 2048 x 2048 runs at "
        f"{limits['fp32_product_gigaflops_per_second']:.0f} GFLOP/s in fp32 and "
        f"{limits['bf16_product_gigaflops_per_second']:.0f} in bf16. Sentence lengths: {facts['sentence_lengths']}.",
        "Errors are the largest distance from fp64 on a part of the input, beside what the error budget allows.",
        *([data["note"]] if data["note"] else []),
        "![training steps](cpu.png)",
        "## Against the goals",
        goals_table(results),
    ]
    for group, members in results.groups.items():
        parts += [f"## {group}", table(members)]
    return "\n\n".join(parts) + "\n"


def _machine(data: dict[str, Any]) -> str:
    facts = data["fastlm"]
    return f"{data['processor']}, {facts['cpu']['threads']} threads, torch {facts['versions']['torch']}."


# ---- chart and README ----------------------------------------------------------------------------------------------
STEPS = "training step "
COLOURS = {"fastlm": "#1f6f8b", "hugging_face": "#c98b2b", "products": "#9a9a9a"}


def chart(data: dict[str, Any], path: Path) -> None:
    """Bars of real tokens a second for each training step."""
    groups = {g: r for g, r in Results(data["results"]).groups.items() if g.startswith(STEPS)}
    rows, columns = -(-len(groups) // 2), 2
    figure, axes = plt.subplots(rows, columns, figsize=(11, 2.6 * rows), squeeze=False)
    for axis, (group, results) in itertools.zip_longest(axes.flat, groups.items(), fillvalue=("", {})):
        names = list(reversed(results))
        rates = [results[n]["real_tokens_per_second"] for n in names]
        colours = [next(c for start, c in COLOURS.items() if n.startswith(start)) for n in names]
        bars = axis.barh([n.replace("_", " ") for n in names], rates, color=colours)
        axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axis.set_title(group.removeprefix(STEPS), fontsize=10, loc="left")
        axis.tick_params(labelsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_visible(bool(names))
    figure.suptitle("real tokens a second, forward + backward + update (products: the matrix products alone)")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def headline(data: dict[str, Any]) -> str:
    """The README's table: real tokens a second of every training step."""
    groups = {g.removeprefix(STEPS): r for g, r in Results(data["results"]).groups.items() if g.startswith(STEPS)}
    names = list(dict.fromkeys(name for results in groups.values() for name in results))
    lines = [f"| real tokens/s | {' | '.join(groups)} |", "|---" * (len(groups) + 1) + "|"]
    for name in names:
        cells = [f"{r[name]['real_tokens_per_second']:,.0f}" if name in r else "" for r in groups.values()]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def replace_between_markers(text: str, content: str) -> str:
    """``text`` with ``content`` between the README's markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path, help="what pytest --benchmark-json wrote")
    parser.add_argument("out", type=Path, help="where to, without the ending")
    parser.add_argument("--note", default="", help="what a reader must know of this run, such as a busy machine")
    arguments = parser.parse_args()
    data = compact(json.loads(arguments.raw.read_text())) | {"note": arguments.note}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(document(data))
    if any(result["group"].startswith(STEPS) for result in data["results"]):
        chart(data, arguments.out.with_suffix(".png"))
        README.write_text(replace_between_markers(README.read_text(), headline(data)))


if __name__ == "__main__":
    main()
