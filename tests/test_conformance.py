"""Suites that others wrote, a part of each: what passed when their pages were made passes still."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "conformance"
NEEDS = {"einops_tests": "einops", "onnx_networks": "onnxruntime"}
SUITES = sorted(page.stem for page in HERE.glob("*.md") if page.stem != "README")
# Cases whose data may be absent.
OPTIONAL = {"onnx_networks"}


def passed(suite: str) -> set[str]:
    text = (HERE / f"{suite}.md").read_text()
    names = re.search(r"^## Passed: (\d+)\n\n(.*)", text, flags=re.M | re.S)
    assert names is not None
    rows = re.findall(r"^\| (\S+) \| [^|]* \|$", names.group(2), flags=re.M)[1:]
    found = set(rows or names.group(2).strip().split("; "))
    assert len(found) == int(names.group(1)), suite
    return found


@pytest.mark.parametrize("suite", SUITES)
def test_what_passed_passes(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip(NEEDS.get(suite, "expecttest"))
    monkeypatch.syspath_prepend(str(HERE))
    try:
        cases = list(importlib.import_module(suite).cases(quick=True))
    except importlib.import_module("cases").NotHere as error:
        pytest.skip(f"the suite is not here: {error}")
    known = passed(suite)
    if suite in OPTIONAL:
        cases = [c for c in cases if not c.reason.startswith("pip install")]
    assert len(known & {c.name for c in cases if c.state == "passed"}) >= (
        3 if suite in OPTIONAL else 8
    )
    lost = [c for c in cases if c.state != "passed" and c.name in known]
    assert not lost, "\n".join(f"{c.name}: {c.reason}" for c in lost)
    wrong = [
        c.name
        for c in cases
        if c.state == "failed" and f"| {c.name} |" not in (HERE / f"{suite}.md").read_text()
    ]
    assert not wrong, wrong


def test_the_table_is_of_these_pages() -> None:
    table = (HERE / "README.md").read_text()
    for suite in SUITES:
        row = re.search(
            rf"^\| \[{suite}\]\({suite}\.md\) \| ([^|]+) \| (\d+) \| (\d+) \|", table, flags=re.M
        )
        assert row is not None, suite
        assert int(row.group(3)) == len(passed(suite)), suite
