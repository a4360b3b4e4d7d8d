"""The passes of compiled steps: each alone, and all together, leaves every bit as it was."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim
from wengert.compiling import PASSES

Step = Callable[..., Any]


def listing(
    step: Step, *args: wg.Tensor, passes: Iterable[str] | None = None
) -> wg.compiling.Listing:
    """The list of a step after these passes."""
    compiled = wg.compile(step, passes=passes)
    for _ in range(2):
        compiled(*args)
    assert compiled.program is not None
    return compiled.program


def ops(lines: list[dict[str, Any]]) -> list[str]:
    """Of all lines, those inside fused ones too."""
    return [op for line in lines for op in ([p["op"] for p in line["body"]] or [line["op"]])]


# ---- the same bits ----

CHOICES = {name: [name] for name in PASSES}
CHOICES |= {f"all but {name}": [p for p in PASSES if p != name] for name in PASSES}
CHOICES |= {"none": [], "all": list(PASSES), "with memory": ["memory", "views", "chains"]}


def classifier(optimizer: str) -> Step:
    wg.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(20, 33),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(33, 33),
        nn.Tanh(),
        nn.Linear(33, 5),
    )
    parameters = list(model.parameters())
    optimizers = {
        "sgd": lambda: optim.SGD(parameters, lr=0.1),
        "momentum": lambda: optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
        "adamw": lambda: optim.AdamW(parameters, lr=0.01),
        "rmsprop": lambda: optim.RMSprop(parameters, lr=0.01),
        "amsgrad": lambda: optim.Adam(parameters, lr=0.01, amsgrad=True),
        "nadam": lambda: optim.NAdam(parameters, lr=0.01),
        "clipped": lambda: optim.Adam(parameters, lr=0.01),
    }
    rule = optimizers[optimizer]()

    def step(x: wg.Tensor, y: wg.Tensor) -> dict[str, Any]:
        rule.zero_grad()
        logits = model(x)
        loss = wg.cross_entropy(logits, y)
        loss.backward()
        if optimizer == "clipped":
            optim.clip_grad_norm_(parameters, 0.1)
        rule.step()
        grads = [p.grad for p in parameters]
        return {
            "loss": loss,
            "logits": logits,
            "grads": [g.clone() for g in grads if g is not None],
        }

    step.parameters = parameters  # type: ignore[attr-defined]
    return step


def trained(step: Step, run: Step) -> list[list[Any]]:
    rng = np.random.default_rng(3)
    wg.manual_seed(5)
    seen = []
    for _ in range(4):
        x, y = wg.tensor(rng.normal(size=(40, 20)).astype("f")), wg.tensor(rng.integers(0, 5, 40))
        result = run(x, y)
        seen.append(
            [t.tolist() for t in (result["loss"], result["logits"], *result["grads"])]
            + [p.detach().tolist() for p in step.parameters]  # type: ignore[attr-defined]
        )
    return seen


@pytest.mark.parametrize("passes", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize(
    "optimizer", ["sgd", "momentum", "adamw", "rmsprop", "amsgrad", "nadam", "clipped"]
)
def test_training_has_the_bits_of_eager(passes: list[str], optimizer: str) -> None:
    eager, compiled = classifier(optimizer), classifier(optimizer)
    assert trained(compiled, wg.compile(compiled, passes=passes)) == trained(eager, eager)


RANDOM_OPS = ["add", "sub", "mul", "sigmoid", "tanh", "relu", "exp", "matmul", "bias", "column"]
RANDOM_OPS += ["mean", "where", "transpose", "reshape", "slice", "square", "maximum", "detached"]


def random_step(rng: random.Random, weights: list[wg.Tensor]) -> Step:
    """A step of random ops on (6, 40) matrices, with broadcasts, reductions and backward."""
    plan: list[tuple[str, int, int]] = []
    n = 3
    for _ in range(rng.randrange(5, 30)):
        op = rng.choice(RANDOM_OPS)
        plan.append((op, rng.randrange(n), rng.randrange(n)))
        n += 1

    def step(x: wg.Tensor, y: wg.Tensor) -> tuple[wg.Tensor, ...]:
        for w in weights:
            w.grad = None
        square, bias, column = weights
        values = [x, y, x * 0.5]
        for op, i, j in plan:
            a, b = values[i], values[j]
            made = {
                "add": lambda a=a, b=b: a + b,
                "sub": lambda a=a, b=b: a - b,
                "mul": lambda a=a, b=b: a * b,
                "sigmoid": lambda a=a: a.sigmoid(),
                "tanh": lambda a=a: a.tanh(),
                "relu": lambda a=a: a.relu(),
                "exp": lambda a=a: (-a.square()).exp(),
                "matmul": lambda a=a: a @ square,
                "bias": lambda a=a: a + bias,
                "column": lambda a=a: a * column,
                "mean": lambda a=a, b=b: a - b.mean(axis=1, keepdims=True),
                "where": lambda a=a, b=b: wg.where(a > b, a, b * 0.1),
                "transpose": lambda a=a, b=b: (a.transpose(0, 1) * b.transpose(0, 1)).transpose(
                    0, 1
                ),
                "reshape": lambda a=a, b=b: (a.reshape(40, 6) + b.reshape(40, 6)).reshape(6, 40),
                "slice": lambda a=a, b=b: wg.concatenate([a[:, 20:], b[:, :20]], axis=1),
                "square": lambda a=a: a.square(),
                "maximum": lambda a=a, b=b: wg.maximum(a, b),
                "detached": lambda a=a: a.detach() * 2.0,
            }[op]()
            values.append(made.tanh() if op in ("mul", "square", "matmul") else made)
        last = values[-1] + values[-2] * bias
        loss = (last * column).square().mean()
        loss.backward()
        with wg.no_grad():
            for w in weights:
                if w.grad is not None:
                    w -= 0.01 * w.grad
        return loss, last, values[len(values) // 2]

    return step


@pytest.mark.parametrize("seed", range(60))
def test_random_steps_have_the_bits_of_eager(seed: int) -> None:
    def run(compile: bool) -> list[Any]:
        rng = np.random.default_rng(seed)
        weights = [
            wg.tensor((rng.normal(size=shape) * 0.2).astype("f"), requires_grad=True)
            for shape in [(40, 40), (40,), (6, 1)]
        ]
        step = random_step(random.Random(seed), weights)
        choice = [p for p in PASSES if random.Random(seed).random() < 0.9]
        call = wg.compile(step, passes=choice) if compile else step
        results = []
        for _ in range(5):
            x, y = (wg.tensor(rng.normal(size=(6, 40)).astype("f")) for _ in range(2))
            results.append([r.tolist() for r in call(x, y)] + [w.tolist() for w in weights])
        return results

    assert run(True) == run(False)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    before = wg.num_threads()
    try:
        wg.set_num_threads(1)
        one = classifier("adamw")
        expected = trained(one, wg.compile(one))
        wg.set_num_threads(threads)
        several = classifier("adamw")
        assert trained(several, wg.compile(several)) == expected
    finally:
        wg.set_num_threads(before)


# ---- each pass alone ----


def test_constants() -> None:
    def step(x: wg.Tensor) -> wg.Tensor:
        return x * (wg.ones(4) + 1.0)

    kept = listing(step, wg.ones(4), passes=[])
    folded = listing(step, wg.ones(4), passes=["constants"])
    assert ops(kept.lines) == ["full", "add", "mul"]
    assert ops(folded.lines) == ["mul"]


def test_what_the_user_can_change_is_no_constant() -> None:
    scale = wg.tensor([2.0])
    step = wg.compile(lambda x: x * (scale + 1.0), passes=["constants"])
    assert [step(wg.ones(1)).item() for _ in range(3)] == [3.0, 3.0, 3.0]
    scale += 1.0
    assert step(wg.ones(1)).item() == 4.0


@pytest.mark.smoke
def test_dead_lines() -> None:
    def step(x: wg.Tensor) -> wg.Tensor:
        (x.exp() * 2.0).sum()
        return x.tanh()

    assert ops(listing(step, wg.ones(4), passes=["dead"]).lines) == ["tanh"]


def test_an_edit_that_is_looked_at_is_not_dead() -> None:
    total = wg.zeros(3)

    @wg.compile(passes=["dead"])
    def step(x: wg.Tensor) -> None:
        total.add_(x * 2.0)

    for _ in range(5):
        step(wg.ones(3))
    assert total.tolist() == [10.0, 10.0, 10.0]


@pytest.mark.smoke
def test_common_lines() -> None:
    def step(x: wg.Tensor) -> wg.Tensor:
        return x.exp() * x.exp().reshape(2, 2).reshape(4) + x.sigmoid()

    assert ops(listing(step, wg.ones(4), passes=["common"]).lines).count("exp") == 1
    compiled = wg.compile(step, passes=["common"])
    x = wg.tensor([0.1, 0.2, 0.3, 0.4])
    assert [compiled(x).tolist() for _ in range(3)] == [step(x).tolist()] * 3


def test_lines_with_an_edit_between_are_not_common() -> None:
    w = wg.tensor([1.0, 2.0])

    def step(x: wg.Tensor) -> wg.Tensor:
        first = w.exp()
        w.add_(x)
        return w.exp() - first

    assert ops(listing(step, wg.ones(2), passes=["common"]).lines).count("exp") == 2


@pytest.mark.smoke
def test_views() -> None:
    w = wg.ones((3, 4))
    program = listing(lambda x: x @ w.transpose(0, 1), wg.ones((2, 4)), passes=["views"])
    assert program.before is not None
    assert ops(program.before.lines) == ["permute", "matmul"]
    assert ops(program.lines) == ["matmul"]
    assert program.lines[0]["inputs"][1].endswith(".T")


@pytest.mark.smoke
def test_chains() -> None:
    def step(x: wg.Tensor, b: wg.Tensor) -> wg.Tensor:
        return ((x + b).tanh() * 2.0).sum()

    program = listing(step, wg.ones((8, 40)), wg.ones(40), passes=["chains", "memory"])
    fused = program.lines[0]
    assert fused["op"] == "fused"
    assert [part["op"] for part in fused["body"]] == ["add", "tanh", "mul"]
    # x + b and its tanh are never stored.
    assert program.memory["arena"] < 2 * 8 * 40 * 4
    assert program.memory["all"] >= 3 * 8 * 40 * 4


@pytest.mark.smoke
def test_epilogues() -> None:
    w, b = wg.ones((40, 20)), wg.ones(20)
    program = listing(lambda x: (x @ w + b).sigmoid(), wg.ones((8, 40)))
    (line,) = program.lines
    assert [part["op"] for part in line["body"]] == ["matmul", "add", "sigmoid"]


# Channels, outputs, groups, kernel, stride: a product, bands of it, 1x1 as a product of matrices,
# few outputs, depthwise, rows that no tap sees.
CONVOLUTIONS = [
    (8, 24, 1, 3, 1, (12, 12)),
    (3, 8, 1, 3, 1, (40, 45)),
    (8, 12, 2, 1, 1, (18, 17)),
    (4, 2, 1, 3, 2, (15, 11)),
    (6, 6, 6, 3, 2, (14, 13)),
    (6, 6, 6, 5, 1, (9, 11)),
    (5, 7, 1, 2, 3, (13, 14)),
    (16, 70, 1, 1, 2, (9, 12)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_do_what_stands_behind_them(case: tuple[Any, ...], dtype: str) -> None:
    """Bias, norm, sum and activation are a part of the convolution's line, with eager's bits."""
    channels, outputs, groups, kernel, stride, size = case
    rng = np.random.default_rng(0)

    def made(*shape: int) -> wg.Tensor:
        return wg.tensor(rng.normal(size=shape).astype(dtype))

    x, w = made(3, channels, *size), made(outputs, channels // groups, kernel, kernel)
    b, scale = made(outputs), made(outputs, 1, 1)
    beside = made(*wg.conv2d(x, w, stride=stride, groups=groups).shape)

    def forward(x: wg.Tensor, beside: wg.Tensor) -> wg.Tensor:
        y = wg.conv2d(x, w, b, stride=stride, groups=groups)
        return wg.relu(y * scale + beside)

    def back(g: wg.Tensor, x: wg.Tensor) -> wg.Tensor:
        y = wg.conv_transpose2d(g, w, stride=stride, groups=groups)
        return wg.relu(y + wg.ones(1, dtype=dtype)) * 0.5

    for step, args, body in (
        (forward, (x, beside), ["convolution", "add", "mul", "add", "relu"]),
        (back, (beside, x), ["convolution_input", "add", "relu", "mul"]),
    ):
        (line,) = listing(step, *args).lines
        assert [part["op"] for part in line["body"]] == body
        assert line["op"] == body[0]
        compiled = wg.compile(step)
        compiled(*args)
        assert compiled(*args).numpy().tobytes() == step(*args).numpy().tobytes()


def test_batch_norms_do_what_stands_behind_them() -> None:
    """In training, where mean and variance of the channels are used too; and in the gradient."""
    model = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8))
    rng = np.random.default_rng(0)
    x, scale = (wg.tensor(rng.normal(size=(5, 6, 9, 7)).astype("float32")) for _ in range(2))

    def step(x: wg.Tensor) -> tuple[wg.Tensor, ...]:
        x = x.detach().requires_grad_()
        y = model(x)
        (dx,) = wg.grad(y.square().sum() + (x * scale).sum(), [x])
        return y.detach(), dx

    lines = listing(step, x).lines
    bodies = [[part["op"] for part in line["body"]] for line in lines]
    assert ["batch_norm", "relu"] in bodies
    assert ["convolution_input", "relu_vjp"] in bodies
    assert ["batch_norm_vjp", "add"] in bodies

    def bits(run: Step) -> list[bytes]:
        state = {k: v.numpy().copy() for k, v in model.state_dict().items()}
        results = [t.numpy().tobytes() for t in run(x)]
        results += [v.numpy().tobytes() for v in model.state_dict().values()]
        model.load_state_dict({k: wg.tensor(v) for k, v in state.items()})
        return results

    compiled = wg.compile(step)
    compiled(x)
    assert bits(compiled) == bits(step)


@pytest.mark.smoke
def test_losses() -> None:
    step = classifier("sgd")
    x, y = wg.ones((40, 20)), wg.zeros(40, dtype="int64")
    lines = listing(step, x, y).lines
    assert "cross_entropy_with_gradient" in [line["op"] for line in lines]


@pytest.mark.smoke
def test_updates() -> None:
    step = classifier("adamw")
    lines = listing(step, wg.ones((40, 20)), wg.zeros(40, dtype="int64")).lines
    inside = [[part["op"] for part in line["body"]] for line in lines if line["op"] == "matmul"]
    assert [body[-1] for body in inside if body].count("adam_step") == 3  # one for each weight
    assert [line["op"] for line in lines].count("adam_step") == 1  # the biases
    # With clipping, every gradient is read between: the update stays behind.
    lines = listing(classifier("clipped"), wg.ones((40, 20)), wg.zeros(40, dtype="int64")).lines
    assert ops(lines).count("adam_step") == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("batch", "inside", "out"), [(64, 784, 128), (33, 515, 61), (20, 600, 282)]
)
def test_updates_within_a_large_product_give_the_same_bits(
    dtype: str, batch: int, inside: int, out: int
) -> None:
    """Gradients that caches hold are made in whole rows, and each row is updated at once."""
    rng = np.random.default_rng(0)
    x = wg.tensor(rng.normal(size=(batch, inside)).astype(dtype))

    def trained(compiled: bool, threads: int) -> list[Any]:
        wg.manual_seed(0)
        layer = nn.Linear(inside, out).to(dtype)
        rule = optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)

        def step(x: wg.Tensor) -> wg.Tensor:
            rule.zero_grad()
            loss = layer(x).square().mean()
            loss.backward()
            rule.step()
            return loss

        wg.set_num_threads(threads)
        run = wg.compile(step) if compiled else step
        losses = [run(x).item() for _ in range(4)]
        return [losses, *(p.detach().numpy().copy() for p in layer.parameters())]

    before = wg.num_threads()
    try:
        eager = trained(False, 1)
        for threads in (1, 2, 3):
            for got, expected in zip(trained(True, threads), eager, strict=True):
                np.testing.assert_array_equal(got, expected)
    finally:
        wg.set_num_threads(before)


@pytest.mark.smoke
def test_memory() -> None:
    def step(x: wg.Tensor) -> wg.Tensor:
        for _ in range(10):
            x = x.transpose(0, 1) @ x
        return x.sum()

    program = listing(step, wg.ones((32, 32)), passes=["memory"])
    block = 32 * 32 * 4
    assert program.memory["all"] >= 10 * block
    assert program.memory["arena"] <= 3 * block


def test_unknown_passes_are_named() -> None:
    with pytest.raises(ValueError, match=r"no pass 'loops'; there are constants, dead"):
        wg.compile(lambda x: x, passes=["loops"])


# ---- names ----


def test_former_names_of_passes_are_accepted() -> None:
    assert wg.compile(lambda x: x, passes=["dead", "planes"]).passes == ("dead", "slices")
    with pytest.raises(ValueError, match="no pass 'plane'; there are constants, "):
        wg.compile(lambda x: x, passes=["plane"])


# ---- packing ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 70, 100), (5, 300, 33), (33, 777, 515), (100, 64, 64)]
)
@pytest.mark.smoke
def test_packed_weights_give_the_same_bits(dtype: str, m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(0)
    x = wg.tensor(rng.normal(size=(m, k)).astype(dtype))
    weights = [
        wg.tensor(rng.normal(size=(n, k)).astype(dtype)),
        wg.tensor(rng.normal(size=(k, n)).astype(dtype)),
    ]

    def step(x: wg.Tensor) -> tuple[wg.Tensor, wg.Tensor]:
        return wg.relu(x @ weights[0].T + 1), x @ weights[1]

    compiled = wg.compile(step, passes=["packing", "epilogues", "views"])
    for _ in range(4):
        for got, expected in zip(compiled(x), step(x), strict=True):
            np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_packed_weights_are_told_and_follow_edits() -> None:
    layer = nn.Linear(200, 100, bias=False)
    x = wg.ones((8, 200))

    def forward(x: wg.Tensor) -> wg.Tensor:
        with wg.no_grad():
            return layer(x)

    compiled = wg.compile(forward)
    plain = listing(forward, x, passes=[p for p in PASSES if p != "packing"])

    @wg.compile
    def train(x: wg.Tensor) -> None:
        with wg.no_grad():
            layer.weight.mul_(0.5)

    def same() -> None:
        for _ in range(3):
            np.testing.assert_array_equal(compiled(x).numpy(), forward(x).numpy())

    same()
    assert compiled.program is not None
    assert compiled.program.memory["kept"] >= plain.memory["kept"] + 200 * 100 * 4
    with wg.no_grad():
        layer.weight.add_(1.0)
    same()
    train(x)  # another compiled step edits them
    same()
    layer.load_state_dict({"weight": wg.full((100, 200), 3.0, dtype="float32")})
    same()


def test_memory_that_others_can_write_to_is_not_packed() -> None:
    array = np.ones((200, 100), dtype=np.float32)
    weight = wg.from_numpy(array)
    compiled = wg.compile(lambda x: x @ weight.T)
    x = wg.ones((8, 100))
    for value in range(1, 5):
        array[:] = value  # no version counts this
        np.testing.assert_array_equal(compiled(x).numpy(), np.full((8, 200), 100.0 * value))


def test_weights_that_the_step_edits_are_not_packed() -> None:
    weight = wg.ones((100, 100))

    @wg.compile
    def step(x: wg.Tensor) -> wg.Tensor:
        y = x @ weight.T
        weight.add_(1.0)
        return y

    x = wg.ones((8, 100))
    for i in range(5):
        np.testing.assert_array_equal(step(x).numpy(), np.full((8, 100), 100.0 * (i + 1)))
    assert step.program is not None
    assert step.program.memory["kept"] < 100 * 100 * 4
