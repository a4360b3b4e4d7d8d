"""nn and autograd: modules, their state and errors, layers and losses against PyTorch."""

import collections
import copy
import math
import types
import warnings

import numpy as np
import pytest

import wengert as wg
from wengert import nn


def f64(rng, *shape):
    return rng.standard_normal(shape)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class Net(nn.Module):
    def __init__(self):
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(12, 4))
        self.register_buffer("mean", wg.zeros((8,)))

    def forward(self, x):
        return self.net(x - self.mean)


# ---- structure


@pytest.mark.smoke
def test_parameters_are_found_in_attributes_lists_and_dicts():
    class Many(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(2, 3), nn.Linear(3, 2, bias=False)]
            self.heads = {"a": nn.Linear(2, 1)}
            self.scale = nn.Parameter(wg.ones((1,)))
            self.plain = wg.ones((5,))
            self.numbers = (1, 2)

    names = [name for name, _ in Many().named_parameters()]
    assert names == [
        "scale",
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "heads.a.weight",
        "heads.a.bias",
    ]
    assert list(Many().state_dict()) == names


def test_tied_parameters_come_once_and_are_saved_under_both_names():
    class Tied(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight
            self.again = self.a

    tied = Tied()
    assert len(list(tied.parameters())) == 3
    assert len(list(tied.modules())) == 3
    assert "b.weight" in tied.state_dict() and "again.bias" in tied.state_dict()
    tied.to("float64")
    assert tied.a.weight is tied.b.weight and tied.a.weight.dtype == wg.float64
    assert "shared with a row above" in repr(tied)


class Holder(nn.Module):
    def __init__(self, box):
        self.box = box


CONTAINERS = {
    "list": lambda x: [x],
    "tuple": lambda x: (x,),
    "deque": lambda x: collections.deque([x], maxlen=3),
    "UserList": lambda x: collections.UserList([x]),
    "dict": lambda x: {0: x},
    "OrderedDict": lambda x: collections.OrderedDict({0: x}),
    "defaultdict": lambda x: collections.defaultdict(list, {0: x}),
    "UserDict": lambda x: collections.UserDict({0: x}),
    "mappingproxy": lambda x: types.MappingProxyType({0: x}),
    "nested": lambda x: {0: x, "more": [collections.deque([{"a": x}])]},
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_are_searched_and_converted(make):
    holder = Holder(make(nn.Linear(2, 2)))
    assert list(holder.state_dict())[:2] == ["box.0.weight", "box.0.bias"]
    assert len(list(holder.parameters())) == 2
    holder.double()
    assert [p.dtype.name for p in holder.parameters()] == ["float64"] * 2
    loose = Holder(make(nn.Parameter(wg.ones(2)))).double()
    assert next(loose.parameters()).dtype == wg.float64
    assert type(loose.box) is type(make(0))


def test_layers_in_a_set_are_refused():
    for box in ({nn.Linear(2, 2)}, frozenset([nn.Parameter(wg.ones(2))]), [{nn.ReLU()}]):
        with pytest.raises(TypeError, match=r"'box.*' is a set with layers .*: use a list"):
            list(Holder(box).parameters())
    assert list(Holder({1, "a"}).parameters()) == []


def test_two_tensors_never_share_a_name():
    class Named(nn.Module):
        def __init__(self, *pairs):
            for name, value in pairs:
                setattr(self, name, value)

    def p():
        return nn.Parameter(wg.ones(1))

    def buffered(name):
        layer = nn.Module()
        layer.register_buffer(name, wg.ones(1))
        return layer

    apart = Holder({1: nn.Linear(2, 2), "1": nn.Linear(2, 3), None: [p()], "None": [p()]})
    assert set(apart.state_dict()) == {
        *("box.int(1).weight", "box.int(1).bias", "box.1.weight", "box.1.bias"),
        *("box.NoneType(None).0", "box.None.0"),
    }
    assert len(list(apart.parameters())) == 6
    again = Holder({"None": [p()], None: [p()], "1": nn.Linear(2, 3), 1: nn.Linear(2, 2)})
    again.load_state_dict(apart.state_dict())  # in whatever order the keys were set
    for box in [
        {"a.b": p(), "a": {"b": p()}},
        {"a.weight": p(), "a": nn.Linear(2, 2)},
        {"a.0": p(), "a": [p()]},
    ]:
        for look in (lambda m: m.state_dict(), lambda m: list(m.parameters())):
            with pytest.raises(ValueError, match=r"two tensors are both called 'box\.[^ ]*'"):
                look(Holder(box))
    with pytest.raises(ValueError, match=r"both called 'a.0'"):
        Named(("a.0", p()), ("a", [p()])).state_dict()
    with pytest.raises(ValueError, match=r"both called 'box\.1\.mean'"):
        Holder({"1": buffered("mean"), "1.mean": p()}).state_dict()
    one = nn.Linear(2, 2)
    same = Holder({1: one, "1": one})  # one layer: nothing is lost
    assert len(same.state_dict()) == 4 and len(list(same.parameters())) == 2
    assert len(Holder({1: nn.ReLU(), "1": nn.Linear(2, 2)}).state_dict()) == 2


def test_a_module_that_holds_its_parent():
    class Child(nn.Module):
        pass

    parent = Net()
    parent.child = Child()
    parent.child.parent = parent
    assert len(list(parent.parameters())) == 4
    assert len(parent.state_dict()) == 5
    assert "shared" in repr(parent)


def test_parameter():
    x = wg.ones((2, 3))
    p = nn.Parameter(x)
    assert isinstance(p, wg.Tensor) and p.requires_grad and p.is_leaf and p.grad is None
    with wg.no_grad():
        p.fill_(5.0)
    assert x.tolist() == [[5.0] * 3] * 2  # the same memory
    (p * 2.0).sum().backward()
    assert p.grad.tolist() == [[2.0] * 3] * 2
    p.note = "attributes can be set"
    q = copy.deepcopy(p)
    assert isinstance(q, nn.Parameter) and q.requires_grad
    with wg.no_grad():
        q.fill_(1.0)
    assert p.tolist()[0][0] == 5.0
    with pytest.raises(TypeError, match="make a tensor first"):
        nn.Parameter([1.0])
    with pytest.raises(wg.DTypeError, match="register_buffer"):
        nn.Parameter(wg.arange(3))
    assert not nn.Parameter(x, requires_grad=False).requires_grad
    assert repr(p).startswith("Parameter(")


def test_deepcopy_of_a_module_is_independent():
    a = nn.MLP([3, 4, 2])
    b = copy.deepcopy(a)
    with wg.no_grad():
        for p in b.parameters():
            p.fill_(0.0)
    assert any(np.abs(p.detach().numpy()).max() > 0 for p in a.parameters())


def test_parameters_and_graphs_are_freed_without_the_collector():
    import gc
    import weakref

    gc.disable()
    try:
        model = nn.MLP([3, 4, 2])
        parameter = weakref.ref(next(model.parameters()))
        model(wg.ones((2, 3))).sum().backward()
        del model
        assert parameter() is None
    finally:
        gc.enable()


def test_flatten_joins_the_axes_asked_for():
    x = wg.arange(24).float().reshape(2, 3, 4, 1)
    for start, end, shape in (
        (1, -1, (2, 12)),
        (0, -1, (24,)),
        (2, -1, (2, 3, 4)),
        (0, 1, (6, 4, 1)),
        (1, 2, (2, 12, 1)),
        (-3, -2, (2, 12, 1)),
    ):
        layer = nn.Flatten(start, end)
        assert layer(x).shape == shape
        assert layer(x).flatten().tolist() == x.flatten().tolist()
    assert nn.Flatten()(x).shape == (2, 12) and nn.Flatten(end=2)(x).shape == (2, 12, 1)


def test_buffers():
    net = Net()
    assert [name for name, _ in net.named_buffers()] == ["mean"]
    net.mean = wg.ones((8,))
    assert net.state_dict()["mean"].tolist() == [1.0] * 8
    net.register_buffer("cache", wg.zeros((2,)), persistent=False)
    assert "cache" not in net.state_dict() and len(list(net.buffers())) == 2
    net.double()
    assert net.mean.dtype == wg.float64
    with pytest.raises(ValueError, match="already has"):
        net.register_buffer("net", wg.zeros((2,)))
    with pytest.raises(ValueError, match="not a name"):
        net.register_buffer("a.b", wg.zeros((2,)))
    with pytest.raises(TypeError, match="not a tensor"):
        net.register_buffer("x", 3)


@pytest.mark.smoke
def test_train_eval_apply_requires_grad_zero_grad():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.5)))
    assert net.training and net[1][0].training
    assert net.eval() is net and not net[1][0].training
    assert net.train()[1][0].training
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen[-1] == "Sequential" and "Linear" in seen and len(seen) == 4
    net(wg.ones((1, 2))).sum().backward()
    net.zero_grad(set_to_none=False)
    assert net[0].bias.grad.tolist() == [0.0, 0.0]
    net.zero_grad()
    assert net[0].bias.grad is None
    net.requires_grad_(False)
    assert not net(wg.ones((1, 2))).requires_grad
    assert "frozen" in repr(net)


@pytest.mark.smoke
def test_sequential():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    assert len(net) == 3 and isinstance(net[-1], nn.Linear) and len(net[:2]) == 2
    assert [type(m) for m in net] == [nn.Linear, nn.Tanh, nn.Linear]
    assert net.append(nn.Sigmoid())(wg.ones((5, 2))).shape == (5, 1)
    named = nn.Sequential({"in": nn.Linear(2, 3), "act": nn.ReLU()})
    assert list(named.state_dict()) == ["in.weight", "in.bias"]
    with pytest.raises(IndexError, match="index 9"):
        net[9]
    with pytest.raises(TypeError, match=r"ReLU\(\), with parentheses"):
        nn.Sequential(nn.ReLU)
    with pytest.raises(TypeError, match=r"Sequential\(\*layers\)"):
        nn.Sequential([nn.ReLU()])
    with pytest.raises(ValueError, match="cannot be the name"):
        nn.Sequential({"forward": nn.ReLU()})


def test_repr_is_a_table_with_a_total():
    lines = repr(Net()).splitlines()
    assert lines[0].startswith("Net") and "mean (8,) (buffer)" in lines[0]
    assert "0: Linear(in_features=8, out_features=16)" in lines[2]
    assert "weight (16, 8)  bias (16,)" in lines[2] and lines[2].endswith("144")
    assert lines[-1] == "total: 196 parameters, 784 bytes as float32"


# ---- errors


def test_an_error_names_the_module_once_and_the_layer_before():
    with pytest.raises(wg.ShapeError) as caught:
        Net()(wg.zeros((32, 8)))
    assert str(caught.value) == (
        "linear 'net.2' (in_features=12, out_features=4): input has shape (32, 16); its last axis "
        "must be 12. The layer before it, 'net.0', gives 16 features."
    )
    outer = nn.Sequential(nn.Identity(), Net())
    with pytest.raises(wg.ShapeError, match=r"^linear '1\.net\.2' .*'1\.net\.0', gives 16"):
        outer(wg.zeros((32, 8)))
    with pytest.raises(wg.ShapeError, match=r"^linear \(in_features=3"):
        nn.Linear(3, 4)(wg.zeros((2, 2)))


def test_no_hint_where_the_features_before_are_not_known():
    net = nn.Sequential(nn.Linear(4, 6), nn.Flatten(), nn.Linear(5, 1))
    with pytest.raises(wg.ShapeError) as caught:
        net(wg.zeros((2, 3, 4)))
    assert str(caught.value).endswith("input has shape (2, 18); its last axis must be 5.")


def test_an_error_of_an_op_inside_forward_names_the_module():
    class Bad(nn.Module):
        def forward(self, x):
            return x @ x

    net = nn.Sequential(nn.Identity(), Bad())
    with pytest.raises(wg.ShapeError, match=r"^Bad '1': matmul"):
        net(wg.zeros((2, 3)))


def test_linear_refuses():
    layer = nn.Linear(3, 2)
    with pytest.raises(wg.DTypeError, match=r"input is float64 and the weight is float32.*\.to\("):
        layer(wg.zeros((1, 3), "float64"))
    with pytest.raises(wg.DTypeError, match="input is int64"):
        layer(wg.zeros((1, 3), "int64"))
    with pytest.raises(TypeError, match=r"wengert\.tensor"):
        layer(np.zeros((1, 3)))
    with pytest.raises(wg.ShapeError):
        layer(wg.tensor(1.0))
    for bad, error in ((0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="in_features"):
            nn.Linear(bad, 2)
    with pytest.raises((wg.DTypeError, TypeError)):
        nn.Linear(2, 2, dtype="int64")


@pytest.mark.smoke
def test_other_refusals():
    with pytest.raises(ValueError, match="two or more"):
        nn.MLP([3])
    with pytest.raises(ValueError, match='activation is "swish"; expected "relu"'):
        nn.MLP([3, 2], activation="swish")
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(1.5)
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(math.nan)
    with pytest.raises(ValueError, match="approximate"):
        nn.GELU("fast")
    with pytest.raises(ValueError, match="reduction"):
        nn.MSELoss("avg")(wg.ones(2), wg.ones(2))
    with pytest.raises(ValueError, match="label_smoothing"):
        nn.CrossEntropyLoss(label_smoothing=2.0)(wg.ones((1, 2)), wg.tensor([1]))
    with pytest.raises(NotImplementedError):
        nn.Module()(1)
    with pytest.raises(wg.ShapeError):
        nn.MSELoss()(wg.zeros((4, 1)), wg.zeros((4,)))


# ---- state


@pytest.mark.smoke
def test_state_dict_round_trip_and_sharing():
    a, b = nn.MLP([3, 4, 2]), nn.MLP([3, 4, 2])
    b.load_state_dict(a.state_dict())
    x = wg.ones((5, 3))
    assert np.array_equal(a(x).detach().numpy(), b(x).detach().numpy())
    state = a.state_dict()
    with wg.no_grad():
        next(a.parameters()).fill_(7.0)
    assert state["0.weight"].tolist()[0][0] == 7.0
    assert not state["0.weight"].requires_grad
    arrays = {name: np.zeros(value.shape) for name, value in state.items()}  # float64 NumPy
    a.load_state_dict(arrays)
    assert next(a.parameters()).dtype == wg.float32 and next(a.parameters()).tolist()[0][0] == 0.0


class Tied(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("mean", wg.zeros(3))
        self.register_buffer("again", self.mean)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("left_out", [["a.weight", "mean"], ["b.weight", "again"]])
def test_one_name_of_a_tied_tensor_is_enough(assign, left_out):
    source, model = Tied(), Tied()
    with wg.no_grad():
        source.mean.fill_(3.0)
    state = {k: v.clone() for k, v in source.state_dict().items() if k not in left_out}
    assert model.load_state_dict(state, assign=assign) == ([], [])
    assert model.a.weight is model.b.weight and model.mean is model.again
    assert model.a.weight.tolist() == source.a.weight.tolist() and model.again.tolist() == [3.0] * 3
    with pytest.raises(ValueError, match=r"missing:    a.weight"):
        model.load_state_dict({"mean": wg.zeros(3)})
    assert model.load_state_dict({"mean": wg.zeros(3)}, strict=False).missing_keys == [
        "a.weight",
        "b.weight",
    ]


@pytest.mark.parametrize("assign", [False, True])
def test_two_values_for_one_tied_tensor_are_told(assign):
    model = Tied()
    state = {k: v.clone() for k, v in Tied().state_dict().items()}
    state["b.weight"][2, 1] = 5.0
    with pytest.warns(UserWarning, match=r"a.weight and b.weight .* that of b.weight is taken"):
        model.load_state_dict(state, assign=assign)
    assert model.a.weight is model.b.weight and model.a.weight[2, 1].item() == 5.0
    with pytest.raises(ValueError, match=r"misshaped:  b.weight"):
        model.load_state_dict({**state, "b.weight": wg.zeros((2, 2))})
    state["a.weight"][2, 1] = 5.0
    state["b.weight"] = state["a.weight"].double().numpy()  # the same numbers in another dtype
    state["mean"], state["again"] = wg.full(3, math.nan), wg.full(3, math.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_state_dict(state)
    assert model.a.weight[2, 1].item() == 5.0


def test_load_state_dict_lists_everything_and_changes_nothing():
    net = nn.MLP([3, 4, 2])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = {
        "0.weight": wg.zeros((3, 4)),
        "0.bias": wg.zeros((4,)),
        "2.bias": wg.zeros((2,), "int64"),
        "extra": wg.zeros((1,)),
    }
    with pytest.raises(ValueError, match="nothing was loaded") as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    for part in (
        "4 of the state's entries",
        "missing:    2.weight  (2, 4)",
        "unexpected: extra  (1,)",
        "misshaped:  0.weight  (3, 4), here (4, 3)",
        "wrong dtype: 2.bias  int64, here float32",
    ):
        assert part in text
    for name, value in net.state_dict().items():
        assert np.array_equal(value.numpy(), before[name].numpy())
    with pytest.raises(ValueError, match="misshaped"):
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match=r"load_state_dict: got int; .* wengert.load\(path\)"):
        net.load_state_dict(5)
    result = net.load_state_dict({"0.bias": wg.ones((4,)), "x": wg.ones((1,))}, strict=False)
    assert "2.weight" in result.missing_keys and result.unexpected_keys == ["x"]
    assert net.state_dict()["0.bias"].tolist() == [1.0] * 4


def test_to_dtype_and_a_stale_optimizer():
    net = nn.MLP([3, 4, 2])
    optimizer = wg.optim.SGD(net.parameters(), 0.1)
    assert net.to("float32") is net
    net.double()
    assert all(p.dtype == wg.float64 and p.requires_grad for p in net.parameters())
    net(wg.ones((2, 3), "float64")).sum().backward()
    with pytest.raises(RuntimeError, match="make the optimizer after it"):
        optimizer.step()
    with pytest.raises(wg.DTypeError):
        net.to("int64")


# ---- initialisers


def test_linear_starts_as_pytorch():
    layer = nn.Linear(100, 400, generator=wg.Generator(3))
    for p in (layer.weight, layer.bias):
        values = p.detach().numpy()
        assert np.abs(values).max() <= 0.1 and np.abs(values).max() > 0.099
        assert abs(values.std() - 0.1 / math.sqrt(3)) < 0.004
    again = nn.Linear(100, 400, generator=wg.Generator(3))
    assert np.array_equal(layer.weight.detach().numpy(), again.weight.detach().numpy())
    assert layer.weight.grad is None and layer.weight.is_leaf


@pytest.mark.parametrize(
    ("fn", "bound", "std"),
    [
        (lambda t: nn.init.uniform_(t, -2.0, 4.0), 4.0, 6 / math.sqrt(12)),
        (lambda t: nn.init.normal_(t, 0.0, 0.5), None, 0.5),
        (lambda t: nn.init.xavier_uniform_(t, 2.0), 2 * math.sqrt(6 / 500), 2 * math.sqrt(2 / 500)),
        (lambda t: nn.init.xavier_normal_(t), None, math.sqrt(2 / 500)),
        (
            lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu"),
            math.sqrt(6 / 300),
            math.sqrt(2 / 300),
        ),
        (
            lambda t: nn.init.kaiming_normal_(t, a=0.5, mode="fan_out"),
            None,
            math.sqrt(2 / 1.25 / 200),
        ),
    ],
)
@pytest.mark.smoke
def test_initialisers(fn, bound, std):
    wg.manual_seed(1)
    p = nn.Parameter(wg.empty((200, 300), "float64"))
    assert fn(p) is p and p.requires_grad and p.is_leaf
    values = p.detach().numpy()
    assert abs(values.std() / std - 1) < 0.02
    if bound is not None:
        assert np.abs(values).max() <= bound and np.abs(values).max() > 0.99 * bound


def test_initialisers_refuse():
    with pytest.raises(wg.ShapeError, match=r"kaiming_uniform_: tensor has shape \(3,\)"):
        nn.init.kaiming_uniform_(wg.zeros((3,)))
    with pytest.raises(ValueError, match="fan_in"):
        nn.init.kaiming_normal_(wg.zeros((3, 3)), mode="in")
    with pytest.raises(ValueError, match='nonlinearity is "swish"; expected "linear"'):
        nn.init.calculate_gain("swish")
    with pytest.raises(ValueError, match="greater"):
        nn.init.uniform_(wg.zeros((3,)), 1.0, 0.0)
    with pytest.raises(ValueError, match="std"):
        nn.init.normal_(wg.zeros((3,)), std=-1.0)
    with pytest.raises(ValueError, match="finite"):
        nn.init.normal_(wg.zeros((3,)), std=math.inf)
    assert nn.init.ones_(wg.zeros((2,))).tolist() == [1.0, 1.0]
    assert nn.init.zeros_(wg.ones((2,))).tolist() == [0.0, 0.0]


def test_gains_are_pytorchs():
    torch = pytest.importorskip("torch")
    for name, param in [
        ("linear", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("selu", None),
        ("leaky_relu", None), ("leaky_relu", 0.3),
    ]:  # fmt: skip
        assert nn.init.calculate_gain(name, param) == pytest.approx(
            torch.nn.init.calculate_gain(name, param), rel=1e-15
        )


# ---- layers and losses against PyTorch


def same(torch_module, module, x, torch_parameters=(), parameters=()):
    """Values and gradients of both, in float64."""
    import torch

    ours, theirs = wg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = module(ours), torch_module(theirs)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-14)
    weights = np.random.default_rng(5).standard_normal(y.shape)
    (y * wg.tensor(weights)).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-10, atol=1e-12)
    for p, q in zip(parameters, torch_parameters, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-12)


ACTIVATIONS = [
    ("ReLU", {}, {}),
    ("LeakyReLU", {"negative_slope": 0.2}, {}),
    ("ELU", {"alpha": 1.5}, {}),
    ("GELU", {}, {}),
    ("GELU", {"approximate": "tanh"}, {}),
    ("SiLU", {}, {}),
    ("Sigmoid", {}, {}),
    ("Tanh", {}, {}),
    ("Softplus", {}, {}),
    ("Softmax", {"axis": -1}, {"dim": -1}),
    ("Softmax", {"axis": 0}, {"dim": 0}),
    ("LogSoftmax", {"axis": 1}, {"dim": 1}),
    *((n, {}, {}) for n in ("Mish", "Hardtanh", "ReLU6", "Hardswish", "SELU")),
    *((n, {}, {}) for n in ("Softsign", "LogSigmoid", "Tanhshrink", "Hardshrink", "Softshrink")),
    ("Hardtanh", {"min_val": -2.0, "max_val": 0.5}, {}),
    ("CELU", {}, {}),
    ("CELU", {"alpha": 1.5}, {}),
    ("Hardshrink", {"lambd": 1.25}, {}),
    ("Softshrink", {"lambd": 1.25}, {}),
    ("Threshold", {"threshold": 0.5, "value": -3.0}, {}),
    ("Softmin", {"axis": 1}, {"dim": 1}),
    ("Identity", {}, {}),
    ("Flatten", {}, {}),
]


@pytest.mark.parametrize(("name", "ours", "theirs"), ACTIVATIONS)
def test_activations(name, ours, theirs, rng):
    torch = pytest.importorskip("torch")
    x = f64(rng, 4, 3, 5) * 3
    if name == "Softplus":  # PyTorch's is linear above 20, within 2e-9
        x = x.clip(-18, 18)
    same(getattr(torch.nn, name)(**(theirs or ours)), getattr(nn, name)(**ours), x)


KINKS = np.array([-np.inf, -3, -2, -1, -0.5, -0.0, 0.0, 0.5, 1, 2, 3, 6, np.inf])


@pytest.mark.parametrize("name", [
    "relu6", "hardtanh", "hardsigmoid", "hardswish", "selu", "celu", "hardshrink", "softshrink",
    "logsigmoid", "mish",
])  # fmt: skip
def test_activations_at_their_kinks(name):
    """Values and gradients there are PyTorch's, and finite at infinities where its are."""
    torch = pytest.importorskip("torch")
    ours = wg.tensor(KINKS, requires_grad=True)
    theirs = torch.tensor(KINKS, requires_grad=True)
    y, z = getattr(wg, name)(ours), getattr(torch.nn.functional, name)(theirs)
    y.sum().backward()
    z.sum().backward()
    for a, b in ((y.detach(), z.detach()), (ours.grad, theirs.grad)):
        a, b = a.numpy(), b.numpy()
        np.testing.assert_allclose(a[~np.isnan(b)], b[~np.isnan(b)], rtol=1e-7)  # its 1/6
        assert not np.isnan(a).any()


@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 3), (0, 4)])
def test_glu_and_prelu(shape, rng):
    torch = pytest.importorskip("torch")
    same(torch.nn.GLU(dim=1), nn.GLU(dim=1), f64(rng, 3, 4, 2))
    same(torch.nn.GLU(), nn.GLU(), f64(rng, *shape[:-1], 6))
    for parameters in (1, shape[1]):
        theirs = torch.nn.PReLU(parameters, 0.3, dtype=torch.float64)
        ours = nn.PReLU(parameters, 0.3, dtype="float64")
        assert list(ours.state_dict()) == list(theirs.state_dict())
        same(theirs, ours, f64(rng, *shape), theirs.parameters(), ours.parameters())
    step = wg.compile(lambda x: ours(x).square().sum())
    x = wg.tensor(f64(rng, *shape))
    assert step(x).item() == step(x).item() == ours(x).square().sum().item()


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: wg.glu(wg.ones((2, 3))), wg.ShapeError, r"glu: x has shape \(2, 3\); axis -1 must"),
    (lambda: wg.glu(wg.ones((2, 4)), 2), IndexError, "glu: axis 2 is out of range"),
    (lambda: wg.prelu(wg.ones((2, 3)), wg.ones((2,))), wg.ShapeError, r"prelu: weight .*\(3,\)"),
    (lambda: wg.celu(wg.ones((2,)), 0.0), ValueError, "celu: alpha is 0"),
    (lambda: wg.softshrink(wg.ones((2,)), -1.0), ValueError, "softshrink: lambd is -1.0"),
    (lambda: wg.hardtanh(wg.ones((2,)), 1.0, 1.0), ValueError, "hardtanh: min_val is 1 and"),
    (lambda: wg.relu6([1.0]), TypeError, "relu6: x is .*expected a tensor"),
])  # fmt: skip
def test_activations_refuse(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("sizes", [(7, 6, 5), (100, 10, 5), (100, 5, 1), (3, 1, 4), (1, 1, 1)])
def test_eager_linear_is_one_line_with_the_bits_of_its_parts(sizes, across, dtype, rng):
    """`across`: x and W are transposed, so that the products of the gradients are, too."""
    n, size_in, size_out = sizes
    arrays = [rng.normal(size=s) for s in ((n, size_in), (size_out, size_in), (size_out,))]

    leaves = [wg.tensor(a).to(dtype).requires_grad_() for a in arrays]

    def parts(x, weight, bias):
        return x @ weight.transpose(0, 1) + bias

    def run(linear):
        x, weight, bias = leaves
        if across:
            x, weight = (t.transpose(0, 1).clone().transpose(0, 1) for t in (x, weight))
        y = linear(x, weight, bias)
        first = wg.grad(y.square().mean(), leaves, create_graph=True)
        return (y, *first, *wg.grad(sum((g * g).sum() for g in first), leaves))

    one = run(wg.linear)
    assert one[0].made_by == "linear"
    for other in (run(parts), wg.compile(run)(wg.linear)):
        for a, b in zip(one, other, strict=True):
            assert a.shape == b.shape and bool((a == b).all())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6), (0, 6)])
def test_linear(bias, shape, rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(6, 3, bias=bias, dtype=torch.float64)
    ours = nn.Linear(6, 3, bias=bias, dtype="float64")
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    same(theirs, ours, f64(rng, *shape), theirs.parameters(), ours.parameters())


def test_mlp(rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2), torch.nn.Sigmoid()
    ).double()
    ours = nn.MLP([5, 7, 2], "tanh", "sigmoid", dtype="float64")
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    same(theirs, ours, f64(rng, 4, 5), theirs.parameters(), ours.parameters())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction, rng):
    torch = pytest.importorskip("torch")
    x, t = f64(rng, 6, 4), f64(rng, 6, 4)
    probabilities = np.exp(t) / np.exp(t).sum(1, keepdims=True)
    cases = [
        (torch.nn.MSELoss(reduction=reduction), nn.MSELoss(reduction), t),
        (
            torch.nn.BCEWithLogitsLoss(reduction=reduction),
            nn.BCEWithLogitsLoss(reduction=reduction),
            probabilities,
        ),
    ]
    for smoothing in (0.0, 0.1):
        theirs = torch.nn.CrossEntropyLoss(reduction=reduction, label_smoothing=smoothing)
        ours = nn.CrossEntropyLoss(reduction=reduction, label_smoothing=smoothing)
        cases += [(theirs, ours, np.array([0, 3, 1, 1, 2, 0])), (theirs, ours, probabilities)]
    for theirs, ours, target in cases:
        same(
            lambda z, loss=theirs, t=target: loss(z, torch.tensor(t)),
            lambda z, loss=ours, t=target: loss(z, wg.tensor(t)),
            x,
        )


@pytest.mark.smoke
def test_half_mean(rng):
    x, t = f64(rng, 6, 4), f64(rng, 6, 4)
    loss = nn.MSELoss("half_mean")(wg.tensor(x), wg.tensor(t)).item()
    assert loss == pytest.approx(((x - t) ** 2).sum() / (2 * 24), rel=1e-14)


@pytest.mark.smoke
def test_dropout():
    layer = nn.Dropout(0.25, wg.Generator(0))
    x = wg.ones((100, 100), "float64").requires_grad_()
    y = layer(x)
    values = np.unique(y.detach().numpy())
    assert values.tolist() == [0.0, pytest.approx(4 / 3)]
    assert abs(y.detach().numpy().mean() - 1.0) < 0.02
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), y.detach().numpy())
    assert not np.array_equal(layer(x).detach().numpy(), y.detach().numpy())
    again = nn.Dropout(0.25, wg.Generator(0))(x)
    assert np.array_equal(again.detach().numpy(), y.detach().numpy())
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert np.abs(nn.Dropout(1.0)(x).detach().numpy()).max() == 0.0


# ---- autograd


def test_no_grad_and_enable_grad():
    x = wg.ones((2,)).requires_grad_()
    with wg.no_grad():
        assert not (x * 2.0).requires_grad
        with wg.enable_grad():
            assert (x * 2.0).requires_grad
        assert not (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad

    @wg.no_grad()
    def f(a):
        """f's own text"""
        return a * 2.0

    @wg.no_grad
    def g(a):
        return a * 2.0

    assert not f(x).requires_grad and not g(x).requires_grad and f.__doc__ == "f's own text"
    with pytest.raises(KeyError), wg.no_grad():
        raise KeyError
    assert wg.is_grad_enabled()
    mode = wg.no_grad()
    with mode, mode:
        pass
    assert wg.is_grad_enabled()

    def generator():
        yield 1

    async def coroutine():
        pass

    for fn in (generator, coroutine, Net, 3):
        with pytest.raises(TypeError, match="no_grad"):
            wg.no_grad()(fn)


def test_grad_mode_is_of_its_thread():
    import threading

    found = []
    with wg.no_grad():
        thread = threading.Thread(target=lambda: found.append(wg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert found == [True]


def test_value_and_grad():
    x, y = wg.tensor([1.0, 2.0], "float64"), wg.tensor([3.0, 4.0], "float64")
    value, g = wg.value_and_grad(lambda a, b: (a * a * b).sum())(x, y)
    assert value.item() == 19.0 and g.tolist() == [6.0, 16.0]
    assert not value.requires_grad and not g.requires_grad and x.grad is None
    _, (ga, gb) = wg.value_and_grad(lambda a, b: (a * a * b).sum(), argnums=(0, -1))(x, y)
    assert ga.tolist() == [6.0, 16.0] and gb.tolist() == [1.0, 4.0]
    (value, aux), g = wg.value_and_grad(lambda a: (a.sum(), {"n": 3, "a": a * a}), has_aux=True)(x)
    assert aux["n"] == 3 and not aux["a"].requires_grad and g.tolist() == [1.0, 1.0]
    tree = {"w": x, "b": [y, (x,)]}
    _, g = wg.value_and_grad(lambda t: (t["w"] * t["b"][0]).sum())(tree)
    assert g["w"].tolist() == [3.0, 4.0] and g["b"][1][0].tolist() == [0.0, 0.0]
    with wg.no_grad():
        _, g = wg.value_and_grad(lambda a: (a * 2.0).sum())(x)
    assert g.tolist() == [2.0, 2.0]


def test_value_and_grad_nested_is_a_hessian_vector_product():
    x, v = wg.tensor([1.0, 2.0], "float64"), wg.tensor([1.0, -1.0], "float64")
    cube = wg.value_and_grad(lambda a: (a * a * a).sum())
    _, hvp = wg.value_and_grad(lambda a: (cube(a)[1] * v).sum())(x)
    assert hvp.tolist() == [6.0, -12.0]
    _, g = wg.value_and_grad(lambda a: (a * a * a).sum(), create_graph=True)(
        x.clone().requires_grad_()
    )
    assert g.requires_grad


def test_value_and_grad_refuses():
    x = wg.ones((2,))
    f = wg.value_and_grad(lambda a: a * 2.0)
    with pytest.raises(wg.ShapeError, match=r"\.mean\(\)"):
        f(x)
    with pytest.raises(wg.DTypeError, match="int64"):
        f(wg.arange(3))
    with pytest.raises(TypeError, match="argument 0"):
        f(3.0)
    with pytest.raises(IndexError, match="positional"):
        f()
    with pytest.raises(wg.GradientError, match="does not depend"):
        wg.value_and_grad(lambda a: a.detach().sum())(x)
    with pytest.raises(TypeError, match="has_aux"):
        wg.value_and_grad(lambda a: (a.sum(), 1))(x)
    with pytest.raises(TypeError, match="aux"):
        wg.value_and_grad(lambda a: a.sum(), has_aux=True)(x)
    with pytest.raises(TypeError, match="callable"):
        wg.value_and_grad(x)
    with pytest.raises(ValueError, match="twice"):
        wg.value_and_grad(lambda a, b: a.sum(), argnums=(0, -2))(x, x)


# ---- initialisers of matrices, positions


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (4, 2, 3)])
def test_orthogonal(shape):
    w = nn.init.orthogonal_(wg.zeros(shape, "float64"), 2.0, wg.Generator(0)).numpy()
    w = w.reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)
    again = nn.init.orthogonal_(wg.zeros(shape, "float64"), 2.0, wg.Generator(0)).numpy()
    assert np.array_equal(w, again.reshape(w.shape))
    assert not np.array_equal(w, nn.init.orthogonal_(wg.zeros(shape)).numpy().reshape(w.shape))
    # Uniform over all such matrices: no entry is positive more often than negative.
    signs = [nn.init.orthogonal_(wg.zeros((2, 2))).numpy() > 0 for _ in range(400)]
    assert (abs(np.mean(signs, 0) - 0.5) < 0.1).all()


def test_other_initialisers():
    generator = wg.Generator(0)
    w = nn.init.trunc_normal_(wg.zeros((200, 200), "float64"), 1.0, 2.0, 0.0, 4.0, generator)
    w = w.numpy()
    assert w.min() >= 0 and w.max() <= 4
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.init.trunc_normal_(torch.zeros(200, 200), 1.0, 2.0, 0.0, 4.0)
    theirs = theirs.numpy()
    assert abs(w.mean() - theirs.mean()) < 0.03 and abs(w.std() - theirs.std()) < 0.03
    for shape in ((3, 5), (5, 3)):
        found = nn.init.eye_(nn.Parameter(wg.ones(shape))).tolist()
        assert found == torch.nn.init.eye_(torch.ones(shape)).tolist()
    w = nn.init.sparse_(wg.zeros((10, 50), "float64"), 0.31, 0.5, generator).numpy()
    assert ((w == 0).sum(0) == 4).all()  # of ten, rounded up
    assert len({tuple(column) for column in (w == 0).T}) > 10
    assert abs(w[w != 0].std() - 0.5) < 0.1
    for call, text in (
        (lambda: nn.init.eye_(wg.ones(3)), r"eye_: tensor has shape \(3,\)"),
        (lambda: nn.init.sparse_(wg.ones((3, 3)), 1.5), "sparse_: sparsity is 1.5"),
        (lambda: nn.init.trunc_normal_(wg.ones(3), a=1.0, b=0.0), "expected a < b"),
        (lambda: nn.init.trunc_normal_(wg.ones(3), a=9.0, b=10.0), "write uniform_"),
        (lambda: nn.init.orthogonal_(wg.ones(3)), "orthogonal_: .*two axes or more"),
    ):
        with pytest.raises(ValueError, match=text):
            call()


def test_sinusoidal_positions(rng):
    x = f64(rng, 2, 5, 6)
    table = np.array(
        [
            [(np.sin, np.cos)[j % 2](p / 10000 ** (2 * (j // 2) / 6)) for j in range(6)]
            for p in range(5)
        ]
    )
    found = nn.SinusoidalPositions(6)(wg.tensor(x)).numpy()
    np.testing.assert_allclose(found, x + table, rtol=1e-12)
    assert nn.SinusoidalPositions(6)(wg.ones((5, 6))).dtype == wg.float32


@pytest.mark.parametrize("interleaved", [True, False])
def test_rotary_positions(interleaved, rng):
    """Turned complex numbers; products depend on distances alone."""
    layer = nn.RotaryPositions(6, interleaved=interleaved)
    x = f64(rng, 2, 5, 6)
    z = x[..., ::2] + 1j * x[..., 1::2] if interleaved else x[..., :3] + 1j * x[..., 3:]
    z = z * np.exp(1j * np.arange(5)[:, None] * 10000.0 ** (-np.arange(0, 6, 2) / 6))
    parts = [z.real, z.imag]
    right = np.stack(parts, -1).reshape(x.shape) if interleaved else np.concatenate(parts, -1)
    np.testing.assert_allclose(layer(wg.tensor(x)).numpy(), right, rtol=1e-12, atol=1e-12)
    q, k = wg.tensor(f64(rng, 1, 6)), wg.tensor(f64(rng, 1, 6))

    def product(a, b):
        return (layer(q, wg.tensor([a])) * layer(k, wg.tensor([b]))).sum().item()

    assert product(3, 1) == pytest.approx(product(12, 10)) != pytest.approx(product(3, 2))
    compiled = wg.compile(layer)
    for _ in range(3):
        assert np.array_equal(compiled(wg.tensor(x)).numpy(), layer(wg.tensor(x)).numpy())
    assert wg.testing.gradcheck(layer, [wg.tensor(x)])
    with pytest.raises(wg.ShapeError, match=r"RotaryPositions .*\(5, 4\); expected \(..., L, 6\)"):
        layer(wg.ones((5, 4)))
    with pytest.raises(ValueError, match="RotaryPositions: dim is 5"):
        nn.RotaryPositions(5)
