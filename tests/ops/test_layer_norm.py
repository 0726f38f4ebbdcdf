from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fastlm.kernels import interpreted
from torch import Tensor

from fastlm import ops
from fastlm.ops import _backend
from fastlm.ops.philox import hidden_mask, keep_scale
from fastlm.testing import DTYPES, as_leaf, assert_within_budget, check_against_fp64, noncontiguous_views, normal

P, SEED = 0.2, 2**40 + 17

# (rows, columns): a block of dropout is 64 columns, one of weight gradients 64 rows.
SHAPES = {
    "two_columns": (150, 2),
    "below_a_vector": (3, 7),
    "one_dropout_block": (4, 64),
    "dropout_block_plus_one": (7, 65),
    "odd": (65, 101),
    "several_row_blocks": (200, 48),
    # What a warp, and blocks of 64, 128 and 256 threads hold on a GPU, and what none does.
    "a_warp's": (33, 512),
    "of_64_threads": (3, 600),
    "of_128_threads": (3, 1100),
    "of_256_threads": (3, 2052),
    "held_by_none": (2, 8500),
}


def make(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """branch, residual (away from zero), weight, bias."""
    generator = torch.Generator().manual_seed(shape[-1])
    sizes = (shape, shape, shape[-1:], shape[-1:])
    branch, residual, weight, bias = (normal(size, generator) for size in sizes)
    return [x.to(dtype) for x in (branch, 2 * residual + 1, weight + 1, bias)]


def keep(x: Tensor) -> Tensor:
    """What dropout multiplies the rows of x by."""
    rows = x.flatten(0, -2)
    return (hidden_mask(*rows.shape, P, SEED, x.device) * keep_scale(P)).view(x.shape).to(x.dtype)


def peer(branch: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    x = residual + branch * keep(branch)
    return F.layer_norm(x, x.shape[-1:], weight, bias), x


def joined(function):
    """Both results as one, so that the gradients of both meet."""
    return lambda *tensors: torch.cat(tuple(function(*tensors)), dim=-1)


def ours(family: str, p: float = P, **options: object):
    return lambda b, r, w, c: ops.dropout_add_layer_norm(
        b, r, w, c, dropout_p=p, dropout_seed=SEED, backend=family, **options
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_sum_and_norm_within_budget(shape: tuple[int, int], dtype: torch.dtype, family: str) -> None:
    check_against_fp64(joined(ours(family)), joined(peer), make(shape, dtype), names="y,x branch residual weight bias")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_norm_alone_within_budget(shape: tuple[int, int], dtype: torch.dtype, family: str) -> None:
    check_against_fp64(
        lambda x, w, b: ops.layer_norm(x, w, b, dropout_p=P, dropout_seed=SEED, backend=family),
        lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b) * keep(x),
        make(shape, dtype)[1:],
        names="y x weight bias",
    )


def autocast_like(function, *tensors: Tensor) -> list[Tensor]:
    """y, x and the gradients of branch (bf16), residual, weight and bias."""
    leaves = [as_leaf(x) for x in tensors]
    y, x = function(*leaves)
    generator = torch.Generator().manual_seed(3)
    grads = [normal(y.shape, generator).bfloat16().to(out.dtype) for out in (y, x)]
    return [y.detach(), x.detach(), *torch.autograd.grad([y, x], leaves, grads)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_autocast_sums_in_fp32_and_gives_what_products_take(shape: tuple[int, int], family: str, mode) -> None:
    branch, *others = make(shape)
    tensors = [branch.bfloat16(), *others]

    def torch_way(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        y, x = peer(leaves[0].float(), *leaves[1:])
        return y.bfloat16(), x

    function = mode(ours(family))
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        results = autocast_like(function, *tensors)
    assert [x.dtype for x in results[:3]] == [torch.bfloat16, torch.float32, torch.bfloat16]
    exact = autocast_like(peer, *(x.double() for x in tensors))
    peers = autocast_like(torch_way, *tensors)
    names = ("y", "x", "branch", "residual", "weight", "bias")
    for name, *three in zip(names, results, peers, exact, strict=True):
        assert_within_budget(*three, name)


@pytest.mark.parametrize("branch_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_branch_beside_an_fp32_residual(branch_dtype: torch.dtype, dtype: torch.dtype, family: str) -> None:
    branch, *others = make((9, 40))
    tensors = [branch.to(branch_dtype), *others]
    y, x = ours(family, dtype=dtype)(*tensors)
    want_y, want_x = peer(*(t.double() for t in tensors))
    assert (y.dtype, x.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(x.double(), want_x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y.double(), want_y, rtol=torch.finfo(dtype).eps, atol=2e-6)


@pytest.mark.parametrize("used", [0, 1], ids=["y", "x"])
def test_either_result_may_go_unused(used: int, family: str, mode) -> None:
    branch, residual, weight, bias = make((70, 33))
    check_against_fp64(
        mode(lambda b, r: ours(family)(b, r, weight, bias)[used]),
        lambda b, r: peer(b, r, weight.to(r.dtype), bias.to(r.dtype))[used],
        [branch, residual],
        names="result branch residual",
    )


def test_families_drop_the_same(family: str) -> None:
    rows = 12 if family == "triton" and interpreted() else 130  # a millisecond a program
    ones, zeros = torch.ones(rows, 200), torch.zeros(rows, 200)
    weight, bias = torch.ones(200), torch.zeros(200)
    for p in (0.1, 0.5, 1e-12, 0.999, 1.0):
        for seed in (0, -1, 2**63 - 1, 77):
            options = {"dropout_p": p, "dropout_seed": seed, "backend": family}
            kept = hidden_mask(rows, 200, p, seed, ones.device)
            _, x = ops.dropout_add_layer_norm(ones, zeros, weight, bias, **options)
            torch.testing.assert_close(x, kept * torch.tensor(keep_scale(p)), rtol=1e-6, atol=0)
            y = ops.layer_norm(zeros, weight, bias + 1, **options)
            assert torch.equal(y != 0, kept)


def test_backward_drops_what_the_forward_dropped(family: str) -> None:
    tensors = [as_leaf(x) for x in make((130, 200))]
    x = ours(family)(*tensors).residual
    (grad,) = torch.autograd.grad(x.sum(), tensors[0])
    torch.testing.assert_close(grad, keep(tensors[0]))


@pytest.mark.parametrize("layout", ["last_dim_strided", "transposed", "row_padded", "unaligned"])
def test_layouts_give_the_bits_of_the_contiguous_copy(layout: str, family: str) -> None:
    branch, residual, weight, bias = make((6, 5, 33))
    views = [noncontiguous_views(x)[layout] for x in (branch, residual)]
    leaves = [as_leaf(x) for x in (branch, residual)], [as_leaf(x) for x in views]
    results = []
    for pair in leaves:
        y, x = ours(family)(*pair, weight, bias)
        grad = noncontiguous_views(torch.linspace(-1, 1, y.numel()).view(y.shape))[layout]
        results.append([y, x, *torch.autograd.grad([y, x], pair, [grad, grad.cos()])])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("columns", [300, 8200])
def test_a_row_far_from_zero_keeps_its_digits(columns: int, family: str) -> None:
    branch, residual, weight, bias = make((4, columns))
    check_against_fp64(
        joined(ours(family, p=0.0)),
        joined(lambda b, r, w, c: (F.layer_norm(r + b, (columns,), w, c), r + b)),
        [branch, residual + 1e4, weight, bias],
        names="y,x branch residual weight bias",
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", [101, 8200], ids=["held", "held_by_none"])
def test_what_is_normalised_is_the_sum_as_it_is_returned(columns: int, dtype: torch.dtype, family: str) -> None:
    branch, residual, weight, bias = make((5, columns), dtype)
    y, x = ours(family)(branch, residual, weight, bias)
    assert torch.equal(y, ops.layer_norm(x, weight, bias, backend=family))


def test_one_tensor_as_branch_and_residual(family: str, mode) -> None:
    x, _, weight, bias = make((6, 32))
    check_against_fp64(
        mode(lambda x: ours(family, p=0.0)(x, x, weight, bias).y),
        lambda x: F.layer_norm(2 * x, (32,), weight.to(x.dtype), bias.to(x.dtype)),
        [x],
        names="y x",
    )


def test_no_rows_give_no_rows_and_zero_gradients(family: str) -> None:
    tensors = [as_leaf(x) for x in make((0, 24))]
    y, x = ours(family)(*tensors)
    grads = torch.autograd.grad(y.sum() + x.sum(), tensors)
    assert y.shape == x.shape == (0, 24)
    assert [g.shape for g in grads] == [t.shape for t in tensors] and not any(g.any() for g in grads)


def test_nan_stays_in_its_row(family: str) -> None:
    branch, residual, weight, bias = make((3, 20))
    residual[1, 4] = torch.nan
    y, _ = ours(family)(branch, residual, weight, bias)
    assert y.isnan().all(-1).tolist() == [False, True, False]


def test_same_bits_every_time_and_for_any_number_of_threads(family: str) -> None:
    tensors = [as_leaf(x) for x in make((40 if family == "triton" and interpreted() else 1000, 96))]
    threads, first = torch.get_num_threads(), None
    try:
        for count in (1, 2, 3, 5, 5):
            torch.set_num_threads(count if family == "native" else 1)
            y, x = ours(family)(*tensors)
            results = [y, x, *torch.autograd.grad(y.square().mean() + x.sum(), tensors)]
            first = first or results
            assert all(torch.equal(a, b) for a, b in zip(results, first, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("warps", "slices"), [(2, 1), (14, 7), (4096, 75)], ids=["one", "last_short", "many"])
def test_slices_of_the_triton_backward(warps: int, slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := _backend.why_not("layer_norm", "triton", torch.get_default_device().type):
        pytest.skip(reason)
    from fastlm.kernels import layer_norm as kernels

    monkeypatch.setattr(kernels, "_BACKWARD_WARPS", warps)
    tensors = make((300, 40))
    slice_rows = kernels._slice_rows(300, kernels.choose(kernels._BACKWARD, 40))
    assert -(-300 // slice_rows) == slices  # more than 64 are added up in rounds
    check_against_fp64(joined(ours("triton")), joined(peer), tensors, names="y,x branch residual weight bias")


def test_without_a_seed_one_is_drawn(family: str) -> None:
    tensors = make((8, 64))

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return ops.dropout_add_layer_norm(*tensors, dropout_p=0.5, backend=family).residual

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    compiled = torch.compile(lambda: ops.layer_norm(*tensors[1:], dropout_p=0.5), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="dropout_seed: missing"):
        compiled()


def test_gradcheck_of_the_reference() -> None:
    tensors = [as_leaf(x.double()) for x in make((3, 7))]
    assert torch.autograd.gradcheck(lambda *t: tuple(ours("reference")(*t)), tensors)


def test_meta_tensors_give_shapes() -> None:
    tensors = [x.to("meta") for x in make((2, 3, 8))]
    y, x = ours(None, dtype=torch.bfloat16)(*tensors)
    assert (y.shape, y.dtype, x.dtype, x.device.type) == ((2, 3, 8), torch.bfloat16, torch.float32, "meta")


X, W = torch.ones(2, 4), torch.ones(4)
REFUSALS = {
    "integers": (lambda: ops.layer_norm(X.long(), W, W), TypeError, "x: dtype torch.int64"),
    "no_columns": (lambda: ops.layer_norm(torch.ones(2, 0), W[:0], W[:0]), ValueError, r"x: shape \(2, 0\)"),
    "scalar": (lambda: ops.layer_norm(torch.tensor(1.0), W, W), ValueError, r"x: shape \(\)"),
    "weight_shape": (lambda: ops.layer_norm(X, W[:3], W), ValueError, r"weight: shape \(3,\) must be \(4,\)"),
    "bias_dtype": (lambda: ops.layer_norm(X, W, W.half()), TypeError, "bias: dtype torch.float16 differs from x's"),
    "branch_shape": (
        lambda: ops.dropout_add_layer_norm(X[:1], X, W, W),
        ValueError,
        r"branch: shape \(1, 4\) must be the residual's \(2, 4\)",
    ),
    "branch_device": (
        lambda: ops.dropout_add_layer_norm(X.to("meta"), X, W, W),
        ValueError,
        "branch: on meta, but residual is on cpu",
    ),
    "probability": (lambda: ops.layer_norm(X, W, W, dropout_p=1.5), ValueError, r"dropout_p: 1.5 is outside \[0, 1\]"),
    "result_dtype": (lambda: ops.layer_norm(X, W, W, dtype=torch.int8), TypeError, "dtype: torch.int8"),
    "wider_result": (
        lambda: ops.layer_norm(X.half(), W.half(), W.half(), dtype=torch.float32, backend="native"),
        ValueError,
        "cannot run this call",
    ),
}


@pytest.mark.cpu_only("Python refuses before any device is asked")
@pytest.mark.parametrize(("call", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_name_the_tensor(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
