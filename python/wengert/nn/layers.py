"""Layers: Linear, the activations, Dropout, MLP.

Names and defaults are PyTorch's; `axis` is NumPy's word for its `dim`.
"""

# ruff: noqa: D102, D107 - a layer's formula and arguments are explained at its class

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

from .. import _core, _explained, activations, functional
from .._calls import choice
from .._core import ShapeError, Tensor
from ..random import Generator
from . import functional as nn_functional
from . import init
from .containers import Sequential
from .module import Module, Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "MLP",
    "SELU",
    "AlphaDropout",
    "Bilinear",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Embedding",
    "Flatten",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class Linear(Module):
    """y = x @ W.T + b over the last axis: (..., in_features) to (..., out_features).

    weight (out_features, in_features) and bias (out_features,) start from
    U(-1/sqrt(in_features), 1/sqrt(in_features)), as in PyTorch.

    >>> layer = nn.Linear(3, 2)
    >>> layer(wg.ones((5, 3))).shape, layer.weight.shape
    ((5, 2), (2, 3))
    """

    _error_name = "linear"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Linear: {name} is {value!r}; it must be an int")
            if value < 1:
                raise ValueError(f"Linear: {name} is {value}; it must be at least 1")
        self.in_features, self.out_features = in_features, out_features
        bound = 1.0 / math.sqrt(in_features)
        weight = _core.empty((out_features, in_features), dtype)
        if not weight.dtype.is_floating_point:
            raise _core.DTypeError(
                f"Linear: dtype is {weight.dtype.name}; it must be float32 or float64"
            )
        self.weight = Parameter(init.uniform_(weight, -bound, bound, generator))
        self.bias: Parameter | None = None
        if bias:
            start = _core.empty((out_features,), dtype)
            self.bias = Parameter(init.uniform_(start, -bound, bound, generator))

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(
                f"linear: input is {type(x).__name__}, not a wengert.Tensor; "
                "convert it with wengert.tensor(x)"
            )
        return _core.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        return text if self.bias is not None else text + ", bias=False"


class Embedding(Module):
    """Rows of `weight` (num_embeddings, embedding_dim), from N(0, 1), by integer ids of any shape:
    (...) to (..., embedding_dim). The row padding_idx starts as zeros and gets no gradient.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx
        weight = init.normal_(_core.empty((num_embeddings, embedding_dim), dtype), 0, 1, generator)
        if padding_idx is not None:
            weight[padding_idx] = 0.0
        self.weight = Parameter(weight)

    def forward(self, ids: Tensor) -> Tensor:
        return _core.embedding(ids, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"


class _KeepsShape(Module):
    """Layers whose output has the shape of their input."""

    _keeps_shape = True


class Identity(_KeepsShape):
    """y = x"""

    def forward(self, x: Tensor) -> Tensor:
        return x


class ReLU(_KeepsShape):
    """y = max(x, 0)"""

    def forward(self, x: Tensor) -> Tensor:
        return _core.relu(x)


class LeakyReLU(_KeepsShape):
    """y = x where x > 0, else negative_slope * x"""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return _core.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(_KeepsShape):
    """y = x where x > 0, else alpha * (exp(x) - 1)"""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return _core.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(_KeepsShape):
    """y = x * Phi(x), with Phi by erf ("none") or by the tanh approximation ("tanh")."""

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        choice("GELU", "approximate", approximate, ("none", "tanh"))
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return _core.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return "" if self.approximate == "none" else f"approximate={self.approximate!r}"


class SiLU(_KeepsShape):
    """y = x * sigmoid(x)"""

    def forward(self, x: Tensor) -> Tensor:
        return _core.silu(x)


class Sigmoid(_KeepsShape):
    """y = 1 / (1 + exp(-x))"""

    def forward(self, x: Tensor) -> Tensor:
        return _core.sigmoid(x)


class Tanh(_KeepsShape):
    """y = tanh(x)"""

    def forward(self, x: Tensor) -> Tensor:
        return _core.tanh(x)


class Softplus(_KeepsShape):
    """y = log(1 + exp(beta * x)) / beta; x itself where beta * x is above a threshold below 20"""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Tensor) -> Tensor:
        return nn_functional.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        changed = (self.beta, self.threshold) != (1.0, 20.0)
        return f"beta={self.beta}, threshold={self.threshold}" if changed else ""


class Hardtanh(_KeepsShape):
    """y = x within [min_val, max_val]"""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val, self.max_val = min_val, max_val

    def forward(self, x: Tensor) -> Tensor:
        return _core.hardtanh(x, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Mish(_KeepsShape):
    """y = x * tanh(log(1 + exp(x)))"""

    def forward(self, x: Tensor) -> Tensor:
        return _core.mish(x)


class ReLU6(_KeepsShape):
    """y = x within [0, 6]"""

    def forward(self, x: Tensor) -> Tensor:
        return activations.relu6(x)


class Hardsigmoid(_KeepsShape):
    """y = (x + 3) / 6 within [0, 1]"""

    def forward(self, x: Tensor) -> Tensor:
        return activations.hardsigmoid(x)


class Hardswish(_KeepsShape):
    """y = x * hardsigmoid(x)"""

    def forward(self, x: Tensor) -> Tensor:
        return _core.hardswish(x)


class SELU(_KeepsShape):
    """y = 1.0507 * elu(x, 1.6733)"""

    def forward(self, x: Tensor) -> Tensor:
        return activations.selu(x)


class Softsign(_KeepsShape):
    """y = x / (1 + |x|)"""

    def forward(self, x: Tensor) -> Tensor:
        return activations.softsign(x)


class LogSigmoid(_KeepsShape):
    """y = log(sigmoid(x))"""

    def forward(self, x: Tensor) -> Tensor:
        return activations.logsigmoid(x)


class Tanhshrink(_KeepsShape):
    """y = x - tanh(x)"""

    def forward(self, x: Tensor) -> Tensor:
        return activations.tanhshrink(x)


class CELU(_KeepsShape):
    """y = x where x > 0, else alpha * (exp(x / alpha) - 1)"""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return activations.celu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Hardshrink(_KeepsShape):
    """y = x where |x| > lambd, else 0"""

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        return activations.hardshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}"


class Softshrink(_KeepsShape):
    """y = x without what lies within [-lambd, lambd]"""

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        return activations.softshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}"


class Softmin(_KeepsShape):
    """y = exp(-x) / sum(exp(-x)) along axis"""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return activations.softmin(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class GLU(Module):
    """y = a * sigmoid(b), the halves of x along axis"""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return activations.glu(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class Threshold(_KeepsShape):
    """y = x where x > threshold, else value"""

    def __init__(self, threshold: float, value: float) -> None:
        self.threshold, self.value = threshold, value

    def forward(self, x: Tensor) -> Tensor:
        return activations.threshold(x, self.threshold, self.value)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}"


class PReLU(_KeepsShape):
    """y = x where x > 0, else weight * x: a weight for all, or for each channel, on axis 1.

    weight (num_parameters,) starts as `init`. arXiv 1502.01852.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = None) -> None:
        self.num_parameters = num_parameters
        self.weight = Parameter(_core.full((num_parameters,), float(init), dtype))

    def forward(self, x: Tensor) -> Tensor:
        return activations.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Softmax(_KeepsShape):
    """y = exp(x) / sum(exp(x)) along axis"""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return _core.softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class Softmax2d(_KeepsShape):
    """softmax over the channels of x (n, channels, height, width)"""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in (3, 4):
            raise ShapeError(
                f"Softmax2d: x has shape {x.shape}; expected (n, channels, height, width)"
            )
        return _core.softmax(x, -3)


class LogSoftmax(_KeepsShape):
    """y = x - log(sum(exp(x))) along axis"""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return _core.log_softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class Dropout(_KeepsShape):
    """In training, zeroes each element with probability p and scales the others by 1/(1-p); in
    evaluation, y = x.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to
    prevent neural networks from overfitting", JMLR 15, 2014 (scaled while training instead).
    """

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: p is {p}; it is a probability, from 0 to 1")
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _FeatureDropout(Dropout):
    function: ClassVar[Callable[..., Tensor]]

    def forward(self, x: Tensor) -> Tensor:
        return type(self).function(x, self.p, self.training, self.generator)


class Dropout1d(_FeatureDropout):
    """Dropout of whole channels of x (n, channels, length)."""

    function = nn_functional.dropout1d


class Dropout2d(_FeatureDropout):
    """Dropout of whole channels of x (n, channels, height, width). arXiv 1411.4280."""

    function = nn_functional.dropout2d


class Dropout3d(_FeatureDropout):
    """Dropout of whole channels of x (n, channels, depth, height, width)."""

    function = nn_functional.dropout3d


class AlphaDropout(_FeatureDropout):
    """Dropout that keeps mean 0 and variance 1 in networks of SELU. arXiv 1706.02515."""

    function = nn_functional.alpha_dropout


class Bilinear(Module):
    """y_k = x1 · W_k · x2 + b_k: (..., in1_features) and (..., in2_features) to
    (..., out_features). weight (out, in1, in2) and bias start uniform within 1 / sqrt(in1)."""

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        sizes = (out_features, in1_features, in2_features)
        if min(sizes) < 1:
            raise ValueError(f"Bilinear: sizes are {sizes}; expected 1 or more")
        bound = in1_features**-0.5
        weight = init.uniform_(_core.empty(sizes, dtype), -bound, bound, generator)
        self.weight = Parameter(weight)
        self.bias = None
        if bias:
            shift = init.uniform_(_core.empty((out_features,), dtype), -bound, bound, generator)
            self.bias = Parameter(shift)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return nn_functional.bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        out, one, two = self.weight.shape
        text = f"in1_features={one}, in2_features={two}, out_features={out}"
        return text if self.bias is not None else text + ", bias=False"


class Flatten(Module):
    """Axes start to end become one: (N, 28, 28) to (N, 784)."""

    def __init__(self, start: int = 1, end: int = -1) -> None:
        self.start, self.end = start, end

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.start, self.end)

    def extra_repr(self) -> str:
        return "" if (self.start, self.end) == (1, -1) else f"start={self.start}, end={self.end}"


class MLP(Sequential):
    """Linear layers of the given sizes, with an activation after all but the last, and dropout
    after each activation: MLP([784, 256, 10]) is Linear, ReLU, Linear.

    activation, output_activation: a name of MLP.activations, or None for none.
    """

    activations: ClassVar[dict[str, Callable[[], Module]]] = {
        "relu": ReLU,
        "leaky_relu": LeakyReLU,
        "elu": ELU,
        "gelu": GELU,
        "silu": SiLU,
        "mish": Mish,
        "hardswish": Hardswish,
        "selu": SELU,
        "relu6": ReLU6,
        "sigmoid": Sigmoid,
        "tanh": Tanh,
        "softplus": Softplus,
        "softmax": Softmax,
        "log_softmax": LogSoftmax,
        "identity": Identity,
    }

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | None = "relu",
        output_activation: str | None = None,
        dropout: float = 0.0,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        if isinstance(sizes, int):
            raise TypeError(f"MLP: sizes is {sizes}; give all of them as one list: MLP([2, 8, 1])")
        sizes = list(sizes)
        if len(sizes) < 2:
            raise ValueError(
                f"MLP: sizes is {sizes}; it needs two or more: inputs, hidden layers, outputs"
            )
        for argument, name in (
            ("activation", activation),
            ("output_activation", output_activation),
        ):
            if name is not None:
                choice("MLP", argument, name, self.activations)
        layers: list[Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(sizes)):
            layers.append(Linear(inputs, outputs, dtype=dtype, generator=generator))
            hidden = i < len(sizes) - 2
            name = activation if hidden else output_activation
            if name is not None:
                layers.append(self.activations[name]())
            if hidden and dropout != 0.0:
                layers.append(Dropout(dropout, generator))
        super().__init__(*layers)


_explained.explain_all(globals())
