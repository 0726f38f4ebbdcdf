"""One training step of the record's encoder and decoder (d 512 x 6, vocabulary 30,000) in real tokens a second.

The same sentences for all, in batches of 64 as they come (``fastlm``, ``hugging_face_longest``), sorted by length first
(``grouped``), or in one batch (``fastlm_256``). ``products`` is the ceiling that a plain step's matrix products set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch

from benchmarks import steps
from benchmarks.steps import Size, Step
from fastlm import ops
from fastlm.batch import Batch

POOL, BATCH = 256, 64
DENSE_BLOCKS, BLOCK = 16, 256

Split = Callable[[list[int]], list[list[int]]]


def in_batches(lengths: list[int]) -> list[list[int]]:
    return [lengths[i : i + BATCH] for i in range(0, len(lengths), BATCH)]


def sorted_in_batches(lengths: list[int]) -> list[list[int]]:
    return in_batches(sorted(lengths))


def in_one(lengths: list[int]) -> list[list[int]]:
    return [lengths]


def first_batch(lengths: list[int]) -> list[list[int]]:
    return [lengths[:BATCH]]


def few(lengths: list[int]) -> list[list[int]]:
    return [lengths[: BATCH // 4]]


def fastlm_on_reference(size: Size, kind: str, batches: list[Batch], dtype: torch.dtype) -> Step:
    step = steps.fastlm_step(size, kind, batches, dtype)

    def run() -> torch.Tensor:
        with ops.use_backend("reference"):
            return step()

    return run


class Provider(NamedTuple):
    build: Callable[[Size, str, list[Batch], torch.dtype], Step]
    split: Split
    rounds: int = 3


hugging_face = steps.hugging_face_step
PROVIDERS = {
    "fastlm": Provider(steps.fastlm_step, in_batches),
    "products": Provider(steps.products_step, in_batches),
    "fastlm_256": Provider(steps.fastlm_step, in_one),
    "products_256": Provider(steps.products_step, in_one),
    "fastlm_reference_ops": Provider(fastlm_on_reference, in_batches, 1),
    # As long as a batch takes padded: one batch, or a few sentences, stand for the pool.
    "hugging_face_padded_to_256": Provider(partial(hugging_face, pad_to=steps.LONGEST), few, 1),
    "hugging_face_longest": Provider(hugging_face, first_batch, 1),
    "hugging_face_grouped": Provider(hugging_face, sorted_in_batches, 2),
    "hugging_face_grouped_compiled": Provider(partial(hugging_face, compiled=True), sorted_in_batches, 2),
}
DENSE = ("fastlm_256", "products_256", "hugging_face_grouped", "hugging_face_grouped_compiled")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Case(NamedTuple):
    size: Size
    kind: str
    dense: bool
    providers: tuple[str, ...]


EAGER = tuple(name for name in PROVIDERS if "compiled" not in name)  # compiling is no smoke test's business
CASES = {
    "smoke-encoder": Case(steps.SMOKE, "encoder", False, EAGER),
    "smoke-decoder": Case(steps.SMOKE, "decoder", True, DENSE[:3]),
    "encoder-sentences": Case(steps.RECORD, "encoder", False, tuple(PROVIDERS)),
    "decoder-sentences": Case(steps.RECORD, "decoder", False, tuple(PROVIDERS)),
    "decoder-dense_256": Case(steps.RECORD, "decoder", True, DENSE),
}
GRID = [(case, dtype, provider) for case in CASES for dtype in DTYPES for provider in CASES[case].providers]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("case", "dtype", "provider"), GRID, ids=["-".join(g) for g in GRID])
def test_training_step(
    measure: Any,
    needs_compiler: Callable[[], None],
    lengths: Callable[[int], list[int]],
    case: str,
    dtype: str,
    provider: str,
) -> None:
    if "compiled" in provider:
        needs_compiler()
    torch.manual_seed(0)
    size, kind, dense, _ = CASES[case]
    build, split, rounds = PROVIDERS[provider]
    pool = [BLOCK] * DENSE_BLOCKS if dense else lengths(BATCH // 4 if size is steps.SMOKE else POOL)
    batches = [steps.make_batch(part, kind, size.vocab_size) for part in split(pool)]
    step = build(size, kind, batches, DTYPES[dtype])
    first, uniform = float(step()), math.log(size.vocab_size)
    assert abs(first - uniform) < 1.5, (
        f"an untrained model should lose about ln(vocabulary) = {uniform:.2f}, not {first:.2f}"
    )
    measure(step, group=f"training step {case} {dtype}", tokens=sum(len(b.tokens) for b in batches), rounds=rounds)
