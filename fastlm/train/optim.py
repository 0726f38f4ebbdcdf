"""Optimizers: which weights decay, and the state as named tensors (no pickle)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fastlm.errors import CheckpointError
from fastlm.train.config import TrainConfig

#: name of the choice -> class. ``adam-l2`` adds the decay to the gradient (Kingma & Ba 2015), ``adamw`` takes it off
#: the weight itself (Loshchilov & Hutter 2019): the same number means two different things.
OPTIMIZERS: dict[str, type[torch.optim.Adam]] = {"adamw": torch.optim.AdamW, "adam-l2": torch.optim.Adam}


def build(model: nn.Module, config: TrainConfig) -> torch.optim.Adam:
    """The run's optimizer; weight decay acts on matrices (embeddings included), never on biases and norms."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    kind = OPTIMIZERS[config.optimizer]
    groups = [group for group in groups if group["params"]]
    return kind(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=_fused(kind, parameters) or None)


def _fused(kind: type[torch.optim.Adam], parameters: list[nn.Parameter]) -> bool:
    """Whether torch has the one-kernel update for these tensors."""
    return "fused" in inspect.signature(kind).parameters and all(
        p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next update, for every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as ``{"exp_avg/<parameter>": tensor}``; empty before the first update."""
    return {
        f"{key}/{name}": value if isinstance(value, Tensor) else torch.tensor(float(value))
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of :func:`state_tensors`.

    Raises:
        CheckpointError: a parameter that the model does not have, or another shape.
    """
    parameters = dict(model.named_parameters())
    index = {id(p): i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state: dict[int, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        key, name = full.split("/", 1)
        if name not in parameters:
            raise CheckpointError(f"optimizer.safetensors: the model has no parameter {name}")
        if key != "step" and tensor.shape != parameters[name].shape:
            raise CheckpointError(
                f"optimizer.safetensors: {full} is {tuple(tensor.shape)}, "
                f"the model's is {tuple(parameters[name].shape)}"
            )
        state.setdefault(index[id(parameters[name])], {})[key] = tensor
    plain = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})
