"""The models as Hugging Face's: the same weights under other names, with the config that makes the same function.

| here | there |
|---|---|
| encoder | RobertaPreLayerNormForMaskedLM |
| decoder | MBartForCausalLM |
| seq2seq | MBartForConditionalGeneration |

All pre-LN; positions are tables there, learned or not. The encoder's bare tied head has no twin and goes through the
transform head as the identity: see `_identity_head`. Nothing here imports transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastlm.errors import ConfigError
from fastlm.models.config import ModelConfig
from fastlm.models.factory import Model
from fastlm.models.language_model import LanguageModel
from fastlm.models.seq2seq import Seq2SeqLM

Weights = dict[str, Tensor]

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "silu"}
ARCHITECTURES = {
    "encoder": "RobertaPreLayerNormForMaskedLM",
    "decoder": "MBartForCausalLM",
    "seq2seq": "MBartForConditionalGeneration",
}
#: MBart's tables of positions begin with two rows that nobody reads
MBART_OFFSET = 2
#: what a normalised row is multiplied by, that the next norm's eps is little beside it; and a shift that takes the
#: product, which a row seldom brings below -16 times the factor, to where gelu(x) is x in fp32
IDENTITY_FACTOR, IDENTITY_SHIFT = 16.0, 256.0 + 8.0


def check_exportable(config: ModelConfig) -> None:
    """Refuses, by name, an option that the other architecture does not have.

    Raises:
        ConfigError: naming the option.
    """
    refused = {
        f"--norm {config.norm}": config.norm != "pre",
        f"--positions {config.positions}": config.positions == "rotary",
        f"--embeddings {config.embeddings}": config.embeddings != "shared" and config.model == "seq2seq",
    }
    for option, wrong in refused.items():
        if wrong:
            raise ConfigError(
                f"{option}: {ARCHITECTURES[config.model]} has nothing of that kind, so it is not exported"
            )


def hf_config(config: ModelConfig, *, pad: int, begin: int, end: int) -> dict[str, Any]:
    """``config.json`` of the other architecture.

    Args:
        config: of a model that `check_exportable` lets pass.
        pad, begin, end: ids of ``[PAD]``, ``[BOS]`` and ``[EOS]``.
    """
    ids = {"pad_token_id": pad, "bos_token_id": begin, "eos_token_id": end, "vocab_size": config.vocab_size}
    common = {"architectures": [ARCHITECTURES[config.model]], **ids, "tie_word_embeddings": True}
    dropout = config.dropout
    if config.model == "encoder":
        return common | {
            "model_type": "roberta-prelayernorm",
            "hidden_size": config.d_model,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.ff,
            "hidden_act": ACTIVATIONS[config.activation],
            "max_position_embeddings": config.seq_len + pad + 1,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }
    sides = {
        "d_model": config.d_model,
        "activation_function": ACTIVATIONS[config.activation],
        "max_position_embeddings": config.seq_len,
        "scale_embedding": False,
        "dropout": dropout,
        "attention_dropout": dropout,
        "activation_dropout": 0.0,
        "model_type": "mbart",
        "forced_eos_token_id": None,
        "decoder_layers": config.side("decoder").layers,
        "decoder_attention_heads": config.heads,
        "decoder_ffn_dim": config.ff,
    }
    if config.model == "decoder":
        return common | sides | {"is_encoder_decoder": False, "is_decoder": True}
    encoder = {"encoder_layers": config.layers, "encoder_attention_heads": config.heads, "encoder_ffn_dim": config.ff}
    return common | sides | encoder | {"is_encoder_decoder": True}


def hf_weights(model: Model, *, pad: int) -> Weights:
    """Every weight under the other architecture's name, contiguous; tied ones under each of theirs."""
    if isinstance(model, Seq2SeqLM):
        table = model.decoder.embedding.tokens.weight
        named = {f"model.{name}.weight": table for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens")}
        named |= {"lm_head.weight": table, "final_logits_bias": table.new_zeros(1, len(table))}
        named |= dict(_mbart(model.encoder, "model.encoder.")) | dict(_mbart(model.decoder, "model.decoder."))
    elif model.config.model == "decoder":
        table = model.embedding.tokens.weight
        named = {"model.decoder.embed_tokens.weight": table, "lm_head.weight": table}
        named |= dict(_mbart(model, "model.decoder."))
    else:
        named = dict(_roberta(model, pad + 1))
    return {name: tensor.detach().contiguous() for name, tensor in named.items()}


Named = Iterator[tuple[str, Tensor]]


def _module(weights: Weights, ours: str, theirs: str) -> Named:
    for part in ("weight", "bias"):
        yield f"{theirs}.{part}", weights[f"{ours}.{part}"]


def _parts(weights: Weights, ours: str, theirs: tuple[str, ...]) -> Named:
    """One product's queries, keys and values as products of their own."""
    for part in ("weight", "bias"):
        pieces = weights[f"{ours}.{part}"].chunk(len(theirs))
        yield from ((f"{name}.{part}", piece) for name, piece in zip(theirs, pieces, strict=True))


def _positions(model: LanguageModel, offset: int) -> Tensor:
    """The table of places behind ``offset`` rows that are never read."""
    embedding = model.embedding
    table = embedding.positions.weight if embedding.kind == "learned" else embedding.sinusoids
    return torch.cat((table.new_zeros(offset, table.shape[1]), table))


def _mbart(model: LanguageModel, prefix: str) -> Named:
    """A side of MBart, without its table of tokens."""
    weights: Weights = model.state_dict()
    yield f"{prefix}embed_positions.weight", _positions(model, MBART_OFFSET)
    yield from _module(weights, "embedding.norm", f"{prefix}layernorm_embedding")
    yield from _module(weights, "final_norm", f"{prefix}layer_norm")
    names = {
        "attention_norm": "self_attn_layer_norm",
        "attention.output": "self_attn.out_proj",
        "mlp_norm": "final_layer_norm",
        "mlp.up": "fc1",
        "mlp.down": "fc2",
    }
    for i in range(model.config.layers):
        block, layer = f"blocks.{i}.", f"{prefix}layers.{i}."
        for ours, theirs in names.items():
            yield from _module(weights, block + ours, layer + theirs)
        yield from _parts(weights, f"{block}attention.qkv", tuple(f"{layer}self_attn.{x}_proj" for x in "qkv"))
        if not model.causal:
            continue
        cross = {"cross_norm": "encoder_attn_layer_norm", "cross_attention.output": "encoder_attn.out_proj"}
        cross |= {"cross_attention.q": "encoder_attn.q_proj"}
        own = dict(weights) if f"{block}cross_norm.weight" in weights else _unused_cross(model, block)
        for ours, theirs in cross.items():
            yield from _module(own, block + ours, layer + theirs)
        yield from _parts(own, f"{block}cross_attention.kv", tuple(f"{layer}encoder_attn.{x}_proj" for x in "kv"))


def _unused_cross(model: LanguageModel, block: str) -> Weights:
    """Of a decoder without sources, whose cross-attention MBart has and never runs."""
    d, table = model.config.d_model, model.embedding.tokens.weight
    sizes = {"cross_norm": (d,), "cross_attention.output": (d, d), "cross_attention.q": (d, d)}
    sizes |= {"cross_attention.kv": (2 * d, d)}
    weights = {f"{block}{name}.weight": table.new_zeros(size) for name, size in sizes.items()}
    return weights | {f"{block}{name}.bias": table.new_zeros(size[0]) for name, size in sizes.items()}


def _roberta(model: LanguageModel, offset: int) -> Named:
    weights: Weights = model.state_dict()
    trunk, table = "roberta_prelayernorm.", weights["embedding.tokens.weight"]
    yield f"{trunk}embeddings.word_embeddings.weight", table
    yield f"{trunk}embeddings.position_embeddings.weight", _positions(model, offset)
    yield f"{trunk}embeddings.token_type_embeddings.weight", table.new_zeros(1, table.shape[1])
    yield from _module(weights, "embedding.norm", f"{trunk}embeddings.LayerNorm")
    names = {
        "attention_norm": "attention.LayerNorm",
        "attention.output": "attention.output.dense",
        "mlp_norm": "intermediate.LayerNorm",
        "mlp.up": "intermediate.dense",
        "mlp.down": "output.dense",
    }
    for i in range(model.config.layers):
        block, layer = f"blocks.{i}.", f"{trunk}encoder.layer.{i}."
        for ours, theirs in names.items():
            yield from _module(weights, block + ours, layer + theirs)
        heads = tuple(f"{layer}attention.self.{name}" for name in ("query", "key", "value"))
        yield from _parts(weights, f"{block}attention.qkv", heads)
    if model.config.head == "transform":
        yield from _module(weights, "final_norm", f"{trunk}LayerNorm")
        yield from _module(weights, "head.dense", "lm_head.dense")
        yield from _module(weights, "head.norm", "lm_head.layer_norm")
        bias = weights["head.bias"]
    else:
        yield from _identity_head(weights, trunk)
        bias = table.new_zeros(len(table))
    yield "lm_head.decoder.weight", table
    yield "lm_head.decoder.bias", bias
    yield "lm_head.bias", bias


def _identity_head(weights: Weights, trunk: str) -> Named:
    """``norm`` as ``norm(gelu(dense(plain norm)))``, which is as far as a transform head is from a bare one.

    Dense multiplies and shifts to where gelu is the identity; the norm behind it takes both away again and has the
    weight and bias of the model's own. Normalising twice leaves out the eps beside a row's variance v, which is a
    relative eps / (2 v), and rounds at the size of the shift: some 1e-6 of a row of variance 1.
    """
    d = len(weights["final_norm.weight"])
    like = weights["final_norm.weight"]
    yield f"{trunk}LayerNorm.weight", torch.ones_like(like)
    yield f"{trunk}LayerNorm.bias", torch.zeros_like(like)
    yield "lm_head.dense.weight", IDENTITY_FACTOR * torch.eye(d, dtype=like.dtype, device=like.device)
    yield "lm_head.dense.bias", torch.full_like(like, IDENTITY_SHIFT)
    yield from _module(weights, "final_norm", "lm_head.layer_norm")
