"""The whole of a model learns: a tiny one memorises eight sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fastlm.batch import Batch
from fastlm.models import build
from fastlm.models.config import ModelConfig

VOCAB, MASK = 60, 4


def as_masked_lm(batch: Batch) -> Batch:
    """Every third token hidden; what it was is the target."""
    targets = batch.tokens[batch.target_rows].clone()
    batch.tokens[batch.target_rows] = MASK
    batch.targets.copy_(targets)
    return batch


def as_causal_lm(batch: Batch) -> Batch:
    """Every token predicts its successor; each sentence starts with an id of its own, so that all is predictable."""
    starts = batch.cu_seqlens[:-1].long()
    batch.tokens[starts] = torch.arange(len(starts)) + 5
    batch.targets.copy_(batch.tokens.roll(-1))
    return batch


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_eight_sentences_are_memorised(kind: str, norm: str, make_batch: Callable[..., Batch]) -> None:
    lengths = (7, 4, 10, 5, 8, 6, 9, 3)
    batch = make_batch(lengths, VOCAB, every=3 if kind == "encoder" else 1)
    batch = as_masked_lm(batch) if kind == "encoder" else as_causal_lm(batch)
    torch.manual_seed(0)
    config = ModelConfig(
        model=kind, norm=norm, layers=2, d_model=64, heads=4, ff=128, dropout=0.0, seq_len=10, vocab_size=VOCAB
    )
    model = build(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(batch, reduction="mean").loss.backward()
        optimizer.step()
    result = model.loss(batch, reduction="mean")
    assert result.loss.item() < 0.05 and result.row_correct.all()
