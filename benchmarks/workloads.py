"""The training steps W1 to W4, and the form in which a peer offers work to be timed.

A workload is a multilayer perceptron, its loss and its optimizer. Its weights and batches are made
here from a seed, so every peer starts from the same numbers. Inputs are normal and labels come from
a random linear map: units that are dead on every sample are rare, so no state decays into denormal
numbers, which some libraries flush and others compute slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    """Sizes of the layers, with `activation` between them; "mse" has it after the last one too."""

    title: str
    sizes: tuple[int, ...]
    batch: int
    activation: str  # "sigmoid" or "relu"
    loss: str  # "mse" or "cross_entropy"
    optimizer: str  # "sgd", "momentum" (0.9) or "adam"
    lr: float
    steps: int  # how many batches there are, and how many steps one call takes where it can

    @property
    def matmul_flops(self) -> int:
        """Of one step: forward, and both gradients of each layer but the input's."""
        products = [i * o for i, o in pairwise(self.sizes)]
        return 2 * self.batch * (3 * sum(products) - products[0])


WORKLOADS = {
    "W1": Workload(
        "10-5-1 sigmoid, batch 100, MSE, SGD", (10, 5, 1), 100, "sigmoid", "mse", "sgd", 0.1, 200
    ),
    "W2": Workload(
        "784-128-10 relu, batch 64, cross-entropy, momentum",
        (784, 128, 10),
        64,
        "relu",
        "cross_entropy",
        "momentum",
        0.001,
        50,
    ),
    "W3": Workload(
        "784-512-512-10 sigmoid, batch 128, cross-entropy, Adam",
        (784, 512, 512, 10),
        128,
        "sigmoid",
        "cross_entropy",
        "adam",
        0.0001,
        10,
    ),
    "W4": Workload(
        "784-2048-2048-2048-2048-10 relu, batch 512, cross-entropy, Adam",
        (784, 2048, 2048, 2048, 2048, 10),
        512,
        "relu",
        "cross_entropy",
        "adam",
        0.00001,
        2,
    ),
}

# For GPUs (gpu.py): more steps in a call, larger batches, and a narrow network on long ones.
NARROW = Workload(
    "64-64-64-64-64-64-16 relu, MSE, Adam", (64,) * 6 + (16,), 0, "relu", "mse", "adam", 1e-4, 4
)
GPU_WORKLOADS = {
    "small": replace(WORKLOADS["W1"], steps=1000),
    "middle": replace(WORKLOADS["W3"], steps=50),
    "large, batch 512": replace(WORKLOADS["W4"], steps=8),
    "large, batch 4096": replace(WORKLOADS["W4"], batch=4096, steps=4),
} | {f"narrow, batch 2^{n}": replace(NARROW, batch=1 << n) for n in (14, 16, 18)}


def named(name: str) -> Workload:
    """W1 to W4, or a GPU's; "tiny ..." is the same with sizes at which nothing can be measured."""
    if name.startswith("tiny "):
        work = named(name.removeprefix("tiny "))
        sizes = tuple(min(n, 8) for n in work.sizes)
        return replace(work, sizes=sizes, batch=min(work.batch, 12), steps=3)
    return (WORKLOADS | GPU_WORKLOADS)[name]


def parameters(work: Workload) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each layer's weight (out, in) and bias (out,), one after another: all at once are large."""
    rng = np.random.default_rng(1)
    for i, o in pairwise(work.sizes):
        weight = rng.standard_normal((o, i), np.float32)
        weight *= i**-0.5
        yield weight, np.zeros(o, np.float32)


def batches(work: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (steps, batch, in) and targets: (steps, batch, out), or classes (steps, batch)."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((work.steps, work.batch, work.sizes[0]), np.float32)
    scores = x @ rng.standard_normal((work.sizes[0], work.sizes[-1]), np.float32)
    if work.loss == "mse":
        return x, (scores > 0).astype(np.float32)
    return x, scores.argmax(axis=-1)


@dataclass
class Task:
    """Work to be timed: `run` does it `per` times over; `values` shows what comes out, once."""

    run: Callable[[], Any]
    values: Callable[[], Any]
    per: float = 1.0
    note: str = ""


def one_by_one(step: Callable[..., Any], xs: Any, ys: Any, wait: Any = None) -> Task:
    """One Python call a step. `wait` waits for results where a library only promises them."""
    pairs = list(zip(xs, ys, strict=True))

    def run() -> None:
        for x, y in pairs:
            loss = step(x, y)
        if wait:
            wait(loss)

    return Task(run, lambda: [step(x, y).item() for x, y in pairs], per=len(pairs))


def with_setting(choose: Callable[[str], Any], name: str, before: str, task: Task) -> Task:
    """The task under a setting of its library, which others in its process do not see."""

    def under(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            choose(name)
            try:
                return work()
            finally:
                choose(before)

        return run

    return Task(under(task.run), under(task.values), task.per, task.note)


def with_error(task: Task, a: np.ndarray, b: np.ndarray) -> Task:
    """The product's error in its note: Frobenius, relative, of its first 256 rows."""
    exact = a[:256].astype(np.float64) @ b.astype(np.float64)
    error = np.linalg.norm(task.values()[:256] - exact) / np.linalg.norm(exact)
    task.note = f"error {error:.1e}"
    return task


CURVE = 200  # steps


def with_curve(task: Task, losses: np.ndarray, exact: np.ndarray) -> Task:
    """The largest relative difference of two curves of losses in its note."""
    task.note = f"error {np.abs(losses / exact - 1).max():.1e}"
    return task


def sketch(value: Any) -> np.ndarray:
    """What is compared of a result: all of it as float64, or a fixed sample where it is large."""
    flat = np.asarray(value).ravel()
    if flat.size > 10_000:
        flat = flat[np.random.default_rng(3).integers(0, flat.size, 10_000)]
    return flat.astype(np.float64)


def operands(spec: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, bool]:
    """The matrices (m, k) and (k, n) of a product, each stored as it is ("n") or transposed ("t").

    spec: m, k, n; layout, such as "nt"; dtype; batch, 0 for two plain matrices.
    """
    rng = np.random.default_rng(4)
    dtype = np.float64 if spec["dtype"] == "float64" else np.float32
    made = []
    for layout, rows, columns in zip(
        spec["layout"], (spec["m"], spec["k"]), (spec["k"], spec["n"]), strict=True
    ):
        shape = (rows, columns) if layout == "n" else (columns, rows)
        a = rng.standard_normal((spec["batch"], *shape) if spec["batch"] else shape, dtype)
        made.append(a if layout == "n" else a.swapaxes(-1, -2))
    return made[0], made[1], spec["batch"] > 0


def numbers(n: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(n, np.float32)
