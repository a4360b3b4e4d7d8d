"""The functions that PyTorch has under this name. Most are also `wengert.NAME`; those that are
written here have arguments that only PyTorch has.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import _core, _explained, activations, composed, convolution, losses, pooling, resampling
from .. import functional as _functional
from .._calls import choice
from .._core import (
    ShapeError,
    Tensor,
    elu,
    embedding,
    gelu,
    hardswish,
    hardtanh,
    layer_norm,
    leaky_relu,
    linear,
    mish,
    one_hot,
    relu,
    sigmoid,
    silu,
    tanh,
)
from ..activations import *  # noqa: F403
from ..convolution import *  # noqa: F403
from ..functional import (
    batch_norm,
    dropout,
    group_norm,
    instance_norm,
    rms_norm,
    scaled_dot_product_attention,
)
from ..losses import *  # noqa: F403
from ..pooling import *  # noqa: F403
from ..random import Generator, bernoulli
from ..resampling import *  # noqa: F403

__all__ = [
    "alpha_dropout",
    "batch_norm",
    "bilinear",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "embedding",
    "gelu",
    "group_norm",
    "hardswish",
    "hardtanh",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "mish",
    "normalize",
    "one_hot",
    "pad",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "triplet_margin_with_distance_loss",
]
__all__ += activations.__all__ + losses.__all__
__all__ += convolution.__all__ + pooling.__all__ + resampling.__all__


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """x with more elements around it: pad is (left, right) of the last axis, then top and bottom of
    the one before it, and so on; negative ones crop. wengert.pad takes a pair for each axis.

    mode   "constant"; "reflect": mirrored at the last element, at most size - 1 of them;
           "replicate": the last element; "circular": x again, at most once
    """
    known = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    choice("pad", "mode", mode, known)
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(
            f"pad: pad is {tuple(pad)}, x has shape {x.shape}; expected two numbers for each of "
            f"its last axes: {2 * x.ndim} at most"
        )
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [*zip(pad[::2], pad[1::2], strict=True)][::-1]
    if mode in ("constant", "circular"):  # PyTorch mirrors and repeats what it crops
        x, pairs = _functional._cropped(x, pairs)
    for axis, (size, width) in enumerate(zip(x.shape, map(max, pairs), strict=True)):
        if width > max({"reflect": size - 1, "circular": size}.get(mode, width), 0):
            raise ShapeError(
                f"pad: {mode} adds {width} to axis {axis} of shape {x.shape}, which has {size}; "
                "wengert.pad repeats x as often as needed"
            )
    more = [(max(before, 0), max(after, 0)) for before, after in pairs]
    less = [(min(before, 0), min(after, 0)) for before, after in pairs]
    return _functional._cropped(_functional.pad(x, more, known[mode], value), less)[0]


def softmax(x: Tensor, axis: int = -1, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, of x converted to dtype."""
    return _core.softmax(x if dtype is None else x.to(dtype), axis)


def log_softmax(x: Tensor, axis: int = -1, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along an axis, of x converted to dtype."""
    return _core.log_softmax(x if dtype is None else x.to(dtype), axis)


def softmin(  # type: ignore[no-redef]
    x: Tensor, axis: int = -1, dtype: Any = None
) -> Tensor:
    """softmax(-x) along an axis, of x converted to dtype."""
    return activations.softmin(x if dtype is None else x.to(dtype), axis)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above a threshold below 20."""
    if not beta > 0:
        raise ValueError(f"softplus: beta is {beta}; expected more than 0")
    y = _core.softplus(x) if beta == 1.0 else _core.softplus(x * beta) / beta
    return y if threshold >= 20.0 else _core.where(x * beta > threshold, x, y)


def normalize(x: Tensor, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(|x|, eps) along an axis, |x| its norm of order p."""
    return x / composed.norm(x, p, axis, keepdims=True).clamp(min=eps)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_k = x1 · W_k · x2 + b_k: x1 (..., in1), x2 (..., in2), weight (out, in1, in2), bias (out,),
    y (..., out)."""
    sizes = (input1.shape[-1:], input2.shape[-1:])
    if weight.ndim != 3 or sizes != (weight.shape[1:2], weight.shape[2:]):
        raise ShapeError(
            f"bilinear: inputs have shapes {input1.shape} and {input2.shape}, weight "
            f"{weight.shape}; expected (..., in1), (..., in2) and (out, in1, in2)"
        )
    if input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(
            f"bilinear: inputs have shapes {input1.shape} and {input2.shape}; they must be equal "
            "but for the last axis"
        )
    y = _functional.einsum("...i,kij,...j->...k", input1, weight, input2)
    return y if bias is None else y + bias


def _channel_sums(x: Tensor, before: int, after: int) -> Tensor:
    """Each channel of x (n, channels, ...) plus `before` and `after` channels around it."""
    around = [(0, 0), (before, after), *((0, 0) for _ in x.shape[2:])]
    wide = _functional.pad(x, around)
    total = wide[:, : x.shape[1]]
    for i in range(1, before + after + 1):
        total = total + wide[:, i : i + x.shape[1]]
    return total


def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha * mean of x² over `size` neighbouring channels) ** beta; x (n, channels, ...).

    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012, section 3.3.
    """
    if x.ndim < 3:
        raise ShapeError(f"local_response_norm: x has shape {x.shape}; expected 3 axes or more")
    if size < 1:
        raise ValueError(f"local_response_norm: size is {size}; expected 1 or more")
    total = _channel_sums(x.square(), size // 2, (size - 1) // 2)
    return x / (total * (alpha / size) + k) ** beta


def _feature_dropout(
    op: str, axes: int, x: Tensor, p: float, training: bool, generator: Generator | None
) -> Tensor:
    if x.ndim not in (axes + 1, axes + 2):
        raise ShapeError(
            f"{op}: x has shape {x.shape}; expected {axes} axes after (channels,) or (n, channels)"
        )
    channels = _core.ones(x.shape[:-axes] + (1,) * axes, dtype=x.dtype, device=x.device)
    return x * dropout(channels, p, training, generator)


def dropout1d(
    x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """dropout of whole channels of x (n, channels, length)."""
    return _feature_dropout("dropout1d", 1, x, p, training, generator)


def dropout2d(
    x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """dropout of whole channels of x (n, channels, height, width). arXiv 1411.4280."""
    return _feature_dropout("dropout2d", 2, x, p, training, generator)


def dropout3d(
    x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """dropout of whole channels of x (n, channels, depth, height, width)."""
    return _feature_dropout("dropout3d", 3, x, p, training, generator)


def alpha_dropout(
    x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """In training, x with each element selu's lowest value with probability p, scaled and shifted
    so that mean 0 and variance 1 stay; else x. For networks of selu. arXiv 1706.02515."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"alpha_dropout: p is {p}; it is a probability, from 0 to 1")
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return x * 0
    lowest = -1.7580993408473766  # selu(-inf)
    a = math.sqrt(1 / (1 - p + p * (1 - p) * lowest**2))
    mask = bernoulli(1 - p, x.shape, x.dtype, generator, x.device)
    return (x * mask + (1 - mask) * lowest) * a - a * p * lowest


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with a distance of one's own, or
    pairwise_distance. swap: d(positive, negative) where that is smaller."""
    op = "triplet_margin_with_distance_loss"
    if not margin > 0:
        raise ValueError(f"{op}: margin is {margin}; expected more than 0")
    distance = distance_function or losses.pairwise_distance
    return losses._triplets(op, anchor, positive, negative, distance, margin, swap, reduction)


def __getattr__(name: str) -> NoReturn:
    from .. import _names

    raise _names.no_attribute(sys.modules[__name__], name, _names.FUNCTIONAL, ("wengert",))


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
