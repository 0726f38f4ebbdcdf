"""Feed-forward layer and output heads."""

from __future__ import annotations

import math

import pytest
import torch

from fastlm.nn.head import TiedHead, TransformHead, build_head
from fastlm.nn.mlp import MLP


@pytest.mark.parametrize(
    ("activation", "at_minus_one", "at_two"),
    [
        ("relu", 0.0, 2.0),
        ("gelu", -0.5 * (1 - math.erf(0.5**0.5)), 1 + math.erf(2**0.5)),
        ("swish", -1 / (1 + math.e), 2 / (1 + math.exp(-2))),
    ],
)
def test_activations(activation: str, at_minus_one: float, at_two: float) -> None:
    mlp = MLP(2, 2, activation=activation)
    with torch.no_grad():
        for linear in (mlp.up, mlp.down):
            linear.weight.copy_(torch.eye(2))
            linear.bias.zero_()
    assert mlp(torch.tensor([[-1.0, 2.0]])).tolist()[0] == pytest.approx([at_minus_one, at_two], abs=1e-6)


def test_tied_head_does_nothing() -> None:
    head, x = build_head("tied", 8, 30), torch.randn(3, 8)
    assert isinstance(head, TiedHead) and head(x) is x and head.bias is None and not list(head.parameters())


def test_transform_head_is_dense_gelu_norm_and_a_bias() -> None:
    head, x = build_head("transform", 8, 30), torch.randn(3, 8)
    assert isinstance(head, TransformHead) and head.bias.shape == (30,)
    dense = x @ head.dense.weight.T + head.dense.bias
    activated = dense * 0.5 * (1 + torch.erf(dense / 2**0.5))
    torch.testing.assert_close(head(x), torch.nn.functional.layer_norm(activated, (8,)))
