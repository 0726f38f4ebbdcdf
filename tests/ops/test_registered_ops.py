"""Schemas, fakes and autograd.Functions of every op, through opcheck and compiled graphs."""

from __future__ import annotations

import pytest
import torch

from fastlm import ops
from fastlm.testing import DTYPES, Sequences, check_against_fp64, fused_qkv

IGNORED = -100


@pytest.mark.native("attention")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_through_its_autograd_function(dtype: torch.dtype, mode) -> None:
    sequences = Sequences.of([7, 0, 12])
    inputs = fused_qkv(sequences.rows, 2, 16, dtype)

    def attention(backend: str):
        return lambda q, k, v: ops.attention(
            *(q, k, v, sequences.cu_seqlens),
            max_seqlen_q=12,
            causal=True,
            dropout_p=0.2,
            dropout_seed=5,
            backend=backend,
        )

    check_against_fp64(mode(attention("native")), attention("reference"), inputs, names="attention q k v")


@pytest.mark.native("attention")
def test_one_tensor_as_query_key_and_value(mode) -> None:
    cu = torch.tensor([0, 3, 8], dtype=torch.int32)

    def attention(backend: str):
        return lambda x: ops.attention(x, x, x, cu, cu, max_seqlen_q=5, max_seqlen_k=5, backend=backend)

    x = torch.randn(8, 2, 16)
    check_against_fp64(mode(attention("native")), attention("reference"), [x], names="attention x")


@pytest.mark.native("attention")
def test_a_registered_kernel_is_picked() -> None:
    assert ops.explain()["attention"][torch.get_default_device().type]["pick"] == "native"


def attention_arguments() -> tuple:
    q, k, v = fused_qkv(9, 2, 16, torch.float32)  # strided: views of one tensor
    cu = torch.tensor([0, 4, 9], dtype=torch.int32)
    return (q, k, v), (cu, cu, 5, 5, True, 0.25, 0.1, torch.tensor(3))


@pytest.mark.native("attention")
def test_opcheck_of_attention() -> None:
    tensors, options = attention_arguments()
    torch.library.opcheck(torch.ops.fastlm.attention_forward.default, (*tensors, *options))
    out, lse = torch.ops.fastlm.attention_forward(*tensors, *options)
    backward = (torch.randn_like(out), *tensors, out, lse, *options)
    torch.library.opcheck(torch.ops.fastlm.attention_backward.default, backward)


PERMUTED = {
    "contiguous": lambda: torch.randn(4, 3, 8),
    "permuted": lambda: torch.randn(3, 4, 8).transpose(0, 1),
    "padded_rows": lambda: torch.randn(4, 3, 16)[..., :8],
    "expanded": lambda: torch.randn(1, 3, 8).expand(4, 3, 8),
    "empty": lambda: torch.randn(0, 3, 8),
}


@pytest.mark.native("softmax")
@pytest.mark.parametrize("make", PERMUTED.values(), ids=PERMUTED)
def test_opcheck_of_softmax(make) -> None:
    x = make()
    for mask in (None, torch.rand(3, 8) > 0.3):
        torch.library.opcheck(torch.ops.fastlm.softmax_forward.default, (x, mask, 0.5))
    y = torch.softmax(x, -1)
    torch.library.opcheck(torch.ops.fastlm.softmax_backward.default, (make(), y, 0.5))


@pytest.mark.native("cross_entropy")
@pytest.mark.parametrize("make", PERMUTED.values(), ids=PERMUTED)
def test_opcheck_of_cross_entropy(make) -> None:
    logits = make()[:, 1]
    targets = torch.tensor([0, 7, IGNORED, 3])[: len(logits)]
    arguments = (logits, targets, IGNORED, 0.1)
    torch.library.opcheck(torch.ops.fastlm.cross_entropy_forward.default, arguments)
    row_loss, lse = torch.ops.fastlm.cross_entropy_forward(*arguments)
    backward = (torch.randn_like(row_loss), logits, targets, lse, IGNORED, 0.1)
    torch.library.opcheck(torch.ops.fastlm.cross_entropy_backward.default, backward)


@pytest.mark.native("layer_norm")
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", PERMUTED.values(), ids=PERMUTED)
def test_opcheck_of_layer_norm(make, dtype: torch.dtype, dropout_p: float) -> None:
    residual, weight, bias, seed = make(), torch.randn(8), torch.randn(8), torch.tensor(7)
    for branch in (None, make().to(dtype)):
        arguments = (residual, branch, weight, bias, 1e-5, dropout_p, seed, dtype)
        torch.library.opcheck(torch.ops.fastlm.layer_norm_forward.default, arguments)
        _, x, mean, rstd = torch.ops.fastlm.layer_norm_forward(*arguments)
        for grad_x in (None, make()):
            x = residual if branch is None else x
            backward = (make().to(dtype), grad_x, x, weight, mean, rstd, dropout_p, seed, branch is not None)
            torch.library.opcheck(torch.ops.fastlm.layer_norm_backward.default, backward)


@pytest.mark.native("linear_cross_entropy")
@pytest.mark.parametrize("rows", [6, 0])
@pytest.mark.parametrize("want", [(True, True, True), (False, False, False), (True, False, True)])
def test_opcheck_of_linear_cross_entropy(rows: int, want: tuple[bool, bool, bool]) -> None:
    hidden, targets = torch.randn(rows, 16)[:, :8], torch.tensor([0, 1, IGNORED, 3, 4, 0])[:rows]
    for bias in (torch.randn(5), None):
        arguments = (hidden, torch.randn(5, 8), bias, targets, IGNORED, 0.1, 1 << 20, *want)
        torch.library.opcheck(torch.ops.fastlm.linear_cross_entropy_forward.default, arguments)
        torch.library.opcheck(torch.ops.fastlm.linear_cross_entropy_backward.default, (torch.randn(rows), *arguments))


@pytest.mark.native("linear_cross_entropy")
@pytest.mark.parametrize("out", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(5, 7), (3,), (0, 4), (4, 0), (2200, 1024)], ids=str)  # the last is streamed
def test_scaled_linear_cross_entropy_gradient(dtype: torch.dtype, out: torch.dtype, shape: tuple[int, ...]) -> None:
    scaled, x, factor = torch.ops.fastlm.linear_cross_entropy_scaled.default, torch.randn(shape).to(dtype), -1.7
    assert torch.equal(scaled(x, torch.tensor(factor), out), (x.float() * factor).to(out))
    if x.numel() < 100:
        torch.library.opcheck(scaled, (x, torch.tensor(factor), out))
    with pytest.raises(RuntimeError, match=r"factor: shape \(2\), expected a scalar"):
        scaled(x, torch.ones(2), out)


@pytest.mark.native("adam")
@pytest.mark.native("total_norm")
def test_opcheck_of_adam_and_total_norm() -> None:
    shapes = [(3, 5), (), (0,), (4,)]
    params, exp_avgs, exp_avg_sqs = ([torch.rand(shape) for shape in shapes] for _ in range(3))
    grads, steps = [torch.randn(5, 3).t(), *map(torch.randn, shapes[1:])], [torch.zeros(()) for _ in shapes]
    arguments = (params, grads, exp_avgs, exp_avg_sqs, steps, 1e-3, 0.9, 0.999, 1e-8, 0.1, True, 2.0)
    torch.library.opcheck(torch.ops.fastlm.adam_.default, arguments)
    torch.library.opcheck(torch.ops.fastlm.total_norm.default, (grads,))


def calls() -> dict:
    cu = torch.tensor([0, 4], dtype=torch.int32)
    weight, targets = torch.randn(5, 16), torch.tensor([0, 1, 2, 3])
    return {
        "softmax": lambda x: ops.softmax(x),
        "cross_entropy": lambda x: ops.cross_entropy(x, targets),
        "layer_norm": lambda x: ops.layer_norm(x, torch.ones(16), torch.zeros(16)),
        "attention": lambda x: ops.attention(x[:, None], x[:, None], x[:, None], cu, max_seqlen_q=4),
        "linear_cross_entropy": lambda x: ops.linear_cross_entropy(x, weight, targets).loss,
    }


@pytest.mark.parametrize("op", [pytest.param(op, marks=pytest.mark.native(op)) for op in calls()])
def test_a_graph_without_gradients(op: str) -> None:
    x, function = torch.randn(4, 16), calls()[op]
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), function(x))
    torch.testing.assert_close(compiled(x), function(x))


@pytest.mark.parametrize("op", [pytest.param(op, marks=pytest.mark.native(op)) for op in calls()])
def test_double_backward_and_vmap_are_refused_in_words(op: str) -> None:
    x = torch.randn(4, 16, requires_grad=True)
    (grad,) = torch.autograd.grad(calls()[op](x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()
    with pytest.raises(NotImplementedError, match=r"do not support .*vmap"):
        torch.func.vmap(ops.softmax)(x)
