"""fastlm: fast pre-training of encoder and decoder language models on one's own Korean-English text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastlm.api import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``fastlm.load``, without importing torch before it is asked for."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastlm.api import load

    return load
