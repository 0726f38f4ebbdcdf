"""Triton kernels of the ops, installed as ``fastlm.kernels``: each module is one op, imported when it first runs.

A module has a function for every schema of its op, under the registered name and with the registered signature
(fastlm/ops); what is around it, from checks to autograd, is that of the other backends.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Configuration:
    """A way in which a kernel is launched: what `triton.compile` needs to make it for any GPU.

    Every module of an op has a function ``shipped`` that gives all of its own.

    Attributes:
        name: for people.
        kernel: the `triton.JITFunction`.
        signature: argument -> type, as Triton names them (``*bf16``, ``i64``, ``fp32``, ``constexpr``).
        constants: argument -> value, of those that are known when it is compiled.
        num_warps, num_stages: as launched.
        tensor_cores: whether its products should run on tensor cores.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    num_warps: int
    num_stages: int
    tensor_cores: bool


#: op -> the registered names that its module has functions of
OPS: dict[str, tuple[str, ...]] = {
    "adam": ("adam_",),
    "attention": ("attention_forward", "attention_backward"),
    "cross_entropy": ("cross_entropy_forward", "cross_entropy_backward"),
    "layer_norm": ("layer_norm_forward", "layer_norm_backward"),
    "linear_cross_entropy": (
        "linear_cross_entropy_forward",
        "linear_cross_entropy_backward",
        "linear_cross_entropy_scaled",
    ),
    "softmax": ("softmax_forward", "softmax_backward"),
    "total_norm": ("total_norm",),
}


def register(into: torch.library.Library) -> None:
    """Register every kernel for GPUs, and for CPUs where Triton's interpreter is asked for (``TRITON_INTERPRET=1``)."""
    devices = ["CUDA", *(["CPU"] if interpreted() else [])]
    for op, names in OPS.items():
        for name in names:
            for device in devices:
                into.impl(name, _imported(op, name), device)


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter; it asks the environment, too, when a kernel is defined."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _imported(module: str, name: str) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(*args)

    return run
