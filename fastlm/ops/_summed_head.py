"""The reference's forward of ``linear_cross_entropy`` for a summed loss: losses and gradients from one pass.

``reference.linear_cross_entropy`` is the specification; with many rows it must multiply by the weight four times, since
no chunk's logits may be kept for the backward. When the losses are only summed, the gradient of the sum is known in the
forward up to one factor, so three products suffice (the idea of Liger's fused linear cross-entropy, arXiv:2410.10989),
and the passes over a chunk run in place. Here because models train on the reference where no kernels are built, and in
fp64. Its signature is that of the registered ``linear_cross_entropy_forward``, and so is the autograd.Function.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm.ops import reference


def summed_head(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    label_smoothing: float,
    chunk_logits: int,
    want_hidden: bool,
    want_weight: bool,
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Losses (N,), hits (N,) bool, and the gradients of the sum of the losses by hidden, weight and bias.

    hidden (N, d), weight (V, d), bias (V,), targets (N,). The logits of ignored rows must be finite. A chunk has
    ``reference.ROWS_PER_CHUNK`` rows, whatever ``chunk_logits``. Gradients that are not wanted are (0,).
    """
    dtype = reference.accumulator(hidden.dtype)
    row_loss = hidden.new_zeros(hidden.shape[0], dtype=dtype)
    hit = hidden.new_zeros(hidden.shape[0], dtype=torch.bool)
    grad_hidden = hidden.new_zeros(hidden.shape if want_hidden else 0)
    grad_weight = hidden.new_zeros(weight.shape if want_weight else 0, dtype=dtype)
    grad_bias = hidden.new_zeros(weight.shape[:1] if want_bias else 0, dtype=dtype)
    wanted = want_hidden or want_weight or want_bias
    for first in range(0, hidden.shape[0], reference.ROWS_PER_CHUNK):
        rows = slice(first, first + reference.ROWS_PER_CHUNK)
        row_loss[rows], hit[rows], d = _chunk(
            hidden[rows], weight, bias, targets[rows], ignore_index, label_smoothing, wanted
        )
        if want_hidden:
            grad_hidden[rows] = d @ weight
        if want_weight:
            grad_weight += d.T @ hidden[rows]
        if want_bias:
            grad_bias += d.sum(dim=0, dtype=dtype)
    return row_loss, hit, grad_hidden, grad_weight, grad_bias


def _chunk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    label_smoothing: float,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Row losses (n,), hits (n,), and if wanted the gradient of their sum by the logits (n, V) in hidden's dtype."""
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
        return loss * factor, hit, hidden.new_empty(0)
    if label_smoothing:
        p -= label_smoothing / classes
    at_target = p.gather(1, index) - (1 - label_smoothing)
    d = p.scatter_(1, index, at_target).mul_(factor[:, None])
    return loss * factor, hit, d.to(hidden.dtype)
