"""The CPU kernels compiled alone, without torch, on every instruction set of this machine.

Unoptimised on purpose: nothing is inlined, so that a function which escaped its instruction set's pragma meets another
calling convention and shows (an implicit constructor once did), and every load and store is where the source has it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX", "c++").split()


def test_kernels_under_sanitizers(tmp_path: Path) -> None:
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"no C++ compiler ({COMPILER[0]}) to build the kernels with")
    sources = [*sorted((ROOT / "kernels/cpu").glob("*.cpp")), ROOT / "tests/native/kernels_test.cpp"]
    flags = ["-std=c++17", "-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Werror=psabi"]
    objects = [tmp_path / f"{source.stem}.o" for source in sources]
    compilers = [
        subprocess.Popen([*COMPILER, *flags, f"-I{ROOT}", "-c", str(source), "-o", str(out)], stderr=subprocess.PIPE)
        for source, out in zip(sources, objects, strict=True)
    ]
    for process in compilers:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    binary = tmp_path / "kernels_test"
    subprocess.run([*COMPILER, *flags, *map(str, objects), "-o", str(binary)], check=True)
    result = subprocess.run([str(binary)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "portable: passed" in result.stdout


@pytest.mark.parametrize("isa", ["avx2", "avx512_bf16"])
def test_wide_code_stays_in_its_namespace(tmp_path: Path, isa: str) -> None:
    """A weak symbol outside the namespace could be linked into code that must run on any processor."""
    if shutil.which(COMPILER[0]) is None or shutil.which("nm") is None:
        pytest.skip("no C++ compiler or no nm")
    if platform.machine() != "x86_64":
        pytest.skip(f"{isa} is compiled on x86-64 only, this is {platform.machine()}")
    out = tmp_path / "isa.o"
    flags = ["-std=c++17", "-O0", "-Werror=psabi", f"-I{ROOT}"]
    subprocess.run([*COMPILER, *flags, "-c", str(ROOT / f"kernels/cpu/isa_{isa}.cpp"), "-o", str(out)], check=True)
    symbols = subprocess.run(
        ["nm", "-C", "--defined-only", str(out)], capture_output=True, text=True, check=True
    ).stdout
    strays = [line for line in symbols.splitlines() if f"fastlm::cpu::{isa}::" not in line]
    assert symbols and not strays, strays
