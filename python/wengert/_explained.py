"""Calls of the package's Python functions that do not fit: an AttributeError or a TypeError from
deep inside becomes a sentence with the function, the argument, what came, what was expected.

`explain_all` puts this around a module's public functions and constructors. All of it happens after
a call has failed: the annotations say what was expected.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from types import FunctionType, UnionType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_NAMED = re.compile(r"[\w.]+: ")

# What PyTorch calls an argument, where that is another name than ours.
_SYNONYMS = [
    *(("input", ours) for ours in ("x", "logits", "prediction", "p")),
    *(("size", "shape"), ("parameters", "params"), ("pad", "pad_width")),
    *(("dim", "axis"), ("keepdim", "keepdims"), ("dims", "axis"), ("dims", "axes")),
    *(("in_dims", "in_axes"), ("out_dims", "out_axes"), ("func", "fn"), ("fun", "fn")),
    *(("dim1", "axis1"), ("dim2", "axis2"), ("dims", "reps"), ("k", "diagonal"), ("k", "offset")),
    *(("ord", "p"), ("p", "ord"), ("input", "a"), ("other", "b"), ("vec2", "b"), ("mat2", "b")),
    *(("input", "start"), ("from", "from_"), ("type", "dtype")),
    *(("sections", "indices_or_sections"), ("indices", "indices_or_sections")),
]

_WORDS = {"None": "None", "int": "an int", "float": "a number", "str": "a str", "bool": "a bool"}


def explain_all(module: dict[str, Any], *hot: str) -> None:
    """Replaces a module's public functions, and the constructors of its public classes, but for
    those that are `hot`."""
    for name, value in list(module.items()):
        if name.startswith("_") or name in hot or value.__class__ not in (FunctionType, type):
            continue
        if value.__module__ != module["__name__"]:
            continue
        if isinstance(value, FunctionType):
            module[name] = explained(value)
        elif isinstance(vars(value).get("__init__"), FunctionType):
            setattr(value, "__init__", explained(vars(value)["__init__"]))  # noqa: B010 - mypy


def explained(fn: Callable[_P, _T]) -> Callable[_P, _T]:
    """`fn`, whose calls that do not fit are explained, and which takes PyTorch's names."""

    @functools.wraps(fn)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return fn(*args, **kwargs)
        except (TypeError, AttributeError) as error:
            ours = type(error) not in (TypeError, AttributeError) or _NAMED.match(str(error))
            if ours and not hasattr(error, "_misfit"):
                raise  # it says enough
            named, fits = _bound(fn, args, kwargs)
            if fits is not None:
                if named != kwargs:
                    return fn(*args, **named)  # the first call did not begin
                better = _misfit(fn, fits)
                if better is None:
                    raise
                better._misfit = True  # type: ignore[attr-defined] # of a function within another
                raise better from None
            import inspect

            from . import _calls

            text = str(inspect.signature(fn)).replace("'", "")
            name = _name(fn, args[0] if args else None)
            raise _calls.explain(name, text, args, named) from None

    return call


def _bound(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """The arguments by name, with PyTorch's names translated; None where they cannot be bound."""
    import inspect

    signature = inspect.signature(fn)
    known = signature.parameters
    named = dict(kwargs)
    for theirs, ours in _SYNONYMS:
        if theirs in named and theirs not in known and ours in known and ours not in named:
            named[ours] = named.pop(theirs)
    try:
        return named, signature.bind(*args, **named).arguments
    except TypeError:
        return named, None


def _name(fn: Callable[..., Any], of: Any) -> str:
    """The qualified name; of a constructor that public classes inherit, as if it were theirs."""
    owner, _, name = fn.__qualname__.rpartition(".")
    hidden = name == "__init__" and owner.startswith("_")
    return f"{type(of).__name__}.__init__" if hidden else fn.__qualname__


def _misfit(fn: Callable[..., Any], arguments: Mapping[str, Any]) -> TypeError | None:
    import inspect

    from ._calls import describe

    names = inspect.unwrap(fn).__globals__
    owner, _, name = _name(fn, arguments.get("self")).rpartition(".")
    op = owner.rpartition(".")[2] if name == "__init__" else name
    for argument, parameter in inspect.signature(fn).parameters.items():
        if argument not in arguments or argument == "self":
            continue
        value = arguments[argument]
        values = value if parameter.kind is parameter.VAR_POSITIONAL else [value]
        for one in values if parameter.kind is not parameter.VAR_KEYWORD else ():
            expected = _expected(str(parameter.annotation), names, one)
            if expected:
                given = describe(one)
                text = f"{op}: {argument} is {given}; expected {' or '.join(expected)}"
                if "a Tensor" in expected and not isinstance(one, (str, type(None))):
                    text += f": write wengert.tensor({argument})"
                return TypeError(text)
    return None


def _expected(annotation: str, names: Mapping[str, Any], value: Any) -> list[str]:
    """What the annotation asks for, in words; nothing where the value is that, or may be."""
    from ._calls import _a, _parts

    words = []
    for kind in _parts(annotation.replace("'", "").replace("|", ",")):
        head = kind.partition("[")[0].rpartition(".")[2]
        alias = names.get(head)
        if isinstance(alias, UnionType):
            inner = _expected(str(alias), names, value)
            if not inner:
                return []
            words += inner
            continue
        if head in _WORDS:
            fits = {
                "None": value is None,
                "int": hasattr(value, "__index__"),
                "float": hasattr(value, "__float__") or hasattr(value, "__index__"),
                "str": isinstance(value, str),
                "bool": isinstance(value, bool) or type(value).__name__ == "bool_",
            }[head]
            word = _WORDS[head]
        elif head in ("Sequence", "list", "tuple"):
            fits = hasattr(value, "__len__") and not isinstance(value, (str, bytes, Mapping))
            word = f"a sequence of {_inside(kind)}"
        elif head == "Iterable":
            fits = hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
            word = f"a list of {_inside(kind)}"
        elif head in ("Mapping", "dict"):
            fits, word = isinstance(value, Mapping), "a dict"
        elif head == "Callable":
            fits, word = callable(value), "a function"
        elif head in ("Array", "NDArray"):
            fits, word = hasattr(value, "shape") and hasattr(value, "dtype"), "an array"
        elif head in ("Path", "PathLike"):
            fits, word = hasattr(value, "__fspath__"), "a path"
        else:
            of = _class(head, names)
            if of is None:
                return []  # it may fit
            fits, word = isinstance(value, of), _a(head)
        if fits:
            return []
        if word not in words:
            words.append(word)
    return words


def _inside(kind: str) -> str:
    inside = kind.partition("[")[2].rpartition("]")[0].partition("[")[0]
    return {"int": "ints", "float": "numbers", "str": "strings", "": "items"}.get(
        inside, "items" if inside == "Any" or "," in inside else f"{inside}s"
    )


def _class(name: str, names: Mapping[str, Any]) -> type | None:
    """The class that an annotation names: of its module, or of the package's."""
    import importlib

    if name in ("Any", "object", "Self", "Literal"):
        return None
    found = names.get(name)
    for module in ("_core", "nn", "optim", "random", "data", "cuda") if found is None else ():
        found = found or getattr(importlib.import_module(f"wengert.{module}"), name, None)
    return found if isinstance(found, type) else None
