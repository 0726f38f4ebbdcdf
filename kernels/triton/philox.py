"""The random words of dropout: generator and layouts are specified in fastlm/ops/philox.py, bit for bit.

The generator is Triton's own `tl.philox`, Philox4x32, with the specification's number of rounds.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from fastlm.ops import philox

ROUNDS = tl.constexpr(philox.ROUNDS)


@dataclass(frozen=True)
class Dropout:
    """What a kernel is told of its dropout; ``enabled`` is known when it is compiled.

    Attributes:
        enabled: whether anything is dropped.
        scale: what kept elements are multiplied by.
        last_dropped: the largest word that drops. One below the threshold, so that it has 32 bits even where all drop.
        seed: on the CPU, the 64-bit seed.
        seed_on_device: () int64, the seed on a GPU: a CUDA graph reads it anew at every replay. Else None.
    """

    enabled: bool
    scale: float
    last_dropped: int
    seed: int
    seed_on_device: Tensor | None

    @staticmethod
    def of(dropout_p: float, dropout_seed: Tensor) -> Dropout:
        """From what a registered op is given; a seed on a GPU is not read."""
        threshold = philox.threshold(dropout_p)
        on_cpu = dropout_seed.device.type == "cpu"
        return Dropout(
            threshold > 0,
            philox.keep_scale(dropout_p),
            max(threshold - 1, 0),
            int(dropout_seed) if on_cpu else 0,
            None if on_cpu else dropout_seed,
        )

    def arguments(self) -> tuple[int, float, int, Tensor | None]:
        """``last_dropped: tl.uint32, scale, seed: tl.int64, seed_on_device`` of a kernel."""
        return self.last_dropped, self.scale, self.seed, self.seed_on_device


@triton.jit
def seed_of(seed, seed_on_device):
    """The seed of a `Dropout`."""
    if seed_on_device is not None:
        return tl.load(seed_on_device)
    else:
        return seed


@triton.jit
def interleave(w0, w1, w2, w3):
    """Word i of the last dimension's counter c at [..., c, i // 2, i % 2]."""
    return tl.join(tl.join(w0, w2), tl.join(w1, w3))


@triton.jit
def hidden_mask(seed, row, column, last_dropped, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Which elements of a tile of hidden states survive.

    Shapes: row (ROWS,) int64; column, the tile's first, is a multiple of 64, as is COLUMNS -> (ROWS, COLUMNS) bool.
    """
    counter = column // 4 + tl.arange(0, COLUMNS // 4)  # each decides four columns, 16 apart
    low, high = row.to(tl.int32), (row >> 32).to(tl.int32)
    w0, w1, w2, w3 = tl.philox(seed, counter[None, :], low[:, None], high[:, None], 1, ROUNDS)
    kept = interleave(w0 > last_dropped, w1 > last_dropped, w2 > last_dropped, w3 > last_dropped)
    kept = kept.reshape(ROWS, COLUMNS // 64, 16, 2, 2)
    return kept.permute(0, 1, 3, 4, 2).reshape(ROWS, COLUMNS)
