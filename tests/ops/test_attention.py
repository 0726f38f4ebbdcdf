from __future__ import annotations

import math
import os
from collections.abc import Sequence

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F

from fastlm import ops
from fastlm.ops import _blocks, philox
from fastlm.testing import DTYPES, LENGTHS, Sequences, check_against_fp64, fused_qkv, noncontiguous_views

NAMES = "attention q k v"


def per_sentence(sequences_q: Sequences, sequences_k: Sequences, causal: bool, scale: float | None = None):
    """Packed attention as PyTorch's own, one sentence at a time; causal aligned to the last key."""

    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        outs = [q[:0]]
        for rows_q, rows_k in zip(sequences_q.slices(), sequences_k.slices(), strict=True):
            q_s, k_s, v_s = (x.transpose(0, 1) for x in (q[rows_q], k[rows_k], v[rows_k]))
            allowed = None
            if causal:
                length_q, length_k = q_s.shape[1], k_s.shape[1]
                allowed = torch.ones(length_q, length_k, dtype=torch.bool).tril(length_k - length_q)
            outs.append(F.scaled_dot_product_attention(q_s, k_s, v_s, attn_mask=allowed, scale=scale).transpose(0, 1))
        return torch.cat(outs)

    return function


def interpreted(family: str) -> bool:
    """Whether kernels run in Triton's interpreter, which takes some 15 ms for a tile."""
    return family == "triton" and os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(autouse=True)
def every_family(family: str):
    """Every test runs on both families; `ops.attention` with no other choice takes this one."""
    with ops.use_backend(family):
        yield


def self_attention(sequences: Sequences, **options):
    options = {"max_seqlen_q": sequences.max_seqlen, **options}
    return lambda q, k, v: ops.attention(q, k, v, sequences.cu_seqlens, **options)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("regime", LENGTHS)
def test_packed_equals_per_sentence_within_budget(regime: str, dtype: torch.dtype, causal: bool, family: str) -> None:
    sequences = Sequences.of(LENGTHS[regime])
    inputs = fused_qkv(sequences.rows, 1 if interpreted(family) else 2, 16, dtype)
    ours = self_attention(sequences, causal=causal)
    check_against_fp64(ours, per_sentence(sequences, sequences, causal), inputs, names=NAMES)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dim", [1, 24, 40, 63, 64, 96, 128, 256])
def test_head_dims(head_dim: int, dtype: torch.dtype, family: str) -> None:
    sequences = Sequences.of([5, 1, 18])
    inputs = fused_qkv(sequences.rows, 2, head_dim, dtype)
    ours = self_attention(sequences, causal=True)
    if family != "reference" and (head_dim % 8 or head_dim > 128):
        with pytest.raises(ValueError, match="kernels take 16 to 128 in steps of 8"):
            ours(*inputs)
        return
    check_against_fp64(ours, per_sentence(sequences, sequences, True), inputs, names=NAMES)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_compiled_equals_per_sentence(causal: bool) -> None:
    sequences = Sequences.of([5, 0, 18])
    inputs = fused_qkv(sequences.rows, 2, 16, torch.float32)
    ours = torch.compile(self_attention(sequences, causal=causal), fullgraph=True, backend="aot_eager")
    check_against_fp64(ours, per_sentence(sequences, sequences, causal), inputs, names=NAMES)


CROSS: dict[str, tuple[Sequence[int], Sequence[int]]] = {
    "shorter_keys": ([9, 33, 4], [3, 12, 4]),
    "longer_keys": ([3, 12, 4], [9, 33, 70]),
    "one_query": ([1, 1, 1], [9, 33, 70]),
}


@pytest.mark.parametrize("lengths", CROSS.values(), ids=CROSS)
def test_cross_attention(lengths: tuple[Sequence[int], Sequence[int]]) -> None:
    sequences_q, sequences_k = map(Sequences.of, lengths)
    q, _, _ = fused_qkv(sequences_q.rows, 2, 24, torch.float32)
    _, k, v = fused_qkv(sequences_k.rows, 2, 24, torch.float32, seed=1)

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return ops.attention(
            *(q, k, v, sequences_q.cu_seqlens, sequences_k.cu_seqlens),
            max_seqlen_q=sequences_q.max_seqlen,
            max_seqlen_k=sequences_k.max_seqlen,
            scale=0.3,
        )

    check_against_fp64(ours, per_sentence(sequences_q, sequences_k, False, 0.3), [q, k, v], names=NAMES)


def test_causal_with_other_lengths_aligns_the_last_query_to_the_last_key(mode) -> None:
    sequences_q, sequences_k = Sequences.of([2, 5]), Sequences.of([4, 3])
    q, k, v = torch.randn(7, 1, 16), torch.randn(7, 1, 16), torch.randn(7, 1, 16)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    function = mode(
        lambda q, k, v: ops.attention(
            *(q, k, v, sequences_q.cu_seqlens, sequences_k.cu_seqlens), max_seqlen_q=5, max_seqlen_k=4, causal=True
        )
    )
    out = function(*leaves)
    expected = per_sentence(sequences_q, sequences_k, True)(q, k, v)
    seen = torch.tensor([True, True, False, False, True, True, True])  # 5 queries over 3 keys: two see none
    torch.testing.assert_close(out[seen], expected[seen])
    assert (out[~seen] == 0).all()
    out.sum().backward()
    assert all(x.grad.isfinite().all() for x in leaves)
    assert (q.grad[~seen] == 0).all()


def test_sequences_without_a_partner_and_rows_beyond_the_last_give_zero(mode) -> None:
    q, k, v = (torch.randn(rows, 2, 16, requires_grad=True) for rows in (9, 6, 6))
    cu_q, cu_k = torch.tensor([0, 3, 5, 7]), torch.tensor([0, 4, 4, 6])  # the second has no keys; rows 7, 8 are unused
    out = mode(lambda q, k, v: ops.attention(q, k, v, cu_q, cu_k, max_seqlen_q=3, max_seqlen_k=4))(q, k, v)
    assert (out[[3, 4, 7, 8]] == 0).all()
    assert (out[[0, 1, 2, 5, 6]] != 0).all()
    out.sum().backward()
    assert (q.grad[[3, 4, 7, 8]] == 0).all()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_what_no_partner_sees_gets_no_gradient_from_the_sequence_before(causal: bool) -> None:
    """Kernels keep scratch between sequences: what a query or key adds nothing to must still be written."""
    queries, keys = [70, 0, 70, 3, 70, 5], [70, 9, 70, 0, 70, 2]
    sequences_q, sequences_k = Sequences.of(queries), Sequences.of(keys)
    q = torch.randn(sequences_q.rows, 2, 16, requires_grad=True)
    k, v = (torch.randn(sequences_k.rows, 2, 16, requires_grad=True) for _ in range(2))
    with torch.no_grad():
        for rows in (slices := sequences_k.slices())[0], slices[2], slices[4]:
            v[rows] = math.nan
    starts = sequences_q.cu_seqlens, sequences_k.cu_seqlens
    out = ops.attention(q, k, v, *starts, max_seqlen_q=70, max_seqlen_k=70, causal=causal)
    out.sum().backward()
    assert (out[140:143] == 0).all()
    assert (q.grad[140:143] == 0).all()
    assert (k.grad[70:79] == 0).all()
    assert (v.grad[70:79] == 0).all()
    if causal:  # five queries over two keys: three see none
        assert (out[213:216] == 0).all()
        assert (q.grad[213:216] == 0).all()


@pytest.mark.parametrize("lengths", [[], [0, 0]], ids=str)
def test_no_rows(lengths: list[int], mode) -> None:
    sequences = Sequences.of(lengths)
    q, k, v = (torch.randn(0, 2, 16, requires_grad=True) for _ in range(3))
    out = mode(self_attention(sequences))(q, k, v)
    out.sum().backward()
    assert out.shape == (0, 2, 16)
    assert all(x.grad.shape == (0, 2, 16) for x in (q, k, v))


def test_no_keys_at_all_gives_zeros_and_zero_gradients() -> None:
    q, k = torch.randn(4, 1, 16, requires_grad=True), torch.randn(0, 1, 16, requires_grad=True)
    cu_q, cu_k = torch.tensor([0, 4]), torch.tensor([0, 0])
    out = ops.attention(q, k, k, cu_q, cu_k, max_seqlen_q=4, max_seqlen_k=0, dropout_p=0.1, dropout_seed=1)
    out.sum().backward()
    assert (out == 0).all()
    assert (q.grad == 0).all()


def test_permuting_the_sentences_permutes_the_result() -> None:
    lengths, order = LENGTHS["one_long_among_short"], [4, 2, 0, 5, 1, 3]
    sequences, permuted = Sequences.of(lengths), Sequences.of([lengths[i] for i in order])
    inputs = fused_qkv(sequences.rows, 2, 16, torch.float32)
    rows = torch.cat([torch.arange(sequences.rows)[sequences.slices()[i]] for i in order])
    out = self_attention(sequences, causal=True)(*inputs)
    out_permuted = self_attention(permuted, causal=True)(*(x[rows] for x in inputs))
    torch.testing.assert_close(out_permuted, out[rows], rtol=1e-6, atol=1e-6)


def test_rows_sum_to_one_and_a_shift_of_the_keys_changes_nothing() -> None:
    sequences = Sequences.of(LENGTHS["sentences"])
    q, k, _ = fused_qkv(sequences.rows, 2, 16, torch.float32)
    ones = torch.ones_like(k)
    torch.testing.assert_close(self_attention(sequences)(q, k, ones), ones)
    v = torch.randn_like(k)
    shifted = self_attention(sequences)(q, k + 3, v)  # adds the same to all scores of a query
    torch.testing.assert_close(shifted, self_attention(sequences)(q, k, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_values_stay_in_their_sentence(bad: float) -> None:
    sequences = Sequences.of([40, 33, 3, 0, 38])  # 33 and 40 share a padded block
    q, k, v = (x.clone() for x in fused_qkv(sequences.rows, 1, 16, torch.float32))
    clean = self_attention(sequences)(q, k, v)
    for x in (q, k, v):
        x[45] = bad
        x.requires_grad_()
    out = self_attention(sequences)(q, k, v)
    out.sum().backward()
    touched = torch.zeros(sequences.rows, dtype=torch.bool)
    touched[40:73] = True
    torch.testing.assert_close(out[~touched], clean[~touched])
    assert out[45].isnan().any()
    assert all(x.grad[~touched].isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_dropout_draws_the_mask_of_philox(causal: bool, mode, family: str) -> None:
    # Up to 64 keys share a vector of random words with other rows; 150 fill two, over two blocks of keys. In the
    # interpreter, 70 are three tiles.
    lengths, p, seed = [7, 0, 34, 70 if interpreted(family) else 150, 1], 0.3, 2**40 + 11
    sequences = Sequences.of(lengths)
    inputs = fused_qkv(sequences.rows, 2, 16, torch.float32)

    def expected(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        outs = []
        for rows in sequences.slices():
            length = rows.stop - rows.start
            q_s, k_s, v_s = (x[rows].transpose(0, 1) for x in (q, k, v))
            scores = q_s @ k_s.transpose(1, 2) / math.sqrt(16)
            if causal:
                scores = scores.masked_fill(~torch.ones(length, length, dtype=torch.bool).tril(), -math.inf)
            keep = philox.keep_mask(torch.arange(rows.start, rows.stop)[None], 2, length, p, seed)[0]
            kept = torch.softmax(scores, -1) * keep / (1 - philox.threshold(p) / 2**32)
            outs.append((kept @ v_s).transpose(0, 1))
        return torch.cat(outs)

    ours = mode(self_attention(sequences, causal=causal, dropout_p=p, dropout_seed=seed))
    check_against_fp64(ours, expected, inputs, names=NAMES)


def test_dropout_limits_and_seeds(family: str) -> None:
    sequences = Sequences.of(LENGTHS["odd" if interpreted(family) else "sentences"])
    q, k, v = fused_qkv(sequences.rows, 2, 16, torch.float32)

    def run(**options) -> torch.Tensor:
        return self_attention(sequences, **options)(q, k, v)

    assert torch.equal(run(dropout_p=0.0, dropout_seed=3), run())
    assert (run(dropout_p=1.0, dropout_seed=3) == 0).all()
    assert torch.equal(run(dropout_p=0.2, dropout_seed=3), run(dropout_p=0.2, dropout_seed=3))
    assert not torch.equal(run(dropout_p=0.2, dropout_seed=3), run(dropout_p=0.2, dropout_seed=4))
    torch.manual_seed(5)
    drawn = run(dropout_p=0.2), run(dropout_p=0.2)
    torch.manual_seed(5)
    assert torch.equal(run(dropout_p=0.2), drawn[0])
    assert not torch.equal(*drawn)


def test_a_new_dropout_seed_does_not_recompile() -> None:
    sequences = Sequences.of([3, 5])
    q, k, v = fused_qkv(8, 1, 16, torch.float32)
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(
        lambda q, seed: ops.attention(q, k, v, sequences.cu_seqlens, max_seqlen_q=5, dropout_p=0.5, dropout_seed=seed),
        fullgraph=True,
        backend=graphs,
    )
    for seed in (3, 9, 2**40, 77):
        expected = self_attention(sequences, dropout_p=0.5, dropout_seed=seed)(q, k, v)
        torch.testing.assert_close(compiled(q, seed), expected)
    assert graphs.frame_count <= 2  # the seed as a constant, then as a symbol


def test_same_bits_every_time(family: str) -> None:
    sequences = Sequences.of(LENGTHS["odd" if interpreted(family) else "sentences"])
    base = torch.randn(sequences.rows, 3, 1 if interpreted(family) else 4, 32)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        qkv = base.clone().requires_grad_()
        out = self_attention(sequences, dropout_p=0.1, dropout_seed=1)(*qkv.unbind(1))
        out.backward(torch.ones_like(out))
        return out.detach(), qkv.grad

    first = run()
    for _ in range(2 if interpreted(family) else 10):
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


@pytest.mark.parametrize("layout", ["last_dim_strided", "transposed", "row_padded", "unaligned"])
def test_layouts_give_the_bits_of_the_contiguous_copy(layout: str) -> None:
    sequences = Sequences.of([4, 9])
    tensors = [torch.randn(13, 2, 16) for _ in range(3)]
    views = [noncontiguous_views(x)[layout] for x in tensors]
    function = self_attention(sequences)
    assert torch.equal(function(*views), function(*tensors))


@pytest.mark.parametrize("family", ["reference"])
def test_gradcheck_of_the_reference() -> None:
    sequences = Sequences.of([3, 0, 33, 34, 1])  # the two long ones share a block that neither fills
    inputs = [torch.randn(sequences.rows, 1, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    function = self_attention(sequences, causal=True, dropout_p=0.2, dropout_seed=4)
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


def test_autocast_casts_to_its_dtype(mode) -> None:
    sequences = Sequences.of([4, 9])
    q, k, v = fused_qkv(13, 2, 16, torch.float32)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        out = mode(self_attention(sequences))(q, k, v)
    assert out.dtype == torch.bfloat16
    expected = self_attention(sequences)(q.bfloat16(), k.bfloat16(), v.bfloat16())
    torch.testing.assert_close(out, expected)


def test_long_blocks_are_cut_and_short_sentences_share_one() -> None:
    sequences = Sequences.of([200] * 6 + [12] * 50)
    q, k, _ = fused_qkv(sequences.rows, 2, 16, torch.float32)
    _, _, blocks = _blocks.lay_out(q, k, sequences.cu_seqlens, sequences.cu_seqlens, 200, 200)
    shapes = [(block.sequences, block.places_q) for block in blocks]
    assert shapes == [(50, 12), (3, 200), (3, 200)]
    assert all(block.sequences * 2 * block.places_q * block.places_k <= _blocks.SCORES_PER_BLOCK for block in blocks)


def test_padding_wastes_at_most_a_sixteenth() -> None:
    for length in range(1, 2000):
        padded = _blocks._round_up(length)
        assert length <= padded <= length + max(0, (length - 1) // 16)


def test_cu_seqlens_changed_in_place_are_read_again() -> None:
    cu = torch.tensor([0, 3, 8], dtype=torch.int32)
    q, k, v = fused_qkv(8, 1, 16, torch.float32)
    before = ops.attention(q, k, v, cu, max_seqlen_q=8)
    cu[1] = 6
    after = ops.attention(q, k, v, cu, max_seqlen_q=8)
    torch.testing.assert_close(after, per_sentence(Sequences.of([6, 2]), Sequences.of([6, 2]), False)(q, k, v))
    assert not torch.equal(before, after)


def test_meta_and_fake_tensors_give_shapes() -> None:
    cu = torch.zeros(3, dtype=torch.int32)
    with torch._subclasses.FakeTensorMode() as fake_mode:
        q = fake_mode.from_tensor(torch.randn(7, 2, 16))
        assert ops.attention(q, q, q, fake_mode.from_tensor(cu), max_seqlen_q=5).shape == (7, 2, 16)
    q = torch.empty(7, 2, 16, device="meta")
    assert ops.attention(q, q, q, cu.to("meta"), max_seqlen_q=5).shape == (7, 2, 16)


Q, CU = torch.zeros(4, 2, 16), torch.tensor([0, 4], dtype=torch.int32)
REFUSALS = {
    "integers": ((Q.int(), Q, Q, CU), {}, TypeError, "q: dtype torch.int32 is not supported"),
    "rank": ((Q[0], Q, Q, CU), {}, ValueError, r"q: shape \(2, 16\) is not \(T_q, H, D\)"),
    "mixed_dtypes": ((Q, Q.half(), Q, CU), {}, TypeError, "k: dtype torch.float16 differs from q's torch.float32"),
    "mixed_devices": ((Q, Q, Q.to("meta"), CU), {}, ValueError, "v: on meta, but q is on cpu"),
    "heads": ((Q, Q, Q[:, :1], CU), {}, ValueError, r"v: shape \(4, 1, 16\) must be \(T_k, 2, 16\)"),
    "value_rows": ((Q, Q, Q[:3], CU), {}, ValueError, "v: 3 rows, but k has 4"),
    "key_rows": (
        (Q, Q[:3], Q[:3], CU),
        {},
        ValueError,
        "k: 3 rows, but q has 4; for cross-attention pass cu_seqlens_k",
    ),
    "float_cu_seqlens": ((Q, Q, Q, CU.float()), {}, TypeError, "cu_seqlens_q: dtype torch.float32"),
    "empty_cu_seqlens": ((Q, Q, Q, CU[:0]), {}, ValueError, r"cu_seqlens_q: shape \(0,\) is not \(B\+1,\)"),
    "device_of_cu_seqlens": ((Q, Q, Q, CU.to("meta")), {}, ValueError, "cu_seqlens_q: on meta"),
    "other_count": ((Q, Q, Q, CU, CU[:1]), {"max_seqlen_k": 4}, ValueError, "cu_seqlens_k: describes 0 sequences"),
    "no_max_seqlen_k": ((Q, Q, Q, CU, CU), {}, ValueError, "max_seqlen_k: missing"),
    "max_seqlen_k_alone": ((Q, Q, Q, CU), {"max_seqlen_k": 4}, ValueError, "max_seqlen_k: given without cu_seqlens_k"),
    "dropout": ((Q, Q, Q, CU), {"dropout_p": 1.1}, ValueError, r"dropout_p: 1.1 is outside \[0, 1\]"),
    "falling": ((Q, Q, Q, torch.tensor([0, 3, 2])), {}, ValueError, "cu_seqlens_q: runs from 0 to 2 .* never fall"),
    "beyond": ((Q, Q, Q, torch.tensor([0, 5])), {}, ValueError, "cu_seqlens_q: runs from 0 to 5 over 4 rows"),
    "max_seqlen_q": ((Q, Q, Q, CU), {"max_seqlen_q": 3}, ValueError, "max_seqlen_q: 3, but the longest .* has 4 rows"),
}


@pytest.mark.cpu_only("Python refuses before any device is asked")
@pytest.mark.parametrize(("tensors", "options", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_name_the_tensor(tensors, options, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.attention(*tensors, **{"max_seqlen_q": 4, **options})
