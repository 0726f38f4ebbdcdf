from __future__ import annotations

import importlib
import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from fastlm import ops
from fastlm.ops import reference
from fastlm.testing import DTYPES, check_against_fp64
from tests.native.lockstep import last_kernel

IGNORED = -100
NAMES = "loss hidden weight bias"

# (rows, width, classes)
SIZES = {
    "below_a_vector": (3, 5, 2),
    "one_class": (4, 8, 1),
    "odd": (29, 37, 101),
    "several_chunks": (70, 16, 64),
    "weight_gradient_in_parts": (5, 1031, 2101),  # over 4 MiB in 16 bits, in parts that are unequal
}


def problem(size: str, dtype: torch.dtype = torch.float32, ignored: int = 1):
    rows, width, classes = SIZES[size]
    targets = torch.randint(0, classes, (rows,))
    targets[torch.randperm(rows)[:ignored]] = IGNORED
    tensors = torch.randn(rows, width), torch.randn(classes, width) / math.sqrt(width), torch.randn(classes)
    return [x.to(dtype) for x in tensors], targets


@pytest.fixture(params=["one_chunk", "small_chunks"])
def chunking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 rows on the reference, on kernels the fewest that they take (64)."""
    if request.param == "small_chunks":
        monkeypatch.setattr(reference, "ROWS_PER_CHUNK", 16)
        monkeypatch.setattr(importlib.import_module("fastlm.ops.linear_cross_entropy"), "CHUNK_LOGITS", {})


@pytest.fixture
def on_family(family: str) -> Iterator[None]:
    with ops.use_backend(family):
        yield


@pytest.mark.usefixtures("chunking", "on_family")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_within_budget(size: str, dtype: torch.dtype) -> None:
    inputs, targets = problem(size, dtype)
    check_against_fp64(
        lambda h, w, b: ops.linear_cross_entropy(h, w, targets, bias=b).loss,
        lambda h, w, b: F.cross_entropy(F.linear(h, w, b), targets),
        inputs,
        names=NAMES,
    )


# By what holds a row of so many 16-byte vectors on a GPU, without a bias: a warp with one a thread and with four,
# blocks of 128, 512 and 1024 threads with up to eight, and nothing. A bias leaves registers for four.
VECTORS = {
    "warp": (32, "WarpELi1E"),
    "full_warp": (33, "WarpELi4E"),
    "small_block": (129, "BlockILi128EEELi4E"),
    "block": (513, "BlockILi512EEELi4E"),
    "full_block": (2049, "BlockILi512EEELi8E"),
    "large_block": (4097, "BlockILi1024EEELi8E"),
    "read_twice": (8193, "BlockILi1024EEELi0E"),
}


@pytest.mark.usefixtures("on_family")
@pytest.mark.parametrize(("dtype", "with_bias"), [(torch.float32, True), (torch.bfloat16, False)], ids=str)
@pytest.mark.parametrize("size", VECTORS)
def test_vocabularies_of_every_size(size: str, with_bias: bool, dtype: torch.dtype, family: str) -> None:
    vectors, kernel = VECTORS[size]
    classes = vectors * 16 // dtype.itemsize - 3
    inputs = torch.randn(12, 3), torch.randn(classes, 3), *([torch.randn(classes)] if with_bias else [])
    targets = torch.tensor([classes - 1, IGNORED, 0, *range(1, classes, classes // 9)])[:12]
    options = {"reduction": "none", "label_smoothing": 0.1}
    check_against_fp64(
        lambda h, w, b=None: ops.linear_cross_entropy(h, w, targets, bias=b, **options).loss,
        lambda h, w, b=None: F.cross_entropy(F.linear(h, w, b), targets, **options),
        [x.to(dtype) for x in inputs],
        names=NAMES,
    )
    if family == "lockstep" and not with_bias:
        with torch.no_grad():
            ops.linear_cross_entropy(*(x.to(dtype) for x in inputs), targets)
        assert "LogitsChunkKernel" in last_kernel()
        assert kernel in last_kernel()


@pytest.mark.usefixtures("on_family")
def test_the_bias_gradient_of_many_rows() -> None:
    """A GPU sums the columns of 256 rows at a time."""
    hidden, weight, bias = torch.randn(530, 8), torch.randn(19, 8), torch.randn(19, requires_grad=True)
    targets = torch.arange(530) % 19
    (ours,) = torch.autograd.grad(ops.linear_cross_entropy(hidden, weight, targets, bias=bias).loss, bias)
    (expected,) = torch.autograd.grad(F.cross_entropy(F.linear(hidden, weight, bias), targets), bias)
    torch.testing.assert_close(ours, expected)


@pytest.mark.usefixtures("chunking", "on_family")
@pytest.mark.parametrize(("reduction", "label_smoothing"), [("mean", 0.1), ("sum", 0.0), ("none", 0.1)])
def test_options_match_pytorch(reduction: str, label_smoothing: float, mode) -> None:
    inputs, targets = problem("several_chunks", ignored=20)
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    check_against_fp64(
        mode(lambda h, w, b: ops.linear_cross_entropy(h, w, targets, bias=b, **options).loss),
        lambda h, w, b: F.cross_entropy(F.linear(h, w, b), targets, **options),
        inputs,
        names=NAMES,
    )


@pytest.mark.usefixtures("chunking", "on_family")
def test_rows_report_their_loss_and_whether_they_were_right(mode) -> None:
    (hidden, weight, bias), targets = problem("several_chunks", ignored=20)
    logits = F.linear(hidden, weight, bias)
    right = torch.arange(len(targets)) % 3 == 0
    targets = torch.where(right & (targets != IGNORED), logits.argmax(1), targets)
    out = mode(lambda h, w, b: ops.linear_cross_entropy(h, w, targets, bias=b))(hidden.requires_grad_(), weight, bias)
    torch.testing.assert_close(out.row_loss, F.cross_entropy(logits, targets, reduction="none"))
    assert torch.equal(out.row_correct, (logits.argmax(1) == targets) & (targets != IGNORED))
    assert out.row_correct.any()
    assert out.loss.requires_grad
    assert not out.row_loss.requires_grad
    torch.testing.assert_close(out.loss, out.row_loss.sum() / (targets != IGNORED).sum())


INF, NAN = torch.inf, torch.nan
TIES = {  # each value stands many times in a row
    "apart": [3, 1, 3, 0],
    "adjacent": [0, 3, 3, 1],
    "infinity": [-1, 2, 0, INF],
    "nan_first": [NAN, 5, NAN, 1],
    "nan_later": [2, 1, NAN, 5],
    "nan_above_infinity": [INF, NAN, -INF, INF],
    "nothing": [-INF] * 4,
}


@pytest.mark.usefixtures("on_family")
@pytest.mark.parametrize("copies", [17, 1300])
@pytest.mark.parametrize("values", TIES.values(), ids=TIES)
def test_the_first_of_the_largest_logits_is_the_prediction(values: list[float], copies: int) -> None:
    """As torch.argmax has it: targets are the first and last of each value, the predicted one among them."""
    logits = torch.tensor(values, dtype=torch.float32).repeat_interleave(copies)
    first = torch.arange(4) * copies
    targets = torch.stack([first, first + 1, first + copies - 1], 1).flatten()
    for bias in (None, torch.zeros(len(logits))):
        out = ops.linear_cross_entropy(torch.ones(len(targets), 1), logits[:, None], targets, bias=bias)
        assert torch.equal(out.row_correct, targets == logits.argmax())


@pytest.mark.usefixtures("on_family")
def test_ignore_index_that_is_a_class_is_never_right() -> None:
    (hidden, weight, _), _ = problem("odd")
    predictions = F.linear(hidden, weight).argmax(1)
    out = ops.linear_cross_entropy(hidden, weight, predictions, ignore_index=int(predictions[0]))
    assert torch.equal(out.row_correct, predictions != predictions[0])
    assert (out.row_loss[~out.row_correct] == 0).all()


@pytest.mark.usefixtures("on_family")
def test_all_rows_ignored_give_zero_and_zero_gradients(mode) -> None:
    (hidden, weight, bias), targets = problem("odd")
    leaves = [x.requires_grad_() for x in (hidden, weight, bias)]
    nothing = torch.full_like(targets, IGNORED)
    loss = mode(lambda h, w, b: ops.linear_cross_entropy(h, w, nothing, bias=b).loss)(*leaves)
    assert loss == 0
    assert all((g == 0).all() for g in torch.autograd.grad(loss, leaves))


@pytest.mark.usefixtures("on_family")
def test_no_rows(mode) -> None:
    hidden, weight = torch.randn(0, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    targets = torch.zeros(0, dtype=torch.int64)
    out = mode(lambda h, w: ops.linear_cross_entropy(h, w, targets))(hidden, weight)
    out.loss.backward()
    assert out.loss == 0
    assert out.row_loss.shape == out.row_correct.shape == hidden.grad.shape[:1] == (0,)
    assert (weight.grad == 0).all()


@pytest.mark.usefixtures("on_family")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_width_leaves_every_class_as_likely(dtype: torch.dtype) -> None:
    hidden, weight = (torch.zeros(rows, 0, dtype=dtype, requires_grad=True) for rows in (3, 4))
    loss = ops.linear_cross_entropy(hidden, weight, torch.tensor([0, 3, 1])).loss
    torch.testing.assert_close(loss, torch.tensor(math.log(4.0)))
    assert [g.shape for g in torch.autograd.grad(loss, (hidden, weight))] == [(3, 0), (4, 0)]


@pytest.mark.usefixtures("on_family")
def test_ignored_rows_are_not_multiplied() -> None:
    (hidden, weight, _), targets = problem("odd", ignored=10)
    spoilt = torch.where((targets == IGNORED)[:, None], torch.nan, hidden).requires_grad_()
    weight.requires_grad_()
    loss = ops.linear_cross_entropy(spoilt, weight, targets).loss
    loss.backward()
    torch.testing.assert_close(loss.detach(), F.cross_entropy(F.linear(hidden, weight.detach()), targets))
    assert weight.grad.isfinite().all()
    assert (spoilt.grad[targets == IGNORED] == 0).all()


@pytest.mark.usefixtures("chunking", "on_family")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_never_more_than_a_chunk_of_logits_is_kept(reduction: str) -> None:
    (hidden, _, _), targets = problem("several_chunks", ignored=0)
    weight = torch.randn(80, 16, requires_grad=True)  # no other tensor is 80 wide
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x.shape), x)[1], lambda x: x):
        ops.linear_cross_entropy(hidden, weight, targets, reduction=reduction)
    rows = [shape[0] for shape in kept if len(shape) == 2 and shape[1] == 80]
    assert max(rows, default=0) <= reference.ROWS_PER_CHUNK
    if reduction == "mean" or len(targets) > reference.ROWS_PER_CHUNK:
        assert not rows  # the gradient is there already, or each chunk is made again


@pytest.mark.usefixtures("chunking", "on_family")
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_summed_losses_have_the_gradient_of_single_ones(label_smoothing: float, family: str) -> None:
    dtype = torch.float64 if family == "reference" else torch.float32
    inputs, targets = problem("several_chunks", dtype, ignored=9)
    targets[5] = 64  # out of range: the row is NaN in both
    leaves = [x.requires_grad_() for x in inputs]
    options = {"bias": leaves[2], "label_smoothing": label_smoothing}
    summed = ops.linear_cross_entropy(*leaves[:2], targets, reduction="sum", **options)
    rows = ops.linear_cross_entropy(*leaves[:2], targets, reduction="none", **options)
    torch.testing.assert_close(summed.row_loss, rows.row_loss, equal_nan=True)
    assert torch.equal(summed.row_correct, rows.row_correct)
    ours, expected = (torch.autograd.grad(out.loss.sum(), leaves[0])[0] for out in (summed, rows))
    torch.testing.assert_close(ours, expected, equal_nan=True)


@pytest.mark.usefixtures("on_family")
def test_targets_out_of_range() -> None:
    (hidden, weight, _), targets = problem("odd", ignored=0)
    targets[3], targets[7] = 101, -1
    out = ops.linear_cross_entropy(hidden, weight, targets)
    assert out.row_loss.isnan().nonzero()[:, 0].tolist() == [3, 7]
    assert out.loss.isnan()
    ops.set_checks("full")
    try:
        with pytest.raises(IndexError, match=r"targets\[3\] is 101, outside \[0, 101\) .* 2 of 29 targets"):
            ops.linear_cross_entropy(hidden, weight, targets)
    finally:
        ops.set_checks("off")


@pytest.mark.usefixtures("on_family")
def test_autocast_multiplies_in_its_dtype_and_returns_fp32(mode) -> None:
    (hidden, weight, bias), targets = problem("odd")
    weight.requires_grad_()
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        out = mode(lambda h, w, b: ops.linear_cross_entropy(h, w, targets, bias=b))(hidden, weight, bias)
    expected = ops.linear_cross_entropy(hidden.bfloat16(), weight.bfloat16(), targets, bias=bias.bfloat16())
    torch.testing.assert_close(out.loss, expected.loss)
    assert out.loss.dtype == out.row_loss.dtype == torch.float32
    (grad,) = torch.autograd.grad(out.loss, weight)
    assert grad.dtype == torch.float32


@pytest.mark.parametrize("family", ["triton"], indirect=True)
def test_under_autocast_no_sum_over_the_rows_of_a_chunk_is_rounded_to_16_bits(family: str) -> None:
    """A summed loss leaves the gradients as they were made."""
    (hidden, weight, bias), targets = problem("several_chunks")
    leaves = weight.requires_grad_(), bias.requires_grad_()
    with ops.use_backend(family), torch.autocast(torch.get_default_device().type, torch.bfloat16):
        loss = ops.linear_cross_entropy(hidden, weight, targets, bias=bias, reduction="sum").loss
    for grad in torch.autograd.grad(loss, leaves):
        assert not torch.equal(grad, grad.bfloat16().float())


@pytest.mark.usefixtures("on_family")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_frozen_inputs_get_no_gradient_and_no_grad_makes_none(reduction: str, mode) -> None:
    (hidden, weight, bias), targets = problem("odd")
    call = mode(lambda h, w, b: ops.linear_cross_entropy(h, w, targets, bias=b, reduction=reduction).loss.sum())
    hidden.requires_grad_()
    (expected,) = torch.autograd.grad(F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum"), hidden)
    (ours,) = torch.autograd.grad(call(hidden, weight, bias), hidden)
    counted = (targets != IGNORED).sum() if reduction == "mean" else 1
    torch.testing.assert_close(ours * counted, expected)
    assert call(hidden.detach(), weight, bias.requires_grad_()).requires_grad
    with torch.no_grad():
        assert not call(hidden, weight, bias).requires_grad


@pytest.mark.usefixtures("on_family")
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_retained_graph_gives_its_gradients_again(dtype: torch.dtype, autocast: bool) -> None:
    inputs, targets = problem("odd", dtype)
    leaves = [x.requires_grad_() for x in inputs]
    with torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=autocast):
        loss = ops.linear_cross_entropy(leaves[0], leaves[1], targets, bias=leaves[2]).loss
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    expected = [g.clone() for g in first]
    for g in first:
        g.fill_(torch.nan)  # what autograd was handed is whoever's it reached
    again = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))
    scaled = torch.autograd.grad(loss, leaves, grad_outputs=torch.full_like(loss, -4.0))
    torch.testing.assert_close(scaled, tuple(-4 * g for g in expected))
    assert [g.dtype for g in again] == [dtype] * 3


@pytest.mark.usefixtures("on_family")
def test_mixed_dtypes_are_for_autocast_alone() -> None:
    (hidden, weight, _), targets = problem("odd")
    with pytest.raises(TypeError, match=r"weight: dtype torch.float32 differs from hidden's torch.bfloat16"):
        ops.linear_cross_entropy(hidden.bfloat16(), weight, targets)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        assert ops.linear_cross_entropy(hidden.bfloat16(), weight, targets).loss.isfinite()


@pytest.mark.usefixtures("chunking")
def test_gradcheck_of_the_reference() -> None:
    inputs, targets = problem("several_chunks", torch.float64)
    leaves = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(
        lambda h, w, b: ops.linear_cross_entropy(h, w, targets, bias=b).loss, leaves, fast_mode=True
    )


@pytest.mark.usefixtures("chunking", "on_family")
def test_same_bits_every_time() -> None:
    inputs, targets = problem("several_chunks", ignored=9)

    def run() -> tuple[torch.Tensor, ...]:
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = ops.linear_cross_entropy(leaves[0], leaves[1], targets, bias=leaves[2])
        return out.loss.detach(), out.row_correct, *torch.autograd.grad(out.loss, leaves)

    first = run()
    for _ in range(10):
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


@pytest.mark.usefixtures("on_family")
def test_strided_inputs_give_the_bits_of_contiguous_ones() -> None:
    (hidden, weight, _), targets = problem("odd")
    strided = torch.cat([hidden, hidden], 1)[:, : hidden.shape[1]], weight.T.contiguous().T
    ours, expected = (ops.linear_cross_entropy(h, w, targets).row_loss for h, w in (strided, (hidden, weight)))
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


H, W, T = torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(2).long()
REFUSALS = {
    "rank": (H[None], W, T, {}, ValueError, r"hidden: shape \(1, 2, 3\) is not \(N, d\); flatten it"),
    "width": (H, W[:, :2], T, {}, ValueError, r"weight: shape \(5, 2\) must be \(V, 3\)"),
    "no_classes": (H, W[:0], T, {}, ValueError, r"weight: shape \(0, 3\) must be \(V, 3\) with V > 0"),
    "bias": (H, W, T, {"bias": torch.zeros(4)}, ValueError, r"bias: shape \(4,\) must be \(5,\)"),
    "integers": (H.int(), W, T, {}, TypeError, "hidden: dtype torch.int32"),
    "targets": (H, W, T.float(), {}, TypeError, "targets: dtype torch.float32"),
    "device": (H, W.to("meta"), T, {}, ValueError, "weight: on meta, but hidden is on cpu"),
}


@pytest.mark.cpu_only("Python refuses before any device is asked")
@pytest.mark.parametrize(
    ("hidden", "weight", "targets", "options", "error", "message"), REFUSALS.values(), ids=REFUSALS
)
def test_refusals_name_the_tensor(hidden, weight, targets, options, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.linear_cross_entropy(hidden, weight, targets, **options)
