"""Going on with a run: from which checkpoint, and whether it is still the same run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastlm.config import differences
from fastlm.errors import CheckpointError
from fastlm.train import checkpoint
from fastlm.train.checkpoint import Checkpoint
from fastlm.train.config import RunConfig

#: what the store's digest speaks for: the same tokens may come from elsewhere
READING = frozenset(
    f"data.{name}"
    for name in (
        "data",
        "tokenizer",
        "vocab_languages",
        "encoding",
        "on_bad_text",
        "on_bad_row",
        "columns",
        "text_column",
        "label_column",
        "sheet",
        "align",
        "valid_fraction",
        "split_seed",
    )
)
#: what changes the rounding and not the run
ROUNDING = frozenset(f"train.{name}" for name in ("device", "dtype", "kernels", "compile", "accumulate"))
#: what may change unless the schedule is shaped by it
LENGTH = frozenset(("train.epochs", "train.max_steps"))
SHAPED_BY_LENGTH = ("cosine",)


def find(config: RunConfig, run: Path, warn: Callable[[str], None]) -> Path | None:
    """The checkpoint to start from, verified; None starts at step 0.

    Raises:
        CheckpointError: the folder has checkpoints and ``--resume`` was not given; the named one is damaged.
    """
    wanted = config.train.resume
    if not wanted:
        if found := checkpoint.steps(run):
            raise CheckpointError(
                f"{run}: has a checkpoint of step {found[-1]} already; "
                "go on with --resume auto, or choose another --run"
            )
        return None
    if wanted != "auto":
        checkpoint.verify(Path(wanted))
        return Path(wanted)
    saved = checkpoint.newest(run, warn)
    if saved is None:
        warn(f"{run}: no checkpoint to resume from; starting at step 0")
        return None
    return saved.path


def check(saved: Checkpoint, config: RunConfig, identity: Mapping[str, Any], warn: Callable[[str], None]) -> None:
    """Whether ``config`` may go on with a checkpoint.

    Args:
        saved: the checkpoint.
        config: with defaults resolved (real vocabulary size, length).
        identity: ``store`` and ``tokenizer`` digests, and the ``machine`` settings that decide the rounding.
        warn: gets a line when the run goes on, but not bit for bit.

    Raises:
        CheckpointError: listing every difference that would make it another run.
    """
    old = checkpoint.saved_config(saved.state["config"], saved.path / checkpoint.STATE)
    problems: list[str] = []
    rounding: list[str] = []
    for name, before, after, harmless in differences(old, config):
        if harmless or name in READING or (name in LENGTH and config.train.schedule not in SHAPED_BY_LENGTH):
            continue
        (rounding if name in ROUNDING else problems).append(f"{name} {_show(before)} -> {_show(after)}")
    for name in ("tokenizer", "store"):
        if saved.state[name] != identity[name]:
            what = {"tokenizer": "another tokenizer", "store": "other training text"}[name]
            problems.append(f"{what} ({saved.state[name][:12]} -> {identity[name][:12]})")
    if problems:
        raise CheckpointError(
            f"{saved.path}: cannot go on with another configuration: {'; '.join(problems)}; "
            "give the run's own settings, or start anew in another --run"
        )
    then, now = saved.state["machine"], identity["machine"]
    rounding += [f"{key} {then.get(key)} -> {now[key]}" for key in now if then.get(key) != now[key]]
    if rounding:
        warn(f"resuming with other arithmetic, so not bit for bit: {'; '.join(rounding)}")


def _show(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)
