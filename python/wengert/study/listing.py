"""Program: the Wengert list of one traced step, as data to read, and as text.

    print(program)              the list, backward lines beside the forward lines they answer
    print(program.costs())      FLOPs, bytes, saved bytes, times; sums per layer
    program.lines[4], program.value("dfc1.weight"), program.answers

Lines are numbered from 1, in the order in which they ran. A value is named by the user's own names
where there are any (parameters, arguments, variables, layers), else by its op; the gradient of `h`
is `dh`. Values of one memory (a tensor and its transpose) are several values.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core

if TYPE_CHECKING:
    from .check import Bad, Checks
    from .run import Array, Run
    from .stepper import Stepper

ITEM = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "bfloat16": 2, "bool": 1, "uint8": 1}


class StudyError(ValueError):
    """What was asked of a program cannot be done; the message says what to do instead."""


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
    attributes: dict[str, str]
    formula: str
    gradient: str
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
    kept_until: int = 0  # the line after which what it saved is let go; 0: nothing saved
    seconds: float = 0.0

    @property
    def output(self) -> int | None:
        """The value that it makes or overwrites; None for an optimizer's update."""
        return self.outputs[0] if self.outputs else None

    @property
    def intensity(self) -> float:
        """FLOPs for each byte read or written."""
        return self.flops / self.bytes if self.bytes else 0.0


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@", "pow": "**"}
_INFIX |= {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_OPERANDS = {
    "where": ("c", "a", "b"),
    "cross_entropy": ("x", "target"),
    "cross_entropy_vjp": ("g", "x", "target", "kept"),
    "take_rows": ("x", "rows"),
    "put_rows": ("x", "value", "rows"),
    "put_region": ("x", "value"),
    "layer_norm": ("x", "w", "b"),
    "layer_norm_vjp": ("g", "x", "kept", "w"),
    "layer_norm_affine_vjp": ("g", "x", "kept"),
    "attention": ("q", "k", "v", "mask"),
    "attention_vjp": ("q", "k", "v", "g", "y", "lse", "mask"),
    "embedding": ("table", "ids"),
    "embedding_vjp": ("g", "ids"),
}
_STATES = {"adam_step": ("m", "v"), "sgd_step": ("b",), "rmsprop_step": ("v", "b")}


class Program:
    """The list of one step. Made by `wengert.trace`, or read from a file by `study.load`."""

    def __init__(
        self,
        lines: list[Line],
        values: list[Value],
        answers: list[Answer],
        roots: list[tuple[int, int, int, int]],
        leaf_gradients: list[tuple[int, int, int]],
        results: list[int],
        notes: list[str],
        stopped: str | None,
        memory: int,
    ) -> None:
        """Plain data; see from_core for where it comes from."""
        self.lines, self.values, self.answers = lines, values, answers
        self.roots = (
            roots  # (value, gradient, lines, answers that were there when a backward began)
        )
        self.leaf_gradients = leaf_gradients  # (leaf, .grad before, .grad after), values or -1
        self.results = results
        self.notes = notes
        self.stopped = stopped
        self.memory = memory  # bytes of all that the list made
        self.returned: Any = None
        self.earlier: list[Program] = []  # of the same step, earlier in a training
        self.faults: dict[int, tuple[str, list[int]]] = {}
        self.wide = False  # runs in float64 throughout
        self._core: Any = None
        self._by_name: dict[str, int] | None = None
        self._timed = False

    # ---- making ----

    @classmethod
    def from_core(
        cls, core: Any, names: dict[int, str], layers: list[str], stopped: str | None
    ) -> Program:
        """Reads what the core noted while the step ran."""
        raw = core.lines()
        values = [
            Value(n, names.get(n, ""), tuple(v["shape"]), v["dtype"], v["memory"], v["outside"],
                  v["leaf"])
            for n, v in enumerate(core.values())
        ]  # fmt: skip
        answers = [
            Answer(n, line + 1, gradient, first + 1, last,
                   [Contribution(i, to, at + 1, value) for i, to, at, value in gave])
            for n, (line, gradient, first, last, gave) in enumerate(core.answers())
        ]  # fmt: skip
        roots = core.roots()
        lines = []
        for n, d in enumerate(raw):
            layer = layers[d["layer"]] if d["layer"] >= 0 else ""
            answer = d["answer"] if d["answer"] >= 0 else None
            lines.append(
                Line(n + 1, d["op"], d["inputs"], d["outputs"], d["edited"], d["attributes"],
                     d["formula"], d["gradient"], d["no_gradient"], d["view"], d["recorded"], "",
                     answer, layer, d["place"], _source(d["place"]), d["flops"], d["bytes"],
                     d["saved"])
            )  # fmt: skip
        for answer in answers:
            for c in answer.gave:
                if c.to_line == 0 and c.to >= 0:
                    values[c.to].leaf = True
        looks: dict[tuple[str, str], int] = {}
        for place, what, _ in core.looks():
            if not what.startswith("making a tensor"):  # which looks at nothing that is computed
                looks[what, _short(place)] = looks.get((what, _short(place)), 0) + 1
        notes = [
            f"{what} at {place} looked at a value ({n} times); where the program branches on it, "
            "this list is the way that it took"
            for (what, place), n in looks.items()
        ]
        program = cls(
            lines, values, answers, roots, core.leaf_gradients(), core.results(), notes, stopped,
            core.bytes,
        )  # fmt: skip
        program._core = core
        program._complete()
        return program

    def _complete(self) -> None:
        """Phases, layers of backward lines, who made what, names, and until when values are
        kept."""
        self._find_phases()
        read: set[int] = set()
        for line in self.lines:
            if line.answer is not None:
                line.layer = self.lines[self.answers[line.answer].line - 1].layer
            read.update(line.inputs)
            for v in line.outputs if not line.edited else []:
                value = self.values[v]
                # A view of outside memory is made by its line, unless it was there before: x.T.T.
                if value.line == 0 and (line.view or not value.outside) and v not in read:
                    value.line = line.number
        for answer in self.answers:
            line = self.lines[answer.line - 1]
            line.kept_until = max(line.kept_until, answer.last if line.saved else 0)
        for line in self.lines:
            if line.saved and not line.kept_until:
                line.kept_until = len(self.lines)  # nobody walked by: kept to the end
        self._name_values()

    def _find_phases(self) -> None:
        walks = []
        seeds = {gradient for _, gradient, _, _ in self.roots}
        for i, (_, _, at, _) in enumerate(self.roots):
            end = self.roots[i + 1][2] if i + 1 < len(self.roots) else len(self.lines) + 1
            asked = [a for a in self.answers if at < a.first <= end]
            last = max((a.last for a in asked), default=at)
            # What the last answer gave is still to be added up.
            parts = {c.value for a in asked for c in a.gave}
            while last < len(self.lines):
                line = self.lines[last]
                if line.op not in ("add", "copy") or not parts.issuperset(line.inputs):
                    break
                parts.update(line.outputs)
                last += 1
            walks.append((at, last))
        gradients = {g for leaf in self.leaf_gradients for g in leaf[1:] if g >= 0}
        last_walk = walks[-1][1] if walks else 0
        for line in self.lines:
            n = line.number
            if (
                line.answer is not None
                or any(at < n <= last for at, last in walks)
                or (line.output in seeds and not line.inputs)
                or (line.output in gradients and walks and n > walks[0][1] and line.op != "full")
            ):
                line.phase = "backward"
            elif walks and n > last_walk:
                line.phase = "update"
            else:
                line.phase = "forward"

    def _name_values(self) -> None:
        values = self.values
        taken = {v.name for v in values if v.name}
        counts: dict[str, int] = {}

        def give(number: int, name: str) -> None:
            value = values[number]
            if value.name == name or name in value.also:
                return
            if value.name:
                value.also.append(name)
                return
            unique, count = name, 1
            while unique in taken:
                count += 1
                unique = f"{name}_{count}"
            taken.add(unique)
            value.name = unique

        def fresh(base: str) -> str:
            while True:
                counts[base] = counts.get(base, 0) + 1
                name = f"{base}{counts[base]}"
                if name not in taken:
                    return name

        users = {v.number for v in values if v.name}
        for leaf, before, after in self.leaf_gradients:
            if leaf >= 0 and before >= 0:  # gathered in what was there before
                give(before, f"{values[leaf].name}.grad")
                if after >= 0:
                    give(after, f"{values[leaf].name}.grad")
        for line in self.lines:
            if line.op in _STATES and not line.outputs:
                self._name_states(line, give)
        replica: Any = None
        for line in self.lines:
            for v in line.inputs:
                value = values[v]
                if value.name or not value.outside or value.line:
                    continue
                if value.shape == () and self._core is not None:
                    replica = replica or _core._Replica(self._core, False)
                    value.constant = float(replica.value(v).item())
                if value.constant is not None and not value.leaf:
                    value.name = f"{value.constant:g}"  # several constants may share a name
                else:
                    give(v, fresh("c"))
            if line.phase == "forward":
                self._name_outputs(line, give, fresh)
        # One memory may be the gradient of several: it is called by what the user named, if any.
        wanted: list[tuple[bool, int, str]] = []
        for leaf, before, after in self.leaf_gradients:
            if leaf >= 0 and before < 0 <= after:
                wanted.append((False, after, f"d{values[leaf].name}"))
        for answer in self.answers:
            made = self.lines[answer.line - 1].output
            assert made is not None
            wanted.append((made not in users, answer.gradient, f"d{values[made].name}"))
            for c in answer.gave:
                if c.to >= 0:
                    name = f"d{values[c.to].name}"
                    if self._contributions(c.to_line, c.to) > 1:
                        name += f"@{values[made].name}"
                    wanted.append((c.to not in users, c.value, name))
        for _, number, name in sorted(wanted, key=lambda w: w[0]):
            give(number, name)
        for line in self.lines:
            if line.phase != "forward":
                self._name_outputs(line, give, fresh)
        for value in values:
            if not value.name:
                value.name = fresh("v")

    def _name_outputs(self, line: Line, give: Any, fresh: Any) -> None:
        for i, v in enumerate(line.outputs):
            value = self.values[v]
            if value.name:
                continue
            if line.op == "permute" and _swaps_last(line.attributes.get("axes", "")):
                give(v, f"{self.values[line.inputs[0]].name}.T")
            else:
                give(v, fresh(line.op.removesuffix("_vjp") if i == 0 else f"{line.op}_kept"))

    def _name_states(self, line: Line, give: Any) -> None:
        """Inputs of an update: parameters, their states, step, gradients, options
        (csrc/ops/update/update.cpp)."""
        count = len(line.inputs) - len(line.edited) - 1
        states = (len(line.edited) - 1) // count - 1 if count else 0
        for i in range(count):
            parameter = self.values[line.inputs[i]].name
            for s, state in enumerate(_STATES[line.op][:states]):
                give(line.inputs[(s + 1) * count + i], f"{state}({parameter})")
        give(line.inputs[len(line.edited) - 1], "step")
        give(line.inputs[-1], "options")

    def _contributions(self, to_line: int, to: int) -> int:
        if not hasattr(self, "_counted"):
            self._counted: dict[tuple[int, int], int] = {}
            for answer in self.answers:
                for c in answer.gave:
                    key = (c.to_line, c.to)
                    self._counted[key] = self._counted.get(key, 0) + 1
        return self._counted.get((to_line, to), 0)

    # ---- finding ----

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

    def value(self, name: str | int) -> Value:
        """The value of that name, or number. StudyError, with near names, where there is none."""
        if isinstance(name, int):
            if not 0 <= name < len(self.values):
                raise StudyError(f"study: no value {name}; there are {len(self.values)}")
            return self.values[name]
        if self._by_name is None:
            self._by_name = {}
            for value in self.values:
                for known in (value.name, *value.also):
                    self._by_name.setdefault(known, value.number)
        if name not in self._by_name:
            import difflib

            near = difflib.get_close_matches(name, self._by_name, 3, 0.5)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise StudyError(f"study: no value is called {name!r}{hint}")
        return self.values[self._by_name[name]]

    def answers_to(self, line: Line) -> list[Answer]:
        """The vjps that were asked of a line: none, one, or several."""
        if not hasattr(self, "_answers_of"):
            self._answers_of: dict[int, list[Answer]] = {}
            for answer in self.answers:
                self._answers_of.setdefault(answer.line, []).append(answer)
        return self._answers_of.get(line.number, [])

    def gradient_of(self, leaf: str | int) -> Value | None:
        """The value that was left in a leaf's `.grad`, or None."""
        number = self.value(leaf).number
        for at, _, after in self.leaf_gradients:
            if at == number and after >= 0:
                return self.values[after]
        return None

    def live(self) -> Any:
        """The core's study; StudyError for a program read from a file, which has no memory."""
        if self._core is None:
            raise StudyError(
                "study: this program was read from a file, which holds the list and not the "
                "memory; trace the step again to run it"
            )
        return self._core

    # ---- words ----

    def call(self, line: Line) -> str:
        """`matmul(x, w1)`"""
        op = self.faults[line.number][0] if line.number in self.faults else line.op
        names = [self.values[v].name for v in self.operands(line)]
        if len(names) > 8:
            names = [*names[:3], "...", *names[-2:]]
        names += [f"{key}={text}" for key, text in line.attributes.items()]
        return f"{op}({', '.join(names)})"

    def operands(self, line: Line) -> list[int]:
        """The inputs; of a line with a planted fault, the wrong ones."""
        return self.faults[line.number][1] if line.number in self.faults else line.inputs

    def expression(self, line: Line) -> str:
        """The line as one would write it: `x @ w1`."""
        op = self.faults[line.number][0] if line.number in self.faults else line.op
        names = [self.values[v].name for v in self.operands(line)]
        if op in _INFIX and len(names) == 2:
            return f"{names[0]} {_INFIX[op]} {names[1]}"
        if op == "neg":
            return f"-{names[0]}"
        if op in ("permute", "reshape", "expand", "copy", "cast") and names:
            word = {"permute": "transpose", "copy": "copy", "cast": "convert"}.get(op, op)
            swaps = op == "permute" and _swaps_last(line.attributes.get("axes", ""))
            extra = "" if swaps or op == "copy" else f", {next(iter(line.attributes.values()), '')}"
            return f"{word}({names[0]}{extra})"
        if op == "full":
            return line.attributes.get("value", "?")
        if op == "slice":
            start, step, length = (int(line.attributes[k]) for k in ("start", "step", "length"))
            stop = start + step * length
            part = f"{start}:{stop if stop >= 0 else ''}" + (f":{step}" if step != 1 else "")
            return f"{names[0]}[{':, ' * int(line.attributes['axis'])}{part}]"
        if op in ("sum", "mean", "prod", "max", "min"):
            return f"{op}({names[0]}, axis={line.attributes.get('axis', '')})"
        if not line.outputs:
            return line.formula
        formula = line.formula if line.number not in self.faults else ""
        if not formula or " over the axes" in formula or len(names) > 4:
            return self.call(line)
        return self._words(formula, line, {})

    def _words(self, text: str, line: Line, more: dict[str, str]) -> str:
        """A formula of the op's, with the listing's names in place of x, a, b, y and g."""
        names = [self.values[v].name for v in line.inputs]
        if line.op.endswith("_vjp") and line.op not in _OPERANDS:
            words = {"g": names[0], "x": names[-1], "y": names[-1]}
        else:
            keys = _OPERANDS.get(line.op, ("x",) if len(names) == 1 else ("a", "b"))
            words = dict(zip(keys, names, strict=False))
            if line.output is not None:
                words["y"] = self.values[line.output].name
        if line.op not in ("clamp", "leaky_relu", "elu", "where"):
            words = {k: v for k, v in words.items() if k not in line.attributes}
        else:
            words |= {k: v for k, v in line.attributes.items() if k in ("a", "b")}
            if line.op == "where":
                words |= dict(zip(("c", "a", "b"), names, strict=True))
        words |= more
        return re.sub(r"\b[a-z]+\b(?!\()", lambda m: words.get(m[0], m[0]), text)

    def vjp_formula(self, answer: Answer) -> str:
        """What the vjp computes, in the listing's names: `dw1 = transpose(x) @ dz1`."""
        line = self.lines[answer.line - 1]
        if not answer.gave:
            return ""
        assert line.output is not None
        keys = _OPERANDS.get(line.op, ("x",) if len(line.inputs) == 1 else ("a", "b"))
        g = f"d{self.values[line.output].name}"
        parts = dict(re.findall(r"(?:^|[,;] )d(\w+) = (.*?)(?=[,;] d\w+ = |$)", line.gradient))
        told = []
        for c in answer.gave:
            name = f"d{self.values[line.inputs[c.input]].name}"
            key = keys[c.input] if c.input < len(keys) else "x"
            text = parts.get(key) or (line.gradient if not parts else "")
            told.append(f"{name} = {self._words(text, line, {'g': g})}")
        return ", ".join(told)

    # ---- text ----

    def __str__(self) -> str:
        """The listing: forward lines, at their right the backward lines that answer, the source."""
        return self.listing()

    def summary(self) -> str:
        """One sentence with the sums."""
        count = {p: sum(1 for x in self.lines if x.phase == p) for p in ("forward", "backward")}
        update = len(self.lines) - sum(count.values())
        flops = sum(x.flops for x in self.lines)
        return (
            f"{len(self.lines)} lines: {count['forward']} forward, {count['backward']} backward, "
            f"{update} update; {flops:,.0f} FLOP, "
            f"{sum(x.bytes for x in self.lines):,.0f} bytes read and written, "
            f"{self.saved_bytes():,} bytes saved for backward, {self.memory:,} bytes of memory"
        )

    def _head(self) -> list[str]:
        head = [self.summary()]
        if self.stopped:
            head.append(f"stopped early: {self.stopped}")
        if not self.lines:
            head.append("the function ran no op of wengert; there is nothing to study")
        elif not self.roots:
            head.append("no backward() was called: call loss.backward() in the function to see it")
        return [*head, *self.notes]

    def left(self, line: Line) -> str:
        """`h: float32[100, 5] = sigmoid(z1)`"""
        call = self.call(line)
        if line.output is None:
            return call
        value = self.values[line.output]
        return f"{value.name}: {value.type} {'<-' if line.edited else '='} {call}"

    def listing(self, width: int = 62) -> str:
        """The text of str(program), each half at most `width` characters wide."""
        rows: list[tuple[str, str, str]] = []
        shown: set[int] = set()
        for line in self.lines:
            if line.phase != "forward":
                continue
            right = []
            for answer in self.answers_to(line):
                if formula := self.vjp_formula(answer):
                    right.append(f"   {formula}")
                for n in range(answer.first, answer.last + 1):
                    shown.add(n)
                    back = self.lines[n - 1]
                    assert back.output is not None
                    made = self.values[back.output].name
                    right.append(f"{n:4} {made} = {self.expression(back)}")
            left = [f"{line.number:4} {self.left(line)}"]
            expression = self.expression(line)
            if expression != self.call(line):
                left.append(f"     {expression}")
            source = f"{_short(line.place)}  {line.code}" if line.place else ""
            for i in range(max(len(left), len(right))):
                a = left[i] if i < len(left) else ""
                b = right[i] if i < len(right) else ""
                rows.append((a, b, source if i == 0 else ""))
        rest = [x for x in self.lines if x.phase != "forward" and x.number not in shown]
        for line in rest:
            source = f"{_short(line.place)}  {line.code}" if line.place else ""
            text = f"{line.number:4} {self.left(line)}"
            row = ("", text, source) if line.phase == "backward" else (text, "", source)
            rows.append(row)
        table = [("   # forward", "   # backward, beside the line it answers", "source"), *rows]
        a_width = min(width, max(len(a) for a, _, _ in table))
        b_width = min(width, max(len(b) for _, b, _ in table))
        body = [
            f"{_cut(a, a_width)}  {_cut(b, b_width)}  {source}".rstrip() for a, b, source in table
        ]
        return "\n".join([*self._head(), *body])

    def saved_bytes(self) -> int:
        """Bytes that the list itself made and that lines kept for backward, each memory once."""
        seen: dict[int, int] = {}
        for line in self.lines:
            for v in line.saved:
                value = self.values[v]
                if not value.outside:
                    seen[value.memory] = max(seen.get(value.memory, 0), value.bytes)
        return sum(seen.values())

    def measure(self, repeats: int = 5) -> Program:
        """Sets every line's `seconds`: the shortest of so many replays. Returns self."""
        from .run import Run

        best = [float("inf")] * len(self.lines)
        run = Run(self)
        for _ in range(max(1, repeats)):
            best = [min(a, b) for a, b in zip(best, run.replica.run_all(), strict=True)]
        for line, seconds in zip(self.lines, best, strict=True):
            line.seconds = seconds
        self._timed = True
        return self

    def per_layer(self) -> dict[str, dict[str, float]]:
        """Sums for each layer ("" is what belongs to none): forward and backward FLOPs, bytes,
        seconds, saved bytes; measured first where that has not been done.
        """
        self._ensure_times()
        sums: dict[str, dict[str, float]] = {}
        for line in self.lines:
            layer = "(optimizer)" if line.phase == "update" else line.layer
            row = sums.setdefault(
                layer,
                {f"{p} {w}": 0.0 for p in ("forward", "backward", "update")
                 for w in ("flops", "bytes", "seconds")} | {"saved bytes": 0.0},
            )  # fmt: skip
            row[f"{line.phase} flops"] += line.flops
            row[f"{line.phase} bytes"] += line.bytes
            row[f"{line.phase} seconds"] += line.seconds
            row["saved bytes"] += sum(
                self.values[v].bytes for v in line.saved if not self.values[v].outside
            )
        return sums

    def _ensure_times(self) -> None:
        if not self._timed and self._core is not None:
            self.measure()

    def unexplained(self) -> list[tuple[Line, float]]:
        """Lines whose time is more than three times what their FLOPs and bytes explain, and the
        ratio, worst first. The yardstick is this list: its best FLOP/s and byte/s and the median
        time of its smallest lines, as the cost of starting an op.
        """
        self._ensure_times()
        timed = [x for x in self.lines if x.seconds > 0]
        if not timed:
            return []
        start = sorted(
            x.seconds for x in sorted(timed, key=lambda x: x.bytes)[: len(timed) // 4 + 1]
        )
        overhead = start[len(start) // 2]
        rate = max((x.flops / x.seconds for x in timed), default=1.0) or 1.0
        bandwidth = max((x.bytes / x.seconds for x in timed), default=1.0) or 1.0
        total = sum(x.seconds for x in timed)
        found = []
        for x in timed:
            explained = overhead + max(x.flops / rate, x.bytes / bandwidth)
            if x.seconds > 3 * explained and x.seconds > 0.01 * total:
                found.append((x, x.seconds / explained))
        return sorted(found, key=lambda p: -p[1])

    def costs(self) -> str:
        """FLOPs, bytes, intensity, saved bytes and until when, and time of each line; then sums."""
        self._ensure_times()
        rows = [("   #", "value", "op", "FLOP", "bytes", "FLOP/B", "saved", "until", "µs")]
        for x in self.lines:
            made = self.values[x.output].name if x.output is not None else ""
            saved = sum(self.values[v].bytes for v in x.saved if not self.values[v].outside)
            rows.append(
                (f"{x.number:4}", made, x.op, f"{x.flops:,.0f}", f"{x.bytes:,.0f}",
                 f"{x.intensity:.2f}", f"{saved:,}" if x.saved else "",
                 str(x.kept_until) if x.kept_until else "", f"{x.seconds * 1e6:.1f}")
            )  # fmt: skip
        text = [*self._head(), *_columns(rows, left=3), "", "sums per layer"]
        layers = [("layer", "forward FLOP", "backward FLOP", "bytes", "saved", "forward µs",
                   "backward µs", "update µs")]  # fmt: skip
        total = [0.0] * 7
        for layer, s in self.per_layer().items():
            row = [s["forward flops"], s["backward flops"],
                   s["forward bytes"] + s["backward bytes"] + s["update bytes"], s["saved bytes"],
                   s["forward seconds"] * 1e6, s["backward seconds"] * 1e6,
                   s["update seconds"] * 1e6]  # fmt: skip
            total = [a + b for a, b in zip(total, row, strict=True)]
            layers.append((layer or "(none)", *(f"{n:,.0f}" for n in row)))  # type: ignore[arg-type]
        layers.append(("in all", *(f"{n:,.0f}" for n in total)))  # type: ignore[arg-type]
        text += _columns(layers, left=1)
        for x, ratio in self.unexplained()[:5]:
            text.append(
                f"line {x.number}, {self.call(x)}: {x.seconds * 1e6:.0f} µs, {ratio:.1f} times "
                "what its FLOPs and bytes explain"
            )
        return "\n".join(text)

    # ---- doing ----

    def with_fault(self, line: int, op: str, inputs: Iterable[str | int] | None = None) -> Program:
        """The same program with another op (or other operands) in one line's place: a planted
        fault.

        The shape and dtype must stay; ShapeError or DTypeError where they would not.
        """
        at = self.line(line)
        operands = [self.value(v).number for v in inputs] if inputs is not None else at.inputs
        wrong = self._copy()
        wrong.faults = {**self.faults, line: (op, list(operands))}
        wrong.run()  # refuses what does not fit
        return wrong

    def double(self) -> Program:
        """The same list, run in float64 from the same numbers: `wengert.diff(p, p.double())`."""
        other = self._copy()
        other.wide = True
        return other

    def _copy(self) -> Program:
        other = Program(
            self.lines, self.values, self.answers, self.roots, self.leaf_gradients, self.results,
            self.notes, self.stopped, self.memory,
        )  # fmt: skip
        other._core, other._timed = self._core, self._timed
        other.faults, other.wide = self.faults, self.wide
        return other

    def run(self, wide: bool = False) -> Run:
        """A private copy of the memory, to run the lines on; in float64 throughout if `wide`."""
        from .run import Run

        return Run(self, wide or self.wide)

    def stepper(self) -> Stepper:
        """Runs the list line by line, forward and back; see wengert.study.stepper."""
        from .stepper import Stepper

        return Stepper(self)

    def check(self, **options: Any) -> Checks:
        """Every vjp against central differences in float64; see wengert.study.check.check."""
        from .check import check

        return check(self, **options)

    def first_bad(self) -> Bad | None:
        """The first line whose result has a NaN or an infinity; None where there is none."""
        from .check import first_bad

        return first_bad(self)

    def gradients(self) -> dict[str, Array]:
        """The `.grad` that each leaf was left with, by the leaf's name (a replay, in NumPy)."""
        run = self.run()
        run.to_end()
        return {
            self.values[leaf].name: run.array(after)
            for leaf, _, after in self.leaf_gradients
            if leaf >= 0 and after >= 0
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The list as JSON; see wengert.study.schema for the fields. Written to `path` if given."""
        from .schema import to_json

        return to_json(self, path)

    def to_dot(self) -> str:
        """The list as a Graphviz graph: who feeds whom, and which answers which."""
        from .schema import to_dot

        return to_dot(self)

    def to_numpy(self, path: str | Path | None = None) -> str:
        """Forward and backward as plain NumPy that runs by itself; see wengert.study.numpy_code."""
        from .numpy_code import to_numpy

        return to_numpy(self, path)

    def to_html(self, path: str | Path, steps: Iterable[Program] = (), title: str = "") -> Path:
        """One self-contained page; see wengert.study.page."""
        from .page import to_html

        return to_html([self, *steps], path, title)


def _swaps_last(axes: str) -> bool:
    order = [int(n) for n in re.findall(r"\d+", axes)]
    n = len(order)
    return n >= 2 and order == [*range(n - 2), n - 1, n - 2]


def _short(place: str | None) -> str:
    if not place:
        return "an unknown place"
    path, _, line = place.rpartition(":")
    return f"{Path(path).name}:{line}"


def _source(place: str | None) -> str:
    if not place:
        return ""
    path, _, line = place.rpartition(":")
    return linecache.getline(path, int(line)).strip() if line.isdigit() else ""


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _columns(rows: list[Any], left: int) -> list[str]:
    """Rows of text as columns; the first `left` of them flush left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


__all__ = ["Answer", "Contribution", "Line", "Program", "StudyError", "Value"]
