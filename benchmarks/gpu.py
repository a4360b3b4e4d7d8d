"""Wengert on one GPU beside its peers; gpu.sh builds, and runs this. See README.md.

    python benchmarks/gpu.py            gates, then every row; 7 minutes
    python benchmarks/gpu.py --smoke    the same way with tiny sizes, on whatever is there, also an
                                        emulated GPU; measures nothing and writes no results
    python benchmarks/gpu.py --report   the page and the plot of the results there are

A row is one JSON line in results/gpu/DATE-TIME-DEVICE.jsonl, written as soon as it is known. The
exit code is 1 where a gate fails (then nothing is timed) or results of contenders disagree.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gpu_report
from cores import physical_cores, slug
from measure import Contender, Laboratory, PeerError, compare
from musts import GPU_MUSTS, judge
from sections import make_row

Row = dict[str, Any]
ROOT = Path(__file__).parent.parent
JAX = (("JAX_PLATFORMS", "cuda"), ("XLA_PYTHON_CLIENT_PREALLOCATE", "false"))
TORCH = (("TORCHINDUCTOR_COMPILE_THREADS", "8"),)


# Where a section has to end, as a share of the time that is left for all; later rows say so.
SECTIONS = {"memory": 0.08, "matmul": 0.4, "steps": 1.0}


class Work(NamedTuple):
    """A row to be measured."""

    section: str
    name: str
    precision: str  # as the row states it
    contenders: list[Contender]
    unit: str
    work: float | None  # operations or bytes, for rates
    tolerance: float


STATED = {
    "strict": "float32 products, float32 sums; cuBLAS without TF32",
    "fp32": "float32-accurate (6 products of bfloat16 slices); peers float32, no TF32",
    "fast": "nearly float32 (3 products of bfloat16 slices), error to 1e-5; peers float32, no TF32",
    "bf16": "bfloat16 products, float32 sums; Wengert's operands float32, cuBLAS's bfloat16",
}
STATED_STEPS = STATED | {
    "bf16": "bfloat16 products, float32 sums, parameters and Adam; PyTorch autocast"
}


def products(smoke: bool) -> Iterator[Work]:
    sizes = {"strict": (4096, 8192), "fp32": (4096, 8192), "fast": (8192,), "bf16": (4096, 8192)}
    tolerance = {"strict": 1e-5, "fp32": 1e-5, "fast": 1e-4, "bf16": 3e-2}
    orders = [(p, n, "nn") for p, ns in sizes.items() for n in ns]
    orders += [(p, 4096, layout) for p in ("fp32", "bf16") for layout in ("nt", "tn")]
    for precision, n, layout in orders:
        size = 64 if smoke else n
        spec = {"m": size, "n": size, "k": size, "layout": layout, "dtype": "float32", "batch": 0}
        spec["precision"] = precision
        contenders = [
            Contender("cublas", "gpu_torch", "matmul", spec, TORCH),
            Contender("wengert", "gpu_wengert", "matmul", spec),
        ]
        name = f"{n} {layout} {precision}"
        rate = 2 * size**3 / 1e3
        yield Work(
            "matmul", name, STATED[precision], contenders, "TFLOP/s", rate, tolerance[precision]
        )


def memory(smoke: bool) -> Iterator[Work]:
    n = 1000 if smoke else 100_000_000
    for way, moved in (("forward", 8), ("backward", 12)):
        contenders = [
            Contender("wengert", "gpu_wengert", "sigmoid", {"n": n, "variant": way}),
            Contender("torch", "gpu_torch", "sigmoid", {"n": n, "variant": way}, TORCH),
            # the ceiling: a copy of as many bytes, read and written
            Contender("copy", "gpu_wengert", "sigmoid", {"n": n * moved // 8, "variant": "copy"}),
        ]
        stated = "float32, error to 2e-6; bytes read and written"
        yield Work("memory", f"sigmoid {way} 1e8", stated, contenders, "GB/s", moved * n, 1e-5)


def steps(smoke: bool) -> Iterator[Work]:
    plan = [
        ("small", "strict", ("eager", "graph")),
        ("middle", "fp32", ("eager", "graph")),
        ("large, batch 512", "bf16", ("graph", "reduce-overhead")),
        ("large, batch 4096", "bf16", ("graph", "reduce-overhead")),
        ("large, batch 512", "fp32", ("reduce-overhead",)),
        ("large, batch 4096", "fp32", ("reduce-overhead",)),
        *((f"narrow, batch 2^{n}", "bf16", ("graph", "tiny-cuda-nn")) for n in (14, 16, 18)),
    ]
    for work, precision, variants in plan:
        given = {"work": f"tiny {work}" if smoke else work, "precision": precision}
        contenders = [
            Contender(f"wengert {v}", "gpu_wengert", "step", given | {"variant": v})
            for v in (
                ("eager", "compiled", "run(n)") if work == "small" else ("compiled", "run(n)")
            )
        ]
        contenders += [
            Contender(
                v if v == "tiny-cuda-nn" else f"torch {v}",
                "gpu_torch",
                "step",
                given | {"variant": v},
                TORCH,
            )
            for v in variants
        ]
        if work in ("small", "middle"):
            settings = (("JAX_PLATFORMS", "cpu"),) if smoke else JAX
            arguments = given | {"variant": "scan"}
            contenders.append(Contender("jax scan", "gpu_jax", "step", arguments, settings))
        tolerance = 5e-2 if precision == "bf16" else 1e-3
        stated = STATED_STEPS[precision]
        yield Work("steps", f"{work} {precision}", stated, contenders, "us", None, tolerance)


WORKS = {"matmul": products, "memory": memory, "steps": steps}


def gates(laboratory: Laboratory, smoke: bool) -> Iterator[Row]:
    """What must be right before anything is timed."""
    shapes = [(24, 40, 33)] if smoke else [(512, 512, 2048), (1000, 136, 264)]
    checks = [("sigmoid", "strict", (1, 1000 if smoke else 1_000_000, 1))]
    checks += [("matmul", p, shape) for p in STATED for shape in shapes]
    worker = laboratory.worker("gpu_wengert")
    for name, precision, (m, n, k) in checks:
        row: Row = {"section": "gates", "name": f"{name} {precision} {m}x{n}x{k}"}
        given = {"name": name, "m": m, "n": n, "k": k, "precision": precision}
        try:
            errors, note = worker.ask("make", "gate", "gate", given, timeout=60)
            row |= {"passed": bool((errors <= 1).all()), "error": note}
        except PeerError as error:
            row["missing"] = str(error)
            row["passed"] = "no set_matmul_precision" in str(error)
        yield row


def about(smoke: bool) -> dict[str, Any]:
    """When, on what, and of which commit."""

    def said(*command: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    query = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "-i", "0")
    name, _, driver = said(*query).partition(", ")
    commit = os.environ.get("WENGERT_COMMIT") or said("git", "rev-parse", "--short", "HEAD")
    if not smoke and not name:
        raise SystemExit("gpu.py: no GPU: nvidia-smi is not there or names none")
    return {
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "device": name,
        "driver": driver,
        "commit": commit + ("+" if said("git", "status", "--porcelain", "csrc", "python") else ""),
    }


def clocks() -> str:
    """The SM clock, power and temperature: read, never set."""
    query = "clocks.sm,power.draw,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "-i", "0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def measured(work: Work, laboratory: Laboratory, smoke: bool, left: float) -> Row:
    done = compare(
        laboratory,
        work.contenders,
        tolerance=work.tolerance,
        turns=1 if smoke else 7,
        seconds=1e-4 if smoke else 0.1,
        budget=min(left / 2, 12),
        patience=60 if smoke else min(max(left, 5), 90),
    )
    row: Row = make_row(work.section, work.name, laboratory, work.unit, done, work.work)
    return row


def run(smoke: bool, out: Path | None, seconds: float, ceilings: Path | None) -> int:
    started = time.time()
    facts = about(smoke)
    path = None
    if out:
        moment = facts["date"][:16].replace("T", "-").replace(":", "")
        path = out / f"{moment}-{slug(facts['device'])}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)

    def note(row: Row) -> None:
        print(gpu_report.line(row, smoke), flush=True)
        if path:
            with path.open("a") as file:
                file.write(json.dumps(row | facts) + "\n")

    for text in ceilings.read_text().splitlines() if ceilings else []:
        note({"section": "ceilings"} | json.loads(text))
    threads = min(16, len(physical_cores()))
    failed = False
    with Laboratory(threads, ()) as laboratory:
        try:
            for row in gates(laboratory, smoke):
                note(row)
                failed |= not row["passed"]
        except PeerError as error:
            print(f"gpu.py: {error}", file=sys.stderr)
            return 1
        if failed:
            print("a gate has failed: nothing is timed", file=sys.stderr)
            return 1
        began = time.time()
        seconds -= began - started
        for section, share in SECTIONS.items():
            for work in WORKS[section](smoke):
                left = seconds * share - (time.time() - began)
                if left < 3 and not smoke:
                    row = {"section": section, "name": work.name, "unit": work.unit, "values": {}}
                    row |= {"missing": {"all": "no time was left"}, "threads": threads}
                else:
                    row = measured(work, laboratory, smoke, left)
                row |= {"precision": work.precision, "clocks": clocks()}
                row["musts"] = judge(row, GPU_MUSTS)
                note(row)
                failed |= bool(row.get("disagree"))
    if path:
        gpu_report.write(path)
        print(f"written: {path} and {path.with_suffix('.md')}")
    return int(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing is measured")
    parser.add_argument("--report", action="store_true", help="only the pages of what is there")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gpu")
    parser.add_argument("--ceilings", type=Path, help="what ceilings.cu printed")
    parser.add_argument("--seconds", type=float, default=420, help="for gates and rows")
    options = parser.parse_args()
    if options.report:
        gpu_report.write_all(options.out)
        return 0
    out = None if options.smoke else options.out
    return run(options.smoke, out, options.seconds, options.ceilings)


if __name__ == "__main__":
    raise SystemExit(main())
