# ruff: noqa: E501 - word tables: one entry group a line reads better than wrapped Hangul (counted double)
"""The words of the grammar: nouns by class with their counters, adjectives by what they describe, people, times, places.

An entry is ``Korean=English``. After the English noun, ``~`` marks an uncountable noun, ``+`` one that is plural only,
``!`` one that takes ``the``. A class is what verbs and adjectives select by, so that soup is eaten and buses are ridden.
"""

from __future__ import annotations

from typing import NamedTuple

from fastlm.data.demo.korean import ADJECTIVE, COPULA, Word, word


class Noun(NamedTuple):
    """A noun of both languages; ``number`` is "" (countable), "~", "+" or "!"; ``measure`` as in *cup of tea*."""

    ko: str
    en: str
    number: str
    counter: str
    measure: str


class Adjective(NamedTuple):
    """An adjective of both languages; the English side may be a participle or phrase used after *be* as well."""

    ko: Word
    en: str


# class: (Korean counter, English measure for uncountable nouns, entries)
_NOUNS = {
    "fruit": ("개", "piece", "사과=apple, 바나나=banana, 배=pear, 귤=tangerine, 복숭아=peach, 오렌지=orange, 참외=melon, 망고=mango, "
              "매실=plum, 감=persimmon, 수박=watermelon, 키위=kiwi"),
    "vegetable": ("개", "piece", "감자=potato, 고구마=sweet potato, 양파=onion, 당근=carrot, 토마토=tomato, 오이=cucumber, 호박=pumpkin, "
                  "피망=bell pepper, 가지=eggplant, 배추=cabbage"),
    "snack": ("개", "piece", "빵=bread~, 케이크=cake, 쿠키=cookie, 샌드위치=sandwich, 김밥=gimbap~, 만두=dumpling, 초콜릿=chocolate~, "
              "햄버거=hamburger, 도넛=donut, 떡=rice cake, 사탕=candy~, 아이스크림=ice cream~, 핫도그=hot dog"),
    "dish": ("그릇", "bowl", "비빔밥=bibimbap~, 라면=ramen~, 냉면=cold noodles+, 칼국수=noodle soup~, 볶음밥=fried rice~, "
             "된장찌개=soybean paste stew~, 김치찌개=kimchi stew~, 미역국=seaweed soup~, 죽=porridge~, 떡국=rice cake soup~, "
             "삼계탕=chicken soup~, 카레=curry~, 우동=udon~, 짜장면=black bean noodles+"),
    "food": ("인분", "serving", "불고기=bulgogi~, 떡볶이=tteokbokki~, 피자=pizza~, 스파게티=spaghetti~, 치킨=fried chicken~, 잡채=japchae~, "
             "샐러드=salad~, 초밥=sushi~, 스테이크=steak~, 갈비=ribs+, 돈가스=pork cutlet~, 생선구이=grilled fish~"),
    "hot_drink": ("잔", "cup", "커피=coffee~, 녹차=green tea~, 홍차=black tea~, 코코아=cocoa~, 인삼차=ginseng tea~, 유자차=citron tea~, "
                  "보리차=barley tea~, 생강차=ginger tea~, 카페라테=caffe latte~"),
    "cold_drink": ("잔", "glass", "물=water~, 우유=milk~, 주스=juice~, 콜라=cola~, 레모네이드=lemonade~, "
                   "식혜=sweet rice punch~, 두유=soy milk~, 탄산수=sparkling water~"),
    "reading": ("권", "", "책=book, 소설=novel, 만화책=comic book, 시집=poetry book, 잡지=magazine, 역사책=history book, 동화책=storybook, "
                "자서전=autobiography, 여행책=travel book, 과학책=science book, 요리책=cookbook, 수필집=essay collection"),
    "article": ("편", "", "기사=article, 논문=paper, 보고서=report, 편지=letter, 이메일=email, 시=poem, 수필=essay, 글=piece of writing"),
    "show": ("편", "", "영화=movie, 드라마=TV drama, 연극=play, 만화 영화=cartoon, 다큐멘터리=documentary, 뮤지컬=musical, 코미디 영화=comedy film, "
             "공포 영화=horror film, 단편 영화=short film"),
    "music": ("곡", "piece", "노래=song, 음악=music~, 클래식 음악=classical music~, 재즈=jazz~, 팝송=pop song, 라디오 방송=radio program, "
              "민요=folk song, 피아노 연주=piano performance, 동요=children's song"),
    "top": ("벌", "", "셔츠=shirt, 코트=coat, 점퍼=windbreaker, 스웨터=sweater, 재킷=jacket, 정장=suit, 카디건=cardigan, 조끼=vest, 한복=hanbok, "
            "잠옷=bathrobe, 비옷=raincoat, 티셔츠=T-shirt"),
    "accessory": ("개", "", "모자=hat, 가방=bag, 목걸이=necklace, 시계=watch, 반지=ring, 지갑=wallet, 목도리=scarf, 배낭=backpack, 넥타이=necktie, "
                  "우산=umbrella, 팔찌=bracelet"),
    "shoes": ("켤레", "pair", "신발=shoes+, 운동화=sneakers+, 구두=dress shoes+, 장화=boots+, 양말=socks+, 장갑=gloves+, 슬리퍼=slippers+, "
              "등산화=hiking boots+"),
    "flower": ("송이", "", "꽃=flower, 장미=rose, 튤립=tulip, 백합=lily, 해바라기=sunflower, 국화=chrysanthemum, 카네이션=carnation"),
    "stationery": ("개", "", "연필=pencil, 볼펜=pen, 지우개=eraser, 자=ruler, 공책=notebook, 필통=pencil case, 달력=calendar, 수첩=memo pad, "
                   "색연필=colored pencil, 가위=scissors+"),
    "device": ("대", "", "컴퓨터=computer, 노트북=laptop, 텔레비전=television, 카메라=camera, 냉장고=refrigerator, 세탁기=washing machine, "
               "에어컨=air conditioner, 청소기=vacuum cleaner, 선풍기=electric fan, 프린터=printer, 라디오=radio, 휴대폰=cell phone, "
               "태블릿=tablet, 전자레인지=microwave oven"),
    "furniture": ("개", "", "책상=desk, 의자=chair, 침대=bed, 소파=sofa, 책장=bookcase, 옷장=wardrobe, 식탁=dining table, 거울=mirror, "
                  "선반=shelf, 서랍장=chest of drawers, 화분=flowerpot, 탁자=table"),
    "vehicle": ("대", "", "자동차=car, 자전거=bicycle, 오토바이=motorcycle, 트럭=truck, 승합차=van, 전기차=electric car"),
    "pet": ("마리", "", "강아지=puppy, 고양이=cat, 토끼=rabbit, 햄스터=hamster, 앵무새=parrot, 개=dog, 거북이=turtle"),
    "animal": ("마리", "", "호랑이=tiger, 코끼리=elephant, 기린=giraffe, 사자=lion, 곰=bear, 원숭이=monkey, 말=horse, 소=cow, 여우=fox, "
               "사슴=deer, 늑대=wolf, 판다=panda, 펭귄=penguin, 오리=duck"),
    "instrument": ("대", "", "피아노=piano, 기타=guitar, 바이올린=violin, 첼로=cello, 플루트=flute, 드럼=drum, 가야금=gayageum, 하모니카=harmonica"),
    "sport": ("", "", "축구=soccer~, 농구=basketball~, 야구=baseball~, 테니스=tennis~, 배드민턴=badminton~, 탁구=table tennis~, 배구=volleyball~, "
              "골프=golf~, 볼링=bowling~"),
    "subject": ("", "", "수학=math~, 과학=science~, 역사=history~, 음악=music~, 미술=art~, 물리학=physics~, 경제학=economics~, 화학=chemistry~, "
                "철학=philosophy~, 심리학=psychology~, 생물학=biology~, 지리=geography~, 통계학=statistics~, 문학=literature~"),
    "language": ("", "", "한국어=Korean~, 영어=English~, 중국어=Chinese~, 일본어=Japanese~, 프랑스어=French~, 독일어=German~, 스페인어=Spanish~, "
                 "러시아어=Russian~, 이탈리아어=Italian~, 베트남어=Vietnamese~, 아랍어=Arabic~, 포르투갈어=Portuguese~"),
    "skill": ("", "", "수영=swimming~, 요리=cooking~, 태권도=taekwondo~, 서예=calligraphy~, 사진=photography~, 운전=driving~, 발레=ballet~, "
              "프로그래밍=programming~, 스키=skiing~, 도예=pottery~"),
    "country": ("", "", "한국=Korea, 미국=the United States, 중국=China, 일본=Japan, 프랑스=France, 독일=Germany, 영국=the United Kingdom, "
                "캐나다=Canada, 호주=Australia, 베트남=Vietnam, 스페인=Spain, 이탈리아=Italy, 브라질=Brazil, 인도=India, 태국=Thailand, "
                "멕시코=Mexico, 이집트=Egypt, 뉴질랜드=New Zealand, 스위스=Switzerland, 터키=Turkey"),
    "city": ("", "", "서울=Seoul, 부산=Busan, 대구=Daegu, 인천=Incheon, 광주=Gwangju, 대전=Daejeon, 울산=Ulsan, 전주=Jeonju, 경주=Gyeongju, "
             "춘천=Chuncheon, 강릉=Gangneung, 제주=Jeju, 수원=Suwon, 포항=Pohang, 여수=Yeosu, 속초=Sokcho, 청주=Cheongju, 안동=Andong, "
             "목포=Mokpo, 창원=Changwon"),
    "world_city": ("", "", "파리=Paris, 런던=London, 뉴욕=New York, 도쿄=Tokyo, 베이징=Beijing, 시드니=Sydney, 로마=Rome, 베를린=Berlin, "
                   "방콕=Bangkok, 하노이=Hanoi, 마드리드=Madrid, 토론토=Toronto"),
    "place": ("곳", "", "공원=park, 시장=market, 도서관=library, 박물관=museum, 미술관=art gallery, 병원=hospital, 은행=bank, 우체국=post office, "
              "백화점=department store, 식당=restaurant, 카페=cafe, 서점=bookstore, 약국=pharmacy, 극장=theater, 학교=school, 수영장=swimming pool, "
              "체육관=gym, 호텔=hotel, 빵집=bakery, 꽃집=flower shop, 경찰서=police station, 편의점=convenience store, 미용실=hair salon, "
              "시청=city hall, 동물원=zoo, 주차장=parking lot"),
    "hangout": ("곳", "", "공원=park, 도서관=library, 박물관=museum, 미술관=art gallery, 백화점=department store, 식당=restaurant, 카페=cafe, "
                "서점=bookstore, 극장=theater, 수영장=swimming pool, 체육관=gym, 빵집=bakery, 동물원=zoo, 시장=market, 광장=square, 호숫가=lakeside"),
    "room": ("개", "", "방=room, 부엌=kitchen, 거실=living room, 교실=classroom, 사무실=office, 화장실=bathroom, 회의실=meeting room, 침실=bedroom"),
    "nature": ("", "", "산=mountain, 바다=sea!, 강=river, 호수=lake, 섬=island, 숲=forest, 해변=beach, 계곡=valley, 폭포=waterfall, 언덕=hill"),
    "topic": ("", "", "미래=the future, 여행 계획=travel plans, 건강=health, 날씨=the weather, 정치=politics, 꿈=dreams, 가족=family, "
              "학교생활=school life, 최근 소식=the latest news, 새 프로젝트=the new project, 환경 문제=environmental problems, 영화=movies, "
              "스포츠=sports, 주말 계획=weekend plans, 교육=education, 물가=prices, 결혼=marriage, 취미=hobbies"),
    "job": ("명", "", "의사=doctor, 간호사=nurse, 교사=teacher, 변호사=lawyer, 기자=reporter, 요리사=chef, 가수=singer, 배우=actor, 화가=painter, "
            "경찰관=police officer, 소방관=firefighter, 작가=writer, 엔지니어=engineer, 과학자=scientist, 회계사=accountant, 건축가=architect, "
            "번역가=translator, 사진작가=photographer, 약사=pharmacist, 농부=farmer, 조종사=pilot, 디자이너=designer, 은행원=bank clerk, "
            "공무원=civil servant, 개발자=developer, 통역사=interpreter, 수의사=veterinarian, 미용사=hairdresser"),
    "person": ("명", "", "학생=student, 남자=man, 여자=woman, 아이=child, 손님=customer, 관광객=tourist, 직원=employee, 배우=actor, 가수=singer, "
               "의사=doctor, 기자=reporter, 유학생=international student, 대학생=college student, 외국인=foreigner, 이웃=neighbor, 승객=passenger, "
               "작가=writer, 군인=soldier, 선수=athlete, 요리사=chef"),
    "tool": ("개", "", "망치=hammer, 사다리=ladder, 냄비=pot, 칼=knife, 손전등=flashlight, 수건=towel, 베개=pillow, 접시=plate, 컵=cup, 열쇠=key, "
             "상자=box, 공=ball, 장난감=toy, 인형=doll, 바구니=basket, 담요=blanket, 칫솔=toothbrush, 빗=comb"),
    "file": ("개", "", "파일=file, 문서=document, 폴더=folder, 이미지=image, 프로젝트=project, 메시지=message, 계정=account, 데이터베이스=database, "
             "목록=list, 표=table, 양식=form, 보고서=report, 스크립트=script, 로그=log, 프로필=profile"),
}  # fmt: skip


def _noun(entry: str, counter: str, measure: str) -> Noun:
    ko, _, en = entry.strip().partition("=")
    number = en[-1] if en[-1] in "~+!" else ""
    return Noun(ko, en.removesuffix(number) if number else en, number, counter, measure)


NOUNS: dict[str, tuple[Noun, ...]] = {
    name: tuple(_noun(entry, counter, measure) for entry in entries.split(","))
    for name, (counter, measure, entries) in _NOUNS.items()
}

# What may be said of the nouns of a class, before the noun or after be.
_ADJECTIVES = {
    "fruit vegetable": "신선하다=fresh, 크다=big, 작다=small, 싸다=cheap, 맛있다=delicious, 비싸다=expensive",
    "snack food": "맛있다=delicious, 유명하다=famous, 비싸다=expensive, 특별하다=special, 싸다=cheap",
    "dish": "맛있다=delicious, 맵다=spicy, 짜다=salty, 푸짐하다=hearty, 싱겁다=bland, 싸다=cheap",
    "hot_drink": "뜨겁다=hot, 따뜻하다=warm, 진하다=strong, 향긋하다=fragrant, 달다=sweet",
    "cold_drink": "차갑다=cold, 시원하다=refreshing, 비싸다=expensive, 맛있다=tasty",
    "reading": "재미있다=interesting, 두껍다=thick, 어렵다=difficult, 유명하다=famous, 얇다=thin, 유익하다=informative, 감동적이다=touching, 오래되다=old",
    "article": "길다=long, 짧다=short, 중요하다=important, 흥미롭다=interesting, 복잡하다=complicated, 훌륭하다=excellent",
    "show": "재미있다=fun, 슬프다=sad, 무섭다=scary, 지루하다=boring, 길다=long, 유명하다=famous, 감동적이다=touching, 새롭다=new",
    "music": "좋다=good, 훌륭하다=excellent, 유명하다=famous, 길다=long, 즐겁다=cheerful",
    "top": "예쁘다=pretty, 비싸다=expensive, 싸다=cheap, 빨갛다=red, 파랗다=blue, 하얗다=white, 까맣다=black, 노랗다=yellow, 따뜻하다=warm, "
           "두껍다=thick, 멋지다=stylish, 편하다=comfortable",
    "accessory": "예쁘다=pretty, 비싸다=expensive, 싸다=cheap, 작다=small, 빨갛다=red, 파랗다=blue, 하얗다=white, 까맣다=black, 멋지다=stylish, 특별하다=special",
    "shoes": "편하다=comfortable, 비싸다=expensive, 가볍다=light, 빨갛다=red, 하얗다=white, 까맣다=black, 튼튼하다=sturdy, 더럽다=dirty",
    "flower": "예쁘다=pretty, 아름답다=beautiful, 향기롭다=fragrant, 싱싱하다=fresh, 작다=small",
    "stationery": "싸다=cheap, 파랗다=blue, 빨갛다=red, 귀엽다=cute, 작다=small",
    "device": "비싸다=expensive, 무겁다=heavy, 가볍다=light, 낡다=worn-out, 편리하다=convenient, 작다=small, 조용하다=quiet, 튼튼하다=sturdy",
    "furniture": "크다=big, 작다=small, 무겁다=heavy, 편하다=comfortable, 낡다=worn-out, 하얗다=white, 비싸다=expensive, 튼튼하다=sturdy",
    "vehicle": "빠르다=fast, 비싸다=expensive, 작다=small, 까맣다=black, 하얗다=white, 빨갛다=red, 느리다=slow, 낡다=worn-out",
    "pet": "귀엽다=cute, 작다=small, 영리하다=clever, 얌전하다=gentle, 건강하다=healthy, 사랑스럽다=lovely",
    "animal": "크다=big, 귀엽다=cute, 빠르다=fast, 무섭다=scary, 영리하다=clever, 강하다=strong",
    "instrument": "비싸다=expensive, 낡다=worn-out, 무겁다=heavy, 훌륭하다=excellent",
    "subject language": "어렵다=difficult, 쉽다=easy, 재미있다=interesting, 중요하다=important, 유용하다=useful",
    "sport": "재미있다=fun, 어렵다=difficult, 힘들다=tiring, 쉽다=easy, 위험하다=dangerous",
    "skill": "재미있다=fun, 어렵다=difficult, 쉽다=easy, 유용하다=useful",
    "city world_city country": "아름답다=beautiful, 조용하다=quiet, 깨끗하다=clean, 안전하다=safe, 멀다=far away, 매력적이다=charming",
    "place hangout": "크다=big, 작다=small, 조용하다=quiet, 깨끗하다=clean, 유명하다=famous, 가깝다=nearby, 멀다=distant, 오래되다=old, 시끄럽다=noisy, 넓다=spacious, "
             "편리하다=convenient, 복잡하다=crowded",
    "room": "넓다=spacious, 좁다=cramped, 밝다=bright, 어둡다=dark, 깨끗하다=clean, 더럽다=dirty, 춥다=cold, 시끄럽다=noisy, 조용하다=quiet, 따뜻하다=warm",
    "nature": "아름답다=beautiful, 깊다=deep, 조용하다=quiet, 유명하다=famous, 푸르다=green, 멀다=distant",
    "person job": "친절하다=kind, 젊다=young, 똑똑하다=smart, 부지런하다=hardworking, 유명하다=famous, 바쁘다=busy, 정직하다=honest, 조용하다=quiet, "
                  "예의 바르다=polite, 용감하다=brave, 겸손하다=modest, 게으르다=lazy, 키가 크다=tall",
    "tool": "무겁다=heavy, 낡다=worn-out, 작다=small, 크다=big, 튼튼하다=sturdy, 깨끗하다=clean, 빨갛다=red",
    "file": "크다=large, 새롭다=new, 중요하다=important, 오래되다=old",
}  # fmt: skip

# Used before a noun only: said of the subject, the Korean needs the past (낡았다) and the English another word.
ATTRIBUTIVE = ("오래되다", "낡다", "새롭다", "가깝다")
COLOURS = ("갛", "랗", "얗", "맣")  # last syllables of the colour adjectives, which take no degree


def _adjective(entry: str) -> Adjective:
    form, _, en = entry.strip().partition("=")
    return Adjective(Word(form[:-1], COPULA) if form.endswith("적이다") else word(form, _kind(form)), en)


def _kind(form: str) -> str:
    return "" if form.endswith(("있다", "없다")) else ADJECTIVE


ADJECTIVES: dict[str, tuple[Adjective, ...]] = {
    name: tuple(_adjective(entry) for entry in entries.split(","))
    for names, entries in _ADJECTIVES.items()
    for name in names.split()
}
