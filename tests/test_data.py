"""Readers, splits and batches: right arrays from good files, one clear line from bad ones."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import struct
import zipfile
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wengert.data import (
    Batches,
    DataError,
    DataNotFoundError,
    Standardizer,
    load,
    load_csv,
    load_digits,
    load_idx,
    load_idx_directory,
    load_inputs,
    load_npz,
    split,
    split_indices,
)


def idx_bytes(array: np.ndarray) -> bytes:
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    code = codes[array.dtype.str[1:]]
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx_directory(
    folder: Path, train: int = 60, test: int = 20, packed: bool = False
) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, n in (("train", train), ("t10k", test)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = rng.integers(0, 40, (n, 28, 28)).astype(np.uint8)
        images[np.arange(n), labels * 2] += 200  # the label is the bright row
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx_bytes(array)
            if packed:
                (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(data, mtime=0))
            else:
                (folder / f"{prefix}-{name}-ubyte").write_bytes(data)


# digits


@pytest.mark.smoke
def test_digits() -> None:
    x, y = load_digits()
    assert x.shape == (1797, 64) and x.dtype == np.float32
    assert y.shape == (1797,) and y.dtype == np.int64
    assert x.min() == 0 and x.max() == 16
    assert y[:10].tolist() == list(range(10))
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert x[0, :8].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


# IDX


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_every_dtype(tmp_path: Path, dtype: str, packed: bool) -> None:
    array = (np.arange(24).reshape(2, 3, 4) * 5 - (0 if dtype == "u1" else 60)).astype(dtype)
    data = idx_bytes(array)
    file = tmp_path / "a-idx"
    file.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    read = load_idx(file)
    assert read.dtype == array.dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def test_idx_zero_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx_bytes(np.zeros((0, 28), np.uint8)))
    assert load_idx(tmp_path / "a").shape == (0, 28)


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG\r\n\x1a\n", "not an IDX file"),
        (b"\0\0\x07\x01" + GOOD[4:], "not an IDX file"),
        (b"\0\0\x08\x00", "0 axes"),
        (b"\0\0\x08\x09" + bytes(36), "9 axes"),
        (GOOD[:7], "within its header"),
        (GOOD[:-1], "fetch it again"),
        (GOOD + b"x", "goes on after"),
        (struct.pack(">4B2I", 0, 0, 8, 2, 2**32 - 1, 2**32 - 1), "more than a file of its size"),
        (
            gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 2**32 - 1), mtime=0),
            "more than a file of its size",
        ),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged or cut short"),
        (gzip.compress(GOOD[:-1], mtime=0), "cut short"),
        (gzip.compress(GOOD, mtime=0)[:-8] + bytes(8), "damaged or cut short"),
    ],
)
def test_idx_refuses(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "bad"
    file.write_bytes(data)
    with pytest.raises(DataError, match=says):
        load_idx(file)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_directory(tmp_path: Path, packed: bool) -> None:
    write_idx_directory(tmp_path / "d", packed=packed)
    parts = load_idx_directory(tmp_path / "d")
    assert parts.x_train.shape == (60, 28, 28) and parts.x_train.dtype == np.uint8
    assert parts.y_test.shape == (20,) and parts.y_test.dtype == np.int64


def test_idx_directory_refuses(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt install dataset-fashion-mnist"):
        load_idx_directory(tmp_path / "none")
    with pytest.raises(DataNotFoundError, match="train-images-idx3-ubyte"):
        load_idx_directory(tmp_path)
    write_idx_directory(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(59, np.uint8)))
    with pytest.raises(DataError, match="do not belong together"):
        load_idx_directory(tmp_path)


# CSV


def csv(tmp_path: Path, text: str, name: str = "a.csv") -> Path:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", newline="")
    return file


@pytest.mark.smoke
def test_csv_text_labels_and_header(tmp_path: Path) -> None:
    table = load_csv(csv(tmp_path, "a,b,kind\n1,2,cat\n3,4.5,dog\n5,6,cat\n"))
    assert table.features == ["a", "b"] and table.classes == ["cat", "dog"]
    assert table.x.tolist() == [[1, 2], [3, 4.5], [5, 6]] and table.y.tolist() == [0, 1, 0]


def test_csv_without_header_target_first(tmp_path: Path) -> None:
    table = load_csv(csv(tmp_path, "10;1;2\n2;3;4\n\n10;5;6\n"), target=0)
    assert table.x.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert table.classes == ["2", "10"] and table.y.tolist() == [1, 0, 1]


def test_csv_target_by_name_values_and_gzip(tmp_path: Path) -> None:
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress("\ufeffprice,size\n1.5,10\n2.5,20\n".encode(), mtime=0))
    table = load_csv(file, target="price")
    assert table.classes is None and table.y.tolist() == [1.5, 2.5] and table.features == ["size"]
    assert load_csv(file, target=None).x.shape == (2, 2)


def test_csv_kind(tmp_path: Path) -> None:
    file = csv(tmp_path, "a,b\n1,3\n2,4\n")
    assert load_csv(file).classes == ["3", "4"]
    assert load_csv(file, kind="value").y.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", {}, "is empty"),
        ("a,b\n", {}, "column 1|no row|header"),
        ("a,b\n1,2\n1,2,3\n", {}, "line 3: 3 columns"),
        ("a,b\n1,2\n,3\n", {}, "line 3, column 1 .a.: the cell is empty"),
        ("a,b\n1,2\nred,3\n", {}, "line 3, column 1 .a.: 'red' is not a finite number"),
        ("a,b\n1,2\nnan,3\n", {}, "'nan' is not a finite"),
        ("a,b\n1,2\n2,\n", {}, "line 3: the target is empty"),
        ("a,b\n1,2\n2,x\n", {"kind": "value"}, "line 3: target 'x'"),
        ("a,b\n1,2\n", {"target": "c"}, "no column named 'c'; columns: a, b"),
        ("a,a\n1,2\n", {"target": "a"}, "two columns named"),
        ("1,2\n3,4\n", {"target": "c"}, "has no header"),
        ("1,2\n3,4\n", {"target": 2}, "no column number 2"),
        ("1\n2\n", {}, "only its target column"),
        ('a,b\n1,"2\n', {}, "line"),
        ("a,b\n1,\0\n", {}, "zero bytes"),
    ],
)
def test_csv_refuses(tmp_path: Path, text: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_csv(csv(tmp_path, text), **options)


def column(tmp_path: Path, cells: list[str], **options: Any) -> Any:
    text = "a,b\n" + "".join(f'{i},"{cell}"\n' for i, cell in enumerate(cells))
    return load_csv(csv(tmp_path, text), **options)


MISSING = ["nan", "NaN", "-nan", "NA", "n/a", "N/A", "#N/A", "<NA>", "null", "NULL", "None", "?"]
MISSING += ["inf", "-Infinity", "1e999", "Missing", "#VALUE!"]


@pytest.mark.parametrize("word", MISSING)
def test_csv_a_missing_target_is_no_class(tmp_path: Path, word: str) -> None:
    for others in (["0", "1", "0"], ["1.5", "2.25", "0.5"], ["cat", "dog", "cat"]):
        for kind in ("auto", "class", "value"):
            says = rf"line 5: the target is {re.escape(repr(word))}.*drop the row"
            with pytest.raises(DataError, match=says):
                column(tmp_path, [*others, word], kind=kind)


def test_csv_words_and_dashes_are_classes_among_text_only(tmp_path: Path) -> None:
    assert column(tmp_path, ["+", "-", "+"]).classes == ["+", "-"]
    assert column(tmp_path, ["none", "scratch"]).classes == ["none", "scratch"]
    for word in ("-", ".", "none", "--"):
        with pytest.raises(DataError, match="line 4: the target is"):
            column(tmp_path, ["1", "2", word])


def test_csv_a_stray_cell_does_not_make_classes_of_values(tmp_path: Path) -> None:
    values = [f"{i / 7:.4f}" for i in range(200)]
    whole = [str(i) for i in range(200)]
    for numbers in (values, whole, values[:3]):
        cells = [*numbers[:2], "oops", *numbers[2:]]
        with pytest.raises(DataError, match=r"line 4: target 'oops' is text, and \d+ others are"):
            column(tmp_path, cells)
        with pytest.raises(DataError, match="line 4: target 'oops' is not a finite number"):
            column(tmp_path, cells, kind="value")
    assert len(column(tmp_path, [*whole, "oops"], kind="class").classes) == 201
    assert column(tmp_path, ["0", "1", "0", "1", "unknown"]).classes == ["0", "1", "unknown"]
    assert column(tmp_path, ["3A", "3B", "10", "2"]).classes == ["10", "2", "3A", "3B"]
    mixed = ["0.1234567", "0.1234568", "a"]
    assert column(tmp_path, mixed).classes == mixed


def test_csv_measured_values_are_not_taken_for_classes(tmp_path: Path) -> None:
    values = [f"{i / 7:.4f}" for i in range(400)]
    for cells in (values, values[:30], [*values, "oops"]):
        with pytest.raises(DataError, match=r"different numbers with fractions.*--task regress"):
            column(tmp_path, cells, kind="class")
    ratings = [f"{i % 10 / 2}" for i in range(40)]
    assert len(column(tmp_path, ratings, kind="class").classes) == 10
    assert len(column(tmp_path, [str(i) for i in range(400)], kind="class").classes) == 400


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["1_2", "12", "1_2"], ["12", "1_2"]),
        (["2019_01", "2019_02"], ["2019_01", "2019_02"]),
        (["51277179", "51277180"], ["51277179", "51277180"]),
        (["9007199254740993", "9007199254740992"], ["9007199254740992", "9007199254740993"]),
        (["1" * 30 + "2", "1" * 30 + "1"], ["1" * 30 + "1", "1" * 30 + "2"]),
        (["10", "9", "9"], ["9", "10"]),
        (["1.0", "2.0"], ["1", "2"]),
        (["1", "1.0", "1e0", "2"], ["1", "2"]),
        (["10.05", "10.50"], ["10.05", "10.50"]),
        (["01234", "01235"], ["01234", "01235"]),
        (["+1", "-1"], ["-1", "+1"]),
        (["\u0661", "\uff12", "3"], ["3", "\u0661", "\uff12"]),
        (["0x1F", "1f", "1d5"], ["0x1F", "1d5", "1f"]),
        (["a", "a\u2028", "a\u2028"], ["a", "a\u2028"]),
    ],
)
def test_csv_labels_keep_their_names(tmp_path: Path, cells: list[str], classes: list[str]) -> None:
    table = column(tmp_path, cells, kind="class")
    assert table.classes == classes
    _, y = load_inputs(
        str(tmp_path / "a.csv"), 1, {"target": -1, "classes": classes, "columns": None}
    )
    assert y is not None and y.tolist() == table.y.tolist()


@pytest.mark.parametrize(
    "cell", ["1_000", "0x10", "\u0661", "\uff11", "1 0", "1e", ".", "1.2.3", "1,5,2", "\xa01"]
)
def test_csv_numbers_have_one_grammar(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=r"line 2, column 1 .a.: .* is not a finite number"):
        load_csv(csv(tmp_path, f'a,b,c\n"{cell}",1,x\n2,1,y\n'))
    with pytest.raises(DataError, match=r"line 2, column 1 .a."):  # above a number or not
        load_csv(csv(tmp_path, f'a,c\n"{cell}",x\n2,y\n'))


@pytest.mark.parametrize("ch", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_rows_end_at_line_ends_only(tmp_path: Path, ch: str, end: str) -> None:
    for cell in (f"new{ch}york", f'"new{ch}york"', f'"new{end}{ch}york"'):
        rows = ["x,label", f"1,{cell}", "2,paris", f"3,{cell}"]
        (tmp_path / "a.csv").write_bytes(end.join(rows).encode())
        table = load_csv(tmp_path / "a.csv")
        assert table.classes == [cell.strip('"'), "paris"] and table.y.tolist() == [0, 1, 0]
        (tmp_path / "a.csv").write_bytes((end.join(rows) + f"{end}4").encode())
        line = 7 if end in cell else 5
        with pytest.raises(DataError, match=f"line {line}: 1 columns"):
            load_csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "features", "x"),
    [
        ('"Length, cm";"kind"\n1.5;a\n2;b\n', ["Length, cm"], [[1.5], [2]]),
        ('"a, b, c, d";"kind"\n1.5;x\n2;y\n', ["a, b, c, d"], [[1.5], [2]]),
        ('"a;b;c",kind\n1.5,x\n2,y\n', ["a;b;c"], [[1.5], [2]]),
        ("a\tb, c\tkind\n1\t2\tx;y\n", ["a", "b, c"], [[1, 2]]),
        ("a,b,kind\n1,2,x;y\n3,4,z;w\n", ["a", "b"], [[1, 2], [3, 4]]),
        ("sep=;\na;b,c;kind\n1;2;x\n", ["a", "b,c"], [[1, 2]]),
        ('"sep=|"\r\na|b|kind\r\n1|2|x\r\n', ["a", "b"], [[1, 2]]),
        ("\ufeffsep=,\na,kind\n1,x\n", ["a"], [[1]]),
        ("a;b;kind\n1,5;2;x\n2,5;1e3;y\n", ["a", "b"], [[1.5, 2], [2.5, 1000]]),
        ("1,5;2,5;x\n-,5;2,;y\n", None, [[1.5, 2.5], [-0.5, 2]]),
        ("a\tkind\n1,234\tx\n0,5\ty\n", ["a"], [[1.234], [0.5]]),
    ],
)
def test_csv_delimiters(
    tmp_path: Path, text: str, features: list[str] | None, x: list[list[float]]
) -> None:
    table = load_csv(csv(tmp_path, text))
    assert table.x.tolist() == x
    if features:
        assert table.features == features


def test_csv_commas_that_may_be_thousands_are_refused(tmp_path: Path) -> None:
    for text in ("a;kind\n1,234;x\n12,500;y\n", "a;b;kind\n1,5;2.5;x\n", 'a,kind\n"1,5",x\n'):
        with pytest.raises(DataError, match=r"line 2.*decimal point, and no commas for thousands"):
            load_csv(csv(tmp_path, text))
    with pytest.raises(DataError, match="line 2: 3 columns, the first row has 2"):
        load_csv(csv(tmp_path, "sep=;\na;b\n1;2;3\n".replace("sep=;\n", "")))
    with pytest.raises(DataError, match="line 3: 3 columns, the first row has 2"):
        load_csv(csv(tmp_path, "sep=;\na;b\n1;2;3\n"))


def test_csv_missing_directory_and_binary(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        load_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a directory"):
        load_csv(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    for read in (load_csv, load_npz, load_idx):
        with pytest.raises(DataError, match="is a pipe or a device"):
            read(tmp_path / "pipe.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match="not UTF-8"):
        load_csv(tmp_path / "b.csv")


# NPZ


@pytest.mark.smoke
def test_npz(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])
    for names in (("x", "y"), ("images", "labels"), ("data", "target")):
        np.savez_compressed(tmp_path / "a.npz", **dict(zip(names, (x, y), strict=True)))
        read_x, read_y = load_npz(tmp_path / "a.npz")
        np.testing.assert_array_equal(read_x, x)
        np.testing.assert_array_equal(read_y, y)


X, LABELS = np.arange(240.0).reshape(40, 6), np.arange(40) % 3


@pytest.mark.parametrize("kind", ["auto", "class"])
@pytest.mark.parametrize(
    ("y", "classes"),
    [
        *(
            (LABELS.astype(t), "012")
            for t in ("int64", "uint8", ">i4", "int8", "float64", "float32")
        ),
        *((LABELS.astype(t)[:, None], "012") for t in ("int64", "uint8", "float64")),
        (LABELS > 0, "01"),
        (LABELS[:, None] > 0, "01"),
        *((np.eye(3)[LABELS].astype(t), "012") for t in ("float64", "uint8", "bool")),
        (np.array(list("abc"))[LABELS], "abc"),
        (np.array(list("abc"))[LABELS][:, None], "abc"),
    ],
)
def test_npz_labels_are_classes(tmp_path: Path, y: np.ndarray, classes: str, kind: str) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=X, y=y)
    found = load(str(file), kind=kind)
    assert found.classes == list(classes) and found.parts.y_train.dtype == np.int64
    expected = LABELS if len(classes) == 3 else LABELS > 0
    _, labels = load_inputs(str(file), 6, {"classes": list(classes)})
    assert labels is not None and labels.tolist() == expected.tolist()
    for part in (found.parts.y_train, found.parts.y_test):
        assert part.ndim == 1
    for names in (("x_train", "y_train", "x_test", "y_test"),
                  ("train_images", "train_labels", "test_images", "test_labels"),
                  ("X_train", "y_train", "X_test", "y_test")):  # fmt: skip
        np.savez(file, **dict(zip(names, (X[:30], y[:30], X[30:], y[30:]), strict=True)))
        found = load(str(file), kind=kind)
        assert found.classes == list(classes)
        assert found.parts.x_test.tolist() == X[30:].tolist()
        assert found.parts.y_test.tolist() == expected[30:].tolist()
        x, labels = load_inputs(str(file), 6, {"classes": list(classes)})
        assert labels is not None and labels.tolist() == expected[30:].tolist() and len(x) == 10
        assert len(load_npz(file)[0]) == 40 and len(load_npz(file, part="train")[0]) == 30
        kept = load(str(file), kind=kind, validation=0.2)
        assert kept.validation is not None and len(kept.validation[0]) == 6
        assert len(kept.parts.x_train) == 24 and len(kept.parts.x_test) == 10


@pytest.mark.parametrize(
    ("y", "outputs"),
    [
        (X[:, 0], 1),
        (X[:, :1], 1),
        (X[:, 0] / 7, 1),
        (np.where(np.arange(40) > 20, 3.0, 5.0), 1),
        (np.zeros(40), 1),
        (X[:, :2], 2),
        (np.stack([LABELS, LABELS], 1), 2),
        (np.stack([LABELS > 0, LABELS > 1], 1), 2),
    ],
)
def test_npz_values(tmp_path: Path, y: np.ndarray, outputs: int) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=X, y=y)
    found = load(str(file))
    assert found.classes is None and found.parts.y_train.shape == (32, outputs)
    _, values = load_inputs(str(file), 6, {"classes": None})
    assert values is not None and values.tolist() == y.reshape(40, -1).astype(float).tolist()
    _, values = load_inputs(str(file), 6, {"classes": ["0", "1"]})
    assert values is None or not values.any()
    if y.size > 40 or (y % 1).any():
        with pytest.raises(DataError, match=r"target is .* whole numbers or text of shape"):
            load(str(file), kind="class")
    np.savez(file, x=X, y=LABELS[:, None])
    assert load(str(file), kind="value").classes is None


def test_npz_refuses(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, a=np.zeros(3))
    with pytest.raises(DataError, match="holds a; expected x and y"):
        load_npz(file)
    np.savez(file, x=np.zeros((3, 2)), y=np.zeros(4))
    with pytest.raises(DataError, match="do not belong together"):
        load_npz(file)
    np.savez(file, x=np.full((3, 2), np.nan), y=np.zeros(3))
    with pytest.raises(DataError, match="NaN"):
        load_npz(file)
    np.savez(file, x_train=X, y_train=LABELS, x_test=X[:, :3], y_test=LABELS)
    with pytest.raises(DataError, match=r"x_train .40, 6. and x_test .40, 3. differ"):
        load_npz(file)
    np.savez(file, x=X, y=np.array(["a"] * 40))
    with pytest.raises(DataError, match="target is <U1"):
        load(str(file), kind="value")
    np.savez(file, x=np.array([{}, {}]), y=np.zeros(2))
    with pytest.raises(DataError, match="Python objects"):
        load_npz(file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read as NPZ"):
        load_npz(file)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**20)}
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(DataError, match="more than the 0 bytes"):
        load_npz(file)


# split, standardise, batches


@pytest.mark.smoke
def test_split_is_seeded_stratified_and_complete() -> None:
    x, y = load_digits()
    train, test = split_indices(y, 0.2, seed=3)
    assert sorted([*train, *test]) == list(range(1797))
    counts = np.bincount(y[test]) / np.bincount(y)
    assert np.abs(counts - 0.2).max() < 0.005
    np.testing.assert_array_equal(test, split_indices(y, 0.2, seed=3)[1])
    assert (test != split_indices(y, 0.2, seed=4)[1]).any()
    parts = split(x, y, 0.2, seed=3)
    np.testing.assert_array_equal(parts.x_test, x[test])
    assert len(split_indices(np.arange(5.0), 0.01)[1]) == 1
    for bad in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="fraction"):
            split(x, y, bad)


@pytest.mark.smoke
def test_standardizer() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(5.0, 3.0, (9000, 3))
    x[:, 1] = 0.1  # never varies
    standardize = Standardizer.fit(x)
    z = standardize(x)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z[:, [0, 2]].std(axis=0), 1)
    assert standardize.scale[1] == 1
    np.testing.assert_allclose(standardize.inverse(z), x)
    again = Standardizer(**standardize.state_dict())
    np.testing.assert_array_equal(again(x), z)
    image = Standardizer.fit(x, per_feature=False)
    np.testing.assert_allclose([image.mean, image.scale], [x.mean(), x.std()])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("per_feature", [True, False])
@pytest.mark.parametrize(
    "x",
    [
        np.arange(-4.0, 5.0)[:, None] * 1e-310,
        np.arange(-4.0, 5.0)[:, None] * 1e300,
        np.array([[1.7e308], [-1.7e308], [1.6e308]]),
        np.array([[1.7e308], [1.6e308], [1.5e308]]),
        np.array([[0.0], [5e-324], [5e-324]]),
        np.array([[1e300], [np.nextafter(1e300, np.inf)], [1e300]]),
        np.full((3, 1), 1e300),
        np.full((3, 1), 5e-324),
        np.zeros((3, 1)),
        (np.arange(9.0)[:, None] * 1e37).astype(np.float32),
        (np.arange(9.0)[:, None] * 7e3).astype(np.float16),
        np.array([[2**62], [-(2**62)], [0]]),
    ],
)
def test_standardizer_of_any_size(x: np.ndarray, per_feature: bool) -> None:
    standardize = Standardizer.fit(x, per_feature)
    z = standardize(x)
    assert np.isfinite(z).all() and np.isfinite(standardize.inverse(z)).all()
    if (x == x[0]).all():
        assert not z.any()
    elif x.max() > 5e-324 and x.max() / 2 - x.min() / 2 > 1e-9 * x.max():
        exact = [Fraction(float(v)) for v in x.ravel()]
        mean = sum(exact) / len(exact)
        variance = sum((v - mean) ** 2 for v in exact) / len(exact)
        squares = [float((v - mean) ** 2 / variance) for v in exact]
        np.testing.assert_allclose(z.ravel() ** 2, squares, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(standardize.inverse(z), x.astype(float), rtol=1e-15)
    again = Standardizer(**json.loads(json.dumps(standardize.state_dict())))
    np.testing.assert_array_equal(again(x), z)


def test_a_number_that_float32_lacks_is_refused() -> None:
    x, y = np.array([[1.0], [1e300]]), np.arange(2)
    for data in (Batches(x, y, 2), Batches(np.ones((2, 1)), x, 2)):
        with pytest.raises(DataError, match=r"numbers up to 1e.300, which float32 does not"):
            next(iter(data))
    (bx, _), *_ = Batches(x, y, 2, dtype="float64", shuffle=False)
    assert bx.tolist() == x.tolist()
    (bx, _), *_ = Batches(np.array([[np.inf], [np.nan]]), y, 2)  # as they came
    assert not bx.isfinite().any().item()


def rows_of(data: Batches) -> list[list[int]]:
    return [y.tolist() for _, y in data]


@pytest.mark.smoke
def test_batches_cover_an_epoch_once_and_differ_by_epoch() -> None:
    x, y = np.arange(20, dtype=np.uint8).reshape(10, 2), np.arange(10)
    data = Batches(x, y, 4, seed=7)
    first, second = rows_of(data), rows_of(data)
    assert [len(b) for b in first] == [4, 4, 2] and len(data) == 3 and data.epoch == 2
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert first != second
    assert rows_of(Batches(x, y, 4, seed=7, epoch=1)) == second
    assert rows_of(Batches(x, y, 4, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (
        len(Batches(x, y, 4, drop_last=True)) == len(rows_of(Batches(x, y, 4, drop_last=True))) == 2
    )


@pytest.mark.smoke
def test_the_order_is_pinned() -> None:
    """It must not change with NumPy's version: runs are resumed and compared years later."""
    order = Batches(np.zeros((8, 1)), np.zeros(8), 8, seed=5).indices(2)
    assert order.tolist() == [4, 7, 6, 0, 1, 5, 2, 3]


def test_batches_resume_in_mid_epoch() -> None:
    x, y = np.zeros((10, 1)), np.arange(10)
    whole = Batches(x, y, 3, seed=1)
    expected = rows_of(whole) + rows_of(whole)
    half = Batches(x, y, 3, seed=1)
    seen = []
    for _, labels in half:
        seen.append(labels.tolist())
        if len(seen) == 2:
            break
    state = half.state_dict()
    assert state == {"epoch": 0, "batch": 2}
    rest = Batches(x, y, 3, seed=1)
    rest.load_state_dict(state)
    assert seen + rows_of(rest) + rows_of(rest) == expected
    assert rows_of(half) == expected[:4]  # left early: the epoch is begun again


@pytest.mark.parametrize("shuffle", [False, True])
def test_passes_over_the_same_batches_are_independent(shuffle: bool) -> None:
    x, y = np.zeros((10, 1)), np.arange(10)

    def new() -> Batches:
        return Batches(x, y, 3, seed=1, shuffle=shuffle)

    whole = new()
    epochs = [rows_of(whole) for _ in range(3)]
    data = new()
    for epoch in range(2):
        pairs = [(a.tolist(), b.tolist()) for (_, a), (_, b) in zip(data, data, strict=True)]
        assert pairs == [(b, b) for b in epochs[epoch]] and data.epoch == epoch + 1
    # A peek, and a pass within a pass, disturb nothing.
    data, seen = new(), []
    for _, labels in data:
        assert rows_of(data) == epochs[0]
        next(iter(data))
        seen.append(labels.tolist())
    assert seen == epochs[0] and data.state_dict() == {"epoch": 1, "batch": 0}
    assert rows_of(data) == epochs[1]
    # The place is that of the pass that moved last.
    first, second = iter(data), iter(data)
    for _ in range(3):
        next(first)
    next(second)
    assert data.state_dict() == {"epoch": 2, "batch": 1}
    next(first)
    assert data.state_dict() == {"epoch": 2, "batch": 4}
    assert next(second)[1].tolist() == epochs[2][1]
    # Passes that are made after a restored place, before one has moved, begin there.
    data.load_state_dict({"epoch": 1, "batch": 2})
    assert next(second)[1].tolist() == epochs[2][2]  # of before: does not move it
    assert data.state_dict() == {"epoch": 1, "batch": 2}
    pairs = [(a.tolist(), b.tolist()) for (_, a), (_, b) in zip(data, data, strict=True)]
    assert pairs == [(b, b) for b in epochs[1][2:]]
    data.load_state_dict({"epoch": 1, "batch": 2})
    outer = []
    for _, labels in data:
        outer.append(labels.tolist())
        assert rows_of(data) == epochs[1]
    assert outer == epochs[1][2:] and data.epoch == 2


def test_batch_dtypes_and_transform() -> None:
    x, y = np.arange(8, dtype=np.uint8).reshape(4, 2), np.array([0, 1, 2, 3], dtype=np.uint8)
    (bx, by), *_ = Batches(x, y, 4, shuffle=False, transform=lambda a: a / 2)
    assert bx.dtype.name == "float32" and by.dtype.name == "int64"
    assert bx.tolist() == (x / 2).tolist()
    (bx, by), *_ = Batches(x, y.astype(np.float32), 4, dtype="float64")
    assert bx.dtype.name == by.dtype.name == "float64"


def test_batches_refuse() -> None:
    with pytest.raises(DataError, match="differ in length"):
        Batches(np.zeros((3, 1)), np.zeros(4), 2)
    with pytest.raises(DataError, match="batch_size is 0"):
        Batches(np.zeros((3, 1)), np.zeros(3), 0)
    with pytest.raises(DataError, match="no batch 9"):
        Batches(np.zeros((3, 1)), np.zeros(3), 2).load_state_dict({"epoch": 0, "batch": 9})


# what `wengert train --data` takes


def test_load_sources(tmp_path: Path) -> None:
    digits = load("digits", seed=0)
    assert digits.features == 64 and digits.outputs == 10
    write_idx_directory(tmp_path / "idx")
    images = load(str(tmp_path / "idx"))
    assert images.features == 784 and images.outputs == 10 and len(images.parts.x_test) == 20
    table = load(
        str(csv(tmp_path, "a,b,t\n" + "".join(f"{i},{i * i},{i / 7}\n" for i in range(20))))
    )
    assert table.classes is None and table.outputs == 1 and table.parts.y_train.shape == (16, 1)
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 2, 2)), y=np.arange(10) % 3)
    arrays = load(str(tmp_path / "a.npz"))
    assert arrays.features == 4 and arrays.classes == ["0", "1", "2"]
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        load(str(tmp_path / "none"))
    with pytest.raises(DataError, match="unknown kind of file"):
        load(str(csv(tmp_path, "x", "a.docx")))


def test_load_inputs_with_and_without_target(tmp_path: Path) -> None:
    meta = {
        "seed": 0,
        "fraction": 0.2,
        "target": -1,
        "classes": ["cat", "dog"],
        "columns": ["a", "b"],
    }
    x, y = load_inputs(str(csv(tmp_path, "a,b,t\n1,2,dog\n3,4,cat\n")), 2, meta)
    assert x.tolist() == [[1, 2], [3, 4]] and y is not None and y.tolist() == [1, 0]
    x, y = load_inputs(str(csv(tmp_path, "a,b\n1,2\n3,4\n")), 2, meta)
    assert x.shape == (2, 2) and y is None
    for unknown in ("?", "", "bird"):
        _, y = load_inputs(str(csv(tmp_path, f"a,b,t\n1,2,dog\n3,4,{unknown}\n")), 2, meta)
        assert y is None
    values = {**meta, "classes": None}
    _, y = load_inputs(str(csv(tmp_path, "a,b,t\n1,2,1.5\n3,4,7\n")), 2, values)
    assert y is not None and y.tolist() == [[1.5], [7]]
    _, y = load_inputs(str(csv(tmp_path, "a,b,t\n1,2,1.5\n3,4,NA\n")), 2, values)
    assert y is None
    with pytest.raises(DataError, match="takes 5"):
        load_inputs(str(csv(tmp_path, "a,b\n1,2\n")), 5, meta)
    x, _ = load_inputs(str(csv(tmp_path, "b,a\n2,1\n4,3\n")), 2, meta)
    assert x.tolist() == [[1, 2], [3, 4]]  # by name, not by place
    x, _ = load_inputs(str(csv(tmp_path, "1,2\n3,4\n")), 2, meta)
    assert x.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match="lacks the columns b"):
        load_inputs(str(csv(tmp_path, "a,c\n1,2\n")), 2, meta)
