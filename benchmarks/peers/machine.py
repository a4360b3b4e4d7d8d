"""The machine itself, as a contender: the FMA peak beside matmul, the copy rate beside sigmoid."""

from __future__ import annotations

import atexit
import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from workloads import Task

VERSION = subprocess.run(
    ["g++", "-dumpfullversion"], capture_output=True, text=True, check=True
).stdout.strip()
STEPS = ()
SIGMOID = ("copy", "copy past the cache")
CHAIN = ()

threads = 1


def set_threads(n: int) -> None:
    global threads
    threads = n


def compiled() -> ctypes.CDLL:
    folder = tempfile.mkdtemp(prefix="wengert-machine-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = Path(folder) / "machine.so"
    source = Path(__file__).with_name("machine.cpp")
    flags = ["-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-pthread"]
    subprocess.run(["g++", *flags, str(source), "-o", str(library)], check=True)
    made = ctypes.CDLL(str(library))
    for name in ("fma_float", "fma_double"):
        getattr(made, name).restype = ctypes.c_double
        getattr(made, name).argtypes = [ctypes.c_long, ctypes.c_int]
    made.copy.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_int,
    ]
    made.copy.restype = None
    return made


library = compiled()


def matmul(a: np.ndarray, b: np.ndarray, batched: bool, dtype: str) -> Task:
    """Multiply-adds from registers; as many runs of the product as their number would be."""
    del batched
    if dtype == "bfloat16":
        raise NotImplementedError("no bfloat16")
    fma = library.fma_float if a.dtype == np.float32 else library.fma_double
    rounds = 200_000
    flops = fma(1000, threads) / 1000 * rounds
    product = 2.0 * a.size * b.shape[-1]
    return Task(lambda: fma(rounds, threads), lambda: None, per=flops / product)


def sigmoid(x: np.ndarray, variant: str) -> Task:
    """A copy of as many bytes."""
    out = np.zeros_like(x)
    times = max(1, 5_000_000 // x.size)
    where = out.ctypes.data, x.ctypes.data
    past = variant == "copy past the cache"

    def run() -> np.ndarray:
        library.copy(*where, x.size, times, threads, past)
        return out

    def values() -> None:
        if not np.array_equal(run(), x):
            raise RuntimeError("the copy differs")

    return Task(run, values, per=times)
