"""The one layout between data and models: packed tokens (docs/design.md, "One layout inside")."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor's copy on another device (itself where it is there), without waiting for what is queued there.

    To a GPU by way of pinned memory: from any other the copy would wait.
    """
    pinned = device.type == "cuda" and tensor.is_cpu
    return (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=True)


@dataclass(frozen=True)
class Source:
    """What is translated: B sentences laid end to end, the b-th for the b-th of a batch. S tokens.

    Attributes:
        tokens: (S,) int64.
        positions: (S,) int64, 0-based place of each token in its own sentence.
        cu_seqlens: (B+1,) int32.
        max_seqlen: the longest.
    """

    tokens: Tensor
    positions: Tensor
    cu_seqlens: Tensor
    max_seqlen: int


@dataclass(frozen=True)
class Batch:
    """Whole sentences laid end to end; nothing is padded. T tokens in B sentences, M of them with a target.

    Attributes:
        tokens: (T,) int64, ids in [0, vocab_size), specials included.
        positions: (T,) int64, 0-based place of each token in its own sentence.
        cu_seqlens: (B+1,) int32, first row of each sentence; ``cu_seqlens[0] == 0``, ``cu_seqlens[B] == T``.
        max_seqlen: the longest sentence, a Python int (0 for an empty batch).
        target_rows: (M,) int64, rows of ``tokens`` whose output is scored, ascending.
        targets: (M,) int64, the ids to predict there.
        target_sentences: (M,) int64, which of the B sentences each target belongs to.
        sentence_ids: (B,) int64, ids in the token store.
        source: what the sentences translate; None in a language model's batch.
    """

    tokens: Tensor
    positions: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    target_rows: Tensor
    targets: Tensor
    target_sentences: Tensor
    sentence_ids: Tensor
    source: Source | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch with every tensor on ``device``; the host does not wait for it."""
        source = None if self.source is None else _moved(self.source, device)
        return dataclasses.replace(_moved(self, device), source=source)


Parts = TypeVar("Parts", Batch, Source)


def _moved(parts: Parts, device: torch.device) -> Parts:
    moved: dict[str, Any] = {
        f.name: to_device(value, device)
        for f in dataclasses.fields(parts)
        if isinstance(value := getattr(parts, f.name), Tensor)
    }
    return dataclasses.replace(parts, **moved)


@dataclass(frozen=True)
class Step:
    """What one rank computes for one optimizer step.

    Attributes:
        epoch, index: 0-based epoch, and 0-based global step (over all epochs).
        batches: this rank's micro-batches, one per accumulation step; any of them may be empty (T = 0).
        target_count: targets in the *global* batch, over all ranks and micro-batches: the loss is divided by it, so
            that accumulation and data parallelism equal the big batch exactly.
        token_count: real tokens in the global batch.
        sentence_count: sentences in the global batch.
    """

    epoch: int
    index: int
    batches: tuple[Batch, ...]
    target_count: int
    token_count: int
    sentence_count: int
