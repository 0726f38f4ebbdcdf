"""How far a run is, read from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastlm.config import update
from fastlm.errors import CheckpointError, ConfigError
from fastlm.train import checkpoint, metrics
from fastlm.train.config import RunConfig
from fastlm.train.progress import Patience
from fastlm.train.runfolder import CONFIG, METRICS


@dataclass(frozen=True)
class RunState:
    """What a run folder says of itself.

    Attributes:
        config: resolved; None before the run has begun.
        decided: device, sizes, text (``config.json``); empty before that.
        lines: of ``metrics.jsonl``.
        step: of the newest line.
        total: steps of the whole run, 0 where only a clock ends it.
        done: whether nothing is left to train.
    """

    config: RunConfig | None
    decided: dict[str, Any]
    lines: list[dict[str, Any]]
    step: int = 0
    total: int = 0
    done: bool = False

    @property
    def words(self) -> str:
        """In a few words."""
        if self.config is None:
            return "not begun"
        if not self.done:
            return f"stopped at step {self.step:,}" + (f" of {self.total:,}" if self.total else "")
        return "done" if self.step == self.total else f"ended early at step {self.step:,} of {self.total:,}"


def read(run: Path) -> RunState:
    """The state of a run; one whose folder does not exist yet has not begun.

    A run is done when the evaluation of its last step is written and the checkpoint of it is there, or when its
    patience was used up. A clock's end (``--max-minutes``) is not told from a stop.

    Raises:
        CheckpointError: ``config.json`` or ``metrics.jsonl`` is damaged.
    """
    try:
        plain = json.loads((run / CONFIG).read_bytes())
        config = update(RunConfig(), plain["config"], source=f"{run / CONFIG}: ")
        decided = dict(plain["decided"])
        total = int(decided["total_steps"])
    except FileNotFoundError:
        return RunState(None, {}, [])
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / CONFIG}: damaged ({error})") from None
    lines = metrics.read(run / METRICS) if (run / METRICS).exists() else []
    step = max((line["step"] for line in lines), default=0)
    evaluated = [line for line in lines if line["split"] == "valid"]
    at_end = bool(total and evaluated) and evaluated[-1]["step"] == total
    ended = at_end or _out_of_patience(evaluated, config.train.patience)
    return RunState(config, decided, lines, step, total, ended and _kept(run, step))


def _out_of_patience(evaluated: list[dict[str, Any]], patience: int) -> bool:
    counted = Patience()
    for line in evaluated:
        counted.note(line["loss"])
    return 0 < patience <= counted.stale


def _kept(run: Path, step: int) -> bool:
    """Whether the last checkpoint is of that step; a copy of a run without any checkpoint is taken at its word."""
    found = checkpoint.steps(run)
    return not found or found[-1] == step
