"""The error budget itself: what it lets pass and what it must not."""

from __future__ import annotations

import math

import pytest
import torch

from fastlm.testing import LENGTHS, Sequences, assert_within_budget, check_against_fp64, noncontiguous_views

pytestmark = pytest.mark.cpu_only("the budget is computed there")

EXACT = torch.tensor([1.0, -3.0, 2.0], dtype=torch.float64)
EPS = torch.finfo(torch.float32).eps


def test_a_rounding_step_of_the_largest_value_is_allowed_twice() -> None:
    peer = EXACT.float()
    assert_within_budget((EXACT + 5 * EPS).float(), peer, EXACT)  # the budget is 2 * 3 eps
    with pytest.raises(AssertionError, match=r"thing: off by .* at \(0,\)"):
        assert_within_budget(EXACT.float() + torch.tensor([8 * EPS, 0, 0]), peer, EXACT, "thing")


def test_twice_the_error_of_the_peer_is_allowed() -> None:
    peer = (EXACT + 0.01).float()
    assert_within_budget((EXACT - 0.019).float(), peer, EXACT)
    with pytest.raises(AssertionError, match=r"PyTorch's own error 1.000e-02"):
        assert_within_budget((EXACT - 0.021).float(), peer, EXACT)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 0.0])
def test_the_class_of_result_must_agree(wrong: float) -> None:
    exact = torch.tensor([1.0, -math.inf], dtype=torch.float64)
    assert_within_budget(exact.float(), exact.float(), exact)
    with pytest.raises(AssertionError, match="class of result"):
        assert_within_budget(torch.tensor([1.0, wrong]), exact.float(), exact)
    with pytest.raises(AssertionError, match=r"NaN at \(0,\)"):
        assert_within_budget(torch.tensor([math.nan, -math.inf]), exact.float(), exact)


def test_a_wrong_gradient_is_found_by_name() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            return x * w

        @staticmethod
        def backward(ctx, grad):
            return grad, grad

    inputs = [torch.ones(3), torch.full((3,), 2.0)]
    with pytest.raises(AssertionError, match="gradient of x"):
        check_against_fp64(Wrong.apply, lambda x, w: x * w, inputs, names="product x w")


def test_layouts_hold_the_same_values_in_other_strides() -> None:
    x = torch.randn(3, 4, 5)
    views = noncontiguous_views(x)
    assert all(torch.equal(view, x) for view in views.values())
    assert len({(view.stride(), view.storage_offset()) for view in views.values()} | {(x.stride(), 0)}) == 5


@pytest.mark.parametrize("regime", LENGTHS)
def test_sequences_cover_their_rows(regime: str) -> None:
    sequences = Sequences.of(LENGTHS[regime])
    assert [s.stop - s.start for s in sequences.slices()] == LENGTHS[regime]
    assert sequences.rows == sum(LENGTHS[regime])
    assert sequences.max_seqlen == max(LENGTHS[regime])
