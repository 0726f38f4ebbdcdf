"""BPE on bytes and BPE on characters, over one joint Korean-English vocabulary, in one ``tokenizer.json``.

Both kinds lose nothing: ``decode(encode(text)) == normalise(text)`` for every text.

* ``byte``: byte-level BPE as GPT-2 has it; the 256 bytes are the alphabet.
* ``char``: BPE on characters. The common characters of the training text are the alphabet; any other is spelt by its
  UTF-8 bytes (``<0x00>``-``<0xFF>``), so nothing is unknown.

In both, text is cut before merging into runs of letters, digits, other signs and white space (GPT-2's pattern), each
with at most one space before it: the space in front is the word mark, kept as a real space, so that any white space
survives. The cut also keeps letters and brackets apart, so no merge can ever spell a special token or a byte token.

Everything about a tokenizer is recovered from the Hugging Face file alone; nothing of ours is added to it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from fastlm.errors import ConfigError, DataError
from fastlm.text.pipeline import BYTE_OF, BYTE_TOKENS, BYTE_VALUES, KINDS, SMALLEST, kind_of
from fastlm.text.specials import SPECIAL_TOKENS
from fastlm.text.training import LONGEST_PIECE, TRAINERS, pieces

_log = logging.getLogger("fastlm")

_SHOWN = {" ": "▁", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


class Tokenizer:
    """A trained tokenizer; make one with :meth:`train` or :meth:`load`.

    Attributes:
        kind: "byte" or "char".
        vocab_size: number of ids; the special tokens are the first ``special_count``.
        digest: SHA-256 of the canonical JSON (sorted keys), in hexadecimal: two files that differ only in the order of
            their keys are the same tokenizer.
    """

    def __init__(self, text: str, origin: str = "tokenizer") -> None:
        """Wrap the text of a ``tokenizer.json``; ``origin`` names it in errors.

        Raises:
            DataError: not a tokenizer file, or one whose special tokens or pipeline are not fastlm's.
        """
        try:
            self._hf = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the Rust side raises bare Exception
            raise DataError(f"{origin}: not a tokenizer.json ({error})") from None
        self._json: dict[str, Any] = json.loads(text)
        self.kind = kind_of(self._json, origin)
        self._hf.no_truncation()
        self._hf.no_padding()
        self._hf.encode_special_tokens = True  # special-token text in a corpus is plain text
        canonical = json.dumps(self._json, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self.digest = hashlib.sha256(canonical.encode()).hexdigest()
        self.vocab_size: int = self._hf.get_vocab_size()
        self.special_count = len(SPECIAL_TOKENS)
        self.pad_id, self.unk_id, self.bos_id, self.eos_id, self.mask_id, self.ko_id, self.en_id = range(
            self.special_count
        )

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        kind: str,
        vocab_size: int,
        exact: bool = False,
        progress: bool = False,
    ) -> Tokenizer:
        """Learn a vocabulary from ``texts`` on all cores; the same texts give the same one on any number of threads.

        Args:
            texts: sentences of all languages. For ``char`` they are read twice, so an iterator is held in memory.
            kind: "byte" or "char".
            vocab_size: ids wanted, special tokens and bytes (263 together) included.
            exact: refuse when the texts cannot fill ``vocab_size``; otherwise warn and take the real size.
            progress: show a progress bar on stderr.

        Raises:
            ConfigError: an unknown kind, or a vocabulary below 263.
            DataError: no text at all, text with lone surrogates, or ``exact`` and too little text.
        """
        if kind not in KINDS:
            raise ConfigError(f"tokenizer kind {kind!r}: not one of {', '.join(KINDS)}")
        if vocab_size < SMALLEST:
            raise ConfigError(f"vocab-size {vocab_size}: below the {SMALLEST} that special tokens and bytes take")
        try:
            text = TRAINERS[kind](texts, vocab_size, progress)
        except UnicodeEncodeError as error:
            raise DataError(f"a training text has the lone surrogate U+{ord(error.object[error.start]):04X}") from None
        trained = cls(text)
        if trained.vocab_size < vocab_size:
            shortage = f"the text allows a vocabulary of {trained.vocab_size:,}, not {vocab_size:,}"
            if exact:
                raise DataError(f"{shortage}: give more text, or --vocab-size {trained.vocab_size}")
            _log.warning("%s; using %s", shortage, f"{trained.vocab_size:,}")
        return trained

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """The tokenizer saved at ``path``.

        Raises:
            DataError: unreadable, not a tokenizer.json, or not one that fastlm can use (the special tokens that are
                missing are named).
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a tokenizer.json ({error})") from None
        return cls(text, str(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` at ``path``, whole or not at all.

        Raises:
            DataError: the folder is missing or cannot be written to.
        """
        target = Path(path)
        text = json.dumps(self._json, ensure_ascii=False, indent=1)
        temporary = ""
        try:
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=target.parent, suffix=".tmp", delete=False
            ) as file:
                temporary = file.name
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise DataError(f"{path}: cannot be written ({error.strerror})") from None

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, without special tokens; their names in the text are plain text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`encode` of every text, on all cores.

        Raises:
            DataError: a text with a lone surrogate.
        """
        long = {number: self._encode_long(text) for number, text in enumerate(texts) if len(text) > LONGEST_PIECE}
        if not long:
            return self._ids(texts)
        short = iter(self._ids([text for text in texts if len(text) <= LONGEST_PIECE]))
        return [long[number] if number in long else next(short) for number in range(len(texts))]

    def _encode_long(self, text: str) -> list[int]:
        """Piece by piece, a few at a time: what the Rust side keeps per token is many times the text."""
        rest = pieces(text)
        ids: list[int] = []
        while group := list(itertools.islice(rest, 16)):
            for part in self._ids(group):
                ids += part
        return ids

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            return [encoding.ids for encoding in self._hf.encode_batch_fast(list(texts), add_special_tokens=False)]
        except TypeError:  # what the Rust side makes of a string it cannot read as UTF-8
            for number, text in enumerate(texts):
                _refuse_surrogates(text, number)
            raise

    def encode_with_specials(self, text: str) -> list[int]:
        """Ids of ``text``, with ``[MASK]`` and the other special tokens recognised: for prompts, not for corpora."""
        _refuse_surrogates(text, 0)
        ids: list[int] = self._prompts.encode(text, add_special_tokens=False).ids
        return ids

    @cached_property
    def _prompts(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_str(json.dumps(self._json))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; special tokens are dropped, bytes that are no character become U+FFFD.

        Raises:
            IndexError: an id outside the vocabulary.
        """
        for token_id in ids:
            self._check(token_id)
        text: str = self._hf.decode(list(ids), skip_special_tokens=True)
        return text

    def token(self, token_id: int) -> str:
        """The token as a person reads it: a space as ``▁``, bytes of a part of a character as ``<0xEC>``.

        Raises:
            IndexError: an id outside the vocabulary.
        """
        self._check(token_id)
        if token_id < self.special_count:
            return SPECIAL_TOKENS[token_id]
        spelt = self.token_bytes[token_id].decode("utf-8", errors="surrogateescape")
        return "".join(BYTE_TOKENS[ord(c) - 0xDC00] if 0xDC80 <= ord(c) <= 0xDCFF else _SHOWN.get(c, c) for c in spelt)

    def _check(self, token_id: int) -> None:
        if not 0 <= token_id < self.vocab_size:
            raise IndexError(f"token id {token_id} is outside the vocabulary of {self.vocab_size}")

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each id stands for; none for special tokens."""
        vocabulary = {index: token for token, index in self._json["model"]["vocab"].items()}
        table = []
        for index in range(self.vocab_size):
            token = vocabulary[index]
            if index < self.special_count:
                table.append(b"")
            elif self.kind == "byte":
                table.append(bytes(BYTE_OF[c] for c in token))
            else:
                table.append(BYTE_VALUES.get(token) or token.encode())
        return tuple(table)

    @cached_property
    def token_characters(self) -> np.ndarray:
        """int16 (V,): characters that begin in each token; over a text's ids they sum to the length of its NFC."""
        starts = [sum(byte & 0xC0 != 0x80 for byte in token) for token in self.token_bytes]
        return np.array(starts, dtype=np.int16)

    @cached_property
    def word_starts(self) -> np.ndarray:
        """Boolean (V,): the token begins a word, that is, with white space; special tokens stand alone.

        A sentence's first token begins a word whatever it is.
        """
        starts = [not token or token.decode(errors="replace")[0].isspace() for token in self.token_bytes]
        return np.array(starts, dtype=np.bool_)

    @cached_property
    def merges(self) -> int:
        """How many merges were learnt."""
        return len(self._json["model"]["merges"])


def _refuse_surrogates(text: str, number: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise DataError(f"text {number} has the lone surrogate U+{code:04X} at character {error.start}") from None
