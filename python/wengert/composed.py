"""Functions composed of the engine's ops, which give the gradients: of elements, of axes, products
and distances; comparisons of tensors; what dtypes can do; constants. Names and arguments are
PyTorch's and NumPy's.

Each is also `wengert.NAME`, and most are methods of Tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import _core, _explained, linalg
from ._calls import choice
from ._core import DType, DTypeError, ShapeError, Tensor
from .linalg import cross, outer, tensordot, vecdot
from .shapes import _axes, _axis, triu_indices

__all__ = [
    "addcdiv",
    "addcmul",
    "addmm",
    "addmv",
    "allclose",
    "aminmax",
    "array_equal",
    "baddbmm",
    "bitwise_not",
    "bmm",
    "can_cast",
    "cdist",
    "clamp_max",
    "clamp_min",
    "combinations",
    "corrcoef",
    "count_nonzero",
    "cov",
    "cross",
    "deg2rad",
    "dot",
    "e",
    "finfo",
    "float_power",
    "frac",
    "ger",
    "gradient",
    "heaviside",
    "iinfo",
    "inf",
    "inner",
    "isclose",
    "isdtype",
    "kron",
    "lerp",
    "logit",
    "logspace",
    "mm",
    "mv",
    "nan",
    "nanmean",
    "nansum",
    "newaxis",
    "norm",
    "outer",
    "pdist",
    "pi",
    "rad2deg",
    "renorm",
    "result_type",
    "sinc",
    "std_mean",
    "tensordot",
    "unravel_index",
    "var_mean",
    "vdot",
    "vecdot",
]

e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None


# ---- elements


def lerp(start: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
    """start + weight * (end - start), exact at both ends."""
    from_start, from_end = start + (end - start) * weight, end - (end - start) * (1.0 - weight)
    if isinstance(weight, Tensor):
        return _core.where(_core.abs(weight) < 0.5, from_start, from_end)
    return from_start if abs(weight) < 0.5 else from_end


def addcmul(x: Tensor, tensor1: Tensor, tensor2: Tensor, value: float = 1) -> Tensor:
    """x + value * tensor1 * tensor2"""
    product = _core.mul(tensor1, tensor2)
    return x + (product if value == 1 else product * value)


def addcdiv(x: Tensor, tensor1: Tensor, tensor2: Tensor, value: float = 1) -> Tensor:
    """x + value * tensor1 / tensor2"""
    return x + (tensor1 if value == 1 else _core.mul(tensor1, value)) / tensor2


def bitwise_not(x: Tensor) -> Tensor:
    """~x, of integers and bool; no gradient."""
    return ~x


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, dtype: DType | str = "float32"
) -> Tensor:
    """base ** linspace(start, end, steps), computed in float64."""
    return (base ** _core.linspace(start, end, steps, "float64")).to(dtype)


def deg2rad(x: Tensor) -> Tensor:
    """Degrees in radians: x * pi / 180."""
    return _core.mul(x, pi / 180)


def rad2deg(x: Tensor) -> Tensor:
    """Radians in degrees: x * 180 / pi."""
    return _core.mul(x, 180 / pi)


def clamp_min(x: Tensor, min: float | Tensor) -> Tensor:
    """x, and `min` where x is smaller."""
    return _core.maximum(x, min) if isinstance(min, Tensor) else x.clamp(min=min)


def clamp_max(x: Tensor, max: float | Tensor) -> Tensor:
    """x, and `max` where x is larger."""
    return _core.minimum(x, max) if isinstance(max, Tensor) else x.clamp(max=max)


def float_power(x: Tensor, exponent: float | Tensor) -> Tensor:
    """x ** exponent in float64."""
    return x.double() ** (exponent.double() if isinstance(exponent, Tensor) else exponent)


def frac(x: Tensor) -> Tensor:
    """x - trunc(x): what follows the point, with the sign of x."""
    return x - x.trunc()


def heaviside(x: Tensor, values: Tensor) -> Tensor:
    """0 where x < 0, 1 where x > 0, `values` where x is 0, NaN where it is NaN."""
    step = _core.where(x != x, x, (x > 0).to(x.dtype))
    return _core.where(x == 0, values, step)


def sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x), and 1 at 0."""
    return _sine_over(_core.mul(x, pi))


def _sine_over(t: Tensor) -> Tensor:
    """sin(t) / t, and 1 at 0."""
    near, s = _core.abs(t) < 0.03, t.square()
    series = 1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0))  # smooth where t is 0
    t = _core.where(near, 1.0, t)
    return _core.where(near, series, t.sin() / t)


def logit(x: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), of x within [eps, 1 - eps] where eps is given."""
    x = x if eps is None else x.clamp(eps, 1.0 - eps)
    return x.log() - (-x).log1p()


# ---- axes


def nansum(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """The sum of the elements that are not NaN."""
    return _core.where(x != x, _core.zeros((), x.dtype, x.device), x).sum(axis, keepdims)


def nanmean(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """The mean of the elements that are not NaN; NaN where there are none."""
    return nansum(x, axis, keepdims) / (x == x).sum(axis, keepdims).to(x.dtype)


def var_mean(
    x: Tensor,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    correction: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """(x.var(...), x.mean(...)); as there, the variance is over count - correction."""
    return x.var(axis, keepdims, correction), x.mean(axis, keepdims)


def std_mean(
    x: Tensor,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    correction: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """(x.std(...), x.mean(...)); as there, the variance is over count - correction."""
    return x.std(axis, keepdims, correction), x.mean(axis, keepdims)


class MinMax(NamedTuple):
    """The smallest and the largest elements."""

    min: Tensor
    max: Tensor


def aminmax(
    x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False
) -> tuple[Tensor, Tensor]:
    """(min, max) over axes, or all; with these names."""
    return MinMax(x.min(axis, keepdims), x.max(axis, keepdims))


def count_nonzero(
    x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False
) -> Tensor:
    """How many elements are not 0, int64."""
    return (x != 0).sum(axis, keepdims)


def norm(
    x: Tensor,
    p: float | str = "fro",
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Tensor:
    """sum(|x|^p)^(1 / p) over axes, or all; "fro" is p = 2. Gradient 0 where it is 0.

    Of elements always, as torch.norm, but "nuc": the sum of singular values. linalg.norm is
    NumPy's, of matrices where x is one.
    """
    if p == "nuc":
        return linalg.norm(x, p, (-2, -1) if axis is None else axis, keepdims)
    return linalg.vector_norm(x, 2.0 if p == "fro" else p, axis, keepdims)  # type: ignore[arg-type]


def cov(
    x: Tensor,
    correction: float = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """Covariances (n, n) of the rows of x (n, observations); the variance, 0-d, of one variable.

    fweights  how often each observation counts, whole numbers
    aweights  how much each observation counts
    As torch.cov and numpy.cov.
    """
    if x.ndim > 2:
        raise ShapeError(f"cov: x has shape {x.shape}; expected variables and observations")
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    rows = rows if rows.dtype.is_floating_point else rows.float()
    w, total = None, float(rows.shape[1])
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is not None:
            _check_weights(name, given, rows.shape[1])
            w = given.to(rows.dtype) if w is None else w * given.to(rows.dtype)
    if w is None:
        gap = rows - rows.mean(1, keepdims=True)
        y = gap @ gap.mT / max(total - correction, 0.0)
    else:
        sums = w.sum()
        gap = rows - (rows * w).sum(1, keepdims=True) / sums
        less = sums if aweights is None else (w * aweights).sum()
        over = sums - correction * less / sums if aweights is not None else sums - correction
        y = (gap * w) @ gap.mT / _core.maximum(over, 0.0)
    return y.reshape(()) if rows.shape[0] == 1 else y


def _check_weights(name: str, w: Tensor, n: int) -> None:
    if w.shape != (n,):
        raise ShapeError(f"cov: {name} has shape {w.shape} for {n} observations; expected ({n},)")
    if name == "fweights" and w.dtype.is_floating_point:
        raise DTypeError(f"cov: fweights is {w.dtype.name}; it counts: expected whole numbers")
    if not _core._is_tracing() and (w < 0).any():
        raise ValueError(f"cov: {name} has a number below 0")


def corrcoef(x: Tensor) -> Tensor:
    """Correlations (n, n) of the rows of x (n, observations), within [-1, 1]; of one variable 1."""
    c = cov(x)
    if not c.ndim:
        return c / c
    scale = c.diagonal().sqrt()
    return (c / scale / scale.unsqueeze(-1)).clamp(-1.0, 1.0)


def gradient(
    x: Tensor,
    spacing: float | Sequence[float | Tensor] = 1.0,
    axis: int | Sequence[int] | None = None,
    edge_order: int = 1,
) -> list[Tensor]:
    """Slopes of x along each axis, or those named: by its neighbours inside, exact for parabolas,
    and one-sided at the ends.

    spacing     between neighbours; or for each axis that, or the places, a vector
    edge_order  1: of two elements at the ends; 2: of three
    As torch.gradient and numpy.gradient.
    """
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order is {edge_order!r}; expected 1 or 2")
    axes = list(range(x.ndim)) if axis is None else _axes("gradient", axis, x)
    steps = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(axes)
    if len(steps) != len(axes):
        raise ValueError(f"gradient: {len(steps)} spacings for {len(axes)} axes")
    x = x if x.dtype.is_floating_point else x.float()
    return [_slopes(x, i, step, edge_order) for i, step in zip(axes, steps, strict=True)]


def _slopes(x: Tensor, axis: int, step: Any, order: int) -> Tensor:
    y, n = x.moveaxis(axis, -1), x.shape[axis]
    if n <= order:
        raise ShapeError(
            f"gradient: axis {axis} of shape {x.shape} has {n} elements; expected {order + 1} or "
            "more"
        )
    if isinstance(step, Tensor) and step.shape not in ((), (n,)):
        raise ShapeError(f"gradient: axis {axis} has {n} elements and its places {step.shape}")
    places = isinstance(step, Tensor) and step.ndim == 1
    h = step[1:] - step[:-1] if places else _core.full((n - 1,), 1.0, x.dtype, x.device) * step
    d = (y[..., 1:] - y[..., :-1]) / h
    first, last = d[..., :1], d[..., -1:]
    a, b = h[:-1], h[1:]
    inside = (d[..., :-1] * b + d[..., 1:] * a) / (a + b)
    if order == 2:  # on from the slope between, by the bend there
        bend = (d[..., 1:] - d[..., :-1]) / (a + b)
        first = first - bend[..., :1] * h[:1]
        last = last + bend[..., -1:] * h[-1:]
    return _core.concatenate([first, inside, last], -1).moveaxis(-1, axis)


def renorm(x: Tensor, p: float, axis: int, maxnorm: float) -> Tensor:
    """x, each of its slices along an axis scaled down to norm p of maxnorm at most."""
    if x.ndim < 2:
        raise ShapeError(f"renorm: x has shape {x.shape}; expected two axes or more")
    others = [i for i in range(x.ndim) if i != _axis("renorm", axis, x)]
    size = linalg.vector_norm(x, p, others, keepdims=True)
    return x * _core.where(size > maxnorm, maxnorm / (size + 1e-7), 1.0)


def combinations(x: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r elements of a vector, in order, (choices, r)."""
    import itertools

    if x.ndim != 1 or r < 0:
        raise ShapeError(f"combinations: x has shape {x.shape} and r is {r}; expected a vector")
    pick = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(pick(range(x.shape[0]), r))
    if not rows or not r:
        return _core.empty((len(rows) if r else 0, r), x.dtype, x.device)
    return x[_core.tensor(rows, device=x.device)]


def unravel_index(indices: Tensor, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """The index along each axis of elements that are numbered in rows."""
    found, rest = [], indices
    for n in reversed(shape):
        found.append(rest % n)
        rest = rest // n
    if not _core._is_tracing() and ((rest != 0).any() if found else (indices != 0).any()):
        raise IndexError(f"unravel_index: an index is out of range for shape {tuple(shape)}")
    return tuple(reversed(found))


# ---- products


def _product(op: str, a: Tensor, b: Tensor, of_a: int, of_b: int) -> Tensor:
    """a @ b, where a has of_a axes and b of_b; else an error."""
    names = {1: "a vector", 2: "a matrix", 3: "matrices: 3 axes"}
    for name, x, ndim in (("a", a, of_a), ("b", b, of_b)):
        if x.ndim != ndim:
            raise ShapeError(
                f"{op}: {name} has shape {x.shape}; expected {names[ndim]}: a @ b takes all kinds"
            )
    if (ndim := min(of_a, of_b)) == 3 and a.shape[0] != b.shape[0]:
        raise ShapeError(f"{op}: a has shape {a.shape} and b {b.shape}; expected as many matrices")
    if a.shape[-1] != b.shape[-2 if ndim > 1 else 0]:
        raise ShapeError(
            f"{op}: a has shape {a.shape} and b {b.shape}; a's last size must be b's first"
        )
    return a @ b


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of the products of two vectors."""
    return _product("dot", a, b, 1, 1)


def vdot(a: Tensor, b: Tensor) -> Tensor:
    """dot, by another name."""
    return _product("vdot", a, b, 1, 1)


def mv(a: Tensor, b: Tensor) -> Tensor:
    """A matrix times a vector."""
    return _product("mv", a, b, 2, 1)


def mm(a: Tensor, b: Tensor) -> Tensor:
    """A matrix times a matrix."""
    return _product("mm", a, b, 2, 2)


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """Matrices times as many: (n, i, j), (n, j, k)."""
    return _product("bmm", a, b, 3, 3)


def ger(a: Tensor, b: Tensor) -> Tensor:
    """outer, by PyTorch's former name."""
    return outer(a, b)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Sums of products over the last axes of both; the product where one is a number."""
    return tensordot(a, b, ((-1,), (-1,))) if a.ndim and b.ndim else a * b


def kron(a: Tensor, b: Tensor) -> Tensor:
    """Kronecker's product: b times each element of a, at its place."""
    ndim = max(a.ndim, b.ndim)
    of_a, of_b = ((*(1 for _ in range(ndim - x.ndim)), *x.shape) for x in (a, b))
    left = a.reshape([n for size in of_a for n in (size, 1)])
    right = b.reshape([n for size in of_b for n in (1, size)])
    return (left * right).reshape([m * n for m, n in zip(of_a, of_b, strict=True)])


def _plus(x: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    product = product if alpha == 1 else product * alpha
    if beta == 0:  # even NaN in x does not count
        return product
    return (x if beta == 1 else x * beta) + product


def addmm(x: Tensor, mat1: Tensor, mat2: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * mat1 @ mat2; where beta is 0, without x."""
    return _plus(x, _product("addmm", mat1, mat2, 2, 2), beta, alpha)


def addmv(x: Tensor, mat: Tensor, vec: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * mat @ vec; where beta is 0, without x."""
    return _plus(x, _product("addmv", mat, vec, 2, 1), beta, alpha)


def baddbmm(x: Tensor, batch1: Tensor, batch2: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * batch1 @ batch2, of as many matrices; where beta is 0, without x."""
    return _plus(x, _product("baddbmm", batch1, batch2, 3, 3), beta, alpha)


def cdist(a: Tensor, b: Tensor, p: float = 2.0) -> Tensor:
    """Distances |a_i - b_j|, of norm p, of vectors (..., n, d) from (..., m, d): (..., n, m)."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            f"cdist: a has shape {a.shape} and b {b.shape}; expected (..., n, d) and (..., m, d)"
        )
    return linalg.vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), p, -1)


def pdist(x: Tensor, p: float = 2.0) -> Tensor:
    """Distances, of norm p, of each two of the vectors (n, d): those above cdist's diagonal."""
    if x.ndim != 2:
        raise ShapeError(f"pdist: x has shape {x.shape}; expected (n, d)")
    i, j = triu_indices(x.shape[0], x.shape[0], 1, x.device)
    return linalg.vector_norm(x[i] - x[j], p, -1)


# ---- comparisons of tensors


def isclose(
    a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """|a - b| <= atol + rtol * |b|, or equal infinities; NaN is close to NaN if equal_nan."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise ValueError(f"isclose: {name} is {value}; expected 0 or more")
    a, b = _core.asarray(a), _core.asarray(b)
    wide = [x if x.dtype.is_floating_point else x.double() for x in (a, b)]
    near = _core.abs(wide[0] - wide[1]) <= _core.abs(wide[1]) * rtol + atol
    close = (a == b) | (near & wide[1].isfinite())
    return close | ((a != a) & (b != b)) if equal_nan else close


def allclose(
    a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close: see isclose. testing.assert_close says which are not."""
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


def array_equal(a: Tensor, b: Tensor) -> bool:
    """Whether a and b have one shape and equal elements; NaN is not equal. torch.equal."""
    return a.shape == b.shape and bool((a == b).all())


# ---- dtypes

_FLOATS = {"bfloat16": (8, 127), "float32": (24, 127), "float64": (53, 1023)}


class FInfo(NamedTuple):
    """The numbers of a floating dtype: its largest, its smallest normal and subnormal ones, and the
    step from 1 to the next."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    smallest_subnormal: float
    dtype: DType

    @property
    def tiny(self) -> float:
        """smallest_normal, by its former name."""
        return self.smallest_normal


class IInfo(NamedTuple):
    """The smallest and largest number of a whole dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype(of: Any) -> DType:
    return of.dtype if isinstance(of, Tensor) else _core.empty(0, of).dtype


def finfo(dtype: DType | str | Tensor) -> FInfo:
    """What numbers a floating dtype has: eps, max, min, smallest_normal, ..., bits."""
    kind = _dtype(dtype)
    if not kind.is_floating_point:
        raise DTypeError(f"finfo: got {kind.name}; expected a floating dtype: iinfo is of integers")
    digits, exponent = _FLOATS[kind.name]
    eps, normal = 2.0 ** (1 - digits), 2.0 ** (1 - exponent)
    largest = (2.0 - eps) * 2.0**exponent
    return FInfo(8 * kind.itemsize, eps, largest, -largest, normal, normal * eps, kind)


def iinfo(dtype: DType | str | Tensor) -> IInfo:
    """What numbers a whole dtype has: min, max, bits."""
    kind = _dtype(dtype)
    if kind.is_floating_point or kind == _core.bool_:
        raise DTypeError(f"iinfo: got {kind.name}; expected an integer dtype: finfo is of floats")
    bits, signed = 8 * kind.itemsize, not kind.name.startswith("u")
    return IInfo(bits, 2 ** (bits - signed) - 1, -(2 ** (bits - 1)) if signed else 0, kind)


def result_type(*tensors: Any) -> DType:
    """The dtype of tensors, dtypes and numbers together; of a number only its kind counts."""
    numbers = [x for x in tensors if isinstance(x, (bool, int, float))]
    parts = [_core.empty(0, _dtype(x)) for x in tensors if not isinstance(x, (bool, int, float))]
    if not parts:
        parts = [_core.tensor(x).reshape(1)[:0] for x in numbers]
    y = _core.concatenate(parts)
    for number in numbers:
        y = _core.where(y == y, y, number)
    return y.dtype


def can_cast(from_: DType | str | Tensor, to: DType | str) -> bool:
    """Whether `to` is what the two have together, so that arithmetic itself makes this cast."""
    return result_type(_dtype(from_), _dtype(to)) == _dtype(to)


def isdtype(dtype: DType | str, kind: DType | str | tuple[DType | str, ...]) -> bool:
    """Whether a dtype is of a kind: "bool", "signed integer", "unsigned integer", "integral",
    "real floating", "complex floating", "numeric", another dtype, or one of several."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    this = _dtype(dtype)
    floating, boolean = this.is_floating_point, this == _core.bool_
    signed = not floating and not boolean and not this.name.startswith("u")
    kinds = {
        "bool": boolean,
        "signed integer": signed,
        "unsigned integer": not (floating or boolean or signed),
        "integral": not floating and not boolean,
        "real floating": floating,
        "complex floating": False,
        "numeric": not boolean,
    }
    if isinstance(kind, DType):
        return this == kind
    if kind in (*_FLOATS, "int32", "int64", "uint8"):
        return this.name == kind
    choice("isdtype", "kind", kind, kinds)
    return kinds[kind]


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
