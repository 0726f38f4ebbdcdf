"""``linear_cross_entropy(hidden, weight, targets)``: head and loss in one, a chunk of logits in memory at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastlm.ops import _backend, reference
from fastlm.ops._autocast import autocast_dtype, without_autocast
from fastlm.ops._backend import OpFunction, Pair, rows_contiguous
from fastlm.ops._blocks import readable
from fastlm.ops._checks import check_float, check_like, check_loss_options, check_targets, native_dtype
from fastlm.ops._summed_head import summed_head
from fastlm.ops.cross_entropy import reduce_rows

# ---- registered ops ------------------------------------------------------------------------------------------------
# hidden (N, d) and weight (V, d), last dims contiguous; bias (V,) or None; targets (N,) int64; all contiguous.
# row_loss and lse (N,) fp32, row_correct (N,) bool; ignored rows are not multiplied and give 0, 0 and False; a target
# outside [0, V) gives NaN, NaN and False. The gradients are contiguous, of their tensors' dtypes; grad_bias is (0,)
# where there is no bias.
_INPUTS = "Tensor hidden, Tensor weight, Tensor? bias, Tensor targets"
_OPTIONS = "int ignore_index, float label_smoothing"
_FORWARD = f"({_INPUTS}, {_OPTIONS}) -> (Tensor row_loss, Tensor row_correct, Tensor lse)"
_BACKWARD = (
    f"(Tensor grad_row_loss, {_INPUTS}, Tensor lse, {_OPTIONS}) "
    "-> (Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)"
)


def _fake_forward(hidden: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    rows = hidden.shape[0]
    float_rows = (hidden.new_empty(rows, dtype=torch.float32) for _ in range(2))
    return next(float_rows), hidden.new_empty(rows, dtype=torch.bool), next(float_rows)


def _fake_backward(
    grad_row_loss: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    grad_bias = weight.new_empty(0) if bias is None else bias.new_empty(bias.shape)
    return hidden.new_empty(hidden.shape), weight.new_empty(weight.shape), grad_bias


_pairs = _backend.define("linear_cross_entropy", _FORWARD, _BACKWARD, Pair(_fake_forward, _fake_backward))


# ---- autograd ------------------------------------------------------------------------------------------------------
class _LinearCrossEntropy(OpFunction):
    @staticmethod
    def forward(
        family: str,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        ignore_index: int,
        label_smoothing: float,
    ) -> Any:
        return _pairs[family].forward(hidden, weight, bias, targets, ignore_index, label_smoothing)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.family, *tensors, ctx.ignore_index, ctx.label_smoothing = inputs
        _, row_correct, lse = output
        ctx.mark_non_differentiable(row_correct, lse)
        ctx.save_for_backward(*tensors, lse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        bias = ctx.saved_tensors[2]
        grad_hidden, grad_weight, grad_bias = _pairs[ctx.family].backward(
            grad.contiguous(), *ctx.saved_tensors, ctx.ignore_index, ctx.label_smoothing
        )
        return None, grad_hidden, grad_weight, None if bias is None else grad_bias, None, None, None


# ---- public --------------------------------------------------------------------------------------------------------
class LinearCrossEntropyOutput(NamedTuple):
    """What the head learnt of each row in one pass.

    Attributes:
        loss: the reduced loss, differentiable: a scalar, or (N,) for ``reduction="none"``; fp32 (fp64 for fp64 inputs).
        row_loss: (N,) of the same dtype, detached; 0 where ignored.
        row_correct: (N,) bool, whether the target was the argmax of the logits; False where ignored.
    """

    loss: Tensor
    row_loss: Tensor
    row_correct: Tensor


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    backend: str | None = None,
) -> LinearCrossEntropyOutput:
    """``cross_entropy(hidden @ weight.T + bias, targets)`` without ever holding more than a chunk of the logits.

    Rows without a target are not multiplied, forward or backward (in a compiled reference graph they are: a graph
    cannot read how many there are). Under autocast the product runs in its dtype; the softmax is fp32 always.

    Args:
        hidden: (N, d) fp32, bf16 or fp16 (fp64 on the reference).
        weight: (V, d), one row per class (a tied embedding), dtype of ``hidden`` unless autocast casts both.
        targets: (N,) int64 or int32, in [0, V) or ``ignore_index``. Any other value poisons its row with NaN;
            ``set_checks("full")`` raises IndexError instead.
        bias: (V,), or None.
        ignore_index: the target of rows that do not count.
        label_smoothing: in [0, 1], the share of the target spread evenly over the V classes.
        reduction: ``mean`` over the rows that count (0 when there are none), ``sum``, or ``none``.
        backend: ``native``, ``triton``, ``reference`` or None (use_backend, FASTLM_BACKEND, else the first that runs).

    Raises:
        TypeError: a dtype that is not supported or does not match.
        ValueError: shapes or devices that do not fit, unknown options, or a named backend that cannot run.
        IndexError: see ``targets``.
    """
    _check_shapes(hidden, weight, bias)
    check_targets(targets, "hidden", hidden, weight.shape[0], ignore_index)
    check_loss_options(label_smoothing, reduction)
    device = hidden.device.type
    if (dtype := autocast_dtype(device)) is not None:
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    _check_dtypes(hidden, weight, bias)
    family = _backend.select("linear_cross_entropy", backend, device, native_dtype("hidden", hidden))
    if family == "reference":
        with without_autocast(device):
            return _on_reference(hidden, weight, bias, targets, ignore_index, label_smoothing, reduction)
    row_loss, row_correct, _ = _LinearCrossEntropy.apply(
        family,
        rows_contiguous(hidden),
        rows_contiguous(weight),
        None if bias is None else bias.contiguous(),
        targets.long().contiguous(),
        ignore_index,
        float(label_smoothing),
    )
    loss = reduce_rows(row_loss, targets, ignore_index, reduction)
    return LinearCrossEntropyOutput(loss, row_loss.detach(), row_correct)


def _on_reference(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
) -> LinearCrossEntropyOutput:
    """The reference for the rows that count; a graph cannot read which these are, and multiplies all."""
    ignored = targets == ignore_index
    rows = (~ignored).nonzero()[:, 0] if readable(targets) else None  # (M,)
    if rows is None:
        hidden = hidden.masked_fill(ignored[:, None], 0)
    else:
        hidden, targets = hidden.index_select(0, rows), targets[rows]
    arguments = (hidden, weight, bias, targets, ignore_index, label_smoothing)
    if reduction == "none":
        row_loss, row_correct = reference.linear_cross_entropy(*arguments)
        loss = row_loss = _spread(row_loss, rows, ignored)
    else:
        loss, row_loss, row_correct = summed_head(*arguments)
        loss = loss if reduction == "sum" else loss / (~ignored).sum().clamp(min=1)
        row_loss = _spread(row_loss, rows, ignored)
    return LinearCrossEntropyOutput(loss, row_loss.detach(), _spread(row_correct, rows, ignored))


def _spread(values: Tensor, rows: Tensor | None, like: Tensor) -> Tensor:
    """(M,) values of the rows that count among all N, 0 elsewhere."""
    return values if rows is None else values.new_zeros(like.shape).index_copy(0, rows, values)


def _check_shapes(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if hidden.dim() != 2:
        raise ValueError(f"hidden: shape {tuple(hidden.shape)} is not (N, d); flatten it: hidden.flatten(0, -2)")
    if weight.dim() != 2 or weight.shape[0] == 0 or weight.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"weight: shape {tuple(weight.shape)} must be (V, {hidden.shape[1]}) with V > 0, one row of "
            f"hidden's width per class"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: shape {tuple(bias.shape)} must be ({weight.shape[0]},), one per row of weight")


def _check_dtypes(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    check_float("hidden", hidden)
    check_float("weight", weight)
    check_like("weight", weight, "hidden", hidden)
    if bias is not None:
        check_like("bias", bias, "hidden", hidden)
