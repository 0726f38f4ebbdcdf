"""What the benchmarks share: error before time, a byte or flop model, peak memory, real sentence lengths.

A CPU's absolute times mean little between machines, so every benchmark sits in a group with its peers (pytest-benchmark
prints their ratios), and gives its share of what this machine was measured to copy or multiply in the same run.
Caches: inputs larger than the last-level cache are cold by size; smaller ones are warm, as they are in training.
"""

from __future__ import annotations

import ctypes
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import limits
from fastlm.testing import Deviation
from fastlm.train.allocator import keep_freed_memory

ROUNDS = 5
WARM_UP_CALLS, WARM_UP_SECONDS = 16, 1.0
MOST_ROUNDS, ROUNDS_SECONDS = 50, 0.5  # of calls that take less than a tenth of that

# Quantiles of sentence lengths in tokens, specials included: mean 21, median 16, 99 % below 76. The Korean-English
# parallel text with a 30,000-entry byte-level vocabulary has mean 19.6, median 16, 99 % below 71.
LENGTH_QUANTILES = (
    (0.0, 3), (0.05, 5), (0.25, 10), (0.5, 16), (0.75, 26), (0.9, 42), (0.95, 54), (0.99, 76), (0.999, 130), (1.0, 250),
)  # fmt: skip


SPECIALS, LONGEST = 2, 256  # [BOS] and [EOS]; where training cuts by default

#: what the sentence lengths of this session come from, in words
SOURCE = pytest.StashKey[str]()


def pytest_configure() -> None:
    """All providers allocate as the trainer does."""
    keep_freed_memory()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lengths-from",
        action="append",
        default=[],
        metavar="PATH",
        help="take sentence lengths from a prepared store, or from text files, one flag each, of which a store is made "
        "in FASTLM_CACHE (vocabulary 30,000); default: a built-in table",
    )


def table_lengths(count: int) -> NDArray[np.int64]:
    """Lengths whose quantiles are the table's, ascending."""
    at, tokens = zip(*LENGTH_QUANTILES, strict=True)
    return np.interp((np.arange(count) + 0.5) / count, at, tokens).round().astype(int)


def sampled_lengths(population: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The means of ``count`` equal parts of the sorted population, rounded so that its mean is kept."""
    sums = np.concatenate([[0], np.cumsum(np.sort(population))])
    ends = np.interp(np.linspace(0, len(population), count + 1), np.arange(len(sums)), sums)
    return np.diff((ends * count / len(population)).round().astype(int))


def text_lengths(paths: list[str]) -> NDArray[np.int64]:
    """Lengths of all training sentences, as the encoder reads them: specials included, cut at 256."""
    from fastlm.data.config import DataConfig
    from fastlm.data.prepare import prepared

    config = DataConfig(data=tuple(paths))
    store = prepared(config)
    return np.minimum(np.diff(store.offsets)[store.select("train", config)] + SPECIALS, LONGEST)


@pytest.fixture(scope="session")
def lengths(pytestconfig: pytest.Config) -> Callable[[int], list[int]]:
    """``lengths(count)``: token counts of ``count`` sentences, in a fixed shuffled order."""
    draw, source = table_lengths, "built-in table"
    if paths := pytestconfig.getoption("lengths_from"):
        population = text_lengths(paths)
        draw = partial(sampled_lengths, population)
        source = f"{', '.join(paths)}: {len(population):,} sentences, {population.mean():.1f} tokens on average"
    pytestconfig.stash[SOURCE] = source
    return lambda count: np.random.default_rng(0).permutation(draw(count)).tolist()


def peak_extra_bytes(call: Callable[[], Any]) -> int | None:
    """How far one call lifts the process's resident memory; None where the kernel does not tell."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # freed memory that the process keeps would hide what the call takes
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _status("VmRSS")
    result = call()
    peak = _status("VmHWM")
    del result
    return max(0, peak - before)


def warm_up(call: Callable[[], Any]) -> float:
    """Calls until memory is no longer new to the process, as in a training that has run for some steps.

    Returns:
        Seconds of the last call.

    The allocator was just emptied, and it takes up to eight calls until each block finds a freed one to fit
    (tests/train/test_allocator.py).
    """
    begin = time.perf_counter()
    for _ in range(WARM_UP_CALLS):
        before = time.perf_counter()
        call()
        after = time.perf_counter()
        if after - begin > WARM_UP_SECONDS:
            break
    return after - before


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(field)).split()[1]) * 1024


@pytest.fixture
def measure(benchmark: Any) -> Callable[..., None]:
    """``measure(call, group=..., ...)`` times a call and notes beside the time what the arguments tell of its work."""

    def run(
        call: Callable[[], Any],
        *,
        group: str,
        deviations: Iterable[Deviation] = (),
        bytes_moved: int | None = None,
        flops: float | None = None,
        dtype: torch.dtype | None = None,
        tokens: int | None = None,
        rounds: int = ROUNDS,
    ) -> None:
        benchmark.group = group
        info = benchmark.extra_info
        info["threads"] = threads = torch.get_num_threads()
        info["errors"] = {d.what: (d.error, d.budget) for d in deviations}
        info["peak_extra_bytes"] = peak_extra_bytes(call)
        # Few calls of some milliseconds may all meet what else the machine does.
        rounds = max(rounds, min(MOST_ROUNDS, round(ROUNDS_SECONDS / warm_up(call))))
        benchmark.pedantic(call, rounds=rounds, iterations=1)
        if not benchmark.stats:  # --benchmark-disable
            return
        seconds = benchmark.stats.stats.median
        if bytes_moved is not None:
            info["bytes"] = bytes_moved
            info["gigabytes_per_second"] = bytes_moved / seconds / 1e9
            info["of_copy_bandwidth"] = bytes_moved / seconds / limits.copy_bandwidth(threads)
        if flops is not None and dtype is not None:
            info["flops"] = flops
            info["gigaflops_per_second"] = flops / seconds / 1e9
            info["of_product_rate"] = flops / seconds / limits.product_rate(dtype, threads)
        if tokens is not None:
            info["real_tokens_per_second"] = tokens / seconds

    return run


@pytest.fixture(scope="session")
def needs_compiler() -> Callable[[], None]:
    """Skips where torch.compile has no C++ compiler to call."""

    def check() -> None:
        if shutil.which("c++") is None and shutil.which("g++") is None:
            pytest.skip("torch.compile needs a C++ compiler on the CPU, and there is none")

    return check


#: of extra_info, in words
COLUMNS = {
    "gigabytes_per_second": "{:6.2f} GB/s",
    "of_copy_bandwidth": "{:5.0%} of a copy",
    "gigaflops_per_second": "{:7.1f} GFLOP/s",
    "of_product_rate": "{:5.0%} of a large product",
    "real_tokens_per_second": "{:8.1f} real tokens/s",
    "peak_extra_bytes": "+{:13,d} bytes at peak",
}


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Name the software and the machine's limits in a saved result."""
    from fastlm import info

    facts = info.collect()
    threads = torch.get_num_threads()
    output_json["fastlm"] = {key: facts[key] for key in ("versions", "build", "cpu", "cuda")}
    output_json["fastlm"]["sentence_lengths"] = config.stash.get(SOURCE, None)
    output_json["fastlm"]["limits"] = {
        "copy_gigabytes_per_second": limits.copy_bandwidth(threads) / 1e9,
        "fp32_product_gigaflops_per_second": limits.product_rate(torch.float32, threads) / 1e9,
        "bf16_product_gigaflops_per_second": limits.product_rate(torch.bfloat16, threads) / 1e9,
    }


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Print each benchmark's extra_info: bandwidth and memory do not fit pytest-benchmark's table."""
    session = getattr(config, "_benchmarksession", None)
    rows = [(b.name, b.extra_info) for b in session.benchmarks if b.extra_info] if session else []
    if not rows:
        return
    terminalreporter.section("bandwidth, rate and memory")
    if SOURCE in config.stash:
        terminalreporter.write_line(f"sentence lengths: {config.stash[SOURCE]}")
    width = max(len(name) for name, _ in rows)
    for name, info in rows:
        terminalreporter.write_line(f"{name:<{width}}  {_describe(info)}")


def _describe(info: dict[str, Any]) -> str:
    parts = [text.format(info[key]) for key, text in COLUMNS.items() if info.get(key) is not None]
    if info.get("errors"):
        worst = max(error / budget if budget else 0.0 for error, budget in info["errors"].values())
        parts.append(f"error {worst:4.0%} of its budget")
    return "  ".join(parts)
