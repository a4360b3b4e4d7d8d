"""Weights of a layer that are computed from other parameters, each time that they are asked for: by
weight_norm and spectral_norm. Names and state are PyTorch's. Batch norms folded into the layers
before them: fusion.py.

The layer gets a class of its own, in which the weight is a property.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

from ... import _core, _explained
from ..._core import Tensor
from ...autograd import no_grad
from ...linalg import vector_norm
from ...random import Generator, randn
from ..module import Module, Parameter
from . import fusion, rnn
from .fusion import (
    fold_batch_norms,
    fuse_conv_bn_eval,
    fuse_conv_bn_weights,
    fuse_linear_bn_eval,
    fuse_linear_bn_weights,
)

__all__ = [
    "fold_batch_norms",
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
    "fusion",
    "remove_spectral_norm",
    "remove_weight_norm",
    "rnn",
    "spectral_norm",
    "weight_norm",
]


def _compute(op: str, module: Module, name: str, value: Callable[[Module], Tensor]) -> None:
    """module.NAME becomes what `value` gives for the module."""
    kind = type(module)
    del vars(module)[name]
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "_computed": op}
    module.__class__ = type(kind.__name__, (kind,), {name: property(value), **names})


def _weight(op: str, module: Module, name: str, dim: int | None) -> Parameter:
    weight = vars(module).get(name)
    if not isinstance(weight, Parameter):
        raise ValueError(f"{op}: {type(module).__name__} has no parameter {name!r} of its own")
    if not weight.ndim or (dim is not None and not -weight.ndim <= dim < weight.ndim):
        raise IndexError(f"{op}: dim {dim} is out of range; {name} has shape {weight.shape}")
    return weight


def _remove(op: str, module: Module, name: str, *others: str) -> Module:
    kind = type(module)
    if vars(kind).get("_computed") != op or name not in vars(kind):
        raise ValueError(
            f"remove_{op}: {name!r} of {kind.__name__} is not computed by {op}, or not by the last "
            "function that was applied to the module"
        )
    weight = getattr(module, name).detach().clone()
    module.__class__ = kind.__base__  # type: ignore[assignment] # a Module, too
    for other in others:
        del vars(module)[f"{name}_{other}"]
        vars(module).get("_buffers", {}).pop(f"{name}_{other}", None)
    setattr(module, name, Parameter(weight))
    return module


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Splits a weight into length and direction: weight = NAME_g · NAME_v / |NAME_v|, where the
    norm is over all axes but `dim`, or, for None, over all. Returns the module. arXiv 1602.07868.
    """
    weight = _weight("weight_norm", module, name, dim)
    axes = [i for i in range(weight.ndim) if dim is None or i != dim % weight.ndim]

    def length(v: Tensor) -> Tensor:
        return vector_norm(v, 2.0, axes, True) if axes else _core.abs(v)

    def value(self: Module) -> Tensor:
        v = vars(self)[f"{name}_v"]
        return v * (vars(self)[f"{name}_g"] / length(v))  # type: ignore[no-any-return]

    _compute("weight_norm", module, name, value)
    g = length(weight.detach())
    setattr(module, f"{name}_g", Parameter(g if dim is not None else g.reshape(())))
    setattr(module, f"{name}_v", Parameter(weight.detach().clone()))
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Makes the weight a parameter again, with the value that it has now."""
    return _remove("weight_norm", module, name, "g", "v")


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int = 0,
    generator: Generator | None = None,
) -> Module:
    """Divides a weight by its largest singular value, as a matrix whose rows are along `dim`:
    weight = NAME_orig / (u @ NAME_orig @ v).

    u and v, the buffers NAME_u and NAME_v, are the singular vectors as far as power iteration has
    found them: n_power_iterations each time in training, 15 at the start. They have no gradient.
    Returns the module. arXiv 1802.05957.
    """
    weight = _weight("spectral_norm", module, name, dim)
    if n_power_iterations < 1:
        raise ValueError(
            f"spectral_norm: n_power_iterations is {n_power_iterations}; expected 1 or more"
        )

    def unit(x: Tensor) -> Tensor:
        return x / vector_norm(x).clamp(min=eps)

    def iterate(matrix: Tensor, u: Tensor, v: Tensor, times: int) -> None:
        with no_grad():
            for _ in range(times):
                v.copy_(unit(matrix.mT @ u))
                u.copy_(unit(matrix @ v))

    def matrix_of(x: Tensor) -> Tensor:
        return x.movedim(dim, 0).reshape(x.shape[dim], math.prod(x.shape) // x.shape[dim])

    def value(self: Module) -> Tensor:
        x, u, v = (vars(self)[f"{name}_{of}"] for of in ("orig", "u", "v"))
        matrix = matrix_of(x)
        if self.training:
            iterate(matrix.detach(), u, v, n_power_iterations)
        return x / (u.clone() @ matrix @ v.clone())  # type: ignore[no-any-return]

    _compute("spectral_norm", module, name, value)
    matrix = matrix_of(weight.detach())
    u, v = (unit(randn(n, weight.dtype, generator, weight.device)) for n in matrix.shape)
    iterate(matrix, u, v, 15)
    setattr(module, f"{name}_orig", Parameter(weight.detach().clone()))
    module.register_buffer(f"{name}_u", u)
    module.register_buffer(f"{name}_v", v)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Makes the weight a parameter again, with the value that it has now."""
    return _remove("spectral_norm", module, name, "orig", "u", "v")


def __getattr__(name: str) -> NoReturn:
    import sys

    from ... import _names

    raise _names.no_attribute(sys.modules[__name__], name, {}, ("wengert.optim", "wengert.nn"))


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
