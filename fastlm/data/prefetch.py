"""Results of numbered jobs, in order, computed ahead by threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Iterator[T], Generic[T]):
    """``make(start), make(start + 1), ...`` without end, at most ``2 * workers + 2`` of them ahead.

    ``make`` must be a pure function: the results and their order do not depend on ``workers``, and with 0 each is made
    when it is asked for. An exception in a worker comes out of ``next`` with its traceback, and ends the iteration.
    Threads do not survive a fork: make the prefetcher in the process that reads from it.
    """

    def __init__(self, make: Callable[[int], T], start: int, workers: int) -> None:
        self._make = make
        self._next = start
        self._ahead = 2 * workers + 2
        self._pending: deque[Future[T]] = deque()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="fastlm-batches") if workers else None
        self._closed = False

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        if self._pool is None:
            self._next += 1
            return self._make(self._next - 1)
        while len(self._pending) < self._ahead:
            self._pending.append(self._pool.submit(self._make, self._next))
            self._next += 1
        try:
            return self._pending.popleft().result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drops what is ahead and ends the threads; may be called again."""
        self._closed = True
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


class Shared(Generic[T]):
    """Results of numbered jobs that several threads want: each is made once, and the last few are kept."""

    def __init__(self, make: Callable[[int], T], keep: int) -> None:
        self._make = make
        self._keep = keep
        # A future of its own per result, so that whoever asks second waits for the first, and for no other.
        self._results: dict[int, Future[T]] = {}
        self._lock = threading.Lock()

    def __call__(self, number: int) -> T:
        """The result of job ``number``."""
        fresh: Future[T] = Future()
        with self._lock:
            result = self._results.setdefault(number, fresh)
            for old in list(self._results)[: -self._keep]:
                del self._results[old]
        if result is fresh:
            try:
                fresh.set_result(self._make(number))
            except BaseException as error:
                fresh.set_exception(error)
        return result.result()
