"""``fastlm generate``: text from a decoder run."""

from __future__ import annotations

import argparse

from fastlm.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("generate", help="continue a prompt with a decoder run")
    parser.add_argument("checkpoint", metavar="RUN", help="run folder of a decoder")
    parser.add_argument("prompt", nargs="?", default="", help="beginning of the text (default: none)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=64, metavar="TOKENS", help="longest continuation (default 64)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0 is greedy, 1 the model's own distribution (default 0)",
    )
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="N", help="sample among the N likeliest tokens; 0: all (default 0)"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="sample among the likeliest tokens that hold this probability (default 1)",
    )
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="continuations (default 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sampling (default 0)")
    parser.add_argument("--which", default="best", metavar="best|latest|STEP", help="checkpoint (default best)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints one continued text a line."""
    _check(args)
    from fastlm.api import Run
    from fastlm.cli.loading import load_run

    run = Run(load_run(args.checkpoint, args.which, needs="decoder", command="generate"))
    options = {name: getattr(args, name) for name in ("max_new_tokens", "temperature", "top_k", "top_p", "seed")}
    print("\n".join(run.generate([args.prompt] * args.samples, **options)))
    return 0


def _check(args: argparse.Namespace) -> None:
    limits = {
        "max_new_tokens": (1, 1 << 30),
        "temperature": (0, 1e3),
        "top_k": (0, 1 << 30),
        "top_p": (1e-6, 1),
        "samples": (1, 4096),
    }
    for name, (low, high) in limits.items():
        value = getattr(args, name)
        if not low <= value <= high:
            raise ConfigError(f"--{name.replace('_', '-')}: {value} is outside {low:g} to {high:g}")
