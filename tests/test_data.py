"""Readers, splits and batches: right arrays from good files, one clear line from bad ones."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
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
                (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(data))
            else:
                (folder / f"{prefix}-{name}-ubyte").write_bytes(data)


# digits


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
    file.write_bytes(gzip.compress(data) if packed else data)
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
        (gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 2**32 - 1)), "more than a file of its size"),
        (gzip.compress(GOOD)[:-9], "damaged or cut short"),
        (gzip.compress(GOOD[:-1]), "cut short"),
        (gzip.compress(GOOD)[:-8] + bytes(8), "damaged or cut short"),
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
    file.write_text(text)
    return file


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
    file.write_bytes(gzip.compress("\ufeffprice,size\n1.5,10\n2.5,20\n".encode()))
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


def test_csv_missing_directory_and_binary(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        load_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a directory"):
        load_csv(tmp_path)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match="not UTF-8"):
        load_csv(tmp_path / "b.csv")


# NPZ


def test_npz(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])
    for names in (("x", "y"), ("images", "labels"), ("data", "target")):
        np.savez_compressed(tmp_path / "a.npz", **dict(zip(names, (x, y), strict=True)))
        read_x, read_y = load_npz(tmp_path / "a.npz")
        np.testing.assert_array_equal(read_x, x)
        np.testing.assert_array_equal(read_y, y)


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


def rows_of(data: Batches) -> list[list[int]]:
    return [y.tolist() for _, y in data]


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
    with pytest.raises(DataError, match="takes 5"):
        load_inputs(str(csv(tmp_path, "a,b\n1,2\n")), 5, meta)
    x, _ = load_inputs(str(csv(tmp_path, "b,a\n2,1\n4,3\n")), 2, meta)
    assert x.tolist() == [[1, 2], [3, 4]]  # by name, not by place
    x, _ = load_inputs(str(csv(tmp_path, "1,2\n3,4\n")), 2, meta)
    assert x.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match="lacks the columns b"):
        load_inputs(str(csv(tmp_path, "a,c\n1,2\n")), 2, meta)
