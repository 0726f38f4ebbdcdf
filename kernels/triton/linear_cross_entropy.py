"""``linear_cross_entropy``: torch's matrix products, and between them one kernel that turns a chunk of logits into row
losses and, where they lie, into their own gradient. Forward and backward are the same walk over chunks of rows; the
forward's gradient is that of the sum of the losses.

All rows are multiplied, with 0 in place of ignored ones: to leave these out, the host would have to wait for their
number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import triton
import triton.language as tl
from fastlm.kernels import Configuration

LEAST_ROWS = 64  # of a chunk: with fewer the products spend their time on the weight
VECTOR = tl.constexpr(16)  # logits; rows begin at multiples, which are read and written 16 bytes at a time


class Launch(NamedTuple):
    """How the kernel takes rows of logits.

    Attributes:
        most: logits of the longest row.
        rows: that a program takes.
        block: logits of each that it takes at a time.
        num_warps: of a program.
    """

    most: int
    rows: int
    block: int
    num_warps: int


# A row is read for its loss and again for its gradient, the second time from L2: what the programs on a GPU have in
# work, some 20 MB at 30,000 classes, fits there. A thread has 8 logits at a time: then two programs of 512 threads fit
# into a multiprocessor's registers, and one computes while the other waits for memory. Short rows share a program.
LAUNCHES = (
    Launch(most=512, rows=8, block=512, num_warps=16),
    Launch(most=2**31 - 1, rows=1, block=4096, num_warps=16),
)
SCALED_BLOCK, SCALED_WARPS = 4096, 8  # 16 elements a thread


# ---- kernels -------------------------------------------------------------------------------------------------------
# Blocks are (R, C), what is a row's (R,). No row but a scored one, whose target is a class, is read.
@triton.jit
def _values(logits, bias, columns, scored, cols, stride):
    """Logits of a block, 0 in rows that are not scored; -inf from cols on: what lies there is anything."""
    mask = columns < stride
    at = tl.multiple_of(logits[:, None] + columns, (1, 16))
    x = tl.load(at, mask=scored[:, None] & mask, other=0.0).to(tl.float32)
    if bias is not None:
        x += tl.load(tl.multiple_of(bias + columns, (1, 16)), mask=mask, other=0.0).to(tl.float32)
    return tl.where(columns < cols, x, float("-inf"))


@triton.jit
def _include(x, columns, cols, target, at_target, largest, total, logit_sum, beaten):
    """A block added to the rows' largest logits, sums of exponentials below these, sums, and better predictions.

    These are logits before the target by torch.argmax's order: NaN, then the largest, and the first of equals.
    """
    above = tl.maximum(largest, tl.max(x, 1))
    base = tl.where(above == float("-inf"), 0.0, above)  # or a block of nothing but -inf would be NaN
    total = total * tl.exp(largest - base) + tl.sum(tl.exp(x - base[:, None]), 1)
    logit_sum += tl.sum(tl.where(columns < cols, x, 0.0), 1)
    before = columns < target[:, None]
    better = tl.where(before, ~(x < at_target[:, None]), ~(x <= at_target[:, None]))
    better = tl.where((at_target == at_target)[:, None], better, (x != x) & before)
    beaten = tl.maximum(beaten, tl.max(better.to(tl.int32), 1))
    return above, total, logit_sum, beaten


@triton.jit
def _put_gradient(logits, x, columns, written, scored, blank, target, largest, scale, elsewhere, at_target):
    """Replaces a block by its gradient: scale * exp(x - largest), plus a number that the target has to itself."""
    base = tl.where(largest == float("-inf"), 0.0, largest)
    added = tl.where(columns == target[:, None], at_target[:, None], elsewhere[:, None])
    gradient = tl.exp(x - base[:, None]) * scale[:, None] + added
    gradient = tl.where(scored[:, None], gradient, blank[:, None]).to(logits.dtype.element_ty)
    tl.store(tl.multiple_of(logits[:, None] + columns, (1, 16)), gradient, mask=written)


@triton.jit(do_not_specialize=["targets", "grad_row_loss", "row_loss", "row_correct", "rows", "cols", "ignore_index"])
def _chunk(
    logits,
    bias,
    targets,
    grad_row_loss,
    row_loss,
    row_correct,
    rows,
    cols,
    ignore_index,
    label_smoothing,
    WANT_GRADIENT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Loss of every row of logits (rows, cols), whether it is right, and its gradient in place of it.

    Rows of logits begin at whole vectors; bias (cols,) up to a whole vector, or None; targets (rows,);
    grad_row_loss (rows,), or None for ones.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    stride = tl.cdiv(cols, VECTOR) * VECTOR
    logits += row * stride
    columns = tl.arange(0, BLOCK)[None, :]
    target = tl.load(targets + row, mask=inside, other=ignore_index)
    counted = target != ignore_index
    scored = counted & (target >= 0) & (target < cols)
    blank = tl.where(counted, float("nan"), 0.0)  # of a row that is not scored

    target = tl.where(scored, target, 0).to(tl.int32)
    at_target = tl.load(logits + target, mask=scored, other=0.0).to(tl.float32)
    if bias is not None:
        at_target += tl.load(bias + target).to(tl.float32)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    logit_sum = tl.zeros([ROWS], tl.float32)
    beaten = tl.zeros([ROWS], tl.int32)
    for start in range(0, cols, BLOCK):
        at = start + columns
        x = _values(logits, bias, at, scored, cols, stride)
        largest, total, logit_sum, beaten = _include(x, at, cols, target, at_target, largest, total, logit_sum, beaten)
    loss = tl.log(total) - (at_target - largest)
    if label_smoothing != 0:
        to_all = tl.log(total) - (logit_sum / cols - largest)
        loss = (1 - label_smoothing) * loss + label_smoothing * to_all
    tl.store(row_loss + row, tl.where(scored, loss, blank), mask=inside)
    tl.store(row_correct + row, scored & (beaten == 0), mask=inside)

    if WANT_GRADIENT:
        g = tl.full([ROWS], 1.0, tl.float32)
        if grad_row_loss is not None:
            g = tl.load(grad_row_loss + row, mask=inside, other=0.0)
        scale = g / total
        uniform = label_smoothing / cols
        elsewhere = -g * uniform
        at_target = g * (label_smoothing - 1 - uniform)
        for start in range(0, cols, BLOCK):
            at = start + columns
            x = _values(logits, bias, at, scored, cols, stride)
            written = inside[:, None] & (at < stride)
            _put_gradient(logits, x, at, written, scored, blank, target, largest, scale, elsewhere, at_target)


@triton.jit(do_not_specialize=["count"])
def _scaled(x, factor, out, count, BLOCK: tl.constexpr):
    """Out (count,) = factor () * x (count,)."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < count
    product = tl.load(x + offsets, mask=mask).to(tl.float32) * tl.load(factor)
    tl.store(out + offsets, product.to(out.dtype.element_ty), mask=mask)


def shipped() -> Iterator[Configuration]:
    """Every way in which the kernels are launched."""
    dtypes = ("fp32", "bf16", "fp16")
    for dtype in dtypes:
        for launch in LAUNCHES:
            for with_bias in (False, True):
                for gradient in ("none", "of the sum", "of rows"):
                    yield _chunk_configuration(dtype, launch, with_bias, gradient)
    for from_, to in [(a, b) for a in dtypes for b in dtypes]:
        signature = {"x": f"*{from_}", "factor": "*fp32", "out": f"*{to}", "count": "i64", "BLOCK": "constexpr"}
        yield Configuration(
            f"scaled {from_} to {to}", _scaled, signature, {"BLOCK": SCALED_BLOCK}, SCALED_WARPS, 1, tensor_cores=False
        )


def _chunk_configuration(dtype: str, launch: Launch, with_bias: bool, gradient: str) -> Configuration:
    signature = {
        "logits": f"*{dtype}",
        "bias": f"*{dtype}",
        "targets": "*i64",
        "grad_row_loss": "*fp32",
        "row_loss": "*fp32",
        "row_correct": "*i1",
        "rows": "i32",
        "cols": "i32",
        "ignore_index": "i32",
        "label_smoothing": "fp32",
    }
    constants: dict[str, Any] = {
        "WANT_GRADIENT": gradient != "none",
        "ROWS": launch.rows,
        "BLOCK": launch.block,
        **({} if with_bias else {"bias": None}),
        **({} if gradient == "of rows" else {"grad_row_loss": None}),
    }
    signature |= dict.fromkeys(constants, "constexpr")
    name = f"chunk {dtype}, {launch.block} at a time, gradient {gradient}"
    name += ", bias" if with_bias else ""
    return Configuration(name, _chunk, signature, constants, launch.num_warps, 1, tensor_cores=False)


# ---- registered ----------------------------------------------------------------------------------------------------
def linear_cross_entropy_forward(
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
    """Losses (N,), hits (N,) bool, and the gradients of the sum of the losses by hidden, weight and bias."""
    options = (ignore_index, label_smoothing, chunk_logits)
    return _walk(hidden, weight, bias, targets, None, *options, want_hidden, want_weight, want_bias)


def linear_cross_entropy_backward(
    grad_row_loss: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the sum of grad_row_loss * losses by hidden, weight and bias."""
    options = (ignore_index, label_smoothing, chunk_logits)
    return _walk(hidden, weight, bias, targets, grad_row_loss, *options, want_hidden, want_weight, want_bias)[2:]


def linear_cross_entropy_scaled(x: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Factor () * x of any shape, as another dtype."""
    out = x.new_empty(x.shape, dtype=dtype)
    count = x.numel()
    if count:
        grid = (triton.cdiv(count, SCALED_BLOCK),)
        with torch.cuda.device_of(x):
            _scaled[grid](x.contiguous(), factor, out, count, BLOCK=SCALED_BLOCK, num_warps=SCALED_WARPS, num_stages=1)
    return out


# The products are written to where they belong: that way autocast leaves them alone.
@torch.no_grad()
def _walk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    grad_row_loss: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    chunk_logits: int,
    want_hidden: bool,
    want_weight: bool,
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What the forward gives; grad_row_loss None stands for ones."""
    rows, classes = hidden.shape[0], weight.shape[0]
    row_loss, row_correct = (hidden.new_empty(rows, dtype=dtype) for dtype in (torch.float32, torch.bool))
    grad_hidden = hidden.new_empty(hidden.shape if want_hidden else 0)
    grad_weight = hidden.new_zeros(weight.shape if want_weight else 0, dtype=torch.float32)
    grad_bias = hidden.new_zeros(classes if want_bias else 0, dtype=torch.float32)
    size = _rows_in_chunk(rows, classes, chunk_logits)
    width = triton.cdiv(classes, VECTOR.value) * VECTOR.value
    buffer = hidden.new_empty(size, width)
    padded_bias = None if bias is None else F.pad(bias, (0, width - classes))
    launch = next(launch for launch in LAUNCHES if width <= launch.most)
    for first in range(0, rows, size):
        chunk = slice(first, min(first + size, rows))
        own = targets[chunk]
        # 0 times what the caller has in an ignored row may be NaN.
        counted = torch.where((own == ignore_index)[:, None], 0, hidden[chunk])
        logits = buffer[: len(own), :classes]
        torch.mm(counted, weight.t(), out=logits)
        with torch.cuda.device_of(hidden):
            _chunk[(triton.cdiv(len(own), launch.rows),)](
                logits,
                padded_bias,
                own,
                None if grad_row_loss is None else grad_row_loss[chunk],
                row_loss[chunk],
                row_correct[chunk],
                len(own),
                classes,
                ignore_index,
                label_smoothing,
                WANT_GRADIENT=want_hidden or want_weight or want_bias,
                ROWS=launch.rows,
                BLOCK=launch.block,
                num_warps=launch.num_warps,
                num_stages=1,
            )
        if want_hidden:
            torch.mm(logits, weight, out=grad_hidden[chunk])
        if want_weight:
            _add_product(logits.t(), counted, grad_weight)
        if want_bias:
            grad_bias += logits.sum(0, dtype=torch.float32)
    return row_loss, row_correct, grad_hidden, grad_weight, grad_bias


def _rows_in_chunk(rows: int, classes: int, chunk_logits: int) -> int:
    """As many as have chunk_logits, but no fewer than LEAST_ROWS, and about the same in every chunk."""
    most = max(LEAST_ROWS, chunk_logits // classes)
    return max(1, triton.cdiv(rows, max(1, triton.cdiv(rows, most))))


def _add_product(a: Tensor, b: Tensor, total: Tensor) -> None:
    """Total += a b, in fp32 whatever the dtype of a and b."""
    if a.is_cuda and a.dtype != torch.float32:
        total += torch.mm(a, b, out_dtype=torch.float32)
    else:
        total.addmm_(a.float(), b.float())
