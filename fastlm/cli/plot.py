"""``fastlm plot``: loss and accuracy charts of one run, or of several in one figure."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("plot", help="draw the charts of runs, overlaid in one figure")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder")
    parser.add_argument(
        "--out", metavar="DIR", default="", help="where the PNGs go; default RUN/charts of a single run, else charts"
    )
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Draws and prints the paths of the charts."""
    from fastlm.train.charts import plot

    runs = [Path(r) for r in args.runs]
    default = runs[0] / "charts" if len(runs) == 1 else Path("charts")
    for path in plot(runs, Path(args.out) if args.out else default):
        print(path)
    return 0
