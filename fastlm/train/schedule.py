"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no scheduler state.

Every schedule starts with the same linear warm-up; the first update already uses ``lr / warmup``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fastlm.errors import ConfigError
from fastlm.train.config import TrainConfig


def constant(t: int, span: int, steps_per_epoch: float, config: TrainConfig) -> float:
    """The peak rate throughout."""
    return config.lr


def cosine(t: int, span: int, steps_per_epoch: float, config: TrainConfig) -> float:
    """Half a cosine from the peak to ``lr_end`` over the run (SGDR without restarts, Loshchilov & Hutter 2017)."""
    return _half_cosine(config.lr, config.lr_end, min(t / max(span, 1), 1.0))


def cosine_restarts(t: int, span: int, steps_per_epoch: float, config: TrainConfig) -> float:
    """SGDR: a cosine every ``restart_epochs``; each restart's peak is ``lr_decay`` times the one before."""
    period = config.restart_epochs * steps_per_epoch
    cycle = math.floor(t / period)
    peak = max(config.lr * config.lr_decay**cycle, config.lr_end)
    return _half_cosine(peak, config.lr_end, t / period - cycle)


def exponential(t: int, span: int, steps_per_epoch: float, config: TrainConfig) -> float:
    """``lr * lr_decay ** epochs``, decaying a little at every step rather than in stairs."""
    return config.lr * math.pow(config.lr_decay, t / steps_per_epoch)


def _half_cosine(high: float, low: float, progress: float) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, Callable[[int, int, float, TrainConfig], float]] = {
    "constant": constant,
    "cosine": cosine,
    "cosine-restarts": cosine_restarts,
    "exponential": exponential,
}


def learning_rate(index: int, total_steps: int, steps_per_epoch: float, config: TrainConfig) -> float:
    """The rate of update ``index`` (0-based).

    Args:
        index: 0-based global step.
        total_steps: length of the run in steps; only the cosine asks for it (0 means unknown).
        steps_per_epoch: updates in one pass over the data.
        config: peak, warm-up and shape.
    """
    if index < config.warmup:
        return config.lr * (index + 1) / config.warmup
    return SCHEDULES[config.schedule](index - config.warmup, total_steps - config.warmup, steps_per_epoch, config)


def check(config: TrainConfig, total_steps: int) -> None:
    """Raises ConfigError where a schedule cannot know its own length."""
    if config.schedule == "cosine" and not total_steps:
        raise ConfigError(
            "--schedule cosine needs --epochs or --max-steps to know where it ends "
            "(--max-minutes may still stop it earlier)"
        )
