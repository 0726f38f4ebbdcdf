"""The CPU kernels compiled alone, without torch, on every instruction set of this machine.

The kernels are unoptimised on purpose: nothing is inlined, so that a function which escaped its instruction set's
pragma meets another calling convention and shows (an implicit constructor once did), and every load and store is where
the source has it.
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
RACE = 66  # the thread sanitizer's exit status


def build(folder: Path, *sanitizer: str) -> Path:
    """kernels_test with every instruction set, compiled and linked with these flags."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"no C++ compiler ({COMPILER[0]}) to build the kernels with")
    levels = dict.fromkeys(sorted((ROOT / "kernels/cpu").glob("*.cpp")), "-O0")
    levels[ROOT / "tests/native/kernels_test.cpp"] = "-O1"  # what the kernels are compared with takes longest
    flags = ["-std=c++17", "-g1", "-Werror=psabi", f"-I{ROOT}", *sanitizer]
    objects = [folder / f"{source.stem}.o" for source in levels]
    compilers = [
        subprocess.Popen([*COMPILER, *flags, level, "-c", str(source), "-o", str(out)], stderr=subprocess.PIPE)
        for (source, level), out in zip(levels.items(), objects, strict=True)
    ]
    for process in compilers:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    binary = folder / "kernels_test"
    subprocess.run([*COMPILER, *flags, *map(str, objects), "-o", str(binary)], check=True)
    return binary


def run(binary: Path, deal: str) -> subprocess.CompletedProcess[str]:
    """The test with rows and heads dealt in one of its ways, up to the first fault."""
    environment = {**os.environ, "TSAN_OPTIONS": f"halt_on_error=1 exitcode={RACE}"}
    return subprocess.run([str(binary), deal], capture_output=True, text=True, timeout=240, env=environment)


def test_kernels_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    result = run(build(tmp_path, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"), "pieces")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "portable: passed" in result.stdout


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test under the thread sanitizer, which follows every access but not, for half the time, every call."""
    return build(
        tmp_path_factory.mktemp("threads"), "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "-pthread"
    )


def run_threaded(binary: Path, deal: str) -> subprocess.CompletedProcess[str]:
    result = run(binary, deal)
    if "unexpected memory mapping" in result.stderr:
        pytest.skip(
            "the thread sanitizer cannot place its memory under this much randomisation of addresses; `sysctl "
            "vm.mmap_rnd_bits=28` lets it"
        )
    return result


def test_kernels_on_threads_share_no_memory(threaded: Path) -> None:
    result = run_threaded(threaded, "threads")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "portable: passed" in result.stdout


def test_the_sanitizer_sees_ranges_that_overlap(threaded: Path) -> None:
    result = run_threaded(threaded, "overlapping")
    assert result.returncode == RACE, result.stdout + result.stderr
    assert "data race" in result.stderr


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
