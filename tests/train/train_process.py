"""Run by tests in a process of its own: trains with the settings of a JSON object.

``KILL``, ``TERM``, ``INT`` or ``USR1`` is a step at which the process gets that signal, 0 for before its text is
prepared; ``RANK`` says in which rank.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from fastlm.config import update
from fastlm.errors import FastlmError
from fastlm.train import setup, trainer
from fastlm.train.config import RunConfig
from fastlm.train.step import Stepper


def die_at(step: int, number: int, rank: str) -> None:
    """Sends this process a signal just before it computes a step (1-based)."""
    plain = Stepper.run

    def watched(self: Stepper, at: Any, *arguments: Any) -> Any:
        if at.index + 1 == step and os.environ.get("RANK", "") == rank:
            os.kill(os.getpid(), number)
        return plain(self, at, *arguments)

    Stepper.run = watched  # type: ignore[method-assign]


def die_before_the_text(number: int) -> None:
    """Sends this process a signal when it asks for the text."""
    plain = setup.prepared

    def watched(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), number)
        return plain(*arguments, **options)

    setup.prepared = watched


def main() -> int:
    values: dict[str, Any] = json.loads(sys.argv[1])
    for name in ("KILL", "TERM", "INT", "USR1"):
        if name in values:
            step, number = values.pop(name), signal.Signals[f"SIG{name}"]
            if step:
                die_at(step, number, values.pop("RANK", os.environ.get("RANK", "")))
            else:
                die_before_the_text(number)
    trainer.plot = lambda runs, out: []
    try:
        trainer.train(update(RunConfig(), values))
    except FastlmError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
