"""``python -m tests.native.resources``: writes what every CUDA kernel takes of a GPU, by ptxas, to ``resources.txt``.

Registers decide how many warps share a multiprocessor, and spilled ones cost memory accesses, so a change of either is
to be seen in review. Shared memory is what ptxas knows of: the kernels ask for theirs at launch, where lockstep checks
it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.native.lockstep import KERNELS, ROOT, sources

TABLE = Path(__file__).with_name("resources.txt")
ARCHS = ["sm_80", "sm_90a"]
FLAGS = ["-O3", "-std=c++17", "-fmad=false"]  # those of setup.py that ptxas sees

_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<arch>\w+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, order=True)
class Kernel:
    """A kernel on one architecture; sizes in bytes."""

    name: str
    arch: str
    registers: int
    shared: int
    stack: int
    spills: int

    def __str__(self) -> str:
        sizes = f"{self.registers:>9} {self.shared:>6} {self.stack:>5} {self.spills:>6}"
        return f"{self.arch:<6} {sizes}  {self.name}"


HEADER = f"{'arch':<6} {'registers':>9} {'shared':>6} {'stack':>5} {'spills':>6}  kernel"


def find_nvcc() -> Path | None:
    """nvcc of CUDA_HOME, PATH or the usual place."""
    home = os.environ.get("CUDA_HOME")
    candidates = [home and f"{home}/bin/nvcc", shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]
    return next((Path(path) for path in candidates if path and Path(path).exists()), None)


def nvcc_version(nvcc: Path) -> str:
    """Such as ``13.0.88``: another one allocates registers in another way."""
    words = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r", V([\d.]+)", words)
    assert found is not None, words
    return found[1]


def compile_for(nvcc: Path, source: Path, arch: str) -> list[Kernel]:
    """The kernels of one file on one architecture, by name.

    Raises:
        RuntimeError: the compiler's words.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [str(nvcc), *FLAGS, f"-I{ROOT}", f"-arch={arch}", "-cubin", "-Xptxas=-v", str(source)]
        result = subprocess.run([*command, "-o", f"{folder}/cubin"], capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(result.stderr)
    return sorted(parse(result.stderr))


def parse(words: str) -> list[Kernel]:
    """What ``ptxas -v`` says."""
    entries = list(_ENTRY.finditer(words))
    names = demangle([entry["name"] for entry in entries])
    return [
        Kernel(
            name,
            entry["arch"],
            int(entry["registers"]),
            sum(int(size) for size in _SHARED.findall(entry["rest"])),
            int(entry["stack"]),
            int(entry["stores"]) + int(entry["loads"]),
        )
        for name, entry in zip(names, entries, strict=True)
    ]


def demangle(names: list[str]) -> list[str]:
    """Kernels as the source names them: entry<Kernel, Params>(Params) becomes Kernel, without namespaces."""
    result = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True)
    plain = [re.sub(r"\w+::", "", name).replace("> >", ">>") for name in result.stdout.splitlines()]
    return [re.sub(r"^void entry<(.*), \w+>\(.*\)$", r"\1", name) for name in plain]


def compile_all(nvcc: Path, files: list[Path]) -> dict[Path, list[Kernel]]:
    """Every file on every architecture, side by side."""
    jobs = [(file, arch) for file in files for arch in ARCHS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        kernels = list(pool.map(lambda job: compile_for(nvcc, *job), jobs))
    return {
        file: sorted(kernel for job, found in zip(jobs, kernels, strict=True) if job[0] == file for kernel in found)
        for file in files
    }


def read_table() -> tuple[str, dict[str, list[str]]]:
    """The nvcc that the table is of, and its lines by file."""
    first, _, *rest = TABLE.read_text().splitlines()
    files: dict[str, list[str]] = {}
    for line in rest:
        if line.endswith(".cu"):
            files[line] = []
        elif line:
            files[list(files)[-1]].append(line)
    return first.removeprefix("nvcc "), files


def main() -> None:
    """Write the table."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise SystemExit("nvcc was not found (set CUDA_HOME)")
    lines = [f"nvcc {nvcc_version(nvcc)}", HEADER]
    for file, kernels in compile_all(nvcc, sources(ROOT, *KERNELS)).items():
        lines += ["", file.name, *map(str, kernels)]
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
