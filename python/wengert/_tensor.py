"""Methods of Tensor that are written in Python: how it is shown, searched and copied; Memory."""

from __future__ import annotations

import importlib
from typing import Any

from . import _core, _names
from ._core import Tensor
from ._explained import explained


def _repr(self: Tensor) -> str:
    """Values as NumPy prints them, then dtype (unless it is the usual one) and history."""
    import numpy as np

    shown = self.detach()
    if self.dtype == _core.bfloat16:  # NumPy has none
        shown = shown.float()
    values = np.array2string(
        shown.cpu().numpy(),
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
    if self.device != "cpu":
        parts.append(f"device={self.device!r}")
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


def _copy(self: Tensor) -> Tensor:
    """A leaf over the same memory, no gradient."""
    if not self.is_leaf:
        raise _core.GradientError(
            f"copy: the tensor (made by {self.made_by!r}) has a history, which cannot be copied; "
            "write x.detach() first, or x.clone() for a copy that gradients pass through"
        )
    return Tensor(self, self.requires_grad)


def _deepcopy(self: Tensor, memo: object) -> Tensor:
    """Its own memory, no gradient; so copy.deepcopy(model.state_dict()) keeps the best weights."""
    return Tensor(_copy(self).detach().clone(), self.requires_grad)


def _reduce(self: Tensor, protocol: object) -> tuple[Any, ...]:
    """For pickle: the bytes of a safetensors file. Files are for wengert.save, whose reader runs no
    code; a pickle's can."""
    from .io import _pickled

    return _pickled(self)


def _divmod(self: Tensor, other: Any) -> Any:
    """(x // y, x % y)."""
    return self // other, self % other


def _rdivmod(self: Tensor, other: Any) -> Any:
    return other // self, other % self


@explained
def round(x: Tensor, decimals: int = 0) -> Tensor:
    """x rounded to `decimals`, halves to even, computed as NumPy does it; negative ones are of the
    digits before the point. Gradient: dx = 0. Integers stay as they are.

    DTypeError for integers and decimals other than 0.

    >>> wg.round(wg.tensor([0.5, 1.5, 2.25]), 1)
    tensor([0.5, 1.5, 2.2])
    """
    if not decimals:
        return _core.round(x)
    if not x.dtype.is_floating_point:
        raise _core.DTypeError(
            f"round: the tensor is {x.dtype.name}, and decimals is {decimals}; "
            "write x.double() first"
        )
    scale = 10.0 ** abs(decimals)
    return _core.round(x * scale) / scale if decimals > 0 else _core.round(x / scale) * scale


def _round(self: Tensor, digits: int | None = None) -> Tensor:
    """round(x), round(x, 2): half to even, computed as NumPy does it."""
    return round(self, digits or 0)


def _array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """np.exp(x) is wengert.exp(x)."""
    from ._numpy import array_ufunc

    return array_ufunc(self, ufunc, method, *inputs, **kwargs)


def _array_function(self: Tensor, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """np.concatenate([x, y]) is wengert.concatenate([x, y])."""
    from ._numpy import array_function

    return array_function(self, func, types, args, kwargs)


class Memory:
    """A tensor's memory under NumPy's array interface, and what keeps it alive: an array's base."""

    def __init__(self, interface: dict[str, Any], owner: object) -> None:
        self.__array_interface__ = interface
        self.owner = owner


class _Later:
    """Stands in Tensor for a method of a module that is loaded when it is first asked for."""

    def __init__(self, module: str, name: str, function: str) -> None:
        self.module, self.name, self.function = module, name, function

    def __get__(self, x: Tensor | None, owner: type[Tensor]) -> Any:
        module = importlib.import_module(self.module, __package__)
        setattr(Tensor, self.name, getattr(module, self.function))
        return getattr(owner if x is None else x, self.name)


# By module: methods that are functions of the same name, or name=function.
_LATER = {
    ".composed": """
        addcdiv addcmul addmm addmv allclose aminmax baddbmm bitwise_not bmm clamp_max clamp_min
        count_nonzero cross deg2rad dot float_power frac ger heaviside inner isclose kron lerp
        logit mm mv nanmean nansum norm outer rad2deg sinc vdot
    """,
    ".linalg": "trace",
    ".random": "bernoulli_ exponential_ geometric_ multinomial",
    ".order": """
        argsort bincount histc histogram kthvalue median mode nanmedian nanquantile
        quantile sort topk unique unique_consecutive
    """,
    ".special": "erfc",
    "._shown": "_repr_html_=tensor",
    ".shapes": """
        chunk diag diag_embed expand_as flip fliplr flipud moveaxis movedim narrow ravel
        repeat=tensor_repeat repeat_interleave reshape_as roll rot90 select t tensor_split tile tril
        triu type_as unbind unflatten view_as
    """,
}

Tensor.__array_ufunc__ = _array_ufunc  # type: ignore[method-assign]
Tensor.__array_function__ = _array_function  # type: ignore[method-assign]
Tensor.__repr__ = _repr  # type: ignore[method-assign]
Tensor.__format__ = _format  # type: ignore[method-assign]
Tensor.__contains__ = _contains  # type: ignore[method-assign]
Tensor.__copy__ = _copy  # type: ignore[method-assign]
Tensor.__deepcopy__ = _deepcopy  # type: ignore[method-assign]
Tensor.__reduce_ex__ = _reduce  # type: ignore[method-assign]

for _name, _operator in {
    "__divmod__": _divmod,
    "__rdivmod__": _rdivmod,
    "__round__": _round,
    "round": round,
}.items():
    setattr(Tensor, _name, _operator)

for _module, _methods in _LATER.items():
    for _method in _methods.split():
        _name, _, _function = _method.partition("=")
        setattr(Tensor, _name, _Later(_module, _name, _function or _name))

_names.mark_missing(Tensor, _names.TENSOR, _names.MissingToo)
