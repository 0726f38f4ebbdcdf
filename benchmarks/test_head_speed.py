"""linear_cross_entropy at the masked rows of a batch, and at all of them, beside its peers.

F.cross_entropy over F.linear, PyTorch's F.linear_cross_entropy where it has one, and the three matrix products that
every way must make, alone and into memory that is there already. Flops: 2 M d V forward and three times that in all.
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

LOSS_ROWS = {  # rows; d_model; vocabulary
    "smoke": (37, 64, 257),
    "masked_rows": (840, 512, 30_000),  # 15 % of 256 sentences
    "masked_rows_5k": (840, 768, 5_000),
    "masked_rows_52k": (840, 1024, 52_000),
    "all_rows": (4096, 512, 30_000),
    "peak_rows": (16_384, 512, 30_000),
}


def torch_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight), targets)


def our_loss(family: str) -> Callable[..., Tensor]:
    return lambda *tensors: ops.linear_cross_entropy(*tensors, backend=family).loss


LOSSES: dict[str, Callable[..., Tensor]] = {
    "native": our_loss("native"),
    "reference": our_loss("reference"),
    "linear_then_cross_entropy": torch_loss,
}
if hasattr(F, "linear_cross_entropy"):  # torch 2.13
    LOSSES["torch_linear_cross_entropy"] = F.linear_cross_entropy
PRODUCTS = "three_products"
PEAK = ("native", PRODUCTS)  # at the peak's rows the others would take minutes and gigabytes
GRID = [(shape, provider) for shape in LOSS_ROWS for provider in (*LOSSES, PRODUCTS)]
GRID = [case for case in GRID if case[0] != "peak_rows" or case[1] in PEAK]


def three_products(hidden: Tensor, weight: Tensor) -> Callable[[], Any]:
    """The products of the logits, and of what has their shape with the weight and with hidden."""
    logits = torch.empty(len(hidden), len(weight), dtype=hidden.dtype)
    grads = torch.empty_like(hidden), torch.empty_like(weight)

    def call() -> None:
        torch.mm(hidden, weight.T, out=logits)
        torch.mm(logits, weight, out=grads[0])
        torch.mm(logits.T, hidden, out=grads[1])

    return call


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("shape", "provider"), GRID)
def test_linear_cross_entropy(measure: Any, shape: str, dtype: torch.dtype, provider: str) -> None:
    if provider == "native" and (fault := ops.native_fault()) is not None:
        pytest.skip(f"no native ops: {fault}")
    rows, width, vocabulary = LOSS_ROWS[shape]
    hidden = torch.randn(rows, width).to(dtype)
    weight = torch.randn(vocabulary, width).mul_(0.02).to(dtype)
    targets = torch.randint(vocabulary, (rows,))
    group = f"linear_cross_entropy {shape} {str(dtype)[6:]} forward+backward"
    work = {
        "group": group,
        "flops": 3 * 2.0 * rows * width * vocabulary,
        "dtype": dtype,
        "rounds": 1 if shape == "peak_rows" else 3,
    }
    if provider == PRODUCTS:
        measure(three_products(hidden, weight), **work)
        return
    loss, some = LOSSES[provider], targets[:32]
    deviations = check_against_fp64(
        lambda h, w: loss(h, w, some),
        lambda h, w: torch_loss(h, w, some),
        [hidden[:32], weight],
        names="loss hidden weight",
    )
    leaves = hidden.requires_grad_(), weight.requires_grad_()
    measure(lambda: torch.autograd.grad(loss(*leaves, targets), leaves), deviations=deviations, **work)
