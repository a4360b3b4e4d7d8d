"""wengert.special and wengert.signal: values against PyTorch's or known ones, gradients to second
order, compiled steps, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import signal, special
from wengert.testing import gradcheck

# From 40 digits.
KNOWN = {
    "erfc": {5.0: 1.5374597944280347e-12, 20.0: 5.395865611607906e-176, 0.4: 0.5716076449533315},
    "erfcx": {20.0: 0.02817434874105132, 0.0: 1.0, 1e10: 5.641895835477563e-11},
    "ndtr": {-30.0: 4.906713927148187e-198, 0.0: 0.5, 8.0: 0.9999999999999993},
    "log_ndtr": {-100.0: -5005.524208694205, 10.0: -7.619853024160527e-24},
    "i0e": {0.0: 1.0, 1.0: 0.46575960759364043, 30.0: 0.07314594648223731},
    "i1e": {0.0: 0.0, 1e-12: 4.999999999995e-13, -1.0: -0.20791041534970844},
    "i0": {2.0: 2.2795853023360673}, "i1": {2.0: 1.5906368546373291},
    "entr": {0.0: 0.0, 1.0: 0.0, -1.0: -math.inf},
    "spherical_bessel_j0": {0.0: 1.0, math.inf: 0.0, math.pi: 0.0},
    "ndtri": {0.0: -math.inf, 1.0: math.inf, 0.5: 0.0, 1e-100: -21.273453560965324},
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.smoke
def test_known_values(name: str) -> None:
    f = getattr(special, name)
    for x, y in KNOWN[name].items():
        np.testing.assert_allclose(f(wg.tensor(x, "float64")).item(), y, 1e-14, 1e-16)
    assert math.isnan(f(wg.tensor(math.nan)).item())
    assert f(wg.tensor([1, 0])).dtype == wg.float32
    assert f(wg.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    "name", ["erfc", "erfcx", "log_ndtr", "i0e", "i1e", "i0", "i1", "entr", "spherical_bessel_j0"]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_of_pytorchs(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    a = np.concatenate([np.linspace(-9, 9, 401), [-1e30, 1e30, np.inf, -np.inf, 40, -1e-9]])
    a = a.astype(dtype)
    found = getattr(special, name)(wg.tensor(a)).numpy()
    expected = getattr(torch.special, name)(torch.tensor(a)).numpy()
    rtol = 1e-13 if dtype == "float64" else 3e-6
    np.testing.assert_allclose(found, expected, rtol, 1e-37)


def test_ndtri_undoes_ndtr() -> None:
    p = np.concatenate([10.0 ** -np.arange(1, 300, 7.0), np.linspace(0.01, 0.99, 99)])
    y = special.ndtri(wg.tensor(p))
    np.testing.assert_allclose(special.ndtr(y).numpy(), p, 1e-11)
    assert np.isnan(special.ndtri(wg.tensor([-0.1, 1.1])).numpy()).all()


GRADIENTS: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(special, name) for name in KNOWN if name not in ("entr", "ndtri")},
    "entr": lambda x: special.entr(x.exp()),
    "ndtri": lambda x: special.ndtri(x.sigmoid()),
    "xlog1py": lambda x: special.xlog1py(x, x.exp()),
    "multigammaln": lambda x: special.multigammaln(x.exp() + 2, 3),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_and_compiled(name: str) -> None:
    f = GRADIENTS[name]
    x = wg.tensor(np.random.default_rng(0).normal(size=(2, 5)) * 2)
    assert gradcheck(f, [x], order=2, rtol=1e-5, atol=1e-6)
    step = wg.value_and_grad(lambda x: f(x).sum())
    compiled = wg.compile(step)
    for value in (x, x * 0.9):
        for a, b in zip(step(value), compiled(value), strict=True):
            assert (a == b).all()


POLYNOMIALS = {
    "chebyshev_polynomial_t": "chebyshev.Chebyshev", "hermite_polynomial_h": "hermite.Hermite",
    "hermite_polynomial_he": "hermite_e.HermiteE", "laguerre_polynomial_l": "laguerre.Laguerre",
    "legendre_polynomial_p": "legendre.Legendre",
}  # fmt: skip


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_of_numpys(name: str) -> None:
    module, _, kind = POLYNOMIALS[name].partition(".")
    f, basis = getattr(special, name), getattr(getattr(np.polynomial, module), kind).basis
    a = np.linspace(-1.2, 1.2, 7)
    for n in range(6):
        np.testing.assert_allclose(f(wg.tensor(a), n).numpy(), basis(n)(a), 1e-12, 1e-13)
    n = np.array([0, 5, 2, 1, 0, 3, -1])
    expected = [basis(k)(v) if k >= 0 else 0.0 for k, v in zip(n, a, strict=True)]
    np.testing.assert_allclose(f(wg.tensor(a), wg.tensor(n)).numpy(), expected, 1e-12, 1e-13)
    assert gradcheck(lambda x: f(x, 4), [wg.tensor(a)], order=2, rtol=1e-5, atol=1e-6)


def test_chebyshevs_other_kinds() -> None:
    t = np.linspace(0.1, 3.0, 9)
    x, n = wg.tensor(np.cos(t)), 5
    for kind, expected in {
        "u": np.sin((n + 1) * t) / np.sin(t),
        "v": np.cos((n + 0.5) * t) / np.cos(t / 2),
        "w": np.sin((n + 0.5) * t) / np.sin(t / 2),
    }.items():
        f = getattr(special, f"chebyshev_polynomial_{kind}")
        np.testing.assert_allclose(f(x, n).numpy(), expected, 1e-12, 1e-12)
        shifted = getattr(special, f"shifted_chebyshev_polynomial_{kind}")
        np.testing.assert_allclose(shifted((x + 1) / 2, n).numpy(), expected, 1e-12, 1e-11)


def test_gradients_at_zero() -> None:
    x = wg.zeros(3, dtype="float64", requires_grad=True)
    assert wg.grad(special.i1(x).sum(), x).tolist() == [0.5] * 3
    assert wg.grad(special.i0(x).sum(), x).tolist() == [0.0] * 3


def test_round_to_decimals() -> None:
    a = np.array([1.255, -12.5, 0.5, 1.5, 1e30, np.inf])
    for decimals in (0, 1, 3, -1):
        for dtype in ("float64", "float32"):
            x = wg.tensor(a, dtype)
            expected = np.round(a.astype(dtype), decimals)
            assert (wg.round(x, decimals).numpy() == expected).all()
            assert (x.round(decimals=decimals).numpy() == expected).all()
    assert wg.round(wg.tensor([3])).tolist() == [3]
    with pytest.raises(wg.DTypeError, match="round: the tensor is int64, and decimals is 1"):
        wg.tensor([3]).round(1)
    x = wg.tensor([1.25], requires_grad=True)
    assert wg.grad(x.round(1).sum(), x).tolist() == [0.0]


WINDOWS: dict[str, list[dict[str, Any]]] = {
    **{name: [{}] for name in ("bartlett", "blackman", "cosine", "hamming", "hann", "nuttall")},
    "exponential": [{}, {"tau": 3.0}, {"center": 1.5, "sym": False}],
    "gaussian": [{}, {"std": 2.5}],
    "general_cosine": [{"a": [0.5, 0.3, 0.2]}, {"a": [1.0]}],
    "general_hamming": [{}, {"alpha": 0.7}],
    "kaiser": [{}, {"beta": 0.0}],
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_of_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    for options in WINDOWS[name]:
        for sym in (True, False):
            for m in (0, 1, 2, 7, 12):
                given = {"sym": sym, **options}
                y = getattr(signal, name)(m, **given, dtype="float64")
                theirs = getattr(torch.signal.windows, name)
                z = theirs(m, **given, dtype=torch.float64)
                np.testing.assert_allclose(y.numpy(), z.numpy(), 1e-12, 1e-13)
    assert getattr(signal, name)(4, **WINDOWS[name][0]).dtype == wg.float32


def test_windows_of_numpys() -> None:
    for name, theirs in (("hann", np.hanning), ("hamming", np.hamming), ("bartlett", np.bartlett)):
        np.testing.assert_allclose(getattr(signal, name)(9, dtype="float64").numpy(), theirs(9))
    np.testing.assert_allclose(signal.kaiser(9, 5.0, dtype="float64").numpy(), np.kaiser(9, 5.0))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: signal.hann(4, dtype="int64"), wg.DTypeError, "dtype is int64; expected float32"),
        (lambda: signal.hann(-1), ValueError, "M is -1; expected 0 or more"),
        (lambda: signal.gaussian(4, std=0), ValueError, "gaussian: std is 0; expected more"),
        (lambda: signal.exponential(4, tau=-1), ValueError, "exponential: tau is -1"),
        (lambda: signal.exponential(4, 1.0), ValueError, "with sym=True it is the middle"),
        (lambda: signal.kaiser(4, -1.0), ValueError, "kaiser: beta is -1.0"),
        (lambda: signal.general_cosine(4, []), ValueError, "general_cosine: a is empty"),
        (lambda: special.multigammaln(wg.ones(2), 0), ValueError, "multigammaln: p is 0"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
