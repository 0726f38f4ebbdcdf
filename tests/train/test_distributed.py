"""Two gloo processes give what one gives, and none waits for a dead one (faults.md, rows 10, 16 and 49)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fastlm.errors import ConfigError
from fastlm.train import checkpoint, distributed, metrics
from fastlm.train.config import RunConfig
from fastlm.train.distributed import World

Spawn = Callable[..., subprocess.CompletedProcess[str]]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=0")


def assert_close(ours: Any, theirs: Any, where: str = "") -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_close(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6), where
    else:
        assert ours == theirs, where


def test_two_processes_give_the_curve_of_one_and_resume(
    make_config: Callable[..., RunConfig], run: Callable[[RunConfig], str], spawn: Spawn, tmp_path: Path
) -> None:
    values = {"max_steps": 9, "dropout": 0.0, "accumulate": 2, "batch_size": 15}
    run(make_config(run=str(tmp_path / "one"), **values))
    one = metrics.without_timing(metrics.read(tmp_path / "one/metrics.jsonl"))
    # stopped once on the way: both ranks must agree on it, and on where to go on
    done = spawn(launcher=TORCHRUN, run=str(tmp_path / "two"), TERM=5, RANK="1", **values)
    assert done.returncode != 0
    assert "stopped by SIGTERM after step 5" in done.stderr, done.stderr
    done = spawn(launcher=TORCHRUN, run=str(tmp_path / "two"), resume="auto", **values)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 ranks") == 1
    two = metrics.without_timing(metrics.read(tmp_path / "two/metrics.jsonl"))
    assert len(two) == len(one)
    for ours, theirs in zip(two, one, strict=True):
        assert_close(ours, theirs)
    last = [load_file(checkpoint.folder(tmp_path / name, 9) / checkpoint.MODEL) for name in ("one", "two")]
    for name, tensor in last[0].items():
        torch.testing.assert_close(last[1][name], tensor, rtol=1e-2, atol=2e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_the_death_of_one_rank_ends_the_other(spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTLM_DIST_TIMEOUT", "20")
    begun = time.monotonic()
    done = spawn(launcher=TORCHRUN, max_steps=500, eval_every=500, KILL=4, RANK="1")
    assert done.returncode != 0
    assert time.monotonic() - begun < 90
    assert checkpoint.steps(tmp_path / "run") == []


def test_the_world_that_the_environment_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.world() == World(0, 1, 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="must all be set to numbers"):
        distributed.world()
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ConfigError, match="RANK 2 is outside WORLD_SIZE 2"):
        distributed.world()
    monkeypatch.setenv("RANK", "1")
    assert distributed.world() == World(1, 2, 0)
    assert not distributed.world().main
