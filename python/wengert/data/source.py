"""What `wengert train --data` accepts, brought into one form: `Loaded`, split and ready to scale.

    digits      the digits inside the package
    DIR         a directory of IDX files (MNIST, Fashion-MNIST), which brings its own test part; or
                one with a directory of images for each class, or with such ones in train and test
    FILE.csv    features and a target column (also .csv.gz, .tsv)
    FILE.npz    arrays x and y, or x_train, y_train, x_test and y_test, as Keras has them
Inputs are flattened to (n, features). The scaling is learned from the training part alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import _explained
from .._calls import choice
from .batching import Array, Split, Standardizer, split
from .digits import load_digits
from .errors import DataError, DataNotFoundError
from .files import FASHION_MNIST_HINT, load_idx, load_idx_directory, load_npz, npz_arrays
from .frames import FILLS, Encoder, Encoders
from .images import ImageFolder, is_image, read_image
from .tables import MAX_CLASSES, class_numbers, number, read_sheet, read_target


@dataclass(frozen=True)
class Loaded:
    """The parts of a data set, unscaled; `classes` is None where y holds measured values."""

    name: str
    parts: Split
    standardizer: Standardizer
    classes: list[str] | None
    columns: list[str] | None = None  # names of a CSV file's features, where it has a header
    validation: tuple[Array, Array] | None = None  # x and y; not in `parts`
    image: tuple[int, ...] | None = (
        None  # of a sample before it was flattened: (H, W), (C, H, W)...
    )
    encoders: dict[int, Encoder] = field(default_factory=dict)  # of a CSV file's features, by place

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


def _npz_target(y: Array, kind: str, where: str) -> tuple[Array, list[str] | None]:
    """y as class numbers (n,) with their names, or as values, float64, without.

    Classes are: whole numbers and bools, text, floats that are 0, 1, ..., k - 1; each as (n,) or
    (n, 1); and rows (n, k) with a single 1 among zeros. In `kind` "class", nothing else is.
    """
    flat = y.reshape(len(y)) if y.ndim > 1 and y.size == len(y) else y
    if kind != "value":
        if flat.ndim == 1 and flat.dtype.kind == "U":
            names, numbers = np.unique(flat, return_inverse=True)
            return numbers.astype(np.int64), [str(name) for name in names]
        whole = flat.dtype.kind in "iub"
        if flat.ndim == 1 and not whole and (flat == np.floor(flat)).all():
            kinds = np.unique(flat)
            counted = np.array_equal(kinds, np.arange(len(kinds))) and len(kinds) <= MAX_CLASSES
            whole = kind == "class" or (counted and len(kinds) > 1)
        if flat.ndim == 1 and whole:
            return flat.astype(np.int64), _class_names(flat, where)
        one_hot = flat.ndim == 2 and flat.dtype.kind != "U" and np.isin(flat, (0, 1)).all()
        if one_hot and (flat.sum(axis=1) == 1).all():
            return flat.argmax(axis=1), [str(i) for i in range(flat.shape[1])]
    if kind == "class" or y.dtype.kind == "U":
        raise DataError(
            f"{where}: the target is {y.dtype} {y.shape}; classes are whole numbers or text of "
            "shape (n,) or (n, 1), or rows (n, k) with a single 1 each"
        )
    return y.astype(np.float64), None


def load(
    source: str,
    target: int | str = -1,
    kind: str = "auto",
    fraction: float = 0.2,
    seed: int = 0,
    validation: float | None = 0.0,
    size: int = 32,
    encoders: Encoders | None = None,
) -> Loaded:
    """What is behind "digits", a directory, a .csv or a .npz.

    target, kind: as in `load_csv`; fraction, seed: the test part of a source that has none.
    validation: the share of the other samples that is kept back for choosing (also by `seed`).
        None: 0.1, or none of fewer than 10 samples.
    size: height and width of the images of an image folder, which are read into memory as they are.
    encoders: as in `load_csv`; what stands for a missing number is learned from the training part.
    """
    path = Path(source)
    classes: list[str] | None
    x: Array
    y: Array
    if encoders and not is_csv(path):
        raise DataError(f"{source}: encoders (--encode) are for the columns of a CSV file")
    if source == "digits":
        x, y = load_digits()
        parts, kept = _keep_back(split(x, y, fraction, seed), validation, seed)
        names = [str(i) for i in range(10)]
        return Loaded("digits", parts, Standardizer(0.0, 16.0), names, None, kept, (8, 8))
    if path.is_dir():
        if is_image_folder(path):
            images, classes = _image_folder(path, size, fraction, seed)
        else:
            images = load_idx_directory(path)
            classes = _class_names(np.concatenate([images.y_train, images.y_test]), source)
        image = images.x_train.shape[1:]
        parts = images._replace(x_train=_flat(images.x_train), x_test=_flat(images.x_test))
        parts, kept = _keep_back(parts, validation, seed)
        scaler = Standardizer.fit(parts.x_train, per_feature=False)
        return Loaded(path.name, parts, scaler, classes, None, kept, image)
    shape: tuple[int, ...] | None = None
    if is_csv(path):
        return _csv(path, target, kind, fraction, seed, validation, encoders or {})
    if path.suffix == ".npz":
        x, y, *test = npz_arrays(path)
        n, shape = len(x), x.shape[1:] if x.ndim in (3, 4) else None
        y, classes = _npz_target(np.concatenate([y, *test[1:]]), kind, source)
        if test:  # it brings its own
            y = y if classes is not None else y.reshape(len(y), -1)
            parts = Split(_flat(x), y[:n], _flat(test[0]), y[n:])
            parts, kept = _keep_back(parts, validation, seed)
            scaler = Standardizer.fit(parts.x_train)
            return Loaded(path.name, parts, scaler, classes, None, kept, shape)
        x = _flat(x)
    elif path.exists():
        raise DataError(f"{source}: unknown kind of file; expected .csv, .npz or a directory")
    else:
        raise DataNotFoundError(
            f"{source}: no such file or directory; give digits, a directory of images, a .csv or a "
            f".npz ({FASHION_MNIST_HINT})"
        )
    if classes is None:
        y = y.reshape(len(y), -1)
    parts, kept = _keep_back(split(x, y, fraction, seed), validation, seed)
    return Loaded(path.name, parts, Standardizer.fit(parts.x_train), classes, None, kept, shape)


def _csv(
    path: Path,
    target: int | str,
    kind: str,
    fraction: float,
    seed: int,
    validation: float | None,
    encoders: Encoders,
) -> Loaded:
    """A CSV file. Its fills are fitted to the samples to train on, its categories to the file."""
    open_fills = {
        key: Encoder(one, (math.nan,)) if one in FILLS else one for key, one in encoders.items()
    }
    choice("load", "kind", kind, ("auto", "class", "value"), DataError)
    sheet = read_sheet(path, [target, *encoders]).of_target(target)
    x, made, fitted = sheet.numbers(sheet.features, open_fills)
    y, classes = read_target(path, sheet.labels(), kind)
    y = y if classes is not None else y.reshape(len(y), -1)
    parts, kept = _keep_back(split(x, y, fraction, seed), validation, seed)
    for name, one in fitted.items():
        if one.kind in FILLS:
            place, where = made.index(name), f"load: {path}: column {name!r}"
            fitted[name] = fill = Encoder.fit(one.kind, parts.x_train[:, place], where)
            for part in (parts.x_train, parts.x_test, *(kept or ())[:1]):
                part[:, place] = fill(part[:, place], where)[:, 0]
    names = [sheet.names[i] for i in sheet.features]
    places = {names.index(name): one for name, one in fitted.items()}
    scaler = Standardizer.fit(parts.x_train)
    return Loaded(path.name, parts, scaler, classes, _named(names), kept, encoders=places)


def is_image_folder(path: Path) -> bool:
    """Whether a directory has directories, and none of the files that IDX has."""
    return not any(path.glob("*-images[-.]idx*")) and any(p.is_dir() for p in path.iterdir())


def _image_folder(path: Path, size: int, fraction: float, seed: int) -> tuple[Split, list[str]]:
    """Images (n, 3, size, size) of the classes' directories, and the classes."""
    if not all((path / part).is_dir() for part in ("train", "test")):
        images = ImageFolder(path, size)
        return split(images[:], images.labels, fraction, seed), images.classes
    train, test = ImageFolder(path / "train", size), ImageFolder(path / "test", size)
    if train.classes != test.classes:
        raise DataError(f"{path}: train and test do not hold the same classes")
    return Split(train[:], train.labels, test[:], test.labels), train.classes


def channels_last(image: tuple[int, ...] | list[int]) -> bool:
    """Whether the axes of an image are (H, W, channels)."""
    return len(image) == 3 and image[2] in (1, 3, 4) and image[0] not in (1, 3, 4)


def _images(path: Path, meta: dict[str, Any]) -> tuple[Array, Array | None]:
    """Images as a network was trained on, of a file, or of a directory with or without those of
    classes; the numbers of the classes, where there are any that the network knows."""
    image: list[int] = meta.get("image") or [0]
    last = channels_last(image)
    channels, *size = [1, *image] if len(image) == 2 else [image[2], *image[:2]] if last else image
    if channels not in (1, 3) or len(size) != 2:
        raise DataError(f"{path}: the checkpoint's network was not trained on images in L or RGB")
    y: Array | None = None
    if path.is_dir() and is_image_folder(path):
        test = path / "test"
        folder = ImageFolder(test if test.is_dir() else path, (size[0], size[1]))
        files, known = folder.paths, meta["classes"] or []
        if set(folder.classes) <= set(known):
            y = np.array([known.index(name) for name in folder.classes])[folder.labels]
    else:
        files = sorted(filter(is_image, path.iterdir())) if path.is_dir() else [path]
    mode = "L" if channels == 1 else "RGB"
    x = np.stack([read_image(file, (size[0], size[1]), mode) for file in files])
    return (np.moveaxis(x, 1, -1) if last else x), y


def _keep_back(
    parts: Split, share: float | None, seed: int
) -> tuple[Split, tuple[Array, Array] | None]:
    """(the parts with fewer samples to train on, x and y of those)."""
    if share is None:
        share = 0.1 if len(parts.x_train) >= 10 else 0.0
    if share == 0.0:
        return parts, None
    x_train, y_train, *kept = split(parts.x_train, parts.y_train, share, seed)
    return Split(x_train, y_train, parts.x_test, parts.y_test), (kept[0], kept[1])


def _has_images(path: Path) -> bool:
    return is_image_folder(path) or any(map(is_image, path.iterdir()))


def is_csv(path: Path) -> bool:
    """Whether the name is that of a CSV file."""
    return path.name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz"))


def load_inputs(source: str, features: int, meta: dict[str, Any]) -> tuple[Array, Array | None]:
    """Rows to predict, (n, features), and where the source has them, their labels (n,), whole
    numbers, or for a network that was trained on values, those, (n, outputs).

    meta: what training noted in the checkpoint: seed and fraction of the split, target, classes and
    columns, image (the shape of a sample).
    A CSV may come with the target column or without it. "digits" gives the part kept back.
    """
    path = Path(source)
    y: Array | None = None
    if source == "digits":
        parts = load("digits", fraction=meta["fraction"], seed=meta["seed"]).parts
        x, y = parts.x_test, parts.y_test
    elif is_image(path) or (path.is_dir() and _has_images(path)):
        x, y = _images(path, meta)
    elif path.is_dir():
        images = load_idx_directory(path)
        x, y = images.x_test, images.y_test
    elif is_csv(path):
        encoders = {int(i): Encoder(k, tuple(v)) for i, k, v in meta.get("encoders", ())}
        raw = features - sum(len(one.names("")) - 1 for one in encoders.values())
        sheet = read_sheet(path, [*(meta["columns"] or ()), meta["target"]])
        width = len(sheet.names)
        if width not in (raw, raw + 1):
            raise DataError(
                f"{source} has {width} columns; the checkpoint's network takes {raw} features"
            )
        if width > raw:
            sheet = sheet.of_target(meta["target"])
        names = [sheet.names[i] for i in sheet.features]
        order = _column_order(source, _named(names), meta["columns"])
        columns = [sheet.features[i] for i in order or range(raw)]
        x, *_ = sheet.numbers(columns, {columns[place]: one for place, one in encoders.items()})
        cells = sheet.labels() if width > raw else None
        if cells is not None and meta["classes"] is not None:
            y = class_numbers(cells, meta["classes"])
        elif cells is not None:
            y = np.array([[math.nan if (v := number(c)) is None else v] for _, c in cells])
            y = y if np.isfinite(y).all() else None
    elif path.suffix == ".npz":
        x, labels = load_npz(path, need_y=False, part="test")
        y = _labels_of(labels, meta["classes"], source) if labels.size else None
    elif path.exists():
        x = load_idx(path)
        x = x[None] if x.ndim < 2 else x
    else:
        raise DataNotFoundError(
            f"{source}: no such file or directory; give digits, a .csv, a .npz or images"
        )
    x = _flat(x)
    if x.shape[1] != features:
        raise DataError(
            f"{source} has {x.shape[1]} features a row; the checkpoint's network takes {features}"
        )
    return x, y


def _labels_of(y: Array, classes: list[str] | None, where: str) -> Array | None:
    """The target of an NPZ file as the network's classes, or values; None where it is neither."""
    try:
        found, names = _npz_target(y, "value" if classes is None else "class", where)
    except DataError:
        return None
    if classes is None:
        return found.reshape(len(found), -1)
    assert names is not None
    if not set(names) <= set(classes):
        return None
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[name] for name in names], dtype=np.int64)[found]


def _named(features: list[str]) -> list[str] | None:
    """The names in the header; None if there was none (or useless ones)."""
    unnamed = all(name.startswith("column ") for name in features)
    return None if unnamed or len(set(features)) < len(features) else features


def _column_order(
    source: str, given: list[str] | None, wanted: list[str] | None
) -> list[int] | None:
    """Where the trained columns are in a new file: by name if both have names, else by place."""
    if given is None or wanted is None:
        return None
    missing = [name for name in wanted if name not in given]
    if missing:
        raise DataError(
            f"{source} lacks the columns {', '.join(missing)} that the network was trained on"
        )
    return [given.index(name) for name in wanted]


_explained.explain_all(globals())
