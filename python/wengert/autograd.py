"""Gradient modes and value_and_grad, in Python on top of the core's grad and set_grad_enabled.

no_grad / enable_grad  context manager and decorator, per thread, nestable.
backward               of several tensors in one walk
Function               an op of one's own, in PyTorch's spelling; see also wengert.custom_op
vjp, jvp, hvp, jacobian, hessian
                       of functions, as in torch.autograd.functional
value_and_grad(fn)     a function that returns (fn(...), gradients), as in JAX: the arguments are
                       tensors, or lists, tuples and dicts of tensors; the gradients have the same
                       structure. Calls may be nested; the inner one then records its gradient, so
                       that the outer one differentiates it (Hessian-vector products).
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from . import _core
from ._core import Tensor, grad, is_grad_enabled, set_grad_enabled
from ._trees import flatten, map_tensors, unflatten

if TYPE_CHECKING:
    from ._custom import Function as Function
    from ._custom import once_differentiable as once_differentiable
    from ._custom import saved_tensors_hooks as saved_tensors_hooks
    from ._transforms import hessian as hessian
    from ._transforms import hvp as hvp
    from ._transforms import jacobian as jacobian
    from ._transforms import jvp as jvp
    from ._transforms import vjp as vjp

_TRANSFORMS = ("hessian", "hvp", "jacobian", "jvp", "vjp")
_LATER = {"Function": "_custom", "once_differentiable": "_custom"}  # by module
_LATER["saved_tensors_hooks"] = "_custom"
_LATER |= dict.fromkeys(_TRANSFORMS, "_transforms")
__all__ = [
    "Function",
    "backward",
    "enable_grad",
    "grad",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "no_grad",
    "once_differentiable",
    "saved_tensors_hooks",
    "set_grad_enabled",
    "value_and_grad",
    "vjp",
]

F = TypeVar("F", bound=Callable[..., Any])


_RUNS_LATER = 0x20 | 0x80 | 0x200  # inspect.CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR


class _GradMode(_core._GradScope):
    """Sets the gradient mode on entry and puts the former one back on exit."""

    mode: ClassVar[bool]

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        # `@no_grad` without parentheses means `@no_grad()`.
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        super().__init__(self.mode)

    def __call__(self, function: F) -> F:
        name = type(self).__name__
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"{name}: decorates functions, and got {function!r}")
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & _RUNS_LATER:
            # The body runs after the call has returned, where the mode would no longer hold.
            raise TypeError(
                f"{name}: {function.__qualname__} is a generator or coroutine, whose body runs "
                f"after the call returns; write `with {name}():` inside it"
            )

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


class no_grad(_GradMode):  # noqa: N801 - PyTorch's name
    """Nothing is recorded inside: `with no_grad(): ...` or `@no_grad()`.

    >>> w = wg.tensor(2.0, requires_grad=True)
    >>> with wg.no_grad():
    ...     y = w * 3
    >>> y.requires_grad
    False
    """

    mode = False


class enable_grad(_GradMode):  # noqa: N801 - PyTorch's name
    """Recording is on inside, also within `no_grad`."""

    mode = True


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Tensor.backward() for several tensors in one walk. As torch.autograd.backward.

    grad_tensors  a gradient for each; None where a tensor has one element
    inputs        tensors to whose `grad` alone it adds; all leaves unless given
    """
    _core.backward(tensors, grad_tensors, retain_graph, create_graph, inputs)


_depth = threading.local()  # how many value_and_grad calls this thread is inside of


def value_and_grad(
    fn: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    create_graph: bool | None = None,
) -> Callable[..., Any]:
    """A function that returns the value of `fn` and its gradient.

    fn            returns one number (a tensor of one element), or `(number, aux)` with has_aux.
    argnums       which positional arguments to differentiate: an int, or a tuple of ints.
    create_graph  record the gradient, so that it can be differentiated. None: only where this
                  call runs inside the `fn` of another value_and_grad.

    Returns `(value, gradient)`, or `((value, aux), gradient)`; the gradient has the structure,
    shapes and dtypes of the argument, and is a tuple of such where argnums is a tuple. An argument
    that the value does not depend on has a gradient of zeros.

    `fn` sees aliases of the arguments: it does not matter whether they require gradients, and
    their `.grad` is left alone.

    Raises ShapeError where the value is not one number, GradientError where it depends on none of
    the arguments, TypeError and IndexError for arguments that cannot be differentiated.

    >>> value, gradient = wg.value_and_grad(lambda x: (x**2).sum())(wg.tensor([1.0, 3.0]))
    >>> value.item(), gradient
    (10.0, tensor([2., 6.]))
    """
    if not callable(fn):
        raise TypeError(f"value_and_grad: fn must be callable, and is {type(fn).__name__}")
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not numbers:
        raise ValueError("value_and_grad: argnums is empty; name at least one argument")

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        depth = getattr(_depth, "value", 0)
        record = depth > 0 if create_graph is None else create_graph
        places = [n + len(args) if n < 0 else n for n in numbers]
        for number, place in zip(numbers, places, strict=True):
            if not 0 <= place < len(args):
                raise IndexError(
                    f"value_and_grad: argnums names argument {number}, and the call has "
                    f"{len(args)} positional arguments"
                )
        if len(set(places)) != len(places):
            raise ValueError(f"value_and_grad: argnums {numbers} names an argument twice")

        def refuse(place: int, value: Any) -> Any:
            raise TypeError(
                f"value_and_grad: argument {place}: got {type(value).__name__}; differentiable "
                "arguments are tensors, or lists, tuples and dicts of tensors; name the arguments "
                "to differentiate in argnums"
            )

        def alias(x: Tensor) -> Tensor:
            if not x.dtype.is_floating_point:
                raise _core.DTypeError(
                    f"value_and_grad: an argument has dtype {x.dtype.name}; only float32 and "
                    "float64 have gradients: convert it, or leave it out of argnums"
                )
            # A recorded alias keeps the line to an outer derivative; otherwise a fresh leaf.
            outer = record and x.requires_grad
            return x.reshape(x.shape) if outer else x.detach().requires_grad_(True)

        with enable_grad():
            given = list(args)
            tensors: list[Tensor] = []
            forms = [
                flatten(args[place], tensors, functools.partial(refuse, place)) for place in places
            ]
            leaves = [alias(x) for x in tensors]
            for place, form in zip(places, forms, strict=True):
                given[place] = unflatten(form, leaves)
            _depth.value = depth + 1
            try:
                result = fn(*given, **kwargs)
            finally:
                _depth.value = depth
            if has_aux and not (isinstance(result, tuple) and len(result) == 2):
                raise TypeError("value_and_grad: with has_aux, fn must return (value, aux)")
            value, aux = result if has_aux else (result, None)
            if not isinstance(value, Tensor):
                hint = "; pass has_aux=True" if isinstance(value, tuple) else ""
                raise TypeError(
                    f"value_and_grad: fn returned {type(value).__name__}, not a tensor{hint}"
                )
            if value.numel() != 1:
                raise _core.ShapeError(
                    f"value_and_grad: fn returned shape {value.shape}; it must be one number: "
                    "end with .mean() or .sum()"
                )
            if not value.requires_grad:
                raise _core.GradientError(
                    "value_and_grad: the value does not depend on the arguments in argnums; "
                    "was it detached, or computed under no_grad or with NumPy?"
                )
            found = _core.grad(value, leaves, create_graph=record, allow_unused=True)
            gradients = [
                _core.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)
            ]
        trees = tuple(unflatten(form, gradients) for form in forms)
        if not record:  # the graph is spent: do not hand out tensors that point into it
            value = value.detach()
            aux = map_tensors(Tensor.detach, aux)
        gradient = trees[0] if isinstance(argnums, int) else trees
        return ((value, aux) if has_aux else value), gradient

    return wrapper


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"{__package__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
