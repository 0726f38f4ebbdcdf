"""Sources to a token store: read, drop repeats, split, train a tokenizer on the training part, encode, publish.

Sources are read once into a spool; memory holds hashes and a few numbers per sentence (about 80 bytes), one chunk of
text, and what the tokenizer's training counts. A store is reused while its recipe and its sources are the same. In the
cache a changed source means a new store; a store given by name is used as it is, since it may have come from another
machine, with a warning when its sources are here and differ.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlm import __version__
from fastlm.config import nearest
from fastlm.data import demo
from fastlm.data.config import DataConfig
from fastlm.data.folder import locked, replacing
from fastlm.data.progress import Advance, Phases
from fastlm.data.recipe import (
    TOKENIZER_KINDS,
    changed_since,
    check_options,
    key_of,
    listing,
    recipe_of,
    same_sources,
    stamps,
)
from fastlm.data.split import SPLITS, TRAIN, Partition, partition
from fastlm.data.spool import Spool, Spooled, Texts
from fastlm.data.store import COLUMNS, FORMAT, MANIFEST, TOKENIZER, TOKENS, Store, file_sha256, is_store, token_dtype
from fastlm.errors import ConfigError, DataError
from fastlm.text.readers import ReadOptions, ReadReport, Source, find_sources
from fastlm.text.tokenizer import Tokenizer

DEFAULT_VOCAB_SIZE = 30_000
DEMO = "demo"
_log = logging.getLogger("fastlm")


def prepared(config: DataConfig, vocab_size: int = 0, progress: bool = True) -> Store:
    """The store that ``config.data`` names, or the cached store of those sources, built when missing or outdated.

    Args:
        config: sources and options; no sources means the demo corpus.
        vocab_size: entries of the tokenizer to train; 0 for 30,000 or as many as the text gives.
        progress: show progress on stderr.

    Raises:
        DataError: sources or store that cannot be used.
        ConfigError: options that do not fit the store or each other.
    """
    named = [Path(entry) for entry in config.data if is_store(Path(entry))]
    if not named:
        out = _cache(config) / "stores" / key_of(recipe_of(config, vocab_size))
        return _reuse_or_build(config, out, vocab_size, progress)
    if len(config.data) > 1:
        raise ConfigError(f"--data: the prepared store {named[0]} cannot be mixed with other data; give it alone")
    return _opened(named[0], config, vocab_size)


def prepare(config: DataConfig, out: Path, *, vocab_size: int = 0, progress: bool = True) -> Store:
    """The store of ``config.data`` at ``out``: reused when it is already that, else built.

    Raises:
        DataError: sources that cannot be used; ``out`` holds something else, which is never overwritten.
        ConfigError: options that do not fit each other.
    """
    out = Path(os.path.abspath(out))
    stores = [entry for entry in config.data if is_store(Path(entry))]
    if stores:
        raise ConfigError(f"--data {stores[0]} is a prepared store already; give the text it is made of")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        _refuse_foreign(out, recipe_of(config, vocab_size))
    return _reuse_or_build(config, out, vocab_size, progress)


def _find(config: DataConfig) -> list[Source]:
    return find_sources(config.data, ReadOptions.from_config(config)) if config.data else []


def _cache(config: DataConfig) -> Path:
    named = config.cache or os.environ.get("FASTLM_CACHE")
    try:
        return Path(os.path.abspath(named)) if named else Path.home() / ".cache" / "fastlm"
    except RuntimeError as error:  # no home folder
        raise DataError(f"no place for prepared stores: {error}; set --cache or FASTLM_CACHE") from None


def _opened(path: Path, config: DataConfig, vocab_size: int) -> Store:
    store = Store.open(path)
    check_options(store.manifest["recipe"], config, path)
    if vocab_size not in (0, store.tokenizer.vocab_size):
        raise ConfigError(
            f"--vocab-size {vocab_size}: the store {path} has a vocabulary of {store.tokenizer.vocab_size}; "
            "leave it out, or give the sources instead of the store"
        )
    for source in changed_since(store.manifest["sources"]):
        _log.warning("%s has changed since the store %s was prepared from it; the store is used as it is", source, path)
    return store


def _refuse_foreign(out: Path, recipe: dict[str, Any]) -> None:
    if not is_store(out):
        raise DataError(f"{out}: exists and is not a prepared store; give another --out")
    try:
        theirs = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["recipe"]
    except (ValueError, KeyError, OSError):
        raise DataError(f"{out / MANIFEST}: damaged; remove the folder or give another --out") from None
    different = [name for name in recipe if recipe[name] != theirs.get(name)]
    if different:
        raise DataError(f"{out}: already a store with another {', '.join(different)}; remove it or give another --out")


def _reuse_or_build(config: DataConfig, out: Path, vocab_size: int, progress: bool) -> Store:
    recipe, inputs = recipe_of(config, vocab_size), listing(config)
    # First without the lock and the readers: a finished store may be on a disk that cannot be written.
    store = _finished(out, recipe)
    if store is not None and store.manifest["inputs"] == inputs and not changed_since(store.manifest["sources"]):
        return store
    sources = _find(config)
    with locked(out, lambda holder: _log.warning("waiting for %s, which is preparing %s", holder, out)):
        store = _finished(out, recipe)
        if store is None or not same_sources(store.manifest["sources"], _files(sources)):
            with _disk_errors(out), replacing(out) as folder:
                _build(folder, config, recipe, inputs, sources, vocab_size, progress)
            store = Store.open(out)
    return store


def _finished(out: Path, recipe: dict[str, Any]) -> Store | None:
    """The store at ``out``, when it is whole and of this recipe."""
    if not is_store(out):
        return None
    try:
        store = Store.open(out)
    except DataError as error:
        _log.warning("%s", error)
        return None
    return store if store.manifest["recipe"] == recipe else None


def _files(sources: list[Source]) -> list[Path]:
    if not sources:
        return sorted(Path(demo.__file__).parent.glob("*.py"))
    return list(dict.fromkeys(Path(path) for source in sources for path in source.paths))


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{out}: {error.strerror or error}; the store was not written") from error


def _build(
    folder: Path,
    config: DataConfig,
    recipe: dict[str, Any],
    inputs: list[list[Any]],
    sources: list[Source],
    vocab_size: int,
    progress: bool,
) -> None:
    files = stamps(_files(sources))
    phases = Phases(progress)
    with Spool(folder) as spool:
        report = ReadReport()
        with phases.bar("reading") as advance:
            for domain, row, texts in _rows(config, sources, report):
                spool.add(domain, row, texts)
                advance(1)
            spooled = spool.finish()
        _check_read(spooled, report, files)
        with phases.timed("splitting"):
            parts = partition(
                spooled.row_hashes,
                spooled.side_hashes,
                spooled.rows,
                valid_fraction=config.valid_fraction,
                seed=config.split_seed,
            )
        kept = parts.kept[spooled.rows]
        with phases.timed("training the tokenizer"):
            learnt_from = kept & (parts.split[spooled.rows] == TRAIN) & _in_languages(spooled, config.vocab_languages)
            training = Texts(spool, spooled.sizes, learnt_from)
            tokenizer = _tokenizer(config, vocab_size, training, progress)
        with phases.bar("tokenizing", total=int(kept.sum())) as advance:
            lengths, top = _encode(tokenizer, Texts(spool, spooled.sizes, kept), folder / TOKENS, advance)
        _write_columns(folder, spooled, parts, kept, lengths)
    tokenizer.save(folder / TOKENIZER)
    manifest = {
        "format": FORMAT,
        "fastlm": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": recipe,
        "inputs": inputs,
        "sources": files,
        "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "digest": tokenizer.digest},
        "languages": spooled.language_names,
        "domains": spooled.domain_names,
        "dtype": np.dtype(token_dtype(tokenizer.vocab_size)).name,
        "sentences": len(lengths),
        "tokens": int(lengths.sum()),
        "max_token": top,
        "rows": {
            "read": len(spooled.row_hashes),
            "repeats": int((~parts.kept).sum()),
            "largest_group": parts.largest,
        },
        "read": asdict(report),
        "counts": _counts(spooled, parts, kept, lengths),
        "seconds": phases.seconds,
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(folder.iterdir())
        },
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _rows(config: DataConfig, sources: list[Source], report: ReadReport) -> Iterator[tuple[str, int, dict[str, str]]]:
    """(domain, row number in its source, language -> text) of every row."""
    if not config.data:
        for number, (korean, english) in enumerate(demo.generate(), 1):
            report.rows += 1
            report.texts += 2
            yield DEMO, number, {"ko": korean, "en": english}
    for source in sources:
        for row in source.read(ReadOptions.from_config(config), report):
            yield source.domain, row.row, row.texts


def _check_read(spooled: Spooled, report: ReadReport, files: list[dict[str, Any]]) -> None:
    if not len(spooled.row_hashes):
        raise DataError(
            f"{', '.join(entry['path'] for entry in files)}: no usable sentence in {report.rows:,} rows "
            f"({report.blanks:,} blank, {report.bad_texts:,} undecodable, {report.bad_rows:,} of the wrong shape)"
        )
    changed = changed_since(files)
    if changed:
        raise DataError(f"{changed[0]}: changed while it was being read; prepare again when it is finished")


def _in_languages(spooled: Spooled, languages: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which sentences are in one of the languages; in none given, all."""
    names = spooled.language_names
    for name in languages:
        if name not in names:
            raise ConfigError(
                f"--vocab-languages: the text has no {name!r}{nearest(name, names)}; it has {', '.join(sorted(names))}"
            )
    return np.isin(spooled.languages, [names.index(name) for name in languages or names])


def _tokenizer(config: DataConfig, vocab_size: int, texts: Texts, progress: bool) -> Tokenizer:
    if config.tokenizer in TOKENIZER_KINDS:
        size = vocab_size or DEFAULT_VOCAB_SIZE
        return Tokenizer.train(texts, kind=config.tokenizer, vocab_size=size, exact=vocab_size > 0, progress=progress)
    tokenizer = Tokenizer.load(Path(config.tokenizer))
    if vocab_size not in (0, tokenizer.vocab_size):
        raise ConfigError(
            f"--vocab-size {vocab_size}: the tokenizer {config.tokenizer} has {tokenizer.vocab_size} entries; "
            "leave one of the two out"
        )
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: Texts, path: Path, advance: Advance) -> tuple[NDArray[np.int64], int]:
    """Writes the ids of all sentences; returns their lengths and the largest id."""
    dtype = token_dtype(tokenizer.vocab_size)
    lengths: list[NDArray[np.int64]] = []
    top = 0
    with path.open("wb") as file:
        for chunk in texts.chunks():
            encoded = tokenizer.encode_batch(chunk)
            lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
            ids = np.fromiter(chain.from_iterable(encoded), np.int64, int(lengths[-1].sum()))
            top = max(top, int(ids.max(initial=0)))
            if top >= tokenizer.vocab_size:
                raise DataError(
                    f"the tokenizer gave id {top} with a vocabulary of {tokenizer.vocab_size}; it is damaged"
                )
            ids.astype(dtype).tofile(file)
            advance(len(chunk))
    return np.concatenate(lengths), top


def _write_columns(
    folder: Path, spooled: Spooled, parts: Partition, kept: NDArray[np.bool_], lengths: NDArray[np.int64]
) -> None:
    rows = spooled.rows[kept]
    columns: dict[str, NDArray[Any]] = {
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "languages": spooled.languages[kept],
        "domains": spooled.domains[kept],
        "characters": spooled.characters[kept],
        "pairs": rows,
        "rows": spooled.source_rows[kept],
        "keys": spooled.row_hashes[rows, 0],
        "split": parts.split[rows],
    }
    for name, dtype in COLUMNS.items():
        np.save(folder / f"{name}.npy", columns[name].astype(dtype), allow_pickle=False)


def _counts(
    spooled: Spooled, parts: Partition, kept: NDArray[np.bool_], lengths: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Sentences, tokens and characters of each language, domain and split."""
    languages, domains, characters = (
        values[kept] for values in (spooled.languages, spooled.domains, spooled.characters)
    )
    split = parts.split[spooled.rows[kept]]
    name_of = {number: name for name, number in SPLITS.items()}
    group = (languages.astype(np.int64) * len(spooled.domain_names) + domains) * len(SPLITS) + split
    totals = Counter(group.tolist())
    tokens = np.bincount(group, weights=lengths)
    text = np.bincount(group, weights=characters)
    return [
        {
            "language": spooled.language_names[number // len(SPLITS) // len(spooled.domain_names)],
            "domain": spooled.domain_names[number // len(SPLITS) % len(spooled.domain_names)],
            "split": name_of[number % len(SPLITS)],
            "sentences": totals[number],
            "tokens": int(tokens[number]),
            "characters": int(text[number]),
        }
        for number in sorted(totals)
    ]
