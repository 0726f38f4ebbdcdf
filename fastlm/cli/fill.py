"""``fastlm fill``: what an encoder puts in the place of each ``[MASK]``."""

from __future__ import annotations

import argparse

from fastlm.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("fill", help="fill the [MASK]s of a sentence with an encoder run")
    parser.add_argument("checkpoint", metavar="RUN", help="run folder of an encoder")
    parser.add_argument("text", help='a sentence, such as "나는 [MASK] 좋아한다"')
    parser.add_argument("--top-k", type=int, default=5, metavar="N", help="candidates per mask (default 5)")
    parser.add_argument("--which", default="best", metavar="best|latest|STEP", help="checkpoint (default best)")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints the candidates of each mask with their probabilities, and the sentence with the best ones."""
    from fastlm.cli.loading import language_model, load_run
    from fastlm.models.generate import fill

    if args.top_k < 1:
        raise ConfigError(f"--top-k: {args.top_k} is not 1 or more")
    loaded = load_run(args.checkpoint, args.which, needs="encoder", command="fill")
    tokenizer = loaded.tokenizer
    ids = [tokenizer.bos_id, *tokenizer.encode_with_specials(args.text), tokenizer.eos_id]
    if tokenizer.mask_id not in ids:
        raise ConfigError(f"the text has no [MASK] to fill: {args.text!r}")
    seq_len = loaded.config.model.seq_len
    if len(ids) > seq_len:
        raise ConfigError(
            f"the text has {len(ids)} tokens, the model reads at most {seq_len} (--seq-len of its training)"
        )
    candidates = fill(language_model(loaded), ids, tokenizer.mask_id, args.top_k, banned=range(tokenizer.special_count))
    best = iter([choices[0][0] for choices in candidates])
    filled = [next(best) if i == tokenizer.mask_id else i for i in ids]
    for number, choices in enumerate(candidates, start=1):
        if len(candidates) > 1:
            print(f"[MASK] {number}")
        for token, probability in choices:
            print(f"  {probability:6.3f}  {tokenizer.decode([token]).strip() or tokenizer.token(token)}")
    print(tokenizer.decode(filled))
    return 0
