"""Schemas, fakes and autograd.Functions of every op, through opcheck.

No kernel of attention and linear_cross_entropy is registered for the CPU yet, so their plumbing is held here by
implementations made of plain mathematics, registered for the length of a test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm import ops
from fastlm.ops import philox
from fastlm.testing import Sequences, check_against_fp64, fused_qkv

IGNORED = -100


def attention_probabilities(q: Tensor, k: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """One sentence: softmax of the scores and their log-sum-exp, in fp64 so that only plumbing can fail."""
    scores = torch.einsum("qhd,khd->hqk", q.double(), k.double()) * scale
    if causal:
        seen = torch.ones(scores.shape[1:], dtype=torch.bool).tril(scores.shape[2] - scores.shape[1])
        scores = scores.masked_fill(~seen, -math.inf)
    lse = scores.logsumexp(-1)
    return torch.exp(scores - lse.masked_fill(lse.isinf(), 0)[..., None]), lse


def sentences(cu_q: Tensor, cu_k: Tensor) -> Iterator[tuple[slice, slice]]:
    for b in range(len(cu_q) - 1):
        yield slice(int(cu_q[b]), int(cu_q[b + 1])), slice(int(cu_k[b]), int(cu_k[b + 1]))


def keep_of(rows: slice, heads: int, keys: int, p: float, seed: int) -> Tensor:
    return philox.keep_mask(torch.arange(rows.start, rows.stop)[None], heads, keys, p, seed)[0] * philox.keep_scale(p)


def attention_forward(q, k, v, cu_q, cu_k, max_q, max_k, causal, scale, p, seed):
    out, lse = torch.zeros(q.shape, dtype=q.dtype), torch.full((q.shape[1], q.shape[0]), -math.inf)
    for rows, keys in sentences(cu_q, cu_k):
        probabilities, lse[:, rows] = attention_probabilities(q[rows], k[keys], causal, scale)
        kept = probabilities * keep_of(rows, q.shape[1], keys.stop - keys.start, p, seed)
        out[rows] = torch.einsum("hqk,khd->qhd", kept, v[keys].double()).to(q.dtype)
    return out, lse


def attention_backward(grad, q, k, v, out, lse, cu_q, cu_k, max_q, max_k, causal, scale, p, seed):
    grads = [torch.zeros(x.shape, dtype=x.dtype) for x in (q, k, v)]
    for rows, keys in sentences(cu_q, cu_k):
        probabilities, _ = attention_probabilities(q[rows], k[keys], causal, scale)
        keep = keep_of(rows, q.shape[1], keys.stop - keys.start, p, seed)
        g, q_s, k_s, v_s = (x.double() for x in (grad[rows], q[rows], k[keys], v[keys]))
        grads[2][keys] = torch.einsum("hqk,qhd->khd", probabilities * keep, g).to(v.dtype)
        grad_p = torch.einsum("qhd,khd->hqk", g, v_s) * keep
        delta = (g * out[rows].double()).sum(-1).T[..., None]
        grad_scores = probabilities * (grad_p - delta) * scale
        grads[0][rows] = torch.einsum("hqk,khd->qhd", grad_scores, k_s).to(q.dtype)
        grads[1][keys] = torch.einsum("hqk,qhd->khd", grad_scores, q_s).to(k.dtype)
    return tuple(grads)


def head_forward(hidden, weight, bias, targets, ignore_index, label_smoothing):
    logits = F.linear(hidden, weight, bias).float()
    counted = targets != ignore_index
    loss = F.cross_entropy(
        logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="none"
    )
    return loss, (logits.argmax(1) == targets) & counted, torch.where(counted, logits.logsumexp(1), 0)


def head_backward(grad, hidden, weight, bias, targets, lse, ignore_index, label_smoothing):
    logits = F.linear(hidden, weight, bias).float()
    classes = weight.shape[0]
    counted = targets != ignore_index
    wanted = F.one_hot(targets.clamp(min=0), classes) * (1 - label_smoothing) + label_smoothing / classes
    d = ((torch.exp(logits - lse[:, None]) - wanted) * (grad * counted)[:, None]).to(hidden.dtype)
    grad_bias = weight.new_empty(0) if bias is None else d.sum(0)
    return d @ weight, d.T @ hidden, grad_bias


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Native CPU implementations of the two ops that have none."""
    library = torch.library.Library("fastlm", "IMPL")
    implementations = {
        "attention_forward": attention_forward,
        "attention_backward": attention_backward,
        "linear_cross_entropy_forward": head_forward,
        "linear_cross_entropy_backward": head_backward,
    }
    for name, function in implementations.items():
        library.impl(name, function, "CPU")
    yield
    library._destroy()
    torch._dynamo.reset()


@pytest.mark.usefixtures("stand_ins")
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


@pytest.mark.usefixtures("stand_ins")
def test_one_tensor_as_query_key_and_value(mode) -> None:
    cu = torch.tensor([0, 3, 8], dtype=torch.int32)

    def attention(backend: str):
        return lambda x: ops.attention(x, x, x, cu, cu, max_seqlen_q=5, max_seqlen_k=5, backend=backend)

    x = torch.randn(8, 2, 16)
    check_against_fp64(mode(attention("native")), attention("reference"), [x], names="attention x")


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_cross_entropy_through_its_autograd_function(with_bias: bool, mode) -> None:
    hidden, weight, bias = torch.randn(9, 8), torch.randn(11, 8), torch.randn(11)
    targets = torch.tensor([0, 1, IGNORED, 3, 10, 5, IGNORED, 7, 8])

    def head(backend: str):
        return lambda h, w, b=None: (
            ops.linear_cross_entropy(h, w, targets, bias=b, label_smoothing=0.1, backend=backend).loss
        )

    inputs = [hidden, weight, *([bias] if with_bias else [])]
    check_against_fp64(mode(head("native")), head("reference"), inputs, names="loss hidden weight bias")
    ours, expected = (
        ops.linear_cross_entropy(hidden, weight, targets, backend=family) for family in ("native", "reference")
    )
    assert torch.equal(ours.row_correct, expected.row_correct)


@pytest.mark.usefixtures("stand_ins")
def test_a_registered_kernel_is_picked_and_frozen_weights_get_no_gradient() -> None:
    assert ops.explain()["attention"]["cpu"]["pick"] == "native"
    hidden, weight = torch.randn(3, 8, requires_grad=True), torch.randn(5, 8)
    ops.linear_cross_entropy(hidden, weight, torch.tensor([0, 1, 2])).loss.backward()
    assert hidden.grad is not None
    assert weight.grad is None
    with torch.no_grad():
        assert not ops.linear_cross_entropy(hidden, weight, torch.tensor([0, 1, 2])).loss.requires_grad


def attention_arguments() -> tuple:
    q, k, v = fused_qkv(9, 2, 16, torch.float32)  # strided: views of one tensor
    cu = torch.tensor([0, 4, 9], dtype=torch.int32)
    return (q, k, v), (cu, cu, 5, 5, True, 0.25, 0.1, 3)


def head_arguments() -> tuple:
    return (torch.randn(6, 16)[:, :8], torch.randn(5, 8), torch.randn(5), torch.tensor([0, 1, IGNORED, 3, 4, 0]))


@pytest.mark.usefixtures("stand_ins")
def test_opcheck_of_the_schemas_without_kernels() -> None:
    tensors, options = attention_arguments()
    torch.library.opcheck(torch.ops.fastlm.attention_forward.default, (*tensors, *options))
    out, lse = torch.ops.fastlm.attention_forward(*tensors, *options)
    backward = (torch.randn_like(out), *tensors, out, lse, *options)
    torch.library.opcheck(torch.ops.fastlm.attention_backward.default, backward)
    inputs = head_arguments()
    torch.library.opcheck(torch.ops.fastlm.linear_cross_entropy_forward.default, (*inputs, IGNORED, 0.1))
    row_loss, _, lse = torch.ops.fastlm.linear_cross_entropy_forward(*inputs, IGNORED, 0.1)
    backward = (torch.randn_like(row_loss), *inputs, lse, IGNORED, 0.1)
    torch.library.opcheck(torch.ops.fastlm.linear_cross_entropy_backward.default, backward)


@pytest.fixture
def native() -> None:
    if fault := ops.native_fault():
        pytest.skip(fault)


PERMUTED = {
    "contiguous": lambda: torch.randn(4, 3, 8),
    "permuted": lambda: torch.randn(3, 4, 8).transpose(0, 1),
    "padded_rows": lambda: torch.randn(4, 3, 16)[..., :8],
    "expanded": lambda: torch.randn(1, 3, 8).expand(4, 3, 8),
    "empty": lambda: torch.randn(0, 3, 8),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("make", PERMUTED.values(), ids=PERMUTED)
def test_opcheck_of_softmax(make) -> None:
    x = make()
    for mask in (None, torch.rand(3, 8) > 0.3):
        torch.library.opcheck(torch.ops.fastlm.softmax_forward.default, (x, mask, 0.5))
    y = torch.softmax(x, -1)
    torch.library.opcheck(torch.ops.fastlm.softmax_backward.default, (make(), y, 0.5))


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("make", PERMUTED.values(), ids=PERMUTED)
def test_opcheck_of_cross_entropy(make) -> None:
    logits = make()[:, 1]
    targets = torch.tensor([0, 7, IGNORED, 3])[: len(logits)]
    arguments = (logits, targets, IGNORED, 0.1)
    torch.library.opcheck(torch.ops.fastlm.cross_entropy_forward.default, arguments)
    row_loss, lse = torch.ops.fastlm.cross_entropy_forward(*arguments)
    backward = (torch.randn_like(row_loss), logits, targets, lse, IGNORED, 0.1)
    torch.library.opcheck(torch.ops.fastlm.cross_entropy_backward.default, backward)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", PERMUTED.values(), ids=PERMUTED)
def test_opcheck_of_layer_norm(make, dtype: torch.dtype, dropout_p: float) -> None:
    residual, weight, bias = make(), torch.randn(8), torch.randn(8)
    for branch in (None, make().to(dtype)):
        arguments = (residual, branch, weight, bias, 1e-5, dropout_p, 7, dtype)
        torch.library.opcheck(torch.ops.fastlm.layer_norm_forward.default, arguments)
        _, x, mean, rstd = torch.ops.fastlm.layer_norm_forward(*arguments)
        for grad_x in (None, make()):
            x = residual if branch is None else x
            backward = (make().to(dtype), grad_x, x, weight, mean, rstd, dropout_p, 7, branch is not None)
            torch.library.opcheck(torch.ops.fastlm.layer_norm_backward.default, backward)


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


@pytest.mark.usefixtures("native", "stand_ins")
@pytest.mark.parametrize("op", calls())
def test_double_backward_and_vmap_are_refused_in_words(op: str) -> None:
    x = torch.randn(4, 16, requires_grad=True)
    (grad,) = torch.autograd.grad(calls()[op](x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()
    with pytest.raises(NotImplementedError, match=r"do not support .*vmap"):
        torch.func.vmap(ops.softmax)(x)
