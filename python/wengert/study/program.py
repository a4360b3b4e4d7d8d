"""Program: the Wengert list of one traced step, to read, to run again, and to check.

    print(program)              the list, backward lines beside the forward lines they answer
    print(program.costs())      FLOPs, bytes, saved bytes, times; sums per layer
    program.lines[4], program.value("dfc1.weight"), program.answers

Its methods are the functions of this package that take a list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from . import checks as _checks
from . import costs as _costs
from . import numpy_code as _numpy_code
from . import page as _page
from . import run as _run
from . import schema as _schema
from . import text as _text
from .list import WengertList
from .run import Run
from .stepper import Stepper

if TYPE_CHECKING:
    from .widget import StepperWidget


@dataclasses.dataclass(repr=False, eq=False)
class Program(WengertList):
    """The list of one step. Made by `wengert.trace`, or read from a file by `study.load`."""

    __str__ = listing = _text.listing
    summary = _text.summary
    call = _text.call
    expression = _text.expression
    left = _text.left
    vjp_formula = _text.vjp_formula
    saved_bytes = _text.saved_bytes

    measure = _costs.measure
    per_layer = _costs.per_layer
    unexplained = _costs.unexplained
    costs = _costs.costs

    gradients = _run.gradients
    check = _checks.check
    first_bad = _checks.first_bad

    to_json = _schema.to_json
    to_dot = _schema.to_dot
    to_numpy = _numpy_code.to_numpy

    def run(self, wide: bool = False) -> Run:
        """A private copy of the memory, to run the lines on; in float64 throughout if `wide`."""
        return Run(self, wide)

    def stepper(self) -> Stepper:
        """Runs the list line by line, forward and back; see wengert.study.stepper."""
        return Stepper(self)

    def to_html(self, path: str | Path, steps: Iterable[Program] = (), title: str = "") -> Path:
        """One self-contained page; see wengert.study.page."""
        return _page.to_html([self, *steps], path, title)

    def widget(self, height: int = 600) -> StepperWidget:
        """For notebooks: the page and a stepper that stand at the same line, `widget.position`;
        see wengert.study.widget. Needs anywidget: pip install "wengert[notebook]"."""
        from .widget import widget

        return widget(self, height)

    _repr_html_ = _page.inline

    def with_fault(self, line: int, op: str, inputs: Iterable[str | int] | None = None) -> Program:
        """The same program with another op (or other operands) in one line's place: a planted
        fault.

        The shape and dtype must stay; ShapeError or DTypeError where they would not.
        """
        at = self.line(line)
        operands = [self.value(v).number for v in inputs] if inputs is not None else at.inputs
        faults = {**self.faults, line: (op, list(operands))}
        wrong = dataclasses.replace(self, faults=faults)
        Run(wrong)  # refuses what does not fit
        return wrong

    def double(self) -> Program:
        """The same list, run in float64 from the same numbers: `study.diff(p, p.double())`."""
        return dataclasses.replace(self, wide=True)


def load(path: str | Path) -> Program:
    """Reads a file that `program.to_json(path)` wrote.

    StudyError names what is missing, of another type, or a number of nothing.
    """
    return _schema.load(path, Program)
