"""The network this project began with: 10 inputs, 5 hidden units, 1 output, sigmoid on both layers.

100 random samples, 1000 epochs, learning rate 0.01, float64; trained by gradient descent (all
samples at once), SGD (mini-batches of 10) and Adam, on three losses. Every run is done twice, by
Wengert and by the closed-form NumPy code below, from the same weights and in the same order; the
weights after training must agree to 1e-12, relative to the largest.

    h = sigmoid(x @ w1 + b1)        x (n, 10), w1 (10, 5), b1 (5,)
    z = h @ w2 + b2                 w2 (5, 1), b2 (1,)
    p = sigmoid(z)                  (n, 1)
    half mse       1/(2n) sum (p - y)^2        dL/dz = (p - y) p (1 - p) / n
    mse            1/n    sum (p - y)^2        dL/dz = 2 (p - y) p (1 - p) / n
    cross-entropy  1/n    sum softplus(z) - y z    dL/dz = (p - y) / n
Cross-entropy takes z, the output before its sigmoid (binary_cross_entropy_with_logits): the sigmoid
is inside that loss, where it cancels and cannot overflow.

As published, the network could not run: it multiplied weights (5, 10) by inputs (100, 10), whose
shapes do not align, and its backward pass read variables that do not exist there. Here a sample is
a row, x @ w1 is (100, 10) @ (10, 5), and the backward pass is the engine's.

    python examples/seed_mlp.py [--epochs 1000]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

import wengert
from wengert import optim

Array = npt.NDArray[np.float64]

SAMPLES, INPUTS, HIDDEN, OUTPUTS = 100, 10, 5, 1
LEARNING_RATE, BATCH = 0.01, 10
TOLERANCE = 1e-12
METHODS = ("gradient descent", "sgd", "adam")
LOSSES = ("half mse", "mse", "cross-entropy")


def make_problem(seed: int = 0) -> tuple[Array, Array, list[Array]]:
    """Samples, labels 0 or 1 by the side of a random plane, and the weights to begin with."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((SAMPLES, INPUTS))
    y = (x @ rng.standard_normal((INPUTS, OUTPUTS)) > 0).astype(np.float64)
    weights = [
        rng.standard_normal((INPUTS, HIDDEN)) / np.sqrt(INPUTS),
        np.zeros(HIDDEN),
        rng.standard_normal((HIDDEN, OUTPUTS)) / np.sqrt(HIDDEN),
        np.zeros(OUTPUTS),
    ]
    return x, y, weights


def batch_rows(method: str, epoch: int) -> list[Any]:
    """The rows of each step of an epoch: everything at once, or shuffled mini-batches for SGD."""
    if method != "sgd":
        return [slice(None)]
    order = np.random.default_rng([1, epoch]).permutation(SAMPLES)
    return [order[i : i + BATCH] for i in range(0, SAMPLES, BATCH)]


# By Wengert


def loss_of(
    weights: list[wengert.Tensor], x: wengert.Tensor, y: wengert.Tensor, loss: str
) -> wengert.Tensor:
    """The network and its loss; the backward pass follows from it."""
    w1, b1, w2, b2 = weights
    hidden = wengert.sigmoid(x @ w1 + b1)
    z = hidden @ w2 + b2
    if loss == "cross-entropy":
        return wengert.binary_cross_entropy_with_logits(z, y)
    reduction = "half_mean" if loss == "half mse" else "mean"
    return wengert.mse_loss(wengert.sigmoid(z), y, reduction=reduction)


def train_wengert(
    method: str, loss: str, epochs: int, x: Array, y: Array, start: list[Array]
) -> tuple[list[Array], float, float]:
    """The weights after training, and the loss over all samples before and after."""
    weights = [wengert.tensor(w, requires_grad=True) for w in start]
    kind = optim.Adam if method == "adam" else optim.SGD
    optimizer = kind(weights, lr=LEARNING_RATE)
    every_x, every_y = wengert.tensor(x), wengert.tensor(y)
    first = loss_of(weights, every_x, every_y, loss).item()
    for epoch in range(epochs):
        for rows in batch_rows(method, epoch):
            optimizer.zero_grad()
            loss_of(weights, wengert.tensor(x[rows]), wengert.tensor(y[rows]), loss).backward()
            optimizer.step()
    last = loss_of(weights, every_x, every_y, loss).item()
    return [w.detach().numpy() for w in weights], first, last


# By hand, in NumPy


def sigmoid(z: Array) -> Array:
    """As it stands in the text above; the numbers here are far from where it would overflow."""
    return 1.0 / (1.0 + np.exp(-z))


def gradients(weights: list[Array], x: Array, y: Array, loss: str) -> list[Array]:
    """The chain rule, written out."""
    w1, b1, w2, b2 = weights
    n = len(x)
    hidden = sigmoid(x @ w1 + b1)
    p = sigmoid(hidden @ w2 + b2)
    if loss == "cross-entropy":
        dz = (p - y) / n
    else:
        dz = (1.0 if loss == "half mse" else 2.0) / n * (p - y) * p * (1.0 - p)
    dhidden = dz @ w2.T * hidden * (1.0 - hidden)
    return [x.T @ dhidden, dhidden.sum(axis=0), hidden.T @ dz, dz.sum(axis=0)]


def train_numpy(
    method: str, loss: str, epochs: int, x: Array, y: Array, start: list[Array]
) -> list[Array]:
    """The same training with the gradients above; Adam with its usual constants."""
    weights = [w.copy() for w in start]
    mean = [np.zeros_like(w) for w in start]
    square = [np.zeros_like(w) for w in start]
    step = 0
    for epoch in range(epochs):
        for rows in batch_rows(method, epoch):
            step += 1
            for i, g in enumerate(gradients(weights, x[rows], y[rows], loss)):
                if method == "adam":
                    mean[i] = 0.9 * mean[i] + 0.1 * g
                    square[i] = 0.999 * square[i] + 0.001 * g * g
                    root = np.sqrt(square[i] / (1 - 0.999**step)) + 1e-8
                    weights[i] -= LEARNING_RATE * (mean[i] / (1 - 0.9**step)) / root
                else:
                    weights[i] -= LEARNING_RATE * g
    return weights


def difference(ours: list[Array], theirs: list[Array]) -> float:
    """The largest difference of any weight, relative to the largest weight."""
    apart = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    return apart / max(float(np.abs(b).max()) for b in theirs)


def main() -> None:
    """All nine runs as a table; exit code 1 where one of them disagrees."""
    parser = argparse.ArgumentParser(description="The 10-5-1 network, checked against NumPy.")
    parser.add_argument("--epochs", type=int, default=1000)
    epochs = parser.parse_args().epochs
    x, y, start = make_problem()
    print(f"{'method':18}{'loss':15}{'first loss':>12}{'last loss':>12}{'largest difference':>21}")
    worst = 0.0
    for method in METHODS:
        for loss in LOSSES:
            ours, first, last = train_wengert(method, loss, epochs, x, y, start)
            apart = difference(ours, train_numpy(method, loss, epochs, x, y, start))
            worst = max(worst, apart)
            print(f"{method:18}{loss:15}{first:12.6f}{last:12.6f}{apart:21.1e}")
    if not worst <= TOLERANCE:
        raise SystemExit(f"Wengert and NumPy differ by {worst:.1e}, more than {TOLERANCE:.0e}")
    print(f"Wengert and NumPy agree to {TOLERANCE:.0e} in all {len(METHODS) * len(LOSSES)} runs")


if __name__ == "__main__":
    main()
