"""``fastlm sweep``: a search over flags, its trials run folders, its end a table and a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastlm.cli.flags import add_config_flags, config_from_args
from fastlm.data.config import SOURCE, DataConfig
from fastlm.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "sweep",
        help="search over ranges of flags",
        description="Searches over ranges of flags; the same command goes on after a stop.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="TOML file with [base], [search.FLAG] and [pruning]")
    parser.add_argument("--out", metavar="DIR", default="", help="folder of the search (default sweeps/RECIPE)")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="trials at a time (default 1)")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="CPU threads of a trial; 0: shared by jobs")
    add_config_flags(parser, DataConfig, only=SOURCE)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Searches, then prints the table and where it and the picture are."""
    if args.jobs < 1:
        raise ConfigError(f"--jobs: {args.jobs} is below 1")
    if args.threads < 0:
        raise ConfigError(f"--threads: {args.threads} is below 0")
    from fastlm.record.sweep import recipe

    path = Path(args.recipe)
    search = recipe.read(path)
    reading = config_from_args(args, DataConfig())
    from fastlm.record.sweep.run import sweep

    out = Path(args.out) if args.out else Path("sweeps") / path.stem
    text = path.read_text(encoding="utf-8")
    print(sweep(search, text, out, reading, jobs=args.jobs, threads=args.threads))
    return 0
