"""Products on tensor cores: every precision, operand order and size, and what is not finite.

With a GPU: `pytest tests/gpu/on_gpu_matmul.py`. Without: test_cuda_matmul.py runs this file against
the emulation, once as compute capability 8.0 (mma) and once as 9.0 (wgmma).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import wengert as wg

if not wg.cuda.is_available():
    pytest.skip(wg.cuda.status(), allow_module_level=True)
if not wg.cuda.matmul_units():
    pytest.skip("no tensor cores for bfloat16", allow_module_level=True)

# Frobenius, relative, of normal numbers: what set_matmul_precision's docstring says, and a margin.
BOUND = {"strict": 5e-7, "fp32": 2.5e-7, "fast": 6e-6, "bf16": 3.5e-3}


@pytest.fixture(autouse=True)
def strict_afterwards() -> Iterator[None]:
    yield
    wg.set_matmul_precision("strict")


def draw(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def product(a: wg.Tensor, b: wg.Tensor, precision: str) -> np.ndarray:
    wg.set_matmul_precision(precision)
    return (a @ b).cpu().numpy()


def error(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    exact = a.astype("float64") @ b.astype("float64")
    return float(np.linalg.norm(y - exact) / np.linalg.norm(exact))


def layouts(x: np.ndarray) -> list[wg.Tensor]:
    """The same matrix as it is, transposed in memory, with gaps, and backwards."""
    gaps = np.zeros((x.shape[0], 2 * x.shape[1]), x.dtype)
    gaps[:, ::2] = x
    back = wg.tensor(np.ascontiguousarray(x[::-1, ::-1]), device="cuda")
    return [
        wg.tensor(x, device="cuda"),
        wg.tensor(np.ascontiguousarray(x.T), device="cuda").T,
        wg.tensor(gaps, device="cuda")[:, ::2],
        back[::-1, ::-1],
    ]


# The edges of tiles of 128, 128 or 256 columns, and of blocks of 16, 32 and 64 of k.
SIZES = [(128, 128, 128), (128, 256, 64), (64, 65, 505), (129, 257, 72), (131, 127, 127)]


@pytest.mark.parametrize("m, n, k", SIZES)
@pytest.mark.parametrize("precision", ["fp32", "fast", "bf16"])
def test_sizes(m: int, n: int, k: int, precision: str) -> None:
    a, b = draw((m, k), 1), draw((k, n), 2)
    y = product(wg.tensor(a, device="cuda"), wg.tensor(b, device="cuda"), precision)
    assert error(y, a, b) < BOUND[precision]
    # An element is as good as all: none is from a wrong place.
    scale = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=0)
    assert (np.abs(y - a.astype("float64") @ b) / scale).max() < BOUND[precision]


def test_it_is_not_strict() -> None:
    """The tensor cores are used: the bits are others, and the error is what the slices make it."""
    a, b = draw((128, 128), 3), draw((128, 128), 4)
    ga, gb = wg.tensor(a, device="cuda"), wg.tensor(b, device="cuda")
    results = {p: product(ga, gb, p) for p in BOUND}
    errors = {p: error(y, a, b) for p, y in results.items()}
    assert errors["bf16"] > 1e-3 > errors["fast"] > 1e-6 > errors["fp32"], errors
    assert results["fp32"].tobytes() != results["strict"].tobytes()
    assert errors["fp32"] < 1.5 * errors["strict"], errors
    for p, y in results.items():
        assert product(ga, gb, p).tobytes() == y.tobytes()  # every time


def test_bf16_multiplies_rounded_operands() -> None:
    a, b = draw((128, 128), 3), draw((128, 128), 4)
    y = product(wg.tensor(a, device="cuda"), wg.tensor(b, device="cuda"), "bf16")
    rounded = [wg.tensor(x).bfloat16().float().numpy() for x in (a, b)]
    assert error(y, *rounded) < 2e-6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layouts(precision: str) -> None:
    a, b = draw((130, 100), 5), draw((100, 164), 6)
    expected = None
    for left in layouts(a):
        for right in layouts(b):
            y = product(left, right, precision)
            expected = y if expected is None else expected
            assert y.tobytes() == expected.tobytes()
    assert expected is not None and error(expected, a, b) < BOUND[precision]


@pytest.mark.parametrize("precision", ["fp32", "fast", "bf16"])
def test_sums_of_positive_numbers(precision: str) -> None:
    """What is cut off adds up here, in one direction. k is long enough for slabs."""
    random = np.random.default_rng(7)
    a, b = (random.random(s).astype("float32") for s in ((64, 2100), (2100, 64)))
    y = product(wg.tensor(a, device="cuda"), wg.tensor(b, device="cuda"), precision)
    assert error(y, a, b) < {"fp32": 3e-7, "fast": 6e-6, "bf16": 1e-4}[precision]


def test_stacks() -> None:
    a, b = draw((3, 1, 96, 80), 8), draw((2, 80, 72), 9)
    for precision in ("fp32", "bf16"):
        y = product(wg.tensor(a, device="cuda"), wg.tensor(b, device="cuda"), precision)
        assert y.shape == (3, 2, 96, 72)
        assert error(y, a, b) < BOUND[precision]
        one = wg.tensor(a[0, 0], device="cuda").expand(4, 96, 80)  # one matrix, four times
        four = product(one, wg.tensor(b[1], device="cuda"), precision)
        assert error(four[2], a[0, 0], b[1]) < BOUND[precision]
        assert (four == four[:1]).all()


@pytest.mark.parametrize("precision", ["fp32", "fast", "bf16"])
def test_what_is_not_finite(precision: str) -> None:
    """As in strict: also where the other's lower slices are zeros, and where sums overflow."""
    a, b = draw((128, 130), 10), draw((130, 128), 11)
    b[:, :5] = [1, -2, 0, 0.5, 3]
    a[3, 7], a[9, 0], a[9, 129], a[50, 64] = np.inf, np.inf, -np.inf, np.nan
    b[8, 100] = -np.inf
    a[70], b[:, 60] = 3e38, 3e38
    ga, gb = wg.tensor(a, device="cuda"), wg.tensor(b, device="cuda")
    y, strict = product(ga, gb, precision), product(ga, gb, "strict")
    with np.errstate(invalid="ignore", over="ignore"):
        exact = (a.astype("float64") @ b.astype("float64")).astype("float32")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(strict))
    special = ~np.isfinite(strict)
    assert np.isinf(strict).any() and np.isnan(strict).any() and np.isfinite(strict).any()
    np.testing.assert_array_equal(y[special], strict[special])
    assert np.isinf(y[3, :5]).sum() == 4 and np.isnan(y[3, 2])  # infinity times 1, -2, 0, 0.5, 3
    rest = np.isfinite(exact) & (np.abs(exact) < 1e30)
    np.testing.assert_allclose(y[rest], exact[rest], rtol=0, atol=80 * BOUND[precision])


def test_large_and_tiny_numbers() -> None:
    a, b = draw((128, 128), 12), draw((128, 128), 13)
    for left, right, bound in (
        (3e38, 1e-38, 3e-3),  # b keeps a part: below 2^-110
        (1e30, 1e-30, BOUND["fp32"]),
        (2.0**-100, 2.0**100, BOUND["fp32"]),
        (2.0**-116, 2.0**100, 2e-5),  # 2^-134 beside 2^-118
        (1e-20, 1e-15, 1e-6),  # the result is near the smallest numbers
    ):
        p = np.clip(a * 0.2, -1, 1).astype("float32") * np.float32(left)
        q = b * np.float32(right)
        y = product(wg.tensor(p, device="cuda"), wg.tensor(q, device="cuda"), "fp32")
        assert error(y, p, q) < bound, (left, right)


def test_gradients_keep_the_precision_of_their_product() -> None:
    a, b, w = draw((128, 128), 14), draw((128, 128), 15), draw((128, 128), 16)
    x = wg.tensor(a, device="cuda").requires_grad_()
    v = wg.tensor(b, device="cuda").requires_grad_()
    wg.set_matmul_precision("bf16")
    y = x @ v.T
    wg.set_matmul_precision("strict")
    y.backward(wg.tensor(w, device="cuda"))
    assert 1e-3 < error(x.grad.cpu().numpy(), w, b) < BOUND["bf16"]
    assert 1e-3 < error(v.grad.cpu().numpy(), w.T, a) < BOUND["bf16"]


def test_what_stays_strict() -> None:
    small, wide = draw((8, 2000), 17), draw((2000, 300), 18)
    for a, b in (
        (wg.tensor(small, device="cuda"), wg.tensor(wide, device="cuda")),
        (
            wg.tensor(draw((130, 130), 19), "float64", device="cuda"),
            wg.tensor(draw((130, 130), 20), "float64", device="cuda"),
        ),
    ):
        assert product(a, b, "bf16").tobytes() == product(a, b, "strict").tobytes()


def test_a_compiled_step_follows() -> None:
    a, b = (wg.tensor(draw((128, 128), s), device="cuda") for s in (21, 22))
    step = wg.compile(lambda x: x @ b)
    for precision in ("strict", "strict", "bf16", "bf16", "fp32"):
        expected = product(a, b, precision)
        assert step(a).cpu().numpy().tobytes() == expected.tobytes()
    assert step.traces == 3


@pytest.mark.parametrize("precision", ["fp32", "fast", "bf16"])
@pytest.mark.parametrize("k", [128, 1100], ids=["whole", "slabs"])
def test_products_in_a_graph(precision: str, k: int) -> None:
    """The slices of a graph are its own: what others do between two launches is not in them."""
    wg.set_matmul_precision(precision)
    xs = wg.tensor(draw((4, 64, k), 23), device="cuda")

    def begun() -> wg.Tensor:
        return wg.tensor(draw((k, 64), 24), device="cuda")

    def step(w: wg.Tensor, x: wg.Tensor) -> wg.Tensor:
        y = x @ w
        w.sub_(x.T @ y * 1e-4)
        return y

    eager, called, run = begun(), begun(), begun()
    compiled = wg.compile(lambda x: step(called, x))
    expected = []
    for x in xs:
        expected.append(step(eager, x).tolist())
        assert compiled(x).tolist() == expected[-1]
        wg.full((130, k), float("nan"), device="cuda") @ eager  # takes memory, and gives it back
    assert compiled.program.replay.startswith("one CUDA graph of")
    assert called.tolist() == eager.tolist()
    assert wg.compile(lambda x: step(run, x)).run(4, xs).tolist() == expected
    assert run.tolist() == eager.tolist()


@pytest.mark.parametrize("precision", ["strict", "fp32", "bf16"])
@pytest.mark.parametrize("m, n, k", [(5, 7, 9), (130, 132, 96), (128, 256, 128)])
def test_tensors_of_bfloat16(m: int, n: int, k: int, precision: str) -> None:
    """Products of bfloat16 are exact in float32; what is left is one rounding of the result."""
    wg.set_matmul_precision(precision)
    a, b = (wg.tensor(draw(s, 3 + i), "bfloat16") for i, s in enumerate(((m, k), (k, n))))
    p, q = (x.to("cuda").requires_grad_() for x in (a, b))
    for right in (q, q.detach().T.contiguous().T):
        y = p @ right
        assert y.dtype == "bfloat16" and y.device == "cuda:0"
        wide = a.double().numpy() @ b.double().numpy()
        np.testing.assert_allclose(y.detach().double().cpu().numpy(), wide, rtol=2**-7, atol=0.02)
    (p @ q).sum().backward()
    ones = np.ones((m, n))
    for grad, expected in ((p.grad, ones @ b.double().numpy().T),
                           (q.grad, a.double().numpy().T @ ones)):  # fmt: skip
        assert grad.dtype == "bfloat16"
        np.testing.assert_allclose(grad.double().cpu().numpy(), expected, rtol=2**-7, atol=0.05)


def test_names() -> None:
    assert wg.get_matmul_precision() == "strict"
    for name in BOUND:
        wg.set_matmul_precision(name)
        assert wg.get_matmul_precision() == name
    with pytest.raises(ValueError, match='got "tf32"; expected "strict", "fp32"'):
        wg.set_matmul_precision("tf32")
