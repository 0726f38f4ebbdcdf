"""The stream of steps is a function of (store, options, seed) alone: faults.md, rows 10, 36, 40, 43, 44."""

from __future__ import annotations

import itertools
import threading
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from fastlm.batch import Batch, Step
from fastlm.data import loader as module
from fastlm.data.config import DataConfig
from fastlm.data.loader import Loader, validation
from fastlm.data.store import Store
from fastlm.errors import ConfigError, DataError
from fastlm.models.config import ModelConfig

ENCODER, DECODER = ModelConfig(seq_len=64), ModelConfig(model="decoder", seq_len=64)
SMALL = DataConfig(batch_size=100, workers=0)


def take(store: Store, count: int, start: int = 0, model: ModelConfig = ENCODER, **options: Any) -> list[Step]:
    world = {name: options.pop(name) for name in ("accumulate", "rank", "world_size", "seed") if name in options}
    loader = Loader(store, model, DataConfig(**{"batch_size": 100, "workers": 0, **options}), **{"seed": 0, **world})
    try:
        return list(itertools.islice(loader.steps(start), count))
    finally:
        loader.close()


def same(a: Any, b: Any) -> bool:
    """Equal in every bit, tensors included."""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Batch | Step):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def by_sentence(steps: Step | list[Batch] | tuple[Batch, ...]) -> dict[int, Any]:
    """sentence id -> (tokens, places of targets, targets)."""
    found = {}
    for batch in steps.batches if isinstance(steps, Step) else steps:
        for index, sentence in enumerate(batch.sentence_ids.tolist()):
            first, last = batch.cu_seqlens[index].item(), batch.cu_seqlens[index + 1].item()
            mine = batch.target_sentences == index
            assert sentence not in found
            places = (batch.target_rows[mine] - first).tolist()
            found[sentence] = (batch.tokens[first:last].tolist(), places, batch.targets[mine].tolist())
    return found


@pytest.mark.parametrize("model", [ENCODER, DECODER], ids=["encoder", "decoder"])
@pytest.mark.parametrize("options", [{}, {"batch_tokens": 700}, {"long": "split", "mask_unit": "span"}])
def test_resuming_anywhere_is_the_uninterrupted_stream(store: Store, model: ModelConfig, options: Any) -> None:
    whole = take(store, 60, model=model, **options)
    assert whole[-1].epoch >= 2 or "batch_tokens" in options
    for start in (0, 1, 10, 11, 37):
        assert same(take(store, 60 - start, start, model=model, **options), whole[start:])


@pytest.mark.parametrize("options", [{}, {"batch_tokens": 300}])
def test_workers_change_nothing(store: Store, options: Any) -> None:
    alone = take(store, 40, **options)
    for workers in (1, 3):
        assert same(take(store, 40, workers=workers, **options), alone)


@pytest.mark.parametrize("model", [ENCODER, DECODER], ids=["encoder", "decoder"])
@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (1, 3), (3, 2)])
def test_ranks_and_micro_batches_share_the_global_batch(
    store: Store, model: ModelConfig, world_size: int, accumulate: int
) -> None:
    whole = take(store, 14, model=model)
    ranks = [
        take(store, 14, model=model, world_size=world_size, rank=r, accumulate=accumulate) for r in range(world_size)
    ]
    for index, step in enumerate(whole):
        parts = [rank[index] for rank in ranks]
        assert all(len(part.batches) == accumulate for part in parts)
        assert by_sentence([batch for part in parts for batch in part.batches]) == by_sentence(step)
        for part in parts:
            assert (part.epoch, part.index) == (step.epoch, step.index)
            assert part.target_count == step.target_count == sum(len(b.targets) for b in step.batches)
            assert part.token_count == step.token_count == sum(len(b.tokens) for b in step.batches)
            assert part.sentence_count == step.sentence_count == sum(len(b.sentence_ids) for b in step.batches)
        assert sum(len(b.targets) for part in parts for b in part.batches) == step.target_count
        sizes = [len(batch.tokens) for part in parts for batch in part.batches]
        assert max(sizes) - min(sizes) <= 64


def test_an_epoch_is_every_training_sentence_once(store: Store) -> None:
    ids = store.select("train", DataConfig())
    for options in ({}, {"batch_tokens": 900}):
        loader = Loader(store, ENCODER, DataConfig(batch_size=100, workers=0, **options), seed=0)  # type: ignore[arg-type]
        orders = []
        for epoch in (0, 1):
            first = sum(loader.steps_per_epoch(e) for e in range(epoch))
            steps = [loader.step(first + place) for place in range(loader.steps_per_epoch(epoch))]
            assert [step.epoch for step in steps] == [epoch] * len(steps)
            assert loader.locate(first) == (epoch, 0) and loader.locate(first + len(steps)) == (epoch + 1, 0)
            seen = [i for step in steps for batch in step.batches for i in batch.sentence_ids.tolist()]
            assert sorted(seen) == ids.tolist()
            orders.append(seen)
        assert orders[0] != orders[1]


def test_dynamic_masks_differ_between_epochs_static_ones_do_not(store: Store) -> None:
    for masking, equal in (("dynamic", False), ("static", True)):
        loader = Loader(store, ENCODER, DataConfig(batch_size=10_000, masking=masking, workers=0), seed=0)
        first, second = by_sentence(loader.step(0)), by_sentence(loader.step(1))
        assert (first == second) is equal
        assert first.keys() == second.keys()


def test_fewer_sentences_than_a_batch_or_the_world(store: Store) -> None:
    few = {"share": 0.003, "batch_size": 256}
    count = len(store.select("train", DataConfig(share=0.003)))
    assert 0 < count < 8
    steps = [take(store, 3, rank=rank, world_size=8, **few) for rank in range(8)]
    for index in range(3):
        sizes = [len(rank[index].batches[0].sentence_ids) for rank in steps]
        assert sum(sizes) == count == steps[0][index].sentence_count and max(sizes) == 1
        empty = steps[sizes.index(0)][index].batches[0]
        assert (
            empty.cu_seqlens.tolist() == [0] and empty.max_seqlen == 0 and len(empty.tokens) == len(empty.targets) == 0
        )
        assert [rank[index].epoch for rank in steps] == [index] * 8


def test_all_masked_and_none_masked(store: Store) -> None:
    (step,) = take(store, 1, mask_rate=1.0)
    assert step.target_count == step.token_count - 2 * step.sentence_count
    (step,) = take(store, 1, mask_rate=1e-9)
    assert step.target_count == 0 == len(step.batches[0].targets)
    with pytest.raises(ConfigError, match="--mask-rate 0 leaves"):
        take(store, 1, mask_rate=0.0)
    assert take(store, 1, mask_rate=0.0, model=DECODER)[0].target_count > 0
    for wrong in ({"mask_rate": float("nan")}, {"mask_rate": -0.1}, {"mask_keep": 0.7, "mask_random": 0.7}):
        with pytest.raises(ConfigError):
            take(store, 1, **wrong)


def test_what_cannot_be_is_refused(store: Store) -> None:
    for world in ({"rank": 2, "world_size": 2}, {"rank": -1}, {"accumulate": 0}):
        with pytest.raises(ConfigError):
            take(store, 1, **world)
    with pytest.raises(DataError, match="401 vocabulary entries"):
        take(store, 1, model=ModelConfig(vocab_size=401))
    with pytest.raises(DataError, match="401 vocabulary entries"):
        next(validation(store, ModelConfig(vocab_size=401), SMALL, sentences=0))
    with pytest.raises(DataError, match="--seq-len is 64"):
        take(store, 1, long="refuse")
    take(store, 1, model=ModelConfig(vocab_size=400))


def test_describe_counts_what_is_cut(store: Store) -> None:
    facts = Loader(store, ENCODER, SMALL, seed=0).describe()
    ids = store.select("train", DataConfig())
    lengths = store.offsets[ids + 1] - store.offsets[ids]
    assert facts["sentences"] == len(ids) and facts["cut_sentences"] == (lengths > 62).sum() > 0
    assert facts["tokens_per_epoch"] == lengths.clip(max=62).sum() + 2 * len(ids)
    assert facts["dropped_tokens"] == (lengths - 62).clip(min=0).sum()
    assert facts["steps_per_epoch"] == -(-len(ids) // 100)


def test_a_failing_worker_stops_the_training_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(store, ENCODER, DataConfig(batch_size=100, workers=2), seed=0)
    steps = loader.steps(0)
    next(steps)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no memory for a batch")

    monkeypatch.setattr(module, "pack_encoder", fail)
    with pytest.raises(MemoryError, match="no memory for a batch"):
        list(steps)
    loader.close()


def test_close_leaves_no_thread_and_the_next_order_is_ready(store: Store) -> None:
    loader = Loader(store, ENCODER, DataConfig(batch_size=100, workers=2), seed=0)
    made = []
    plan = loader._make_plan
    loader._plan._make = lambda epoch: (made.append(epoch), plan(epoch))[1]
    for start in (3, 0):  # also when started in the middle of an epoch
        steps = loader.steps(start)
        next(steps)
        loader.close()
        loader._planned = 0
    assert 1 in made
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fastlm")]
    assert list(steps) == []


@pytest.mark.parametrize("model", [ENCODER, DECODER], ids=["encoder", "decoder"])
def test_validation_is_fixed(store: Store, model: ModelConfig) -> None:
    plain = list(validation(store, model, SMALL, sentences=0, batch_tokens=300))
    other = DataConfig(masking="static", mask_unit="word", mask_rate=0.5, batch_size=3, share=0.1, workers=4)
    assert same(list(validation(store, model, other, sentences=0, batch_tokens=300)), plain)
    found = by_sentence(plain)
    assert sorted(found) == store.select("valid", DataConfig()).tolist()
    assert all(len(batch.tokens) <= 300 for batch in plain)
    # The batching does not matter, nor do the ranks; every rank has as many batches as the others.
    assert by_sentence(list(validation(store, model, SMALL, sentences=0, batch_tokens=77))) == found
    ranks = [
        list(validation(store, model, SMALL, sentences=0, batch_tokens=99, rank=r, world_size=3)) for r in range(3)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    assert by_sentence([batch for rank in ranks for batch in rank]) == found


def test_validation_samples_are_nested_and_masked_at_the_usual_rate(store: Store) -> None:
    sizes = (1, 10, 40)
    samples = [by_sentence(list(validation(store, ENCODER, SMALL, sentences=size))) for size in sizes]
    assert [len(sample) for sample in samples] == list(sizes)
    assert all(small.items() <= large.items() for small, large in itertools.pairwise(samples))
    batches = list(validation(store, ENCODER, SMALL, sentences=0))
    tokens = sum(len(batch.tokens) - 2 * len(batch.sentence_ids) for batch in batches)
    assert abs(sum(len(batch.targets) for batch in batches) / tokens - 0.15) < 0.02
    reseeded = by_sentence(list(validation(store, ENCODER, SMALL, sentences=0, seed=1)))
    assert reseeded.keys() == by_sentence(batches).keys() and reseeded != by_sentence(batches)


def test_validation_in_one_language_or_where_nothing_is_held_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    korean = list(validation(store, ENCODER, DataConfig(languages=("ko",)), sentences=0))
    ids = [i for batch in korean for i in batch.sentence_ids.tolist()]
    assert ids and all(store.language_names[store.languages[i]] == "ko" for i in ids)
    monkeypatch.setattr(store, "split", store.split * 0)
    assert list(validation(store, ENCODER, SMALL, sentences=0)) == []
