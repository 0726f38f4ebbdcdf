"""Every op that has kernels for a device, at one size with all that it takes: for what holds of each of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastlm import ops
from fastlm.ops import _backend

IGNORED = -100
LENGTHS = ([30, 1, 0, 65, 64, 200, 12], [64, 12, 200, 30, 0, 1, 65])  # of the same sum and maximum


@dataclass(frozen=True)
class Case:
    """A call of an op.

    Attributes:
        op: the public name.
        name: op and variant.
        make: seed -> tensors of the same shapes for every seed. Gradients are taken of those of floating point.
        call: of these tensors; the result is new.
    """

    op: str
    name: str
    make: Callable[[int], list[Tensor]]
    call: Callable[..., Tensor]


def run(case: Case, tensors: list[Tensor]) -> list[Tensor]:
    """The result, and the gradients of a fixed weighted sum of it."""
    leaves = [x.detach().requires_grad_() if x.is_floating_point() else x for x in tensors]
    out = case.call(*leaves)
    if not out.requires_grad:
        return [out]
    weights = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [x for x in leaves if x.is_floating_point()], weights)]


def same_bits(ours: list[Tensor], expected: list[Tensor]) -> None:
    """Refuse results that differ in a bit.

    Raises:
        AssertionError: with the first that does.
    """
    for i, (a, b) in enumerate(zip(ours, expected, strict=True)):
        wrong = int((a != b).sum())
        assert not wrong, f"result {i}: {wrong} of {a.numel()} elements differ, by up to {float((a - b).abs().max())}"


def available(device: str) -> Iterator[tuple[Case, str | None]]:
    """All cases of both kinds of kernels on a device, each with the reason why it has none there, or None."""
    for backend in ("native", "triton"):
        for case in cases(torch.device(device), backend):
            yield case, _backend.why_not(case.op, backend, device)


def cases(device: torch.device, backend: str) -> list[Case]:
    """One or more for each op."""

    def generator(seed: int) -> torch.Generator:
        return torch.Generator(device).manual_seed(seed)

    def normal(seed: int, *shapes: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
        source = generator(seed)
        return [torch.randn(shape, generator=source, device=device).to(dtype) for shape in shapes]

    def targets(seed: int, rows: int, classes: int) -> Tensor:
        drawn = torch.randint(classes, (rows,), generator=generator(seed), device=device)
        return drawn.masked_fill(drawn % 7 == 0, IGNORED)

    def starts(seed: int) -> Tensor:
        lengths = LENGTHS[seed % len(LENGTHS)]
        return torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)

    def number(seed: int) -> Tensor:
        """A dropout seed that a graph reads when it runs."""
        return torch.tensor(seed, device=device)

    rows, longest = sum(LENGTHS[0]) + 5, max(LENGTHS[0])  # five rows of no sentence

    def attention(name: str, heads: int, width: int, dtype: torch.dtype, causal: bool, dropout_p: float) -> Case:
        options = {"max_seqlen_q": longest, "causal": causal, "dropout_p": dropout_p}
        return Case(
            "attention",
            f"{backend} attention {name}",
            lambda seed: [*normal(seed, (rows, 3, heads, width), dtype=dtype), starts(seed), number(seed)],
            lambda qkv, cu, drawn: ops.attention(*qkv.unbind(1), cu, dropout_seed=drawn, backend=backend, **options),
        )

    def rows_of(op: str, name: str, shape: tuple[int, int], dtype: torch.dtype, call: Callable[..., Tensor]) -> Case:
        def make(seed: int) -> list[Tensor]:
            return [*normal(seed, shape, dtype=dtype), targets(seed, *shape)]

        return Case(op, f"{backend} {op} {name}", make, call)

    options: dict[str, Any] = {"backend": backend}
    return [
        rows_of("softmax", "odd rows", (37, 1001), torch.float32, lambda x, _: ops.softmax(x, scale=0.7, **options)),
        rows_of("softmax", "vocabulary", (65, 30_000), torch.bfloat16, lambda x, _: ops.softmax(x, **options)),
        Case(
            "softmax",
            f"{backend} softmax masked",
            lambda seed: [*normal(seed, (9, 12, 130)), targets(seed, 130, 3) == IGNORED],
            lambda x, mask: ops.softmax(x, mask, **options),
        ),
        rows_of(
            "cross_entropy",
            "smoothed",
            (67, 30_000),
            torch.bfloat16,
            lambda x, t: ops.cross_entropy(x, t, label_smoothing=0.1, reduction="none", **options),
        ),
        rows_of("cross_entropy", "mean", (67, 129), torch.float32, lambda x, t: ops.cross_entropy(x, t, **options)),
        attention("full", 4, 64, torch.bfloat16, False, 0.0),
        attention("causal, dropout", 3, 96, torch.float16, True, 0.1),
        attention("fp32", 2, 40, torch.float32, False, 0.1),
        Case(
            "linear_cross_entropy",
            f"{backend} linear_cross_entropy",
            lambda seed: [*normal(seed, (300, 64), (1000, 64), (1000,)), targets(seed, 300, 1000)],
            lambda h, w, b, t: ops.linear_cross_entropy(h, w, t, bias=b, **options).loss,
        ),
        Case(
            "layer_norm",
            f"{backend} layer_norm",
            lambda seed: [*normal(seed, (130, 512), (130, 512), (512,), (512,)), number(seed)],
            lambda b, r, w, c, drawn: (
                ops.dropout_add_layer_norm(b, r, w, c, dropout_p=0.1, dropout_seed=drawn, **options).y
            ),
        ),
        Case(
            "total_norm",
            f"{backend} total_norm",
            lambda seed: normal(seed, (70, 300), (5,), dtype=torch.float32),
            lambda *tensors: ops.total_norm(tensors, **options),
        ),
        Case(
            "adam",
            f"{backend} adam_",
            lambda seed: normal(seed, (2, 70, 300), dtype=torch.float32),
            lambda pair: _adam_step(pair, backend),
        ),
    ]


def _adam_step(pair: Tensor, backend: str) -> Tensor:
    """Parameter and gradient -> the parameter after a first step."""
    param, grad = (x.clone() for x in pair.detach().unbind(0))
    means = [[torch.zeros_like(param)] for _ in range(2)]
    ops.adam_([param], [grad], *means, [torch.zeros((), device=param.device)], lr=0.1, backend=backend)
    return param
