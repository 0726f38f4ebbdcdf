"""A classifier trained by the one trainer: begun from an encoder, resumed, and scored."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from fastlm.errors import CheckpointError, ConfigError
from fastlm.models.config import ModelConfig
from fastlm.train import checkpoint, metrics
from fastlm.train.classification import Classification, draw_confusion
from fastlm.train.config import RunConfig
from fastlm.train.trainer import train

WORDS = {"0": ["나쁘다", "지루하다", "별로다"], "1": ["좋다", "멋지다", "최고다"]}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The class is a matter of one word among others."""
    draw = random.Random(3)
    path = tmp_path_factory.mktemp("reviews") / "train.tsv"
    rows = []
    for _ in range(300):
        label = draw.choice("01")
        words = [*draw.choices(["영화", "배우", "음악", "오늘", "우리는"], k=3), draw.choice(WORDS[label])]
        draw.shuffle(words)
        rows.append(f"{' '.join(words)}\t{label}\n")
    path.write_text("document\tlabel\n" + "".join(rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def encoder(make_config: Callable[..., RunConfig]) -> Path:
    return train(make_config(model="encoder", head="transform", max_steps=4), console=Console(file=io.StringIO()))


def classifier_config(
    make_config: Callable[..., RunConfig], encoder: Path, reviews: str, **values: object
) -> RunConfig:
    base = {
        "model": "classifier",
        "data": (reviews,),
        "tokenizer": str(encoder / "tokenizer.json"),
        "init": str(encoder),
        "batch_size": 32,
        "lr": 3e-3,
    }
    return make_config(**{**base, **values})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(run, "latest").model.state_dict())


@pytest.mark.parametrize("pooling", ["mean", "first", "cnn"])
def test_a_classifier_learns(
    make_config: Callable[..., RunConfig], encoder: Path, reviews: str, pooling: str, tmp_path: Path
) -> None:
    config = classifier_config(
        make_config, encoder, reviews, pooling=pooling, max_steps=60, run=str(tmp_path / "classifier")
    )
    shown = io.StringIO()
    run = train(config, console=Console(file=shown, width=200))
    lines = [line for line in metrics.read(run / "metrics.jsonl") if line["split"] == "valid"]
    assert lines[-1]["accuracy"] > 0.9
    assert lines[-1]["bits_per_character"] is None and set(lines[-1]["domains"]) == {"0", "1"}
    assert not (run / "charts" / "bits_per_character.png").exists() and (run / "charts" / "accuracy.png").exists()
    assert checkpoint.load(run).config.model.labels == ("0", "1")
    assert "baseline unigram cross-entropy of validation targets 0.69" in shown.getvalue()


def test_the_encoder_is_where_it_begins(
    make_config: Callable[..., RunConfig], encoder: Path, reviews: str, tmp_path: Path
) -> None:
    """Frozen and with a rate of 0, its encoder is still the other run's."""
    frozen = classifier_config(
        make_config, encoder, reviews, max_steps=2, trained_layers=0, run=str(tmp_path / "frozen")
    )
    after = weights(train(frozen, console=Console(file=io.StringIO())))
    before = checkpoint.load(encoder).model.state_dict()
    kept = [name for name in before if not name.startswith(("head.", "final_norm."))]
    assert all(torch.equal(after[f"encoder.{name}"], before[name]) for name in kept)
    assert not torch.equal(after["encoder.final_norm.weight"], before["final_norm.weight"])


def test_a_resumed_classifier_is_the_same(
    make_config: Callable[..., RunConfig], encoder: Path, reviews: str, tmp_path: Path
) -> None:
    options = {"dropout": 0.1, "eval_every": 3, "trained_layers": 1}
    whole = train(
        classifier_config(make_config, encoder, reviews, max_steps=9, run=str(tmp_path / "whole"), **options),
        console=Console(file=io.StringIO()),
    )
    parts = {"run": str(tmp_path / "parts"), **options}
    train(classifier_config(make_config, encoder, reviews, max_steps=5, **parts), console=Console(file=io.StringIO()))
    resumed = train(
        classifier_config(make_config, encoder, reviews, max_steps=9, resume="auto", **parts),
        console=Console(file=io.StringIO()),
    )
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_cannot_begin_is_refused(
    make_config: Callable[..., RunConfig], encoder: Path, reviews: str, tmp_path: Path
) -> None:
    def refused(kind: type[Exception], message: str, **values: object) -> None:
        config = classifier_config(make_config, encoder, reviews, max_steps=1, run=str(tmp_path / "no"), **values)
        with pytest.raises(kind, match=message):
            train(config, console=Console(file=io.StringIO()))

    refused(CheckpointError, "it has --layers", layers=3)
    refused(ConfigError, "reads with an encoder's tokenizer", tokenizer="byte", init="")
    refused(ConfigError, "--graphs takes language models", graphs=True)
    with pytest.raises(ConfigError, match="--trained-layers is a classifier's"):
        train(make_config(model="encoder", trained_layers=1, max_steps=1), console=Console(file=io.StringIO()))


def test_scores_by_hand() -> None:
    found = Classification(("a", "b", "c"), np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]]))
    assert found.accuracy == pytest.approx(7 / 10)
    assert found.classes["a"].precision == pytest.approx(3 / 5) and found.classes["a"].recall == pytest.approx(3 / 4)
    assert found.classes["b"].f1 == pytest.approx(2 * 4 / (5 + 6))
    assert found.classes["c"].f1 == 0
    assert found.macro_f1 == pytest.approx((6 / 9 + 8 / 11) / 2)  # c occurs on neither side
    assert found.as_json()["texts"] == 10


@pytest.mark.parametrize("classes", [2, 30])
def test_the_picture(classes: int, tmp_path: Path) -> None:
    labels = tuple(f"분류 {i}" for i in range(classes))
    counts = np.random.default_rng(0).integers(0, 2000, (classes, classes))
    draw_confusion(Classification(labels, counts), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5_000


def test_make_config_knows_a_models_fields() -> None:
    assert ModelConfig(model="classifier", labels=("a", "b")).side("encoder") == ModelConfig(model="encoder")
