"""``adam_``: Adam's update of every parameter where it lies, four reads and three writes an element."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from fastlm.kernels import Configuration
from torch import Tensor

# The kernel waits for memory: two loads of 16 bytes from each of four tensors are in flight for a thread, and leave the
# registers that a full multiprocessor has for one.
BLOCK, WARPS = 1024, 4


# ---- kernel --------------------------------------------------------------------------------------------------------
@triton.jit
def _one_minus_exp(y):
    """1 - exp(y) of y <= 0. Near 0 the difference would cancel: there it is Taylor's series, to y**8."""
    series = 1.0
    for k in tl.static_range(2, 9):
        series = 1.0 + series * y / (10 - k)
    return tl.where(y > -0.5, -y * series, 1.0 - tl.exp(y))


@triton.jit(do_not_specialize=["step"])
def _adam(
    param,
    grad,
    exp_avg,
    exp_avg_sq,
    step,
    count: tl.int64,
    lr,
    log_beta1,
    log_beta2,
    share1,
    beta2,
    share2,
    eps,
    l2_decay,
    kept,
    grad_scale,
    BLOCK: tl.constexpr,
):
    """The update of param (count,), whose step () counts this one, too; share1 and share2 are 1 - beta1 and 1 - beta2.

    As beta**step nears 1, only its logarithm is exact enough in fp32.
    """
    steps = tl.load(step)
    rate = lr / _one_minus_exp(steps * log_beta1)
    root_factor = 1.0 / tl.sqrt(_one_minus_exp(steps * log_beta2))
    grad_factor = 1.0 / grad_scale
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < count
    weight = tl.load(param + offsets, mask=mask)
    g = tl.load(grad + offsets, mask=mask) * grad_factor + weight * l2_decay
    mean = tl.load(exp_avg + offsets, mask=mask)
    m = mean + (g - mean) * share1
    v = tl.load(exp_avg_sq + offsets, mask=mask) * beta2 + g * g * share2
    tl.store(exp_avg + offsets, m, mask=mask)
    tl.store(exp_avg_sq + offsets, v, mask=mask)
    tl.store(param + offsets, weight * kept - rate * m / (tl.sqrt(v) * root_factor + eps), mask=mask)


def shipped() -> Iterator[Configuration]:
    """Every way in which the kernel is launched."""
    pointers = dict.fromkeys(("param", "grad", "exp_avg", "exp_avg_sq", "step"), "*fp32")
    scalars = dict.fromkeys(
        ("lr", "log_beta1", "log_beta2", "share1", "beta2", "share2", "eps", "l2_decay", "kept", "grad_scale"), "fp32"
    )
    signature = {**pointers, "count": "i64", **scalars, "BLOCK": "constexpr"}
    yield Configuration("adam", _adam, signature, {"BLOCK": BLOCK}, WARPS, 1, tensor_cores=False)


# ---- registered ----------------------------------------------------------------------------------------------------
def adam_(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    grad_scale: float,
) -> None:
    """Lists of tensors of equal lengths; all but grads are updated. The counters stay where they are: nobody waits."""
    torch._foreach_add_(steps, 1)
    scalars = (
        lr,
        *(math.log(beta) if beta else -math.inf for beta in (beta1, beta2)),
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        eps,
        0.0 if decoupled_weight_decay else weight_decay,
        1.0 - lr * weight_decay if decoupled_weight_decay else 1.0,
        grad_scale,
    )
    for param, grad, exp_avg, exp_avg_sq, step in zip(params, grads, exp_avgs, exp_avg_sqs, steps, strict=True):
        count = param.numel()
        if count == 0:
            continue
        tensors = (param, grad.contiguous(), exp_avg, exp_avg_sq, step.to(param.device, non_blocking=True))
        with torch.cuda.device_of(param):
            _adam[(triton.cdiv(count, BLOCK),)](*tensors, count, *scalars, BLOCK=BLOCK, num_warps=WARPS, num_stages=1)
