"""The machine (``facts``), and what the installed package runs on it (``installed``)."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.records import Records

QUERY = "name,driver_version,memory.total,power.limit,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,temperature.gpu"
PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "pytest",
    "pytest-xdist",
    "setuptools",
    "ninja",
    "liger-kernel",
    "quack-kernels",
)


def output_of(*command: str) -> str:
    """What a command prints, or why it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be asked: {error}"
    return (done.stdout or done.stderr).strip()


def cuda_tool(name: str) -> str | None:
    """Where a program of the CUDA toolkit is, or None."""
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    places = [home / "bin" / name, home / name / name]
    return shutil.which(name) or next((str(path) for path in places if path.exists()), None)


def version(package: str) -> str | None:
    """Of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """GPU, clocks, driver, compilers and packages."""
    gpu = torch.cuda.get_device_properties(0)
    answer = output_of("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader").split("\n")[0]
    values = [value.strip() for value in answer.split(",")]
    asked = QUERY.split(",")
    nvcc = cuda_tool("nvcc")
    return {
        "gpu": gpu.name,
        "capability": f"{gpu.major}.{gpu.minor}",
        "multiprocessors": gpu.multi_processor_count,
        "memory_bytes": gpu.total_memory,
        "l2_bytes": gpu.L2_cache_size,
        "nvidia_smi": dict(zip(asked, values, strict=True)) if len(values) == len(asked) else answer,
        "nvcc": output_of(nvcc, "--version").split("\n")[-1] if nvcc else None,
        "compute_sanitizer": cuda_tool("compute-sanitizer"),
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "processors": len(os.sched_getaffinity(0)),
        "packages": {name: version(name) for name in PACKAGES},
    }


def picks() -> dict[str, Any]:
    """What each op runs on, on this GPU.

    Raises:
        RuntimeError: no op has CUDA kernels.
    """
    from fastlm import info, ops

    found = {op: devices["cuda"] for op, devices in ops.explain().items()}
    if not any(choice["pick"] == "native" for choice in found.values()):
        raise RuntimeError(f"no op has CUDA kernels in this build: {ops.native_fault() or info.collect()['build']}")
    return {"ops": found, "build": info.collect()["build"]}


def main() -> int:
    records = Records()
    records.attempt(sys.argv[1], {"facts": machine, "installed": picks}[sys.argv[1]])
    return records.failed


if __name__ == "__main__":
    raise SystemExit(main())
