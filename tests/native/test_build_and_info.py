"""The library's binary interface, its choice of instruction set, builds without a compiler, and fastlm.info."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastlm import info, ops

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = next(iter(sorted((ROOT / "fastlm").glob("_C*.so"))), None)
needs_library = pytest.mark.skipif(ops.native_fault() is not None, reason=f"no native ops: {ops.native_fault()}")

# What an extension may ask of torch: the C shim of the stable ABI. Symbols of libc and libstdc++ carry a version.
SHIM = ("aoti_torch_", "torch_")


@needs_library
def test_only_the_stable_shim_is_used() -> None:
    """One binary serves every torch from 2.11 on because it names no C++ symbol of torch."""
    if shutil.which("nm") is None:
        pytest.skip("nm (binutils) is not installed")
    listing = subprocess.run(
        ["nm", "-D", "-C", "--undefined-only", str(LIBRARY)], capture_output=True, text=True, check=True
    )
    names = [line.split(maxsplit=1)[1] for line in listing.stdout.splitlines() if line.split()[0] == "U"]
    torch_names = [name for name in names if "@" not in name and not name.startswith("std::")]
    assert torch_names and all(name.startswith(SHIM) for name in torch_names), torch_names
    assert not [name for name in names if "at::" in name or "c10::" in name or "torch::" in name]


@needs_library
def test_environment_forces_an_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    choose, chosen = torch.ops.fastlm.set_cpu_isa, torch.ops.fastlm.cpu_isa
    monkeypatch.setenv("FASTLM_CPU_ISA", "portable")
    choose("")  # reads the environment again
    assert chosen() == "portable"
    monkeypatch.setenv("FASTLM_CPU_ISA", "sse9")
    with pytest.raises(RuntimeError, match="FASTLM_CPU_ISA: 'sse9' is not available"):
        choose("")
    assert chosen() == "portable"  # a refused choice changes nothing
    monkeypatch.delenv("FASTLM_CPU_ISA")
    choose("")
    assert chosen() == torch.ops.fastlm.cpu_isas_supported().split()[-1]


@needs_library
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3, dtype=torch.int32), None, 1.0), "x: dtype Int is not supported"),
        ((torch.zeros(2, 3), torch.ones(2, 3), 1.0), "mask: dtype Float, expected Bool"),
        ((torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool), 1.0), r"mask: shape \(2, 4\) does not broadcast"),
        ((torch.zeros(3), torch.ones(2, 3, dtype=torch.bool), 1.0), r"mask: shape \(2, 3\) does not broadcast"),
    ],
)
def test_registered_ops_refuse_what_they_cannot_read(arguments: tuple[object, ...], message: str) -> None:
    """Shape checks stand between a direct call of the registered op and memory that is not its own."""
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fastlm.softmax_forward(*arguments)


@needs_library
def test_registered_cross_entropy_refuses_wrong_shapes() -> None:
    forward = torch.ops.fastlm.cross_entropy_forward
    with pytest.raises(RuntimeError, match=r"targets: shape \(3\), expected \(2\)"):
        forward(torch.zeros(2, 5), torch.zeros(3, dtype=torch.int64), -100, 0.0)
    with pytest.raises(RuntimeError, match="targets: dtype Int, expected Long"):
        forward(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int32), -100, 0.0)
    with pytest.raises(RuntimeError, match=r"logits: shape \(2, 0\) has no classes"):
        forward(torch.zeros(2, 0), torch.zeros(2, dtype=torch.int64), -100, 0.0)


HIDDEN, WEIGHT, TARGETS = torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(2, dtype=torch.int64)


@needs_library
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((HIDDEN[0], WEIGHT, None, TARGETS), r"hidden: shape \(3\), expected \(N, d\)"),
        ((HIDDEN.double(), WEIGHT, None, TARGETS), "hidden: dtype Double is not supported"),
        ((HIDDEN, WEIGHT[:, :2], None, TARGETS), r"weight: shape \(5, 2\), expected \(V, 3\) with V > 0"),
        ((HIDDEN, WEIGHT.half(), None, TARGETS), "weight: dtype Half, expected Float"),
        ((HIDDEN, WEIGHT, WEIGHT[:4, 0], TARGETS), r"bias: shape \(4\), expected \(5\)"),
        ((HIDDEN, WEIGHT, None, TARGETS[:1]), r"targets: shape \(1\), expected \(2\)"),
    ],
)
def test_registered_linear_cross_entropy_refuses_wrong_shapes(arguments: tuple[object, ...], message: str) -> None:
    options = (-100, 0.0, 1 << 20, True, True, True)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fastlm.linear_cross_entropy_forward(*arguments, *options)
    with pytest.raises(RuntimeError, match=r"grad_row_loss: shape \(3\), expected \(2\)"):
        torch.ops.fastlm.linear_cross_entropy_backward(torch.zeros(3), HIDDEN, WEIGHT, None, TARGETS, *options)
    with pytest.raises(RuntimeError, match=r"lse: shape \(1\), expected \(2\)"):
        torch.ops.fastlm.cross_entropy_backward(
            torch.ones(2), torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64), torch.ones(1).double(), -100, 0.0
        )


def setup_in_copy(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``setup.py --version`` in a copy without sources: what it would build, it says before it builds."""
    (tmp_path / "fastlm").mkdir()
    shutil.copy(ROOT / "setup.py", tmp_path)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FASTLM_") and key != "CXX"}
    return subprocess.run(
        [sys.executable, "setup.py", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**clean, **environment},
    )


def test_without_a_compiler_one_line_says_so(tmp_path: Path) -> None:
    result = setup_in_copy(tmp_path, CXX="/no/such/compiler")
    lines = [line for line in result.stderr.splitlines() if line.startswith("fastlm:")]
    assert result.returncode == 0 and len(lines) == 1
    assert "no C++ compiler" in lines[0] and "PyTorch reference" in lines[0]
    assert json.loads((tmp_path / "fastlm/_build.json").read_text())["extensions"] == []


def test_no_ext_asks_for_nothing_and_require_ext_refuses(tmp_path: Path) -> None:
    result = setup_in_copy(tmp_path, FASTLM_NO_EXT="1")
    assert result.returncode == 0 and "FASTLM_NO_EXT=1 was set" in result.stderr
    shutil.rmtree(tmp_path / "fastlm")
    refused = setup_in_copy(tmp_path, CXX="/no/such/compiler", FASTLM_REQUIRE_EXT="1")
    assert refused.returncode != 0 and "FASTLM_REQUIRE_EXT=1" in refused.stderr


def test_info_is_json_and_names_every_op(capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main(["--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["torch"] == torch.__version__
    assert {"softmax", "cross_entropy"} <= set(facts["ops"])
    for devices in facts["ops"].values():
        for choice in devices.values():
            assert {choice["pick"], *choice["passed_over"]} == {"native", "triton", "reference"}
            assert all(choice["passed_over"].values())
    assert facts["cuda"]["available"] or facts["cuda"]["reason"]
    built_with_cuda = facts["build"]["cuda"] is not None and facts["build"]["cuda"]["built"]
    on_gpus = sorted(path.stem for path in (ROOT / "csrc" / "cuda").glob("*.cpp"))
    assert facts["cuda"]["kernels"] == (on_gpus if built_with_cuda and ops.native_fault() is None else [])


def test_info_text_shows_the_choice_and_its_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    info.main([])
    text = capsys.readouterr().out
    for needed in ("softmax (cpu)", "not triton:", "CPU kernels", "CUDA kernels"):
        assert needed in text
    if ops.native_fault() is None:
        assert torch.ops.fastlm.cpu_isa() in text


def test_info_says_why_there_are_no_native_ops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "_build.json").write_text(json.dumps({"extensions": [], "fault": "FASTLM_NO_EXT=1 was set"}))
    monkeypatch.setattr(info, "_PACKAGE", tmp_path)
    monkeypatch.setattr(ops, "native_fault", lambda: "the C++ ops are not built")
    facts = info.collect()
    assert facts["build"]["native_fault"] == "the C++ ops are not built; when it was installed, FASTLM_NO_EXT=1 was set"
    assert facts["cpu"]["chosen"] is None
    assert "not built" in info.render(facts)
