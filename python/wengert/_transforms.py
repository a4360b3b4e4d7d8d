"""Derivatives of functions: vjp, jvp, hvp, jacobian, hessian, as in torch.autograd.functional.

All are calls of `grad`: a Jacobian is one for each element of the result; a product J v, for which
a list is walked forward in other libraries, is two, as the gradient u -> u J is linear in u.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import _core
from ._calls import describe
from ._core import Tensor
from .autograd import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vjp"]

Inputs = Tensor | Sequence[Tensor]


def _tensors(op: str, what: str, given: Any) -> list[Tensor]:
    found = [given] if isinstance(given, Tensor) else given
    if not isinstance(found, (tuple, list)) or not found:
        raise TypeError(f"{op}: {what} is {describe(given)}; expected a tensor or a tuple of them")
    for x in found:
        if not isinstance(x, Tensor):
            raise TypeError(f"{op}: {what} holds {describe(x)}; expected tensors alone")
    return list(found)


def _like(given: Any, results: Sequence[Any]) -> Any:
    return results[0] if isinstance(given, Tensor) else tuple(results)


def _run(op: str, func: Callable[..., Any], inputs: Any, outer: bool) -> tuple[list[Tensor], Any]:
    """Leaves in the inputs' place, and func of them; `outer`: inputs keep their history."""
    leaves = []
    for i, x in enumerate(_tensors(op, "inputs", inputs)):
        if not x.dtype.is_floating_point:
            raise _core.DTypeError(
                f"{op}: input {i} has dtype {x.dtype.name}, which has no gradient; convert it with "
                '.to("float32")'
            )
        history = outer and x.requires_grad
        leaves.append(x.reshape(x.shape) if history else x.detach().requires_grad_(True))
    return leaves, func(*leaves)


def _vectors(op: str, v: Any, of: Sequence[Tensor], what: str) -> list[Tensor]:
    if v is None:
        if len(of) > 1 or of[0].numel() != 1:
            raise ValueError(f"{op}: v is needed where the {what} is not one number")
        return [_core.ones_like(of[0].detach())]
    found = _tensors(op, "v", v)
    if [x.shape for x in found] != [x.shape for x in of]:
        raise _core.ShapeError(
            f"{op}: v has the shapes {[x.shape for x in found]}; those of the {what} are "
            f"{[x.shape for x in of]}, and they must be equal"
        )
    return found


def _grad(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    v: Sequence[Tensor],
    retain_graph: bool = False,
    create_graph: bool = False,
) -> list[Tensor]:
    """grad(), where what does not depend has zeros."""
    pairs = [(y, u) for y, u in zip(outputs, v, strict=True) if y.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if pairs:
        found = _core.grad(
            [y for y, _ in pairs], list(inputs), [u for _, u in pairs],
            retain_graph=retain_graph or create_graph, create_graph=create_graph, allow_unused=True,
        )  # fmt: skip
    zeros = [_core.zeros(x.shape, dtype=x.dtype, device=x.device) for x in inputs]
    return [z if g is None else g for g, z in zip(found, zeros, strict=True)]


def _detached(outputs: Any, create_graph: bool) -> Any:
    if create_graph:
        return outputs
    return _like(outputs, [y.detach() for y in _tensors("", "", outputs)])


def vjp(
    func: Callable[..., Any], inputs: Inputs, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), v J): the gradient of the result weighted by v.

    inputs  a tensor or a tuple of them, func's arguments; v has the form and shapes of its result,
    and may be left out where that is one number. What the result does not depend on has zeros.
    With create_graph both have a history. Raises ShapeError, TypeError.
    """
    with enable_grad():
        leaves, result = _run("vjp", func, inputs, create_graph)
        outputs = _tensors("vjp", "the result of func", result)
        vectors = _vectors("vjp", v, outputs, "result")
        found = _grad(outputs, leaves, vectors, create_graph=create_graph)
    return _detached(result, create_graph), _like(inputs, found)


def jvp(
    func: Callable[..., Any], inputs: Inputs, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), J v): how the result changes where the inputs change by v.

    As vjp, but v has the form and shapes of the inputs. It takes about the time of three vjps.
    """
    with enable_grad():
        leaves, result = _run("jvp", func, inputs, create_graph)
        outputs = _tensors("jvp", "the result of func", result)
        vectors = _vectors("jvp", v, leaves, "input")
        u = [_core.zeros_like(y.detach()).requires_grad_(True) for y in outputs]
        back = _grad(outputs, leaves, u, create_graph=True)
        found = _grad(back, u, vectors, create_graph=create_graph)
    return _detached(result, create_graph), _like(result, found)


def jacobian(func: Callable[..., Any], inputs: Inputs, create_graph: bool = False) -> Any:
    """The derivatives of each element of func(*inputs) with respect to each element of the inputs.

    A tensor of shape (*result.shape, *input.shape); a tuple of them where there are several inputs,
    or several results; a tuple of tuples, by result and input, where there are both. One vjp for
    each element of the result.
    """
    with enable_grad():
        leaves, result = _run("jacobian", func, inputs, create_graph)
        rows = [
            _like(inputs, _jacobian(y, leaves, create_graph))
            for y in _tensors("jacobian", "the result of func", result)
        ]
    return _like(result, rows)


def _jacobian(y: Tensor, leaves: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    units = _core.eye(y.numel(), dtype=y.dtype, device=y.device)
    rows = [
        _grad([y], leaves, [units[i].reshape(y.shape)], True, create_graph)
        for i in range(y.numel())
    ]
    if not rows:
        return [_core.zeros(y.shape + x.shape, dtype=x.dtype, device=x.device) for x in leaves]
    return [
        _core.stack([row[k] for row in rows]).reshape(y.shape + x.shape)
        for k, x in enumerate(leaves)
    ]


def _gradient(op: str, func: Callable[..., Any], values: list[Any]) -> Callable[..., Any]:
    """A function that returns func's gradient with a history; func's value goes to `values`."""

    def gradient(*xs: Tensor) -> tuple[Tensor, ...]:
        value = func(*xs)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = value.shape if isinstance(value, Tensor) else describe(value)
            raise _core.ShapeError(
                f"{op}: func returned {got}; expected one number: end with .sum() or .mean()"
            )
        values.append(value)
        one = _core.ones_like(value.detach())
        return tuple(_grad([value], xs, [one], create_graph=True))

    return gradient


def hessian(func: Callable[..., Any], inputs: Inputs, create_graph: bool = False) -> Any:
    """The second derivatives of func(*inputs), which is one number.

    A tensor of shape (*input.shape, *input.shape), or a tuple of tuples of (*a.shape, *b.shape) for
    inputs a and b.
    """
    found = jacobian(_gradient("hessian", func, []), inputs, create_graph)
    return found[0] if isinstance(inputs, Tensor) else found


def hvp(
    func: Callable[..., Any], inputs: Inputs, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), H v): the Hessian of func, one number, times v, without the Hessian.

    v has the form and shapes of the inputs.
    """
    values: list[Any] = []
    with enable_grad():
        leaves, back = _run("hvp", _gradient("hvp", func, values), inputs, create_graph)
        vectors = _vectors("hvp", v, leaves, "input")
        found = _grad(back, leaves, vectors, create_graph=create_graph)
    return _detached(values[0], create_graph), _like(inputs, found)
