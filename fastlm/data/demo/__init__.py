"""The built-in demo corpus: Korean-English sentence pairs from a bilingual grammar, made on the spot.

Every pair is drawn by one seeded stream: a style of speech, a kind of sentence, then its words, inflected in both
languages at once. Repeats on either side are dropped, so `generate(seed, n)` begins `generate(seed, m)` for n < m.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fastlm.data.demo import causes, daily, descriptions, embedded, joined, korean, templates
from fastlm.data.demo.clauses import Draw
from fastlm.data.demo.topics import STYLES_OF
from fastlm.errors import DataError

CAPACITY = 2_000_000  # reached with 3.5 million draws; the long kinds alone hold many times more
_STYLES = ("plain",) * 7 + ("polite",) * 7 + ("formal",) * 3 + ("casual",) * 3
_SOURCES = (daily.KINDS, joined.KINDS, embedded.KINDS, causes.KINDS, descriptions.KINDS, templates.KINDS)
_KINDS = tuple(kind for kinds in _SOURCES for weight, kind in kinds for _ in range(weight))


class Sentence(NamedTuple):
    """A pair with the kind of sentence and the Korean style that made it."""

    ko: str
    en: str
    kind: str
    style: str


def sentences(seed: int = 0) -> Iterator[Sentence]:
    """The endless stream behind :func:`generate`, repeats included."""
    draw = Draw(seed)
    while True:
        style, kind = draw.pick(_STYLES), draw.pick(_KINDS)
        said_in = STYLES_OF.get(kind.__name__, korean.STYLES)
        if style not in said_in:
            style = draw.pick(said_in)
        ko, en = kind(draw, style)
        yield Sentence(ko, en, kind.__name__, style)


def distinct(seed: int, pairs: int) -> Iterator[Sentence]:
    """The first ``pairs`` sentences of the stream whose Korean and English are both new."""
    seen_ko: set[str] = set()
    seen_en: set[str] = set()
    for sentence in sentences(seed):
        if len(seen_ko) == pairs:
            return
        if sentence.ko not in seen_ko and sentence.en not in seen_en:
            seen_ko.add(sentence.ko)
            seen_en.add(sentence.en)
            yield sentence


def generate(seed: int = 0, pairs: int = 100_000) -> list[tuple[str, str]]:
    """``pairs`` (Korean, English) sentences, all distinct on both sides; the same for a seed on every machine.

    Raises:
        DataError: ``pairs`` is negative or more than the grammar is known to hold (:data:`CAPACITY`).
    """
    if not 0 <= pairs <= CAPACITY:
        raise DataError(
            f"the demo corpus has 0 to {CAPACITY:,} sentence pairs, not {pairs:,}; "
            "ask for fewer, or name your own text with --data"
        )
    return [(sentence.ko, sentence.en) for sentence in distinct(seed, pairs)]
