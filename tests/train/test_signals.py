"""Signals are noted, and only a second SIGINT leaves at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from fastlm.train.signals import SAVE, STOPS, Interrupted, SignalWatch


def test_signals_are_noted_and_handlers_given_back() -> None:
    before = [signal.getsignal(n) for n in (*STOPS, SAVE)]
    watch = SignalWatch()
    with watch.noting(SAVE), watch.noting(*STOPS):
        assert (watch.stop, watch.save) == (0, False)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (watch.stop, watch.save) == (0, True)
        os.kill(os.getpid(), signal.SIGTERM)
        assert watch.stop == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.stop == signal.SIGINT
    assert [signal.getsignal(n) for n in (*STOPS, SAVE)] == before


def test_a_second_sigint_leaves_at_once() -> None:
    code = (
        "import os, signal; from fastlm.train.signals import STOPS, SignalWatch\n"
        "with SignalWatch().noting(*STOPS):\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('second', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "first\n")


def test_other_threads_leave_the_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def inside() -> None:
        with SignalWatch().noting(*STOPS):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


def test_exit_codes_are_the_shells() -> None:
    assert Interrupted("", signal.SIGINT).exit_code == 130
    assert Interrupted("", signal.SIGTERM).exit_code == 143
