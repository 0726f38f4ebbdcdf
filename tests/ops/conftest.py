"""Rows that the tests of every op share: the family that runs, and eager beside compiled."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fastlm import ops
from fastlm.ops import _backend
from tests.native.lockstep import COMPILER, ROOT, build_library


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``family``: all that run this module's op on a CPU, its CUDA kernels in lockstep among them."""
    chosen = [mark for mark in metafunc.definition.iter_markers("parametrize") if "family" in mark.args[0]]
    if "family" not in metafunc.fixturenames or chosen:
        return
    op = metafunc.module.__name__.rpartition("test_")[2]
    on_gpus = (ROOT / "csrc" / "cuda" / f"{op}.cpp").exists()
    families = ["native", "reference", *(["lockstep"] if on_gpus else [])]
    metafunc.parametrize("family", families, indirect=True)


@pytest.fixture(scope="session")
def lockstep_ops() -> tuple[str, ...]:
    """The ops whose CUDA kernels ``backend="lockstep"`` now runs."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"no C++ compiler ({COMPILER[0]}) to build the CUDA kernels with")
    return _backend.add_family("lockstep", build_library())


@pytest.fixture
def family(request: pytest.FixtureRequest) -> str:
    """The family that runs, or the reason why it was not built."""
    if request.param == "native" and (fault := ops.native_fault()):
        pytest.skip(fault)
    if request.param == "lockstep":
        request.getfixturevalue("lockstep_ops")
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
