"""``fastlm import``: a Hugging Face model as a run to go on with."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastlm.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "import",
        help="take a Hugging Face model that fastlm exported back",
        description="Reads config, weights and tokenizer of a folder that fastlm export wrote, trained further there "
        "or not, and compares the logits. Train on with --init RUN.",
    )
    parser.add_argument("folder", metavar="DIR", help="folder of the transformers model")
    parser.add_argument("out", metavar="RUN", help="run folder to write (new)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints the architecture and the largest difference of a logit."""
    out = Path(args.out)
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a new folder")
    from fastlm.train.export import check_available
    from fastlm.train.importing import import_folder

    check_available()
    done = import_folder(Path(args.folder), out)
    print(f"{out}: {done.architecture}, logits within {done.difference:.1e} of transformers'")
    return 0
