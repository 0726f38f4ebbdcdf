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
    from fastlm.cli.loading import language_model, load_run
    from fastlm.models.generate import generate

    loaded = load_run(args.checkpoint, args.which, needs="decoder", command="generate")
    tokenizer = loaded.tokenizer
    prompt = [tokenizer.bos_id, *tokenizer.encode(args.prompt)]
    seq_len = loaded.config.model.seq_len
    if len(prompt) >= seq_len:
        raise ConfigError(f"the prompt has {len(prompt)} tokens with [BOS], the model reads at most {seq_len}")
    texts = generate(
        language_model(loaded),
        [prompt] * args.samples,
        max_new_tokens=min(args.max_new_tokens, seq_len - len(prompt)),
        eos_id=tokenizer.eos_id,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        seed=args.seed,
        banned=[i for i in range(tokenizer.special_count) if i != tokenizer.eos_id],
    )
    for new in texts:
        print(tokenizer.decode([*prompt, *new]))
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
