"""einops on tensors: after `import wengert.einops`, its functions take them (pip install einops).

    import wengert as wg, wengert.einops
    from einops import rearrange
    rearrange(wg.randn(2, 3, 4), "b c d -> b (c d)")

Rearrange, Reduce and EinMix here are einops' layers as modules.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _core
from .functional import einsum
from .nn import Module, Parameter
from .random import rand
from .shapes import tile

try:
    from einops import _backends
    from einops.layers import RearrangeMixin, ReduceMixin
    from einops.layers._einmix import _EinmixMixin
except ImportError as error:
    raise ImportError("wengert.einops needs einops: pip install einops") from error

__all__ = ["EinMix", "Rearrange", "Reduce"]


class Rearrange(RearrangeMixin, Module):  # type: ignore[misc]
    """einops.rearrange with a fixed pattern: Rearrange("b c h w -> b (c h w)")."""

    def forward(self, x: _core.Tensor) -> Any:
        """The elements of x in another shape."""
        return self._apply_recipe(x)


class Reduce(ReduceMixin, Module):  # type: ignore[misc]
    """einops.reduce with a fixed pattern: Reduce("b c h w -> b c", "mean")."""

    def forward(self, x: _core.Tensor) -> Any:
        """The min, max, sum, mean, prod, any or all over the axes that the pattern leaves out."""
        return self._apply_recipe(x)


class EinMix(_EinmixMixin, Module):  # type: ignore[misc]
    """A linear layer over axes that a pattern names; see einops.layers.EinMix."""

    def _create_parameters(
        self, weight_shape: Any, weight_bound: float, bias_shape: Any, bias_bound: float
    ) -> None:
        def uniform(shape: Any, bound: float) -> Parameter:
            return Parameter((rand(tuple(shape)) * 2 - 1) * bound)

        self.weight = uniform(weight_shape, weight_bound)
        self.bias = uniform(bias_shape, bias_bound) if bias_shape is not None else None

    def _create_rearrange_layers(
        self, pre: str | None, pre_lengths: Any, post: str | None, post_lengths: Any
    ) -> None:
        self.pre_rearrange = Rearrange(pre, **pre_lengths) if pre is not None else None
        self.post_rearrange = Rearrange(post, **post_lengths) if post is not None else None

    def forward(self, x: _core.Tensor) -> Any:
        """The sum of products that the pattern says, plus the bias."""
        if self.pre_rearrange is not None:
            x = self.pre_rearrange(x)
        y = einsum(self.einsum_pattern, x, self.weight)
        if self.bias is not None:
            y = y + self.bias
        return y if self.post_rearrange is None else self.post_rearrange(y)


class _Backend(_backends.AbstractBackend):  # type: ignore[misc]
    """What einops asks of a library; it finds this class by itself."""

    framework_name = "wengert"

    def is_appropriate_type(self, tensor: Any) -> bool:
        return isinstance(tensor, _core.Tensor)

    def from_numpy(self, x: Any) -> _core.Tensor:
        y = _core.tensor(np.asarray(x))
        return y.requires_grad_() if y.dtype.is_floating_point else y

    def to_numpy(self, x: _core.Tensor) -> Any:
        return x.detach().numpy()

    def arange(self, start: int, stop: int) -> _core.Tensor:
        return _core.arange(start, stop)

    def reduce(self, x: _core.Tensor, operation: str, axes: Sequence[int]) -> Any:
        return getattr(x, operation)(axis=tuple(axes))

    def transpose(self, x: _core.Tensor, axes: Sequence[int]) -> _core.Tensor:
        return x.permute(tuple(axes))

    def stack_on_zeroth_dimension(self, tensors: Sequence[_core.Tensor]) -> _core.Tensor:
        return _core.stack(tensors)

    def add_axis(self, x: _core.Tensor, new_position: int) -> _core.Tensor:
        return _core.unsqueeze(x, new_position)

    def add_axes(self, x: _core.Tensor, n_axes: int, pos2len: dict[int, int]) -> _core.Tensor:
        sizes = [-1] * n_axes
        for position, length in pos2len.items():
            x = _core.unsqueeze(x, position)
            sizes[position] = length
        return x.expand(sizes)

    def tile(self, x: _core.Tensor, repeats: Sequence[int]) -> _core.Tensor:
        return tile(x, repeats)

    def concat(self, tensors: Sequence[_core.Tensor], axis: int) -> _core.Tensor:
        return _core.concatenate(tensors, axis)

    def is_float_type(self, x: _core.Tensor) -> bool:
        return x.dtype.is_floating_point

    def layers(self) -> Any:
        return sys.modules[__name__]

    def einsum(self, pattern: str, *x: _core.Tensor) -> _core.Tensor:
        return einsum(pattern, *x)
