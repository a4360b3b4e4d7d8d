"""Ops one by one, forward and with their gradient, compared with PyTorch and NumPy.

    python benchmarks/ops.py                    # 1e3 and 1e6 float32 elements, one and two threads
    python benchmarks/ops.py --only sort cumsum --sizes 1000000 --threads 1
    python benchmarks/ops.py --write            # and renew results/ops.md

Each library has a process of its own, and they take turns: see README.md. Ratio: the time of
PyTorch over Wengert's, so that above 1 Wengert is faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cores import processor
from measure import Contender, Laboratory, compare
from op_table import OPS

HERE = Path(__file__).parent
SLOW = 1 / 1.5  # below this ratio a row needs a reason
_LINES = "several lines, each a pass over memory, where PyTorch has one kernel; compile fuses them"
REASONS: dict[str, str] = {
    "smooth_l1_loss": f"{_LINES}: a difference, Huber's function, a mean",
    "tril": "three lines: the offsets of the elements, their comparison, a select",
    "roll": "two views and a concatenation: three calls, whose cost shows in short tensors",
    **dict.fromkeys(("sin", "cos", "tan"), "computed in float64"),
    "pow": "libm's function for each element",
    "sum of rows": "gathered in float64, which PyTorch's is not",
    "sum of columns": "gathered in float64, which PyTorch's is not",
    "mean of rows": "gathered in float64, which PyTorch's is not",
    "median of rows": "four lines: NaN is looked for before a sort picks the rank",
}


class Measured(NamedTuple):
    """Microseconds by library; absent where it has no such op, or differs."""

    op: str
    n: int
    threads: int
    backward: bool
    us: dict[str, float]
    differ: list[str]

    @property
    def ratio(self) -> float | None:
        ours, theirs = self.us.get("wengert"), self.us.get("torch")
        return theirs / ours if ours and theirs else None


def measure(options: argparse.Namespace) -> Iterator[Measured]:
    for threads in options.threads:
        with Laboratory(threads, ("wengert", "torch", "numpy")) as laboratory:
            for name, op in OPS.items():
                if options.only and name not in options.only:
                    continue
                for n in op.sizes or options.sizes:
                    for backward in (False, True) if op.gradient else (False,):
                        peers = ["wengert", "torch"]
                        if op.numpy and not backward:
                            peers.append("numpy")
                        given = {"name": name, "n": n, "backward": backward}
                        found = compare(
                            laboratory,
                            [Contender(peer, peer, "op", given) for peer in peers],
                            tolerance=1e-4,
                            turns=3 if options.quick else 7,
                            seconds=0.002 if options.quick else 0.01,
                            budget=3,
                        )
                        us = {k: 1e6 * v["median"] for k, v in found["seconds"].items()}
                        yield Measured(name, n, threads, backward, us, found.get("disagree", []))


def line(m: Measured) -> str:
    what = "with gradient" if m.backward else "forward"
    cells = [f"{m.us[p]:.1f}" if p in m.us else "" for p in ("wengert", "torch", "numpy")]
    ratio = "" if m.ratio is None else f"{m.ratio:.2f}"
    note = f"differ: {', '.join(m.differ)}" if m.differ else ""
    if m.ratio is not None and m.ratio < SLOW:
        note = note or REASONS.get(m.op, "**slower**")
    return (
        f"| {m.op} | {m.n:.0e} | {m.threads} | {what} | " + " | ".join([*cells, ratio, note]) + " |"
    )


HEAD = (
    "| op | elements | threads | | Wengert, us | PyTorch | NumPy | ratio | |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def page(rows: list[Measured]) -> str:
    known = [r for r in rows if r.ratio is not None]
    slowest = sorted(known, key=lambda r: r.ratio or 0.0)[:10]
    middle = float(np.exp(np.mean([np.log(r.ratio) for r in known if r.ratio])))
    below = sum((r.ratio or 0) < SLOW for r in known)
    about = (
        f"{time.strftime('%Y-%m-%d')}, {processor()}. Microseconds a call, float32, medians of "
        "turns; ratio above 1: Wengert is faster. Made by `python benchmarks/ops.py --write`.\n\n"
        f"{len(known)} rows compared with PyTorch, geometric mean of the ratios {middle:.2f}; "
        f"{below} below {SLOW:.2f}."
    )
    few, all_ = (HEAD + "\n".join(map(line, some)) for some in (slowest, rows))
    return f"# Ops one by one\n\n{about}\n\n## The ten slowest\n\n{few}\n\n## All\n\n{all_}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="OP", choices=OPS, help="these ops")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 1_000_000], help="elements")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    parser.add_argument("--write", action="store_true", help="renew results/ops.md")
    options = parser.parse_args()
    rows: list[Measured] = []
    for m in measure(options):
        rows.append(m)
        print(line(m), flush=True)
    if options.write:
        (HERE / "results" / "ops.md").write_text(page(rows))


def task(
    library: Any, name: str, n: int, backward: bool, tensor: Any, grad: Any, array: Any
) -> Any:
    """What a worker times: `library` is its namespace, the others are how it makes a tensor, takes
    a gradient and shows an array."""
    from workloads import Task

    op = OPS[name]
    arrays = op.draw(n)
    fn, parameters = op.function(library)
    if not backward:
        given = [tensor(a, False) for a in arrays]

        def forward() -> Any:
            if not parameters:
                return fn(*given)
            with library.no_grad():
                return fn(*given)

        return Task(forward, lambda: array(forward()))
    given = [tensor(a, a.dtype == np.float32) for a in arrays]
    leaves = [x for x, a in zip(given, arrays, strict=True) if a.dtype == np.float32]
    leaves += parameters
    one = fn(*given)
    g = tensor(np.random.default_rng(1).normal(size=tuple(one.shape)).astype(np.float32), False)

    def run() -> Any:
        return grad(fn(*given), leaves, g)

    return Task(run, lambda: np.concatenate([array(d).ravel() for d in run()]))


if __name__ == "__main__":
    main()
