"""ModuleList and its kin, hooks of modules, modules by their paths: compared with PyTorch, and seen
by compiled steps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn


def linear(n: int = 2) -> nn.Linear:
    return nn.Linear(n, n, dtype="float64")


class Net(nn.Module):
    """Of a library's nn, with all containers."""

    def __init__(self, library: Any, tensor: Any) -> None:
        super().__init__()
        n = library
        self.layers = n.ModuleList([n.Linear(3, 3) for _ in range(2)])
        self.heads = n.ModuleDict({"a": n.Linear(3, 2), "b": n.Linear(3, 2)})
        self.scales = n.ParameterList([tensor([1.0, 2.0, 3.0]), tensor([0.5, 0.5, 0.5])])
        self.shifts = n.ParameterDict({"in": tensor([0.1, 0.2, 0.3])})

    def forward(self, x: Any) -> Any:
        x = x + self.shifts["in"]
        for layer, scale in zip(self.layers, self.scales, strict=True):
            x = layer(x).tanh() * scale
        return sum(head(x) for _, head in self.heads.items()) if len(self.heads) else x


def both() -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        __init__ = Net.__init__
        forward = Net.forward

    # super() within __init__ is Net's: set up PyTorch's part first
    theirs = Theirs.__new__(Theirs)
    torch.nn.Module.__init__(theirs)
    n = torch.nn
    theirs.layers = n.ModuleList([n.Linear(3, 3) for _ in range(2)])
    theirs.heads = n.ModuleDict({"a": n.Linear(3, 2), "b": n.Linear(3, 2)})
    theirs.scales = n.ParameterList([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5] * 3)])
    theirs.shifts = n.ParameterDict({"in": torch.tensor([0.1, 0.2, 0.3])})
    theirs = theirs.double()
    ours = Net(nn, wg.tensor).double()
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def test_containers_against_torch() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = both()
    assert list(ours.state_dict()) == sorted(
        theirs.state_dict(), key=list(ours.state_dict()).index
    ) and set(ours.state_dict()) == set(theirs.state_dict())
    x = np.random.default_rng(0).normal(size=(4, 3))
    y, z = ours(wg.tensor(x)), theirs(torch.tensor(x))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
    y.square().sum().backward()
    z.square().sum().backward()
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(ours.get_parameter(name).grad.numpy(), p.grad.numpy(), 1e-10)


@pytest.mark.parametrize("kind", ["ModuleList", "ParameterList"])
def test_lists(kind) -> None:
    """The same edits as of a list, here and there."""
    torch = pytest.importorskip("torch")

    def names(library: Any, make: Any) -> list[Any]:
        items = [make() for _ in range(6)]
        seen = []

        def note() -> None:
            keys = [key.split(".")[0] for key in box.state_dict()]
            seen.append(([next(i for i, x in enumerate(items) if x is y) for y in box], keys))

        box = getattr(library, kind)(items[:2])
        note()
        box.append(items[2])
        box.extend([items[3]])
        box += [items[4]]
        note()
        box[1] = items[5]
        note()
        if kind == "ModuleList":
            box.insert(1, items[1])
            note()
            del box[0]
            note()
            del box[1:3]
            note()
            assert box.pop(0) is items[1]
            note()
        seen += [len(box), [type(box[:1]).__name__, len(box[:1]), len(box[-1:])]]
        return seen

    if kind == "ModuleList":
        assert names(nn, linear) == names(torch.nn, lambda: torch.nn.Linear(2, 2))
    else:
        ours = names(nn, lambda: nn.Parameter(wg.ones(2)))
        assert ours == names(torch.nn, lambda: torch.nn.Parameter(torch.ones(2)))
    box = getattr(nn, kind)([linear()] if kind == "ModuleList" else [wg.ones(2)])
    assert box[-1] is box[0] and isinstance(box[0], box._kind)
    assert len(box + box) == 2 and len({box, box}) == 1 and box != getattr(nn, kind)(list(box))
    with pytest.raises(IndexError, match="index 1, and there are 1"):
        box[1]
    with pytest.raises(TypeError, match=f"{kind}: item '1' is int, not a"):
        box.append(3)
    assert copy.deepcopy(box)[0] is not box[0]


def test_dicts() -> None:
    box = nn.ModuleDict({"a": linear()})
    b = box["b"] = nn.ReLU()
    assert list(box) == list(box.keys()) == ["a", "b"] and "b" in box and len(box) == 2
    assert box.pop("b") is b and list(box) == ["a"]
    box.update([("c", b)])
    assert [name for name, _ in box.items()] == ["a", "c"] == [n for n, _ in box.named_children()]
    box.clear()
    assert not len(box) and not list(box.parameters())
    values = nn.ParameterDict({"w": wg.ones(2)})
    assert isinstance(values["w"], nn.Parameter) and list(values.state_dict()) == ["w"]
    assert values.get("x") is None
    with pytest.raises(KeyError, match="'x' is not among"):
        values["x"]
    for name, error in ((3, TypeError), ("a.b", ValueError), ("", ValueError), ("keys", ValueError),
                        ("training", ValueError)):  # fmt: skip
        with pytest.raises(error, match=r"ModuleDict: .*(key|name)"):
            box[name] = b


def test_modules_by_their_paths() -> None:
    net = nn.Sequential(nn.ModuleDict({"a": linear()}), nn.ReLU())
    assert net.get_submodule("0.a") is net[0]["a"] and net.get_submodule("") is net
    assert net.get_parameter("0.a.bias") is net[0]["a"].bias
    net.add_module("2", nn.Tanh())
    net.register_module("last", nn.Tanh())
    net.register_parameter("w", nn.Parameter(wg.ones(1)))
    assert len(net) == 4 and "w" in net.state_dict()
    net.add_module("2", linear())
    assert isinstance(net[2], nn.Linear)
    for call, error, text in (
        (lambda: net.get_submodule("0.x"), AttributeError, "has no module '0.x'"),
        (lambda: net.get_parameter("0.x"), AttributeError, "has no parameter '0.x'"),
        (lambda: net.add_module("a.b", nn.ReLU()), ValueError, "a dot"),
        (lambda: net.add_module("train", nn.ReLU()), ValueError, "'train' is there already"),
        (lambda: net.add_module("x", 3), TypeError, "'x' would be 3 .*expected a Module"),
        (lambda: net.register_parameter("y", wg.ones(1)), TypeError, "expected a Parameter"),
    ):
        with pytest.raises(error, match=text):
            call()


# ---- hooks


def test_forward_hooks() -> None:
    layer, seen = linear(), []
    x = wg.ones((1, 2), "float64")
    plain = layer(x).tolist()
    first = layer.register_forward_pre_hook(lambda m, args: seen.append("before") or args[0] * 2)
    layer.register_forward_pre_hook(lambda m, args: seen.append("first"), prepend=True)
    layer.register_forward_hook(lambda m, args, y: seen.append(args[0].tolist()) or y + 1)
    assert np.allclose(layer(x).tolist(), (layer.forward(x * 2) + 1).tolist())
    assert seen == ["first", "before", [[2.0, 2.0]]]
    first.remove()
    first.remove()
    assert np.allclose(layer(x).tolist(), np.add(plain, 1))
    with linear().register_forward_hook(lambda m, args, y: y * 0):
        pass

    class Scaled(nn.Module):
        def forward(self, x, scale=1.0):
            return x * scale

    scaled = Scaled()
    with scaled.register_forward_pre_hook(lambda m, a, k: (a, {"scale": 5.0}), with_kwargs=True):
        assert scaled(x, scale=2.0).tolist() == [[5.0, 5.0]]
    assert scaled._hooks is None
    with scaled.register_forward_hook(lambda m, a, k, y: y * k["scale"], with_kwargs=True):
        assert scaled(x, scale=2.0).tolist() == [[4.0, 4.0]]
    with pytest.raises(TypeError, match="Scaled: a hook must be a function, not 3"):
        scaled.register_forward_hook(3)
    with (
        scaled.register_forward_pre_hook(lambda m, a, k: a, with_kwargs=True),
        pytest.raises(TypeError, match="gave tuple; expected None or"),
    ):
        scaled(x)


def backward_case(library: Any, tensor: Any, given: list[Any], n_out: int, replace: bool) -> Any:
    """What a hook sees of a module of several inputs and outputs, and the gradients."""
    seen: list[Any] = []

    class Several(library.Module):
        def forward(self, *xs):
            total = sum(x.sum(0) for x in xs)
            outs = [total * (i + 1) for i in range(n_out)]
            return outs[0] if n_out == 1 else tuple(outs)

    def hook(module: Any, grad_input: Any, grad_output: Any) -> Any:
        # Of a tensor without a gradient PyTorch gives zeros where others have one; here it is None.
        both = [
            [g if g is None else g.tolist() for g in gs] for gs in (grad_input[:2], grad_output)
        ]
        seen.append(both)
        return tuple(g if g is None else g * 3 for g in grad_input) if replace else None

    module = Several()
    module.register_full_backward_hook(hook)
    inputs = [tensor(x) for x in given]
    for x in inputs[:2]:
        x.requires_grad_()
    y = module(*inputs)
    outs = [y] if n_out == 1 else y
    extra = inputs[0].sum()  # not through the module
    (outs[-1].sum() * 2 + extra).backward()
    return seen, [x.grad.tolist() for x in inputs[:2]]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("n_out", [1, 2])
@pytest.mark.parametrize("n_in", [1, 2, 3])
def test_backward_hooks_against_torch(n_in, n_out, replace) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(2, 3)) for _ in range(n_in)]
    theirs = backward_case(torch.nn, torch.tensor, given, n_out, replace)
    assert backward_case(nn, wg.tensor, given, n_out, replace) == theirs


def test_backward_hooks_without_inputs() -> None:
    """An embedding's inputs have no gradient: the hook sees that of its output."""
    torch = pytest.importorskip("torch")
    seen: Any = {wg: [], torch: []}
    for library in (wg, torch):
        layer = library.nn.Embedding(4, 2)
        layer.register_full_backward_hook(
            lambda m, i, o, seen=seen[library]: seen.append([i, [g.tolist() for g in o]])
        )
        layer(library.tensor([1, 2])).sum().backward()
    assert seen[wg] == seen[torch] == [[(None,), [[[1.0, 1.0], [1.0, 1.0]]]]]
    layer = linear()
    layer.register_full_backward_hook(lambda m, i, o: (None, i[0]))
    with pytest.raises(wg.GradientError, match=r"for \[1\] of 2 inputs; expected None, or"):
        layer(wg.ones((1, 2), "float64").requires_grad_()).sum().backward()
    with wg.no_grad():
        layer(wg.ones((1, 2), "float64"))


CHANGES = {
    "a forward hook": lambda net: net.layers[0].register_forward_hook(lambda m, a, y: y * 2),
    "a second": lambda net: net.register_forward_hook(lambda m, a, y: y * 3),
    "removed": lambda net: net.handle.remove(),
    "a pre-hook": lambda net: net.layers[1].register_forward_pre_hook(lambda m, a: a[0] + 1),
    "a backward hook": lambda net: net.layers[1].register_full_backward_hook(
        lambda m, i, o: (i[0] * 2,)
    ),
    "append": lambda net: net.layers.append(linear()),
    "pop": lambda net: net.layers.pop(0),
    "another module": lambda net: net.layers.__setitem__(0, linear()),
    "swapped": lambda net: net.layers.__setitem__(slice(0, 2), [net.layers[1], net.layers[0]]),
    "another key": lambda net: net.heads.update(b=linear()),
    "a key less": lambda net: net.heads.pop("a"),
    "another parameter": lambda net: net.scales.__setitem__(0, nn.Parameter(wg.ones(2) * 7)),
    "one more": lambda net: net.scales.append(wg.ones(2) * 7),
    "of a dict": lambda net: net.shifts.__setitem__("b", wg.ones(2) * 7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_compiled_steps_see_changes(change) -> None:
    class Model(nn.Module):
        def __init__(self):
            self.layers = nn.ModuleList([linear(), linear()])
            self.heads = nn.ModuleDict({"a": linear()})
            self.scales = nn.ParameterList([wg.ones(2), wg.ones(2)]).double()
            self.shifts = nn.ParameterDict({"a": wg.ones(2)}).double()

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            for scale in self.scales:
                x = x * scale
            for key in self.shifts:
                x = x + self.shifts[key]
            return sum((head(x) for head in self.heads.values()), x)

    net = Model()
    net.handle = net.register_forward_hook(lambda m, a, y: y + 1)

    def step(x: wg.Tensor) -> tuple[wg.Tensor, wg.Tensor]:
        y = net(x.detach())
        (g,) = wg.grad(y.sum(), [net.layers[0].weight])
        return y, g

    compiled = wg.compile(step)
    x = wg.tensor(np.random.default_rng(0).normal(size=(3, 2)))

    def agree() -> list[Any]:
        eager, found = ([t.detach().numpy().copy() for t in f(x)] for f in (step, compiled))
        assert all(np.array_equal(a, b) for a, b in zip(eager, found, strict=True))
        return eager

    for _ in range(3):
        before = agree()
    CHANGES[change](net)
    for _ in range(3):
        after = agree()
    assert not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
