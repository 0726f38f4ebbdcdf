"""Texts with a label each: what a classifier learns from and is scored on.

A label takes the place that a domain has in a store, so that scores come per class; its target is the class's number,
at the ``[BOS]`` of the text.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastlm.data.batching import Packed, Pieces, pack_plain
from fastlm.data.config import DataConfig
from fastlm.data.split import VALID, Partition, partition
from fastlm.data.store import Corpus, token_dtype
from fastlm.errors import ConfigError, DataError
from fastlm.text.readers import ReadOptions, ReadReport
from fastlm.text.readers.files import expand, format_of
from fastlm.text.readers.tables import read_labelled
from fastlm.text.tokenizer import Tokenizer

_log = logging.getLogger("fastlm")


class LabelledCorpus(Corpus):
    """Labelled texts in memory: every column of a `Corpus`, with the label as domain and one nameless language.

    Args:
        texts, labels: N of each; texts normalised.
        rows: (N,) row numbers in the source.
        names: the classes in the order of their numbers; every label is one of them.
        tokenizer: encodes the texts.
        parts: which texts are kept and which held out.
        path: named in messages.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        rows: Sequence[int],
        *,
        names: Sequence[str],
        tokenizer: Tokenizer,
        parts: Partition,
        path: Path,
    ) -> None:
        kept = np.flatnonzero(parts.kept).tolist()
        encoded = tokenizer.encode_batch([texts[i] for i in kept])
        number = {name: i for i, name in enumerate(names)}
        self.path, self.tokenizer = path, tokenizer
        self.language_names, self.domain_names = [""], list(names)
        self.tokens = np.concatenate([np.empty(0, np.int64), *encoded]).astype(token_dtype(tokenizer.vocab_size))
        self.offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded], dtype=np.int64)])
        self.languages = np.zeros(len(kept), np.uint16)
        self.domains = np.array([number[labels[i]] for i in kept], dtype=np.uint16)
        self.characters = np.array([len(texts[i]) for i in kept], dtype=np.int32)
        self.pairs, self.rows = np.arange(len(kept)), np.asarray(rows, dtype=np.int64)[kept]
        self.keys = _hashes(texts)[kept, 0]
        self.split = parts.split[kept]

    @property
    def digest(self) -> str:
        """SHA-256 over texts, labels and split."""
        whole = hashlib.sha256("\0".join([self.tokenizer.digest, *self.domain_names]).encode())
        for column in (self.tokens, self.offsets, self.domains, self.split):
            whole.update(column.tobytes())
        return whole.hexdigest()

    @property
    def target_characters(self) -> NDArray[np.int64]:
        """None of a text's characters begins in its class: there are no bits per character."""
        return np.zeros(len(self.domain_names), dtype=np.int64)


def labelled(config: DataConfig, tokenizer: Tokenizer, names: Sequence[str] = ()) -> LabelledCorpus:
    """The labelled texts of ``config.data``: repeats dropped, and a share held out.

    Equal texts stay on one side of the split, whatever their labels.

    Args:
        config: of it, ``data``, ``text_column``, ``label_column``, the reading policy and the split count.
        tokenizer: the encoder's.
        names: the classes, where they are settled; else those of the texts, sorted (as numbers where all are).

    Raises:
        DataError: unreadable; a label that is not among ``names``; a single class.
    """
    texts, labels, rows = read(config)
    names = names or sorted(set(labels), key=_label_order(labels))
    if len(names) < 2:
        raise DataError(f"{', '.join(config.data)}: every label is {names[0]!r}; a classifier needs two classes")
    sides = _hashes(texts)
    whole = _hashes([f"{label}\0{text}" for text, label in zip(texts, labels, strict=True)])
    parts = partition(whole, sides, np.arange(len(texts)), valid_fraction=config.valid_fraction, seed=config.split_seed)
    if repeats := int(np.count_nonzero(~parts.kept)):
        _log.info("%s of %s labelled texts are repeats and left out", f"{repeats:,}", f"{len(texts):,}")
    return _corpus(config, texts, labels, rows, names, tokenizer, parts)


def labelled_test(config: DataConfig, tokenizer: Tokenizer, names: Sequence[str]) -> LabelledCorpus:
    """The labelled texts of ``config.data``, all of them held out and none dropped, to be scored.

    Raises:
        DataError: as `labelled`.
    """
    texts, labels, rows = read(config)
    parts = Partition(np.ones(len(texts), np.bool_), np.full(len(texts), VALID, np.uint8), largest=1)
    return _corpus(config, texts, labels, rows, names, tokenizer, parts)


def read(config: DataConfig) -> tuple[list[str], list[str], list[int]]:
    """Texts, labels and row numbers of ``config.data``: tsv, csv, txt with tabs, jsonl, parquet or xlsx.

    Raises:
        ConfigError: no file given.
        DataError: unreadable, no such column, nothing in it.
    """
    if not config.data:
        raise ConfigError("--data: a classifier learns from labelled texts; give a tsv, csv or jsonl file")
    found = list(_rows(config))
    if not found:
        raise DataError(f"{', '.join(config.data)}: there is no labelled text")
    texts, labels, rows = (list(column) for column in zip(*found, strict=True))
    return texts, labels, rows


def _rows(config: DataConfig) -> Iterator[tuple[str, str, int]]:
    options = ReadOptions.from_config(config)
    for name in config.data:
        if not Path(name).is_file():
            raise DataError(f"{name}: no such file")
        for file in expand(Path(name)):
            format_name = format_of(file)
            format_name = "delimited" if format_name == "text" else format_name
            columns = config.text_column, config.label_column
            yield from read_labelled(file, format_name, *columns, options, ReadReport())


def _corpus(
    config: DataConfig,
    texts: list[str],
    labels: list[str],
    rows: list[int],
    names: Sequence[str],
    tokenizer: Tokenizer,
    parts: Partition,
) -> LabelledCorpus:
    path = Path(config.data[0])
    if strange := next((label for label in labels if label not in names), None):
        raise DataError(f"{path}: label {strange!r} is none of the model's: {', '.join(names)}")
    return LabelledCorpus(texts, labels, rows, names=names, tokenizer=tokenizer, parts=parts, path=path)


def _label_order(labels: Sequence[str]) -> type[int] | type[str]:
    return int if all(label.isdecimal() for label in labels) else str


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """(N, 2): 128 bits of BLAKE2b."""
    digests = (hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


def pack_labelled(corpus: Corpus, pieces: Pieces) -> Packed:
    """``[BOS] x [EOS]`` of each text; its class is what is to be predicted at ``[BOS]``."""
    plain = pack_plain(corpus, pieces)
    plain.labels[plain.cu_seqlens[:-1]] = corpus.domains[pieces.sentences]
    return plain


def class_counts(corpus: Corpus, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each class is predicted in one pass over the texts ``ids``: (classes,) int64."""
    return np.bincount(corpus.domains[ids], minlength=len(corpus.domain_names))
