"""A training step asks nothing of the device before all of it is queued: run on pretended CUDA tensors, which have
shapes and no values, anything that waits for one is an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from fastlm import batch as batches
from fastlm import ops
from fastlm.ops import _backend
from fastlm.train import evaluate, optim, step
from fastlm.train.config import RunConfig
from tests.train.test_step import make

MakeConfig = Callable[..., RunConfig]
DEVICE = torch.device("cuda")


class Asked(Exception):
    """The host reads what the step has computed."""


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """CUDA tensors without values, for which every op has kernels."""
    mode = FakeTensorMode()
    monkeypatch.setattr(_backend, "why_not", lambda op, family, device, limits=None: None)

    def to_device(tensor: Tensor, device: torch.device) -> Tensor:
        return mode.from_tensor(tensor).to(device)

    for module in (batches, evaluate, step):
        monkeypatch.setattr(module, "to_device", to_device)

    def read(tensor: Tensor) -> None:
        raise Asked

    monkeypatch.setattr(Tensor, "tolist", read)
    return mode


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_a_step_waits_for_a_gpu_once_at_its_end(
    make_config: MakeConfig, model: str, pretended: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper, loader = make(make_config, model=model, dropout=0.1, accumulate=2, clip=1.0)
    chunk = loader.step(0)
    calls: list[str] = []
    with pretended:
        stepper.machine = torch.fx.experimental.proxy_tensor and stepper.machine
