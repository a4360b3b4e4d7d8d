"""Layers over wengert.convolution's functions; names and defaults are PyTorch's.

in_channels and out_channels are multiples of groups. Weights and biases start from U(-b, b), b =
1 / sqrt(elements that an output sees), as in PyTorch. Sizes are one number, or one for each axis.
"""

# ruff: noqa: D102, D107 - a layer's formula and arguments are explained at its class

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from .. import _core, _explained, convolution
from .._calls import choice
from .._core import Tensor
from ..convolution import Sizes, _at_least, _product, _sizes
from ..random import Generator
from . import functional, init
from .module import Module, Parameter

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Fold",
    "Unfold",
]

_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    axes: ClassVar[int]
    bias: Parameter | None

    def _start(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes,
        dilation: Sizes,
        groups: int,
        bias: bool,
        transposed: bool,
        dtype: Any,
        generator: Generator | None,
    ) -> None:
        name, n = type(self).__name__, self.axes
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = tuple(_sizes(name, "kernel_size", kernel_size, n))
        self.stride = tuple(_sizes(name, "stride", stride, n))
        self.dilation = tuple(_sizes(name, "dilation", dilation, n))
        for what in ("kernel_size", "stride", "dilation"):
            _at_least(name, what, getattr(self, what), 1)
        for what in ("in_channels", "out_channels", "groups"):
            _at_least(name, what, _sizes(name, what, getattr(self, what), 1), 1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: in_channels is {in_channels} and out_channels {out_channels}; expected "
                f"multiples of groups, {groups}"
            )
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        weight = _core.empty((first, second // groups, *self.kernel_size), dtype)
        bound = 1.0 / math.sqrt(second // groups * _product(self.kernel_size))
        self.weight = Parameter(init.uniform_(weight, -bound, bound, generator))
        start = _core.empty((out_channels,), dtype)
        self.bias = Parameter(init.uniform_(start, -bound, bound, generator)) if bias else None

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"


class _Conv(_Convolution):
    @_explained.explained
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        name, n = type(self).__name__, self.axes
        choice(name, "padding_mode", padding_mode, _MODES)
        self.padding_mode = padding_mode
        self.padding: str | tuple[int, ...]
        if isinstance(padding, str):
            choice(name, "padding", padding, ("same", "valid"))
            self.padding = padding
        else:
            self.padding = tuple(_sizes(name, "padding", padding, n))
            _at_least(name, "padding", self.padding, 0)
        self._start(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation,
            groups,
            bias,
            False,
            dtype,
            generator,
        )
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ValueError(f"{name}: padding 'same' needs stride 1; stride is {self.stride}")

    def _around(self) -> list[int]:
        """Elements of padding as nn.functional.pad takes them."""
        if self.padding == "valid":
            return [0, 0] * self.axes
        if self.padding == "same":
            pairs = convolution._same_padding(self.kernel_size, self.dilation)
        else:
            pairs = [(int(p), int(p)) for p in self.padding]
        return [n for pair in pairs[::-1] for n in pair]

    def forward(self, x: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            x = functional.pad(x, self._around(), self.padding_mode)
            padding = 0
        return convolution._conv(
            self.axes,
            x,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.padding != (0,) * self.axes:
            text += f", padding={self.padding!r}"
        if self.dilation != (1,) * self.axes:
            text += f", dilation={self.dilation}"
        return (
            text if self.padding_mode == "zeros" else text + f", padding_mode={self.padding_mode!r}"
        )


class Conv1d(_Conv):
    """(n, in_channels, length) to (n, out_channels, new length): see nn.functional.conv1d.

    weight (out_channels, in_channels / groups, kernel_size), bias (out_channels,) or None.
    padding_mode: "zeros", "reflect", "replicate" or "circular", as nn.functional.pad.
    """

    axes = 1


class Conv2d(_Conv):
    """(n, in_channels, height, width) to (n, out_channels, new height, new width): Conv1d of two
    axes, weight (out_channels, in_channels / groups, *kernel_size)."""

    axes = 2


class Conv3d(_Conv):
    """Conv1d of three axes: (n, in_channels, depth, height, width)."""

    axes = 3


class _ConvTranspose(_Convolution):
    @_explained.explained
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        name, n = type(self).__name__, self.axes
        if padding_mode != "zeros":
            raise ValueError(f"{name}: padding_mode is {padding_mode!r}; expected 'zeros'")
        self.padding_mode = padding_mode
        self.padding = tuple(_sizes(name, "padding", padding, n))
        self.output_padding = tuple(_sizes(name, "output_padding", output_padding, n))
        _at_least(name, "padding", self.padding, 0)
        _at_least(name, "output_padding", self.output_padding, 0)
        self._start(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation,
            groups,
            bias,
            True,
            dtype,
            generator,
        )

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        more: Sequence[int] = self.output_padding
        if output_size is not None:
            sizes = list(output_size)[-self.axes :]
            least = convolution._spread_sizes(
                x.shape[-self.axes :], self.stride, self.padding, self.dilation, self.kernel_size
            )
            more = [n - m for n, m in zip(sizes, least, strict=True)]
            if any(not 0 <= m < s for m, s in zip(more, self.stride, strict=True)):
                raise ValueError(
                    f"{type(self).__name__}: output_size is {tuple(output_size)}; expected from "
                    f"{tuple(least)} on, by less than the stride {self.stride}"
                )
        return convolution._conv_transpose(
            self.axes,
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            more,
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_ConvTranspose):
    """(n, in_channels, length) to a longer one: see nn.functional.conv_transpose1d.

    weight (in_channels, out_channels / groups, kernel_size), bias (out_channels,) or None.
    forward(x, output_size) chooses output_padding so that y has this size.
    """

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """ConvTranspose1d of two axes: (n, in_channels, height, width)."""

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """ConvTranspose1d of three axes: (n, in_channels, depth, height, width)."""

    axes = 3


class Unfold(Module):
    """nn.functional.unfold: the windows of (n, channels, height, width) as columns."""

    def __init__(
        self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
    ) -> None:
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, x: Tensor) -> Tensor:
        return convolution.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """nn.functional.fold: columns added up into (n, channels, *output_size)."""

    def __init__(
        self,
        output_size: Sizes,
        kernel_size: Sizes,
        dilation: Sizes = 1,
        padding: Sizes = 0,
        stride: Sizes = 1,
    ) -> None:
        self.output_size, self.kernel_size, self.dilation = output_size, kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, x: Tensor) -> Tensor:
        return convolution.fold(
            x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )
