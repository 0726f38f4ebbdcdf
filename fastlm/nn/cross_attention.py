"""Attention of one sentence's tokens to another's: how a translation reads its source."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from fastlm.nn.attention import Attended


class Memory(NamedTuple):
    """What an encoder made of the sources, one for each sentence of the rows that read it.

    Attributes:
        hidden: (S, d) of all tokens of the sources, packed.
        cu_seqlens: (B+1,) int32, first row of each source.
        max_seqlen: an upper bound of their lengths.
    """

    hidden: Tensor
    cu_seqlens: Tensor
    max_seqlen: int

    def attend(self, attention: CrossAttention, q: Tensor, sequences: Attended, **dropout: Any) -> Tensor:
        """Rows q (T, H, D), packed as ``sequences`` says, each attend to their own source."""
        k, v = attention.keys_and_values(self.hidden)
        return sequences.attend_to(q, k, v, self.cu_seqlens, self.max_seqlen, **dropout)


class Remembered(Protocol):
    """`Memory`, or the keys and values of `fastlm.models.cache`."""

    def attend(self, attention: CrossAttention, q: Tensor, sequences: Attended, **dropout: Any) -> Tensor:
        """Rows q (T, H, D) -> what they read, (T, H, D)."""


class CrossAttention(nn.Module):
    """Multi-head attention to a memory (Vaswani et al. 2017, section 3.2.3), with biases.

    ``kv.weight`` is (2d, d): keys, then values, head by head.
    """

    def __init__(self, d_model: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, d_model // heads
        self.dropout = dropout
        self.q = nn.Linear(d_model, d_model)
        self.kv = nn.Linear(d_model, 2 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(
        self, x: Tensor, sequences: Attended, memory: Remembered, dropout_seed: Tensor | int | None = None
    ) -> Tensor:
        """(T, d), packed as ``sequences`` says -> (T, d)."""
        q = self.q(x).view(len(x), self.heads, self.head_dim)
        dropout_p = self.dropout if self.training else 0.0
        read = memory.attend(self, q, sequences, dropout_p=dropout_p, dropout_seed=dropout_seed)
        projected: Tensor = self.output(read.flatten(1))
        return projected

    def keys_and_values(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Of a memory's rows (S, d): each (S, H, D), views of one product."""
        k, v = self.kv(hidden).view(len(hidden), 2, self.heads, self.head_dim).unbind(1)
        return k, v
