"""Calls that do not fit: names of PyTorch and NumPy are accepted, and all else becomes a sentence
with the function, what came, what was expected, and the way out."""

import copy
import inspect
import pickle
import re

import numpy as np
import pytest

import wengert as wg
from wengert import _core, nn, optim

I = wg.tensor([0, 1])  # noqa: E741
X = wg.arange(6).float().reshape(2, 3)


def of_core() -> dict[str, object]:
    """Every function, method, constructor and setter of the compiled module, by name."""
    found = {}
    for name, value in vars(_core).items():
        if isinstance(value, type):
            for key, member in vars(value).items():
                if isinstance(member, property) and member.fset:
                    found[f"{name}.{key} ="] = member.fset
                elif callable(member) and not isinstance(member, type):
                    found[f"{name}.{key}"] = member
        elif callable(value):
            found[name] = value
    return found


@pytest.mark.parametrize("name", of_core())
@pytest.mark.smoke
def test_no_call_gives_raw_text(name):
    function = of_core()[name]
    if name in ("_set_package_directory", "empty_cache", "reset_memory_peak"):
        return
    many = [object()] * 12
    x = X.clone()
    for args, kwargs in [(many, {}), ([x, *many], {}), ([], {"no_such": x}), ([x], {"no_such": x})]:
        try:
            function(*args, **kwargs)
        except Exception as error:
            text = str(error)
            assert "incompatible" not in text, text
            assert "Invoked" not in text, text
            assert "tensor([" not in text, text


@pytest.mark.parametrize("name", [n for n in of_core() if n[0] != "_" and "=" not in n])
def test_every_function_has_a_signature(name):
    function = of_core()[name]
    if name.split(".")[0] in ("OutOfMemoryError", "GradientError", "DeviceError"):
        return
    if name == "Tensor.__init__":  # a slot of the type, past pybind11
        return
    assert "object at" not in str(inspect.signature(function))
    if "__" not in name and "_pybind11" not in name:
        doc = inspect.getdoc(function)
        assert len(doc) > 1, "no docstring"
        assert "wengert._core" not in doc


def test_functions_are_copied_and_pickled_by_name():
    for function in (wg.sum, wg.Tensor.sum, wg.exp):
        assert copy.deepcopy(function) is function
        assert pickle.loads(pickle.dumps(function)) is function

    class Net:
        activation = wg.softmax  # no method of Net

    assert Net().activation(X, 1).shape == X.shape
    assert str(inspect.signature(X.sum)).startswith("(axis: int | Sequence[int] | None = None")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda: X.sum(dim=1), lambda: X.sum(axis=1)),
        (lambda: X.sum(dim=(0, 1), keepdim=True), lambda: X.sum((0, 1), True)),
        (lambda: wg.mean(input=X, dim=0), lambda: X.mean(0)),
        (lambda: X.std(dim=1, unbiased=True), lambda: X.std(1, correction=1)),
        (lambda: X.var(ddof=1), lambda: X.var(correction=1)),
        (lambda: X.argmax(dim=1, keepdim=True), lambda: X.argmax(1, True)),
        (lambda: X.softmax(dim=0), lambda: X.softmax(0)),
        (lambda: wg.log_softmax(input=X, dim=-1), lambda: X.log_softmax(-1)),
        (lambda: wg.exp(input=X), lambda: X.exp()),
        (lambda: wg.add(input=X, other=2), lambda: X + 2),
        (lambda: wg.pow(input=X, exponent=2), lambda: X**2),
        (lambda: X.pow(exponent=2), lambda: X**2),
        (lambda: wg.maximum(x1=X, x2=1), lambda: wg.maximum(X, 1)),
        (lambda: wg.where(X > 1, input=X, other=0), lambda: wg.where(X > 1, X, 0)),
        (lambda: wg.concatenate([X, X], dim=1), lambda: wg.concatenate([X, X], 1)),
        (lambda: wg.stack(tensors=[X, X], dim=2), lambda: wg.stack([X, X], 2)),
        (lambda: X.transpose(dim0=0, dim1=1), lambda: X.T),
        (lambda: X.permute(dims=(1, 0)), lambda: X.T),
        (lambda: wg.permute(X, dims=(1, 0)), lambda: X.T),
        (lambda: X.reshape(shape=(3, 2)), lambda: X.reshape(3, 2)),
        (lambda: X.view(size=(3, 2)), lambda: X.reshape(3, 2)),
        (lambda: X.unsqueeze(dim=0), lambda: X.unsqueeze(0)),
        (lambda: X.flatten(start_dim=0, end_dim=1), lambda: X.flatten()),
        (lambda: X.split(split_size=1, dim=1)[2], lambda: X.split(1, 1)[2]),
        (lambda: X.gather(dim=1, index=wg.tensor([[0], [1]])), lambda: wg.tensor([[0.0], [4.0]])),
        (lambda: wg.full(size=(2,), fill_value=3), lambda: wg.full((2,), 3)),
        (lambda: wg.ones(size=(2,)), lambda: wg.ones((2,))),
        (lambda: wg.arange(start=0, end=3), lambda: wg.arange(3)),
        (lambda: wg.linspace(0, 1, steps=3), lambda: wg.linspace(0, 1, 3)),
        (lambda: wg.one_hot(tensor=wg.tensor([1]), num_classes=2), lambda: wg.tensor([[0, 1]])),
        (lambda: X.clamp(a_min=1, a_max=2), lambda: X.clamp(1, 2)),
        (
            lambda: wg.cross_entropy(input=X, target=I, reduction="none"),
            lambda: wg.cross_entropy(X, I, reduction="none"),
        ),
        (lambda: wg.mse_loss(input=X, target=X), lambda: wg.mse_loss(X, X)),
        (
            lambda: wg.randn(size=(2,), generator=wg.Generator(1)),
            lambda: wg.randn((2,), generator=wg.Generator(1)),
        ),
        (lambda: X.sum(dtype=None, out=None, axis=0), lambda: X.sum(0)),
    ],
)
def test_names_of_pytorch_and_numpy(theirs, ours):
    got, expected = theirs(), ours()
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_gradients_pass_through_calls_by_other_names():
    x = (
        wg.ones((2, 3), requires_grad=True)
        if False
        else wg.tensor(np.ones((2, 3), "f4"), None, True)
    )
    x.sum(dim=1, keepdim=True).sum().backward()
    assert x.grad.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: X.sum(dim=1, axis=1), "sum: got 'dim' and 'axis', which mean the same"),
        (lambda: X.sum(1, axis=1), "sum: got axis twice, by place and by name"),
        (lambda: X.softmax(1.7), r"softmax: axis is 1.7 \(float\), not a whole number"),
        (lambda: X.softmax(np.float32(1.7)), "softmax: axis is .*, not a whole number"),
        (lambda: X.softmax(2**70), "softmax: axis is 1180591620717411303424"),
    ],
)
@pytest.mark.smoke
def test_sentences(call, text):
    with pytest.raises(TypeError, match=text):
        call()


def test_operators_still_leave_what_they_do_not_know_to_others():
    class Other:
        def __rfloordiv__(self, x):
            return "other"

    assert X // Other() == "other"
    assert X.__floordiv__(Other()) is NotImplemented
    assert X.__pow__(Other()) is NotImplemented
    with pytest.raises(TypeError, match="__setitem__: value is missing, got key = 0"):
        X.__setitem__(0)
    with pytest.raises(TypeError, match="__add__: called on 3"):
        wg.Tensor.__add__(3, X)
    with pytest.raises(TypeError, match="unsupported operand"):
        X % "a"


@pytest.mark.parametrize(
    "make",
    [
        lambda **a: wg.ones((2,), **a),
        lambda **a: wg.zeros((2,), **a),
        lambda **a: wg.empty((2,), **a),
        lambda **a: wg.full((2,), 1.0, **a),
        lambda **a: wg.eye(2, **a),
        lambda **a: wg.linspace(0, 1, 3, **a),
        lambda **a: wg.arange(2.0, **a),
        lambda **a: wg.tensor([1.0], **a),
        lambda **a: wg.rand((2,), **a),
        lambda **a: wg.randn((2,), **a),
        lambda **a: wg.ones_like(X, **a),
        lambda **a: wg.zeros_like(X, **a),
        lambda **a: wg.empty_like(X, **a),
        lambda **a: wg.full_like(X, 2, **a),
    ],
)
def test_new_tensors_may_require_gradients(make):
    assert not make().requires_grad
    x = make(requires_grad=True)
    assert x.requires_grad
    assert x.is_leaf
    x.sum().backward()
    assert x.grad.tolist() == wg.ones_like(x).tolist()


def test_integers_require_no_gradient():
    with pytest.raises(wg.DTypeError, match=r"arange: a tensor of int64 .* dtype=\"float32\""):
        wg.arange(3, requires_grad=True)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: wg.ones((1,) * 11), "ones: size has 11 items.* at most 10 axes"),
        (lambda: X.reshape(*[1] * 11), "reshape: size has 11 items"),
        (
            lambda: wg.ones((1,) * 10).unsqueeze(0),
            r"unsqueeze: got a Tensor of shape .* at most 10",
        ),
        (lambda: wg.ones((1,) * 10)[None], r"__getitem__: got a Tensor of shape .* at most 10"),
        (lambda: wg.ones(3, dtype="flaot32"), "ones: dtype: got 'flaot32'.*did you mean 'float32'"),
        (lambda: X.gelu("thnh"), "gelu: approximate is .*did you mean 'tanh'"),
        (lambda: wg.stack([X, [1, 2]]), r"stack: item 1 is \[1, 2\] \(list\); expected a tensor"),
        (lambda: wg.ones(2, device="gpu"), 'ones: device: got "gpu"; expected "cpu"'),
    ],
)
def test_readers_of_arguments_name_the_function(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()


def _net() -> nn.MLP:
    return nn.MLP([3, 4, 2])


# A bad call, and what its error says: the function (in a module the layer), what came, what was
# expected, the way out.
BATTERY = [
    # names of arguments
    (lambda: X.sum(dmi=0), "sum | 'dmi' = 0 | axis=None | did you mean 'axis'"),
    (
        lambda: X.mean(0, keepdmi=True),
        "mean | 'keepdmi' = True | keepdims=False | did you mean 'keepdims'",
    ),
    (lambda: wg.softmax(X, axes=1, axi=2), "softmax | 'axi' = 2 | axis=-1 | did you mean 'axis'"),
    (lambda: X.sum(dim=1, axis=1), "sum | 'dim' and 'axis' | axis=None | mean the same"),
    (lambda: X.sum(1, axis=1), "sum | axis twice | axis=None | by place and by name"),
    (lambda: X.sum(out=X), "sum | 'out' = a Tensor of shape \\(2, 3\\) | axis=None | copy_"),
    (lambda: X.mean(dtype=wg.float64), "mean | 'dtype' = | axis=None | \\.to\\("),
    (
        lambda: X.std(unbaised=False),
        "std | 'unbaised' = False | correction | did you mean 'correction'",
    ),
    (lambda: wg.relu(X, inplace=True), "relu | 'inplace' = True | relu\\(x\\) | x = "),
    (lambda: wg.exp(y=X), "exp | 'y' = a Tensor of shape | exp\\(x\\) | exp\\(x\\)"),
    (
        lambda: wg.zeros((2,), dtpye="int64"),
        "zeros | 'dtpye' = 'int64' | dtype=None | did you mean 'dtype'",
    ),
    (lambda: wg.zeros((2,), layout=1), "zeros | 'layout' = 1 | shape, dtype | dense"),
    (
        lambda: wg.tensor([1.0], requires_gard=True),
        "tensor | 'requires_gard' = True | requires_grad=False | did you mean 'requires_grad'",
    ),
    (
        lambda: wg.gelu(X, aproximate="tanh"),
        "gelu | 'aproximate' = 'tanh' | approximate= | did you mean 'approximate'",
    ),
    (
        lambda: wg.concatenate([X, X], axsi=0),
        "concatenate | 'axsi' = 0 | axis=0 | did you mean 'axis'",
    ),
    (
        lambda: wg.layer_norm(X, 3, epsilon=1.0),
        "layer_norm | 'epsilon' = 1.0 | eps=1e-05 | did you mean 'eps'",
    ),
    (
        lambda: wg.cross_entropy(X, I, lable_smoothing=0.1),
        "cross_entropy | 'lable_smoothing' = 0.1 | reduction=mean | did you mean 'label_smoothing'",
    ),
    (lambda: wg.rand((2,), dtpye="f4"), "rand | 'dtpye' = 'f4' | shape | did you mean 'dtype'"),
    (lambda: wg.manual_seed(sed=1), "manual_seed | 'sed' = 1 | seed | did you mean 'seed'"),
    # numbers of arguments
    (lambda: wg.sum(), "sum | no arguments | sum\\(x, axis | x is missing"),
    (
        lambda: X.transpose(),
        "transpose | no arguments | x.transpose\\(a, b\\) | a and b are missing",
    ),
    (lambda: X.transpose(0), "transpose | a = 0 | x.transpose\\(a, b\\) | b is missing"),
    (
        lambda: wg.matmul(X),
        "matmul | a = a Tensor of shape \\(2, 3\\) | matmul\\(a, b\\) | b is missing",
    ),
    (
        lambda: wg.where(X > 0, X),
        "where | a = a Tensor | where\\(condition, a, b\\) | b is missing",
    ),
    (
        lambda: wg.embedding(I),
        "embedding | ids = a Tensor | embedding\\(ids, weight | weight is missing",
    ),
    (
        lambda: wg.one_hot(I),
        "one_hot | ids = a Tensor | one_hot\\(ids, num_classes | num_classes is missing",
    ),
    (lambda: wg.exp(), "exp | no arguments | exp\\(x\\) | x is missing"),
    (lambda: X.clone(1), "clone | 1 \\(int\\) | x.clone\\(\\) | at most 0"),
    (lambda: wg.ones(2, 3), "ones | 2 sizes | one shape | ones\\(\\(2, 3\\)\\)"),
    (lambda: wg.ones(2, 3, 4), "ones | 3 sizes | one shape | ones\\(\\(2, 3, 4\\)\\)"),
    (lambda: wg.ones(2, 3, 4, 5), "ones | 4 sizes | one shape | ones\\(\\(2, 3, 4, 5\\)\\)"),
    (lambda: wg.ones(2, 3, 4, 5, 6), "ones | 5 sizes | one shape | ones\\(\\(2, 3, 4, 5, 6\\)\\)"),
    (lambda: wg.empty(2, 3), "empty | 2 sizes | one shape | empty\\(\\(2, 3\\)\\)"),
    (lambda: wg.full(2, 3, 4), "full | 3 sizes | one shape | full\\(\\(2, 3\\), 4\\)"),
    (lambda: wg.randn(2, 3), "randn | 2 sizes | one shape | randn\\(\\(2, 3\\)\\)"),
    (lambda: wg.rand(2, 3, 4), "rand | 3 sizes | one shape | \\(2, 3, 4\\)"),
    (lambda: wg.randint(0, 9, 2, 3), "randint | 2 sizes | one shape | \\(2, 3\\)"),
    (lambda: wg.tensor(1, 2, 3), "tensor | 3 numbers | one list | tensor\\(\\[1, 2, 3\\]\\)"),
    (
        lambda: wg.concatenate(X, X),
        "concatenate | axis is a Tensor of shape | a whole number | \\(tensors, axis=0\\)",
    ),
    (lambda: wg.reshape(X, 3, 2), "reshape | 3 arguments | at most 2 | reshape\\(\\(3, 2\\)\\)"),
    (lambda: X.sum(0, 1), "sum | keepdims is 1 | True or False | axis=\\(0, 1\\)"),
    # types
    (lambda: wg.sum(3), "sum | x is 3 \\(int\\) | a tensor | wengert.tensor\\(x\\)"),
    (lambda: wg.mean([1.0, 2.0]), "mean | x is \\[1.0, 2.0\\] | a tensor | wengert.tensor\\(x\\)"),
    (
        lambda: wg.softmax(np.ones((2, 3))),
        "softmax | an ndarray of shape \\(2, 3\\) | a tensor | wengert.tensor\\(x\\)",
    ),
    (lambda: wg.softmax(X, 1.5), "softmax | 1.5 \\(float\\) | a whole number | int\\(1.5\\)"),
    (lambda: wg.softmax(X, None), "softmax | None | a whole number | axis=-1"),
    (lambda: X.sum("rows"), "sum | 'rows' \\(str\\) | an int | sequence of ints"),
    (lambda: wg.linspace(0, 1, 3.0), "linspace | num is 3.0 | a whole number | int\\(3.0\\)"),
    (
        lambda: wg.where(1, X, X),
        "where | condition is 1 | a tensor | wengert.tensor\\(condition\\)",
    ),
    (lambda: wg.where(X, X, X), "where | float32 | bool | condition"),
    (lambda: wg.exp("a"), "exp | 'a' \\(str\\) | a tensor, a number or an array | expected"),
    (lambda: wg.add(X, None), "add | None | a tensor, a number or an array | expected"),
    (lambda: wg.add(X, {"a": X}), "add | a dict of 1 | a tensor, a number or an array | expected"),
    (lambda: wg.stack([X, 1]), "stack | item 1 is 1 | a tensor | expected"),
    (lambda: wg.concatenate(5), "concatenate | 5 \\(int\\) | sequence of tensors | expected"),
    (
        lambda: X.register_hook(3),
        "register_hook | hook is 3 | a function | register_hook\\(hook\\)",
    ),
    (
        lambda: setattr(X, "requires_grad", "yes"),
        "requires_grad | 'yes' \\(str\\) | True or False | expected",
    ),
    (lambda: setattr(X, "grad", 5), "grad | 5 \\(int\\) | a tensor or None | expected"),
    (lambda: wg.Tensor([1.0]), "Tensor | data is \\[1.0\\] | a tensor | wengert.tensor\\(data\\)"),
    (lambda: wg.Tensor.sum(3), "sum | 3 \\(int\\) | a Tensor | x.sum"),
    (lambda: X.to(3), "to | dtype: got 3 | float32 | expected"),
    (lambda: X.leaky_relu("a"), "leaky_relu | negative_slope is 'a' | a number | expected"),
    (
        lambda: wg.set_num_threads("a"),
        "set_num_threads | n is 'a' | a whole number | set_num_threads\\(n\\)",
    ),
    (lambda: X.reshape("a"), "reshape | 'a' | an int | sequence of ints"),
    (lambda: X.reshape(2, 1.5), "reshape | 1.5 \\(float\\) | an int | expected"),
    (lambda: X["a"], "index | 'a' \\(str\\) | an int, a slice | expected"),
    (lambda: X[1.0], "index | 1.0 \\(float\\) | an int, a slice | expected"),
    (lambda: wg.grad(5, X), "grad | 5 \\(int\\) | sequence of tensors | expected"),
    (lambda: wg.arange("a"), "arange | start is 'a' | a number | expected"),
    (
        lambda: wg.full((2,), "a"),
        "full | 'a' \\(str\\) | a tensor, a number or an array | expected",
    ),
    # values
    (
        lambda: wg.ones(2, dtype="flaot32"),
        "ones | 'flaot32' | float32, float64 | did you mean 'float32'",
    ),
    (lambda: wg.ones(2, dtype="float16"), "ones | 'float16' | float32, float64 | bfloat16"),
    (lambda: X.to("int46"), "to | 'int46' | int64 | did you mean"),
    (lambda: wg.ones(2, device="gpu"), 'ones | "gpu" | "cpu", "cuda" | expected'),
    (lambda: wg.gelu(X, "thnh"), "gelu | thnh | none | did you mean 'tanh'"),
    (lambda: X.sum(5), "sum | axis 5 | -2 to 1 | 2 dimensions"),
    (lambda: X.sum((0, 0)), "sum | axis 0 | twice | axis"),
    (lambda: wg.ones((1,) * 11), "ones | 11 items | at most 10 | join"),
    (lambda: wg.tensor([[1], [1, 2]]), "tensor | nested lists | array | shape"),
    (lambda: wg.tensor("abc"), "tensor | str | numbers or bools | expected"),
    (lambda: wg.arange(0, 5, 0), "arange | step 0 | other than 0 | expected"),
    (lambda: wg.ones(2, "int64", requires_grad=True), "ones | int64 | gradient | float32"),
    # shapes
    (lambda: X @ X, "matmul | \\(2, 3\\) @ \\(2, 3\\) | inner|last axis | must|equal"),
    (lambda: X + wg.ones((4,)), "add | \\(2, 3\\) and \\(4,\\) | broadcast|equal | 1"),
    (lambda: X.reshape(4, 4), "reshape | \\(2, 3\\) | 6 | 16"),
    (lambda: X.squeeze(0), "squeeze | \\(2, 3\\) | size|one | axis"),
    (lambda: wg.stack([X, I]), "stack | \\(2,\\) | equal | tensor 0"),
    (
        lambda: wg.concatenate([X, wg.ones((2, 3, 1))]),
        "concatenate | \\(2, 3, 1\\) | \\(2, 3\\) | axes|axis",
    ),
    (lambda: X.split([1, 5]), "split | \\[1, 5\\] | add up to 2 | sizes"),
    (lambda: X.permute(0, 0), "permute | axis 0 | named twice | \\(0, 0\\)"),
    (lambda: X[5], "index | 5 | size 2 | axis 0"),
    (lambda: wg.embedding(wg.tensor([7]), X), "embedding | 7 | 0 to 1 | rows|weight"),
    (lambda: wg.ones((2, 3, 4)).T, "T | \\(2, 3, 4\\) | 2 | permute|mT"),
    (lambda: wg.linear(X, wg.ones((4, 5))), "linear | \\(2, 3\\) | must be 5 | last axis"),
    (lambda: X.item(), "item | \\(2, 3\\) | exactly one | tolist"),
    (lambda: bool(X), "bool | \\(2, 3\\) | one value | any\\(\\)"),
    # losses
    (
        lambda: wg.cross_entropy(X, wg.ones((2,))),
        "cross_entropy | \\(2,\\) and dtype float32 | integer | target.long\\(\\)",
    ),
    (
        lambda: wg.cross_entropy(X, wg.ones((2, 1))),
        "cross_entropy | \\(2, 1\\) and dtype float32 | integer | target.long\\(\\).reshape\\(2\\)",
    ),
    (
        lambda: wg.cross_entropy(X, I[:, None]),
        "cross_entropy | \\(2, 1\\) and dtype int64 | shape \\(2,\\) | target.reshape\\(2\\)",
    ),
    (
        lambda: wg.cross_entropy(X, I > 0),
        "cross_entropy | dtype bool | integer | target.long\\(\\)",
    ),
    (
        lambda: wg.cross_entropy(X, wg.ones((2, 3), "int64")),
        "cross_entropy | \\(2, 3\\) and dtype int64 | probabilities | target.float\\(\\)",
    ),
    (lambda: wg.cross_entropy(X, wg.tensor([0, 7])), "cross_entropy | 7 | 0 to 2 | class"),
    (
        lambda: wg.cross_entropy(X, [0, 1]),
        "cross_entropy | target is \\[0, 1\\] | a tensor | wengert.tensor\\(target\\)",
    ),
    (
        lambda: wg.cross_entropy(X[0], I),
        "cross_entropy | \\(3,\\) | \\(2,\\) | class indices of shape \\(\\)",
    ),
    (
        lambda: wg.cross_entropy(X, I, reduction="maen"),
        "cross_entropy | maen | mean | did you mean 'mean'",
    ),
    (
        lambda: wg.mse_loss(X, wg.ones((3, 2))),
        "mse_loss | \\(3, 2\\) | equal | reshape\\(\\(2, 3\\)\\)",
    ),
    (lambda: nn.MSELoss("avg")(X, X), "mse_loss | avg | mean | expected"),
    # gradients
    (lambda: X.backward(), "backward | made by | history | set requires_grad"),
    (lambda: wg.tensor(1.0).backward(), "backward | history | requires_grad | set requires_grad"),
    (lambda: I.requires_grad_(), "requires_grad | int64 | float32 | expected"),
    (
        lambda: wg.tensor([1.0], requires_grad=True).numpy(),
        "numpy | gradient|history | detach | detach\\(\\)",
    ),
    # modules: the layer is named
    (lambda: _net()(wg.ones((2, 5))), "linear '0' | \\(2, 5\\) | in_features=3 | 3"),
    (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2))(X),
        "linear '1' | \\(2, 4\\) | in_features=5 | gives 4 features",
    ),
    (lambda: nn.MLP([3, 2], activation="rleu"), "MLP | rleu | relu | did you mean 'relu'"),
    (lambda: nn.MLP(2, 3), "MLP | sizes is 2 | list | MLP\\(\\["),
    (lambda: nn.Sequential([nn.ReLU()]), "Sequential | list | layers | \\*"),
    (
        lambda: _net().load_state_dict(5),
        "load_state_dict | int | names and tensors | state_dict\\(\\)",
    ),
    (lambda: nn.GELU("tan"), "GELU | tan | none | did you mean 'tanh'"),
    (
        lambda: optim.SGD(_net(), lr=0.1),
        "SGD | parameter 0 is Linear | a tensor | parameters\\(\\)",
    ),
    (lambda: optim.SGD(_net().parameters(), lr=-1.0), "SGD | -1.0 | 0|number | lr"),
    (
        lambda: optim.SGD([{"params": list(_net().parameters()), "momentun": 1}], lr=0.1),
        "SGD | momentun | momentum | did you mean 'momentum'",
    ),
    (
        lambda: optim.ReduceLROnPlateau(optim.SGD(_net().parameters(), lr=0.1), mode="mni"),
        "ReduceLROnPlateau | mni | min | did you mean 'min'",
    ),
    (
        lambda: nn.init.kaiming_normal_(X, mode="fan_inn"),
        "kaiming_normal_ | fan_inn | fan_in | did you mean 'fan_in'",
    ),
    (lambda: nn.init.calculate_gain("rleu"), "calculate_gain | rleu | relu | did you mean 'relu'"),
    # names
    (lambda: wg.cat, "wengert | 'cat' | no attribute | concatenate"),
    (lambda: X.numpy_function, "Tensor | 'numpy_function' | no attribute"),
]


@pytest.mark.parametrize(("call", "marks"), BATTERY, ids=[marks for _, marks in BATTERY])
@pytest.mark.smoke
def test_marks_of_errors(call, marks):
    with pytest.raises((TypeError, ValueError, IndexError, AttributeError, RuntimeError)) as caught:
        call()
    text = str(caught.value)
    for mark in marks.split(" | "):
        assert re.search(mark, text), text
    assert "tensor([[" not in text, text  # elements
    assert len(text) < 400, text


def test_the_battery_is_large():
    assert len(BATTERY) > 110
    assert len({marks for _, marks in BATTERY}) == len(BATTERY)
