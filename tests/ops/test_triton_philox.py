"""The Triton kernels' generator and mask of hidden states against fastlm/ops/philox.py."""

from __future__ import annotations

import pytest
import torch

from fastlm import ops
from fastlm.ops.philox import WORD, as_tensor, philox4x32
from fastlm.ops.philox import hidden_mask as expected_mask

if ops.triton_fault():
    pytest.skip(ops.triton_fault(), allow_module_level=True)

import triton
import triton.language as tl
from fastlm.kernels.philox import ROUNDS, Dropout, hidden_mask, seed_of

SEEDS = [0, 1, -1, 16, 2**31, 2**33 + 5, 2**63 - 1, -(2**63)]


@triton.jit(do_not_specialize=["seed"])
def words_kernel(out, seed: tl.int64, c0, c1, c2, c3):
    w0, w1, w2, w3 = tl.philox(seed, tl.load(c0), tl.load(c1), tl.load(c2), tl.load(c3), ROUNDS)
    tl.store(out, w0.to(tl.int64))
    tl.store(out + 1, w1.to(tl.int64))
    tl.store(out + 2, w2.to(tl.int64))
    tl.store(out + 3, w3.to(tl.int64))


@triton.jit(do_not_specialize=["seed", "last_dropped"])
def mask_kernel(
    out, first_row, columns, seed: tl.int64, seed_on_device, last_dropped: tl.uint32,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    place = tl.arange(0, ROWS)
    first_column = tl.program_id(0) * COLUMNS
    kept = hidden_mask(
        seed_of(seed, seed_on_device), first_row + place.to(tl.int64), first_column, last_dropped, ROWS, COLUMNS
    )
    column = first_column + tl.arange(0, COLUMNS)
    tl.store(out + place[:, None] * columns + column[None, :], kept, column[None, :] < columns)


def drawn_mask(rows: int, columns: int, p: float, seed: torch.Tensor, tile: int, first_row: int = 0) -> torch.Tensor:
    out = torch.empty(rows, columns, dtype=torch.bool)
    dropout = Dropout.of(p, seed)
    options = (dropout.seed, dropout.seed_on_device, dropout.last_dropped)
    mask_kernel[(triton.cdiv(columns, tile),)](out, first_row, columns, *options, ROWS=rows, COLUMNS=tile)
    return out


@pytest.mark.parametrize("seed", SEEDS)
def test_words(seed: int) -> None:
    counter = (5, WORD, 2**31, 1)
    words = torch.empty(4, dtype=torch.int64)
    halves = [torch.tensor(word if word < 2**31 else word - 2**32, dtype=torch.int32) for word in counter]
    words_kernel[(1,)](words, seed, *halves)
    assert words.tolist() == [int(word) for word in philox4x32(tuple(torch.tensor(c) for c in counter), seed)]


@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize("seed", SEEDS)
def test_hidden_mask(seed: int, tile: int) -> None:
    for p in (0.1, 0.5, 1e-9, 0.999, 1.0):
        kept = drawn_mask(8, 150, p, as_tensor(seed), tile)
        assert torch.equal(kept, expected_mask(8, 150, p, seed, kept.device))


def test_rows_beyond_32_bits() -> None:
    first = 2**33 + 7
    kept = drawn_mask(2, 64, 0.5, as_tensor(9), 64, first)
    for i in range(2):
        row = torch.tensor(first + i)
        counter = (torch.arange(16), row & WORD, row >> 32, torch.tensor(1))
        expected = torch.cat([word >= 2**31 for word in philox4x32(counter, 9)])
        assert torch.equal(kept[i], expected)


def test_a_seed_on_the_device_is_read_there() -> None:
    def mask(dropout: Dropout) -> torch.Tensor:
        out = torch.empty(4, 64, dtype=torch.bool)
        options = (dropout.seed, dropout.seed_on_device, dropout.last_dropped)
        mask_kernel[(1,)](out, 0, 64, *options, ROWS=4, COLUMNS=64)
        return out

    seed = torch.tensor(2**40 + 17)
    there = Dropout(True, 2.0, 2**31 - 1, 0, seed)
    assert torch.equal(mask(there), expected_mask(4, 64, 0.5, 2**40 + 17, seed.device))
    assert Dropout.of(0.5, seed.cpu()) == Dropout(True, 2.0, 2**31 - 1, 2**40 + 17, None)


def test_limits_of_the_probability() -> None:
    seed = as_tensor(1)
    assert [Dropout.of(p, seed).enabled for p in (0.0, 1e-12, 1e-9, 1.0)] == [False, False, True, True]
    assert Dropout.of(1.0, seed).last_dropped == WORD and Dropout.of(1.0, seed).scale == 0.0
