"""The token store: a folder of flat arrays and a manifest, read through memory maps.

``tokens.bin`` holds every sentence's ids end to end (uint16 where the vocabulary allows, else uint32), ``offsets.npy``
where each begins, and one small array per property of a sentence. ``manifest.json`` is written last and names the size
and SHA-256 of every file, so a folder with a readable manifest is whole.

A file that shrinks *while* it is mapped kills the reader with SIGBUS; no check at opening can prevent that. fastlm
never writes into a published store (a rebuild is a new folder, renamed into place, and maps of the old one stay good),
so it takes another program, or a network file system that drops the file. There, ``Store.open(path, mapped=False)``
reads the arrays into memory instead.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlm.config import nearest
from fastlm.data.config import DataConfig
from fastlm.data.split import SPLITS
from fastlm.errors import ConfigError, DataError
from fastlm.text.tokenizer import Tokenizer

FORMAT = 1
MANIFEST = "manifest.json"
TOKENS = "tokens.bin"
TOKENIZER = "tokenizer.json"
# One array per sentence, and its type; offsets has one entry more.
COLUMNS: dict[str, type[np.generic]] = {
    "offsets": np.int64,
    "languages": np.uint16,
    "domains": np.uint16,
    "characters": np.int32,
    "pairs": np.int64,
    "rows": np.int64,
    "keys": np.uint64,
    "split": np.uint8,
}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def token_dtype(vocab_size: int) -> type[np.generic]:
    """The narrowest type that holds every id."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def is_store(path: Path) -> bool:
    """Whether ``path`` is a folder with a manifest."""
    return (path / MANIFEST).is_file()


class Corpus:
    """N tokenized sentences and what is known of each: what batches are made of.

    Attributes:
        path: where it is.
        tokenizer: the one the text was encoded with.
        tokens: (tokens,) uint16 or uint32, no special tokens.
        offsets: (N+1,) int64; sentence i is ``tokens[offsets[i]:offsets[i + 1]]``.
        languages, domains: (N,) uint16, indexes into ``language_names`` and ``domain_names``.
        characters: (N,) int32, code points of the normalised text.
        pairs: (N,) int64, the row a sentence came in: translations of each other share it, and are neighbours.
        rows: (N,) int64, row number in the source.
        keys: (N,) uint64, hash of the row's text: the order of samples (it does not depend on the tokenizer).
        split: (N,) uint8, 0 training, 1 held out.
        digest: equal for equal contents.
        target_characters: of each value that a target can have, the characters of text that begin in it.
    """

    path: Path
    tokenizer: Tokenizer
    language_names: list[str]
    domain_names: list[str]
    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    languages: NDArray[np.uint16]
    domains: NDArray[np.uint16]
    characters: NDArray[np.int32]
    pairs: NDArray[np.int64]
    rows: NDArray[np.int64]
    keys: NDArray[np.uint64]
    split: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.languages)

    @property
    def digest(self) -> str:
        """Equal for equal contents."""
        raise NotImplementedError

    @property
    def target_characters(self) -> NDArray[np.int64]:
        """(targets,) int64."""
        return np.asarray(self.tokenizer.token_characters, dtype=np.int64)

    def sentence(self, index: int) -> NDArray[Any]:
        """The ids of one sentence, a view."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def select(self, split: str, config: DataConfig) -> NDArray[np.int64]:
        """Ids, ascending, of the sentences of a split in the wanted languages and domains.

        ``config.share`` takes that share of the *training* sentences, in the order of their keys: a smaller share is
        contained in a larger one, and a sentence stays with its translation.

        Raises:
            ConfigError: a language or domain that is not in the store.
            DataError: nothing is left to train on.
        """
        wanted = np.asarray(self.split) == SPLITS[split]
        for flag, chosen, names, column in (
            ("languages", config.languages, self.language_names, self.languages),
            ("domains", config.domains, self.domain_names, self.domains),
        ):
            if chosen:
                wanted &= np.isin(column, [_index_of(name, names, flag, self.path) for name in chosen])
        ids = np.flatnonzero(wanted)
        if split == "train" and not len(ids):
            raise DataError(f"{self.path}: no training sentence is in the chosen languages and domains")
        if split == "train" and config.share < 1:
            ids = np.sort(self.by_key(ids)[: max(1, round(config.share * len(ids)))])
        return ids

    def by_key(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """``ids`` in the order of their keys: any prefix is a fair sample."""
        return ids[np.argsort(self.keys[ids], kind="stable")]


class Store(Corpus):
    """A corpus in a folder. Made by :meth:`open`.

    Attributes:
        manifest: of the folder.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], *, mapped: bool) -> None:
        self.path = path
        self.manifest = manifest
        self.language_names: list[str] = manifest["languages"]
        self.domain_names: list[str] = manifest["domains"]
        dtype = np.dtype(manifest["dtype"])
        self.tokens = np.asarray(np.memmap(path / TOKENS, dtype, "r")) if mapped else np.fromfile(path / TOKENS, dtype)
        for name in COLUMNS:
            column = np.load(path / f"{name}.npy", mmap_mode="r" if mapped else None, allow_pickle=False)
            setattr(self, name, np.asarray(column))  # a plain array over the map: np.memmap's own class slows indexing
        self.tokenizer = Tokenizer.load(path / TOKENIZER)

    @classmethod
    def open(cls, path: str | Path, *, mapped: bool = True) -> Store:
        """Opens a store after checking its manifest, sizes, header, ids and tokenizer (not the hashes: `verify`).

        Raises:
            DataError: not a store, a newer format, a file that is missing or of another size, arrays that do not fit
                together, ids beyond the vocabulary, a tokenizer that is not the one the text was encoded with.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        for name, entry in manifest["files"].items():
            _check_size(path / name, entry["bytes"])
        try:
            store = cls(path, manifest, mapped=mapped)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: damaged store: {error}; {_REBUILD}") from error
        store._check_columns()
        store._check_vocabulary()
        return store

    @property
    def digest(self) -> str:
        """SHA-256 over the hashes of all files: equal for equal contents, whenever and wherever they were written."""
        files = {name: entry["sha256"] for name, entry in self.manifest["files"].items()}
        return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()

    def verify(self) -> None:
        """Reads every file and compares its hash with the manifest's.

        Raises:
            DataError: naming the first file that differs.
        """
        for name, entry in self.manifest["files"].items():
            if file_sha256(self.path / name) != entry["sha256"]:
                raise DataError(
                    f"{self.path / name}: its SHA-256 is not the manifest's: the file was damaged; {_REBUILD}"
                )

    def _check_columns(self) -> None:
        count = self.manifest["sentences"]
        for name, dtype in COLUMNS.items():
            column = getattr(self, name)
            if column.dtype != dtype or column.shape != (count + (name == "offsets"),):
                raise DataError(
                    f"{self.path / name}.npy: {column.shape} {column.dtype} where the manifest says {count} sentences "
                    f"of {np.dtype(dtype)}; {_REBUILD}"
                )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens) or (np.diff(self.offsets) < 0).any():
            raise DataError(f"{self.path}/offsets.npy does not fit the {len(self.tokens):,} tokens; {_REBUILD}")

    def _check_vocabulary(self) -> None:
        if self.tokenizer.digest != self.manifest["tokenizer"]["digest"]:
            raise DataError(
                f"{self.path / TOKENIZER} is not the tokenizer this store was encoded with "
                f"(digest {self.tokenizer.digest[:12]}, not {self.manifest['tokenizer']['digest'][:12]}); {_REBUILD}"
            )
        top, vocab_size = self.manifest["max_token"], self.tokenizer.vocab_size
        if top >= vocab_size or self.tokens.dtype != token_dtype(vocab_size):
            raise DataError(
                f"{self.path}: ids up to {top} as {self.tokens.dtype} do not fit the vocabulary of {vocab_size}; "
                f"{_REBUILD}"
            )


_REBUILD = "prepare it again from its sources"


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, writer = manifest["format"], manifest["fastlm"]
    except FileNotFoundError:
        raise DataError(f"{path}: not a prepared store (it has no {MANIFEST}); make one with fastlm prepare") from None
    except OSError as error:
        raise DataError(f"{path / MANIFEST}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path / MANIFEST}: damaged; {_REBUILD}") from None
    if version != FORMAT:
        raise DataError(
            f"{path}: store format {version}, written by fastlm {writer}; this fastlm reads format {FORMAT}: "
            "prepare it again, or use that version"
        )
    return dict(manifest)


def _check_size(path: Path, size: int) -> None:
    try:
        actual = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {_REBUILD}") from None
    if actual != size:
        raise DataError(
            f"{path}: {actual:,} bytes where the manifest says {size:,}: the file was cut or changed; {_REBUILD}"
        )


def _index_of(name: str, names: list[str], flag: str, path: Path) -> int:
    if name not in names:
        raise ConfigError(f"--{flag}: {path} has no {name!r}{nearest(name, names)}; it has {', '.join(sorted(names))}")
    return names.index(name)
