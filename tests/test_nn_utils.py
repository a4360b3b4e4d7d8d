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
