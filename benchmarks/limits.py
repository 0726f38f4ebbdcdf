"""What this machine can do at most: the copy and the matrix product that shares are taken of."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch

COPIED_FLOATS = 32 << 20  # 128 MiB: past every cache
PRODUCT_SIDE = 2048


def best_seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """The shortest of some runs, after one that warms up."""
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


@functools.cache
def copy_bandwidth(threads: int) -> float:
    """Bytes a second, read and written together, of torch's copy with ``threads`` threads, which are set already."""
    source = torch.ones(COPIED_FLOATS)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / best_seconds(lambda: target.copy_(source))


@functools.cache
def product_rate(dtype: torch.dtype, threads: int) -> float:
    """Flops a second of one large square product in ``dtype``."""
    a, b = (torch.randn(PRODUCT_SIDE, PRODUCT_SIDE).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2.0 * PRODUCT_SIDE**3 / best_seconds(lambda: torch.mm(a, b, out=out))
