"""What tests and benchmarks share: the error budget of the numbers policy, and op inputs by named regime.

The budget (docs/design.md, "Numbers policy"): an op may be at most twice as far from fp64 as PyTorch is in the same
dtype, plus one rounding step of the largest value. Sizes are chosen by code path and named by it, never a grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Deviation:
    """How far a result was from fp64, ``max|ours - exact|``, and how far it might have been."""

    what: str
    error: float
    budget: float


def assert_within_budget(ours: Tensor, peer: Tensor, exact: Tensor, what: str = "output") -> Deviation:
    """Assert ``max|ours - exact| <= 2 * (max|peer - exact| + eps * max|exact|)`` with eps of ours' dtype.

    Args:
        ours: what is tested.
        peer: PyTorch's result in the same dtype.
        exact: the result in fp64. Where it is not finite, ours must be the same infinity or NaN.
        what: named in the failure.

    Returns:
        The error and the budget that it kept.

    Raises:
        AssertionError: with the error, the budget, and the worst place.
    """
    assert ours.shape == exact.shape, f"{what}: shape {tuple(ours.shape)}, expected {tuple(exact.shape)}"
    ours64, peer64 = ours.detach().double().cpu(), peer.detach().double().cpu()
    exact = exact.detach().cpu()
    finite = exact.isfinite()
    torch.testing.assert_close(
        ours64[~finite], exact[~finite], rtol=0, atol=0, equal_nan=True, msg=lambda m: f"{what}, class of result: {m}"
    )
    if not finite.any():
        return Deviation(what, 0.0, 0.0)
    error = (ours64 - exact).abs().where(finite, 0)
    assert not error.isnan().any(), f"{what}: NaN at {tuple(error.isnan().nonzero()[0].tolist())}, where fp64 is finite"
    eps = torch.finfo(ours.dtype).eps
    peer_error = (peer64 - exact).abs().where(finite, 0).max()
    budget = 2 * (peer_error + eps * exact.where(finite, 0).abs().max())
    if error.max() > budget:
        place = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
        raise AssertionError(
            f"{what}: off by {error.max():.3e} at {place} ({ours64[place]:.6g}, fp64 {exact[place]:.6g}); the budget "
            f"is {budget:.3e}, PyTorch's own error {peer_error:.3e}"
        )
    return Deviation(what, float(error.max()), float(budget))


def check_against_fp64(
    ours: Function, peer: Function, inputs: Sequence[Tensor], grad: Tensor | None = None, names: str = "output"
) -> list[Deviation]:
    """Hold an op's output and the gradient of every floating-point input to the budget.

    Args:
        ours: function of ``inputs``.
        peer: the same in PyTorch, run in the inputs' dtype and once more in fp64.
        inputs: views and layouts are kept for ``ours``.
        grad: gradient of the output; None draws one.
        names: what the output and then each floating-point input are called in failures, split at spaces.

    Returns:
        The deviations of the output and of each gradient.
    """
    labels = [*names.split(), *(f"input {i}" for i in range(len(inputs)))]
    mine = _run(ours, inputs, grad)
    theirs = _run(peer, inputs, grad)
    exact = _run(peer, [x.double() if x.is_floating_point() else x for x in inputs], grad)
    return [
        assert_within_budget(a, b, c, labels[i] if i == 0 else f"gradient of {labels[i]}")
        for i, (a, b, c) in enumerate(zip(mine, theirs, exact, strict=True))
    ]


def _run(function: Function, inputs: Sequence[Tensor], grad: Tensor | None) -> list[Tensor]:
    leaves = [as_leaf(x) if x.is_floating_point() else x for x in inputs]
    out = function(*leaves)
    if grad is None:
        grad = normal(out.shape, torch.Generator().manual_seed(7)).to(inputs[0].device)
    wanted = [x for x in leaves if x.is_floating_point()]
    return [out.detach(), *torch.autograd.grad(out, wanted, grad.to(out.dtype))]


def as_leaf(x: Tensor) -> Tensor:
    """A leaf that requires a gradient and keeps x's strides and storage offset (``clone`` would make it dense)."""
    return x.detach().requires_grad_()


# ---- sequences for attention ---------------------------------------------------------------------------------------
# Lengths by the path they exercise in a kernel of 64- or 128-row tiles.
LENGTHS: dict[str, list[int]] = {
    "one_token": [1],
    "below_a_vector": [3, 1, 2],
    "odd": [7, 13, 29, 5],
    "one_tile": [64],
    "tile_plus_one": [65, 64, 63],
    "several_tiles": [300, 130],
    "four_tiles": [255, 256, 257],
    "one_long_among_short": [3, 5, 190, 2, 4, 7],
    "zero_lengths": [0, 5, 0, 0, 9, 0],
    "sentences": [12, 24, 19, 33, 24, 8, 71, 24, 15, 40],
}

# (rows, columns) of softmax and cross-entropy, by path in a kernel of 16-byte vectors and one block or warp a row.
ROWS: dict[str, tuple[int, int]] = {
    "one_class": (3, 1),
    "below_a_vector": (5, 3),
    "one_vector": (4, 16),
    "odd": (7, 101),
    "one_pass": (3, 1024),
    "one_pass_plus_one": (3, 1025),
    "vocabulary": (2, 30_000),
    "odd_vocabulary": (2, 30_001),
}


@dataclass(frozen=True)
class Sequences:
    """Arguments that describe packed sequences, and how many rows they need."""

    lengths: tuple[int, ...]
    cu_seqlens: Tensor
    max_seqlen: int
    rows: int

    @staticmethod
    def of(lengths: Sequence[int], device: str | torch.device | None = None) -> Sequences:
        """From the length of each sequence; ``cu_seqlens`` is on the default device unless another is given."""
        ends = [0, *itertools.accumulate(lengths)]
        starts = torch.tensor(ends, dtype=torch.int32, device=device)
        return Sequences(tuple(lengths), starts, max(lengths, default=0), ends[-1])

    def slices(self) -> list[slice]:
        """The rows of each sequence."""
        ends = itertools.accumulate(self.lengths, initial=0)
        return [slice(a, b) for a, b in itertools.pairwise(ends)]


def fused_qkv(rows: int, heads: int, head_dim: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (rows, heads, head_dim) as views of one tensor, as a fused projection gives them."""
    q, k, v = normal((rows, 3, heads, head_dim), torch.Generator().manual_seed(seed)).to(dtype).unbind(1)
    return q, k, v


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Normal values of a CPU's generator on the default device: the same ones on every device."""
    return torch.randn(shape, generator=generator, device="cpu").to(torch.get_default_device())


def noncontiguous_views(x: Tensor) -> dict[str, Tensor]:
    """The same values in every layout that an op must accept, by name."""
    wide = x.new_empty((*x.shape[:-1], 2 * x.shape[-1]))
    wide[..., ::2] = x
    tail = x.new_empty(x.numel() + 3)
    tail[3:] = x.flatten()
    sliced = torch.cat([x, x], dim=-1)[..., : x.shape[-1]]
    return {
        "last_dim_strided": wide[..., ::2],
        "transposed": x.transpose(0, -1).contiguous().transpose(0, -1),
        "row_padded": sliced,
        "unaligned": tail[3:].view(x.shape),
    }
