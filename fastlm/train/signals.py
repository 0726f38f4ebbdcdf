"""Signals ask, the training loop answers between two steps.

SIGINT and SIGTERM ask for a save and an end, SIGUSR1 for a save; a second SIGINT leaves at once. Before the first step
there is nothing to save: SIGINT and SIGTERM end the process as they end any other, and SIGUSR1, which would, is noted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from fastlm.errors import FastlmError

STOPS = (signal.SIGINT, signal.SIGTERM)
SAVE = signal.SIGUSR1


class Interrupted(FastlmError):
    """A run that was asked to stop and did; ``exit_code`` is the shell's 128 + signal number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class SignalWatch:
    """Records what was asked for, inside :meth:`noting`.

    Attributes:
        stop: number of the signal that asks for the end, 0 for none.
        save: whether a checkpoint was asked for; the loop sets it back.
    """

    def __init__(self) -> None:
        self.stop = 0
        self.save = False

    @contextlib.contextmanager
    def noting(self, *numbers: int) -> Iterator[None]:
        """While entered, these signals are noted (none outside the main thread, where Python forbids handlers)."""
        main = threading.current_thread() is threading.main_thread()
        previous = {number: signal.signal(number, self._note) for number in numbers if main}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == SAVE:
            self.save = True
        elif number == signal.SIGINT and self.stop == signal.SIGINT:
            _leave_at_once()
        else:
            self.stop = number


def _leave_at_once() -> None:
    # No unwinding: a save in progress is under a temporary name, and nothing else is half-written.
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h\n")  # the live display had hidden the cursor
        sys.stdout.flush()
    os._exit(128 + signal.SIGINT)
