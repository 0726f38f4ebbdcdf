"""fastlm: fast pre-training of encoder and decoder language models on one's own Korean-English text."""

__version__ = "0.1.0"
