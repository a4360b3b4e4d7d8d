"""Readers of data files: IDX (MNIST's format), CSV, NPZ. Each returns NumPy arrays.

IDX is: two zero bytes, a byte for the dtype, a byte for the number of axes, one big-endian uint32
size per axis, then the values, big-endian, last axis fastest.
Sizes in a header are compared with the size of the file before memory is asked for, so a damaged
or hostile header is refused, never allocated. Nothing here can run code: NPZ is read without
pickle.
"""

from __future__ import annotations

import csv
import gzip
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

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
MAX_CLASSES = 100
DAMAGED = (OSError, EOFError, zlib.error)  # what reading a bad compressed file may raise


def existing_file(path: str | os.PathLike[str], op: str, hint: str = "check the path") -> Path:
    """The path, if a file is there; otherwise the error that says what is."""
    file = Path(path)
    if file.is_dir():
        raise DataError(f"{op}: {file} is a directory, a file was expected")
    if not file.exists():
        raise DataNotFoundError(f"{op}: no file {file}; {hint}")
    return file


def _open(file: Path, op: str) -> IO[bytes]:
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
    with _open(file, "load_idx") as stream:
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


class Table(NamedTuple):
    """A CSV file as arrays. `classes` is None where y holds measured values."""

    x: npt.NDArray[np.float64]
    y: Array
    features: list[str]
    classes: list[str] | None


def load_csv(
    path: str | os.PathLike[str],
    target: int | str | None = -1,
    header: bool | str = "auto",
    kind: str = "auto",
) -> Table:
    """Features (n, f) and one target column of a CSV file (also .csv.gz; separated by , ; or tab).

    target: column number (negative from the right) or its name in the header; None: there is none,
        every column is a feature and y is empty, of shape (n, 0).
    header: True, False, or "auto": there is one if the first row has text over a number.
    kind: "class": y is 0..k-1, an index into `classes`, the sorted labels found in the file;
        "value": y is float64; "auto": text, or whole numbers of at most 100 kinds, are classes.
    An empty or non-numeric cell among the features is an error that names its line and column.
    """
    if kind not in ("auto", "class", "value"):
        raise DataError(f"load_csv: kind is {kind!r}; expected 'auto', 'class' or 'value'")
    file = existing_file(path, "load_csv")
    rows = _csv_rows(file)
    if not rows:
        raise DataError(f"load_csv: {file} is empty")
    width = len(rows[0][1])
    for line, cells in rows:
        if len(cells) != width:
            raise DataError(
                f"load_csv: {file} line {line}: {len(cells)} columns, the first row has {width}"
            )
    has_header = _has_header(rows) if header == "auto" else bool(header)
    names = rows[0][1] if has_header else [f"column {i}" for i in range(width)]
    body = rows[1:] if has_header else rows
    if not body:
        raise DataError(f"load_csv: {file} has a header and no row of data")
    column = None if target is None else _target_column(file, target, names, has_header)
    x = np.empty((len(body), width - (column is not None)), dtype=np.float64)
    keep = [i for i in range(width) if i != column]
    if not keep:
        raise DataError(
            f"load_csv: {file} has only its target column; features are needed beside it"
        )
    for row, (line, cells) in enumerate(body):
        for place, i in enumerate(keep):
            value = _number(cells[i])
            if value is None or not math.isfinite(value):
                what = f"{cells[i]!r} is not a finite number" if cells[i] else "the cell is empty"
                raise DataError(
                    f"load_csv: {file} line {line}, column {i + 1} ({names[i]}): {what}; "
                    "fill it, drop the row, or write text features as numbers"
                )
            x[row, place] = value
    features = [names[i] for i in keep]
    if column is None:
        return Table(x, np.empty((len(body), 0)), features, None)
    y, classes = _target(file, [(line, cells[column]) for line, cells in body], kind)
    return Table(x, y, features, classes)


def _csv_rows(file: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not blank."""
    try:
        with _open(file, "load_csv") as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"load_csv: {file} is not UTF-8 text (byte {error.start})") from None
    except DAMAGED as error:
        raise DataError(f"load_csv: {file} is damaged or cut short ({error})") from None
    if "\0" in text:
        raise DataError(f"load_csv: {file} holds zero bytes; it is not a text file")
    lines = text.splitlines(keepends=True)
    first = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise DataError(f"load_csv: {file} line {reader.line_num}: {error}") from None
    return rows


def csv_width(path: str | os.PathLike[str]) -> int:
    """Columns of a CSV file."""
    rows = _csv_rows(existing_file(path, "load_csv"))
    return len(rows[0][1]) if rows else 0


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _has_header(rows: list[tuple[int, list[str]]]) -> bool:
    """Text over a number is a name. All text over all text cannot be data either: x is numeric."""
    first = [_number(cell) is not None for cell in rows[0][1]]
    second = [_number(cell) is not None for cell in rows[1][1]] if len(rows) > 1 else first
    return any(below and not above for above, below in zip(first, second, strict=True))


def _target_column(file: Path, target: int | str, names: list[str], has_header: bool) -> int:
    if isinstance(target, str):
        if not has_header:
            raise DataError(
                f"load_csv: {file} has no header, so no column {target!r}; give its number"
            )
        if names.count(target) != 1:
            found = "two columns" if target in names else "no column"
            raise DataError(
                f"load_csv: {file} has {found} named {target!r}; columns: {', '.join(names)}"
            )
        return names.index(target)
    if not -len(names) <= target < len(names):
        raise DataError(f"load_csv: {file} has {len(names)} columns, no column number {target}")
    return target % len(names)


def _target(file: Path, cells: list[tuple[int, str]], kind: str) -> tuple[Array, list[str] | None]:
    numbers: list[float] = []
    for line, cell in cells:
        if not cell:
            raise DataError(
                f"load_csv: {file} line {line}: the target is empty; fill it or drop the row"
            )
        value = _number(cell)
        if value is not None and math.isfinite(value):
            numbers.append(value)
        elif kind == "value":
            raise DataError(f"load_csv: {file} line {line}: target {cell!r} is not a finite number")
    numeric = len(numbers) == len(cells)
    values = np.array(numbers, dtype=np.float64)
    if kind == "auto":
        whole = numeric and bool((values == np.floor(values)).all())
        few = len(set(numbers)) <= MAX_CLASSES
        kind = "class" if not numeric or (whole and few) else "value"
    if kind == "value":
        return values, None
    if numeric:  # 2, 10 and not "10", "2"; and 1 and 1.0 are one class
        found, y = np.unique(values, return_inverse=True)
        return y.astype(np.int64), [f"{v:g}" for v in found]
    labels = sorted({cell for _, cell in cells})
    index = {label: i for i, label in enumerate(labels)}
    return np.array([index[cell] for _, cell in cells], dtype=np.int64), labels


NPZ_KEYS = (("x", "y"), ("X", "y"), ("images", "labels"), ("data", "target"))


def load_npz(path: str | os.PathLike[str], need_y: bool = True) -> tuple[Array, Array]:
    """x and y from an NPZ file with arrays x and y (or images and labels, or data and target).

    need_y=False: y may be missing and is then empty, of shape (n, 0).
    """
    file = existing_file(path, "load_npz")
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                _check_npy(file, archive, member)
        with np.load(file, allow_pickle=False) as arrays:
            found = list(arrays.files)
            pairs = [(a, b) for a, b in NPZ_KEYS if a in found and (b in found or not need_y)]
            if not pairs:
                raise DataError(
                    f"load_npz: {file} holds {', '.join(found) or 'nothing'}; expected x and y, "
                    "or images and labels: np.savez(path, x=..., y=...)"
                )
            x_key, y_key = max(pairs, key=lambda pair: pair[1] in found)
            x = arrays[x_key]
            y = arrays[y_key] if y_key in found else None
    except DataError:
        raise
    except (*DAMAGED, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"load_npz: {file} cannot be read as NPZ: {error}") from None
    if y is None:
        y = np.empty((len(x) if x.ndim else 0, 0))
    for name, array in ((x_key, x), (y_key, y)):
        if array.dtype.kind not in "biuf":
            raise DataError(f"load_npz: {file}: {name} is {array.dtype}; numbers are needed")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(
                f"load_npz: {file}: {name} holds NaN or infinity; fill or drop those rows"
            )
    if x.ndim < 2 or y.ndim == 0 or len(x) != len(y):
        raise DataError(
            f"load_npz: {file}: {x_key} {x.shape} and {y_key} {y.shape} do not belong together; "
            "expected (n, features...) and (n,)"
        )
    return x, y


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
