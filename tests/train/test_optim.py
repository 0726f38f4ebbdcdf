"""The two meanings of weight decay, and optimizer state as named tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fastlm import ops
from fastlm.config import update
from fastlm.errors import CheckpointError
from fastlm.train import optim
from fastlm.train.config import RunConfig, TrainConfig


def config(**values: float | str) -> TrainConfig:
    return update(RunConfig(), {"lr": 0.01, "weight_decay": 0.1, **values}).train


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.LayerNorm(4))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    ids = torch.arange(7)
    for _ in range(steps):
        optimizer.zero_grad()
        net(ids).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(("name", "plain"), [("adamw", torch.optim.AdamW), ("adam-l2", torch.optim.Adam)])
def test_matches_torch_with_decay_on_matrices_only(name: str, plain: type[torch.optim.Optimizer]) -> None:
    ours, theirs = model(), model()
    train(ours, optim.build(ours, config(optimizer=name)))
    split = [[p for p in theirs.parameters() if p.dim() == 2], [p for p in theirs.parameters() if p.dim() == 1]]
    groups = [{"params": split[0], "weight_decay": 0.1}, {"params": split[1], "weight_decay": 0.0}]
    train(theirs, plain(groups, lr=0.01, betas=(0.9, 0.999)))  # type: ignore[call-arg]
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=lambda m, key=key: f"{key}: {m}")


def test_the_two_decays_differ() -> None:
    found = {}
    for name in optim.OPTIMIZERS:
        net = model()
        train(net, optim.build(net, config(optimizer=name)))
        found[name] = net[1].weight.detach()
    assert (found["adamw"] - found["adam-l2"]).abs().max() > 1e-4


def test_state_survives_as_tensors() -> None:
    straight, stopped = model(), model()
    train(straight, optim.build(straight, config()), 6)
    first = optim.build(stopped, config())
    train(stopped, first, 3)
    saved = {name: tensor.clone() for name, tensor in optim.state_tensors(first, stopped).items()}
    second = optim.build(stopped, config())
    optim.load_state_tensors(second, stopped, saved)
    train(stopped, second, 3)
    for a, b in zip(straight.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_another_model_is_refused() -> None:
    net = model()
    with pytest.raises(CheckpointError, match=r"no parameter 9\.weight"):
        optim.load_state_tensors(optim.build(net, config()), net, {"exp_avg/9.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"exp_avg/1.weight is \(2, 2\), the model's is \(4, 4\)"):
        optim.load_state_tensors(optim.build(net, config()), net, {"exp_avg/1.weight": torch.zeros(2, 2)})


# ---- the optimizer with fastlm's step ------------------------------------------------------------------------------
needs_native = pytest.mark.skipif(ops.native_fault() is not None, reason=f"no native ops: {ops.native_fault()}")


def with_torch(net: nn.Module, **values: float | str) -> torch.optim.Adam:
    with ops.use_backend("reference"):
        return optim.build(net, config(**values))


@needs_native
def test_whose_step_it_is() -> None:
    assert type(optim.build(model(), config())) is optim.FusedAdam
    assert type(optim.build(model().double(), config())) is torch.optim.Adam
    assert type(with_torch(model())) is torch.optim.Adam


@needs_native
@pytest.mark.parametrize("name", optim.OPTIMIZERS)
@pytest.mark.parametrize("torch_first", [True, False])
def test_a_checkpoint_of_one_goes_on_in_the_other(name: str, torch_first: bool) -> None:
    makers = [lambda net: with_torch(net, optimizer=name), lambda net: optim.build(net, config(optimizer=name))]
    first, second = makers if torch_first else reversed(makers)
    straight, moved = model(), model()
    train(straight, first(straight), 6)
    one = first(moved)
    train(moved, one, 3)
    saved = {key: tensor.clone() for key, tensor in optim.state_tensors(one, moved).items()}
    assert {key.split("/")[0] for key in saved} == {"step", "exp_avg", "exp_avg_sq"}
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    other = second(moved)
    optim.load_state_tensors(other, moved, saved)
    train(moved, other, 3)
    assert {float(v) for k, v in optim.state_tensors(other, moved).items() if k.startswith("step/")} == {6.0}
    for a, b in zip(straight.parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make", [lambda net: optim.build(net, config()), with_torch], ids=["picked", "torch"])
@pytest.mark.parametrize(("limit", "factor"), [(0.5, 0.1), (5.0, 1.0), (50.0, 1.0)])
def test_clip_scales_what_the_step_sees(
    make: Callable[[nn.Module], torch.optim.Adam], limit: float, factor: float
) -> None:
    net = model()
    optimizer = make(net)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optim.clip(optimizer, torch.tensor(5.0), limit)
    optimizer.step()
    for state in optimizer.state.values():
        torch.testing.assert_close(state["exp_avg"], torch.full_like(state["exp_avg"], 0.1 * factor))


@needs_native
def test_a_parameter_without_gradient_waits() -> None:
    net = model()
    optimizer = optim.build(net, config())
    train(net, optimizer, 1)
    before = net[0].weight.detach().clone()
    net(torch.arange(7)).sum().backward()
    net[0].weight.grad = None
    optimizer.step()
    assert torch.equal(net[0].weight, before)
    assert [int(optimizer.state[p]["step"]) for p in net.parameters()] == [1, 2, 2, 2, 2]


@needs_native
def test_a_gradient_scaler_steers_the_step() -> None:
    """What GradScaler asks of an optimizer that unscales by itself, and of one after ``unscale_``."""
    nets, scale = [model(), model(), model()], 2.0**9
    for net in nets[:2]:
        optimizer = optim.build(net, config())
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(net(torch.arange(7)).square().sum()).backward()
        if net is nets[1]:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        after = [p.detach().clone() for p in net.parameters()]
        scaler.update()
        optimizer.zero_grad()
        scaler.scale(net(torch.arange(7)).sum()).backward()
        net[1].weight.grad[0, 0] = torch.inf
        scaler.step(optimizer)
        assert all(torch.equal(a, b) for a, b in zip(after, net.parameters(), strict=True))
    train(nets[2], optim.build(nets[2], config()), 1)
    for parameters in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(parameters[0], parameters[1])
        assert torch.equal(parameters[0], parameters[2])


@needs_native
def test_a_closure_is_called_with_gradients_enabled() -> None:
    net = model()
    optimizer = optim.build(net, config())
    before = net[1].weight.detach().clone()

    def closure() -> torch.Tensor:
        loss = net(torch.arange(7)).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad
    assert not torch.equal(net[1].weight, before)
