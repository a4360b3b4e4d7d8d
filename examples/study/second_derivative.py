"""Walk 4: second derivatives. Backward is written with ops, so it has a backward of its own.

f(x) = sum(x^3): the gradient is 3 x^2, and the product of the Hessian with a vector v is 6 x v.
With create_graph=True the lines of the first backward are recorded like any others; the list then
shows lines beside lines that themselves stand beside lines. check() takes all of them.

    python examples/study/second_derivative.py
"""

import numpy as np

import wengert

x = wengert.tensor(np.array([1.0, -2.0, 0.5]), requires_grad=True)
v = wengert.tensor(np.array([1.0, 0.0, 2.0]))


def step() -> wengert.Tensor:
    """H v = d(g . v)/dx, g the gradient of f."""
    f = (x * x * x).sum()
    g = wengert.grad(f, x, create_graph=True)
    gv = (g * v).sum()
    gv.backward()
    return gv


program = wengert.trace(step)()
print(program)

hessian_v = program.gradients()["x"]
print("\nH v by the list:", hessian_v)
print("6 x v by hand:  ", 6 * x.detach().numpy() * v.numpy())
assert np.allclose(hessian_v, 6 * x.detach().numpy() * v.numpy())

twice = [line for line in program.lines if line.answer is not None and program.answers_to(line)]
print("\nLines of the first backward that the second one went through:")
for line in twice:
    for answer in program.answers_to(line):
        print(f"  line {line.number:2} {program.left(line)}")
        print(f"          {program.vjp_formula(answer)}")
assert twice

checks = program.check()
print(f"\n{checks}")
assert checks
