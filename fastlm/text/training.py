"""Learning the vocabulary of a `Tokenizer` from text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import numpy as np
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers, trainers

from fastlm.errors import DataError
from fastlm.text.pipeline import BYTE_TOKENS, SMALLEST, pipeline
from fastlm.text.progress import counted
from fastlm.text.specials import SPECIAL_TOKENS

_CHARACTER_COVERAGE = 0.9995  # SentencePiece's default for languages with many characters
_LONGEST_TOKEN = 64  # characters; keeps rulers of dashes out of the vocabulary
LONGEST_PIECE = 1 << 16  # characters tokenized at once: bounds memory on a line of 100 MB
_BATCH = 1000


def _special_tokens() -> list[AddedToken]:
    """``[MASK]`` takes the space before it, as RoBERTa's does: the word it stands for begins with that space."""
    return [AddedToken(name, special=True, normalized=False, lstrip=name == "[MASK]") for name in SPECIAL_TOKENS]


def train_byte(texts: Iterable[str], vocab_size: int, progress: bool) -> str:
    """The tokenizer.json of a byte-level vocabulary."""
    hf = pipeline("byte", models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=_special_tokens(),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=_LONGEST_TOKEN,
        show_progress=False,
    )
    _feed(hf, trainer, texts, progress)
    return str(hf.to_str())


def train_char(texts: Iterable[str], vocab_size: int, progress: bool) -> str:
    """The tokenizer.json of a character vocabulary; an iterator is held in memory, for it is read twice."""
    if iter(texts) is texts:
        texts = list(texts)
    alphabet = _alphabet(texts, (vocab_size - SMALLEST) // 2)
    hf = pipeline("char", models.BPE(unk_token="[UNK]", byte_fallback=True))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[*_special_tokens(), *BYTE_TOKENS],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),  # with all of them initial, exactly these are kept
        max_token_length=_LONGEST_TOKEN,
        show_progress=False,
    )
    _feed(hf, trainer, texts, progress)
    data = json.loads(hf.to_str())
    # The trainer makes special whatever comes first; the bytes are ordinary tokens of the model.
    data["added_tokens"] = data["added_tokens"][: len(SPECIAL_TOKENS)]
    return json.dumps(data, ensure_ascii=False)


TRAINERS = {"byte": train_byte, "char": train_char}


def _alphabet(texts: Iterable[str], most: int) -> list[str]:
    """The commonest characters that cover 99.95 % of the normalised text, ``most`` at most; ties by code point."""
    normalise = pipeline("char", models.BPE()).normalizer.normalize_str
    counts = np.zeros(0x110000, dtype=np.int64)
    for batch in _batches(texts):
        codes = np.frombuffer(normalise("\n".join(batch)).encode("utf-32-le"), dtype=np.uint32)
        counts += np.bincount(codes, minlength=len(counts))
    order = np.argsort(-counts, kind="stable")
    order = order[: np.count_nonzero(counts)]
    covered = np.cumsum(counts[order])
    enough = np.searchsorted(covered, _CHARACTER_COVERAGE * covered[-1]) + 1 if len(order) else 0
    return [chr(code) for code in order[: min(enough, most)]]


def _feed(hf: tokenizers.Tokenizer, trainer: trainers.BpeTrainer, texts: Iterable[str], progress: bool) -> None:
    """Run the trainer over ``texts``.

    Raises:
        DataError: there is no text.
    """
    seen = 0

    def batches() -> Iterator[list[str]]:
        nonlocal seen
        for batch in _batches(counted(texts, "reading text", "learning merges", progress)):
            seen += sum(map(len, batch))
            yield batch

    hf.train_from_iterator(batches(), trainer)
    if not seen:
        raise DataError("there is no text to train a tokenizer on")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, long ones in pieces, in lists of about a thousand."""
    batch: list[str] = []
    for text in texts:
        batch.extend(pieces(text))
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def pieces(text: str) -> Iterator[str]:
    """``text`` cut so that its tokens stay the same: before a lone space between two words, at least every 64 Ki
    characters (inside a word only where one is longer than that).
    """
    start = 0
    while len(text) - start > LONGEST_PIECE:
        stop = start + LONGEST_PIECE
        cut = text.rfind(" ", start + 1, stop)
        while cut > start and (text[cut - 1].isspace() or text[cut + 1].isspace()):
            cut = text.rfind(" ", start + 1, cut)
        cut = cut if cut > start else stop
        yield text[start:cut]
        start = cut
    yield text[start:]
