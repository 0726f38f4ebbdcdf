"""The shared real text: counts, layouts, speed."""

import itertools
import time
import warnings

from fastlm.text.readers import ReadOptions, ReadReport, find_sources
from fastlm.text.tokenizer import Tokenizer


def read(*paths, **options):
    chosen, report = ReadOptions(**options), ReadReport()
    sources = find_sources([str(p) for p in paths], chosen)
    return sources, [row for source in sources for row in source.read(chosen, report)], report


def test_parallel_files_and_folder(shared_data):
    folder = shared_data / "parallel"
    started = time.perf_counter()
    sources, rows, report = read(folder / "ko.txt", folder / "en.txt")
    seconds = time.perf_counter() - started
    assert [source.domain for source in sources] == ["parallel"]
    assert (len(rows), report.texts, report.bad_rows) == (166_473, 332_946, 0)
    assert all(len(row.texts) == 2 for row in rows)
    assert rows[-1].row == 166_473
    assert seconds < 20  # about one on an idle core
    assert find_sources([str(folder)], ReadOptions()) == sources


def test_aihub_workbooks(shared_data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sources, rows, report = read(shared_data / "aihub_shaped")
    assert [source.domain for source in sources] == [
        "1_구어체(1)",
        "1_구어체(2)",
        "2_대화체",
        "3_문어체_뉴스(1)_200226",
        "4_문어체_한국문화",
        "5_문어체_조례",
        "6_문어체_지자체웹사이트",
    ]
    assert len(rows) == 7000
    assert (report.rows, report.texts) == (7000, 14_000)
    assert rows[0].texts == {"ko": "톰은 변호사를 고용했다.", "en": "Tom hired a lawyer."}


def test_nsmc_and_intent(shared_data):
    _, rows, report = read(shared_data / "nsmc" / "ratings_test.txt")
    assert (report.rows, report.bad_rows) == (50_000, 0)
    assert {language for row in rows for language in row.texts} == {"ko"}
    assert sum('"' in row.texts["ko"] for row in rows) > 100
    _, rows, _ = read(shared_data / "intent", columns=("ko=#2",))
    assert len(rows) == 55_134 + 6_121


def test_tokenizers_on_real_text(shared_data):
    parallel = shared_data / "parallel"
    options = ReadOptions()
    (source,) = find_sources([str(parallel)], options)
    rows = list(itertools.islice(source.read(options, ReadReport()), 2000))
    texts = [text for row in rows for text in row.texts.values()]
    for kind in ("byte", "char"):
        tokenizer = Tokenizer.train(texts, kind=kind, vocab_size=4000)
        assert tokenizer.vocab_size == 4000
        ids = tokenizer.encode_batch(texts)
        assert [tokenizer.decode(i) for i in ids] == texts
        assert [int(tokenizer.token_characters[i].sum()) for i in ids] == [len(t) for t in texts]
