"""Long sums stay accurate in float32, and every result has equal bits for any number of threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.testing import assert_close

N = 10**8
TENTH = float(np.float32(0.1))


@pytest.fixture(scope="module")
def long() -> Iterator[wg.Tensor]:
    """1e8 float32 of 0.1: 400 MB, made once."""
    yield wg.full((N,), 0.1, "float32")
    wg.empty_cache()


def relative_error(value: wg.Tensor, expected: float) -> float:
    return abs(value.item() - expected) / abs(expected)


def test_sum_of_1e8_terms(long: wg.Tensor) -> None:
    assert relative_error(long.sum(), N * TENTH) < 2e-7
    assert relative_error(long.reshape(4, -1).sum(1)[3], N / 4 * TENTH) < 2e-7


def test_mean_and_variance_of_1e8_terms(long: wg.Tensor) -> None:
    assert relative_error(long.mean(), TENTH) < 2e-7
    assert long.var().item() < 1e-14


def test_sum_of_1e8_terms_along_the_first_axis(long: wg.Tensor) -> None:
    for columns in (2, 10):
        y = long.reshape(-1, columns).sum(0)
        assert_close(y, np.full(columns, N // columns * TENTH), 2e-7, 0, check_dtype=False)


def test_dot_product_of_1e8_terms(long: wg.Tensor) -> None:
    assert relative_error(long @ long, N * TENTH * TENTH) < 2e-7


def test_matmul_of_a_row_and_a_column_of_1e7(long: wg.Tensor) -> None:
    k = 10**7
    y = long[:k].reshape(1, k) @ long[:k].reshape(k, 1)
    assert relative_error(y, k * TENTH * TENTH) < 2e-7
    y = long[: 4 * k].reshape(4, k) @ long[: 3 * k].reshape(3, k).T
    # Runs of k inside the kernel are gathered in float32: a larger error, but it does not grow.
    assert_close(y, np.full((4, 3), k * TENTH * TENTH), 1e-6, 0, check_dtype=False)


def test_logsumexp_and_prod_of_many_terms() -> None:
    x = wg.full((10**6,), 0.1, "float32")
    assert relative_error(x.logsumexp(), TENTH + math.log(10**6)) < 2e-7
    y = wg.full((10**6,), 1 + 2.0**-20, "float32")
    assert relative_error(y.prod(), math.exp(10**6 * math.log1p(2.0**-20))) < 2e-7


def test_gradients_of_long_sums() -> None:
    """A broadcast is undone by a sum that is as accurate."""
    x = wg.full((10**7, 1), 0.1, "float32")
    b = wg.zeros((1,), "float32").requires_grad_()
    w = wg.zeros((), "float32").requires_grad_()
    db, dw = wg.grad(((x + b) * x + w * x).sum(), [b, w])
    assert relative_error(db, 10**7 * TENTH) < 2e-7
    assert relative_error(dw, 10**7 * TENTH) < 2e-7


@pytest.mark.smoke
def test_sum_of_numbers_that_cancel() -> None:
    """Float32 terms are gathered in float64: what cancels leaves what remains."""
    x = np.full(200_001, 1e8, "float32")
    x[1::2] = -1e8
    x[-1] = 0.5
    assert wg.tensor(x).sum().item() == 0.5
    # Float64 has no wider type to gather in; the tree keeps the error near one rounding.
    y = np.random.default_rng(0).uniform(size=10**6)
    assert abs(wg.tensor(y).sum().item() - math.fsum(y)) < 1e-15 * math.fsum(y)


@pytest.mark.parametrize(
    "shape", [(1000, 777), (3, 100_001), (100_001, 3), (40, 50, 60), (7, 1, 9)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_numpy(shape: tuple[int, ...], dtype: str) -> None:
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    wide, t = x.astype(np.longdouble), wg.tensor(x)
    eps = float(np.finfo(dtype).eps)
    axes: list[Any] = [None, 0, 1, -1, (0, 1)] + ([(0, 2), (1, 2)] if len(shape) == 3 else [])
    for axis in axes:
        # Float32 is gathered in float64: the error of the sum, not of its terms.
        scale, error = abs(wide).sum(axis), abs(t.sum(axis).numpy() - wide.sum(axis))
        assert (error <= eps * abs(wide.sum(axis)) + np.finfo(float).eps * scale).all()
        assert_close(t.mean(axis), wide.mean(axis).astype(float), 4 * eps, eps, check_dtype=False)
        assert_close(t.var(axis), wide.var(axis).astype(float), 8 * eps, eps, check_dtype=False)
        for op in ("max", "min"):
            assert_close(getattr(t, op)(axis), getattr(x, op)(axis), 0, 0)
        if not isinstance(axis, tuple):
            assert_close(t.argmax(axis), x.argmax(axis))
            assert_close(t.argmin(axis), x.argmin(axis))
        assert_close((t > 2.5).any(axis), (x > 2.5).any(axis))
        assert_close((t > -2.5).all(axis), (x > -2.5).all(axis))


# ---- equal bits ----------------------------------------------------------------------------------


def normal(*shape: int, dtype: str = "float32", seed: int = 0) -> wg.Tensor:
    return wg.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def mlp() -> list[wg.Tensor]:
    x, labels = normal(257, 100), wg.tensor(np.arange(257) % 10)
    weights = [normal(100, 130, seed=1) * 0.1, normal(130, seed=2), normal(130, 10, seed=3) * 0.1]
    w, b, v = (t.detach().requires_grad_() for t in weights)
    loss = wg.cross_entropy((x @ w + b).gelu() @ v, labels)
    return [loss, *wg.grad(loss, [w, b, v])]


def rows() -> list[wg.Tensor]:
    x = normal(3001, 70).requires_grad_()
    y = x.softmax(0).log_softmax(1).logsumexp(0).prod()
    return [y, *wg.grad(y, [x])]


def scans(x: wg.Tensor, axis: int) -> list[wg.Tensor]:
    x = x.requires_grad_()
    ys = [x.cumsum(axis), (x * 1e-3 + 1).cumprod(axis), x.logcumsumexp(axis), *x.cummax(axis)]
    return [*ys, *(wg.grad(y, [x], x.detach())[0] for y in ys[:3])]


CASES: dict[str, Callable[[], Any]] = {
    "sum": lambda: normal(1_234_567).sum(),
    "sum of float64": lambda: normal(1_234_567, dtype="float64").sum(),
    "sum, first axis": lambda: normal(20_011, 33).sum(0),
    "sum, last axis": lambda: normal(33, 20_011).sum(1),
    "sum, strided": lambda: normal(33, 20_011)[:, ::3].sum(0),
    "mean": lambda: normal(600, 1100).mean((0, 1)),
    "var": lambda: normal(1_000_003).var(),
    "std, axis": lambda: normal(5, 100_003).std(1),
    "prod": lambda: (normal(300_001, dtype="float64") * 1e-3 + 1).prod(),
    "logsumexp": lambda: normal(300_001).logsumexp(),
    "scans, one line": lambda: scans(normal(300_007), 0),
    "scans, few lines": lambda: scans(normal(3, 100_003), 1),
    "scans, many lines": lambda: scans(normal(40, 9001), 1),
    "scans, columns": lambda: scans(normal(20_011, 33), 0),
    "matmul": lambda: normal(257, 300) @ normal(300, 129, seed=1),
    "matmul, long k": lambda: normal(5, 100_003) @ normal(100_003, 3, seed=1),
    "matmul, transposed": lambda: normal(300, 257).T @ normal(129, 300, seed=1).T,
    "matmul, float64": lambda: normal(100, 700, dtype="float64") @ normal(700, 90, dtype="float64"),
    "matmul, batch": lambda: normal(13, 40, 50) @ normal(13, 50, 60, seed=1),
    "dot": lambda: normal(1_000_003) @ normal(1_000_003, seed=1),
    "matrix and vector": lambda: normal(1001, 2003) @ normal(2003, seed=1),
    "vector and matrix": lambda: normal(2003, seed=1) @ normal(2003, 1001),
    "take and put": lambda: put_repeated(),
    "softmax rows": rows,
    "mlp": mlp,
}


def put_repeated() -> list[wg.Tensor]:
    x = normal(500, 67).requires_grad_()
    rows = np.random.default_rng(0).integers(0, 500, 20_000)
    return list(wg.grad((x[rows] * normal(20_000, 67, seed=1)).sum(), [x]))


@pytest.mark.parametrize("case", CASES)
def test_bits_do_not_depend_on_threads(case: str) -> None:
    threads, found = wg.num_threads(), []
    try:
        for n in (1, 2, 3, 1, 2, 3):
            wg.set_num_threads(n)
            result = CASES[case]()
            parts = result if isinstance(result, list) else [result]
            found.append([p.detach().contiguous().numpy().tobytes() for p in parts])
    finally:
        wg.set_num_threads(threads)
    assert all(f == found[0] for f in found)


@pytest.mark.parametrize("axis", [0, -1, (0,)])
@pytest.mark.parametrize(
    "op", ["sum", "mean", "prod", "max", "min", "any", "all", "var", "std", "logsumexp"]
)
def test_an_axis_of_a_tensor_without_axes(op: str, axis: Any) -> None:
    """As in NumPy and PyTorch: 0 and -1 name none."""
    x = wg.tensor(2.5).requires_grad_()
    for keepdims in (False, True):
        y = getattr(x, op)(axis, keepdims)
        assert y.shape == ()
        assert y.item() == getattr(x, op)().item()
        if y.requires_grad:
            assert wg.grad(y, [x])[0].item() == (op not in ("var", "std"))


def test_rows_of_a_tensor_without_axes() -> None:
    x = wg.tensor(2.5).requires_grad_()
    for axis in (0, -1):
        assert x.argmax(axis).shape == x.argmin(axis, True).shape == ()
        assert x.argmax(axis).item() == 0
        y = x.softmax(axis)
        assert y.shape == () and y.item() == 1
        assert x.log_softmax(axis).item() == 0
        assert wg.grad(y, [x])[0].item() == 0
        assert x.squeeze(axis).shape == ()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_means_of_whole_numbers(dtype: str) -> None:
    a = np.array([[1, 0, 1], [1, 1, 0]]).astype(dtype)
    a = a if dtype == "bool" else a * 200
    for axis in (None, 0, 1):
        y = wg.tensor(a).mean(axis)
        assert y.dtype.name == "float32"
        assert_close(y, a.mean(axis).astype("float32"))
    big = wg.tensor([2**62, 2**62 + 2**40, -(2**62)])
    assert_close(big.mean(), np.float32((2**62 + 2**40) / 3))
    assert wg.zeros((0,), "int64").mean().isnan().item()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_rows_of_every_length(dtype: str) -> None:
    """Against NumPy; a row alone, and one whose neighbours lie further away, has the same bits."""
    random = np.random.default_rng(0)
    for n in (*range(1, 140), 255, 1023):
        a = (random.normal(size=(5, n)) * 100).astype(dtype)
        if dtype != "int32":
            a[2, random.integers(n)] = np.nan
        x, wide = wg.tensor(a), wg.tensor(np.concatenate([a, a[:, :1]], 1))[:, :n]
        for name in ("sum", "max", "min", "argmax", "argmin"):
            found, exact = getattr(x, name)(1).numpy(), getattr(a.astype(float), name)(1)
            if name == "sum":
                bound = 1e-7 * abs(a.astype(float)).sum(1)
                assert ((abs(found - exact) <= bound) | np.isnan(exact)).all(), n
                assert (np.isnan(found) == np.isnan(exact)).all(), n
            else:
                np.testing.assert_array_equal(found, exact)
            np.testing.assert_array_equal(getattr(wide, name)(1).numpy(), found)
            alone = [getattr(row, name)().numpy() for row in x]
            np.testing.assert_array_equal(np.array(alone), found)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 3, 4, 7), (0, 2, 3)),
        ((64, 33, 6, 17), (0, 2, 3)),
        ((3000, 2, 41), (0, 2)),  # several pieces
        ((2, 700, 3, 5), (0, 3)),  # more outputs than one tile has
        ((2, 3, 4, 5, 6), (1, 3, 4)),
        ((3, 1, 5), (0, 2)),
        ((0, 3, 4), (0, 2)),
        ((4, 3, 0), (0, 2)),
        ((4, 0, 3), (0, 2)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32", "bool"])
def test_runs_of_many_images(shape: tuple[int, ...], axes: tuple[int, ...], dtype: str) -> None:
    """A reduction over a channel of all images folds each image, then merges the images."""
    random = np.random.default_rng(0)
    a = random.normal(1, 0.1, shape).astype("float32")  # so that no product overflows
    if a.size:
        a.flat[a.size // 2] = math.nan if dtype.startswith(("float", "bfloat")) else 1
    x = wg.tensor(a).to(dtype)
    exact = x.double().numpy() if dtype != "bool" else x.numpy()
    empty = 0 in [shape[i] for i in axes]
    for view, of in ((x, exact), (x.flip(0), exact[::-1]), (x[::2], exact[::2])):
        for name in ("sum", "prod", "mean", "max", "any"):
            if (name in ("max", "mean") and empty) or (
                name == "mean" and dtype in ("int32", "bool")
            ):
                continue
            if name == "prod" and dtype == "int32":
                of = of.astype("int64")
            results = []
            for threads in (1, 3):
                before = wg.num_threads()
                wg.set_num_threads(threads)
                results.append(getattr(view, name)(axis=axes).to("float64").numpy())
                wg.set_num_threads(before)
            np.testing.assert_array_equal(*results)
            expected = getattr(np, name)(of, axis=axes).astype(float)
            near = {"float32": 1e-6, "float64": 1e-13, "bfloat16": 8e-3}.get(dtype, 0)
            np.testing.assert_allclose(results[0], expected, near, near)
