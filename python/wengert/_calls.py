"""What errors say of a call that does not fit, for the core's functions and the package's.

The compiled module calls `explain` where a call does not fit its function's signature
(csrc/bindings/calls.cpp). `describe` shows a value in a few words, never a tensor's elements;
`choice` and `instance` check an argument of a function that is written in Python.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect

# What functions that the user does not see are called by those that call them.
_PUBLIC = {"_uniform": "rand", "_normal": "randn", "_integers": "randint"}
_PUBLIC |= {"_attention": "scaled_dot_product_attention"}
_PUBLIC |= {"_permutation": "randperm", "_Program": "compile", "_Study": "trace"}

# What an argument that has no type of its own in the bindings takes.
_KINDS = {
    "axis": "int | Sequence[int] | None",
    "axes": "Sequence[int]",
    "shape": "int | Sequence[int]",
    "normalized_shape": "int | Sequence[int]",
    "dtype": "DType | str | None",
    "device": "str | None",
    "tensors": "Sequence[Tensor]",
    "a": "Tensor | number | array",
    "b": "Tensor | number | array",
    "other": "Tensor | number | array",
    "x": "Tensor | number | array",
}

# What a function says of a name that it does not have, besides the names that are near.
_ADVICE = {
    "out": "results are new tensors: write y.copy_(...) to fill one that is there",
    "dtype": 'convert the result, or x first, with .to("float64")',
    "where": "write wengert.where(condition, x, 0) first",
    "inplace": "ops make new tensors: write x = ...",
    "requires_grad": "write .requires_grad_() after it",
    "layout": "all tensors are dense",
    "memory_format": "all tensors are strided",
    "initial": "write it into the sum or product",
    "generator": "wengert.random takes one",
    "pin_memory": "write .pin_memory() after it",
    "dropout_p": "nn.Dropout does it",
    "stable": "it is",
}

_short = reprlib.Repr()
_short.maxother = _short.maxstring = 60


def describe(value: Any) -> str:
    """A value in a few words, with its type: of tensors and arrays shape and dtype."""
    kind = type(value)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(shape, tuple) and dtype is not None:
        name = getattr(dtype, "name", dtype)
        return f"{_a(kind.__name__)} of shape {shape} and dtype {name}"
    if isinstance(value, (list, tuple, set, dict)) and not _plain(value):
        return f"{_a(kind.__name__)} of {len(value)}"
    try:
        text = _short.repr(value)
    except Exception:  # a repr that raises
        return _a(kind.__name__)
    return _a(kind.__name__) if "\n" in text else f"{text} ({kind.__name__})"


def _a(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' or name == 'ndarray' else 'a'} {name}"


def _plain(items: Iterable[Any]) -> bool:
    """Whether the repr of a short container shows no more than numbers and names."""
    items = list(items.items() if isinstance(items, Mapping) else items)
    return len(items) <= 8 and all(
        _plain(item) if isinstance(item, (list, tuple)) else isinstance(item, (int, float, str))
        for item in items
    )


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """`; did you mean 'axis'?`, or nothing where no name is near."""
    import difflib  # not light

    near = difflib.get_close_matches(str(given), list(known), 1, 0.6) if given else []
    return f"; did you mean {near[0]!r}?" if near else ""


def choice(
    op: str,
    argument: str,
    given: object,
    known: Iterable[str],
    kind: type[Exception] = ValueError,
) -> None:
    """An error, ValueError unless `kind` says otherwise, if `given` is none of the known names."""
    known = list(known)
    if not isinstance(given, str) or given not in known:
        names = [f'"{name}"' for name in known]
        expected = " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
        shown = f'"{given}"' if isinstance(given, str) else describe(given)
        raise kind(f"{op}: {argument} is {shown}; expected {expected}{_near(given, known)}")


def _near(given: object, known: list[str]) -> str:
    """What to write for a name in other letters, for a class or a layer, or nearly right."""
    import difflib

    text = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(text).lower(), lower, 1, 0.5)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""


def instance(op: str, kinds: Any, expected: str, **arguments: Any) -> None:
    """TypeError unless each argument is of one of these kinds; `expected` says which, and how to
    make one."""
    for name, value in arguments.items():
        if not isinstance(value, kinds):
            raise TypeError(f"{op}: {name} is {describe(value)}; expected {expected}")


# ---- signatures, from pybind11's text: "(x: wengert._core.Tensor, axis: object = None) -> ..."


class _Text(str):
    """An annotation, shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _parts(text: str) -> list[str]:
    """The text cut at commas outside all brackets and quotes."""
    parts, depth, quoted, start = [], 0, "", 0
    for i, c in enumerate(text):
        if quoted:
            quoted = "" if c == quoted else quoted
        elif c in "'\"":
            quoted = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and not depth:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()] if text[start:].strip() else parts


def _kind(name: str, text: str) -> _Text:
    text = text.replace("wengert._core.", "").replace("collections.abc.", "")
    text = text.replace("typing.SupportsInt | typing.SupportsIndex", "int")
    text = text.replace("typing.SupportsFloat | typing.SupportsIndex", "float")
    text = text.replace("typing.", "")
    if text in ("object", "Any"):
        text = _KINDS.get(name, "Any")
    return _Text(text)


def signature(name: str, text: str) -> inspect.Signature:
    """The signature that pybind11's text, or CPython's ("(x)"), describes."""
    import inspect

    head, _, result = text.rpartition(" -> ") if " -> " in text else (text, "", "")
    parameters: list[inspect.Parameter] = []
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for part in _parts(head[1:-1]):
        if part == "/":
            parameters = [p.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
            continue
        argument, _, rest = part.partition(":")
        of, _, default = rest.partition(" = ")
        if argument == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
            continue
        this = kind
        if argument.startswith("**"):
            this = inspect.Parameter.VAR_KEYWORD
        elif argument.startswith("*"):
            this = inspect.Parameter.VAR_POSITIONAL
        argument = argument.lstrip("*").strip()
        parameters.append(
            inspect.Parameter(
                argument,
                this,
                annotation=_kind(argument, of.strip()) if of else inspect.Parameter.empty,
                default=_default(default.strip()) if default else inspect.Parameter.empty,
            )
        )
    return inspect.Signature(
        parameters, return_annotation=_kind("", result) if result else inspect.Signature.empty
    )


def _default(text: str) -> Any:
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return _Text(text)


# ---- calls that do not fit


def explain(
    name: str,
    text: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    known: Sequence[tuple[str, str]] = (),
) -> TypeError:
    """The error for a call that does not fit: what came, what was expected, the way out.

    known   (what others call an argument, what it is called here)
    """
    import inspect

    owner, _, op = name.rpartition(".")
    if op == "__init__":
        owner, op = "", owner
    op = _PUBLIC.get(op, op)
    given = signature(name, text)
    parameters = list(given.parameters.values())
    is_method = bool(parameters) and parameters[0].name == "self"
    own = parameters[1:] if is_method else parameters
    if [p.name for p in own] == ["arg0", "arg1"] and len(args) == 2:  # a property is set
        return TypeError(f"{op}: got {describe(args[1])}; expected {_expected(own[1])}")
    expected = f"expected {'x.' if owner == 'Tensor' and op[0] != '_' else ''}{op}{_shown(own)}"

    def error(text: str) -> TypeError:
        return TypeError(f"{op}: {text}; {expected}")

    if is_method and (not args or not _fits(parameters[0], args[0], owner or name)):
        came = describe(args[0]) if args else "nothing"
        return TypeError(
            f"{op}: called on {came}; expected {_a(owner)}: write "
            f"{'x' if owner == 'Tensor' else 'object'}.{op}(...)"
        )
    if is_method:
        args = args[1:]
    places = [p for p in own if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    spread = any(p.kind is p.VAR_POSITIONAL for p in own)
    names = {p.name for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    values = dict(zip((p.name for p in places), args, strict=False))
    for key, value in kwargs.items():
        if key in names:
            if key in values:
                return error(f"got {key} twice, by place and by name")
            values[key] = value
            continue
        if key == "dim" and op in ("max", "min"):
            return error(
                f"PyTorch's {op}(dim) gives values and indices, this one the values alone; write "
                f"axis={value!r} for the values, arg{op}({value!r}) for their positions"
            )
        target = next((b for a, b in known if a == key and b in names), None)
        if target is not None:
            if target in values or target in kwargs:
                return error(f"got {key!r} and {target!r}, which mean the same")
            values[target] = value
            continue
        advice = f"; {_ADVICE[key]}" if key in _ADVICE else ""
        if not advice:
            import difflib

            here = {**{a: b for a, b in known if b in names}, **{n: n for n in names}}
            near = difflib.get_close_matches(key, here, 1, 0.6)
            advice = f"; did you mean {here[near[0]]!r}?" if near else ""
        return error(f"got an unknown argument {key!r} = {describe(value)}{advice}")
    if len(args) > len(places) and not spread:
        if {"dtype", "device"} & names and (sizes := _sizes(op, names, args)):
            return TypeError(f"{op}: {sizes}")
        return error(
            f"got {len(args)} arguments by place ({', '.join(map(describe, args))}), at most "
            f"{len(places)} fit{_too_many(op, places, args)}"
        )
    empty = inspect.Parameter.empty
    missing = [p.name for p in own if p.name not in values and p.default is empty]
    missing = [m for m in missing if m in names]
    if {"dtype", "device"} & names and (sizes := _sizes(op, names, args)):
        return TypeError(f"{op}: {sizes}")
    for p in own:
        if p.name in values and not _fits(p, values[p.name], ""):
            return error(
                f"{p.name} is {describe(values[p.name])}, not {_expected(p)}"
                f"{_way_out(p, values[p.name])}"
            )
    if missing:
        came = ", ".join(f"{n} = {describe(v)}" for n, v in values.items()) or "no arguments"
        are = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        return error(f"{are}, got {came}")
    return error(f"cannot take {', '.join(map(describe, [*args, *kwargs.values()])) or 'nothing'}")


def amend(name: str, text: str, args: tuple[Any, ...], message: str) -> str:
    """The message of an error that does not say in which function it was raised."""
    op = name.rpartition(".")[2]
    op = _PUBLIC.get(op, op)
    parameters = list(signature(name, text).parameters)
    if message.startswith(("dtype: ", "device: ")) and (sizes := _sizes(op, parameters, args)):
        return f"{op}: {sizes}"
    if message.startswith("a tensor has"):
        shapes = " and ".join(describe(a) for a in args if hasattr(a, "shape"))
        message = f"got {shapes or 'sizes'}; the result would have more axes: {message}"
        return f"{op}: {message}: join some with reshape()"
    return f"{op}: {message}"


def _sizes(op: str, parameters: Iterable[str], args: tuple[Any, ...]) -> str:
    """What to write where the call has sizes, or numbers, by place: ones(2, 3), tensor(1, 2)."""
    sizes = [a for a in args if a is not None and not hasattr(a, "shape")]
    if len(sizes) < 2 or not all(type(size) is int for size in sizes):
        return ""
    if op == "full":
        fits = f"full({tuple(sizes[:-1])}, {sizes[-1]})"
    else:
        fits = f"{op}({tuple(sizes) if 'shape' in parameters else sizes})"
    if "shape" in parameters:
        return f"got {len(sizes)} sizes one by one; expected one shape, a tuple: write {fits}"
    return f"got {len(sizes)} numbers one by one; expected one list: write {fits}" * (
        "data" in parameters
    )


def _shown(parameters: list[inspect.Parameter]) -> str:
    """(x, axis=None): names and defaults."""
    import inspect

    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return str(inspect.Signature(plain))


def _too_many(op: str, places: list[inspect.Parameter], args: tuple[Any, ...]) -> str:
    numbers = [a for a in args if isinstance(a, int) and not isinstance(a, bool)]
    if any(p.name == "shape" for p in places) and len(numbers) > 1:
        return f": sizes are one argument, {op}({tuple(numbers)})"
    if any(p.name == "axis" for p in places) and len(numbers) > 1:
        return f": axes are one argument, axis={tuple(numbers)}"
    if any(p.name == "tensors" for p in places):
        return f": tensors are one argument, {op}([a, b])"
    return ""


def _kinds_of(parameter: inspect.Parameter) -> list[str]:
    return [part.strip() for part in str(parameter.annotation).split("|")]


def _fits(parameter: inspect.Parameter, value: Any, owner: str) -> bool:
    from . import _core

    kinds = [owner] if parameter.name == "self" else _kinds_of(parameter)
    if parameter.name == "keepdims" or (  # numbers would be axes
        parameter.name == "requires_grad" and parameter.default is False  # or sizes
    ):
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    for kind in kinds:
        if kind in ("None", "NoneType"):
            fits = value is None
        elif kind == "int":
            fits = _is_index(value)
        elif kind == "float":
            fits = not isinstance(value, str) and (
                hasattr(value, "__float__") or hasattr(value, "__index__")
            )
            fits = fits and getattr(value, "size", 1) == 1
        elif kind == "bool":
            fits = value is None or hasattr(value, "__bool__")
        elif kind == "str":
            fits = isinstance(value, str)
        elif kind.startswith("Callable"):
            fits = callable(value)
        elif isinstance(known := getattr(_core, kind, None), type):
            fits = isinstance(value, known)
        elif kind in ("list", "tuple", "dict"):
            fits = type(value).__name__ == kind
        else:
            fits = True
        if fits:
            return True
    return False


def _is_index(value: Any) -> bool:
    try:
        return bool(-(2**63) <= value.__index__() < 2**63)
    except (AttributeError, TypeError):
        return False


_EXPECTED = {
    "Tensor": "a tensor",
    "None": "None",
    "int": "a whole number of 64 bits",
    "float": "a number",
    "bool": "True or False",
    "str": "a string",
}


def _expected(parameter: inspect.Parameter) -> str:
    kinds = _kinds_of(parameter)
    if any(kind.startswith("Callable") for kind in kinds):
        return "a function"
    return " or ".join(_EXPECTED.get(kind, kind) for kind in kinds)


def _way_out(parameter: inspect.Parameter, value: Any) -> str:
    kinds = _kinds_of(parameter)
    if parameter.name == "keepdims" and isinstance(value, int):
        return ": several axes are one argument, axis=(0, 1)"
    if "Tensor" in kinds and value is not None and not isinstance(value, str):
        return f": write wengert.tensor({parameter.name})"
    if "int" in kinds and isinstance(value, float):
        return f": write int({value!r})" if value == value and abs(value) < 2**63 else ""
    return ""
