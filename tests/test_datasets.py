"""Batches of datasets, shards and frames: the same bits for any number of workers, and a clear word
where a worker dies, a dataset changes or a column holds no numbers."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert
from wengert import nn, optim
from wengert.data import (
    Batches,
    DataError,
    DataNotFoundError,
    Dataset,
    RandomCrop,
    Shards,
    load_csv,
    load_frame,
)
from wengert.train import fit


class Squares(Dataset):
    """x = i in a (1, 4, 4) image, y = i * i; sample `bad` does what `act` does."""

    def __init__(self, n: int = 23, bad: int = -1, act: Any = None) -> None:
        self.n, self.bad, self.act = n, bad, act

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        if i == self.bad:
            self.act()
        return np.full((1, 4, 4), i, np.float32), i * i


def bits(data: Batches, epochs: int = 2) -> list[np.ndarray]:
    return [part.numpy().copy() for _ in range(epochs) for batch in data for part in batch]


def noisy(x: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
    return x if generator is None else x + generator.standard_normal(x.shape)


WORKERS = [(0, False), (1, False), (3, False), (1, True), (3, True)]


@pytest.mark.parametrize(("workers", "processes"), WORKERS)
def test_the_same_bits_for_any_workers_and_after_a_resume(workers: int, processes: bool) -> None:
    def make(**more: Any) -> Batches:
        augment = [RandomCrop(4, padding=1)]
        return Batches(Squares(), batch_size=4, seed=5, transform=noisy, augment=augment, **more)

    alone = bits(make())
    data = make(workers=workers, processes=processes, prefetch=3)
    for a, b in zip(alone, bits(data), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (alone[0] != alone[12]).any()  # another epoch, another order
    half = make(workers=workers, processes=processes)
    for _ in zip(range(4), half, strict=False):
        pass
    rest = make(workers=workers, processes=processes)
    rest.load_state_dict(half.state_dict())
    for a, b in zip(alone[8:], bits(rest), strict=False):
        np.testing.assert_array_equal(a, b)


def test_datasets_of_both_forms() -> None:
    data = Batches(Squares(), 8, shuffle=False)
    x, y = next(iter(data))
    assert (x.shape, y.tolist(), y.dtype) == ((8, 1, 4, 4), [i * i for i in range(8)], "int64")
    assert isinstance(Squares(), Dataset) and len(data) == 3 and data.samples == 23
    assert data.take(slice(2, 4))[1].tolist() == [4, 9]
    pairs = [(wengert.tensor([float(i)]), np.float32(i)) for i in range(4)]
    x, y = next(iter(Batches(pairs, batch_size=4, shuffle=False)))
    assert x.tolist() == [[0], [1], [2], [3]] and y.dtype == "float32"


def test_a_transform_is_not_random_where_data_are_evaluated() -> None:
    x, y = np.ones((6, 2)), np.zeros(6, np.int64)
    data = Batches(x, y, 3, transform=noisy)
    assert data.take(slice(None))[0].tolist() == x.tolist()
    assert (next(iter(data))[0].numpy() != 1).all()
    model = nn.Linear(2, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    result = fit(model, wengert.cross_entropy, optimizer, data, epochs=1, test=(x, y))
    with wengert.no_grad():
        np.testing.assert_array_equal(result.outputs, model(wengert.ones((6, 2))).numpy())
    assert next(iter(Batches(x, y, 3, transform=np.sqrt)))[0].shape == (3, 2)


def test_parts_that_are_datasets_are_judged_as_arrays_are(tmp_path: Path) -> None:
    def run(part: Any, **more: Any) -> Any:
        wengert.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))
        data = Batches(Squares(), batch_size=4, dtype="float32", transform=lambda x: x / 10)
        return fit(
            model, lambda p, y: (p - y).square().mean(), optim.Adam(model.parameters(), lr=0.1),
            data, epochs=2, validation=part, test=part, classify=False, metrics=["r2"], **more,
        )  # fmt: skip

    samples = [Squares(300)[i] for i in range(300)]
    arrays = (np.stack([x for x, _ in samples]), np.array([y for _, y in samples]))
    part = Batches(Squares(300), batch_size=7, seed=9, transform=lambda x: x / 10)
    one, other = run(arrays), run(part)
    np.testing.assert_allclose(one.outputs, other.outputs, rtol=1e-6)
    assert one.test["test_r2"] == pytest.approx(other.test["test_r2"])
    assert one.history[-1]["validation_loss"] == pytest.approx(other.history[-1]["validation_loss"])


# ---- bad input


def fail() -> None:
    raise OSError("the disk is gone")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("workers", "processes"), WORKERS)
def test_an_error_of_a_sample_has_its_traceback_and_number(workers: int, processes: bool) -> None:
    data = Batches(Squares(bad=13, act=fail), batch_size=4, workers=workers, processes=processes)
    with pytest.raises(
        DataError, match=r"sample 13 of the dataset.*OSError: the disk is"
    ) as caught:
        bits(data)
    assert "in fail" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_that_is_killed_is_told_at_once(workers: int) -> None:
    made = Squares(bad=13, act=die)
    data = Batches(made, batch_size=4, workers=workers, processes=True)
    with pytest.raises(DataError, match=r"worker process died .*samples? .*\b13\b.*of the dataset"):
        bits(data)
    made.bad = -1
    assert len(bits(data)) == 24  # it goes on


def test_a_run_whose_data_fail_can_be_resumed(tmp_path: Path) -> None:
    def arguments(dataset: Squares) -> dict[str, Any]:
        wengert.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))
        return {
            "model": model,
            "loss_fn": lambda p, y: (p - y).square().mean(),
            "optimizer": optim.Adam(model.parameters(), lr=0.1),
            "data": Batches(dataset, batch_size=4, workers=2, processes=True, transform=noisy),
            "epochs": 2,
            "classify": False,
            "run_dir": tmp_path / "r",
        }

    whole = arguments(Squares())
    fit(**{**whole, "run_dir": None})
    parts = arguments(Squares(bad=7, act=die))
    with pytest.raises(DataError, match="worker process died") as caught:
        fit(**parts)
    last = tmp_path / "r" / "last.safetensors"
    assert f"{last} has the training up to there" in "".join(caught.value.__notes__)
    rest = arguments(Squares())
    fit(**rest, resume=last)
    for a, b in zip(whole["model"].parameters(), rest["model"].parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("n", [20, 30])
def test_a_dataset_that_changes_its_length(n: int) -> None:
    made = Squares()
    data = Batches(made, batch_size=4)
    passing = iter(data)
    next(passing)
    made.n = n
    with pytest.raises(DataError, match=rf"had 23 samples when Batches was made, and has {n} now"):
        next(passing)
    with pytest.raises(DataError, match="make Batches again"):
        bits(data)


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ([], "the dataset has no samples"),
        ([(1.0, 2.0), 3.0], "sample 1 of the dataset is float; expected a pair"),
        ([(np.ones(2), 0), (np.ones(3), 0)], r"x of sample 1 has shape \(3,\), that of sample 0"),
        ([("text", 0)], "x of sample 0 has dtype <U4; expected numbers"),
        (np.ones((3, 2)), "x is ndarray and y None; without y, x is a Dataset"),
        (5, "x is int and y None"),
        ({"a": np.ones(3)}, r"x is a table \(dict\) and y None; give the name of its target"),
    ],
)
def test_what_is_no_dataset(dataset: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        bits(Batches(dataset, batch_size=2))


# ---- shards


def test_shards_are_read_as_one_array(tmp_path: Path) -> None:
    x = np.arange(70, dtype=np.float32).reshape(35, 2)
    y = np.arange(35)
    for i, (begin, end) in enumerate([(0, 10), (10, 11), (11, 35)]):
        np.save(tmp_path / f"x-{i}.npy", x[begin:end])
        np.save(tmp_path / f"y-{i}.npy", y[begin:end])
    shards = Shards(tmp_path / "x-*.npy")
    assert shards.shape == (35, 2) and len(shards) == 35
    for rows in (slice(None), slice(8, 30, 3), [34, 0, 10, 10, 9], -1, np.arange(35) % 3 == 0):
        np.testing.assert_array_equal(shards[rows], x[rows])
    whole = bits(Batches(x, y, 4, seed=2))
    for workers, processes in WORKERS:
        data = Batches(
            shards, Shards([tmp_path / f"y-{i}.npy" for i in range(3)]), 4,
            seed=2, workers=workers, processes=processes,
        )  # fmt: skip
        for a, b in zip(whole, bits(data), strict=True):
            np.testing.assert_array_equal(a, b)
    np.save(tmp_path / "x-3.npy", np.ones((2, 3), np.float32))
    with pytest.raises(DataError, match=r"x-3\.npy has float32 \(2, 3\)"):
        Shards(tmp_path / "x-*.npy")
    with pytest.raises(DataNotFoundError, match="no file matches"):
        Shards(tmp_path / "z-*.npy")
    (tmp_path / "x-3.npy").write_text("no")
    with pytest.raises(DataError, match=r"x-3\.npy is no \.npy file of numbers"):
        Shards(tmp_path / "x-*.npy")


# ---- frames

COLUMNS: dict[str, list[Any]] = {
    "area": [50, 70, 90, 110],
    "age": [1.5, None, 3.0, 10.5],
    "new": [True, False, True, False],
    "city": ["Ulm", "Bonn", "Ulm", None],
    "price": [1.0, 2.0, 3.5, 4.0],
    "kind": ["flat", "house", "flat", "house"],
}
ENCODERS = {"age": "median", "city": "onehot", "kind": "ordinal"}


def of(library: str) -> Any:
    if library == "dict":
        return COLUMNS
    module = pytest.importorskip(
        {"arrow": "pyarrow", "hugging face": "datasets", "nullable": "pandas"}.get(
            library, library
        ),
        reason=f"{library} is not installed",
    )
    if library == "hugging face":
        return module.Dataset.from_dict(COLUMNS)
    if library == "arrow":
        return module.table(COLUMNS)
    frame = module.DataFrame(COLUMNS)
    return frame.convert_dtypes() if library == "nullable" else frame


@pytest.mark.parametrize(
    "library", ["dict", "pandas", "nullable", "polars", "arrow", "hugging face"]
)
def test_frames_of_all_libraries(library: str) -> None:
    frame = of(library)
    table = load_frame(frame, "price", encoders=ENCODERS)
    assert table.features == ["area", "age", "new", "city=", "city=Bonn", "city=Ulm", "kind"]
    wanted = [
        [50, 1.5, 1, 0, 0, 1, 0], [70, 3, 0, 0, 1, 0, 1], [90, 3, 1, 0, 0, 1, 0],
        [110, 10.5, 0, 1, 0, 0, 1],
    ]  # fmt: skip
    np.testing.assert_array_equal(table.x, wanted)
    assert table.y.tolist() == COLUMNS["price"] and table.classes is None
    again = load_frame(frame, "price", encoders=table.encoders)
    np.testing.assert_array_equal(again.x, table.x)
    labels = load_frame(frame, "kind", features=["area", "new"])
    assert labels.classes == ["flat", "house"] and labels.y.tolist() == [0, 1, 0, 1]
    data = Batches(frame, "kind", 2, shuffle=False, encoders={"age": "mean", "city": "ordinal"})
    x, y = next(iter(data))
    assert x.shape == (2, 5) and y.tolist() == [0, 1] and data.classes == ["flat", "house"]
    with pytest.raises(DataError, match=r"column 'city' holds text, such as 'Ulm'; give encoders="):
        Batches(frame, "price", 2, encoders={"age": "mean", "kind": "ordinal"})
    with pytest.raises(DataError, match=r"column 'age' has nan in row 1: a missing number"):
        load_frame(frame, "price", encoders={"city": "onehot", "kind": "ordinal"})
    with pytest.raises(DataError, match="no column 'cost'; there are area, age"):
        Batches(frame, "cost", 2)


def test_frames_with_objects() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    for cells, says in [
        ([{"a": 1}, {}], r"column 'odd' holds objects \(dict in row 0\), not numbers alone"),
        ([1.5, "x"], r"column 'odd' holds objects \(str in row 1\)"),
        (pandas.to_datetime(["2020-01-01", "2021-01-01"]), "column 'odd' holds times"),
    ]:
        frame = pandas.DataFrame({"odd": pandas.Series(cells), "y": [0, 1]})
        with pytest.raises(DataError, match=says):
            Batches(frame, "y", 2)
    with pytest.raises(DataError, match="y has dtype object; expected numbers"):
        Batches(np.ones((2, 2)), np.array([0, "a"], object), 2)
    with pytest.raises(DataError, match=r"target 'y' is missing in row 1"):
        Batches(pandas.DataFrame({"x": [1, 2], "y": ["a", None]}), "y")
    frame = pandas.DataFrame({"x": [1.0, 2.0], "z": [1, 2]})
    data = Batches(frame, frame["z"], 2, shuffle=False)
    assert next(iter(data))[1].tolist() == [1, 2]


def test_encoders_know_what_they_were_fitted_to() -> None:
    train = load_frame({"c": ["a", "b"], "y": [0.5, 1.5]}, "y", encoders={"c": "onehot"})
    with pytest.raises(DataError, match=r"column 'c' has 'z' in row 1, which the encoder does not"):
        load_frame({"c": ["a", "z"]}, encoders=train.encoders)
    for encoders, says in [
        ({"c": "hash"}, "no encoder 'hash'; there are onehot, ordinal, mean"),
        ({"c": "mean"}, "holds text, which 'mean' does not encode"),
        ({"d": "mean"}, "an encoder is given for 'd', which is no feature"),
    ]:
        with pytest.raises(DataError, match=says):
            load_frame({"c": ["a", "b"]}, encoders=encoders)


def test_csv_columns_of_text_and_with_missing_cells(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("age,city,y\n1.5,Ulm,0\n,Bonn,1\nNA,Ulm,0\n4.5,,1\n")
    table = load_csv(file, encoders={"age": "mean", "city": "onehot"})
    assert table.features == ["age", "city=", "city=Bonn", "city=Ulm"]
    assert table.x.tolist() == [[1.5, 0, 0, 1], [3, 0, 1, 0], [3, 0, 0, 1], [4.5, 1, 0, 0]]
    x, y, features, classes = table
    assert y.tolist() == [0, 1, 0, 1] and classes == ["0", "1"] and len(features) == x.shape[1]
    other = tmp_path / "u.csv"
    other.write_text("age,city,y\n,Ulm,0\n2,Bonn,1\n")
    assert load_csv(other, encoders=table.encoders).x.tolist() == [[3, 0, 0, 1], [2, 0, 1, 0]]
    assert load_csv(other, encoders={0: "zero", 1: "ordinal"}).x.tolist() == [[0, 1], [2, 0]]
    with pytest.raises(DataError, match=r"line 2, column 2 \(city\): 'Ulm' is not .*encoders"):
        load_csv(other, encoders={"age": "zero"})


def test_categories_of_numbers_and_missing_ones(tmp_path: Path) -> None:
    """Of any number of rows, and of a file whose cells look like another kind."""
    file, other = tmp_path / "t.csv", tmp_path / "u.csv"
    file.write_text("class,ward,y\n3,1,0\n,2b,1\n10,1,1\n3.0,2b,0\n")
    table = load_csv(file, encoders={"class": "ordinal", "ward": "onehot"})
    assert table.encoders["class"].values == ("", 3.0, 10.0)
    assert table.x[:, 0].tolist() == [1, 0, 2, 1]
    other.write_text("class,ward,y\nNA,1,0\n3,1,1\n")
    assert load_csv(other, encoders=table.encoders).x.tolist() == [[0, 1, 0], [1, 1, 0]]
    other.write_text("class,ward,y\n3,1,0\nx,1,1\n")
    with pytest.raises(DataError, match=r"line 3, column 1 \(class\): 'x' is not a finite number"):
        load_csv(other, encoders=table.encoders)
    with pytest.raises(DataError, match="has 3 columns, no column number 7"):
        load_csv(file, encoders={7: "mean"})
    frame = {"class": np.array([3.0, math.nan, 10.0]), "flag": np.array([1, 2, 1])}
    made = load_frame(frame, encoders={"class": "onehot", "flag": "onehot"})
    assert made.features == ["class=", "class=3.0", "class=10.0", "flag=1", "flag=2"]
    fill = load_frame(frame, encoders={"class": "mean"}).encoders
    with pytest.raises(DataError, match=r"column 'class' has 'z' in row 1, and its encoder \(mean"):
        load_frame({"class": ["", "z"]}, encoders=fill)
    with pytest.raises(DataError, match=r"has .*inf.* in row 1, and its encoder"):
        load_frame({"class": [math.nan, math.inf]}, encoders=fill)


def test_headers_over_text(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("city,color\nUlm,red\nBonn,blue\n")
    table = load_csv(file, target="color", encoders={"city": "onehot"})  # a name says it
    assert table.features == ["city=Bonn", "city=Ulm"] and table.classes == ["blue", "red"]
    file.write_text("NA,1,x\n3,2,y\n")  # a missing cell is no name
    assert load_csv(file, encoders={0: "zero"}).x.tolist() == [[0, 1], [3, 2]]


def test_no_worker_outlives_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; from wengert.data import Batches\n"
        "class Slow:\n"
        "    def __len__(self): return 8\n"
        "    def __getitem__(self, i):\n"
        "        print(os.getpid(), flush=True)\n"
        "        open(f'{sys.argv[1]}/{os.getpid()}', 'w').close()\n"
        "        time.sleep(600 * (i > 0)); return [i], i\n"
        "for _ in Batches(Slow(), batch_size=1, shuffle=False, workers=2, processes=True):\n"
        "    while len(os.listdir(sys.argv[1])) < 3: time.sleep(0.01)  # both workers are at work\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    workers = {int(line) for line in done.stdout.split()}  # it ended: none holds the pipe
    assert done.returncode == -signal.SIGKILL and len(workers) == 3


def test_a_column_has_one_encoder(tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    file.write_text("city,kind\nUlm,a\nBonn,b\n")
    with pytest.raises(DataError, match="name a column twice"):
        load_csv(file, encoders={"city": "onehot", 0: "ordinal"})
