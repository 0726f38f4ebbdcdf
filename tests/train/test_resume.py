"""Going on after a stop: the same bits, or a refusal that says why (faults.md, rows 1, 5, 9, 10, 11, 63)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastlm.errors import CheckpointError
from fastlm.train import checkpoint, metrics, trainer
from fastlm.train.config import RunConfig
from fastlm.train.signals import Interrupted
from fastlm.train.step import Stepper

MakeConfig = Callable[..., RunConfig]
Run = Callable[[RunConfig], str]
Spawn = Callable[..., subprocess.CompletedProcess[str]]


def learnt(run: Path) -> list[dict[str, Any]]:
    return metrics.without_timing(metrics.read(run / "metrics.jsonl"))


def weights(run: Path) -> dict[str, bytes]:
    """The files of the last checkpoint that depend on training alone."""
    last = checkpoint.folder(run, checkpoint.steps(run)[-1])
    return {name: (last / name).read_bytes() for name in (checkpoint.MODEL, checkpoint.OPTIMIZER)}


@pytest.mark.parametrize(("model", "batch"), [("encoder", {}), ("decoder", {}), ("encoder", {"batch_tokens": 250})])
def test_killed_at_a_random_step_and_resumed_is_bit_identical(
    make_config: MakeConfig, run: Run, spawn: Spawn, tmp_path: Path, model: str, batch: dict[str, int]
) -> None:
    values = {
        "model": model,
        "max_steps": 24,
        "eval_every": 7,
        "save_every": 5,
        "log_every": 4,
        "dropout": 0.1,
        **batch,
    }
    run(make_config(run=str(tmp_path / "straight"), workers=0, **values))
    step = random.Random(f"{model}{batch}").randint(2, 24)
    done = spawn(run=str(tmp_path / "killed"), workers=2, KILL=step, **values)
    assert done.returncode == -9, done.stderr
    assert checkpoint.steps(tmp_path / "killed")[-1:] != [24]
    run(make_config(run=str(tmp_path / "killed"), resume="auto", workers=1, **values))
    assert learnt(tmp_path / "killed") == learnt(tmp_path / "straight"), step
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight"), step


def test_sigterm_at_every_step_is_bit_identical(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops between lines, evaluations and saves, epoch borders among them (17 steps an epoch)."""
    values = {"max_steps": 20, "eval_every": 6, "save_every": 4, "log_every": 5, "dropout": 0.1, "keep": 3}
    run(make_config(run=str(tmp_path / "straight"), **values))
    plain = Stepper.run
    monkeypatch.setattr(Stepper, "run", lambda *a: (os.kill(os.getpid(), signal.SIGTERM), plain(*a))[1])
    for step in range(1, 21):
        with pytest.raises(Interrupted, match=f"after step {step},"):
            run(make_config(run=str(tmp_path / "stopped"), resume="auto", **values))
    monkeypatch.setattr(Stepper, "run", plain)
    said = run(make_config(run=str(tmp_path / "stopped"), resume="auto", **values))
    assert "already at step 20 of 20: nothing left to train" in said
    assert learnt(tmp_path / "stopped") == learnt(tmp_path / "straight")
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")
    assert checkpoint.best_step(tmp_path / "stopped") == checkpoint.best_step(tmp_path / "straight")


def test_resuming_a_finished_run_changes_nothing(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    run(make_config())
    before = learnt(tmp_path / "run"), weights(tmp_path / "run")
    assert "nothing left to train" in run(make_config(resume="auto"))
    assert (learnt(tmp_path / "run"), weights(tmp_path / "run")) == before


def test_resuming_a_run_whose_time_is_used_up_trains_no_step(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, slow = trainer.evaluate, [0.8]

    def evaluate(*arguments: Any, **options: Any) -> Any:
        time.sleep(slow.pop() if slow else 0)
        return plain(*arguments, **options)

    # The first evaluation makes the run leave time for another such, which the last does not take.
    monkeypatch.setattr(trainer, "evaluate", evaluate)
    values = {"max_steps": 0, "max_minutes": 1.2 / 60, "eval_every": 1}
    run(make_config(**values))
    before = learnt(tmp_path / "run"), weights(tmp_path / "run")
    for _ in range(2):
        said = run(make_config(**values, resume="auto"))
        assert "where --max-minutes 0.02 is used up: nothing left to train" in said
        assert (learnt(tmp_path / "run"), weights(tmp_path / "run")) == before
    run(make_config(**{**values, "max_minutes": 1.0, "max_steps": 40}, resume="auto"))
    assert checkpoint.steps(tmp_path / "run")[-1] == 40  # more time is training time again


def test_resume_auto_without_a_checkpoint_starts(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    assert "no checkpoint to resume from; starting at step 0" in run(make_config(resume="auto"))
    assert checkpoint.steps(tmp_path / "run") == [3, 6]


def test_more_steps_go_on_where_a_constant_schedule_ended(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    run(make_config(max_steps=6))
    run(make_config(max_steps=12, resume="auto"))
    run(make_config(max_steps=12, run=str(tmp_path / "straight")))
    assert learnt(tmp_path / "run") == learnt(tmp_path / "straight")
    assert weights(tmp_path / "run") == weights(tmp_path / "straight")


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_auto_steps_over_damage_and_an_explicit_path_is_refused(
    make_config: MakeConfig, run: Run, tmp_path: Path
) -> None:
    run(make_config(max_steps=9))
    straight = learnt(tmp_path / "run"), weights(tmp_path / "run")
    last = checkpoint.folder(tmp_path / "run", 9)
    damage(last / checkpoint.OPTIMIZER)
    with pytest.raises(CheckpointError, match=r"step-0000000009/optimizer.safetensors: damaged: SHA-256"):
        run(make_config(max_steps=9, run="", resume=str(last)))
    said = run(make_config(max_steps=9, resume="auto"))
    assert "optimizer.safetensors: damaged" in said
    assert "resuming from" in said
    assert "(step 6)" in said
    assert (learnt(tmp_path / "run"), weights(tmp_path / "run")) == straight
    assert last.with_name(last.name + ".damaged").is_dir()  # nothing is thrown away


def test_an_earlier_checkpoint_by_path(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    run(make_config(max_steps=9))
    straight = learnt(tmp_path / "run")
    run(make_config(max_steps=9, run="", resume=str(checkpoint.folder(tmp_path / "run", 6))))
    assert learnt(tmp_path / "run") == straight
    assert len([p for p in (tmp_path / "run/checkpoints").iterdir() if p.suffix == ".abandoned"]) == 1


def test_a_leftover_of_a_save_is_ignored_and_cleaned(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    run(make_config())
    leftover = tmp_path / "run/checkpoints/step-0000000009.tmp"
    leftover.mkdir()
    (leftover / checkpoint.MODEL).write_bytes(b"half")
    run(make_config(max_steps=7, resume="auto"))
    assert not leftover.exists()
    assert checkpoint.steps(tmp_path / "run") == [3, 6, 7] or checkpoint.steps(tmp_path / "run") == [6, 7]


def test_another_configuration_is_refused_with_every_difference(
    make_config: MakeConfig, run: Run, tmp_path: Path
) -> None:
    run(make_config())
    with pytest.raises(CheckpointError) as refused:
        run(make_config(resume="auto", layers=3, lr=2e-3, masking="static", log_every=1))
    message = str(refused.value)
    for part in ("model.layers 2 -> 3", "train.lr 0.001 -> 0.002", "data.masking 'dynamic' -> 'static'"):
        assert part in message
    assert "log_every" not in message
    with pytest.raises(CheckpointError, match=r"vocab_size 300 -> 280.*another tokenizer"):
        run(make_config(resume="auto", vocab_size=280))
    with pytest.raises(CheckpointError, match=r"train\.max_steps 6 -> 9"):
        run(make_config(run=str(tmp_path / "cosine"), schedule="cosine"))
        run(make_config(run=str(tmp_path / "cosine"), schedule="cosine", resume="auto", max_steps=9))


def test_other_text_is_refused_and_the_same_text_elsewhere_is_not(
    make_config: MakeConfig, run: Run, tmp_path: Path, corpus: tuple[str, ...]
) -> None:
    run(make_config())
    moved = []
    for path in corpus:
        moved.append(tmp_path / "moved" / Path(path).name)
        moved[-1].parent.mkdir(exist_ok=True)
        moved[-1].write_bytes(Path(path).read_bytes())
    with moved[0].open("a") as ko, moved[1].open("a") as en:
        ko.write("하나 더\n")
        en.write("one more\n")
    with pytest.raises(CheckpointError, match="other training text"):
        run(make_config(resume="auto", data=tuple(map(str, moved))))
    assert checkpoint.steps(tmp_path / "run") == [3, 6]


def test_other_arithmetic_goes_on_with_a_warning(make_config: MakeConfig, run: Run) -> None:
    run(make_config())
    said = run(make_config(resume="auto", max_steps=8, accumulate=2, dtype="bf16"))
    assert "not bit for bit" in said
    assert "train.accumulate 1 -> 2" in said
    assert "dtype float32 -> bfloat16" in said
