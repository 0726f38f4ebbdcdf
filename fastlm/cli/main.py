"""``fastlm``: one command, a subcommand a file. Heavy imports happen only inside a subcommand's ``run``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from fastlm import __version__
from fastlm.cli.flags import Parser
from fastlm.errors import FastlmError

COMMANDS = (
    *("train", "prepare", "tokenizer", "merge", "classify", "eval"),
    *("fill", "generate", "translate", "predict", "export", "import_folder", "plot", "record", "sweep", "info"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 2 a fault named in one line, 128 + N on signal N."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        args = build_parser().parse_args([w for w in words if w != "--debug"])
        code: int = args.handler(args)
        sys.stdout.flush()
        return code
    except FastlmError as error:
        if debug:
            raise
        print(f"fastlm: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has gone: point stdout at nothing so that the interpreter's last flush is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("fastlm: interrupted", file=sys.stderr)
        return 130


def train_main() -> int:
    """``fastlm-train``: the same as ``fastlm train``."""
    return main(["train", *sys.argv[1:]])


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every command module adds its own parser."""
    parser = Parser(prog="fastlm", description="Pre-train language models on your own Korean-English text.")
    parser.add_argument("--version", action="version", version=f"fastlm {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"fastlm.cli.{name}").add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
