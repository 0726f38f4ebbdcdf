"""How far a run is, told from its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fastlm.errors import CheckpointError
from fastlm.record import state
from fastlm.record.folder import refuse_other
from fastlm.train.config import RunConfig, TrainConfig
from tests.record.test_page import line, write_run


def with_checkpoints(run: Path, *steps: int) -> None:
    for step in steps:
        (run / "checkpoints" / f"step-{step:010}").mkdir(parents=True)


def valid(**losses: float) -> list[dict[str, object]]:
    return [line("valid", int(step[1:]), loss) for step, loss in losses.items()]


def test_done_is_an_evaluated_and_saved_last_step(tmp_path: Path) -> None:
    assert state.read(tmp_path / "none").words == "not begun"
    write_run(tmp_path / "run", RunConfig(), valid(s20=5.0, s40=4.0))
    assert state.read(tmp_path / "run").words == "done"  # a copy without checkpoints is taken at its word
    with_checkpoints(tmp_path / "run", 20)
    assert state.read(tmp_path / "run").words == "stopped at step 40 of 40"  # killed before the last was saved
    with_checkpoints(tmp_path / "run", 40)
    assert state.read(tmp_path / "run").done


def test_a_run_whose_patience_is_used_up_is_done(tmp_path: Path) -> None:
    config = RunConfig(train=TrainConfig(patience=2))
    write_run(tmp_path / "going", config, valid(s5=5.0, s10=4.0, s15=4.5))
    write_run(tmp_path / "ended", config, valid(s5=5.0, s10=4.0, s15=4.5, s20=4.2))
    assert state.read(tmp_path / "going").words == "stopped at step 15 of 40"
    assert state.read(tmp_path / "ended").words == "ended early at step 20 of 40"


@pytest.mark.parametrize("text", ["{", "{}", '{"config": {"model": {"layrs": 2}}, "decided": {"total_steps": 4}}'])
def test_a_damaged_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        state.read(tmp_path)


def test_where_text_lies_and_what_learns_nothing_may_differ(tmp_path: Path) -> None:
    before = RunConfig()
    moved = dataclasses.replace(before, data=dataclasses.replace(before.data, data=("elsewhere",), workers=7))
    refuse_other(tmp_path, before, moved)
    other = dataclasses.replace(before, train=TrainConfig(lr=1.0, threads=3))
    with pytest.raises(ValueError, match=r"begun with other settings: train.lr 0.0005 -> 1.0; choose"):
        refuse_other(tmp_path, before, other)
