"""Numbers in files: dtypes by their names in safetensors, and tensors read from bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from . import _core
from ._core import Tensor

MAX_NDIM = 8
# name in the file: (our dtype, bits of an element in the file)
DTYPES = {
    "F64": ("float64", 64),
    "I64": ("int64", 64),
    "F32": ("float32", 32),
    "I32": ("int32", 32),
    "BF16": ("bfloat16", 16),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
    # Read only, and converted, exactly:
    "F16": ("float32", 16),
    "F8_E5M2": ("float32", 8),
    "F8_E4M3": ("float32", 8),
    "I8": ("int32", 8),
    "I16": ("int32", 16),
    "U16": ("int32", 16),
    "U32": ("int64", 32),
    "U64": ("int64", 64),
    # Passed over:
    **dict.fromkeys(("F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), ("", 8)),
    "F6_E2M3": ("", 6),
    "F6_E3M2": ("", 6),
    "F4": ("", 4),
    "C64": ("", 64),
}
CONVERTED = {
    **{"F16": "float16", "I8": "int8", "I16": "int16", "U16": "uint16", "U32": "uint32"},
    **{"U64": "uint64", "F8_E5M2": "uint8", "F8_E4M3": "uint8"},
}


class FileError(ValueError):
    """A file that is not what it should be: truncated, altered, or not of this format."""

    __module__ = "wengert.io"


class Entry(NamedTuple):
    """A tensor in a file."""

    name: str
    dtype: str  # the file's name for it
    shape: tuple[int, ...]
    begin: int
    end: int


def bytes_of(tensor: Tensor, writable: bool = False) -> memoryview:
    """The memory of a contiguous tensor, as bytes."""
    array = _core._bytes(tensor).numpy(writable=writable)
    return memoryview(array)


def pieces(memory: memoryview) -> Iterator[memoryview]:
    """Its bytes, 16 MiB at a time: between two of them Python answers Ctrl-C."""
    size = 1 << 24
    return (memory[at : at + size] for at in range(0, memory.nbytes, size))


def digest_of(memory: memoryview) -> str:
    """Their SHA-256."""
    from hashlib import sha256

    digest = sha256()
    for piece in pieces(memory):
        digest.update(piece)
    return digest.hexdigest()


def read_tensor(
    file: IO[bytes], path: str | os.PathLike[str], entry: Entry, start: int, digest: str | None
) -> Tensor | None:
    """A tensor of an open file; None where its numbers fit none of our dtypes."""
    import numpy as np

    dtype, stored = DTYPES[entry.dtype][0], CONVERTED.get(entry.dtype)
    if stored:
        raw = np.empty(entry.shape, stored)
        memory = raw.reshape(-1).view(np.uint8).data
    else:
        tensor = _core.empty(entry.shape, dtype)
        memory = bytes_of(tensor, writable=True)
    file.seek(start + entry.begin)
    got = _read_into(file, memory)
    if got != entry.end - entry.begin:
        raise FileError(f"{os.fspath(path)}: ended in the middle of {entry.name!r}: truncated?")
    if digest is not None and digest_of(memory) != digest:
        raise FileError(
            f"{os.fspath(path)}: the checksum of {entry.name!r} does not match its bytes: the "
            "file was altered or damaged; use an earlier one"
        )
    if entry.dtype == "BOOL" and got and np.frombuffer(memory, np.uint8).max() > 1:
        raise FileError(f"{os.fspath(path)}: {entry.name!r} is BOOL and has bytes other than 0, 1")
    return converted(raw, entry.dtype, dtype) if stored else tensor


def converted(raw: Any, kind: str, dtype: str) -> Tensor | None:
    """The same numbers in one of our dtypes; None where they do not fit."""
    import numpy as np

    if kind == "U64" and raw.size and raw.max() > np.iinfo(np.int64).max:
        return None
    if kind == "F8_E5M2":  # the upper half of a float16
        raw = (raw.astype(np.uint16) << 8).view(np.float16)
    elif kind == "F8_E4M3":  # its exponent is 8 less than a float16's; no infinity, one NaN
        bits = raw.astype(np.uint16)
        wide = ((bits & 0x80) << 8 | (bits & 0x7F) << 7).view(np.float16).astype(np.float32) * 256
        raw = np.where(bits & 0x7F == 0x7F, np.float32(np.nan), wide)
    return _core.tensor(raw.astype(dtype))


def _read_into(file: IO[bytes], memory: memoryview) -> int:
    done = 0
    for piece in pieces(memory):
        got = 0
        while got < piece.nbytes:
            count = file.readinto(piece[got:])  # type: ignore[attr-defined]
            if not count:
                return done + got
            got += count
        done += got
    return done
