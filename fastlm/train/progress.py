"""How far a run is: everything beside weights and optimizer that a checkpoint must hold to go on exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from fastlm.batch import Step
from fastlm.train.metrics import Interval
from fastlm.train.step import StepResult


@dataclass
class Patience:
    """Evaluations without an improvement.

    Attributes:
        lowest_loss: of all evaluations, whether a checkpoint was saved for it or not; None before one.
        stale: evaluations since that one.
    """

    lowest_loss: float | None = None
    stale: int = 0

    def note(self, loss: float | None) -> None:
        """The validation loss of the next evaluation; one that is not finite (None in a file) is no improvement."""
        if loss is not None and math.isfinite(loss) and (self.lowest_loss is None or loss < self.lowest_loss):
            self.lowest_loss, self.stale = loss, 0
        else:
            self.stale += 1


@dataclass
class Progress:
    """Counters since the run's first step, over all ranks and resumes.

    Attributes:
        interval: sums since the last training line.
        step: finished optimizer steps (skipped ones included).
        epoch: passes over the training text, with a fraction.
        tokens, sentences: read so far, specials included in the tokens.
        seconds: wall time of training, evaluations and saves included.
        closing_seconds: of them, what the last evaluation took with its save; time that the end needs again.
        skipped, skipped_in_a_row: steps whose loss or gradient was not finite.
        evaluated: the step of the last evaluation.
        doubted: the step since which every evaluation gave a loss that is not finite; 0 when the last one's was.
        best_step, best_loss: the lowest validation loss that a checkpoint was saved for; 0 and None before one.
        patience: what the evaluations say of going on.
    """

    interval: Interval
    step: int = 0
    epoch: float = 0.0
    tokens: int = 0
    sentences: int = 0
    seconds: float = 0.0
    closing_seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    evaluated: int = 0
    doubted: int = 0
    best_step: int = 0
    best_loss: float | None = None
    patience: Patience = field(default_factory=Patience)

    def add(self, step: Step, epoch: float, result: StepResult, seconds: float) -> None:
        """One finished step that took so many seconds."""
        self.step, self.epoch = step.index + 1, epoch
        self.tokens += step.token_count
        self.sentences += step.sentence_count
        self.interval.tokens += step.token_count
        self.interval.seconds += seconds
        if result.finite:
            self.interval.add(result.sums, result.norm)
            self.skipped_in_a_row = 0
            return
        self.skipped += 1
        self.skipped_in_a_row += not result.overflow

    def as_json(self) -> dict[str, Any]:
        """JSON values; exact."""
        return {**vars(self), "interval": self.interval.as_json(), "patience": vars(self.patience)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Progress:
        """The inverse of :meth:`as_json`; a run of before there was patience begins it anew."""
        patience = Patience(**plain.get("patience", {}))
        return cls(**{**plain, "interval": Interval.from_json(plain["interval"]), "patience": patience})
