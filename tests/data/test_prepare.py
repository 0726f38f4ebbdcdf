"""Preparing: reuse, rebuilding, refusals, no leftovers (faults.md, rows 19, 27, 33, 38, 42)."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastlm.data import prepare as module
from fastlm.data.config import DataConfig
from fastlm.data.prepare import prepare, prepared
from fastlm.data.store import Store
from fastlm.data.summary import summary
from fastlm.errors import ConfigError, DataError
from fastlm.text.tokenizer import Tokenizer

KO, EN = "강은 오래된 집들 옆을 {} 번 흐른다", "the river runs past {} old houses"
PAIRS = [(KO.format(n), EN.format(n)) for n in range(120)]


def write(folder: Path, pairs: list[tuple[str, str]]) -> DataConfig:
    folder.mkdir(parents=True, exist_ok=True)
    for name, side in (("ko", 0), ("en", 1)):
        (folder / f"{name}.txt").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return DataConfig(data=(str(folder / "ko.txt"), str(folder / "en.txt")), cache=str(folder.parent / "cache"))


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    return write(tmp_path / "text", PAIRS)


def stamp(store: Store) -> tuple[int, int]:
    """Changes when the store is written anew."""
    state = (store.path / "manifest.json").stat()
    return state.st_ino, state.st_mtime_ns


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob(".fastlm-*")}


def test_built_once_then_reused(config: DataConfig) -> None:
    first = prepared(config, progress=False)
    second = prepared(config, progress=False)
    assert stamp(first) == stamp(second)
    assert not left_in(Path(config.cache))
    other = prepared(replace(config, split_seed=1), progress=False)
    assert other.path != first.path


def test_reuse_needs_no_reader(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(config, progress=False)
    monkeypatch.setattr(module, "find_sources", lambda *_: pytest.fail("looked into unchanged sources"))
    prepared(config, progress=False)


def test_a_changed_source_is_prepared_again_a_touched_one_is_not(config: DataConfig) -> None:
    first = prepared(config, progress=False)
    os.utime(config.data[0], ns=(1, 1))
    assert stamp(prepared(config, progress=False)) == stamp(first)
    text = Path(config.data[0]).read_text()
    Path(config.data[0]).write_text(text.replace("오래된", "새로운"))  # of the same size
    second = prepared(config, progress=False)
    assert second.path == first.path and second.digest != first.digest
    decoded = second.tokenizer.decode(second.sentence(1).tolist())
    assert "새로운" in decoded
    assert len(first.sentence(0)) > 0  # the old maps stay good


def test_a_new_file_in_a_folder_is_prepared(config: DataConfig) -> None:
    folder = replace(config, data=(str(Path(config.data[0]).parent),))
    first = prepared(folder, progress=False)
    (Path(config.data[0]).parent / "more_en.txt").write_text("one more sentence\n" * 3)
    second = prepared(folder, progress=False)
    assert len(second) == len(first) + 1


def test_the_same_contents_give_the_same_digest(config: DataConfig, tmp_path: Path) -> None:
    first = prepared(config, progress=False)
    moved = write(tmp_path / "text elsewhere 다른 곳" / "text", PAIRS)
    assert prepared(moved, progress=False).digest == first.digest


def test_a_damaged_cached_store_is_built_again(config: DataConfig, caplog: pytest.LogCaptureFixture) -> None:
    first = prepared(config, progress=False)
    os.truncate(first.path / "tokens.bin", 10)
    with caplog.at_level(logging.WARNING, "fastlm"):
        prepared(config, progress=False).verify()
    assert "tokens.bin" in caplog.text


def test_repeats_are_removed_and_counted_and_nothing_leaks(tmp_path: Path) -> None:
    # Repeats of whole pairs, of one side with another translation, and of a side as text of its own.
    rng = np.random.default_rng(0)
    pairs = PAIRS + [PAIRS[i] for i in rng.integers(0, 120, 50)]
    pairs += [(PAIRS[i][0], f"another translation {i}") for i in rng.integers(0, 120, 30)]
    pairs += [(f"다른 번역 {i}", PAIRS[i][1]) for i in rng.integers(0, 120, 30)]
    config = replace(write(tmp_path / "text", pairs), valid_fraction=0.4)
    (tmp_path / "text" / "alone_en.txt").write_text("".join(pair[1] + "\n" for pair in PAIRS[:40]))
    store = prepared(replace(config, data=(*config.data, str(tmp_path / "text" / "alone_en.txt"))), progress=False)
    texts = [store.tokenizer.decode(store.sentence(i).tolist()) for i in range(len(store))]
    train = {text for text, part in zip(texts, store.split, strict=True) if part == 0}
    valid = {text for text, part in zip(texts, store.split, strict=True) if part == 1}
    assert valid and not train & valid
    assert store.manifest["rows"]["repeats"] == len(pairs) - len(set(pairs))
    assert f"{len(pairs) - len(set(pairs))} repeats removed" in summary(store)


def test_the_tokenizer_sees_the_training_part_only(config: DataConfig) -> None:
    store = prepared(config, progress=False)
    training = store.select("train", DataConfig())
    again = Tokenizer.train(
        [store.tokenizer.decode(store.sentence(i).tolist()) for i in training], kind="byte", vocab_size=30_000
    )
    assert again.digest == store.tokenizer.digest


def test_a_vocabulary_of_one_language(config: DataConfig) -> None:
    """The same sentences and split; only the tokenizer has not seen the other language."""
    both = prepared(config, progress=False)
    english = prepared(replace(config, vocab_languages=("en",)), progress=False)
    assert english.path != both.path
    assert np.array_equal(english.keys, both.keys) and np.array_equal(english.split, both.split)
    training = english.select("train", DataConfig(languages=("en",)))
    texts = [english.tokenizer.decode(english.sentence(i).tolist()) for i in training]
    assert all(text.isascii() for text in texts)
    assert Tokenizer.train(texts, kind="byte", vocab_size=30_000).digest == english.tokenizer.digest
    store = replace(config, data=(str(english.path),))
    assert prepared(replace(store, vocab_languages=("en",)), progress=False).digest == english.digest
    assert prepared(store, progress=False).digest == english.digest
    with pytest.raises(ConfigError, match=r"--vocab-languages: the tokenizer of the store .* was trained on en"):
        prepared(replace(store, vocab_languages=("ko",)), progress=False)
    with pytest.raises(ConfigError, match=r"--vocab-languages: the text has no 'eng' \(did you mean en\?\); it has en"):
        prepared(replace(config, vocab_languages=("eng",)), progress=False)


def test_vocabulary_sizes(config: DataConfig, tmp_path: Path) -> None:
    store = prepared(config, 300, progress=False)
    assert store.tokenizer.vocab_size == 300
    with pytest.raises(DataError, match="the text allows a vocabulary of"):
        prepared(config, 29_000, progress=False)
    own = replace(config, tokenizer=str(store.path / "tokenizer.json"))
    assert prepared(own, progress=False).digest == store.digest
    with pytest.raises(ConfigError, match="--vocab-size 301"):
        prepared(own, 301, progress=False)
    with pytest.raises(ConfigError, match="--tokenizer nowhere"):
        prepared(replace(config, tokenizer="nowhere"), progress=False)


def test_a_named_store_is_used_as_it_is(config: DataConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    built = prepare(config, tmp_path / "store", vocab_size=300, progress=False)
    named = DataConfig(data=(str(tmp_path / "store"),))
    assert prepared(named, progress=False).digest == built.digest
    Path(config.data[0]).write_text("changed\n" * 120)
    with caplog.at_level(logging.WARNING, "fastlm"):
        assert prepared(named, progress=False).digest == built.digest
    assert "has changed since" in caplog.text
    shutil.rmtree(Path(config.data[0]).parent)  # another machine
    assert prepared(named, progress=False).digest == built.digest
    for changes, flag in (({"split_seed": 5}, "--split-seed"), ({"tokenizer": "char"}, "--tokenizer")):
        with pytest.raises(ConfigError, match=flag):
            prepared(replace(named, **changes), progress=False)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--vocab-size 301"):
        prepared(named, 301, progress=False)
    with pytest.raises(ConfigError, match="cannot be mixed"):
        prepared(replace(named, data=(*named.data, str(tmp_path))), progress=False)
    with pytest.raises(ConfigError, match="is a prepared store already"):
        prepare(named, tmp_path / "other", progress=False)


def test_out_never_overwrites_something_else(config: DataConfig, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="not a prepared store"):
        prepare(config, out, progress=False)
    assert (out / "thesis.txt").read_text() == "x"
    store = prepare(config, tmp_path / "store", progress=False)
    assert stamp(prepare(config, tmp_path / "store", progress=False)) == stamp(store)
    with pytest.raises(DataError, match="already a store with another split_seed"):
        prepare(replace(config, split_seed=3), tmp_path / "store", progress=False)


def test_no_usable_text_is_refused_without_leftovers(tmp_path: Path) -> None:
    config = write(tmp_path / "text", [("", ""), (" ", "\t")])
    with pytest.raises(DataError):
        prepared(config, progress=False)
    assert not list((tmp_path / "cache").rglob("manifest.json")) and not left_in(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_build_leaves_nothing(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "_write_columns", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError):
        prepare(config, tmp_path / "out" / "store", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_source_that_changes_while_read_is_refused(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = module._rows

    def growing(*args: object) -> Iterator[object]:
        yield from rows(*args)  # type: ignore[arg-type]
        with open(config.data[1], "a") as file:
            file.write("late\n")

    monkeypatch.setattr(module, "_rows", growing)
    with pytest.raises(DataError, match="changed while it was being read"):
        prepared(config, progress=False)


def test_no_data_means_the_demo_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = module.demo.generate

    def few() -> list[tuple[str, str]]:
        calls.append(1)
        return real(seed=0, pairs=200)

    monkeypatch.setattr(module.demo, "generate", few)
    config = DataConfig(cache=str(tmp_path))
    store = prepared(config, 400, progress=False)
    assert len(store) == 400 and store.domain_names == ["demo"] and set(store.language_names) == {"ko", "en"}
    assert stamp(prepared(config, 400, progress=False)) == stamp(store) and len(calls) == 1


def test_the_cache_folder_can_be_chosen_and_must_be_writable(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTLM_CACHE", str(tmp_path / "elsewhere"))
    assert prepared(replace(config, cache=""), progress=False).path.is_relative_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="name a folder that can be written"):
        prepared(replace(config, cache=str(tmp_path / "file")), progress=False)


PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit an ignored SIGINT
from fastlm.data import prepare as module
from fastlm.data.config import DataConfig
encode = module._encode
def announced(*args):
    print("building", flush=True)
    {pause}
    return encode(*args)
module._encode = announced
ko, en, cache = sys.argv[1:]
print(module.prepared(DataConfig(data=(ko, en), cache=cache), progress=False).digest)
"""


def start(config: DataConfig, pause: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM.format(pause=pause), *config.data, config.cache]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_one_builds_the_other_waits(config: DataConfig) -> None:
    builder = start(config, "import time; time.sleep(1.5)")
    assert builder.stdout is not None and builder.stdout.readline() == "building\n"
    waiter = start(config, "")
    (built, _), (waited, messages) = builder.communicate(timeout=60), waiter.communicate(timeout=60)
    assert waited == built != ""  # the same digest, and no "building"
    assert f"waiting for process {builder.pid}" in messages
    assert not left_in(Path(config.cache))


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, -2)])
def test_a_killed_builder_is_cleaned_up_after(config: DataConfig, how: signal.Signals, code: int) -> None:
    builder = start(config, "import time; time.sleep(60)")
    assert builder.stdout is not None and builder.stdout.readline() == "building\n"
    builder.send_signal(how)
    builder.communicate(timeout=60)
    assert builder.returncode == code
    if how == signal.SIGINT:
        assert not left_in(Path(config.cache))
    begun = time.monotonic()
    prepared(config, progress=False).verify()  # its lock died with it
    assert time.monotonic() - begun < 10
    assert not left_in(Path(config.cache))


def test_the_real_text_shapes(shared_data: Path, tmp_path: Path) -> None:
    workbooks = DataConfig(data=(str(shared_data / "aihub_shaped"),), cache=str(tmp_path))
    store = prepared(workbooks, 2000, progress=False)
    assert len(store.domain_names) == 7 and set(store.language_names) == {"ko", "en"}
    assert store.manifest["rows"]["read"] == 7000
    store.verify()
    assert "all" in summary(store)
