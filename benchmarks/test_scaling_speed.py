"""How the encoder's step scales: real tokens a second over the tokens of a step, and from one thread to two.

Its matrix products alone scale beside it: smaller products run slower, and two threads do less than twice the work of
one, whoever calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from benchmarks import steps

SENTENCES = {"smoke": 4, "1k": 48, "4k": 192, "16k": 768, "64k": 3072}  # of 21 tokens on average
CASES = [
    ("smoke", 2, "bf16"),
    *((tokens, 2, "bf16") for tokens in ("1k", "4k", "16k", "64k")),
    *(("4k", threads, "fp32") for threads in (1, 2)),
    ("4k", 1, "bf16"),
]


BUILDERS = {"fastlm": steps.fastlm_step, "products": steps.products_step}


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize(("tokens", "threads", "dtype"), CASES, ids=[f"{a}-{b}_threads-{c}" for a, b, c in CASES])
def test_scaling(
    measure: Any,
    set_threads: Callable[[int], None],
    lengths: Callable[[int], list[int]],
    tokens: str,
    threads: int,
    dtype: str,
    builder: str,
) -> None:
    set_threads(threads)
    size = steps.SMOKE if tokens == "smoke" else steps.RECORD
    batch = steps.make_batch(lengths(SENTENCES[tokens]), "encoder", size.vocab_size)
    step = BUILDERS[builder](size, "encoder", [batch], torch.bfloat16 if dtype == "bf16" else torch.float32)
    rounds = 1 if tokens == "64k" else 5
    measure(step, group=f"encoder step by size and threads {dtype}", tokens=len(batch.tokens), rounds=rounds)
