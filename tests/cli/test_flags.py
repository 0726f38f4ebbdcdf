"""Flags, TOML keys and their refusals (faults.md row 60)."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastlm.cli.flags import run_config_from_args
from fastlm.cli.main import build_parser, main
from fastlm.config import as_dict, differences, flag_name, sections, update
from fastlm.errors import ConfigError
from fastlm.train.config import RunConfig


def config_of(*words: str, toml: str = "") -> RunConfig:
    args = build_parser().parse_args(["train", *words])
    return run_config_from_args(args, RunConfig(), toml or args.config)


def test_defaults_are_the_records() -> None:
    config = config_of()
    assert config == RunConfig()
    assert (config.model.d_model, config.model.heads, config.model.ff, config.model.dropout) == (512, 8, 2048, 0.1)
    assert (config.model.seq_len, config.data.batch_size, config.train.lr) == (256, 256, 5e-4)


def test_every_field_is_a_flag_with_help() -> None:
    for kind in sections(RunConfig).values():
        for field in dataclasses.fields(kind):
            assert field.metadata["help"], field.name


def test_flag_names_are_unique() -> None:
    names = [flag_name(f) for kind in sections(RunConfig).values() for f in dataclasses.fields(kind)]
    assert len(names) == len(set(names))


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'layers = 3\nlr = 1e-3\n[data]\nbatch-size = 64\ndata = ["a.txt", "b.txt"]\n[train]\ncompile = true\n'
    )
    config = config_of("--config", str(file), "--layers", "4")
    assert (config.model.layers, config.train.lr, config.data.batch_size) == (4, 1e-3, 64)
    assert config.data.data == ("a.txt", "b.txt")
    assert config.train.compile


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "4"], "did you mean --layers?"),
        (["--d-modle", "4"], "did you mean --d-model?"),
        (["--layers", "four"], "--layers: 'four' is not a whole number"),
        (["--layers", "0"], "1 or more"),
        (["--model", "encodr"], "did you mean encoder?"),
        (["--optimizer", "adam"], "adamw, adam-l2"),
        (["--lr", "fast"], "is not a number"),
        (["--mask-rate", "1.5"], "0 to 1"),
        (["--mask-rate", "nan"], "0 to 1"),
        (["--mask-rate", "-0.1"], "0 to 1"),
        (["--beta1", "1"], "--beta1: 1.0 is outside the allowed range: 0 or more and below 1"),
        (["--beta2", "1.0"], "0 or more and below 1"),
        (["--beta2", "nan"], "0 or more and below 1"),
        (["--beta2", "-0.1"], "0 or more and below 1"),
        (["--d-model", "100"], "not a multiple of --heads"),
        (["--d-model", "64", "--heads", "8"], "head width 8"),
        (["--d-model"], "expected one argument"),
    ],
)
def test_bad_flags_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        config_of(*words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layrs = 3\n", "did you mean layers"),
        ("[model]\nlr = 1e-3\n", r"unknown key 'lr' in \[model\]"),
        ("layers = 'three'\n", "is not a whole number"),
        ("layers = true\n", "is not a whole number"),
        ("compile = 1\n", "is not true or false"),
        ("layers = \n", "not TOML"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        config_of(toml=str(file))
    assert "run.toml" in str(caught.value)


def test_missing_config_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config_of(toml=str(tmp_path / "none.toml"))


def test_one_line_errors_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "did you mean train?" in error
    assert main(["train", "--modle", "x"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(ConfigError):
        main(["--debug", "train", "--layers", "x"])


def test_config_round_trips_through_a_dictionary() -> None:
    config = config_of("--layers", "3", "--data", "ko=a b.txt", "--beta2", "0.98")
    assert update(RunConfig(), as_dict(config)) == config
    assert [d[0] for d in differences(RunConfig(), config)] == ["model.layers", "data.data", "train.beta2"]


@pytest.mark.parametrize("command", [[], ["train"], ["fill"], ["tokenizer"]])
def test_help_takes_under_three_tenths_of_a_second(command: list[str]) -> None:
    before = os.times()
    done = subprocess.run([sys.executable, "-m", "fastlm.cli.main", *command, "--help"], capture_output=True, text=True)
    after = os.times()
    assert done.returncode == 0
    assert "usage: fastlm" in done.stdout
    # Processor time: help waits for nothing, and a busy machine must not fail it.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.3


def test_broken_pipe_is_silent() -> None:
    done = subprocess.run(
        f"{sys.executable} -m fastlm.cli.main train --help | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("usage")
    assert done.stderr == ""


def test_sigusr1_is_harmless_before_torch_is_there() -> None:
    code = (
        "import os, signal, sys\n"
        "from fastlm.cli import main, train\n"
        "def resumed(config):\n"
        "    os.kill(os.getpid(), signal.SIGUSR1); sys.exit('torch' in sys.modules)\n"
        "train._resumed = resumed\n"
        "main.main(['train', '--run', 'any', '--resume', 'auto'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
