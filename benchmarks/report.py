"""From a results file to what people read: console lines, pages, plots, PERFORMANCE.md.

    python benchmarks/report.py            pages and plots of all results, and PERFORMANCE.md
    python benchmarks/report.py FILE...    of these results only

PERFORMANCE.md names a results file in the first of two marker comments. The text between them is
made here from that file, and a test compares the two.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from musts import LIBRARIES, best, ratio

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
PERFORMANCE = ROOT / "benchmarks/PERFORMANCE.md"
MARKERS = re.compile(
    r"(<!-- performance: (\S+), by benchmarks/report.py -->\n)(.*?)(<!-- end of performance -->)",
    re.DOTALL,
)
LABELS = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "wengert": "Wengert"}
TITLES = {
    "steps": "Training steps",
    "matmul": "Matrix products",
    "precision": "Float32 through products of bfloat16 (set_matmul_precision), errors in brackets",
    "memory": "sigmoid, limited by memory",
    "chain": "Scalars, one Python call each",
    "start": "To begin with",
}

Row = dict[str, Any]
Results = dict[str, Any]


# ---- words


def title(label: str) -> str:
    """The name of a contender as people write it."""
    first, _, rest = label.partition(" ")
    if label.startswith("openblas"):
        return "OpenBLAS" + (" (SkylakeX)" if rest else "")
    return f"{LABELS.get(first, first)} {rest}".strip()


def figure(value: float) -> str:
    """Three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 10 or value < 0.995 else f"{value:.2f}"


def cell(value: dict[str, float]) -> str:
    """The median, and where turns differed half of the quartiles' distance, in percent."""
    text = figure(value["median"])
    if "low" in value and (spread := 50 * (value["high"] - value["low"]) / value["median"]) >= 1:
        text += f" ±{spread:.0f}%"
    return text


def ours_and_best(row: Row) -> tuple[str | None, str | None]:
    return best(row, "wengert.*"), best(row, LIBRARIES)


def busy(row: Row) -> bool:
    """Whether other processes disturbed the row."""
    return bool(row.get("load", 0) > 0.1)


def verdict(must: dict[str, Any]) -> str:
    found, needed = must["is"], must["must"]
    if needed is None:
        return "" if found is None else "aim reached" if must["reached"] else "aim not reached"
    if found is None:
        return "not measured"
    if must["reached"]:
        return "reached"
    if must["against"] is None:
        return f"**no**: {found / needed:.2f} times the limit"
    return f"**no**: {found / needed:.0%} of it"


def lines(row: Row) -> str:
    """A row for the console."""
    head = f"{row['section']}: {row['name']}, {row['threads']} threads [{row['unit']}]"
    text = [f"{head}, in {row['took']} s"]
    _, peer = ours_and_best(row)
    for label, value in row["values"].items():
        note = row.get("notes", {}).get(label, "")
        times = ""
        if peer and label.startswith("wengert"):
            times = f"{ratio(row, label, peer):.2f} x {title(peer)}"
        text.append(f"  {title(label):26} {cell(value):>14}   {times or note}")
    text += [f"  {title(k):26} {'-':>14}   {why}" for k, why in row.get("missing", {}).items()]
    if busy(row):
        text.append(f"  other processes kept {row['load']:.1f} processors busy meanwhile")
    for must in row["musts"]:
        if must["must"] is not None:
            against = f" against {title(must['against'])}" if must["against"] else ""
            text.append(f"  must {must['must']:g}{against}: {verdict(must)}".replace("**", ""))
    return "\n".join(text)


# ---- the page


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    text = [names, ["---"] * len(names), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in text)


def musts_table(rows: list[Row]) -> str:
    """A line for each must and number of threads: its worst row, and how many rows reach it."""
    groups: dict[tuple[Any, ...], list[tuple[Row, dict[str, Any]]]] = {}
    for row in rows:
        for at, m in enumerate(row["musts"]):
            key = m["title"], at, m["must"], m["aim"], row["threads"]
            groups.setdefault(key, []).append((row, m))
    made = []
    for pairs in groups.values():
        measured = [pair for pair in pairs if pair[1]["is"] is not None]
        is_limit = pairs[0][1]["against"] is None
        pick = max if is_limit else min
        row, m = pick(measured, key=lambda pair: pair[1]["is"]) if measured else pairs[0]
        unit = f" {row['unit']}" if is_limit else ""
        count = f"; {sum(p[1]['reached'] for p in measured)} of {len(measured)} rows"
        made.append(
            [
                m["title"] + (f"; worst: {row['name']}" if len(measured) > 1 else ""),
                str(row["threads"]),
                title(m["contender"]),
                "" if is_limit else title(m["against"]),
                "" if m["is"] is None else f"{figure(m['is'])}{unit}",
                "" if m["must"] is None else f"{m['must']:g}{unit}",
                "" if m["aim"] is None else f"{m['aim']:g}{unit}",
                verdict(m) + (count if len(measured) > 1 else ""),
            ]
        )
    head = ["work", "threads", "contender", "against", "is", "must", "aim", ""]
    return table(head, made)


def section_tables(rows: list[Row]) -> list[str]:
    """Rows that share contenders share a table."""
    groups: list[tuple[set[str], list[Row]]] = []
    for row in rows:
        labels = set(row["values"])
        for seen, group in groups:
            if not labels or labels & seen:
                seen |= labels
                group.append(row)
                break
        else:
            groups.append((labels, [row]))
    return [section_table(group) for _, group in groups]


def section_table(rows: list[Row]) -> str:
    """How many times better than the best library first, then every figure."""
    labels = list(dict.fromkeys(label for row in rows for label in row["values"]))
    peaks = any("FMA peak" in row["values"] for row in rows)
    flops = any("matmul_flops" in row for row in rows)
    head = ["", "threads", "ratio to the best peer"]
    head += ["of the peak"] * peaks + ["GFLOP/s of matmul"] * flops
    made = []
    for row in rows:
        ours, peer = ours_and_best(row)
        cells = [f"{row['name']} [{row['unit']}]", str(row["threads"])]
        cells.append(f"{ratio(row, ours, peer):.2f}, {title(peer)}" if ours and peer else "")
        if peaks:
            has = ours and "FMA peak" in row["values"]
            cells.append(f"{ratio(row, ours, 'FMA peak'):.0%}" if ours and has else "")
        if flops:  # every matmul_flops is of a row in microseconds
            rate = row["matmul_flops"] / row["values"][ours]["median"] / 1e3 if ours else 0
            cells.append(figure(rate) if ours else "")
        errors = {k: f" ({n})" for k, n in row.get("notes", {}).items() if n.startswith("error ")}
        cells += [
            cell(row["values"][k]) + errors.get(k, "") if k in row["values"] else "" for k in labels
        ]
        made.append(cells)
    return table([*head, *map(title, labels)], made)


def remarks(rows: list[Row]) -> list[str]:
    """How contenders were made, and what could not be measured."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for what in ("notes", "missing"):
            for label, why in row.get(what, {}).items():
                if why.startswith("error "):  # it stands beside its figure
                    continue
                place = f"{row['name']} ({row['threads']} threads)"
                said.setdefault(f"{title(label)}: {why}", []).append(place)
    if disturbed := [f"{r['name']} ({r['load']:.1f})" for r in rows if busy(r)]:
        said["Disturbed by other processes, which kept so many processors busy"] = disturbed
    return [
        f"- {text}: {'; '.join(places) if len(places) < 5 else f'{len(places)} rows'}"
        for text, places in said.items()
    ]


def about_line(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{title(k)} {v}" for k, v in about["versions"].items())
    return (
        f"{about['processor']}, {about['cores']} cores, {about['simd']}; {about['date']}; "
        f"{about['system']}, Python {about['python']}; {versions}."
    )


def commits_line(rows: list[Row]) -> str:
    """Of which commits the rows are, where that is known."""
    count = Counter(row["commit"] for row in rows if "commit" in row)
    if len(count) <= 1:
        return f"Of commit {', '.join(count)}." if count else ""
    return "Of commits " + ", ".join(f"{name} ({n} rows)" for name, n in count.items()) + "."


def page(results: Results, plots: list[str]) -> str:
    rows, about = results["rows"], results["about"]
    judged = [m for row in rows for m in row["musts"] if m["must"] is not None]
    measured = [m for m in judged if m["reached"] is not None]
    reached = sum(m["reached"] for m in measured)
    text = [
        f"# Benchmarks of {about['date']}: {about['processor']}",
        " ".join(filter(None, [about_line(about), commits_line(rows)])),
        "Medians of interleaved turns; ± is half the distance of the quartiles. Ratios above 1 are "
        "in Wengert's favour. How it is measured: `benchmarks/README.md`."
        + (" A quick run: few turns, few rows." if about["quick"] else ""),
    ]
    if judged:
        left = len(judged) - len(measured)
        text += [
            "## The musts",
            f"{reached} of {len(measured)} are reached"
            + (f"; {left} not measured." if left else "."),
            musts_table(rows),
        ]
    for section, name in TITLES.items():
        chosen = [row for row in rows if row["section"] == section]
        if not chosen:
            continue
        text += [f"## {name}", *(f"![{name}]({p})" for p in plots if f"-{section}." in p)]
        text += section_tables(chosen)
        if section == "steps":
            titles = {row["name"]: row["title"] for row in chosen}
            text.append("\n".join(f"- {k}: {v}" for k, v in titles.items()))
        if said := remarks(chosen):
            text.append("\n".join(said))
    return "\n\n".join(text) + "\n"


# ---- plots


def draw(results: Results, path: Path) -> list[str]:
    """PNG files beside the results, one for each section that has a picture; their names."""
    try:
        import matplotlib
    except ImportError:
        print("no plots: pip install matplotlib", file=sys.stderr)
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    def lines_over_n(rows: list[Row], what: str) -> Any:
        threads = sorted({row["threads"] for row in rows})
        figure, axes = plt.subplots(
            1, len(threads), figsize=(5.5 * len(threads), 4), squeeze=False, sharey=True
        )
        for ax, count in zip(axes[0], threads, strict=True):
            mine = [row for row in rows if row["threads"] == count]
            for label in dict.fromkeys(k for row in mine for k in row["values"]):
                points = [
                    (r["x"], r["values"][label]["median"]) for r in mine if label in r["values"]
                ]
                style = {"color": "black", "linewidth": 2.2} if label.startswith("wengert") else {}
                dashes = "--" if label in ("FMA peak", "copy", "copy past the cache") else "-"
                if label == "wengert reused":
                    dashes = ":"
                ax.plot(*zip(*points, strict=True), dashes, marker=".", label=title(label), **style)
            ax.set(xscale="log", xlabel=what, ylabel=mine[0]["unit"], ylim=(0, None))
            ax.set_title(f"{count} thread{'s' * (count > 1)}")
        axes[0][0].legend(fontsize=7)
        return figure

    def bars(rows: list[Row]) -> Any:
        figure, axes = plt.subplots(
            len(rows), 1, figsize=(8, 1.9 * len(rows)), squeeze=False, layout="constrained"
        )
        for ax, row in zip(axes[:, 0], rows, strict=True):
            order = sorted(row["values"], key=lambda k: -row["values"][k]["median"])
            values = [row["values"][k]["median"] for k in order]
            colours = ["black" if k.startswith("wengert") else "silver" for k in order]
            drawn = ax.barh([title(k) for k in order], values, color=colours)
            ax.bar_label(drawn, [figure_text(v) for v in values], padding=3, fontsize=7)
            ax.set_title(f"{row['name']}: {row['title']}; {row['threads']} threads", fontsize=8)
            ax.tick_params(labelsize=7)
            ax.margins(x=0.12)
        axes[-1, 0].set_xlabel("microseconds a step")
        return figure

    figure_text = figure
    rows = results["rows"]
    most = max((row["threads"] for row in rows), default=1)
    squares = [
        row | {"x": row["shape"]["n"]}
        for row in rows
        if row["section"] == "matmul" and square(row) and row["shape"]["layout"] == "nn"
    ]
    forward = [
        row | {"x": row["n"]}
        for row in rows
        if row["section"] == "memory" and "backward" not in row["name"]
    ]
    steps = [row for row in rows if row["section"] == "steps" and row["threads"] == most]
    made = []
    for section, chosen, plot in (
        ("steps", steps, bars),
        ("matmul", squares, lambda r: lines_over_n(r, "n, float32, n x n by n x n")),
        ("memory", forward, lambda r: lines_over_n(r, "elements of sigmoid, forward")),
    ):
        if chosen:
            drawn = plot(chosen)
            name = f"{path.stem}-{section}.png"
            drawn.savefig(path.with_name(name), dpi=110, bbox_inches="tight", metadata={})
            plt.close(drawn)
            made.append(name)
    return made


def square(row: Row) -> bool:
    s = row["shape"]
    return s["m"] == s["k"] == s["n"] and s["dtype"] == "float32" and not s["batch"]


# ---- PERFORMANCE.md


def summary(results: Results, name: str) -> str:
    """The text between two markers."""
    rows, about = results["rows"], results["about"]
    most = max(row["threads"] for row in rows)
    steps = [row for row in rows if row["section"] == "steps" and row["threads"] == most]
    versions = about["versions"]
    peers = ", ".join(
        f"{title(p)} {versions[p]}" for p in ("torch", "jax", "numpy") if p in versions
    )
    labels = list(dict.fromkeys(label for row in steps for label in row["values"]))
    made = []
    for row in steps:
        ours, peer = ours_and_best(row)
        eager = "torch eager" in row["values"]
        made.append(
            [
                row["title"],
                f"{ratio(row, ours, 'torch eager'):.1f}" if ours and eager else "",
                f"{ratio(row, ours, peer):.2f} ({title(peer)})" if ours and peer else "",
                *(figure(row["values"][k]["median"]) if k in row["values"] else "" for k in labels),
            ]
        )
    head = ["step", "times faster than PyTorch eager", "than the best peer", *map(title, labels)]
    others = []
    for row in rows:
        is_square = row["section"] == "matmul" and square(row) and row["shape"]["layout"] == "nn"
        of_interest = (
            (is_square and row["shape"]["n"] in (64, 256, 1024))
            or (row["section"] == "memory" and row["name"] == "sigmoid forward, 10,000,000")
            or row["section"] in ("chain", "start")
        )
        if not of_interest or (row["section"] in ("matmul", "memory") and row["threads"] != most):
            continue
        ours, peer = ours_and_best(row)
        bound = next((k for k in ("FMA peak", "copy") if k in row["values"]), None)
        made_of = f"matmul {row['name']}" if is_square else row["name"]
        others.append(
            [
                f"{made_of} [{row['unit']}]",
                f"{ratio(row, ours, peer):.2f}" if ours and peer else "",
                figure(row["values"][ours]["median"]) if ours else "",
                f"{figure(row['values'][peer]['median'])} ({title(peer)})" if peer else "",
                f"{figure(row['values'][bound]['median'])} ({bound})" if bound else "",
            ]
        )
    parts = [
        f"**{about['processor']}** ({about['simd']}), {most} threads, {about['date']}; {peers}; "
        f"[all figures](results/{Path(name).stem}.md).",
        table(head, made),
    ]
    if others:
        head = ["", "ratio", "Wengert", "best peer", "the machine's bound"]
        parts.append(table(head, others))
    return "\n\n".join(parts) + "\n"


def update(text: str) -> str:
    """PERFORMANCE.md with each of its tables made again from the file that it names."""

    def made(match: re.Match[str]) -> str:
        results = json.loads((ROOT / match[2]).read_text())
        return f"{match[1]}\n{summary(results, match[2])}\n{match[4]}"

    changed, count = MARKERS.subn(made, text)
    if count == 0:
        raise ValueError("PERFORMANCE.md has no pair of performance markers")
    return changed


# ---- files


def save(results: Results, path: Path) -> None:
    """The JSON file; at no moment half of one."""
    about = json.dumps(results["about"], indent=1)
    rows = ",\n".join(json.dumps(row) for row in results["rows"])
    part = path.with_suffix(".part")
    part.write_text(f'{{"about": {about},\n"rows": [\n{rows}\n]}}\n')
    part.replace(path)


def write(results: Results, path: Path) -> None:
    """The JSON file, and beside it the page and the plots."""
    save(results, path)
    if results["rows"]:
        path.with_suffix(".md").write_text(page(results, draw(results, path)))


def main() -> None:
    chosen = [Path(name) for name in sys.argv[1:]]
    for path in chosen or sorted(RESULTS.glob("*.json")):
        write(json.loads(path.read_text()), path)
    if not chosen:
        PERFORMANCE.write_text(update(PERFORMANCE.read_text()))


if __name__ == "__main__":
    main()
