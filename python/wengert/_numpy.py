"""NumPy's functions on tensors: `np.exp(x)`, `np.concatenate([x, y])`, `np.add.reduce(x)`.

A function that is an op here is that op, with NumPy's names, defaults and meaning: it takes
tensors and arrays, gives tensors of the dtype that the op here gives, and records the gradient. Any
is computed by NumPy of the tensors' values, where no tensor requires a gradient: what it gives
becomes tensors. `out=`, `where=`, `casting=` and the like are a TypeError.

NEP 13 (`__array_ufunc__`) and NEP 18 (`__array_function__`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _core
from ._core import Tensor

# NumPy's and scipy.special's ufuncs that have another name here.
_UFUNCS = {
    "absolute": "abs",
    "fabs": "abs",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "power": "pow",
    "negative": "neg",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "equal": "eq",
    "not_equal": "ne",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctanh": "atanh",
    "arctan2": "atan2",
    "degrees": "rad2deg",
    "radians": "deg2rad",
    "rint": "round",
    "invert": "bitwise_not",
    "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift",
    "expit": "sigmoid",
    "gammaln": "lgamma",
    "psi": "digamma",
}
_SAME = """
    add bitwise_and bitwise_or bitwise_xor ceil copysign cos cosh exp exp2 expm1 float_power floor
    floor_divide fmod heaviside hypot isfinite isinf isnan log log10 log1p log2 logaddexp
    logical_and logical_not logical_or logical_xor logit matmul maximum minimum nextafter
    reciprocal remainder sign signbit sin sinh sqrt square tan tanh trunc vecdot deg2rad rad2deg
    digamma erf erfc erfinv
"""
_UFUNCS |= {name: name for name in _SAME.split()}
_REDUCED = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}
_REDUCED |= {"logical_and": "all", "logical_or": "any"}
_ACCUMULATED = {"add": "cumsum", "multiply": "cumprod"}


def _op(name: str) -> Callable[..., Any]:
    import wengert

    found: Callable[..., Any] = getattr(wengert, name)
    return found


def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """`Tensor.__array_ufunc__`."""
    for x in inputs:
        known = isinstance(x, (Tensor, np.ndarray, np.generic))
        if not known and getattr(x, "__array_ufunc__", None) is not None:
            return NotImplemented  # it knows better: a frame's column, say
    what = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    out = kwargs.get("out", ())
    if (
        method == "__call__"
        and len(out) == 1
        and out[0] is inputs[0]
        and type(out[0]) is np.ndarray
    ):
        if not _needs_gradient(inputs):  # array += x
            return ufunc(*_arrays(inputs), out=out)
    elif method == "__call__" and (name := _UFUNCS.get(ufunc.__name__, "")):
        _refuse(what, kwargs, name)
        return _op(name)(*map(_tensor_or_number, inputs))
    if method == "reduce" and (name := _REDUCED.get(ufunc.__name__, "")):
        allowed = {k: kwargs.pop(k) for k in ("axis", "keepdims") if k in kwargs}
        _refuse(what, kwargs, name)
        return _op(name)(*inputs, **{"axis": 0, **allowed})
    if method == "accumulate" and (name := _ACCUMULATED.get(ufunc.__name__, "")):
        axis = kwargs.pop("axis", 0)
        _refuse(what, kwargs, name)
        return _op(name)(*inputs, axis)
    _refuse(what, {k: v for k, v in kwargs.items() if k in ("out", "where", "casting")}, "")
    return _by_numpy(what, getattr(ufunc, method), inputs, kwargs)


def array_function(
    self: Tensor, func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: Any
) -> Any:
    """`Tensor.__array_function__`."""
    if not all(issubclass(kind, (Tensor, np.ndarray)) for kind in types):
        return NotImplemented
    module = func.__module__.removeprefix("numpy").lstrip(".")
    what = ".".join(filter(None, ["np", module, func.__name__]))
    _refuse(what, {k: v for k, v in kwargs.items() if k in ("out", "where", "casting")}, "")
    ours = _FUNCTIONS.get(what.removeprefix("np."))
    if ours is None:
        return _by_numpy(what, func, args, kwargs)
    try:
        inspect.signature(ours).bind(*args, **kwargs)
    except TypeError as error:
        takes = str(inspect.signature(ours)).replace("'", "")
        raise TypeError(
            f"{what}: of a tensor it takes {takes}: {error}; write {what}(x.detach().numpy(), ...) "
            "for NumPy's own, which has no gradient"
        ) from None
    return ours(*args, **kwargs)


def _refuse(what: str, kwargs: Any, name: str) -> None:
    given = [k for k, v in kwargs.items() if not (k == "where" and v is True)]
    if given:
        instead = f"write wengert.{name}(...)" if name else "leave it out"
        raise TypeError(
            f"{what}: of a tensor it takes no {'=, '.join(given)}=; {instead}, or give "
            "x.detach().numpy()"
        )


def _tensor_or_number(x: Any) -> Any:
    if isinstance(x, (Tensor, int, float, np.ndarray, np.generic)):
        return x
    return np.asarray(x)


def _needs_gradient(tree: Any) -> bool:
    if isinstance(tree, Tensor):
        return tree.requires_grad
    if isinstance(tree, dict):
        return any(map(_needs_gradient, tree.values()))
    return isinstance(tree, (list, tuple)) and any(map(_needs_gradient, tree))


def _arrays(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return np.asarray(tree)
    if isinstance(tree, dict):
        return {key: _arrays(x) for key, x in tree.items()}
    return type(tree)(map(_arrays, tree)) if type(tree) in (list, tuple) else tree


def _tensors(tree: Any) -> Any:
    if isinstance(tree, (np.ndarray, np.generic)):
        try:
            return _core.tensor(tree)
        except (_core.DTypeError, ValueError):
            return tree  # of a dtype that no tensor has
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(_tensors, tree))
    return type(tree)(map(_tensors, tree)) if type(tree) in (list, tuple) else tree


def _by_numpy(what: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if _needs_gradient((args, kwargs)):
        raise _core.GradientError(
            f"{what}: Wengert has no such op, and a tensor requires a gradient, which would be "
            "lost; write x.detach() first"
        )
    return _tensors(func(*_arrays(args), **_arrays(kwargs)))


# ---- functions by their names in NumPy, as it calls and defaults their arguments


def _all_tensors(arrays: Any) -> list[Tensor]:
    return [x if isinstance(x, Tensor) else _core.tensor(np.asarray(x)) for x in arrays]


def _joining(name: str) -> Callable[..., Any]:
    return lambda arrays: _op(name)(_all_tensors(arrays))


def _concatenate(arrays: Any, axis: int | None = 0) -> Any:
    tensors = _all_tensors(arrays)
    if axis is None:
        return _core.concatenate([x.reshape(-1) for x in tensors])
    return _core.concatenate(tensors, axis)


def _stack(arrays: Any, axis: int = 0) -> Any:
    return _core.stack(_all_tensors(arrays), axis)


def _reduction(name: str) -> Callable[..., Any]:
    return lambda a, axis=None, keepdims=False: _op(name)(a, axis, keepdims)


def _extremum(name: str) -> Callable[..., Any]:
    return lambda a, axis=None, *, keepdims=False: _op(name)(a, axis, keepdims)


def _spread(name: str) -> Callable[..., Any]:
    return lambda a, axis=None, *, ddof=0, keepdims=False: _op(name)(a, axis, keepdims, ddof)


def _scan(name: str) -> Callable[..., Any]:
    return lambda a, axis=None: _op(name)(a if axis is not None else a.reshape(-1), axis or 0)


def _one(name: str) -> Callable[..., Any]:
    return lambda a: _op(name)(a)


def _two(name: str) -> Callable[..., Any]:
    return lambda a, b: _op(name)(*_all_tensors((a, b)))


def _of_vectors(name: str) -> Callable[..., Any]:
    return lambda a, b: _op(name)(*(x.reshape(-1) for x in _all_tensors((a, b))))


def _flattened(name: str) -> Callable[..., Any]:
    def call(a: Any, axis: int | None = -1) -> Any:
        found = _op(name)(a.reshape(-1) if axis is None else a, -1 if axis is None else axis)
        return found.values if name == "sort" else found

    return call


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        return tuple(condition.nonzero().unbind(1))
    return _op("where")(*_all_tensors((condition,)), x, y)


def _transpose(a: Any, axes: Any = None) -> Any:
    return a.permute(axes if axes is not None else list(range(a.ndim))[::-1])


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    for name, bound in (("maximum", low), ("minimum", high)):
        if isinstance(bound, (Tensor, np.ndarray)):
            a = _op(name)(a, bound)
        elif bound is not None:
            a = _core.clamp(a, **{"min" if name == "maximum" else "max": bound})
    return a


def _expand_dims(a: Any, axis: Any) -> Any:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for at in sorted(i % (a.ndim + len(axes)) for i in axes):
        a = a.unsqueeze(at)
    return a


def _dot(a: Any, b: Any) -> Any:
    a, b = _all_tensors((a, b))
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return _op("tensordot")(a, b, [[-1], [-2 if b.ndim > 1 else 0]])


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    import wengert

    if ord is None and not isinstance(axis, tuple):
        return wengert.linalg.vector_norm(x, 2, axis, keepdims)
    return wengert.linalg.norm(x, "fro" if ord is None else ord, axis, keepdims)


def _linalg(name: str) -> Callable[..., Any]:
    def call(a: Any, *b: Any) -> Any:
        import wengert

        return getattr(wengert.linalg, name)(*_all_tensors((a, *b)))

    return call


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _reduction(name) for name in ("all", "any", "count_nonzero", "argmax", "argmin")},
    **{name: _extremum(name) for name in ("max", "min", "sum", "prod", "mean")},
    **{name: _extremum(name) for name in ("nansum", "nanmean")},
    "amax": _extremum("max"),
    "amin": _extremum("min"),
    **{name: _spread(name) for name in ("var", "std")},
    **{name: _scan(name) for name in ("cumsum", "cumprod")},
    **{name: _one(name) for name in ("ravel", "sinc", "fliplr", "flipud", "isfinite")},
    **{name: _two(name) for name in ("inner", "kron")},
    **{name: _of_vectors(name) for name in ("outer", "vdot")},
    **{name: _flattened(name) for name in ("sort", "argsort")},
    **{name: _joining(name) for name in ("vstack", "hstack", "dstack", "column_stack")},
    "concatenate": _concatenate,
    "stack": _stack,
    "where": _where,
    "transpose": _transpose,
    "clip": _clip,
    "expand_dims": _expand_dims,
    "dot": _dot,
    "reshape": lambda a, shape: a.reshape(shape),
    "squeeze": lambda a, axis=None: a.squeeze(axis),
    "swapaxes": lambda a, axis1, axis2: a.swapaxes(axis1, axis2),
    "moveaxis": lambda a, source, destination: a.moveaxis(source, destination),
    "broadcast_to": lambda array, shape: _core.broadcast_to(array, shape),
    "flip": lambda m, axis=None: _op("flip")(m, axis),
    "roll": lambda a, shift, axis=None: _op("roll")(a, shift, axis),
    "repeat": lambda a, repeats, axis=None: _op("repeat_interleave")(a, repeats, axis),
    "tile": lambda A, reps: _op("tile")(A, reps),  # noqa: N803
    "diag": lambda v, k=0: _op("diag")(v, k),
    "tril": lambda m, k=0: _op("tril")(m, k),
    "triu": lambda m, k=0: _op("triu")(m, k),
    "diagonal": lambda a, offset=0, axis1=0, axis2=1: _core.diagonal(a, offset, axis1, axis2),
    "round": lambda a, decimals=0: _op("round")(a, decimals),
    "around": lambda a, decimals=0: _op("round")(a, decimals),
    "tensordot": lambda a, b, axes=2: _op("tensordot")(*_all_tensors((a, b)), axes),
    "einsum": lambda subscripts, *operands: _op("einsum")(subscripts, *_all_tensors(operands)),
    "quantile": lambda a, q, axis=None, *, keepdims=False: _op("quantile")(a, q, axis, keepdims),
    "median": lambda a, axis=None, *, keepdims=False: _op("quantile")(a, 0.5, axis, keepdims),
    "zeros_like": lambda a, dtype=None: _core.zeros_like(a, dtype),
    "ones_like": lambda a, dtype=None: _core.ones_like(a, dtype),
    "full_like": lambda a, fill_value, dtype=None: _core.full_like(a, fill_value, dtype),
    "isclose": lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: _op("isclose")(
        *_all_tensors((a, b)), rtol, atol, equal_nan
    ),
    "allclose": lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: _op("allclose")(
        *_all_tensors((a, b)), rtol, atol, equal_nan
    ),
    "linalg.norm": _norm,
    **{
        f"linalg.{name}": _linalg(name)
        for name in ("det", "inv", "solve", "cholesky", "slogdet", "eigvalsh")
    },
}
