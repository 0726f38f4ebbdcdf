"""``dropout_add_layer_norm(branch, residual)``, ``layer_norm(x)``: a residual sum, its LayerNorm and dropout in one.

Both are one registered op: with a branch, dropout falls on the branch; without one, on the result. What is dropped is
not stored, the backward draws it again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastlm.ops import _backend, reference
from fastlm.ops._autocast import autocast_dtype, without_autocast
from fastlm.ops._backend import OpFunction, Pair, rows_contiguous
from fastlm.ops._checks import check_dropout, check_float, check_like, native_dtype
from fastlm.ops.philox import Seed, seed_of_call

# ---- registered ops ------------------------------------------------------------------------------------------------
# residual and branch (..., d), last dim contiguous, other strides free; weight and bias (d,). y is contiguous and has
# `dtype`, which is branch's; x (the sum) has residual's, and is (0,) where there is no branch: then it is the residual.
# mean and rstd (...) fp32. A residual that is not fp32 takes a branch and a dtype of its own kind only. The gradients
# are contiguous, of their tensors' shapes and dtypes; that of the branch is (0,) where there is none. The seed is ()
# int64, on the CPU or the residual's device.
_FORWARD = (
    "(Tensor residual, Tensor? branch, Tensor weight, Tensor bias, float eps, float dropout_p, Tensor dropout_seed, "
    "ScalarType dtype) -> (Tensor y, Tensor x, Tensor mean, Tensor rstd)"
)
_BACKWARD = (
    "(Tensor grad_y, Tensor? grad_x, Tensor x, Tensor weight, Tensor mean, Tensor rstd, float dropout_p, "
    "Tensor dropout_seed, bool has_branch) "
    "-> (Tensor grad_residual, Tensor grad_branch, Tensor grad_weight, Tensor grad_bias)"
)


def _fake_forward(
    residual: Tensor,
    branch: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dropout_p: float,
    dropout_seed: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y = residual.new_empty(residual.shape, dtype=dtype)
    x = residual.new_empty(0 if branch is None else residual.shape)
    mean, rstd = (residual.new_empty(residual.shape[:-1], dtype=torch.float32) for _ in range(2))
    return y, x, mean, rstd


def _fake_backward(
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
    grad_branch = grad_y.new_empty(x.shape) if has_branch else x.new_empty(0)
    return x.new_empty(x.shape), grad_branch, weight.new_empty(weight.shape), weight.new_empty(weight.shape)


_pairs = _backend.define("layer_norm", _FORWARD, _BACKWARD, Pair(_fake_forward, _fake_backward))


# ---- autograd ------------------------------------------------------------------------------------------------------
class _LayerNorm(OpFunction):
    @staticmethod
    def forward(
        residual: Tensor,
        branch: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        dropout_seed: Tensor,
        family: str,
        eps: float,
        dropout_p: float,
        dtype: torch.dtype,
    ) -> Any:
        return _pairs[family].forward(residual, branch, weight, bias, eps, dropout_p, dropout_seed, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        residual, branch, weight, _, seed, ctx.family, _, ctx.dropout_p, ctx.dtype = inputs
        _, x, mean, rstd = output
        ctx.has_branch = branch is not None
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, rstd, *([] if ctx.has_branch else [x]))
        ctx.save_for_backward(x if ctx.has_branch else residual, weight, mean, rstd, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor | None, grad_x: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd, seed = ctx.saved_tensors
        grad_y = x.new_zeros(x.shape, dtype=ctx.dtype) if grad_y is None else rows_contiguous(grad_y)
        grad_x = rows_contiguous(grad_x) if ctx.has_branch and grad_x is not None else None
        options = ctx.dropout_p, seed, ctx.has_branch
        grads = _pairs[ctx.family].backward(grad_y, grad_x, x, weight, mean, rstd, *options)
        grad_residual, grad_branch, grad_weight, grad_bias = grads
        return grad_residual, grad_branch if ctx.has_branch else None, grad_weight, grad_bias, *[None] * 5


# ---- public --------------------------------------------------------------------------------------------------------
class DropoutAddLayerNormOutput(NamedTuple):
    """What a norm between two branches hands on.

    Attributes:
        y: the normalised sum, which the next branch reads.
        residual: the sum itself, in the dtype that the residual had.
    """

    y: Tensor
    residual: Tensor


def dropout_add_layer_norm(
    branch: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float = 1e-5,
    dropout_p: float = 0.0,
    dropout_seed: Seed | None = None,
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> DropoutAddLayerNormOutput:
    """``x = residual + dropout(branch)`` and ``y = layer_norm(x) * weight + bias`` over the last dimension.

    The name is FlashAttention's for the same fusion. The sum and the statistics are those of fp32; the residual keeps
    its dtype under autocast, and y comes out in the one that the next matrix product takes.

    Args:
        branch: (..., d) fp32, bf16 or fp16 (fp64 on the reference); its dtype may differ from the residual's. Fastest
            where it is y's, which is what autocast's matrix products give.
        residual: (..., d), the same shape. A sum that is not fp32 is rounded before it is normalised.
        weight: (d,), dtype of the residual.
        bias: (d,), dtype of the residual.
        eps: added to the variance, which is that of the row, not of a sample (as in ``F.layer_norm``).
        dropout_p: probability of dropping each element of the branch, in [0, 1]; the mask is that of ``philox.py``.
        dropout_seed: 64-bit integer that, with row and column, decides the mask; or a () int64 tensor on the CPU or on
            the residual's device, where a CUDA graph reads it anew at every replay. None draws one from PyTorch's
            default CPU generator (``torch.manual_seed`` governs it), which a compiled graph cannot do.
        dtype: of y; None means autocast's where it is on, else the residual's.
        backend: ``native``, ``triton``, ``reference`` or None (use_backend, FASTLM_BACKEND, else the first that runs).

    Returns:
        y, and x as ``residual``.

    Raises:
        TypeError: a dtype that is not supported or does not match.
        ValueError: shapes or devices that do not fit, options out of range, or a named backend that cannot run.
    """
    check_float("branch", branch)
    if branch.shape != residual.shape:
        raise ValueError(f"branch: shape {tuple(branch.shape)} must be the residual's {tuple(residual.shape)}")
    if branch.device != residual.device:
        raise ValueError(f"branch: on {branch.device}, but residual is on {residual.device}; move one of them")
    dtype = _check("residual", residual, weight, bias, dropout_p, dtype)
    # A kernel takes a branch of y's dtype. Of two that differ it is given the wider one, so that nothing is lost.
    inner = dtype if branch.dtype == dtype else torch.promote_types(branch.dtype, dtype)
    seed = seed_of_call(dropout_p, dropout_seed, residual.device)
    family = _family(backend, residual, inner)
    if family == "reference":
        with without_autocast(residual.device.type):
            y, x = reference.layer_norm(residual, branch, weight, bias, float(eps), float(dropout_p), seed, inner)
    else:
        rows = rows_contiguous(residual), rows_contiguous(branch.to(inner))
        y, x, _, _ = _LayerNorm.call(*_distinct(*rows), weight, bias, seed, family, float(eps), float(dropout_p), inner)
    return DropoutAddLayerNormOutput(y.to(dtype), x)


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float = 1e-5,
    dropout_p: float = 0.0,
    dropout_seed: Seed | None = None,
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Tensor:
    """``dropout(layer_norm(x) * weight + bias)`` over the last dimension; arguments as `dropout_add_layer_norm`'s.

    Args:
        x: (..., d) fp32, bf16 or fp16 (fp64 on the reference).
        weight: (d,), dtype of x.
        bias: (d,), dtype of x.
        eps: added to the variance.
        dropout_p: probability of dropping each element of the result.
        dropout_seed: decides the mask; see `dropout_add_layer_norm`.
        dtype: of the result; None means autocast's where it is on, else x's.
        backend: see `dropout_add_layer_norm`.

    Returns:
        Tensor of x's shape.

    Raises:
        TypeError: a dtype that is not supported or does not match.
        ValueError: shapes or devices that do not fit, options out of range, or a named backend that cannot run.
    """
    dtype = _check("x", x, weight, bias, dropout_p, dtype)
    seed = seed_of_call(dropout_p, dropout_seed, x.device)
    family = _family(backend, x, dtype)
    if family == "reference":
        with without_autocast(x.device.type):
            return reference.layer_norm(x, None, weight, bias, float(eps), float(dropout_p), seed, dtype)[0]
    y: Tensor = _LayerNorm.call(
        rows_contiguous(x), None, weight, bias, seed, family, float(eps), float(dropout_p), dtype
    )[0]
    return y


def _family(backend: str | None, x: Tensor, dtype: torch.dtype) -> str:
    return _backend.select(
        "layer_norm", backend, x.device.type, native_dtype("residual", x) or _native_result(x, dtype)
    )


def _native_result(x: Tensor, dtype: torch.dtype) -> str | None:
    if dtype == x.dtype or (x.dtype == torch.float32 and dtype in (torch.bfloat16, torch.float16)):
        return None
    return f"kernels turn {x.dtype} into {x.dtype} only, not {dtype}"


def _distinct(residual: Tensor, branch: Tensor) -> tuple[Tensor, Tensor]:
    """Dynamo refuses an autograd.Function that is given one tensor twice."""
    return residual, branch.view_as(branch) if branch is residual else branch


def _check(
    name: str, x: Tensor, weight: Tensor, bias: Tensor, dropout_p: float, dtype: torch.dtype | None
) -> torch.dtype:
    """Refuse what does not fit; the dtype of the result."""
    check_float(name, x)
    if x.dim() == 0 or x.shape[-1] == 0:
        raise ValueError(f"{name}: shape {tuple(x.shape)} is not (..., d) with d > 0; there is nothing to normalise")
    for other_name, other in (("weight", weight), ("bias", bias)):
        check_float(other_name, other)
        check_like(other_name, other, name, x)
        if other.shape != x.shape[-1:]:
            raise ValueError(
                f"{other_name}: shape {tuple(other.shape)} must be ({x.shape[-1]},), {name}'s last dimension"
            )
    check_dropout(dropout_p)
    dtype = dtype or autocast_dtype(x.device.type) or x.dtype
    if not dtype.is_floating_point:
        raise TypeError(f"dtype: {dtype} is not supported; use float32, bfloat16 or float16")
    return dtype
