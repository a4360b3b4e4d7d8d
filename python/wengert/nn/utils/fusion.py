"""Batch norms folded into the layer before them: in evaluation a norm is y = x * scale + shift for
each channel, which the layer's weight and bias can do. Names but that of fold_batch_norms are
PyTorch's."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from ... import _core
from ..._core import Tensor
from ..._trees import tensors_of
from ...autograd import no_grad
from ..convolution import _Conv, _Convolution
from ..layers import Identity, Linear
from ..module import Module, Parameter
from ..norms import _BatchNorm

__all__ = [
    "fold_batch_norms",
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
]

_M = TypeVar("_M", bound=Module)
_L = TypeVar("_L", bound=Module)


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
    groups: int = 1,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a convolution that does what one and then a batch norm of this running
    mean and variance, weight and bias did. Computed in float64, and rounded once.

    transpose  conv_w is (in, out / groups, kernel ...), as that of a transposed convolution
    """
    mean, var = bn_rm.to("float64"), bn_rv.to("float64")
    scale = 1 / (var + bn_eps).sqrt()
    scale = scale if bn_w is None else scale * bn_w.to("float64")
    shift = (0.0 if conv_b is None else conv_b.to("float64")) - mean
    shift = shift * scale if bn_b is None else shift * scale + bn_b.to("float64")
    wide = conv_w.to("float64")
    if transpose:  # each group of inputs has outputs of its own
        n, _, *kernel = wide.shape
        each = wide.reshape(groups, n // groups, -1, *kernel)
        wide = (each * scale.reshape(groups, 1, -1, *(1,) * len(kernel))).reshape(conv_w.shape)
    else:
        wide = wide * scale.reshape(-1, *(1,) * (wide.ndim - 1))
    return (
        Parameter(wide.detach().to(conv_w.dtype), requires_grad=conv_w.requires_grad),
        Parameter(shift.detach().to(conv_w.dtype)),
    )


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:
    """As fuse_conv_bn_weights, of a Linear."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def _fused(op: str, layer: _L, bn: Module, transpose: bool = False) -> _L:
    if not isinstance(bn, _BatchNorm):
        raise TypeError(f"{op}: bn is a {type(bn).__name__}; expected a BatchNorm")
    if layer.training or bn.training:
        raise ValueError(
            f"{op}: a norm in training mode has other values in each batch; eval() first"
        )
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError(f"{op}: bn has no running statistics (track_running_stats=False)")
    if not isinstance(vars(layer).get("weight"), Parameter):
        raise ValueError(f"{op}: the layer's weight is computed; remove what computes it first")
    made = copy.deepcopy(layer)
    outputs = getattr(layer, "out_channels" if isinstance(layer, _Convolution) else "out_features")
    if outputs != bn.num_features:
        raise _core.ShapeError(f"{op}: {outputs} channels, and a norm of {bn.num_features}")
    own: Any = layer
    weight, bias = fuse_conv_bn_weights(
        own.weight, own.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias,
        transpose, getattr(layer, "groups", 1),
    )  # fmt: skip
    setattr(made, "weight", weight)  # noqa: B010 - mypy
    setattr(made, "bias", bias)  # noqa: B010
    return made


def fuse_conv_bn_eval(conv: _M, bn: Module, transpose: bool = False) -> _M:
    """A copy of a convolution that does what conv and then bn do, both in evaluation mode.

        fused = nn.utils.fuse_conv_bn_eval(model.conv1, model.bn1)

    transpose  conv is a transposed convolution
    Raises ValueError in training mode and without running statistics, ShapeError for another number
    of channels.
    """
    op = "fuse_conv_bn_eval"
    if not isinstance(conv, _Convolution) or isinstance(conv, _Conv) is transpose:
        kind = "transposed convolution" if transpose else "convolution"
        raise TypeError(f"{op}: conv is a {type(conv).__name__}; expected a {kind}")
    return _fused(op, conv, bn, transpose)


def fuse_linear_bn_eval(linear: _M, bn: Module) -> _M:
    """A copy of a Linear that does what linear and then bn do, both in evaluation mode."""
    op = "fuse_linear_bn_eval"
    if not isinstance(linear, Linear):
        raise TypeError(f"{op}: linear is a {type(linear).__name__}; expected a Linear")
    return _fused(op, linear, bn)


def fold_batch_norms(model: _M, *args: Any, **kwargs: Any) -> _M:
    """A copy of a model, in evaluation mode, with each batch norm folded into the convolution or
    Linear that alone it follows; an Identity is in its place.

        fast = nn.utils.fold_batch_norms(model, images)

    args, kwargs  of a call of the model, whose forward may be any Python: which layers follow each
                  other is seen in calls. A pair is folded where each ran once, and where the answer
                  is the same, bit for bit, when only the norm gets to see the layer's output.
    """
    made = copy.deepcopy(model).eval()
    layers = {m for m in made.modules() if isinstance(m, (_Convolution, Linear))}
    norms = {m for m in made.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}
    outputs: list[tuple[Module, Tensor]] = []
    inputs: list[tuple[Module, Tensor]] = []
    handles = [m.register_forward_hook(lambda m, _, y: outputs.append((m, y))) for m in layers] + [
        m.register_forward_pre_hook(lambda m, x: inputs.append((m, x[0]))) for m in norms
    ]
    with no_grad():
        expected = tensors_of(made(*args, **kwargs))
        if not expected:
            raise TypeError("fold_batch_norms: the model gives no tensors to compare")
        for handle in handles:
            handle.remove()
        once = [m for m, _ in (*outputs, *inputs)]
        pairs = [
            (layer, norm)
            for norm, x in inputs
            for layer, y in outputs
            if y is x and once.count(layer) == once.count(norm) == 1 and _fit(layer, norm, x)
        ]
        if not _alone(made, pairs, expected, args, kwargs):
            pairs = [pair for pair in pairs if _alone(made, [pair], expected, args, kwargs)]
        for layer, norm in pairs:
            transposed = isinstance(layer, _Convolution) and not isinstance(layer, _Conv)
            fused = _fused("fold_batch_norms", layer, norm, transposed)
            for parent in list(made.modules()):
                for name, child in list(parent.named_children()):
                    if child is layer or child is norm:
                        setattr(parent, name, fused if child is layer else Identity().eval())
    return made


def _fit(layer: Module, norm: Module, x: Tensor) -> bool:
    """Whether the norm's channels are the layer's, which has a weight of its own."""
    if not isinstance(vars(layer).get("weight"), Parameter):
        return False
    return x.ndim == (layer.axes + 2 if isinstance(layer, _Convolution) else 2)


def _alone(model: Module, pairs: list[Any], expected: list[Tensor], args: Any, kwargs: Any) -> bool:
    """Whether the model's answer stays when all but the norms see other numbers in place of the
    layers' outputs."""
    shown: list[tuple[Tensor, Tensor]] = []

    def hide(_: Module, __: Any, y: Tensor) -> Tensor:
        other: Tensor = 3 - 2 * y.flip(list(range(y.ndim)))
        shown.append((other, y))
        return other

    def show(_: Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (next((y for other, y in shown if other is given[0]), given[0]), *given[1:])

    handles = [layer.register_forward_hook(hide) for layer, _ in pairs]
    handles += [norm.register_forward_pre_hook(show) for _, norm in pairs]
    found = tensors_of(model(*args, **kwargs))
    for handle in handles:
        handle.remove()
    return len(found) == len(expected) and all(
        a.shape == b.shape and bool((a == b).all().item())
        for a, b in zip(found, expected, strict=True)
    )
