"""What people who come from NumPy and PyTorch type: it works as there, or says what to write."""

import copy
import re

import numpy as np
import pytest

import wengert as wg
from wengert import nn


@pytest.fixture
def x() -> wg.Tensor:
    return wg.arange(12).float().reshape(3, 4)


def test_formatting(x):
    loss = wg.tensor(1.23456, requires_grad=True) * 2
    assert f"{loss:.4f}|{loss:>8.2f}|{wg.tensor([3]):03d}" == "2.4691|    2.47|003"
    assert f"{loss}" == str(loss) == "tensor(2.4691, made_by=mul)"
    with pytest.raises(TypeError, match=r"format: the tensor has shape \(3, 4\), and '.2f'"):
        f"{x:.2f}"


def test_in_means_any_element(x):
    assert 3.0 in x
    assert 3 in x[0]
    assert 99 not in x
    assert "a" not in x
    assert None not in x


def test_comparison_with_none(x):
    assert (x == None) is False  # noqa: E711
    assert x.grad is None


def test_the_best_weights_are_kept():
    model = nn.MLP([2, 3, 1])
    best = copy.deepcopy(model.state_dict())
    with wg.no_grad():
        for p in model.parameters():
            p.fill_(7.0)
    assert not any(7.0 in value for value in best.values())
    model.load_state_dict(best)
    with pytest.raises(wg.GradientError, match=r"copy: the tensor \(made by 'mul'\)"):
        copy.deepcopy(next(model.parameters()) * 2)


def test_a_parameter_is_not_replaced_by_a_plain_tensor():
    layer = nn.Linear(2, 1)
    with pytest.raises(TypeError, match="'weight' is a Parameter and would become a plain tensor"):
        layer.weight = wg.ones((1, 2))
    layer.weight = nn.Parameter(wg.ones((1, 2)))
    layer.bias = None
    assert len(list(layer.parameters())) == 1


def test_a_tensor_that_would_be_forgotten_by_optimizers():
    class Net(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 1)

    net = Net()
    with pytest.raises(TypeError, match=r"Net: 'w' would be a tensor .* Parameter\(tensor\)"):
        net.w = wg.ones((2, 2)).requires_grad_()
    assert not hasattr(net, "w")
    net.made = wg.ones((2, 2)).requires_grad_() * 2  # no leaf: an activation that is kept
    net.plain = wg.ones((2, 2))
    assert len(list(net.parameters())) == 2
    for place in ([wg.ones(2)], {"a": wg.ones(2)}):
        net.more = place
        next(iter(place.values() if isinstance(place, dict) else place)).requires_grad_()
        with pytest.warns(UserWarning, match=r"Net: 'more.*no optimizer trains it"):
            assert len(list(net.parameters())) == 2
    net.more = None
    net.plain.requires_grad_()
    with pytest.warns(UserWarning, match="Net: 'plain' is a tensor that requires a gradient"):
        net.state_dict()


def test_view_never_copies(x):
    x.view(-1)[0] = 5
    assert x[0, 0].item() == 5
    assert x[:, :2].view(3, 2, 1).shape == (3, 2, 1)
    assert wg.zeros((0, 3)).T.view(3, 0).shape == (3, 0)
    with pytest.raises(wg.ShapeError, match=re.escape("cannot be seen as (12,) without a copy")):
        x.T.view(-1)


@pytest.mark.parametrize("op", ["sum", "mean", "max", "var", "std", "argmax"])
def test_a_second_axis_is_not_taken_for_keepdims(x, op):
    with pytest.raises(TypeError):
        getattr(x, op)(0, 1)
    assert getattr(x, op)(0, True).shape == (1, 4)
    assert getattr(x, op)(0, np.bool_(True)).shape == (1, 4)


X = wg.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: wg.zeros(3, 4), TypeError, r"zeros\(\(3, 4\)\)"),
        (lambda: wg.randn(3, 4), TypeError, r"randn\(\(3, 4\)\)"),
        (lambda: wg.randn(3, 4, 5), TypeError, r"randn: got 3 sizes .*\(3, 4, 5\)"),
        (lambda: wg.full(2, 3, 4), TypeError, r"full\(\(2, 3\), 4\)"),
        (lambda: wg.tensor(2, 3), TypeError, r"tensor\(\[2, 3\]\)"),
        (lambda: wg.randn(3, generator=1), TypeError, r"wengert\.Generator"),
        (lambda: X & X, TypeError, "bools and integers"),
        (lambda: wg.cross_entropy(X, [0, 1]), TypeError, r"target is \[0, 1\].*wengert\.tensor"),
        (
            lambda: wg.mse_loss(X, X.numpy()),
            TypeError,
            r"target is an ndarray of shape \(2, 3\).*wengert\.tensor",
        ),
        (lambda: nn.MLP(2, 3, 1), TypeError, r"MLP\(\[2, 8, 1\]\)"),
        (
            lambda: nn.MLP([2, 3], activation=nn.ReLU()),
            ValueError,
            "activation is a ReLU; .*did you mean 'relu'",
        ),
        (lambda: nn.Sequential([nn.ReLU()]), TypeError, r"is list, .*Sequential\(\*layers\)"),
        (lambda: nn.Sequential(nn.ReLU), TypeError, r"is a class, .*ReLU\(\)"),
        (lambda: wg.save({"x": X}, "x.safetensors"), TypeError, r"write save\(path, "),
        (lambda: wg.concatenat, AttributeError, "no attribute 'concatenat'"),
        (lambda: setattr(nn.Parameter(X), "data", X), AttributeError, r"copy_\(.*no_grad\(\)"),
    ],
)
@pytest.mark.smoke
def test_errors_say_what_to_write(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
