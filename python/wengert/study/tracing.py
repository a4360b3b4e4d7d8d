"""trace: run a function once and keep its Wengert list, with the names that the user gave.

While the function runs, a profile hook (sys.setprofile) watches Python's calls and returns: a
module that is called gives its lines their layer and its result its path; a function of the user's
that returns gives the tensors in its local variables their names. Nothing of this exists outside of
`trace`: the eager path knows only whether a tracer listens.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from .. import _core
from .._core import Tensor
from .._trees import tensors_of
from ..compiling import CompiledStep
from .naming import from_core
from .program import Program

MAX_LINES = 100_000


class StopTrace(BaseException):
    """Raised by the hook to end a script after the optimizer step that was asked for."""


def trace(fn: Callable[..., Any], *, max_lines: int = MAX_LINES) -> Callable[..., Program]:
    """A function that runs `fn` once and returns its `Program`: `wengert.trace(step)(x, y)`.

    fn  forward alone, or with backward and an optimizer's step; it runs as it would by itself, with
        all it changes. A compiled step is traced through to the function within.

    What fn returns is in `program.returned`. An exception in fn is raised again, and has what was
    recorded until then in its attribute `program`; Ctrl-C returns what was recorded, and
    `program.stopped` says so. Raises TypeError where fn cannot be called, ValueError where the list
    becomes longer than max_lines. Where the list of a function that has ended cannot be kept, such
    as for want of memory, a note on the exception says that what fn changed stays changed.

    >>> w = wg.tensor(3.0, requires_grad=True)
    >>> program = wg.trace(lambda x: (w * x).backward())(wg.tensor(2.0))
    >>> [program.expression(line) for line in program.lines][:1]
    ['w * x']
    """
    if not callable(fn):
        raise TypeError(f"trace: got {type(fn).__name__}; expected a function: trace(step)(x, y)")
    inner = fn._fn if isinstance(fn, CompiledStep) else fn

    @functools.wraps(inner, updated=())
    def traced(*args: Any, **kwargs: Any) -> Program:
        return record(lambda: inner(*args, **kwargs), (args, kwargs), max_lines=max_lines)

    return traced


def record(
    run: Callable[[], Any],
    arguments: Any = (),
    *,
    steps: int | None = None,
    every: int | None = None,
    max_lines: int = MAX_LINES,
) -> Program:
    """Runs `run()` under trace.

    With `steps`, until an optimizer's step() has returned so often; only what came after the last
    step() but one is kept, so that the list is that of one step; where the run ends before, the
    program's notes say so. With `every`, the programs of each
    so-many-th step before it are in `program.earlier`.
    """
    given = tensors_of(arguments)
    names = Names(lambda: _core._Study(given, max_lines), steps, every)
    stopped: str | None = None
    error: BaseException | None = None
    result: Any = None
    names.core.begin()
    former = sys.getprofile()
    sys.setprofile(names.hook)
    try:
        result = run()
    except StopTrace:
        pass
    except KeyboardInterrupt:
        stopped = "interrupted by Ctrl-C: the lines until then are here"
    except SystemExit as end:
        if end.code not in (None, 0):
            error = end
    except BaseException as raised:
        error = raised
    finally:
        sys.setprofile(former if callable(former) else None)
        if former is not None and not callable(former):  # cProfile's
            former.enable()
        names.core.end()
    if error is not None:
        stopped = f"{type(error).__name__}: {error}"
    try:
        core, closed = names.pick()
        if not closed:
            core.close(tensors_of(result))
        program = from_core(Program, core, names.found(), names.layers, stopped)
        program.notes += names.short_of(closed)
        program.returned = result
        program.earlier = [from_core(Program, *kept, None) for kept in names.kept]
    except BaseException as late:
        if error is None:
            late.add_note("study: the function had ended; what it changed stays changed")
            raise
        error.add_note("study: the lines that had been recorded before could not be kept")
        raise error from late
    if error is not None:
        error.program = program  # type: ignore[attr-defined]
        error.add_note(
            f"study: {len(program.lines)} lines had been recorded before; "
            "they are in the exception's attribute `program`"
        )
        raise error
    return program


_PACKAGE = str(Path(__file__).parent.parent) + os.sep
_STDLIB = sysconfig.get_path("stdlib") + os.sep


def _is_users(filename: str) -> bool:
    """Code whose variables' names mean something to the reader."""
    return not filename.startswith((_PACKAGE, _STDLIB, "<frozen"))


def _readable(path: str, module: Any) -> str:
    """A module's path; the items of a Sequential, which have numbers for names, by their class."""
    head, _, last = path.rpartition(".")
    if last.isdigit():
        last = f"{type(module).__name__.lower()}{last}"
    return f"{head}.{last}" if head else last


class Names:
    """What the hook finds out: names of values, and the layer that each line belongs to."""

    def __init__(
        self, make: Callable[[], Any], steps: int | None = None, every: int | None = None
    ) -> None:
        """make(): a study, to record in."""
        from ..nn.module import Module
        from ..optim import Optimizer

        self._make, self.core, self._former = make, make(), None
        self.steps, self.every = steps, every
        self.kept: list[tuple[Any, dict[int, str], list[str]]] = []
        self.layers: list[str] = []
        self._numbers: dict[str, int] = {}
        self._call = Module.__call__.__code__
        self._optimizer = Optimizer
        self._stack: list[tuple[FrameType, int]] = []
        self._roots: dict[int, tuple[Any, str]] = {}
        self._paths: dict[int, str] = {}
        self._tensors: list[tuple[int, Tensor, str]] = []  # (rank, tensor, name)
        self._steps_done = 0

    def hook(self, frame: FrameType, event: str, argument: Any) -> None:
        """As sys.setprofile has it."""
        if event == "call":
            if frame.f_code is self._call:
                self._enter(frame)
        elif event == "return":
            if frame.f_code is self._call:
                self._leave(frame, argument)
            elif _is_users(frame.f_code.co_filename):
                self._note_variables(frame)
            elif frame.f_code.co_name == "step":
                me = frame.f_locals.get("self")
                if self.steps is not None and isinstance(me, self._optimizer):
                    self._end_step(frame)

    def _end_step(self, frame: FrameType) -> None:
        caller = frame.f_back
        while caller is not None:  # functions that have not returned yet
            if _is_users(caller.f_code.co_filename):
                self._note_variables(caller)
            caller = caller.f_back
        self._steps_done += 1
        if self._steps_done >= (self.steps or 0):
            raise StopTrace
        self.core.end()
        self.core.close([])
        self._former = self.core
        if self.every is not None and self._steps_done % self.every == 0:
            self.kept.append((self.core, self.found(), list(self.layers)))
            self._tensors.clear()
        self.core = self._make()
        self.core.begin()

    def pick(self) -> tuple[Any, bool]:
        """The study of the last step, or, where the script ended before another, of the one before;
        and whether it is closed.
        """
        if self._former is None or self.core.roots():
            return self.core, False
        self.core = self._former
        return self.core, True

    def short_of(self, closed: bool) -> list[str]:
        """A note where fewer steps were made than were asked for; closed: as pick() says."""
        done = self._steps_done
        if self.steps is None or done >= self.steps:
            return []
        shown = f"step {done}" if closed else f"what came after step {done}"
        return [
            f"step {self.steps} was asked for, and the run made {done or 'no'} optimizer "
            f"step{'s' * (done != 1)}: this is {shown if done else 'all of it'}"
        ]

    def _enter(self, frame: FrameType) -> None:
        module = frame.f_locals["self"]
        path = self._paths.get(id(module))
        if path is None:
            path = self._add_root(module, frame.f_back)
        label = _readable(path, module) or type(module).__name__
        number = self._numbers.setdefault(label, len(self.layers))
        if number == len(self.layers):
            self.layers.append(label)
        self._stack.append((frame, number))
        self.core.set_layer(number)

    def _leave(self, frame: FrameType, result: Any) -> None:
        while self._stack and self._stack.pop()[0] is not frame:
            pass
        self.core.set_layer(self._stack[-1][1] if self._stack else -1)
        module = frame.f_locals["self"]
        path = self._paths.get(id(module))
        if path and isinstance(result, Tensor):
            self._tensors.append((2, result, _readable(path, module)))

    def _add_root(self, module: Any, caller: FrameType | None) -> str:
        """A module called from outside of any other: its variable's name, and its parts' paths."""
        name = type(module).__name__.lower()
        while caller is not None and not _is_users(caller.f_code.co_filename):
            caller = caller.f_back
        if caller is not None:
            for scope in (caller.f_locals, caller.f_globals):
                own = [key for key, item in scope.items() if item is module and key != "self"]
                if own:
                    name = own[0]
                    break
        self._roots[id(module)] = (module, name)
        for path, part in module.named_modules():
            self._paths.setdefault(id(part), path)
        return self._paths[id(module)]

    def _note_variables(self, frame: FrameType) -> None:
        for name, item in frame.f_locals.items():
            self._note(name, item)
        globals_ = frame.f_globals
        for name in frame.f_code.co_names:
            if isinstance(globals_.get(name), (Tensor, list, tuple, dict)):
                self._note(name, globals_[name])

    def _note(self, name: str, item: Any) -> None:
        if isinstance(item, Tensor):
            self._tensors.append((1, item, name))
        elif isinstance(item, (list, tuple)):
            for i, part in enumerate(item[:256]):
                if isinstance(part, Tensor):
                    self._tensors.append((3, part, f"{name}[{i}]"))
        elif isinstance(item, dict) and len(item) <= 256:
            for key, part in item.items():
                if isinstance(part, Tensor) and isinstance(key, str):
                    self._tensors.append((3, part, f"{name}[{key!r}]"))

    def found(self) -> dict[int, str]:
        """value number -> name, the best of those that were given."""
        for module, name in self._roots.values():
            lead = f"{name}." if len(self._roots) > 1 else ""
            for kind in (module.named_parameters, module.named_buffers):
                self._tensors += [(0, tensor, lead + path) for path, tensor in kind()]
        names: dict[int, str] = {}
        taken: set[str] = set()
        for _, tensor, name in sorted(self._tensors, key=lambda t: t[0]):
            number = self.core.value_of(tensor)
            if number < 0 or number in names:
                continue
            unique, count = name, 1
            while unique in taken:
                count += 1
                unique = f"{name}_{count}"
            taken.add(unique)
            names[number] = unique
        return names
