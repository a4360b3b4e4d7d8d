"""JAX: the whole step under jit with its state donated, called once a step or scanned over many."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from workloads import Task, Workload, batches, one_by_one, parameters, with_error, with_setting

VERSION = jax.__version__
STEPS = ("jit", "scan")
SIGMOID = ("fresh", "gradient")
CHAIN = ("value", "gradient")

jax.config.update("jax_enable_x64", True)  # float64 matmuls are measured too; arrays are typed


def set_threads(n: int) -> None:
    """XLA makes as many threads as the process may use processors."""


State = tuple[Any, Any, Any, Any]


def make_step(work: Workload) -> tuple[Any, State]:
    activation = jax.nn.sigmoid if work.activation == "sigmoid" else jax.nn.relu
    lr, b1, b2, eps = np.float32(work.lr), np.float32(0.9), np.float32(0.999), np.float32(1e-8)

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        for at, (w, b) in enumerate(params):
            x = x @ w.T + b
            if at < len(params) - 1 or work.loss == "mse":
                x = activation(x)
        if work.loss == "mse":
            return jnp.mean((x - y) ** 2)
        rows = jnp.arange(len(y), dtype=y.dtype)
        return -jnp.mean(jax.nn.log_softmax(x)[rows, y])

    def step(state: State, x: Any, y: Any) -> tuple[State, Any]:
        params, m, v, t = state
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        each = jax.tree.map
        if work.optimizer == "sgd":
            params = each(lambda p, g: p - lr * g, params, grads)
        elif work.optimizer == "momentum":
            m = each(lambda m, g: b1 * m + g, m, grads)
            params = each(lambda p, m: p - lr * m, params, m)
        else:
            t = t + 1
            m = each(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
            v = each(lambda v, g: b2 * v + (1 - b2) * g * g, v, grads)
            scale, root = lr / (1 - b1**t), jnp.sqrt(1 - b2**t)
            params = each(lambda p, m, v: p - scale * m / (jnp.sqrt(v) / root + eps), params, m, v)
        return (params, m, v, t), loss

    params = [(jnp.array(w), jnp.array(b)) for w, b in parameters(work)]
    m = jax.tree.map(jnp.zeros_like, params) if work.optimizer != "sgd" else ()
    v = jax.tree.map(jnp.zeros_like, params) if work.optimizer == "adam" else ()
    return step, (params, m, v, jnp.zeros((), jnp.float32))


def choose(precision: str) -> None:
    jax.config.update("jax_default_matmul_precision", precision or None)


def step(work: Workload, variant: str, precision: str = "") -> Task:
    if precision:
        return with_setting(choose, precision, "", step(work, variant))
    one, state = make_step(work)
    x, y = batches(work)
    xs, ys = jnp.array(x), jnp.array(y.astype(np.int32) if y.ndim == 2 else y)
    if variant == "jit":
        jitted = jax.jit(one, donate_argnums=0)

        def call(x: Any, y: Any) -> Any:
            nonlocal state
            state, loss = jitted(state, x, y)
            return loss

        return one_by_one(call, list(xs), list(ys), wait=jax.block_until_ready)

    def scanned(state: State, xs: Any, ys: Any) -> tuple[State, Any]:
        return jax.lax.scan(lambda state, xy: one(state, *xy), state, (xs, ys))

    jitted = jax.jit(scanned, donate_argnums=0)

    def run() -> Any:
        nonlocal state
        state, losses = jitted(state, xs, ys)
        return jax.block_until_ready(losses)

    return Task(run, lambda: np.asarray(run()), per=work.steps)


def matmul(a: np.ndarray, b: np.ndarray, batched: bool, dtype: str) -> Task:
    del batched  # the same call
    precision = None
    if dtype in ("highest", "bfloat16"):  # of float32
        dtype, precision = "float32", dtype
    # Strides are not JAX's matter: a transposed operand is a transposition inside the jit.
    ta, tb = not a.flags.c_contiguous, not b.flags.c_contiguous
    aj, bj = (jnp.array(x.mT if t else x, dtype) for x, t in ((a, ta), (b, tb)))
    product = jax.jit(
        lambda a, b: jnp.matmul(a.mT if ta else a, b.mT if tb else b, precision=precision)
    )
    task = Task(
        lambda: product(aj, bj).block_until_ready(), lambda: np.asarray(product(aj, bj), np.float64)
    )
    return with_error(task, a, b) if precision else task


def sigmoid(x: np.ndarray, variant: str) -> Task:
    xj = jnp.array(x)
    g = jnp.ones_like(xj)
    if variant == "fresh":
        f = jax.jit(jax.nn.sigmoid)
    else:
        f = jax.jit(lambda x: jax.vjp(jax.nn.sigmoid, x)[1](g)[0])
    return Task(lambda: f(xj).block_until_ready(), lambda: np.asarray(f(xj)))


def chain(length: int, variant: str) -> Task:
    x, a = jnp.array(1.5, jnp.float32), jnp.array(1.0001, jnp.float32)

    def forward(x: Any) -> Any:
        for _ in range(length):
            x = x * a
        return x

    f = forward if variant == "value" else jax.grad(forward)
    return Task(lambda: f(x).block_until_ready(), lambda: np.asarray(f(x)), per=length)
