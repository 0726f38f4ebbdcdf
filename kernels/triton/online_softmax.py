"""A running maximum with the sum of exponentials relative to it, for a tile of rows.

Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

MINUS_INFINITY = tl.constexpr(float("-inf"))


@triton.jit
def base_of(largest):
    """What exponentials are relative to: the maximum, or 0 where everything so far is -inf.

    exp(-inf - 0) is 0, exp(-inf - -inf) would be NaN. Neither is NaN lost: a maximum may drop it, but no sum does.
    """
    return tl.where(largest == MINUS_INFINITY, 0.0, largest)


@triton.jit
def include(largest, total, scores):
    """Shapes: largest and total (ROWS,), scores (ROWS, COLUMNS) -> the largest and total of both."""
    following = tl.maximum(largest, tl.max(scores, 1))
    base = base_of(following)
    total = total * tl.exp(largest - base) + tl.sum(tl.exp(scores - base[:, None]), 1)
    return following, total
