"""Walk 2: why a sigmoid saturates, and what cross-entropy does about it.

One unit, p = sigmoid(z), is wrong and sure of it: its target is 0 and z grows from 0 to 20. Under
the squared error the gradient that reaches z is (p - y) p (1 - p): the factor p (1 - p), the slope
of the sigmoid, goes to zero just where the answer is most wrong. Cross-entropy's gradient divides
by that slope, and the two cancel: p - y remains. The listings show where.

    python examples/study/saturation.py
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

import wengert
from wengert.study import Program

Loss = Callable[[wengert.Tensor, wengert.Tensor], wengert.Tensor]


def squared(z: wengert.Tensor, y: wengert.Tensor) -> wengert.Tensor:
    """(sigmoid(z) - y)^2 / 2"""
    return wengert.mse_loss(wengert.sigmoid(z), y, reduction="half_mean")


def entropy(z: wengert.Tensor, y: wengert.Tensor) -> wengert.Tensor:
    """-y log(p) - (1 - y) log(1 - p), p = sigmoid(z)"""
    return wengert.binary_cross_entropy_with_logits(z, y)


def traced(at: float, loss_fn: Loss) -> Program:
    """One forward and backward at z = at."""
    z = wengert.tensor(np.array([at]), requires_grad=True)
    y = wengert.tensor(np.zeros(1))

    def step() -> None:
        loss = loss_fn(z, y)
        loss.backward()

    return wengert.trace(step)()


def gradient(at: float, loss_fn: Loss) -> float:
    """What reaches z."""
    return float(traced(at, loss_fn).gradients()["z"][0])


print(
    "The squared error's list: in the line of the sigmoid, the gradient is multiplied by p (1 - p)."
)
print(traced(6.0, squared))
print("\nCross-entropy's list: sigmoid(z) - y, and no slope anywhere.")
print(traced(6.0, entropy))

print(f"\n{'z':>5} {'p':>12} {'squared error: dz':>20} {'cross-entropy: dz':>20}")
for at in (0.0, 1.0, 2.0, 4.0, 8.0, 12.0, 20.0):
    p = 1 / (1 + np.exp(-at))
    left, right = gradient(at, squared), gradient(at, entropy)
    print(f"{at:5.0f} {p:12.9f} {left:20.3e} {right:20.3e}")
    assert np.isclose(left, p * p * (1 - p)) and np.isclose(right, p)

# Two layers of it: each sigmoid on the way multiplies by at most 1/4.
print("\nA gradient on its way up through ten sigmoids (each slope is at most 1/4):")


def tower() -> None:
    """sigmoid of sigmoid of ..."""
    v = start
    for _ in range(10):
        v = wengert.sigmoid(v)
    v.sum().backward()


start = wengert.tensor(np.array([0.5]), requires_grad=True)
program = wengert.trace(tower)()
stepper = program.stepper()
sizes = []
for line in program.lines:
    stepper.to(line.number)
    if line.op == "sigmoid_vjp":
        sizes.append(float(abs(stepper.run.array(line.outputs[0])[0])))
print("  " + "  ".join(f"{size:.1e}" for size in sizes))
assert all(b <= a / 4 for a, b in pairwise(sizes))
