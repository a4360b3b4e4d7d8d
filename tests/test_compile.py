"""Compiled steps: the same bits as eager, and an error for what a trace cannot hold."""

import functools
import gc
import math
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from training import OPTIMIZERS, Training, batches

import wengert as wg
from wengert import nn, optim


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("extras", [{}, {"dropout": 0.5, "clip": True}], ids=["plain", "extras"])
@pytest.mark.smoke
def test_same_bits_as_eager(optimizer: str, extras: dict[str, Any]) -> None:
    xs, ys = batches(12)
    eager, called, run = (Training(optimizer, **extras) for _ in range(3))

    def losses(training: Training, step: Callable[..., wg.Tensor]) -> list[float]:
        wg.manual_seed(2)  # for dropout
        return [step(x, y).item() for x, y in zip(xs, ys, strict=True)]

    expected = losses(eager, eager.step)
    step = wg.compile(called.step)
    assert losses(called, step) == expected
    assert called.weights() == eager.weights()
    assert step.traces == 1

    wg.manual_seed(2)
    compiled = wg.compile(run.step)
    assert compiled.run(12, xs, ys).tolist() == expected
    assert run.weights() == eager.weights()


def test_learning_rate_is_read_at_each_step() -> None:
    xs, ys = batches(8)
    eager, compiled = Training(), Training()
    step = wg.compile(compiled.step)
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        eager.optimizer.lr = compiled.optimizer.lr = 0.1 / (i + 1)
        assert step(x, y).item() == eager.step(x, y).item()


def test_gradients_that_are_not_cleared_add_up() -> None:
    def train(compiled: bool) -> tuple[list[float], list[float]]:
        w = wg.tensor([1.0, 2.0], requires_grad=True)

        def step(x: wg.Tensor) -> wg.Tensor:
            loss = (w * x).square().sum()
            loss.backward()
            return loss

        run = wg.compile(step) if compiled else step
        losses = [run(wg.tensor([1.0, float(i)])).item() for i in range(6)]
        assert w.grad is not None
        return losses, w.grad.tolist()

    assert train(True) == train(False)


def test_gradients_taken_away_outside_are_noticed() -> None:
    w = wg.tensor([1.0, 2.0], requires_grad=True)

    @wg.compile
    def step(x: wg.Tensor) -> wg.Tensor:
        loss = (w * x).sum()
        loss.backward()
        return loss

    x = wg.tensor([3.0, 4.0])
    for _ in range(6):
        step(x)
        assert w.grad is not None
        assert w.grad.tolist() == [3.0, 4.0]
        w.grad = None


@pytest.mark.smoke
def test_new_shapes_dtypes_and_constants_are_traced_anew() -> None:
    @wg.compile
    def step(x: wg.Tensor, power: float = 1) -> wg.Tensor:
        return (x**power).sum()

    for x, power, expected in [
        (wg.ones(3), 1, 3.0),
        (wg.ones(3), 1, 3.0),
        (wg.ones(5) * 2, 1, 10.0),
        (wg.ones(5) * 2, 2, 20.0),
        (wg.ones(5, dtype="float64") * 2, 2, 20.0),
        (wg.ones(3) * 2, 1, 6.0),
    ]:
        result = step(x, power)
        assert result.item() == expected
        assert result.dtype == x.dtype
    assert step.traces == 4  # the first call runs as it is


@pytest.mark.smoke
def test_a_changed_model_is_noticed() -> None:
    wg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    step = wg.compile(lambda x: model(x))
    x = wg.ones((2, 4))
    for _ in range(3):
        step(x)
    assert step.traces == 1
    model.eval()
    assert step(x).tolist() == model(x).tolist()
    assert step.traces == 2
    setattr(model, "0", nn.Linear(4, 3))
    assert step(x).shape == (2, 3)
    assert step.traces == 3


def test_a_compiled_step_inside_another_becomes_a_part_of_it() -> None:
    inner = wg.compile(lambda x: x * 2.0)
    outer = wg.compile(lambda x: inner(x + 1.0) + inner.run(2, wg.stack([x, x])).sum(0))
    for i in range(5):
        inner(wg.ones(3))
        assert outer(wg.full(3, float(i))).tolist() == [6.0 * i + 2.0] * 3
    assert "mul" in [line["op"] for line in outer.program.before.lines]


@pytest.mark.smoke
def test_results_are_copies() -> None:
    step = wg.compile(lambda x: {"double": x * 2, "parts": [x + 1, 5]})
    results = [step(wg.full((2,), float(i))) for i in range(4)]
    for i, result in enumerate(results):
        assert result["double"].tolist() == [2.0 * i] * 2
        assert result["parts"][0].tolist() == [1.0 + i] * 2
        assert result["parts"][1] == 5


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * x.sum().item(),
        lambda x: x * float(x.max()),
        lambda x: x + wg.tensor(x.tolist()),
        lambda x: x * np.asarray(x.numpy()).sum(),
        lambda x: x[x > 0],
        lambda x: x[wg.randperm(3)],
        lambda x: x * x[wg.arange(3) > x].sum(),
    ],
)
def test_looking_at_values_is_an_error_that_says_where(look: Callable[..., wg.Tensor]) -> None:
    step = wg.compile(look)
    x = wg.ones(3)
    step(x)  # runs as it is
    with pytest.raises(ValueError, match=r"compile: .* at .*test_compile\.py:\d+ looks at values"):
        step(x)
    assert look(x).shape == (3,)  # nothing is left behind


@pytest.mark.smoke
def test_an_error_in_a_replay_leaves_the_model_as_it_was() -> None:
    xs, ys = batches(4)
    training = Training()
    step = wg.compile(training.step)
    for x, y in zip(xs, ys, strict=True):
        step(x, y)
    before = training.weights()
    with pytest.raises(IndexError, match="class index 7"):
        step(xs[0], wg.full((16,), 7))
    assert training.weights() == before
    again = Training()
    for x, y in zip(xs, ys, strict=True):
        again.step(x, y)
    assert step(xs[0], ys[0]).item() == again.step(xs[0], ys[0]).item()


def test_an_error_while_tracing_leaves_nothing_behind() -> None:
    fail = [False]

    @wg.compile
    def step(x: wg.Tensor) -> wg.Tensor:
        y = x * 2
        if fail[0]:
            raise RuntimeError("half way")
        return y

    x = wg.ones(2)
    step(x)
    fail[0] = True
    with pytest.raises(RuntimeError, match="half way"):
        step(x)
    fail[0] = False
    assert [step(x).tolist() for _ in range(3)] == [[2.0, 2.0]] * 3
    assert x.sum().item() == 2.0  # values can be read again


def test_values_saved_before_a_replay_are_refused_after_it() -> None:
    xs, ys = batches(4)
    training = Training()
    step = wg.compile(training.step)
    for x, y in zip(xs, ys, strict=True):
        step(x, y)
    loss = wg.cross_entropy(training.model(xs[0]), ys[0])
    step(xs[0], ys[0])
    with pytest.raises(wg.GradientError, match="changed in place by 'a compiled step'"):
        loss.backward()


def test_two_threads_are_refused_or_take_turns() -> None:
    step = wg.compile(lambda x: (x @ x).sum())
    x = wg.ones((300, 300))
    for _ in range(2):
        step(x)
    wrong: list[object] = []

    def work() -> None:
        for _ in range(30):
            try:
                value = step(x).item()
            except ValueError as error:
                if "already running" not in str(error):
                    wrong.append(error)
            else:
                if value != 300.0**3:
                    wrong.append(value)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_bad_requests() -> None:
    step = wg.compile(lambda x: x * 2)
    with pytest.raises(wg.ShapeError, match=r"run: batch 0 has shape \(3, 2\).*size 4"):
        step.run(4, wg.ones((3, 2)))
    with pytest.raises(ValueError, match="at least 1 step"):
        step.run(0, wg.ones((3, 2)))
    with pytest.raises(wg.GradientError, match="argument"):
        step(wg.ones(2).requires_grad_())
    with pytest.raises(TypeError, match="hashable"):
        step({1, 2})
    assert step.run(3, wg.ones((3, 2))).tolist() == [[2.0, 2.0]] * 3


def test_the_list_can_be_read() -> None:
    xs, ys = batches(2)
    step = wg.compile(Training().step)
    assert step.program is None
    for x, y in zip(xs, ys, strict=True):
        step(x, y)
    program = step.program
    assert program is not None
    assert program.before is not None
    ops = [line["op"] for line in program.before.lines]
    for op in ("matmul", "tanh", "cross_entropy", "tanh_vjp", "adam_step"):
        assert op in ops
    first = next(line for line in program.before.lines if line["op"] == "matmul")
    assert first["inputs"][0] == "arg0"
    assert (first["shape"], first["flops"]) == ((16, 8), 2 * 16 * 6 * 8)
    assert program.flops == sum(line["flops"] for line in program.lines)
    text = str(program)
    assert "float32[16, 8] = matmul(arg0, " in text
    assert "training.py" in text


def test_arguments_are_read_where_they_lie_or_copied() -> None:
    """Large ones in one piece are not copied; the results are those of eager, wherever they lie."""
    rng = np.random.default_rng(0)
    plain = wg.tensor(rng.normal(size=(9, 40, 30)).astype("f"))
    shifted = wg.tensor(rng.normal(size=9 * 1200 + 1).astype("f"))[1:].reshape(9, 40, 30)
    turned = wg.tensor(rng.normal(size=(9, 30, 40)).astype("f")).swapaxes(1, 2)
    repeated = wg.broadcast_to(plain[3], (9, 40, 30))
    backwards = wg.from_numpy(rng.normal(size=(9, 40, 30)).astype("f")[::-1])

    def make(compiled: bool) -> tuple[Any, Any]:
        wg.manual_seed(0)
        model = nn.Linear(30, 30)
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x: wg.Tensor, y: wg.Tensor) -> tuple[wg.Tensor, wg.Tensor]:
            optimizer.zero_grad()
            loss = wg.mse_loss(model(x).tanh(), y * 2.0 + x.exp().sum(1, keepdims=True))
            loss.backward()
            optimizer.step()
            return loss, y  # an argument as a result

        return wg.compile(step) if compiled else step, model

    (compiled, model), (eager, expected) = make(True), make(False)
    kinds = [plain, shifted, turned, repeated, backwards]
    pairs = [(x, y) for x in kinds for y in kinds]
    for i, (xs, ys) in enumerate(pairs):
        for got, wanted in zip(compiled(xs[i % 9], ys[4]), eager(xs[i % 9], ys[4]), strict=True):
            assert got.tolist() == wanted.tolist()
    for xs, ys in pairs:
        losses, same = compiled.run(9, xs, ys)
        assert losses.tolist() == [eager(x, y)[0].item() for x, y in zip(xs, ys, strict=True)]
        assert same.tolist() == ys.tolist()
    assert compiled.traces == 1
    assert model.weight.tolist() == expected.weight.tolist()


def test_arguments_that_share_memory_with_what_the_step_changes() -> None:
    def make(compiled: bool) -> tuple[Any, wg.Tensor, wg.Tensor]:
        array = np.linspace(-1, 1, 900, dtype="f").reshape(30, 30)
        weight = wg.from_numpy(array).requires_grad_()
        optimizer = optim.SGD([weight], lr=0.1)

        def step(x: wg.Tensor) -> wg.Tensor:
            optimizer.zero_grad()
            loss = (x @ weight).square().mean()
            loss.backward()
            optimizer.step()
            return loss + (x * 3.0).sum()  # x after the update

        return wg.compile(step) if compiled else step, weight, wg.from_numpy(array)

    (compiled, weight, twin), (eager, wanted, wanted_twin) = make(True), make(False)
    x = wg.ones((30, 30))
    for _ in range(3):
        compiled(x), eager(x)
    # In the compiled step an argument keeps the values from before it.
    assert compiled(weight.detach()).item() == eager(wanted.detach().clone()).item()
    assert compiled(twin).item() == eager(wanted_twin.clone()).item()
    assert weight.grad is not None
    assert wanted.grad is not None
    assert compiled(weight.grad).item() == eager(wanted.grad.clone()).item()
    stack, same = twin.reshape(1, 30, 30), wanted_twin.clone().reshape(1, 30, 30)
    assert compiled.run(1, stack).tolist() == [eager(same[0]).item()]
    assert weight.tolist() == wanted.tolist()
    assert compiled.traces == 1


def test_an_argument_that_is_gone_is_not_read_again() -> None:
    step = wg.compile(lambda x, scale: (x * scale).sum())
    for i in range(6):
        x = wg.full((64, 64), float(i))
        assert step(x[::2] if i % 2 else x[:32], wg.ones(1)).item() == 32 * 64 * i
        del x
        wg.empty_cache()


# ---- what a trace cannot hold ----


def test_a_step_that_raises_half_way_leaves_everything_as_it_was() -> None:
    training = Training()
    xs, ys = batches(4)
    fail_now = False

    def faulty(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
        loss = training.step(x, y)
        if fail_now:
            raise RuntimeError("half-way")
        return loss

    def state() -> Any:
        grads = [p.grad.tolist() for p in training.model.parameters() if p.grad is not None]
        return training.weights(), grads, str(training.optimizer.state_dict())

    step = wg.compile(faulty)
    step(xs[0], ys[0])  # as it is
    before, fail_now = state(), True
    with pytest.raises(RuntimeError, match="half-way"):
        step(xs[1], ys[1])  # traced
    assert state() == before
    fail_now = False
    expected = Training()
    assert step(xs[1], ys[1]).item() == [expected.step(xs[i], ys[i]).item() for i in range(2)][1]
    assert training.weights() == expected.weights()


def test_what_a_step_that_raised_has_made_has_its_values() -> None:
    weight = wg.ones(3)
    made: list[wg.Tensor] = []

    @wg.compile
    def step(x: wg.Tensor, fail_now: bool) -> wg.Tensor:
        h = x * 2.0
        h.add_(1.0)
        if fail_now:
            made.extend([h, weight.add_(x), weight * h])
            raise RuntimeError("half-way")
        return h.sum()

    step(wg.ones(3), False)
    with pytest.raises(RuntimeError, match="half-way"):
        step(wg.arange(3.0), True)
    h, same_weight, product = made
    assert h.tolist() == [1.0, 3.0, 5.0]
    assert same_weight.tolist() == weight.tolist() == [1.0, 1.0, 1.0]
    for read in (product.tolist, lambda: product + 1.0, product.numpy, lambda: repr(product)):
        with pytest.raises(ValueError, match="this tensor has no values: it was made by a step"):
            read()
    assert step(wg.ones(3), False).item() == 9.0


def test_an_optimizer_whose_state_was_made_by_a_step_that_raised() -> None:
    x, y = batches(1)
    training, expected = Training(), Training()

    @wg.compile
    def step(x: wg.Tensor, y: wg.Tensor, fail_now: bool | None) -> wg.Tensor:
        if fail_now is None:
            return x.sum()
        loss = training.step(x, y)
        if fail_now:
            raise RuntimeError("half-way")
        return loss

    step(x[0], y[0], None)  # as it is: no state yet
    with pytest.raises(RuntimeError, match="half-way"):
        step(x[0], y[0], True)
    for _ in range(4):
        assert step(x[0], y[0], False).item() == expected.step(x[0], y[0]).item()
    assert training.weights() == expected.weights()


def test_a_bad_target_in_the_traced_call_changes_nothing() -> None:
    training = Training()
    xs, ys = batches(3)
    step = wg.compile(training.step)
    step(xs[0], ys[0])
    before = training.weights(), str(training.optimizer.state_dict())
    with pytest.raises(IndexError, match="class index 7"):
        step(xs[1], wg.full(16, 7, dtype="int64"))
    assert (training.weights(), str(training.optimizer.state_dict())) == before
    expected = Training()
    for i in range(3):
        loss = expected.step(xs[i], ys[i])
        if i:
            assert step(xs[i], ys[i]).item() == loss.item()
    assert training.weights() == expected.weights()


def test_a_trace_takes_no_memory_for_what_it_writes_down() -> None:
    size = 4 << 20
    peaks: list[int] = []
    w = wg.ones(size // 4)

    @wg.compile
    def step(x: wg.Tensor) -> wg.Tensor:
        before = wg.memory_allocated()
        wg.reset_memory_peak()
        y = x
        for _ in range(10):
            y = y * w + w
        w.add_(y)
        total = y.sum()
        peaks.append(wg.memory_peak() - before)
        return total

    x = wg.ones(size // 4)
    step(x)
    step(x)
    assert peaks[0] >= 2 * size
    assert peaks[1] < size // 100


def test_a_bad_target_in_a_replay_changes_nothing() -> None:
    training = Training()
    xs, ys = batches(4)
    step = wg.compile(training.step)
    for x, y in zip(xs[:3], ys[:3], strict=True):
        step(x, y)
    before = training.weights()
    with pytest.raises(IndexError, match="class index 7"):
        step(xs[3], wg.full(16, 7, dtype="int64"))
    assert training.weights() == before
    step(xs[3], ys[3])
    assert training.weights() != before


def test_a_tensor_left_outside_is_an_error_that_says_where() -> None:
    seen: list[wg.Tensor] = []
    w = wg.zeros(3)

    @wg.compile
    def step(x: wg.Tensor) -> wg.Tensor:
        w.add_(x)
        y = (x * 2.0).exp()
        seen.append(y)
        return y.sum()

    step(wg.ones(3))
    step(wg.ones(3))  # it may be state that is made once
    with pytest.raises(ValueError, match=r"'exp' of shape \(3,\) at .*test_compile"):
        step(wg.ones(3))
    assert w.tolist() == [2.0, 2.0, 2.0]


def test_state_that_is_made_once_is_no_error() -> None:
    state: dict[str, wg.Tensor] = {}

    @wg.compile
    def step(x: wg.Tensor) -> wg.Tensor:
        key = str(x.shape)
        if key not in state:
            state[key] = x * 0.0
        state[key].add_(x)
        return state[key].sum()

    for n in (2, 3):
        assert [step(wg.ones(n)).item() for _ in range(5)] == [n * (i + 1.0) for i in range(5)]


def test_a_tensor_outside_that_is_only_overwritten() -> None:
    out, other = wg.zeros(3), wg.ones(3)

    @wg.compile
    def step(x: wg.Tensor) -> None:
        out.copy_(x.exp())
        other.zero_()

    for i in range(4):
        other += 1.0
        step(wg.full(3, float(i)))
        assert out.tolist() == wg.full(3, float(i)).exp().tolist()
        assert other.tolist() == [0.0, 0.0, 0.0]


def test_memory_that_a_step_fills_is_no_constant() -> None:
    def step(x: wg.Tensor) -> wg.Tensor:
        buffer = wg.empty(3)
        buffer.copy_(x)
        return buffer * 2.0

    compiled = wg.compile(step)
    for i in range(5):
        assert compiled(wg.full(3, float(i))).tolist() == [2.0 * i] * 3


def test_an_argument_changed_in_place_is_an_error() -> None:
    step = wg.compile(lambda x: x.add_(1.0).sum())
    step(wg.ones(3))
    x = wg.ones(3)
    with pytest.raises(ValueError, match=r"one of its arguments in place, at .*test_compile"):
        step(x)
    assert x.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.smoke
def test_run_wants_a_first_axis_of_steps() -> None:
    step = wg.compile(lambda x: x.sum())
    with pytest.raises(wg.ShapeError, match=r"batch 0 has shape \(5, 2\); its first axis must be"):
        step.run(4, wg.ones((5, 2)))
    with pytest.raises(ValueError, match="n = 0; expected at least 1"):
        step.run(0, wg.ones((0, 2)))


def test_ctrl_c_leaves_whole_steps() -> None:
    code = """
import os, signal, threading, numpy as np, wengert as wg
from wengert import nn, optim
wg.manual_seed(0)
model = nn.MLP([64, 256, 10])
optimizer = optim.Adam(model.parameters())
@wg.compile
def step(x, y):
    optimizer.zero_grad()
    loss = wg.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
x, y = wg.randn((64, 64)), wg.zeros(64, dtype="int64")
for _ in range(3): step(x, y)
xs, ys = wg.stack([x] * 3000), wg.stack([y] * 3000)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    while True: step.run(3000, xs, ys)
except KeyboardInterrupt:
    pass
print("whole")
after = [p.detach().tolist() for p in model.parameters()]
step(x, y)
assert after != [p.detach().tolist() for p in model.parameters()]
print("goes on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["whole", "goes", "on"], done.stderr


@pytest.mark.parametrize("sizes", [(300, 900, 300, 600), (900, 300, 600, 900)])
@pytest.mark.smoke
def test_shapes_of_a_step_share_one_arena(sizes: tuple[int, ...]) -> None:
    w = wg.tensor(np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32))

    def step(x: wg.Tensor) -> wg.Tensor:
        return ((x @ w).sigmoid() @ w).softmax(1).sum(0)

    compiled = wg.compile(step)
    compiled(wg.ones((2, 256)))
    before = wg.memory_allocated()
    arenas = []
    for rows in sizes * 2:
        x = wg.tensor(np.random.default_rng(rows).normal(size=(rows, 256)).astype(np.float32))
        np.testing.assert_array_equal(compiled(x).numpy(), step(x).numpy())
        assert compiled.program is not None
        arenas.append(compiled.program.memory["arena"])
        del x
    own = 4 * 256 * sum(set(sizes))  # each program's arguments
    assert compiled.traces == len(set(sizes))
    assert wg.memory_allocated() - before < 1.3 * (max(arenas) + own) < sum(set(arenas)) + own


def test_signs_of_zero_and_nan_are_constants() -> None:
    step = wg.compile(lambda x, k: x / k)
    for k in (0.0, -0.0, 0.0, -0.0, math.nan, math.nan):
        for _ in range(2):
            np.testing.assert_array_equal(step(wg.ones(2), k).numpy(), (wg.ones(2) / k).numpy())
    assert step.traces == 3


def test_constants_written_in_a_step() -> None:
    w = wg.randn((3, 2))
    for fn in (
        lambda x: x[[0, 2]],
        lambda x: x * np.array([1.0, 2.0], "float32"),
        lambda x: x[np.array([0, 2])],
        lambda x: x * wg.tensor([3.0, 4.0]),
        lambda x: x[:, wg.arange(2) > 0],
        lambda x: x[wg.tensor([True, False, True])],
        lambda x: x * wg.tensor([[1, 2], [3, 4]]).sum().item(),
        lambda x: x[: len(wg.arange(3).tolist())] * float(wg.full((2,), 0.5).numpy()[0]),
        lambda x: x // wg.arange(1, 3),
    ):
        step = wg.compile(fn)
        for _ in range(3):
            assert step(w).tolist() == fn(w).tolist()
        assert step.traces == 1


def test_a_constant_that_is_edited_before_it_is_looked_at() -> None:
    def fn(x: wg.Tensor) -> wg.Tensor:
        k = wg.arange(3)
        first = k.sum().item()
        with wg.no_grad():
            k.add_(1)
        return x * first + k.sum().item() + k

    step = wg.compile(fn)
    for i in range(4):
        assert step(wg.full(3, float(i))).tolist() == fn(wg.full(3, float(i))).tolist()


def test_a_value_of_what_the_step_reads_outside_is_refused() -> None:
    outside = wg.ones(2)
    for fn in (
        lambda x: x * outside.sum().item(),
        lambda x: x * (outside + wg.ones(2)).sum().item(),
        lambda x: x * (wg.zeros(2).add_(x)).sum().item(),
    ):
        step = wg.compile(fn)
        step(wg.ones(2))
        with pytest.raises(ValueError, match="looks at values"):
            step(wg.ones(2))


def test_the_first_result_is_a_copy_too() -> None:
    total = wg.zeros(2)
    step = wg.compile(lambda x: total.add_(x))
    assert [y.tolist()[0] for y in [step(wg.ones(2)) for _ in range(4)]] == [1, 2, 3, 4]


def test_a_leaf_made_in_the_step_may_gather_a_gradient() -> None:
    w = nn.Parameter(wg.ones(3))

    def saliency(x: wg.Tensor) -> wg.Tensor:
        w.grad = None
        leaf = x.clone().requires_grad_()
        (leaf * leaf * w).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    step = wg.compile(saliency)
    for i in range(4):
        assert step(wg.full(3, float(i))).tolist() == [2.0 * i] * 3
        assert w.grad is not None and w.grad.tolist() == [float(i * i)] * 3
    assert step.traces == 1


@pytest.mark.parametrize("late", [False, True], ids=["first call", "state made in a trace"])
@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop"])
def test_an_interrupted_call_that_makes_state_changes_nothing(
    optimizer: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer's state is that of a step that never was."""

    class Interrupted(wg._core._Program):
        def run(self, arguments: Any) -> Any:
            raise KeyboardInterrupt

    def train(interrupted: bool) -> tuple[list[float], Any]:
        wg.manual_seed(3)
        model = nn.MLP([4, 5, 3])
        rule = getattr(optim, optimizer)(model.parameters(), lr=0.1)
        x, y = wg.randn((6, 4)), wg.tensor([0, 1, 2, 0, 1, 2])
        updates = [not late]

        def step(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
            rule.zero_grad()
            loss = wg.cross_entropy(model(x), y)
            loss.backward()
            if updates[0]:
                rule.step()
            return loss

        compiled = wg.compile(step)
        if late:
            compiled(x, y)
            updates[0] = True
        if interrupted:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                if late:
                    patch.setattr(wg._core, "_Program", Interrupted)
                else:
                    patch.setattr(model[0], "forward", raise_interrupt)
                compiled(x, y)
        losses = [compiled(x, y).item() for _ in range(5)]
        return losses, [p.tolist() for p in model.parameters()]

    assert train(True) == train(False)


def raise_interrupt(x: wg.Tensor) -> wg.Tensor:
    raise KeyboardInterrupt


def test_a_watch_for_nan_holds_in_a_compiled_step() -> None:
    step = wg.compile(lambda x: x.log() * 2.0)
    for _ in range(3):
        step(wg.ones(2))
    wg._core.set_nan_watch(True)
    try:
        with pytest.raises(ValueError, match="log"):
            step(wg.full(2, -1.0))
    finally:
        wg._core.set_nan_watch(False)


def test_a_compiled_step_and_what_it_reads_can_be_freed() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = nn.Linear(2, 2)
            self.step = wg.compile(lambda x: self.model(x))

    trainer = Trainer()
    for _ in range(3):
        trainer.step(wg.ones((1, 2)))
    gone = weakref.ref(trainer)
    del trainer
    gc.collect()
    assert gone() is None


def test_a_module_and_a_partial_can_be_compiled() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    for step in (wg.compile(model), wg.compile(functools.partial(lambda m, x: m(x), model))):
        x = wg.randn((2, 3))
        for _ in range(3):
            step(x)
        model[0].bias = None if model[0].bias is not None else nn.Parameter(wg.ones(3))
        assert step(x).tolist() == model(x).tolist()
        model.append(nn.Linear(3, 3))
        assert step(x).tolist() == model(x).tolist()


def _slice_mul(b: wg.Tensor, y: wg.Tensor) -> None:
    b[2:] *= y[2:]


def _slice_add(b: wg.Tensor, y: wg.Tensor) -> None:
    b[:, 1] += y[:, 1]


def _slice_pow(b: wg.Tensor, y: wg.Tensor) -> None:
    b[1:] **= y[1:]


def _slice_matmul(b: wg.Tensor, y: wg.Tensor) -> None:
    b[:2, :2] @= y[:2, :2]


def _assign(b: wg.Tensor, y: wg.Tensor) -> None:
    b[0] = y[0] * 2


def _of_itself(b: wg.Tensor, y: wg.Tensor) -> None:
    b *= y
    b **= b
    b @= b


def _matmul(b: wg.Tensor, y: wg.Tensor) -> None:
    b @= y


def _views(b: wg.Tensor, y: wg.Tensor) -> None:
    v, t = b[1:3], b.T
    v *= y[:2]
    t /= y
    v **= y[:2]


def _filled(b: wg.Tensor, y: wg.Tensor) -> None:
    b -= y
    b[1].fill_(2.0)
    b[2].copy_(y[0])
    b[1:] += b[:-1] * 1.0


@pytest.mark.parametrize("whose", ["own", "outside, whose values go on", "outside, set back"])
@pytest.mark.parametrize(
    "edit",
    [
        *(_slice_mul, _slice_add, _slice_pow, _slice_matmul, _assign, _of_itself, _matmul),
        *(_views, _filled),
    ],
)
def test_recorded_edits_in_place(edit: Callable[..., None], whose: str) -> None:
    results = []
    for compiled in (False, True):
        numbers = np.random.default_rng(0).uniform(0.5, 1.5, (2, 4, 4)).astype("f4")
        buffer, y = wg.tensor(numbers[0]), wg.tensor(numbers[1], requires_grad=True)

        def step(buffer: wg.Tensor = buffer, y: wg.Tensor = y) -> wg.Tensor:
            b = buffer.clone() if whose == "own" else buffer.detach()
            edit(b, y)
            loss = b.square().mean()
            loss.backward()
            if whose == "outside, set back":
                with wg.no_grad():
                    buffer.fill_(0.75)
            return loss

        run = wg.compile(step) if compiled else step
        seen = [(run().item(), buffer.tolist(), y.grad.tolist()) for _ in range(4)]
        results.append(repr(seen))
        assert not compiled or run.traces == 1
    assert results[0] == results[1]


def test_a_leaf_made_of_an_argument_takes_its_gradient_with_it():
    w = wg.randn((3,))

    @wg.compile
    def step(x):
        leaf = x.detach().requires_grad_()
        (leaf * w).square().sum().backward()
        return leaf.grad

    for i in range(4):
        got = step(wg.ones((3,)) * i)
        np.testing.assert_allclose(got.numpy(), (2 * i * w * w).numpy(), rtol=1e-6)
    assert step.traces == 1


@pytest.mark.parametrize("shape", [(3, 4, 2, 3), (2, 3, 5, 31), (2, 70, 40, 41), (5, 3, 1, 1100)])
def test_numbers_of_channels_are_a_part_of_a_chain(shape: tuple[int, ...]) -> None:
    """A bias, a batch norm in evaluation, a residual sum: one line, whose bits are eager's."""
    random = np.random.default_rng(0)
    x, beside = (wg.tensor(random.standard_normal(shape), dtype="float32") for _ in range(2))
    a, b, c = (wg.tensor(random.standard_normal((shape[1], 1, 1)), "float32") for _ in range(3))

    def apply(x: wg.Tensor, beside: wg.Tensor) -> wg.Tensor:
        return wg.relu((x - a) * b + c) + beside

    compiled = wg.compile(apply)
    for _ in range(3):
        assert compiled(x, beside).numpy().tobytes() == apply(x, beside).numpy().tobytes()
    assert [line["op"] for line in compiled.program.lines] == ["fused"]
