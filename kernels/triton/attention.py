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

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastlm.kernels import Configuration, interpreted
from fastlm.kernels.philox import ROUNDS, Dropout, interleave, seed_of

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)

#: arguments that differ from batch to batch, of whose values no kernel of its own is made
_VARYING = ("causal", "sequences", "rows_q", "rows_k", "seed", "last_dropped")


# ---- tiles -----------------------------------------------------------------------------------------------------------
@triton.jit
def _find_tile(cu_seqlens, sequences, rows, TILE: tl.constexpr):
    """The sequence of this program's tile, where it begins, its length, and the tile's first row within it.

    Sequence s has the tiles from ``cu_seqlens[s] // TILE + s`` on: as many as it needs, or one more, whose first row
    is then beyond its length. So ``rows // TILE + sequences + 1`` tiles do, whatever the lengths, and bisection finds
    a tile's sequence (as in vLLM's unified attention kernel). Rows after the last sequence count as one more.
    """
    tile = tl.program_id(0)
    low = tile * 0
    high = low + sequences
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
def _shift(length_q, length_k, causal):
    """Query i sees the keys up to i + shift, as far as there are any; causal, the last query sees the last key."""
    return length_k - tl.where(causal != 0, length_q, 0)


@triton.jit
def _place(first, end, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Rows (ROWS, 1) int64 and columns (1, WIDTH) of a tile, and which of its elements exist (ROWS, WIDTH)."""
    row, column = first + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    exists = row[:, None] < end
    if WIDTH > HEAD_DIM:
        exists = exists & (column[None, :] < HEAD_DIM)
    return row.to(tl.int64)[:, None], column[None, :], exists


@triton.jit
def _load_tile(x, row_stride, first, end, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Rows [first, first + ROWS) of a head, 0 from ``end`` on: (ROWS, WIDTH)."""
    row, column, exists = _place(first, end, ROWS, HEAD_DIM, WIDTH)
    return tl.load(x + row * row_stride + column, mask=exists, other=0.0)


@triton.jit
def _store_tile(x, tile, heads, head, first, end, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """The rows of (ROWS, WIDTH) below ``end`` into a contiguous (rows, heads, HEAD_DIM)."""
    row, column, exists = _place(first, end, ROWS, HEAD_DIM, WIDTH)
    tl.store(x + (row * heads + head) * HEAD_DIM + column, tile.to(x.dtype.element_ty), mask=exists)


@triton.jit
def _multiply_add(sums, a, b, UPCAST: tl.constexpr):
    """sums + a @ b, in fp32; with UPCAST in the interpreter, which multiplies the bits of bf16 as integers."""
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, sums, input_precision="ieee")


@triton.jit
def _kept(seed, query_rows, head, first_key, last_dropped, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """Which probabilities survive: query_rows (QUERIES,), first_key divisible by 4 -> (QUERIES, KEYS / 4, 2, 2)."""
    counter = first_key // 4 + tl.arange(0, KEYS // 4)
    w0, w1, w2, w3 = tl.philox(seed, counter[None, :], query_rows[:, None], head, 0, ROUNDS)
    return interleave(w0 > last_dropped, w1 > last_dropped, w2 > last_dropped, w3 > last_dropped)


# ---- kernels ---------------------------------------------------------------------------------------------------------
@triton.jit(do_not_specialize=_VARYING)
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
    shift = _shift(length_q, length_k, causal)
    seen = tl.minimum(length_k, first + tl.arange(0, QUERIES) + shift + 1)  # by each query; none where negative

    queries = _load_tile(q, q_row_stride, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH)
    exponent_scale = scale * LOG2_E
    largest = tl.full((QUERIES,), float("-inf"), tl.float32)  # of the exponents of 2
    total = tl.zeros((QUERIES,), tl.float32)
    sums = tl.zeros((QUERIES, WIDTH), tl.float32)
    if DROPOUT:
        key = seed_of(seed, seed_on_device)
    for start in tl.range(0, tl.minimum(length_k, first + QUERIES + shift), KEYS):
        keys = _load_tile(k, k_row_stride, start, length_k, KEYS, HEAD_DIM, WIDTH)
        values = _load_tile(v, v_row_stride, start, length_k, KEYS, HEAD_DIM, WIDTH)
        scores = _multiply_add(tl.zeros((QUERIES, KEYS), tl.float32), queries, tl.trans(keys), UPCAST) * exponent_scale
        scores = tl.where((start + tl.arange(0, KEYS))[None, :] < seen[:, None], scores, float("-inf"))
        next = tl.maximum(largest, tl.max(scores, 1))
        base = tl.where(next == float("-inf"), 0.0, next)  # exp(-inf - base) is 0 then, not NaN
        p = tl.exp2(scores - base[:, None])
        factor = tl.exp2(largest - base)
        total = total * factor + tl.sum(p, 1)
        if DROPOUT:
            kept = _kept(key, rows, head, start, last_dropped, QUERIES, KEYS).reshape(QUERIES, KEYS)
            p = tl.where(kept, p, 0.0)
        sums = _multiply_add(sums * factor[:, None], p.to(values.dtype), values, UPCAST)
        largest = next

    result = tl.where(seen[:, None] > 0, sums * (keep_scale / total)[:, None], 0.0)
    _store_tile(out, result, heads, head, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH)
    tl.store(lse + head.to(tl.int64) * rows_q + rows, (largest + tl.log2(total)) * LN_2, mask=rows < end_q)


@triton.jit(do_not_specialize=_VARYING)
def _backward_queries_kernel(
    grad_out,
    q,
    k,
    v,
    grad_row_stride,
    grad_head_stride,
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
    grad_out += head.to(tl.int64) * grad_head_stride
    k += head.to(tl.int64) * k_head_stride + begin_k.to(tl.int64) * k_row_stride
    v += head.to(tl.int64) * v_head_stride + begin_k.to(tl.int64) * v_row_stride
    rows = begin_q + first + tl.arange(0, QUERIES)
    end_q = begin_q + length_q
    shift = _shift(length_q, length_k, causal)
    seen = tl.minimum(length_k, first + tl.arange(0, QUERIES) + shift + 1)
    moved_by = tl.where(seen == 1, 0, seen)  # one key has all the weight, whatever its score

    grads = _load_tile(grad_out, grad_row_stride, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH)
    row, column, exists = _place(begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH)
    outs = tl.load(out + (row * heads + head) * HEAD_DIM + column, mask=exists, other=0.0)
    row_delta = tl.sum(outs.to(tl.float32) * grads.to(tl.float32), 1)
    place = head.to(tl.int64) * rows_q + rows
    tl.store(delta + place, row_delta, mask=rows < end_q)
    exponent_lse = tl.load(lse + place, mask=rows < end_q, other=0.0) * LOG2_E

    queries = _load_tile(q, q_row_stride, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH)
    exponent_scale = scale * LOG2_E
    sums = tl.zeros((QUERIES, WIDTH), tl.float32)
    if DROPOUT:
        key = seed_of(seed, seed_on_device)
    for start in tl.range(0, tl.minimum(length_k, first + QUERIES + shift), KEYS):
        keys = _load_tile(k, k_row_stride, start, length_k, KEYS, HEAD_DIM, WIDTH)
        values = _load_tile(v, v_row_stride, start, length_k, KEYS, HEAD_DIM, WIDTH)
        scores = _multiply_add(tl.zeros((QUERIES, KEYS), tl.float32), queries, tl.trans(keys), UPCAST)
        p = tl.exp2(scores * exponent_scale - exponent_lse[:, None])
        weights = _multiply_add(tl.zeros((QUERIES, KEYS), tl.float32), grads, tl.trans(values), UPCAST)
        if DROPOUT:
            kept = _kept(key, rows, head, start, last_dropped, QUERIES, KEYS).reshape(QUERIES, KEYS)
            weights = tl.where(kept, weights * keep_scale, 0.0)
        counts = (start + tl.arange(0, KEYS))[None, :] < moved_by[:, None]
        grad_scores = tl.where(counts, p * (weights - row_delta[:, None]), 0.0)
        sums = _multiply_add(sums, grad_scores.to(keys.dtype), keys, UPCAST)

    result = tl.where(seen[:, None] > 0, sums * scale, 0.0)
    _store_tile(grad_q, result, heads, head, begin_q + first, end_q, QUERIES, HEAD_DIM, WIDTH)


@triton.jit(do_not_specialize=_VARYING)
def _backward_keys_kernel(
    grad_out,
    q,
    k,
    v,
    grad_row_stride,
    grad_head_stride,
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
    grad_out += head.to(tl.int64) * grad_head_stride
    k += head.to(tl.int64) * k_head_stride
    v += head.to(tl.int64) * v_head_stride
    lse += head.to(tl.int64) * rows_q
    delta += head.to(tl.int64) * rows_q
    end_q, end_k = begin_q + length_q, begin_k + length_k
    shift = _shift(length_q, length_k, causal)

    keys = _load_tile(k, k_row_stride, begin_k + first, end_k, KEYS, HEAD_DIM, WIDTH)
    values = _load_tile(v, v_row_stride, begin_k + first, end_k, KEYS, HEAD_DIM, WIDTH)
    exponent_scale = scale * LOG2_E
    sums_k = tl.zeros((KEYS, WIDTH), tl.float32)
    sums_v = tl.zeros((KEYS, WIDTH), tl.float32)
    if DROPOUT:
        key = seed_of(seed, seed_on_device)
    for start in tl.range(tl.maximum(0, first - shift), length_q, QUERIES):
        queries = _load_tile(q, q_row_stride, begin_q + start, end_q, QUERIES, HEAD_DIM, WIDTH)
        grads = _load_tile(grad_out, grad_row_stride, begin_q + start, end_q, QUERIES, HEAD_DIM, WIDTH)
        rows = begin_q + start + tl.arange(0, QUERIES)
        exponent_lse = tl.load(lse + rows, mask=rows < end_q, other=0.0) * LOG2_E
        row_delta = tl.load(delta + rows, mask=rows < end_q, other=0.0)
        seen = tl.minimum(length_k, start + tl.arange(0, QUERIES) + shift + 1)
        seen = tl.where(rows < end_q, seen, 0)
        moved_by = tl.where(seen == 1, 0, seen)
        position = (first + tl.arange(0, KEYS))[:, None]
        scores = _multiply_add(tl.zeros((KEYS, QUERIES), tl.float32), keys, tl.trans(queries), UPCAST)
        p = tl.exp2(scores * exponent_scale - exponent_lse[None, :])
        weights = _multiply_add(tl.zeros((KEYS, QUERIES), tl.float32), values, tl.trans(grads), UPCAST)
        dropped = tl.where(position < seen[None, :], p, 0.0)
        if DROPOUT:
            kept = _kept(key, rows, head, first, last_dropped, QUERIES, KEYS)
            kept = kept.permute(1, 2, 3, 0).reshape(KEYS, QUERIES)
            dropped = tl.where(kept, dropped, 0.0)
            weights = tl.where(kept, weights * keep_scale, 0.0)
        sums_v = _multiply_add(sums_v, dropped.to(grads.dtype), grads, UPCAST)
        grad_scores = tl.where(position < moved_by[None, :], p * (weights - row_delta[None, :]), 0.0)
        sums_k = _multiply_add(sums_k, grad_scores.to(queries.dtype), queries, UPCAST)

    _store_tile(grad_k, sums_k * scale, heads, head, begin_k + first, end_k, KEYS, HEAD_DIM, WIDTH)
    _store_tile(grad_v, sums_v * keep_scale, heads, head, begin_k + first, end_k, KEYS, HEAD_DIM, WIDTH)


# ---- launches --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Tiles:
    """How a kernel is launched: rows of a program, rows that it looks at together, warps, stages of its loads."""

    own: int
    other: int
    num_warps: int
    num_stages: int


def _tiles(kernel: str, itemsize: int, width: int, long: bool) -> Tiles:
    return Tiles(32, 32, 2, 2)


def _launch(kernel: Any, name: str, tensors: dict[str, Any], q: Tensor, k: Tensor, own_keys: bool, options: Any) -> None:
    cu_seqlens_q, cu_seqlens_k, _, _, causal, scale, dropout_p, dropout_seed = options
    rows, heads, head_dim = (k if own_keys else q).shape
    if rows == 0 or heads == 0:
        return
    sequences = len(cu_seqlens_q) - 1
    width = triton.next_power_of_2(head_dim)
    tiles = _tiles(name, q.element_size(), width, False)
    dropout = Dropout.of(dropout_p, dropout_seed)
    grid = (rows // tiles.own + sequences + 1, heads)
    with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
        kernel[grid](
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
            HEAD_DIM=head_dim,
            WIDTH=width,
            QUERIES=tiles.other if own_keys else tiles.own,
            KEYS=tiles.own if own_keys else tiles.other,
            DROPOUT=dropout.enabled,
            UPCAST=interpreted(),
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )


def _strides(**tensors: Tensor) -> dict[str, int]:
    return {
        f"{name}_{what}_stride": x.stride(dim)
        for name, x in tensors.items()
        for dim, what in enumerate(("row", "head"))
    }


def attention_forward(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    """The registered op: fastlm/ops/attention.py."""
    out, lse = q.new_empty(q.shape), q.new_empty((q.shape[1], len(q)), dtype=torch.float32)
    tensors = {"q": q, "k": k, "v": v, "out": out, "lse": lse, **_strides(q=q, k=k, v=v)}
    _launch(_forward_kernel, "forward", tensors, q, k, False, options)
    return out, lse


def attention_backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The registered op: fastlm/ops/attention.py."""
    grad_q, grad_k, grad_v = (x.new_empty(x.shape) for x in (q, k, v))
    delta = torch.empty_like(lse)
    tensors = {"grad_out": grad_out, "q": q, "k": k, "v": v, "lse": lse, "delta": delta}
    tensors |= _strides(grad=grad_out, q=q, k=k, v=v)
    _launch(_backward_queries_kernel, "q", {**tensors, "out": out, "grad_q": grad_q}, q, k, False, options)
    tensors |= {"grad_k": grad_k, "grad_v": grad_v, "rows_k": len(k)}
    _launch(_backward_keys_kernel, "k", tensors, q, k, True, options)
    return grad_q, grad_k, grad_v
