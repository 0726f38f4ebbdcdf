# ruff: noqa: E501 - word tables: one entry group a line reads better than wrapped Hangul (counted double)
"""Sentences by subject matter, as templates: news, documentation, weather, travel, shops, feelings, courtesies.

In Korean ``{name/은}`` is a slot with its particle (``/이다``: the copula ends the sentence in the style at hand) and
``[가다.past]`` the final predicate (``!`` marks an adjective; present without a tag). In English ``{name}`` is the same choice,
``.a`` with its article, ``.s`` in the plural; a digit tells slots of one class apart (``{city1}``, ``{city2}``). Numbers are
``{n}`` (two to nine; ``/k``: 둘 as 두), ``{v}`` (a digit), ``{big}`` (11-95), ``{share}`` (per cent), ``{price}``, ``{year}``, ``{date}``; people are
``{name}`` with ``{pronoun}`` and ``{possessive}``, and ``{I}``. Slots that are predicates (``goal``, ...) take endings.
"""

from __future__ import annotations

STYLES_OF = {  # section: styles of speech in which its sentences are said
    "news": ("plain", "formal"),
    "documentation": ("polite", "formal"),
    "weather": ("plain", "polite", "formal"),
    "travel": ("polite", "formal"),
    "everyday": ("polite", "formal"),
    "feeling": ("plain", "casual", "polite"),
    "courtesy": ("polite", "formal"),
}

SLOTS = {  # Korean=English, comma separated
    "company": "한빛전자=Hanbit Electronics, 새롬제약=Saerom Pharmaceutical, 미래건설=Mirae Construction, 푸른식품=Pureun Foods, 누리통신=Nuri Telecom, "
               "대한조선=Daehan Shipbuilding, 가온자동차=Gaon Motors, 다솜항공=Dasom Airlines, 해솔에너지=Haesol Energy, 아름은행=Areum Bank, 바른소프트=Bareun Software",
    "product": "스마트폰=smartphones, 반도체=semiconductors, 전기차=electric cars, 화장품=cosmetics, 배터리=batteries, 가전제품=home appliances, 라면=instant noodles, "
               "의약품=medicines, 철강 제품=steel products, 태양광 패널=solar panels, 로봇=robots",
    "measure": "매출=sales, 수출=exports, 수입=imports, 생산량=output, 영업 이익=operating profit, 투자=investment, 판매량=sales volume, 방문객 수=the number of visitors",
    "agency": "정부=the government, 서울시=the Seoul city government, 교육부=the Ministry of Education, 환경부=the Ministry of Environment, 국회=the National Assembly, "
              "시청=city hall, 보건 당국=health authorities, 중앙은행=the central bank",
    "policy": "새로운 교통 정책=a new transportation policy, 무료 급식 제도=a free school meal program, 주택 지원 사업=a housing support program, "
              "청년 일자리 사업=a youth employment program, 재활용 제도=a recycling system, 세금 감면 정책=a tax reduction policy, "
              "무료 건강 검진=free health checkups, 장학금 제도=a scholarship program, 금연 구역 제도=a smoke-free zone system",
    "facility": "도서관=library, 지하철역=subway station, 병원=hospital, 공항=airport, 체육관=gym, 박물관=museum, 다리=bridge, 공원=park, 학교=school, 공연장=concert hall, "
                "어린이집=daycare center, 주차장=parking lot, 시장=market, 수영장=swimming pool",
    "disaster": "화재=a fire, 교통사고=a traffic accident, 홍수=a flood, 정전=a power outage, 지진=an earthquake, 산불=a forest fire, 산사태=a landslide",
    "event": "영화제=film festival, 음악회=concert, 전시회=exhibition, 꽃 축제=flower festival, 마라톤 대회=marathon, 국제 회의=international conference, 요리 대회=cooking contest, "
             "김치 축제=kimchi festival, 책 박람회=book fair, 졸업식=graduation ceremony, 체육 대회=sports day",
    "thing_done": "결과=the results, 보고서=the report, 계획=the plan, 예산안=the budget bill, 조사 결과=the survey results, 대책=countermeasures, 일정=the schedule",
    "group": "학생=students, 직장인=office workers, 노인=elderly people, 청년=young people, 대학생=college students, 외국인 관광객=foreign tourists, 부모=parents, 농민=farmers, "
             "주민=residents, 운전자=drivers, 소비자=consumers, 십대=teenagers",
    "habit": "매일 운동한다=exercise every day, 종이 신문을 읽는다=read a paper newspaper, 대중교통을 이용한다=use public transportation, 아침을 거른다=skip breakfast, "
             "온라인으로 장을 본다=shop for groceries online, 하루에 커피를 두 잔 이상 마신다=drink more than two cups of coffee a day, "
             "주말에 집에서 쉰다=rest at home on weekends, 한 달에 책을 한 권 이상 읽는다=read more than one book a month, 잠이 부족하다=do not get enough sleep, "
             "외국어를 배운다=are learning a foreign language, 미래를 걱정한다=worry about the future, 반려동물을 키운다=have a pet",
    "day": "월요일=Monday, 화요일=Tuesday, 수요일=Wednesday, 목요일=Thursday, 금요일=Friday, 토요일=Saturday, 일요일=Sunday",
    "month": "1월=January, 2월=February, 3월=March, 4월=April, 5월=May, 6월=June, 7월=July, 8월=August, 9월=September, 10월=October, 11월=November, 12월=December",
    "hour": "오전 여덟 시=8 a.m., 오전 아홉 시=9 a.m., 오전 열 시=10 a.m., 오전 열한 시=11 a.m., 오후 한 시=1 p.m., 오후 두 시=2 p.m., 오후 세 시=3 p.m., 오후 네 시=4 p.m., "
            "오후 다섯 시=5 p.m., 오후 여섯 시=6 p.m., 오후 일곱 시=7 p.m., 오전 아홉 시 반=9:30 a.m., 오후 두 시 반=2:30 p.m., 오후 여섯 시 십오 분=6:15 p.m.",
    "setting": "글꼴 크기=font size, 언어=language, 배경색=background color, 화면 밝기=screen brightness, 시간대=time zone, 비밀번호=password, 저장 경로=save path, 알림=notification, "
               "기본 프린터=default printer, 해상도=resolution, 캐시 크기=cache size, 제한 시간=timeout, 로그 수준=log level, 프록시 주소=proxy address, 작업 폴더=working folder",
    "numeric": "글꼴 크기=font size, 제한 시간=timeout, 캐시 크기=cache size, 최대 연결 수=maximum number of connections, 줄 간격=line spacing, 버퍼 크기=buffer size, "
               "재시도 횟수=retry count, 여백 너비=margin width, 대기 시간=waiting time, 최대 줄 길이=maximum line length",
    "button": "열기=Open, 복사=Copy, 이름 바꾸기=Rename, 삭제=Delete, 편집=Edit, 공유=Share, 속성=Properties, 인쇄=Print, 보내기=Send, 새로 고침=Refresh",
    "menu": "파일=File, 편집=Edit, 보기=View, 도구=Tools, 도움말=Help, 설정=Settings, 창=Window, 계정=Account, 보안=Security, 네트워크=Network",
    "unit": "함수=function, 메서드=method, 명령=command, 옵션=option, 모듈=module, 클래스=class, 스크립트=script, 프로그램=program, 플러그인=plugin, 매크로=macro, 도구=tool",
    "container": "목록=list, 배열=array, 객체=object, 사전=dictionary, 큐=queue, 묶음=batch, 그룹=group, 행=row",
    "savable": "문서=document, 표=table, 그림=drawing, 프로젝트=project, 메모=note, 양식=form, 목록=list, 설정=setting",
    "runner": "스크립트=script, 프로그램=program, 매크로=macro, 명령=command, 설치 프로그램=installer, 도구=tool, 마법사=wizard, 백업=backup, 검사=scan, 업데이트=update, 테스트=test",
    "type": "문자열=string, 정수=integer, 목록=list, 객체=object, 배열=array, 사전=dictionary, 파일 경로=file path, 오류 코드=error code, 실수=float, 튜플=tuple, 참조=reference",
    "resource": "충분한 메모리=enough memory, 충분한 디스크 공간=enough disk space, 네트워크 연결=a network connection, 관리자 권한=administrator privileges, 인터넷 연결=an internet connection, "
                "최신 버전의 브라우저=the latest version of the browser, 유효한 인증서=a valid certificate, 환경 변수=an environment variable, 설정 파일=a configuration file",
    "goal": "파일을 저장하=save the file, 새 프로젝트를 만들=create a new project, 계정을 삭제하=delete your account, 비밀번호를 바꾸=change your password, 문서를 인쇄하=print the document, "
            "사진을 올리=upload a photo, 프로그램을 설치하=install the program, 서버에 연결하=connect to the server, 글꼴을 바꾸=change the font, 화면을 나누=split the screen, "
            "변경 사항을 취소하=undo the changes, 데이터를 백업하=back up the data, 로그를 확인하=check the log, 패키지를 업데이트하=update the package, 알림을 끄=turn off notifications, "
            "표를 삽입하=insert a table, 오류를 신고하=report an error, 검색 결과를 정렬하=sort the search results",
    "error": "연결이 끊어졌습니다=the connection was lost, 파일을 찾을 수 없습니다=the file could not be found, 권한이 없습니다=permission was denied, 메모리가 부족합니다=there is not enough memory, "
             "잘못된 형식입니다=the format is invalid, 시간이 초과되었습니다=the operation timed out",
    "sky": "비=rain, 눈=snow, 소나기=showers, 진눈깨비=sleet, 가을비=autumn rain, 봄비=spring rain",
    "region": "전국=the whole country, 남부 지방=the southern region, 중부 지방=the central region, 동부 지방=the eastern region, 제주 지역=the Jeju area, 수도권=the capital area, 서부 지방=the western region, "
              "산간 지역=the mountain areas, 강원도=Gangwon Province",
    "venue": "문화 센터=cultural center, 시청 광장=city hall plaza, 컨벤션 센터=convention center, 대학교=university, 시민 회관=civic center",
    "closing": "오후 다섯 시=5 p.m., 오후 여섯 시=6 p.m., 오후 여섯 시 반=6:30 p.m., 오후 일곱 시=7 p.m., 오후 여덟 시=8 p.m., 밤 아홉 시=9 p.m., 밤 열 시=10 p.m.",
    "season": "봄=spring, 여름=summer, 가을=fall, 겨울=winter",
    "coach": "버스=bus, 기차=train, 고속버스=express bus, 고속 열차=high-speed train",
    "transport": "버스=bus, 지하철=subway train, 택시=taxi, 마을버스=local bus, 셔틀버스=shuttle bus",
    "kindness": "도와주=helping me, 초대해 주=inviting me, 기다려 주=waiting for me, 와 주=coming, 알려 주=letting me know, 설명해 주=explaining it to me, 선물을 보내 주=sending me a present, "
                "걱정해 주=worrying about me, 시간을 내 주=making time for me, 친절하게 대해 주=treating me kindly, 길을 가르쳐 주=showing me the way, 빨리 답장해 주=replying so quickly",
    "fault": "늦어서=for being late, 답장이 늦어서=for the late reply, 약속을 지키지 못해서=for not keeping my promise, 전화를 못 받아서=for missing your call, 실수해서=for making a mistake, "
             "기다리게 해서=for keeping you waiting, 방해해서=for disturbing you, 이름을 잊어버려서=for forgetting your name, 먼저 가서=for leaving early, 오해해서=for misunderstanding you",
    "forbidden": "사진을 찍=take pictures, 담배를 피우=smoke, 음식을 먹=eat food, 큰 소리로 이야기하=talk loudly, 뛰=run, 전화하=talk on the phone, 쓰레기를 버리=throw away trash, "
                 "음악을 크게 틀=play loud music",
    "spot": "여기=here, 도서관=in the library, 극장=in the theater, 병원=in the hospital, 박물관=in the museum, 교실=in the classroom, 복도=in the hallway, 지하철=on the subway, "
            "사무실=in the office, 기차 안=on the train, 미술관=in the art gallery",
    "permitted": "여기에 앉=sit here, 창문을 열=open the window, 사진을 찍=take a picture, 질문을 하=ask a question, 들어가=come in, 이 옷을 입어 보=try on these clothes, 전화를 쓰=use the phone, 먼저 가=leave first, "
                 "불을 켜=turn on the light, 이 의자를 가져가=take this chair, 화장실을 쓰=use the bathroom, 내일 다시 오=come again tomorrow, 카드로 계산하=pay by card, 이 책을 빌리=borrow this book",
    "achievement": "시험에 합격하=passed the exam, 옛 친구를 만나=met an old friend, 생일 선물을 받=got a birthday present, 경기에서 이기=won the game, "
                   "원하던 회사에 취직하=got the job at the company of choice, 지갑을 찾=found the lost wallet, 새집으로 이사하=moved to a new house, 대회에서 상을 받=received an award, "
                   "첫 책을 내=published a first book, 마라톤을 완주하=finished a marathon, 복권에 당첨되=won the lottery, 운전면허를 따=got a driver's license, 장학금을 받=received a scholarship",
    "misfortune": "시험에 떨어지=failed the exam, 경기에서 지=lost the game, 친구와 싸우=had a fight with a friend, 휴대폰을 잃어버리=lost a cell phone, 나쁜 소식을 듣=heard some bad news, "
                  "비행기를 놓치=missed the flight, 다리를 다치=got a leg injury, 여권을 잃어버리=lost a passport, 면접에서 실수하=made a mistake at the interview, 감기에 걸리=caught a cold",
    "hours": "한 시간=one hour, 두 시간=two hours, 세 시간=three hours, 네 시간=four hours, 한 시간 반=an hour and a half, 두 시간 반=two and a half hours, 사십 분=forty minutes, 오십 분=fifty minutes, "
             "세 시간 반=three and a half hours, 약 두 시간=about two hours, 약 네 시간=about four hours, 다섯 시간=five hours",
    "symptom": "머리=a headache, 배=a stomachache, 목=a sore throat, 이=a toothache, 허리=a backache, 귀=an earache",
    "doc_noun": "파일=file, 문서=document, 폴더=folder, 패키지=package, 이미지=image, 디렉터리=directory, 데이터베이스=database, 서버=server, 확장 프로그램=extension, 라이브러리=library",
}  # fmt: skip

TEXT = """
== news
{company/은} 올해 {measure/이} 지난해보다 {share}% [늘다.past] | {company} saw {measure} rise {share}% this year compared with last year.
{company/은} {month}에 {measure/이} {share}% 감소했다고 [밝히다.past] | {company} announced that {measure} fell {share}% in {month}.
{company/은} {city}에 새 공장을 [짓다.future] | {company} will build a new factory in {city}.
{company/은} {year}년까지 {product} 생산을 두 배로 늘릴 [계획이다] | {company} plans to double its production of {product} by {year}.
{company/은} {country}에 {product/을} 수출하기로 [하다.past] | {company} has decided to export {product} to {country}.
{company/은} 내년에 직원 {big}0명을 새로 [뽑다.future] | {company} will hire {big}0 new employees next year.
{country/은} 지난달 {product} 수입을 {share}% [줄이다.past] | {country} cut its imports of {product} by {share}% last month.
{agency/은} {month}부터 {policy/을} 시행한다고 [발표하다.past] | {agency} announced plans to introduce {policy} in {month}.
{agency/은} {group/을} 위해 {policy/을} [마련하다.past] | {agency} prepared {policy} for {group}.
{agency/은} {day}에 {thing_done/을} [발표하다.future] | {agency} will announce {thing_done} on {day}.
{agency/은} {city} 시민들에게 {policy/에} 대해 [설명하다.past] | {agency} explained {policy} to the citizens of {city}.
{city}에서 {disaster/이} 발생해 {n}명이 [다치다.past] | {n} people were injured in {disaster} in {city}.
{day} 오후 {city}에서 {disaster/이} [일어나다.past] | {disaster} occurred in {city} on {day} afternoon.
경찰은 {city}에서 발생한 {disaster/의} 원인을 [조사하다.prog] | The police are investigating the cause of {disaster} that occurred in {city}.
{disaster/으로} {city/의} 도로 {n}곳이 [통제되다.past] | {n} roads in {city} were closed because of {disaster}.
조사에 따르면 {group/의} {share}%가 {habit/고} [하다] | According to a survey, {share}% of {group} {habit}.
설문 조사에 참여한 {group} 가운데 {share}%는 {habit/고} [답하다.past] | Of the {group} who took part in the survey, {share}% answered that they {habit}.
{city}에 새 {facility/이} [문을 열다.past] | A new {facility} has opened in {city}.
{city/은} {year}년까지 {facility} {n}곳을 더 [짓다.future] | {city} will build {n} more {facility.s} by {year}.
{city} {event/은} {month} {date}일에 [시작되다] | The {city} {event} begins on {month} {date}.
올해 {city} {event}에는 {big}개국에서 온 관광객이 [참가하다.past] | Tourists from {big} countries took part in this year's {city} {event}.
{city/의} 인구는 지난 십 년 동안 약 {share}% [줄다.past] | The population of {city} has decreased by about {share}% over the past ten years.
{city/의} 평균 집값이 한 달 만에 {share}% [오르다.past] | The average house price in {city} rose {share}% in one month.
전문가들은 내년 경제 성장률이 {v}.{v2}%에 이를 것으로 [전망하다] | Experts expect next year's economic growth rate to reach {v}.{v2}%.
우리나라 선수단은 {world_city}에서 열린 대회에서 금메달 {n}개를 [따다.past] | Our national team won {n} gold medals at the competition held in {world_city}.
{country} 대표단은 다음 주에 {country2/을} [방문하다.future] | A delegation from {country} will visit {country2} next week.
{country/과} {country2/은} {product} 개발에서 협력하기로 [합의하다.past] | {country} and {country2} agreed to cooperate in developing {product}.
{agency/은} {facility} 이용 요금을 {month}부터 {share}% [올리다.future] | {agency} will raise {facility} fees by {share}% starting in {month}.
연구진은 {group} {big}00명을 대상으로 {n}년 동안 연구를 [진행하다.past] | Researchers conducted a study of {big}00 {group} for {n} years.
{product} 가격이 {n}개월 연속 [하락하다.past] | The price of {product} has fallen for {n} months in a row.
{company/은} {measure/이} 늘어난 이유로 {product/의} 인기를 [꼽다.past] | {company} named the popularity of {product} as the reason for the increase in {measure}.
{group/을} 위한 새로운 {facility/이} {month}에 {city}에서 [문을 열다.future] | A new {facility} for {group} will open in {city} in {month}.
{city} 시장은 {group/의} 의견을 듣고 {policy/을} 도입하겠다고 [약속하다.past] | The mayor of {city} listened to the opinions of {group} and promised to introduce {policy}.
{disaster} 때문에 {city}에서 {city2/으로} 가는 기차가 {n}시간 동안 [멈추다.past] | Because of {disaster}, trains from {city} to {city2} stopped for {n} hours.
== documentation
{goal/려면} 화면 아래에 있는 '확인' 버튼을 [클릭하다.please] | To {goal}, click the OK button at the bottom of the screen.
{goal/려면} 먼저 '{menu}' 메뉴를 [열다.please] | To {goal}, open the {menu} menu first.
{goal/기} 전에 {resource/이} 있는지 [확인하다.please] | Before you {goal}, make sure that you have {resource}.
{goal/려면} {resource/이} [필요하다!] | To {goal}, you need {resource}.
{goal/ㄹ} 수 없으면 관리자에게 [문의하다.please] | If you cannot {goal}, contact your administrator.
{goal/ㄴ} 다음 {doc_noun/을} 다시 [열다.please] | After you {goal}, open the {doc_noun} again.
이 {unit/은} {type/을} [반환하다] | This {unit} returns {type.a}.
이 {unit/은} {type/과} {type2/을} 인수로 [받다] | This {unit} takes {type.a} and {type2.a} as arguments.
이 {unit/을} 사용하면 {goal/ㄹ} 수 [있다] | You can use this {unit} to {goal}.
이 {unit/은} {doc_noun/이} 없으면 오류를 [발생시키다] | This {unit} raises an error if the {doc_noun} does not exist.
이 {unit/은} 버전 {v}.{v2}부터 더 이상 [지원되지 않다] | This {unit} is no longer supported as of version {v}.{v2}.
이 {unit/은} 버전 {v}.{v2}에서 [추가되다.past] | This {unit} was added in version {v}.{v2}.
{numeric/의} 기본값은 {big/이다} | The default value of the {numeric} is {big}.
{setting/은} '{menu}' 메뉴에서 바꿀 수 [있다] | You can change the {setting} in the {menu} menu.
{setting/이} 올바르지 않으면 {doc_noun/이} 열리지 않을 수 [있다] | If the {setting} is not correct, the {doc_noun} may not open.
{setting/을} 변경한 후에는 프로그램을 다시 [시작하다.please] | Restart the program after you change the {setting}.
{doc_noun/을} 삭제하면 되돌릴 수 [없다] | If you delete the {doc_noun}, you cannot undo it.
{doc_noun/을} 마우스 오른쪽 버튼으로 클릭하고 '{button}' 항목을 [선택하다.please] | Right-click the {doc_noun} and select {button}.
{doc_noun/이} {big}MB보다 크면 업로드할 수 [없다] | You cannot upload the {doc_noun} if it is larger than {big} MB.
새 {savable/은} 자동으로 {n}분마다 [저장되다] | The new {savable} is saved automatically every {n} minutes.
{doc_noun/을} 만들려면 이름과 {setting/을} [입력하다.please] | To create {doc_noun.a}, enter a name and the {setting}.
{runner/이} 끝날 때까지 {savable/을} 닫지 [말다.please] | Do not close the {savable} until the {runner} finishes.
"{error}"라는 메시지가 나타나면 {n}분 후에 다시 [시도하다.please] | If the message says that {error}, try again after {n} minutes.
다음 예제는 {unit/을} 사용해 {doc_noun/을} 만드는 방법을 [보여 주다] | The following example shows how to create {doc_noun.a} with the {unit}.
이 문서에서는 {goal/는} 방법을 [설명하다] | This document explains how to {goal}.
이 {runner/이} 실행되는 동안에는 {setting/을} 바꿀 수 [없다] | You cannot change the {setting} while this {runner} is running.
각 {container/은} 최대 {big}개의 {type/을} 포함할 수 [있다] | Each {container} can contain up to {big} {type.s}.
비밀번호는 {length}자 이상이어야 하며 {big}일마다 [바꾸다.must] | The password must have at least {length} characters and be changed every {big} days.
== weather
내일 {region}에는 {sky/이} [내리다.future] | There will be {sky} in {region} tomorrow.
{day}에는 {region}에 {sky/이} 오고 바람이 강하게 [불다.will] | On {day}, {sky} and strong winds are expected in {region}.
오늘 {city/의} 낮 최고 기온은 {degrees}[도이다] | Today's high temperature in {city} is {degrees} degrees.
{day}부터 {region/의} 기온이 {n}도 이상 [떨어지다.future] | The temperature in {region} will drop by more than {n} degrees from {day}.
{city/은} {season}에 날씨가 아주 [좋다!] | The weather in {city} is very nice in {season}.
{city/에는} {sky/이} 오고 {city2/에는} 구름이 많이 [끼다.future] | There will be {sky} in {city} and many clouds in {city2}.
지난 {season}에는 {city}에 {sky/이} 자주 [내리다.past] | Last {season}, there was often {sky} in {city}.
{city/은} {city2}보다 {season}에 더 [덥다!] | {city} is hotter than {city2} in {season}.
{city/은} {city2}보다 {season}에 더 [춥다!] | {city} is colder than {city2} in {season}.
오늘 아침 {city/의} 기온은 영하 {n}도까지 [떨어지다.past] | This morning, the temperature in {city} fell to minus {n} degrees.
{region}에는 {day} 밤까지 {sky/이} [계속되다.will] | In {region}, {sky} will continue until {day} night.
{season/이} 되면 {city}에는 관광객이 많이 [오다] | Many tourists come to {city} in {season}.
{I/이} 가장 좋아하는 계절은 {season/이다} | My favorite season is {season}.
{I/은} {season}보다 {season2/을} 더 [좋아하다] | I like {season2} better than {season}.
== travel
{city}에서 {city2}까지 {coach/으로} {hours/이} [걸리다] | It takes {hours} from {city} to {city2} by {coach}.
{city}행 {coach/은} {hour}에 [출발하다] | The {coach} for {city} leaves at {hour}.
{city}에서 온 {coach/이} {hour}에 {city2}에 [도착하다.past] | The {coach} from {city} arrived in {city2} at {hour}.
{facility/은} {place} 바로 옆에 [있다] | The {facility} is right next to the {place}.
{place/에} 가려면 어디에서 {transport/을} [타다.mustask] | Where should I take {transport.a} to get to the {place}?
이 길로 곧장 가면 {place/이} [나오다] | If you go straight down this street, you will come to the {place}.
{place}에서 오른쪽으로 돌아서 {big}0미터쯤 [가다.please] | Turn right at the {place} and go about {big}0 meters.
{place} 앞에서 왼쪽으로 [돌다.please] | Turn left in front of the {place}.
이 근처에 {place/이} [있다.ask] | Is there {place.a} near here?
{place/은} 여기에서 걸어서 {n}분 [걸리다] | The {place} is {n} minutes from here on foot.
{country}에 가기 전에 여권을 꼭 [확인하다.please] | Be sure to check your passport before you go to {country}.
{world_city}행 비행기표를 {few/k} 장 예약하고 [싶다!] | I would like to book {few} plane tickets to {world_city}.
{day}부터 {n}일 동안 방을 예약하고 [싶다!] | I would like to reserve a room for {n} days from {day}.
{city}에 가면 {dish/을} 꼭 먹어 [보다.please] | When you go to {city}, be sure to try the {dish}.
저는 {month}에 {world_city}에 가서 {n}일 동안 박물관과 시장을 구경할 [계획이다] | I am planning to go to {world_city} in {month} and look around museums and markets for {n} days.
{world_city}까지 가는 비행기가 {n}시간 늦게 [도착하다.past] | The plane to {world_city} arrived {n} hours late.
회의는 {day} {hour}에 {city}에서 [시작되다.future] | The meeting will begin in {city} at {hour} on {day}.
{day}에는 {place/이} {closing}에 문을 [닫다] | The {place} closes at {closing} on {day}.
{place/은} {day}마다 문을 열지 [않다] | The {place} is closed every {day}.
{event/은} {day} {hour}에 {city} {venue}에서 [열리다.future] | The {event} will be held at the {venue} in {city} at {hour} on {day}.
{city} {event/에} 어떻게 가는지 [알다.ask] | Do you know how to get to the {city} {event}?
== everyday
이 {accessory/은} [얼마이다.ask] | How much is this {accessory}?
이 {top/은} {price}[원이다] | This {top} is {price} won.
{hot_drink} {few/k} 잔하고 {snack/을} [주다.please] | {few} cups of {hot_drink} and {snack.a}, please.
{fruit} {few/k} 개에 {price}[원이다] | {few} {fruit.s} cost {price} won.
이 {shoes/은} 너무 크니까 더 작은 사이즈를 [보여 주다.please] | These {shoes} are too big, so please show me a smaller size.
더 싼 {device/이} [있다.ask] | Do you have a cheaper {device}?
{accessory/을} 하나 사려고 하는데 좀 [보여 주다.please] | I want to buy {accessory.a}, so please show me some.
{top/은} 마음에 들지만 색이 너무 [어둡다!] | I like the {top}, but the color is too dark.
이 {device/은} 고장이 나서 [바꾸고 싶다!] | This {device} is broken, so I want to exchange it.
{food} {few/k} 인분을 주문했는데 아직 안 [나오다.past] | I ordered {few} servings of {food}, but I have not received them yet.
카드로 {price}원을 [결제하다.past] | I paid {price} won by card.
{day}까지 모든 {top/을} {tens}0% [할인하다] | All {top.s} are {tens}0% off until {day}.
{device/은} 비싸니까 다음 달에 [사다.future] | {device.s} are expensive, so I will buy one next month.
{dish/은} 맵지 않게 [만들다.please] | Please make the {dish} less spicy.
== feeling
어제부터 {symptom/이} [아프다!] | I have had {symptom} since yesterday.
{symptom/이} 계속 아프면 병원에 가 [보다.please] | If you keep having {symptom}, please go and see a doctor.
{name/은} {achievement/어서} 무척 [기쁘다!.past] | {name} was very happy because {pronoun} {achievement}.
{name/은} {achievement/어서} 친구들에게 저녁을 [사다.past] | {name} treated {possessive} friends to dinner because {pronoun} {achievement}.
{name/은} {misfortune/어서} 많이 [속상하다!.past] | {name} was very upset because {pronoun} {misfortune}.
{name/이} {misfortune/었다고} 해서 {I/은} 걱정을 많이 [하다.past] | I worried a lot because {name} said {pronoun} {misfortune}.
{name/이} {achievement/었다는} 소식을 듣고 {I/은} 정말 [기쁘다!.past] | I was really happy to hear that {name} {achievement}.
{achievement/었을} 때 {I/은} 눈물이 날 만큼 [기쁘다!.past] | When I {achievement}, I was so happy that I could have cried.
== courtesy
{kindness/셔서} 정말 [감사하다] | Thank you very much for {kindness}.
지난 {day}에 {kindness/셔서} 다시 한번 [감사하다] | Thank you once again for {kindness} last {day}.
지난 {day}에 {fault} 정말 [죄송하다!] | I am very sorry {fault} last {day}.
{fault} 정말 [죄송하다!] | I am very sorry {fault}.
{spot}에서 {forbidden/면} 안 [되다] | You must not {forbidden} {spot}.
{spot}에서 {forbidden/지} [말다.please] | Please do not {forbidden} {spot}.
{place} 앞에 {vehicle/을} 세우지 [말다.please] | Please do not park your {vehicle} in front of the {place}.
{permitted/도} [되다.ask] | May I {permitted}?
"""
