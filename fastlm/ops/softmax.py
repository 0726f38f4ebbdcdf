"""``softmax(x, mask, scale)``: max-subtracted over the last dimension, one read and one write."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastlm.ops import _backend, reference
from fastlm.ops._backend import OpFunction, Pair, rows_contiguous
from fastlm.ops._checks import check_float, native_dtype

# ---- registered ops ------------------------------------------------------------------------------------------------
# x (..., N), last dim contiguous, other strides free; mask bool, broadcastable to x, not expanded, True = takes part.
# Both return contiguous tensors of x's shape and dtype.
_FORWARD = "(Tensor x, Tensor? mask, float scale) -> Tensor"
_BACKWARD = "(Tensor grad_output, Tensor output, float scale) -> Tensor"


def _fake_forward(x: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    return x.new_empty(x.shape)


def _fake_backward(grad_output: Tensor, output: Tensor, scale: float) -> Tensor:
    return output.new_empty(output.shape)


_pairs = _backend.define("softmax", _FORWARD, _BACKWARD, Pair(_fake_forward, _fake_backward))


# ---- autograd ------------------------------------------------------------------------------------------------------
class _Softmax(OpFunction):
    @staticmethod
    def forward(x: Tensor, mask: Tensor | None, scale: float, family: str) -> Any:
        return _pairs[family].forward(x, mask, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        _, _, ctx.scale, ctx.family = inputs
        ctx.save_for_backward(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (output,) = ctx.saved_tensors
        return _pairs[ctx.family].backward(rows_contiguous(grad), output, ctx.scale), None, None, None


# ---- public --------------------------------------------------------------------------------------------------------
def softmax(x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0, backend: str | None = None) -> Tensor:
    """``softmax(scale * x)`` over the last dimension, where ``mask`` allows.

    Args:
        x: (..., N) fp32, bf16 or fp16 (fp64 on the reference); computed in fp32. Autocast leaves the dtype as it is,
            because nothing here needs a wider input.
        mask: boolean, broadcastable to ``x``; **True takes part**, False is left out (as in
            ``scaled_dot_product_attention``). A row with no True gives zeros and no gradient.
        scale: multiplies ``x`` before the softmax.
        backend: ``native``, ``triton``, ``reference`` or None (use_backend, FASTLM_BACKEND, else the first that runs).

    Returns:
        Tensor of x's shape and dtype. NaN in a row stays NaN, and so does a row of nothing but -inf that is not masked.

    Raises:
        TypeError: ``x`` is not floating point, or ``mask`` is not boolean.
        ValueError: ``mask`` does not broadcast to ``x``, lies on another device, or the named backend cannot run.
    """
    check_float("x", x)
    if x.dim() == 0:
        raise ValueError("x: a 0-dimensional tensor has no last dimension; pass x.reshape(1)")
    if mask is not None:
        _check_mask(x, mask)
    family = _backend.select("softmax", backend, x.device.type, native_dtype("x", x))
    if family == "reference":
        return reference.softmax(x, mask, scale)
    output: Tensor = _Softmax.call(rows_contiguous(x), mask, float(scale), family)
    return output


def _check_mask(x: Tensor, mask: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: dtype {mask.dtype} is not supported; pass a boolean mask, True where x takes part")
    if mask.device != x.device:
        raise ValueError(f"mask: on {mask.device}, but x is on {x.device}; move it with mask.to({str(x.device)!r})")
    trailing = x.shape[x.dim() - mask.dim() :] if mask.dim() <= x.dim() else ()
    if mask.dim() > x.dim() or any(m not in (1, n) for m, n in zip(mask.shape, trailing, strict=True)):
        raise ValueError(
            f"mask: shape {tuple(mask.shape)} does not broadcast to x's {tuple(x.shape)}; reshape it so that each "
            f"of its dimensions is 1 or x's"
        )
