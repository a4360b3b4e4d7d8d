"""The two errors of `wengert.data`, both with a message of one line that says the way out.

DataError is a ValueError: the file is there and what it holds will not do. DataNotFoundError is
also a FileNotFoundError, so that either of the usual `except` clauses catches it.
"""

from __future__ import annotations


class DataError(ValueError):
    """What a file or an array holds cannot be used; the message says what and where."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A file or directory is not there; the message says where such a file comes from."""
