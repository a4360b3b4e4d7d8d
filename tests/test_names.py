"""Names: what dir() shows, and what is said of names that only PyTorch and NumPy have."""

import importlib
import re
import subprocess
import sys

import numpy as np
import pytest

import wengert as wg
from wengert import _names, nn

X = wg.tensor([[1.0, 4.0], [9.0, 16.0]])

TABLES = {
    "wengert": (wg, _names.WENGERT),
    "wengert.nn": (nn, _names.NN),
    "wengert.nn.functional": (nn.functional, _names.FUNCTIONAL),
    "wengert.optim": (wg.optim, _names.OPTIM),
    "wengert.linalg": (wg.linalg, _names.LINALG),
    "Tensor": (X, _names.TENSOR),
    "Module": (nn.Linear(1, 1), _names.MODULE),
}


@pytest.mark.parametrize("where", TABLES)
@pytest.mark.smoke
def test_each_hint_is_of_a_missing_name_and_names_what_there_is(where):
    owner, known = TABLES[where]
    for name, hint in known.items():
        assert not hasattr(owner, name), f"{where}.{name} is there: drop its hint"
        with pytest.raises(AttributeError) as caught:
            getattr(owner, name)
        assert name in str(caught.value)
        assert hint in str(caught.value)
        assert name not in dir(owner)
        for path in re.findall(r"wengert\.([\w.]+\w)", hint):
            found = wg
            for part in path.split("."):
                found = getattr(found, part)
        for method in re.findall(r"\bx\.([a-z]\w*)", hint):
            assert hasattr(X, method), hint


def test_names_of_other_modules_are_found():
    for call, text in [
        (lambda: wg.Linear, "write wengert.nn.Linear"),
        (lambda: wg.SGD, "write wengert.optim.SGD"),
        (lambda: nn.relu, "write wengert.nn.functional.relu"),
        (lambda: nn.functional.einsum, "write wengert.einsum"),
        (lambda: wg.optim.Linear, "write wengert.nn.Linear"),
    ]:
        with pytest.raises(AttributeError, match=re.escape(text)):
            call()
    with pytest.raises(AttributeError) as caught:
        _ = wg.linspce
    assert (caught.value.name, caught.value.obj) == ("linspce", wg)  # "Did you mean" in tracebacks
    assert not hasattr(wg, "__wrapped__")


def test_attributes_may_have_such_names():
    class Net(nn.Module):
        def type(self):
            return "net"

        def __init__(self):
            self.half = nn.Linear(1, 1)

    net = Net()
    assert net.type() == "net"
    assert [name for name, _ in net.named_children()] == ["half"]
    assert "half" in dir(net)
    assert "type" in dir(net)


@pytest.mark.parametrize(
    "name", ["", *(f".{name}" for name in wg._MODULES), ".nn.init", ".nn.functional"]
)
@pytest.mark.smoke
def test_dir_shows_what_there_is_to_use(name):
    module = importlib.import_module(f"wengert{name}")
    shown = dir(module)
    assert set(module.__all__) <= set(shown)
    for entry in shown:
        assert hasattr(module, entry)
        assert entry == "__version__" or not entry.startswith("_")
    for hidden in ("annotations", "importlib", "Any", "os", "math", "adam_step", "losses"):
        assert hidden not in shown


@pytest.mark.parametrize("former", _names.MOVED)
@pytest.mark.smoke
def test_modules_under_their_former_names(former):
    """Imported in any way: everything that the module has, and where it is now."""
    new = importlib.import_module(_names.MOVED[former])
    with pytest.warns(DeprecationWarning, match=f"{former} is {new.__name__} now") as warned:
        exec(f"from {former} import {new.__all__[0] if hasattr(new, '__all__') else 'plain'}", {})
    assert {w.filename for w in warned} == {"<string>"}  # of the import
    package, _, name = former.rpartition(".")
    for module in (
        importlib.import_module(former),
        getattr(importlib.import_module(package), name),
    ):
        for entry in (n for n in dir(new) if not n.startswith("_")):
            with pytest.warns(DeprecationWarning, match="and will go"):
                assert getattr(module, entry) is getattr(new, entry)
        assert not hasattr(module, "__file__")  # tools that look at every module get no warning


def test_study_loads_attribution_when_asked():
    code = "import wengert as wg; assert wg.study.attribution.saliency; wg.study.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("has no attribute 'nothing'\n")


def test_what_the_modules_had():
    """The names that were in the modules before they moved."""
    had = {
        "wengert.interpret": "bias_table bias_text integrated_gradients layer_attribution saliency",
        "wengert.report": "Bar Lines Progress Silent confusion curves plain progress say",
        "wengert.shaping": "einsum pad",
        "wengert.summaries": "LayerCost Summary summary",
    }
    assert had.keys() == _names.MOVED.keys()
    for former, names in had.items():
        module = importlib.import_module(former)
        for name in names.split():
            with pytest.warns(DeprecationWarning):
                assert getattr(module, name)


def test_diff_of_lists_is_said_to_have_moved():
    one, two = (wg.trace(lambda f=f: f(wg.ones(2)))() for f in (wg.exp, wg.log))
    with pytest.warns(DeprecationWarning, match="wengert.study.diff"):
        assert str(wg.diff(one, two)) == str(wg.study.diff(one, two))
    assert wg.diff(X, dim=0).shape == (X.shape[0] - 1, *X.shape[1:])


@pytest.mark.smoke
def test_functional():
    f = importlib.import_module("wengert.nn.functional")
    np.testing.assert_array_equal(f.relu(X - 5).numpy(), (X - 5).relu().numpy())
    own = {name for name in f.__all__ if getattr(f, name).__module__ == f.__name__}
    assert {"pad", "softmax", "normalize"} <= own  # with arguments that only PyTorch has
    for name in {*f.__all__} - own:
        assert getattr(f, name) is getattr(wg, name)


def test_moving_a_module():
    layer = nn.Linear(1, 1)
    assert layer.cpu() is layer
    if not wg.cuda.is_available():
        with pytest.raises(wg.DeviceError):
            layer.cuda()


# ---- NumPy's functions


@pytest.mark.parametrize("name", ["exp", "sqrt", "isnan", "mean", "sum", "max", "std", "argmax"])
def test_functions_of_numpy(name):
    got = getattr(np, name)(X)
    assert isinstance(got, wg.Tensor)
    np.testing.assert_allclose(got.numpy(), getattr(np, name)(X.numpy()), rtol=1e-6)
    x = wg.tensor([1.0], requires_grad=True)
    assert getattr(np, name)(x).requires_grad == (name not in ("isnan", "argmax"))


def test_operators_of_arrays_and_tensors_keep_gradients():
    x = wg.tensor([[1.0, 2.0]], requires_grad=True)
    ones = np.ones((1, 2), np.float32)
    for result in (ones + x, ones * x, ones @ x.T, np.float32(2) * x, ones - x, ones / x):
        assert isinstance(result, wg.Tensor)
        assert result.requires_grad
    assert (ones == x).tolist() == [[True, False]]
    assert np.frexp(X)[1].dtype == "int32"  # two results


# ---- max and min


def test_values_and_indices_are_not_rows():
    for call in (lambda: X.max(1), lambda: wg.min(X, 0), lambda: X.min((1,))):
        with pytest.raises(TypeError, match=r"gives the values alone.*x\.arg(max|min)\(axis\)"):
            _values, _indices = call()
    assert [float(v) for v in X.max(1)] == [4.0, 16.0]
    a, b = X.max(1).tolist()
    _, _, _ = wg.ones((3, 2)).max(1)
    _, *rest = X.max(1)
    a, b = X.sum(1)
    assert (a.item(), b.item(), len(rest)) == (5.0, 25.0, 1)
    with pytest.raises(TypeError, match="gives the values alone"):  # not: too many values
        _values, _indices = wg.ones((3, 2)).max(1)


def test_max_over_dim_is_no_pair():
    for call in (lambda: X.max(dim=1)[0], lambda: wg.min(X, dim=1), lambda: wg.max(input=X, dim=1)):
        with pytest.raises(TypeError, match=r"values and indices.*axis=1.*arg(max|min)\(1\)"):
            call()
    assert X.max(axis=1, keepdim=True).shape == (2, 1)
    assert X.max(1)[1].item() == 16.0  # NumPy's meaning


def test_larger_of_two_tensors():
    for name in ("max", "min"):
        for call in (lambda f: f(X, X), lambda f: f(X, wg.tensor(0))):
            with pytest.raises(TypeError, match=rf"{name}: .*wengert\.{name}imum\(a, b\)"):
                call(getattr(wg, name))


# ---- Python's own functions of numbers


def test_divmod_and_round():
    x = wg.tensor([7.5, -7.25, 2.5])
    for got, expected in zip(divmod(x, 2), divmod(x.numpy(), 2), strict=True):
        np.testing.assert_array_equal(got.numpy(), expected)
    for got, expected in zip(divmod(7, x), divmod(7, x.numpy()), strict=True):
        np.testing.assert_array_equal(got.numpy(), expected)
    for digits in (None, 0, 1, -1):
        np.testing.assert_array_equal(round(x, digits).numpy(), np.round(x.numpy(), digits or 0))
    assert round(wg.tensor([3])).tolist() == [3]
    with pytest.raises(wg.DTypeError, match=r"write x\.double\(\) first"):
        round(wg.tensor([3]), 1)
