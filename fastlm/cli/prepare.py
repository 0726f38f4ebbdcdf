"""``fastlm prepare``: read, split and tokenize text into a store that training maps into memory."""

from __future__ import annotations

import argparse

from fastlm.cli.flags import add_config_flags, config_from_args
from fastlm.data.config import DataConfig
from fastlm.models.config import ModelConfig

# The options that decide what a store holds; the others choose from it when training.
FIELDS = (
    "data",
    "tokenizer",
    "vocab_languages",
    "cache",
    "encoding",
    "on_bad_text",
    "on_bad_row",
    "columns",
    "sheet",
    "align",
    "valid_fraction",
    "split_seed",
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "prepare",
        help="read, split and tokenize text into a store",
        description="Read text, remove repeats, hold out a validation part, train a tokenizer and write a token store; "
        "without --data the built-in demo corpus. A store whose text and options are unchanged is reused.",
    )
    add_config_flags(parser, DataConfig, only=FIELDS)
    add_config_flags(parser, ModelConfig, only=("vocab_size",))
    parser.add_argument("--out", metavar="STORE", default="", help="folder of the store; default inside the cache")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prepares and prints what the store holds."""
    config = config_from_args(args, DataConfig())
    vocab_size = config_from_args(args, ModelConfig()).vocab_size
    import sys
    from pathlib import Path

    from fastlm.data.prepare import prepare, prepared
    from fastlm.data.summary import summary

    progress = sys.stderr.isatty()
    if args.out:
        store = prepare(config, Path(args.out), vocab_size=vocab_size, progress=progress)
    else:
        store = prepared(config, vocab_size, progress)
    print(summary(store))
    return 0
