"""The engine of :mod:`topics`: templates compiled once, filled and inflected in both languages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from fastlm.data.demo import english, people, topics
from fastlm.data.demo.clauses import Draw, Pair, Phrase, final, indefinite
from fastlm.data.demo.korean import ADJECTIVE, PAST, Word, conjugate, copula, finish, particle, word
from fastlm.data.demo.lexicon import NOUNS, Noun
from fastlm.data.demo.people import Person

Kind = Callable[[Draw, str], Pair]
Value = Noun | Person | int

_SLOT = re.compile(r"\{(\w+)(?:/([^}]+))?\}|\[([^\]]+?)(!?)(?:\.(\w+))?\]")
_EN_SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
_CLASSES: dict[str, tuple[Noun, ...]] = {
    **NOUNS,
    **{
        name: tuple(Noun(ko.strip(), en, "", "", "") for ko, en in (entry.split("=") for entry in entries.split(",")))
        for name, entries in topics.SLOTS.items()
    },
}
_STEM_ENDINGS = {  # as written in a template: as conjugate takes it
    "려면": "(으)려면",
    "기": "기",
    "ㄹ": "(으)ㄹ",
    "ㄴ": "(으)ㄴ",
    "는": "는",
    "면": "(으)면",
    "지": "지",
    "도": "어도",
    "어서": "어서",
    "셔서": "(으)셔서",
    "었다고": "었다고",
    "었다는": "었다는",
    "었을": "었을",
}
_STEMS = ("goal", "kindness", "forbidden", "permitted", "achievement", "misfortune")
_RANGES = {
    "n": (2, 9),
    "v": (1, 9),
    "big": (11, 95),
    "share": (2, 48),
    "year": (2027, 2040),
    "date": (1, 28),
    "few": (2, 5),
    "tens": (1, 7),
    "degrees": (12, 36),
    "length": (8, 16),
}


class Template(NamedTuple):
    """Compiled: parts of Korean (text, slot, particle, predicate, tag) and English (text, slot, form), slot names."""

    ko: tuple[tuple[str, str, str, Word | None, str], ...]
    en: tuple[tuple[str, str, str], ...]
    slots: tuple[str, ...]


def _predicate(form: str, mark: str) -> Word:
    if form.endswith("이다") and len(form) > 2:
        return copula(form.removesuffix("이다"))
    return word(form, ADJECTIVE if mark else "")


def _compile(row: str) -> Template:
    ko_text, _, en_text = row.partition(" | ")
    ko, at = [], 0
    for match in _SLOT.finditer(ko_text):
        slot, form, verb, mark, tag = match.groups()
        ko.append(
            (ko_text[at : match.start()], slot or "", form or "", _predicate(verb, mark) if verb else None, tag or "")
        )
        at = match.end()
    ko.append((ko_text[at:], "", "", None, ""))
    en, at = [], 0
    for match in _EN_SLOT.finditer(en_text):
        en.append((en_text[at : match.start()], match[1], match[2] or ""))
        at = match.end()
    en.append((en_text[at:], "", ""))
    slots = dict.fromkeys(slot for _, slot, _, _, _ in ko if slot and slot != "I")
    return Template(tuple(ko), tuple(en), tuple(slots))


def _class_of(slot: str) -> str:
    return slot.rstrip("0123456789")


def _value(draw: Draw, slot: str) -> Value:
    name = _class_of(slot)
    if name in _RANGES:
        return draw.integer(*_RANGES[name])
    if name == "price":
        return draw.integer(2, 99) * 1000
    return draw.pick(people.NAMES) if name == "name" else draw.pick(_CLASSES[name])


def _draw_values(draw: Draw, slots: tuple[str, ...]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for slot in slots:
        value = _value(draw, slot)
        while any(value == other and _class_of(slot) == _class_of(name) for name, other in values.items()):
            value = _value(draw, slot)
        values[slot] = value
    return values


_IMPERATIVES = {"plain": "어라.", "casual": "어.", "polite": "(으)세요.", "formal": "(으)십시오."}
_PROHIBITION = Word("마", "verb")


def _final(base: Word, tag: str, style: str) -> str:
    """The final predicate of a template; the tags are those of :mod:`topics`."""
    if tag == "please":
        return conjugate(_PROHIBITION if base.stem == "말" else base, _IMPERATIVES[style])
    if tag == "will":
        return finish(Word(base.stem + "겠", PAST), style)
    if tag == "ask":
        return finish(base, style, question=True)
    if tag.startswith("must"):
        return f"{conjugate(base, '어야')} {finish(word('하다'), style, question=tag == 'mustask')}"
    return final(Phrase("", base, ""), {"prog": "progressive"}.get(tag, tag or "present"), style)


def _korean(slot: str, form: str, value: Value, style: str) -> str:
    if isinstance(value, Person):
        return people.subject(value, style, form)
    if isinstance(value, int):
        text = f"{value:,}" if value >= 10_000 or slot == "price" else str(value)
        if form == "이다":
            return finish(copula(text), style)
        return people.NATIVE[value] if form == "k" else particle(text, form) if form else text
    if _class_of(slot) in _STEMS:
        return conjugate(Word(value.ko), _STEM_ENDINGS[form])
    if form == "이다":
        return finish(copula(value.ko), style)
    return particle(value.ko, form) if form else value.ko


def _english(slot: str, form: str, value: Value) -> str:
    if isinstance(value, Person):
        return value.en
    if isinstance(value, int):
        return (
            english.number(value)
            if _class_of(slot) in ("n", "few")
            else f"{value:,}"
            if slot == "price"
            else str(value)
        )
    if form == "a":
        return indefinite(value, value.en)
    return value.en if form != "s" or value.number else english.plural(value.en)


def fill(draw: Draw, template: Template, style: str) -> Pair:
    """One sentence of a template."""
    values = _draw_values(draw, template.slots)
    ko = ""
    for text, slot, form, predicate, tag in template.ko:
        ko += text
        if slot == "I":
            ko += people.subject(people.I, style, form)
        elif slot:
            ko += _korean(slot, form, values[slot], style)
        elif predicate:
            ko += _final(predicate, tag, style)
    person = values.get("name")
    en = ""
    for text, slot, form in template.en:
        en += text
        if slot in ("pronoun", "possessive"):
            en += getattr(person, slot)
        elif slot:
            en += _english(slot, form, values[slot])
    return ko, english.capitalised(en.replace("m..", "m."))  # a sentence that ends in p.m. has one full stop


def _kind(section: str, rows: list[str]) -> tuple[int, Kind]:
    templates = tuple(_compile(row) for row in rows)

    def kind(draw: Draw, style: str) -> Pair:
        return fill(draw, draw.pick(templates), style)

    kind.__name__ = section
    return max(3, len(rows) // 2), kind


def _sections(text: str) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for line in text.strip().splitlines():
        if line.startswith("== "):
            sections[line[3:]] = rows = []
        else:
            rows.append(line)
    return sections


KINDS = tuple(_kind(section, rows) for section, rows in _sections(topics.TEXT).items())
