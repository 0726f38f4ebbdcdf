"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere, nothing on other ranks.

A display never ends a run: when the reader of its output has gone (a closed pipe), it falls silent.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from fastlm.train.metrics import Scores

#: seconds between plain lines
PLAIN_EVERY = 10.0


class Display:
    """Plain lines, as for a log file; also what the live display falls back on.

    Methods take what the trainer knows; none of them raises when output is impossible.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._last = -math.inf

    def say(self, text: str) -> None:
        """One line."""
        self._print(Text(text))

    def warn(self, text: str) -> None:
        """One loud line."""
        self._print(Text(f"warning: {text}", style="bold yellow"))

    def progress(self, step: int, total: int, line: Mapping[str, Any], seconds_left: float) -> None:
        """The state after a step.

        Args:
            step: finished steps.
            total: of how many (0: unknown).
            line: the last training line of the metrics.
            seconds_left: estimate, NaN where there is none.
        """
        if time.monotonic() - self._last >= PLAIN_EVERY or step == total:
            self._last = time.monotonic()
            self.say(f"{_position(step, total)} | {_train_text(line)} | {_clock(seconds_left)} left")

    def evaluated(self, step: int, scores: Scores, best: bool) -> None:
        """The scores of an evaluation, kept on the screen."""
        self.say(validation_text(step, scores) + ("  (best so far)" if best else ""))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Around the training loop."""
        yield

    def _print(self, what: RenderableType) -> None:
        try:
            self.console.print(what, soft_wrap=True)
        except (OSError, ValueError):  # a closed or vanished stream
            self.console.quiet = True


class LiveDisplay(Display):
    """A bar and two lines that stay at the bottom of the terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live: Live | None = None
        self._state: RenderableType = Text("")

    def progress(self, step: int, total: int, line: Mapping[str, Any], seconds_left: float) -> None:
        """Redraws the bar (at most four times a second)."""
        head = Text(f"{_position(step, total)} | {_clock(seconds_left)} left", style="bold")
        body = Text(_train_text(line))
        bar = ProgressBar(total=total or None, completed=step, pulse=not total)
        self._state = Group(bar, head, body)
        if self._live:
            with contextlib.suppress(OSError, ValueError):
                self._live.update(self._state)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Shows the bar; it stays as it was at the end."""
        try:
            with Live(self._state, console=self.console, refresh_per_second=4) as self._live:
                yield
        finally:
            self._live = None


class Silent(Display):
    """For the ranks that do not print."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))


def make(console: Console | None, main: bool) -> Display:
    """The display that fits: ``main`` is whether this rank prints."""
    if not main:
        return Silent()
    console = console or Console(highlight=False)
    console.on_broken_pipe = lambda: _fall_silent(console)  # type: ignore[method-assign]
    live = console.is_terminal and not console.is_dumb_terminal
    return (LiveDisplay if live else Display)(console)


def _fall_silent(console: Console) -> None:
    # rich's own answer is to end the process. Stdout must also point somewhere, or Python's last flush complains.
    console.quiet = True
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _position(step: int, total: int) -> str:
    return f"step {step:,}/{total:,} ({step / total:.0%})" if total else f"step {step:,}"


def _train_text(line: Mapping[str, Any]) -> str:
    if not line:
        return "the first steps"
    return " | ".join(
        [
            f"epoch {line['epoch']:.2f}",
            f"loss {number(line['loss'], '.4f')}",
            f"accuracy {number(line['accuracy'], '.3f')}",
            f"{number(line['tokens_per_second'], ',.0f')} tokens/s",
            f"lr {line['lr']:.2e}",
        ]
    )


def validation_text(step: int, scores: Scores) -> str:
    """One line of scores, with each language's loss and accuracy."""
    s = scores.overall
    languages = "".join(
        f" | {name} {number(v.loss, '.3f')} / {number(v.accuracy, '.3f')}" for name, v in scores.languages.items()
    )
    return (
        f"validation at step {step:,}: loss {number(s.loss, '.4f')} accuracy {number(s.accuracy, '.3f')} "
        f"perplexity {number(s.perplexity, ',.1f')} bits/character {number(s.bits_per_character, '.3f')}{languages}"
    )


def number(value: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
