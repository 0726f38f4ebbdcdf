"""The transformer block that encoder and decoder share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fastlm.nn.attention import Queries, SelfAttention, Sequences
from fastlm.nn.mlp import MLP


class Block(nn.Module):
    """Attention and feed-forward, each in a residual branch with dropout; LayerNorm (eps 1e-5) before or after it.

    ``pre`` normalises what a branch reads (Xiong et al. 2020, https://arxiv.org/abs/2002.04745); ``post`` normalises
    the sum, as the original transformer and BERT do.
    """

    def __init__(
        self, d_model: int, heads: int, ff: int, *, causal: bool, activation: str, norm: str, dropout: float
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, heads, causal=causal, dropout=dropout)
        self.mlp_norm = nn.LayerNorm(d_model)
        self.mlp = MLP(d_model, ff, activation=activation)

    def forward(
        self, x: Tensor, sequences: Sequences, queries: Queries | None = None, dropout_seed: int | None = None
    ) -> Tensor:
        """(T, d) -> (T, d), or (M, d) where ``queries`` names the only rows that are needed.

        Then only the keys and values are computed for all T rows. ``dropout_seed`` is the attention's.
        """
        kept = x if queries is None else x[queries.rows]
        if self.pre:
            kept = kept + self._drop(self.attention(self.attention_norm(x), sequences, queries, dropout_seed))
            return kept + self._drop(self.mlp(self.mlp_norm(kept)))
        kept = self.attention_norm(kept + self._drop(self.attention(x, sequences, queries, dropout_seed)))
        y: Tensor = self.mlp_norm(kept + self._drop(self.mlp(kept)))
        return y

    def _drop(self, branch: Tensor) -> Tensor:
        return F.dropout(branch, self.dropout, self.training)
