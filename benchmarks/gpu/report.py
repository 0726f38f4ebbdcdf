"""From gpu.json to gpu.md: each goal as a ratio to its floor, what was checked, and what could not be done.

``python -m benchmarks.gpu.report gpu.json`` prints it. A floor is the larger of bytes / bandwidth and flops / rate: by
the rates that the goals were set with (one H200), and by a copy and a product timed in the same run, which is what
another card is held to.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BANDWIDTH, RATE = 4.3e12, 790e12  # bytes and bf16 flops a second of an H200, measured
OURS = "fastlm"

Record = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """What some work is held to.

    Attributes:
        work: its name, or the beginning of it, in the records.
        most: times its floor, by the measured rates.
        microseconds: at most; of work that launches bound.
        faster: peer -> how many times faster than it.
    """

    work: str
    most: float | None = None
    microseconds: float | None = None
    faster: Mapping[str, float] = field(default_factory=dict)


GOALS = [
    *(
        Goal(f"attention {kind} {direction}", most, faster={"varlen": times} if times else {})
        for kinds, direction, most, times in (
            (("sentences d64", "sentences d96"), "forward", 1.35, 2.5),
            (("sentences d64", "sentences d96"), "backward", 1.5, 4.0),
            (("dense 256 d64", "dense 256 d96"), "forward", 1.6, 0.0),
            (("dense 256 d64", "dense 256 d96"), "backward", 2.0, 0.0),
        )
        for kind in kinds
    ),
    Goal("attention one batch in a graph forward", microseconds=10),
    Goal("attention one batch in a graph backward", microseconds=22),
    Goal("softmax forward", 1.05),
    Goal("softmax backward", 1.05),
    Goal("cross-entropy, loss and gradient", 1.08),
    Goal("masked linear cross-entropy, forward and backward", 1.45),
    Goal("encoder step", 2.0),  # at least half of the rate of products
    Goal("decoder step", 2.0),
]


def records_of(report: Mapping[str, Any], step: str) -> list[Record]:
    """What a step told; nothing where it did not run."""
    found: list[Record] = report["steps"].get(step, {}).get("records", [])
    return found


def timed(report: Mapping[str, Any]) -> dict[str, dict[str, Record]]:
    """Records with a time: work -> provider -> record."""
    found: dict[str, dict[str, Record]] = {}
    for step in report["steps"].values():
        for record in step.get("records", []):
            if "seconds" in record and "work" in record:
                found.setdefault(record["work"], {})[record["provider"]] = record
    return found


def rates(report: Mapping[str, Any]) -> tuple[float, float] | None:
    """Bandwidth and rate of products that this run measured, or None."""
    measured = {record["name"]: record.get("rate") for record in records_of(report, "limits")}
    copy, product = measured.get("copy"), measured.get("product")
    return (copy, product) if copy and product else None


def floor(record: Record, bandwidth: float, rate: float) -> float:
    """Seconds that the work takes at least."""
    return max(record["bytes"] / bandwidth, record["flops"] / rate)


# ---- tables --------------------------------------------------------------------------------------------------------
def goals_table(report: Mapping[str, Any]) -> Iterator[str]:
    """A line for each goal, measured or not."""
    results, own = timed(report), rates(report)
    yield "| work | us | floor | / floor | floor here | / floor here | goal | | peers, times as slow |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for goal in GOALS:
        works = [work for work in results if work.startswith(goal.work)]
        ours = [record for work in works for name, record in results[work].items() if name.startswith(OURS)]
        if not ours:
            yield f"| {goal.work} | | | | | | {_bound(goal)} | not measured | |"
            continue
        best = min(ours, key=lambda record: record["seconds"])
        seconds = best["seconds"]
        floors = [floor(best, BANDWIDTH, RATE), *([floor(best, *own)] if own else [])]
        cells = [f"{f * 1e6:,.0f} | {seconds / f:.2f}" for f in floors] + [" | "] * (2 - len(floors))
        slower = {
            name: record["seconds"] / seconds
            for name, record in results[best["work"]].items()
            if name not in {record["provider"] for record in ours}
        }
        met = _met(goal, seconds, floors[-1], slower)
        others = ", ".join(f"{name} {times:.2f}" for name, times in slower.items())
        work = f"{best['work']} ({best['provider']}, {best.get('backend', 'model')})"
        yield (
            f"| {work} | {seconds * 1e6:,.1f} | {cells[0]} | "
            f"{cells[1]} | {_bound(goal)} | {'met' if met else 'missed'} | {others} |"
        )


def _bound(goal: Goal) -> str:
    parts = [f"<= {goal.most:g}x"] if goal.most else []
    parts += [f"<= {goal.microseconds:g} us"] if goal.microseconds else []
    parts += [f">= {times:g}x faster than {peer}" for peer, times in goal.faster.items()]
    return ", ".join(parts)


def _met(goal: Goal, seconds: float, least: float, slower: Mapping[str, float]) -> bool:
    """Whether all of the goal is: a peer that was not timed was not beaten."""
    return (
        (goal.most is None or seconds <= goal.most * least)
        and (goal.microseconds is None or seconds * 1e6 <= goal.microseconds)
        and all(slower.get(peer, 0.0) >= times for peer, times in goal.faster.items())
    )


def steps_table(report: Mapping[str, Any]) -> Iterator[str]:
    """A line for each step."""
    yield "| step | result | seconds | records | failed | skipped |"
    yield "|---|---|---|---|---|---|"
    for name, step in report["steps"].items():
        records = step.get("records", [])
        failed = sum("error" in record for record in records)
        skipped = sum("skipped" in record for record in records)
        status = step["status"] + (f": {step['reason']}" if step.get("reason") else "")
        yield f"| {name} | {status} | {step['seconds']:.0f} | {len(records)} | {failed} | {skipped} |"


def faults(report: Mapping[str, Any]) -> Iterator[str]:
    """What failed, and, each reason once, what was left out."""
    left: dict[tuple[str, str], int] = {}
    for name, step in report["steps"].items():
        if step["status"] != "ok" and not any(record.get("error") for record in step.get("records", [])):
            last = [line for line in step.get("log", "").splitlines() if line.strip()][-1:]
            yield f"- {name}: {step['status']}{''.join(f': {_one_line(line)}' for line in (step['reason'], *last))}"
        for record in step.get("records", []):
            if record.get("error"):
                yield f"- {name}: {record['name']}: {_one_line(record['error'])}"
            elif record.get("skipped"):
                key = name, _one_line(record["skipped"])
                left[key] = left.get(key, 0) + 1
    for (name, reason), count in left.items():
        yield f"- {name}: {count} not run: {reason}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def training(report: Mapping[str, Any]) -> Iterator[str]:
    """A line for each model that was trained."""
    for name in filter(lambda name: name.startswith("train-"), report["steps"]):
        for record in records_of(report, name):
            if "tokens_per_second" in record:
                yield (
                    f"- {name}: {record['tokens_per_second']:,.0f} tokens/s (median line), {record['steps']:,} steps, "
                    f"loss {record['first_loss']:.3f} to {record['last_loss']:.3f}"
                )


def document(report: Mapping[str, Any]) -> str:
    """The whole of gpu.md."""
    facts = next(iter(records_of(report, "facts")), {})
    smi = facts.get("nvidia_smi")
    driver = smi.get("driver_version") if isinstance(smi, dict) else smi
    own = rates(report)
    measured = (
        f"Measured in this run: a copy moves {own[0] / 1e12:.2f} TB/s (read and written), a product of 8192 x 8192 x "
        f"8192 runs at {own[1] / 1e12:.0f} TFLOP/s; goals are ratios to floors by these."
        if own
        else "The card's own copy and product were not measured: goals are ratios to an H200's floors."
    )
    problems, trained = list(faults(report)), list(training(report))
    parts = [
        "# GPU check",
        f"Written by `make gpu-check`, {report['started']}, at {report['commit']}: {facts.get('gpu', 'unknown GPU')}, "
        f"driver {driver}, torch {facts.get('packages', {}).get('torch')}, CUDA {facts.get('cuda')}. "
        f"{'Every step is green.' if report['ok'] else 'Not every step is green.'}",
        f"Floors: the larger of bytes / {BANDWIDTH / 1e12:g} TB/s and flops / {RATE / 1e12:g} TFLOP/s. {measured}",
        "## Goals",
        "\n".join(goals_table(report)),
        *(["## Training", "\n".join(trained)] if trained else []),
        "## Steps",
        "\n".join(steps_table(report)),
        *(["## What failed or was not done", "\n".join(problems)] if problems else []),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(document(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
