"""Rows that the tests of every op share: the family that runs, and eager beside compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fastlm import ops


@pytest.fixture(params=["native", "reference"])
def family(request: pytest.FixtureRequest) -> str:
    """For the ops that have CPU kernels: both families, or the reason why the native one is not built."""
    if request.param == "native" and (fault := ops.native_fault()):
        pytest.skip(fault)
    return str(request.param)


@pytest.fixture(params=["eager", "compiled"])
def mode(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """Wraps a function: as it is, or traced into one graph, as for Inductor but without its C++ builds."""
    if request.param == "eager":
        yield lambda function: function
        return
    torch._dynamo.reset()
    yield lambda function: torch.compile(function, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
