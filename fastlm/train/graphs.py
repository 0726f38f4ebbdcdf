"""Micro-batches as CUDA graphs: of small batches the launches take longer than the work, and a replay has one.

A graph keeps its shapes and its memory. So batches are copied into buffers of one of a few capacities, and what is left
of these is filled with tokens, sentences and targets that nobody counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm.batch import Batch, to_device
from fastlm.ops import LinearCrossEntropyOutput

#: of capacities from one power of two to the next: at most an eighth of a batch is padding
CAPACITIES = 8
SMALLEST = 64
IGNORED = -100
#: runs before a graph is recorded, in which libraries set themselves up
WARM_UPS = 2

Work = Callable[[], LinearCrossEntropyOutput]


@dataclass(frozen=True)
class Capacity:
    """How much of each a graph has room for."""

    tokens: int
    sentences: int
    targets: int

    @classmethod
    def of(cls, batch: Batch) -> Capacity:
        """The smallest for a batch: one token more than it has, which the spare targets name."""
        sizes = (len(batch.tokens) + 1, len(batch.sentence_ids), len(batch.targets))
        return cls(*map(_round_up, sizes))


def _round_up(count: int) -> int:
    count = max(count, 1)
    step = max(SMALLEST, (1 << count.bit_length() - 1) // CAPACITIES)
    return count + -count % step


def padded(batch: Batch, capacity: Capacity, longest: int) -> Batch:
    """The same batch with as many of everything as there is room for, on the CPU.

    The added tokens belong to no sentence: nobody attends to them, and their gradients are 0. The added sentences are
    empty; the added targets are ignored, and all in the first added row.

    Args:
        batch: on the CPU.
        capacity: of the graph.
        longest: of any sentence that the graph will see.
    """
    tokens = capacity.tokens - len(batch.tokens)
    sentences = capacity.sentences - len(batch.sentence_ids)
    targets = capacity.targets - len(batch.targets)
    return Batch(
        tokens=F.pad(batch.tokens, (0, tokens)),
        positions=F.pad(batch.positions, (0, tokens)),
        cu_seqlens=F.pad(batch.cu_seqlens, (0, sentences), value=len(batch.tokens)),
        max_seqlen=longest,
        target_rows=F.pad(batch.target_rows, (0, targets), value=len(batch.tokens)),
        targets=F.pad(batch.targets, (0, targets), value=IGNORED),
        target_sentences=F.pad(batch.target_sentences, (0, targets)),
        sentence_ids=F.pad(batch.sentence_ids, (0, sentences)),
    )


class CudaGraphs:
    """Records CUDA graphs that run one after another, and so share the memory of what they make on their way."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Records what ``work`` launches; the result launches it again, on the same memory."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            results = work()

        def replay() -> LinearCrossEntropyOutput:
            graph.replay()
            return results

        return replay


class _Recorded:
    """A graph with the memory that it reads."""

    def __init__(self, batch: Batch, scale: Tensor, seed: Tensor) -> None:
        own: dict[str, Any] = {name: tensor.clone() for name, tensor in _tensors(batch).items()}
        self.batch = dataclasses.replace(batch, **own)
        self.scale, self.seed = scale.clone(), seed.clone()
        self.replay: Work | None = None

    def fill(self, batch: Batch, scale: Tensor, seed: Tensor) -> None:
        """Brings the next batch, behind what is queued."""
        own = _tensors(self.batch)
        for name, tensor in _tensors(batch).items():
            own[name].copy_(tensor)
        self.scale.copy_(scale)
        self.seed.copy_(seed)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    fields = (field.name for field in dataclasses.fields(batch))
    return {name: value for name in fields if isinstance(value := getattr(batch, name), Tensor)}


class Graphs:
    """Runs micro-batches, each by the graph of its capacity, which the first one of a capacity records.

    Args:
        loss: a batch and a dropout seed to the summed loss; it may not wait for the device.
        parameters: whose gradients are added up. They get gradients of 0, which must stay where they are.
        longest: of any sentence.
        device: of the parameters.
        record: a `CudaGraphs`, or what stands in for it.
    """

    def __init__(
        self,
        loss: Callable[[Batch, Tensor], LinearCrossEntropyOutput],
        parameters: Iterable[Tensor],
        longest: int,
        device: torch.device,
        record: Callable[[Work], Work],
    ) -> None:
        self.loss, self.longest, self.device, self.record = loss, longest, device, record
        self.parameters = list(parameters)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._recorded: dict[Capacity, _Recorded] = {}

    def zero_gradients(self) -> None:
        """Every gradient 0, in its place."""
        torch._foreach_zero_([p.grad for p in self.parameters if p.grad is not None])

    def run(self, batch: Batch, scale: float, seed: Tensor) -> LinearCrossEntropyOutput:
        """Adds the gradient of ``scale`` times the summed loss; returns the loss and the rows of the batch's targets.

        What it returns is overwritten by the next batch.
        """
        capacity = Capacity.of(batch)
        given = padded(batch, capacity, self.longest).to(self.device)
        factor = to_device(torch.tensor(scale, dtype=torch.float32), self.device)
        drawn = to_device(seed, self.device)
        recorded = self._recorded.get(capacity)
        if recorded is None:
            recorded = self._recorded[capacity] = _Recorded(given, factor, drawn)
            recorded.replay = self._record(recorded)
        recorded.fill(given, factor, drawn)
        assert recorded.replay is not None
        output = recorded.replay()
        count = len(batch.targets)
        return LinearCrossEntropyOutput(output.loss, output.row_loss[:count], output.row_correct[:count])

    def _record(self, recorded: _Recorded) -> Work:
        kept = [p.grad.clone() for p in self.parameters if p.grad is not None]

        def work() -> LinearCrossEntropyOutput:
            output = self.loss(recorded.batch, recorded.seed)
            (output.loss * recorded.scale).backward()
            return LinearCrossEntropyOutput(*(x.detach() for x in output))

        replay = self.record(work)
        # The warm-up has added to them.
        torch._foreach_copy_([p.grad for p in self.parameters if p.grad is not None], kept)
        return replay
