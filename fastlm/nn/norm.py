"""The residual stream between branches, and the norms that close its sums.

A branch's result is not added where it arises: the stream carries it to the next norm, which drops, adds and normalises
in one pass over memory (`fastlm.ops.dropout_add_layer_norm`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastlm import ops


class Stream(NamedTuple):
    """Hidden states ``residual + dropout(branch)``, before they are added.

    Attributes:
        residual: (T, d).
        branch: (T, d), what the last branch adds; None where nothing is pending.
    """

    residual: Tensor
    branch: Tensor | None = None

    def at(self, rows: Tensor) -> Stream:
        """The stream at ``rows`` (M,) alone."""
        residual, branch = self
        return Stream(residual.index_select(0, rows), None if branch is None else branch.index_select(0, rows))


class StreamNorm(nn.Module):
    """LayerNorm of a stream, whose pending branch is dropped and added first; the parameters are ``nn.LayerNorm``'s."""

    eps = 1e-5

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(
        self, stream: Stream, dropout_seed: Tensor | int | None = None, dtype: torch.dtype | None = None
    ) -> ops.DropoutAddLayerNormOutput:
        """The normalised sum, in ``dtype`` or what autocast's matrix products take, and the sum itself; both (T, d).

        ``dropout_seed`` decides what is dropped in training; every norm of a model needs one of its own.
        """
        residual, branch = stream
        if branch is None:
            y = ops.layer_norm(residual, self.weight, self.bias, eps=self.eps, dtype=dtype)
            return ops.DropoutAddLayerNormOutput(y, residual)
        return ops.dropout_add_layer_norm(
            branch,
            residual,
            self.weight,
            self.bias,
            eps=self.eps,
            dropout_p=self.dropout if self.training else 0.0,
            dropout_seed=dropout_seed,
            dtype=dtype,
        )
