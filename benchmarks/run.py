"""Wengert beside its peers, on this machine: one command, see README.md for how it is measured.

    python benchmarks/run.py                         everything: about 12 minutes
    python benchmarks/run.py --quick                 a look, in about a minute
    python benchmarks/run.py steps matmul --threads 1

Writes a JSON file, a page of tables and plots to benchmarks/results/. The exit code is 1 where
results of contenders disagree.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

import report
from cores import physical_cores, processor
from measure import Laboratory, PeerError, installed
from sections import EACH_THREADS, SECTIONS, Plan

PEERS = ("wengert", "torch", "jax", "numpy", "machine")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"some of {', '.join(SECTIONS)}; default all"
    )
    parser.add_argument(
        "--threads", metavar="N,N", help="numbers of threads; default 1,2, and 2 if --quick"
    )
    parser.add_argument(
        "--peers", default=",".join(PEERS), metavar="P,P", help="default all that are installed"
    )
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="rows in whose names this is found"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows and turns")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        metavar="DIRECTORY",
        help="where to write; default benchmarks/results",
    )
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="an earlier results file, whose rows are replaced"
    )
    options = parser.parse_args()
    for what, chosen, known in (
        ("section", options.sections, tuple(SECTIONS)),
        ("peer", options.peers.split(","), PEERS),
    ):
        if unknown := [name for name in chosen if name not in known]:
            parser.error(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    try:
        given = options.threads or ("2" if options.quick else "1,2")
        options.threads = [int(n) for n in given.split(",")]
    except ValueError:
        parser.error(f"--threads is {options.threads!r}; expected numbers, such as 1,2")
    cores = len(physical_cores())
    if bad := [n for n in options.threads if not 1 <= n <= cores]:
        print(f"left out: {bad} threads, since {cores} processors may be used", file=sys.stderr)
        options.threads = [n for n in options.threads if n not in bad]
    if not options.threads:
        options.threads = [cores]
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the sections; what was measured so far is kept if a user interrupts."""
    plan = Plan(options.quick, tuple(options.peers.split(",")), options.only)
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    simd = None
    began, interrupted = time.time(), False
    try:
        for threads in options.threads:
            with Laboratory(threads, plan.peers) as laboratory:
                for peer in plan.peers:
                    try:
                        laboratory.worker(peer)
                    except PeerError as error:
                        if installed(peer):
                            print(f"{peer} does not start: {error}", file=sys.stderr)
                ours = laboratory.about.get("wengert", {})
                simd, plan.bfloat16 = ours.get("simd"), ours.get("bfloat16", False)
                for section in options.sections or SECTIONS:
                    if section not in EACH_THREADS and threads != options.threads[-1]:
                        continue
                    last = time.time()
                    for row in SECTIONS[section](laboratory, plan):
                        rows.append(row | {"took": round(time.time() - last, 1)})
                        print(report.lines(rows[-1]), flush=True)
                        last = time.time()
                versions |= {peer: about["version"] for peer, about in laboratory.about.items()}
    except KeyboardInterrupt:
        print("interrupted: what was measured is written", file=sys.stderr)
        interrupted = True
    if "machine" in versions:
        versions["g++"] = versions.pop("machine")
    about = {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "simd": simd,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "quick": options.quick,
        "minutes": round((time.time() - began) / 60, 1),
    }
    return {"about": about | ({"interrupted": True} if interrupted else {}), "rows": rows}


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The old rows, with the new ones in their places or behind; of the same processor only."""
    if old["about"]["processor"] != new["about"]["processor"]:
        raise SystemExit("--into: those results are of another processor")

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return list(SECTIONS).index(row["section"]), row["threads"], row["name"]

    rows = {key(row): row for row in [*old["rows"], *new["rows"]]}
    about = old["about"] | new["about"]
    about["simd"] = new["about"]["simd"] or old["about"]["simd"]
    about["versions"] = old["about"]["versions"] | new["about"]["versions"]
    about["minutes"] = round(old["about"]["minutes"] + new["about"]["minutes"], 1)
    return {"about": about, "rows": [rows[k] for k in sorted(rows, key=lambda k: k[:2])]}


def main() -> int:
    options = arguments()
    old = json.loads(options.into.read_text()) if options.into else None
    results = measure(options)
    about = results["about"]
    slug = re.sub(r"[^a-z0-9]+", "-", about["processor"].lower()).strip("-")
    path = options.out / f"{about['date']}-{slug}{'-quick' * options.quick}.json"
    path = options.into or path
    path.parent.mkdir(parents=True, exist_ok=True)
    report.write(merge(old, results) if old else results, path)
    print(f"written in {about['minutes']} minutes: {path} and {path.with_suffix('.md')}")
    disagree = [(row["name"], row["disagree"]) for row in results["rows"] if row.get("disagree")]
    for name, labels in disagree:
        print(f"{name}: results differ: {', '.join(labels)}", file=sys.stderr)
    if about.get("interrupted"):
        return 130
    return 1 if disagree else 0


if __name__ == "__main__":
    raise SystemExit(main())
