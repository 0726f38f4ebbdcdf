"""Korean morphology: particles by final consonant, and conjugation with its irregular classes.

Endings are written as grammars write them, without the hyphen: a leading ``어`` stands for the harmonising ``-아/어``
(``었`` for ``-았/었``) and a leading ``(으)`` for the linking vowel, so that ``conjugate(word("듣다"), "(으)면")`` is
``들으면`` and ``conjugate(word("덥다"), "어요")`` is ``더워요``. An ending that differs between verbs and adjectives is
named by its verb form (``는``, ``는다``, ``는데``). Rules and irregular classes follow 한글 맞춤법, chapter 4.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

STYLES = ("plain", "casual", "polite", "formal")  # 해라체 as it is written, 해체, 해요체, 합쇼체
VERB, ADJECTIVE, EXISTENTIAL, COPULA, PAST = "verb", "adjective", "existential", "copula", "past"

_FIRST, _LAST = ord("가"), ord("힣")
_INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINALS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
# How a digit or a Latin letter ends when it is read aloud in Korean (7 칠, L 엘); the others end in a vowel.
_READ = {"0": "ㅇ", "1": "ㄹ", "3": "ㅁ", "6": "ㄱ", "7": "ㄹ", "8": "ㄹ", "L": "ㄹ", "M": "ㅁ", "N": "ㄴ", "R": "ㄹ"}

# The irregular classes, by the stem's last syllable; the smaller side of each is listed.
_IRREGULAR_D = ("듣", "걷", "깨닫", "싣")  # 받다, 닫다, 믿다, 얻다 are regular
_REGULAR_B = ("입", "잡", "뽑", "씹", "접", "집", "좁", "업", "꼽")
_IRREGULAR_S = ("짓", "낫", "붓", "잇", "긋", "젓")  # 웃다, 씻다, 벗다 are regular
_REGULAR_H = ("좋", "놓", "넣", "낳", "쌓", "닿")
_REGULAR_REU = ("따르", "치르", "들르", "다다르")  # only ㅡ falls: 따라
_IRREGULAR_REO = ("푸르",)  # 푸르러
_UNCONTRACTED = ("피", "비", "기")  # 피어, not 펴

_CONTRACTION = dict(zip("ㅏㅓㅐㅔㅕㅗㅜㅣㅚ", "ㅏㅓㅐㅔㅕㅘㅝㅕㅙ", strict=True))  # stem vowel + 아/어
_H_CONTRACTION = {"ㅏ": "ㅐ", "ㅑ": "ㅒ", "ㅓ": "ㅔ", "ㅕ": "ㅖ"}  # 빨갛 + 아: 빨개
_HONORIFIC_VERBS = {"먹": "드시", "마시": "드시", "자": "주무시", "말하": "말씀하시"}
# Endings after 이다: (after a consonant, after a vowel, after 아니-)
_COPULA = {
    "어": ("이야", "야", "야"),
    "어요": ("이에요", "예요", "에요"),
    "어서": ("이라서", "라서", "라서"),
    "었": ("이었", "였", "었"),
    "는다": ("이다", "다", "다"),
    "는다고": ("이라고", "라고", "라고"),
}
_ADJECTIVAL = {"는": "(으)ㄴ", "는데": "(으)ㄴ데", "는지": "(으)ㄴ지"}
_PARTICLES = {  # written form after a consonant: form after a vowel
    "은": "는", "이": "가", "을": "를", "과": "와", "이나": "나", "이랑": "랑", "으로": "로",
    "이라는": "라는", "이라고": "라고",
}  # fmt: skip


class Word(NamedTuple):
    """A conjugating word: its stem, its kind, and whether it carries the honorific -(으)시-."""

    stem: str
    kind: str = VERB
    honorific: bool = False


def word(dictionary_form: str, kind: str = "") -> Word:
    """``word("먹다")``; 있다/없다 (맛있다, ...) and the honorific verbs (드시다, ...) are known by their form."""
    stem = dictionary_form.removesuffix("다")
    kind = kind or (EXISTENTIAL if stem[-1] in "있없" else COPULA if stem.endswith("아니") else VERB)
    return Word(stem, kind, stem in ("계시", *_HONORIFIC_VERBS.values()))


def copula(noun: str) -> Word:
    """``noun`` followed by 이다, as one conjugating word."""
    return Word(noun + "이", COPULA)


def split(syllable: str) -> tuple[str, str, str]:
    """Initial, vowel and final (`` `` for none) of a precomposed syllable."""
    index = ord(syllable) - _FIRST
    return _INITIALS[index // 588], _VOWELS[index % 588 // 28], _FINALS[index % 28]


def join(initial: str, vowel: str, final: str = " ") -> str:
    """The precomposed syllable of three letters."""
    return chr(_FIRST + (_INITIALS.index(initial) * 21 + _VOWELS.index(vowel)) * 28 + _FINALS.index(final))


def final_of(text: str) -> str:
    """The consonant that ends ``text`` as it is read aloud, or `` `` after a vowel."""
    last = text[-1]
    return split(last)[2] if _FIRST <= ord(last) <= _LAST else _READ.get(last.upper(), " ")


@cache
def particle(noun: str, form: str) -> str:
    """``noun`` with a particle, given in its after-consonant form: 은 이 을 과 으로 ...; others are appended as is."""
    if form not in _PARTICLES:
        return noun + form
    final = final_of(noun)
    open_end = final == " " or (final == "ㄹ" and form == "으로")
    return noun + (_PARTICLES[form] if open_end else form)


def _with_final(text: str, final: str) -> str:
    initial, vowel, _ = split(text[-1])
    return text[:-1] + join(initial, vowel, final)


def _irregular_class(stem: str) -> str:
    """The letter by which the irregular class of a stem ending in a consonant is called, or nothing."""
    last, final = stem[-1], final_of(stem)
    if final == "ㅂ" and last not in _REGULAR_B:
        return "ㅂ"
    if final == "ㅎ" and last not in _REGULAR_H:
        return "ㅎ"
    if (final == "ㅅ" and last in _IRREGULAR_S) or (final == "ㄷ" and stem.endswith(_IRREGULAR_D)):
        return final
    return ""


def _infinitive(stem: str) -> str:
    """The stem with -아/어."""
    head, last = stem[:-1], stem[-1]
    initial, vowel, final = split(last)
    bright = "아" if vowel in "ㅏㅑㅗ" else "어"
    if last == "하":
        return head + "해"
    if final != " ":
        irregular = _irregular_class(stem)
        if irregular == "ㅂ":
            return _with_final(stem, " ") + ("와" if last in "돕곱" else "워")
        if irregular == "ㅎ":
            demonstrative = stem in ("그렇", "이렇", "저렇", "어떻")  # 그래, 어때
            return head + join(initial, "ㅐ" if demonstrative else _H_CONTRACTION[vowel])
        if irregular:
            return _with_final(stem, "ㄹ" if irregular == "ㄷ" else " ") + bright
        return stem + bright
    if stem.endswith(_IRREGULAR_REO):
        return stem + "러"
    if vowel == "ㅡ":
        bright_head = head[-1:].strip() != "" and split(head[-1])[1] in "ㅏㅑㅗ"
        open_syllable = join(initial, "ㅏ" if bright_head else "ㅓ")
        doubled = last == "르" and not stem.endswith(_REGULAR_REU)
        return (_with_final(head, "ㄹ") if doubled else head) + open_syllable
    if stem.split(" ")[-1] in _UNCONTRACTED or vowel not in _CONTRACTION:
        return stem + "어"
    return head + join(initial, _CONTRACTION[vowel])


def _linked(stem: str, rest: str) -> str:
    """The stem with -(으)``rest``, where ``rest`` may begin with a bare ㄴ, ㄹ or ㅂ."""
    final, irregular = final_of(stem), _irregular_class(stem)
    bare = rest[0] in "ㄴㄹㅂ"
    if final == "ㄹ":
        base = _with_final(stem, " ") if bare or split(rest[0])[0] in "ㄴㅅ" else stem
    elif final == " ":
        base = stem
    elif irregular:
        kept, link = {"ㅂ": (" ", "우"), "ㄷ": ("ㄹ", "으"), "ㅅ": (" ", "으"), "ㅎ": (" ", "")}[irregular]
        base = _with_final(stem, kept) + link
    else:
        base = stem + "으"
    return _with_final(base, rest[0]) + rest[1:] if bare else base + rest


def _closed(stem: str, final: str, separate: str, rest: str) -> str:
    """``final`` closes an open stem (or one in ㄹ, which falls); after another consonant stands ``separate``."""
    return _with_final(stem, final) + rest if final_of(stem) in " ㄹ" else stem + separate + rest


@cache
def conjugate(base: Word, ending: str) -> str:
    """``base`` with ``ending`` (notation: see the module)."""
    stem, kind, honorific_form = base
    if kind == COPULA and ending in _COPULA:
        noun = stem[:-1]
        forms = _COPULA[ending]
        return stem + forms[2] if stem.endswith("아니") else noun + forms[final_of(noun) == " "]
    if kind in (ADJECTIVE, COPULA):
        ending = _ADJECTIVAL.get(ending, ending)
    if ending.startswith("는다"):
        return _closed(stem, "ㄴ", "는", ending[1:]) if kind == VERB else stem + ending[1:]
    if ending[0] in "어었":
        if honorific_form and ending == "어요":
            return stem[:-1] + "세요"
        open_form = stem + "어" if kind == PAST else _infinitive(stem)
        return open_form + ending[1:] if ending[0] == "어" else _with_final(open_form, "ㅆ") + ending[1:]
    if ending.startswith("(으)"):
        return _linked(stem, ending[3:])
    if ending.startswith("습니"):
        return _closed(stem, "ㅂ", "습", ending[1:])
    if final_of(stem) == "ㄹ" and split(ending[0])[0] in "ㄴㅅ":
        stem = _with_final(stem, " ")
    return stem + ending


@cache
def past(base: Word) -> Word:
    """-았/었-."""
    return Word(conjugate(base, "었"), PAST)


@cache
def honorific(base: Word) -> Word:
    """-(으)시-, or the verb that replaces it (먹다: 드시다)."""
    if base.honorific:
        return base
    if base.stem in _HONORIFIC_VERBS:
        return Word(_HONORIFIC_VERBS[base.stem], base.kind, True)
    return Word(conjugate(base, "(으)시"), VERB if base.kind == VERB else ADJECTIVE, True)


@cache
def finish(base: Word, style: str, question: bool = False) -> str:
    """The sentence-final form in one of :data:`STYLES`, with its full stop or question mark."""
    statement = {"plain": "는다", "casual": "어", "polite": "어요", "formal": "습니다"}
    if not question:
        return conjugate(base, statement[style]) + "."
    return conjugate(base, {**statement, "plain": "니", "formal": "습니까"}[style]) + "?"


@cache
def finish_future(base: Word, style: str, question: bool = False) -> str:
    """-(으)ㄹ 것이다 in one of :data:`STYLES`, with its full stop or question mark."""
    tail = {"plain": "것이다", "casual": "거야", "polite": "거예요", "formal": "것입니다"}[style]
    if question:
        tail = {"plain": "거니", "formal": "것입니까"}.get(style, tail)
    return f"{conjugate(base, '(으)ㄹ')} {tail}{'?' if question else '.'}"
