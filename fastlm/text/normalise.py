"""The one form of text that fastlm stores, counts and tokenizes.

What is changed, in this order:

1. NUL, ZERO WIDTH SPACE (U+200B), WORD JOINER (U+2060) and ZERO WIDTH NO-BREAK SPACE (U+FEFF, a stray byte order mark)
   are removed: they are invisible in Korean and English and make equal words differ.
2. Unicode normalisation form C: decomposed Korean (NFD, as macOS writes it) becomes syllables. Left alone it costs
   4-13 times more tokens.

What is kept as it is: compatibility jamo (ㅋㅋ, ㅠㅠ) and half-width forms, which NFKC would turn into something else;
ZERO WIDTH JOINER and NON-JOINER (emoji need them); tabs, carriage returns, U+2028 and every other white space.

The same two steps are the ``normalizer`` of every tokenizer.json (:data:`REMOVED` is written into it), so that
Hugging Face gives the same ids without this module.
"""

from __future__ import annotations

import re
import unicodedata

REMOVED = "\x00\u200b\u2060\ufeff"
_removed = re.compile(f"[{REMOVED}]")


def normalise(text: str) -> str:
    """``text`` without invisible characters, in NFC. Idempotent; never longer in code points than its NFC form."""
    if _removed.search(text):
        text = _removed.sub("", text)
    return unicodedata.normalize("NFC", text)
