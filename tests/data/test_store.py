"""The store refuses what is not whole, and selects what is asked for (faults.md, rows 33-36)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlm.data.config import DataConfig
from fastlm.data.store import COLUMNS, Store, token_dtype
from fastlm.errors import ConfigError, DataError


@pytest.fixture
def copy(store: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store.path, tmp_path / "store"))


def edit_manifest(path: Path, **changes: Any) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_sentences_decode_to_their_text(store: Store) -> None:
    from_file = {
        line for name in ("ko", "en") for line in (store.path.parent / "text" / f"{name}.txt").read_text().split("\n")
    }
    decoded = [store.tokenizer.decode(store.sentence(i).tolist()) for i in range(len(store))]
    assert set(decoded) == from_file - {""}
    assert [len(text) for text in decoded] == store.characters.tolist()
    counted = [store.tokenizer.token_characters[store.sentence(i)].sum() for i in range(len(store))]
    assert counted == store.characters.tolist()


def test_pairs_are_neighbours_in_one_split(store: Store) -> None:
    pairs, rows = store.pairs.reshape(-1, 2), store.rows.reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all() and len(np.unique(pairs)) == len(pairs)
    assert (rows[:, 0] == rows[:, 1]).all()
    assert (store.split.reshape(-1, 2)[:, 0] == store.split.reshape(-1, 2)[:, 1]).all()
    korean = (store.path.parent / "text" / "ko.txt").read_text().split("\n")
    index = int(np.flatnonzero(store.languages == store.language_names.index("ko"))[17])
    assert store.tokenizer.decode(store.sentence(index).tolist()) == korean[store.rows[index] - 1]


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy", "keys.npy", "tokenizer.json"])
def test_a_truncated_file_is_named(copy: Path, name: str) -> None:
    with (copy / name).open("r+b") as file:
        file.truncate((copy / name).stat().st_size - 2)
    with pytest.raises(DataError, match=rf"{name}: .* bytes where the manifest says"):
        Store.open(copy)


@pytest.mark.parametrize("name", ["tokens.bin", *(f"{column}.npy" for column in COLUMNS), "tokenizer.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(DataError, match=name):
        Store.open(copy)


def test_one_flipped_bit_is_found_by_verify(copy: Path) -> None:
    data = bytearray((copy / "tokens.bin").read_bytes())
    data[1000] ^= 1
    (copy / "tokens.bin").write_bytes(data)
    with pytest.raises(DataError, match=r"tokens\.bin: its SHA-256"):
        Store.open(copy).verify()


def test_an_untouched_copy_is_the_same_store(store: Store, copy: Path) -> None:
    for mapped in (True, False):
        other = Store.open(copy, mapped=mapped)
        other.verify()
        assert other.digest == store.digest
        assert np.array_equal(other.tokens, store.tokens) and np.array_equal(other.keys, store.keys)


def test_a_damaged_header_is_refused(copy: Path) -> None:
    data = bytearray((copy / "offsets.npy").read_bytes())
    data[20:30] = b"x" * 10
    (copy / "offsets.npy").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        Store.open(copy)


def test_offsets_that_do_not_fit_are_refused(copy: Path) -> None:
    offsets = np.load(copy / "offsets.npy")
    offsets[5], offsets[6] = offsets[6], offsets[5]
    np.save(copy / "offsets.npy", offsets)
    with pytest.raises(DataError, match="offsets"):
        Store.open(copy)


def test_an_id_beyond_the_vocabulary_is_refused(copy: Path) -> None:
    edit_manifest(copy, max_token=400)
    with pytest.raises(DataError, match=r"ids up to 400 .* vocabulary of 400"):
        Store.open(copy)


def test_the_narrowest_type_that_holds_every_id() -> None:
    assert [token_dtype(size) for size in (2, 65536, 65537)] == [np.uint16, np.uint16, np.uint32]


def test_another_tokenizer_is_refused(copy: Path, build: Callable[..., Store]) -> None:
    text = (copy / "tokenizer.json").read_text()
    model = json.loads(text)
    model["model"]["merges"][0], model["model"]["merges"][1] = model["model"]["merges"][1], model["model"]["merges"][0]
    (copy / "tokenizer.json").write_text(json.dumps(model))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["tokenizer.json"]["bytes"] = (copy / "tokenizer.json").stat().st_size
    edit_manifest(copy, **manifest)
    with pytest.raises(DataError, match="not the tokenizer"):
        Store.open(copy)


def test_other_formats_and_folders_are_refused(copy: Path, tmp_path: Path) -> None:
    edit_manifest(copy, format=99, fastlm="9.9")
    with pytest.raises(DataError, match=r"format 99, written by fastlm 9\.9"):
        Store.open(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        Store.open(copy)
    with pytest.raises(DataError, match="not a prepared store"):
        Store.open(tmp_path)


def test_select_by_language_and_domain(store: Store) -> None:
    everything = store.select("train", DataConfig())
    korean = store.select("train", DataConfig(languages=("ko",)))
    assert (store.split[everything] == 0).all()
    assert {store.language_names[i] for i in store.languages[korean]} == {"ko"}
    assert len(korean) * 2 == len(everything)
    both = np.concatenate([everything, store.select("valid", DataConfig())])
    assert np.array_equal(np.sort(both), np.arange(len(store)))
    with pytest.raises(ConfigError, match=r"--languages: .* has no 'kr' \(did you mean ko\?\); it has en, ko"):
        store.select("train", DataConfig(languages=("kr",)))
    with pytest.raises(ConfigError, match="--domains"):
        store.select("valid", DataConfig(domains=("nowhere",)))


def test_a_smaller_share_is_inside_a_larger_one(store: Store) -> None:
    whole = store.select("train", DataConfig())
    previous: set[int] = set()
    for share in (0.001, 0.1, 0.2, 0.5, 0.9, 1.0):
        ids = store.select("train", DataConfig(share=share))
        assert len(ids) == max(1, round(share * len(whole)))
        assert (np.diff(ids) > 0).all()
        assert previous <= set(ids.tolist())
        previous = set(ids.tolist())
    # A sentence stays with its translation (all but at most one, where the count is odd).
    pairs = store.pairs[store.select("train", DataConfig(share=0.2))]
    assert (np.unique(pairs, return_counts=True)[1] == 1).sum() <= 1
    # The share is of the training text; the held-out text stays comparable.
    assert len(store.select("valid", DataConfig(share=0.1))) == len(store.select("valid", DataConfig()))
