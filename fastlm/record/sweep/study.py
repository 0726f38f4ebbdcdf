"""Optuna as the engine: trials in SQLite, handed out one at a time, none lost and none made twice.

Optuna leaves a trial RUNNING when its process is killed. Here a process holds the lock of the trial that it runs, so a
RUNNING trial whose lock is free has lost its process: the next that asks takes it up, under the same number and with
the same choices, and the trainer goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastlm.errors import ConfigError, FastlmError
from fastlm.record.sweep import trial as trials
from fastlm.record.sweep.folder import STUDY, SweepFolder
from fastlm.record.sweep.recipe import Range, Search
from fastlm.record.sweep.trial import Trial
from fastlm.train.signals import Interrupted

NAME = "sweep"
WAIT_SECONDS = 60  # for another process's write to the database
WORDS = {
    "COMPLETE": "done",
    "PRUNED": "given up",
    "FAIL": "failed",
    "RUNNING": "not finished",
    "WAITING": "not finished",
}
WHY = "why"


def check_available() -> None:
    """Raises ConfigError where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'engine = "optuna": {error}; pip install "optuna>=4"') from None


def create(folder: SweepFolder) -> None:
    """Makes the database, or finds it, before several processes open it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(study_name=NAME, storage=_storage(folder.path), direction="minimize", load_if_exists=True)


def _storage(path: Path) -> Any:
    import optuna

    options = {"connect_args": {"timeout": WAIT_SECONDS}}
    return optuna.storages.RDBStorage(f"sqlite:///{(path / STUDY).resolve()}", engine_kwargs=options)


def _study(folder: SweepFolder, search: Search, number: int) -> Any:
    """The study as the trial of that number sees it: every trial draws from a seed of its own."""
    import optuna

    pruning = search.pruning
    median = optuna.pruners.MedianPruner(pruning.startup_trials, n_warmup_steps=pruning.warmup_evaluations)
    return optuna.load_study(
        study_name=NAME,
        storage=_storage(folder.path),
        sampler=optuna.samplers.TPESampler(
            seed=int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0]), constant_liar=True
        ),
        pruner=median if pruning.kind == "median" else optuna.pruners.NopPruner(),
    )


@contextlib.contextmanager
def claimed(folder: SweepFolder, search: Search) -> Iterator[Any]:
    """The next trial to run, held until the end of the block: one that lost its process, else a new one, else None."""
    handle, found = None, None
    with folder.claiming():
        study = _study(folder, search, 0)
        known = study.get_trials(deepcopy=False)
        for old in known:
            if not old.state.is_finished() and (handle := _held_unfinished(folder, study, old)) is not None:
                import optuna

                found = optuna.Trial(_study(folder, search, old.number), old._trial_id)
                break
        if found is None and len(known) < search.trials:
            handle = folder.hold(len(known))
            found = _study(folder, search, len(known)).ask()
    try:
        yield found
    finally:
        if handle is not None:
            os.close(handle)


def _held_unfinished(folder: SweepFolder, study: Any, trial: Any) -> int | None:
    """The lock of a trial that has lost its process; None where one has it, or had it and ended the trial meanwhile."""
    handle = folder.hold(trial.number)
    if handle is not None and study._storage.get_trial(trial._trial_id).state.is_finished():
        os.close(handle)
        return None
    return handle


def work(path: Path, threads: int) -> None:
    """Runs trials until there is none left; what a worker's process does.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the trial is saved and goes on when it is next claimed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = SweepFolder(path)
    search = folder.search()
    while True:
        with claimed(folder, search) as trial:
            if trial is None:
                return
            _run(trial, folder, search, threads)


def _run(trial: Any, folder: SweepFolder, search: Search, threads: int) -> None:
    from optuna.trial import TrialState

    chosen = {name: _suggest(trial, span) for name, span in search.ranges.items()}
    print(f"trial {trial.number}: {', '.join(f'{name} {value}' for name, value in chosen.items())}", flush=True)
    reported = set(trial.storage.get_trial(trial._trial_id).intermediate_values)
    given_up = bool(trial.should_prune())  # it was told so before its process ended

    def told(evaluation: int, value: float) -> bool:
        nonlocal given_up
        if evaluation not in reported:  # a resumed run repeats evaluations, to the bit
            trial.report(value if math.isfinite(value) else math.inf, evaluation)
        given_up = bool(trial.should_prune())
        return given_up

    try:
        if not given_up:
            trials.run(search, chosen, folder.run(trial.number), folder.reading(), threads, told)
    except Interrupted:
        raise
    except FastlmError as error:
        trial.set_user_attr(WHY, str(error))
        trial.study.tell(trial, state=TrialState.FAIL)
        print(f"trial {trial.number}: failed: {error}", flush=True)
        return
    value = trials.best(folder.run(trial.number), search.metric)
    if given_up:
        trial.study.tell(trial, state=TrialState.PRUNED)
    elif value is None:
        trial.set_user_attr(WHY, "no finite validation score")
        trial.study.tell(trial, state=TrialState.FAIL)
    else:
        trial.study.tell(trial, value)
    print(f"trial {trial.number}: {'given up' if given_up else 'done'}, {search.metric} {value}", flush=True)


def _suggest(trial: Any, span: Range) -> Any:
    if span.choices:
        return trial.suggest_categorical(span.name, list(span.choices))
    if span.whole:
        return trial.suggest_int(span.name, int(span.low), int(span.high), log=span.log)
    return trial.suggest_float(span.name, span.low, span.high, log=span.log)


def finished(folder: SweepFolder, search: Search) -> list[Trial]:
    """Every trial, by number."""
    rows = []
    for frozen in _study(folder, search, 0).get_trials(deepcopy=False):
        value = trials.best(folder.run(frozen.number), search.metric)
        why = str(frozen.user_attrs.get(WHY, ""))
        rows.append(Trial(frozen.number, WORDS[frozen.state.name], dict(frozen.params), value, why))
    return rows
