"""Initialisers: fill a tensor in place with random or constant values, and return it.

Semantics as torch.nn.init's. The fans of a tensor of shape (out, in, *kernel) are
fan_in = in * prod(kernel), fan_out = out * prod(kernel). Nothing is recorded for gradients.
`generator` is a wengert.Generator; None is the global one, seeded by wengert.manual_seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from .. import _core, _explained
from .._calls import choice
from .._core import Tensor
from ..autograd import no_grad
from ..random import Generator, rand, randn, randperm, truncated_normal

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "skip_init",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_GAINS = {
    "linear": 1.0,
    "identity": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that keeps the scale of values through a nonlinearity.

    linear, identity, sigmoid 1; tanh 5/3; relu sqrt(2); leaky_relu sqrt(2 / (1 + slope^2)) with
    slope = param (0.01); selu 3/4. ValueError for other names.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1.0 + slope * slope))
    choice("calculate_gain", "nonlinearity", nonlinearity, [*_GAINS, "leaky_relu"])
    return _GAINS[nonlinearity]


def _fans(op: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise _core.ShapeError(
            f"{op}: tensor has shape {tensor.shape}; fan-in and fan-out need two axes or more, "
            "(out, in, ...). For a bias use zeros_ or uniform_"
        )
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def _spread(scale: float, count: int) -> float:
    """sqrt(scale / count), 0 for a tensor without elements."""
    return math.sqrt(scale / count) if count > 0 else 0.0


def _finite(op: str, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{op}: {name} is {value}; it must be a finite number")


_skipping = False


@contextmanager
def skip_init() -> Iterator[None]:
    """Within it uniform_ and normal_ leave memory uninitialised: for a module whose parameters are
    all loaded at once, so that no time goes into numbers that are thrown away."""
    global _skipping
    before, _skipping = _skipping, True
    try:
        yield
    finally:
        _skipping = before


@no_grad()
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Values from the uniform distribution on [a, b)."""
    _finite("uniform_", a=a, b=b)
    if a > b:
        raise ValueError(f"uniform_: a = {a} is greater than b = {b}")
    if _skipping:
        return tensor
    values = rand(tensor.shape, tensor.dtype, generator) * (b - a) + a
    tensor.copy_(_core.where(values < b, values, a))  # what is rounded up to b
    return tensor


@no_grad()
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Values from the normal distribution N(mean, std^2)."""
    _finite("normal_", mean=mean, std=std)
    if std < 0:
        raise ValueError(f"normal_: std is {std}; it must be 0 or more")
    if _skipping:
        return tensor
    tensor.copy_(randn(tensor.shape, tensor.dtype, generator) * std + mean)
    return tensor


@no_grad()
def constant_(tensor: Tensor, value: float) -> Tensor:
    """The same value everywhere."""
    tensor.fill_(value)
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def _matrix(op: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim != 2:
        raise _core.ShapeError(f"{op}: tensor has shape {tensor.shape}; expected two axes")
    return tensor.shape[0], tensor.shape[1]


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """1 on the diagonal of a matrix, 0 elsewhere."""
    rows, columns = _matrix("eye_", tensor)
    along = _core.arange(columns, device=tensor.device)
    rows_of = _core.arange(rows, device=tensor.device).unsqueeze(1)
    tensor.copy_((rows_of == along).to(tensor.dtype))
    return tensor


@no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Values from N(mean, std^2), of those within [a, b]: see random.truncated_normal."""
    _finite("trunc_normal_", mean=mean, std=std)
    if not a < b or std < 0:
        raise ValueError(f"trunc_normal_: a is {a}, b {b}, std {std}; expected a < b, std >= 0")
    ends = [math.erf((end - mean) / (std * math.sqrt(2))) if std else math.inf for end in (a, b)]
    if (ends[1] - ends[0]) / 2 < 0.001 if std else not a <= mean <= b:
        raise ValueError(
            f"trunc_normal_: less than one of 1,000 numbers of N({mean}, {std}²) is within "
            f"[{a}, {b}]: write uniform_(tensor, a, b)"
        )
    if _skipping:
        return tensor
    if std == 0:
        return tensor.fill_(mean)  # type: ignore[no-any-return]
    shape, device = tensor.shape, tensor.device
    tensor.copy_(truncated_normal(mean, std, a, b, shape, tensor.dtype, generator, device))
    return tensor


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """gain times a random matrix (out, in · ...) whose rows, or columns where these are fewer, are
    orthogonal and of length 1: Q of the QR decomposition of normal numbers, by NumPy.

    Source: Saxe, McClelland and Ganguli 2014, arXiv 1312.6120.
    """
    import numpy as np

    _finite("orthogonal_", gain=gain)
    _fans("orthogonal_", tensor)  # two axes or more
    if _skipping or tensor.size == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    shape = (max(rows, columns), min(rows, columns))
    q, r = np.linalg.qr(randn(shape, "float64", generator).numpy())
    q = q * np.sign(np.diag(r))  # uniform over all such matrices
    values = q if rows >= columns else np.ascontiguousarray(q.T)
    tensor.copy_(_core.tensor(values * gain).reshape(tensor.shape))
    return tensor


@no_grad()
def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """N(0, std^2) in a matrix, but for a part `sparsity` of each column, at random, which is 0.

    Source: Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    """
    rows, columns = _matrix("sparse_", tensor)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: sparsity is {sparsity}; it is a part, from 0 to 1")
    normal_(tensor, 0.0, std, generator)
    for column in range(columns):
        zeros = randperm(rows, generator=generator)[: math.ceil(sparsity * rows)]
        tensor[zeros.to(tensor.device), column] = 0.0
    return tensor


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """U(-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)): equal variance forward and backward.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, equation 16.
    """
    bound = gain * _spread(6.0, sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(0, std^2) with std = gain * sqrt(2 / (fan_in + fan_out)).

    Source: Glorot and Bengio, AISTATS 2010, equation 12.
    """
    std = gain * _spread(2.0, sum(_fans("xavier_normal_", tensor)))
    return normal_(tensor, 0.0, std, generator)


Mode = Literal["fan_in", "fan_out"]


def _kaiming_std(op: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(op, tensor), strict=True))
    choice(op, "mode", mode, fans)
    return calculate_gain(nonlinearity, a) * _spread(1.0, fans[mode])


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """U(-b, b) with b = gain * sqrt(3 / fan); `a` is the slope of leaky_relu, 0 for relu.

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification", ICCV 2015, equations 10 and 14.
    """
    std = _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """N(0, std^2) with std = gain / sqrt(fan). Source: He et al., ICCV 2015, equation 10."""
    std = _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity)
    return normal_(tensor, 0.0, std, generator)


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
