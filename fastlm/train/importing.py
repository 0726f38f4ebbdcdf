"""A Hugging Face folder as a model that training goes on with: what ``fastlm export`` wrote, trained there or not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from fastlm.errors import ConfigError, DataError
from fastlm.models.factory import build
from fastlm.models.hf import TRUNK, Weights, has_identity_head, model_config, read_hf_weights
from fastlm.text.tokenizer import Tokenizer
from fastlm.train import checkpoint
from fastlm.train.checkpoint import Loaded
from fastlm.train.config import RunConfig
from fastlm.train.export import Exported, compare

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def import_folder(folder: Path, out: Path) -> Exported:
    """Reads config, weights and tokenizer, compares the logits with transformers', and writes a run of step 0.

    Raises:
        ConfigError: an architecture, choice or weight that fastlm does not have, by name.
        DataError: a file that is missing or damaged; a tokenizer that is not fastlm's.
        FastlmError: the logits differ.
    """
    plain = _json(folder / "config.json")
    try:
        config = model_config(plain)
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / 'config.json'}: {error} is missing or wrong") from None
    weights = _weights(folder)
    tokenizer = Tokenizer(json.dumps(_bare(_json(folder / "tokenizer.json"))), str(folder / "tokenizer.json"))
    if config.vocab_size != tokenizer.vocab_size:
        raise ConfigError(f"{folder}: the model has {config.vocab_size} tokens, its tokenizer {tokenizer.vocab_size}")
    if config.model == "encoder" and f"{TRUNK}LayerNorm.weight" in weights and has_identity_head(weights):
        config = dataclasses.replace(config, head="tied")
    model = build(config).eval()
    read_hf_weights(model, weights, pad=tokenizer.pad_id)
    run = RunConfig(model=config)
    done = compare(Loaded(model, tokenizer, run, 0), folder)
    checkpoint.publish(out, model, tokenizer, run)
    return done


def _bare(plain: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer without what `export` puts around texts: fastlm's data path does that itself."""
    return plain | {"post_processor": None, "truncation": None, "padding": None}


def _weights(folder: Path) -> Weights:
    """Of one file, or of all that an index names."""
    files = [WHOLE]
    if not (folder / WHOLE).exists() and (folder / INDEX).exists():
        files = sorted(set(_json(folder / INDEX)["weight_map"].values()))
    found: Weights = {}
    for name in files:
        try:
            found |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{folder / name}: {error}") from None
    return {name: tensor.float() for name, tensor in found.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    return plain
