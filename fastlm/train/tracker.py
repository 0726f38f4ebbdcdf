"""A copy of the metrics for TensorBoard; metrics.jsonl stays the truth, and a copy that fails never stops a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastlm.errors import ConfigError

#: fields that are curves, beside the per-language ones
CURVES = ("loss", "accuracy", "perplexity", "bits_per_character", "tokens_per_second", "lr", "grad_norm", "skipped")
GROUPS = ("languages", "domains")


class Tracker:
    """Does nothing: no copy was asked for."""

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of the metrics."""

    def close(self) -> None:
        """The end of the run."""


class TensorBoard(Tracker):
    """Writes event files into ``RUN/tensorboard``; steps that a resume repeats replace their first copy."""

    def __init__(self, folder: Path, step: int, warn: Callable[[str], None]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)
        self._warn = warn
        self._failed = False

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of the metrics; after a failure, nothing more."""
        if self._failed:
            return
        try:
            for name, value in curves(line).items():
                self._writer.add_scalar(name, value, line["step"])
        except OSError as error:
            self._failed = True
            self._warn(f"TensorBoard copy stopped ({error}); metrics.jsonl goes on")

    def close(self) -> None:
        """Flushes."""
        if not self._failed:
            self._writer.close()


def curves(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line by curve: ``train/loss``, ``valid/languages/ko/accuracy``."""
    split = line["split"]
    found = {f"{split}/{name}": line[name] for name in CURVES if line.get(name) is not None}
    for group in GROUPS:
        for key, values in line.get(group, {}).items():
            found |= {f"{split}/{group}/{key}/{name}": values[name] for name in CURVES if values.get(name) is not None}
    return found


def check_available() -> None:
    """Raises ConfigError, before training, where TensorBoard was asked for and is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"--tensorboard: {error}; pip install tensorboard, or leave the flag out") from None
