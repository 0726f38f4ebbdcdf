"""The causal language model."""

from __future__ import annotations

from fastlm.errors import ConfigError
from fastlm.models.config import ModelConfig
from fastlm.models.language_model import LanguageModel


class DecoderLM(LanguageModel):
    """A GPT-like decoder: every token attends to itself and what precedes it, and predicts the next.

    Pre-LN with learned positions it is Hugging Face's MBartForCausalLM up to the names of the weights.
    """

    causal = True

    def __init__(self, config: ModelConfig, *, cross: bool = False) -> None:
        """See `LanguageModel`.

        Raises:
            ConfigError: a transform head, which belongs to the encoder.
        """
        if config.head != "tied":
            raise ConfigError(f"--head {config.head} is the encoder's; a decoder takes --head tied")
        super().__init__(config, cross=cross)
