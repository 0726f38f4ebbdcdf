"""One optimizer step: accumulation, seeds, clipping, and numbers that are not finite."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastlm import ops
from fastlm.batch import Step
from fastlm.config import update
from fastlm.data.loader import Loader
from fastlm.data.prepare import prepared
from fastlm.models.factory import build
from fastlm.train import nonfinite, optim, plan
from fastlm.train.config import RunConfig
from fastlm.train.distributed import World
from fastlm.train.evaluate import Grouping
from fastlm.train.step import Stepper, mix

MakeConfig = Callable[..., RunConfig]


def make(make_config: MakeConfig, **values: Any) -> tuple[Stepper, Loader]:
    config = make_config(**values)
    store = prepared(config.data, config.model.vocab_size, progress=False)
    config = update(config, {"vocab_size": store.tokenizer.vocab_size})
    machine = plan.machine(config.train, World())
    torch.manual_seed(0)
    model = build(config.model)
    stepper = Stepper(model, optim.build(model, config.train), config.train, machine, World(), Grouping(store))
    return stepper, Loader(store, config.model, config.data, seed=0, accumulate=config.train.accumulate)


def gradients(stepper: Stepper) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in stepper.parameters if p.grad is not None])


@pytest.mark.parametrize("model", ["encoder", "decoder"])
@pytest.mark.parametrize("accumulate", [2, 5])
def test_accumulation_equals_the_big_batch(make_config: MakeConfig, model: str, accumulate: int) -> None:
    results = []
    for parts in (1, accumulate):
        stepper, loader = make(make_config, model=model, dropout=0.0, accumulate=parts, clip=0.0)
        step = loader.step(0)
        assert len(step.batches) == parts
        result = stepper.run(step, 0.0)
        results.append((result.sums, result.norm, gradients(stepper)))
    (sums, norm, grad), (sums2, norm2, grad2) = results
    assert sums2 == pytest.approx(sums, rel=1e-5)
    assert norm2 == pytest.approx(norm, rel=1e-5)
    torch.testing.assert_close(grad2, grad, rtol=1e-4, atol=1e-6)


def test_the_loss_is_weighed_by_targets_not_by_micro_batches(make_config: MakeConfig) -> None:
    stepper, loader = make(make_config, dropout=0.0, accumulate=2, clip=0.0, dtype="fp32")
    step = loader.step(0)
    counts = [len(batch.targets) for batch in step.batches]
    stepper.run(step, 0.0)
    total = gradients(stepper)
    parts = []
    for batch in step.batches:
        stepper.run(dataclasses.replace(step, batches=(batch,), target_count=len(batch.targets)), 0.0)
        parts.append(gradients(stepper))
    weighed = sum(part * count for part, count in zip(parts, counts, strict=True)) / step.target_count
    torch.testing.assert_close(total, weighed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_clipping(make_config: MakeConfig, kernels: str) -> None:
    """The first step's mean gradient is (1 - beta1) times the clipped gradient, fastlm's optimizer or torch's."""
    norms = {}
    try:
        for limit in (0.0, 1e-3, 1e3):
            stepper, loader = make(make_config, dropout=0.0, clip=limit, kernels=kernels)
            assert isinstance(stepper.optimizer, optim.FusedAdam) == (kernels == "auto" and ops.native_fault() is None)
            result = stepper.run(loader.step(0), 0.0)
            means = [state["exp_avg"].flatten() for state in stepper.optimizer.state.values()]
            norms[limit] = (result.norm, float(torch.cat(means).norm()) / (1 - stepper.config.beta1))
    finally:
        ops.set_backend(None)
    norm = norms[0.0][0]
    assert norms[0.0] == pytest.approx((norm, norm), rel=1e-5)
    assert norms[1e-3] == pytest.approx((norm, 1e-3), rel=1e-3)
    assert norms[1e3] == pytest.approx((norm, norm), rel=1e-5)


def test_dropout_is_a_function_of_seed_and_step(make_config: MakeConfig) -> None:
    stepper, loader = make(make_config, dropout=0.3)
    step = loader.step(0)
    first = stepper.run(step, 0.0).sums
    torch.rand(17)  # whatever the generator was used for in between
    assert (stepper.run(step, 0.0).sums == first).all()
    assert (stepper.run(dataclasses.replace(step, index=1), 0.0).sums != first).any()


def test_mix_gives_distinct_seeds() -> None:
    seeds = {mix(seed, step, rank) for seed in range(10) for step in range(-1, 50) for rank in range(8)}
    assert len(seeds) == 10 * 51 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, 2) != mix(2, 1)


def empty(step: Step) -> Step:
    def no_targets(batch: Any) -> Any:
        none = torch.empty(0, dtype=torch.int64)
        return dataclasses.replace(batch, targets=none, target_rows=none, target_sentences=none)

    return dataclasses.replace(step, batches=tuple(map(no_targets, step.batches)), target_count=0)


def test_a_step_without_targets_gives_zero_gradients(make_config: MakeConfig) -> None:
    stepper, loader = make(make_config)
    result = stepper.run(empty(loader.step(0)), 1e-3)
    assert result.finite
    assert result.norm == 0
    assert not result.sums.any()
    assert not gradients(stepper).any()
    assert all(p.grad is not None for p in stepper.parameters)  # data parallelism waits for every one


def test_what_is_not_finite_never_reaches_the_weights(make_config: MakeConfig) -> None:
    stepper, loader = make(make_config)
    stepper.run(loader.step(0), 1e-3)
    before = {name: p.detach().clone() for name, p in stepper.model.named_parameters()}
    moments = {k: v.clone() for k, v in optim.state_tensors(stepper.optimizer, stepper.model).items()}
    bad = loader.step(1)
    handle = stepper.model.blocks[1].mlp.register_forward_hook(lambda m, i, o: o * math.nan)
    result = stepper.run(bad, 1e-3)
    assert not result.finite
    for name, parameter in stepper.model.named_parameters():
        assert torch.equal(parameter, before[name])
    for name, tensor in optim.state_tensors(stepper.optimizer, stepper.model).items():
        assert torch.equal(tensor, moments[name])
    handle.remove()
    assert stepper.run(bad, 1e-3).finite


def test_a_gradient_that_is_not_finite_under_a_finite_loss(make_config: MakeConfig) -> None:
    stepper, loader = make(make_config)
    weight = stepper.model.final_norm.weight
    before = weight.detach().clone()
    weight.register_hook(lambda grad: grad * math.inf)
    result = stepper.run(loader.step(0), 1e-3)
    assert not result.finite
    assert math.isfinite(float(result.sums.sum()))
    assert torch.equal(weight, before)


def test_the_dump_names_the_module_and_the_batch(make_config: MakeConfig, tmp_path: Path) -> None:
    stepper, loader = make(make_config)
    step = loader.step(3)
    stepper.model.blocks[1].mlp.register_forward_hook(lambda m, i, o: o * math.nan)
    stepper.run(step, 1e-3)
    report = json.loads(nonfinite.dump(tmp_path, stepper, step, "a test").read_text())
    assert report["first_non_finite_module"] == "blocks.1.mlp"
    assert report["first_non_finite_gradient"] is not None
    assert report["first_non_finite_parameter"] is None
    assert report["sentence_ids"] == [batch.sentence_ids.tolist() for batch in step.batches]
    assert (report["step"], report["dropout_seed"]) == (3, mix(0, 3, 0))


def test_a_target_out_of_range_is_named(make_config: MakeConfig) -> None:
    stepper, loader = make(make_config)
    step = loader.step(0)
    assert nonfinite.bad_target(stepper, step) == ""
    step.batches[0].targets[2] = 99_999
    result = stepper.run(step, 1e-3)
    assert not result.finite  # the op poisons the row rather than reading out of bounds
    assert "targets[2] is 99999" in nonfinite.bad_target(stepper, step)


def test_running_out_of_memory_says_what_to_do(make_config: MakeConfig) -> None:
    stepper, loader = make(make_config)

    def explode(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    stepper.model.blocks[0].register_forward_pre_hook(explode)
    with pytest.raises(
        ValueError, match=r"out of memory on cpu at step 1: 32 sentences, \d+ tokens.*raise --accumulate"
    ):
        stepper.run(loader.step(0), 1e-3)
