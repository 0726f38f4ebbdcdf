"""The three lessons of the original record, held for good: each cost days once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fastlm import ops
from fastlm.ops import _backend
from fastlm.testing import Sequences
from fastlm.train import optim
from fastlm.train.config import TrainConfig


def families(op: str) -> Iterator[str]:
    """The backends of an op that run here."""
    for family in ("native", "triton", "reference"):
        if _backend.why_not(op, family, "cpu") is None:
            yield family


# -- cross-entropy wants logits, not probabilities ---------------------------------------------------------------------


def test_cross_entropy_of_softmaxed_inputs_is_visibly_wrong() -> None:
    """A perfect prediction costs nothing as logits; as probabilities it still costs log(e + V - 1) - 1."""
    classes = 500
    targets = torch.arange(8)
    logits = torch.full((8, classes), 0.0)
    logits[torch.arange(8), targets] = 50.0
    for family in families("cross_entropy"):
        right = ops.cross_entropy(logits, targets, backend=family)
        wrong = ops.cross_entropy(torch.softmax(logits, dim=1), targets, backend=family)
        floor = math.log(math.e + classes - 1) - 1
        assert right.item() < 1e-6, family
        assert wrong.item() == pytest.approx(floor, rel=1e-4), family
        assert floor > 0.8 * math.log(classes)  # nearly what a model says that knows nothing


def test_cross_entropy_says_that_it_takes_raw_logits() -> None:
    words = " ".join((ops.cross_entropy.__doc__ or "").split())
    assert "of raw logits" in words and "never softmaxed" in words


# -- large logits and masked rows give no NaN --------------------------------------------------------------------------


def finite(*tensors: Tensor | None) -> bool:
    return all(tensor is not None and bool(torch.isfinite(tensor).all()) for tensor in tensors)


def large(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=generator).sign() * 1e4).requires_grad_()


def test_softmax_of_large_logits_and_masked_rows() -> None:
    mask = torch.ones(6, 40, dtype=torch.bool)
    mask[2] = False
    for family in families("softmax"):
        x = large(6, 40)
        p = ops.softmax(x, mask, backend=family)
        p.square().sum().backward()
        assert finite(p, x.grad), family
        assert not p[2].any() and p.sum(1)[[0, 1, 3, 4, 5]].allclose(torch.ones(5)), family


def test_losses_of_large_logits_and_of_ignored_rows() -> None:
    for family in families("cross_entropy"):
        x = large(6, 40)
        loss = ops.cross_entropy(x, torch.tensor([1, -100, 3, -100, 5, 7]), backend=family)
        loss.backward()
        assert finite(loss, x.grad), family
        empty = ops.cross_entropy(large(6, 40), torch.full((6,), -100), backend=family)
        assert empty.item() == 0.0, family
    for family in families("linear_cross_entropy"):
        hidden, weight = large(6, 16), torch.randn(40, 16).requires_grad_()  # logits of some 1e4
        out = ops.linear_cross_entropy(hidden, weight, torch.tensor([1, -100, 3, -100, 5, 7]), backend=family)
        out.loss.backward()
        assert finite(out.loss, hidden.grad, weight.grad), family
        nothing = ops.linear_cross_entropy(hidden, weight, torch.full((6,), -100), backend=family)
        assert nothing.loss.item() == 0.0, family


def test_attention_with_large_scores_and_with_nothing_to_attend_to() -> None:
    queries, keys = Sequences.of([3, 4, 2]), Sequences.of([5, 0, 2])  # the second has no key: a fully masked row
    for family in families("attention"):
        q, k, v = large(9, 2, 16), large(7, 2, 16), torch.randn(7, 2, 16).requires_grad_()
        out = ops.attention(
            q, k, v, queries.cu_seqlens, keys.cu_seqlens,
            max_seqlen_q=4, max_seqlen_k=5, scale=1e-4, backend=family,
        )  # fmt: skip
        out.square().sum().backward()
        assert finite(out, q.grad, k.grad, v.grad), family
        assert not out[3:7].any(), family


# -- L2 decay in Adam's gradient is no small number --------------------------------------------------------------------

TOKENS = 256  # a row's share of the mean loss, and so its gradient, is a 256th


def loss_after(optimizer: str, decay: float, steps: int = 400) -> float:
    """The loss, without the decay's part, of telling which of as many tokens follows each of ``TOKENS``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(TOKENS, 32), nn.Linear(32, TOKENS))
    config = TrainConfig(optimizer=optimizer, weight_decay=decay, lr=5e-3)
    chosen = optim.build(model, config)
    tokens = torch.arange(TOKENS)
    for _ in range(steps):
        loss = ops.cross_entropy(model(tokens), (tokens * 5 + 3) % TOKENS, backend="reference")
        chosen.zero_grad()
        loss.backward()
        chosen.step()
    return loss.item()


def test_decay_of_a_hundredth_as_l2_stalls_what_a_ten_thousandth_solves() -> None:
    """Adam divides the sum of gradient and decay by its size: once gradients are small, the decay is the step."""
    assert loss_after("adam-l2", 0.0001) < 0.1
    assert loss_after("adam-l2", 0.01) > 0.8 * math.log(TOKENS)  # little better than knowing nothing
    assert loss_after("adamw", 0.01) < 0.1  # the same number, decoupled, is harmless
