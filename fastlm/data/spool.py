"""Source text on its way into a store: spooled to a scratch file, hashed, and read again in chunks.

Sources are read once (they may be slow: spreadsheets, archives). Their texts go to a file, and memory holds a few tens
of bytes per sentence, so that repeats, the split and the tokenizer can be settled before anything is encoded.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

CHUNK_SENTENCES = 32_768
CHUNK_BYTES = 1 << 23


@dataclass(frozen=True)
class Spooled:
    """What is known of the S sentences and R rows in a spool besides their text.

    Attributes:
        languages, domains: (S,) uint16, indexes into ``language_names`` and ``domain_names``.
        rows: (S,) int64, row of the spool, ascending. source_rows: (S,) int64, row in its own source.
        sizes, characters: (S,) int64, UTF-8 bytes and code points.
        side_hashes: (S, 2) uint64, of the text alone. row_hashes: (R, 2) uint64, of a row's languages and texts.
    """

    languages: NDArray[np.uint16]
    domains: NDArray[np.uint16]
    rows: NDArray[np.int64]
    source_rows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    characters: NDArray[np.int64]
    side_hashes: NDArray[np.uint64]
    row_hashes: NDArray[np.uint64]
    language_names: list[str]
    domain_names: list[str]


class Spool:
    """Appends rows of texts, then reads them back. A context manager; its file has no name, so it leaves nothing."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._languages: dict[str, int] = {}
        self._domains: dict[str, int] = {}
        self._columns = {name: array(code) for name, code in _COLUMNS.items()}
        self._side_hashes, self._row_hashes = bytearray(), bytearray()
        self.row_count = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, domain: str, source_row: int, texts: dict[str, str]) -> None:
        """Appends one row: a text per language."""
        identity = b""
        for language, text in sorted(texts.items()):
            data = text.encode()
            digest = _digest(data)
            identity += language.encode() + b"\0" + digest
            self._file.write(data)
            self._side_hashes += digest
            values = (
                self._languages.setdefault(language, len(self._languages)),
                self._domains.setdefault(domain, len(self._domains)),
                self.row_count,
                source_row,
                len(data),
                len(text),
            )
            for column, value in zip(self._columns.values(), values, strict=True):
                column.append(value)
        self._row_hashes += _digest(identity)
        self.row_count += 1

    def finish(self) -> Spooled:
        """Ends appending."""
        self._file.flush()
        return Spooled(
            **{name: np.array(values, dtype=values.typecode) for name, values in self._columns.items()},
            side_hashes=np.frombuffer(self._side_hashes, dtype=np.uint64).reshape(-1, 2),
            row_hashes=np.frombuffer(self._row_hashes, dtype=np.uint64).reshape(-1, 2),
            language_names=list(self._languages),
            domain_names=list(self._domains),
        )

    def read(self, first: int, count: int) -> bytes:
        """``count`` bytes from byte ``first``."""
        self._file.seek(first)
        return self._file.read(count)


class Texts:
    """The wanted ones of a spool's sentences, in order, as often as one likes.

    Args:
        spool: finished, still open.
        sizes: (S,) int64, bytes of each sentence.
        wanted: (S,) bool.
    """

    def __init__(self, spool: Spool, sizes: NDArray[np.int64], wanted: NDArray[np.bool_]) -> None:
        self._spool, self._sizes, self._wanted = spool, sizes, wanted

    def __len__(self) -> int:
        return int(self._wanted.sum())

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.chunks())

    def chunks(self) -> Iterator[list[str]]:
        """Lists of bounded size in sentences and bytes (one larger sentence comes alone)."""
        ends = np.cumsum(self._sizes)
        first, total = 0, len(ends)
        while first < total:
            begin = int(ends[first] - self._sizes[first])
            last = int(np.searchsorted(ends, begin + CHUNK_BYTES, side="right"))
            last = min(max(last, first + 1), first + CHUNK_SENTENCES)
            numbers = first + np.flatnonzero(self._wanted[first:last])
            if len(numbers):
                data = self._spool.read(begin, int(ends[last - 1]) - begin)
                stops = ends[numbers] - begin
                bounds = zip((stops - self._sizes[numbers]).tolist(), stops.tolist(), strict=True)
                yield [data[a:b].decode() for a, b in bounds]
            first = last


_COLUMNS = {"languages": "H", "domains": "H", "rows": "q", "source_rows": "q", "sizes": "q", "characters": "q"}


def _digest(data: bytes) -> bytes:
    """128 bits of BLAKE2b: no text can be made to collide with another."""
    return hashlib.blake2b(data, digest_size=16).digest()
