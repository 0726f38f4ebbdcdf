"""The real TensorBoard and MLflow hold what metrics.jsonl does, after a resume that repeats steps, too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastlm.record import events
from fastlm.train import metrics
from fastlm.train.config import RunConfig
from fastlm.train.tracker import curves

pytest.importorskip("tensorboard", reason="writes and reads real event files")
mlflow_tracking = pytest.importorskip("mlflow.tracking", reason="writes and reads a real MLflow database")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of a test leaves the machine, and no server of the user's gets its runs."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def test_a_resumed_run_is_copied_once_and_whole(
    make_config: Callable[..., RunConfig], run: Callable[[RunConfig], str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run(make_config(tensorboard=True, mlflow=True, max_steps=6, save_every=3))
    shutil.rmtree(folder / "checkpoints" / "step-0000000006")  # as if it had been killed before it saved
    said = run(make_config(tensorboard=True, mlflow=True, max_steps=12, save_every=3, resume="auto"))
    assert "copy stopped" not in said
    lines = metrics.read(folder / "metrics.jsonl")
    assert {line["step"] for line in lines if line["split"] == "valid"} == {3, 6, 9, 12}

    client = mlflow_tracking.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fastlm")
    (copied,) = client.search_runs([experiment.experiment_id])
    assert copied.info.status == "FINISHED" and copied.data.params["model.d_model"] == "32"
    for name in {name for line in lines for name in curves(line)}:
        wanted = [(line["step"], value) for line in lines if (value := curves(line).get(name)) is not None]
        history = client.get_metric_history(copied.info.run_id, name)
        assert sorted(metric.step for metric in history) == sorted(step for step, _ in wanted), name
        if not name.endswith("tokens_per_second"):  # of a repeated step, the first time's is kept; all else is the same
            assert sorted((metric.step, metric.value) for metric in history) == sorted(wanted), name

    def shown(line: dict[str, Any]) -> dict[str, Any]:
        """What a chart shows of a line; event files hold float32."""
        fields = ("loss", "accuracy", "bits_per_character", "lr")
        found = {name: line[name] for name in fields if line.get(name) is not None}
        return {name: pytest.approx(value, rel=1e-6) for name, value in found.items()}

    shown_steps = [step for step, _, _ in events._scalars(folder / "tensorboard")["train/loss"]]
    assert shown_steps == [line["step"] for line in lines if line["split"] == "train"]
    read = {(line["split"], line["step"]): line for line in events.read(folder / "tensorboard")}
    assert sorted(read) == sorted((line["split"], line["step"]) for line in lines)
    for line in lines:
        copy = read[line["split"], line["step"]]
        assert {name: copy[name] for name in shown(line)} == shown(line)
        for language, values in line["languages"].items():
            assert copy["languages"][language]["loss"] == pytest.approx(values["loss"], rel=1e-6)
