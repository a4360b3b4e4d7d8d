"""NumPy's functions that have another name or other arguments here: each in one to four lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import wengert as wg

__all__ = ["NUMPY", "arrays", "flat", "tensors"]


def flat(x: Any) -> Iterator[Any]:
    """What lists, tuples and dicts hold, in order."""
    if isinstance(x, (list, tuple)):
        for v in x:
            yield from flat(v)
    elif isinstance(x, dict):
        yield from flat(list(x.values()))
    else:
        yield x


def tensors(x: Any) -> Any:
    """x with tensors for arrays."""
    if isinstance(x, (list, tuple)):
        return type(x)(tensors(v) for v in x)
    if isinstance(x, dict):
        return {k: tensors(v) for k, v in x.items()}
    return wg.tensor(x) if isinstance(x, (np.ndarray, np.generic)) else x


def arrays(x: Any) -> Any:
    return x.detach().numpy() if isinstance(x, wg.Tensor) else x


def array(x: Any) -> wg.Tensor:
    """A tensor of what lists hold: tensors keep their history."""
    if isinstance(x, (list, tuple)):
        return wg.stack([array(v) for v in x])
    return x if isinstance(x, wg.Tensor) else wg.tensor(x, dtype="float64")


class Joined:
    """np.r_ and np.c_."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def __getitem__(self, parts: Any) -> Any:
        parts = parts if isinstance(parts, tuple) else (parts,)
        parts = [np.arange(p.start, p.stop) if isinstance(p, slice) else p for p in parts]
        if not any(isinstance(p, wg.Tensor) for p in parts):
            return (np.r_ if self.axis == 0 else np.c_)[tuple(parts)]
        return wg.concatenate([array(tensors(p)).to("float64") for p in parts], self.axis)


def of_array(f: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction, of a list too; ddof is correction."""

    def call(x: Any, axis: Any = None, ddof: Any = None, keepdims: bool = False) -> Any:
        more = {} if ddof is None else {"correction": ddof}
        return f(array(x), axis=axis, keepdims=keepdims, **more)

    return call


def einsum(*given: Any) -> Any:
    """NumPy also takes lists of axes, after each operand and at the end."""
    if isinstance(given[0], str):
        return wg.einsum(given[0], *given[1:])

    def text(axes: Any) -> str:
        return "".join("..." if i is ... else chr(97 + i) for i in axes)

    pairs = list(zip(given[::2], given[1::2], strict=False))
    left = ",".join(text(axes) for _, axes in pairs)
    right = f"->{text(given[-1])}" if len(given) % 2 else ""
    return wg.einsum(left + right, *(x for x, _ in pairs))


def dot(a: Any, b: Any) -> Any:
    a, b = array(a), array(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return wg.tensordot(a, b, [[-1], [-2 if b.ndim > 1 else 0]])


def inner(a: Any, b: Any) -> Any:
    a, b = array(a), array(b)
    return a * b if a.ndim == 0 or b.ndim == 0 else wg.inner(a, b)


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    if not isinstance(axes, int):
        axes = [[i] if isinstance(i, int) else list(i) for i in axes]
    return wg.tensordot(a, b, axes)


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1,
          axis: Any = None) -> Any:  # fmt: skip
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    return wg.cross(a.moveaxis(axisa, -1), b.moveaxis(axisb, -1)).moveaxis(-1, axisc)


def gradient(x: Any, axis: Any = None) -> Any:
    """Central differences of NumPy, one-sided at the ends."""
    axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis

    def along(i: int) -> Any:
        y = x.moveaxis(i, 0)
        ends = (y[1:2] - y[:1], (y[2:] - y[:-2]) / 2, y[-1:] - y[-2:-1])
        return wg.concatenate(list(ends)).moveaxis(0, i)

    found = [along(i) for i in axes]
    return found[0] if isinstance(axis, int) or len(found) == 1 else found


def append(a: Any, b: Any, axis: Any = None) -> Any:
    a, b = array(a), array(b)
    return (
        wg.concatenate([a.reshape(-1), b.reshape(-1)])
        if axis is None
        else wg.concatenate([a, b], axis)
    )


def select(conditions: Any, choices: Any, default: float = 0.0) -> Any:
    y = wg.full_like(choices[0], default)
    for c, x in reversed(list(zip(conditions, choices, strict=True))):
        y = wg.where(c, x, y)
    return y


def stacked(f: Callable[..., Any]) -> Callable[..., Any]:
    """Of an array, its first axis is the list."""

    def call(x: Any, **more: Any) -> Any:
        parts = list(x) if isinstance(x, (list, tuple)) else list(x.unbind())
        return f([array(p) for p in parts], **more)

    return call


def pad(x: Any, width: Any, mode: str) -> Any:
    widths = np.broadcast_to(np.asarray(width), (x.ndim, 2)).tolist()
    return wg.nn.functional.pad(x, [n for pair in reversed(widths) for n in pair], mode)


def cut(axis: int) -> Callable[..., Any]:
    return lambda x, n: wg.tensor_split(x, n, axis)


def repeat(x: Any, repeats: int, axis: Any = None) -> Any:
    return wg.repeat_interleave(x, repeats, axis)


def trace(x: Any, offset: int = 0) -> Any:
    return wg.diagonal(x, offset, 0, 1).sum(-1)


def rollaxis(x: Any, axis: int, start: int = 0) -> Any:
    return x.moveaxis(axis, start - (start > axis))


def norm(x: Any, ord: Any = None, axis: Any = None) -> Any:
    return wg.linalg.norm(array(x), ord, axis)


def eigh(x: Any, UPLO: str = "L") -> Any:
    """Gradients of the half that is looked at."""
    x = x if UPLO == "L" else x.mT
    return tuple(wg.linalg.eigh((x.tril() + x.tril(-1).mT), UPLO))


def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    return tuple(wg.linalg.svd(x, full_matrices)) if compute_uv else wg.linalg.svdvals(x)


NUMPY: dict[str, Any] = {
    "absolute": wg.abs,
    "arccos": wg.acos,
    "arccosh": wg.acosh,
    "arcsin": wg.asin,
    "arcsinh": wg.asinh,
    "arctan": wg.atan,
    "arctan2": wg.atan2,
    "arctanh": wg.atanh,
    "degrees": wg.rad2deg,
    "rad2deg": wg.rad2deg,
    "radians": wg.deg2rad,
    "divide": wg.div,
    "fabs": wg.abs,
    "mod": wg.remainder,
    "multiply": wg.mul,
    "negative": wg.neg,
    "power": wg.pow,
    "true_divide": wg.div,
    "fmax": lambda a, b: wg.where(wg.isnan(a), b, wg.where(wg.isnan(b), a, wg.maximum(a, b))),
    "fmin": lambda a, b: wg.where(wg.isnan(a), b, wg.where(wg.isnan(b), a, wg.minimum(a, b))),
    "logaddexp2": lambda a, b: wg.logaddexp(a * math.log(2), b * math.log(2)) / math.log(2),
    "clip": lambda x, a_min, a_max: x.clamp(a_min, a_max),
    "linspace": lambda a, b, n: a + (b - a) * np.linspace(0, 1, n),
    "array": array,
    "append": append,
    "array_split": wg.tensor_split,
    "split": lambda x, n, axis=0: wg.tensor_split(x, n, axis),
    "vsplit": cut(0),
    "hsplit": cut(1),
    "dsplit": cut(2),
    "concatenate": lambda x, axis=0: wg.concatenate([array(v) for v in x], axis),
    "vstack": stacked(wg.vstack),
    "row_stack": stacked(wg.vstack),
    "hstack": stacked(wg.hstack),
    "column_stack": stacked(wg.column_stack),
    "stack": stacked(wg.stack),
    "cross": cross,
    "diag": lambda x, k=0: wg.diag(x, k),
    "diagonal": lambda x, axis1=0, axis2=1: wg.diagonal(x, 0, axis1, axis2),
    "make_diagonal": lambda x, axis1, axis2: x[..., None] * np.eye(x.shape[-1]),
    "dot": dot,
    "inner": inner,
    "einsum": einsum,
    "tensordot": tensordot,
    "expand_dims": wg.unsqueeze,
    "gradient": gradient,
    "pad": pad,
    "repeat": repeat,
    "rollaxis": rollaxis,
    "select": select,
    "sort": lambda x: wg.sort(x)[0],
    "trace": trace,
    "tril": lambda x, k=0: wg.tril(x, k),
    "triu": lambda x, k=0: wg.triu(x, k),
    "moveaxis": lambda x, source, destination: wg.moveaxis(x, source, destination),
    "swapaxes": lambda x, axis1, axis2: wg.swapaxes(x, axis1, axis2),
    "transpose": lambda x, axes=None: wg.permute(x, axes or list(range(x.ndim))[::-1]),
    "r_": Joined(0),
    "c_": Joined(-1),
    "linalg.norm": norm,
    "linalg.eigh": eigh,
    "linalg.svd": svd,
    "linalg.T": lambda x: x.swapaxes(-1, -2),
    "linalg._dot": lambda a, b: a @ b,
    **{n: of_array(getattr(wg, n)) for n in ("sum", "mean", "prod", "max", "min", "var", "std")},
}
