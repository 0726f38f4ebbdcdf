"""A short training on the built-in corpus: ``python -m benchmarks.gpu.training MODEL SECONDS RUN CACHE``."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.records import Records
from fastlm.train import metrics

BATCH_TOKENS = 65_536


def command(model: str, seconds: float, run: Path, cache: Path, *options: str) -> list[str]:
    """What a user would type; the run has nothing but a clock to end it."""
    return [
        *(sys.executable, "-m", "fastlm.cli.main", "train", "--model", model),
        *("--run", str(run), "--cache", str(cache), "--max-minutes", f"{seconds / 60:g}"),
        *("--batch-tokens", str(BATCH_TOKENS), "--log-every", "10", "--eval-every", "200"),
        *("--valid-sentences", "2000", *options),
    ]


def result(run: Path) -> dict[str, Any]:
    """Speed and losses of its training lines, of which the first warms up.

    Raises:
        ValueError: it wrote too few.
    """
    lines = [line for line in metrics.read(run / "metrics.jsonl") if line["split"] == "train"]
    if len(lines) < 2:
        raise ValueError(f"{len(lines)} training lines: too few to tell a speed")
    speeds = [line["tokens_per_second"] for line in lines[1:]]
    return {
        "tokens_per_second": statistics.median(speeds),
        "fastest_line": max(speeds),
        "steps": lines[-1]["step"],
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
        "skipped_steps": lines[-1]["skipped"],
    }


def train(model: str, seconds: float, run: Path, cache: Path, *options: str) -> dict[str, Any]:
    """Trains, and says how fast and whether the loss fell.

    Raises:
        subprocess.CalledProcessError: the command failed.
        AssertionError: the loss did not fall.
    """
    subprocess.run(command(model, seconds, run, cache, *options), check=True)
    found = result(run)
    assert found["last_loss"] < found["first_loss"], f"the loss did not fall: {found}"
    return found


def main() -> int:
    model, seconds, run, cache, *options = sys.argv[1:]
    records = Records()
    records.attempt(f"train {model}", lambda: train(model, float(seconds), Path(run), Path(cache), *options))
    return min(records.failed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
