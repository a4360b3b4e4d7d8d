"""Random numbers, counter-based: a seed gives the same numbers, whatever the threads or device.

A `Generator` holds its state in a tensor, `(seed, counter)`, which each draw advances. Functions
take one as `generator=`, or use a global one, which `manual_seed` sets.

Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". Normal numbers by
inversion: Wichura 1988, algorithm AS 241.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from . import _core, _explained
from ._calls import describe
from ._core import DType, Tensor

__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "manual_seed",
    "rand",
    "randint",
    "randn",
    "randperm",
]

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
    """Seeds the global generator, and returns it."""
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


def randperm(n: int, generator: Generator | None = None) -> Tensor:
    """The numbers 0 to n - 1 in random order, int64 of shape (n,)."""
    return _core._permutation(_state(generator, "randperm"), n)


def bernoulli(
    p: float,
    shape: Shape,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """1 with probability p, else 0. Raises ValueError unless 0 <= p <= 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"bernoulli: got p = {p}; expected 0 <= p <= 1")
    state = _state(generator, "bernoulli", shape, dtype)
    uniform = _core._uniform(state, shape, _core.float64, device)
    return (uniform < p).to(dtype or _core.float32)


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
