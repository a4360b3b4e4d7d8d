"""Convolutions of networks that people know, forward and with both gradients, and a small residual
network's whole training step, against PyTorch.

    python benchmarks/convolution.py             # ResNet-18's and MobileNet's shapes, float32
    python benchmarks/convolution.py --threads 1 --quick
    python benchmarks/convolution.py --write     # and a page in results/convolution/

PyTorch runs twice, with its images as they are and in channels_last; the better of both counts.
Ratio: its time over Wengert's, so that above 1 Wengert is faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cores import processor, slug
from measure import Contender, Laboratory, compare

HERE = Path(__file__).parent


class Case(NamedTuple):
    inputs: int
    outputs: int
    size: int
    kernel: int
    stride: int
    groups: int = 1


RESNET = [
    Case(3, 64, 224, 7, 2),
    Case(64, 64, 56, 3, 1),
    Case(64, 128, 56, 3, 2),
    Case(64, 128, 56, 1, 2),
    Case(128, 128, 28, 3, 1),
    Case(128, 256, 28, 3, 2),
    Case(128, 256, 28, 1, 2),
    Case(256, 256, 14, 3, 1),
    Case(256, 512, 14, 3, 2),
    Case(256, 512, 14, 1, 2),
    Case(512, 512, 7, 3, 1),
]
MOBILENET = [
    Case(c, c, size, 3, stride, c)
    for c, size, stride in (
        (32, 112, 1),
        (96, 112, 2),
        (144, 56, 1),
        (144, 56, 2),
        (192, 28, 1),
        (384, 14, 1),
        (576, 14, 2),
        (960, 7, 1),
    )
]
TORCH_STEPS = {  # layout, compiled
    "eager": ("nchw", False),
    "eager, channels_last": ("channels_last", False),
    "compiled": ("nchw", True),
    "compiled, channels_last": ("channels_last", True),
}
FAMILIES = {"ResNet-18": RESNET, "MobileNetV2, depthwise": MOBILENET}


class Measured(NamedTuple):
    family: str
    case: Case
    threads: int
    backward: bool
    ms: dict[str, float]

    @property
    def ratio(self) -> float:
        return min(self.ms[p] for p in ("nchw", "channels_last")) / self.ms["wengert"]


def task(
    conv: Callable[..., Any],
    case: list[int],
    images: int,
    backward: bool,
    tensor: Callable[[np.ndarray], Any],
    grad: Callable[..., Any],
    array: Callable[[Any], np.ndarray],
) -> Any:
    """What a worker times."""
    from workloads import Task

    c = Case(*case)
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return tensor(random.standard_normal(shape).astype(np.float32) * 0.1)

    x = normal(images, c.inputs, c.size, c.size)
    w = normal(c.outputs, c.inputs // c.groups, c.kernel, c.kernel)
    out = (c.size - 1) // c.stride + 1
    g = normal(images, c.outputs, out, out)

    def forward() -> Any:
        return conv(x, w, None, c.stride, c.kernel // 2, 1, c.groups)

    def run() -> Any:
        return grad(forward(), [x, w], g)

    if not backward:
        return Task(forward, lambda: array(forward()))
    return Task(run, lambda: np.concatenate([array(d).ravel() for d in run()]))


def residual(images: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch for ConvNet's default: 32, 64 and 128 channels, a block each."""
    random = np.random.default_rng(0)
    x = random.standard_normal((images, 1, 28, 28)).astype(np.float32)
    return x, random.integers(0, 10, images)


def weights(names: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """What both networks begin with: norms of 1 and 0, and He's normal numbers."""
    random = np.random.default_rng(1)
    found = {}
    for name, shape in names.items():
        if len(shape) > 1:
            scale = (2 / np.prod(shape[1:])) ** 0.5
            found[name] = (scale * random.standard_normal(shape)).astype(np.float32)
        else:
            found[name] = np.full(shape, name.endswith("weight"), np.float32)
    return found


def steps(options: argparse.Namespace) -> dict[int, dict[str, float]]:
    """Milliseconds a training step of 128 images: forward, backward, SGD with momentum."""
    found = {}
    for threads in options.threads:
        with Laboratory(threads, ("wengert", "torch")) as laboratory:
            torch = [
                Contender(
                    label,
                    "torch",
                    "residual",
                    {"images": 128, "layout": form, "compiled": compiled},
                )
                for label, (form, compiled) in TORCH_STEPS.items()
            ]
            wengert = Contender("wengert", "wengert", "residual", {"images": 128})
            result = compare(
                laboratory,
                [wengert, *torch],
                tolerance=1e-3,
                turns=5 if options.quick else 15,
                seconds=0.2,
                budget=60,
            )
        found[threads] = {k: 1e3 * v["median"] for k, v in result["seconds"].items()}
        print(threads, found[threads], result["missing"], flush=True)
    return found


def step_table(found: dict[int, dict[str, float]]) -> str:
    """Of all contenders, and Wengert's share of the better compiled one's time."""
    labels = ["wengert", *TORCH_STEPS]
    text = (
        "\n## A residual network's training step\n\nMilliseconds: `ConvNet()` of 32, 64 and 128 "
        "channels, 128 images of 28x28, forward, backward, SGD with momentum, compiled; the "
        "share is Wengert's time over that of PyTorch compiled, the better of its layouts.\n\n"
        f"| threads | Wengert | {' | '.join(f'PyTorch {k}' for k in labels[1:])} | share |\n"
        + "|---" * 7
        + "|\n"
    )
    for threads, ms in found.items():
        best = min((t for k, t in ms.items() if k.startswith("compiled")), default=float("nan"))
        times = " | ".join(f"{ms[k]:.0f}" if k in ms else "" for k in labels)
        text += f"| {threads} | {times} | {ms['wengert'] / best:.2f} |\n"
    return text


def rows(options: argparse.Namespace) -> list[Measured]:
    found = []
    for threads in options.threads:
        with Laboratory(threads, ("wengert", "torch")) as laboratory:
            for family, cases in FAMILIES.items():
                for case in cases:
                    for backward in (False, True):
                        given = {"case": list(case), "images": 4, "backward": backward}
                        torch = {
                            layout: Contender(
                                layout, "torch", "convolution", {**given, "layout": layout}
                            )
                            for layout in ("nchw", "channels_last")
                        }
                        wengert = Contender("wengert", "wengert", "convolution", given)
                        result = compare(
                            laboratory,
                            [wengert, *torch.values()],
                            tolerance=1e-4,
                            turns=5 if options.quick else 9,
                            seconds=0.02 if options.quick else 0.05,
                            budget=5,
                        )
                        ms = {k: 1e3 * v["median"] for k, v in result["seconds"].items()}
                        if len(ms) == 3:
                            found.append(Measured(family, case, threads, backward, ms))
                            print(line(found[-1]), flush=True)
                        else:
                            print(case, result["missing"], flush=True)
    return found


def line(m: Measured) -> str:
    c = m.case
    shape = f"{c.inputs} to {c.outputs}, {c.size}, {c.kernel}x{c.kernel}"
    what = "with gradients" if m.backward else "forward"
    ms = " | ".join(f"{m.ms[p]:.2f}" for p in ("wengert", "nchw", "channels_last"))
    return f"| {shape} | {c.stride} | {m.threads} | {what} | {ms} | {m.ratio:.2f} |"


def mean(some: list[Measured]) -> float:
    return float(np.exp(np.mean([np.log(m.ratio) for m in some])))


def page(found: list[Measured], steps: dict[int, dict[str, float]]) -> str:
    text = (
        f"# Convolutions\n\n{time.strftime('%Y-%m-%d')}, {processor()}. Milliseconds a call, four "
        "images, float32, medians of turns; the ratio is that of the better of PyTorch's two "
        "layouts, above 1 Wengert is faster. Made by `python benchmarks/convolution.py --write`.\n"
    )
    for family in FAMILIES:
        here = [m for m in found if m.family == family]
        text += f"\n## {family}\n\n"
        for threads in sorted({m.threads for m in here}):
            for backward in (False, True):
                some = [m for m in here if (m.threads, m.backward) == (threads, backward)]
                what = "with gradients" if backward else "forward"
                text += (
                    f"- {threads} thread{'s' if threads > 1 else ''}, {what}: "
                    f"geometric mean of the ratios {mean(some):.2f}, "
                    f"the lowest {min(m.ratio for m in some):.2f}\n"
                )
        head = "| shape | stride | threads | | Wengert, ms | NCHW | channels_last | ratio |\n"
        text += "\n" + head + "|---" * 8 + "|\n" + "\n".join(map(line, here)) + "\n"
    return text + step_table(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    parser.add_argument("--write", action="store_true", help="a page in results/convolution/")
    options = parser.parse_args()
    trained, found = steps(options), rows(options)
    if options.write:
        name = f"{time.strftime('%Y-%m-%d')}-{slug(processor())}.md"
        (HERE / "results" / "convolution" / name).write_text(page(found, trained))


if __name__ == "__main__":
    main()
