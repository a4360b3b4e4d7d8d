"""Random numbers, counter-based: a seed gives the same numbers, whatever the threads or device.

A `Generator` holds its state in a tensor, `(seed, counter)`, which each draw advances. Functions
take one as `generator=`, or use a global one, which `manual_seed` sets.

Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". Normal numbers by
inversion: Wichura 1988, algorithm AS 241.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from . import _core
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
        """Starts anew from a seed."""
        seed = operator.index(seed)
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


def _state(generator: Generator | None) -> Tensor:
    if generator is None:
        return default_generator.state
    if not isinstance(generator, Generator):
        raise TypeError(
            f"generator: got {generator!r}; expected a wengert.Generator: Generator(seed)"
        )
    return generator.state


def rand(
    shape: Shape,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1), of float32 (24 random bits) or float64 (53)."""
    return _core._uniform(_state(generator), shape, dtype, device)


def randn(
    shape: Shape,
    dtype: DType | str | None = None,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Normal numbers of mean 0 and variance 1."""
    return _core._normal(_state(generator), shape, dtype, device)


def randint(
    low: int,
    high: int,
    shape: Shape,
    generator: Generator | None = None,
    device: str | None = None,
) -> Tensor:
    """Whole numbers from low to high - 1, int64."""
    return _core._integers(_state(generator), low, high, shape, device)


def randperm(n: int, generator: Generator | None = None) -> Tensor:
    """The numbers 0 to n - 1 in random order, int64 of shape (n,)."""
    return _core._permutation(_state(generator), n)


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
    uniform = _core._uniform(_state(generator), shape, _core.float64, device)
    return (uniform < p).to(dtype or _core.float32)


def __dir__() -> list[str]:
    return __all__
