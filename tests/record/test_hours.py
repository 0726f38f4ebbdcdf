"""What the record would take: figures that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlm.data.config import DataConfig
from fastlm.errors import CheckpointError
from fastlm.models.size import flops_per_token
from fastlm.record import hours, recipe
from fastlm.record.scale import SCALES, scaled
from tests.record.test_page import line, write_run


def test_the_work_of_case_1() -> None:
    case = recipe.find("1")
    tokens, flops = hours.work(case, SCALES["full"])
    each = 2 * 1_442_176 * 36.5 * 32  # sentences of both languages, with [BOS] and [EOS], 32 epochs
    assert tokens == pytest.approx(2 * each)
    expected = sum(each * flops_per_token(run.model, sequence_length=36.5) for run in case.runs.values())
    assert flops == pytest.approx(expected)
    # within half an hour of the goal on one GPU (performance.md) for each of the two runs
    assert flops / (790e12 * 0.5) / 3600 / 2 < 0.5


def test_shares_languages_and_domains_count() -> None:
    full = SCALES["full"]
    ko = hours.work(recipe.find("4"), full)[0]
    assert ko == pytest.approx(2 * 1_442_176 * 36.5 * 11)
    shares = hours.work(recipe.find("16"), full)[0]
    assert shares == pytest.approx(1_442_176 * 36.5 * 32 * (3 * 0.2 + 1))
    assert hours.work(recipe.find("22"), full)[0] == pytest.approx(1_442_176 * 36.5 * 32 * (1 + 801_387 / 1_602_418))


def test_a_scaled_case_reads_what_its_scale_says() -> None:
    for name in recipe.names():
        tokens, _ = hours.work(recipe.find(name), SCALES["cpu"])
        assert tokens <= len(recipe.find(name).runs) * 96_000 * 36.5 * 1.001, name


def test_a_speed_from_a_run_folder(tmp_path: Path) -> None:
    config = scaled(recipe.find("1").runs["layers-4"], SCALES["cpu"])
    write_run(tmp_path / "run", config, [line("train", n, 5.0) for n in (10, 20, 30)])
    length = 80000 / 4000 + 2
    speed = hours.of_runs([tmp_path / "run"])
    assert speed.flops == pytest.approx(4020 * flops_per_token(config.model, sequence_length=length))
    table = hours.report(SCALES["full"], DataConfig(), [tmp_path / "run"])
    rows = [row.split(" | ") for row in table.splitlines() if row.startswith("| case-")]
    assert len(rows) == 25 and rows[0][-1] == "93.7 |" and rows[24][-1] == "144 |"
    assert float(rows[0][5].replace(",", "")) == pytest.approx(
        hours.work(recipe.find("1"), SCALES["full"])[1] / speed.flops / 3600, abs=0.01
    )


def test_a_run_without_speed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no training line with tokens/s"):
        hours.of_runs([tmp_path])
