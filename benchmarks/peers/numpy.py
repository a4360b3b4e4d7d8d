"""NumPy: training steps by hand, in place, into buffers made once; OpenBLAS through np.matmul."""

from __future__ import annotations

import numpy as np
import ops
from workloads import Task, Workload, batches, one_by_one, parameters

VERSION = np.__version__
STEPS = ("by hand",)
SIGMOID = ("fresh", "reused", "gradient")
CHAIN = ("value", "scalar")


def set_threads(n: int) -> None:
    """OpenBLAS has read the environment."""


def sigmoid_into(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.reciprocal(out, out=out)


class Network:
    """Forward, backward and update of W1 and W2."""

    def __init__(self, work: Workload) -> None:
        self.work = work
        self.layers = list(parameters(work))
        self.grads = [(np.empty_like(w), np.empty_like(b)) for w, b in self.layers]
        self.velocity = [(np.zeros_like(w), np.zeros_like(b)) for w, b in self.layers]
        # One buffer a layer for values, one for gradients, one for what is computed in between.
        sizes = [(work.batch, n) for n in work.sizes[1:]]
        self.values = [np.empty(s, np.float32) for s in sizes]
        self.deltas = [np.empty(s, np.float32) for s in sizes]
        self.spare = [np.empty(s, np.float32) for s in sizes]
        self.rows = np.arange(work.batch)

    def activate(self, at: int) -> None:
        h = self.values[at]
        if self.work.activation == "sigmoid":
            sigmoid_into(h, h)
        else:
            np.maximum(h, 0, out=h)

    def undo_activation(self, at: int) -> None:
        h, delta, spare = self.values[at], self.deltas[at], self.spare[at]
        if self.work.activation == "sigmoid":
            np.subtract(1, h, out=spare)
            spare *= h
            delta *= spare
        else:
            delta *= h > 0

    def loss(self, y: np.ndarray) -> np.float32:
        """The loss; its gradient goes into the last delta."""
        out, delta, spare = self.values[-1], self.deltas[-1], self.spare[-1]
        if self.work.loss == "mse":
            np.subtract(out, y, out=delta)
            value = np.vdot(delta, delta) / out.size
            delta *= 2 / out.size
            self.undo_activation(len(self.layers) - 1)
            return value
        np.subtract(out, out.max(axis=1, keepdims=True), out=spare)
        np.exp(spare, out=delta)
        total = delta.sum(axis=1, keepdims=True)
        value = np.log(total).mean() - spare[self.rows, y].mean()
        delta /= total
        delta[self.rows, y] -= 1
        delta *= 1 / len(y)
        return value

    def step(self, x: np.ndarray, y: np.ndarray) -> np.float32:
        inputs = [x, *self.values[:-1]]
        last = len(self.layers) - 1
        for at, (w, b) in enumerate(self.layers):
            h = self.values[at]
            np.matmul(inputs[at], w.T, out=h)
            h += b
            if at < last or self.work.loss == "mse":
                self.activate(at)
        value = self.loss(y)
        for at in range(last, -1, -1):
            dw, db = self.grads[at]
            np.matmul(self.deltas[at].T, inputs[at], out=dw)
            np.sum(self.deltas[at], axis=0, out=db)
            if at:
                np.matmul(self.deltas[at], self.layers[at][0], out=self.deltas[at - 1])
                self.undo_activation(at - 1)
        for pair, grads, velocities in zip(self.layers, self.grads, self.velocity, strict=True):
            for p, g, v in zip(pair, grads, velocities, strict=True):
                if self.work.optimizer == "momentum":
                    v *= 0.9
                    v += g
                    np.multiply(v, self.work.lr, out=g)
                else:
                    g *= self.work.lr
                p -= g
        return value


def step(work: Workload, variant: str) -> Task:
    if work.optimizer == "adam":
        raise NotImplementedError("by hand, there is no Adam")
    return one_by_one(Network(work).step, *batches(work))


def matmul(a: np.ndarray, b: np.ndarray, batched: bool, dtype: str) -> Task:
    del batched  # the same call
    if dtype == "bfloat16":
        raise NotImplementedError("no bfloat16")
    out = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    return Task(lambda: np.matmul(a, b, out=out), lambda: np.matmul(a, b))


def op(name: str, n: int, backward: bool) -> Task:
    return ops.task(np, name, n, backward, lambda a, needs: a, None, lambda y: y)


def sigmoid(x: np.ndarray, variant: str) -> Task:
    if variant == "fresh":
        return Task(lambda: 1 / (1 + np.exp(-x)), lambda: 1 / (1 + np.exp(-x)))
    y = np.empty_like(x)
    if variant == "reused":
        return Task(lambda: sigmoid_into(x, y), lambda: sigmoid_into(x, y))
    g, dx = np.ones_like(x), np.empty_like(x)

    def gradient() -> np.ndarray:
        sigmoid_into(x, y)
        np.subtract(1, y, out=dx)
        np.multiply(dx, y, out=dx)
        return np.multiply(dx, g, out=dx)

    return Task(gradient, gradient)


def chain(length: int, variant: str) -> Task:
    """0-d arrays, into one, for an operator makes scalars of them; or NumPy's scalars."""
    if variant == "scalar":
        start, b = np.float32(1.5), np.float32(1.0001)

        def scalars() -> np.float32:
            y = start
            for _ in range(length):
                y = y * b
            return y

        return Task(scalars, scalars, per=length)
    x, a = np.array(1.5, np.float32), np.array(1.0001, np.float32)
    out = np.empty_like(x)

    def forward() -> np.ndarray:
        y = x
        for _ in range(length):
            y = np.multiply(y, a, out=out)
        return y

    return Task(forward, forward, per=length)
