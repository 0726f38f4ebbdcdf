"""Columns of a terminal: Hangul takes two of them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len


def widest(texts: Iterable[str]) -> int:
    """Terminal columns of the widest text."""
    return max(map(cell_len, texts))


def pad(text: str, width: int) -> str:
    """``text`` filled up with spaces to ``width`` terminal columns."""
    return text + " " * (width - cell_len(text))
