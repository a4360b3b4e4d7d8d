"""The table of ops: one row (or a few) for each. From it test_ops.py and test_torch.py test values,
first and second gradients, strides, broadcasting, zero sizes, dtypes and kinks.

A row says how to call the op on tensors, what NumPy says in float64, where to draw its inputs from,
and which subgradient it states at its kinks. To add an op, add a row here (and its counterpart in
test_torch.py, unless that has its name); test_ops.py fails for an op that no row covers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import wengert as wg

Shapes = tuple[tuple[int, ...], ...]  # one for each input


@dataclass(frozen=True)
class Draw:
    """Where an input is drawn from: [low, high], at a distance from the points `avoid`."""

    low: float = -3.0
    high: float = 3.0
    avoid: tuple[float, ...] = ()
    kind: str = "f"  # f: the floating dtype under test, i: int64, b: bool

    def __call__(self, random: np.random.Generator, shape: tuple[int, ...]) -> Any:
        if self.kind == "i":
            return np.asarray(random.integers(int(self.low), int(self.high), shape))
        if self.kind == "b":
            return np.asarray(random.random(shape) < 0.5)
        x = np.asarray(random.uniform(self.low, self.high, shape))
        for point in self.avoid:
            x = np.where(abs(x - point) < 0.05, point + 0.1, x)
        return x


REAL = Draw()
POSITIVE = Draw(0.2, 3.0)
NOT_ZERO = Draw(avoid=(0.0,))
NOT_WHOLE = Draw(avoid=tuple(np.arange(-3.0, 3.1)))
NOT_HALF = Draw(avoid=tuple(np.arange(-3.5, 3.6)))
NO_POLE = Draw(avoid=(0.0, -1.0, -2.0, -3.0))
WITHIN_1 = Draw(-0.9, 0.9)
MASK = Draw(kind="b")
LABELS = Draw(0, 5, kind="i")
INTEGERS = Draw(-9, 9, kind="i")
DIVISORS = Draw(1, 9, kind="i")

# More than one SIMD vector, a tail, an axis of size one, none, and zero sizes.
ONE: tuple[Shapes, ...] = (
    ((),),
    ((1,),),
    ((37,),),
    ((2, 3),),
    ((3, 1, 4),),
    ((0,),),
    ((2, 0, 3),),
)
TWO: tuple[Shapes, ...] = (
    ((35,), (35,)),
    ((3, 1), (1, 4)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((), ()),
    ((2, 1, 3), (4, 1)),
    ((3,), (2, 2, 3)),
    ((0,), (1,)),
    ((2, 0), (2, 1)),
)


@dataclass(frozen=True)
class Row:
    """One op. Values must lie within ulps * eps * max(|reference|, near) of the reference."""

    op: str  # its name in wengert._core.ops()
    call: Callable[..., Any]  # over tensors
    reference: Callable[..., Any]  # over NumPy arrays, in float64
    inputs: tuple[Draw, ...]
    shapes: tuple[Shapes, ...]
    variant: str = ""
    kinks: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...] = ()  # (inputs, their gradients)
    gradient: bool = True  # smooth where drawn, so that differences tell the gradient
    elementwise: bool = False
    result: str | None = None  # dtype; None: the inputs'
    ulps: float = 4.0
    near: float = 0.0  # for sums and differences, whose error is relative to their terms
    covers: tuple[str, ...] = ()  # ops that run only inside others
    made_by: str | None = ""  # the last line's op, where it is not `op`; None: several lines

    @property
    def name(self) -> str:
        return f"{self.op} {self.variant}".strip()

    def draw(self, shapes: Shapes, seed: int = 0) -> list[Any]:
        random = np.random.default_rng([seed, *map(ord, self.op)])
        return [draw(random, shape) for draw, shape in zip(self.inputs, shapes, strict=True)]


# ---- references that NumPy lacks -----------------------------------------------------------------

erf = np.vectorize(math.erf, otypes=[float])
erfc = np.vectorize(math.erfc, otypes=[float])


def floats(f: Any) -> Any:
    return np.vectorize(f, otypes=[float])


@floats
def lgamma(x: float) -> float:
    return math.inf if x <= 0 and x % 1 == 0 else math.lgamma(x)


@floats
def erfinv(x: float) -> float:
    """By halves, of erfc, which has all digits far from 0."""
    if not abs(x) < 1:
        return math.copysign(math.inf, x) if abs(x) == 1 else math.nan
    if abs(x) < 1e-8:
        return x * math.sqrt(math.pi) / 2
    low, high = 0.0, 7.0
    for _ in range(80):
        y = (low + high) / 2
        below = math.erf(y) < abs(x) if abs(x) < 0.5 else math.erfc(y) > 1 - abs(x)
        low, high = (y, high) if below else (low, y)
    return math.copysign(low, x)


@floats
def polygamma(n: int, x: float) -> float:
    """Derivative n of digamma: what the poles on both sides of 40 add up to, by Euler and
    Maclaurin beyond it."""
    if x != x or x == -math.inf:
        return math.nan
    if x <= 0 and x % 1 == 0:
        return math.copysign(math.inf, -x) if n % 2 == 0 and x == 0 else (math.nan, math.inf)[n % 2]
    sign, f = (-1) ** (n + 1), math.factorial
    y = 0.0
    if x < -1e6:  # as far from a pole as it is; the cotangent's share
        return polygamma(n, x % 1) + sign * (polygamma(n, 1 - x % 1) - polygamma(n, 1 - x))
    while x < 40:
        y, x = y + f(n) / x ** (n + 1), x + 1
    y += f(n - 1) * x**-n if n else -math.log(x)
    y += f(n) / 2 * x ** -(n + 1)
    for k, bernoulli in enumerate((1 / 6, -1 / 30, 1 / 42, -1 / 30), 1):
        y += bernoulli * f(2 * k + n - 1) / f(2 * k) * x ** -(2 * k + n)
    return sign * y


def times(a: Any, b: Any) -> Any:
    """a * b, and 0 where a is 0."""
    return np.where(a == 0, 0, a * b)


def mish(x: Any) -> Any:
    return times(np.tanh(np.logaddexp(x, 0.0)), x)


def xlogy(a: Any, b: Any) -> Any:
    return np.where(np.isnan(b), b, times(a, np.log(b)))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis=tuple(range(x.ndim)) if axis is None else axis)


def softmax(x: Any, axis: int = -1) -> Any:
    y = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return y / y.sum(axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    y = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return y - np.log(np.exp(y).sum(axis=axis, keepdims=True))


def gelu_tanh(x: Any) -> Any:
    return times(1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)), 0.5 * x)


def bce(a: Any, b: Any) -> Any:
    return times(np.where(a > 0, 1 - b, -b), a) + np.log1p(np.exp(-abs(a)))


def put(x: Any, value: Any, key: Any) -> Any:
    """A copy of x with x[key] = value, of tensors and of arrays."""
    y = x.clone() if isinstance(x, wg.Tensor) else x.copy()
    y[key] = value
    return y


def scattered(x: Any, index: Any, value: Any, fold: str, include_self: bool) -> Any:
    """Along axis 1, one value at a time."""
    y, counts = x.copy(), np.ones(x.shape) * include_self
    folds = {"set": lambda a, b: b, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}
    for at in np.ndindex(index.shape):
        to = (at[0], index[at], *at[2:])
        y[to] = folds.get(fold, np.add)(y[to], value[at]) if counts[to] else value[at]
        counts[to] += 1
    return y / np.maximum(counts, 1) if fold == "mean" else y


def layer_norm(x: Any, w: Any = 1.0, b: Any = 0.0, eps: float = 1e-5) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps) * w + b


def batch_norm(x: Any, w: Any, b: Any) -> Any:
    y = layer_norm(np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)).reshape(x.shape[1], len(x), -1)
    return np.moveaxis(y, 0, 1).reshape(x.shape) * w[:, None] + b[:, None]


def windows_of(x: Any, size: Any, stride: Any, padding: Any, dilation: Any, fill: float) -> Any:
    """(..., windows, elements of a window) over the last axes, one element at a time."""
    n = len(size)
    x = np.pad(x, [(0, 0)] * (x.ndim - n) + [(p, p) for p in padding], constant_values=fill)
    counts = [
        (have - d * (k - 1) - 1) // s + 1
        for have, k, s, d in zip(x.shape[-n:], size, stride, dilation, strict=True)
    ]
    y = np.empty((*x.shape[:-n], *counts, *size), x.dtype)
    for o in np.ndindex(*counts):
        for t in np.ndindex(*size):
            at = [i * s + j * d for i, s, j, d in zip(o, stride, t, dilation, strict=True)]
            y[(..., *o, *t)] = x[(..., *at)]
    return y


def convolution(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    n, (_, per_group, *size) = w.ndim - 2, w.shape
    v = windows_of(x, size, stride, padding, dilation, 0.0)
    parts = []
    for g in range(groups):
        inputs = v[:, g * per_group : (g + 1) * per_group]
        outputs = w[g * len(w) // groups : (g + 1) * len(w) // groups]
        axes = [1, *range(2 + n, 2 + 2 * n)]
        y = np.tensordot(inputs, outputs, (axes, [1, *range(2, 2 + n)]))
        parts.append(np.moveaxis(y, -1, 1))
    return np.concatenate(parts, 1)


def transposed(g: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Each element of g adds a multiple of its kernel."""
    (n, _, *sizes), (_, per_group, *size) = g.shape, w.shape
    whole = [
        (m - 1) * s + d * (k - 1) + 1
        for m, s, d, k in zip(sizes, stride, dilation, size, strict=True)
    ]
    y = np.zeros((n, per_group * groups, *whole))
    for c in range(len(w)):
        first = c // (len(w) // groups) * per_group
        for p in np.ndindex(*sizes):
            for t in np.ndindex(*size):
                at = [i * s + j * d for i, s, j, d in zip(p, stride, t, dilation, strict=True)]
                y[(slice(None), slice(first, first + per_group), *at)] += np.multiply.outer(
                    g[(slice(None), c, *p)], w[(c, slice(None), *t)]
                )
    cut = [slice(p, size - p) for p, size in zip(padding, whole, strict=True)]
    return y[(slice(None), slice(None), *cut)]


def attention(q: Any, k: Any, v: Any, mask: Any = 0.0, causal: bool = False) -> Any:
    """Rows without a key that may be looked at are zeros."""
    s = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    s = np.where(mask, s, -np.inf) if np.asarray(mask).dtype == bool else s + mask
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    top = np.max(s, axis=-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isfinite(top), top, 0))
    total = p.sum(axis=-1, keepdims=True)
    return p / np.where(total == 0, 1, total) @ v


# ---- the table -----------------------------------------------------------------------------------


def unary(op: str, reference: Any, draw: Draw = REAL, call: Any = None, **more: Any) -> Row:
    call = call or getattr(wg, op)
    covers = (*more.pop("covers", ()), f"{op}_vjp")
    return Row(op, call, reference, (draw,), ONE, elementwise=True, covers=covers, **more)


def binary(
    op: str, reference: Any, a: Draw = REAL, b: Draw = REAL, call: Any = None, **more: Any
) -> Row:
    return Row(op, call or getattr(wg, op), reference, (a, b), TWO, elementwise=True, **more)


def comparison(op: str, reference: Any) -> Row:
    draw = Draw(-2, 3, kind="i")  # many are equal
    return binary(op, reference, draw, draw, gradient=False, result="bool")


def along(op: str, reference: Any, draw: Draw = REAL, **more: Any) -> list[Row]:
    """A reduction over all axes, the last, the first, and two that lie apart, kept."""
    matrix, cube = ((3, 5),), ((3, 2, 4),)
    # the root of no variance has no gradient
    one = () if op == "std" else (((),), ((4, 1),))
    call = getattr(wg, op)
    several = op not in ("argmax", "argmin")
    f, r = call, reference
    rows = [
        ("", lambda x: f(x), lambda x: r(x), (*one[:1], ((6,),), matrix, cube)),
        ("last", lambda x: f(x, -1), lambda x: r(x, axis=-1), (*one[1:], ((0, 3),), cube, matrix)),
        ("first", lambda x: f(x, axis=0), lambda x: r(x, axis=0), (matrix, cube, ((2, 0),))),
    ]
    if several:
        rows.append(
            (
                "apart",
                lambda x: f(x, axis=(0, 2), keepdims=True),
                lambda x: r(x, axis=(0, 2), keepdims=True),
                (cube, ((2, 0, 3),) if op in ("sum", "prod", "any", "all") else cube),
            )
        )
        rows.append(
            (
                "middle",
                lambda x: f(x, axis=-2, keepdims=True),
                lambda x: r(x, axis=-2, keepdims=True),
                (cube,),
            )
        )
    return [
        Row(op, c, e, (draw,), shapes, variant=variant, **more) for variant, c, e, shapes in rows
    ]


def scan(op: str, reference: Any, **more: Any) -> list[Row]:
    """Along the last axis, the first, and one between."""
    call = getattr(wg, op)
    if op in ("cummax", "cummin"):
        call = lambda x, axis: getattr(wg, op)(x, axis).values  # noqa: E731
    return [
        Row(
            op,
            lambda x, axis=axis: call(x, axis),
            lambda x, axis=axis: reference(x, axis=axis),
            (REAL,),
            shapes,
            variant=f"axis {axis}",
            covers=("recurrence",) if op in ("cumprod", "logcumsumexp") else (),
            **more,
        )
        for axis, shapes in (
            (-1, (((1,),), ((21,),), ((3, 5),), ((0, 3),))),
            (0, (((4, 3),), ((2, 0),))),
            (-2, (((3, 2, 4),),)),
        )
    ]


def row_wise(op: str, reference: Any, axis: int) -> Row:
    return Row(
        op,
        lambda x: getattr(wg, op)(x, axis),
        lambda x: reference(x, axis),
        (REAL,),
        (((2, 5),), ((3, 2, 4),), ((6, 1),), ((0, 3),)),
        variant=f"axis {axis}",
        near=1.0,
        covers=(f"{op}_vjp",),
        made_by="" if axis == -1 else None,
    )


NAN, INF = math.nan, math.inf


# Shapes, stride, padding, dilation, groups; of one to three axes, depthwise, with strides that miss
# inputs, and without images.
CONVOLUTIONS: list[tuple[Shapes, Any, Any, Any, int]] = [
    (((2, 3, 7), (4, 3, 3)), (1,), (1,), (1,), 1),
    (((2, 2, 9), (2, 1, 2)), (3,), (0,), (2,), 2),
    (((2, 2, 5, 6), (5, 2, 3, 2)), (1, 2), (1, 0), (1, 2), 1),
    (((1, 4, 5, 5), (8, 2, 1, 1)), (2, 2), (0, 0), (1, 1), 2),
    (((2, 3, 6, 5), (3, 1, 3, 3)), (2, 1), (1, 1), (1, 1), 3),
    (((1, 2, 3, 4, 4), (4, 2, 2, 3, 2)), (1, 2, 1), (1, 1, 0), (1, 1, 2), 1),
    (((0, 2, 4), (3, 2, 2)), (1,), (0,), (1,), 1),
]


def convolutions() -> list[Row]:
    rows = []
    for shapes, *window in CONVOLUTIONS:
        axes = len(shapes[1]) - 2
        conv = getattr(wg, f"conv{axes}d")
        turned = getattr(wg, f"conv_transpose{axes}d")
        stride, padding, dilation, groups = window
        rows.append(
            Row(
                "convolution",
                lambda x, w, f=conv, s=stride, p=padding, d=dilation, g=groups: f(
                    x, w, None, s, p, d, g
                ),
                lambda x, w, a=tuple(window): convolution(x, w, *a),
                (REAL, REAL),
                (shapes,),
                f"{shapes}",
                near=60.0,
                covers=("convolution_input", "convolution_weight"),
            )
        )
        x = shapes[0]
        rows.append(
            Row(
                "convolution_input",
                lambda x, w, f=turned, s=stride, p=padding, d=dilation, g=groups: f(
                    x, w, None, s, p, 0, g, d
                ),
                lambda x, w, a=tuple(window): transposed(x, w, *a),
                (REAL, REAL),
                (((x[0], shapes[1][0], *x[2:]), shapes[1]),),
                f"{shapes}",
                near=60.0,
            )
        )
    return rows


def pools() -> list[Row]:
    places = ((2, 2), (2, 1), (1, 1), (1, 2))  # size, stride, padding, dilation

    def largest(x: Any, size: Any, stride: Any, padding: Any, dilation: Any) -> Any:
        v = windows_of(x, size, stride, padding, dilation, -np.inf)
        return v.max(axis=tuple(range(v.ndim - len(size), v.ndim)))

    def columns(x: Any, size: Any, stride: Any, padding: Any, dilation: Any) -> Any:
        v = windows_of(x, size, stride, padding, dilation, 0)
        n, c = v.shape[:2]
        return np.moveaxis(v, (4, 5), (2, 3)).reshape(n, c * size[0] * size[1], -1)

    size, stride, padding, dilation = places
    return [
        Row(
            "max_pool",
            lambda x: wg.max_pool2d(x, size, stride, padding, dilation),
            lambda x: largest(x, *places),
            (REAL,),
            (((2, 3, 5, 6),), ((1, 1, 3, 3),), ((0, 2, 4, 4),)),
        ),
        Row(
            "windows",
            lambda x: wg.unfold(x, size, dilation, padding, stride),
            lambda x: columns(x, *places),
            (REAL,),
            (((2, 3, 5, 6),),),
            made_by=None,
            covers=("overlap_add",),
        ),
        Row(
            "overlap_add",
            lambda x: wg.fold(x, (4, 4), (2, 2), 1, 0, (1, 2)),
            lambda x: transposed(
                x.reshape(2, 4, 3, 2), np.eye(4).reshape(4, 1, 2, 2), (1, 2), (0, 0), (1, 1), 1
            ),
            (REAL,),
            (((2, 4, 6),),),
            made_by=None,
        ),
    ]


def recurrent(cell: str, x: Any, w: Any, *state: Any, reverse: bool = False) -> Any:
    """A layer over time, unit by unit as the papers have it; of lstm both states."""
    h, rest = state[0], state[1:]
    y = np.empty((1 + (cell == "lstm"), *x.shape[:2], h.shape[1]))
    for t in range(len(x))[:: -1 if reverse else 1]:
        p = h @ w.T
        if cell == "lstm":
            i, f, u, o = np.split(x[t] + p, 4, -1)
            c = sigmoid(f) * rest[0] + sigmoid(i) * np.tanh(u)
            h, rest = sigmoid(o) * np.tanh(c), (c,)
        elif cell == "gru":
            (xr, xz, xn), (pr, pz, pn) = np.split(x[t], 3, -1), np.split(p, 3, -1)
            z = sigmoid(xz + pz)
            h = (1 - z) * np.tanh(xn + sigmoid(xr + pr) * (pn + rest[0])) + z * h
        else:
            h = np.tanh(x[t] + p) if cell == "rnn_tanh" else np.maximum(x[t] + p, 0)
        y[:, t] = [h, *rest][: len(y)]
    return y if cell == "lstm" else y[0]


def recurrences() -> list[Row]:
    def row(cell: str, gates: int, more: Any, reverse: bool) -> Row:
        def shapes(times: int, n: int, h: int) -> Shapes:
            ends = {"c": (n, h), "b": (h,)}
            return ((times, n, gates * h), (gates * h, h), (n, h), *(ends[k] for k in more))

        return Row(
            cell,
            lambda *given: wg._core._recurrent(cell, given, reverse),
            lambda *given: recurrent(cell, *given, reverse=reverse),
            (REAL, Draw(-0.5, 0.5), *[REAL] * (1 + len(more))),
            (shapes(3, 2, 4), shapes(1, 1, 1), shapes(2, 5, 19), shapes(2, 0, 3)),
            "reverse" if reverse else "",
            near=40.0,
            covers=(f"{cell}_vjp",),
        )

    cells = (("rnn_tanh", 1, ""), ("rnn_relu", 1, ""), ("lstm", 4, "c"), ("gru", 3, "b"))
    return [row(*cell, reverse) for cell in cells for reverse in (False, True)]


MATMUL: tuple[Shapes, ...] = (
    ((3, 4), (4, 2)), ((4,), (4,)), ((4,), (4, 2)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 1)), ((3, 4), (2, 1, 4, 2)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)), ((0, 4), (4, 2)), ((3, 0), (0, 2)), ((0, 3, 4), (4, 2)),
)  # fmt: skip

EINSUMS: tuple[tuple[str, Shapes], ...] = (
    ("ij,jk->ik", ((2, 3), (3, 4))), ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))),
    ("ij->ji", ((2, 3),)), ("ii->i", ((3, 3),)), ("ii", ((3, 3),)), ("i,j->ij", ((3,), (4,))),
    ("ij,ij->", ((2, 3), (2, 3))),
    ("...ij,...jk", ((2, 3, 4), (4, 5))), ("bhqd,bhkd->bhqk", ((2, 3, 4, 5), (2, 3, 6, 5))),
    ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 2))), ("ijk,k", ((2, 3, 4), (4,))),
    ("ij,ij->ij", ((2, 3), (1, 3))), ("ij,ij,ij->i", ((1, 3), (2, 3), (2, 1))),
)  # fmt: skip

ROWS: list[Row] = [
    # one input
    unary("neg", np.negative),
    unary("abs", np.abs, NOT_ZERO, kinks=(((0.0,), (0.0,)), ((-0.0,), (0.0,)))),
    unary("sign", np.sign, NOT_ZERO, kinks=(((0.0,), (0.0,)),)),
    unary("exp", np.exp),
    unary("expm1", np.expm1),
    unary("log", np.log, POSITIVE, near=0.1, kinks=(((0.0,), (INF,)),)),
    unary("log1p", np.log1p, Draw(-0.8, 3.0)),
    unary("exp2", np.exp2),
    unary("log2", np.log2, POSITIVE, near=0.1, kinks=(((0.0,), (INF,)),)),
    unary("log10", np.log10, POSITIVE, near=0.1, kinks=(((0.0,), (INF,)),)),
    unary("sqrt", np.sqrt, POSITIVE, kinks=(((0.0,), (INF,)),)),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), POSITIVE),
    unary("reciprocal", np.reciprocal, NOT_ZERO, kinks=(((0.0,), (-INF,)), ((INF,), (0.0,)))),
    unary("square", np.square),
    unary("sin", np.sin, near=0.1),
    unary("cos", np.cos, near=0.1),
    unary("tan", np.tan, Draw(-1.2, 1.2)),
    unary("asin", np.arcsin, WITHIN_1, kinks=(((1.0,), (INF,)),)),
    unary("acos", np.arccos, WITHIN_1, kinks=(((1.0,), (-INF,)),)),
    unary("atan", np.arctan, kinks=(((INF,), (0.0,)),)),
    unary("sinh", np.sinh),
    unary("cosh", np.cosh, kinks=(((0.0,), (0.0,)),)),
    unary("asinh", np.arcsinh, kinks=(((1e30,), (1e-30,)),)),
    unary("acosh", np.arccosh, Draw(1.2, 5.0), near=0.1, kinks=(((1.0,), (INF,)),)),
    unary("atanh", np.arctanh, WITHIN_1, kinks=(((1.0,), (INF,)),)),
    unary("tanh", np.tanh),
    unary("sigmoid", sigmoid),
    unary(
        "relu",
        lambda x: np.maximum(x, 0),
        NOT_ZERO,
        kinks=(((0.0,), (0.0,)),),
        covers=("flat",),  # its second gradient
    ),
    unary(
        "leaky_relu",
        lambda x: np.where(x > 0, x, 0.01 * x),
        NOT_ZERO,
        kinks=(((0.0,), (0.01,)),),
    ),
    unary(
        "leaky_relu",
        lambda x: np.where(x > 0, x, 0.3 * x),
        NOT_ZERO,
        lambda x: wg.leaky_relu(x, 0.3),
        variant="0.3",
        kinks=(((0.0,), (0.3,)),),
    ),
    unary("elu", lambda x: np.where(x > 0, x, np.expm1(x)), NOT_ZERO, kinks=(((0.0,), (1.0,)),)),
    unary(
        "elu",
        lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)),
        NOT_ZERO,
        lambda x: wg.elu(x, 0.5),
        variant="0.5",
        kinks=(((0.0,), (0.5,)),),
    ),
    unary(
        "gelu",
        lambda x: times(0.5 * erfc(-x / math.sqrt(2)), x),
        near=1.0,
        kinks=(((-INF,), (0.0,)), ((INF,), (1.0,))),
    ),
    unary(
        "gelu_tanh",
        gelu_tanh,
        call=lambda x: wg.gelu(x, "tanh"),
        near=1.0,
        kinks=(((-INF,), (0.0,)), ((INF,), (1.0,))),
    ),
    unary(
        "silu",
        lambda x: times(sigmoid(x), x),
        kinks=(((-INF,), (0.0,)), ((INF,), (1.0,))),
    ),
    unary("mish", mish, kinks=(((-INF,), (0.0,)), ((INF,), (1.0,)))),
    unary(
        "hardswish",
        lambda x: times(np.clip(x + 3.0, 0.0, 6.0) / 6.0, x),
        Draw(-5.0, 5.0, avoid=(-3.0, 3.0)),
        kinks=(((-3.0,), (0.0,)), ((3.0,), (1.0,)), ((-INF,), (0.0,)), ((INF,), (1.0,))),
    ),
    unary("softplus", lambda x: np.logaddexp(x, 0.0)),
    unary("erf", erf),
    unary("erfinv", erfinv, WITHIN_1),
    unary("lgamma", lgamma, NO_POLE, near=1.0, ulps=10.0),
    unary("polygamma", lambda x: polygamma(0, x), NO_POLE, wg.digamma, near=1.0, ulps=20.0),
    unary(
        "polygamma",
        lambda x: polygamma(3, x),
        NO_POLE,
        lambda x: wg.polygamma(3, x),
        variant="3",
        near=1.0,
        ulps=20.0,
    ),
    unary(
        "clamp",
        lambda x: np.clip(x, -1.0, 2.0),
        Draw(avoid=(-1.0, 2.0)),
        lambda x: wg.clamp(x, -1.0, 2.0),
        kinks=(((-1.0,), (1.0,)), ((2.0,), (1.0,)), ((2.5,), (0.0,))),
    ),
    unary(
        "clamp",
        lambda x: np.maximum(x, 0.5),
        Draw(avoid=(0.5,)),
        lambda x: wg.clamp(x, min=0.5),
        variant="min",
    ),
    unary(
        "huber",
        lambda x: np.where(abs(x) < 1.5, x * x / 2, 1.5 * (abs(x) - 0.75)),
        Draw(avoid=(-1.5, 1.5)),
        lambda x: wg._core._huber(x, 1.5),
        kinks=(((-1.5,), (-1.5,)), ((1.5,), (1.5,)), ((INF,), (1.5,))),
    ),
    unary(
        "hardtanh",
        lambda x: np.clip(x, -1.0, 1.0),
        Draw(avoid=(-1.0, 1.0)),
        kinks=(((-1.0,), (0.0,)), ((1.0,), (0.0,)), ((0.5,), (1.0,))),
    ),
    unary(
        "hardtanh",
        lambda x: np.clip(x, 0.0, 2.0),
        Draw(avoid=(0.0, 2.0)),
        lambda x: wg.hardtanh(x, 0.0, 2.0),
        variant="0 to 2",
    ),
    unary("floor", np.floor, NOT_WHOLE, kinks=(((1.0,), (0.0,)),)),
    unary("ceil", np.ceil, NOT_WHOLE, kinks=(((1.0,), (0.0,)),)),
    unary("round", np.rint, NOT_HALF, kinks=(((0.5,), (0.0,)),)),
    unary("trunc", np.trunc, NOT_WHOLE, kinks=(((1.0,), (0.0,)),)),
    # two inputs, which broadcast
    binary("add", np.add),
    binary("sub", np.subtract),
    binary("mul", np.multiply, kinks=(((0.0, 3.0), (3.0, 0.0)),)),
    binary("div", np.divide, REAL, NOT_ZERO, covers=("over",)),  # its gradient
    binary(
        "times",
        times,
        call=wg._core._times,
        kinks=(((0.0, INF), (INF, 0.0)), ((3.0, INF), (INF, 3.0)), ((2.0, 0.0), (0.0, 2.0))),
    ),
    binary(
        "pow",
        np.power,
        POSITIVE,
        REAL,
        kinks=(
            ((0.0, 0.0), (0.0, 0.0)),
            ((0.0, 1.0), (1.0, 0.0)),
            ((0.0, 2.0), (0.0, 0.0)),
            ((0.0, 0.5), (INF, 0.0)),
            ((-2.0, 2.0), (-4.0, NAN)),
        ),
    ),
    Row(
        "pow",
        lambda x: x**3,
        lambda x: x**3,
        (NOT_ZERO,),
        ONE,
        variant="3",
        elementwise=True,
        kinks=(((0.0,), (0.0,)),),
    ),
    binary("maximum", np.maximum, kinks=(((1.0, 1.0), (0.5, 0.5)), ((1.0, 2.0), (0.0, 1.0)))),
    binary("minimum", np.minimum, kinks=(((1.0, 1.0), (0.5, 0.5)), ((1.0, 2.0), (1.0, 0.0)))),
    binary(
        "floor_divide",
        np.floor_divide,
        Draw(1, 3, avoid=(2.0,)),
        Draw(3.1, 7),
        kinks=(((4.0, 2.0), (0.0, 0.0)),),
    ),
    binary(
        "floor_divide",
        np.floor_divide,
        INTEGERS,
        DIVISORS,
        variant="integers",
        gradient=False,
        result="int64",
    ),
    binary(
        "remainder",
        np.remainder,
        Draw(-7, -4.1),
        Draw(4.2, 7),
        near=7.0,
        kinks=(((4.0, 2.0), (1.0, -2.0)), ((-5.0, 3.0), (1.0, 2.0))),
    ),
    binary(
        "remainder",
        np.remainder,
        INTEGERS,
        DIVISORS,
        variant="integers",
        gradient=False,
        result="int64",
    ),
    binary(
        "fmod", np.fmod, Draw(-7, -4.1), Draw(4.2, 7), near=7.0, kinks=(((-5.0, 3.0), (1.0, 1.0)),)
    ),
    binary("fmod", np.fmod, INTEGERS, DIVISORS, variant="integers", gradient=False, result="int64"),
    binary(
        "copysign",
        np.copysign,
        NOT_ZERO,
        NOT_ZERO,
        kinks=(((0.0, 2.0), (0.0, 0.0)), ((3.0, -0.0), (-1.0, 0.0))),
    ),
    # In float64 the next number is itself, within the ulps; test_ops.py counts them.
    binary("nextafter", np.nextafter, NOT_ZERO, NOT_ZERO),
    binary("atan2", np.arctan2, NOT_ZERO, NOT_ZERO, kinks=(((0.0, 0.0), (0.0, 0.0)),)),
    binary("hypot", np.hypot, NOT_ZERO, NOT_ZERO, kinks=(((0.0, 0.0), (0.0, 0.0)),)),
    binary(
        "logaddexp",
        np.logaddexp,
        near=3.0,
        kinks=(
            ((1.0, 1.0), (0.5, 0.5)),
            ((-INF, -INF), (0.5, 0.5)),
            ((INF, INF), (0.5, 0.5)),
            ((-INF, 2.0), (0.0, 1.0)),
        ),
    ),
    binary(
        "xlogy",
        xlogy,
        REAL,
        POSITIVE,
        near=0.1,
        kinks=(((0.0, 0.0), (0.0, 0.0)), ((2.0, 0.0), (-INF, INF))),
    ),
    binary(
        "bce_with_logits",
        bce,
        REAL,
        Draw(0, 1),
        wg.binary_cross_entropy_with_logits_elements,
        near=1.0,
        kinks=(((0.0, 1.0), (-0.5, 0.0)), ((-INF, 0.0), (0.0, INF)), ((INF, 1.0), (0.0, -INF))),
    ),
    comparison("eq", np.equal),
    comparison("ne", np.not_equal),
    comparison("lt", np.less),
    comparison("le", np.less_equal),
    comparison("gt", np.greater),
    comparison("ge", np.greater_equal),
    *(
        binary(op, reference, draw, draw, gradient=False, result=result, variant=variant)
        for op, reference in (
            ("bitwise_and", np.bitwise_and),
            ("bitwise_or", np.bitwise_or),
            ("bitwise_xor", np.bitwise_xor),
        )
        for draw, result, variant in ((INTEGERS, "int64", ""), (MASK, "bool", "bool"))
    ),
    *(
        binary(op, reference, INTEGERS, Draw(0, 70, kind="i"), gradient=False, result="int64")
        for op, reference in (
            ("bitwise_left_shift", np.left_shift),
            ("bitwise_right_shift", np.right_shift),
        )
    ),
    *(
        binary(
            op,
            getattr(np, name),
            Draw(-1, 2, kind="i"),
            Draw(-1, 2, kind="i"),
            getattr(wg, name),
            variant=name,
            gradient=False,
            result="bool",
        )
        for op, name in (
            ("bitwise_and", "logical_and"),
            ("bitwise_or", "logical_or"),
            ("bitwise_xor", "logical_xor"),
        )
    ),
    Row(
        "eq",
        wg.logical_not,
        np.logical_not,
        (MASK,),
        ONE,
        variant="logical_not",
        gradient=False,
        elementwise=True,
        result="bool",
    ),
    Row(
        "where",
        wg.where,
        np.where,
        (MASK, REAL, REAL),
        (
            ((4,), (4,), (4,)),
            ((3, 1), (4,), ()),
            ((), (2, 3), (3,)),
            ((2, 1), (1, 3), (2, 3)),
            ((0,), (1,), (0,)),
        ),
        elementwise=True,
    ),
    # views and copies
    Row(
        "reshape",
        lambda x: x.reshape(3, -1),
        lambda x: x.reshape(3, -1),
        (REAL,),
        (((12,),), ((2, 6),), ((3, 1),), ((3, 2, 2),)),
    ),
    Row(
        "permute",
        lambda x: x.permute(2, 0, 1),
        lambda x: x.transpose(2, 0, 1),
        (REAL,),
        (((2, 3, 4),), ((2, 0, 4),)),
    ),
    Row(
        "expand",
        lambda x: x.broadcast_to((2, 3, 4)),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
        (REAL,),
        (((),), ((4,),), ((3, 1),), ((2, 1, 1),), ((2, 3, 4),)),
        covers=("sum",),
        made_by=None,
    ),
    Row(
        "slice",
        lambda x: x[1:4],
        lambda x: x[1:4],
        (REAL,),
        (((7,),), ((5, 2),), ((5, 0),)),
        covers=("embed",),
    ),
    Row(
        "slice",
        lambda x: x[..., ::-2],
        lambda x: x[..., ::-2],
        (REAL,),
        (((7,),), ((2, 6),)),
        variant="negative step",
        covers=("embed",),
    ),
    Row(
        "diagonal",
        lambda x: x.diagonal(1, -1, 0),
        lambda x: np.diagonal(x, 1, -1, 0),
        (REAL,),
        (((3, 4),), ((4, 2, 3),), ((2, 0),)),
        covers=("put_region",),
    ),
    Row("copy", lambda x: x.clone(), np.copy, (REAL,), ONE),
    Row(
        "copy",
        lambda x: x.T.contiguous(),
        lambda x: x.T,
        (REAL,),
        (((3, 4),),),
        variant="transposed",
    ),
    Row(
        "concatenate",
        lambda a, b: wg.concatenate([a, b, a], 1),
        lambda a, b: np.concatenate([a, b, a], 1),
        (REAL, REAL),
        (((2, 3), (2, 1)), ((2, 0), (2, 2)), ((0, 1), (0, 1))),
    ),
    Row(
        "concatenate",
        lambda a, b: wg.stack([a, b], -1),
        lambda a, b: np.stack([a, b], -1),
        (REAL, REAL),
        (((2, 3), (2, 3)), ((), ())),
        variant="stack",
    ),
    Row(
        "take_rows",
        lambda x: x[[2, 0, 2, -1]],
        lambda x: x[[2, 0, 2, -1]],
        (REAL,),
        (((4,),), ((3, 2),), ((3, 0),)),
        covers=("ravel_index", "put_rows"),
    ),
    Row(
        "take_rows",
        lambda x: x[:, [[0, 2], [2, 2]], None, [1, 0]],
        lambda x: x[:, [[0, 2], [2, 2]], None, [1, 0]],
        (REAL,),
        (((2, 3, 2),),),
        variant="apart",
        made_by=None,
    ),
    Row(
        "put_rows",
        lambda x, v: put(x, v, [2, 0]),
        lambda x, v: put(x, v, [2, 0]),
        (REAL, REAL),
        (((4, 2), (2, 2)), ((3,), (2,)), ((3, 2), (1, 2)), ((3, 2), ())),
    ),
    Row(
        "put_rows",
        lambda x, v: put(x, v, [1, 0, 1]),
        lambda x, v: put(x, v, [1, 0, 1]),
        (REAL, REAL),
        (((4, 2), (3, 2)),),
        variant="repeated",
    ),
    Row(
        "put_region",
        lambda x, v: put(x, v, np.s_[1:, ::2]),
        lambda x, v: put(x, v, np.s_[1:, ::2]),
        (REAL, REAL),
        (((3, 4), (2, 2)), ((3, 2), ())),
        covers=("region",),
    ),
    Row(
        "put_rows",
        lambda x, v: put(x, v, np.s_[1:, ::2]),
        lambda x, v: put(x, v, np.s_[1:, ::2]),
        (REAL, REAL),
        (((3, 4), (2, 2)),),
        variant="slice",
        made_by="put_region",
    ),
    Row(
        "cast",
        lambda x: x.to("float64"),
        lambda x: x,
        (REAL,),
        ONE,
        gradient=False,
        result="float64",
        made_by=None,
    ),
    Row(
        "full",
        lambda: wg.full((2, 3), 1.5),
        lambda: np.full((2, 3), 1.5),
        (),
        ((),),
        gradient=False,
        result="float32",
        made_by=None,
    ),
    Row(
        "arange",
        lambda: wg.arange(1, 8, 2),
        lambda: np.arange(1, 8, 2),
        (),
        ((),),
        gradient=False,
        result="int64",
        made_by=None,
    ),
    # reductions
    *along("sum", np.sum, near=10.0),
    *along("mean", np.mean, near=10.0),
    *along("prod", np.prod, NOT_ZERO, ulps=16.0),
    *along("max", np.max),
    *along("min", np.min),
    *along("var", np.var, near=10.0, made_by=None),
    *along("std", np.std, near=10.0, made_by=None),
    *along("logsumexp", logsumexp, near=3.0, made_by=None),
    *along("argmax", np.argmax, gradient=False, result="int64"),
    *along("argmin", np.argmin, gradient=False, result="int64"),
    *along("any", np.any, MASK, gradient=False, result="bool"),
    *along("all", np.all, MASK, gradient=False, result="bool"),
    # scans
    *scan("cumsum", np.cumsum, near=20.0),
    *scan("cumprod", np.cumprod, ulps=16.0),
    *scan("logcumsumexp", np.logaddexp.accumulate, near=3.0),
    *scan("cummax", np.maximum.accumulate),
    *scan("cummin", np.minimum.accumulate),
    Row(
        "sub",
        lambda x, y: wg.diff(x, 2, 0, prepend=1.5, append=y),
        lambda x, y: np.diff(x, 2, 0, prepend=1.5, append=y),
        (REAL, REAL),
        (((4,), (2,)), ((3, 2), (1, 2)), ((0, 2), (1, 2))),
        variant="diff",
        near=10.0,
    ),
    # products and rows
    *convolutions(),
    *recurrences(),
    *pools(),
    *(
        Row(
            "matmul",
            wg.matmul,
            np.matmul,
            (REAL, REAL),
            (shapes,),
            f"{shapes}",
            near=60.0,
            made_by=None,
        )
        for shapes in MATMUL
    ),
    Row(
        "linear",
        wg.linear,
        lambda x, weight, bias: x @ np.swapaxes(weight, 0, 1) + bias,
        (REAL, REAL, REAL),
        (((3, 4), (2, 4), (2,)), ((0, 4), (2, 4), (2,)), ((3, 0), (2, 0), (2,))),
        near=60.0,
    ),
    Row(
        "linear",
        wg.linear,
        lambda x, weight, bias: x @ np.swapaxes(weight, 0, 1) + bias,
        (REAL, REAL, REAL),
        (((4,), (2, 4), (2,)), ((2, 3, 1), (5, 1), (5,))),
        "of other shapes",
        near=60.0,
        made_by="reshape",
    ),
    *(
        row_wise(op, r, axis)
        for op, r in (("softmax", softmax), ("log_softmax", log_softmax))
        for axis in (-1, 0)
    ),
    Row(
        "cross_entropy",
        lambda x, t: wg.cross_entropy(x, t, reduction="none"),
        lambda x, t: -log_softmax(x)[np.arange(len(t)), t],
        (REAL, LABELS),
        (((3, 5), (3,)), ((1, 6), (1,)), ((0, 5), (0,))),
        near=3.0,
        covers=("cross_entropy_vjp",),
    ),
    Row(
        "cross_entropy",
        lambda x, t: wg.cross_entropy(x, t, label_smoothing=0.1),
        lambda x, t: (
            -np.mean(0.9 * log_softmax(x)[np.arange(len(t)), t] + 0.1 * log_softmax(x).mean(1))
        ),
        (REAL, LABELS),
        (((3, 5), (3,)),),
        variant="smoothed",
        near=3.0,
        made_by=None,
    ),
    Row(
        "cross_entropy",
        wg.cross_entropy,
        lambda x, p: -np.mean((p * log_softmax(x)).sum(1)),
        (REAL, POSITIVE),
        (((3, 5), (3, 5)),),
        variant="probabilities",
        near=20.0,
        made_by=None,
    ),
    Row(
        "embedding",
        lambda w, ids: wg.embedding(ids, w),
        lambda w, ids: w[ids],
        (REAL, LABELS),
        (((5, 3), (7,)), ((6, 2), (2, 3)), ((5, 4), ()), ((5, 2), (0,)), ((5, 130), (40,))),
        covers=("embedding_vjp",),
    ),
    Row(
        "embedding",
        lambda w, ids: wg.embedding(ids, w, padding_idx=5),
        lambda w, ids: w[ids],
        (REAL, LABELS),  # 0 to 4: the row 5 is never asked for
        (((6, 3), (7,)),),
        variant="padding",
        covers=("embedding_vjp",),
    ),
    Row(
        "one_hot",
        lambda ids: wg.one_hot(ids, 5, "float32"),
        lambda ids: np.eye(5)[ids],
        (LABELS,),
        (((7,),), ((2, 3),), ((),), ((0,),)),
        gradient=False,
        result="float32",
    ),
    Row(
        "gather",
        lambda x, i: x.gather(1, i),
        lambda x, i: np.take_along_axis(x, i, 1),
        (REAL, LABELS),
        (((3, 5), (3, 2)), ((2, 5, 3), (2, 4, 3))),
        covers=("scatter",),
    ),
    *(
        Row(
            "scatter",
            lambda x, i, v, r=r, s=s: x.scatter_reduce(1, i, v, r, include_self=s),
            lambda x, i, v, r=r, s=s: scattered(x, i, v, r, s),
            (REAL, LABELS, REAL),
            (((3, 5), (3, 6), (3, 6)), ((2, 6, 3), (1, 4, 2), (1, 4, 2)), ((2, 5), (2, 0), (2, 0))),
            variant=f"{r}{'' if s else ' without self'}",
            near=10.0,
            covers=("gather",),
            made_by=None if r == "mean" else "scatter",
        )
        for r in ("sum", "prod", "mean", "amax", "amin")
        for s in (True, False)
    ),
    Row(
        "scatter",
        lambda x, i, v: x.scatter(0, i, v),
        lambda x, i, v: scattered(x.T, i.T, v.T, "set", True).T,
        (REAL, LABELS, REAL),
        (((5, 4), (3, 4), (3, 4)),),
        variant="set",
        covers=("gather",),
    ),
    Row(
        "scatter",
        lambda x, v: x.index_add(0, wg.tensor([2, 0, 2]), v),
        lambda x, v: x + np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]]) @ v,
        (REAL, REAL),
        (((4, 3), (3, 3)), ((4, 0), (3, 0))),
        variant="index_add",
        near=10.0,
        covers=("gather",),
    ),
    # order
    *(
        Row(
            "sort",
            lambda x, axis=axis: wg.sort(x, axis).values,
            lambda x, axis=axis: np.sort(x, axis),
            (REAL,),
            shapes,
            variant=f"axis {axis}",
            made_by="" if axis == -1 else None,
        )
        for axis, shapes in (
            (-1, (((7,),), ((3, 2, 4),), ((2, 0),), ((2, 150),))),
            (0, (((3, 4),), ((0, 3),), ((4, 2, 3),))),
        )
    ),
    Row(
        "sort",
        lambda x: wg.sort(x, descending=True).values,
        lambda x: -np.sort(-x),
        (REAL,),
        (((7,),), ((2, 80),)),
        variant="descending",
    ),
    Row(
        "sort",
        wg.argsort,
        lambda x: np.reshape(np.argsort(x, kind="stable"), x.shape),
        (REAL,),
        (((7,),), ((3, 2, 4),), ((),), ((0,),)),
        variant="indices",
        gradient=False,
        result="int64",
    ),
    Row(
        "sort",
        lambda x: wg.topk(x, 3).values,
        lambda x: -np.sort(-x)[..., :3],
        (REAL,),
        (((7,),), ((2, 4),), ((3, 90),)),
        variant="topk",
    ),
    Row(
        "sort",
        lambda x: wg.kthvalue(x, 2, 0, keepdims=True).values,
        lambda x: np.sort(x, 0)[1:2],
        (REAL,),
        (((5,),), ((3, 4),)),
        variant="kthvalue",
        made_by=None,
    ),
    Row(
        "sort",
        lambda x: wg.median(x, 1).values,
        lambda x: np.sort(x, 1)[:, (x.shape[1] - 1) // 2],
        (REAL,),
        (((2, 5),), ((3, 4),), ((2, 200),)),
        variant="median",
        made_by=None,
    ),
    *(
        Row(
            "sort",
            lambda x, how=how: wg.quantile(x, [0.3, 0.6], 0, interpolation=how),
            lambda x, how=how: np.quantile(x, [0.3, 0.6], 0, method=how),
            (REAL,),
            (((6,),), ((5, 2),)),
            variant=f"quantile {how}",
            near=3.0,
            made_by=None,
        )
        for how in ("linear", "lower", "higher", "nearest", "midpoint")
    ),
    Row(
        "searchsorted",
        lambda x, v: wg.searchsorted(wg.sort(x).values, v),
        lambda x, v: np.searchsorted(np.sort(x), v),
        (REAL, REAL),
        (((7,), (3, 2)), ((5,), ()), ((0,), (2,))),
        gradient=False,
        result="int64",
    ),
    Row(
        "searchsorted",
        lambda x, v: wg.searchsorted(wg.sort(x).values, v, right=True),
        lambda x, v: (x[:, None] <= v[..., None]).sum(-1),
        (INTEGERS, INTEGERS),
        (((3, 9), (3, 20)),),
        variant="rows",
        gradient=False,
        result="int64",
    ),
    Row(
        "slice",
        lambda x: wg.concatenate([y * (i + 1) for i, y in enumerate(x.split([2, 0, 3], -1))], -1),
        lambda x: x * np.array([1, 1, 3, 3, 3]),
        (REAL,),
        (((5,),), ((2, 5),)),
        variant="split",
        made_by=None,
    ),
    Row(
        "concatenate",
        lambda x: wg.pad(x, ((1, 2), (0, 3)), constant_values=1.5),
        lambda x: np.pad(x, ((1, 2), (0, 3)), constant_values=1.5),
        (REAL,),
        (((2, 3),), ((0, 2),)),
        variant="pad",
    ),
    *(
        Row(
            "matmul",
            lambda *x, text=text: wg.einsum(text, *x),
            lambda *x, text=text: np.einsum(text, *x),
            (REAL,) * len(shapes),
            (shapes,),
            f"einsum {text}",
            near=60.0,
            made_by=None,
        )
        for text, shapes in EINSUMS
    ),
    *(
        Row(
            "layer_norm",
            lambda x, *wb, n=n: wg.layer_norm(x, n, *wb),
            layer_norm,
            (REAL, REAL, REAL)[: 1 + given],
            tuple((shape, (n,), (n,))[: 1 + given] for shape in ((n,), (3, n), (2, 4, n))),
            f"{n} {given}",
            near=3.0,
            ulps=8.0,
            covers=("layer_norm_vjp", "layer_norm_affine_vjp"),
            made_by="layer_norm",
        )
        for n, given in ((7, 0), (5, 1), (6, 2), (70, 2))
    ),
    Row(
        "batch_norm",
        lambda x, w, b: wg.batch_norm(x, None, None, w, b, True),
        batch_norm,
        (REAL, REAL, REAL),
        (((4, 3, 5), (3,), (3,)), ((2, 2, 19), (2,), (2,))),
        near=3.0,
        ulps=8.0,
        covers=("batch_norm_vjp",),
    ),
    *(
        Row(
            "attention",
            lambda q, k, v, *m, causal=causal: wg.scaled_dot_product_attention(
                q, k, v, *m, is_causal=causal
            ),
            lambda q, k, v, *m, causal=causal: attention(q, k, v, *m, causal=causal),
            (REAL, REAL, REAL, *draws),
            shapes,
            variant,
            near=10.0,
            covers=("attention_vjp",),
            made_by=None,
        )
        for variant, causal, draws, shapes in (
            ("", False, (), (((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2)), ((4, 3), (2, 3), (2, 3)))),
            ("causal", True, (), (((2, 5, 3), (2, 5, 3), (2, 5, 4)), ((5, 3), (2, 3), (2, 3)))),
            ("bool mask", False, (MASK,), (((2, 4, 3), (2, 5, 3), (2, 5, 3), (2, 1, 5)),)),
            ("added mask", False, (REAL,), (((2, 2, 4, 3), (2, 5, 3), (5, 3), (4, 5)),)),
            ("empty", False, (), (((0, 3, 4), (0, 2, 4), (0, 2, 5)),)),
        )
    ),
]

# Ops without a row: they draw random numbers or write to parameters. The tests that exercise them.
ELSEWHERE = {
    "move": ("gpu/on_gpu.py", "test_moving_is_differentiable"),
    "uniform": ("test_ops.py", "test_random_uniform"),
    "normal": ("test_ops.py", "test_random_normal"),
    "integers": ("test_ops.py", "test_random_integers"),
    "sgd_step": ("test_optim.py", "SGD"),
    "adam_step": ("test_optim.py", "Adam"),
    "rmsprop_step": ("test_optim.py", "RMSprop"),
    "adagrad_step": ("test_optim.py", "Adagrad"),
    "adadelta_step": ("test_optim.py", "Adadelta"),
    "adamax_step": ("test_optim.py", "Adamax"),
    "nadam_step": ("test_optim.py", "NAdam"),
    "radam_step": ("test_optim.py", "RAdam"),
    "rprop_step": ("test_optim.py", "Rprop"),
    "asgd_step": ("test_optim.py", "ASGD"),
    "lion_step": ("test_optim.py", "Lion"),
    "product_of_others": ("test_ops.py", "test_gradient_of_prod_is_the_product_of_the_others"),
    "sum_squares": ("test_optim.py", "test_norms_of_any_range"),
}


def covered() -> set[str]:
    """The names of the ops that the rows exercise."""
    return {row.op for row in ROWS} | {op for row in ROWS for op in row.covers} | set(ELSEWHERE)
