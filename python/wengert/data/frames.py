"""Tables with named columns as arrays: frames of pandas and Polars, tables of Arrow, datasets of
Hugging Face, dicts of arrays. None of these libraries is needed: a table is what has names of
columns and gives a column by its name.

Text and missing values need an encoder for their column, which is said, never guessed:

    encoders={"city": "onehot", "size": "ordinal", "age": "median"}

    "onehot"            text: a column of 0 and 1 for each text there is
    "ordinal"           text: its number among the texts there are, sorted
    "mean", "median", "zero"   numbers: what stands for a missing one
    Encoder             one that was fitted to other data: table.encoders of the training part
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _explained
from .errors import DataError

Array = npt.NDArray[Any]
At = Callable[[int], str]  # what messages call a row
FILLS = ("mean", "median", "zero")
KINDS = ("onehot", "ordinal", *FILLS)


class Encoder(NamedTuple):
    """An encoder of a column, fitted: `values` are its texts or numbers, "" for a missing one; of a
    fill, the number for a missing one."""

    kind: str
    values: tuple[Any, ...]

    @classmethod
    def fit(cls, kind: str, cells: Array, where: str) -> Encoder:
        """kind: of the module's table. cells: texts, or floats with NaN for a missing one."""
        if kind not in KINDS:
            raise DataError(f"{where}: no encoder {kind!r}; there are {', '.join(KINDS)}")
        if kind not in FILLS:
            found = set(map(_category, cells.tolist()))
            return cls(kind, (*({""} & found), *sorted(found - {""})))
        if cells.dtype.kind == "O":
            raise DataError(f"{where} holds text, which {kind!r} does not encode; say 'onehot'")
        known = cells[~np.isnan(cells)]
        if not len(known) and kind != "zero":
            raise DataError(f"{where} has no number at all; {kind!r} needs some")
        if kind == "zero":
            return cls(kind, (0.0,))
        return cls(kind, (float(np.mean(known) if kind == "mean" else np.median(known)),))

    def __call__(self, cells: Array, where: str, at: At = "row {}".format) -> Array:
        """(n, columns), float64. DataError for a text that was not there when it was fitted."""
        if self.kind in FILLS:
            of_text = cells.dtype.kind == "O"
            wrong = cells != "" if of_text else np.isinf(cells)
            if wrong.any():
                row = int(wrong.argmax())
                raise DataError(
                    f"{where} has {cells[row]!r} in {at(row)}, and its encoder ({self.kind}) takes "
                    "finite numbers and missing ones; correct it, or drop the row"
                )
            numbers = np.full(len(cells), math.nan) if of_text else cells.astype(np.float64)
            return np.where(np.isnan(numbers), self.values[0], numbers)[:, None]
        places = {value: i for i, value in enumerate(self.values)}
        found = [places.get(_category(c), -1) for c in cells.tolist()]
        if -1 in found:
            row = found.index(-1)
            raise DataError(
                f"{where} has {cells[row]!r} in {at(row)}, which the encoder does not know; it "
                f"knows {', '.join(map(str, self.values[:10]))}; correct it, drop the row, or fit "
                "an encoder with it (train with such a row)"
            )
        if self.kind == "ordinal":
            return np.array(found, np.float64)[:, None]
        made: Array = np.eye(len(self.values))[found]
        return made

    def check(self) -> None:
        """ValueError if it is none that `fit` makes: of a file that was altered."""
        numbers = [v for v in self.values if isinstance(v, (int, float)) and math.isfinite(v)]
        good = len(numbers) == 1 if self.kind in FILLS else len(set(self.values)) > 0
        good = good and all(isinstance(v, str) or v in numbers for v in self.values)
        if self.kind not in KINDS or not good:
            raise ValueError(f"{self!r:.80} is no encoder")

    def names(self, column: str) -> list[str]:
        """What its columns are called."""
        return [f"{column}={v}" for v in self.values] if self.kind == "onehot" else [column]


def _category(cell: Any) -> Any:
    """A cell as a category: a missing number is "", as a missing text is."""
    return "" if cell != cell else cell


Encoders = Mapping[Any, "str | Encoder"]  # by a column's name; of a CSV file, or its number


def is_table(value: Any) -> bool:
    """Whether it has named columns."""
    if isinstance(value, dict):
        return bool(value) and all(isinstance(name, str) for name in value)
    return not isinstance(value, np.ndarray) and _names(value) is not None


def _names(table: Any) -> list[Any] | None:
    if isinstance(table, dict):
        return list(table)
    for attribute in ("column_names", "columns"):  # Arrow and Hugging Face; pandas and Polars
        names = getattr(table, attribute, None)
        if isinstance(names, Mapping):
            break  # of a dict of splits
        if names is not None and not callable(names):
            return list(names)
    return None


def columns_of(table: Any, where: str) -> dict[str, Array]:
    """Its columns: floats with NaN for a missing number, whole numbers, bools; else objects, texts
    with "" for a missing one. DataError for cells that are neither."""
    names = _names(table)
    if not names:
        raise DataError(f"{where}: {type(table).__name__} has no named columns")
    if len(set(names)) < len(names):
        double = next(n for n in names if names.count(n) > 1)
        raise DataError(f"{where}: two columns are called {double!r}; rename one")
    return {str(name): _column(table, name, where) for name in names}


def _column(table: Any, name: Any, where: str) -> Array:
    of_arrow = hasattr(table, "column_names") and hasattr(table, "column")
    column = table.column(name) if of_arrow else table[name]
    array = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
    if array.ndim > 1 or (array.ndim == 0):
        raise DataError(
            f"{where}: column {name!r} has shape {array.shape}; expected one cell a row"
        )
    if array.dtype.kind in "iub":
        return array
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    if array.dtype.kind in "mM":
        raise DataError(
            f"{where}: column {name!r} holds times ({array.dtype}); make numbers of them, such as "
            "seconds since a day, or leave it out"
        )
    cells = [None if _is_missing(c) else c for c in array.tolist()]
    if all(c is None or isinstance(c, (bool, int, float)) for c in cells):
        return np.array([math.nan if c is None else float(c) for c in cells])
    if all(c is None or isinstance(c, str) for c in cells):
        made = np.empty(len(cells), object)
        made[:] = ["" if c is None else c for c in cells]
        return made
    known = [(i, c) for i, c in enumerate(cells) if c is not None]
    kind = type(known[0][1])  # where kinds are mixed, the first of another kind
    row = next((i for i, c in known if type(c) is not kind), known[0][0])
    raise DataError(
        f"{where}: column {name!r} holds objects ({type(cells[row]).__name__} in row {row}), not "
        "numbers alone or text alone; convert it, or leave it out"
    )


def _is_missing(cell: Any) -> bool:
    if cell is None:
        return True
    try:
        return bool(cell != cell)
    except (TypeError, ValueError):  # pandas' NA is neither
        return type(cell).__name__ == "NAType"


def encoded(
    columns: Mapping[str, Array], encoders: Encoders | None, where: str, row: At = "row {}".format
) -> tuple[npt.NDArray[np.float64], list[str], dict[str, Encoder]]:
    """(x, names of its columns, the fitted encoders). DataError for a column of text, or one with
    missing numbers, without an encoder."""
    encoders = dict(encoders or {})
    if strange := [name for name in encoders if name not in columns]:
        raise DataError(
            f"{where}: an encoder is given for {strange[0]!r}, which is no feature; those are "
            f"{', '.join(columns)}"
        )
    parts: list[Array] = []
    names: list[str] = []
    fitted: dict[str, Encoder] = {}
    for name, cells in columns.items():
        at = f"{where}: column {name!r}"
        given = encoders.get(name)
        if given is not None:
            one = given if isinstance(given, Encoder) else Encoder.fit(given, cells, at)
            fitted[name] = one
            parts.append(one(cells, at, row))
            names += one.names(name)
            continue
        if cells.dtype.kind == "O":
            raise DataError(
                f"{at} holds text, such as {next((c for c in cells if c), '')!r}; give "
                f"encoders={{{name!r}: 'onehot'}} or 'ordinal', or leave the column out"
            )
        numbers = cells.astype(np.float64)
        if not np.isfinite(numbers).all():
            i = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise DataError(
                f"{at} has {numbers[i]} in {row(i)}: a missing number, or none; give "
                f"encoders={{{name!r}: 'median'}}, 'mean' or 'zero', or drop the row"
            )
        parts.append(numbers[:, None])
        names.append(name)
    n = len(next(iter(columns.values()))) if columns else 0
    return np.concatenate(parts, axis=1) if parts else np.empty((n, 0)), names, fitted


def target_of(cells: Array, kind: str, where: str) -> tuple[Array, list[str] | None]:
    """y and its classes, by the rules of `load_csv`."""
    from .tables import MAX_CLASSES

    if cells.dtype.kind == "O":
        if missing := [i for i, c in enumerate(cells) if c == ""]:
            raise DataError(f"{where} is missing in row {missing[0]}; fill it, or drop the row")
        if kind == "value":
            raise DataError(f"{where} is text, such as {cells[0]!r}, and kind is 'value'")
        texts, numbers = np.unique(cells.astype(str), return_inverse=True)
        return numbers.astype(np.int64), [str(t) for t in texts]
    values = cells.astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{where} is {values[row]} in row {row}; fill it, or drop the row")
    kinds = np.unique(cells)
    whole = bool((values == np.floor(values)).all())
    if kind == "class" or (kind == "auto" and whole and len(kinds) <= MAX_CLASSES):
        names = [str(int(k)) if float(k).is_integer() else str(k) for k in kinds.tolist()]
        return np.searchsorted(kinds, cells).astype(np.int64), names
    return values, None


def load_frame(
    frame: Any,
    target: str | None = None,
    *,
    features: Sequence[str] | None = None,
    kind: str = "auto",
    encoders: Encoders | None = None,
) -> Any:
    """The `Table` of a frame of pandas or Polars, an Arrow table, a Hugging Face dataset or a dict
    of arrays.

    target: the column to learn; None: there is none. features: the columns to learn from; all
    others unless given. kind: as in `load_csv`. encoders: see this module's text; those of the
    training part, `table.encoders`, serve its test part.

        train = load_frame(frame, "price", encoders={"city": "onehot", "area": "median"})
        test = load_frame(other, "price", encoders=train.encoders)
    """
    from .._calls import choice
    from .tables import Table

    choice("load_frame", "kind", kind, ("auto", "class", "value"), DataError)
    columns = columns_of(frame, "load_frame")
    for name in [*(features or ()), *([target] if target is not None else ())]:
        if name not in columns:
            raise DataError(f"load_frame: no column {name!r}; there are {', '.join(columns)}")
    wanted = features if features is not None else [name for name in columns if name != target]
    if not wanted:
        raise DataError("load_frame: no column is left to learn from")
    x, names, fitted = encoded({n: columns[n] for n in wanted}, encoders, "load_frame")
    if target is None:
        return Table(x, np.empty((len(x), 0)), names, None, fitted)
    y, classes = target_of(columns[target], kind, f"load_frame: target {target!r}")
    return Table(x, y, names, classes, fitted)


_explained.explain_all(globals())
