"""A progress bar on stderr for a stream of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


def counted(items: Iterable[T], label: str, then: str, show: bool) -> Iterator[T]:
    """The items as they are; with ``show``, a bar named ``label`` while they last."""
    if not show:
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    total = len(items) if isinstance(items, Sized) else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, refresh_per_second=5) as bar:
        task = bar.add_task(label, total=total)
        for done, item in enumerate(items, 1):
            yield item
            if done % 1000 == 0:
                bar.update(task, completed=done)
    console.print(f"{then} ...")
