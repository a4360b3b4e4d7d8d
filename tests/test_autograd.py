"""Autograd semantics: what backward() and grad() promise beside right numbers per op.

Numbers per op are in test_ops and test_gradcheck. Here: accumulation, graphs walked twice,
gradients of gradients, hooks, edits in place (never a silent wrong number), memory of long graphs.
"""

import gc
import operator
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest

import wengert as wg


def leaf(*values, dtype="float64"):
    return wg.tensor(list(values), dtype=dtype, requires_grad=True)


def values(x):
    return x.detach().numpy().tolist()


def run_python(code, timeout=120, stack_kib=8192):
    """Runs code in a process of its own whose stack is `stack_kib` KiB; returns what it printed."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_STACK, ({stack_kib * 1024},) * 2)"
    # The limit holds for the main thread from exec on, so the code runs in a second exec.
    outer = (
        f"{limit}; import os, sys; os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", outer, textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


# ---- leaves


@pytest.mark.smoke
def test_gradients_add_up_in_leaves():
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    (x * x).sum().backward()
    assert values(x.grad) == [5.0, 7.0]
    x.grad = None
    (x + x + x).sum().backward()
    assert values(x.grad) == [3.0, 3.0]


def test_a_gradient_is_nobody_elses_memory():
    a, b = leaf(1.0), leaf(1.0)
    cotangent = wg.tensor([2.0], dtype="float64")
    (a + b).backward(cotangent)
    with wg.no_grad():
        a.grad.mul_(10)
    assert values(a.grad) == [20.0]
    assert values(b.grad) == [2.0]
    assert values(cotangent) == [2.0]


@pytest.mark.smoke
def test_one_leaf_used_many_ways():
    x = leaf(0.5, -1.5)
    y = (x * x.sin() + x[::-1] * 2 + x.reshape(2, 1).sum()).sum()
    y.backward()
    v = np.array([0.5, -1.5])
    np.testing.assert_allclose(x.grad.numpy(), np.sin(v) + v * np.cos(v) + 2 + 2, rtol=1e-14)


def test_backward_on_a_leaf_itself():
    x = leaf(3.0)
    x.backward()
    assert values(x.grad) == [1.0]


def test_grad_may_be_set_and_is_checked():
    x = leaf(1.0, 2.0)
    x.grad = wg.tensor([1.0, 1.0], dtype="float64")
    (x * 2).sum().backward()
    assert values(x.grad) == [3.0, 3.0]
    for wrong in (wg.zeros((3,), "float64"), wg.zeros((2,), "float32")):
        with pytest.raises(wg.ShapeError, match="grad"):
            x.grad = wrong
    with pytest.raises(TypeError, match="grad"):
        x.grad = 1.0


def test_requires_grad_rules():
    with pytest.raises(wg.DTypeError, match="int64"):
        wg.tensor([1, 2]).requires_grad_()
    with pytest.raises(wg.DTypeError, match="tensor"):
        wg.tensor([1, 2], requires_grad=True)
    y = leaf(1.0) * 2
    with pytest.raises(wg.GradientError, match=r"mul.*detach"):
        y.requires_grad = False
    x = leaf(1.0)
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_what_is_a_leaf():
    x = leaf(1.0)
    y = x * 2
    assert x.is_leaf
    assert not y.is_leaf
    assert y.made_by == "mul"
    assert y.detach().is_leaf
    assert not y.detach().requires_grad
    with wg.no_grad():
        assert (x * 2).is_leaf
    y.sum().backward()
    assert y.grad is None


# ---- the graph, once and again


@pytest.mark.smoke
def test_second_backward_is_an_error_that_says_what_to_do():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(wg.GradientError, match=r"walked before.*retain_graph=True") as caught:
        y.backward()
    assert "test_autograd.py:" in str(caught.value)
    assert values(x.grad) == [2.0, 4.0]


def test_second_backward_through_a_shared_part_is_an_error():
    x = leaf(1.0, 2.0)
    shared = x.exp()
    a, b = shared.sum(), (shared * 2).sum()
    a.backward()
    with pytest.raises(wg.GradientError, match="exp"):
        b.backward()
    with pytest.raises(wg.GradientError, match="walked before"):
        wg.grad((shared * 2).sum(), x)


@pytest.mark.smoke
def test_retain_graph():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert values(x.grad) == [6.0, 12.0]
    with pytest.raises(wg.GradientError):
        y.backward()


def test_failed_backward_leaves_gradients_as_they_were():
    x = leaf(1.0, 2.0)
    h = x * 2

    def stop(_):
        raise RuntimeError("stop")

    h.register_hook(stop)
    x.grad = wg.ones((2,), "float64")
    with pytest.raises(RuntimeError, match="stop"):
        (h.sum() + (x * 5).sum()).backward()
    assert values(x.grad) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wg.ones((2,)).sum(), "no history"),
        (lambda: leaf(1.0, 2.0) * 2, r"\(2,\).*gradient"),
        (lambda: leaf(1.0, 2.0).argmax(), "argmax"),
        (lambda: leaf(1.0).detach().sum(), "no history"),
    ],
)
def test_backward_without_a_way_says_why(make, message):
    with pytest.raises(wg.GradientError, match=message):
        make().backward()


def test_cotangents():
    x = leaf(1.0, 2.0)
    y = x * x
    y.backward(wg.tensor([1.0, 10.0], dtype="float64"))
    assert values(x.grad) == [2.0, 40.0]
    with pytest.raises(wg.ShapeError, match=r"\(3,\).*\(2,\)"):
        (x * x).backward(wg.ones((3,)))
    with pytest.raises(TypeError, match="backward"):
        (x * x).backward("ones")


def test_dtypes_along_the_way():
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    y = (x.double() * np.array([3.0, 4.0])).sum()
    y.backward()
    assert y.dtype == wg.float64
    assert x.grad.dtype == wg.float32
    assert values(x.grad) == [3.0, 4.0]


# ---- wg.grad


def test_grad_returns_what_it_was_asked_in():
    x, y = leaf(2.0), leaf(3.0)
    f = (x * x * y).sum()
    assert values(wg.grad(f, x, retain_graph=True)) == [12.0]
    both = wg.grad([f], [x, y], retain_graph=True)
    assert isinstance(both, tuple)
    assert [values(g) for g in both] == [[12.0], [4.0]]
    assert x.grad is None
    assert y.grad is None
    assert [values(g) for g in wg.grad(f, [y, x, y])] == [[4.0], [12.0], [4.0]]


def test_grad_of_something_unused():
    x, other = leaf(2.0), leaf(1.0)
    with pytest.raises(wg.GradientError, match=r"input 1.*allow_unused=True"):
        wg.grad((x * x).sum(), [x, other])
    g, none = wg.grad((x * x).sum(), [x, other], allow_unused=True)
    assert none is None
    assert values(g) == [4.0]
    with pytest.raises(wg.GradientError, match="input 0"):
        wg.grad((x * x).sum(), wg.ones((1,)))
    with pytest.raises(ValueError, match="grad"):
        wg.grad((x * x).sum(), [])


def test_grad_of_intermediates_and_of_the_output():
    x = leaf(2.0, 3.0)
    h = x * x
    z = (h * h).sum()
    gh, gx, gz = wg.grad(z, [h, x, z])
    assert values(gh) == [8.0, 18.0]
    assert values(gx) == [32.0, 108.0]
    assert gz.item() == 1.0


def test_grad_with_several_outputs_and_cotangents():
    x = leaf(2.0, 3.0)
    a, b = x * x, x.sum()
    (g,) = wg.grad([a, b], [x], grad_outputs=[wg.tensor([1.0, -1.0], dtype="float64"), None])
    assert values(g) == [5.0, -5.0]
    with pytest.raises(ValueError, match=r"1 grad_outputs for 2"):
        wg.grad([x * x, x.sum()], [x], grad_outputs=[None])


def test_grad_walks_only_where_it_leads():
    x, y = leaf(2.0), leaf(3.0)
    seen = []
    side = y * y
    side.register_hook(lambda g: seen.append("side"))
    f = (x * x + side).sum()
    assert values(wg.grad(f, x, retain_graph=True)) == [4.0]
    assert seen == []
    f.backward()
    assert seen == ["side"]


def test_grad_of_one_branch_leaves_the_other_usable():
    x, y = leaf(2.0), leaf(3.0)
    h = y.exp()
    wg.grad((x * 2 + h).sum(), x)
    h.sum().backward()
    np.testing.assert_allclose(y.grad.numpy(), np.exp(3.0))


# ---- gradients of gradients


@pytest.mark.smoke
def test_third_derivative():
    x = leaf(1.5)
    y = x**5
    for expected in (5 * 1.5**4, 20 * 1.5**3, 60 * 1.5**2):
        y = wg.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(values(y), [expected], rtol=1e-13)


@pytest.mark.smoke
def test_hessian_vector_product_against_closed_form():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 5)), rng.standard_normal(5)
    v, p = rng.standard_normal(5), rng.standard_normal(5)
    x = wg.tensor(p, requires_grad=True)
    # f = x'Ax/2 + sum(exp(b*x)): H = (A + A')/2 + diag(b^2 exp(b*x))
    f = (x @ (wg.tensor(a) @ x)) / 2 + (x * b).exp().sum()
    g = wg.grad(f, x, create_graph=True)
    hv = wg.grad(g, x, grad_outputs=wg.tensor(v))
    expected = (a + a.T) / 2 @ v + b**2 * np.exp(b * p) * v
    np.testing.assert_allclose(hv.numpy(), expected, rtol=1e-12)


def test_backward_of_a_gradient_norm():
    w = leaf(1.0, -2.0)
    loss = (w**3).sum()
    loss.backward(create_graph=True)
    assert w.grad.requires_grad
    penalty = (wg.grad((w**3).sum(), w, create_graph=True) ** 2).sum()
    w.grad = None
    penalty.backward()
    np.testing.assert_allclose(values(w.grad), [36 * 1.0**3, 36 * (-2.0) ** 3])


def test_double_backward_over_memory_that_others_may_write():
    a = np.array([1.0, 2.0, 3.0])
    x = wg.from_numpy(a).requires_grad_()
    g = wg.grad((x * x * x).sum(), x, create_graph=True)
    g.sum().backward()
    assert values(x.grad) == [6.0, 12.0, 18.0]


def test_value_and_grad():
    def f(x, y):
        return (x * x * y).sum()

    x, y = wg.tensor([2.0, 3.0]), wg.tensor([1.0, 10.0])
    value, g = wg.value_and_grad(f)(x, y)
    assert value.item() == 94.0
    assert values(g) == [4.0, 60.0]
    _, (gx, gy) = wg.value_and_grad(f, argnums=(0, 1))(x, y)
    assert values(gx) == [4.0, 60.0]
    assert values(gy) == [4.0, 9.0]
    assert not x.requires_grad

    def slope(x):
        return wg.value_and_grad(lambda t: (t**3).sum())(x)[1].sum()

    _, second = wg.value_and_grad(slope)(x)
    assert values(second) == [12.0, 18.0]


# ---- modes


def test_no_grad_and_enable_grad_nest_and_unwind():
    x = leaf(1.0)
    assert wg.is_grad_enabled()
    with wg.no_grad():
        assert not (x * 2).requires_grad
        with wg.enable_grad():
            assert (x * 2).requires_grad
        assert not wg.is_grad_enabled()
    with pytest.raises(KeyError), wg.no_grad():
        raise KeyError
    assert wg.is_grad_enabled()

    @wg.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad


def test_modes_belong_to_their_thread():
    found = []
    with wg.no_grad():
        thread = threading.Thread(target=lambda: found.append(wg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert found == [True]


def test_mode_is_restored_after_a_failing_hook():
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        y.backward(create_graph=True)
    assert wg.is_grad_enabled()


def test_detach_stops_gradients_and_shares_memory():
    x = leaf(2.0)
    (x * x.detach()).sum().backward()
    assert values(x.grad) == [2.0]
    d = x.detach()
    d.mul_(5)
    assert values(x) == [10.0]


# ---- hooks


@pytest.mark.smoke
def test_hooks_run_in_order_and_may_replace_or_be_removed():
    for make in (lambda: leaf(1.0), lambda: leaf(1.0) * 1):
        x = make()
        order = []
        x.register_hook(lambda g, order=order: order.append(("first", g.item())))
        second = x.register_hook(lambda g: g * 10)
        x.register_hook(lambda g, order=order: order.append(("third", g.item())))
        y = x * 3
        y.backward(retain_graph=True)
        assert order == [("first", 3.0), ("third", 30.0)]
        order.clear()
        second.remove()
        second.remove()
        y.backward()
        assert order == [("first", 3.0), ("third", 3.0)]


def test_a_hook_on_a_leaf_sees_the_whole_gradient_once_and_replaces_it():
    x = leaf(1.0)
    seen = []

    def hook(g):
        seen.append(g.item())
        return g * 0.5

    x.register_hook(hook)
    (x * 2 + x * 3).backward()
    assert seen == [5.0]
    assert values(x.grad) == [2.5]
    assert values(wg.grad(x * 4, x)) == [2.0]


def test_a_replaced_gradient_flows_on():
    x = leaf(1.0, 1.0)
    h = x * 2
    h.register_hook(lambda g: g * 100)
    h.sum().backward()
    assert values(x.grad) == [200.0, 200.0]


def test_hooks_that_misbehave():
    class SpecialError(Exception):
        pass

    x = leaf(1.0, 2.0)
    h = x * 2

    def angry(_):
        raise SpecialError("mine")

    handle = h.register_hook(angry)
    with pytest.raises(SpecialError, match="mine"):
        h.sum().backward(retain_graph=True)
    handle.remove()
    handle = h.register_hook(lambda g: g.sum())
    with pytest.raises(wg.ShapeError, match="hook"):
        h.sum().backward(retain_graph=True)
    handle.remove()
    handle = h.register_hook(lambda g: 3.0)
    with pytest.raises(wg.DTypeError, match="hook"):
        h.sum().backward(retain_graph=True)
    handle.remove()
    h.sum().backward()
    assert values(x.grad) == [2.0, 2.0]
    with pytest.raises(wg.GradientError, match="register_hook"):
        wg.ones((2,)).register_hook(print)


def test_a_hook_must_not_write_into_a_gradient_that_others_share():
    a, b, w = leaf(1.0), leaf(1.0), wg.tensor([3.0], dtype="float64")

    def spoil(g):
        g.mul_(2)

    a.register_hook(spoil)
    with pytest.raises(wg.GradientError, match="in place"):
        ((a + b) * w).sum().backward()
    assert b.grad is None


def test_a_hook_may_remove_itself():
    x = leaf(1.0)
    calls = []

    def once(g):
        calls.append(1)
        handle.remove()

    handle = x.register_hook(once)
    for _ in range(3):
        (x * 2).backward()
    assert calls == [1]


def test_a_hook_that_walks_the_same_graph_is_told_so():
    x = leaf(1.0, 2.0)
    z = (x * x).sum()
    again = [True]

    def hook(_):
        if again.pop():
            again.append(False)
            z.backward()

    z.register_hook(hook)
    with pytest.raises(wg.GradientError, match="walked before"):
        z.backward()


def test_backward_inside_backward():
    x = leaf(2.0)

    @wg.enable_grad()  # hooks run without recording
    def depth(n):
        y = x * 1

        def hook(g):
            if n:
                depth(n - 1)
            return g

        y.register_hook(hook)
        y.backward()

    depth(100)
    assert values(x.grad) == [101.0]


def test_a_hook_that_captures_its_own_tensor_is_collected():
    def iteration(make):
        x = make()
        marker = type("Marker", (), {})()
        x.register_hook(lambda g: (x, marker, g)[2])
        (x * 2).sum().backward()
        return weakref.ref(marker)

    gc.collect()
    start = wg.memory_allocated()
    for make in (lambda: wg.ones((1000,)).requires_grad_(), lambda: leaf(1.0, 2.0) * 2):
        gone = [iteration(make) for _ in range(20)]
        gc.collect()
        assert [m() for m in gone] == [None] * 20
    assert wg.memory_allocated() == start


def test_collecting_garbage_does_not_take_hooks_that_are_in_use():
    seen = []

    def make():
        x = leaf(1.0)
        x.register_hook(lambda g: seen.append(("leaf", x.shape)))
        h = x * 2
        h.register_hook(lambda g: seen.append(("inner", h.shape)))
        return h.sum()

    y = make()  # the closures are all that holds x and h in Python
    gc.collect()
    y.backward()
    assert seen == [("inner", (1,)), ("leaf", (1,))]


# ---- retain_grad


def test_retain_grad():
    x = leaf(1.0, 2.0)
    h = x * 3
    h.retain_grad()
    h.retain_grad()
    y = (h * h).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert values(h.grad) == [12.0, 24.0]
    with pytest.raises(wg.GradientError, match="retain_grad"):
        wg.ones((2,)).retain_grad()
    x.retain_grad()


def test_retain_grad_is_of_the_tensor_after_its_edit_and_may_outlive_it():
    x = leaf(1.0, 2.0)
    h = x * 3
    h.retain_grad()
    h.mul_(2)
    (h * 5).sum().backward()
    assert values(h.grad) == [5.0, 5.0]
    for _ in range(100):
        x.grad = None
        h = x * 3
        h.retain_grad()
        h.mul_(2)
        y = h.sum()
        del h
        others = [wg.zeros((2,), "float64") for _ in range(5)]
        y.backward()
        assert values(x.grad) == [6.0, 6.0]
        assert all(o.grad is None for o in others)


# ---- edits in place


def test_an_edit_counts_up_the_version_of_all_views():
    x = wg.zeros((4,))
    v = x[1:3]
    d = x.detach()
    for edit in (
        lambda: x.add_(1),
        lambda: v.mul_(2),
        lambda: x.__setitem__(0, 5.0),
        lambda: d.zero_(),
        lambda: x.fill_(3),
        lambda: x.copy_(wg.ones((4,))),
        lambda: x.numpy(writable=True),
    ):
        before = x.version
        edit()
        assert x.version > before
        assert x.version == v.version == d.version
    before = x.version
    x.numpy()
    x + 1
    assert x.version == before


def test_the_error_of_an_edit_names_both_places():
    x = leaf(1.0, 2.0)
    h = x * 1
    y = h.exp()
    z = (y * h).sum()
    line_of_edit = sys._getframe().f_lineno + 1
    h.add_(1)
    with pytest.raises(wg.GradientError) as caught:
        z.backward()
    text = str(caught.value)
    assert f"test_autograd.py:{line_of_edit}" in text
    assert f"test_autograd.py:{line_of_edit - 2}" in text
    assert "'mul'" in text
    assert "'add'" in text
    assert "clone()" in text
    assert x.grad is None


def test_a_leaf_cannot_be_edited_where_gradients_are_recorded():
    x = leaf(1.0, 2.0)
    for edit in (
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x.copy_(wg.ones((2,), "float64")),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.__iadd__(1),
    ):
        with pytest.raises(wg.GradientError, match=r"leaf.*no_grad"):
            edit()
    with wg.no_grad():
        x.add_(1)
        x[0] = 7.0
        x += 1
    assert values(x) == [8.0, 4.0]
    assert x.requires_grad
    assert x.is_leaf


def test_an_edit_of_a_view_is_one_of_the_tensor():
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    part = y[1:]
    part.mul_(x[:2])  # y: 2 x0, 2 x1 x0, 2 x2 x1
    (y * y).sum().backward()
    assert values(y) == [2.0, 4.0, 12.0]
    # d/dx of 4 (x0^2 + x0^2 x1^2 + x1^2 x2^2)
    assert values(x.grad) == [8 + 32, 16 + 144, 96.0]


def test_edits_of_views_that_cannot_be_recorded_are_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(wg.GradientError, match="view of a leaf"):
        x[0:1].mul_(2)
    y = x * 2
    with wg.no_grad():
        blind = y[0:1]
    with pytest.raises(wg.GradientError, match=r"taken under no_grad\(\)"):
        blind.mul_(2)
    with wg.no_grad():
        x[0:1].mul_(2)
    assert values(x) == [2.0, 2.0]


def test_a_view_whose_tensor_is_gone_may_be_edited():
    x = leaf(1.0, 2.0)
    v = (x * 3).reshape(2, 1)
    other = v[0]
    v += x.reshape(2, 1)
    v[1] *= x[1]  # 4 x0, 4 x1^2
    (v.square().sum() + other.sum()).backward()
    assert values(x.grad) == [32.0 + 4, 16 * 4 * 8.0]


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (lambda t: operator.iadd(t, 1.0), [3.0, 5.0]),
        (lambda t: operator.isub(t, 1.0), [1.0, 3.0]),
        (lambda t: operator.imul(t, 2.0), [4.0, 8.0]),
        (lambda t: operator.itruediv(t, 4.0), [0.5, 1.0]),
        (lambda t: operator.ifloordiv(t, 3.0), [0.0, 1.0]),
        (lambda t: operator.imod(t, 3.0), [2.0, 1.0]),
        (lambda t: operator.ipow(t, 2.0), [4.0, 16.0]),
        (lambda t: operator.imatmul(t, wg.tensor([[0.0, 1], [1, 0]], "float64")), [4.0, 2.0]),
    ],
)
def test_augmented_assignment_is_in_place(edit, wanted, recorded):
    x = leaf(1.0, 2.0)
    x.requires_grad = recorded
    y = x * 2
    kept, version = y, y.version
    assert edit(y) is y
    assert values(kept) == wanted and y.version > version and y.requires_grad == recorded
    if recorded:
        plain = leaf(1.0, 2.0)
        z = plain * 2
        out_of_place = {
            "3.0": z + 1, "1.0": z - 1, "4.0": z * 2, "0.5": z / 4, "0.0": z // 3, "2.0": z % 3,
        }  # fmt: skip
        if str(wanted[0]) in out_of_place and wanted != [4.0, 16.0] and wanted != [4.0, 2.0]:
            out_of_place[str(wanted[0])].sum().backward()
            y.sum().backward()
            assert values(x.grad) == values(plain.grad)


def test_augmented_assignment_of_a_power_uses_the_value_from_before():
    x = leaf(1.0, 2.0)
    y = x * 2
    y **= 3.0
    y.sum().backward()
    assert values(x.grad) == [24.0, 96.0]


def test_augmented_assignment_that_does_not_fit_is_refused():
    x = wg.ones((2,))
    with pytest.raises(wg.ShapeError, match="in place"):
        x += wg.ones((3, 2))
    i = wg.arange(3)
    with pytest.raises(wg.DTypeError, match="in place"):
        i += 0.5
    with pytest.raises(wg.DTypeError, match="in place"):
        i **= -1.0
    y = leaf(1.0)
    with pytest.raises(wg.GradientError, match="leaf"):
        y *= 2.0
    rows = wg.zeros((2, 2)) + leaf(1.0, 2.0).float()
    rows[0] += 1.0
    assert values(rows) == [[2.0, 3.0], [1.0, 2.0]]


def test_views_are_tensors_of_their_own():
    """Hooks and flags set on a view of the whole are not the tensor's."""
    for view in (
        lambda t: t[:],
        lambda t: t[...],
        lambda t: t.reshape(2),
        lambda t: t.view(2),
        lambda t: t.expand(2),
        lambda t: wg.broadcast_to(t, (2,)),
        lambda t: t.flatten(),
        lambda t: t.squeeze(),
        lambda t: t.permute(0),
        lambda t: t.transpose(0, 0),
    ):
        x = wg.ones((2,))
        v = view(x)
        assert v is not x
        v.requires_grad_()
        assert not x.requires_grad
        w = leaf(1.0, 2.0)
        y = w * 1
        v = view(y)
        v.register_hook(lambda g: g * 0)
        ((y * 3).sum() + (v * 5).sum()).backward()
        assert values(w.grad) == [3.0, 3.0]
    assert x.contiguous() is x and x.to("float32") is x


@pytest.mark.smoke
def test_a_recorded_edit_passes_gradients_on():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.mul_(x)
    y.add_(5)
    y.sum().backward()
    assert values(x.grad) == [4.0, 8.0]


def test_a_recorded_edit_keeps_the_value_from_before_for_its_own_gradient():
    start = wg.memory_allocated()
    x = leaf(1.0, 2.0)
    y = x * 2
    y.mul_(y)
    y.mul_(x)  # 4 x^3
    g = wg.grad(y.sum(), x, create_graph=True)
    assert values(g) == [12.0, 48.0]
    g.sum().backward()
    assert values(x.grad) == [24.0, 48.0]
    y = x * 2
    y.mul_(x)
    del x, y, g
    assert wg.memory_allocated() == start


def test_assignment_into_a_constant_carries_gradients():
    w = leaf(2.0)
    for make in (
        lambda: wg.zeros((3,), "float64"),
        lambda: wg.full((3,), 0.0, "float64"),
        lambda: wg.tensor(np.zeros(3)),
    ):
        x = make()
        x[1] = w[0] * 3
        x[0:1] = w
        assert values(x) == [2.0, 6.0, 0.0]
        w.grad = None
        (x * wg.tensor([1.0, 10.0, 100.0], dtype="float64")).sum().backward()
        assert values(w.grad) == [31.0]
    one = wg.full((1,), 0.0, "float64")
    one[0] = w[0]
    w.grad = None
    one.sum().backward()
    assert values(w.grad) == [1.0]


def test_assignment_stops_the_gradient_of_what_it_overwrites():
    x, v = leaf(1.0, 2.0, 3.0), leaf(10.0)
    y = x * 2
    y[1] = v[0]
    (y * y).sum().backward()
    assert values(x.grad) == [8.0, 0.0, 24.0]
    assert values(v.grad) == [20.0]


@pytest.mark.parametrize("base_has_history", [True, False])
def test_views_from_before_a_recorded_edit_know_of_it(base_has_history):
    w = leaf(1.0)
    base = leaf(1.0, 2.0) * 2 if base_has_history else wg.zeros((2,), "float64")
    old, loose = base[0:1], base.detach()[0:1]
    base[0:1] = w * 5
    assert old.requires_grad and not loose.requires_grad
    (old * w).sum().backward()
    assert values(w.grad) == [10.0]
    assert values(loose) == [5.0]


@pytest.mark.parametrize(
    ("use", "wanted"),
    [
        (lambda v, y: v.backward(), [4.0, 0.0]),
        (lambda v, y: wg.backward([v, y.sum()]), [8.0, 8.0]),
        (lambda v, y: (v.expand(3) * v).sum().backward(), [48.0, 0.0]),
        (lambda v, y: v.register_hook(lambda g: g * 10) and (v + y.sum()).backward(), [44.0, 8.0]),
        (lambda v, y: y.register_hook(lambda g: g * 10) and (v + y.sum()).backward(), [80.0, 80.0]),
    ],
)
def test_uses_of_a_view_whose_tensor_was_edited(use, wanted):
    """v looks at y = 2 x * x, of which it was taken when y was 2 x."""
    x = leaf(1.0, 2.0)
    y = x * 2
    v = y[0]
    y.mul_(x)
    use(v, y)
    assert values(x.grad) == wanted


def test_what_a_view_says_of_itself_after_an_edit():
    x = leaf(1.0, 2.0)
    y = wg.zeros((2,), "float64")
    v, whole, repeated = y[:1], y.reshape(2), y.broadcast_to((3, 2))
    y.add_(x)
    for view in (v, whole, repeated):
        assert view.requires_grad and not view.is_leaf
    (g,) = wg.grad([(v * v).sum()], [v])  # and v's own line is not walked
    assert values(g) == [2.0]
    v.retain_grad()
    (v.sum() + whole.sum() + (repeated * repeated).sum()).backward()
    assert values(v.grad) == [1.0]
    assert values(x.grad) == [1 + 1 + 6.0, 1 + 12.0]
    with pytest.raises(wg.GradientError, match=r"detach\(\)"):
        v.numpy()


def test_a_detached_tensor_is_a_constant_and_its_edits_are_not_those_of_others():
    x, w = leaf(1.0, 2.0), leaf(5.0, 6.0)
    y = x * 2
    d = y.detach()
    row = d[:1]
    y.mul_(w)
    assert not d.requires_grad and not row.requires_grad
    ((y + d * w).sum() + row.sum()).backward()
    assert values(x.grad) == [10.0, 12.0] and values(w.grad) == [2 + 10.0, 4 + 24.0]
    for first in (y, wg.ones((2,), "float64")):
        d = first.detach()
        d.mul_(w)
        with pytest.raises(wg.GradientError, match="detached"):
            first * w
        with pytest.raises(wg.GradientError, match="detached"):
            first.backward(wg.ones((2,), "float64"))
        (d * 1).sum().backward()
        with wg.no_grad():
            first * w
    z = x * 2
    with wg.no_grad():
        blind = z[:1]
    z.mul_(w)
    with pytest.raises(wg.GradientError, match="history is lost"):
        blind * w


def test_views_of_a_strided_tensor_know_of_recorded_edits():
    w = leaf(1.0, 2.0)
    base = wg.from_numpy(np.ones((3, 4))[:, ::2].T[::-1])
    row, column = base[0], base.T[1]
    base.mul_(w[:, None])  # w0 above, w1 below
    column += w  # (2 w0, 2 w1) there
    row[0] = w[1] * 5
    assert values(base) == [[10.0, 2.0, 1.0], [2.0, 4.0, 2.0]]
    (base.sum() + row.sum() + column.sum()).backward()
    assert values(w.grad) == [2 * (2 + 1) + 2, 5 * 2 + 1 + 2 + 1 + 2]
    same_place = wg.from_numpy(np.lib.stride_tricks.as_strided(np.zeros(4), (3, 2), (8, 8)))
    with pytest.raises(wg.GradientError, match="elements of which share memory"):
        same_place[0].mul_(w)


def exposed_numpy(t):
    t.numpy(writable=True)[...] *= 3


def exposed_view_of_numpy(t):
    t.reshape(-1).numpy(writable=True)[:1] += 7


def exposed_dlpack(t):
    np.from_dlpack(t)[...] *= 3


def copied_from(t):
    t.copy_(t * 3)


def assigned(t):
    t[0] = 99.0


def assigned_by_mask(t):
    t[t > -1e9] = 5.0


def edited_view(t):
    t[1:].mul_(3)


def edited_transpose(t):
    t.reshape(1, -1).T.add_(3)


EDITS = {
    "add_": lambda t: t.add_(1),
    "sub_": lambda t: t.sub_(1),
    "mul_": lambda t: t.mul_(3),
    "div_": lambda t: t.div_(3),
    "zero_": lambda t: t.zero_(),
    "fill_": lambda t: t.fill_(9),
    "copy_": copied_from,
    "+=": lambda t: t.__iadd__(1),
    "setitem": assigned,
    "setitem by mask": assigned_by_mask,
    "through a view": edited_view,
    "through a transpose": edited_transpose,
    "through detach": lambda t: t.detach().mul_(3),
    "numpy(writable=True)": exposed_numpy,
    "numpy of a view": exposed_view_of_numpy,
    "dlpack": exposed_dlpack,
    "sgd_step": lambda t: wg.sgd_step(
        [t],
        [wg.ones(t.shape, "float64")],
        [],
        wg.tensor([0.1, 0, 0, 0, 0, 0], dtype="float64"),
        wg.tensor(0),
    ),
    "normal by setitem": lambda t: t.__setitem__(..., wg.randn(t.shape, "float64")),
}
# name: what is saved of t (an intermediate), as a function that uses it
SAVERS = {
    "input of mul": lambda t, x: t * x,
    "output of exp": lambda t, x: t,
    "input of matmul": lambda t, x: t @ x,
    "input of sin": lambda t, x: t.sin(),
}


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.smoke
def test_a_saved_value_that_was_changed_is_never_silently_wrong(edit, saver):
    x = leaf(0.5, -1.5, 2.0)
    expected = wg.grad(SAVERS[saver](x.exp(), x).sum(), x)
    t = x.exp()
    y = SAVERS[saver](t, x).sum()
    with wg.no_grad():
        try:
            EDITS[edit](t if edit not in ("dlpack",) and "numpy" not in edit else t.detach())
        except wg.GradientError:
            return  # refused at once
    try:
        y.backward()
    except wg.GradientError as e:
        assert "was changed in place" in str(e)
        return
    np.testing.assert_allclose(x.grad.numpy(), expected.numpy(), err_msg="silently wrong")
    pytest.fail("the edit was not noticed, although the numbers are right")


@pytest.mark.parametrize("wrap", [wg.from_numpy, wg.asarray, wg.from_dlpack])
def test_writes_from_outside_do_not_reach_saved_values(wrap):
    a = np.array([0.5, -1.5, 2.0])
    constant = wrap(a)
    x = leaf(1.0, 2.0, 3.0)
    y = (x * constant).sum()
    a *= 100
    y.backward()
    assert values(x.grad) == [0.5, -1.5, 2.0]

    b = np.array([1.0, 2.0, 3.0])
    z = wrap(b).requires_grad_()
    y = (z * z * z).sum()
    b[:] = 100
    y.backward()
    assert values(z.grad) == [3.0, 12.0, 27.0]


def test_writes_through_an_alias_given_away_before_do_not_reach_saved_values():
    t = wg.tensor([1.0, 2.0], dtype="float64")
    alias = t.numpy(writable=True)
    shared = np.from_dlpack(t)
    x = leaf(1.0, 1.0)
    y = (x * t).sum()
    alias *= 10
    shared *= 10
    assert values(t) == [100.0, 200.0]
    y.backward()
    assert values(x.grad) == [1.0, 2.0]


def test_an_edit_that_nothing_saved_is_fine():
    x = leaf(1.0, 2.0)
    y = x + 1
    z = y + 1
    with wg.no_grad():
        y.mul_(100)
    z.sum().backward()
    assert values(x.grad) == [1.0, 1.0]


# ---- memory and depth


@pytest.mark.smoke
def test_memory_goes_with_the_last_reference_without_the_collector():
    def step(x):
        h = x
        for _ in range(5):
            h = (h * x).tanh()
        return h.sum()

    x = wg.rand((100, 100)).requires_grad_()
    x.grad = wg.zeros_like(x)
    gc.collect()
    gc.disable()
    try:
        start = wg.memory_allocated()
        y = step(x)
        assert wg.memory_allocated() > start + 5 * x.nbytes
        del y
        assert wg.memory_allocated() == start, "destroyed without backward"
        y = step(x)
        y.backward()
        kept = wg.memory_allocated()
        assert kept <= start + 4096, "backward frees what was saved, though y is alive"
        del y
        assert wg.memory_allocated() == start
        g = wg.grad(step(x), x, create_graph=True)
        wg.grad(g.sum(), x)
        del g
        assert wg.memory_allocated() == start, "gradients of gradients"
        y = step(x)
        y.register_hook(lambda g: None)
        y.retain_grad()
        y.backward(retain_graph=True)
        del y
        assert wg.memory_allocated() == start, "hooks and retained gradients"
    finally:
        gc.enable()


def test_gradients_have_the_same_bits_for_any_number_of_threads():
    before = wg.num_threads()
    found = []
    try:
        for n in (1, 2, 4):
            wg.set_num_threads(n)
            wg.manual_seed(0)
            x = wg.randn((64, 300)).requires_grad_()
            w = wg.randn((300, 200)).requires_grad_()
            y = ((x @ w).tanh().softmax(-1) * wg.randn((64, 200))).sum(0).exp().mean()
            y.backward()
            found.append((y.item(), x.grad.numpy().tobytes(), w.grad.numpy().tobytes()))
    finally:
        wg.set_num_threads(before)
    assert found[0] == found[1] == found[2]


CHAINS = {
    "mul, backward": (
        1_000_000,
        """
        x = wg.tensor([1.0], requires_grad=True)
        y = x
        for _ in range(n): y = y * 1.0
        y.backward()
        assert x.grad.item() == 1.0
        del y
        """,
    ),
    "mul, destroyed without backward": (
        1_000_000,
        """
        x = wg.tensor([1.0], requires_grad=True)
        y = x
        for _ in range(n): y = y * 1.0
        del y
        assert wg.memory_allocated() < 1000
        """,
    ),
    "alive at exit": (
        1_000_000,
        """
        x = wg.tensor([1.0], requires_grad=True)
        y = x
        for _ in range(n): y = y * 1.0
        """,
    ),
    "retained": (
        200_000,
        """
        x = wg.tensor([1.0], requires_grad=True)
        y = x
        for _ in range(n): y = y * x
        y.backward(retain_graph=True)
        assert x.grad.item() == n + 1
        del y
        """,
    ),
    "slices": (
        200_000,
        """
        x = wg.tensor([1.0, 2.0], requires_grad=True)
        y = x
        for _ in range(n): y = y[:]
        y.sum().backward()
        assert x.grad.tolist() == [1.0, 1.0]
        z = x * 1
        for _ in range(n): z = z[::-1]
        del z, y
        """,
    ),
    "in place": (
        200_000,
        """
        x = wg.tensor([1.0], requires_grad=True)
        y = x * 1
        for _ in range(n): y.add_(1.0)
        y.backward()
        assert x.grad.item() == 1.0
        """,
    ),
    "setitem": (
        100_000,
        """
        x = wg.tensor([1.0], requires_grad=True)
        y = wg.zeros((2,))
        for _ in range(n): y[0] = x[0]
        y.sum().backward()
        assert x.grad.item() == 1.0
        """,
    ),
    "create_graph": (
        100_000,
        """
        x = wg.tensor([1.0], dtype="float64", requires_grad=True)
        y = x
        for _ in range(n): y = y * x
        g = wg.grad(y, x, create_graph=True)
        assert g.item() == n + 1
        del y
        g.backward()
        assert x.grad.item() == (n + 1) * n
        del g
        """,
    ),
    "saved tensors own the chain": (
        200_000,
        """
        x = wg.tensor([1.0], requires_grad=True)
        y = x
        for _ in range(n): y = (y * y).sin()
        del y
        assert wg.memory_allocated() < 1000
        """,
    ),
    "gradients own the chain": (
        50_000,
        """
        # every leaf's .grad has a history that holds the leaf before
        first = a = wg.tensor([1.0], requires_grad=True)
        for _ in range(n):
            b = wg.tensor([1.0], requires_grad=True)
            b.grad = a * 1.0
            a = b
        del a, b, first
        assert wg.memory_allocated() < 1000
        """,
    ),
    "hooks own the chain": (
        2_000,
        """
        y = wg.tensor([1.0], requires_grad=True) * 1.0
        for _ in range(n):
            z = wg.tensor([1.0], requires_grad=True) * 1.0
            z.register_hook(lambda g, y=y: None)
            y = z
        del y, z
        """,
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_long_chains_under_an_8_mib_stack(name):
    n, code = CHAINS[name]
    head = f"import wengert as wg\nwg.set_num_threads(1)\nn = {n}\n"
    out = run_python(head + textwrap.dedent(code) + "\nprint('done')")
    assert out.strip() == "done"


# ---- cycles


def test_gradients_with_history_are_freed_with_their_leaves():
    """leaf.grad -> its history -> leaf: Python's collector frees what only such cycles reach."""

    def once():
        a, b = (wg.rand((64, 64)).requires_grad_() for _ in range(2))
        ((a @ b).tanh() * a).sum().backward(create_graph=True)
        kept = (a.grad * b.grad).sum()
        kept.backward(create_graph=True)
        return b

    class Owner:
        pass

    def with_python_cycle():
        owner = Owner()
        owner.self = owner
        owner.weight = wg.rand((64, 64)).requires_grad_()
        (owner.weight**3).sum().backward(create_graph=True)

    def retained():
        y = wg.rand((64, 64)).requires_grad_() * 2
        y.retain_grad()
        (y**2).sum().backward(create_graph=True)

    def assigned():
        x = wg.rand((64, 64)).requires_grad_()
        x.grad = x * 2

    for make in (once, with_python_cycle, retained, assigned):
        make()
        gc.collect()
        before = wg.memory_allocated()
        for _ in range(5):
            make()
        gc.collect()
        assert wg.memory_allocated() <= before
    alive = once()
    gradient = alive.grad
    gc.collect()
    assert alive.grad is gradient  # reached from here
    gradient.square().sum().backward()
    del alive, gradient
    gc.collect()
    assert wg.memory_allocated() <= before


def test_augmented_assignment_of_a_tensor_and_a_part_of_itself():
    """y **= y, y @= y: the values that the gradients need are kept."""
    start = np.random.default_rng(0).uniform(0.5, 1.5, (3, 3)).astype("f4")

    def power(y):
        y **= y
        return y

    def product(y):
        y @= y
        return y

    def part(y):
        y[1:] **= y[:2]
        return y

    for edit, plain in (
        (power, lambda y: y**y),
        (product, lambda y: y @ y),
        (part, lambda y: wg.concatenate([y[:1], y[1:] ** y[:2]])),
    ):
        grads = []
        for f in (edit, plain):
            x = wg.tensor(start, requires_grad=True)
            y = f(x * 1.5)
            (y * y).sum().backward()
            grads.append((y.tolist(), x.grad.tolist()))
        assert grads[0] == grads[1]


def test_made_by_names_the_edit():
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    for name, edit in {
        "fill": lambda y: y.fill_(3.0),
        "copy": lambda y: y.copy_(x),
        "pow": lambda y: y.__ipow__(2),
        "remainder": lambda y: y.__imod__(2.0),
        "add": lambda y: y.add_(2),
    }.items():
        y = x * 2
        edit(y)
        assert y.made_by == name
    y = (x * 2).sum().zero_()
    with pytest.raises(wg.GradientError, match="made by 'fill'"):
        y.backward()


class _Owner:
    def look(self, gradient):
        pass


def _hook_owns_its_tensor(x, y, z):
    y.register_hook(lambda g, y=y: None)


def _hook_owns_a_later_tensor(x, y, z):
    y.register_hook(lambda g, z=z: None)


def _hook_of_a_leaf_owns_it(x, y, z):
    x.register_hook(lambda g, x=x: None)


def _hook_is_a_method_of_the_owner(x, y, z):
    owner = _Owner()
    owner.all = {"tensors": [x, y, z], "self": owner}
    z.register_hook(owner.look)


@pytest.mark.parametrize("create_graph", [True, False])
@pytest.mark.parametrize(
    "add_hook",
    [
        _hook_owns_its_tensor,
        _hook_owns_a_later_tensor,
        _hook_of_a_leaf_owns_it,
        _hook_is_a_method_of_the_owner,
    ],
    ids=lambda f: f.__name__[1:],
)
def test_cycles_through_hooks_are_freed(add_hook, create_graph):
    """A line owns a hook, which owns a tensor, whose history owns the line: with gradients between
    or without, no collector but ours sees the whole of such a cycle."""

    def once():
        x = wg.rand((64, 64)).requires_grad_()
        y = x * 2
        z = y.exp()
        add_hook(x, y, z)
        if create_graph:
            z.sum().backward(create_graph=True)

    once()
    gc.collect()
    before = wg.memory_allocated()
    for _ in range(5):
        once()
    gc.collect()
    assert wg.memory_allocated() <= before


@pytest.mark.parametrize("holder", ["gradient", "loss", "tensor"])
def test_hooks_stay_while_anything_leads_to_them(holder):
    x = wg.rand((8,)).requires_grad_()
    y = x * 2
    calls = []
    y.register_hook(lambda g, y=y: calls.append(y.shape))
    loss = y.square().sum()
    loss.backward(create_graph=True)
    kept = {"gradient": x.grad, "loss": loss, "tensor": y}[holder]
    if holder != "gradient":
        x.grad = None
    del x, y, loss
    gc.collect()
    calls.clear()
    kept.sum().backward(retain_graph=True)
    assert calls == [(8,)]


def test_a_leaf_whose_gradient_is_taken_away_is_freed_at_once():
    gc.disable()  # the note of a cycle owns nothing
    try:
        before = wg.memory_allocated()
        x = wg.rand((64, 64)).requires_grad_()
        (x**3).sum().backward(create_graph=True)
        x.grad = None
        del x
        assert wg.memory_allocated() <= before
    finally:
        gc.enable()


def test_grad_mode_is_put_back_whenever_ctrl_c_comes():
    """The interrupt is sent from within, by a thread, at any moment of entering and leaving."""
    done = run_python(
        """
        import _thread, threading, time, sys
        import wengert as wg
        sys.setswitchinterval(1e-6)
        left = 0
        for k in range(300):
            def interrupt():
                time.sleep(k % 7 * 1e-5)
                _thread.interrupt_main()
            thread = threading.Thread(target=interrupt)
            try:
                thread.start()
                end = time.monotonic() + 0.02
                while time.monotonic() < end:
                    with wg.no_grad():
                        with wg.enable_grad():
                            pass
            except KeyboardInterrupt:
                pass
            try:
                thread.join()
                time.sleep(1e-4)
            except KeyboardInterrupt:
                pass
            left += not wg.is_grad_enabled()
            wg.set_grad_enabled(True)
        print(left)
        """
    )
    assert done.strip() == "0"
