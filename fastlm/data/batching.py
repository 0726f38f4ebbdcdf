"""Which sentences make which batch, and what a batch holds.

Pure functions of (store, options, seed, epoch, step): the epoch's order is a global shuffle, a global batch is a run of
that order, and each rank takes its share of every global batch. So the batches do not depend on threads, and the union
of all ranks' batches does not depend on the world size or on accumulation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastlm.batch import Batch, Source
from fastlm.data.host import shuffled
from fastlm.data.masking import MaskPolicy, Sentences, mask_tokens
from fastlm.data.store import Corpus
from fastlm.errors import DataError

Ints = NDArray[np.int64]
FRAME = 2  # [BOS] and [EOS]; a decoder's input leaves [EOS] out, but both kinds make the same batches


@dataclass(frozen=True)
class Pieces:
    """P sentences, or parts of long ones, that fit the model.

    Attributes:
        sentences: (P,) int64, ids in the store.
        starts: (P,) int64, first token within the sentence.
        lengths: (P,) int64, tokens, without specials.
        complete: (P,) bool, the piece ends where its sentence ends.
        cut: sentences that were longer than the model takes.
        dropped: tokens lost to truncation.
    """

    sentences: Ints
    starts: Ints
    lengths: Ints
    complete: NDArray[np.bool_]
    cut: int
    dropped: int

    def __len__(self) -> int:
        return len(self.sentences)

    def take(self, members: Ints) -> Pieces:
        """Some of the pieces; the counts stay those of the whole."""
        return replace(
            self,
            sentences=self.sentences[members],
            starts=self.starts[members],
            lengths=self.lengths[members],
            complete=self.complete[members],
        )


def cut_to_fit(store: Corpus, ids: Ints, seq_len: int, long: str) -> Pieces:
    """The sentences ``ids`` as pieces of at most ``seq_len`` tokens, counting ``[BOS]`` and ``[EOS]``.

    Of longer ones ``long="truncate"`` keeps the beginning, ``"split"`` makes several pieces, ``"refuse"`` stops.

    Raises:
        DataError: ``refuse`` and a longer sentence; it names the longest.
    """
    room = seq_len - FRAME
    lengths = store.offsets[ids + 1] - store.offsets[ids]
    too_long = int((lengths > room).sum())
    if too_long and long == "refuse":
        raise DataError(_too_long(store, int(ids[np.argmax(lengths)]), int(lengths.max()), seq_len, too_long))
    if long == "split":
        parts = np.maximum(1, -(-lengths // room))
        owner = np.repeat(np.arange(len(ids)), parts)
        starts = (np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)) * room
        size = np.minimum(lengths[owner] - starts, room)
    else:
        owner, starts, size = np.arange(len(ids)), np.zeros(len(ids), np.int64), np.minimum(lengths, room)
    return Pieces(
        sentences=ids[owner],
        starts=starts,
        lengths=size,
        complete=starts + size == lengths[owner],
        cut=too_long,
        dropped=int(lengths.sum() - size.sum()),
    )


def _too_long(store: Corpus, sentence: int, length: int, seq_len: int, count: int) -> str:
    domain = store.domain_names[store.domains[sentence]]
    language = store.language_names[store.languages[sentence]]
    return (
        f"{domain}, row {store.rows[sentence]} ({language}): {length + FRAME} tokens with [BOS] and [EOS], "
        f"--seq-len is {seq_len} ({count:,} such sentences); raise --seq-len, or take --long truncate or --long split"
    )


@dataclass(frozen=True)
class Plan:
    """One epoch: ``order`` (P,) int64 over the pieces, cut into batches at ``bounds`` (steps + 1,) int64."""

    order: Ints
    bounds: Ints

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def members(self, step: int) -> Ints:
        """The pieces of a step's global batch."""
        return self.order[self.bounds[step] : self.bounds[step + 1]]


def plan_epoch(lengths: Ints, *, seed: int, epoch: int, batch_size: int, batch_tokens: int) -> Plan:
    """A global shuffle, cut into batches: ``batch_tokens`` tokens at most when given, else ``batch_size`` sentences.

    ``lengths`` (P,) are those of `Pieces`, without specials.
    """
    count = len(lengths)
    order = shuffled(seed, epoch, count)
    if batch_tokens:
        return Plan(order, fill(lengths[order] + FRAME, batch_tokens))
    return Plan(order, np.append(np.arange(0, count, batch_size), count))


def fill(sizes: Ints, budget: int) -> Ints:
    """Bounds of runs that hold at most ``budget`` in sum, filled greedily; a larger item makes a run alone."""
    ends = np.cumsum(sizes)
    bounds, spent = [0], 0
    while bounds[-1] < len(sizes):
        last = max(int(ends.searchsorted(spent + budget, side="right")), bounds[-1] + 1)
        bounds.append(last)
        spent = int(ends[last - 1])
    return np.array(bounds, dtype=np.int64)


def deal(sizes: Ints, slots: int) -> Ints:
    """A slot for each item, balanced in count and in sum: largest first, back and forth over the slots."""
    dealt = np.empty(len(sizes), dtype=np.int64)
    turn, place = np.divmod(np.arange(len(sizes)), slots)
    dealt[np.argsort(-sizes, kind="stable")] = np.where(turn % 2 == 0, place, slots - 1 - place)
    return dealt


@dataclass(frozen=True)
class Packed:
    """Whole pieces end to end, in numpy; ``labels`` is the id to predict at a token, or -1.

    ``source`` is what the pieces translate, piece by piece, or None.
    """

    tokens: Ints
    labels: Ints
    cu_seqlens: Ints
    sentences: Ints
    source: Packed | None = None

    @property
    def lengths(self) -> Ints:
        """(B,) tokens of each sentence."""
        return np.diff(self.cu_seqlens)

    @property
    def target_count(self) -> int:
        """Tokens with something to predict."""
        return int((self.labels >= 0).sum())

    @property
    def token_count(self) -> int:
        """Tokens, those of sources too."""
        return len(self.tokens) + (0 if self.source is None else self.source.token_count)

    def translating(self, source: Packed) -> Packed:
        """The same pieces as translations of others."""
        return replace(self, source=source)

    def take(self, members: Ints) -> Packed:
        """Some of the sentences."""
        lengths = self.lengths[members]
        rows = _ranges(self.cu_seqlens[:-1][members], lengths)
        source = None if self.source is None else self.source.take(members)
        return Packed(self.tokens[rows], self.labels[rows], _offsets(lengths), self.sentences[members], source)

    def batch(self) -> Batch:
        """As tensors."""
        lengths, rows = self.lengths, np.flatnonzero(self.labels >= 0)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        return Batch(
            **self._laid_out(),
            target_rows=torch.from_numpy(rows),
            targets=torch.from_numpy(self.labels[rows]),
            target_sentences=torch.from_numpy(owner[rows]),
            sentence_ids=torch.from_numpy(self.sentences),
            source=None if self.source is None else Source(**self.source._laid_out()),
        )

    def _laid_out(self) -> dict[str, Any]:
        lengths = self.lengths
        return {
            "tokens": torch.from_numpy(self.tokens),
            "positions": torch.from_numpy(_ranges(np.zeros_like(lengths), lengths)),
            "cu_seqlens": torch.from_numpy(self.cu_seqlens.astype(np.int32)),
            "max_seqlen": int(lengths.max(initial=0)),
        }


def pack_encoder(store: Corpus, pieces: Pieces, policy: MaskPolicy, *, seed: int, epoch: int) -> Packed:
    """``[BOS] x [EOS]`` of each piece, masked; the labels are what the mask hides."""
    plain = pack_plain(store, pieces)
    sentences = Sentences(plain.tokens, plain.cu_seqlens, pieces.sentences, pieces.starts)
    masked, rows, targets = mask_tokens(sentences, policy, seed=seed, epoch=epoch)
    plain.labels[rows] = targets
    return replace(plain, tokens=masked)


def pack_plain(store: Corpus, pieces: Pieces) -> Packed:
    """``[BOS] x [EOS]`` of each piece, with nothing to predict."""
    tokens, cu_seqlens = _framed(store, pieces, after=1)
    tokens[cu_seqlens[1:] - 1] = store.tokenizer.eos_id
    return Packed(tokens, np.full(len(tokens), -1, dtype=np.int64), cu_seqlens, pieces.sentences)


def pack_decoder(store: Corpus, pieces: Pieces) -> Packed:
    """``[BOS] x`` of each piece; the labels are ``x [EOS]``. Where a sentence was cut, its end is not predicted."""
    tokens, cu_seqlens = _framed(store, pieces, after=0)
    labels = np.append(tokens[1:], 0)
    labels[cu_seqlens[1:] - 1] = np.where(pieces.complete, store.tokenizer.eos_id, -1)
    return Packed(tokens, labels[: len(tokens)], cu_seqlens, pieces.sentences)


def _framed(store: Corpus, pieces: Pieces, after: int) -> tuple[Ints, Ints]:
    """``[BOS] x`` and room for ``after`` more tokens, of each piece, and where each begins."""
    cu_seqlens = _offsets(pieces.lengths + 1 + after)
    tokens = np.empty(cu_seqlens[-1], dtype=np.int64)
    tokens[cu_seqlens[:-1]] = store.tokenizer.bos_id
    source = _ranges(store.offsets[pieces.sentences] + pieces.starts, pieces.lengths)
    tokens[_ranges(cu_seqlens[:-1] + 1, pieces.lengths)] = store.tokens[source]
    return tokens, cu_seqlens


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """``starts[0], starts[0] + 1, ...`` of each length in turn."""
    before = np.cumsum(lengths) - lengths
    ranges: Ints = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)
    return ranges
