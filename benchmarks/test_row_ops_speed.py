"""softmax and cross_entropy, forward and backward: native beside eager PyTorch, torch.compile and the reference.

``copy`` is PyTorch's copy of as many bytes into memory that is there. Byte model, with B the bytes of the input:
softmax forward 2 B (read x, write y), backward 3 B (read y and the gradient, write one); cross-entropy forward B (read
the logits), backward 2 B (read them, write the gradient).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm import ops
from fastlm.testing import Deviation, check_against_fp64

Op = Callable[[Tensor], Tensor]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PROVIDERS = ("eager", "compile", "native", "reference", "copy")
COMPILED = "30k"  # torch.compile's shape

SOFTMAX_SHAPES = {"smoke": (64, 257), "attention_rows": (8192, 256), "30k": (1024, 30_000)}
LOSS_SHAPES = {"smoke": (64, 257), "5k": (2048, 5_000), "30k": (1024, 30_000), "52k": (1024, 52_000)}


@functools.cache
def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, fullgraph=True, dynamic=False)


def eager_loss(x: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(x, targets)


def eager_softmax(x: Tensor) -> Tensor:
    return F.softmax(x, -1)


def cases(shapes: dict[str, tuple[int, int]]) -> list[Any]:
    """(shape, dtype, way, provider), torch.compile on one shape alone: its graphs take seconds to build."""
    grid = itertools.product(shapes, DTYPES, ("forward", "backward"), PROVIDERS)
    return [pytest.param(*case, id="-".join(case)) for case in grid if case[3] != "compile" or case[0] == COMPILED]


def skip_unless_it_runs(provider: str, needs_compiler: Callable[[], None]) -> None:
    if provider == "native" and (fault := ops.native_fault()) is not None:
        pytest.skip(f"no native ops: {fault}")
    if provider == "compile":
        needs_compiler()


def time_copy(measure: Any, way: str, label: str, bytes_moved: int) -> None:
    source = torch.ones(bytes_moved // 2, dtype=torch.uint8)
    target = torch.empty_like(source)
    measure(lambda: target.copy_(source), group=f"{label} {way}", bytes_moved=bytes_moved)


def time_op(
    measure: Any, op: Op, x: Tensor, way: str, label: str, bytes_moved: int, deviations: list[Deviation]
) -> None:
    """Time the forward or the backward pass alone."""
    leaf = x.detach().requires_grad_()
    work = {"group": f"{label} {way}", "bytes_moved": bytes_moved, "deviations": deviations}
    if way == "forward":
        measure(lambda: op(leaf), **work)
        return
    out = op(leaf)
    grad = torch.ones_like(out)
    measure(lambda: torch.autograd.grad(out, leaf, grad, retain_graph=True), **work)


@pytest.mark.parametrize(("shape", "dtype", "way", "provider"), cases(SOFTMAX_SHAPES))
def test_softmax(measure: Any, needs_compiler: Any, shape: str, dtype: str, way: str, provider: str) -> None:
    skip_unless_it_runs(provider, needs_compiler)
    x = torch.randn(SOFTMAX_SHAPES[shape]).to(DTYPES[dtype])
    moved = {"forward": 2, "backward": 3}[way] * x.numel() * x.element_size()
    if provider == "copy":
        time_copy(measure, way, f"softmax {shape} {dtype}", moved)
        return
    table: dict[str, Op] = {
        "eager": eager_softmax,
        "compile": compiled(eager_softmax),
        "native": functools.partial(ops.softmax, backend="native"),
        "reference": functools.partial(ops.softmax, backend="reference"),
    }
    deviations = []
    if provider != "compile":  # another row count would be compiled again; eager is its specification
        deviations = check_against_fp64(table[provider], eager_softmax, [x[:8]], names="y x")
    time_op(measure, table[provider], x, way, f"softmax {shape} {dtype}", moved, deviations)


@pytest.mark.parametrize(("shape", "dtype", "way", "provider"), cases(LOSS_SHAPES))
def test_cross_entropy(measure: Any, needs_compiler: Any, shape: str, dtype: str, way: str, provider: str) -> None:
    skip_unless_it_runs(provider, needs_compiler)
    x = torch.randn(LOSS_SHAPES[shape]).to(DTYPES[dtype])
    moved = {"forward": 1, "backward": 2}[way] * x.numel() * x.element_size()
    if provider == "copy":
        time_copy(measure, way, f"cross_entropy {shape} {dtype}", moved)
        return
    targets = torch.randint(x.shape[1], (x.shape[0],))
    table: dict[str, Callable[..., Tensor]] = {
        "eager": eager_loss,
        "compile": compiled(eager_loss),
        "native": functools.partial(ops.cross_entropy, backend="native"),
        "reference": functools.partial(ops.cross_entropy, backend="reference"),
    }
    op = table[provider]
    deviations = []
    if provider != "compile":
        deviations = check_against_fp64(
            lambda x: op(x, targets[:8]), lambda x: eager_loss(x, targets[:8]), [x[:8]], names="loss logits"
        )
    time_op(measure, lambda x: op(x, targets), x, way, f"cross_entropy {shape} {dtype}", moved, deviations)
