"""The engine on a GPU: every row of rows.py, and what the rows do not reach.

With a GPU: `pytest tests/gpu/on_gpu.py`. Without: test_cuda.py runs this file against a library
made of the same kernels, compiled for the CPU (tests/gpu/emulation.h). What is exact is compared
exactly with the CPU: copies, indexing, random numbers; everything else to rounding.
"""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import numpy as np
import pytest
from rows import ROWS, Row, Shapes
from test_ops import CASES, FLOATS, GRADIENT_CASES, assert_within, name, quiet, tensors
from training import OPTIMIZERS, Training, batches

import wengert as wg
from wengert import nn, optim
from wengert.testing import assert_close

if not wg.cuda.is_available():
    pytest.skip(wg.cuda.status(), allow_module_level=True)

DEBUGGING = os.environ.get("WENGERT_CUDA_DEBUG", "0") != "0"  # csrc/gpu/runtime.cu


def on_gpu(x: Any) -> Any:
    return x.to("cuda") if isinstance(x, wg.Tensor) else x


def same_bits(a: wg.Tensor, b: wg.Tensor) -> None:
    assert a.dtype == b.dtype
    if a.dtype == "bfloat16":  # NumPy has none
        a, b = a.float(), b.float()
    assert a.cpu().numpy().tobytes() == b.cpu().numpy().tobytes()


# ---- the rows ------------------------------------------------------------------------------------


def test_every_op_has_a_kernel() -> None:
    # The gradient of prod and batch_norm in training are, on a GPU, several ops in their place.
    without = {op["name"] for op in wg._core.ops() if not op["cuda"]}
    assert without == {"product_of_others", "batch_norm", "batch_norm_vjp"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("row", "shapes"), [c for c in CASES if c[0].inputs], ids=name)
def test_value(row: Row, shapes: Shapes, dtype: str) -> None:
    given = tensors(row, row.draw(shapes), dtype)
    y = row.call(*map(on_gpu, given))
    assert y.device == "cuda:0"
    same_bits(row.call(*map(on_gpu, given)), y)
    wide = [x.numpy().astype(float) if x.dtype.is_floating_point else x.numpy() for x in given]
    assert_within(y.cpu().numpy(), quiet(row.reference, *wide), row)


def gradients(row: Row, given: list[wg.Tensor]) -> list[Any]:
    """First and second, with fixed cotangents."""
    leaves = [x.requires_grad_() for x in given if x.dtype.is_floating_point]
    y = row.call(*given)
    weights = wg.rand(y.shape, y.dtype, wg.Generator(1)).to(y.device)
    first = wg.grad(y, leaves, weights, create_graph=True, allow_unused=True)
    total = sum((g.square().sum() for g in first if g is not None), wg.zeros(()).to(y.device))
    if not total.requires_grad:
        return list(first)
    return [*first, *wg.grad(total, leaves, allow_unused=True)]


@pytest.mark.parametrize(("row", "shapes"), GRADIENT_CASES, ids=name)
def test_gradients(row: Row, shapes: Shapes) -> None:
    given = tensors(row, row.draw(shapes), "float64")
    expected = gradients(row, [x.clone() for x in given])
    found = gradients(row, [x.to("cuda") for x in given])
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.device == "cuda:0"
            assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("row", [r for r in ROWS if r.inputs], ids=name)
def test_strides(row: Row) -> None:
    """Inputs that lie in memory backwards and with gaps."""
    given = tensors(row, row.draw(row.shapes[0]), "float32")

    def gaps(x: wg.Tensor) -> wg.Tensor:
        if x.ndim == 0:
            return on_gpu(x)
        wide = wg.zeros((*x.shape, 3), x.dtype, "cuda")
        wide[..., 1] = x
        flipped = wide[::-1].clone()[::-1]  # the values in order, the memory backwards
        return flipped[..., 1]

    assert_close(row.call(*map(gaps, given)), row.call(*given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int32", "int64", "bfloat16", "float32", "float64"]
)
def test_casts_and_integers(dtype: str) -> None:
    x = wg.tensor(np.array([0, 1, 2, 200, 7, 3] * 50), dtype)
    g = x.to("cuda")
    for other in ("bool", "uint8", "int32", "int64", "bfloat16", "float32", "float64"):
        same_bits(g.to(other), x.to(other))
    same_bits(g.to("cuda").reshape(20, 15).T.contiguous(), x.reshape(20, 15).T.contiguous())
    if dtype != "bool":
        for f in (lambda a: a * a + 3, lambda a: a // 3, lambda a: a % 7, lambda a: -a, wg.maximum):
            same_bits(*(f(a, a) if f is wg.maximum else f(a) for a in (g, x)))
    for f in (wg.sum, wg.prod, wg.max, wg.min, wg.any, wg.all, wg.argmax, wg.argmin):
        assert f(g).item() == f(x).item()
        same_bits(f(g.reshape(20, 15), 0), f(x.reshape(20, 15), 0))


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int32", "int64", "bfloat16", "float32", "float64"]
)
@pytest.mark.parametrize("n", [1, 37, 300])
def test_order(dtype: str, n: int) -> None:
    """The CPU's order, also of equal values, zeros with signs, and NaN."""
    a = np.random.default_rng(n).integers(-8 if dtype[0] in "ifb" else 0, 8, (3, n)).astype(float)
    if wg.tensor([0], dtype).dtype.is_floating_point:
        a[:, 1::5], a[:, 3::7], a[0, ::9], a[1, ::9] = -0.0, np.nan, np.inf, -np.inf
    x = wg.tensor(a, dtype)
    g = x.to("cuda")
    for descending in (False, True):
        for part in ((0, n), (0, n // 3), (n // 2, 1)):
            for p, q in zip(
                *(wg._core._sort(t, 1, *part, descending) for t in (g, x)), strict=True
            ):
                assert p.device == "cuda:0"
                same_bits(p, q)
    for right in (False, True):
        same_bits(*(wg.searchsorted(t.sort().values, t, right=right) for t in (g, x)))
    same_bits(g.unique(), x.unique())


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_scans_of_long_lines(dtype: str) -> None:
    """Lines of several pieces, alone, side by side, and as columns; both ways."""
    x = wg.tensor(np.random.default_rng(0).integers(0, 9, (2, 9001, 3)), dtype)
    for y in (x, x.reshape(2, -1), x.flatten()):
        for axis in range(y.ndim):
            g = y.to("cuda")
            same_bits(g.cumsum(axis), y.cumsum(axis))
            for a, b in zip(g.cummax(axis), y.cummax(axis), strict=True):
                same_bits(a, b)
            if dtype != "float64":
                continue
            u, v = g.clone().requires_grad_(), y.clone().requires_grad_()
            for op in ("cumsum", "cumprod", "logcumsumexp"):
                a, b = (getattr(t * 1e-4 + 1, op)(axis) for t in (u, v))
                assert_close(a, b, 1e-11, 1e-11)
                (da,), (db,) = wg.grad(a.sum(), [u]), wg.grad(b.sum(), [v])
                assert_close(da, db, 1e-11, 1e-11)


@pytest.mark.parametrize(("row", "shapes"), [c for c in CASES if c[0].inputs], ids=name)
def test_bfloat16(row: Row, shapes: Shapes) -> None:
    """The CPU's values, but for the last bit, where a function's last bit in float32 decides it."""
    given = tensors(row, row.draw(shapes), "bfloat16")
    try:
        expected = row.call(*given)
    except wg.DTypeError:
        return
    y = row.call(*map(on_gpu, given))
    assert y.dtype == expected.dtype and y.device == "cuda:0"
    assert_close(y.double(), expected.double(), rtol=2**-7, atol=1e-6)


def test_bfloat16_goes_back_through_a_network() -> None:
    found = []
    for device in ("cpu", "cuda"):
        x, w, v, table = (
            wg.randn(s, "bfloat16", wg.Generator(50 + len(s) + s[0]), device).requires_grad_()
            for s in ((3, 40, 36), (36, 36), (36,), (9, 36))
        )
        ids = wg.randint(0, 9, (3, 40), wg.Generator(51), device)
        h = wg.layer_norm(x @ w + wg.embedding(ids, table), 36, v)
        y = wg.scaled_dot_product_attention(h, wg.gelu(h), wg.where(h > 0, h, h * 0.5))
        loss = (y[:, ::2, 1:].mT.contiguous() * 0.1).float().square().mean()
        found.append([loss.detach(), *wg.grad(loss, [x, w, v, table])])
        assert all(g.dtype == "bfloat16" for g in found[-1][1:])
    for a, b in zip(*found, strict=True):
        scale = float(np.abs(a.double().numpy()).max())
        assert_close(b.double(), a.double(), rtol=0, atol=scale / 16)


# ---- sizes that the rows do not reach ------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 1023, 1024, 20_000])
@pytest.mark.parametrize("start", [0, 1])
def test_long_runs(n: int, start: int) -> None:
    """16 bytes at a time, the rest, and memory that is not aligned to them."""
    x = wg.randn(n + start, generator=wg.Generator(2))
    a, b = x[start:], x.to("cuda")[start:]
    assert_close(b.sigmoid(), a.sigmoid(), rtol=2e-6, atol=0)
    same_bits(b + b, a + a)
    same_bits(b * 2.5, a * 2.5)
    same_bits(1.5 - b, 1.5 - a)
    same_bits(b + b[:1], a + a[:1])


@pytest.mark.parametrize("n", [1, 7, 8, 1023, 4096, 20_003])
@pytest.mark.parametrize("start", [0, 1, 4])
def test_long_runs_of_bfloat16(n: int, start: int) -> None:
    """Eight at a time, the rest, and memory that is not aligned: the CPU's bits each."""
    x = wg.randn(n + start, "bfloat16", wg.Generator(2))
    a, b = x[start:], x.to("cuda")[start:]
    for f in (
        lambda v: v + v * v,
        lambda v: 1.5 - v,
        lambda v: v * v[:1],
        lambda v: v.relu(),
        lambda v: wg.where(v > 0.5, v, v / 3),
        lambda v: v.reshape(1, -1).T.square(),
    ):
        same_bits(f(b), f(a))
    x = wg.tensor([np.inf, -np.inf, np.nan, 3e38, -0.0, 1e-40, 1.0, 2.0], "bfloat16")
    same_bits(x.to("cuda") * 2, x * 2)


@pytest.mark.parametrize("shape", [(70_000,), (3, 20_001), (9000, 7), (5, 900, 33), (2, 3, 4, 5)])
@pytest.mark.parametrize("op", ["sum", "mean", "max", "argmin", "prod", "logsumexp"])
def test_long_reductions(shape: tuple[int, ...], op: str) -> None:
    x = wg.rand(shape, generator=wg.Generator(3)) * 0.01 + 0.995
    f = getattr(wg, op)
    for axis in [None, *range(len(shape))]:
        a, b = f(x, axis), f(x.to("cuda"), axis)
        if op in ("max", "argmin"):
            same_bits(a, b)
        else:
            assert_close(b, a, rtol=1e-6, atol=1e-6)


def test_equal_elements_and_nan_in_long_reductions() -> None:
    x = np.ones(50_000, "float32")
    g = wg.tensor(x, device="cuda")
    assert wg.argmax(g).item() == 0
    x[[40_123, 44_000]] = np.nan
    g = wg.tensor(x, device="cuda")
    assert wg.argmax(g).item() == wg.argmin(g).item() == 40_123
    assert np.isnan(g.max().item()) and np.isnan(g.sum().item())


@pytest.mark.parametrize("n", [1, 33, 1024, 1025, 3000])
def test_rows_of_softmax(n: int) -> None:
    rows = 70 if n == 1025 else 5  # 70: more than there are blocks in the emulation's grid
    x = wg.randn((rows, n), generator=wg.Generator(4)) * 5
    t = wg.randint(0, n, (rows,), generator=wg.Generator(5))
    for f in (wg.softmax, wg.log_softmax, lambda a: wg.logsumexp(a, 1)):
        assert_close(f(x.to("cuda")), f(x), rtol=1e-5, atol=1e-5)
        a, b = x.double().requires_grad_(), x.double().to("cuda").requires_grad_()
        f(a).square().sum().backward()
        f(b).square().sum().backward()
        assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-10)
    a, b = x.clone().requires_grad_(), x.to("cuda").requires_grad_()
    wg.cross_entropy(a, t).backward()
    wg.cross_entropy(b, t.to("cuda")).backward()
    assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (70, 33), (3, 1025), (2, 40, 3000), (0, 5), (4, 0)])
def test_layer_norm(shape: tuple[int, ...]) -> None:
    n = shape[-1]
    given = [wg.randn(s, generator=wg.Generator(30 + len(s))) * 3 + 2 for s in (shape, (n,), (n,))]
    for count in (1, 2, 3):
        for dtype, tolerance in (("float32", 2e-5), ("float64", 1e-11)):
            found = []
            for device in ("cpu", "cuda"):
                leaves = [x.to(dtype).to(device).requires_grad_() for x in given[:count]]
                y = wg.layer_norm(leaves[0], n, *leaves[1:])
                g = wg.rand(shape, dtype, wg.Generator(33), device)
                found.append([y, *wg.grad(y, leaves, g)])
            for a, b in zip(*found, strict=True):
                assert b.device == "cuda:0"
                assert_close(b, a, rtol=tolerance, atol=tolerance * 10)


def attend(device: str, arrays: list[wg.Tensor], mask: wg.Tensor | None, causal: bool) -> Any:
    """y, and the gradients of q, k and v."""
    leaves = [x.clone().to(device).requires_grad_() for x in arrays]
    given = None if mask is None else mask.to(device)
    y = wg.scaled_dot_product_attention(*leaves, given, is_causal=causal)
    return [y.detach(), *wg.grad(y, leaves, wg.rand(y.shape, y.dtype, wg.Generator(37), device))]


@pytest.mark.parametrize(
    ("queries", "keys", "depth", "width"),
    [(1, 1, 1, 1), (64, 64, 16, 16), (65, 130, 8, 70), (65, 130, 0, 9), (150, 63, 20, 5),
     (3, 200, 33, 129), (5, 0, 4, 4), (0, 5, 4, 4), (5, 6, 0, 3), (5, 6, 3, 0)],
)  # fmt: skip
@pytest.mark.parametrize("masked", ["", "causal", "bool", "additive", "bool causal"])
def test_attention(queries: int, keys: int, depth: int, width: int, masked: str) -> None:
    mask = None
    if "bool" in masked or "additive" in masked:  # the first query, and others, see nothing
        looked_at = wg.rand((2, 1, queries, keys), generator=wg.Generator(34)) > 0.3
        if queries:
            looked_at[:, :, 0] = False
        mask = looked_at if "bool" in masked else wg.where(looked_at, 0.5, -np.inf)
    for dtype, tolerance in (("float32", 4e-6), ("float64", 1e-12)):
        # Heads beside features, as projections make them: strided (2, 3, T, D).
        shapes = ((2, queries, 3, depth), (2, keys, 3, depth), (2, keys, 3, width))
        arrays = [
            wg.randn(s, dtype, wg.Generator(35 + i)).transpose(1, 2) for i, s in enumerate(shapes)
        ]
        typed = mask.to(dtype) if mask is not None and "additive" in masked else mask
        a = attend("cpu", arrays, typed, "causal" in masked)
        b = attend("cuda", arrays, typed, "causal" in masked)
        for x, y in zip(a, b, strict=True):
            assert_close(y, x, rtol=tolerance * 10, atol=tolerance * max(1, queries**0.5))
        if queries and masked == "bool":
            assert not b[0][:, :, 0].cpu().numpy().any()  # a query that sees nothing


def test_nan_reaches_its_row_of_attention_alone() -> None:
    q, k, v = (wg.randn((n, 4), generator=wg.Generator(38 + n)) for n in (70, 80, 80))
    q[67, 1] = np.nan
    y = wg.scaled_dot_product_attention(*map(on_gpu, (q, k, v))).cpu().numpy()
    assert np.isnan(y[67]).all() and np.isfinite(np.delete(y, 67, 0)).all()


SIZES = [(1, 1, 1), (33, 17, 40), (64, 64, 64), (130, 132, 36), (128, 256, 16), (100, 1, 300)]


@pytest.mark.parametrize("m, n, k", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_matmul(m: int, n: int, k: int, dtype: str) -> None:
    """All operand orders: each of a and b as it is, transposed, and with gaps."""
    random = np.random.default_rng(6)
    a = (random.standard_normal((m, k)) * 4).astype(dtype)
    b = (random.standard_normal((k, n)) * 4).astype(dtype)
    expected = a.astype("float64") @ b.astype("float64")

    def layouts(x: np.ndarray) -> list[wg.Tensor]:
        gaps = np.zeros((x.shape[0], 2 * x.shape[1]), dtype)
        gaps[:, ::2] = x
        return [
            wg.tensor(x, device="cuda"),
            wg.tensor(x.T.copy(), device="cuda").T,
            wg.tensor(gaps, device="cuda")[:, ::2],
        ]

    for left in layouts(a):
        for right in layouts(b):
            y = (left @ right).cpu().numpy()
            rtol = {"float32": 2e-6, "float64": 1e-14, "int64": 0}[dtype]
            np.testing.assert_allclose(y, expected, rtol=rtol, atol=rtol * 4 * np.sqrt(k) * 16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matmul_with_a_long_inner_axis(dtype: str) -> None:
    a, b = (wg.rand((36, 9000), dtype, wg.Generator(s)) for s in (7, 8))
    y = a.to("cuda") @ b.to("cuda").T
    assert_close(y, a @ b.T, rtol=1e-6, atol=0)


def test_stacks_of_matrices() -> None:
    a = wg.randn((3, 1, 40, 36), generator=wg.Generator(9))
    b = wg.randn((2, 36, 44), generator=wg.Generator(10))
    assert_close(a.to("cuda") @ b.to("cuda"), a @ b, rtol=1e-5, atol=1e-5)
    assert_close(
        a.to("cuda").transpose(-1, -2) @ a.to("cuda"), a.transpose(-1, -2) @ a, rtol=1e-5, atol=1e-5
    )


# ---- exactly the CPU's bits ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_random_numbers_are_those_of_the_cpu(dtype: str) -> None:
    for draw in (wg.rand, wg.randn):
        here, there = wg.Generator(11), wg.Generator(11)
        for shape in ((1001,), (3, 5)):
            same_bits(draw(shape, dtype, there, "cuda"), draw(shape, dtype, here))
        assert here.state.tolist() == there.state.tolist()
    a = wg.randint(-5, 1 << 40, (333,), wg.Generator(12))
    same_bits(wg.randint(-5, 1 << 40, (333,), wg.Generator(12), "cuda"), a)


def test_indexing() -> None:
    x = wg.randn((50, 7), generator=wg.Generator(13))
    i = wg.randint(-50, 50, (400,), wg.Generator(14))
    v = wg.randn((400, 7), generator=wg.Generator(15))
    g = x.to("cuda")
    same_bits(g[i.to("cuda")], x[i])
    same_bits(g[i], x[i])  # indices may come from the CPU
    same_bits(g[g[:, 0] > 0], x[x[:, 0] > 0])
    same_bits(wg.nonzero(g > 1), wg.nonzero(x > 1))
    a, b = x.clone().requires_grad_(), g.clone().requires_grad_()
    (a[i] * v).sum().backward()
    (b[i.to("cuda")] * v.to("cuda")).sum().backward()
    same_bits(b.grad, a.grad)  # a scatter that adds, in the CPU's order
    p, q = x.clone(), g.clone()
    p[i] = v
    q[i] = v
    same_bits(q, p)  # the last of several values stays
    p[1:30:3, ::2] = 5
    q[1:30:3, ::2] = 5
    same_bits(q, p)


def test_embedding_has_the_bits_of_the_cpu() -> None:
    """Repeated ids, whose gradients are summed in float64 in their order; a row without one."""
    for dtype in FLOATS:
        table = wg.randn((40, 300), dtype, wg.Generator(40))
        ids = wg.randint(0, 40, (7, 90), wg.Generator(41))
        g = wg.randn((7, 90, 300), dtype, wg.Generator(42))
        grads = []
        for device in ("cpu", "cuda"):
            leaf = table.clone().to(device).requires_grad_()
            y = wg.embedding(ids.to(device), leaf, padding_idx=3)
            grads.append(wg.grad(y, [leaf], g.to(device))[0])
            same_bits(y.detach(), table[ids])
        same_bits(*grads)
        assert not grads[1][3].cpu().numpy().any()
    for kind in ("bool", "uint8", "int32", "int64", "float32", "float64"):
        same_bits(wg.one_hot(ids.to("cuda"), 41, kind), wg.one_hot(ids, 41, kind))


def test_the_same_bits_every_time() -> None:
    x = wg.randn((300, 301), generator=wg.Generator(16), device="cuda")
    i = wg.randint(0, 300, (500,), wg.Generator(17), "cuda")
    for f in (
        lambda: x.sum(),
        lambda: x.sum(0),
        lambda: x.T @ x,
        lambda: wg.softmax(x),
        lambda: x[i].mean(1),
        lambda: wg.layer_norm(x, 301),
        lambda: wg.concatenate(
            [y.reshape(-1) for y in attend("cuda", [x[None, None, :70, :20]] * 3, None, True)]
        ),
    ):
        same_bits(f(), f())


# ---- training ------------------------------------------------------------------------------------


def train(device: str, model: nn.Module, x: wg.Tensor, y: wg.Tensor, make: Any, steps: int) -> Any:
    model.to(device)
    optimizer = make(model.parameters())
    x, y = x.to(device), y.to(device)
    losses = []
    for _ in range(steps):
        loss = (
            wg.cross_entropy(model(x), y) if y.ndim == 1 else wg.mse_loss(model(x), y, "half_mean")
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.device == ("cpu" if device == "cpu" else "cuda:0") for p in model.parameters())
    return losses, [p.detach().cpu().numpy() for p in model.parameters()]


RULES: list[Any] = [
    lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    lambda p: optim.RMSprop(p, lr=0.01, centered=True),
    optim.Adagrad,
    optim.Adadelta,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.Rprop,
    optim.ASGD,
    optim.Lion,
    optim.LAMB,
    optim.Adafactor,
]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.5),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
        lambda p: optim.Adam(p, lr=0.01),
        lambda p: optim.AdamW(p, lr=0.01),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5),
        *RULES,
    ],
)
def test_training_the_small_network_equals_the_cpu(make: Any) -> None:
    random = wg.Generator(18)
    x = wg.randn((100, 10), generator=random)
    y = wg.rand((100, 1), generator=random)
    results = []
    for device in ("cpu", "cuda"):
        wg.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 5), nn.Sigmoid(), nn.Linear(5, 1), nn.Sigmoid())
        results.append(train(device, model, x, y, make, 60))
    (losses, parameters), (losses_on_gpu, parameters_on_gpu) = results
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses_on_gpu, losses, rtol=1e-4, atol=1e-6)
    for a, b in zip(parameters_on_gpu, parameters, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", RULES)
def test_a_compiled_step_of_each_rule_equals_eager(make: Any) -> None:
    x, y = batches(6, device="cuda")
    eager, compiled = Training(make, device="cuda"), Training(make, device="cuda")
    step = wg.compile(compiled.step, passes=WITHOUT_PERSISTENT)
    for i in range(6):
        for training in (eager, compiled):
            training.optimizer.lr = 0.01 / (1 + i)
        eager.step(x[i], y[i])
        step(x[i], y[i])
    assert step.traces == 1
    assert compiled.weights() == eager.weights()


def test_training_on_digits_equals_the_cpu() -> None:
    from wengert.data import load_digits

    x, y = (wg.tensor(a[:200]) for a in load_digits())
    x = x.float().reshape(200, 64)
    results = []
    for device in ("cpu", "cuda"):
        wg.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
        results.append(train(device, model, x, y, lambda p: optim.SGD(p, lr=0.1, momentum=0.9), 12))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-4)
    assert results[0][0][-1] < results[0][0][0] / 2


def test_training_a_bert_encoder_equals_the_cpu() -> None:
    """Steps of AdamW on a small BERT for classification, with padding in its mask."""
    from wengert.models.bert import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=60, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                        intermediate_size=40, max_position_embeddings=80, num_labels=3,
                        hidden_dropout_prob=0.1)  # fmt: skip
    random = wg.Generator(43)
    ids = wg.randint(0, 60, (3, 70), random)
    mask = (wg.arange(70) < wg.tensor([[70], [66], [5]])).to("int64")
    labels = wg.tensor([2, 0, 1])
    results = []
    for device in ("cpu", "cuda"):
        wg.manual_seed(0)
        model = BertForSequenceClassification(config).to(device)
        optimizer = optim.AdamW(model.parameters(), lr=1e-3)
        losses = []
        for _ in range(4):
            logits = model(ids.to(device), mask.to(device))
            loss = wg.cross_entropy(getattr(logits, "logits", logits), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        results.append((losses, [p.detach().cpu().numpy() for p in model.parameters()]))
    (losses, parameters), (losses_on_gpu, parameters_on_gpu) = results
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses_on_gpu, losses, rtol=1e-4)
    for a, b in zip(parameters_on_gpu, parameters, strict=True):
        assert np.abs(a - b).mean() < 2e-5  # Adam makes much of gradients that are all rounding


# ---- compiled steps ------------------------------------------------------------------------------

WITHOUT_PERSISTENT = [name for name in wg.compiling.PASSES if name != "persistent"]
LINE_BY_LINE = [name for name in WITHOUT_PERSISTENT if name != "graph"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("extras", [{}, {"dropout": 0.5, "clip": True}], ids=["plain", "extras"])
@pytest.mark.parametrize("passes", [WITHOUT_PERSISTENT, LINE_BY_LINE, ["graph"]], ids=len)
def test_a_step_as_one_graph_equals_eager(optimizer: str, extras: Any, passes: list[str]) -> None:
    """The same bits, while batches, learning rate, step count and random state go on."""
    xs, ys = batches(12, device="cuda")
    eager, called, run = (Training(optimizer, **extras, device="cuda") for _ in range(3))

    def losses(training: Training, step: Any) -> list[float]:
        wg.manual_seed(2)
        found = []
        for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
            training.optimizer.lr = 0.1 / (1 + i // 4)
            found.append(step(x, y).item())
        return found

    expected = losses(eager, eager.step)
    step = wg.compile(called.step, passes=passes)
    assert losses(called, step) == expected
    assert called.state() == eager.state()
    kind = "one CUDA graph of" if "graph" in passes else "line by line"
    assert step.program.replay.startswith(kind)
    assert f"replay: {kind}" in str(step.program)

    wg.manual_seed(2)
    compiled = wg.compile(run.step, passes=passes)
    found = []
    for i in range(3):
        run.optimizer.lr = 0.1 / (1 + i)
        found += compiled.run(4, xs[4 * i : 4 * i + 4], ys[4 * i : 4 * i + 4]).tolist()
    assert found == expected
    assert run.state() == eager.state()


@pytest.mark.parametrize("passes", [wg.compiling.PASSES, WITHOUT_PERSISTENT], ids=len)
def test_more_steps_than_one_launch_has_numbers_for(passes: list[str]) -> None:
    n = 700
    w, x = wg.zeros(3, device="cuda"), wg.arange(n, device="cuda").float()
    scale, rate = wg.tensor(1.0), wg.rand(n, generator=wg.Generator(28))

    @wg.compile(passes=passes)
    def step(x: wg.Tensor, rate: wg.Tensor) -> tuple[wg.Tensor, wg.Tensor]:
        w.add_(x * scale)
        scale.mul_(rate)  # on the CPU
        return w * 1.0, scale * 1.0

    after, scales = step.run(n, x, rate)
    w.zero_()
    scale.fill_(1.0)
    for i in range(n):
        w += x[i] * scale
        scale *= rate[i]
        assert after[i].tolist() == w.tolist() and scales[i].item() == scale.item()
    assert ("inside one kernel" in step.program.replay) == ("persistent" in passes)


@pytest.mark.parametrize("passes", [wg.compiling.PASSES, WITHOUT_PERSISTENT], ids=len)
def test_memory_outside_a_step_is_read_anew(passes: list[str]) -> None:
    """What others do between two launches counts; so do gradients that are not cleared."""
    w = wg.ones(4, device="cuda").requires_grad_()

    @wg.compile(passes=passes)
    def step(x: wg.Tensor) -> wg.Tensor:
        loss = (w * x).sum()
        loss.backward()
        return loss

    x = wg.tensor([1.0, 2.0, 3.0, 4.0], device="cuda")
    for i in range(6):
        assert step(x).item() == 10.0 * (i + 1)
        assert w.grad is not None and w.grad.tolist() == [(i + 1) * v for v in (1.0, 2.0, 3.0, 4.0)]
        with wg.no_grad():
            w += 1


def test_results_and_batches_in_any_layout() -> None:
    w = wg.rand(20_000, generator=wg.Generator(29), device="cuda")
    xs = wg.rand((20_000, 5), generator=wg.Generator(30), device="cuda").T

    def step(x: wg.Tensor) -> dict[str, wg.Tensor]:
        y = w * x  # its sum needs memory for the time of a kernel
        return {"sum": y.sum(), "turned": (y[:6] * 1.0).reshape(2, 3).T, "same": x}

    compiled = wg.compile(step)
    found = compiled.run(5, xs)
    assert compiled.program.replay.startswith("one CUDA graph of")
    assert "not inside one kernel: more memory than a block has" in compiled.program.replay
    for i in range(5):
        for key, value in step(xs[i]).items():
            same_bits(found[key][i].contiguous(), value.contiguous())
            assert i < 2 or compiled(xs[i])[key].tolist() == value.tolist()


def test_indices_in_a_graph() -> None:
    table = wg.rand((9, 4), generator=wg.Generator(31), device="cuda").requires_grad_()

    def step(i: wg.Tensor) -> wg.Tensor:
        table.grad = None
        loss = table[i].square().sum()
        loss.backward()
        return loss

    compiled = wg.compile(step)
    for seed in range(5):
        i = wg.randint(0, 9, (20,), wg.Generator(seed), "cuda")
        a, first = compiled(i), table.grad.tolist()
        assert a.item() == step(i).item() and first == table.grad.tolist()
    assert compiled.program.replay.startswith("one CUDA graph")
    with pytest.raises(IndexError, match="index 12 is out of range for an axis of size 9"):
        compiled(wg.full((20,), 12, "int64", device="cuda")).item()
    assert compiled(i).item() == step(i).item()


def test_what_cannot_be_recorded_runs_line_by_line() -> None:
    def step(x: wg.Tensor) -> wg.Tensor:
        return (x * 2).cpu().exp().to("cuda") + 1

    compiled = wg.compile(step)
    for i in range(5):
        x = wg.full(3, float(i), device="cuda")
        assert compiled(x).tolist() == step(x).tolist()
    assert compiled.program.replay == (
        "line by line (line 2, move: copy to the CPU: not possible while a step is recorded)"
    )


def test_a_few_bytes_may_come_from_the_cpu() -> None:
    def step(x: wg.Tensor) -> wg.Tensor:
        return x.T.to("cuda").square().sum(0)

    for n, how in (
        (30, "one CUDA graph of"),
        (3000, "line by line (line 1, move: more than 65536"),
    ):
        xs = wg.randn((9, n, 7), generator=wg.Generator(35))
        compiled = wg.compile(step)
        found = compiled.run(9, xs)
        for i in range(9):
            same_bits(found[i], step(xs[i]))
        assert compiled.program.replay.startswith(how)


def test_arguments_on_another_device_are_traced_anew() -> None:
    step = wg.compile(lambda x: x * 2)
    for device in ("cuda", "cpu", "cuda", "cpu"):
        assert step(wg.ones(2, device=device)).device.startswith(device)
    assert step.traces == 2


def test_a_recorded_step_gives_its_memory_back() -> None:
    gc.collect()
    before = wg.cuda.memory_allocated()
    for passes in (wg.compiling.PASSES, WITHOUT_PERSISTENT):
        training, (xs, ys) = Training("adam", device="cuda"), batches(4, device="cuda")
        step = wg.compile(training.step, passes=passes)
        step.run(4, xs, ys)
        assert wg.cuda.memory_allocated() > before
        del training, step, xs, ys
        gc.collect()
        assert wg.cuda.memory_allocated() == before


def test_other_threads_go_on_while_a_step_is_recorded() -> None:
    wrong: list[object] = []
    x = wg.rand((50, 40), generator=wg.Generator(32), device="cuda")
    expected = (x @ x.T).sum().item()

    def work() -> None:
        for _ in range(20):
            if (x @ x.T).sum().item() != expected:
                wrong.append("sum")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(10):
        step = wg.compile(lambda x, i=i: (x * float(i)).sum(), passes=WITHOUT_PERSISTENT)
        values = {step(x).item() for _ in range(3)}
        if len(values) != 1:
            wrong.append(values)
    for thread in threads:
        thread.join()
    assert not wrong


# ---- steps inside one kernel ----


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_small_network_inside_one_kernel(optimizer: str) -> None:
    """Products of few elements are added in another order than by the kernels: to rounding."""
    n = 20
    xs = wg.randn((n, 100, 10), generator=wg.Generator(33), device="cuda")
    ys = wg.rand((n, 100, 1), generator=wg.Generator(34), device="cuda")

    def train(how: str) -> tuple[list[float], list[Any], str]:
        wg.manual_seed(0)
        layers = nn.Linear(10, 5), nn.Sigmoid(), nn.Linear(5, 1), nn.Sigmoid()
        model = nn.Sequential(*layers).to("cuda")
        rule = OPTIMIZERS[optimizer](model.parameters())

        def step(x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
            rule.zero_grad()
            loss = wg.mse_loss(model(x), y)
            loss.backward()
            rule.step()
            return loss

        f = step if how == "eager" else wg.compile(step)
        if how == "run":
            losses = f.run(n, xs, ys).tolist()
        else:
            losses = [f(x, y).item() for x, y in zip(xs, ys, strict=True)]
        values = [x.tolist() for p in model.parameters() for x in (p.detach(), p.grad)]
        return losses, values, how if how == "eager" else f.program.replay

    eager, called, run = (train(how) for how in ("eager", "called", "run"))
    assert called == run
    assert called[2].startswith("inside one kernel of one block, 2")
    np.testing.assert_allclose(called[0], eager[0], rtol=1e-5)
    for a, b in zip(called[1], eager[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_classifier_inside_one_kernel() -> None:
    xs, ys = batches(8, device="cuda")
    eager, inside = (Training("adam", device="cuda") for _ in range(2))
    step = wg.compile(inside.step)
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(step(x, y).item(), eager.step(x, y).item(), rtol=1e-5)
    assert "inside one kernel" in step.program.replay
    with pytest.raises(IndexError, match="cross_entropy: class index 7 at row 0"):
        step(xs[0], wg.full(16, 7, "int64", device="cuda")).item()


def test_dropout_inside_one_kernel() -> None:
    """The masks of eager, and of the CPU, in whatever launches the steps come."""
    xs, ys = batches(10, device="cuda")
    eager, inside = (Training("sgd", dropout=0.4, device="cuda") for _ in range(2))
    expected = [eager.step(x, y).item() for x, y in zip(xs, ys, strict=True)]
    state = wg.random.default_generator.state.tolist()
    wg.manual_seed(2)
    step = wg.compile(inside.step)
    losses = [step(xs[0], ys[0]).item(), step(xs[1], ys[1]).item()]
    losses += step.run(8, xs[2:], ys[2:]).tolist()
    assert "inside one kernel" in step.program.replay
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert wg.random.default_generator.state.tolist() == state

    drop = nn.Dropout(0.3)
    masks = wg.compile(drop)
    x = wg.ones((37, 31), device="cuda")
    wg.manual_seed(4)
    found = [masks(x) for _ in range(4)]
    assert "inside one kernel" in masks.program.replay
    wg.manual_seed(4)
    for y in found:
        same_bits(y, drop(x))


ELEMENTWISE = [row for row in ROWS if row.elementwise and row.inputs and not row.result]
# The last also as a part of gradients.
ONLY_KERNELS = {"sin", "cos", "tan", "lgamma", "polygamma", "where"}


@pytest.mark.parametrize("row", ELEMENTWISE, ids=name)
def test_formulas_inside_one_kernel_have_the_bits_of_their_kernels(row: Row) -> None:
    def step(*given: wg.Tensor) -> list[wg.Tensor]:
        leaves = [x.detach().requires_grad_() for x in given if x.dtype.is_floating_point]
        y = row.call(*(leaves if len(leaves) == len(given) else given))
        if not y.requires_grad:
            return [y]
        return [y.detach(), *wg.grad((y * y).sum(), leaves)]

    for shapes in row.shapes:
        given = [x.to("cuda") for x in tensors(row, row.draw(shapes), "float32")]
        if any(x.numel() == 0 for x in given):
            continue
        compiled = wg.compile(step)
        for _ in range(3):
            for a, b in zip(compiled(*given), step(*given), strict=True):
                same_bits(a, b)
        ops = {line["op"] for line in compiled.program.lines}
        graph = bool(ops & ONLY_KERNELS) or shapes == ((2, 1, 3), (4, 1))
        kind = "one CUDA graph of" if graph else "inside one kernel"
        assert compiled.program.replay.startswith(kind), (shapes, ops)


# ---- tensors between devices ---------------------------------------------------------------------


def test_moving_is_differentiable() -> None:
    x = wg.rand((3, 4), generator=wg.Generator(21)).requires_grad_()
    y = (x.to("cuda") * 2).cpu()
    y.sum().backward()
    assert x.grad.device == "cpu" and x.grad.tolist() == [[2.0] * 4] * 3
    s = wg.tensor(3.0, requires_grad=True)  # a constant on the CPU beside tensors of the GPU
    (x.detach().to("cuda") * s).sum().backward()
    assert s.grad.device == "cpu"
    assert_close(s.grad, x.detach().sum(), rtol=1e-6, atol=0)


def test_strided_copies_between_devices() -> None:
    x = wg.rand((6, 8), generator=wg.Generator(22))
    y = wg.zeros((8, 6), "float64", "cuda")
    y.copy_(x.T)
    same_bits(y, x.T.to("float64").contiguous())
    z = wg.zeros((6, 8))
    z[:, ::2] = y.T[:, ::2].float()
    same_bits(z[:, ::2].contiguous(), x[:, ::2].contiguous())


def test_pinned_memory() -> None:
    x = wg.rand((100,), generator=wg.Generator(23)).pin_memory()
    y = x.to("cuda", non_blocking=True)
    wg.cuda.synchronize()
    same_bits(y, x)
    z = x.to("cuda")
    x.fill_(0)  # it has waited
    assert z.sum().item() > 0
    with pytest.raises(wg.DeviceError, match="pin_memory"):
        y.pin_memory()


@pytest.mark.skipif(DEBUGGING, reason="every block is fresh")
def test_memory_is_counted_and_reused() -> None:
    before = wg.cuda.memory_allocated()
    x = wg.zeros((1000, 1000), device="cuda")
    assert 4_000_000 <= wg.cuda.memory_allocated() - before <= 4_600_000
    del x
    assert wg.cuda.memory_allocated() == before
    wg.cuda.reset_peak_memory_stats()
    assert wg.cuda.max_memory_allocated() == before
    reserved = wg.cuda.memory_reserved()
    assert reserved >= before + 4_000_000
    x = wg.zeros((1000, 1000), device="cuda")
    assert wg.cuda.memory_reserved() == reserved  # the same block again
    assert wg.cuda.max_memory_allocated() == wg.cuda.memory_allocated() > before
    del x
    wg.cuda.empty_cache()
    assert wg.cuda.memory_reserved() == wg.cuda.memory_allocated() == before


def test_events() -> None:
    start, end, plain = wg.cuda.Event(True), wg.cuda.Event(enable_timing=True), wg.cuda.Event()
    assert start.query()  # never recorded
    with pytest.raises(ValueError, match="was not recorded yet"):
        start.elapsed_time(end)
    stream = wg.cuda.current_stream()
    assert stream == wg.cuda.current_stream("cuda:0") and stream.cuda_stream > 2
    start.record()
    x = wg.rand((200, 200), device="cuda")
    y = x @ x
    end.record(stream)
    stream.wait_event(end)
    end.synchronize()
    assert end.query() and 0 < start.elapsed_time(end) < 60_000
    assert end.elapsed_time(start) < 0
    with pytest.raises(ValueError, match="without enable_timing"):
        stream.record_event(plain).elapsed_time(end)
    assert stream.record_event().query() or y.sum().item() > 0
    stream.synchronize()
    y = x[wg.tensor([900], device="cuda")]
    plain.record()
    with pytest.raises(IndexError, match="index 900"):  # the first wait tells it
        plain.synchronize()


def test_the_current_stream() -> None:
    first, s = wg.cuda.default_stream(), wg.cuda.Stream()
    assert wg.cuda.current_stream() == first != s and s.device == 0
    with wg.cuda.stream(s), wg.cuda.stream(None):
        assert wg.cuda.current_stream("cuda:0") == s
        event = s.record_event()
        thread = threading.Thread(target=lambda: seen.append(wg.cuda.current_stream()))
        seen: list[Any] = []
        thread.start()
        thread.join()
        assert seen == [first]  # each thread has its own
    assert wg.cuda.current_stream() == first
    wg.cuda.set_stream(s)
    assert wg.cuda.current_stream() == s
    wg.cuda.set_stream(first)
    event.synchronize()
    assert event.query() and s.query()
    assert len({wg.cuda.Stream().cuda_stream for _ in range(40)}) == 32
    with pytest.raises(wg.DeviceError, match="tensor is on the CPU"):
        wg.ones(1).record_stream(s)


@pytest.mark.parametrize("by", ["streams", "events", "synchronize", "query"])
def test_streams_wait_for_each_other(by: str) -> None:
    """In the emulation one of two streams is late: what is not waited for is not there."""
    first, s = wg.cuda.current_stream(), wg.cuda.Stream()

    def wait(waits: wg.cuda.Stream, other: wg.cuda.Stream) -> None:
        if by == "streams":
            waits.wait_stream(other)
        elif by == "events":
            waits.wait_event(other.record_event())
        elif by == "synchronize":
            other.synchronize()
        else:
            while not other.query():
                pass

    expected = x = wg.full(1000, 1.0)
    y = x.to("cuda")
    for _ in range(4):
        expected = (expected * 3 + 1) * 2
        y = y * 3
        wait(s, first)
        with wg.cuda.stream(s):
            y = y + 1
        wait(first, s)
        y = y * 2
    same_bits(y, expected)
    with wg.cuda.stream(s):  # reading a value waits for the current stream
        same_bits(wg.full(9, 3.0, device="cuda") * 2, wg.full(9, 6.0))
        z = wg.ones(9, device="cuda")
    wg.cuda.synchronize()  # for all of them
    assert z.tolist() == [1.0] * 9


def test_pinned_memory_in_a_stream_of_its_own() -> None:
    """Batches on their way while others are worked with."""
    s, first = wg.cuda.Stream(), wg.cuda.current_stream()
    batches = [wg.full(5000, float(i)).pin_memory() for i in range(6)]
    sums = []
    for x in batches:
        with wg.cuda.stream(s):
            y = x.to("cuda", non_blocking=True)
        first.wait_stream(s)
        y.record_stream(first)
        sums.append(y.sum())
    assert [t.item() for t in sums] == [5000.0 * i for i in range(6)]


@pytest.mark.skipif(DEBUGGING, reason="every block is fresh")
def test_memory_belongs_to_a_stream() -> None:
    wg.cuda.empty_cache()
    s, n = wg.cuda.Stream(), 7000
    with wg.cuda.stream(s):
        x = wg.full(n, 5.0, device="cuda")
        place = x.data_ptr()
    reserved = wg.cuda.memory_reserved()
    del x  # s may still work with it
    y = wg.full(n, 6.0, device="cuda")
    assert y.data_ptr() != place and wg.cuda.memory_reserved() > reserved
    with wg.cuda.stream(s):
        assert wg.full(n, 7.0, device="cuda").data_ptr() == place
    del y
    gc.collect()
    wg.cuda.empty_cache()
    assert wg.cuda.memory_reserved() == wg.cuda.memory_allocated()


@pytest.mark.parametrize("recorded", [True, False])
def test_memory_that_another_stream_uses(recorded: bool) -> None:
    s, n = wg.cuda.Stream(), 9000
    x = wg.full(n, 5.0, device="cuda")
    s.wait_stream(wg.cuda.current_stream())
    with wg.cuda.stream(s):
        y = x * 2
    if recorded:
        x.record_stream(s)
    else:
        wg.cuda.current_stream().wait_stream(s)
    reserved = wg.cuda.memory_reserved()
    del x
    assert wg.cuda.memory_reserved() == reserved or DEBUGGING
    z = wg.full(n, 6.0, device="cuda")
    s.synchronize()
    assert y.tolist() == [10.0] * n and z.tolist() == [6.0] * n


@pytest.mark.parametrize("passes", [wg.compiling.PASSES, WITHOUT_PERSISTENT, LINE_BY_LINE], ids=len)
def test_a_compiled_step_in_several_streams(passes: list[str]) -> None:
    xs, ys = batches(9, device="cuda")
    eager, inside = (Training("adam", device="cuda") for _ in range(2))
    expected = [eager.step(x, y).item() for x, y in zip(xs, ys, strict=True)]
    step = wg.compile(inside.step, passes=passes)
    streams = [wg.cuda.default_stream(), wg.cuda.Stream(), wg.cuda.Stream()]
    losses, last = [], streams[0]
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        s = streams[i % 3]
        s.wait_stream(last)
        with wg.cuda.stream(s):
            losses.append(step(x, y))
        last = s
    wg.cuda.synchronize()
    np.testing.assert_allclose([t.item() for t in losses], expected, rtol=1e-5)


def test_launches_of_a_recorded_step_come_one_after_another() -> None:
    """They share memory; so they wait for each other, in whichever streams they are."""
    state = wg.zeros(300, device="cuda")

    def run(x: wg.Tensor) -> wg.Tensor:
        state.mul_(2.0)
        state.add_(x)
        return state.sum()

    step = wg.compile(run)
    xs = [wg.full(300, float(i), device="cuda") for i in range(9)]
    streams = [wg.cuda.default_stream(), wg.cuda.Stream()]
    wg.cuda.synchronize()
    sums, expected, value = [], [], 0.0
    for i, x in enumerate(xs):
        with wg.cuda.stream(streams[i // 2 % 2]):
            sums.append(step(x))
        value = value * 2 + i
        expected.append(value * 300)
    assert not step.program.replay.startswith("line by line")
    del step
    wg.cuda.synchronize()
    assert [t.item() for t in sums] == expected


def test_the_current_device() -> None:
    assert wg.cuda.current_device() == 0 and wg.cuda.get_device_name("cuda:0")
    with wg.cuda.device("cuda:0"):
        assert wg.zeros(1, device="cuda").device == "cuda:0"
    count = wg.cuda.device_count()
    for given in (count, -1, f"cuda:{count}"):
        with pytest.raises(wg.DeviceError, match="there are 0 to"):
            wg.cuda.set_device(given)
    with pytest.raises(ValueError, match='got "gpu"; expected a number'):
        wg.cuda.synchronize("gpu")
    assert wg.cuda.current_device() == 0


def test_saving_and_loading(tmp_path: Any) -> None:
    x = wg.rand((5, 3), generator=wg.Generator(24), device="cuda")
    wg.save(tmp_path / "x.safetensors", {"x": x})
    same_bits(wg.load(tmp_path / "x.safetensors")["x"], x)


def test_what_a_tensor_says() -> None:
    x = wg.tensor([1.5, 2.0], device="cuda")
    assert repr(x) == "tensor([1.5, 2. ], device='cuda:0')"
    assert x.tolist() == [1.5, 2.0] and x[1].item() == 2.0 and f"{x[0]:.2f}" == "1.50"
    assert x.cuda() is not None and x.cpu().device == "cpu"


# ---- bad input -----------------------------------------------------------------------------------


def test_errors_of_devices() -> None:
    x = wg.ones((2, 3), device="cuda")
    for call, words in (
        (lambda: x + wg.ones((2, 3)), "add: tensors on two devices, cuda:0 and cpu"),
        (lambda: wg.ones((2, 3)) @ x.T, "matmul: tensors on two devices"),
        (lambda: x.numpy(), "numpy: this tensor is on cuda:0"),
        (lambda: np.asarray(x), "numpy: this tensor is on cuda:0"),
        (lambda: memoryview(x), "buffer|cuda:0"),
        (lambda: wg.ones((2, 3)).add_(x), "tensors on two devices"),
        (lambda: wg.tensor(1.0).mul_(x[0, 0]), "mul in place: the tensor is on cpu"),
        (lambda: wg._core._uniform(wg.zeros(2, "int64", "cuda"), (2,)), "on the CPU"),
        (lambda: x.to("cuda:7"), "GPUs 0 to"),
    ):
        with pytest.raises((wg.DeviceError, ValueError, BufferError), match=words):
            call()
    with pytest.raises(ValueError, match='device: got "gpu"; expected'):
        wg.zeros(3, device="gpu")
    optimizer = optim.SGD([wg.ones(2, device="cuda").requires_grad_()], lr=0.1)
    optimizer.param_groups[0]["params"][0].grad = None
    optimizer.step()


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("view", ["transposed", "steps", "reversed"])
def test_assignment_by_index_to_views(view: str, history: bool) -> None:
    """Into memory that is not in one piece; the gradients, too, are the CPU's."""
    start = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    found = []
    for device in ("cpu", "cuda"):
        x, v = wg.tensor(start, device=device), wg.tensor([[1.0], [2.0]], device=device)
        if history:
            x.requires_grad_()
            v.requires_grad_()
        base = x * 1.0
        at = {"transposed": base.T, "steps": base[::2, 1::2], "reversed": base[::-1, ::-2]}[view]
        at[wg.tensor([2, 0], device=device)] = v * 3
        at.scatter_add_(1, wg.tensor([[1], [1]], device=device), v)
        found.append([base.detach().cpu().numpy()])
        if history:
            found[-1] += [d.cpu().numpy() for d in wg.grad((base * base).sum(), [x, v])]
    for a, b in zip(*found, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("shape", [(5000,), (300, 7), (7, 300)])
@pytest.mark.parametrize("axis", [0, -1])
def test_scatters_have_the_cpus_bits(shape: tuple[int, ...], axis: int) -> None:
    """One thread a line, and parts of a line."""
    random = np.random.default_rng(0)
    x, v = (random.normal(size=shape).astype("float32") for _ in range(2))
    i = random.integers(-5, 5, shape)
    for fold, own in (("sum", True), ("sum", False), ("amin", False)):
        found = [
            wg.tensor(x, device=d)
            .scatter_reduce(
                axis, wg.tensor(i, device=d), wg.tensor(v, device=d), fold, include_self=own
            )
            .cpu()
            for d in ("cpu", "cuda")
        ]
        assert found[0].numpy().tobytes() == found[1].numpy().tobytes()


def test_an_index_out_of_range_is_told_when_it_is_known() -> None:
    x = wg.ones((4, 3), device="cuda")
    y = x[wg.tensor([1, 9], device="cuda")]
    with pytest.raises(IndexError, match="index 9 is out of range for an axis of size 4"):
        y.cpu()
    assert x.sum().item() == 12  # and all goes on
    loss = wg.cross_entropy(x, wg.tensor([0, 1, 5, 2], device="cuda"))
    with pytest.raises(IndexError, match="cross_entropy: class index 5 at row 2"):
        loss.item()
    assert x.sum().item() == 12
    y = wg.embedding(wg.tensor([0, -1], device="cuda"), x)
    with pytest.raises(IndexError, match=r"embedding: id -1, number 1, .* rows are 4: 0 to 3"):
        y.cpu()
    y = wg.one_hot(wg.tensor([[0, 1], [7, 1]], device="cuda"), 3)
    with pytest.raises(IndexError, match=r"one_hot: id 7, number 2, .*num_classes is 3"):
        y.cpu()
    i = wg.tensor([[0, -5, 1]], device="cuda")
    for take in (lambda: x.gather(0, i), lambda: x.scatter_add(0, i, 1.0)):
        taken = take()
        with pytest.raises(IndexError, match="index -5 is out of range for an axis of size 4"):
            taken.cpu()
    y = wg.zeros((0, 3), device="cuda")[wg.tensor([0], device="cuda")]
    with pytest.raises(IndexError, match="index 0 is out of range for an axis of size 0"):
        y.cpu()
    assert x.sum().item() == 12


def test_no_memory() -> None:
    with pytest.raises(wg.OutOfMemoryError, match=r"\(281474976710656,\).*on cuda:0.*are free"):
        wg.empty((1 << 48,), device="cuda")
    assert wg.ones(3, device="cuda").sum().item() == 3


class Foreign:
    """An array of another library, on a GPU."""

    def __init__(self, x: wg.Tensor) -> None:
        self.x = x
        self.streams: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()

    def __dlpack__(self, *, stream: int, max_version: tuple[int, int] | None = None) -> Any:
        self.streams.append(stream)
        return self.x.__dlpack__(stream=stream, max_version=max_version)


def test_exchange_without_a_copy() -> None:
    x = wg.arange(6, device="cuda").float().reshape(2, 3)
    assert x.__dlpack_device__() == (2, 0)
    foreign = Foreign(x)
    y = wg.from_dlpack(foreign)
    assert y.device == "cuda:0" and y.data_ptr() == x.data_ptr()
    assert foreign.streams and foreign.streams[0] > 2  # ours: the producer lets it wait
    y.mul_(2)
    same_bits(y, x)
    s = wg.cuda.Stream()
    with wg.cuda.stream(s):  # in which the new tensor works
        wg.from_dlpack(foreign)
        assert foreign.streams[-1] == s.cuda_stream
        x.add_(1)
        x.__dlpack__(stream=wg.cuda.default_stream().cuda_stream)  # whose consumer waits for s
    same_bits(y, wg.tensor([[1.0, 3, 5], [7, 9, 11]]))
    w = wg.ones((2, 3), device="cuda").requires_grad_()
    (w * y).sum().backward()
    same_bits(w.grad, y)
    with pytest.raises(ValueError, match="got stream 0; expected -1"):
        x.__dlpack__(stream=0)
    with pytest.raises(BufferError, match=r"lives on cuda:0, device \(2, 0\)"):
        x.__dlpack__(dl_device=(1, 0))


def test_dropout_draws_the_mask_of_the_cpu() -> None:
    x = wg.rand((30, 20), generator=wg.Generator(25))
    drop = nn.Dropout(0.4)
    wg.manual_seed(3)
    a = drop(x)
    wg.manual_seed(3)
    same_bits(drop(x.to("cuda")), a)
