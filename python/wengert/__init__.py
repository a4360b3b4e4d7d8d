"""Wengert: a tensor and reverse-mode autodiff engine that shows its work.

    import wengert as wg

    x = wg.tensor([[1.0, 2.0]])
    w = wg.tensor([[0.5], [-1.0]], requires_grad=True)
    loss = (x @ w).square().mean()
    loss.backward()
    w.grad

Layers are in `wengert.nn`, optimizers in `wengert.optim`, files in `wengert.io`, data in
`wengert.data`, gradient checks in `wengert.testing`; each is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import os.path as _path
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import _core
from ._core import *  # noqa: F403
from ._core import Tensor, __version__
from .autograd import enable_grad, no_grad, value_and_grad
from .compiling import compile
from .losses import binary_cross_entropy_with_logits, cross_entropy, mse_loss
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
    from . import data as data
    from . import io as io
    from . import losses as losses
    from . import nn as nn
    from . import optim as optim
    from . import random as random
    from . import testing as testing
    from . import train as train

_core._set_package_directory(_path.dirname(__file__))  # noqa: PTH120 - pathlib is slow to load

_MODULES = ("autograd", "data", "io", "losses", "nn", "optim", "random", "testing", "train")


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "save" or name == "load":
        return getattr(importlib.import_module(f"{__name__}.io"), name)
    # With name and obj, the traceback adds "Did you mean: ...?".
    here = _sys.modules[__name__]
    raise AttributeError(f"module 'wengert' has no attribute {name!r}", name=name, obj=here)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, "save", "load"})


def _repr(self: Tensor) -> str:
    """Values as NumPy prints them, then dtype (unless it is the usual one) and history."""
    import numpy as np

    values = np.array2string(
        self.detach().numpy(),
        precision=4,
        threshold=200,
        edgeitems=3,
        separator=", ",
        prefix="tensor(",
    )
    parts = [values]
    if self.size == 0 and self.ndim > 1:
        parts.append(f"shape={self.shape}")
    if self.dtype not in (_core.float32, _core.int64, _core.bool_):
        parts.append(f"dtype={self.dtype.name}")
    if self.requires_grad:
        parts.append("requires_grad=True" if self.is_leaf else f"made_by={self.made_by}")
    return f"tensor({', '.join(parts)})"


def _format(self: Tensor, spec: str) -> str:
    """f"{loss:.4f}" for a tensor of one element; f"{x}" is repr(x)."""
    if not spec:
        return repr(self)
    if self.size != 1:
        raise TypeError(
            f"format: the tensor has shape {self.shape}, and {spec!r} formats one number: "
            "index it, or write x.numpy()"
        )
    return format(self.item(), spec)


def _contains(self: Tensor, value: object) -> bool:
    """`value in x`: is any element equal to it? As in NumPy, for any number of axes."""
    equal = self == value
    return isinstance(equal, Tensor) and bool(equal.any())


def _deepcopy(self: Tensor, memo: object) -> Tensor:
    """Its own memory, no gradient; so copy.deepcopy(model.state_dict()) keeps the best weights."""
    if not self.is_leaf:
        raise _core.GradientError(
            f"deepcopy: the tensor (made by {self.made_by!r}) has a history, which cannot be "
            "copied; write x.detach() first, or x.clone() for a copy that gradients pass through"
        )
    copy = self.detach().clone()
    copy.requires_grad = self.requires_grad
    return copy


Tensor.__repr__ = _repr  # type: ignore[method-assign]
Tensor.__format__ = _format  # type: ignore[method-assign]
Tensor.__contains__ = _contains  # type: ignore[method-assign]
Tensor.__deepcopy__ = _deepcopy  # type: ignore[method-assign]

__all__ = [
    *(n for n in vars(_core) if not n.startswith("_")),
    "Generator",
    "__version__",
    "bernoulli",
    "compile",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "default_generator",
    "enable_grad",
    "manual_seed",
    "mse_loss",
    "no_grad",
    "rand",
    "randint",
    "randn",
    "randperm",
    "value_and_grad",
]
