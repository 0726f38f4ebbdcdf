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
from fastlm.ops._checks import check_device, check_float, check_like, check_loss_options, check_targets, native_dtype
from fastlm.ops._summed_head import summed_head
from fastlm.ops.cross_entropy import reduce_sum

# That exist at once, by device and dtype of the products. More rows a chunk add up fewer partial weight gradients.
# On a CPU, in fp32, twice as many would not let 16,384 rows of 30,000 classes fit into 256 MB, results included; a bf16
# chunk leaves room for the gradient that the backward scales (benchmarks/test_head_speed.py). On a GPU they are 1 GiB,
# about a hundredth of a data centre's: adding up a chunk's weight gradient takes the time in which some 300 rows are
# multiplied, so chunks should have thousands, and the 9,830 masked rows of 65,536 tokens, with 30,000 classes, are one.
CHUNK_LOGITS = {
    ("cpu", torch.float32): 25 << 20,
    ("cpu", torch.float16): 25 << 20,
    ("cpu", torch.bfloat16): 32 << 20,
    ("cuda", torch.float32): 1 << 28,
    ("cuda", torch.float16): 1 << 29,
    ("cuda", torch.bfloat16): 1 << 29,
}

# ---- registered ops ------------------------------------------------------------------------------------------------
# hidden (N, d) and weight (V, d) of one dtype, last dims contiguous; bias (V,) of that dtype or None; targets (N,)
# int64; all but hidden and weight contiguous. At most chunk_logits exist at a time, or a kernel's least chunk.
# row_loss (N,) fp32, row_correct (N,) bool; ignored rows are not multiplied and give 0 and False; a target outside
# [0, V) gives NaN and False. The forward's gradients are those of the sum of row_loss, the backward's those of the sum
# of grad_row_loss * row_loss: contiguous, grad_hidden of hidden's dtype, grad_weight and grad_bias fp32, since they are
# sums over all rows; (0,) where not wanted. The backward multiplies hidden by the weight again. scaled is factor * x in
# another dtype, where factor is an fp32 scalar.
_INPUTS = "Tensor hidden, Tensor weight, Tensor? bias, Tensor targets"
_OPTIONS = "int ignore_index, float label_smoothing, int chunk_logits"
_WANTED = "bool want_hidden, bool want_weight, bool want_bias"
_GRADIENTS = "Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias"
_FORWARD = f"({_INPUTS}, {_OPTIONS}, {_WANTED}) -> (Tensor row_loss, Tensor row_correct, {_GRADIENTS})"
_BACKWARD = f"(Tensor grad_row_loss, {_INPUTS}, {_OPTIONS}, {_WANTED}) -> ({_GRADIENTS})"


def _fake_gradients(hidden: Tensor, weight: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    want_hidden, want_weight, want_bias = args[-3:]
    return (
        hidden.new_empty(hidden.shape if want_hidden else 0),
        hidden.new_empty(weight.shape if want_weight else 0, dtype=torch.float32),
        hidden.new_empty(weight.shape[:1] if want_bias else 0, dtype=torch.float32),
    )


def _fake_forward(hidden: Tensor, weight: Tensor, *args: Any) -> tuple[Tensor, ...]:
    rows = hidden.shape[0]
    row_loss, row_correct = (hidden.new_empty(rows, dtype=dtype) for dtype in (torch.float32, torch.bool))
    return row_loss, row_correct, *_fake_gradients(hidden, weight, *args)


def _fake_backward(grad_row_loss: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_gradients(*args)


def _fake_scaled(x: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype)


_pairs = _backend.define("linear_cross_entropy", _FORWARD, _BACKWARD, Pair(_fake_forward, _fake_backward))
_scaled = _backend.define_helper(
    "linear_cross_entropy",
    "linear_cross_entropy_scaled",
    "(Tensor x, Tensor factor, ScalarType dtype) -> Tensor",
    _fake_scaled,
)


# ---- autograd ------------------------------------------------------------------------------------------------------
# Casting to autocast's dtype happens inside the functions: the gradient of an fp32 weight, a sum over all rows, then
# never passes through 16 bits, and no copy of the weight is kept. What is no tensor comes as one tuple `plan`: (family,
# dtype of the products, the registered ops' _OPTIONS, their _WANTED).
class _SummedLoss(OpFunction):
    """The sum of the row losses; its gradients are made beside it up to one factor, while the logits exist."""

    @staticmethod
    def forward(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, plan: Any) -> Any:
        family, dtype, options, want = plan
        head = summed_head if family == "reference" else _pairs[family].forward
        row_loss, row_correct, *grads = head(*_cast(dtype, hidden, weight, bias, targets), *options, *want)
        return row_loss.sum(), row_loss, row_correct, *grads

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        ctx.dtypes = [None if x is None else x.dtype for x in inputs[:3]]
        ctx.family = inputs[-1][0]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # or the backward would make zeros as large as the gradients
        ctx.save_for_backward(*output[3:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        in_two_steps = ctx.family == "reference"
        scaled = (lambda x, factor, dtype: (x * factor).to(dtype)) if in_two_steps else _scaled[ctx.family]
        grads = [
            scaled(made, grad, dtype) if wanted and grad is not None else None
            for made, dtype, wanted in zip(ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad[:3], strict=True)
        ]
        return *grads, None, None


class _RowLosses(OpFunction):
    """The row losses, each with a gradient of its own, for which the backward makes the logits again."""

    @staticmethod
    def forward(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, plan: Any) -> Any:
        family, dtype, options, _ = plan
        inputs = _cast(dtype, hidden, weight, bias, targets)
        row_loss, row_correct, *_ = _pairs[family].forward(*inputs, *options, False, False, False)
        return row_loss, row_correct

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.plan = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        family, dtype, options, want = ctx.plan
        *leaves, _ = ctx.saved_tensors
        made = _pairs[family].backward(grad.contiguous(), *_cast(dtype, *ctx.saved_tensors), *options, *want)
        grads = [
            own.to(x.dtype) if wanted else None
            for own, x, wanted in zip(made, leaves, ctx.needs_input_grad[:3], strict=True)
        ]
        return *grads, None, None


def _cast(
    dtype: torch.dtype, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """The registered ops' tensors, floating-point ones in the dtype of the products."""
    hidden, weight = (rows_contiguous(x.to(dtype)) for x in (hidden, weight))
    return hidden, weight, None if bias is None else bias.to(dtype).contiguous(), targets.long().contiguous()


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
    cast_to = autocast_dtype(device)
    _check_dtypes(hidden, weight, bias, cast_to)
    limits = None if cast_to is not None else native_dtype("hidden", hidden)
    family = _backend.select("linear_cross_entropy", backend, device, limits)
    want = tuple(torch.is_grad_enabled() and x is not None and x.requires_grad for x in (hidden, weight, bias))
    dtype = cast_to or hidden.dtype
    options = (ignore_index, float(label_smoothing), CHUNK_LOGITS.get((device, dtype), 0))
    plan = (family, dtype, options, want)
    if family == "reference":
        with without_autocast(device):
            return _on_reference(hidden, weight, bias, targets, plan, reduction)
    if reduction == "none":
        loss, row_correct = _RowLosses.call(hidden, weight, bias, targets, plan)
        return LinearCrossEntropyOutput(loss, loss.detach(), row_correct)
    total, row_loss, row_correct, *_ = _SummedLoss.call(hidden, weight, bias, targets, plan)
    return LinearCrossEntropyOutput(reduce_sum(total, targets, ignore_index, reduction), row_loss, row_correct)


def _on_reference(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, plan: Any, reduction: str
) -> LinearCrossEntropyOutput:
    """The reference for the rows that count; a graph cannot read which these are, and multiplies all."""
    _, dtype, (ignore_index, label_smoothing, _), _ = plan
    ignored = targets == ignore_index
    rows = (~ignored).nonzero()[:, 0] if readable(targets) else None  # (M,)
    if rows is None:
        hidden = hidden.masked_fill(ignored[:, None], 0)
    else:
        hidden, targets = hidden.index_select(0, rows), targets[rows]
    if reduction == "none":
        inputs = _cast(dtype, hidden, weight, bias, targets)
        row_loss, row_correct = reference.linear_cross_entropy(*inputs, ignore_index, label_smoothing)
        loss = row_loss = _spread(row_loss, rows, ignored)
    else:
        total, row_loss, row_correct, *_ = _SummedLoss.call(hidden, weight, bias, targets, plan)
        loss = reduce_sum(total, targets, ignore_index, reduction)
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


def _check_dtypes(hidden: Tensor, weight: Tensor, bias: Tensor | None, cast_to: torch.dtype | None) -> None:
    """Floating point on one device, and of one dtype unless autocast casts all to its own."""
    check_float("hidden", hidden)
    for name, x in (("weight", weight), ("bias", bias)):
        if x is not None:
            check_float(name, x)
            (check_like if cast_to is None else check_device)(name, x, "hidden", hidden)
