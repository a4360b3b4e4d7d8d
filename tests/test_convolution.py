"""Convolution, pooling and interpolation: against PyTorch by chance, on large images, and refused
arguments. Values one by one: rows.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import wengert as wg
from wengert import nn

F = nn.functional
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Case:
    """Sizes and options by chance."""

    def __init__(self, seed: int, axes: int) -> None:
        self.random = np.random.default_rng([seed, axes])
        self.axes = axes
        self.size = self.numbers(1, 12 if axes < 3 else 7)
        self.kernel, self.stride = self.numbers(1, 4), self.numbers(1, 4)
        self.padding, self.dilation = self.numbers(0, 3), self.numbers(1, 3)
        self.groups = int(self.random.choice([1, 1, 2, 3]))
        self.images, self.inputs, self.outputs = (
            int(self.random.integers(1, n)) for n in (5, 5, 8)
        )

    def numbers(self, low: int, high: int) -> list[int]:
        return [int(n) for n in self.random.integers(low, high, self.axes)]

    def half(self) -> list[int]:
        return [int(self.random.integers(0, k // 2 + 1)) for k in self.kernel]

    def normal(self, *shape: int) -> Any:
        return self.random.standard_normal(shape)


def agree(torch: Any, ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any) -> None:
    """Values, gradients, and second order; what PyTorch refuses is not compared."""
    t = [torch.tensor(a, requires_grad=True) for a in arrays]
    try:
        want = theirs(*t)
    except (RuntimeError, TypeError):
        return
    x = [wg.tensor(a, requires_grad=True) for a in arrays]
    y = ours(*x)
    assert y.shape == tuple(want.shape)
    assert_allclose(y.detach().numpy(), want.detach().numpy(), 1e-9, 1e-9)
    weights = np.random.default_rng(1).standard_normal(y.shape)
    g = wg.grad((y * wg.tensor(weights)).sum(), x, create_graph=True)
    tg = torch.autograd.grad((want * torch.tensor(weights)).sum(), t, create_graph=True)
    for a, b in zip(g, tg, strict=True):
        assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-8, 1e-8)
    if not any(a.requires_grad for a in g):
        return
    second = wg.grad(sum((a * a).sum() for a in g), x, allow_unused=True)
    wanted = torch.autograd.grad(sum((a * a).sum() for a in tg), t, allow_unused=True)
    for c, d in zip(second, wanted, strict=True):
        if c is not None and d is not None:
            assert_allclose(c.numpy(), d.numpy(), 1e-7, 1e-7)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(25))
def test_convolutions_by_chance(axes: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    c = Case(seed, axes)
    x = c.normal(c.images, c.groups * c.inputs, *c.size)
    w = c.normal(c.groups * c.outputs, c.inputs, *c.kernel)
    window = (c.stride, c.padding, c.dilation, c.groups)
    name = f"conv{axes}d"
    agree(
        torch,
        lambda x, w, b: getattr(F, name)(x, w, b, *window),
        lambda x, w, b: getattr(torch.nn.functional, name)(x, w, b, *window),
        *(x, w, c.normal(c.groups * c.outputs)),
    )
    w = c.normal(c.groups * c.inputs, c.outputs, *c.kernel)
    more = [int(c.random.integers(0, max(s, d))) for s, d in zip(*window[::2], strict=True)]
    turned = (c.stride, c.padding, more, c.groups, c.dilation)
    name = f"conv_transpose{axes}d"
    agree(
        torch,
        lambda x, w, b: getattr(F, name)(x, w, b, *turned),
        lambda x, w, b: getattr(torch.nn.functional, name)(x, w, b, *turned),
        *(x, w, c.normal(c.groups * c.outputs)),
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_padding_in_pairs_is_that_of_pad(axes: int) -> None:
    rng = np.random.default_rng(axes)
    x, w = (rng.standard_normal(s) for s in ((2, 4, *(6,) * axes), (6, 2, *(3,) * axes)))
    conv, pairs = getattr(F, f"conv{axes}d"), [(0, 2), (3, 0), (1, 1)][:axes]
    for stride in (1, 2):
        given = [wg.tensor(a, requires_grad=True) for a in (x, w)]
        found = conv(*given, None, stride, pairs, 1, 2)
        wide = np.pad(x, [(0, 0), (0, 0), *pairs])
        apart = [wg.tensor(wide, requires_grad=True), wg.tensor(w, requires_grad=True)]
        wanted = conv(*apart, None, stride, 0, 1, 2)
        assert_allclose(found.detach().numpy(), wanted.detach().numpy(), 1e-12, 1e-12)
        (found * found).sum().backward()
        (wanted * wanted).sum().backward()
        inner = (slice(None), slice(None), *(slice(a, a + 6) for a, _ in pairs))
        assert_allclose(given[0].grad.numpy(), apart[0].grad.numpy()[inner], 1e-10, 1e-10)
        assert_allclose(given[1].grad.numpy(), apart[1].grad.numpy(), 1e-10, 1e-10)
    with pytest.raises(ValueError, match="expected 0 or more"):
        conv(*given, padding=[(0, -1)] * axes)
    with pytest.raises(ValueError, match="whole number"):
        conv(*given, padding=[(0, 1, 2)] * axes)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_no_images_and_single_elements(axes: int, seed: int) -> None:
    """Batches of none, axes of one element, kernels of one: as PyTorch, gradients too."""
    torch = pytest.importorskip("torch")
    c = Case(seed + 500, axes)
    t = torch.nn.functional
    many, size, kernel = (
        (0, c.size, c.kernel),
        (2, [1] * axes, c.kernel),
        (2, [1] * axes, [1] * axes),
        (0, [1] * axes, [1] * axes),
        (2, c.size, [1] * axes),
        (0, c.size, [1] * axes),
    )[seed]
    pads = [k // 2 for k in kernel]
    x = c.normal(many, 4, *size)
    w = c.normal(6, 2, *kernel)
    for stride in (1, 2):
        agree(
            torch,
            lambda x, w, s=stride: getattr(F, f"conv{axes}d")(x, w, None, s, pads, 1, 2),
            lambda x, w, s=stride: getattr(t, f"conv{axes}d")(x, w, None, s, pads, 1, 2),
            *(x, w),
        )
        turned = c.normal(4, 3, *kernel)
        agree(
            torch,
            lambda x, w, s=stride: getattr(F, f"conv_transpose{axes}d")(x, w, None, s, pads, 0, 2),
            lambda x, w, s=stride: getattr(t, f"conv_transpose{axes}d")(x, w, None, s, pads, 0, 2),
            *(x, turned),
        )
    for name, options in (
        ("max_pool", (kernel, 1, pads)), ("avg_pool", (kernel, 2, pads, True, False)),
        ("adaptive_avg_pool", (2,)), ("adaptive_max_pool", (3,)), ("lp_pool", (2.0, kernel)),
    ):  # fmt: skip
        agree(
            torch,
            lambda x, n=name, o=options: getattr(F, f"{n}{axes}d")(x, *o),
            lambda x, n=name, o=options: getattr(t, f"{n}{axes}d")(x, *o),
            np.abs(x) + 0.5,
        )
    for mode in ("nearest", LINEAR[axes]):
        agree(
            torch,
            lambda x, m=mode: F.interpolate(x, scale_factor=2, mode=m),
            lambda x, m=mode: t.interpolate(x, scale_factor=2, mode=m),
            x,
        )


def test_sizes_that_no_memory_holds() -> None:
    """Errors, and soon: nothing loops over them."""
    x, big = wg.ones((1, 4, 6, 5)), 2**40
    assert_array_equal(F.avg_pool2d(x, (big, 1), ceil_mode=True).numpy(), np.ones((1, 4, 1, 5)))
    assert_array_equal(F.max_pool2d(x, (big, 1), ceil_mode=True).numpy(), np.ones((1, 4, 1, 5)))
    for call in (
        lambda: F.avg_pool2d(x, (big, 1)), lambda: F.max_pool2d(x, (big, 1)),
        lambda: F.lp_pool2d(x, 2, (big, 1)), lambda: F.unfold(x, (big, 1)),
        lambda: F.conv2d(x, wg.ones((2, 4, 3, 1)), padding=big),
        lambda: F.conv_transpose2d(x, wg.ones((4, 1, 3, 3)), stride=big),
        lambda: F.adaptive_avg_pool2d(x, (big, 1)), lambda: F.adaptive_max_pool2d(x, (big, 2)),
        lambda: F.interpolate(x, (big, 2)), lambda: F.pad(x, (0, 0, big, big), "replicate"),
        lambda: wg.pad(x, [(0, 0)] * 3 + [(big, 0)], "wrap"), lambda: F.pixel_shuffle(x, big),
    ):  # fmt: skip
        with pytest.raises((ValueError, MemoryError)):
            call()


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_pools_by_chance(axes: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    c = Case(seed + 100, axes)
    x = c.normal(c.images, c.inputs, *c.size)
    ceil, pads, out = bool(seed % 2), c.half(), c.numbers(1, 8)
    one = [1] * axes
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("max_pool", (c.kernel, c.stride, pads, one, ceil)),
        ("avg_pool", (c.kernel, c.stride, pads, ceil, bool(seed % 3))),
        ("adaptive_avg_pool", (out,)),
        ("adaptive_max_pool", (out,)),
    ]
    for name, options in calls:
        ours, theirs = (getattr(where, f"{name}{axes}d") for where in (F, torch.nn.functional))
        agree(
            torch,
            lambda x, f=ours, o=options: f(x, *o),
            lambda x, f=theirs, o=options: f(x, *o),
            x,
        )
    if axes == 1:
        return
    name = f"lp_pool{axes}d"
    agree(
        torch,
        lambda x: getattr(F, name)(x.abs() + 0.1, 3.0, c.kernel, c.stride, ceil),
        lambda x: getattr(torch.nn.functional, name)(x.abs() + 0.1, 3.0, c.kernel, c.stride, ceil),
        x,
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_interpolations_by_chance(axes: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    c = Case(seed + 200, axes)
    x = c.normal(c.images, 2, *[n + 3 for n in c.size])
    # PyTorch 2.13's antialiased result of width 1 is not what its own gradient says: from 2 on.
    out, factors = c.numbers(2, 9), [float(f) for f in c.random.choice([0.5, 0.7, 1.7, 2.0], axes)]
    smooth = [LINEAR[axes], *(["bicubic"] if axes == 2 else [])]
    for mode in ("nearest", "nearest-exact", "area", *smooth):
        for corners in (None, False, True) if mode in smooth else (None,):
            for antialias in (False, True) if mode in smooth and axes == 2 else (False,):
                for size, factor in ((out, None), (None, factors)):
                    options = (size, factor, mode, corners, None, antialias)
                    agree(
                        torch,
                        lambda x, o=options: F.interpolate(x, *o),
                        lambda x, o=options: torch.nn.functional.interpolate(x, *o),
                        x,
                    )


@pytest.mark.parametrize("size", [(1, 2), (5, 7), (9, 40), (17, 33)])
@pytest.mark.parametrize("padding", [0, 1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    """Each channel by itself, where the edges of an image are a large part of it or a small one."""
    torch = pytest.importorskip("torch")
    if min(size) + 2 * padding < kernel:
        pytest.skip("no window")
    random = np.random.default_rng(0)
    x, w = random.standard_normal((2, 3, *size)), random.standard_normal((3, 1, kernel, kernel))
    agree(
        torch,
        lambda x, w: wg.conv2d(x, w, None, stride, padding, 1, 3),
        lambda x, w: torch.conv2d(x, w, None, stride, padding, 1, 3),
        *(x, w),
    )


# images, inputs, outputs, size, kernel, stride, padding, dilation, groups: bands of rows, several
# images at a time, strides, one output, single channels.
LARGE = [
    (3, 32, 48, 56, 3, 1, 1, 1, 1),
    (1, 3, 16, 224, 7, 2, 3, 1, 1),
    (5, 64, 32, 14, 3, 1, 1, 1, 1),
    (5, 32, 64, 28, 1, 2, 0, 1, 1),
    (2, 24, 24, 40, 3, 1, 1, 1, 24),
    (3, 16, 16, 30, 5, 2, 2, 1, 16),
    (2, 8, 12, 200, 3, 1, 2, 2, 4),
    (7, 40, 33, 7, 3, 1, 1, 1, 1),
    (2, 1, 1, 300, 5, 1, 2, 1, 1),
    (5, 40, 40, 7, 3, 1, 1, 1, 40),
    (3, 6, 6, 83, 3, 2, 1, 1, 6),
    (2, 24, 80, 56, 1, 1, 0, 1, 1),
    (1, 600, 20, 6, 3, 1, 1, 1, 1),
    # Blocks of outputs, several images at a time, phases, elements without a tap, many taps.
    (2, 70, 130, 15, 3, 2, 1, 1, 1),
    (4, 20, 24, 13, 1, 3, 2, 1, 1),
    (2, 2, 9, 40, 12, 1, 5, 1, 1),
    (4, 32, 96, 14, 3, 1, 1, 1, 2),
    # Winograd's: bands, several images, edges, paddings, groups.
    (9, 40, 33, 7, 3, 1, 1, 1, 1),
    (20, 17, 70, 8, 3, 1, 0, 1, 1),
    (3, 20, 24, 17, 3, 1, 3, 1, 1),
    (2, 32, 32, 61, 3, 1, 2, 1, 2),
    (9, 130, 16, 9, 3, 1, 1, 1, 1),
]


def all_of(
    case: tuple[int, ...], dtype: str
) -> tuple[list[wg.Tensor], Callable[[], list[wg.Tensor]]]:
    n, c, o, size, kernel, stride, padding, dilation, groups = case
    random = np.random.default_rng(0)
    x = wg.tensor(random.standard_normal((n, c, size, size)), dtype=dtype, requires_grad=True)
    w = random.standard_normal((o, c // groups, kernel, kernel))
    w = wg.tensor(w, dtype=dtype, requires_grad=True)

    def run() -> list[wg.Tensor]:
        y = wg.conv2d(x, w, None, stride, padding, dilation, groups)
        g = wg.tensor(np.random.default_rng(1).standard_normal(y.shape), dtype=dtype)
        return [y.detach(), *wg.grad(y, [x, w], g)]

    return [x, w], run


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_large_images(case: tuple[int, ...]) -> None:
    """float32 near float64, in the same bits for any number of threads; float64 as windows and one
    product of matrices have it."""
    _, single = all_of(case, "float32")
    (x, w), double = all_of(case, "float64")
    want = double()
    bits = []
    for threads in (1, 3):
        wg.set_num_threads(threads)
        found = single()
        bits.append([a.numpy().tobytes() for a in found])
    assert bits[0] == bits[1]
    for a, b in zip(found, want, strict=True):
        scale = float(b.square().mean().sqrt())
        assert_allclose(a.numpy(), b.numpy(), 0, 2e-5 * scale)
    n, _, _, _, kernel, stride, padding, dilation, groups = case
    v = F.unfold(x.detach(), kernel, dilation, padding, stride)
    v = v.reshape(n, groups, -1, v.shape[-1])
    y = w.detach().reshape(groups, len(w) // groups, -1) @ v
    assert_allclose(y.reshape(want[0].shape).numpy(), want[0].numpy(), 1e-9, 1e-9)


def test_an_image_that_no_tap_sees() -> None:
    x, w = wg.ones((2, 5, 1, 1), requires_grad=True), wg.ones((6, 5, 1, 1), requires_grad=True)
    y = wg.conv2d(x, w, None, stride=3, padding=2)
    assert y.shape == (2, 6, 2, 2)
    for a in (y.detach(), *wg.grad(y.sum(), [x, w])):
        assert_array_equal(a.numpy(), 0)


def test_nothing_beside_an_image_comes_in() -> None:
    """NaN in one image, channel or group stays there, and a padding of zeros is no product."""
    x = np.ones((3, 4, 9, 9), np.float32)
    x[1] = math.nan
    x[2, 2:] = math.inf
    w = wg.ones((4, 2, 3, 3))
    y = wg.conv2d(wg.tensor(x), w, padding=1, groups=2).numpy()
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
    assert np.isfinite(y[2, :2]).all() and np.isinf(y[2, 2:]).all()
    single = wg.conv2d(wg.tensor(x), wg.ones((4, 1, 3, 3)), padding=1, groups=4)
    assert np.isfinite(single.numpy()[2, :2]).all()
    t = wg.tensor(x)
    grad = wg.grad(
        wg.conv2d(t, k := wg.ones((4, 1, 3, 3), requires_grad=True), padding=1, groups=4)[0].sum(),
        [k],
    )[0]
    assert np.isnan(grad.numpy()).any()  # 0 * NaN of the other images
    at = np.arange(16.0).reshape(1, 1, 4, 4)
    at[0, 0, 1, 1] = math.nan
    values, indices = F.max_pool2d(wg.tensor(at), 2, return_indices=True)
    assert_array_equal(values.numpy(), [[[[math.nan, 7.0], [13.0, 15.0]]]])
    assert_array_equal(indices.numpy(), [[[[5, 7], [13, 15]]]])


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.inf, "x"),
        (-math.inf, "w"),
        (math.nan, "x"),
        (math.nan, "w"),
        (math.inf, "g"),
        (3e38, "x"),
        (3e38, "g"),
    ],
)
def test_what_is_not_finite_is_where_windows_see_it(value: float, place: str) -> None:
    """As in float64, though the sums of four elements that save products overflow or are inf - inf;
    what a compiled step does behind a convolution is done once."""
    random = np.random.default_rng(0)
    arrays = {
        "x": random.standard_normal((3, 20, 16, 16)).astype(np.float32),
        "w": random.standard_normal((40, 20, 3, 3)).astype(np.float32),
        "g": random.standard_normal((3, 40, 16, 16)).astype(np.float32),
    }
    if math.isfinite(value):  # results are smaller, sums of four elements larger
        arrays = {k: a * np.float32(1e-3) for k, a in arrays.items()}
        arrays[place][1, 3, 4:9] = value
    else:
        arrays[place].reshape(3 if place != "w" else 40, -1)[1, 5] = value

    def run(dtype: str) -> list[np.ndarray]:
        x, w, g = (wg.tensor(a, dtype=dtype, requires_grad=True) for a in arrays.values())
        y = wg.conv2d(x, w, padding=1)
        return [a.detach().numpy() for a in (y, *wg.grad(y, [x, w], g.detach()))]

    for a, b in zip(run("float32"), run("float64"), strict=True):
        with np.errstate(over="ignore"):
            b = b.astype(np.float32)
        finite = np.isfinite(b)
        assert_array_equal(a[~finite], b[~finite])
        scale = np.abs(b[finite]).max() if finite.any() else 0
        assert_allclose(a[finite], b[finite], 1e-5, 1e-6 * scale)

    x, w, g = (wg.tensor(a) for a in arrays.values())

    def step(x: wg.Tensor) -> wg.Tensor:
        return wg.relu(wg.conv2d(x, w, padding=1) * 0.5 + g)

    assert_array_equal(wg.compile(step)(x).numpy(), step(x).numpy())


def test_strides_and_dilations_beyond_all_sizes() -> None:
    """A stride or padding of 2^30 and more costs no time and no memory that is not there."""
    x = wg.ones((1, 4, 3, 3), requires_grad=True)
    w = wg.ones((5, 4, 1, 1), requires_grad=True)
    far = 2**39
    y = F.conv2d(x, w, stride=far)
    assert y.shape == (1, 5, 1, 1)
    gx, gw = wg.grad(y.sum(), [x, w])
    assert gx.sum().item() == 20.0 and gx[0, :, 0, 0].tolist() == [5.0] * 4
    assert gw.tolist() == [[[[1.0]]] * 4] * 5
    for outputs in (1, 5):
        w3 = wg.ones((outputs, 1, 2, 2, 2))
        with pytest.raises((ValueError, wg.OutOfMemoryError, MemoryError)):
            F.conv3d(wg.ones((1, 1, 1, 1, 1)), w3, padding=far, dilation=2 * far)


def test_first_of_equal_elements_gets_the_gradient() -> None:
    x = wg.zeros((1, 1, 4), requires_grad=True)
    F.max_pool1d(x, 3, 1).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[1.0, 1.0, 0.0, 0.0]]]
    x = wg.zeros((1, 1, 5), requires_grad=True)
    F.adaptive_max_pool1d(x, 2).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[1.0, 0.0, 1.0, 0.0, 0.0]]]


def test_unpooling() -> None:
    x = wg.tensor(np.random.default_rng(0).standard_normal((2, 3, 6, 8)))
    y, at = F.max_pool2d(x, 2, return_indices=True)
    z = F.max_unpool2d(y, at, 2)
    assert z.shape == x.shape
    assert_array_equal(F.max_pool2d(z.abs(), 2).numpy(), abs(y.numpy()))
    assert int((z != 0).sum()) == y.numel()
    assert F.max_unpool2d(y[0], at[0], 2, output_size=(7, 9)).shape == (3, 7, 9)


def test_pixels() -> None:
    x = wg.arange(2 * 8 * 3 * 2).reshape(2, 8, 3, 2)
    y = F.pixel_shuffle(x, 2)
    assert y.shape == (2, 2, 6, 4)
    assert y[0, 0, :2, :2].tolist() == [[0, 6], [12, 18]]
    assert_array_equal(F.pixel_unshuffle(y, 2).numpy(), x.numpy())
    assert F.channel_shuffle(x, 4)[0, :, 0, 0].tolist() == [0, 12, 24, 36, 6, 18, 30, 42]


def test_a_network_trains_and_compiles() -> None:
    """Compiled steps have eager's bits; layers keep their weights in a state."""
    wg.manual_seed(0)

    def network() -> nn.Module:
        generator = wg.Generator(3)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, generator=generator),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 8, 3, 2, padding="valid", padding_mode="reflect", generator=generator),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 2, generator=generator),
        )

    random = np.random.default_rng(0)
    x = wg.tensor(random.standard_normal((6, 1, 12, 12)), dtype="float32")
    target = wg.tensor(random.integers(0, 2, 6))
    states = []
    for compiled in (False, True):
        model = network()
        rule = wg.optim.Adam(model.parameters(), lr=0.01)

        def step(x: wg.Tensor, t: wg.Tensor, model: Any = model, rule: Any = rule) -> wg.Tensor:
            loss = nn.functional.cross_entropy(model(x), t)
            rule.zero_grad()
            loss.backward()
            rule.step()
            return loss

        run = wg.compile(step) if compiled else step
        losses = [float(run(x, target)) for _ in range(4)]
        assert losses[-1] < losses[0]
        states.append({k: v.numpy().tobytes() for k, v in model.state_dict().items()})
    assert states[0] == states[1]


def test_layers_are_their_functions() -> None:
    x = wg.tensor(np.random.default_rng(0).standard_normal((2, 4, 9)), dtype="float32")
    layer = nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, groups=2)
    assert layer.weight.shape == (4, 3, 3)
    assert layer(x).shape == (2, 6, 17)
    assert layer(x, output_size=(18,)).shape == (2, 6, 18)
    with pytest.raises(ValueError, match="output_size"):
        layer(x, output_size=(19,))
    conv = nn.Conv1d(4, 2, 3, padding="same", dilation=2, bias=False)
    assert conv.bias is None and conv(x).shape == (2, 2, 9)
    even = nn.Conv1d(4, 2, 4, padding="same")
    around = F.conv1d(F.pad(x, (1, 2)), even.weight, even.bias)
    assert_array_equal(even(x).detach().numpy(), around.detach().numpy())
    assert "groups=2" in repr(nn.Conv2d(4, 4, 3, groups=2))
    assert nn.Upsample(scale_factor=2)(x).shape == (2, 4, 18)
    padded = nn.Conv1d(4, 2, 3, padding=1, padding_mode="circular")
    around = F.conv1d(F.pad(x, (1, 1), "circular"), padded.weight, padded.bias)
    assert_array_equal(padded(x).detach().numpy(), around.detach().numpy())
    folded = nn.Fold((4, 4), 2, stride=2)(nn.Unfold(2, stride=2)(wg.ones((1, 1, 4, 4))))
    assert folded.tolist() == [[[[1.0] * 4] * 4]]


X, W = "wg.ones((2, 4, 8, 8))", "wg.ones((6, 4, 3, 3))"
BAD = [
    (f"F.conv2d({X}, wg.ones((6, 3, 3, 3)))", "conv2d: x has 4 channels .* expected 3"),
    (f"F.conv2d({X}, {W}, groups=4)", "groups 4"),
    (f"F.conv2d({X}, {W}, groups=0)", "groups is 0; expected 1 or more"),
    (f"F.conv2d({X}, {W}, stride=0)", "stride is 0; expected 1 or more"),
    (f"F.conv2d({X}, {W}, padding=-1)", "padding is -1; expected 0 or more"),
    (f"F.conv2d({X}, {W}, padding=2**62)", "padding is .* at most 2\\^40"),
    (f"F.conv2d({X}, {W}, dilation=4)", "a kernel of 3 with dilation 4 is longer than the 8"),
    (f"F.conv2d({X}, {W}, stride=(1, 2, 3))", "stride is .* expected a whole number, or 2"),
    (f"F.conv2d({X}, {W}, padding='near')", "'same', 'valid'"),
    (f"F.conv2d({X}, {W}, stride=2, padding='same')", "needs stride 1"),
    (f"F.conv2d({X}, {W}, wg.ones(5))", "bias has shape"),
    (f"F.conv2d({X}, wg.ones((6, 4, 3)))", "expected 2 axes behind"),
    (f"F.conv2d({X}[0, 0], {W})", "x has shape \\(8, 8\\)"),
    (f"F.conv2d({X}.double(), {W})", "float64 .* float32"),
    (
        "F.conv2d(wg.ones((1, 1, 2, 2), dtype='int64'), wg.ones((1, 1, 1, 1), dtype='int64'))",
        "float",
    ),
    (f"F.conv_transpose2d({X}, wg.ones((4, 2, 3, 3)), output_padding=1)", "output_padding"),
    (f"F.conv_transpose2d({X}, wg.ones((3, 2, 3, 3)))", "x has 4 channels"),
    (f"F.conv_transpose2d({X}, wg.ones((4, 2, 3, 3)), stride=0)", "stride"),
    (f"F.max_pool2d({X}, 3, padding=2)", "at most half of the kernel"),
    (f"F.max_pool2d({X}, 0)", "kernel_size is"),
    (f"F.max_pool2d({X}, 9)", "longer than the 8"),
    ("F.max_pool1d(wg.ones((1, 1, 1)), 2, 1, 1, 2)", "is padding alone"),
    (f"F.avg_pool2d({X}, 2, divisor_override=0)", "divisor_override is 0"),
    ("F.adaptive_avg_pool2d(wg.ones((1, 1, 0, 3)), 2)", "must have elements"),
    ("F.adaptive_avg_pool1d(wg.arange(6).reshape(1, 1, 6), 4)", "int64, and a mean makes averages"),
    (
        "F.interpolate(wg.arange(6).reshape(1, 1, 6), 4, mode='area')",
        "int64, and mode 'area' makes",
    ),
    (f"F.unfold({X}, 9)", "longer than the 8"),
    (f"F.fold({X}[:, :, 0], (4, 4), 2)", "fold: x has shape"),
    (f"F.interpolate({X})", "expected one of both"),
    (f"F.interpolate({X}, 3, mode='linear')", "bilinear or bicubic"),
    (f"F.interpolate({X}, 3, align_corners=True)", "align_corners goes with"),
    (f"F.interpolate({X}, 0)", "the new size is"),
    (f"F.interpolate({X}, scale_factor=-1.0)", "scale_factor is -1.0"),
    (f"F.pixel_shuffle({X}, 3)", "multiple of its square"),
    ("nn.Conv2d(4, 6, 3, groups=4)", "multiples of groups"),
    ("nn.Conv2d(4, 6, 3, padding_mode='mirror')", "padding_mode"),
    ("nn.Conv2d(4, 6, 0)", "kernel_size"),
    ("nn.ConvTranspose2d(4, 6, 3, padding_mode='reflect')", "expected 'zeros'"),
]


@pytest.mark.parametrize(("call", "words"), BAD, ids=[call for call, _ in BAD])
def test_bad_arguments_are_named(call: str, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        eval(call, {"wg": wg, "F": F, "nn": nn})
