"""Python functions of the package that are given what they do not take say which argument it is."""

import copy
import importlib
import inspect
import re

import pytest

import wengert as wg
from wengert import nn
from wengert.study import attribution

MODULES = (
    "losses",
    "nn.init",
    "study.attribution",
    "cuda",
    "testing",
    "io",
    "nn",
    "optim",
    "train",
    "data",
)
LAYER = nn.Linear(2, 2)
GOOD = {
    "model": LAYER,
    "optimizer": wg.optim.SGD(LAYER.parameters(), lr=0.1),
    "params": list(LAYER.parameters()),
    "tensor": wg.ones((2, 2)),
    "x": wg.ones((2, 2)),
    "y": wg.ones((2,)),
}
# Arguments that take many kinds of objects, or are the inside of a class.
ANY = {"ParamGroup", "Standardizer", "bias_text", "to_tensors", "assert_close", "predict"}
RAW = re.compile(
    r"has no (attribute|len)|not (iterable|callable|subscriptable|supported|a mapping)"
    r"|unsupported operand|must be real number|argument must be|expected str, bytes"
)


def functions():
    found = {}
    for module in MODULES:
        owner = importlib.import_module(f"wengert.{module}")
        for name in owner.__all__:
            value = getattr(owner, name)
            error = isinstance(value, type) and issubclass(value, Exception)
            if callable(value) and not error and name not in ANY:
                found[f"{module}.{name}"] = value
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", functions())
def test_wrong_types_are_told_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = functions()[name]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    for i, wrong in enumerate(places):
        if str(wrong.annotation) in ("Any", "Any | None") or "Any" in str(wrong.annotation):
            continue
        for value in (5, "x", None, object(), [1, "a"]):
            args = [
                value if p is wrong else GOOD.get(p.name, 5)
                for p in places[: i + 1]
                if p is wrong or p.default is p.empty
            ]
            named = {wrong.name: args.pop()} if wrong.default is not wrong.empty else {}
            try:
                function(*args, **named)
            except Exception as error:
                assert not isinstance(error, (AttributeError, KeyError, AssertionError)), error
                assert not RAW.search(str(error)), (wrong.name, value, str(error))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: LAYER.load_state_dict(5),
            r"load_state_dict: got int; expected names and tensors: model",
        ),
        (lambda: LAYER.apply(5), r"apply: fn is 5 \(int\); expected a function"),
        (lambda: LAYER.register_buffer(5, None), r"register_buffer: name is 5 .*a str"),
        (lambda: wg.einsum(5), r"einsum: subscripts is 5 \(int\); expected a str"),
        (lambda: wg.einsum("ij", 5), r"einsum: operands is 5 .*Tensor: write wengert\.tensor"),
        (lambda: wg.pad("x", 1), r"pad: x is 'x' \(str\); expected a Tensor"),
        (lambda: nn.init.zeros_([1.0]), r"zeros_: tensor is \[1\.0\] \(list\).*wengert\.tensor"),
        (lambda: nn.init.zeros_(tensr=1), r"zeros_: got an unknown argument 'tensr'.*'tensor'"),
        (lambda: nn.Dropout("x"), r"Dropout: p is 'x' \(str\); expected a number"),
        (lambda: nn.Linear(2), r"Linear: out_features is missing"),
        (lambda: nn.Linear(2, 3, biass=False), r"Linear: got an unknown.*did you mean 'bias'\?"),
        (lambda: nn.LSTM("x", 2), r"LSTM: input_size is 'x'; it must be an int"),
        (lambda: nn.BatchNorm1d(2, epsilon=1), r"BatchNorm1d: got an unknown.*'eps'"),
        (lambda: nn.ModuleList(5), r"ModuleList: items is 5 \(int\); expected a list"),
        (lambda: nn.LayerNorm(None), "LayerNorm: normalized_shape is None .*an int or a sequence"),
        (lambda: wg.optim.StepLR(5, 1), "StepLR: optimizer is int, not an Optimizer"),
        (lambda: wg.optim.clip_grad_norm_(5, 1.0), r"clip_grad_norm_: parameters is 5 .*list of"),
        (lambda: wg.io.load(5), r"load: path is 5 \(int\); expected a str or a path"),
        (lambda: attribution.saliency(5, GOOD["x"]), r"saliency: model is 5 .* a Module"),
    ],
)
@pytest.mark.smoke
def test_sentences(call, text):
    with pytest.raises(TypeError, match=text):
        call()


def test_errors_of_others_pass():
    def loses(module):
        raise AttributeError("mine")

    with pytest.raises(AttributeError, match=r"^mine$"):
        LAYER.apply(loses)
    with pytest.raises(wg.DTypeError):
        nn.init.uniform_(wg.ones((2,), dtype="int64"))


def test_explained_functions_are_as_before():
    assert str(inspect.signature(nn.Linear)).startswith("(in_features: 'int'")
    assert nn.init.zeros_.__name__ == "zeros_"
    assert copy.deepcopy(nn.init.zeros_) is nn.init.zeros_
    assert wg.pad(x=wg.ones(1), pad=1).tolist() == [0.0, 1.0, 0.0]
