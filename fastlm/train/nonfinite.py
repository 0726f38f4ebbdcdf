"""A loss or gradient that is not finite: where it comes from, for a person to look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastlm import ops
from fastlm.batch import Step
from fastlm.errors import FastlmError
from fastlm.train import atomic
from fastlm.train.evaluate import autocast
from fastlm.train.step import Stepper, mix

#: skipped steps in a row after which a run stops
PATIENCE = 5


class NonFinite(FastlmError):
    """Training cannot go on: loss or gradient were not finite too often, or a target is outside the vocabulary."""

    exit_code = 3


def bad_target(stepper: Stepper, step: Step) -> str:
    """What the op with full checks says of a target out of range when the step is run again, or nothing."""
    ops.set_checks("full")
    try:
        _forward_again(stepper, step)
    except IndexError as error:
        return str(error)
    finally:
        ops.set_checks("off")
    return ""


def dump(folder: Path, stepper: Stepper, step: Step, found: str) -> Path:
    """Writes what is needed to repeat the step (its sentences, seeds) and the first module that is not finite.

    Args:
        folder: run folder.
        stepper: with the gradients of the step still in place.
        step: the step that failed.
        found: what was wrong, in words.
    """
    model = stepper.model
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    report = {
        "found": found,
        "step": step.index,
        "epoch": step.epoch,
        "rank": stepper.world.rank,
        "seed": stepper.config.seed,
        "dropout_seed": mix(stepper.config.seed, step.index, stepper.world.rank),
        "sentence_ids": [batch.sentence_ids.tolist() for batch in step.batches],
        "target_count": step.target_count,
        "first_non_finite_parameter": _first(dict(model.named_parameters())),
        "first_non_finite_gradient": _first(gradients),
        "first_non_finite_module": _first_module(model, lambda: _forward_again(stepper, step)),
    }
    path = folder / "debug" / f"step-{step.index:010d}-rank-{stepper.world.rank}.json"
    path.parent.mkdir(exist_ok=True)
    atomic.replace_file(path, (json.dumps(report, indent=1) + "\n").encode())
    return path


def _forward_again(stepper: Stepper, step: Step) -> None:
    """The step's forward passes with the same dropout, without gradients, DDP or compilation."""
    stepper.seed(step.index)
    device = stepper.machine.device
    with torch.no_grad(), autocast(device, stepper.machine.dtype):
        for batch in step.batches:
            stepper.model.loss(batch.to(device), reduction="sum")


def _first(tensors: dict[str, Tensor] | dict[str, nn.Parameter]) -> str | None:
    return next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)


def _first_module(model: nn.Module, forward: Callable[[], None]) -> str | None:
    """Name of the first module, in order of execution, whose output is not finite."""
    found: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            parts = output if isinstance(output, tuple) else (output,)
            floats = (part for part in parts if isinstance(part, Tensor) and part.is_floating_point())
            if not all(bool(torch.isfinite(part).all()) for part in floats):
                found.append(name)

        return look

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name]
    try:
        forward()
    except IndexError:
        pass  # a target out of range has been named already
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
