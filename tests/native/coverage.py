"""``python -m tests.native.coverage [--reset]``: which lines of the CUDA kernels the op tests have run in lockstep.

Reads the counters that they have left since the library was built, or since ``--reset`` removed them. A header counts
once, however often it is instantiated: a line is covered if any instantiation has run it, and what no instantiation
holds (the other branch of an ``if constexpr``) is no line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.native.lockstep import KERNELS, ROOT, library_folder, sources

GCOV = os.environ.get("GCOV", "gcov")  # of the compiler that built the library
MEASURED = ["kernels/cuda/*.cuh", "kernels/cuda/common/*.cuh"]
LEAST = 0.95


def counted_lines(counters: Path) -> dict[Path, dict[int, int]]:
    """How often each line ran, by file, in one object's counters.

    Raises:
        RuntimeError: with gcov's words.
    """
    command = [GCOV, "--json-format", "--stdout", str(counters)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=counters.parent)
    if result.returncode != 0 or not result.stdout:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr}")
    runs: dict[Path, dict[int, int]] = {}
    for file in json.loads(result.stdout)["files"]:
        counts = runs.setdefault(Path(file["file"]), defaultdict(int))
        for line in file["lines"]:  # once per instantiation
            counts[line["line_number"]] += line["count"]
    return runs


def measure(folder: Path) -> dict[Path, dict[int, int]]:
    """How often each line of the kernels ran, in all objects together.

    Raises:
        RuntimeError: gcov fails, or there is nothing to measure.
    """
    counters = [path for path in sorted(folder.glob("*.gcda")) if not path.stem.startswith("lockstep_")]
    if len(counters) < len(sources(ROOT, *KERNELS)):
        raise RuntimeError(f"no counters of every kernel in {folder}: run the op tests first (pytest tests/ops)")
    total: dict[Path, dict[int, int]] = {path: defaultdict(int) for path in sources(ROOT, *MEASURED)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for runs in pool.map(counted_lines, counters):
            for path in runs.keys() & total.keys():
                for line, count in runs[path].items():
                    total[path][line] += count
    return {path: counts for path, counts in total.items() if counts}


def ranges(numbers: list[int]) -> str:
    """``[3, 4, 5, 9]`` as ``3-5 9``."""
    text: list[str] = []
    for number in numbers:
        first, _, last = text[-1].partition("-") if text else ("", "", "")
        if text and int(last or first) == number - 1:
            text[-1] = f"{first}-{number}"
        else:
            text.append(str(number))
    return " ".join(text)


def report(total: dict[Path, dict[int, int]]) -> float:
    """Print a table, and return the share of lines that ran."""
    lines = missed = 0
    for path, counts in total.items():
        never = sorted(line for line, count in counts.items() if count == 0)
        lines, missed = lines + len(counts), missed + len(never)
        share = 1 - len(never) / len(counts)
        print(f"{path.relative_to(ROOT)!s:<44} {len(counts):>5} lines {share:>7.1%}  {ranges(never)}".rstrip())
    share = 1 - missed / lines
    print(f"{'all':<44} {lines:>5} lines {share:>7.1%}")
    return share


def main() -> int:
    """Measure, or forget earlier runs."""
    parser = argparse.ArgumentParser(prog="python -m tests.native.coverage", description=__doc__)
    parser.add_argument("--reset", action="store_true", help="remove the counters of earlier runs")
    folder = library_folder()
    if parser.parse_args().reset:
        for path in folder.glob("*.gcda"):
            path.unlink()
        return 0
    try:
        share = report(measure(folder))
    except (RuntimeError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    if share < LEAST:
        print(f"the op tests run less than {LEAST:.0%} of the lines of the CUDA kernels", file=sys.stderr)
    return int(share < LEAST)


if __name__ == "__main__":
    raise SystemExit(main())
