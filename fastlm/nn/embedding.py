"""Token and position embeddings with their LayerNorm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastlm import ops


def sinusoids(seq_len: int, d_model: int) -> Tensor:
    """The table of Vaswani et al. 2017, section 3.5: (seq_len, d), sines in the even columns, cosines in the odd."""
    columns = torch.arange(0, d_model, 2, dtype=torch.float64)
    angles = torch.outer(torch.arange(seq_len, dtype=torch.float64), 10_000.0 ** (-columns / d_model))
    table = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    return table[:, :d_model].to(torch.get_default_dtype())


class PackedEmbedding(nn.Module):
    """``dropout(norm(tokens[id] + positions[place]))`` of every packed token.

    Args:
        positions: ``learned`` (a parameter), ``sinusoidal`` (a fixed table) or ``rotary`` (nothing is added here).
        std: standard deviation of the token embeddings' initial values. Learned positions start with it too, and the
            sinusoids are scaled to it: the LayerNorm sees only the ratio of the two, and a table between -1 and 1
            beside such small embeddings would drown the words.
    """

    sinusoids: Tensor

    def __init__(
        self, vocab_size: int, d_model: int, seq_len: int, *, positions: str, dropout: float, std: float
    ) -> None:
        super().__init__()
        self.kind = positions
        self.dropout = dropout
        self.tokens = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.tokens.weight, std=std)
        if positions == "learned":
            self.positions = nn.Embedding(seq_len, d_model)
            nn.init.normal_(self.positions.weight, std=std)
        elif positions == "sinusoidal":
            self.register_buffer("sinusoids", sinusoids(seq_len, d_model) * (std * 2**0.5), persistent=False)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, tokens: Tensor, positions: Tensor, dropout_seed: Tensor | int | None = None) -> Tensor:
        """(T,) ids and (T,) places -> (T, d), in the tables' dtype; ``dropout_seed`` decides what is dropped."""
        x = self.tokens(tokens)
        if self.kind == "learned":
            x = x + self.positions(positions)
        elif self.kind == "sinusoidal":
            x = x + self.sinusoids[positions]
        return ops.layer_norm(
            x,
            self.norm.weight,
            self.norm.bias,
            eps=self.norm.eps,
            dropout_p=self.dropout if self.training else 0.0,
            dropout_seed=dropout_seed,
            dtype=x.dtype,
        )
