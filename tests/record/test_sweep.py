"""A search that is killed and goes on: no trial lost, none made twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from fastlm.cli.main import main
from fastlm.errors import ConfigError
from fastlm.record.sweep import recipe, report
from fastlm.record.sweep.recipe import Pruning, Range
from fastlm.record.sweep.trial import Trial
from fastlm.train import checkpoint
from tests.record.conftest import SEARCH, Command, finish

optuna = pytest.importorskip("optuna", reason="searches are Optuna's")


@pytest.fixture
def search(tmp_path: Path) -> Path:
    (tmp_path / "toy.toml").write_text(SEARCH, encoding="utf-8")
    return tmp_path / "toy.toml"


def trials(out: Path) -> dict[int, optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{out / 'study.db'}"
    return {trial.number: trial for trial in optuna.load_study(study_name="sweep", storage=storage).trials}


def rows(out: Path) -> int:
    """Trials in the database, as another process sees it; 0 before there is one."""
    try:
        with sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True) as database:
            return int(database.execute("select count(*) from trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_twenty_trials_in_two_processes_killed_and_resumed(
    fastlm: Command, text: Path, search: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("sweep", search, "--out", out, "--data", text, "--jobs", 2, "--threads", 1)
    killed = fastlm(*words)
    while rows(out) < 8 and killed.poll() is None:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = trials(out)
    running = {n for n, trial in before.items() if trial.state.name == "RUNNING"}
    ended = {n: trial for n, trial in before.items() if trial.state.is_finished()}
    assert len(before) >= 8 and running and ended
    said = finish(fastlm(*words))
    after = trials(out)
    assert sorted(after) == list(range(20))
    assert all(trial.state.name in ("COMPLETE", "PRUNED") for trial in after.values())
    for number, trial in ended.items():  # what had ended was left alone
        assert after[number].datetime_complete == trial.datetime_complete
        assert after[number].value == trial.value
    for number, trial in before.items():  # what had begun goes on under its number, with its choices
        assert trial.params.items() <= after[number].params.items()
    assert len({tuple(trial.params.values()) for trial in after.values()}) == 20
    logs = "".join(path.read_text(encoding="utf-8") for path in (out / "logs").iterdir())
    assert "already reported" not in logs
    for number in range(20):  # begun a second time only where the first was cut off; ended once
        assert 1 <= logs.count(f"trial {number}: lr ") <= 1 + (number in running), number
        ends = logs.count(f"trial {number}: done") + logs.count(f"trial {number}: given up")
        assert ends == 1 or (ends == 0 and number in ended), number  # killed after the database knew, before its line
    assert said.count("\n|") >= 21
    assert (out / "parallel.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "SWEEP.md").read_text(encoding="utf-8").startswith("# a toy search\n")
    for number, trial in after.items():
        if trial.state.name == "COMPLETE":
            assert checkpoint.steps(out / "trials" / f"{number:04}")[-1] == 30
    assert {trial.state.name for trial in after.values()} == {"COMPLETE", "PRUNED"}
    pruned = next(n for n, trial in after.items() if trial.state.name == "PRUNED")
    assert checkpoint.steps(out / "trials" / f"{pruned:04}")[-1] < 30  # it saved time
    # A longer search goes on from there; another one is refused.
    search.write_text(SEARCH.replace("trials = 20", "trials = 22"), encoding="utf-8")
    finish(fastlm(*words))
    assert sorted(trials(out)) == list(range(22))
    search.write_text(SEARCH.replace("high = 0.3", "high = 0.4"), encoding="utf-8")
    assert "begun with another ranges; choose another --out" in finish(fastlm(*words), code=2)


def test_choices_that_do_not_fit_fail_alone(fastlm: Command, text: Path, search: Path, tmp_path: Path) -> None:
    changed = SEARCH.replace("trials = 20", "trials = 4").replace("max-steps = 30", "max-steps = 4")
    changed = changed.split("[search.lr]")[0] + "[search.heads]\nchoices = [2, 3]\n[search.seed]\nlow = 0\nhigh = 99\n"
    search.write_text(changed, encoding="utf-8")
    said = finish(fastlm("sweep", search, "--out", tmp_path / "out", "--data", text, "--threads", 1))
    found = trials(tmp_path / "out")
    assert len(found) == 4
    for trial in found.values():
        assert (trial.state.name == "FAIL") == (trial.params["heads"] == 3)
    assert {trial.params["heads"] for trial in found.values()} == {2, 3}
    assert "--d-model 32 is not a multiple of --heads 3" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[search.lr]", "[search.lrr]"), r"toy.toml: \[search.lrr\]: no such flag \(did you mean lr\?\)"),
        (("[search.layers]", "[search.run]"), r"run cannot be searched over"),
        (("low = 1e-4", "low = 0.0"), r"a log scale begins above 0"),
        (("high = 1e-2", "high = 1e-5"), r"low 0.0001 is not below high 1e-05"),
        (("high = 0.3", "high = 1.3"), r"\[search.dropout\] high: 1.3 is outside the allowed range: 0 to 0.99"),
        (('choices = ["adamw", "adam-l2"]', 'choices = ["adamw", "adam"]'), r"'adam' is not one of adamw, adam-l2"),
        (('choices = ["adamw", "adam-l2"]', "low = 1"), r"optimizer is no number; give choices"),
        (("trials = 20", "trials = 0"), r"trials: 0 is not a whole number of 1 or more"),
        (
            ("trials = 20", 'trials = 20\nengine = "optun"'),
            r"'optun' is not one of optuna, ray \(did you mean optuna\?\)",
        ),
        (("startup_trials", "startup"), r"unknown key 'startup' \(did you mean startup_trials\?\)"),
        (("max-steps = 30\n", ""), r"give epochs or max-steps"),
    ],
)
def test_a_fault_in_a_search_is_named(search: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in SEARCH
    search.write_text(SEARCH.replace(*change), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        recipe.read(search)


def test_engines_that_are_not_installed_are_refused_in_words(
    search: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine, package in (("ray", "ray[tune]"), ("optuna", "optuna>=4")):
        monkeypatch.setitem(sys.modules, engine, None)
        search.write_text(SEARCH.replace("trials = 20", f'trials = 20\nengine = "{engine}"'), encoding="utf-8")
        assert main(["sweep", str(search), "--out", str(tmp_path / "out")]) == 2
        assert f'pip install "{package}"' in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_the_table_is_sorted_and_the_picture_takes_every_kind_of_range(search: Path, tmp_path: Path) -> None:
    wanted = recipe.read(search)
    chosen = {"lr": 1e-3, "dropout": 0.1, "layers": 2, "optimizer": "adamw"}
    made = [
        Trial(0, "done", chosen, 5.0),
        Trial(1, "given up", {**chosen, "optimizer": "adam-l2"}, 4.0),
        Trial(2, "done", {**chosen, "lr": 1e-4}, 4.5),
        Trial(3, "failed", {"lr": 1e-2}, None, "why"),
    ]
    lines = report.table(wanted, made).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 2", "| 0", "| 1", "| 3"]
    assert lines[-1] == "| 3 | failed: why | – | 0.01 | – | – | – |"
    assert report.draw(wanted, made, tmp_path / "x.png") == tmp_path / "x.png"
    assert report.draw(wanted, [made[3]], tmp_path / "y.png") is None


def test_places_on_an_axis() -> None:
    assert report._place(Range("lr", low=1e-4, high=1e-2, log=True))(1e-3) == pytest.approx(0.5)
    assert report._place(Range("dropout", low=0.0, high=0.4))(0.1) == pytest.approx(0.25)
    assert report._place(Range("optimizer", choices=("a", "b", "c")))("c") == 1.0
    assert report._marks(Range("layers", whole=True, low=1, high=3)) == [1.0, 2.0, 3.0]


def test_pruning_has_defaults(search: Path) -> None:
    search.write_text(SEARCH.split("[pruning]")[0], encoding="utf-8")
    assert recipe.read(search).pruning == Pruning("median", 5, 0)


def test_a_trial_that_ends_while_another_process_looks_is_not_taken_up(
    search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process told the end and let go of the lock between the other's two looks."""
    from fastlm.data.config import DataConfig
    from fastlm.record.sweep import study
    from fastlm.record.sweep.folder import SweepFolder

    folder, wanted = SweepFolder(tmp_path / "out"), recipe.read(search)
    folder.settle(wanted, SEARCH, DataConfig())
    study.create(folder)
    with study.claimed(folder, wanted) as first:
        assert first.number == 0
    stale = study._study(folder, wanted, 0).get_trials()  # the first is still said to run
    study._study(folder, wanted, 0).tell(0, 1.0)
    monkeypatch.setattr(optuna.Study, "get_trials", lambda self, *args, **options: stale)
    with study.claimed(folder, wanted) as second:
        assert second.number == 1
