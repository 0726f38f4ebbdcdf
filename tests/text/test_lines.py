r"""Text files line by line: encodings, bad bytes, line ends, very long lines (faults.md rows 22-25, 27, 28, 32, 37)."""

import gzip
import time
import tracemalloc
import unicodedata

import pytest

from fastlm.errors import ConfigError, DataError
from fastlm.text.readers import ReadOptions, ReadReport, find_sources
from fastlm.text.readers.files import expand
from fastlm.text.readers.lines import lines


def read(path, **options):
    """Rows and report of one Korean text file."""
    chosen, report = ReadOptions(**options), ReadReport()
    rows = [row for source in find_sources([f"ko={path}"], chosen) for row in source.read(chosen, report)]
    return [(row.row, *row.texts.values()) for row in rows], report


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_only_newlines_end_lines(tmp_path):
    path = write(tmp_path / "t.txt", "하나\r\n둘\u2028둘\n\n셋\x0c셋\x0b셋\r셋\x85셋\n  \n끝")
    rows, report = read(path)
    assert rows == [(1, "하나"), (2, "둘\u2028둘"), (4, "셋\x0c셋\x0b셋\r셋\x85셋"), (6, "끝")]
    assert (report.rows, report.texts, report.blanks) == (6, 4, 2)


def test_normalisation_and_special_text_are_counted(tmp_path):
    path = write(
        tmp_path / "t.txt", unicodedata.normalize("NFD", "안녕") + "\n안녕\n\u200b안녕\n[MASK] 안녕\n[mask]\nㅋㅋ\n"
    )
    rows, report = read(path)
    assert [text for _, text in rows] == ["안녕", "안녕", "안녕", "[MASK] 안녕", "[mask]", "ㅋㅋ"]
    assert (report.normalised, report.special_texts) == (2, 1)


def test_invalid_bytes_are_refused_with_line_and_offset(tmp_path):
    good = "좋은 줄\n" * 120_000  # several blocks
    path = write(tmp_path / "t.txt", good.encode() + b"ab\xffc\n" + "끝\n".encode())
    with pytest.raises(DataError) as caught:
        read(path)
    assert f"t.txt:120001:byte {len(good.encode()) + 2}: not utf-8 (0xff" in str(caught.value)
    assert "--on-bad-text skip or replace" in str(caught.value)
    rows, report = read(path, on_bad_text="skip")
    assert (rows[-1], len(rows), report.bad_texts) == ((120_002, "끝"), 120_001, 1)
    rows, report = read(path, on_bad_text="replace")
    assert (rows[-2], report.bad_texts) == ((120_001, "ab\ufffdc"), 1)


def test_character_cut_off_at_the_end_of_the_file(tmp_path):
    path = write(tmp_path / "t.txt", "좋은 줄\n가".encode()[:-1])
    with pytest.raises(DataError, match=r"t\.txt:2:byte 11"):
        read(path)
    assert read(path, on_bad_text="replace")[0] == [(1, "좋은 줄"), (2, "\ufffd")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_seen(tmp_path, encoding):
    path = write(tmp_path / "t.txt", "첫 줄\n둘째 줄\r\n".encode(encoding))
    assert read(path)[0] == [(1, "첫 줄"), (2, "둘째 줄")]


def test_cp949_is_hinted_at_and_read_when_asked(tmp_path):
    path = write(tmp_path / "t.txt", "똠방각하 펲시콜라\n".encode("cp949") * 30_000)
    with pytest.raises(DataError, match=r"t\.txt:1:byte 0: .*--encoding cp949"):
        read(path)
    rows, _ = read(path, encoding="cp949")
    assert len(rows) == 30_000
    assert set(rows) == {(i, "똠방각하 펲시콜라") for i in range(1, 30_001)}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["Plain English text.\n" * 20, "한국어와 English 섞인 글.\n" * 20])
def test_utf16_without_its_mark_is_hinted_at(tmp_path, encoding, text):
    path = write(tmp_path / "t.txt", text.encode(encoding))
    with pytest.raises(DataError, match=f"--encoding {encoding}"):
        read(path)
    assert len(read(path, encoding=encoding)[0]) == 20


def test_bad_utf16_follows_the_policy(tmp_path):
    path = write(tmp_path / "t.txt", "하나\n둘".encode("utf-16-le") + b"\x00\xd8\x0a\x00" + "셋\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"t\.txt:2:byte 8: not utf-16-le"):
        read(path, encoding="utf-16-le")
    assert read(path, encoding="utf-16-le", on_bad_text="skip")[1].bad_texts == 1


def test_unknown_encoding_and_choices():
    with pytest.raises(ConfigError, match="cp9499"):
        ReadOptions(encoding="cp9499")
    with pytest.raises(ConfigError, match="--on-bad-text ignore"):
        ReadOptions(on_bad_text="ignore")
    for columns in (("원문",), ("ko=",), ("KO=a",), ("ko=a", "ko=b")):
        with pytest.raises(ConfigError, match="LANG=COLUMN"):
            ReadOptions(columns=columns)


def test_empty_files_have_no_rows(tmp_path):
    for data in ("", "\n", " \n\t\n\u3000"):
        assert read(write(tmp_path / "t.txt", data))[0] == []


def test_truncated_gzip_names_the_last_good_line(tmp_path):
    import random

    draw = random.Random(0)
    text = "".join(f"{i} {draw.random()}\n" for i in range(1, 20_001))
    whole = gzip.compress(text.encode())
    assert len(read(write(tmp_path / "t.txt.gz", whole))[0]) == 20_000
    path = write(tmp_path / "cut.txt.gz", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.txt\.gz: damaged or cut off .*last good line is (\d+)") as caught:
        read(path)
    last = int(str(caught.value).rsplit(" ", 1)[1])
    assert 9_000 < last < 11_000
    with pytest.raises(DataError, match=r"no\.txt\.gz: .*damaged"):
        read(write(tmp_path / "no.txt.gz", b"plain text"))


def test_a_very_long_line_takes_bounded_memory_and_linear_time(tmp_path):
    word = "긴 줄 the long line "

    def measure(megabytes):
        path = write(tmp_path / "t.txt", word.encode() * (megabytes * 2**20 // len(word.encode())))
        with path.open("ab") as file:
            file.write(b"\nend\n")
        tracemalloc.reset_peak()
        started = time.perf_counter()
        length = last = 0
        for number, piece in lines(expand(path)[0], ReadOptions(), 1 << 20):
            length, last = length + len(piece), number
        return time.perf_counter() - started, length, last

    tracemalloc.start()
    _, length, number = measure(32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == 32 * 2**20 // len(word.encode()) * len(word) + 3
    assert number == 2
    assert peak < 16 * 2**20  # a few blocks
    short, long = measure(4)[0], measure(32)[0]
    assert long < 8 * short * 4


def test_pieces_of_a_long_line_share_its_number_and_lose_nothing(tmp_path):
    text = "낱말 " * 700_000
    rows, report = read(write(tmp_path / "t.txt", text + "\n끝\n"))
    assert len(rows) > 2
    assert {number for number, _ in rows[:-1]} == {1}
    assert " ".join(piece for _, piece in rows[:-1]) == text.strip()
    assert rows[-1] == (2, "끝")
    assert report.texts == len(rows)
