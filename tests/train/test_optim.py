"""The two meanings of weight decay, and optimizer state as named tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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
