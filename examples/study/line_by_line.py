"""Walk 1: the 10-5-1 network, line by line.

One step of the network that this project began with, as a Wengert list: every op that ran, and
beside it the lines that its gradient is written with. Then the list is walked, forward and back,
and the gradient of w2 is worked out by hand to see that the lines say the same.

    python examples/study/line_by_line.py
"""

import numpy as np

import wengert

rng = np.random.default_rng(0)
x = wengert.tensor(rng.standard_normal((20, 10)))
y = wengert.tensor((rng.random((20, 1)) > 0.5).astype(float))
w1 = wengert.tensor(rng.standard_normal((10, 5)) / 10**0.5, requires_grad=True)
b1 = wengert.tensor(np.zeros(5), requires_grad=True)
w2 = wengert.tensor(rng.standard_normal((5, 1)) / 5**0.5, requires_grad=True)
b2 = wengert.tensor(np.zeros(1), requires_grad=True)


def step(x: wengert.Tensor, y: wengert.Tensor) -> wengert.Tensor:
    """Forward, loss, backward."""
    h = wengert.sigmoid(x @ w1 + b1)
    z = h @ w2 + b2
    p = wengert.sigmoid(z)
    loss = wengert.mse_loss(p, y, reduction="half_mean")
    loss.backward()
    return loss


program = wengert.trace(step)(x, y)
print("The list. Forward runs down; each line's gradient stands beside it, and runs up.\n")
print(program)

print("\nLine by line, forward:\n")
stepper = program.stepper()
while stepper.position < len(program) and program.lines[stepper.position].phase == "forward":
    stepper.forward()
    print(stepper)

print("\nAnd where each gradient comes from:\n")
for line in program.lines:
    for answer in program.answers_to(line):
        print(f"  line {line.number:2}, {line.op:8} {program.vjp_formula(answer)}")

# By hand: dL/dz = (p - y) p (1 - p) / n, and dw2 = h.T @ dz.
stepper.to(len(program))
h, p = stepper.array("h"), stepper.array("p")
dz = (p - y.numpy()) * p * (1 - p) / len(p)
by_hand = h.T @ dz
listed = stepper.array("dw2")
print("\ndw2 by hand, and by the list:")
print(np.hstack([by_hand, listed]))
assert np.allclose(by_hand, listed, rtol=1e-12)

print("\nEvery vjp against differences, at these very values:\n")
checks = program.check()
print(checks)
assert checks
