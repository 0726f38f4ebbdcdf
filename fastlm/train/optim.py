"""Optimizers: which weights decay, and the state as named tensors (no pickle)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastlm import ops
from fastlm.errors import CheckpointError
from fastlm.train.config import TrainConfig

#: name of the choice -> whether the decay is decoupled. ``adam-l2`` adds the decay to the gradient (Kingma & Ba 2015),
#: ``adamw`` takes it off the weight itself (Loshchilov & Hutter 2019): the same number means two different things.
OPTIMIZERS = {"adamw": True, "adam-l2": False}


class FusedAdam(torch.optim.Adam):
    """``torch.optim.Adam(fused=True)`` with fastlm's step, ``ops.adam_``; state and checkpoints are torch's.

    The attributes ``grad_scale`` and ``found_inf`` mean what they mean to torch's fused optimizers.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        options: dict[str, Any] = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient; returns what ``closure`` did, which is called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if getattr(self, "found_inf", None):
            return loss
        grad_scale = getattr(self, "grad_scale", None)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            states = [self._state_of(p) for p in params]
            ops.adam_(
                params,
                [p.grad for p in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [state["step"] for state in states],
                **{key: group[key] for key in ("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay")},
                grad_scale=1.0 if grad_scale is None else float(grad_scale),
            )
        return loss

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
        return state


def build(model: nn.Module, config: TrainConfig) -> torch.optim.Adam:
    """The run's optimizer; weight decay acts on matrices (embeddings included), never on biases and norms.

    It is fastlm's own where its kernels take the step, else torch's fused one.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    options: dict[str, Any] = {
        "lr": config.lr,
        "betas": (config.beta1, config.beta2),
        "decoupled_weight_decay": OPTIMIZERS[config.optimizer],
    }
    groups = [group for group in groups if group["params"]]
    if _runs_kernels(parameters, config):
        return FusedAdam(groups, **options)
    return torch.optim.Adam(groups, fused=True, **options)


def _runs_kernels(parameters: list[nn.Parameter], config: TrainConfig) -> bool:
    """Whether fastlm's kernels are to update these tensors, and can: Triton's only where they were asked for.

    Theirs is a launch for each parameter, and on a GPU the host reads ``found_inf`` and ``grad_scale`` first.
    """
    asked = (config.kernels, os.environ.get("FASTLM_BACKEND"))
    families = ("native", "triton") if "triton" in asked else ("native",)
    able = {device for device, choice in ops.explain()["adam"].items() if choice["pick"] in families}
    return all(p.device.type in able and p.dtype == torch.float32 and p.is_contiguous() for p in parameters)


def clip(optimizer: torch.optim.Adam, norm: Tensor, limit: float) -> None:
    """Lets the optimizer scale gradients of global norm ``norm`` down to ``limit``, where that is smaller, in its step.

    That is ``torch.nn.utils.clip_grads_with_norm_`` without a pass of its own. It holds until the next call.
    """
    optimizer.grad_scale = ((norm + 1e-6) / limit).clamp(min=1.0)  # type: ignore[attr-defined]


def skip_unless(optimizer: torch.optim.Adam, finite: Tensor) -> None:
    """Lets the optimizer's step do nothing where ``finite`` () bool is False, which a GPU need not tell the host.

    It holds until the next call.
    """
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]


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
