"""Two gloo processes give what one gives, and none waits for a dead one (faults.md, rows 10, 16 and 49)."""

from __future__ import annotations

import subprocess
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


def test_two_processes_give_the_curve_of_one_whatever_stops_them(
    make_config: Callable[..., RunConfig], run: Callable[[RunConfig], str], spawn: Spawn, tmp_path: Path
) -> None:
    values = {"max_steps": 9, "dropout": 0.0, "accumulate": 2, "batch_size": 15}
    run(make_config(run=str(tmp_path / "one"), **values))
    one = metrics.without_timing(metrics.read(tmp_path / "one/metrics.jsonl"))

    # A rank that dies takes the other with it: nobody waits, and what was saved is whole.
    done = spawn(launcher=TORCHRUN, run=str(tmp_path / "two"), KILL=5, RANK="1", **values)
    assert done.returncode != 0
    assert checkpoint.steps(tmp_path / "two") == [3]
    # A signal to one rank stops both after the same step.
    done = spawn(launcher=TORCHRUN, run=str(tmp_path / "two"), resume="auto", TERM=7, RANK="1", **values)
    assert done.returncode != 0
    assert "stopped by SIGTERM after step 7" in done.stderr, done.stderr
    assert done.stdout.count("2 ranks") == 1
    # And one process may finish what two began.
    assert "ranks 2 -> 1" in run(make_config(run=str(tmp_path / "two"), resume="auto", **values))

    two = metrics.without_timing(metrics.read(tmp_path / "two/metrics.jsonl"))
    assert len(two) == len(one)
    for ours, theirs in zip(two, one, strict=True):
        assert_close(ours, theirs)
    last = [load_file(checkpoint.folder(tmp_path / name, 9) / checkpoint.MODEL) for name in ("one", "two")]
    for name, tensor in last[0].items():
        torch.testing.assert_close(last[1][name], tensor, rtol=1e-2, atol=2e-4, msg=lambda m, name=name: f"{name}: {m}")


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
