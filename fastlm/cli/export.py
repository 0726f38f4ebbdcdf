"""``fastlm export``: a run as a folder that Hugging Face loads."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastlm.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "export",
        help="write a run as a Hugging Face model",
        description="Writes config, weights and tokenizer of the matching transformers architecture, loads them again "
        "and compares the logits. An option without an exact twin there is refused.",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="run folder")
    parser.add_argument("out", metavar="DIR", help="folder to write (new)")
    parser.add_argument(
        "--onnx", action="store_true", help="of an encoder or classifier: model.onnx, too, compared by onnxruntime"
    )
    parser.add_argument("--which", default="best", metavar="best|latest|STEP", help="checkpoint (default best)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints the architecture and the largest difference of a logit."""
    out = Path(args.out)
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a new folder")
    from fastlm.cli.loading import load_run
    from fastlm.train.export import check_available, export
    from fastlm.train.onnx import GRAPH, check_onnx, write_onnx

    check_available()
    loaded = load_run(args.checkpoint, args.which)
    config, tokenizer = loaded.config.model, loaded.tokenizer
    if args.onnx:
        check_onnx(config)
    done = export(loaded, out)
    print(f"{out}: {done.architecture}, logits within {done.difference:.1e} of fastlm's")
    if args.onnx:
        difference = write_onnx(out, config, pad=tokenizer.pad_id, first=tokenizer.special_count)
        print(f"{out / GRAPH}: logits within {difference:.1e} of transformers'")
    return 0
