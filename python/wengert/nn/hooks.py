"""Hooks of modules: functions that see, and may replace, what goes into and comes out of a call.

A module keeps its hooks in one tuple, which is another one after each change: what a compiled step
compares (`_guards`). Hooks run in the order in which they were registered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import _core
from .._core import Tensor

if TYPE_CHECKING:
    from .module import Module


class Hook:
    """A function with the moment at which it is called: "before", "after" or "backward"."""

    def __init__(self, moment: str, call: Callable[..., Any], with_kwargs: bool = False) -> None:
        """with_kwargs: the function also takes the arguments that were given by name."""
        self.moment, self.call, self.with_kwargs = moment, call, with_kwargs


class RemovableHandle:
    """What register_..._hook gives: `remove()` takes the hook away, as does the end of a `with`."""

    def __init__(self, module: Module, hook: Hook) -> None:
        """The hook is in `module._hooks`."""
        self._module, self._hook = module, hook

    def remove(self) -> None:
        """Takes the hook away; it may be gone already."""
        hooks = tuple(hook for hook in self._module._hooks or () if hook is not self._hook)
        self._module._hooks = hooks or None

    def __enter__(self) -> RemovableHandle:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Takes the hook away."""
        self.remove()


def register(module: Module, hook: Hook, prepend: bool) -> RemovableHandle:
    """Adds a hook at the end, or at the front."""
    if not callable(hook.call):
        raise TypeError(f"{type(module).__name__}: a hook must be a function, not {hook.call!r}")
    hooks = module._hooks or ()
    module._hooks = (hook, *hooks) if prepend else (*hooks, hook)
    return RemovableHandle(module, hook)


def run(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """module.forward(*args, **kwargs) with the module's hooks."""
    hooks = module._hooks or ()
    for hook in hooks:
        if hook.moment != "before":
            continue
        given = hook.call(module, args, kwargs) if hook.with_kwargs else hook.call(module, args)
        if given is None:
            continue
        if not hook.with_kwargs:
            args = given if isinstance(given, tuple) else (given,)
        elif isinstance(given, tuple) and len(given) == 2:
            args, kwargs = given
        else:
            raise TypeError(
                f"{type(module).__name__}: a forward pre-hook with_kwargs gave "
                f"{type(given).__name__}; expected None or (args, kwargs)"
            )
    backward = [hook.call for hook in hooks if hook.moment == "backward"]
    seen = _Backward(module, backward) if backward and _core.is_grad_enabled() else None
    if seen:
        args = seen.inputs(args)
    y = module.forward(*args, **kwargs)
    for hook in hooks:
        if hook.moment == "after":
            more = (kwargs,) if hook.with_kwargs else ()
            given = hook.call(module, args, *more, y)
            y = y if given is None else given
    return seen.outputs(y) if seen else y


def _joint(tensors: Sequence[Tensor], hook: Callable[[list[Tensor]], Any]) -> list[Tensor]:
    """The same values; `hook` gets all their gradients at once, and may give others."""
    if len(tensors) == 1:
        whole = tensors[0][...]
        pieces, shapes = [whole], [whole.shape]
    else:
        whole = _core.concatenate([x.flatten() for x in tensors])
        if any(x.dtype != whole.dtype for x in tensors):
            raise _core.DTypeError(
                "register_full_backward_hook: the module's tensors have several dtypes: "
                f"{', '.join(x.dtype.name for x in tensors)}; use Tensor.register_hook"
            )
        shapes = [x.shape for x in tensors]
        pieces = _parts(whole, shapes)

    def call(g: Tensor) -> Tensor | None:
        given = hook([g] if len(shapes) == 1 else _parts(g, shapes))
        if given is None:
            return None
        return given[0] if len(shapes) == 1 else _core.concatenate([x.flatten() for x in given])

    whole.register_hook(call)
    return pieces


def _parts(whole: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    sizes = [_core.empty(shape).size for shape in shapes]
    return [x.reshape(s) for x, s in zip(whole.split(sizes), shapes, strict=True)]


class _Backward:
    """One call of a module with backward hooks: they are called when the gradients of its inputs
    are there, or, where none of these is wanted, those of its outputs."""

    def __init__(self, module: Module, hooks: list[Callable[..., Any]]) -> None:
        self.module, self.hooks = module, hooks
        self.at: list[int] = []  # of the inputs that require a gradient
        self.count = 0
        self.grad_outputs: list[Tensor | None] = []

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.at = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
        self.count = len(args)
        if not self.at:
            return args
        new = list(args)
        for i, x in zip(self.at, _joint([args[i] for i in self.at], self.call), strict=True):
            new[i] = x
        return tuple(new)

    def outputs(self, y: Any) -> Any:
        if not isinstance(y, (Tensor, tuple, list)):
            raise TypeError(
                f"{type(self.module).__name__}: has a full backward hook, and forward gave "
                f"{type(y).__name__}; it must give a tensor or a tuple of tensors"
            )
        new: list[Any] = [y] if isinstance(y, Tensor) else list(y)
        self.grad_outputs = [None] * len(new)
        at = [i for i, x in enumerate(new) if isinstance(x, Tensor) and x.requires_grad]
        if self.at:
            for i in at:
                new[i] = new[i][...]
                new[i].register_hook(lambda g, i=i: self.grad_outputs.__setitem__(i, g))
        elif at:

            def alone(gradients: list[Tensor]) -> None:
                for i, g in zip(at, gradients, strict=True):
                    self.grad_outputs[i] = g
                self.call([])

            for i, x in zip(at, _joint([new[i] for i in at], alone), strict=True):
                new[i] = x
        return new[0] if isinstance(y, Tensor) else type(y)(new)

    def call(self, gradients: list[Tensor]) -> list[Tensor] | None:
        grad_inputs: list[Tensor | None] = [None] * self.count
        for i, g in zip(self.at, gradients, strict=True):
            grad_inputs[i] = g
        changed = False
        for hook in self.hooks:
            given = hook(self.module, tuple(grad_inputs), tuple(self.grad_outputs))
            if given is None:
                continue
            given = given if isinstance(given, (tuple, list)) else (given,)
            wanted = [i for i, g in enumerate(grad_inputs) if g is not None]
            got = [i for i, g in enumerate(given) if g is not None]
            if len(given) != self.count or got != wanted:
                raise _core.GradientError(
                    f"{type(self.module).__name__}: a full backward hook gave gradients for "
                    f"{got} of {len(given)} inputs; expected None, or gradients for {wanted} of "
                    f"{self.count}"
                )
            grad_inputs, changed = list(given), True
        self.grad_outputs = [None] * len(self.grad_outputs)
        return [g for g in grad_inputs if g is not None] if changed else None
