"""What stands between the last hidden state and the shared embedding that turns it into logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TiedHead(nn.Module):
    """Nothing: logits are ``hidden @ embedding.T``, without a bias, as mBART's causal LM has them."""

    bias: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, d) as it came."""
        return hidden


class TransformHead(nn.Module):
    """BERT's prediction head: dense, GELU, LayerNorm before the embedding, and a bias on the vocabulary after it."""

    def __init__(self, d_model: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, d) -> (N, d); the caller adds ``bias`` to the logits."""
        y: Tensor = self.norm(F.gelu(self.dense(hidden)))
        return y


def build_head(kind: str, d_model: int, vocab_size: int) -> TiedHead | TransformHead:
    """The head of ``ModelConfig.head``."""
    return TransformHead(d_model, vocab_size) if kind == "transform" else TiedHead()
