"""A program as JSON, which loads back, and as a Graphviz graph.

The schema, version 1: one object with

    format       "wengert.study"        version     1
    lines        [{number, op, inputs, outputs, edited, attributes, formula, gradient, no_gradient,
                   view, recorded, phase, answer, layer, place, code, flops, bytes, saved,
                   kept_until, seconds}], numbered from 1 in the order in which they ran;
                  inputs, outputs, edited and saved are numbers of values; phase is "forward",
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..io import write_text
from .listing import Answer, Contribution, Line, Program, StudyError, Value

FORMAT, VERSION = "wengert.study", 1


def to_dict(program: Program) -> dict[str, Any]:
    """The object of the schema above."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "lines": [asdict(line) for line in program.lines],
        "values": [asdict(value) for value in program.values],
        "answers": [asdict(answer) for answer in program.answers],
        "roots": [list(root) for root in program.roots],
        "leaf_gradients": [list(g) for g in program.leaf_gradients],
        "results": program.results,
        "notes": program.notes,
        "stopped": program.stopped,
        "memory": program.memory,
    }


def to_json(program: Program, path: str | Path | None = None) -> str:
    """The text, written to `path` too if that is given."""
    text = json.dumps(to_dict(program), allow_nan=True)
    if path is not None:
        write_text(path, text + "\n")
    return text


def from_json(text: str) -> Program:
    """The program that to_json wrote: all of the list, without the memory to run it on."""
    try:
        d = json.loads(text)
    except ValueError as error:
        raise StudyError(f"study: this is not JSON ({error})") from None
    if not isinstance(d, dict) or d.get("format") != FORMAT:
        raise StudyError("study: this JSON is not a program's; program.to_json(path) writes one")
    if d.get("version") != VERSION:
        raise StudyError(
            f"study: the file has version {d.get('version')!r} and this wengert reads {VERSION}; "
            "read it with the wengert that wrote it, or write it anew"
        )

    def known(kind: type, item: dict[str, Any]) -> dict[str, Any]:
        fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
        return {k: v for k, v in item.items() if k in fields}

    try:
        values = [Value(**known(Value, v) | {"shape": tuple(v["shape"])}) for v in d["values"]]
        answers = [
            Answer(**known(Answer, a) | {"gave": [Contribution(**known(Contribution, c))
                                                  for c in a["gave"]]})
            for a in d["answers"]
        ]  # fmt: skip
        lines = [Line(**known(Line, line)) for line in d["lines"]]
        program = Program(
            lines, values, answers, [tuple(r) for r in d["roots"]],
            [tuple(g) for g in d["leaf_gradients"]], d["results"], d["notes"], d["stopped"],
            d["memory"],
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise StudyError(f"study: the file lacks what its version promises ({error})") from None
    program._timed = any(line.seconds for line in lines)
    return program


def load(path: str | Path) -> Program:
    """Reads a file that `program.to_json(path)` wrote."""
    return from_json(Path(path).read_text(encoding="utf-8"))


def to_dot(program: Program) -> str:
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
        label = f"{line.number} {program.expression(line)}"
        if line.output is not None:
            value = program.values[line.output]
            label = f"{line.number} {value.name}\n{program.expression(line)}\n{value.type}"
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
