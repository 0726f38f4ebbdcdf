"""``adam_(params, grads, exp_avgs, exp_avg_sqs, steps, ...)``: one optimizer step of all parameters in one pass.

The update is memory traffic: four reads and three writes of each parameter. So what would be a pass of its own, the
clipping of the gradients, is a factor here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastlm.ops import _backend, reference
from fastlm.ops._checks import check_float, check_like

# ---- registered op -------------------------------------------------------------------------------------------------
# Lists of equal length: params, exp_avgs and exp_avg_sqs contiguous, grads strided at will, all fp32; steps of one
# fp32 element each. Updates all but grads in place.
_LISTS = "Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, Tensor(d!)[] steps"
_OPTIONS = (
    "float lr, float beta1, float beta2, float eps, float weight_decay, bool decoupled_weight_decay, float grad_scale"
)


def _fake(*args: object) -> None:
    return None


_kernels = _backend.define_single("adam", "adam_", f"({_LISTS}, {_OPTIONS}) -> ()", _fake)


# ---- public --------------------------------------------------------------------------------------------------------
@torch.no_grad()
def adam_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    grad_scale: float = 1.0,
    backend: str | None = None,
) -> None:
    """Adam's step (Kingma & Ba 2015, without AMSGrad) on every parameter, in place: that of ``torch.optim.Adam``.

    Args:
        params: tensors of any shapes, fp32 (bf16, fp16 and fp64 on the reference); contiguous for kernels.
        grads: one for each parameter, of its shape and dtype.
        exp_avgs, exp_avg_sqs: running means of gradient and squared gradient, alike; zeros before the first step.
        steps: one fp32 element each: how many steps that parameter has taken. 1 is added.
        lr: learning rate.
        betas: what the running means keep at each step.
        eps: added to the root of the mean square.
        weight_decay: added to the gradient, times the parameter (L2); or, with ``decoupled_weight_decay``, taken off
            the parameter, times ``lr`` (AdamW, Loshchilov & Hutter 2019).
        grad_scale: gradients are divided by it as they are read, and are not changed.
        backend: ``native``, ``triton``, ``reference`` or None (use_backend, FASTLM_BACKEND, else the first that runs).

    Raises:
        TypeError: a parameter that is not floating point, or tensors of unlike dtypes.
        ValueError: lists of unlike lengths, tensors of unlike shapes or devices, or a named backend that cannot run.
    """
    tensors = {"params": params, "grads": grads, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs, "steps": steps}
    _check(tensors)
    if not params:
        return
    options = (lr, *betas, eps, weight_decay, decoupled_weight_decay, grad_scale)
    family = _backend.select("adam", backend, params[0].device.type, _limits(tensors))
    if family == "reference":
        _on_reference(tensors, options)
        return
    _kernels[family](*map(list, tensors.values()), *options)
    torch.autograd.graph.increment_version([*params, *exp_avgs, *exp_avg_sqs, *steps])  # a saved one is now stale


def _on_reference(tensors: dict[str, Sequence[Tensor]], options: tuple[Any, ...]) -> None:
    for param, grad, exp_avg, exp_avg_sq, step in zip(*tensors.values(), strict=True):
        step += 1
        made = reference.adam(param, grad, exp_avg, exp_avg_sq, step, *options)
        for old, new in zip((param, exp_avg, exp_avg_sq), made, strict=True):
            old.copy_(new)


def _limits(tensors: dict[str, Sequence[Tensor]]) -> str | None:
    """Why kernels do not take these, or None."""
    for name in ("params", "exp_avgs", "exp_avg_sqs"):
        for i, x in enumerate(tensors[name]):
            if x.dtype != torch.float32:
                return f"{name}[{i}] is {x.dtype}, and kernels take float32"
            if not x.is_contiguous():
                return f"{name}[{i}] has strides {x.stride()}, and kernels update contiguous tensors"
    return None


def _check(tensors: dict[str, Sequence[Tensor]]) -> None:
    params = tensors["params"]
    for name, items in tensors.items():
        if len(items) != len(params):
            raise ValueError(f"{name}: {len(items)} tensors, but params has {len(params)}; pass one for each")
        for i, (x, param) in enumerate(zip(items, params, strict=True)):
            here, there = f"{name}[{i}]", f"params[{i}]"
            check_float(here, x)
            if name == "steps":
                if x.dtype != torch.float32 or x.numel() != 1:
                    raise ValueError(f"{here}: {x.dtype} {tuple(x.shape)} is no counter; pass one float32 element")
                continue
            check_like(here, x, there, param)
            if x.shape != param.shape:
                raise ValueError(f"{here}: shape {tuple(x.shape)}, but {there} has {tuple(param.shape)}")
