"""Lists and dicts of modules and parameters: Sequential, ModuleList and their kin.

Plain lists and dicts serve as well, as attributes of a Module; these have PyTorch's names, and
what is in them is named without a name of their own attribute in between.
"""

# ruff: noqa: D102, D105, D107 - what they do is explained at their classes

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any, ClassVar, Generic, TypeVar, overload

from .._calls import describe
from .._core import Tensor
from .._explained import explained
from .module import Module, Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]

T = TypeVar("T")


class _Container(Module):
    """Items of one kind, which are its attributes."""

    _kind: ClassVar[type] = Module

    def _checked(self, name: str, item: Any) -> Any:
        """The item, a tensor as a Parameter, if it can be an item of this container."""
        what = type(self).__name__
        if not isinstance(name, str):
            raise TypeError(f"{what}: key {name!r} is {describe(name)}; expected a str")
        kind = self._kind
        if kind is Parameter and isinstance(item, Tensor) and not isinstance(item, Parameter):
            item = Parameter(item)
        if not isinstance(item, kind):
            hint = ""
            if isinstance(item, type):
                hint = f"; write {item.__name__}(), with parentheses"
            elif isinstance(item, (list, tuple)):
                hint = "; unpack it: Sequential(*layers)" if isinstance(self, Sequential) else ""
            got = "a class" if isinstance(item, type) else type(item).__name__
            raise TypeError(f"{what}: item {name!r} is {got}, not a {kind.__name__}{hint}")
        if hasattr(type(self), name) or "." in name or not name:
            raise ValueError(f"{what}: {name!r} cannot be the name of an item")
        return item

    def _items(self) -> dict[str, Any]:
        kind = self._kind
        return {name: item for name, item in vars(self).items() if isinstance(item, kind)}


class Sequential(_Container):
    """Modules one after another, named "0", "1", ... or by the keys of one dict: its attributes."""

    @explained
    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            items = list(modules[0].items())
        else:
            items = [(str(i), module) for i, module in enumerate(modules)]  # type: ignore[misc]
        for name, module in items:
            setattr(self, name, self._checked(name, module))

    def forward(self, x: Any) -> Any:
        for module in tuple(vars(self).values()):  # not _layers(): this is run at each step
            if isinstance(module, Module):
                x = module(x)
        return x

    def _layers(self) -> list[Module]:
        return list(self._items().values())

    def append(self, module: Module) -> Sequential:
        """Adds a module at the end."""
        name = str(len(self))
        setattr(self, name, self._checked(name, module))
        return self

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers())

    def __len__(self) -> int:
        return len(self._layers())

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        modules = self._layers()
        if isinstance(index, slice):
            return Sequential(*modules[index])
        if not -len(modules) <= index < len(modules):
            raise IndexError(f"Sequential: index {index}, and there are {len(modules)} modules")
        return modules[index]

    def _layer_before(self, module: Module) -> Module | None:
        before: Module | None = None
        for layer in self._flat():
            if layer is module:
                return before
            if isinstance(getattr(layer, "out_features", None), int):
                before = layer
            elif not layer._keeps_shape:
                before = None  # what it gives is not known
        return None

    def _flat(self) -> Iterator[Module]:
        for module in self._layers():
            if isinstance(module, Sequential):
                yield from module._flat()
            else:
                yield module


class _List(_Container, MutableSequence[T], Generic[T]):
    """Items named "0", "1", ...: its attributes."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @explained
    def __init__(self, items: Iterable[Any] = ()) -> None:
        self.extend(items)

    def _put(self, items: Iterable[T]) -> None:
        items = [self._checked(str(i), item) for i, item in enumerate(items)]
        for name in self._items():
            delattr(self, name)
        for i, item in enumerate(items):
            setattr(self, str(i), item)

    def _at(self, index: int) -> str:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"{type(self).__name__}: index {index}, and there are {size} items")
        return str(index % size)

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items().values()))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._items()[self._at(index)]

    def __setitem__(self, index: Any, item: Any) -> None:
        if isinstance(index, slice):
            items = list(self)
            items[index] = item
            self._put(items)
        else:
            name = self._at(index)
            setattr(self, name, self._checked(name, item))

    def __delitem__(self, index: Any) -> None:
        items = list(self)
        del items[index if isinstance(index, slice) else int(self._at(index))]
        self._put(items)

    def insert(self, index: int, item: T) -> None:
        items = list(self)
        items.insert(index, item)
        self._put(items)

    def append(self, item: T) -> Any:
        name = str(len(self))
        setattr(self, name, self._checked(name, item))
        return self

    def extend(self, items: Iterable[T]) -> Any:
        for item in list(items):
            self.append(item)
        return self

    def __add__(self, other: Iterable[T]) -> Any:
        return type(self)([*self, *other])


class ModuleList(_List[Module]):
    """A list of modules, named "0", "1", ...; its forward is for its owner to write."""


class ParameterList(_List[Parameter]):
    """A list of parameters, named "0", "1", ...; a tensor becomes a Parameter."""

    _kind = Parameter


class _Dict(_Container, MutableMapping[str, T], Generic[T]):
    """Items named by their keys: its attributes."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @explained
    def __init__(self, items: Mapping[str, Any] | Iterable[Any] = ()) -> None:
        self.update(items)

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._items()))

    def __contains__(self, key: object) -> bool:
        return key in self._items()

    def __getitem__(self, key: str) -> Any:
        items = self._items()
        if key not in items:
            raise KeyError(f"{type(self).__name__}: {key!r} is not among {list(items)}")
        return items[key]

    def __setitem__(self, key: str, item: T) -> None:
        item = self._checked(key, item)
        if key not in self and key in vars(self):
            raise ValueError(f"{type(self).__name__}: {key!r} cannot be the name of an item")
        setattr(self, key, item)

    def __delitem__(self, key: str) -> None:
        self[key]  # or an error
        delattr(self, key)


class ModuleDict(_Dict[Module]):
    """A dict of modules, named by their keys; its forward is for its owner to write."""


class ParameterDict(_Dict[Parameter]):
    """A dict of parameters, named by their keys; a tensor becomes a Parameter."""

    _kind = Parameter
