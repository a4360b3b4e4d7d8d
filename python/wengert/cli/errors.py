"""What a command that cannot be done says: one line on stderr."""

from __future__ import annotations

import os
import sys
import time


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
    """Print the line. Of several ranks, rank 0 speaks first: it tells what all of them met."""
    rank, ranks = _launched()
    if rank:
        time.sleep(1)
    who = f" (rank {rank})" if ranks > 1 else ""
    print(f"wengert {command}{who}: error: {text}", file=sys.stderr, flush=True)


def _launched() -> tuple[int, int]:
    if not any(name in os.environ for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")):
        return 0, 1  # without loading anything
    from wengert.parallel import launched

    return launched()
