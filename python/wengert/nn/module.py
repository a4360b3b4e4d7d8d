"""Parameter and Module: what a layer is.

A Module finds its parameters, buffers and children by looking at its attributes, those inside
lists, tuples, dicts and deques too; nothing has to be registered (but buffers), and
`super().__init__()` cannot be forgotten. Names are paths of attributes, `net.0.weight`, as in
PyTorch.
An error inside `forward` gains the path of the module in which it happened, once.
"""

from __future__ import annotations

import warnings
from collections import Counter, UserDict, UserList, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self
from weakref import WeakKeyDictionary

from .. import _core, _names
from .._calls import describe
from .._core import Tensor
from .._explained import explained
from ..autograd import no_grad
from . import hooks

__all__ = ["Module", "Parameter"]


class Parameter(Tensor):
    """A tensor that a Module owns and an optimizer changes. Shares the memory of `data`."""

    replaced: bool  # set by Module.to: an optimizer that still holds this one must say so

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        """data: a floating-point tensor of any shape."""
        if not isinstance(data, Tensor):
            raise TypeError(
                f"Parameter: got {type(data).__name__}; make a tensor first: "
                "Parameter(wengert.tensor(...))"
            )
        if not data.dtype.is_floating_point:
            raise _core.DTypeError(
                f"Parameter: has dtype {data.dtype.name}; it must be float32 or float64. "
                "Integers that belong to a module are buffers: register_buffer(name, tensor)"
            )
        super().__init__(data.detach())
        self.requires_grad = requires_grad
        self.replaced = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        """Its own memory, no gradient."""
        copy = type(self)(self.detach().clone(), self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __repr__(self) -> str:
        """The tensor, marked as a parameter."""
        return f"Parameter({super().__repr__()})"


# What `wengert.summary` found last of a module, for its picture in notebooks.
_SUMMARIES: WeakKeyDictionary[Module, Any] = WeakKeyDictionary()


class LoadResult(NamedTuple):
    """What load_state_dict(strict=False) passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(path, item) for each item of nested lists, tuples, deques and dicts."""
    if isinstance(value, (list, tuple, deque)):
        for i, item in enumerate(value):
            yield from _flatten(f"{name}.{i}", item)
    elif isinstance(value, (dict, MappingProxyType)):
        for key, item in value.items():
            text = str(key)
            if not isinstance(key, str) and text in value:  # 1 beside "1"
                text = f"{type(key).__name__}({text})"
            yield from _flatten(f"{name}.{text}", item)
    elif isinstance(value, (set, frozenset)):
        if any(isinstance(item, (Module, Parameter)) for item in value):
            raise TypeError(
                f"Module: {name!r} is a set with layers or parameters in it; a set has no order, "
                "so they would have no names: use a list"
            )
        yield name, value
    elif type(value) in (UserDict, UserList):
        yield from _flatten(name, value.data)
    else:
        yield name, value


def _map(value: Any, fn: Callable[[Any], Any]) -> Any:
    """value with fn applied to each item; lists, deques and dicts are changed in place."""
    if isinstance(value, (list, deque)):
        for i, item in enumerate(value):
            value[i] = _map(item, fn)
    elif isinstance(value, dict):
        value.update({key: _map(item, fn) for key, item in value.items()})
    elif isinstance(value, MappingProxyType):
        return MappingProxyType({key: _map(item, fn) for key, item in value.items()})
    elif type(value) in (UserDict, UserList):
        _map(value.data, fn)
    elif isinstance(value, tuple):
        items = [_map(item, fn) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    else:
        return fn(value)
    return value


def _would_be_forgotten(item: Any) -> bool:
    """A leaf that requires a gradient, but that parameters() does not give."""
    return (
        isinstance(item, Tensor)
        and not isinstance(item, Parameter)
        and item.requires_grad
        and item.is_leaf
    )


class Module:
    """Base of all layers: a subclass writes `forward` and sets parameters and children as
    attributes.

    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(2, 2)
    ...     def forward(self, x):
    ...         return self.layer(self.layer(x))
    >>> [name for name, _ in Twice().named_parameters()]
    ['layer.weight', 'layer.bias']
    """

    training: bool = True
    _error_name: ClassVar[str | None] = None  # how errors call it; the class name where None
    _keeps_shape: ClassVar[bool] = False  # whether its output has its input's shape, whatever it is
    _hooks: tuple[hooks.Hook, ...] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """A module whose `training` is an attribute of its own, so that eval() adds none:
        not in __init__, which a subclass need not call."""
        module = super().__new__(cls)
        vars(module)["training"] = cls.training
        return module

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute.

        TypeError for a plain tensor in a parameter's place, and for a leaf that requires a gradient
        and is no Parameter: neither would be trained. (Those in lists and dicts, or that ask for a
        gradient later, get a warning from parameters().)
        """
        former = vars(self).get(name)
        if (
            isinstance(former, Parameter)
            and isinstance(value, Tensor)
            and not isinstance(value, Parameter)
        ):
            raise TypeError(
                f"{type(self).__name__}: {name!r} is a Parameter and would become a plain tensor; "
                f"write Parameter(tensor), or copy the values: module.{name}.copy_(tensor) under "
                "no_grad()"
            )
        if _would_be_forgotten(value):
            raise TypeError(
                f"{type(self).__name__}: {name!r} would be a tensor that requires a gradient, and "
                "no Parameter, so no optimizer would train it; write Parameter(tensor), or keep "
                "tensor.detach()"
            )
        object.__setattr__(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; called as module(...), which adds its path to errors."""
        raise NotImplementedError(f"{type(self).__name__}: forward is not defined")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """forward(...)"""
        try:
            if self._hooks is None:
                if len(args) == 1 and not kwargs:  # almost all calls: a third of the time
                    return self.forward(args[0])
                return self.forward(*args, **kwargs)
            return hooks.run(self, args, kwargs)
        except _NAMED_ERRORS as error:
            _name_the_module(error, self)
            raise

    def extra_repr(self) -> str:
        """What repr and errors show in the parentheses."""
        return ""

    # ---- hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> hooks.RemovableHandle:
        """hook(module, args) before each call: None, or other arguments, a tuple or one.

        with_kwargs: hook(module, args, kwargs): None, or (args, kwargs). prepend: before the hooks
        that are there. The handle's `remove()` takes it away.
        """
        return hooks.register(self, hooks.Hook("before", hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> hooks.RemovableHandle:
        """hook(module, args, output) after each call: None, or another output.

        with_kwargs: hook(module, args, kwargs, output). prepend: before the hooks that are there.
        """
        return hooks.register(self, hooks.Hook("after", hook, with_kwargs), prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> hooks.RemovableHandle:
        """hook(module, grad_input, grad_output) in the backward pass of each call: None, or other
        gradients of the inputs.

        Tuples: the gradients of the tensors among the arguments given by position, and of the
        output or the tensors in it; None where there is none. It is called when those of the
        inputs are there; where no input requires a gradient, when those of the output are, and
        then with None for each input.
        """
        return hooks.register(self, hooks.Hook("backward", hook), prepend)

    # ---- what it consists of

    def _members(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            yield from _flatten(name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules one level down."""
        for name, value in self._members():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules one level down."""
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and all below it, parents first. A module that is reached
        twice comes once; with remove_duplicate=False it comes under each of its paths."""
        yield from self._named_modules(prefix, set(), remove_duplicate)

    def _named_modules(
        self, prefix: str, seen: set[int], once: bool
    ) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child._named_modules(_join(prefix, name), seen, once)
        if not once:
            seen.discard(id(self))  # seen then holds only the path from the root: stops cycles

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once, parents first."""
        for _, module in self.named_modules():
            yield module

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        for name, value in self._members():
            if isinstance(value, Parameter):
                yield name, value
            elif _would_be_forgotten(value):
                warnings.warn(
                    f"{type(self).__name__}: {name!r} is a tensor that requires a gradient, and no "
                    "Parameter: it is not among the parameters, so no optimizer trains it; write "
                    "Parameter(tensor)",
                    stacklevel=4,
                )

    def _own_buffers(self, persistent_only: bool = False) -> Iterator[tuple[str, Tensor]]:
        for name, persistent in vars(self).get("_buffers", {}).items():
            value = getattr(self, name, None)
            if isinstance(value, Tensor) and (persistent or not persistent_only):
                yield name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter), each parameter once. ValueError where two would have one path."""
        seen: set[int] = set()
        names: dict[str, Tensor] = {}
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, parameter in module._own_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield _claim(names, _join(path, name), parameter), parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters here and (recurse) below, each once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def get_submodule(self, target: str) -> Module:
        """The module of this path, as in named_modules(): "" is this one."""
        found = dict(self.named_modules(remove_duplicate=False)).get(target)
        if found is None:
            raise AttributeError(f"{type(self).__name__}: has no module {target!r}")
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of this path, as in state_dict()."""
        found = self._state().get(target)
        if not isinstance(found, Parameter):
            raise AttributeError(f"{type(self).__name__}: has no parameter {target!r}")
        return found

    @explained
    def add_module(self, name: str, module: Module | None) -> None:
        """A child under this name: the attribute `name`. Another word for register_module."""
        self._register(name, module, Module)

    register_module = add_module

    @explained
    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """A parameter under this name: the attribute `name`."""
        self._register(name, param, Parameter)

    def _register(self, name: str, value: Any, kind: type) -> None:
        what = f"{type(self).__name__}: {name!r}"
        if not name or "." in name:
            raise ValueError(f"{what} cannot be a name: it must not be empty or have a dot in it")
        own = vars(self).get(name, 0)
        if hasattr(self, name) and own is not None and not isinstance(own, kind):
            raise ValueError(f"{what} is there already, and no {kind.__name__}")
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{what} would be {describe(value)}; expected a {kind.__name__}")
        setattr(self, name, value)

    @explained
    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A tensor that is state but not trained (a running mean). It becomes the attribute
        `name`; a persistent one is part of the state_dict."""
        if not name.isidentifier():
            raise ValueError(f"register_buffer: {name!r} is not a name an attribute can have")
        buffers = vars(self).setdefault("_buffers", {})
        if name not in buffers and hasattr(self, name):
            raise ValueError(f"register_buffer: {type(self).__name__} already has a {name!r}")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"register_buffer: {name!r} is {type(tensor).__name__}, not a tensor")
        if isinstance(tensor, Parameter):
            raise TypeError(f"register_buffer: {name!r} is a Parameter; set it as an attribute")
        buffers[name] = persistent
        setattr(self, name, tensor)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """(path, buffer), each buffer once."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix):
            for name, buffer in module._own_buffers():
                if id(buffer) not in seen:
                    seen.add(id(buffer))
                    yield _join(path, name), buffer

    def buffers(self) -> Iterator[Tensor]:
        """The buffers here and below, each once."""
        for _, buffer in self.named_buffers():
            yield buffer

    # ---- changing it as a whole

    @explained
    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Calls fn on every module, children before parents (for initialising weights)."""
        for module in reversed(list(self.modules())):
            fn(module)
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets training mode (Dropout drops) here and below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Sets evaluation mode (Dropout passes everything) here and below."""
        return self.train(False)

    def requires_grad_(self, flag: bool = True) -> Self:
        """Turns the gradients of all parameters on or off (freezing)."""
        for parameter in self.parameters():
            parameter.requires_grad = flag
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients, or fills them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                with no_grad():
                    parameter.grad.zero_()

    def to(self, dtype_or_device: Any) -> Self:
        """Converts floating-point parameters and buffers to a floating dtype, or moves all of
        them to a device ("cpu", "cuda", "cuda:1").

        Parameters become new objects: make the optimizer after this call. An optimizer made
        before raises an error at its next step.
        """
        to: Any = dtype_or_device
        moves = isinstance(to, str) and to.startswith(("cpu", "cuda"))
        device = _core.empty((0,), device=to).device if moves else None
        wanted = None if moves else _core.empty((0,), to).dtype
        if wanted and not wanted.is_floating_point:
            raise _core.DTypeError(f"Module.to: dtype is {wanted.name}; give a floating dtype")
        done: dict[int, Tensor] = {}  # keeps tied parameters tied
        keep: list[Tensor] = []  # and their ids unique

        def convert(value: Any) -> Any:
            if value is None:
                return value
            if value.device == device if moves else value.dtype == wanted:
                return value
            if not moves and not value.dtype.is_floating_point:
                return value
            if id(value) not in done:
                new: Tensor = value.detach().to(to)
                if isinstance(value, Parameter):
                    new = Parameter(new, value.requires_grad)
                    value.replaced = True
                done[id(value)] = new
                keep.append(value)
            return done[id(value)]

        def parameters_only(value: Any) -> Any:
            return convert(value) if isinstance(value, Parameter) else value

        for module in list(self.modules()):
            buffers = vars(module).get("_buffers", {})
            for name, value in vars(module).items():
                if name != "_buffers":
                    new = convert(value) if name in buffers else _map(value, parameters_only)
                    vars(module)[name] = new
        return self

    def _exchange(self, others: dict[int, Tensor]) -> None:
        """Puts others in place of the tensors with these ids (func.functional_call)."""
        for module in list(self.modules()):
            for name, value in vars(module).items():
                other = _map(value, lambda x: others.get(id(x), x))
                if other is not value:
                    vars(module)[name] = other

    def cuda(self, device: int | str | None = None) -> Self:
        """to("cuda"), or to the GPU of this number."""
        return self.to(f"cuda:{device}" if isinstance(device, int) else device or "cuda")

    def cpu(self) -> Self:
        """to("cpu")"""
        return self.to("cpu")

    def float(self) -> Self:
        """to("float32")"""
        return self.to("float32")

    def double(self) -> Self:
        """to("float64")"""
        return self.to("float64")

    def bfloat16(self) -> Self:
        """to("bfloat16"): to compute with; optimizers take float32 parameters."""
        return self.to("bfloat16")

    # ---- state

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Path to tensor, for all parameters and persistent buffers, tied ones under each of their
        names. The tensors are detached and share memory with the module; clone() to keep them.
        ValueError where two of them would have one name."""
        return {name: value.detach() for name, value in self._state(prefix).items()}

    def _state(self, prefix: str = "") -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for path, module in self.named_modules(prefix, remove_duplicate=False):
            for name, value in [*module._own_parameters(), *module._own_buffers(True)]:
                _claim(state, _join(path, name), value)
        return state

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> LoadResult:
        """Copies tensors (or NumPy arrays) into the parameters and buffers of the same names; with
        `assign`, parameters of the same dtype become new ones over the given memory instead.

        Everything is checked before anything is written. ValueError lists all keys that are
        missing or unexpected (only if strict), and those of another shape or kind of dtype;
        floating dtypes are converted into one another. Of a tensor with several names (a tied
        weight) one is enough; where their values differ, a warning says which is taken.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"load_state_dict: got {type(state).__name__}; expected names and tensors: "
                "model.state_dict(), or wengert.load(path)"
            )
        own = self._state()
        given = {
            key: value if isinstance(value, Tensor) else _core.asarray(value)
            for key, value in state.items()
        }
        self._complete_ties(own, given)
        missing = [key for key in own if key not in given]
        unexpected = [key for key in given if key not in own]
        problems = []
        if strict and missing:
            problems += [f"missing:    {key}  {own[key].shape}" for key in missing]
        if strict and unexpected:
            problems += [f"unexpected: {key}  {given[key].shape}" for key in unexpected]
        for key, target in own.items():
            if key not in given:
                continue
            value = given[key]
            if value.shape != target.shape:
                problems.append(f"misshaped:  {key}  {value.shape}, here {target.shape}")
            floats = (value.dtype.is_floating_point, target.dtype.is_floating_point)
            if floats[0] != floats[1] or (not floats[0] and value.dtype != target.dtype):
                problems.append(f"wrong dtype: {key}  {value.dtype.name}, here {target.dtype.name}")
        if problems:
            way_out = "; strict=False passes over missing and unexpected ones" if strict else ""
            raise ValueError(
                f"load_state_dict: {len(problems)} of the state's entries do not fit "
                f"{type(self).__name__}, nothing was loaded{way_out}:\n  " + "\n  ".join(problems)
            )
        if assign:
            given = self._assign(given)
        with no_grad():
            for key, target in own.items():
                if key in given:
                    target.detach().copy_(given[key])
        return LoadResult(missing, unexpected)

    @staticmethod
    def _complete_ties(own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
        """Gives all names of a tensor the value of the last one that is given."""
        names: dict[int, list[str]] = {}
        for name, target in own.items():
            names.setdefault(id(target), []).append(name)
        for tied in names.values():
            *others, last = [name for name in tied if name in given] or [""]
            if any(given[name].shape != given[last].shape for name in others):
                continue  # load_state_dict lists the shapes
            for name in others:
                if not _same_values(given[name], given[last], own[last].dtype):
                    warnings.warn(
                        f"load_state_dict: {name} and {last} are one tensor here, and the state "
                        f"has two different values for them; that of {last} is taken",
                        stacklevel=3,
                    )
            if last:
                given.update({name: given[last] for name in tied})

    def _assign(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Puts new parameters in the place of those it can; returns what is still to be copied."""
        done: dict[int, Parameter] = {}  # keeps tied parameters tied
        rest = dict(given)
        for path, module in list(self.named_modules(remove_duplicate=False)):
            for name, old in list(module._own_parameters()):
                value = rest.get(_join(path, name))
                if value is None or value.dtype != old.dtype or vars(module).get(name) is not old:
                    continue
                new = done.setdefault(id(old), Parameter(value, old.requires_grad))
                old.replaced = True
                setattr(module, name, new)
                del rest[_join(path, name)]
        return rest

    # ---- showing it

    def __repr__(self) -> str:
        """A table: the tree of modules, shapes and numbers of parameters."""
        rows: list[tuple[str, str, str]] = []
        self._rows("", "", "", rows, set())
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows
        ]
        return "\n".join([*lines, self._total()])

    def _repr_html_(self) -> str:
        """For notebooks: the table, with costs where `wengert.summary` has found them."""
        from .. import _shown

        rows: list[tuple[str, str, str]] = []
        self._rows("", "", "", rows, set())
        name, total = type(self).__name__, self._total()
        last: Any = _SUMMARIES.get(self)
        if last is not None and last.total.parameters == sum(p.numel() for p in self.parameters()):
            return _shown.block(name, last._table(), _shown.said(total))
        advice = "; FLOPs and memory of each layer: wengert.summary(model, *inputs)"
        body = _shown.table(("layer", "tensors", "parameters"), rows, left=2)
        return _shown.block(name, body, _shown.said(total + advice))

    def _total(self) -> str:
        parameters = list(self.parameters())
        count = sum(p.numel() for p in parameters)
        frozen = sum(p.numel() for p in parameters if not p.requires_grad)
        total = f"total: {count:,} parameters"
        if frozen:
            total += f", {frozen:,} of them frozen"
        if parameters:
            dtypes = Counter(p.dtype.name for p in parameters)
            total += f", {_size(sum(p.nbytes for p in parameters))} as {' and '.join(dtypes)}"
        return total

    def _rows(
        self, lead: str, below: str, name: str, rows: list[tuple[str, str, str]], seen: set[int]
    ) -> None:
        """Appends this module's row and those under it: tree, shapes, parameter count."""
        label = type(self).__name__
        if self.extra_repr():
            label += f"({self.extra_repr()})"
        if id(self) in seen:
            rows.append((f"{lead}{name}{label}", "shared with a row above", ""))
            return
        seen.add(id(self))
        own = list(self._own_parameters())
        shapes = [f"{key} {value.shape}" for key, value in own]
        shapes += [f"{key} {value.shape} (buffer)" for key, value in self._own_buffers()]
        count = sum(value.numel() for _, value in own)
        rows.append((f"{lead}{name}{label}", "  ".join(shapes), f"{count:,}" if own else ""))
        children = list(self.named_children())
        for i, (child_name, child) in enumerate(children):
            last = i == len(children) - 1
            child._rows(
                below + ("└─ " if last else "├─ "),
                below + ("   " if last else "│  "),
                f"{child_name}: ",
                rows,
                seen,
            )

    def _layer_before(self, module: Module) -> Module | None:
        """The layer whose output is `module`'s input, where this module knows it (Sequential)."""
        return None


@contextmanager
def kept_modes(module: Module) -> Iterator[None]:
    """After the block, module and all below it are in the mode (training or not) of before it."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _claim(names: dict[str, Tensor], name: str, value: Tensor) -> str:
    """The name, now that of `value`; an error where another tensor has it."""
    if names.setdefault(name, value) is not value:
        raise ValueError(
            f"Module: two tensors are both called {name!r}, so one of them would not be saved; "
            'names consist of attributes and keys, where "a.b", and "a" with "b" in it, read '
            "alike: use other keys"
        )
    return name


def _same_values(a: Tensor, b: Tensor, dtype: Any) -> bool:
    if a is b:
        return True
    with no_grad():
        a, b = a.to(dtype), b.to(a.device).to(dtype)
        return bool(((a == b) | ((a != a) & (b != b))).all().item())


def _size(nbytes: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.1f} {unit}"
    return f"{nbytes} bytes"


# ---- errors with the module's path. Nothing is done for it while all goes well: the exception
# collects, on its way out, where it started, and each module it passes knows a longer path.

_NAMED_ERRORS = (
    _core.ShapeError,
    _core.DTypeError,
    _core.GradientError,
    _core.DeviceError,
    _core.OutOfMemoryError,
)


class _Where:
    def __init__(self, module: Module, message: str) -> None:
        self.module = module  # the innermost
        self.message = message
        self.before: Module | None = None


def _name_the_module(error: Exception, outer: Module) -> None:
    where: _Where | None = getattr(error, "_wengert_where", None)
    if where is None:
        where = _Where(outer, str(error))
        error._wengert_where = where  # type: ignore[attr-defined]
    module = where.module
    names = {id(m): name for name, m in outer.named_modules()}
    if id(module) not in names:  # called, but not an attribute: keep the shorter path
        return
    if where.before is None:
        where.before = outer._layer_before(module)
    name = names[id(module)]
    text = label = module._error_name or type(module).__name__
    text += f" '{name}'" if name else ""
    text += f" ({module.extra_repr()})" if module.extra_repr() else ""
    text += f": {where.message.removeprefix(f'{label}: ')}"
    if where.before is not None and id(where.before) in names:
        features = getattr(where.before, "out_features", "?")
        dot = "" if text.endswith(".") else "."
        text += (
            f"{dot} The layer before it, '{names[id(where.before)]}', gives {features} features."
        )
    error.args = (text,)


_names.mark_missing(Module, _names.MODULE)
