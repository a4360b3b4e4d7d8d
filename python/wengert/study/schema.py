"""A program as JSON, which loads back, and as a Graphviz graph.

The schema, version 2: one object with

    format       "wengert.study"        version     2
    lines        [{number, op, inputs, outputs, edited, attributes, operands, formula, gradients,
                   no_gradient, view, recorded, phase, answer, layer, place, code, flops, bytes,
                   saved, kept_until, seconds}], numbered from 1 in the order in which they ran;
                  inputs, outputs, edited and saved are numbers of values; attributes are numbers,
                  booleans, words and lists of whole numbers; operands are the names that formula,
                  of the value, and gradients, one for each operand, use; phase is "forward",
                  "backward" or "update"; answer is an index into `answers` or null; seconds is 0
                  where it was not measured
    values       [{number, name, shape, dtype, memory, outside, leaf, line, constant, also}]: line
                  made it, 0: outside; values with equal `memory` share it; constant is the number
                  that a scalar from outside held, or null; also holds its other names
    answers      [{number, line, gradient, first, last, gave: [{input, to, to_line, value}]}]: the
                  vjp of `line`, given the value `gradient`, is written by the lines first to last
                  (last < first: by none); it gave `value` as the gradient of the line's operand
                  number `input`, which is the value `to`, made by `to_line` (0: a leaf)
    roots        [[value, gradient, lines, answers]]: where a backward began, and how many lines and
                  answers there were then
    leaf_gradients  [[leaf, before, after]]: values, -1 for none
    results, notes, stopped, memory

Readers refuse a version that they do not know. New fields may be added without a new version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..io import write_text
from .list import StudyError, WengertList
from .text import expression, left, vjp_formula

_List = TypeVar("_List", bound=WengertList)

FORMAT, VERSION = "wengert.study", 2
_LIST = [f.name for f in fields(WengertList) if f.default is f.default_factory is MISSING]


def to_dict(program: WengertList) -> dict[str, Any]:
    """The object of the schema above."""
    plain = {name: getattr(program, name) for name in _LIST}
    for name in ("lines", "values", "answers"):
        plain[name] = [asdict(item) for item in plain[name]]
    return {"format": FORMAT, "version": VERSION, **plain}


def to_json(program: WengertList, path: str | Path | None = None) -> str:
    """The text, written to `path` too if that is given."""
    text = json.dumps(to_dict(program), allow_nan=True)
    if path is not None:
        write_text(path, text + "\n")
    return text


def from_json(text: str, kind: type[_List]) -> _List:
    """The program that to_json wrote: all of the list, without the memory to run it on.

    StudyError names what is missing, of another type, or a number of nothing.
    """
    try:
        d = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"study: this is not JSON ({error})") from None
    if not isinstance(d, dict) or d.get("format") != FORMAT:
        raise StudyError("study: this JSON is not a program's; program.to_json(path) writes one")
    if d.get("version") != VERSION:
        raise StudyError(
            f"study: the file has version {d.get('version')!r} and this wengert reads {VERSION}; "
            "read it with the wengert that wrote it, or write it again"
        )

    hints = get_type_hints(WengertList)
    program = kind(**{name: _read(hints[name], d.get(name), name) for name in _LIST})
    _check_numbers(program)
    try:
        for line in program.lines:
            left(program, line), expression(program, line)
        for answer in program.answers:
            vjp_formula(program, answer)
    except (LookupError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        raise StudyError(
            f"study: the file has an op without its operands or attributes ({error!r})"
        ) from None
    program.timed = any(line.seconds for line in program.lines)
    return program


def _read(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as an object of this type; StudyError, with the place, where it is none."""
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        given = {f.name for f in fields(kind) if f.name in value}
        for field in fields(kind):
            if field.name not in given and field.default is field.default_factory is MISSING:
                raise StudyError(f"study: the file lacks {where}.{field.name}")
        return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in given})
    if origin is list and isinstance(value, list):
        return [_read(parts[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(kinds) == len(value):
            return tuple(_read(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {key: _read(parts[1], v, f"{where}[{key!r}]") for key, v in value.items()}
    if origin is UnionType:
        if type(value) in parts:  # None, or an attribute that is no list
            return value
        return _read(next((p for p in parts if get_origin(p)), parts[0]), value, where)
    if kind is float and type(value) in (int, float) and (value != value or abs(value) < 1e300):
        return value
    if kind is not float and type(value) is kind:
        return value
    name = getattr(kind, "__name__", str(kind))
    raise StudyError(f"study: the file has {str(value)[:40]} as {where}; expected {name}")


def _check_numbers(p: WengertList) -> None:
    """That every number of a line, a value or an answer is that of one."""

    def each(where: str, numbers: Iterable[int], low: int, high: int) -> None:
        for n in numbers:
            if not low <= n <= high:
                raise StudyError(f"study: the file has {n} as {where}; it must be {low} to {high}")

    lines, values, answers = len(p.lines), len(p.values) - 1, len(p.answers)
    for what, first, items in (
        ("line", 1, p.lines),
        ("value", 0, p.values),
        ("answer", 0, p.answers),
    ):
        for i, item in enumerate(items, first):
            each(f"the number of {what} {i}", [item.number], i, i)  # type: ignore[attr-defined]
    for value in p.values:
        each(f"a size of value {value.number}", value.shape, 0, 2**62)
        each(f"the line of value {value.number}", [value.line], 0, lines)
    for line in p.lines:
        used = (*line.inputs, *line.outputs, *line.edited, *line.saved)
        each(f"a value of line {line.number}", used, 0, values)
        if line.answer is not None:
            each(f"the answer of line {line.number}", [line.answer], 0, answers - 1)
        each(f"kept_until of line {line.number}", [line.kept_until], 0, lines)
        if line.phase not in ("forward", "backward", "update"):
            raise StudyError(f"study: the file has {line.phase!r} as the phase of a line")
    for answer in p.answers:
        where = f"answer {answer.number}"
        each(f"the line of {where}", [answer.line], 1, lines)
        each(f"the gradient of {where}", [answer.gradient], 0, values)
        each(f"the first line of {where}", [answer.first], 1, lines + 1)
        each(f"the last line of {where}", [answer.last], 0, lines)
        written = [*range(answer.first, answer.last + 1), *[answer.line] * bool(answer.gave)]
        outputs = [len(p.lines[n - 1].outputs) for n in written]
        each(f"the number of outputs of a line of {where}", outputs, 1, values + 1)
        inputs = len(p.lines[answer.line - 1].inputs)
        for c in answer.gave:
            each(f"an input of {where}", [c.input], 0, inputs - 1)
            each(f"a value of {where}", [c.to, c.value], -1, values)
            each(f"a line of {where}", [c.to_line], 0, lines)
    for root in p.roots:
        each("a value of a root", root[:2], 0, values)
        each("lines or answers of a root", root[2:], 0, max(lines, answers))
    for gradient in p.leaf_gradients:
        each("a value of a leaf's gradient", gradient, -1, values)
    each("a result", p.results, -1, values)


def load(path: str | Path, kind: type[_List]) -> _List:
    """Reads a file that `program.to_json(path)` wrote; StudyError as `from_json`."""
    if Path(path).exists() and not Path(path).is_file():  # a pipe would wait for a writer
        raise StudyError(f"study: {path} is not a file")
    try:
        return from_json(Path(path).read_text(encoding="utf-8"), kind)
    except UnicodeDecodeError:
        raise StudyError(f"study: {path} is not text in UTF-8") from None


def to_dot(program: WengertList) -> str:
    """Lines as boxes, forward in blue, backward in red, update in yellow; values along the
    edges."""
    colours = {"forward": "#dbeafe", "backward": "#fee2e2", "update": "#fef3c7"}

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = [
        "digraph program {",
        "  rankdir=TB; node [shape=box, style=filled, fontname=monospace];",
    ]
    maker: dict[int, int] = {}
    drawn: set[int] = set()
    for line in program.lines:
        label = f"{line.number} {expression(program, line)}"
        if line.output is not None:
            value = program.values[line.output]
            label = f"{line.number} {value.name}\n{expression(program, line)}\n{value.type}"
        label = quoted(label).replace("\n", "\\n")
        text.append(f"  l{line.number} [label={label}, fillcolor={quoted(colours[line.phase])}];")
        for v in dict.fromkeys(line.inputs):
            value = program.values[v]
            memory = maker.get(value.memory)
            if memory is not None:
                text.append(f"  l{memory} -> l{line.number} [label={quoted(value.name)}];")
            elif value.constant is None:
                if v not in drawn:
                    drawn.add(v)
                    label = quoted(f"{value.name}\n{value.type}").replace("\n", "\\n")
                    text.append(
                        f"  v{v} [label={label}, shape=ellipse, fillcolor={quoted('#fff')}];"
                    )
                text.append(f"  v{v} -> l{line.number};")
        for v in (*line.outputs, *line.edited):
            maker[program.values[v].memory] = line.number
    for answer in program.answers:
        if answer.last >= answer.first:
            text.append(
                f"  l{answer.line} -> l{answer.first} [style=dashed, constraint=false, "
                "arrowhead=none];"
            )
    return "\n".join([*text, "}"]) + "\n"
