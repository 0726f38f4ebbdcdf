"""The native ops on every instruction set of this machine, held to fp64 by the error budget."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm import ops
from fastlm.testing import DTYPES, assert_within_budget, check_against_fp64, noncontiguous_views

if (_fault := ops.native_fault()) is not None:
    pytest.skip(f"the native ops are not here: {_fault}", allow_module_level=True)

ISAS = torch.ops.fastlm.cpu_isas_supported().split()

# Columns by code path. Vectors hold 4, 8 or 16; a pass is 4 of them; a chunk is 2048 columns.
COLUMNS = {
    "one_column": 1,
    "below_a_vector": 3,
    "one_vector": 16,
    "one_pass_plus_tail": 67,
    "one_chunk": 2048,
    "chunk_plus_one": 2049,
    "several_chunks_odd": 5003,
}


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set in turn; asserts that it is the one in use."""
    torch.ops.fastlm.set_cpu_isa(request.param)
    assert torch.ops.fastlm.cpu_isa() == request.param
    with ops.use_backend("native"):
        yield request.param
    torch.ops.fastlm.set_cpu_isa("")


def logits(rows: int, cols: int, dtype: torch.dtype, scale: float = 3.0) -> Tensor:
    return (torch.randn(rows, cols, generator=torch.Generator().manual_seed(cols)) * scale).to(dtype)


def masked_softmax(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    """PyTorch's; an emptied row becomes 0 through a finite fill, which keeps NaN out of the gradient."""
    return F.softmax((x * scale).masked_fill(~mask, torch.finfo(x.dtype).min), -1) * mask


@pytest.mark.parametrize("cols", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("scale", [1.0, 0.3, -1.5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_softmax_within_budget(isa: str, dtype: torch.dtype, scale: float, cols: int) -> None:
    x = logits(3, cols, dtype)
    check_against_fp64(lambda x: ops.softmax(x, scale=scale), lambda x: F.softmax(x * scale, -1), [x], names="y x")


@pytest.mark.parametrize("cols", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cross_entropy_within_budget(isa: str, dtype: torch.dtype, smoothing: float, cols: int) -> None:
    targets = torch.tensor([0, cols - 1, -100, cols // 2])
    check_against_fp64(
        lambda x: ops.cross_entropy(x, targets, label_smoothing=smoothing, reduction="none"),
        lambda x: F.cross_entropy(x, targets, label_smoothing=smoothing, reduction="none"),
        [logits(4, cols, dtype)],
        names="loss logits",
    )


@pytest.mark.parametrize("cols", [n for n in COLUMNS.values() if n > 1])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dropout_add_layer_norm_within_budget(isa: str, dtype: torch.dtype, dropout_p: float, cols: int) -> None:
    """The reference draws the same mask, and has no kernels."""

    def norm(backend: str):
        return lambda b, r, w, c: torch.cat(
            ops.dropout_add_layer_norm(b, r, w, c, dropout_p=dropout_p, dropout_seed=cols, backend=backend), -1
        )

    rows, vectors = logits(2 * 67, cols, dtype), logits(2, cols, dtype, 1.0)
    check_against_fp64(norm("native"), norm("reference"), [*rows.chunk(2), *vectors], names="y,x b r w c")


@pytest.mark.parametrize("cols", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize(("reduction", "smoothing", "with_bias"), [("mean", 0.0, True), ("none", 0.1, False)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_linear_cross_entropy_within_budget(
    isa: str, dtype: torch.dtype, reduction: str, smoothing: float, with_bias: bool, cols: int
) -> None:
    targets = torch.arange(40) * 97 % cols  # many rows, so that PyTorch's error is no stroke of luck
    targets[3] = -100
    options = {"label_smoothing": smoothing, "reduction": reduction}
    check_against_fp64(
        lambda h, w, b=None: ops.linear_cross_entropy(h, w, targets, bias=b, **options).loss,
        lambda h, w, b=None: F.cross_entropy(F.linear(h, w, b), targets, **options),
        [logits(40, 9, dtype, 1.0), logits(cols, 9, dtype, 1.0), *([logits(1, cols, dtype)[0]] if with_bias else [])],
        names="loss hidden weight bias",
    )


@pytest.mark.parametrize("n", [*COLUMNS.values(), 4096, 4097], ids=str)
@pytest.mark.parametrize("decoupled", [False, True], ids=["l2", "decoupled"])
def test_adam_and_total_norm_within_budget(isa: str, decoupled: bool, n: int) -> None:
    """Two tensors, so that one begins where a vector does not; the third step, so that nothing is zero."""
    data = [torch.randn(2, n, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    options = {"betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}

    def ours() -> list[Tensor]:
        params, *means = ([x.clone() for x in tensors] for tensors in (data[0], data[0] * 0, data[0] * 0))
        steps = [torch.zeros(()) for _ in params]
        for k in (1, 2, 3):
            grads = [g * k for g in data[1]]
            ops.adam_(params, grads, *means, steps, lr=0.1, decoupled_weight_decay=decoupled, grad_scale=2.0, **options)
        return [torch.cat(x) for x in (params, *means)]

    def theirs(dtype: torch.dtype) -> list[Tensor]:
        leaf = torch.nn.Parameter(data[0].flatten().to(dtype))
        kind = torch.optim.AdamW if decoupled else torch.optim.Adam
        optimizer = kind([leaf], lr=0.1, foreach=False, **options)
        for k in (1, 2, 3):
            leaf.grad = (data[1].flatten() * k / 2).to(dtype)
            optimizer.step()
        return [leaf.detach(), optimizer.state[leaf]["exp_avg"], optimizer.state[leaf]["exp_avg_sq"]]

    for name, a, b, c in zip(("p", "m", "v"), ours(), theirs(torch.float32), theirs(torch.float64), strict=True):
        assert_within_budget(a, b, c, name)
    flat = data[2].flatten()
    assert_within_budget(ops.total_norm(list(data[2])), flat.norm(), flat.double().norm(), "norm")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_first_of_the_largest_logits_is_the_prediction(isa: str, dtype: torch.dtype) -> None:
    """As torch.argmax has it, also among ties, infinities and NaN; the identity as hidden makes any logits."""
    inf, nan = torch.inf, torch.nan
    rows = torch.tensor(
        [[3, 1, 3, 0], [0, 3, 3, 1], [-1, 2, 0, inf], [nan, 5, nan, 1], [2, 1, nan, 5], [-inf, -inf, -inf, -inf]]
    )
    weight = rows.repeat_interleave(17, 1)  # ties within a vector and beyond it
    for bias in (None, torch.zeros(weight.shape[1], dtype=dtype)):
        for row, values in enumerate(weight):
            hidden = torch.ones(weight.shape[1], 1, dtype=dtype)
            out = ops.linear_cross_entropy(hidden, values[:, None].to(dtype), torch.arange(len(values)), bias=bias)
            assert out.row_correct.nonzero().tolist() == [[int(values.argmax())]], row


@pytest.mark.parametrize("offset", [100.0, -3000.0, 1e4])
def test_an_offset_changes_nothing(isa: str, offset: float) -> None:
    """A large log-sum-exp is rounded coarsely; the gradient must not show it."""
    x = (logits(4, 301, torch.float32) * 8).round() / 8  # exact after the offset
    targets = torch.tensor([0, 300, 7, 9])
    check_against_fp64(
        lambda x: ops.cross_entropy(x + offset, targets, reduction="none"),
        lambda x: F.cross_entropy(x + offset, targets, reduction="none"),
        [x],
    )
    check_against_fp64(lambda x: ops.softmax(x + offset), lambda x: F.softmax(x + offset, -1), [x])


MASKS = {
    "full": lambda m: m,
    "one_for_all_rows": lambda m: m[:1, :1],
    "one_dimensional": lambda m: m[0, 0],
    "per_row": lambda m: m[:, :, :1],
    "per_batch": lambda m: m[:, :1],
    "transposed": lambda m: m.transpose(1, 2).contiguous().transpose(1, 2),
    "scalar": lambda m: m[0, 0, 0],
}


@pytest.mark.parametrize("view", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masks_broadcast(isa: str, dtype: torch.dtype, view) -> None:
    x = logits(6, 2100, dtype).view(2, 3, 2100)
    mask = view(torch.rand(2, 3, 2100, generator=torch.Generator().manual_seed(0)) > 0.4)
    check_against_fp64(
        lambda x: ops.softmax(x, mask, scale=0.7),
        lambda x: masked_softmax(x, mask, 0.7),
        [x],
        names="y x",
    )


@pytest.mark.parametrize("layout", ["last_dim_strided", "transposed", "row_padded", "unaligned"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(isa: str, dtype: torch.dtype, layout: str) -> None:
    x = logits(6, 35, dtype)
    view = noncontiguous_views(x)[layout]
    targets = torch.arange(12)[::2]
    assert torch.equal(view, x)
    assert torch.equal(ops.softmax(view), ops.softmax(x))
    assert torch.equal(ops.cross_entropy(view, targets), ops.cross_entropy(x, targets.contiguous()))


def test_many_dimensions_and_broadcast_rows(isa: str) -> None:
    x = torch.randn(2, 3, 1, 2, 1, 2, 2, 3, 1, 2, 2, 5).transpose(0, 1).transpose(3, 6).transpose(5, 9)
    assert torch.equal(ops.softmax(x), ops.softmax(x.contiguous()))
    expanded = torch.randn(3, 1, 7).expand(3, 4, 7)
    assert torch.equal(ops.softmax(expanded), ops.softmax(expanded.contiguous()))


def test_rows_are_gathered_and_their_gradients_put_back(isa: str) -> None:
    """Several chunks of rows that count, scattered among others, with a bias: as if the others were not there."""
    hidden, weight = logits(300, 20, torch.float32, 1.0), logits(50, 20, torch.float32, 1.0)
    bias, targets = logits(1, 50, torch.float32)[0], torch.arange(300) % 50
    targets[torch.arange(300) % 3 == 1] = -100
    kept = targets != -100

    def run(hidden: Tensor, targets: Tensor) -> list[Tensor]:
        arguments = (hidden, weight, bias, targets, -100, 0.1, 1, True, True, True)
        return torch.ops.fastlm.linear_cross_entropy_forward(*arguments)

    ours, expected = run(hidden, targets), run(hidden[kept], targets[kept])
    for a, b in zip(ours[:3], expected[:3], strict=True):
        assert torch.equal(a[kept], b)
        assert a[~kept].eq(0).all()
    assert all(torch.equal(a, b) for a, b in zip(ours[3:], expected[3:], strict=True))


def test_empty_inputs(isa: str) -> None:
    for shape in ((0, 5), (5, 0), (2, 0, 3)):
        x = torch.empty(shape, requires_grad=True)
        y = ops.softmax(x)
        y.sum().backward()
        assert y.shape == x.shape == x.grad.shape
    rows = ops.cross_entropy(torch.empty(0, 9), torch.empty(0, dtype=torch.int64), reduction="none")
    assert rows.shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masked_rows_are_zero_and_nan_stays(isa: str, dtype: torch.dtype) -> None:
    inf, nan = torch.inf, torch.nan
    x = torch.tensor(
        [[1, 2, 3], [nan, 2, 3], [-inf, 2, 3], [inf, 2, 3], [-inf, -inf, -inf], [1e4, -1e4, 0], [nan, 2, 3]],
        dtype=dtype,
    )
    exact = F.softmax(x.double(), -1)
    torch.testing.assert_close(ops.softmax(x).double(), exact, rtol=8e-3, atol=1e-6, equal_nan=True)
    mask = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0]]).bool()
    want = torch.where(mask, F.softmax(x.double().masked_fill(~mask, -inf), -1), 0.0)
    ours = ops.softmax(x, mask)
    torch.testing.assert_close(ours[[0, 1, 3, 5]].double(), want[[0, 1, 3, 5]], rtol=8e-3, atol=1e-6)
    assert ours[[2, 4, 6]].isnan().any(-1).all()  # nothing finite was kept
    assert ops.softmax(x[:1], mask[:1]).eq(0).all()


def test_extremes_are_as_fp64(isa: str) -> None:
    x = torch.tensor([[1e30, -1e30, 1e30], [1e30, 1e30, -1e30], [3e38, -3e38, 3e38]])
    for scale in (1.0, -1.0, 1e8):
        assert torch.equal(ops.softmax(x, scale=scale), F.softmax(x.double() * scale, -1).float())
    assert torch.equal(ops.softmax(x[:2], scale=0.0), torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_losses_of_special_logits(isa: str, dtype: torch.dtype, smoothing: float) -> None:
    inf, nan = torch.inf, torch.nan
    rows = [[-inf, 2, 3], [-inf, 2, 3], [inf, 2, 3], [-inf, -inf, -inf], [nan, 1, 2], [1e4, -1e4, 0]]
    targets = torch.tensor([1, 0, 0, 0, 1, 1])
    check_against_fp64(
        lambda x: ops.cross_entropy(x, targets, label_smoothing=smoothing, reduction="none"),
        lambda x: F.cross_entropy(x, targets, label_smoothing=smoothing, reduction="none"),
        [torch.tensor(rows, dtype=dtype)],
    )


@pytest.mark.parametrize("target", [-1, 37, 2**31, -(2**31), 2**63 - 1, -(2**63)])
def test_out_of_range_targets_poison_their_row(isa: str, target: int) -> None:
    x = logits(3, 37, torch.float32).requires_grad_()
    targets = torch.tensor([1, target, -100])
    loss = ops.cross_entropy(x, targets, reduction="none")
    loss.nansum().backward()
    assert loss.isnan().tolist() == [False, True, False] and loss[2] == 0
    (grad,) = torch.autograd.grad(ops.cross_entropy(x, targets, reduction="sum"), x)
    assert grad[1].isnan().all() and grad[0].isfinite().all() and grad[2].eq(0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_outputs_are_streamed_alike(isa: str, dtype: torch.dtype) -> None:
    """From 8 MiB on outputs are written around the caches, from an aligned address on; the bits are the same."""
    rows, cols = (8 << 20) // (2049 * dtype.itemsize) + 1, 2049
    x = logits(rows, cols, dtype)
    targets = torch.randint(cols, (rows,), generator=torch.Generator().manual_seed(0))
    g = torch.ones(rows)
    y = torch.ops.fastlm.softmax_forward(x, None, 1.0)
    dx = torch.ops.fastlm.softmax_backward(x, y, 1.0)
    _, lse = torch.ops.fastlm.cross_entropy_forward(x, targets, -100, 0.0)
    dlogits = torch.ops.fastlm.cross_entropy_backward(g, x, targets, lse, -100, 0.0)
    for part in (slice(0, 3), slice(rows - 3, rows)):
        assert torch.equal(y[part], torch.ops.fastlm.softmax_forward(x[part], None, 1.0))
        assert torch.equal(dx[part], torch.ops.fastlm.softmax_backward(x[part], y[part], 1.0))
        part_grad = torch.ops.fastlm.cross_entropy_backward(g[part], x[part], targets[part], lse[part], -100, 0.0)
        assert torch.equal(dlogits[part], part_grad)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cols", [1024, 1003])
def test_large_norms_are_streamed_alike(isa: str, dtype: torch.dtype, cols: int) -> None:
    rows = (8 << 20) // (cols * dtype.itemsize) + 1
    branch, residual, grad = (logits(rows, cols, dtype) for _ in range(3))
    weight, seed = torch.ones(cols, dtype=dtype), torch.tensor(1)

    def run(part: slice) -> list[Tensor]:
        y, x, mean, rstd = torch.ops.fastlm.layer_norm_forward(
            residual[part], branch[part], weight, weight, 1e-5, 0.3, seed, dtype
        )
        backward = torch.ops.fastlm.layer_norm_backward(grad[part], grad[part], x, weight, mean, rstd, 0.3, seed, True)
        return [y, x, *backward[:2]]

    for whole, start in zip(run(slice(None)), run(slice(0, 3)), strict=True):
        assert torch.equal(whole[:3], start)


def test_offsets_beyond_32_bits() -> None:
    """Two rows 2^31 + 8 elements apart; the untouched memory between them costs no pages."""
    stride = 2**31 + 8
    x = torch.empty(stride + 64, dtype=torch.bfloat16).as_strided((2, 64), (stride, 1))
    x.copy_(logits(2, 64, torch.bfloat16))
    targets = torch.tensor([3, 5])
    with ops.use_backend("native"):
        assert torch.equal(ops.softmax(x), ops.softmax(x.clone()))
        assert torch.equal(ops.cross_entropy(x, targets), ops.cross_entropy(x.clone(), targets))


def test_bits_do_not_depend_on_threads_or_repetition() -> None:
    x = logits(40, 3001, torch.float32).requires_grad_()
    targets = torch.randint(3001, (40,), generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    results = []
    try:
        with ops.use_backend("native"):
            for count in (1, 2, 3, 7, 7):
                torch.set_num_threads(count)
                y = ops.softmax(x, scale=0.5)
                loss = ops.cross_entropy(x, targets, label_smoothing=0.1, reduction="none")
                results.append([y, loss, *torch.autograd.grad((y * y).sum() + loss.sum(), x)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_linear_cross_entropy_gives_the_same_bits_on_two_threads(dtype: torch.dtype, reduction: str) -> None:
    """Its own part for any number; the matrix products of fp32 (MKL) may round otherwise from three threads on."""
    hidden, weight = logits(300, 40, dtype).requires_grad_(), logits(3001, 40, dtype).requires_grad_()
    bias = logits(1, 3001, dtype)[0].requires_grad_()
    targets = torch.randint(3001, (300,), generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            out = ops.linear_cross_entropy(hidden, weight, targets, bias=bias, reduction=reduction, backend="native")
            results.append([out.row_loss, *torch.autograd.grad(out.loss.sum(), (hidden, weight, bias))])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
