"""Run: a program's lines on a private copy of its memory, with a position to go forward and back.

A line that overwrites memory (an edit, an update) leaves behind what was there, so that the way
back is exact. The user's own tensors are never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from .._shown import statistics as statistics
from .list import WengertList

Array = npt.NDArray[Any]


@dataclass
class Edit:
    """A value that was overwritten after line `at`."""

    at: int
    value: int
    array: Array
    former: Array


class Run:
    """`done` lines have run. Values made by later lines hold what an earlier pass left, if any."""

    def __init__(self, program: WengertList, wide: bool = False) -> None:
        """wide: float64 where the program has float32; so too where the program itself is wide."""
        self.program = program
        self.replica: Any = _core._Replica(program.live(), wide or program.wide)
        for line, (op, inputs) in program.faults.items():
            self.replica.plant(line - 1, op, inputs)
        self.done = 0
        self._overwritten: dict[int, list[tuple[int, Array]]] = {}
        self.edits: list[Edit] = []

    def forward(self) -> None:
        """Runs the next line."""
        line = self.program.lines[self.done]
        if line.edited:
            self._overwritten[line.number] = [(v, self.array(v).copy()) for v in line.edited]
        elif line.op in ("uniform", "normal", "integers"):  # they advance the generator's state
            self._overwritten[line.number] = [(v, self.array(v).copy()) for v in line.inputs]
        self.replica.run(self.done)
        self.done += 1
        for edit in self.edits:
            if edit.at == self.done:
                self._apply(edit)

    def back(self) -> None:
        """Undoes the last line, and edits that were made after it."""
        if self.done == 0:
            return
        for edit in reversed(self.edits):
            if edit.at == self.done:
                self.write(edit.value, edit.former)
        self.done -= 1
        for value, former in reversed(self._overwritten.pop(self.done + 1, [])):
            self.write(value, former)

    def to(self, line: int) -> None:
        """Until `line` has run, and no later one."""
        while self.done < line:
            self.forward()
        while self.done > line:
            self.back()

    def edit(self, value: int, array: Any) -> None:
        """Overwrites a value here: whenever the run comes by, until it goes back past this
        place."""
        edit = Edit(self.done, value, np.array(array), self.array(value))
        self._apply(edit)
        self.edits.append(edit)

    def _apply(self, edit: Edit) -> None:
        edit.former = self.array(edit.value)
        self.write(edit.value, edit.array)

    def forget_edits(self) -> None:
        """Takes back all edits; the position stays."""
        done = self.done
        self.to(0)
        for edit in reversed(self.edits):
            if edit.at == 0:
                self.write(edit.value, edit.former)
        self.edits.clear()
        self.to(done)

    def to_end(self) -> None:
        """All lines."""
        self.to(len(self.program.lines))

    def array(self, value: int) -> Array:
        """A copy of what a value's memory holds now."""
        array: Array = np.array(self.replica.value(value).numpy())
        return array

    def write(self, value: int, array: Any) -> None:
        """Overwrites a value."""
        tensor = self.replica.value(value)
        held = self.array(value)
        given = np.broadcast_to(np.asarray(array, dtype=held.dtype), held.shape)
        with np.errstate(all="ignore"):
            tensor.copy_(_core.tensor(np.ascontiguousarray(given).reshape(held.shape)))

    def known(self, value: int) -> bool:
        """Whether a line has made it, or it came from outside."""
        v = self.program.values[value]
        return v.outside or 0 < v.line <= self.done


def gradients(program: WengertList) -> dict[str, Array]:
    """The `.grad` that each leaf was left with, by the leaf's name (a replay, in NumPy)."""
    run = Run(program)
    run.to_end()
    return {
        program.values[leaf].name: run.array(after)
        for leaf, _, after in program.leaf_gradients
        if leaf >= 0 and after >= 0
    }
