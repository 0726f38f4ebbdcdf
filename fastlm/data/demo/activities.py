# ruff: noqa: E501 - word tables: one entry group a line reads better than wrapped Hangul (counted double)
"""What people do: verb frames with the nouns they select, where they happen, and which adjuncts suit them.

A row is ``Korean | English | places | traits``. ``fruit/을`` is a slot for a noun of that class with its particle, ``@fruit``
its English noun phrase (``>place`` and ``*instrument`` with *the*); ``$`` is the subject's possessive. Traits: ``c`` with companions, ``l`` lasts (durations,
progressive), ``h`` a habit, ``m`` tied to a time of day (no clock times), ``w`` a leisure wish (suggestions), ``e`` an
undertaking (start, try, for years), ``r`` a favour one may ask, ``k`` leaves something to speak of (*the bag she bought*),
``x`` not done on purpose, ``i`` a small act of the hour, ``d`` of every day, ``s`` for the
young only, ``v`` a matter of years.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fastlm.data.demo.korean import Word, word


class Frame(NamedTuple):
    """A verb with its arguments; at most one of them is a slot, which comes first in Korean."""

    slot: str
    particle: str
    ko: str  # literal arguments between the slot and the verb, with a trailing space
    verb: Word
    en: str
    before: str  # English complement around the slot, each with its leading space
    reference: str  # how English refers to the slot's noun: "@" any noun phrase, ">" the place, "*" the instrument
    after: str
    places: tuple[str, ...]
    traits: str


_FRAMES = """
fruit/을 먹다 | eat @fruit | home park kitchen office | chl
snack/을 먹다 | eat @snack | home cafe park office bakery | chl
dish/을 먹다 | eat @dish | restaurant home cafeteria | chlwk
food/을 먹다 | eat @food | restaurant home | chlwk
hot_drink/을 마시다 | drink @hot_drink | cafe home office | chlw
cold_drink/을 마시다 | drink @cold_drink | home restaurant park | chl
dish/을 만들다 | make @dish | home kitchen | hlk
food/을 주문하다 | order @food | restaurant home online | k
hot_drink/을 주문하다 | order @hot_drink | cafe restaurant | k
fruit/을 사다 | buy @fruit | market supermarket mall | ck
vegetable/을 사다 | buy @vegetable | market supermarket | ck
vegetable/을 씻다 | wash @vegetable | kitchen | ri
vegetable/을 썰다 | chop @vegetable | kitchen | i
vegetable/을 키우다 | grow @vegetable | garden village | hlev
snack/을 사다 | buy @snack | bakery supermarket | ck
reading/을 읽다 | read @reading | library home park cafe bus room | hlwk
reading/을 사다 | buy @reading | bookstore online | ck
reading/을 빌리다 | borrow @reading | library | hk
reading/을 추천하다 | recommend @reading |  | rk
article/을 읽다 | read @article | library office home bus | lk
article/을 쓰다 | write @article | home office cafe library room | lek
article/을 번역하다 | translate @article | office home | ler
show/을 보다 | watch @show | home theater living | chlwk
show/을 추천하다 | recommend @show |  | rk
music/을 듣다 | listen to @music | home room park bus cafe | hlwk
top/을 입어 보다 | try on @top | mall store |
top/을 사다 | buy @top | mall market online store | ck
top/을 입다 | wear @top |  | lk
top/을 다리다 | iron @top | home | i
accessory/을 사다 | buy @accessory | mall market online store | ck
accessory/을 고르다 | choose @accessory | mall store | ck
accessory/을 선물하다 | give @accessory as a present |  | k
accessory/을 잃어버리다 | lose @accessory | street bus park station | x
accessory/을 찾다 | look for @accessory | home room school office | li
shoes/을 사다 | buy @shoes | mall market online store | ck
shoes/을 신다 | wear @shoes |  | ki
shoes/을 빨다 | wash @shoes | home | i
flower/을 사다 | buy @flower | florist market | k
flower/을 심다 | plant @flower | garden park | ck
flower/을 그리다 | draw @flower | park room garden classroom | hl
stationery/을 사다 | buy @stationery | store mall bookstore online |
device/을 고치다 | repair @device | home office | lr
device/을 사다 | buy @device | mall online store | ck
device/을 끄다 | turn off *device |  | ri
device/을 켜다 | turn on *device |  | ri
furniture/을 만들다 | make @furniture | home | lck
furniture/을 옮기다 | move @furniture | home office room | cr
furniture/을 사다 | buy @furniture | store mall online | ck
vehicle/을 사다 | buy @vehicle |  | kv
vehicle/을 고치다 | repair @vehicle |  | lr
vehicle/을 세차하다 | wash @vehicle | home |
vehicle/을 빌리다 | rent @vehicle | station hotel | ck
pet/을 키우다 | keep @pet | home | hlkv
pet/에게 먹이를 주다 | feed @pet | home | h
pet/과 놀다 | play with @pet | home park | hl
pet/의 사진을 찍다 | take a picture of @pet | park home | h
animal/을 보다 | see @animal | zoo | c
animal/을 그리다 | draw @animal | zoo classroom room | l
instrument/을 연주하다 | play *instrument | school home concert | hlw
instrument/을 배우다 | learn to play *instrument | academy school | hle
instrument/을 사다 | buy @instrument | store online |
sport/을 하다 | play @sport | park gym playground | chlw
sport/을 연습하다 | practice @sport | gym playground school | chle
subject/을 공부하다 | study @subject | library school home cafe | chle
subject/을 가르치다 | teach @subject | school university academy | hlev
language/을 배우다 | learn @language | academy school university | chle
language/을 공부하다 | study @language | library cafe home | chle
language/을 가르치다 | teach @language | school academy university | hlev
skill/을 배우다 | learn @skill | academy | chle
tool/을 사다 | buy @tool | market store online supermarket | k
tool/을 찾다 | look for @tool | home kitchen | li
tool/을 빌려주다 | lend @tool to a neighbor |  | ri
file/을 저장하다 | save @file | office home | ri
file/을 삭제하다 | delete @file | office | ri
file/을 만들다 | create @file | office | k
file/을 복사하다 | copy @file | office | ri
article/을 보내다 | send @article | office home | rk
topic/에 대해 이야기하다 | talk about @topic | cafe office park school | cl
topic/에 대해 생각하다 | think about @topic |  | l
hangout/에 가다 | go to >place |  | cw
place/에 들르다 | stop by >place |  | c
place/에서 일하다 | work at >place |  | hlv
hangout/에서 친구를 만나다 | meet a friend at >place |  |
room/을 청소하다 | clean >room |  | chlri
room/을 꾸미다 | decorate >room |  | cl
room/에서 기다리다 | wait in >room |  | li
city/에 가다 | go to @city |  | c
city/을 여행하다 | travel around @city |  | clw
city/에서 살다 | live in @city |  | lv
city/으로 이사하다 | move to @city |  | v
city/에서 일하다 | work in @city |  | lv
city/의 시장을 구경하다 | look around a market in @city |  | cl
world_city/에 가다 | go to @world_city |  | c
world_city/을 여행하다 | travel around @world_city |  | clw
world_city/에서 사진을 찍다 | take pictures in @world_city |  | c
country/을 여행하다 | travel around @country |  | clw
country/에서 공부하다 | study in @country |  | lev
country/의 음식을 먹어 보다 | try food from @country | restaurant | c
country/의 역사를 배우다 | learn about the history of @country | school university | hle
nature/에 가다 | go to >nature |  | cw
nature/을 그리다 | paint >nature | room | l
nature/의 사진을 찍다 | take a picture of >nature |  | h
운동하다 | exercise | gym park home | chlwe
산책하다 | take a walk | park river beach | chlw
수영하다 | swim | pool beach | chlw
달리다 | run | park river playground | chlws
쉬다 | rest | home room | hld
춤을 추다 | dance | room living school | chlws
노래를 부르다 | sing | room park school | chl
사진을 찍다 | take pictures | park beach museum garden | chlw
그림을 그리다 | draw pictures | room park classroom | hlw
일기를 쓰다 | write in $ diary | room home | he
숙제를 하다 | do $ homework | library home classroom | chlis
요리하다 | cook | kitchen home | chl
설거지를 하다 | do the dishes | kitchen home | hid
빨래를 하다 | do the laundry | home | hi
방을 정리하다 | tidy up $ room |  | hi
손을 씻다 | wash $ hands |  | hrid
이를 닦다 | brush $ teeth | home | hmid
머리를 감다 | wash $ hair | home | hid
일찍 일어나다 | get up early |  | hmed
늦게 자다 | go to bed late |  | hmd
아침을 먹다 | have breakfast | home hotel | chmd
점심을 먹다 | have lunch | restaurant cafeteria office | chmd
저녁을 먹다 | have dinner | home restaurant | chmwd
장을 보다 | go grocery shopping | market supermarket | chri
쇼핑하다 | go shopping | mall market | chw
친구를 만나다 | meet a friend | cafe park station school | h
친구를 돕다 | help a friend | school |
친구와 이야기하다 | talk with a friend | cafe school park | hl
친구에게 전화하다 | call a friend |  | hi
부모님께 전화를 드리다 | call $ parents |  | his
시험 공부를 하다 | study for an exam | library room cafe | cles
회의를 하다 | have a meeting | office | hl
발표를 준비하다 | prepare a presentation | office library | cler
이메일을 확인하다 | check $ email | office home | hrid
표를 예매하다 | book a ticket | online | r
식당을 예약하다 | reserve a table at a restaurant | online | r
버스를 기다리다 | wait for the bus | street | li
기차를 타다 | take the train | station |
택시를 타다 | take a taxi | street | i
자전거를 타다 | ride a bicycle | park river | chlw
등산을 하다 | go hiking |  | chw
낚시를 하다 | go fishing | river | chw
캠핑을 하다 | go camping |  | chw
게임을 하다 | play games | home room | chlws
축구 경기를 보다 | watch a soccer game | home | chlw
전시회를 보다 | see an exhibition | gallery museum | cw
박물관을 구경하다 | look around a museum |  | cw
약을 먹다 | take medicine |  | hid
병원에 가다 | go to the hospital |  |
은행에서 돈을 찾다 | withdraw money from the bank |  | i
돈을 모으다 | save money |  | he
선물을 준비하다 | prepare a gift |  | cr
선물을 포장하다 | wrap a gift | home store | r
편지를 부치다 | mail a letter |  | r
창문을 열다 | open the window |  | ri
문을 닫다 | close the door |  | ri
문을 잠그다 | lock the door |  | ri
불을 끄다 | turn off the light |  | ri
나무를 심다 | plant a tree | garden park | c
꽃에 물을 주다 | water the flowers | garden | hri
쓰레기를 버리다 | take out the trash |  | hrid
신문을 읽다 | read the newspaper | home cafe office | hld
뉴스를 보다 | watch the news | living home | hd
라디오를 듣다 | listen to the radio | kitchen home | hl
차를 마시다 | drink tea | cafe living | chlw
빵을 굽다 | bake bread | kitchen home | chl
김치를 담그다 | make kimchi | home | c
생일 파티를 하다 | have a birthday party | home restaurant | c
봉사 활동을 하다 | do volunteer work | village | chle
면접을 보다 | have a job interview | office | s
운전을 연습하다 | practice driving |  | le
집을 짓다 | build a house | village | lev
벽을 칠하다 | paint the wall | room | lc
동생을 돌보다 | look after $ younger brother | home | hls
할머니를 도와드리다 | help $ grandmother | home | hs
별을 보다 | look at the stars | village beach | cl
노래를 연습하다 | practice singing | room school | hle
단어를 외우다 | memorize words | library bus room | hles
공원을 걷다 | walk in the park |  | chl
인터넷을 검색하다 | search the internet | office | l
"""


def _parse(row: str) -> Frame:
    ko, en, places, traits = (part.strip() for part in row.split("|"))
    *arguments, verb = ko.split(" ")
    slot, slash, form = arguments[0].partition("/") if arguments else ("", "", "")
    literal = arguments[1:] if slash else arguments
    head, _, complement = en.partition(" ")
    match = re.search(r"([@>*])\w+", complement)
    before, after = (complement[: match.start()], complement[match.end() :]) if match else (complement, "")
    return Frame(
        slot if slash else "", form, "".join(token + " " for token in literal), word(verb), head,
        f" {before.rstrip()}" if before.strip() else "", match[1] if match else "", after, tuple(places.split()), traits,
    )  # fmt: skip


FRAMES = tuple(_parse(row) for row in _FRAMES.strip().splitlines())
