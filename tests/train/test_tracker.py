"""Copies for TensorBoard and MLflow: the right curves, each once; a failure stops nothing (faults.md, row 62)."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fastlm.errors import ConfigError
from fastlm.train.config import RunConfig, TrainConfig
from fastlm.train.tracker import MLflow, TensorBoard, Tracker, check_available, curves, of
from tests.train.test_resume import learnt, weights

LINE = {
    "split": "valid",
    "step": 7,
    "epoch": 0.5,
    "loss": 2.0,
    "accuracy": None,
    "lr": 1e-3,
    "languages": {"ko": {"loss": 3.0, "targets": 9}},
    "domains": {"news": {"accuracy": 0.5}},
}


def test_curves_of_a_line() -> None:
    assert curves(LINE) == {
        "valid/loss": 2.0,
        "valid/lr": 1e-3,
        "valid/languages/ko/loss": 3.0,
        "valid/domains/news/accuracy": 0.5,
    }


class Writer:
    """Stands in for torch's SummaryWriter, which needs a package that fastlm does not."""

    made: list[Writer] = []  # noqa: RUF012
    broken = False

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.rows, self.closed = folder, purge_step, [], False
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if Writer.broken:
            raise OSError(28, "No space left on device")
        self.rows.append((name, value, step))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> type[Writer]:
    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "made", [])
    monkeypatch.setattr(Writer, "broken", False)
    return Writer


def test_a_resumed_run_purges_what_it_repeats(tensorboard: type[Writer], tmp_path: Path) -> None:
    warnings: list[str] = []
    copy = TensorBoard(tmp_path, 5, warnings.append)
    copy.write(LINE)
    copy.close()
    writer = tensorboard.made[0]
    assert writer.purge_step == 6
    assert ("valid/loss", 2.0, 7) in writer.rows
    assert writer.closed
    assert not warnings


def test_a_failing_copy_is_one_warning(
    tensorboard: type[Writer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "broken", True)
    warnings: list[str] = []
    copy = TensorBoard(tmp_path, 0, warnings.append)
    for _ in range(3):
        copy.write(LINE)
    copy.close()
    assert warnings == ["TensorBoard copy stopped ([Errno 28] No space left on device); metrics.jsonl goes on"]


def test_no_copy_is_silent() -> None:
    Tracker().write(LINE)
    Tracker().close()


class Client:
    """Stands in for MLflow's client: one run, whose metrics a second client still has."""

    rows: list[tuple[str, float, int]] = []  # noqa: RUF012
    params: dict[str, str] = {}  # noqa: RUF012
    runs = 0
    broken = False

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def create_run(self, experiment: str, run_name: str) -> Any:
        Client.runs += 1
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    def log_param(self, run: str, key: str, value: str) -> None:
        Client.params[key] = value

    def get_metric_history(self, run: str, key: str) -> list[Any]:
        assert run == "r1"
        return [types.SimpleNamespace(step=step) for name, _, step in Client.rows if name == key]

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        if Client.broken:
            raise ConnectionError("no route to host")
        Client.rows += [(m[0], m[1], m[3]) for m in metrics]

    def set_terminated(self, run: str) -> None: ...


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    top, tracking, entities = (types.ModuleType(f"mlflow{name}") for name in ("", ".tracking", ".entities"))
    vars(tracking)["MlflowClient"] = Client
    vars(entities)["Metric"] = lambda *values: values
    for name, module in {"mlflow": top, "mlflow.tracking": tracking, "mlflow.entities": entities}.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name, value in {"rows": [], "params": {}, "runs": 0, "broken": False}.items():
        monkeypatch.setattr(Client, name, value)
    return Client


def at(step: int) -> dict[str, Any]:
    return {**LINE, "step": step, "domains": {"구어체(1)": {"accuracy": 0.5}}}


def test_mlflow_has_each_line_once_over_all_resumes(mlflow: type[Client], tmp_path: Path) -> None:
    warnings: list[str] = []
    for steps in ((3, 7), (7, 9)):  # the second process repeats a step
        copy = MLflow(RunConfig(), tmp_path, warnings.append)
        for step in steps:
            copy.write(at(step))
        copy.close()
    assert [step for name, _, step in mlflow.rows if name == "valid/loss"] == [3, 7, 9]
    assert ("valid/domains/구어체_1_/accuracy", 0.5, 9) in mlflow.rows
    assert mlflow.runs == 1 and mlflow.params["train.lr"] == "0.0005"
    assert not warnings


def test_a_failing_mlflow_is_one_warning(mlflow: type[Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "broken", True)
    warnings: list[str] = []
    copy = MLflow(RunConfig(), tmp_path, warnings.append)
    for step in (1, 2, 3):
        copy.write(at(step))
    copy.close()
    assert warnings == ["MLflow copy stopped (ConnectionError: no route to host); metrics.jsonl goes on"]


def test_copies_that_are_not_installed_are_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    check_available(TrainConfig())
    for option, module in (("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ConfigError, match=rf"--{option}: .*; pip install {option}, or leave the flag out"):
            check_available(TrainConfig(**{option: True}))


def test_both_copies_at_once(mlflow: type[Client], tensorboard: type[Writer], tmp_path: Path) -> None:
    copy = of(RunConfig(train=TrainConfig(tensorboard=True, mlflow=True)), tmp_path, 0, print)
    copy.write(LINE)
    copy.close()
    assert ("valid/loss", 2.0, 7) in tensorboard.made[0].rows and ("valid/loss", 2.0, 7) in mlflow.rows
    assert type(of(RunConfig(), tmp_path, 0, print)) is Tracker


def test_a_copy_changes_no_result(
    mlflow: type[Client], tensorboard: type[Writer], make_config: Any, run: Any, tmp_path: Path
) -> None:
    run(make_config(run=str(tmp_path / "plain")))
    run(make_config(run=str(tmp_path / "copied"), mlflow=True, tensorboard=True))
    assert learnt(tmp_path / "copied") == learnt(tmp_path / "plain")
    assert weights(tmp_path / "copied") == weights(tmp_path / "plain")
    assert len([row for row in mlflow.rows if row[0] == "train/loss"]) == 3
