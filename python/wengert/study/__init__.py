"""Study: see every number of forward and backward.

    program = wengert.trace(step)(x, y)
    print(program)                  the Wengert list: forward, and beside it backward
    program.check()                 every vjp against differences, in float64
    program.first_bad()             where the first NaN or infinity appears
    program.stepper()               a debugger for backprop; `wengert study` in the terminal
    program.to_html("step.html")    the same as one page for a browser
    program.widget()                the same in a notebook, with a stepper in Python beside it
    program.to_numpy()              the same as plain NumPy
    study.diff(before, after)       where two runs part
    study.attribution               what a trained network looks at, and for whom it is wrong

The list is the one that eager ran and that compiled steps replay (csrc/program/), with what only a
reader needs beside it: names, source lines, which lines answer which.

A file here imports only from files to its left, and from the package outside:
list < text, run < naming, costs, checks < stepper, page, numpy_code, schema < widget < program <
tracing < terminal, attribution < drills.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import attribution as attribution
    from .checks import check, diff, first_bad
    from .list import StudyError
    from .program import Program, load
    from .stepper import Stepper
    from .tracing import trace

_HOME = {
    "Program": "program",
    "Stepper": "stepper",
    "StudyError": "list",
    "check": "checks",
    "diff": "checks",
    "first_bad": "checks",
    "load": "program",
    "trace": "tracing",
}

__all__ = ["Program", "Stepper", "StudyError", "check", "diff", "first_bad", "load", "trace"]


def __getattr__(name: str) -> Any:
    if name == "attribution":
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module 'wengert.study' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
