"""Layers that add elements around their input: see nn.functional.pad.

Each takes x with its padded axes last, after (channels,) or (n, channels). padding is one number,
or (left, right) of the last axis, then (top, bottom) of the one before it, and so on; a negative
one crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .. import _explained
from .._core import ShapeError, Tensor
from . import functional
from .module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Module):
    axes: ClassVar[int]
    mode: ClassVar[str] = "constant"

    @_explained.explained
    def __init__(self, padding: int | Sequence[int]) -> None:
        n, name = 2 * self.axes, type(self).__name__
        self.padding = (padding,) * n if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != n:
            raise ValueError(f"{name}: padding is {self.padding}; expected one number, or {n}")

    def _value(self) -> float:
        return 0.0

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in (self.axes + 1, self.axes + 2):
            raise ShapeError(
                f"{type(self).__name__}: x has shape {x.shape}; expected {self.axes} axes after "
                "(channels,) or (n, channels)"
            )
        return functional.pad(x, self.padding, self.mode, self._value())

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad1d(_Pad):
    """Zeros around x (n, channels, length)."""

    axes = 1


class ZeroPad2d(_Pad):
    """Zeros around x (n, channels, height, width)."""

    axes = 2


class ZeroPad3d(_Pad):
    """Zeros around x (n, channels, depth, height, width)."""

    axes = 3


class _ConstantPad(_Pad):
    @_explained.explained
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def _value(self) -> float:
        return self.value

    def extra_repr(self) -> str:
        return f"{self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """`value` around x (n, channels, length)."""

    axes = 1


class ConstantPad2d(_ConstantPad):
    """`value` around x (n, channels, height, width)."""

    axes = 2


class ConstantPad3d(_ConstantPad):
    """`value` around x (n, channels, depth, height, width)."""

    axes = 3


class ReflectionPad1d(_Pad):
    """x (n, channels, length) mirrored at its ends."""

    axes, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """x (n, channels, height, width) mirrored at its edges."""

    axes, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """x (n, channels, depth, height, width) mirrored at its faces."""

    axes, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """x (n, channels, length) with its ends repeated."""

    axes, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """x (n, channels, height, width) with its edges repeated."""

    axes, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """x (n, channels, depth, height, width) with its faces repeated."""

    axes, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """x (n, channels, length) again on both sides."""

    axes, mode = 1, "circular"


class CircularPad2d(_Pad):
    """x (n, channels, height, width) again on all sides."""

    axes, mode = 2, "circular"


class CircularPad3d(_Pad):
    """x (n, channels, depth, height, width) again on all sides."""

    axes, mode = 3, "circular"


_explained.explain_all(globals())
