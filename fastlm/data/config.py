"""What text a run reads and how it becomes batches."""

from __future__ import annotations

from dataclasses import dataclass

from fastlm.config import option

#: fields of `DataConfig` that say how text is read, and those that say which text, too
READING = ("encoding", "on_bad_text", "on_bad_row", "columns", "sheet", "align")
SOURCE = ("data", "cache", *READING)


@dataclass(frozen=True)
class DataConfig:
    """Sources, reading policy, masking and batching. No ``data`` means the built-in demo corpus."""

    data: tuple[str, ...] = option(
        (), "files, folders, LANG=FILE, or one prepared store; none: the demo corpus", unit="PATH"
    )
    tokenizer: str = option(
        "byte", "byte or char (BPE trained on the data), or the path of a tokenizer.json", unit="KIND|PATH"
    )
    vocab_languages: tuple[str, ...] = option(
        (), "languages whose text the tokenizer is trained on; none: all", unit="LANG"
    )
    cache: str = option(
        "", "where prepared stores are kept; default $FASTLM_CACHE or ~/.cache/fastlm", unit="DIR", harmless=True
    )
    encoding: str = option("utf-8", "encoding of text files", unit="NAME")
    on_bad_text: str = option(
        "refuse", "undecodable text: stop, drop the row, or put U+FFFD", choices=("refuse", "skip", "replace")
    )
    on_bad_row: str = option(
        "refuse", "a row of the wrong shape: stop, or drop and count it", choices=("refuse", "skip")
    )
    columns: tuple[str, ...] = option(
        (), "LANG=COLUMN of tables whose columns are not named ko/en or 원문/번역문", unit="LANG=COLUMN"
    )
    text_column: str = option(
        "",
        "a classifier's texts; #2 is the second of a table without a header (default: the one named text, ...)",
        unit="COLUMN",
    )
    label_column: str = option("", "and their labels, likewise (default: label, ...)", unit="COLUMN")
    sheet: str = option("", "sheet of an xlsx workbook; default its only one", unit="NAME")
    align: str = option(
        "auto",
        "treat ko/en files of one name as parallel (auto, yes) or as separate texts (no)",
        choices=("auto", "yes", "no"),
    )
    languages: tuple[str, ...] = option((), "train on these languages only", unit="LANG")
    domains: tuple[str, ...] = option((), "train on these domains only", unit="DOMAIN")
    share: float = option(1.0, "share of the training sentences used", unit="SHARE", minimum=1e-6, maximum=1.0)
    valid_fraction: float = option(0.1, "share of the sentence pairs held out", unit="SHARE", minimum=1e-6, maximum=0.5)
    split_seed: int = option(0, "seed of the train/validation split", unit="N")
    direction: str = option(
        "both", "what a translation model learns: ko-en, en-ko or both", choices=("both", "ko-en", "en-ko")
    )
    masking: str = option("dynamic", "mask positions drawn anew each epoch, or once", choices=("dynamic", "static"))
    mask_unit: str = option(
        "token", "what is masked: single tokens, whole words, or spans", choices=("token", "word", "span")
    )
    mask_rate: float = option(0.15, "share of the tokens to predict", unit="P", minimum=0, maximum=1)
    mask_keep: float = option(0.1, "of those, the share left as they are", unit="P", minimum=0, maximum=1)
    mask_random: float = option(0.1, "of those, the share replaced by a random token", unit="P", minimum=0, maximum=1)
    batch_size: int = option(256, "sentences per optimizer step", unit="SENTENCES", minimum=1)
    batch_tokens: int = option(0, "tokens per optimizer step, instead of --batch-size", unit="TOKENS", minimum=0)
    long: str = option(
        "truncate",
        "sentences longer than --seq-len: cut, split into several, or stop",
        choices=("truncate", "split", "refuse"),
    )
    workers: int = option(
        1,
        "threads that build batches ahead of training; 0 builds them in line",
        unit="N",
        minimum=0,
        maximum=64,
        harmless=True,
    )
