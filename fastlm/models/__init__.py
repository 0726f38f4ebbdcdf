"""The language models and their configuration."""
