"""Ops of one's own: wengert.custom_op, autograd.Function, checkpoint, backward(inputs=).

The same classes run under torch.autograd.Function where torch is there.
"""

import builtins
import ctypes
import gc
import importlib
import math
import re
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import wengert as wg
from wengert.autograd import Function, once_differentiable
from wengert.study.run import Run

EXAMPLE = Path(__file__).parent.parent / "examples" / "custom_op"
KEPT = []  # definitions live as long as the process


def leaf(*values, dtype="float64"):
    return wg.tensor(list(values), dtype=dtype, requires_grad=True)


class Cube(Function):
    operands, formula, gradient = ("x",), "x ** 3", "3 x^2 g"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


@wg.custom_op(vjp=lambda g, y, x: 3 * x * x * g, formula="x ** 3", gradient="3 x^2 g")
def cube(x):
    """The third power."""
    return x * x * x


@wg.custom_op
class scaled_exp:  # noqa: N801 - an op
    formula, gradient = "k exp(x)", ("y g",)

    @staticmethod
    def value(x, k):
        return x.exp() * k

    @staticmethod
    def vjp(g, y, x, k):
        return y * g, None

    @staticmethod
    def cost(x, k):
        return 2 * x.numel(), 16 * x.numel()


BOTH = pytest.mark.parametrize("op", [Cube.apply, cube], ids=["Function", "custom_op"])


@BOTH
@pytest.mark.smoke
def test_value_gradient_and_gradients_of_it(op):
    x = leaf(1.0, -2.0, 3.0)
    y = op(x)
    assert y.tolist() == [1.0, -8.0, 27.0] and y.made_by in ("Cube", "cube")
    assert y.requires_grad and not y.is_leaf
    first = wg.grad(y.sum(), x, create_graph=True)
    second = wg.grad(first.sum(), x, create_graph=True)
    third = wg.grad(second.sum(), x)
    assert first.tolist() == [3.0, 12.0, 27.0]
    assert second.tolist() == [6.0, -12.0, 18.0] and third.tolist() == [6.0, 6.0, 6.0]
    assert wg.testing.gradcheck(op, [x])


def test_a_saved_result_has_its_history():
    x = leaf(0.3, -1.0)
    y = scaled_exp(x, 2.0)
    first = wg.grad(y.sum(), x, create_graph=True)
    (second,) = wg.grad([first.sum()], [x])
    np.testing.assert_allclose(second.numpy(), 2 * np.exp([0.3, -1.0]))
    assert not scaled_exp(x.detach(), 2.0).requires_grad
    with wg.no_grad():
        assert not scaled_exp(x, 2.0).requires_grad


def test_a_call_is_one_line_that_steps_and_checks():
    x = leaf(1.0, 2.0, 3.0, dtype="float32")

    def step(x):
        y = scaled_exp(cube(x), 0.5)
        (y * 2).sum().backward()
        return y

    p = wg.trace(step)(x)
    ops = [line.op for line in p.lines if line.phase == "forward"]
    assert ops == ["cube", "scaled_exp", "mul", "sum"]
    first, second = p.lines[:2]
    assert (first.formula, first.operands, first.gradients) == ("x ** 3", ["x"], ["3 x^2 g"])
    assert (second.flops, second.bytes) == (6.0, 48.0)
    assert "x ** 3" in str(p) and "3 x^2" in str(p)
    checks = p.check()
    assert checks, str(checks)
    assert {row.name.partition(",")[0] for row in checks.rows} >= {"cube", "scaled_exp"}
    run = Run(p)
    run.to_end()
    np.testing.assert_array_equal(run.array(p.results[0]), p.returned.detach().numpy())
    run.to(0)
    run.edit(p.lines[0].inputs[0], [2.0, 2.0, 2.0])
    run.to(1)
    assert run.array(p.lines[0].outputs[0]).tolist() == [8.0, 8.0, 8.0]


def test_a_study_finds_a_wrong_gradient_and_keeps_what_the_value_read():
    factor = wg.tensor([2.0, 3.0])
    wrong = wg.custom_op(lambda x: x * factor, lambda g, y, x: g * 2, name="wrong")
    p = wg.trace(lambda x: wrong(x).sum().backward())(leaf(1.0, 1.0, dtype="float32"))
    factor.fill_(0.0)  # what the list is run on is a copy of what was there
    run = Run(p)
    run.to(1)
    assert run.array(p.lines[0].outputs[0]).tolist() == [2.0, 3.0]
    assert p.check().lines == [1]


def test_a_study_of_an_op_that_is_given_one_tensor_twice():
    times = wg.custom_op(lambda a, b: a * b, lambda g, y, a, b: (g * b, g * a), name="times_")
    p = wg.trace(lambda x: times(x, x).sum().backward())(leaf(1.5, 2.0, dtype="float32"))
    report = p.check()
    assert report, report
    assert [row.note for row in report.rows if "times_" in row.name].count(
        "one tensor given twice: not checked"
    ) == 2, report


def test_a_study_refuses_a_value_that_changes_the_outside():
    noisy = wg.custom_op(lambda x: x + wg.rand(x.shape), lambda g, y, x: g, name="noisy")
    with pytest.raises(ValueError, match=r"'noisy'.*state of a generator.*pass it as an argument"):
        wg.trace(lambda x: noisy(x).sum())(wg.ones(3))
    assert noisy(wg.ones(3)).shape == (3,)  # no trace is left behind


@BOTH
def test_compiled_equals_eager(op):
    w = leaf(1.0, -2.0, 0.5, dtype="float32")

    def step(x):
        w.grad = None
        loss = op(w * x).sum()
        loss.backward()
        return loss, w.grad

    compiled = wg.compile(step)
    for i in range(4):
        x = wg.tensor([1.0, 2.0, 3.0 + i])
        for a, b in zip(compiled(x), step(x), strict=True):
            assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    assert compiled.traces == 1 and "fused" in str(compiled.program)


def test_compiled_follows_what_the_gradient_reads():
    settings = {"factor": 2.0}
    op = wg.custom_op(lambda x: x * 1.0, lambda g, y, x: g * settings["factor"], name="by_setting")
    w = leaf(1.0, 2.0, dtype="float32")

    @wg.compile
    def step():
        w.grad = None
        op(w).sum().backward()
        return w.grad

    assert [step().tolist() for _ in range(3)] == [[2.0, 2.0]] * 3
    settings["factor"] = 5.0
    assert step().tolist() == [5.0, 5.0]


def test_compiled_refuses_values():
    class ByNumpy(Function):
        @staticmethod
        def forward(ctx, x):
            return wg.tensor(np.sin(x.detach().numpy()))

        @staticmethod
        def backward(ctx, g):
            return g

    w = leaf(1.0)
    step = wg.compile(lambda x: ByNumpy.apply(w * x).sum())
    x = wg.tensor([1.0], dtype="float64")
    step(x)
    with pytest.raises(ValueError, match=r"numpy.*looks at values"):
        step(x)
    assert ByNumpy.apply(w).tolist() == [np.sin(1.0)]


def test_several_results_constants_and_other_arguments():
    class Several(Function):
        @staticmethod
        def forward(ctx, x, k, y):
            a, b, c = x.exp(), (x * k).sum().to("float32"), x > 0
            whole = x * 0
            ctx.mark_non_differentiable(whole)
            ctx.save_for_backward(a, None)
            ctx.k = k
            assert ctx.needs_input_grad == (True, False, False)
            return a, b, c, whole, "text"

        @staticmethod
        def backward(ctx, ga, gb, gc, gw, gt):
            a, none = ctx.saved_tensors
            assert none is None and gt is None
            assert gc.shape == gw.shape == a.shape and float(gw.sum()) == 0
            assert gb.dtype == wg.float32
            return ga * a + gb * ctx.k, None, None

    x = leaf(0.5, -1.0)
    a, b, c, whole, text = Several.apply(x, 3.0, wg.ones(2))
    assert (b.dtype, c.tolist(), text) == (wg.float32, [True, False], "text")
    assert a.requires_grad and b.requires_grad and not whole.requires_grad
    e = np.exp([0.5, -1.0])
    np.testing.assert_array_equal(a.detach().numpy(), e)
    g = wg.grad((a * a).sum() + b, x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), 2 * e * e + 3)
    np.testing.assert_allclose(wg.grad(g.sum(), x).numpy(), 4 * e * e)
    a, b, *_ = Several.apply(x, 3.0, None)
    np.testing.assert_allclose(wg.grad(b, x).numpy(), [3.0, 3.0])  # a was not used: zeros
    with wg.no_grad():
        assert not Several.apply(x, 3.0, None)[0].requires_grad


def test_setup_context_and_results_in_a_study():
    class Split(Function):
        @staticmethod
        def forward(x):
            return x * 2, x * 3

        @staticmethod
        def setup_context(ctx, inputs, output):
            assert inputs[0].shape == output[0].shape

        @staticmethod
        def backward(ctx, a, b):
            return 2 * a + 3 * b

    x = leaf(1.0, 2.0)

    def step(x):
        a, b = Split.apply(x)
        (a * b).sum().backward()

    p = wg.trace(step)(x)
    assert x.grad.tolist() == [12.0, 24.0]
    assert p.lines[0].op == "Split" and p.check(), str(p.check())


def test_agrees_with_torch():
    torch = pytest.importorskip("torch")

    def classes(base):
        class Linear(base):
            @staticmethod
            def forward(ctx, x, w, b):
                ctx.save_for_backward(x, w)
                return x @ w + b

            @staticmethod
            def backward(ctx, g):
                x, w = ctx.saved_tensors
                dx = g @ w.T if ctx.needs_input_grad[0] else None
                return dx, x.T @ g, g.sum(0)

        class Norm(base):
            @staticmethod
            def forward(ctx, x):
                n = (x * x).sum().sqrt()
                y = x / n
                ctx.save_for_backward(y, n)
                return y, n

            @staticmethod
            def backward(ctx, gy, gn):
                y, n = ctx.saved_tensors
                return (gy - y * (gy * y).sum()) / n + gn * y

        return Linear, Norm

    numbers = np.random.default_rng(0)
    arrays = [numbers.standard_normal(s) for s in ((4, 3), (3, 2), (2,))]

    def run(library, base):
        linear, norm = classes(base)
        x, w, b = (library.tensor(a) for a in arrays)
        w.requires_grad_()
        b.requires_grad_()
        y, n = norm.apply(linear.apply(x, w, b).tanh())
        loss = (y * y * y).sum() * n
        gw, gb = library.autograd.grad(loss, [w, b], create_graph=True)
        (gw * gw).sum().backward()
        return [t.detach().numpy() for t in (y, n, loss, gw, gb, w.grad, b.grad)]

    for ours, theirs in zip(run(wg, Function), run(torch, torch.autograd.Function), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_once_differentiable():
    class Sine(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return wg.tensor(np.sin(x.detach().numpy()))

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return wg.tensor(np.cos(x.detach().numpy())) * g

    x = leaf(0.0, 1.0)
    np.testing.assert_allclose(wg.grad(Sine.apply(x).sum(), x).numpy(), np.cos([0.0, 1.0]))
    g = wg.grad(Sine.apply(x).sum(), x, create_graph=True)
    assert g.requires_grad
    with pytest.raises(wg.GradientError, match="Sine: its gradient has no gradient"):
        g.sum().backward()


def test_a_gradient_without_history_is_no_gradient_of_a_gradient():
    cut = wg.custom_op(lambda x: x * x, lambda g, y, x: (2 * x * g).detach(), name="cut")
    x = leaf(1.0, 2.0)
    assert wg.grad(cut(x).sum(), x).tolist() == [2.0, 4.0]
    with pytest.raises(
        wg.GradientError, match=r"cut: the gradient of argument 0 \(x\) has no hist"
    ):
        wg.grad((cut(x) * x).sum(), x, create_graph=True)


def with_gradient(vjp, value=None):
    return wg.custom_op(value or (lambda x, y: x * y), vjp, name="op")


@pytest.mark.parametrize(
    ("vjp", "error", "message"),
    [
        (lambda g, r, x, y: g, "GradientError", "op: its gradient gave 1 values for 2 arguments"),
        (lambda g, r, x, y: (g, g, g), "GradientError", "gave 3 values for 2"),
        (lambda g, r, x, y: (g.sum(), g), "ShapeError", r"argument 0 \(x\) has shape \(\), and"),
        (lambda g, r, x, y: (g, 3.0), "TypeError", r"argument 1 \(y\) is 3.0.*or None for zero"),
        (lambda g, r, x, y: (g.to("int64"), g), "DTypeError", r"argument 0 \(x\) has dtype int64"),
        (lambda g, r, x, y: (g.mul_(2), g), "GradientError", "op: its gradient changes in place"),
        (lambda g, r, x, y: (x.mul_(2), g), "GradientError", "op: its gradient changes in place"),
        (lambda g, r, x, y: (1 / 0, g), "ZeroDivisionError", "division"),
    ],
)
def test_a_bad_gradient_is_an_error_and_nothing_has_changed(vjp, error, message):
    x, y, z = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(1.0, 1.0)
    z.grad = wg.tensor([5.0, 5.0], dtype="float64")
    kind = getattr(wg, error, None) or getattr(builtins, error)
    bad = with_gradient(vjp)
    g = wg.tensor([1.0, 1.0], dtype="float64")
    out = bad(x * 1, y) * z
    with pytest.raises(kind, match=message), wg.no_grad():
        out.backward(g)
    assert x.grad is None and y.grad is None and z.grad.tolist() == [5.0, 5.0]
    assert (x.tolist(), g.tolist()) == ([1.0, 2.0], [1.0, 1.0])
    g += 1  # it may be changed again
    x.detach().mul_(1)


def test_a_constant_has_no_gradient():
    op = with_gradient(lambda g, r, x, k: (g, g), lambda x, k: x * k)
    with pytest.raises(wg.GradientError, match=r"argument 1 \(k\) is .*no tensor; return None"):
        op(leaf(1.0), 2.0).sum().backward()


def test_a_bad_value_is_an_error():
    x = leaf(1.0, 2.0)
    edits = with_gradient(lambda g, r, x: g, lambda x: x.detach().mul_(2))
    with pytest.raises(wg.GradientError, match=r"op: its value changes in place.*clone"):
        edits(x)
    assert x.tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match=r"op: its value is 3.*; expected a tensor"):
        with_gradient(lambda g, r, x: g, lambda x: 3)(x)
    with pytest.raises(TypeError, match="custom_op: vjp is None"):
        wg.custom_op(lambda x: x)
    with pytest.raises(TypeError, match=r"call Cube.apply\(...\)"):
        Cube()

    class Dirty(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)

    with pytest.raises(wg.GradientError, match="mark_dirty: forward may not change its inputs"):
        Dirty.apply(x)

    class Half(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3)

    with pytest.raises(TypeError, match="save_for_backward: got 3"):
        Half.apply(x)


@BOTH
def test_an_edited_saved_tensor_is_an_error(op):
    x = leaf(1.0, 2.0)
    z = x * 1
    y = op(z)
    with wg.no_grad():
        z.add_(1)
    with pytest.raises(wg.GradientError, match=r"'[cC]ube'.*changed in place by 'add'"):
        y.sum().backward()
    assert x.grad is None


def test_a_result_that_is_an_argument_has_memory_of_its_own():
    same = wg.custom_op(lambda x: x, lambda g, y, x: 2 * g, name="same")
    x = leaf(1.0, 2.0)
    y = same(x)
    assert y.made_by == "same" and wg.grad(y.sum(), x).tolist() == [2.0, 2.0]
    with wg.no_grad():
        y.add_(1)
    assert x.tolist() == [1.0, 2.0] and x.is_leaf


def test_a_result_may_be_edited():
    x = leaf(1.0, 2.0)
    y = cube(x)
    z = y * 1
    z.mul_(x)
    z.sum().backward()
    assert x.grad.tolist() == [4.0, 32.0]


def test_the_list_is_walked_once():
    x = leaf(2.0)
    y = cube(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [24.0]
    with pytest.raises(wg.GradientError, match=r"'sum'|'cube'"):
        y.backward()


def test_memory_is_freed_at_once_and_cycles_by_the_collector():
    class Big:
        pass

    def call():
        big = Big()

        class Holds(Function):
            @staticmethod
            def forward(ctx, x, holder):
                ctx.big, ctx.holder = big, holder
                return x * 2

            @staticmethod
            def backward(ctx, g):
                return g * 2, None

        holder = []
        y = Holds.apply(leaf(1.0), holder)
        return y, holder, weakref.ref(big)

    gc.disable()
    try:
        x, ref = leaf(1.0), None
        held = Big()
        ref = weakref.ref(held)
        y = wg.custom_op(lambda x, k: x * 2, lambda g, y, x, k: (g * 2, None))(x, held)
        del held
        y.sum().backward()
        assert ref() is None  # backward() has passed
    finally:
        gc.enable()
    y, holder, ref = call()
    holder.append(y)  # y -> its line -> ctx -> holder -> y
    del y, holder
    for _ in range(3):
        gc.collect()
    assert ref() is None


def test_threads_and_nesting():
    outer = wg.custom_op(lambda x: cube(x) * 2, lambda g, y, x: 6 * x * x * g, name="outer")
    found, x = [], leaf(1.0, 2.0)

    def work():
        for _ in range(20):
            found.append(wg.grad(outer(x).sum(), x).tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [[6.0, 24.0]] * 80
    p = wg.trace(lambda: outer(x).sum().backward())()
    assert p.lines[0].op == "outer" and p.check(), str(p.check())


def test_a_name_of_the_librarys_is_not_mistaken():
    mine = wg.custom_op(lambda x: x * 5, lambda g, y, x: g * 5, name="exp", formula="5 x")
    p = wg.trace(lambda x: mine(x) + x.exp())(wg.ones(2))
    assert [line.formula for line in p.lines[:2]] == ["5 x", wg.study.list.ops()["exp"]["formula"]]


# ---- backward(inputs=)


def test_backward_of_inputs_alone():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    h = x * w
    y = (h * h).sum()
    y.backward(inputs=[w], retain_graph=True)
    assert x.grad is None and w.grad.tolist() == [6.0, 32.0]
    wg.autograd.backward([y, h], [None, wg.ones(2, dtype="float64")], inputs=(w, w, h))
    assert w.grad.tolist() == [13.0, 66.0]  # once for each that is named
    assert h.grad.tolist() == [7.0, 17.0] and x.grad is None
    with pytest.raises(ValueError, match="inputs is empty"):
        y.backward(inputs=[])
    with pytest.raises(wg.GradientError, match="backward: input 0 does not require a gradient"):
        y.backward(inputs=wg.ones(2))
    with pytest.raises(ValueError, match="got 2 gradients for 1 outputs"):
        wg.autograd.backward([y], [None, None])


# ---- checkpoint


def layers(seed=0):
    wg.manual_seed(seed)
    return wg.nn.Sequential(
        wg.nn.Linear(3, 8), wg.nn.Tanh(), wg.nn.Dropout(0.5), wg.nn.Linear(8, 2)
    )


def gradients_of(run):
    model, x = layers(), leaf(0.1, -0.2, 0.3, dtype="float32")
    wg.manual_seed(7)
    y = run(model, x)
    (y * y).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in model.parameters()), wg.rand(3)]


def twice(model, x):
    inner = wg.checkpoint(lambda h: wg.checkpoint(model[2], model[1](model[0](h))), x)
    return wg.checkpoint(model[3], inner)


@pytest.mark.parametrize(
    "run", [wg.checkpoint, lambda m, x: wg.checkpoint(lambda: m(x)), twice, wg.compile]
)
def test_checkpoint_is_the_function_itself(run):
    if run is wg.compile:
        model, x, w = layers().eval(), wg.ones(3), leaf(2.0, dtype="float32")
        step = wg.compile(lambda x: wg.checkpoint(model, x * w).sum())
        for _ in range(3):
            assert step(x).tolist() == model(x * w).sum().tolist()
        return
    for ours, plain in zip(gradients_of(run), gradients_of(lambda m, x: m(x)), strict=True):
        assert ours.tolist() == plain.tolist()


def test_checkpoint_keeps_nothing_that_its_lines_save():
    x = wg.ones((64, 1024), requires_grad=True)

    def deep(h):
        for _ in range(10):
            h = h.exp().log()
        return h

    saved = []

    def watched(h):
        y = deep(h)
        saved.append(weakref.ref(y))
        return y

    y = wg.checkpoint(watched, x)
    assert saved[0]() is None and len(saved) == 1
    y.sum().backward()
    assert len(saved) == 2 and saved[1]() is None
    np.testing.assert_allclose(x.grad.numpy(), 1.0, rtol=1e-5)


def test_checkpoint_to_second_order_and_several_results():
    x, w = leaf(0.5, -1.0), leaf(2.0, 3.0)

    def fn(x, scale=1.0):
        h = (x * w).tanh()
        return {"a": h * scale, "b": [h.sum(), 5 * x.detach()]}

    def loss(out):
        return (out["a"] * out["a"]).sum() * out["b"][0] + out["b"][1].sum()

    found = []
    for run in (fn, lambda *a, **k: wg.checkpoint(fn, *a, **k)):
        out = run(x * 1, scale=3.0)
        assert not out["b"][1].requires_grad
        gx, gw = wg.grad(loss(out), [x, w], create_graph=True)
        found.append([gx, *wg.grad((gx * gw).sum(), [x, w])])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)


def test_checkpoint_does_not_count_twice_what_lies_behind():
    x = leaf(1.0, 2.0)
    h = x * 3  # reaches the function as an argument, beside x itself
    wg.checkpoint(lambda h: (h * x).sum(), h).backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_checkpoint_calls_hooks_and_is_listed_in_a_study():
    x, seen = leaf(1.0, 2.0), []

    def fn(x):
        h = x * 2
        h.register_hook(lambda g: seen.append(g.tolist()))
        return h.square().sum()

    wg.checkpoint(fn, x).backward()
    assert seen == [[4.0, 8.0]] and x.grad.tolist() == [8.0, 16.0]
    p = wg.trace(lambda: wg.checkpoint(fn, x).backward())()
    assert [line.op for line in p.lines if line.phase == "forward"] == ["mul", "square", "sum"]


def test_checkpoint_refuses_what_has_changed():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = wg.checkpoint(lambda x: (x * w).sum(), x * 1)
    with wg.no_grad():
        w.add_(1)
    with pytest.raises(wg.GradientError, match=r"'checkpoint'.*changed in place by 'add'"):
        y.backward()
    others = [x * 2, x * 3]
    y = wg.checkpoint(lambda: (others.pop() * w).sum())
    with pytest.raises(wg.GradientError, match="used other tensors than at first"):
        y.backward()
    sizes = [3, 2]
    y = wg.checkpoint(lambda x: x[:1] * wg.ones(sizes.pop(), dtype="float64"), x)
    with pytest.raises(wg.ShapeError, match="returned other shapes"):
        y.sum().backward()
    assert x.grad is None
    held = [wg.tensor([2.0, 3.0], dtype="float64")]
    for changed in (wg.tensor([5.0, 3.0], dtype="float64"), wg.tensor([math.nan, 3.0])):
        y = wg.checkpoint(lambda x: x * held[0], x)
        former, held[0] = held[0], changed.double()
        with pytest.raises(wg.GradientError, match="returned other values than at first"):
            y.sum().backward()
        held[0] = former
    y = wg.checkpoint(lambda x: x * held[0] * math.nan, x)
    y.sum().backward()  # NaN both times
    assert x.grad is not None and np.isnan(x.grad.numpy()).all()


def test_checkpoint_is_not_a_cycle():
    gc.disable()
    try:
        x = leaf(1.0)
        fn = lambda x: x.exp() * 2  # noqa: E731
        ref = weakref.ref(fn)
        y = wg.checkpoint(fn, x)
        del fn
        assert ref() is not None
        del y
        assert ref() is None
    finally:
        gc.enable()


# ---- vjp, jvp, hvp, jacobian, hessian


def several(x, w):
    return (x[:, None] * w).tanh(), (x * x).sum() * w.sum()


def number(x, w):
    return (x @ w).sin().sum() * x.prod() + w.square().sum()


def test_transforms_agree_with_torch():
    torch = pytest.importorskip("torch")
    functional = torch.autograd.functional
    numbers = np.random.default_rng(0)
    x, w, vx, vw = (numbers.standard_normal(s) for s in ((3,), (3, 2), (3,), (3, 2)))
    u = (numbers.standard_normal((3, 2)), np.array(0.5))

    def flat(tree):
        if isinstance(tree, tuple):
            return [a for t in tree for a in flat(t)]
        return [tree.detach().numpy()]

    def both(name, f, *arrays, **options):
        found = []
        for library, home in ((torch, functional), (wg, wg.autograd)):
            given = [
                tuple(library.tensor(a) for a in array)
                if isinstance(array, tuple)
                else library.tensor(array)
                for array in arrays
            ]
            found.append(flat(getattr(home, name)(f, *given, **options)))
        assert len(found[0]) == len(found[1])
        for a, b in zip(*found, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)

    both("vjp", several, (x, w), u)
    both("jvp", several, (x, w), (vx, vw))
    both("hvp", number, (x, w), (vx, vw))
    both("jacobian", several, (x, w))
    both("jacobian", lambda x: (x * x)[:2], x)
    both("jacobian", lambda x, w: (x.exp(), w * 0 + 1), (x, w))
    both("hessian", number, (x, w))
    both("hessian", lambda x: x.prod() * x.sum(), x)
    both("vjp", lambda x: x.sum(), x)


def test_transforms_of_what_does_not_depend_and_gradients_through_them():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    value, product = wg.autograd.vjp(lambda x: w.sum(), x)
    assert (float(value), product.tolist()) == (7.0, [0.0, 0.0]) and not value.requires_grad
    assert wg.autograd.jacobian(lambda x: x[:0], x).shape == (0, 2)
    assert wg.autograd.hessian(lambda x: x.sum(), x).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    j = wg.autograd.jacobian(lambda x: x * x * w, x, create_graph=True)
    assert wg.grad(j.sum(), w).tolist() == [2.0, 4.0]
    j = wg.autograd.jacobian(lambda x: x * x * w, x, create_graph=True)
    assert wg.grad(j.sum(), x).tolist() == [6.0, 8.0]
    assert x.grad is None
    assert wg.autograd.jvp(cube, x, wg.ones(2, dtype="float64"))[1].tolist() == [3.0, 12.0]


def test_transforms_refuse():
    x = leaf(1.0, 2.0)
    with pytest.raises(wg.ShapeError, match=r"jvp: v has the shapes \[\(3,\)\]"):
        wg.autograd.jvp(lambda x: x, x, wg.ones(3))
    with pytest.raises(ValueError, match="vjp: v is needed where the result"):
        wg.autograd.vjp(lambda x: x, x)
    with pytest.raises(wg.ShapeError, match=r"hessian: func returned \(2,\); expected one number"):
        wg.autograd.hessian(lambda x: x, x)
    with pytest.raises(TypeError, match="jacobian: the result of func is None"):
        wg.autograd.jacobian(lambda x: None, x)
    with pytest.raises(wg.DTypeError, match="hvp: input 0 has dtype int64"):
        wg.autograd.hvp(lambda x: x.sum(), wg.arange(3))


def test_compiled_follows_the_class():
    class Times(Function):
        factor = 2.0

        @classmethod
        def forward(cls, ctx, x):
            return x * cls.factor

        @staticmethod
        def backward(ctx, g):
            return g * Times.factor

    op = wg.custom_op(lambda x: x * 1.0, lambda g, y, x: g * 3)
    w = leaf(1.0, 2.0, dtype="float32")

    def step():
        w.grad = None
        y = op(Times.apply(w)).sum()
        y.backward()
        return y, w.grad

    compiled = wg.compile(step)

    def same():
        values = [x.detach().tolist() for x in compiled()]
        assert values == [x.detach().tolist() for x in step()]
        return values

    first = [same() for _ in range(3)]
    Times.factor = 5.0
    assert same() != first[-1]
    Times.backward = staticmethod(lambda ctx, g: g * 7)
    assert same()[1] == [21.0, 21.0]
    op.vjp = lambda g, y, x: g
    assert same()[1] == [7.0, 7.0]
    assert compiled.traces > 1


def test_backward_copies_no_gradient_that_nobody_else_has():
    w = leaf(1.0, 2.0)
    p = wg.trace(lambda: (w * w * w).sum().backward())()
    assert "copy" not in [line.op for line in p.lines]


# ---- saved-tensor hooks


def test_saved_tensors_pass_through_hooks():
    x, w, packed, unpacked = leaf(1.0, 2.0), leaf(0.5, -0.5), [], []

    def pack(t):
        assert not t.requires_grad
        packed.append(t.tolist())
        return t.numpy().copy()

    def unpack(a):
        unpacked.append(a.tolist())
        return wg.tensor(a)

    with wg.autograd.saved_tensors_hooks(pack, unpack):
        y = cube(x * w).exp()
    after = len(packed)
    z = y * y  # outside: saved as it is
    assert len(packed) == after and [0.5, -1.0] in packed and unpacked == []
    gx = wg.grad(z.sum(), x, create_graph=True)
    (gw,) = wg.grad([gx.sum()], [w])
    assert [0.5, -1.0] in unpacked

    plain = (lambda h: (h * h * h).exp().square())(x * w)
    px = wg.grad(plain.sum(), x, create_graph=True)
    np.testing.assert_allclose(gx.detach().numpy(), px.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gw.numpy(), wg.grad(px.sum(), w).numpy(), rtol=1e-12)


def test_saved_tensors_hooks_nest_and_refuse():
    x, hooks = leaf(1.0, 2.0), wg.autograd.saved_tensors_hooks
    seen = []
    with hooks(lambda t: seen.append("outer") or t, lambda t: t):
        with hooks(lambda t: seen.append("inner") or t, lambda t: t):
            (x * 1).exp()
        (x * 1).exp()
    (x * 1).exp()
    assert list(dict.fromkeys(seen)) == ["inner", "outer"] and len(seen) == 4
    for unpack, error, message in (
        (lambda t: 3, TypeError, "unpack returned 3.*; expected a tensor"),
        (lambda t: t[:1], wg.GradientError, r"unpack returned float64\(1,\)"),
    ):
        with hooks(lambda t: t, unpack):
            y = (x * 1).exp().sum()
        with pytest.raises(error, match=message):
            y.backward()
        assert x.grad is None
    changed = pytest.raises(wg.GradientError, match="pack changes in place")
    with changed, hooks(lambda t: t.mul_(2), lambda t: t):
        (x * 1).exp()
    with pytest.raises(TypeError, match="saved_tensors_hooks: pack is None"):
        hooks(None, None)
    assert float((x * 1).exp().sum()) > 0


def test_saved_tensors_hooks_are_freed():
    gc.disable()
    try:
        x = leaf(1.0)
        pack = lambda t: t  # noqa: E731
        unpack = lambda t: t  # noqa: E731
        with wg.autograd.saved_tensors_hooks(pack, unpack):
            y = (x * 1).exp()
        ref = weakref.ref(unpack)
        del pack, unpack
        y.sum().backward()
        assert ref() is None and x.grad is not None
    finally:
        gc.enable()


# ---- an op in C++, from another package


@pytest.fixture(scope="module")
def bessel(tmp_path_factory):
    """examples/custom_op/, installed as its README line says."""
    for needed in ("scikit_build_core", "pybind11"):
        pytest.importorskip(needed)
    if not EXAMPLE.is_dir() or shutil.which("g++") is None:
        pytest.skip("needs the source tree and g++")
    site = tmp_path_factory.mktemp("site")
    source = shutil.copytree(EXAMPLE, site / "source")
    command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"]
    done = subprocess.run(
        [*command, "--target", str(site), str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(site))
    try:
        yield importlib.import_module("bessel")
    finally:
        sys.path.remove(str(site))


@pytest.mark.slow
def test_an_op_in_cpp_has_values_gradients_and_lines(bessel):
    x = leaf(-2.5, 0.0, 0.5, 3.0)
    y = bessel.j0(x)
    assert y.made_by == "j0" and bessel.j0.__name__ == "j0"
    values = y.detach().numpy()  # by the power series of J0, 60 terms
    np.testing.assert_allclose(
        values, [-0.04838377646819796, 1, 0.938469807240813, -0.2600519549019334], 1e-14
    )
    assert wg.testing.gradcheck(bessel.j0, [x], order=2)
    assert wg.testing.gradcheck(bessel.j1, [x], order=2)
    many = wg.linspace(-20, 20, 60000, dtype="float64").reshape(200, 300).T  # not contiguous
    once = bessel.j1(many)
    wg.set_num_threads(1)
    try:
        assert (bessel.j1(many) == once).all()
    finally:
        wg.set_num_threads(2)
    assert bessel.j1(wg.ones(3)).dtype == wg.float32
    assert bessel.j1(wg.ones(3, dtype="bfloat16")).dtype == wg.bfloat16
    third = wg.grad(wg.grad(y.sum(), x, create_graph=True).sum(), x, create_graph=True)
    with pytest.raises(wg.GradientError, match=r"j0_of_\w: it has no gradient for input"):
        wg.grad(third.sum(), x)


@pytest.mark.slow
def test_an_op_in_cpp_runs_in_compiled_steps_and_studies(bessel):
    x = wg.tensor([0.5, 1.5], requires_grad=True)

    def step():
        x.grad = None
        loss = (bessel.j0(x) * 2).square().sum()
        loss.backward()
        return loss

    program = wg.trace(step)()
    line = program.lines[0]
    assert (line.op, line.formula, line.gradients) == ("j0", "J0(x)", ["-J1(x) g"])
    assert program.check()
    eager, g = step().item(), x.grad.tolist()
    compiled = wg.compile(step)
    for _ in range(3):
        assert compiled().item() == eager and x.grad.tolist() == g


@pytest.mark.slow
def test_what_an_op_in_cpp_refuses(bessel):
    with pytest.raises(ValueError, match="j0: got 2 tensors; expected 1"):
        bessel.j0(wg.ones(2), wg.ones(2))
    with pytest.raises(wg.ShapeError, match=r"j0: got int64.*expected floating"):
        bessel.j0(wg.arange(3))
    with pytest.raises(TypeError, match="j0"):
        bessel.j0("x")


def capsule(name, **fields):
    """A definition made by hand, as an extension that was built wrongly would give it."""

    class Op(ctypes.Structure):
        _fields_ = (
            ("version", ctypes.c_int32), ("inputs", ctypes.c_int32), ("name", ctypes.c_char_p),
            ("operands", ctypes.c_char_p), ("formula", ctypes.c_char_p),
            ("infer", ctypes.c_void_p), ("value", ctypes.c_void_p),
            ("gradient", ctypes.c_void_p * 8), ("gradient_of_y", ctypes.c_int32),
            ("flops_per_element", ctypes.c_double),
        )  # fmt: skip

    op = Op(**{"version": 1, "inputs": 1, "name": b"own", "value": 1, **fields})
    KEPT.append((op, name))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    return new(ctypes.addressof(op), name, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": b"other"}, "a capsule named 'other'; expected 'wengert.op'"),
        ({"version": 7}, "has version 7, and this library's 1; build the extension again"),
        ({"inputs": 9}, "inputs is 9; expected 1 to 8"),
        ({"value": None}, "without name or value"),
    ],
)
def test_definitions_that_are_refused(given, message):
    name = given.pop("name", b"wengert.op")
    with pytest.raises(ValueError, match=re.escape(message)):
        wg.custom_op(capsule(name, **given))


def test_the_header_is_where_get_include_says():
    assert (Path(wg.get_include()) / "wengert" / "op.h").is_file()


def test_checkpoint_refuses_a_leaf_that_took_the_place_of_another():
    held = [wg.randn((3,)).requires_grad_()]
    x = wg.randn((3,)).requires_grad_()
    y = wg.checkpoint(lambda x: (x * held[0]).sin(), x).sum()
    former, held[0] = held[0], wg.randn((3,)).requires_grad_()
    with pytest.raises(wg.GradientError, match="used other tensors than at first"):
        y.backward()
    assert former.grad is None and held[0].grad is None and x.grad is None

    def own(x):
        leaf = (x.detach() * 2).requires_grad_()
        (g,) = wg.grad((leaf**3).sum(), [leaf], create_graph=True)
        return (g * x).sum()

    (found,) = wg.grad(wg.checkpoint(own, x), [x])
    np.testing.assert_allclose(found.numpy(), (12 * x * x).detach().numpy(), rtol=1e-5)
