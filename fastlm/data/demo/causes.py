# ruff: noqa: E501 - word tables: one entry group a line reads better than wrapped Hangul (counted double)
"""Reasons, conditions and occasions: what leads to what, as curated groups of causes and of the acts that follow."""

from __future__ import annotations

from typing import NamedTuple

from fastlm.data.demo import english, people
from fastlm.data.demo.clauses import Adjuncts, Draw, Pair, Phrase, english_clause, final, finished, spaced, tensed
from fastlm.data.demo.daily import person_for
from fastlm.data.demo.korean import ADJECTIVE, conjugate, past, word
from fastlm.data.demo.people import Person


class Cause(NamedTuple):
    """What happens or is felt; ``subject`` is the English subject of a cause outside the person (rain), else empty."""

    phrase: Phrase
    subject: str
    agreement: str

    @property
    def verb_now(self) -> str:
        """The English tense in which the cause is going on, or nothing where none does."""
        if self.phrase.en == "be":
            return "present"
        return "progressive" if self.phrase.en in ("rain", "snow", "blow", "bloom", "come") else ""


class Group(NamedTuple):
    """Causes and effects that fit each other in any combination."""

    causes: tuple[Cause, ...]
    effects: tuple[Phrase, ...]


_ADJECTIVES = ("바쁘다", "피곤하다", "아프다", "고프다", "춥다", "덥다", "심심하다", "슬프다", "기쁘다", "많다", "나쁘다", "어둡다", "좋다", "맑다", "비싸다",
               "시끄럽다", "졸리다", "부족하다", "외롭다", "궁금하다", "멀다", "마르다", "더럽다", "따뜻하다", "높다", "무섭다", "강하다", "쌀쌀하다", "그립다",
               "지루하다", "싶다", "흐리다", "안 좋다")  # fmt: skip

# Causes / effects, each Korean predicate=English verb phrase; a cause with ``!`` brings its subject, before the ``|``.
_GROUPS = """
피곤하다=be tired, 일이 많다=have a lot of work, 잠을 잘 못 자다=sleep badly, 하루 종일 일하다=work all day, 몸이 안 좋다=feel unwell / 일찍 자다=go to bed early, 집에서 쉬다=rest at home, 낮잠을 자다=take a nap, 따뜻한 차를 마시다=drink warm tea, 택시를 타고 집에 가다=take a taxi home, 약속을 취소하다=cancel $ appointment, 운동을 쉬다=skip $ workout, 커피를 두 잔 마시다=drink two cups of coffee, 소파에서 쉬다=rest on the sofa
배가 고프다=be hungry, 점심을 못 먹다=miss lunch, 아침을 안 먹다=skip breakfast, 운동을 많이 하다=exercise a lot, 오래 걷다=walk for a long time / 라면을 끓여 먹다=cook and eat ramen, 빵집에서 빵을 사 먹다=buy some bread at the bakery, 피자를 시키다=order pizza, 식당에 가다=go to a restaurant, 김밥을 사다=buy gimbap, 간식을 먹다=have a snack, 샌드위치를 만들다=make a sandwich, 저녁을 일찍 먹다=have an early dinner, 밥을 두 그릇 먹다=eat two bowls of rice
감기에 걸리다=catch a cold, 머리가 아프다=have a headache, 배가 아프다=have a stomachache, 열이 나다=have a fever, 목이 아프다=have a sore throat / 병원에 가다=go to the doctor, 약을 먹다=take medicine, 집에서 쉬다=rest at home, 약국에 들르다=stop by the pharmacy, 회사에 가지 않다=stay home from work, 따뜻한 물을 많이 마시다=drink a lot of warm water, 일찍 자다=go to bed early, 모임에 나가지 않다=stay away from the meeting, 죽을 먹다=eat porridge
!비가 오다=it|rain, !눈이 많이 오다=it|snow a lot, !바람이 강하게 불다=the wind|blow hard, !날씨가 나쁘다=the weather|be bad, !날씨가 춥다=the weather|be cold, !태풍이 오다=a typhoon|come / 집에 있다=stay at home, 집에서 영화를 보다=watch a movie at home, 소풍을 미루다=put off the picnic, 등산을 취소하다=cancel $ hike, 버스를 타다=take the bus, 창문을 닫다=close the windows, 집에서 책을 읽다=read a book at home, 실내에서 운동하다=exercise indoors, 도서관에서 공부하다=study at the library, 따뜻한 국물을 먹다=have some warm soup, 지하철로 출근하다=go to work by subway
!비가 오다=it|rain, !소나기가 내리다=there|be a shower, !하늘이 흐리다=the sky|be cloudy / 우산을 가지고 가다=take an umbrella, 비옷을 입다=wear a raincoat, 장화를 신다=wear boots, 세차를 미루다=put off washing the car, 빨래를 들여놓다=bring in the laundry, 택시를 부르다=call a taxi
!날씨가 좋다=the weather|be nice, !하늘이 맑다=the sky|be clear, !날씨가 따뜻하다=the weather|be warm, !꽃이 피다=the flowers|bloom / 공원에서 산책하다=take a walk in the park, 자전거를 타다=ride a bicycle, 소풍을 가다=go on a picnic, 공원에서 사진을 찍다=take pictures in the park, 바닷가에 가다=go to the beach, 가족과 캠핑을 하다=go camping with $ family, 강가에서 점심을 먹다=have lunch by the river, 친구와 등산을 하다=go hiking with a friend, 창문을 열다=open the windows, 밖에서 배드민턴을 치다=play badminton outside
!날씨가 덥다=the weather|be hot, !에어컨이 고장 나다=the air conditioner|break down, !햇빛이 강하다=the sunlight|be strong / 수영장에 가다=go to the swimming pool, 아이스크림을 먹다=eat ice cream, 냉면을 먹다=eat cold noodles, 찬물로 샤워하다=take a cold shower, 선풍기를 켜다=turn on the fan, 모자를 쓰다=wear a hat, 시원한 카페에서 일하다=work in a cool cafe, 물을 많이 마시다=drink a lot of water, 그늘에서 쉬다=rest in the shade
시간이 있다=have time, 숙제를 끝내다=finish $ homework, 일을 일찍 끝내다=finish work early, 집에 일찍 오다=come home early, 휴가를 받다=get some time off / 친구를 만나다=meet a friend, 영화를 보다=watch a movie, 서점에 들르다=stop by the bookstore, 기타를 연습하다=practice the guitar, 방을 청소하다=clean $ room, 가족과 저녁을 먹다=have dinner with $ family, 미술관에 가다=go to the art gallery, 소설을 읽다=read a novel, 부모님께 전화를 드리다=call $ parents, 김치찌개를 만들다=make kimchi stew, 축구를 하다=play soccer
시험에 합격하다=pass the exam, 대회에서 우승하다=win the contest, 취직하다=get a job, 장학금을 받다=receive a scholarship, 승진하다=get promoted / 친구들에게 저녁을 사다=buy dinner for $ friends, 가족과 외식을 하다=eat out with $ family, 파티를 열다=throw a party, 여행을 가다=go on a trip, 새 옷을 사다=buy new clothes, 부모님께 선물을 드리다=give $ parents a present, 선생님께 감사 편지를 쓰다=write a thank-you letter to $ teacher
돈이 부족하다=be short of money, 지갑을 잃어버리다=lose $ wallet, 돈을 다 쓰다=spend all $ money / 집에서 밥을 해 먹다=cook at home, 친구에게 돈을 빌리다=borrow money from a friend, 걸어서 집에 가다=walk home, 여행을 취소하다=cancel $ trip, 아르바이트를 구하다=look for a part-time job, 새 휴대폰을 사지 않다=give up buying a new phone, 도시락을 가지고 다니다=carry a lunch box
늦게 일어나다=get up late, 버스를 놓치다=miss the bus, 길을 잃다=get lost, 기차를 놓치다=miss the train, 알람을 못 듣다=miss the alarm / 회의에 늦다=be late for the meeting, 택시를 타다=take a taxi, 아침을 못 먹다=go without breakfast, 수업에 늦다=be late for class, 뛰어서 가다=run all the way, 친구에게 전화하다=call a friend, 약속 시간을 바꾸다=change the time of $ appointment, 사과하다=apologize
심심하다=be bored, 혼자 있다=be alone, 친구가 그립다=miss a friend, 외롭다=be lonely / 음악을 듣다=listen to music, 친구에게 문자를 보내다=text a friend, 산책하다=take a walk, 게임을 하다=play games, 그림을 그리다=draw pictures, 강아지와 놀다=play with the puppy, 영화를 보다=watch a movie, 일기를 쓰다=write in $ diary, 고향 친구에게 전화하다=call an old friend, 인터넷을 하다=go online, 케이크를 굽다=bake a cake
내일 시험이 있다=have an exam tomorrow, 내일 면접이 있다=have an interview tomorrow, 회의 준비를 해야 하다=have to prepare for a meeting, 한국어를 잘하고 싶다=want to speak Korean well, 영어 실력이 부족하다=be weak in English / 도서관에서 공부하다=study at the library, 밤늦게까지 공부하다=study until late at night, 텔레비전을 보지 않다=stay away from the television, 자료를 읽다=read the materials, 친구와 연습하다=practice with a friend, 단어를 외우다=memorize words, 선생님께 질문하다=ask the teacher questions, 커피를 마시다=drink coffee
!손님이 오다=guests|come, !부모님이 집에 오시다=$ parents|visit, !친구가 놀러 오다=a friend|come over, !생일 파티가 있다=there|be a birthday party / 집을 청소하다=clean the house, 음식을 많이 만들다=make a lot of food, 꽃을 사다=buy flowers, 장을 보다=go grocery shopping, 케이크를 굽다=bake a cake, 불고기를 준비하다=prepare bulgogi, 거실을 꾸미다=decorate the living room, 과일을 사다=buy some fruit
!컴퓨터가 고장 나다=the computer|break down, !인터넷이 끊기다=the internet connection|go down, !전기가 나가다=the power|go out, !프린터가 고장 나다=the printer|break down / 일을 못 하다=be unable to work, 수리 기사를 부르다=call a repairman, 친구에게 도움을 청하다=ask a friend for help, 보고서를 끝내지 못하다=fail to finish the report, 휴대폰으로 이메일을 확인하다=check $ email on the phone, 카페에 가서 일하다=go to a cafe to work, 회의를 미루다=put off the meeting
!길이 막히다=the traffic|be heavy, !버스가 늦게 오다=the bus|come late, !눈이 오다=it|snow, !지하철이 고장 나다=the subway|break down / 회의에 늦다=be late for the meeting, 약속 시간에 늦다=be late for $ appointment, 걸어서 가다=go on foot, 지각하다=be late, 한 시간 동안 기다리다=wait for an hour, 다른 길로 가다=take another road, 집에서 일하다=work from home
건강을 지키고 싶다=want to stay healthy, 살을 빼고 싶다=want to lose weight, 건강이 나쁘다=be in poor health / 매일 운동하다=exercise every day, 담배를 끊다=quit smoking, 채소를 많이 먹다=eat a lot of vegetables, 계단을 이용하다=use the stairs, 아침마다 달리다=run every morning, 저녁을 적게 먹다=have a light dinner, 물을 자주 마시다=drink water often, 단 음식을 피하다=avoid sweet food, 체육관에 다니다=go to the gym regularly
"""


def _phrase(entry: str) -> Phrase:
    ko, _, en = entry.strip().lstrip("!").partition("=")
    arguments, space, verb = ko.rpartition(" ")
    return Phrase(
        arguments + space, word(verb, ADJECTIVE if verb in _ADJECTIVES else ""), *_english(en.partition("|")[2] or en)
    )


def _english(text: str) -> tuple[str, str]:
    verb, space, tail = text.partition(" ")
    return verb, space + tail


_PLURAL = ("guests", "the flowers", "$ parents")


def _cause(entry: str) -> Cause:
    subject = entry.partition("=")[2].partition("|")[0] if entry.strip().startswith("!") else ""
    return Cause(_phrase(entry), subject, "p" if subject in _PLURAL else "3")


def _group(row: str) -> Group:
    causes, effects = row.split(" / ")
    return Group(tuple(map(_cause, causes.split(", "))), tuple(map(_phrase, effects.split(", "))))


GROUPS = tuple(map(_group, _GROUPS.strip().splitlines()))
_OUTSIDE = tuple(g for g in GROUPS if g.causes[0].subject and any(c.verb_now for c in g.causes))
_UNWELCOME = ("be late", "go without", "be unable", "fail", "wait", "apologize", "drink coffee")


def _choose(draw: Draw, style: str) -> tuple[Cause, Phrase, Person]:
    group = draw.pick(GROUPS)
    person = person_for(draw, style, "" if group in GROUPS[:3] else "s")
    return draw.pick(group.causes), draw.pick(group.effects), person


def _because_of(cause: Cause, person: Person, subject: str, tense: str) -> str:
    return english_clause(
        cause.subject or subject, cause.agreement if cause.subject else person.agreement, cause.phrase, tense
    )


def because(draw: Draw, style: str) -> Pair:
    """Because she was tired, she went to bed early; it rained, so we stayed at home."""
    cause, effect, person = _choose(draw, style)
    respectful = person.honorific and not cause.subject
    head, last = tensed(cause.phrase, "present", respectful)
    ending = draw.pick(("어서", "어서", "기 때문에"))
    if ending != "어서":
        last = past(last)
    subject = people.subject(person, style)
    reason = head + conjugate(last, ending)
    tail = final(effect, "past", style, respectful=person.honorific)
    ko = spaced(*((reason, subject) if cause.subject or draw.chance(0.3) else (subject, reason)), tail)
    pronoun_first = draw.random()
    if pronoun_first < 0.4:
        why = _because_of(cause, person, person.en, "past")
        en = f"{why}, so {english_clause(person.en if cause.subject else person.pronoun, person.agreement, effect, 'past')}"
    elif pronoun_first < 0.7:
        why = _because_of(cause, person, person.pronoun, "past")
        en = f"because {why}, {english_clause(person.en, person.agreement, effect, 'past')}"
    else:
        why = _because_of(cause, person, person.pronoun, "past")
        en = f"{english_clause(person.en, person.agreement, effect, 'past')} because {why}"
    return ko, finished(en, person)


_DAYS = (("", ""), ("내일 ", " tomorrow"), ("주말에 ", " on the weekend"), ("오늘 ", " today"))


def condition(draw: Draw, style: str) -> Pair:
    """If it rains tomorrow, I will stay at home."""
    cause, effect, person = _choose(draw, style)
    when_ko, when_en = draw.pick(_DAYS) if cause.subject else ("", "")
    head, last = tensed(cause.phrase, "present", person.honorific and not cause.subject)
    clause = f"{when_ko}{head}{conjugate(last, '(으)면')}"
    subject = people.subject(person, style)
    ko = spaced(
        *((subject, clause) if draw.chance(0.5) else (clause, subject)),
        final(effect, "future", style, respectful=person.honorific),
    )
    after = draw.chance(0.35)
    why = _because_of(cause, person, person.pronoun, "present") + when_en
    main = english_clause(person.en, person.agreement, effect, "future")
    return ko, finished(f"{main} if {why}" if after else f"if {why}, {main}", person)


def occasion(draw: Draw, style: str) -> Pair:
    """When he is hungry, he usually eats ramen."""
    cause, effect, person = _choose(draw, style)
    if "내일" in cause.phrase.ko or cause.phrase.verb.stem in ("취직하", "승진하"):
        return occasion(draw, style)
    often_ko, often_en = draw.pick((("보통", "usually"), ("자주", "often"), ("가끔", "sometimes"), ("항상", "always")))
    head, last = tensed(cause.phrase, "present", person.honorific and not cause.subject)
    ending, link = draw.pick((("(으)ㄹ 때", "when"), ("(으)면", "when"), ("(으)ㄹ 때마다", "whenever")))
    if link == "whenever":
        often_ko, often_en = "", ""
    ko = spaced(
        people.subject(person, style),
        head + conjugate(last, ending),
        often_ko,
        final(effect, "present", style, respectful=person.honorific),
    )
    why = _because_of(cause, person, person.pronoun, "present")
    main = english_clause(person.en, person.agreement, effect, "present", Adjuncts(adverb=often_en))
    return ko, finished(f"{main} {link} {why}" if draw.chance(0.4) else f"{link} {why}, {main}", person)


_ADVICE = (  # endings by style, English before the effect's base form, its mark
    (
        {"casual": "는 게 좋아.", "polite": "는 게 좋아요.", "formal": "는 것이 좋습니다.", "plain": "는 것이 좋다."},
        "you should",
        ".",
    ),
    (
        {
            "casual": "는 게 어때?",
            "polite": "는 게 어때요?",
            "formal": "는 것이 어떻습니까?",
            "plain": "는 것이 어떨까?",
        },
        "why don't you",
        "?",
    ),
)


def advice(draw: Draw, style: str) -> Pair:
    """If you have a headache, you should take medicine."""
    group = draw.pick(GROUPS)
    cause, effect = draw.pick(group.causes), draw.pick(group.effects)
    if f"{effect.en}{effect.tail}".startswith(_UNWELCOME) or effect.verb.stem in ("않", "못하"):
        return advice(draw, style)
    endings, lead, mark = _ADVICE[not draw.chance(0.7)]
    respectful = not cause.subject and style in ("polite", "formal")
    head, last = tensed(cause.phrase, "present", respectful)
    ko = f"{head}{conjugate(last, '(으)면')} {effect.ko}{conjugate(effect.verb, endings[style])}"
    why = _because_of(cause, people.YOU, "you", "present")
    clause = f"{lead} {effect.en}{effect.tail}"
    return ko, finished(f"{clause} if {why}" if draw.chance(0.4) else f"if {why}, {clause}", people.YOU, mark)


def invitation(draw: Draw, style: str) -> Pair:
    """The weather is nice, so let's take a walk in the park."""
    group = draw.pick(_OUTSIDE)
    cause, effect = draw.pick(group.causes), draw.pick(group.effects)
    if f"{effect.en}{effect.tail}".startswith(_UNWELCOME) or "$" in effect.tail + cause.subject or not cause.verb_now:
        return invitation(draw, style)
    head, last = tensed(cause.phrase, "present")
    ending = {"plain": "자.", "casual": "자.", "polite": "는 게 어때요?", "formal": "(으)ㅂ시다."}[style]
    ko = f"{head}{conjugate(last, '(으)니까')} 우리 {effect.ko}{conjugate(effect.verb, ending)}"
    why = english_clause(cause.subject, cause.agreement, cause.phrase, cause.verb_now)
    clause = f"{effect.en}{effect.tail}"
    en = (
        f"{why}, so how about {english.gerund(effect.en)}{effect.tail}?"
        if style == "polite"
        else f"{why}, so let's {clause}."
    )
    return ko, english.capitalised(en)


KINDS = (  # weight, sentence kind
    (8, because), (6, condition), (5, occasion), (4, advice), (2, invitation),
)  # fmt: skip
