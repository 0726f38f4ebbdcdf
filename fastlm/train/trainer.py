"""The training loop: one trainer for encoder and decoder, from a config to a run folder.

What happens after a step has one order - training line, evaluation, checkpoint, leaving - so that a checkpoint holds
everything that came before it and a resumed run repeats and misses nothing.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fastlm.batch import Batch, Step
from fastlm.config import as_dict
from fastlm.errors import CheckpointError
from fastlm.train import checkpoint, display, distributed, nonfinite, optim, setup, tracker
from fastlm.train.allocator import keep_freed_memory
from fastlm.train.charts import plot
from fastlm.train.config import RunConfig
from fastlm.train.display import Display
from fastlm.train.evaluate import evaluate
from fastlm.train.metrics import Interval, MetricsWriter, Score, Scores
from fastlm.train.schedule import learning_rate
from fastlm.train.setup import Ready
from fastlm.train.signals import SAVE, STOPS, Interrupted, SignalWatch
from fastlm.train.step import StepResult

#: failed saves in a row after which a run stops
SAVE_ATTEMPTS = 3
#: what a line says of each language and domain
PER_GROUP = ("loss", "accuracy", "bits_per_character", "targets")

#: called after each evaluation with its step and scores; True ends the run there, saved
Watch = Callable[[int, Scores], bool]


class SaveFailed(CheckpointError):
    """The disk refused checkpoints too often, or the last one of the run."""

    exit_code = 4


def train(
    config: RunConfig, *, console: Console | None = None, watch: Watch | None = None, charts: bool = True
) -> Path:
    """Trains a model as ``config`` says and returns the run folder.

    Args:
        config: everything that decides the run; ``train.resume`` goes on with an earlier one.
        console: where progress is shown; default standard output.
        watch: asked after each evaluation whether the run is to end there; with several ranks, it must answer alike.
        charts: whether they are drawn at the end.

    Raises:
        FastlmError: anything that a user can mend, in one line; ``exit_code`` is what a command should exit with
            (130 or 143 after SIGINT or SIGTERM, when the run has been saved).
    """
    keep_freed_memory()
    world = distributed.world()
    shown = display.make(console, world.main)
    signals = SignalWatch()
    with signals.noting(SAVE), contextlib.ExitStack() as stack:
        ready = setup.prepare(config, world, shown, stack)
        with signals.noting(*STOPS), shown.running():
            trainer = Trainer(ready, shown, signals, stack, watch)
            trainer.run()
        if world.main:
            trainer.conclude(charts=charts)
    return ready.run.path


class Trainer:
    """Steps, measures, saves. Every rank runs one; rank 0 alone writes and prints."""

    def __init__(
        self,
        ready: Ready,
        shown: Display,
        signals: SignalWatch,
        stack: contextlib.ExitStack,
        watch: Watch | None = None,
    ) -> None:
        self.ready, self.shown, self.signals = ready, shown, signals
        self.config, self.world, self.rhythm = ready.config.train, ready.world, ready.rhythm
        self.progress = ready.progress
        self.metrics = MetricsWriter(ready.run.metrics)
        self.tracker = tracker.Tracker()
        if self.world.main:
            self.tracker = tracker.of(ready.config, ready.run.path, self.progress.step, shown.warn)
            stack.callback(self.tracker.close)
        self.scores: Scores | None = None  # of the last evaluation
        self.watch = watch
        self.ended_by_watch = False
        self.dirty = False  # something happened that no checkpoint holds
        self.failed_saves = 0
        self.shown_line: dict[str, Any] = {}
        self.started = time.monotonic() - self.progress.seconds
        self.first_step, self.first_seconds = self.progress.step, self.progress.seconds

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the last step, the time limit, or a signal.

        Raises:
            Interrupted: after a signal, when the run has been saved.
            NonFinite, SaveFailed: the run cannot go on.
        """
        progress = self.progress
        done = self._done_before()
        if done:
            self.shown.say(f"already at {done}: nothing left to train")
        if progress.doubted:
            self._warn_of_doubt()
        # A run that was stopped between a step and its evaluation makes up for it.
        # One that ran out of patience has nothing left to do, and its unfinished interval goes on if it ever does.
        self._after(final=bool(done) and not self._out_of_patience(), resumed=True)
        if done:
            return
        steps = self.ready.loader.steps(progress.step)  # closed with the loader
        while not self._finished():
            before = time.monotonic()
            step = next(steps)
            result = self.ready.stepper.run(step, self._rate(step.index), self._asks)
            progress.add(step, self._epoch(step), result, time.monotonic() - before)
            self.dirty = True
            if not result.finite:
                self._not_finite(step, result)
            interrupt, terminate, save, time_up = (asked > 0 for asked in result.asked)
            number = signal.SIGINT if interrupt else signal.SIGTERM if terminate else 0
            self._after(final=time_up or self._finished(), save=save, stop=number)
            if time_up:
                return

    def _finished(self) -> bool:
        return self._at_last_step() or self._ended_early()

    def _at_last_step(self) -> bool:
        return bool(self.rhythm.total_steps) and self.progress.step >= self.rhythm.total_steps

    def _ended_early(self) -> bool:
        """Whether the evaluations say that the run is to end before its last step."""
        return self._out_of_patience() or self.ended_by_watch

    def _out_of_patience(self) -> bool:
        return 0 < self.config.patience <= self.progress.patience.stale

    def _time_up(self, seconds: float) -> bool:
        """Whether a run of so many seconds has none left but for its last evaluation and save."""
        limit = self.config.max_minutes * 60
        return limit > 0 and seconds + self.progress.closing_seconds >= limit

    def _done_before(self) -> str:
        """The limit that the run had reached when it was saved, in words; empty when it has steps left."""
        progress = self.progress
        if progress.step and self._at_last_step():
            return f"step {progress.step:,} of {self.rhythm.total_steps:,}"
        if self._out_of_patience():
            return f"step {progress.step:,}, where --patience {self.config.patience} is used up"
        # By the saved times, not this rank's clock: every rank must decide the same.
        if self._time_up(progress.seconds):
            return f"step {progress.step:,}, where --max-minutes {self.config.max_minutes:g} is used up"
        return ""

    def _asks(self) -> tuple[float, ...]:
        """What this rank asks of all: SIGINT, SIGTERM, a save, the end of its time."""
        time_up = self._time_up(self._seconds())
        save, self.signals.save = self.signals.save, False
        stop = self.signals.stop
        return float(stop == signal.SIGINT), float(stop == signal.SIGTERM), float(save), float(time_up)

    def _rate(self, index: int) -> float:
        return learning_rate(index, self.rhythm.total_steps, self.rhythm.steps_per_epoch, self.config)

    def _epoch(self, step: Step) -> float:
        _, index = self.ready.loader.locate(step.index)
        return step.epoch + (index + 1) / self.ready.loader.steps_per_epoch(step.epoch)

    def _seconds(self) -> float:
        return time.monotonic() - self.started

    def _after(self, *, final: bool, save: bool = False, stop: int = 0, resumed: bool = False) -> None:
        """The order of things after a step; ``resumed`` makes up for what a stopped run left undone."""
        progress, rhythm, step = self.progress, self.rhythm, self.progress.step
        if progress.interval.steps and (final or (rhythm.due(rhythm.log_every, step) and not resumed)):
            self._train_line()
        if not resumed:
            self._show_progress()
        begun = time.monotonic()
        evaluation_due = step > progress.evaluated and (final or rhythm.due(rhythm.eval_every, step))
        if evaluation_due and not stop:
            stop = self._evaluate()
            final = final or self._ended_early()
        if self.dirty and (final or save or stop or rhythm.due(rhythm.save_every, step)):
            self._save(last=final or stop > 0)
        if evaluation_due:
            progress.closing_seconds = time.monotonic() - begun
        if stop:
            raise Interrupted(
                f"stopped by {signal.Signals(stop).name} after step {step:,}, which is saved; "
                f"go on with --run {self.ready.run.path} --resume auto",
                stop,
            )

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _train_line(self) -> None:
        interval, progress = self.progress.interval, self.progress
        languages = self.ready.grouping.scores(interval.sums).languages
        line = self._line("train", Score.of(interval.sums.sum(0)), interval.tokens, interval.seconds) | {
            "grad_norm": interval.norm,
            "skipped": progress.skipped,
            "languages": {name: score.fields(*PER_GROUP) for name, score in languages.items()},
        }
        progress.interval = Interval.empty(self.ready.grouping.count)
        self.shown_line = line
        self._write(line)

    def _line(self, split: str, score: Score, tokens: int, seconds: float) -> dict[str, Any]:
        """The fields that training and validation lines share."""
        progress = self.progress
        return {
            "split": split,
            "step": progress.step,
            "epoch": progress.epoch,
            "tokens": progress.tokens,
            "sentences": progress.sentences,
            **score.fields("loss", "accuracy", "perplexity", "bits_per_character", "targets"),
            "tokens_per_second": tokens / seconds if seconds else math.nan,
            "lr": self._rate(progress.step - 1),
            "seconds": self._seconds(),
        }

    def _write(self, line: dict[str, Any]) -> None:
        if not self.world.main:
            return
        self.tracker.write(line)
        try:
            self.metrics.append(line)
        except OSError as error:
            self.shown.warn(f"{self.metrics.path}: {error.strerror}; the line is kept and tried again")

    def _evaluate(self) -> int:
        """Scores the held-out text; returns the number of a signal that cut it short, else 0."""
        begun, progress = time.monotonic(), self.progress
        read = 0

        def watched() -> Iterator[Batch]:
            nonlocal read
            for batch in setup.validation_batches(self.ready):
                if self.signals.stop and self.world.size == 1:  # with other ranks, all must come to the final sum
                    raise _Cut
                read += len(batch.tokens)
                yield batch

        machine = self.ready.machine
        try:
            scores = evaluate(self.ready.model, watched(), self.ready.store, dtype=machine.dtype, world=self.world)
        except _Cut:
            return self.signals.stop
        tokens = int(self.world.sum(torch.tensor(read, device=machine.device)))
        progress.evaluated = progress.step
        progress.seconds = self._seconds()
        self.scores, self.dirty = scores, True
        groups = {"languages": scores.languages, "domains": scores.domains}
        self._write(
            self._line("valid", scores.overall, tokens, time.monotonic() - begun)
            | {kind: {name: s.fields(*PER_GROUP) for name, s in found.items()} for kind, found in groups.items()}
        )
        self.shown.evaluated(progress.step, scores, self._improved())
        progress.patience.note(scores.overall.loss)
        self.ended_by_watch = self.watch is not None and self.watch(progress.step, scores)
        if math.isfinite(scores.overall.loss) or not scores.overall.targets:  # without targets there is no loss
            progress.doubted = 0
        else:
            progress.doubted = progress.doubted or progress.step
            self._warn_of_doubt()
        return 0

    def _warn_of_doubt(self) -> None:
        """Says that the last evaluation's loss is not finite, and which checkpoint came before such losses."""
        run, progress = self.ready.run.path, self.progress
        good = [step for step in checkpoint.steps(run) if step < progress.doubted]
        kept = f"--resume {checkpoint.folder(run, good[-1])} goes back to the last one" if good else "there is none yet"
        self.shown.warn(
            f"step {progress.evaluated:,}: the validation loss is not finite; checkpoints from here on take no good "
            f"one's place: {kept}"
        )

    def _improved(self) -> bool:
        """Whether the evaluation of this very step is the best so far."""
        progress = self.progress
        if self.scores is None or progress.evaluated != progress.step or not math.isfinite(self.scores.overall.loss):
            return False
        return progress.best_loss is None or self.scores.overall.loss < progress.best_loss

    def _not_finite(self, step: Step, result: StepResult) -> None:
        """A step that left the weights alone.

        Raises:
            NonFinite: a target outside the vocabulary, or too many such steps in a row.
        """
        row = self.progress.skipped_in_a_row
        what = "gradient" if math.isfinite(float(result.sums.sum())) else "loss"
        self.shown.warn(f"step {step.index + 1:,}: {what} is not finite; the step is skipped ({row} in a row)")
        named = nonfinite.bad_target(self.ready.stepper, step) if row == 1 else ""
        if not named and row < nonfinite.PATIENCE:
            return
        found = named or f"{what} not finite in {row} steps in a row"
        path = nonfinite.dump(self.ready.run.path, self.ready.stepper, step, found)
        raise nonfinite.NonFinite(
            f"step {step.index + 1:,}: {found}; see {path}; "
            + ("rebuild the token store" if named else "try a lower --lr, a longer --warmup, --clip, or --dtype fp32")
        )

    # -- saving --------------------------------------------------------------------------------------------------------

    def _save(self, *, last: bool) -> None:
        """A checkpoint of this step; on the last one of the run a failure is final.

        Raises:
            SaveFailed: the disk refused the last one, or several in a row.
        """
        progress = self.progress
        progress.seconds = self._seconds()
        before = progress.best_step, progress.best_loss
        if improved := self._improved():
            assert self.scores is not None
            progress.best_step, progress.best_loss = progress.step, self.scores.overall.loss
        self.dirty = False
        if not self.world.main:
            return
        run = self.ready.run.path
        try:
            self.metrics.flush(sync=True)
            checkpoint.save(
                run,
                progress.step,
                checkpoint.weights(self.ready.model),
                optim.state_tensors(self.ready.stepper.optimizer, self.ready.model),
                self._state(),
            )
            if improved:
                checkpoint.point_to_best(run, progress.step, progress.best_loss)
        except OSError as error:
            progress.best_step, progress.best_loss = before
            self._save_failed(error, last)
            return
        self.failed_saves = 0
        # The one this process started from may still be read by whoever pointed at it.
        checkpoint.prune(run, self.config.keep, (progress.best_step, self.first_step), progress.doubted)

    def _save_failed(self, error: OSError, last: bool) -> None:
        self.failed_saves += 1
        self.dirty = True
        why = error.strerror or str(error)
        message = f"{self.ready.run.path}: checkpoint of step {self.progress.step:,} not saved: {why}"
        if last or self.failed_saves >= SAVE_ATTEMPTS:
            kept = checkpoint.steps(self.ready.run.path)
            good = f"step {kept[-1]:,} is the last good one" if kept else "there is none"
            raise SaveFailed(f"{message}; {good}: free space or mend permissions, then --resume auto")
        self.shown.warn(f"{message}; training goes on")

    def _state(self) -> dict[str, Any]:
        return {
            "progress": self.progress.as_json(),
            "scaler": self.ready.stepper.scaler.state_dict(),
            "config": as_dict(self.ready.config),
            **self.ready.identity,
        }

    # -- showing -------------------------------------------------------------------------------------------------------

    def _show_progress(self) -> None:
        done = self.progress.step - self.first_step
        left = math.nan
        if done:
            each = (self._seconds() - self.first_seconds) / done
            if self.rhythm.total_steps:
                left = each * (self.rhythm.total_steps - self.progress.step)
            if self.config.max_minutes:
                limit = max(0.0, self.config.max_minutes * 60 - self._seconds())
                left = min(left, limit) if math.isfinite(left) else limit
        self.shown.progress(self.progress.step, self.rhythm.total_steps, self.shown_line, left)

    def conclude(self, *, charts: bool) -> None:
        """Charts, where they are wanted, and the closing lines; the folder is the last."""
        run, progress = self.ready.run, self.progress
        drawn = []
        try:
            drawn = plot([run.path], run.charts) if charts else []
        except OSError as error:
            self.shown.warn(f"no charts: {error}")
        best = (
            f"; best validation loss {progress.best_loss:.4f} at step {progress.best_step:,}"
            if progress.best_loss
            else ""
        )
        skipped = f"; {progress.skipped:,} steps skipped" if progress.skipped else ""
        self.shown.say(
            f"finished step {progress.step:,} (epoch {progress.epoch:.2f}, {progress.tokens:,} tokens, "
            f"{progress.seconds / 60:.1f} minutes){self._early_note()}{best}{skipped}"
        )
        for chart in drawn:
            self.shown.say(f"chart    {chart}")
        self.shown.say(f"run      {run.path}")

    def _early_note(self) -> str:
        if self._at_last_step() or not self._ended_early():
            return ""
        stale = f": {self.progress.patience.stale} evaluations without a lower loss" if self._out_of_patience() else ""
        return f"; ended early{stale}"


class _Cut(Exception):
    """A signal came during an evaluation."""
