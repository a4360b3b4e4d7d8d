"""Networks from and to ONNX files (pip install onnx).

    model = wengert.onnx.load("net.onnx")    # a Module; its parameters are the file's weights
    y = model(x)                             # in the order of the graph's inputs and outputs
    wengert.onnx.export(model, x, "copy.onnx")

A node is a function of ops.py over tensors, so a loaded network is trained, studied and compiled as
any other. Nodes of constants, such as those that compute shapes, run in NumPy once more for each
call, through onnx's own reference.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor
from ..nn import Module, Parameter

try:
    import onnx
    from onnx import helper, numpy_helper
    from onnx.backend.base import Backend as _Base
    from onnx.backend.base import BackendRep
except ImportError as error:
    raise ImportError("wengert.onnx needs onnx: pip install onnx") from error

from . import ops, spatial  # noqa: F401 - fills the table
from .exporting import export
from .ops import UnsupportedError

__all__ = ["Backend", "Network", "UnsupportedError", "export", "load"]

# Standard domains, and the one of functions that a file brings along.
_DOMAINS = ("", "ai.onnx")


def load(path: str | Path) -> Network:
    """The network of a file; external data is read from its directory alone.

    Raises UnsupportedError for what there is no op for, with the node's name, and ValueError for a
    file that is not a valid model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"onnx.load: there is no file {path}")
    try:
        onnx.checker.check_model(str(path))
        model = onnx.load(str(path))
    except Exception as error:
        text = str(error).strip().splitlines()
        raise ValueError(
            f"onnx.load: {path} is not a valid model: {text[0] if text else error!r}"
        ) from error
    return Network(model)


class _Scope:
    """Values by name, of a graph and of those around it."""

    def __init__(self, outer: _Scope | None = None) -> None:
        self.values: dict[str, Any] = {"": None}
        self.outer = outer

    def __getitem__(self, name: str) -> Any:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        raise ValueError(f"onnx: there is no value '{name}'")


class _Node:
    """A node as it is read once: its attributes as Python has them, graphs among them as _Graph."""

    def __init__(self, proto: Any, file: _File, given: Mapping[str, Any]) -> None:
        self.proto, self.op = proto, proto.op_type
        self.name = proto.name or next(iter(proto.output), "")
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self.version = file.opset.get(proto.domain, 1)
        self.attributes: dict[str, Any] = {}
        for a in proto.attribute:
            if not a.ref_attr_name:
                self.attributes[a.name] = file.attribute(a)
            elif a.ref_attr_name in given:
                self.attributes[a.name] = given[a.ref_attr_name]
        self.body = file.function(proto.domain, proto.op_type, self.attributes)
        standard = proto.domain in _DOMAINS and (self.op in ops.TABLE or self.op in _CONTROL)
        if self.body is None and not standard:
            domain = f"{proto.domain}." if proto.domain not in _DOMAINS else ""
            raise UnsupportedError(
                f"onnx: node '{self.name}' is a {domain}{self.op}: there is no such op here"
            )
        self.evaluators: dict[tuple[Any, ...], Any] = {}

    def reads(self) -> list[str]:
        """The names that it reads, those within its graphs among them."""
        graphs = [g for g in self.attributes.values() if isinstance(g, _Graph)]
        inner = [n for g in graphs for node in g.nodes for n in node.reads()]
        return [*self.inputs, *inner, *(n for g in graphs for n in g.outputs)]

    def reference(self, given: list[Any]) -> Sequence[Any]:
        """The outputs of constants, by onnx's reference implementation in NumPy."""
        kinds = tuple(None if v is None else (v.dtype, v.ndim) for v in given)
        if kinds not in self.evaluators:
            self.evaluators[kinds] = self._evaluator(given)
        known = {f"i{n}": v for n, v in enumerate(given) if v is not None}
        made = iter(self.evaluators[kinds].run(None, known))
        found = [next(made) if name else None for name in self.outputs]
        return [_given(y) if y is None or isinstance(y, list) else np.asarray(y) for y in found]

    def _evaluator(self, given: list[Any]) -> Any:
        from onnx.reference import ReferenceEvaluator

        alone = onnx.NodeProto()
        alone.CopyFrom(self.proto)
        del alone.input[:], alone.attribute[:]
        alone.input.extend(f"i{n}" if v is not None else "" for n, v in enumerate(given))
        for name, value in self.attributes.items():
            if isinstance(value, np.ndarray):
                value = numpy_helper.from_array(value)
            alone.attribute.append(helper.make_attribute(name, value))
        inputs = [
            helper.make_tensor_value_info(
                f"i{n}", helper.np_dtype_to_tensor_dtype(v.dtype), [None] * v.ndim
            )
            for n, v in enumerate(given)
            if v is not None
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in self.outputs if name]
        graph = helper.make_graph([alone], "one", inputs, outputs)
        opset = [helper.make_opsetid(self.proto.domain, self.version)]
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=opset))


class _Graph:
    """Nodes in order, with the names of what goes in and comes out."""

    def __init__(self, nodes: list[_Node], inputs: list[str], outputs: list[str]) -> None:
        self.nodes, self.inputs, self.outputs = nodes, inputs, outputs
        self.constants: dict[str, Any] = {}


class _File:
    """What reading nodes needs of a model, or of one of its functions: opset and functions."""

    def __init__(self, opset: Any, functions: Mapping[Any, Any], within: tuple[Any, ...]) -> None:
        self.opset = {d.domain: d.version for d in opset}
        self.functions, self.within = functions, within

    def nodes(self, protos: Any, given: Mapping[str, Any]) -> list[_Node]:
        made = []
        for proto in protos:
            with _named(proto):
                made.append(_Node(proto, self, given))
        return made

    def attribute(self, a: Any) -> Any:
        if a.type == onnx.AttributeProto.GRAPH:
            inputs, outputs = ([v.name for v in values] for values in (a.g.input, a.g.output))
            graph = _Graph(self.nodes(a.g.node, {}), inputs, outputs)
            graph.constants = {t.name: _to_array(t) for t in a.g.initializer}
            return graph
        return _attribute(a)

    def function(self, domain: str, name: str, attributes: Mapping[str, Any]) -> _Graph | None:
        """The nodes of a function that the file brings along, for one call; None: it has none."""
        found = self.functions.get((domain, name))
        if found is None:
            return None
        if (domain, name) in self.within:
            raise ValueError(f"onnx: the function {name} calls itself")
        inner = _File(found.opset_import, self.functions, (*self.within, (domain, name)))
        given = {a.name: inner.attribute(a) for a in found.attribute_proto} | dict(attributes)
        return _Graph(inner.nodes(found.node, given), list(found.input), list(found.output))


class Network(Module):
    """What load() makes: a call runs the graph's nodes in order.

    Floating initialisers are parameters, by their names with "_" for "." and "/", and so are the
    values of Constant nodes with more than one element, in which some exporters keep weights;
    others are constants. `metadata` are the texts that the file says of itself, by name
    (metadata_props).
    """

    def __init__(self, model: Any) -> None:
        """The network of an onnx.ModelProto."""
        graph = model.graph
        initial = {given.name for given in graph.initializer}
        self.inputs = [i.name for i in graph.input if i.name not in initial]
        self.outputs = [o.name for o in graph.output]
        self.metadata = {p.key: p.value for p in model.metadata_props}
        functions = {(f.domain, f.name): f for f in model.functions}
        file = _File(model.opset_import, functions, ())
        kept = _kept_in_nodes(graph)
        nodes = [n for n in graph.node if not (n.output and n.output[0] in kept)]
        self._graph = _Graph(file.nodes(nodes, {}), self.inputs, self.outputs)
        self._names: dict[str, str] = {}
        for given in (*graph.initializer, *kept.values()):
            value = _to_array(given)
            if value.dtype in (np.float32, np.float64):
                name = given.name.replace("/", ".").replace(".", "_").strip("_") or "weight"
                while hasattr(self, name):
                    name += "_"
                setattr(self, name, Parameter(_core.tensor(value)))
                self._names[given.name] = name
            else:
                self._graph.constants[given.name] = value

    def forward(self, *inputs: Any) -> Any:
        """The outputs: a tensor, or a tuple of them."""
        found = self.run(inputs)
        return found[0] if len(found) == 1 else tuple(found)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs as a list; inputs are tensors, arrays, or lists of them."""
        if len(inputs) != len(self.inputs):
            raise TypeError(
                f"onnx: got {len(inputs)} inputs; expected {len(self.inputs)}: "
                f"{', '.join(self.inputs)}"
            )
        weights = _Scope()
        weights.values.update({name: getattr(self, own) for name, own in self._names.items()})
        return [_tensor(y) for y in _run(self._graph, weights, list(map(_given, inputs)))]

    def fold_batch_norms(self) -> Network:
        """A copy for inference, in which each BatchNormalization that alone reads a Conv or
        ConvTranspose is folded into its weight and bias (nn.utils.fuse_conv_bn_weights)."""
        from ..nn.utils import fuse_conv_bn_weights

        made = copy.deepcopy(self)
        graph, names = made._graph, made._names
        maker = {name: node for node in graph.nodes for name in node.outputs}
        uses = Counter([*graph.outputs, *(n for node in graph.nodes for n in node.reads())])
        for norm in [node for node in graph.nodes if node.op == "BatchNormalization"]:
            conv = maker.get(norm.inputs[0])
            if conv is None or conv.op not in ("Conv", "ConvTranspose") or conv.body or norm.body:
                continue
            own = [n for n in (*conv.inputs[1:], *norm.inputs[1:]) if n]
            plain = not norm.attributes.get("training_mode") and norm.attributes.get("spatial", 1)
            alone = all(n in names and uses[n] == 1 for n in own) and uses[norm.inputs[0]] == 1
            if not (plain and alone and sum(map(bool, norm.outputs)) == 1):
                continue
            w, b, *_ = *conv.inputs[1:], ""
            scale, shift, mean, var = (getattr(made, names[n]) for n in norm.inputs[1:5])
            weight, bias = fuse_conv_bn_weights(
                getattr(made, names[w]), getattr(made, names[b]) if b else None, mean, var,
                norm.attributes.get("epsilon", 1e-5), scale, shift,
                conv.op == "ConvTranspose", conv.attributes.get("group", 1),
            )  # fmt: skip
            setattr(made, names[w], weight)
            setattr(made, names[norm.inputs[2]], bias)  # the norm's own bias takes all of it
            for name in {b, *norm.inputs[1:]} - {"", norm.inputs[2]}:
                delattr(made, names.pop(name))
            conv.inputs = [conv.inputs[0], w, norm.inputs[2]]
            conv.outputs = norm.outputs[:1]
            maker[norm.outputs[0]] = conv
            graph.nodes.remove(norm)
        return made


def _kept_in_nodes(graph: Any) -> dict[str, Any]:
    """The weights in Constant nodes, by the nodes' outputs; what only sets sizes is none."""
    sets = {"Resize", "Upsample", "OneHot"}
    settings = {name for node in graph.node if node.op_type in sets for name in node.input}
    found = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in _DOMAINS and len(node.output) == 1:
            name = node.output[0]
            for a in node.attribute:
                real = a.t.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
                if (
                    a.name == "value"
                    and real
                    and name not in settings
                    and any(d > 1 for d in a.t.dims)
                ):
                    found[name] = onnx.TensorProto()
                    found[name].CopyFrom(a.t)
                    found[name].name = name
    return found


def _run(graph: _Graph, outer: _Scope | None, given: Sequence[Any]) -> list[Any]:
    """The outputs of a graph, which sees the values around it."""
    scope = _Scope(outer)
    scope.values.update(graph.constants)
    scope.values.update(dict.fromkeys(graph.inputs))
    scope.values.update(zip(graph.inputs, given, strict=False))
    for node in graph.nodes:
        with _named(node):
            made = _call(node, [scope[name] for name in node.inputs], scope)
        scope.values.update(zip(node.outputs, made, strict=False))
    return [scope[name] for name in graph.outputs]


@contextmanager
def _named(node: Any) -> Iterator[None]:
    """Errors of a node say which it is; those of odd types, such as ZeroDivisionError, become
    ValueError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UnsupportedError) and str(error).startswith("onnx: "):
            raise
        kinds = (UnsupportedError, _core.ShapeError, _core.DTypeError, IndexError, TypeError)
        kind = next((k for k in (*kinds, MemoryError) if isinstance(error, k)), ValueError)
        op = getattr(node, "op", "") or node.op_type
        text = str(error) if isinstance(error, kind) else repr(error)
        raise kind(f"onnx: node '{node.name}' ({op}): {text}") from error


def _call(node: _Node, given: list[Any], scope: _Scope) -> Sequence[Any]:
    if node.body is not None:
        return _run(node.body, None, given)
    if node.op in _CONTROL:
        return _CONTROL[node.op](node, given, scope)
    if given and all(v is None or isinstance(v, np.ndarray) for v in given):
        return node.reference(given)
    call = ops.Call(node.version, len(node.outputs))
    made = ops.TABLE[node.op](call, *map(_tensor, given), **node.attributes)
    return made if isinstance(made, tuple) else (made,)


# ---- control flow


def _if(node: _Node, given: list[Any], scope: _Scope) -> Sequence[Any]:
    chosen = "then_branch" if bool(given[0].item()) else "else_branch"
    return _run(node.attributes[chosen], scope, ())


def _loop(node: _Node, given: list[Any], scope: _Scope) -> Sequence[Any]:
    most, going, *state = given
    going = np.asarray(True) if going is None else going
    scanned: list[list[Any]] = [[] for _ in range(len(node.outputs) - len(state))]
    at = 0
    while bool(going.item()) and (most is None or at < int(most.item())):
        count = np.asarray(at, np.int64)
        going, *found = _run(node.attributes["body"], scope, [count, going, *state])
        state = found[: len(state)]
        for into, value in zip(scanned, found[len(state) :], strict=True):
            into.append(_tensor(value))
        at += 1
    if scanned and not at:
        raise UnsupportedError(
            f"onnx: node '{node.name}' is a Loop that ran no times, and stacks what it computes: "
            "its shape is not known"
        )
    return [*state, *map(_core.stack, scanned)]


def _scan(node: _Node, given: list[Any], scope: _Scope) -> Sequence[Any]:
    if node.version < 9:
        raise UnsupportedError("onnx: Scan of opset 8; convert the file to opset 9 or later")
    attributes = node.attributes
    count = attributes["num_scan_inputs"]
    state, scanned = list(given[: len(given) - count]), given[len(given) - count :]
    axes = attributes.get("scan_input_axes", [0] * count)
    back = attributes.get("scan_input_directions", [0] * count)
    parts = [
        list(_tensor(x).unbind(a))[:: -1 if b else 1]
        for x, a, b in zip(scanned, axes, back, strict=True)
    ]
    outs: list[list[Any]] = [[] for _ in range(len(node.outputs) - len(state))]
    for step in zip(*parts, strict=True):
        found = _run(attributes["body"], scope, [*state, *step])
        state = found[: len(state)]
        for into, value in zip(outs, found[len(state) :], strict=True):
            into.append(_tensor(value))
    axes = attributes.get("scan_output_axes", [0] * len(outs))
    back = attributes.get("scan_output_directions", [0] * len(outs))
    joined = [
        _core.stack(o[:: -1 if b else 1], a) for o, a, b in zip(outs, axes, back, strict=True)
    ]
    return [*state, *joined]


_CONTROL = {"If": _if, "Loop": _loop, "Scan": _scan}


def _attribute(a: Any) -> Any:
    value = helper.get_attribute_value(a)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [v.decode() for v in value]
    if a.type == onnx.AttributeProto.TENSOR:
        return _to_array(value)
    return value


def _to_array(t: Any) -> Any:
    try:
        return numpy_helper.to_array(t)
    except Exception as error:
        raise ValueError(f"onnx: the values of '{t.name}' are damaged: {error!r}") from error


def _given(x: Any) -> Any:
    """An input: a tensor; None where an optional one is left out."""
    if x is None or isinstance(x, Tensor):
        return x
    if isinstance(x, (list, tuple)):
        return [_given(v) for v in x]
    return _tensor(np.asarray(x))


def _tensor(x: Any) -> Any:
    if not isinstance(x, np.ndarray):
        return x
    if x.dtype.name not in ops.DTYPES.values():
        known = ", ".join(ops.DTYPES.values())
        raise UnsupportedError(f"onnx: values of {x.dtype}; there are {known} here")
    return _core.tensor(x)


class Backend(_Base):  # type: ignore[misc]
    """onnx.backend's interface, so that its tests run: Backend.prepare(model).run(inputs)."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only "CPU"."""
        return device == "CPU"

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **_: Any) -> bool:
        """Whether there is an op for each node."""
        try:
            Network(model)
        except UnsupportedError:
            return False
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **_: Any) -> Any:
        """The network, as something with run(inputs) of NumPy arrays."""
        return _Prepared(Network(model))


class _Prepared(BackendRep):  # type: ignore[misc]
    def __init__(self, network: Network) -> None:
        self.network = network

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        return tuple(_array(y) for y in self.network.run(list(inputs)))


def _array(y: Any) -> Any:
    if isinstance(y, (list, tuple)):
        return [_array(v) for v in y]
    return y.detach().numpy() if isinstance(y, Tensor) else y
