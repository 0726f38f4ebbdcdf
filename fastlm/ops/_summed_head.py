"""The reference's head for a summed loss: the gradient is made beside the loss, while the logits exist.

``reference.linear_cross_entropy`` is the specification; with many rows it must multiply by the weight four times, since
no chunk's logits may be kept for the backward. When the losses are only summed, the gradient of the sum is known in the
forward up to one factor, so three products suffice (the idea of Liger's fused linear cross-entropy, arXiv:2410.10989),
and the passes over a chunk run in place. Here because models train on the reference until kernels are registered.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastlm.ops import reference


def summed_head(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes: hidden (N, d), weight (V, d), bias (V,), targets (N,) -> sum of losses (), row loss (N,), hit (N,) bool.

    Only the sum is differentiable. The logits of ignored rows must be finite.
    """
    total, row_loss, hit = _SummedHead.apply(hidden, weight, bias, targets, ignore_index, label_smoothing)
    return total, row_loss, hit


class _SummedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        ignore_index: int,
        label_smoothing: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        wanted = any(ctx.needs_input_grad[:3])
        row_loss = hidden.new_zeros(hidden.shape[0], dtype=dtype)
        hit = hidden.new_zeros(hidden.shape[0], dtype=torch.bool)
        grad_hidden = torch.zeros_like(hidden, memory_format=torch.contiguous_format) if wanted else None
        grad_weight = torch.zeros_like(weight, dtype=dtype) if wanted else None
        grad_bias = torch.zeros_like(bias, dtype=dtype) if wanted and bias is not None else None
        size = reference.ROWS_PER_CHUNK
        for first in range(0, hidden.shape[0], size):
            rows = slice(first, first + size)
            row_loss[rows], hit[rows], d = _chunk(
                hidden[rows], weight, bias, targets[rows], ignore_index, label_smoothing, wanted
            )
            if d is not None and grad_hidden is not None and grad_weight is not None:
                grad_hidden[rows] = d @ weight
                grad_weight += d.T @ hidden[rows]
                if grad_bias is not None:
                    grad_bias += d.sum(dim=0, dtype=dtype)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(row_loss, hit)
        return row_loss.sum(), row_loss, hit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        grads = [
            None if saved is None or not needed else (saved * grad).to(dtype)
            for saved, dtype, needed in zip(ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad[:3], strict=True)
        ]
        return *grads, None, None, None


def _chunk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    label_smoothing: float,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Row losses (n,), hits (n,), and the gradient of their sum by the logits (n, V) in hidden's dtype."""
    classes = weight.shape[0]
    counted = targets != ignore_index
    valid = (targets >= 0) & (targets < classes)
    index = torch.where(valid, targets, 0).long()[:, None]  # (n, 1)

    logits = F.linear(hidden, weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    factor = torch.where(valid, 1.0, math.nan).where(counted, 0).to(logits.dtype)  # 0 where ignored, NaN is poison
    largest, predicted = logits.max(dim=1)
    margin = logits.gather(1, index)[:, 0] - largest
    spread = (logits - largest[:, None]).sum(dim=1) if label_smoothing else None
    p = torch.softmax(logits, dim=1)
    # The largest probability is one over the sum of exponentials below the maximum.
    log_sum = -p.gather(1, predicted[:, None])[:, 0].log()
    loss = log_sum - margin
    if spread is not None:
        loss = (1 - label_smoothing) * loss + label_smoothing * (log_sum - spread / classes)
    hit = (predicted == targets) & counted
    if not wanted:
        return loss * factor, hit, None
    if label_smoothing:
        p -= label_smoothing / classes
    at_target = p.gather(1, index) - (1 - label_smoothing)
    d = p.scatter_(1, index, at_target).mul_(factor[:, None])
    return loss * factor, hit, d.to(hidden.dtype)
