"""Validation: one fixed masking, eval mode, every sentence weighed by its predicted tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastlm.batch import Batch, to_device
from fastlm.ops import LinearCrossEntropyOutput
from fastlm.train.distributed import World
from fastlm.train.metrics import CHARACTERS, COLUMNS, CORRECT, LOSS, TARGETS, Score, Scores, Sums, by_group

if TYPE_CHECKING:
    from fastlm.data.store import Corpus
    from fastlm.models.factory import Model


class Grouping:
    """Sums losses by the language and domain of the sentence that each target belongs to.

    A group is ``language * domains + domain``; its table of sums has ``len(names)`` rows.
    """

    def __init__(self, store: Corpus) -> None:
        self.language_names, self.domain_names = list(store.language_names), list(store.domain_names)
        self._languages, self._domains = store.languages, store.domains
        self._characters = store.target_characters

    @property
    def count(self) -> int:
        """Groups."""
        return len(self.language_names) * len(self.domain_names)

    def sums(self, batch: Batch, output: LinearCrossEntropyOutput) -> Tensor:
        """Sums of one batch, (groups, COLUMNS) float64, on the output's device and without a host sync.

        Args:
            batch: on the CPU (its ids are looked up in the store).
            output: of the model on that batch.
        """
        ids = batch.sentence_ids.numpy()
        sentence_group = np.asarray(self._languages[ids], dtype=np.int64) * len(self.domain_names) + self._domains[ids]
        group = torch.from_numpy(sentence_group[batch.target_sentences.numpy()])
        # A target outside the vocabulary has made the loss NaN, which the trainer explains: no second error here.
        characters = torch.from_numpy(self._characters.take(batch.targets.numpy(), mode="clip"))
        device = output.row_loss.device
        values = torch.empty(len(group), COLUMNS, dtype=torch.float64, device=device)
        values[:, LOSS] = output.row_loss
        values[:, CORRECT] = output.row_correct
        values[:, TARGETS] = 1
        values[:, CHARACTERS] = to_device(characters, device)
        # A product with the one-hot groups, where scatter-adds on CUDA would sum in another order at every call.
        one_hot = to_device(group, device) == torch.arange(self.count, device=device)[:, None]
        return one_hot.double() @ values

    def by_language(self, sums: Sums) -> Sums:
        """(languages, COLUMNS)."""
        found: Sums = sums.reshape(len(self.language_names), len(self.domain_names), COLUMNS).sum(axis=1)
        return found

    def by_domain(self, sums: Sums) -> Sums:
        """(domains, COLUMNS)."""
        found: Sums = sums.reshape(len(self.language_names), len(self.domain_names), COLUMNS).sum(axis=0)
        return found

    def scores(self, sums: Sums) -> Scores:
        """Overall, per language, per domain."""
        return Scores(
            overall=Score.of(sums.sum(0)),
            languages=by_group(self.by_language(sums), self.language_names),
            domains=by_group(self.by_domain(sums), self.domain_names),
        )


def evaluate(
    model: Model,
    batches: Iterable[Batch],
    store: Corpus,
    *,
    dtype: torch.dtype = torch.float32,
    world: World | None = None,
) -> Scores:
    """Scores of ``model`` on ``batches``, without dropout; the model's mode is as before afterwards.

    Args:
        model: on any device.
        batches: this rank's batches, on the CPU, as ``data.loader.validation`` gives them.
        store: the store that the batches came from.
        dtype: arithmetic of the matrix products (autocast), float32 for none.
        world: the ranks among which the batches were dealt; every rank gets the scores of all.
    """
    device = next(model.parameters()).device
    grouping = Grouping(store)
    total = torch.zeros(grouping.count, COLUMNS, dtype=torch.float64, device=device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                with autocast(device, dtype):
                    output = model.loss(batch.to(device), reduction="sum")
                total += grouping.sums(batch, output)
    finally:
        model.train(training)
    return grouping.scores((world or World()).sum(total).cpu().numpy())


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Matrix products in ``dtype``; float32 means as they are."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def unigram_loss(counts: NDArray[np.int64], batches: Iterable[Batch], store: Corpus) -> Scores:
    """The cross-entropy of the batches' targets under the training text's unigram distribution, add-one smoothed.

    It is what a model that knows how often each token occurs, and nothing else, would score: a run that does not get
    well below it has learnt nothing about context. Accuracy is that of always saying the most frequent token.

    Args:
        counts: (V,) how often training predicts each token (:func:`token_counts`).
        batches: on the CPU.
        store: the store that the batches came from.
    """
    smoothed = counts.astype(np.float64) + 1
    nats = torch.from_numpy(-np.log(smoothed / smoothed.sum()))
    best = int(counts.argmax())
    grouping = Grouping(store)
    total = np.zeros((grouping.count, COLUMNS))
    for batch in batches:
        row_loss = nats[batch.targets]
        total += grouping.sums(batch, LinearCrossEntropyOutput(row_loss.sum(), row_loss, batch.targets == best)).numpy()
    return grouping.scores(total)


def token_counts(store: Corpus, ids: NDArray[np.int64], *, ends: bool) -> NDArray[np.int64]:
    """How often each token is predicted in one pass over the sentences ``ids``: (V,) int64.

    Args:
        store: where the sentences are.
        ids: sentence ids, any order.
        ends: count one ``[EOS]`` per sentence, as a decoder predicts it.
    """
    chosen = np.zeros(len(store.offsets) - 1, dtype=bool)
    chosen[ids] = True
    counts = np.zeros(store.tokenizer.vocab_size, dtype=np.int64)
    for first in range(0, len(chosen), 1 << 16):  # pieces bound the memory that the expansion to tokens takes
        part = chosen[first : first + (1 << 16)]
        offsets = store.offsets[first : first + len(part) + 1]
        tokens = store.tokens[offsets[0] : offsets[-1]]
        counts += np.bincount(tokens[np.repeat(part, np.diff(offsets))], minlength=len(counts))
    if ends:
        counts[store.tokenizer.eos_id] += len(ids)
    return counts
