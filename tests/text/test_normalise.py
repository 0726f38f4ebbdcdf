"""The normal form of text (faults.md rows 24, 25)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlm.text.normalise import REMOVED, normalise


@pytest.mark.parametrize("text", ["안녕하세요", "한국어 처리", "café", "각 깎 뷁"])
def test_nfd_becomes_nfc(text):
    assert normalise(unicodedata.normalize("NFD", text)) == text


@pytest.mark.parametrize(
    "kept", ["ㅋㅋㅋ ㅠㅠ", "ｱﾊﾟｰﾄ ＡＢ", "👩\u200d👩\u200d👧", "a\u200cb", "a\tb\rc", "a\u2028b\u2029c", "ﾡ"]
)
def test_kept_as_it_is(kept):
    assert normalise(kept) == kept


def test_invisible_characters_are_removed_before_composition():
    assert normalise("안\u200b녕\x00하\ufeff세\u2060요") == "안녕하세요"
    assert normalise("e\u200b\u0301") == "é"
    assert set(REMOVED) == set("\x00\u200b\u2060\ufeff")


@given(st.text())
def test_idempotent_and_nfc(text):
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not set(REMOVED) & set(once)
