"""What a classifier says of texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastlm.batch import Batch
from fastlm.models.classifier import TextClassifier
from fastlm.models.generate import check_ids, evaluating, pack


def classify(model: TextClassifier, texts: Sequence[Sequence[int]], *, batch_tokens: int = 16_384) -> Tensor:
    """The probability of every class for every text, (N, classes) fp32 on the CPU.

    Args:
        model: run without dropout, its mode is restored.
        texts: ids of each, with ``[BOS]`` and ``[EOS]``; texts of like lengths are read together.
        batch_tokens: read at once.

    Raises:
        ValueError: an empty or too long text, an id outside the vocabulary.
    """
    for i, ids in enumerate(texts):
        if not 1 <= len(ids) <= model.config.seq_len:
            raise ValueError(f"text {i} has {len(ids)} tokens; the model reads 1 to {model.config.seq_len} of them")
        check_ids(model.encoder, ids, f"text {i}")
    found = torch.empty(len(texts), len(model.config.labels))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    with evaluating(model):
        for members in _batches(order, [len(text) for text in texts], batch_tokens):
            logits = model(batch_of([texts[i] for i in members], model.device))
            found[members] = logits.float().softmax(-1).cpu()
    return found


def _batches(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    room = 0
    for i in order:
        if room < lengths[i]:
            batches.append([])
            room = max(batch_tokens, lengths[i])
        batches[-1].append(i)
        room -= lengths[i]
    return batches


def batch_of(texts: Sequence[Sequence[int]], device: torch.device) -> Batch:
    """Texts end to end, without targets."""
    tokens, positions, cu_seqlens, longest = pack(texts, device)
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    return Batch(tokens, positions, cu_seqlens, longest, nothing, nothing, nothing, nothing)
