"""wengert.study.attribution: attributions against what is known of them, and the bias table."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.study import attribution
from wengert.train import predict


def linear() -> tuple[nn.Module, np.ndarray]:
    wg.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3))
    weight = dict(model.named_parameters())["0.weight"].detach().numpy()
    return model, weight


X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


@pytest.mark.smoke
def test_of_a_linear_model_they_are_its_weights() -> None:
    model, weight = linear()
    target = np.array([0, 1, 2, 0])
    np.testing.assert_allclose(attribution.saliency(model, X, target), np.abs(weight[target]))
    np.testing.assert_allclose(
        attribution.input_x_gradient(model, X, target), X * weight[target], rtol=1e-6
    )
    attributions, complete = attribution.integrated_gradients(model, X, 0.0, target, steps=3)
    np.testing.assert_allclose(attributions, X * weight[target], rtol=1e-5, atol=1e-6)
    assert complete.error < 1e-5 and "largest gap" in str(complete)


def test_integrated_gradients_become_complete_with_more_steps() -> None:
    wg.manual_seed(1)
    model = nn.MLP([6, 32, 16, 3], activation="tanh")
    errors = [
        attribution.integrated_gradients(model, X, -0.5, steps=steps)[1].error
        for steps in (2, 8, 128)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-4


def test_layers_carry_the_score_of_a_network_without_biases() -> None:
    """relu is homogeneous: activation times gradient sums to the score at every layer."""
    wg.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))
    layers = attribution.layer_attribution(model, X, 1)
    score = model(wg.tensor(X)).detach().numpy()[:, 1]
    assert set(layers) == {"linear0", "relu1", "linear2"}
    for part in layers.values():
        np.testing.assert_allclose(part.sum(axis=1), score, rtol=1e-4, atol=1e-6)


class Convs(nn.Module):
    """Convolutions, the mean over places, a Linear without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(5, 7, 3), nn.Tanh(),
        )  # fmt: skip
        self.head = nn.Linear(7, 4, bias=False)

    def forward(self, x: wg.Tensor) -> wg.Tensor:
        return self.head(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]


IMAGES = np.random.default_rng(1).standard_normal((3, 3, 12, 10)).astype(np.float32)


def test_grad_cam_adds_up_to_the_score() -> None:
    """Of the last layer before the mean, with its sign and its own places."""
    wg.manual_seed(0)
    model = Convs().train()
    heat = attribution.grad_cam(model, IMAGES, "features.5", 2, relu=False, interpolate=False)
    assert heat.shape == (3, 4, 3) and model.training
    assert all(p.grad is None for p in model.parameters())
    score = model.eval()(wg.tensor(IMAGES)).detach().numpy()[:, 2]
    np.testing.assert_allclose(heat.sum((1, 2)), score, rtol=1e-4, atol=1e-6)
    wide = attribution.grad_cam(model, IMAGES, model.features, 2)  # the module itself; relu first
    mapped = wg.nn.functional.interpolate(
        wg.tensor(np.maximum(heat, 0))[:, None], (12, 10), mode="bilinear"
    )
    np.testing.assert_allclose(wide, mapped.numpy()[:, 0], rtol=1e-5, atol=1e-6)
    with wg.no_grad():  # which is the caller's own
        np.testing.assert_array_equal(attribution.grad_cam(model, IMAGES, model.features, 2), wide)


def test_grad_cam_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    wg.manual_seed(0)
    model = Convs()
    for p in model.parameters():
        p.requires_grad_(False)  # frozen: the gradient is x's
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.BatchNorm2d(5), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2), torch.nn.Conv2d(5, 7, 3), torch.nn.Tanh(),
    ).eval()  # fmt: skip
    state = {k: torch.tensor(v.numpy()) for k, v in model.features.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.tensor(IMAGES)
    for at in (0, 2, 3):
        activation = theirs[: at + 1](x).detach().requires_grad_()
        outputs = theirs[at + 1 :](activation).mean((2, 3)) @ torch.tensor(
            model.head.weight.detach().numpy().T
        )
        outputs.max(1).values.sum().backward()
        expected = (activation.grad.mean((2, 3), keepdim=True) * activation).sum(1).relu()
        found = attribution.grad_cam(model, IMAGES, f"features.{at}", interpolate=False)
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-7)


def test_grad_cam_refuses() -> None:
    model = Convs()
    with pytest.raises(ValueError, match="no layer 'tail'"):
        attribution.grad_cam(model, IMAGES, "tail")
    with pytest.raises(ValueError, match="no layer"):
        attribution.grad_cam(model, IMAGES, nn.ReLU())
    with pytest.raises(wg.ShapeError, match="channels"):
        attribution.grad_cam(model, IMAGES, model.head)
    shared = nn.Conv2d(3, 3, 1)
    twice = nn.Sequential(shared, shared, nn.Flatten())
    with pytest.raises(ValueError, match="ran 2 times"):
        attribution.grad_cam(twice, IMAGES, shared)
    assert shared(wg.tensor(IMAGES)).requires_grad  # and no hook is left
    assert not shared._hooks


def test_the_model_is_left_as_it_was() -> None:
    model = nn.MLP([6, 8, 3], dropout=0.5)
    model.train()
    first = attribution.saliency(model, X)
    np.testing.assert_array_equal(first, attribution.saliency(model, X))  # in evaluation mode
    assert model.training and all(p.grad is None for p in model.parameters())


class Stops(nn.Module):
    def forward(self, x: wg.Tensor) -> wg.Tensor:
        raise ArithmeticError


@pytest.mark.parametrize(
    "run",
    [
        lambda m: attribution.saliency(m, X),
        lambda m: attribution.input_x_gradient(m, X),
        lambda m: attribution.integrated_gradients(m, X, steps=2),
        lambda m: attribution.layer_attribution(m, X),
        lambda m: predict(m, X),
        lambda m: wg.summary(m, wg.tensor(X)),
    ],
)
def test_every_part_keeps_its_mode(run: Callable[[nn.Module], object]) -> None:
    for frozen in range(5):
        parts = [nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 3), nn.Dropout(0.1)]
        model = nn.Sequential(nn.Sequential(*parts))
        list(model.modules())[frozen].training = False
        before = [part.training for part in model.modules()]
        run(model)
        assert [part.training for part in model.modules()] == before
        broken = nn.Sequential(*parts, Stops())
        parts[1].eval()
        before = [part.training for part in broken.modules()]
        with pytest.raises(ArithmeticError):
            run(broken)
        assert [part.training for part in broken.modules()] == before


def test_wrong_arguments() -> None:
    model, _ = linear()
    with pytest.raises(wg.DTypeError, match="float32 or float64"):
        attribution.saliency(model, np.zeros((2, 6), np.int64))
    with pytest.raises(wg.ShapeError, match="samples"):
        attribution.saliency(model, np.zeros(6, np.float32))
    with pytest.raises(IndexError, match="not one of 3"):
        attribution.saliency(model, X, 7)
    with pytest.raises(ValueError, match="at least 1"):
        attribution.integrated_gradients(model, X, steps=0)
    with pytest.raises(wg.ShapeError):
        attribution.bias_table(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(wg.ShapeError):
        attribution.bias_table(np.zeros((3, 2)), np.zeros(3), groups=["a"])
    with pytest.raises(ValueError, match="no samples"):
        attribution.bias_table(np.zeros((0, 2)), np.zeros(0))


@pytest.mark.smoke
def test_bias_table() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    y = np.array([0, 1, 0, 1])
    table = attribution.bias_table(probabilities, y, logits=False, names=["no", "yes"])
    assert [(g.name, g.count, g.accuracy) for g in table] == [
        ("yes", 2, 0.5), ("no", 2, 1.0), ("all", 4, 0.75),
    ]  # fmt: skip
    yes = table[0]
    assert yes.worst == [1, 3] and yes.mistakes == [("no", 1)]
    assert yes.confidence == pytest.approx(0.75) and yes.overconfidence == pytest.approx(0.25)
    # bins: 0.8 was wrong, 0.7 right
    assert yes.calibration_error == pytest.approx((0.8 + 0.3) / 2)
    groups = attribution.bias_table(np.log(probabilities), y, groups=["b", "b", "a", "a"])
    assert [(g.name, g.accuracy) for g in groups] == [("b", 0.5), ("a", 1.0), ("all", 0.75)]
    assert "yes" in attribution.bias_text(table) and "75.00%" in attribution.bias_text(table)


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    images = X[:, :4].reshape(4, 2, 2)
    maps = {"a": X[:, :4], "units": np.ones((4, 7))}
    path = attribution.pictures(tmp_path / "p.png", images, maps, ["w", "x"])
    assert path.read_bytes().startswith(b"\x89PNG")
    colours = np.random.default_rng(0).random((4, 2, 2, 3))
    path = attribution.pictures(tmp_path / "c.png", colours, maps)
    assert path.read_bytes().startswith(b"\x89PNG")
