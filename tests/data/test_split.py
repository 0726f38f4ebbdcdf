"""The split never separates a sentence from its translation or from a repeat of either (faults.md, row 38)."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm.data.split import TRAIN, VALID, Partition, partition

Row = tuple[str, ...]


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def split_rows(rows: list[Row], valid_fraction: float = 0.3, seed: int = 0) -> Partition:
    row_hashes = np.frombuffer(b"".join(digest("|".join(row)) for row in rows), dtype=np.uint64).reshape(-1, 2)
    sides = [(digest(text), index) for index, row in enumerate(rows) for text in row]
    side_hashes = np.frombuffer(b"".join(side for side, _ in sides), dtype=np.uint64).reshape(-1, 2)
    side_rows = np.array([index for _, index in sides], dtype=np.int64)
    return partition(row_hashes, side_hashes, side_rows, valid_fraction=valid_fraction, seed=seed)


# Few texts and many rows: long chains of shared sides, repeats, sentences without a translation, both sides alike.
texts = st.integers(0, 40).map(lambda n: f"t{n}")
rows_of = st.lists(st.one_of(st.tuples(texts, texts), st.tuples(texts)), min_size=1, max_size=60)


@settings(deadline=None)
@given(rows_of, st.floats(1e-6, 0.5), st.integers(0, 3))
def test_no_text_is_on_both_sides(rows: list[Row], valid_fraction: float, seed: int) -> None:
    parts = split_rows(rows, valid_fraction, seed)
    sides = {
        number: {text for row, part in zip(rows, parts.split, strict=True) if part == number for text in row}
        for number in (TRAIN, VALID)
    }
    assert not sides[TRAIN] & sides[VALID]
    assert sides[TRAIN]
    assert [bool(kept) for kept in parts.kept] == [row not in rows[:index] for index, row in enumerate(rows)]


def test_the_share_is_met_and_the_seed_changes_it() -> None:
    rows: list[Row] = [(f"k{n}", f"e{n}") for n in range(20_000)]
    first, second = split_rows(rows, 0.1, seed=0), split_rows(rows, 0.1, seed=1)
    for parts in (first, second):
        assert abs((parts.split == VALID).mean() - 0.1) < 0.01
    both = ((first.split == VALID) & (second.split == VALID)).mean()
    assert both < 0.02  # independent: 0.01


def test_a_row_keeps_its_side_whatever_comes_before_or_after() -> None:
    rows: list[Row] = [(f"k{n}", f"e{n}") for n in range(2000)]
    whole = dict(zip(rows, split_rows(rows).split, strict=True))
    some = rows[1000:100:-3]
    assert all(whole[row] == part for row, part in zip(some, split_rows(some).split, strict=True))


def test_a_component_too_large_to_hold_out_is_trained_on() -> None:
    # "네." translated in a thousand ways would, if held out, take away more than the share.
    rows: list[Row] = [("네.", f"e{n}") for n in range(1000)] + [(f"k{n}", f"f{n}") for n in range(1000)]
    for seed in range(20):
        parts = split_rows(rows, 0.1, seed)
        assert not parts.split[:1000].any()
        assert parts.largest == 1000
        assert 0 < (parts.split == VALID).sum() < 200


def test_the_smallest_corpora() -> None:
    assert split_rows([("a", "b")]).split.tolist() == [TRAIN]
    for seed in range(10):
        assert sorted(split_rows([("a", "b"), ("c", "d")], 1e-6, seed).split.tolist()) == [TRAIN, VALID]
        assert sorted(split_rows([("a", "b"), ("c", "d")], 0.5, seed).split.tolist()) == [TRAIN, VALID]
