"""Wengert itself: eager, compiled with one call a step, and compiled with many steps in a call."""

from __future__ import annotations

import functools
from typing import Any

import convolution as conv
import numpy as np
import ops
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

import wengert as wg
from wengert import nn, optim
from wengert.models.convnet import ConvNet

VERSION = wg.__version__
STEPS = ("eager", "compiled", "run(n)")
SIGMOID = ("fresh", "reused", "gradient")
CHAIN = ("value", "gradient")

set_threads = wg.set_num_threads


def about() -> dict[str, Any]:
    return {"simd": wg.simd_level(), "bfloat16": hasattr(wg, "bfloat16")}


def make_step(work: Workload, device: str = "cpu", dtype: str = "float32") -> Any:
    model = nn.MLP(work.sizes, activation=work.activation)
    if work.loss == "mse":
        model = nn.Sequential(*model, nn.Sigmoid() if work.activation == "sigmoid" else nn.ReLU())
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    with wg.no_grad():
        for layer, (weight, bias) in zip(linears, parameters(work), strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    model.to(device).to(dtype)
    optimizer: optim.Optimizer
    if work.optimizer == "adam":
        optimizer = optim.Adam(model.parameters(), lr=work.lr)
    else:
        momentum = 0.9 if work.optimizer == "momentum" else 0.0
        optimizer = optim.SGD(model.parameters(), lr=work.lr, momentum=momentum)
    loss_fn = wg.mse_loss if work.loss == "mse" else wg.cross_entropy

    def step(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def losses(work: Workload, dtype: str = "float32") -> np.ndarray:
    """Of the first steps."""
    x, y = batches(work)
    xs = wg.tensor(x.astype(dtype))
    ys = wg.tensor(y.astype(dtype) if work.loss == "mse" else y)
    one = wg.compile(make_step(work, dtype=dtype))
    return np.array([one(xs[i % work.steps], ys[i % work.steps]).item() for i in range(CURVE)])


exact_losses = functools.cache(functools.partial(losses, dtype="float64"))


def step(work: Workload, variant: str, precision: str = "") -> Task:
    if precision:
        exact = exact_losses(work)
        curve = Task(lambda: None, functools.partial(losses, work))
        choose = functools.partial(with_setting, wg.set_matmul_precision, precision, "strict")
        return with_curve(choose(step(work, variant)), choose(curve).values(), exact)
    xs, ys = map(wg.tensor, batches(work))
    one = make_step(work)
    if variant == "eager":
        return one_by_one(one, xs, ys)
    compiled = wg.compile(one)
    if variant == "compiled":
        return one_by_one(compiled, xs, ys)

    def run() -> wg.Tensor:
        return compiled.run(work.steps, xs, ys)

    return Task(run, lambda: run().numpy(), per=work.steps)


def matmul(a: np.ndarray, b: np.ndarray, batched: bool, dtype: str) -> Task:
    if dtype in ("strict", "fp32", "fast", "bf16"):
        task = matmul(a, b, batched, "float32")
        return with_error(with_setting(wg.set_matmul_precision, dtype, "strict", task), a, b)
    at, bt = (wg.from_numpy(x) for x in (a, b))
    if dtype == "bfloat16":
        if not hasattr(wg, "bfloat16"):
            raise NotImplementedError("no bfloat16")
        at, bt = (x.to(wg.bfloat16) for x in (at, bt))
    return Task(lambda: at @ bt, lambda: (at @ bt).to("float64").numpy())


def op(name: str, n: int, backward: bool) -> Task:
    return ops.task(
        wg, name, n, backward,
        lambda a, needs: wg.tensor(a, requires_grad=needs),
        lambda y, leaves, g: wg.grad(y, leaves, g),
        lambda y: y.numpy(),
    )  # fmt: skip


def convolution(case: list[int], images: int, backward: bool) -> Task:
    return conv.task(
        wg.conv2d, case, images, backward,
        lambda a: wg.tensor(a, requires_grad=backward),
        lambda y, leaves, g: wg.grad(y, leaves, g),
        lambda y: y.numpy(),
    )  # fmt: skip


def residual(images: int) -> Task:
    model = ConvNet()
    named = dict(model.named_parameters())
    model.load_state_dict(conv.weights({k: p.shape for k, p in named.items()}), strict=False)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = map(wg.tensor, conv.residual(images))

    @wg.compile
    def step(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
        optimizer.zero_grad()
        loss = wg.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return Task(lambda: step(x, y), lambda: np.array([step(x, y).item() for _ in range(5)]))


def sigmoid(x: np.ndarray, variant: str) -> Task:
    xt = wg.tensor(x)
    if variant == "fresh":  # the allocator gives the last result's memory again
        return Task(xt.sigmoid, lambda: xt.sigmoid().numpy())
    if variant == "reused":
        out = wg.empty_like(xt)

        @wg.compile
        def into_out() -> None:
            out.copy_(xt.sigmoid())

        into_out()

        def filled() -> np.ndarray:
            into_out()
            return out.numpy()

        return Task(into_out, filled)
    xt, g = wg.tensor(x, requires_grad=True), wg.ones_like(xt)

    def gradient() -> wg.Tensor:
        return wg.grad(xt.sigmoid(), xt, g)

    return Task(gradient, lambda: gradient().numpy())


def chain(length: int, variant: str) -> Task:
    a = wg.tensor(1.0001)
    x = wg.tensor(1.5, requires_grad=variant == "gradient")

    def forward() -> wg.Tensor:
        y = x
        for _ in range(length):
            y = y * a
        return y

    if variant == "value":
        return Task(forward, lambda: forward().numpy(), per=length)

    def gradient() -> wg.Tensor:
        return wg.grad(forward(), x)

    return Task(gradient, lambda: gradient().numpy(), per=length)
