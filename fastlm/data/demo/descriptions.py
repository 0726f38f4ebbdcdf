# ruff: noqa: E501 - word tables: one entry group a line reads better than wrapped Hangul (counted double)
"""What things and people are like: qualities, comparisons, places of things, quantities, work, likes and dislikes."""

from __future__ import annotations

from fastlm.data.demo import english, people
from fastlm.data.demo.clauses import Draw, Pair, Phrase, attributive, english_clause, final, finished, spaced
from fastlm.data.demo.daily import person_for
from fastlm.data.demo.korean import ADJECTIVE, conjugate, copula, finish, honorific, particle, word
from fastlm.data.demo.lexicon import ADJECTIVES, ATTRIBUTIVE, COLOURS, NOUNS, Adjective, Noun

_DESCRIBED = ("fruit", "snack", "dish", "reading", "article", "show", "top", "accessory", "shoes", "flower", "device", "furniture", "vehicle", "pet",
              "instrument", "place", "room", "tool", "hot_drink", "cold_drink")  # fmt: skip
_OWNED = ("top", "accessory", "shoes", "device", "furniture", "vehicle", "pet", "instrument", "tool", "room", "reading")
_NAMED = ("subject", "language", "sport", "skill")
PREDICATIVE: dict[str, tuple[Adjective, ...]] = {
    name: tuple(a for a in adjectives if a.ko.stem + "다" not in ATTRIBUTIVE) for name, adjectives in ADJECTIVES.items()
}
_COMPARABLE = {
    name: tuple(a for a in adjectives if a.ko.stem[-1] not in COLOURS) for name, adjectives in PREDICATIVE.items()
}
_DEGREES = (
    ("", ""),
    ("아주", "very"),
    ("정말", "really"),
    ("매우", "very"),
    ("꽤", "quite"),
    ("너무", "too"),
    ("별로 안", "not very"),
)
_SHORT = ("big", "small", "cheap", "fresh", "warm", "hot", "cold", "strong", "sweet", "thick", "thin", "long", "short", "sad", "fun", "quiet", "light",
          "heavy", "fast", "slow", "cute", "pretty", "clever", "old", "clean", "bright", "dark", "noisy", "easy", "kind", "young", "smart",
          "busy", "brave", "lazy", "tall", "deep", "safe", "large", "sturdy", "dirty", "salty", "spicy", "scary", "gentle", "green", "tasty", "healthy", "far away")  # fmt: skip


def comparative(adjective: str) -> str:
    """``big`` -> ``bigger``, ``expensive`` -> ``more expensive``."""
    return {"far away": "farther away", "fun": "more fun", "good": "better"}.get(adjective) or _graded(
        adjective, "er", "more"
    )


def superlative(adjective: str) -> str:
    """``big`` -> ``biggest``, ``expensive`` -> ``most expensive``."""
    return {"far away": "farthest", "fun": "most fun", "good": "best"}.get(adjective) or _graded(
        adjective, "est", "most"
    )


def _graded(adjective: str, suffix: str, more: str) -> str:
    if adjective not in _SHORT:
        return f"{more} {adjective}"
    if adjective.endswith("y"):
        return adjective[:-1] + "i" + suffix
    if adjective in ("big", "hot", "sad", "thin"):
        return adjective + adjective[-1] + suffix
    return adjective.removesuffix("e") + suffix


def _be(noun: Noun, tense: str = "present") -> str:
    return english.verb_group("be", tense, "p" if noun.number == "+" else "3")[0]


def _the(draw: Draw, noun: Noun, owned: bool) -> Pair:
    """A known thing: this, that, or the one of somebody."""
    kind = draw.random()
    plural = noun.number == "+"
    if kind < 0.45:
        return f"이 {noun.ko}", f"{'these' if plural else 'this'} {noun.en}"
    if kind < 0.7 or not owned:
        return f"그 {noun.ko}", f"the {noun.en}"
    person = draw.pick(people.NAMES)
    return f"{person.ko}의 {noun.ko}", f"{person.en}'s {noun.en}"


def quality(draw: Draw, style: str) -> Pair:
    """This book is very interesting; the rooms were not very bright."""
    name = draw.pick(_DESCRIBED)
    noun, adjective = draw.pick(NOUNS[name]), draw.pick(PREDICATIVE[name])
    ko_noun, en_noun = _the(draw, noun, name in _OWNED)
    degree_ko, degree_en = ("", "") if adjective.ko.stem[-1] in COLOURS else draw.pick(_DEGREES)
    if degree_en == "too" and adjective.en not in _FAULTS:
        degree_ko, degree_en = "정말", "really"
    tense = "past" if draw.chance(0.25) else "present"
    if degree_ko.endswith("안"):
        phrase = Phrase(f"별로 {conjugate(adjective.ko, '지')} ", word("않다", ADJECTIVE), "")
    else:
        phrase = Phrase(degree_ko + (" " if degree_ko else ""), adjective.ko, "")
    ko = f"{particle(ko_noun, '은')} {final(phrase, tense, style)}"
    return ko, finished(spaced(en_noun, _be(noun, tense), degree_en, adjective.en), people.I)


def two_qualities(draw: Draw, style: str) -> Pair:
    """This hotel is quiet and clean; that watch is pretty but expensive."""
    name = draw.pick(_DESCRIBED)
    noun = draw.pick(NOUNS[name])
    first, second = draw.two(PREDICATIVE[name])
    good, bad = first.en not in _FAULTS, second.en not in _FAULTS
    if first.ko.stem[-1] in COLOURS or second.ko.stem[-1] in COLOURS or frozenset((first.en, second.en)) in _OPPOSITES:
        return two_qualities(draw, style)
    ending, link = ("고", "and") if good == bad else ("지만", "but")
    ko_noun, en_noun = _the(draw, noun, name in _OWNED)
    ko = f"{particle(ko_noun, '은')} {conjugate(first.ko, ending)} {finish(second.ko, style)}"
    return ko, finished(f"{en_noun} {_be(noun)} {first.en} {link} {second.en}", people.I)


_FAULTS = ("expensive", "salty", "bland", "difficult", "boring", "scary", "sad", "heavy", "worn-out", "slow", "noisy", "crowded", "cramped", "dark",
           "dirty", "cold", "complicated", "small", "distant", "hot", "dangerous", "tiring", "far away", "lazy", "long")  # fmt: skip
_OPPOSITES = {frozenset(pair.split("/")) for pair in (
    "big/small", "cheap/expensive", "thick/thin", "long/short", "fast/slow", "light/heavy", "quiet/noisy", "clean/dirty", "spacious/cramped", "bright/dark",
    "difficult/easy", "cold/warm", "hot/cold", "salty/bland", "fun/boring", "boring/touching", "nearby/distant", "hot/warm", "spacious/small", "big/spacious",
    "quiet/crowded", "noisy/crowded", "red/blue", "sad/fun", "hardworking/lazy", "important/complicated", "cheap/stylish", "thin/heavy", "scary/boring",
    "worn-out/stylish", "cold/refreshing", "small/spacious", "strong/sweet", "scary/fun", "boring/famous",
)}  # fmt: skip


def comparison(draw: Draw, style: str) -> Pair:
    """A train is faster than a bus; math is more difficult than history; Minsu is taller than Junho."""
    kind = draw.random()
    if kind < 0.3:
        first, second = draw.two(people.NAMES)
        adjective = draw.pick([a for a in _COMPARABLE["person"] if a.en != "famous"])
        ko_first, ko_second = people.subject(first, style), people.named(second, style)
        en_first, en_second, be = first.en, second.en, "is"
    elif kind < 0.65:
        name = draw.pick((*_NAMED, "city", "world_city"))
        one, two = draw.two(NOUNS[name])
        adjective = draw.pick(_COMPARABLE[name])
        ko_first, ko_second, en_first, en_second, be = particle(one.ko, "은"), two.ko, one.en, two.en, "is"
    else:
        name = draw.pick(_DESCRIBED)
        noun = draw.pick(NOUNS[name])
        adjective = draw.pick(_COMPARABLE[name])
        plural = noun.number == "+"
        ko_first, ko_second = particle(f"이 {noun.ko}", "은"), f"{draw.pick(('그', '저'))} {noun.ko}"
        en_first, be = f"{'these' if plural else 'this'} {noun.en}", "are" if plural else "is"
        en_second = f"those {noun.en}" if plural else f"that {noun.en}" if noun.number == "~" else "that one"
    if draw.chance(0.3):
        ko = f"{ko_first} {ko_second}만큼 {conjugate(adjective.ko, '지')} {finish(word('않다', ADJECTIVE), style)}"
        return ko, finished(f"{en_first} {be} not as {adjective.en} as {en_second}", people.I)
    much_ko, much_en = draw.pick((("더", ""), ("훨씬 더", "much"), ("조금 더", "a little")))
    ko = f"{ko_first} {ko_second}보다 {much_ko} {finish(adjective.ko, style)}"
    return ko, finished(spaced(en_first, be, much_en, comparative(adjective.en), "than", en_second), people.I)


_REALMS = {
    "city": (("한국에서", "in Korea"),), "place": (("이 도시에서", "in this city"), ("우리 동네에서", "in our neighborhood")),
    "room": (("이 건물에서", "in this building"),), "device": (("이 가게에서", "in this store"),),
    "show": (("올해 본", "I have seen this year"),), "reading": (("지금까지 읽은", "I have read so far"),), "nature": (("이 나라에서", "in this country"),),
    "person": (("우리 학교에서", "in our school"), ("우리 반에서", "in our class"), ("이 마을에서", "in this village"), ("우리 회사에서", "in our company")),
    "food": (("이 식당에서", "in this restaurant"),), "vehicle": (("이 회사가 만든", "this company has made"),), "animal": (("이 동물원에서", "in this zoo"),),
}  # fmt: skip


def superlatives(draw: Draw, style: str) -> Pair:
    """Busan is the most beautiful city in Korea; who is the tallest student in our class?"""
    name = draw.pick(tuple(_REALMS))
    realm_ko, realm_en = draw.pick(_REALMS[name])
    adjective = draw.pick(_COMPARABLE[name])
    if adjective.en == "far away":
        return superlatives(draw, style)
    link = "중에서 " if realm_ko[-1] in "본은든" else ""
    most = f"가장 {conjugate(adjective.ko, '는')}"
    if name == "person":
        who = draw.pick(people.NAMES)
        subject_ko, en, head = people.subject(who, style), who.en, Noun("사람", "person", "", "", "")
    elif name == "city":
        noun = draw.pick(NOUNS["city"])
        subject_ko, en, head = particle(noun.ko, "은"), noun.en, Noun("도시", "city", "", "", "")
    else:
        head = draw.pick(NOUNS[name])
        subject_ko, en = (
            "이것은"
            if name in ("device", "vehicle", "show", "reading", "food")
            else "여기는"
            if name != "animal"
            else "저것은",
            "this",
        )
        if name == "animal":
            en = "that"
    if head.number == "!":
        return superlatives(draw, style)
    link_ko = f"{realm_ko} {head.ko} {link}" if link else f"{realm_ko} "
    verb = "are" if head.number == "+" else "is"
    if head.number == "+":
        en = {"this": "these", "that": "those"}[en]
    ko = f"{subject_ko} {link_ko}{most} {finish(copula(head.ko), style)}"
    return ko, finished(f"{en} {verb} the {superlative(adjective.en)} {head.en} {realm_en}", people.I)


_SPOTS = (("위에", "on"), ("옆에", "next to"), ("앞에", "in front of"), ("아래에", "under"), ("뒤에", "behind"))
_SMALL_THINGS = ("stationery", "accessory", "fruit", "tool", "reading", "snack")


def existence(draw: Draw, style: str) -> Pair:
    """There are three books on the desk; there is a bank next to the post office."""
    n = draw.integer(1, 6)
    if draw.chance(0.35):
        one, two = draw.two(NOUNS["place"])
        where, en_where = draw.pick((*_SPOTS[1:3], ("근처에", "near"), ("맞은편에", "across from")))
        ko = f"{two.ko} {where} {particle(one.ko, '이')} {finish(word('있다'), style)}"
        return ko, f"There is {english.article(one.en)} {en_where} the {two.en}."
    base = draw.pick(
        ("책상=desk", "식탁=dining table", "의자=chair", "침대=bed", "소파=sofa", "탁자=table", "선반=shelf")
    ).split("=")
    name = draw.pick(_SMALL_THINGS)
    edible = name in ("fruit", "snack")
    where, en_where = draw.pick(_SPOTS if base[1] != "shelf" and not edible else _SPOTS[:1])
    noun = draw.pick([x for x in NOUNS[name] if not x.number])
    if edible and base[1] in ("chair", "bed", "sofa"):
        return existence(draw, style)
    tense = "past" if draw.chance(0.25) else "present"
    count = f"{people.NATIVE[n]} {noun.counter} "
    exist = final(Phrase("", word("있다"), ""), tense, style)
    be = english.verb_group("be", tense, "p" if n > 1 else "3")[0]
    things = english.counted(n, noun.en) if n > 1 else english.article(noun.en)
    if n == 1 and draw.chance(0.4):
        exist = final(Phrase("", word("없다"), ""), tense, style)
        return (
            f"{base[0]} {where} {particle(noun.ko, '이')} {exist}",
            f"There {be} no {noun.en} {en_where} the {base[1]}.",
        )
    ko = f"{base[0]} {where} {particle(noun.ko, '이')} {count if n > 1 or draw.chance(0.4) else ''}{exist}"
    return ko, f"There {be} {things} {en_where} the {base[1]}."


_EMPLOYERS = (("병원에서", "at a hospital"), ("은행에서", "at a bank"), ("무역 회사에서", "at a trading company"), ("대학교에서", "at a university"),
              ("신문사에서", "at a newspaper"), ("컴퓨터 회사에서", "at a computer company"), ("방송국에서", "at a broadcasting station"),
              ("여행사에서", "at a travel agency"), ("연구소에서", "at a research institute"), ("출판사에서", "at a publishing company"))  # fmt: skip


def occupation(draw: Draw, style: str) -> Pair:
    """Minsu is a doctor and lives in Busan; my aunt wants to become a pilot."""
    person, job, city = person_for(draw, style, "s"), draw.pick(NOUNS["job"]), draw.pick(NOUNS["city"])
    while person.agreement == "p":
        person = person_for(draw, style, "s")
    subject, kind = people.subject(person, style), draw.random()
    a_job = english.article(job.en)
    if kind < 0.3:
        ko = f"{subject} {conjugate(copula(job.ko), '고')} {city.ko}에서 {finish(word('살다'), style)}"
        live = "live" if person.agreement == "1" else "lives"
        return ko, finished(f"{person.en} {_am(person.agreement)} {a_job} and {live} in {city.en}", person)
    if kind < 0.5:
        wish = word("싶다", ADJECTIVE) if person is people.I else word("싶어 하다")
        ko = f"{subject} {particle(job.ko, '이')} 되고 {finish(wish, style)}"
        return ko, finished(
            english_clause(person.en, person.agreement, Phrase("", wish, "want", f" to become {a_job}"), "present"),
            person,
        )
    if kind < 0.7:
        years = draw.integer(2, 12)
        place_ko, place_en = draw.pick(_EMPLOYERS)
        ko = f"{subject} {people.SINO[years]} 년 동안 {place_ko} {final(Phrase('', word('일하다'), ''), 'past', style)}"
        return ko, finished(f"{person.en} worked {place_en} for {english.number(years)} years", person)
    if kind < 0.85:
        ko = f"{subject} {particle(job.ko, '이')} {finish(word('아니다'), style)}"
        return ko, finished(f"{person.en} {_am(person.agreement)} not {a_job}", person)
    country = draw.pick(NOUNS["country"])
    ko = f"{subject} {country.ko}에서 온 {finish(copula(job.ko), style)}"
    return ko, finished(f"{person.en} {_am(person.agreement)} {a_job} from {country.en}", person)


def _am(agreement: str) -> str:
    return english.verb_group("be", "present", agreement)[0]


_LIKED = (
    "fruit",
    "dish",
    "food",
    "hot_drink",
    "music",
    "show",
    "sport",
    "subject",
    "flower",
    "animal",
    "pet",
    "city",
    "snack",
    "vegetable",
)
_GENERAL = ("꽃", "음악", "노래")  # take in others of their class


def generic(noun: Noun) -> str:
    """The noun in general: ``apples``, ``soup``, ``Seoul``."""
    return noun.en if noun.number or noun.en[0].isupper() else english.plural(noun.en)


def likes(draw: Draw, style: str) -> Pair:
    """I like persimmons but dislike onions; Minsu likes tea better than coffee."""
    name, person = draw.pick(_LIKED), person_for(draw, style)
    one, two = draw.two([noun for noun in NOUNS[name] if noun.ko not in _GENERAL])
    subject, kind = people.subject(person, style), draw.random()
    like = Phrase("", word("좋아하다"), "like")
    if kind < 0.35:
        ko = f"{subject} {two.ko}보다 {particle(one.ko, '을')} 더 {final(like, 'present', style, respectful=person.honorific)}"
        return ko, finished(
            f"{english_clause(person.en, person.agreement, like, 'present')} {generic(one)} better than {generic(two)}",
            person,
        )
    if kind < 0.7:
        ko = f"{subject} {particle(one.ko, '은')} 좋아하지만 {particle(two.ko, '은')} {final(Phrase('좋아하지 ', word('않다'), ''), 'present', style, respectful=person.honorific)}"
        negative = english_clause(
            person.pronoun, person.agreement, like, "present", negative=True, contracted=style in ("casual", "polite")
        )
        return ko, finished(
            f"{english_clause(person.en, person.agreement, like, 'present')} {generic(one)}, but {negative} {generic(two)}",
            person,
        )
    ko = f"{subject} {particle(one.ko, '과')} {particle(two.ko, '을')} {final(like, 'present', style, respectful=person.honorific)}"
    return ko, finished(
        f"{english_clause(person.en, person.agreement, like, 'present')} {generic(one)} and {generic(two)}", person
    )


def character(draw: Draw, style: str) -> Pair:
    """The new employee is a kind and hardworking person; my uncle is a famous writer."""
    person, kind = person_for(draw, style), draw.random()
    while person.agreement == "p" or person.group == "speaker":
        person = person_for(draw, style)
    subject = people.subject(person, style)
    if kind < 0.5:
        first, second = draw.two(PREDICATIVE["person"])
        if (
            frozenset((first.en, second.en)) in _OPPOSITES
            or "lazy" in (first.en, second.en)
            or "famous" in (first.en, second.en)
        ):
            return character(draw, style)
        being = honorific(copula("분")) if person.honorific else copula("사람")
        ko = f"{subject} {conjugate(first.ko, '고')} {conjugate(second.ko, '는')} {finish(being, style)}"
        return ko, finished(f"{person.en} is {english.article(first.en)} and {second.en} person", person)
    if person.group not in ("name", "kin"):
        return character(draw, style)
    job = draw.pick(NOUNS["job"])
    ko, en = attributive(draw, "job", job)
    being = honorific(copula(ko)) if person.honorific else copula(ko)
    return f"{subject} {finish(being, style)}", finished(f"{person.en} is {english.article(en)}", person)


KINDS = (  # weight, sentence kind
    (5, quality), (3, two_qualities), (6, comparison), (3, superlatives), (4, existence), (4, occupation), (5, likes), (3, character),
)  # fmt: skip
