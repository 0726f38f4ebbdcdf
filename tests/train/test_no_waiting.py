"""A training step asks nothing of the device before all of it is queued.

It runs on meta tensors, which have shapes and no values: whatever waits for one is an error. They stand for a GPU's, to
which alone batches go by way of `to_device`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastlm import batch as batches
from fastlm.ops import _backend
from fastlm.train import evaluate, step
from fastlm.train.config import RunConfig
from fastlm.train.step import Stepper
from tests.train.test_step import make

MakeConfig = Callable[..., RunConfig]


class Asked(Exception):
    """The host reads what the step has computed."""


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch, make_config: MakeConfig) -> Callable[..., Stepper]:
    """``on_meta(**config)``: a stepper whose model has no values, and for which every op has kernels."""
    monkeypatch.setattr(_backend, "why_not", lambda op, family, device, limits=None: None)
    for module in (batches, evaluate, step):
        monkeypatch.setattr(module, "to_device", lambda tensor, device: tensor.to(device))

    # Adam's fused kernel has shapes on this device, but refuses to be asked for it.
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda *args: None)

    def read(tensor: Tensor) -> None:
        raise Asked

    monkeypatch.setattr(Tensor, "tolist", read)

    def build(**values: object) -> tuple[Stepper, object]:
        stepper, loader = make(make_config, **values)
        chunk = loader.step(0)
        machine = dataclasses.replace(stepper.machine, device=torch.device("meta"))
        optimizer = torch.optim.Adam(stepper.model.to("meta").parameters(), fused=True)
        return Stepper(stepper.model, optimizer, stepper.config, machine, stepper.world, stepper.grouping), chunk

    return build


@pytest.mark.parametrize("model", ["encoder", "decoder"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_waits_for_a_gpu_once_at_its_end(on_meta, model: str, accumulate: int) -> None:
    stepper, chunk = on_meta(model=model, dropout=0.1, accumulate=accumulate, clip=1.0)
    updated = []
    stepper.optimizer.register_step_post_hook(lambda *_: updated.append(True))
    with pytest.raises(Asked):
        stepper.run(chunk, 1e-3)
    assert updated == [True]


@pytest.mark.parametrize("wait", [lambda x: float(x), lambda x: x.nonzero(), lambda x: bool(x > 0), lambda x: x.cpu()])
def test_whatever_waits_is_an_error(on_meta, wait: Callable[[Tensor], object]) -> None:
    stepper, chunk = on_meta()
    stepper.model.final_norm.register_forward_hook(lambda module, inputs, output: wait(output.y.sum()) and None)
    with pytest.raises((NotImplementedError, RuntimeError)):
        stepper.run(chunk, 1e-3)
