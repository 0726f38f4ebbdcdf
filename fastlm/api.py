"""A trained run in a few words: ``fastlm.load(run).fill("나는 [MASK] 좋아한다")``. Commands use the same methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from fastlm.errors import ConfigError
from fastlm.models.classifier import TextClassifier
from fastlm.models.classify import classify
from fastlm.models.generate import evaluating, fill, generate, pack
from fastlm.models.language_model import LanguageModel
from fastlm.models.seq2seq import Seq2SeqLM
from fastlm.models.translate import translate
from fastlm.text.normalise import normalise
from fastlm.train import checkpoint
from fastlm.train.checkpoint import Loaded

#: what a run of each kind is for
USED_BY = {"encoder": "fill", "decoder": "generate", "seq2seq": "translate", "classifier": "classify"}

M = TypeVar("M", LanguageModel, Seq2SeqLM, TextClassifier)


class Candidate(NamedTuple):
    """What a model would put in the place of a ``[MASK]``, or a class that it would give a text."""

    text: str
    probability: float


class Filled(NamedTuple):
    """A sentence with its blanks filled by the likeliest, and the candidates of each, likeliest first."""

    text: str
    candidates: list[list[Candidate]]


class Translated(NamedTuple):
    """A translation, and its log-probability over the length penalty."""

    text: str
    score: float


class Run:
    """A model with its tokenizer, in evaluation mode; made by :func:`load`.

    Attributes:
        kind: ``encoder``, ``decoder``, ``seq2seq`` or ``classifier``.
        model, tokenizer, config, step: as `fastlm.train.checkpoint.Loaded` has them.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.model, self.tokenizer, self.config, self.step = loaded.model, loaded.tokenizer, loaded.config, loaded.step
        self.kind = loaded.config.model.model

    def to(self, device: str | torch.device) -> Run:
        """This run, with its model on another device."""
        self.model.to(device)
        return self

    def fill(self, text: str, top_k: int = 5) -> Filled:
        """The likeliest tokens at every ``[MASK]`` of a sentence, by an encoder.

        Raises:
            ConfigError: another kind of model; no ``[MASK]``; more tokens than the model reads.
        """
        model, tokenizer = self._needs("encoder", "fill", LanguageModel), self.tokenizer
        ids = [tokenizer.bos_id, *tokenizer.encode_with_specials(text), tokenizer.eos_id]
        if tokenizer.mask_id not in ids:
            raise ConfigError(f"the text has no [MASK] to fill: {text!r}")
        self._check_length(ids)
        found = fill(model, ids, tokenizer.mask_id, top_k, banned=range(tokenizer.special_count))
        best = iter([choices[0][0] for choices in found])
        whole = tokenizer.decode([next(best) if i == tokenizer.mask_id else i for i in ids])
        named = [[Candidate(self._name(token), probability) for token, probability in each] for each in found]
        return Filled(whole, named)

    def generate(self, prompts: str | Sequence[str] = "", *, max_new_tokens: int = 64, **sampling: Any) -> list[str]:
        """Each prompt with what a decoder writes behind it; options as `fastlm.models.generate.generate`'s.

        Raises:
            ConfigError: another kind of model; a prompt as long as what the model reads.
            ValueError: a setting out of range.
        """
        model, tokenizer = self._needs("decoder", "generate", LanguageModel), self.tokenizer
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = [[tokenizer.bos_id, *tokenizer.encode(text)] for text in texts]
        for prompt in ids:
            self._check_length([*prompt, tokenizer.eos_id])
        written = generate(
            model,
            ids,
            max_new_tokens=max_new_tokens,
            eos_id=tokenizer.eos_id,
            banned=self._specials_but_end(),
            **sampling,
        )
        return [tokenizer.decode([*prompt, *new]) for prompt, new in zip(ids, written, strict=True)]

    def translate(self, texts: str | Sequence[str], to: str = "auto", **search: Any) -> list[list[Translated]]:
        """The translations of every text, best first; options as `fastlm.models.translate.translate`'s.

        Args:
            texts: one or several; longer ones than the model reads are cut. One without text has no translation.
            to: ``ko``, ``en``, or ``auto``: of what holds Hangul to English, of anything else to Korean.
            search: ``beams``, ``length_penalty``, ``max_new_tokens``, ``batch_tokens``.

        Raises:
            ConfigError: another kind of model, another language.
            ValueError: a setting out of range.
        """
        model, tokenizer = self._needs("seq2seq", "translate", Seq2SeqLM), self.tokenizer
        if to not in ("auto", "ko", "en"):
            raise ConfigError(f"to: {to!r} is not auto, ko or en")
        given = [normalise(text) for text in ([texts] if isinstance(texts, str) else texts)]
        ids = [tokenizer.encode(text)[: self.config.model.seq_len - 2] for text in given]
        full = [i for i, line in enumerate(ids) if line]
        found = translate(
            model,
            [[tokenizer.bos_id, *ids[i], tokenizer.eos_id] for i in full],
            [tokenizer.en_id if _to_english(given[i], to) else tokenizer.ko_id for i in full],
            eos_id=tokenizer.eos_id,
            banned=self._specials_but_end(),
            **search,
        )
        results: list[list[Translated]] = [[] for _ in given]
        for i, best in zip(full, found, strict=True):
            results[i] = [Translated(tokenizer.decode(list(one.ids)), one.score) for one in best]
        return results

    def classify(self, texts: str | Sequence[str], top_k: int = 1) -> list[list[Candidate]]:
        """The likeliest classes of every text, likeliest first; longer texts than the model reads are cut.

        Raises:
            ConfigError: another kind of model.
        """
        model, tokenizer = self._needs("classifier", "classify", TextClassifier), self.tokenizer
        given = [texts] if isinstance(texts, str) else list(texts)
        found = classify(model, [self._framed(text, [tokenizer.eos_id]) for text in given])
        best = found.topk(min(top_k, found.shape[1]))
        labels = self.config.model.labels
        return [
            [Candidate(labels[i], p) for i, p in zip(numbers, shares, strict=True)]
            for numbers, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def embed(self, texts: str | Sequence[str]) -> Tensor:
        """(N, d) fp32 on the CPU: each text's final hidden states, averaged over its tokens; longer texts are cut.

        Of a translation model or a classifier its encoder's. ``[BOS]``, and ``[EOS]`` where the model reads it, are
        read and not averaged; a text without tokens gives what ``[BOS]`` does.
        """
        tokenizer = self.tokenizer
        model = self.model if isinstance(self.model, LanguageModel) else self.model.encoder
        ends = [] if model.causal else [tokenizer.eos_id]
        given = [texts] if isinstance(texts, str) else list(texts)
        ids = [self._framed(text, ends) for text in given]
        if not ids:
            return torch.empty(0, self.config.model.d_model)
        with evaluating(model):
            hidden = model.hidden_states(*pack(ids, model.device)).float().cpu()
        parts = hidden.split([len(text) for text in ids])
        kept = (part[1 : len(part) - len(ends)] if len(part) > 1 + len(ends) else part[:1] for part in parts)
        return torch.stack([part.mean(0) for part in kept])

    def _framed(self, text: str, ends: list[int]) -> list[int]:
        """``[BOS] x`` and what ends it, as much as the model reads."""
        room = self.config.model.seq_len - 1 - len(ends)
        return [self.tokenizer.bos_id, *self.tokenizer.encode(normalise(text))[:room], *ends]

    def _needs(self, kind: str, command: str, model: type[M]) -> M:
        if self.kind != kind:
            raise ConfigError(
                f"this run's model is of kind {self.kind}, {command} needs kind {kind}; use {USED_BY[self.kind]}"
            )
        assert isinstance(self.model, model)
        return self.model

    def _check_length(self, ids: Sequence[int]) -> None:
        seq_len = self.config.model.seq_len
        if len(ids) > seq_len:
            raise ConfigError(
                f"the text has {len(ids)} tokens, the model reads at most {seq_len} (--seq-len of its training)"
            )

    def _specials_but_end(self) -> list[int]:
        return [i for i in range(self.tokenizer.special_count) if i != self.tokenizer.eos_id]

    def _name(self, token: int) -> str:
        return self.tokenizer.decode([token]).strip() or self.tokenizer.token(token)


def load(run: str | Path, which: str | int = "best") -> Run:
    """The model of a run, or of what ``fastlm merge`` made, on the CPU.

    Args:
        run: run folder.
        which: ``best``, ``latest`` or a step.

    Raises:
        CheckpointError: no such run or checkpoint, or a damaged one.
    """
    return Run(checkpoint.load(Path(run), which))


def _to_english(text: str, to: str) -> bool:
    return to == "en" if to != "auto" else any("가" <= letter <= "힣" for letter in text)
