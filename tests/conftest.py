"""Fixtures shared by every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Where there is no GPU, Triton's kernels run in its interpreter: fastlm asks for it when it is imported.
if os.environ.get("FASTLM_TEST_DEVICE", "cpu") == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real text beside the project (``FASTLM_SHARED`` overrides its place)."""
    root = Path(os.environ.get("FASTLM_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip(f"the shared real text is not on this machine ({root})")
    return root
