"""The stepper in the terminal: `wengert study` (wengert/cli/study.py).

The commands are in HELP. What a command cannot do is told in a line; the session goes on.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .list import Line, StudyError, short
from .program import Program
from .run import Array, statistics
from .stepper import BARS, Stepper
from .text import head

HELP = """\
n, Enter     forward one line          b           back one line
g N          to line N (0: the start)  e           to the end
l LAYER      to the layer's next line  nan         to the first NaN or infinity
max          to the largest gradient   br NAME     break on an op or a value
c            on to the next break      list, costs the whole list; what it costs
p NAME       a value: statistics, corner, and what its gradient is the sum of
set NAME[0,1] = 2.5   edit a value or a gradient; set NAME = 0 edits all of it
d            the difference that the edits made in every gradient
undo         takes back all edits      check       every vjp against differences
/TEXT        lines with that text      h, ?, help  this help; h set: of one
q            quit                      Tab completes, Up brings back"""


@contextmanager
def line_editing(words: Callable[[], Sequence[str]]) -> Iterator[None]:
    """History by Up, Ctrl-R and the like, and Tab for `words()`, in what input() reads meanwhile;
    nothing of it where the input is no terminal."""
    try:
        if sys.stdin is None or not sys.stdin.isatty():
            raise ImportError
        import readline
    except ImportError:
        yield
        return

    def complete(text: str, number: int) -> str | None:
        found = [word for word in words() if word.startswith(text)]
        return found[number] if number < len(found) else None

    former = readline.get_completer(), readline.get_completer_delims()
    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n=[")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    try:
        yield
    finally:
        readline.set_completer(former[0])
        readline.set_completer_delims(former[1])


def _console() -> Any:
    try:
        from rich.console import Console
    except ImportError:
        raise StudyError(
            'study: the stepper needs rich, which is not installed: pip install "wengert[train]"; '
            "the list itself prints without it: wengert study --list"
        ) from None
    return Console(highlight=False)


class Session:
    """A stepper, a console, and a command at a time."""

    def __init__(self, program: Program, console: Any = None) -> None:
        """console: rich's; one for standard output unless given."""
        self.program = program
        self.stepper = Stepper(program)
        self.console = console or _console()
        self.commands: dict[str, Callable[[str], None]] = {
            "n": lambda _: self._moved(self.stepper.forward()),
            "b": lambda _: self._moved(self.stepper.back()),
            "g": lambda text: self._moved(self.stepper.to(_line(text))),
            "e": lambda _: self._moved(self.stepper.to(len(program))),
            "l": lambda text: self._moved(self.stepper.to_layer(text)),
            "nan": lambda _: self._moved(self.stepper.to_first_bad()),
            "max": lambda _: self._moved(self.stepper.to_largest_gradient()),
            "br": self._break,
            "c": lambda _: self._moved(self.stepper.go_on()),
            "list": lambda _: self.console.print(program.listing(), markup=False, soft_wrap=True),
            "costs": lambda _: self.console.print(program.costs(), markup=False, soft_wrap=True),
            "p": self._print,
            "set": self._set,
            "d": lambda _: self._differences(),
            "undo": lambda _: self._undo(),
            "check": lambda _: self.console.print(str(program.check()), markup=False),
            **dict.fromkeys(("h", "?", "help"), self._help),
        }

    def run(self) -> None:
        """Reads commands until q or the end of the input."""
        for text in head(self.program):
            self.console.print(text, markup=False)
        if not self.program.lines:
            return
        self.console.print("h for help, Enter for the next line", style="dim")
        with line_editing(self._words):
            self._loop()

    def _words(self) -> list[str]:
        """What Tab completes: commands, names of values, layers."""
        program = self.program
        names = [value.name for value in program.values]
        return [*self.commands, "q", *dict.fromkeys([*names, *(x.layer for x in program.lines)])]

    def _loop(self) -> None:
        while True:
            try:
                text = input("(study) ").strip()
            except EOFError:
                self.console.print()
                return
            except KeyboardInterrupt:
                self.console.print("\nq quits")
                continue
            if text in ("q", "quit", "exit"):
                return
            self.do(text)

    def do(self, text: str) -> None:
        """One command."""
        try:
            if text.startswith("/"):
                self._search(text[1:])
                return
            word, _, rest = (text or "n").partition(" ")
            if word not in self.commands:
                raise StudyError(f"study: no command {word!r}; h lists them")
            self.commands[word](rest.strip())
        except KeyboardInterrupt:
            self.console.print("interrupted")
        except (StudyError, ValueError, TypeError) as error:
            self.console.print(str(error), style="red", markup=False)

    # ---- commands ----

    def _help(self, command: str) -> None:
        rows = HELP.splitlines()
        if command:
            cells = [c for r in rows for c in ((r[:39], r[39:]) if r[37:39] == "  " else (r,))]
            rows = [c.strip() for c in cells if command in re.findall(r"[\w?/]+", c[:12])]
            if not rows:
                raise StudyError(f"study: no command {command!r}; h lists them")
        self.console.print("\n".join(rows), markup=False)

    def _break(self, text: str) -> None:
        self.stepper.break_on(text)
        self.console.print(f"breaks: {', '.join(self.stepper.breaks)}; c goes on", markup=False)

    def _undo(self) -> None:
        self.stepper.forget_edits()
        self.console.print("all edits are taken back")

    def _set(self, text: str) -> None:
        match = re.fullmatch(r"(.+?)(?:\[([-\d, ]*)\])?\s*=\s*(\S+)", text)
        if match is None:
            raise StudyError("study: write set NAME[0,1] = 2.5, or set NAME = 0")
        name, index, number = match.groups()
        at = tuple(int(n) for n in index.replace(" ", "").split(",")) if index else None
        try:
            to = float(number)
        except ValueError:
            raise StudyError(f"study: {number!r} is not a number") from None
        self.stepper.edit(name.strip(), to, at)
        self._value(self.program.value(name.strip()).number)
        self.console.print("lines from here on see it; d shows what changed", style="dim")

    def _differences(self) -> None:
        from rich.table import Table

        if not self.stepper.run.edits:
            raise StudyError("study: nothing has been edited; set NAME[0,1] = 2.5 edits a value")
        table = Table("gradient", "largest change", "relative", "before (norm)", "after (norm)")
        for name, (before, after) in self.stepper.differences().items():
            with np.errstate(all="ignore"):
                change = float(np.abs(after - before).max()) if after.size else 0.0
                norms = [float(np.sqrt(np.square(x.astype("d")).sum())) for x in (before, after)]
                relative = change / max(float(np.abs(before).max()), 1e-300) if before.size else 0.0
            style = "bold" if change else "dim"
            cells = [f"d{name}", f"{change:.4g}", f"{relative:.2%}", *(f"{n:.6g}" for n in norms)]
            table.add_row(*(_plain(c) for c in cells), style=style)
        self.console.print(table)

    def _search(self, text: str) -> None:
        found = 0
        for line in self.program.lines:
            shown = f"{line.number:4} {self.program.left(line)}  {line.layer}  {line.code}"
            if text in shown:
                self.console.print(shown, markup=False)
                found += 1
        if not found:
            raise StudyError(f"study: no line has {text!r}")

    def _print(self, text: str) -> None:
        value = self.program.value(text)
        self.stepper.array(value.number)  # refuses what is not there yet
        self._value(value.number)
        parts = self.stepper.contributions(value.number)
        if not parts:
            return
        total = self.stepper.gradient(value.number)
        assert total is not None
        self.console.print(f"its gradient is the sum of {len(parts)}:", style="dim")
        for part in parts:
            self._array(f"  from line {part.line}, {part.consumer}", part.array)
        if len(parts) > 1:
            self._array("  sum", total)

    # ---- showing ----

    def _moved(self, line: Line | None) -> None:
        program, console = self.program, self.console
        if line is None:
            console.print("before line 1", style="dim")
            return
        colour = {"forward": "cyan", "backward": "magenta", "update": "yellow"}[line.phase]
        console.print(
            f"{line.number}/{len(program)} {program.left(line)}", style=f"bold {colour}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        expression = program.expression(line)
        if expression != program.call(line):
            console.print(f"  {expression}", style=colour, markup=False)
        if line.answer is not None:
            answer = program.answers[line.answer]
            console.print(
                f"  answers line {answer.line}: {program.vjp_formula(answer)}", style="dim",
                markup=False, soft_wrap=True,
            )  # fmt: skip
        for answer in program.answers_to(line):
            formula = program.vjp_formula(answer)
            if formula:
                where = f"lines {answer.first} to {answer.last}"
                if answer.last < answer.first:
                    where = "no line of its own"
                console.print(
                    f"  backward, {where}: {formula}", style="dim", markup=False, soft_wrap=True
                )
        notes = [line.layer] if line.layer else []
        if line.place:
            notes.append(f"{short(line.place)}: {line.code}")
        if line.kept_until:
            saved = sum(program.values[v].bytes for v in line.saved)
            notes.append(f"{saved:,} bytes kept until line {line.kept_until}")
        console.print(f"  {', '.join(notes)}", style="dim", markup=False, soft_wrap=True)
        operands = list(dict.fromkeys(line.inputs))[:6]
        for v in operands:
            if v not in line.outputs:
                self._value(v)
        for v in (line.outputs or line.edited)[:4]:
            self._value(v)
        if line.phase == "forward" and line.output is not None:
            gradient = self.stepper.gradient(line.output)
            if gradient is not None:
                self._array(f"  d{program.values[line.output].name} (when it comes)", gradient)

    def _value(self, number: int) -> None:
        value = self.program.values[number]
        text = ", ".join([value.name, *value.also[:3]])
        self._array(f"  {text}", self.stepper.run.array(number))

    def _array(self, title: str, array: Array) -> None:
        from rich.text import Text

        s = statistics(array, bins=16)
        head = Text(f"{title} ", style="bold")
        head.append(f"{array.dtype.name}{list(array.shape)} ", style="")
        if s["min"] is not None and array.size > 1:
            head.append(f"{s['min']:.4g} to {s['max']:.4g}, mean {s['mean']:.4g} ", style="")
        if s["zeros"]:
            head.append(
                f"{s['zeros']} zeros ", style="yellow" if s["zeros"] * 2 > s["size"] else ""
            )
        if s["bad"]:
            head.append(f"{s['bad']} NaN or infinite ", style="bold red")
        if "histogram" in s:
            most = max(s["histogram"])
            head.append(
                "".join(BARS[0 if n == 0 else 1 + int(7 * n / most)] for n in s["histogram"]),
                style="green",
            )
        self.console.print(head, soft_wrap=True)
        self.console.print(Text(corner(array), style="dim"), soft_wrap=True)


def corner(array: Array, rows: int = 4, columns: int = 6) -> str:
    """The corner of the values, indented; ... where there are more."""
    flat = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    lines = []
    for row in flat[:rows]:
        cells = "  ".join(f"{x:>10.4g}" for x in row[:columns])
        lines.append(f"      {cells}{' ...' if len(row) > columns else ''}")
    if len(flat) > rows:
        lines.append(f"      ... {len(flat) - rows} more rows")
    return "\n".join(lines)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _line(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise StudyError(f"study: {text!r} is not a line number; write g 12") from None
