"""Freed memory is used again without asking the kernel for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, torch
from fastlm.train.allocator import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def touch():
    torch.ones(16 << 20)  # 64 MiB: 16,384 pages
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_memory_is_faulted_in_once() -> None:
    faults = {
        way: int(subprocess.run([sys.executable, "-c", COUNT_FAULTS, way], capture_output=True, check=True).stdout)
        for way in ("keep", "give back")
    }
    assert faults["keep"] < 100 < faults["give back"]
