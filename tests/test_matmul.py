"""Matrix products, against np.matmul in float64: sizes around the kernel's tiles, every layout,
batches, vectors, integers, NaN and infinity."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.testing import assert_close, gradcheck

FLOATS = ("float32", "float64")


def normal(*shape: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def check(a: np.ndarray, b: np.ndarray, y: wg.Tensor) -> None:
    """|y - a b| <= 4 eps |a| |b|: a bound on each element that no mistake in an index passes."""
    wide, size = (
        np.matmul(a.astype(float), b.astype(float)),
        np.matmul(abs(a), abs(b)).astype(float),
    )
    assert y.shape == wide.shape
    error = abs(y.numpy().astype(float) - wide)
    eps = np.finfo(y.dtype.name).eps
    assert (error <= 4 * eps * size).all(), f"{(error / (eps * size + 1e-300)).max():.3g} eps"


SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 65]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("k", [1, 2, 3, 8, 17, 64])
@pytest.mark.smoke
def test_small_sizes(k: int, dtype: str) -> None:
    for m, n in itertools.product(SIZES, SIZES):
        a, b = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype, seed=1)
        check(a, b, wg.tensor(a) @ wg.tensor(b))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(64, 784, 128), (257, 300, 129), (1, 4099, 130), (130, 4099, 1), (3, 3000, 3), (700, 3, 500),
     (513, 1, 9), (1, 1, 1000), (100, 1000, 100), (256, 257, 258), (300, 4096, 1100)],
)  # fmt: skip
def test_large_sizes(m: int, k: int, n: int, dtype: str) -> None:
    a, b = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype, seed=1)
    check(a, b, wg.tensor(a) @ wg.tensor(b))


def layouts(a: np.ndarray) -> dict[str, wg.Tensor]:
    """A matrix (or a batch) in memory of several orders and steps."""
    m, n = a.shape[-2:]
    wide = np.full((*a.shape[:-2], 2 * m + 1, 3 * n + 2), np.nan, a.dtype)
    wide[..., 1::2, 1:-1:3] = a
    thick = np.full((*a.shape[:-2], m, n + 5), np.nan, a.dtype)
    thick[..., 2 : n + 2] = a
    return {
        "rows": wg.tensor(a),
        "columns": wg.tensor(np.ascontiguousarray(a.swapaxes(-1, -2))).mT,
        "steps": wg.tensor(wide)[..., 1::2, 1:-1:3],
        "steps, transposed": wg.tensor(np.ascontiguousarray(wide.swapaxes(-1, -2))).mT[
            ..., 1::2, 1:-1:3
        ],
        "backwards": wg.tensor(np.ascontiguousarray(a[..., ::-1, ::-1]))[..., ::-1, ::-1],
        "part of wider rows": wg.tensor(thick)[..., 2 : n + 2],
        "part of wider columns": wg.tensor(np.ascontiguousarray(thick.swapaxes(-1, -2))).mT[
            ..., 2 : n + 2
        ],
    }


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "m, k, n",
    [(5, 7, 3), (1, 9, 4), (17, 33, 65), (70, 130, 1), (40, 257, 90), (600, 2100, 1), (1, 300, 200),
     (3, 270, 70), (2, 4700, 75), (1100, 10, 5), (19, 16, 8), (259, 515, 523), (2, 701, 3010)],
)  # fmt: skip
def test_layouts(m: int, k: int, n: int, dtype: str) -> None:
    """All have the same bits; of n > 1 columns, a row alone has those that it has among others."""
    a, b = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype, seed=1)
    first = wg.tensor(a) @ wg.tensor(b)
    check(a, b, first)
    for x, y in itertools.product(layouts(a).values(), layouts(b).values()):
        assert (x @ y).tolist() == first.tolist()
        if n > 1:
            assert (x[m // 2 : m // 2 + 1] @ y).tolist() == first[m // 2 : m // 2 + 1].tolist()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("k, n", [(300, 205), (769, 130), (2500, 3361)])
def test_few_rows(k: int, n: int, dtype: str) -> None:
    """Kernels are chosen by the number of rows and the size of b: the bits are the same."""
    a, b = normal(40, k, dtype=dtype), normal(k, n, dtype=dtype, seed=1)
    x, first = wg.tensor(a), wg.tensor(a) @ wg.tensor(b)
    check(a, b, first)
    for y in (wg.tensor(b), wg.tensor(np.ascontiguousarray(b.T)).T):
        for m in (1, 3, 4, 5, 8, 12, 13, 14, 15, 20, 28, 29):
            assert np.array_equal((x[:m] @ y).numpy(), first[:m].numpy()), m
            assert np.array_equal((x.T.contiguous().T[:m] @ y).numpy(), first[:m].numpy()), m


@pytest.mark.parametrize("dtype", FLOATS)
def test_repeated_rows_and_columns(dtype: str) -> None:
    """Stride 0."""
    row, column = normal(1, 33, dtype=dtype), normal(20, 1, dtype=dtype)
    b = normal(33, 18, dtype=dtype, seed=1)
    check(np.repeat(row, 20, 0), b, wg.tensor(row).broadcast_to((20, 33)) @ wg.tensor(b))
    check(np.repeat(column, 33, 1), b, wg.tensor(column).broadcast_to((20, 33)) @ wg.tensor(b))
    one = wg.tensor(row[:, :1]).broadcast_to((20, 33))
    check(np.full((20, 33), row[0, 0]), b, one @ wg.tensor(b))
    check(b.T, np.full((33, 20), row[0, 0]), wg.tensor(b).T @ one.T)


BATCHES = [
    ((4, 3, 5), (4, 5, 2)),
    ((4, 3, 5), (5, 2)),
    ((3, 5), (4, 5, 2)),
    ((2, 1, 3, 5), (4, 5, 2)),
    ((2, 4, 3, 5), (1, 4, 5, 2)),
    ((1, 3, 5), (6, 5, 1)),
    ((7, 1, 5), (7, 5, 1)),
    ((2, 1, 2, 1, 3, 5), (2, 1, 2, 5, 4)),
    ((5,), (5,)),
    ((5,), (5, 3)),
    ((3, 5), (5,)),
    ((5,), (4, 5, 3)),
    ((4, 3, 5), (5,)),
    ((2, 4, 3, 5), (5,)),
    ((30, 64, 65), (30, 65, 66)),
    ((50, 2, 3), (3, 70)),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("a_shape", "b_shape"), BATCHES)
def test_batches_and_vectors(a_shape: Any, b_shape: Any, dtype: str) -> None:
    a, b = normal(*a_shape, dtype=dtype), normal(*b_shape, dtype=dtype, seed=1)
    check(a, b, wg.tensor(a) @ wg.tensor(b))
    if a.ndim > 1 and b.ndim > 1:
        for x, y in itertools.product(layouts(a).values(), layouts(b).values()):
            check(a, b, x @ y)
    if a.ndim == 1:
        check(a, b, wg.tensor(np.repeat(a, 3))[::3] @ wg.tensor(b))
        check(a, b, wg.tensor(a[::-1].copy())[::-1] @ wg.tensor(b))
    if b.ndim == 1:
        check(a, b, wg.tensor(a) @ wg.tensor(np.repeat(b, 3))[::3])
        check(a, np.full_like(b, b[0]), wg.tensor(a) @ wg.tensor(b[:1]).broadcast_to(b.shape))


def test_batch_axes_in_another_order() -> None:
    a, b = normal(3, 4, 5, 6), normal(4, 6, 7)
    x = wg.tensor(np.ascontiguousarray(a.transpose(1, 3, 0, 2))).permute(2, 0, 3, 1)
    check(a, b, x @ wg.tensor(b))
    expanded = wg.tensor(a[:1]).broadcast_to((3, 4, 5, 6))
    check(np.broadcast_to(a[:1], a.shape), b, expanded @ wg.tensor(b))


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((0, 4), (4, 3)), ((3, 0), (0, 4)), ((3, 4), (4, 0)), ((0, 0), (0, 0)), ((0,), (0,)),
     ((0, 3, 4), (4, 5)), ((2, 3, 0), (0, 5)), ((0,), (0, 3)), ((3, 0), (0,)),
     ((0, 1, 3, 4), (2, 4, 1)),
     ((1, 3, 4), (0, 4, 5))],
)  # fmt: skip
@pytest.mark.smoke
def test_zero_sizes(a_shape: Any, b_shape: Any) -> None:
    a, b = np.ones(a_shape, "float32"), np.ones(b_shape, "float32")
    x, y = wg.tensor(a, requires_grad=True), wg.tensor(b, requires_grad=True)
    product = x @ y
    assert_close(product, a @ b)
    for g, t in zip(wg.grad(product.sum(), [x, y]), (x, y), strict=True):
        assert g.shape == t.shape
        assert not g.numpy().any()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers(dtype: str) -> None:
    random = np.random.default_rng(0)
    for a_shape, b_shape in [((3, 4), (4, 5)), ((33, 70), (70, 21)), *BATCHES[:14]]:
        a = random.integers(-1000, 1000, a_shape).astype(dtype)
        b = random.integers(-1000, 1000, b_shape).astype(dtype)
        assert_close(wg.tensor(a) @ wg.tensor(b), a @ b)
    a, b = np.array([[2**31 - 1, 2]], dtype), np.array([[3], [5]], dtype)
    assert_close(wg.tensor(a) @ wg.tensor(b), a @ b)  # wraps, as in NumPy
    x = wg.ones((2, 3), "float32") @ wg.ones((3, 2), "int64")
    assert x.dtype == wg.float32
    assert (wg.ones((2, 3), "float32") @ wg.ones((3,), "float64")).dtype == wg.float64


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(5, 9, 6), (40, 100, 50), (1, 70, 1), (1, 50, 40), (40, 50, 1)])
def test_nan_and_infinity_propagate(shape: tuple[int, int, int], dtype: str) -> None:
    m, k, n = shape
    for value in (np.nan, np.inf, -np.inf):
        a, b = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype, seed=1)
        a[m // 2, k - 1] = value
        b[k // 2, n - 1] = -value
        b[k - 1, 0] = 0  # 0 * inf
        with np.errstate(invalid="ignore"):
            expected = a.astype(float) @ b.astype(float)
        for x, y in (
            (wg.tensor(a), wg.tensor(b)),
            (wg.tensor(a.T.copy()).T, wg.tensor(b.T.copy()).T),
        ):
            assert_close(x @ y, expected, 1e-4, 1e-4, equal_nan=True, check_dtype=False)
    zeros = np.zeros((m, k), dtype)
    inf = np.full((k, n), np.inf, dtype)
    assert np.isnan((wg.tensor(zeros) @ wg.tensor(inf)).numpy()).all()


def test_neighbours_of_a_part_are_not_touched() -> None:
    """NaN beside a sliced operand does not leak in, nor does an output write beside itself."""
    a = np.full((9, 23), np.nan, "float32")
    a[2:7, 3:20] = 1
    x = wg.tensor(a)[2:7, 3:20]
    assert (x @ wg.ones((17, 3))).tolist() == [[17.0] * 3] * 5
    assert (wg.ones((3, 5)) @ x).tolist() == [[5.0] * 17] * 3
    assert (x.T @ x).tolist() == [[5.0] * 17] * 17


@pytest.mark.parametrize(("a_shape", "b_shape"), [s for s in BATCHES if max(map(max, s)) < 9])
@pytest.mark.smoke
def test_gradients(a_shape: Any, b_shape: Any) -> None:
    a, b = wg.tensor(normal(*a_shape)), wg.tensor(normal(*b_shape, seed=1))
    gradcheck(wg.matmul, [a, b], order=2)
    if a.ndim > 1 and b.ndim > 1:
        gradcheck(lambda x, y: y.mT @ x.mT, [a, b], order=2)


def test_gradient_of_a_square() -> None:
    a = wg.tensor(normal(5, 5))
    gradcheck(lambda x: x @ x, [a], order=2)
    gradcheck(lambda x: x @ x.T @ x, [a], order=2)


def test_large_gradients_against_numpy() -> None:
    a, b, g = normal(64, 300), normal(300, 70, seed=1), normal(64, 70, seed=2)
    x, y = wg.tensor(a, requires_grad=True), wg.tensor(b, requires_grad=True)
    dx, dy = wg.grad(x @ y, [x, y], wg.tensor(g))
    assert_close(dx, g @ b.T, 1e-12, 1e-12)
    assert_close(dy, a.T @ g, 1e-12, 1e-12)


def test_operators_and_names() -> None:
    a, b = wg.tensor([[1.0, 2.0]]), wg.tensor([[3.0], [4.0]])
    assert (a @ b).tolist() == wg.matmul(a, b).tolist() == a.matmul(b).tolist() == [[11]]
    assert (np.array([[1.0, 2.0]], "float32") @ b).tolist() == [[11]]
    assert (a @ np.array([[3.0], [4.0]], "float32")).tolist() == [[11]]
    with pytest.raises(wg.ShapeError, match="multiply by a scalar with"):
        a @ 3


def test_products_of_uint8_wrap() -> None:
    random = np.random.default_rng(0)
    a, b = (random.integers(0, 256, shape).astype("uint8") for shape in ((2, 5, 70), (70, 3)))
    y = wg.tensor(a) @ wg.tensor(b)
    assert y.dtype.name == "uint8"
    assert (y.numpy() == a @ b).all()
