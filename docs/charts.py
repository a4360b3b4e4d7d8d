"""The charts and tables of performance.md, from the files of benchmarks/results/."""

import json
from pathlib import Path
from typing import Any

import drawing
import op_pages

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
TITLES = {
    "steps": "Training steps, lower is better",
    "memory": "Sigmoid over memory, higher is better",
    "matmul": "Products of square matrices, higher is better",
    "chain": "One multiplication of scalars, lower is better",
    "start": "Size, import and memory, lower is better",
}


def chosen(section: str, row: dict[str, Any]) -> bool:
    """What a page can show of a section: two threads; the square products in one transposition."""
    size = row["name"].split()[0].split("x")
    square = len(size) == 3 and len(set(size)) == 1 and row["name"].endswith(" nn float32")
    return row["threads"] == 2 and (section != "matmul" or square)


def median(value: Any) -> float:
    """A value as it is, or the median of its turns."""
    return float(value["median"] if isinstance(value, dict) else value)


def machine(file: Path) -> str:
    """A machine's charts, as Markdown."""
    data = json.loads(file.read_text())
    about = data["about"]
    made = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    out = [
        f"## {about['processor']}",
        "",
        f"{about['date']}, commit {about['commit']}; {made}.",
        "",
    ]
    for section, title in TITLES.items():
        rows = [r for r in data["rows"] if r["section"] == section and chosen(section, r)]
        out += [f"### {title}", ""] if rows else []
        for row in rows:
            values = [(name, median(v)) for name, v in row["values"].items() if median(v) > 0]
            name = f"{row['name']}: {row['title']}" if row.get("title") else row["name"]
            if values:
                out += ["```{raw} html", drawing.bars(name, values, row["unit"]), "```", ""]
    return "\n".join(out)


def write(folder: Path) -> None:
    """generated/parts/performance.md: the newest file first."""
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    files = sorted(RESULTS.glob("*.json"), reverse=True)
    op_pages.put(parts / "performance.md", "\n".join(machine(file) for file in files))
