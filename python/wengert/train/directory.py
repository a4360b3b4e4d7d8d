"""The directory of a run: held by one run at a time, its text files replaced whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..io import _replacing
from ..parallel import launched


def replace_text(path: Path, text: str) -> None:
    """The new text, or on any error the old file. A symbolic link of that name is replaced, not
    written through."""
    with _replacing(path) as file:
        file.write(text.encode())


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Makes the directory and holds it: FileExistsError where another process or thread does.

    The lock ends with its process, so a run that was killed leaves none. Where nothing was written
    by the time of an error, the directory goes again.
    """
    import fcntl

    lock = directory / ".lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise type(error)(
            f"the run directory {directory} cannot be written: {error.strerror}; give another one"
        ) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(fd).st_nlink:  # another run has just given the directory up
                raise BlockingIOError
        except BlockingIOError:
            advice = "wait for it, or choose another directory"
            if launched()[1] > 1:
                advice += ". Of the ranks of one run, rank 0 alone takes it where the model is a "
                advice += "parallel.DataParallel(model)"
            raise FileExistsError(f"{directory} is in use by another run; {advice}") from None
        except OSError:  # a file system without locks
            pass
        try:
            yield
        except BaseException:
            if list(directory.iterdir()) == [lock]:
                with suppress(OSError):
                    lock.unlink()
                    directory.rmdir()
            raise
    finally:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)  # workers that are still ending have fd, too
        os.close(fd)
