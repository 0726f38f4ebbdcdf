"""Self-attention's projections, query selection and rotary positions (the op itself is tested in tests/ops)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastlm import ops
from fastlm.nn.attention import RotaryPositions, SelfAttention, Sequences, rotate, select_queries

T, HEADS, HEAD_DIM = 12, 2, 16
CU_SEQLENS = torch.tensor([0, 5, 5, 6, 12], dtype=torch.int32)  # one empty sentence
SEQUENCES = Sequences(CU_SEQLENS, 6)


def make_attention(**settings: object) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(HEADS * HEAD_DIM, HEADS, **{"causal": False, "dropout": 0.0, **settings})


def inputs() -> Tensor:
    return torch.randn(T, HEADS * HEAD_DIM, generator=torch.Generator().manual_seed(1))


def test_queries_count_the_rows_of_each_sentence() -> None:
    queries = select_queries(torch.tensor([0, 4, 6, 7, 11]), SEQUENCES)
    assert queries.cu_seqlens.tolist() == [0, 2, 2, 2, 5]
    assert queries.cu_seqlens.dtype == torch.int32
    assert queries.max_seqlen == 5
    none = select_queries(torch.empty(0, dtype=torch.int64), SEQUENCES)
    assert none.cu_seqlens.tolist() == [0, 0, 0, 0, 0] and none.max_seqlen == 0


@pytest.mark.parametrize("rotary", [False, True])
def test_restricted_queries_give_the_rows_of_the_full_result(rotary: bool) -> None:
    attention, x = make_attention(), inputs()
    positions = torch.cat([torch.arange(n) for n in CU_SEQLENS.diff().tolist()])
    sequences = SEQUENCES._replace(rotation=RotaryPositions(HEAD_DIM, 6)(positions)) if rotary else SEQUENCES
    rows = torch.tensor([1, 2, 5, 11])
    full = attention(x, sequences)[rows]
    restricted = attention(x, sequences, select_queries(rows, sequences))
    torch.testing.assert_close(restricted, full)
    by_parameter = [torch.autograd.grad(y.pow(2).sum(), list(attention.parameters())) for y in (full, restricted)]
    for want, got in zip(*by_parameter, strict=True):
        torch.testing.assert_close(got, want)


def test_queries_keys_and_values_are_views_of_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    real = ops.attention

    def spy(q: Tensor, k: Tensor, v: Tensor, *args: object, **options: object) -> Tensor:
        seen.extend((q, k, v))
        return real(q, k, v, *args, **options)

    monkeypatch.setattr(ops, "attention", spy)
    make_attention()(inputs(), SEQUENCES)
    q, k, v = seen
    storage = q.untyped_storage()
    assert storage.nbytes() == T * 3 * HEADS * HEAD_DIM * 4
    assert storage.data_ptr() == k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr()


def test_dropout_follows_mode_and_seed() -> None:
    attention, x = make_attention(dropout=0.5), inputs()
    one, again, two = (attention(x, SEQUENCES, dropout_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, two)
    attention.eval()
    assert torch.equal(attention(x, SEQUENCES, dropout_seed=1), attention(x, SEQUENCES, dropout_seed=2))


def test_rotation_keeps_lengths_and_turns_scores_by_the_distance_only() -> None:
    """The score of two tokens depends on how far apart they are, not on where (Su et al. 2021, section 3.2)."""
    rotary = RotaryPositions(HEAD_DIM, 40)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, HEAD_DIM, generator=generator)

    def at(x: Tensor, place: int) -> Tensor:
        return rotate(x, rotary(torch.tensor([place])))

    torch.testing.assert_close(at(q, 0), q)
    torch.testing.assert_close(at(q, 17).norm(), q.norm())
    score = (at(q, 9) * at(k, 4)).sum()
    torch.testing.assert_close((at(q, 37) * at(k, 32)).sum(), score, rtol=1e-4, atol=1e-5)
    assert not torch.isclose((at(q, 9) * at(k, 6)).sum(), score)


def test_rotation_keeps_the_dtype() -> None:
    x = torch.randn(3, HEADS, HEAD_DIM, dtype=torch.bfloat16)
    assert rotate(x, RotaryPositions(HEAD_DIM, 8)(torch.arange(3))).dtype == torch.bfloat16
