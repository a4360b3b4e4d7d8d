"""Checks of a traced step: its gradients, its first bad number, and where two runs part.

check      three kinds of rows, each at the very values of the step, in float64:
           vjp        one line and the lines that answer it:   u . (f(x + h v) - f(x - h v)) / 2h
                      against   (what the answering lines make of u) . v   for random u, v
           sum        the gradient that a line was given is the sum of the contributions to it,
                      bit by bit
           gradient   the gradient that reached a leaf against differences through the whole list:
                      here a gradient that was lost on the way shows (a detach, an edit in place)
first_bad  the first line, forward or backward, whose result has a NaN or an infinity
diff       the first line where two runs part, in units in the last place
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import _core, _shown
from .list import Answer, Contribution, Line, StudyError, WengertList, ops, short
from .run import Array, Run
from .text import call, columns, head

STEP = 1e-6  # of a difference, relative to the element
EPS = float(np.finfo(np.float64).eps)


@dataclass
class Row:
    """One comparison. `error` is relative to the sum of the absolute values of the terms."""

    kind: str
    line: int  # 0 for a leaf
    name: str
    error: float
    allowed: float
    note: str = ""
    left_out: int = 0  # outputs at a kink

    @property
    def ok(self) -> bool:
        """Whether both sides agree."""
        return self.error <= self.allowed


@dataclass
class Checks:
    """What `check` found, worst first. True where all agree; str() is a table."""

    rows: list[Row]
    program: WengertList = field(repr=False)

    def __bool__(self) -> bool:
        """Whether every row agrees."""
        return not self.bad

    @property
    def bad(self) -> list[Row]:
        """The rows that disagree."""
        return [row for row in self.rows if not row.ok]

    @property
    def lines(self) -> list[int]:
        """The numbers of the lines that disagree."""
        return sorted({row.line for row in self.bad if row.line})

    def __str__(self) -> str:
        """The table, worst first."""
        if not self.rows:
            return self._first()
        table = self._table()[: 1 + max(20, len(self.bad))]
        text = [self._first(), *(f"{row}" for row in columns(table, left=3))]
        if len(self.rows) > len(table) - 1:
            text.append(f"and {len(self.rows) - len(table) + 1} more, with smaller errors")
        return "\n".join(text)

    def _repr_html_(self) -> str:
        """For notebooks."""
        if not self.rows:
            return _shown.block(self._first())
        first, *rows = self._table()
        return _shown.block(
            self._first(), _shown.table(first, rows, left=3, rest=", with smaller errors")
        )

    def _first(self) -> str:
        """What was checked, in a sentence."""
        if not self.rows:
            return "nothing to check: " + "; ".join(head(self.program)[1:] or ["no gradients"])
        count = {k: sum(r.kind == k for r in self.rows) for k in ("vjp", "sum", "gradient")}
        return (
            f"{count['vjp']} vjps, {count['sum']} sums and {count['gradient']} gradients checked; "
            f"{f'{len(self.bad)} disagree' if self.bad else 'all agree'}"
        )

    def _table(self) -> list[Any]:
        table: list[Any] = [("", "line", "what", "error", "allowed", "")]
        for row in self.rows:
            table.append(
                ("" if row.ok else "WRONG", str(row.line or ""), f"{row.kind} {row.name}",
                 f"{row.error:.1e}", f"{row.allowed:.1e}", row.note)
            )  # fmt: skip
        return table


def check(program: WengertList, *, tolerance: float = 1e-6, seed: int = 0) -> Checks:
    """Every vjp, sum and gradient of the step; see this module's text.

    tolerance  relative; gradients through the whole list, which may pass kinks, get 100 times that.

    Outputs at a kink of their op (relu at 0), where one-sided differences differ, are left out, and
    the row says how many. Works on a copy: nothing of the user's changes.
    """
    with np.errstate(all="ignore"):  # a NaN or an infinity is a row that disagrees
        rows = _Check(program, tolerance, seed).rows()
    rows.sort(key=lambda r: (r.ok, -(r.error / r.allowed if r.allowed else r.error)))
    return Checks(rows, program)


class _Check:
    """One call of check: the program, a wide run of it, and the rows."""

    def __init__(self, program: WengertList, tolerance: float, seed: int) -> None:
        self.program, self.tolerance = program, tolerance
        self.random = np.random.default_rng(seed)

    def rows(self) -> list[Row]:
        program = self.program
        rows: list[Row] = []
        wide = Run(program, wide=True)
        for line in program.lines:
            wide.to(line.number - 1)
            for answer in program.answers_to(line):
                rows += self._vjp(wide, line, answer)
        rows += self._sums()
        rows += self._gradients()
        return rows

    # ---- one line ----

    def _vjp(self, wide: Run, line: Line, answer: Answer) -> list[Row]:
        replica = wide.replica
        inputs = [_widened(replica.value(v)) for v in line.inputs]

        def forward(given: list[Any]) -> Array:
            out: Array = replica.evaluate(line.number - 1, given)[0].numpy()
            return np.array(out)

        outputs = replica.evaluate(line.number - 1, inputs)
        middle = np.array(outputs[0].numpy())
        u = self.random.standard_normal(middle.shape)
        rows = []
        for c in answer.gave:
            name = f"{line.op}, d{self.program.values[line.inputs[c.input]].name}"
            if line.op not in ops() and line.inputs.count(line.inputs[c.input]) > 1:
                # Its function has one tensor by two names, so they cannot be moved apart.
                note = "one tensor given twice: not checked"
                rows.append(Row("vjp", line.number, name, 0.0, self.tolerance, note))
                continue
            x = np.array(inputs[c.input].numpy())
            rms = _rms(x)
            scale = np.maximum(np.abs(x), 1e-3 * rms) if rms > 0 else np.ones_like(x)
            v = self._moved(line.inputs[c.input], scale)
            best: Row | None = None
            for growth in (1.0, 1e3, 1e6):  # tiny operands of a large result drown in its rounding
                sides = []
                for sign in (1.0, -1.0):
                    # One operand may stand in several places (x * x): one at a time is moved.
                    moved = list(inputs)
                    moved[c.input] = _as_tensor(x + sign * STEP * growth * v, inputs[c.input])
                    sides.append(forward(moved))
                row = self._compare(
                    wide, line, answer, c, name, inputs, outputs, u, v * growth, middle, sides
                )
                if best is None or (row.allowed < best.allowed and row.left_out <= best.left_out):
                    best = row
                if best.allowed <= 10 * self.tolerance:
                    break
            assert best is not None
            rows.append(best)
        return rows

    def _moved(self, value: int, scale: Array) -> Array:
        """A random direction; an embedding's row for padding, which gets no gradient, stays."""
        v: Array = self.random.standard_normal(scale.shape) * scale
        for line in self.program.lines:
            padding = line.attributes.get("padding_idx")
            if line.inputs and line.inputs[0] == value and isinstance(padding, int):
                v[padding] = 0
        return v

    def _compare(
        self,
        wide: Run,
        line: Line,
        answer: Answer,
        c: Contribution,
        name: str,
        inputs: list[Any],
        outputs: list[Any],
        u: Array,
        v: Array,
        middle: Array,
        sides: list[Array],
    ) -> Row:
        """The answering lines' gradient along v against the difference of both sides."""
        with np.errstate(all="ignore"):
            up, down = (sides[0] - middle) / STEP, (middle - sides[1]) / STEP
            # What rounding leaves of a result: it may be small among large operands.
            largest = max((_largest(x) for x in inputs), default=0.0)
            size_of = np.abs(middle) + largest
            noise = 8 * EPS * size_of / STEP
            smooth = np.abs(up - down) <= 1e-3 * (np.abs(up) + np.abs(down)) + noise
        smooth &= np.isfinite(up) & np.isfinite(down)
        weights = np.where(smooth, u, 0.0)
        left_out = int((~smooth).sum())
        note = f"{left_out} of {smooth.size} outputs at a kink left out" if left_out else ""
        if smooth.size and not smooth.any():
            note = "every output is at a kink or not finite: not checked"
            return Row("vjp", line.number, name, 0.0, self.tolerance, note, left_out)
        found = self._answer(wide, line, answer, inputs, outputs, weights)
        g = found.get(c.value)
        given = np.array(g.numpy()) if g is not None else wide.array(c.value)
        if given.shape != v.shape:
            note = f"shape {given.shape} for an input of {v.shape}"
            return Row("vjp", line.number, name, np.inf, self.tolerance, note)
        with np.errstate(all="ignore"):
            terms = weights * np.where(smooth, (sides[0] - sides[1]) / (2 * STEP), 0.0)
            mine = given * v
            rounding = float((np.abs(weights) * np.where(smooth, size_of, 0)).sum())
            rounding *= 4 * EPS / STEP
            size = float(np.abs(terms).sum() + np.abs(mine).sum()) / 2
            apart = abs(float(mine.sum()) - float(terms.sum()))
        if not np.isfinite(apart):
            note = note or "a NaN or an infinity"
            return Row("vjp", line.number, name, np.inf, self.tolerance, note, left_out)
        error = apart / size if size > 0 else 0.0
        allowed = self.tolerance + (rounding / size if size > 0 else 0.0)
        return Row("vjp", line.number, name, error, allowed, note, left_out)

    def _answer(
        self, wide: Run, line: Line, answer: Answer, inputs: list[Any], outputs: list[Any], u: Array
    ) -> dict[int, Any]:
        """The answering lines in float64, for the incoming gradient u: value -> tensor."""
        found: dict[int, Any] = {answer.gradient: _as_tensor(u, outputs[0])}
        found |= dict(zip(line.inputs, inputs, strict=True))
        found |= dict(zip(line.outputs, outputs, strict=False))
        found[answer.gradient] = _as_tensor(u, outputs[0])
        for n in range(answer.first, answer.last + 1):
            back = self.program.lines[n - 1]
            operands = [
                found[v] if v in found else wide.replica.value(v)
                for v in self.program.operands(back)
            ]
            made = wide.replica.evaluate(n - 1, operands)
            found |= dict(zip(back.outputs, made, strict=False))
        return found

    # ---- sums ----

    def _sums(self) -> list[Row]:
        """The gradient of a line with several consumers, in the step's own dtype."""
        program = self.program
        run = Run(program)
        waiting: dict[int, list[Array]] = {}
        rows = []
        made_by = {line.output: line.number for line in program.lines if line.recorded}
        roots = list(program.roots)
        for answer in program.answers:
            while roots and roots[0][3] <= answer.number:
                value, gradient, at, _ = roots.pop(0)
                run.to(at)
                if value in made_by:
                    waiting.setdefault(made_by[value], []).append(run.array(gradient))
            run.to(answer.first - 1)
            parts = waiting.pop(answer.line, [])
            if len(parts) > 1:
                arrived = run.array(answer.gradient)
                total = parts[0]
                with np.errstate(all="ignore"):
                    for part in parts[1:]:
                        total = total + part
                line = program.lines[answer.line - 1]
                assert line.output is not None
                equal = total.shape == arrived.shape and np.array_equal(
                    total, arrived, equal_nan=True
                )
                error = 0.0
                if not equal:
                    size = float(np.abs(total).max()) or 1.0
                    error = float(np.abs(total - arrived).max()) / size or 1.0
                rows.append(
                    Row("sum", answer.line, f"d{program.values[line.output].name}", error, 0.0,
                        f"{len(parts)} contributions")
                )  # fmt: skip
            run.to(answer.last)
            for c in answer.gave:
                if c.to_line:
                    waiting.setdefault(c.to_line, []).append(run.array(c.value))
        return rows

    # ---- the whole list ----

    def _walks(self) -> list[tuple[list[tuple[int, int, int, int]], list[Answer]]]:
        """(roots, answers) of each backward."""
        walks: list[tuple[list[tuple[int, int, int, int]], list[Answer]]] = []
        roots = self.program.roots
        for i, root in enumerate(roots):
            if walks and walks[-1][0][0][3] == root[3]:
                walks[-1][0].append(root)
            else:
                walks.append(([root], []))
            end = roots[i + 1][3] if i + 1 < len(roots) else len(self.program.answers)
            walks[-1][1].extend(self.program.answers[root[3] : end])
        return walks

    def _gradients(self) -> list[Row]:
        program = self.program
        rows = []
        for roots, answers in self._walks():
            start = min(at for _, _, at, _ in roots)
            given = {c.to for a in answers for c in a.gave if c.to_line == 0 and c.to >= 0}
            left = {leaf for leaf, _, after in program.leaf_gradients if after >= 0}
            used = {v for line in program.lines[:start] for v in line.inputs}
            whole = not given or bool(given & left)  # backward(), not grad() of some inputs
            leaves = [
                v.number
                for v in program.values
                if v.leaf and v.number in used and (whole or v.number in given)
            ]
            if not leaves:
                continue
            analytic = self._leaf_gradients(answers, leaves)
            run = Run(program, wide=True)
            moments = {v: self._settled(v, start) for v in leaves}
            values = {}
            for v in sorted(leaves, key=lambda v: moments[v]):
                run.to(moments[v])
                values[v] = run.array(v)
            run.to(start)
            seeds = [run.array(gradient) for _, gradient, _, _ in roots]
            groups = [[v] for v in leaves]
            if len(leaves) * start > 200_000:  # long lists: sixteen random mixtures of the leaves
                groups = [list(part) for part in np.array_split(leaves, 16) if len(part)]
            for group in groups:
                rows.append(
                    self._gradient(run, group, values, moments, analytic, roots, seeds, start)
                )
        return rows

    def _settled(self, leaf: int, start: int) -> int:
        """The last line that wrote to the leaf's memory before a recorded line read it."""
        values, settled = self.program.values, 0
        memory = values[leaf].memory
        for line in self.program.lines[:start]:
            if line.recorded and any(values[v].memory == memory for v in line.inputs):
                break
            if any(values[v].memory == memory for v in (*line.outputs, *line.edited)):
                settled = line.number
        return settled

    def _leaf_gradients(self, answers: list[Answer], leaves: list[int]) -> dict[int, Array]:
        """What the list's own backward lines gave each leaf, in float64."""
        run = Run(self.program, wide=True)
        sums: dict[int, Array] = {}
        for answer in answers:
            run.to(answer.last if answer.last >= answer.first else answer.first - 1)
            for c in answer.gave:
                if c.to_line == 0 and c.to in leaves:
                    part = run.array(c.value)
                    sums[c.to] = sums[c.to] + part if c.to in sums else part
        for leaf, before, after in self.program.leaf_gradients:
            if after < 0 or leaf not in sums or before >= 0 or len(self._walks()) > 1:
                continue
            # What lies in .grad itself, unless a later line (a clip, say) has changed it.
            last = max(
                (x.number for x in self.program.lines if x.phase == "backward"), default=run.done
            )
            run.to(last)
            sums[leaf] = run.array(after)
        return sums

    def _roots_at(
        self,
        run: Run,
        step: float,
        moves: dict[int, Array],
        values: dict[int, Array],
        moments: dict[int, int],
        roots: list[tuple[int, int, int, int]],
        start: int,
    ) -> list[Array]:
        """Where backward began, with the leaves moved by `step` of their moves."""
        run.replica.reset()
        for n in range(start + 1):
            for leaf, move in moves.items():
                if moments[leaf] == n:
                    run.write(leaf, values[leaf] + step * move)
            if n < start:
                run.replica.run(n)
        return [run.array(value) for value, _, _, _ in roots]

    def _gradient(
        self,
        run: Run,
        group: list[int],
        values: dict[int, Array],
        moments: dict[int, int],
        analytic: dict[int, Array],
        roots: list[tuple[int, int, int, int]],
        seeds: list[Array],
        start: int,
    ) -> Row:
        program = self.program
        moves = {
            leaf: self._moved(leaf, np.full_like(values[leaf], _rms(values[leaf]) or 1.0))
            for leaf in group
        }
        error, allowed = np.inf, np.inf
        for growth in (1.0, 1e2, 1e4):
            # Twice, with steps of different lengths: as far as the two differ, neither is exact.
            numeric = []
            for length in (growth, 3 * growth):
                ends = [
                    self._roots_at(run, sign * STEP * length, moves, values, moments, roots, start)
                    for sign in (1.0, -1.0)
                ]
                terms = [
                    s * (a - b) / (2 * STEP * length)
                    for s, a, b in zip(seeds, ends[0], ends[1], strict=True)
                ]
                numeric.append(float(sum(t.sum() for t in terms)))
            mine = [analytic[v] * moves[v] for v in group if v in analytic]
            size = max(
                sum(float(np.abs(m).sum()) for m in mine),
                sum(float(np.abs(t).sum()) for t in terms),
            )
            apart = abs(float(sum(m.sum() for m in mine)) - numeric[0])
            unsure = 2 * abs(numeric[0] - numeric[1])
            unsure += sum(
                float((np.abs(s) * np.abs(a)).sum()) for s, a in zip(seeds, ends[0], strict=True)
            ) * (64 * EPS / STEP / growth)
            if not np.isfinite(apart):
                error, allowed = np.inf, 100 * self.tolerance
                break
            allows = 100 * self.tolerance + (unsure / size if size > 0 else 0.0)
            if allows < allowed:
                allowed, error = allows, apart / size if size > 0 else 0.0
            if allowed <= 200 * self.tolerance:
                break
        name = ", ".join(program.values[v].name for v in group[:3]) + (
            f" and {len(group) - 3} more" if len(group) > 3 else ""
        )
        missing = [program.values[v].name for v in group if v not in analytic]
        note = f"no gradient came to {', '.join(missing)}" if missing and error else ""
        if allowed > 0.1:
            note = "the differences are too coarse here to tell"
        return Row("gradient", 0, f"d{name}", error, allowed, note)


def _largest(x: Any) -> float:
    if not x.dtype.is_floating_point:
        return 0.0
    array = x.detach().numpy()
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _rms(x: Array) -> float:
    finite = x[np.isfinite(x)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def _widened(x: Any) -> Any:
    return _core._copy_like(x, "float64" if x.dtype.is_floating_point else x.dtype)


def _as_tensor(array: Array, like: Any) -> Any:
    """A tensor of that value which lies as `like` does, so that the same views can be taken."""
    given = _core.tensor(np.ascontiguousarray(array, np.float64).reshape(array.shape))
    if 0 in _strides(like):  # repeated elements, which now differ
        return given
    x = _core._copy_like(like, "float64")
    return x.copy_(given)


def _strides(x: Any) -> list[int]:
    strides = x.detach().numpy().strides
    return [s for s, n in zip(strides, x.shape, strict=True) if n > 1]


# ---- the first bad number


@dataclass
class Bad:
    """Where the first NaN or infinity is. str() is the sentence that training stops with."""

    line: Line | None  # None: it came from outside
    name: str
    what: str  # "NaN" or "infinity"
    count: int
    element: tuple[int, ...]
    operands: list[str]
    text: str

    def __str__(self) -> str:
        """What happened, where, from which operands."""
        return self.text

    def _repr_html_(self) -> str:
        """For notebooks."""
        return _shown.block(f"the first {self.what}", _shown.pre(self.text.replace("; ", ";\n")))


def ranges(name: str, array: Array) -> str:
    """`z1 from -3.2 to 8.1`, and how many elements are not finite."""
    if array.dtype.kind != "f":
        return f"{name} ({array.dtype})"
    finite = array[np.isfinite(array)]
    text = f"{name} from {finite.min():.4g} to {finite.max():.4g}" if finite.size else name
    bad = array.size - finite.size
    return text + (f" with {bad} not finite" if bad else "")


def _bad_element(array: Array) -> tuple[str, int, tuple[int, ...]] | None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return None
    wrong = ~np.isfinite(array)
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return ("NaN" if np.isnan(array[at]) else "infinity"), int(wrong.sum()), at


def first_bad(program: WengertList) -> Bad | None:
    """The first line, in the order of the list, whose result has a NaN or an infinity."""
    run = Run(program)
    seen: set[int] = set()
    for line in program.lines:
        for v in line.inputs:
            value = program.values[v]
            if v in seen or not value.outside or value.dtype not in ("float32", "float64"):
                continue
            seen.add(v)
            if found := _bad_element(run.array(v)):
                what, count, at = found
                return Bad(
                    None, value.name, what, count, at, [],
                    f"the first NaN or infinity came from outside: {value.name} "
                    f"({value.type}) holds {what} at {at}; clean it before the step",
                )  # fmt: skip
        operands = (
            [ranges(program.values[v].name, run.array(v)) for v in line.inputs[:4]]
            if (line.edited)
            else []
        )  # an edit overwrites what it read
        run.forward()
        for v in line.outputs or line.edited:
            if not (found := _bad_element(run.array(v))):
                continue
            what, count, at = found
            operands = operands or [
                ranges(program.values[i].name, run.array(i)) for i in line.inputs[:4]
            ]
            where = f"at {short(line.place)}"
            if line.answer is not None:
                asked = program.lines[program.answers[line.answer].line - 1]
                where = f"in the gradient of '{asked.op}', which stands at {short(asked.place)}"
            text = (
                f"the first NaN or infinity: made by '{program.op(line)}' {where}, "
                f"line {line.number}: {program.values[v].name} holds {what} at {at} ({count} of "
                f"{max(1, program.values[v].bytes // run.array(v).itemsize)} elements)"
            )
            if operands:
                text += f"; its operands: {', '.join(operands)}"
            return Bad(line, program.values[v].name, what, count, at, operands, text)
    return None


# ---- two runs


@dataclass
class Difference:
    """Where two runs part. True where they do; `rows` has (line, name, ulps) of every line."""

    line: int
    name: str
    ulps: float
    rows: list[tuple[int, str, float]]
    text: str

    def __bool__(self) -> bool:
        """Whether there is a difference."""
        return self.line > 0

    def __str__(self) -> str:
        """The sentence, and the lines where the difference grows."""
        grown, largest = [self.text], 0.0
        for line, name, ulps in self.rows:
            if ulps > 2 * largest and ulps > 0:
                largest = ulps
                grown.append(f"  line {line:4}  {name}: {ulps:,.0f} ulp")
        return "\n".join(grown)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return _shown.block("two runs", _shown.pre(str(self)))


def ulps(a: Array, b: Array) -> float:
    """The largest distance in units in the last place, of float32 if one of them is float32."""
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return 0.0 if np.array_equal(a, b) else float("inf")
    kind = np.float32 if np.float32 in (a.dtype, b.dtype) else np.float64
    size, lowest = (np.int32, 31) if kind == np.float32 else (np.int64, 63)
    with np.errstate(all="ignore"):
        x, y = np.ascontiguousarray(a, kind), np.ascontiguousarray(b, kind)
    if x.size == 0:
        return 0.0
    both = np.isnan(x) & np.isnan(y)
    if (np.isnan(x) ^ np.isnan(y)).any():
        return float("inf")

    def ordered(v: Array) -> Array:
        bits = v.view(size).astype(np.int64)
        return np.where(bits < 0, -(bits & (2**lowest - 1)), bits)

    apart = np.abs(ordered(x).astype(np.float64) - ordered(y).astype(np.float64))
    return float(np.where(both, 0, apart).max())


def diff(a: WengertList, b: WengertList, *, allowed: float | None = None) -> Difference:
    """The first line where the results of two programs differ by more than `allowed` ulp.

    Both must have the same ops in the same order; where that ends, the lists part. allowed: 0, or 4
    where one of the two runs in another dtype (`wengert.study.diff(p, p.double())`).
    """
    for p in (a, b):
        if not isinstance(p, WengertList):
            raise TypeError(f"diff: got {type(p).__name__}; expected what wengert.trace returns")
    if allowed is None:
        kinds = [{v.dtype for v in p.values} | ({"wide"} if p.wide else set()) for p in (a, b)]
        allowed = 0.0 if kinds[0] == kinds[1] else 4.0
    runs = Run(a), Run(b)
    rows: list[tuple[int, str, float]] = []
    first: tuple[int, str, float] | None = None
    for x, y in zip(a.lines, b.lines, strict=False):
        if x.op != y.op or len(x.outputs) != len(y.outputs):
            text = (
                f"the lists part at line {x.number}: {call(a, x)} ({short(x.place)}) here, "
                f"{call(b, y)} ({short(y.place)}) there"
            )
            return Difference(x.number, call(a, x), float("inf"), rows, text)
        for run in runs:
            run.forward()
        pairs = zip(x.outputs or x.edited, y.outputs or y.edited, strict=True)
        apart, name = max(
            ((ulps(runs[0].array(v), runs[1].array(w)), a.values[v].name) for v, w in pairs),
            default=(0.0, ""),
        )
        rows.append((x.number, name, apart))
        if first is None and apart > allowed:
            first = (x.number, name, apart)
    if len(a) != len(b):
        n = min(len(a), len(b))
        return Difference(
            n + 1, "", float("inf"), rows,
            f"the first {n} lines have the same ops; then one list ends ({len(a)} and {len(b)})",
        )  # fmt: skip
    if first is None:
        most = max((u for _, _, u in rows), default=0.0)
        return Difference(
            0, "", most, rows, f"no difference above {allowed:g} ulp in {len(a)} lines"
        )
    line, name, apart = first
    text = (
        f"the runs part at line {line}, {name} = {call(a, a.line(line))} "
        f"({short(a.line(line).place)}): {apart:,.0f} ulp"
    )
    return Difference(line, name, apart, rows, text)


__all__ = ["Bad", "Checks", "Difference", "Row", "StudyError", "check", "diff", "first_bad", "ulps"]
