"""What surrounds the BPE model in a ``tokenizer.json``: normaliser, pre-tokenizer and decoder of each kind."""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from fastlm.errors import DataError
from fastlm.text.normalise import REMOVED
from fastlm.text.specials import SPECIAL_TOKENS

KINDS = ("byte", "char")
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
SMALLEST = len(SPECIAL_TOKENS) + len(BYTE_TOKENS)
# GPT-2's pattern (Radford et al. 2019), as ByteLevel has it built in.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _byte_alphabet() -> dict[str, int]:
    """ByteLevel's printable stand-in for each byte: printable Latin-1 stands for itself, the rest follow 255."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


BYTE_OF = _byte_alphabet()
BYTE_VALUES = {token: bytes([value]) for value, token in enumerate(BYTE_TOKENS)}


def pipeline(kind: str, model: models.Model) -> tokenizers.Tokenizer:
    """A Hugging Face tokenizer with this kind's normaliser, pre-tokenizer and decoder around ``model``."""
    hf = tokenizers.Tokenizer(model)
    invisible = Regex("[" + "".join(f"\\x{{{ord(c):X}}}" for c in REMOVED) + "]")
    hf.normalizer = normalizers.Sequence([normalizers.Replace(invisible, ""), normalizers.NFC()])
    if kind == "byte":
        hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        hf.decoder = decoders.ByteLevel()
    else:
        hf.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
        hf.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return hf


def kind_of(data: dict[str, Any], origin: str) -> str:
    """Which kind a tokenizer.json holds.

    Raises:
        DataError: its special tokens or its pipeline are not fastlm's.
    """
    remedy = "train one with `fastlm tokenizer train`"
    special = {token["content"]: token["id"] for token in data["added_tokens"]}
    missing = [name for name in SPECIAL_TOKENS if name not in special]
    if missing:
        raise DataError(f"{origin}: has no special token {' '.join(missing)}; {remedy}")
    if special != {name: index for index, name in enumerate(SPECIAL_TOKENS)}:
        raise DataError(
            f"{origin}: its special tokens must be {' '.join(SPECIAL_TOKENS)}, ids 0-6, and no other; {remedy}"
        )
    if sorted(data["model"].get("vocab", {}).values()) != list(range(len(data["model"].get("vocab", {})))):
        raise DataError(f"{origin}: its ids are not 0, 1, 2, ... without gaps; {remedy}")
    if data["model"].get("type") != "BPE":
        raise DataError(f"{origin}: its model is {data['model'].get('type')}, not BPE; {remedy}")
    for kind in KINDS:
        ours = json.loads(pipeline(kind, models.BPE()).to_str())
        if all(data[part] == ours[part] for part in ("normalizer", "pre_tokenizer", "decoder")):
            needed = tuple(BYTE_OF) if kind == "byte" else BYTE_TOKENS
            if all(token in data["model"]["vocab"] for token in needed):
                return kind
            raise DataError(f"{origin}: its vocabulary lacks some of the 256 bytes; {remedy}")
    raise DataError(f"{origin}: its normalizer, pre-tokenizer and decoder are not fastlm's byte or char ones; {remedy}")
