"""Other ways to do the work of rows.py. A factory that raises ImportError is a package that is not installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import steps
from benchmarks.gpu import records
from fastlm import ops
from fastlm.batch import Batch
from fastlm.ops import _backend

Function = Callable[..., Tensor]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """By Inductor, for these shapes alone.

    Raises:
        ImportError: there is no time for it.
    """
    no_time_to_compile()
    return torch.compile(function, dynamic=False, fullgraph=True)


def no_time_to_compile() -> None:
    """Raises ImportError under ``--quick``."""
    if os.environ.get(records.QUICK):
        raise ImportError("left out by --quick")


def triton(op: str, function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """``function`` with fastlm's Triton kernels, whatever else there is.

    Raises:
        ImportError: there are none of the op for the device, or they would run in the interpreter.
    """
    if device == "cpu":
        raise ImportError("Triton's interpreter is no peer")
    if reason := _backend.why_not(op, "triton", device):
        raise ImportError(reason)
    return partial(function, backend="triton")


# ---- attention -----------------------------------------------------------------------------------------------------
def attention(
    lengths: list[int], starts: Tensor, longest: int
) -> dict[str, Callable[[list[Tensor]], tuple[Function, list[Tensor]]]]:
    """Each makes, of packed q, k and v (T, H, D), a function and its inputs."""
    device = starts.device.type

    def ours(q: Tensor, k: Tensor, v: Tensor, backend: str | None = None) -> Tensor:
        return ops.attention(q, k, v, starts, max_seqlen_q=longest, backend=backend)

    return {
        "Triton": lambda inputs: (triton("attention", ours, device), inputs),
        "varlen": lambda inputs: (_varlen(starts, longest), [x.contiguous() for x in inputs]),
        "SDPA padded": lambda inputs: _padded(lengths, longest, inputs),
    }


def _varlen(starts: Tensor, longest: int) -> Function:
    from torch.nn.attention.varlen import varlen_attn

    return lambda q, k, v: varlen_attn(q, k, v, starts, starts, longest, longest)


def _padded(lengths: list[int], longest: int, inputs: list[Tensor]) -> tuple[Function, list[Tensor]]:
    """Padded beforehand: what padding itself costs is not counted."""
    sizes = torch.tensor(lengths, device=inputs[0].device)
    real = torch.arange(longest, device=sizes.device) < sizes[:, None]  # (B, S)
    batch = []
    for x in inputs:
        padded = x.new_zeros(*real.shape, *x.shape[1:])
        padded[real] = x
        batch.append(padded.transpose(1, 2).contiguous())  # (B, H, S, D)
    mask = None if bool(real.all()) else real[:, None, None, :]
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask), batch


def compiled_attention(starts: Tensor, longest: int) -> Function:
    """The op's specification, by Inductor."""
    return compiled(lambda q, k, v: ops.attention(q, k, v, starts, max_seqlen_q=longest, backend="reference"))


# ---- softmax and losses --------------------------------------------------------------------------------------------
def softmax(device: str) -> dict[str, Callable[[], Function]]:
    """Of logits (N, V)."""
    return {
        "Triton": lambda: triton("softmax", ops.softmax, device),
        "torch": lambda: lambda x: torch.softmax(x, -1),
        "compiled": lambda: compiled(lambda x: torch.softmax(x, -1)),
        "Liger": _liger_softmax,
        "quack": _quack_softmax,
    }


def _liger_softmax() -> Function:
    from liger_kernel.transformers.functional import liger_softmax

    return liger_softmax


def _quack_softmax() -> Function:
    from quack import softmax

    return softmax


def cross_entropy(targets: Tensor) -> dict[str, Callable[[], Function]]:
    """Mean loss of logits (N, V)."""

    def ours(x: Tensor, backend: str | None = None) -> Tensor:
        return ops.cross_entropy(x, targets, backend=backend)

    return {
        "Triton": lambda: triton("cross_entropy", ours, targets.device.type),
        "torch": lambda: lambda x: F.cross_entropy(x, targets),
        "compiled": lambda: compiled(lambda x: F.cross_entropy(x.float(), targets)),
        "Liger": lambda: _liger_cross_entropy(targets),
        "quack": lambda: _quack_cross_entropy(targets),
    }


def _liger_cross_entropy(targets: Tensor) -> Function:
    from liger_kernel.transformers import LigerCrossEntropyLoss

    loss: Any = LigerCrossEntropyLoss()
    # It writes the gradient over its input: what it is given is a copy, whose cost is in its time.
    return lambda x: loss(x.clone(), targets)


def _quack_cross_entropy(targets: Tensor) -> Function:
    from quack import cross_entropy

    return lambda x: cross_entropy(x, targets, reduction="mean")


def linear_cross_entropy(rows: Tensor, targets: Tensor) -> dict[str, Callable[[], Function]]:
    """Mean loss of hidden (N, d) and weight (V, d) at the rows that have a target."""
    wanted = targets[rows]

    def gathered(h: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(h.index_select(0, rows), w), wanted)

    def ours(h: Tensor, w: Tensor, backend: str | None = None) -> Tensor:
        return ops.linear_cross_entropy(h.index_select(0, rows), w, wanted, backend=backend).loss

    return {
        "Triton": lambda: triton("linear_cross_entropy", ours, targets.device.type),
        "rows not given": lambda: lambda h, w: ops.linear_cross_entropy(h, w, targets).loss,
        "torch": lambda: gathered,
        "compiled": lambda: compiled(
            lambda h, w: F.cross_entropy(F.linear(h.index_select(0, rows), w).float(), wanted)
        ),
        "F.linear_cross_entropy": lambda: _torch_linear_cross_entropy(rows, wanted),
        "Liger": lambda: _liger_linear_cross_entropy(rows, wanted),
    }


def _torch_linear_cross_entropy(rows: Tensor, wanted: Tensor) -> Function:
    if not hasattr(F, "linear_cross_entropy"):
        raise ImportError(f"torch {torch.__version__} has no F.linear_cross_entropy")
    return lambda h, w: F.linear_cross_entropy(h.index_select(0, rows), w, wanted)


def _liger_linear_cross_entropy(rows: Tensor, wanted: Tensor) -> Function:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss: Any = LigerFusedLinearCrossEntropyLoss()
    return lambda h, w: loss(w, h.index_select(0, rows), wanted)


def layer_norm(
    ours: Callable[..., tuple[Tensor, ...]], p: float, device: str
) -> dict[str, Callable[[], Callable[..., tuple[Tensor, ...]]]]:
    """Of branch, residual, weight and bias: the norm in the branch's dtype, and the sum."""

    def plain(b: Tensor, r: Tensor, w: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        x = r + F.dropout(b, p)
        return F.layer_norm(x, x.shape[-1:], w, c).to(b.dtype), x

    return {
        "Triton": lambda: triton("layer_norm", ours, device),
        "torch": lambda: plain,
        "compiled": lambda: compiled(plain),
    }


# ---- a training step -----------------------------------------------------------------------------------------------
def step(size: steps.Size, kind: str, batch: Batch, device: str) -> dict[str, Callable[[], Callable[[], Tensor]]]:
    """Hugging Face's model of the same sizes on the same batch, padded to its longest sentence."""

    def make(compiled: bool) -> Callable[[], Tensor]:
        if importlib.util.find_spec("transformers") is None:
            raise ImportError("transformers is not installed")
        if compiled:
            no_time_to_compile()
        return steps.hugging_face_step(size, kind, [batch], torch.bfloat16, compiled=compiled, device=device)

    name = {"encoder": "BERT", "decoder": "GPT-2"}[kind]
    return {f"{name} padded": lambda: make(False), f"{name} padded, compiled": lambda: make(True)}
