"""``cross_entropy(logits, targets)``: from raw logits, ignored rows free, the gradient in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastlm.ops import _backend, reference
from fastlm.ops._backend import OpFunction, Pair, rows_contiguous
from fastlm.ops._checks import check_float, check_loss_options, check_targets, native_dtype

# ---- registered ops ------------------------------------------------------------------------------------------------
# logits (N, V), last dim contiguous; targets (N,) int64 contiguous; row_loss (N,) fp32 and lse (N,) fp64,
# natural logarithms: a probability is exp(x - lse), and rounding a large lse to fp32 would scale the whole row.
# An ignored row is not read: its loss, lse and gradient are 0. A target outside [0, V) gives NaN in all three.
# The gradient is a contiguous tensor of logits' shape and dtype.
_FORWARD = "(Tensor logits, Tensor targets, int ignore_index, float label_smoothing) -> (Tensor row_loss, Tensor lse)"
_BACKWARD = (
    "(Tensor grad_row_loss, Tensor logits, Tensor targets, Tensor lse, int ignore_index, float label_smoothing) "
    "-> Tensor"
)


def _fake_forward(logits: Tensor, targets: Tensor, ignore_index: int, label_smoothing: float) -> tuple[Tensor, Tensor]:
    rows = logits.shape[0]
    return logits.new_empty(rows, dtype=torch.float32), logits.new_empty(rows, dtype=torch.float64)


def _fake_backward(grad_row_loss: Tensor, logits: Tensor, *args: Any) -> Tensor:
    return logits.new_empty(logits.shape)


_pairs = _backend.define("cross_entropy", _FORWARD, _BACKWARD, Pair(_fake_forward, _fake_backward))


# ---- autograd ------------------------------------------------------------------------------------------------------
class _CrossEntropy(OpFunction):
    @staticmethod
    def forward(logits: Tensor, targets: Tensor, ignore_index: int, label_smoothing: float, family: str) -> Any:
        return _pairs[family].forward(logits, targets, ignore_index, label_smoothing)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        logits, targets, ctx.ignore_index, ctx.label_smoothing, ctx.family = inputs
        _, lse = output
        ctx.mark_non_differentiable(lse)
        ctx.save_for_backward(logits, targets, lse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None, None, None, None]:
        logits, targets, lse = ctx.saved_tensors
        grad_logits = _pairs[ctx.family].backward(
            grad.contiguous(), logits, targets, lse, ctx.ignore_index, ctx.label_smoothing
        )
        return grad_logits, None, None, None, None


# ---- public --------------------------------------------------------------------------------------------------------
def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    backend: str | None = None,
) -> Tensor:
    """Cross-entropy of raw logits against class indices, as ``torch.nn.functional.cross_entropy`` defines it.

    Differences: ignored rows are not read and get zero gradients; when all are ignored the mean is 0 with zero
    gradients, not NaN; the result is fp32 (fp64 for fp64 logits) whatever the logits' dtype.

    Args:
        logits: (N, V) fp32, bf16 or fp16 (fp64 on the reference), never softmaxed; computed in fp32, autocast or not.
        targets: (N,) int64 or int32, in [0, V) or ``ignore_index``. Any other value poisons its row with NaN;
            ``set_checks("full")`` raises IndexError instead.
        ignore_index: the target of rows that do not count.
        label_smoothing: in [0, 1], the share of the target spread evenly over the V classes.
        reduction: ``mean`` over the rows that count, ``sum``, or ``none``.
        backend: ``native``, ``triton``, ``reference`` or None (use_backend, FASTLM_BACKEND, else the first that runs).

    Returns:
        A scalar, or (N,) for ``none`` with 0 at ignored rows.

    Raises:
        TypeError: logits not floating point, or targets not integers.
        ValueError: shapes or devices that do not fit, unknown options, or a named backend that cannot run.
        IndexError: see ``targets``.
    """
    check_float("logits", logits)
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise ValueError(
            f"logits: shape {tuple(logits.shape)} is not (N, V) with V > 0; flatten it: logits.flatten(0, -2)"
        )
    check_targets(targets, "logits", logits, logits.shape[1], ignore_index)
    check_loss_options(label_smoothing, reduction)
    family = _backend.select("cross_entropy", backend, logits.device.type, native_dtype("logits", logits))
    if family == "reference":
        row_loss = reference.cross_entropy(logits, targets, ignore_index, label_smoothing)
    else:
        row_loss, _ = _CrossEntropy.call(
            rows_contiguous(logits), targets.long().contiguous(), ignore_index, float(label_smoothing), family
        )
    return reduce_rows(row_loss, targets, ignore_index, reduction)


def reduce_rows(row_loss: Tensor, targets: Tensor, ignore_index: int, reduction: str) -> Tensor:
    """(N,) losses, 0 where ignored, to what ``reduction`` asks for; the mean of no rows is 0."""
    return row_loss if reduction == "none" else reduce_sum(row_loss.sum(), targets, ignore_index, reduction)


def reduce_sum(total: Tensor, targets: Tensor, ignore_index: int, reduction: str) -> Tensor:
    """The sum of the (N,) losses to what ``sum`` or ``mean`` asks for."""
    return total if reduction == "sum" else total / (targets != ignore_index).sum().clamp(min=1)
