"""``fastlm classify``: an encoder run fine-tuned to tell classes of text apart, and how well it does."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlm.cli.flags import add_config_flags, run_config_from_args
from fastlm.data.config import DataConfig
from fastlm.errors import ConfigError
from fastlm.models.config import ModelConfig
from fastlm.train.config import RunConfig, TrainConfig

if TYPE_CHECKING:
    from fastlm.train.checkpoint import Loaded
    from fastlm.train.classification import Classification

#: what fine-tuning begins with where training from nothing begins with the fields' defaults
DEFAULTS: dict[str, Any] = {"batch_size": 64, "epochs": 3.0, "lr": 2e-4, "schedule": "cosine"}
MODEL = ("pooling", "labels", "dropout")
DATA = (
    *("data", "text_column", "label_column", "encoding", "on_bad_text", "on_bad_row", "sheet"),
    *("share", "valid_fraction", "split_seed", "batch_size", "batch_tokens", "long", "workers"),
)
NOT_TRAIN = ("init", "graphs")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "classify",
        help="fine-tune an encoder to classify texts",
        description="Learns from tables (tsv, csv, jsonl, parquet, xlsx) of texts and their labels, and reports "
        "accuracy, F1 and the confusion matrix of what was held out. fastlm predict uses the result.",
    )
    parser.add_argument("encoder", metavar="ENCODER_RUN", help="run folder of the encoder to begin with")
    parser.add_argument("--test", nargs="+", default=(), metavar="PATH", help="labelled texts to be scored at the end")
    parser.add_argument(
        "--from-scratch", action="store_true", help="of the encoder only sizes and tokenizer; its weights drawn anew"
    )
    parser.add_argument("--config", metavar="FILE", default="", help="TOML file of the same keys; flags win over it")
    train = tuple(field.name for field in dataclasses.fields(TrainConfig) if field.name not in NOT_TRAIN)
    for section, fields in ((ModelConfig, MODEL), (DataConfig, DATA), (TrainConfig, train)):
        add_config_flags(parser, section, fields, DEFAULTS)
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Trains, then prints the scores and where they are written."""
    from fastlm.train import checkpoint
    from fastlm.train.trainer import train

    encoder = Path(args.encoder)
    sizes = checkpoint.load(encoder).config.model
    if sizes.model != "encoder":
        raise ConfigError(f"{encoder}: its model is of kind {sizes.model}; a classifier begins with an encoder")
    config = run_config_from_args(args, _base(encoder, sizes, from_scratch=args.from_scratch), args.config)
    folder = train(config)
    report(checkpoint.load(folder), folder, tuple(args.test))
    return 0


def _base(encoder: Path, sizes: ModelConfig, *, from_scratch: bool) -> RunConfig:
    return RunConfig(
        model=dataclasses.replace(sizes, model="classifier", head="tied"),
        data=DataConfig(tokenizer=str(encoder / "tokenizer.json"), batch_size=DEFAULTS["batch_size"]),
        train=TrainConfig(
            init="" if from_scratch else str(encoder),
            **{name: value for name, value in DEFAULTS.items() if name != "batch_size"},
        ),
    )


def report(loaded: Loaded, folder: Path, test: tuple[str, ...]) -> None:
    """Scores a classifier on what its run held out, and on ``test``; prints, and writes ``FOLDER/classes-*``."""
    from fastlm.train import atomic
    from fastlm.train.classification import draw_confusion

    for part, data in (("validation", ()), ("test", test)):
        if part == "test" and not test:
            continue
        found = score(loaded, data)
        print(f"{part}: " + "\n".join(found.table()))
        plain = json.dumps({"step": loaded.step, **found.as_json()}, ensure_ascii=False, indent=1)
        atomic.replace_file(folder / f"classes-{part}.json", (plain + "\n").encode())
        picture = folder / "charts" / f"classes-{part}.png"
        picture.parent.mkdir(exist_ok=True)
        draw_confusion(found, picture)
        print(f"chart    {picture}")


def score(loaded: Loaded, other: tuple[str, ...]) -> Classification:
    """Of what a classifier's run held out, or of all of other labelled texts, on the device of its training."""
    from fastlm.data.labelled import labelled, labelled_test
    from fastlm.models.classifier import TextClassifier
    from fastlm.train import plan
    from fastlm.train.classification import classification
    from fastlm.train.distributed import World

    machine = plan.machine(loaded.config.train, World())
    config, labels = loaded.config, loaded.config.model.labels
    if other:
        corpus = labelled_test(dataclasses.replace(config.data, data=other), loaded.tokenizer, labels)
    else:
        corpus = labelled(config.data, loaded.tokenizer, labels)
    assert isinstance(loaded.model, TextClassifier)
    return classification(loaded.model.to(machine.device), corpus, corpus.select("valid", DataConfig()))
