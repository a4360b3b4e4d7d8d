"""The page: a program, or the same step at several times of a training, as one file for a browser.

page.html beside this file is the page itself, hand-written; here its data are made: each line's
words and costs, and for each result statistics, a histogram and a map of at most so many cells,
sampled evenly where the value is larger. The number of cells shrinks with the length of the list,
so that the file stays bounded; the page states it. A short list of simple ops also carries its
inputs, so that the page can run it again after an edit.
"""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core, _shown
from ..io import write_text
from .costs import ensure_times
from .list import Line, StudyError, WengertList, ops, short
from .run import Array, Run, gradients, statistics
from .text import expression, head, left, vjp_formula

CELLS = 1_200_000  # of all maps together, about a byte each
LARGEST, SMALLEST = 48, 8  # cells along a side of a map
MAX_LINES = 20_000
INLINE, INLINE_CELLS = 2_000, CELLS // 8  # of a page in a notebook, which keeps it
EDITABLE = 40_000  # elements of all values of a page that can run its list again

# The ops that page.html can run, besides those that write JavaScript themselves.
_RUNS = {
    "matmul", "sum", "mean", "max", "min", "full", "permute", "reshape", "expand", "copy", "cast",
    "softmax", "log_softmax", "logsumexp", "cross_entropy", "softmax_vjp", "log_softmax_vjp",
    "cross_entropy_vjp",
}  # fmt: skip


def to_html(programs: Sequence[WengertList], path: str | Path, title: str = "") -> Path:
    """Writes the page; returns its path.

    programs: one, or the same step traced at several times of a training, in order: then the page
    has a second slider, over these, and a chart of every parameter's gradient.
    Raises StudyError where a list is longer than the page can show, or the lists differ.
    """
    write_text(path, text(programs, title))
    return Path(path)


def inline(program: WengertList) -> str:
    """For notebooks: the page in a frame; its words where there can be no page."""
    if not program.lines or program.core is None or len(program) > INLINE or _core._is_tracing():
        shown, rest = program.lines[: _shown.ROWS], len(program) - _shown.ROWS
        words = [
            *head(program),
            *(f"{x.number:4}  {left(program, x)} {expression(program, x)}" for x in shown),
        ]
        words += [f"and {rest:,} more: print(program), or program.to_html(path)"] * (rest > 0)
        return _shown.pre("\n".join(words))
    page = html.escape(text([program], cells=INLINE_CELLS))
    style = "width:100%;height:600px;border:1px solid #8886;box-sizing:border-box;resize:vertical"
    # Scripts of the page reach nothing of the notebook.
    return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'


def text(programs: Sequence[WengertList], title: str = "", cells: int = CELLS) -> str:
    """The page; see to_html."""
    program = programs[0]
    if len(program) > MAX_LINES:
        raise StudyError(
            f"study: {len(program):,} lines are too many for a page, which shows up to "
            f"{MAX_LINES:,}; trace one step, or print(program), which has no limit"
        )
    if not program.lines:
        raise StudyError("study: the list is empty: the function ran no op of wengert")
    for other in programs[1:]:
        if [x.op for x in other.lines] != [x.op for x in program.lines]:
            raise StudyError(
                "study: the programs of a page over steps must be of the same step: they have "
                "different ops; trace them all after the optimizer has made its state"
            )
    ensure_times(program)
    side = _side(sum(len(p) for p in programs), cells)
    steps = [_captures(p, side) for p in programs]
    data: dict[str, Any] = {
        "title": title or "A Wengert list",
        "summary": head(program),
        "side": side,
        "lines": [_line(program, x) for x in program.lines],
        "values": [[v.name, list(v.shape), v.dtype, v.also, int(v.leaf)] for v in program.values],
        "steps": steps,
        "order": _rows(program),
        "gradients": _gradients(programs),
        **_sent(program),
        "run": _runnable(program) if len(programs) == 1 else None,
    }
    # No "<": neither the end of the element nor a comment can begin in the data.
    data_text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "TITLE": html.escape(data["title"]),
        "DATA_HERE": data_text,
        "FORMULAS_HERE": _formulas(program),
    }
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    return re.sub("|".join(parts), lambda place: parts[place[0]], page)


def _side(captures: int, cells: int) -> int:
    """Cells along a side of a map, for so many of them."""
    return int(min(LARGEST, max(SMALLEST, (cells / max(1, captures)) ** 0.5)))


def _line(program: WengertList, x: Line) -> dict[str, Any]:
    text = expression(program, x)
    d: dict[str, Any] = {
        "op": x.op,
        "in": x.inputs[:16],
        "out": x.outputs[:1] or x.edited[:1],
        "made": int(bool(x.outputs)),
        "edit": int(bool(x.edited)),
        "phase": x.phase[0],
        "text": text if len(text) < 160 else text[:159] + "…",
        "layer": x.layer,
        "cost": [x.flops, x.bytes, round(x.seconds * 1e6, 2)],
        "saved": [sum(program.values[v].bytes for v in x.saved), x.kept_until],
        "at": f"{short(x.place)}" if x.place else "",
        "code": x.code[:160],
        "formula": x.formula,
    }
    if x.attributes:
        d["attr"] = {k: _finite(v) for k, v in x.attributes.items()}
    if x.answer is not None:
        d["answer"] = program.answers[x.answer].line
    vjps = [vjp_formula(program, a) for a in program.answers_to(x)]
    if any(vjps):
        d["vjp"] = "; ".join(v for v in vjps if v)
    answers = program.answers_to(x)
    if answers:
        d["g"] = answers[0].gradient
        d["back"] = [answers[0].first, answers[0].last]
    return d


def _rows(program: WengertList) -> list[list[Any]]:
    """[forward line or 0, [backward lines]]: what stands beside what, top to bottom."""
    beside: dict[int, list[int]] = {}
    made_by: dict[int, int] = {}
    for x in program.lines:
        if x.phase == "forward" and x.output is not None:
            made_by.setdefault(x.output, x.number)
    target: dict[int, int] = {}
    for answer in program.answers:
        target.setdefault(answer.gradient, answer.line)
        for c in answer.gave:
            target.setdefault(c.value, c.to_line or answer.line)
    for value, gradient, _, _ in program.roots:
        target[gradient] = made_by.get(value, 0)
    rest = []
    for x in program.lines:
        if x.phase == "forward":
            continue
        home = program.answers[x.answer].line if x.answer is not None else 0
        if not home and x.phase == "backward" and x.output is not None:
            home = target.get(x.output, 0)
        if home:
            beside.setdefault(home, []).append(x.number)
        else:
            rest.append(x.number)
    rows: list[list[Any]] = [
        [x.number, beside.get(x.number, [])] for x in program.lines if x.phase == "forward"
    ]
    shown = {x.number for x in program.lines if x.phase == "forward"}
    for home, lines in beside.items():  # of a backward that was itself differentiated
        if home not in shown:
            rest += [home, *lines]
    done: set[int] = set()
    for n in sorted(set(rest)):
        if n not in done:
            rows.append([n, []] if program.lines[n - 1].phase == "update" else [0, [n]])
    return rows


def _captures(program: WengertList, side: int) -> dict[str, Any]:
    """Of every line's result as it was made, and of every value from outside before the step."""
    run = Run(program)
    outside = {}
    for value in program.values:
        if value.outside and value.line == 0:
            outside[value.number] = capture(run.array(value.number), side)
    made = []
    for x in program.lines:
        run.forward()
        shown = x.outputs[:1] or x.edited[:1]
        made.append(capture(run.array(shown[0]), side) if shown else None)
    return {"outside": outside, "made": made}


def capture(array: Array, side: int) -> list[Any]:
    """[min, max, mean, std, zeros, bad, histogram, rows, columns, sampled, cells in base64].

    Cells are bytes: 0 to 253 from min to max, 254 infinity, 255 NaN.
    """
    s = statistics(array, bins=20)
    table = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    rows = np.unique(
        np.linspace(0, max(table.shape[0] - 1, 0), min(side, table.shape[0] or 1)).astype(int)
    )
    columns = np.unique(
        np.linspace(0, max(table.shape[1] - 1, 0), min(side, table.shape[1] or 1)).astype(int)
    )
    if table.size == 0:
        return [None, None, None, None, 0, 0, [], 0, 0, 0, ""]
    sample = table[np.ix_(rows, columns)].astype(np.float64)
    low, high = s["min"], s["max"]
    cells = np.full(sample.shape, 255, np.uint8)
    cells[np.isinf(sample)] = 254
    finite = np.isfinite(sample)
    if low is not None:
        # Halves, since the range of the largest numbers overflows.
        span = (high / 2 - low / 2) or 1.0
        cells[finite] = np.rint((sample[finite] / 2 - low / 2) / span * 253).astype(np.uint8)
    numbers = [_short_float(s[k]) for k in ("min", "max", "mean", "std")]
    sampled = int(sample.size < table.size)
    return [
        *numbers, s["zeros"], s["bad"], s.get("histogram", []), len(rows), len(columns), sampled,
        base64.b64encode(cells.tobytes()).decode(),
    ]  # fmt: skip


def _short_float(x: float | None) -> float | None:
    return None if x is None else float(f"{x:.6g}")


def _gradients(programs: Sequence[WengertList]) -> list[Any]:
    """For the chart over steps: each leaf's name, and root mean square of its gradient at each
    step."""
    if len(programs) < 2:
        return []
    rows: dict[str, list[float | None]] = {}
    for i, p in enumerate(programs):
        for name, g in gradients(p).items():
            x = g.astype(np.float64)
            with np.errstate(all="ignore"):
                size = float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0
            rows.setdefault(name, [None] * len(programs))[i] = size if np.isfinite(size) else None
    return [[name, values] for name, values in rows.items()]


def _sent(program: WengertList) -> dict[str, Any]:
    """Of the buckets of gradients in the last step of a `parallel.DataParallel`: "sent", a row for
    each: [line that starts, line that waits, bytes, seconds on the way, seconds waited, share
    hidden]; and "sent_all", the last four of all, None if there is no bucket."""
    exchange = sys.modules.get("wengert.parallel.exchange")  # without it nothing was sent
    found = exchange.sent_by(program) if exchange is not None else []

    def told(*sent: Any) -> list[float]:
        sums = [sum(getattr(one, of) for one in sent) for of in ("bytes", "seconds", "waiting")]
        return [*sums, sent[0].hidden(sent)]

    return {
        "sent": [[start, wait, *told(one)] for start, wait, one in found],
        "sent_all": told(*(one for _, _, one in found)) if found else None,
    }


def _finite(x: Any) -> Any:
    """x as JSON, which has no infinities, takes it; JavaScript's Number() reads these words."""
    if not isinstance(x, float) or np.isfinite(x):
        return x
    return str(x).replace("inf", "Infinity").replace("nan", "NaN")


def _formulas(program: WengertList) -> str:
    """The elementwise ops of a list as an object of JavaScript functions, by the op's name."""
    text = []
    for name in dict.fromkeys(x.op for x in program.lines):
        if code := ops().get(name, {}).get("javascript"):
            line = next(x for x in program.lines if x.op == name)
            *steps, result = code
            names = ", ".join([*line.operands, *line.attributes])
            before = "".join(f"const {step}; " for step in steps)
            text.append(f"{name}: ({names}) => {{ {before}return {result}; }}")
    return "{" + ",\n  ".join(text) + "}"


def _runnable(program: WengertList) -> dict[str, Any] | None:
    """The inputs, where the page can run the list itself: a short one of ops that it knows."""
    lines = [x for x in program.lines if x.phase != "update"]
    used = {v for x in lines for v in (*x.inputs, *x.outputs)}
    if sum(max(1, int(np.prod(program.values[v].shape))) for v in used) > EDITABLE:
        return None
    if any(
        not (x.op in _RUNS or ops().get(x.op, {}).get("javascript"))
        or any(program.values[v].dtype == "uint8" for v in x.inputs)
        for x in lines
    ):
        return None
    if program.faults:
        return None
    run = Run(program)
    inputs = {}
    for v in sorted(used):
        value = program.values[v]
        if value.outside and value.line == 0:
            array = run.array(v)
            digits = 9 if array.dtype == np.float32 else 17
            numbers = [float(f"{float(x):.{digits}g}") for x in array.ravel()]
            inputs[v] = [_finite(x) for x in numbers]
    leaves = [[leaf, after] for leaf, _, after in program.leaf_gradients if min(leaf, after) >= 0]
    extra = {x.number: x.outputs for x in lines if len(x.outputs) > 1}
    return {"inputs": inputs, "leaves": leaves, "extra": extra, "operands": {
        x.number: x.inputs for x in lines if len(x.inputs) > 16}}  # fmt: skip
