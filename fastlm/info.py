"""``python -m fastlm.info [--json]``: what this installation is, what was built, and what each op would run on.

The questions it answers are those of a bug report: which versions, whether the native library was compiled and loads,
which instruction set the CPU kernels chose, why there is no CUDA or Triton, and per op which backend runs and why not
the others.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent


def collect() -> dict[str, Any]:
    """Everything the command prints, JSON-serialisable; keys are stable, absent facts are None."""
    return {
        "versions": _versions(),
        "build": _build(),
        "cpu": _cpu(),
        "cuda": _cuda(),
        "triton": _triton(),
        "ops": _ops(),
        "environment": {key: value for key, value in sorted(os.environ.items()) if key.startswith("FASTLM_")},
    }


def _versions() -> dict[str, str | None]:
    import fastlm

    packages = ("torch", "numpy", "tokenizers", "safetensors", "transformers", "triton")
    return {
        "fastlm": fastlm.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _build() -> dict[str, Any]:
    from fastlm import ops

    sidecar = _PACKAGE / "_build.json"
    facts: dict[str, Any] = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.is_file() else {}
    libraries = {name: next((p.name for p in sorted(_PACKAGE.glob(f"{name}*.so"))), None) for name in ("_C", "_host")}
    fault = ops.native_fault()
    if fault is not None and facts.get("fault"):
        fault = f"{fault}; when it was installed, {facts['fault']}"
    return {
        "libraries": libraries,
        "native_fault": fault,
        **{key: facts.get(key) for key in ("torch", "torch_abi", "compiler", "cuda")},
    }


def _cpu() -> dict[str, Any]:
    import torch

    from fastlm import ops

    facts: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "built": [],
        "supported": [],
        "chosen": None,
        "fault": None,
    }
    if ops.native_fault() is None:
        queries = torch.ops.fastlm
        facts["built"] = queries.cpu_isas_built().split()
        facts["supported"] = queries.cpu_isas_supported().split()
        facts["fault"] = ops.cpu_isa_fault()
        facts["chosen"] = None if facts["fault"] else queries.cpu_isa()
    return facts


def _cuda() -> dict[str, Any]:
    import torch

    from fastlm import ops

    facts: dict[str, Any] = {"available": False, "devices": [], "reason": None, "kernels": ops.native_ops("cuda")}
    if torch.version.cuda is None:
        return {**facts, "reason": f"torch {torch.__version__} was built without CUDA"}
    if not torch.cuda.is_available():
        return {**facts, "reason": "torch has CUDA, but the driver shows no device"}
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {**facts, "available": True, "devices": devices}


def _triton() -> dict[str, Any]:
    from fastlm import ops

    return {"available": ops.triton_fault() is None, "reason": ops.triton_fault()}


def _ops() -> dict[str, Any]:
    from fastlm import ops

    return ops.explain()


def render(facts: dict[str, Any]) -> str:
    """The facts as aligned text."""
    build, cpu = facts["build"], facts["cpu"]
    rows: list[tuple[str, str]] = [(name, value or "not installed") for name, value in facts["versions"].items()]
    rows += [("", "")]
    rows += [(f"fastlm.{name}", file or "not built") for name, file in build["libraries"].items()]
    rows += [("built with", f"{build['compiler']}, torch {build['torch']}")] if build["compiler"] else []
    rows += [("native ops", build["native_fault"] or "loaded")]
    rows += [("CPU kernels", _isa_line(cpu)), ("CPU threads", str(cpu["threads"]))]
    rows += [("CUDA", ", ".join(facts["cuda"]["devices"]) or f"none: {facts['cuda']['reason']}")]
    rows += [("CUDA kernels", _cuda_kernels_line(facts))]
    rows += [("Triton", facts["triton"]["reason"] or "installed")]
    rows += [(key, value) for key, value in facts["environment"].items()]
    rows += [("", "")]
    for op, devices in facts["ops"].items():
        for device, choice in devices.items():
            rows.append((f"{op} ({device})", choice["pick"] or "nothing can run"))
            rows += [("", f"  not {family}: {reason}") for family, reason in choice["passed_over"].items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)


def _isa_line(cpu: dict[str, Any]) -> str:
    if not cpu["built"]:
        return "none"
    missing = [name for name in cpu["built"] if name not in cpu["supported"]]
    line = cpu["fault"] or f"{cpu['chosen']} of {', '.join(cpu['supported'])}"
    return f"{line} (this processor lacks {', '.join(missing)})" if missing else line


def _cuda_kernels_line(facts: dict[str, Any]) -> str:
    build = facts["build"]
    fault = build["native_fault"] or (build["cuda"] or {}).get("fault") or "this build has no record of itself"
    return ", ".join(facts["cuda"]["kernels"]) or f"none: {fault}"


def main(argv: list[str] | None = None) -> int:
    """Print the facts; ``--json`` for programs."""
    parser = argparse.ArgumentParser(
        prog="python -m fastlm.info", description="what was built, and what each op runs on"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    facts = collect()
    print(json.dumps(facts, indent=2) if parser.parse_args(argv).json else render(facts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
