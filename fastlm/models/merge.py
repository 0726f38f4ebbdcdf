"""One translation model from a pre-trained encoder and a pre-trained decoder."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from fastlm.errors import ConfigError
from fastlm.models.language_model import LanguageModel
from fastlm.models.seq2seq import Seq2SeqLM
from fastlm.nn.cross_attention import CrossAttention

#: what may differ between the two, as far as a translation model is concerned
OWN = {"model", "layers", "decoder_layers", "embeddings", "head", "dropout"}
EMBEDDINGS = ("decoder", "encoder", "mean", "separate")


def merge(
    encoder: LanguageModel, decoder: LanguageModel, *, embedding: str, begin: int, languages: tuple[int, ...]
) -> Seq2SeqLM:
    """The encoder and decoder as they are, with a new cross-attention in every block of the decoder.

    What cross-attention adds is 0 at first (its output's weight is), so that the decoder begins as the language model
    that it was; the rest of it is drawn as in any model, from PyTorch's default generator.

    Args:
        encoder: of the sources; its prediction head is left behind.
        decoder: of the translations.
        embedding: whose table of tokens both sides share: ``decoder``, ``encoder`` or the ``mean`` of the two;
            ``separate`` leaves each its own.
        begin: the id that the decoder's texts began with.
        languages: the ids that translations begin with instead; their embeddings become that of ``begin``.

    Raises:
        ConfigError: a model of the wrong kind, or two that differ in a size or choice that they would share.
    """
    for kind, model in (("encoder", encoder), ("decoder", decoder)):
        if model.config.model != kind:
            raise ConfigError(f"the {kind} to merge is of kind {model.config.model}")
    for field in dataclasses.fields(encoder.config):
        one, other = (getattr(model.config, field.name) for model in (encoder, decoder))
        if field.name not in OWN and one != other:
            flag = field.name.replace("_", "-")
            raise ConfigError(f"the encoder has --{flag} {one}, the decoder {other}: both sides must be alike")
    config = dataclasses.replace(
        decoder.config,
        model="seq2seq",
        layers=encoder.config.layers,
        decoder_layers=decoder.config.layers,
        embeddings="separate" if embedding == "separate" else "shared",
    )
    merged = Seq2SeqLM(config)
    tables = {"encoder": encoder.embedding.tokens.weight, "decoder": decoder.embedding.tokens.weight}
    with torch.no_grad():
        _copy(encoder, merged.encoder)
        _copy(decoder, merged.decoder)  # after it: a shared table is now the decoder's
        if embedding == "mean":
            merged.decoder.embedding.tokens.weight.copy_((tables["encoder"] + tables["decoder"]) / 2)
        elif embedding == "encoder":
            merged.decoder.embedding.tokens.weight.copy_(tables["encoder"])
        table: Tensor = merged.decoder.embedding.tokens.weight
        table[list(languages)] = table[begin].clone()
        for module in merged.decoder.modules():
            if isinstance(module, CrossAttention):
                nn.init.zeros_(module.output.weight)
    return merged


def _copy(model: LanguageModel, side: LanguageModel) -> None:
    """Every weight of the side that the model has."""
    given = model.state_dict()
    for name, tensor in side.state_dict().items():
        if ".cross_" not in name:
            tensor.copy_(given[name])
