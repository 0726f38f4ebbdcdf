"""Sentences of two clauses side by side: sequence, contrast, purpose, time, alternatives."""

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
    english_clause,
    final,
    finished,
    modal,
    spaced,
    tensed,
    time_of,
)
from fastlm.data.demo.daily import LEISURE, PLANNED, person_for
from fastlm.data.demo.korean import conjugate, past, word

DONE = tuple(f for f in PLANNED if "v" not in f.traits)
_ROUTINE = tuple(
    f
    for f in DONE
    if f.slot
    not in (
        "city",
        "world_city",
        "country",
        "vehicle",
        "furniture",
        "file",
        "device",
        "nature",
        "animal",
        "instrument",
        "language",
    )
    and f.verb.stem
    not in (
        "추천하",
        "번역하",
        "심",
        "이사하",
        "짓",
        "칠하",
        "담그",
        "보내",
        "모으",
        "생각하",
        "예매하",
        "예약하",
        "일어나",
    )
)

_PASTIMES = tuple(f for f in LEISURE if f.slot not in ("city", "world_city", "country"))
_SPENT = tuple(f for f in _ROUTINE if "l" in f.traits and ("w" in f.traits or "e" in f.traits))


def _two_frames(draw: Draw, frames: tuple[Frame, ...]) -> tuple[Frame, Frame]:
    """Two frames that do not share their verb or noun class."""
    while True:
        first, second = draw.two(frames)
        if first.verb != second.verb and first.en != second.en and (first.slot != second.slot or not first.slot):
            return first, second


def _verb_phrase(phrase: Phrase, tense: str, agreement: str, end: str = "") -> str:
    """A coordinated English predicate: ``and took a walk in the park``."""
    auxiliary, rest = english.verb_group(phrase.en, tense, agreement)
    return spaced("" if tense == "future" else auxiliary, rest) + phrase.tail + end


def sequence(draw: Draw, style: str) -> Pair:
    """Minsu read a book at the library and met a friend at a cafe yesterday."""
    tense = "past" if draw.chance(0.65) else "future"
    one, two = _two_frames(draw, _ROUTINE)
    person, first, second = person_for(draw, style, one.traits + two.traits), act(draw, one), act(draw, two)
    time_ko, _, time_en = time_of(draw, tense, "D")
    before, after = (
        adjuncts_of(draw, one, tense, richness=0.5, timed=0),
        adjuncts_of(draw, two, tense, richness=0.35, timed=0),
    )
    ending, link = draw.pick((("고", "and"), ("(으)ㄴ 다음에", "and then"), ("고 나서", "and then")))
    ko = spaced(
        time_ko,
        people.subject(person, style),
        before.ko,
        first.ko + conjugate(first.verb, ending),
        after.ko,
        final(second, tense, style, respectful=person.honorific),
    )
    lead = english_clause(person.en, person.agreement, first, tense, before)
    return ko, finished(f"{lead} {link} {_verb_phrase(second, tense, person.agreement, after.end)}{time_en}", person)


_SMALL = (  # what may precede or follow nearly anything
    Phrase("숙제를 ", word("끝내다"), "finish", " $ homework"),
    Phrase("친구에게 ", word("전화하다"), "call", " a friend"),
    Phrase("일기 예보를 ", word("확인하다"), "check", " the weather forecast"),
    Phrase("커피를 한 잔 ", word("마시다"), "drink", " a cup of coffee"),
    Phrase("점심을 ", word("먹다"), "have", " lunch"),
    Phrase("저녁을 ", word("먹다"), "have", " dinner"),
    Phrase("", word("샤워하다"), "take", " a shower"),
    Phrase("옷을 ", word("갈아입다"), "change", " $ clothes"),
    Phrase("잠깐 ", word("쉬다"), "rest", " for a while"),
    Phrase("방을 ", word("정리하다"), "tidy", " up $ room"),
    Phrase("이메일을 ", word("확인하다"), "check", " $ email"),
    Phrase("뉴스를 ", word("보다"), "watch", " the news"),
    Phrase("설거지를 ", word("하다"), "do", " the dishes"),
)


def before_after(draw: Draw, style: str) -> Pair:
    """After having dinner, Jiyoung watched a movie; I will check my email before I read a novel."""
    tense, frame, small = draw.pick(("past", "past", "future")), draw.pick(_ROUTINE), draw.pick(_SMALL)
    after = draw.chance(0.6)
    phrase = act(draw, frame)
    if phrase.tail == small.tail or phrase.ko == small.ko:
        return before_after(draw, style)
    person = person_for(draw, style, "s" if "homework" in small.tail else frame.traits)
    first, second = (small, phrase) if after else (phrase, small)
    adjuncts = adjuncts_of(draw, frame, tense, richness=0.5, timed=0.5)
    if not after:
        adjuncts = adjuncts._replace(
            ko="", end=adjuncts.end if not adjuncts.ko else "", time="" if adjuncts.ko else adjuncts.time
        )
    ending, link = draw.pick((("(으)ㄴ 후에", "after"), ("(으)ㄴ 뒤에", "after"))) if after else ("기 전에", "before")
    ko = spaced(
        adjuncts.time,
        people.subject(person, style),
        first.ko + conjugate(first.verb, ending),
        adjuncts.ko,
        final(second, tense, style, respectful=person.honorific),
    )
    main = english_clause(person.en, person.agreement, second, tense, adjuncts)
    gerund = f"{link} {english.gerund(first.en)}{first.tail}"
    return ko, finished(f"{gerund}, {main}" if draw.chance(0.5) else f"{main} {gerund}", person)


_BACKGROUND = (
    Phrase("음악을 ", word("듣다"), "listen", " to music"),
    Phrase("라디오를 ", word("듣다"), "listen", " to the radio"),
    Phrase("텔레비전을 ", word("보다"), "watch", " TV"),
    Phrase("커피를 ", word("마시다"), "drink", " coffee"),
    Phrase("노래를 ", word("부르다"), "sing"),
    Phrase("친구와 ", word("이야기하다"), "talk", " with a friend"),
    Phrase("뉴스를 ", word("듣다"), "listen", " to the news"),
    Phrase("간식을 ", word("먹다"), "eat", " a snack"),
)
_FOREGROUND = tuple(
    f
    for f in FRAMES
    if (
        f.slot in ("room", "vegetable", "flower", "article", "device", "furniture")
        and f.verb.stem in ("청소하", "꾸미", "씻", "썰", "그리", "읽", "고치", "만들")
    )
    or f.verb.stem in ("요리하", "산책하", "정리하")
    or f.ko in ("설거지를 ", "빨래를 ", "버스를 ", "쓰레기를 ", "빵을 ", "신문을 ", "숙제를 ", "벽을 ")
)


def while_doing(draw: Draw, style: str) -> Pair:
    """My father washed the dishes while listening to the radio."""
    frame, other = draw.pick(_FOREGROUND), draw.pick(_BACKGROUND)
    person, phrase = person_for(draw, style, frame.traits), act(draw, frame)
    tense = draw.pick(("past", "past", "progressive", "past progressive", "present"))
    alone = frame._replace(traits=frame.traits.replace("c", ""))
    adjuncts = adjuncts_of(draw, alone, tense, richness=0.4, timed=0.6)
    ko = spaced(
        people.subject(person, style),
        adjuncts.time,
        adjuncts.ko,
        other.ko + conjugate(other.verb, "(으)면서"),
        final(phrase, tense, style, respectful=person.honorific),
    )
    main = english_clause(person.en, person.agreement, phrase, tense, adjuncts)
    return ko, finished(f"{main} while {english.gerund(other.en)}{other.tail}", person)


def contrast(draw: Draw, style: str) -> Pair:
    """I ate an apple, but Minsu ate a pear; she wanted to rest but couldn't."""
    frame = draw.pick(_SLOTTED)
    tense = draw.pick(("past", "past", "future", "present") if "h" in frame.traits else ("past", "future"))
    one, two = act(draw, frame, general=tense == "present"), act(draw, frame, general=tense == "present")
    first = draw.pick((people.I, draw.pick(people.NAMES)))
    second = draw.pick(people.NAMES)
    if second.en == first.en or one.tail.split()[-1:] == two.tail.split()[-1:]:
        return contrast(draw, style)
    time_ko, adverb, time_en = time_of(draw, tense, frame.traits) if tense != "present" else ("", "", "")
    if tense == "future":
        head = f"{one.ko}{conjugate(one.verb, '(으)ㄹ')} 거지만"
    else:
        before, last = tensed(one, tense)
        head = before + conjugate(last, "지만")
    ko = spaced(time_ko, people.subject(first, style), head, people.subject(second, style), final(two, tense, style))
    left = english_clause(first.en, first.agreement, one, tense, Adjuncts(adverb=adverb))
    return ko, finished(
        f"{left}, but {english_clause(second.en, second.agreement, two, tense, Adjuncts(end=time_en))}", first
    )


_SLOTTED = tuple(f for f in DONE if f.reference == "@")
OBSTACLES = (  # what prevented it; English with {they} and {were}
    ("시간이 없어서", "{they} had no time"),
    ("너무 피곤해서", "{they} {were} too tired"),
    ("갑자기 일이 생겨서", "something suddenly came up"),
    ("몸이 아파서", "{they} {were} sick"),
    ("감기에 걸려서", "{they} had a cold"),
    ("할 일이 너무 많아서", "{they} had too much to do"),
    ("머리가 아파서", "{they} had a headache"),
    ("손님이 와서", "a guest came"),
    ("너무 바빠서", "{they} {were} too busy"),
    ("일이 늦게 끝나서", "work ended late"),
)
_NO_MONEY = ("돈이 부족해서", "{they} did not have enough money")


def obstacle(draw: Draw, style: str) -> Pair:
    """She wanted to go swimming last weekend, but she couldn't because she had a cold."""
    frame = draw.pick(DONE)
    person, phrase = person_for(draw, style, frame.traits), act(draw, frame)
    adjuncts = adjuncts_of(draw, frame._replace(traits=frame.traits.replace("l", "")), "past", richness=0.5, timed=0.8)
    wish = modal(phrase, "want" if person.group == "speaker" else "want third")
    head, last = tensed(wish, "past", person.honorific)
    why_ko, why_en = _NO_MONEY if frame.verb.stem == "사" and draw.chance(0.4) else draw.pick(OBSTACLES)
    why_en = why_en.format(they=person.pronoun, were="were" if person.agreement == "p" else "was")
    subject = people.subject(person, style)
    ending = final(Phrase("못 ", word("하다"), ""), "past", style, respectful=person.honorific)
    contracted = "couldn't" if style in ("casual", "polite") else "could not"
    main = english_clause(person.en, person.agreement, wish, "past", adjuncts)
    ko = spaced(subject, adjuncts.time, adjuncts.ko, f"{head}{conjugate(last, '지만')}", why_ko, ending)
    return ko, finished(f"{main}, but {person.pronoun} {contracted} because {why_en}", person)


_DESTINATIONS = (
    "library",
    "cafe",
    "park",
    "restaurant",
    "market",
    "mall",
    "gym",
    "pool",
    "beach",
    "theater",
    "supermarket",
    "bookstore",
    "museum",
    "zoo",
    "bakery",
    "florist",
    "playground",
    "gallery",
    "academy",
    "river",
    "village",
)
_REACHED = tuple(f for f in DONE if any(p in _DESTINATIONS for p in f.places))


def purpose(draw: Draw, style: str) -> Pair:
    """My parents went to the market by bus to buy vegetables."""
    frame = draw.pick(_REACHED)
    place, where = people.PLACES[draw.pick([p for p in frame.places if p in _DESTINATIONS])]
    person, phrase = person_for(draw, style, frame.traits), act(draw, frame)
    tense = draw.pick(("past", "past", "future", "progressive"))
    time_ko, _, time_en = (
        time_of(draw, "past" if tense == "past" else "future", "m") if draw.chance(0.7) else ("", "", "")
    )
    means_ko, means_en = draw.pick(people.TRANSPORT) if draw.chance(0.3) else ("", "")
    going = Phrase(
        f"{phrase.ko}{conjugate(phrase.verb, '(으)러')} {place}에 {means_ko}{' ' if means_ko else ''}",
        word("가다"),
        "go",
    )
    to = "to " + where.split(" ", 1)[1]
    ko = spaced(
        time_ko,
        people.subject(person, style),
        final(going, "past" if tense == "past" else "future", style, respectful=person.honorific),
    )
    main = english_clause(person.en, person.agreement, going, tense)
    return ko, finished(spaced(main, to, means_en, f"to {phrase.en}{phrase.tail}") + time_en, person)


def alternatives(draw: Draw, style: str) -> Pair:
    """On weekends I read a book or watch a movie."""
    one, two = _two_frames(draw, _PASTIMES)
    person = person_for(draw, style, one.traits + two.traits)
    first, second = act(draw, one, general=True), act(draw, two, general=True)
    time, en = draw.pick(
        (
            ("주말에는", "on weekends"),
            ("시간이 있을 때", "in {} free time"),
            ("쉬는 날에는", "on days off"),
            ("휴가 때", "on vacation"),
        )
    )
    en = en.format(person.possessive)
    ko = spaced(
        people.subject(person, style),
        time,
        "보통",
        first.ko + conjugate(first.verb, "거나"),
        final(second, "present", style, respectful=person.honorific),
    )
    clause = english_clause(person.en, person.agreement, first, "present", Adjuncts(adverb="usually"))
    return ko, finished(f"{clause} or {_verb_phrase(second, 'present', person.agreement)} {en}", person)


def meanwhile(draw: Draw, style: str) -> Pair:
    """While Minsu was cleaning the kitchen, my sister watched a movie; he studied, but she took a walk."""
    one, two = _two_frames(draw, _SPENT)
    first, second = draw.pick(people.NAMES), person_for(draw, style, two.traits)
    if first.en == second.en or second.group == "pronoun":
        return meanwhile(draw, style)
    a, b = act(draw, one), act(draw, two)
    time_ko, _, time_en = time_of(draw, "past", "D")
    before, after = adjuncts_of(draw, one, "progressive", timed=0), adjuncts_of(draw, two, "progressive", timed=0)
    subject = people.subject(second, style)
    end = final(b, "past", style, respectful=second.honorific)
    if draw.chance(0.5):
        clause = spaced(people.subject(first, style, "이"), before.ko, a.ko + conjugate(a.verb, "는"), "동안")
        left = f"while {english_clause(first.en, first.agreement, a, 'past progressive', before)},"
    else:
        clause = spaced(people.subject(first, style), before.ko, a.ko + conjugate(past(a.verb), "지만"))
        left = f"{english_clause(first.en, first.agreement, a, 'past', before)}, but"
    right = english_clause(second.en, second.agreement, b, "past", after).replace("$", second.possessive)
    return spaced(time_ko, clause, subject, after.ko, end), finished(f"{left} {right}{time_en}", first)


KINDS = (  # weight, sentence kind
    (9, sequence),
    (6, before_after),
    (3, while_doing),
    (4, contrast),
    (5, obstacle),
    (5, purpose),
    (2, alternatives),
    (8, meanwhile),
)
