"""Softmax over rows, forward and backward. A row that a tile holds is read once and written once; longer ones pass
through it twice.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import triton
import triton.language as tl
from fastlm.kernels import Configuration
from fastlm.kernels.online_softmax import MINUS_INFINITY, base_of, include
from fastlm.kernels.tiles import DTYPES, Tile, as_matrix, choose, configuration, launches, within

# A warp for every 512 or 1,024 elements: 16 or 32 a thread, loads enough at once to hide their latency while registers
# are left for other programs. Up to 1,024 columns no reduction leaves its warp. The last tile is for longer rows.
_TILES = (
    Tile(8, 64, 1),
    Tile(2, 256, 1),
    Tile(1, 1024, 1),
    Tile(1, 2048, 2),
    Tile(1, 4096, 4),
    Tile(1, 8192, 8),
    Tile(1, 16384, 16),
    Tile(1, 4096, 8),
)
# 32 warps have 64 registers a thread: too few for a mask, or for the two rows of the backward.
_UNMASKED = (*_TILES[:-1], Tile(1, 32768, 32), _TILES[-1])


# ---- kernels -------------------------------------------------------------------------------------------------------
@triton.jit
def _scores(x, mask, mask_stride, column, inside, scale):
    """Scaled values of a tile, -inf where a column takes no part; and which take part.

    Shapes: x and mask, pointers to the rows, (ROWS, 1); column (1, COLUMNS); inside (ROWS, COLUMNS) -> the same twice.
    """
    value = tl.load(x + column, inside, other=0).to(tl.float32)
    kept = inside
    if mask is not None:
        kept = tl.load(mask + column * mask_stride, inside, other=0) != 0
    return tl.where(kept, value * scale, MINUS_INFINITY), kept


@triton.jit(do_not_specialize=["rows"])
def _forward_kernel(
    x,  # (rows, columns)
    mask,  # uint8, or None
    out,  # (rows, columns), contiguous
    rows,
    columns,
    x_stride,
    mask_size1,  # rows of the mask in up to three dimensions
    mask_size2,
    mask_stride0,
    mask_stride1,
    mask_stride2,
    mask_stride,  # from column to column, 0 or 1; 1 is a constant to Triton, and vectors are loaded then
    scale,
    HELD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    x += row * x_stride
    out += row * columns
    if mask is not None:
        outer = row // mask_size2
        mask += outer // mask_size1 * mask_stride0 + outer % mask_size1 * mask_stride1 + row % mask_size2 * mask_stride2
    first = tl.arange(0, COLUMNS)[None, :]
    any_kept = tl.zeros((ROWS,), tl.int32)
    if HELD:
        inside = within(row, rows, first, columns, ROWS)
        scores, kept = _scores(x, mask, mask_stride, first, inside, scale)
        if mask is not None:
            any_kept = tl.max(kept.to(tl.int32), 1)
        base = base_of(tl.max(scores, 1))[:, None]
        exponentials = tl.exp(scores - base)
        factor = _factor(tl.sum(exponentials, 1), mask, any_kept)[:, None]
        tl.store(out + first, exponentials * factor, inside)
    else:
        largest = tl.full((ROWS,), MINUS_INFINITY, tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        for start in range(0, columns, COLUMNS):
            column = start + first
            inside = within(row, rows, column, columns, ROWS)
            scores, kept = _scores(x, mask, mask_stride, column, inside, scale)
            if mask is not None:
                any_kept = tl.maximum(any_kept, tl.max(kept.to(tl.int32), 1))
            largest, total = include(largest, total, scores)
        base = base_of(largest)[:, None]
        factor = _factor(total, mask, any_kept)[:, None]
        for start in range(0, columns, COLUMNS):
            column = start + first
            inside = within(row, rows, column, columns, ROWS)
            scores, _ = _scores(x, mask, mask_stride, column, inside, scale)
            tl.store(out + column, tl.exp(scores - base) * factor, inside)


@triton.jit
def _factor(total, mask, any_kept):
    """What multiplies exponentials: a row that the mask empties is 0 by definition, others 0 / 0 as elsewhere."""
    if mask is not None:
        return tl.where(any_kept > 0, 1.0 / total, 0.0)
    else:
        return 1.0 / total


@triton.jit(do_not_specialize=["rows"])
def _backward_kernel(
    grad_output,  # (rows, columns)
    output,  # (rows, columns)
    grad_x,  # (rows, columns), contiguous
    rows,
    columns,
    grad_stride,
    output_stride,
    scale,
    HELD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    grad_output += row * grad_stride
    output += row * output_stride
    grad_x += row * columns
    first = tl.arange(0, COLUMNS)[None, :]
    if HELD:
        inside = within(row, rows, first, columns, ROWS)
        grad = tl.load(grad_output + first, inside, other=0).to(tl.float32)
        p = tl.load(output + first, inside, other=0).to(tl.float32)
        dot = tl.sum(grad * p, 1)[:, None]
        tl.store(grad_x + first, (grad - dot) * p * scale, inside)
    else:
        dot = tl.zeros((ROWS, 1), tl.float32)
        for start in range(0, columns, COLUMNS):
            column = start + first
            inside = within(row, rows, column, columns, ROWS)
            grad = tl.load(grad_output + column, inside, other=0).to(tl.float32)
            p = tl.load(output + column, inside, other=0).to(tl.float32)
            dot += tl.sum(grad * p, 1)[:, None]
        for start in range(0, columns, COLUMNS):
            column = start + first
            inside = within(row, rows, column, columns, ROWS)
            grad = tl.load(grad_output + column, inside, other=0).to(tl.float32)
            p = tl.load(output + column, inside, other=0).to(tl.float32)
            tl.store(grad_x + column, (grad - dot) * p * scale, inside)


# ---- launches ------------------------------------------------------------------------------------------------------
class _MaskRows(NamedTuple):
    """Where the rows of a mask lie, seen through x's shape.

    Attributes:
        mask: what to read, as bytes.
        layout: sizes of the last two of three dimensions of rows, the strides of all three, and that of the columns:
            0 where one value holds for a whole row, else 1.
    """

    mask: Tensor | None
    layout: tuple[int, int, int, int, int, int]

    @staticmethod
    def of(mask: Tensor | None, x: Tensor) -> _MaskRows:
        """Nothing is materialised, unless more than three dimensions of rows have strides of their own."""
        if mask is None:
            return _MaskRows(None, (1, 1, 0, 0, 0, 0))
        if mask.dim() > 0 and mask.shape[-1] > 1 and mask.stride(-1) > 1:
            mask = mask.contiguous()
        view = mask.view(torch.uint8).expand(x.shape)
        dims = _merged(view)
        if len(dims) > 3:
            view = view.contiguous()
            dims = _merged(view)
        # Sizes of 1 stand last: the kernel is compiled without divisions by them.
        (_, stride0), (size1, stride1), (size2, stride2) = dims + [(1, 0)] * (3 - len(dims))
        return _MaskRows(view, (size1, size2, stride0, stride1, stride2, min(view.stride(-1), 1)))


def _merged(view: Tensor) -> list[tuple[int, int]]:
    """Sizes and strides of all dimensions but the last; neighbours that one stride describes are one."""
    dims: list[tuple[int, int]] = []
    for size, stride in zip(view.shape[:-1], view.stride()[:-1], strict=True):
        if size == 1:
            continue
        if dims and dims[-1][1] == size * stride:
            dims[-1] = (dims[-1][0] * size, stride)
        else:
            dims.append((size, stride))
    return dims


def softmax_forward(x: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """The registered op: see fastlm/ops/softmax.py."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    x_rows, mask_rows = as_matrix(x), _MaskRows.of(mask, x)
    rows, columns = x_rows.shape
    tile = choose(_UNMASKED if mask is None else _TILES, columns)
    with torch.cuda.device_of(x):
        _forward_kernel[tile.grid(rows)](
            *(x_rows, mask_rows.mask, out, rows, columns, x_rows.stride(0), *mask_rows.layout, scale),
            HELD=tile.holds(columns),
            **tile.options(),
        )
    return out


def softmax_backward(grad_output: Tensor, output: Tensor, scale: float) -> Tensor:
    """The registered op: see fastlm/ops/softmax.py."""
    grad_x = torch.empty(output.shape, dtype=output.dtype, device=output.device)
    if grad_x.numel() == 0:
        return grad_x
    grad_rows, output_rows = as_matrix(grad_output), as_matrix(output)
    rows, columns = output_rows.shape
    tile = choose(_TILES, columns)
    with torch.cuda.device_of(output):
        _backward_kernel[tile.grid(rows)](
            *(grad_rows, output_rows, grad_x, rows, columns, grad_rows.stride(0), output_rows.stride(0), scale),
            HELD=tile.holds(columns),
            **tile.options(),
        )
    return grad_x


def shipped() -> Iterator[Configuration]:
    """Every launch of every dtype; see `Configuration`."""
    for dtype in DTYPES.values():
        forward = {"x": f"*{dtype}", "mask": "*u8", "out": f"*{dtype}", "scale": "fp32"}
        backward = {"grad_output": f"*{dtype}", "output": f"*{dtype}", "grad_x": f"*{dtype}", "scale": "fp32"}
        for tile, held in launches(_UNMASKED):
            yield configuration(f"forward {dtype}", _forward_kernel, forward, {"mask": None}, tile, held)
        for tile, held in launches(_TILES):
            yield configuration(f"forward {dtype}, mask", _forward_kernel, forward, {}, tile, held)
            yield configuration(f"backward {dtype}", _backward_kernel, backward, {}, tile, held)
