"""What a command that cannot be done says: one line on stderr."""

from __future__ import annotations

import os
import sys


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line with the way out."""


def told(error: BaseException) -> str:
    """The error in one line that a terminal can show."""
    from wengert.train.report import plain

    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        where = error.filename if error.filename is not None else "standard output"
        text = f"{os.fsdecode(where)}: {error.strerror}"
    elif isinstance(error, MemoryError) and not text:
        text = "not enough memory"
    return plain(" ".join(text.split()) or type(error).__name__)


def complain(command: str, text: str) -> None:
    """Print the line."""
    print(f"wengert {command}: error: {text}", file=sys.stderr)
