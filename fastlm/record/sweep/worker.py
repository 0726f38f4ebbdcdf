"""A process of a search: runs trials until there is none left."""

from __future__ import annotations

import sys
from pathlib import Path

from fastlm.errors import FastlmError
from fastlm.record.sweep.study import work


def main(words: list[str]) -> int:
    """``FOLDER THREADS``; the exit code is a command's."""
    try:
        work(Path(words[0]), int(words[1]))
    except FastlmError as error:
        print(f"fastlm: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
