"""``fastlm fill``: what an encoder puts in the place of each ``[MASK]``."""

from __future__ import annotations

import argparse

from fastlm.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("fill", help="fill the [MASK]s of a sentence with an encoder run")
    parser.add_argument("checkpoint", metavar="RUN", help="run folder of an encoder")
    parser.add_argument("text", help='a sentence, such as "나는 [MASK] 좋아한다"')
    parser.add_argument("--top-k", type=int, default=5, metavar="N", help="candidates per mask (default 5)")
    parser.add_argument("--which", default="best", metavar="best|latest|STEP", help="checkpoint (default best)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints the candidates of each mask with their probabilities, and the sentence with the best ones."""
    from fastlm.api import Run
    from fastlm.cli.loading import load_run

    if args.top_k < 1:
        raise ConfigError(f"--top-k: {args.top_k} is not 1 or more")
    filled = Run(load_run(args.checkpoint, args.which, needs="encoder", command="fill")).fill(args.text, args.top_k)
    for number, choices in enumerate(filled.candidates, start=1):
        if len(filled.candidates) > 1:
            print(f"[MASK] {number}")
        for text, probability in choices:
            print(f"  {probability:6.3f}  {text}")
    print(filled.text)
    return 0
