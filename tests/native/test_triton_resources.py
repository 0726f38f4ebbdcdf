"""What the Triton kernels take of a GPU: as the checked-in table says, without spills, and on tensor cores."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys

import pytest

from fastlm import ops
from tests.native import triton_resources
from tests.native.lockstep import ROOT


@pytest.mark.timeout(900)
def test_every_shipped_configuration_compiles_as_the_table_says() -> None:
    if ops.triton_fault():
        pytest.skip(ops.triton_fault())
    command = [sys.executable, "-m", "tests.native.triton_resources", "--check"]
    # The interpreter's kernels cannot be compiled.
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "0"}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_spills_and_missing_tensor_cores_are_told() -> None:
    kernel = triton_resources.Compiled("op: kernel", 90, registers=255, shared=0, stack=8, tensor_cores=False)
    assert triton_resources.faults([(kernel, True)]) == [
        "op: kernel on sm_90: 8 bytes of stack",
        "op: kernel on sm_90: tensor cores expected",
    ]


def test_no_global_of_the_kernels_is_nan() -> None:
    """Triton compiles again, and then refuses, where a global is not what it was: NaN never is."""
    if ops.triton_fault():
        pytest.skip(ops.triton_fault())
    kernels = importlib.import_module("fastlm.kernels")
    names = [f"{kernels.__name__}.{module.name}" for module in pkgutil.iter_modules(kernels.__path__)]
    found = [
        f"{name}.{key}"
        for name in names
        for key, value in vars(importlib.import_module(name)).items()
        if getattr(value, "value", value) != getattr(value, "value", value)
    ]
    assert len(names) > 5 and not found
