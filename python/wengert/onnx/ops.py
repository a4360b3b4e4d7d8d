"""ONNX's ops as functions of tensors: each takes the call, its inputs (None where one is left out),
and the node's attributes by name. Formulas: https://onnx.ai/onnx/operators/.
"""

# ruff: noqa: N802, N803 - the names are ONNX's
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

import wengert as wg

from .. import _core
from .._core import Tensor
from ..functional import _cropped
from ..nn import functional
from ..nn.functional import _channel_sums

__all__ = ["DTYPES", "TABLE", "Call", "UnsupportedError"]


class UnsupportedError(ValueError):
    """A node, an option or a dtype that there is no op for."""


class Call(NamedTuple):
    """The opset's version, and how many outputs the node names."""

    version: int
    outputs: int


# ONNX's numbers of element types.
DTYPES = {
    1: "float32",
    2: "uint8",
    6: "int32",
    7: "int64",
    9: "bool",
    11: "float64",
    16: "bfloat16",
}
TABLE: dict[str, Callable[..., Any]] = {}


_F = TypeVar("_F", bound=Callable[..., Any])


def _op(f: _F) -> _F:
    TABLE[f.__name__.lstrip("_")] = f
    return f


def _dtype(number: int) -> str:
    if number not in DTYPES:
        raise UnsupportedError(f"element type {number}; there are {', '.join(DTYPES.values())}")
    return DTYPES[number]


def _ints(x: Any) -> list[int]:
    return [int(v) for v in (x.reshape(-1).tolist() if isinstance(x, Tensor) else x)]


def _axes(x: Tensor, axes: Any) -> list[int]:
    return [a % x.ndim for a in _ints(axes)]


def _unsupported(**given: Any) -> None:
    for name, value in given.items():
        if value:
            raise UnsupportedError(f"{name}={value!r}")


# ---- elementwise

_ALIKE = {
    "Abs": wg.abs, "Acos": wg.acos, "Acosh": wg.acosh, "Asin": wg.asin, "Asinh": wg.asinh,
    "Atan": wg.atan, "Atanh": wg.atanh, "Ceil": wg.ceil, "Cos": wg.cos, "Cosh": wg.cosh,
    "Erf": wg.erf, "Exp": wg.exp, "Floor": wg.floor, "HardSwish": wg.hardswish,
    "Identity": lambda x: x,
    "IsNaN": wg.isnan, "Log": wg.log, "Mish": wg.mish, "Neg": lambda x: -x,
    "Not": wg.logical_not, "Reciprocal": wg.reciprocal, "Relu": wg.relu, "Round": wg.round,
    "Sigmoid": wg.sigmoid, "Sign": wg.sign, "Sin": wg.sin, "Sinh": wg.sinh, "Softplus": wg.softplus,
    "Softsign": wg.softsign, "Sqrt": wg.sqrt, "Tan": wg.tan, "Tanh": wg.tanh,
    "BitwiseNot": lambda x: ~x,
    "Equal": lambda a, b: a == b, "Less": lambda a, b: a < b, "LessOrEqual": lambda a, b: a <= b,
    "Greater": lambda a, b: a > b, "GreaterOrEqual": lambda a, b: a >= b,
    "And": lambda a, b: wg.logical_and(a, b), "Or": lambda a, b: wg.logical_or(a, b),
    "Xor": lambda a, b: wg.logical_xor(a, b), "BitwiseAnd": lambda a, b: a & b,
    "BitwiseOr": lambda a, b: a | b, "BitwiseXor": lambda a, b: a ^ b,
    "Where": lambda c, a, b: wg.where(c, a, b), "MatMul": lambda a, b: a @ b,
    "PRelu": lambda x, slope: wg.where(x < 0, x * slope, x),
}  # fmt: skip


def _alike(f: Any) -> Callable[..., Any]:
    return lambda call, *inputs: f(*inputs)


TABLE.update({name: _alike(f) for name, f in _ALIKE.items()})


def _old_broadcast(a: Tensor, b: Tensor, broadcast: int, axis: int | None) -> Tensor:
    """Of opset 6 and before: b stands at `axis` of a."""
    if broadcast and axis is not None and b.ndim:
        b = b.reshape(*b.shape, *(1,) * (a.ndim - axis - b.ndim))
    return b


def _binary(f: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    return lambda call, a, b, broadcast=0, axis=None, consumed_inputs=None: f(
        a, _old_broadcast(a, b, broadcast, axis)
    )


def _divide(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype.is_floating_point:
        return a / b
    q = wg.floor_divide(a, b)  # ONNX's truncates
    return wg.where((q < 0) & (q * b != a), q + 1, q)


TABLE |= {
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _binary(_divide),
}


@_op
def Pow(call: Call, a: Tensor, b: Tensor, broadcast: int = 0, axis: int | None = None) -> Tensor:
    """a ** b, of a's dtype."""
    b = _old_broadcast(a, b, broadcast, axis)
    if b.dtype.is_floating_point and not a.dtype.is_floating_point:
        return (a.to("float64") ** b).to(a.dtype)
    return a ** b.to(a.dtype)


@_op
def Mod(call: Call, a: Tensor, b: Tensor, fmod: int = 0) -> Tensor:
    """The remainder with the sign of b; with fmod, of a."""
    return wg.fmod(a, b) if fmod else wg.remainder(a, b)


@_op
def BitShift(call: Call, a: Tensor, b: Tensor, direction: str) -> Tensor:
    """a << b or a >> b."""
    return a << b if direction == "LEFT" else a >> b


def _fold(f: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    def call(_: Call, first: Tensor, *rest: Tensor, consumed_inputs: Any = None) -> Tensor:
        for x in rest:
            first = f(first, x)
        return first

    return call


TABLE |= {"Max": _fold(wg.maximum), "Min": _fold(wg.minimum), "Sum": _fold(lambda a, b: a + b)}
TABLE["Mean"] = lambda call, *x: _fold(lambda a, b: a + b)(call, *x) / len(x)


@_op
def IsInf(call: Call, x: Tensor, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Whether x is infinite, of the signs asked for."""
    return wg.logical_or(
        (x == math.inf) & bool(detect_positive), (x == -math.inf) & bool(detect_negative)
    )


@_op
def Clip(
    call: Call, x: Tensor, low: Any = None, high: Any = None, min: Any = None, max: Any = None
) -> Tensor:
    """x within [low, high]."""
    for bound, f in (
        (min if low is None else low, wg.maximum),
        (max if high is None else high, wg.minimum),
    ):
        if bound is not None:
            x = f(x, bound if isinstance(bound, Tensor) else _core.tensor(bound, dtype=x.dtype))
    return x


@_op
def Cast(call: Call, x: Tensor, to: int, saturate: int = 1, round_mode: str = "") -> Tensor:
    """x of another element type."""
    return x.to(_dtype(to))


@_op
def CastLike(
    call: Call, x: Tensor, like: Tensor, saturate: int = 1, round_mode: str = ""
) -> Tensor:
    """x of another's element type."""
    return x.to(like.dtype)


def _with(name: str, f: Callable[..., Tensor]) -> None:
    TABLE[name] = lambda call, x, consumed_inputs=None, **given: f(x, **given)


_with("LeakyRelu", lambda x, alpha=0.01: wg.leaky_relu(x, alpha))
_with("Elu", lambda x, alpha=1.0: wg.elu(x, alpha))
_with("Celu", lambda x, alpha=1.0: wg.celu(x, alpha))
_with(
    "Selu",
    lambda x, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875: (
        wg.elu(x, alpha) * gamma
    ),
)
_with("HardSigmoid", lambda x, alpha=0.2, beta=0.5: (x * alpha + beta).clamp(0.0, 1.0))
_with("ThresholdedRelu", lambda x, alpha=1.0: wg.where(x > alpha, x, 0.0))
_with(
    "Shrink",
    lambda x, bias=0.0, lambd=0.5: wg.where(
        x < -lambd, x + bias, wg.where(x > lambd, x - bias, 0.0)
    ).to(x.dtype),
)
_with("Gelu", lambda x, approximate="none": wg.gelu(x, approximate))
_with("Swish", lambda x, alpha=1.0: x * wg.sigmoid(x * alpha))

# ---- reductions


def _reduction(f: Callable[..., Tensor]) -> Callable[..., Any]:
    def call(c: Call, x: Tensor, given: Any = None, axes: Any = None, keepdims: int = 1,
             noop_with_empty_axes: int = 0) -> Tensor:  # fmt: skip
        found = _ints(given) if given is not None else axes
        if not found:
            found = [] if noop_with_empty_axes else [*range(x.ndim)]
            if not found:
                return f(x[None], [0], False)
        return f(x, _axes(x, found), bool(keepdims))

    return call


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdims=keep).to(x.dtype)


def _extreme(x: Tensor, axes: list[int], keep: bool, name: str) -> Tensor:
    """The largest or smallest; of no elements the one that any other would replace."""
    if all(x.shape[a] for a in axes):
        made: Tensor = getattr(x, name)(axes, keepdims=keep)
        return made
    kind = np.dtype(x.dtype.name)
    ends = (-math.inf, math.inf) if kind.kind == "f" else (False, True)
    if kind.kind in "iu":
        ends = (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
    return wg.full(shape, ends[name == "min"], dtype=x.dtype)


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceSum": _sum,
    "ReduceMean": lambda x, a, k: x.mean(a, keepdims=k),
    "ReduceMax": lambda x, a, k: _extreme(x, a, k, "max"),
    "ReduceMin": lambda x, a, k: _extreme(x, a, k, "min"),
    "ReduceProd": lambda x, a, k: x.prod(a, keepdims=k).to(x.dtype),
    "ReduceL1": lambda x, a, k: _sum(wg.abs(x), a, k),
    "ReduceL2": lambda x, a, k: _sum(x * x, a, k).sqrt(),
    "ReduceSumSquare": lambda x, a, k: _sum(x * x, a, k),
    "ReduceLogSum": lambda x, a, k: _sum(x, a, k).log(),
    "ReduceLogSumExp": lambda x, a, k: wg.logsumexp(x, a, keepdims=k),
}
TABLE |= {name: _reduction(f) for name, f in _REDUCTIONS.items()}


def _arg(name: str) -> Callable[..., Any]:
    def call(
        _: Call, x: Tensor, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> Any:
        x = wg.flip(x, axis) if select_last_index else x
        at = getattr(x, name)(axis, keepdims=bool(keepdims))
        return x.shape[axis] - 1 - at if select_last_index else at

    return call


TABLE |= {"ArgMax": _arg("argmax"), "ArgMin": _arg("argmin")}


def _coerced(c: Call, x: Tensor, axis: int, f: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Before opset 13 all axes from `axis` on are one."""
    if c.version >= 13:
        return f(x, axis)
    axis %= max(x.ndim, 1)
    return f(x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), 1).reshape(x.shape)


TABLE |= {
    "Softmax": lambda c, x, axis=None: _coerced(
        c, x, (-1 if c.version >= 13 else 1) if axis is None else axis, _core.softmax
    ),
    "LogSoftmax": lambda c, x, axis=None: _coerced(
        c, x, (-1 if c.version >= 13 else 1) if axis is None else axis, _core.log_softmax
    ),
    "Hardmax": lambda c, x, axis=None: _coerced(
        c, x, (-1 if c.version >= 13 else 1) if axis is None else axis, _hardmax
    ),
}


def _hardmax(x: Tensor, axis: int) -> Tensor:
    first = x.argmax(axis, keepdims=True)
    shape = [1] * x.ndim
    shape[axis] = -1
    return (wg.arange(x.shape[axis]).reshape(*shape) == first).to(x.dtype)


@_op
def CumSum(call: Call, x: Tensor, axis: Tensor, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Sums along an axis up to each element, or, exclusive, before it."""
    return _scan(wg.cumsum, 0.0, x, axis, exclusive, reverse)


@_op
def CumProd(call: Call, x: Tensor, axis: Tensor, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Products along an axis up to each element, or, exclusive, before it."""
    return _scan(wg.cumprod, 1.0, x, axis, exclusive, reverse)


def _scan(f: Any, start: float, x: Tensor, axis: Tensor, exclusive: int, reverse: int) -> Tensor:
    along = _ints(axis)[0] % x.ndim
    x = wg.flip(x, along) if reverse else x
    y = f(x, along).to(x.dtype)
    if exclusive:
        pairs = [(0, 0)] * x.ndim
        pairs[along] = (1, 0)
        y = wg.narrow(wg.pad(y, pairs, "constant", start), along, 0, x.shape[along])
    return wg.flip(y, along) if reverse else y


# ---- shapes

TABLE |= {
    "Shape": lambda c, x, start=0, end=None: _core.tensor(list(x.shape)[start:end], dtype="int64"),
    "Size": lambda c, x: _core.tensor(x.size, dtype="int64"),
    "Transpose": lambda c, x, perm=None: x.permute(perm or [*range(x.ndim)][::-1]),
    "Flatten": lambda c, x, axis=1: (
        x.reshape(math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim]), -1)
        if x.size
        else x.reshape(
            math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim]),
            math.prod(x.shape[axis if axis >= 0 else axis + x.ndim :]),
        )
    ),
    "Expand": lambda c, x, shape: x.expand(wg.broadcast_shapes(x.shape, tuple(_ints(shape)))),
    "Concat": lambda c, *x, axis=1: wg.concatenate(list(x), axis),
    "Tile": lambda c, x, n: wg.tile(x, _ints(n)),
    "EyeLike": lambda c, x, dtype=None, k=0: _eye(x, dtype, k),
    "Trilu": lambda c, x, k=None, upper=1: (wg.triu if upper else wg.tril)(
        x, 0 if k is None else _ints(k)[0]
    ),
    "NonZero": lambda c, x: wg.nonzero(x).T.contiguous(),
    "Compress": lambda c, x, condition, axis=None: _compress(x, condition, axis),
}


def _eye(x: Tensor, dtype: int | None, k: int) -> Tensor:
    rows, columns = x.shape
    kept = wg.arange(columns) - wg.arange(rows).reshape(-1, 1) == k
    return kept.to(x.dtype if dtype is None else _dtype(dtype))


@_op
def Dropout(
    call: Call,
    x: Tensor,
    ratio: Any = None,
    training: Any = None,
    seed: int = 0,
    is_test: int = 0,
    consumed_inputs: Any = None,
) -> Any:
    """x, as in evaluation, and that all is kept."""
    trains = not is_test if call.version < 7 else training is not None and bool(training.item())
    if trains and not (isinstance(ratio, Tensor) and ratio.item() == 0):
        raise UnsupportedError("Dropout in training: its draws are another generator's")
    kept = wg.ones(x.shape, "bool")
    return (x, kept)[: call.outputs]


def _compress(x: Tensor, condition: Tensor, axis: int | None) -> Tensor:
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    at = wg.nonzero(condition).reshape(-1)
    return wg.index_select(x, axis, at)


@_op
def Reshape(
    call: Call,
    x: Tensor,
    given: Any = None,
    shape: Any = None,
    allowzero: int = 0,
    consumed_inputs: Any = None,
) -> Tensor:
    """The same elements in another shape; 0 keeps a size, unless allowzero."""
    sizes = list(shape) if given is None else _ints(given)
    if not allowzero:
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    if x.size == 0 and -1 in sizes:
        rest = math.prod(n for n in sizes if n != -1)
        sizes = [(0 if not rest else x.size // rest) if n == -1 else n for n in sizes]
    return x.reshape(*sizes) if sizes else x.reshape(())


@_op
def Squeeze(call: Call, x: Tensor, given: Any = None, axes: Any = None) -> Tensor:
    """x without axes of size 1."""
    found = axes if given is None else _ints(given)
    return x.squeeze() if found is None else x.squeeze(_axes(x, found))


@_op
def Unsqueeze(call: Call, x: Tensor, given: Any = None, axes: Any = None) -> Tensor:
    """x with more axes of size 1."""
    found = list(axes) if given is None else _ints(given)
    n = x.ndim + len(found)
    for a in sorted(a % n for a in found):
        x = _core.unsqueeze(x, a)
    return x


@_op
def Slice(
    call: Call, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    """Ranges along axes."""
    first, last = _ints(starts), _ints(ends)
    along = [*range(len(first))] if axes is None else _axes(x, axes)
    by = [1] * len(first) if steps is None else _ints(steps)
    key = [slice(None)] * x.ndim
    for a, b, e, s in zip(along, first, last, by, strict=True):
        n = x.shape[a]
        if s < 0:  # beyond the first is before it
            b = min(b if b >= 0 else max(b + n, -1), n - 1)
            e = e if e >= 0 else e + n
            key[a] = slice(b, None if e < 0 else e, s) if b >= 0 else slice(0, 0)
        else:
            key[a] = slice(b, e, s)
    return x[tuple(key)]


@_op
def Split(
    call: Call,
    x: Tensor,
    given: Any = None,
    axis: int = 0,
    split: Any = None,
    num_outputs: int | None = None,
) -> Any:
    """Parts along an axis."""
    sizes = _ints(given) if given is not None else split
    if sizes is None:
        n = num_outputs or call.outputs
        each = -(-x.shape[axis] // n)
        sizes = [each] * (n - 1) + [x.shape[axis] - each * (n - 1)]
    ends = np.cumsum(sizes).tolist()
    return tuple(wg.narrow(x, axis, e - n, n) for n, e in zip(sizes, ends, strict=True))


@_op
def Constant(call: Call, value: Any = None, **more: Any) -> Any:
    """A value of the file."""
    if value is not None:
        return value
    ((name, given),) = more.items()
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if name not in kinds:
        raise UnsupportedError(f"Constant with {name}")
    return np.asarray(given, kinds[name])


@_op
def ConstantOfShape(call: Call, shape: Tensor, value: Any = None) -> Tensor:
    """One value in a shape."""
    fill = np.zeros(1, np.float32) if value is None else value
    if fill.dtype.name not in DTYPES.values():
        raise UnsupportedError(f"values of {fill.dtype}")
    return wg.full(tuple(_ints(shape)), fill.reshape(-1)[0].item(), fill.dtype.name)


@_op
def Range(call: Call, start: Tensor, limit: Tensor, delta: Tensor) -> Any:
    """start, start + delta, ... before limit."""
    a, b, d = start.item(), limit.item(), delta.item()
    if not d:
        raise ValueError("Range: delta is 0")
    whole = isinstance(d, int)
    n = max(-((a - b) // d) if whole else math.ceil((b - a) / d), 0)
    return (wg.arange(n).to(start.dtype) * d + a).to(start.dtype)


@_op
def Pad(
    call: Call,
    x: Tensor,
    given: Any = None,
    fill: Any = None,
    axes: Any = None,
    mode: str = "constant",
    pads: Any = None,
    paddings: Any = None,
    value: float = 0.0,
) -> Tensor:
    """More elements around x; negative pads crop."""
    widths = _ints(given) if given is not None else list(pads or paddings)
    along = [*range(x.ndim)] if axes is None else _axes(x, axes)
    n = len(along)
    pairs = [(0, 0)] * x.ndim
    for i, a in enumerate(along):
        pairs[a] = (widths[i], widths[n + i])
    x, pairs = _cropped(x, pairs)
    return wg.pad(x, pairs, mode, value if fill is None else fill.item())


def _block(size: int) -> int:
    if size < 1:
        raise ValueError(f"blocksize={size}; expected 1 or more")
    return size


@_op
def DepthToSpace(call: Call, x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    """Channels become blocks of height and width."""
    n, c, h, w = x.shape
    b = _block(blocksize)
    shape, order = (
        ((n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2))
        if mode == "DCR"
        else ((n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3))
    )
    return x.reshape(*shape).permute(order).reshape(n, c // b**2, h * b, w * b)


@_op
def SpaceToDepth(call: Call, x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of height and width become channels: before those that there are, or after (CRD)."""
    n, c, h, w = x.shape
    b = _block(blocksize)
    return (
        x.reshape(n, c, h // b, b, w // b, b)
        .permute((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
        .reshape(n, c * b * b, h // b, w // b)
    )


@_op
def CenterCropPad(call: Call, x: Tensor, shape: Tensor, axes: Any = None) -> Tensor:
    """x cut or padded with zeros on both sides to sizes."""
    for a, n in zip(
        [*range(x.ndim)] if axes is None else _axes(x, axes), _ints(shape), strict=True
    ):
        have = x.shape[a]
        if have >= n:
            x = wg.narrow(x, a, (have - n) // 2, n)
        else:
            pairs = [(0, 0)] * x.ndim
            pairs[a] = ((n - have) // 2, n - have - (n - have) // 2)
            x = wg.pad(x, pairs)
    return x


@_op
def ReverseSequence(
    call: Call, x: Tensor, lengths: Tensor, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    """The first elements along time, as many as each sequence has, turned."""
    time = wg.arange(x.shape[time_axis])
    n = lengths.reshape(-1, 1)
    at = wg.where(time < n, n - 1 - time, time)  # (batch, time)
    at = at if batch_axis < time_axis else at.T
    shape = [1] * x.ndim
    shape[batch_axis], shape[time_axis] = x.shape[batch_axis], x.shape[time_axis]
    return x.gather(time_axis, at.reshape(*shape).expand(x.shape).contiguous())


# ---- indices


@_op
def Gather(call: Call, x: Tensor, at: Tensor, axis: int = 0) -> Tensor:
    """x[..., at, ...]"""
    return x[(*(slice(None),) * (axis % x.ndim), at.to("int64"))]


@_op
def GatherElements(call: Call, x: Tensor, at: Tensor, axis: int = 0) -> Tensor:
    """y[i][j] = x[at[i][j]][j]"""
    return x.gather(axis, _positive(at, x.shape[axis]))


def _positive(at: Tensor, size: int) -> Tensor:
    at = at.to("int64")
    return wg.where(at < 0, at + size, at)


@_op
def GatherND(call: Call, x: Tensor, at: Tensor, batch_dims: int = 0) -> Tensor:
    """Slices at indices along at's last axis."""
    at = at.to("int64")
    lead = [
        wg.arange(n).reshape(*(-1 if i == b else 1 for i in range(at.ndim - 1)))
        for b, n in enumerate(at.shape[:batch_dims])
    ]
    return x[(*lead, *at.unbind(-1))]


@_op
def ScatterND(call: Call, x: Tensor, at: Tensor, values: Tensor, reduction: str = "none") -> Tensor:
    """x with slices at indices replaced, or combined."""
    keys = [k.reshape(-1) for k in at.to("int64").unbind(-1)]
    depth = len(keys)
    rows = math.prod(x.shape[:depth])
    number = wg.zeros((keys[0].shape[0],), "int64")
    for k, size in zip(keys, x.shape, strict=False):
        number = number * size + _positive(k, size)
    flat = x.reshape(rows, math.prod(x.shape[depth:]))
    given = values.reshape(number.shape[0], flat.shape[1])
    where = number.reshape(-1, 1).expand(given.shape).contiguous()
    return _scattered(flat, 0, where, given, reduction).reshape(x.shape)


@_op
def ScatterElements(
    call: Call, x: Tensor, at: Tensor, values: Tensor, axis: int = 0, reduction: str = "none"
) -> Tensor:
    """y[at[i][j]][j] = values[i][j]"""
    return _scattered(x, axis, _positive(at, x.shape[axis]), values, reduction)


TABLE["Scatter"] = ScatterElements


def _scattered(x: Tensor, axis: int, at: Tensor, values: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return wg.scatter(x, axis, at, values)
    kind = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return wg.scatter_reduce(x, axis, at, values, kind)


@_op
def OneHot(call: Call, at: Tensor, depth: Tensor, values: Tensor, axis: int = -1) -> Tensor:
    """values[1] at the index along a new axis, values[0] elsewhere."""
    n = _ints(depth)[0]
    hot = _positive(at, n).unsqueeze(-1) == wg.arange(n)
    return wg.where(wg.movedim(hot, -1, axis), values[1], values[0])


@_op
def TopK(
    call: Call,
    x: Tensor,
    given: Any = None,
    axis: int = -1,
    k: int | None = None,
    largest: int = 1,
    sorted: int = 1,
) -> Any:
    """The largest along an axis, with their indices."""
    n = k or 0 if given is None else _ints(given)[0]
    found = wg.topk(x, n, axis, bool(largest), bool(sorted))
    return found[0], found[1]


@_op
def Unique(call: Call, x: Tensor, axis: int | None = None, sorted: int = 1) -> Any:
    """Distinct values, with indices."""
    if axis is not None:
        raise UnsupportedError("Unique along an axis")
    flat = x.detach().numpy().reshape(-1)
    y, first, back, count = np.unique(
        flat, return_index=True, return_inverse=True, return_counts=True
    )
    if not sorted:
        order = np.argsort(first)
        rank = np.argsort(order)
        y, first, back, count = y[order], first[order], rank[back], count[order]
    return tuple(
        _core.tensor(np.asarray(v))
        for v in (y, first.astype(np.int64), back.astype(np.int64), count.astype(np.int64))
    )


# ---- products and layers


@_op
def Gemm(
    call: Call,
    a: Tensor,
    b: Tensor,
    c: Any = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 0,
) -> Tensor:
    """alpha a b + beta c"""
    y = (a.T if transA else a) @ (b.T if transB else b)
    y = y * alpha if alpha != 1.0 else y
    return y if c is None or beta == 0.0 else y + (c * beta if beta != 1.0 else c)


@_op
def Einsum(call: Call, *x: Tensor, equation: str) -> Tensor:
    """Sums of products by axes' letters."""
    return wg.einsum(equation.replace(" ", ""), *x)


@_op
def BatchNormalization(
    call: Call,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
    is_test: int = 0,
    consumed_inputs: Any = None,
) -> Any:
    """(x - mean) / sqrt(var + epsilon) scale + bias for each channel."""
    if not spatial:
        raise UnsupportedError("BatchNormalization with spatial=0: a mean for each element")
    if training_mode:
        axes = [0, *range(2, x.ndim)]
        now, spread = x.mean(axes), x.var(axes)
        moved = tuple(
            old * momentum + new * (1 - momentum) for old, new in ((mean, now), (var, spread))
        )
        y = functional.batch_norm(x, now, spread, scale, bias, eps=epsilon)
        return (y.to(x.dtype), *moved)
    return functional.batch_norm(x, mean, var, scale, bias, eps=epsilon).to(x.dtype)


@_op
def InstanceNormalization(
    call: Call,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    epsilon: float = 1e-5,
    consumed_inputs: Any = None,
) -> Tensor:
    """Each channel of each sample normalised."""
    return functional.group_norm(x, x.shape[1], scale, bias, epsilon)


@_op
def GroupNormalization(
    call: Call,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """Groups of channels normalised; before opset 21 scale and bias are for each group."""
    if call.version < 21:
        n = x.shape[1] // num_groups
        scale, bias = (wg.repeat_interleave(v, n, 0) for v in (scale, bias))
    return functional.group_norm(x, num_groups, scale, bias, epsilon)


@_op
def LayerNormalization(
    call: Call,
    x: Tensor,
    scale: Tensor,
    bias: Any = None,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Any:
    """Normalised over the axes from `axis` on."""
    axes = [*range(axis % x.ndim, x.ndim)]
    mean = x.mean(axes, keepdims=True)
    inverse = ((x - mean).square().mean(axes, keepdims=True) + epsilon).rsqrt()
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias, mean, inverse)[: call.outputs]


@_op
def RMSNormalization(
    call: Call, x: Tensor, scale: Tensor, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Divided by the root of the mean square over the axes from `axis` on."""
    return functional.rms_norm(x, x.shape[axis % x.ndim :], scale, epsilon)


@_op
def MeanVarianceNormalization(call: Call, x: Tensor, axes: Any = (0, 2, 3)) -> Tensor:
    """(x - mean) / standard deviation over axes."""
    centred = x - x.mean(list(axes), keepdims=True)
    return centred / (centred.square().mean(list(axes), keepdims=True).sqrt() + 1e-9)


@_op
def LpNormalization(call: Call, x: Tensor, axis: int = -1, p: int = 2) -> Tensor:
    """x over its norm along an axis; 0 where that is 0."""
    norm = wg.linalg.vector_norm(x, p, axis, keepdims=True)
    return wg.where(norm == 0, 0.0, x / wg.where(norm == 0, 1.0, norm))


@_op
def LRN(
    call: Call, x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Tensor:
    """x over a power of the mean square of neighbouring channels."""
    total = _channel_sums(x.square(), (size - 1) // 2, size // 2)
    return x / (total * (alpha / size) + bias) ** beta


TABLE["GlobalAveragePool"] = lambda c, x: x.mean([*range(2, x.ndim)], keepdims=True)
TABLE["GlobalMaxPool"] = lambda c, x: x.max([*range(2, x.ndim)], keepdims=True)


@_op
def SoftmaxCrossEntropyLoss(
    call: Call,
    x: Tensor,
    target: Tensor,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy of classes on axis 1, and the logarithms of the probabilities."""
    logs = _core.log_softmax(x, 1)
    loss = NegativeLogLikelihoodLoss(call, logs, target, weight, ignore_index, reduction)
    return (loss, logs)[: call.outputs]


@_op
def NegativeLogLikelihoodLoss(
    call: Call,
    x: Tensor,
    target: Tensor,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-x[target] for classes on axis 1."""
    none = -100 if ignore_index is None else ignore_index
    return functional.nll_loss(
        x, target.to("int64"), weight, ignore_index=none, reduction=reduction
    )


# ---- recurrence


_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "Sigmoid": wg.sigmoid, "Tanh": wg.tanh, "Relu": wg.relu, "Softplus": wg.softplus,
    "Softsign": wg.softsign, "Affine": lambda x: x,
}  # fmt: skip


def _activations(names: Any, default: Sequence[str], directions: int) -> list[list[Any]]:
    chosen = list(names or list(default) * directions)
    for name in chosen:
        if name not in _ACTIVATIONS:
            raise UnsupportedError(f"the activation {name}")
    n = len(default)
    return [[_ACTIVATIONS[a] for a in chosen[d * n : d * n + n]] for d in range(directions)]


def _recurrent(
    step: Callable[..., Any],
    x: Tensor,
    lengths: Any,
    states: list[Any],
    n: int,
    hidden: int,
    direction: str,
    layout: int,
) -> Any:
    """Steps of one layer; step(d, x_t, states) -> states, the first of which is the output."""
    if layout:
        x, states = (
            wg.transpose(x, 0, 1),
            [None if s is None else wg.transpose(s, 0, 1) for s in states],
        )
    length, batch = x.shape[:2]
    turns = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    outputs, finals = [], []
    for d, turned in enumerate(turns):
        now = [wg.zeros((batch, hidden), x.dtype) if s is None else s[d] for s in states]
        made: list[Any] = [None] * length
        for t in range(length)[:: -1 if turned else 1]:
            new = step(d, x[t], now)
            if lengths is not None:
                going = (lengths > t).reshape(-1, 1)
                new = [wg.where(going, a, b) for a, b in zip(new, now, strict=True)]
                made[t] = wg.where(going, new[0], 0.0)
            else:
                made[t] = new[0]
            now = new
        outputs.append(wg.stack(made))
        finals.append(now)
    y = wg.stack(outputs, 1)
    last = [wg.stack([f[i] for f in finals]) for i in range(len(states))]
    if layout:
        y, last = y.permute((2, 0, 1, 3)), [wg.transpose(s, 0, 1) for s in last]
    return (y, *last)


def _clip(clip: float | None) -> Callable[[Tensor], Tensor]:
    return (lambda v: v) if clip is None else (lambda v: v.clamp(-clip, clip))


@_op
def RNN(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Any = None,
    lengths: Any = None,
    h0: Any = None,
    hidden_size: int = 0,
    direction: str = "forward",
    activations: Any = None,
    clip: float | None = None,
    layout: int = 0,
    **more: Any,
) -> Any:
    """h = f(x w' + h r' + b)"""
    _unsupported(**{k: v for k, v in more.items() if k != "output_sequence"})
    fs, bound = _activations(activations, ["Tanh"], w.shape[0]), _clip(clip)
    n = hidden_size or r.shape[-1]

    def step(d: int, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        s = x @ w[d].T + states[0] @ r[d].T
        return [fs[d][0](bound(s if b is None else s + b[d][:n] + b[d][n:]))]

    return _recurrent(step, x, lengths, [h0], w.shape[0], n, direction, layout)


@_op
def GRU(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Any = None,
    lengths: Any = None,
    h0: Any = None,
    hidden_size: int = 0,
    direction: str = "forward",
    activations: Any = None,
    clip: float | None = None,
    linear_before_reset: int = 0,
    layout: int = 0,
    **more: Any,
) -> Any:
    """z, r = f(...); n = g(...); h = (1 - z) n + z h"""
    _unsupported(**{k: v for k, v in more.items() if k != "output_sequence"})
    fs, bound = _activations(activations, ["Sigmoid", "Tanh"], w.shape[0]), _clip(clip)
    n = hidden_size or r.shape[-1]

    def step(d: int, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        (h,), (f, g) = states, fs[d]
        wb, rb = (wg.zeros((3 * n,), x.dtype),) * 2 if b is None else (b[d][: 3 * n], b[d][3 * n :])
        gates = x @ w[d].T + wb
        both = bound(gates[:, : 2 * n] + h @ r[d][: 2 * n].T + rb[: 2 * n])
        z, reset = f(both[:, :n]), f(both[:, n:])
        rh = r[d][2 * n :].T
        new = (
            reset * (h @ rh + rb[2 * n :])
            if linear_before_reset
            else (reset * h) @ rh + rb[2 * n :]
        )
        return [(1 - z) * g(bound(gates[:, 2 * n :] + new)) + z * h]

    return _recurrent(step, x, lengths, [h0], w.shape[0], n, direction, layout)


@_op
def LSTM(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Any = None,
    lengths: Any = None,
    h0: Any = None,
    c0: Any = None,
    peepholes: Any = None,
    hidden_size: int = 0,
    direction: str = "forward",
    activations: Any = None,
    clip: float | None = None,
    input_forget: int = 0,
    layout: int = 0,
    **more: Any,
) -> Any:
    """i, o, f = f(...); c = f c + i g(...); h = o h(c)"""
    _unsupported(**{k: v for k, v in more.items() if k != "output_sequence"})
    fs, bound = _activations(activations, ["Sigmoid", "Tanh", "Tanh"], w.shape[0]), _clip(clip)
    n = hidden_size or r.shape[-1]

    def step(d: int, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        (h, c), (f, g, k) = states, fs[d]
        gates = x @ w[d].T + h @ r[d].T
        gates = gates if b is None else gates + b[d][: 4 * n] + b[d][4 * n :]
        i, o, forget, new = (gates[:, a * n : a * n + n] for a in range(4))
        p = None if peepholes is None else [peepholes[d][a * n : a * n + n] for a in range(3)]
        i, forget = (i, forget) if p is None else (i + p[0] * c, forget + p[2] * c)
        i = f(bound(i))
        c = (1 - i if input_forget else f(bound(forget))) * c + i * g(bound(new))
        o = o if p is None else o + p[1] * c
        return [f(bound(o)) * k(c), c]

    return _recurrent(step, x, lengths, [h0, c0], w.shape[0], n, direction, layout)


# ---- sequences and optional values

TABLE |= {
    "SequenceEmpty": lambda c, dtype=1: [],
    "SequenceConstruct": lambda c, *x: list(x),
    "SequenceAt": lambda c, s, at: s[_ints(at)[0]],
    "SequenceLength": lambda c, s: _core.tensor(len(s), dtype="int64"),
    "SequenceInsert": lambda c, s, x, at=None: [*s[: _place(s, at)], x, *s[_place(s, at) :]],
    "SequenceErase": lambda c, s, at=None: [
        x for i, x in enumerate(s) if i != (len(s) - 1 if at is None else _ints(at)[0] % len(s))
    ],
    "ConcatFromSequence": lambda c, s, axis, new_axis=0: (
        wg.stack(s, axis) if new_axis else wg.concatenate(s, axis)
    ),
    "SplitToSequence": lambda c, x, sizes=None, axis=0, keepdims=1: _to_sequence(
        x, sizes, axis, keepdims
    ),
    "Optional": lambda c, x=None, type=None: x,
    "OptionalGetElement": lambda c, x: x,
    "OptionalHasElement": lambda c, x=None: _core.tensor(x is not None),
}


def _place(s: list[Any], at: Any) -> int:
    return (
        len(s) if at is None else _ints(at)[0] % (len(s) + 1) if _ints(at)[0] < 0 else _ints(at)[0]
    )


def _to_sequence(x: Tensor, sizes: Any, axis: int, keepdims: int) -> list[Tensor]:
    if sizes is None:
        parts = [wg.narrow(x, axis, i, 1) for i in range(x.shape[axis])]
        return parts if keepdims else [p.squeeze(axis) for p in parts]
    n, given = x.shape[axis], _ints(sizes)
    if sizes.ndim == 0:
        given = [min(given[0], n - i) for i in range(0, n, given[0])]
    ends = np.cumsum(given).tolist()
    return [wg.narrow(x, axis, e - k, k) for k, e in zip(given, ends, strict=True)]


# ---- windows, of audio


def _window(a: float, b: float, c: float) -> Callable[..., Any]:
    def call(_: Call, size: Tensor, output_datatype: int = 1, periodic: int = 1) -> Tensor:
        n = _ints(size)[0]
        at = np.arange(n) * (2 * np.pi / (n if periodic else max(n - 1, 1)))
        return _core.tensor(a - b * np.cos(at) + c * np.cos(2 * at)).to(_dtype(output_datatype))

    return call


TABLE |= {
    "HannWindow": _window(0.5, 0.5, 0.0),
    "HammingWindow": _window(25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": _window(0.42, 0.5, 0.08),
}

# ---- attention, and places


@_op
def Attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    lengths: Any = None,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    q_num_heads: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    qk_matmul_output_mode: int = 0,
    softmax_precision: int | None = None,
    left_window_size: int = -1,
    right_window_size: int = -1,
) -> Any:
    """softmax(scale q k' + mask) v, of (batch, heads, length, width), or heads in the last axis."""
    flat = q.ndim == 3
    if flat:
        q, k, v = (
            _heads(x, n) for x, n in ((q, q_num_heads), (k, kv_num_heads), (v, kv_num_heads))
        )
    if past_key is not None:
        k, v = wg.concatenate([past_key, k], 2), wg.concatenate([past_value, v], 2)
    present = (k, v)
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = (wg.repeat_interleave(x, groups, 1) for x in (k, v))
    by = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (q * math.sqrt(by)) @ wg.transpose(k * math.sqrt(by), -1, -2)
    raw = scores = softcap * wg.tanh(scores / softcap) if softcap else scores
    n, m = scores.shape[-2:]
    bias = wg.zeros((n, m), q.dtype)
    if mask is not None:
        mask = wg.where(mask, 0.0, -math.inf).to(q.dtype) if mask.dtype == wg.bool_ else mask
        short = m - mask.shape[-1]
        if short > 0:
            mask = wg.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, short)], "constant", -math.inf)
        bias = bias + mask
    first: Any = 0 if past_key is None else past_key.shape[2]  # place of the first query
    if past_key is None and lengths is not None:
        first = lengths.reshape(-1, 1, 1, 1) - n
    place = wg.arange(n).reshape(-1, 1) + first
    ahead = 0 if is_causal else right_window_size
    if is_causal and right_window_size >= 0:
        ahead = min(ahead, right_window_size)
    if ahead >= 0:
        bias = wg.where(wg.arange(m) > place + ahead, -math.inf, bias)
    if left_window_size >= 0:
        bias = wg.where(wg.arange(m) < place - left_window_size, -math.inf, bias)
    if lengths is not None:
        bias = bias + wg.where(wg.arange(m) < lengths.reshape(-1, 1, 1, 1), 0.0, -math.inf).to(
            q.dtype
        )
    biased = scores + bias
    weights = _core.softmax(biased, -1)
    weights = wg.where(bias.max(-1, keepdims=True) == -math.inf, 0.0, weights)
    y = (weights @ v).to(q.dtype)
    if flat:
        y = wg.transpose(y, 1, 2).reshape(y.shape[0], y.shape[2], -1)
    shown = (raw, raw if softcap else biased, biased, weights)[qk_matmul_output_mode]
    return (y, *present, shown)[: call.outputs]


def _heads(x: Tensor, n: int) -> Tensor:
    return wg.transpose(x.reshape(x.shape[0], x.shape[1], n, -1), 1, 2)


@_op
def RotaryEmbedding(
    call: Call,
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    at: Any = None,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Pairs of x turned by angles of their positions. arXiv 2104.09864."""
    flat = x.ndim == 3
    heads = _heads(x, num_heads) if flat else x
    if at is not None:
        cos, sin = cos[at.to("int64")], sin[at.to("int64")]
    n = rotary_embedding_dim or heads.shape[-1]
    turned, rest = heads[..., :n], heads[..., n:]
    c, s = (v[..., : n // 2].unsqueeze(1) for v in (cos, sin))
    a, b = (
        (turned[..., 0::2], turned[..., 1::2])
        if interleaved
        else (turned[..., : n // 2], turned[..., n // 2 :])
    )
    pair = [c * a - s * b, s * a + c * b]
    y = wg.stack(pair, -1).reshape(turned.shape) if interleaved else wg.concatenate(pair, -1)
    y = wg.concatenate([y, rest], -1)
    return wg.transpose(y, 1, 2).reshape(x.shape) if flat else y


@_op
def AffineGrid(call: Call, theta: Tensor, size: Tensor, align_corners: int = 0) -> Tensor:
    """Places of an output's elements in an input, by an affine map of [-1, 1]."""
    sizes = _ints(size)[2:]
    steps = [
        wg.linspace(-1, 1, n) if align_corners else (wg.arange(n) * 2 + 1).float() / n - 1
        for n in sizes
    ]
    grid = wg.stack([*wg.meshgrid(*steps, indexing="ij")[::-1], wg.ones(tuple(sizes))], -1).to(
        theta.dtype
    )
    flat = grid.reshape(1, -1, len(sizes) + 1) @ wg.transpose(theta, 1, 2)
    return flat.reshape(theta.shape[0], *sizes, len(sizes))


@_op
def QuantizeLinear(
    call: Call,
    x: Tensor,
    scale: Tensor,
    zero: Any = None,
    axis: int = 1,
    output_dtype: int = 0,
    block_size: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    """round(x / scale) + zero, within uint8."""
    _unsupported(block_size=block_size, precision=precision)
    if (zero is not None and zero.dtype != wg.uint8) or output_dtype not in (0, 2):
        raise UnsupportedError("QuantizeLinear to another type than uint8")
    s, z = _along(scale, x, axis), 0 if zero is None else _along(zero, x, axis)
    return (wg.round(x / s) + z).clamp(0, 255).to("uint8")


@_op
def DequantizeLinear(
    call: Call,
    x: Tensor,
    scale: Tensor,
    zero: Any = None,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """(x - zero) scale"""
    _unsupported(block_size=block_size)
    y = x.to(scale.dtype)
    y = y if zero is None else y - _along(zero, x, axis).to(scale.dtype)
    y = y * _along(scale, x, axis)
    return y.to(_dtype(output_dtype)) if output_dtype else y


def _along(v: Tensor, x: Tensor, axis: int) -> Tensor:
    if v.ndim == 0 or v.size == 1:
        return v.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return v.reshape(*shape)


@_op
def DynamicQuantizeLinear(call: Call, x: Tensor) -> Any:
    """x in uint8 by its own range, with scale and zero point."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    zero = wg.round((-low / scale).clamp(0, 255))
    y = (wg.round(x / scale) + zero).clamp(0, 255)
    return y.to("uint8"), scale, zero.to("uint8")
