"""Copies of the metrics for TensorBoard and MLflow; metrics.jsonl stays the truth, and no copy ever stops a run."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastlm.config import as_dict
from fastlm.errors import ConfigError
from fastlm.train import atomic
from fastlm.train.config import RunConfig, TrainConfig

#: fields that are curves, beside the per-language ones
CURVES = ("loss", "accuracy", "perplexity", "bits_per_character", "tokens_per_second", "lr", "grad_norm", "skipped")
GROUPS = ("languages", "domains")
#: file of a run folder that names the MLflow run which its lines are copied to
MLFLOW_RUN = "mlflow.json"
#: longest text that MLflow takes as a parameter
MLFLOW_LONGEST = 500

Warn = Callable[[str], None]


class Tracker:
    """Does nothing: no copy was asked for."""

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of the metrics."""

    def close(self) -> None:
        """The end of the run."""


class Several(Tracker):
    """Copies to each of several places."""

    def __init__(self, *copies: Tracker) -> None:
        self._copies = copies

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of the metrics, to each."""
        for copy in self._copies:
            copy.write(line)

    def close(self) -> None:
        """The end of the run."""
        for copy in self._copies:
            copy.close()


class TensorBoard(Tracker):
    """Writes event files into ``RUN/tensorboard``; steps that a resume repeats replace their first copy."""

    def __init__(self, folder: Path, step: int, warn: Warn) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)
        self._warn = warn
        self._failed = False

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of the metrics; after a failure, nothing more."""
        if self._failed:
            return
        try:
            for name, value in curves(line).items():
                self._writer.add_scalar(name, value, line["step"])
        except OSError as error:
            self._failed = True
            self._warn(f"TensorBoard copy stopped ({error}); metrics.jsonl goes on")

    def close(self) -> None:
        """Flushes."""
        if not self._failed:
            self._writer.close()


class MLflow(Tracker):
    """One MLflow run for a run folder, over all its resumes; lines that a resume repeats are not copied twice.

    MLflow keeps every value that it is given, so the copy goes on after the last step that it has. Repeated lines hold
    the same bits, all but their speeds.
    """

    def __init__(self, config: RunConfig, run: Path, warn: Warn) -> None:
        self._warn = warn
        self._failed = False
        self._copied: dict[str, int] = {}
        self._attempt(lambda: self._open(config, run))

    def _open(self, config: RunConfig, run: Path) -> None:
        from mlflow.tracking import MlflowClient

        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run / 'mlflow.db').resolve()}"
        self._client = MlflowClient(tracking_uri=where)
        noted = run / MLFLOW_RUN
        if noted.exists():
            self._id = json.loads(noted.read_bytes())["run"]
            for split in ("train", "valid"):
                steps = [metric.step for metric in self._client.get_metric_history(self._id, f"{split}/loss")]
                self._copied[split] = max(steps, default=0)
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fastlm")
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._id = self._client.create_run(experiment, run_name=run.name).info.run_id
        for section, values in as_dict(config).items():
            for key, value in values.items():
                self._client.log_param(self._id, f"{section}.{key}", str(value)[:MLFLOW_LONGEST])
        atomic.replace_file(noted, (json.dumps({"run": self._id, "uri": where}) + "\n").encode())

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of the metrics; after a failure, nothing more."""
        if line["step"] > self._copied.get(line["split"], 0):
            self._attempt(lambda: self._send(line))

    def _send(self, line: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = [Metric(_mlflow_name(name), value, now, line["step"]) for name, value in curves(line).items()]
        self._client.log_batch(self._id, metrics=values)

    def close(self) -> None:
        """The MLflow run is finished; a resume takes it up again."""
        self._attempt(lambda: self._client.set_terminated(self._id))

    def _attempt(self, action: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            action()
        except Exception as error:  # of MLflow, its database, the network: nothing of it may end a training run
            self._failed = True
            self._warn(f"MLflow copy stopped ({type(error).__name__}: {error}); metrics.jsonl goes on")


def _mlflow_name(name: str) -> str:
    """MLflow takes letters of any script, digits, and few signs; a domain's name may hold others."""
    return re.sub(r"[^\w/.\- ]", "_", name)


def of(config: RunConfig, run: Path, step: int, warn: Warn) -> Tracker:
    """The copies that a run asks for, going on after ``step``."""
    copies: list[Tracker] = []
    if config.train.tensorboard:
        copies.append(TensorBoard(run / "tensorboard", step, warn))
    if config.train.mlflow:
        copies.append(MLflow(config, run, warn))
    return Several(*copies) if copies else Tracker()


def curves(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line by curve: ``train/loss``, ``valid/languages/ko/accuracy``."""
    split = line["split"]
    found = {f"{split}/{name}": line[name] for name in CURVES if line.get(name) is not None}
    for group in GROUPS:
        for key, values in line.get(group, {}).items():
            found |= {f"{split}/{group}/{key}/{name}": values[name] for name in CURVES if values.get(name) is not None}
    return found


def check_available(config: TrainConfig) -> None:
    """Raises ConfigError, before training, where a copy was asked for whose package is not installed."""
    if config.tensorboard:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"--tensorboard: {error}; pip install tensorboard, or leave the flag out") from None
    if config.mlflow:
        try:
            import mlflow.tracking  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"--mlflow: {error}; pip install mlflow, or leave the flag out") from None
