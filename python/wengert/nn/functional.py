"""The functions that PyTorch has under this name; each but pad is also `wengert.NAME`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import _explained, activations, losses
from .. import functional as _functional
from .._calls import choice
from .._core import (
    ShapeError,
    Tensor,
    elu,
    embedding,
    gelu,
    hardtanh,
    layer_norm,
    leaky_relu,
    linear,
    log_softmax,
    mish,
    one_hot,
    relu,
    scaled_dot_product_attention,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from ..activations import *  # noqa: F403
from ..functional import batch_norm, dropout, group_norm, instance_norm, rms_norm
from ..losses import *  # noqa: F403

__all__ = [
    "batch_norm",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "group_norm",
    "hardtanh",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mish",
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
]
__all__ += activations.__all__ + losses.__all__


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """x with more elements around it: pad is (left, right) of the last axis, then top and bottom of
    the one before it, and so on, each 0 or more. wengert.pad takes a pair for each axis.

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
    for axis, (size, width) in enumerate(zip(x.shape, map(max, pairs), strict=True)):
        if width > {"reflect": size - 1, "circular": size}.get(mode, width):
            raise ShapeError(
                f"pad: {mode} adds {width} to axis {axis} of shape {x.shape}, which has {size}; "
                "wengert.pad repeats x as often as needed"
            )
    return _functional.pad(x, pairs, known[mode], value)


def __getattr__(name: str) -> NoReturn:
    from .. import _names

    raise _names.no_attribute(sys.modules[__name__], name, _names.FUNCTIONAL, ("wengert",))


def __dir__() -> list[str]:
    return __all__


pad = _explained.explained(pad)
