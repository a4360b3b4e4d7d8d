"""Stepper: a debugger for backprop. It runs a program's list line by line, forward and back.

    s = program.stepper()
    s.forward(); s.back(); s.to(12); s.to_layer("fc2"); s.to_first_bad(); s.to_largest_gradient()
    s.break_on("sigmoid"); s.go_on()
    s.array("dh")                      what the memory holds now
    s.contributions("h")               the parts of dh: they add up to it, bit by bit
    s.edit("w1", 0.5, at=(0, 1))       and the run goes on with the edit
    s.differences()                    what that changed in every gradient
    print(s)                           the line, its operands, its result

Everything happens on a private copy of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _shown
from .checks import first_bad
from .list import Line, StudyError, WengertList
from .run import Array, Edit, Run, gradients, statistics
from .text import expression, left


@dataclass
class Part:
    """A contribution to a gradient: the consumer that sent it (its line and result), and the
    array."""

    line: int
    consumer: str
    array: Array


class Stepper:
    """At `position` n, lines 1 to n have run; `line` is the last of them, None at the start."""

    def __init__(self, program: WengertList) -> None:
        """Stands before line 1."""
        self.program = program
        self.run = Run(program)
        self.breaks: list[str] = []
        self._before: dict[str, Array] | None = None

    # ---- moving ----

    @property
    def position(self) -> int:
        """How many lines have run."""
        return self.run.done

    @property
    def line(self) -> Line | None:
        """The line that ran last."""
        return self.program.lines[self.position - 1] if self.position else None

    def forward(self, count: int = 1) -> Line | None:
        """Runs the next lines; stays at the end."""
        self.run.to(min(self.position + count, len(self.program)))
        return self.line

    def back(self, count: int = 1) -> Line | None:
        """Undoes the last lines; stays at the start."""
        self.run.to(max(self.position - count, 0))
        return self.line

    def to(self, line: int) -> Line | None:
        """To just after that line, forward or back; 0 is the start."""
        if line != 0:
            self.program.line(line)  # refuses what is not there
        self.run.to(line)
        return self.line

    def to_layer(self, name: str) -> Line | None:
        """To the next line of a layer; from its last one, to its first."""
        lines = [x.number for x in self.program.lines if x.layer == name]
        if not lines:
            known = sorted({x.layer for x in self.program.lines if x.layer})
            raise StudyError(
                f"study: no layer {name!r}; the layers are {', '.join(known) or 'none'}"
            )
        return self.to(next((n for n in lines if n > self.position), lines[0]))

    def to_first_bad(self) -> Line | None:
        """To the first line whose result has a NaN or an infinity; StudyError where there is
        none."""
        bad = first_bad(self.program)
        if bad is None:
            raise StudyError("study: there is no NaN and no infinity in this step")
        if bad.line is None:
            raise StudyError(f"study: {bad}")
        return self.to(bad.line.number)

    def to_largest_gradient(self) -> Line | None:
        """To the backward line whose result has the largest absolute value."""
        run, best, where = Run(self.program), -1.0, 0
        run.edits = [Edit(e.at, e.value, e.array, e.former) for e in self.run.edits]
        for line in self.program.lines:
            run.forward()
            if (
                line.phase == "backward"
                and line.output is not None
                and line.inputs
                and not line.view
            ):
                largest = statistics(run.array(line.output))["absmax"]
                if largest is not None and largest > best:
                    best, where = largest, line.number
        if not where:
            raise StudyError("study: there is no backward line; call backward() in the function")
        return self.to(where)

    def break_on(self, what: str) -> None:
        """go_on() stops at lines of that op, and where a value of that name is made or read."""
        ops = {line.op for line in self.program.lines}
        if what not in ops:
            self.program.value(what)  # refuses what is neither
        self.breaks.append(what)

    def go_on(self) -> Line | None:
        """To the next break, or to the end."""
        while self.position < len(self.program):
            self.run.forward()
            if self.breaks and self._stops():
                break
        return self.line

    def _stops(self) -> bool:
        line = self.line
        assert line is not None
        values = [self.program.values[v] for v in (*line.inputs, *line.outputs)]
        names = {line.op} | {n for v in values for n in (v.name, *v.also)}
        return any(b in names for b in self.breaks)

    # ---- looking ----

    def array(self, name: str | int) -> Array:
        """What a value holds now. StudyError where no line has made it yet."""
        value = self.program.value(name)
        if not self.run.known(value.number):
            raise StudyError(
                f"study: {value.name} is made by line {value.line}, and the run stands after line "
                f"{self.position}: go forward first"
            )
        return self.run.array(value.number)

    def contributions(self, name: str | int) -> list[Part]:
        """What is added up to the gradient of a value, in the order in which it is added."""
        value = self.program.value(name)
        run = Run(self.program)
        run.edits = [Edit(e.at, e.value, e.array, e.former) for e in self.run.edits]
        for edit in run.edits:
            if edit.at == 0:
                run.write(edit.value, edit.array)
        parts = []
        for answer in self.program.answers:
            for c in answer.gave:
                if c.to == value.number:
                    run.to(max(answer.last, answer.first - 1))
                    made = self.program.lines[answer.line - 1].output
                    assert made is not None
                    consumer = self.program.values[made].name
                    parts.append(Part(answer.line, consumer, run.array(c.value)))
        return parts

    def gradient(self, name: str | int) -> Array | None:
        """The sum of the contributions to a value's gradient; None where there are none."""
        parts = self.contributions(name)
        if not parts:
            return None
        total = parts[0].array
        for part in parts[1:]:
            total = total + part.array
        return total

    # ---- editing ----

    def edit(self, name: str | int, to: Any, at: tuple[int, ...] | None = None) -> None:
        """Sets a value, or one element of it, to another number; lines from here on see it.

        Cotangents are values like others: `dh` may be edited where it has been made. Going back
        past the edit takes it away; coming forward again, it is there again. StudyError for an
        element that is not there or a shape that does not fit.
        """
        value = self.program.value(name)
        array = self.array(name)
        if self._before is None:
            self._before = gradients(self.program)
        try:
            if at is None:
                array = np.broadcast_to(np.asarray(to, array.dtype), array.shape).copy()
            else:
                array[tuple(at)] = to
        except (IndexError, ValueError, TypeError) as error:
            where = f"[{', '.join(map(str, at))}]" if at is not None else ""
            raise StudyError(
                f"study: {value.name}{where} cannot be set to {to!r}: it is {value.type} ({error})"
            ) from None
        self.run.edit(value.number, array)

    def forget_edits(self) -> None:
        """Takes back all edits."""
        self.run.forget_edits()

    def differences(self) -> dict[str, tuple[Array, Array]]:
        """(before, after) of every leaf's gradient: without and with the edits. The position
        stays."""
        if self._before is None:
            self._before = gradients(self.program)
        here = self.position
        self.run.to_end()
        after = {
            self.program.values[leaf].name: self.run.array(g)
            for leaf, _, g in self.program.leaf_gradients
            if leaf >= 0 and g >= 0
        }
        self.run.to(here)
        return {name: (self._before[name], array) for name, array in after.items()}

    # ---- text ----

    def _repr_html_(self) -> str:
        """For notebooks; `program.widget()` has buttons."""
        return _shown.block("Stepper", _shown.pre(str(self)))

    def __str__(self) -> str:
        """The last line with its operands and result; see terminal.py for the same in colours."""
        line = self.line
        if line is None:
            return f"before line 1 of {len(self.program)}"
        program = self.program
        text = [f"{line.number}/{len(program)} {left(program, line)}   {expression(program, line)}"]
        for v in dict.fromkeys([*line.inputs[:6], *line.outputs[:1]]):
            text.append(f"  {program.values[v].name}: {describe(self.run.array(v))}")
        return "\n".join(text)


BARS = " ▁▂▃▄▅▆▇█"


def describe(array: Array) -> str:
    """Shape, statistics and a small histogram in one line."""
    s = statistics(array, bins=16)
    if s["min"] is None:
        return f"{list(array.shape)} nothing finite ({s['bad']} NaN or infinite)"
    text = f"{list(array.shape)} {s['min']:.4g} to {s['max']:.4g}, mean {s['mean']:.4g}"
    text += f", std {s['std']:.3g}"
    if s["zeros"]:
        text += f", {s['zeros']} zeros"
    if s["bad"]:
        text += f", {s['bad']} NaN or infinite"
    if "histogram" in s:
        most = max(s["histogram"])
        text += " " + "".join(BARS[0 if n == 0 else 1 + int(7 * n / most)] for n in s["histogram"])
    return text
