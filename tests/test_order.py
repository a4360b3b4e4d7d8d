"""Functions of order (wengert/order.py): against NumPy, PyTorch, and what is said of NaN, ties and
bad input. Values and gradients of the ops themselves are in rows.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.testing import assert_close, gradcheck

NAN = math.nan
DTYPES = ("bool", "uint8", "int32", "int64", "bfloat16", "float32", "float64")
# Compared item by item, by digits of 8 and of 11 bits, and in several chunks.
SIZES = (0, 1, 2, 63, 65, 300, 5_000, 20_000, 70_001)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def drawn(dtype: str, rows: int, n: int, kind: str = "") -> wg.Tensor:
    random = np.random.default_rng([rows, n, *map(ord, dtype + kind)])
    if dtype in ("bool", "uint8"):
        x = random.integers(0, 2 if dtype == "bool" else 256, (rows, n))
    elif dtype.startswith("int"):
        x = random.integers(-300, 300, (rows, n))
        x[:, ::9] = -(2**31) if dtype == "int32" else -(2**62)
    else:
        x = random.normal(size=(rows, n))
    if kind == "odd":  # many are equal
        x = np.round(x)
        x[:, ::7], x[:, 1::5], x[:, 2::11], x[:, 3::13] = NAN, -0.0, math.inf, -math.inf
    return wg.tensor(x, dtype)


def expected(x: wg.Tensor, descending: bool) -> np.ndarray:
    """Indices of a stable sort; NaN is the largest."""
    a = x.double().numpy() if x.dtype.is_floating_point else x.numpy()
    if not descending:
        return np.argsort(a, -1, kind="stable")
    return a.shape[-1] - 1 - np.argsort(a[..., ::-1], -1, kind="stable")[..., ::-1]


CASES = [(dtype, "") for dtype in DTYPES]
CASES += [(dtype, "odd") for dtype in ("bfloat16", "float32", "float64")]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("dtype", "kind"), CASES)
def test_sort_is_stable_and_ranks_are_parts_of_it(dtype: str, kind: str, descending: bool) -> None:
    for n in SIZES:
        x = drawn(dtype, 3 if n < 10_000 else 1, n, kind)
        at = expected(x, descending)
        values, indices = x.sort(descending=descending)
        assert values.dtype.name == dtype
        np.testing.assert_array_equal(indices.numpy(), at)
        # the elements themselves: -0.0 and 0.0 are equal and not the same
        assert_same_bits(values, x.gather(-1, wg.tensor(at)))
        ranks = ((0, min(n, 3)), (0, n // 10), (n // 2, min(1, n)), (n // 3, n // 4))
        for first, count in ranks:
            part, where = wg._core._sort(x, -1, first, count, descending)
            np.testing.assert_array_equal(where.numpy(), at[:, first : first + count])
            assert_same_bits(part, values[:, first : first + count])


def assert_same_bits(a: wg.Tensor, b: wg.Tensor) -> None:
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    assert wg._core._bytes(a.contiguous()).tolist() == wg._core._bytes(b.contiguous()).tolist()


@pytest.mark.parametrize("n", [3_000, 200_000])
@pytest.mark.parametrize("fill", [0.0, NAN, math.inf, -math.inf])
def test_first_ones_of_equal_values(n: int, fill: float) -> None:
    for descending in (False, True):
        x = wg.full((n,), fill)
        assert x.topk(4, largest=descending).indices.tolist() == [0, 1, 2, 3]
        x[n // 2] = 1.0 if fill != 1.0 else 2.0
        got = wg._core._sort(x, 0, 0, 5, descending)[1]
        assert got.tolist() == expected(x.unsqueeze(0), descending)[0, :5].tolist()


@pytest.mark.parametrize("n", [1000, 300_000])
def test_same_bits_for_any_number_of_threads(n: int) -> None:
    x = drawn("float32", 300_000 // n, n, "odd")
    before, found = wg.num_threads(), []
    try:
        for threads in (1, 2, 5):
            wg.set_num_threads(threads)
            parts = [*x.sort(), *x.topk(7), *x.kthvalue(n // 2), x.quantile([0.1, 0.7], 1)]
            found.append([p.numpy().tobytes() for p in parts])
    finally:
        wg.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_along_any_axis_and_of_any_strides(axis: int) -> None:
    a = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")
    for x, b in (
        (wg.tensor(a), a),
        (wg.tensor(a).permute(2, 0, 1)[::2], a.transpose(2, 0, 1)[::2]),
    ):
        assert_close(x.sort(axis).values, np.sort(b, axis))
        assert_close(x.topk(2, axis).values, -np.sort(-b, axis).take([0, 1], axis))
        assert_close(x.argsort(axis), np.argsort(b, axis))
        assert_close(x.quantile(0.4, axis), np.quantile(b, 0.4, axis).astype("float32"), rtol=1e-6)


def test_of_no_axes_and_of_nothing() -> None:
    x = wg.tensor(2.0)
    for axis in (0, -1):
        for values, index in (x.sort(axis), x.topk(1, axis), x.kthvalue(1, axis), x.mode(axis)):
            assert (values.tolist(), index.tolist(), values.shape, index.shape) == (2.0, 0, (), ())
    assert x.median().item() == x.nanmedian().item() == x.quantile(0.3).item() == 2.0
    for shape in ((0,), (0, 3), (3, 0)):
        empty = wg.zeros(shape)
        assert empty.sort().values.shape == empty.argsort().shape == shape
        assert empty.unique().shape == (0,)
    assert math.isnan(wg.zeros(0).median().item())
    assert wg.zeros((2, 0)).topk(0).values.shape == (2, 0)


# ---- gradients, compiled steps, lists


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sort(0).values,
        lambda x: x.sort(descending=True).values * wg.arange(5),
        lambda x: x.topk(2, 0, largest=False).values,
        lambda x: x.kthvalue(2).values,
        lambda x: x.median(),
        lambda x: x.median(0, keepdims=True).values,
        lambda x: x.nanmedian(1).values,
        lambda x: x.mode(1).values,
        lambda x: x.quantile([0.2, 0.9], 1),
        lambda x: x.nanquantile(0.3, interpolation="midpoint"),
        lambda x: x.unique(),
        lambda x: wg.bincount(wg.tensor([0, 2, 0]), x[:3, 0]),
        lambda x: x.histogram(3, weight=x * x).hist,
    ],
)
def test_gradients(f: Callable[[wg.Tensor], Any]) -> None:
    """First and second; of the squares, so that the second is not 0."""
    x = np.random.default_rng(3).permutation(20).reshape(4, 5) * 0.37 - 3
    gradcheck(lambda x: f(x).square(), [wg.tensor(x, "float64")], order=2, rtol=3e-6, atol=1e-6)


def test_gradient_of_equal_values_goes_to_the_chosen_one() -> None:
    x = wg.tensor([2.0, 1.0, 1.0, 2.0], requires_grad=True)
    assert wg.grad(x.topk(1).values.sum(), [x])[0].tolist() == [1, 0, 0, 0]
    assert wg.grad(x.median(), [x])[0].tolist() == [0, 0, 1, 0]


def test_gradient_of_the_share() -> None:
    q = wg.tensor(0.3, "float64", requires_grad=True)
    x = wg.tensor([1.0, 2.0, 4.0, 8.0], "float64")
    (g,) = wg.grad(x.quantile(q), [q])
    assert g.item() == 3.0  # between the first two, of three steps


def test_compiled_steps_are_bit_identical() -> None:
    def step(x: wg.Tensor, q: wg.Tensor) -> list[wg.Tensor]:
        x = x.detach().requires_grad_()
        top = x.topk(3, 0)
        y = x.sort().values.square().sum() + top.values.sum() + x.median(1).values.sum()
        y = y + x.quantile(q, 1).sum() + x.nanquantile(0.7)
        y = y + x.histogram(5, range=(-2.0, 2.0), weight=x).hist.square().sum()
        return [
            y,
            *wg.grad(y, [x]),
            x.histc(4, -1, 1),
            top.indices,
            x.argsort(0),
            wg.searchsorted(x.sort().values, x),
        ]

    compiled = wg.compile(step)
    for seed in range(3):
        x = wg.randn((6, 7), generator=wg.Generator(seed))
        q = wg.rand(2, generator=wg.Generator(seed))
        for a, b in zip(compiled(x, q), step(x, q), strict=True):
            assert_same_bits(a.detach(), b.detach())
    with pytest.raises(IndexError):
        compiled(x, q + 1)
    with pytest.raises(IndexError):
        compiled(x, q - 1)
    unique = wg.compile(lambda x: x.unique())
    unique(x)
    with pytest.raises(ValueError, match="looks at values"):
        unique(x)


def test_an_edit_of_the_indices_is_seen() -> None:
    x = wg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    values, indices = x.sort()
    indices[0] = 0
    with pytest.raises(wg.GradientError, match="changed in place"):
        values.sum().backward()


# ---- NaN


def test_nan() -> None:
    x = wg.tensor([[NAN, 1.0, NAN, 2.0], [3.0, 1.0, 5.0, 4.0], [NAN] * 4])
    assert x.sort().indices.tolist() == [[1, 3, 0, 2], [1, 0, 3, 2], [0, 1, 2, 3]]
    assert x.sort(descending=True).indices.tolist() == [[0, 2, 3, 1], [2, 3, 0, 1], [0, 1, 2, 3]]
    assert x.topk(2).indices.tolist() == [[0, 2], [2, 3], [0, 1]]
    assert x.median(1).indices.tolist() == [0, 0, 0]
    assert_close(x.median(1).values, np.array([NAN, 3, NAN], "float32"), equal_nan=True)
    assert_close(x.nanmedian(1).values, np.array([1, 3, NAN], "float32"), equal_nan=True)
    assert x.nanmedian(1).indices.tolist() == [1, 0, 0]
    assert math.isnan(x.median().item()) and x.nanmedian().item() == 2.0
    assert_close(x.quantile(0.5, 1), np.array([NAN, 3.5, NAN], "float32"), equal_nan=True)
    assert_close(x.nanquantile(0.5, 1), np.array([1.5, 3.5, NAN], "float32"), equal_nan=True)
    assert wg.searchsorted(wg.tensor([1.0, NAN]), wg.tensor([NAN, 2.0])).tolist() == [1, 1]
    assert wg.isin(wg.tensor([NAN, 1.0]), wg.tensor([NAN, 1.0])).tolist() == [False, True]
    assert wg.tensor([NAN, 1.0, NAN]).unique().shape == (3,)
    assert wg.tensor([NAN, 0.5, 3.0]).histc(2, 0, 1).tolist() == [0, 1]


# ---- against PyTorch


def test_selections_are_pytorch_s(torch: Any) -> None:
    random = np.random.default_rng(5)
    x = random.normal(size=(3, 4, 5))
    holes = np.where(random.random(x.shape) < 0.2, NAN, x)
    for a in (x, holes, random.integers(-9, 9, x.shape), np.full((2, 3), NAN), np.array(2.5)):
        mine, theirs = wg.tensor(a), torch.from_numpy(np.array(a))
        for axis in range(-max(1, a.ndim), max(1, a.ndim)):
            for keep in (False, True):
                for name, *more in (("median",), ("nanmedian",), ("kthvalue", 1), ("mode",)):
                    if name == "mode" and a.dtype.kind == "f" and np.isnan(a).any():
                        continue  # PyTorch's is another with every order
                    p = getattr(mine, name)(*more, axis=axis, keepdims=keep)
                    q = getattr(theirs, name)(*more, dim=axis, keepdim=keep)
                    assert_close(p.values, q.values.numpy(), equal_nan=True)
                    if (name in ("median", "mode") and a.dtype.kind == "f") or name == "mode":
                        assert_close(p.indices, q.indices.numpy())
        assert_close(mine.median(), theirs.median().numpy(), equal_nan=True)
        assert_close(mine.nanmedian(), theirs.nanmedian().numpy(), equal_nan=True)
        assert_close(mine.count_nonzero(), theirs.count_nonzero().numpy())


@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
@pytest.mark.parametrize("q", [0.3, [0.0, 0.25, 1.0], [0.5], []])
def test_quantiles_are_pytorch_s(torch: Any, name: str, q: Any) -> None:
    random = np.random.default_rng(6)
    a = random.normal(size=(3, 4, 5))
    a[random.random(a.shape) < 0.1] = NAN
    mine, theirs = wg.tensor(a), torch.from_numpy(a)
    at = torch.tensor(q, dtype=torch.float64)
    for axis in (None, 0, 1, -1):
        for keep in (False, True):
            for how in ("linear", "lower", "higher", "nearest", "midpoint"):
                p = getattr(mine, name)(q, axis, keep, how)
                r = getattr(theirs, name)(at, dim=axis, keepdim=keep, interpolation=how)
                assert_close(p, r.numpy(), rtol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", ["unique", "unique_consecutive"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_sets_are_pytorch_s(torch: Any, name: str, axis: int | None) -> None:
    for dtype in ("int64", "float32", "bool", "uint8"):
        a = np.random.default_rng(7).integers(0, 2, (5, 3, 2)).astype(dtype)
        mine, theirs = wg.tensor(a), torch.from_numpy(a)
        p = getattr(mine, name)(return_inverse=True, return_counts=True, axis=axis)
        q = getattr(theirs, name)(return_inverse=True, return_counts=True, dim=axis)
        for x, y in zip(p, q, strict=True):
            assert_close(x, y.numpy())
        assert_close(getattr(mine, name)(axis=axis), q[0].numpy())
        values, counts = getattr(mine, name)(return_counts=True, axis=axis)
        assert_close(counts, q[2].numpy())
        assert values.dtype.name == dtype


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_searches_are_pytorch_s(torch: Any, dtype: str, right: bool) -> None:
    random = np.random.default_rng(8)
    s = np.sort(random.integers(0, 9, (2, 7)), -1).astype(dtype)
    v = random.integers(-1, 11, (2, 5)).astype(dtype)
    for row, values in ((s, v), (s[0], v), (s[0], v[0])):
        p = wg.searchsorted(wg.tensor(row), wg.tensor(values), right=right, out_int32=True)
        q = torch.searchsorted(torch.tensor(row), torch.tensor(values), right=right, out_int32=True)
        assert_close(p, q.numpy())
        side = "right" if right else "left"
        p = wg.searchsorted(wg.tensor(row), wg.tensor(values), side=side)
        assert_close(p, q.long().numpy())
    assert_close(
        wg.bucketize(wg.tensor(v), wg.tensor(s[0]), right=right),
        torch.bucketize(torch.tensor(v), torch.tensor(s[0]), right=right).numpy(),
    )
    shuffled = random.permuted(s, axis=-1)
    order = wg.tensor(shuffled).argsort()
    p = wg.searchsorted(wg.tensor(shuffled), wg.tensor(v), right=right, sorter=order)
    assert_close(p, wg.searchsorted(wg.tensor(s), wg.tensor(v), right=right))
    assert wg.searchsorted(wg.tensor([0.1, 0.3], "float64"), 0.1).item() == 0
    assert wg.bucketize(2.5, wg.tensor([1, 2, 3])).item() == 2


def test_isin(torch: Any) -> None:
    a, b = wg.tensor([[1, 2], [3, 4]]), wg.tensor([2, 9, 3])
    assert wg.isin(a, b).tolist() == [[False, True], [True, False]]
    assert wg.isin(a, b, invert=True).tolist() == [[True, False], [False, True]]
    assert wg.isin(a, 4).tolist() == [[False, False], [False, True]]
    assert wg.isin(9, b).item() is True
    assert wg.isin(a, wg.zeros(0)).tolist() == [[False, False]] * 2
    assert wg.isin(wg.tensor([-0.0, 0.5]), wg.tensor([0.0])).tolist() == [True, False]


def test_counts_are_pytorch_s(torch: Any) -> None:
    a = np.array([1, 1, 5, 0])
    w = np.array([0.5, 1.0, 2.0, -1.0])
    for weights in (None, w, w.astype("float32"), a):
        for least in (0, 3, 9):
            p = wg.bincount(wg.tensor(a), weights if weights is None else wg.tensor(weights), least)
            q = torch.bincount(
                torch.tensor(a), weights if weights is None else torch.tensor(weights), least
            )
            assert_close(p, q.numpy())
    assert wg.bincount(wg.zeros(0, "int64")).shape == (0,)
    for x in (np.random.default_rng(9).normal(size=(4, 50)), np.zeros(3), np.zeros(0)):
        for dtype in ("float32", "float64"):
            mine, theirs = wg.tensor(x, dtype), torch.tensor(x.astype(dtype))
            assert_close(mine.histc(7), theirs.histc(7).numpy())
            assert_close(mine.histc(5, -1, 1), theirs.histc(5, -1, 1).numpy())
            for density in (False, True):
                p = mine.histogram(6, range=(-1.0, 2.0), weight=mine.abs(), density=density)
                q = theirs.histogram(6, range=(-1.0, 2.0), weight=theirs.abs(), density=density)
                assert_close(p.hist, q.hist.numpy(), rtol=1e-5, equal_nan=True)
                assert_close(p.bin_edges, q.bin_edges.numpy())
                edges = [-1.0, 0.0, 0.1, 3.0]
                p = mine.histogram(wg.tensor(edges, dtype), density=density)
                q = theirs.histogram(torch.tensor(edges, dtype=theirs.dtype), density=density)
                assert_close(p.hist, q.hist.numpy(), rtol=1e-5, equal_nan=True)
    assert wg.tensor([[0, 1], [2, 0]]).count_nonzero(0).tolist() == [1, 1]
    assert wg.tensor([[0, 1], [2, 0]]).count_nonzero((0, 1)).tolist() == 2


# ---- bad input

X = wg.tensor([[3.0, 1.0, 2.0]])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: X.sort(2), IndexError, r"sort: axis 2 .* \(1, 3\)"),
        (lambda: wg.argsort(X, -3), IndexError, "argsort: axis -3"),
        (lambda: wg.sort([1.0]), TypeError, r"sort: x is .* write wengert.tensor\(x\)"),
        (lambda: X.topk(4), ValueError, r"topk: k is 4, and axis 1 .* 3 elements"),
        (lambda: X.topk(-1), ValueError, "topk: k is -1"),
        (lambda: wg.tensor(1.0).topk(0), ValueError, "topk: k is 0"),
        (lambda: X.kthvalue(0), ValueError, "kthvalue: k is 0; expected 1 to 3"),
        (lambda: X.kthvalue(4), ValueError, "kthvalue: k is 4; expected 1 to 3"),
        (lambda: wg.zeros((2, 0)).median(1), ValueError, "median: axis 1 .* no elements"),
        (lambda: wg.zeros((2, 0)).mode(), ValueError, "mode: axis 1 .* no elements"),
        (lambda: wg.zeros(0, "int64").median(), ValueError, "median: axis 0 .* no elements"),
        (lambda: X.median(keepdims=True), ValueError, "median: keepdims is True without an axis"),
        (lambda: X.quantile(1.5), ValueError, "quantile: q is 1.5 .* 0 to 1"),
        (lambda: X.quantile([0.5, NAN]), ValueError, "quantile: q is"),
        (lambda: X.quantile([[0.5]]), wg.ShapeError, r"quantile: q has shape \(1, 1\)"),
        (lambda: X.quantile(0.5, interpolation="cubic"), ValueError, "interpolation is"),
        (lambda: wg.zeros(0).quantile(0.5), ValueError, "quantile: axis 0 .* no elements"),
        (lambda: X.unique(axis=2), IndexError, "unique: axis 2"),
        (lambda: wg.searchsorted(X, wg.zeros((2, 3))), wg.ShapeError, r"searchsorted: .*\(2, 3\)"),
        (lambda: wg.searchsorted(wg.tensor(1.0), X), wg.ShapeError, "searchsorted"),
        (lambda: wg.searchsorted(X, X, side="up"), ValueError, 'side is "up"'),
        (lambda: wg.searchsorted(X, X, right=True, side="left"), ValueError, "give one of them"),
        (lambda: wg.bucketize(X, X), wg.ShapeError, r"bucketize: boundaries .*\(1, 3\)"),
        (lambda: wg.bincount(X), wg.ShapeError, "bincount: x is a Tensor of shape"),
        (lambda: wg.bincount(X[0]), wg.DTypeError, "bincount: x is a Tensor of shape"),
        (lambda: wg.bincount(wg.tensor([1, -2])), ValueError, "bincount: x has an element -2"),
        (lambda: wg.bincount(wg.tensor([1]), minlength=-1), ValueError, "minlength is -1"),
        (lambda: wg.bincount(wg.tensor([1]), X[0]), wg.ShapeError, "bincount: weights have shape"),
        (lambda: X.histc(0), ValueError, "histc: bins is 0; expected 1 or more"),
        (lambda: X.histc(3, 2, 1), ValueError, "histc: the range is 2 to 1"),
        (lambda: wg.tensor([NAN]).histc(), ValueError, "histc: the range is nan"),
        (lambda: X.histogram(wg.tensor([1.0])), wg.ShapeError, "histogram: bins have shape"),
        (lambda: X.histogram(3, weight=X[0, :2]), wg.ShapeError, "histogram: weight has 2"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_pytorch_s_names_are_taken() -> None:
    assert X.sort(dim=1).values.tolist() == [[1, 2, 3]]
    assert X.median(dim=1, keepdim=True).values.tolist() == [[2]]
    assert wg.topk(input=X, k=1, dim=-1).indices.tolist() == [[0]]
    assert wg.unique(X, dim=0).shape == (1, 3)
