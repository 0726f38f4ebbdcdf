"""Which sentences make pairs, and what a batch of them holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastlm.data.batching import Packed
from fastlm.data.config import DataConfig
from fastlm.data.loader import Loader, validation
from fastlm.data.pairs import pack_pairs, pair_up
from fastlm.data.store import Store
from fastlm.errors import ConfigError, DataError
from fastlm.models.config import ModelConfig
from tests.data.conftest import make_pairs

MODEL = ModelConfig(model="seq2seq", seq_len=64)


def texts(store: Store, packed: Packed) -> list[tuple[str, str]]:
    """(source, target) of each pair, as texts."""
    assert packed.source is not None
    sides = []
    for part in (packed.source, packed):
        bounds = zip(part.cu_seqlens[:-1], part.cu_seqlens[1:], strict=True)
        sides.append([store.tokenizer.decode(part.tokens[first:end].tolist()) for first, end in bounds])
    return list(zip(*sides, strict=True))


@pytest.mark.parametrize("direction", ["ko-en", "en-ko", "both"])
def test_every_sentence_meets_its_translation(store: Store, direction: str) -> None:
    ids = store.select("train", DataConfig())
    pairs = pair_up(store, ids, direction, 10_000, "refuse")
    assert len(pairs) == len(ids) // 2 * (2 if direction == "both" else 1)
    known = set(make_pairs(600))
    for source, target in texts(store, pack_pairs(store, pairs)):
        korean_first = (source, target) in known
        assert korean_first or (target, source) in known
        if direction != "both":
            assert korean_first == (direction == "ko-en")


def test_a_batch_of_pairs(store: Store) -> None:
    tokenizer = store.tokenizer
    pairs = pair_up(store, store.select("train", DataConfig()), "both", 64, "truncate")
    members = np.array([5, 0, 17])
    packed = pack_pairs(store, pairs.take(members))
    batch = packed.batch()
    assert batch.source is not None
    for i, member in enumerate(members):
        source = store.sentence(pairs.sources.sentences[member])[: pairs.sources.lengths[member]]
        target = store.sentence(pairs.targets.sentences[member])[: pairs.targets.lengths[member]]
        korean = store.language_names[store.languages[pairs.targets.sentences[member]]] == "ko"
        rows = slice(batch.source.cu_seqlens[i], batch.source.cu_seqlens[i + 1])
        assert batch.source.tokens[rows].tolist() == [tokenizer.bos_id, *source, tokenizer.eos_id]
        assert batch.source.positions[rows].tolist() == list(range(len(source) + 2))
        rows = slice(batch.cu_seqlens[i], batch.cu_seqlens[i + 1])
        assert batch.tokens[rows].tolist() == [tokenizer.ko_id if korean else tokenizer.en_id, *target]
        assert batch.targets[batch.target_sentences == i].tolist() == [*target, tokenizer.eos_id]
    assert batch.sentence_ids.tolist() == pairs.targets.sentences[members].tolist()
    assert packed.token_count == len(batch.tokens) + len(batch.source.tokens)


def test_a_long_sentence_is_cut_on_either_side(store: Store) -> None:
    pairs = pair_up(store, store.select("train", DataConfig()), "both", 12, "truncate")
    for side in (pairs.sources, pairs.targets):
        assert side.lengths.max() == 10
        assert not side.complete.all()
    packed = pack_pairs(store, pairs)
    ends = packed.labels[packed.cu_seqlens[1:] - 1]
    assert np.array_equal(ends == store.tokenizer.eos_id, pairs.targets.complete)
    with pytest.raises(DataError, match="--seq-len is 12"):
        pair_up(store, store.select("train", DataConfig()), "both", 12, "refuse")
    with pytest.raises(ConfigError, match="--long split"):
        pair_up(store, store.select("train", DataConfig()), "both", 12, "split")


def test_text_without_translations_is_refused(store: Store) -> None:
    data = DataConfig(languages=("ko",))
    with pytest.raises(DataError, match="none of its sentences has a translation"):
        Loader(store, MODEL, data, seed=0)


def test_a_sentence_without_its_partner_is_left_out(store: Store) -> None:
    ids = store.select("train", DataConfig())
    lonely = np.delete(ids, 3)
    whole, left = (pair_up(store, some, "ko-en", 64, "truncate") for some in (ids, lonely))
    assert len(left) == len(whole) - 1
    assert store.pairs[ids[3]] not in store.pairs[left.targets.sentences]


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("options", [{"batch_size": 50}, {"batch_tokens": 900}])
def test_an_epoch_holds_every_pair_once(store: Store, world_size: int, options: dict[str, int]) -> None:
    ranks = [
        Loader(store, MODEL, DataConfig(workers=0, **options), seed=1, accumulate=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    seen: list[int] = []
    for index in range(ranks[0].steps_per_epoch(0)):
        steps = [loader.step(index) for loader in ranks]
        batches = [batch for step in steps for batch in step.batches]
        seen += [i for batch in batches for i in batch.sentence_ids.tolist()]
        assert steps[0].target_count == sum(len(batch.targets) for batch in batches)
        tokens = sum(len(part.tokens) for batch in batches for part in (batch, batch.source))
        assert steps[0].token_count == tokens
        assert tokens <= options.get("batch_tokens", tokens)
        for batch in batches:
            assert len(batch.source.cu_seqlens) == len(batch.cu_seqlens)
    ids = store.select("train", DataConfig())
    assert sorted(seen) == ids.tolist()  # in both directions each sentence is a translation once


def test_validation_pairs_are_the_held_out_ones(store: Store, build: Callable[..., Store]) -> None:
    batches = list(validation(store, MODEL, DataConfig(), sentences=20))
    ids = [i for batch in batches for i in batch.sentence_ids.tolist()]
    assert len(ids) == 20
    assert (store.split[ids] == 1).all()
    one_way = list(validation(store, MODEL, DataConfig(direction="ko-en"), sentences=20))
    assert sum(len(batch.sentence_ids) for batch in one_way) == 10
