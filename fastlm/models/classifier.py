"""Text classification: a pre-trained encoder, and a head that reads one vector a text out of its states."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastlm import ops
from fastlm.batch import Batch
from fastlm.errors import ConfigError
from fastlm.models.config import ModelConfig
from fastlm.models.encoder import EncoderLM

#: widths of the CNN's filters, in tokens, and how many there are of each (Kim 2014, https://aclanthology.org/D14-1181)
FILTER_WIDTHS, FILTERS = (3, 4, 5), 100


class MeanPooling(nn.Module):
    """The mean of a text's states, ``[BOS]`` and ``[EOS]`` among them."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.width = d_model

    def forward(self, hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
        """(T, d) and (B+1,) -> (B, d)."""
        return _by_text(hidden, cu_seqlens, "mean")


class FirstPooling(nn.Module):
    """The state of ``[BOS]`` through a dense layer and tanh: the head of RoBERTa's sequence classification."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.width, self.dropout = d_model, dropout
        self.dense = nn.Linear(d_model, d_model)

    def forward(self, hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
        """(T, d) and (B+1,) -> (B, d)."""
        first = F.dropout(hidden[cu_seqlens[:-1].long()], self.dropout, self.training)
        return torch.tanh(self.dense(first))


class CNNPooling(nn.Module):
    """Filters of several widths over a text's states, ReLU, and the largest value of each over the text (Kim 2014).

    A window begins at every token; what it reads beyond the end of its text is 0.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.width = FILTERS * len(FILTER_WIDTHS)
        self.filters = nn.ModuleList(nn.Conv1d(d_model, FILTERS, width) for width in FILTER_WIDTHS)

    def forward(self, hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
        """(T, d) and (B+1,) -> (B, filters)."""
        lengths = cu_seqlens.diff().long()
        gap = max(FILTER_WIDTHS) - 1
        texts = torch.repeat_interleave(torch.arange(len(lengths), device=hidden.device), lengths)
        places = torch.arange(len(hidden), device=hidden.device) + gap * texts
        rows = len(hidden) + gap * len(lengths) + gap + 1  # as many as a filter needs, whatever there is to read
        apart = hidden.new_zeros(rows, hidden.shape[1]).index_copy(0, places, hidden)
        row = apart.T[None]  # (1, d, rows)
        windows = torch.cat([filters(row)[0, :, places] for filters in self.filters]).T
        return _by_text(F.relu(windows), cu_seqlens, "max")


def _by_text(rows: Tensor, cu_seqlens: Tensor, reduction: str) -> Tensor:
    """(T, width) and (B+1,) -> (B, width) fp32: the mean or the largest of each text's rows, none of which is empty."""
    lengths = cu_seqlens.diff().long()
    if not len(lengths):
        return rows.float()[:0]
    return torch.segment_reduce(rows.float(), reduction, lengths=lengths, axis=0)


class TextClassifier(nn.Module):
    """``output(dropout(pooling(encoder's states)))``: one of ``config.labels`` for every text.

    ``encoder`` is an `EncoderLM` that keeps its names, so that pre-trained weights fit as they are.
    """

    def __init__(self, config: ModelConfig) -> None:
        """See `LanguageModel`.

        Raises:
            ConfigError: as `LanguageModel`; fewer than two labels.
        """
        super().__init__()
        if len(config.labels) < 2:
            raise ConfigError(f"a classifier needs two labels, and has {len(config.labels)}")
        self.config = config
        self.encoder = EncoderLM(config.side("encoder"))
        self.pooling = _pooling(config)
        self.output = nn.Linear(self.pooling.width, len(config.labels))
        for module in (*self.pooling.modules(), self.output):
            if isinstance(module, nn.Linear | nn.Conv1d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def pooled(self, batch: Batch, dropout_seed: Tensor | None = None) -> Tensor:
        """(B, width): what the output layer reads of each text."""
        layout = batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen
        pooled: Tensor = self.pooling(self.encoder.hidden_states(*layout, dropout_seed=dropout_seed), batch.cu_seqlens)
        return F.dropout(pooled, self.config.dropout, self.training)

    def loss(
        self,
        batch: Batch,
        *,
        label_smoothing: float = 0.0,
        reduction: str = "sum",
        dropout_seed: Tensor | None = None,
    ) -> ops.LinearCrossEntropyOutput:
        """Cross-entropy of the texts' classes, the batch's targets: one a text, in the order of the texts."""
        return ops.linear_cross_entropy(
            self.pooled(batch, dropout_seed),
            self.output.weight,
            batch.targets,
            bias=self.output.bias,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, classes); the batch needs no targets."""
        logits: Tensor = self.output(self.pooled(batch))
        return logits

    def draw_seed(self) -> Tensor:
        """The seed of one pass's dropout, as a language model's."""
        seed: Tensor = self.encoder.draw_seed()
        return seed

    def compile(self, **options: Any) -> None:
        """Compile the encoder in place, as a language model's."""
        self.encoder.compile(**options)

    def freeze(self, trained_layers: int) -> None:
        """Leave all but the last ``trained_layers`` blocks of the encoder as they are; head and final norm learn on.

        Raises:
            ConfigError: more than there are.
        """
        blocks = list(self.encoder.blocks)
        if trained_layers > len(blocks):
            raise ConfigError(f"--trained-layers {trained_layers}: the encoder has {len(blocks)}")
        self.encoder.requires_grad_(False)
        learning = blocks[len(blocks) - trained_layers :]
        for module in (*learning, *([self.encoder.final_norm] if self.encoder.final_norm is not None else [])):
            module.requires_grad_(True)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.device


def _pooling(config: ModelConfig) -> MeanPooling | FirstPooling | CNNPooling:
    if config.pooling == "cnn":
        return CNNPooling(config.d_model)
    if config.pooling == "first":
        return FirstPooling(config.d_model, config.dropout)
    return MeanPooling(config.d_model)
