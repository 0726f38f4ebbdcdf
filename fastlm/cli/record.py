"""``fastlm record``: numbered cases of a few runs each, one command a case, and the page that shows them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastlm.cli.flags import add_config_flags, config_from_args
from fastlm.data.config import SOURCE, DataConfig
from fastlm.errors import ConfigError

if TYPE_CHECKING:
    from fastlm.record.recipe import Recipe

SCALES = ("small", "cpu", "full")
OUT = "record"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "record",
        help="run the numbered cases of the training record, and write their page",
        description="The training record: each case is a few runs that differ in one thing.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="the cases that come with fastlm")
    listing.set_defaults(handler=run_list)
    _add_run(commands)
    _add_page(commands)
    _add_add(commands)
    _add_hours(commands)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run all runs of a case; the same command goes on after a stop",
        description="Runs a case: skips what is done, goes on with what was interrupted.",
    )
    run.add_argument("case", metavar="CASE", help="case-01, 1, or a TOML file of your own")
    run.add_argument("--scale", metavar="{small,cpu,full}", default="full", help="sizes (default full)")
    _add_out(run)
    run.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time (default 1)")
    run.add_argument("--threads", metavar="N", type=int, default=0, help="CPU threads of a run; 0: shared by the jobs")
    run.add_argument("--only", metavar="RUN", nargs="+", default=(), help="only these runs of the case")
    add_config_flags(run, DataConfig, only=SOURCE)
    run.set_defaults(handler=run_case)


def _add_page(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    page = commands.add_parser("page", help="write RECORD.md and record.html of all cases")
    _add_out(page)
    page.add_argument("--to", metavar="DIR", default="", help="where the page and its pictures go; default --out")
    page.add_argument("--no-timings", action="store_true", help="leave out wall times and tokens/s")
    page.set_defaults(handler=run_page)


def _add_add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = commands.add_parser(
        "add",
        help="show runs from elsewhere in a case",
        description="Adds runs to a case's page: run folders, or folders of TensorBoard files of any tool.",
    )
    add.add_argument("case", metavar="CASE", help="a case that is in --out")
    add.add_argument("runs", metavar="[NAME=]FOLDER", nargs="+", help="run folder, or folder of TensorBoard files")
    _add_out(add)
    add.set_defaults(handler=run_add)


def _add_hours(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    hours = commands.add_parser(
        "hours",
        help="what every case would take here, and on one GPU",
        description="Hours of every case, from tokens/s that were measured and the arithmetic of its runs.",
    )
    hours.add_argument(
        "--measured",
        metavar="RUN",
        nargs="+",
        default=(),
        help="run folders whose tokens/s count; none: a short run is made",
    )
    hours.add_argument("--scale", metavar="{small,cpu,full}", default="full", help="sizes (default full)")
    hours.add_argument(
        "--threads", metavar="N", type=int, default=0, help="CPU threads of the short run; 0: every core"
    )
    add_config_flags(hours, DataConfig, only=SOURCE)
    hours.set_defaults(handler=run_hours)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", default=OUT, help=f"folder of the record (default {OUT})")


def run_list(args: argparse.Namespace) -> int:
    """Prints a line for each case."""
    from fastlm.record import recipe

    for name in recipe.names():
        print(f"{name}  {recipe.find(name).title}")
    return 0


def run_case(args: argparse.Namespace) -> int:
    """Runs a case; its folder is the last line printed."""
    if args.jobs < 1:
        raise ConfigError(f"--jobs: {args.jobs} is below 1")
    if args.threads < 0:
        raise ConfigError(f"--threads: {args.threads} is below 0")
    _check_scale(args.scale)
    from fastlm.record.recipe import find

    recipe: Recipe = find(args.case)
    reading = config_from_args(args, DataConfig())
    from fastlm.record.runner import How, run_case
    from fastlm.record.scale import SCALES

    how = How(jobs=args.jobs, threads=args.threads, only=tuple(args.only))
    folder = run_case(recipe, SCALES[args.scale], Path(args.out), reading, how, _say)
    print(f"case     {folder.path}")
    return 0


def run_page(args: argparse.Namespace) -> int:
    """Writes the page and prints where."""
    from fastlm.record.page import write

    out = Path(args.out)
    for path in write(out, Path(args.to) if args.to else out, timings=not args.no_timings):
        print(path)
    return 0


def run_add(args: argparse.Namespace) -> int:
    """Adds runs to a case and says how many lines each has."""
    from fastlm.record import view
    from fastlm.record.folder import CaseFolder

    name = f"case-{int(args.case):02}" if args.case.isdecimal() else args.case
    folder = CaseFolder(Path(args.out) / name)
    own = folder.read()["runs"]
    extras = {}
    for word in args.runs:
        given, _, path = word.rpartition("=")
        called = given or Path(path).resolve().name
        if called in own:
            raise ConfigError(f"{word}: the case has a run {called} of its own; give another name, as NAME={path}")
        extras[called] = Path(path).resolve()
    found = {called: view.extra(called, path) for called, path in extras.items()}
    folder.add_extras(extras)
    for called, run in found.items():
        print(f"{called}: {len(run.lines):,} lines of metrics, {run.words}")
    return 0


def run_hours(args: argparse.Namespace) -> int:
    """Prints a table of hours."""
    _check_scale(args.scale)
    from fastlm.record.hours import report
    from fastlm.record.scale import SCALES

    reading = config_from_args(args, DataConfig())
    measured = [Path(run) for run in args.measured]
    print(report(SCALES[args.scale], reading, measured, threads=args.threads))
    return 0


def _check_scale(name: str) -> None:
    from fastlm.config import nearest

    if name not in SCALES:
        raise ConfigError(f"--scale: {name!r} is not one of {', '.join(SCALES)}{nearest(name, SCALES)}")


def _say(text: str) -> None:
    """A line at once, so that it stands before what a run's own process prints."""
    print(text)
    sys.stdout.flush()
