"""Neural-network layers: Module and Parameter, layers, losses, initialisers (`nn.init`)."""

import sys as _sys
from typing import Any as _Any

from .. import _names
from . import functional, init
from .layers import (
    ELU,
    GELU,
    MLP,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LayerNorm,
    LeakyReLU,
    Linear,
    LogSoftmax,
    MSELoss,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .module import Module, Parameter

__all__ = [
    "ELU",
    "GELU",
    "MLP",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "functional",
    "init",
]


def __getattr__(name: str) -> _Any:
    if (moved := f"{__name__}.{name}") in _names.MOVED:
        return _sys.modules[moved]
    raise _names.no_attribute(
        _sys.modules[__name__],
        name,
        _names.NN,
        ("wengert.nn.functional", "wengert", "wengert.optim"),
    )


def __dir__() -> list[str]:
    return __all__
