"""One training step of the record's encoder (d 512 x 6, vocabulary 30,000) in real tokens a second.

Beside it Hugging Face's BertForMaskedLM of the same sizes, padded to the longest sentence of the batch, as the record
trained. Both run forward, backward and AdamW on the same sentences; padding counts as time, not as tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastlm import models
from fastlm.batch import Batch
from fastlm.models.config import ModelConfig

SIZES = {
    "smoke": {"sentences": 4, "layers": 1, "d_model": 64, "heads": 2, "ff": 128, "vocab_size": 500},
    "record": {"sentences": 24, "layers": 6, "d_model": 512, "heads": 8, "ff": 2048, "vocab_size": 30_000},
}
MASKED = 0.15
SPECIALS, MASK = 7, 4


def make_batch(lengths: list[int], vocabulary: int) -> Batch:
    """Random tokens at the given lengths, 15 % of them masked."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor(lengths)
    total = int(sizes.sum())
    tokens = torch.randint(SPECIALS, vocabulary, (total,), generator=generator)
    rows = torch.randperm(total, generator=generator)[: max(1, round(MASKED * total))].sort().values
    targets = tokens[rows]
    starts = nn.functional.pad(sizes.cumsum(0), (1, 0))
    sentence = torch.repeat_interleave(torch.arange(len(lengths)), sizes)
    return Batch(
        tokens=tokens.index_fill(0, rows, MASK),
        positions=torch.arange(total) - starts[sentence],
        cu_seqlens=starts.to(torch.int32),
        max_seqlen=max(lengths),
        target_rows=rows,
        targets=targets,
        target_sentences=sentence[rows],
        sentence_ids=torch.arange(len(lengths)),
    )


def fastlm_step(size: dict[str, int], batch: Batch) -> Callable[[], Tensor]:
    model = models.build(ModelConfig(**{key: value for key, value in size.items() if key != "sentences"}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = model.loss(batch).loss / batch.targets.numel()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def hugging_face_step(size: dict[str, int], batch: Batch) -> Callable[[], Tensor]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=size["vocab_size"],
        hidden_size=size["d_model"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=size["ff"],
        max_position_embeddings=256,
        attn_implementation="sdpa",
    )
    model = transformers.BertForMaskedLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    lengths = batch.cu_seqlens.diff()
    real = torch.arange(batch.max_seqlen) < lengths[:, None]  # (B, S)
    tokens = torch.zeros(real.shape, dtype=torch.int64).masked_scatter(real, batch.tokens)
    flat = torch.full_like(batch.tokens, -100).index_copy(0, batch.target_rows, batch.targets)
    labels = torch.full(real.shape, -100).masked_scatter(real, flat)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = model(input_ids=tokens, attention_mask=real.long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.parametrize("provider", [fastlm_step, hugging_face_step], ids=["fastlm", "hugging_face_padded"])
@pytest.mark.parametrize("size", SIZES)
def test_encoder_step(measure: Any, lengths: Callable[[int], list[int]], size: str, provider: Any) -> None:
    torch.manual_seed(0)
    batch = make_batch(lengths(SIZES[size]["sentences"]), SIZES[size]["vocab_size"])
    step = provider(SIZES[size], batch)
    first = float(step())
    uniform = float(torch.tensor(float(SIZES[size]["vocab_size"])).log())
    assert abs(first - uniform) < 1.5, (
        f"an untrained model should lose about ln(vocabulary) = {uniform:.2f}, not {first:.2f}"
    )
    measure(step, group=f"encoder training step {size}", tokens=int(batch.tokens.numel()), rounds=2)
