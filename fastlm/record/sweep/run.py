"""A search from its file to its end: prepare, search with the engine, write the table and the picture."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fastlm.data.config import DataConfig
from fastlm.record.processes import run_all
from fastlm.record.runner import RunFailed
from fastlm.record.sweep import ray_engine, report, study
from fastlm.record.sweep.folder import LOGS, SweepFolder
from fastlm.record.sweep.recipe import Search
from fastlm.record.sweep.trial import Trial
from fastlm.train.signals import Interrupted


def sweep(search: Search, text: str, out: Path, reading: DataConfig, *, jobs: int, threads: int) -> str:
    """Makes the trials that are left, and returns the closing lines.

    Args:
        search: the parsed recipe.
        text: of its file.
        out: folder of the search.
        reading: where the text to train on is.
        jobs: trials at a time.
        threads: CPU threads of each; 0 shares the cores.

    Raises:
        ConfigError: an engine that is not installed, or a folder of another search.
        Interrupted: SIGINT or SIGTERM came; the same command goes on.
        RunFailed: a process of the search ended with an error.
    """
    engine = ray_engine if search.engine == "ray" else study
    engine.check_available()
    folder = SweepFolder(out)
    folder.settle(search, text, reading)
    threads = threads or max(1, len(os.sched_getaffinity(0)) // jobs)
    rows = (
        ray_engine.search(folder, search, jobs, threads)
        if search.engine == "ray"
        else _optuna(folder, search, jobs, threads)
    )
    return report.write(folder.path, search, rows)


def _optuna(folder: SweepFolder, search: Search, jobs: int, threads: int) -> list[Trial]:
    study.create(folder)
    command = [sys.executable, "-m", "fastlm.record.sweep.worker", str(folder.path), str(threads)]
    logs = folder.path / LOGS if jobs > 1 else None
    ended = run_all({f"worker-{n}": command for n in range(jobs)}, jobs, logs, lambda *_: None)
    if ended.stopped:
        raise Interrupted(f"{folder.path}: stopped; the same command goes on", ended.stopped)
    failed = [code for code in ended.codes.values() if code]
    if failed:
        raise RunFailed(f"{folder.path}: a process of the search failed{f'; see {logs}' if logs else ''}", failed[0])
    return study.finished(folder, search)
