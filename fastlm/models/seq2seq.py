"""The translation model: an encoder, and a decoder whose blocks read what the encoder made of the source."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastlm import ops
from fastlm.batch import Batch, Source
from fastlm.models.config import ModelConfig
from fastlm.models.decoder import DecoderLM
from fastlm.models.encoder import EncoderLM
from fastlm.nn.cross_attention import Memory


class Seq2SeqLM(nn.Module):
    """The transformer of Vaswani et al. 2017, made of the two language models: pre-LN with learned positions it is
    Hugging Face's MBartForConditionalGeneration up to the names of the weights.

    ``encoder`` and ``decoder`` are an `EncoderLM` and a `DecoderLM` that keep their names, so that pre-trained weights
    of either fit as they are. With ``embeddings="shared"`` the two have one table of tokens; logits come from the
    decoder's.
    """

    def __init__(self, config: ModelConfig) -> None:
        """See `LanguageModel`.

        Raises:
            ConfigError: as `LanguageModel`.
        """
        super().__init__()
        self.config = config
        self.encoder = EncoderLM(config.side("encoder"))
        self.decoder = DecoderLM(config.side("decoder"), cross=True)
        if config.embeddings == "shared":
            self.encoder.embedding.tokens = self.decoder.embedding.tokens

    def encode(self, source: Source, dropout_seed: Tensor | None = None) -> Memory:
        """What the decoder reads of the sources."""
        hidden = self.encoder.hidden_states(
            source.tokens, source.positions, source.cu_seqlens, source.max_seqlen, dropout_seed=dropout_seed
        )
        return Memory(hidden, source.cu_seqlens, source.max_seqlen)

    def loss(
        self,
        batch: Batch,
        *,
        label_smoothing: float = 0.0,
        reduction: str = "sum",
        dropout_seed: Tensor | None = None,
    ) -> ops.LinearCrossEntropyOutput:
        """Cross-entropy of the batch's targets, each given its source and what precedes it.

        Raises:
            ValueError: a batch without sources.
        """
        if batch.source is None:
            raise ValueError("the batch has no source: a translation model learns from pairs of sentences")
        seed = self.draw_seed() if dropout_seed is None else dropout_seed
        memory = self.encode(batch.source, seed)
        # The two sides draw other masks: a side takes fewer seeds than a number has bits.
        options: dict[str, Any] = {"label_smoothing": label_smoothing, "reduction": reduction}
        return self.decoder.loss(batch, dropout_seed=seed ^ _OTHER_SIDE, memory=memory, **options)

    def draw_seed(self) -> Tensor:
        """The seed of one pass's dropout, as a language model's."""
        seed: Tensor = self.decoder.draw_seed()
        return seed

    def compile(self, **options: Any) -> None:
        """Compile both sides in place, as a language model's."""
        self.encoder.compile(**options)
        self.decoder.compile(**options)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.device


_OTHER_SIDE = 1 << 61
