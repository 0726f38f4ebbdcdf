"""Rows that the tests of every op share: the device and family that run, and eager beside compiled.

``FASTLM_TEST_DEVICE=cuda`` runs the same tests on a GPU (`make gpu-check` does): tensors that name no device are its.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from fastlm import ops
from fastlm.ops import _backend
from tests.native.lockstep import COMPILER, ROOT, build_library

DEFAULT_DEVICE = os.environ.get("FASTLM_TEST_DEVICE")
DEVICE = DEFAULT_DEVICE or "cpu"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "native(op): needs native kernels of an op for the device")
    config.addinivalue_line("markers", "cpu_only(reason): would test nothing more on a GPU")
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("FASTLM_TEST_DEVICE=cuda, but torch sees no GPU")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``family``: all that run this module's op on the device; on a CPU, its CUDA kernels in lockstep among them."""
    chosen = [mark for mark in metafunc.definition.iter_markers("parametrize") if "family" in mark.args[0]]
    if "family" not in metafunc.fixturenames or chosen:
        return
    on_gpus = (ROOT / "csrc" / "cuda" / f"{op_of(metafunc.module)}.cpp").exists()
    families = ["native", "reference", *(["lockstep"] if on_gpus and DEVICE == "cpu" else [])]
    if op_of(metafunc.module) in triton_ops():
        families.append("triton")
    metafunc.parametrize("family", families, indirect=True)


@pytest.fixture(scope="session")
def lockstep_ops() -> tuple[str, ...]:
    """The ops whose CUDA kernels ``backend="lockstep"`` now runs."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"no C++ compiler ({COMPILER[0]}) to build the CUDA kernels with")
    _backend.add_family("lockstep", lambda _: torch.ops.load_library(str(build_library())))
    return tuple(op for op in ops.explain() if _backend.why_not(op, "lockstep", DEVICE) is None)


def triton_ops() -> list[str]:
    """The ops that have Triton kernels."""
    return sorted({path.stem for path in (ROOT / "kernels" / "triton").glob("*.py")} & ops.explain().keys())


@pytest.fixture
def family(request: pytest.FixtureRequest) -> str:
    """The family that runs, or the reason why it was not built."""
    if request.param == "native":
        skip_without_native(op_of(request.module))
    if request.param == "lockstep":
        request.getfixturevalue("lockstep_ops")
    if request.param == "triton" and (reason := _backend.why_not(op_of(request.module), "triton", DEVICE)):
        pytest.skip(reason)
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
def on_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tensors that name no device are DEVICE's; a test that it cannot run, or that would be none there, says so."""
    for mark in request.node.iter_markers("native"):
        skip_without_native(*mark.args)
    if DEVICE != "cpu" and (mark := request.node.get_closest_marker("cpu_only")):
        pytest.skip(f"on a CPU only: {mark.args[0]}")
    torch.manual_seed(0)
    torch.set_default_device(DEFAULT_DEVICE)
    yield
    torch.set_default_device(None)


def op_of(module: ModuleType) -> str:
    """The op that a test module is about."""
    return module.__name__.rpartition("test_")[2]


def skip_without_native(op: str) -> None:
    """Skips, with the reason, where the device has no native kernels of an op."""
    if reason := _backend.why_not(op, "native", DEVICE):
        pytest.skip(reason)
