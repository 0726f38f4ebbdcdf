"""From a recipe to runs: stores, domains by pattern, shares that keep their ratios."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlm.data.config import DataConfig
from fastlm.data.demo import generate
from fastlm.errors import ConfigError
from fastlm.record import recipe
from fastlm.record.plan import Planned, planned
from fastlm.record.scale import SCALES
from tests.record.conftest import CASE

HEAD = CASE.split("[runs.layers-1]")[0]


@pytest.fixture
def reading(tmp_path: Path) -> DataConfig:
    """Two domains, 구어체 and 뉴스(1), of 200 pairs each."""
    pairs = generate(pairs=400)
    for domain, part in (("구어체", pairs[:200]), ("3_뉴스(1)", pairs[200:])):
        for language, side in (("ko", 0), ("en", 1)):
            lines = "".join(pair[side] + "\n" for pair in part)
            (tmp_path / f"{domain}.{language}").write_text(lines, encoding="utf-8")
    return DataConfig(data=(str(tmp_path),), cache=str(tmp_path / ".cache"))


def plan(toml: str, reading: DataConfig, scale: str = "full") -> Planned:
    return planned(recipe.parse(toml, "toy", "toy.toml"), SCALES[scale], reading)


def sentences(made: Planned, run: str) -> int:
    return len(made.stores[run].select("train", made.runs[run].data))


def test_runs_of_one_vocabulary_share_a_store(reading: DataConfig) -> None:
    made = plan(HEAD + "[runs.a]\nlayers = 1\n[runs.b]\nlayers = 2\n[runs.c]\nvocab-size = 350\n", reading)
    assert made.stores["a"] is made.stores["b"] is not made.stores["c"]
    assert made.runs["a"].data.data == (str(made.stores["a"].path),)
    assert {run: config.model.vocab_size for run, config in made.runs.items()} == {"a": 400, "b": 400, "c": 350}


def test_a_vocabulary_of_one_language_is_trained_on_it_alone(reading: DataConfig) -> None:
    english = HEAD.replace("vocabulary = 400", 'vocabulary = 400\nvocabulary_languages = ["en"]')
    tokenizer = plan(english + "[runs.a]\n", reading).stores["a"].tokenizer
    assert all(tokenizer.decode([n]).isascii() for n in range(263, 400))
    both = plan(HEAD + "[runs.a]\n", reading).stores["a"].tokenizer
    assert not all(both.decode([n]).isascii() for n in range(263, 400))


def test_domains_are_patterns(reading: DataConfig) -> None:
    made = plan(HEAD + '[runs.news]\ndomains = ["*뉴스*"]\n[runs.all]\n', reading)
    assert made.runs["news"].data.domains == ("3_뉴스(1)",)
    assert sentences(made, "news") < sentences(made, "all")
    with pytest.raises(ConfigError, match=r"toy: no domain of the text is like '\*법률\*'; it has 3_뉴스\(1\), 구어체"):
        plan(HEAD + '[runs.law]\ndomains = ["*법률*"]\n', reading)


def test_scaled_shares_keep_their_ratio_and_the_longest_run_its_length(reading: DataConfig) -> None:
    wide = HEAD.replace("d-model = 32", "d-model = 128").replace("heads = 2", "heads = 8").replace("= 400", "= 9000")
    fifth = "[runs.fifth]\nshare = 0.2\n[runs.all]\nshare = 1.0\n"
    made = plan(wide.replace("epochs = 4.0", "epochs = 32.0") + fifth, reading, "small")
    assert sentences(made, "all") * made.runs["all"].train.epochs == pytest.approx(192, abs=2)
    assert sentences(made, "all") / sentences(made, "fifth") == pytest.approx(5, rel=0.05)


def test_a_run_needs_epochs(reading: DataConfig) -> None:
    with pytest.raises(ConfigError, match="run a: give epochs"):
        plan(HEAD.replace("epochs = 4.0", "max-steps = 4") + "[runs.a]\n", reading)
