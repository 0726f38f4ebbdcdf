"""dropout_add_layer_norm, forward and backward: native beside PyTorch's separate operations and the reference.

Byte model per element, with R bytes of residual and B of branch and result: forward 2 R + 2 B (read both, write the sum
and the norm), backward 3 R + 2 B (read the sum and both gradients, write two). Under autocast R is 4 and B is 2.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm import ops
from fastlm.testing import check_against_fp64

Norm = Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]

SHAPES = {"smoke": (64, 48), "batch_256": (5600, 256), "batch_512": (5600, 512), "long_768": (16384, 768)}
BRANCHES = {"fp32": torch.float32, "autocast": torch.bfloat16}


def eager(branch: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, p: float) -> tuple[Tensor, Tensor]:
    x = residual + F.dropout(branch, p)
    return F.layer_norm(x, weight.shape, weight, bias).to(branch.dtype), x


def fused(
    branch: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, p: float, *, backend: str
) -> tuple[Tensor, Tensor]:
    options = {"dropout_p": p, "dropout_seed": 1, "dtype": branch.dtype, "backend": backend}
    return ops.dropout_add_layer_norm(branch, residual, weight, bias, **options)


PROVIDERS: dict[str, Norm] = {
    "eager": eager,
    "native": functools.partial(fused, backend="native"),
    "reference": functools.partial(fused, backend="reference"),
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("p", [0.0, 0.1])
@pytest.mark.parametrize(("shape", "branch"), itertools.product(SHAPES, BRANCHES))
def test_dropout_add_layer_norm(measure: Any, shape: str, branch: str, p: float, way: str, provider: str) -> None:
    if provider == "native" and (fault := ops.native_fault()) is not None:
        pytest.skip(f"no native ops: {fault}")
    rows, width = SHAPES[shape]
    function = PROVIDERS[provider]
    small = [torch.randn(8, width), torch.randn(8, width), torch.ones(width), torch.zeros(width)]
    deviations = check_against_fp64(
        lambda *t: torch.cat(function(*t, 0.0), -1),
        lambda *t: torch.cat(eager(*t, 0.0), -1),
        small,
        names="y,x branch residual weight bias",
    )
    tensors = [torch.randn(rows, width).to(BRANCHES[branch]), torch.randn(rows, width), *small[2:]]
    leaves = [x.requires_grad_() for x in tensors]
    y, x = function(*leaves, p)
    grads = [torch.randn(rows, width).to(out.dtype) for out in (y, x)]

    def forward() -> tuple[Tensor, Tensor]:
        return function(*leaves, p)

    def backward() -> Any:
        return torch.autograd.grad([y, x], leaves, grads, retain_graph=True)

    wide, narrow = x.element_size(), y.element_size()
    moved = rows * width * ((2 if way == "forward" else 3) * wide + 2 * narrow)
    measure(
        forward if way == "forward" else backward,
        group=f"dropout_add_layer_norm {shape} {branch} p={p} {way}",
        deviations=deviations,
        bytes_moved=moved,
        rounds=15,
    )
