"""linear_cross_entropy at the masked rows of a batch, beside F.cross_entropy over F.linear.

Flops: 2 M d V forward and three times that in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm import ops
from fastlm.testing import check_against_fp64

LOSS_ROWS = {"smoke": (37, 64, 257), "masked_rows": (820, 512, 30_000)}  # 15 % of 256 sentences; d_model; vocabulary


def torch_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight), targets)


def our_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return ops.linear_cross_entropy(hidden, weight, targets).loss


@pytest.mark.parametrize("provider", [our_loss, torch_loss], ids=["linear_cross_entropy", "linear_then_cross_entropy"])
@pytest.mark.parametrize("shape", LOSS_ROWS)
def test_linear_cross_entropy(measure: Any, shape: str, provider: Callable[..., Tensor]) -> None:
    rows, width, vocabulary = LOSS_ROWS[shape]
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = torch.randn(vocabulary, width).mul_(0.02).requires_grad_()
    targets = torch.randint(vocabulary, (rows,))
    some = targets[:8]
    check_against_fp64(
        lambda h, w: provider(h, w, some),
        lambda h, w: torch_loss(h, w, some),
        [hidden[:8], weight],
        names="loss hidden weight",
    )

    def both() -> Any:
        return torch.autograd.grad(provider(hidden, weight, targets), [hidden, weight])

    flops = 3 * 2.0 * rows * width * vocabulary
    measure(both, group=f"linear_cross_entropy {shape} forward+backward", flops=flops, tokens=rows, rounds=3)
