"""vmap: every op of rows.py under it is the stacked loop, with its gradients; PyTorch's vmap; what
it refuses, and what the refusal says."""

import numpy as np
import pytest
from rows import ROWS

import wengert as wg
from wengert import nn
from wengert.func import functional_call, grad, grad_and_value

F = nn.functional
EXAMPLES = 3


def close(a, b, eps=1e-9):
    a, b = a.detach().numpy(), b.detach().numpy()
    assert a.shape == b.shape and a.dtype == b.dtype
    finite = np.abs(b[np.isfinite(b)].astype(float)).max(initial=0)
    np.testing.assert_allclose(a, b, rtol=eps, atol=eps * max(1.0, finite))


def loop(f, args, axes):
    n = next(x.shape[axis] for x, axis in zip(args, axes, strict=True) if axis is not None)
    each = [
        f(
            *[
                x if axis is None else x.movedim(axis, 0)[i]
                for x, axis in zip(args, axes, strict=True)
            ]
        )
        for i in range(n)
    ]
    if isinstance(each[0], tuple):
        return tuple(wg.stack(ys) for ys in zip(*each, strict=True))
    return wg.stack(each)


def check(f, *args, axes=None, eps=1e-5):
    axes = (0,) * len(args) if axes is None else axes
    got, expected = wg.vmap(f, axes)(*args), loop(f, args, axes)
    for a, b in zip(*((y if isinstance(y, tuple) else (y,)) for y in (got, expected)), strict=True):
        close(a, b, eps)


def cases(row):
    """(axes, arguments): examples first, last, and with the first argument shared."""
    several = len(row.inputs) > 1
    for shapes in row.shapes:
        drawn = [
            [
                wg.tensor(x, "float64" if draw.kind == "f" else None)
                for x, draw in zip(row.draw(shapes, seed=seed), row.inputs, strict=True)
            ]
            for seed in range(EXAMPLES)
        ]
        for axis, shared in [(0, False), (-1, False), (0, True)][: 2 + several]:
            axes = [None if shared and i == 0 else axis for i in range(len(row.inputs))]
            yield (
                axes,
                [
                    drawn[0][i] if at is None else wg.stack([xs[i] for xs in drawn], at)
                    for i, at in enumerate(axes)
                ],
            )


OF_TENSORS = [row for row in ROWS if row.inputs]


@pytest.mark.parametrize("row", OF_TENSORS, ids=lambda row: row.name)
def test_each_row_is_the_stacked_loop(row):
    for axes, args in cases(row):
        close(wg.vmap(row.call, tuple(axes))(*args), loop(row.call, args, axes))


def weighed(y):
    return (y * wg.arange(1, y.numel() + 1, dtype="float64").reshape(y.shape).sin()).sum()


@pytest.mark.parametrize("row", [r for r in OF_TENSORS if r.gradient], ids=lambda row: row.name)
def test_gradients_in_vmap_and_around_it_are_those_of_the_loop(row):
    places = tuple(i for i, draw in enumerate(row.inputs) if draw.kind == "f")
    if not places:
        return

    def inner(*xs):
        return grad(lambda *xs: weighed(row.call(*xs)), places)(*xs)

    def second(*xs):
        return grad(lambda *xs: sum(weighed(d.square()) for d in inner(*xs)), places)(*xs)

    def around(f, args):
        leaves = [x.detach().requires_grad_() if i in places else x for i, x in enumerate(args)]
        own = [leaves[i] for i in places]
        first = wg.grad(weighed(f(*leaves)), own, create_graph=True, allow_unused=True)
        used = [d for d in first if d is not None and d.requires_grad]
        last = wg.grad(sum(weighed(d) for d in used), own, allow_unused=True) if used else []
        return [d for d in (*first, *last) if d is not None and (d != 0).any()]

    for number, (axes, args) in enumerate(cases(row)):
        if number % 3 == 1:
            continue
        fns = [(f, wg.vmap(f, tuple(axes))) for f in (inner, second)]
        for f, mapped in fns:
            try:
                expected = loop(f, args, axes)
            except wg.GradientError:  # the second gradient is none
                continue
            for a, b in zip(mapped(*args), expected, strict=True):
                close(a, b)
        try:
            expected = around(lambda *xs: loop(row.call, xs, axes), args)  # noqa: B023 - called here
        except wg.GradientError:
            continue
        for a, b in zip(around(wg.vmap(row.call, tuple(axes)), args), expected, strict=True):
            close(a, b)


LAYERS = {
    "linear": lambda: nn.Linear(8, 5),
    "norms": lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.RMSNorm(8)),
    "lstm": lambda: nn.LSTM(8, 5, batch_first=True),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
    "convolution": lambda: nn.Sequential(nn.Conv1d(6, 4, 3), nn.ReLU(), nn.MaxPool1d(2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_per_example_gradients_of_layers(name):
    """With shared parameters, and with others for each example (an ensemble)."""
    wg.manual_seed(1)
    layer = LAYERS[name]().double()
    x = wg.randn((4, 6, 8), "float64")
    parameters = {k: v.detach() for k, v in layer.named_parameters()}

    def loss(parameters, x):
        y = functional_call(layer, parameters, (x.unsqueeze(0),))
        return (y[0] if isinstance(y, tuple) else y).square().sum()

    found = wg.vmap(grad(loss), in_axes=(None, 0))(parameters, x)
    for i in range(4):
        for k, g in grad(loss)(parameters, x[i]).items():
            close(found[k][i], g)
    many = {k: wg.stack([v, 1.5 * v]) for k, v in parameters.items()}
    found = wg.vmap(grad(loss), in_axes=(0, None))(many, x[0])
    for i in range(2):
        for k, g in grad(loss)({k: v[i] for k, v in many.items()}, x[0]).items():
            close(found[k][i], g)
    assert all(p.requires_grad for p in layer.parameters())  # its own are back


def test_compositions():
    wg.manual_seed(0)
    x, ids = wg.randn((4, 6, 3)), wg.randint(0, 6, (4, 5))
    q, mask = wg.randn((4, 2, 5, 8)), wg.rand((4, 5, 5)) > 0.3
    check(lambda x, i: x[i], x, ids)
    check(lambda x, i: x[i], x[0], ids, axes=(None, 0))
    check(lambda x, i: x[i, :, i], wg.randn((4, 6, 3, 6)), ids)
    check(lambda t, i: F.embedding(i, t), x, ids)
    check(
        lambda t, i: grad(lambda t: F.embedding(i, t).square().sum())(t), x[0], ids, axes=(None, 0)
    )
    check(lambda a, b: wg.einsum("ij,kj->ik", a, b), x, x[0], axes=(0, None))
    check(lambda a, b: a @ b, x, wg.randn((4, 3)))
    check(lambda a, b: a @ b, wg.randn((4, 6)), x[0], axes=(0, None))
    check(lambda x: wg.topk(x, 2)[0], x)
    check(lambda x: wg.quantile(x, 0.3), x)
    check(lambda s, v: wg.searchsorted(s, v), wg.sort(x, 1)[0].movedim(1, 2)[:, 0], x)
    check(lambda a, b: a // b, ids, ids + 1)
    check(lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m), q, mask)
    check(lambda q, m: grad(lambda q: F.scaled_dot_product_attention(q, q, q, m).sum())(q), q, mask)
    check(lambda x, t: F.cross_entropy(x, t), x, wg.randint(0, 3, (4, 6)))
    check(lambda x: wg.linalg.inv(x[:3]).sum(), x.double(), eps=1e-6)
    check(lambda x: wg.autograd.hessian(lambda z: (z**3).sum() * z.sum(), x[0]), x, eps=1e-4)
    check(lambda x: wg.autograd.jvp(lambda z: z**3, x, x)[1], x)
    check(lambda x: grad(lambda x: wg.checkpoint(lambda z: z.sin().exp(), x).sum())(x), x)
    check(lambda x: wg.vmap(lambda y: wg.vmap(lambda z: z.sum() * y.sum())(x))(x), x)
    check(
        lambda x: wg.autograd.jacobian(lambda y: wg.vmap(lambda z: z.sin() * y.sum())(y), x),
        x[:, :2],
    )


def test_in_place():
    """What the function made is its own: edits, of parts too, with gradients within and around."""
    x = wg.randn((4, 3))

    def f(x):
        out = wg.zeros((3, 3))
        row = out[2]
        for i in range(2):
            out[i] = x * i
        out[:, 1] += 1  # the same for all
        row += x.square()
        y = (x * 1).add_(2).mul_(x)
        return out.sum(0) * y

    check(f, x)
    check(lambda x: grad(lambda x: f(x).square().sum())(x), x)
    a = x.detach().requires_grad_()
    got = wg.grad(weighed(wg.vmap(f)(a).double()), a)
    close(got, wg.grad(weighed(loop(f, [a], [0]).double()), a), 1e-5)


def test_history_within_and_around():
    w, x = wg.randn((3,)).requires_grad_(), wg.randn((4, 3))

    def penalty(x):
        z = x.detach().requires_grad_()
        (g,) = wg.grad((z * w).tanh().sum(), [z], create_graph=True)
        return g.square().sum()

    close(wg.grad(wg.vmap(penalty)(x).sum(), w), wg.grad(loop(penalty, [x], [0]).sum(), w), 1e-5)
    a = x.detach().requires_grad_()
    assert not wg.vmap(lambda x: x.detach() * 2)(a).requires_grad
    assert wg.vmap(lambda x: x * 2)(a).requires_grad
    with wg.no_grad():
        assert not wg.vmap(lambda x: x * 2)(a).requires_grad

    def own(x):
        leaf = x.detach().requires_grad_()
        (leaf**3).sum().backward()
        return leaf.grad

    close(wg.vmap(own)(x), 3 * x**2, 1e-5)


def test_compiled_equals_eager():
    x = wg.randn((4, 3))
    model = nn.Linear(3, 2)

    def gradients(p, x):
        return wg.vmap(
            grad(lambda p, x: functional_call(model, p, (x,)).square().sum()), (None, 0)
        )(p, x)

    p = {k: v.detach() for k, v in model.named_parameters()}
    step = wg.compile(gradients)
    for _ in range(3):
        got = step(p, x)
    for k, g in gradients(p, x).items():
        assert np.array_equal(got[k].numpy(), g.numpy())
    assert step.traces == 1
    inner = wg.compile(lambda x: x.sin().sum())
    check(inner, x)


def test_arguments_and_results():
    x = wg.randn((4, 3))
    got = wg.vmap(
        lambda d, k, *, s: {"a": d["a"] + d["b"][0] * k, "n": (s, None is k)[:1]},
        in_axes=({"a": 0, "b": [1]}, None),
        out_axes={"a": 1, "n": 0},
    )({"a": x, "b": [x.T]}, 2.0, s=wg.ones((2,)))
    close(got["a"], (x + 2 * x).T)
    assert got["n"][0].shape == (4, 2)
    assert wg.vmap(lambda x: wg.ones((2,)), out_axes=None)(x).shape == (2,)
    close(wg.vmap(lambda x: x * 2, chunk_size=3, out_dims=1)(x), (x * 2).T)
    close(wg.vmap(lambda x: x.sum(), in_dims=1)(x), x.sum(0))
    (g, (value, aux)) = wg.vmap(grad_and_value(lambda x: (x.square().sum(), x[0]), has_aux=True))(x)
    close(g, 2 * x)
    close(value, x.square().sum(1))
    close(aux, x[:, 0])


def test_random_numbers():
    x = wg.ones((4, 50))
    for draw in (lambda x: x * wg.rand((50,)), lambda x: F.dropout(x, 0.5, True)):
        with pytest.raises(ValueError, match='randomness="different"'):
            wg.vmap(draw)(x)
        many = wg.vmap(draw, randomness="different")(x).numpy()
        assert len({row.tobytes() for row in many}) == 4
        same = wg.vmap(draw, randomness="same")(x).numpy()
        assert len({row.tobytes() for row in same}) == 1 and same.std() > 0
    with pytest.raises(ValueError, match="vmap: randperm"):
        wg.vmap(lambda x: x[wg.randperm(50)], randomness="different")(x)
    assert wg.vmap(lambda x: x[wg.randperm(50)], randomness="same")(x).shape == (4, 50)


X, W, KEPT = wg.randn((4, 3)), wg.randn((3,)).requires_grad_(), wg.zeros((3,))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: wg.vmap(lambda x: x if x.sum() > 0 else -x)(X), ValueError, "wengert.where"),
        (lambda: wg.vmap(lambda x: x.sum().item())(X), ValueError, "looks at a value"),
        (lambda: wg.vmap(lambda x: x[x > 0])(X), ValueError, "nonzero"),
        (lambda: wg.vmap(lambda x: 3.0)(X), TypeError, r"wengert.tensor\(number\)"),
        (lambda: wg.vmap(lambda x, y: x)(X, X[:2]), wg.ShapeError, "argument 0 has 4, argument 1"),
        (lambda: wg.vmap(lambda x: x, in_axes=None)(X), ValueError, "no argument has an axis"),
        (lambda: wg.vmap(lambda x, k: x)(X, 3), TypeError, "write None for"),
        (lambda: wg.vmap(lambda x: x, 3)(X), IndexError, "in_axes for argument 0 is 3"),
        (lambda: wg.vmap(lambda x: x, (0, 0))(X), ValueError, "in_axes has 2 entries"),
        (lambda: wg.vmap(lambda x: x, ({"a": 0},))([X]), TypeError, "a tree of them like it"),
        (lambda: wg.vmap(lambda x: x, out_axes=None)(X), ValueError, "out_axes is None for"),
        (lambda: wg.vmap(lambda x: x, out_axes=2)(X), IndexError, "out_axes for the result is 2"),
        (lambda: wg.vmap(lambda x: x)(X[:0]), wg.ShapeError, "there are no examples"),
        (lambda: wg.vmap(lambda x: x, randomness="all")(X), ValueError, "randomness"),
        (lambda: wg.vmap(lambda x: x, chunk_size=0)(X), ValueError, "chunk_size"),
        (lambda: wg.vmap(lambda x: x.add_(1))(X), ValueError, r"one of its arguments.*clone\(\)"),
        (lambda: wg.vmap(lambda x: KEPT.add_(x))(X), ValueError, "from outside"),
        (lambda: wg.vmap(lambda x: KEPT.add_(1) * x)(X), ValueError, "return the new value"),
        (lambda: wg.vmap(lambda x: (x * W).sum().backward())(X), wg.GradientError, "wengert.grad"),
        (lambda: functional_call(nn.Linear(1, 1), {"v": X}, X), KeyError, "no parameter or buffer"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(call, error, text):
    with pytest.raises(error, match=text):
        call()
    assert (KEPT == 0).all() and W.grad is None
    close(wg.vmap(lambda x: x * 2)(X), X * 2)  # nothing is left behind


def test_what_outlives_its_vmap_has_no_values():
    kept = []

    def f(x):
        made = wg.zeros((3,))
        made[0] = x[1]
        kept.extend([x * 2, made])
        return x

    wg.vmap(f)(X)
    for y in kept:
        with pytest.raises(ValueError, match=r"wengert.vmap\): return it from there"):
            (y + 1).sum()
        with pytest.raises(ValueError, match="return it from there"):
            wg.vmap(lambda x, y=y: y * x)(X)


# ---- ops of one's own


def exp_rule(info, axes, x, k):
    assert axes == (0, None) and info.batch_size == 4 and x.shape == (4, 3)
    return wg.tensor(np.exp(x.detach().numpy()) * k).movedim(0, 1), 1


EXP = wg.custom_op(
    lambda x, k: wg.tensor(np.exp(x.detach().numpy()) * k),
    lambda g, y, x, k: (g * y, None), name="numpy_exp", batch=exp_rule,
)  # fmt: skip


@wg.custom_op(vjp=lambda g, y, x, w: (g * w * x.cos(), (g * x.sin()).sum()))
def scaled_sine(x, w):
    return w * x.sin()


class Both(wg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(x, y)
        return y, x.square()

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        return g * y + 2 * h * x


class NumpyBoth(wg.autograd.Function):
    @staticmethod
    def forward(x):
        return wg.tensor(np.exp(x.detach().numpy())), x * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output[0])

    @staticmethod
    def backward(ctx, g, h):
        (y,) = ctx.saved_tensors
        return g * y + 2 * h

    @staticmethod
    def vmap(info, in_dims, x):
        return (wg.tensor(np.exp(x.detach().numpy())), x * 2), (0, 0)


OWN = {
    "custom_op": (lambda x, w: scaled_sine(x, w[0]), lambda x, w: w[0] * x.sin()),
    "Function": (lambda x, w: sum(Both.apply(x * w)), lambda x, w: (x * w).exp() + (x * w) ** 2),
    "rule": (lambda x, w: EXP(x, 2.0) * w, lambda x, w: 2 * x.exp() * w),
    "Function.vmap": (
        lambda x, w: NumpyBoth.apply(x)[0] * w + NumpyBoth.apply(x)[1],
        lambda x, w: x.exp() * w + 2 * x,
    ),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("shared", [True, False])
def test_ops_of_ones_own(name, shared):
    own, of_ops = OWN[name]
    axes = (0, None if shared else 0)
    x = wg.randn((4, 3), "float64").requires_grad_()
    w = wg.randn((3,) if shared else (4, 3), "float64").requires_grad_()

    def results(f):
        y = wg.vmap(f, axes)(x, w)
        first = wg.grad(weighed(y), [x, w], create_graph=True)
        last = wg.grad(sum(weighed(d) for d in first), [x, w], allow_unused=True)
        inside = wg.vmap(lambda x, w: grad(lambda x: weighed(f(x, w)))(x), axes)(x, w)
        return [y, *first, *(d for d in last if d is not None), inside]

    for a, b in zip(results(own), results(of_ops), strict=True):
        close(a, b)


def test_nested_ops_of_ones_own():
    x = wg.randn((2, 4, 3), "float64").requires_grad_()
    w = wg.randn((4,), "float64").requires_grad_()

    def results(f):
        y = wg.vmap(wg.vmap(f), (0, None))(x, w)
        first = wg.grad(weighed(y), [x, w], create_graph=True)
        return [y, *first, *wg.grad(sum(weighed(d) for d in first), [x, w])]

    for a, b in zip(results(scaled_sine), results(lambda x, w: w * x.sin()), strict=True):
        close(a, b)


def test_rules_that_do_not_fit():
    x = wg.randn((4, 3))
    for returned, error, text in [
        (lambda x: x, TypeError, r"expected \(result, axes\)"),
        (lambda x: (x, 1), wg.ShapeError, "there are 4 examples"),
    ]:
        op = wg.custom_op(
            lambda x: x * 2, lambda g, y, x: g, batch=lambda i, a, x, r=returned: r(x)
        )
        with pytest.raises(error, match=text):
            wg.vmap(op)(x)


# ---- against PyTorch


def test_as_pytorch():
    torch = pytest.importorskip("torch")
    wg.manual_seed(3)
    x, y = wg.randn((5, 4)), wg.randint(0, 3, (5,))
    ours = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))
    p = {k: v.detach() for k, v in ours.named_parameters()}
    q = {k: torch.tensor(v.numpy()) for k, v in p.items()}

    def loss(call, cross_entropy, model):
        return lambda p, x, y: cross_entropy(call(model, p, (x.unsqueeze(0),)), y.unsqueeze(0))

    f = loss(functional_call, F.cross_entropy, ours)
    g = loss(torch.func.functional_call, torch.nn.functional.cross_entropy, theirs)
    given = torch.tensor(x.numpy()), torch.tensor(y.numpy())
    got = wg.vmap(grad(f), in_dims=(None, 0, 0), out_dims=1)(p, x, y)
    expected = torch.func.vmap(torch.func.grad(g), in_dims=(None, 0, 0), out_dims=1)(q, *given)
    for k, d in expected.items():
        np.testing.assert_allclose(got[k].numpy(), d.numpy(), rtol=1e-4, atol=1e-6)
    rows = wg.vmap(wg.vmap(lambda a, b: a * b, (0, None)), (None, 0))(x, x)
    np.testing.assert_array_equal(
        rows.numpy(),
        torch.func.vmap(torch.func.vmap(lambda a, b: a * b, (0, None)), (None, 0))(
            given[0], given[0]
        ).numpy(),
    )
