"""Small packed batches for the model tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from fastlm.batch import Batch

MakeBatch = Callable[..., Batch]


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    """``make_batch(lengths, vocab_size, every=1, seed=0)``: random sentences, every ``every``-th token a target."""

    def make(lengths: Sequence[int], vocab_size: int, *, every: int = 1, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        total = sum(lengths)
        rows = torch.arange(0, total, every)
        sentences = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.int64))
        return Batch(
            tokens=torch.randint(vocab_size, (total,), generator=generator),
            positions=torch.cat([torch.arange(n) for n in lengths] or [torch.empty(0, dtype=torch.int64)]),
            cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
            max_seqlen=max(lengths, default=0),
            target_rows=rows,
            targets=torch.randint(vocab_size, rows.shape, generator=generator),
            target_sentences=sentences[rows],
            sentence_ids=torch.arange(len(lengths)),
        )

    return make
