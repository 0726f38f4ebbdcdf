"""Scores against sums taken by hand, and the unigram baseline against its formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from fastlm.batch import Batch
from fastlm.config import update
from fastlm.data.loader import validation
from fastlm.data.prepare import prepared
from fastlm.data.store import Store
from fastlm.models.factory import build
from fastlm.models.language_model import LanguageModel
from fastlm.train.config import RunConfig
from fastlm.train.evaluate import evaluate, token_counts, unigram_loss

Opened = tuple[RunConfig, Store, LanguageModel]


@pytest.fixture(params=["encoder", "decoder"])
def opened(request: pytest.FixtureRequest, make_config: Callable[..., RunConfig]) -> Opened:
    config = make_config(model=request.param, dropout=0.5)
    store = prepared(config.data, config.model.vocab_size, progress=False)
    config = update(config, {"vocab_size": store.tokenizer.vocab_size})
    torch.manual_seed(0)
    return config, store, build(config.model)


def batches(config: RunConfig, store: Store, **options: int) -> Iterator[Batch]:
    return validation(store, config.model, config.data, sentences=40, **options)


def test_scores_equal_a_loop_over_targets(opened: Opened) -> None:
    config, store, model = opened
    model.train()
    scores = evaluate(model, batches(config, store, batch_tokens=200), store)
    assert model.training
    sums: dict[str, list[float]] = {}
    model.eval()
    for batch in batches(config, store, batch_tokens=200):
        with torch.no_grad():
            logits = model(batch.tokens, batch.positions, batch.cu_seqlens, batch.max_seqlen, batch.target_rows)
        nats = torch.nn.functional.cross_entropy(logits.double(), batch.targets, reduction="none")
        for i, target in enumerate(batch.targets.tolist()):
            sentence = int(batch.sentence_ids[batch.target_sentences[i]])
            right = float(logits[i].argmax() == target)
            for key in ("all", store.language_names[store.languages[sentence]]):
                row = sums.setdefault(key, [0.0] * 4)
                for column, value in enumerate((float(nats[i]), right, 1, store.tokenizer.token_characters[target])):
                    row[column] += value
    for key, score in {"all": scores.overall, **scores.languages}.items():
        loss, right, count, characters = sums[key]
        assert score.targets == count
        assert score.loss == pytest.approx(loss / count, rel=1e-5)
        assert score.accuracy == pytest.approx(right / count)
        assert score.bits_per_character == pytest.approx(loss / np.log(2) / characters, rel=1e-5)
    assert set(scores.languages) == {"ko", "en"}
    assert sum(score.targets for score in scores.domains.values()) == scores.overall.targets


def test_batching_does_not_change_the_scores(opened: Opened) -> None:
    config, store, model = opened
    small, large = (evaluate(model, batches(config, store, batch_tokens=n), store) for n in (60, 5000))
    assert small.overall.targets == large.overall.targets
    assert small.overall.loss == pytest.approx(large.overall.loss, rel=1e-5)


def test_no_batches_give_no_scores(opened: Opened) -> None:
    _, store, model = opened
    scores = evaluate(model, [], store)
    assert scores.overall.targets == 0
    assert scores.overall.loss != scores.overall.loss
    assert scores.languages == {}


def test_token_counts_are_the_training_text(opened: Opened) -> None:
    config, store, _ = opened
    ids = store.select("train", config.data)
    expected = np.zeros(store.tokenizer.vocab_size, dtype=np.int64)
    for i in ids:
        np.add.at(expected, store.tokens[store.offsets[i] : store.offsets[i + 1]].astype(np.int64), 1)
    assert np.array_equal(token_counts(store, ids, ends=False), expected)
    expected[store.tokenizer.eos_id] += len(ids)
    assert np.array_equal(token_counts(store, ids, ends=True), expected)


def test_unigram_loss_is_the_cross_entropy_of_the_targets(opened: Opened) -> None:
    config, store, _ = opened
    counts = token_counts(store, store.select("train", config.data), ends=config.model.model == "decoder")
    scores = unigram_loss(counts, batches(config, store), store)
    targets = torch.cat([batch.targets for batch in batches(config, store)]).numpy()
    p = (counts + 1) / (counts.sum() + len(counts))
    assert scores.overall.loss == pytest.approx(-np.log(p[targets]).mean())
    assert scores.overall.accuracy == pytest.approx((targets == counts.argmax()).mean())
    assert 0 < scores.overall.loss < np.log(len(counts))
