"""The masked language model."""

from __future__ import annotations

from fastlm.models.language_model import LanguageModel


class EncoderLM(LanguageModel):
    """A BERT-like encoder: every token attends to its whole sentence, masked tokens are predicted.

    With ``head="transform"`` it is Hugging Face's RobertaPreLayerNormForMaskedLM (pre-LN, learned positions) up to
    the names of the weights.
    """

    causal = False
