"""wengert.summary(model, *inputs): what each layer of a model costs, for inference and for
training.

The model runs once, and every call of a module inside it is noted with its arguments. Each call is
then repeated by itself: traced (FLOPs of the forward pass; of forward and backward pass together),
and watched (bytes). So the figures are those of the engine's own lines, not of a formula for each
kind of layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import _core, _explained, _shown
from .._core import Tensor
from .._trees import map_tensors, tensors_of
from ..autograd import enable_grad, no_grad
from .module import _SUMMARIES, Module, kept_modes

__all__ = ["LayerCost", "Summary", "summary"]


class LayerCost(NamedTuple):
    """One call of a module, everything inside it included.

    flops             additions and multiplications of the forward pass; exp and its kind are one
    training_flops    of the forward and the backward pass
    bytes             of memory that the forward pass takes at its peak, parameters and inputs aside
    training_bytes    of memory that the backward pass finds: what the forward pass kept for it,
                      and the output
    """

    path: str
    kind: str
    output_shape: Any
    parameters: int
    flops: float
    training_flops: float
    bytes: int
    training_bytes: int


class Summary:
    """`layers` in the order of their calls, each before what it calls; str() is the table."""

    def __init__(self, layers: list[LayerCost]) -> None:
        """The first layer is the whole model."""
        self.layers = layers

    @property
    def total(self) -> LayerCost:
        """The model as a whole."""
        return self.layers[0]

    def __repr__(self) -> str:
        """As str()."""
        return str(self)

    def __str__(self) -> str:
        """A table with a row for each layer."""
        head = ("layer", "output", "parameters", "FLOPs", "bytes", "FLOPs", "bytes kept")
        rows = self._rows()
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        inference, training = (sum(widths[a : a + 2]) + 2 for a in (3, 5))
        above = " " * (sum(widths[:3]) + 6)
        above += f"{'inference':>{inference}}  {'training':>{training}}"

        def line(row: tuple[str, ...]) -> str:
            cells = [
                f"{c:<{w}}" if i < 2 else f"{c:>{w}}"
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        return "\n".join([above, line(head), *(line(row) for row in rows)])

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for layer in self.layers:
            depth = layer.path.count(".") + 1 if layer.path else 0
            rows.append(
                (
                    "  " * depth + f"{layer.path.rpartition('.')[2]} {layer.kind}".strip(),
                    _shape(layer.output_shape),
                    f"{layer.parameters:,}",
                    *(_short(n) for n in (layer.flops, layer.bytes)),
                    *(_short(n) for n in (layer.training_flops, layer.training_bytes)),
                )
            )
        return rows

    def _table(self) -> str:
        head = ("layer", "output", "parameters", "FLOPs", "bytes")
        return _shown.table((*head, "training FLOPs", "bytes kept"), self._rows(), left=2)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return _shown.block(f"{self.total.kind}, layer by layer", self._table())


def _short(value: float) -> str:
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f}  "


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shape(v) for v in value)
    return str(value)


def _leaf(x: Tensor) -> Tensor:
    leaf = x.detach()
    leaf.requires_grad = x.requires_grad
    return leaf


def summary(model: Module, *inputs: Any, **more: Any) -> Summary:
    """What each layer of model(*inputs, **more) costs, in evaluation mode and in training mode.

    Runs the model, and each of its layers alone, a few times; nothing of it is changed but what a
    forward pass in training changes (random states).
    """
    if not isinstance(model, Module):
        raise TypeError(
            f"summary: got {type(model).__name__}; expected an nn.Module and its inputs"
        )
    names = {id(module): name for name, module in model.named_modules()}
    calls: list[tuple[Module, Any, Any]] = []
    plain_call = Module.__call__

    def noted(self: Module, *args: Any, **kwargs: Any) -> Any:
        if id(self) in names:
            calls.append((self, args, kwargs))
        return plain_call(self, *args, **kwargs)

    with kept_modes(model):
        model.train()
        Module.__call__ = noted  # type: ignore[method-assign]
        try:
            with enable_grad():
                model(*inputs, **more)
        finally:
            Module.__call__ = plain_call  # type: ignore[method-assign]
        layers = [_cost(names[id(module)], module, *call) for module, *call in calls]
    made = _SUMMARIES[model] = Summary(layers)
    return made


def _cost(path: str, module: Module, args: Any, kwargs: Any) -> LayerCost:
    module.eval()
    with no_grad():
        _core.reset_memory_peak()
        before = _core.memory_allocated()
        outputs = tensors_of(module(*args, **kwargs))
        used = _core.memory_peak() - before
        shapes: Any = [y.shape for y in outputs]
        del outputs
        flops = _flops(lambda: module(*args, **kwargs))
    module.train()
    with enable_grad():
        args, kwargs = map_tensors(_leaf, (args, kwargs))
        before = _core.memory_allocated()
        outputs = tensors_of(module(*args, **kwargs))
        kept = _core.memory_allocated() - before
        ones = [_core.ones_like(y) for y in outputs if y.requires_grad]
        del outputs
        given = [x for x in tensors_of((args, kwargs)) if x.requires_grad]
        leaves = given + [p for p in module.parameters() if p.requires_grad]

        def step() -> None:
            made = [y for y in tensors_of(module(*args, **kwargs)) if y.requires_grad]
            if made and leaves:
                _core.grad(made, leaves, ones, allow_unused=True)

        training_flops = _flops(step)
    return LayerCost(
        path,
        type(module).__name__,
        shapes[0] if len(shapes) == 1 else shapes,
        sum(p.numel() for p in module.parameters()),
        flops,
        training_flops,
        used,
        kept,
    )


def _flops(run: Any) -> float:
    program = _core._Program([])
    program.begin()
    try:
        run()
    finally:
        program.end()
    program.finish([])
    return float(sum(line["flops"] for line in program.lines(False)))


_explained.explain_all(globals())
