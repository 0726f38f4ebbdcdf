"""Schedules against closed forms and against torch's own."""

from __future__ import annotations

import math

import pytest
import torch

from fastlm.config import update
from fastlm.errors import ConfigError
from fastlm.train.config import RunConfig, TrainConfig
from fastlm.train.schedule import SCHEDULES, check, learning_rate

PER_EPOCH = 10


def config(**values: float | str) -> TrainConfig:
    return update(RunConfig(), {"lr": 1e-3, "warmup": 0, **values}).train


def rates(train: TrainConfig, total: int) -> list[float]:
    return [learning_rate(i, total, PER_EPOCH, train) for i in range(total)]


def torch_rates(make: object, total: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = make(optimizer)  # type: ignore[operator]
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_is_linear_and_ends_at_the_peak(name: str) -> None:
    found = rates(config(schedule=name, warmup=5, lr_decay=0.5), 8)
    assert found[:5] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    assert found[5] == pytest.approx(1e-3)


def test_constant() -> None:
    assert rates(config(), 50) == [1e-3] * 50


def test_cosine_is_torchs() -> None:
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, eta_min=1e-5), 40)
    assert rates(config(schedule="cosine", lr_end=1e-5), 40) == pytest.approx(theirs, rel=1e-9)


def test_cosine_after_warm_up_uses_what_is_left() -> None:
    train = config(schedule="cosine", warmup=10)
    assert learning_rate(10 + 20, 50, PER_EPOCH, train) == pytest.approx(0.5e-3)  # half of the 40 steps left
    assert learning_rate(50, 50, PER_EPOCH, train) == pytest.approx(0, abs=1e-12)


def test_restarts_are_torchs_without_decay() -> None:
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 20, eta_min=5e-6), 70)
    ours = rates(config(schedule="cosine-restarts", restart_epochs=2.0, lr_decay=1.0, lr_end=5e-6), 70)
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_each_restart_is_lower_by_the_factor() -> None:
    ours = rates(config(schedule="cosine-restarts", restart_epochs=2.0, lr_decay=0.75), 61)
    assert [ours[i] for i in (0, 20, 40, 60)] == pytest.approx([1e-3 * 0.75**k for k in range(4)])


def test_exponential_is_torchs_at_every_epoch() -> None:
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9), 5)
    ours = rates(config(schedule="exponential", lr_decay=0.9), 50)
    assert ours[::PER_EPOCH] == pytest.approx(theirs, rel=1e-9)
    assert ours[5] == pytest.approx(1e-3 * math.sqrt(0.9))


def test_cosine_without_a_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="--schedule cosine needs --epochs or --max-steps"):
        check(config(schedule="cosine"), 0)
    check(config(schedule="cosine-restarts"), 0)
