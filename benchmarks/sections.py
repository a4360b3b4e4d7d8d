"""What is measured, section by section: which contenders stand in which row.

A section yields rows: {section, name, threads, unit, values, notes, missing, musts}. `values` has,
for each contender, the median of its turns and their quartiles "low" and "high", in the row's unit.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import (
    Contender,
    Laboratory,
    PeerError,
    Worker,
    compare,
    installed,
    median_of_processes,
)
from musts import judge
from workloads import WORKLOADS

Row = dict[str, Any]

SKYLAKEX = (("OPENBLAS_CORETYPE", "SkylakeX"),)


@dataclass
class Plan:
    """How much is to be measured."""

    quick: bool
    peers: tuple[str, ...]
    only: str = ""  # a pattern that is to be found in a row's name
    bfloat16: bool = False  # whether Wengert has it
    have: set[str] = field(default_factory=set)  # rows of this section that are there already

    def wants(self, name: str) -> bool:
        return name not in self.have and re.search(self.only, name) is not None


def make_row(
    section: str,
    name: str,
    laboratory: Laboratory,
    unit: str,
    measured: dict[str, Any],
    work: float | None = None,
) -> Row:
    """With `work` (operations or bytes of a unit of work): rates, in billions a second."""
    scale = {"ms": 1e3, "us": 1e6, "ns": 1e9}.get(unit, 0.0)
    values = {}
    for label, times in measured.pop("seconds").items():
        low, median, high = times["low"], times["median"], times["high"]
        if work is None:
            value = {"median": median * scale, "low": low * scale, "high": high * scale}
        else:
            value = {
                "median": work / median / 1e9,
                "low": work / high / 1e9,
                "high": work / low / 1e9,
            }
        values[label] = {k: float(f"{v:.5g}") for k, v in value.items()}
        values[label]["turns"] = times["turns"]
    row = {
        "section": section,
        "name": name,
        "threads": laboratory.threads,
        "unit": unit,
        "values": values,
        **measured,
    }
    return row | {"musts": judge(row)}


def keep(plan: Plan, contenders: list[Contender]) -> list[Contender]:
    return [c for c in contenders if c.peer in plan.peers]


def steps(laboratory: Laboratory, plan: Plan) -> Iterator[Row]:
    """Whole training steps: microseconds a step."""
    for name, work in WORKLOADS.items():
        if not plan.wants(name) or (plan.quick and name == "W4"):
            continue

        def step(label: str, variant: str, name: str = name, **more: Any) -> Contender:
            arguments = {"work": name, "variant": variant} | more
            return Contender(label, label.split()[0], "step", arguments)

        contenders = [
            step("wengert eager", "eager"),
            step("wengert compiled", "compiled"),
            step("wengert run(n)", "run(n)"),
            step("torch eager", "eager"),
            step("torch compiled", "compiled", only="whole step" if plan.quick else ""),
            step("jax jit", "jit"),
            step("jax scan", "scan"),
        ]
        if work.optimizer != "adam":
            contenders.append(step("numpy by hand", "by hand"))
        measured = compare(
            laboratory,
            keep(plan, contenders),
            tolerance=1e-4,
            turns=5 if plan.quick else 15,
            seconds=0.03 if plan.quick else 0.1,
            budget=3 if plan.quick else 30,
        )
        row = make_row("steps", name, laboratory, "us", measured)
        yield row | {"title": work.title, "matmul_flops": work.matmul_flops, "n": work.steps}


def products(plan: Plan) -> Iterator[tuple[int, int, int, str, str, int]]:
    """m, k, n, layout, dtype, batch."""
    layouts = ("nn", "nt", "tn", "tt")
    squares = (16, 64, 256) if plan.quick else (16, 32, 64, 128, 256, 512, 1024, 2048)
    for n in squares:
        for layout in layouts[:1] if plan.quick else layouts:
            yield n, n, n, layout, "float32", 0
    # Forward of a layer (batch, in, out), its weight's gradient and its input's.
    layers = [(100, 10, 5), (64, 784, 128), (64, 128, 10), (128, 784, 512), (128, 512, 512)]
    for batch, i, o in layers[:1] if plan.quick else [*layers, (128, 512, 10)]:
        for layout in layouts:
            yield batch, i, o, layout, "float32", 0
        if batch > 100 and not plan.quick:
            yield o, batch, i, "tn", "float32", 0
            yield batch, o, i, "nn", "float32", 0
    # Where a call costs more than the product: a hundred products in one call.
    for m, k, n in [(16, 16, 16), (32, 32, 32), (64, 64, 64), (100, 10, 5)]:
        yield m, k, n, "nn", "float32", 100
    for n in squares:
        yield n, n, n, "nn", "float64", 0
        if plan.bfloat16:
            yield n, n, n, "nn", "bfloat16", 0


def matmul(laboratory: Laboratory, plan: Plan) -> Iterator[Row]:
    """Products, each into memory that is there already where the library has a way: GFLOP/s."""
    for m, k, n, layout, dtype, batch in products(plan):
        name = f"{m}x{k}x{n} {layout} {dtype}" + (f", {batch} in a call" if batch else "")
        if not plan.wants(name):
            continue
        spec = {"m": m, "k": k, "n": n, "layout": layout, "dtype": dtype, "batch": batch}
        contenders = [
            Contender("wengert", "wengert", "matmul", spec),
            Contender("openblas", "numpy", "matmul", spec),
            Contender("openblas SkylakeX", "numpy", "matmul", spec, SKYLAKEX),
            Contender("torch", "torch", "matmul", spec),
            Contender("FMA peak", "machine", "matmul", spec),
        ]
        if dtype == "bfloat16":
            contenders = [c for c in contenders if c.peer in ("wengert", "torch")]
        flops = 2.0 * m * k * n * max(batch, 1)
        measured = compare(
            laboratory,
            keep(plan, contenders),
            tolerance={"float32": 1e-5, "float64": 1e-12, "bfloat16": 2e-2}[dtype],
            turns=3 if plan.quick else 7,
            seconds=0.005 if plan.quick else 0.01,
            budget=5,
        )
        yield make_row("matmul", name, laboratory, "GFLOP/s", measured, flops) | {"shape": spec}


# What a peer has at the like setting; what it has at all, in float32, stands beside it.
PRECISIONS = {
    "fp32": {"torch": "highest", "jax": "highest"},
    "fast": {"torch": "highest", "jax": "highest"},
    "bf16": {"torch": "medium", "jax": "bfloat16"},
}


def precision(laboratory: Laboratory, plan: Plan) -> Iterator[Row]:
    """Float32 through products of bfloat16 (`set_matmul_precision`), with the errors in brackets.

    Products in GFLOP/s, and the steps W3 and W4, compiled, in microseconds: the error of a step is
    the largest relative difference of its losses, in 200 steps, from those in float64.
    """
    for ours, settings in PRECISIONS.items():
        for n in (512, 1024) if plan.quick else (256, 512, 1024, 2048):
            name = f"{n}x{n}x{n} {ours}"
            if not plan.wants(name):
                continue
            spec = {"m": n, "k": n, "n": n, "layout": "nn", "dtype": "float32", "batch": 0}
            contenders = [
                Contender(f"{peer} {at}", peer, "matmul", spec | {"precision": at})
                for peer, at in ({"wengert": ours} | settings).items()
            ]
            contenders += [
                Contender("wengert strict", "wengert", "matmul", spec | {"precision": "strict"}),
                Contender("openblas", "numpy", "matmul", spec),
                Contender("FMA peak", "machine", "matmul", spec),
            ]
            measured = compare(
                laboratory,
                keep(plan, contenders),
                tolerance=2e-2,
                turns=5 if plan.quick else 11,
                seconds=0.01 if plan.quick else 0.03,
                budget=8,
            )
            yield make_row("precision", name, laboratory, "GFLOP/s", measured, 2.0 * n**3)
        for work in () if plan.quick else ("W3", "W4"):
            if not plan.wants(name := f"{work} {ours}"):
                continue
            arguments = {"work": work, "variant": "compiled"}
            contenders = [
                Contender(f"wengert {ours}", "wengert", "step", arguments | {"precision": ours}),
                Contender("wengert strict", "wengert", "step", arguments | {"precision": "strict"}),
                Contender(
                    f"torch {settings['torch']}",
                    "torch",
                    "step",
                    arguments | {"precision": settings["torch"], "only": "whole step"},
                ),
                Contender(
                    f"jax {settings['jax']}",
                    "jax",
                    "step",
                    {"work": work, "variant": "jit", "precision": settings["jax"]},
                ),
            ]
            measured = compare(
                laboratory, keep(plan, contenders), tolerance=2e-2, turns=9, seconds=0.1, budget=30
            )
            yield make_row("precision", name, laboratory, "us", measured)


def memory(laboratory: Laboratory, plan: Plan) -> Iterator[Row]:
    """sigmoid, which reads and writes: GB/s, 8 bytes an element forward, 20 with the gradient."""
    sizes = (1_000, 100_000, 10_000_000)
    for n in sizes if plan.quick else (1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        for direction, size in (("forward", 8), ("forward and backward", 20)):
            name = f"sigmoid {direction}, {n:,}"
            if not plan.wants(name):
                continue

            def sigmoid(peer: str, variant: str, label: str = "", n: int = n) -> Contender:
                label = label or f"{peer} {variant}"
                return Contender(label, peer, "sigmoid", {"n": n, "variant": variant})

            if direction == "forward":
                contenders = [
                    sigmoid("wengert", "fresh"),
                    sigmoid("wengert", "reused"),
                    sigmoid("torch", "fresh"),
                    sigmoid("torch", "reused"),
                    sigmoid("jax", "fresh"),
                    sigmoid("numpy", "fresh"),
                    sigmoid("numpy", "reused"),
                    sigmoid("machine", "copy", "copy"),
                    sigmoid("machine", "copy past the cache", "copy past the cache"),
                ]
            else:
                peers = ("wengert", "torch", "jax", "numpy")
                contenders = [sigmoid(peer, "gradient", peer) for peer in peers]
            measured = compare(
                laboratory,
                keep(plan, contenders),
                tolerance=1e-5,
                turns=3 if plan.quick else 9,
                seconds=0.01 if plan.quick else 0.03,
                budget=10,
            )
            yield make_row("memory", name, laboratory, "GB/s", measured, size * n) | {"n": n}


def chain(laboratory: Laboratory, plan: Plan) -> Iterator[Row]:
    """A hundred multiplications of scalars, each of which a user wrote: nanoseconds for one."""
    for variant, name, peers in (
        ("value", "scalar op, no gradient", ("wengert", "torch", "jax", "numpy")),
        ("gradient", "scalar op, forward and backward", ("wengert", "torch", "jax")),
    ):
        if not plan.wants(name):
            continue
        arguments = {"length": 100, "variant": variant}
        contenders = [Contender(peer, peer, "chain", arguments) for peer in peers]
        if "numpy" in peers:
            scalars = arguments | {"variant": "scalar"}
            contenders.append(Contender("numpy scalar", "numpy", "chain", scalars))
        measured = compare(
            laboratory,
            keep(plan, contenders),
            tolerance=1e-5,
            turns=5 if plan.quick else 15,
            seconds=0.02 if plan.quick else 0.05,
            budget=10,
        )
        yield make_row("chain", name, laboratory, "ns", measured)


def installed_size(name: str) -> float:
    """Megabytes of a package's files, without what it depends on."""
    if name == "jax":
        return sum(map(files_size, ("jax", "jaxlib")))
    spec = importlib.util.find_spec(name)
    if name != "wengert" or spec is None:
        return files_size(name)
    # An editable install has the modules in one place and the built core in another.
    folders = {Path(p) for p in spec.submodule_search_locations or ()}
    core = importlib.util.find_spec("wengert._core")
    files = {
        f for d in folders for f in d.rglob("*") if f.is_file() and "__pycache__" not in str(f)
    }
    if core and core.origin:
        files.add(Path(core.origin))
    return sum(f.stat().st_size for f in files) / 1e6


def files_size(distribution: str) -> float:
    files = importlib.metadata.files(distribution) or []
    paths = (Path(str(f.locate())) for f in files if "__pycache__" not in str(f))
    return sum(p.stat().st_size for p in paths if p.is_file()) / 1e6


def peak_memory(contender: Contender, threads: int) -> float:
    """Megabytes of a process of its own at their highest, after some steps."""
    worker = Worker(contender.peer, threads)
    try:
        worker.ask("make", "it", contender.kind, contender.arguments)
        for _ in range(2):
            worker.ask("turn", "it", 1)
        return float(worker.ask("peak_memory")) / 1e6
    finally:
        worker.close()


def start(laboratory: Laboratory, plan: Plan) -> Iterator[Row]:
    """What it costs to begin: import time beyond NumPy's, size on the disk, peak memory of W4."""
    libraries = [p for p in ("wengert", "torch", "jax") if p in plan.peers and installed(p)]
    if plan.wants("import, beyond NumPy's"):
        yield import_time(laboratory, plan, libraries)
    if plan.wants("installed size"):
        sizes = {p: {"median": round(installed_size(p), 2)} for p in (*libraries, "numpy")}
        row = {"section": "start", "name": "installed size", "threads": 1, "unit": "MB"}
        yield row | {"values": sizes, "musts": []}
    if plan.wants("peak memory, W4"):
        yield peak_memories(laboratory, plan)


def import_time(laboratory: Laboratory, plan: Plan, libraries: list[str]) -> Row:
    code = "import time, numpy; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    commands = {p: [sys.executable, "-c", code.format(p)] for p in libraries}
    seconds = median_of_processes(commands, 3 if plan.quick else 11)
    return make_row("start", "import, beyond NumPy's", laboratory, "ms", {"seconds": seconds})


def peak_memories(laboratory: Laboratory, plan: Plan) -> Row:
    def last(label: str, variant: str, **more: str) -> Contender:
        arguments = {"work": "W4", "variant": variant} | more
        return Contender(label, label.split()[0], "step", arguments)

    contenders = [
        last("wengert compiled", "compiled"),
        last("torch eager", "eager", only="fused optimizer"),
        last("torch compiled", "compiled", only="whole step"),
        last("jax jit", "jit"),
    ]
    values, missing = {}, {}
    for contender in keep(plan, contenders):
        if plan.quick and contender.label == "torch compiled":
            continue
        if not installed(contender.peer):
            missing[contender.label] = "not installed"
            continue
        try:
            peak = peak_memory(contender, laboratory.threads)
            values[contender.label] = {"median": round(peak, 1)}
        except PeerError as error:
            missing[contender.label] = str(error)
    row = {
        "section": "start",
        "name": "peak memory, W4",
        "threads": laboratory.threads,
        "unit": "MB",
        "values": values,
        "missing": missing,
    }
    return row | {"musts": judge(row)}


SECTIONS = {
    "steps": steps,
    "matmul": matmul,
    "precision": precision,
    "memory": memory,
    "chain": chain,
    "start": start,
}
EACH_THREADS = (
    "steps",
    "matmul",
    "precision",
    "memory",
)  # the others are one thread's, or the last number's
