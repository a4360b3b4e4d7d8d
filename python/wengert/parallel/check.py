"""Measures the ranks' network, and says how training would scale on it.

    mpiexec -n 2 python -m wengert.parallel.check
    mpiexec -n 2 python -m wengert.parallel.check --layers 784 2048 10 --batch 256 --json found.json

Times allreduce of 1 KB to 64 MB, in MPI's own order and in the fixed tree, and fits to the latter,
which `DataParallel` takes unless told otherwise,

    T(n, m) = 2 (n - 1) alpha + 2 (n - 1) / n m beta

for n ranks and m bytes: a ring's time, with alpha seconds a message and beta seconds a byte
(Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH",
2005). Then it times a step of a perceptron on one rank, and expects of n ranks the time
step / n + T(n, bytes of its gradient), with nothing hidden behind computation.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import wengert
from wengert import nn

from . import tree
from .communicator import Communicator, mpiexec, world

SIZES = (1 << 10, 1 << 13, 1 << 16, 1 << 19, 1 << 22, 1 << 24, 1 << 26)  # bytes


class Fit(NamedTuple):
    """Seconds a message, and seconds a byte."""

    alpha: float
    beta: float

    def allreduce(self, ranks: int, size: float) -> float:
        """Seconds of an allreduce of so many bytes."""
        return 2 * (ranks - 1) * self.alpha + 2 * (ranks - 1) / ranks * size * self.beta


def fit(ranks: int, measured: dict[int, float]) -> Fit:
    """The alpha and beta, not negative, whose relative errors are least in squares.

    >>> from wengert.parallel.check import SIZES, Fit, fit
    >>> fit(2, {size: Fit(1e-6, 1e-9).allreduce(2, size) for size in SIZES})
    Fit(alpha=1e-06, beta=1e-09)
    """
    sizes = np.array(list(measured), float)
    times = np.array(list(measured.values()))
    rows = np.stack([np.full(len(sizes), 2.0 * (ranks - 1)), 2 * (ranks - 1) / ranks * sizes], 1)
    rows /= times[:, None]
    (alpha, beta), *_ = np.linalg.lstsq(rows, np.ones(len(sizes)), rcond=None)
    if alpha < 0 or beta < 0:  # one of them alone
        keep = 1 if alpha < 0 else 0
        one = float(rows[:, keep].sum() / (rows[:, keep] ** 2).sum())
        alpha, beta = (0.0, one) if keep else (one, 0.0)
    return Fit(float(f"{alpha:.6g}"), float(f"{beta:.6g}"))


def _seconds(
    comm: Communicator, x: Any, fns: Sequence[Callable[[Any], Any]], budget: float
) -> list[float]:
    """The least time of each fn(x), on the slowest rank, in about `budget` seconds each. They take
    turns, each on numbers that were written just before, as gradients are."""
    best, spent = [float("inf")] * len(fns), 0.0
    for _ in range(200):
        for i, fn in enumerate(fns):
            x[...] = 1
            comm.share(None)
            began = time.perf_counter()
            fn(x)
            took = max(comm.share(time.perf_counter() - began))
            best[i], spent = min(best[i], took), spent + took
        if spent > budget * len(fns):
            break
    return best


def _by_tree(comm: Communicator) -> Callable[[Any], None]:
    """Allreduce in the fixed tree, in memory that is kept from call to call, as steps keep it."""
    kept: dict[Any, Any] = {}

    def room(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        if key not in kept:
            kept[key] = np.empty(shape, dtype)
        return kept[key]

    owners = tree.cut(comm.size, comm.size)
    return lambda x: tree.allreduce(comm, [x], owners, room)


def _step_seconds(layers: list[int], batch: int) -> tuple[float, int]:
    """A step's forward and backward on this rank, and the bytes of its gradient."""
    wengert.manual_seed(0)
    model = nn.MLP(layers)
    x, y = wengert.randn((batch, layers[0])), wengert.randint(0, layers[-1], (batch,))

    def step() -> Any:
        model.zero_grad()
        loss = wengert.cross_entropy(model(x), y)
        loss.backward()
        return loss.detach()

    compiled = wengert.compile(step)
    best = float("inf")
    for _ in range(12):
        began = time.perf_counter()
        compiled()
        best = min(best, time.perf_counter() - began)
    return best, 4 * sum(p.numel() for p in model.parameters())


def limit(found: Fit, ranks: int, size: float, step: float) -> str:
    """What most of the time of a step on so many ranks goes to."""
    waiting = 2 * (ranks - 1) * found.alpha
    sending = found.allreduce(ranks, size) - waiting
    times = {"computation": step / ranks, "latency": waiting, "bandwidth": sending}
    return max(times, key=lambda name: times[name])


def main(argv: list[str] | None = None) -> int:
    """Measure and print, on rank 0."""
    parser = argparse.ArgumentParser(
        prog="python -m wengert.parallel.check", description="Measures the network of the ranks."
    )
    parser.add_argument("--layers", type=int, nargs="+", default=[784, 2048, 10], metavar="N")
    parser.add_argument("--batch", type=int, default=256, metavar="N")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="for each size (1)")
    parser.add_argument(
        "--most", type=int, default=SIZES[-1], metavar="BYTES", help="largest size (64 MB)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures, too")
    arguments = parser.parse_args(argv)
    if len(arguments.layers) < 2 or min(arguments.layers) < 1 or arguments.batch < 1:
        parser.error("--layers takes two sizes or more, --batch one sample or more")
    comm = world()
    if comm.size == 1:
        try:
            launcher = mpiexec()
        except FileNotFoundError as error:
            parser.error(str(error))
        parser.error(f"one rank measures nothing: {launcher} -n 2 {parser.prog}")

    def say(text: str) -> None:
        if comm.rank == 0:
            print(text, flush=True)

    hosts = comm.share(socket.gethostname())
    cores = len(os.sched_getaffinity(0))
    say(
        f"{comm.size} ranks on {', '.join(sorted(set(hosts)))}; {wengert.num_threads()} threads "
        f"each, {cores} cores"
    )
    (latency,) = _seconds(comm, np.zeros(1), [comm.all_reduce], arguments.seconds)
    say(f"latency of an allreduce of 8 bytes: {1e6 * latency:.1f} us")
    say(f"{'bytes':>10}  {'MPI, us':>10}  {'GB/s':>6}  {'tree, us':>10}  {'GB/s':>6}")
    measured, by_tree = {}, {}
    for size in (s for s in SIZES if s <= arguments.most):
        x = np.empty(size // 4, np.float32)
        plain, fixed = _seconds(comm, x, [comm.all_reduce, _by_tree(comm)], arguments.seconds)
        measured[size], by_tree[size] = plain, fixed
        say(
            f"{size:10,}  {1e6 * plain:10.1f}  {size / plain / 1e9:6.2f}  {1e6 * fixed:10.1f}  "
            f"{size / fixed / 1e9:6.2f}"
        )
    found = fit(comm.size, by_tree)
    bandwidth = f"{1 / found.beta / 1e9:.2f} GB/s" if found.beta else "no limit seen"
    say(f"fit: alpha {1e6 * found.alpha:.2f} us a message, beta of {bandwidth}")
    step, size = _step_seconds(arguments.layers, arguments.batch)
    step = max(comm.share(step))
    shape = "-".join(map(str, arguments.layers))
    say(f"{shape}, batch {arguments.batch}: {1e3 * step:.2f} ms a step, {size:,} bytes of gradient")
    say(f"{'ranks':>6}  {'ms':>9}  {'speed':>6}  limited by")
    for ranks in (1, 2, 4, 8, 16, 64, 256, 1024):
        seconds = step / ranks + found.allreduce(ranks, size)
        by = limit(found, ranks, size, step)
        say(f"{ranks:6}  {1e3 * seconds:9.3f}  {step / seconds:6.2f}  {by}")
    if arguments.json and comm.rank == 0:
        figures = {
            "ranks": comm.size,
            "hosts": hosts,
            "latency": latency,
            "mpi": measured,
            "tree": by_tree,
            "layers": arguments.layers,
            "batch": arguments.batch,
            "step": step,
            "bytes": size,
        }
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
