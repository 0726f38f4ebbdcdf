"""The models are Hugging Face's, weight for weight: copied weights give the same logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastlm.batch import Batch
from fastlm.models import LanguageModel, build
from fastlm.models.config import ModelConfig

transformers = pytest.importorskip("transformers", reason="parity needs Hugging Face transformers")

VOCAB, PAD, LENGTHS = 70, 0, (9, 4, 12, 1)
SMALL = {"layers": 3, "d_model": 64, "heads": 4, "ff": 96, "seq_len": 12, "vocab_size": VOCAB, "activation": "gelu"}


def make_model(**choices: str) -> LanguageModel:
    torch.manual_seed(0)
    model = build(ModelConfig(**SMALL, **choices)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    return model


def copy_linears(names: dict[str, str], weights: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    """``theirs + value`` <- ``ours + key``, for weight and bias."""
    parts = ("weight", "bias")
    return {f"{theirs}{b}.{part}": weights[f"{ours}{a}.{part}"] for a, b in names.items() for part in parts}


def copy_qkv(weights: dict[str, Tensor], block: str, names: tuple[str, str, str]) -> dict[str, Tensor]:
    return {
        f"{name}.{part}": piece
        for part in ("weight", "bias")
        for name, piece in zip(names, weights[f"{block}.attention.qkv.{part}"].chunk(3), strict=True)
    }


def shifted_positions(table: Tensor, offset: int) -> Tensor:
    """Hugging Face counts places from ``offset``; the rows before are never read."""
    return torch.cat((torch.zeros(offset, table.shape[1]), table))


def as_roberta_prelayernorm(model: LanguageModel) -> Any:
    c, w = model.config, model.state_dict()
    theirs = transformers.RobertaPreLayerNormForMaskedLM(
        transformers.RobertaPreLayerNormConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.d_model,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            intermediate_size=c.ff,
            hidden_act=c.activation,
            max_position_embeddings=c.seq_len + PAD + 1,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            pad_token_id=PAD,
        )
    ).eval()
    new = {
        "roberta_prelayernorm.embeddings.word_embeddings.weight": w["embedding.tokens.weight"],
        "roberta_prelayernorm.embeddings.position_embeddings.weight": shifted_positions(
            w["embedding.positions.weight"], PAD + 1
        ),
        "roberta_prelayernorm.embeddings.token_type_embeddings.weight": torch.zeros(1, c.d_model),
        "lm_head.decoder.weight": w["embedding.tokens.weight"],
        "lm_head.decoder.bias": w["head.bias"],
        "lm_head.bias": w["head.bias"],
    }
    outer = {"embedding.norm": "embeddings.LayerNorm", "final_norm": "LayerNorm"}
    new |= copy_linears(outer, w, "", "roberta_prelayernorm.")
    new |= copy_linears({"head.dense": "dense", "head.norm": "layer_norm"}, w, "", "lm_head.")
    inner = {
        "attention_norm": "attention.LayerNorm",
        "attention.output": "attention.output.dense",
        "mlp_norm": "intermediate.LayerNorm",
        "mlp.up": "intermediate.dense",
        "mlp.down": "output.dense",
    }
    for i in range(c.layers):
        layer = f"roberta_prelayernorm.encoder.layer.{i}."
        new |= copy_linears(inner, w, f"blocks.{i}.", layer)
        q, k, v = (f"{layer}attention.self.{name}" for name in ("query", "key", "value"))
        new |= copy_qkv(w, f"blocks.{i}", (q, k, v))
    theirs.load_state_dict(new)
    return theirs


def as_mbart(model: LanguageModel) -> Any:
    c, w = model.config, model.state_dict()
    theirs = transformers.MBartForCausalLM(
        transformers.MBartConfig(
            vocab_size=c.vocab_size,
            d_model=c.d_model,
            decoder_layers=c.layers,
            decoder_attention_heads=c.heads,
            decoder_ffn_dim=c.ff,
            activation_function=c.activation,
            max_position_embeddings=c.seq_len,
            scale_embedding=False,
            pad_token_id=PAD,
        )
    ).eval()
    decoder = "model.decoder."
    new = {
        f"{decoder}embed_tokens.weight": w["embedding.tokens.weight"],
        f"{decoder}embed_positions.weight": shifted_positions(w["embedding.positions.weight"], 2),
        "lm_head.weight": w["embedding.tokens.weight"],
    }
    new |= copy_linears({"embedding.norm": "layernorm_embedding", "final_norm": "layer_norm"}, w, "", decoder)
    inner = {
        "attention_norm": "self_attn_layer_norm",
        "attention.output": "self_attn.out_proj",
        "mlp_norm": "final_layer_norm",
        "mlp.up": "fc1",
        "mlp.down": "fc2",
    }
    for i in range(c.layers):
        layer = f"{decoder}layers.{i}."
        new |= copy_linears(inner, w, f"blocks.{i}.", layer)
        q, k, v = (f"{layer}self_attn.{name}_proj" for name in "qkv")
        new |= copy_qkv(w, f"blocks.{i}", (q, k, v))
    missing = theirs.load_state_dict(new, strict=False)
    assert not missing.unexpected_keys
    assert all(".encoder_attn" in name for name in missing.missing_keys), "only the unused cross-attention is left"
    return theirs


PAIRS = [
    pytest.param({"model": "encoder", "head": "transform"}, as_roberta_prelayernorm, id="RobertaPreLayerNorm"),
    pytest.param({"model": "decoder"}, as_mbart, id="mBART"),
]


def padded(batch: Batch) -> tuple[Tensor, Tensor]:
    lengths = batch.cu_seqlens.diff()
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.full(real.shape, PAD)
    ids[real] = batch.tokens
    return ids, real


@pytest.mark.parametrize(("choices", "convert"), PAIRS)
def test_logits(
    choices: dict[str, str], convert: Callable[[LanguageModel], Any], make_batch: Callable[..., Batch]
) -> None:
    model = make_model(**choices)
    batch = make_batch(LENGTHS, VOCAB)
    batch.tokens.clamp_(min=PAD + 1)  # Hugging Face gives a [PAD] token no position
    ids, real = padded(batch)
    with torch.no_grad():
        ours = model(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen)
        theirs = convert(model)(input_ids=ids, attention_mask=real.long()).logits[real]
    assert ours.std() > 0.5, "logits too flat to tell models apart"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("choices", "convert"), PAIRS)
def test_gradient_of_the_shared_embedding(
    choices: dict[str, str], convert: Callable[[LanguageModel], Any], make_batch: Callable[..., Batch]
) -> None:
    model = make_model(**choices)
    batch = make_batch((7,), VOCAB)
    batch.tokens.clamp_(min=PAD + 1)
    theirs = convert(model)
    model.loss(batch).loss.backward()
    logits = theirs(input_ids=batch.tokens[None]).logits[0]
    torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum").backward()
    want = theirs.get_input_embeddings().weight.grad
    torch.testing.assert_close(model.embedding.tokens.weight.grad, want, rtol=1e-4, atol=1e-4)
