"""Runs a case: what is done is skipped, what was interrupted goes on, what is new starts.

Every run is ``fastlm train`` in a process of its own, with the case's settings in ``CASE/configs/RUN.toml``.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastlm.config import nearest
from fastlm.data.config import DataConfig
from fastlm.errors import CheckpointError, ConfigError, FastlmError
from fastlm.record import state, toml
from fastlm.record.folder import CONFIGS, LOGS, CaseFolder, refuse_other
from fastlm.record.plan import planned
from fastlm.record.processes import run_all
from fastlm.record.recipe import Recipe
from fastlm.record.scale import Scale
from fastlm.train import atomic, checkpoint, runfolder
from fastlm.train.config import RunConfig
from fastlm.train.signals import Interrupted

Say = Callable[[str], None]


class RunFailed(FastlmError):
    """A run of a case ended with an error; the exit code is its own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


@dataclass(frozen=True)
class How:
    """How the runs of a case are run, which changes nothing of what they learn.

    Attributes:
        jobs: runs at a time.
        threads: CPU threads of each run; 0 leaves it to the trainer, or shares the cores among the jobs.
        only: names of the runs to run; none for all.
    """

    jobs: int = 1
    threads: int = 0
    only: tuple[str, ...] = ()


def run_case(recipe: Recipe, scale: Scale, record: Path, reading: DataConfig, how: How, say: Say) -> CaseFolder:
    """Runs a case in ``record/CASE`` and returns its folder.

    Args:
        recipe: of the case.
        scale: of its sizes.
        record: folder of all cases.
        reading: where the text is and how it is read; no ``data`` means the demo corpus.
        how: jobs, threads, choice of runs.
        say: gets the lines for a person.

    Raises:
        ConfigError: settings that cannot be, or others than the folder was begun with.
        RunFailed: a run ended with an error (the other runs were made).
        Interrupted: SIGINT or SIGTERM came; what was running is saved.
    """
    folder = CaseFolder(record / recipe.name)
    for name in how.only:
        if name not in recipe.runs:
            raise ConfigError(
                f"--only {name}: {recipe.name} has no such run{nearest(name, recipe.runs)}; "
                f"it has {', '.join(recipe.runs)}"
            )
    with folder.locked():
        folder.check_scale(scale)
        plan = planned(recipe, scale, reading)
        folder.settle(recipe, scale, plan.runs, list(reading.data))
        if scale.words:
            say(f"{recipe.name} is {scale.words}")
        digests = {name: store.digest for name, store in plan.stores.items()}
        wanted = [name for name in plan.runs if not how.only or name in how.only]
        left = [name for name in wanted if not _done(folder.run(name), plan.runs[name], digests[name], say)]
        _run(folder, {name: plan.runs[name] for name in left}, how, say)
    return folder


def _done(run: Path, config: RunConfig, digest: str, say: Say) -> bool:
    """Whether nothing is left of a run.

    Raises:
        ConfigError: its folder was begun with other settings.
        CheckpointError: or with other text.
    """
    found = state.read(run)
    if found.config is None:
        return False
    refuse_other(run, runfolder.requested_config(run), config)
    if found.decided.get("store") != digest:
        raise CheckpointError(f"{run}: was trained on other text; choose another --out")
    if found.done:
        say(f"run {run.name}: {found.words}")
    return found.done


def _run(folder: CaseFolder, runs: Mapping[str, RunConfig], how: How, say: Say) -> None:
    (folder.path / CONFIGS).mkdir(exist_ok=True)
    commands = {name: _command(folder, name, config, how) for name, config in runs.items()}

    def said(name: str, code: int | None) -> None:
        say(f"run {name}: {'begins' if code is None else 'done' if code == 0 else f'ended with exit code {code}'}")

    ended = run_all(commands, how.jobs, folder.path / LOGS if how.jobs > 1 else None, said)
    if ended.stopped:
        raise Interrupted(f"{folder.path}: stopped; the same command goes on", ended.stopped)
    failed = {name: code for name, code in ended.codes.items() if code}
    if failed:
        logs = f"; see {folder.path / LOGS}" if how.jobs > 1 else ""
        codes = ", ".join(f"{name} (exit code {code})" for name, code in failed.items())
        raise RunFailed(
            f"{folder.path}: not all runs are done: {codes}{logs}; the same command tries again",
            next(iter(failed.values())),
        )


def _command(folder: CaseFolder, name: str, config: RunConfig, how: How) -> Sequence[str]:
    run = folder.run(name)
    threads = how.threads or (max(1, len(os.sched_getaffinity(0)) // how.jobs) if how.jobs > 1 else 0)
    settings = dataclasses.replace(config, train=dataclasses.replace(config.train, threads=threads))
    file = folder.path / CONFIGS / f"{name}.toml"
    atomic.replace_file(file, toml.of_config(settings).encode())
    # A run that was killed before it noted its own settings starts again.
    resume = ["--resume", "auto"] if (run / runfolder.CONFIG).exists() else []
    if not resume and checkpoint.steps(run):
        raise CheckpointError(f"{run}: has checkpoints and no {runfolder.CONFIG}; restore it, or remove the folder")
    return [sys.executable, "-m", "fastlm.cli.main", "train", "--config", str(file), "--run", str(run), *resume]
