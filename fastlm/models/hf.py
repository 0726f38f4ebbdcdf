"""The models as Hugging Face's: the same weights under other names, with the config that makes the same function.

| here | there |
|---|---|
| encoder | RobertaPreLayerNormForMaskedLM |
| decoder | MBartForCausalLM |
| seq2seq | MBartForConditionalGeneration |
| classifier, pooling "first" | RobertaPreLayerNormForSequenceClassification |

All pre-LN; positions are tables there, learned or not. The encoder's bare tied head has no twin and goes through the
transform head as the identity: see `_identity_head`. One list of twins (`_twins`) serves both ways: to write, and to
read what was written or trained there. Nothing here imports transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlm.errors import ConfigError
from fastlm.models.classifier import TextClassifier
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
    "classifier": "RobertaPreLayerNormForSequenceClassification",
}
#: what the names of RoBERTa's weights begin with, but for its heads
TRUNK = "roberta_prelayernorm."
#: buffers of theirs that older versions wrote
UNREAD = frozenset((f"{TRUNK}embeddings.position_ids", f"{TRUNK}embeddings.token_type_ids"))
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
        f"--pooling {config.pooling}": config.pooling != "first" and config.model == "classifier",
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
    if config.model in ("encoder", "classifier"):
        return (
            common
            | _hf_labels(config)
            | {
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
        )
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


def _hf_labels(config: ModelConfig) -> dict[str, Any]:
    """A classifier's classes."""
    if config.model != "classifier":
        return {}
    return {
        "id2label": {str(i): label for i, label in enumerate(config.labels)},
        "label2id": {label: i for i, label in enumerate(config.labels)},
        "classifier_dropout": config.dropout,
        "problem_type": "single_label_classification",
    }


def model_config(plain: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `hf_config`; of an encoder's heads it takes the transform.

    Raises:
        ConfigError: another architecture, or a choice that fastlm does not have, by name.
    """
    kinds = {architecture: kind for kind, architecture in ARCHITECTURES.items()}
    found = (plain.get("architectures") or ["none"])[0]
    if found not in kinds:
        raise ConfigError(f"architecture {found}: fastlm takes {', '.join(kinds)}")
    kind = kinds[found]
    read = _of_roberta if kind in ("encoder", "classifier") else _of_mbart
    if not plain.get("tie_word_embeddings", True):
        raise ConfigError("tie_word_embeddings false: fastlm's output is the embedding itself")
    return ModelConfig(model=kind, positions="learned", norm="pre", vocab_size=plain["vocab_size"], **read(plain, kind))


def _of_roberta(plain: Mapping[str, Any], kind: str) -> dict[str, Any]:
    _require(plain, layer_norm_eps=1e-5, type_vocab_size=1, position_embedding_type="absolute")
    named = plain.get("id2label", {}) if kind == "classifier" else {}
    labels = tuple(named[key] for key in sorted(named, key=int))
    return {
        "layers": plain["num_hidden_layers"],
        "d_model": plain["hidden_size"],
        "heads": plain["num_attention_heads"],
        "ff": plain["intermediate_size"],
        "dropout": plain.get("hidden_dropout_prob", 0.1),
        "activation": _activation(plain["hidden_act"]),
        "seq_len": plain["max_position_embeddings"] - plain["pad_token_id"] - 1,
        **({"pooling": "first", "labels": labels} if kind == "classifier" else {"head": "transform"}),
    }


def _of_mbart(plain: Mapping[str, Any], kind: str) -> dict[str, Any]:
    heads, ff = plain["decoder_attention_heads"], plain["decoder_ffn_dim"]
    _require(plain, scale_embedding=False, activation_dropout=0.0)
    layers = {"layers": plain["decoder_layers"]}
    if kind == "seq2seq":
        _require(plain, encoder_attention_heads=heads, encoder_ffn_dim=ff)
        layers = {"layers": plain["encoder_layers"], "decoder_layers": plain["decoder_layers"]}
    return layers | {
        "d_model": plain["d_model"],
        "heads": heads,
        "ff": ff,
        "dropout": plain.get("dropout", 0.1),
        "activation": _activation(plain["activation_function"]),
        "seq_len": plain["max_position_embeddings"],
    }


def _require(plain: Mapping[str, Any], **needed: Any) -> None:
    for name, value in needed.items():
        if plain.get(name, value) != value:
            raise ConfigError(f"{name} {plain[name]}: fastlm has {value} alone")


def _activation(name: str) -> str:
    ours = {theirs: own for own, theirs in ACTIVATIONS.items()}
    if name not in ours:
        raise ConfigError(f"activation {name}: fastlm has {', '.join(ours)}")
    return ours[name]


class Twin(NamedTuple):
    """A weight of the other architecture.

    Attributes:
        name: there.
        tensor: a view of our weight, or what a weight that we have not must be.
        above: rows of zeros above it, which nobody reads.
        own: whether it is a weight of ours.
        used: whether the other architecture ever reads it.
    """

    name: str
    tensor: Tensor
    above: int = 0
    own: bool = True
    used: bool = True


Twins = Iterator[Twin]


def hf_weights(model: Model, *, pad: int) -> Weights:
    """Every weight under the other architecture's name, contiguous; tied ones under each of theirs."""
    return {twin.name: _below_zeros(twin).detach().contiguous() for twin in _twins(model, pad)}


def _below_zeros(twin: Twin) -> Tensor:
    tensor = twin.tensor
    return torch.cat((tensor.new_zeros(twin.above, *tensor.shape[1:]), tensor)) if twin.above else tensor


def read_hf_weights(model: Model, given: Weights, *, pad: int) -> None:
    """Fills a model with the other architecture's weights; the inverse of `hf_weights`.

    RoBERTa's one type of token, which is added to every position, becomes a part of the positions.

    Args:
        model: of the config that `model_config` made of theirs.
        given: theirs by name; of tied weights one name suffices.
        pad: id of ``[PAD]``.

    Raises:
        ConfigError: a weight that is missing, that has another shape, or that our architecture does not have.
    """
    twins = list(_twins(model, pad))
    strange = sorted(given.keys() - {twin.name for twin in twins} - UNREAD)
    if strange:
        raise ConfigError(f"{strange[0]}: {ARCHITECTURES[model.config.model]} has this weight, and fastlm does not")
    given = _with_types_in_positions(given)
    read: set[int] = set()  # where our weights lie that are filled
    for twin in twins:
        if twin.name in given and twin.used:
            _read(twin, given[twin.name], again=twin.tensor.data_ptr() in read)
            read.add(twin.tensor.data_ptr())
    for twin in twins:
        if twin.own and twin.tensor.data_ptr() not in read:
            raise ConfigError(f"{twin.name}: the weight is missing")


def _read(twin: Twin, given: Tensor, *, again: bool) -> None:
    """Fills a weight of ours; ``again`` if it is tied, and filled under another name."""
    shape = (twin.tensor.shape[0] + twin.above, *twin.tensor.shape[1:])
    if given.shape != shape:
        raise ConfigError(f"{twin.name} is {tuple(given.shape)}, and should be {shape}")
    if (again or not twin.own) and not torch.equal(given, twin.tensor):
        why = "it is tied to another here, and they differ" if again else "fastlm has no such weight, and it matters"
        raise ConfigError(f"{twin.name}: {why}")
    if twin.own:
        twin.tensor.copy_(given[twin.above :])


def _with_types_in_positions(given: Weights) -> Weights:
    """RoBERTa's weights with a zero row of types: what they add to each position is in its own row."""
    types, positions = (f"{TRUNK}embeddings.{name}_embeddings.weight" for name in ("token_type", "position"))
    if types not in given or positions not in given:
        return given
    return given | {types: torch.zeros_like(given[types]), positions: given[positions] + given[types]}


def has_identity_head(given: Weights) -> bool:
    """Whether RoBERTa's weights are those of a bare tied head, as `hf_weights` writes it."""
    identity = {twin.name: twin.tensor for twin in _identity_head(given[f"{TRUNK}LayerNorm.weight"])}
    return all(torch.equal(given[name], tensor) for name, tensor in identity.items())


def _twins(model: Model, pad: int) -> Twins:
    """Every weight there, in the order of its file."""
    if isinstance(model, Seq2SeqLM):
        table = model.decoder.embedding.tokens.weight
        for name in ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"):
            yield Twin(f"{name}.weight", table.detach())
        yield Twin("final_logits_bias", table.new_zeros(1, len(table)), own=False)
        yield from _mbart(model.encoder, "model.encoder.")
        yield from _mbart(model.decoder, "model.decoder.")
    elif isinstance(model, TextClassifier):
        yield from _roberta(model.encoder, pad + 1)
        yield from _module(model.encoder.state_dict(), "final_norm", f"{TRUNK}LayerNorm")
        yield from _module(model.state_dict(), "pooling.dense", "classifier.dense")
        yield from _module(model.state_dict(), "output", "classifier.out_proj")
    elif model.config.model == "decoder":
        for name in ("model.decoder.embed_tokens", "lm_head"):
            yield Twin(f"{name}.weight", model.embedding.tokens.weight.detach())
        yield from _mbart(model, "model.decoder.")
    else:
        yield from _roberta(model, pad + 1)
        yield from _masked_lm_head(model)


def _module(weights: Weights, ours: str, theirs: str) -> Twins:
    for part in ("weight", "bias"):
        yield Twin(f"{theirs}.{part}", weights[f"{ours}.{part}"])


def _parts(weights: Weights, ours: str, theirs: tuple[str, ...]) -> Twins:
    """One product's queries, keys and values as products of their own."""
    for part in ("weight", "bias"):
        pieces = weights[f"{ours}.{part}"].chunk(len(theirs))
        yield from (Twin(f"{name}.{part}", piece) for name, piece in zip(theirs, pieces, strict=True))


def _positions(model: LanguageModel, name: str, offset: int) -> Twin:
    """The table of places behind ``offset`` rows that are never read."""
    embedding = model.embedding
    table = embedding.positions.weight if embedding.kind == "learned" else embedding.sinusoids
    return Twin(name, table.detach(), above=offset)


def _mbart(model: LanguageModel, prefix: str) -> Twins:
    """A side of MBart, without its table of tokens."""
    weights: Weights = model.state_dict()
    yield _positions(model, f"{prefix}embed_positions.weight", MBART_OFFSET)
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
        if f"{block}cross_norm.weight" not in weights:
            yield from _unused_cross(model, layer)
            continue
        cross = {"cross_norm": "encoder_attn_layer_norm", "cross_attention.output": "encoder_attn.out_proj"}
        cross |= {"cross_attention.q": "encoder_attn.q_proj"}
        for ours, theirs in cross.items():
            yield from _module(weights, block + ours, layer + theirs)
        yield from _parts(weights, f"{block}cross_attention.kv", tuple(f"{layer}encoder_attn.{x}_proj" for x in "kv"))


def _unused_cross(model: LanguageModel, layer: str) -> Twins:
    """Of a decoder without sources, whose cross-attention MBart has and never runs."""
    d, table = model.config.d_model, model.embedding.tokens.weight
    sizes = {"encoder_attn_layer_norm": (d,)} | {f"encoder_attn.{x}_proj": (d, d) for x in ("q", "k", "v", "out")}
    for name, size in sizes.items():
        yield Twin(f"{layer}{name}.weight", table.new_zeros(size), own=False, used=False)
        yield Twin(f"{layer}{name}.bias", table.new_zeros(d), own=False, used=False)


def _roberta(model: LanguageModel, offset: int) -> Twins:
    """Embedding and blocks."""
    weights: Weights = model.state_dict()
    table = weights["embedding.tokens.weight"]
    yield Twin(f"{TRUNK}embeddings.word_embeddings.weight", table)
    yield _positions(model, f"{TRUNK}embeddings.position_embeddings.weight", offset)
    yield Twin(f"{TRUNK}embeddings.token_type_embeddings.weight", table.new_zeros(1, table.shape[1]), own=False)
    yield from _module(weights, "embedding.norm", f"{TRUNK}embeddings.LayerNorm")
    names = {
        "attention_norm": "attention.LayerNorm",
        "attention.output": "attention.output.dense",
        "mlp_norm": "intermediate.LayerNorm",
        "mlp.up": "intermediate.dense",
        "mlp.down": "output.dense",
    }
    for i in range(model.config.layers):
        block, layer = f"blocks.{i}.", f"{TRUNK}encoder.layer.{i}."
        for ours, theirs in names.items():
            yield from _module(weights, block + ours, layer + theirs)
        heads = tuple(f"{layer}attention.self.{name}" for name in ("query", "key", "value"))
        yield from _parts(weights, f"{block}attention.qkv", heads)


def _masked_lm_head(model: LanguageModel) -> Twins:
    weights: Weights = model.state_dict()
    table = weights["embedding.tokens.weight"]
    yield Twin("lm_head.decoder.weight", table)
    if model.config.head == "transform":
        yield from _module(weights, "final_norm", f"{TRUNK}LayerNorm")
        yield from _module(weights, "head.dense", "lm_head.dense")
        yield from _module(weights, "head.norm", "lm_head.layer_norm")
        yield from (Twin(name, weights["head.bias"]) for name in ("lm_head.bias", "lm_head.decoder.bias"))
    else:
        yield from _identity_head(weights["final_norm.weight"])
        yield from _module(weights, "final_norm", "lm_head.layer_norm")
        bias = table.new_zeros(len(table))
        yield from (Twin(name, bias, own=False) for name in ("lm_head.bias", "lm_head.decoder.bias"))


def _identity_head(like: Tensor) -> Twins:
    """``norm`` as ``norm(gelu(dense(plain norm)))``, which is as far as a transform head is from a bare one.

    Dense multiplies and shifts to where gelu is the identity; the norm behind it takes both away again and has the
    weight and bias of the model's own. Normalising twice leaves out the eps beside a row's variance v, which is a
    relative eps / (2 v), and rounds at the size of the shift: some 1e-6 of a row of variance 1.
    """
    identity = IDENTITY_FACTOR * torch.eye(len(like), dtype=like.dtype, device=like.device)
    yield Twin(f"{TRUNK}LayerNorm.weight", torch.ones_like(like), own=False)
    yield Twin(f"{TRUNK}LayerNorm.bias", torch.zeros_like(like), own=False)
    yield Twin("lm_head.dense.weight", identity, own=False)
    yield Twin("lm_head.dense.bias", torch.full_like(like, IDENTITY_SHIFT), own=False)
