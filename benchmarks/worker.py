"""The process of one peer: makes tasks and times them when asked, over a pipe.

    worker.py PEER THREADS DESCRIPTOR

A message is (verb, arguments); the answer is ("ok", value) or ("error", text). The worker keeps to
as many processor cores as it has threads, and imports no library but its peer and NumPy.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from cores import physical_cores

tasks: dict[str, Any] = {}


def about(peer: ModuleType) -> dict[str, Any]:
    return {"version": peer.VERSION} | (peer.about() if hasattr(peer, "about") else {})


def make(peer: ModuleType, key: str, kind: str, arguments: dict[str, Any]) -> tuple[Any, str]:
    import workloads

    if kind == "step":
        work = workloads.named(arguments.pop("work"))
        task = peer.step(work, **arguments)
    elif kind == "matmul":
        made = workloads.operands(arguments)
        dtype = arguments.get("precision", arguments["dtype"])
        task = peer.matmul(*made, dtype)
    elif kind == "sigmoid":
        task = peer.sigmoid(workloads.numbers(arguments["n"]), arguments["variant"])
    elif kind in ("op", "convolution", "residual", "gate"):
        task = getattr(peer, kind)(**arguments)
    else:
        task = peer.chain(**arguments)
    tasks[key] = task
    values = task.values()
    gc.collect()
    return None if values is None else workloads.sketch(values), task.note


def timed(run: Any, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        run()
    return time.perf_counter() - began


def calls(peer: ModuleType, key: str, seconds: float) -> int:
    """How many runs last about that long."""
    run = tasks[key].run
    count, took = 1, timed(run, 1)
    while took < seconds / 8:
        count *= 4
        took = timed(run, count)
    return max(1, int(seconds / took * count))


def turn(peer: ModuleType, key: str, count: int) -> float:
    """Seconds for one unit of work. First some of it untimed: caches are cold, clocks are low."""
    task = tasks[key]
    gc.disable()
    if count > 1:
        timed(task.run, count // 3 + 1)
    seconds = timed(task.run, count)
    gc.enable()
    return seconds / count / float(task.per)


def drop(peer: ModuleType, key: str) -> None:
    tasks.pop(key, None)
    gc.collect()


def peak_memory(peer: ModuleType) -> int:
    """Bytes of the process at their highest. (ru_maxrss would count those of its parent too.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


VERBS = {f.__name__: f for f in (about, make, calls, turn, drop, peak_memory)}


def main() -> None:
    name, threads, descriptor = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pipe = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not to outlive the parent
    os.sched_setaffinity(0, physical_cores()[:threads])
    try:
        peer = importlib.import_module(f"peers.{name}")
        peer.set_threads(threads)
        pipe.send(("ok", about(peer)))
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))
        return
    while True:
        try:
            verb, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("ok", VERBS[verb](peer, *arguments)))
        except Exception as error:
            text = str(error).strip().splitlines() or [""]
            pipe.send(("error", f"{type(error).__name__}: {text[0][:300]}"))


if __name__ == "__main__":
    main()
