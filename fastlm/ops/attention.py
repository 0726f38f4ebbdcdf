"""``attention(q, k, v, cu_seqlens)``: scaled dot-product attention over packed sequences of any lengths."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakIdRef

from fastlm.ops import _backend, reference
from fastlm.ops._autocast import autocast_dtype, without_autocast
from fastlm.ops._backend import OpFunction, Pair, rows_contiguous
from fastlm.ops._blocks import check_lengths, readable
from fastlm.ops._checks import check_dropout, check_float, check_like, native_dtype
from fastlm.ops.philox import Seed, seed_of_call

NATIVE_HEAD_DIMS = range(16, 129, 8)

# ---- registered ops ------------------------------------------------------------------------------------------------
# q (T_q, H, D), k and v (T_k, H, D), last dim contiguous, other strides free (views of one QKV tensor); cu_seqlens
# (B+1,) int32 contiguous. out is contiguous, of q's dtype. lse (H, T_q) fp32: natural log-sum-exp of the scaled
# scores, -inf for a row that sees no key. The gradients are contiguous, of their tensors' shapes
# and dtypes. Dropout: philox.py; the seed is () int64, on the CPU or q's device.
_OPTIONS = (
    "Tensor cu_seqlens_q, Tensor cu_seqlens_k, SymInt max_seqlen_q, SymInt max_seqlen_k, bool causal, float scale, "
    "float dropout_p, Tensor dropout_seed"
)
_FORWARD = f"(Tensor q, Tensor k, Tensor v, {_OPTIONS}) -> (Tensor out, Tensor lse)"
_BACKWARD = (
    f"(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, {_OPTIONS}) -> (Tensor, Tensor, Tensor)"
)


def _fake_forward(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    rows, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((heads, rows), dtype=torch.float32)


def _fake_backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


_pairs = _backend.define("attention", _FORWARD, _BACKWARD, Pair(_fake_forward, _fake_backward))


# ---- autograd ------------------------------------------------------------------------------------------------------
class _Attention(OpFunction):
    @staticmethod
    def forward(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor | None,
        dropout_seed: Tensor,
        family: str,
        *options: Any,
    ) -> Any:
        starts = cu_seqlens_q, _or_else(cu_seqlens_k, cu_seqlens_q)
        return _pairs[family].forward(q, k, v, *starts, *options, dropout_seed)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        q, k, v, cu_seqlens_q, cu_seqlens_k, seed, ctx.family, *ctx.scalars = inputs
        out, lse = output
        ctx.mark_non_differentiable(lse)
        ctx.save_for_backward(q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        *tensors, cu_seqlens_q, cu_seqlens_k, seed = ctx.saved_tensors
        starts = cu_seqlens_q, _or_else(cu_seqlens_k, cu_seqlens_q)
        grads = _pairs[ctx.family].backward(rows_contiguous(grad), *tensors, *starts, *ctx.scalars, seed)
        return *grads, *[None] * (4 + len(ctx.scalars))


# ---- public --------------------------------------------------------------------------------------------------------
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    *,
    max_seqlen_q: int,
    max_seqlen_k: int | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    dropout_seed: Seed | None = None,
    backend: str | None = None,
) -> Tensor:
    """``softmax(scale * q @ k.T) @ v`` within each sequence and head; no sequence sees another, nothing is padded.

    Args:
        q: (T_q, H, D) fp32, bf16 or fp16 (fp64 on the reference); may be a view into one fused QKV tensor. D in
            16..128 by 8 for kernels, any D on the reference. Softmax and sums are fp32. Under autocast q, k and v are
            cast to its dtype.
        k: (T_k, H, D), dtype and device of q.
        v: as k.
        cu_seqlens_q: (B+1,) int32 (or int64), on q's device: sequence b is rows ``cu_seqlens_q[b]`` to
            ``cu_seqlens_q[b+1]``, starting at 0. Zero lengths are fine; rows after the last sequence give 0.
        cu_seqlens_k: the same for k and v (cross-attention); None means the sequences of q.
        max_seqlen_q: length of the longest query sequence, or more.
        max_seqlen_k: the same for keys; None means ``max_seqlen_q`` where ``cu_seqlens_k`` is None too.
        causal: a query sees the keys at or before its own place, with the *last* query aligned to the last key
            (bottom right, as in FlashAttention-2's and PyTorch's varlen attention): query i of L_q sees key j of L_k
            where ``j <= i + L_k - L_q``. A query that sees no key gives 0.
        scale: multiplies the scores; None means ``1 / sqrt(D)``.
        dropout_p: probability of dropping each attention probability, in [0, 1]; the mask is that of ``philox.py``.
        dropout_seed: 64-bit integer that, with the row, head and key, decides the mask; or a () int64 tensor on the CPU
            or on q's device, where a CUDA graph reads it anew at every replay. None draws one from PyTorch's default
            CPU generator (``torch.manual_seed`` governs it), which a compiled graph cannot do.
        backend: ``native``, ``triton``, ``reference`` or None (use_backend, FASTLM_BACKEND, else the first that runs).

    Returns:
        (T_q, H, D) of q's dtype.

    Raises:
        TypeError: a dtype that is not supported or does not match.
        ValueError: shapes or devices that do not fit, options out of range, or a named backend that cannot run.
    """
    _check_tensors(q, k, v)
    if cu_seqlens_k is None:
        _check_shared(q, k, max_seqlen_k)
        cu_seqlens_k, max_seqlen_k = cu_seqlens_q, max_seqlen_q
    elif max_seqlen_k is None:
        raise ValueError("max_seqlen_k: missing; with cu_seqlens_k, pass the longest key sequence's length")
    _check_cu_seqlens("cu_seqlens_q", cu_seqlens_q, q)
    _check_cu_seqlens("cu_seqlens_k", cu_seqlens_k, q)
    if cu_seqlens_q.shape != cu_seqlens_k.shape:
        raise ValueError(
            f"cu_seqlens_k: describes {cu_seqlens_k.shape[0] - 1} sequences, but cu_seqlens_q "
            f"{cu_seqlens_q.shape[0] - 1}; every query sequence needs its key sequence, which may be empty"
        )
    check_dropout(dropout_p)
    if max_seqlen_q < 0 or max_seqlen_k < 0:
        raise ValueError(f"max_seqlen: {max_seqlen_q} (q) and {max_seqlen_k} (k) must not be negative")
    seed = seed_of_call(dropout_p, dropout_seed, q.device)
    scale = 1.0 / math.sqrt(max(1, q.shape[2])) if scale is None else float(scale)
    if (dtype := autocast_dtype(q.device.type)) is not None:
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    family = _backend.select("attention", backend, q.device.type, native_dtype("q", q) or _native_head_dim(q))
    options = (max_seqlen_q, max_seqlen_k, causal, scale, float(dropout_p))
    if family == "reference":
        with without_autocast(q.device.type):
            return reference.attention(q, k, v, cu_seqlens_q, cu_seqlens_k, *options, seed)
    if q.device.type == "cpu" and readable(cu_seqlens_q):
        _check_values(q, k, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    # Dynamo refuses an autograd.Function that is given one tensor twice: shared tensors go in once, or as another view.
    own_k = None if cu_seqlens_k is cu_seqlens_q else cu_seqlens_k.int().contiguous()
    k = k.view_as(k) if k is q else k
    v = v.view_as(v) if v is q or v is k else v
    q, k, v = rows_contiguous(q), rows_contiguous(k), rows_contiguous(v)
    out: Tensor = _Attention.call(q, k, v, cu_seqlens_q.int().contiguous(), own_k, seed, family, *options)[0]
    return out


class _LastChecked:
    """The latest sequences that were found to fit: every layer of a model brings the same ones."""

    key: tuple[Any, ...] = ()


def _check_values(
    q: Tensor, k: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int, max_seqlen_k: int
) -> None:
    pair = (cu_seqlens_q, cu_seqlens_k)
    key = (*map(WeakIdRef, pair), *(cu._version for cu in pair), len(q), len(k), max_seqlen_q, max_seqlen_k)
    if key == _LastChecked.key:
        return
    for name, cu, rows, longest in (("q", pair[0], len(q), max_seqlen_q), ("k", pair[1], len(k), max_seqlen_k)):
        check_lengths(name, cu, cu.diff(), rows, longest)
    _LastChecked.key = key


def _or_else(cu_seqlens: Tensor | None, default: Tensor) -> Tensor:
    return default if cu_seqlens is None else cu_seqlens


def _native_head_dim(q: Tensor) -> str | None:
    width = q.shape[2]
    return None if width in NATIVE_HEAD_DIMS else f"head_dim is {width}, and kernels take 16 to 128 in steps of 8"


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    check_float("q", q)
    if q.dim() != 3:
        raise ValueError(f"q: shape {tuple(q.shape)} is not (T_q, H, D); pack the sequences end to end, heads in dim 1")
    for name, x in (("k", k), ("v", v)):
        check_float(name, x)
        check_like(name, x, "q", q)
        if x.dim() != 3 or x.shape[1:] != q.shape[1:]:
            raise ValueError(
                f"{name}: shape {tuple(x.shape)} must be (T_k, {q.shape[1]}, {q.shape[2]}), the heads and head_dim of q"
            )
    if k.shape[0] != v.shape[0]:
        raise ValueError(f"v: {v.shape[0]} rows, but k has {k.shape[0]}; each key needs its value")


def _check_shared(q: Tensor, k: Tensor, max_seqlen_k: int | None) -> None:
    if max_seqlen_k is not None:
        raise ValueError("max_seqlen_k: given without cu_seqlens_k; pass both for cross-attention, or neither")
    if k.shape[0] != q.shape[0]:
        raise ValueError(f"k: {k.shape[0]} rows, but q has {q.shape[0]}; for cross-attention pass cu_seqlens_k")


def _check_cu_seqlens(name: str, cu_seqlens: Tensor, q: Tensor) -> None:
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name}: dtype {cu_seqlens.dtype} is not supported; pass int32 (or int64)")
    if cu_seqlens.dim() != 1 or cu_seqlens.shape[0] < 1:
        raise ValueError(f"{name}: shape {tuple(cu_seqlens.shape)} is not (B+1,); an empty batch is tensor([0])")
    if cu_seqlens.device != q.device:
        raise ValueError(f"{name}: on {cu_seqlens.device}, but q is on {q.device}; move one of them")
