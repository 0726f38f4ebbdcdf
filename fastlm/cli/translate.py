"""``fastlm translate``: sentences through a translation run, a line each."""

from __future__ import annotations

import argparse
import sys

from fastlm.cli.lines import chunks
from fastlm.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "translate",
        help="translate lines with a translation run",
        description="Reads a sentence a line and writes its translation, in the same order; progress goes to stderr.",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="run folder of a translation model")
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="text, a sentence a line; -: stdin")
    parser.add_argument(
        "--to", choices=("auto", "ko", "en"), default="auto", help="auto: of Hangul to en, else to ko (default auto)"
    )
    parser.add_argument("--beams", type=int, default=4, metavar="N", help="1 is greedy (default 4)")
    parser.add_argument(
        "--length-penalty", type=float, default=1.0, metavar="A", help="log p / length ** A ranks beams (default 1)"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=0, metavar="TOKENS", help="longest translation; 0: what the model takes"
    )
    parser.add_argument(
        "--n-best", type=int, default=1, metavar="N", help="translations a line, best first (default 1)"
    )
    parser.add_argument("--scores", action="store_true", help="put the score and a tab before each")
    parser.add_argument("--batch-tokens", type=int, default=16_384, metavar="TOKENS", help="worked on at once")
    parser.add_argument("--which", default="best", metavar="best|latest|STEP", help="checkpoint (default best)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints translations; a line without text gives as many empty ones."""
    for name, least in (("beams", 1), ("n_best", 1), ("max_new_tokens", 0), ("batch_tokens", 1)):
        if getattr(args, name) < least:
            raise ConfigError(f"--{name.replace('_', '-')}: {getattr(args, name)} is below {least}")
    if args.n_best > args.beams:
        raise ConfigError(f"--n-best {args.n_best} needs as many --beams, and there are {args.beams}")
    from fastlm.api import Run
    from fastlm.cli.loading import load_run

    run = Run(load_run(args.checkpoint, args.which, needs="seq2seq", command="translate"))
    search = {name: getattr(args, name) for name in ("beams", "length_penalty", "max_new_tokens", "batch_tokens")}
    done = 0
    for lines in chunks(args.file):
        for best in run.translate(lines, args.to, **search):
            padded = ([(one.text, one.score) for one in best] + [("", 0.0)] * args.n_best)[: args.n_best]
            print("\n".join(f"{score:.4f}\t{text}" if args.scores else text for text, score in padded), flush=True)
        done += len(lines)
        if sys.stderr.isatty():
            print(f"\r{done:,} lines", end="", file=sys.stderr, flush=True)
    return 0
