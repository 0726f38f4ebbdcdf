"""Archives and content types (faults.md rows 31, 41)."""

import gzip
import pickle
import struct
import unicodedata
import zipfile

import openpyxl
import pytest

from fastlm.errors import DataError
from fastlm.text.readers import ReadOptions, ReadReport, find_sources

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def rows(*paths, **options):
    chosen = ReadOptions(**options)
    found = find_sources([str(p) for p in paths], chosen)
    return [row.texts for source in pickle.loads(pickle.dumps(found)) for row in source.read(chosen, ReadReport())]


def workbook(path):
    book = openpyxl.Workbook()
    book.active.append(["원문", "번역문"])
    book.active.append(["안녕", "Hello"])
    book.save(path)
    return path


def cp949_zip(path, members):
    """A zip as Korean Windows writes it: names in CP949, no UTF-8 flag."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x" * len(name.encode("cp949")))
            archive.writestr(info, data)
    raw = path.read_bytes()
    for name in members:
        raw = raw.replace(b"x" * len(name.encode("cp949")), name.encode("cp949"))
    path.write_bytes(raw)
    return path


def test_zip_of_one_workbook_with_a_cp949_name(tmp_path):
    inner = workbook(tmp_path / "inner.xlsx").read_bytes()
    path = cp949_zip(tmp_path / "3_문어체_뉴스(1).zip", {"3_문어체_뉴스(1)_200226.xlsx": inner})
    sources = find_sources([str(path)], ReadOptions())
    assert [source.domain for source in sources] == ["3_문어체_뉴스(1)_200226"]
    assert sources[0].paths == (path,)
    assert rows(path) == [{"ko": "안녕", "en": "Hello"}]


def test_zip_of_several_members(tmp_path):
    path = tmp_path / "말뭉치.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/", b"")
        archive.writestr("a/ko.txt", "안녕\n둘\n")
        archive.writestr("a/en.txt.gz", gzip.compress(b"Hello\nTwo\n"))
        archive.writestr(unicodedata.normalize("NFD", "표.csv"), "ko,en\n가,a\n")
        archive.writestr("readme.pdf", b"%PDF")
        archive.writestr("__MACOSX/a/._ko.txt", b"\x00")
        archive.writestr("a/.DS_Store", b"\x00")
    sources = find_sources([str(path)], ReadOptions())
    assert [(s.domain, s.languages) for s in sources] == [("a", ("ko", "en")), ("표", ("",))]
    assert rows(path) == [{"ko": "안녕", "en": "Hello"}, {"ko": "둘", "en": "Two"}, {"ko": "가", "en": "a"}]


def test_archives_at_fault(tmp_path):
    good = tmp_path / "good.zip"
    with zipfile.ZipFile(good, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ko.txt", "\n".join(f"가{i}" for i in range(50_000)))
    raw = bytearray(good.read_bytes())

    cut = tmp_path / "cut.zip"
    cut.write_bytes(raw[:-100])
    with pytest.raises(DataError, match=r"cut\.zip: .*damaged or cut off"):
        rows(cut)

    locked = tmp_path / "locked.zip"
    central = raw.rindex(b"PK\x01\x02")
    for offset in (6, central + 8):  # the encryption flag in both headers
        raw[offset] |= 1
    locked.write_bytes(raw)
    with pytest.raises(DataError, match=r"locked\.zip/ko\.txt: .*password-protected"):
        rows(locked)

    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(DataError, match="holds no files"):
        rows(empty)

    nested = tmp_path / "nested.zip"
    with zipfile.ZipFile(nested, "w") as archive:
        archive.write(good, "good.zip")
    with pytest.raises(DataError, match="zip archive inside a zip archive"):
        rows(nested)


def test_damaged_member_names_the_last_good_line(tmp_path):
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("ko.txt", "가나다\n" * 500_000)
    raw = bytearray(path.read_bytes())
    raw[2_000_000:2_000_010] = b"0123456789"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"t\.zip/ko\.txt: damaged or cut off .*last good line"):
        rows(path, on_bad_text="replace")


WRONG = [
    ("t.xls", OLE, "an old Excel workbook"),
    ("t.xlsx", OLE, "an old Excel workbook"),
    ("t.xlsx", OLE + "EncryptedPackage".encode("utf-16-le"), "a password-protected Office document"),
    ("t.csv", OLE, "an old Excel workbook"),
    ("t.xlsx", "ko,en\n가,a\n".encode(), "plain text; rename it"),
    ("t.parquet", b"plain", "plain text"),
    ("t.txt", gzip.compress(b"text"), "gzip data; name it with .gz"),
    ("t.txt", b"PAR1....PAR1", "parquet; rename it to .parquet"),
    ("t.txt", b"%PDF-1.7", "a PDF document"),
    ("t.xlsx", b"", "nothing"),
    ("t.dat", b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    ("t.zip", b"plain", "plain text"),
]


@pytest.mark.parametrize(("name", "data", "seen"), WRONG)
def test_content_that_is_not_what_the_name_says(tmp_path, name, data, seen):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: named .*holds {seen}"):
        rows(tmp_path / name)


def test_workbook_renamed_csv_and_other_office_documents(tmp_path):
    workbook(tmp_path / "t.xlsx").rename(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"t\.csv: named \.csv, but it holds an xlsx workbook; rename it to \.xlsx"):
        rows(tmp_path / "t.csv")
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        archive.writestr("word/document.xml", "")
    with pytest.raises(DataError, match="holds a Word document"):
        rows(tmp_path / "t.xlsx")


def test_unknown_extensions_go_by_content(tmp_path):
    (tmp_path / "말뭉치.dat").write_text("안녕하세요\n둘째 줄\n")
    assert rows(tmp_path / "말뭉치.dat") == [{"ko": "안녕하세요"}, {"ko": "둘째 줄"}]
    workbook(tmp_path / "book.xlsx").rename(tmp_path / "book")
    assert rows(tmp_path / "book") == [{"ko": "안녕", "en": "Hello"}]


def test_a_zip_entry_that_claims_utf8_keeps_its_name(tmp_path):
    path = tmp_path / "u.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("뉴스.txt", "안녕\n반가워\n")
    flag = struct.unpack_from("<H", path.read_bytes(), 6)[0]
    assert flag & 0x800
    assert [s.domain for s in find_sources([f"ko={path}"], ReadOptions())] == ["뉴스"]
