"""What paths stand for: languages, pairs, folders, odd names (faults.md rows 39, 41; shared/data/README.md)."""

import logging
import unicodedata

import pytest

from fastlm.errors import DataError
from fastlm.text.readers import ReadOptions, ReadReport, find_sources
from fastlm.text.readers.languages import language_of_name, language_of_texts

KO = "안녕하세요.\n고맙습니다.\n"
EN = "Hello there.\nThank you.\n"


def put(folder, **files):
    """Files by name, ``__`` for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def found(*paths, **options):
    return [(s.domain, s.languages) for s in find_sources([str(p) for p in paths], ReadOptions(**options))]


def texts(*paths, **options):
    chosen = ReadOptions(**options)
    sources = find_sources([str(p) for p in paths], chosen)
    return [row.texts for source in sources for row in source.read(chosen, ReadReport())]


PAIRED = [{"ko": k, "en": e} for k, e in zip(KO.splitlines(), EN.splitlines(), strict=True)]

NAMES = [
    ("ko", "ko", ""),
    ("train.ko", "ko", "train"),
    ("x_en", "en", "x"),
    ("en-x", "en", "x"),
    ("Korean_news", "ko", "news"),
    ("koreantext", "ko", ""),
    ("한국어", "ko", ""),
    (unicodedata.normalize("NFD", "뉴스_영어"), "en", "뉴스"),
    ("OpenSubtitles.en-ko.ko", "ko", "OpenSubtitles.en-ko"),
    ("en-ko", "", "en-ko"),
    ("token", "", "token"),
    ("open", "", "open"),
    ("kokoro", "", "kokoro"),
]


@pytest.mark.parametrize(("stem", "language", "rest"), NAMES)
def test_language_tags_in_names(stem, language, rest):
    got, left = language_of_name(stem)
    assert got == language
    if stem != "koreantext":
        assert left == rest


SCRIPTS = [
    (["안녕하세요", "PowerShell에서는 Get-ChildItem cmdlet을 사용합니다"], "ko"),
    (["Hello", "don't", "1234", ""], "en"),
    (["안녕", "Hello"], ""),
    (["こんにちは", "世界"], ""),
    (["Öffne die Tür, Bär", "größer über"], ""),
    (["123", "..."], ""),
    ([unicodedata.normalize("NFD", "안녕")], "ko"),
]


@pytest.mark.parametrize(("sample", "language"), SCRIPTS)
def test_language_of_scripts(sample, language):
    assert language_of_texts(sample) == language


def test_explicit_files_pair_in_either_order(tmp_path):
    folder = put(tmp_path / "말뭉치", ko__txt=KO, en__txt=EN)
    for order in (("ko.txt", "en.txt"), ("en.txt", "ko.txt")):
        paths = [folder / name for name in order]
        assert found(*paths) == [("말뭉치", ("ko", "en"))]
        assert texts(*paths) == PAIRED


def test_tagged_neighbours_pair_whatever_their_names(tmp_path):
    put(tmp_path, one__txt=KO, two__txt=EN, three__txt=KO, four__txt=EN)
    ko, en, ko2, en2 = (
        f"{lang}={tmp_path}/{n}.txt" for lang, n in zip(["ko", "en"] * 2, ["one", "two", "three", "four"], strict=True)
    )
    assert found(ko, en) == [("one+two", ("ko", "en"))]
    assert texts(ko, en) == PAIRED
    assert found(ko, en, ko2, en2) == [("one+two", ("ko", "en")), ("three+four", ("ko", "en"))]
    assert found(ko, en, align="no") == [("one", ("ko",)), ("two", ("en",))]
    assert found(ko, ko2) == [("one", ("ko",)), ("three", ("ko",))]


def test_align_yes_pairs_by_script_and_refuses_a_lone_file(tmp_path):
    put(tmp_path, a__txt=KO, b__txt=EN)
    assert found(tmp_path / "a.txt", tmp_path / "b.txt") == [("a", ("ko",)), ("b", ("en",))]
    assert found(tmp_path / "a.txt", tmp_path / "b.txt", align="yes") == [("a+b", ("ko", "en"))]
    with pytest.raises(DataError, match=r"a\.txt: no file of another language to align"):
        found(tmp_path / "a.txt", align="yes")


def test_unequal_lines_are_refused_with_both_counts(tmp_path):
    put(tmp_path, x_ko__txt=KO + "셋\n넷", x_en__txt=EN)
    with pytest.raises(DataError, match=r"x_ko\.txt has 4 lines, .*x_en\.txt has 2 lines; .*--align no"):
        found(tmp_path)
    assert len(texts(tmp_path, align="no")) == 6


def test_a_file_that_grows_after_the_check_is_refused_while_reading(tmp_path):
    put(tmp_path, ko__txt=KO, en__txt=EN)
    options = ReadOptions()
    (source,) = find_sources([str(tmp_path)], options)
    put(tmp_path, ko__txt=KO + "셋\n")
    with pytest.raises(DataError, match="not line-aligned"):
        list(source.read(options, ReadReport()))


def test_a_blank_side_leaves_the_other_as_a_text_of_its_own(tmp_path):
    put(tmp_path, ko__txt="하나\n\n셋\n\n", en__txt="one\ntwo\n \n\n")
    options, report = ReadOptions(), ReadReport()
    (source,) = find_sources([str(tmp_path)], options)
    got = [(row.row, row.texts) for row in source.read(options, report)]
    assert got == [(1, {"ko": "하나", "en": "one"}), (2, {"en": "two"}), (3, {"ko": "셋"})]
    assert (report.rows, report.texts, report.blanks) == (4, 4, 4)


def test_bad_text_drops_the_whole_pair(tmp_path):
    (tmp_path / "ko.txt").write_bytes("하나\n".encode() + b"\xff\n" + "셋\n".encode())
    (tmp_path / "en.txt").write_text("one\ntwo\nthree\n")
    assert texts(tmp_path, on_bad_text="skip") == [{"ko": "하나", "en": "one"}, {"ko": "셋", "en": "three"}]
    with pytest.raises(DataError, match=r"ko\.txt:2:byte 7"):
        texts(tmp_path)


def test_folder_leaves_out_what_it_cannot_place_and_says_so(tmp_path, caplog):
    put(tmp_path / "p", ko__txt=KO, en__txt=EN, source__txt="tldr\ntldr\n", notes__md="x", **{".hidden.txt": KO})
    with caplog.at_level(logging.INFO, logger="fastlm"):
        assert found(tmp_path / "p") == [("p", ("ko", "en"))]
    assert "source.txt is left out" in caplog.text
    assert "notes.md is left out" in caplog.text
    assert ".hidden" not in caplog.text


def test_explicit_file_of_unknown_language_is_refused(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("こんにちは\n世界\n")
    with pytest.raises(DataError, match=r"t\.txt: its name and script tell no language; give it as ko="):
        found(path)
    assert found(f"ja={path}") == [("t", ("ja",))]


def test_blank_start_then_text_needs_a_language(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("\n" * 70_000 + "안녕\n")
    with pytest.raises(DataError, match="its language cannot be told"):
        texts(path)
    assert texts(f"ko={path}") == [{"ko": "안녕"}]


def test_nested_folders_and_repeats(tmp_path, caplog):
    put(tmp_path / "root" / "a", ko__txt=KO, en__txt=EN)
    put(tmp_path / "root" / "b", ko__txt=KO, t__csv="ko,en\n가,a\n")
    got = found(tmp_path / "root", tmp_path / "root" / "a" / "ko.txt")
    assert got == [("a", ("ko", "en")), ("b", ("ko",)), ("t", ("",))]
    assert "given twice" in caplog.text


def test_nothing_there(tmp_path):
    put(tmp_path / "full", ko__txt=KO)
    with pytest.raises(DataError, match=r"kox\.txt: no such file or folder \(did you mean ko\.txt\?\)"):
        found(tmp_path / "full" / "kox.txt")
    with pytest.raises(DataError, match="no txt, tsv, csv"):
        found(put(tmp_path / "empty"))
    with pytest.raises(DataError, match="no such file"):
        found("ko=" + "x" * 5000)


def test_odd_paths(tmp_path):
    folder = put(tmp_path / "한글 폴더 (1)" / ("긴" * 60) / ("long" * 40), **{"a=b ko.txt": KO})
    assert found(folder / "a=b ko.txt") == [("a=b", ("ko",))]
    link = tmp_path / "링크.ko"
    link.symlink_to(folder / "a=b ko.txt")
    assert texts(link) == [{"ko": line} for line in KO.splitlines()]
    nfd = tmp_path / unicodedata.normalize("NFD", "뉴스_한국어.txt")
    nfd.write_text(KO)
    assert found(tmp_path / unicodedata.normalize("NFC", "뉴스_한국어.txt")) == [("뉴스", ("ko",))]


def test_a_tagged_table_takes_its_text_column_in_that_language(tmp_path):
    put(tmp_path, t__csv="text,n\nBonjour là,1\nÇa va,2\n")
    assert texts(f"fr={tmp_path}/t.csv") == [{"fr": "Bonjour là"}, {"fr": "Ça va"}]
    put(tmp_path, u__csv="ko,en\n가,a\n")
    assert texts(f"en={tmp_path}/u.csv") == [{"en": "a"}]
