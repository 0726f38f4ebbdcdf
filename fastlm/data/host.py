"""Hot loops over arrays: in C++ when `fastlm._host` was built, in numpy otherwise, with the same result.

The numpy functions are the specification; `tests/data/test_host.py` holds the two together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlm.data.philox import Stream, draws, wide

native: Any
try:
    from fastlm import _host as native  # type: ignore[attr-defined, no-redef]
except ImportError:
    native = None


def first_occurrences(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each of (N, 2) 128-bit hashes the first row that equals it (itself, when it is the first)."""
    return native.first_occurrences(hashes) if native else numpy_first_occurrences(hashes)


def numpy_first_occurrences(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """`first_occurrences` by sorting."""
    whole = np.ascontiguousarray(hashes).view([("high", np.uint64), ("low", np.uint64)]).reshape(-1)
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int64)


def components(vertices: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each vertex the smallest vertex it is connected to by the edges ``left[e] - right[e]``."""
    return native.components(vertices, left, right) if native else numpy_components(vertices, left, right)


def numpy_components(vertices: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """`components` by hooking roots and jumping pointers (Shiloach and Vishkin, 1982)."""
    root = np.arange(vertices)
    while True:
        a, b = root[left], root[right]
        apart = a != b
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root[root] != root).any():
            root = root[root]


def shuffled(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1: a pure function of (seed, epoch, n)."""
    return native.shuffled(seed & (2**64 - 1), epoch, n) if native else numpy_shuffled(seed, epoch, n)


def numpy_shuffled(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """`shuffled` by sorting the draws of the indices."""
    return np.argsort(wide(draws(seed, epoch, Stream.ORDER, np.arange(n))), kind="stable")
