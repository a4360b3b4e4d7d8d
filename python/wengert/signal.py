"""Windows of signals, as torch.signal.windows has them: constants, computed in float64.

    wengert.signal.hann(400, sym=False)

M is how many values there are; an error below 0. sym=True is symmetric, for filters; sym=False is
one period of a window of M + 1 values, for spectra. (Harris 1978, "On the use of windows for
harmonic analysis with the discrete Fourier transform".)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _core, _explained
from ._core import DType, DTypeError, Tensor

__all__ = [
    "bartlett",
    "blackman",
    "cosine",
    "exponential",
    "gaussian",
    "general_cosine",
    "general_hamming",
    "hamming",
    "hann",
    "kaiser",
    "nuttall",
]


def _places(op: str, M: int, sym: bool) -> tuple[Any, int]:  # noqa: N803 - PyTorch's name
    """0 to M - 1, and the last place of the symmetric window."""
    if M < 0:
        raise ValueError(f"{op}: M is {M}; expected 0 or more")
    return np.arange(M, dtype="float64"), max(M - 1 if sym else M, 1)


def _window(values: Any, dtype: DType | str | None, device: str, one: bool = True) -> Tensor:
    # A window of one value is 1, where that is its middle.
    values = np.ones(1) if one and len(values) == 1 else values
    y = _core.tensor(values, dtype="float32" if dtype is None else dtype, device=device)
    if y.dtype.name not in ("float32", "float64"):
        raise DTypeError(f"window: dtype is {y.dtype.name}; expected float32 or float64")
    return y


def general_cosine(
    M: int,  # noqa: N803 - PyTorch's name
    a: Sequence[float],
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """a[0] - a[1] cos t + a[2] cos 2t - ..., t from 0 to 2 pi."""
    if not len(a):
        raise ValueError("general_cosine: a is empty; expected one coefficient or more")
    k, last = _places("general_cosine", M, sym)
    t = 2 * np.pi * k / last
    values = sum(c * (-1) ** i * np.cos(i * t) for i, c in enumerate(a))
    return _window(np.broadcast_to(values, k.shape), dtype, device)


def general_hamming(
    M: int,  # noqa: N803 - PyTorch's name
    alpha: float = 0.54,
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """alpha - (1 - alpha) cos t."""
    return general_cosine(M, (alpha, 1.0 - alpha), sym, dtype, device)


def hamming(
    M: int,  # noqa: N803 - PyTorch's name
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """0.54 - 0.46 cos t."""
    return general_cosine(M, (0.54, 0.46), sym, dtype, device)


def hann(
    M: int,  # noqa: N803 - PyTorch's name
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """0.5 - 0.5 cos t."""
    return general_cosine(M, (0.5, 0.5), sym, dtype, device)


def blackman(
    M: int,  # noqa: N803 - PyTorch's name
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """0.42 - 0.5 cos t + 0.08 cos 2t."""
    return general_cosine(M, (0.42, 0.5, 0.08), sym, dtype, device)


def nuttall(
    M: int,  # noqa: N803 - PyTorch's name
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """Four terms, the sidelobes below -93 dB (Nuttall 1981, "Some windows with very good sidelobe
    behavior")."""
    return general_cosine(M, (0.3635819, 0.4891775, 0.1365995, 0.0106411), sym, dtype, device)


def bartlett(
    M: int,  # noqa: N803 - PyTorch's name
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """A triangle, 0 at the ends."""
    k, last = _places("bartlett", M, sym)
    return _window(1.0 - np.abs(2 * k / last - 1.0), dtype, device)


def cosine(
    M: int,  # noqa: N803 - PyTorch's name
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """Half a period of a sine, between its zeros."""
    k, last = _places("cosine", M, sym)
    return _window(np.sin(np.pi * (k + 0.5) / (last + 1)), dtype, device)


def exponential(
    M: int,  # noqa: N803 - PyTorch's name
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """exp(-|k - center| / tau); the center is the middle, and may be given where sym is False."""
    if not tau > 0:
        raise ValueError(f"exponential: tau is {tau}; expected more than 0")
    if sym and center is not None:
        raise ValueError(f"exponential: center is {center}; with sym=True it is the middle")
    k, last = _places("exponential", M, sym)
    far = np.abs(k - (last / 2 if center is None else center))
    return _window(np.exp(-far / tau), dtype, device, one=center is None)


def gaussian(
    M: int,  # noqa: N803 - PyTorch's name
    std: float = 1.0,
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """exp(-(k - middle)^2 / (2 std^2))."""
    if not std > 0:
        raise ValueError(f"gaussian: std is {std}; expected more than 0")
    k, last = _places("gaussian", M, sym)
    return _window(np.exp(-(((k - last / 2) / std) ** 2) / 2), dtype, device)


def kaiser(
    M: int,  # noqa: N803 - PyTorch's name
    beta: float = 12.0,
    sym: bool = True,
    dtype: DType | str | None = None,
    device: str = "cpu",
) -> Tensor:
    """I0(beta sqrt(1 - r^2)) / I0(beta), r from -1 to 1, I0 the modified Bessel function."""
    if not (beta >= 0 and math.isfinite(beta)):
        raise ValueError(f"kaiser: beta is {beta}; expected 0 or more")
    k, last = _places("kaiser", M, sym)
    r = 2 * k / last - 1.0
    return _window(np.i0(beta * np.sqrt(np.maximum(1.0 - r * r, 0))) / np.i0(beta), dtype, device)


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
