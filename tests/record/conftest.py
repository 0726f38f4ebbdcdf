"""A small parallel text, a case of two runs that are over in seconds, and a search of short trials."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlm.data.demo import generate

CASE = """
title = "One and two layers"
date = "2026/11/26"
compares = "1 and 2 layers"
[original]
observed = "nothing"
[corpus]
text = "both languages"
languages = ["ko", "en"]
vocabulary = 400
[compare]
by = "epoch"
[base]
d-model = 32
heads = 2
ff = 64
batch-size = 32
warmup = 5
epochs = 4.0
valid-sentences = 32
log-every = 7
dtype = "fp32"
[runs.layers-1]
layers = 1
[runs.layers-2]
layers = 2
"""
#: a search of twenty trials that take a second each
SEARCH = """
title = "a toy search"
trials = 20
[base]
layers = 1
d-model = 32
heads = 2
ff = 64
vocab-size = 400
batch-size = 16
max-steps = 30
eval-every = 5
valid-sentences = 16
warmup = 2
dtype = "fp32"
[search.lr]
low = 1e-4
high = 1e-2
scale = "log"
[search.dropout]
low = 0.0
high = 0.3
[search.layers]
low = 1
high = 2
[search.optimizer]
choices = ["adamw", "adam-l2"]
[pruning]
startup_trials = 3
"""


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two aligned files of 600 lines; prepared stores go to a cache beside it."""
    root = tmp_path_factory.mktemp("record")
    os.environ["FASTLM_CACHE"] = str(root / "cache")
    (root / "text").mkdir()
    for language, side in (("ko", 0), ("en", 1)):
        lines = "".join(pair[side] + "\n" for pair in generate(pairs=600))
        (root / "text" / f"{language}.txt").write_text(lines, encoding="utf-8")
    return root / "text"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """The file of the toy case."""
    (tmp_path / "toy.toml").write_text(CASE, encoding="utf-8")
    return tmp_path / "toy.toml"


Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def fastlm(text: Path) -> Command:
    """Starts ``fastlm WORDS...`` in a process group of its own."""

    def start(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fastlm.cli.main", *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    return start


def finish(process: subprocess.Popen[str], code: int = 0, *, seconds: float = 240) -> str:
    """What a command printed, when it ends with that exit code in that time."""
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, said
    return said
