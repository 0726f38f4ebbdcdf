"""The classifier: each pooling against a plain computation a text, learning, freezing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastlm.batch import Batch
from fastlm.errors import ConfigError
from fastlm.models import build
from fastlm.models.classifier import FILTER_WIDTHS, TextClassifier
from fastlm.models.classify import batch_of, classify
from fastlm.models.config import ModelConfig

VOCAB, LABELS = 60, ("a", "b", "c")
SIZES = {"layers": 2, "d_model": 32, "heads": 2, "ff": 64, "seq_len": 16, "vocab_size": VOCAB}
TEXTS = [[2, 9, 10, 11, 12, 13, 14, 3], [2, 3], [2, 20, 3], [2, 30, 31, 32, 33, 3], [2]]
every_pooling = pytest.mark.parametrize("pooling", ["mean", "first", "cnn"])


def make_model(pooling: str, dropout: float = 0.0) -> TextClassifier:
    torch.manual_seed(0)
    config = ModelConfig(model="classifier", pooling=pooling, labels=LABELS, dropout=dropout, **SIZES)
    model = build(config)
    assert isinstance(model, TextClassifier)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    return model


def with_targets(texts: list[list[int]], targets: list[int]) -> Batch:
    batch, count = batch_of(texts, torch.device("cpu")), len(texts)
    return dataclasses.replace(
        batch,
        target_rows=batch.cu_seqlens[:-1].long(),
        targets=torch.tensor(targets),
        target_sentences=torch.arange(count),
        sentence_ids=torch.arange(count),
    )


def plainly_pooled(model: TextClassifier, hidden: Tensor) -> Tensor:
    """Of one text's states (n, d)."""
    pooling = model.pooling
    if model.config.pooling == "mean":
        return hidden.mean(0)
    if model.config.pooling == "first":
        return torch.tanh(F.linear(hidden[0], pooling.dense.weight, pooling.dense.bias))
    found = []
    for filters, width in zip(pooling.filters, FILTER_WIDTHS, strict=True):
        padded = torch.cat([hidden, hidden.new_zeros(width - 1, hidden.shape[1])])
        windows = [
            torch.einsum("fdw,wd->f", filters.weight, padded[i : i + width]) + filters.bias for i in range(len(hidden))
        ]
        found.append(torch.stack(windows).relu().amax(0))
    return torch.cat(found)


@every_pooling
def test_packed_texts_are_pooled_each_by_itself(pooling: str) -> None:
    model = make_model(pooling).eval()
    with torch.no_grad():
        logits = model(batch_of(TEXTS, model.device))
        for i, text in enumerate(TEXTS):
            alone = batch_of([text], model.device)
            hidden = model.encoder.hidden_states(alone.tokens, alone.positions, alone.cu_seqlens, alone.max_seqlen)
            wanted = model.output(plainly_pooled(model, hidden))
            torch.testing.assert_close(logits[i], wanted, rtol=1e-4, atol=1e-5)


@every_pooling
def test_the_loss_is_the_cross_entropy_of_the_logits(pooling: str) -> None:
    model, targets = make_model(pooling), [0, 2, 1, 2, 0]
    batch = with_targets(TEXTS, targets)
    for smoothing in (0.0, 0.1):
        output = model.loss(batch, label_smoothing=smoothing)
        logits = model(batch)
        wanted = F.cross_entropy(logits, torch.tensor(targets), reduction="sum", label_smoothing=smoothing)
        torch.testing.assert_close(output.loss, wanted, rtol=1e-4, atol=1e-5)
    assert output.row_correct.tolist() == (logits.argmax(-1) == torch.tensor(targets)).tolist()
    ours = torch.autograd.grad(output.loss, list(model.parameters()))
    theirs = torch.autograd.grad(wanted, list(model.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@every_pooling
def test_an_empty_batch_gives_zero(pooling: str) -> None:
    model = make_model(pooling)
    empty = torch.empty(0, dtype=torch.int64)
    batch = Batch(empty, empty, torch.zeros(1, dtype=torch.int32), 0, empty, empty, empty, empty)
    output = model.loss(batch)
    output.loss.backward()
    assert output.loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@every_pooling
def test_texts_are_learnt_by_heart(pooling: str) -> None:
    generator = torch.Generator().manual_seed(1)
    texts = [[2, *torch.randint(7, VOCAB, (3 + i % 5,), generator=generator).tolist(), 3] for i in range(24)]
    targets = [i % 3 for i in range(24)]
    model = make_model(pooling)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(with_targets(texts, targets), reduction="mean").loss.backward()
        optimizer.step()
    found = classify(model, texts, batch_tokens=20)
    assert found.argmax(-1).tolist() == targets
    torch.testing.assert_close(found.sum(-1), torch.ones(24))
    torch.testing.assert_close(classify(model, texts), found, rtol=1e-3, atol=1e-4)


def test_dropout_is_that_of_training_alone() -> None:
    model = make_model("first", dropout=0.3)
    batch = with_targets(TEXTS, [0] * 5)
    assert model.loss(batch).loss != model.loss(batch).loss
    assert classify(model, TEXTS).equal(classify(model, TEXTS))
    assert model.training


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_freezing(layers: int) -> None:
    model = make_model("mean")
    model.freeze(layers)
    model.loss(with_targets(TEXTS, [0, 1, 2, 0, 1])).loss.backward()
    learns = [i for i, block in enumerate(model.encoder.blocks) if all(p.grad is not None for p in block.parameters())]
    still = [i for i, block in enumerate(model.encoder.blocks) if all(p.grad is None for p in block.parameters())]
    assert (still, learns) == (list(range(2 - layers)), list(range(2 - layers, 2)))
    assert model.encoder.embedding.tokens.weight.grad is None
    assert model.encoder.final_norm.weight.grad is not None and model.output.weight.grad is not None


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs two labels, and has 1"):
        build(ModelConfig(model="classifier", labels=("a",), **SIZES))
    with pytest.raises(ConfigError, match="a classifier takes --head tied"):
        ModelConfig(model="classifier", labels=LABELS, head="transform", **SIZES)
    with pytest.raises(ConfigError, match="--trained-layers 3: the encoder has 2"):
        make_model("mean").freeze(3)
    with pytest.raises(ValueError, match="text 1 has 17 tokens; the model reads 1 to 16"):
        classify(make_model("mean"), [[2, 3], [2] * 17])
    assert classify(make_model("mean"), []).shape == (0, 3)
