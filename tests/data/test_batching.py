"""Cutting, filling, dealing and packing (faults.md, rows 40, 45)."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlm.data.batching import FRAME, Pieces, cut_to_fit, deal, fill, pack_decoder, pack_encoder, plan_epoch
from fastlm.data.config import DataConfig
from fastlm.data.masking import MaskPolicy
from fastlm.data.store import Store
from fastlm.errors import DataError


def all_of(store: Store) -> np.ndarray:
    return np.arange(len(store))


def lengths_of(store: Store) -> np.ndarray:
    return np.diff(store.offsets)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 50))
def test_fill_is_greedy_and_complete(sizes: list[int], budget: int) -> None:
    bounds = fill(np.array(sizes, dtype=np.int64), budget).tolist()
    assert bounds[0] == 0 and bounds[-1] == len(sizes) and bounds == sorted(set(bounds))
    for first, last in itertools.pairwise(bounds):
        assert sum(sizes[first:last]) <= budget or last == first + 1
        assert last == len(sizes) or sum(sizes[first : last + 1]) > budget


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 9))
def test_deal_balances_counts_and_sums(sizes: list[int], slots: int) -> None:
    dealt = deal(np.array(sizes, dtype=np.int64), slots)
    counts = np.bincount(dealt, minlength=slots)
    assert len(counts) == slots and counts.max() - counts.min() <= 1
    sums = np.bincount(dealt, weights=sizes, minlength=slots)
    assert sums.max() - sums.min() <= max(sizes, default=0)


def test_truncate_counts_what_it_drops(store: Store) -> None:
    lengths = lengths_of(store)
    pieces = cut_to_fit(store, all_of(store), 40, "truncate")
    assert len(pieces) == len(store) and pieces.lengths.max() == 40 - FRAME
    assert pieces.cut == (lengths > 38).sum() > 0
    assert pieces.dropped == (lengths - 38).clip(min=0).sum()
    assert np.array_equal(pieces.complete, lengths <= 38)


def test_split_loses_nothing(store: Store) -> None:
    pieces = cut_to_fit(store, all_of(store), 40, "split")
    assert pieces.dropped == 0 and pieces.lengths.max() == 38 and pieces.lengths.min() >= 1
    assert pieces.cut == (lengths_of(store) > 38).sum()
    assert pieces.complete.sum() == len(store)
    rebuilt = np.concatenate(
        [store.sentence(i)[a : a + n] for i, a, n in zip(pieces.sentences, pieces.starts, pieces.lengths, strict=True)]
    )
    assert np.array_equal(rebuilt, store.tokens)


def test_the_border_of_seq_len(store: Store) -> None:
    longest = int(lengths_of(store).max())
    assert cut_to_fit(store, all_of(store), longest + FRAME, "refuse").cut == 0
    for long in ("truncate", "split"):
        assert cut_to_fit(store, all_of(store), longest + FRAME, long).dropped == 0
    who = int(np.argmax(lengths_of(store)))
    row = f"text, row {store.rows[who]} .*{longest + FRAME} tokens .*--seq-len is {longest + 1} .*--long"
    with pytest.raises(DataError, match=row):
        cut_to_fit(store, all_of(store), longest + FRAME - 1, "refuse")


def frames(packed_tokens: np.ndarray, cu: np.ndarray) -> list[list[int]]:
    return [packed_tokens[a:b].tolist() for a, b in itertools.pairwise(cu)]


def test_encoder_frames(store: Store) -> None:
    tokenizer = store.tokenizer
    pieces = cut_to_fit(store, all_of(store)[:50], 30, "truncate")
    packed = pack_encoder(store, pieces, MaskPolicy.of(tokenizer, DataConfig(mask_rate=0.0)), seed=0, epoch=0)
    expected = [[tokenizer.bos_id, *store.sentence(i)[:28].tolist(), tokenizer.eos_id] for i in range(50)]
    assert frames(packed.tokens, packed.cu_seqlens) == expected
    assert packed.target_count == 0
    masked = pack_encoder(store, pieces, MaskPolicy.of(tokenizer, DataConfig()), seed=0, epoch=0)
    hidden = masked.labels >= 0
    assert np.array_equal(masked.labels[hidden], packed.tokens[hidden])
    assert np.array_equal(masked.tokens[~hidden], packed.tokens[~hidden])


def test_decoder_predicts_the_end_only_where_the_sentence_ends(store: Store) -> None:
    tokenizer = store.tokenizer
    lengths = lengths_of(store)
    long, short = int(np.argmax(lengths)), int(np.argmin(lengths))
    pieces = cut_to_fit(store, np.array([short, long]), 30, "split")
    packed = pack_decoder(store, pieces)
    inputs, labels = frames(packed.tokens, packed.cu_seqlens), frames(packed.labels, packed.cu_seqlens)
    assert inputs[0] == [tokenizer.bos_id, *store.sentence(short).tolist()]
    assert labels[0] == [*store.sentence(short).tolist(), tokenizer.eos_id]
    assert inputs[1] == [tokenizer.bos_id, *store.sentence(long)[:28].tolist()]
    assert labels[1] == [*store.sentence(long)[:28].tolist(), -1]
    assert labels[-1][-1] == tokenizer.eos_id
    # Every stored token is predicted once.
    assert packed.target_count == lengths[short] + lengths[long] + 2


def test_a_batch_is_consistent(store: Store) -> None:
    pieces = cut_to_fit(store, all_of(store)[:64], 256, "truncate")
    packed = pack_encoder(store, pieces, MaskPolicy.of(store.tokenizer, DataConfig()), seed=0, epoch=0)
    for chosen in (np.arange(64), np.array([3, 9, 60]), np.arange(0)):
        batch = packed.take(chosen).batch()
        starts = batch.cu_seqlens.long()
        assert starts[0] == 0 and starts[-1] == len(batch.tokens)
        assert batch.max_seqlen == max((starts[1:] - starts[:-1]).tolist(), default=0)
        owner = np.repeat(np.arange(len(chosen)), np.diff(starts.numpy()))
        assert np.array_equal(batch.positions.numpy(), np.arange(len(owner)) - starts.numpy()[:-1][owner])
        assert np.array_equal(batch.target_sentences.numpy(), owner[batch.target_rows.numpy()])
        assert batch.sentence_ids.tolist() == chosen.tolist()
        assert (np.diff(batch.target_rows.numpy()) > 0).all() and len(batch.target_rows) == len(batch.targets)


def test_a_zero_length_sentence_is_only_its_frame(store: Store) -> None:
    zero = np.zeros(1, dtype=np.int64)
    pieces = Pieces(zero, zero, zero, np.ones(1, dtype=bool), 0, 0)
    policy = MaskPolicy.of(store.tokenizer, DataConfig(mask_rate=1.0))
    encoder = pack_encoder(store, pieces, policy, seed=0, epoch=0)
    assert encoder.tokens.tolist() == [store.tokenizer.bos_id, store.tokenizer.eos_id] and encoder.target_count == 0
    decoder = pack_decoder(store, pieces)
    assert decoder.labels.tolist() == [store.tokenizer.eos_id]


@pytest.mark.parametrize(("batch_size", "batch_tokens"), [(64, 0), (7, 0), (100_000, 0), (1, 500), (1, 1)])
def test_an_epoch_holds_every_piece_once(store: Store, batch_size: int, batch_tokens: int) -> None:
    pieces = cut_to_fit(store, all_of(store), 30, "split")
    plan = plan_epoch(pieces.lengths, seed=0, epoch=3, batch_size=batch_size, batch_tokens=batch_tokens)
    batches = [plan.members(step) for step in range(len(plan))]
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(pieces)))
    if batch_tokens:
        totals = [(pieces.lengths[batch] + FRAME).sum() for batch in batches]
        assert all(total <= batch_tokens or len(batch) == 1 for total, batch in zip(totals, batches, strict=True))
    else:
        assert all(len(batch) == batch_size for batch in batches[:-1]) and 0 < len(batches[-1]) <= batch_size


def test_the_order_mixes_languages_and_places(store: Store) -> None:
    pieces = cut_to_fit(store, all_of(store), 256, "truncate")
    plan = plan_epoch(pieces.lengths, seed=0, epoch=0, batch_size=100, batch_tokens=0)
    for step in range(len(plan)):
        ids = pieces.sentences[plan.members(step)]
        assert 0.3 < (store.languages[ids] == 0).mean() < 0.7
        assert 0.3 < (ids < len(store) / 2).mean() < 0.7


def test_the_refusal_is_one_line(store: Store) -> None:
    with pytest.raises(DataError) as caught:
        cut_to_fit(store, all_of(store), 4, "refuse")
    assert re.fullmatch(r"[^\n]+", str(caught.value))
