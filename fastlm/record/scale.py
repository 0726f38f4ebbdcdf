"""How a case is made smaller: every rule is in `SCALES` and `scaled`.

Both keep the ratios between the runs of a case. Widths, vocabulary, batch and text are divided by one number each, so
that a run of twice the width, batch or text stays one. Layers, learning rates, decay, dropout, masking and schedules
are what a case compares, and are never touched; a schedule counted in epochs stretches with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastlm.train.config import RunConfig, TrainConfig

#: entries of a vocabulary that no text gives: 7 special tokens and 256 bytes. They are not divided.
GIVEN_ENTRIES = 7 + 256
#: head widths that the kernels take
HEAD_WIDTHS = range(16, 129, 8)


@dataclass(frozen=True)
class Scale:
    """One way to shrink a case.

    Attributes:
        width: d_model and ff are divided by it; heads only where a head would be narrower than 16.
        vocabulary: entries beyond the 263 that no text gives are divided by it.
        batch: sentences (or tokens) of a batch are divided by it.
        visits: sentences that the case's largest run reads over all its epochs, 0 for all its text: a share of the
            training text is taken, the same of every run, so that they keep their ratios and their epochs.
        epochs: passes over the text (and what a schedule counts in them) are divided by it.
        warmup: steps of warm-up are divided by it.
        valid_sentences: held-out sentences of an evaluation, 0 for what the recipe says.
    """

    name: str
    width: int = 1
    vocabulary: float = 1.0
    batch: int = 1
    visits: int = 0
    epochs: float = 1.0
    warmup: int = 1
    valid_sentences: int = 0

    @property
    def words(self) -> str:
        """What a page says of it; empty for the case as it was."""
        if self == SCALES["full"]:
            return ""
        return (
            f"scaled down (--scale {self.name}): d_model and ff divided by {self.width}, the vocabulary beyond "
            f"{GIVEN_ENTRIES} entries by {self.vocabulary:g}, batches by {self.batch}{self._shorter}; a share of the "
            f"text, the same for all runs, so that the longest reads {self.visits:,} sentences over all its epochs; "
            f"{self.valid_sentences:,} held-out sentences in an evaluation. Layers, learning rates, decay, dropout and "
            "masks are as they were"
        )

    @property
    def note(self) -> str:
        """The same in small print, for a chart."""
        if self == SCALES["full"]:
            return ""
        return (
            f"--scale {self.name}: d_model, ff / {self.width}; vocabulary / {self.vocabulary:g}; batch / {self.batch}"
            f"{f'; epochs / {self.epochs:g}' if self.epochs != 1 else ''}; {self.visits:,} sentences read"
        )

    @property
    def _shorter(self) -> str:
        return f", epochs by {self.epochs:g}, warm-up by {self.warmup}" if self.epochs != 1 else ""


#: full: the case as the recipe has it. cpu: two runs in some ten minutes on two cores. small: seconds, for tests.
SCALES = {
    scale.name: scale
    for scale in (
        Scale("full"),
        Scale("cpu", width=2, vocabulary=6.75, batch=8, visits=96_000, valid_sentences=400),
        Scale("small", 4, vocabulary=200, batch=32, visits=192, epochs=16, warmup=20, valid_sentences=32),
    )
}


def scaled(config: RunConfig, scale: Scale) -> RunConfig:
    """A run of a case in the sizes of ``scale``, all but its share of the text (`share_factor`)."""
    model, data, train = config.model, config.data, config.train
    d_model = model.d_model // scale.width
    factor = 1 / scale.epochs
    return RunConfig(
        model=dataclasses.replace(
            model,
            d_model=d_model,
            ff=max(1, model.ff // scale.width),
            heads=heads(d_model, model.heads),
            vocab_size=vocabulary(model.vocab_size, scale),
        ),
        data=dataclasses.replace(
            data, batch_size=max(1, data.batch_size // scale.batch), batch_tokens=data.batch_tokens // scale.batch
        ),
        train=dataclasses.replace(
            train,
            epochs=train.epochs * factor,
            max_steps=_divided(train.max_steps, scale.epochs),
            warmup=_divided(train.warmup, scale.warmup),
            valid_sentences=scale.valid_sentences or train.valid_sentences,
            **_per_epoch(train, factor),
        ),
    )


def _divided(steps: int, by: float) -> int:
    return max(1, round(steps / by)) if steps else 0


def _per_epoch(train: TrainConfig, factor: float) -> dict[str, Any]:
    """What a schedule counts in epochs: a shorter run has as many restarts, and the same last rate."""
    if factor == 1:
        return {}
    if train.schedule == "cosine-restarts":
        return {"restart_epochs": train.restart_epochs * factor}
    return {"lr_decay": train.lr_decay ** (1 / factor)} if train.schedule == "exponential" else {}


def vocabulary(size: int, scale: Scale) -> int:
    """The entries of a scaled vocabulary; 0 (what the text gives) stays 0."""
    if size <= GIVEN_ENTRIES:
        return size
    return GIVEN_ENTRIES + round((size - GIVEN_ENTRIES) / scale.vocabulary)


def heads(d_model: int, wanted: int) -> int:
    """The most heads, not more than ``wanted``, that are as wide as the kernels take; ``wanted`` where none is."""
    able = [n for n in range(wanted, 0, -1) if d_model % n == 0 and d_model // n in HEAD_WIDTHS]
    return able[0] if able else wanted


def share_factor(visits: Iterable[float], scale: Scale) -> float:
    """What the shares of a case's runs are multiplied with.

    Args:
        visits: of each run with the text of its recipe, training sentences times (scaled) epochs.
        scale: whose ``visits`` the largest of them is to come down to.
    """
    return min(1.0, scale.visits / max(visits)) if scale.visits else 1.0
