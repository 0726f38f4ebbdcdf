"""Tables of every format: columns, cells, quotes, damage (faults.md rows 22, 26, 27, 29-32)."""

import gzip
import json
import math
import re
import warnings
import zipfile

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from fastlm.errors import DataError
from fastlm.text.readers import ReadOptions, ReadReport, find_sources

KO, EN = ["안녕하세요.", "고맙습니다."], ["Hello there.", "Thank you."]
PAIRS = list(zip(KO, EN, strict=True))


def read(path, **options):
    chosen, report = ReadOptions(**options), ReadReport()
    return [row for source in find_sources([str(path)], chosen) for row in source.read(chosen, report)], report


def texts(path, **options):
    return [row.texts for row in read(path, **options)[0]]


def text_file(path, text):
    path.write_bytes(text.encode())
    return path


def workbook(path, rows, sheets=("Sheet1",)):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def grid(path, rows):
    """The same rows as a file of whatever format the suffix says."""
    header, *body = rows
    if path.suffix == ".xlsx":
        return workbook(path, rows)
    if path.suffix == ".jsonl":
        return text_file(path, "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in body))
    if path.suffix == ".parquet":
        columns = {name: [row[i] for row in body] for i, name in enumerate(header)}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path
    separator = "," if path.suffix == ".csv" else "\t"
    return text_file(path, "".join(separator.join(map(str, row)) + "\n" for row in rows))


SUFFIXES = [".tsv", ".csv", ".jsonl", ".parquet", ".xlsx"]
every_format = pytest.mark.parametrize("suffix", SUFFIXES)


@every_format
@pytest.mark.parametrize(
    "names", [("ko", "en"), ("Korean", "ENGLISH"), ("원문", "번역문"), ("source", "target"), ("한국어", "영어")]
)
def test_pairs_by_column_name(tmp_path, suffix, names):
    path = grid(tmp_path / f"t{suffix}", [("id", *names), *((i, *pair) for i, pair in enumerate(PAIRS))])
    rows, report = read(path)
    assert [(row.texts["ko"], row.texts["en"]) for row in rows] == PAIRS
    assert (report.rows, report.texts) == (2, 4)
    first = 1 if suffix in (".jsonl", ".parquet") else 2
    assert [row.row for row in rows] == [first, first + 1]


@every_format
def test_text_columns_take_the_language_of_their_script(tmp_path, suffix):
    assert texts(grid(tmp_path / f"a{suffix}", [("번역문", "원문"), *PAIRS])) == [{"ko": k, "en": e} for k, e in PAIRS]
    assert texts(grid(tmp_path / f"b{suffix}", [("document", "n"), *((e, 1) for e in EN)])) == [{"en": e} for e in EN]


@every_format
def test_columns_named_by_the_user(tmp_path, suffix):
    path = grid(tmp_path / f"t{suffix}", [("앞", "뒤", "ko"), *((k, e, "x") for k, e in PAIRS)])
    assert texts(path, columns=("ko=앞", "en=뒤")) == [{"ko": k, "en": e} for k, e in PAIRS]
    with pytest.raises(DataError, match=rf"t\{suffix}: no column named '옆'; \(columns: '앞', '뒤', 'ko'\)"):
        texts(path, columns=("ko=옆",))


@every_format
def test_unknown_columns_are_refused_and_listed(tmp_path, suffix):
    path = grid(tmp_path / f"t{suffix}", [("a", "b"), *PAIRS])
    with pytest.raises(DataError, match=r"--columns LANG=COLUMN \(columns: 'a', 'b'\)"):
        texts(path)


def test_duplicated_and_ambiguous_headers_are_refused(tmp_path):
    path = grid(tmp_path / "t.csv", [("ko", "en", "ko"), ("가", "a", "나")])
    with pytest.raises(DataError, match="'ko' and 'ko' are both ko"):
        texts(path)
    with pytest.raises(DataError, match="2 columns named 'ko'"):
        texts(path, columns=("ko=ko",))
    both = grid(tmp_path / "u.csv", [("source", "target"), *((k, k) for k in KO)])
    with pytest.raises(DataError, match="source and target are both ko"):
        texts(both)
    mixed = grid(tmp_path / "v.csv", [("text", "n"), ("안녕", 1), ("Hello", 2)])
    with pytest.raises(DataError, match="language of column 'text' cannot be told"):
        texts(mixed)


def test_tables_without_a_header_go_by_column_number(tmp_path):
    for name in ("t.txt", "t.tsv"):  # 3i4k's are .txt
        path = text_file(tmp_path / name, "0\t안녕하세요\n1\t고맙습니다\n")
        with pytest.raises(DataError, match=r"LANG=#2 where there is no header"):
            texts(path)
        assert texts(path, columns=("ko=#2",)) == [{"ko": "안녕하세요"}, {"ko": "고맙습니다"}]
    with pytest.raises(DataError, match="no column named '#3'"):
        texts(path, columns=("ko=#3",))


def test_tsv_is_unquoted_and_rows_keep_their_number(tmp_path):
    path = text_file(tmp_path / "t.txt", 'id\tdocument\tlabel\n1\t"좋다" 하는 "영화\t1\n\n2\t"\t0\n3\t그냥"\t1\n')
    rows, report = read(path)
    assert [(row.row, row.texts["ko"]) for row in rows] == [(2, '"좋다" 하는 "영화'), (4, '"'), (5, '그냥"')]
    assert report.blanks == 1


CSV_QUOTES = [
    ('"a, b",c', [("a, b", "c")]),
    ('"say ""hi""",c', [('say "hi"', "c")]),
    ('"",c', [("", "c")]),
    ('"두\n줄",c', [("두\n줄", "c")]),
    ('a,"두\n\n줄, ""셋"""', [("a", '두\n\n줄, "셋"')]),
    ('"a\nb","c\nd"\ne,f', [("a\nb", "c\nd"), ("e", "f")]),
    ('"톰"이 말했다,Tom said', [('"톰"이 말했다', "Tom said")]),
    ('키 6" 판,6" wide', [('키 6" 판', '6" wide')]),
    ('"열린,open\n다음,next\n끝,"the end"', [('"열린', "open"), ("다음", "next"), ("끝", "the end")]),
    ('"열린,open\n다음,next', [('"열린', "open"), ("다음", "next")]),
    ('a,"b\nc,d\ne,f"', [("a", '"b'), ("c", "d"), ("e", 'f"')]),
]


@pytest.mark.parametrize(("body", "expected"), CSV_QUOTES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_quotes(tmp_path, body, expected, end):
    path = text_file(tmp_path / "t.csv", "ko,en\n".replace("\n", end) + body.replace("\n", end) + end)
    got = [(t.get("ko", ""), t.get("en", "")) for t in texts(path)]
    assert got == expected


def test_row_numbers_after_a_field_of_several_lines(tmp_path):
    path = text_file(tmp_path / "t.csv", 'ko,en\n"두\n줄",c\n하나\n')
    with pytest.raises(DataError, match=r"t\.csv: row 4: 1 fields where the first row has 2"):
        texts(path)


def test_ragged_rows_follow_the_policy(tmp_path):
    path = text_file(tmp_path / "t.csv", "ko,en\n가,a\n나,b,c\n다,d,,\n라\n")
    with pytest.raises(DataError, match=r"row 3: 3 fields where the first row has 2; mend it, or --on-bad-row skip"):
        texts(path)
    rows, report = read(path, on_bad_row="skip")
    assert [row.texts["ko"] for row in rows] == ["가", "다"]
    assert (report.rows, report.bad_rows) == (4, 2)


def test_separator_is_what_the_header_has(tmp_path):
    expected = [{"ko": "가", "en": "a"}]
    assert texts(text_file(tmp_path / "a.csv", "ko\ten\n가\ta\n")) == expected
    assert texts(text_file(tmp_path / "b.csv", "ko;en\n가;a\n")) == expected
    assert texts(text_file(tmp_path / "c.tsv", "ko,en\n가,a\n")) == expected
    assert texts(text_file(tmp_path / "d.csv", "text\n안녕\n둘\n")) == [{"ko": "안녕"}, {"ko": "둘"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".xlsx", ".parquet"])
def test_empty_cells_are_counted_and_the_other_side_is_kept(tmp_path, suffix):
    path = grid(tmp_path / f"t{suffix}", [("ko", "en"), ("가나", None), (None, None), ("  ", "text"), ("다", "d")])
    rows, report = read(path)
    assert [row.texts for row in rows] == [{"ko": "가나"}, {"en": "text"}, {"ko": "다", "en": "d"}]
    assert (report.rows, report.texts, report.blanks) == (4, 4, 4)


@pytest.mark.parametrize("suffix", [".jsonl", ".xlsx"])
@pytest.mark.parametrize("value", [3.5, 7, True])
def test_numbers_in_a_text_column_follow_the_policy(tmp_path, suffix, value):
    path = grid(tmp_path / f"t{suffix}", [("ko", "en"), ("가", "a"), (value, "b"), ("다", "c")])
    with pytest.raises(DataError, match=rf"(row|record) \d: the ko text is {value} .*not text; .*--on-bad-row skip"):
        texts(path)
    rows, report = read(path, on_bad_row="skip")
    assert [row.texts["en"] for row in rows] == ["a", "c"]
    assert (report.rows, report.bad_rows) == (3, 1)


def test_nan_is_an_empty_cell_and_numeric_columns_are_refused(tmp_path):
    path = text_file(tmp_path / "t.jsonl", '{"ko": NaN, "en": "a"}\n{"ko": "가", "en": "b"}\n')
    assert texts(path) == [{"en": "a"}, {"ko": "가", "en": "b"}]
    path = grid(tmp_path / "t.parquet", [("ko", "n"), ("가", 1.0), ("나", math.nan)])
    with pytest.raises(DataError, match=r"record 1: the ko text is 1\.0"):
        texts(path, columns=("ko=n",))


def test_lone_surrogates_of_json_follow_the_policy(tmp_path):
    path = text_file(tmp_path / "t.jsonl", '{"ko": "가"}\n{"ko": "나\\ud800다"}\n{"ko": "\\ud83d\\ude00"}\n')
    with pytest.raises(DataError, match=r"record 2: the ko text has the lone surrogate U\+D800 at character 1"):
        texts(path)
    rows, report = read(path, on_bad_text="skip")
    assert ([row.texts["ko"] for row in rows], report.bad_texts) == (["가", "😀"], 1)
    assert texts(path, on_bad_text="replace")[1] == {"ko": "나\ufffd다"}


def test_damaged_jsonl_names_line_and_last_good_record(tmp_path):
    path = text_file(tmp_path / "t.jsonl", '{"ko": "가"}\n\n{"ko": "나"}\n{"ko": "다')
    with pytest.raises(DataError, match=r"t\.jsonl: record 4: not JSON .*last good record is line 3"):
        texts(path)
    rows, report = read(path, on_bad_row="skip")
    assert ([row.row for row in rows], report.bad_rows) == ([1, 3], 1)
    with pytest.raises(DataError, match="record 2: a JSON str"):
        texts(text_file(tmp_path / "u.jsonl", '{"ko": "가"}\n"나"\n'))
    for array in ('[{"ko": "가"}]', '[\n{"ko": "가"}\n]\n'):
        with pytest.raises(DataError, match="one JSON array"):
            texts(text_file(tmp_path / "v.json", array))


def test_nested_records(tmp_path):
    path = text_file(tmp_path / "t.jsonl", '{"id": 1, "translation": {"ko": "가", "en": "a"}}\n')
    assert texts(path) == [{"ko": "가", "en": "a"}]
    assert texts(path, columns=("ko=translation.ko",)) == [{"ko": "가"}]
    pyarrow.parquet.write_table(pyarrow.table({"translation": [{"ko": "가", "en": "a"}]}), tmp_path / "t.parquet")
    assert texts(tmp_path / "t.parquet") == [{"ko": "가", "en": "a"}]


def test_damaged_parquet(tmp_path):
    path = grid(tmp_path / "t.parquet", [("ko", "en"), *(PAIRS * 2000)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"t\.parquet: not a whole parquet file .*no record can be read"):
        texts(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a whole parquet file"):
        texts(path)


def test_sheets(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [("ko", "en"), *PAIRS], sheets=("하나", "둘"))
    with pytest.raises(DataError, match=r"t\.xlsx: several sheets; --sheet NAME \(sheets: '하나', '둘'\)"):
        texts(path)
    with pytest.raises(DataError, match=r"no sheet named '셋'; .*'하나', '둘'"):
        texts(path, sheet="셋")
    assert len(texts(path, sheet="둘")) == 2


def test_aihub_quirks(tmp_path):
    rows = [
        ("ID", "키워드", "원문", "번역문", None, None),
        (1.0, None, '그는 "네"라고 했다', 'He said "yes', None, None),
        (None, None, None, None, None, None),
        (None, "문화", "둘째", "Second", None, "stray"),
    ]
    path = workbook(tmp_path / "4_문어체_한국문화.xlsx", rows)
    got, report = read(path)
    assert [(row.row, row.texts) for row in got] == [
        (2, {"ko": '그는 "네"라고 했다', "en": 'He said "yes'}),
        (4, {"ko": "둘째", "en": "Second"}),
    ]
    assert (report.rows, report.blanks) == (3, 2)


def test_workbooks_without_default_style_and_with_a_wrong_size(tmp_path):
    whole = workbook(tmp_path / "whole.xlsx", [("원문", "번역문"), *PAIRS])
    path = tmp_path / "t.xlsx"
    edits = {
        "xl/styles.xml": (rb"<cellStyles.*?</cellStyles>", b""),
        "xl/worksheets/sheet1.xml": (rb'<dimension ref="[^"]*"', b'<dimension ref="A1"'),
    }
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            pattern, new = edits.get(name, (b"", b""))
            data = source.read(name)
            edited = re.sub(pattern, new, data) if pattern else data
            assert (edited != data) == (name in edits)
            target.writestr(name, edited)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert texts(path) == [{"ko": k, "en": e} for k, e in PAIRS]


def test_broken_workbooks(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [("ko", "en"), *(PAIRS * 2000)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"t\.xlsx: named \.xlsx, but it holds .*damaged or cut off"):
        texts(path)


def test_compressed_tables_read_the_same(tmp_path):
    for suffix in SUFFIXES:
        plain = grid(tmp_path / f"t{suffix}", [("ko", "en"), *PAIRS])
        packed = tmp_path / f"t{suffix}.gz"
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        assert texts(packed) == texts(plain)


def test_empty_tables_have_no_rows(tmp_path):
    for name in ("t.csv", "t.tsv", "t.jsonl"):
        assert texts(text_file(tmp_path / name, "")) == []
    assert texts(text_file(tmp_path / "h.csv", "ko,en\n")) == []
    assert texts(workbook(tmp_path / "h.xlsx", [("원문", "번역문")])) == []
