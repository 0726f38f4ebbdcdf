"""Simple sentences about what people do: statements, negation, modality, questions, requests and suggestions."""

from __future__ import annotations

from fastlm.data.demo import english, people
from fastlm.data.demo.activities import FRAMES, Frame
from fastlm.data.demo.clauses import (
    Adjuncts,
    Draw,
    Pair,
    Phrase,
    act,
    adjuncts_of,
    finished,
    modal,
    negated,
    sentence,
    spaced,
)
from fastlm.data.demo.korean import conjugate, finish, particle, past, word
from fastlm.data.demo.people import Person

VOLITIONAL = tuple(f for f in FRAMES if "x" not in f.traits)
PLANNED = tuple(f for f in VOLITIONAL if "i" not in f.traits)
HABITUAL = tuple(f for f in FRAMES if "h" in f.traits)
LASTING = tuple(f for f in FRAMES if "l" in f.traits)
_INTERRUPTED = tuple(f for f in LASTING if "v" not in f.traits)
LEISURE = tuple(f for f in FRAMES if "w" in f.traits)
UNDERTAKINGS = tuple(f for f in FRAMES if "e" in f.traits)
_FAVOURS = tuple(f for f in FRAMES if "r" in f.traits)
_WHAT = tuple(
    f
    for f in FRAMES
    if f.verb.stem != "키우" and f.reference == "@" and f.particle == "을" and not (f.ko or f.before or f.after)
)
_PLACED = tuple(f for f in VOLITIONAL if f.places)
_SHARED = tuple(f for f in VOLITIONAL if "c" in f.traits)


def person_for(draw: Draw, style: str, traits: str = "") -> Person:
    """A subject: oneself, a name, kin, somebody's role, several people; a pronoun in written style."""
    kind = draw.random()
    if "s" in traits:
        kind *= 0.66
    if kind < 0.22:
        return people.I
    if kind < 0.28:
        return people.WE
    if kind < 0.36 and style == "plain":
        return draw.pick(people.WRITTEN)
    return draw.pick(people.NAMES if kind < 0.66 else people.OTHERS)


def frame_and_tense(draw: Draw) -> tuple[Frame, str]:
    """A frame and a tense that it can stand in."""
    kind = draw.random()
    if kind < 0.5:
        return draw.pick(FRAMES), "past"
    if kind < 0.68:
        return draw.pick(VOLITIONAL), "future"
    if kind < 0.84:
        return draw.pick(HABITUAL), "present"
    return (draw.pick(LASTING), "progressive") if kind < 0.94 else (draw.pick(_INTERRUPTED), "past progressive")


def statement(draw: Draw, style: str) -> Pair:
    """Minsu ate an apple at home yesterday."""
    frame, tense = frame_and_tense(draw)
    timed = 1.0 if tense in ("present", "past progressive") else 0.75
    adjuncts = adjuncts_of(draw, frame, tense, richness=0.65, timed=timed)
    phrase = act(draw, frame, general=tense == "present")
    return sentence(draw, style, person_for(draw, style, frame.traits), phrase, tense, adjuncts)


def negation(draw: Draw, style: str) -> Pair:
    """I didn't drink coffee today; she couldn't meet a friend."""
    unable = draw.chance(0.35)
    tense = "past" if unable or draw.chance(0.6) else "future"
    frame = draw.pick(VOLITIONAL)
    phrase = act(draw, frame)
    english_phrase = Phrase("", phrase.verb, "can", f" {phrase.en}{phrase.tail}") if unable else phrase
    return sentence(
        draw,
        style,
        person_for(draw, style, frame.traits),
        english_phrase,
        tense,
        adjuncts_of(draw, frame._replace(traits=frame.traits.replace("l", "")), tense, richness=0.3),
        negative=True,
        ko_phrase=negated(draw, phrase, "못" if unable else "안"),
    )


# modality, tense of the auxiliary, tense of the time adverb ("" for none), frames
_MODES = (
    ("want", "present", "future", PLANNED),
    ("want", "past", "past", PLANNED),
    ("can", "present", "future", PLANNED),
    ("must", "present", "future", VOLITIONAL),
    ("must", "past", "past", VOLITIONAL),
    ("decide", "past", "future", PLANNED),
    ("promise", "past", "future", LEISURE + UNDERTAKINGS),
    ("plan", "present", "future", PLANNED),
    ("try", "past", "", UNDERTAKINGS),
    ("try", "progressive", "", UNDERTAKINGS),
    ("start", "past", "past", UNDERTAKINGS),
    ("used", "past", "once", HABITUAL),
    ("need", "present", "", UNDERTAKINGS),
    ("like", "present", "", HABITUAL),
    ("intend", "present", "future", PLANNED),
)
_ONCE = (
    ("주말이면", " on weekends"),
    ("여름이면", " in the summer"),
    ("저녁이면", " in the evening"),
    ("쉬는 날이면", " on days off"),
)


def modality(draw: Draw, style: str) -> Pair:
    """I want to learn French; she has to write a report tomorrow; he decided to move to Busan."""
    name, tense, when, frames = draw.pick(_MODES)
    frame = draw.pick(frames)
    person = person_for(draw, style, frame.traits)
    if name == "want" and person.group != "speaker":
        name = "want third"
    adjuncts = adjuncts_of(draw, frame, when, richness=0.45, timed=0.7 if when in ("past", "future") else 0.0)
    if when == "once":
        time, end = draw.pick(_ONCE)
        adjuncts = adjuncts._replace(time=time, end=adjuncts.end + end)
    return sentence(
        draw,
        style,
        person,
        modal(act(draw, frame, general=name in ("used", "like")), name, respectful=person.honorific),
        tense,
        adjuncts,
    )


def experience(draw: Draw, style: str) -> Pair:
    """I have been camping before; she has never taken a train; have you ever eaten tteokbokki?"""
    frame = draw.pick(LEISURE if draw.chance(0.7) else UNDERTAKINGS)
    phrase, kind = act(draw, frame, general=True), draw.random()
    if phrase.en == "go" and phrase.tail.startswith(" to "):
        phrase = phrase._replace(en="be")  # have been to
    head = f"{phrase.ko}{conjugate(phrase.verb, '(으)ㄴ')} 적이 "
    if kind < 0.3 and style != "plain":
        return question(draw, style, phrase, "perfect", Adjuncts(adverb="ever"), Phrase(head, word("있다"), ""))
    never = kind < 0.6
    adjuncts = Adjuncts(adverb="never") if never else Adjuncts(end=" before")
    ko_phrase = Phrase(head, word("없다" if never else "있다"), "")
    return sentence(
        draw, style, person_for(draw, style, frame.traits), phrase, "perfect", adjuncts, ko_phrase=ko_phrase
    )


def question(
    draw: Draw,
    style: str,
    phrase: Phrase,
    tense: str,
    adjuncts: Adjuncts,
    ko_phrase: Phrase | None = None,
    lead: str = "",
) -> Pair:
    """A question to the listener, whom Korean leaves unnamed and may honour; ``lead`` is the English wh-word."""
    respectful = style == "formal" or (style == "polite" and draw.chance(0.5))
    person = people.YOU._replace(honorific=respectful)
    ko, en = sentence(draw, style, person, phrase, tense, adjuncts, question=True, ko_phrase=ko_phrase)
    return (ko, f"{lead} {en[0].lower()}{en[1:]}") if lead else (ko, en)


def yes_no(draw: Draw, style: str) -> Pair:
    """Did you meet a friend yesterday? Does Minsu often swim?"""
    frame, tense = frame_and_tense(draw)
    adjuncts = adjuncts_of(draw, frame, tense, richness=0.45, timed=0.8)
    phrase = act(draw, frame, general=tense == "present")
    if draw.chance(0.65):
        return question(draw, style, phrase, tense, adjuncts)
    return sentence(draw, style, draw.pick(people.NAMES), phrase, tense, adjuncts, question=True)


_KINDS = {
    "fruit": ("과일", "fruit"),
    "vegetable": ("채소", "vegetables"),
    "snack": ("간식", "snacks"),
    "dish": ("음식", "food"),
    "food": ("음식", "food"),
    "hot_drink": ("차", "tea"),
    "cold_drink": ("음료", "drinks"),
    "reading": ("책", "book"),
    "show": ("영화", "movie"),
    "music": ("음악", "music"),
    "top": ("옷", "clothes"),
    "shoes": ("신발", "shoes"),
    "flower": ("꽃", "flowers"),
    "animal": ("동물", "animals"),
    "sport": ("운동", "sport"),
    "subject": ("과목", "subject"),
    "language": ("외국어", "foreign language"),
    "skill": ("기술", "skill"),
}
_WH = (  # Korean adverbial, English lead, frames, tenses
    ("어디에서", "Where", _PLACED, ("past", "future")),
    ("누구와", "Who", _SHARED, ("past", "future")),
    ("언제", "When", VOLITIONAL, ("past", "future")),
    ("왜", "Why", VOLITIONAL, ("past",)),
    ("얼마나 자주", "How often", HABITUAL, ("present",)),
    ("몇 시에", "What time", HABITUAL, ("past", "future")),
    ("얼마나 오래", "How long", UNDERTAKINGS, ("past",)),
)


def wh_question(draw: Draw, style: str) -> Pair:
    """What food did you eat yesterday? Where will you buy a hat?"""
    if draw.chance(0.3):
        frame, tense = draw.pick(_WHAT), draw.pick(("past", "future"))
        asked, lead = ("무엇을" if style in ("plain", "formal") else "뭘"), "What"
        if frame.slot in _KINDS and draw.chance(0.6):
            noun, en = _KINDS[frame.slot]
            asked, lead = particle(f"무슨 {noun}", "을"), f"What {en}"
        phrase = Phrase(f"{asked} ", frame.verb, frame.en)
        return question(draw, style, phrase, tense, adjuncts_of(draw, frame, tense, richness=0.3, timed=0.9), lead=lead)
    adverb, lead, frames, tenses = draw.pick(_WH)
    frame, tense = draw.pick(frames), draw.pick(tenses)
    timed = 0.6 if lead in ("Where", "Who", "Why") else 0.0
    adjuncts = adjuncts_of(draw, frame._replace(places=(), traits="m"), tense, timed=timed)
    adjuncts = adjuncts._replace(ko=adverb, end=(" with" if lead == "Who" else "") + adjuncts.end)
    return question(draw, style, act(draw, frame), tense, adjuncts, lead=lead)


# Korean ending by style, and the English around a base form: favours asked, then things done together.
_REQUESTS = (
    ({"plain": "어라.", "casual": "어 줘.", "polite": "어 주세요.", "formal": "어 주십시오."}, "Please {}."),
    ({"casual": "어 줄래?", "polite": "어 주시겠어요?", "formal": "어 주시겠습니까?"}, "Could you {}?"),
    ({"casual": "어 줄 수 있어?", "polite": "어 줄 수 있어요?", "formal": "어 주실 수 있습니까?"}, "Can you {}?"),
)
_SUGGESTIONS = (
    ({"plain": "자.", "casual": "자.", "formal": "(으)ㅂ시다."}, "Let's {}."),
    ({"casual": "(으)ㄹ까?", "polite": "(으)ㄹ까요?"}, "Shall we {}?"),
    ({"casual": "(으)ㄹ래?", "polite": "(으)ㄹ래요?"}, "Would you like to {}?"),
    ({"casual": "는 게 어때?", "polite": "는 게 어때요?", "formal": "는 것이 어떻습니까?"}, "How about {ing}?"),
    ({"casual": "고 싶어?", "polite": "고 싶으세요?", "formal": "고 싶으십니까?"}, "Do you want to {}?"),
)


def request(draw: Draw, style: str) -> Pair:
    """Please open the window; let's take a walk in the park tomorrow."""
    together = draw.chance(0.55)
    table = _SUGGESTIONS if together else _REQUESTS
    endings, pattern = draw.pick([row for row in table if style in row[0]] or table[:1])
    ending = endings.get(style, "어 주세요.")
    frame = draw.pick(LEISURE if together else _FAVOURS)
    phrase = act(draw, frame)
    adjuncts = adjuncts_of(
        draw, frame._replace(traits="m"), "future", richness=0.6 if together else 0.2, timed=0.7 if together else 0.4
    )
    ko = spaced(
        "우리" if pattern in ("Let's {}.", "Shall we {}?") and draw.chance(0.3) else "",
        adjuncts.time,
        adjuncts.ko,
        phrase.ko + conjugate(phrase.verb, ending),
    )
    verb = english.gerund(phrase.en) if "{ing}" in pattern else phrase.en
    en = pattern.replace("{ing}", "{}").format(f"{verb}{phrase.tail}{adjuncts.end}")
    possessive = "our" if together else "your"
    return ko, en.replace("$", possessive)


def since(draw: Draw, style: str) -> Pair:
    """It has been three years since I started learning Korean."""
    frame, n = draw.pick(UNDERTAKINGS), draw.integer(1, 12)
    person, phrase = person_for(draw, style, frame.traits), act(draw, frame)
    numbers, unit, en_unit = draw.pick(((people.SINO, "년", "year"), (people.NATIVE, "달", "month")))
    span = particle(f"{numbers[n]} {unit}", "이")
    done, passed = conjugate(phrase.verb, "(으)ㄴ"), finish(past(word("되다")), style)
    ko = f"{people.subject(person, style, '이')} {phrase.ko}{done} 지 {span} {passed}"
    en = f"it has been {english.counted(n, en_unit)} since {person.en} started {english.gerund(phrase.en)}{phrase.tail}"
    return ko, finished(en, person)


KINDS = (  # weight, sentence kind
    (20, statement),
    (7, negation),
    (12, modality),
    (4, experience),
    (7, yes_no),
    (7, wh_question),
    (8, request),
    (2, since),
)
