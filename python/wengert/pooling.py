"""Pooling of one to three axes: PyTorch's names and arguments.

x is (n, channels, axes ...), or one alone without n; the kernel's stride is its size unless given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _core
from ._core import DTypeError, ShapeError, Tensor
from .convolution import Sizes, _at_least, _batch, _product, _sizes

__all__ = [
    f"{adaptive}{kind}_pool{axes}d"
    for adaptive, kind in (("", "avg"), ("", "max"), ("adaptive_", "avg"), ("adaptive_", "max"))
    for axes in (1, 2, 3)
]
__all__ += ["lp_pool1d", "lp_pool2d", "lp_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d"]


class _Windows:
    """Sizes, strides and padding of a pooling; the padding behind reaches to the last window.
    `used` are the kernel's sizes without what lies behind all elements: ceil_mode allows that."""

    def __init__(
        self,
        op: str,
        x: Tensor,
        axes: int,
        kernel_size: Sizes,
        stride: Sizes | None,
        padding: Sizes,
        dilation: Sizes,
        ceil_mode: bool,
    ) -> None:
        self.op, self.x, self.axes = op, x, axes
        self.size = _sizes(op, "kernel_size", kernel_size, axes)
        self.stride = self.size if stride is None else _sizes(op, "stride", stride, axes)
        self.before = _sizes(op, "padding", padding, axes)
        self.dilation = _sizes(op, "dilation", dilation, axes)
        for what, numbers, least in (
            ("kernel_size", self.size, 1),
            ("stride", self.stride, 1),
            ("padding", self.before, 0),
            ("dilation", self.dilation, 1),
        ):
            _at_least(op, what, numbers, least)
        self.after, self.counts, self.used = [], [], []
        for axis, (n, k, s, p, d) in enumerate(
            zip(x.shape[-axes:], self.size, self.stride, self.before, self.dilation, strict=True)
        ):
            reach = d * (k - 1) + 1
            if p > reach // 2:
                raise ValueError(
                    f"{op}: padding is {tuple(self.before)}; expected at most half of the "
                    f"kernel's {reach} elements"
                )
            rest = n + 2 * p - reach
            count = rest // s + 1
            if ceil_mode and rest % s and count * s < n + p:  # the last window begins inside
                count += 1
            if count < 1:
                raise ShapeError(
                    f"{op}: along axis {axis} of {axes} a kernel of {reach} is longer than the "
                    f"{n + 2 * p} elements there, padding included"
                )
            self.used.append(min(k, (n + p - 1) // d + 1) if count == 1 else k)
            self.counts.append(count)
            self.after.append((count - 1) * s + d * (self.used[-1] - 1) + 1 - n - p)


def _max_pool(
    axes: int,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    op = f"max_pool{axes}d"
    x, many = _batch(op, x, axes)
    w = _Windows(op, x, axes, kernel_size, stride, padding, dilation, ceil_mode)
    y, at = _core._max_pool(op, x, w.used, w.stride, w.before, w.after, w.dilation)
    if not many:
        y, at = y[0], at[0]
    return (y, at) if return_indices else y


def max_pool1d(
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of x (n, channels, length); NaN if there is one.

    padding          elements at each end that no window takes; at most half of the kernel
    ceil_mode        the last window may reach beyond the end
    return_indices   (values, indices): where each is, counted over all axes behind the channels

    The gradient goes to the first of equal elements.
    """
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """max_pool1d of two axes: x (n, channels, height, width)."""
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """max_pool1d of three axes: x (n, channels, depth, height, width)."""
    return _max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _sums(w: _Windows) -> Tensor:
    """The sum of each window: a convolution of single channels with ones."""
    x, spatial = w.x, w.x.shape[-w.axes :]
    planes = x.reshape(_product(x.shape[: -w.axes]), 1, *spatial)
    ones = _core.ones((1, 1, *w.used), dtype=x.dtype, device=x.device)
    y = _core._convolution(w.op, planes, ones, w.stride, w.before, w.after, [1] * w.axes, 1)
    return y.reshape(*x.shape[: -w.axes], *y.shape[2:])


def _avg_pool(
    axes: int,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    op = f"avg_pool{axes}d"
    if divisor_override == 0:
        raise ValueError(f"{op}: divisor_override is 0; expected another number, or None")
    x, many = _batch(op, x, axes)
    w = _Windows(op, x, axes, kernel_size, stride, padding, 1, ceil_mode)
    y = _sums(w)
    if divisor_override is not None:
        y = y / divisor_override
    else:
        y = y / _elements(w, count_include_pad)
    return y if many else y[0]


def _elements(w: _Windows, with_padding: bool) -> Tensor | int:
    """Elements of each window: those of x, and also those of the padding that was given."""
    parts = []
    for n, k, s, p, count in zip(
        w.x.shape[-w.axes :], w.size, w.stride, w.before, w.counts, strict=True
    ):
        first = np.arange(count) * s - p
        end = np.minimum(first + k, n + p)
        if not with_padding:
            first, end = np.maximum(first, 0), np.minimum(end, n)
        parts.append(end - first)
    if all(bool(np.all(part == k)) for part, k in zip(parts, w.size, strict=True)):
        return _product(w.size)
    total = parts[0]
    for part in parts[1:]:
        total = total[..., None] * part
    return _core.tensor(total, dtype=w.x.dtype, device=w.x.device)


def avg_pool1d(
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of x (n, channels, length); floating.

    count_include_pad   the zeros of the padding count as elements
    """
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """avg_pool1d of two axes: x (n, channels, height, width). divisor_override: by what the sum of
    a window is divided, in place of the number of its elements."""
    return _avg_pool(
        2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """avg_pool2d of three axes: x (n, channels, depth, height, width)."""
    return _avg_pool(
        3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(
    axes: int,
    x: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None,
    ceil_mode: bool,
) -> Tensor:
    op = f"lp_pool{axes}d"
    if not norm_type > 0:
        raise ValueError(f"{op}: norm_type is {norm_type}; expected more than 0")
    x, many = _batch(op, x, axes)
    w = _Windows(op, x**norm_type, axes, kernel_size, stride, 0, 1, ceil_mode)
    total = _sums(w) / _elements(w, True) * _product(w.size)
    y = (total.sign() * total.abs().relu()) ** (1.0 / norm_type)
    return y if many else y[0]


def lp_pool1d(
    x: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(sum of x ** p) ** (1 / p) of each window of x (n, channels, length), p = norm_type; a window
    that ceil_mode cuts counts as if it were whole."""
    return _lp_pool(1, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    x: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """lp_pool1d of two axes: x (n, channels, height, width)."""
    return _lp_pool(2, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    x: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """lp_pool1d of three axes: x (n, channels, depth, height, width)."""
    return _lp_pool(3, x, norm_type, kernel_size, stride, ceil_mode)


def _adaptive(op: str, x: Tensor, output_size: Any, axes: int) -> tuple[Tensor, bool, list[int]]:
    x, many = _batch(op, x, axes)
    given: Any = [None] * axes if output_size is None else output_size
    if not isinstance(given, int):
        given = [
            n if m is None else m for m, n in zip(given, x.shape[-axes:], strict=len(given) == axes)
        ]
    out = _sizes(op, "output_size", given, axes)
    _at_least(op, "output_size", out, 0)
    if not all(x.shape[-axes:]):
        raise ShapeError(f"{op}: x has shape {x.shape}; its last {axes} axes must have elements")
    return x, many, out


def _spans(size: int, count: int) -> tuple[Any, Any]:
    """What each of `count` windows sees of `size` elements: places (count, the most of a window), a
    short window's last one again, and how many each has (count, 1)."""
    first = np.arange(count)[:, None] * size // count
    lengths = -(-(np.arange(count)[:, None] + 1) * size // count) - first
    return first + np.minimum(np.arange(lengths.max(initial=1)), lengths - 1), lengths


def _averages(op: str, what: str, x: Tensor) -> None:
    """An error for whole numbers: their weights would be cut off to 0."""
    if not x.dtype.is_floating_point:
        raise DTypeError(
            f"{op}: x is {x.dtype.name}, and {what} makes averages; write x.float(), and round() "
            "after it"
        )


def _along(x: Tensor, axis: int, places: Any, weights: Any) -> Tensor:
    """Along an axis, y[i] = sum over k of weights[i][k] * x[places[i][k]]."""
    places, weights = np.asarray(places), np.asarray(weights, np.float64)
    shape = (-1,) + (1,) * (x.ndim - 1 - axis)
    y = None
    for at, weight in zip(places.T, weights.T, strict=True):
        part = x.index_select(axis, _core.tensor(at, device=x.device))
        if not (weight == 1).all():
            factor = _core.tensor(weight, dtype=x.dtype, device=x.device)
            part = part * factor.reshape(shape)
        y = part if y is None else y + part
    assert y is not None
    return y


def _adaptive_avg_pool(axes: int, x: Tensor, output_size: Any) -> Tensor:
    op = f"adaptive_avg_pool{axes}d"
    x, many, out = _adaptive(op, x, output_size, axes)
    _averages(op, "a mean", x)
    for axis, count in zip(range(x.ndim - axes, x.ndim), out, strict=True):
        size = x.shape[axis]
        if count == size:
            continue
        if count == 1:
            x = x.mean(axis, keepdims=True)
            continue
        places, lengths = _spans(size, count)
        x = _along(x, axis, places, (np.arange(places.shape[1]) < lengths) / lengths)
    return x if many else x[0]


def adaptive_avg_pool1d(x: Tensor, output_size: Any) -> Tensor:
    """The means of output_size windows of x (n, channels, length), of nearly one length: window i
    has the elements from floor(i * length / size) to ceil((i + 1) * length / size) - 1."""
    return _adaptive_avg_pool(1, x, output_size)


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    """adaptive_avg_pool1d of two axes; None in output_size: as x."""
    return _adaptive_avg_pool(2, x, output_size)


def adaptive_avg_pool3d(x: Tensor, output_size: Any) -> Tensor:
    """adaptive_avg_pool1d of three axes; None in output_size: as x."""
    return _adaptive_avg_pool(3, x, output_size)


def _adaptive_max_pool(axes: int, x: Tensor, output_size: Any, return_indices: bool) -> Any:
    op = f"adaptive_max_pool{axes}d"
    x, many, out = _adaptive(op, x, output_size, axes)
    shape = x.shape[-axes:]
    if all(m and n % m == 0 for n, m in zip(shape, out, strict=True)):
        size = [n // m for n, m in zip(shape, out, strict=True)]
        none = [0] * axes
        y, at = _core._max_pool(op, x, size, size, none, none, [1] * axes)
    else:  # the windows' elements side by side
        places = np.zeros((1, 1), np.int64)
        for n, m in zip(shape, out, strict=True):
            own, _ = _spans(n, m)
            places = (places[:, None, :, None] * n + own[None, :, None, :]).reshape(
                len(places) * m, -1
            )
        flat = x.reshape(*x.shape[:2], _product(shape))
        index = _core.tensor(places, device=x.device)
        best = flat.detach()[:, :, index].argmax(-1, keepdims=True)
        at = index.expand(*x.shape[:2], *places.shape).gather(-1, best)[..., 0]
        y = flat.gather(-1, at).reshape(*x.shape[:2], *out)
        at = at.reshape(*x.shape[:2], *out)
    if not many:
        y, at = y[0], at[0]
    return (y, at) if return_indices else y


def adaptive_max_pool1d(x: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of adaptive_avg_pool1d's windows; the gradient goes to the first of
    equal ones. return_indices: as max_pool1d."""
    return _adaptive_max_pool(1, x, output_size, return_indices)


def adaptive_max_pool2d(x: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """adaptive_max_pool1d of two axes; None in output_size: as x."""
    return _adaptive_max_pool(2, x, output_size, return_indices)


def adaptive_max_pool3d(x: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """adaptive_max_pool1d of three axes; None in output_size: as x."""
    return _adaptive_max_pool(3, x, output_size, return_indices)


def _max_unpool(
    axes: int,
    x: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    output_size: Sequence[int] | None,
) -> Tensor:
    op = f"max_unpool{axes}d"
    x, many = _batch(op, x, axes)
    indices = indices if many else indices[None]
    if indices.shape != x.shape:
        raise ShapeError(f"{op}: indices have shape {indices.shape}; expected x's, {x.shape}")
    size = _sizes(op, "kernel_size", kernel_size, axes)
    steps = size if stride is None else _sizes(op, "stride", stride, axes)
    pads = _sizes(op, "padding", padding, axes)
    out = [
        (n - 1) * s - 2 * p + k
        for n, s, p, k in zip(x.shape[-axes:], steps, pads, size, strict=True)
    ]
    if output_size is not None:
        out = _sizes(op, "output_size", list(output_size)[-axes:], axes)
    planes = x.shape[:2]
    zeros = _core.zeros((*planes, _product(out)), dtype=x.dtype, device=x.device)
    y = zeros.scatter(-1, indices.reshape(*planes, -1), x.reshape(*planes, -1))
    y = y.reshape(*planes, *out)
    return y if many else y[0]


def max_unpool1d(
    x: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Zeros, with the values x of max_pool1d at its indices. output_size: of the last axes, where
    several sizes have the same pooling."""
    return _max_unpool(1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    x: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """max_unpool1d of two axes."""
    return _max_unpool(2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """max_unpool1d of three axes."""
    return _max_unpool(3, x, indices, kernel_size, stride, padding, output_size)
