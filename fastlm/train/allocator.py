"""The C library's allocator, told to keep what it is given back.

glibc maps each large block from the kernel and unmaps it when it is freed. A training step frees and takes gradients
and activations of hundreds of megabytes, and the kernel clears and maps them page by page each time: docs/log.md has
what that costs.
"""

from __future__ import annotations

import ctypes
import sys

#: mallopt(3): parameters, by their numbers in malloc.h
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1


def keep_freed_memory() -> bool:
    """Makes this process keep freed memory and use it again; whether the C library can.

    Resident memory then stays at its peak instead of falling between peaks. On systems without glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # -1 is the largest threshold: it is read as unsigned.
    return mallopt is not None and all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])
