"""What the kernels of rows share: the tile that a program works on, and rows as a matrix."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from fastlm.kernels import Configuration
from torch import Tensor

#: the dtypes that kernels take -> as Triton names them
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class Tile(NamedTuple):
    """Rows and columns that a program works on at a time, with so many warps."""

    rows: int
    columns: int
    num_warps: int

    def grid(self, rows: int) -> tuple[int]:
        """Programs for so many rows."""
        return (triton.cdiv(rows, self.rows),)

    def holds(self, columns: int) -> bool:
        """Whether a row of so many columns fits."""
        return columns <= self.columns

    def options(self) -> dict[str, int]:
        """As a kernel takes it."""
        return {"ROWS": self.rows, "COLUMNS": self.columns, "num_warps": self.num_warps}


def choose(tiles: tuple[Tile, ...], columns: int) -> Tile:
    """The first that holds a row of so many columns, else the last: rows then pass through it."""
    return next((tile for tile in tiles if tile.holds(columns)), tiles[-1])


def as_matrix(x: Tensor) -> Tensor:
    """(..., N), last dimension contiguous -> (rows, N): a view where one stride describes the rows, else a copy."""
    return x.reshape(-1, x.shape[-1])


@triton.jit
def within(row, rows, column, columns, ROWS: tl.constexpr):
    """Which elements of a program's tile the matrix has.

    Shapes: row (ROWS, 1), column (1, COLUMNS) -> (ROWS, COLUMNS). No program is launched for rows that there are not.
    """
    if ROWS == 1:
        return column < columns
    else:
        return (row < rows) & (column < columns)


# ---- what is shipped -----------------------------------------------------------------------------------------------
def launches(tiles: tuple[Tile, ...]) -> list[tuple[Tile, bool]]:
    """Each tile that `choose` chooses, and whether it holds a row then."""
    return [(tile, True) for tile in tiles[:-1]] + [(tiles[-1], False)]


def configuration(
    name: str, kernel: Any, types: dict[str, str], constants: dict[str, Any], tile: Tile, held: bool = True
) -> Configuration:
    """A launch: an argument has its value in ``constants``, else its type in ``types``, else i32."""
    constants = {**constants, "HELD": held, "ROWS": tile.rows, "COLUMNS": tile.columns}
    constants = {argument: value for argument, value in constants.items() if argument in kernel.arg_names}
    signature = {a: "constexpr" if a in constants else types.get(a, "i32") for a in kernel.arg_names}
    name = f"{name}, {tile.rows} x {tile.columns}{'' if held else ' in passes'}"
    return Configuration(name, kernel, signature, constants, tile.num_warps, num_stages=1, tensor_cores=False)
