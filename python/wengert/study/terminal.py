"""The stepper in the terminal: `wengert study` (wengert/cli/study.py).

A command is a method do_NAME of Session; the first line of its text is its help. What a command
cannot do is told in a line; the session goes on.
"""

from __future__ import annotations

import cmd
import re
import sys
from typing import Any

import numpy as np

from .list import Line, StudyError, short
from .program import Program
from .run import Array, statistics
from .stepper import BARS, Stepper
from .text import head


class Prompt(cmd.Cmd):
    """Commands from the keyboard: readline edits the line, Up and Ctrl-R bring back former ones,
    Tab completes. Where the input is no terminal, a line is a command."""

    def __init__(self) -> None:
        """The prompt is `prompt`, of the class."""
        terminal = sys.stdin is not None and sys.stdin.isatty()
        super().__init__(completekey="tab" if terminal else None)  # type: ignore[arg-type]

    def ask(self) -> None:
        """Reads commands until one ends it, or the input ends."""
        while True:
            try:
                return self.cmdloop()
            except KeyboardInterrupt:
                print("\nq quits")

    def precmd(self, line: str) -> str:
        """The end of the input is q."""
        if line == "EOF":
            print()
            return "q"
        return line

    def do_q(self, _: str) -> bool:
        """q, quit, exit: ends it"""
        return True

    do_quit = do_exit = do_q


def _console() -> Any:
    try:
        from rich.console import Console
    except ImportError:
        raise StudyError(
            'study: the stepper needs rich, which is not installed: pip install "wengert[train]"; '
            "the list itself prints without it: wengert study --list"
        ) from None
    return Console(highlight=False)


class Session(Prompt):
    """A stepper, a console, and a command at a time."""

    prompt = "(study) "

    def __init__(self, program: Program, console: Any = None) -> None:
        """console: rich's; one for standard output unless given."""
        super().__init__()
        self.program = program
        self.stepper = Stepper(program)
        self.console = console or _console()

    def run(self) -> None:
        """Reads commands until q or the end of the input."""
        for text in head(self.program):
            self.console.print(text, markup=False)
        if not self.program.lines:
            return
        self.console.print("h for help, Enter for the next line", style="dim")
        self.ask()

    def onecmd(self, line: str) -> bool:
        """One command; whether it ends the session."""
        try:
            return bool(super().onecmd(line))
        except KeyboardInterrupt:
            self.console.print("interrupted")
        except (StudyError, ValueError, TypeError) as error:
            self.console.print(str(error), style="red", markup=False)
        return False

    def emptyline(self) -> bool:
        """Enter alone: the next line."""
        self.do_n("")
        return False

    def default(self, line: str) -> None:
        """/TEXT; other words are no commands."""
        if not line.startswith("/"):
            raise StudyError(f"study: no command {line.split()[0]!r}; h lists them")
        self._search(line[1:])

    def completedefault(self, text: str, *_: Any) -> list[str]:
        """After a command, Tab completes names of values, and layers."""
        names = [*(v.name for v in self.program.values), *(x.layer for x in self.program.lines)]
        return [name for name in dict.fromkeys(names) if name.startswith(text)]

    # ---- commands ----

    def do_n(self, _: str) -> None:
        """n, Enter: forward one line"""
        self._moved(self.stepper.forward())

    def do_b(self, _: str) -> None:
        """b: back one line"""
        self._moved(self.stepper.back())

    def do_g(self, text: str) -> None:
        """g N: to line N (0: the start)"""
        self._moved(self.stepper.to(_line(text)))

    def do_e(self, _: str) -> None:
        """e: to the end"""
        self._moved(self.stepper.to(len(self.program)))

    def do_l(self, text: str) -> None:
        """l LAYER: to the layer's next line"""
        self._moved(self.stepper.to_layer(text))

    def do_nan(self, _: str) -> None:
        """nan: to the first NaN or infinity"""
        self._moved(self.stepper.to_first_bad())

    def do_max(self, _: str) -> None:
        """max: to the largest gradient"""
        self._moved(self.stepper.to_largest_gradient())

    def do_br(self, text: str) -> None:
        """br NAME: break on an op or a value"""
        self.stepper.break_on(text)
        self.console.print(f"breaks: {', '.join(self.stepper.breaks)}; c goes on", markup=False)

    def do_c(self, _: str) -> None:
        """c: on to the next break"""
        self._moved(self.stepper.go_on())

    def do_list(self, _: str) -> None:
        """list: the whole list"""
        self.console.print(self.program.listing(), markup=False, soft_wrap=True)

    def do_costs(self, _: str) -> None:
        """costs: FLOPs, bytes and times of the lines, and their sums"""
        self.console.print(self.program.costs(), markup=False, soft_wrap=True)

    def do_check(self, _: str) -> None:
        """check: every vjp against differences"""
        self.console.print(str(self.program.check()), markup=False)

    def do_undo(self, _: str) -> None:
        """undo: takes back all edits"""
        self.stepper.forget_edits()
        self.console.print("all edits are taken back")

    def do_help(self, arg: str) -> None:
        """h, ?, help: this help; h set: of one"""
        names = [name for kind in (Session, Prompt) for name in vars(kind) if name[:3] == "do_"]
        commands = {name[3:]: getattr(self, name) for name in names}
        if arg and arg not in commands:
            raise StudyError(f"study: no command {arg!r}; h lists them")
        texts = [str(f.__doc__) for f in ([commands[arg]] if arg else commands.values())]
        if not arg:
            texts += ["/TEXT: lines with that text", "Tab: completes; Up: brings back"]
        rows = [text.split(": ", 1) for text in dict.fromkeys(texts)]
        self.console.print("\n".join(f"{a:22} {b}" for a, b in rows), markup=False)

    do_h = do_help

    def do_set(self, text: str) -> None:
        """set NAME[0,1] = 2.5: edit a value or a gradient; set NAME = 0 edits all of it"""
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

    def do_d(self, _: str) -> None:
        """d: the difference that the edits made in every gradient"""
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

    def do_p(self, text: str) -> None:
        """p NAME: a value: statistics, corner, and what its gradient is the sum of"""
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
