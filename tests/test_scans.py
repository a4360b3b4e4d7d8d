"""Scans: dtypes, indices, zeros and infinities in gradients, long lines cut into pieces, errors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.testing import assert_close

NAN, INF = math.nan, math.inf
ALL = ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")


def values(y: Any) -> wg.Tensor:
    return y.values if isinstance(y, tuple) else y


@pytest.mark.parametrize("op", ["cumsum", "cumprod"])
@pytest.mark.smoke
def test_dtypes(op: str) -> None:
    ones = np.array([[3, 200], [1, 2]])
    f, reference = getattr(wg, op), getattr(np, op)
    for dtype in ("uint8", "int32", "int64", "bool"):
        x = wg.tensor(ones, dtype)
        assert_close(f(x, 1), reference(x.numpy(), 1, dtype="int64"))
        assert_close(f(x, 0, dtype="uint8"), reference(x.numpy(), 0, dtype="uint8"))
        assert_close(f(x, dim=1, dtype=wg.float64), reference(x.numpy(), 1, dtype=float))
    assert_close(f(wg.tensor(ones)), reference(ones))  # as one row
    assert_close(reference(wg.tensor(ones), axis=0), reference(ones, axis=0))
    assert_close(f(wg.tensor([0.5, 0.0]), 0, "bool"), reference([0.5, 0.0], dtype=bool))
    assert f(wg.ones(3, "bfloat16"), 0).dtype == wg.bfloat16


@pytest.mark.parametrize("op", ALL)
def test_a_single_number_has_one_axis(op: str) -> None:
    x = wg.tensor(2.5, requires_grad=True)
    for axis in (0, -1):
        y = getattr(x, op)(axis)
        assert values(y).shape == () and values(y).item() == 2.5
        assert wg.grad(values(y), [x])[0].item() == 1.0
    if op in ("cummax", "cummin"):
        assert y.indices.shape == () and y.indices.item() == 0
    with pytest.raises(IndexError, match=f"{op}: axis 1 is out of range"):
        getattr(x, op)(1)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_indices_of_extremes(dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 6, (5, 40, 3)).astype(dtype)
    for op, best in (("cummax", np.maximum), ("cummin", np.minimum)):
        found, at = getattr(wg.tensor(x), op)(1)
        y = best.accumulate(x, 1)
        assert_close(found, y)
        last = np.maximum.accumulate(np.where(x == y, np.arange(40)[:, None], 0), 1)
        assert_close(at, last)
        assert at.made_by == op and not at.requires_grad


def test_nan_in_extremes() -> None:
    x = wg.tensor([1.0, NAN, 3.0, NAN, 2.0], requires_grad=True)
    for op in ("cummax", "cummin"):
        y, at = getattr(x, op)(0)
        np.testing.assert_array_equal(y.detach().numpy(), [1.0, NAN, NAN, NAN, NAN])
        assert at.tolist() == [0, 1, 1, 3, 3]
        (g,) = wg.grad(y, [x], wg.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
        assert g.tolist() == [1.0, 5.0, 0.0, 9.0, 0.0]


def test_extremes_of_infinities() -> None:
    assert wg.tensor([-INF, -INF, 1.0]).cummax(0).indices.tolist() == [0, 1, 2]
    assert wg.tensor([INF, INF, 1.0]).cummin(0).indices.tolist() == [0, 1, 2]
    low = -(2**63)
    assert wg.tensor([low, low]).cummax(0).indices.tolist() == [0, 1]


@pytest.mark.parametrize("zeros", [(), (0,), (2,), (1, 4), (0, 1, 2, 3, 4)])
def test_gradient_of_cumprod_with_zeros(zeros: tuple[int, ...]) -> None:
    """Of each product the other factors, to second order; no division."""
    x = np.array([1.5, -2.0, 0.5, 3.0, -1.0])
    x[list(zeros)] = 0
    g, h = np.random.default_rng(0).normal(size=(2, 5))

    def product(i: int, *without: int) -> float:
        inside = all(k <= i for k in without) and len(set(without)) == len(without)
        return float(np.prod(np.delete(x[: i + 1], without))) if inside else 0.0

    t = wg.tensor(x, requires_grad=True)
    (dx,) = wg.grad(t.cumprod(0), [t], wg.tensor(g), create_graph=True)
    assert_close(dx, [sum(g[i] * product(i, k) for i in range(5)) for k in range(5)], 1e-12, 1e-12)
    (dxx,) = wg.grad(dx, [t], wg.tensor(h))
    expected = [
        sum(g[i] * h[k] * product(i, k, m) for i in range(5) for k in range(5)) for m in range(5)
    ]
    assert_close(dxx, expected, 1e-12, 1e-12)


def test_logcumsumexp_far_apart() -> None:
    """No term is lost where later ones are larger, nor in the gradient; infinities give no NaN."""
    x = np.array([-INF, -800.0, -INF, 0.0, 900.0, 1000.0, 3.0])
    t = wg.tensor(x, requires_grad=True)
    y = t.logcumsumexp(0)
    assert_close(y, np.logaddexp.accumulate(x), 1e-15, 0)
    (g,) = wg.grad(y.sum(), [t], create_graph=True)
    assert_close(g, [0.0, 2.0, 0.0, 1.0, 1.0, 2.0, 0.0], 1e-12, 1e-12)
    assert_close(wg.grad(g.sum(), [t])[0], np.zeros(7), 0, 1e-12)
    inf = wg.tensor([1.0, INF, 2.0], requires_grad=True)
    assert_close(inf.logcumsumexp(0), [1.0, INF, INF])
    assert_close(wg.grad(inf.logcumsumexp(0).sum(), [inf])[0], [1.0, 2.0, 0.0])
    assert wg.tensor([1, 2]).logcumsumexp(0).dtype == wg.float32


def test_float32_sums_are_gathered_in_float64() -> None:
    y = wg.full(10**6, 0.1).cumsum(0)[-1].item()
    assert abs(y - 10**6 * float(np.float32(0.1))) < 1e-8 * 10**6
    x = np.full(200_001, 1e8, "float32")
    x[1::2] = -1e8
    x[-1] = 0.5
    assert wg.tensor(x).cumsum(0)[-1].item() == 0.5


# More elements than a piece has: as one line, as a few, as many, and as columns.
LONG = [(100_003,), (3, 40_001), (20, 40_001), (40_001, 3), (5, 70, 700), (400, 1030)]


@pytest.mark.parametrize("shape", LONG)
def test_long_lines(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=shape)
    for axis in range(len(shape)):
        t, small = wg.tensor(x, requires_grad=True), x * 1e-3 + 1
        assert_close(t.cumsum(axis), x.cumsum(axis), 1e-11, 1e-11)
        assert_close(wg.tensor(small).cumprod(axis), small.cumprod(axis), 1e-11, 1e-11)
        assert_close(t.cummax(axis).values, np.maximum.accumulate(x, axis))
        assert_close(t.cummin(axis).values, np.minimum.accumulate(x, axis))
        assert_close(t.logcumsumexp(axis), np.logaddexp.accumulate(x, axis), 1e-11, 1e-11)
        whole = random.integers(-9, 9, shape)
        assert_close(wg.tensor(whole).cumsum(axis), whole.cumsum(axis))
        (g,) = wg.grad(t.cumsum(axis), [t], t.detach())
        assert_close(g, np.flip(np.flip(x, axis).cumsum(axis), axis), 1e-11, 1e-11)


def test_strides_and_empty() -> None:
    x = np.random.default_rng(0).normal(size=(6, 8, 4))
    t = wg.tensor(x)
    assert_close(t[::2, ::-1].cumsum(1), x[::2, ::-1].cumsum(1))
    assert_close(t.permute(2, 0, 1).cumprod(0), x.transpose(2, 0, 1).cumprod(0), 1e-14, 1e-14)
    for op in ALL:
        for axis in (0, 1):
            assert values(getattr(wg.zeros((0, 3)), op)(axis)).shape == (0, 3)


@pytest.mark.parametrize("op", ALL)
def test_compiled(op: str) -> None:
    def step(x: wg.Tensor) -> list[wg.Tensor]:
        x = x.detach().requires_grad_()
        y = getattr(x * 1.01, op)(1)
        (g,) = wg.grad((values(y) * x.detach()).sum(), [x])
        return [values(y).detach(), g, *([y.indices] if isinstance(y, tuple) else [])]

    compiled = wg.compile(step)
    for seed in range(3):
        x = wg.randn((5, 700), "float32", wg.Generator(seed))
        for a, b in zip(compiled(x), step(x), strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()


# ---- diff ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 5, 9])
@pytest.mark.smoke
def test_diff(n: int) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    t = wg.tensor(x)
    assert_close(t.diff(n), np.diff(x, n), 1e-14, 1e-14)
    assert_close(wg.diff(t, n=n, dim=0, append=t[:2]), np.diff(x, n, 0, append=x[:2]), 1e-14, 1e-14)
    assert_close(t.diff(n, prepend=7), np.diff(x, n, prepend=7), 1e-14, 1e-14)
    flags = x > 0
    assert_close(wg.tensor(flags).diff(n), np.diff(flags, n))
    bytes_ = (x * 100).astype("uint8")
    assert_close(wg.tensor(bytes_).diff(n), np.diff(bytes_, n))


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "axis": (lambda: wg.ones(3).cumsum(1), IndexError, "cumsum: axis 1 is out of range"),
    "no axis": (lambda: wg.ones(3).cummax(), TypeError, "axis"),  # type: ignore[call-arg]
    "dtype": (lambda: wg.ones(3).cumsum(0, "complex64"), TypeError, "complex64"),
    "order": (lambda: wg.ones(3).diff(-1), ValueError, "diff: got n = -1; expected 0 or more"),
    "0-d": (lambda: wg.tensor(1.0).diff(), IndexError, "diff: axis -1 is out of range"),
    "ends": (lambda: wg.ones((2, 3)).diff(append=wg.ones(2)), ValueError, "concatenate"),
    "list": (lambda: wg.diff([1, 2]), TypeError, "diff: got .*expected a Tensor.*study.diff"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_errors(what: str) -> None:
    call, kind, text = ERRORS[what]
    with pytest.raises(kind, match=text):
        call()
