"""The optimizer's part of a step - global norm, clipping, AdamW - beside PyTorch's.

Byte model per parameter, all fp32: the norm reads the gradient (4), the update reads gradient, parameter and both means
and writes the last three (28). Clipping is free where the update takes a factor, and reads and writes all gradients
once more (8) where it is a pass of its own, as in ``clip_grad_norm_``; that is not counted as useful.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.steps import CLIP, RECORD, SMOKE, Size
from fastlm import models, ops
from fastlm.models.config import ModelConfig
from fastlm.testing import assert_within_budget
from fastlm.train import optim
from fastlm.train.config import TrainConfig

SIZES = {"smoke": SMOKE, "record_34M": RECORD}
NORM_BYTES, UPDATE_BYTES = 4, 28
DECAY = 0.01

Step = Callable[[], None]


def model_with_gradients(size: Size, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model = models.build(ModelConfig(model="encoder", **vars(size))).to(dtype)
    for p in model.parameters():
        p.grad = torch.randn(p.shape).to(dtype)
    return model


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def torch_step(model: nn.Module) -> Step:
    """Its fused AdamW, and clip_grad_norm_ before it."""
    with ops.use_backend("reference"):
        optimizer = optim.build(model, TrainConfig(weight_decay=DECAY))

    def step() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    return step


def torch_scaled_step(model: nn.Module) -> Step:
    """The same, the clipping's factor given to the optimizer."""
    with ops.use_backend("reference"):
        optimizer = optim.build(model, TrainConfig(weight_decay=DECAY))

    def step() -> None:
        optim.clip(optimizer, torch.nn.utils.get_total_norm(gradients(model)), CLIP)
        optimizer.step()

    return step


def native_step(model: nn.Module) -> Step:
    """fastlm's, as the trainer runs it."""
    optimizer = optim.build(model, TrainConfig(weight_decay=DECAY))
    assert isinstance(optimizer, optim.FusedAdam)

    def step() -> None:
        optim.clip(optimizer, ops.total_norm(gradients(model)), CLIP)
        optimizer.step()

    return step


PROVIDERS: dict[str, Callable[[nn.Module], Step]] = {
    "torch": torch_step,
    "torch_scaled": torch_scaled_step,
    "native": native_step,
}


def stepped(make: Callable[[nn.Module], Step], dtype: torch.dtype) -> Tensor:
    """All parameters of the small model after two steps."""
    model = model_with_gradients(SMOKE, dtype)
    step = make(model)
    step()
    step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", SIZES)
def test_optimizer(measure: Any, size: str, provider: str) -> None:
    if provider == "native" and (fault := ops.native_fault()) is not None:
        pytest.skip(f"no native ops: {fault}")
    make = PROVIDERS[provider]
    results = stepped(make, torch.float32), stepped(torch_step, torch.float32), stepped(torch_step, torch.float64)
    model = model_with_gradients(SIZES[size])
    step = make(model)
    step()  # makes the state
    measure(
        step,
        group=f"optimizer {size}",
        deviations=[assert_within_budget(*results, "parameters")],
        bytes_moved=(NORM_BYTES + UPDATE_BYTES) * sum(p.numel() for p in model.parameters()),
        rounds=15,
    )
