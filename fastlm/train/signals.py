"""Signals ask, the training loop answers between two steps.

SIGINT and SIGTERM ask for a save and an end, SIGUSR1 for a save; a second SIGINT leaves at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from fastlm.errors import FastlmError


class Interrupted(FastlmError):
    """A run that was asked to stop and did; ``exit_code`` is the shell's 128 + signal number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class SignalWatch:
    """While entered, records what was asked for (nothing outside the main thread, where Python forbids handlers).

    Attributes:
        stop: number of the signal that asks for the end, 0 for none.
        save: whether a checkpoint was asked for; the loop sets it back.
    """

    def __init__(self) -> None:
        self.stop = 0
        self.save = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
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
