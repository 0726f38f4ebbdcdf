"""Training steps to compare: fastlm's, Hugging Face's on the same sentences, and the step's matrix products alone.

A step is forward, backward, clipping and AdamW, on each of a list of batches in turn; dropout is 0.1 wherever the model
has it, the activation is ReLU. Padding counts as time, not as tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastlm import models, ops
from fastlm.batch import Batch
from fastlm.models.config import ModelConfig
from fastlm.train import optim
from fastlm.train.config import TrainConfig

DROPOUT, CLIP = 0.1, 1.0
MASKED = 0.15
SPECIALS, MASK = 7, 4
LONGEST = 256
IGNORED = -100  # Hugging Face's label of what is not predicted

Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Size:
    """The model's sizes; both stacks are built from them."""

    layers: int = 6
    d_model: int = 512
    heads: int = 8
    ff: int = 2048
    vocab_size: int = 30_000


RECORD = Size()  # the record's first case
SMOKE = Size(layers=1, d_model=64, heads=2, ff=128, vocab_size=500)


def make_batch(lengths: list[int], kind: str, vocabulary: int) -> Batch:
    """Random tokens at the given lengths. The encoder predicts 15 % of them, the decoder each."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor(lengths)
    total = int(sizes.sum())
    tokens = torch.randint(SPECIALS, vocabulary, (total,), generator=generator)
    starts = nn.functional.pad(sizes.cumsum(0), (1, 0))
    sentence = torch.repeat_interleave(torch.arange(len(lengths)), sizes)
    if kind == "encoder":
        rows = torch.randperm(total, generator=generator)[: max(1, round(MASKED * total))].sort().values
        targets, read = tokens[rows], tokens.index_fill(0, rows, MASK)
    else:
        rows, targets, read = torch.arange(total), tokens.roll(-1), tokens
    return Batch(
        tokens=read,
        positions=torch.arange(total) - starts[sentence],
        cu_seqlens=starts.to(torch.int32),
        max_seqlen=max(lengths),
        target_rows=rows,
        targets=targets,
        target_sentences=sentence[rows],
        sentence_ids=torch.arange(len(lengths)),
    )


def precision(dtype: torch.dtype, device: str = "cpu") -> contextlib.AbstractContextManager[Any]:
    """Autocast, unless fp32 is asked for."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)


def fastlm_step(
    size: Size, kind: str, batches: list[Batch], dtype: torch.dtype, device: str = "cpu", compiled: bool = False
) -> Step:
    """Our own, as the trainer runs it; the batches are on the device."""
    model = models.build(ModelConfig(model=kind, dropout=DROPOUT, **vars(size))).to(device)
    if compiled:
        model.compile()
    optimizer = optim.build(model, TrainConfig(clip=CLIP))
    parameters = list(model.parameters())

    def step() -> Tensor:
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            with precision(dtype, device):
                loss = model.loss(batch).loss / batch.targets.numel()
            loss.backward()
            optim.clip(optimizer, ops.total_norm([p.grad for p in parameters if p.grad is not None]), CLIP)
            optimizer.step()
        return loss.detach()

    return step


def products_step(size: Size, kind: str, batches: list[Batch], dtype: torch.dtype) -> Step:
    """The matrix products of a plain packed step and nothing else: forward, and two for each in the backward.

    Every token goes through every layer; the head sees the rows with a target. Inputs and results lie ready, in dtype.
    """
    d = size.d_model
    widths = [(d, 3 * d), (d, d), (d, size.ff), (size.ff, d)]
    layers = [_Products(len(b.tokens), i, o, dtype) for b in batches for i, o in widths for _ in range(size.layers)]
    heads = [_Products(len(b.targets), d, size.vocab_size, dtype) for b in batches]

    def step() -> Tensor:
        for products in (*layers, *heads):
            products.run()
        return torch.tensor(float(size.vocab_size)).log()

    return step


class _Products:
    """One linear layer's three products."""

    def __init__(self, rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> None:
        self.x, self.grad_x = (torch.randn(rows, inputs).to(dtype) for _ in range(2))
        self.weight, self.grad_weight = (torch.randn(outputs, inputs).to(dtype) for _ in range(2))
        self.y = torch.randn(rows, outputs).to(dtype)

    def run(self) -> None:
        torch.mm(self.x, self.weight.T, out=self.y)
        torch.mm(self.y, self.weight, out=self.grad_x)
        torch.mm(self.y.T, self.x, out=self.grad_weight)


def hugging_face_step(
    size: Size,
    kind: str,
    batches: list[Batch],
    dtype: torch.dtype,
    *,
    pad_to: int = 0,
    compiled: bool = False,
    device: str = "cpu",
) -> Step:
    """BertForMaskedLM or GPT2LMHeadModel (SDPA), padded to the longest sentence of each batch or to ``pad_to``."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = (_bert if kind == "encoder" else _gpt2)(transformers, size).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    parameters = list(model.parameters())
    forward = torch.compile(model, dynamic=True) if compiled else model
    inputs = [
        {name: x.to(device) for name, x in _padded(batch, kind, max(pad_to, batch.max_seqlen)).items()}
        for batch in batches
    ]

    def step() -> Tensor:
        for arguments in inputs:
            optimizer.zero_grad(set_to_none=True)
            with precision(dtype, device):
                loss = forward(**arguments).loss
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
        return loss.detach()

    return step


def _bert(transformers: Any, size: Size) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=size.vocab_size,
        hidden_size=size.d_model,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.ff,
        hidden_act="relu",
        max_position_embeddings=LONGEST,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
        attn_implementation="sdpa",
    )
    return transformers.BertForMaskedLM(config).train()


def _gpt2(transformers: Any, size: Size) -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=size.vocab_size,
        n_embd=size.d_model,
        n_layer=size.layers,
        n_head=size.heads,
        n_inner=size.ff,
        activation_function="relu",
        n_positions=LONGEST,
        resid_pdrop=DROPOUT,
        embd_pdrop=DROPOUT,
        attn_pdrop=DROPOUT,
        use_cache=False,
        bos_token_id=2,
        eos_token_id=3,
        attn_implementation="sdpa",
    )
    return transformers.GPT2LMHeadModel(config).train()


def _padded(batch: Batch, kind: str, width: int) -> dict[str, Tensor]:
    """(B, width) tokens and labels; no mask where nothing is padded. GPT-2 shifts its labels itself."""
    real = torch.arange(width) < batch.cu_seqlens.diff()[:, None]
    tokens = torch.zeros(real.shape, dtype=torch.int64).masked_scatter(real, batch.tokens)
    at_targets = torch.full_like(batch.tokens, IGNORED).index_copy(0, batch.target_rows, batch.targets)
    flat = at_targets if kind == "encoder" else batch.tokens
    labels = torch.full(real.shape, IGNORED).masked_scatter(real, flat)
    mask = {} if bool(real.all()) else {"attention_mask": real.long()}
    return {"input_ids": tokens, "labels": labels, **mask}
