"""Embeddings: what is added, what is normalised, what is drawn."""

from __future__ import annotations

import math

import pytest
import torch

from fastlm.nn.embedding import PackedEmbedding, sinusoids

VOCAB, D, SEQ_LEN = 20, 32, 8


def make_embedding(positions: str, dropout: float = 0.0) -> PackedEmbedding:
    torch.manual_seed(0)
    return PackedEmbedding(VOCAB, D, SEQ_LEN, positions=positions, dropout=dropout, std=0.02)


def test_sinusoids_are_the_papers() -> None:
    table = sinusoids(50, 12)
    for place, column in ((0, 0), (0, 1), (3, 0), (3, 1), (7, 4), (49, 11)):
        angle = place / 10_000 ** (2 * (column // 2) / 12)
        want = math.cos(angle) if column % 2 else math.sin(angle)
        assert table[place, column].item() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("width", [11, 12])
def test_sinusoids_have_the_width_asked_for(width: int) -> None:
    assert sinusoids(5, width).shape == (5, width)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_positions_weigh_as_much_as_tokens_at_the_start(positions: str) -> None:
    embedding = make_embedding(positions)
    table = embedding.positions.weight if positions == "learned" else embedding.sinusoids
    assert table.pow(2).mean().sqrt().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("positions", "matters"), [("learned", True), ("sinusoidal", True), ("rotary", False)])
def test_place_matters_unless_attention_adds_it(positions: str, matters: bool) -> None:
    x = make_embedding(positions)(torch.tensor([5, 5]), torch.tensor([0, 6]))
    assert torch.equal(x[0], x[1]) is not matters


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_result_is_normalised(positions: str) -> None:
    x = make_embedding(positions)(torch.arange(VOCAB), torch.arange(VOCAB) % SEQ_LEN)
    torch.testing.assert_close(x.mean(-1), torch.zeros(VOCAB), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.var(-1, correction=0), torch.ones(VOCAB), rtol=0.1, atol=0)


def test_dropout_in_training_only() -> None:
    embedding = make_embedding("learned", dropout=0.5)
    tokens, places = torch.arange(VOCAB), torch.arange(VOCAB) % SEQ_LEN
    dropped = (embedding(tokens, places) == 0).float().mean().item()
    assert dropped == pytest.approx(0.5, abs=0.1)
    assert not (embedding.eval()(tokens, places) == 0).any()


@pytest.mark.parametrize("id_and_place", [(VOCAB, 0), (0, SEQ_LEN)])
def test_what_is_not_in_a_table_is_refused(id_and_place: tuple[int, int]) -> None:
    token, place = id_and_place
    with pytest.raises(IndexError):
        make_embedding("learned")(torch.tensor([token]), torch.tensor([place]))
