"""Counts from the config against the model itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fastlm.batch import Batch
from fastlm.models import build
from fastlm.models.config import ModelConfig
from fastlm.models.size import flops_per_token, parameter_count

SMALL = {"layers": 3, "d_model": 32, "heads": 2, "ff": 80, "dropout": 0.0, "seq_len": 24, "vocab_size": 70}


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"model": "decoder"},
        {"norm": "post"},
        {"positions": "rotary"},
        {"positions": "sinusoidal", "head": "transform"},
        {"model": "seq2seq", "decoder_layers": 1},
        {"model": "seq2seq", "embeddings": "separate", "norm": "post"},
        *({"model": "classifier", "pooling": pooling, "labels": ("a", "b")} for pooling in ("mean", "first", "cnn")),
    ],
    ids=str,
)
def test_parameter_count(choices: dict[str, str]) -> None:
    config = ModelConfig(**{**SMALL, **choices})
    assert parameter_count(config) == sum(p.numel() for p in build(config).parameters())


@pytest.mark.parametrize("head", ["tied", "transform"])
def test_flops_are_what_the_matrix_products_do(head: str, make_batch: Callable[..., Batch]) -> None:
    """All but attention, counted by PyTorch; with every row a target the last block is not shortened."""
    config = ModelConfig(**SMALL, head=head)
    model, batch = build(config), make_batch((9, 15), 70)
    names = {"mm", "addmm"}
    with FlopCounterMode(display=False) as counter:
        logits = model(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen)
        logits.sum().backward()
    counts = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    counted = sum(n for op, n in counts.items() if op.split(".")[-1] in names)
    assert flops_per_token(config, sequence_length=0, target_share=1.0) * 24 == counted


def test_attention_flops_of_one_full_sentence() -> None:
    """12 * layers * d * S a token; the causal half for a decoder."""
    encoder, decoder = ModelConfig(**SMALL), ModelConfig(**SMALL, model="decoder")
    for config, factor in ((encoder, 1.0), (decoder, 0.5)):
        attention = flops_per_token(config) - flops_per_token(config, sequence_length=0)
        assert attention == 12 * 3 * 32 * 24 * factor


def test_record_model_counts() -> None:
    """The record's encoder: 6 layers, d 512, ff 2048; 3.15 M weights a block."""
    config = ModelConfig(vocab_size=30_000)
    assert parameter_count(config) == 30_000 * 512 + 256 * 512 + 6 * 3_152_384 + 2 * 1024
    assert torch.tensor(flops_per_token(config, sequence_length=20)).log10().item() == pytest.approx(8.1, abs=0.05)
