"""Normalisation layers over wengert.functional's functions; names and defaults are PyTorch's.

Running statistics are buffers: in training they move towards the batch's by `momentum`; in
evaluation they take the batch's place. Where momentum is None, BatchNorm's are the average of all
batches, and InstanceNorm's stay, as PyTorch's.
"""

# ruff: noqa: D102, D107 - a layer's formula and arguments are explained at its class

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .. import _core, _explained, functional
from .._calls import describe
from .._core import Tensor
from ..autograd import no_grad
from . import functional as nn_functional
from .module import Module, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


class _Norm(Module):
    _keeps_shape = True
    weight: Parameter | None
    bias: Parameter | None

    def _scale(self, shape: Sequence[int], weight: bool, bias: bool, dtype: Any) -> None:
        self.weight = Parameter(_core.ones(shape, dtype)) if weight else None
        self.bias = Parameter(_core.zeros(shape, dtype)) if bias else None


class LayerNorm(_Norm):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, of shape normalized_shape.

    weight starts as ones, bias as zeros, both of normalized_shape, or None without
    elementwise_affine or bias. arXiv 1607.06450.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape, self.eps = tuple(shape), eps
        affine = elementwise_affine
        if not isinstance(affine, bool):
            raise TypeError(
                f"LayerNorm: elementwise_affine is {describe(affine)}; expected True or False: a "
                "dtype is given by name, dtype=..."
            )
        self._scale(self.normalized_shape, affine, affine and bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return _core.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps:g}"


class RMSNorm(_Norm):
    """x / sqrt(mean(x^2) + eps) * weight over the last axes, of shape normalized_shape.

    eps None is the dtype's smallest step from 1. Zhang and Sennrich 2019, arXiv 1910.07467.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = None,
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape, self.eps = tuple(shape), eps
        self.weight = None
        if elementwise_affine:
            self.weight = Parameter(_core.ones(self.normalized_shape, dtype))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(_Norm):
    """(n, num_channels, ...), normalised over each of num_groups groups of channels and the axes
    after them, times weight plus bias of each channel. Wu and He 2018, arXiv 1803.08494.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: {num_channels} channels cannot be {num_groups} groups of one size"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self._scale((num_channels,), affine, affine and bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps:g}"


class LocalResponseNorm(_Norm):
    """x / (k + alpha * mean of x² over `size` neighbouring channels) ** beta; x (n, channels, ...).

    See nn.functional.local_response_norm.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        if size < 1:
            raise ValueError(f"LocalResponseNorm: size is {size}; expected 1 or more")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        return nn_functional.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class _Running(_Norm):
    _ndims: ClassVar[tuple[int, ...]]
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    @_explained.explained
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self._scale((num_features,), affine, affine and bias, dtype)
        kept = track_running_stats
        self.register_buffer("running_mean", _core.zeros((num_features,), dtype) if kept else None)
        self.register_buffer("running_var", _core.ones((num_features,), dtype) if kept else None)
        count = _core.zeros((), "int64") if kept else None
        self.register_buffer("num_batches_tracked", count)

    def _check(self, x: Tensor) -> None:
        kind = type(self).__name__
        if x.ndim not in self._ndims:
            raise _core.ShapeError(
                f"{kind}: input has shape {x.shape}; expected "
                f"{' or '.join(map(str, self._ndims))} axes"
            )

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps:g}, momentum={self.momentum}"


class _BatchNorm(_Running):
    def _momentum(self) -> Any:
        """How far running statistics move; counts the batch."""
        if self.num_batches_tracked is None or not self.training:
            return 0.0
        with no_grad():
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1 / self.num_batches_tracked.to("float64")
        return self.momentum

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            self._momentum(),
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """(n, num_features) or (n, num_features, length), each feature normalised over the batch and
    the length. Ioffe and Szegedy 2015, arXiv 1502.03167."""

    _ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """(n, num_features, height, width), each feature normalised over the other axes."""

    _ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """(n, num_features, depth, height, width), each feature normalised over the other axes."""

    _ndims = (5,)


class _InstanceNorm(_Running):
    @_explained.explained
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        one = x.ndim == self._ndims[0]  # without the axis of the batch
        y = functional.instance_norm(
            x.unsqueeze(0) if one else x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            self.momentum or 0.0,
            self.eps,
        )
        return y.squeeze(0) if one else y


class InstanceNorm1d(_InstanceNorm):
    """(n, num_features, length), or without n: each feature of each sample normalised over the
    length. Ulyanov, Vedaldi and Lempitsky 2016, arXiv 1607.08022."""

    _ndims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """(n, num_features, height, width), or without n, normalised over height and width."""

    _ndims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """(n, num_features, depth, height, width), or without n, normalised over the last three."""

    _ndims = (4, 5)


_explained.explain_all(globals())
