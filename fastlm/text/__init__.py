"""Text in: readers, normalisation, tokenizers."""
