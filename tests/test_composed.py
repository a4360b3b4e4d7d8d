"""wengert.composed and wengert.linalg: values against NumPy or PyTorch, gradients to second order,
compiled; comparisons; what dtypes can do; what is refused."""

import itertools
import math
import re

import numpy as np
import pytest

import wengert as wg
from wengert.testing import assert_close, gradcheck

NAN, INF = math.nan, math.inf


def sizes(*shapes):
    return [s if isinstance(s[0], tuple) else (s,) for s in shapes]


NORMS = {
    f"norm {p}": (
        lambda x, p=p: wg.norm(x, p, -1),
        lambda x, p=p: np.linalg.norm(x, p, axis=-1),
        sizes((3,), (2, 4)),
    )
    for p in (0, 1, 2, 3, -1, -2.5, 0.5, INF, -INF)
}
MATRIX_NORMS = {
    f"matrix_norm {p}": (
        lambda x, p=p: wg.linalg.matrix_norm(x, p, (0, 1)),
        lambda x, p=p: np.linalg.norm(x, p, (0, 1)),
        sizes((3, 4), (2, 3, 2)),
    )
    for p in (1, -1, INF, -INF, "fro")
}
PLACES = wg.tensor([0.0, 0.5, 2.0, 2.5], "float64")
# name: (of tensors, of arrays, shapes of the inputs)
CASES = {
    **NORMS,
    **MATRIX_NORMS,
    "norm all": (wg.norm, lambda x: np.linalg.norm(x.ravel()), sizes((2, 3, 2), (4,))),
    "linalg.norm": (wg.linalg.norm, np.linalg.norm, sizes((2, 3, 2), (4,), (2, 3))),
    "linalg.norm of a matrix": (
        lambda x: wg.linalg.norm(x, -1, keepdims=True),
        lambda x: np.linalg.norm(x, -1, keepdims=True),
        sizes((2, 3)),
    ),
    "outer": (wg.outer, np.outer, sizes(((3,), (4,)), ((2, 3), (2,)))),
    "ger": (wg.ger, np.outer, sizes(((3,), (4,)))),
    "vecdot": (
        lambda a, b: wg.vecdot(a, b, axis=0),
        lambda a, b: (a * b).sum(0),
        sizes(((3,), (3,)), ((3, 1), (3, 2))),
    ),
    "cross": (wg.cross, np.cross, sizes(((3,), (3,)), ((2, 1, 3), (4, 3)))),
    "cross axis": (
        lambda a, b: a.cross(b, 0),
        lambda a, b: np.cross(a, b, axis=0),
        sizes(((3, 2), (3, 2))),
    ),
    "inner": (wg.inner, np.inner, sizes(((3,), (3,)), ((2, 3), (4, 5, 3)), ((), (3,)))),
    "tensordot": (wg.tensordot, np.tensordot, sizes(((2, 3, 4), (3, 4, 2)), ((2, 0), (2, 0)))),
    "tensordot 0": (
        lambda a, b: wg.tensordot(a, b, 0),
        lambda a, b: np.tensordot(a, b, 0),
        sizes(((2, 3), (2,)), ((), (2,))),
    ),
    "tensordot axes": (
        lambda a, b: wg.tensordot(a, b, ((2, 0), (1, 2))),
        lambda a, b: np.tensordot(a, b, ((2, 0), (1, 2))),
        sizes(((2, 3, 4), (5, 4, 2))),
    ),
    "dot": (wg.dot, np.dot, sizes(((3,), (3,)), ((0,), (0,)))),
    "vdot": (wg.vdot, np.dot, sizes(((3,), (3,)))),
    "mv": (wg.mv, np.matmul, sizes(((2, 3), (3,)))),
    "mm": (wg.mm, np.matmul, sizes(((2, 3), (3, 4)))),
    "bmm": (wg.bmm, np.matmul, sizes(((2, 3, 4), (2, 4, 1)))),
    "addmm": (
        lambda x, a, b: x.addmm(a, b, beta=0.5, alpha=2),
        lambda x, a, b: 0.5 * x + 2 * a @ b,
        sizes(((4,), (2, 3), (3, 4)), ((2, 1), (2, 3), (3, 4))),
    ),
    "addmv": (wg.addmv, lambda x, a, b: x + a @ b, sizes(((2,), (2, 3), (3,)))),
    "baddbmm": (wg.baddbmm, lambda x, a, b: x + a @ b, sizes(((2,), (1, 2, 3), (1, 3, 2)))),
    "kron": (wg.kron, np.kron, sizes(((2, 3), (3, 2)), ((3,), (2, 2)), ((), (2,)))),
    "multi_dot": (
        lambda a, b, c, d: wg.linalg.multi_dot([a, b, c, d]),
        lambda a, b, c, d: np.linalg.multi_dot([a, b, c, d]),
        sizes(((2, 5), (5, 3), (3, 4), (4, 1)), ((5,), (5, 3), (3, 4), (4,))),
    ),
    **{
        f"matrix_power {n}": (
            lambda x, n=n: wg.linalg.matrix_power(x, n) * 1.0,
            lambda x, n=n: np.linalg.matrix_power(x, n),
            sizes((3, 3), (2, 2, 2)),
        )
        for n in (1, 2, 3, 7)
    },
    "trace": (lambda x: x.trace(), np.trace, sizes((3, 4))),
    "trace of several": (
        lambda x: wg.linalg.trace(x, 1),
        lambda x: np.trace(x, 1, -2, -1),
        sizes((2, 3, 4)),
    ),
    "linalg.diagonal": (
        wg.linalg.diagonal,
        lambda x: np.diagonal(x, 0, -2, -1),
        sizes((2, 3, 4)),
    ),
    "cdist": (
        wg.cdist,
        lambda a, b: np.linalg.norm(a[..., :, None, :] - b[..., None, :, :], axis=-1),
        sizes(((3, 2), (4, 2)), ((2, 1, 3), (4, 3))),
    ),
    "pdist": (
        lambda x: wg.pdist(x, 1),
        lambda x: abs(x[:, None] - x[None]).sum(-1)[np.triu_indices(len(x), 1)],
        sizes((4, 3), (1, 2)),
    ),
    "lerp": (
        lambda a, b: wg.lerp(a, b, 0.25),
        lambda a, b: a + 0.25 * (b - a),
        sizes(((3,), (3,))),
    ),
    "lerp by tensors": (wg.lerp, lambda a, b, w: a + w * (b - a), sizes(((9,), (9,), (9,)))),
    "addcmul": (
        lambda x, a, b: x.addcmul(a, b, value=0.5),
        lambda x, a, b: x + 0.5 * a * b,
        sizes(((3,), (2, 1), (3,))),
    ),
    "addcdiv": (
        lambda x, a, b: x.addcdiv(a, b + 5, value=2),
        lambda x, a, b: x + 2 * a / (b + 5),
        sizes(((3,), (2, 1), (3,))),
    ),
    "deg2rad": (wg.deg2rad, np.deg2rad, sizes((5,))),
    "rad2deg": (wg.rad2deg, np.rad2deg, sizes((5,))),
    "clamp_min": (lambda x: x.clamp_min(0.5), lambda x: np.maximum(x, 0.5), sizes((9,))),
    "clamp_max": (wg.clamp_max, np.minimum, sizes(((9,), (9,)))),
    "float_power": (
        lambda x: wg.float_power(x * x + 1, 1.5),
        lambda x: (x * x + 1) ** 1.5,
        sizes((5,)),
    ),
    "frac": (wg.frac, lambda x: x - np.trunc(x), sizes((9,))),
    "heaviside": (lambda x: wg.heaviside(x, x) * x, lambda x: (x > 0) * x, sizes((9,))),
    "sinc": (wg.sinc, np.sinc, sizes((9,))),
    "logit": (
        lambda x: wg.logit(x / 8 + 0.5),
        lambda x: np.log((x / 8 + 0.5) / (0.5 - x / 8)),
        sizes((9,)),
    ),
    "logit eps": (
        lambda x: x.logit(eps=0.2),
        lambda x: np.log(np.clip(x, 0.2, 0.8) / (1 - np.clip(x, 0.2, 0.8))),
        sizes((9,)),
    ),
    "nansum": (lambda x: wg.nansum(x, 0), lambda x: np.nansum(x, 0), sizes((3,), (3, 2))),
    "nanmean": (lambda x: x.nanmean(-1), lambda x: np.nanmean(x, -1), sizes((3,), (3, 2))),
    "var_mean": (lambda x: sum(wg.var_mean(x)), lambda x: x.var() + x.mean(), sizes((3, 2))),
    "std_mean": (
        lambda x: sum(wg.std_mean(x, 0, correction=1)),
        lambda x: x.std(0, ddof=1) + x.mean(0),
        sizes((3, 2)),
    ),
    "aminmax": (lambda x: sum(x.aminmax(1)), lambda x: x.min(1) + x.max(1), sizes((3, 4))),
    "cov": (wg.cov, np.cov, sizes((3, 5), (4,), (1, 3))),
    "corrcoef": (wg.corrcoef, np.corrcoef, sizes((3, 5))),
    "gradient": (lambda x: wg.gradient(x, axis=0)[0], lambda x: np.gradient(x, axis=0),
                 sizes((2, 3), (5,))),
    "gradient of all": (lambda x: sum(wg.gradient(x, [2.0, 0.5])),
                        lambda x: sum(np.gradient(x, 2.0, 0.5)), sizes((4, 3))),
    "gradient, edges": (lambda x: wg.gradient(x, edge_order=2)[-1],
                        lambda x: np.gradient(x, edge_order=2, axis=-1), sizes((3, 4))),
    "gradient, places": (lambda x: wg.gradient(x, [PLACES.to(x.dtype)], -1, 2)[0],
                         lambda x: np.gradient(x, PLACES.numpy(), axis=-1, edge_order=2),
                         sizes((2, 4))),
    "renorm": (lambda x: wg.renorm(x, 2, 0, 1.5),
               lambda x: x * np.minimum(1, 1.5 / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-7)),
               sizes((3, 4))),
    "combinations": (lambda x: wg.combinations(x, 3),
                     lambda x: np.array(list(itertools.combinations(x, 3))), sizes((4,))),
}  # fmt: skip
ALL = [(name, shapes) for name, (_, _, all_shapes) in CASES.items() for shapes in all_shapes]


def draw(shapes, seed=0):
    random = np.random.default_rng(seed)
    return [np.asarray(random.uniform(-3, 3, shape)) for shape in shapes]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("name", "shapes"), ALL)
@pytest.mark.smoke
def test_value(name, shapes, dtype):
    call, reference, _ = CASES[name]
    given = [wg.tensor(a, dtype) for a in draw(shapes)]
    y = call(*given)
    expected = reference(*(x.double().numpy() for x in given))
    assert y.dtype.name == ("float64" if name == "float_power" else dtype)
    assert y.shape == np.shape(expected)
    rtol = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 0.06}[dtype]
    np.testing.assert_allclose(
        y.double().numpy(), expected, rtol, rtol * (1 + abs(expected).max(initial=0))
    )


@pytest.mark.parametrize(("name", "shapes"), [c for c in ALL if c[0] != "norm 0"])
def test_gradients_and_compiled(name, shapes):
    call = CASES[name][0]
    given = [wg.tensor(a) for a in draw(shapes)]
    assert gradcheck(lambda *x: call(*x) * 0.7, given, order=2, rtol=1e-5, atol=1e-6)
    step = wg.value_and_grad(lambda x: (call(x, *given[1:]) ** 2).sum())
    compiled = wg.compile(step)
    for x in (given[0], given[0] * 0.9):
        for got, expected in zip(compiled(x), step(x), strict=True):
            np.testing.assert_array_equal(got.numpy(), expected.numpy())
    assert compiled.traces == 1


@pytest.mark.parametrize("p", [1, 2, 3, 0.5, -1, INF])
def test_gradient_of_a_norm_of_zeros_is_zero(p):
    x = wg.zeros((2, 3), requires_grad=True)
    y = wg.norm(x, p, 1)
    y.sum().backward()
    assert y.tolist() == [0.0, 0.0]
    assert x.grad.isfinite().all()
    if p not in (INF, -1):
        assert x.grad.tolist() == [[0.0] * 3] * 2
    x = wg.tensor([0.0, 3.0, 4.0], "float64", requires_grad=True)
    y = wg.linalg.vector_norm(x, 2)
    (g,) = wg.autograd.grad(y, [x], create_graph=True)
    (h,) = wg.autograd.grad(g.sum(), [x])
    np.testing.assert_allclose(g.tolist(), [0.0, 0.6, 0.8])
    np.testing.assert_allclose(h.tolist(), [0.2, 0.2 - 0.6 * 1.4 / 5, 0.2 - 0.8 * 1.4 / 5])


def test_distance_from_itself_has_gradient_zero():
    x = wg.ones((2, 3), requires_grad=True)
    (wg.cdist(x, x).sum() + wg.pdist(x).sum()).backward()
    assert x.grad.tolist() == [[0.0] * 3] * 2


def test_sinc_is_smooth_at_zero():
    at = np.array([0.0, 1e-9, 9.5e-3, 9.6e-3, -1e-2, 1.0, 2.5])
    x = wg.tensor(at, requires_grad=True)
    y = wg.sinc(x)
    np.testing.assert_allclose(y.detach().numpy(), np.sinc(at), rtol=1e-14, atol=1e-16)
    (g,) = wg.autograd.grad(y.sum(), [x], create_graph=True)
    (h,) = wg.autograd.grad(g.sum(), [x])
    np.testing.assert_allclose(h.numpy()[:2], -(math.pi**2) / 3, rtol=1e-12)
    np.testing.assert_allclose(h.numpy()[2:4], -(math.pi**2) / 3, rtol=1e-3)


def test_nan():
    x = wg.tensor([[1.0, NAN], [NAN, NAN]], requires_grad=True)
    assert wg.nansum(x, 1).tolist() == [1.0, 0.0]
    y = x.nanmean(1)
    assert y[0].item() == 1.0 and math.isnan(y[1].item())
    wg.nansum(x).backward()
    assert x.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert wg.count_nonzero(x).item() == 4  # NaN is not 0
    assert wg.nansum(wg.tensor([1, 2])).dtype == wg.int64
    y = wg.heaviside(wg.tensor([NAN, 0.0, -1.0, 2.0]), wg.tensor(0.5)).tolist()
    assert math.isnan(y[0]) and y[1:] == [0.5, 0.0, 1.0]
    none = wg.full((2,), NAN)
    assert none.addmm(wg.ones((2, 2)), wg.ones((2, 2)), beta=0).tolist() == [[2.0] * 2] * 2


def test_weights_of_observations():
    a = draw([(2, 4)])[0]
    f, w = np.array([1, 2, 0, 3]), np.array([0.5, 1.0, 2.0, 0.25])
    for correction in (0, 1):
        for given in ({"fweights": f}, {"aweights": w}, {"fweights": f, "aweights": w}):
            ours = {k: wg.tensor(v) for k, v in given.items()}
            found = wg.cov(wg.tensor(a), correction, **ours)
            assert_close(found, np.cov(a, ddof=correction, **given))
    x, v = wg.tensor(a), wg.tensor(w)
    assert gradcheck(lambda x, v: wg.cov(x, 1, wg.tensor(f), v), [x, v], order=2, rtol=1e-5)


def test_logspace_and_indices():
    y = wg.logspace(-2, 2, 5, dtype="float64")
    assert_close(y, np.logspace(-2, 2, 5), 1e-15)
    assert wg.logspace(0, 3, 4, base=2).tolist() == [1.0, 2.0, 4.0, 8.0]
    at = np.array([[0, 7], [23, 11]])
    for a, b in zip(
        wg.unravel_index(wg.tensor(at), (2, 3, 4)), np.unravel_index(at, (2, 3, 4)), strict=True
    ):
        assert (a.numpy() == b).all()
    pairs = wg.combinations(wg.tensor([1, 2, 3]), with_replacement=True)
    assert pairs.tolist() == [[1, 1], [1, 2], [1, 3], [2, 2], [2, 3], [3, 3]]
    assert wg.combinations(wg.ones(1)).shape == (0, 2)


def test_whole_numbers():
    a = wg.tensor([[1, 2], [3, 4]])
    assert wg.kron(a, a).tolist() == np.kron(a.numpy(), a.numpy()).tolist()
    assert wg.tensordot(a, a).item() == 30
    assert wg.bitwise_not(a).tolist() == [[-2, -3], [-4, -5]]
    assert (a > 1).bitwise_not().tolist() == [[True, False], [False, False]]
    assert a.trace().item() == 5
    assert wg.linalg.matrix_power(a, 0).tolist() == [[1, 0], [0, 1]]
    assert wg.norm(a).dtype == wg.float32
    assert_close(wg.norm(a), wg.tensor(math.sqrt(30)))
    assert wg.count_nonzero(wg.tensor([[0, 1], [2, 3]]), axis=1).tolist() == [1, 2]
    assert wg.deg2rad(wg.tensor(180)).item() == pytest.approx(math.pi)
    pair = a.aminmax()
    assert (pair.min.item(), pair.max.item()) == (1, 4)


def test_close_and_equal():
    a = wg.tensor([1.0, INF, -INF, NAN, 100.0, INF])
    b = wg.tensor([1.0 + 1e-6, INF, INF, NAN, 101.0, 1.0])
    assert wg.isclose(a, b).tolist() == [True, True, False, False, False, False]
    assert a.isclose(b, equal_nan=True).tolist()[3] is True
    assert a.isclose(b, rtol=0.1).tolist() == [True, True, False, False, True, False]
    assert np.isclose(a.numpy(), b.numpy(), rtol=0.1).tolist() == a.isclose(b, rtol=0.1).tolist()
    assert wg.allclose(a[:2], b[:2]) is True
    assert a.allclose(b) is False
    large = wg.tensor([2**62, 5])
    assert wg.isclose(large, large + wg.tensor([0, 1])).tolist() == [True, False]
    assert wg.isclose(wg.tensor([True, False]), wg.tensor([True, True])).tolist() == [True, False]
    assert wg.array_equal(large, large)
    assert not wg.array_equal(large, large[:1])  # they would broadcast
    assert not wg.array_equal(a, a)


def test_dtypes():
    for name in ("float32", "float64"):
        ours, theirs = wg.finfo(name), np.finfo(name)
        for field in ("bits", "eps", "max", "min", "smallest_normal", "smallest_subnormal", "tiny"):
            assert getattr(ours, field) == getattr(theirs, field)
    assert wg.finfo(wg.bfloat16).eps == 2.0**-7
    assert wg.tensor(wg.finfo(wg.bfloat16).max, "bfloat16").isfinite()
    for name in ("int32", "int64", "uint8"):
        ours, theirs = wg.iinfo(name), np.iinfo(name)
        assert (ours.bits, ours.min, ours.max) == (theirs.bits, theirs.min, theirs.max)
    assert wg.result_type(wg.ones(1), wg.float64) == wg.float64
    assert wg.result_type(wg.int32, 2) == wg.int32
    assert wg.result_type("int32", 2.5) == wg.float32
    assert wg.result_type(True, 2) == wg.int64
    assert wg.can_cast("int32", wg.int64)
    assert not wg.can_cast(wg.float64, "float32")
    assert wg.isdtype(wg.uint8, "unsigned integer")
    assert wg.isdtype("int64", ("bool", "signed integer"))
    assert wg.isdtype("int64", wg.int64) and wg.isdtype("int64", "int64")
    assert not wg.isdtype("bool", "numeric")
    assert wg.isdtype("bfloat16", "real floating")
    assert (wg.pi, wg.e, wg.inf, wg.newaxis) == (math.pi, math.e, INF, None)
    assert math.isnan(wg.nan)


X = wg.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: wg.mm(X, X), wg.ShapeError, "mm: a has shape (2, 3) and b (2, 3); a's last"),
        (lambda: wg.mm(X, X[0]), wg.ShapeError, "mm: b has shape (3,); expected a matrix"),
        (lambda: wg.dot(X[0], X[0, :1]), wg.ShapeError, "dot: a has shape (3,) and b (1,)"),
        (
            lambda: wg.bmm(wg.ones((2, 1, 1)), wg.ones((1, 1, 1))),
            wg.ShapeError,
            "bmm: a has shape (2, 1, 1) and b (1, 1, 1); expected as many matrices",
        ),
        (lambda: wg.cross(X, X.mT), wg.ShapeError, "cross: b has shape (3, 2); axis -1 must have"),
        (lambda: wg.cross(X, X, 2), IndexError, "cross: axis 2 is out of range"),
        (lambda: wg.tensordot(X, X.mT), wg.ShapeError, "axes [0, 1] of a, shape (2, 3)"),
        (lambda: wg.tensordot(X, X, 3), ValueError, "tensordot: axes is 3, a has shape (2, 3)"),
        (lambda: wg.tensordot(X, X, ((0,), (1,))), wg.ShapeError, "axes [0] of a, shape (2, 3)"),
        (lambda: wg.linalg.multi_dot([X, X]), wg.ShapeError, "multi_dot: got shapes [(2, 3), (2"),
        (lambda: wg.linalg.matrix_power(X, 2), wg.ShapeError, "matrix_power: x has shape (2, 3)"),
        (lambda: wg.linalg.norm(X, 3), ValueError, 'matrix_norm: ord is 3; expected "fro", "nuc"'),
        (lambda: wg.linalg.norm(wg.zeros((1, 1, 1)), 1), wg.ShapeError, "norm: x has shape (1, 1"),
        (lambda: wg.linalg.matrix_norm(X, 1, (0,)), ValueError, "expected two axes"),
        (lambda: wg.linalg.vector_norm(X, "fro"), TypeError, "vector_norm: ord is 'fro' (str)"),
        (lambda: wg.cdist(X, X.mT), wg.ShapeError, "cdist: a has shape (2, 3) and b (3, 2)"),
        (lambda: wg.pdist(X[0]), wg.ShapeError, "pdist: x has shape (3,); expected (n, d)"),
        (lambda: wg.finfo("int32"), wg.DTypeError, "iinfo is of integers"),
        (lambda: wg.iinfo("bool"), wg.DTypeError, "finfo is of floats"),
        (lambda: wg.isdtype("int32", "whole"), ValueError, "isdtype: kind is"),
        (lambda: wg.cov(wg.zeros((1, 1, 1))), wg.ShapeError, "cov: x has shape (1, 1, 1)"),
        (lambda: wg.cov(X, 1, wg.ones(3)), wg.DTypeError, "cov: fweights is float32; it counts"),
        (lambda: wg.cov(X, 1, wg.ones(2)), wg.ShapeError, "cov: fweights has shape (2,) for 3"),
        (lambda: wg.cov(X, 1, None, -wg.ones(3)), ValueError, "aweights has a number below 0"),
        (lambda: wg.renorm(wg.ones(2), 2, 0, 1.0), wg.ShapeError, "renorm: x has shape (2,)"),
        (lambda: wg.renorm(X, 2, 2, 1.0), IndexError, "renorm: axis 2"),
        (lambda: wg.gradient(X, edge_order=3), ValueError, "gradient: edge_order is 3"),
        (lambda: wg.gradient(X, [1.0]), ValueError, "gradient: 1 spacings for 2 axes"),
        (lambda: wg.gradient(wg.ones(1)), wg.ShapeError, "has 1 elements; expected 2 or more"),
        (lambda: wg.gradient(X, [wg.ones(3)] * 2), wg.ShapeError, "its places (3,)"),
        (lambda: wg.combinations(X), wg.ShapeError, "combinations: x has shape (2, 3) and r is 2"),
        (lambda: wg.unravel_index(wg.tensor([6]), (2, 3)), IndexError, "out of range for shape (2"),
        (lambda: wg.linalg.eig(X), AttributeError, "numpy's, of x.detach().numpy()"),
        (lambda: wg.slogdet(X), AttributeError, "write wengert.linalg.slogdet"),
        (lambda: wg.mm(X, 3), TypeError, "mm: b is 3 (int); expected a Tensor"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()
