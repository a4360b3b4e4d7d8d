"""Calls that do not fit: names of PyTorch and NumPy are accepted, and all else becomes a sentence
with the function, what came, what was expected, and the way out."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import wengert as wg
from wengert import _core

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
def test_sentences(call, text):
    with pytest.raises(TypeError, match=text):
        call()


def test_operators_still_leave_what_they_do_not_know_to_others():
    class Other:
        def __rfloordiv__(self, x):
            return "other"

    assert X // Other() == "other"
    assert X.__floordiv__(Other()) is NotImplemented
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
        (lambda: wg.ones((1,) * 9), "ones: size has 9 items.* at most 8 axes"),
        (lambda: X.reshape(*[1] * 9), "reshape: size has 9 items"),
        (lambda: wg.ones((1,) * 8).unsqueeze(0), r"unsqueeze: got a Tensor of shape .* at most 8"),
        (lambda: wg.ones((1,) * 8)[None], r"__getitem__: got a Tensor of shape .* at most 8"),
        (lambda: wg.ones(3, dtype="flaot32"), "ones: dtype: got 'flaot32'.*did you mean 'float32'"),
        (lambda: X.gelu("thnh"), "gelu: approximate is .*did you mean 'tanh'"),
        (lambda: wg.stack([X, [1, 2]]), r"stack: item 1 is \[1, 2\] \(list\); expected a tensor"),
        (lambda: wg.ones(2, device="gpu"), 'ones: device: got "gpu"; expected "cpu"'),
    ],
)
def test_readers_of_arguments_name_the_function(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()
