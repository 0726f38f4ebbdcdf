"""Padding to a graph's capacity, and what a replay reads; the recording itself needs a GPU (benchmarks/gpu)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastlm.batch import Batch
from fastlm.errors import ConfigError
from fastlm.train import plan
from fastlm.train.config import RunConfig
from fastlm.train.distributed import World
from fastlm.train.graphs import CAPACITIES, IGNORED, SMALLEST, Capacity, Graphs, _round_up, padded
from fastlm.train.step import Stepper
from tests.train.test_step import gradients, make

MakeConfig = Callable[..., RunConfig]


class Recorder:
    """Stands in for CudaGraphs: runs the work when it is recorded, as a warm-up does, and again at every replay."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, work: Callable[[], Any]) -> Callable[[], Any]:
        self.recorded += 1
        work()
        return work


def with_graphs(stepper: Stepper, recorder: Recorder) -> Stepper:
    longest, device = stepper.model.config.seq_len, stepper.machine.device
    stepper.graphs = Graphs(stepper._loss, stepper.parameters, longest, device, recorder)
    return stepper


@pytest.mark.parametrize("model", ["encoder", "decoder"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_padded_steps_are_the_steps(make_config: MakeConfig, model: str, accumulate: int) -> None:
    """Several batches in the same buffers, dropout among it: every row has the seed and the mask that it had."""
    plain, loader = make(make_config, model=model, dropout=0.1, accumulate=accumulate)
    recorder = Recorder()
    graphed = with_graphs(make(make_config, model=model, dropout=0.1, accumulate=accumulate)[0], recorder)
    for index in range(5):
        step = loader.step(index)
        expected, found = plain.run(step, 1e-3), graphed.run(step, 1e-3)
        assert found.sums == pytest.approx(expected.sums, rel=1e-5)
        assert found.norm == pytest.approx(expected.norm, rel=1e-5)
        torch.testing.assert_close(gradients(graphed), gradients(plain), rtol=1e-4, atol=1e-6)
    assert recorder.recorded < 5 * accumulate  # some were replayed


def test_an_empty_batch_takes_part(make_config: MakeConfig) -> None:
    graphed = with_graphs(make(make_config)[0], Recorder())
    none, starts = torch.empty(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int32)
    output = graphed.graphs.run(Batch(none, none, starts, 0, none, none, none, none), 1.0, torch.tensor(3))
    assert (output.loss, output.row_loss.shape) == (0, (0,))
    assert not gradients(graphed).any()


def test_capacities_are_few_and_never_too_small() -> None:
    rounded = [_round_up(count) for count in range(1 << 14)]
    assert all(count <= size <= count + max(SMALLEST, count / CAPACITIES) for count, size in enumerate(rounded))
    assert all(len({size for size in rounded if low < size <= 2 * low}) <= CAPACITIES for low in (512, 2048, 8192))


def test_what_is_added_belongs_to_no_sentence(make_config: MakeConfig) -> None:
    _, loader = make(make_config)
    (batch,) = loader.step(0).batches
    capacity = Capacity.of(batch)
    full = padded(batch, capacity, 64)
    sizes = len(full.tokens), len(full.sentence_ids), len(full.targets)
    assert Capacity(*sizes) == capacity
    assert len(full.cu_seqlens) == capacity.sentences + 1
    tokens, sentences, targets = len(batch.tokens), len(batch.sentence_ids), len(batch.targets)
    assert (full.cu_seqlens[sentences:] == tokens).all()
    assert (full.targets[targets:] == IGNORED).all()
    assert (full.target_rows[targets:] == tokens).all()
    assert tokens < capacity.tokens
    assert full.max_seqlen == 64


def test_graphs_are_refused_where_they_cannot_be(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="--graphs needs a CUDA device, and this run is on cpu"):
        make(make_config, graphs=True)
    reasons = "--graphs needs bf16 or fp32.*; and one rank; and kernels of attention"
    with pytest.raises(ConfigError, match=reasons):
        plan._check_graphs(torch.device("cuda"), torch.float16, World(0, 2, 0), {"attention": "reference"})
    plan._check_graphs(torch.device("cuda"), torch.bfloat16, World(), {"attention": "native", "adam": "reference"})
