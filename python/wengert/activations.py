"""Activations that consist of the engine's ops, which give their gradients.

Each is also `wengert.NAME` and `wengert.nn.functional.NAME`. Shapes are kept, but for glu; integers
become float32, but in threshold and hardshrink.
"""

from __future__ import annotations

from . import _core, _explained
from ._core import ShapeError, Tensor
from .losses import _tensors

__all__ = [
    "celu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "logsigmoid",
    "prelu",
    "relu6",
    "selu",
    "softmin",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
]


def relu6(x: Tensor) -> Tensor:
    """x within [0, 6]; gradient 0 at both ends. arXiv 1704.04861."""
    _tensors("relu6", x=x)
    return _core.hardtanh(x, 0.0, 6.0)


def hardsigmoid(x: Tensor) -> Tensor:
    """(x + 3) / 6 within [0, 1]; gradient 0 at both ends."""
    _tensors("hardsigmoid", x=x)
    return _core.hardtanh(x + 3.0, 0.0, 6.0) / 6.0


def selu(x: Tensor) -> Tensor:
    """1.0507 * elu(x, 1.6733): keeps mean 0 and variance 1. arXiv 1706.02515."""
    _tensors("selu", x=x)
    return _core.elu(x, 1.6732632423543772) * 1.0507009873554805


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1): of slope 1 at 0. arXiv 1704.07483.

    Raises ValueError if alpha is 0.
    """
    _tensors("celu", x=x)
    if alpha == 0:
        raise ValueError("celu: alpha is 0; expected another number: relu(x) is its limit")
    return _core.where(x > 0, x, _core.expm1(x.clamp(max=0) / alpha) * alpha)


def glu(x: Tensor, axis: int = -1) -> Tensor:
    """a * sigmoid(b), where a and b are the halves of x along `axis`. arXiv 1612.08083.

    Raises ShapeError if the axis has an odd size, and IndexError where there is none.
    """
    _tensors("glu", x=x)
    if not -x.ndim <= axis < x.ndim:
        raise IndexError(f"glu: axis {axis} is out of range; x has shape {x.shape}")
    if x.shape[axis] % 2:
        raise ShapeError(
            f"glu: x has shape {x.shape}; axis {axis} must have an even size, to be halved"
        )
    a, b = x.split(x.shape[axis] // 2, axis) if x.shape[axis] else (x, x)
    return a * b.sigmoid()


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight * x, with a weight for all or one for each channel, on axis 1.

    weight  one element, or (channels,). Raises ShapeError for another shape. arXiv 1502.01852.
    """
    _tensors("prelu", x=x, weight=weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise ShapeError(
            f"prelu: weight has shape {weight.shape} and x {x.shape}; expected one element, or as "
            f"many as axis 1 has: ({channels},)"
        )
    if weight.size > 1:
        weight = weight.reshape(-1, *(1,) * (x.ndim - 2))
    elif weight.ndim:
        weight = weight.reshape(())
    return _core.where(x > 0, x, weight * x)


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)"""
    _tensors("softsign", x=x)
    return x / (_core.abs(x) + 1.0)


def logsigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)), exact where sigmoid is 0 or 1."""
    _tensors("logsigmoid", x=x)
    return -_core.softplus(-x)


def threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    """x where x > threshold, else value, whose gradient is 0."""
    _tensors("threshold", x=x)
    return _core.where(x <= threshold, value, x)


def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    _tensors("hardshrink", x=x)
    return _core.where((x <= lambd) & (x >= -lambd), 0, x)


def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """x without what lies within [-lambd, lambd]: the proximal operator of lambd * |x|.

    Raises ValueError if lambd is negative.
    """
    _tensors("softshrink", x=x)
    if lambd < 0:
        raise ValueError(f"softshrink: lambd is {lambd}; expected 0 or more")
    return x - x.clamp(-float(lambd), float(lambd))


def tanhshrink(x: Tensor) -> Tensor:
    """x - tanh(x)"""
    _tensors("tanhshrink", x=x)
    return x - _core.tanh(x)


def softmin(x: Tensor, axis: int = -1) -> Tensor:
    """exp(-x) / sum(exp(-x)) along axis."""
    _tensors("softmin", x=x)
    return _core.softmax(-x, axis)


_explained.explain_all(globals())
