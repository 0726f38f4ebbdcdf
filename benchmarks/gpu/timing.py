"""How long work takes on a GPU: medians of CUDA events, with the host out of the way.

A sample is some calls between two events, behind a kernel that only waits while the host launches them: what is timed
is the GPU's work, not the launching.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Call = Callable[[], Any]
Clock = Callable[[Call], dict[str, float]]

WARM_UP, LEAST, MOST = 3, 7, 40  # calls; samples
SAMPLE = 4e-3  # seconds of work in a sample, so that the resolution of events does not show
BUDGET = 0.4  # seconds of samples
CALLS = 50  # in a sample, at most: launches queue up to about a thousand
CYCLES = 2e9  # a second, at most
LONGEST_DELAY = 0.1


def gpu_clock(call: Call) -> dict[str, float]:
    """Seconds of one call: median, fastest and slowest sample, and the highest memory in use above that before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(WARM_UP):
        call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    begin = time.perf_counter()
    call()
    host = time.perf_counter() - begin
    torch.cuda.synchronize()
    one = _sample(call, 1, host)
    count = int(min(CALLS, max(1, SAMPLE / max(one, 1e-7))))
    samples: list[float] = []
    end = time.perf_counter() + BUDGET
    while len(samples) < LEAST or (len(samples) < MOST and time.perf_counter() < end):
        samples.append(_sample(call, count, host))
    return summary(samples) | {"peak_bytes": peak}


def _sample(call: Call, count: int, host: float) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(int(CYCLES * min(LONGEST_DELAY, 1.5 * host * count + 2e-4)))
    start.record()
    for _ in range(count):
        call()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3 / count


def host_clock(call: Call) -> dict[str, float]:
    """The same by the host's clock, of a few calls: for tests without a GPU."""
    samples = []
    for _ in range(LEAST):
        begin = time.perf_counter()
        call()
        samples.append(time.perf_counter() - begin)
    return summary(samples)


def summary(samples: list[float]) -> dict[str, float]:
    """Median, fastest and slowest."""
    return {
        "seconds": statistics.median(samples),
        "fastest": min(samples),
        "slowest": max(samples),
        "samples": len(samples),
    }
