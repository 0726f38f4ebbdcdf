"""How good a translation model's translations are: chrF++ and BLEU of held-out pairs, by sacrebleu."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlm.data.config import DataConfig
from fastlm.data.pairs import DIRECTIONS, pair_up
from fastlm.data.store import Store
from fastlm.errors import ConfigError
from fastlm.models.seq2seq import Seq2SeqLM
from fastlm.models.translate import translate

#: how BLEU cuts a language into words; Korean's come in too many forms, so it counts characters
BLEU_WORDS = {"ko": "char", "en": "13a"}


@dataclass(frozen=True)
class TranslationScore:
    """Of one direction (Popovic 2017, https://aclanthology.org/W17-4770; Post 2018, arXiv:1804.08771).

    Attributes:
        chrf: chrF++, 0 to 100.
        bleu: 0 to 100.
        sentences: pairs that were translated.
        signatures: how sacrebleu computed each.
    """

    chrf: float
    bleu: float
    sentences: int
    signatures: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)


def check_available() -> None:
    """Refuses, in words, where sacrebleu is missing."""
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        raise ConfigError("scores of translations need sacrebleu: pip install 'fastlm[translation]'") from None


def translation_scores(
    model: Seq2SeqLM, store: Store, data: DataConfig, *, sentences: int, beams: int
) -> dict[str, TranslationScore]:
    """Scores by direction, of the directions that ``data`` names, over held-out pairs whose texts fit the model.

    References are what the store's tokens spell: the normalised text.

    Args:
        model: on any device.
        store: with its tokenizer.
        data: of it, languages, domains and ``direction`` count.
        sentences: held-out sentences of the fixed sample, both sides counted; 0 for all.
        beams: 1 is greedy.
    """
    check_available()
    from sacrebleu.metrics import BLEU, CHRF

    tokenizer = store.tokenizer
    ids = np.sort(store.by_key(store.select("valid", data))[: sentences or None])
    found: dict[str, TranslationScore] = {}
    for source, target in DIRECTIONS[data.direction]:
        pairs = pair_up(store, ids, f"{source}-{target}", model.config.seq_len, "truncate")
        pairs = pairs.take(np.flatnonzero(pairs.sources.complete & pairs.targets.complete))
        best = translate(
            model,
            [[tokenizer.bos_id, *store.sentence(i).tolist(), tokenizer.eos_id] for i in pairs.sources.sentences],
            [tokenizer.en_id if target == "en" else tokenizer.ko_id] * len(pairs),
            eos_id=tokenizer.eos_id,
            beams=beams,
            banned=[i for i in range(tokenizer.special_count) if i != tokenizer.eos_id],
        )
        written = [tokenizer.decode(list(some[0].ids)) for some in best]
        wanted = [tokenizer.decode(store.sentence(i).tolist()) for i in pairs.targets.sentences]
        metrics = {"chrF++": CHRF(word_order=2), "BLEU": BLEU(tokenize=BLEU_WORDS[target])}
        scores = {name: metric.corpus_score(written, [wanted]).score for name, metric in metrics.items()}
        signatures = {name: str(metric.get_signature()) for name, metric in metrics.items()}
        found[f"{source}-{target}"] = TranslationScore(scores["chrF++"], scores["BLEU"], len(pairs), signatures)
    return found
