"""Philox4x32-10 in numpy: the random numbers of masking, epoch order and splitting.

A counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) is a pure function of
(key, counter): a draw needs no history, so masks do not depend on worker count, world size or where a run resumed.
`kernels/cpu/host/philox.h` is the same function in C++. numpy's own `Philox` is the 64-bit variant, and its derived
draws may change between numpy versions; these may not.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


class Stream(enum.IntEnum):
    """What a draw is for; part of the counter, so that no two uses share a number."""

    TOKEN = 0
    SENTENCE = 1
    ORDER = 2
    SPLIT = 3


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Ten rounds of Philox4x32.

    Args:
        counter: (n, 4) uint32.
        key: two 32-bit words.

    Returns:
        (n, 4) uint32, uniform and independent over counters and keys.
    """
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        even, odd = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (odd >> _SHIFT) ^ c1 ^ np.uint64(k0),
            odd & _LOW,
            (even >> _SHIFT) ^ c3 ^ np.uint64(k1),
            even & _LOW,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def draws(seed: int, epoch: int, stream: Stream, sentences: Any, positions: Any = 0) -> NDArray[np.uint32]:
    """Four 32-bit draws for each (sentence, position).

    Args:
        seed: any int, taken modulo 2^64.
        epoch: 0 to 2^32 - 1.
        stream: what the draws are for.
        sentences: (n,) ids below 2^56.
        positions: (n,) or one number, below 2^32.
    """
    ids = np.asarray(sentences).astype(np.uint64)
    counter = np.empty((len(ids), 4), dtype=np.uint32)
    counter[:, 0] = positions
    counter[:, 1] = ids & _LOW
    counter[:, 2] = epoch
    counter[:, 3] = (ids >> _SHIFT) & np.uint64(0xFFFFFF) | np.uint64(stream << 24)
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))


def wide(drawn: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """The first two words of each draw as one uint64."""
    return drawn[:, 0].astype(np.uint64) << _SHIFT | drawn[:, 1]
