"""``fastlm info``: what was built and which backend each op would pick, and why."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("info", help="what was built, and which backend each op picks and why")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints the report of `fastlm.info`."""
    from fastlm.info import main

    return main(["--json"] if args.json else [])
