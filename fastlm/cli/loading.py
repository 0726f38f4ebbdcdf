"""What the commands that use a trained model share: opening a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastlm.errors import ConfigError

#: what a run of each kind is for
COMMAND_OF = {"encoder": "fill", "decoder": "generate", "seq2seq": "translate", "classifier": "predict"}

if TYPE_CHECKING:
    from fastlm.models import LanguageModel
    from fastlm.train.checkpoint import Loaded


def load_run(run: str, which: str, *, needs: str = "", command: str = "", device: str = "cpu") -> Loaded:
    """The model of a run in eval mode, its tokenizer and configuration.

    Args:
        run: run folder.
        which: ``best``, ``latest`` or a step number.
        needs: the kind of model that the command works on, empty for any.
        command: the command's name, for the message.
        device: the type of device that the command runs it on; empty where the command decides and checks that itself.

    Raises:
        CheckpointError: no such run or checkpoint, or a damaged one.
        ConfigError: a run of the other kind of model; an environment that the ops cannot run in.
    """
    from fastlm.train.checkpoint import load
    from fastlm.train.plan import check_environment, check_kernels

    if which not in ("best", "latest") and not which.isdigit():
        raise ConfigError(f"--which: {which!r} is not best, latest or a step number")
    check_environment()
    if device:
        check_kernels(device, os.environ.get("FASTLM_BACKEND", ""), "FASTLM_BACKEND", "unset it")
    loaded = load(Path(run), int(which) if which.isdigit() else which)
    kind = loaded.config.model.model
    if needs and kind != needs:
        raise ConfigError(
            f"{run}: its model is of kind {kind}, fastlm {command} needs kind {needs}; use fastlm {COMMAND_OF[kind]}"
        )
    loaded.model.eval()
    return loaded


def language_model(loaded: Loaded) -> LanguageModel:
    """The model of a run that `load_run` found to be an encoder or a decoder."""
    from fastlm.models.language_model import LanguageModel

    assert isinstance(loaded.model, LanguageModel)
    return loaded.model
