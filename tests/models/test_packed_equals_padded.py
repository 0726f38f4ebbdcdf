"""The packed models against a padded transformer written out here in plain matrix products, from the same weights."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastlm.batch import Batch
from fastlm.models import LanguageModel, build
from fastlm.models.config import ModelConfig

Weights = dict[str, Tensor]

VOCAB = 41
LENGTHS = (5, 1, 12, 2, 7)  # shortest possible, longest possible, and between
SEQ_LEN = 12
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "swish": lambda x: x * torch.sigmoid(x),
}


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.pow(2).mean(-1, keepdim=True)
    return centred / (variance + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def position_table(config: ModelConfig, w: Weights, dtype: torch.dtype) -> Tensor:
    if config.positions == "learned":
        return w["embedding.positions.weight"]
    table = torch.zeros(config.seq_len, config.d_model, dtype=torch.float64)
    if config.positions == "sinusoidal":
        scale = min(0.02, 8 / config.d_model) * math.sqrt(2)
        for place, column in itertools.product(range(config.seq_len), range(config.d_model)):
            angle = place / 10_000 ** (2 * (column // 2) / config.d_model)
            table[place, column] = scale * (math.cos(angle) if column % 2 else math.sin(angle))
    return table.to(dtype)


def rotary_by_complex_numbers(x: Tensor) -> Tensor:
    """(B, H, S, D): the pair (i, i + D/2) as one complex number, multiplied by exp(i * place * frequency)."""
    size = x.shape[-1]
    frequencies = 10_000 ** (-2 * torch.arange(size // 2, dtype=torch.float64) / size)
    angles = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    pairs = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * torch.complex(cos, sin)
    return torch.cat((pairs.real, pairs.imag), -1)


def padded_attention(x: Tensor, real: Tensor, w: Weights, name: str, config: ModelConfig) -> Tensor:
    sentences, places, d = x.shape
    q, k, v = (
        part.reshape(sentences, places, config.heads, -1).transpose(1, 2)
        for part in linear(x, w, f"{name}.qkv").split(d, -1)
    )
    if config.positions == "rotary":
        q, k = rotary_by_complex_numbers(q), rotary_by_complex_numbers(k)
    visible = real[:, None, None, :]
    if config.model == "decoder":
        visible = visible & torch.ones(places, places, dtype=torch.bool).tril()
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~visible, -torch.inf)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    weights = weights / weights.sum(-1, keepdim=True)
    return linear((weights @ v).transpose(1, 2).reshape(x.shape), w, f"{name}.output")


def padded_logits(tokens: Tensor, real: Tensor, w: Weights, config: ModelConfig) -> Tensor:
    """(B, S) ids and which of them are real -> (B, S, V)."""
    table = position_table(config, w, w["embedding.tokens.weight"].dtype)
    x = layer_norm(w["embedding.tokens.weight"][tokens] + table[: tokens.shape[1]], w, "embedding.norm")
    for i in range(config.layers):
        block = f"blocks.{i}"

        def attention(y: Tensor, block: str = block) -> Tensor:
            return padded_attention(y, real, w, f"{block}.attention", config)

        def mlp(y: Tensor, block: str = block) -> Tensor:
            return linear(ACTIVATIONS[config.activation](linear(y, w, f"{block}.mlp.up")), w, f"{block}.mlp.down")

        if config.norm == "pre":
            x = x + attention(layer_norm(x, w, f"{block}.attention_norm"))
            x = x + mlp(layer_norm(x, w, f"{block}.mlp_norm"))
        else:
            x = layer_norm(x + attention(x), w, f"{block}.attention_norm")
            x = layer_norm(x + mlp(x), w, f"{block}.mlp_norm")
    if config.norm == "pre":
        x = layer_norm(x, w, "final_norm")
    if config.head == "transform":
        x = layer_norm(ACTIVATIONS["gelu"](linear(x, w, "head.dense")), w, "head.norm")
        return x @ w["embedding.tokens.weight"].T + w["head.bias"]
    return x @ w["embedding.tokens.weight"].T


def pad(batch: Batch) -> tuple[Tensor, Tensor]:
    lengths = batch.cu_seqlens.diff().tolist()
    tokens = torch.full((len(lengths), max(lengths)), VOCAB - 1)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens[real] = batch.tokens
    return tokens, real


def summed_loss(logits: Tensor, batch: Batch) -> Tensor:
    scored = logits[batch.target_rows]
    return (scored.logsumexp(-1) - scored.gather(1, batch.targets[:, None]).squeeze(1)).sum()


def run_padded(model: LanguageModel, batch: Batch, dtype: torch.dtype) -> tuple[Tensor, Weights]:
    """Packed logits of the padded model in ``dtype``, and the loss's gradient by parameter name."""
    w = {name: p.detach().to(dtype).requires_grad_() for name, p in model.named_parameters()}
    tokens, real = pad(batch)
    logits = padded_logits(tokens, real, w, model.config)[real]
    summed_loss(logits, batch).backward()
    return logits.detach(), {name: leaf.grad for name, leaf in w.items() if leaf.grad is not None}


def run_packed(model: LanguageModel, batch: Batch) -> tuple[Tensor, Weights]:
    model.zero_grad()
    logits = model(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen).detach()
    model.loss(batch).loss.backward()
    return logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def make_model(dtype: torch.dtype, **choices: object) -> LanguageModel:
    """Without dropout, and with weights large enough that every part of the model shows in the output."""
    config = ModelConfig(
        layers=2, d_model=32, heads=2, ff=48, dropout=0.0, seq_len=SEQ_LEN, vocab_size=VOCAB, **choices
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = build(config)
    finally:
        torch.set_default_dtype(before)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype)
    return model


def cases() -> list[dict[str, str]]:
    """Every pair of kind, norm and positions; heads and activations go along (they do not interact with packing)."""
    activations = itertools.cycle(ACTIVATIONS)
    heads = itertools.cycle(("transform", "tied"))
    kinds = itertools.product(("encoder", "decoder"), ("pre", "post"), ("learned", "sinusoidal", "rotary"))
    return [
        {
            "model": kind,
            "norm": norm,
            "positions": positions,
            "head": next(heads) if kind == "encoder" else "tied",
            "activation": next(activations),
        }
        for kind, norm, positions in kinds
    ]


@pytest.mark.parametrize("choices", cases(), ids=lambda c: "-".join(c.values()))
def test_logits_and_gradients_in_fp64(choices: dict[str, str], make_batch: Callable[..., Batch]) -> None:
    model = make_model(torch.float64, **choices)
    batch = make_batch(LENGTHS, VOCAB, every=1 if choices["model"] == "decoder" else 3)
    logits, grads = run_packed(model, batch)
    want_logits, want_grads = run_padded(model, batch, torch.float64)
    torch.testing.assert_close(logits, want_logits, rtol=1e-10, atol=1e-10)
    assert grads.keys() == want_grads.keys()
    for name, want in want_grads.items():
        torch.testing.assert_close(grads[name], want, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_logits_and_gradients_in_fp32_within_the_error_budget(kind: str, make_batch: Callable[..., Batch]) -> None:
    """The budget in root mean squares over eight batches: through a whole model the largest error is luck."""
    model = make_model(torch.float32, model=kind)
    errors: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for seed in range(8):
        batch = make_batch(LENGTHS, VOCAB, every=1 if kind == "decoder" else 3, seed=seed)
        (ours, peer, exact) = (
            {"logits": logits, **grads}
            for logits, grads in (
                run_packed(model, batch),
                run_padded(model, batch, torch.float32),
                run_padded(model, batch, torch.float64),
            )
        )
        for name, want in exact.items():
            errors[name].append((norm(ours[name].double() - want), norm(peer[name].double() - want), norm(want)))
    for name, rows in errors.items():
        error, peer_error, size = (math.hypot(*column) for column in zip(*rows, strict=True))
        budget = 2 * (peer_error + torch.finfo(torch.float32).eps * size)
        assert error <= budget, (
            f"{name}: off by {error:.3e}; the budget is {budget:.3e}, PyTorch's own {peer_error:.3e}"
        )


def norm(x: Tensor) -> float:
    return float(x.norm())
