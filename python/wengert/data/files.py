"""Readers of data files: IDX (MNIST's format) and NPZ. Each returns NumPy arrays; CSV: tables.py.

IDX is: two zero bytes, a byte for the dtype, a byte for the number of axes, one big-endian uint32
size per axis, then the values, big-endian, last axis fastest.
Sizes in a header are compared with the size of the file before memory is asked for, so a damaged
or hostile header is refused, never allocated. Nothing here can run code: NPZ is read without
pickle.
"""

from __future__ import annotations

import gzip
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from .. import _explained
from .batching import Split
from .errors import DataError, DataNotFoundError

Array = npt.NDArray[Any]

FASHION_MNIST_HINT = (
    "on Debian or Ubuntu `apt install dataset-fashion-mnist` puts Fashion-MNIST into "
    "/usr/share/datasets/fashion-mnist"
)

IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_AXES = 8
DEFLATE_MAX_RATIO = 1032  # no deflate stream unpacks to more than this many times its size
DAMAGED = (OSError, EOFError, zlib.error)  # what reading a bad compressed file may raise


def existing_file(path: str | os.PathLike[str], op: str, hint: str = "check the path") -> Path:
    """The path, if a file is there; otherwise the error that says what is."""
    file = Path(path)
    if file.is_dir():
        raise DataError(f"{op}: {file} is a directory, a file was expected")
    if not file.exists():
        raise DataNotFoundError(f"{op}: no file {file}; {hint}")
    if not file.is_file():  # a pipe would wait for a writer, a device may never end
        raise DataError(f"{op}: {file} is a pipe or a device, a file was expected")
    return file


def open_file(file: Path, op: str) -> IO[bytes]:
    """A binary stream, unpacked if it begins as gzip does, whatever its name."""
    try:
        with file.open("rb") as stream:
            is_gzip = stream.read(2) == b"\x1f\x8b"
        return cast(IO[bytes], gzip.open(file)) if is_gzip else file.open("rb")
    except OSError as error:
        raise DataError(f"{op}: cannot read {file}: {error.strerror}") from None


def load_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, gzipped or not, in the machine's byte order."""
    file = existing_file(path, "load_idx", FASHION_MNIST_HINT)
    size = file.stat().st_size
    with open_file(file, "load_idx") as stream:
        packed = isinstance(stream, gzip.GzipFile)
        try:
            return _read_idx(stream, file, size * DEFLATE_MAX_RATIO if packed else size)
        except DAMAGED as error:
            raise DataError(
                f"load_idx: {file} is damaged or cut short ({error}); fetch it again"
            ) from None


def _read_idx(stream: IO[bytes], file: Path, most_bytes: int) -> Array:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_DTYPES:
        raise DataError(
            f"load_idx: {file} is not an IDX file: it begins with {magic.hex(' ') or 'nothing'}, "
            "expected 00 00, a type (08 09 0b 0c 0d 0e) and the number of axes"
        )
    dtype, axes = np.dtype(IDX_DTYPES[magic[2]]), magic[3]
    if not 1 <= axes <= MAX_AXES:
        raise DataError(f"load_idx: {file} states {axes} axes; 1 to {MAX_AXES} were expected")
    header = stream.read(4 * axes)
    if len(header) < 4 * axes:
        raise DataError(f"load_idx: {file} is cut short within its header; fetch it again")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, 4 * axes, 4))
    nbytes = math.prod(shape) * dtype.itemsize  # Python's integers: cannot overflow
    if nbytes > most_bytes:
        raise DataError(
            f"load_idx: {file} states shape {shape} of {dtype.itemsize}-byte values, {nbytes} "
            f"bytes, more than a file of its size can hold (at most {most_bytes}); fetch it again"
        )
    payload = stream.read(nbytes)
    if len(payload) < nbytes:
        raise DataError(
            f"load_idx: {file} is cut short: shape {shape} needs {nbytes} bytes, "
            f"{len(payload)} are there; fetch it again"
        )
    if stream.read(1):
        raise DataError(f"load_idx: {file} goes on after the {nbytes} bytes of its shape {shape}")
    return np.frombuffer(payload, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


def load_idx_directory(directory: str | os.PathLike[str]) -> Split:
    """Train and test images and labels from a directory that names them as MNIST does.

    train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte,
    t10k-labels-idx1-ubyte, each plain or .gz, with - or . before idx. Images keep their shape
    (n, rows, columns) and dtype; labels become int64.
    """
    folder = Path(directory)
    if not folder.exists():
        raise DataNotFoundError(f"load_idx_directory: no directory {folder}; {FASHION_MNIST_HINT}")
    if not folder.is_dir():
        raise DataError(
            f"load_idx_directory: {folder} is a file; use load_idx, or give its directory"
        )
    parts: list[Array] = []
    for prefix in ("train", "t10k"):
        images = load_idx(_find_idx(folder, f"{prefix}-images", "idx3-ubyte"))
        labels = load_idx(_find_idx(folder, f"{prefix}-labels", "idx1-ubyte"))
        if images.ndim < 2 or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(
                f"load_idx_directory: {folder}: {prefix} images {images.shape} and labels "
                f"{labels.shape} do not belong together; expected (n, rows, columns) and (n,)"
            )
        if labels.dtype.kind not in "iu":
            raise DataError(
                f"load_idx_directory: {folder}: {prefix} labels are {labels.dtype}, not whole"
            )
        parts += [images, labels.astype(np.int64)]
    if parts[0].shape[1:] != parts[2].shape[1:]:
        raise DataError(
            f"load_idx_directory: {folder}: train images {parts[0].shape} and test images "
            f"{parts[2].shape} differ in size"
        )
    return Split(*parts)


def _find_idx(folder: Path, stem: str, suffix: str) -> Path:
    names = [f"{stem}{dot}{suffix}{end}" for end in ("", ".gz") for dot in ("-", ".")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataNotFoundError(
        f"load_idx_directory: {folder} has no {names[0]}, plain or .gz; {FASHION_MNIST_HINT}"
    )


# Of Keras' files, and others that bring a test part; then of those that do not. In lower case.
NPZ_PARTS: list[tuple[str, ...]] = [
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
]
NPZ_PAIRS: list[tuple[str, ...]] = [("x", "y"), ("images", "labels"), ("data", "target")]


def load_npz(
    path: str | os.PathLike[str], need_y: bool = True, part: str | None = None
) -> tuple[Array, Array]:
    """x (n, ...) and y (n, ...) from an NPZ file with arrays x and y (or images and labels, or data
    and target), in the dtypes that it has; y may be text.

    need_y=False: y may be missing and is then empty, of shape (n, 0).
    part: of a file with x_train, y_train, x_test, y_test, as Keras has them: "train", "test", or
        None for both, one after the other.
    """
    arrays = npz_arrays(path, need_y)
    if len(arrays) == 2:
        return arrays[0], arrays[1]
    x_train, y_train, x_test, y_test = arrays
    if part is None:
        return np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    return (x_test, y_test) if part == "test" else (x_train, y_train)


def npz_arrays(path: str | os.PathLike[str], need_y: bool = True) -> list[Array]:
    """Two arrays, x and y, or four: x and y of a training and of a test part."""
    file = existing_file(path, "load_npz")
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                _check_npy(file, archive, member)
        with np.load(file, allow_pickle=False) as arrays:
            names = {name.lower(): name for name in arrays.files}
            wanted = [keys for keys in NPZ_PAIRS + NPZ_PARTS if names.keys() >= set(keys)]
            if not wanted and not need_y:
                wanted = [keys[:1] for keys in NPZ_PAIRS if keys[0] in names]
            if not wanted:
                raise DataError(
                    f"load_npz: {file} holds {', '.join(arrays.files) or 'nothing'}; expected x "
                    "and y, images and labels, or x_train, y_train, x_test and y_test: "
                    "np.savez(path, x=..., y=...)"
                )
            found = [(names[key], arrays[names[key]]) for key in wanted[0]]
    except DataError:
        raise
    except (*DAMAGED, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"load_npz: {file} cannot be read as NPZ: {error}") from None
    if len(found) == 1:
        x = found[0][1]
        found.append(("y", np.empty((len(x) if x.ndim else 0, 0))))
    for i, (name, array) in enumerate(found):
        if array.dtype.kind not in ("biufU" if i % 2 else "biuf"):
            raise DataError(f"load_npz: {file}: {name} is {array.dtype}; numbers are needed")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(
                f"load_npz: {file}: {name} holds NaN or infinity; fill or drop those rows"
            )
    for (x_name, x), (y_name, y) in zip(found[::2], found[1::2], strict=True):
        if x.ndim < 2 or y.ndim == 0 or len(x) != len(y):
            raise DataError(
                f"load_npz: {file}: {x_name} {x.shape} and {y_name} {y.shape} do not belong "
                "together; expected (n, features...) and (n,)"
            )
    for a, b in zip(found[:2], found[2:], strict=False):
        if a[1].shape[1:] != b[1].shape[1:]:
            raise DataError(
                f"load_npz: {file}: {a[0]} {a[1].shape} and {b[0]} {b[1].shape} differ in more "
                "than their lengths"
            )
    return [array for _, array in found]


def _check_npy(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse a header that states more than the archive can hold, before NumPy allocates it."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise DataError(f"load_npz: {file}: {member.filename} has array format {version}")
        if dtype.hasobject:
            raise DataError(
                f"load_npz: {file}: {member.filename} holds Python objects; save plain numbers"
            )
        room = min(member.file_size, member.compress_size * DEFLATE_MAX_RATIO) - stream.tell()
        if math.prod(shape) * dtype.itemsize > room:
            raise DataError(
                f"load_npz: {file}: {member.filename} states shape {shape} of {dtype}, "
                f"more than the {max(room, 0)} bytes that are there; the file is damaged"
            )


_explained.explain_all(globals())
