"""Tables stay aligned when a cell holds Hangul."""

from __future__ import annotations

from fastlm.text.columns import pad, widest


def test_hangul_takes_two_columns() -> None:
    assert widest(["news", "문어체_뉴스"]) == 11
    assert pad("문어", 6) == "문어  "
    assert pad("abcd", 6) == "abcd  "
