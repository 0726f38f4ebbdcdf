"""``fastlm tokenizer``: train one, look into one, check that one loses nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastlm.cli.flags import add_config_flags, config_from_args
from fastlm.data.config import READING, DataConfig
from fastlm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fastlm.text.readers import ReadReport

_SAMPLES = {
    "ko": "나는 어제 친구와 함께 도서관에서 한국어 문법을 공부했습니다.",
    "en": "Yesterday I studied Korean grammar at the library together with a friend.",
}
_SHOWN = 5  # longest tokens per language, and failed texts


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("tokenizer", help="train, inspect and round-trip tokenizers")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="learn a vocabulary from text")
    _add_data(train)
    train.add_argument("--kind", metavar="KIND", default="byte", help="byte or char (default byte)")
    train.add_argument(
        "--vocab-size",
        metavar="N",
        type=int,
        default=30_000,
        help="tokens in all, specials and bytes included (default 30000)",
    )
    train.add_argument(
        "--exact", action="store_true", help="refuse when the text cannot fill the vocabulary, instead of warning"
    )
    train.add_argument("--out", metavar="FILE", required=True, help="where tokenizer.json is written")
    train.set_defaults(handler=run_train)

    inspect = commands.add_parser("inspect", help="size, digest, longest tokens, and the tokens of a text")
    inspect.add_argument("file", metavar="FILE", help="tokenizer.json")
    inspect.add_argument(
        "text", metavar="TEXT", nargs="?", default="", help="shown token by token ([MASK] and its kind are recognised)"
    )
    inspect.set_defaults(handler=run_inspect)

    roundtrip = commands.add_parser(
        "roundtrip", help="count the texts that do not come back; tokens per sentence and character"
    )
    roundtrip.add_argument("file", metavar="FILE", help="tokenizer.json")
    _add_data(roundtrip)
    roundtrip.set_defaults(handler=run_roundtrip)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="PATH", nargs="+", required=True, help="files, folders, or LANG=FILE")
    add_config_flags(parser, DataConfig, only=READING)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand that was given."""
    code: int = args.handler(args)
    return code


def run_train(args: argparse.Namespace) -> int:
    """Trains and saves; prints what came of it."""
    import sys
    import time
    from pathlib import Path

    from fastlm.text.readers import ReadReport
    from fastlm.text.tokenizer import Tokenizer

    if not Path(args.out).absolute().parent.is_dir():
        raise ConfigError(f"--out {args.out}: its folder does not exist")
    started = time.perf_counter()
    report = ReadReport()
    texts = (text for _, text in _texts(args, report))
    tokenizer = Tokenizer.train(
        texts, kind=args.kind, vocab_size=args.vocab_size, exact=args.exact, progress=sys.stderr.isatty()
    )
    tokenizer.save(args.out)
    seconds = time.perf_counter() - started
    print(
        f"{args.out}: {tokenizer.kind}, {tokenizer.vocab_size:,} tokens from {report.texts:,} texts in {seconds:.1f} s"
    )
    print(f"digest {tokenizer.digest}")
    _print_left_out(report)
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    """Prints the facts of a tokenizer, and the tokens of a text."""
    from fastlm.text.readers.languages import language_of_texts
    from fastlm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(args.file)
    print(f"kind        {tokenizer.kind}")
    print(f"tokens      {tokenizer.vocab_size:,} ({tokenizer.special_count} special, {tokenizer.merges:,} merges)")
    print(f"digest      {tokenizer.digest}")
    for language, sample in _SAMPLES.items():
        count = len(tokenizer.encode(sample))
        print(f"{language}          {count / len(sample):.3f} tokens per character ({count} in {sample!r})")
    tokens = [tokenizer.token_bytes[i].decode(errors="replace") for i in range(tokenizer.vocab_size)]
    longest = sorted(range(tokenizer.vocab_size), key=lambda i: (-len(tokens[i]), i))
    for language in _SAMPLES:
        found = (i for i in longest if language_of_texts([tokens[i]]) == language)
        shown = "  ".join(tokenizer.token(i) for i, _ in zip(found, range(_SHOWN), strict=False))
        print(f"longest {language}  {shown}")
    if args.text:
        ids = tokenizer.encode_with_specials(args.text)
        print(f"{len(ids)} tokens: " + " ".join(f"{tokenizer.token(i)}({i})" for i in ids))
    return 0


def run_roundtrip(args: argparse.Namespace) -> int:
    """Prints per language how long texts become and how many do not come back; exit code 1 if any does not."""
    from fastlm.text.readers import ReadReport
    from fastlm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(args.file)
    report = ReadReport()
    counts: dict[str, list[int]] = {}  # language -> texts, characters, tokens, failures
    failures: list[str] = []
    for batch in _batches(_texts(args, report), 1000):
        encoded = tokenizer.encode_batch([text for _, text in batch])
        for (language, text), ids in zip(batch, encoded, strict=True):
            failed = tokenizer.decode(ids) != text
            count = counts.setdefault(language, [0, 0, 0, 0])
            for place, value in enumerate((1, len(text), len(ids), int(failed))):
                count[place] += value
            if failed and len(failures) < _SHOWN:
                failures.append(text)
    if not counts:
        raise DataError(f"{' '.join(args.data)}: there is no text in it")
    print("language      texts  tokens/sentence  tokens/character  not round-tripped")
    for language, (texts, characters, tokens, failed_count) in sorted(counts.items()):
        print(f"{language:8} {texts:>10,}  {tokens / texts:>15.2f}  {tokens / characters:>16.3f}  {failed_count:>17,}")
    for text in failures:
        print(f"not round-tripped: {text[:200]!r}")
    _print_left_out(report)
    return 1 if failures else 0


def _texts(args: argparse.Namespace, report: ReadReport) -> Iterator[tuple[str, str]]:
    """(language, text) of everything that the flags name."""
    from fastlm.text.readers import ReadOptions, find_sources

    options = ReadOptions.from_config(config_from_args(args, DataConfig()))
    for source in find_sources(args.data, options):
        for row in source.read(options, report):
            yield from row.texts.items()


def _batches(items: Iterator[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    import itertools

    while batch := list(itertools.islice(items, size)):
        yield batch


def _print_left_out(report: ReadReport) -> None:
    """One line on what the reading policy did, if anything."""
    import dataclasses

    counts = dataclasses.asdict(report)
    rest = [
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count and name not in ("rows", "texts")
    ]
    if rest:
        print(f"of {report.rows:,} rows: {', '.join(rest)}")
