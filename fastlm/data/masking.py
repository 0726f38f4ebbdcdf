"""Which tokens the encoder predicts: a pure function of (seed, epoch, sentence id).

Of a sentence's n units (tokens or words), ``floor(rate * n + u)`` are chosen, u uniform in [0, 1): every token is
chosen with probability `rate` exactly, also in short sentences. Of the chosen, `keep` stay as they are, `random` become
a random non-special token and the rest `[MASK]` (Devlin et al., BERT, 2019). Units:

- token: the tokens with the lowest draws.
- word: whole words, those whose first token has the lowest draws.
- span: runs of tokens whose lengths are geometric (p = 0.2) up to 10, as in SpanBERT (Joshi et al., 2020), begun at
  the unchosen tokens with the lowest draws until ``floor(rate * tokens + u)`` are chosen; the last run is cut.
  (SpanBERT's runs are of whole words; these are of tokens, which keeps the expected count exact.)

Probabilities are rounded to multiples of 2^-32 and everything else is integer arithmetic, so that numpy (this file,
the specification) and C++ (`kernels/cpu/host/masking.h`) agree bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastlm.data.config import DataConfig
from fastlm.data.host import native
from fastlm.data.philox import Stream, draws
from fastlm.errors import ConfigError
from fastlm.text.tokenizer import Tokenizer

UNITS = ("token", "word", "span")
_ONE = 1 << 32

# P(length <= i + 1) * 2^32 of a geometric distribution with p = 1/5 renormalised to lengths 1..10, as exact integers.
_SPAN_WEIGHTS = [4**i * 5 ** (9 - i) for i in range(10)]
SPAN_ENDS = np.array([c * _ONE // sum(_SPAN_WEIGHTS) for c in accumulate(_SPAN_WEIGHTS)][:-1], dtype=np.uint32)


@dataclass(frozen=True)
class MaskPolicy:
    """How a sentence is masked; see the module. Probabilities are checked when it is made.

    Attributes:
        rate: share of the tokens to predict, 0 to 1.
        keep, random: of those, the shares left as they are and replaced by a random token.
        unit: ``token``, ``word`` or ``span``.
        special_count: ids below it are special; they are never masked and never drawn as replacement.
        vocab_size, mask_id: of the tokenizer.
        word_starts: (vocab_size,) bool, the token begins a word.
    """

    rate: float
    keep: float
    random: float
    unit: str
    special_count: int
    vocab_size: int
    mask_id: int
    word_starts: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for flag, value in (("mask-rate", self.rate), ("mask-keep", self.keep), ("mask-random", self.random)):
            if not 0 <= value <= 1:  # also refuses NaN
                raise ConfigError(f"--{flag} {value} is not a probability; give a number from 0 to 1")
        if self.keep + self.random > 1 + 1e-9:
            raise ConfigError(
                f"--mask-keep {self.keep} and --mask-random {self.random} add up to more than 1; "
                "what is left of 1 becomes [MASK]"
            )
        if self.unit not in UNITS:
            raise ConfigError(f"--mask-unit {self.unit!r} is not one of {', '.join(UNITS)}")
        if self.vocab_size <= self.special_count:
            raise ConfigError(
                f"the vocabulary has {self.vocab_size} entries, all of them special; nothing can be masked"
            )

    @classmethod
    def of(cls, tokenizer: Tokenizer, data: DataConfig) -> MaskPolicy:
        """The policy that a run's options name.

        Raises:
            ConfigError: a probability outside 0 to 1; keep and random above 1 together.
        """
        return cls(
            rate=data.mask_rate,
            keep=data.mask_keep,
            random=data.mask_random,
            unit=data.mask_unit,
            special_count=tokenizer.special_count,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            word_starts=np.ascontiguousarray(tokenizer.word_starts, dtype=np.bool_),
        )

    @property
    def thresholds(self) -> tuple[int, int, int]:
        """``rate``, ``keep`` and ``keep + random`` in units of 2^-32."""
        share = [math.floor(p * _ONE + 0.5) for p in (self.rate, self.keep, self.keep + self.random)]
        return share[0], share[1], min(share[2], _ONE)


Masked = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


class Sentences(NamedTuple):
    """Packed sentences to be masked.

    Attributes:
        tokens: (T,) int64, specials included.
        cu_seqlens: (B+1,) int64, first row of each sentence.
        ids: (B,) int64, in the store.
        starts: (B,) int64, where in its stored sentence each begins (0, unless a long one was split).
    """

    tokens: NDArray[np.int64]
    cu_seqlens: NDArray[np.int64]
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]


def mask_tokens(sentences: Sentences, policy: MaskPolicy, *, seed: int, epoch: int) -> Masked:
    """Masks packed sentences.

    Args:
        sentences: the tokens and where they come from.
        policy: rates and unit.
        seed: of the run.
        epoch: of the run; 0 for static masks.

    Returns:
        inputs (T,), the tokens with the chosen ones replaced; target_rows (M,) ascending; targets (M,), the former ids.
    """
    if native is None:
        return numpy_mask_tokens(sentences, policy, seed=seed, epoch=epoch)
    rate, keep, keep_or_random = policy.thresholds
    masked: Masked = native.mask_tokens(
        *sentences,
        seed=seed & (2**64 - 1),
        epoch=epoch,
        unit=UNITS.index(policy.unit),
        rate=rate,
        keep=keep,
        keep_or_random=keep_or_random,
        special_count=policy.special_count,
        vocab_size=policy.vocab_size,
        mask_id=policy.mask_id,
        word_starts=policy.word_starts,
        span_ends=SPAN_ENDS,
    )
    return masked


def numpy_mask_tokens(sentences: Sentences, policy: MaskPolicy, *, seed: int, epoch: int) -> Masked:
    """`mask_tokens` in numpy: the specification."""
    tokens, cu_seqlens, ids, starts = sentences
    rate, keep, keep_or_random = policy.thresholds
    rows = np.flatnonzero(tokens >= policy.special_count)
    owner = np.searchsorted(cu_seqlens, rows, side="right") - 1
    places = rows - cu_seqlens[owner]
    drawn = draws(seed, epoch, Stream.TOKEN, ids[owner], starts[owner] + places)
    dice = draws(seed, epoch, Stream.SENTENCE, ids, starts)[:, 0]
    begins_word = policy.word_starts[tokens[rows]]
    chosen = np.zeros(len(rows), dtype=np.bool_)
    bounds = np.searchsorted(owner, np.arange(len(ids) + 1))
    for index, (first, last) in enumerate(pairwise(bounds.tolist())):
        own = slice(first, last)
        candidates = _Sentence(drawn[own], places[own], begins_word[own], rate, int(dice[index]))
        chosen[first + _CHOOSE[policy.unit](candidates)] = True
    rows, words = rows[chosen], drawn[chosen].astype(np.uint64)
    random_token = words[:, 2] * np.uint64(policy.vocab_size - policy.special_count) >> np.uint64(32)
    replaced = np.where(
        words[:, 1] < keep_or_random, random_token.astype(np.int64) + policy.special_count, policy.mask_id
    )
    inputs = tokens.copy()
    inputs[rows] = np.where(words[:, 1] < keep, tokens[rows], replaced)
    return inputs, rows, tokens[rows]


@dataclass(frozen=True)
class _Sentence:
    """The maskable tokens of one sentence: their draws, places and whether each begins a word; how many to choose."""

    drawn: NDArray[np.uint32]
    places: NDArray[np.int64]
    begins_word: NDArray[np.bool_]
    rate: int
    dice: int

    def share(self, count: int) -> int:
        return (self.rate * count + self.dice) >> 32


def _choose_tokens(s: _Sentence) -> NDArray[np.int64]:
    return np.sort(np.argsort(s.drawn[:, 0], kind="stable")[: s.share(len(s.drawn))])


def _choose_words(s: _Sentence) -> NDArray[np.int64]:
    begins = s.begins_word | (np.diff(s.places, prepend=-2) != 1)
    first_tokens = np.flatnonzero(begins)
    words = np.argsort(s.drawn[first_tokens, 0], kind="stable")[: s.share(len(first_tokens))]
    word_of = np.cumsum(begins) - 1
    return np.flatnonzero(np.isin(word_of, words))


def _choose_spans(s: _Sentence) -> NDArray[np.int64]:
    lengths = 1 + np.searchsorted(SPAN_ENDS, s.drawn[:, 3], side="right")
    chosen = np.zeros(len(s.drawn), dtype=np.bool_)
    budget = s.share(len(s.drawn))
    for begin in np.argsort(s.drawn[:, 0], kind="stable"):
        if budget == 0:
            break
        if chosen[begin]:
            continue
        new = begin + np.flatnonzero(~chosen[begin : begin + lengths[begin]])[:budget]
        chosen[new] = True
        budget -= len(new)
    return np.flatnonzero(chosen)


_CHOOSE = {"token": _choose_tokens, "word": _choose_words, "span": _choose_spans}
