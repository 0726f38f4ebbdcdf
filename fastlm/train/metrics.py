"""What a run measures, and ``metrics.jsonl``, its truth: one JSON object a line.

Sums are float64 and are added step by step in a fixed order, so that a resumed run writes the same bits as one that was
never stopped; only the fields of ``TIMING`` differ.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlm.errors import CheckpointError
from fastlm.train import atomic

#: fields that depend on the machine's speed, not on what was learnt
TIMING = ("seconds", "tokens_per_second")

#: columns of a table of sums
LOSS, CORRECT, TARGETS, CHARACTERS = range(4)
COLUMNS = 4

#: a 2-D table of sums: a row per group (language or domain), the columns above
Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Means over predicted tokens.

    Attributes:
        loss: nats per predicted token.
        accuracy: share of predicted tokens whose argmax is right, 0 to 1.
        perplexity: exp(loss).
        bits_per_character: the loss in bits per character of normalised text that begins in a predicted token;
            comparable across vocabularies, which accuracy and perplexity are not.
        targets: predicted tokens; with none, every mean is NaN.
    """

    loss: float
    accuracy: float
    perplexity: float
    bits_per_character: float
    targets: int

    @classmethod
    def of(cls, sums: Sums) -> Score:
        """From one row of sums."""
        loss, correct, targets, characters = (float(x) for x in sums)
        mean = loss / targets if targets else math.nan
        return cls(
            loss=mean,
            accuracy=correct / targets if targets else math.nan,
            perplexity=math.exp(mean) if mean < 700 else (math.inf if mean >= 700 else math.nan),
            bits_per_character=loss / math.log(2) / characters if characters else math.nan,
            targets=int(targets),
        )

    def fields(self, *names: str) -> dict[str, Any]:
        """Some of the values by name, as they are written to ``metrics.jsonl``."""
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Scores:
    """Scores of an evaluation: overall, and by language and domain where there is a target."""

    overall: Score
    languages: dict[str, Score]
    domains: dict[str, Score]


def by_group(sums: Sums, names: Sequence[str]) -> dict[str, Score]:
    """Scores of the groups that have a target, and a name (the one language of labelled texts has none)."""
    return {name: Score.of(row) for name, row in zip(names, sums, strict=True) if row[TARGETS] and name}


@dataclass
class Interval:
    """What training has summed up since the last line; saved with checkpoints so that no line misses a step."""

    sums: Sums
    norm_sum: float = 0.0
    steps: int = 0
    tokens: int = 0
    seconds: float = field(default=0.0)

    @classmethod
    def empty(cls, groups: int) -> Interval:
        """Nothing yet."""
        return cls(np.zeros((groups, COLUMNS)))

    def add(self, sums: Sums, norm: float) -> None:
        """One optimizer step's sums and gradient norm."""
        self.sums += sums
        self.norm_sum += norm
        self.steps += 1

    @property
    def norm(self) -> float:
        """Mean gradient norm before clipping."""
        return self.norm_sum / self.steps if self.steps else math.nan

    def as_json(self) -> dict[str, Any]:
        """Exact: JSON keeps every bit of a float."""
        return {
            "sums": self.sums.tolist(),
            "norm_sum": self.norm_sum,
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Interval:
        """The inverse of :meth:`as_json`."""
        return cls(**{**plain, "sums": np.array(plain["sums"], dtype=np.float64).reshape(-1, COLUMNS)})


class MetricsWriter:
    """Appends lines to ``metrics.jsonl``; a line that the disk refuses is kept and tried again with the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = b""

    def append(self, line: dict[str, Any]) -> None:
        """Writes one line.

        Raises:
            OSError: the disk refused; the line is kept in memory and the file is left without a torn end.
        """
        self._pending += (json.dumps(_finite(line), ensure_ascii=False) + "\n").encode()
        self.flush()

    def flush(self, *, sync: bool = False) -> None:
        """Writes what is pending; with ``sync``, down to the disk."""
        # Unbuffered: a buffer would be written once more on closing, after the truncation.
        with open(self.path, "ab", buffering=0) as file:
            good = file.tell()
            try:
                rest = memoryview(self._pending)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                os.truncate(self.path, good)
                raise
            self._pending = b""
            if sync:
                os.fsync(file.fileno())

    def cut(self, step: int, evaluated: int) -> int:
        """Drops, at once, the training lines after ``step``, the others after ``evaluated``, and any torn last line.

        Returns:
            How many lines were dropped.
        """
        if not self.path.exists():
            return 0
        lines = read(self.path)
        kept = [line for line in lines if line["step"] <= (step if line["split"] == "train" else evaluated)]
        text = "".join(json.dumps(_finite(line), ensure_ascii=False) + "\n" for line in kept)
        atomic.replace_file(self.path, text.encode())
        return len(lines) - len(kept)


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; a torn last line (a crash while writing) is left out.

    Raises:
        CheckpointError: the file cannot be read, or a line before the last is no JSON object with a step and split.
    """
    try:
        rows = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    lines: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            line = json.loads(row)
            line["step"] + 0, line["split"] + ""
        except (ValueError, TypeError, KeyError):
            if number == len(rows):
                break
            raise CheckpointError(
                f"{path}:{number}: not a line of metrics; delete the line, or restore the file from a copy"
            ) from None
        lines.append(line)
    return lines


def without_timing(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines without what depends on the machine's speed: equal for a resumed and an uninterrupted run."""
    return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]
