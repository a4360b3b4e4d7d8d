"""Products and norms of vectors and matrices, composed of the engine's ops, which give the
gradients; equations and decompositions (decompositions.py). Names and arguments are those of
torch.linalg, numpy.linalg and the array API.

Norms have gradient 0 where they are 0; integers become float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NoReturn

from . import _core, _explained
from ._calls import describe
from ._core import ShapeError, Tensor
from .decompositions import *  # noqa: F403
from .decompositions import __all__ as _decompositions
from .decompositions import inv, svdvals
from .shapes import _axes, _axis

__all__ = [
    *_decompositions,
    "cond",
    "cross",
    "diagonal",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]

matmul = _core.matmul


# ---- products


def outer(a: Tensor, b: Tensor) -> Tensor:
    """Each element of a times each of b, (a.size, b.size)."""
    return a.reshape(-1, 1) * b.reshape(-1)


def vecdot(a: Tensor, b: Tensor, axis: int = -1) -> Tensor:
    """Sums of products along an axis; the others broadcast."""
    return _core.mul(a, b).sum(axis)


def cross(a: Tensor, b: Tensor, axis: int = -1) -> Tensor:
    """Vector products of vectors of 3 elements along an axis; the others broadcast."""
    for name, x in (("a", a), ("b", b)):
        if x.shape[_axis("cross", axis, x)] != 3:
            raise ShapeError(f"cross: {name} has shape {x.shape}; axis {axis} must have 3 elements")
    return a.roll(-1, axis) * b.roll(-2, axis) - a.roll(-2, axis) * b.roll(-1, axis)


def tensordot(a: Tensor, b: Tensor, axes: int | Sequence[int | Sequence[int]] = 2) -> Tensor:
    """Sum of products over axes of a and b; the result has a's other axes, then b's.

    axes   how many: a's last and b's first; or a's and b's: ((2, 0), (1, 2))
    """
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ValueError(
                f"tensordot: axes is {axes}, a has shape {a.shape} and b {b.shape}; expected 0 or "
                "more, and no more than both have"
            )
        of_a, of_b = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        of_a, of_b = (_axes("tensordot", given, x) for given, x in zip(axes, (a, b), strict=True))
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ShapeError(
            f"tensordot: axes {of_a} of a, shape {a.shape}, and {of_b} of b, shape {b.shape}, "
            "must have the same sizes"
        )
    rest_a = [i for i in range(a.ndim) if i not in of_a]
    rest_b = [i for i in range(b.ndim) if i not in of_b]
    rows, columns = [a.shape[i] for i in rest_a], [b.shape[i] for i in rest_b]
    size = math.prod(a.shape[i] for i in of_a)
    left = a.permute([*rest_a, *of_a]).reshape(math.prod(rows), size)
    right = b.permute([*of_b, *rest_b]).reshape(size, math.prod(columns))
    return (left @ right).reshape([*rows, *columns])


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of matrices, in the order that costs least; the first and last may be vectors."""
    first, last = tensors[0], tensors[-1]
    parts = [
        first.unsqueeze(0) if first.ndim == 1 else first,
        *tensors[1:-1],
        last.unsqueeze(1) if last.ndim == 1 else last,
    ]
    for i, x in enumerate(parts):
        if len(tensors) < 2 or x.ndim != 2 or (i and parts[i - 1].shape[1] != x.shape[0]):
            raise ShapeError(
                f"multi_dot: got shapes {[x.shape for x in tensors]}; expected 2 matrices or more, "
                "each with as many rows as the one before has columns"
            )
    sizes = [parts[0].shape[0], *(x.shape[1] for x in parts)]
    # Of parts i .. j: the operations, and the last part of the left factor.
    best = {(i, i): (0, i) for i in range(len(parts))}
    for length in range(1, len(parts)):
        for i in range(len(parts) - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )

    def product(i: int, j: int) -> Tensor:
        k = best[i, j][1]
        return parts[i] if i == j else product(i, k) @ product(k + 1, j)

    y = product(0, len(parts) - 1)
    return y.reshape([n for n, x in zip(y.shape, (first, last), strict=True) if x.ndim == 2])


def matrix_power(x: Tensor, n: int) -> Tensor:
    """x @ x @ ..., n times, of square matrices (..., m, m); the identity for n = 0, and powers of
    the inverse below."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power: x has shape {x.shape}; expected square matrices")
    if n < 0:
        return matrix_power(inv(x), -n)
    if n == 0:
        return _core.eye(x.shape[-1], dtype=x.dtype, device=x.device).broadcast_to(x.shape).clone()
    half = matrix_power(x, n // 2) if n > 1 else x
    return x if n == 1 else half @ half @ x if n % 2 else half @ half


def trace(x: Tensor, offset: int = 0) -> Tensor:
    """The sum of the diagonal of the last two axes."""
    return diagonal(x, offset).sum(-1)


def diagonal(x: Tensor, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Tensor:
    """The diagonal of the last two axes, a view; wengert.diagonal is of the first two."""
    return x.diagonal(offset, axis1, axis2)


def matrix_transpose(x: Tensor) -> Tensor:
    """x.mT: the last two axes exchanged; a view."""
    return x.mT


# ---- norms


def vector_norm(
    x: Tensor,
    ord: float = 2.0,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Tensor:
    """sum(|x|^ord)^(1 / ord) over axes, or all.

    ord   inf: the largest |x|; -inf: the smallest; 0: how many are not 0
    """
    if not isinstance(ord, (int, float)):
        raise TypeError(f"vector_norm: ord is {describe(ord)}; expected a number")
    x = x if x.dtype.is_floating_point else x.float()
    if ord == 0:
        return (x != 0).sum(axis, keepdims).to(x.dtype)
    if ord == 1 or math.isinf(ord):
        size = _core.abs(x)
        return (size.sum if ord == 1 else size.max if ord > 0 else size.min)(axis, keepdims)
    if ord == 2:
        return _root(x.square().sum(axis, keepdims), 2.0)
    zero = x == 0
    powers = _core.where(zero, 1.0, _core.abs(x)) ** ord
    terms = _core.where(zero, 0.0 if ord > 0 else math.inf, powers)
    return _root(terms.sum(axis, keepdims), float(ord))


def _root(x: Tensor, n: float) -> Tensor:
    """x^(1/n), with gradient 0 at 0."""
    some = _core.where(x == 0, 1.0, x)
    return _core.where(x == 0, 0.0, some.sqrt() if n == 2 else some ** (1.0 / n))


def matrix_norm(
    x: Tensor,
    ord: float | str = "fro",
    axis: Sequence[int] = (-2, -1),
    keepdims: bool = False,
) -> Tensor:
    """A norm of the matrices of two axes.

    ord   "fro": root of the sum of squares; 1, -1: largest and smallest sum of |x| of a column;
          inf, -inf: of a row; 2, -2: largest and smallest singular value; "nuc": their sum
    """
    axes = _axes("matrix_norm", axis, x)
    if len(axes) != 2:
        raise ValueError(f"matrix_norm: axis is {axis}, shape {x.shape}; expected two axes")
    if ord == "fro":
        return vector_norm(x, 2, axes, keepdims)
    size = math.inf if ord == "nuc" else 0 if isinstance(ord, str) else abs(ord)
    if size not in (1, 2, math.inf):
        raise ValueError(
            f'matrix_norm: ord is {ord!r}; expected "fro", "nuc", 1, -1, 2, -2, inf or -inf'
        )
    rows, columns = axes
    if ord in ("nuc", 2, -2):
        s = svdvals(x.moveaxis(axes, [-2, -1]))
        y = s.sum(-1) if ord == "nuc" else s.max(-1) if ord == 2 else s.min(-1)
        for i in sorted(axes) if keepdims else ():
            y = y.unsqueeze(i)
        return y
    summed, other = (rows, columns) if size == 1 else (columns, rows)
    x = x if x.dtype.is_floating_point else x.float()
    sums = _core.abs(x).sum(summed, keepdims=True)
    y = (sums.max if ord in (1, math.inf) else sums.min)(other, keepdims=True)
    return y if keepdims else y.squeeze(axes)


def norm(
    x: Tensor,
    ord: float | str | None = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Tensor:
    """matrix_norm of a matrix, or of two axes, where `ord` says which; else vector_norm, of the
    axes or, without `ord`, of all elements. wengert.norm is of elements always."""
    pair = isinstance(axis, Iterable) and len(list(axis)) == 2
    if ord is not None and (pair or (axis is None and x.ndim == 2)):
        return matrix_norm(x, ord, axis if isinstance(axis, Sequence) else (-2, -1), keepdims)
    if isinstance(ord, str):
        raise ValueError(
            f"norm: ord is {ord!r}, of matrices, and x has shape {x.shape}; expected a number, or "
            "two axes"
        )
    if ord is not None and axis is None and x.ndim > 2:
        raise ShapeError(
            f"norm: x has shape {x.shape} and ord is {ord}; write axis, or "
            "vector_norm(x, ord) for the norm of all elements"
        )
    return vector_norm(x, 2.0 if ord is None else ord, axis, keepdims)


def cond(x: Tensor, p: float | str | None = None) -> Tensor:
    """Condition numbers: the norm p of x times that of its inverse; without p, or with 2, the
    largest singular value over the smallest, inf where that is 0."""
    if p is None or (not isinstance(p, str) and abs(p) == 2):
        s = svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return matrix_norm(x, p) * matrix_norm(inv(x), p)


def __getattr__(name: str) -> NoReturn:
    import sys

    from . import _names

    raise _names.no_attribute(sys.modules[__name__], name, _names.LINALG, ("wengert",))


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
