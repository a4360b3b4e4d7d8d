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
import shlex
from collections.abc import Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._calls import choice
from .errors import DataError
from .files import DAMAGED, existing_file, open_file
from .frames import FILLS, Encoder, Encoders, encoded

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
    sheet = read_sheet(path, [target, *(encoders or ())], header).of_target(target)
    x, features, fitted = sheet.numbers(sheet.features, encoders)
    if sheet.target is None:
        return Table(x, np.empty((len(x), 0)), features, None, fitted)
    y, classes = read_target(sheet.file, sheet.labels(), kind)
    return Table(x, y, features, classes, fitted)


class Sheet(NamedTuple):
    """A CSV file as text: the names of its columns, its rows, and which column is the target."""

    file: Path
    names: list[str]
    has_header: bool
    rows: Rows
    target: int | None = None

    def column(self, key: int | str) -> int:
        """Its number. DataError where there is none of that name or number."""
        names = self.names
        if isinstance(key, str):
            if not self.has_header and key not in names:
                raise DataError(
                    f"load_csv: {self.file} has no header, so no column {key!r}; give its number"
                )
            if names.count(key) != 1:
                found = "two columns" if key in names else "no column"
                raise DataError(
                    f"load_csv: {self.file} has {found} named {key!r}; columns: {', '.join(names)}"
                )
            return names.index(key)
        if not -len(names) <= key < len(names):
            raise DataError(
                f"load_csv: {self.file} has {len(names)} columns, no column number {key}"
            )
        return key % len(names)

    def of_target(self, target: int | str | None) -> Sheet:
        """The same with that target."""
        if target is None:
            return self
        if len(self.names) == 1:
            raise DataError(
                f"load_csv: {self.file} has only its target column; it needs columns of features "
                "too, separated by , ; or tab"
            )
        return self._replace(target=self.column(target))

    @property
    def features(self) -> list[int]:
        """The numbers of the other columns."""
        return [i for i in range(len(self.names)) if i != self.target]

    def labels(self) -> Cells:
        """The target's cells."""
        assert self.target is not None
        return [(line, cells[self.target]) for line, cells in self.rows]

    def numbers(
        self, columns: list[int], encoders: Encoders | None = None
    ) -> tuple[npt.NDArray[np.float64], list[str], dict[str, Encoder]]:
        """These columns as numbers, the names of what they became, and the fitted encoders."""
        given = {self.names[self.column(key)]: one for key, one in (encoders or {}).items()}
        if len(given) < len(encoders or {}):
            raise DataError(
                f"load_csv: {self.file}: encoders name a column twice, by name and number; give "
                "each one encoder"
            )
        names = [self.names[i] for i in columns]
        if not given:
            made = [self._cells(i, None) for i in columns]
            return np.stack(made, axis=1) if made else np.empty((len(self.rows), 0)), names, {}
        if len(set(names)) < len(names):
            raise DataError(
                f"load_csv: {self.file} has two columns of one name; encoders need others"
            )
        cells = {
            name: self._cells(i, given.get(name)) for i, name in zip(columns, names, strict=True)
        }
        return encoded(
            cells, given, f"load_csv: {self.file}", lambda row: f"line {self.rows[row][0]}"
        )

    def _cells(self, column: int, encoder: str | Encoder | None) -> Array:
        """A column: finite numbers, with an encoder NaN for missing ones; or texts for an encoder
        of these, "" where empty. DataError for other cells."""
        texts = [cells[column] for _, cells in self.rows]
        kind = encoder.kind if isinstance(encoder, Encoder) else encoder
        of_text = kind is not None and kind not in FILLS
        if isinstance(encoder, Encoder):  # fitted: to texts, or to numbers
            of_text = any(isinstance(value, str) and value for value in encoder.values)
            if of_text:
                return np.array(texts, object)
        missing = [kind is not None and _is_missing(text) for text in texts]
        found = [math.nan if gone else number(t) for t, gone in zip(texts, missing, strict=True)]
        if of_text and (None in found or all(missing)):
            return np.array(texts, object)
        for row, value in enumerate(found):
            if value is None or (not missing[row] and not math.isfinite(value)):
                raise self._no_number(row, column, kind)
        return np.array(found, np.float64)

    def _no_number(self, row: int, column: int, kind: str | None) -> DataError:
        line, cell = self.rows[row][0], self.rows[row][1][column]
        what = f"{cell!r} is not a finite number" if cell else "the cell is empty"
        name = shlex.quote(self.names[column] if self.has_header else str(column))
        one = "median" if _is_missing(cell) else "onehot"
        hint = f"or encode the column (--encode {name}={one}; encoders= in Python)"
        if kind is not None:
            hint = f"or give another encoder: {kind} takes numbers and missing cells here"
        elif COMMA_NUMBER.fullmatch(cell):
            hint = "write a decimal point, and no commas for thousands"
        return DataError(
            f"load_csv: {self.file} line {line}, column {column + 1} ({self.names[column]}): "
            f"{what}; {WAY_OUT}, {hint}"
        )


def read_sheet(
    path: str | os.PathLike[str],
    named: Sequence[int | str | None] = (),
    header: bool | str = "auto",
) -> Sheet:
    """The file's text; `named` are columns that one will ask for: a first row with one of these
    names is a header."""
    file = existing_file(path, "load_csv")
    rows = _csv_rows(file)
    if not rows:
        raise DataError(f"load_csv: {file} is empty")
    first = rows[0][1]
    for line, cells in rows:
        if len(cells) != len(first):
            raise DataError(
                f"load_csv: {file} line {line}: {len(cells)} columns, "
                f"the first row has {len(first)}"
            )
    has_header = bool(header)
    if header == "auto":
        has_header = _has_header(rows) or any(isinstance(n, str) and n in first for n in named)
    if not has_header:
        return Sheet(file, [f"column {i}" for i in range(len(first))], False, rows)
    if len(rows) == 1:
        raise DataError(f"load_csv: {file} has a header and no row of data")
    return Sheet(file, first, True, rows[1:])


def _is_missing(cell: str) -> bool:
    return cell == "" or cell.lower().lstrip("+-") in MISSING or cell in DASHES


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
    names = [
        not above and not _is_missing(cell) for above, cell in zip(first, rows[0][1], strict=True)
    ]
    if any(below and name for name, below in zip(names, second, strict=True)):
        return True
    below = any(numeric(cell) for _, cells in rows[1:] for cell in cells)
    return not any(first) and below and (all(names) or any(second))


# ---- the target


def read_target(file: Path, cells: Cells, kind: str) -> tuple[Array, list[str] | None]:
    """y, and its classes where it has some; see `load_csv`."""
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
