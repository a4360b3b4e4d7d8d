"""Images in other sizes: interpolate, and channels turned into pixels. PyTorch's arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from . import pooling
from ._calls import choice
from ._core import ShapeError, Tensor
from .convolution import _at_least, _sizes
from .pooling import _along, _averages

__all__ = ["channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle"]


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """The kernel of cubic convolution. Keys, IEEE Transactions on Acoustics, Speech, and Signal
    Processing 29(6), 1981."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    y: np.ndarray = np.where(t < 1, near, np.where(t < 2, far, 0.0))
    return y


def _triangle(t: np.ndarray) -> np.ndarray:
    y: np.ndarray = np.maximum(1 - np.abs(t), 0.0)
    return y


def _smooth(
    n: int, m: int, scale: float, radius: int, kernel: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Places and weights of a kernel that is stretched where the image shrinks."""
    stretch = max(scale, 1.0)
    support = radius * stretch
    center = scale * (np.arange(m) + 0.5)
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    end = np.minimum((center + support + 0.5).astype(np.int64), n)
    places = first[:, None] + np.arange(max(int((end - first).max(initial=1)), 1))
    weights = kernel((places - center[:, None] + 0.5) / stretch)
    weights = np.where(places < end[:, None], weights, 0.0)
    return np.minimum(places, n - 1), weights / weights.sum(1, keepdims=True)


def _resize(
    x: Tensor, axis: int, m: int, scale: float, mode: str, corners: bool, smooth: bool
) -> Tensor:
    n = x.shape[axis]
    i = np.arange(m)
    if mode in ("nearest", "nearest-exact"):
        # As PyTorch, in float32: the places are its.
        step = np.float32(scale)
        shift = np.float32(0.5 if mode == "nearest-exact" else 0.0)
        at = np.floor((i.astype(np.float32) + shift) * step).astype(np.int64)
        return _along(x, axis, np.minimum(at, n - 1)[:, None], np.ones((m, 1)))
    if corners:
        scale = (n - 1) / (m - 1) if m > 1 else 0.0
    if smooth:
        kernel = (lambda t: _cubic(t, -0.5)) if mode == "bicubic" else _triangle
        return _along(x, axis, *_smooth(n, m, scale, 2 if mode == "bicubic" else 1, kernel))
    at = i * scale if corners else (i + 0.5) * scale - 0.5
    if mode == "bicubic":
        first = np.floor(at)
        t = at - first
        offsets = np.arange(-1, 3)
        places = np.clip(first[:, None].astype(np.int64) + offsets, 0, n - 1)
        return _along(x, axis, places, _cubic(t[:, None] - offsets, -0.75))
    at = np.maximum(at, 0.0)
    low = np.minimum(at.astype(np.int64), n - 1)
    t = at - low
    places = np.stack([low, np.minimum(low + 1, n - 1)], 1)
    return _along(x, axis, places, np.stack([1 - t, t], 1))


_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def interpolate(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """x (n, channels, one to three axes) with its axes in other sizes.

    size            of the axes; or scale_factor, by which they grow, rounded down
    mode            "nearest", "nearest-exact"; "linear", "bilinear", "trilinear" (by the number of
                    axes), "bicubic" (two axes; Keys 1981, a = -0.75); "area": adaptive_avg_pool
    align_corners   the middles of the corner elements stay, instead of the outer edges
    recompute_scale_factor   the scale is the ratio of the sizes, not what was given
    antialias       with "bilinear" and "bicubic": where x shrinks, the kernel grows

    Each axis on its own. ValueError where options do not go together.
    """
    op, axes = "interpolate", x.ndim - 2
    known = ("nearest", "nearest-exact", *_AXES, "area")
    choice(op, "mode", mode, known)
    if not 1 <= axes <= 3 or _AXES.get(mode, axes) != axes:
        wanted = {1: "linear", 2: "bilinear or bicubic", 3: "trilinear"}.get(axes)
        raise ValueError(
            f"{op}: x has shape {x.shape} and mode is {mode!r}; expected (n, channels) and one to "
            f"three axes{f', of which {axes} go with {wanted}' if wanted else ''}"
        )
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{op}: size is {size}, scale_factor {scale_factor}; expected one of both")
    if align_corners is not None and mode not in _AXES:
        raise ValueError(f"{op}: align_corners goes with {', '.join(_AXES)}; mode is {mode!r}")
    if antialias and (mode not in ("bilinear", "bicubic")):
        raise ValueError(f"{op}: antialias goes with bilinear and bicubic; mode is {mode!r}")
    if "nearest" not in mode:
        _averages(op, f"mode {mode!r}", x)
    old = x.shape[2:]
    if scale_factor is not None:
        factors = (
            [float(scale_factor)] * axes
            if isinstance(scale_factor, int | float)
            else [float(f) for f in scale_factor]
        )
        if len(factors) != axes or not all(0 < f < math.inf for f in factors):
            raise ValueError(
                f"{op}: scale_factor is {scale_factor!r}; expected a number above 0, or {axes}"
            )
        new = [math.floor(n * f) for n, f in zip(old, factors, strict=True)]
    else:
        assert size is not None
        if recompute_scale_factor:
            raise ValueError(f"{op}: recompute_scale_factor goes with scale_factor, not with size")
        factors, new = [], _sizes(op, "size", size, axes)
    _at_least(op, "the new size", new, 1)
    if not all(old):
        raise ShapeError(f"{op}: x has shape {x.shape}; there is nothing to interpolate")
    if mode == "area":
        return pooling._adaptive_avg_pool(axes, x, new)
    if recompute_scale_factor:
        factors = []
    for a, (n, m) in enumerate(zip(old, new, strict=True)):
        scale = 1 / factors[a] if factors else n / m
        if n != m or (factors and factors[a] != 1):
            x = _resize(x, 2 + a, m, scale, mode, bool(align_corners), antialias)
    return x


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """(..., c * r * r, h, w) to (..., c, h * r, w * r), r the factor. arXiv 1609.05158."""
    r = upscale_factor
    if x.ndim < 3 or r < 1 or x.shape[-3] % (r * r):
        raise ShapeError(
            f"pixel_shuffle: x has shape {x.shape} and the factor is {r}; expected (..., channels, "
            "height, width), the channels a multiple of its square"
        )
    *lead, c, h, w = x.shape
    n = len(lead)
    y = x.reshape(*lead, c // (r * r), r, r, h, w)
    y = y.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return y.reshape(*lead, c // (r * r), h * r, w * r)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """(..., c, h * r, w * r) to (..., c * r * r, h, w), r the factor: the reverse of
    pixel_shuffle."""
    r = downscale_factor
    if x.ndim < 3 or r < 1 or x.shape[-2] % r or x.shape[-1] % r:
        raise ShapeError(
            f"pixel_unshuffle: x has shape {x.shape} and the factor is {r}; expected (..., "
            "channels, height, width), both sizes multiples of it"
        )
    *lead, c, h, w = x.shape
    n = len(lead)
    y = x.reshape(*lead, c, h // r, r, w // r, r)
    y = y.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return y.reshape(*lead, c * r * r, h // r, w // r)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """x (n, channels, ...) with the channels of all groups in turn. arXiv 1707.01083."""
    if x.ndim < 3 or groups < 1 or x.shape[1] % groups:
        raise ShapeError(
            f"channel_shuffle: x has shape {x.shape} and groups is {groups}; expected (n, "
            "channels, ...), the channels a multiple of groups"
        )
    n, c, *rest = x.shape
    return x.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(x.shape)
