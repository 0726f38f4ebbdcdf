"""Multi-head self-attention over packed sentences, and rotary positions.

The attention itself is `fastlm.ops.attention`; this module owns the projections around it. Queries, keys and values
come out of one matrix product and go into the op as views of its result.

Shapes: T tokens, M of them queried, d = H heads x D, B sentences.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastlm import ops


class Sequences(NamedTuple):
    """Where the sentences of a packed batch lie.

    Attributes:
        cu_seqlens: (B+1,) int32, first row of each sentence.
        max_seqlen: an upper bound of their lengths.
        rotation: cosines and sines of every token's rotary angles, each (T, D/2); None without rotary positions.
    """

    cu_seqlens: Tensor
    max_seqlen: int
    rotation: tuple[Tensor, Tensor] | None = None

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, queries: Queries | None, *, causal: bool, **dropout: Any
    ) -> Tensor:
        """Each sentence attends to itself; q (T or M, H, D), k and v (T, H, D) -> q's shape."""
        asking = self if queries is None else queries
        return ops.attention(
            q,
            k,
            v,
            asking.cu_seqlens,
            self.cu_seqlens,
            max_seqlen_q=asking.max_seqlen,
            max_seqlen_k=self.max_seqlen,
            causal=causal,
            **dropout,
        )

    def attend_to(
        self, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_k: Tensor, max_seqlen_k: int, **dropout: Any
    ) -> Tensor:
        """Each sentence's q (T, H, D) attend to other rows, k and v (S, H, D), which ``cu_seqlens_k`` deals out."""
        return ops.attention(
            q,
            k,
            v,
            self.cu_seqlens,
            cu_seqlens_k,
            max_seqlen_q=self.max_seqlen,
            max_seqlen_k=max_seqlen_k,
            **dropout,
        )


class Attended(Protocol):
    """What rows attend to: `Sequences`, or the keys and values of `fastlm.models.cache`."""

    @property
    def rotation(self) -> tuple[Tensor, Tensor] | None:
        """Of the rows, as `Sequences` has it."""

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, queries: Queries | None, *, causal: bool, **dropout: Any
    ) -> Tensor:
        """Of rows, q (T or M, H, D), k and v (T, H, D) -> q's shape."""

    def attend_to(
        self, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_k: Tensor, max_seqlen_k: int, **dropout: Any
    ) -> Tensor:
        """Q (T, H, D) to rows of other sentences, k and v (S, H, D) -> q's shape."""


class Queries(NamedTuple):
    """The rows of a packed batch whose output somebody reads.

    Attributes:
        rows: (M,) int64, ascending.
        cu_seqlens: (B+1,) int32, how many of ``rows`` lie before each sentence.
        max_seqlen: an upper bound of how many lie in one sentence.
    """

    rows: Tensor
    cu_seqlens: Tensor
    max_seqlen: int


def select_queries(rows: Tensor, sequences: Sequences) -> Queries:
    """Describe ``rows`` (M,) of a packed batch, ascending int64, as queries; the host waits for no device."""
    cu_seqlens = torch.searchsorted(rows, sequences.cu_seqlens.to(rows.dtype)).to(torch.int32)
    return Queries(rows, cu_seqlens, min(sequences.max_seqlen, rows.shape[0]))


class RotaryPositions(nn.Module):
    """Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864), in the half-split layout of GPT-NeoX.

    Args:
        head_dim: D, even.
        seq_len: positions 0 to seq_len - 1 are tabulated.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, seq_len: int, base: float = 10_000.0) -> None:
        super().__init__()
        frequencies = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        angles = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequencies)  # (seq_len, D/2)
        self.register_buffer("cos", angles.cos().to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("sin", angles.sin().to(torch.get_default_dtype()), persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of (T,) positions, each (T, D/2)."""
        return self.cos[positions], self.sin[positions]


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (i, i + D/2) of ``x`` (T, H, D) by each token's angles; computed in the tables' dtype."""
    cos, sin = (table.unsqueeze(1) for table in rotation)  # (T, 1, D/2)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).to(x.dtype)


class SelfAttention(nn.Module):
    """Multi-head attention of each sentence to itself (Vaswani et al. 2017), with biases.

    ``qkv.weight`` is (3d, d): queries, keys, values, each head by head.
    """

    def __init__(self, d_model: int, heads: int, *, causal: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, d_model // heads
        self.causal = causal
        self.dropout = dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(
        self, x: Tensor, sequences: Attended, queries: Queries | None = None, dropout_seed: Tensor | int | None = None
    ) -> Tensor:
        """(T, d) -> (T, d), or (M, d) for the rows of ``queries`` alone (they still attend to every key).

        ``dropout_seed`` decides which probabilities are dropped in training; see `fastlm.ops.attention`. The mask is
        keyed by the query's row, so restricting the queries draws another, equally random one.
        """
        q, k, v = self._project(x, queries)
        if sequences.rotation is not None:
            cos, sin = sequences.rotation
            q = rotate(q, (cos, sin) if queries is None else (cos[queries.rows], sin[queries.rows]))
            k = rotate(k, (cos, sin))
        dropout_p = self.dropout if self.training else 0.0
        heads = sequences.attend(q, k, v, queries, causal=self.causal, dropout_p=dropout_p, dropout_seed=dropout_seed)
        projected: Tensor = self.output(heads.flatten(1))
        return projected

    def _project(self, x: Tensor, queries: Queries | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (T or M, H, D), keys and values (T, H, D), as views of the projections' results."""
        (rows, d), head = x.shape, (self.heads, self.head_dim)
        if queries is None:
            q, k, v = self.qkv(x).view(rows, 3, *head).unbind(1)
            return q, k, v
        # Not x[rows], whose gradient sorts the rows, lest two of them are the same.
        asking = x.index_select(0, queries.rows)
        q = F.linear(asking, self.qkv.weight[:d], self.qkv.bias[:d]).view(queries.rows.shape[0], *head)
        k, v = F.linear(x, self.qkv.weight[d:], self.qkv.bias[d:]).view(rows, 2, *head).unbind(1)
        return q, k, v
