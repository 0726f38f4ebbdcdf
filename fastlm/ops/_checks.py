"""Refusals that the ops share: each names the tensor, what it was, what is supported and what to do."""

from __future__ import annotations

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
NATIVE_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

_level = "off"


def set_checks(level: str) -> None:
    """Choose what the ops verify on the host.

    ``"off"``: shapes, dtypes and devices only; an out-of-range target poisons its row (and so the loss) with NaN.
    ``"full"``: also reads the targets (a device synchronisation, and a graph break under torch.compile) and raises
    IndexError naming the row and the value. The trainer turns it on to explain a loss that became NaN.

    Raises:
        ValueError: another level.
    """
    global _level
    if level not in ("off", "full"):
        raise ValueError(f"set_checks: {level!r} is no level; choose off or full")
    _level = level


def check_float(name: str, x: Tensor) -> None:
    """Refuse what is not a dense floating-point tensor."""
    if x.layout != torch.strided:
        raise TypeError(f"{name}: layout {x.layout} is not supported; pass a dense tensor ({name}.to_dense())")
    if x.dtype not in FLOATS:
        raise TypeError(f"{name}: dtype {x.dtype} is not supported; use float32, bfloat16 or float16")


def native_dtype(name: str, x: Tensor) -> str | None:
    """Why compiled kernels do not take this tensor, or None."""
    return None if x.dtype in NATIVE_FLOATS else f"{name} is {x.dtype}, and kernels take float32, bfloat16 and float16"


def check_device(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse a device other than that of ``other``."""
    if x.device != other.device:
        raise ValueError(f"{name}: on {x.device}, but {other_name} is on {other.device}; move one of them")


def check_like(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse a dtype or device other than that of ``other``."""
    check_device(name, x, other_name, other)
    if x.dtype != other.dtype:
        raise TypeError(f"{name}: dtype {x.dtype} differs from {other_name}'s {other.dtype}; cast one of them")


def check_targets(targets: Tensor, rows_name: str, rows: Tensor, classes: int, ignore_index: int) -> None:
    """Refuse targets of another dtype, shape or device than (N,) integers beside ``rows`` (N, ...).

    Raises:
        TypeError: not int32 or int64.
        ValueError: wrong shape or device.
        IndexError: under ``set_checks("full")``, a target outside [0, classes) that is not ``ignore_index``.
    """
    if targets.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"targets: dtype {targets.dtype} is not supported; pass class indices as int64 (or int32)")
    check_device("targets", targets, rows_name, rows)
    if targets.dim() != 1 or targets.shape[0] != rows.shape[0]:
        raise ValueError(
            f"targets: shape {tuple(targets.shape)}, but {rows_name} of shape {tuple(rows.shape)} needs "
            f"({rows.shape[0]},); flatten both: {rows_name}.flatten(0, -2), targets.flatten()"
        )
    if _level == "full":
        wrong = ((targets < 0) | (targets >= classes)) & (targets != ignore_index)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0, 0])
            raise IndexError(
                f"targets[{row}] is {int(targets[row])}, outside [0, {classes}) and not ignore_index ({ignore_index}); "
                f"{int(wrong.sum())} of {targets.numel()} targets are: compare the data's vocabulary with the model's"
            )


def check_dropout(dropout_p: float) -> None:
    """Refuse a probability outside [0, 1]."""
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"dropout_p: {dropout_p} is outside [0, 1]")


def check_loss_options(label_smoothing: float, reduction: str) -> None:
    """Refuse a smoothing outside [0, 1] and an unknown reduction."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing: {label_smoothing} is outside [0, 1]")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction: {reduction!r} is not supported; choose none, mean or sum")
