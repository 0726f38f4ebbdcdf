"""TensorBoard event files of any tool as lines of metrics (``tensorboard`` is an optional dependency).

A tag says by its words what it is: ``valid/loss``, ``val_acc``, ``Loss/train``, ``lr``. Tags that say nothing of the
kind are left out. Scalars of one split and step make one line; wall time counts from the first event.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastlm.errors import CheckpointError, ConfigError

PATTERN = "*tfevents*"
SPLIT_WORDS = {
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "eval": "valid",
    "dev": "valid",
    "test": "valid",
}
FIELD_WORDS = {
    "loss": "loss",
    "acc": "accuracy",
    "accuracy": "accuracy",
    "bpc": "bits_per_character",
    "lr": "lr",
}
#: our own tags of languages: split/languages/ko/loss
OWN_GROUP = re.compile(r"(train|valid)/languages/([^/]+)/(loss|accuracy|bits_per_character)")
OWN_OTHER = re.compile(r"(train|valid)/(languages|domains)/")
#: fields whose names are several words
LONG_FIELDS = {
    "bits_per_character": "bits_per_character",
    "learning_rate": "lr",
    "tokens_per_second": "tokens_per_second",
}


def is_event_folder(path: Path) -> bool:
    """Whether a folder (with its subfolders) has event files and is no run folder of fastlm."""
    return path.is_dir() and not (path / "config.json").exists() and any(path.rglob(PATTERN))


def meaning(tag: str) -> tuple[str, str] | None:
    """The split and field of a tag, or None: ``eval/loss`` -> ("valid", "loss"). Without a word for it: training."""
    plain = tag.lower()
    words = re.split(r"[^a-z]+", plain)
    split = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "train")
    for name, field in LONG_FIELDS.items():
        if re.sub(r"[^a-z]+", "_", plain).find(name) >= 0:
            return split, field
    field = next((FIELD_WORDS[word] for word in words if word in FIELD_WORDS), "")
    return (split, field) if field else None


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of the event files in a folder and its subfolders, by step.

    A subfolder's name begins its tags: some tools write ``loss`` into ``train`` and ``valid``.

    Raises:
        ConfigError: TensorBoard is not installed.
        CheckpointError: no tag says loss, accuracy, bits per character or rate.
    """
    values: dict[tuple[int, str], dict[str, Any]] = {}
    tags, begun = [], None
    for inside in sorted({path.parent for path in folder.rglob(PATTERN)}):
        prefix = "" if inside == folder else f"{inside.relative_to(folder).as_posix()}/"
        for tag, events in _scalars(inside).items():
            tags.append(prefix + tag)
            split, field, language = _place(tag, prefix)
            for step, wall, value in events if field else ():
                begun = wall if begun is None else min(begun, wall)
                line = values.setdefault((step, split), {"split": split, "step": step, "wall": wall})
                place = line.setdefault("languages", {}).setdefault(language, {}) if language else line
                place[field] = value
    if not values:
        raise CheckpointError(
            f"{folder}: no tag says loss, accuracy or learning rate; it has {', '.join(tags) or 'none'}"
        )
    lines = [values[key] for key in sorted(values)]
    for line in lines:
        line["seconds"] = line.pop("wall") - (begun or 0.0)
    return lines


def _place(tag: str, prefix: str) -> tuple[str, str, str]:
    """Split, field and language ("" for all) of a tag; no field where it says nothing that a chart shows."""
    if own := OWN_GROUP.fullmatch(tag):
        return own[1], own[3], own[2]
    split, field = ("", "") if OWN_OTHER.match(tag) else meaning(prefix + tag) or ("", "")
    return split, field, ""


def _scalars(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Tag -> (step, wall time, value) of the event files of one folder."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise ConfigError(f"{folder}: {error}; TensorBoard files are read by pip install tensorboard") from None
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    found = {
        tag: [(event.step, event.wall_time, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }
    # Newer writers store scalars as tensors.
    for tag in accumulator.Tags()["tensors"]:
        events = [(e.step, e.wall_time, e.tensor_proto) for e in accumulator.Tensors(tag)]
        single = [(step, wall, list(proto.float_val)) for step, wall, proto in events]
        if single and all(len(value) == 1 for _, _, value in single):
            found[tag] = [(step, wall, float(value[0])) for step, wall, value in single]
    return found
