"""Random numbers, counter-based: a seed gives the same numbers, whatever the threads or device.

A `Generator` holds its state in a tensor, `(seed, counter)`, which each draw advances. Functions
take one as `generator=`, or use a global one, which `manual_seed` sets.

Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". Normal numbers by
inversion: Wichura 1988, algorithm AS 241.

The other distributions are composed of these: each takes its parameters as numbers or tensors, and
a shape, or takes that of its parameters; draws in float64 as many numbers as the shape says,
whatever the values, so that a compiled step draws the same as an eager one; and has no gradient. A
parameter that cannot be is a ValueError; in a compiled step, where values cannot be looked at, the
result is NaN, or, of indices, one beyond the last.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from . import _core, _explained
from ._calls import describe
from ._core import DType, ShapeError, Tensor
from .shapes import broadcast_shapes

__all__ = [
    "Generator",
    "bernoulli",
    "beta",
    "binomial",
    "default_generator",
    "dirichlet",
    "exponential",
    "gamma",
    "geometric",
    "manual_seed",
    "multinomial",
    "normal",
    "permutation",
    "poisson",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "standard_gamma",
    "truncated_normal",
]
# The others are wengert.NAME, too.
_HERE = {"beta", "dirichlet", "exponential", "gamma", "geometric", "permutation", "standard_gamma"}
_HERE |= {"truncated_normal"}
SHARED = [name for name in __all__ if name not in _HERE]

Shape = int | Sequence[int]


class Generator:
    """A source of random numbers.

    seed   any integer of 64 bits
    state  int64 tensor of shape (2,): the seed and how many blocks of 128 bits have been drawn;
           save and restore it (`copy_`) to go on from the same place
    """

    def __init__(self, seed: int = 0) -> None:
        """At the beginning of the sequence of `seed`."""
        self.state = _core.zeros(2, dtype=_core.int64)
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Restarts from a seed."""
        try:
            seed = operator.index(seed)
        except TypeError:
            raise TypeError(
                f"manual_seed: seed is {describe(seed)}; expected a whole number"
            ) from None
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"seed: got {seed}; expected an integer of 64 bits")
        signed = seed - 2**64 if seed >= 2**63 else seed  # the state is int64
        self.state[0] = signed
        self.state[1] = 0
        return self

    def __repr__(self) -> str:
        """Seed and counter."""
        seed, counter = self.state.tolist()
        return f"Generator(seed={seed}, counter={counter})"


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Seeds the global generator, and returns it.

    >>> generator = wg.manual_seed(0)
    >>> a = wg.rand(3)
    >>> generator = wg.manual_seed(0)
    >>> wg.array_equal(a, wg.rand(3))
    True
    """
    return default_generator.manual_seed(seed)


def _state(generator: Generator | None, op: str = "", *sizes: object) -> Tensor:
    if generator is None:
        return default_generator.state
    if not isinstance(generator, Generator):
        if type(generator) is int and all(type(size) is int for size in sizes):  # rand(2, 3, 4)
            raise TypeError(
                f"{op}: got {len(sizes) + 1} sizes one by one; expected one shape, a tuple: "
                f"{(*sizes, generator)}"
            )
        raise TypeError(
            f"{op}: generator is {describe(generator)}; expected a wengert.Generator: "
            "Generator(seed)"
        )
    return generator.state


def _leaf(x: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        x.requires_grad = True
    return x


def rand(
    shape: Shape,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1), of float32 (24 random bits) or float64 (53)."""
    state = _state(generator, "rand", shape, dtype)
    return _leaf(_core._uniform(state, shape, dtype, device), requires_grad)


def randn(
    shape: Shape,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers of mean 0 and variance 1."""
    state = _state(generator, "randn", shape, dtype)
    return _leaf(_core._normal(state, shape, dtype, device), requires_grad)


def randint(
    low: int,
    high: int,
    shape: Shape,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Whole numbers from low to high - 1, int64."""
    return _core._integers(_state(generator, "randint", shape), low, high, shape, device)


def randperm(n: int, generator: Generator | None = None, device: str | None = None) -> Tensor:
    """The numbers 0 to n - 1 in random order, int64 of shape (n,)."""
    order = _core._permutation(_state(generator, "randperm"), n)
    return order if device is None else order.to(device)


def permutation(x: Tensor | int, generator: Generator | None = None) -> Tensor:
    """x with its rows, the parts along axis 0, in random order; of a number as randperm."""
    if not isinstance(x, Tensor):
        return randperm(x, generator)
    if not x.ndim:
        raise ShapeError("permutation: x has shape (); expected one axis or more")
    return x[rand(x.shape[0], _core.float64, generator, x.device).argsort()]


def rand_like(
    x: Tensor,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """rand with the shape, the device and, unless another is given, the dtype of x."""
    return rand(x.shape, dtype or x.dtype, generator, x.device, requires_grad)


def randn_like(
    x: Tensor,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """randn with the shape, the device and, unless another is given, the dtype of x."""
    return randn(x.shape, dtype or x.dtype, generator, x.device, requires_grad)


def randint_like(
    x: Tensor,
    low: int,
    high: int | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Whole numbers from low (or 0) to high - 1, of the shape, device and dtype of x."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, x.shape, generator, x.device).to(dtype or x.dtype)


# ---- distributions


class _Draw:
    """The numbers of one call: its parameters, checked, and what they are drawn with."""

    def __init__(
        self,
        op: str,
        shape: Shape | None,
        dtype: DType | str | None,
        generator: Generator | None,
        device: str | None,
        positive: bool = True,
        most: float = math.inf,
        free: dict[str, float | Tensor] | None = None,
        **parameters: float | Tensor,
    ) -> None:
        """parameters must be more than 0, or, unless `positive`, 0 or more; those in `free` not."""
        self.good: list[Tensor] = []
        for name, value in parameters.items():
            inside = (value > 0 if positive else value >= 0) & (value <= most)
            if isinstance(inside, Tensor):
                inside = inside & (value < math.inf)
                if _core._is_tracing():
                    self.good.append(inside)
                    continue
            if not (inside.all() if isinstance(inside, Tensor) else inside and value < math.inf):
                limits = "more than 0" if positive else "0 or more"
                limits += "" if most == math.inf else f", and {most} or less"
                raise ValueError(f"{op}: {name} is {describe(value)}; expected numbers, {limits}")
        parameters |= free or {}
        tensors = [p for p in parameters.values() if isinstance(p, Tensor)]
        own = broadcast_shapes(*(p.shape for p in tensors))
        self.shape = own if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        wide = (1,) * (len(self.shape) - len(own)) + own
        if len(wide) > len(self.shape) or any(
            n not in (1, size) for n, size in zip(wide, self.shape, strict=True)
        ):
            raise ShapeError(
                f"{op}: shape is {self.shape}, to which the parameters, of shape {own}, do not "
                "broadcast"
            )
        self.device = device or (tensors[0].device if tensors else "cpu")
        floats = [p.dtype for p in tensors if p.dtype.is_floating_point]
        self.dtype = dtype or (floats[0] if floats else _core.float32)
        self.state = _state(generator, op, shape)
        self.values = [
            p.detach().double() if isinstance(p, Tensor) else self.tensor(p)
            for p in parameters.values()
        ]

    def tensor(self, value: float) -> Tensor:
        return _core.full((), float(value), _core.float64, self.device)

    def uniform(self, *front: int) -> Tensor:
        return _core._uniform(self.state, (*front, *self.shape), _core.float64, self.device)

    def normal(self, *front: int) -> Tensor:
        return _core._normal(self.state, (*front, *self.shape), _core.float64, self.device)

    def exponential(self, *front: int) -> Tensor:
        return -(-self.uniform(*front)).log1p()

    def result(self, x: Tensor) -> Tensor:
        for good in self.good:
            x = _core.where(good, x, math.nan)
        return x.broadcast_to(self.shape).to(self.dtype)


def _first(of: Tensor, accepted: Tensor) -> Tensor:
    """Along axis 0, the first that is accepted."""
    return of.gather(0, accepted.long().argmax(0, keepdims=True)).squeeze(0)


def bernoulli(
    p: float | Tensor,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """1 with probability p, else 0; of a tensor p in its shape. ValueError unless 0 <= p <= 1."""
    if not isinstance(p, Tensor) and not 0 <= p <= 1:
        raise ValueError(f"bernoulli: got p = {p}; expected 0 <= p <= 1")
    draw = _Draw("bernoulli", shape, dtype, generator, device, False, 1.0, p=p)
    return draw.result(draw.uniform() < draw.values[0])


def normal(
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Normal numbers of a mean and a standard deviation, 0 or more."""
    draw = _Draw("normal", shape, dtype, generator, device, False, free={"mean": mean}, std=std)
    return draw.result(draw.normal() * draw.values[0] + draw.values[1])


def truncated_normal(
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    low: float | Tensor = -2.0,
    high: float | Tensor = 2.0,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Normal numbers of those within [low, high], which must be one of 1,000 or more: the inverse
    of the distribution function, of uniform numbers between its values at the ends."""
    ends: dict[str, float | Tensor] = {"mean": mean, "low": low, "high": high}
    draw = _Draw("truncated_normal", shape, dtype, generator, device, free=ends, std=std)
    deviation, center, first, last = draw.values
    scale = deviation * math.sqrt(2.0)
    a, b = ((first - center) / scale).erf(), ((last - center) / scale).erf()
    good = b - a > 0.002
    if _core._is_tracing():
        draw.good.append(good)
    elif not bool(good.all()):
        raise ValueError(
            f"truncated_normal: low is {describe(low)}, high {describe(high)}; less than one of "
            "1,000 numbers of this mean and std is within them"
        )
    x = (draw.uniform() * (b - a) + a).erfinv() * scale + center
    return draw.result(_core.minimum(_core.maximum(x, first), last))


def exponential(
    rate: float | Tensor = 1.0,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Numbers of density rate · exp(-rate · x), x >= 0: mean 1 / rate."""
    draw = _Draw("exponential", shape, dtype, generator, device, rate=rate)
    return draw.result(draw.exponential() / draw.values[0])


def geometric(
    p: float | Tensor,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """How many trials until the first success, 1 or more, each with probability p: mean 1 / p."""
    draw = _Draw("geometric", shape, dtype, generator, device, most=1.0, p=p)
    return draw.result((draw.exponential() / -(-draw.values[0]).log1p()).floor() + 1.0)


def _log_gamma(draw: _Draw, shape: Tensor) -> Tensor:
    """Logarithms of gamma numbers, which tiny shapes do not take to 0.

    Marsaglia and Tsang 2000, "A simple method for generating gamma variables": of eight proposals
    the first that is accepted; less than one time in 10^10 none is. Below 1 as they say: gamma of
    shape + 1, times a power of a uniform number.
    """
    small = shape < 1.0
    d = _core.where(small, shape + 1.0, shape) - 1.0 / 3.0
    x = draw.normal(8)
    v = (1.0 + x / (9.0 * d).sqrt()) ** 3
    accepted = -draw.exponential(8) < 0.5 * x * x + d - d * v + d * v.log()
    log = d.log() + _first(v, accepted).log()
    return log - _core.where(small, draw.exponential() / shape, 0.0)


def gamma(
    concentration: float | Tensor,
    rate: float | Tensor = 1.0,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Gamma numbers, of density proportional to x^(concentration - 1) · exp(-rate · x)."""
    draw = _Draw("gamma", shape, dtype, generator, device, concentration=concentration, rate=rate)
    a, rates = draw.values
    return draw.result((_log_gamma(draw, a) - rates.log()).exp())


def standard_gamma(
    concentration: float | Tensor,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """gamma of rate 1."""
    return gamma(concentration, 1.0, shape, dtype, generator, device)


def beta(
    a: float | Tensor,
    b: float | Tensor,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Beta numbers, of density proportional to x^(a - 1) · (1 - x)^(b - 1) in [0, 1]."""
    draw = _Draw("beta", shape, dtype, generator, device, a=a, b=b)
    return draw.result(
        (_log_gamma(draw, draw.values[0]) - _log_gamma(draw, draw.values[1])).sigmoid()
    )


def dirichlet(
    concentration: Tensor,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Numbers that add up to 1 along the last axis, of concentrations (..., k).

    shape   of the result without its last axis; None: the concentrations'
    """
    if not concentration.ndim:
        raise ShapeError("dirichlet: concentration has shape (); expected (..., k)")
    if shape is not None:
        shape = (*((shape,) if isinstance(shape, int) else shape), concentration.shape[-1])
    draw = _Draw("dirichlet", shape, dtype, generator, None, concentration=concentration)
    return draw.result(_log_gamma(draw, draw.values[0]).softmax(-1))


def binomial(
    count: int,
    p: float | Tensor,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """How many of `count` trials succeed, each with probability p.

    While there are many trials, they are divided at the middle one's uniform number, which is a
    beta number: it says which half to look into. Devroye 1986, X.4.4.
    """
    if count < 0:
        raise ValueError(f"binomial: count is {count}; expected 0 or more")
    draw = _Draw("binomial", shape, dtype, generator, device, False, 1.0, p=p)
    (at,), left, found, most = draw.values, draw.tensor(count), draw.tensor(0.0), count
    while most > 64:
        middle = ((left * 0.5).floor() + 1.0).broadcast_to(draw.shape)
        above = (left - middle + 1.0).clamp(min=1.0)
        b = (_log_gamma(draw, middle) - _log_gamma(draw, above)).sigmoid()
        below = (at < b) | (left < 1.0)
        found = _core.where(below, found, found + middle)
        at = _core.where(below, at / b, (at - b) / (1.0 - b))
        left, most = _core.where(below, middle, above) - 1.0, most // 2
    trial = _core.arange(most, device=draw.device).reshape((-1, *(1 for _ in draw.shape)))
    return draw.result(found + ((draw.uniform(most) < at) & (trial < left)).sum(0))


def poisson(
    rate: float | Tensor,
    shape: Shape | None = None,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Poisson numbers, of probability rate^k · exp(-rate) / k!, rate in [0, 1e12]; floating.

    Below 10 by inversion; else Hörmann 1993, "The transformed rejection method for generating
    Poisson random variables", PTRS: of twenty proposals the first that is accepted.
    """
    draw = _Draw("poisson", shape, dtype, generator, device, False, 1e12, rate=rate)
    (mean,) = draw.values
    few = mean < 10.0
    small, u = _core.where(few, mean, 1.0), draw.uniform()
    term = (-small).exp()
    total, counted = term, draw.tensor(0.0)
    for k in range(1, 48):
        counted = counted + (u >= total)
        term = term * small / k
        total = total + term
    large = _core.where(few, 10.0, mean)
    b = 0.931 + 2.53 * large.sqrt()
    a, scale = -0.059 + 0.02483 * b, 1.1239 + 1.1328 / (b - 3.4)
    u = draw.uniform(20) - 0.5
    s = 0.5 - _core.abs(u)
    proposal = ((2.0 * a / s + b) * u + large + 0.43).floor()
    allowed = proposal * large.log() - large - _log_factorial(proposal.clamp(min=0.0))
    height = scale.log() - draw.exponential(20) - (a / (s * s) + b).log()
    accepted = (height <= allowed) & (proposal >= 0.0)
    return draw.result(_core.where(few, counted, _first(proposal, accepted)))


def _log_factorial(k: Tensor) -> Tensor:
    """Stirling's series at k + 8, less the logarithm of what was multiplied."""
    z, product = k + 8.0, k + 1.0
    for i in range(2, 8):
        product = product * (k + float(i))
    series = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * z * z)) / (z * z)) / z
    return (z - 0.5) * z.log() - z + 0.5 * math.log(2.0 * math.pi) + series - product.log()


def multinomial(
    probs: Tensor,
    num_samples: int,
    replacement: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Indices, int64, each with a probability proportional to probs (n,) or (rows, n): num_samples
    of them, of each row; without replacement no index twice.

    Whose exponential number of rate p comes first is drawn: Efraimidis and Spirakis 2006.
    """
    if probs.ndim not in (1, 2) or not probs.dtype.is_floating_point:
        raise ShapeError(f"multinomial: probs is {describe(probs)}; expected floats, 1 or 2 axes")
    n = probs.shape[-1]
    if num_samples < 1 or (not replacement and num_samples > n):
        raise ValueError(
            f"multinomial: num_samples is {num_samples}, of {n}; expected 1 or more"
            + ("" if replacement else ", and no more than there are: or replacement=True")
        )
    p = probs.detach().double()
    there = (p > 0).sum(-1)
    good = ((p >= 0) & p.isfinite()).all(-1) & (there >= (1 if replacement else num_samples))
    if not _core._is_tracing() and not bool(good.all()):
        raise ValueError(
            f"multinomial: probs is {describe(probs)}; expected numbers of 0 or more, "
            + ("one" if replacement else f"num_samples = {num_samples}")
            + " of each row at least more than 0"
        )
    front = (num_samples,) if replacement else ()
    draw = _Draw("multinomial", (*front, *p.shape), None, generator, probs.device)
    times = draw.exponential() / p
    index = times.argmin(-1) if replacement else times.argsort(-1).movedim(-1, 0)[:num_samples]
    index = _core.where(good, index, n)
    return index if probs.ndim == 1 else index.mT.contiguous()


# ---- Tensor's, in place


def bernoulli_(x: Tensor, p: float | Tensor = 0.5, generator: Generator | None = None) -> Tensor:
    """Fills x with 1, with probability p, and 0; returns x."""
    x.copy_(bernoulli(p, x.shape, x.dtype, generator, x.device))
    return x


def exponential_(x: Tensor, lambd: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fills x with numbers of density lambd · exp(-lambd · x); returns x."""
    x.copy_(exponential(lambd, x.shape, x.dtype, generator, x.device))
    return x


def geometric_(x: Tensor, p: float, generator: Generator | None = None) -> Tensor:
    """Fills x with numbers of trials until the first success; returns x."""
    x.copy_(geometric(p, x.shape, x.dtype, generator, x.device))
    return x


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
