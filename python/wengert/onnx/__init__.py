"""Networks from ONNX files (pip install onnx).

    model = wengert.onnx.load("net.onnx")    # a Module; its parameters are the file's weights
    y = model(x)                             # in the order of the graph's inputs and outputs

A node is a function of ops.py over tensors, so a loaded network is trained, studied and compiled as
any other. Nodes of constants, such as those that compute shapes, run in NumPy once more for each
call, through onnx's own reference.
"""

from __future__ import annotations

from collections.abc import Sequence
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

from . import ops
from .ops import UnsupportedError

__all__ = ["Backend", "Network", "UnsupportedError", "load"]

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


class Network(Module):
    """What load() makes: a call runs the graph's nodes in order.

    Floating initialisers are parameters, by their names with "_" for "." and "/"; others are
    constants.
    """

    def __init__(self, model: Any) -> None:
        """The network of an onnx.ModelProto."""
        self._graph = model.graph
        self._opset = {d.domain or "": d.version for d in model.opset_import}
        self._functions = {(f.domain, f.name): f for f in model.functions}
        self._constants: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        check(self._graph.node, self._functions)
        for given in self._graph.initializer:
            value = numpy_helper.to_array(given)
            if value.dtype in (np.float32, np.float64):
                name = given.name.replace("/", ".").replace(".", "_").strip("_") or "weight"
                while hasattr(self, name):
                    name += "_"
                setattr(self, name, Parameter(_core.tensor(value)))
                self._names[given.name] = name
            else:
                self._constants[given.name] = value
        initial = {given.name for given in self._graph.initializer}
        self.inputs = [i.name for i in self._graph.input if i.name not in initial]
        self.outputs = [o.name for o in self._graph.output]

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
        scope = _Scope()
        scope.values.update(self._constants)
        scope.values.update({name: getattr(self, own) for name, own in self._names.items()})
        scope.values.update(zip(self.inputs, map(_given, inputs), strict=True))
        self._run(self._graph.node, scope)
        return [_tensor(scope[name]) for name in self.outputs]

    def _run(self, nodes: Any, scope: _Scope) -> None:
        for node in nodes:
            given = [scope[name] for name in node.input]
            try:
                made = self._call(node, given, scope)
            except UnsupportedError:
                raise
            except (_core.ShapeError, _core.DTypeError, IndexError, ValueError, TypeError) as error:
                name = node.name or (node.output[0] if node.output else "")
                raise type(error)(f"onnx: node '{name}' ({node.op_type}): {error}") from error
            scope.values.update(zip(node.output, made, strict=False))

    def _call(self, node: Any, given: list[Any], scope: _Scope) -> Sequence[Any]:
        attributes = {a.name: _attribute(a) for a in node.attribute}
        key = (node.domain, node.op_type)
        if key in self._functions:
            return self._function(self._functions[key], given, attributes)
        if node.op_type in ("If", "Loop", "Scan"):
            return getattr(self, f"_{node.op_type.lower()}")(given, attributes, scope, node)  # type: ignore[no-any-return]
        if given and all(v is None or isinstance(v, np.ndarray) for v in given):
            return _reference(node, given, self._opset.get(node.domain, 1))
        version = self._opset.get("", 1)
        made = ops.TABLE[node.op_type](
            ops.Call(version, len(node.output)), *map(_tensor, given), **attributes
        )
        return made if isinstance(made, tuple) else (made,)

    def _function(self, function: Any, given: list[Any], attributes: dict[str, Any]) -> list[Any]:
        scope = _Scope()
        scope.values.update(zip(function.input, given, strict=False))
        scope.values.update({name: None for name in list(function.input)[len(given) :]})
        default = {a.name: _attribute(a) for a in function.attribute_proto}
        own = {**default, **attributes}
        nodes = [_bound(node, own) for node in function.node]
        opset, self._opset = self._opset, {d.domain: d.version for d in function.opset_import}
        try:
            self._run(nodes, scope)
        finally:
            self._opset = opset
        return [scope[name] for name in function.output]

    # ---- control flow

    def _subgraph(self, graph: Any, scope: _Scope, given: Sequence[Any] = ()) -> list[Any]:
        inner = _Scope(scope)
        inner.values.update({t.name: numpy_helper.to_array(t) for t in graph.initializer})
        inner.values.update(zip((i.name for i in graph.input), given, strict=False))
        self._run(graph.node, inner)
        return [inner[o.name] for o in graph.output]

    def _if(self, given: Any, attributes: dict[str, Any], scope: _Scope, node: Any) -> Any:
        chosen = "then_branch" if bool(given[0].item()) else "else_branch"
        return self._subgraph(attributes[chosen], scope)

    def _loop(self, given: Any, attributes: dict[str, Any], scope: _Scope, node: Any) -> Any:
        most, going, *state = given
        scanned: list[list[Any]] = [[] for _ in range(len(node.output) - len(state))]
        goes = going is None or bool(going.item())
        at = 0
        while goes and (most is None or at < int(most.item())):
            count = np.asarray(at, np.int64)
            goes_on, *found = self._subgraph(attributes["body"], scope, [count, going, *state])
            going, goes = goes_on, bool(goes_on.item())
            state, rest = found[: len(state)], found[len(state) :]
            for into, value in zip(scanned, rest, strict=True):
                into.append(_tensor(value))
            at += 1
        stacked = [_core.stack(s) if s else _core.zeros((0,)) for s in scanned]
        return [*state, *stacked]

    def _scan(self, given: Any, attributes: dict[str, Any], scope: _Scope, node: Any) -> Any:
        if self._opset.get("", 1) < 9:
            raise UnsupportedError("onnx: Scan of opset 8; convert the file to opset 9 or later")
        count = attributes["num_scan_inputs"]
        state, scanned = list(given[: len(given) - count]), given[len(given) - count :]
        axes = attributes.get("scan_input_axes", [0] * count)
        back = attributes.get("scan_input_directions", [0] * count)
        parts = [
            list(_tensor(x).unbind(a))[:: -1 if b else 1]
            for x, a, b in zip(scanned, axes, back, strict=True)
        ]
        outs: list[list[Any]] = [[] for _ in range(len(node.output) - len(state))]
        for step in zip(*parts, strict=True):
            found = self._subgraph(attributes["body"], scope, [*state, *step])
            state = found[: len(state)]
            for into, value in zip(outs, found[len(state) :], strict=True):
                into.append(_tensor(value))
        axes = attributes.get("scan_output_axes", [0] * len(outs))
        back = attributes.get("scan_output_directions", [0] * len(outs))
        joined = [
            _core.stack(o[:: -1 if b else 1], a) for o, a, b in zip(outs, axes, back, strict=True)
        ]
        return [*state, *joined]


def check(nodes: Any, functions: Any = ()) -> None:
    """Raises UnsupportedError for the first node that has no function here."""
    for node in nodes:
        known = node.op_type in ops.TABLE or node.op_type in ("If", "Loop", "Scan")
        if (node.domain, node.op_type) not in functions and not (known and node.domain in _DOMAINS):
            name = node.name or (node.output[0] if node.output else "")
            domain = f"{node.domain}." if node.domain not in _DOMAINS else ""
            raise UnsupportedError(
                f"onnx: node '{name}' is a {domain}{node.op_type}: there is no such op here"
            )
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                check(a.g.node, functions)


def _bound(node: Any, attributes: dict[str, Any]) -> Any:
    """A node of a function, with the attributes that it takes from the call."""
    if not any(a.ref_attr_name for a in node.attribute):
        return node
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    for a in node.attribute:
        if not a.ref_attr_name:
            made.attribute.append(a)
        elif (value := attributes.get(a.ref_attr_name)) is not None:
            made.attribute.append(helper.make_attribute(a.name, value))
    return made


def _attribute(a: Any) -> Any:
    value = helper.get_attribute_value(a)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [v.decode() for v in value]
    if a.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    return value


def _reference(node: Any, given: list[Any], version: int) -> Sequence[Any]:
    """A node of constants, by onnx's reference implementation in NumPy."""
    from onnx.reference import ReferenceEvaluator

    names = [f"i{n}" if v is not None else "" for n, v in enumerate(given)]
    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    del alone.input[:]
    alone.input.extend(names)
    known = {n: v for n, v in zip(names, given, strict=True) if n}
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in known.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([alone], "one", inputs, outputs)
    opset = [helper.make_opsetid(node.domain, version)]
    found = ReferenceEvaluator(helper.make_model(graph, opset_imports=opset)).run(None, known)
    made = iter(found)
    return [np.asarray(next(made)) if name else None for name in node.output]


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
            check(model.graph.node, {(f.domain, f.name) for f in model.functions})
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
