"""``fastlm merge``: a translation model from an encoder run and a decoder run."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from fastlm.errors import ConfigError

EMBEDDINGS = ("decoder", "encoder", "mean", "separate")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "merge",
        help="make a translation model of an encoder run and a decoder run",
        description="Both must have one tokenizer and one width; layers may differ. Fine-tune the result with "
        "fastlm train --model seq2seq --init MERGED.",
    )
    parser.add_argument("encoder", metavar="ENCODER_RUN", help="run folder of an encoder")
    parser.add_argument("decoder", metavar="DECODER_RUN", help="run folder of a decoder")
    parser.add_argument("--out", required=True, metavar="MERGED", help="folder of the merged model (new)")
    parser.add_argument(
        "--embedding",
        choices=EMBEDDINGS,
        default="decoder",
        help="the table of tokens that both sides share, or separate ones (default decoder)",
    )
    parser.add_argument("--which", default="best", metavar="best|latest|STEP", help="checkpoints (default best)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the new weights (default 0)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints the folder."""
    out = Path(args.out)
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; name a new folder")
    import torch

    from fastlm.cli.loading import language_model, load_run
    from fastlm.models.merge import merge
    from fastlm.train import checkpoint

    encoder = load_run(args.encoder, args.which, needs="encoder", command="merge")
    decoder = load_run(args.decoder, args.which, needs="decoder", command="merge")
    tokenizer = decoder.tokenizer
    if encoder.tokenizer.digest != tokenizer.digest:
        raise ConfigError(
            f"{args.encoder} and {args.decoder} have different tokenizers; train both on one prepared store"
        )
    torch.manual_seed(args.seed)
    model = merge(
        language_model(encoder),
        language_model(decoder),
        embedding=args.embedding,
        begin=tokenizer.bos_id,
        languages=(tokenizer.ko_id, tokenizer.en_id),
    )
    config = dataclasses.replace(decoder.config, model=model.config)
    checkpoint.publish(out, model, tokenizer, config)
    print(out)
    return 0
