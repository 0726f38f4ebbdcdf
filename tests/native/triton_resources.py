"""``python -m tests.native.triton_resources``: what shipped Triton kernels take of a GPU, to ``triton_resources.txt``.

Compiled ahead of time, which needs no GPU: ptxas and cuobjdump are in Triton's wheel. A stack means spilled registers.
All of it takes a quarter of an hour on two cores, so ``--check``, which CI runs, holds the table to the sources that it
is of (by their hash), to what these ship, and to a sample that it compiles again.
"""

from __future__ import annotations

import argparse
import hashlib
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
SAMPLE = 16  # one of so many is compiled again
SOURCES = Path(__file__).resolve().parents[2] / "kernels" / "triton"
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


def jobs() -> list[tuple[str, int, int]]:
    """Every configuration on every architecture."""
    return [(op, i, arch) for op, i in configurations() for arch in ARCHS]


def measure(chosen: list[tuple[str, int, int]]) -> list[tuple[Compiled, bool]]:
    """Compiled side by side, in their order."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(compile_one, chosen, chunksize=1)


def faults(found: list[tuple[Compiled, bool]]) -> list[str]:
    """Configurations that spill, or do not multiply where they should."""
    spilt = [f"{kernel.name} on sm_{kernel.arch}: {kernel.stack} bytes of stack" for kernel, _ in found if kernel.stack]
    slow = [
        f"{kernel.name} on sm_{kernel.arch}: tensor cores {'' if wanted else 'not '}expected"
        for kernel, wanted in found
        if kernel.tensor_cores != wanted
    ]
    return spilt + slow


def header() -> str:
    """Triton's version, which allocates registers in its own way, and the hash of the kernels' sources."""
    import triton

    sources = hashlib.sha256()
    for path in sorted(SOURCES.glob("*.py")):
        sources.update(path.name.encode() + path.read_bytes())
    return f"triton {triton.__version__}, sources {sources.hexdigest()[:16]}"


def read_table() -> tuple[str, list[Compiled]]:
    """The table's header and lines."""
    first, _, *lines = TABLE.read_text().splitlines()
    found = []
    for line in lines:
        arch, registers, shared, stack, cores, name = line.split(maxsplit=5)
        sizes = (int(arch.removeprefix("sm_")), int(registers), int(shared), int(stack))
        found.append(Compiled(name, *sizes, tensor_cores=cores == "yes"))
    return first, found


def check() -> list[str]:
    """What is wrong with the table."""
    first, lines = read_table()
    remedy = "run `make triton-resources`"
    version, sources = (part.rpartition(" ")[2] for part in first.split(", "))
    now_version, now_sources = (part.rpartition(" ")[2] for part in header().split(", "))
    if sources != now_sources:
        return [f"triton_resources.txt is of other sources: {remedy}"]
    every = jobs()
    wanted = [(job[0], *_expected(*job)) for job in every]
    shipped = [(f"{op}: {name}", arch) for op, name, arch, _ in wanted]
    if [(line.name, line.arch) for line in lines] != shipped:
        return [f"triton_resources.txt lists other configurations than are shipped: {remedy}"]
    problems = faults([(line, cores) for line, (*_, cores) in zip(lines, wanted, strict=True)])
    sample = range(0, len(every), SAMPLE)
    again = measure([every[i] for i in sample])
    problems += faults(again)
    if version == now_version:
        problems += [f"is now: {new}" for i, (new, _) in zip(sample, again, strict=True) if new != lines[i]]
    return problems


def _expected(op: str, i: int, arch: int) -> tuple[str, int, bool]:
    configuration = list(importlib.import_module(f"fastlm.kernels.{op}").shipped())[i]
    return configuration.name, arch, configuration.tensor_cores


def main() -> int:
    """Write the table, or with ``--check`` say what is wrong with it."""
    parser = argparse.ArgumentParser(prog="python -m tests.native.triton_resources", description=__doc__)
    parser.add_argument("--check", action="store_true", help="hold the table to what is shipped instead")
    if parser.parse_args().check:
        problems = check()
    else:
        found = measure(jobs())
        problems = faults(found)
        TABLE.write_text("\n".join([header(), HEADER, *(str(kernel) for kernel, _ in found)]) + "\n")
    print("\n".join(problems or ["nothing spills"]))
    return min(len(problems), 1)


if __name__ == "__main__":
    raise SystemExit(main())
