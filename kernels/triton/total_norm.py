"""``total_norm``: the squares of many tensors, summed in fp32 within chunks and in fp64 over them, in a fixed order."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from fastlm.kernels import Configuration
from torch import Tensor

# Both kernels wait for memory: a chunk gives each of 128 threads eight loads of 16 bytes at once. The order of a sum,
# and with it its last bits, is the chunk's.
CHUNK, CHUNK_WARPS = 4096, 4
SUMS, SUMS_WARPS = 1024, 4  # chunks that are added up at a time, by the one program that adds up all


# ---- kernels -------------------------------------------------------------------------------------------------------
@triton.jit(do_not_specialize=["sums"])
def _squares(x, sums, count: tl.int64, BLOCK: tl.constexpr):
    """Shapes: x (count,) -> sums (chunks,), of the squares of each chunk."""
    chunk = tl.program_id(0)
    offsets = chunk.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + offsets, mask=offsets < count, other=0.0)
    tl.store(sums + chunk, tl.sum(values * values, 0))


@triton.jit(do_not_specialize=["chunks"])
def _root(sums, norm, chunks, BLOCK: tl.constexpr):
    """Shapes: sums (chunks,) -> norm (), the root of their sum."""
    lanes = tl.zeros([BLOCK], tl.float64)
    for start in range(0, chunks, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        lanes += tl.load(sums + offsets, mask=offsets < chunks, other=0.0)
    tl.store(norm, tl.sqrt(tl.sum(lanes, 0)).to(tl.float32))


def shipped() -> Iterator[Configuration]:
    """Every way in which the kernels are launched."""
    arguments = {"x": "*fp32", "sums": "*fp32", "count": "i64", "BLOCK": "constexpr"}
    yield Configuration("squares", _squares, arguments, {"BLOCK": CHUNK}, CHUNK_WARPS, 1, tensor_cores=False)
    arguments = {"sums": "*fp32", "norm": "*fp32", "chunks": "i32", "BLOCK": "constexpr"}
    yield Configuration("root", _root, arguments, {"BLOCK": SUMS}, SUMS_WARPS, 1, tensor_cores=False)


# ---- registered ----------------------------------------------------------------------------------------------------
def total_norm(tensors: list[Tensor]) -> Tensor:
    """Shapes: any -> ()."""
    chunks = [triton.cdiv(x.numel(), CHUNK) for x in tensors]
    sums = tensors[0].new_empty(sum(chunks))
    norm = tensors[0].new_empty(())
    with torch.cuda.device_of(norm):
        for x, own in zip(tensors, sums.split(chunks), strict=True):
            if x.numel():
                grid = (own.numel(),)
                _squares[grid](x.contiguous(), own, x.numel(), BLOCK=CHUNK, num_warps=CHUNK_WARPS, num_stages=1)
        _root[(1,)](sums, norm, sums.numel(), BLOCK=SUMS, num_warps=SUMS_WARPS, num_stages=1)
    return norm
