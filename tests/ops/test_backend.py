"""Selection of the family: order, choices, reasons, and the one log line."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch
import torch._dynamo.testing

from fastlm import ops
from fastlm.ops import _backend

pytestmark = pytest.mark.cpu_only("what is chosen there is a CPU's")

OPS = ["adam", "attention", "cross_entropy", "layer_norm", "linear_cross_entropy", "softmax", "total_norm"]


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a build without a compiler: nothing is registered for the CPU."""
    monkeypatch.setitem(_backend._faults, "native", "the C++ ops are not built")
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: False)
    monkeypatch.setattr(_backend, "_reported", set())


@pytest.mark.usefixtures("without_library")
def test_none_falls_back_with_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.randn(3, 4)
    with caplog.at_level(logging.WARNING, "fastlm"):
        for _ in range(3):
            y = ops.softmax(x)
    torch.testing.assert_close(y, torch.softmax(x, -1))
    assert len(caplog.records) == 1
    assert "softmax on cpu runs on the reference backend (native: the C++ ops are not built" in caplog.text


@pytest.mark.usefixtures("without_library")
def test_a_named_backend_that_cannot_run_raises_with_the_reason() -> None:
    x = torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"softmax: backend 'native' \(from backend\) .* the C\+\+ ops are not built"):
        ops.softmax(x, backend="native")
    with ops.use_backend("native"), pytest.raises(ValueError, match=r"\(from use_backend\)"):
        ops.softmax(x)
    with pytest.raises(ValueError, match=r"'triton' .* Triton is not installed|no triton kernels of softmax"):
        ops.softmax(x, backend="triton")


def test_an_unknown_backend_is_refused_by_name() -> None:
    for call in (lambda: ops.softmax(torch.ones(2), backend="cuda"), lambda: ops.set_backend("cuda")):
        with pytest.raises(ValueError, match="'cuda' is no backend; choose one of native, triton, reference"):
            call()


def test_the_argument_outranks_the_choice_and_the_choice_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    picks: list[tuple[str | None, str]] = []
    monkeypatch.setattr(_backend, "_resolve_constant", lambda op, asked, source, *_: picks.append((asked, source)))
    monkeypatch.setattr(_backend, "_environment", "native")
    _backend.select("softmax", None, "cpu", None)
    with ops.use_backend("triton"):
        _backend.select("softmax", None, "cpu", None)
        _backend.select("softmax", "reference", "cpu", None)
    _backend.select("softmax", None, "cpu", None)
    assert picks == [
        ("native", "FASTLM_BACKEND"),
        ("triton", "use_backend"),
        ("reference", "backend"),
        ("native", "FASTLM_BACKEND"),
    ]


def test_use_backend_returns_to_what_was_set_even_after_an_error() -> None:
    ops.set_backend("reference")
    try:
        with pytest.raises(RuntimeError), ops.use_backend(None):
            raise RuntimeError
        assert ops.explain()["softmax"]["cpu"]["pick"] == "reference"
    finally:
        ops.set_backend(None)


def test_inputs_outside_the_kernels_limits_fall_back_or_say_why() -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(ops.softmax(x), torch.softmax(x, -1))
    with pytest.raises(ValueError, match=r"backend 'native'|x is torch.float64, and kernels take"):
        ops.softmax(x, backend="native")


def test_explain_gives_a_pick_and_a_reason_for_every_other_family() -> None:
    explained = ops.explain()
    assert sorted(explained) == OPS
    for devices in explained.values():
        for entry in devices.values():
            assert {entry["pick"], *entry["passed_over"]} == set(_backend.BACKENDS)
            assert all(entry["passed_over"].values())
    with ops.use_backend("reference"):
        softmax = ops.explain()["softmax"]["cpu"]
    assert softmax["pick"] == "reference"
    assert set(softmax["passed_over"]) == {"native", "triton"}


def test_a_compiled_function_follows_set_backend() -> None:
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.EagerAndRecordGraphs()
    compiled = torch.compile(lambda x: ops.softmax(x), fullgraph=True, backend=graphs)
    x = torch.randn(3, 4)

    def last_graph_calls_native() -> bool:
        return "fastlm.softmax_forward" in graphs.graphs[-1].print_readable(print_output=False)

    with ops.use_backend("reference"):
        compiled(x)
        assert not last_graph_calls_native()
    if ops.native_fault():
        pytest.skip(ops.native_fault())
    compiled(x)
    assert last_graph_calls_native()
    with ops.use_backend("reference"):
        compiled(x)
    assert len(graphs.graphs) == 2  # both are kept, and guarded


def test_the_environment_chooses() -> None:
    code = "import fastlm.ops as o; print(o.explain()['softmax']['cpu']['pick'])"
    env = {**os.environ, "FASTLM_BACKEND": "reference"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "reference"


def test_a_typing_error_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "_environment", "nativ")
    with pytest.raises(ValueError, match="FASTLM_BACKEND: 'nativ' is no backend"):
        ops.softmax(torch.ones(2))


def test_a_library_that_does_not_load_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(_backend, "__file__", str(tmp_path / "ops" / "_backend.py"))
    monkeypatch.setattr(_backend, "_faults", {})
    _backend.load_native()
    assert "not built" in ops.native_fault()
    (tmp_path / "_C.abi3.so").write_bytes(b"no library")
    _backend.load_native()
    assert ops.native_fault().startswith("_C.abi3.so does not load: ")
