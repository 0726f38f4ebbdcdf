"""``fastlm eval``: loss, accuracy, perplexity and bits per character of a run on held-out or other text.

Of a translation run also chrF++ and BLEU, where translations are asked for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fastlm.data.config import DataConfig
    from fastlm.data.store import Store
    from fastlm.models import Model
    from fastlm.train.checkpoint import Loaded
    from fastlm.train.metrics import Score, Scores
    from fastlm.train.translations import TranslationScore

FIELDS = ("loss", "accuracy", "perplexity", "bits_per_character", "targets")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "eval",
        help="score a run on its held-out text, or on other text",
        description="Score a run on one fixed masking, overall, per language and per domain.",
    )
    parser.add_argument("checkpoint", metavar="RUN", help="run folder")
    parser.add_argument(
        "--data", nargs="+", default=(), metavar="PATH", help="score all of this text instead (any source)"
    )
    parser.add_argument(
        "--sentences", type=int, default=0, metavar="N", help="a fixed sample of N sentences; 0: all (default 0)"
    )
    parser.add_argument("--which", default="best", metavar="best|latest|STEP", help="checkpoint (default best)")
    parser.add_argument(
        "--translate", action="store_true", help="of a translation run: translate, too, for chrF++ and BLEU (sacrebleu)"
    )
    parser.add_argument("--beams", type=int, default=4, metavar="N", help="for that; 1 is greedy (default 4)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Prints a table, or one JSON object."""
    if args.sentences < 0:
        raise ConfigError(f"--sentences: {args.sentences} is not 0 or more")
    if args.beams < 1:
        raise ConfigError(f"--beams: {args.beams} is below 1")
    if args.translate:
        from fastlm.train.translations import check_available

        check_available()
    from fastlm.cli.loading import load_run
    from fastlm.data.loader import validation
    from fastlm.train import plan
    from fastlm.train.distributed import World
    from fastlm.train.evaluate import evaluate
    from fastlm.train.setup import VALIDATION_SEED

    needs = "seq2seq" if args.translate else ""
    loaded = load_run(args.checkpoint, args.which, needs=needs, command="eval --translate", device="")
    if loaded.config.model.model == "classifier":
        return _classification(loaded, args)
    store = _store(loaded, Path(args.checkpoint), tuple(args.data))
    config = loaded.config
    data = dataclasses.replace(config.data, languages=(), domains=()) if args.data else config.data
    machine = plan.machine(config.train, World())
    batches = validation(store, config.model, data, sentences=args.sentences, seed=VALIDATION_SEED)
    model = loaded.model.to(machine.device)
    scores = evaluate(model, batches, store, dtype=machine.dtype)
    if not scores.overall.targets:
        raise ConfigError("there is no sentence to score")
    translations = _translations(model, store, data, args) if args.translate else {}
    if args.json:
        plain = _as_json(scores, loaded.step)
        if translations:
            plain["translations"] = {name: score.as_json() for name, score in translations.items()}
        print(json.dumps(plain, ensure_ascii=False))
        return 0
    print(f"step {loaded.step:,}")
    print("\n".join(_table(scores)))
    for name, score in translations.items():
        print(f"{name}: chrF++ {score.chrf:.2f}, BLEU {score.bleu:.2f} of {score.sentences:,} sentences")
        print("\n".join(f"  {metric}: {signature}" for metric, signature in score.signatures.items()))
    return 0


def _classification(loaded: Loaded, args: argparse.Namespace) -> int:
    from fastlm.cli.classify import score

    if args.sentences:
        raise ConfigError("--sentences: a classifier is scored on all held-out texts")
    found = score(loaded, tuple(args.data))
    if args.json:
        print(json.dumps({"step": loaded.step, **found.as_json()}, ensure_ascii=False))
    else:
        print("\n".join([f"step {loaded.step:,}", *found.table()]))
    return 0


def _translations(
    model: Model, store: Store, data: DataConfig, args: argparse.Namespace
) -> dict[str, TranslationScore]:
    from fastlm.models.seq2seq import Seq2SeqLM
    from fastlm.train.translations import translation_scores

    assert isinstance(model, Seq2SeqLM)
    return translation_scores(model, store, data, sentences=args.sentences, beams=args.beams)


def _store(loaded: Loaded, run: Path, other: tuple[str, ...]) -> Store:
    """The run's own store, or one of other text with the run's tokenizer in which every sentence is held out."""
    from fastlm.data.prepare import prepared
    from fastlm.train.runfolder import TOKENIZER, requested_config

    requested = requested_config(run)
    if other:
        # Columns and sheets belong to the training text; the rest of the reading policy stays.
        data = dataclasses.replace(requested.data, data=other, columns=(), sheet="", align="auto", vocab_languages=())
        data = dataclasses.replace(data, tokenizer=str(run / TOKENIZER), valid_fraction=1.0)
        store = prepared(data)
    else:
        store = prepared(requested.data, requested.model.vocab_size)
    if store.tokenizer.digest != loaded.tokenizer.digest:
        what = ", ".join(other) if other else f"the text of {run}"
        raise DataError(f"{what}: its tokenizer is not the run's (the text has changed); give text files with --data")
    return store


def _as_json(scores: Scores, step: int) -> dict[str, Any]:
    groups = {"languages": scores.languages, "domains": scores.domains}
    return {"step": step, **scores.overall.fields(*FIELDS)} | {
        kind: {name: score.fields(*FIELDS) for name, score in found.items()} for kind, found in groups.items()
    }


def _table(scores: Scores) -> list[str]:
    from fastlm.text.columns import pad, widest

    rows: list[tuple[str, Score]] = [("all", scores.overall), *scores.languages.items()]
    if len(scores.domains) > 1:
        rows += scores.domains.items()
    width = widest(name for name, _ in rows)
    lines = [f"{'':{width}}  {'loss':>8}  {'accuracy':>8}  {'perplexity':>11}  {'bits/char':>9}  {'targets':>9}"]
    for name, score in rows:
        loss, accuracy, perplexity, bits, targets = (score.fields(*FIELDS)[f] for f in FIELDS)
        lines.append(
            f"{pad(name, width)}  {loss:8.4f}  {accuracy:8.4f}  {perplexity:11,.1f}  {bits:9.4f}  {targets:9,.0f}"
        )
    return lines
