"""``fastlm tokenizer``: train, inspect, roundtrip."""

import argparse

import pytest

from fastlm.cli import tokenizer as command
from fastlm.cli.flags import Parser
from fastlm.errors import ConfigError, DataError
from fastlm.text.tokenizer import Tokenizer


def run(*words):
    parser = Parser(prog="fastlm")
    command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args([str(word) for word in words])
    assert isinstance(args, argparse.Namespace)
    return command.run(args)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "ko.txt").write_text("나는 학교에 갔다.\n너는 [MASK] 갔다.\n\n" * 30)
    (folder / "en.txt").write_text("I went to school.\nYou went there.\n\n" * 30)
    return folder


def test_train_then_inspect_then_roundtrip(data, tmp_path, capsys):
    out = tmp_path / "t.json"
    assert run("tokenizer", "train", "--data", data, "--kind", "char", "--vocab-size", 300, "--out", out) == 0
    text = capsys.readouterr().out
    saved = Tokenizer.load(out)
    assert saved.kind == "char"
    assert f"char, {saved.vocab_size:,} tokens from 120 texts" in text
    assert saved.digest in text
    assert "60 blanks, 30 special texts" in text

    assert run("tokenizer", "inspect", out, "나는 [MASK] 갔다") == 0
    text = capsys.readouterr().out
    assert saved.digest in text
    assert f"{saved.merges:,} merges" in text
    assert f"[MASK]({saved.mask_id})" in text

    assert run("tokenizer", "roundtrip", out, "--data", data) == 0
    table = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line[:2] in ("ko", "en")}
    korean = ["나는 학교에 갔다.", "너는 [MASK] 갔다."]
    tokens = sum(map(len, saved.encode_batch(korean)))
    assert table["ko"] == ["ko", "60", f"{tokens / 2:.2f}", f"{tokens / sum(map(len, korean)):.3f}", "0"]
    assert table["en"][1] == "60"


def test_roundtrip_reports_what_is_lost(data, tmp_path, capsys, monkeypatch):
    out = tmp_path / "t.json"
    run("tokenizer", "train", "--data", data, "--vocab-size", 300, "--out", out)
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: "wrong")
    assert run("tokenizer", "roundtrip", out, "--data", data) == 1
    assert "not round-tripped: '나는 학교에 갔다.'" in capsys.readouterr().out


def test_reading_flags_reach_the_reader(data, tmp_path):
    (data / "ko.txt").write_text("하나\n")
    out = tmp_path / "t.json"
    with pytest.raises(DataError, match="--align no"):
        run("tokenizer", "train", "--data", data, "--vocab-size", 270, "--out", out)
    assert not out.exists()
    assert run("tokenizer", "train", "--data", data, "--vocab-size", 270, "--align", "no", "--out", out) == 0


def test_faults(data, tmp_path):
    out = tmp_path / "t.json"
    with pytest.raises(DataError, match="--vocab-size"):
        run("tokenizer", "train", "--data", data, "--exact", "--out", out)
    with pytest.raises(ConfigError, match="its folder does not exist"):
        run("tokenizer", "train", "--data", data, "--out", tmp_path / "no" / "t.json")
    with pytest.raises(ConfigError, match="kind 'word'"):
        run("tokenizer", "train", "--data", data, "--kind", "word", "--out", out)
    assert not out.exists()
    with pytest.raises(DataError, match=r"t\.json"):
        run("tokenizer", "inspect", out)
