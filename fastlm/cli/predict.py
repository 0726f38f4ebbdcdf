"""``fastlm predict``: the classes of texts, a line each."""

from __future__ import annotations

import argparse
import sys

from fastlm.cli.lines import chunks
from fastlm.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "predict",
        help="classify lines with a classifier run",
        description="Reads a text a line and writes its class, in the same order; progress goes to stderr.",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="run folder of a classifier")
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="texts, one a line; -: stdin")
    parser.add_argument(
        "--top-k", type=int, default=1, metavar="N", help="classes a line, likeliest first, after tabs (default 1)"
    )
    parser.add_argument("--scores", action="store_true", help="put the probability and a tab before each")
    parser.add_argument("--which", default="best", metavar="best|latest|STEP", help="checkpoint (default best)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints classes."""
    if args.top_k < 1:
        raise ConfigError(f"--top-k: {args.top_k} is below 1")
    from fastlm.api import Run
    from fastlm.cli.loading import load_run

    run = Run(load_run(args.checkpoint, args.which, needs="classifier", command="predict"))
    done = 0
    for lines in chunks(args.file):
        for found in run.classify(lines, top_k=args.top_k):
            shown = (f"{one.probability:.4f}\t{one.text}" if args.scores else one.text for one in found)
            print("\t".join(shown), flush=True)
        done += len(lines)
        if sys.stderr.isatty():
            print(f"\r{done:,} lines", end="", file=sys.stderr, flush=True)
    return 0
