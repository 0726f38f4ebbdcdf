"""One optimizer step: micro-batches, clipping, and the gate that keeps non-finite numbers from the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastlm import ops
from fastlm.batch import Batch, Step
from fastlm.errors import FastlmError
from fastlm.models.language_model import LanguageModel
from fastlm.train import optim
from fastlm.train.config import TrainConfig
from fastlm.train.distributed import World, parallel
from fastlm.train.evaluate import Grouping, autocast
from fastlm.train.metrics import COLUMNS, Sums
from fastlm.train.plan import Machine

#: loss scale of fp16 below which training cannot go on (fairseq's rule)
MINIMUM_SCALE = 1e-4

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """A 63-bit seed from several integers (SplitMix64's finaliser, chained)."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


class SummedLoss(nn.Module):
    """``model.loss`` as a module's forward, which is what DDP wraps."""

    def __init__(self, model: LanguageModel, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, batch: Batch) -> ops.LinearCrossEntropyOutput:
        """The summed loss and the per-target rows of one micro-batch."""
        return self.model.loss(batch, label_smoothing=self.label_smoothing, reduction="sum")


@dataclass(frozen=True)
class StepResult:
    """What one step did, the same on every rank.

    Attributes:
        sums: (groups, COLUMNS) over the global batch.
        norm: global gradient norm before clipping.
        finite: whether loss and gradient were; otherwise the weights were left alone.
        overflow: a non-finite gradient that fp16's loss scaling explains and answers.
        asked: what ``asks()`` gave, summed over ranks.
    """

    sums: Sums
    norm: float
    finite: bool
    overflow: bool
    asked: tuple[float, ...]


class Stepper:
    """Runs optimizer steps on a model; the gradient is that of the loss summed over the global batch / its targets."""

    def __init__(
        self,
        model: LanguageModel,
        optimizer: torch.optim.Adam,
        config: TrainConfig,
        machine: Machine,
        world: World,
        grouping: Grouping,
    ) -> None:
        self.model, self.optimizer, self.config = model, optimizer, config
        self.machine, self.world, self.grouping = machine, world, grouping
        if config.compile:
            model.compile()
        self.loss = parallel(SummedLoss(model, config.label_smoothing), world)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.dtype == torch.float16)

    def run(self, step: Step, rate: float, asks: Callable[[], tuple[float, ...]] = tuple) -> StepResult:
        """One step at learning rate ``rate``; ``asks`` is called when the gradient is there.

        Raises:
            FastlmError: out of memory, with the batch's size and what to do; fp16's loss scale at its minimum.
        """
        self.seed(step.index)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(self.grouping.count, COLUMNS, dtype=torch.float64, device=self.machine.device)
        for i, batch in enumerate(step.batches):
            with self._no_sync(last=i == len(step.batches) - 1):
                sums += self.micro_batch(batch, step)
        self.scaler.unscale_(self.optimizer)
        norm = ops.total_norm([p.grad for p in self.parameters if p.grad is not None])
        # One small reduction carries the sums and the requests: every rank sees the same and decides the same.
        shared = torch.cat([sums.reshape(-1), torch.tensor(asks(), dtype=torch.float64, device=sums.device)])
        host, host_norm = self.world.sum(shared).tolist(), float(norm)  # where a GPU is waited for
        size = sums.numel()
        loss_finite, norm_finite = all(map(math.isfinite, host[:size])), math.isfinite(host_norm)
        if loss_finite and norm_finite:
            self._update(norm)
        elif self.scaler.is_enabled():
            self._rescale()
        return StepResult(
            sums=torch.tensor(host[:size], dtype=torch.float64).reshape(-1, COLUMNS).numpy(),
            norm=host_norm,
            finite=loss_finite and norm_finite,
            overflow=loss_finite and self.scaler.is_enabled(),
            asked=tuple(host[size:]),
        )

    def seed(self, index: int) -> None:
        """Makes dropout a function of (seed, step, rank), so that a resumed run needs no generator state."""
        torch.manual_seed(mix(self.config.seed, index, self.world.rank))

    def micro_batch(self, batch: Batch, step: Step) -> Tensor:
        """Adds one micro-batch's gradient; returns its (groups, COLUMNS) sums. An empty one takes part too."""
        try:
            moved = batch.to(str(self.machine.device))
            with autocast(self.machine.device, self.machine.dtype):
                output = self.loss(moved)
            # DDP averages over ranks where the loss is a sum over them.
            loss = output.loss * (self.world.size / max(step.target_count, 1))
            self.scaler.scale(loss).backward()
        except torch.OutOfMemoryError:
            raise FastlmError(
                f"out of memory on {self.machine.device} at step {step.index + 1}: "
                f"{len(batch.sentence_ids)} sentences, {len(batch.tokens)} tokens, the longest {batch.max_seqlen}; "
                "raise --accumulate, or lower --batch-size, --batch-tokens or --seq-len"
            ) from None
        return self.grouping.sums(batch, output)

    def _no_sync(self, last: bool) -> contextlib.AbstractContextManager[None]:
        if isinstance(self.loss, nn.parallel.DistributedDataParallel) and not last:
            return self.loss.no_sync()  # type: ignore[no-any-return]
        return contextlib.nullcontext()

    def _update(self, norm: Tensor) -> None:
        if self.config.clip:
            optim.clip(self.optimizer, norm, self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _rescale(self) -> None:
        self.scaler.update()
        if self.scaler.get_scale() < MINIMUM_SCALE:
            raise FastlmError(
                f"fp16: the loss scale fell to {self.scaler.get_scale():g} and gradients still overflow; "
                "train with --dtype bf16 or fp32, or lower --lr"
            )
