"""The TensorBoard copy: the right curves, and a failure that stops nothing (faults.md, row 62)."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fastlm.train.tracker import TensorBoard, Tracker, curves

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
