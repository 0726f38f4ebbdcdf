"""``linear_cross_entropy``: torch's matrix products, and between them one kernel that turns a chunk of logits into row
losses and, where they lie, into their own gradient. Forward and backward are the same walk over chunks of rows; the
forward's gradient is that of the sum of the losses.

All rows are multiplied, with 0 in place of ignored ones: to leave these out, the host would have to wait for their
number.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from fastlm.kernels import Configuration
from fastlm.kernels.online_softmax import MINUS_INFINITY, base_of, include
from fastlm.kernels.tiles import DTYPES, Tile, choose, configuration, launches
from torch import Tensor

LEAST_ROWS = 64  # of a chunk: with fewer the products spend their time on the weight
VECTOR = tl.constexpr(16)  # logits, at multiples of which rows begin: Triton then moves 16 bytes at a time

# A row is read for its loss and again for its gradient, the second time from L2: what the programs on a GPU have in
# work, some 20 MB at 30,000 classes, fits there. A thread has 8 logits at a time: then two programs of 512 threads fit
# into a multiprocessor's registers, and one computes while the other waits for memory. Short rows share a program.
_TILES = (Tile(8, 512, 16), Tile(1, 4096, 16))
_SCALED_BLOCK, _SCALED_WARPS = 4096, 8  # 16 elements a thread


# ---- kernels -------------------------------------------------------------------------------------------------------
# Tiles are (ROWS, COLUMNS), what is a row's (ROWS,). Only scored rows are read: those whose target is a class.
@triton.jit
def _values(logits, bias, column, scored, columns, stride):
    """A tile of logits, 0 in rows that are not scored; -inf from columns on: what lies there is anything."""
    mask = column < stride
    at = tl.multiple_of(logits[:, None] + column, (1, 16))
    x = tl.load(at, mask=scored[:, None] & mask, other=0.0).to(tl.float32)
    if bias is not None:
        x += tl.load(tl.multiple_of(bias + column, (1, 16)), mask=mask, other=0.0).to(tl.float32)
    return tl.where(column < columns, x, MINUS_INFINITY)


@triton.jit
def _better(x, column, target, at_target):
    """Where a tile has a better prediction than the target: by torch.argmax's order, NaN is, then the largest, then the
    first of equals.
    """
    before = column < target[:, None]
    better = tl.where(before, ~(x < at_target[:, None]), ~(x <= at_target[:, None]))
    return tl.where((at_target == at_target)[:, None], better, (x != x) & before)


@triton.jit
def _put_gradient(logits, x, column, written, scored, unscored, target, largest, scale, elsewhere, at_target):
    """Replaces a tile by its gradient: scale * exp(x - largest), plus a number that the target has to itself."""
    added = tl.where(column == target[:, None], at_target[:, None], elsewhere[:, None])
    gradient = tl.exp(x - base_of(largest)[:, None]) * scale[:, None] + added
    gradient = tl.where(scored[:, None], gradient, unscored[:, None]).to(logits.dtype.element_ty)
    tl.store(tl.multiple_of(logits[:, None] + column, (1, 16)), gradient, mask=written)


@triton.jit(
    do_not_specialize=["targets", "grad_row_loss", "row_loss", "row_correct", "rows", "columns", "ignore_index"]
)
def _chunk_kernel(
    logits,  # (rows, columns), whose rows begin at whole vectors; their gradient takes their place
    bias,  # (columns,) filled up to a whole vector, or None
    targets,  # (rows,) int64
    grad_row_loss,  # (rows,) fp32, or None for ones
    row_loss,  # (rows,) fp32
    row_correct,  # (rows,) bool
    rows,
    columns,
    ignore_index: tl.int64,
    label_smoothing,
    WANT_GRADIENT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    stride = tl.cdiv(columns, VECTOR) * VECTOR
    logits += row * stride
    target = tl.load(targets + row, inside, other=ignore_index)
    counted = target != ignore_index
    scored = counted & (target >= 0) & (target < columns)
    unscored = tl.where(counted, float("nan"), 0.0)  # loss and gradient of a row that is not scored

    target = tl.where(scored, target, 0).to(tl.int32)
    at_target = tl.load(logits + target, scored, other=0).to(tl.float32)
    if bias is not None:
        at_target += tl.load(bias + target).to(tl.float32)
    largest = tl.full((ROWS,), MINUS_INFINITY, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sum_of_logits = tl.zeros((ROWS,), tl.float32)
    beaten = tl.zeros((ROWS,), tl.int32)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        x = _values(logits, bias, column, scored, columns, stride)
        largest, total = include(largest, total, x)
        sum_of_logits += tl.sum(tl.where(column < columns, x, 0.0), 1)
        beaten = tl.maximum(beaten, tl.max(_better(x, column, target, at_target).to(tl.int32), 1))
    log_total = tl.log(total)
    loss = log_total - (at_target - largest)
    if label_smoothing != 0:
        loss = (1 - label_smoothing) * loss + label_smoothing * (log_total - (sum_of_logits / columns - largest))
    tl.store(row_loss + row, tl.where(scored, loss, unscored), inside)
    tl.store(row_correct + row, scored & (beaten == 0), inside)

    if WANT_GRADIENT:
        g = tl.full((ROWS,), 1.0, tl.float32)
        if grad_row_loss is not None:
            g = tl.load(grad_row_loss + row, inside, other=0)
        scale = g / total
        uniform = label_smoothing / columns
        elsewhere = -g * uniform
        at_target = g * (label_smoothing - 1 - uniform)
        for start in range(0, columns, COLUMNS):
            column = start + tl.arange(0, COLUMNS)[None, :]
            x = _values(logits, bias, column, scored, columns, stride)
            written = inside[:, None] & (column < stride)
            _put_gradient(logits, x, column, written, scored, unscored, target, largest, scale, elsewhere, at_target)


@triton.jit
def _scaled_kernel(x, factor, out, count: tl.int64, BLOCK: tl.constexpr):
    """Shapes: x and out (count,), factor () -> out = factor * x, in fp32 before it is rounded."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < count
    product = tl.load(x + offsets, mask=mask).to(tl.float32) * tl.load(factor)
    tl.store(out + offsets, product.to(out.dtype.element_ty), mask=mask)


def shipped() -> Iterator[Configuration]:
    """Every way in which the kernels are launched."""
    types = {"targets": "*i64", "grad_row_loss": "*fp32", "row_loss": "*fp32", "row_correct": "*u1"}
    types |= {"ignore_index": "i64", "label_smoothing": "fp32"}
    constants: dict[str, dict[str, Any]] = {
        "losses": {"WANT_GRADIENT": False, "grad_row_loss": None},
        "gradient of their sum": {"WANT_GRADIENT": True, "grad_row_loss": None},
        "gradient of each": {"WANT_GRADIENT": True},
    }
    for dtype in DTYPES.values():
        of_dtype = {**types, "logits": f"*{dtype}", "bias": f"*{dtype}"}
        for tile, held in launches(_TILES):
            for name, chosen in constants.items():
                for with_bias, bias in ((", bias", {}), ("", {"bias": None})):
                    yield configuration(
                        f"{name}{with_bias}, {dtype}", _chunk_kernel, of_dtype, {**chosen, **bias}, tile, held
                    )
    for given, made in itertools.product(DTYPES.values(), repeat=2):
        signature = {"x": f"*{given}", "factor": "*fp32", "out": f"*{made}", "count": "i64", "BLOCK": "constexpr"}
        block = {"BLOCK": _SCALED_BLOCK}
        yield Configuration(f"scaled {given} to {made}", _scaled_kernel, signature, block, _SCALED_WARPS, 1, False)


# ---- launches ----------------------------------------------------------------------------------------------------
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
    """Shapes: x (...), factor () fp32 -> factor * x, as another dtype."""
    out = x.new_empty(x.shape, dtype=dtype)
    count = x.numel()
    if count:
        with torch.cuda.device_of(x):
            _scaled_kernel[(triton.cdiv(count, _SCALED_BLOCK),)](
                *(x.contiguous(), factor, out, count), BLOCK=_SCALED_BLOCK, num_warps=_SCALED_WARPS, num_stages=1
            )
    return out


# Autocast leaves alone what is written to a given place, and what is given a dtype.
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
    new_sum = hidden.new_empty if rows else hidden.new_zeros
    grad_weight = new_sum(weight.shape if want_weight else 0, dtype=torch.float32)
    grad_bias = hidden.new_zeros(classes if want_bias else 0, dtype=torch.float32)
    size = _rows_in_chunk(rows, classes, chunk_logits)
    width = triton.cdiv(classes, VECTOR.value) * VECTOR.value
    buffer = hidden.new_empty(size, width)
    padded_bias = None if bias is None else F.pad(bias, (0, width - classes))
    tile = choose(_TILES, width)
    for first in range(0, rows, size):
        chunk = slice(first, min(first + size, rows))
        own = targets[chunk]
        # 0 times what the caller has in an ignored row may be NaN.
        counted = torch.where((own == ignore_index)[:, None], 0, hidden[chunk])
        logits = buffer[: len(own), :classes]
        torch.mm(counted, weight.t(), out=logits)
        grads = None if grad_row_loss is None else grad_row_loss[chunk]
        results = (row_loss[chunk], row_correct[chunk])
        with torch.cuda.device_of(hidden):
            _chunk_kernel[tile.grid(len(own))](
                *(logits, padded_bias, own, grads, *results, len(own), classes, ignore_index, label_smoothing),
                WANT_GRADIENT=want_hidden or want_weight or want_bias,
                num_stages=1,
                **tile.options(),
            )
        if want_hidden:
            torch.mm(logits, weight, out=grad_hidden[chunk])
        if want_weight:
            _add_product(logits.t(), counted, first == 0, grad_weight)
        if want_bias:
            grad_bias += logits.sum(0, dtype=torch.float32)
    return row_loss, row_correct, grad_hidden, grad_weight, grad_bias


def _rows_in_chunk(rows: int, classes: int, chunk_logits: int) -> int:
    """As many as have chunk_logits, but no fewer than LEAST_ROWS, and about the same in every chunk."""
    chunks = math.ceil(rows / max(LEAST_ROWS, chunk_logits // classes))
    return math.ceil(rows / chunks) if chunks else 1


def _add_product(a: Tensor, b: Tensor, is_first: bool, total: Tensor) -> None:
    """Adds a b to total in fp32, whatever the dtype of a and b; the first one takes its place."""
    if not a.is_cuda or a.dtype == torch.float32:
        total.addmm_(a.float(), b.float(), beta=0 if is_first else 1)
    elif is_first:
        torch.mm(a, b, out_dtype=torch.float32, out=total)
    else:
        total += torch.mm(a, b, out_dtype=torch.float32)
