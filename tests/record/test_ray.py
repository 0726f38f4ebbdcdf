"""Ray Tune as the engine of a search, for real: killed, it goes on with the trials that are left."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from fastlm.errors import CheckpointError
from fastlm.train import checkpoint, metrics
from tests.record.conftest import SEARCH, Command, finish

pytest.importorskip("ray.tune", reason="a search with Ray Tune, which is an optional engine")

TRIALS, STEPS, EVERY = 4, 30, 5  # steps and evaluations as in SEARCH
ROW = re.compile(r"^\| (\d+) \| (done|given up) \| ([\d.]+) \|", re.MULTILINE)


def evaluations(run: Path) -> list[int]:
    """Steps of a trial's evaluations so far."""
    try:
        return [line["step"] for line in metrics.read(run / "metrics.jsonl") if line["split"] == "valid"]
    except CheckpointError:  # it has not begun
        return []


@pytest.mark.timeout(900)  # Ray starts a cluster, and a process that imports torch for every trial
def test_a_killed_search_goes_on(fastlm: Command, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # no word of a test leaves the machine
    search = SEARCH.replace("trials = 20", f'trials = {TRIALS}\nengine = "ray"')
    (tmp_path / "toy.toml").write_text(search, encoding="utf-8")
    out = tmp_path / "out"
    words = ("sweep", tmp_path / "toy.toml", "--out", out, "--data", text, "--jobs", 1, "--threads", 1)
    killed = fastlm(*words)
    while len(evaluations(out / "trials" / "0001")) < 2 and killed.poll() is None:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    first = (out / "trials" / "0000" / "metrics.jsonl").read_bytes()
    assert evaluations(out / "trials" / "0000")[-1] == STEPS
    assert len(list((out / "trials").iterdir())) < TRIALS

    said = finish(fastlm(*words), seconds=600)
    rows = {int(number): (end, float(value)) for number, end, value in ROW.findall(said)}
    assert sorted(rows) == list(range(TRIALS))
    assert (out / "trials" / "0000" / "metrics.jsonl").read_bytes() == first  # what had ended was left alone
    rates = set()
    for number, (end, value) in rows.items():
        run = out / "trials" / f"{number:04}"
        steps = evaluations(run)
        assert steps == list(range(EVERY, steps[-1] + 1, EVERY)), "an evaluation is lost, or there twice"
        assert (steps[-1] == STEPS) == (end == "done")
        lines = [line for line in metrics.read(run / "metrics.jsonl") if line["split"] == "valid"]
        assert value == pytest.approx(min(line["loss"] for line in lines), abs=1e-4)
        if end == "done":
            assert checkpoint.steps(run)[-1] == STEPS
        config = json.loads((run / "config.json").read_bytes())["config"]
        rates.add(config["train"]["lr"])
        assert 1e-4 <= config["train"]["lr"] <= 1e-2 and config["model"]["layers"] in (1, 2)
    assert len(rates) == TRIALS
    assert (out / "parallel.png").read_bytes()[:4] == b"\x89PNG"
