"""The spool gives back what was put in, in bounded chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastlm.data import spool as module
from fastlm.data.spool import Spool, Texts


def test_round_trip_and_columns(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.add("news", 7, {"ko": "안녕하세요\u2028", "en": "hello\r"})
        spool.add("talk", 1, {"en": "hello\r"})
        spool.add("talk", 2, {"en": "hello\r", "ko": "안녕하세요\u2028"})
        found = spool.finish()
        everything = Texts(spool, found.sizes, np.ones(5, dtype=bool))
        assert list(everything) == ["hello\r", "안녕하세요\u2028", "hello\r", "hello\r", "안녕하세요\u2028"]
        assert list(everything) == list(everything) and len(everything) == 5  # as often as one likes
        some = Texts(spool, found.sizes, np.array([False, True, False, True, False]))
        assert list(some) == ["안녕하세요\u2028", "hello\r"]
    assert found.characters.tolist() == [6, 6, 6, 6, 6]
    assert found.rows.tolist() == [0, 0, 1, 2, 2]
    assert found.source_rows.tolist() == [7, 7, 1, 2, 2]
    assert [found.language_names[i] for i in found.languages] == ["en", "ko", "en", "en", "ko"]
    assert [found.domain_names[i] for i in found.domains] == ["news", "news", "talk", "talk", "talk"]
    # The same pair in another domain, and with its columns the other way round, is the same row.
    assert (found.row_hashes[0] == found.row_hashes[2]).all()
    assert (found.row_hashes[0] != found.row_hashes[1]).any()
    assert (found.side_hashes[0] == found.side_hashes[2]).all()
    assert not list(tmp_path.iterdir())


def test_the_languages_of_a_row_are_part_of_it(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.add("a", 1, {"ko": "same", "en": "other"})
        spool.add("a", 2, {"ko": "other", "en": "same"})
        found = spool.finish()
    assert (found.row_hashes[0] != found.row_hashes[1]).any()


def test_chunks_are_bounded_and_a_larger_sentence_comes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_SENTENCES", 4)
    monkeypatch.setattr(module, "CHUNK_BYTES", 100)
    texts = ["a" * size for size in (10, 10, 10, 10, 10, 60, 60, 500, 3, 99, 1, 1)]
    with Spool(tmp_path) as spool:
        for row, text in enumerate(texts):
            spool.add("d", row, {"en": text})
        found = spool.finish()
        wanted = np.ones(len(texts), dtype=bool)
        wanted[1] = False
        chunks = list(Texts(spool, found.sizes, wanted).chunks())
    assert [text for chunk in chunks for text in chunk] == [text for index, text in enumerate(texts) if index != 1]
    assert all(len(chunk) <= 4 and (sum(map(len, chunk)) <= 100 or len(chunk) == 1) for chunk in chunks)
