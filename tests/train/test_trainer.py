"""Whole runs at toy size: what is written, printed and refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import math
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastlm import ops
from fastlm.config import as_dict
from fastlm.errors import CheckpointError, ConfigError
from fastlm.ops import _backend
from fastlm.train import checkpoint, distributed, metrics, plan, trainer
from fastlm.train.config import RunConfig
from fastlm.train.nonfinite import NonFinite
from fastlm.train.signals import Interrupted
from fastlm.train.step import Stepper

MakeConfig = Callable[..., RunConfig]
Run = Callable[[RunConfig], str]
Spawn = Callable[..., subprocess.CompletedProcess[str]]


def after_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[Stepper], Any]) -> None:
    """Does something when optimizer step ``number`` (1-based) is about to run."""
    plain = Stepper.run

    def watched(self: Stepper, step: Any, *arguments: Any) -> Any:
        if step.index + 1 == number:
            action(self)
        return plain(self, step, *arguments)

    monkeypatch.setattr(Stepper, "run", watched)


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_a_run_writes_everything(make_config: MakeConfig, tmp_path: Path, model: str) -> None:
    config = make_config(model=model, max_steps=7)
    path = trainer.train(config)
    assert path == tmp_path / "run"
    lines = metrics.read(path / "metrics.jsonl")
    assert [(x["split"], x["step"]) for x in lines] == [
        ("train", 2), ("valid", 3), ("train", 4), ("train", 6), ("valid", 6), ("train", 7), ("valid", 7),
    ]  # fmt: skip
    for line in lines:
        assert {"epoch", "tokens", "sentences", "loss", "accuracy", "bits_per_character", "tokens_per_second", "lr",
                "seconds"} <= line.keys()  # fmt: skip
        assert set(line["languages"]) == {"ko", "en"}
        assert 0 < line["loss"] < 8
    assert [x["sentences"] for x in lines if x["split"] == "train"] == [64, 128, 192, 224]
    total = sum(x["targets"] for x in lines if x["split"] == "train")
    assert total == sum(v["targets"] for x in lines if x["split"] == "train" for v in x["languages"].values())
    assert {p.name for p in (path / "charts").iterdir()} == {"loss.png", "accuracy.png", "bits_per_character.png"}
    written = json.loads((path / "config.json").read_text())
    assert written["requested"] == as_dict(config)
    assert written["config"]["model"]["vocab_size"] == written["decided"]["parameters"] * 0 + 300
    assert set(written["decided"]["text"]["unigram_loss"]["languages"]) == {"ko", "en"}
    for which in ("best", "latest", 7):
        loaded = checkpoint.load(path, which)
        assert not loaded.model.training
        assert loaded.tokenizer.vocab_size == loaded.config.model.vocab_size
    assert loaded.step == 7
    assert checkpoint.steps(path) == [6, 7]


def test_the_loss_falls_below_the_unigram_baseline(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    run(make_config(max_steps=150, eval_every=150, log_every=50, save_every=150, lr=3e-3, dropout=0.0))
    unigram = json.loads((tmp_path / "run/config.json").read_text())["decided"]["text"]["unigram_loss"]
    last = metrics.read(tmp_path / "run/metrics.jsonl")[-1]
    for language in ("ko", "en"):
        assert last["languages"][language]["loss"] < unigram["languages"][language] - 0.1


def test_what_was_decided_is_said_once(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    said = run(make_config())
    for part in ("encoder, 2 layers, d 32", "parameters", "cpu, float32, 1 threads", "softmax ", "text     train",
                 "baseline unigram", "6 steps", "steps an epoch", "evaluation every 3 steps"):  # fmt: skip
        assert said.count(part) == 1, (part, said)
    assert said.rstrip().endswith(f"run      {tmp_path / 'run'}")
    assert "best validation loss" in said


def test_a_missing_fast_path_is_loud(make_config: MakeConfig, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.ops, "native_fault", lambda: "the C++ ops are not built")
    assert "warning: slow path: the C++ ops are not built" in run(make_config(max_steps=1))


def test_a_run_with_checkpoints_is_not_overwritten(make_config: MakeConfig, run: Run) -> None:
    run(make_config())
    with pytest.raises(CheckpointError, match="has a checkpoint of step 6 already; go on with --resume auto, or"):
        run(make_config())


def test_the_same_seed_gives_the_same_run_and_another_does_not(
    make_config: MakeConfig, run: Run, tmp_path: Path
) -> None:
    found = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(make_config(run=str(tmp_path / name), seed=seed, dropout=0.1))
        found[name] = metrics.without_timing(metrics.read(tmp_path / name / "metrics.jsonl"))
    assert found["a"] == found["b"]
    assert found["a"] != found["c"]
    # validation is masked alike in every run: the first scores differ by the weights alone
    targets = {x["targets"] for name in found for x in found[name] if x["split"] == "valid"}
    assert len(targets) == 1


@pytest.mark.parametrize(("name", "number", "code"), [("INT", signal.SIGINT, 130), ("TERM", signal.SIGTERM, 143)])
def test_a_signal_saves_and_leaves(
    make_config: MakeConfig,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    number: int,
    code: int,
) -> None:
    before = signal.getsignal(number)
    after_step(monkeypatch, 2, lambda _: os.kill(os.getpid(), number))
    with pytest.raises(
        Interrupted, match=f"stopped by SIG{name} after step 2, which is saved; go on with --run"
    ) as left:
        run(make_config())
    assert left.value.exit_code == code
    assert checkpoint.steps(tmp_path / "run") == [2]
    assert signal.getsignal(number) is before
    assert not [x for x in metrics.read(tmp_path / "run/metrics.jsonl") if x["split"] == "valid"]  # evaluates nothing


def test_usr1_saves_and_goes_on(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step(monkeypatch, 2, lambda _: os.kill(os.getpid(), signal.SIGUSR1))
    run(make_config(keep=10))
    assert checkpoint.steps(tmp_path / "run") == [2, 3, 6]


def test_usr1_while_the_text_is_prepared_is_answered_after_the_first_step(spawn: Spawn, tmp_path: Path) -> None:
    done = spawn(USR1=0, keep=10)
    assert done.returncode == 0, done.stderr
    assert checkpoint.steps(tmp_path / "run") == [1, 3, 6]


def test_sigterm_while_the_text_is_prepared_ends_the_process(spawn: Spawn, tmp_path: Path) -> None:
    done = spawn(TERM=0)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert not checkpoint.steps(tmp_path / "run")


def test_a_signal_cuts_an_evaluation_short(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trainer.setup.validation_batches

    def interrupted(ready: Any) -> Any:
        yield from (os.kill(os.getpid(), signal.SIGTERM) or batch for batch in plain(ready))

    monkeypatch.setattr(trainer.setup, "validation_batches", lambda ready: two(interrupted(ready)))
    with pytest.raises(Interrupted):
        run(make_config())
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "plot", lambda runs, out: [])
    run(make_config(resume="auto"))
    assert [x["step"] for x in metrics.read(tmp_path / "run/metrics.jsonl") if x["split"] == "valid"] == [3, 6]


def two(batches: Any) -> Any:
    """The same batches twice, so that there is a next one after the signal."""
    for batch in batches:
        yield batch
        yield batch


def poison(stepper: Stepper) -> None:
    stepper.model.blocks[0].mlp.register_forward_hook(lambda m, i, o: o * math.nan)


def test_one_bad_step_is_skipped_counted_and_said(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison_once(stepper: Stepper) -> None:
        handle = stepper.model.blocks[0].mlp.register_forward_hook(lambda m, i, o: (handle.remove(), o * math.nan)[1])

    after_step(monkeypatch, 3, poison_once)
    said = run(make_config())
    assert "step 3: loss is not finite; the step is skipped (1 in a row)" in said
    assert "1 steps skipped" in said
    lines = [x for x in metrics.read(tmp_path / "run/metrics.jsonl") if x["split"] == "train"]
    assert [x["skipped"] for x in lines] == [0, 1, 1]
    assert all(math.isfinite(x["loss"]) for x in lines)


def test_many_bad_steps_stop_the_run_with_a_dump(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step(monkeypatch, 2, poison)
    with pytest.raises(
        NonFinite, match=r"step 6: loss not finite in 5 steps in a row; see .*step-0000000005-rank-0.json"
    ):
        run(make_config(max_steps=20, eval_every=20))
    report = json.loads((tmp_path / "run/debug/step-0000000005-rank-0.json").read_text())
    assert report["first_non_finite_module"] == "blocks.0.mlp"


def test_bad_steps_with_good_ones_between_stop_nothing(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Stepper.run

    def every_other(self: Stepper, step: Any, *arguments: Any) -> Any:
        if step.index % 2:
            return plain(self, step, *arguments)
        handle = self.model.blocks[0].mlp.register_forward_hook(lambda m, i, o: o * math.nan)
        try:
            return plain(self, step, *arguments)
        finally:
            handle.remove()

    monkeypatch.setattr(Stepper, "run", every_other)
    assert "6 steps skipped" in run(make_config(max_steps=12, eval_every=12))


def test_the_speed_of_an_evaluation_is_that_of_all_ranks(
    make_config: MakeConfig, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    plain, batches = trainer.Trainer._line, trainer.setup.validation_batches

    def line(self: trainer.Trainer, split: str, score: Any, tokens: int, seconds: float) -> dict[str, Any]:
        if split == "valid":
            own = sum(len(batch.tokens) for batch in batches(self.ready))
            counted.extend((tokens, own))
        return plain(self, split, score, tokens, seconds)

    monkeypatch.setattr(trainer.Trainer, "_line", line)
    monkeypatch.setattr(distributed.World, "sum", lambda self, values: values.mul_(2))  # as with an equal second rank
    run(make_config(max_steps=1))
    tokens, own = counted
    assert tokens == 2 * own > 0


def spoil_evaluations(monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
    """Makes the validation loss of some evaluations (the n-th, from 1) NaN."""
    plain, count = trainer.evaluate, itertools.count(1)

    def evaluate(*arguments: Any, **options: Any) -> metrics.Scores:
        scores = plain(*arguments, **options)
        if next(count) not in steps:
            return scores
        return dataclasses.replace(scores, overall=dataclasses.replace(scores.overall, loss=math.nan))

    monkeypatch.setattr(trainer, "evaluate", evaluate)


def test_states_of_no_finite_validation_loss_take_no_good_checkpoints_place(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_evaluations(monkeypatch, range(5, 100))
    said = run(make_config(max_steps=8, eval_every=1, keep=2))
    good = checkpoint.folder(tmp_path / "run", 4)
    for step in (5, 6, 7, 8):
        assert f"warning: step {step}: the validation loss is not finite; " in said
    assert said.count(f"--resume {good} goes back to the last one") == 4
    best = checkpoint.best_step(tmp_path / "run")
    assert best is not None and best <= 4
    assert checkpoint.steps(tmp_path / "run") == sorted({best, 3, 4, 8})
    # What was doubted stays so over a resume, which says it at once.
    said = run(make_config(max_steps=10, eval_every=1, keep=2, resume="auto"))
    assert said.count("warning: step 8: the validation loss is not finite") == 1
    assert checkpoint.steps(tmp_path / "run") == sorted({best, 3, 4, 8, 10})


def test_a_validation_loss_that_is_finite_again_ends_the_doubt(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_evaluations(monkeypatch, range(1, 3))
    said = run(make_config(max_steps=8, eval_every=1, keep=2))
    assert said.count("there is none yet") == 2
    assert checkpoint.steps(tmp_path / "run") == sorted({checkpoint.best_step(tmp_path / "run"), 7, 8})


def test_no_held_out_text_is_no_doubt(make_config: MakeConfig, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.setup, "validation_batches", lambda ready: iter(()))
    assert "not finite" not in run(make_config())


def fail_saves(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    plain = checkpoint.save

    def save(run: Path, step: int, *arguments: Any) -> Path:
        if step in steps:
            raise OSError(28, "No space left on device")
        return plain(run, step, *arguments)

    monkeypatch.setattr(checkpoint, "save", save)


def test_a_failed_save_is_a_warning(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_saves(monkeypatch, {3})
    assert "checkpoint of step 3 not saved: No space left on device; training goes on" in run(make_config())
    assert checkpoint.steps(tmp_path / "run") == [6]


def test_three_failed_saves_or_the_last_one_stop_the_run(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_saves(monkeypatch, {2, 3, 4})
    with pytest.raises(trainer.SaveFailed, match=r"step 4 not saved.*step 1 is the last good one") as left:
        run(make_config(save_every=1))
    assert left.value.exit_code == 4
    assert checkpoint.load(tmp_path / "run", "latest").step == 1
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "plot", lambda runs, out: [])
    fail_saves(monkeypatch, {6})
    with pytest.raises(trainer.SaveFailed, match="there is none"):
        run(make_config(run=str(tmp_path / "other"), save_every=6))


def test_charts_that_cannot_be_drawn_cost_a_warning(
    make_config: MakeConfig, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer, "plot", refuse)
    assert "warning: no charts" in run(make_config(max_steps=1))


def test_max_minutes_ends_cleanly(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    said = run(make_config(max_steps=0, max_minutes=0.02))
    lines = metrics.read(tmp_path / "run/metrics.jsonl")
    last = lines[-1]["step"]
    assert [x["split"] for x in lines if x["step"] == last][-2:] == ["train", "valid"] or last % 2 == 0
    assert lines[-1]["split"] == "valid"
    assert checkpoint.steps(tmp_path / "run")[-1] == last
    assert f"finished step {last}" in said


def test_best_is_the_lowest_validation_loss_and_is_kept(make_config: MakeConfig, run: Run, tmp_path: Path) -> None:
    run(make_config(max_steps=30, eval_every=3, lr=0.5, keep=1))  # such a rate only makes things worse
    losses = {x["step"]: x["loss"] for x in metrics.read(tmp_path / "run/metrics.jsonl") if x["split"] == "valid"}
    best = min(losses, key=losses.__getitem__)
    assert checkpoint.load(tmp_path / "run", "best").step == best
    assert set(checkpoint.steps(tmp_path / "run")) == {best, 30}


def test_a_demo_has_its_own_length_and_other_text_epochs(make_config: MakeConfig) -> None:
    none = {"max_steps": 0, "epochs": 0.0, "max_minutes": 0.0}
    config, note = plan.with_default_length(make_config(data=(), **none, eval_every=0))
    assert (config.train.max_steps, config.train.eval_every) == (plan.DEMO_STEPS, plan.DEMO_STEPS // 6)
    assert f"a demonstration of {plan.DEMO_STEPS} steps" in note
    config, note = plan.with_default_length(make_config(**none))
    assert (config.train.epochs, config.train.max_steps) == (32.0, 0)
    assert "32 epochs" in note
    unchanged = make_config(data=(), epochs=0.5, max_steps=0)
    assert plan.with_default_length(unchanged) == (unchanged, "")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dtype": "fp16"}, "--dtype fp16 needs a CUDA device"),
        ({"schedule": "cosine", "max_steps": 0, "max_minutes": 1.0}, "--schedule cosine needs --epochs or --max-steps"),
        pytest.param(
            {"device": "cuda"}, "--device cuda: torch sees no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device"),
        ),
    ],
)  # fmt: skip
def test_refusals_before_the_first_step(
    make_config: MakeConfig, run: Run, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(make_config(**values))
    assert not checkpoint.steps(tmp_path / "run")


def test_triton_missing_is_refused_before_the_first_step(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_backend, "_faults", dict(_backend._faults))
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        ops.load_triton()
    expected = r"--kernels triton: \w+: Triton is not installed .*; use --kernels auto"
    with ops.use_backend(None), pytest.raises(ConfigError, match=expected):
        run(make_config(kernels="triton"))
    assert not checkpoint.steps(tmp_path / "run")


def test_tensorboard_missing_is_refused_before_anything(
    make_config: MakeConfig, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    monkeypatch.delitem(__import__("sys").modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match=r"--tensorboard: .*pip install tensorboard"):
        run(make_config(tensorboard=True))
    assert not (tmp_path / "run").exists()
