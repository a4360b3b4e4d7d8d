"""Wengert: a tensor and reverse-mode autodiff engine that shows its work.

    import wengert as wg

    x = wg.tensor([[1.0, 2.0]])
    w = wg.tensor([[0.5], [-1.0]], requires_grad=True)
    loss = (x @ w).square().mean()
    loss.backward()
    w.grad

Layers are in `wengert.nn`, optimizers in `wengert.optim`, files in `wengert.io`, data in
`wengert.data`, gradient checks in `wengert.testing`, the list of a step to read, step through and
check in `wengert.study` (`wengert.trace`, `wengert.diff`); each is loaded when it is first used.
"""

from __future__ import annotations

import importlib as _importlib
import os.path as _path
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import _core, _names
from . import _tensor as _tensor  # completes the class Tensor
from . import activations as _activations
from . import losses as _losses
from ._core import *  # noqa: F403
from ._core import __version__
from .activations import *  # noqa: F403
from .autograd import enable_grad, no_grad, value_and_grad
from .compiling import compile
from .functional import batch_norm, dropout, einsum, group_norm, instance_norm, pad, rms_norm
from .losses import *  # noqa: F403
from .random import (
    Generator,
    bernoulli,
    default_generator,
    manual_seed,
    rand,
    randint,
    randn,
    randperm,
)

if _TYPE_CHECKING:
    from . import autograd as autograd
    from . import cuda as cuda
    from . import data as data
    from . import functional as functional
    from . import io as io
    from . import models as models
    from . import nn as nn
    from . import optim as optim
    from . import random as random
    from . import study as study
    from . import testing as testing
    from . import train as train
    from ._custom import checkpoint as checkpoint
    from ._custom import custom_op as custom_op
    from .cuda import get_matmul_precision as get_matmul_precision
    from .cuda import set_matmul_precision as set_matmul_precision
    from .nn.summary import summary as summary
    from .study import diff as diff
    from .study import trace as trace

_core._set_package_directory(_path.dirname(__file__))  # noqa: PTH120 - pathlib is slow to load
_sys.modules.update((name, _names.Moved(name)) for name in _names.MOVED)

_MODULES = (
    "autograd",
    "cuda",
    "data",
    "functional",
    "io",
    "models",
    "nn",
    "optim",
    "random",
    "study",
    "testing",
    "train",
)
_FUNCTIONS = {
    "save": "io",
    "load": "io",
    "summary": "nn.summary",
    "checkpoint": "_custom",
    "custom_op": "_custom",
    "diff": "study",
    "trace": "study",
    "get_matmul_precision": "cuda",
    "set_matmul_precision": "cuda",
}


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _importlib.import_module(f"{__name__}.{name}")
    if name in _FUNCTIONS:
        return getattr(_importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if (moved := f"{__name__}.{name}") in _names.MOVED:
        return _sys.modules[moved]
    raise _names.no_attribute(
        _sys.modules[__name__],
        name,
        _names.WENGERT,
        ("wengert.nn", "wengert.optim", "wengert.data"),
    )


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, *_FUNCTIONS})


# Steps of optimizers and losses, for the modules that are written with them.
_INNER = ("_step", "_rows", "_elements")
__all__ = [
    *(n for n in vars(_core) if not n.startswith("_") and not n.endswith(_INNER)),
    *_activations.__all__,
    *_losses.__all__,
    "Generator",
    "__version__",
    "batch_norm",
    "bernoulli",
    "compile",
    "default_generator",
    "dropout",
    "einsum",
    "enable_grad",
    "group_norm",
    "instance_norm",
    "manual_seed",
    "no_grad",
    "pad",
    "rand",
    "randint",
    "randn",
    "randperm",
    "rms_norm",
    "value_and_grad",
]
