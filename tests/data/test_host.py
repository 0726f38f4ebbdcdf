"""The C++ loops and their numpy specification give the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlm.data import host

needs_native = pytest.mark.skipif(host.native is None, reason="fastlm._host was not built (no compiler)")


def hashes_of(values: list[int]) -> np.ndarray:
    """Few different values, so that repeats are common; both words matter."""
    return np.array([[value // 3, value % 3] for value in values], dtype=np.uint64).reshape(-1, 2)


@given(st.lists(st.integers(0, 30), max_size=60))
def test_first_occurrences(values: list[int]) -> None:
    expected = [values.index(value) for value in values]
    assert host.numpy_first_occurrences(hashes_of(values)).tolist() == expected
    assert host.first_occurrences(hashes_of(values)).tolist() == expected


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    vertices = draw(st.integers(1, 40))
    vertex = st.integers(0, vertices - 1)
    return vertices, draw(st.lists(st.tuples(vertex, vertex), max_size=60))


@given(graphs())
def test_components(graph: tuple[int, list[tuple[int, int]]]) -> None:
    vertices, edges = graph
    expected = list(range(vertices))
    for _ in range(vertices):  # the slow obvious way: pass the smaller name on until nothing changes
        for a, b in edges:
            expected[a] = expected[b] = min(expected[a], expected[b])
    left, right = np.array([*edges, (0, 0)], dtype=np.int64).T.copy()
    assert host.numpy_components(vertices, left, right).tolist() == expected
    assert host.components(vertices, left, right).tolist() == expected


def test_components_of_a_long_chain() -> None:
    n = 50_000
    order = np.random.default_rng(0).permutation(n)
    for find in (host.components, host.numpy_components):
        assert not find(n, order[:-1].copy(), order[1:].copy()).any()


@needs_native
@settings(max_examples=30)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 3000))
def test_shuffled_is_bit_equal(seed: int, epoch: int, n: int) -> None:
    assert np.array_equal(host.native.shuffled(seed, epoch, n), host.numpy_shuffled(seed, epoch, n))


def test_shuffled_is_a_permutation_that_seed_and_epoch_change() -> None:
    orders = [host.shuffled(seed, epoch, 1000) for seed, epoch in ((0, 0), (0, 1), (1, 0), (-1, 0))]
    assert all(np.array_equal(np.sort(order), np.arange(1000)) for order in orders)
    assert len({order.tobytes() for order in orders}) == len(orders)
    # An order that kept some of the file's order would show as a correlation with it.
    assert abs(np.corrcoef(orders[0], np.arange(1000))[0, 1]) < 0.1


@needs_native
def test_native_refuses_what_it_would_misread() -> None:
    with pytest.raises(TypeError):
        host.native.first_occurrences(np.zeros((2, 2), dtype=np.int32))
    with pytest.raises(ValueError, match="N, 2"):
        host.native.first_occurrences(np.zeros((2, 3), dtype=np.uint64))
    with pytest.raises(ValueError, match="vertex"):
        host.native.components(2, np.array([5]), np.array([0]))
