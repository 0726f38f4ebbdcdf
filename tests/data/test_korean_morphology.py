"""Golden forms of standard Korean grammar: written from the grammar, not from the program's output."""

from __future__ import annotations

import pytest

from fastlm.data.demo import korean
from fastlm.data.demo.korean import ADJECTIVE, conjugate, copula, finish, finish_future, honorific, particle, past, word

# One row a word: dictionary form, kind, then the forms under the endings of the header.
ENDINGS = ("어요", "었", "(으)면", "(으)ㄴ", "(으)ㄹ", "습니다", "는", "는다", "고")
FORMS = """
# regular, consonant and vowel stems with their contractions
먹다   v 먹어요 먹었 먹으면 먹은 먹을 먹습니다 먹는 먹는다 먹고
앉다   v 앉아요 앉았 앉으면 앉은 앉을 앉습니다 앉는 앉는다 앉고
읽다   v 읽어요 읽었 읽으면 읽은 읽을 읽습니다 읽는 읽는다 읽고
가다   v 가요 갔 가면 간 갈 갑니다 가는 간다 가고
오다   v 와요 왔 오면 온 올 옵니다 오는 온다 오고
보다   v 봐요 봤 보면 본 볼 봅니다 보는 본다 보고
마시다 v 마셔요 마셨 마시면 마신 마실 마십니다 마시는 마신다 마시고
배우다 v 배워요 배웠 배우면 배운 배울 배웁니다 배우는 배운다 배우고
주다   v 줘요 줬 주면 준 줄 줍니다 주는 준다 주고
되다   v 돼요 됐 되면 된 될 됩니다 되는 된다 되고
쉬다   v 쉬어요 쉬었 쉬면 쉰 쉴 쉽니다 쉬는 쉰다 쉬고
켜다   v 켜요 켰 켜면 켠 켤 켭니다 켜는 켠다 켜고
보내다 v 보내요 보냈 보내면 보낸 보낼 보냅니다 보내는 보낸다 보내고
서다   v 서요 섰 서면 선 설 섭니다 서는 선다 서고
피다   v 피어요 피었 피면 핀 필 핍니다 피는 핀다 피고
공부하다 v 공부해요 공부했 공부하면 공부한 공부할 공부합니다 공부하는 공부한다 공부하고
# ㅂ: irregular verbs and adjectives, then the regular ones
덥다   a 더워요 더웠 더우면 더운 더울 덥습니다 더운 덥다 덥고
돕다   v 도와요 도왔 도우면 도운 도울 돕습니다 돕는 돕는다 돕고
가깝다 a 가까워요 가까웠 가까우면 가까운 가까울 가깝습니다 가까운 가깝다 가깝고
아름답다 a 아름다워요 아름다웠 아름다우면 아름다운 아름다울 아름답습니다 아름다운 아름답다 아름답고
입다   v 입어요 입었 입으면 입은 입을 입습니다 입는 입는다 입고
좁다   a 좁아요 좁았 좁으면 좁은 좁을 좁습니다 좁은 좁다 좁고
# ㄷ
듣다   v 들어요 들었 들으면 들은 들을 듣습니다 듣는 듣는다 듣고
걷다   v 걸어요 걸었 걸으면 걸은 걸을 걷습니다 걷는 걷는다 걷고
깨닫다 v 깨달아요 깨달았 깨달으면 깨달은 깨달을 깨닫습니다 깨닫는 깨닫는다 깨닫고
받다   v 받아요 받았 받으면 받은 받을 받습니다 받는 받는다 받고
닫다   v 닫아요 닫았 닫으면 닫은 닫을 닫습니다 닫는 닫는다 닫고
# ㅅ
짓다   v 지어요 지었 지으면 지은 지을 짓습니다 짓는 짓는다 짓고
낫다   v 나아요 나았 나으면 나은 나을 낫습니다 낫는 낫는다 낫고
웃다   v 웃어요 웃었 웃으면 웃은 웃을 웃습니다 웃는 웃는다 웃고
벗다   v 벗어요 벗었 벗으면 벗은 벗을 벗습니다 벗는 벗는다 벗고
# ㄹ falls before ㄴ, ㅂ, ㅅ
만들다 v 만들어요 만들었 만들면 만든 만들 만듭니다 만드는 만든다 만들고
길다   a 길어요 길었 길면 긴 길 깁니다 긴 길다 길고
놀다   v 놀아요 놀았 놀면 논 놀 놉니다 노는 논다 놀고
# 르, 러, and ㅡ that only falls
부르다 v 불러요 불렀 부르면 부른 부를 부릅니다 부르는 부른다 부르고
빠르다 a 빨라요 빨랐 빠르면 빠른 빠를 빠릅니다 빠른 빠르다 빠르고
모르다 v 몰라요 몰랐 모르면 모른 모를 모릅니다 모르는 모른다 모르고
따르다 v 따라요 따랐 따르면 따른 따를 따릅니다 따르는 따른다 따르고
들르다 v 들러요 들렀 들르면 들른 들를 들릅니다 들르는 들른다 들르고
푸르다 a 푸르러요 푸르렀 푸르면 푸른 푸를 푸릅니다 푸른 푸르다 푸르고
쓰다   v 써요 썼 쓰면 쓴 쓸 씁니다 쓰는 쓴다 쓰고
바쁘다 a 바빠요 바빴 바쁘면 바쁜 바쁠 바쁩니다 바쁜 바쁘다 바쁘고
예쁘다 a 예뻐요 예뻤 예쁘면 예쁜 예쁠 예쁩니다 예쁜 예쁘다 예쁘고
크다   a 커요 컸 크면 큰 클 큽니다 큰 크다 크고
잠그다 v 잠가요 잠갔 잠그면 잠근 잠글 잠급니다 잠그는 잠근다 잠그고
# ㅎ
빨갛다 a 빨개요 빨갰 빨가면 빨간 빨갈 빨갛습니다 빨간 빨갛다 빨갛고
하얗다 a 하얘요 하얬 하야면 하얀 하얄 하얗습니다 하얀 하얗다 하얗고
그렇다 a 그래요 그랬 그러면 그런 그럴 그렇습니다 그런 그렇다 그렇고
어떻다 a 어때요 어땠 어떠면 어떤 어떨 어떻습니다 어떤 어떻다 어떻고
좋다   a 좋아요 좋았 좋으면 좋은 좋을 좋습니다 좋은 좋다 좋고
넣다   v 넣어요 넣었 넣으면 넣은 넣을 넣습니다 넣는 넣는다 넣고
# 있다 and 없다: adjective-like 다, verb-like 는
맛있다 - 맛있어요 맛있었 맛있으면 맛있은 맛있을 맛있습니다 맛있는 맛있다 맛있고
없다   - 없어요 없었 없으면 없은 없을 없습니다 없는 없다 없고
"""
KINDS = {"v": "verb", "a": ADJECTIVE, "-": ""}
ROWS = [line.split() for line in FORMS.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_conjugation(row: list[str]) -> None:
    base = word(row[0], KINDS[row[1]])
    assert [conjugate(base, ending) for ending in ENDINGS] == row[2:]


@pytest.mark.parametrize(
    ("form", "ending", "expected"),
    [
        ("만들다", "(으)려고", "만들려고"),
        ("만들다", "(으)니까", "만드니까"),
        ("만들다", "(으)세요", "만드세요"),
        ("만들다", "(으)ㅂ시다", "만듭시다"),
        ("만들다", "(으)ㄹ까요", "만들까요"),
        ("만들다", "네요", "만드네요"),
        ("만들다", "지만", "만들지만"),
        ("듣다", "(으)러", "들으러"),
        ("돕다", "(으)ㄹ까요", "도울까요"),
        ("짓다", "(으)려고", "지으려고"),
        ("걷다", "(으)ㅂ시다", "걸읍시다"),
        ("부르다", "어서", "불러서"),
        ("먹다", "는데", "먹는데"),
        ("먹다", "는다고", "먹는다고"),
        ("가다", "는다고", "간다고"),
        ("살다", "는지", "사는지"),
    ],
)
def test_verb_endings(form: str, ending: str, expected: str) -> None:
    assert conjugate(word(form), ending) == expected


@pytest.mark.parametrize(
    ("form", "ending", "expected"),
    [
        ("덥다", "는데", "더운데"),
        ("크다", "는지", "큰지"),
        ("길다", "는데", "긴데"),
        ("바쁘다", "는다고", "바쁘다고"),
        ("춥다", "어서", "추워서"),
        ("재미있다", "는데", "재미있는데"),
        ("멀다", "는다고", "멀다고"),
    ],
)
def test_adjective_endings(form: str, ending: str, expected: str) -> None:
    assert conjugate(word(form, "" if form.endswith("있다") else ADJECTIVE), ending) == expected


@pytest.mark.parametrize(
    ("noun", "plain", "casual", "polite", "formal", "past_polite", "adnominal", "because"),
    [
        ("학생", "학생이다.", "학생이야.", "학생이에요.", "학생입니다.", "학생이었어요.", "학생인", "학생이라서"),
        ("의사", "의사다.", "의사야.", "의사예요.", "의사입니다.", "의사였어요.", "의사인", "의사라서"),
    ],
)
def test_copula(
    noun: str, plain: str, casual: str, polite: str, formal: str, past_polite: str, adnominal: str, because: str
) -> None:
    base = copula(noun)
    assert [finish(base, style) for style in korean.STYLES] == [plain, casual, polite, formal]
    assert finish(past(base), "polite") == past_polite
    assert (conjugate(base, "는"), conjugate(base, "어서")) == (adnominal, because)


def test_negative_copula() -> None:
    base = word("아니다")
    assert [finish(base, style) for style in korean.STYLES] == ["아니다.", "아니야.", "아니에요.", "아닙니다."]
    assert finish(past(base), "formal") == "아니었습니다."


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("읽다", ["읽으신다.", "읽으셔.", "읽으세요.", "읽으십니다.", "읽으셨어요."]),
        ("가다", ["가신다.", "가셔.", "가세요.", "가십니다.", "가셨어요."]),
        ("듣다", ["들으신다.", "들으셔.", "들으세요.", "들으십니다.", "들으셨어요."]),
        ("만들다", ["만드신다.", "만드셔.", "만드세요.", "만드십니다.", "만드셨어요."]),
        ("돕다", ["도우신다.", "도우셔.", "도우세요.", "도우십니다.", "도우셨어요."]),
        ("먹다", ["드신다.", "드셔.", "드세요.", "드십니다.", "드셨어요."]),
        ("자다", ["주무신다.", "주무셔.", "주무세요.", "주무십니다.", "주무셨어요."]),
    ],
)
def test_honorific_forms(form: str, expected: list[str]) -> None:
    base = honorific(word(form))
    assert [finish(base, style) for style in korean.STYLES] + [finish(past(base), "polite")] == expected


def test_sentence_endings() -> None:
    go, like, cold = word("가다"), word("좋아하다"), word("춥다", ADJECTIVE)
    assert [finish(go, s, question=True) for s in korean.STYLES] == ["가니?", "가?", "가요?", "갑니까?"]
    assert [finish(past(go), s) for s in korean.STYLES] == ["갔다.", "갔어.", "갔어요.", "갔습니다."]
    assert [finish_future(word("읽다"), s) for s in korean.STYLES] == [
        "읽을 것이다.",
        "읽을 거야.",
        "읽을 거예요.",
        "읽을 것입니다.",
    ]
    assert finish_future(word("만들다"), "polite", question=True) == "만들 거예요?"
    assert finish(like, "plain") == "좋아한다."
    assert [finish(cold, s) for s in korean.STYLES] == ["춥다.", "추워.", "추워요.", "춥습니다."]
    assert finish(word("마시다"), "polite") == "마셔요."  # its 시 is not the honorific


@pytest.mark.parametrize(
    ("noun", "expected"),
    [  # 은/는 이/가 을/를 과/와 으로/로 이나/나 이라는/라는
        ("책", "책은 책이 책을 책과 책으로 책이나 책이라는"),
        ("사과", "사과는 사과가 사과를 사과와 사과로 사과나 사과라는"),
        ("연필", "연필은 연필이 연필을 연필과 연필로 연필이나 연필이라는"),
        ("물", "물은 물이 물을 물과 물로 물이나 물이라는"),
        ("닭", "닭은 닭이 닭을 닭과 닭으로 닭이나 닭이라는"),
        ("밖", "밖은 밖이 밖을 밖과 밖으로 밖이나 밖이라는"),
        ("꽃", "꽃은 꽃이 꽃을 꽃과 꽃으로 꽃이나 꽃이라는"),
        ("값", "값은 값이 값을 값과 값으로 값이나 값이라는"),
        ("3", "3은 3이 3을 3과 3으로 3이나 3이라는"),
        ("2", "2는 2가 2를 2와 2로 2나 2라는"),
        ("8", "8은 8이 8을 8과 8로 8이나 8이라는"),
        ("10", "10은 10이 10을 10과 10으로 10이나 10이라는"),
        ("URL", "URL은 URL이 URL을 URL과 URL로 URL이나 URL이라는"),
        ("PDF", "PDF는 PDF가 PDF를 PDF와 PDF로 PDF나 PDF라는"),
        ("30%", "30%는 30%가 30%를 30%와 30%로 30%나 30%라는"),
    ],
)
def test_particles(noun: str, expected: str) -> None:
    assert " ".join(particle(noun, form) for form in ("은", "이", "을", "과", "으로", "이나", "이라는")) == expected


@pytest.mark.parametrize("final", list("ㄱㄲㄳㄴㄵㄶㄷㄺㄻㄼㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"))
def test_every_closed_syllable_takes_the_consonant_form(final: str) -> None:
    noun = korean.join("ㄱ", "ㅏ", final)
    assert particle(noun, "은") == noun + "은"
    assert particle(noun, "으로") == noun + "으로"


def test_particles_without_alternation_are_appended() -> None:
    assert [particle("집", p) for p in ("에서", "도", "만", "까지")] == ["집에서", "집도", "집만", "집까지"]
