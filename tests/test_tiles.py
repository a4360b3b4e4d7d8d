"""Products of bfloat16 slices on the CPU's matrix tiles: `set_matmul_precision` on the CPU.

A twin of the tile instructions in plain C++ serves every machine: it takes products of any size
here. Where there are tiles, they must give the twin's bits.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import wengert as wg
from wengert import _core, nn

PRECISIONS = ("fp32", "fast", "bf16")
# Of each element, as a part of |a| |b|. A float32's slices leave 2^-17 after two and 2^-9 after
# one; three hold all of it, and what remains are the roundings of the sums.
BOUND = {"strict": 4e-7, "fp32": 4e-7, "fast": 2 * 2.0**-17 + 2.0**-16, "bf16": 2 * 2.0**-8}
TILES = _core._tile_status() == "ready"
needs_tiles = pytest.mark.skipif(not TILES, reason=f"tiles: {_core._tile_status()}")
MEANS = ["twin", pytest.param("always", marks=needs_tiles)]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    wg.set_matmul_precision("strict")
    _core._set_tile_use("gain")


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype("float32")


def product(a: wg.Tensor, b: wg.Tensor, precision: str, use: str) -> np.ndarray:
    wg.set_matmul_precision(precision)
    _core._set_tile_use(use)
    return (a @ b).numpy()


def check(y: np.ndarray, a: np.ndarray, b: np.ndarray, bound: float) -> None:
    size = np.matmul(abs(a).astype(float), abs(b).astype(float))
    error = abs(y.astype(float) - np.matmul(a.astype(float), b.astype(float)))
    assert y.shape == size.shape and (error <= bound * size).all(), (error / (size + 1e-300)).max()


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    return x.shape == y.shape and x.tobytes() == y.tobytes()


def layouts(x: np.ndarray) -> list[wg.Tensor]:
    """The same matrix as it is, transposed in memory, with gaps, and backwards."""
    gaps = np.zeros((x.shape[0], 2 * x.shape[1]), x.dtype)
    gaps[:, ::2] = x
    back = wg.tensor(np.ascontiguousarray(x[::-1, ::-1]))
    transposed = wg.tensor(np.ascontiguousarray(x.T)).T
    return [wg.tensor(x), transposed, wg.tensor(gaps)[:, ::2], back[::-1, ::-1]]


# The edges of tiles (16 x 16 x 32), of blocks (32 x 32) and of slabs (128, 192 or 384 terms).
SIZES = [(1, 1, 1), (16, 16, 32), (17, 15, 31), (31, 33, 33), (33, 49, 129), (2, 65, 300)]
SIZES += [(20, 3, 800), (65, 1, 97), (130, 530, 40)]


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_sizes(m: int, n: int, k: int, precision: str, use: str) -> None:
    a, b = draw(m, k), draw(k, n, seed=1)
    check(product(wg.tensor(a), wg.tensor(b), precision, use), a, b, BOUND[precision])


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.smoke
def test_layouts(precision: str, use: str) -> None:
    a, b = draw(37, 70), draw(70, 45, seed=1)
    found = {
        product(left, right, precision, use).tobytes()
        for left in layouts(a)
        for right in layouts(b)
    }
    assert len(found) == 1
    check(product(wg.tensor(a), wg.tensor(b), precision, use), a, b, BOUND[precision])


@needs_tiles
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tiles_have_the_bits_of_their_twin(precision: str) -> None:
    rng = np.random.default_rng(5)
    for m, n, k in [(70, 90, 400), (33, 20, 1000), (9, 200, 64)]:
        for wide in (0, 3, 15, 30):
            a, b = (
                (draw(*s) * 10.0 ** rng.uniform(-wide, wide, s)).astype("float32")
                for s in ((m, k), (k, n))
            )
            if wide == 3:
                a[rng.random(a.shape) < 1e-4] = np.inf
                b[rng.random(b.shape) < 1e-4] = np.nan
            x, y = (
                product(wg.tensor(a), wg.tensor(b), precision, use) for use in ("always", "twin")
            )
            assert same_bits(x, y), (m, n, k, wide)


@pytest.mark.parametrize("use", MEANS)
def test_stacks_of_matrices_and_vectors(use: str) -> None:
    a, b, v = draw(3, 1, 20, 40), draw(2, 40, 50, seed=1), draw(40, seed=2)
    check(product(wg.tensor(a), wg.tensor(b), "fp32", use), a, b, BOUND["fp32"])
    check(product(wg.tensor(a), wg.tensor(v), "fp32", use), a, v, BOUND["fp32"])
    whole = product(wg.tensor(a), wg.tensor(b), "fp32", use)
    row = product(wg.tensor(a[1, 0, 7:8]), wg.tensor(b[1]), "fp32", use)
    assert same_bits(row[0], whole[1, 1, 7])  # as alone, so in a batch


@pytest.mark.parametrize("use", MEANS)
def test_a_stack_that_has_one_matrix(use: str) -> None:
    """It is one tall product where its rows follow each other: its matrix is split once."""
    a, b = draw(3, 4, 20, 30), draw(30, 25, seed=1)
    rows = product(wg.tensor(a.reshape(240, 30)), wg.tensor(b), "fp32", use)
    for left in (wg.tensor(a), wg.tensor(a.swapaxes(0, 1).copy()).transpose(0, 1)):
        for right in (wg.tensor(b), wg.tensor(b[None, None])):
            assert same_bits(product(left, right, "fp32", use), rows.reshape(3, 4, 20, 25))
    part = wg.tensor(np.concatenate([a, a], 2))[:, :, :20]
    assert same_bits(product(part, wg.tensor(b), "fp32", use), rows.reshape(3, 4, 20, 25))
    assert product(wg.tensor(a[:0]), wg.tensor(b), "fp32", use).shape == (0, 4, 20, 25)
    halves = (wg.tensor(a).to("bfloat16") @ wg.tensor(b).to("bfloat16")).float().numpy()
    one = (wg.tensor(a[1, 2]).to("bfloat16") @ wg.tensor(b).to("bfloat16")).float().numpy()
    assert same_bits(halves[1, 2].copy(), one)


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_few_rows_are_those_of_a_tall_product(precision: str, use: str) -> None:
    """Of few rows, chunks have columns instead of rows."""
    a, b = draw(35, 420), draw(420, 150, seed=1)
    a[2, 400], b[7, 140], b[:, 70] = 3e38, np.inf, 1e-39
    few = product(wg.tensor(a), wg.tensor(b), precision, use)
    tall = product(wg.tensor(np.tile(a, (8, 1))), wg.tensor(b), precision, use)
    assert same_bits(tall, np.tile(few, (8, 1))) and np.isfinite(few[3, :70]).all()
    assert same_bits(few[:, 70], product(wg.tensor(a), wg.tensor(b), "strict", use)[:, 70])


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_do_not_depend_on_threads(precision: str, use: str) -> None:
    a, b = wg.tensor(draw(140, 260)), wg.tensor(draw(260, 530, seed=1))
    before, found = wg.num_threads(), set()
    try:
        for threads in (1, 2, 3):
            wg.set_num_threads(threads)
            found.add(product(a, b, precision, use).tobytes())
    finally:
        wg.set_num_threads(before)
    assert len(found) == 1


def test_parts_of_a_product_too_large_to_be_packed_at_once() -> None:
    a, b = draw(2100, 33), draw(33, 40, seed=1)
    check(product(wg.tensor(a), wg.tensor(b), "fp32", "twin"), a, b, BOUND["fp32"])
    check(product(wg.tensor(b.T), wg.tensor(a.T), "fp32", "twin"), b.T, a.T, BOUND["fp32"])


# ---- error


@pytest.mark.parametrize("use", MEANS)
def test_errors_are_those_that_the_docstring_states(use: str) -> None:
    a, b = draw(64, 1024), draw(1024, 64, seed=1)
    exact = a.astype(float) @ b.astype(float)
    error = {
        p: np.linalg.norm(product(wg.tensor(a), wg.tensor(b), p, use) - exact)
        / np.linalg.norm(exact)
        for p in ("strict", *PRECISIONS)
    }
    assert error["fp32"] <= 2 * error["strict"] and error["fp32"] < 2.5e-7
    assert 1e-6 < error["fast"] <= 1e-5  # not more exact than it should be: it is another product
    assert 1e-3 < error["bf16"] <= 4e-3


@pytest.mark.parametrize("use", MEANS)
def test_what_slices_hold_of_a_number(use: str) -> None:
    """Three all of it; two half of the last bit less; one what bfloat16 rounds to, at ties too."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 1 << 23, (64, 64), "uint32")
    ties = [0x8000, 0x18000, 0x7F8000, 0x7FFFFF, 0x8080, 0x7F80, 0x80, 0x8001]
    bits[:8] = np.array(ties, "uint32")[:, None]  # halves between numbers of 8, and of 16 bits
    bits |= random.integers(127 - 40, 127 + 40, (64, 64), "uint32") << 23
    bits |= random.integers(0, 2, (64, 64), "uint32") << 31
    x = wg.tensor(bits.view("float32"))
    one = wg.tensor(np.eye(64, dtype="float32"))
    assert same_bits(product(x, one, "fp32", use), x.numpy())
    assert same_bits(product(x, one, "bf16", use), x.bfloat16().float().numpy())
    lost = abs(product(x, one, "fast", use) - x.numpy())
    assert (lost <= 2.0**-17 * abs(x.numpy())).all() and lost.max() > 0


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("precision", ["fp32", "fast"])
def test_sums_that_cancel(precision: str, use: str) -> None:
    half = draw(40, 64)
    a = np.concatenate([half, half], 1)
    b = np.concatenate([draw(64, 48, seed=1), -draw(64, 48, seed=1)])
    b[3] += 1e-3
    check(product(wg.tensor(a), wg.tensor(b), precision, use), a, b, BOUND[precision])


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("orders", [10, 20, 36])
def test_values_over_many_orders_of_magnitude(orders: int, precision: str, use: str) -> None:
    """Also where slices, or products of slices, would be smaller than 2^-126."""
    rng = np.random.default_rng(orders)
    a = (draw(40, 50) * 10.0 ** rng.uniform(-orders, 0, (40, 50))).astype("float32")
    b = (draw(50, 40) * 10.0 ** rng.uniform(-orders, 0, (50, 40))).astype("float32")
    a[:5] *= 1e-20
    b[:, :5] *= np.float32(1e-18)
    y = product(wg.tensor(a), wg.tensor(b), precision, use)
    size = np.matmul(abs(a).astype(float), abs(b).astype(float))
    error = abs(y - a.astype(float) @ b.astype(float))
    # float32 itself loses up to 2^-150 of each sum of numbers that it cannot hold.
    assert (error <= BOUND[precision] * size + 50 * 2.0**-149).all()


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_numbers_that_tiles_take_for_zero(precision: str, use: str) -> None:
    a, b = draw(35, 40) * np.float32(1e-39), draw(40, 35) * np.float32(1e30)
    assert abs(a).max() < np.finfo("float32").tiny  # subnormal
    expected = product(wg.tensor(a), wg.tensor(b), "strict", use)
    assert same_bits(product(wg.tensor(a), wg.tensor(b), precision, use), expected)
    assert same_bits(product(wg.tensor(b.T), wg.tensor(a.T), precision, use), expected.T.copy())


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.smoke
def test_what_is_not_finite_is_as_in_strict(precision: str, use: str) -> None:
    a, b = draw(70, 50), draw(50, 40, seed=1)
    a[3, 7], a[40, 0], b[9, 30], a[69, 49] = np.inf, -np.inf, np.nan, 3e38
    b[:, 3] = 0
    strict = product(wg.tensor(a), wg.tensor(b), "strict", use)
    y = product(wg.tensor(a), wg.tensor(b), precision, use)
    assert same_bits(np.isnan(y), np.isnan(strict)) and same_bits(np.isinf(y), np.isinf(strict))
    assert same_bits(y[~np.isfinite(y)], strict[~np.isfinite(strict)])
    rows = np.isfinite(a).all(1) & (abs(a) < 1e38).all(1)
    check(y[rows][:, :30], a[rows], b[:, :30], BOUND[precision])


@pytest.mark.parametrize("use", MEANS)
def test_the_largest_numbers(use: str) -> None:
    """Their nearest bfloat16 is infinity; their product is finite."""
    a = np.full((20, 40), np.finfo("float32").max, "float32")
    b = np.full((40, 20), np.float32(1e-30))
    y = product(wg.tensor(a), wg.tensor(b), "bf16", use)
    assert same_bits(y, product(wg.tensor(a), wg.tensor(b), "strict", use)) and np.isfinite(y).all()


@pytest.mark.parametrize("use", MEANS)
def test_rows_of_zeros_stay_on_tiles(use: str) -> None:
    """They are exact, so nothing is made again, however small the other numbers are."""
    a, b = draw(40, 64) * np.float32(1e-25), draw(64, 40, seed=1)
    a[5] = b[:, 7] = 0
    y = product(wg.tensor(a), wg.tensor(b), "fast", use)
    assert (y[5] == 0).all() and (y[:, 7] == 0).all()
    assert not same_bits(y, product(wg.tensor(a), wg.tensor(b), "strict", use))


# ---- what uses it


@pytest.mark.parametrize("use", MEANS)
def test_bfloat16_tensors(use: str) -> None:
    a, b = (wg.tensor(x).to("bfloat16") for x in (draw(2, 40, 70), draw(70, 50, seed=1)))
    _core._set_tile_use(use)
    y = a @ b
    exact = a.float().numpy().astype(float) @ b.float().numpy().astype(float)
    assert y.dtype == "bfloat16"
    size = abs(a).float().numpy().astype(float) @ abs(b).float().numpy().astype(float)
    assert (abs(y.float().numpy() - exact) <= 2.0**-8 * abs(exact) + 4e-7 * size).all()
    a[0, 0, 0] = np.inf
    _core._set_tile_use("never")
    expected = (a @ b).float().numpy()
    _core._set_tile_use(use)
    assert np.isinf(expected[0, 0]).all()
    assert same_bits((a @ b).float().numpy()[0, 0], expected[0, 0])


@pytest.mark.parametrize("use", MEANS)
def test_a_tiny_bfloat16_counts_in_any_place(use: str) -> None:
    """Tiles take it for 0; nothing else in its row hides that."""
    a, b = np.zeros((35, 70), "float32"), draw(70, 35) * np.float32(1e30)
    for row, term in ((0, 0), (1, 1), (3, 33), (17, 16), (18, 47), (34, 69)):
        a[row, term] = 2.0**-130
    for x, y in ((a, b), (b.T, a.T)):
        for first, second in itertools.product((x, x.T), (y, y.T)):
            one = wg.tensor(first.copy()).to("bfloat16")
            two = wg.tensor(second.copy()).to("bfloat16")
            one, two = (one if first is x else one.T), (two if second is y else two.T)
            _core._set_tile_use("never")
            expected = (one @ two).float().numpy()
            _core._set_tile_use(use)
            assert np.count_nonzero(expected) == 6 * 35
            assert same_bits((one @ two).float().numpy(), expected)


def test_strict_and_other_dtypes_do_not_change() -> None:
    a, b = draw(40, 50), draw(50, 30, seed=1)
    strict = product(wg.tensor(a), wg.tensor(b), "strict", "never")
    assert same_bits(product(wg.tensor(a), wg.tensor(b), "strict", "twin"), strict)
    wide = [wg.tensor(x.astype(float)) for x in (a, b)]
    assert same_bits(product(*wide, "bf16", "twin"), product(*wide, "strict", "never"))


@pytest.mark.parametrize("use", MEANS)
def test_gradients_keep_the_precision_of_their_product(use: str) -> None:
    a, b = (wg.tensor(x).requires_grad_() for x in (draw(40, 50), draw(50, 30, seed=1)))
    g = wg.tensor(draw(40, 30, seed=2))
    _core._set_tile_use(use)
    wg.set_matmul_precision("bf16")
    y = a @ b
    wg.set_matmul_precision("strict")
    y.backward(g)
    assert a.grad is not None and b.grad is not None
    assert same_bits(a.grad.numpy(), product(g, b.detach().T, "bf16", use))
    assert same_bits(b.grad.numpy(), product(a.detach().T, g, "bf16", use))


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.parametrize("width", [40, 700])
def test_compiled_steps_see_the_setting(width: int, use: str) -> None:
    """Bias, activation, their gradients and the update are applied to the blocks of products."""

    def trained(compiled: bool, precisions: list[str]) -> list[np.ndarray]:
        wg.manual_seed(0)
        model = nn.Sequential(nn.Linear(40, width), nn.ReLU(), nn.Linear(width, 33))
        optimizer = wg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x, t = wg.tensor(draw(50, 40)), wg.tensor(draw(50, 33, seed=1))

        def step(x: wg.Tensor, t: wg.Tensor) -> wg.Tensor:
            optimizer.zero_grad()
            loss = ((model(x) - t) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = wg.compile(step) if compiled else step
        _core._set_tile_use(use)
        losses = []
        for precision in precisions:
            wg.set_matmul_precision(precision)
            losses.append(run(x, t).numpy().copy())
        return [*losses, *(p.detach().numpy().copy() for p in model.parameters())]

    order = ["strict", "bf16", "bf16", "fast", "strict", "bf16"]
    for x, y in zip(trained(False, order), trained(True, order), strict=True):
        assert same_bits(x, y)
    assert not same_bits(trained(True, order)[-1], trained(True, ["strict"] * 6)[-1])


def test_a_precision_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r'expected "strict", "fp32", "fast" or "bf16"'):
        wg.set_matmul_precision("medium")


# ---- the system


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PRODUCT = """
    import wengert as wg
    from wengert import _core
    a, b = wg.ones((256, 256)) / 3, wg.ones((256, 256)) / 7
    strict = (a @ b).tolist()
    wg.set_matmul_precision("bf16")
"""


def test_info_names_the_tiles() -> None:
    assert f"tiles       {_core._tile_status()}" in run_python(
        "from wengert.cli import main; main(['info'])"
    )


def test_a_lower_instruction_set_has_no_tiles() -> None:
    found = run_python(
        PRODUCT + "    assert (a @ b).tolist() == strict; print(_core._tile_status())",
        WENGERT_ISA="avx2",
    )
    assert found.strip() in ("WENGERT_ISA forbids them", "this processor has none") or (
        found.startswith("this build")
    )


@needs_tiles
def test_a_system_that_refuses() -> None:
    """Linux refuses where a thread has a signal stack too small for the tiles."""
    refused = run_python(
        """
    import ctypes
    class Stack(ctypes.Structure):
        _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
    memory = ctypes.create_string_buffer(1 << 16)
    small = Stack(ctypes.addressof(memory), 0, 4096)
    assert ctypes.CDLL(None).sigaltstack(ctypes.byref(small), None) == 0
    """
        + PRODUCT
        + "    assert (a @ b).tolist() == strict; print(_core._tile_status())"
    )
    assert refused.startswith("the system does not permit them")


@pytest.mark.parametrize("use", MEANS)
@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of memory")
def test_without_memory_for_slices_the_product_is_strict(use: str) -> None:
    run_python(
        f"""
    import resource
    import wengert as wg
    from wengert import _core

    wg.set_num_threads(1)
    a, b = wg.rand((300, 200)), wg.rand((200, 900))
    expected = (a @ b).tolist()
    kept = [a @ b for _ in range(3)]
    del kept  # memory for results, cached
    wg.set_matmul_precision("bf16")
    _core._set_tile_use("{use}")
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096, resource.RLIM_INFINITY))
    y = a @ b
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    assert y.tolist() == expected
    assert (a @ b).tolist() != expected
    """
    )


@pytest.mark.parametrize("use", MEANS)
def test_in_a_forked_child(use: str) -> None:
    a, b = wg.tensor(draw(100, 80)), wg.tensor(draw(80, 90, seed=1))
    expected = product(a, b, "fp32", use)
    if (child := os.fork()) == 0:
        os._exit(0 if same_bits(product(a, b, "fp32", use), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same_bits(product(a, b, "fp32", use), expected)


@pytest.mark.parametrize("use", MEANS)
def test_the_pool_may_be_resized_while_tiles_are_in_use(use: str) -> None:
    n = 100 if use == "twin" else 700
    a, b = wg.tensor(draw(n, n)), wg.tensor(draw(n, n, seed=1))
    expected = product(a, b, "fp32", use)
    before, done = wg.num_threads(), threading.Event()

    def resize() -> None:
        for i in itertools.count():
            if done.wait(1e-4):
                return
            wg.set_num_threads(1 + i % 3)

    other = threading.Thread(target=resize)
    other.start()
    try:
        found = [product(a, b, "fp32", use) for _ in range(20)]
    finally:
        done.set()
        other.join()
        wg.set_num_threads(before)
    assert all(same_bits(y, expected) for y in found)


@pytest.mark.parametrize("use", MEANS)
def test_a_signals_handler_may_multiply_and_resize_the_pool(use: str) -> None:
    """It runs between the chunks of a product, on the same thread, and needs memory of its own."""
    n = 200 if use == "twin" else 1200
    a, b = wg.tensor(draw(n, n)), wg.tensor(draw(n, n, seed=1))
    c = wg.tensor(draw(100, 80, seed=2))
    expected, of_handler = product(a, b, "fp32", use), product(c, c.T, "fp32", use)
    before, state = wg.num_threads(), {"inside": False, "calls": 0, "wrong": 0}

    def handler(number: int, frame: object) -> None:
        state["calls"] += state["inside"]
        state["wrong"] += not same_bits((c @ c.T).numpy(), of_handler)
        wg.set_num_threads(1 + state["calls"] % 3)

    former = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(1000):
            state["inside"] = True
            signal.setitimer(signal.ITIMER_REAL, 1e-3)
            y = a @ b
            state["inside"] = False
            assert same_bits(y.numpy(), expected)
            if state["calls"] >= 4:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        wg.set_num_threads(before)
    assert state["calls"] >= 4 and not state["wrong"]
