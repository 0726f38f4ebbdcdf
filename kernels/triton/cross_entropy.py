"""Cross-entropy of raw logits with integer targets: loss and log-sum-exp in one read, the gradient in one read and one
write. Label smoothing as in Szegedy et al. 2016: the target distribution is (1 - s) one-hot + s / V.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from fastlm.kernels import Configuration
from fastlm.kernels.online_softmax import MINUS_INFINITY, include
from fastlm.kernels.tiles import DTYPES, Tile, choose, configuration
from torch import Tensor

# Rows pass through a tile, 16 or 32 elements a thread: many programs share a multiprocessor, and some always load. A
# warp each for rows of up to 1,024 columns, whose reductions then do not leave it. The last tile is for longer rows.
_TILES = (Tile(8, 64, 1), Tile(2, 256, 1), Tile(1, 1024, 1), Tile(1, 4096, 4))


# ---- kernels -------------------------------------------------------------------------------------------------------
@triton.jit
def _targets_of(targets, row, rows, columns, ignore_index):
    """Targets of rows (ROWS,), which of the rows are scored, and which ignored: those outside the matrix, too."""
    target = tl.load(targets + row, row < rows, other=ignore_index)
    ignored = target == ignore_index
    return target, (target >= 0) & (target < columns) & (ignored == 0), ignored


@triton.jit(do_not_specialize=["rows", "ignore_index"])
def _forward_kernel(
    logits,  # (rows, columns)
    targets,  # (rows,) int64
    row_loss,  # (rows,) fp32
    lse,  # (rows,) fp64
    rows,
    columns,
    logits_stride,
    ignore_index: tl.int64,
    label_smoothing,
    SMOOTHED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    target, scored, ignored = _targets_of(targets, row, rows, columns, ignore_index)
    logits += row * logits_stride
    largest = tl.full((ROWS,), MINUS_INFINITY, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sum_of_logits = tl.zeros((ROWS,), tl.float32)
    # A tile without a score is not read at all, and of others nothing but rows with one.
    for start in range(0, tl.max(tl.where(scored, columns, 0)), COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        inside = scored[:, None] & (column < columns)
        x = tl.load(logits[:, None] + column, inside, other=MINUS_INFINITY).to(tl.float32)
        largest, total = include(largest, total, x)
        if SMOOTHED:
            sum_of_logits += tl.sum(tl.where(inside, x, 0.0), 1)
    log_sum = largest + tl.log(total.to(tl.float64))
    loss = log_sum - tl.load(logits + target, scored, other=0).to(tl.float32)
    if SMOOTHED:
        mean = sum_of_logits.to(tl.float64) / columns
        loss = (1.0 - label_smoothing) * loss + label_smoothing * (log_sum - mean)
    unscored = tl.where(ignored, 0.0, float("nan"))
    tl.store(row_loss + row, tl.where(scored, loss, unscored), row < rows)
    tl.store(lse + row, tl.where(scored, log_sum, unscored), row < rows)


@triton.jit(do_not_specialize=["rows", "ignore_index"])
def _backward_kernel(
    grad_row_loss,  # (rows,) fp32
    logits,  # (rows, columns)
    targets,  # (rows,) int64
    lse,  # (rows,) fp64
    grad_logits,  # (rows, columns), contiguous
    rows,
    columns,
    logits_stride,
    ignore_index: tl.int64,
    label_smoothing,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    # A program for every tile of a row: they need nothing of each other.
    tiles = tl.cdiv(columns, COLUMNS)
    row = (tl.program_id(0) // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    target, scored, ignored = _targets_of(targets, row, rows, columns, ignore_index)
    g = tl.load(grad_row_loss + row, scored, other=0)
    log_sum = tl.load(lse + row, scored, other=0)
    # A probability is exp(x - lse). lse is subtracted as two floats: rounded to one, a large lse would scale every
    # probability of the row.
    high = log_sum.to(tl.float32)
    low = (log_sum - high).to(tl.float32)
    inside = (row < rows)[:, None] & (column < columns)
    logits += row * logits_stride
    x = tl.load(logits[:, None] + column, inside & scored[:, None], other=0).to(tl.float32)
    p = tl.exp(x - high[:, None] - low[:, None])
    uniform = label_smoothing / columns
    at_target = (1.0 - label_smoothing) + uniform
    wanted = tl.where(column == target[:, None], at_target, uniform)
    grad = tl.where(scored[:, None], g[:, None] * (p - wanted), tl.where(ignored, 0.0, float("nan"))[:, None])
    grad_logits += row * columns
    tl.store(grad_logits[:, None] + column, grad, inside)


# ---- launches ------------------------------------------------------------------------------------------------------
def cross_entropy_forward(
    logits: Tensor, targets: Tensor, ignore_index: int, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """The registered op: see fastlm/ops/cross_entropy.py."""
    rows, columns = logits.shape
    row_loss = torch.empty(rows, dtype=torch.float32, device=logits.device)
    lse = torch.empty(rows, dtype=torch.float64, device=logits.device)
    if rows == 0:
        return row_loss, lse
    tile = choose(_TILES, columns)
    options = (logits.stride(0), ignore_index, label_smoothing)
    with torch.cuda.device_of(logits):
        _forward_kernel[(triton.cdiv(rows, tile.rows),)](
            *(logits, targets, row_loss, lse, rows, columns, *options), SMOOTHED=label_smoothing > 0, **tile.options()
        )
    return row_loss, lse


def cross_entropy_backward(
    grad_row_loss: Tensor, logits: Tensor, targets: Tensor, lse: Tensor, ignore_index: int, label_smoothing: float
) -> Tensor:
    """The registered op: see fastlm/ops/cross_entropy.py."""
    rows, columns = logits.shape
    grad_logits = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    if rows == 0:
        return grad_logits
    tile = choose(_TILES, columns)
    programs = triton.cdiv(rows, tile.rows) * triton.cdiv(columns, tile.columns)
    tensors = (grad_row_loss.contiguous(), logits, targets, lse, grad_logits)
    options = (logits.stride(0), ignore_index, label_smoothing)
    with torch.cuda.device_of(logits):
        _backward_kernel[(programs,)](*tensors, rows, columns, *options, **tile.options())
    return grad_logits


def shipped() -> Iterator[Configuration]:
    """Every launch of every dtype; see `Configuration`."""
    types = {"targets": "*i64", "row_loss": "*fp32", "grad_row_loss": "*fp32", "lse": "*fp64"}
    types |= {"ignore_index": "i64", "label_smoothing": "fp32"}
    for dtype in DTYPES.values():
        types |= {"logits": f"*{dtype}", "grad_logits": f"*{dtype}"}
        for tile in _TILES:
            for smoothed in (False, True):
                name = f"forward {dtype}{', label smoothing' if smoothed else ''}"
                yield configuration(name, _forward_kernel, dict(types), {"SMOOTHED": smoothed}, tile)
            yield configuration(f"backward {dtype}", _backward_kernel, dict(types), {}, tile)
