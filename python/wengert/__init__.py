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
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import _core
from ._core import *  # noqa: F403
from ._core import Tensor, __version__
from .autograd import enable_grad, no_grad, value_and_grad
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
    from . import autograd, data, io, losses, nn, optim, random, testing, train

_core._set_package_directory(_path.dirname(__file__))  # noqa: PTH120 - pathlib is slow to load

_MODULES = ("autograd", "data", "io", "losses", "nn", "optim", "random", "testing", "train")


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "save" or name == "load":
        return getattr(importlib.import_module(f"{__name__}.io"), name)
    raise AttributeError(f"module 'wengert' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, "save", "load"})


def _repr(x: Tensor) -> str:
    """Values as NumPy prints them, then dtype (unless it is the usual one) and history."""
    import numpy as np

    values = np.array2string(
        x.detach().numpy(), separator=", ", prefix="tensor(", precision=4, threshold=200, edgeitems=3
    )
    parts = [values]
    if x.size == 0 and x.ndim > 1:
        parts.append(f"shape={x.shape}")
    if x.dtype not in (_core.float32, _core.int64, _core.bool_):
        parts.append(f"dtype={x.dtype.name}")
    if x.requires_grad:
        parts.append("requires_grad=True" if x.is_leaf else f"made_by={x.made_by}")
    return f"tensor({', '.join(parts)})"


Tensor.__repr__ = _repr  # type: ignore[method-assign]

__all__ = [
    *(n for n in vars(_core) if not n.startswith("_")),
    "Generator",
    "__version__",
    "bernoulli",
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
