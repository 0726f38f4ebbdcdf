"""What a run decides before its first step: device, arithmetic, kernels, length and rhythm."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from fastlm import ops
from fastlm.errors import ConfigError
from fastlm.train.config import RunConfig, TrainConfig
from fastlm.train.distributed import World

if TYPE_CHECKING:
    from fastlm.data.loader import Loader

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

#: ops that a graphed micro-batch runs
GRAPHED = ("attention", "layer_norm", "linear_cross_entropy")

#: optimizer steps of a run without --data and without a length: a few minutes on two CPU cores
DEMO_STEPS = 120
DEMO_EVALUATIONS = 6
DEFAULT_EPOCHS = 32.0
EVALUATIONS = 20
#: steps between evaluations of a run that only a clock ends
UNTIMED_EVAL_EVERY = 100


@dataclass(frozen=True)
class Machine:
    """Where and how the arithmetic runs."""

    device: torch.device
    dtype: torch.dtype
    threads: int
    backends: dict[str, str]  # op -> backend picked
    slow: tuple[str, ...]  # reasons why a fast path is missing


def check_environment() -> None:
    """Refuses an environment that the ops cannot run in: FASTLM_BACKEND or FASTLM_CPU_ISA names what is not there."""
    if fault := ops.environment_fault():
        raise ConfigError(fault)


def check_kernels(device: str, asked: str, flag: str, remedy: str) -> dict[str, str]:
    """Which backend each op takes on a type of device.

    Args:
        device: ``cpu`` or ``cuda``.
        asked: the backend that was asked for, empty for any.
        flag, remedy: how it was asked for, and what to do, for the message.

    Raises:
        ConfigError: it cannot run an op there.
    """
    picks: dict[str, str] = {}
    for op, devices in ops.explain().items():
        found: dict[str, Any] = devices[device]
        if found["pick"] is None:
            raise ConfigError(f"{flag} {asked}: {op}: {found['passed_over'][asked]}; {remedy}")
        picks[op] = found["pick"]
    return picks


def machine(config: TrainConfig, world: World) -> Machine:
    """Resolves ``auto`` and applies threads and kernels to this process.

    Raises:
        ConfigError: a device, dtype, backend or instruction set that this machine does not have.
    """
    check_environment()
    device = _device(config, world)
    dtype = _dtype(config, device)
    if config.threads:
        torch.set_num_threads(config.threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    ops.set_backend(None if config.kernels == "auto" else config.kernels)
    backends, slow = _backends(config, device)
    if config.graphs:
        _check_graphs(device, dtype, world, backends)
    return Machine(device, dtype, torch.get_num_threads(), backends, slow)


def _device(config: TrainConfig, world: World) -> torch.device:
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch sees no CUDA device; use --device cpu, or install a CUDA build of torch"
        )
    if world.local_rank >= torch.cuda.device_count():
        raise ConfigError(f"local rank {world.local_rank} has no CUDA device: there are {torch.cuda.device_count()}")
    torch.cuda.set_device(world.local_rank)
    return torch.device("cuda", world.local_rank)


def _dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    if config.dtype == "auto":
        return torch.bfloat16 if _gains_from_bf16(device) else torch.float32
    if config.dtype == "fp16" and device.type != "cuda":
        raise ConfigError("--dtype fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    return DTYPES[config.dtype]


def _gains_from_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _backends(config: TrainConfig, device: torch.device) -> tuple[dict[str, str], tuple[str, ...]]:
    if config.kernels == "auto":
        picks = check_kernels(device.type, os.environ.get("FASTLM_BACKEND", ""), "FASTLM_BACKEND", "unset it")
    else:
        picks = check_kernels(device.type, config.kernels, "--kernels", "use --kernels auto")
    slow: list[str] = []
    if config.kernels == "auto" and (fault := ops.native_fault()):
        slow.append(fault)
    return picks, tuple(slow)


def _check_graphs(device: torch.device, dtype: torch.dtype, world: World, backends: dict[str, str]) -> None:
    reasons = []
    if device.type != "cuda":
        reasons.append(f"a CUDA device, and this run is on {device}")
    if dtype == torch.float16:
        reasons.append("bf16 or fp32: the loss scale of fp16 is the host's to steer")
    if world.size > 1:
        reasons.append("one rank")
    if waiting := [op for op, family in backends.items() if family == "reference" and op in GRAPHED]:
        reasons.append(f"kernels of {', '.join(waiting)}: the reference asks the host what to do")
    if reasons:
        raise ConfigError(f"--graphs needs {'; and '.join(reasons)}")


@dataclass(frozen=True)
class Rhythm:
    """How long a run is and when it does what; steps count from 1 here.

    Attributes:
        total_steps: where it ends; 0 when only ``max_minutes`` ends it.
        steps_per_epoch: of the first epoch, for schedules and messages.
        eval_every, save_every, log_every: steps between.
    """

    total_steps: int
    steps_per_epoch: int
    eval_every: int
    save_every: int
    log_every: int

    def due(self, every: int, step: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens after ``step``."""
        return step > 0 and (step % every == 0 or step == self.total_steps)


def with_default_length(config: RunConfig) -> tuple[RunConfig, str]:
    """Gives a run without any length its default one, and the sentence that says so (or nothing)."""
    train = config.train
    if train.epochs or train.max_steps or train.max_minutes:
        return config, ""
    if config.data.data:
        return dataclasses.replace(config, train=dataclasses.replace(train, epochs=DEFAULT_EPOCHS)), (
            f"no length given: {DEFAULT_EPOCHS:g} epochs (--epochs, --max-steps or --max-minutes change it)"
        )
    every = train.eval_every or DEMO_STEPS // DEMO_EVALUATIONS
    changed = dataclasses.replace(train, max_steps=DEMO_STEPS, eval_every=every)
    return dataclasses.replace(config, train=changed), (
        f"no length given: a demonstration of {DEMO_STEPS} steps (--epochs, --max-steps or --max-minutes change it)"
    )


def rhythm(config: TrainConfig, loader: Loader) -> Rhythm:
    """Turns epochs and limits into steps.

    Raises:
        ConfigError: an epoch without a single step.
    """
    per_epoch = loader.steps_per_epoch(0)
    if per_epoch < 1:
        raise ConfigError("the training split gives no batch; add text, or lower --valid-fraction")
    limits = [steps_in(loader, config.epochs)] if config.epochs else []
    limits += [config.max_steps] if config.max_steps else []
    total = max(1, min(limits)) if limits else 0
    shortest = math.ceil(total / EVALUATIONS) if total else UNTIMED_EVAL_EVERY
    eval_every = config.eval_every or max(1, min(per_epoch, shortest))
    return Rhythm(total, per_epoch, eval_every, config.save_every or eval_every, config.log_every)


def steps_in(loader: Loader, epochs: float) -> int:
    """Steps in so many epochs, the last of which may be a part."""
    whole = int(epochs)
    steps = sum(loader.steps_per_epoch(epoch) for epoch in range(whole))
    if epochs > whole:
        steps += round((epochs - whole) * loader.steps_per_epoch(whole))
    return steps
