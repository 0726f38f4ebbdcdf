"""``fastlm prepare`` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlm.cli.flags import Parser
from fastlm.cli.prepare import add_parser
from fastlm.data.store import Store
from fastlm.errors import ConfigError, DataError


def run(*words: str) -> int:
    parser = Parser(prog="fastlm")
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["prepare", *words])
    return int(args.handler(args))


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    for name, line in (("ko", "강은 {} 번 흐른다\n"), ("en", "the river runs {} times\n")):
        (tmp_path / f"{name}.txt").write_text("".join(line.format(n) for n in range(200)), encoding="utf-8")
    return ["--data", str(tmp_path / "ko.txt"), str(tmp_path / "en.txt")]


def test_prepares_and_says_what_there_is(text: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "store"
    assert run(*text, "--vocab-size", "300", "--out", str(out), "--valid-fraction", "0.2") == 0
    printed = capsys.readouterr().out
    store = Store.open(out)
    assert store.tokenizer.vocab_size == 300 and len(store) == 400
    assert store.digest[:12] in printed and "200 read, 0 repeats removed" in printed
    assert "ko" in printed and "held out" in printed
    # A prepared store given back is described, not prepared again.
    assert run("--data", str(out)) == 0
    assert store.digest[:12] in capsys.readouterr().out


def test_the_cache_is_used_without_out(text: list[str], tmp_path: Path) -> None:
    assert run(*text, "--cache", str(tmp_path / "cache")) == 0
    assert len(list((tmp_path / "cache").rglob("manifest.json"))) == 1


def test_bad_input_is_refused(text: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch-size"):
        run(*text, "--batch-size", "3")  # decided when training, not when preparing
    with pytest.raises(DataError, match="no such file"):
        run("--data", str(tmp_path / "nothing.txt"), "--cache", str(tmp_path / "cache"))
    (tmp_path / "en.txt").write_text("one line\n")
    with pytest.raises(DataError):
        run(*text, "--out", str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
