"""LayerNorm closing a residual sum: x = residual + dropout(branch), y = norm(x), each way in one pass over memory where
a tile holds a row. Without a branch dropout falls on y.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from fastlm.kernels import Configuration
from fastlm.kernels.philox import Dropout, hidden_mask, seed_of
from fastlm.kernels.tiles import DTYPES, Tile, as_matrix, choose, configuration, launches, within
from torch import Tensor

# Columns in whole blocks of dropout, 64. The last tile of each table is for longer rows.
# 8 elements a thread, in the longest held row 16: vectors of 16 bytes, and registers for the random words beside them.
_FORWARD = (
    Tile(8, 64, 2),
    Tile(2, 256, 2),
    Tile(1, 1024, 4),
    Tile(1, 2048, 8),
    Tile(1, 4096, 8),
    Tile(1, 2048, 8),
)
# 4 elements a thread, which also keeps the sums for weight and bias.
_BACKWARD = (
    Tile(4, 64, 2),
    Tile(2, 256, 4),
    Tile(1, 1024, 8),
    Tile(1, 2048, 16),
    Tile(1, 1024, 8),
)
# Rows that the backward does not hold pass through this one first.
_ROW_MEANS = Tile(1, 2048, 8)
# Of the partial sums; 32 columns are the 128 bytes that a warp loads at once.
_SUMS = Tile(64, 32, 4)

# Warps that the backward spreads its rows over: 32 for each multiprocessor of a large GPU, which is what registers
# allow. A constant, so that the order of sums, and with it their bits, does not depend on the GPU. Each program writes
# a row of partial sums.
_BACKWARD_WARPS = 4096

# dtypes of x and y
_PAIRS = (("fp32", "fp32"), ("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "bf16"), ("fp16", "fp16"))


# ---- dropout -------------------------------------------------------------------------------------------------------
@triton.jit
def _kept(seed, row, column, last_dropped, inside, DROPPED: tl.constexpr):
    """What survives of a tile of these rows (ROWS,), whose first column is ``column``; without dropout nobody reads it.

    Shape: inside (ROWS, COLUMNS).
    """
    if DROPPED:
        return hidden_mask(seed, row, column, last_dropped, inside.shape[0], inside.shape[1])
    else:
        return inside  # Triton 3.6 returns no None


@triton.jit
def _drop(value, kept, keep_scale, DROPPED: tl.constexpr):
    if DROPPED:
        return tl.where(kept, value * keep_scale, 0.0)
    else:
        return value


# ---- forward -------------------------------------------------------------------------------------------------------
@triton.jit
def _summed(residual, branch, x, column, inside, kept, keep_scale, DROPPED: tl.constexpr):
    """Sum of residual and dropout(branch) of a tile, written to x and as it is read there; 0 outside the rows.

    Shapes: residual, branch and x, pointers to the rows, (ROWS, 1); column (1, COLUMNS); inside (ROWS, COLUMNS).
    """
    value = tl.load(residual + column, inside, other=0).to(tl.float32)
    if branch is not None:
        added = tl.load(branch + column, inside, other=0).to(tl.float32)
        total = (value + _drop(added, kept, keep_scale, DROPPED)).to(x.dtype.element_ty)
        tl.store(x + column, total, inside)
        value = total.to(tl.float32)
    return value


@triton.jit
def _affine(normalised, weight, bias, column, columns):
    """Shapes: normalised (ROWS, COLUMNS), column (1, COLUMNS)."""
    slope = tl.load(weight + column, column < columns, other=0).to(tl.float32)
    return normalised * slope + tl.load(bias + column, column < columns, other=0).to(tl.float32)


@triton.jit(do_not_specialize=["rows", "last_dropped", "seed"])
def _forward_kernel(
    residual,  # (rows, columns)
    branch,  # (rows, columns), or None
    weight,  # (columns,)
    bias,  # (columns,)
    y,  # (rows, columns), contiguous
    x,  # (rows, columns), contiguous: the sum; None without a branch
    mean,  # (rows,) fp32
    rstd,  # (rows,) fp32
    rows,
    columns,
    residual_stride,
    branch_stride,
    eps,
    last_dropped: tl.uint32,
    keep_scale,
    seed: tl.int64,
    seed_on_device,
    DROPPED: tl.constexpr,
    HELD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = row[:, None]
    key = seed_of(seed, seed_on_device)
    first = tl.arange(0, COLUMNS)[None, :]
    residual += place * residual_stride
    y += place * columns
    if branch is not None:
        branch += place * branch_stride
        x += place * columns
    if HELD:
        inside = within(place, rows, first, columns, ROWS)
        kept = _kept(key, row, 0, last_dropped, inside, DROPPED)
        value = _summed(residual, branch, x, first, inside, kept, keep_scale, DROPPED)
        centre = tl.sum(value, 1, keep_dims=True) / columns
        deviation = tl.where(inside, value - centre, 0.0)
        scale = tl.rsqrt(tl.sum(deviation * deviation, 1, keep_dims=True) / columns + eps)
        result = _affine(deviation * scale, weight, bias, first, columns)
        if branch is None:
            result = _drop(result, kept, keep_scale, DROPPED)
        tl.store(y + first, result, inside)
        tl.store(mean + place, centre, place < rows)
        tl.store(rstd + place, scale, place < rows)
    else:
        # Mean of the columns so far and sum of squares around it, tile by tile: Chan, Golub and LeVeque, "Updating
        # formulae and a pairwise algorithm for computing sample variances", 1979. A row may lie far from zero.
        centre = tl.zeros((ROWS, 1), tl.float32)
        squares = tl.zeros((ROWS, 1), tl.float32)
        for start in range(0, columns, COLUMNS):
            column = start + first
            inside = within(place, rows, column, columns, ROWS)
            kept = _kept(key, row, start, last_dropped, inside, DROPPED and branch is not None)
            value = _summed(residual, branch, x, column, inside, kept, keep_scale, DROPPED)
            count = tl.minimum(columns - start, COLUMNS)
            step = tl.sum(value, 1, keep_dims=True) / count - centre
            deviation = tl.where(inside, value - (centre + step), 0.0)
            share = count / (start + count)
            squares += tl.sum(deviation * deviation, 1, keep_dims=True) + step * step * (share * start)
            centre += step * share
        scale = tl.rsqrt(squares / columns + eps)
        tl.store(mean + place, centre, place < rows)
        tl.store(rstd + place, scale, place < rows)
        if branch is not None:
            residual = x
            tl.debug_barrier()  # threads read what others wrote
        for start in range(0, columns, COLUMNS):
            column = start + first
            inside = within(place, rows, column, columns, ROWS)
            value = tl.load(residual + column, inside, other=0).to(tl.float32)
            result = _affine((value - centre) * scale, weight, bias, column, columns)
            if branch is None:
                kept = _kept(key, row, start, last_dropped, inside, DROPPED)
                result = _drop(result, kept, keep_scale, DROPPED)
            tl.store(y + column, result, inside)


# ---- backward ------------------------------------------------------------------------------------------------------
@triton.jit
def _parts(x, grad_y, centre, scale, column, inside, kept, keep_scale, DROPPED: tl.constexpr):
    """The normalised rows of a tile, and what dropout left of grad_y; 0 outside the rows.

    Shapes: x and grad_y, pointers to the rows, centre and scale (ROWS, 1); column (1, COLUMNS); inside (ROWS, COLUMNS).
    """
    normalised = (tl.load(x + column, inside, other=0).to(tl.float32) - centre) * scale
    grad = tl.load(grad_y + column, inside, other=0).to(tl.float32)
    return tl.where(inside, normalised, 0.0), _drop(grad, kept, keep_scale, DROPPED)


@triton.jit(do_not_specialize=["rows", "last_dropped", "seed"])
def _row_means_kernel(
    grad_y,  # (rows, columns)
    x,  # (rows, columns)
    weight,  # (columns,)
    mean,  # (rows,) fp32
    rstd,  # (rows,) fp32
    row_means,  # (2, rows) fp32: of g = grad_y * weight, and of g * normalised
    rows,
    columns,
    grad_y_stride,
    x_stride,
    last_dropped: tl.uint32,
    keep_scale,
    seed: tl.int64,
    seed_on_device,
    DROPPED: tl.constexpr,  # grad_y is; False with a branch
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """What the gradient of a row needs of all its columns, where no tile holds them."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = row[:, None]
    key = seed_of(seed, seed_on_device)
    centre = tl.load(mean + place, place < rows, other=0)
    scale = tl.load(rstd + place, place < rows, other=0)
    g_sum = tl.zeros((ROWS, 1), tl.float32)
    along_sum = tl.zeros((ROWS, 1), tl.float32)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        inside = within(place, rows, column, columns, ROWS)
        kept = _kept(key, row, start, last_dropped, inside, DROPPED)
        x_row, grad_y_row = x + place * x_stride, grad_y + place * grad_y_stride
        normalised, grad = _parts(x_row, grad_y_row, centre, scale, column, inside, kept, keep_scale, DROPPED)
        g = grad * tl.load(weight + column, column < columns, other=0).to(tl.float32)
        g_sum += tl.sum(g, 1, keep_dims=True)
        along_sum += tl.sum(g * normalised, 1, keep_dims=True)
    tl.store(row_means + place, g_sum / columns, place < rows)
    tl.store(row_means + rows + place, along_sum / columns, place < rows)


@triton.jit(do_not_specialize=["rows", "slice_rows", "last_dropped", "seed"])
def _backward_kernel(
    grad_y,  # (rows, columns)
    grad_x,  # (rows, columns), or None
    x,  # (rows, columns)
    weight,  # (columns,)
    mean,  # (rows,) fp32
    rstd,  # (rows,) fp32
    row_means,  # as above; None where the tile holds a row
    grad_residual,  # (rows, columns), contiguous
    grad_branch,  # (rows, columns), contiguous; None without a branch
    sums,  # (2, slices, columns) fp32: over the rows of a slice, for weight and bias
    rows,
    columns,
    slice_rows,
    grad_y_stride,
    grad_x_stride,
    x_stride,
    last_dropped: tl.uint32,
    keep_scale,
    seed: tl.int64,
    seed_on_device,
    DROPPED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    # Pointers begin at the tile's first column: places in it are then constants, which need no registers.
    first_column = tl.program_id(0) * COLUMNS
    part = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, COLUMNS)[None, :]
    in_row = column < columns - first_column
    key = seed_of(seed, seed_on_device)
    slope = tl.load(weight + first_column + column, in_row, other=0).to(tl.float32)
    weight_sum = tl.zeros((ROWS, COLUMNS), tl.float32)
    bias_sum = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, slice_rows, ROWS):
        row = part * slice_rows + start + tl.arange(0, ROWS)
        place = row[:, None]
        inside = (place < rows) & in_row
        centre = tl.load(mean + place, place < rows, other=0)
        scale = tl.load(rstd + place, place < rows, other=0)
        kept = _kept(key, row, first_column, last_dropped, inside, DROPPED)
        x_row = x + first_column + place * x_stride
        grad_y_row = grad_y + first_column + place * grad_y_stride
        normalised, grad = _parts(
            x_row, grad_y_row, centre, scale, column, inside, kept, keep_scale, DROPPED and grad_branch is None
        )
        weight_sum += grad * normalised
        bias_sum += grad
        g = grad * slope
        if row_means is None:
            g_mean = tl.sum(g, 1, keep_dims=True) / columns
            along_mean = tl.sum(g * normalised, 1, keep_dims=True) / columns
        else:
            g_mean = tl.load(row_means + place, place < rows, other=0)
            along_mean = tl.load(row_means + rows + place, place < rows, other=0)
        grad = (g - g_mean - normalised * along_mean) * scale
        if grad_x is not None:
            grad += tl.load(grad_x + first_column + place * grad_x_stride + column, inside, other=0).to(tl.float32)
        at = first_column + place * columns
        tl.store(grad_residual + at + column, grad, inside)
        if grad_branch is not None:
            tl.store(grad_branch + at + column, _drop(grad, kept, keep_scale, DROPPED), inside)
    sums += first_column + part * columns
    tl.store(sums + column, tl.sum(weight_sum, 0, keep_dims=True), in_row)
    sums += tl.num_programs(1).to(tl.int64) * columns
    tl.store(sums + column, tl.sum(bias_sum, 0, keep_dims=True), in_row)


@triton.jit(do_not_specialize=["slices"])
def _sums_kernel(
    sums,  # (2, slices, columns) fp32
    grad_weight,  # (columns,)
    grad_bias,  # (columns,)
    slices,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Adds up the slices, in their order."""
    part = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, slices, ROWS):
        row = start + tl.arange(0, ROWS)[:, None]
        inside = (row < slices) & (column < columns)[None, :]
        total += tl.load(sums + (part * slices + row) * columns + column[None, :], inside, other=0)
    out = tl.sum(total, 0)
    if part == 0:
        tl.store(grad_weight + column, out, column < columns)
    else:
        tl.store(grad_bias + column, out, column < columns)


# ---- launches ------------------------------------------------------------------------------------------------------
def layer_norm_forward(
    residual: Tensor,
    branch: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dropout_p: float,
    dropout_seed: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The registered op: see fastlm/ops/layer_norm.py."""
    y = torch.empty(residual.shape, dtype=dtype, device=residual.device)
    x = torch.empty(0 if branch is None else residual.shape, dtype=residual.dtype, device=residual.device)
    mean, rstd = (torch.empty(residual.shape[:-1], dtype=torch.float32, device=residual.device) for _ in range(2))
    rows, columns = mean.numel(), residual.shape[-1]
    if rows == 0:
        return y, x, mean, rstd
    residual = as_matrix(residual)
    branch, branch_stride, total = (None, 0, None) if branch is None else (*_with_stride(branch), x)
    tile, dropout = choose(_FORWARD, columns), Dropout.of(dropout_p, dropout_seed)
    with torch.cuda.device_of(y):
        _forward_kernel[(triton.cdiv(rows, tile.rows),)](
            *(residual, branch, weight.contiguous(), bias.contiguous(), y, total, mean, rstd),
            *(rows, columns, residual.stride(0), branch_stride, eps, *dropout.arguments()),
            DROPPED=dropout.enabled,
            HELD=tile.holds(columns),
            **tile.options(),
        )
    return y, x, mean, rstd


def layer_norm_backward(
    grad_y: Tensor,
    grad_x: Tensor | None,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    dropout_p: float,
    dropout_seed: Tensor,
    has_branch: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The registered op: see fastlm/ops/layer_norm.py."""
    grad_residual = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    branch_dtype = grad_y.dtype if has_branch else x.dtype
    grad_branch = torch.empty(x.shape if has_branch else 0, dtype=branch_dtype, device=x.device)
    grad_weight, grad_bias = (torch.empty(weight.shape, dtype=weight.dtype, device=x.device) for _ in range(2))
    rows, columns = mean.numel(), x.shape[-1]
    if rows == 0:
        return grad_residual, grad_branch, grad_weight.zero_(), grad_bias.zero_()
    grad_y, x = as_matrix(grad_y), as_matrix(x)
    grad_x, grad_x_stride = (None, 0) if grad_x is None else _with_stride(grad_x)
    weight = weight.contiguous()
    tile, dropout = choose(_BACKWARD, columns), Dropout.of(dropout_p, dropout_seed)
    strides = (grad_y.stride(0), grad_x_stride, x.stride(0))
    slice_rows = _slice_rows(rows, tile)
    slices = triton.cdiv(rows, slice_rows)
    sums = torch.empty(2, slices, columns, dtype=torch.float32, device=x.device)
    with torch.cuda.device_of(x):
        row_means = None
        if not tile.holds(columns):
            row_means = torch.empty(2, rows, dtype=torch.float32, device=x.device)
            _row_means_kernel[(triton.cdiv(rows, _ROW_MEANS.rows),)](
                *(grad_y, x, weight, mean, rstd, row_means, rows, columns, grad_y.stride(0), x.stride(0)),
                *dropout.arguments(),
                DROPPED=dropout.enabled and not has_branch,
                **_ROW_MEANS.options(),
            )
        _backward_kernel[(triton.cdiv(columns, tile.columns), slices)](
            *(grad_y, grad_x, x, weight, mean, rstd, row_means, grad_residual, grad_branch if has_branch else None),
            *(sums, rows, columns, slice_rows, *strides, *dropout.arguments()),
            DROPPED=dropout.enabled,
            **tile.options(),
        )
        _sums_kernel[(triton.cdiv(columns, _SUMS.columns), 2)](
            sums, grad_weight, grad_bias, slices, columns, **_SUMS.options()
        )
    return grad_residual, grad_branch, grad_weight, grad_bias


def _with_stride(x: Tensor) -> tuple[Tensor, int]:
    rows = as_matrix(x)
    return rows, rows.stride(0)


def _slice_rows(rows: int, tile: Tile) -> int:
    """Rows of a program of the backward: whole tiles."""
    programs = _BACKWARD_WARPS // tile.num_warps
    tiles: int = triton.cdiv(triton.cdiv(rows, tile.rows), programs)
    return tiles * tile.rows


def shipped() -> Iterator[Configuration]:
    """Every tile and pair of dtypes, with all that is optional and with nothing of it; see `Configuration`."""
    always = {"eps": "fp32", "keep_scale": "fp32", "last_dropped": "u32", "seed": "i64", "seed_on_device": "*i64"}
    always |= dict.fromkeys(("mean", "rstd", "row_means", "sums"), "*fp32")
    optional = ("branch", "grad_branch", "grad_x", "seed_on_device")
    nothing: dict[str, Any] = {**dict.fromkeys(optional), "DROPPED": False}
    for wide, narrow in _PAIRS:
        types = dict(always)
        types |= dict.fromkeys(("residual", "x", "weight", "bias", "grad_x", "grad_residual"), f"*{wide}")
        types |= dict.fromkeys(("branch", "y", "grad_y", "grad_branch"), f"*{narrow}")
        for options, constants in ((", branch, dropout", {"DROPPED": True}), ("", nothing)):
            name = f"{wide} {narrow}{options}"
            for tile, held in launches(_FORWARD):
                given = constants if options else {**constants, "x": None}
                yield configuration(f"forward {name}", _forward_kernel, types, given, tile, held)
            for tile, held in launches(_BACKWARD):
                given = {**constants, "row_means": None} if held else constants
                yield configuration(f"backward {name}", _backward_kernel, types, given, tile, held)
            yield configuration(f"row means {name}", _row_means_kernel, types, constants, _ROW_MEANS, held=False)
    for dtype in DTYPES.values():
        types = {"sums": "*fp32", "grad_weight": f"*{dtype}", "grad_bias": f"*{dtype}"}
        yield configuration(f"sums {dtype}", _sums_kernel, types, {}, _SUMS)
