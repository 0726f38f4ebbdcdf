"""Which language a file or a column holds: by its name, else by its script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LANGUAGE_NAMES = {
    **dict.fromkeys(("ko", "kor", "kr", "korean", "한국어", "국문", "한글"), "ko"),
    **dict.fromkeys(("en", "eng", "english", "영어", "영문"), "en"),
}
# Long enough to be a language at the start of a longer word, as in koreantext.txt
_PREFIXES = ("korean", "english", "한국어", "국문", "한글", "영어", "영문")
_WORD = re.compile(r"[^\W_]+")
_HANGUL = re.compile("[가-힣ᄀ-ᇿㄱ-ㅎㅏ-ㅣ]")
_LATIN = re.compile("[A-Za-z]")


def plain_name(name: str) -> str:
    """A column's or file's name for comparison: NFC, lower case, trimmed."""
    return unicodedata.normalize("NFC", name).strip().lower()


def language_of_word(word: str) -> str:
    """The language that a lower-case word names, or nothing."""
    if word in LANGUAGE_NAMES:
        return LANGUAGE_NAMES[word]
    return next((LANGUAGE_NAMES[p] for p in _PREFIXES if word.startswith(p)), "")


def language_of_name(stem: str) -> tuple[str, str]:
    """The language tag in a file's stem, and the stem without it.

    A tag is a whole word of the name (``x_en``, ``en``, ``train.ko``, ``korean-news``). A language as the last part
    after a dot wins (``OpenSubtitles.en-ko.ko``); otherwise two different tags say nothing, and the script decides.
    """
    stem = unicodedata.normalize("NFC", stem)
    last = stem.rpartition(".")[2]
    if "." in stem and (language := language_of_word(last.lower())):
        return language, stem[: -len(last) - 1]
    tags = [(m, language) for m in _WORD.finditer(stem) if (language := language_of_word(m[0].lower()))]
    if len({language for _, language in tags}) != 1:
        return "", stem
    match, language = tags[-1]
    rest = stem[: match.start()].rstrip("._- ") + stem[match.end() :]
    return language, rest.strip("._- ")


def language_of_texts(texts: Iterable[str]) -> str:
    """The language ("ko", "en" or nothing) by the script of most of the texts.

    A text is Korean where at least a fifth of its letters are Hangul (Korean prose quotes English names), Latin where
    nineteen twentieths are ASCII. Nine tenths of the texts must be Hangul for "ko" or Latin for "en"; four fifths
    will do for "ko", whose lists and headings hold many English names.
    """
    votes = {"ko": 0, "en": 0, "": 0}
    for text in texts:
        text = unicodedata.normalize("NFC", text)
        letters = sum(map(str.isalpha, text))
        if not letters:
            continue
        if len(_HANGUL.findall(text)) >= 0.2 * letters:
            votes["ko"] += 1
        elif len(_LATIN.findall(text)) >= 0.95 * letters:
            votes["en"] += 1
        else:
            votes[""] += 1
    total = sum(votes.values())
    if total and votes["ko"] >= 0.8 * total:
        return "ko"
    return "en" if total and votes["en"] >= 0.9 * total else ""
