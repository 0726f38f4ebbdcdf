"""Data parallelism under torchrun: who am I, and the few things that ranks tell each other."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastlm.errors import ConfigError, FastlmError

T = TypeVar("T")

#: Process groups, kept to the end of the process. Whoever drops the last reference joins gloo's threads, and these may
#: be waiting for Python's lock to free a tensor: DDP's reducer joins with the lock held, a deadlock. Python's own
#: reference gives the lock up first.
_groups: list[Any] = []

#: after this long without an answer from another rank, a rank gives up (seconds; FASTLM_DIST_TIMEOUT overrides)
TIMEOUT = 600.0


@dataclass(frozen=True)
class World:
    """A process among its peers; one process alone is a world of size 1 and needs no torch.distributed."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this rank prints and writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """``values`` summed over ranks, in place; every rank must call it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def from_main(self, make: Callable[[], T]) -> T:
        """What ``make()`` gives on rank 0, on every rank; its FastlmError is raised on every rank."""
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        if self.main:
            try:
                box[0] = make()
            except FastlmError as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        made: T = box[0]
        return made


def world() -> World:
    """The world that torchrun's environment describes.

    Raises:
        ConfigError: some of its variables are set and others are not, or are no numbers.
    """
    if "WORLD_SIZE" not in os.environ:
        return World()
    try:
        found = World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"RANK, WORLD_SIZE and LOCAL_RANK must all be set to numbers, as torchrun does ({error})"
        ) from None
    if not 0 <= found.rank < found.size:
        raise ConfigError(f"RANK {found.rank} is outside WORLD_SIZE {found.size}")
    return found


def connect(world: World, device: torch.device) -> None:
    """Joins the process group (NCCL on CUDA, gloo on the CPU)."""
    if world.size > 1 and not dist.is_initialized():
        seconds = float(os.environ.get("FASTLM_DIST_TIMEOUT", TIMEOUT))
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", timeout=datetime.timedelta(seconds=seconds)
        )
        _groups.append(dist.group.WORLD)


def disconnect(world: World) -> None:
    """Leaves the process group."""
    if world.size > 1 and dist.is_initialized():
        dist.destroy_process_group()


def parallel(module: nn.Module, world: World) -> nn.Module:
    """The module with its gradients averaged over ranks (as it is in a world of one)."""
    return nn.parallel.DistributedDataParallel(module) if world.size > 1 else module
