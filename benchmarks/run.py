"""Wengert beside its peers, on this machine: one command, see README.md for how it is measured.

    python benchmarks/run.py                         everything: about 12 minutes
    python benchmarks/run.py --quick                 a look, in about a minute
    python benchmarks/run.py steps matmul --threads 1
    python benchmarks/run.py steps --into FILE --missing    the rows that a run was cut before

Writes a JSON file to benchmarks/results/, each row as it comes, and at the end a page of tables and
plots. The exit code is 1 where results of contenders disagree.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import report
from cores import physical_cores, processor, slug
from measure import Laboratory, PeerError, installed
from sections import EACH_THREADS, SECTIONS, Plan, Row

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
    parser.add_argument(
        "--missing",
        action="store_true",
        help="with --into: only rows that it does not have from this commit",
    )
    options = parser.parse_args()
    if options.into and not options.into.exists():
        parser.error(f"--into: there is no {options.into}")
    if options.missing and not options.into:
        parser.error("--missing is of the rows of a file: give --into FILE")
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


def commit() -> str:
    """The commit that is checked out, and whether its files have been changed since."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(report.ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
        return git("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def measure(options: argparse.Namespace, about: dict[str, Any], have: set[Any]) -> Iterator[Row]:
    """Runs the sections, but for the rows (section, name, threads) in `have`.

    What becomes known of the libraries on the way is put into `about`.
    """
    plan = Plan(options.quick, tuple(options.peers.split(",")), options.only)
    for threads in options.threads:
        with Laboratory(threads, plan.peers) as laboratory:
            for peer in plan.peers:
                try:
                    laboratory.worker(peer)
                except PeerError as error:
                    if installed(peer):
                        print(f"{peer} does not start: {error}", file=sys.stderr)
            ours = laboratory.about.get("wengert", {})
            about["simd"] = about["simd"] or ours.get("simd")
            plan.bfloat16 = ours.get("bfloat16", False)
            for peer, said in laboratory.about.items():
                about["versions"]["g++" if peer == "machine" else peer] = said["version"]
            for section in options.sections or SECTIONS:
                if section not in EACH_THREADS and threads != options.threads[-1]:
                    continue
                plan.have = {name for at, name, n in have if (at, n) == (section, threads)}
                last = time.time()
                for row in SECTIONS[section](laboratory, plan):
                    yield row | {
                        "took": round(time.time() - last, 1),
                        "commit": about["commit"],
                        "date": datetime.datetime.now().isoformat(" ", "minutes"),
                    }
                    last = time.time()


def key(row: Row) -> tuple[str, str, int]:
    return row["section"], row["name"], row["threads"]


def placed(rows: list[Row], row: Row) -> list[Row]:
    """The rows with one more, in its place: by section, and numbers of threads side by side."""
    rows = [row if key(old) == key(row) else old for old in rows]
    if row not in rows:
        rows.append(row)
    names: dict[tuple[str, str], int] = {}
    for each in rows:
        names.setdefault(key(each)[:2], len(names))
    sections = list(SECTIONS)
    return sorted(rows, key=lambda r: (sections.index(r["section"]), names[key(r)[:2]], key(r)[2]))


def main() -> int:
    options = arguments()
    about: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "simd": None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {},
        "quick": options.quick,
        "minutes": 0.0,
    }
    path = (
        options.out / f"{about['date']}-{slug(about['processor'])}{'-quick' * options.quick}.json"
    )
    rows: list[Row] = []
    if options.into:
        path = options.into
        old = json.loads(path.read_text())
        if old["about"]["processor"] != about["processor"]:
            raise SystemExit("--into: those results are of another processor")
        rows = old["rows"]
        about |= {k: old["about"][k] for k in ("simd", "versions", "minutes")}
    have = {key(row) for row in rows if options.missing and row.get("commit") == about["commit"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what `timeout` sends
    before, began = about["minutes"], time.time()
    new: list[Row] = []
    interrupted = False
    try:
        for row in measure(options, about, have):
            new.append(row)
            rows = placed(rows, row)
            about["minutes"] = round(before + (time.time() - began) / 60, 1)
            about["threads"] = sorted({each["threads"] for each in rows})
            report.save({"about": about, "rows": rows}, path)
            print(report.lines(row), flush=True)
    except KeyboardInterrupt:
        print("interrupted: what was measured is written", file=sys.stderr)
        interrupted = True
    report.write({"about": about, "rows": rows}, path)
    print(f"{len(new)} rows of {about['commit']}: {path} and {path.with_suffix('.md')}")
    disagree = [(row["name"], row["disagree"]) for row in new if row.get("disagree")]
    for name, labels in disagree:
        print(f"{name}: results differ: {', '.join(labels)}", file=sys.stderr)
    return 130 if interrupted else 1 if disagree else 0


if __name__ == "__main__":
    raise SystemExit(main())
