"""Labelled texts: reading tables, dropping repeats, holding out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastlm.data.batching import cut_to_fit
from fastlm.data.config import DataConfig
from fastlm.data.labelled import LabelledCorpus, class_counts, labelled, labelled_test, pack_labelled, read
from fastlm.errors import ConfigError, DataError
from fastlm.text.tokenizer import Tokenizer

ROWS = [("정말 재미있다", "1"), ('"최고"의 영화', "1"), ("별로다", "0"), ("시간이 아깝다", "0")]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([text for text, _ in ROWS] * 3, kind="byte", vocab_size=300)


def as_tsv(rows: list[tuple[str, str]]) -> str:
    return "id\tdocument\tlabel\n" + "".join(f"{i}\t{text}\t{label}\n" for i, (text, label) in enumerate(rows))


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def corpus_of(tmp_path: Path, rows: list[tuple[str, str]], tokenizer: Tokenizer, **options: object) -> LabelledCorpus:
    data = write(tmp_path / "rows.tsv", as_tsv(rows))
    return labelled(DataConfig(data=(data,), **options), tokenizer)  # type: ignore[arg-type]


def texts_of(corpus: LabelledCorpus, split: str) -> list[str]:
    ids = corpus.select(split, DataConfig())
    return [corpus.tokenizer.decode(corpus.sentence(i).tolist()) for i in ids]


def test_tables_of_every_kind(tmp_path: Path) -> None:
    """NSMC's .txt with tabs, comma-separated values with a quoted field, JSON lines with numbers, columns by number."""
    csv = "label,text\n" + "".join('{},"{}"\n'.format(label, text.replace('"', '""')) for text, label in ROWS)
    records = "".join(
        json.dumps({"text": text, "label": int(label)}, ensure_ascii=False) + "\n" for text, label in ROWS
    )
    headless = "".join(f"{label}\t{text}\n" for text, label in ROWS)
    for name, content, options in (
        ("nsmc.txt", as_tsv(ROWS), {}),
        ("rows.csv", csv, {}),
        ("rows.jsonl", records, {}),
        ("intent.txt", headless, {"text_column": "#2", "label_column": "#1"}),
        ("named.tsv", as_tsv(ROWS).replace("label", "급"), {"text_column": "document", "label_column": "급"}),
    ):
        texts, labels, _ = read(DataConfig(data=(write(tmp_path / name, content),), **options))
        assert list(zip(texts, labels, strict=True)) == ROWS, name


def test_whole_numbers_of_a_spreadsheet_are_labels_without_a_point(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for row in (["document", "label"], ["가", 1.0], ["나", 0]):
        book.active.append(row)
    book.save(tmp_path / "rows.xlsx")
    assert read(DataConfig(data=(str(tmp_path / "rows.xlsx"),)))[1] == ["1", "0"]


def test_repeats_are_dropped_and_equal_texts_stay_together(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [(f"문장 {i % 50}", str(i // 50 % 2)) for i in range(150)]  # each text under both labels, one of them twice
    corpus = corpus_of(tmp_path, rows, tokenizer, valid_fraction=0.3)
    assert len(corpus) == 100
    train, valid = texts_of(corpus, "train"), texts_of(corpus, "valid")
    assert valid and not set(train) & set(valid)
    again = corpus_of(tmp_path, rows, tokenizer, valid_fraction=0.3)
    assert texts_of(again, "valid") == valid and again.digest == corpus.digest
    assert corpus_of(tmp_path, rows, tokenizer, valid_fraction=0.3, split_seed=1).digest != corpus.digest


def test_test_texts_are_all_kept(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = write(tmp_path / "rows.tsv", as_tsv([*ROWS, ROWS[0]]))
    corpus = labelled_test(DataConfig(data=(data,)), tokenizer, ("0", "1"))
    assert texts_of(corpus, "valid") == [text for text, _ in [*ROWS, ROWS[0]]]
    assert corpus.domains.tolist() == [1, 1, 0, 0, 1]


def test_classes_are_sorted_as_numbers_where_they_are(tmp_path: Path, tokenizer: Tokenizer) -> None:
    numbers = [("가", "10"), ("나", "9"), ("다", "2")]
    assert corpus_of(tmp_path, numbers, tokenizer).domain_names == ["2", "9", "10"]
    words = [("가", "10"), ("나", "b"), ("다", "a")]
    assert corpus_of(tmp_path, words, tokenizer).domain_names == ["10", "a", "b"]


def test_a_batch_has_one_target_a_text(tmp_path: Path, tokenizer: Tokenizer) -> None:
    corpus = corpus_of(tmp_path, ROWS, tokenizer)
    ids = np.arange(len(corpus))
    batch = pack_labelled(corpus, cut_to_fit(corpus, ids, 8, "truncate")).batch()
    assert batch.target_rows.tolist() == batch.cu_seqlens[:-1].tolist()
    assert batch.targets.tolist() == corpus.domains.tolist()
    assert (batch.tokens[batch.target_rows] == tokenizer.bos_id).all()
    assert (batch.tokens[batch.cu_seqlens[1:].long() - 1] == tokenizer.eos_id).all()
    assert batch.max_seqlen <= 8
    assert class_counts(corpus, ids).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("document\tscore\n가\t1\n", {}, "none of its columns is named label or"),
        ("word\tlabel\n가\t1\n", {}, "none of its columns is named text or"),
        ("document\tlabel\n가\t1\n나\t1\n", {}, "every label is '1'"),
        ("document\tlabel\n가\t1\n나\t\n", {}, "row 3: only a text"),
        ("document\tlabel\n", {}, "there is no labelled text"),
        ("document\tlabel\n가\t1\n나\t0\n", {"text_column": "글"}, "no column named '글'"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, tokenizer: Tokenizer, content: str, options: dict[str, str], message: str
) -> None:
    data = write(tmp_path / "rows.tsv", content)
    with pytest.raises(DataError, match=message):
        labelled(DataConfig(data=(data,), **options), tokenizer)


def test_a_label_that_the_model_does_not_know_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = write(tmp_path / "rows.tsv", as_tsv(ROWS))
    with pytest.raises(DataError, match="label '0' is none of the model's: 1, 2"):
        labelled_test(DataConfig(data=(data,)), tokenizer, ("1", "2"))


def test_files_are_needed(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="labelled texts"):
        labelled(DataConfig(), tokenizer)
    with pytest.raises(DataError, match="no such file"):
        labelled(DataConfig(data=("nothing.tsv",)), tokenizer)
