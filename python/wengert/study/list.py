"""WengertList: the list of one traced step, as data. All else in this package takes it.

Lines are numbered from 1, in the order in which they ran. Values of one memory (a tensor and its
transpose) are several values.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import _core

ITEM = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "bfloat16": 2, "bool": 1, "uint8": 1}

Attribute = bool | int | float | str | tuple[int, ...]


class StudyError(ValueError):
    """What was asked of a program cannot be done; the message says what to do instead."""


@functools.cache
def ops() -> dict[str, dict[str, Any]]:
    """What the core says of each op, by its name: operands, formulas, source text."""
    return {op["name"]: op for op in _core.ops()}


@dataclass
class Value:
    """A tensor of the list. `line` made it; 0 where it came from outside."""

    number: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    memory: int
    outside: bool
    leaf: bool
    line: int = 0
    constant: float | None = None  # a number from outside
    also: list[str] = field(default_factory=list)  # other names: one gradient may serve several

    @property
    def bytes(self) -> int:
        """shape times item size."""
        size = ITEM.get(self.dtype, 8)
        for n in self.shape:
            size *= n
        return size

    @property
    def type(self) -> str:
        """dtype[shape], as listings have it."""
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass
class Contribution:
    """One gradient that a vjp gave: of input `input` of its line, to what `to_line` made (0:
    leaf)."""

    input: int
    to: int
    to_line: int
    value: int


@dataclass
class Answer:
    """The vjp of a line: given `gradient` (a value), the lines first to last (maybe none) wrote
    it."""

    number: int
    line: int
    gradient: int
    first: int
    last: int
    gave: list[Contribution]


@dataclass
class Line:
    """One line. `answer` is the number of the answer that it is part of, None for other lines."""

    number: int
    op: str
    inputs: list[int]
    outputs: list[int]
    edited: list[int]
    attributes: dict[str, Attribute]
    operands: list[str]  # what the formulas call the inputs
    formula: str
    gradients: list[str]  # of each operand
    no_gradient: str | None
    view: bool
    recorded: bool
    phase: str  # forward, backward or update
    answer: int | None
    layer: str
    place: str | None
    code: str
    flops: float
    bytes: float
    saved: list[int]
    kept_until: int = 0  # the line after which what it saved is freed; 0: nothing saved
    seconds: float = 0.0

    @property
    def output(self) -> int | None:
        """The value that it makes or overwrites; None for an optimizer's update."""
        return self.outputs[0] if self.outputs else None

    @property
    def intensity(self) -> float:
        """FLOPs for each byte read or written."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(repr=False, eq=False)
class WengertList:
    """The list, and what was noted beside it."""

    lines: list[Line]
    values: list[Value]
    answers: list[Answer]
    # (value, gradient, lines, answers that were there when a backward began)
    roots: list[tuple[int, int, int, int]]
    leaf_gradients: list[tuple[int, int, int]]  # (leaf, .grad before, .grad after), values or -1
    results: list[int]
    notes: list[str]
    stopped: str | None
    memory: int  # bytes of all that the list made

    core: Any = None  # the core's study, which holds the memory; None where it was read from a file
    returned: Any = None  # by the function
    earlier: list[Any] = field(default_factory=list)  # lists of the same step, earlier in training
    faults: dict[int, tuple[str, list[int]]] = field(default_factory=dict)  # planted, by line
    wide: bool = False  # runs in float64 throughout
    timed: bool = False  # the lines' seconds have been measured

    def __len__(self) -> int:
        """The number of lines."""
        return len(self.lines)

    def line(self, number: int) -> Line:
        """Line `number`, from 1. StudyError where there is none."""
        if not self.lines:
            raise StudyError("study: the list is empty: the function ran no op of wengert")
        if not 1 <= number <= len(self.lines):
            raise StudyError(f"study: no line {number}; the list has lines 1 to {len(self.lines)}")
        return self.lines[number - 1]

    @functools.cached_property
    def _by_name(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for value in self.values:
            for known in (value.name, *value.also):
                found.setdefault(known, value.number)
        return found

    def value(self, name: str | int) -> Value:
        """The value of that name, or number. StudyError, with near names, where there is none."""
        if isinstance(name, int):
            if not 0 <= name < len(self.values):
                raise StudyError(f"study: no value {name}; there are {len(self.values)}")
            return self.values[name]
        if name not in self._by_name:
            near = difflib.get_close_matches(name, self._by_name, 3, 0.5)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise StudyError(f"study: no value is called {name!r}{hint}")
        return self.values[self._by_name[name]]

    @functools.cached_property
    def _answers_of(self) -> dict[int, list[Answer]]:
        found: dict[int, list[Answer]] = {}
        for answer in self.answers:
            found.setdefault(answer.line, []).append(answer)
        return found

    def answers_to(self, line: Line) -> list[Answer]:
        """The vjps that were asked of a line: none, one, or several."""
        return self._answers_of.get(line.number, [])

    def gradient_of(self, leaf: str | int) -> Value | None:
        """The value that was left in a leaf's `.grad`, or None."""
        number = self.value(leaf).number
        for at, _, after in self.leaf_gradients:
            if at == number and after >= 0:
                return self.values[after]
        return None

    def op(self, line: Line) -> str:
        """The op that a line runs: its own, or the one planted in its place."""
        return self.faults[line.number][0] if line.number in self.faults else line.op

    def operands(self, line: Line) -> list[int]:
        """The inputs; of a line with a planted fault, the wrong ones."""
        return self.faults[line.number][1] if line.number in self.faults else line.inputs

    def live(self) -> Any:
        """The core's study; StudyError for a program read from a file, which has no memory."""
        if self.core is None:
            raise StudyError(
                "study: this program was read from a file, which holds the list and not the "
                "memory; trace the step again to run it"
            )
        return self.core


def swaps_last(axes: Attribute | None) -> bool:
    """Whether a permutation exchanges the last two axes and no others: a transpose."""
    if not isinstance(axes, (tuple, list)) or len(axes) < 2:
        return False
    n = len(axes)
    return list(axes) == [*range(n - 2), n - 1, n - 2]


def short(place: str | None) -> str:
    """The file's name and the line."""
    if not place:
        return "an unknown place"
    path, _, line = place.rpartition(":")
    return f"{Path(path).name}:{line}"
