"""Functions of functions, as torch.func: vmap, grad, grad_and_value, functional_call.

    gradients = wengert.vmap(wengert.func.grad(loss), in_axes=(None, 0, 0))(params, x, y)

vmap calls a function once, on tensors that stand for one example each, and each op that it calls
runs once for all examples (csrc/program/batching.h).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from . import _core
from ._calls import choice, describe
from ._core import ShapeError, Tensor
from ._explained import explain_all
from ._trees import Branch, Constant, Place, flatten, unflatten
from .autograd import value_and_grad

__all__ = ["functional_call", "grad", "grad_and_value", "vmap"]


def vmap(
    fn: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    randomness: Literal["error", "different", "same"] = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function of many examples, of `fn`, which is one of a single example.

        per_example = wengert.vmap(wengert.func.grad(loss), in_axes=(None, 0))(w, x)

    in_axes     the axis along which the examples of an argument lie, or None: all share it. One for
                all positional arguments, or a tuple with one for each; for an argument that is a
                list, tuple or dict, one for all of its tensors, or a tree like it. Arguments by
                name are shared
    out_axes    where the result has that axis, one for all results or a tree like them; None for
                what all examples share
    randomness  of random numbers in fn, dropout's too: "different" for each example, "same" for
                all, or an error
    chunk_size  the most examples at a time, for less memory

    The result is that of fn on each example, stacked. Results may differ in the last bits: a sum or
    a matrix product of many examples has another order than that of one. fn is called once: it may
    not look at values of its arguments (`if x > 0`, item(), numpy()), nor change them, or tensors
    from outside, in place. Nested vmap, gradients within it and around it, and compile work.

    An op without a rule runs example by example: those of C++ extensions, the gradients of
    attention, of an embedding and of a convolution's weights, and ops whose weights differ between
    examples. So do not ops of one's own, whose value consists of ops or has a `batch` rule.

    >>> x = wg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> wg.vmap(wg.dot)(x, x)
    tensor([ 5., 25.])
    """
    if not callable(fn):
        raise TypeError(f"vmap: fn is {describe(fn)}; expected a function")
    choice("vmap", "randomness", randomness, ("error", "different", "same"))
    if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
        raise ValueError(f"vmap: chunk_size is {describe(chunk_size)}; expected 1 or more, or None")

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        tensors: list[Tensor] = []
        form = flatten(tuple(args), tensors)
        axes = _axes_in(form, in_axes, len(args))
        for (where, axis), x in zip(axes, tensors, strict=True):
            _check_axis(f"in_axes for {where}", axis, x.ndim, x.shape)
        whole = [
            x if axis is None else x.movedim(axis, 0)
            for (_, axis), x in zip(axes, tensors, strict=True)
        ]
        sizes = {x.shape[0] for x, (_, axis) in zip(whole, axes, strict=True) if axis is not None}
        if not sizes:
            raise ValueError(
                "vmap: no argument has an axis of examples: in_axes is None for all of them, or "
                "there is no tensor; name the axis of one, or call the function itself"
            )
        if len(sizes) > 1:
            found = ", ".join(
                f"{where} has {x.shape[0]}"
                for x, (where, axis) in zip(whole, axes, strict=True)
                if axis is not None
            )
            raise ShapeError(f"vmap: different numbers of examples: {found}; they must be equal")
        size = sizes.pop()
        if size == 0:
            raise ShapeError("vmap: there are no examples: their axis has size 0")
        many = [axis is not None for _, axis in axes]
        step = chunk_size or size
        parts = []
        for start in range(0, size, step):
            count = min(step, size - start)
            part = [
                x[start : start + count] if m and count < size else x
                for x, m in zip(whole, many, strict=True)
            ]
            parts.append(_run(fn, form, part, many, kwargs, count, randomness))
        return _joined(parts, out_axes)

    return wrapper


def _run(
    fn: Callable[..., Any],
    form: Any,
    tensors: Sequence[Tensor],
    many: Sequence[bool],
    kwargs: Mapping[str, Any],
    size: int,
    randomness: str,
) -> tuple[Any, list[tuple[Tensor, bool]], int]:
    """The form of fn's result, each tensor of it with whether its examples differ, and `size`."""
    batching = _core._Batching(size, randomness)
    given = [batching.one(x.contiguous()) if m else x for x, m in zip(tensors, many, strict=True)]
    results: list[Tensor] = []
    batching.begin()
    try:
        result = fn(*unflatten(form, given), **kwargs)
        made = flatten(result, results, _refuse)
    finally:
        batching.end()
    found = [(batching.all(y), y) for y in results]
    return made, [(y if x is None else x, x is not None) for x, y in found], size


def _refuse(value: Any) -> Any:
    raise TypeError(
        f"vmap: the function returned {describe(value)}; expected tensors, or lists, tuples and "
        "dicts of them: write wengert.tensor(number), or return it from outside"
    )


def _joined(parts: list[tuple[Any, list[tuple[Tensor, bool]], int]], out_axes: Any) -> Any:
    form = parts[0][0]
    results: list[Tensor] = []
    for at, (where, axis) in enumerate(_axes("out_axes", form, out_axes, "the result")):
        first, differs = parts[0][1][at]
        _check_axis(f"out_axes for {where}", axis, first.ndim + (not differs), first.shape)
        if axis is None:
            if differs:
                raise ValueError(
                    f"vmap: out_axes is None for {where}, which differs from example to example; "
                    "name the axis for the examples"
                )
            results.append(first)
            continue
        wholes = [
            y if differs else y.expand((size, *y.shape)).clone()
            for (y, _), size in ((part[1][at], part[2]) for part in parts)
        ]
        whole = wholes[0] if len(wholes) == 1 else _core.concatenate(wholes)
        results.append(whole.movedim(0, axis) if axis else whole)
    return unflatten(form, results)


def _axes_in(form: Branch, in_axes: Any, count: int) -> list[tuple[str, int | None]]:
    """For each tensor of the arguments what it is called, and the axis of its examples."""
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if isinstance(in_axes, tuple) and len(in_axes) != count:
        raise ValueError(
            f"vmap: in_axes has {len(in_axes)} entries, and the call {count} positional arguments; "
            "expected one for each"
        )
    spread = in_axes if isinstance(in_axes, tuple) else (in_axes,) * count
    return [
        found
        for at, (item, axes) in enumerate(zip(form.items, spread, strict=True))
        for found in _axes("in_axes", item, axes, f"argument {at}")
    ]


def _axes(what: str, form: Any, axes: Any, where: str) -> list[tuple[str, int | None]]:
    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        if isinstance(form, Place):
            return [(where, axes)]
        if isinstance(form, Branch):
            keys = form.keys or range(len(form.items))
            return [
                found
                for key, item in zip(keys, form.items, strict=True)
                for found in _axes(what, item, axes, f"{where}[{key!r}]")
            ]
        if axes is None:
            return []
        value = form.value if isinstance(form, Constant) else form
        raise TypeError(
            f"vmap: {where} is {describe(value)}, and {what} says {axes} for it; write None for "
            "what is no tensor"
        )
    if isinstance(form, Branch) and isinstance(axes, (list, tuple, dict)):
        keys = form.keys or range(len(form.items))
        same = isinstance(axes, dict) == (form.kind is dict) and len(axes) == len(form.items)
        if same and (not isinstance(axes, dict) or axes.keys() == set(keys)):
            return [
                found
                for key, item in zip(keys, form.items, strict=True)
                for found in _axes(what, item, axes[key], f"{where}[{key!r}]")
            ]
    raise TypeError(
        f"vmap: {what} is {describe(axes)} for {where}; expected an int, None, or a tree of them "
        "like it"
    )


def _check_axis(what: str, axis: int | None, ndim: int, shape: Any) -> None:
    if axis is not None and not -ndim <= axis < ndim:
        raise IndexError(
            f"vmap: {what} is {axis}, and it has shape {tuple(shape)}; expected an axis that it has"
        )


def grad_and_value(
    fn: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns (gradient, value), or (gradient, (value, aux)), as torch.func; see
    wengert.value_and_grad, which returns them the other way round."""
    both = value_and_grad(fn, argnums, has_aux)

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return gradient, value

    return wrapper


def grad(
    fn: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of fn, or (gradient, aux), as torch.func.grad.

    Its arguments and the gradient are as those of wengert.value_and_grad.
    """
    both = grad_and_value(fn, argnums, has_aux)

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def functional_call(
    module: Any,
    parameters_and_buffers: Mapping[str, Tensor],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """module(*args, **kwargs) with other tensors in place of its parameters and buffers.

    They are given by the names of state_dict(), not necessarily all; the module has its own back
    when the call ends. args may be a single tensor. As torch.func.functional_call; KeyError for a
    name that the module does not have.
    """
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in parameters_and_buffers:
        if name not in own:
            raise KeyError(
                f"functional_call: {type(module).__name__} has no parameter or buffer {name!r}; "
                f"it has {', '.join(map(repr, own))}"
            )
    there, back = {}, {}
    for name, given in parameters_and_buffers.items():
        x = given.reshape(given.shape) if id(given) in back else given
        there[id(own[name])], back[id(x)] = x, own[name]

    module._exchange(there)
    try:
        positional = (args,) if isinstance(args, Tensor) else tuple(args)
        return module(*positional, **(kwargs or {}))
    finally:
        module._exchange(back)


explain_all(globals())


def __dir__() -> list[str]:
    return __all__
