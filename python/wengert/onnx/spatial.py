"""ONNX's convolutions, pools and resizing, of x (n, channels, space ...), for `ops.TABLE`."""

# ruff: noqa: N802 - the names are ONNX's
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import wengert as wg

from .. import _core
from .._core import Tensor
from ..nn import functional
from ..resampling import _cubic, _triangle
from .ops import TABLE, Call, UnsupportedError, _ints, _op


def _spatial(name: str, x: Tensor) -> Callable[..., Any]:
    """The function of that number of axes: conv1d, conv2d or conv3d for "conv"."""
    n = x.ndim - 2
    if n not in (1, 2, 3):
        raise UnsupportedError(f"{n} axes of space; there are 1, 2 and 3")
    found: Callable[..., Any] = getattr(functional, f"{name}{n}d")
    return found


def _same(sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int], low: bool) -> Any:
    """Pads before and after each axis so that sizes / strides, rounded up, places are made."""
    pads = [
        max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, reach, strides, strict=True)
    ]
    return [(p - p // 2, p // 2) if low else (p // 2, p - p // 2) for p in pads]


class _Window:
    """Kernel sizes, strides, dilations and pads of a node."""

    def __init__(
        self, x: Tensor, kernel: Sequence[int], strides: Any, pads: Any, dilations: Any,
        auto_pad: str, ceil_mode: int = 0, whole: bool = True,
    ) -> None:  # fmt: skip
        """whole: x is what the windows lie in, not what they make."""
        n = x.ndim - 2
        self.kernel = list(kernel)
        self.strides = list(strides or [1] * n)
        self.dilations = list(dilations or [1] * n)
        for what, values in (
            ("kernel_shape", self.kernel), ("strides", self.strides), ("dilations", self.dilations),
            ("pads", pads or [0, 0] * n),
        ):  # fmt: skip
            if len(values) != (2 * n if what == "pads" else n):
                raise ValueError(f"{what}={values}, and x has {n} axes of space")
            if min(values, default=1) < (0 if what == "pads" else 1):
                raise ValueError(f"{what}={values}: too small")
        self.reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        sizes = x.shape[2:]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            self.pads = _same(sizes, self.reach, self.strides, auto_pad == "SAME_LOWER")
        elif auto_pad in ("NOTSET", "VALID"):
            given = pads if pads and auto_pad == "NOTSET" else [0, 0] * n
            self.pads = list(zip(given[:n], given[n:], strict=True))
        else:
            raise UnsupportedError(f"auto_pad={auto_pad!r}")
        for size, reach, (before, after) in zip(sizes, self.reach, self.pads, strict=True):
            if whole and not ceil_mode and reach > size + before + after:
                raise ValueError(
                    f"a kernel of {reach} is longer than the {size + before + after} elements "
                    "there, padding included"
                )
        self.beyond = [0] * n  # elements after the pads that the last window of ceil_mode reaches
        if ceil_mode:
            for i, (size, (before, after)) in enumerate(zip(sizes, self.pads, strict=True)):
                rest = size + before + after - self.reach[i]
                last = -(-rest // self.strides[i]) * self.strides[i]
                if last >= size + before:  # it must begin within x or the pads before it
                    last -= self.strides[i]
                self.beyond[i] = max(last - rest, 0)

    def padded(self, x: Tensor, value: float, beyond: float | None = None) -> Tensor:
        """x with pads of `value`, and with what is beyond its pads."""
        none = [(0, 0)] * 2
        x = wg.pad(x, [*none, *self.pads], "constant", value) if any(map(any, self.pads)) else x
        if any(self.beyond):
            after = [(0, n) for n in self.beyond]
            x = wg.pad(x, [*none, *after], "constant", value if beyond is None else beyond)
        return x


@_op
def Conv(
    call: Call, x: Tensor, w: Tensor, b: Any = None, auto_pad: str = "NOTSET",
    dilations: Any = None, group: int = 1, kernel_shape: Any = None, pads: Any = None,
    strides: Any = None,
) -> Tensor:  # fmt: skip
    """x convolved with w (out, in / group, kernel ...)."""
    window = _Window(x, w.shape[2:], strides, pads, dilations, auto_pad)
    made: Tensor = _spatial("conv", x)(
        x, w, b, stride=window.strides, padding=window.pads, dilation=window.dilations,
        groups=group,
    )  # fmt: skip
    return made


@_op
def ConvTranspose(
    call: Call, x: Tensor, w: Tensor, b: Any = None, auto_pad: str = "NOTSET",
    dilations: Any = None, group: int = 1, kernel_shape: Any = None, output_padding: Any = None,
    output_shape: Any = None, pads: Any = None, strides: Any = None,
) -> Any:  # fmt: skip
    """The transpose of Conv: w is (in, out / group, kernel ...)."""
    n = x.ndim - 2
    window = _Window(x, w.shape[2:], strides, pads, dilations, "NOTSET", whole=False)
    more = list(output_padding or [0] * n)
    whole = [
        (size - 1) * s + k
        for size, s, k in zip(x.shape[2:], window.strides, window.reach, strict=True)
    ]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and output_shape is None:
        output_shape = [size * s for size, s in zip(x.shape[2:], window.strides, strict=True)]
    if output_shape is not None:
        total = [m + a - o for m, a, o in zip(whole, more, list(output_shape)[-n:], strict=True)]
        low = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
        window.pads = [(a, t - a) for a, t in zip(low, total, strict=True)]
    options = {"stride": window.strides, "dilation": window.dilations, "groups": group}
    f = _spatial("conv_transpose", x)
    room = [max(s, d) for s, d in zip(window.strides, window.dilations, strict=True)]
    fits = all(0 <= m < r for m, r in zip(more, room, strict=True))
    if fits and all(a == b and a >= 0 for a, b in window.pads):
        before = [a for a, _ in window.pads]
        made: Tensor = f(x, w, b, padding=before, output_padding=more, **options)
        return made
    y = f(x, w, None, **options)
    for axis, ((before, after), add, size) in enumerate(
        zip(window.pads, more, whole, strict=True), 2
    ):
        end = size - after + add
        y = wg.narrow(y, axis, max(before, 0), min(end, size) - max(before, 0))
        if before < 0 or end > size:
            pairs = [(0, 0)] * y.ndim
            pairs[axis] = (max(-before, 0), max(end - size, 0))
            y = wg.pad(y, pairs, "constant", 0.0)
    return y if b is None else y + b.reshape(-1, *(1,) * n)


def _lowest(x: Tensor) -> float:
    return -math.inf if x.dtype.is_floating_point else 0


@_op
def MaxPool(
    call: Call, x: Tensor, kernel_shape: Any = None, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    dilations: Any = None, pads: Any = None, storage_order: int = 0, strides: Any = None,
) -> Any:  # fmt: skip
    """The largest of each window, and its place in x laid flat."""
    window = _Window(x, kernel_shape or (), strides, pads, dilations, auto_pad, ceil_mode)
    dtype = x.dtype
    padded = window.padded(x, _lowest(x))
    padded = padded if dtype.is_floating_point else padded.to("float64")
    found = _spatial("max_pool", x)(
        padded, window.kernel, stride=window.strides, dilation=window.dilations,
        return_indices=call.outputs > 1,
    )  # fmt: skip
    if call.outputs == 1:
        return found.to(dtype)
    y, flat = found
    sizes, place = x.shape[2:], wg.zeros(flat.shape, "int64")
    order = [*range(len(sizes))]
    steps = [math.prod(sizes[i + 1 :]) for i in order]
    if storage_order:
        steps = [math.prod(sizes[:i]) for i in order]
    for i in reversed(order):
        n = padded.shape[2 + i]
        place = place + (wg.remainder(flat, n) - window.pads[i][0]) * steps[i]
        flat = wg.floor_divide(flat, n)
    planes = x.shape[0] * x.shape[1]
    first = wg.arange(planes) * math.prod(sizes)
    return y.to(dtype), place + first.reshape(*x.shape[:2], *(1,) * len(sizes))


@_op
def AveragePool(
    call: Call, x: Tensor, kernel_shape: Any = None, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    count_include_pad: int = 0, dilations: Any = None, pads: Any = None, strides: Any = None,
) -> Any:  # fmt: skip
    """The mean of each window."""
    window = _Window(x, kernel_shape or (), strides, pads, dilations, auto_pad, ceil_mode)
    y = _means(window, window.padded(x, 0.0))
    if any(map(any, window.pads)) or any(window.beyond):
        inside = wg.ones((1, 1, *x.shape[2:]), x.dtype)
        y = y / _means(window, window.padded(inside, float(bool(count_include_pad)), 0.0))
    return y


def _means(window: _Window, x: Tensor) -> Tensor:
    if all(d == 1 for d in window.dilations):
        made: Tensor = _spatial("avg_pool", x)(x, window.kernel, stride=window.strides)
        return made
    channels = x.shape[1]
    w = wg.full((channels, 1, *window.kernel), 1 / math.prod(window.kernel), dtype=x.dtype)
    made = _spatial("conv", x)(
        x, w, stride=window.strides, dilation=window.dilations, groups=channels
    )
    return made


@_op
def LpPool(call: Call, x: Tensor, kernel_shape: Any = None, p: float = 2, **given: Any) -> Any:
    """The p-norm of each window."""
    n = math.prod(kernel_shape)
    return (AveragePool(call, abs(x) ** p, kernel_shape, count_include_pad=1, **given) * n) ** (
        1 / p
    )


TABLE["GlobalLpPool"] = lambda c, x, p=2: (
    (abs(x) ** p).sum([*range(2, x.ndim)], keepdims=True) ** (1 / p)
)


@_op
def MaxUnpool(
    call: Call, x: Tensor, places: Tensor, output_shape: Any = None, kernel_shape: Any = None,
    pads: Any = None, strides: Any = None,
) -> Tensor:  # fmt: skip
    """Zeros, with x at its places: flat ones in what MaxPool was given."""
    window = _Window(x, kernel_shape or (), strides, pads, None, "NOTSET", whole=False)
    rest = [
        (n - 1) * s + k - a - b
        for n, s, k, (a, b) in zip(
            x.shape[2:], window.strides, window.reach, window.pads, strict=True
        )
    ]
    shape = (*x.shape[:2], *rest)
    wide = shape if output_shape is None else tuple(_ints(output_shape))
    flat = wg.zeros((math.prod(shape),), x.dtype).scatter(0, places.reshape(-1), x.reshape(-1))
    y = flat.reshape(*shape)
    return wg.pad(y, [(0, b - a) for a, b in zip(shape, wide, strict=True)], "constant", 0.0)


@_op
def ConvInteger(
    call: Call, x: Tensor, w: Tensor, x_zero: Any = None, w_zero: Any = None, **given: Any
) -> Tensor:
    """Conv of whole numbers less their zero points."""
    x, w = x.to("float64"), w.to("float64")  # sums of products are exact
    x = x if x_zero is None else x - x_zero.to("float64")
    if w_zero is not None:
        w = w - w_zero.to("float64").reshape(-1, *(1,) * (w.ndim - 1 if w_zero.size > 1 else 0))
    return Conv(call, x, w, **given).to("int32")


# ---- resizing: each axis by itself, by an index or by a matrix of weights


def _weights(
    mode: str, at: Any, scale: float, size: int, a: float, exclude: bool, antialias: bool
) -> Any:
    """The matrix (places, size) by which an axis is multiplied."""
    wide = 1 / min(scale, 1.0) if antialias else 1.0
    reach = math.ceil((2 if mode == "cubic" else 1) * wide)
    first = np.floor(at).astype(int)
    made = np.zeros((len(at), size))
    total = np.zeros(len(at))
    for j in range(-reach + 1, reach + 1):
        t = (at - (first + j)) / wide
        share = _cubic(t, a) if mode == "cubic" else _triangle(t)
        to = first + j
        if exclude:
            share = np.where((to >= 0) & (to < size), share, 0.0)
        np.add.at(made, (np.arange(len(at)), np.clip(to, 0, size - 1)), share)
        total += share
    return made / total[:, None] if exclude or antialias else made


_ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "round_prefer_floor": lambda v: np.ceil(v - 0.5),
    "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest(at: Any, how: str, size: int) -> Any:
    return np.clip(_ROUNDINGS[how](at), 0, size - 1).astype(np.int64)


def _places(how: str, size: int, out: int, scale: float, roi: Sequence[float]) -> Any:
    """The position of each of `out` places along an axis of `size`."""
    i = np.arange(out, dtype=np.float64)
    whole = scale * size  # of the output, before it is rounded
    match how:
        case "half_pixel":
            return (i + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            shift = size / 2 * (1 - out / whole)
            return shift + (i + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if out > 1 else i * 0.0
        case "align_corners":
            return i * (size - 1) / (whole - 1) if out > 1 else i * 0.0
        case "asymmetric":
            return i / scale
        case "tf_half_pixel_for_nn":
            return (i + 0.5) / scale
        case "tf_crop_and_resize":
            start, end = roi
            if out == 1:
                return i + 0.5 * (start + end) * (size - 1)
            return start * (size - 1) + i * (end - start) * (size - 1) / (out - 1)
    raise UnsupportedError(f"coordinate_transformation_mode={how!r}")


@_op
def Resize(
    call: Call, x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None,
    antialias: int = 0, axes: Any = None, coordinate_transformation_mode: str | None = None,
    cubic_coeff_a: float = -0.75, exclude_outside: int = 0, extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:  # fmt: skip
    """x with other sizes along axes, from its neighbours."""
    if call.version < 11:
        scales, roi = roi, None
        coordinate_transformation_mode, nearest_mode = "asymmetric", "floor"
    how = coordinate_transformation_mode or "half_pixel"
    along = [a % x.ndim for a in (axes or range(x.ndim))]
    if sizes is not None and sizes.size:
        wanted = _ints(sizes)
        factors = [n / x.shape[a] for n, a in zip(wanted, along, strict=True)]
        if keep_aspect_ratio_policy != "stretch":
            pick = min if keep_aspect_ratio_policy == "not_larger" else max
            factors = [pick(factors)] * len(factors)
            wanted = [math.floor(factors[0] * x.shape[a] + 0.5) for a in along]
    else:
        if scales is None or scales.size != len(along):
            raise ValueError(f"Resize: there are neither sizes nor scales of {len(along)} axes")
        factors = [float(v) for v in scales.reshape(-1).tolist()]
        if not all(map(math.isfinite, factors)):
            raise ValueError(f"Resize: scales are {factors}")
        wanted = [math.floor(x.shape[a] * f) for a, f in zip(along, factors, strict=True)]
    if min(wanted) < 0 or any(x.shape[a] == 0 < n for a, n in zip(along, wanted, strict=True)):
        raise ValueError(f"Resize: to sizes {wanted} of axes {along} of {x.shape}")
    parts = [0.0] * len(along) + [1.0] * len(along) if roi is None or not roi.size else roi.tolist()
    if mode not in ("nearest", "linear", "cubic"):
        raise UnsupportedError(f"mode={mode!r}")
    if mode == "nearest" and nearest_mode not in _ROUNDINGS:
        raise UnsupportedError(f"nearest_mode={nearest_mode!r}")
    kept = x.dtype
    for i, (axis, scale, out) in enumerate(zip(along, factors, wanted, strict=True)):
        size = x.shape[axis]
        at = _places(how, size, out, scale, (parts[i], parts[i + len(along)]))
        if out == size and (at == np.arange(size)).all():
            continue
        if mode == "nearest":
            x = wg.index_select(x, axis, wg.tensor(_nearest(at, nearest_mode, size)))
        else:
            w = _weights(
                mode, at, scale, size, cubic_coeff_a, bool(exclude_outside), bool(antialias)
            )
            real = x if x.dtype.is_floating_point else x.to("float32")
            x = wg.moveaxis(wg.moveaxis(real, axis, -1) @ wg.tensor(w.T).to(real.dtype), -1, axis)
        if how == "tf_crop_and_resize":
            outside = wg.tensor((at < 0) | (at > size - 1))
            shape = [1] * x.ndim
            shape[axis] = out
            x = wg.where(outside.reshape(*shape), extrapolation_value, x)
    return x.to(kept)


@_op
def Upsample(
    call: Call, x: Tensor, given: Any = None, scales: Any = None, mode: str = "nearest",
    height_scale: float | None = None, width_scale: float | None = None,
) -> Tensor:  # fmt: skip
    """Resize, as it was before opset 10."""
    if scales is None and given is None:
        scales = [1.0, 1.0, height_scale, width_scale]
    factors = given if given is not None else _core.tensor(scales)
    return Resize(
        call._replace(version=10), x, factors, mode={"bilinear": "linear"}.get(mode, mode)
    )
