"""What a model is made of; `fastlm.models` builds from it and nothing else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fastlm.config import option
from fastlm.errors import ConfigError


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of a model; defaults are the training record's."""

    model: str = option(
        "encoder",
        "encoder (masked LM), decoder (causal LM), seq2seq (translation: an encoder and a decoder that reads it) or "
        "classifier (an encoder and a head for labels)",
        choices=("encoder", "decoder", "seq2seq", "classifier"),
    )
    layers: int = option(6, "transformer blocks (of a translation model's encoder)", unit="N", minimum=1)
    decoder_layers: int = option(0, "blocks of a translation model's decoder; 0: --layers", unit="N", minimum=0)
    embeddings: str = option(
        "shared", "of a translation model: one table of tokens, or one for each side", choices=("shared", "separate")
    )
    d_model: int = option(512, "width of the hidden states", unit="N", minimum=8)
    heads: int = option(
        8, "attention heads; d_model / heads is the head width (16 to 128 in steps of 8)", unit="N", minimum=1
    )
    ff: int = option(2048, "inner width of the feed-forward layers", unit="N", minimum=1)
    dropout: float = option(
        0.1, "dropout on embeddings, attention and both residual branches", unit="P", minimum=0, maximum=0.99
    )
    activation: str = option("relu", "feed-forward activation", choices=("relu", "gelu", "swish"))
    norm: str = option("pre", "LayerNorm before (pre) or after (post) each branch", choices=("pre", "post"))
    positions: str = option("learned", "position encoding", choices=("learned", "sinusoidal", "rotary"))
    head: str = option(
        "tied",
        "encoder output: the shared embedding alone, or BERT's transform before it",
        choices=("tied", "transform"),
    )
    pooling: str = option(
        "mean",
        "what a classifier's head reads: the mean state, the first through a dense layer (RoBERTa's head), or a CNN's "
        "largest values",
        choices=("mean", "first", "cnn"),
    )
    labels: tuple[str, ...] = option((), "classes of a classifier; none: those of the text", unit="LABEL")
    seq_len: int = option(256, "longest sentence, in tokens with [BOS] and [EOS]", unit="TOKENS", minimum=4)
    vocab_size: int = option(0, "vocabulary entries; 0 takes 30,000 or as many as the text gives", unit="N", minimum=0)

    def __post_init__(self) -> None:
        if self.model in ("seq2seq", "classifier") and self.head != "tied":
            raise ConfigError(f"--head {self.head} is the encoder's; a {self.model} takes --head tied")
        if self.d_model % self.heads:
            raise ConfigError(f"--d-model {self.d_model} is not a multiple of --heads {self.heads}")
        if self.head_dim % 8 or not 16 <= self.head_dim <= 128:
            raise ConfigError(
                f"--d-model {self.d_model} / --heads {self.heads} gives head width {self.head_dim}; "
                "it must be 16 to 128 in steps of 8"
            )

    def side(self, kind: str) -> ModelConfig:
        """The encoder or decoder of a translation model, or a classifier's encoder, as a model of its own."""
        layers = self.decoder_layers or self.layers if kind == "decoder" else self.layers
        return dataclasses.replace(
            self, model=kind, layers=layers, decoder_layers=0, embeddings="shared", pooling="mean", labels=()
        )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.heads
