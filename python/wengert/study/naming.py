"""From what the core noted while a step ran to a list with names, phases, and who made what.

A value is named by the user's own names where there are any (parameters, arguments, variables,
layers), else by its op; the gradient of `h` is `dh`.
"""

from __future__ import annotations

import linecache
from collections import Counter
from typing import Any, TypeVar

from .. import _core
from .list import Answer, Contribution, Line, Value, WengertList, ops, short, swaps_last

_List = TypeVar("_List", bound=WengertList)


def from_core(
    kind: type[_List], core: Any, names: dict[int, str], layers: list[str], stopped: str | None
) -> _List:
    """Reads what the core noted while the step ran."""
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
    lines = []
    for n, d in enumerate(core.lines()):
        layer = layers[d["layer"]] if d["layer"] >= 0 else ""
        answer = d["answer"] if d["answer"] >= 0 else None
        op = d["own"] or ops()[d["op"]]
        lines.append(
            Line(n + 1, d["op"], d["inputs"], d["outputs"], d["edited"], d["attributes"],
                 op["operands"], op["formula"], op["gradients"], op["no_gradient"], op["view"],
                 d["recorded"], "", answer, layer, d["place"], _source(d["place"]), d["flops"],
                 d["bytes"], d["saved"])
        )  # fmt: skip
    for answer in answers:
        for c in answer.gave:
            if c.to_line == 0 and c.to >= 0:
                values[c.to].leaf = True
    looks: dict[tuple[str, str], int] = {}
    for place, what, _ in core.looks():
        if not what.startswith("making a tensor"):  # which looks at nothing that is computed
            looks[what, short(place)] = looks.get((what, short(place)), 0) + 1
    notes = [
        f"{what} at {place} looked at a value ({n} times); where the program branches on it, "
        "this list is the way that it took"
        for (what, place), n in looks.items()
    ]
    p = kind(
        lines, values, answers, core.roots(), core.leaf_gradients(), core.results(), notes, stopped,
        core.bytes, core,
    )  # fmt: skip
    _complete(p)
    return p


def _source(place: str | None) -> str:
    if not place:
        return ""
    path, _, line = place.rpartition(":")
    return linecache.getline(path, int(line)).strip() if line.isdigit() else ""


def _complete(p: WengertList) -> None:
    """Phases, layers of backward lines, who made what, names, and until when values are
    kept."""
    _find_phases(p)
    read: set[int] = set()
    for line in p.lines:
        if line.answer is not None:
            line.layer = p.lines[p.answers[line.answer].line - 1].layer
        read.update(line.inputs)
        for v in line.outputs if not line.edited else []:
            value = p.values[v]
            # A view of outside memory is made by its line, unless it was there before: x.T.T.
            if value.line == 0 and (line.view or not value.outside) and v not in read:
                value.line = line.number
    for answer in p.answers:
        line = p.lines[answer.line - 1]
        line.kept_until = max(line.kept_until, answer.last if line.saved else 0)
    for line in p.lines:
        if line.saved and not line.kept_until:
            line.kept_until = len(p.lines)  # no walk released it: kept to the end
    _name_values(p)


def _find_phases(p: WengertList) -> None:
    walks = []
    seeds = {gradient for _, gradient, _, _ in p.roots}
    for i, (_, _, at, _) in enumerate(p.roots):
        end = p.roots[i + 1][2] if i + 1 < len(p.roots) else len(p.lines) + 1
        asked = [a for a in p.answers if at < a.first <= end]
        last = max((a.last for a in asked), default=at)
        # What the last answer gave is still to be added up.
        parts = {c.value for a in asked for c in a.gave}
        while last < len(p.lines):
            line = p.lines[last]
            if line.op not in ("add", "copy") or not parts.issuperset(line.inputs):
                break
            parts.update(line.outputs)
            last += 1
        walks.append((at, last))
    gradients = {g for leaf in p.leaf_gradients for g in leaf[1:] if g >= 0}
    last_walk = walks[-1][1] if walks else 0
    for line in p.lines:
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


def _name_values(p: WengertList) -> None:
    values = p.values
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
    for leaf, before, after in p.leaf_gradients:
        if leaf >= 0 and before >= 0:  # gathered in what was there before
            give(before, f"{values[leaf].name}.grad")
            if after >= 0:
                give(after, f"{values[leaf].name}.grad")
    for line in p.lines:
        if "options" in line.operands:
            _name_states(p, line, give)
    replica: Any = None
    for line in p.lines:
        for v in line.inputs:
            value = values[v]
            if value.name or not value.outside or value.line:
                continue
            if value.shape == () and p.core is not None:
                replica = replica or _core._Replica(p.core, False)
                value.constant = float(replica.value(v).item())
            if value.constant is not None and not value.leaf:
                value.name = f"{value.constant:g}"  # several constants may share a name
            else:
                give(v, fresh("c"))
        if line.phase == "forward":
            _name_outputs(p, line, give, fresh)
    contributions = Counter((c.to_line, c.to) for answer in p.answers for c in answer.gave)
    # One memory may be the gradient of several: it is called by what the user named, if any.
    wanted: list[tuple[bool, int, str]] = []
    for leaf, before, after in p.leaf_gradients:
        if leaf >= 0 and before < 0 <= after:
            wanted.append((False, after, f"d{values[leaf].name}"))
    for answer in p.answers:
        made = p.lines[answer.line - 1].output
        assert made is not None
        wanted.append((made not in users, answer.gradient, f"d{values[made].name}"))
        for c in answer.gave:
            if c.to >= 0:
                name = f"d{values[c.to].name}"
                if contributions[c.to_line, c.to] > 1:
                    name += f"@{values[made].name}"
                wanted.append((c.to not in users, c.value, name))
    for _, number, name in sorted(wanted, key=lambda w: w[0]):
        give(number, name)
    for line in p.lines:
        if line.phase != "forward":
            _name_outputs(p, line, give, fresh)
    for value in values:
        if not value.name:
            value.name = fresh("v")


def _name_outputs(p: WengertList, line: Line, give: Any, fresh: Any) -> None:
    for i, v in enumerate(line.outputs):
        value = p.values[v]
        if value.name:
            continue
        if line.op == "permute" and swaps_last(line.attributes.get("axes")):
            give(v, f"{p.values[line.inputs[0]].name}.T")
        else:
            give(v, fresh(line.op.removesuffix("_vjp") if i == 0 else f"{line.op}_kept"))


def _name_states(p: WengertList, line: Line, give: Any) -> None:
    """Inputs of an update: parameters, their states, step, gradients, options
    (csrc/ops/update/update.cpp)."""
    count = len(line.inputs) - len(line.edited) - 1
    states = (len(line.edited) - 1) // count - 1 if count else 0
    for i in range(count):
        parameter = p.values[line.inputs[i]].name
        for s, state in enumerate(line.operands[1 : states + 1]):
            give(line.inputs[(s + 1) * count + i], f"{state}({parameter})")
    give(line.inputs[len(line.edited) - 1], "step")
    give(line.inputs[-1], "options")
