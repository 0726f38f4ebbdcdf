"""The sentence lengths that benchmarks draw from text stand for all of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CONFTEST = Path(__file__).parents[1] / "benchmarks" / "conftest.py"


@pytest.fixture(scope="module")
def benchmarks() -> Any:
    """What the benchmarks share, as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_conftest", CONFTEST)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("count", [1, 4, 24, 256])
def test_a_sample_has_the_populations_mean_and_spread(benchmarks: Any, count: int) -> None:
    population = np.minimum(3 + np.random.default_rng(1).geometric(0.05, 10_007), 256)
    sample = benchmarks.sampled_lengths(population, count)
    assert sample.shape == (count,)
    assert abs(sample.mean() - population.mean()) <= 0.5 / count
    expected = [part.mean() for part in np.array_split(np.sort(population), count)]
    np.testing.assert_allclose(sample, expected, atol=1.1)


def test_a_sample_of_the_whole_is_the_whole(benchmarks: Any) -> None:
    population = np.array([5, 3, 9, 3])
    assert benchmarks.sampled_lengths(population, 4).tolist() == [3, 3, 5, 9]


def test_lengths_of_text_are_those_of_its_training_sentences(
    benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTLM_CACHE", str(tmp_path / "cache"))
    lines = [f"sentence number {i}" for i in range(40)]
    (tmp_path / "en.txt").write_text("\n".join([*lines, "long " * 2000]) + "\n")
    found = benchmarks.text_lengths([str(tmp_path / "en.txt")])
    assert 30 <= len(found) <= 41  # a tenth is held out
    assert found.min() > benchmarks.SPECIALS
    assert found.max() <= benchmarks.LONGEST
