"""The generator against published numbers, and the mask's layout against its written definition."""

from __future__ import annotations

import pytest
import torch

from fastlm.ops.philox import WORD, hidden_mask, keep_mask, keep_scale, philox4x32, threshold

ZERO, ONES = (0, 0, 0, 0), (WORD,) * 4
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
PI_KEY = 0x299F31D0_A4093822

# Random123 1.14, tests/kat_vectors, lines "philox4x32 7" and "philox4x32 10".
KNOWN_ANSWERS = {
    (7, ZERO, 0): (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48),
    (7, ONES, 2**64 - 1): (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662),
    (7, PI, PI_KEY): (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
    (10, ZERO, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    (10, ONES, 2**64 - 1): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    (10, PI, PI_KEY): (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
}


@pytest.mark.parametrize(("rounds", "counter", "key"), KNOWN_ANSWERS)
def test_known_answers(rounds: int, counter: tuple[int, ...], key: int) -> None:
    seed = key - 2**64 if key >= 2**63 else key  # the same 64 bits as a signed number
    words = philox4x32(tuple(torch.tensor(word) for word in counter), seed, rounds)
    assert tuple(int(word) for word in words) == KNOWN_ANSWERS[rounds, counter, key]


def scalar_philox(c: list[int], k: list[int]) -> list[int]:
    """The paper's loop on Python integers, written apart from the vectorised one."""
    for r in range(7):
        k0, k1 = (k[0] + r * 0x9E3779B9) % 2**32, (k[1] + r * 0xBB67AE85) % 2**32
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b % 2**32, (a >> 32) ^ c[3] ^ k1, a % 2**32]
    return c


@pytest.mark.parametrize("seed", [0, 1, 2**33 + 5, 2**63 - 1, -1])
def test_mask_follows_the_documented_counter(seed: int) -> None:
    rows, heads, keys, p = torch.tensor([[3, 70_000], [2**31 + 9, 0]]), 3, 10, 0.3
    mask = keep_mask(rows, heads, keys, p, seed)
    assert mask.shape == (2, 3, 2, 10)
    key = [seed & WORD, (seed >> 32) & WORD]
    for n, head, i, j in [(0, 0, 0, 0), (0, 2, 1, 9), (1, 1, 0, 7), (1, 2, 1, 4), (0, 1, 1, 3)]:
        word = scalar_philox([j // 4, int(rows[n, i]), head, 0], list(key))[j % 4]
        assert bool(mask[n, head, i, j]) == (word >= threshold(p))


@pytest.mark.parametrize("seed", [0, 2**33 + 5, -1])
def test_hidden_mask_follows_the_documented_counter(seed: int) -> None:
    mask = hidden_mask(70, 150, 0.3, seed, torch.get_default_device())
    assert mask.shape == (70, 150)
    key = [seed & WORD, (seed >> 32) & WORD]
    for row, column in [(0, 0), (0, 15), (3, 16), (69, 63), (69, 64), (1, 100), (42, 149)]:
        counter = [16 * (column // 64) + column % 16, row, 0, 1]
        word = scalar_philox(counter, list(key))[column % 64 // 16]
        assert bool(mask[row, column]) == (word >= threshold(0.3))


def test_hidden_states_and_attention_drop_apart_under_one_seed() -> None:
    hidden = hidden_mask(100, 256, 0.5, 7, torch.get_default_device()).double().flatten()
    attention = keep_mask(torch.arange(100)[None], 1, 256, 0.5, 7).double().flatten()
    assert abs(torch.corrcoef(torch.stack([hidden, attention]))[0, 1]) < 0.025  # four standard deviations


def test_share_kept_and_scale_agree() -> None:
    mask = keep_mask(torch.arange(400)[None], 4, 250, 0.1, 7)
    share = mask.double().mean().item()  # 400,000 draws: the standard deviation of the share is 0.0005
    assert abs(share - 0.9) < 0.0025
    assert abs(keep_scale(0.1) * 0.9 - 1) < 1e-9


@pytest.mark.parametrize("other", [{"seed": 8}, {"row": 1}, {"head": 1}])
def test_neighbours_are_independent(other: dict[str, int]) -> None:
    def draw(seed: int = 7, row: int = 0, head: int = 0) -> torch.Tensor:
        return keep_mask(torch.tensor([[row]]), head + 1, 20_000, 0.5, seed)[0, head, 0].double()

    correlation = torch.corrcoef(torch.stack([draw(), draw(**other)]))[0, 1]
    assert abs(correlation) < 0.03  # four standard deviations of 20,000 draws


def test_limits() -> None:
    rows = torch.arange(5)[None]
    assert keep_mask(rows, 2, 9, 0.0, 3).all()
    assert not keep_mask(rows, 2, 9, 1.0, 3).any()
    assert keep_scale(0.0) == 1.0
    assert keep_scale(1.0) == 0.0
    assert keep_mask(rows, 2, 0, 0.5, 3).shape == (1, 2, 5, 0)


def test_a_symbolic_seed_compiles_to_the_eager_mask() -> None:
    rows = torch.arange(12).view(3, 4)
    compiled = torch.compile(keep_mask, dynamic=True, fullgraph=True)  # Inductor: what --compile uses
    for seed in (5, 2**40 + 17, -3):
        assert torch.equal(compiled(rows, 2, 9, 0.3, seed), keep_mask(rows, 2, 9, 0.3, seed))
