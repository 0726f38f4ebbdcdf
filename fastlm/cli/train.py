"""``fastlm train`` (also ``fastlm-train``): train a language model or a translation model."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastlm.cli.flags import add_config_flags, run_config_from_args
from fastlm.data.config import DataConfig
from fastlm.models.config import ModelConfig
from fastlm.train.config import RunConfig, TrainConfig


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "train",
        help="train an encoder, a decoder or a translation model",
        description="Train a language model; without --data on the built-in demo corpus.",
    )
    parser.add_argument("--config", metavar="FILE", default="", help="TOML file of the same keys; flags win over it")
    for section in (ModelConfig, DataConfig, TrainConfig):
        add_config_flags(parser, section)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Trains; the run folder's path is the last line printed."""
    from fastlm.train.signals import SAVE, SignalWatch

    with SignalWatch().noting(SAVE):  # from here on, since importing torch takes seconds in which it would be deadly
        config = run_config_from_args(args, RunConfig(), args.config)
        if config.train.resume:
            config = run_config_from_args(args, _resumed(config), args.config)
        elif config.train.init:
            config = run_config_from_args(args, _begun(config), args.config)
        from fastlm.train.trainer import train

        train(config)
    return 0


def _begun(config: RunConfig) -> RunConfig:
    """Sizes and tokenizer of the weights to begin with: flags that name others are refused later.

    A prepared store brings its tokenizer.
    """
    from fastlm.data.store import is_store
    from fastlm.train import checkpoint

    init = Path(config.train.init)
    prepared = any(is_store(Path(path)) for path in config.data.data)
    data = DataConfig() if prepared else DataConfig(tokenizer=str(init / "tokenizer.json"))
    return RunConfig(model=checkpoint.load(init).config.model, data=data)


def _resumed(config: RunConfig) -> RunConfig:
    """What the run was started with: a resumed run needs no flag repeated."""
    from fastlm.train import runfolder

    return runfolder.requested_config(runfolder.choose(config))
