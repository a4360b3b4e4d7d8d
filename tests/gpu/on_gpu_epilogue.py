"""What a product of a compiled step does besides: epilogues, slices and updates on a GPU.

All have the bits of the same step line by line. With a GPU: `pytest tests/gpu/on_gpu_epilogue.py`.
Without: test_cuda_matmul.py runs this file against the emulation as compute capability 7.5 (plain
kernels alone), 8.0 (mma) and 9.0 (wgmma).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from training import OPTIMIZERS, Training

import wengert as wg
from wengert import nn, optim

if not wg.cuda.is_available():
    pytest.skip(wg.cuda.status(), allow_module_level=True)

PASSES = [p for p in wg.compiling.PASSES if p not in ("chains", "persistent")]
# Sizes of all kernels: of few elements, in quads and not, for tensor cores, with k in slabs.
SIZES = [(5, 33, 7), (40, 36, 20), (130, 68, 72), (131, 65, 260), (33, 40, 4100), (128, 128, 1100)]
PRECISIONS = ["strict", "fp32", "fast", "bf16"] if wg.cuda.matmul_units() else ["strict"]


@pytest.fixture(autouse=True)
def strict_afterwards() -> Iterator[None]:
    yield
    wg.set_matmul_precision("strict")


def draw(*shape: int, seed: int = 0) -> wg.Tensor:
    return wg.randn(shape, generator=wg.Generator(seed), device="cuda")


def bits(results: Any) -> list[bytes]:
    return [y.detach().cpu().numpy().tobytes() for y in results]


def bodies(f: Any) -> list[list[str]]:
    """The parts of each product, without the product."""
    return [[part["op"] for part in line["body"][1:]] for line in products(f)]


def products(f: Any) -> list[dict[str, Any]]:
    return [line for line in f.program.lines if line["op"] == "matmul"]


def kernels(f: Any) -> int:
    words = f.program.replay.split()
    assert words[:4] == ["one", "CUDA", "graph", "of"], f.program.replay
    return int(words[4])


def same(step: Callable[..., Any], x: wg.Tensor, without: tuple[str, ...] = ()) -> Any:
    """The compiled step, whose calls, also as a graph, have given eager's bits.

    Each call has another argument and comes before eager's: no memory has the results by chance.
    """
    f = wg.compile(step, passes=[p for p in PASSES if p not in without])
    for i in range(1, 4):
        found = bits(f(x * i))
        assert found == bits(step(x * i))
    return f


# ---- elementwise lines ---------------------------------------------------------------------------


@pytest.mark.parametrize("m, n, k", SIZES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_sizes(m: int, n: int, k: int, precision: str) -> None:
    wg.set_matmul_precision(precision)
    a, b, bias, other = draw(m, k), draw(n, k, seed=1), draw(n, seed=2), draw(m, n, seed=3)
    f = same(lambda a: ((a @ b.T + bias).sigmoid() * other,), a)
    assert bodies(f) == [["add", "sigmoid", "mul"]] and len(f.program.lines) == 1
    # Values between that others need, the product itself too.
    f = same(lambda a: [y := a @ b.T, z := y - bias, z.tanh(), y.sum(), z.sum()], a)
    assert bodies(f) == [["sub", "tanh"]]


ACTIVATIONS: dict[str, Callable[[wg.Tensor], wg.Tensor]] = {
    "relu": wg.relu,
    "leaky_relu": lambda x: wg.leaky_relu(x, 0.3),
    "sigmoid": wg.sigmoid,
    "tanh": wg.tanh,
    "gelu": wg.gelu,
    "gelu_tanh": lambda x: wg.gelu(x, "tanh"),
    "silu": wg.silu,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("precision", PRECISIONS[::2])
def test_activations_and_their_gradients(name: str, precision: str) -> None:
    """Forward, and where the gradient of an activation follows a product of the backward pass."""
    wg.set_matmul_precision(precision)
    x, w, v = draw(70, 68), draw(136, 68, seed=1), draw(72, 136, seed=2)
    w.mul_(0.3)

    def step(x: wg.Tensor) -> Any:
        leaf = w.detach().requires_grad_()
        hidden = ACTIVATIONS[name](x @ leaf.T)
        y = hidden @ v.T
        return y.detach(), hidden.detach(), *wg.grad(y.square().sum(), [leaf])

    f = same(step, x)
    found = [part for body in bodies(f) for part in body if part != "slices"]
    assert found == [name, f"{name}_vjp"], f.program


def test_operands_in_any_layout() -> None:
    a, b, row = draw(3, 40, 24), draw(24, 36, seed=1), draw(36, seed=2)
    column, one, whole = draw(40, 1, seed=3), draw(1, seed=4), draw(40, 36, seed=5)
    parts = draw(40, 80, seed=6)[:, 3:39]
    x = a[0]
    for call in (
        lambda x: (row - x @ b,),
        lambda x: ((x @ b) * column - one,),
        lambda x: ((x @ b) * parts,),
        lambda x: ((x @ b + 0.5) * whole,),
    ):
        f = same(call, x)
        assert len(f.program.lines) == 1, f.program
    # A stack is one tall matrix.
    full = draw(3, 40, 36, seed=7)
    f = same(lambda a: ((a @ b + row) * full,), a)
    assert bodies(f) == [["add", "mul"]]
    # What lies along other axes than rows and columns stays a line of its own, as does more than
    # four lines, a value that is read twice, and another dtype.
    f = same(lambda a: ((a @ b) * column[None],), a)
    assert bodies(f) == [[]]
    f = same(lambda x: (((((x @ b + row).tanh() * 2 - row).tanh() + one).tanh()),), x)
    assert bodies(f) == [["add", "tanh", "mul", "sub"]]
    f = same(lambda x: ((y := x @ b + row) * y,), x)
    assert bodies(f) == [["add"]]
    f = same(lambda x: ((x @ b).double() * 2,), x)
    assert bodies(f) == [[]]
    d = draw(24, 36).double()
    f = same(lambda x: ((x @ d).relu(),), x.double())
    assert bodies(f) == [[]]


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_stacked(precision: str) -> None:
    wg.set_matmul_precision(precision)
    a, b, full = draw(2, 72, 120), draw(120, 136, seed=1), draw(2, 72, 136, seed=2)
    f = same(lambda a: ((a @ b + full).relu(),), a)
    assert bodies(f) == [["add", "relu"]]


@pytest.mark.parametrize("precision", PRECISIONS[:1] + PRECISIONS[3:])
def test_layers_of_more_axes(precision: str) -> None:
    """Their products have one matrix of the batch axes, what follows has not."""
    wg.set_matmul_precision(precision)
    wg.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 160), nn.GELU(), nn.Linear(160, 112)).to("cuda")
    x = draw(2, 70, 96)

    def step(x: wg.Tensor) -> Any:
        y = model(x) - row
        return y.detach(), *wg.grad(y.square().sum(), list(model.parameters()))

    row = draw(2, 1, 112, seed=1)
    f = same(step, x)
    found = [part for body in bodies(f) for part in body if part != "slices"]
    assert found == ["add", "gelu", "add", "gelu_vjp"], f.program
    assert sum("slices" in body for body in bodies(f)) == (precision != "strict")


def test_numbers_from_the_cpu_are_read_at_each_launch() -> None:
    b, scale, rates = draw(24, 36), wg.tensor(2.0), wg.rand(5, generator=wg.Generator(1))
    xs = draw(5, 40, 24)

    def step(x: wg.Tensor, rate: wg.Tensor) -> Any:
        scale.mul_(0.5)
        return ((x @ b) * scale + rate,)

    scale.fill_(3.0)
    expected = [bits(step(x, r)) for x, r in zip(xs, rates, strict=True)]
    for passes in (PASSES, [p for p in PASSES if p != "graph"]):
        f = wg.compile(step, passes=passes)
        scale.fill_(3.0)
        assert [bits(f(x, r)) for x, r in zip(xs, rates, strict=True)] == expected
        scale.fill_(3.0)
        (ys,) = f.run(5, xs, rates)
        assert [bits([y]) for y in ys] == expected
        assert bodies(f) == [["mul", "add"]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_not_finite(precision: str) -> None:
    """Results that are made again with plain numbers are so before the epilogue sees them."""
    wg.set_matmul_precision(precision)
    a, b, bias = draw(130, 96), draw(96, 176, seed=1), draw(176, seed=2)
    b[:, :5] = wg.tensor([1.0, -2.0, 0.0, 0.5, 3.0], device="cuda")
    a[3, 7], a[9, 0], a[50, 64], a[90, 2] = np.inf, -np.inf, np.nan, 3e38
    bias[7] = np.inf
    f = same(lambda a: ((a @ b + bias).tanh(),), a)
    assert bodies(f) == [["add", "tanh"]]
    (y,) = f(a)
    assert y[3, 0].item() == 1 and y[3, 1].item() == -1 and np.isnan(y[3, 2].item())


# ---- slices --------------------------------------------------------------------------------------


needs_units = pytest.mark.skipif(not wg.cuda.matmul_units(), reason="no tensor cores for bfloat16")


@needs_units
@pytest.mark.parametrize("precision", ["fp32", "fast", "bf16"])
def test_slices_are_made_once(precision: str) -> None:
    wg.set_matmul_precision(precision)
    x, w, v, bias = draw(130, 96), draw(200, 96, seed=1), draw(90, 200, seed=2), draw(200, seed=3)
    x[5, 3] = np.inf
    w[7, 3] = 0.0

    def step(x: wg.Tensor) -> Any:
        return ((x @ w.T + bias).relu() @ v.T,)

    f = same(step, x)
    assert bodies(f) == [["add", "relu", "slices"], []]
    assert len(products(f)[1]["inputs"]) == 3
    assert kernels(f) == kernels(same(step, x, without=("slices",))) - 1
    if precision != "bf16":
        return
    for other, fewer in (
        (lambda x: (v @ (x @ w.T).T,), 1),  # as the other operand
        (lambda x: ((y := x @ w.T) @ y.T,), 2),  # as both
        (lambda x: (y := x @ w.T, y @ v.T, y @ v.T * 2), 2),
        (lambda x: ((x @ w.T).reshape(2, 65, 200) @ v.T,), 1),
    ):
        f = same(other, x)
        assert bodies(f)[0] == ["slices"], f.program
        assert kernels(f) == kernels(same(other, x, without=("slices",))) - fewer


@needs_units
def test_where_slices_are_not_kept() -> None:
    wg.set_matmul_precision("bf16")
    x, w, v = draw(130, 96), draw(200, 96, seed=1), draw(90, 200, seed=2)
    odd, u = draw(196, 96, seed=3), draw(90, 196, seed=4)

    def edited(x: wg.Tensor) -> Any:
        y = x @ w.T
        y.add_(1.0)
        return (y @ v.T,)

    for step in (
        lambda x: ((x @ odd.T) @ u.T,),  # rows of slices would be padded
        lambda x: ((x @ w.T) @ v.T[:, :20],),  # a product for the plain kernels
        lambda x: ((x @ w.T)[:65] @ v.T,),  # a part
        edited,
    ):
        assert not any("slices" in body for body in bodies(same(step, x)))
    # The other way round; square, so that only strides tell.
    square = draw(136, 120, seed=5)
    f = same(lambda x: ((x @ square.T).T @ x,), draw(136, 120, seed=6))
    assert bodies(f) == [[], []]


# ---- updates -------------------------------------------------------------------------------------

RULES = OPTIMIZERS | {"adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=1e-3)}


def begin(rule: str, activation: str, sizes: list[int], clip: bool = False) -> Training:
    return Training(RULES[rule], clip=clip, device="cuda", sizes=sizes, activation=activation)


@pytest.mark.parametrize("rule", RULES)
def test_training(rule: str) -> None:
    """A whole step: epilogues of both passes, and weights updated by their gradient's product,
    while learning rate and step count go on."""
    xs = draw(6, 64, 24)
    ys = wg.randint(0, 10, (6, 64), wg.Generator(3), "cuda")

    def losses(training: Training, step: Any) -> list[float]:
        found = []
        for i in range(6):
            training.optimizer.lr = 0.1 / (1 + i // 2)
            found.append(step(xs[i], ys[i]).item())
        return found

    made = [begin(rule, "gelu", [24, 40, 36, 10]) for _ in range(4)]
    expected = losses(made[0], made[0].step)
    for training, passes in ((made[1], PASSES), (made[2], [p for p in PASSES if p != "graph"])):
        f = wg.compile(training.step, passes=passes)
        assert losses(training, f) == expected
        assert training.state() == made[0].state()
    f = wg.compile(made[3].step, passes=PASSES)
    found = []
    for i in range(0, 6, 2):
        made[3].optimizer.lr = 0.1 / (1 + i // 2)
        found += f.run(2, xs[i : i + 2], ys[i : i + 2]).tolist()
    assert found == expected and made[3].state() == made[0].state()

    ops = [part for body in bodies(f) for part in body]
    name = {"momentum": "sgd", "adamw": "adam"}.get(rule, rule) + "_step"
    assert ops.count(name) == 3, f.program
    assert [line["op"] for line in f.program.lines].count(name) == 1  # the biases, or all
    assert ops.count("gelu") == ops.count("gelu_vjp") == 2
    assert ops.count("add") == 3


@needs_units
def test_training_on_tensor_cores() -> None:
    wg.set_matmul_precision("bf16")
    x, y = draw(136, 80), wg.randint(0, 10, (136,), wg.Generator(3), "cuda")
    eager, compiled = (begin("adam", "gelu", [80, 200, 144, 10]) for _ in range(2))
    f = wg.compile(compiled.step, passes=PASSES)
    for _ in range(3):
        assert f(x, y).item() == eager.step(x, y).item()
    assert compiled.state() == eager.state()
    assert bodies(f)[:3] == [["add", "gelu", "slices"], ["add", "gelu"], ["add"]]
    assert sorted(bodies(f)[3:]) == [["adam_step"]] * 3 + [
        ["gelu_vjp"],
        ["gelu_vjp", "slices"],
    ]


def test_slabs_update_too() -> None:
    xs, ys = draw(3, 4200, 12), wg.randint(0, 6, (3, 4200), wg.Generator(3), "cuda")
    eager, compiled = (begin("adam", "tanh", [12, 40, 6]) for _ in range(2))
    f = wg.compile(compiled.step, passes=PASSES)
    for x, y in zip(xs, ys, strict=True):
        assert f(x, y).item() == eager.step(x, y).item()
    assert compiled.state() == eager.state()
    assert sum("adam_step" in body for body in bodies(f)) == 2


def test_what_is_updated_behind() -> None:
    """A gradient that is read before its update, or that two products add up to."""
    xs, ys = draw(5, 64, 24), wg.randint(0, 8, (5, 64), wg.Generator(3), "cuda")
    eager, clipped = (begin("adam", "tanh", [24, 40, 8], clip=True) for _ in range(2))
    f = wg.compile(clipped.step, passes=PASSES)
    for x, y in zip(xs, ys, strict=True):
        assert f(x, y).item() == eager.step(x, y).item()
    assert clipped.state() == eager.state()
    assert not any("adam_step" in body for body in bodies(f))

    def made(twice: bool) -> tuple[wg.Tensor, Callable[[wg.Tensor], list[wg.Tensor]]]:
        w = draw(24, 24, seed=5).mul_(0.1).requires_grad_()
        rule = optim.SGD([w], lr=0.1, momentum=0.9)

        def step(x: wg.Tensor) -> list[wg.Tensor]:
            rule.zero_grad()
            y = (x @ w).tanh()
            loss = (y @ w if twice else y).square().mean()
            loss.backward()
            half = w.grad * 0.5  # follows the product, and is not what w is updated by
            rule.step()
            return [loss, half]

        return w, step

    for twice in (True, False):
        (w, step), (v, again) = made(twice), made(twice)
        f = wg.compile(again, passes=PASSES)
        for x in xs:
            assert bits(f(x)) == bits(step(x))
        assert w.tolist() == v.tolist()
        found = bodies(f)
        assert not any("sgd_step" in body for body in found)
        assert (["mul"] in found) == (not twice)
