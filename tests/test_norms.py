"""Normalisation layers compared with PyTorch's: values, gradients, running statistics, state,
compiled steps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.testing import assert_close

# Layer, positional arguments, options, shape of its input.
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("LayerNorm", (5,), {}, (3, 5)),
    ("LayerNorm", ((4, 5),), {"bias": False, "eps": 1e-3}, (3, 4, 5)),
    ("LayerNorm", (5,), {"elementwise_affine": False}, (3, 5)),
    ("RMSNorm", (5,), {}, (3, 5)),
    ("RMSNorm", ((4, 5),), {"eps": 1e-3}, (3, 4, 5)),
    ("RMSNorm", (5,), {"elementwise_affine": False}, (3, 5)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4)),
    ("GroupNorm", (3, 6), {"affine": False, "eps": 1e-3}, (3, 6)),
    ("GroupNorm", (1, 6), {}, (3, 6, 4, 2)),
    ("BatchNorm1d", (4,), {}, (6, 4)),
    ("BatchNorm1d", (4,), {"momentum": None}, (6, 4, 3)),
    ("BatchNorm1d", (4,), {"affine": False, "eps": 1e-3, "momentum": 0.3}, (6, 4)),
    ("BatchNorm1d", (4,), {"bias": False}, (6, 4)),
    ("GroupNorm", (2, 6), {"bias": False}, (3, 6, 4)),
    ("InstanceNorm1d", (4,), {"affine": True, "bias": False}, (2, 4, 5)),
    ("BatchNorm1d", (4,), {"track_running_stats": False}, (6, 4)),
    ("BatchNorm2d", (4,), {}, (2, 4, 3, 5)),
    ("BatchNorm3d", (2,), {}, (2, 2, 3, 2, 2)),
    ("InstanceNorm1d", (4,), {}, (2, 4, 5)),
    ("InstanceNorm1d", (4,), {"affine": True}, (4, 5)),
    ("InstanceNorm1d", (4,), {"track_running_stats": True}, (2, 4, 5)),
    ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, (2, 4, 3, 5)),
    ("InstanceNorm3d", (2,), {}, (2, 2, 3, 2, 2)),
]


def make(case: Any) -> tuple[Any, Any]:
    """The layer and PyTorch's, with equal parameters."""
    torch = pytest.importorskip("torch")
    name, args, options, _ = case
    theirs = getattr(torch.nn, name)(*args, **options).double()
    ours = getattr(nn, name)(*args, **options, dtype="float64")
    assert {k: tuple(v.shape) for k, v in theirs.state_dict().items()} == {
        k: v.shape for k, v in ours.state_dict().items()
    }
    assert list(ours.state_dict()) == list(theirs.state_dict())
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.tensor(rng.normal(size=tuple(p.shape))))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_torch(case: Any) -> None:
    import torch

    ours, theirs = make(case)
    rng = np.random.default_rng(1)
    for training in (True, True, True, False):
        ours.train(training)
        theirs.train(training)
        x, at = rng.normal(1.0, 2.0, case[3]), rng.normal(size=case[3])
        a, b = wg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = ours(a), theirs(b)
        assert_close(y, z.detach().numpy(), 1e-10, 1e-10)
        mine, other = [a, *ours.parameters()], [b, *theirs.parameters()]
        g = wg.grad((y * wg.tensor(at)).sum(), mine, create_graph=True)
        h = torch.autograd.grad((z * torch.tensor(at)).sum(), other, create_graph=True)
        # Second order, of what every gradient depends on.
        k = wg.grad(sum(d.square().sum() for d in g) + a.sum(), [a])
        m = torch.autograd.grad(sum(d.square().sum() for d in h) + b.sum(), [b])
        for found, right in zip((*g, *k), (*h, *m), strict=True):
            assert_close(found, right.detach().numpy(), 1e-9, 1e-9)
        for name, value in theirs.state_dict().items():
            assert_close(ours.state_dict()[name], value.numpy(), 1e-12, 1e-12, message=name)
    assert not {k: v for k, v in ours.state_dict().items() if v.requires_grad}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_gives_the_bits_of_eager(case: Any) -> None:
    ours, _ = make(case)
    twin = copy.deepcopy(ours)

    def step(layer: nn.Module, x: wg.Tensor) -> tuple[wg.Tensor, ...]:
        y = layer(x)
        leaves = list(layer.parameters())
        return (y, *(wg.grad((y * y * y).sum(), leaves) if leaves else ()))

    compiled = wg.compile(lambda x: step(ours, x))
    rng = np.random.default_rng(1)
    for training in (True, True, True, False, False, True):
        ours.train(training)
        twin.train(training)
        x = wg.tensor(rng.normal(size=case[3]))
        found, right = compiled(x), step(twin, x)
        for a, b in zip(found, right, strict=True):
            assert np.array_equal(a.detach().numpy(), b.detach().numpy())
        for name, value in twin.state_dict().items():
            assert np.array_equal(ours.state_dict()[name].numpy(), value.numpy()), name


def test_functions() -> None:
    """They take what the layers hold, or nothing."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    a, b, F = wg.tensor(x), torch.tensor(x), torch.nn.functional
    assert_close(wg.rms_norm(a, (4, 5)), F.rms_norm(b, (4, 5)).numpy(), 1e-12)
    assert_close(wg.group_norm(a, 2), F.group_norm(b, 2).numpy(), 1e-10)
    assert_close(wg.instance_norm(a), F.instance_norm(b).numpy(), 1e-10)
    mean, var = np.arange(4.0), np.arange(1.0, 5.0)
    ours = wg.batch_norm(a, wg.tensor(mean), wg.tensor(var))
    assert_close(ours, F.batch_norm(b, torch.tensor(mean), torch.tensor(var)).numpy(), 1e-12)
    ours = wg.batch_norm(a, None, None, training=True)
    assert_close(ours, F.batch_norm(b, None, None, training=True).numpy(), 1e-10)


ERRORS = [
    (lambda: nn.BatchNorm1d(4)(wg.ones((1, 4))), "batch_norm: .*1 values for each channel"),
    (lambda: nn.BatchNorm1d(4)(wg.ones((2, 3))), r"batch_norm: running_mean .*\(3,\)"),
    (lambda: nn.BatchNorm2d(4)(wg.ones((2, 4))), r"BatchNorm2d .*\(2, 4\); expected 4 axes"),
    (lambda: nn.InstanceNorm1d(4)(wg.ones((2, 4, 1))), "instance_norm: .*one value"),
    (lambda: nn.GroupNorm(3, 4), "GroupNorm: 4 channels cannot be 3 groups"),
    (lambda: wg.group_norm(wg.ones((2, 4)), 3), r"group_norm: .*4 channels cannot be 3 groups"),
    (lambda: wg.group_norm(wg.ones(4), 2), r"group_norm: x has shape \(4,\); expected \(n, chan"),
    (lambda: wg.rms_norm(wg.ones((2, 4)), 3), r"rms_norm: .*normalized_shape is \(3,\)"),
    (lambda: wg.batch_norm(wg.ones((2, 4)), None, None), "running_mean and running_var are needed"),
    (lambda: wg.group_norm(wg.ones((2, 4)), 2, wg.ones(3)), r"weight has shape \(3,\).*\(4,\)"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, text = ERRORS[case]
    with pytest.raises(ValueError, match=text):
        call()
