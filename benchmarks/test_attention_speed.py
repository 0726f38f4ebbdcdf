"""attention on sentences of real lengths and on dense blocks of 256, beside PyTorch's own ways.

``full`` is our op, ``causal`` and ``dropout`` with that option, ``reference`` its specification in PyTorch. Peers:
scaled_dot_product_attention padded to the longest sentence, and called once per sentence. Flops count what is needed,
not the padding: 4 sum(L^2) H D forward and two and a half times that backward; a causal mask halves the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm import ops
from fastlm.testing import Deviation, check_against_fp64

HEADS = 8
BATCHES: dict[str, tuple[int, int]] = {  # sentences (0: of real lengths) and D
    "smoke": (8, 32),
    "sentences_d64": (256, 64),
    "sentences_d96": (256, 96),
    "sentences_d128": (256, 128),
    "dense_256_d64": (16, 64),
}


class Packed:
    """One batch of sentences, packed, and its padded twin's index."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = torch.tensor(lengths)
        ends = self.lengths.cumsum(0)
        self.tokens, self.longest = int(ends[-1]), max(lengths)
        self.cu_seqlens = F.pad(ends, (1, 0)).to(torch.int32)
        self.real = torch.arange(self.longest) < self.lengths[:, None]  # (B, S)

    def full(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        return ops.attention(q, k, v, self.cu_seqlens, max_seqlen_q=self.longest, **options)

    def causal(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.full(q, k, v, causal=True)

    def dropout(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.full(q, k, v, dropout_p=0.1, dropout_seed=1)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.full(q, k, v, backend="reference")

    def sdpa_padded(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if bool(self.real.all()):
            shape = (len(self.lengths), self.longest, *q.shape[1:])
            batch = [x.reshape(shape).transpose(1, 2) for x in (q, k, v)]
            return F.scaled_dot_product_attention(*batch).transpose(1, 2).reshape(q.shape)
        batch = [self._pad(x).transpose(1, 2) for x in (q, k, v)]  # (B, H, S, D)
        out = F.scaled_dot_product_attention(*batch, attn_mask=self.real[:, None, None, :])
        return out.transpose(1, 2)[self.real]

    def sdpa_looped(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
        pieces = zip(*(x.transpose(0, 1).split(self.lengths.tolist(), dim=1) for x in (q, k, v)), strict=True)
        outs = [F.scaled_dot_product_attention(*(x[None] for x in piece), is_causal=causal)[0] for piece in pieces]
        return torch.cat(outs, 1).transpose(0, 1)

    def _pad(self, x: Tensor) -> Tensor:
        wide = x.new_zeros(*self.real.shape, *x.shape[1:])
        return wide.masked_scatter(self.real[..., None, None], x)


def verify(provider: str, small: Packed, qkv: Tensor) -> list[Deviation]:
    """Dropout has no exact peer here (its mask is tested against Philox); with p = 0 its code path has."""
    function: Callable[..., Tensor] = getattr(small, "full" if provider == "dropout" else provider)
    peer = lambda q, k, v: small.sdpa_looped(q, k, v, causal=provider == "causal")  # noqa: E731
    return check_against_fp64(function, peer, list(qkv[: small.tokens].unbind(1)), names="out q k v")


@pytest.mark.parametrize("provider", ["full", "causal", "dropout", "reference", "sdpa_padded", "sdpa_looped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("batch", BATCHES)
def test_attention(
    measure: Any, lengths: Callable[[int], list[int]], batch: str, dtype: torch.dtype, provider: str
) -> None:
    sentences, width = BATCHES[batch]
    packed = Packed([256] * sentences if batch.startswith("dense") else lengths(sentences))
    qkv = torch.randn(packed.tokens, 3, HEADS, width, dtype=dtype)
    deviations = verify(provider, Packed(lengths(6)), qkv)
    leaves = [x.requires_grad_() for x in qkv.unbind(1)]  # laid out as a fused projection gives them
    grad = torch.randn(packed.tokens, HEADS, width, dtype=dtype)
    function = getattr(packed, provider)
    pairs = float((packed.lengths.double() ** 2).sum()) * (0.5 if provider == "causal" else 1.0)

    def forward_and_backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(*leaves), leaves, grad)

    name = f"attention {batch} {'bf16' if dtype == torch.bfloat16 else 'fp32'} forward+backward"
    measure(
        forward_and_backward,
        group=name,
        deviations=deviations,
        flops=14 * pairs * HEADS * width,
        dtype=dtype,
        tokens=packed.tokens,
    )
