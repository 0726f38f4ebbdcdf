"""Translating with a sequence-to-sequence model: greedy and beam search over kept keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastlm import ops
from fastlm.batch import Source
from fastlm.models.cache import KeyValueCache
from fastlm.models.generate import check_ids, evaluating, largest, pack
from fastlm.models.seq2seq import Seq2SeqLM

#: tokens of sources and of what may be written, over all beams, that are worked on at once
BATCH_TOKENS = 16_384


@dataclass(frozen=True, order=True)
class Translation:
    """One of a sentence's translations.

    Attributes:
        score: log-probability divided by the length penalty; larger is better.
        ids: without the language token and without ``[EOS]``.
    """

    score: float
    ids: tuple[int, ...] = field(compare=False)


def translate(
    model: Seq2SeqLM,
    sources: Sequence[Sequence[int]],
    languages: Sequence[int],
    *,
    eos_id: int,
    beams: int = 1,
    length_penalty: float = 1.0,
    max_new_tokens: int = 0,
    banned: Sequence[int] = (),
    batch_tokens: int = BATCH_TOKENS,
) -> list[list[Translation]]:
    """The best translations of every source, ``beams`` of them at most, best first.

    Beam search as in transformers' ``generate`` (early_stopping=False): per step 2 * beams candidates of a sentence;
    those of the first ``beams`` that end, or are as long as may be, are finished with the score
    ``log p / length ** length_penalty`` (Wu et al. 2016, section 7, without its constant 5), and the best ``beams`` of
    all finished are kept; a sentence is done when the best running one would not be among them.

    Args:
        model: run without dropout, its mode is restored.
        sources: token ids with ``[BOS]`` and ``[EOS]``.
        languages: per source the token of the language to write, which begins the translation.
        eos_id: ends a translation.
        beams: 1 is greedy.
        length_penalty: exponent of the length, ``[EOS]`` included.
        max_new_tokens: of a translation, ``[EOS]`` included; 0: as many as the model's seq_len takes.
        banned: ids never written.
        batch_tokens: sources of like lengths are translated together; at least one.

    Raises:
        ValueError: an empty or too long source, an id outside the vocabulary, a setting out of range.
    """
    if beams < 1 or max_new_tokens < 0:
        raise ValueError(f"beams is {beams} and max_new_tokens {max_new_tokens}; at least 1 beam and 0 tokens")
    longest = model.config.seq_len
    for i, source in enumerate(sources):
        if not 1 <= len(source) <= longest:
            raise ValueError(f"source {i} has {len(source)} tokens; the model's seq_len takes 1 to {longest} of them")
        check_ids(model.decoder, source, f"source {i}")
    check_ids(model.decoder, [*languages, *banned], "languages or banned")
    room = min(max_new_tokens or longest, longest)
    search = _Search(eos_id, beams, length_penalty, room, list(banned))
    found: list[list[Translation]] = [[] for _ in sources]
    with evaluating(model):
        for batch in _batches(sources, beams * room, batch_tokens):
            parts = [sources[i] for i in batch]
            for i, best in zip(batch, search.run(model, parts, [languages[i] for i in batch]), strict=True):
                found[i] = best
    return found


def _batches(sources: Sequence[Sequence[int]], room: int, budget: int) -> Iterator[list[int]]:
    """Indexes of sources that are translated together, from the shortest on."""
    batch: list[int] = []
    for i in sorted(range(len(sources)), key=lambda i: len(sources[i])):
        if batch and (len(batch) + 1) * (len(sources[i]) + room) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@dataclass
class _Beams:
    """One sentence's search: ``beams`` running hypotheses with their log-probabilities, and the finished ones."""

    running: list[tuple[int, ...]]
    scores: list[float]
    finished: list[Translation] = field(default_factory=list)


@dataclass(frozen=True)
class _Search:
    eos_id: int
    beams: int
    length_penalty: float
    room: int  # tokens of a translation, [EOS] included
    banned: list[int]

    def run(
        self, model: Seq2SeqLM, sources: Sequence[Sequence[int]], languages: Sequence[int]
    ) -> list[list[Translation]]:
        """Translations of one batch, best first."""
        device = model.device
        memory = model.encode(Source(*pack(sources, device)))
        prompts = pack([[language] for language in languages], device)
        cache, logits = KeyValueCache.read(model.decoder, *prompts, room=self.room, memory=memory)
        # At first every sentence has one hypothesis; the others are made of its best continuations.
        states = [_Beams([()], [0.0]) for _ in sources]
        active = list(range(len(sources)))
        for written in range(1, self.room + 1):
            places, tokens, still, row = [], [], [], 0
            candidates = self._candidates(logits, [states[i] for i in active])
            for i, options in zip(active, candidates, strict=True):
                state = states[i]
                origins = self._advance(state, options, written)
                if written < self.room and not self._done(state, written):
                    places += [row + origin for origin in origins]
                    tokens += [text[-1] for text in state.running]
                    still.append(i)
                row += options.width
            active = still
            if not active:
                break
            cache.select(places)
            logits = cache.append(torch.tensor(tokens, device=device))
        return [state.finished for state in states]

    def _candidates(self, logits: Tensor, states: list[_Beams]) -> list[_Options]:
        """The 2 * beams best continuations of each sentence, which are among the best as many of its hypotheses."""
        logits = logits.float()
        first = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        totals = ops.cross_entropy(logits, first, reduction="none") + logits[:, 0]  # log of the sum of exponentials
        logits[:, self.banned] = -torch.inf
        values, ids = largest(logits, 2 * self.beams)
        rows = iter(zip((values - totals[:, None]).tolist(), ids.tolist(), strict=True))
        found = []
        for state in states:
            options = [
                (before + value, origin, token)
                for origin, before in enumerate(state.scores)
                for value, token in zip(*next(rows), strict=True)
            ]
            options.sort(key=lambda option: -option[0])
            found.append(_Options(len(state.running), options[: 2 * self.beams]))
        return found

    def _advance(self, state: _Beams, options: _Options, written: int) -> list[int]:
        """Replaces the running hypotheses by their best continuations; which each comes from."""
        running: list[tuple[int, ...]] = []
        scores: list[float] = []
        origins: list[int] = []
        for rank, (score, origin, token) in enumerate(options.each):
            text = state.running[origin]
            ends = token == self.eos_id
            if rank < self.beams and (ends or written == self.room):
                state.finished.append(
                    Translation(score / written**self.length_penalty, text if ends else (*text, token))
                )
            if ends:
                continue
            if len(running) < self.beams:
                running.append((*text, token))
                scores.append(score)
                origins.append(origin)
        state.running, state.scores = running, scores
        state.finished = sorted(state.finished, reverse=True)[: self.beams]
        return origins

    def _done(self, state: _Beams, written: int) -> bool:
        """Whether no running hypothesis can still get among the finished ones, judged by its score now."""
        if len(state.finished) < self.beams:
            return not state.running
        best = max(state.scores, default=-torch.inf) / written**self.length_penalty
        return bool(state.finished[-1].score >= best)


@dataclass(frozen=True)
class _Options:
    """Continuations of one sentence's ``width`` hypotheses, best first: score, hypothesis, token."""

    width: int
    each: list[tuple[float, int, int]]
