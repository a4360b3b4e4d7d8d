"""A list in words: `x @ w1`, `dw1 = transpose(x) @ dz1`, and the listing with both side by side."""

from __future__ import annotations

import re
from typing import Any

from .list import Answer, Attribute, Line, WengertList, ops, short, swaps_last


def shown(attribute: Attribute) -> str:
    """An attribute as text."""
    return f"{attribute:g}" if isinstance(attribute, float) else str(attribute)


def call(p: WengertList, line: Line) -> str:
    """`matmul(x, w1)`"""
    names = [p.values[v].name for v in p.operands(line)]
    if len(names) > 8:
        names = [*names[:3], "...", *names[-2:]]
    names += [f"{key}={shown(value)}" for key, value in line.attributes.items()]
    return f"{p.op(line)}({', '.join(names)})"


def expression(p: WengertList, line: Line) -> str:
    """The line as one would write it: `x @ w1`."""
    op, a = p.op(line), line.attributes
    names = [p.values[v].name for v in p.operands(line)]
    if op in ("permute", "reshape", "expand", "copy", "cast") and names:
        word = {"permute": "transpose", "cast": "convert"}.get(op, op)
        bare = op == "copy" or (op == "permute" and swaps_last(a.get("axes")))
        extra = "" if bare else f", {shown(next(iter(a.values()), ''))}"
        return f"{word}({names[0]}{extra})"
    if op == "full":
        return shown(a.get("value", "?"))
    if op == "slice":
        axis, start, step, length = (_whole(a[k]) for k in ("axis", "start", "step", "length"))
        stop = start + step * length
        part = f"{start}:{stop if stop >= 0 else ''}" + (f":{step}" if step != 1 else "")
        return f"{names[0]}[{':, ' * axis}{part}]"
    if op in ("sum", "mean", "prod", "max", "min"):
        return f"{op}({names[0]}, axis={shown(a.get('axis', ''))})"
    if not line.outputs:
        return line.formula
    known = ops().get(op, {}) if line.number in p.faults else vars(line)
    formula, operands = known.get("formula", ""), known.get("operands", [])
    if not formula or " over the axes" in formula or len(names) > 4:
        return call(p, line)
    return _named(formula, _words(p, line) | dict(zip(operands, names, strict=False)))


def _whole(attribute: Attribute) -> int:
    if not isinstance(attribute, int):
        raise TypeError(f"{attribute!r} is not a whole number")
    return attribute


def _words(p: WengertList, line: Line) -> dict[str, str]:
    """What a formula may say besides the operands: numbers of the line's, and its output."""
    words = {k: shown(v) for k, v in line.attributes.items() if isinstance(v, float)}
    return words | ({"y": p.values[line.output].name} if line.output is not None else {})


def _named(formula: str, words: dict[str, str]) -> str:
    """A formula with the listing's names in place of the op's."""
    return re.sub(r"\b[a-z]\w*\b(?!\()", lambda m: words.get(m[0], m[0]), formula)


def vjp_formula(p: WengertList, answer: Answer) -> str:
    """What the vjp computes, in the listing's names: `dw1 = transpose(x) @ dz1`."""
    line = p.lines[answer.line - 1]
    if not answer.gave:
        return ""
    assert line.output is not None
    names = [p.values[v].name for v in line.inputs]
    words = dict(zip(line.operands, names, strict=False)) | _words(p, line)
    words["g"] = f"d{p.values[line.output].name}"
    last = len(line.gradients) - 1  # it serves all further operands too
    return ", ".join(
        f"d{names[c.input]} = {_named(line.gradients[min(c.input, last)], words)}"
        for c in answer.gave
    )


def left(p: WengertList, line: Line) -> str:
    """`h: float32[100, 5] = sigmoid(z1)`"""
    if line.output is None:
        return call(p, line)
    value = p.values[line.output]
    return f"{value.name}: {value.type} {'<-' if line.edited else '='} {call(p, line)}"


def summary(p: WengertList) -> str:
    """One sentence with the sums."""
    count = {
        phase: sum(1 for x in p.lines if x.phase == phase) for phase in ("forward", "backward")
    }
    update = len(p.lines) - sum(count.values())
    return (
        f"{len(p.lines)} lines: {count['forward']} forward, {count['backward']} backward, "
        f"{update} update; {sum(x.flops for x in p.lines):,.0f} FLOP, "
        f"{sum(x.bytes for x in p.lines):,.0f} bytes read and written, "
        f"{saved_bytes(p):,} bytes saved for backward, {p.memory:,} bytes of memory"
    )


def head(p: WengertList) -> list[str]:
    """The summary, and what there is to say of the whole list."""
    text = [summary(p)]
    if p.stopped:
        text.append(f"stopped early: {p.stopped}")
    if not p.lines:
        text.append("the function ran no op of wengert; there is nothing to study")
    elif not p.roots:
        text.append("no backward() was called: call loss.backward() in the function to see it")
    return [*text, *p.notes]


def saved_bytes(p: WengertList) -> int:
    """Bytes that the list itself made and that lines kept for backward, each memory once."""
    seen: dict[int, int] = {}
    for line in p.lines:
        for value in (p.values[v] for v in line.saved):
            if not value.outside:
                seen[value.memory] = max(seen.get(value.memory, 0), value.bytes)
    return sum(seen.values())


def listing(p: WengertList, width: int = 62) -> str:
    """Forward lines, at their right the backward lines that answer, then the source; each half at
    most `width` characters wide."""
    rows: list[tuple[str, str, str]] = []
    beside: set[int] = set()
    for line in p.lines:
        if line.phase != "forward":
            continue
        right = []
        for answer in p.answers_to(line):
            if formula := vjp_formula(p, answer):
                right.append(f"   {formula}")
            for n in range(answer.first, answer.last + 1):
                beside.add(n)
                back = p.lines[n - 1]
                assert back.output is not None
                right.append(f"{n:4} {p.values[back.output].name} = {expression(p, back)}")
        halves = [f"{line.number:4} {left(p, line)}"]
        written = expression(p, line)
        if written != call(p, line):
            halves.append(f"     {written}")
        for i in range(max(len(halves), len(right))):
            a = halves[i] if i < len(halves) else ""
            b = right[i] if i < len(right) else ""
            rows.append((a, b, _source(line) if i == 0 else ""))
    for line in p.lines:
        if line.phase != "forward" and line.number not in beside:
            text = f"{line.number:4} {left(p, line)}"
            alone = line.phase == "backward"
            rows.append(("", text, _source(line)) if alone else (text, "", _source(line)))
    table = [("   # forward", "   # backward, beside the line it answers", "source"), *rows]
    widths = [min(width, max(len(row[i]) for row in table)) for i in (0, 1)]
    body = [
        f"{_cut(a, widths[0])}  {_cut(b, widths[1])}  {source}".rstrip() for a, b, source in table
    ]
    return "\n".join([*head(p), *body])


def _source(line: Line) -> str:
    return f"{short(line.place)}  {line.code}" if line.place else ""


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def columns(rows: list[Any], left: int) -> list[str]:
    """Rows of text as columns; the first `left` of them flush left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
