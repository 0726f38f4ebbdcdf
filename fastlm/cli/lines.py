"""Text of a file or of standard input, some lines at a time."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from fastlm.errors import DataError

#: lines that are read before the first answer is written
LINES_AT_ONCE = 1024


def chunks(path: str) -> Iterator[list[str]]:
    """Lines without their ends; ``-`` is standard input.

    Raises:
        DataError: no such file, or not UTF-8.
    """
    lines = _lines(path)
    while chunk := list(itertools.islice(lines, LINES_AT_ONCE)):
        yield chunk


def _lines(path: str) -> Iterator[str]:
    if path == "-":
        yield from (line.rstrip("\r\n") for line in sys.stdin)
        return
    try:
        with Path(path).open(encoding="utf-8", newline="\n") as file:
            yield from (line.rstrip("\r\n") for line in file)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
