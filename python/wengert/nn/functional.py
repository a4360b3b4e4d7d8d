"""The functions that PyTorch has under this name; each of them is also `wengert.NAME`."""

from __future__ import annotations

import sys
from typing import NoReturn

from .. import activations, losses
from .._core import (
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


def __getattr__(name: str) -> NoReturn:
    from .. import _names

    raise _names.no_attribute(sys.modules[__name__], name, _names.FUNCTIONAL, ("wengert",))


def __dir__() -> list[str]:
    return __all__
