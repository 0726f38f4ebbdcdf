"""The transformer block that encoder and decoder share."""

from __future__ import annotations

from torch import Tensor, nn

from fastlm.nn.attention import Attended, Queries, SelfAttention
from fastlm.nn.cross_attention import CrossAttention, Remembered
from fastlm.nn.mlp import MLP
from fastlm.nn.norm import Stream, StreamNorm


class Block(nn.Module):
    """Attention and feed-forward, each in a residual branch with dropout; LayerNorm (eps 1e-5) before or after it.

    ``pre`` normalises what a branch reads (Xiong et al. 2020, https://arxiv.org/abs/2002.04745); ``post`` normalises
    the sum, as the original transformer and BERT do. Either way each norm closes the sum before it. A pre-norm block
    therefore leaves its last branch pending in the stream, for the next block or the final norm; a post-norm block
    leaves nothing.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        ff: int,
        *,
        causal: bool,
        activation: str,
        norm: str,
        dropout: float,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.attention_norm = StreamNorm(d_model, dropout)
        self.attention = SelfAttention(d_model, heads, causal=causal, dropout=dropout)
        if cross:
            self.cross_norm = StreamNorm(d_model, dropout)
            self.cross_attention = CrossAttention(d_model, heads, dropout=dropout)
        self.mlp_norm = StreamNorm(d_model, dropout)
        self.mlp = MLP(d_model, ff, activation=activation)

    @staticmethod
    def seeds(cross: bool) -> int:
        """How many numbers a block's dropout takes: its own seed and those after it."""
        return 3 if cross else 2

    def forward(
        self,
        stream: Stream,
        sequences: Attended,
        queries: Queries | None = None,
        dropout_seed: Tensor | int = 0,
        memory: Remembered | None = None,
    ) -> Stream:
        """A stream of T rows to one of T, or of the M rows that ``queries`` names, if only these are needed.

        Then only the keys and values are computed for all T rows. Between attention and feed-forward a block with
        ``cross`` reads ``memory``, for all T rows. Dropout takes ``dropout_seed`` for attention and for the first norm
        (whose masks differ under one seed), and the numbers after it for the next ones.
        """
        run = self._pre if self.pre else self._post
        return run(stream, sequences, queries, dropout_seed, memory)

    def _pre(
        self,
        stream: Stream,
        sequences: Attended,
        queries: Queries | None,
        seed: Tensor | int,
        memory: Remembered | None,
    ) -> Stream:
        y, x = self.attention_norm(stream, seed)
        branch = self.attention(y, sequences, queries, seed)
        kept = x if queries is None else x.index_select(0, queries.rows)
        if memory is not None:
            y, kept = self.cross_norm(Stream(kept, branch), seed + 2)
            branch = self.cross_attention(y, sequences, memory, seed + 2)
        y, x = self.mlp_norm(Stream(kept, branch), seed + 1)
        return Stream(x, self.mlp(y))

    def _post(
        self,
        stream: Stream,
        sequences: Attended,
        queries: Queries | None,
        seed: Tensor | int,
        memory: Remembered | None,
    ) -> Stream:
        x = stream.residual
        branch = self.attention(x, sequences, queries, seed)
        kept = x if queries is None else x.index_select(0, queries.rows)
        # The norm's result is the next residual, which keeps its precision under autocast.
        y, _ = self.attention_norm(Stream(kept, branch), seed, x.dtype)
        if memory is not None:
            y, _ = self.cross_norm(Stream(y, self.cross_attention(y, sequences, memory, seed + 2)), seed + 2, x.dtype)
        y, _ = self.mlp_norm(Stream(y, self.mlp(y)), seed + 1, x.dtype)
        return Stream(y)
