"""Run by tests in a process of its own: trains with the settings of a JSON object.

``KILL``, ``TERM`` or ``INT`` is a step at which the process gets that signal; ``RANK`` says in which rank.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from fastlm.config import update
from fastlm.errors import FastlmError
from fastlm.train import trainer
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


def main() -> int:
    values: dict[str, Any] = json.loads(sys.argv[1])
    for name, number in (("KILL", signal.SIGKILL), ("TERM", signal.SIGTERM), ("INT", signal.SIGINT)):
        if name in values:
            die_at(values.pop(name), number, values.pop("RANK", os.environ.get("RANK", "")))
    trainer.plot = lambda runs, out: []
    try:
        trainer.train(update(RunConfig(), values))
    except FastlmError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
