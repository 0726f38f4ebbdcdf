"""Recipes: all 25 are there and run at every scale, and a fault in one is named."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from fastlm.config import update
from fastlm.errors import ConfigError
from fastlm.record import recipe, toml
from fastlm.record.scale import SCALES, scaled, share_factor, vocabulary
from fastlm.train.config import RunConfig
from tests.record.conftest import CASE


def test_the_cases_are_1_to_25_and_say_what_they_are() -> None:
    assert recipe.names() == [f"case-{n:02}" for n in range(1, 26)]
    for name in recipe.names():
        found = recipe.find(name)
        assert found.title and found.compares and found.original.observed and found.corpus.text, name
        assert found.runs, name
        for run in found.runs.values():
            assert (run.model.model, run.train.optimizer in ("adam-l2", "adamw"), run.train.epochs > 0) == (
                *("encoder", True),
                True,
            )


def test_the_seeds_facts() -> None:
    """training_record.md: what cases 1 to 6 have in common and what each compares."""
    runs = {n: recipe.find(str(n)).runs for n in range(1, 7)}
    for cases in runs.values():
        for config in cases.values():
            model, data, train = config.model, config.data, config.train
            assert (model.heads, model.ff, model.dropout, model.seq_len, data.batch_size) == (8, 2048, 0.1, 256, 256)
            assert (train.lr, model.activation, model.norm, model.head) == (5e-4, "relu", "pre", "tied")
    assert {c.model.layers for c in runs[1].values()} == {4, 6} and runs[1]["layers-4"].train.weight_decay == 0
    assert {(c.train.optimizer, c.train.weight_decay) for c in runs[2].values()} == {("adam-l2", 0.01), ("adamw", 0.01)}
    assert {(c.model.d_model, c.model.layers) for c in runs[3].values()} == {(768, 3), (512, 6)}
    assert {c.data.masking for c in runs[4].values()} == {"static", "dynamic"}
    assert {c.train.weight_decay for c in runs[5].values()} == {1e-3, 1e-4}
    assert {c.model.layers for c in runs[6].values()} == {2, 3, 6}
    assert {c.data.languages for n in (4, 5) for c in runs[n].values()} == {("ko",)}
    assert {c.data.vocab_languages for c in runs[6].values()} == {("en",)}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", recipe.names())
def test_every_run_can_be_scaled_and_stays_different_from_the_others(name: str, scale: str) -> None:
    runs = recipe.find(name).runs
    sized = {run: scaled(config, SCALES[scale]) for run, config in runs.items()}
    assert len(set(sized.values())) == len(runs), "two runs have become the same"
    for run, config in runs.items():
        small = sized[run]
        for section, fields in {
            "model": ("layers", "dropout", "activation", "head"),
            "data": ("masking", "share", "languages"),
            "train": ("lr", "weight_decay", "optimizer", "schedule"),
        }.items():
            for field in fields:
                assert getattr(getattr(small, section), field) == getattr(getattr(config, section), field)
    for field, section in (("d_model", "model"), ("ff", "model"), ("batch_size", "data"), ("epochs", "train")):
        before = [getattr(getattr(c, section), field) for c in runs.values()]
        after = [getattr(getattr(c, section), field) for c in sized.values()]
        assert [x / before[0] for x in before] == pytest.approx([x / after[0] for x in after]), field


def test_scaled_vocabularies_keep_their_order_and_their_bytes() -> None:
    for scale in SCALES.values():
        sizes = [vocabulary(size, scale) for size in (263, 7458, 12458, 22458, 32458, 52458)]
        assert sizes == sorted(set(sizes)) and sizes[0] == 263
    assert vocabulary(52458, SCALES["cpu"]) == 7996


def test_the_share_brings_the_longest_run_down_to_the_scales_sentences() -> None:
    assert share_factor([32 * 3e6, 6 * 3e6], SCALES["cpu"]) * 32 * 3e6 == pytest.approx(96_000)
    assert share_factor([50.0], SCALES["cpu"]) == 1.0
    assert share_factor([1e9], SCALES["full"]) == 1.0


def test_schedules_that_count_epochs_stretch_with_them() -> None:
    restarts = recipe.find("12").runs["restarts-1e-3"]
    small = scaled(restarts, SCALES["small"])
    assert small.train.epochs / small.train.restart_epochs == restarts.train.epochs / restarts.train.restart_epochs
    exponential = recipe.find("10").runs["lr-5e-4"]
    small = scaled(exponential, SCALES["small"])
    ends = [c.train.lr_decay**c.train.epochs for c in (exponential, small)]
    assert ends[0] == pytest.approx(ends[1])


def test_a_run_comes_back_from_its_toml() -> None:
    for name in recipe.names():
        for config in recipe.find(name).runs.values():
            assert update(RunConfig(), tomllib.loads(toml.of_config(config))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("layers = 2", "layrs = 2"), r"toy.toml: \[runs.layers-2\]: unknown key 'layrs' \(did you mean layers\?\)"),
        (("layers = 2", "layers = 0"), r"\[runs.layers-2\]: layers: 0 is outside the allowed range"),
        (("heads = 2", "heads = 3"), r"\[base\]: --d-model 32 is not a multiple of --heads 3"),
        (("date =", "dat ="), r"unknown key 'dat' \(did you mean date\?\)"),
        (("vocabulary =", "vocabulry ="), r"\[corpus\]: unknown key 'vocabulry' \(did you mean vocabulary\?\)"),
        (("vocabulary = 400", 'vocabulary = "many"'), r"\[corpus\] vocabulary: 'many' is not a whole number"),
        (
            ('by = "epoch"', 'by = "epochs"'),
            r"'epochs' is not one of epoch, step, tokens, time \(did you mean epoch\?\)",
        ),
        (('languages = ["ko", "en"]', 'languages = "ko"'), r"\[corpus\] languages: 'ko' is not a list of texts"),
        (("[runs.layers-2]", "[runs.'two layers']"), "a run's name has small letters"),
        (("heads = 2", 'data = ["x"]'), "data does not belong here"),
        (("heads = 2", "heads = "), "toy.toml: not TOML"),
    ],
)
def test_a_fault_in_a_recipe_is_named(change: tuple[str, str], message: str) -> None:
    assert change[0] in CASE
    with pytest.raises(ConfigError, match=message):
        recipe.parse(CASE.replace(*change), "toy", "toy.toml")


def test_recipes_are_package_data() -> None:
    assert (resources.files("fastlm.record") / "recipes" / "case-01.toml").is_file()
    with open("pyproject.toml", "rb") as file:
        assert "recipes/*.toml" in tomllib.load(file)["tool"]["setuptools"]["package-data"]["fastlm.record"]
