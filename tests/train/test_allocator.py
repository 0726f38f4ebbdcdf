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
def touch(times):
    for _ in range(times):
        torch.ones(16 << 20)  # 64 MiB: 16,384 pages
# glibc before 2.38 looks for an aligned block with room for the worst alignment: a freed one of just that size does not
# serve while a small block lies behind it. After some blocks (7 seen) one is free that does.
touch(24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch(4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_used_again() -> None:
    faults = {
        way: int(subprocess.run([sys.executable, "-c", COUNT_FAULTS, way], capture_output=True, check=True).stdout)
        for way in ("keep", "give back")
    }
    assert faults["keep"] < 100 < 4 * 16_000 < faults["give back"]
