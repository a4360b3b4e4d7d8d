"""Layers over wengert.pooling's and wengert.resampling's functions; names and defaults are
PyTorch's. Sizes are one number, or one for each axis."""

# ruff: noqa: D102, D107 - a layer's formula and arguments are explained at its class

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .. import _explained, pooling, resampling
from .._core import Tensor
from ..convolution import Sizes
from .module import Module

__all__ = [
    f"{adaptive}{kind}Pool{axes}d"
    for adaptive, kind in (("", "Avg"), ("", "Max"), ("Adaptive", "Avg"), ("Adaptive", "Max"))
    for axes in (1, 2, 3)
]
__all__ += [f"{kind}{axes}d" for kind in ("LPPool", "MaxUnpool") for axes in (1, 2, 3)]
__all__ += ["ChannelShuffle", "PixelShuffle", "PixelUnshuffle", "Upsample"]


class _MaxPool(Module):
    axes: ClassVar[int]

    @_explained.explained
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Tensor) -> Any:
        return pooling._max_pool(
            self.axes,
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """nn.functional.max_pool1d of (n, channels, length)."""

    axes = 1


class MaxPool2d(_MaxPool):
    """nn.functional.max_pool2d of (n, channels, height, width)."""

    axes = 2


class MaxPool3d(_MaxPool):
    """nn.functional.max_pool3d of (n, channels, depth, height, width)."""

    axes = 3


class _MaxUnpool(Module):
    axes: ClassVar[int]

    @_explained.explained
    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding

    def forward(
        self, x: Tensor, indices: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        return pooling._max_unpool(
            self.axes, x, indices, self.kernel_size, self.stride, self.padding, output_size
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """nn.functional.max_unpool1d: the reverse of MaxPool1d, given its indices."""

    axes = 1


class MaxUnpool2d(_MaxUnpool):
    """MaxUnpool1d of two axes."""

    axes = 2


class MaxUnpool3d(_MaxUnpool):
    """MaxUnpool1d of three axes."""

    axes = 3


class AvgPool1d(Module):
    """nn.functional.avg_pool1d of (n, channels, length)."""

    axes: ClassVar[int] = 1

    @_explained.explained
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, None

    def forward(self, x: Tensor) -> Tensor:
        return pooling._avg_pool(
            self.axes,
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(AvgPool1d):
    """nn.functional.avg_pool2d of (n, channels, height, width)."""

    axes = 2

    @_explained.explained
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override: Any = divisor_override


class AvgPool3d(AvgPool2d):
    """nn.functional.avg_pool3d of (n, channels, depth, height, width)."""

    axes = 3


class _LPPool(Module):
    axes: ClassVar[int]

    @_explained.explained
    def __init__(
        self,
        norm_type: float,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        ceil_mode: bool = False,
    ) -> None:
        self.norm_type, self.kernel_size = norm_type, kernel_size
        self.stride, self.ceil_mode = stride, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return pooling._lp_pool(
            self.axes, x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}"


class LPPool1d(_LPPool):
    """nn.functional.lp_pool1d of (n, channels, length)."""

    axes = 1


class LPPool2d(_LPPool):
    """LPPool1d of two axes."""

    axes = 2


class LPPool3d(_LPPool):
    """LPPool1d of three axes."""

    axes = 3


class _AdaptiveAvgPool(Module):
    axes: ClassVar[int]

    @_explained.explained
    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return pooling._adaptive_avg_pool(self.axes, x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """nn.functional.adaptive_avg_pool1d: means of output_size windows."""

    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """AdaptiveAvgPool1d of two axes; None in output_size: as the input."""

    axes = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """AdaptiveAvgPool1d of three axes; None in output_size: as the input."""

    axes = 3


class _AdaptiveMaxPool(Module):
    axes: ClassVar[int]

    @_explained.explained
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, x: Tensor) -> Any:
        return pooling._adaptive_max_pool(self.axes, x, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """nn.functional.adaptive_max_pool1d: the largest elements of output_size windows."""

    axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """AdaptiveMaxPool1d of two axes; None in output_size: as the input."""

    axes = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """AdaptiveMaxPool1d of three axes; None in output_size: as the input."""

    axes = 3


class Upsample(Module):
    """nn.functional.interpolate, its options given beforehand."""

    @_explained.explained
    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, x: Tensor) -> Tensor:
        return resampling.interpolate(
            x,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        what = "size" if self.size is not None else "scale_factor"
        return f"{what}={getattr(self, what)}, mode={self.mode!r}"


class PixelShuffle(Module):
    """nn.functional.pixel_shuffle: (..., c * r * r, h, w) to (..., c, h * r, w * r)."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        return resampling.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """nn.functional.pixel_unshuffle: (..., c, h * r, w * r) to (..., c * r * r, h, w)."""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, x: Tensor) -> Tensor:
        return resampling.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """nn.functional.channel_shuffle: the channels of all groups in turn."""

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return resampling.channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
