"""Sentences and their translations: which of the store's sentences make a pair, and what a batch of them holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastlm.data.batching import FRAME, Ints, Packed, Pieces, cut_to_fit, pack_decoder, pack_plain
from fastlm.data.store import Corpus
from fastlm.errors import ConfigError, DataError
from fastlm.text.specials import SPECIAL_TOKENS

DIRECTIONS = {"ko-en": (("ko", "en"),), "en-ko": (("en", "ko"),), "both": (("ko", "en"), ("en", "ko"))}


@dataclass(frozen=True)
class Pairs:
    """P sentences to translate, each with its translation; both fit the model.

    Attributes:
        sources, targets: P pieces each.
    """

    sources: Pieces
    targets: Pieces

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def sentences(self) -> Ints:
        """(P,) int64, ids of the translations."""
        return self.targets.sentences

    @property
    def lengths(self) -> Ints:
        """(P,) int64, tokens of both sides, and specials as far as a pair has more than a sentence."""
        return self.sources.lengths + self.targets.lengths + FRAME

    @property
    def cut(self) -> int:
        """Sentences that were longer than the model takes."""
        return self.sources.cut + self.targets.cut

    @property
    def dropped(self) -> int:
        """Tokens lost to truncation."""
        return self.sources.dropped + self.targets.dropped

    def take(self, members: Ints) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.sources.take(members), self.targets.take(members))


def pair_up(store: Corpus, ids: Ints, direction: str, seq_len: int, long: str) -> Pairs:
    """The pairs among the sentences ``ids``, in the order of their rows; in both directions each row makes two.

    Args:
        store: the prepared text.
        ids: ascending.
        direction: a key of DIRECTIONS.
        seq_len: of the model, for either side.
        long: as in `cut_to_fit`, but a pair cannot be split.

    Raises:
        ConfigError: ``split``.
        DataError: no pair in that direction; with ``refuse``, a sentence that is too long.
    """
    if long == "split":
        raise ConfigError("--long split: a sentence and its translation cannot be split alike; take truncate or refuse")
    rows: dict[str, Ints] = {}
    for language in ("ko", "en"):
        known = language in store.language_names
        index = store.language_names.index(language) if known else -1
        own = ids[store.languages[ids] == index] if known else ids[:0]
        # Of several sentences of one language in a row the first counts.
        pairs, first = np.unique(store.pairs[own], return_index=True)
        rows[language] = np.stack([pairs, own[first]])
    shared = np.intersect1d(rows["ko"][0], rows["en"][0])
    if not len(shared):
        raise DataError(f"{store.path}: none of its sentences has a translation; train on line-aligned ko and en text")
    sides = {language: own[1][np.searchsorted(own[0], shared)] for language, own in rows.items()}
    wanted = DIRECTIONS[direction]
    sources, targets = (np.concatenate([sides[way[side]] for way in wanted]) for side in (0, 1))
    order = np.argsort(np.tile(np.arange(len(shared)), len(wanted)), kind="stable")
    return Pairs(*(cut_to_fit(store, side[order], seq_len, long) for side in (sources, targets)))


def pack_pairs(store: Corpus, pairs: Pairs) -> Packed:
    """Targets ``[EN] y`` with labels ``y [EOS]``, and their sources ``[BOS] x [EOS]``.

    The first token says which language to write: a decoder's ``[BOS]``, in two kinds.
    """
    target = pack_decoder(store, pairs.targets)
    target.tokens[target.cu_seqlens[:-1]] = language_tokens(store)[store.languages[pairs.targets.sentences]]
    return target.translating(pack_plain(store, pairs.sources))


def language_tokens(store: Corpus) -> NDArray[np.int64]:
    """The special token of each of the store's languages; -1 for one that has none."""
    names = [f"[{name.upper()}]" for name in store.language_names]
    return np.array([SPECIAL_TOKENS.index(name) if name in SPECIAL_TOKENS else -1 for name in names], dtype=np.int64)
