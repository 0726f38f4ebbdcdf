"""``python -m tests.native.triton_resources``: what shipped Triton kernels take of a GPU, to ``triton_resources.txt``.

Compiled ahead of time, which needs no GPU: ptxas and cuobjdump are in Triton's wheel. A stack means spilled registers.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("triton_resources.txt")
ARCHS = (80, 90, 100)
HEADER = f"{'arch':<6} {'registers':>9} {'shared':>7} {'stack':>5} {'tensor cores':>12}  kernel"

_USAGE = re.compile(r"REG:(?P<registers>\d+) STACK:(?P<stack>\d+) SHARED:(?P<shared>\d+)")
_TENSOR_CORES = re.compile(r"\b(HMMA|HGMMA|UTC\w*MMA)\b")


@dataclass(frozen=True)
class Compiled:
    """A kernel on one architecture; sizes in bytes."""

    name: str
    arch: int
    registers: int
    shared: int
    stack: int
    tensor_cores: bool

    def __str__(self) -> str:
        cores = "yes" if self.tensor_cores else "-"
        return f"sm_{self.arch:<3} {self.registers:>9} {self.shared:>7} {self.stack:>5} {cores:>12}  {self.name}"


def configurations() -> Iterator[tuple[str, int]]:
    """Module and place of every shipped configuration."""
    kernels = importlib.import_module("fastlm.kernels")
    for op in kernels.OPS:
        shipped = list(importlib.import_module(f"fastlm.kernels.{op}").shipped())
        assert len({configuration.name for configuration in shipped}) == len(shipped), f"{op}: a name twice"
        for i in range(len(shipped)):
            yield op, i


def compile_one(job: tuple[str, int, int]) -> tuple[Compiled, bool]:
    """One configuration for one architecture, and whether it should use tensor cores."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    op, i, arch = job
    configuration = list(importlib.import_module(f"fastlm.kernels.{op}").shipped())[i]
    source = ASTSource(configuration.kernel, configuration.signature, configuration.constants)
    options = {"num_warps": configuration.num_warps, "num_stages": configuration.num_stages}
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cubin"
        path.write_bytes(made.asm["cubin"])
        usage = _USAGE.search(_cuobjdump("--dump-resource-usage", path))
        sass = _cuobjdump("--dump-sass", path)
    assert usage is not None, configuration.name
    sizes = {name: int(value) for name, value in usage.groupdict().items()}
    # What a kernel asks for at its launch is in no section of the file.
    sizes["shared"] = max(sizes["shared"], int(made.metadata.shared))
    found = Compiled(f"{op}: {configuration.name}", arch, tensor_cores=bool(_TENSOR_CORES.search(sass)), **sizes)
    return found, configuration.tensor_cores


def _cuobjdump(option: str, path: Path) -> str:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([str(tool), option, str(path)], capture_output=True, text=True, check=True).stdout


def measure() -> list[tuple[Compiled, bool]]:
    """Every configuration on every architecture, side by side."""
    jobs = [(op, i, arch) for op, i in configurations() for arch in ARCHS]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(compile_one, jobs, chunksize=1)


def faults(found: list[tuple[Compiled, bool]]) -> list[str]:
    """Configurations that spill, or do not multiply where they should."""
    spilt = [f"{kernel.name} on sm_{kernel.arch}: {kernel.stack} bytes of stack" for kernel, _ in found if kernel.stack]
    slow = [
        f"{kernel.name} on sm_{kernel.arch}: tensor cores {'' if wanted else 'not '}expected"
        for kernel, wanted in found
        if kernel.tensor_cores != wanted
    ]
    return spilt + slow


def table(found: list[tuple[Compiled, bool]]) -> str:
    """The table's text, headed by Triton's version, which allocates registers in its own way."""
    import triton

    return "\n".join([f"triton {triton.__version__}", HEADER, *(str(kernel) for kernel, _ in found)]) + "\n"


def main() -> int:
    """Write the table, or with ``--check`` compare with it."""
    parser = argparse.ArgumentParser(prog="python -m tests.native.triton_resources", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the table instead, if it is of this Triton")
    check = parser.parse_args().check
    found = measure()
    problems = faults(found)
    text, written = table(found), TABLE.read_text() if TABLE.exists() else ""
    if not check:
        TABLE.write_text(text)
    elif text != written and text.split("\n", 1)[0] == written.split("\n", 1)[0]:
        old = set(written.splitlines())
        changed = [line for line in text.splitlines() if line not in old]
        problems += ["not as in triton_resources.txt (run `python -m tests.native.triton_resources`):", *changed]
    print("\n".join([f"{len(found)} kernels compiled", *problems]))
    return min(len(problems), 1)


if __name__ == "__main__":
    raise SystemExit(main())
