"""Clauses inside clauses: what somebody bought, said, explained, and whether they did it."""

from __future__ import annotations

from fastlm.data.demo import english, people
from fastlm.data.demo.activities import FRAMES
from fastlm.data.demo.clauses import (
    Draw,
    Pair,
    Phrase,
    act,
    adjuncts_of,
    english_clause,
    final,
    finished,
    spaced,
    tensed,
    time_of,
)
from fastlm.data.demo.daily import frame_and_tense, person_for
from fastlm.data.demo.joined import DONE, OBSTACLES
from fastlm.data.demo.korean import Word, conjugate, finish, particle, past, word
from fastlm.data.demo.lexicon import ADJECTIVES, ATTRIBUTIVE, COLOURS, NOUNS

_KEPT = tuple(f for f in FRAMES if "k" in f.traits)


def relative(draw: Draw, style: str) -> Pair:
    """The bag that my aunt bought last week is expensive."""
    frame = draw.pick(_KEPT)
    noun, person = draw.pick(NOUNS[frame.slot]), person_for(draw, style, frame.traits)
    adjective = draw.pick([a for a in ADJECTIVES[frame.slot] if a.ko.stem + "다" not in (*ATTRIBUTIVE, "유명하다")])
    time_ko, _, time_en = time_of(draw, "past", frame.traits) if draw.chance(0.7) else ("", "", "")
    place_ko, place_en = people.PLACES[draw.pick(frame.places)] if frame.places and draw.chance(0.3) else ("", "")
    verb = conjugate(tensed(Phrase("", frame.verb, ""), "present", person.honorific)[1], "(으)ㄴ")
    over = frame.slot in ("dish", "food", "show", "music", "hot_drink", "snack")
    degree_ko, degree_en = (
        draw.pick((("", ""), ("아주 ", "very "), ("정말 ", "really "), ("꽤 ", "quite ")))
        if adjective.ko.stem[-1] not in COLOURS
        else ("", "")
    )
    head = spaced(
        people.subject(person, style, "이"),
        time_ko,
        place_ko and place_ko + "에서",
        frame.ko + verb,
        particle(noun.ko, "은"),
    )
    ko = f"{head} {degree_ko}{finish(past(adjective.ko) if over else adjective.ko, style)}"
    be = english.verb_group("be", "past" if over else "present", "p" if noun.number == "+" else "3")[0]
    clause = spaced(person.en, english.past(frame.en)) + frame.before + frame.after
    that = " that" if draw.chance(0.5) else ""
    en = f"the {noun.en}{that} {spaced(clause, place_en)}{time_en} {be} {degree_en}{adjective.en}"
    return ko, finished(en, person)


_REPORTS = (  # Korean matrix verb, tense, its subject is oneself, English matrix
    (word("말하다"), "past", False, "said"),
    (word("듣다"), "past", True, "heard"),
    (word("생각하다"), "present", True, "think"),
    (word("믿다"), "present", True, "believe"),
    (word("하다"), "past", False, "said"),
)


def reported(draw: Draw, style: str) -> Pair:
    """The teacher said that Minsu went to the library; I think Jiyoung will learn French."""
    verb, matrix, own, en_matrix = draw.pick(_REPORTS)
    speaker = people.I if own else person_for(draw, style)
    if speaker.group == "speaker" and not own:
        speaker = draw.pick(people.OTHERS)
    frame, tense = frame_and_tense(draw)
    person, phrase = draw.pick(people.NAMES), act(draw, frame)
    if person.en == speaker.en:
        return reported(draw, style)
    timed = 0.0 if tense == "progressive" else 0.7  # "said that she was cooking now" jars
    adjuncts = adjuncts_of(draw, frame, tense, richness=0.35, timed=timed)
    if tense == "future":
        quoted = f"{phrase.ko}{conjugate(phrase.verb, '(으)ㄹ')} 거라고"
    else:
        head, last = tensed(phrase, tense)
        quoted = head + conjugate(last, "는다고")
    matrix_ko = final(Phrase("", verb, ""), matrix, style, respectful=speaker.honorific)
    ko = spaced(
        people.subject(speaker, style),
        people.subject(person, style, "이"),
        adjuncts.time,
        adjuncts.ko,
        quoted,
        matrix_ko,
    )
    backshift = {"future": "would", "present": "present", "progressive": "past progressive"}.get(tense, tense)
    clause = english_clause(
        person.en, person.agreement, phrase, backshift if en_matrix in ("said", "heard") else tense, adjuncts
    )
    that = " that" if draw.chance(0.5) else ""
    return ko, finished(f"{speaker.en} {en_matrix}{that} {clause.replace('$', person.possessive)}", speaker)


def whether(draw: Draw, style: str) -> Pair:
    """I don't know whether Minsu will go to the library tomorrow; do you know where she bought the hat?"""
    frame, tense = draw.pick(DONE), draw.pick(("past", "future"))
    person, phrase = draw.pick(people.NAMES), act(draw, frame)
    adjuncts = adjuncts_of(draw, frame, tense, richness=0.35, timed=0.8)
    if tense == "future":
        inner = f"{phrase.ko}{conjugate(phrase.verb, '(으)ㄹ')}지"
    else:
        inner = phrase.ko + conjugate(past(phrase.verb), "는지")
    subject = people.subject(person, style, "이")
    clause = english_clause(person.en, person.agreement, phrase, tense, adjuncts).replace("$", person.possessive)
    if style != "plain" and draw.chance(0.4):
        ko = spaced(
            subject,
            adjuncts.time,
            adjuncts.ko,
            inner,
            {"casual": "알아?", "polite": "아세요?", "formal": "아십니까?"}[style],
        )
        return ko, f"Do you know whether {clause}?"
    unsure = Word("모르겠", "past")
    ko = spaced(
        people.subject(people.I, style), subject, adjuncts.time, adjuncts.ko, inner, "잘 " + finish(unsure, style)
    )
    not_know = "don't know" if style in ("casual", "polite") else "do not know"
    return ko, f"I {not_know} {draw.pick(('whether', 'if'))} {clause}."


def explanation(draw: Draw, style: str) -> Pair:
    """The teacher told us that Minsu could not come to the meeting because he had a cold."""
    speaker = draw.pick((*people.NAMES, *(p for p in people.OTHERS if p.agreement == "3")))
    person, frame = draw.pick(people.NAMES), draw.pick(DONE)
    if person.en == speaker.en:
        return explanation(draw, style)
    phrase = act(draw, frame)
    adjuncts = adjuncts_of(draw, frame._replace(traits=frame.traits.replace("l", "")), "past", richness=0.5, timed=0.7)
    why_ko, why_en = draw.pick(OBSTACLES)
    why_en = why_en.format(they=person.pronoun, were="was")
    ko = spaced(
        people.subject(speaker, style),
        people.subject(person, style, "이"),
        why_ko,
        adjuncts.time,
        adjuncts.ko,
        f"{phrase.ko}{conjugate(phrase.verb, '지')} 못했다고",
        final(Phrase("", word("말하다"), ""), "past", style, respectful=speaker.honorific),
    )
    unable = phrase._replace(en="can", tail=f" {phrase.en}{phrase.tail}")
    contracted = style in ("casual", "polite")
    clause = english_clause(person.en, person.agreement, unable, "past", adjuncts, negative=True, contracted=contracted)
    en = f"{speaker.en} {draw.pick(('said', 'explained'))} that {clause} because {why_en}".replace(
        "$", person.possessive
    )
    return ko, finished(en, speaker)


KINDS = (  # weight, sentence kind
    (6, relative),
    (8, reported),
    (4, whether),
    (5, explanation),
)
