"""attention and linear_cross_entropy at the real distribution of sentence lengths, beside PyTorch's own ways.

Attention's peers: scaled_dot_product_attention padded to the longest sentence, and called once per sentence.
The loss's peer: F.cross_entropy over F.linear on the rows that have a target. Flops count what is needed, not the
padding: attention 4 sum(L^2) H D forward and two and a half times that backward; the loss 2 M d V forward and three
times that in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm import ops
from fastlm.testing import check_against_fp64

HEADS, HEAD_DIM = 8, 64
SENTENCES = {"smoke": 8, "sentences_256": 256}


class Packed:
    """One batch of sentences, packed, and its padded twin's index."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = torch.tensor(lengths)
        ends = self.lengths.cumsum(0)
        self.tokens, self.longest = int(ends[-1]), max(lengths)
        self.cu_seqlens = F.pad(ends, (1, 0)).to(torch.int32)
        self.real = torch.arange(self.longest) < self.lengths[:, None]  # (B, S)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ops.attention(q, k, v, self.cu_seqlens, max_seqlen_q=self.longest)

    def padded(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch = [self._pad(x).transpose(1, 2) for x in (q, k, v)]  # (B, H, S, D)
        out = F.scaled_dot_product_attention(*batch, attn_mask=self.real[:, None, None, :])
        return out.transpose(1, 2)[self.real]

    def looped(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pieces = zip(*(x.transpose(0, 1).split(self.lengths.tolist(), dim=1) for x in (q, k, v)), strict=True)
        return torch.cat(
            [F.scaled_dot_product_attention(*(x[None] for x in piece))[0] for piece in pieces], 1
        ).transpose(0, 1)

    def _pad(self, x: Tensor) -> Tensor:
        wide = x.new_zeros(*self.real.shape, *x.shape[1:])
        return wide.masked_scatter(self.real[..., None, None], x)


@pytest.mark.parametrize("provider", ["attention", "padded", "looped"])
@pytest.mark.parametrize("way", ["forward", "forward+backward"])
@pytest.mark.parametrize("batch", SENTENCES)
def test_attention(measure: Any, lengths: Callable[[int], list[int]], batch: str, way: str, provider: str) -> None:
    packed = Packed(lengths(SENTENCES[batch]))
    function = getattr(packed, provider)
    small = Packed(lengths(6))
    qkv = torch.randn(packed.tokens, 3, HEADS, HEAD_DIM)
    check_against_fp64(getattr(small, provider), small.looped, list(qkv[: small.tokens].unbind(1)), names="out q k v")
    leaf = qkv.requires_grad_(way != "forward")
    flops = 4 * float((packed.lengths.double() ** 2).sum()) * HEADS * HEAD_DIM

    def forward() -> Tensor:
        return function(*leaf.unbind(1))

    def both() -> Tensor:
        return torch.autograd.grad(forward().sum(), leaf)[0]

    group = f"attention {batch} {way}"
    if way == "forward":
        measure(forward, group=group, flops=flops, tokens=packed.tokens, rounds=3)
    else:
        measure(both, group=group, flops=3.5 * flops, tokens=packed.tokens, rounds=3)


LOSS_ROWS = {"smoke": (37, 64, 257), "masked_rows": (820, 512, 30_000)}  # 15 % of 256 sentences; d_model; vocabulary


def torch_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight), targets)


def our_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return ops.linear_cross_entropy(hidden, weight, targets).loss


@pytest.mark.parametrize("provider", [our_loss, torch_loss], ids=["linear_cross_entropy", "linear_then_cross_entropy"])
@pytest.mark.parametrize("shape", LOSS_ROWS)
def test_linear_cross_entropy(measure: Any, shape: str, provider: Callable[..., Tensor]) -> None:
    rows, width, vocabulary = LOSS_ROWS[shape]
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = torch.randn(vocabulary, width).mul_(0.02).requires_grad_()
    targets = torch.randint(vocabulary, (rows,))
    some = targets[:8]
    check_against_fp64(
        lambda h, w: provider(h, w, some),
        lambda h, w: torch_loss(h, w, some),
        [hidden[:8], weight],
        names="loss hidden weight",
    )

    def both() -> Any:
        return torch.autograd.grad(provider(hidden, weight, targets), [hidden, weight])

    flops = 3 * 2.0 * rows * width * vocabulary
    measure(both, group=f"linear_cross_entropy {shape} forward+backward", flops=flops, tokens=rows, rounds=3)
