"""Dropout masks: counter-based, so that every backend, every tiling and every thread draws the same bits.

Generator: Philox4x32 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), with
7 rounds, the fewest that the paper found to pass BigCrush. All words are unsigned 32-bit. One round maps a counter
(c0, c1, c2, c3) under a key (k0, k1), with hi/lo the halves of the 64-bit products, to::

    (hi(0xCD9E8D57 * c2) ^ c1 ^ k0,  lo(0xCD9E8D57 * c2),  hi(0xD2511F53 * c0) ^ c3 ^ k1,  lo(0xD2511F53 * c0))

and between two rounds k0 += 0x9E3779B9, k1 += 0xBB67AE85 (mod 2**32).

The layouts, which every kernel reproduces bit for bit. The key is k0 = the low and k1 = the high word of
``dropout_seed``, a 64-bit integer (a negative one in two's complement). For attention:

- counter: c0 = key position // 4, c1 = query row, c2 = head, c3 = 0;
- word ``i`` of the result decides key position ``4 * c0 + i``.

*Key position* counts from 0 within the key sequence, *query row* is the row of the packed q tensor (so two sequences
never share a mask), *head* counts from 0. For hidden states, rows of d columns (`hidden_mask`):

- counter: c0 = 16 * (column // 64) + column % 16, c1 and c2 = the low and high word of the row, c3 = 1;
- word ``column % 64 // 16`` of the result decides the column.

So 16 counters side by side decide 64 columns, each word 16 neighbours: vectors of up to 16 lanes need no shuffle. c3
keeps the two apart under one seed. An element is kept where ``word >= threshold``, with
``threshold = round(dropout_p * 2**32)`` (half to even, as Python rounds), and scaled by
``1 / (1 - threshold / 2**32)``, the exact keep probability, so that the expectation is unbiased for every
``dropout_p``. A threshold of 2**32 keeps nothing and the scale is then 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 7
WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1: the key schedule

Words = tuple[Tensor, Tensor, Tensor, Tensor]
#: a number, or a () int64 tensor on the CPU or the device of the tensors that are dropped
Seed = int | Tensor


def philox4x32(counter: Words, seed: Seed, rounds: int = ROUNDS) -> Words:
    """Four random 32-bit words per counter, held in int64.

    The counter's tensors are broadcast against each other only as far as each round needs, so words that depend on
    few of the dimensions (a head, a row) cost almost nothing.

    Args:
        counter: four int64 tensors of words in [0, 2**32), broadcastable to one shape.
        seed: the 64-bit key, as a signed number or a () int64 tensor.
        rounds: 10 for the variant that most libraries use by default; the mask uses 7.
    """
    c0, c1, c2, c3 = counter
    key = as_tensor(seed).to(c0.device)
    k0, k1 = key & WORD, (key >> 32) & WORD
    for _ in range(rounds):
        # int64 products wrap, but their 64 bits are those of the unsigned product. A shifted or low word then carries
        # rubbish above bit 31, which is cut off once, where the words that are multiplied next are formed.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = _mix(product1, c1, k0), _mix(product0, c3, k1)
        c1, c3 = product1, product0
        k0, k1 = (k0 + _WEYL[0]) & WORD, (k1 + _WEYL[1]) & WORD
    return c0, c1 & WORD, c2, c3 & WORD


def _mix(product: Tensor, word: Tensor, key: Tensor) -> Tensor:
    return ((product >> 32) ^ (word ^ key)) & WORD


def threshold(dropout_p: float) -> int:
    """Words below it drop: ``round(dropout_p * 2**32)``."""
    return round(dropout_p * 2**32)


def keep_scale(dropout_p: float) -> float:
    """What kept elements are multiplied by: one over the exact keep probability, 0 where nothing is kept."""
    kept = 1.0 - threshold(dropout_p) / 2**32
    return 1.0 / kept if kept > 0.0 else 0.0


def keep_mask(query_rows: Tensor, heads: int, keys: int, dropout_p: float, dropout_seed: Seed) -> Tensor:
    """Which probabilities survive.

    Args:
        query_rows: (n, L) int64, rows of the packed q.
        heads: H.
        keys: number of key positions, counted from 0.
        dropout_p: probability of dropping, in [0, 1].
        dropout_seed: signed 64-bit integer, or a () int64 tensor.

    Returns:
        (n, H, L, keys) bool, True = kept.
    """
    device = query_rows.device
    blocks = (keys + 3) // 4
    words = philox4x32(
        (
            torch.arange(blocks, device=device),  # (keys / 4,)
            query_rows[:, None, :, None],  # (n, 1, L, 1)
            torch.arange(heads, device=device)[:, None, None],  # (H, 1, 1)
            torch.zeros((), dtype=torch.int64, device=device),
        ),
        dropout_seed,
    )
    limit = threshold(dropout_p)
    kept = torch.stack([word >= limit for word in words], dim=-1)  # (n, H, L, keys / 4, 4)
    return kept.flatten(-2)[..., :keys]


def hidden_mask(rows: int, columns: int, dropout_p: float, dropout_seed: Seed, device: torch.device) -> Tensor:
    """Which elements of hidden states (rows, columns) survive: bool, True = kept."""
    first = 16 * torch.arange((columns + 63) // 64, device=device)[:, None]  # counter of each 64 columns
    row = torch.arange(rows, device=device)[:, None, None]
    words = philox4x32(
        (
            first + torch.arange(16, device=device),  # (columns / 64, 16)
            row & WORD,
            row >> 32,
            torch.ones((), dtype=torch.int64, device=device),
        ),
        dropout_seed,
    )
    limit = threshold(dropout_p)
    kept = torch.stack([word >= limit for word in words], dim=2)  # (rows, columns / 64, 4, 16)
    return kept.flatten(1)[:, :columns]


def as_tensor(seed: Seed) -> Tensor:
    """A seed as () int64: on the CPU, unless it is a tensor already.

    A traced graph then takes any seed, and the bit operations are those of a tensor, which Inductor can compile.
    """
    return seed if isinstance(seed, Tensor) else torch.full((), seed, dtype=torch.int64, device="cpu")


def seed_of_call(dropout_p: float, dropout_seed: Seed | None, device: torch.device) -> Tensor:
    """The () int64 seed of one call of an op; one is drawn from PyTorch's default CPU generator where none was given.

    Raises:
        TypeError: a tensor that is not int64.
        ValueError: a tensor with dimensions or on another device than the CPU and ``device``; none under torch.compile,
            whose graph would hold one seed for ever.
    """
    if dropout_p == 0.0:
        return as_tensor(0)
    if dropout_seed is None:
        if torch.compiler.is_compiling():
            raise ValueError("dropout_seed: missing; under torch.compile pass one, new for every step")
        return torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu")
    if isinstance(dropout_seed, Tensor):
        if dropout_seed.dtype != torch.int64:
            raise TypeError(f"dropout_seed: dtype {dropout_seed.dtype} is not supported; pass an int or int64")
        if dropout_seed.dim() != 0:
            raise ValueError(f"dropout_seed: shape {tuple(dropout_seed.shape)} is not (); pass one number")
        if dropout_seed.device.type not in ("cpu", device.type):
            raise ValueError(f"dropout_seed: on {dropout_seed.device}; keep it on the CPU or on {device}")
    return as_tensor(dropout_seed)
