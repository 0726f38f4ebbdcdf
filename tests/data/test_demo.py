"""The demo corpus: distinct, the same everywhere, varied, well formed on both sides."""

from __future__ import annotations

import collections
import hashlib
import itertools
import os
import re
import subprocess
import sys
import time
import unicodedata

import pytest

from fastlm.data import demo
from fastlm.data.demo import causes, english, korean
from fastlm.data.demo.activities import FRAMES
from fastlm.data.demo.lexicon import ADJECTIVES, NOUNS
from fastlm.errors import DataError

PAIRS = 100_000


@pytest.fixture(scope="module")
def sentences() -> list[demo.Sentence]:
    return list(demo.distinct(0, PAIRS))


def _digest(pairs: list[tuple[str, str]]) -> str:
    return hashlib.sha256("\n".join(f"{ko}\t{en}" for ko, en in pairs).encode()).hexdigest()


def test_each_side_is_distinct(sentences: list[demo.Sentence]) -> None:
    assert len(sentences) == PAIRS
    assert len({s.ko for s in sentences}) == PAIRS
    assert len({s.en for s in sentences}) == PAIRS


def test_generate_takes_its_pairs_from_the_stream_and_fewer_are_a_prefix() -> None:
    pairs = demo.generate(3, 500)
    assert pairs == [(s.ko, s.en) for s in demo.distinct(3, 500)]
    assert demo.generate(3, 200) == pairs[:200]
    assert demo.generate(4, 200) != pairs[:200]
    assert demo.generate(0, 0) == []


@pytest.mark.parametrize("pairs", [-1, demo.CAPACITY + 1])
def test_refuses_what_the_grammar_does_not_hold(pairs: int) -> None:
    with pytest.raises(DataError, match="sentence pairs"):
        demo.generate(0, pairs)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_same_in_another_process(hash_seed: str) -> None:
    code = "import sys; from fastlm.data import demo; sys.stdout.buffer.write(repr(demo.generate(7, 3000)).encode())"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
    )
    assert _digest(eval(run.stdout.decode())) == _digest(demo.generate(7, 3000))


def test_seed_zero_is_the_published_corpus() -> None:
    """The digest changes only when the grammar does: two Pythons and two machines agree on it."""
    assert _digest(demo.generate(0, 1000)) == "3fe848f4fa66fa122e9c9443d20caeccc419b2b0dc7b4a74eea322af2e165cad"


def test_is_quick_and_needs_no_numpy_or_torch() -> None:
    code = (
        "import sys, time; from fastlm.data import demo; demo.generate(1, 20000); print(time.process_time());"
        "print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    seconds, heavy = run.stdout.splitlines()
    assert float(seconds) < 3, "20,000 pairs take about half a second of CPU"
    assert heavy == "[]"


def test_korean_side_is_well_formed(sentences: list[demo.Sentence]) -> None:
    doubled = re.compile(
        r"\s\s|^\s|\s$|[은는이가을를]{4}|(을를|를을|은는|는은|와과|으로로)|(?<!가)을을|\s[.?!]|[{}\[\]$@]|[ㄱ-ㅎㅏ-ㅣ]"
    )
    for s in sentences:
        assert re.search("[가-힣]", s.ko), s
        assert re.fullmatch(r"[^.?!].*[^.?! ][.?]", s.ko), s
        assert unicodedata.is_normalized("NFC", s.ko), s
        assert not doubled.search(s.ko), s


def test_particles_agree_with_the_noun_before_them(sentences: list[demo.Sentence]) -> None:
    """을/를 and 과/와 after every known noun, whatever the sentence; checked by the syllable, not by the generator."""
    nouns = sorted({noun.ko for group in NOUNS.values() for noun in group if len(noun.ko) > 1}, key=len, reverse=True)
    pattern = re.compile(f"(?:^| )({'|'.join(map(re.escape, nouns))})(을|를|와|과|으로)(?= )")
    checked = 0
    for s in sentences[:30_000]:
        for noun, particle in pattern.findall(s.ko):
            closed = (ord(noun[-1]) - ord("가")) % 28 != 0
            assert closed == (particle in ("을", "과", "으로")), (noun, particle, s.ko)
            checked += 1
    assert checked > 10_000


_WRONG_ENGLISH = re.compile(
    r"\b[Aa] [aeio]|\b[Aa] (?:un(?!i)|um|ap|ex)|\b[Aa]n (?!ho(?:ur|nest))[^aeiouAEIOU\W]"
    r"|\b(?:a|an|the) (?:a|an|the|this|that|my|his|her)\b"
    r"|\b(?:[Hh]e|[Ss]he|[Ii]t) (?:go|eat|have|do|are|were|drink|want|like|say|study|am)\b"
    r"|\bI (?:goes|eats|has|does|is|are|wants|likes)\b"
    r"|\b(?:[Tt]hey|[Ww]e|[Yy]ou) (?:goes|eats|has|does|is|am|was|wants|likes)\b"
    r"|\b(?:did|does|do|will|can|could|not|didn't|doesn't|don't|won't|can't|couldn't)"
    r" (?:went|ate|goes|eats|was|is|has|had|bought|saw)\b"
    r"|\b(\w+) \1\b|\b(?:childs|mans|womans|foots|fishs|sheeps|knifes|shelfs|wolfs|potatos|tomatos|breads|rices)\b"
    r"|\b(?:eated|goed|buyed|maked|readed|writed|runned|swimed|planing|writeing|makeing|studys|watchs|washs)\b"
    r"|  |^\s|\s$|\s[.?!,]|[{}\[\]$@~]|\.\."
)


def test_english_side_is_well_formed(sentences: list[demo.Sentence]) -> None:
    for s in sentences:
        assert re.fullmatch(r"[A-Z0-9].*[^.?! ][.?]|[A-Z].*[ap]\.m\.", s.en), s
        assert not re.search("[가-힣]", s.en), s
        assert not _WRONG_ENGLISH.search(s.en), (_WRONG_ENGLISH.search(s.en), s)


def test_the_english_patterns_find_what_they_are_for() -> None:
    wrong = [
        "She has a apple.",
        "He go home.",
        "They was here.",
        "He didn't went.",
        "It is an book.",
        "We have the the key.",
        "two knifes",
    ]
    assert all(_WRONG_ENGLISH.search(text) for text in wrong)


def test_questions_match_on_both_sides(sentences: list[demo.Sentence]) -> None:
    asked = [s for s in sentences if s.kind in ("yes_no", "wh_question")]
    assert all(s.ko.endswith("?") and s.en.endswith("?") for s in asked)
    stated = [
        s
        for s in sentences
        if s.kind in ("statement", "negation", "because", "sequence", "relative", "news", "quality")
    ]
    assert all(s.ko.endswith(".") and s.en.endswith(".") for s in stated)


def test_tenses_and_negation_match_on_both_sides(sentences: list[demo.Sentence]) -> None:
    for s in sentences:
        if s.kind == "statement":
            assert bool(re.search("고 (?:있|계)", s.ko)) == bool(
                re.search(r"\b(?:am|is|are|was|were) \w+ing\b", s.en)
            ), s
            assert bool(re.search(" 것이다| 거야| 거예요| 것입니다", s.ko)) == (" will " in s.en), s
        if s.kind == "negation":
            assert re.search(r"n't |\bnot ", s.en), s
            assert re.search("지 않|지 못|(?:^| )(?:안|못) ", s.ko), s


def test_vegetables_and_flowers_without_a_number_are_plural(sentences: list[demo.Sentence]) -> None:
    bought = [s for s in sentences if s.kind == "statement" and re.search("(?:감자|양파|토마토|장미)를 [샀사]", s.ko)]
    assert bought
    assert all(re.search(r"\b(?:potatoes|onions|tomatoes|roses)\b", s.en) for s in bought)


def test_every_kind_and_style_has_its_share(sentences: list[demo.Sentence]) -> None:
    kinds = collections.Counter(s.kind for s in sentences)
    assert len(kinds) >= 35
    assert min(kinds.values()) >= 250, kinds.most_common()[-3:]
    assert max(kinds.values()) <= 0.12 * PAIRS
    styles = collections.Counter(s.style for s in sentences)
    assert set(styles) == set(korean.STYLES)
    assert min(styles.values()) >= 0.08 * PAIRS


# Every syllable closed by ㅆ, but those of 있다 and -겠-.
_PAST = "".join(chr(c) for c in range(ord("가"), ord("힣") + 1) if (c - ord("가")) % 28 == 20 and chr(c) not in "있겠")


@pytest.mark.parametrize(
    ("what", "pattern", "floor"),
    [
        ("past", f"[{_PAST}](?:다|어|어요|습니다|니|습니까)[.?]$", 0.30),
        ("future", r" (?:것이다|거야|거예요|것입니다)\.$", 0.05),
        ("progressive", r"고 (?:있|계)", 0.02),
        ("because", r"기 때문에|어서 |해서 |아서 |워서 ", 0.04),
        ("if", r"면 ", 0.03),
        ("when", r" 때", 0.015),
        ("contrast", r"지만 ", 0.05),
        ("negation", r"지 않|지 못|(?:^| )(?:안|못) ", 0.06),
        ("honorific", r"[가-힣](?:시|셨|세요|신다|십니)", 0.05),
        ("comparison", r"보다 ", 0.02),
        ("question", r"\?$", 0.06),
        ("counter", r" (?:두|세|네|다섯) (?:개|권|잔|명|마리|벌|대|그릇|송이|켤레|인분|편)", 0.03),
        ("formal", r"(?:니다\.|니까\?|시오\.)$", 0.12),
        ("polite", r"요[.?]$", 0.25),
        ("plain", r"다\.$", 0.3),
        ("adnominal", r"[가-힣](?:은|는|ㄴ|한|운|쁜|큰|긴|산|본) [가-힣]+", 0.2),
    ],
)
def test_grammar_coverage(sentences: list[demo.Sentence], what: str, pattern: str, floor: float) -> None:
    expression = re.compile(pattern)
    share = sum(bool(expression.search(s.ko)) for s in sentences) / PAIRS
    assert share >= floor, f"{what}: {share:.3f}"


def test_lengths_spread(sentences: list[demo.Sentence]) -> None:
    words = sorted(len(s.en.split()) for s in sentences)
    assert words[0] <= 4
    assert words[-1] >= 25
    assert 10 <= sum(words) / PAIRS <= 13
    assert len({*words}) >= 22


def test_vocabulary_is_wide(sentences: list[demo.Sentence]) -> None:
    ko = {w for s in sentences for w in re.findall("[가-힣]+", s.ko)}
    en = {w.lower() for s in sentences for w in re.findall("[A-Za-z]+", s.en)}
    assert len(ko) >= 5000
    assert len(en) >= 1400


def test_nouns_and_adjectives_are_many() -> None:
    assert len({noun.ko for group in NOUNS.values() for noun in group}) >= 400
    assert len({adjective.en for group in ADJECTIVES.values() for adjective in group}) >= 60
    assert set(ADJECTIVES) <= set(NOUNS)


@pytest.mark.parametrize(
    ("function", "words", "expected"),
    [
        (
            english.past,
            "stop study take read go be plan visit cook",
            "stopped studied took read went was planned visited cooked",
        ),
        (english.participle, "eat write see have swim cook", "eaten written seen had swum cooked"),
        (english.third_person, "go study watch have be wash play", "goes studies watches has is washes plays"),
        (
            english.gerund,
            "make swim run study see lie visit be",
            "making swimming running studying seeing lying visiting being",
        ),
        (
            english.plural,
            "tomato knife child box story day shelf",
            "tomatoes knives children boxes stories days shelves",
        ),
    ],
)
def test_english_forms(function, words: str, expected: str) -> None:
    assert [function(w) for w in words.split()] == expected.split()


def _table_verbs() -> set[str]:
    caused = {p.en for g in causes.GROUPS for p in (*g.effects, *(c.phrase for c in g.causes))}
    return {frame.en for frame in FRAMES} | caused


_IRREGULAR = """
become begin bite blow break bring build buy catch choose come cost cut dig do draw drink drive eat fall feed feel
fight find fly forget get give go grow hang have hear hide hit hold hurt keep know lead leave lend let lie lose make
mean meet pay put quit read ride ring rise run say see seek sell send set shake shine shoot shut sing sit sleep speak
spend stand steal stick swim take teach tell think throw understand wake wear win withdraw write be
"""


def test_no_irregular_verb_of_the_tables_is_inflected_as_regular() -> None:
    for verb in _table_verbs() & set(_IRREGULAR.split()):
        assert english.past(verb) not in (f"{verb}ed", f"{verb}d"), verb
        assert english.participle(verb) not in (f"{verb}ed", f"{verb}d"), verb


def test_short_verbs_double_their_consonant() -> None:
    short = {verb for verb in _table_verbs() if re.fullmatch("[^aeiou]+[aeiou][^aeiouwxy]", verb)}
    assert {"chop", "run", "get"} <= short
    assert all(english.gerund(verb) == f"{verb}{verb[-1]}ing" for verb in short), short


def test_articles() -> None:
    phrases = [
        "apple",
        "pear",
        "hour",
        "university",
        "umbrella",
        "honest man",
        "used car",
        "URL",
        "onion",
        "one-day trip",
        "TV drama",
    ]
    assert [english.article(p).split()[0] for p in phrases] == [
        "an",
        "a",
        "an",
        "a",
        "an",
        "an",
        "a",
        "a",
        "an",
        "a",
        "a",
    ]


def test_verb_groups() -> None:
    def group(*args, **options):
        return " ".join(part for part in english.verb_group(*args, **options) if part)

    assert group("eat", "present", "3") == "eats"
    assert group("eat", "present", "3", negative=True) == "doesn't eat"
    assert group("eat", "past", "1", negative=True, contracted=False) == "did not eat"
    assert group("go", "past", "2", question=True) == "did go"
    assert group("be", "present", "1", negative=True) == "am not"
    assert group("take", "progressive", "3") == "is taking"
    assert group("make", "past progressive", "p") == "were making"
    assert group("take", "perfect", "3", negative=True) == "hasn't taken"
    assert group("can", "past", "3", negative=True) == "couldn't"
    assert group("can", "present", "3", negative=True, contracted=False) == "cannot"
    assert group("go", "future", "3", negative=True) == "won't go"


def test_stream_never_stalls() -> None:
    started = time.process_time()
    assert len(list(itertools.islice(demo.sentences(9), 5000))) == 5000
    assert time.process_time() - started < 2
