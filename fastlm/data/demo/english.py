"""English morphology: verb forms and verb groups, plurals, articles, numbers in words."""

from __future__ import annotations

from functools import cache

_IRREGULAR = """
be was been, become became become, begin began begun, blow blew blown, break broke broken, bring brought, build built,
buy bought, catch caught, choose chose chosen, come came come, cut cut, do did done, draw drew drawn, drink drank drunk,
drive drove driven, eat ate eaten, fall fell fallen, feed fed, feel felt, find found, fly flew flown,
forget forgot forgotten, get got gotten, give gave given, go went gone, grow grew grown, have had, hear heard,
hide hid hidden, hold held, hurt hurt, keep kept, know knew known, leave left, lend lent, let let, lose lost, make made,
mean meant, meet met, pay paid, put put, quit quit, read read, ride rode ridden, rise rose risen, run ran run, say said,
see saw seen, sell sold, send sent, set set, sing sang sung, sit sat, sleep slept, speak spoke spoken, spend spent,
stand stood, swim swam swum, take took taken, teach taught, tell told, think thought, throw threw thrown,
understand understood, wake woke woken, wear wore worn, win won, withdraw withdrew withdrawn, write wrote written
"""
_IRREGULAR_VERBS = {  # base: past, past participle; the others add -ed
    forms[0]: (forms[1], forms[-1]) for forms in (row.split() for row in _IRREGULAR.split(","))
}
_DOUBLED_VERBS = """
begin chat chop cut drop forget get hug jog let nap plan put quit rub run set shop sit skip stop submit swim trim win
wrap
"""
_DOUBLED = frozenset(_DOUBLED_VERBS.split())  # the last consonant, before -ed and -ing
_PLURALS = """
person people, man men, woman women, child children, foot feet, tooth teeth, mouse mice, knife knives, shelf shelves,
leaf leaves, scarf scarves, wolf wolves, wife wives, loaf loaves, half halves, potato potatoes, tomato tomatoes,
hero heroes, fish fish, sheep sheep, deer deer, goose geese, series series
"""
_IRREGULAR_PLURALS = dict(row.split() for row in _PLURALS.split(","))
_AN = ("hour", "honest", "heir", "MP", "SMS", "HTML")  # begin with a vowel sound in spite of the letter
_A = ("uni", "use", "usu", "one", "euro", "URL", "UI", "UT", "UR")  # and the reverse
_BE = {"1": ("am", "was"), "3": ("is", "was"), "2": ("are", "were"), "p": ("are", "were")}
_MODALS = ("can", "could", "will", "would", "should", "may", "might", "must")
_IN_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty
"""
NUMBERS = _IN_WORDS.split()


@cache
def third_person(verb: str) -> str:
    """``go`` -> ``goes``."""
    special = {"be": "is", "have": "has"}
    return special.get(verb) or _add_s(verb)


@cache
def past(verb: str) -> str:
    """``stop`` -> ``stopped``."""
    return _IRREGULAR_VERBS[verb][0] if verb in _IRREGULAR_VERBS else _add_ed(verb)


@cache
def participle(verb: str) -> str:
    """The past participle: ``take`` -> ``taken``."""
    return _IRREGULAR_VERBS[verb][1] if verb in _IRREGULAR_VERBS else _add_ed(verb)


@cache
def gerund(verb: str) -> str:
    """``make`` -> ``making``."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return verb[:-1] + "ing"
    return (verb + verb[-1] if verb in _DOUBLED else verb) + "ing"


def _add_s(text: str) -> str:
    if text.endswith("y") and text[-2] not in "aeiou":
        return text[:-1] + "ies"
    return text + ("es" if text.endswith(("s", "x", "z", "ch", "sh")) or text in ("go", "do") else "s")


def _add_ed(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return (verb + verb[-1] if verb in _DOUBLED else verb) + "ed"


@cache
def plural(noun: str) -> str:
    """The plural of a noun or compound: ``tomato`` -> ``tomatoes``, ``cup of tea`` -> ``cups of tea``."""
    head, of, rest = noun.partition(" of ")
    before, space, last = head.rpartition(" ")
    return before + space + (_IRREGULAR_PLURALS.get(last) or _add_s(last)) + of + rest


@cache
def article(phrase: str) -> str:
    """``phrase`` with ``a`` or ``an`` by its first sound."""
    vowel = phrase[0] in "aeiouAEIOU" and not phrase.startswith(_A)
    return ("an " if vowel or phrase.startswith(_AN) else "a ") + phrase


def number(n: int) -> str:
    """In words up to twenty, in digits above."""
    return NUMBERS[n] if n < len(NUMBERS) else f"{n:,}"


def counted(n: int, noun: str) -> str:
    """``three apples``."""
    return f"{number(n)} {noun if n == 1 else plural(noun)}"


def capitalised(sentence: str) -> str:
    """``sentence`` with its first letter in upper case."""
    return sentence[0].upper() + sentence[1:]


@cache
def verb_group(
    verb: str, tense: str, agreement: str, negative: bool = False, question: bool = False, contracted: bool = True
) -> tuple[str, str]:
    """A finite verb as (what a question puts before the subject, the rest).

    Args:
        verb: base form; ``can`` and the other modals stand for themselves.
        tense: present, past, future, going, progressive, past progressive, perfect, or a modal ("should").
        agreement: 1 (I), 2 (you), 3 (he, she, it), p (we, they).
        negative: adds ``not``, contracted (``n't``) or in full; do-support where no auxiliary stands.
        question: do-support where no auxiliary stands.

    Returns:
        ("does", "eat") for a question, ("doesn't", "eat") negative, ("", "eats") plain. For be: ("is", "").
    """
    present_be, past_be = _BE[agreement]
    third = agreement == "3"
    if verb in _MODALS:
        auxiliary, rest = ({"can": "could", "will": "would"}.get(verb, verb) if tense == "past" else verb), ""
    elif tense in _MODALS:
        auxiliary, rest = tense, verb
    else:
        auxiliary, rest = {
            "future": ("will", verb),
            "going": (present_be, f"going to {verb}"),
            "progressive": (present_be, gerund(verb)),
            "past progressive": (past_be, gerund(verb)),
            "perfect": ("has" if third else "have", participle(verb)),
        }.get(tense, ("", ""))
    if not auxiliary and verb == "be":
        auxiliary = past_be if tense == "past" else present_be
    if not auxiliary:
        if not (negative or question):
            return "", past(verb) if tense == "past" else third_person(verb) if third else verb
        auxiliary, rest = ("did" if tense == "past" else "does" if third else "do"), verb
    if negative and not question:
        auxiliary = negated(auxiliary, contracted)
    return auxiliary, rest


def negated(auxiliary: str, contracted: bool) -> str:
    """``do`` -> ``don't`` or ``do not``."""
    if not contracted or auxiliary in ("am", "may", "might"):
        return "cannot" if auxiliary == "can" else f"{auxiliary} not"
    return {"will": "won't", "can": "can't"}.get(auxiliary, auxiliary + "n't")
