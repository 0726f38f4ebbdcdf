"""A few hundred short sentence pairs and the smallest run that still has everything."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastlm.config import as_dict, update
from fastlm.train import trainer
from fastlm.train.config import RunConfig

WORDS = {
    "ko": [
        "나는",
        "너는",
        "우리는",
        "학교에",
        "집에서",
        "책을",
        "물을",
        "간다",
        "읽는다",
        "마신다",
        "오늘",
        "내일",
        "천천히",
    ],
    "en": [
        "we",
        "they",
        "people",
        "slowly",
        "read",
        "drink",
        "leave",
        "water",
        "books",
        "school",
        "today",
        "at",
        "the",
    ],
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Two line-aligned files of 300 lines."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(7)
    for language, words in WORDS.items():
        lines = [" ".join(draw.choices(words, k=draw.randint(2, 9))) for _ in range(300)]
        (folder / f"{language}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "ko.txt"), str(folder / "en.txt")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prepared stores, shared by the session."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def make_config(corpus: tuple[str, ...], cache: str, tmp_path: Path) -> Callable[..., RunConfig]:
    """A toy run's config; keyword arguments override."""

    def make(**values: Any) -> RunConfig:
        base: dict[str, Any] = {
            "data": corpus,
            "cache": cache,
            "d_model": 32,
            "heads": 2,
            "ff": 64,
            "layers": 2,
            "seq_len": 64,
            "vocab_size": 300,
            "batch_size": 32,
            "run": str(tmp_path / "run"),
            "max_steps": 6,
            "eval_every": 3,
            "log_every": 2,
            "warmup": 2,
            "lr": 1e-3,
            "dtype": "fp32",
            "device": "cpu",
            "threads": 1,
            "workers": 0,
        }
        return update(RunConfig(), {**base, **values})

    return make


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than a toy run; test_charts.py tests it."""
    monkeypatch.setattr(trainer, "plot", lambda runs, out: [])


@pytest.fixture
def run(no_charts: None) -> Callable[[RunConfig], str]:
    """Trains and returns what was printed."""

    def go(config: RunConfig) -> str:
        out = io.StringIO()
        trainer.train(config, console=Console(file=out, width=200))
        return out.getvalue()

    return go


@pytest.fixture
def spawn(make_config: Callable[..., RunConfig]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Trains in another process; ``KILL``, ``TERM``, ``INT`` and ``USR1`` name the step at which it gets the signal."""

    def go(*, launcher: tuple[str, ...] = (), **values: Any) -> subprocess.CompletedProcess[str]:
        signals = {name: values.pop(name) for name in ("KILL", "TERM", "INT", "USR1", "RANK") if name in values}
        plain = {key: value for part in as_dict(make_config(**values)).values() for key, value in part.items()}
        settings = json.dumps({**plain, **signals})
        command = [sys.executable, *launcher, str(Path(__file__).with_name("train_process.py")), settings]
        pipe = subprocess.PIPE
        # a session of its own, so that a hang ends with every process that the launcher started
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
            try:
                out, err = process.communicate(timeout=240)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return go
