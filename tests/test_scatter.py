"""gather, scatter and what is called after them: compared with PyTorch and NumPy; edits in place of
views; the same bits for any number of threads; errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.testing import assert_close

RNG = np.random.default_rng(0)


def real(*shape: int) -> Any:
    return RNG.normal(size=shape)


def whole(n: int, *shape: int) -> Any:
    return RNG.integers(0, n, size=shape)


def apart(*places: int) -> Any:
    return np.array(places)


MASK = np.array([[True, False, True, True], [False] * 4, [True, True, False, True]])
DISTINCT = np.array([[0, 2], [3, 1], [1, 0]])
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "gather": (lambda x, i: x.gather(-1, i), (real(5), whole(5, 9))),
    "gather of one": (lambda x, i: x.gather(0, i), (real(), whole(1))),
    "gather of one, as a row": (lambda x, i: x.gather(-1, i), (real(), apart(0))),
    "gather nothing": (lambda x, i: x.gather(1, i), (real(3, 4), whole(1, 3, 0))),
    "along a row": (lambda x, i: x.take_along_dim(i, 1), (real(3, 4), whole(4, 3, 2))),
    "along, index spread": (lambda x, i: x.take_along_dim(i, dim=1), (real(3, 4), whole(4, 1, 2))),
    "along, x spread": (lambda x, i: x.take_along_dim(i, 1), (real(1, 4), whole(4, 3, 2))),
    "along all": (lambda x, i: x.take_along_dim(i), (real(3, 4), whole(12, 3, 2))),
    "take": (lambda x, i: x.take(i), (real(3, 6), whole(18, 4, 2))),
    "index_select": (lambda x, i: x.index_select(1, i), (real(3, 6, 5), whole(6, 8))),
    "index_select first": (lambda x, i: x.index_select(0, i), (real(3, 6), whole(3, 8))),
    "index_select of one": (lambda x, i: x.index_select(0, i), (real(), apart(0))),
    "scatter number": (lambda x, i: x.scatter(1, i, 2.5), (real(3, 4), whole(4, 3, 2))),
    "scatter": (lambda x, i, v: x.scatter(1, i, v), (real(3, 4), DISTINCT, real(3, 2))),
    "scatter src": (
        lambda x, i, v: x.scatter(dim=1, index=i, src=v),
        (real(3, 4), DISTINCT, real(3, 2)),
    ),
    "scatter value": (lambda x, i: x.scatter(1, index=i, value=3), (real(3, 4), DISTINCT)),
    "scatter of one": (lambda x, i, v: x.scatter(0, i, v), (real(), whole(1), real())),
    "scatter_add": (
        lambda x, i, v: x.scatter_add(0, i, v),
        (real(4, 3, 2), whole(4, 9, 2, 2), real(9, 2, 2)),
    ),
    "scatter_add nothing": (
        lambda x, i, v: x.scatter_add(1, i, v),
        (real(3, 0), whole(1, 3, 0), real(3, 0)),
    ),
    "index_add": (
        lambda x, i, v: x.index_add(1, i, v),
        (real(3, 4, 5), whole(4, 7), real(3, 7, 5)),
    ),
    "index_add alpha": (
        lambda x, i, v: x.index_add(-2, i, v, alpha=2.5),
        (real(3, 4), whole(3, 7), real(7, 4)),
    ),
    "index_add one": (lambda x, i, v: x.index_add(0, i, v), (real(), whole(1), real())),
    "index_copy": (
        lambda x, i, v: x.index_copy(1, i, v),
        (real(3, 6, 5), apart(3, 0, 4), real(3, 3, 5)),
    ),
    "index_fill": (lambda x, i: x.index_fill(1, i, 2.5), (real(3, 6, 5), apart(3, 0, 4))),
    "index_fill integers": (lambda x, i: x.index_fill(0, i, 3), (whole(9, 3, 6), apart(2, 0))),
    **{
        f"index_reduce {how} {own}": (
            lambda x, i, v, h=how, o=own: x.index_reduce(1, i, v, h, include_self=o),
            (real(3, 4), whole(4, 5), real(3, 5)),
        )
        for how in ("prod", "mean", "amax", "amin")
        for own in (True, False)
    },
    "put": (lambda x, i, v: x.put(i, v), (real(3, 6), apart(3, 4, 17), real(3))),
    "put added": (lambda x, i, v: x.put(i, v, True), (real(3, 6), whole(18, 4, 2), real(2, 4))),
    "masked_select": (lambda x, m: x.masked_select(m), (real(3, 4), MASK[:, :1])),
    "masked_fill": (lambda x, m: x.masked_fill(m, -1.5), (real(3, 4), MASK)),
    "masked_fill spread": (lambda x, m: x.masked_fill(m, -np.inf), (real(2, 3, 4), MASK[:, :1])),
    "masked_fill integers": (lambda x, m: x.masked_fill(m, 2), (whole(9, 3, 4), MASK[0])),
    "masked_scatter": (lambda x, m, v: x.masked_scatter(m, v), (real(3, 4), MASK, real(3, 3))),
    "masked_scatter spread": (
        lambda x, m, v: x.masked_scatter(m, v),
        (real(3, 4), MASK[0], real(11)),
    ),
}


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    f, arrays = CASES[name]
    ours, theirs = [wg.tensor(a) for a in arrays], [torch.tensor(a) for a in arrays]
    leaves = [x.requires_grad_() for x in ours if x.dtype.is_floating_point]
    torch_leaves = [x.requires_grad_() for x in theirs if x.is_floating_point()]
    y, expected = f(*ours), f(*theirs)
    assert y.shape == tuple(expected.shape)
    assert_close(y, expected.detach().numpy(), 1e-12, 1e-12)
    if not expected.requires_grad:
        return
    g = real(*y.shape)
    found = wg.grad(y, leaves, wg.tensor(g))
    for a, b in zip(
        found, torch.autograd.grad(expected, torch_leaves, torch.tensor(g)), strict=True
    ):
        assert_close(a, b.numpy(), 1e-12, 1e-12)


def test_more_values_than_indices() -> None:
    """Those beyond the index's shape are not looked at: PyTorch has no gradient of that."""
    v = wg.tensor(real(3, 4)).requires_grad_()
    y = wg.zeros((2, 5), "float64").scatter_add(1, wg.tensor([[0, 0, 1], [4, 4, 4]]), v)
    (dv,) = wg.grad(y[:, :2].sum(), [v])
    assert dv.tolist() == [[1, 1, 1, 0], [0] * 4, [0] * 4]


EDITS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "scatter_": lambda f, v: (1, f(DISTINCT), v),
    "scatter_add_": lambda f, v: (1, f(np.array([[0, 0], [3, 1], [1, 0]])), v),
    "scatter_reduce_": lambda f, v: (1, f(np.array([[0, 0], [3, 1], [1, 0]])), v, "prod"),
    "index_add_": lambda f, v: (1, f(apart(0, 0)), v),
    "index_copy_": lambda f, v: (1, f(apart(0, 3)), v),
    "index_fill_": lambda f, v: (1, f(apart(0, 0)), 3.0),
    "index_reduce_": lambda f, v: (1, f(apart(0, 0)), v, "amax"),
    "masked_fill_": lambda f, v: (f(MASK), 3.0),
    "masked_scatter_": lambda f, v: (f(MASK), f(np.arange(12.0))),
    "put_": lambda f, v: (f(apart(0, 5)), v[0]),
}


@pytest.mark.parametrize("view", ["whole", "transposed", "steps"])
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.filterwarnings("ignore:index_reduce")
def test_edits_of_views(name: str, view: str) -> None:
    torch = pytest.importorskip("torch")
    start, values = (
        real(*{"whole": (3, 4), "transposed": (4, 3), "steps": (6, 9)}[view]),
        real(3, 2),
    )

    def edited(make: Any, grad: Any) -> list[Any]:
        base, v = make(start).requires_grad_(), make(values).requires_grad_()
        x = base.clone()
        at = x if view == "whole" else x.T if view == "transposed" else x[1:4, 1:8:2]
        assert getattr(at, name)(*EDITS[name](make, v)) is at
        dx, dv = grad((x * x * x).sum(), [base, v], allow_unused=True)
        return [x.detach(), at.detach(), dx, dv]

    expected = edited(torch.tensor, torch.autograd.grad)
    for a, b in zip(edited(wg.tensor, wg.grad), expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b.numpy(), 1e-12, 1e-12)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "bfloat16", "float32"])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_dtypes(dtype: str, reduce: str, include_self: bool) -> None:
    torch = pytest.importorskip("torch")
    x, v, i = whole(5, 6, 7), whole(5, 6, 9), whole(7, 6, 9)
    ours = [wg.tensor(a).to(dtype) for a in (x, v)]
    theirs = [torch.tensor(a).to(getattr(torch, dtype)) for a in (x, v)]

    def scattered() -> Any:
        return ours[0].scatter_reduce(1, wg.tensor(i), ours[1], reduce, include_self=include_self)

    if dtype == "bool" and reduce == "mean":
        with pytest.raises(TypeError, match="the mean of bools"):
            scattered()
        return
    y = scattered()
    expected = theirs[0].scatter_reduce(
        1, torch.tensor(i), theirs[1], reduce, include_self=include_self
    )
    assert y.dtype.name == dtype
    assert (y.float().numpy() == expected.float().numpy()).all()


def test_sums_of_bfloat16_are_rounded_once() -> None:
    ones = wg.ones((1000,), "bfloat16")
    y = wg.zeros((1,), "bfloat16").scatter_add(0, wg.zeros((1000,), "int64"), ones)
    assert y.item() == 1000
    x = wg.zeros((1,), "bfloat16")
    x.scatter_add_(0, wg.zeros((1000,), "int64"), ones)
    assert x.item() == 1000


@pytest.mark.parametrize("reduce", ["amax", "amin"])
def test_nan_and_infinities(reduce: str) -> None:
    x = wg.tensor([1.0, float("nan"), 2.0, 3.0, 4.0]).requires_grad_()
    v = wg.tensor([float("nan"), 0.0, -float("inf"), float("inf")]).requires_grad_()
    y = x.scatter_reduce(0, wg.tensor([0, 1, 2, 2]), v, reduce)
    top = float("inf") if reduce == "amax" else -float("inf")
    assert_close(y, [np.nan, np.nan, top, 3, 4], equal_nan=True)
    dx, dv = wg.grad(y.sum(), [x, v])
    assert_close(dx, [np.nan, np.nan, 0, 1, 1], equal_nan=True)
    assert_close(dv, [np.nan, np.nan, reduce == "amin", reduce == "amax"], equal_nan=True)


def test_an_own_value_that_does_not_count_has_no_share() -> None:
    """The start of a fold, -inf, is no tie."""
    v = wg.tensor([-float("inf"), -float("inf")]).requires_grad_()
    x = wg.tensor([-float("inf"), 1.0]).requires_grad_()
    y = x.scatter_reduce(0, wg.tensor([0, 0]), v, "amax", include_self=False)
    dx, dv = wg.grad(y, [x, v], wg.tensor([1.0, 1.0]))
    assert dx.tolist() == [0, 1]
    assert dv.tolist() == [0.5, 0.5]


def test_zeros_in_a_product() -> None:
    x = wg.tensor([1.0, 0.0, 2.0, 0.0, 3.0]).requires_grad_()
    v = wg.tensor([0.0, 2.0, 0.0, 5.0, 0.0, 0.0]).requires_grad_()
    y = x.scatter_reduce(0, wg.tensor([0, 0, 1, 2, 4, 4]), v, "prod")
    dx, dv = wg.grad(y.sum(), [x, v])
    assert dx.tolist() == [0, 0, 5, 1, 0]
    assert dv.tolist() == [2, 0, 0, 2, 0, 0]
    y = x.scatter_reduce(0, wg.tensor([0, 0, 1, 2, 4, 4]), v, "prod")
    with pytest.raises(wg.GradientError, match="two zeros or more at one place"):
        wg.grad(y.sum(), [x, v], create_graph=True)


@pytest.mark.parametrize(
    "shapes",
    [
        ((50,), (300_000,), 0),
        ((700, 30), (5000, 30), 0),
        ((30, 700), (30, 5000), 1),
        ((9, 40, 200), (9, 1000, 200), 1),
    ],
)
def test_the_same_bits_for_any_number_of_threads(shapes: Any) -> None:
    shape, index_shape, axis = shapes
    x, v = (wg.tensor(RNG.normal(size=s).astype("float32")) for s in (shape, index_shape))
    i = wg.tensor(whole(shape[axis], *index_shape))
    threads, found = wg.num_threads(), []
    try:
        for n in (1, 2, 3):
            wg.set_num_threads(n)
            found.append((x.scatter_add(axis, i, v), x.gather(axis, i)))
    finally:
        wg.set_num_threads(threads)
    places = list(np.indices(index_shape, sparse=True))
    places[axis] = i.numpy()
    expected = x.numpy().copy()
    np.add.at(expected, tuple(places), v.numpy())
    for total, taken in found:
        assert total.numpy().tobytes() == expected.tobytes()  # in order, one after another
        assert (taken.numpy() == x.numpy()[tuple(places)]).all()


def test_compiled() -> None:
    i, rows = wg.tensor(whole(4, 3, 5)), wg.tensor([2, 0])
    x = wg.tensor(real(3, 4)).requires_grad_()
    v = wg.tensor(real(3, 5)).requires_grad_()

    def step(factor: Any) -> Any:
        y = (x * factor).scatter_reduce(1, i, v, "amax").index_add(0, rows, v[:2, :4])
        z = y.masked_fill(y > 1, 0.5).take_along_axis(i, 1)
        w = z.clone()
        w.scatter_add_(1, i, v)
        return w, *wg.grad((w * w).sum(), [x, v])

    compiled = wg.compile(step)
    for _ in range(3):
        factor = wg.tensor(real(1))
        for a, b in zip(compiled(factor), step(factor), strict=True):
            assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "index": (
        lambda: wg.zeros((3, 4)).scatter_(1, wg.tensor([[0, 9]]), 5.0),
        IndexError,
        "scatter_: index 9, number 1, is out of range for axis 1 of x, of size 4",
    ),
    "negative": (
        lambda: wg.zeros((3, 4)).gather(0, wg.tensor([[-4]])),
        IndexError,
        "gather: index -4, number 0, is out of range for axis 0 of x, of size 3",
    ),
    "huge": (
        lambda: wg.zeros((3,)).scatter_add(0, wg.tensor([0, 2**63 - 1]), 1.0),
        IndexError,
        "scatter_add: index 9223372036854775807, number 1",
    ),
    "row": (
        lambda: wg.zeros((3, 4)).index_add_(0, wg.tensor([1, 3]), wg.zeros((2, 4))),
        IndexError,
        "index_add_: index 3, number 1, .* axis 0 of x, of size 3",
    ),
    "place": (lambda: wg.zeros((3, 4)).take(wg.tensor([12])), IndexError, "take: index 12"),
    "shape": (
        lambda: wg.zeros((3, 4)).scatter(1, wg.zeros((4, 2), "int64"), 5.0),
        ValueError,
        r"scatter: the index has shape \(4, 2\) .* none longer than x's but axis 1",
    ),
    "short": (
        lambda: wg.zeros((3, 4)).scatter_add(1, wg.zeros((3, 2), "int64"), wg.zeros((3, 1))),
        ValueError,
        r"scatter_add: src has shape \(3, 1\) .* none shorter than the index's",
    ),
    "floats": (
        lambda: wg.zeros((3,)).scatter(0, wg.zeros((3,)), 1.0),
        TypeError,
        "scatter: index has dtype float32; expected an integer",
    ),
    "dtype": (
        lambda: wg.zeros((3,)).scatter_add(0, wg.tensor([0]), wg.zeros((1,), "float64")),
        TypeError,
        "scatter_add: x is float32 and src is float64; convert src",
    ),
    "reduce": (
        lambda: wg.zeros((3,)).scatter_reduce(0, wg.tensor([0]), 1.0, "max"),
        ValueError,
        "scatter_reduce: reduce is 'max'; expected 'sum', 'prod', 'mean', 'amax' or 'amin'",
    ),
    "source": (
        lambda: wg.zeros((3, 4)).index_copy(1, wg.tensor([0, 1]), wg.zeros((1, 2))),
        ValueError,
        r"index_copy: source has shape \(1, 2\); expected \(3, 2\)",
    ),
    "mask": (
        lambda: wg.zeros((3,)).masked_fill(wg.tensor([0, 1, 1]), 1.0),
        TypeError,
        "masked_fill: the mask is int64; expected bool",
    ),
    "fraction": (
        lambda: wg.tensor([1, 2]).masked_fill(wg.tensor([True, False]), 0.5),
        TypeError,
        "masked_fill: x is int64 and value is float32",
    ),
    "few": (
        lambda: wg.zeros((3,)).masked_scatter(wg.tensor([True, True, False]), wg.zeros((1,))),
        ValueError,
        "masked_scatter: the mask is true 2 times and source has 1 elements",
    ),
    "grown": (
        lambda: wg.zeros((3,)).masked_fill_(wg.ones((2, 3), "bool"), 1.0),
        ValueError,
        r"masked_fill_ in place: the result has shape \(2, 3\)",
    ),
    "number of": (
        lambda: wg.zeros((3,)).put_(wg.tensor([0]), wg.zeros((2,))),
        ValueError,
        "put_: source has shape .* expected as many elements",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        call()


def test_an_error_changes_nothing() -> None:
    x = wg.zeros((100_000,))
    with pytest.raises(IndexError):
        x.scatter_add_(0, wg.tensor([*range(90_000), 100_000]), 1.0)
    assert not x.any().item()


def test_the_index_may_be_edited_after_its_use_but_not_before_backward() -> None:
    x, i = wg.zeros((3,)).requires_grad_(), wg.tensor([0, 1])
    y = x.gather(0, i)
    i.add_(1)
    with pytest.raises(RuntimeError, match="gather"):
        y.sum().backward()
