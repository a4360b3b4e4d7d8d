"""CSV files as arrays: numbers by one strict grammar, labels by their exact text.

A cell is a number if it has ASCII digits, at most one point and an exponent: 12, -1.5, .5, 1e-3.
"1_2", "0x1F" and digits of other scripts are text, which float() does not say. Where all numbers of
a file have a decimal comma, as in much of Europe, that is read as a point.
A target like "NA" or "?" says that it is missing. It is refused, never made a class.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._calls import choice
from .errors import DataError
from .files import DAMAGED, existing_file, open_file
from .frames import Encoder, Encoders, encoded

Array = npt.NDArray[Any]
Cells = list[tuple[int, str]]  # (line, text)
Rows = list[tuple[int, list[str]]]

MAX_CLASSES = 100
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,5})?", re.ASCII)
COMMA_NUMBER = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d{1,5})?", re.ASCII)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)  # or a decimal comma: who knows
# Lower case, without signs: what programs write for a number that is missing, or is none.
MISSING = {"nan", "na", "n/a", "#n/a", "#na", "<na>", "null", "none", "nil", "missing", "?"}
MISSING |= {"inf", "infinity", "1.#ind", "1.#qnan", "1.#inf", "#value!", "#div/0!", "#num!"}
WORDS = {"none", "nil", "missing"}  # in lower case and among text, these name a class
DASHES = {"-", "--", "---", ".", "..", "*", "_"}  # missing, but among text they name a class
WAY_OUT = "fill it, or drop the row"


class _Columns(NamedTuple):
    x: npt.NDArray[np.float64]
    y: Array
    features: list[str]
    classes: list[str] | None


class Table(_Columns):
    """A table as arrays, (x, y, features, classes). `classes` is None where y holds measured
    values; `encoders` are those of its columns, fitted, by name."""

    encoders: dict[str, Encoder]

    def __new__(
        cls,
        x: npt.NDArray[np.float64],
        y: Array,
        features: list[str],
        classes: list[str] | None,
        encoders: dict[str, Encoder] | None = None,
    ) -> Table:
        """Unpacks as the first four."""
        made = super().__new__(cls, x, y, features, classes)
        made.encoders = encoders or {}
        return made


def load_csv(
    path: str | os.PathLike[str],
    target: int | str | None = -1,
    header: bool | str = "auto",
    kind: str = "auto",
    encoders: Encoders | None = None,
) -> Table:
    """Features (n, f) and one target column of a CSV file (also .csv.gz; separated by , ; or tab,
    or by what a first line "sep=|" says; numbers with a point, or all with a decimal comma).

    target: column number (negative from the right) or its name in the header; None: there is none,
        every column is a feature and y is empty, of shape (n, 0).
    header: True, False, or "auto": there is one if the first row has text over a number.
    kind: "class": y is 0..k-1, an index into `classes`, the labels found in the file, sorted;
        "value": y is float64; "auto": text, or whole numbers of at most 100 kinds, are classes.
    encoders: for columns of text, or with missing cells (empty, NA, nan, ...), by name or number:
        {"city": "onehot", "age": "median"}; see `Encoder`. table.encoders serve another file.
    Labels that are equal numbers (1 and 1.0) are one class; its name is the shortest spelling.
    DataError, with line and column: an empty or non-numeric cell among the features; a missing
    target (NA, nan, ?, ...); for "auto", a few cells of text among numbers that look measured; for
    "class", as good as every row its own number with a fraction.
    """
    choice("load_csv", "kind", kind, ("auto", "class", "value"), DataError)
    fitted: dict[str, Encoder] = {}
    file, x, features, cells = read_table(path, target, header, encoders, fitted)
    if cells is None:
        return Table(x, np.empty((len(x), 0)), features, None, fitted)
    y, classes = _target(file, cells, kind)
    return Table(x, y, features, classes, fitted)


def read_table(
    path: str | os.PathLike[str],
    target: int | str | None,
    header: bool | str = "auto",
    encoders: Encoders | None = None,
    fitted: dict[str, Encoder] | None = None,
) -> tuple[Path, npt.NDArray[np.float64], list[str], Cells | None]:
    """The file, its features as numbers, their names, and the target's cells as text; `fitted` gets
    the encoders."""
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
            f"load_csv: {file} has only its target column; it needs columns of features too, "
            "separated by , ; or tab"
        )
    features = [names[i] for i in keep]
    encoders = {names[k] if isinstance(k, int) else k: v for k, v in (encoders or {}).items()}
    for row, (line, cells) in enumerate(body):
        for place, i in enumerate(keep):
            if names[i] in encoders:
                continue
            value = number(cells[i])
            if value is None or not math.isfinite(value):
                what = f"{cells[i]!r} is not a finite number" if cells[i] else "the cell is empty"
                hint = "write a decimal point, and no commas for thousands"
                if not COMMA_NUMBER.fullmatch(cells[i]):
                    hint = "or encode the column (load_csv's encoders), or write text as numbers"
                raise DataError(
                    f"load_csv: {file} line {line}, column {i + 1} ({names[i]}): {what}; "
                    f"{WAY_OUT}, {hint}"
                )
            x[row, place] = value
    if encoders:
        columns = {
            name: _cells([cells[i] for _, cells in body]) if name in encoders else x[:, place]
            for place, (i, name) in enumerate(zip(keep, features, strict=True))
        }
        if len(columns) < len(features):
            raise DataError(f"load_csv: {file} has two columns of one name; encoders need others")
        x, features, made = encoded(columns, encoders, f"load_csv: {file}")
        if fitted is not None:
            fitted.update(made)
    if column is None:
        return file, x, features, None
    return file, x, features, [(line, cells[column]) for line, cells in body]


def _cells(texts: list[str]) -> Array:
    """A column: numbers with NaN for missing ones, else texts, "" where empty."""
    missing = [t == "" or t.lower().lstrip("+-") in MISSING or t in DASHES for t in texts]
    numbers = [math.nan if gone else number(t) for t, gone in zip(texts, missing, strict=True)]
    if None not in numbers and not all(missing):
        return np.array(numbers, np.float64)
    return np.array(texts, object)


def csv_width(path: str | os.PathLike[str]) -> int:
    """Columns of a CSV file."""
    rows = _csv_rows(existing_file(path, "load_csv"))
    return len(rows[0][1]) if rows else 0


def number(cell: str) -> float | None:
    """The number that a cell is, or None."""
    return float(cell) if NUMBER.fullmatch(cell) else None


# ---- rows


def _csv_rows(file: Path) -> Rows:
    """(line number, cells) of every row that is not blank. Rows end at LF, CR LF or CR alone."""
    try:
        with open_file(file, "load_csv") as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"load_csv: {file} is not UTF-8 text (byte {error.start})") from None
    except DAMAGED as error:
        raise DataError(f"load_csv: {file} is damaged or cut short ({error})") from None
    if "\0" in text:
        raise DataError(f"load_csv: {file} holds zero bytes; it is not a text file")
    said = re.match(r"\"?sep=([^\r\n\"])\"?[ ,;\t]*(\r\n|\r|\n|$)", text, re.IGNORECASE)
    if said:  # Excel's way of saying it
        delimiter, text = said[1], "\n" + text[said.end() :]
    else:
        delimiter = max(",;\t", key=lambda d: _fitness(text, d))
    rows: Rows = []
    reader = _reader(text, delimiter)
    try:
        rows = [(reader.line_num, cells) for cells in map(_stripped, reader) if any(cells)]
    except csv.Error as error:
        raise DataError(f"load_csv: {file} line {reader.line_num}: {error}") from None
    if delimiter != ",":
        _read_decimal_commas(rows)
    return rows


def _reader(text: str, delimiter: str) -> Any:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _stripped(cells: list[str]) -> list[str]:
    return [cell.strip(" \t\r\n") for cell in cells]


def _fitness(text: str, delimiter: str) -> tuple[int, int, int]:
    """How well a delimiter cuts the first rows: the best one gives rows of one width, two or more,
    then the most numbers, then the most cells."""
    rows: list[list[str]] = []
    whole = True
    try:
        rows.extend(filter(any, map(_stripped, islice(_reader(text, delimiter), 200))))
    except csv.Error:
        whole = False
    width = len(rows[0]) if rows else 1
    if width == 1:
        return 0, 0, 0
    if not whole or any(len(cells) != width for cells in rows):
        return 1, width, 0
    found = [c for cells in rows for c in cells if NUMBER.fullmatch(c) or COMMA_NUMBER.fullmatch(c)]
    return 2, len(found), width


def _read_decimal_commas(rows: Rows) -> None:
    """Makes points of decimal commas. Not if a number has a point, nor if each comma may be one
    for thousands (1,234): then the cell is refused as a feature, and is text as a label."""
    found = {cell for _, cells in rows for cell in cells if COMMA_NUMBER.fullmatch(cell)}
    if all(THOUSANDS.fullmatch(cell) for cell in found):
        return
    if any("." in cell and number(cell) is not None for _, cells in rows for cell in cells):
        return
    for _, cells in rows:
        cells[:] = [cell.replace(",", ".") if cell in found else cell for cell in cells]


def _has_header(rows: Rows) -> bool:
    """Text over a number is a name. A row of names alone, over any number, is a header too: it
    cannot be data, since x is numeric."""

    def numeric(cell: str) -> bool:
        return bool(NUMBER.fullmatch(cell) or COMMA_NUMBER.fullmatch(cell))

    first = [numeric(cell) for cell in rows[0][1]]
    second = [numeric(cell) for cell in rows[1][1]] if len(rows) > 1 else first
    if any(below and not above for above, below in zip(first, second, strict=True)):
        return True
    names = [cell for cell in rows[0][1] if cell and cell.lower().lstrip("+-") not in MISSING]
    below = (numeric(cell) for _, cells in rows[1:] for cell in cells)
    return not any(first) and len(names) == len(first) and any(below)


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


# ---- the target


def _target(file: Path, cells: Cells, kind: str) -> tuple[Array, list[str] | None]:
    numbers = [value for _, cell in cells if (value := number(cell)) is not None]
    _refuse_missing(file, cells, bool(numbers))
    values = np.array(numbers, dtype=np.float64)
    strays = [(line, cell) for line, cell in cells if number(cell) is None]
    if strays and kind == "value":
        line, cell = strays[0]
        raise DataError(f"load_csv: {file} line {line}: target {cell!r} is not a finite number")
    kinds = len({Decimal(cell) for _, cell in cells if number(cell) is not None})
    whole = bool((values == np.floor(values)).all())
    measured = not whole or kinds > MAX_CLASSES
    if kind == "auto":
        if strays and measured and 3 * len(strays) <= len(numbers):
            line, cell = strays[0]
            raise DataError(
                f"load_csv: {file} line {line}: target {cell!r} is text, and {len(numbers)} others "
                f"are numbers that look measured; correct it, {WAY_OUT}, or say what the target is "
                "with kind='value' or 'class' (--task)"
            )
        kind = "value" if measured and not strays else "class"
    if kind == "value":
        return values, None
    if not whole and (kinds > MAX_CLASSES or (kinds > 10 and 2 * kinds > len(cells))):
        raise DataError(
            f"load_csv: {file}: the target has {kinds} different numbers with fractions in "
            f"{len(cells)} rows, too many for classes; learn them as values with kind='value' "
            "(--task regress), or round them to a few classes"
        )
    return _classes(cells)


def _refuse_missing(file: Path, cells: Cells, among_numbers: bool) -> None:
    for line, cell in cells:
        word = cell.lower().lstrip("+-")
        names_a_class = not among_numbers and (cell in DASHES or cell in WORDS)
        if (word in MISSING or cell in DASHES) and not names_a_class:
            raise DataError(
                f"load_csv: {file} line {line}: the target is {cell!r}, which says that it is "
                f"missing or no number; {WAY_OUT} (a class that is really called so needs another "
                "name)"
            )
        value = number(cell)
        if not cell or (value is not None and not math.isfinite(value)):
            what = f"{cell!r}, not a finite number" if cell else "empty"
            raise DataError(f"load_csv: {file} line {line}: the target is {what}; {WAY_OUT}")


def _classes(cells: Cells) -> tuple[Array, list[str]]:
    """Numbers are told apart by their exact values and come in their order (2, 10 and not "10",
    "2"); the shortest spelling, without a fraction of zeros, is the name."""
    texts = [cell for _, cell in cells]
    if not all(map(NUMBER.fullmatch, texts)):
        names = sorted(set(texts))
        index = {name: i for i, name in enumerate(names)}
        return np.array([index[text] for text in texts], dtype=np.int64), names
    values = [Decimal(text) for text in texts]
    spelled: dict[Decimal, str] = {}
    for value, text in zip(values, texts, strict=True):
        spelled[value] = min(spelled.get(value, text), text, key=lambda t: (len(t), t))
    order = {value: i for i, value in enumerate(sorted(spelled))}
    whole = re.compile(r"([+-]?\d+)\.0*", re.ASCII)
    names = [m[1] if (m := whole.fullmatch(spelled[v])) else spelled[v] for v in order]
    return np.array([order[value] for value in values], dtype=np.int64), names


def class_numbers(cells: Cells, classes: list[str]) -> Array | None:
    """The cells as indices into `classes`; None if one of them is none of these."""

    def key(text: str) -> Decimal | str:
        return Decimal(text) if NUMBER.fullmatch(text) else text

    index = {key(name): i for i, name in enumerate(classes)} | {
        name: i for i, name in enumerate(classes)
    }
    found = [index.get(cell, index.get(key(cell))) for _, cell in cells]
    return None if None in found else np.array(found, dtype=np.int64)
