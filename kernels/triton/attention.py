"""Attention over packed sequences, with the online softmax and the two walks of FlashAttention-2 (Dao, 2023).

A program owns a tile of queries (or keys) of one sequence and one head, and walks over the keys (or queries) of that
sequence alone. Its tiles hold nothing of other sequences: no NaN of one reaches another, and dropout's counters, four
keys each, begin where tiles of keys do. The host knows no lengths; how programs find their tiles: `_find_tile`.

The backward is two kernels without atomics. The owners of queries write their gradient and delta, the sums of
out * grad_out by row; then the owners of keys write those of keys and values. With P = exp(scale * Q K^T - lse),
M = dropout's mask times its scale and W = M * (grad_out V^T)::

    grad_v = (M * P)^T grad_out,  G = P * (W - delta),  grad_q = scale * G K,  grad_k = scale * G^T Q

A head_dim that is no power of two is padded to the next with zeros, which are in registers only. The products of 96
columns so cost a third more; of sentences they are the smaller part, and two products for 64 and 32 columns would have
twice the loads and barriers.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from fastlm.kernels import Configuration, interpreted
from fastlm.kernels.philox import ROUNDS, Dropout, interleave, seed_of
from torch import Tensor

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


def _kernel(function: Any) -> Any:
    """`triton.jit`, but nothing is compiled anew for an argument's value or alignment: constexprs say all of it."""
    arguments = [name for name in inspect.signature(function).parameters if name.islower()]
    return triton.jit(function, do_not_specialize=arguments)


# ---- tiles -----------------------------------------------------------------------------------------------------------
@triton.jit
def _find_tile(cu_seqlens, sequences, rows, TILE: tl.constexpr):
    """The sequence of this program's tile, where it begins, its length, and the tile's first row within it.

    Sequence s has the tiles from ``cu_seqlens[s] // TILE + s`` on: as many as it needs, or one more, whose first row
    is then beyond its length. So ``rows // TILE + sequences + 1`` tiles do, whatever the lengths, and bisection finds
    a tile's sequence (as in vLLM's unified attention kernel). Rows after the last sequence count as one more.
    """
    tile = tl.program_id(0)
    low: tl.int32 = 0
    high = sequences
    while low < high:
        middle = (low + high + 1) // 2
        if tl.load(cu_seqlens + middle) // TILE + middle <= tile:
            low = middle
        else:
            high = middle - 1
    begin = tl.load(cu_seqlens + low)
    end = tl.load(cu_seqlens + low + 1, mask=low < sequences, other=rows)
    return low, begin, end - begin, (tile - begin // TILE - low) * TILE


@triton.jit
def _find_partner(cu_seqlens, sequences, sequence):
    """Where the other side of a sequence begins, and its length: 0 for rows of no sequence."""
    begin = tl.load(cu_seqlens + sequence)
    end = tl.load(cu_seqlens + sequence + 1, mask=sequence < sequences, other=begin)
    return begin, end - begin


@triton.jit
def _tile_at(x, row_stride, first, end, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Pointers to rows [first, first + ROWS) of a head, and which of them exist: (ROWS, WIDTH) each.

    `_addressable` made sure that every row begins at a multiple of 16 bytes, and that offsets in a tile have 32 bits.
    """
    row, column = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    exists = (first + row)[:, None] < end
    if WIDTH > HEAD_DIM:
        exists = exists & (column[None, :] < HEAD_DIM)
    pointers = x + tl.cast(first, tl.int64) * row_stride + (row[:, None] * row_stride + column[None, :])
    return tl.multiple_of(pointers, (1, 16)), exists


@triton.jit
def _load_tile(
    x, row_stride, first, end, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, UPCAST: tl.constexpr
):
    """Rows [first, first + ROWS) of a head, 0 from ``end`` on: (ROWS, WIDTH).

    UPCAST, to fp32, is for the interpreter: its `tl.dot` multiplies the bits of bf16 as if they were integers.
    """
    pointers, exists = _tile_at(x, row_stride, first, end, ROWS, HEAD_DIM, WIDTH)
    tile = tl.load(pointers, mask=exists, other=0.0)
    return tile.to(tl.float32) if UPCAST else tile


@triton.jit
def _store_tile(x, tile, row_stride, first, end, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """The rows of (ROWS, WIDTH) below ``end``."""
    pointers, exists = _tile_at(x, row_stride, first, end, ROWS, HEAD_DIM, WIDTH)
    tl.store(pointers, tile.to(x.dtype.element_ty), mask=exists)


@triton.jit
def _kept(seed, query_rows, head, first_key, last_dropped, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """Which probabilities survive: query_rows (QUERIES,), first_key divisible by 4 -> (QUERIES, KEYS / 4, 2, 2)."""
    counter = first_key // 4 + tl.arange(0, KEYS // 4)
    w0, w1, w2, w3 = tl.philox(seed, counter[None, :], query_rows[:, None], head, 0, ROUNDS)
    return interleave(w0 > last_dropped, w1 > last_dropped, w2 > last_dropped, w3 > last_dropped)


# ---- kernels ---------------------------------------------------------------------------------------------------------
@_kernel
def _forward_kernel(
    q,
    k,
    v,
    q_row_stride,
    q_head_stride,
    k_row_stride,
    k_head_stride,
    v_row_stride,
    v_head_stride,
    out,
    lse,
    cu_seqlens_q,
    cu_seqlens_k,
    sequences: tl.int32,
    rows_q: tl.int32,
    heads,
    causal: tl.int32,
    scale: tl.float32,
    keep_scale: tl.float32,
    last_dropped: tl.uint32,
    seed: tl.int64,
    seed_on_device,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DROPOUT: tl.constexpr,
    UPCAST: tl.constexpr,
):
    sequence, begin_q, length_q, first = _find_tile(cu_seqlens_q, sequences, rows_q, QUERIES)
    if first >= length_q:
        return
    begin_k, length_k = _find_partner(cu_seqlens_k, sequences, sequence)
    head = tl.program_id(1)
    q += head.to(tl.int64) * q_head_stride
    k += head.to(tl.int64) * k_head_stride + begin_k.to(tl.int64) * k_row_stride
    v += head.to(tl.int64) * v_head_stride + begin_k.to(tl.int64) * v_row_stride
    rows = begin_q + first + tl.arange(0, QUERIES)
    end_q = begin_q + length_q
    # Query i sees the keys up to i + shift, as far as there are any; causal, the last query sees the last key.
    shift = length_k - tl.where(causal != 0, length_q, 0)
    seen = tl.minimum(length_k, first + tl.arange(0, QUERIES) + shift + 1)  # by each query; none where negative

    queries = _load_tile(q, q_row_stride, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH, UPCAST)
    exponent_scale = scale * LOG2_E
    largest = tl.full((QUERIES,), float("-inf"), tl.float32)  # of the exponents of 2
    total = tl.zeros((QUERIES,), tl.float32)
    sums = tl.zeros((QUERIES, WIDTH), tl.float32)
    if DROPOUT:
        key = seed_of(seed, seed_on_device)
    for start in tl.range(0, tl.minimum(length_k, first + QUERIES + shift), KEYS):
        keys = _load_tile(k, k_row_stride, start, length_k, KEYS, HEAD_DIM, WIDTH, UPCAST)
        values = _load_tile(v, v_row_stride, start, length_k, KEYS, HEAD_DIM, WIDTH, UPCAST)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * exponent_scale
        scores = tl.where((start + tl.arange(0, KEYS))[None, :] < seen[:, None], scores, float("-inf"))
        next = tl.maximum(largest, tl.max(scores, 1))
        base = tl.where(next == float("-inf"), 0.0, next)  # exp(-inf - base) is 0 then, not NaN
        p = tl.exp2(scores - base[:, None])
        factor = tl.exp2(largest - base)
        total = total * factor + tl.sum(p, 1)
        if DROPOUT:
            kept = _kept(key, rows, head, start, last_dropped, QUERIES, KEYS).reshape(QUERIES, KEYS)
            p = tl.where(kept, p, 0.0)
        sums = tl.dot(p.to(values.dtype), values, sums * factor[:, None], input_precision="ieee")
        largest = next

    result = tl.where(seen[:, None] > 0, sums * (keep_scale / total)[:, None], 0.0)
    _store_tile(out + head * HEAD_DIM, result, heads * HEAD_DIM, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH)
    tl.store(lse + head.to(tl.int64) * rows_q + rows, (largest + tl.log2(total)) * LN_2, mask=rows < end_q)


@_kernel
def _backward_queries_kernel(
    grad_out,
    q,
    k,
    v,
    grad_out_row_stride,
    grad_out_head_stride,
    q_row_stride,
    q_head_stride,
    k_row_stride,
    k_head_stride,
    v_row_stride,
    v_head_stride,
    out,
    lse,
    delta,
    grad_q,
    cu_seqlens_q,
    cu_seqlens_k,
    sequences: tl.int32,
    rows_q: tl.int32,
    heads,
    causal: tl.int32,
    scale: tl.float32,
    keep_scale: tl.float32,
    last_dropped: tl.uint32,
    seed: tl.int64,
    seed_on_device,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DROPOUT: tl.constexpr,
    UPCAST: tl.constexpr,
):
    sequence, begin_q, length_q, first = _find_tile(cu_seqlens_q, sequences, rows_q, QUERIES)
    if first >= length_q:
        return
    begin_k, length_k = _find_partner(cu_seqlens_k, sequences, sequence)
    head = tl.program_id(1)
    q += head.to(tl.int64) * q_head_stride
    grad_out += head.to(tl.int64) * grad_out_head_stride
    k += head.to(tl.int64) * k_head_stride + begin_k.to(tl.int64) * k_row_stride
    v += head.to(tl.int64) * v_head_stride + begin_k.to(tl.int64) * v_row_stride
    rows = begin_q + first + tl.arange(0, QUERIES)
    end_q = begin_q + length_q
    shift = length_k - tl.where(causal != 0, length_q, 0)  # as in the forward
    seen = tl.minimum(length_k, first + tl.arange(0, QUERIES) + shift + 1)
    moved_by = tl.where(seen == 1, 0, seen)  # one key has all the weight, whatever its score

    grads = _load_tile(grad_out, grad_out_row_stride, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH, UPCAST)
    outs = _load_tile(out + head * HEAD_DIM, heads * HEAD_DIM, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH, UPCAST)
    row_delta = tl.sum(outs.to(tl.float32) * grads.to(tl.float32), 1)
    place = head.to(tl.int64) * rows_q + rows
    tl.store(delta + place, row_delta, mask=rows < end_q)
    exponent_lse = tl.load(lse + place, mask=rows < end_q, other=0.0) * LOG2_E

    queries = _load_tile(q, q_row_stride, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH, UPCAST)
    exponent_scale = scale * LOG2_E
    sums = tl.zeros((QUERIES, WIDTH), tl.float32)
    if DROPOUT:
        key = seed_of(seed, seed_on_device)
    for start in tl.range(0, tl.minimum(length_k, first + QUERIES + shift), KEYS):
        keys = _load_tile(k, k_row_stride, start, length_k, KEYS, HEAD_DIM, WIDTH, UPCAST)
        values = _load_tile(v, v_row_stride, start, length_k, KEYS, HEAD_DIM, WIDTH, UPCAST)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
        p = tl.exp2(scores * exponent_scale - exponent_lse[:, None])
        weights = tl.dot(grads, tl.trans(values), input_precision="ieee")
        if DROPOUT:
            kept = _kept(key, rows, head, start, last_dropped, QUERIES, KEYS).reshape(QUERIES, KEYS)
            weights = tl.where(kept, weights * keep_scale, 0.0)
        counts = (start + tl.arange(0, KEYS))[None, :] < moved_by[:, None]
        grad_scores = tl.where(counts, p * (weights - row_delta[:, None]), 0.0)
        sums = tl.dot(grad_scores.to(keys.dtype), keys, sums, input_precision="ieee")

    result = tl.where(seen[:, None] > 0, sums * scale, 0.0)
    _store_tile(grad_q + head * HEAD_DIM, result, heads * HEAD_DIM, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH)


@_kernel
def _backward_keys_kernel(
    grad_out,
    q,
    k,
    v,
    grad_out_row_stride,
    grad_out_head_stride,
    q_row_stride,
    q_head_stride,
    k_row_stride,
    k_head_stride,
    v_row_stride,
    v_head_stride,
    lse,
    delta,
    grad_k,
    grad_v,
    cu_seqlens_q,
    cu_seqlens_k,
    sequences: tl.int32,
    rows_q: tl.int32,
    rows_k: tl.int32,
    heads,
    causal: tl.int32,
    scale: tl.float32,
    keep_scale: tl.float32,
    last_dropped: tl.uint32,
    seed: tl.int64,
    seed_on_device,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DROPOUT: tl.constexpr,
    UPCAST: tl.constexpr,
):
    sequence, begin_k, length_k, first = _find_tile(cu_seqlens_k, sequences, rows_k, KEYS)
    if first >= length_k:
        return
    begin_q, length_q = _find_partner(cu_seqlens_q, sequences, sequence)
    head = tl.program_id(1)
    q += head.to(tl.int64) * q_head_stride
    grad_out += head.to(tl.int64) * grad_out_head_stride
    k += head.to(tl.int64) * k_head_stride
    v += head.to(tl.int64) * v_head_stride
    lse += head.to(tl.int64) * rows_q
    delta += head.to(tl.int64) * rows_q
    end_q, end_k = begin_q + length_q, begin_k + length_k
    shift = length_k - tl.where(causal != 0, length_q, 0)  # as in the forward

    keys = _load_tile(k, k_row_stride, begin_k + first, end_k, KEYS, HEAD_DIM, WIDTH, UPCAST)
    values = _load_tile(v, v_row_stride, begin_k + first, end_k, KEYS, HEAD_DIM, WIDTH, UPCAST)
    exponent_scale = scale * LOG2_E
    sums_k = tl.zeros((KEYS, WIDTH), tl.float32)
    sums_v = tl.zeros((KEYS, WIDTH), tl.float32)
    if DROPOUT:
        key = seed_of(seed, seed_on_device)
    for start in tl.range(tl.maximum(0, first - shift), length_q, QUERIES):
        queries = _load_tile(q, q_row_stride, begin_q + start, end_q, QUERIES, HEAD_DIM, WIDTH, UPCAST)
        grads = _load_tile(grad_out, grad_out_row_stride, begin_q + start, end_q, QUERIES, HEAD_DIM, WIDTH, UPCAST)
        rows = begin_q + start + tl.arange(0, QUERIES)
        exponent_lse = tl.load(lse + rows, mask=rows < end_q, other=0.0) * LOG2_E
        row_delta = tl.load(delta + rows, mask=rows < end_q, other=0.0)
        seen = tl.minimum(length_k, start + tl.arange(0, QUERIES) + shift + 1)
        seen = tl.where(rows < end_q, seen, 0)
        moved_by = tl.where(seen == 1, 0, seen)
        position = (first + tl.arange(0, KEYS))[:, None]
        scores = tl.dot(keys, tl.trans(queries), input_precision="ieee")
        p = tl.exp2(scores * exponent_scale - exponent_lse[None, :])
        weights = tl.dot(values, tl.trans(grads), input_precision="ieee")
        dropped = tl.where(position < seen[None, :], p, 0.0)
        if DROPOUT:
            kept = _kept(key, rows, head, first, last_dropped, QUERIES, KEYS)
            kept = kept.permute(1, 2, 3, 0).reshape(KEYS, QUERIES)
            dropped = tl.where(kept, dropped, 0.0)
            weights = tl.where(kept, weights * keep_scale, 0.0)
        sums_v = tl.dot(dropped.to(grads.dtype), grads, sums_v, input_precision="ieee")
        grad_scores = tl.where(position < moved_by[None, :], p * (weights - row_delta[None, :]), 0.0)
        sums_k = tl.dot(grad_scores.to(queries.dtype), queries, sums_k, input_precision="ieee")

    _store_tile(
        grad_k + head * HEAD_DIM, sums_k * scale, heads * HEAD_DIM, begin_k + first, end_k, KEYS, HEAD_DIM, WIDTH
    )
    _store_tile(
        grad_v + head * HEAD_DIM, sums_v * keep_scale, heads * HEAD_DIM, begin_k + first, end_k, KEYS, HEAD_DIM, WIDTH
    )


# ---- launches --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Tiles:
    """How a kernel is launched: rows that a program owns, rows it looks at together, warps, stages of its loads."""

    own: int
    other: int
    num_warps: int
    num_stages: int


_KERNELS = {
    "forward": _forward_kernel,
    "backward_queries": _backward_queries_kernel,
    "backward_keys": _backward_keys_kernel,
}

#: mean length from which sequences count as long: they fill tiles of 128 rows at least half on average
LONG = 128

# Regime -> kernel -> its tiles for head_dim up to 64, and up to 128: the largest that spill no register on sm_80, sm_90
# and sm_100 (tests/native/triton_resources.py).
# Sentences: most fit one tile of 32 by 32, and the smaller it is the less of it is empty. Two warps could share its
# rows, but four have half the registers each, and short loops do little but wait for loads.
# Long sequences: more own rows, as that often the other side is read less; and less than 99 KB of shared memory, which
# is what the smaller GPUs of each generation have (sm_86, sm_89, sm_120).
# fp32: products without tensor cores hold whole rows in registers, so many warps share few rows. Not more than 32, for
# with 64 Triton 3.7 multiplies in TF32 on sm_100, whatever precision is asked for.
_TILES = {
    "sentences": {
        "forward": (Tiles(32, 32, 4, 2), Tiles(32, 32, 4, 3)),
        "backward_queries": (Tiles(32, 32, 4, 2), Tiles(32, 32, 4, 3)),
        "backward_keys": (Tiles(32, 32, 4, 2), Tiles(32, 32, 4, 2)),
    },
    "long": {
        "forward": (Tiles(128, 64, 8, 3), Tiles(128, 32, 8, 3)),
        "backward_queries": (Tiles(128, 32, 8, 2), Tiles(64, 32, 8, 2)),
        "backward_keys": (Tiles(128, 32, 8, 2), Tiles(64, 32, 8, 2)),
    },
    "float32": {
        "forward": (Tiles(32, 32, 8, 3), Tiles(16, 16, 8, 2)),
        "backward_queries": (Tiles(16, 32, 4, 2), Tiles(16, 16, 4, 2)),
        "backward_keys": (Tiles(32, 32, 8, 2), Tiles(16, 16, 4, 2)),
    },
}


def _regime(dtype: torch.dtype, rows: int, sequences: int) -> str:
    if dtype == torch.float32:
        return "float32"
    return "long" if rows >= LONG * max(sequences, 1) else "sentences"


def _tiles(regime: str, kernel: str, head_dim: int) -> Tiles:
    narrow, wide = _TILES[regime][kernel]
    return narrow if head_dim <= 64 else wide


def _constants(kernel: str, tiles: Tiles, head_dim: int, dropout: bool) -> dict[str, Any]:
    own, other = ("KEYS", "QUERIES") if kernel == "backward_keys" else ("QUERIES", "KEYS")
    width = triton.next_power_of_2(head_dim)
    sizes = {"HEAD_DIM": head_dim, "WIDTH": width, own: tiles.own, other: tiles.other}
    return {**sizes, "DROPOUT": dropout, "UPCAST": interpreted()}


def _launch(kernel: str, q: Tensor, own: Tensor, tensors: dict[str, Any], options: tuple[Any, ...]) -> None:
    cu_seqlens_q, cu_seqlens_k, _, _, causal, scale, dropout_p, dropout_seed = options
    rows, heads, head_dim = own.shape
    if own.numel() == 0:
        return
    sequences = len(cu_seqlens_q) - 1
    tiles = _tiles(_regime(q.dtype, rows, sequences), kernel, head_dim)
    dropout = Dropout.of(dropout_p, dropout_seed)
    with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
        _KERNELS[kernel][(rows // tiles.own + sequences + 1, heads)](
            **tensors,
            cu_seqlens_q=cu_seqlens_q,
            cu_seqlens_k=cu_seqlens_k,
            sequences=sequences,
            rows_q=len(q),
            heads=heads,
            causal=int(causal),
            scale=scale,
            keep_scale=dropout.scale,
            last_dropped=dropout.last_dropped,
            seed=dropout.seed,
            seed_on_device=dropout.seed_on_device,
            **_constants(kernel, tiles, head_dim, dropout.enabled),
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )


def _inputs(**tensors: Tensor) -> dict[str, Any]:
    """Tensors (rows, H, D) with their strides, as the kernels name them."""
    found: dict[str, Any] = {}
    for name, x in tensors.items():
        x = _addressable(x)
        found |= {name: x, f"{name}_row_stride": x.stride(0), f"{name}_head_stride": x.stride(1)}
    return found


def _addressable(x: Tensor) -> Tensor:
    """x, or a copy where rows do not begin at multiples of 16 bytes, or lie so far apart that a tile needs 64 bits."""
    places = (x.data_ptr(), *(step * x.element_size() for step in x.stride()[:2]))
    if all(place % 16 == 0 for place in places) and x.stride(0) < 2**24:
        return x
    return x.clone(memory_format=torch.contiguous_format)


def attention_forward(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    """Shapes: q (T_q, H, D), k and v (T_k, H, D) -> out (T_q, H, D), lse (H, T_q) fp32; see fastlm/ops/attention.py."""
    out, lse = q.new_empty(q.shape), q.new_empty((q.shape[1], len(q)), dtype=torch.float32)
    _launch("forward", q, q, {**_inputs(q=q, k=k, v=v), "out": out, "lse": lse}, options)
    return out, lse


def attention_backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes: grad_out, q and out (T_q, H, D), k and v (T_k, H, D), lse (H, T_q) -> gradients of q, k and v."""
    grad_q, grad_k, grad_v = (x.new_empty(x.shape) for x in (q, k, v))
    shared = {**_inputs(grad_out=grad_out, q=q, k=k, v=v), "lse": lse, "delta": torch.empty_like(lse)}
    _launch("backward_queries", q, q, {**shared, "out": out, "grad_q": grad_q}, options)
    _launch("backward_keys", q, k, {**shared, "grad_k": grad_k, "grad_v": grad_v, "rows_k": len(k)}, options)
    return grad_q, grad_k, grad_v


# ---- ahead of time ---------------------------------------------------------------------------------------------------
#: head_dims that differ in more than a constant: below a power of two there are masks. fp16 has the registers of bf16.
_SHIPPED_HEAD_DIMS = {"bf16": (32, 64, 96, 128), "fp16": (64,), "fp32": (32, 64, 96, 128)}
_POINTERS = {"lse": "*fp32", "delta": "*fp32", "cu_seqlens_q": "*i32", "cu_seqlens_k": "*i32"}
_IN_DTYPE = ("grad_out", "q", "k", "v", "out", "grad_q", "grad_k", "grad_v")


def shipped() -> Iterator[Configuration]:
    """Every way in which the kernels are launched, for the head_dims of the models and with the seed on the CPU."""
    for dtype, head_dims in _SHIPPED_HEAD_DIMS.items():
        regimes = ("float32",) if dtype == "fp32" else ("sentences", "long")
        for regime, kernel, head_dim, dropout in itertools.product(regimes, _KERNELS, head_dims, (False, True)):
            tiles = _tiles(regime, kernel, head_dim)
            constants = {**_constants(kernel, tiles, head_dim, dropout), "seed_on_device": None}
            yield Configuration(
                name=f"{kernel} {dtype} {regime} head_dim={head_dim}{' dropout' if dropout else ''}",
                kernel=_KERNELS[kernel],
                signature=_signature(_KERNELS[kernel], dtype, constants),
                constants=constants,
                num_warps=tiles.num_warps,
                num_stages=tiles.num_stages,
                tensor_cores=dtype != "fp32",
            )


def _signature(kernel: Any, dtype: str, constants: dict[str, Any]) -> dict[str, str]:
    types = {**_POINTERS, **dict.fromkeys(_IN_DTYPE, f"*{dtype}"), **dict.fromkeys(constants, "constexpr")}
    return {
        parameter.name: types.get(parameter.name) or parameter.annotation_type or "i32" for parameter in kernel.params
    }
