"""Every op, from the table in rows.py: values, gradients, strides, broadcasting, zero sizes,
dtypes, kinks, extremes, bad input."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import ELSEWHERE, ROWS, Row, Shapes, covered, log_softmax, logsumexp, sigmoid, softmax

import wengert as wg
from wengert.testing import assert_close, gradcheck

NAN, INF = math.nan, math.inf
FLOATS = ("float32", "float64")
DTYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")
CASES = [(row, shapes) for row in ROWS for shapes in row.shapes]
GRADIENT_CASES = [(row, shapes) for row, shapes in CASES if row.gradient]


def name(value: Any) -> str:
    return value.name if isinstance(value, Row) else str(value).replace(" ", "")


def tensors(row: Row, arrays: list[Any], dtype: str) -> list[wg.Tensor]:
    return [
        wg.tensor(a, dtype if draw.kind == "f" else None)
        for draw, a in zip(row.inputs, arrays, strict=True)
    ]


def quiet(f: Any, *arguments: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return f(*arguments)


def assert_within(actual: np.ndarray, reference: Any, row: Row) -> None:
    """|actual - reference| <= ulps * eps * max(|reference|, near), infinities and NaN equal."""
    expected = np.asarray(quiet(np.asarray(reference).astype, actual.dtype))
    assert actual.shape == expected.shape
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected)
        return
    limits = np.finfo(actual.dtype)
    wide, ideal = actual.astype(float), np.asarray(reference, float)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    scale = np.maximum(abs(ideal), row.near)
    # Below the normal numbers digits get lost on the way (silu(-100) = -100 * sigmoid(-100)).
    allowed = row.ulps * np.maximum(limits.eps * scale, 32 * float(limits.smallest_subnormal))
    with np.errstate(invalid="ignore"):
        bad = ~(same | (abs(wide - ideal) <= allowed))
    if bad.any():
        at = tuple(np.argwhere(bad)[0])
        raise AssertionError(
            f"{row.name}: {bad.sum()} of {bad.size} values differ; first at {at}: {actual[at]!r}, "
            f"expected {ideal[at]!r}, {abs(wide[at] - ideal[at]) / allowed[at]:.3g} times allowed"
        )


# ---- the table is complete -----------------------------------------------------------------------


@pytest.mark.smoke
def test_every_op_has_a_row() -> None:
    ops = {op["name"] for op in wg._core.ops()}
    assert ops - covered() == set(), "add a row for these in tests/rows.py"
    known = ops | {"var", "std"}  # several lines each
    assert covered() - known == set(), "rows for ops that do not exist"


@pytest.mark.parametrize("op", wg._core.ops(), ids=lambda op: op["name"])
@pytest.mark.smoke
def test_op_describes_itself(op: dict[str, str]) -> None:
    assert op["formula"]
    assert bool(op["gradients"]) != bool(op["no_gradient"]), "a formula, or the reason why not"


def test_names_of_ops_are_unique() -> None:
    names = [op["name"] for op in wg._core.ops()]
    assert len(names) == len(set(names))


def test_ops_without_a_row_are_tested_elsewhere() -> None:
    for op, (file, word) in ELSEWHERE.items():
        assert word in (Path(__file__).parent / file).read_text(), op


@pytest.mark.parametrize("row", ROWS, ids=name)
@pytest.mark.smoke
def test_row_exercises_its_op(row: Row) -> None:
    given = tensors(row, row.draw(row.shapes[-1]), "float32")
    y = row.call(*(x.requires_grad_(x.dtype == wg.float32) for x in given))
    if row.made_by is not None:
        assert y.made_by == (row.made_by or row.op)


FUSED = [r for r in ROWS if r.made_by is not None and f"{r.op}_vjp" in r.covers]


@pytest.mark.parametrize("row", FUSED, ids=name)
def test_first_gradient_is_one_fused_line(row: Row) -> None:
    x, *others = tensors(row, row.draw(row.shapes[0]), "float64")
    (g,) = wg.grad(
        row.call(x.requires_grad_(), *others), [x], wg.ones(row.call(x, *others).shape, "float64")
    )
    assert g.made_by in (f"{row.op}_vjp", "slice")  # of gru a part


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("row", "shapes"), CASES, ids=name)
@pytest.mark.smoke
def test_value(row: Row, shapes: Shapes, dtype: str) -> None:
    for seed in range(3):
        given = tensors(row, row.draw(shapes, seed), dtype)
        y = row.call(*given)
        # The reference sees what the op sees: the inputs rounded to dtype.
        wide = [x.numpy().astype(float) if x.dtype.is_floating_point else x.numpy() for x in given]
        assert y.dtype.name == (row.result or dtype)
        assert_within(y.numpy(), quiet(row.reference, *wide), row)


SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-40, 1e-30, -1e-30, 1e-4, 88.0, -88.0, -100.0, 1e4, -1e4, 1e30,
           -1e30, 3.4e38, -3.4e38, INF, -INF, NAN]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "row",
    [
        r
        for r in ROWS
        if r.elementwise and all(d.kind == "f" for d in r.inputs) and r.op != "nextafter"
    ],
    ids=name,
)
def test_extremes(row: Row, dtype: str) -> None:
    """Infinities, NaN, subnormals and the limits of float32 give what the reference gives."""
    values = np.array(SPECIAL, dtype)
    if len(row.inputs) == 1:
        given = [values]
    else:
        given = [np.repeat(values, len(values)), np.tile(values, len(values))]
    if row.op in ("sin", "cos", "tan"):  # of huge arguments: bounded is all that is promised here
        given = [np.array([v for v in SPECIAL if not 1e5 < abs(v) < INF], dtype)]
    if row.op in ("floor_divide", "remainder"):  # a / b is rounded before the floor
        given = [np.array([5, -5, INF, -INF, NAN, 5, 5, -5, 5, 0, -0.0, 1e4], dtype),
                 np.array([INF, INF, 2, 2, 2, NAN, -INF, -INF, 0, 0, 3, 7], dtype)]  # fmt: skip
    y = row.call(*(wg.tensor(g) for g in given)).numpy()
    assert_within(y, quiet(row.reference, *(g.astype(float) for g in given)), row)


@pytest.mark.parametrize("row", [r for r in ROWS if r.elementwise and r.gradient], ids=name)
@pytest.mark.smoke
def test_nan_propagates(row: Row) -> None:
    for place, draw in enumerate(row.inputs):
        if draw.kind != "f" or (row.op, place) == ("copysign", 1):  # NaN has a sign too
            continue
        given = row.draw(tuple((20,) for _ in row.inputs))
        given[place][7] = NAN
        if row.op == "where":
            given[0][7] = place == 1
        y = row.call(*tensors(row, given, "float32")).numpy()
        assert np.isnan(y[7])
        assert not np.isnan(np.delete(y, 7)).any()


@pytest.mark.parametrize("op", ["sum", "mean", "prod", "max", "min", "var", "std", "logsumexp"])
@pytest.mark.parametrize("at", [0, 3, 40, 99])
def test_nan_propagates_through_reductions(op: str, at: int) -> None:
    x = np.ones((100, 3), "float32")
    x[at, 1] = NAN
    f = getattr(wg, op)
    assert math.isnan(f(wg.tensor(x)).item())
    assert math.isnan(f(wg.tensor(x.T.copy())).item())
    assert np.isnan(f(wg.tensor(x), axis=0).numpy()).tolist() == [False, True, False]
    assert np.isnan(f(wg.tensor(x.T.copy()), axis=1).numpy()).tolist() == [False, True, False]


def test_argmax_and_argmin_take_the_first_nan_and_the_first_of_equals() -> None:
    for values in ([1.0, NAN, 5.0, NAN], [2.0, 7.0, 7.0, -1.0, -1.0], [INF, INF], [-INF, -INF]):
        x = np.array(values * 20, "float32")
        assert wg.argmax(wg.tensor(x)).item() == np.argmax(x)
        assert wg.argmin(wg.tensor(x)).item() == np.argmin(x)


def test_classification_of_numbers() -> None:
    x = np.array(SPECIAL, "float32")
    for op in ("isnan", "isinf", "isfinite"):
        assert getattr(wg, op)(wg.tensor(x)).tolist() == getattr(np, op)(x).tolist()
        assert getattr(wg.tensor([1, 2]), op)().tolist() == getattr(np, op)([1, 2]).tolist()


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "shapes"), GRADIENT_CASES, ids=name)
@pytest.mark.smoke
def test_gradients(row: Row, shapes: Shapes) -> None:
    """First and second, against differences, with respect to every input."""
    gradcheck(row.call, tensors(row, row.draw(shapes), "float64"), order=2, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize(("row", "shapes"), GRADIENT_CASES, ids=name)
def test_fused_gradient_is_the_formula(row: Row, shapes: Shapes) -> None:
    """The gradient of a step (fused) equals the differentiable one, also in float32."""
    for dtype, rtol in (("float32", 2e-5), ("float64", 1e-12)):
        given = tensors(row, row.draw(shapes), dtype)
        leaves = [x.requires_grad_() for x in given if x.dtype.is_floating_point]
        plain = wg.grad(row.call(*given).square().sum(), leaves)
        again = wg.grad(row.call(*given).square().sum(), leaves, create_graph=True)
        for x, a, b in zip(leaves, plain, again, strict=True):
            assert a.shape == b.shape == x.shape
            assert a.dtype == b.dtype == x.dtype
            assert_close(a, b, rtol, rtol)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("row", "kink"), [(row, kink) for row in ROWS for kink in row.kinks], ids=name
)
def test_subgradient_at_kinks(row: Row, kink: Any, dtype: str) -> None:
    points, expected = kink
    for create_graph in (False, True):  # fused, and in lines
        given = [wg.full((37,), p, dtype).requires_grad_() for p in points]
        gradients = wg.grad(row.call(*given).sum(), given, create_graph=create_graph)
        for g, e in zip(gradients, expected, strict=True):
            assert_close(g, np.full(37, e, dtype), equal_nan=True)


@pytest.mark.parametrize("op", ["max", "min"])
def test_ties_share_the_gradient(op: str) -> None:
    sign = 1 if op == "max" else -1
    x = wg.tensor(sign * np.array([[1.0, 3, 3], [2, 2, 2]]), requires_grad=True)
    (g,) = wg.grad(getattr(x, op)(1).sum(), [x])
    assert_close(g, np.array([[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]]))
    (g,) = wg.grad(getattr(x, op)(), [x])
    assert_close(g, np.array([[0, 0.5, 0.5], [0, 0, 0]]))


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([2.0, 3.0, 4.0], [12, 8, 6]),
        ([2.0, 0.0, 4.0], [0, 8, 0]),
        ([0.0, 0.0, 4.0], [0, 0, 0]),
    ],
)
def test_gradient_of_prod_with_zeros(x: list, expected: list, create_graph: bool) -> None:
    t = wg.tensor(x, "float64", requires_grad=True)
    (g,) = wg.grad(t.prod(), [t], create_graph=create_graph)
    assert g.tolist() == expected


def test_prod_with_zeros_has_second_gradients() -> None:
    gradcheck(
        lambda x: x.prod(0), [wg.tensor([[0.0, 2, 1], [3, 0, 2], [0, 5, 4]], "float64")], order=2
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "x",
    [[1e25, 1e25], [1e-30, 1e-30, 2.0], [INF, 2.0], [INF, 0.0], [0.0, INF, 0.0], [-3.0],
     [1e20, 1e20, 1e-30, 1e-10, 3.0], [5.0] * 17],
)  # fmt: skip
def test_gradient_of_prod_is_the_product_of_the_others(x: list[float], dtype: str) -> None:
    expected = [
        quiet(np.prod, np.array(x[:i] + x[i + 1 :], dtype).astype(float)) for i in range(len(x))
    ]
    for create_graph in (False, True):
        t = wg.tensor(x, dtype, requires_grad=True)
        (g,) = wg.grad(t.prod(), [t], create_graph=create_graph)
        assert_close(g, quiet(np.asarray, expected, dtype), 1e-6, equal_nan=True)
    t = wg.tensor([x, x[::-1]], dtype, requires_grad=True)
    (g,) = wg.grad(t.prod(1).sum(), [t])
    assert_close(g, quiet(np.asarray, [expected, expected[::-1]], dtype), 1e-6, equal_nan=True)


@pytest.mark.parametrize("dtype", [*FLOATS, "bfloat16"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((7, 5), 0), ((7, 5), 1), ((3, 4, 5), 1), ((3, 4, 5), (0, 2)), ((3, 4, 5), (0, 1)),
     ((9, 40), 0), ((2, 1, 3), 1), ((300_001,), 0), ((0, 3), 1), ((3, 0), 1), ((), ())],
)  # fmt: skip
def test_gradient_of_prod_has_the_same_bits_recorded_or_not(
    shape: tuple, axis: Any, dtype: str
) -> None:
    values = wg.tensor(np.random.default_rng(4).uniform(-1.5, 1.5, shape), dtype)
    axes = range(values.ndim)[::-1]
    for t in (values.clone(), values.permute(*axes).clone().permute(*axes)):
        t.requires_grad_()
        y = t.prod(axis)
        slope = wg.ones(y.shape, dtype) * 3
        (g,) = wg.grad(y, [t], slope, retain_graph=True)
        (recorded,) = wg.grad(y, [t], slope, create_graph=True)
        assert g.double().numpy().tobytes() == recorded.detach().double().numpy().tobytes()


@pytest.mark.parametrize("create_graph", [False, True])
def test_std_of_equal_values_has_the_gradient_zero(create_graph: bool) -> None:
    def slope(x: list, **how: Any) -> list:
        t = wg.tensor(x, "float64", requires_grad=True)
        return wg.grad(t.std(**how).sum(), [t], create_graph=create_graph)[0].tolist()

    x = wg.ones((4,)).requires_grad_()
    assert wg.grad(x.var(), [x])[0].tolist() == [0, 0, 0, 0]
    assert slope([1.0] * 4) == [0] * 4
    assert slope([2.0]) == [0]
    assert slope([[1.0, 2.0], [1.0, 5.0]], axis=0) == [[0, -0.5], [0, 0.5]]
    # One element, less one, says nothing of how far elements are from their mean.
    assert math.isnan(wg.tensor([2.0]).std(correction=1).item())
    assert math.isnan(slope([2.0], correction=1)[0])


# ---- zero gradients and infinite slopes ----------------------------------------------------------

# A function, and an x at which its value or slope is no finite number.
SINGULAR: list[tuple[str, Callable[[wg.Tensor], wg.Tensor], float]] = [
    ("sqrt of a negative", wg.sqrt, -4.0),
    ("sqrt at 0", wg.sqrt, 0.0),
    ("rsqrt at 0", wg.rsqrt, 0.0),
    ("log at 0", wg.log, 0.0),
    ("log of a negative", wg.log, -1.0),
    ("log1p at -1", wg.log1p, -1.0),
    ("exp", wg.exp, 1e4),
    ("expm1", wg.expm1, 1e4),
    ("1 / x", lambda x: 1 / x, 0.0),
    ("x / x", lambda x: x / x, 0.0),
    ("sin(x) / x", lambda x: wg.sin(x) / x, 0.0),
    ("x * log(x)", lambda x: x * wg.log(x), 0.0),
    ("x ** 0.5", lambda x: x**0.5, 0.0),
    ("x ** -1", lambda x: x**-1.0, 0.0),
    ("x ** x", lambda x: x**x, -0.5),
    ("square", wg.square, INF),
    ("sin", wg.sin, INF),
    ("log(sqrt(x))", lambda x: wg.log(wg.sqrt(x)), 0.0),
    ("abs", wg.abs, NAN),
    ("tanh", wg.tanh, NAN),
    ("sigmoid", wg.sigmoid, NAN),
    ("gelu", wg.gelu, NAN),
    ("gelu_tanh", lambda x: wg.gelu(x, "tanh"), NAN),
    ("silu", wg.silu, NAN),
    ("mish", wg.mish, NAN),
    ("asin", wg.asin, 2.0),
    ("acosh at 1", lambda x: wg.acosh(x + 1.0), 0.0),
    ("atanh at 1", wg.atanh, 1.0),
    ("log2", wg.log2, 0.0),
    ("exp2", wg.exp2, 1e4),
    ("reciprocal", wg.reciprocal, 0.0),
    ("cosh", wg.cosh, 1e4),
    ("xlogy", lambda x: wg.xlogy(x, x), 0.0),
    ("logaddexp", lambda x: wg.logaddexp(x, x * 2), -INF),
    ("hypot", lambda x: wg.hypot(x, x * 2), NAN),
    ("atan2", lambda x: wg.atan2(x, x), 0.0),
    ("fmod", lambda x: wg.fmod(2.0 * x, x), 0.0),
    ("nan_to_num", lambda x: x.reciprocal().nan_to_num(), 0.0),
    ("softplus", wg.softplus, NAN),
    ("elu", wg.elu, NAN),
    ("erf", wg.erf, NAN),
    ("x % 2", lambda x: 2.0 % x, 0.0),
    ("std", lambda x: wg.stack([x, x], 0).std(0), 3.0),
    ("max", lambda x: wg.stack([x, x * 2], 0).max(0), NAN),
    ("prod", lambda x: wg.stack([x, x], 0).prod(0), INF),
    ("softmax", lambda x: wg.stack([x, x], 0).softmax(0)[0], -INF),
    ("log_softmax", lambda x: wg.stack([x, x], 0).log_softmax(0)[0], -INF),
    ("logsumexp", lambda x: wg.stack([x, x], 0).logsumexp(0), NAN),
    ("bce", lambda x: wg.binary_cross_entropy_with_logits(x, x * 0 + 0.5, reduction="none"), NAN),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("f", "at"), [c[1:] for c in SINGULAR], ids=[c[0] for c in SINGULAR])
def test_branch_not_taken_adds_nothing(f: Any, at: float, dtype: str) -> None:
    """Nor to the second gradient. Eager, with a graph, and compiled."""
    x = wg.tensor(np.array([at, 0.75], dtype), requires_grad=True)
    taken = wg.tensor([False, True])
    expected = wg.grad(f(x)[1], [x])[0][1].item()
    third = wg.tensor([3.0, 3.0], dtype)

    def slope(x: wg.Tensor, create_graph: bool = False) -> wg.Tensor:
        y = wg.where(taken, f(x), 3 * third)
        return wg.grad((y * third).sum(), [x], create_graph=create_graph)[0]

    for g in (slope(x), slope(x, create_graph=True)):
        assert g[0].item() == 0
        assert g[1].item() == pytest.approx(3 * expected, rel=1e-5)
    g = slope(x, create_graph=True)
    assert wg.grad((g * g + x).sum(), [x])[0][0].item() == 1
    step = wg.compile(lambda: slope(x))
    for _ in range(2):
        assert step().tolist() == slope(x).tolist()


def test_powers_at_zero_have_second_gradients() -> None:
    x = wg.tensor([0.0, 2.0], "float64", requires_grad=True)
    for k, expected in ((0, [0, 0]), (1, [0, 0]), (2, [2, 2]), (3, [0, 12]), (4, [0, 48])):
        (g,) = wg.grad((x**k).sum(), [x], create_graph=True)
        assert wg.grad(g.sum(), [x])[0].tolist() == expected
    a, b = (wg.tensor(v, "float64", requires_grad=True) for v in (0.0, 2.0))
    da, db = wg.grad(a**b, [a, b], create_graph=True)
    assert (da.item(), db.item()) == (0, 0)
    hessian = [wg.grad(g, [a, b], retain_graph=True, create_graph=True) for g in (da, db)]
    assert [[h.item() for h in row] for row in hessian] == [[2, 0], [0, 0]]


@pytest.mark.parametrize(
    "f",
    [
        wg.relu, wg.abs, wg.leaky_relu, lambda x: x.clamp(-1, 1), lambda x: wg.maximum(x, 0.5),
        lambda x: wg.minimum(2 * x, x + 1), lambda x: x.max(0), lambda x: x.min(0, keepdims=True),
        lambda x: (x.relu() @ wg.ones((4, 4), "float64")).relu(),
        lambda x: wg.maximum(x[:, :1], x),
    ],
)  # fmt: skip
def test_second_gradient_of_piecewise_linear_functions_is_zero(f: Any) -> None:
    x = wg.tensor(np.random.default_rng(0).normal(size=(3, 4)), requires_grad=True)
    (g,) = wg.grad(f(x).sum(), [x], create_graph=True)
    assert_close(g, wg.grad(f(x).sum(), [x])[0].numpy())
    (h,) = wg.grad(g.sum(), [x])
    assert h.tolist() == np.zeros((3, 4)).tolist()


@pytest.mark.parametrize("op", ["max", "min"])
def test_gradient_of_the_largest_of_nan_is_nan(op: str) -> None:
    x = wg.tensor([[1.0, NAN, 3.0], [1.0, 2.0, 2.0]], requires_grad=True)
    y = getattr(x, op)(1)
    (g,) = wg.grad(y.sum(), [x], retain_graph=True)
    assert np.isnan(g[0].numpy()).all()
    assert g[1].tolist() == ([0, 0.5, 0.5] if op == "max" else [1, 0, 0])
    assert wg.grad((y * wg.tensor([0.0, 1.0])).sum(), [x])[0][0].tolist() == [0, 0, 0]


def test_correction_of_var_and_std() -> None:
    x = np.random.default_rng(0).normal(size=(5, 7))
    for correction in (0, 1, 2.5):
        assert_close(wg.tensor(x).var(0, correction=correction), x.var(0) * 5 / (5 - correction))
        assert_close(
            wg.tensor(x).std(correction=correction), np.sqrt(x.var() * 35 / (35 - correction))
        )


def test_gradient_of_cast() -> None:
    x = wg.tensor([1.0, 2.0], "float64", requires_grad=True)
    (g,) = wg.grad(x.to("float32").square().sum(), [x])
    assert g.dtype == wg.float64
    assert g.tolist() == [2, 4]
    assert not x.to("int64").requires_grad


def test_promoted_operands_get_gradients_of_their_own_dtype() -> None:
    a = wg.tensor([1.0, 2.0], "float32", requires_grad=True)
    b = wg.tensor([3.0, 4.0], "float64", requires_grad=True)
    da, db = wg.grad((a * b * wg.tensor([2, 3])).sum(), [a, b])
    assert (da.dtype, db.dtype) == (wg.float32, wg.float64)
    assert (da.tolist(), db.tolist()) == ([6, 12], [2, 6])


def test_relu_passes_nan_and_stops_at_minus_infinity() -> None:
    x = wg.tensor([NAN, -INF, INF], requires_grad=True)
    y = x.relu()
    assert_close(y, np.array([NAN, 0, INF], "float32"), equal_nan=True)
    assert wg.grad(y.sum(), [x])[0].tolist() == [1, 0, 1]


# ---- layouts -------------------------------------------------------------------------------------


def layouts(a: np.ndarray) -> list[tuple[str, wg.Tensor]]:
    """The same values with other strides."""
    padded = np.full((*a.shape[:-1], 2 * a.shape[-1] + 3) if a.ndim else 5, 77).astype(a.dtype)
    if not a.ndim:
        padded[3] = a
        return [("with an offset", wg.tensor(padded)[3])]
    padded[..., 1:-2:2] = a
    axes = tuple(reversed(range(a.ndim)))
    found = [
        ("transposed", wg.tensor(a.T.copy("C")).permute(axes)),
        ("every second", wg.tensor(padded)[..., 1:-2:2]),
        ("negative step", wg.tensor(a[::-1].copy())[::-1]),
        ("both", wg.tensor(a[..., ::-1].T.copy("C")).permute(axes)[..., ::-1]),
        ("with an offset", wg.concatenate([wg.tensor(a)] * 3)[len(a) : 2 * len(a)]),
    ]
    for label, t in found:
        assert t.shape == a.shape, label
        np.testing.assert_array_equal(t.numpy(), a)
    return found


def value_and_gradients(row: Row, given: list[wg.Tensor]) -> list[np.ndarray]:
    given = [x.detach() for x in given]
    leaves = [x.requires_grad_() for x in given if x.dtype.is_floating_point and row.gradient]
    y = row.call(*given)
    found = wg.grad(y.sin().sum(), leaves) if leaves else []
    return [y.detach().numpy(), *(g.numpy() for g in found)]


@pytest.mark.parametrize(("row", "shapes"), [c for c in CASES if c[0].inputs], ids=name)
def test_strides_do_not_matter(row: Row, shapes: Shapes) -> None:
    given = tensors(row, row.draw(shapes), "float32")
    expected = value_and_gradients(row, given)
    for place, x in enumerate(given):
        for label, other in layouts(x.numpy()):
            found = value_and_gradients(row, [*given[:place], other, *given[place + 1 :]])
            for a, e in zip(found, expected, strict=True):
                if row.elementwise:
                    np.testing.assert_array_equal(a, e, err_msg=label)
                else:
                    assert_close(a, e, 1e-5, 1e-5, message=label)


@pytest.mark.parametrize("row", [r for r in ROWS if r.elementwise], ids=name)
def test_expanded_inputs(row: Row) -> None:
    """Stride 0, in the inner and in the outer axis."""
    for small in ((3, 1), (1, 40), (1, 1)):
        given = tensors(row, row.draw(tuple(small for _ in row.inputs)), "float32")
        thin = [x.broadcast_to((3, 40)) for x in given]
        full = [wg.tensor(x.numpy().copy()) for x in thin]
        for a, e in zip(
            value_and_gradients(row, thin), value_and_gradients(row, full), strict=True
        ):
            np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("row", [r for r in ROWS if r.elementwise], ids=name)
@pytest.mark.parametrize("n", [*range(1, 20), 31, 33, 63, 65, 511, 513, 40_001])
def test_every_length(row: Row, n: int) -> None:
    """Tails of vectors, tiles and chunks: as the same elements alone, or in another place."""
    given = tensors(row, row.draw(tuple((n,) for _ in row.inputs)), "float32")
    y = row.call(*given).numpy()
    again = row.call(*(wg.concatenate([x[:1], x])[1:] for x in given)).numpy()
    np.testing.assert_array_equal(y, again)
    for i in (0, n // 2, n - 1):
        assert np.array_equal(row.call(*(x[i] for x in given)).numpy(), y[i], equal_nan=True)


# ---- dtypes --------------------------------------------------------------------------------------


def common(a: str, b: str) -> str:
    """The array API's table, with bool below all and integers below floats."""
    return DTYPES[max(DTYPES.index(a), DTYPES.index(b))]


def floating(dtype: str) -> str:
    return dtype if dtype in FLOATS else "float32"


def test_promotion_table_is_the_array_apis() -> None:
    for a in DTYPES[1:]:
        for b in DTYPES[1:]:
            both_integer = a not in FLOATS and b not in FLOATS
            if both_integer or (a in FLOATS and b in FLOATS):
                assert common(a, b) == np.promote_types(a, b).name


@pytest.mark.parametrize("b", DTYPES)
@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.smoke
def test_promotion(a: str, b: str, shape: tuple[int, ...]) -> None:
    x, y = wg.ones(shape, a), wg.ones((3,), b)
    for op in ("mul", "maximum", "minimum", "add"):
        if a == b == "bool":
            continue
        assert getattr(wg, op)(x, y).dtype.name == common(a, b), op
    assert wg.div(x, y).dtype.name == floating(common(a, b))
    assert (x / y).tolist() == [1, 1, 1]
    assert wg.where(wg.ones((3,), "bool"), x, y).dtype.name == common(a, b)
    for op in ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"):
        assert getattr(wg, op)(x, y).dtype == wg.bool_


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.smoke
def test_python_numbers_are_weak(dtype: str) -> None:
    x = wg.ones((2,), dtype)
    for y in (x * 2, 2 * x, x + 2, x - 1, 2 - x, wg.maximum(x, 2), wg.where(x == 1, x, 2)):
        assert y.dtype.name == ("int64" if dtype == "bool" else dtype)
    for y in (x * 2.5, 2.5 * x, x + 2.5, 2.5 - x, x / 2, 1 / x, x / 2.5, wg.where(x == 1, x, 0.5)):
        assert y.dtype.name == floating(dtype)
    assert (x * 2.5).tolist() == [2.5, 2.5]
    assert (x == 1.5).tolist() == [False, False]
    assert (x < 1.5).tolist() == [True, True]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [r for r in ROWS if r.elementwise and len(r.inputs) == 1], ids=name)
def test_integers_into_unary_ops(row: Row, dtype: str) -> None:
    x = np.array([[1, 0, 1], [1, 1, 0]], dtype)
    if row.op in ("log", "log2", "log10", "rsqrt", "acosh", "reciprocal"):
        x = np.ones((2, 3), dtype)
    if dtype in FLOATS or row.result:
        return
    if dtype == "bool" and row.op in {"neg", "abs", "sign", "square", "relu"}:
        with pytest.raises(wg.DTypeError, match=f"{row.op}: does not support bool"):
            row.call(wg.tensor(x))
        return
    y = row.call(wg.tensor(x))
    whole = {
        "neg",
        "abs",
        "sign",
        "square",
        "relu",
        "pow",
        "clamp",
        "floor",
        "ceil",
        "round",
        "trunc",
    }
    if row.op not in whole:
        assert y.dtype == wg.float32
    elif row.op in ("floor", "ceil", "round", "trunc"):
        assert y.dtype.name == dtype
    elif row.variant != "min":
        assert y.dtype.name == ("int64" if dtype == "bool" else dtype)
    expected = quiet(row.reference, x.astype(float))
    if dtype == "uint8" and row.op == "neg":
        expected = expected % 256
    assert_close(y, expected, 1e-6, 1e-6, check_dtype=False)


@pytest.mark.parametrize("dtype", DTYPES[:4])
def test_integers_into_reductions(dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (5, 6)).astype(dtype)
    t = wg.tensor(x)
    for axis in (None, 0, 1):
        assert t.sum(axis).dtype == wg.int64
        assert_close(t.sum(axis), x.sum(axis, dtype="int64"))
        assert_close(t[:2, :2].prod(axis), x[:2, :2].prod(axis, dtype="int64"))
        assert_close(t.max(axis), x.max(axis))
        assert_close(t.min(axis), x.min(axis))
        assert_close(t.argmax(axis), x.argmax(axis))
        assert_close(t.any(axis), x.any(axis))
        assert_close(t.all(axis), x.all(axis))
        assert_close(t.logsumexp(axis), logsumexp(x.astype(float), axis), 1e-6, check_dtype=False)


def test_int64_keeps_all_its_digits() -> None:
    big = 2**60 + 1
    x = wg.tensor([big, -big, 3])
    assert (x + 1).tolist() == [big + 1, -big + 1, 4]
    assert x.sum().item() == 3
    assert x.max().item() == big
    assert (x * 2).tolist() == [2 * big, -2 * big, 6]
    assert (x // 2).tolist() == [big // 2, -big // 2, 1]
    assert (x % 10).tolist() == [big % 10, -big % 10, 3]
    assert (x == wg.tensor([big - 1, -big, 3])).tolist() == [False, True, True]
    assert x.abs().tolist() == [big, big, 3]
    most = 2**63 - 1
    zero = wg.zeros((2,), "int64")
    for n in (2**53 + 1, big, most, -most - 1):
        for y in (
            wg.full((2,), n),
            wg.full_like(zero, n),
            wg.zeros(2, "int64").fill_(n),
            wg.where(zero == 0, n, zero),
            wg.maximum(zero, n) if n > 0 else zero + n,
            zero.clamp(min=n) if n > 0 else zero.clamp(max=n),
            wg.tensor([n, n]),
            wg.full((2,), n, "int64"),
            wg.full_like(wg.zeros(2), n, dtype="int64"),
        ):
            assert y.tolist() == [n, n], n  # fmt: skip
    assert wg.tensor([most]).clamp(0, most - 1).tolist() == [most - 1]
    assert wg.tensor([big]).clamp(big, big).tolist() == [big]
    for start, stop, step in (
        (big, big + 3, 1),
        (-big, -big + 9, 4),
        (most - 4, most, 2),
        (big, big - 5, -2),
        (-most - 1, most, 2**61 + 1),
        (3, 3, 1),
    ):
        assert wg.arange(start, stop, step).tolist() == list(range(start, stop, step))  # fmt: skip
    assert wg.arange(-3.0, 3.0, dtype="int64").tolist() == [-3, -2, -1, 0, 1, 2]
    assert [f(wg.tensor(big)).item() for f in (wg.floor, wg.ceil, wg.round)] == [big] * 3


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: wg.full((2,), 300, "uint8"), "300"),
        (lambda: wg.full_like(wg.zeros(2, "uint8"), -1), "-1"),
        (lambda: wg.full_like(wg.zeros(2, "int64"), 1e30), "1e"),
        (lambda: wg.full_like(wg.zeros(2, "int64"), NAN), "nan"),
        (lambda: wg.full_like(wg.zeros(2, "int64"), 2**63), "9223372036854775808"),
        (lambda: wg.tensor(300, "uint8"), "300"),
        (lambda: wg.tensor([300], "uint8"), "300"),
        (lambda: wg.tensor(NAN, "int64"), "nan"),
        (lambda: wg.arange(2**63, 2**63 + 2), "9223372036854775808"),
        (lambda: wg.tensor([1]).clamp(max=NAN), "nan"),
        (lambda: wg.tensor([1]).clamp(min=NAN), "nan"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()


def test_floor_division_and_remainder_have_pythons_signs() -> None:
    pairs = [(a, b) for a in range(-7, 8) for b in (-3, -2, 2, 3)]
    for dtype in ("int32", "int64", "float32", "float64"):
        a, b = (wg.tensor(np.array(side, dtype)) for side in zip(*pairs, strict=True))
        assert (a // b).tolist() == [x // y for x, y in pairs]
        assert (a % b).tolist() == [x % y for x, y in pairs]


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_of_floor_division_and_remainder_have_numpys_signs(dtype: str) -> None:
    values = np.array([0.0, -0.0, 1.0, -1.0, 3.0, -3.0, INF, -INF, NAN], dtype)
    a, b = np.repeat(values, len(values)), np.tile(values, len(values))
    for op in ("remainder", "floor_divide"):
        y = getattr(wg, op)(wg.tensor(a), wg.tensor(b)).numpy()
        expected = quiet(getattr(np, op), a, b)
        np.testing.assert_array_equal(y, expected)
        zero = y == 0
        assert (np.signbit(y) == np.signbit(expected))[zero].all()


# ---- extremes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_saturation(dtype: str) -> None:
    x = wg.tensor(np.array([-1e4, 1e4, -INF, INF], dtype), requires_grad=True)
    for op, value, slope in (
        ("sigmoid", [0, 1, 0, 1], [0, 0, 0, 0]),
        ("tanh", [-1, 1, -1, 1], [0, 0, 0, 0]),
        ("erf", [-1, 1, -1, 1], [0, 0, 0, 0]),
        ("softplus", [0, 1e4, 0, INF], [0, 1, 0, 1]),
        ("relu", [0, 1e4, 0, INF], [0, 1, 0, 1]),
        ("elu", [-1, 1e4, -1, INF], [0, 1, 0, 1]),
    ):
        for create_graph in (False, True):
            y = getattr(x, op)()
            assert y.tolist() == value, op
            assert wg.grad(y.sum(), [x], create_graph=create_graph)[0].tolist() == slope, op
    for f in (wg.silu, wg.gelu, lambda x: wg.gelu(x, "tanh")):
        for create_graph in (False, True):
            y = f(x)
            assert y.tolist() == [0, 1e4, 0, INF]
            (g,) = wg.grad(y.sum(), [x], create_graph=create_graph)
            assert g.tolist() == [0, 1, 0, 1]
        assert wg.grad(g.sum(), [x])[0].tolist() == [0, 0, 0, 0]
    assert wg.leaky_relu(x, 0.0).tolist() == [0, 1e4, 0, INF]


@pytest.mark.parametrize("dtype", FLOATS)
def test_huge_arguments_of_gradients_stay_finite(dtype: str) -> None:
    """gelu_tanh cubes its argument; div squares its divisor in the textbook formula."""
    x = wg.tensor(np.array([-1e30, 1e30, -1e15, 1e15], dtype), requires_grad=True)
    for f in (wg.silu, wg.gelu, lambda x: wg.gelu(x, "tanh"), wg.softplus, wg.sigmoid, wg.tanh):
        for create_graph in (False, True):
            (g,) = wg.grad(f(x).sum(), [x], create_graph=create_graph)
            assert g.isfinite().all().item()
    one = wg.ones((4,), dtype).requires_grad_()
    da, db = wg.grad((one / x).sum(), [one, x])
    assert_close(da, 1 / x.detach().numpy())
    assert db.isfinite().all().item()


@pytest.mark.parametrize("dtype", FLOATS)
def test_sin_and_cos_of_large_arguments(dtype: str) -> None:
    x = np.array([1e3, 12345.678, -99999.0, 1e5], dtype)
    eps = np.finfo(dtype).eps
    assert_close(wg.sin(wg.tensor(x)), np.sin(x.astype(float)), 0, 4 * eps, check_dtype=False)
    assert_close(wg.cos(wg.tensor(x)), np.cos(x.astype(float)), 0, 4 * eps, check_dtype=False)
    for f in (wg.sin, wg.cos):
        y = f(wg.tensor(np.array([1e10, -3e30, 3e38], dtype))).numpy()
        assert (abs(y) <= 1).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [3, 5, 16, 37, 1000])
def test_softmax_of_extreme_logits(dtype: str, n: int) -> None:
    x = np.random.default_rng(0).normal(size=(9, n)) * 3
    x[0, 1] = 1e4
    x[1, 1] = -1e4
    x[2] += 1e4
    x[3] -= 1e4
    x[4, 2] = -INF
    x[5, :-1] = -INF
    x[6, 0] = NAN
    x[7] = 0
    x[8] = np.linspace(-1e4, 1e4, n)
    x = x.astype(dtype)
    t, wide = wg.tensor(x), x.astype(float)
    # The error of x - max is relative to the logits.
    tolerance = 4 * np.finfo(dtype).eps
    for op, reference in (("softmax", softmax), ("log_softmax", log_softmax)):
        y = getattr(wg, op)(t, -1)
        expected = quiet(reference, wide)
        assert_close(y, expected, tolerance * 2, tolerance * 2, equal_nan=True, check_dtype=False)
        across = getattr(wg, op)(wg.tensor(np.ascontiguousarray(x.T)), 0).T
        np.testing.assert_array_equal(across.numpy(), y.numpy())
    y = wg.logsumexp(t, 1)
    assert_close(y, quiet(logsumexp, wide, 1), tolerance * 2, tolerance * 8, equal_nan=True,
                 check_dtype=False)  # fmt: skip
    labels = np.arange(9) % n
    loss = wg.cross_entropy(t, wg.tensor(labels), reduction="none")
    expected = -quiet(log_softmax, wide)[np.arange(9), labels]
    assert_close(loss, expected, tolerance * 2, tolerance * 8, equal_nan=True, check_dtype=False)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_extreme_logits(create_graph: bool) -> None:
    x = wg.tensor([[1e4, 0.0, -1e4], [-INF, 0.0, 1.0], [3.0, 3.0, -INF]], requires_grad=True)
    wide = x.detach().numpy().astype(float)
    p = softmax(wide)
    (g,) = wg.grad(x.logsumexp(1).sum(), [x], create_graph=create_graph)
    assert_close(g, p, check_dtype=False)
    (g,) = wg.grad(
        wg.cross_entropy(x, wg.tensor([0, 2, 1]), reduction="sum"), [x], create_graph=create_graph
    )
    assert_close(g, p - np.eye(3)[[0, 2, 1]], check_dtype=False)
    (g,) = wg.grad(x.softmax(1)[:, 0].sum(), [x], create_graph=create_graph)
    assert_close(g, p * (np.eye(3)[0] - p[:, :1]), check_dtype=False)
    (g,) = wg.grad(x.log_softmax(1)[:, 1].sum(), [x], create_graph=create_graph)
    assert_close(g, np.eye(3)[1] - p, check_dtype=False)


def test_logsumexp_of_nothing_but_infinities() -> None:
    assert wg.logsumexp(wg.tensor([-INF, -INF])).item() == -INF
    assert wg.logsumexp(wg.tensor([INF, 1.0])).item() == INF
    assert math.isnan(wg.logsumexp(wg.tensor([INF, NAN])).item())
    assert wg.logsumexp(wg.zeros((2, 0)), 1).tolist() == [-INF, -INF]
    assert wg.logsumexp(wg.zeros((0,))).item() == -INF
    x = wg.tensor([[-INF, -INF], [0.0, 0.0], [INF, 0.0], [INF, INF]], requires_grad=True)
    y = wg.logsumexp(x, 1)
    assert y.tolist() == [-INF, pytest.approx(math.log(2)), INF, INF]
    for create_graph in (True, False):
        (g,) = wg.grad(y.sum(), [x], retain_graph=True, create_graph=create_graph)
        assert_close(g, np.array([[0, 0], [0.5, 0.5], [1, 0], [0.5, 0.5]], "float32"))


def test_softmax_of_nothing_but_minus_infinity_is_nan() -> None:
    """0 / 0, as NumPy and PyTorch: no limit says what its elements share."""
    x = wg.tensor([[-INF, -INF], [0.0, -INF]])
    for y in (x.softmax(1), x.log_softmax(1)):
        assert np.isnan(y[0].numpy()).all()
    assert x.softmax(1)[1].tolist() == [1, 0]


def test_cross_entropy_of_impossible_class_is_infinite() -> None:
    x = wg.tensor([[-INF, 0.0], [0.0, -INF]])
    assert wg.cross_entropy(x, wg.tensor([0, 0]), reduction="none").tolist() == [INF, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_of_probability_zero_and_logit_minus_infinity_costs_nothing(smoothing: float) -> None:
    x = wg.tensor([[-INF, 0.0, 1.0]], "float64", requires_grad=True)
    p = wg.tensor([[0.0, 0.25, 0.75]], "float64")
    loss = wg.cross_entropy(x, p, label_smoothing=smoothing)
    q = np.exp([0, 1]) / np.exp([0, 1]).sum()
    if smoothing:
        assert loss.item() == INF
    else:
        assert loss.item() == pytest.approx(-(np.log(q) * [0.25, 0.75]).sum())
    (g,) = wg.grad(loss, [x])
    target = np.array([0.0, 0.25, 0.75]) * (1 - smoothing) + smoothing / 3
    assert_close(g, [np.array([0.0, *q]) - target], 1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_binary_cross_entropy_of_extreme_logits(dtype: str) -> None:
    x = wg.tensor(np.array([1e4, -1e4, 1e4, -1e4, 0, INF, -INF, INF], dtype), requires_grad=True)
    t = wg.tensor(np.array([1, 0, 0, 1, 1, 1, 0, 0], dtype))
    loss = wg.binary_cross_entropy_with_logits(x, t, reduction="none")
    assert_close(loss, np.array([0, 0, 1e4, 1e4, math.log(2), 0, 0, INF], dtype))
    assert wg.grad(loss.sum(), [x])[0].tolist() == [0, 0, 1, -1, -0.5, 0, 0, 1]


ARCS = ("sin", "tan", "sinh", "tanh")


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_arguments_keep_their_digits(dtype: str) -> None:
    x = np.array([1e-30, -1e-30, 1e-12, 1e-7, -1e-7, 1e-3], dtype)
    eps = 4 * np.finfo(dtype).eps
    others = {"erf": np.vectorize(math.erf)} | {f"a{f}": getattr(np, f"arc{f}") for f in ARCS}
    for op in ("expm1", "log1p", "sin", "tanh", "tan", "sinh", *others):
        reference = others.get(op) or getattr(np, op)
        expected = reference(x.astype(float))
        assert_close(getattr(wg, op)(wg.tensor(x)), expected, eps, 0, check_dtype=False, message=op)
    y = wg.softplus(wg.tensor(-x[2:] * 0 - np.array(30, dtype)))
    assert_close(y, np.full(4, math.log1p(math.exp(-30))), eps, 0, check_dtype=False)
    assert_close(wg.sigmoid(wg.tensor(np.array([-80], dtype))), sigmoid(np.array([-80.0])), eps, 0,
                 check_dtype=False)  # fmt: skip


def test_variance_far_from_zero() -> None:
    x = np.random.default_rng(0).normal(size=1000)
    far = (x + 1e4).astype("float32")
    assert_close(wg.tensor(far).var(), far.astype(float).var(), 1e-5, check_dtype=False)


# ---- zero sizes ----------------------------------------------------------------------------------


def test_reductions_of_nothing() -> None:
    x = wg.zeros((0, 3))
    assert x.sum().item() == 0
    assert x.sum(0).tolist() == [0, 0, 0]
    assert x.sum(1).shape == (0,)
    assert x.prod(0).tolist() == [1, 1, 1]
    assert x.any(0).tolist() == [False] * 3
    assert x.all(0).tolist() == [True] * 3
    assert np.isnan(x.mean(0).numpy()).all()
    assert x.max(1).shape == x.argmax(1).shape == (0,)
    for op in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ValueError, match=rf"{op}: no elements.*\(0, 3\)"):
            getattr(x, op)(0)
    assert wg.softmax(wg.zeros((2, 0)), 1).shape == (2, 0)
    assert math.isnan(wg.cross_entropy(wg.zeros((0, 3)), wg.zeros((0,), "int64")).item())


def test_gradients_of_nothing() -> None:
    x = wg.zeros((0, 3), "float64").requires_grad_()
    w = wg.ones((3, 2), "float64").requires_grad_()
    dx, dw = wg.grad((x @ w).sigmoid().sum(), [x, w])
    assert dx.shape == (0, 3)
    assert dw.tolist() == [[0, 0]] * 3


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [r for r in ROWS if r.elementwise and len(r.inputs) == 2], ids=name)
def test_shapes_that_do_not_broadcast(row: Row) -> None:
    given = tensors(row, row.draw(((2, 3), (4,))), "float32")
    op = row.op
    with pytest.raises(wg.ShapeError, match=rf"{op}: shapes \(2, 3\) and \(4,\) do not broadcast"):
        row.call(*given)


@pytest.mark.parametrize("row", [r for r in ROWS if r.elementwise], ids=name)
def test_operands_that_are_no_tensors(row: Row) -> None:
    with pytest.raises(TypeError):
        row.call(*("text" for _ in row.inputs))
    if len(row.inputs) == 2:
        with pytest.raises(TypeError, match="expected a tensor, a number or an array"):
            row.call(wg.ones((2,)), "text")


X, WHOLE = wg.zeros((2, 3)), wg.zeros((2, 3), "int64")
BAD: list[tuple[Any, type[Exception], str]] = [
    *(
        (lambda op=op, axis=axis: getattr(wg, op)(X, axis), IndexError,
         rf"{op}: axis {axis} is out of range")
        for op in ("sum", "mean", "prod", "max", "min", "any", "all", "logsumexp", "var", "argmax",
                   "argmin", "softmax", "log_softmax", "squeeze", "unsqueeze")
        for axis in (5, -4)
    ),
    (lambda: wg.sum(X, (0, 0)), ValueError, r"sum: axis 0 is named twice"),
    (lambda: wg.sum(X, (0, -2)), ValueError, r"sum: axis -2 is named twice"),
    (lambda: wg.var(WHOLE), wg.DTypeError, r"var and std: got int64; expected a floating dtype"),
    (lambda: X.argmax((0, 1)), TypeError, r"argmax: axis is \(0, 1\) \(tuple\)"),
    (lambda: X.squeeze(0), wg.ShapeError, r"squeeze: axis 0 of shape \(2, 3\) has size 2"),
    (lambda: wg.tensor(1.0).sum(1), IndexError, r"sum: axis 1 is out of range for a tensor of 0"),
    (lambda: wg.tensor(1.0).sum((0, -1)), ValueError, r"sum: axis -1 is named twice"),
    (lambda: wg.tensor([True]) - wg.tensor([True]), wg.DTypeError, r"sub: does not support bool"),
    (lambda: wg.matmul(X, X), wg.ShapeError, r"matmul: inner sizes differ: \(2, 3\) @ \(2, 3\)"),
    (lambda: X @ wg.ones(()), wg.ShapeError, r"matmul: got shapes \(2, 3\) @ \(\)"),
    (lambda: wg.ones((2, 3, 4)) @ wg.ones((3, 4, 5)), wg.ShapeError,
     r"matmul \(batch axes\): shapes \(2,\) and \(3,\)"),
    (lambda: wg.ones((2, 2), "bool") @ wg.ones((2, 2), "bool"), wg.DTypeError,
     r"matmul: does not support bool"),
    (lambda: X.reshape(4, 2), wg.ShapeError,
     r"reshape: shape \(2, 3\) has 6 elements, \(4, 2\) has 8"),
    (lambda: X.reshape(-1, 4), wg.ShapeError, r"reshape: cannot make \(-1, 4\) of shape \(2, 3\)"),
    (lambda: X.reshape(-1, -1), wg.ShapeError, r"reshape: only one size may be -1"),
    (lambda: X.reshape(-2, -3), wg.ShapeError, r"\(-2, -3\) has a negative size"),
    (lambda: X.permute(0), wg.ShapeError, r"permute: got 1 axes .* shape \(2, 3\)"),
    (lambda: X.permute(0, 0), wg.ShapeError, r"permute: axis 0 is named twice"),
    (lambda: X.permute(0, 2), IndexError, r"permute: axis 2 is out of range"),
    (lambda: X.transpose(0, 2), IndexError, r"transpose: axis 2 is out of range"),
    (lambda: X.broadcast_to((2, 4)), wg.ShapeError,
     r"expand: shape \(2, 3\) does not expand to \(2, 4\)"),
    (lambda: X.expand(3), wg.ShapeError, r"expand: shape \(2, 3\)"),
    (lambda: X.squeeze(0), wg.ShapeError, r"squeeze: axis 0 of shape \(2, 3\) has size 2"),
    (lambda: wg.ones((2, 3, 4)).T, wg.ShapeError, r"T: a tensor of shape \(2, 3, 4\)"),
    (lambda: X.flatten(1, 0), ValueError, r"flatten: start_axis 1 comes after end_axis 0"),
    (lambda: wg.concatenate([X, wg.ones((2, 4))]), wg.ShapeError,
     r"concatenate: .*\(2, 3\).*\(2, 4\)"),
    (lambda: wg.concatenate([]), ValueError, r"concatenate: got no tensors"),
    (lambda: wg.concatenate([X, 3]), wg.DTypeError, r"concatenate: item 1 is 3 \(int\)"),
    (lambda: wg.stack([X, wg.ones((3, 2))]), wg.ShapeError, r"stack: tensor 1 has shape \(3, 2\)"),
    (lambda: wg.stack([]), ValueError, r"stack: got no tensors"),
    (lambda: wg.where(X, X, X), wg.DTypeError,
     r"where: the condition has dtype float32; expected bool"),
    (lambda: wg.where(X > 0, X, wg.ones((4,))), wg.ShapeError,
     r"where: shapes \(2, 3\) and \(4,\)"),
    (lambda: wg.where(wg.ones((5,), "bool"), X, X), wg.ShapeError,
     r"where: shapes \(5,\) and \(2, 3\)"),
    (lambda: wg.bitwise_and(X, X), wg.DTypeError, r"bitwise_and: does not support float32"),
    (lambda: wg.bitwise_or(X, WHOLE), wg.DTypeError, r"bitwise_or: does not support float32"),
    (lambda: wg.bitwise_xor(X, X), wg.DTypeError, r"bitwise_xor: does not support float32"),
    (lambda: ~X, wg.DTypeError, r"~: does not support float32"),
    (lambda: wg.ones((2,), "int64") ** wg.tensor([1, -1]), ValueError,
     r"pow: an integer to a negative power"),
    (lambda: wg.floor_divide(WHOLE, WHOLE), ValueError, r"floor_divide: integer division by zero"),
    (lambda: wg.remainder(WHOLE, 0), ValueError, r"remainder: integer division by zero"),
    (lambda: wg.gelu(X, "tan"), ValueError, r"gelu: approximate is .tan."),
    (lambda: wg.clamp(X, 2, 1), ValueError, r"clamp: min 2 is larger than max 1"),
    (lambda: wg.ones((2,), "uint8") + 300, ValueError, r"300 .*does not fit into uint8"),
    (lambda: wg.ones((2,), "int32") * 2**40, ValueError, r"does not fit into int32"),
    (lambda: wg.ones((2,), "int64") * 2**70, ValueError, r"does not fit into int64"),
    (lambda: wg.cross_entropy(X, wg.tensor([0, 3])), IndexError,
     r"cross_entropy: class index 3 at row 1"),
    (lambda: wg.cross_entropy(X, wg.tensor([-1, 0])), IndexError,
     r"cross_entropy: class index -1 at row 0"),
    (lambda: wg.cross_entropy(X, wg.tensor([0])), wg.ShapeError,
     r"cross_entropy: .*\(2, 3\).*\(1,\)"),
    (lambda: wg.cross_entropy(X[0], wg.tensor([0])), wg.ShapeError, r"cross_entropy: .*\(3,\)"),
    (lambda: wg.cross_entropy(X, wg.ones((2, 4))), wg.ShapeError,
     r"cross_entropy: .*\(2, 3\).*\(2, 4\)"),
    (lambda: wg.cross_entropy(X, wg.ones((2,), "bool")), wg.DTypeError, r"cross_entropy: .*bool"),
    (lambda: wg.cross_entropy(X, wg.tensor([0, 1]), reduction="average"), ValueError,
     r'reduction is "average"'),
    (lambda: wg.cross_entropy(X, wg.tensor([0, 1]), label_smoothing=2), ValueError,
     r"label_smoothing is 2"),
    (lambda: wg.cross_entropy(wg.ones((2, 3)), wg.ones((2, 3)), ignore_index=1), ValueError,
     r"ignore_index is 1, and target holds probabilities"),
    (lambda: wg._core.cross_entropy_rows(X, wg.ones((2,))), wg.DTypeError,
     r"cross_entropy: .*float32"),
    (lambda: wg.mse_loss(wg.ones((3, 1)), wg.ones((3,))), wg.ShapeError,
     r"mse_loss: .*\(3, 1\).*\(3,\)"),
    (lambda: wg.binary_cross_entropy_with_logits(wg.ones((3, 1)), wg.ones((3,))), wg.ShapeError,
     r"binary_cross_entropy_with_logits: .*\(3, 1\).*\(3,\)"),
    (lambda: wg.zeros((2**32, 2**32)), (ValueError, MemoryError), r"\(4294967296, 4294967296\)"),
    (lambda: wg.zeros((2**44,)), (ValueError, MemoryError), r"\(17592186044416,\)"),
    (lambda: wg.zeros((-1,)), ValueError, r"\(-1,\) has a negative size"),
    (lambda: wg.zeros((1,) * 11), ValueError, r"at most 10 axes"),
    (lambda: wg.ones((1, 1)).broadcast_to((2**40, 2**40)), ValueError, r"more than 2\*\*63"),
    (lambda: wg.zeros((2.5,)), TypeError, r"zeros: got 2.5"),
    (lambda: wg.zeros((2,), "float16"), TypeError, r"dtype: got 'float16' .*expected float32"),
    (lambda: wg.arange(0, 1, 0), ValueError, r"arange: .*step 0"),
    (lambda: wg.linspace(0, 1, -1), ValueError, r"linspace: got num = -1"),
    (lambda: wg.eye(-1), ValueError, r"negative size"),
    (lambda: wg.randint(3, 3, (2,)), ValueError, r"randint: got low = 3 and high = 3"),
    (lambda: wg.randperm(-1), ValueError, r"randperm: got n = -1"),
    (lambda: wg.rand((2,), "int64"), wg.DTypeError, r"rand.*: got dtype int64"),
    (lambda: X.to("cuda:7"), wg.DeviceError, r"cuda: no|GPUs 0 to"),
    (lambda: bool(X), ValueError, r"bool: a tensor of shape \(2, 3\) is not one value"),
    (lambda: X.item(), ValueError, r"item: the tensor has shape \(2, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[m[:40] for *_, m in BAD])
@pytest.mark.smoke
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("name", [
    "exp", "leaky_relu", "elu", "gelu", "hardtanh", "clamp", "nan_to_num", "digamma", "signbit",
    "isnan", "isinf", "isfinite", "logical_not",
])  # fmt: skip
def test_functions_of_one_take_numbers_and_arrays(name: str) -> None:
    f = getattr(wg, name)
    more = {"min": -0.25} if name == "clamp" else {}
    assert f(-0.5, **more).item() == f(wg.tensor(-0.5), **more).item()
    array = np.array([-0.5, 2.0])
    assert f(array, **more).tolist() == f(wg.tensor(array), **more).tolist()
    with pytest.raises(TypeError, match="expected a tensor, a number or an array"):
        f("0.5", **more)


# ---- random numbers ------------------------------------------------------------------------------


def test_random_uniform() -> None:
    x = wg.rand((1_000_000,), generator=wg.Generator(1)).numpy()
    assert 0 <= x.min() < 1e-5
    assert 1 - 1e-5 < x.max() < 1
    assert abs(x.mean() - 0.5) < 2e-3
    assert abs(x.var() - 1 / 12) < 1e-3
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 5e-3


def test_random_normal() -> None:
    for dtype in FLOATS:
        x = wg.randn((1_000_001,), dtype, wg.Generator(2)).numpy()
        assert x.dtype == dtype
        assert np.isfinite(x).all()
        assert abs(x.mean()) < 5e-3
        assert abs(x.std() - 1) < 5e-3
        assert abs((abs(x) < 1).mean() - 0.6827) < 3e-3
        assert abs((x**4).mean() - 3) < 0.1
        assert 4.3 < abs(x).max() < 7


def test_random_integers() -> None:
    x = wg.randint(-2, 5, (70_000,), generator=wg.Generator(3)).numpy()
    values, counts = np.unique(x, return_counts=True)
    assert values.tolist() == list(range(-2, 5))
    assert (abs(counts - 10_000) < 500).all()
    order = wg.randperm(1000, generator=wg.Generator(4)).numpy()
    assert sorted(order) == list(range(1000))
    assert (order != np.arange(1000)).sum() > 900


def test_random_numbers_follow_from_the_seed_alone() -> None:
    threads = wg.num_threads()
    found = []
    try:
        for n in (1, 2, 3, 1):
            wg.set_num_threads(n)
            g = wg.Generator(7)
            found.append([wg.randn((100_003,), generator=g).numpy().tobytes(),
                          wg.rand((5,), generator=g).tolist(), g.state.tolist()])  # fmt: skip
    finally:
        wg.set_num_threads(threads)
    assert all(f == found[0] for f in found)
    assert wg.rand((5,), generator=wg.Generator(8)).tolist() != found[0][1]


# ---- in place ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
def test_arithmetic_in_place(op: str) -> None:
    f = getattr(wg, op)
    for dtype in FLOATS:
        for other in (2, 2.5, wg.tensor([1.0, 2, 4], dtype), wg.tensor([[3], [5]])):
            x = wg.tensor(np.arange(6).reshape(2, 3).astype(dtype))
            expected, version, place = f(x, other), x.version, x.data_ptr()
            assert getattr(x, f"{op}_")(other) is x
            assert_close(x, expected)
            assert x.version > version
            assert x.data_ptr() == place
            y = wg.zeros((2, 6), dtype) + 3
            getattr(y[:, ::-2], f"{op}_")(other)
            assert_close(y[:, ::-2], f(wg.full((2, 3), 3.0, dtype), other))
            assert (y[:, ::2] == 3).all()
    x = wg.ones((3,))
    with pytest.raises(wg.ShapeError, match=rf"{op} in place: .*\(2, 3\).*\(3,\)"):
        getattr(x, f"{op}_")(wg.ones((2, 3)))
    with pytest.raises(wg.DTypeError, match=rf"{op} in place: a tensor of float32 .* float64"):
        getattr(x, f"{op}_")(wg.ones((3,), "float64"))
    with pytest.raises(wg.DTypeError, match=rf"{op} in place: a tensor of int64 .* float32"):
        getattr(wg.ones((3,), "int64"), f"{op}_")(1.5)
    with pytest.raises(ValueError, match=rf"{op}.*expanded tensor"):
        getattr(x.broadcast_to((2, 3)), f"{op}_")(1.0)
    leaf = wg.ones((3,)).requires_grad_()
    with pytest.raises(wg.GradientError, match=rf"{op} in place: this tensor is a leaf"):
        getattr(leaf, f"{op}_")(1.0)
    with wg.no_grad():
        getattr(leaf, f"{op}_")(1.0)


def test_overlapping_operands_in_place() -> None:
    """As if the operand had been copied first."""
    a = np.arange(10.0)
    x = wg.tensor(a)
    x[1:].add_(x[:-1])
    assert_close(x, np.concatenate([a[:1], a[1:] + a[:-1]]))
    y = wg.tensor(a)
    y.mul_(y[::-1])
    assert_close(y, a * a[::-1])


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
def test_gradient_through_arithmetic_in_place(op: str) -> None:
    def f(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
        z = x * 2.0
        getattr(z, f"{op}_")(y)
        return z.sin()

    random = np.random.default_rng(0)
    x, y = wg.tensor(random.normal(size=(3, 4))), wg.tensor(random.uniform(1, 2, (4,)))
    gradcheck(f, [x, y], order=2, rtol=3e-6, atol=1e-7)


def test_large_results_have_the_bits_of_small_ones() -> None:
    """Results of 32 MiB and more are stored past the caches."""
    n = 2**23 + 5
    x = wg.tensor(np.linspace(-8, 8, n, dtype=np.float32))
    z = wg.arange(n)
    cases: list[tuple[Any, tuple[wg.Tensor, ...]]] = [
        (wg.sigmoid, (x,)),
        (lambda a, b: a * b + b, (x, x.cos())),
        (lambda a, b: a * b, (z, z + 1)),
        (wg.where, (x > 0, x, -x)),
        (lambda a: a.mul_(2.0), (x.clone(),)),
    ]
    for f, operands in cases:
        parts = [f(*(a[i : i + 2**20].clone() for a in operands)) for i in range(0, n, 2**20)]
        assert np.array_equal(f(*operands).numpy(), wg.concatenate(parts).numpy())
    flags = wg.tensor(np.arange(2**25 + 3) % 3 == 0)
    assert int((flags & flags).sum()) == int(flags.sum())


def test_calls_past_the_dispatcher() -> None:
    """Operators and unary functions are entered without pybind11: errors, names, identity."""
    x = wg.tensor([1.0, 4.0], requires_grad=True)
    assert_close(wg.sqrt(x=x), [1.0, 2.0])
    assert_close(wg.sqrt(4.0), 2.0)
    assert_close(wg.sqrt(np.array([4.0])), [2.0])
    with pytest.raises(TypeError, match=r"sqrt.*expected sqrt\(x\)"):
        wg.sqrt()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"sqrt.*expected sqrt\(x\)"):
        wg.sqrt(y=x)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="argument"):
        x.sqrt(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unsupported operand"):
        x + "a"  # type: ignore[operator]
    with pytest.raises(wg.ShapeError, match="do not broadcast"):
        x * wg.ones((3,))
    for y in (x + 1, 1 + x, np.ones(2, np.float32) + x, x.__add__(1), x + np.ones(2, np.float32)):
        assert_close(y, [2.0, 5.0])
    (x * x).sum().backward()
    assert x.grad is x.grad
    grad, seen = x.grad, []
    y = -x
    y.register_hook(lambda g: seen.append(g))
    y.sum().backward()
    assert len(seen) == 1 and x.grad is not None and grad is not None

    class Mine(wg.Tensor):
        def __add__(self, other: Any) -> Any:
            return "mine"

    assert Mine(x) + 1 == "mine"
    assert type(Mine(x) * 2) is wg.Tensor


def test_shifts() -> None:
    """By all bits or more, or by less than none: 0, or what the sign fills, as NumPy's."""
    for dtype in ("uint8", "int32", "int64"):
        x = np.array([1, 3, 100, 255, 7], "int64").astype(dtype)
        a = wg.tensor(-x if dtype != "uint8" else x)
        for by in (0, 1, 7, 8, 31, 32, 63, 64, 100):
            with np.errstate(all="ignore"):
                left, right = a.numpy() << x.dtype.type(by), a.numpy() >> x.dtype.type(by)
            assert (a << by).dtype == (a >> by).dtype == a.dtype
            assert (a << by).tolist() == left.tolist()
            assert (a >> by).tolist() == right.tolist()
        if dtype != "uint8":
            assert (a << -1).tolist() == [0] * 5
            assert (a >> -1).tolist() == [-1] * 5
    assert (1 << wg.tensor([0, 3])).tolist() == [1, 8]
    for bad in ("bool", "float32"):
        with pytest.raises(wg.DTypeError, match="bitwise_left_shift: does not support"):
            wg.bitwise_left_shift(wg.ones((2,), bad), wg.ones((2,), bad))
    with pytest.raises(TypeError):
        wg.tensor([1]) << "a"


def test_signbit_and_nan_to_num() -> None:
    for dtype in FLOATS:
        x = np.array([NAN, -NAN, 0.0, -0.0, 1.0, -1.0, INF, -INF], dtype)
        t = wg.tensor(x, requires_grad=True)
        assert t.signbit().tolist() == np.signbit(x).tolist()
        assert wg.nan_to_num(t).tolist() == np.nan_to_num(x).tolist()
        y = t.nan_to_num(2.0, posinf=3.0, neginf=-4.0)
        assert y.tolist() == [2, 2, 0, 0, 1, -1, 3, -4]
        assert wg.grad(y.sum(), [t])[0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    narrow = wg.tensor([INF, -INF]).bfloat16().nan_to_num().float()
    assert narrow.tolist() == [3.3895313892515355e38, -3.3895313892515355e38]
    whole = wg.tensor([-1, 2])
    assert whole.nan_to_num().tolist() == [-1, 2]
    assert whole.signbit().tolist() == [True, False]
    assert wg.tensor([1, 2], "uint8").signbit().tolist() == [False, False]


def libm_power(x: float, e: float) -> float:
    try:
        return math.pow(x, e)
    except OverflowError:
        return math.copysign(math.inf, x) if e % 2 == 1 else math.inf
    except ValueError:  # a pole, or no number
        return (math.copysign(math.inf, x) if e % 2 == 1 else math.inf) if x == 0 else math.nan


@pytest.mark.parametrize("e", [2, 1, 3, 4, -1, -2, 0.5, -0.5, 0, 1.5, -3, 5, math.inf, math.nan])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_by_products_are_those_of_libm(dtype: str, e: float) -> None:
    """Few exponents need no logarithm; how many elements have them changes no bit."""
    marks = [0.0, 1.0, 2.0, 0.5, math.inf, 1e-40, 3e38, 1e-20, 2e19, 5e-20, 1.7, 257.3]
    a = np.array([*marks, *(-x for x in marks), math.nan] * 3, dtype)
    x = wg.tensor(a)
    with np.errstate(over="ignore"):
        expected = np.array([libm_power(float(v), e) for v in a]).astype(dtype)
    actual = (x**e).numpy()
    np.testing.assert_array_max_ulp(actual, expected, 2)
    assert (np.signbit(actual) == np.signbit(expected))[~np.isnan(expected)].all()
    for length in (1, 3, len(a)):
        part = x[:length]
        same = wg.full(length, e, dtype=dtype)
        other = wg.where(wg.arange(length) % 2 == 0, same, 1.3)
        assert (part**e).numpy().tobytes() == actual[:length].tobytes()
        assert (part**same).numpy().tobytes() == actual[:length].tobytes()
        assert (part**other).numpy()[::2].tobytes() == actual[:length:2].tobytes()


def test_powers_of_the_base_have_whole_logarithms() -> None:
    for dtype in FLOATS:
        n = list(range(-30, 31))
        assert wg.tensor([10.0**k for k in n], dtype).log10().tolist() == n
        assert wg.tensor([2.0**k for k in n], dtype).log2().tolist() == n
        assert wg.tensor(n, dtype).exp2().tolist() == [2.0**k for k in n]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_quotients_and_remainders_are_exact(dtype: str) -> None:
    """Also where the quotient is rounded up to a whole number, and where it is large."""
    random = np.random.default_rng(0)
    n = 6000
    b = (random.normal(size=n) * 10.0 ** random.uniform(-4, 4, n)).astype(dtype)
    whole = np.floor(10.0 ** random.uniform(0, 7.2, n))
    near = (b * whole).astype(dtype)  # or next to it, on both sides
    a = np.stack(
        [near, np.nextafter(near, np.inf, dtype=dtype), np.nextafter(near, 0, dtype=dtype)]
    )
    a = np.concatenate([a * np.array([[1], [1], [-1]], dtype), (b * (whole + 0.5))[None]]).ravel()
    a, b = a.astype(dtype), np.tile(b, 4)
    quotient = [
        math.floor(Fraction(float(x)) / Fraction(float(y))) for x, y in zip(a, b, strict=True)
    ]
    x, y = wg.tensor(a), wg.tensor(b)
    assert (x // y).tolist() == np.array(quotient, dtype).tolist()
    rest = [
        float(Fraction(float(u)) - q * Fraction(float(v)))
        for u, v, q in zip(a, b, quotient, strict=True)
    ]
    np.testing.assert_array_equal((x % y).numpy(), np.array(rest, dtype))
    np.testing.assert_array_equal(wg.fmod(x, y).numpy(), np.fmod(a, b))


def test_fmod_by_an_integer_zero() -> None:
    with pytest.raises(ValueError, match="fmod: integer division by zero"):
        wg.fmod(wg.tensor([1, 2]), wg.tensor([1, 0]))
    low = np.iinfo("int64").min
    assert wg.fmod(wg.tensor([low, -7]), wg.tensor([-1, 3])).tolist() == [0, -1]


def test_sums_and_products_of_bools() -> None:
    """Or and and, as in NumPy and PyTorch."""
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    x, y = wg.tensor(a), wg.tensor(b)
    for ours, expected in (
        (x + y, a + b),
        (x * y, a * b),
        (wg.maximum(x, y), a | b),
        (wg.minimum(x, y), a & b),
    ):
        assert ours.dtype.name == "bool"
        assert ours.tolist() == expected.tolist()
    assert (x + True).tolist() == [True] * 4
    assert (x + 1).dtype.name == "int64"
    total, product = x.clone(), x.clone()
    total += y
    product.mul_(y)
    assert total.tolist() == (a + b).tolist()
    assert product.tolist() == (a * b).tolist()
    compiled = wg.compile(lambda x, y: x + y * x)
    assert [compiled(x, y).tolist() for _ in range(3)] == [(a + b * a).tolist()] * 3


def test_next_numbers() -> None:
    """Of float32 in float32: the reference of the row is of float64."""
    for dtype in FLOATS:
        values = np.array([v for v in SPECIAL if abs(v) != 1e-40 or dtype == "float64"], dtype)
        a, b = np.repeat(values, len(values)), np.tile(values, len(values))
        np.testing.assert_array_equal(
            wg.tensor(a).nextafter(wg.tensor(b)).numpy(), np.nextafter(a, b)
        )
    assert wg.nextafter(wg.tensor([1, 2]), 5).dtype == wg.float32
    with pytest.raises(wg.DTypeError, match=r"nextafter: does not support bfloat16.*\.float\(\)"):
        wg.nextafter(wg.ones(1, "bfloat16"), 1.0)


def test_known_values_of_the_gamma_family() -> None:
    euler, zeta3 = 0.57721566490153286, 1.2020569031595943
    known = [
        (wg.digamma, 1.0, -euler),
        (wg.digamma, 0.5, -euler - 2 * math.log(2)),
        (wg.digamma, -0.5, -euler - 2 * math.log(2) + 2),
        (wg.digamma, 1e9, math.log(1e9) - 5e-10),
        (wg.digamma, 0.0, -INF),
        (wg.digamma, -0.0, INF),
        (wg.digamma, -3.0, NAN),
        (wg.digamma, INF, INF),
        (wg.digamma, -INF, NAN),
        (lambda x: wg.polygamma(1, x), 0.5, math.pi**2 / 2),
        (lambda x: wg.polygamma(1, x), -1.0, INF),
        (lambda x: x.polygamma(1), -1.5, math.pi**2 / 2 + 4 + 4 / 9),
        (lambda x: wg.polygamma(2, x), 1.0, -2 * zeta3),
        (lambda x: wg.polygamma(2, x), INF, -0.0),
        (wg.lgamma, 0.5, math.log(math.pi) / 2),
        (wg.lgamma, -2.0, INF),
        (wg.lgamma, 171.0, math.lgamma(171)),
        (wg.erfinv, 1.0, INF),
        (wg.erfinv, -1.0, -INF),
        (wg.erfinv, 1.5, NAN),
        (wg.erfinv, -0.0, -0.0),
    ]
    for dtype in FLOATS:
        eps = 8 * float(np.finfo(dtype).eps)
        for f, x, expected in known:
            y = f(wg.tensor([x], dtype)).numpy()
            np.testing.assert_allclose(y, [expected], rtol=eps, atol=eps, err_msg=f"{f} {x}")
            assert np.signbit(y[0]) == np.signbit(expected) or expected != 0
    # The whole range of erf that float64 tells from 1.
    x = np.concatenate([np.linspace(-5.8, 5.8, 201), 10.0 ** np.arange(-300, 0)])
    y = np.array([math.erf(v) for v in x])
    back = wg.erfinv(wg.tensor(y)).numpy()
    spacing = np.spacing(abs(y)) * math.sqrt(math.pi) / 2 * np.exp(x * x)
    assert (abs(back - x) <= spacing + 1e-15 * abs(x)).all()
    with pytest.raises(ValueError, match="polygamma: n is -1; expected a whole number from 0"):
        wg.polygamma(-1, wg.ones(1))
