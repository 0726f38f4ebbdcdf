"""Packed sequences as a few padded blocks, for the reference: sequences of like length share one (n, H, L, D) block.

Matrix products want rectangles, and sentences have no common length. On the host, where the lengths can be read,
sequences are grouped by length (long ones rounded up by at most a sixteenth, so a block wastes little), and big groups
are cut so that their scores stay in cache. Where lengths cannot be read (a traced graph, fake and meta tensors) there
is one block, padded to ``max_seqlen``.

A *slot* is one head of one packed row, a *place* is one position of a block. Slots move by index tensors and never by
scatter-add: the gradient of padding is a gather by the inverse index, faster on a CPU than ``index_add`` and the same
bits every time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.utils.weak import WeakIdRef

SCORES_PER_BLOCK = 1 << 18  # over sequences and heads: 1 MB of fp32


@dataclass(frozen=True)
class Side:
    """Where the slots of q (or of k and v) lie among the places of all blocks, and back.

    Attributes:
        index: (P,) int64, the slot (row * H + head) at each place, sequence by sequence, then head, then position.
        holes: places that hold no slot, whose index is 0: int64 positions, a (P,) bool mask in a graph, None for none.
        inverse: (T * H,) int64, the place of each slot.
        lost: the same as ``holes`` for ``inverse``: rows in no block, because their sequence has no partner.
    """

    index: Tensor
    holes: Tensor | None
    inverse: Tensor
    lost: Tensor | None

    def pad(self, x: Tensor) -> Tensor:
        """(T, H, D) packed rows to (P, D) places; holes are 0."""
        return _move(x.flatten(0, 1), self.index, self.holes, self.inverse, self.lost)

    def pack(self, x: Tensor, heads: int) -> Tensor:
        """(P, D) places to (T, H, D) packed rows; lost rows are 0."""
        return _move(x, self.inverse, self.lost, self.index, self.holes).view(-1, heads, x.shape[1])


@dataclass(frozen=True)
class Block:
    """n sequences padded to one length on each side.

    Attributes:
        places_q, places_k: padded lengths.
        starts_q: (n,) int64, first packed row of each query sequence.
        lengths_q, lengths_k: (n,) int64, real lengths.
        exact: every key sequence fills the block.
    """

    places_q: int
    places_k: int
    starts_q: Tensor
    lengths_q: Tensor
    lengths_k: Tensor
    exact: bool

    @property
    def sequences(self) -> int:
        """How many."""
        return self.starts_q.shape[0]


class _Move(torch.autograd.Function):
    """``y[i] = x[index[i]]`` and 0 at holes, where ``inverse`` and ``lost`` say the same of x in terms of y."""

    @staticmethod
    def forward(x: Tensor, index: Tensor, holes: Tensor | None, inverse: Tensor, lost: Tensor | None) -> Tensor:
        return _gather(x, index, holes)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[3:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _gather(grad, *ctx.saved_tensors), None, None, None, None


def _move(x: Tensor, index: Tensor, holes: Tensor | None, inverse: Tensor, lost: Tensor | None) -> Tensor:
    y: Tensor = _Move.apply(x, index, holes, inverse, lost)
    return y


def _gather(x: Tensor, index: Tensor, holes: Tensor | None) -> Tensor:
    if x.shape[0] == 0:
        return x.new_zeros((index.shape[0], x.shape[1]))
    y = x.index_select(0, index)
    if holes is None:
        return y
    return y.masked_fill(holes[:, None], 0) if holes.dtype == torch.bool else y.index_fill(0, holes, 0)


def readable(x: Tensor) -> bool:
    """Whether the host may look at the values: not in a traced graph, nor where there are none."""
    return not (torch.compiler.is_compiling() or x.is_meta or is_fake(x))


class _LastLayout:
    """The layout of the latest cu_seqlens: every layer of a model asks for the same one."""

    key: tuple[Any, ...] = ()
    value: tuple[Side, Side, list[Block]]


def lay_out(
    q: Tensor, k: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int, max_seqlen_k: int
) -> tuple[Side, Side, list[Block]]:
    """Choose the blocks for q (T_q, H, D) and k (T_k, H, D), and find every slot's place in them."""
    if not readable(cu_seqlens_q):
        return _one_block(q, k, cu_seqlens_q.long(), cu_seqlens_k.long(), max_seqlen_q, max_seqlen_k)
    pair = (cu_seqlens_q, cu_seqlens_k)
    key = (*map(WeakIdRef, pair), *(cu._version for cu in pair), q.shape[:2], k.shape[:2], max_seqlen_q, max_seqlen_k)
    if key != _LastLayout.key:
        _LastLayout.value = _many_blocks(q, k, *pair, max_seqlen_q, max_seqlen_k)
        _LastLayout.key = key
    return _LastLayout.value


def _one_block(
    q: Tensor, k: Tensor, cu_q: Tensor, cu_k: Tensor, places_q: int, places_k: int
) -> tuple[Side, Side, list[Block]]:
    block = Block(places_q, places_k, cu_q[:-1], cu_q.diff(), cu_k.diff(), exact=False)
    return _traced_side(q, cu_q, places_q), _traced_side(k, cu_k, places_k), [block]


def _traced_side(x: Tensor, cu: Tensor, places: int) -> Side:
    rows, heads = x.shape[:2]
    sequences = cu.shape[0] - 1
    offset = torch.arange(places, device=x.device)
    head = torch.arange(heads, device=x.device)
    holes = (offset >= cu.diff()[:, None])[:, None].expand(-1, heads, -1)  # (B, H, L)
    index = ((cu[:-1, None, None] + offset) * heads + head[:, None]).masked_fill(holes, 0)
    row = torch.arange(rows, device=x.device)
    sequence = torch.searchsorted(cu[1:], row, right=True)  # B where a row is beyond the last sequence
    lost = (sequence >= sequences)[:, None].expand(-1, heads)  # (T, H)
    inverse = ((sequence[:, None] * heads + head) * places + (row - cu[sequence])[:, None]).masked_fill(lost, 0)
    return Side(index.flatten(), holes.flatten(), inverse.flatten(), lost.flatten())


def _many_blocks(
    q: Tensor, k: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int
) -> tuple[Side, Side, list[Block]]:
    device, heads = q.device, q.shape[1]
    starts_q, starts_k = cu_q.to("cpu", torch.int64), cu_k.to("cpu", torch.int64)
    lengths_q, lengths_k = starts_q.diff(), starts_k.diff()
    check_lengths("q", starts_q, lengths_q, q.shape[0], max_q)
    check_lengths("k", starts_k, lengths_k, k.shape[0], max_k)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for sequence, (length_q, length_k) in enumerate(zip(lengths_q.tolist(), lengths_k.tolist(), strict=True)):
        if length_q and length_k:
            groups[_round_up(length_q), _round_up(length_k)].append(sequence)
    chosen = []  # (sequences, padded length of q, padded length of k) of each block
    for (places_q, places_k), group in sorted(groups.items()):
        parts = torch.tensor(group, device="cpu").split(max(1, SCORES_PER_BLOCK // (places_q * places_k * heads)))
        chosen += [(part, places_q, places_k) for part in parts]
    blocks = [
        Block(
            places_q,
            places_k,
            starts_q[part].to(device),
            lengths_q[part].to(device),
            lengths_k[part].to(device),
            exact=bool((lengths_k[part] == places_k).all()),
        )
        for part, places_q, places_k in chosen
    ]
    side_q = _side(q, starts_q, lengths_q, [(part, places) for part, places, _ in chosen])
    if cu_q is cu_k:
        return side_q, side_q, blocks
    return side_q, _side(k, starts_k, lengths_k, [(part, places) for part, _, places in chosen]), blocks


def _side(x: Tensor, starts: Tensor, lengths: Tensor, blocks: list[tuple[Tensor, int]]) -> Side:
    rows, heads = x.shape[:2]
    head = torch.arange(heads, device="cpu")[:, None]
    slots, empty = ([torch.zeros(0, dtype=dtype, device="cpu")] for dtype in (torch.int64, torch.bool))
    for sequences, places in blocks:
        offset = torch.arange(places, device="cpu")
        slot = (starts[sequences, None, None] + offset) * heads + head  # (n, H, L)
        hole = (offset >= lengths[sequences, None, None]).expand_as(slot)
        slots.append(slot.flatten())
        empty.append(hole.flatten())
    index, hole = torch.cat(slots), torch.cat(empty)
    held = (~hole).nonzero()[:, 0]
    inverse = torch.full((rows * heads,), -1, device="cpu")
    inverse[index[held]] = held
    missing, holes = (inverse < 0).nonzero()[:, 0], hole.nonzero()[:, 0]
    index[holes] = 0
    inverse[missing] = 0
    device = x.device
    return Side(
        index.to(device),
        holes.to(device) if holes.numel() else None,
        inverse.to(device),
        missing.to(device) if missing.numel() else None,
    )


def _round_up(length: int) -> int:
    step = 1 << max(0, length.bit_length() - 5)  # exact to 31, then by at most a sixteenth
    return -(-length // step) * step


def check_lengths(name: str, starts: Tensor, lengths: Tensor, rows: int, max_seqlen: int) -> None:
    """Refuse sequences that do not lie within the rows, or are longer than said, by ValueError."""
    first, last = int(starts[0]), int(starts[-1])
    shortest, longest = (int(f(lengths)) if lengths.numel() else 0 for f in (torch.min, torch.max))
    if first != 0 or shortest < 0 or last > rows:
        raise ValueError(
            f"cu_seqlens_{name}: runs from {first} to {last} over {rows} rows, the shortest length being {shortest}; "
            f"it must start at 0, never fall, and end within the rows"
        )
    if longest > max_seqlen:
        raise ValueError(f"max_seqlen_{name}: {max_seqlen}, but the longest sequence has {longest} rows; pass that")
