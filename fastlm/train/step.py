"""One optimizer step: micro-batches, clipping, and the gate that keeps non-finite numbers from the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastlm import ops
from fastlm.batch import Batch, Step, to_device
from fastlm.errors import FastlmError
from fastlm.models.factory import Model
from fastlm.train import optim
from fastlm.train.config import TrainConfig
from fastlm.train.distributed import World, parallel
from fastlm.train.evaluate import Grouping, autocast
from fastlm.train.graphs import CudaGraphs, Graphs
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

    def __init__(self, model: Model, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, batch: Batch, dropout_seed: Tensor | None = None) -> ops.LinearCrossEntropyOutput:
        """The summed loss and the per-target rows of one micro-batch."""
        smoothing = self.label_smoothing
        return self.model.loss(batch, label_smoothing=smoothing, reduction="sum", dropout_seed=dropout_seed)


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
        model: Model,
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
        self.graphs: Graphs | None = None
        if config.graphs:
            self.graphs = Graphs(self._loss, self.parameters, model.config.seq_len, machine.device, CudaGraphs())

    def run(self, step: Step, rate: float, asks: Callable[[], tuple[float, ...]] = tuple) -> StepResult:
        """One step at learning rate ``rate``; ``asks`` is called when the gradient is there.

        Raises:
            FastlmError: out of memory, with the batch's size and what to do; fp16's loss scale at its minimum.
        """
        self.seed(step.index)
        optim.set_learning_rate(self.optimizer, rate)
        self._zero_gradients()
        sums = torch.zeros(self.grouping.count, COLUMNS, dtype=torch.float64, device=self.machine.device)
        for i, batch in enumerate(step.batches):
            with self._no_sync(last=i == len(step.batches) - 1):
                sums += self.micro_batch(batch, step)
        self.scaler.unscale_(self.optimizer)
        norm = ops.total_norm([p.grad for p in self.parameters if p.grad is not None])
        # One small reduction carries the sums and the requests: every rank sees the same and decides the same.
        asked = to_device(torch.tensor(asks(), dtype=torch.float64), sums.device)
        shared = self.world.sum(torch.cat([sums.reshape(-1), asked]))
        size = sums.numel()
        finite = torch.isfinite(shared[:size]).all() & torch.isfinite(norm)
        self._update(norm, finite)
        # Here a GPU is waited for: when the whole step is queued.
        *host, host_norm = torch.cat([shared, norm.to(shared.dtype)[None]]).tolist()
        loss_finite, norm_finite = all(map(math.isfinite, host[:size])), math.isfinite(host_norm)
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
        # DDP averages over ranks where the loss is a sum over them.
        share = self.world.size / max(step.target_count, 1)
        try:
            if self.graphs is None:
                output = self._loss(batch.to(self.machine.device))
                self.scaler.scale(output.loss * share).backward()
            else:
                output = self.graphs.run(batch, share, self.model.draw_seed())
        except torch.OutOfMemoryError:
            raise FastlmError(
                f"out of memory on {self.machine.device} at step {step.index + 1}: "
                f"{len(batch.sentence_ids)} sentences, {len(batch.tokens)} tokens, the longest {batch.max_seqlen}; "
                "raise --accumulate, or lower --batch-size, --batch-tokens or --seq-len"
            ) from None
        return self.grouping.sums(batch, output)

    def _loss(self, batch: Batch, dropout_seed: Tensor | None = None) -> ops.LinearCrossEntropyOutput:
        with autocast(self.machine.device, self.machine.dtype):
            return self.loss(batch, dropout_seed)  # type: ignore[no-any-return]

    def _zero_gradients(self) -> None:
        if self.graphs is None:
            self.optimizer.zero_grad(set_to_none=True)
        else:
            self.graphs.zero_gradients()

    def _no_sync(self, last: bool) -> contextlib.AbstractContextManager[None]:
        if isinstance(self.loss, nn.parallel.DistributedDataParallel) and not last:
            return self.loss.no_sync()  # type: ignore[no-any-return]
        return contextlib.nullcontext()

    def _update(self, norm: Tensor, finite: Tensor) -> None:
        """The optimizer's step where all is finite, which the device decides; fp16's loss scale is the host's to steer.

        Raises:
            FastlmError: the loss scale is at its minimum.
        """
        if self.config.clip:
            optim.clip(self.optimizer, norm, self.config.clip)
        if not self.scaler.is_enabled():
            optim.skip_unless(self.optimizer, finite)
            self.optimizer.step()
            return
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if not finite:
            self._check_scale()

    def _check_scale(self) -> None:
        if self.scaler.get_scale() < MINIMUM_SCALE:
            raise FastlmError(
                f"fp16: the loss scale fell to {self.scaler.get_scale():g} and gradients still overflow; "
                "train with --dtype bf16 or fp32, or lower --lr"
            )
