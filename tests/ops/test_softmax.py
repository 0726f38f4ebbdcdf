from __future__ import annotations

import math

import pytest
import torch
from fastlm.kernels import interpreted

from fastlm import ops
from fastlm.testing import DTYPES, ROWS, check_against_fp64, noncontiguous_views


def peer(x: torch.Tensor, mask: torch.Tensor | None, scale: float) -> torch.Tensor:
    scores = x * scale
    if mask is None:
        return torch.softmax(scores, -1)
    p = torch.softmax(scores.masked_fill(~mask, -math.inf), -1)
    return torch.where(mask.any(-1, keepdim=True), p, torch.zeros_like(p))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("regime", ROWS)
def test_within_budget(regime: str, dtype: torch.dtype, family: str) -> None:
    x = (torch.randn(ROWS[regime]) * 3).to(dtype)
    check_against_fp64(
        lambda x: ops.softmax(x, scale=0.7, backend=family), lambda x: peer(x, None, 0.7), [x], names="softmax x"
    )


MASKS = {
    "full": (3, 4, 37),
    "per_key": (37,),
    "per_batch_and_key": (3, 1, 37),
    "per_row": (3, 4, 1),
    "one": (),
}


@pytest.mark.parametrize("shape", MASKS.values(), ids=MASKS)
def test_mask_broadcasts(shape: tuple[int, ...], family: str, mode) -> None:
    x, mask = torch.randn(3, 4, 37), torch.rand(shape) > 0.4
    function = mode(lambda x: ops.softmax(x, mask, scale=1.3, backend=family))
    check_against_fp64(function, lambda x: peer(x, mask, 1.3), [x], names="softmax x")


MASK_LAYOUTS = {
    "one_stride": ((3, 4, 9), lambda draw: draw(3, 4, 18)[..., :9]),
    "two_strides": ((4, 3, 9), lambda draw: draw(3, 4, 9).transpose(0, 1)),
    "three_strides": ((2, 3, 4, 9), lambda draw: draw(2, 1, 4, 9)),
    "five_strides": ((2, 3, 2, 3, 2, 9), lambda draw: draw(2, 1, 2, 1, 2, 9)),
    "columns_apart": ((3, 4, 9), lambda draw: draw(9, 4, 3).transpose(0, 2)),
}


@pytest.mark.parametrize(("shape", "make"), MASK_LAYOUTS.values(), ids=MASK_LAYOUTS)
def test_mask_layouts_give_the_bits_of_the_full_mask(shape: tuple[int, ...], make, family: str) -> None:
    x, mask = torch.randn(shape), make(lambda *sizes: torch.rand(sizes) > 0.4)
    full = mask.expand(shape).contiguous()
    assert torch.equal(ops.softmax(x, mask, backend=family), ops.softmax(x, full, backend=family))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_rows_that_no_block_holds(masked: bool, dtype: torch.dtype, family: str) -> None:
    x, mask = (torch.randn(2, 37_001) * 3).to(dtype), torch.rand(2, 37_001) > 0.2 if masked else None
    check_against_fp64(
        lambda x: ops.softmax(x, mask, scale=0.7, backend=family), lambda x: peer(x, mask, 0.7), [x], names="softmax x"
    )


@pytest.mark.parametrize("columns", [9, 37_001])
def test_rows_that_the_mask_empties_are_zero_with_zero_gradients(columns: int, family: str) -> None:
    x = torch.randn(4, columns, requires_grad=True)
    mask = torch.ones(4, columns, dtype=torch.bool)
    mask[1] = False
    y = ops.softmax(x, mask, backend=family)
    y.pow(2).sum().backward()
    assert (y[1] == 0).all()
    assert (x.grad[1] == 0).all()
    torch.testing.assert_close(y.sum(-1), torch.tensor([1.0, 0.0, 1.0, 1.0]))


def test_masked_values_are_never_seen(family: str) -> None:
    x = torch.randn(2, 9)
    mask = torch.arange(9) < 6
    expected = ops.softmax(x[:, :6], backend=family)
    for hidden in (math.nan, math.inf, -math.inf, 1e30):
        spoilt = x.masked_fill(~mask, hidden).requires_grad_()
        y = ops.softmax(spoilt, mask, backend=family)
        torch.testing.assert_close(y[:, :6], expected)
        assert (y[:, 6:] == 0).all()
        y.pow(2).sum().backward()
        assert spoilt.grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_adding_a_constant_changes_nothing(dtype: torch.dtype, family: str) -> None:
    x = torch.randint(-8, 8, (5, 40)).to(dtype)  # integers, so that +100 is exact in every dtype
    assert torch.equal(ops.softmax(x + 100, backend=family), ops.softmax(x, backend=family))


EXTREMES = {
    "huge": [1e30, -1e30, 1e30, 0.0, 5.0],
    "minus_infinity": [-math.inf, 1.0, 2.0, -math.inf, 0.0],
    "all_minus_infinity": [-math.inf] * 5,
    "infinity": [math.inf, 1.0, 2.0, 3.0, 4.0],
    "nan": [0.0, math.nan, 2.0, 3.0, 4.0],
    "ten_thousand": [1e4, 1e4 - 1, -1e4, 0.0, 9_999.5],
}


@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_extremes_give_what_fp64_gives(values: list[float], family: str) -> None:
    x = torch.tensor([values, [0.0, 1.0, 2.0, 3.0, 4.0]])
    y = ops.softmax(x, backend=family)
    torch.testing.assert_close(y.double(), torch.softmax(x.double(), -1), equal_nan=True, rtol=1e-6, atol=1e-7)
    assert y[1].isfinite().all()  # the neighbour is untouched


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
def test_long_rows_of_one_sign(sign: int, dtype: torch.dtype, family: str) -> None:
    x = sign * torch.arange(1.0, 401.0).roll(150).expand(2, -1).to(dtype)  # exp overflows unless the maximum is right
    check_against_fp64(lambda x: ops.softmax(x, backend=family), lambda x: peer(x, None, 1.0), [x], names="softmax x")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("place", [0, 70, 399])
def test_extremes_in_long_rows(place: int, value: float, dtype: torch.dtype, family: str) -> None:
    x = torch.randn(3, 400).to(dtype)
    x[1, place] = value
    y = ops.softmax(x, backend=family)
    exact = torch.softmax(x.double(), -1)
    assert torch.equal(y.isnan(), exact.isnan())
    assert torch.equal(y == 0, exact == 0)


@pytest.mark.parametrize("layout", ["last_dim_strided", "transposed", "row_padded", "unaligned"])
def test_layouts_give_the_bits_of_the_contiguous_copy(layout: str, family: str) -> None:
    x = torch.randn(6, 5, 33)
    view = noncontiguous_views(x)[layout]
    assert torch.equal(view, x)
    assert torch.equal(ops.softmax(view, backend=family), ops.softmax(x, backend=family))


def test_expanded_input_and_gradient(family: str) -> None:
    x = torch.randn(1, 17).expand(5, 17).requires_grad_()
    y = ops.softmax(x, backend=family)
    y.sum().backward()  # an expanded gradient: its last stride is 0
    assert torch.equal(y, ops.softmax(x.detach().contiguous(), backend=family))
    assert x.grad.abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0,), (2, 0, 4)])
def test_empty_inputs_give_empties(shape: tuple[int, ...], family: str) -> None:
    x = torch.randn(shape, requires_grad=True)
    y = ops.softmax(x, backend=family)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape


def test_same_bits_every_time(family: str) -> None:
    rows = 8 if family == "triton" and interpreted() else 64  # a millisecond a program
    x, g = torch.randn(rows, 1000), torch.randn(rows, 1000)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        leaf = x.clone().requires_grad_()
        y = ops.softmax(leaf, backend=family)
        y.backward(g)
        return y.detach(), leaf.grad

    first = run()
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


@pytest.mark.cpu_only("threads are a CPU's")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_bits_for_any_number_of_threads(dtype: torch.dtype) -> None:
    # Each thread writes its rows beside the arithmetic of the next; outputs of 8 MiB are written around the caches.
    x = (torch.randn(160, 30_000) * 3).to(dtype)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(ops.softmax(x, backend="native"))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


def test_gradcheck_of_the_reference() -> None:
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(3, 7) > 0.3
    assert torch.autograd.gradcheck(lambda x: ops.softmax(x, mask, scale=0.5, backend="reference"), x)


def test_autocast_keeps_the_dtype(family: str) -> None:
    x = torch.randn(4, 9)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        y = ops.softmax(x, backend=family)
    assert torch.equal(y, ops.softmax(x, backend=family))


def test_meta_tensors_give_shapes() -> None:
    y = ops.softmax(torch.empty(3, 4, device="meta", dtype=torch.bfloat16))
    assert (y.shape, y.dtype, y.device.type) == ((3, 4), torch.bfloat16, "meta")


REFUSALS = {
    "integers": (lambda: ops.softmax(torch.arange(4)), TypeError, r"x: dtype torch.int64 .* float32"),
    "sparse": (lambda: ops.softmax(torch.eye(3).to_sparse()), TypeError, r"x: layout torch.sparse_coo .*to_dense"),
    "scalar": (lambda: ops.softmax(torch.tensor(1.0)), ValueError, r"x: a 0-dimensional tensor"),
    "float_mask": (
        lambda: ops.softmax(torch.ones(2), torch.ones(2)),
        TypeError,
        r"mask: dtype torch.float32 .*boolean",
    ),
    "mask_shape": (
        lambda: ops.softmax(torch.ones(2, 3), torch.ones(2, 2, dtype=torch.bool)),
        ValueError,
        r"mask: shape \(2, 2\) does not broadcast to x's \(2, 3\)",
    ),
    "mask_rank": (
        lambda: ops.softmax(torch.ones(3), torch.ones(2, 3, dtype=torch.bool)),
        ValueError,
        r"mask: shape \(2, 3\) does not broadcast",
    ),
    "mask_device": (
        lambda: ops.softmax(torch.ones(3), torch.ones(3, dtype=torch.bool, device="meta")),
        ValueError,
        r"mask: on meta, but x is on cpu",
    ),
}


@pytest.mark.cpu_only("Python refuses before any device is asked")
@pytest.mark.parametrize(("call", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_name_the_tensor(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
