"""The feed-forward layer of a block."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "swish": F.silu}


class MLP(nn.Module):
    """``down(activation(up(x)))`` with biases, (N, d) -> (N, d); ``gelu`` is the exact one (erf)."""

    def __init__(self, d_model: int, ff: int, *, activation: str) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, ff)
        self.activation = ACTIVATIONS[activation]
        self.down = nn.Linear(ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Each row by itself."""
        y: Tensor = self.down(self.activation(self.up(x)))
        return y
