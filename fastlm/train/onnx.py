"""An exported encoder or classifier as an ONNX graph, proved by running it with onnxruntime."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from fastlm.errors import ConfigError, FastlmError
from fastlm.models.config import ModelConfig
from fastlm.models.hf import ARCHITECTURES
from fastlm.train.export import TOLERANCE

GRAPH = "model.onnx"
#: (texts, tokens) that the graph is compared on; it is made with the first
SHAPES = ((2, 9), (1, 1), (3, 40))


def check_onnx(config: ModelConfig) -> None:
    """Refuses what cannot be written.

    Raises:
        ConfigError: a model that writes text, or a package that is missing.
    """
    if config.model not in ("encoder", "classifier"):
        raise ConfigError(f"--onnx takes encoders and classifiers: a {config.model}'s search is not a graph")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--onnx needs {' and '.join(missing)}: pip install 'fastlm[onnx]'")


def write_onnx(folder: Path, config: ModelConfig, *, pad: int, first: int) -> float:
    """Writes ``model.onnx`` into what `export` wrote: (B, L) int64 ``input_ids`` and ``attention_mask`` to ``logits``.

    Args:
        folder: with transformers' model.
        config: of the model.
        pad, first: ids of ``[PAD]`` and of the first token that is not special, of which texts are drawn.

    Returns:
        The largest difference of a logit, as a share of the largest logit.

    Raises:
        FastlmError: the graph's logits differ; it is removed.
    """
    import transformers

    model = getattr(transformers, ARCHITECTURES[config.model]).from_pretrained(folder, attn_implementation="eager")
    model.eval()
    generator = torch.Generator().manual_seed(0)
    texts = [
        torch.randint(first, config.vocab_size, (count, min(length, config.seq_len - 2)), generator=generator)
        for count, length in SHAPES
    ]
    inputs = [_padded(ids, pad) for ids in texts]
    _trace(model, inputs[0], folder / GRAPH, config.seq_len)
    worst = largest = 0.0
    for given in inputs:
        ours, theirs, real = _logits(folder / GRAPH, model, given)
        worst = max(worst, float((ours - theirs)[real].abs().max()))
        largest = max(largest, float(theirs.abs().max()))
    if not worst <= TOLERANCE * largest:
        (folder / GRAPH).unlink()
        raise FastlmError(f"{folder / GRAPH}: logits differ by {worst:g} beside {largest:g}: it was removed")
    return worst / largest


def _padded(ids: torch.Tensor, pad: int) -> dict[str, torch.Tensor]:
    """Texts of one length, the last of several with half of it padded."""
    mask = torch.ones_like(ids)
    if len(ids) > 1:
        mask[-1, (ids.shape[1] + 1) // 2 :] = 0
    return {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask}


def _trace(model: Any, given: dict[str, torch.Tensor], path: Path, longest: int) -> None:
    free = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=longest)}
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it tells of torchvision, which nobody asked for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                tuple(given.values()),
                path,
                input_names=list(given),
                output_names=["logits"],
                dynamic_shapes=dict.fromkeys(given, free),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)


def _logits(path: Path, model: Any, given: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The graph's, transformers', and which of them are of tokens that are not padding (all of a classifier's)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (ours,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in given.items()})
    with torch.no_grad():
        theirs = model(**given).logits
    real = given["attention_mask"].bool() if theirs.dim() == 3 else slice(None)
    return torch.from_numpy(ours), theirs, real
