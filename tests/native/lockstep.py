"""Builds the CUDA kernels for the host, where kernels/cuda/lockstep runs and checks them."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch.utils.cpp_extension import include_paths, library_paths

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX", "c++").split()
# Functions stay whole under --coverage, so that lines are counted where they are.
# Hardened builds take a longjmp from one fiber's stack to another's for an attack.
FLAGS = ["-std=c++17", "-O1", "-g1", "-fPIC", "-ffp-contract=off", "-U_FORTIFY_SOURCE"]
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter"]
LOCKSTEP = ["kernels/cuda/lockstep/*.cpp"]
KERNELS = ["kernels/cuda/*.cu"]
OPS = ["csrc/cuda/*.cpp"]


def sources(root: Path, *patterns: str) -> list[Path]:
    """Files below ``root`` that match, in a fixed order."""
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def compile_all(root: Path, files: list[Path], folder: Path, flags: list[str]) -> list[Path]:
    """Object files of these sources, compiled as C++ side by side.

    Raises:
        RuntimeError: with the compiler's words.
    """

    def compile_one(source: Path) -> Path:
        out = folder / f"{source.parent.name}_{source.stem}.o"
        # Reports name files as the repository does.
        paths = [f"-I{root}", f"-fmacro-prefix-map={root}/="]
        command = [*COMPILER, *FLAGS, *WARNINGS, *flags, *paths, "-x", "c++", "-c", str(source), "-o", str(out)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        return out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, files))


def link_program(program: Path, objects: list[Path]) -> Path:
    """The executable ``program`` of these objects."""
    subprocess.run([*COMPILER, *map(str, objects), "-o", str(program)], check=True)
    return program


def torch_flags() -> list[str]:
    """What csrc is compiled with here."""
    includes = [f"-isystem{path}" for path in include_paths()]
    return [*includes, "-DFASTLM_LOCKSTEP", "-DTORCH_TARGET_VERSION=0x020b000000000000"]


def library_folder() -> Path:
    """Where the library of these very sources is built and its line counters lie."""
    digest = hashlib.sha256(repr((COMPILER, FLAGS, sys.version, library_paths())).encode())
    for path in sources(ROOT, "kernels/*.h", "kernels/cuda/**/*", "csrc/*.h", "csrc/cuda/*"):
        if path.is_file():
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return ROOT / "build" / "lockstep" / digest.hexdigest()[:16]


def last_kernel() -> str:
    """The name, mangled, of the kernel that ran last."""
    name = ctypes.CDLL(str(build_library())).fastlm_lockstep_kernel
    name.restype = ctypes.c_char_p
    return name().decode()


def build_library() -> Path:
    """The ops as a library that registers them as ``fastlm_lockstep``, with line counters; built once per source.

    Raises:
        RuntimeError: the compiler's words.
    """
    files = sources(ROOT, *LOCKSTEP, *KERNELS, *OPS)
    folder = library_folder()
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "fastlm_lockstep.so"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            objects = compile_all(ROOT, files, folder, ["--coverage", *torch_flags()])
            link = [f"-L{path}" for path in library_paths()]
            unfinished = library.with_suffix(".part")
            command = [*COMPILER, "-shared", "--coverage", *map(str, objects), *link, "-ltorch", "-ltorch_cpu", "-lc10"]
            subprocess.run([*command, "-o", str(unfinished)], check=True)
            unfinished.rename(library)
    return library
