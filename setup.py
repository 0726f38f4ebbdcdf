"""Builds the native parts: ``fastlm._C`` (the ops, LibTorch stable ABI) and ``fastlm._host`` (host loops, pybind11).

Metadata lives in pyproject.toml. Environment: ``FASTLM_NO_EXT=1`` builds neither, ``FASTLM_REQUIRE_EXT=1`` makes a
missing compiler an error instead of one line, ``MAX_JOBS`` bounds the compiler processes, ``CXX`` names the compiler,
``FASTLM_CUDA_ARCHS`` the GPUs to compile for where torch has CUDA ("8.0 9.0a"; default: this machine's, or CUDA_ARCHS).
Instruction sets are chosen when the ops run (kernels/cpu/isa.cpp); no flag here may depend on the building machine.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
TORCH_ABI = "0x020b000000000000"  # one binary serves every torch from 2.11 on
CUDA_ARCHS = "8.0 9.0a"  # where no GPU tells
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror=psabi"]
# No contraction: where the kernels want a product and a sum rounded once, they say fma.
COMMON_FLAGS = ["-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off", *WARNINGS]


def sources(*patterns: str) -> list[str]:
    """Repository-relative sources that match, in a fixed order."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def compiler_fault() -> str | None:
    """Why no extension can be compiled, or None."""
    if os.environ.get("FASTLM_NO_EXT") == "1":
        return "FASTLM_NO_EXT=1 was set"
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        return f"there is no C++ compiler ({compiler!r} was not found)"
    return None


def cuda_fault(cuda_sources: list[str]) -> str | None:
    """Why the ops are built without CUDA, or None."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    if not cuda_sources:
        return "this version has no CUDA kernels"
    if torch.version.cuda is None:
        return "torch was built without CUDA"
    if CUDA_HOME is None or not (Path(CUDA_HOME) / "bin" / "nvcc").exists():
        return "nvcc was not found (set CUDA_HOME)"
    return None


def ops_extension() -> tuple[Any, str | None]:
    """``fastlm._C`` and why it has no CUDA kernels (None where it has)."""
    import torch
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    files = sources("csrc/*.cpp", "csrc/cpu/*.cpp", "kernels/cpu/*.cpp")
    cuda_files = sources("csrc/cuda/*.cpp", "kernels/cuda/*.cu")
    fault = cuda_fault(cuda_files)
    flags = [*COMMON_FLAGS, "-std=c++17", "-fno-math-errno", f"-DTORCH_TARGET_VERSION={TORCH_ABI}"]
    options: dict[str, Any] = {"include_dirs": [str(ROOT)], "py_limited_api": True, "extra_link_args": ["-s"]}
    if fault is not None:
        return CppExtension("fastlm._C", files, extra_compile_args={"cxx": flags}, **options), fault
    flags.append("-DUSE_CUDA")
    if archs := os.environ.get("FASTLM_CUDA_ARCHS") or ("" if torch.cuda.is_available() else CUDA_ARCHS):
        os.environ["TORCH_CUDA_ARCH_LIST"] = archs
    # As in C++: no contraction, or softmax of one class is not 1.
    nvcc = ["-O3", "-std=c++17", "-fmad=false", "-Xcompiler=-fvisibility=hidden"]
    compile_args = {"cxx": flags, "nvcc": nvcc}
    return CUDAExtension("fastlm._C", files + cuda_files, extra_compile_args=compile_args, **options), None


def host_extension() -> Any:
    """``fastlm._host``: no torch, a plain pybind11 module."""
    import pybind11
    from setuptools import Extension

    return Extension(
        "fastlm._host",
        sources("csrc/host/*.cpp"),
        include_dirs=[str(ROOT), pybind11.get_include()],
        extra_compile_args=[*COMMON_FLAGS, "-std=c++17"],
        extra_link_args=["-s"],
        language="c++",
    )


def write_build_facts(facts: dict[str, Any]) -> None:
    """``fastlm/_build.json``, which ``python -m fastlm.info`` reads: what was built, for which torch, why not."""
    (ROOT / "fastlm" / "_build.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def compiler_version() -> str:
    """First line of ``c++ --version``."""
    command = [*os.environ.get("CXX", "c++").split(), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def build() -> dict[str, Any]:
    """Arguments of ``setup`` for what this machine can compile."""
    if (fault := compiler_fault()) is not None:
        if os.environ.get("FASTLM_REQUIRE_EXT") == "1":
            sys.exit(f"fastlm: {fault}, and FASTLM_REQUIRE_EXT=1 asks for the native ops")
        print(
            f"fastlm: building without native ops, because {fault}: everything works on the slower PyTorch reference; "
            "install a C++ compiler and reinstall to change that",
            file=sys.stderr,
        )
        write_build_facts({"extensions": [], "fault": fault})
        return {}

    import torch
    from torch.utils.cpp_extension import BuildExtension

    ops, cuda = ops_extension()
    extensions = [ops, host_extension()] if sources("csrc/host/*.cpp") else [ops]
    write_build_facts(
        {
            "extensions": [extension.name for extension in extensions],
            "fault": None,
            "torch": torch.__version__,
            "torch_abi": "2.11 (stable)",
            "compiler": compiler_version(),
            "machine": platform.machine(),
            "cuda": {"built": cuda is None, "version": torch.version.cuda, "fault": cuda},
        }
    )
    command = BuildExtension.with_options(no_python_abi_suffix=False, use_ninja=True)
    return {"ext_modules": extensions, "cmdclass": {"build_ext": command}}


# fastlm.kernels lies beside the kernels of the other backends.
setup(
    packages=[*find_packages(include=["fastlm*"]), "fastlm.kernels"],
    package_dir={"fastlm.kernels": "kernels/triton"},
    **build(),
)
