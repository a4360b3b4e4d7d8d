"""How contenders are compared: results checked first, then turns, then medians.

Every contender's library lives in a worker process (worker.py) with its own number of threads. A
worker is stopped (SIGSTOP) unless it is asked something, so idle threads that spin disturb nobody.
The contenders of a row take turns, in an order that rotates; the median of a contender's turns
counts, and the quartiles show the spread. What other processes took of the machine meanwhile is
measured too: where that is much, a row is not to be trusted.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PREFIXES = ("OPENBLAS_", "NVPL_", "OMP_", "GOMP_", "KMP_", "MKL_", "BLIS_", "XLA_", "TORCH", "JAX_")


class PeerError(Exception):
    """What went wrong in a worker."""


def installed(peer: str) -> bool:
    if peer == "machine":
        return shutil.which("g++") is not None
    return importlib.util.find_spec(peer.removeprefix("gpu_")) is not None


class Worker:
    """A process that runs one peer's tasks; asleep between questions."""

    def __init__(self, peer: str, threads: int, settings: dict[str, str] | None = None) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIXES)}
        for name in ("OMP", "OPENBLAS", "MKL", "NVPL"):
            environment[f"{name}_NUM_THREADS"] = str(threads)
        environment |= {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        environment |= settings or {}
        ours, theirs = socket.socketpair()
        script = Path(__file__).with_name("worker.py")
        command = [sys.executable, str(script), peer, str(threads), str(theirs.fileno())]
        self.process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self.pipe = Connection(ours.detach())
        try:
            self.about: dict[str, Any] = self.answer(120)
        except PeerError:
            self.close()
            raise

    def answer(self, timeout: float) -> Any:
        try:
            if not self.pipe.poll(timeout):
                self.process.kill()
                raise PeerError(f"no answer within {timeout:.0f} s")
            state, value = self.pipe.recv()
        except (EOFError, OSError):
            raise PeerError(f"the process ended with {self.process.wait()}") from None
        self.process.send_signal(signal.SIGSTOP)
        if state == "error":
            raise PeerError(value)
        return value

    def ask(self, verb: str, *arguments: Any, timeout: float = 300) -> Any:
        if self.process.poll() is not None:
            raise PeerError(f"the process ended with {self.process.returncode}")
        self.process.send_signal(signal.SIGCONT)
        try:
            self.pipe.send((verb, arguments))
        except OSError as error:
            raise PeerError(f"the process is gone ({error})") from None
        return self.answer(timeout)

    def busy(self) -> float:
        """Processor seconds so far."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()


class Contender(NamedTuple):
    """A label, such as "torch eager"; the peer, and what its worker is to make."""

    label: str
    peer: str
    kind: str
    arguments: dict[str, Any]
    settings: tuple[tuple[str, str], ...] = ()  # environment variables of the worker


class Laboratory:
    """The workers of one number of threads, and what was noticed about them."""

    def __init__(self, threads: int, peers: Iterable[str]) -> None:
        self.threads = threads
        self.peers = tuple(peers)
        self.workers: dict[tuple[str, Any], Worker | str] = {}
        self.about: dict[str, dict[str, Any]] = {}

    def worker(self, peer: str, settings: tuple[tuple[str, str], ...] = ()) -> Worker:
        key = peer, settings
        found = self.workers.get(key)
        if isinstance(found, Worker) and found.process.poll() is not None:
            found.close()
            found = None  # it crashed: the next row gets a new one
        if found is None:
            try:
                found = Worker(peer, self.threads, dict(settings))
                self.about[peer] = found.about
            except PeerError as error:
                found = str(error)
            self.workers[key] = found
        if isinstance(found, str):
            raise PeerError(found)
        return found

    def close(self) -> None:
        for worker in self.workers.values():
            if isinstance(worker, Worker):
                worker.close()
        self.workers.clear()

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def machine_busy() -> float:
    """Processor seconds of all processes, and of what the host took, since the machine started."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split(maxsplit=11)[1:11]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def apart(value: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference, relative to the largest value; inf where one is not comparable."""
    if value.shape != reference.shape or not np.isfinite(value).all():
        return float("inf")
    return float(np.abs(value - reference).max() / (np.abs(reference).max() or 1.0))


def summary(times: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high), "turns": len(times)}


def compare(
    laboratory: Laboratory,
    contenders: list[Contender],
    *,
    tolerance: float,
    turns: int,
    seconds: float,
    budget: float,
    patience: float = 300,
) -> dict[str, Any]:
    """Seconds for one unit of work of each contender, and what is to be said about them.

    The results of all are compared with those of the first that has any. One that differs by more
    than the tolerance is not timed: it is not the same work. `seconds` is the length of a turn;
    where runs are long, turns become fewer (at least 3), so as to stay within `budget` seconds.
    A contender that does not answer within `patience` seconds is given up.
    """
    notes: dict[str, str] = {}
    missing: dict[str, str] = {}
    disagree: list[str] = []
    at_work: dict[str, tuple[Worker, int]] = {}
    reference = None
    for label, peer, kind, arguments, settings in contenders:
        if not installed(peer):
            missing[label] = "not installed"
            continue
        try:
            worker = laboratory.worker(peer, settings)
            values, note = worker.ask("make", label, kind, dict(arguments), timeout=patience)
            if note:
                notes[label] = note
            if values is not None and reference is None:
                reference = values
            elif values is not None and not (error := apart(values, reference)) < tolerance:
                missing[label] = f"its results differ, by {error:.2g}"
                disagree.append(label)
                worker.ask("drop", label)
                continue
            at_work[label] = worker, worker.ask("calls", label, seconds, timeout=patience)
        except PeerError as error:
            missing[label] = str(error)
    times: dict[str, list[float]] = {label: [] for label in at_work}
    workers = {id(worker): worker for worker, _ in at_work.values()}.values()

    def others() -> float:
        return machine_busy() - sum(w.busy() for w in workers) - time.process_time()

    before, spent, turn = others(), 0.0, 0
    while at_work and turn < turns and (turn < 3 or spent * (turn + 1) / turn < budget):
        order = list(at_work)
        order = order[turn % len(order) :] + order[: turn % len(order)]
        for label in order:
            worker, calls = at_work[label]
            began = time.monotonic()
            try:
                times[label].append(worker.ask("turn", label, calls, timeout=patience))
            except PeerError as error:
                missing[label] = str(error)
                del at_work[label], times[label]
            spent += time.monotonic() - began
        turn += 1
    load = max(0.0, (others() - before) / spent) if spent else 0.0
    for label, (worker, _) in at_work.items():
        try:
            worker.ask("drop", label)
        except PeerError as error:
            notes[label] = (
                f"{notes.get(label, '')} failed when its memory was let go: {error}".strip()
            )
    return {
        "seconds": {label: summary(t) for label, t in times.items()},
        "notes": notes,
        "missing": missing,
        "disagree": disagree,
        "load": round(load, 2),  # processors that others kept busy
    }


def median_of_processes(commands: dict[str, list[str]], turns: int) -> dict[str, dict[str, float]]:
    """Commands that print a number, run in turns."""
    printed: dict[str, list[float]] = {label: [] for label in commands}
    for turn in range(turns + 1):  # the first reads the disk
        for label, command in commands.items():
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if turn and done.returncode == 0:
                printed[label].append(float(done.stdout.split()[-1]))
    return {label: summary(values) for label, values in printed.items() if values}
