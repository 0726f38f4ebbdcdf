"""Small stores for the tests of fastlm.data."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlm.data.config import DataConfig
from fastlm.data.prepare import prepare
from fastlm.data.store import Store

WORDS = "the river runs past old houses where seven quiet people read long letters and drink tea".split()  # noqa: SIM905
KOREAN = "강은 오래된 집들 옆을 흐르고 조용한 사람 일곱이 긴 편지를 읽으며 차를 마신다".split()  # noqa: SIM905


def make_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct (Korean, English) pairs, mostly short, a few far longer than the rest."""
    rng = random.Random(seed)
    pairs = []
    for index in range(count):
        words = 60 if index % 50 == 7 else rng.randint(1, 9)
        korean = " ".join(rng.choices(KOREAN, k=words))
        english = " ".join(rng.choices(WORDS, k=words))
        pairs.append((f"{korean} {index}", f"{english} {index}"))
    return pairs


def write_pairs(folder: Path, pairs: list[tuple[str, str]]) -> tuple[str, str]:
    """Line-aligned ko.txt and en.txt; returns what ``--data`` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, side in (("ko", 0), ("en", 1)):
        (folder / f"{name}.txt").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return str(folder / "ko.txt"), str(folder / "en.txt")


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Store]:
    """``build(pairs, **options)`` prepares a store of its own."""

    def make(pairs: list[tuple[str, str]], vocab_size: int = 0, **options: object) -> Store:
        root = tmp_path_factory.mktemp("store")
        data = write_pairs(root / "text", pairs)
        return prepare(DataConfig(data=data, **options), root / "store", vocab_size=vocab_size, progress=False)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def store(build: Callable[..., Store]) -> Store:
    """600 pairs with a vocabulary of 400."""
    return build(make_pairs(600), vocab_size=400)
