"""From words to clauses in both languages at once: noun phrases, tense, negation, modality, adjuncts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from fastlm.data.demo import english, korean, people
from fastlm.data.demo.activities import Frame
from fastlm.data.demo.korean import ADJECTIVE, Word, conjugate, copula, honorific, particle, past, word
from fastlm.data.demo.lexicon import ADJECTIVES, NOUNS, Noun
from fastlm.data.demo.people import NATIVE, Person

T = TypeVar("T")
Pair = tuple[str, str]


class Draw:
    """Seeded choices that every Python version makes alike: ``random()`` alone is drawn from."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def pick(self, items: Sequence[T]) -> T:
        """One of ``items``."""
        return items[int(self.random() * len(items))]

    def two(self, items: Sequence[T]) -> tuple[T, T]:
        """Two items at different places of ``items``."""
        first = int(self.random() * len(items))
        second = int(self.random() * (len(items) - 1))
        return items[first], items[second + (second >= first)]

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.random() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self.random() * (high - low + 1))


class Phrase(NamedTuple):
    """A predicate with its arguments, not yet inflected: ``ko`` + verb; English verb + ``tail`` (leading space)."""

    ko: str
    verb: Word
    en: str
    tail: str = ""


class Adjuncts(NamedTuple):
    """Korean: ``time`` beside the subject, ``ko`` before the predicate; English: before the verb, at the end."""

    time: str = ""
    ko: str = ""
    adverb: str = ""
    end: str = ""


NO_ADJUNCTS = Adjuncts()
_BARE = (
    "sport",
    "subject",
    "language",
    "skill",
    "city",
    "world_city",
    "country",
    "topic",
)  # names take no adjective or number
_EDIBLE = ("fruit", "vegetable", "snack", "dish", "food", "hot_drink", "cold_drink")
_FEW = ("대", "벌", "마리", "켤레", "그릇", "인분", "잔")
_COUNTED = (
    "사",
    "먹",
    "마시",
    "주문하",
    "만들",
    "심",
    "그리",
    "고르",
    "빌리",
    "쓰",
    "읽",
    "씻",
    "썰",
    "추천하",
    "보",
    "준비하",
    "보내",
    "번역하",
)
# 감자를 샀다: bought potatoes
_IN_PLURAL = frozenset(noun for name in ("vegetable", "flower") for noun in NOUNS[name])
_BOUGHT = ("top", "accessory", "shoes", "device", "furniture", "vehicle", "stationery", "instrument")


def attributive(draw: Draw, noun_class: str, noun: Noun) -> Pair:
    """``noun`` with one of its adjectives, without article: (``매운 라면``, ``spicy ramen``)."""
    adjective = draw.pick(ADJECTIVES[noun_class])
    return f"{conjugate(adjective.ko, '는')} {noun.ko}", f"{adjective.en} {noun.en}"


def indefinite(noun: Noun, en: str) -> str:
    """``en`` (the noun, perhaps with an adjective) as an unspecified reference: with an article, or in the plural."""
    if noun in _IN_PLURAL:
        return english.plural(en)
    if noun.number == "!":
        return f"the {en}"
    return en if noun.number in ("~", "+") or noun.en.startswith("the ") else english.article(en)


def quantity(draw: Draw, noun: Noun, form: str) -> Pair:
    """Several of ``noun`` with its counter: ``사과 세 개를`` or ``사과를 세 개``."""
    n = draw.integer(2, 3 if noun.counter in _FEW else 5)
    count = f"{NATIVE[n]} {noun.counter}"
    ko = (
        f"{particle(noun.ko, form)} {count}"
        if form == "을" and draw.chance(0.4)
        else f"{noun.ko} {particle(count, form)}"
    )
    if noun.number == "":
        return ko, english.counted(n, noun.en)
    return ko, f"{english.number(n)} {english.plural(noun.measure)} of {noun.en}"


def noun_phrase(
    draw: Draw, noun_class: str, form: str, reference: str = "@", *, general: bool = False, counted: bool = True
) -> Pair:
    """A noun of the class with its Korean particle ``form`` and its English determiner (see ``Frame.reference``).

    ``general`` leaves out numbers and pointing (habits, likes), ``counted`` false the numbers alone.
    """
    noun = draw.pick(NOUNS[noun_class])
    if noun_class in _BARE:
        return particle(noun.ko, form), noun.en
    if reference == "*":
        return particle(noun.ko, form), f"the {noun.en}"
    kind = draw.random()
    if kind < 0.25:
        ko, en = attributive(draw, noun_class, noun) if noun_class in ADJECTIVES else (noun.ko, noun.en)
        return particle(ko, form), indefinite(noun, en)
    if reference == ">":
        return particle(noun.ko, form), f"the {noun.en}"
    if general:
        return particle(noun.ko, form), indefinite(noun, noun.en)
    if kind < 0.4 and counted and noun.counter and (noun.number == "" or noun.measure):
        return quantity(draw, noun, form)
    if kind < 0.5 and noun.number != "!" and noun_class not in _EDIBLE:
        near = draw.chance(0.5)
        these = ("these", "those") if noun.number == "+" else ("this", "that")
        return particle(("이 " if near else "그 ") + noun.ko, form), f"{these[not near]} {noun.en}"
    if kind < 0.6 and noun_class in _BOUGHT:
        return particle(f"새 {noun.ko}", form), indefinite(noun, f"new {noun.en}")
    return particle(noun.ko, form), indefinite(noun, noun.en)


def act(draw: Draw, frame: Frame, *, general: bool = False) -> Phrase:
    """The frame with its slot filled; ``general`` as in :func:`noun_phrase`."""
    if not frame.slot:
        return Phrase(frame.ko, frame.verb, frame.en, frame.before)
    counted = frame.verb.stem in _COUNTED
    general = general or "v" in frame.traits
    ko, en = noun_phrase(draw, frame.slot, frame.particle, frame.reference, general=general, counted=counted)
    return Phrase(f"{ko} {frame.ko}", frame.verb, frame.en, f"{frame.before} {en}{frame.after}")


# name: (Korean ending before the auxiliary, auxiliary, English verb, English link)
_MODALITIES: dict[str, tuple[str, Word, str, str]] = {
    "want": ("고", word("싶다", ADJECTIVE), "want", " to"),
    "want third": ("고", word("싶어 하다"), "want", " to"),
    "can": ("(으)ㄹ 수", word("있다"), "can", ""),
    "must": ("어야", word("하다"), "have", " to"),
    "decide": ("기로", word("하다"), "decide", " to"),
    "promise": ("기로", word("약속하다"), "promise", " to"),
    "plan": ("(으)ㄹ", copula("계획"), "be", " planning to"),
    "try": ("(으)려고", word("노력하다"), "try", " to"),
    "start": ("기", word("시작하다"), "start", " to"),
    "used": ("곤", word("하다"), "use", " to"),
    "know": ("(으)ㄹ 줄", word("알다"), "know", " how to"),
    "need": ("(으)ㄹ 필요가", word("있다"), "need", " to"),
    "like": ("는 것을", word("좋아하다"), "like", " to"),
    "intend": ("(으)려고", word("하다"), "intend", " to"),
    "finish": ("는 것을", word("끝내다"), "finish", " ing"),
    "seem": ("는 것", word("같다", ADJECTIVE), "seem", " to"),
}


def modal(phrase: Phrase, modality: str, *, respectful: bool = False) -> Phrase:
    """The phrase under an auxiliary of both languages: ``먹다`` / ``eat`` -> ``먹고 싶다`` / ``want to eat``."""
    ending, auxiliary, verb, link = _MODALITIES[modality]
    base = honorific(phrase.verb) if respectful and modality in ("can", "seem") else phrase.verb
    ko = f"{phrase.ko}{conjugate(base, ending)} "
    if modality == "finish":
        return Phrase(ko, auxiliary, verb, f" {english.gerund(phrase.en)}{phrase.tail}")
    return Phrase(ko, auxiliary, verb, f"{link} {phrase.en}{phrase.tail}")


def negated(draw: Draw, phrase: Phrase, adverb: str = "안") -> Phrase:
    """The Korean side negated with 안 or 못, before the verb or as -지 않다, -지 못하다."""
    stem = phrase.verb.stem
    if stem in ("있", "없", "알"):
        return phrase._replace(verb=word({"있": "없다", "없": "있다", "알": "모르다"}[stem]))
    short = not (stem.endswith("하") and len(stem) > 1) and phrase.verb.kind == korean.VERB and draw.chance(0.5)
    if short:
        return phrase._replace(ko=f"{phrase.ko}{adverb} ")
    auxiliary = (
        Word("않", phrase.verb.kind if phrase.verb.kind == korean.VERB else ADJECTIVE)
        if adverb == "안"
        else word("못하다")
    )
    return phrase._replace(ko=f"{phrase.ko}{conjugate(phrase.verb, '지')} ", verb=auxiliary)


def tensed(phrase: Phrase, tense: str, respectful: bool = False) -> tuple[str, Word]:
    """The Korean phrase up to its last word, and that word ready for a connective or final ending (not future)."""
    verb = phrase.verb
    if tense.endswith("progressive"):
        auxiliary = word("계시다") if respectful else word("있다")
        return f"{phrase.ko}{conjugate(verb, '고')} ", past(auxiliary) if tense.startswith("past") else auxiliary
    if respectful:
        verb = honorific(verb)
    return phrase.ko, past(verb) if tense == "past" else verb


def final(phrase: Phrase, tense: str, style: str, *, respectful: bool = False, question: bool = False) -> str:
    """The Korean predicate that ends a sentence, with its full stop or question mark."""
    if tense == "future":
        verb = honorific(phrase.verb) if respectful else phrase.verb
        return phrase.ko + korean.finish_future(verb, style, question)
    head, last = tensed(phrase, tense, respectful)
    return head + korean.finish(last, style, question)


def spaced(*parts: str) -> str:
    """The non-empty parts with one space between them."""
    return " ".join(filter(None, parts))


def english_clause(
    subject: str,
    agreement: str,
    phrase: Phrase,
    tense: str,
    adjuncts: Adjuncts = NO_ADJUNCTS,
    *,
    negative: bool = False,
    question: bool = False,
    contracted: bool = True,
) -> str:
    """The English clause, without capital and full stop."""
    auxiliary, rest = english.verb_group(phrase.en, tense, agreement, negative, question, contracted)
    front = (auxiliary, subject) if question else (subject, auxiliary)
    return spaced(*front, adjuncts.adverb, rest) + phrase.tail + adjuncts.end


def sentence(
    draw: Draw,
    style: str,
    person: Person,
    phrase: Phrase,
    tense: str,
    adjuncts: Adjuncts = NO_ADJUNCTS,
    *,
    negative: bool = False,
    question: bool = False,
    ko_phrase: Phrase | None = None,
    form: str = "은",
) -> Pair:
    """A whole simple sentence. ``ko_phrase`` is the Korean side where it differs (negated, say)."""
    contracted = style in ("casual", "polite")
    en = english_clause(
        person.en,
        person.agreement,
        phrase,
        tense,
        adjuncts,
        negative=negative,
        question=question,
        contracted=contracted,
    )
    ko = final(ko_phrase or phrase, tense, style, respectful=person.honorific, question=question)
    subject = people.subject(person, style, form)
    front = (adjuncts.time, subject) if draw.chance(0.4) else (subject, adjuncts.time)
    return spaced(*front, adjuncts.ko) + (" " if subject or adjuncts.time or adjuncts.ko else "") + ko, finished(
        en, person, "?" if question else "."
    )


def finished(en: str, person: Person, mark: str = ".") -> str:
    """An English sentence with its possessives, capital and mark."""
    if "$" in en:
        en = en.replace("$", person.possessive)
    return english.capitalised(en) + mark


_DAYS = (people.PAST_TIMES, people.FUTURE_TIMES)
_SCALES = {
    "i": (people.RECENTLY, people.SHORTLY),
    "v": (people.YEARS_AGO, people.YEARS_AHEAD),
}  # by trait: (past, future)


def time_of(draw: Draw, tense: str, traits: str) -> tuple[str, str, str]:
    """A time that suits the tense: Korean, English adverb, English end of clause."""
    if tense == "present":
        if "v" in traits:
            return "", "", ""
        if draw.chance(0.4):
            ko, en = draw.pick(people.FREQUENCIES)
            return ko, en, ""
        ko, en = draw.pick(people.DAILY if "d" in traits else people.HABITS)
        return ko, "", f" {en}"
    if tense == "progressive":
        ko, en = draw.pick(people.NOW)
        return ko, "", f" {en}"
    if tense == "past progressive":
        return draw.pick(
            (
                ("그때", "", " at that time"),
                ("어제 이맘때", "", " at this time yesterday"),
                ("아까", "", " a little while ago"),
            )
        )
    scale = next((scale for trait, scale in _SCALES.items() if trait in traits), _DAYS)
    ko, en = draw.pick(scale[tense != "past"])
    if scale is _DAYS and "m" not in traits and draw.chance(0.2) and ko in ("어제", "내일", "오늘", "그저께", "모레"):
        hour, morning = draw.integer(1, 8), draw.chance(0.3)
        if morning:
            hour = 9 + hour % 3
        ko = f"{ko} {'오전' if morning else '오후'} {NATIVE[hour]} 시에"
        en = f"at {hour} {'a.m.' if morning else 'p.m.'} {en}"
    return ko, "", f" {en}"


_AT_WORK = ("office", "school", "cafeteria", "academy", "university", "classroom", "playground")


def adjuncts_of(draw: Draw, frame: Frame, tense: str, *, richness: float = 0.5, timed: float = 0.75) -> Adjuncts:
    """Time, place, company and duration, each where the frame allows it, with the given probabilities."""
    time, adverb, time_end = time_of(draw, tense, frame.traits) if draw.chance(timed) else ("", "", "")
    if adverb:  # how often stands by the predicate
        time, ko, end = "", time, ""
    else:
        ko, end = "", ""
    where = draw.pick(frame.places) if frame.places and draw.chance(richness) else ""
    if "c" in frame.traits and draw.chance(richness * 0.6):
        company, with_company = draw.pick(people.FRIENDS if where in _AT_WORK else people.COMPANIONS)
        ko, end = spaced(ko, company), f" {with_company}"
    if where:
        place, where = people.PLACES[where]
        ko, end = spaced(ko, place + "에서"), f"{end} {where}"
    if "l" in frame.traits and "v" not in frame.traits and tense in ("past", "future") and draw.chance(richness * 0.3):
        duration, long = draw.pick(people.DURATIONS if "w" in frame.traits or "e" in frame.traits else people.SPELLS)
        ko, end = spaced(ko, duration), f"{end} {long}"
    return Adjuncts(time, ko, adverb, end + time_end)
