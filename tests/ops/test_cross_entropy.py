from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from fastlm.kernels import interpreted

from fastlm import ops
from fastlm.testing import DTYPES, ROWS, check_against_fp64, noncontiguous_views

IGNORED = -100


def some_targets(rows: int, classes: int, ignored: int = 1) -> torch.Tensor:
    targets = torch.randint(0, classes, (rows,))
    targets[:ignored] = IGNORED
    return targets


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("regime", ROWS)
def test_within_budget(regime: str, dtype: torch.dtype, family: str) -> None:
    rows, classes = ROWS[regime]
    logits, targets = (torch.randn(rows, classes) * 4).to(dtype), some_targets(rows, classes)
    check_against_fp64(
        lambda x: ops.cross_entropy(x, targets, reduction="none", backend=family),
        lambda x: F.cross_entropy(x, targets, reduction="none"),
        [logits],
        names="loss logits",
    )


@pytest.mark.parametrize(("reduction", "label_smoothing"), [("mean", 0.1), ("sum", 1.0), ("none", 0.0)])
def test_options_match_pytorch(reduction: str, label_smoothing: float, family: str, mode) -> None:
    logits, targets = torch.randn(11, 53), some_targets(11, 53, ignored=3)
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    check_against_fp64(
        mode(lambda x: ops.cross_entropy(x, targets, backend=family, **options)),
        lambda x: F.cross_entropy(x, targets, **options),
        [logits],
        names="loss logits",
    )


def test_int32_targets_and_another_ignore_index(family: str) -> None:
    logits, targets = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    ours = ops.cross_entropy(logits, targets.int(), ignore_index=0, backend=family)
    torch.testing.assert_close(ours, F.cross_entropy(logits, targets, ignore_index=0))


def test_all_rows_ignored_give_zero_and_zero_gradients(family: str) -> None:
    for reduction in ("mean", "sum", "none"):
        logits = torch.randn(4, 7, requires_grad=True)
        loss = ops.cross_entropy(logits, torch.full((4,), IGNORED), reduction=reduction, backend=family)
        loss.sum().backward()
        assert (loss == 0).all()
        assert (logits.grad == 0).all()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_ignored_rows_are_not_read(label_smoothing: float, family: str) -> None:
    logits, targets = torch.randn(5, 9), some_targets(5, 9, ignored=2)
    spoilt = logits.clone()
    spoilt[:2] = math.nan
    spoilt.requires_grad_()
    loss = ops.cross_entropy(spoilt, targets, label_smoothing=label_smoothing, backend=family)
    loss.backward()
    expected = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    torch.testing.assert_close(loss.detach(), expected)
    assert (spoilt.grad[:2] == 0).all()
    assert spoilt.grad.isfinite().all()


@pytest.mark.parametrize("wrong", [-1, 7, -(2**40)])
def test_a_target_out_of_range_poisons_its_row_alone(wrong: int, family: str, mode) -> None:
    logits, targets = torch.randn(4, 7, requires_grad=True), torch.tensor([1, wrong, IGNORED, 6])
    loss = mode(lambda x: ops.cross_entropy(x, targets, reduction="none", backend=family))(logits)
    loss.nansum().backward()
    assert loss.isnan().tolist() == [False, True, False, False]
    assert ops.cross_entropy(logits, targets, backend=family).isnan()
    other_rows = logits.grad[[0, 2, 3]]
    assert other_rows.isfinite().all()


def test_full_checks_name_the_row_and_the_value(family: str) -> None:
    logits, targets = torch.randn(4, 7), torch.tensor([1, 6, 7, IGNORED])
    ops.set_checks("full")
    try:
        with pytest.raises(IndexError, match=r"targets\[2\] is 7, outside \[0, 7\) and not ignore_index \(-100\)"):
            ops.cross_entropy(logits, targets, backend=family)
        ops.cross_entropy(logits, targets.clamp(max=6), backend=family)
    finally:
        ops.set_checks("off")
    with pytest.raises(ValueError, match="'most' is no level"):
        ops.set_checks("most")


EXTREMES = {
    "huge": [1e30, -1e30, 0.0, 5.0],
    "ten_thousand": [1e4, -1e4, 0.0, 9_999.0],
    "minus_infinity_elsewhere": [2.0, -math.inf, 0.0, -math.inf],
    "minus_infinity_at_target": [-math.inf, 1.0, 0.0, 2.0],
    "all_minus_infinity": [-math.inf] * 4,
    "infinity": [1.0, math.inf, 0.0, 2.0],
    "nan": [1.0, math.nan, 0.0, 2.0],
}


@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_extremes_give_what_fp64_gives(values: list[float], family: str) -> None:
    rows = torch.tensor([values, [0.0, 1.0, 2.0, 3.0]])
    targets = torch.tensor([0, 0])
    logits, exact_logits = rows.clone().requires_grad_(), rows.double().requires_grad_()
    loss = ops.cross_entropy(logits, targets, reduction="none", backend=family)
    exact = F.cross_entropy(exact_logits, targets, reduction="none")
    torch.testing.assert_close(loss.double(), exact, equal_nan=True, rtol=1e-6, atol=1e-6)
    loss.sum().backward()
    exact.sum().backward()
    torch.testing.assert_close(logits.grad[1].double(), exact_logits.grad[1], rtol=1e-5, atol=1e-6)
    if exact.isfinite().all():
        torch.testing.assert_close(logits.grad.double(), exact_logits.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("place", [0, 70, 399])
def test_extremes_in_long_rows(place: int, value: float, dtype: torch.dtype, family: str) -> None:
    logits = torch.randn(3, 400).to(dtype)
    logits[1, place] = value
    targets = torch.tensor([1, 2, 3])
    loss = ops.cross_entropy(logits, targets, reduction="none", backend=family)
    exact = F.cross_entropy(logits.double(), targets, reduction="none")
    torch.testing.assert_close(loss.double(), exact, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
def test_long_rows_of_one_sign(sign: int, dtype: torch.dtype, family: str) -> None:
    # The exponential overflows unless the maximum is right; of each row the loss is nearly 0.
    logits = sign * torch.arange(1.0, 401.0).roll(150).expand(2, -1).to(dtype)
    targets = logits.float().argmax(-1)
    check_against_fp64(
        lambda x: ops.cross_entropy(x, targets, reduction="none", backend=family),
        lambda x: F.cross_entropy(x, targets, reduction="none"),
        [logits],
        names="loss logits",
    )


@pytest.mark.parametrize("layout", ["last_dim_strided", "transposed", "row_padded", "unaligned"])
def test_layouts_give_the_bits_of_the_contiguous_copy(layout: str, family: str) -> None:
    logits, targets = torch.randn(6, 33), some_targets(6, 33)
    view = noncontiguous_views(logits)[layout].detach().requires_grad_()
    dense = logits.clone().requires_grad_()
    ours, expected = (ops.cross_entropy(x, targets, backend=family) for x in (view, dense))
    ours.backward()
    expected.backward()
    assert torch.equal(ours, expected)
    assert torch.equal(view.grad, dense.grad)


def test_expanded_logits_and_strided_targets(family: str) -> None:
    row = torch.randn(1, 8)
    targets = torch.tensor([1, 9, 2, 9, 3, 9])[::2]
    ours = ops.cross_entropy(row.expand(3, 8), targets, backend=family)
    torch.testing.assert_close(ours, F.cross_entropy(row.expand(3, 8).contiguous(), targets.contiguous()))


def test_no_rows(family: str) -> None:
    logits = torch.randn(0, 5, requires_grad=True)
    loss = ops.cross_entropy(logits, torch.zeros(0, dtype=torch.int64), backend=family)
    loss.backward()
    assert loss == 0
    assert logits.grad.shape == (0, 5)


def test_the_loss_of_low_precision_logits_is_fp32(family: str) -> None:
    logits, targets = torch.randn(3, 9).bfloat16(), torch.tensor([1, 2, 3])
    assert ops.cross_entropy(logits, targets, backend=family).dtype == torch.float32
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        inside = ops.cross_entropy(logits.float(), targets, backend=family)
    assert torch.equal(inside, ops.cross_entropy(logits.float(), targets, backend=family))


def test_same_bits_every_time(family: str) -> None:
    rows = 8 if family == "triton" and interpreted() else 64  # a millisecond a program
    logits, targets = torch.randn(rows, 1000), some_targets(rows, 1000, ignored=rows // 7)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        leaf = logits.clone().requires_grad_()
        loss = ops.cross_entropy(leaf, targets, label_smoothing=0.1, backend=family)
        loss.backward()
        return loss.detach(), leaf.grad

    first = run()
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_gradcheck_of_the_reference(label_smoothing: float) -> None:
    logits = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    targets = some_targets(5, 6)
    options = {"label_smoothing": label_smoothing, "backend": "reference"}
    assert torch.autograd.gradcheck(lambda x: ops.cross_entropy(x, targets, **options), logits)


LOGITS = torch.zeros(2, 5)
REFUSALS = {
    "integer_logits": (LOGITS.int(), torch.zeros(2).long(), {}, TypeError, r"logits: dtype torch.int32"),
    "no_classes": (torch.zeros(2, 0), torch.zeros(2).long(), {}, ValueError, r"logits: shape \(2, 0\) .* V > 0"),
    "three_dims": (torch.zeros(1, 2, 5), torch.zeros(1, 2).long(), {}, ValueError, r"logits: .*flatten"),
    "float_targets": (LOGITS, torch.zeros(2), {}, TypeError, r"targets: dtype torch.float32 .*int64"),
    "target_count": (LOGITS, torch.zeros(3).long(), {}, ValueError, r"targets: shape \(3,\).* needs \(2,\)"),
    "target_device": (LOGITS, torch.zeros(2, device="meta").long(), {}, ValueError, r"targets: on meta, but logits"),
    "reduction": (LOGITS, torch.zeros(2).long(), {"reduction": "avg"}, ValueError, r"reduction: 'avg' .*mean"),
    "smoothing": (LOGITS, torch.zeros(2).long(), {"label_smoothing": 1.5}, ValueError, r"label_smoothing: 1.5"),
}


@pytest.mark.cpu_only("Python refuses before any device is asked")
@pytest.mark.parametrize(("logits", "targets", "options", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_name_the_tensor(logits, targets, options, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.cross_entropy(logits, targets, **options)
