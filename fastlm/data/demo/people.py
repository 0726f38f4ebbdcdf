# ruff: noqa: E501 - word tables: one entry group a line reads better than wrapped Hangul (counted double)
"""Who does it, with whom, when and where: subjects with their agreement, and the adjuncts of a clause."""

from __future__ import annotations

from typing import NamedTuple

from fastlm.data.demo.korean import particle


class Person(NamedTuple):
    """A subject: English agreement (1, 2, 3, p), possessive and pronoun; ``honorific`` asks for -(으)시-."""

    ko: str
    en: str
    agreement: str
    possessive: str
    pronoun: str
    honorific: bool = False
    group: str = ""


_HER, _HIS, _THEIR = ("3", "her", "she"), ("3", "his", "he"), ("p", "their", "they")
_NAMES = {
    _HER: "지영 Jiyoung, 서연 Seoyeon, 수진 Sujin, 하은 Haeun, 은주 Eunju, 민지 Minji, 유나 Yuna, 혜진 Hyejin, 소라 Sora, 미영 Miyoung, "
          "지민 Jimin, 다은 Daeun, 나래 Narae, 보람 Boram, 제인 Jane, 안나 Anna, 사라 Sarah, 에밀리 Emily, 마리아 Maria",
    _HIS: "민수 Minsu, 준호 Junho, 현우 Hyunwoo, 성민 Seongmin, 태호 Taeho, 동현 Donghyun, 지훈 Jihoon, 영수 Youngsu, 재민 Jaemin, 상우 Sangwoo, "
          "진우 Jinwoo, 정훈 Jeonghoon, 한솔 Hansol, 민호 Minho, 톰 Tom, 마이클 Michael, 다니엘 Daniel, 데이비드 David, 피터 Peter",
}  # fmt: skip
_FOREIGN = ("제인", "안나", "사라", "에밀리", "마리아", "톰", "마이클", "다니엘", "데이비드", "피터")
_OTHERS = (
    ("elder", True, _HER, "어머니=my mother, 할머니=my grandmother, 이모=my aunt, 우리 어머니=my mother, 우리 할머니=my grandmother"),
    ("elder", True, _HIS, "아버지=my father, 할아버지=my grandfather, 삼촌=my uncle, 우리 아버지=my father, 우리 할아버지=my grandfather"),
    ("elder", True, _THEIR, "부모님=my parents, 조부모님=my grandparents"),
    ("senior", True, _HER, "선생님=the teacher, 교수님=the professor, 사장님=the company president, 옆집 할머니=the old lady next door"),
    ("senior", True, _HIS, "선생님=the teacher, 교수님=the professor, 과장님=the manager, 옆집 할아버지=the old man next door"),
    ("kin", False, _HER, "여동생=my younger sister, 누나=my older sister, 언니=my older sister, 아내=my wife, 딸=my daughter"),
    ("kin", False, _HIS, "남동생=my younger brother, 형=my older brother, 오빠=my older brother, 남편=my husband, 아들=my son"),
    ("role", False, _HER, "그 여자=the woman, 그 학생=the student, 룸메이트=my roommate, 그 기자=the reporter"),
    ("role", False, _HIS, "그 남자=the man, 그 학생=the student, 룸메이트=my roommate, 그 의사=the doctor"),
    ("plural", False, _THEIR, "친구들=my friends, 룸메이트들=my roommates, 동료들=my coworkers, "
                              "그 부부=the couple, 이웃들=my neighbors, 두 사람=the two of them"),
)  # fmt: skip

NAMES = tuple(
    Person(ko, en, agreement, possessive, pronoun, group="name")
    for (agreement, possessive, pronoun), entries in _NAMES.items()
    for ko, en in (entry.split() for entry in entries.split(", "))
)
OTHERS = tuple(
    Person(ko, en, agreement, possessive, pronoun, polite, group)
    for group, polite, (agreement, possessive, pronoun), entries in _OTHERS
    for ko, en in (entry.split("=") for entry in entries.split(", "))
)
WRITTEN = tuple(  # third person pronouns belong to written Korean
    Person(ko, en, agreement, possessive, en, group="pronoun")
    for ko, en, (agreement, possessive, _) in (("그", "he", _HIS), ("그녀", "she", _HER), ("그들", "they", _THEIR))
)
I = Person("나", "I", "1", "my", "I", group="speaker")  # noqa: E741 - the pronoun
WE = Person("우리", "we", "p", "our", "we", group="speaker")
YOU = Person("", "you", "2", "your", "you", group="listener")

_SPEAKERS = {  # (plain and casual, polite and formal)
    ("나", "은"): ("나는", "저는"), ("나", "이"): ("내가", "제가"), ("나", "도"): ("나도", "저도"),
    ("우리", "은"): ("우리는", "저희는"), ("우리", "이"): ("우리가", "저희가"), ("우리", "도"): ("우리도", "저희도"),
}  # fmt: skip


def named(person: Person, style: str) -> str:
    """The noun by which a sentence of ``style`` calls a person: 지영, 지영이 (casual), 지영 씨 (polite, formal)."""
    if person.group != "name" or style == "plain":
        return person.ko
    if style == "casual":
        closed = particle(person.ko, "이") == person.ko + "이"
        return person.ko + "이" if closed and person.ko not in _FOREIGN else person.ko
    return person.ko + " 씨"


def subject(person: Person, style: str, form: str = "은") -> str:
    """A subject with its topic (은), subject (이) or 도 particle; 께서 for elders in formal speech."""
    if person.group == "speaker":
        return _SPEAKERS[person.ko, form][style in ("polite", "formal")]
    if person.group == "listener":
        return ""
    if person.honorific and style == "formal":
        return person.ko + {"은": "께서는", "이": "께서", "도": "께서도"}[form]
    return particle(named(person, style), form)


def _phrases(entries: str) -> tuple[tuple[str, str], ...]:
    return tuple((ko, en) for ko, _, en in (entry.strip().partition("=") for entry in entries.split(",")))


PAST_TIMES = _phrases(
    "어제=yesterday, 그저께=the day before yesterday, 지난주에=last week, 지난 주말에=last weekend, 지난달에=last month, 오늘=today, "
    "지난 월요일에=last Monday, 지난 화요일에=last Tuesday, 지난 수요일에=last Wednesday, 지난 목요일에=last Thursday, "
    "지난 금요일에=last Friday, 지난 토요일에=last Saturday, 지난 일요일에=last Sunday, 사흘 전에=three days ago, 일주일 전에=a week ago, 며칠 전에=a few days ago"
)
FUTURE_TIMES = _phrases(
    "내일=tomorrow, 모레=the day after tomorrow, 다음 주에=next week, 이번 주말에=this weekend, 다음 달에=next month, "
    "다음 주 월요일에=next Monday, 다음 주 화요일에=next Tuesday, 다음 주 수요일에=next Wednesday, 다음 주 목요일에=next Thursday, "
    "이번 금요일에=this Friday, 이번 토요일에=this Saturday, 이번 일요일에=this Sunday, 사흘 뒤에=in three days, 곧=soon"
)
HABITS = _phrases(
    "매일=every day, 주말마다=every weekend, 월요일마다=every Monday, 토요일마다=every Saturday, 일주일에 두 번=twice a week, "
    "한 달에 한 번=once a month, 쉬는 날마다=on every day off, 금요일마다=every Friday, 일주일에 세 번=three times a week"
)
FREQUENCIES = _phrases("자주=often, 가끔=sometimes, 보통=usually, 항상=always, 종종=occasionally")
ON_A_DAY = tuple(time for time in PAST_TIMES if time[0] not in ("지난주에", "지난달에", "며칠 전에", "지난 주말에"))
ON_A_DAY_AHEAD = tuple(time for time in FUTURE_TIMES if time[0] not in ("다음 주에", "다음 달에", "곧", "이번 주말에"))
RECENTLY = _phrases("오늘 아침에=this morning, 아까=earlier, 조금 전에=a short time ago, 오늘=today, 어제=yesterday")
SHORTLY = _phrases(
    "이따가=later, 내일 아침에=tomorrow morning, 오늘=today, 내일=tomorrow, 곧=soon, 잠시 후에=in a moment"
)
YEARS_AGO = _phrases(
    "작년에=last year, 재작년에=the year before last, 삼 년 전에=three years ago, 몇 년 전에=a few years ago, 오 년 전에=five years ago, "
    "십 년 전에=ten years ago"
)
YEARS_AHEAD = _phrases(
    "내년에=next year, 졸업한 후에=after graduation, 이 년 뒤에=in two years, 내년 봄에=next spring, 내년 가을에=next fall"
)
DAILY = _phrases("매일=every day, 날마다=every day")
NOW = _phrases("지금=now, 지금=right now, 요즘=these days")
COMPANIONS = _phrases(
    "친구와=with a friend, 친구들과=with $ friends, 가족과=with $ family, 친구하고=with a friend, 사촌과=with $ cousin, "
    "가족들과 함께=together with $ family, 친구와 함께=together with a friend"
)
FRIENDS = tuple(c for c in COMPANIONS if "친구" in c[0])
NATIVE = ["영", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열", "열한", "열두"]
SINO = ["영", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구", "십", "십일", "십이"]
SPELLS = _phrases(
    "한 시간 동안=for an hour, 삼십 분 동안=for thirty minutes, 잠깐=for a short time, 십 분 동안=for ten minutes"
)
DURATIONS = (
    *SPELLS,
    *_phrases(
        "두 시간 동안=for two hours, 세 시간 동안=for three hours, 하루 종일=all day, 오랫동안=for a long time, 오후 내내=all afternoon"
    ),
)

# Where things are done: place noun with its English preposition phrase.
PLACES = dict(
    home=("집", "at home"), library=("도서관", "at the library"), cafe=("카페", "at a cafe"), park=("공원", "in the park"),
    restaurant=("식당", "at a restaurant"), cafeteria=("학교 식당", "at the school cafeteria"), school=("학교", "at school"),
    office=("사무실", "at the office"), market=("시장", "at the market"), mall=("백화점", "at the department store"),
    gym=("체육관", "at the gym"), pool=("수영장", "at the swimming pool"), beach=("바닷가", "at the beach"), theater=("극장", "at the theater"),
    room=("방", "in $ room"), kitchen=("부엌", "in the kitchen"), living=("거실", "in the living room"), garden=("정원", "in the garden"),
    supermarket=("슈퍼마켓", "at the supermarket"), bookstore=("서점", "at the bookstore"), museum=("박물관", "at the museum"),
    station=("역", "at the station"), street=("길", "on the street"), classroom=("교실", "in the classroom"), zoo=("동물원", "at the zoo"),
    bakery=("빵집", "at the bakery"), online=("인터넷", "online"), playground=("운동장", "on the playground"), hotel=("호텔", "at the hotel"),
    florist=("꽃집", "at the flower shop"), store=("가게", "at the store"), academy=("학원", "at a private academy"),
    university=("대학교", "at the university"), river=("강가", "by the river"), bus=("버스", "on the bus"),
    gallery=("미술관", "at the art gallery"), concert=("공연장", "at the concert hall"), village=("시골", "in the countryside"),
)  # fmt: skip
TRANSPORT = _phrases("버스로=by bus, 지하철로=by subway, 자전거로=by bicycle, 택시로=by taxi, 자동차로=by car, 걸어서=on foot")  # fmt: skip
