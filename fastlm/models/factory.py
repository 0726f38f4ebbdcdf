"""From a config to a model."""

from __future__ import annotations

from fastlm.models.classifier import TextClassifier
from fastlm.models.config import ModelConfig
from fastlm.models.decoder import DecoderLM
from fastlm.models.encoder import EncoderLM
from fastlm.models.language_model import LanguageModel
from fastlm.models.seq2seq import Seq2SeqLM

Model = LanguageModel | Seq2SeqLM | TextClassifier
MODELS: dict[str, type[Model]] = {
    "encoder": EncoderLM,
    "decoder": DecoderLM,
    "seq2seq": Seq2SeqLM,
    "classifier": TextClassifier,
}


def build(config: ModelConfig) -> Model:
    """A freshly initialised model in training mode, on PyTorch's default device and in its default dtype.

    Raises:
        ConfigError: sizes or choices that make no model.
    """
    return MODELS[config.model](config)
