"""Weights that are computed: weight_norm and spectral_norm against PyTorch and closed forms."""

import copy
import re

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.nn.utils import (
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)
from wengert.testing import assert_close

G = wg.Generator(3)


def layer(out=3, features=4):
    return nn.Linear(features, out, dtype="float64", generator=wg.Generator(3))


def train(model, x, steps=3):
    optimizer = wg.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_as_pytorch(dim):
    torch = pytest.importorskip("torch")
    ours = layer()
    theirs = torch.nn.Linear(4, 3, dtype=torch.float64)
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    before = ours.weight.detach().clone()
    assert weight_norm(ours, dim=dim) is ours
    theirs = torch.nn.utils.weight_norm(theirs, dim=dim)
    assert_close(ours.weight, before, 1e-14)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    x = np.random.default_rng(0).normal(size=(5, 4))
    train(ours, wg.tensor(x))
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        theirs(torch.tensor(x)).square().mean().backward()
        optimizer.step()
    for name, value in theirs.state_dict().items():
        assert_close(ours.state_dict()[name], value.numpy(), 1e-12)


def test_spectral_norm_is_the_largest_singular_value():
    model = layer(5, 4)
    weight = model.weight.detach().numpy().copy()
    spectral_norm(model, n_power_iterations=50, generator=G)
    largest = np.linalg.svd(weight)[1][0]
    assert_close(model.weight, weight / largest, 1e-9)
    assert sorted(model.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    assert model.state_dict()["weight_u"].shape == (5,)
    assert {n for n, _ in model.named_parameters()} == {"bias", "weight_orig"}
    # d sigma / d W = u v'
    (g,) = wg.autograd.grad((model.weight * wg.tensor(weight)).sum(), [model.weight_orig])
    u, v = model.weight_u.numpy(), model.weight_v.numpy()
    expected = weight / largest - (weight**2).sum() / largest**2 * np.outer(u, v)
    np.testing.assert_allclose(g.numpy(), expected, rtol=1e-9)


def test_spectral_norm_iterates_in_training_only():
    model = spectral_norm(layer(), generator=G)
    u = model.weight_u.clone()
    model.eval()
    assert wg.array_equal(model.weight, model.weight)
    assert wg.array_equal(model.weight_u, u)
    model.train()
    model(wg.ones((1, 4), "float64"))
    assert not wg.array_equal(model.weight_u, u)
    train(model, wg.ones((2, 4), "float64"))
    model.eval()
    assert np.linalg.svd(model.weight.detach().numpy())[1][0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("norm", [weight_norm, lambda m: spectral_norm(m, generator=G)])
def test_compiled_copied_saved(norm, tmp_path):
    model = nn.Sequential(norm(layer()), nn.Tanh())
    twin, other = copy.deepcopy(model), nn.Sequential(norm(layer()), nn.Tanh())
    x = wg.tensor(np.random.default_rng(1).normal(size=(5, 4)))
    for m, call in ((model, lambda f: f), (twin, wg.compile)):
        optimizer = wg.optim.SGD(m.parameters(), 0.1)

        @call
        def step(x, m=m, optimizer=optimizer):
            optimizer.zero_grad()
            loss = m(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        losses = [step(x).item() for _ in range(4)]
    assert losses[0] > losses[-1]
    for name, value in model.state_dict().items():
        assert wg.array_equal(value, twin.state_dict()[name]), name
    wg.save(tmp_path / "m.safetensors", model.state_dict())
    other.load_state_dict(wg.load(tmp_path / "m.safetensors"))
    assert wg.array_equal(other.eval()(x), model.eval()(x))
    assert type(model[0]).__name__ == "Linear"
    assert isinstance(model[0], nn.Linear)


def test_taken_away_again():
    model, x = layer(), wg.ones((1, 4), "float64")
    before = model(x).detach()
    spectral_norm(weight_norm(model), "weight_v", generator=G)
    with pytest.raises(ValueError, match="not by the last function"):
        remove_weight_norm(model)
    remove_spectral_norm(model, "weight_v")
    assert_close(remove_weight_norm(model)(x), before, 1e-12)
    assert type(model) is nn.Linear
    assert sorted(model.state_dict()) == ["bias", "weight"]
    assert isinstance(model.weight, nn.Parameter)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: weight_norm(nn.ReLU()), ValueError, "weight_norm: ReLU has no parameter 'weight'"),
        (lambda: weight_norm(weight_norm(layer())), ValueError, "weight_norm: Linear has no par"),
        (lambda: weight_norm(layer(), dim=2), IndexError, "weight_norm: dim 2 is out of range"),
        (lambda: spectral_norm(layer(), n_power_iterations=0), ValueError, "expected 1 or more"),
        (lambda: remove_weight_norm(layer()), ValueError, "remove_weight_norm: 'weight' of Linear"),
        (lambda: nn.utils.clip_grad_norm_, AttributeError, "write wengert.optim.clip_grad_norm_"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


# ---- batch norms folded into the layer before them


def settled(norm):
    """A batch norm as after some training."""
    rng = np.random.default_rng(1)
    n, dtype = norm.num_features, norm.running_mean.dtype
    for name in ("running_mean", "running_var", "weight", "bias"):
        t = getattr(norm, name)
        if t is not None:
            with wg.no_grad():
                t.copy_(wg.tensor(rng.uniform(0.2, 2.0, n)).to(dtype))
    return norm.eval()


def pairs():
    for axes in (1, 2, 3):
        norm = getattr(nn, f"BatchNorm{axes}d")
        for more in ({}, {"bias": False}, {"groups": 2, "stride": 2}, {"padding_mode": "circular",
                                                                      "padding": 1}):  # fmt: skip
            conv = getattr(nn, f"Conv{axes}d")(4, 6, 3, dtype="float64", **more)
            yield conv, norm(6, dtype="float64", affine="bias" not in more), False
        for more in ({}, {"bias": False, "groups": 2, "output_padding": 1, "stride": 2}):
            conv = getattr(nn, f"ConvTranspose{axes}d")(4, 6, 3, dtype="float64", **more)
            yield conv, norm(6, dtype="float64"), True


@pytest.mark.parametrize("conv, norm, transpose", list(pairs()))
def test_fuse_conv_bn_eval(conv, norm, transpose):
    wg.manual_seed(0)
    settled(norm)
    conv.eval()
    x = wg.randn((2, 4, *(7,) * conv.axes), "float64")
    expected = norm(conv(x))
    before = conv.weight.detach().numpy().copy()
    fused = nn.utils.fuse_conv_bn_eval(conv, norm, transpose)
    assert type(fused) is type(conv) and fused is not conv and fused.weight.requires_grad
    assert_close(fused(x), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(conv.weight.detach().numpy(), before)
    with pytest.raises(TypeError, match="expected a"):
        nn.utils.fuse_conv_bn_eval(conv, norm, not transpose)
    with pytest.raises(ValueError, match="eval"):
        nn.utils.fuse_conv_bn_eval(conv.train(), norm, transpose)


def test_fuse_weights_as_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    given = [rng.uniform(0.5, 1.5, shape).astype(np.float32)
             for shape in ((6, 4, 3, 3), (6,), (6,), (6,), (6,), (6,))]  # fmt: skip
    for lacks in (4, 5, 1, None):
        ours = [None if i == lacks else wg.tensor(a) for i, a in enumerate(given)]
        theirs = [None if i == lacks else torch.tensor(a) for i, a in enumerate(given)]
        expected = torch.nn.utils.fuse_conv_bn_weights(*theirs[:4], 1e-3, *theirs[4:])
        found = nn.utils.fuse_conv_bn_weights(*ours[:4], 1e-3, *ours[4:])
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-6, atol=1e-6)
    flat = [ours[0][:, :, 0, 0], *ours[1:]]
    torch_flat = [theirs[0][:, :, 0, 0], *theirs[1:]]
    for a, b in zip(nn.utils.fuse_linear_bn_weights(*flat[:4], 1e-3, *flat[4:]),
                    torch.nn.utils.fuse_linear_bn_weights(*torch_flat[:4], 1e-3, *torch_flat[4:]),
                    strict=True):  # fmt: skip
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-6, atol=1e-6)


def test_fuse_linear_bn_eval_and_what_is_refused():
    linear, norm = layer(3).eval(), settled(nn.BatchNorm1d(3, dtype="float64"))
    x = wg.randn((5, 4), "float64")
    fused = nn.utils.fuse_linear_bn_eval(linear, norm)
    assert_close(fused(x), norm(linear(x)), rtol=1e-12, atol=1e-12)
    for error, bad in (
        (wg.ShapeError, (linear, nn.BatchNorm1d(4).eval())),
        (ValueError, (linear, nn.BatchNorm1d(3, track_running_stats=False).eval())),
        (TypeError, (linear, nn.ReLU().eval())),
        (TypeError, (nn.ReLU().eval(), norm)),
        (ValueError, (weight_norm(layer(3)).eval(), norm)),
    ):
        with pytest.raises(error, match="fuse_linear_bn_eval"):
            nn.utils.fuse_linear_bn_eval(*bad)


class Branches(nn.Module):
    """Pairs that may be folded, and all that must not be."""

    def __init__(self):
        def conv():
            return nn.Conv2d(3, 3, 3, padding=1, dtype="float64")

        def norm():
            return settled(nn.BatchNorm2d(3, dtype="float64"))

        self.good = nn.Sequential(
            conv(), norm(), nn.ReLU(), nn.Sequential(conv(), nn.Identity(), norm())
        )
        self.late, self.late_norm = conv(), norm()
        self.seen, self.seen_norm = conv(), norm()
        self.twice, self.twice_norms = conv(), nn.ModuleList([norm(), norm()])
        self.shared_norm, self.a, self.b = norm(), conv(), conv()
        self.first = norm()
        self.between, self.between_norm = conv(), norm()
        self.normed, self.normed_norm = weight_norm(conv()), norm()
        self.head, self.head_norm = layer(3, 3), settled(nn.BatchNorm1d(3, dtype="float64"))

    def forward(self, x):
        x = self.good(self.first(x))
        late = self.late(x)
        x = x + self.twice_norms[0](self.twice(x)) + self.twice_norms[1](self.twice(x))
        seen = self.seen(x)
        x = self.seen_norm(seen) + seen.relu()  # another reader
        x = self.shared_norm(self.a(x)) + self.shared_norm(self.b(x))
        x = self.between_norm(self.between(x) * 2) + self.late_norm(late)
        x = self.normed_norm(self.normed(x))
        return self.head_norm(self.head(x.mean((2, 3))))


def test_fold_batch_norms():
    wg.manual_seed(0)
    model = Branches().train()
    x = wg.randn((2, 3, 6, 6), "float64")
    model.eval()
    expected = model(x)
    model.train()
    state = {k: v.detach().numpy().copy() for k, v in model.state_dict().items()}
    folded = nn.utils.fold_batch_norms(model, x)
    assert not folded.training and model.training
    assert_close(folded(x), expected, rtol=1e-10, atol=1e-10)
    left = {n for n, m in folded.named_modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))}
    assert left == {"seen_norm", "twice_norms.0", "twice_norms.1", "shared_norm", "first",
                    "between_norm", "normed_norm"}  # fmt: skip
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.detach().numpy(), state[name])
    assert all(m._hooks is None or not m._hooks for m in folded.modules())
    other = wg.randn((3, 3, 5, 7), "float64")
    assert_close(folded(other), model.eval()(other), rtol=1e-10, atol=1e-10)


def test_fold_batch_norms_of_the_models():
    from wengert.models.convnet import ConvNet
    from wengert.models.efficientnet_lite import EfficientNetLite

    wg.manual_seed(0)
    for model, size, left in ((ConvNet(3, 5, width=4), 12, 4), (EfficientNetLite(0), 64, 0)):
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                settled(m)
        x = wg.randn((2, 3, size, size))
        folded = nn.utils.fold_batch_norms(model, x)
        expected = model.eval()(x).detach().numpy()
        off = np.abs(folded(x).detach().numpy() - expected).max() / np.abs(expected).max()
        assert off < 2e-5
        assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == left
