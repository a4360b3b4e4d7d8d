"""Optimizers, gradient clipping and learning-rate schedules, with PyTorch's names and semantics."""

import sys as _sys
from typing import Any as _Any

from .optimizers import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    ParamGroup,
    RMSprop,
    clip_grad_norm_,
    clip_grad_value_,
)
from .schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "ParamGroup",
    "RMSprop",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]


def __getattr__(name: str) -> _Any:
    from .. import _names

    raise _names.no_attribute(_sys.modules[__name__], name, _names.OPTIM, ("wengert.nn",))


def __dir__() -> list[str]:
    return __all__
