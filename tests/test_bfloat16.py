"""bfloat16: rounding against a model of it in NumPy, ops against float32 computed and rounded,
products against float64, promotion, gradients, and the ways in and out."""

from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

import wengert as wg
from wengert import io, nn
from wengert.testing import assert_close

SPECIAL = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 1e-45, 1e-40, 9.18e-41, 1.1754944e-38),
        *(3.3895314e38, 3.3961775e38, 3.4e38),  # the largest, the tie above it, infinity
        *(1.00390625, 1.01171875, 1.0039062, 1.0039064, -1.00390625),  # ties and their neighbours
    ],
    np.float32,
)
SIZES = (0, 1, 7, 511, 512, 513, 20000)


def rounded(x):
    """The nearest bfloat16, ties to even, as float32: by comparing the two neighbours."""
    x = np.asarray(x, np.float32)
    low = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        step = (low.view(np.uint32) + np.uint32(0x10000)).view(np.float32)
        # In units that double holds: beyond the largest finite number comes 2**128.
        up = np.where(np.isinf(step), np.copysign(np.float64(2.0**128), x), step.astype(np.float64))
        down = abs(x.astype(np.float64) - low)
        over = abs(up - x.astype(np.float64))
        even = (low.view(np.uint32) >> 16 & 1) == 0
        y = np.where((down < over) | ((down == over) & even), low, step)
    return np.where(np.isfinite(x), y, x).astype(np.float32)


def values(shape, seed=0, low=-3.0, high=3.0):
    return rounded(np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32))


def bf(x):
    return wg.tensor(np.asarray(x, np.float32)).bfloat16()


def back(x):
    assert x.dtype == wg.bfloat16
    return x.detach().float().numpy()


# ---- the type


def test_dtype():
    t = wg.bfloat16
    assert (t.name, t.itemsize, t.is_floating_point) == ("bfloat16", 2, True)
    assert repr(t) == "wengert.bfloat16" and t == "bfloat16" and copy.deepcopy(t) == t
    x = wg.zeros((2, 3), dtype=t)
    assert x.dtype is t and x.itemsize == 2 and x.nbytes == 12
    assert wg.tensor([1.5], dtype="bfloat16").tolist() == [1.5]
    assert wg.ones(2).to(wg.bfloat16).dtype is wg.ones(2).bfloat16().dtype is t


def test_rounding_of_special_values():
    np.testing.assert_array_equal(back(bf(SPECIAL)), rounded(SPECIAL))
    np.testing.assert_array_equal(np.signbit(back(bf(SPECIAL))), np.signbit(SPECIAL))


def test_rounding_of_any_bits():
    bits = np.random.default_rng(1).integers(0, 2**32, 1 << 20, np.uint32)
    ties = (bits[: 1 << 16] & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    x = np.concatenate([bits, ties, ties - np.uint32(1), ties + np.uint32(1)]).view(np.float32)
    y = back(bf(x))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    good = ~np.isnan(x)
    np.testing.assert_array_equal(y[good], rounded(x[good]))


def test_every_nan_stays_one():
    low = np.arange(1, 1 << 16, dtype=np.uint32)
    payloads = np.concatenate([low, low << 7, np.array([0x7FFFFF], np.uint32)])
    for sign in (0x7F800000, 0xFF800000):
        x = (payloads & np.uint32(0x7FFFFF) | np.uint32(sign)).view(np.float32)
        x = x[np.isnan(x)]
        y = back(bf(x))
        assert np.isnan(y).all() and (np.signbit(y) == np.signbit(x)).all()


def test_widening_is_exact():
    bits = np.arange(1 << 16, dtype=np.uint32) << 16
    x = bits.view(np.float32)
    y = back(bf(x))
    good = ~np.isnan(x)
    np.testing.assert_array_equal(y.view(np.uint32)[good], bits[good])
    assert np.isnan(y[~good]).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float64"])
@pytest.mark.smoke
def test_casts(dtype):
    x = np.array([0, 1, 2, 127, 200, 255]).astype(dtype)
    y = wg.tensor(x).bfloat16()
    np.testing.assert_array_equal(back(y), rounded(x.astype(np.float32)))
    np.testing.assert_array_equal(y.to(dtype).numpy(), back(y).astype(dtype))
    edge = bf([np.nan, np.inf, -np.inf, -3.7])
    assert edge.to("int32").tolist() == edge.float().to("int32").tolist()


@pytest.mark.parametrize("other", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_promotion(other):
    expected = other if other.startswith("float") else "bfloat16"
    x, y = bf([1, 2]), wg.ones(2).to(other)
    assert (x + y).dtype == (y + x).dtype == (y * x).dtype == expected
    assert wg.where(wg.tensor([True, False]), x, y).dtype == expected
    assert wg.concatenate([y, x]).dtype == expected
    assert (x + 1).dtype == (1.5 * x).dtype == (x / 3).dtype == "bfloat16"
    assert (x < y).dtype == "bool"


def test_shown():
    assert repr(bf([[1, 2.5]])) == "tensor([[1. , 2.5]], dtype=bfloat16)"
    assert f"{bf(1.5):.2f}" == "1.50"
    assert bf([1.5, 2]).tolist() == [1.5, 2.0] and bf(3).item() == 3.0 and bool(bf(1))
    assert 2.5 in bf([1, 2.5])


# ---- ops

UNARY = [
    *("exp", "expm1", "tanh", "sigmoid", "relu", "sin", "cos", "square", "abs", "sign", "floor"),
    *("ceil", "round", "gelu", "softplus", "silu"),
]


def wide_then_rounded(f, *inputs):
    y = f(*(x.float() if x.dtype == wg.bfloat16 else x for x in inputs))
    return rounded(y.detach().numpy())


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.smoke
def test_unary_is_rounded_once(name, size):
    f = getattr(wg, name)
    x = bf(values(size))
    np.testing.assert_array_equal(back(f(x)), wide_then_rounded(f, x))


@pytest.mark.parametrize("f", [wg.add, wg.sub, wg.mul, wg.div, wg.maximum, wg.minimum])
def test_binary_is_rounded_once(f):
    shapes = [((n,), (n,)) for n in SIZES]
    shapes += [
        ((600,), ()),
        ((), (600,)),
        ((70, 30), (30,)),
        ((70, 30), (70, 1)),
        ((3, 1, 5), (4, 1)),
    ]
    for i, (a, b) in enumerate(shapes):
        x, y = bf(values(a, i)), bf(values(b, i + 99, 0.5))
        np.testing.assert_array_equal(back(f(x, y)), wide_then_rounded(f, x, y))


def test_strides_do_not_matter():
    base = values((40, 60, 3))
    x = bf(base)
    for view in (
        lambda t: t.swapaxes(0, 2),
        lambda t: t[::2, ::-3],
        lambda t: t[5, :, 1],
        lambda t: t[:, 7],
    ):
        np.testing.assert_array_equal(back(view(x)), view(base))
        np.testing.assert_array_equal(back(wg.exp(view(x))), wide_then_rounded(wg.exp, view(x)))
    y = wg.zeros((60, 40), dtype="bfloat16")
    y.T[...] = x[:, :, 0]
    np.testing.assert_array_equal(back(y), base[:, :, 0].T)


def test_comparisons_and_where():
    a, b = values(700, 1), values(700, 2)
    b[::3] = a[::3]
    x, y = bf(a), bf(b)
    for f, g in ((wg.eq, np.equal), (wg.lt, np.less), (wg.ge, np.greater_equal)):
        np.testing.assert_array_equal(f(x, y).numpy(), g(a, b))
    np.testing.assert_array_equal(back(wg.where(x < y, x, y)), np.where(a < b, a, b))


def test_indexing_moves_values():
    a = values((9, 4))
    x = bf(a)
    rows = np.array([3, 0, 8, 3])
    np.testing.assert_array_equal(back(x[rows]), a[rows])
    np.testing.assert_array_equal(back(x[x > 0]), a[a > 0])
    np.testing.assert_array_equal(back(wg.concatenate([x, x[:2]])), np.concatenate([a, a[:2]]))
    np.testing.assert_array_equal(back(x.reshape(4, 9)), a.reshape(4, 9))
    x[1] = 7
    x[rows] = bf(a[:4])
    a[1] = 7
    a[rows] = values((9, 4))[:4]
    np.testing.assert_array_equal(back(x), a)


def test_in_place():
    x = bf(values(600))
    expected = wide_then_rounded(lambda t: t * 1.5, x)
    x *= 1.5
    np.testing.assert_array_equal(back(x), expected)
    x += wg.ones(600, dtype="int32")
    np.testing.assert_array_equal(back(x), rounded(expected + 1))
    with pytest.raises(wg.DTypeError, match="bfloat16"):
        x.add_(wg.ones(600))
    x.copy_(wg.full(600, 1.00390625 + 1e-6))
    assert x.tolist() == [1.0078125] * 600


LONG = [
    lambda x: wg.sum(x),
    lambda x: wg.sum(x, axis=0),
    lambda x: wg.mean(x, axis=1),
    lambda x: wg.max(x, axis=1),
    lambda x: wg.var(x, axis=1),
    lambda x: wg.softmax(x, axis=1),
    lambda x: wg.log_softmax(x, axis=0),
    lambda x: wg.logsumexp(x, axis=1),
]


@pytest.mark.parametrize("i", range(len(LONG)))
def test_reductions_run_in_float32(i):
    x = bf(values((300, 70)))
    y = LONG[i](x)
    if i == 4:  # of several steps, each rounded
        return assert_close(y.float(), LONG[i](x.float()), rtol=0.05, atol=0.05)
    np.testing.assert_array_equal(back(y), wide_then_rounded(LONG[i], x))


def test_a_long_sum_does_not_stick():
    assert wg.ones(10000, dtype="bfloat16").sum().item() == 9984.0  # the nearest to 10000
    table = wg.zeros((2, 1), dtype="bfloat16").requires_grad_()
    table[wg.zeros(1000, dtype="int64")].sum().backward()
    assert table.grad.tolist() == [[1000.0], [0.0]]


def test_integers_from_bfloat16():
    x = bf(values((5, 6)))
    assert wg.argmax(x, axis=1).tolist() == x.float().numpy().argmax(1).tolist()
    assert wg.any(x > 0).item() is True


def test_random():
    wg.manual_seed(3)
    u, n = wg.rand((1000,), "bfloat16"), wg.randn((1000,), wg.bfloat16)
    assert u.dtype == n.dtype == wg.bfloat16
    assert back(u).min() >= 0 and back(u).max() <= 1 and abs(back(n).mean()) < 0.2


# ---- products


def product_bound(a, b):
    """Float32 sums of exact products, then one rounding."""
    k = a.shape[-1]
    exact = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    return exact * (k + 2) * 2.0**-23 + np.abs(a.astype(np.float64) @ b) * 2.0**-8 + 1e-40


SHAPES = [
    *((1, 1, 1), (1, 5, 1), (3, 1, 4), (2, 2, 2), (1, 64, 33), (64, 300, 1), (5, 7, 9)),
    *((17, 33, 31), (64, 64, 64), (100, 129, 65), (3, 1000, 40), (130, 512, 70), (4, 9001, 6)),
]


@pytest.mark.parametrize("m, k, n", SHAPES)
@pytest.mark.smoke
def test_matmul(m, k, n):
    a, b = values((m, k), m), values((k, n), n)
    exact, bound = a.astype(np.float64) @ b, product_bound(a, b)
    first = None
    for a_t, b_t in itertools.product((False, True), repeat=2):
        x = bf(a.T).T if a_t else bf(a)
        y = bf(b.T).T if b_t else bf(b)
        got = back(x @ y)
        assert (np.abs(got - exact) <= bound).all()
        first = got if first is None else first
        np.testing.assert_array_equal(got, first)  # the strides leave no trace


def test_matmul_of_views():
    base = values((41, 90))
    x = bf(base)
    for a, b in (
        (x[:, 1:40], x[:39, 3:50]),  # odd offsets and strides
        (x[::2, ::-1], x[::-1].T[:, ::3]),
        (x[:, :0], x[:0, :7]),
        (x[:, 5:5], wg.zeros((0, 4), dtype="bfloat16")),
    ):
        wide = a.float().numpy(), b.float().numpy()
        got = back(a @ b)
        assert got.shape == (a.shape[0], b.shape[1])
        assert (np.abs(got - wide[0].astype(np.float64) @ wide[1]) <= product_bound(*wide)).all()


def test_matmul_of_stacks_and_vectors():
    a, b = values((4, 1, 9, 13), 1), values((3, 13, 6), 2)
    got = back(bf(a) @ bf(b))
    assert got.shape == (4, 3, 9, 6)
    for i, j in np.ndindex(4, 3):
        np.testing.assert_array_equal(got[i, j], back(bf(a[i, 0]) @ bf(b[j])))
    v = values(13, 3)
    assert (bf(a[0, 0]) @ bf(v)).shape == (9,) and (bf(v) @ bf(b[0])).shape == (6,)
    assert abs((bf(v) @ bf(v)).item() - (v.astype(np.float64) ** 2).sum()) < 0.3


def test_matmul_keeps_infinities_and_nans():
    a, b = values((20, 31)), values((31, 20))
    a[3, 30], a[5, 4] = np.inf, np.nan
    got = back(bf(a) @ bf(b))
    assert np.isnan(got[5]).all() and np.isinf(got[3]).all()
    assert np.isfinite(np.delete(got, (3, 5), 0)).all()


SMALL = {
    "a subnormal number": (2.0**-130, 1e30),
    "products below 2^-126": (2.0**-66, 2.0**-64),
    "only one of both": (2.0**-133, 1.0),
    "sums of a few of the smallest": (2.0**-100, 2.0**-33),
}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("m, k, n", [(3, 5, 4), (35, 70, 40), (130, 129, 70)])
def test_matmul_keeps_small_numbers(kind, m, k, n):
    """Processors' instructions take what is below 2^-126 for 0, in operands and in sums."""
    low, high = SMALL[kind]
    a, b = np.zeros((m, k), np.float32), values((k, n), 1, 1.0, 2.0)
    b[:, ::2] *= np.float32(high)
    rows = np.arange(0, m, 3)
    a[rows, rows % k] = low
    exact = a.astype(np.float64) @ b
    for a_t, b_t in itertools.product((False, True), repeat=2):
        x = bf(a.T).T if a_t else bf(a)
        y = bf(b.T).T if b_t else bf(b)
        got = back(x @ y)
        assert (np.abs(got - exact) <= np.abs(exact) * 2.0**-8 + 2.0**-134).all()
        assert (got[rows][:, ::2] > 0).all()
        for got in (back((x.unsqueeze(0) @ y)[0]), back((wg.stack([x, x]) @ y)[1])):
            np.testing.assert_array_equal(got, back(x @ y))


def test_matmul_keeps_small_differences():
    a = np.array([[2.0**-63 * (1 + 2.0**-7), 2.0**-63]], np.float32)
    b = np.array([[2.0**-63, 0], [-(2.0**-63), 0]], np.float32)
    assert back(bf(a) @ bf(b))[0, 0] == 2.0**-133


def test_matmul_of_a_row_does_not_depend_on_small_numbers_in_others():
    a, b = values((200, 300), 1), values((300, 200), 2)
    a[1::2] *= np.float32(1e-38)
    b[:, 1::2] *= np.float32(1e-3)
    x, y = bf(a), bf(b)
    got = back(x @ y)
    np.testing.assert_array_equal(got[::2], back(x[::2] @ y))
    np.testing.assert_array_equal(got[:, ::2], back(x @ y[:, ::2]))
    np.testing.assert_array_equal(got[7:8], back(x[7:8] @ y))


def test_matmul_has_the_same_bits_for_any_threads():
    x, y = bf(values((300, 700), 1)), bf(values((700, 260), 2))
    before = wg.num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            wg.set_num_threads(n)
            results.append(back(x @ y))
    finally:
        wg.set_num_threads(before)
    for r in results[1:]:
        np.testing.assert_array_equal(r, results[0])


def test_matmul_promotes():
    x = bf(values((3, 4)))
    assert (x @ wg.ones((4, 2))).dtype == wg.float32
    assert (x @ wg.ones((4, 2), dtype="int64")).dtype == wg.bfloat16


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512bf16"])
def test_matmul_of_other_machines(isa):
    """What this processor lacks is lowered to what it has."""
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "matmul and not machines"]
    env = os.environ | {"WENGERT_ISA": isa}
    out = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stdout


# ---- gradients


def test_gradients_of_mixed_precision():
    """Parameters in float32, the product in bfloat16: as one trains with it."""
    random = np.random.default_rng(0)
    x, target = values((64, 20)), random.integers(0, 5, 64)
    w = wg.tensor(random.normal(size=(20, 5)).astype(np.float32) / 4).requires_grad_()

    def loss(convert):
        return wg.cross_entropy(convert(wg.tensor(x)) @ convert(w), wg.tensor(target))

    grads = []
    for convert in (lambda t: t.bfloat16(), lambda t: t):
        w.grad = None
        y = loss(convert)
        y.backward()
        assert w.grad.dtype == wg.float32
        grads.append(w.grad.numpy().copy())
    np.testing.assert_allclose(grads[0], grads[1], atol=2e-3)
    assert np.abs(grads[1]).max() > 0.05


@pytest.mark.parametrize(
    "f",
    [
        lambda x: wg.tanh(x) * x,
        lambda x: wg.softmax(x, axis=1) * x,
        lambda x: x.mean(axis=0) - x,
        lambda x: x[1:] * x[:-1],
        lambda x: x[:, [0, 0, 2]],
        lambda x: wg.where(x > 0, x, 0.5 * x),
        lambda x: wg.layer_norm(x, x.shape[-1:]),
    ],
)
@pytest.mark.smoke
def test_gradients(f):
    a = values((6, 8))
    x, wide = bf(a).requires_grad_(), wg.tensor(a).requires_grad_()
    f(x).sum().backward()
    f(wide).sum().backward()
    assert x.grad.dtype == wg.bfloat16
    assert_close(x.grad.float(), wide.grad, rtol=0.05, atol=0.06)


def test_second_gradient():
    x = bf([0.5, 1.0]).requires_grad_()
    (g,) = wg.grad((x * x * x).sum(), [x], create_graph=True)
    (h,) = wg.grad(g.sum(), [x])
    np.testing.assert_allclose(back(h), [3.0, 6.0], rtol=0.02)


def test_optimizers_want_float32():
    p = nn.Parameter(bf([1, 2]))
    with pytest.raises(wg.DTypeError, match="float32"):
        wg.optim.SGD([p], lr=0.1)


def test_module():
    model = nn.Linear(8, 4)
    x = wg.tensor(values((5, 8)))
    wide = model(x).detach()
    assert model.bfloat16() is model
    y = model(x.bfloat16())
    assert y.dtype == wg.bfloat16
    assert_close(y.float().detach(), wide, rtol=0.03, atol=0.03)
    nn.Linear(8, 4).load_state_dict(model.state_dict())


def test_compiled_step():
    w = wg.tensor(values((12, 12))).requires_grad_()

    def step(x):
        y = wg.tanh(x.bfloat16() @ w.bfloat16() + 0.5)
        loss = (y * y).sum().float()
        loss.backward()
        return loss, y

    x = wg.tensor(values((20, 12), 5))
    expected, y = step(x)
    gradient = w.grad.numpy().copy()
    w.grad = None
    compiled = wg.compile(step)
    for _ in range(3):
        w.grad = None
        loss, again = compiled(x)
        np.testing.assert_array_equal(back(again), back(y))
        assert loss.item() == expected.item()
        np.testing.assert_array_equal(w.grad.numpy(), gradient)


# ---- in and out


def test_numpy_says_what_to_do():
    for f in (lambda x: x.numpy(), np.asarray):
        with pytest.raises(wg.DTypeError, match=r"\.float\(\)"):
            f(bf([1]))
    with pytest.raises(BufferError):
        memoryview(bf([1]))


def test_dlpack():
    x = bf([1, 2.5])
    y = wg.from_dlpack(Producer(x))
    assert y.dtype == wg.bfloat16 and y.tolist() == [1.0, 2.5]


class Producer:
    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)


def test_files(tmp_path):
    a = np.concatenate([SPECIAL, values(1000)])
    tensors = {"b": bf(a).reshape(-1, 2), "f": wg.ones(3), "t": bf(values((4, 6))).T}
    io.save(tmp_path / "x", tensors)
    for options in ({}, {"mmap": True}, {"verify": True}):
        loaded = io.load(tmp_path / "x", **options)
        for name, x in tensors.items():
            assert loaded[name].dtype == x.dtype and loaded[name].shape == x.shape
            np.testing.assert_array_equal(loaded[name].float().numpy(), x.float().numpy())


def test_files_of_others(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    a = values(100)
    library.save_file({"x": torch.tensor(a).bfloat16()}, tmp_path / "t")
    np.testing.assert_array_equal(back(io.load(tmp_path / "t")["x"]), a)
    io.save(tmp_path / "w", {"x": bf(a)})
    np.testing.assert_array_equal(library.load_file(tmp_path / "w")["x"].float().numpy(), a)


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    bits = np.random.default_rng(2).integers(0, 2**32, 1 << 18, np.uint32)
    x = np.concatenate([bits.view(np.float32), SPECIAL])
    x = x[~np.isnan(x)]
    np.testing.assert_array_equal(back(bf(x)), torch.tensor(x).bfloat16().float().numpy())
    for name in ("bool", "uint8", "int32", "int64", "float32", "float64"):
        theirs = torch.promote_types(torch.bfloat16, getattr(torch, name))
        ours = (bf([1]) + wg.ones(1).to(name)).dtype.name
        assert str(theirs) == f"torch.{ours}"
    y = wg.from_dlpack(torch.tensor([1.5, 2]).bfloat16())
    assert y.tolist() == [1.5, 2.0]
    assert torch.from_dlpack(bf([1.5, 2])).tolist() == [1.5, 2.0]
