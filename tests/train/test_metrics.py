"""Scores from sums, and a metrics file that survives crashes and full disks."""

from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import numpy as np
import pytest

from fastlm.errors import CheckpointError
from fastlm.train import metrics
from fastlm.train.metrics import Interval, MetricsWriter, Score


def line(step: int, split: str = "train") -> dict[str, object]:
    return {"split": split, "step": step, "loss": 1 / step, "seconds": 2.0 * step, "tokens_per_second": 5.0}


def test_scores_are_means_over_targets() -> None:
    score = Score.of(np.array([6.0, 3.0, 12.0, 20.0]))
    assert (score.loss, score.accuracy, score.targets) == (0.5, 0.25, 12)
    assert score.perplexity == pytest.approx(math.exp(0.5))
    assert score.bits_per_character == pytest.approx(6 / math.log(2) / 20)


def test_scores_without_targets_or_of_huge_losses_do_not_raise() -> None:
    assert all(math.isnan(x) for x in (Score.of(np.zeros(4)).loss, Score.of(np.zeros(4)).perplexity))
    assert Score.of(np.array([1e5, 0, 1, 1])).perplexity == math.inf
    assert math.isnan(Score.of(np.array([math.nan, 0, 1, 1])).perplexity)


def test_an_interval_survives_json_to_the_last_bit() -> None:
    interval = Interval.empty(3)
    draw = np.random.default_rng(0)
    for _ in range(5):
        interval.add(draw.random((3, 4)), float(draw.random()))
    again = Interval.from_json(json.loads(json.dumps(interval.as_json())))
    assert np.array_equal(again.sums, interval.sums)
    assert (again.norm_sum, again.steps) == (interval.norm_sum, interval.steps)


def test_lines_come_back_and_nan_is_null(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.append({**line(1), "loss": math.nan, "languages": {"ko": {"loss": math.inf}}})
    writer.append(line(2))
    first, second = metrics.read(writer.path)
    assert first["loss"] is None
    assert first["languages"]["ko"]["loss"] is None
    assert second == line(2)
    assert "NaN" not in writer.path.read_text()


def test_cut_drops_what_came_later_and_a_torn_end(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    assert writer.cut(3, 3) == 0  # no file yet
    for step in range(1, 7):
        writer.append(line(step))
        writer.append(line(step, "valid"))
    with open(writer.path, "ab") as file:
        file.write(b'{"split": "train", "st')
    assert writer.cut(4, 2) == 12 - 4 - 2
    assert [(x["split"], x["step"]) for x in metrics.read(writer.path)] == [
        ("train", 1), ("valid", 1), ("train", 2), ("valid", 2), ("train", 3), ("train", 4),
    ]  # fmt: skip


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(line(1)) + "\n[3]\n" + json.dumps(line(2)) + "\n")
    with pytest.raises(CheckpointError, match=r"metrics.jsonl:2: not a line of metrics"):
        metrics.read(path)


def test_a_full_disk_loses_no_line(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.append(line(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (writer.path.stat().st_size + 10, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            writer.append(line(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [x["step"] for x in metrics.read(writer.path)] == [1]
    assert writer.path.read_bytes().endswith(b"}\n")
    writer.append(line(3))
    assert [x["step"] for x in metrics.read(writer.path)] == [1, 2, 3]


def test_without_timing_leaves_what_was_learnt() -> None:
    assert metrics.without_timing([line(4)]) == [{"split": "train", "step": 4, "loss": 0.25}]
