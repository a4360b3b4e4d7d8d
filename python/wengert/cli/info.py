"""`wengert info`: versions, the machine, and which extras are installed."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from typing import Any


def add_parser(commands: Any) -> None:
    """The command and its options."""
    info = commands.add_parser(
        "info", help="version, SIMD level, tiles, threads, memory, CUDA, extras"
    )
    info.set_defaults(run=info_command)


def info_command(arguments: argparse.Namespace) -> int:
    """wengert info"""
    import numpy as np

    import wengert
    from wengert import _core, parallel

    comm = parallel.world()
    ranks = _ranks(comm) if comm.size > 1 else ""
    if comm.rank:
        return 0

    def extra(module: str, purpose: str, line: str) -> str:
        found = importlib.util.find_spec(module) is not None
        return f"installed ({purpose})" if found else f"not installed: {line} ({purpose})"

    rows = [
        ("wengert", wengert.__version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("numpy", np.__version__),
        ("simd", wengert.simd_level()),
        ("tiles", f"{_core._tile_status()} (set_matmul_precision, bfloat16)"),
        ("threads", f"{wengert.num_threads()} of {os.cpu_count()} processors"),
        (
            "memory",
            f"{wengert.memory_allocated():,} bytes in tensors, {wengert.memory_cached():,} cached "
            f"(at most {wengert.cache_limit():,})",
        ),
        ("cuda", wengert.cuda_status()),
        ("ranks", ranks or "1, without mpiexec"),
        ("mpi4py", extra("mpi4py", "data parallelism", 'pip install "wengert[mpi]"')),
        ("rich", extra("rich", "progress bar", 'pip install "wengert[train]"')),
        ("tokenizers", extra("tokenizers", "BertTokenizer", 'pip install "wengert[hf]"')),
        ("matplotlib", extra("matplotlib", "curves.png", 'pip install "wengert[train]"')),
    ]
    if wengert.cuda.is_available():
        at = [name for name, _ in rows].index("cuda") + 1
        rows.insert(at, ("chains", f"{wengert.cuda.fusion_status()} (compiled steps on a GPU)"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name.ljust(width)}  {value}")
    return 0


def _ranks(comm: Any) -> str:
    """How many, on which hosts, with how many threads; and whether they share cores."""
    import socket

    import wengert

    told = comm.share(
        (socket.gethostname(), wengert.num_threads(), sorted(os.sched_getaffinity(0)))
    )
    hosts: dict[str, list[int]] = {}
    cores: dict[str, set[int]] = {}
    for host, threads, mine in told:
        hosts.setdefault(host, []).append(threads)
        cores.setdefault(host, set()).update(mine)
    text = [
        f"{len(threads)} on {host} with {'/'.join(map(str, sorted(set(threads))))} threads each"
        for host, threads in hosts.items()
    ]
    over = [
        f"{host} is oversubscribed: {sum(threads)} threads on {len(cores[host])} cores"
        for host, threads in hosts.items()
        if sum(threads) > len(cores[host])
    ]
    return "; ".join([f"{comm.size}: {', '.join(text)}", *over])
