"""From a config to all that the loop needs: run folder, text, model - and the lines that say what was decided."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastlm import __version__
from fastlm.batch import Batch
from fastlm.config import as_dict
from fastlm.data.labelled import class_counts, labelled
from fastlm.data.loader import Loader, validation
from fastlm.data.prepare import prepared
from fastlm.data.store import Corpus
from fastlm.errors import ConfigError
from fastlm.models.classifier import TextClassifier
from fastlm.models.factory import Model, build
from fastlm.text.tokenizer import Tokenizer
from fastlm.train import checkpoint, distributed, optim, plan, resume, runfolder, schedule, tracker
from fastlm.train.config import RunConfig
from fastlm.train.display import Display, number
from fastlm.train.distributed import World
from fastlm.train.evaluate import Grouping, token_counts, unigram_loss
from fastlm.train.metrics import Interval, MetricsWriter
from fastlm.train.plan import Machine, Rhythm
from fastlm.train.progress import Progress
from fastlm.train.runfolder import RunFolder
from fastlm.train.step import Stepper, mix

#: keeps the weights' seed apart from the steps'
WEIGHTS = -1
#: one fixed masking of the held-out text, whatever the run's seed: scores of different runs are comparable
VALIDATION_SEED = 0
#: [BOS] and [EOS] around every sentence
SPECIALS = 2


@dataclass(frozen=True)
class Ready:
    """A run about to start, or to go on."""

    config: RunConfig
    world: World
    machine: Machine
    rhythm: Rhythm
    run: RunFolder
    store: Corpus
    loader: Loader
    stepper: Stepper
    grouping: Grouping
    progress: Progress
    identity: dict[str, Any]

    @property
    def model(self) -> Model:
        """The model, not wrapped."""
        return self.stepper.model


def prepare(requested: RunConfig, world: World, shown: Display, stack: contextlib.ExitStack) -> Ready:
    """Opens everything; what must be closed again is put on ``stack``.

    Raises:
        FastlmError: anything that a user can mend.
    """
    config, length_note = plan.with_default_length(requested)
    tracker.check_available(config.train)
    _check_kind(config)
    machine = plan.machine(config.train, world)
    # The folder before the text: a run that may not start says so at once.
    run, start = RunFolder(runfolder.choose(config)), None
    if world.main:
        stack.enter_context(run)
        checkpoint.clean(run.path)
        start = resume.find(config, run.path, shown.warn)
    for note in (_data_note(config), length_note):
        if note:
            shown.say(note)
    # The text before the process group: building a store may take longer than ranks wait for each other.
    config, store = _text_of(config, progress=world.main and sys.stderr.isatty())
    distributed.connect(world, machine.device)
    stack.callback(distributed.disconnect, world)
    path, start = world.from_main(lambda: (run.path, start))

    loader = Loader(
        store,
        config.model,
        config.data,
        seed=config.train.seed,
        accumulate=config.train.accumulate,
        rank=world.rank,
        world_size=world.size,
    )
    stack.callback(loader.close)
    rhythm = plan.rhythm(config.train, loader)
    schedule.check(config.train, rhythm.total_steps)
    grouping = Grouping(store)
    stepper = _stepper(config, machine, world, grouping, store.tokenizer)
    identity = {
        "store": store.digest,
        "tokenizer": store.tokenizer.digest,
        "machine": {"device": machine.device.type, "dtype": _name(machine.dtype), "ranks": world.size},
    }
    progress = Progress(Interval.empty(grouping.count))
    if start is not None:
        progress = _go_on(start, config, identity, stepper, shown)
    folder = run if world.main else RunFolder(path)
    ready = Ready(config, world, machine, rhythm, folder, store, loader, stepper, grouping, progress, identity)
    if world.main:
        _keep_only(ready)
        _record(ready, requested, shown)
    return ready


def _check_kind(config: RunConfig) -> None:
    """Refuses options that another kind of model has."""
    kind, train = config.model.model, config.train
    if train.graphs and kind in ("seq2seq", "classifier"):
        raise ConfigError(f"--graphs takes language models: what a {kind} reads beside its tokens is not padded")
    if train.trained_layers >= 0 and kind != "classifier":
        raise ConfigError(f"--trained-layers is a classifier's; the whole of a {kind} learns")


def _text_of(config: RunConfig, *, progress: bool) -> tuple[RunConfig, Corpus]:
    """The text, and the config with what it settles: the vocabulary's size, and a classifier's labels."""
    store: Corpus
    model = config.model
    if model.model == "classifier":
        tokenizer = Path(config.data.tokenizer)
        if not tokenizer.is_file():
            raise ConfigError("a classifier reads with an encoder's tokenizer: give --init ENCODER_RUN, or --tokenizer")
        store = labelled(config.data, Tokenizer.load(tokenizer), model.labels)
        model = dataclasses.replace(model, labels=tuple(store.domain_names))
    else:
        store = prepared(config.data, model.vocab_size, progress=progress)
    model = dataclasses.replace(model, vocab_size=store.tokenizer.vocab_size)
    return dataclasses.replace(config, model=model), store


def _data_note(config: RunConfig) -> str:
    return "" if config.data.data else "no --data given: training on the built-in demo corpus"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _stepper(config: RunConfig, machine: Machine, world: World, grouping: Grouping, tokenizer: Tokenizer) -> Stepper:
    torch.manual_seed(mix(config.train.seed, WEIGHTS))
    model = build(config.model)
    if config.train.init:
        checkpoint.load_into(model, config.model, tokenizer, Path(config.train.init))
    if isinstance(model, TextClassifier) and config.train.trained_layers >= 0:
        model.freeze(config.train.trained_layers)
    model = model.to(machine.device)
    return Stepper(model, optim.build(model, config.train), config.train, machine, world, grouping)


def _go_on(start: Path, config: RunConfig, identity: dict[str, Any], stepper: Stepper, shown: Display) -> Progress:
    """Loads a checkpoint into the stepper's model, optimizer and scaler."""
    saved = checkpoint.read(start)
    resume.check(saved, config, identity, shown.warn)
    checkpoint.load_weights(stepper.model, saved.model, saved.path)
    optim.load_state_tensors(stepper.optimizer, stepper.model, saved.optimizer)
    if saved.state["scaler"]:
        stepper.scaler.load_state_dict(saved.state["scaler"])
    shown.say(f"resuming from {saved.path} (step {saved.step:,})")
    return Progress.from_json(saved.state["progress"])


def _keep_only(ready: Ready) -> None:
    """Takes away what lies beyond the step that the run starts from: it will be made again."""
    step = ready.progress.step
    why = "damaged" if ready.config.train.resume == "auto" else "abandoned"
    for path in checkpoint.newer(ready.run.path, step):
        checkpoint.set_aside(path, why)
    MetricsWriter(ready.run.metrics).cut(step, ready.progress.evaluated)


def validation_batches(ready: Ready) -> Iterator[Batch]:
    """The rank's part of the held-out sentences, masked the same way at every evaluation of every run."""
    return validation(
        ready.store,
        ready.config.model,
        ready.config.data,
        sentences=ready.config.train.valid_sentences,
        seed=VALIDATION_SEED,
        rank=ready.world.rank,
        world_size=ready.world.size,
    )


# -- what was decided --------------------------------------------------------------------------------------------------


def _record(ready: Ready, requested: RunConfig, shown: Display) -> None:
    """Writes ``config.json`` and the tokenizer, and says once what was decided."""
    text = _text(ready)
    facts = {
        "fastlm": __version__,
        "torch": torch.__version__,
        "device": str(ready.machine.device),
        "dtype": _name(ready.machine.dtype),
        "threads": ready.machine.threads,
        "ranks": ready.world.size,
        "backends": ready.machine.backends,
        "parameters": sum(p.numel() for p in ready.model.parameters()),
        "total_steps": ready.rhythm.total_steps,
        "steps_per_epoch": ready.rhythm.steps_per_epoch,
        "text": text,
        "store": ready.identity["store"],
        "tokenizer": ready.identity["tokenizer"],
    }
    ready.run.write_config({"config": as_dict(ready.config), "requested": as_dict(requested), "decided": facts})
    ready.store.tokenizer.save(ready.run.path / runfolder.TOKENIZER)
    for line in _lines(ready, facts):
        shown.say(line)
    for reason in ready.machine.slow:
        shown.warn(f"slow path: {reason}")
    if not text["valid"]["sentences"]:
        shown.warn("no sentence is held out: validation scores will be empty; raise --valid-fraction")


def _text(ready: Ready) -> dict[str, Any]:
    """Sizes of both splits, sentences cut, and the unigram baseline."""
    store, config = ready.store, ready.config
    ends = config.model.model != "encoder"
    found: dict[str, Any] = {}
    for split in ("train", "valid"):
        ids = store.select(split, config.data)
        lengths = store.offsets[ids + 1] - store.offsets[ids]
        found[split] = {
            "sentences": len(ids),
            "tokens": int(lengths.sum()),
            "too_long": int(np.count_nonzero(lengths + SPECIALS > config.model.seq_len)),
        }
        if split == "train":
            classes = config.model.model == "classifier"
            counts = class_counts(store, ids) if classes else token_counts(store, ids, ends=ends)
    batches = validation(store, config.model, config.data, sentences=config.train.valid_sentences, seed=VALIDATION_SEED)
    scores = unigram_loss(counts, batches, store)
    found["unigram_loss"] = {
        "overall": scores.overall.loss,
        "languages": {name: score.loss for name, score in scores.languages.items()},
    }
    return found


def _lines(ready: Ready, facts: dict[str, Any]) -> Iterator[str]:
    model, text, rhythm = ready.config.model, facts["text"], ready.rhythm
    train, valid, unigram = text["train"], text["valid"], text["unigram_loss"]
    yield (
        f"model    {model.model}, {model.layers} layers, d {model.d_model}, {model.heads} heads, ff {model.ff}, "
        f"vocabulary {model.vocab_size:,}: {facts['parameters']:,} parameters"
    )
    yield (
        f"machine  {facts['device']}, {facts['dtype']}, {facts['threads']} threads"
        + (f", {facts['ranks']} ranks" if facts["ranks"] > 1 else "")
        + f"; {', '.join(f'{op} {family}' for op, family in facts['backends'].items())}"
    )
    yield (
        f"text     train {train['sentences']:,} sentences, {train['tokens']:,} tokens; "
        f"validation {valid['sentences']:,} sentences, {valid['tokens']:,} tokens"
    )
    if cut := train["too_long"]:
        action = {"truncate": "cut", "split": "split into several"}[ready.config.data.long]
        share = cut / train["sentences"]
        yield f"         {cut:,} training sentences ({share:.2%}) are longer than --seq-len {model.seq_len}: {action}"
    languages = "".join(f", {name} {number(loss, '.3f')}" for name, loss in unigram["languages"].items())
    yield f"baseline unigram cross-entropy of validation targets {number(unigram['overall'], '.3f')} nats{languages}"
    length = f"{rhythm.total_steps:,} steps" if rhythm.total_steps else f"{ready.config.train.max_minutes:g} minutes"
    yield f"length   {length}, {rhythm.steps_per_epoch:,} steps an epoch; evaluation every {rhythm.eval_every:,} steps"
    yield f"run      {ready.run.path}"
