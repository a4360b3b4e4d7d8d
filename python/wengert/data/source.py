"""What `wengert train --data` accepts, brought into one form: a Dataset, split and ready to scale.

    digits      the digits inside the package
    DIR         a directory of IDX files (MNIST, Fashion-MNIST), which brings its own test part
    FILE.csv    features and a target column (also .csv.gz, .tsv)
    FILE.npz    arrays x and y
Inputs are flattened to (n, features). The scaling is learned from the training part alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .batching import Array, Split, Standardizer, split
from .digits import load_digits
from .errors import DataError, DataNotFoundError
from .files import (
    FASHION_MNIST_HINT,
    Table,
    csv_width,
    load_csv,
    load_idx,
    load_idx_directory,
    load_npz,
)


@dataclass(frozen=True)
class Dataset:
    """Both parts of a data set, unscaled; `classes` is None where y holds measured values."""

    name: str
    parts: Split
    standardizer: Standardizer
    classes: list[str] | None
    columns: list[str] | None = None  # names of the features, where a CSV file has a header

    @property
    def features(self) -> int:
        """Inputs of a network for these data."""
        return int(self.parts.x_train.shape[1])

    @property
    def outputs(self) -> int:
        """Outputs of a network for these data: classes, or values per sample."""
        y = self.parts.y_train
        return len(self.classes) if self.classes is not None else int(y.shape[1])


def _flat(x: Array) -> Array:
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


def _class_names(y: Array, where: str) -> list[str]:
    if y.size == 0:
        raise DataError(f"{where}: no samples")
    lowest, highest = int(y.min()), int(y.max())
    if lowest < 0 or highest > 99_999:
        raise DataError(
            f"{where}: labels run from {lowest} to {highest}; expected 0 to classes - 1"
        )
    return [str(i) for i in range(highest + 1)]


def load(
    source: str,
    target: int | str = -1,
    kind: str = "auto",
    fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """The Dataset behind "digits", a directory, a .csv or a .npz.

    target, kind: as in `load_csv`; fraction, seed: the test part of a source that has none.
    """
    path = Path(source)
    classes: list[str] | None
    columns: list[str] | None = None
    x: Array
    y: Array
    if source == "digits":
        x, y = load_digits()
        parts = split(x, y, fraction, seed)
        return Dataset("digits", parts, Standardizer(0.0, 16.0), [str(i) for i in range(10)])
    if path.is_dir():
        images = load_idx_directory(path)
        parts = images._replace(x_train=_flat(images.x_train), x_test=_flat(images.x_test))
        classes = _class_names(np.concatenate([parts.y_train, parts.y_test]), source)
        scaler = Standardizer.fit(parts.x_train, per_feature=False)
        return Dataset(path.name, parts, scaler, classes)
    if is_csv(path):
        table = load_csv(path, target, kind=kind)
        x, y, classes, columns = table.x, table.y, table.classes, _named(table)
    elif path.suffix == ".npz":
        x, y = load_npz(path)
        x = _flat(x)
        if kind == "value" or (kind == "auto" and (y.ndim > 1 or y.dtype.kind == "f")):
            classes, y = None, y.astype(np.float64)
        elif y.ndim != 1 or y.dtype.kind not in "iub":
            raise DataError(
                f"{source}: labels are {y.dtype} {y.shape}; classes are whole numbers (n,)"
            )
        else:
            y = y.astype(np.int64)
            classes = _class_names(y, source)
    elif path.exists():
        raise DataError(f"{source}: unknown kind of file; expected .csv, .npz or an IDX directory")
    else:
        raise DataNotFoundError(
            f"{source}: no such file or directory; give digits, a directory of IDX files, a .csv "
            f"or a .npz ({FASHION_MNIST_HINT})"
        )
    if classes is None:
        y = y.reshape(len(y), -1)
    parts = split(x, y, fraction, seed)
    return Dataset(path.name, parts, Standardizer.fit(parts.x_train), classes, columns)


def is_csv(path: Path) -> bool:
    """Whether the name is that of a CSV file."""
    return path.name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz"))


def load_inputs(source: str, features: int, meta: dict[str, Any]) -> tuple[Array, Array | None]:
    """Rows to predict, (n, features), and their labels where the source has them.

    meta: what training noted in the checkpoint: seed and fraction of the split, target, classes and
    columns.
    A CSV may come with the target column or without it. "digits" gives the part kept back.
    """
    path = Path(source)
    y: Array | None = None
    if source == "digits":
        parts = load("digits", fraction=meta["fraction"], seed=meta["seed"]).parts
        x, y = parts.x_test, parts.y_test
    elif path.is_dir():
        images = load_idx_directory(path)
        x, y = images.x_test, images.y_test
    elif is_csv(path):
        width = csv_width(path)
        if width not in (features, features + 1):
            raise DataError(
                f"{source} has {width} columns; the checkpoint's network takes {features} features"
            )
        table = load_csv(path, None if width == features else meta["target"])
        x = table.x[:, _column_order(source, _named(table), meta["columns"])]
        if table.classes is not None and meta["classes"] is not None:
            index = {name: i for i, name in enumerate(meta["classes"])}
            known = all(name in index for name in table.classes)
            y = np.array([index[table.classes[i]] for i in table.y]) if known else None
    elif path.suffix == ".npz":
        x, labels = load_npz(path, need_y=False)
        y = labels if labels.ndim == 1 and labels.dtype.kind in "iu" else None
    elif path.exists():
        x = load_idx(path)
        x = x[None] if x.ndim < 2 else x
    else:
        raise DataNotFoundError(
            f"{source}: no such file or directory; give digits, a .csv, a .npz or IDX images"
        )
    x = _flat(x)
    if x.shape[1] != features:
        raise DataError(
            f"{source} has {x.shape[1]} features a row; the checkpoint's network takes {features}"
        )
    return x, y


def _named(table: Table) -> list[str] | None:
    """The names in the header; None if there was none (or useless ones)."""
    unnamed = all(name.startswith("column ") for name in table.features)
    return None if unnamed or len(set(table.features)) < len(table.features) else table.features


def _column_order(source: str, given: list[str] | None, wanted: list[str] | None) -> Any:
    """Where the trained columns are in a new file: by name if both have names, else by place."""
    if given is None or wanted is None or given == wanted:
        return slice(None)
    missing = [name for name in wanted if name not in given]
    if missing:
        raise DataError(
            f"{source} lacks the columns {', '.join(missing)} that the network was trained on"
        )
    return [given.index(name) for name in wanted]
