"""A page for each op of the engine, from its own tables: `wengert.ops()` has its formulas,
tests/rows.py its cases, tests/conformance/ what others' suites say; the rest is run here.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import drawing
import numpy as np
from rows import ELSEWHERE, ROWS, Row

import wengert as wg

CONFORMANCE = Path(__file__).resolve().parent.parent / "tests" / "conformance"
DTYPES = ("float32", "float64", "bfloat16", "int64", "bool")
SUITES = ("op_db", "error_inputs", "tinygrad_cases", "onnx_nodes")


def put(path: Path, text: str) -> None:
    """Writes a page where it differs, so that Sphinx reads again what changed and no more."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def fenced(text: str, kind: str = "text") -> list[str]:
    """A block of code."""
    return [f"```{kind}", text.rstrip(), "```", ""]


def cell(text: object) -> str:
    """What a table's cell can hold, as code."""
    return "`" + str(text).replace("|", "\\|").replace("`", "'").replace("\n", " ") + "`"


def inputs(row: Row, shapes: Any, dtype: str = "float64", grad: bool = False) -> list[wg.Tensor]:
    """A row's inputs; those that are drawn as floating numbers in the dtype."""
    made = []
    for draw, array in zip(row.inputs, row.draw(shapes), strict=True):
        floating = draw.kind == "f"
        x = wg.tensor(array.astype("float64") if floating else array)
        made.append(x.to(dtype) if floating else x)
        if grad and floating:
            made[-1].requires_grad_()
    return made


def shapes_of(row: Row) -> Any:
    """Shapes to show: the first with an axis, and none that is empty."""
    full = [s for s in row.shapes if all(math.prod(one) for one in s)]
    return next((s for s in full if any(math.prod(one) > 1 for one in s)), (full or row.shapes)[0])


def answer(call: Callable[[], Any]) -> str:
    """What a call gives in a few words: dtype and shape, or its error."""
    try:
        y = call()
        return f"{y.dtype}".replace("wengert.", "") + f" {y.shape}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


# ---- the parts of a page


def formulas(op: dict[str, Any]) -> Iterator[str]:
    """The value, and the gradient of each operand; where there is none, why."""
    operands = op["operands"]
    yield from fenced(f"{op['name']}({', '.join(operands)}) = {op['formula']}")
    if op["no_gradient"]:
        yield from (f"No gradient: {op['no_gradient']}.", "")
    elif op["gradients"]:
        text = [f"d{x} = {g}" for x, g in zip(operands, op["gradients"], strict=False)]
        yield from ("`g` is the gradient of the result; the gradients of the operands are", "")
        yield from fenced("\n".join(text))


def plotted(row: Row) -> Iterator[str]:
    """Value and gradient along one input, the others as drawn."""
    if not row.gradient or row.result or not row.inputs or row.inputs[0].kind != "f":
        return
    draw, shapes = row.inputs[0], shapes_of(row)
    x = np.linspace(draw.low, draw.high, 121 if row.elementwise else 61)
    if row.elementwise:
        others = inputs(row, tuple(() for _ in shapes))[1:]
        along = wg.tensor(x, requires_grad=True)
        y = row.call(along, *others)
        fixed = ", ".join(f"{float(o):.3g}" for o in others)
        name = f"{row.op}(x{', ' if fixed else ''}{fixed})"
        (gradient,) = (wg.autograd.grad(y.sum(), [along], allow_unused=True)) or (None,)
        ys, slopes = y.detach().numpy(), np.zeros(len(x)) if gradient is None else gradient.numpy()
    else:
        first, *others = inputs(row, shapes)
        name, ys, slopes = "a weighted sum of the result", [], []
        start = first.numpy().copy()
        for value in x:
            start[(0,) * start.ndim] = value
            leaf = wg.tensor(start, requires_grad=True)
            out = row.call(leaf, *others)
            weights = np.random.default_rng(0).uniform(0.5, 1.5, out.shape)
            total = (out * wg.tensor(weights)).sum()
            (gradient,) = wg.autograd.grad(total, [leaf], allow_unused=True) or (None,)
            ys.append(total.item())
            slopes.append(0.0 if gradient is None else gradient.numpy()[(0,) * start.ndim])
    curves = [(name, list(map(float, ys))), ("its gradient", list(map(float, slopes)))]
    yield from ("```{raw} html", drawing.plot(list(x), curves, "x"), "```", "")
    if not row.elementwise:
        yield from ("x is the first element of the first operand; the others stay as drawn.", "")


def second(row: Row, operands: list[str]) -> Iterator[str]:
    """The list of the value, of its gradient, and of that one's own gradient."""
    if not row.gradient or not any(d.kind == "f" for d in row.inputs):
        return
    xs = inputs(row, shapes_of(row), grad=True)
    x = next(x for x in xs if x.requires_grad)

    def step(*xs: wg.Tensor) -> None:
        y = row.call(*xs)
        (dx,) = wg.autograd.grad(y, [x], wg.ones_like(y), create_graph=True, allow_unused=True)
        if dx is not None and dx.requires_grad:
            dx.sum().backward()

    program = wg.trace(step)(*xs)
    parts: dict[str, list[str]] = {"value": [], "gradient": [], "gradient of the gradient": []}
    for line in program.lines:
        ours = "create_graph" in line.code, "backward" in line.code
        part = list(parts)[1 if ours[0] else 2 if ours[1] else 0]
        made = program.values[line.output].name if line.output is not None else ""
        text = f"{line.number:3} {made} {'+=' if line.edited else '='} {program.expression(line)}"
        for number, operand in enumerate(operands):
            text = text.replace(f"xs[{number}]", operand)
        text = re.sub(r"\b(d{0,2})x(_\d+)?\b", rf"\1{(operands or ['x'])[0]}\2", text)
        parts[part].append(text)
    yield from ("## Second order", "")
    if not parts["gradient of the gradient"]:
        yield "The gradient does not depend on the operands: its own gradient is zero everywhere."
    else:
        first = operands[0] if operands else "x"
        yield "The gradient is written with ops, so it is differentiated like a value. The list of"
        yield f"the value, of d{first} for g = 1, and of the gradient of that one's sum:"
    yield ""
    yield from fenced(
        "\n".join(row for name, rows in parts.items() if rows for row in (f"# {name}", *rows))
    )


def cases(rows: list[Row]) -> Iterator[str]:
    """Shapes and dtypes."""
    yield from ("## Shapes", "", "| case | operands | result |", "|---|---|---|")
    shown = [(row, shapes) for row in rows for shapes in row.shapes]
    for row, shapes in shown[:14]:
        given = ", ".join(map(str, shapes)) or "none"
        result = answer(lambda row=row, shapes=shapes: row.call(*inputs(row, shapes)))
        yield f"| {row.name} | {cell(given)} | {cell(result)} |"
    if len(shown) > 14:
        yield f"\nand {len(shown) - 14} more cases in `tests/rows.py`."
    yield ""
    row = rows[0]
    if any(d.kind == "f" for d in row.inputs):
        yield from ("## Dtypes", "", "| operands | result |", "|---|---|")
        for dtype in DTYPES:
            result = answer(lambda d=dtype: row.call(*inputs(row, shapes_of(row), d)))
            yield f"| {dtype} | {cell(result)} |"
        yield ""


def errors(row: Row) -> Iterator[str]:
    """What calls that do not fit are told."""
    told = {}
    if row.inputs:
        good = inputs(row, shapes_of(row))
        wrong: dict[str, list[Any]] = {
            "text for the first operand": ["text", *good[1:]],
            "seven axes of odd lengths": [wg.zeros((3, 1, 2, 1, 2, 1, 5)), *good[1:]],
            "no axes": [wg.tensor(0.5), *good[1:]],
            "an empty first operand": [wg.zeros((0,)), *good[1:]],
        }
        for name, args in wrong.items():
            text = answer(lambda args=args: row.call(*args))
            if "Error: " in text and "'str' object has no attribute" not in text:
                told[name] = text
        if len(good) > 1:
            ends = inputs(row, shapes_of(row))
            ends[1] = wg.zeros((13, 7))
            text = answer(lambda: row.call(*ends))
            told |= {"a second operand of shape (13, 7)": text} if "Error: " in text else {}
    if told:
        yield from ("## Errors", "", "| call | error |", "|---|---|")
        yield from (f"| {name} | {cell(text)} |" for name, text in told.items())
        yield ""


def costs(row: Row) -> Iterator[str]:
    """Operations and bytes of the row's lines, as study counts them."""
    xs = inputs(row, tuple((1000,) for _ in row.inputs) if row.elementwise else shapes_of(row))
    leaves = [x.requires_grad_() for x, d in zip(xs, row.inputs, strict=True) if d.kind == "f"]

    def step(*xs: wg.Tensor) -> None:
        y = row.call(*xs)
        if row.gradient and leaves and y.requires_grad:
            y.backward(wg.ones_like(y))

    program = wg.trace(step)(*xs)
    yield from (
        "## Cost",
        "",
        f"In float64, of operands {', '.join(str(x.shape) for x in xs) or '()'}:",
        "",
    )
    yield from ("| line | phase | FLOP | bytes | saved for backward |", "|---|---|---|---|---|")
    for line in program.lines[:12]:
        saved = sum(program.values[v].bytes for v in line.saved)
        yield f"| {line.op} | {line.phase} | {line.flops:,.0f} | {line.bytes:,.0f} | {saved:,.0f} |"
    yield ""


def conformance(op: str) -> Iterator[str]:
    """The op's rows in the tables of tests/conformance/."""
    found = []
    for suite in SUITES:
        text = (CONFORMANCE / f"{suite}.md").read_text()
        passed = text.partition("## Passed")[2].partition("\n")[2].strip().split("; ")
        names = {op, f"nn.functional.{op}", f"linalg.{op}", op.title().replace("_", "")}
        for part in re.split(r"^## ", text.partition("## Passed")[0], flags=re.M)[1:]:
            state = part.partition(":")[0].lower()
            for name, reason in re.findall(r"^\| (\S+) \| (.*) \|$", part, flags=re.M):
                if name in names or name.rpartition(".")[0] in names:
                    found.append(f"| {suite} | {cell(name)} | {state} | {cell(reason)} |")
        for name in passed:
            if name in names or name.rpartition(".")[0] in names:
                found.append(f"| {suite} | {cell(name)} | passed | |")
    yield from ("## Conformance", "")
    if found:
        yield from ("| suite | case | state | reason |", "|---|---|---|---|", *found[:12], "")
    else:
        yield from (
            "Others' suites have no case of this name: it runs within those of other ops.",
            "",
        )


def page(op: dict[str, Any]) -> list[str]:
    """An op's page as Markdown."""
    name = op["name"]
    rows = [row for row in ROWS if row.op == name]
    out = ["---", "orphan: true", "---", "", f"# {name}", "", *formulas(op)]
    kinds = [
        *(["a view: it shares its operand's memory"] if op["view"] else []),
        *(["runs on a GPU too"] if op["cuda"] else ["CPU only"]),
    ]
    text = "; ".join(kinds)
    out += [f"{text[0].upper()}{text[1:]}.", ""]
    if name in dir(wg):
        out += [f"The function is {{py:func}}`wengert.{name}`.", ""]
    if rows:
        row = next((r for r in rows if r.gradient), rows[0])
        out += [*plotted(row), *second(row, op["operands"])]
        out += [*cases(rows), *errors(rows[0]), *costs(rows[0])]
    elif name in ELSEWHERE:
        file, test = ELSEWHERE[name]
        out += [f"Tested in `tests/{file}`: {test}.", ""]
    else:
        inside = sorted({row.op for row in ROWS if name in row.covers})
        out += [f"Runs within {', '.join(f'[{o}]({o}.md)' for o in inside)}.", ""]
    return [*out, *conformance(name)]


def write(folder: Path) -> None:
    """generated/ops/, a page for each op, and generated/parts/ops.md, the table of them."""
    (folder / "ops").mkdir(parents=True, exist_ok=True)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    table = ["| op | value | gradient |", "|---|---|---|"]
    for op in wg.ops():
        put(folder / "ops" / f"{op['name']}.md", "\n".join(page(op)) + "\n")
        gradient = op["no_gradient"] or "; ".join(op["gradients"])
        link = f"[{op['name']}](generated/ops/{op['name']}.md)"
        table.append(f"| {link} | {cell(op['formula'])} | {cell(gradient)} |")
    put(folder / "parts" / "ops.md", "\n".join(table) + "\n")
    kinds = (BuiltinFunctionType, FunctionType, type(wg.matmul))
    functions = [n for n in dir(wg) if isinstance(getattr(wg, n), kinds)]
    text = ", ".join(f"[{n}](#wengert.{n})" for n in functions if not n.startswith("_"))
    later = "\n".join(f".. autofunction:: wengert.{n}" for n in functions if n not in wg.__all__)
    text += "\n\n" + "\n".join(fenced(later, "{eval-rst}"))
    put(folder / "parts" / "functions.md", text + "\n")
