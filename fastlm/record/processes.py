"""Commands as processes of their own, some at a time; no one is left behind when this process ends.

SIGINT and SIGTERM are passed on, and every process is waited for, since a trainer saves before it leaves. When this
process is killed, the kernel (Linux) sends its children SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

POLL_SECONDS = 0.05
#: prctl's number for "send this signal when my parent ends"
PR_SET_PDEATHSIG = 1
STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Ended:
    """How the processes ended: their exit codes by name, and the signal that asked all of them to, 0 for none."""

    codes: dict[str, int]
    stopped: int


def run_all(
    commands: Mapping[str, Sequence[str]],
    jobs: int,
    logs: Path | None,
    said: Callable[[str, int | None], None],
) -> Ended:
    """Runs every command, at most ``jobs`` at a time, in their order.

    Args:
        commands: by name.
        jobs: processes at a time.
        logs: folder for ``NAME.log``, where output is appended; None shows it here.
        said: called with a name and None when it starts, its exit code when it ends.
    """
    waiting, running, codes = list(commands), dict[str, subprocess.Popen[bytes]](), dict[str, int]()
    with _passing_on(running) as stopped:
        while running or (waiting and not stopped):
            while waiting and len(running) < jobs and not stopped:
                name = waiting.pop(0)
                said(name, None)
                running[name] = _start(commands[name], logs / f"{name}.log" if logs else None)
            for name, process in list(running.items()):
                if (code := process.poll()) is not None:
                    codes[name] = code if code >= 0 else 128 - code  # as a shell says it: 128 + signal
                    del running[name]
                    said(name, codes[name])
            time.sleep(POLL_SECONDS)
        return Ended(codes, stopped[0] if stopped else 0)


def _start(command: Sequence[str], log: Path | None) -> subprocess.Popen[bytes]:
    output: IO[bytes] | None = None
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    try:
        return subprocess.Popen(
            list(command), stdout=output, stderr=subprocess.STDOUT if output else None, preexec_fn=_end_with_parent
        )
    finally:
        if output:
            output.close()


def _end_with_parent() -> None:
    """In the child, before its program: asks for SIGTERM when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def _passing_on(running: Mapping[str, subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """While entered, SIGINT and SIGTERM go to the processes; yields the list of those that came."""
    came: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        # A terminal's Ctrl-C reaches the children by itself: a second one from here would make them leave unsaved.
        if number == signal.SIGTERM:
            for process in running.values():
                process.send_signal(number)
        came.append(number)

    before = {number: signal.signal(number, pass_on) for number in STOPS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
