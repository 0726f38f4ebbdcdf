"""How good a classifier is on labelled texts: accuracy, F1, and the confusion matrix as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fastlm.data.labelled import LabelledCorpus
from fastlm.models.classifier import TextClassifier
from fastlm.models.classify import classify
from fastlm.text.columns import pad, widest
from fastlm.train.charts import drawing

#: classes up to which every cell of the picture has its count written in
COUNTS_SHOWN = 12


@dataclass(frozen=True)
class ClassScore:
    """Of one class, each 0 to 1: of what was called so, the share that is; of what is, the share called so; their
    harmonic mean. 0 where there is nothing to divide by (as scikit-learn's ``zero_division=0``).
    """

    precision: float
    recall: float
    f1: float
    texts: int


@dataclass(frozen=True)
class Classification:
    """What a classifier made of texts whose classes are known.

    Attributes:
        labels: the classes.
        confusion: (classes, classes) int64, ``confusion[is, called]`` texts.
    """

    labels: tuple[str, ...]
    confusion: NDArray[np.int64]

    @property
    def texts(self) -> int:
        """How many there are."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of texts whose class was found."""
        return float(np.trace(self.confusion)) / max(self.texts, 1)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that a text has or was given."""
        seen = [
            score.f1 for score, called in zip(self.classes.values(), self._called, strict=True) if score.texts or called
        ]
        return sum(seen) / len(seen) if seen else 0.0

    @property
    def classes(self) -> dict[str, ClassScore]:
        """Scores by class."""
        found = {}
        for i, label in enumerate(self.labels):
            hit, called, real = (int(x) for x in (self.confusion[i, i], self._called[i], self.confusion[i].sum()))
            precision, recall = hit / max(called, 1), hit / max(real, 1)
            f1 = 2 * hit / (called + real) if called + real else 0.0
            found[label] = ClassScore(precision, recall, f1, real)
        return found

    @property
    def _called(self) -> NDArray[np.int64]:
        called: NDArray[np.int64] = self.confusion.sum(0)
        return called

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "texts": self.texts,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "classes": {label: vars(score) for label, score in self.classes.items()},
            "confusion": self.confusion.tolist(),
        }

    def table(self) -> list[str]:
        """Lines for a person."""
        width = widest([*self.labels, "class"])
        lines = [
            f"accuracy {self.accuracy:.4f}, macro F1 {self.macro_f1:.4f} of {self.texts:,} texts",
            f"{'class':{width}}  {'precision':>9}  {'recall':>9}  {'F1':>9}  {'texts':>9}",
        ]
        for label, score in self.classes.items():
            shares = "  ".join(f"{value:9.4f}" for value in (score.precision, score.recall, score.f1))
            lines.append(f"{pad(label, width)}  {shares}  {score.texts:9,}")
        return lines


def classification(model: TextClassifier, corpus: LabelledCorpus, ids: NDArray[np.int64]) -> Classification:
    """What ``model`` says of the texts ``ids`` of a corpus, beside what they are; longer texts are cut."""
    tokenizer, room = corpus.tokenizer, model.config.seq_len - 2
    texts = [[tokenizer.bos_id, *corpus.sentence(i)[:room].tolist(), tokenizer.eos_id] for i in ids]
    called = classify(model, texts).argmax(-1).numpy()
    confusion = np.zeros((len(model.config.labels),) * 2, dtype=np.int64)
    np.add.at(confusion, (corpus.domains[ids].astype(np.int64), called), 1)
    return Classification(model.config.labels, confusion)


def draw_confusion(found: Classification, path: Path) -> None:
    """The confusion matrix as a PNG: a row per class, shaded by the share of the row, with counts where they fit.

    Raises:
        OSError: ``path`` cannot be written.
    """
    count = len(found.labels)
    share = found.confusion / np.maximum(found.confusion.sum(1, keepdims=True), 1)
    side = 3.2 + 0.55 * min(count, 24)
    with drawing():
        figure = Figure(figsize=(side + 1.2, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(count), found.labels, rotation=45, ha="right")
        axes.set_yticks(range(count), found.labels)
        axes.set_xlabel("called")
        axes.set_ylabel("is")
        axes.set_title(f"accuracy {found.accuracy:.4f}, macro F1 {found.macro_f1:.4f}, {found.texts:,} texts")
        if count <= COUNTS_SHOWN:
            for row in range(count):
                for column in range(count):
                    ink = "white" if share[row, column] > 0.6 else "black"
                    axes.text(column, row, f"{found.confusion[row, column]:,}", ha="center", va="center", color=ink)
        figure.colorbar(image, label="share of the row")
        figure.savefig(path, dpi=120)
