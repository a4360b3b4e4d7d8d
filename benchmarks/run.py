"""Wengert beside NumPy and PyTorch: training steps, matmul, elementwise ops, import time.

Contenders take turns within one run and the medians of the repeats are kept, so that whatever else
the machine does falls on all of them. Before timing, every row checks that all compute the same.
PyTorch runs eagerly, with its fused optimizers where they are faster; NumPy's step is written by
hand, in place.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

THREADS = int(os.environ.get("THREADS", "1"))
PAUSE = 0.25 if THREADS > 1 else 0.0  # idle threads of other libraries spin for up to 0.2 s
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(THREADS)  # before NumPy and PyTorch load their libraries

import numpy as np  # noqa: E402

import wengert as wg  # noqa: E402
from wengert import nn, optim  # noqa: E402

try:
    import torch
except ImportError:
    torch = None

Contenders = dict[str, Callable[[], Any]]
rows: list[dict[str, Any]] = []


class ManySteps:
    """A contender that takes many training steps in one call."""

    steps = 100

    def __init__(self, run: Callable[[int], Any]) -> None:
        self.run = run

    def __call__(self) -> Any:
        return self.run(self.steps)


def steps_of(run: Callable[[], Any]) -> int:
    return getattr(run, "steps", 1)


def measure(name: str, contenders: Contenders, unit: str = "us", work: float | None = None) -> None:
    """Times the contenders in turns. With `work` (operations or bytes): rates, giga per second."""
    calls = {}
    for key, run in contenders.items():
        run()
        began = time.perf_counter()
        run()
        calls[key] = max(1, int(0.01 / max(time.perf_counter() - began, 1e-9)))
    times: dict[str, list[float]] = {key: [] for key in contenders}
    for _ in range(15):
        for key, run in contenders.items():
            time.sleep(PAUSE)
            for _ in range(
                calls[key] if PAUSE else 1
            ):  # a processor that has slept is slow at first
                run()
            began = time.perf_counter()
            for _ in range(calls[key]):
                run()
            times[key].append((time.perf_counter() - began) / calls[key] / steps_of(run))
    medians = {key: statistics.median(t) for key, t in times.items()}
    values = {k: work / t / 1e9 if work else t * 1e6 for k, t in medians.items()}
    row = {"name": name, "unit": unit, "threads": THREADS}
    row |= {"values": {k: round(v, 3) for k, v in values.items()}}
    row |= {"spread": {k: round((max(t) - min(t)) / medians[k], 2) for k, t in times.items()}}
    rows.append(row)
    best = min((t for k, t in medians.items() if not k.startswith("wengert")), default=float("nan"))
    print(f"{name} [{unit}]")
    for key, value in values.items():
        ratio = f"{best / medians[key]:6.2f}x the best peer" if key.startswith("wengert") else ""
        print(f"    {key:20} {value:12.4g}  {ratio}", flush=True)


def agree(name: str, results: dict[str, Any], tolerance: float) -> None:
    first = np.asarray(results["wengert"], dtype=np.float64)
    for key, value in results.items():
        error = np.abs(np.asarray(value, dtype=np.float64) - first).max() / np.abs(first).max()
        if not error < tolerance:
            raise SystemExit(f"{name}: {key} and wengert disagree by {error:.2g}")


# ---- training steps ----


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def wengert_steps(
    make: Callable[[], tuple[nn.Module, optim.Optimizer]],
    loss_fn: Callable[..., Any],
    x: Any,
    y: Any,
) -> Contenders:
    """The step as it is, compiled, and compiled with many steps in one call."""

    def new_step() -> Callable[..., Any]:
        model, optimizer = make()

        def step(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    xw, yw = wg.tensor(x), wg.tensor(y)
    eager, compiled, many = new_step(), wg.compile(new_step()), wg.compile(new_step())
    xs, ys = wg.stack([xw] * ManySteps.steps), wg.stack([yw] * ManySteps.steps)
    return {
        "wengert": lambda: eager(xw, yw),
        "wengert compiled": lambda: compiled(xw, yw),
        "wengert run(n)": ManySteps(lambda n: many.run(n, xs, ys)),
    }


def seed_step() -> Contenders:
    """The founding network: 10-5-1, sigmoid twice, batch 100, MSE (mean), gradient descent."""
    rng = np.random.default_rng(0)
    x, y = rng.random((100, 10), np.float32), rng.random((100, 1), np.float32)
    w1, w2 = rng.normal(size=(5, 10)).astype("f"), rng.normal(size=(1, 5)).astype("f")
    lr = 0.5

    def make() -> tuple[nn.Module, optim.Optimizer]:
        model = nn.Sequential(nn.Linear(10, 5), nn.Sigmoid(), nn.Linear(5, 1), nn.Sigmoid())
        with wg.no_grad():
            for p, value in zip(
                model.parameters(), (w1, np.zeros(5), w2, np.zeros(1)), strict=True
            ):
                p.copy_(value)
        return model, optim.SGD(model.parameters(), lr=lr)

    made = wengert_steps(make, wg.mse_loss, x, y)
    p = [w1.copy(), np.zeros(5, "f"), w2.copy(), np.zeros(1, "f")]

    def numpy_step() -> Any:
        h = sigmoid(x @ p[0].T + p[1])
        out = sigmoid(h @ p[2].T + p[3])
        error = out - y
        g2 = error * (2 / 100) * out * (1 - out)
        g1 = (g2 @ p[2]) * h * (1 - h)
        p[2] -= lr * (g2.T @ h)
        p[3] -= lr * g2.sum(0)
        p[0] -= lr * (g1.T @ x)
        p[1] -= lr * g1.sum(0)
        return (error * error).mean()

    made["numpy"] = numpy_step
    if torch:
        t = torch.nn
        net = t.Sequential(t.Linear(10, 5), t.Sigmoid(), t.Linear(5, 1), t.Sigmoid())
        with torch.no_grad():
            for q, value in zip(net.parameters(), (w1, np.zeros(5), w2, np.zeros(1)), strict=True):
                q.copy_(torch.tensor(value))
        sgd = torch.optim.SGD(net.parameters(), lr=lr)  # fused, it is slower here
        xt, yt = torch.tensor(x), torch.tensor(y)

        def torch_step() -> Any:
            sgd.zero_grad()
            loss = t.functional.mse_loss(net(xt), yt)
            loss.backward()
            sgd.step()
            return loss

        made["torch"] = torch_step
    return made


def classifier_step(sizes: list[int], batch: int, act: str, opt: str) -> Contenders:
    rng = np.random.default_rng(0)
    x = rng.random((batch, sizes[0]), np.float32)
    y = rng.integers(0, sizes[-1], batch)
    weights = [rng.normal(size=(o, i), scale=i**-0.5).astype("f") for i, o in pairwise(sizes)]

    def make() -> tuple[nn.Module, optim.Optimizer]:
        model = nn.MLP(sizes, activation=act)
        linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        with wg.no_grad():
            for layer, w in zip(linears, weights, strict=True):
                layer.weight.copy_(w)
                layer.bias.zero_()
        if opt == "adam":
            return model, optim.Adam(model.parameters())
        return model, optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    made = wengert_steps(make, wg.cross_entropy, x, y)
    if torch:
        t = torch.nn
        layers: list[Any] = []
        for i, o in pairwise(sizes):
            layers += [t.Linear(i, o), t.ReLU() if act == "relu" else t.Sigmoid()]
        net = t.Sequential(*layers[:-1])
        with torch.no_grad():
            for layer, w in zip(layers[::2], weights, strict=True):
                layer.weight.copy_(torch.tensor(w))
                layer.bias.zero_()
        torch_optimizers = {
            "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
            "adam": lambda p: torch.optim.Adam(p, fused=True),
        }
        torch_optimizer = torch_optimizers[opt](net.parameters())
        xt, yt = torch.tensor(x), torch.tensor(y)

        def torch_step() -> Any:
            torch_optimizer.zero_grad()
            loss = t.functional.cross_entropy(net(xt), yt)
            loss.backward()
            torch_optimizer.step()
            return loss

        made["torch"] = torch_step
    return made


def losses(run: Callable[[], Any], steps: int = 10) -> list[float]:
    if steps_of(run) > 1:
        return run().tolist()[:steps]
    return [run().item() for _ in range(steps)]


def steps() -> None:
    works = {
        "step 10-5-1 sigmoid, batch 100, MSE, SGD": seed_step(),
        "step 784-128-10 relu, batch 64, CE, momentum": classifier_step(
            [784, 128, 10], 64, "relu", "momentum"
        ),
        "step 784-512-512-10 sigmoid, batch 128, Adam": classifier_step(
            [784, 512, 512, 10], 128, "sigmoid", "adam"
        ),
    }
    for name, contenders in works.items():
        agree(name, {key: losses(run) for key, run in contenders.items()}, 1e-4)
        measure(name, contenders)


# ---- kernels ----


def matmul() -> None:
    rng = np.random.default_rng(0)
    shapes = [(16, 16, 16), (100, 10, 5), (64, 64, 64), (64, 784, 128), (128, 512, 512)]
    shapes += [(512, 512, 512), (1024, 1024, 1024)]
    for m, k, n in shapes:
        a, b = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
        for layout in ("nn", "nt", "tn"):
            an = np.ascontiguousarray(a.T).T if layout[0] == "t" else a
            bn = np.ascontiguousarray(b.T).T if layout[1] == "t" else b
            aw, bw = wg.from_numpy(an), wg.from_numpy(bn)
            made: Contenders = {
                "wengert": lambda aw=aw, bw=bw: aw @ bw,
                "numpy": lambda an=an, bn=bn: an @ bn,
            }
            if torch:
                at, bt = torch.from_numpy(an), torch.from_numpy(bn)
                made["torch"] = lambda at=at, bt=bt: at @ bt
            name = f"matmul {m}x{k}x{n} {layout}"
            agree(name, {key: np.asarray(run()) for key, run in made.items()}, 1e-5)
            measure(name, made, "GFLOP/s", 2.0 * m * k * n)


def elementwise() -> None:
    rng = np.random.default_rng(0)
    for n in (1_000, 100_000, 10_000_000):
        x = rng.normal(size=n).astype("f")
        xw = wg.tensor(x)
        made: Contenders = {"wengert": xw.sigmoid, "numpy": lambda x=x: sigmoid(x)}
        if torch:
            made["torch"] = torch.tensor(x).sigmoid
        agree("sigmoid", {key: np.asarray(run()) for key, run in made.items()}, 1e-5)
        measure(f"sigmoid {n}", made, "GB/s", 8.0 * n)
    numbers = {"wengert": wg.tensor(1.5), "numpy": np.array(1.5, np.float32)}
    if torch:
        numbers["torch"] = torch.tensor(1.5)
    made = {key: lambda a=a: a * a for key, a in numbers.items()}
    agree("multiply", {key: np.asarray(run()) for key, run in made.items()}, 1e-6)
    measure("multiply, 0-d", made)


def import_time() -> None:
    def load(module: str) -> Callable[[], Any]:
        code = (
            f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        )

        def run() -> float:
            out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            return float(out.stdout)

        return run

    for module in ("wengert", "numpy", *(["torch"] if torch else [])):
        run = load(module)
        run()
        median = statistics.median(run() for _ in range(5))
        rows.append({"name": f"import {module}", "unit": "ms", "values": {module: median * 1e3}})
        print(f"import {module:38} {median * 1e3:.1f} ms")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


SECTIONS = {
    "steps": steps,
    "matmul": matmul,
    "elementwise": elementwise,
    "import": import_time,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="SECTION")
    chosen = parser.parse_args().sections or list(SECTIONS)
    wg.set_num_threads(THREADS)
    if torch:
        torch.set_num_threads(THREADS)
    for section in chosen:
        SECTIONS[section]()
    today = datetime.date.today().isoformat()
    about = {
        "date": today,
        "processor": processor(),
        "cores": os.cpu_count(),
        "simd": wg.simd_level(),
        "versions": {"wengert": wg.__version__, "numpy": np.__version__}
        | ({"torch": torch.__version__} if torch else {}),
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    slug = "-".join(about["processor"].lower().split())
    path = folder / f"{today}-{slug}-{THREADS}-thread{'s' * (THREADS > 1)}.json"
    path.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
