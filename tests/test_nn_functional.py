"""What nn.functional has beyond wengert's names, and its layers, compared with PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.testing import assert_close

F = nn.functional

PADS = [
    (kind, axes)
    for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular")
    for axes in (1, 2, 3)
]


def against_torch(ours, theirs, *arrays):
    """Values, gradients, and gradients of these, to float64's digits."""
    torch = pytest.importorskip("torch")
    found = []
    for library, fn in ((wg, ours), (torch, theirs)):
        x = [library.tensor(a, requires_grad=True) for a in arrays]
        y = fn(*x)
        grad = wg.grad if library is wg else torch.autograd.grad
        first = grad((y * y).sum(), x, create_graph=True)
        second = grad(sum((g * g).sum() for g in first), x)
        found.append([v.detach().numpy() for v in (y, *first, *second)])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, 1e-9, 1e-9)


@pytest.mark.parametrize(("kind", "axes"), PADS)
def test_padding_layers(kind, axes):
    torch = pytest.importorskip("torch")
    name = f"{kind}Pad{axes}d"
    more = (2.5,) if kind == "Constant" else ()
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6)[: 2 + axes])
    for padding in (1, tuple(range(1, 2 * axes + 1))[: 2 * axes] if axes < 2 else (1, 2) * axes):
        ours, theirs = getattr(nn, name)(padding, *more), getattr(torch.nn, name)(padding, *more)
        against_torch(ours, theirs, x)
        against_torch(ours, theirs, x[0])
    cropped = (-1, 2) * axes
    against_torch(getattr(nn, name)(cropped, *more), getattr(torch.nn, name)(cropped, *more), x)
    with pytest.raises(wg.ShapeError, match=name):
        getattr(nn, name)(1, *more)(wg.ones((2,)))
    with pytest.raises(ValueError, match="expected one number"):
        getattr(nn, name)((1,) * (2 * axes + 1), *more)


def test_pads_that_are_refused():
    x = wg.ones((2, 3))
    with pytest.raises(wg.ShapeError, match="crops 4 of the 3 elements along axis 1"):
        F.pad(x, (-2, -2))
    with pytest.raises(wg.ShapeError, match="reflect adds 3 to axis 1"):
        F.pad(x, (3, 0), "reflect")
    assert F.pad(wg.ones((0, 3, 3)), (1, 1), "reflect").shape == (0, 3, 5)
    assert F.pad(x, (-3, 0)).shape == (2, 0)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
def test_pads_that_crop_the_other_side(mode):
    """PyTorch mirrors and repeats elements that are cropped, and goes round without them."""
    torch = pytest.importorskip("torch")
    x = np.arange(25.0).reshape(1, 5, 5)
    for width in ((2, -1), (-1, 2), (2, -3)) if mode == "circular" else ((3, -3), (-4, 2), (2, -5)):
        against_torch(
            lambda x, w=width: F.pad(x, w, mode),
            lambda x, w=width: torch.nn.functional.pad(x, w, mode), x,
        )  # fmt: skip


def test_averages_of_whole_numbers_are_refused():
    x = wg.ones((1, 1, 4, 4), dtype="uint8")
    assert F.interpolate(x, size=2).dtype == wg.uint8
    for mode in ("bilinear", "bicubic", "area"):
        with pytest.raises(wg.DTypeError, match=f"interpolate: x is uint8, and mode '{mode}'"):
            F.interpolate(x, size=2, mode=mode)


def test_functions_with_arguments_of_pytorchs():
    torch = pytest.importorskip("torch")
    TF = torch.nn.functional
    x = np.random.default_rng(1).normal(size=(4, 6, 5)) * 3
    for beta, threshold in ((1.0, 20.0), (3.0, 20.0), (0.5, 1.0)):
        against_torch(
            lambda x, b=beta, t=threshold: F.softplus(x, b, t),
            lambda x, b=beta, t=threshold: TF.softplus(x, b, t), x,
        )  # fmt: skip
        assert (
            nn.Softplus(beta, threshold)(wg.tensor(x)) == F.softplus(wg.tensor(x), beta, threshold)
        ).all()
    for p, axis in ((2.0, 1), (1.0, -1), (3.0, 0)):
        against_torch(
            lambda x, p=p, a=axis: F.normalize(x, p, a),
            lambda x, p=p, a=axis: TF.normalize(x, p, a),
            x,
        )
    for size in (1, 3, 4):
        against_torch(
            lambda x, n=size: F.local_response_norm(x, n, 0.1),
            lambda x, n=size: TF.local_response_norm(x, n, 0.1),
            x,
        )
        against_torch(nn.LocalResponseNorm(size), torch.nn.LocalResponseNorm(size), x)
    for name in ("softmax", "log_softmax", "softmin"):
        y = getattr(F, name)(wg.tensor(x.astype("float32")), dim=1, dtype=wg.float64)
        assert y.dtype == wg.float64
        assert_close(
            y,
            getattr(TF, name)(
                torch.tensor(x.astype("float32")), dim=1, dtype=torch.float64
            ).numpy(),
            1e-12,
            1e-12,
        )
    with pytest.raises(ValueError, match="softplus: beta is 0"):
        F.softplus(wg.ones((2,)), 0)
    with pytest.raises(ValueError, match="local_response_norm: size is 0"):
        F.local_response_norm(wg.ones((1, 2, 3)), 0)


def test_bilinear():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    a, b, w, c = (rng.normal(size=s) for s in ((2, 3, 4), (2, 3, 5), (6, 4, 5), (6,)))
    against_torch(F.bilinear, torch.nn.functional.bilinear, a, b, w, c)
    layer = nn.Bilinear(4, 5, 6)
    assert (
        layer(wg.ones((3, 4)), wg.ones((3, 5))).shape == (3, 6)
        and len(list(layer.parameters())) == 2
    )
    with pytest.raises(wg.ShapeError, match="bilinear: inputs have shapes"):
        layer(wg.ones((3, 5)), wg.ones((3, 4)))


@pytest.mark.parametrize(("axes", "name"), [(1, "Dropout1d"), (2, "Dropout2d"), (3, "Dropout3d")])
def test_whole_channels_are_dropped(axes, name):
    x = wg.ones((50, 40) + (3,) * axes)
    layer = getattr(nn, name)(0.25, generator=wg.Generator(0))
    y = layer(x).numpy().reshape(50 * 40, -1)
    assert (y == y[:, :1]).all() and set(np.unique(y).tolist()) == {
        0.0,
        np.float32(1 / 0.75).item(),
    }
    assert abs((y[:, 0] == 0).mean() - 0.25) < 0.03
    assert layer.eval()(x) is not None and (layer(x) == x).all()
    with pytest.raises(wg.ShapeError, match=name.lower()):
        layer.train()(wg.ones((2,)))


def test_alpha_dropout_keeps_mean_and_variance():
    x = wg.randn((400, 500), generator=wg.Generator(1))
    y = F.alpha_dropout(x, 0.3, True, wg.Generator(2))
    assert abs(y.mean().item()) < 0.02 and abs(y.var().item() - 1) < 0.02
    assert (F.alpha_dropout(x, 0.3, False) == x).all() and (F.alpha_dropout(x, 1.0) == 0).all()
    with pytest.raises(ValueError, match="alpha_dropout: p is 2"):
        F.alpha_dropout(x, 2.0)


def squares(a, b):
    return (a - b).square().sum(-1)


def test_triplets_with_a_distance():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    a, p, n = (rng.normal(size=(5, 4)) for _ in range(3))
    for swap, reduction in ((False, "mean"), (True, "sum"), (False, "none")):
        against_torch(
            lambda *x, s=swap, r=reduction: F.triplet_margin_with_distance_loss(
                *x, distance_function=squares, swap=s, reduction=r),
            lambda *x, s=swap, r=reduction: torch.nn.functional.triplet_margin_with_distance_loss(
                *x, distance_function=squares, swap=s, reduction=r), a, p, n,
        )  # fmt: skip
    with pytest.raises(ValueError, match="margin is 0"):
        F.triplet_margin_with_distance_loss(*map(wg.tensor, (a, p, n)), margin=0)
    with pytest.raises(ValueError, match="margin is -1"):
        F.triplet_margin_loss(*map(wg.tensor, (a, p, n)), margin=-1)


def test_softmax2d():
    x = wg.randn((2, 3, 4, 5))
    assert_close(nn.Softmax2d()(x).sum(1), np.ones((2, 4, 5), "float32"), 1e-6, 1e-6)
    with pytest.raises(wg.ShapeError, match="Softmax2d"):
        nn.Softmax2d()(wg.ones((2, 3)))
