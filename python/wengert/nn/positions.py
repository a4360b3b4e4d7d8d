"""Positions in a sequence, for attention: added sinusoids, and rotations of queries and keys."""

# ruff: noqa: D102, D107 - a layer's formula and arguments are explained at its class

from __future__ import annotations

from .. import _core, _explained
from .._core import ShapeError, Tensor
from .module import Module

__all__ = ["RotaryPositions", "SinusoidalPositions"]


def _angles(op: str, positions: Tensor, dim: int, base: float) -> Tensor:
    """position · base^(-2i/dim), (L, dim/2), in float64."""
    if dim < 2 or dim % 2:
        raise ValueError(f"{op}: dim is {dim}; it must be an even number")
    powers = _core.arange(0, dim, 2, dtype="float64", device=positions.device) * (-1.0 / dim)
    return positions.double().unsqueeze(-1) * base**powers


class SinusoidalPositions(Module):
    """x (..., L, dim) + p, with p[l, 2i] = sin(l · base^(-2i/dim)), p[l, 2i+1] its cosine.

    Any L; nothing is trained. Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5.
    """

    _keeps_shape = True

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        self.dim, self.base = dim, base
        _angles("SinusoidalPositions", _core.arange(1), dim, base)  # or an error

    def forward(self, x: Tensor) -> Tensor:
        _check("SinusoidalPositions", x, self.dim)
        along = _core.arange(x.shape[-2], device=x.device)
        angles = _angles("SinusoidalPositions", along, self.dim, self.base)
        both = _core.stack([angles.sin(), angles.cos()], -1)
        return x + both.reshape(x.shape[-2:]).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.dim}, base={self.base:g}"


class RotaryPositions(Module):
    """Queries or keys x (..., L, dim), each pair of elements turned by the angle l · base^(-2i/dim)
    at position l, so that products of queries and keys depend on the distance of their positions.

    interleaved: the pairs are elements 2i and 2i+1, as in the paper; otherwise i and i + dim/2, as
    in Llama's and GPT-NeoX' weights. positions (L,), or with x's axes in front, are 0 to L - 1 if
    not given. Source: Su et al. 2021, arXiv 2104.09864, equation 34.
    """

    _keeps_shape = True

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = True) -> None:
        self.dim, self.base, self.interleaved = dim, base, interleaved
        _angles("RotaryPositions", _core.arange(1), dim, base)  # or an error

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        _check("RotaryPositions", x, self.dim)
        if positions is None:
            positions = _core.arange(x.shape[-2], device=x.device)
        angles = _angles("RotaryPositions", positions, self.dim, self.base)
        sin, cos = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
        half = self.dim // 2
        if self.interleaved:
            pairs = x.reshape(*x.shape[:-1], half, 2)
            a, b = pairs[..., 0], pairs[..., 1]
            turned = _core.stack([a * cos - b * sin, a * sin + b * cos], -1)
            return turned.reshape(x.shape)
        a, b = x[..., :half], x[..., half:]
        return _core.concatenate([a * cos - b * sin, a * sin + b * cos], -1)

    def extra_repr(self) -> str:
        return f"{self.dim}, base={self.base:g}, interleaved={self.interleaved}"


def _check(op: str, x: Tensor, dim: int) -> None:
    if x.ndim < 2 or x.shape[-1] != dim:
        raise ShapeError(f"{op}: x has shape {x.shape}; expected (..., L, {dim})")


_explained.explain_all(globals())
