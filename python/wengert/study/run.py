"""Run: a program's lines on a private copy of its memory, with a position to go forward and back.

A line that overwrites memory (an edit, an update) leaves behind what was there, so that the way back
is exact. The user's own tensors are never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import _core

if TYPE_CHECKING:
    from .listing import Program

Array = npt.NDArray[Any]


class Run:
    """`done` lines have run. Values made by later lines hold what an earlier pass left, if any."""

    def __init__(self, program: Program, wide: bool = False) -> None:
        """wide: float64 where the program has float32."""
        self.program = program
        self.replica: Any = _core._Replica(program.live(), wide)
        for line, (op, inputs) in program.faults.items():
            self.replica.plant(line - 1, op, inputs)
        self.done = 0
        self._overwritten: dict[int, list[tuple[int, Array]]] = {}

    def forward(self) -> None:
        """Runs the next line."""
        line = self.program.lines[self.done]
        if line.edited:
            self._overwritten[line.number] = [(v, self.array(v).copy()) for v in line.edited]
        elif line.op in ("uniform", "normal", "integers"):  # they advance the generator's state
            self._overwritten[line.number] = [(v, self.array(v).copy()) for v in line.inputs]
        self.replica.run(self.done)
        self.done += 1

    def back(self) -> None:
        """Undoes the last line."""
        self.done -= 1
        for value, former in reversed(self._overwritten.pop(self.done + 1, [])):
            self.write(value, former)

    def to(self, line: int) -> None:
        """Until `line` has run, and no later one."""
        while self.done < line:
            self.forward()
        while self.done > line:
            self.back()

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
