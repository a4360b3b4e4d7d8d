"""PyTorch: eager with the fastest form of its optimizer; compiled in the fastest of several ways.

`loss.backward()` breaks a compiled graph in two. Written with torch.func.grad_and_value and the
update in place, the whole step is one graph; that is tried in several modes of the inductor
(without guards: they take microseconds), beside the model alone compiled with a fused optimizer.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import convolution as conv
import numpy as np
import ops
import torch
from torch.nn import functional
from workloads import (
    CURVE,
    Task,
    Workload,
    batches,
    one_by_one,
    parameters,
    with_curve,
    with_error,
    with_setting,
)

VERSION = torch.__version__
STEPS = ("eager", "compiled")
SIGMOID = ("fresh", "reused", "gradient")
CHAIN = ("value", "gradient")

FUSED = {"fused": True}
OPTIMIZERS = {
    "fused optimizer": FUSED,
    "foreach optimizer": {"foreach": True},
    "plain optimizer": {"foreach": False},
}
GUARDS = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
MODES: dict[str, dict[str, Any]] = {
    "whole step": GUARDS,
    "whole step, cpp_wrapper": GUARDS | {"cpp_wrapper": True},
    "whole step, max_autotune": GUARDS | {"max_autotune": True},
}


def set_threads(n: int) -> None:
    torch.set_num_threads(n)


def seconds(task: Task) -> float:
    """The best of a few runs, 0.1 s in all."""
    task.run()
    times: list[float] = []
    while len(times) < 2 or (sum(times) < 0.1 and len(times) < 50):
        began = time.perf_counter()
        task.run()
        times.append(time.perf_counter() - began)
    return min(times)


def fastest(candidates: dict[str, Callable[[], Task]]) -> Task:
    """Tries all in three rounds, and makes the fastest again, since trying has trained it.

    The best run of each counts: what disturbs one of them decides nothing.
    """
    made: dict[str, Task] = {}
    best: dict[str, float] = {}
    failed: list[str] = []
    for _ in range(3):
        for name, make in candidates.items():
            try:
                if name not in made:
                    made[name] = make()
                best[name] = min(best.get(name, float("inf")), seconds(made[name]))
            except Exception as error:
                failed.append(f"{name} failed ({type(error).__name__})")
        candidates = {name: make for name, make in candidates.items() if name in best}
    if not best:
        raise RuntimeError("; ".join(failed))
    first, *others = sorted(best, key=lambda name: best[name])
    made.clear()
    task = candidates[first]()
    task.note = "; ".join(
        [first, *(["faster than " + ", ".join(others)] if others else []), *failed]
    )
    return task


def own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with code of its own: compiled graphs are remembered by code."""
    function.__code__ = function.__code__.replace()
    return function


def make_model(work: Workload, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    act = torch.nn.ReLU if work.activation == "relu" else torch.nn.Sigmoid
    layers: list[torch.nn.Module] = []
    for i, o in pairwise(work.sizes):
        layers += [torch.nn.Linear(i, o), act()]
    model = torch.nn.Sequential(*(layers if work.loss == "mse" else layers[:-1]))
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers[::2], parameters(work), strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    return model.to(dtype)


def eager_step(
    work: Workload,
    form: dict[str, bool],
    compiled: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Callable[..., Any]:
    model = make_model(work, dtype)
    optimizer: torch.optim.Optimizer
    if work.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=work.lr, **form)
    else:
        momentum = 0.9 if work.optimizer == "momentum" else 0.0
        optimizer = torch.optim.SGD(model.parameters(), lr=work.lr, momentum=momentum, **form)
    loss_fn = functional.mse_loss if work.loss == "mse" else functional.cross_entropy

    def forward(x: Any, y: Any) -> Any:
        return loss_fn(model(x), y)

    if compiled:
        forward = torch.compile(own(forward), fullgraph=True)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def whole_step(work: Workload, options: dict[str, Any]) -> Callable[..., Any]:
    """Forward, gradients and update as one function of tensors, compiled as one graph."""
    act = torch.relu if work.activation == "relu" else torch.sigmoid
    loss_fn = functional.mse_loss if work.loss == "mse" else functional.cross_entropy
    state = [torch.from_numpy(p).clone() for layer in parameters(work) for p in layer]
    m = [torch.zeros_like(p) for p in state] if work.optimizer != "sgd" else []
    v = [torch.zeros_like(p) for p in state] if work.optimizer == "adam" else []
    t = torch.zeros(())

    def loss_of(params: list[Any], x: Any, y: Any) -> Any:
        for at in range(0, len(params), 2):
            x = functional.linear(x, params[at], params[at + 1])
            if at + 2 < len(params) or work.loss == "mse":
                x = act(x)
        return loss_fn(x, y)

    def step(params: list[Any], m: list[Any], v: list[Any], t: Any, x: Any, y: Any) -> Any:
        grads, loss = torch.func.grad_and_value(loss_of)(params, x, y)
        if work.optimizer == "adam":
            t.add_(1)
            scale, root = work.lr / (1 - 0.9**t), (1 - 0.999**t).sqrt()
        for at, (p, g) in enumerate(zip(params, grads, strict=True)):
            if work.optimizer == "sgd":
                p.sub_(g, alpha=work.lr)
            elif work.optimizer == "momentum":
                p.sub_(m[at].mul_(0.9).add_(g), alpha=work.lr)
            else:
                m[at].lerp_(g, 0.1)
                v[at].mul_(0.999).addcmul_(g, g, value=0.001)
                p.sub_(scale * m[at] / (v[at].sqrt() / root + 1e-8))
        return loss

    compiled = torch.compile(own(step), fullgraph=True, options=options)

    @torch.no_grad()
    def call(x: Any, y: Any) -> Any:
        return compiled(state, m, v, t, x, y)

    return call


def losses(work: Workload, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """Of the first steps."""
    x, y = map(torch.from_numpy, batches(work))
    xs, ys = x.to(dtype), y.to(dtype) if work.loss == "mse" else y
    one = eager_step(work, FUSED, dtype=dtype)
    return np.array([one(xs[i % work.steps], ys[i % work.steps]).item() for i in range(CURVE)])


exact_losses = functools.cache(functools.partial(losses, dtype=torch.float64))


def step(work: Workload, variant: str, only: str = "", precision: str = "") -> Task:
    """`only` names the one form that is made, where others would cost memory or time."""
    if precision:
        exact = exact_losses(work)
        curve = Task(lambda: None, functools.partial(losses, work))
        choose = functools.partial(
            with_setting, torch.set_float32_matmul_precision, precision, "highest"
        )
        return with_curve(choose(step(work, variant, only)), choose(curve).values(), exact)
    x, y = batches(work)
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)

    def made(make: Callable[..., Any], *arguments: Any) -> Callable[[], Task]:
        return lambda: one_by_one(make(work, *arguments), list(xs), list(ys))

    if variant == "eager":
        candidates = {name: made(eager_step, form) for name, form in OPTIMIZERS.items()}
    else:
        candidates = {name: made(whole_step, options) for name, options in MODES.items()}
        candidates["model only, fused optimizer"] = made(eager_step, FUSED, True)
    return candidates[only]() if only else fastest(candidates)


def matmul(a: np.ndarray, b: np.ndarray, batched: bool, dtype: str) -> Task:
    if dtype in ("highest", "medium"):
        task = matmul(a, b, batched, "float32")
        choose = torch.set_float32_matmul_precision
        return with_error(with_setting(choose, dtype, "highest", task), a, b)
    at, bt = (torch.from_numpy(x).to(getattr(torch, dtype)) for x in (a, b))
    product = torch.bmm if batched else torch.mm
    out = product(at, bt)
    return Task(lambda: product(at, bt, out=out), lambda: product(at, bt).double().numpy())


def op(name: str, n: int, backward: bool) -> Task:
    return ops.task(
        torch, name, n, backward,
        lambda a, needs: torch.from_numpy(a).requires_grad_(needs),
        lambda y, leaves, g: torch.autograd.grad(y, leaves, g),
        lambda y: y.numpy(),
    )  # fmt: skip


def convolution(case: list[int], images: int, backward: bool, layout: str) -> Task:
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format

    def tensor(a: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(a).contiguous(memory_format=form)
        return x.requires_grad_(backward)

    return conv.task(
        functional.conv2d, case, images, backward, tensor,
        lambda y, leaves, g: torch.autograd.grad(y, leaves, g),
        lambda y: y.contiguous().numpy(),
    )  # fmt: skip


class Block(torch.nn.Module):
    """That of wengert.models.convnet, with its names."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = torch.nn.BatchNorm2d(inputs)
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = torch.nn.BatchNorm2d(outputs)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.beside = None
        if stride > 1 or inputs != outputs:
            self.beside = torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = functional.relu(self.norm1(x))
        x = x if self.beside is None else self.beside(h)
        return x + self.conv2(functional.relu(self.norm2(self.conv1(h))))


class ConvNet(torch.nn.Module):
    """The default of wengert.models.convnet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.blocks = torch.nn.Sequential(Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2))
        self.norm = torch.nn.BatchNorm2d(128)
        self.head = torch.nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3)))


def residual(images: int, layout: str, compiled: bool) -> Task:
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = ConvNet()
    names = {k: tuple(p.shape) for k, p in model.named_parameters()}
    begin = {k: torch.from_numpy(w) for k, w in conv.weights(names).items()}
    model.load_state_dict(begin, strict=False)
    model = model.to(memory_format=form)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = map(torch.from_numpy, conv.residual(images))
    x = x.contiguous(memory_format=form)
    forward = torch.compile(model) if compiled else model

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return Task(step, lambda: np.array([step().item() for _ in range(5)]))


def sigmoid(x: np.ndarray, variant: str) -> Task:
    xt = torch.from_numpy(x)
    if variant == "fresh":
        return Task(xt.sigmoid, lambda: xt.sigmoid().numpy())
    if variant == "reused":
        out = torch.empty_like(xt)
        return Task(lambda: torch.sigmoid(xt, out=out), lambda: torch.sigmoid(xt).numpy())
    xt, g = xt.clone().requires_grad_(), torch.ones_like(xt)

    def gradient() -> Any:
        return torch.autograd.grad(xt.sigmoid(), xt, g)[0]

    return Task(gradient, lambda: gradient().numpy())


def chain(length: int, variant: str) -> Task:
    a = torch.tensor(1.0001)
    x = torch.tensor(1.5, requires_grad=variant == "gradient")

    def forward() -> Any:
        y = x
        for _ in range(length):
            y = y * a
        return y

    if variant == "value":
        return Task(forward, lambda: forward().numpy(), per=length)

    def gradient() -> Any:
        return torch.autograd.grad(forward(), x)[0]

    return Task(gradient, lambda: gradient().numpy(), per=length)
