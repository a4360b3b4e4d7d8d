"""Wengert: a tensor and reverse-mode autodiff engine that shows its work.

    import wengert as wg

    x = wg.tensor([[1.0, 2.0]])
    w = wg.tensor([[0.5], [-1.0]], requires_grad=True)
    loss = (x @ w).square().mean()
    loss.backward()
    w.grad

Layers are in `wengert.nn`, optimizers in `wengert.optim`, files in `wengert.io`, data in
`wengert.data`, gradient checks in `wengert.testing`, the list of a step to read, step through and
check in `wengert.study` (`wengert.trace`); each is loaded when it is first used.
"""

from __future__ import annotations

import importlib as _importlib
import os.path as _path
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import _core, _names
from . import _tensor as _tensor  # completes the class Tensor
from ._core import *  # noqa: F403
from ._core import __version__ as __version__
from ._tensor import round as round
from .autograd import enable_grad as enable_grad
from .autograd import no_grad as no_grad
from .autograd import value_and_grad as value_and_grad
from .compiling import compile as compile

if not getattr(_sys, "_is_gil_enabled", lambda: True)():  # importing _core has asked for it
    raise ImportError(
        "wengert needs Python's lock (the GIL), and PYTHON_GIL=0 or -X gil=0 keeps it off: "
        "start Python without, and the lock is switched on at the import"
    )

if _TYPE_CHECKING:
    from . import autograd as autograd
    from . import cuda as cuda
    from . import data as data
    from . import func as func
    from . import functional as functional
    from . import io as io
    from . import linalg as linalg
    from . import models as models
    from . import nn as nn
    from . import optim as optim
    from . import parallel as parallel
    from . import random as random
    from . import signal as signal
    from . import special as special
    from . import study as study
    from . import testing as testing
    from . import train as train
    from ._custom import checkpoint as checkpoint
    from ._custom import custom_op as custom_op
    from ._custom import get_include as get_include
    from .activations import *  # noqa: F403
    from .composed import *  # noqa: F403
    from .convolution import *  # noqa: F403
    from .cuda import get_matmul_precision as get_matmul_precision
    from .cuda import set_matmul_precision as set_matmul_precision
    from .func import vmap as vmap
    from .functional import *  # noqa: F403
    from .losses import *  # noqa: F403
    from .nn.summary import summary as summary
    from .order import *  # noqa: F403
    from .pooling import *  # noqa: F403
    from .random import *  # noqa: F403
    from .resampling import *  # noqa: F403
    from .shapes import *  # noqa: F403
    from .special import erfc as erfc
    from .special import i0 as i0
    from .study import trace as trace

_core._set_package_directory(_path.dirname(__file__))  # noqa: PTH120 - pathlib is slow to load
_sys.modules.update((name, _names.Moved(name)) for name in _names.MOVED)

_MODULES = (
    "autograd",
    "cuda",
    "data",
    "func",
    "functional",
    "io",
    "linalg",
    "models",
    "nn",
    "optim",
    "parallel",
    "random",
    "signal",
    "special",
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
    "get_include": "_custom",
    "trace": "study",
    "vmap": "func",
    "get_matmul_precision": "cuda",
    "set_matmul_precision": "cuda",
}


# Modules whose names are this one's, too.
_PARTS = (
    "random",
    "functional",
    "activations",
    "shapes",
    "composed",
    "order",
    "convolution",
    "pooling",
    "resampling",
    "special",
)


def diff(x: _Any, *args: _Any, **kwargs: _Any) -> _Any:  # type: ignore[no-redef]
    """Tensor.diff: differences of neighbours along an axis. Of two lists of steps, as formerly:
    study.diff."""
    if not hasattr(x, "lines"):
        return _core.diff(x, *args, **kwargs)
    from warnings import warn

    warn("wengert.diff of lists is wengert.study.diff now", DeprecationWarning, stacklevel=2)
    return _importlib.import_module(f"{__name__}.study").diff(x, *args)


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _importlib.import_module(f"{__name__}.{name}")
    if name in _FUNCTIONS:
        return getattr(_importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if (moved := f"{__name__}.{name}") in _names.MOVED:
        return _sys.modules[moved]
    if name == "__all__":
        return _names_here()
    for part in () if name.startswith("_") else _PARTS:
        module = _importlib.import_module(f"{__name__}.{part}")
        if name in _shared(module):
            return globals().setdefault(name, getattr(module, name))
    raise _names.no_attribute(
        _sys.modules[__name__],
        name,
        _names.WENGERT,
        ("wengert.nn", "wengert.optim", "wengert.data", "wengert.random", "wengert.linalg"),
    )


def __dir__() -> list[str]:
    return sorted({*_names_here(), *_MODULES, *_FUNCTIONS})


# Steps of optimizers and losses, for the modules that are written with them.
_INNER = ("_step", "_rows", "_elements")


def _shared(module: _Any) -> _Any:
    return vars(module).get("SHARED", module.__all__)


def _names_here() -> list[str]:
    return [
        *(n for n in vars(_core) if not n.startswith("_") and not n.endswith(_INNER)),
        *(n for part in _PARTS for n in _shared(_importlib.import_module(f"{__name__}.{part}"))),
        "__version__",
        "compile",
        "enable_grad",
        "no_grad",
        "value_and_grad",
    ]
