"""Ordered results from threads; errors surface; nothing is left running."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest

from fastlm.data.prefetch import Prefetcher, Shared


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fastlm")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_is_kept(workers: int) -> None:
    def slow(index: int) -> int:
        time.sleep(random.random() * 0.003)
        return index * index

    results = Prefetcher(slow, 5, workers)
    assert list(itertools.islice(results, 40)) == [n * n for n in range(5, 45)]
    results.close()
    assert not own_threads()


def test_work_ahead_is_bounded() -> None:
    asked: list[int] = []
    results = Prefetcher(lambda index: asked.append(index), 0, 2)
    next(results)
    time.sleep(0.05)
    assert max(asked) < 6
    results.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_surfaces_with_its_traceback(workers: int) -> None:
    def break_at_seven(index: int) -> int:
        if index == 7:
            raise OSError("the disk is gone")
        return index

    results = Prefetcher(break_at_seven, 0, workers)
    got = []
    with pytest.raises(OSError, match="the disk is gone") as caught:
        for index in results:
            got.append(index)
    assert got == list(range(7))
    assert "break_at_seven" in [entry.name for entry in caught.traceback]
    results.close()
    assert not own_threads()


def test_closing_twice_and_reading_on() -> None:
    results = Prefetcher(lambda index: index, 0, 2)
    next(results)
    results.close()
    results.close()
    assert list(results) == []


def test_shared_makes_each_result_once_and_keeps_the_last() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        time.sleep(0.02)
        return number * 10

    shared = Shared(make, keep=2)
    threads = [threading.Thread(target=shared, args=(1,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared(1) == 10 and made == [1]
    shared(2), shared(3), shared(2)
    assert made == [1, 2, 3]
    shared(1)
    assert made == [1, 2, 3, 1]


def test_shared_gives_the_error_to_everyone() -> None:
    shared: Shared[float] = Shared(lambda number: 1 / number, keep=2)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            shared(0)
