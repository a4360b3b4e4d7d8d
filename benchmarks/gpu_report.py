"""From the JSON lines of gpu.py to a page of tables, a plot, and lines for the console.

`results/gpu/README.md` has the musts of the newest run of each device; where there is none, its
cells say "not measured".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from musts import GPU_MUSTS, best
from report import cell, figure, ratio, table, title

Row = dict[str, Any]
NAMES = {"cublas": "cuBLAS", "jax scan": "JAX scan", "torch reduce-overhead": "torch.compile"}
NOT_MEASURED = "not measured"


def name_of(label: str) -> str:
    return NAMES.get(label, title(label))


def line(row: Row, smoke: bool = False) -> str:
    """A row for the console; a smoke run shows who ran, and no figure."""
    if row["section"] == "ceilings":
        return f"ceiling: {row['name']}: {figure(row['value'])} {row['unit']}"
    if row["section"] == "gates":
        said = "passed" if row["passed"] else "FAILED"
        return f"gate {said}: {row['name']}: {row.get('error') or row.get('missing')}"
    text = [f"{row['section']}: {row['name']} [{row['unit']}]; {row['precision']}"]
    for label, value in row["values"].items():
        text.append(f"  {name_of(label):26} {'ran' if smoke else cell(value):>14}")
    text += [f"  {name_of(k):26} {'-':>14}   {why}" for k, why in row.get("missing", {}).items()]
    if not smoke:
        for m in row["musts"]:
            if m["is"] is not None and m["must"] is not None:
                against = f" against {name_of(m['against'])}" if m["against"] else ""
                said = "reached" if m["reached"] else "NOT reached"
                text.append(f"  {m['is']:g} of {m['must']:g}{against}: {said}")
    return "\n".join(text)


def musts_table(rows: list[Row]) -> str:
    """Every must of gpu.py, with the worst of its rows; "not measured" where there is none."""
    made = []
    for m in GPU_MUSTS:
        found = [
            (row, j)
            for row in rows
            for j in row.get("musts", ())
            if j["is"] is not None and (j["title"], j["must"], j["aim"]) == (m.title, m.must, m.aim)
            and (j["against"] is None or j["against"] in name_pattern(m.against))
        ]  # fmt: skip
        unit = " us" if m.limit else ""
        is_, said, precision = NOT_MEASURED, NOT_MEASURED, ""
        if found:
            pick = max if m.limit else min
            row, j = pick(found, key=lambda pair: pair[1]["is"])
            is_ = f"{figure(j['is'])}{unit}"
            said = "reached" if j["reached"] else "**no**"
            precision = row["precision"]
            if len(found) > 1:
                is_ += f" ({row['name']})"
        against = "" if m.limit else " or ".join(map(name_of, name_pattern(m.against)))
        bound = [f"{v:g}{unit}" if v is not None else "" for v in (m.must, m.aim)]
        made.append([m.title, against, is_, *bound, said, precision])
    return table(["work", "against", "is", "must", "aim", "", "precision"], made)


def name_pattern(pattern: str) -> list[str]:
    """The labels that a must's pattern names: they are written out, with | between."""
    return pattern.strip("()").split("|")


def page(rows: list[Row]) -> str:
    """Everything of one run."""
    first = rows[0]
    text = [
        f"# {first['device']}, {first['date'][:10]}",
        f"Driver {first['driver']}; commit {first['commit']}. Medians of interleaved turns in one "
        "run; ± is half the distance of the quartiles. Only ratios within a row mean anything.",
        "## The musts",
        musts_table(rows),
    ]
    ceilings = [r for r in rows if r["section"] == "ceilings"]
    if ceilings:
        cells = [[r["name"], f"{figure(r['value'])} {r['unit']}"] for r in ceilings]
        text += ["## Ceilings", table(["", "measured"], cells)]
    gates = [r for r in rows if r["section"] == "gates"]
    if gates:
        cells = [
            [r["name"], r.get("error") or r.get("missing", ""), "yes" if r["passed"] else "**no**"]
            for r in gates
        ]
        text += ["## Gates", table(["", "error of what is allowed", "passed"], cells)]
    for section, name in (("matmul", "Products"), ("memory", "Sigmoid"), ("steps", "Steps")):
        chosen = [r for r in rows if r["section"] == section]
        if not chosen:
            continue
        labels = list(dict.fromkeys(k for r in chosen for k in r["values"]))
        cells = [
            [f"{r['name']} [{r['unit']}]"]
            + [cell(r["values"][k]) if k in r["values"] else NOT_MEASURED for k in labels]
            + [r["precision"], r.get("clocks", "")]
            for r in chosen
        ]
        head = ["", *map(name_of, labels), "precision", "SM clock, power, temperature"]
        text += [f"## {name}", table(head, cells)]
        why = {f"- {name_of(k)}: {w}" for r in chosen for k, w in r.get("missing", {}).items()}
        why |= {f"- {name_of(k)}: {w}" for r in chosen for k, w in r.get("notes", {}).items() if w}
        if why:
            text.append("\n".join(sorted(why)))
    return "\n\n".join(text) + "\n"


def draw(rows: list[Row], path: Path) -> None:
    """Ours through the peers', row by row, and the musts as marks."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    points = []
    for row in rows:
        if row["section"] not in ("matmul", "memory", "steps"):
            continue
        ours = best(row, "wengert.*")
        for label in row["values"]:
            if ours and not label.startswith("wengert"):
                needed = [j["must"] for j in row["musts"] if j["against"] == label and j["must"]]
                text = f"{row['name']} / {name_of(label)}"
                points.append((text, ratio(row, ours, label), needed[0] if needed else None))
    if not points:
        return
    drawn, ax = plt.subplots(figsize=(8, 0.3 * len(points) + 1), layout="constrained")
    at = range(len(points))
    ax.barh(at, [p[1] for p in points], color="silver")
    marks = [(i, p[2]) for i, p in enumerate(points) if p[2]]
    ax.plot([m for _, m in marks], [i for i, _ in marks], "k|", markersize=12, label="must")
    ax.set(xscale="log", yticks=at, xlabel="times faster than the peer")
    ax.set_yticklabels([p[0] for p in points], fontsize=7)
    ax.invert_yaxis()
    ax.axvline(1, color="black", linewidth=0.8)
    ax.legend()
    drawn.savefig(path, dpi=110, metadata={})
    plt.close(drawn)


def read(path: Path) -> list[Row]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def write(path: Path) -> None:
    """The page and the plot of one file, beside it, and the table of all."""
    rows = read(path)
    path.with_suffix(".md").write_text(page(rows))
    draw(rows, path.with_suffix(".png"))
    overview(path.parent)


def overview(folder: Path) -> None:
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob("*.jsonl")):
        newest[read(path)[0]["device"]] = path
    text = ["# On GPUs", "Made by `benchmarks/gpu_report.py`; measured by `benchmarks/gpu.sh`."]
    for device, path in newest.items():
        text += [f"## {device}: [{path.stem}]({path.stem}.md)", musts_table(read(path))]
    if not newest:
        text += ["Nothing here has run on a GPU yet.", musts_table([])]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n\n".join(text) + "\n")


def write_all(folder: Path) -> None:
    for path in sorted(folder.glob("*.jsonl")):
        write(path)
    overview(folder)
