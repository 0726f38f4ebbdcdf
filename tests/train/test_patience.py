"""Ending early: after evaluations that do not improve, the same after any resume, and where a watcher says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastlm.train import checkpoint, metrics, trainer
from fastlm.train.config import RunConfig
from fastlm.train.progress import Patience, Progress
from tests.train.test_resume import learnt, weights

MakeConfig = Callable[..., RunConfig]
Run = Callable[[RunConfig], str]
Spawn = Callable[..., Any]

#: a rate at which the validation loss soon rises
RISING = {"lr": 0.3, "warmup": 1, "max_steps": 60, "eval_every": 2, "log_every": 3, "patience": 3, "clip": 0.0}


def valid_steps(run: Path) -> list[int]:
    return [line["step"] for line in metrics.read(run / "metrics.jsonl") if line["split"] == "valid"]


def test_patience_counts_evaluations_since_the_lowest() -> None:
    patience = Patience()
    counted = []
    for loss in (5.0, 4.0, 4.5, None, float("nan"), 4.0, 3.9):
        patience.note(loss)
        counted.append(patience.stale)
    assert counted == [0, 0, 1, 2, 3, 4, 0]


def test_a_run_ends_when_its_patience_does(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    said = run(make_config(**RISING))
    lines = [line for line in metrics.read(tmp_path / "run" / "metrics.jsonl") if line["split"] == "valid"]
    losses = [line["loss"] for line in lines]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 3 and lines[-1]["step"] < 60
    assert "ended early: 3 evaluations without a lower loss" in said
    assert checkpoint.steps(tmp_path / "run")[-1] == lines[-1]["step"]
    assert checkpoint.best_step(tmp_path / "run") == lines[best]["step"]


def test_going_on_changes_nothing_until_there_is_more_patience(
    make_config: MakeConfig, run: Run, tmp_path: Path
) -> None:
    run(make_config(**RISING))
    before = learnt(tmp_path / "run"), weights(tmp_path / "run")
    said = run(make_config(**RISING, resume="auto"))
    assert "where --patience 3 is used up: nothing left to train" in said
    assert (learnt(tmp_path / "run"), weights(tmp_path / "run")) == before
    longer = {**RISING, "patience": 5}
    run(make_config(**longer, resume="auto"))
    run(make_config(**longer, run=str(tmp_path / "straight")))
    assert learnt(tmp_path / "run") == learnt(tmp_path / "straight")
    assert weights(tmp_path / "run") == weights(tmp_path / "straight")


def test_killed_and_resumed_ends_at_the_same_step(
    make_config: MakeConfig, run: Run, spawn: Spawn, tmp_path: Path
) -> None:
    run(make_config(**RISING))
    last = valid_steps(tmp_path / "run")[-1]
    killed = spawn(**RISING, run=str(tmp_path / "killed"), KILL=last - 1)
    assert killed.returncode == -9, killed.stderr
    run(make_config(**RISING, run=str(tmp_path / "killed"), resume="auto"))
    assert learnt(tmp_path / "killed") == learnt(tmp_path / "run")
    assert weights(tmp_path / "killed") == weights(tmp_path / "run")


def test_the_step_that_patience_ends_at_is_saved(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    run(make_config(**RISING, save_every=1000))
    assert checkpoint.steps(tmp_path / "run") == [valid_steps(tmp_path / "run")[-1]]


def test_a_watcher_ends_a_run_after_an_evaluation(make_config: MakeConfig, no_charts: None, tmp_path: Path) -> None:
    asked: list[int] = []

    def watch(step: int, scores: metrics.Scores) -> bool:
        assert scores.overall.loss == metrics.read(tmp_path / "run" / "metrics.jsonl")[-1]["loss"]
        asked.append(step)
        return step >= 4

    trainer.train(make_config(max_steps=10, eval_every=2), console=Console(quiet=True), watch=watch)
    assert asked == [2, 4] == valid_steps(tmp_path / "run")
    assert checkpoint.steps(tmp_path / "run")[-1] == 4


def test_a_checkpoint_from_before_there_was_patience_is_read(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Progress.as_json
    monkeypatch.setattr(Progress, "as_json", lambda self: {k: v for k, v in plain(self).items() if k != "patience"})
    run(make_config(max_steps=3))
    monkeypatch.setattr(Progress, "as_json", plain)
    run(make_config(max_steps=6, resume="auto"))
    state = json.loads((checkpoint.folder(tmp_path / "run", 6) / checkpoint.STATE).read_bytes())
    assert state["progress"]["patience"]["stale"] == 0
