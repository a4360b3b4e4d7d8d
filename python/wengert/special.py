"""Special functions, as torch.special has them: rows of the engine, and functions of these.

Each keeps float32 or float64; integers become float32. Gradients have gradients.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _core, _explained
from ._core import Tensor
from .composed import _sine_over, logit, sinc
from .decompositions import _op

__all__ = [
    "chebyshev_polynomial_t",
    "chebyshev_polynomial_u",
    "chebyshev_polynomial_v",
    "chebyshev_polynomial_w",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "gammaln",
    "hermite_polynomial_h",
    "hermite_polynomial_he",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "laguerre_polynomial_l",
    "legendre_polynomial_p",
    "log1p",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "shifted_chebyshev_polynomial_t",
    "shifted_chebyshev_polynomial_u",
    "shifted_chebyshev_polynomial_v",
    "shifted_chebyshev_polynomial_w",
    "sinc",
    "softmax",
    "spherical_bessel_j0",
    "xlog1py",
    "xlogy",
]
SHARED = ["erfc", "i0"]  # of wengert itself too

digamma = psi = _core.digamma
erf, erfinv, exp2, expm1, log1p = _core.erf, _core.erfinv, _core.exp2, _core.expm1, _core.log1p
expit, gammaln, polygamma, xlogy = _core.sigmoid, _core.lgamma, _core.polygamma, _core.xlogy
softmax, log_softmax, logsumexp = _core.softmax, _core.log_softmax, _core.logsumexp


def _floating(x: Tensor) -> Tensor:
    return x if x.dtype.is_floating_point else x.float()


# ---- of the normal distribution


@functools.cache
def _ops() -> Any:
    """(erfcx, erfc, ndtri): values of several lines that have short gradients."""
    from ._custom import custom_op

    root = 2 / math.sqrt(math.pi)
    return (
        custom_op(_erfcx, lambda g, y, x: g * (2 * x * y - root), name="erfcx",
                  formula="exp(x^2) erfc x", gradient="g * (2 * x * y - 2 / sqrt(pi))"),
        custom_op(_erfc, lambda g, y, x: g * (-root * (-x.square()).exp()), name="erfc",
                  formula="1 - erf x", gradient="-g * 2 / sqrt(pi) * exp(-x^2)"),
        custom_op(_ndtri, lambda g, y, x: g * (y.square() / 2).exp() * math.sqrt(2 * math.pi),
                  name="ndtri", formula="ndtr^-1", gradient="g * sqrt(2 pi) * exp(y^2 / 2)"),
    )  # fmt: skip


def _erfcx(x: Tensor) -> Tensor:
    """The trapezoidal rule for Mill's integral, with the term of its pole (Matta and Reichl 1971,
    "Uniform computation of the error function and other related functions"); exact to rounding
    with steps of 1/2. Near 0 and below from erf."""
    h, a = 0.5, x.abs()
    t = _core.where(a < h, h, a.clamp(max=1e8))
    s = t.square()
    total = 1 / s
    for n in range(1, 14):
        total = total + 2 * math.exp(-((n * h) ** 2)) / (s + (n * h) ** 2)
    near = t.clamp(max=6.0)
    pole = near * (2 * math.pi / h)
    tail = t * total * (h / math.pi) - 2 * (near.square() - pole).exp() / (1 - (-pole).exp())
    tail = _core.where(a > 1e8, 1 / (math.sqrt(math.pi) * a), tail)
    square = x.square()
    y = _core.where(a < h, square.exp() * (1 - a.erf()), tail)
    return _core.where(x < 0, 2 * square.exp() - y, y)


def _erfc(x: Tensor) -> Tensor:
    # exp(-x^2) in two factors, the square of the first exact (Cody 1969).
    low = _core.where(x > 0.5, x.clamp(max=1e3), 0.5)
    first = (low * 16).round() / 16
    scale = (-first.square()).exp() * ((first - low) * (first + low)).exp()
    return _core.where(x > 0.5, scale * _erfcx(low), 1 - x.erf())


def _ndtri(x: Tensor) -> Tensor:
    """From erfinv; in the tails five of Newton's steps for log_ndtr(y) = log x."""
    q = _core.minimum(x, 1 - x)
    some = _core.where((q > 0) & (q < 0.02), q, 0.01).log()
    y = -(-2 * some).sqrt()
    for _ in range(5):
        mills = _erfcx(y * -math.sqrt(0.5)) * math.sqrt(math.pi / 2)
        y = y - (mills.log() - y.square() / 2 - math.log(2 * math.pi) / 2 - some) * mills
    y = _core.where(q < 0.02, y, -math.sqrt(2) * (1 - 2 * q).erfinv())
    y = _core.where(q > 0, y, _core.where(q == 0, -math.inf, math.nan))
    return _core.where(x > 0.5, -y, y)


def erfcx(x: Tensor) -> Tensor:
    """exp(x^2) erfc(x), which stays finite where erfc(x) is 0."""
    y: Tensor = _ops()[0](_floating(x))
    return y


def erfc(x: Tensor) -> Tensor:
    """1 - erf(x), exact where that is small."""
    y: Tensor = _ops()[1](_floating(x))
    return y


def ndtr(x: Tensor) -> Tensor:
    """The area below x under the standard normal density."""
    return erfc(x * -math.sqrt(0.5)) / 2


def log_ndtr(x: Tensor) -> Tensor:
    """log(ndtr(x)), exact where ndtr(x) is 0 or 1."""
    x = _floating(x)
    low = x < -1
    t = _core.where(low, x, -1.0)
    tail = (erfcx(t * -math.sqrt(0.5)) / 2).log() - t.square() / 2
    return _core.where(low, tail, (-ndtr(-_core.where(low, 0.0, x))).log1p())


def ndtri(x: Tensor) -> Tensor:
    """The inverse of ndtr: infinite at 0 and 1, NaN beyond."""
    y: Tensor = _ops()[2](_floating(x))
    return y


def entr(x: Tensor) -> Tensor:
    """-x log(x), 0 at 0, -inf below."""
    x = _floating(x)
    return _core.where(x < 0, -math.inf, -_core.xlogy(x, _core.where(x < 0, 1.0, x)))


def xlog1py(x: Tensor, y: Tensor) -> Tensor:
    """x log(1 + y), 0 where x is 0 and y not NaN."""
    small = _core.abs(y) < 0.5
    return _core.where(small, x * _core.log1p(_core.where(small, y, 0.0)), _core.xlogy(x, y + 1.0))


# ---- of Gamma and Bessel


def multigammaln(x: Tensor, p: int) -> Tensor:
    """log of the multivariate Gamma function of dimension p, of x > (p - 1) / 2."""
    if p < 1:
        raise ValueError(f"multigammaln: p is {p}; expected 1 or more")
    x = _floating(x)
    terms = [(x - i / 2).lgamma() for i in range(p)]
    return sum(terms[1:], terms[0]) + p * (p - 1) / 4 * math.log(math.pi)


def _bessel(order: int, x: Any) -> Any:
    """exp(-|x|) I_order(x), in float64. Up to 30 by the trapezoidal rule for Bessel's integral, 48
    points around the circle; then by Hankel's asymptotic series."""
    a = np.abs(x.astype("float64"))
    near, y = np.minimum(a, 30), np.zeros(a.shape)
    for j in range(13):  # of each quarter: points at c and -c together
        c = math.cos(math.pi * j / 24)
        pair = -np.expm1(-2 * c * near) if order else 1 + np.exp(-2 * c * near)
        y += (1 if j in (0, 12) else 2) * c**order * np.exp(near * (c - 1)) * pair
    z, term = 8 * np.maximum(a, 30), 1.0
    series = np.ones(a.shape)
    for k in range(1, 25):
        term = term * ((2 * k - 1) ** 2 - 4 * order * order) / (k * z)
        series += term
    y = np.where(a <= 30, y / 48, series / np.sqrt(np.pi / 4 * z))
    return np.where(np.isnan(a), a, y * np.sign(x) if order else y)


def _i0e_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return g * (_i1e(x) - x.sign() * y)


def _i1e_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    some = _core.where(x == 0, 1.0, x)
    return g * _core.where(x == 0, 0.5, _i0e(x) - y * (1 / some + x.sign()))


@_op(lambda x: x, _i0e_vjp, "exp(-|x|) I0(x)", "g * (i1e(x) - sign(x) * y)")
def _i0e(x: Any) -> Any:
    return _bessel(0, x)


@_op(lambda x: x, _i1e_vjp, "exp(-|x|) I1(x)", "g * (i0e(x) - y * (1 / x + sign(x)))")
def _i1e(x: Any) -> Any:
    return _bessel(1, x)


def i0e(x: Tensor) -> Tensor:
    """exp(-|x|) I0(x), I0 the modified Bessel function; on the CPU, of NumPy."""
    return _i0e(_floating(x))


def i1e(x: Tensor) -> Tensor:
    """exp(-|x|) I1(x), I1 the modified Bessel function; on the CPU, of NumPy."""
    return _i1e(_floating(x))


def i0(x: Tensor) -> Tensor:
    """I0(x), the modified Bessel function of order 0."""
    return i0e(x) * _core.abs(x).exp()


def i1(x: Tensor) -> Tensor:
    """I1(x), the modified Bessel function of order 1."""
    return i1e(x) * _core.abs(x).exp()


def spherical_bessel_j0(x: Tensor) -> Tensor:
    """sin(x) / x, and 1 at 0."""
    x = _floating(x)
    far = _core.isinf(x)
    return _core.where(far, 0.0, _sine_over(_core.where(far, 1.0, x)))


# ---- polynomials


def _polynomial(
    n: int | Tensor, first: Tensor, step: Callable[[int, Tensor, Tensor], Tensor]
) -> Tensor:
    """P_n(x), of P_0 = 1, P_1 = first, P_k+1 = step(k, P_k, P_k-1); 0 for n below 0."""
    before, now = _core.ones_like(first), first
    if isinstance(n, int):
        if n < 1:
            return before if n == 0 else before * 0
        for k in range(1, n):
            before, now = now, step(k, now, before)
        return now
    n = n.to("int64")
    y = _core.where(n == 0, before, _core.where(n == 1, now, 0.0))
    for k in range(1, int(n.max()) if n.numel() else 0):
        before, now = now, step(k, now, before)
        y = _core.where(n == k + 1, now, y)
    return y


def _chebyshev(x: Tensor, n: int | Tensor, first: Tensor) -> Tensor:
    return _polynomial(n, first, lambda k, p, q: 2 * x * p - q)


def chebyshev_polynomial_t(x: Tensor, n: int | Tensor) -> Tensor:
    """Chebyshev's polynomials of the first kind, cos(n acos x); n may be a tensor."""
    return _chebyshev(_floating(x), n, _floating(x))


def chebyshev_polynomial_u(x: Tensor, n: int | Tensor) -> Tensor:
    """Chebyshev's polynomials of the second kind; n may be a tensor."""
    return _chebyshev(_floating(x), n, 2 * _floating(x))


def chebyshev_polynomial_v(x: Tensor, n: int | Tensor) -> Tensor:
    """Chebyshev's polynomials of the third kind; n may be a tensor."""
    return _chebyshev(_floating(x), n, 2 * _floating(x) - 1)


def chebyshev_polynomial_w(x: Tensor, n: int | Tensor) -> Tensor:
    """Chebyshev's polynomials of the fourth kind; n may be a tensor."""
    return _chebyshev(_floating(x), n, 2 * _floating(x) + 1)


def shifted_chebyshev_polynomial_t(x: Tensor, n: int | Tensor) -> Tensor:
    """chebyshev_polynomial_t(2 x - 1, n), for x from 0 to 1."""
    return chebyshev_polynomial_t(2 * x - 1, n)


def shifted_chebyshev_polynomial_u(x: Tensor, n: int | Tensor) -> Tensor:
    """chebyshev_polynomial_u(2 x - 1, n), for x from 0 to 1."""
    return chebyshev_polynomial_u(2 * x - 1, n)


def shifted_chebyshev_polynomial_v(x: Tensor, n: int | Tensor) -> Tensor:
    """chebyshev_polynomial_v(2 x - 1, n), for x from 0 to 1."""
    return chebyshev_polynomial_v(2 * x - 1, n)


def shifted_chebyshev_polynomial_w(x: Tensor, n: int | Tensor) -> Tensor:
    """chebyshev_polynomial_w(2 x - 1, n), for x from 0 to 1."""
    return chebyshev_polynomial_w(2 * x - 1, n)


def hermite_polynomial_h(x: Tensor, n: int | Tensor) -> Tensor:
    """Hermite's polynomials of physics; n may be a tensor."""
    x = _floating(x)
    return _polynomial(n, 2 * x, lambda k, p, q: 2 * x * p - 2 * k * q)


def hermite_polynomial_he(x: Tensor, n: int | Tensor) -> Tensor:
    """Hermite's polynomials of probability; n may be a tensor."""
    x = _floating(x)
    return _polynomial(n, x, lambda k, p, q: x * p - k * q)


def laguerre_polynomial_l(x: Tensor, n: int | Tensor) -> Tensor:
    """Laguerre's polynomials; n may be a tensor."""
    x = _floating(x)
    return _polynomial(n, 1 - x, lambda k, p, q: ((2 * k + 1 - x) * p - k * q) / (k + 1))


def legendre_polynomial_p(x: Tensor, n: int | Tensor) -> Tensor:
    """Legendre's polynomials; n may be a tensor."""
    x = _floating(x)
    return _polynomial(n, x, lambda k, p, q: ((2 * k + 1) * x * p - k * q) / (k + 1))


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
