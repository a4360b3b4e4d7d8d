"""Wengert judged by suites that others wrote.

    python tests/conformance/run.py [SUITE ...] [--quick] [--write]

A suite is a module of this folder: cases(quick) gives a Case for each of its cases. Needs what the
suites come with: pip install torch==2.13.0 expecttest einops==0.8.2 onnx==1.23.2 onnxruntime. The
sdist of autograd==1.9.1 comes by itself. --write renews README.md, and a page of all cases for each
suite.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cases import Case

HERE = Path(__file__).parent
SUITES = (
    "op_db",
    "error_inputs",
    "module_db",
    "optim_db",
    "schedules",
    "einops_tests",
    "hips_autograd",
    "tinygrad_cases",
    "onnx_nodes",
    "onnx_networks",
)
HEAD = """# Conformance

Wengert judged by suites that others wrote. Made by `python tests/conformance/run.py --write`; not
edited by hand. A case passes if values, gradients and, where the suite has them, second gradients
agree. The pages name each case that does not, with its reason.

| suite | version | cases | passed | failed | missing | not applicable |
|---|---|---|---|---|---|---|
"""


def page(name: str, suite: object, cases: list[Case]) -> str:
    lines = [f"# {name}", "", str(suite.__doc__).strip().splitlines()[0], ""]
    for state, title in (
        ("failed", "Failed"), ("missing", "Missing"), ("n/a", "Not applicable"),
    ):  # fmt: skip
        found = [c for c in cases if c.state == state]
        if found:
            lines += [f"## {title}: {len(found)}", "", "| case | reason |", "|---|---|"]
            lines += [f"| {c.name} | {c.reason.replace('|', '/')} |" for c in found] + [""]
    passed = [c for c in cases if c.state == "passed"]
    lines += [f"## Passed: {len(passed)}", ""]
    if any(c.reason for c in passed):
        lines += ["| case | figures |", "|---|---|"]
        lines += [f"| {c.name} | {c.reason} |" for c in passed] + [""]
    else:
        lines += ["; ".join(c.name for c in passed), ""]
    return "\n".join(lines)


def row(name: str, version: str, cases: Iterable[Case]) -> str:
    count = Counter(c.state for c in cases)
    figures = (sum(count.values()), *(count[s] for s in ("passed", "failed", "missing", "n/a")))
    return f"| [{name}]({name}.md) | {version} | " + " | ".join(map(str, figures)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("suite", nargs="*", choices=[*SUITES, []], help="all, unless given")
    parser.add_argument("--quick", action="store_true", help="a few cases of each kind")
    parser.add_argument("--write", action="store_true", help="renew the pages")
    options = parser.parse_args()
    known = table.read_text().splitlines() if (table := HERE / "README.md").exists() else []
    rows = {n: line for n in SUITES for line in known if line.startswith(f"| [{n}]")}
    for name in options.suite or SUITES:
        suite = importlib.import_module(name)
        start, cases = time.perf_counter(), list(suite.cases(options.quick))
        rows[name] = row(name, suite.VERSION, cases)
        print(rows[name], f"{time.perf_counter() - start:.0f} s", flush=True)
        for c in cases:
            if c.state == "failed":
                print("  ", c.name, "-", c.reason[:150], file=sys.stderr)
        if options.write:
            (HERE / f"{name}.md").write_text(page(name, suite, cases))
    if options.write:
        (HERE / "README.md").write_text(HEAD + "\n".join(rows.values()) + "\n")


if __name__ == "__main__":
    main()
