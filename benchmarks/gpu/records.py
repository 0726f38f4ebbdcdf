"""What a step tells: one JSON object a line, written at once, so that a step that is killed keeps what it had."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "FASTLM_GPU_RECORDS"  # the environment's name of a step's file
QUICK = "FASTLM_GPU_QUICK"  # and its word for --quick


class Records:
    """Appends records; counts those that failed."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(os.environ[FILE])
        self.failed = 0

    def add(self, name: str, **facts: Any) -> None:
        """One record."""
        self.failed += facts.get("error") is not None and not facts.get("peer")  # a peer's faults are its own
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, **facts}) + "\n")
        print(f"{name}: {facts.get('error') or facts.get('skipped') or 'done'}", flush=True)

    def attempt(self, name: str, function: Callable[[], dict[str, Any] | None], **facts: Any) -> bool:
        """Adds what ``function`` returns, or the error that it raises; whether it raised none."""
        try:
            found = function()
        except Exception as error:  # whatever a kernel or a peer does, the others still run
            traceback.print_exc()
            self.add(name, **facts, error=f"{type(error).__name__}: {str(error).strip()[:600]}")
            return False
        self.add(name, **facts, **(found or {}))
        return True


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a file; none where there is no file, and a torn last line is left out."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [json.loads(line) for line in lines[:-1]]
