"""Batches for training, prefetched and resumable at any step, and batches for validation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from fastlm.batch import Batch, Step
from fastlm.data.batching import (
    FRAME,
    Ints,
    Packed,
    Pieces,
    Plan,
    cut_to_fit,
    deal,
    fill,
    pack_decoder,
    pack_encoder,
    plan_epoch,
)
from fastlm.data.config import DataConfig
from fastlm.data.labelled import pack_labelled
from fastlm.data.masking import MaskPolicy
from fastlm.data.pairs import Pairs, pack_pairs, pair_up
from fastlm.data.prefetch import Prefetcher, Shared
from fastlm.data.store import Corpus
from fastlm.errors import ConfigError, DataError
from fastlm.models.config import ModelConfig

_PLANS_KEPT = 3  # the last, the running and the next epoch


class Loader:
    """The steps of a run: a pure function of (store, options, seed), whatever the threads, ranks or place of resuming.

    Args:
        store: the prepared text.
        model: its kind and ``seq_len``; ``vocab_size`` 0 or the tokenizer's.
        data: masking and batching.
        seed: of order and masks.
        accumulate: micro-batches per step. rank, world_size: of this process.

    Raises:
        ConfigError: masking probabilities that cannot be, or that leave nothing to predict; an unknown language or
            domain; a rank outside the world.
        DataError: no training sentence; a long sentence with ``long="refuse"``; another vocabulary than the model's.
    """

    def __init__(
        self,
        store: Corpus,
        model: ModelConfig,
        data: DataConfig,
        *,
        seed: int,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not (0 <= rank < world_size and accumulate >= 1):
            raise ConfigError(f"rank {rank} of {world_size} with {accumulate} micro-batches cannot be")
        if model.model == "encoder" and data.mask_rate == 0:
            raise ConfigError("--mask-rate 0 leaves an encoder nothing to predict; give a rate above 0")
        _check_vocabulary(store, model)
        self._store, self._model, self._data, self._seed = store, model, data, seed
        self._accumulate, self._rank, self._world_size = accumulate, rank, world_size
        self._policy = MaskPolicy.of(store.tokenizer, data)
        self._pieces = _pieces(store, store.select("train", data), model, data)
        self._plan = Shared(self._make_plan, _PLANS_KEPT)
        self._step_counts: dict[int, int] = {}
        self._open: list[Prefetcher[Step]] = []
        self._planner: ThreadPoolExecutor | None = None
        self._planned = 0

    def steps_per_epoch(self, epoch: int) -> int:
        """Steps of an epoch (with ``batch_tokens`` it varies a little with the epoch's order)."""
        if not self._data.batch_tokens:
            return -(-len(self._pieces) // self._data.batch_size)
        if epoch not in self._step_counts:
            self._step_counts[epoch] = len(self._plan(epoch))
        return self._step_counts[epoch]

    def locate(self, step: int) -> tuple[int, int]:
        """(epoch, step within it) of a global step.

        At once for a number of sentences; with ``batch_tokens`` every earlier epoch's order is cut into batches once.
        """
        if not self._data.batch_tokens:
            return divmod(step, self.steps_per_epoch(0))
        epoch = 0
        while step >= self.steps_per_epoch(epoch):
            step -= self.steps_per_epoch(epoch)
            epoch += 1
        return epoch, step

    def steps(self, start: int = 0) -> Iterator[Step]:
        """Steps from global step ``start`` on, without end, made ahead by ``data.workers`` threads.

        Start it after any fork, in the process that reads from it. :meth:`close` ends the threads.
        """
        if self._data.workers and self._planner is None:
            self._planner = ThreadPoolExecutor(1, thread_name_prefix="fastlm-order")
        prefetcher = Prefetcher(self.step, start, self._data.workers)
        self._open.append(prefetcher)
        return prefetcher

    def step(self, index: int) -> Step:
        """The step of that global number, alone."""
        epoch, place = self.locate(index)
        plan = self._plan(epoch)
        self._plan_ahead(epoch + 1)
        packed = self._pack(self._pieces.take(plan.members(place)), epoch)
        slots = self._accumulate * self._world_size
        mine = range(self._rank, slots, self._world_size)
        return Step(
            epoch=epoch,
            index=index,
            batches=tuple(_slots(packed, slots, mine)),
            target_count=packed.target_count,
            token_count=packed.token_count,
            sentence_count=len(packed.sentences),
        )

    def describe(self) -> dict[str, Any]:
        """What a start-up line tells: sentences, tokens and steps of an epoch, and what was cut."""
        pieces = self._pieces
        return {
            "sentences": len(np.unique(pieces.sentences)),
            "pieces": len(pieces),
            "tokens_per_epoch": int(pieces.lengths.sum()) + FRAME * len(pieces),
            "steps_per_epoch": self.steps_per_epoch(0),
            "cut_sentences": pieces.cut,
            "dropped_tokens": pieces.dropped,
            "long": self._data.long,
            "seq_len": self._model.seq_len,
        }

    def close(self) -> None:
        """Ends every iterator of :meth:`steps` and its threads."""
        for prefetcher in self._open:
            prefetcher.close()
        self._open.clear()
        if self._planner is not None:
            self._planner.shutdown(wait=True, cancel_futures=True)
            self._planner = None

    def _plan_ahead(self, epoch: int) -> None:
        """Makes an epoch's order in a thread of its own, long before it is needed: no batch waits for it."""
        if self._planner is not None and self._planned < epoch:
            self._planned = epoch
            self._planner.submit(self._plan, epoch)

    def _make_plan(self, epoch: int) -> Plan:
        data = self._data
        return plan_epoch(
            self._pieces.lengths,
            seed=self._seed,
            epoch=epoch,
            batch_size=data.batch_size,
            batch_tokens=data.batch_tokens,
        )

    def _pack(self, pieces: Pieces | Pairs, epoch: int) -> Packed:
        mask_epoch = epoch if self._data.masking == "dynamic" else 0
        return _pack(self._store, self._model, pieces, self._policy, seed=self._seed, epoch=mask_epoch)


def validation(
    store: Corpus,
    model: ModelConfig,
    data: DataConfig,
    *,
    sentences: int,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    batch_tokens: int = 8192,
) -> Iterator[Batch]:
    """Held-out batches, the same for every run on this store, whatever its training mode and seed.

    None come where nothing is held out.

    Args:
        store: the prepared text.
        model: its kind and ``seq_len``.
        data: of it, languages, domains and ``long`` count.
        sentences: size of the fixed sample, 0 for all held-out sentences.
        seed: of the masks: epoch 0, single tokens, 15 % as 80/10/10.
        rank: of this process.
        world_size: every rank gets the same number of batches, some of them possibly empty.
        batch_tokens: tokens per batch and rank, at most.

    Raises:
        ConfigError: an unknown language or domain.
        DataError: another vocabulary than the model's.
    """
    _check_vocabulary(store, model)
    ids = np.sort(store.by_key(store.select("valid", data))[: sentences or None])
    pieces = _pieces(store, ids, model, data)
    pieces = pieces.take(np.argsort(pieces.lengths, kind="stable"))
    policy = MaskPolicy.of(store.tokenizer, DataConfig())
    bounds = fill(pieces.lengths + FRAME, batch_tokens * world_size)
    for first, last in pairwise(bounds):
        packed = _pack(store, model, pieces.take(np.arange(first, last)), policy, seed=seed, epoch=0)
        yield from _slots(packed, world_size, range(rank, rank + 1))


def _pieces(store: Corpus, ids: Ints, model: ModelConfig, data: DataConfig) -> Pieces | Pairs:
    """What the model reads of the sentences ``ids``."""
    if model.model == "seq2seq":
        return pair_up(store, ids, data.direction, model.seq_len, data.long)
    return cut_to_fit(store, ids, model.seq_len, data.long)


def _pack(
    store: Corpus, model: ModelConfig, pieces: Pieces | Pairs, policy: MaskPolicy, *, seed: int, epoch: int
) -> Packed:
    """As the model's kind wants it."""
    if isinstance(pieces, Pairs):
        return pack_pairs(store, pieces)
    if model.model == "classifier":
        return pack_labelled(store, pieces)
    if model.model == "decoder":
        return pack_decoder(store, pieces)
    return pack_encoder(store, pieces, policy, seed=seed, epoch=epoch)


def _slots(packed: Packed, slots: int, mine: range) -> Iterator[Batch]:
    """The batches of some of the slots a global batch is dealt to; slot m * world + r is micro-batch m of rank r."""
    if slots == 1:
        yield packed.batch()
        return
    slot_of = deal(packed.lengths, slots)
    for slot in mine:
        yield packed.take(np.flatnonzero(slot_of == slot)).batch()


def _check_vocabulary(store: Corpus, model: ModelConfig) -> None:
    if model.vocab_size not in (0, store.tokenizer.vocab_size):
        raise DataError(
            f"the model has {model.vocab_size} vocabulary entries, the store {store.path} was encoded with "
            f"{store.tokenizer.vocab_size}; use the model's own tokenizer and store"
        )
