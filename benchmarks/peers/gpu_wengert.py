"""Wengert on a GPU: eager, compiled with one call a step, and with many steps in a call.

What is still to come (`set_matmul_precision`, say) is called by its public name; where it is not
there, the row says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from workloads import Task, Workload, batches

import wengert as wg
from peers.wengert import make_step

VERSION = wg.__version__
STEPS = ("eager", "compiled", "run(n)")
SIGMOID = ("forward", "backward", "copy")


def set_threads(n: int) -> None:
    """The CPU only calls."""
    if not wg.cuda.is_available():
        raise RuntimeError(wg.cuda.status())


def about() -> dict[str, Any]:
    return {"status": wg.cuda.status(), "fusion": wg.cuda.fusion_status()}


def use_precision(precision: str) -> None:
    choose = getattr(wg, "set_matmul_precision", None)
    if choose:
        choose(precision)
    elif precision != "strict":
        raise NotImplementedError(f"no set_matmul_precision({precision!r}) in this version")


def waited(run: Any, repeats: int) -> Any:
    """`repeats` calls put into the queue, and one wait."""

    def all_of_them() -> None:
        for _ in range(repeats):
            run()
        wg.cuda.synchronize()

    return all_of_them


def step(work: Workload, variant: str, precision: str) -> Task:
    use_precision(precision)
    xs, ys = (wg.tensor(a).to("cuda") for a in batches(work))
    one = make_step(work, "cuda")
    call = one if variant == "eager" else wg.compile(one)
    if variant == "run(n)":

        def run() -> np.ndarray:
            losses: np.ndarray = call.run(work.steps, xs, ys).cpu().numpy()
            return losses

        return Task(run, run, per=work.steps)
    pairs = [(xs[i], ys[i]) for i in range(work.steps)]

    def each() -> None:
        for x, y in pairs:
            call(x, y)
        wg.cuda.synchronize()

    return Task(each, lambda: [call(x, y).item() for x, y in pairs], per=len(pairs))


def matmul(a: np.ndarray, b: np.ndarray, batched: bool, precision: str) -> Task:
    """Of float32 tensors: in "bf16" the conversion of both operands is part of the work."""
    del batched
    use_precision(precision)
    at, bt = (on_gpu(x) for x in (a, b))
    return Task(waited(lambda: at @ bt, 10), lambda: (at @ bt).cpu().numpy(), per=10)


def on_gpu(x: np.ndarray) -> wg.Tensor:
    """With the strides that it has."""
    return wg.tensor(x).to("cuda") if x.flags.c_contiguous else wg.tensor(x.T).to("cuda").T


def sigmoid(x: np.ndarray, variant: str) -> Task:
    xt = wg.tensor(x).to("cuda")
    if variant == "copy":
        out = wg.empty_like(xt)
        return Task(waited(lambda: out.copy_(xt), 20), lambda: None, per=20)
    if variant == "forward":
        return Task(waited(xt.sigmoid, 20), lambda: xt.sigmoid().cpu().numpy(), per=20)
    leaf, g = xt.requires_grad_(), wg.ones_like(xt)
    y = leaf.sigmoid()

    def backward() -> wg.Tensor:
        return wg.grad(y, leaf, g, retain_graph=True)

    return Task(waited(backward, 20), lambda: backward().cpu().numpy(), per=20)


# ---- gates: what must be right before anything is timed


def relative(y: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(y - exact) / np.linalg.norm(exact))


def gate(name: str, m: int, n: int, k: int, precision: str = "strict") -> Task:
    """`values` are errors, each to be at most 1: what was found through what is allowed."""
    random = np.random.default_rng(0)  # the same numbers each time: a gate does not pass by luck
    if name == "sigmoid":
        x = (random.standard_normal(m * n) * 6).astype(np.float32)
        exact = 1 / (1 + np.exp(-x.astype(np.float64)))
        found = wg.tensor(x).to("cuda").sigmoid().cpu().numpy()
        error = float(np.abs(found / exact - 1).max())
        return Task(lambda: None, lambda: np.array([error / 2e-6]), note=f"{error:.2g}")
    use_precision(precision)
    allowed = {"strict": 2e-6, "fp32": 2e-6, "fast": 1e-5, "bf16": 1e-2}[precision]
    errors, of_allowed = [], []
    for layout in ("nn", "nt", "tn", "tt"):
        a, b = (
            random.standard_normal(s if how == "n" else s[::-1]).astype(np.float32)
            for how, s in zip(layout, ((m, k), (k, n)), strict=True)
        )
        a, b = (x if how == "n" else x.T for how, x in zip(layout, (a, b), strict=True))
        exact = a.astype(np.float64) @ b.astype(np.float64)
        errors.append(relative((on_gpu(a) @ on_gpu(b)).cpu().numpy(), exact))
        if precision == "fp32":  # no more than that of plain float32, with room for its chance
            use_precision("strict")
            allowed = 1.25 * relative((on_gpu(a) @ on_gpu(b)).cpu().numpy(), exact)
            use_precision(precision)
        of_allowed.append(errors[-1] / allowed)
    # What is not finite must arrive, and what is tiny must not vanish.
    a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
    a[0, 0], a[1, 1], a[2] = np.inf, np.nan, 2.0**-120
    y = (on_gpu(a) @ on_gpu(b)).cpu().numpy()
    special = np.isposinf(y[0]).all() and np.isnan(y[1]).all() and (y[3:] == k).all()
    tiny = np.abs(y[2] / (k * 2.0**-120) - 1).max() < 1e-2
    if not (special and tiny):
        of_allowed.append(np.inf)
    text = f"{max(errors):.2g} of {allowed:.2g}"
    return Task(lambda: None, lambda: np.array(of_allowed), note=text)
