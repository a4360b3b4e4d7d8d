"""A traced forward as an ONNX file.

Elementwise ops translate the NumPy text that their rows write of themselves, unless ONNX has an op
of that meaning; the other ops have a form below.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .. import _core
from .._core import Tensor
from .._numbers import bytes_of
from .._trees import tensors_of
from ..autograd import no_grad
from ..io import writing
from ..study import trace
from ..study.list import Line, Value, WengertList, ops, short
from ..study.run import Run
from .ops import DTYPES, UnsupportedError

OPSET, IR = 20, 10
_NUMBERS = {name: number for number, name in DTYPES.items()}

# The same meaning in one node; attributes by ONNX's names.
_DIRECT: dict[str, tuple[str, dict[str, str]]] = {
    "relu": ("Relu", {}), "leaky_relu": ("LeakyRelu", {"alpha": "negative_slope"}),
    "elu": ("Elu", {"alpha": "alpha"}), "mish": ("Mish", {}), "softplus": ("Softplus", {}),
    "gelu": ("Gelu", {}), "gelu_tanh": ("Gelu", {}), "reciprocal": ("Reciprocal", {}),
    "copy": ("Identity", {}), "move": ("Identity", {}), "matmul": ("MatMul", {}),
    "permute": ("Transpose", {"perm": "axes"}), "concatenate": ("Concat", {"axis": "axis"}),
    "gather": ("GatherElements", {"axis": "axis"}), "embedding": ("Gather", {}),
    "softmax": ("Softmax", {}), "log_softmax": ("LogSoftmax", {}),
}  # fmt: skip
# Functions and operators of NumPy's text.
_CALLED = {
    **{f: f.capitalize() for f in ("exp", "log", "sqrt", "abs", "sign", "sin", "cos", "tan", "sinh",
                                   "cosh", "tanh", "floor", "ceil", "round", "erf", "sigmoid",
                                   "where")},
    **{f"arc{f}": f"A{f}" for f in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "maximum": "Max", "minimum": "Min",
    **{"USub": "Neg", "Add": "Add", "Sub": "Sub", "Mult": "Mul", "Div": "Div", "Pow": "Pow"},
    **{"Eq": "Equal", "Lt": "Less", "LtE": "LessOrEqual", "Gt": "Greater", "GtE": "GreaterOrEqual"},
}  # fmt: skip
_TEXTS = {
    "times": ("a, b", "np.where(a == 0, a, a * b)"),
    "over": ("a, b", "np.where(a == 0, a, a / b)"),
    "expm1": ("x", "np.where(np.abs(x) < 1, np.tanh(x / 2) * (np.exp(x) + 1), np.exp(x) - 1)"),
    "log1p": ("x", "np.where((1 + x) - 1 == 0, x, np.where(1 + x == np.inf, 1 + x, "
                   "np.log(1 + x) * (x / ((1 + x) - 1))))"),
    "exp2": ("x", "2 ** x"), "log2": ("x", "np.log(x) / 0.6931471805599453"),
    "log10": ("x", "np.log(x) / 2.302585092994046"),
    "trunc": ("x", "np.where(x < 0, np.ceil(x), np.floor(x))"),
}  # fmt: skip


def export(
    model: Callable[..., Any],
    args: Any,
    path: str | os.PathLike[str],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Writes what `model(*args)` computes as an ONNX file of opset 20.

    model   a module, in evaluation (`model.eval()`: draws of dropout have no ONNX form), or any
            function of tensors; it is called once.
    args    a tensor, or a tuple of arguments. Tensors in them become the graph's inputs, of the
            same shapes; parameters and all other tensors are stored in the file, numbers and
            Python's choices are those of this call.
    input_names, output_names
            names in the graph; by default the parameters of forward(), and those of the list.

    UnsupportedError, a ValueError, for an op that has no ONNX form, with its place in the program.
    Weights above 2 GiB go to `path` + ".data".

        wengert.onnx.export(model.eval(), x, "model.onnx")
        onnxruntime.InferenceSession("model.onnx").run(None, {"x": x.numpy()})
    """
    given = args if isinstance(args, tuple) else (args,)
    inputs = tensors_of(given)
    if not callable(model):
        raise TypeError(f"onnx.export: got {type(model).__name__}; expected a module or function")
    with no_grad():
        program = trace(model)(*given)
    graph = _Graph(program)
    names = _names(model, given, len(inputs)) if input_names is None else list(input_names)
    graph.taken |= {*names, *(output_names or ())}
    results = [program.values[v] for v in program.results]
    outs = [graph.fresh(v.name) for v in results] if output_names is None else list(output_names)
    for kind, found, expected in (("input", names, inputs), ("output", outs, results)):
        if len(found) != len(expected) or len(set(found)) != len(found):
            raise ValueError(
                f"onnx.export: got {kind}_names {found}; expected {len(expected)} different ones"
            )
    made = graph.model([program.core.value_of(x) for x in inputs], names, inputs, outs)
    onnx.checker.check_model(made)
    if made.ByteSize() < 2**31 - 1:
        with writing(path) as file:
            file.write(made.SerializeToString())
    else:
        beside = os.path.basename(os.fspath(path)) + ".data"  # noqa: PTH119
        onnx.save(made, os.fspath(path), save_as_external_data=True, location=beside)


def _names(model: Any, given: tuple[Any, ...], count: int) -> list[str]:
    """A name for each tensor: of forward's parameter, with a number where it holds several."""
    try:
        parameters = [*inspect.signature(getattr(model, "forward", model)).parameters]
    except (TypeError, ValueError):
        parameters = []
    parameters += [f"input{i}" for i in range(len(parameters), len(given))]
    names = []
    for name, argument in zip(parameters, given, strict=False):
        held = len(tensors_of(argument))
        names += [name] if held == 1 else [f"{name}{i}" for i in range(held)]
    return names if len(names) == len(set(names)) == count else [f"input{i}" for i in range(count)]


class _Graph:
    """Nodes and initializers, as they are made line by line."""

    def __init__(self, program: WengertList) -> None:
        self.program = program
        self.run = Run(program)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.known: dict[int, str] = {}  # names by value
        self.constants: dict[Any, str] = {}
        self.taken: set[str] = {""}
        self.line: Line | None = None

    def model(
        self, numbers: list[int], names: list[str], inputs: list[Tensor], outs: list[str]
    ) -> Any:
        """The file's content; numbers: of the inputs' values, -1 where nothing reads one."""
        self.known.update(zip(numbers, names, strict=True))
        for line in self.program.lines:
            self.line = line
            if line.edited:
                self.refuse(
                    "it writes into a tensor that exists; write it without an edit in place"
                )
            self.add(line)
        self.line, infos = None, []
        for v, name in zip(self.program.results, outs, strict=True):
            self.nodes.append(helper.make_node("Identity", [self.name(v)], [name]))
            value = self.program.values[v]
            infos.append(_info(name, value.dtype, value.shape))
        given = [_info(n, x.dtype.name, x.shape) for n, x in zip(names, inputs, strict=True)]
        graph = helper.make_graph(self.nodes, "wengert", given, infos, self.initializers)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR, producer_name="wengert")

    # -- names and constants

    def fresh(self, wish: str) -> str:
        """A name that nothing has."""
        name, count = wish, 1
        while name in self.taken:
            count += 1
            name = f"{wish}_{count}"
        self.taken.add(name)
        return name

    def name(self, v: int) -> str:
        """A value's name; one from outside becomes an initializer."""
        if v not in self.known:
            if self.program.values[v].line:
                self.refuse(f"it reads {self.program.values[v].name}, which has no ONNX form")
            self.known[v] = self.fresh(self.program.values[v].name)
            self.initializers.append(_stored(self.known[v], self.run.replica.value(v)))
        return self.known[v]

    def constant(self, value: Any, dtype: str = "int64") -> str:
        """The name of a constant: numbers, with dtype."""
        kept = np.asarray(value, np.float64 if dtype == "bfloat16" else dtype)
        key = (dtype, kept.shape, kept.tobytes())
        if key not in self.constants:
            self.constants[key] = self.fresh("constant")
            tensor = _core.tensor(kept).to(dtype)
            self.initializers.append(_stored(self.constants[key], tensor))
        return self.constants[key]

    # -- nodes

    def refuse(self, why: str) -> None:
        """UnsupportedError with the line's op, number and place."""
        assert self.line is not None
        line = self.line
        raise UnsupportedError(
            f"onnx.export: line {line.number}, {line.op} ({short(line.place)}: {line.code}): {why}"
        )

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; the name of its output, or of several."""
        assert self.line is not None
        names = [self.fresh(f"{self.line.op}{self.line.number}") for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        self.nodes[-1].name = self.fresh(f"{self.line.layer or 'line'}/{kind}{self.line.number}")
        self.nodes[-1].doc_string = f"{short(self.line.place)}: {self.line.code}"
        return names[0] if outputs == 1 else names

    def cast(self, x: str, dtype: str) -> str:
        """x in another dtype."""
        made: str = self.node("Cast", x, to=_NUMBERS[dtype])
        return made

    def value(self, v: int) -> Value:
        """What the list says of a value."""
        return self.program.values[v]

    def add(self, line: Line) -> None:
        """The nodes of a line; the name of its first output."""
        if line.op in ("full", "arange"):
            at: Any = line.attributes
            out = self.value(line.outputs[0])
            made = self.constant(
                at["value"]
                if line.op == "full"
                else at["start"] + at["step"] * np.arange(at["count"]),
                out.dtype,
            )
            if line.op == "full" and out.shape:
                made = self.node("Expand", made, self.constant(out.shape))
        else:
            names = [self.name(v) for v in line.inputs]
            if line.op in _DIRECT:
                kind, attributes = _DIRECT[line.op]
                if line.attributes.get("axes") == ():  # of a number; ONNX would turn all axes
                    kind, attributes = "Identity", {}
                given: dict[str, Any] = {k: line.attributes[v] for k, v in attributes.items()}
                if line.op == "gelu_tanh":
                    given["approximate"] = "tanh"
                made = self.node(kind, *names, **given)
            elif line.op in _FORMS:
                made = _FORMS[line.op](self, line, *names)
            else:
                made = self.text(line, names)
        self.known[line.outputs[0]] = made

    def text(self, line: Line, names: list[str]) -> str:
        """An elementwise op, from the NumPy text of its row."""
        known = ops().get(line.op, {"operands": [], "numpy": []})
        if not known["numpy"]:
            random = line.op in ("uniform", "normal", "integers")
            self.refuse(
                "random numbers have no ONNX form; export model.eval()"
                if random
                else "there is no ONNX form of this op"
            )
        out, first = self.value(line.outputs[0]), self.value(line.inputs[-1])
        self.number_dtype = first.dtype if out.dtype == "bool" else out.dtype
        fields = {k: repr(v).replace("inf", "np.inf") for k, v in line.attributes.items()}
        fields |= {k: k for k in known["operands"]}
        scope = dict(zip(known["operands"], names, strict=False))
        *steps, result = (ast.parse(part.format(**fields)).body[0] for part in known["numpy"])
        for step in steps:
            assert isinstance(step, ast.Assign) and isinstance(step.targets[0], ast.Name)
            scope[step.targets[0].id] = self.expression(step.value, scope)
        assert isinstance(result, ast.Expr)
        return self.expression(result.value, scope)

    def expression(self, e: ast.expr, scope: Mapping[str, str]) -> str:
        """The name of an expression's value."""
        match e:
            case ast.Name(id=name):
                return scope[name]
            case ast.Constant(value=number):
                return self.constant(number, self.number_dtype)
            case ast.Attribute(attr="inf" | "nan" as name):
                return self.constant(float(name), self.number_dtype)
            case ast.UnaryOp(op=op, operand=x):
                kind, parts = type(op).__name__, [x]
            case ast.BinOp(op=op, left=a, right=b):
                kind, parts = type(op).__name__, [a, b]
            case ast.Compare(left=a, ops=[ast.NotEq()], comparators=[b]):
                equal = self.node("Equal", self.expression(a, scope), self.expression(b, scope))
                return str(self.node("Not", equal))
            case ast.Compare(left=a, ops=[op], comparators=[b]):
                kind, parts = type(op).__name__, [a, b]
            case ast.Call(func=ast.Name(id=kind) | ast.Attribute(attr=kind), args=parts):
                pass
            case _:
                kind, parts = ast.dump(e), []
        given = [self.expression(part, scope) for part in parts]
        if kind in _TEXTS:
            operands, text = _TEXTS[kind]
            body = ast.parse(text, mode="eval").body
            return self.expression(body, dict(zip(operands.split(", "), given, strict=True)))
        if kind in ("BitAnd", "BitOr", "BitXor"):
            assert self.line is not None
            logical = self.value(self.line.inputs[0]).dtype == "bool"
            kind = kind[3:] if logical else f"Bitwise{kind[3:]}"
        elif kind in _CALLED:
            kind = _CALLED[kind]
        else:
            self.refuse("there is no ONNX form of this op")
        return str(self.node(kind, *given))


def _info(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    return helper.make_tensor_value_info(name, _NUMBERS[dtype], shape)


def _stored(name: str, x: Tensor) -> Any:
    x = x.detach().cpu().contiguous()
    raw = bytes_of(x).tobytes()
    return helper.make_tensor(name, _NUMBERS[x.dtype.name], x.shape, raw, raw=True)


# ---- forms of ops that are not elementwise: (graph, line, inputs' names) -> output's name


def _batch_norm(g: _Graph, line: Line, x: str, w: str, b: str) -> str:
    """With the batch's own mean and variance; onnxruntime lacks BatchNormalization's."""
    axes = g.constant([0, *range(2, len(g.value(line.inputs[0]).shape))])
    centred = g.node("Sub", x, g.node("ReduceMean", x, axes, keepdims=1))
    var = g.node("ReduceMean", g.node("Mul", centred, centred), axes, keepdims=1)
    eps = g.constant(line.attributes["eps"], g.value(line.inputs[0]).dtype)
    xhat = g.node("Div", centred, g.node("Sqrt", g.node("Add", var, eps)))
    made: str = g.node("Add", g.node("Mul", xhat, w), b)
    return made


_FORMS: dict[str, Callable[..., str]] = {
    "cast": lambda g, line, x: g.cast(x, g.value(line.outputs[0]).dtype),
    "reshape": lambda g, line, x: g.node(
        "Reshape", x, g.constant(np.array(g.value(line.outputs[0]).shape, np.int64)), allowzero=1
    ),
    "expand": lambda g, line, x: g.node("Expand", x, g.constant(g.value(line.outputs[0]).shape)),
    "batch_norm": _batch_norm,
    "layer_norm": lambda g, line, x, w=None, b=None: g.node(
        "LayerNormalization",
        x,
        w or g.constant(np.ones(g.value(line.inputs[0]).shape[-1]), g.value(line.inputs[0]).dtype),
        *([b] if b else []),
        epsilon=line.attributes["eps"],
    ),
    "logsumexp": lambda g, line, x: g.node("ReduceLogSumExp", x, g.constant([-1]), keepdims=0),
    "cumsum": lambda g, line, x: g.node(
        "CumSum",
        x,
        g.constant(line.attributes["axis"]),
        reverse=int(bool(line.attributes["reverse"])),
    ),
    "cross_entropy": lambda g, line, x, target: g.node(
        "SoftmaxCrossEntropyLoss", x, target, reduction="none"
    ),
}  # fmt: skip


def _remainder(g: _Graph, line: Line, a: str, b: str) -> str:
    """With the sign of b, as ONNX has it of integers alone."""
    dtype = g.value(line.inputs[0]).dtype
    if dtype.startswith("int"):
        return str(g.node("Mod", a, b))
    r, zero = g.node("Mod", a, b, fmod=1), g.constant(0, dtype)
    other = g.node("Xor", g.node("Less", r, zero), g.node("Less", b, zero))
    wrong = g.node("And", other, g.node("Not", g.node("Equal", r, zero)))
    return str(g.node("Where", wrong, g.node("Add", r, b), r))


def _floor_divide(g: _Graph, line: Line, a: str, b: str) -> str:
    if not g.value(line.inputs[0]).dtype.startswith("int"):
        g.refuse("there is no ONNX form of it for floating numbers; write (a / b).floor()")
    return str(g.node("Div", g.node("Sub", a, g.node("Mod", a, b)), b))


_FORMS |= {
    "fmod": lambda g, line, a, b: g.node("Mod", a, b, fmod=1),
    "remainder": _remainder,
    "floor_divide": _floor_divide,
}


def _form(f: Callable[..., str]) -> Callable[..., str]:
    _FORMS[f.__name__.strip("_")] = f
    return f


def _reduction(kind: str, dtype: str | None = None) -> Callable[..., str]:
    def form(g: _Graph, line: Line, x: str) -> str:
        given, out = g.value(line.inputs[0]), g.value(line.outputs[0])
        axes = line.attributes["axis"]
        wide = dtype or out.dtype
        x = x if given.dtype == wide else g.cast(x, wide)
        keep = int(bool(line.attributes["keepdims"]))
        many = axes if isinstance(axes, tuple) else (axes,)
        made = x if not many else g.node(kind, x, g.constant(many), keepdims=keep)
        return made if wide == out.dtype else g.cast(made, out.dtype)

    return form


_FORMS |= {
    "sum": _reduction("ReduceSum"), "mean": _reduction("ReduceMean"),
    "prod": _reduction("ReduceProd"), "max": _reduction("ReduceMax"),
    "min": _reduction("ReduceMin"), "any": _reduction("ReduceMax", "int32"),
    "all": _reduction("ReduceMin", "int32"), "sum_squares": _reduction("ReduceSumSquare"),
}  # fmt: skip
for _op, _kind in (("argmax", "ArgMax"), ("argmin", "ArgMin")):
    _FORMS[_op] = lambda g, line, x, kind=_kind: g.node(
        kind, x, axis=line.attributes["axis"][0], keepdims=int(bool(line.attributes["keepdims"]))
    )


def _windows(kind: str) -> Callable[..., str]:
    """Convolution and pooling: pads after x follow from the result's size."""

    def form(g: _Graph, line: Line, x: str, w: str = "") -> str:
        at: Any = line.attributes
        small, large = line.inputs[0], line.outputs[0]
        if kind != "ConvTranspose":
            small, large = large, small
        size = g.value(line.inputs[1]).shape[2:] if w else at["size"]
        space = [
            (n - 1) * s + (k - 1) * d + 1 - p - m
            for n, m, k, s, d, p in zip(
                g.value(small).shape[-len(size) :], g.value(large).shape[-len(size) :], size,
                at["stride"], at["dilation"], at["padding"], strict=True,
            )
        ]  # fmt: skip
        after = [max(n, 0) for n in space]
        given = {"strides": at["stride"], "dilations": at["dilation"], "kernel_shape": size}
        given["pads"] = [*at["padding"], *after]
        if kind == "ConvTranspose":
            given["output_padding"] = [max(-n, 0) for n in space]
        return str(
            g.node(kind, x, w, group=at["groups"], **given) if w else g.node(kind, x, **given)
        )

    return form


_FORMS |= {
    "convolution": _windows("Conv"),
    "convolution_input": _windows("ConvTranspose"),
    "max_pool": _windows("MaxPool"),
}


@_form
def _slice(g: _Graph, line: Line, x: str) -> str:
    at: Any = line.attributes
    stop = at["start"] + at["step"] * at["length"]
    stop = -(2**63) + 1 if stop < 0 else stop
    parts = ([at["start"]], [stop], [at["axis"]], [at["step"]])
    return str(g.node("Slice", x, *map(g.constant, parts)))


@_form
def _embed(g: _Graph, line: Line, x: str) -> str:
    at: Any = line.attributes
    if at["step"] != 1:
        g.refuse("zeros between elements have no ONNX form")
    before = at["start"]
    after = at["size"] - before - at["length"]
    return str(g.node("Pad", x, g.constant([before, after]), "", g.constant([at["axis"]])))


@_form
def _take_rows(g: _Graph, line: Line, x: str, rows: str) -> str:
    shape = g.value(line.inputs[0]).shape
    lead: Any = line.attributes["lead"]
    if lead != 1:
        flat = (math.prod(shape[:lead]), *shape[lead:])
        x = g.node("Reshape", x, g.constant(flat), allowzero=1)
    return str(g.node("Gather", x, rows))


@_form
def _ravel_index(g: _Graph, line: Line, *indices: str) -> str:
    total = ""
    for i, size in zip(indices, line.attributes["sizes"], strict=True):  # type: ignore[arg-type]
        n = g.constant(size)
        below = g.node("Less", i, g.constant(0))
        i = g.node("Where", below, g.node("Add", i, n), i)
        total = i if not total else g.node("Add", g.node("Mul", total, n), i)
    return total


@_form
def _scatter(g: _Graph, line: Line, x: str, value: str, index: str) -> str:
    at: Any = line.attributes
    folds = {"set": "none", "sum": "add", "prod": "mul", "amax": "max", "amin": "min"}
    if at["reduce"] != "set" and not at["include_self"]:
        g.refuse("include_self=False has no ONNX form")
    return str(
        g.node("ScatterElements", x, index, value, axis=at["axis"], reduction=folds[at["reduce"]])
    )


@_form
def _sort(g: _Graph, line: Line, x: str) -> str:
    at: Any = line.attributes
    k = g.constant([at["first"] + at["count"]])
    y, i = g.node("TopK", x, k, outputs=2, largest=int(bool(at["descending"])))
    if at["first"]:
        parts = [g.constant([n]) for n in (at["first"], at["first"] + at["count"], -1)]
        y, i = (g.node("Slice", part, *parts) for part in (y, i))
    g.known[line.outputs[1]] = i
    return str(y)


@_form
def _one_hot(g: _Graph, line: Line, x: str) -> str:
    out = g.value(line.outputs[0])
    at = g.node("Unsqueeze", x, g.constant([-1]))
    classes = g.constant(np.arange(out.shape[-1]), g.value(line.inputs[0]).dtype)
    return g.cast(g.node("Equal", at, classes), out.dtype)


@_form
def _attention(g: _Graph, line: Line, q: str, k: str, v: str, mask: str = "") -> str:
    """Of (n, length, heads, width); rows without a key that may be looked at are zeros."""
    (_, length, _, _), keys = g.value(line.inputs[0]).shape, g.value(line.inputs[1]).shape[1]
    dtype = g.value(line.inputs[0]).dtype
    least, zero = g.constant(-np.inf, dtype), g.constant(0, dtype)
    q, v = (g.node("Transpose", x, perm=(0, 2, 1, 3)) for x in (q, v))
    k = g.node("Transpose", k, perm=(0, 2, 3, 1))
    s = g.node("MatMul", g.node("Mul", q, g.constant(line.attributes["scale"], dtype)), k)
    if line.attributes["is_causal"]:
        s = g.node("Where", g.constant(np.tri(length, keys), "bool"), s, least)
    if mask and g.value(line.inputs[3]).dtype == "bool":
        s = g.node("Where", mask, s, least)
    elif mask:
        s = g.node("Add", s, mask)
    p = g.node("Softmax", s)
    if mask or (line.attributes["is_causal"] and length > keys):
        top = g.node("ReduceMax", s, g.constant([-1]), keepdims=1)
        p = g.node("Where", g.node("Equal", top, least), zero, p)
    return str(g.node("Transpose", g.node("MatMul", p, v), perm=(0, 2, 1, 3)))


def _recurrent(g: _Graph, line: Line, x: str, w: str, h: str, last: str = "") -> str:
    """Time by time: ONNX's own nodes take the layer's input, and the list has its products."""
    times, kind, c = g.value(line.inputs[0]).shape[0], line.op, last
    weight = g.node("Transpose", w, perm=[1, 0])
    axis, numbers = g.constant([0]), range(times)
    hs, cs = [""] * times, [""] * times

    def parts(x: str, count: int) -> list[str]:
        made = g.node("Split", x, outputs=count, axis=-1, num_outputs=count)
        return [made] if count == 1 else made

    for t in reversed(numbers) if line.attributes["reverse"] else numbers:
        xt = g.node("Gather", x, g.constant(t), axis=0)
        p = g.node("MatMul", h, weight)
        if kind == "gru":
            (xr, xz, xn), (pr, pz, pn) = parts(xt, 3), parts(p, 3)
            r, z = (g.node("Sigmoid", g.node("Add", a, b)) for a, b in ((xr, pr), (xz, pz)))
            n = g.node("Tanh", g.node("Add", xn, g.node("Mul", r, g.node("Add", pn, last))))
            h = g.node("Add", n, g.node("Mul", z, g.node("Sub", h, n)))
        elif kind == "lstm":
            i, f, u, o = parts(g.node("Add", xt, p), 4)
            i, f, o = (g.node("Sigmoid", gate) for gate in (i, f, o))
            c = g.node("Add", g.node("Mul", f, c), g.node("Mul", i, g.node("Tanh", u)))
            h = g.node("Mul", o, g.node("Tanh", c))
            cs[t] = g.node("Unsqueeze", c, axis)
        else:
            h = g.node("Tanh" if kind == "rnn_tanh" else "Relu", g.node("Add", xt, p))
        hs[t] = g.node("Unsqueeze", h, axis)
    y = str(g.node("Concat", *hs, axis=0))
    if kind != "lstm":
        return y
    both = (g.node("Unsqueeze", made, axis) for made in (y, g.node("Concat", *cs, axis=0)))
    return str(g.node("Concat", *both, axis=0))


_FORMS |= dict.fromkeys(("rnn_tanh", "rnn_relu", "lstm", "gru"), _recurrent)
