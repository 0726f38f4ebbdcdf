"""Repeats, and which rows are held out.

A row is a sentence or a sentence with its translations. Rows that share any text on any side are tied together,
directly or through others, and the split is decided once for such a component, by a hash keyed by the split seed. So
neither a translation nor a repeat of either side is ever on both sides of the split, and a row mostly keeps its side
when other rows come or go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastlm.data.host import components, first_occurrences
from fastlm.data.philox import Stream, draws, wide

TRAIN, VALID = 0, 1
SPLITS = {"train": TRAIN, "valid": VALID}


@dataclass(frozen=True)
class Partition:
    """What becomes of R source rows.

    Attributes:
        kept: (R,) bool, not a repeat of an earlier row.
        split: (R,) uint8, TRAIN or VALID.
        largest: rows of the largest component.
    """

    kept: NDArray[np.bool_]
    split: NDArray[np.uint8]
    largest: int


def partition(
    row_hashes: NDArray[np.uint64],
    side_hashes: NDArray[np.uint64],
    side_rows: NDArray[np.int64],
    *,
    valid_fraction: float,
    seed: int,
) -> Partition:
    """Drops repeated rows and holds out a share of the rest.

    Args:
        row_hashes: (R, 2) uint64, 128-bit hash of each row's languages and texts.
        side_hashes: (S, 2) uint64, of each text alone.
        side_rows: (S,) int64, the row each text is in.
        valid_fraction: share of the components held out; a component larger than a tenth of the share is trained on,
            since one text with thousands of translations would otherwise upset the share. 1 holds out everything, for
            text that is only scored.
        seed: of the hash.

    Below 1, of two components or more, one at least is trained on and one held out; a single one is trained on.
    """
    rows = len(row_hashes)
    kept = first_occurrences(row_hashes) == np.arange(rows)
    root = components(rows, side_rows, side_rows[first_occurrences(side_hashes)])
    size = np.bincount(root[kept], minlength=rows)
    if valid_fraction == 1:
        return Partition(kept=kept, split=np.full(rows, VALID, dtype=np.uint8), largest=int(size.max()))
    roots = np.flatnonzero(size)
    score = _scores(row_hashes, root, roots, seed)
    largest_held = max(1.0, 0.1 * valid_fraction * float(kept.sum()))
    held = (score < np.uint64(round(valid_fraction * 2.0**63) * 2)) & (size[roots] <= largest_held)
    if not held.any() and len(roots) > 1:
        small = np.flatnonzero(size[roots] == size[roots].min())
        held[small[np.argmin(score[small])]] = True
    elif held.all():
        held[np.argmax(score)] = False
    is_held = np.zeros(rows, dtype=np.uint8)
    is_held[roots] = np.where(held, VALID, TRAIN)
    return Partition(kept=kept, split=is_held[root], largest=int(size.max()))


def _scores(
    row_hashes: NDArray[np.uint64], root: NDArray[np.int64], roots: NDArray[np.int64], seed: int
) -> NDArray[np.uint64]:
    """A uniform uint64 per component, from the smallest of its rows' hashes: the order of rows does not matter."""
    smallest = np.full(len(root), np.iinfo(np.uint64).max)
    np.minimum.at(smallest, root, row_hashes[:, 0])
    # The counter holds 56 bits of a sentence id and 32 of a position: enough to keep the hash's 64.
    name = smallest[roots]
    return wide(draws(seed, 0, Stream.SPLIT, name >> np.uint64(16), (name & np.uint64(0xFFFF)).astype(np.uint32)))
