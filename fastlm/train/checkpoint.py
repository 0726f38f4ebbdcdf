"""Checkpoints: a folder of safetensors and JSON, whole or not there, checked by SHA-256 and never unpickled.

``checkpoints/step-0000000123/`` holds ``model.safetensors``, ``optimizer.safetensors``, ``state.json`` and, written
last, ``manifest.json`` with the size and hash of the others. It is built under a temporary name, flushed and renamed.
Order is by the step in the name, never by time of change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fastlm import __version__
from fastlm.config import as_dict, update
from fastlm.errors import CheckpointError, ConfigError
from fastlm.train import atomic
from fastlm.train.config import RunConfig

if TYPE_CHECKING:
    from fastlm.models.config import ModelConfig
    from fastlm.models.factory import Model
    from fastlm.text.tokenizer import Tokenizer

FORMAT = 1
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
FOLDER = "checkpoints"
BEST = "best.json"

_NAME = re.compile(r"step-(\d+)")
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class NewerFormat(CheckpointError):
    """A checkpoint of a later fastlm: nothing is wrong with it, so no older one may silently take its place."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose hashes have been checked; tensors are on the CPU."""

    path: Path
    step: int
    state: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]


@dataclass(frozen=True)
class Loaded:
    """A trained model as the commands use it, on the CPU and in eval mode."""

    model: Model
    tokenizer: Tokenizer
    config: RunConfig
    step: int


# -- writing -----------------------------------------------------------------------------------------------------------


def folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / FOLDER / f"step-{step:010d}"


def save(
    run: Path, step: int, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], state: dict[str, Any]
) -> Path:
    """Writes a checkpoint and returns its folder; one of that step is replaced.

    Raises:
        OSError: the disk refused; nothing is left of the attempt and older checkpoints are untouched.
    """
    final = folder(run, step)
    temporary = final.with_name(final.name + atomic.TEMPORARY)
    try:
        final.parent.mkdir(exist_ok=True)
        atomic.remove_folder(temporary)
        temporary.mkdir()
        files = {
            MODEL: _safetensors(model),
            OPTIMIZER: _safetensors(optimizer),
            STATE: [json.dumps({"step": step, **state}, ensure_ascii=False).encode()],
        }
        written = {}
        for name, chunks in files.items():
            size, digest = atomic.write(temporary / name, chunks)
            written[name] = {"size": size, "sha256": digest}
        manifest = {"format": FORMAT, "fastlm": __version__, "step": step, "files": written}
        atomic.write(temporary / MANIFEST, [json.dumps({**manifest, "sha256": _digest(manifest)}).encode()])
        if final.exists():
            atomic.remove_folder(final)
        atomic.publish_folder(temporary, final)
    except OSError:
        atomic.remove_folder(temporary)
        raise
    return final


def _safetensors(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The safetensors format, piece by piece: writing and hashing take one pass and no second copy in memory."""
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data starts aligned
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        if tensor.numel():
            yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def prune(run: Path, keep: int, protect: Iterable[int], doubted: int = 0) -> None:
    """Removes checkpoints; what cannot be removed stays.

    Args:
        run: run folder.
        keep: how many of the newest stay.
        protect: steps that stay besides.
        doubted: those of this step and later do not count among the ``keep``, and only the newest of them stays;
            0 doubts none.
    """
    found = steps(run)
    good = [step for step in found if not doubted or step < doubted]
    kept = {*good[-keep:], *found[-1:], *protect}
    for step, path in _folders(run).items():
        if step not in kept:
            try:
                atomic.remove_folder(path)
            except OSError:
                continue  # tried again after the next save


def clean(run: Path) -> None:
    """Removes what an interrupted save or removal left behind."""
    for path in (run / FOLDER).glob(f"*{atomic.TEMPORARY}"):
        atomic.remove_folder(path)


def set_aside(path: Path, why: str) -> Path:
    """Renames a checkpoint so that it no longer counts as one; nothing is deleted."""
    target = path.with_name(f"{path.name}.{why}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{why}-{number}")
    path.rename(target)
    return target


# -- finding and reading -----------------------------------------------------------------------------------------------


def _folders(run: Path) -> dict[int, Path]:
    try:
        entries = list((run / FOLDER).iterdir())
    except FileNotFoundError:
        return {}
    return {int(m[1]): path for path in entries if (m := _NAME.fullmatch(path.name)) and path.is_dir()}


def newer(run: Path, step: int) -> list[Path]:
    """The checkpoint folders after ``step``, valid or not."""
    return [path for found, path in sorted(_folders(run).items()) if found > step]


def steps(run: Path) -> list[int]:
    """The steps that have a checkpoint folder, ascending; valid or not."""
    return sorted(_folders(run))


def verify(path: Path) -> dict[str, Any]:
    """Checks a checkpoint's sizes and hashes and returns its manifest.

    Raises:
        NewerFormat: a later fastlm wrote it.
        CheckpointError: no manifest, a missing file, or one that differs from its hash (named).
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint folder")
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        said = manifest.pop("sha256")
        found, writer, files = manifest["format"], manifest["fastlm"], dict(manifest["files"])
    except FileNotFoundError:
        raise CheckpointError(f"{path}: {MANIFEST} is missing, so the checkpoint is not complete") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / MANIFEST}: damaged ({error})") from None
    if _digest(manifest) != said:
        raise CheckpointError(f"{path / MANIFEST}: damaged: SHA-256 {_digest(manifest)} where {said} was written")
    if found != FORMAT:
        raise NewerFormat(
            f"{path}: format {found}, written by fastlm {writer}; this fastlm {__version__} reads format {FORMAT}: "
            f"install fastlm {writer} or later"
        )
    for name, expected in files.items():
        _verify_file(path / name, expected["size"], expected["sha256"])
    return {**manifest, "sha256": said}


def _verify_file(path: Path, size: int, sha256: str) -> None:
    try:
        actual = path.stat().st_size
        if actual != size:
            raise CheckpointError(f"{path}: damaged: {actual} bytes where {size} were written")
        digest = atomic.sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if digest != sha256:
        raise CheckpointError(f"{path}: damaged: SHA-256 {digest} where {sha256} was written")


def read(path: Path) -> Checkpoint:
    """A checkpoint, verified.

    Raises:
        CheckpointError: as :func:`verify`, or the folder has the name of another step.
    """
    manifest = verify(path)
    name = _NAME.fullmatch(path.resolve().name)
    if name and int(name[1]) != manifest["step"]:
        raise CheckpointError(f"{path}: holds step {manifest['step']}; rename it to step-{manifest['step']:010d}")
    return Checkpoint(
        path=path,
        step=manifest["step"],
        state=json.loads((path / STATE).read_bytes()),
        model=_tensors(path / MODEL),
        optimizer=_tensors(path / OPTIMIZER),
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from None
    return tensors


def newest(run: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The valid checkpoint of the highest step, or None; each damaged one on the way is named to ``warn``.

    Raises:
        NewerFormat: a later fastlm wrote the newest.
        CheckpointError: there are checkpoints and every one is damaged.
    """
    found = _folders(run)
    for step in sorted(found, reverse=True):
        try:
            return read(found[step])
        except NewerFormat:
            raise
        except CheckpointError as error:
            warn(f"{error}; trying the checkpoint before it")
    if found:
        raise CheckpointError(f"{run / FOLDER}: none of the {len(found)} checkpoints is intact; use another --run")
    return None


# -- weights -----------------------------------------------------------------------------------------------------------


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters and buffers by name; tensors that share memory appear once, under their first name."""
    unique: dict[str, Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        unique[name] = tensor
    return unique


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copies saved weights into a model of the same shape.

    Raises:
        CheckpointError: names or shapes differ (the first difference is named).
    """
    own = weights(model)
    for name in sorted(own.keys() ^ tensors.keys()):
        side = "the checkpoint lacks it" if name in own else "the model lacks it"
        raise CheckpointError(f"{source / MODEL}: {name}: {side}; the checkpoint is of another model")
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise CheckpointError(
                    f"{source / MODEL}: {name} is {tuple(tensors[name].shape)}, the model's is {tuple(tensor.shape)}"
                )
            tensor.copy_(tensors[name])


# -- for the commands --------------------------------------------------------------------------------------------------


def point_to_best(run: Path, step: int, loss: float | None) -> None:
    """Records which checkpoint has the lowest validation loss."""
    atomic.replace_file(run / BEST, json.dumps({"step": step, "loss": loss}).encode())


def best_step(run: Path) -> int | None:
    """The step with the lowest validation loss among the checkpoints that still exist, or None."""
    try:
        step = json.loads((run / BEST).read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if step in _folders(run) else None


def load(run: Path, which: str | int = "best") -> Loaded:
    """The model of a run, as it was at a checkpoint.

    Args:
        run: run folder.
        which: ``best`` (the newest one where no evaluation has been saved), ``latest``, or a step.

    Raises:
        CheckpointError: no such run or step, or a damaged or newer checkpoint (the file is named).
        DataError: the run's tokenizer cannot be read.
    """
    from fastlm.models.factory import build
    from fastlm.text.tokenizer import Tokenizer

    if not run.is_dir():
        raise CheckpointError(f"{run}: no such run folder")
    found = _folders(run)
    if not found:
        raise CheckpointError(f"{run}: no checkpoint yet (looked in {run / FOLDER})")
    if isinstance(which, int) and which not in found:
        raise CheckpointError(f"{run}: no checkpoint of step {which}; there are {', '.join(map(str, sorted(found)))}")
    best = best_step(run) if which == "best" else None
    step = which if isinstance(which, int) else best if best is not None else max(found)
    saved = read(found[step])
    config = saved_config(saved.state["config"], found[step] / STATE)
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    if tokenizer.digest != saved.state["tokenizer"]:
        raise CheckpointError(f"{run / 'tokenizer.json'}: not the tokenizer that this run was trained with")
    model = build(config.model)
    load_weights(model, saved.model, saved.path)
    return Loaded(model.eval(), tokenizer, config, saved.step)


def load_into(model: nn.Module, config: ModelConfig, tokenizer: Tokenizer, init: Path) -> None:
    """The best weights of a run or of a merged model, in a fresh model; an encoder's in a classifier's encoder.

    Raises:
        CheckpointError: see `load`; another tokenizer, or a model of another kind or size (dropout may differ).
    """
    from fastlm.models.classifier import TextClassifier

    loaded = load(init)
    if loaded.tokenizer.digest != tokenizer.digest:
        raise CheckpointError(
            f"--init {init}: its tokenizer is not that of the text; prepare the text with --tokenizer "
            f"{init / 'tokenizer.json'}"
        )
    part, wanted, may_differ = model, config, {"dropout"}
    if isinstance(model, TextClassifier) and loaded.config.model.model == "encoder":
        # The encoder's own head stays behind.
        part, wanted, may_differ = model.encoder, config.side("encoder"), {"dropout", "head"}
    for field in dataclasses.fields(config):
        own, its = getattr(wanted, field.name), getattr(loaded.config.model, field.name)
        if own != its and field.name not in may_differ:
            flag = field.name.replace("_", "-")
            raise CheckpointError(f"--init {init}: it has --{flag} {its}, this run {own}")
    given = loaded.model.state_dict()
    part.load_state_dict({name: given[name] for name in part.state_dict()})


def publish(path: Path, model: nn.Module, tokenizer: Tokenizer, config: RunConfig) -> None:
    """A model that no run has trained, as a folder that commands read and ``--init`` takes: its step is 0."""
    path.mkdir(parents=True)
    tokenizer.save(path / "tokenizer.json")
    save(path, 0, weights(model), {}, {"config": as_dict(config), "tokenizer": tokenizer.digest})


def saved_config(plain: dict[str, Any], source: Path) -> RunConfig:
    """A config as it was written.

    Raises:
        CheckpointError: a key or value that this fastlm does not know.
    """
    try:
        return update(RunConfig(), plain, source=f"{source}: ")
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
