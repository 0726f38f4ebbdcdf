"""The special tokens, in id order from 0; `[KO]` and `[EN]` are kept for the direction of a translation."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[KO]", "[EN]")
