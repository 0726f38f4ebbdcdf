"""Masks: exact rates, no special tokens, pure functions, C++ equal to the specification."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm.data import masking
from fastlm.data.host import native
from fastlm.data.masking import UNITS, MaskPolicy, Sentences, mask_tokens, numpy_mask_tokens
from fastlm.errors import ConfigError

SPECIALS, VOCAB, MASK = 7, 200, 4


def policy(**changes: Any) -> MaskPolicy:
    # A third of the vocabulary begins words.
    starts = np.arange(VOCAB) % 3 == 0
    plain = {"rate": 0.15, "keep": 0.1, "random": 0.1, "unit": "token"}
    sizes = {"special_count": SPECIALS, "vocab_size": VOCAB, "mask_id": MASK, "word_starts": starts}
    return MaskPolicy(**{**plain, **sizes, **changes})  # type: ignore[arg-type]


def sentences(lengths: list[int], seed: int = 0, specials: bool = True) -> Sentences:
    """Packed ``[BOS] x [EOS]`` of random ids; with ``specials`` some inside, too."""
    rng = np.random.default_rng(seed)
    parts = []
    for length in lengths:
        body = rng.integers(0 if specials else SPECIALS, VOCAB, length)
        parts.append(np.concatenate([[2], body, [3]]))
    sizes = [len(part) for part in parts]
    return Sentences(
        tokens=np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64),
        cu_seqlens=np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
        ids=rng.integers(0, 1 << 40, len(lengths)),
        starts=rng.integers(0, 500, len(lengths)),
    )


lengths_of = st.lists(st.one_of(st.integers(0, 12), st.just(130)), max_size=12)
probability = st.one_of(st.sampled_from([0.0, 0.15, 1.0]), st.floats(0, 1))


@pytest.mark.skipif(native is None, reason="fastlm._host was not built (no compiler)")
@settings(max_examples=150, deadline=None)
@given(
    lengths_of, st.sampled_from(UNITS), probability, probability, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)
)
def test_native_equals_specification(
    lengths: list[int], unit: str, rate: float, keep: float, seed: int, epoch: int
) -> None:
    batch, rule = sentences(lengths, seed=3), policy(unit=unit, rate=rate, keep=keep, random=(1 - keep) / 2)
    ours = mask_tokens(batch, rule, seed=seed, epoch=epoch)
    expected = numpy_mask_tokens(batch, rule, seed=seed, epoch=epoch)
    for a, b in zip(ours, expected, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_the_expected_count_is_exact_also_for_short_sentences(unit: str, rate: float) -> None:
    # Regimes: shorter than 1 / rate (a plain rounding would mask none, or always one), and long.
    for length, count in ((3, 20_000), (60, 2_000)):
        batch = sentences([length] * count, specials=False)
        _, rows, _ = mask_tokens(batch, policy(unit=unit, rate=rate), seed=1, epoch=0)
        share = len(rows) / (length * count)
        # Five standard errors; whole words come several tokens at a time.
        error = 5 * math.sqrt(rate * (1 - rate) * (4 if unit == "word" else 1) / (length * count))
        assert abs(share - rate) < error, (unit, rate, length, share)


@pytest.mark.parametrize("unit", UNITS)
def test_specials_are_neither_masked_nor_drawn(unit: str) -> None:
    batch = sentences([40] * 300)
    inputs, rows, targets = mask_tokens(batch, policy(unit=unit, rate=1.0, keep=0.0, random=1.0), seed=0, epoch=0)
    assert (targets >= SPECIALS).all()
    assert np.array_equal(rows, np.flatnonzero(batch.tokens >= SPECIALS))
    drawn = inputs[rows]
    assert drawn.min() == SPECIALS and drawn.max() == VOCAB - 1  # the whole range, and nothing else
    untouched = np.setdiff1d(np.arange(len(inputs)), rows)
    assert np.array_equal(inputs[untouched], batch.tokens[untouched])


def test_only_special_tokens_means_nothing_to_predict() -> None:
    batch = sentences([0, 0, 0])
    inputs, rows, targets = mask_tokens(batch, policy(rate=1.0), seed=0, epoch=0)
    assert np.array_equal(inputs, batch.tokens) and len(rows) == len(targets) == 0
    empty = sentences([])
    assert [len(part) for part in mask_tokens(empty, policy(), seed=0, epoch=0)] == [0, 0, 0]


def test_eighty_ten_ten() -> None:
    batch = sentences([100] * 500, specials=False)
    inputs, rows, targets = mask_tokens(batch, policy(), seed=0, epoch=0)
    assert np.array_equal(targets, batch.tokens[rows])
    masked = (inputs[rows] == MASK).mean()
    kept = (inputs[rows] == targets).mean()
    assert abs(masked - 0.8) < 0.02
    assert abs(kept - (0.1 + 0.1 / (VOCAB - SPECIALS))) < 0.02


def test_a_sentence_is_masked_alike_in_any_company() -> None:
    batch = sentences([5, 20, 1, 33, 8])
    for unit in UNITS:
        rule = policy(unit=unit, rate=0.4)
        together, _, _ = mask_tokens(batch, rule, seed=9, epoch=4)
        for i in (4, 2, 0, 1, 3):
            first, last = batch.cu_seqlens[i], batch.cu_seqlens[i + 1]
            one = Sentences(
                batch.tokens[first:last].copy(),
                np.array([0, last - first]),
                batch.ids[i : i + 1].copy(),
                batch.starts[i : i + 1].copy(),
            )
            alone, _, _ = mask_tokens(one, rule, seed=9, epoch=4)
            assert np.array_equal(alone, together[first:last])


def test_seed_and_epoch_change_the_masks() -> None:
    batch = sentences([50] * 20)
    rows = {mask_tokens(batch, policy(), seed=s, epoch=e)[1].tobytes() for s, e in ((0, 0), (0, 1), (1, 0))}
    assert len(rows) == 3


def test_every_token_is_masked_as_often_as_any_other() -> None:
    batch = sentences([10] * 20_000, specials=False)
    for unit in ("token", "word"):
        _, rows, _ = mask_tokens(batch, policy(unit=unit, rate=0.2), seed=0, epoch=0)
        by_place = np.bincount(rows % 12, minlength=12)[1:11] / 20_000
        assert abs(by_place - 0.2).max() < 0.015, (unit, by_place)


def test_words_are_masked_whole() -> None:
    rule = policy(unit="word", rate=0.3)
    batch = sentences([40] * 200, specials=False)
    _, rows, _ = mask_tokens(batch, rule, seed=0, epoch=0)
    chosen = np.zeros(len(batch.tokens), dtype=bool)
    chosen[rows] = True
    tokens = batch.tokens
    first_of_sentence = np.isin(np.arange(len(tokens)), batch.cu_seqlens[:-1] + 1)
    inside = (tokens >= SPECIALS) & ~rule.word_starts[tokens] & ~first_of_sentence
    assert inside.sum() > 1000
    assert np.array_equal(chosen[inside], chosen[np.flatnonzero(inside) - 1])


def test_span_lengths_are_geometric_up_to_ten() -> None:
    ends = np.concatenate([[0], masking.SPAN_ENDS.astype(np.float64), [2.0**32]]) / 2.0**32
    weights = 0.2 * 0.8 ** np.arange(10)
    assert np.allclose(np.diff(ends), weights / weights.sum(), atol=1e-9)
    # A single span per sentence: its length is the draw's, or the budget's where that is smaller.
    batch = sentences([300] * 3000, specials=False)
    _, rows, _ = mask_tokens(batch, policy(unit="span", rate=0.05), seed=0, epoch=0)
    runs = np.diff(np.flatnonzero(np.diff(rows, prepend=-9, append=1 << 40) != 1))
    assert 2.8 < runs.mean() < 4.2  # 3.8 in SpanBERT, less where the budget cuts, more where runs touch
    assert runs.max() > 10  # two that touch


@pytest.mark.parametrize(
    "change",
    [
        {"rate": -0.1},
        {"rate": 1.1},
        {"rate": math.nan},
        {"keep": -1},
        {"keep": math.nan},
        {"random": 2.0},
        {"keep": 0.6, "random": 0.5},
        {"unit": "letter"},
        {"vocab_size": SPECIALS},
    ],
)
def test_impossible_policies_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        policy(**change)


def test_rates_zero_and_one() -> None:
    batch = sentences([9] * 50, specials=False)
    for unit in UNITS:
        assert len(mask_tokens(batch, policy(unit=unit, rate=0.0), seed=0, epoch=0)[1]) == 0
        assert len(mask_tokens(batch, policy(unit=unit, rate=1.0), seed=0, epoch=0)[1]) == 9 * 50
    inputs, rows, targets = mask_tokens(batch, policy(rate=1.0, keep=1.0, random=0.0), seed=0, epoch=0)
    assert np.array_equal(inputs[rows], targets)


@pytest.mark.skipif(native is None, reason="fastlm._host was not built (no compiler)")
def test_native_refuses_what_does_not_fit() -> None:
    batch = sentences([3, 4])
    with pytest.raises(ValueError, match="cu_seqlens"):
        mask_tokens(batch._replace(cu_seqlens=batch.cu_seqlens[:-1].copy()), policy(), seed=0, epoch=0)
    with pytest.raises(ValueError, match="vocabulary"):
        mask_tokens(batch._replace(tokens=batch.tokens + VOCAB), policy(), seed=0, epoch=0)
