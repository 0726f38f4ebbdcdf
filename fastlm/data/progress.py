"""Progress of a preparation on stderr, and how long each phase took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


class Phases:
    """Named phases, one after the other.

    Attributes:
        seconds: duration of each finished phase.
    """

    def __init__(self, show: bool) -> None:
        self.seconds: dict[str, float] = {}
        self._show = show

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """A phase without a bar of its own."""
        begun = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 3)

    @contextmanager
    def bar(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """A phase with a bar; yields the function that reports that so many more are done."""
        with self.timed(name):
            if not self._show:
                yield lambda count: None
                return
            with _bar(name, total) as advance:
                yield advance


@contextmanager
def _bar(name: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=5) as bars:
        task = bars.add_task(name, total=total)
        yield lambda count: bars.advance(task, count)
        done = bars.tasks[task].completed
        bars.update(task, total=done, completed=done)
