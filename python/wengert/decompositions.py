"""Equations and decompositions of matrices, for wengert.linalg: NumPy's, of LAPACK, with gradients
written as ops, so that these have gradients in their turn.

x is (..., m, n), on the CPU; integers become float32. Results have x's dtype, and are computed in
it. A compiled step calls Python for them. Where a decomposition is not unique (signs; turns between
equal values), its gradient is that of functions that do not depend on the choice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _core, _explained
from ._calls import choice
from ._core import DTypeError, ShapeError, Tensor

__all__ = [
    "cholesky",
    "det",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "matrix_exp",
    "matrix_rank",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
]


class QR(NamedTuple):
    """x = Q @ R."""

    Q: Tensor
    R: Tensor


class SVD(NamedTuple):
    """x = U @ diag(S) @ Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class Eigh(NamedTuple):
    """x @ eigenvectors = eigenvectors * eigenvalues."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class Slogdet(NamedTuple):
    """det(x) = sign * exp(logabsdet)."""

    sign: Tensor
    logabsdet: Tensor


class Lstsq(NamedTuple):
    """As numpy.linalg.lstsq."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def _op(
    shape: Callable[..., Sequence[int]],
    vjp: Callable[..., Any],
    formula: str,
    gradient: str | Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Tensor]]:
    """The op of a function of arrays, made when it is first called."""

    def decorate(value: Callable[..., Any]) -> Callable[..., Tensor]:
        name = value.__name__.strip("_")
        operands = value.__code__.co_varnames[: value.__code__.co_argcount]

        def explained(*arrays: Any) -> Any:
            try:
                return value(*arrays)
            except np.linalg.LinAlgError as error:
                raise ValueError(_said(name, operands[0], error, arrays[0])) from None

        @functools.cache
        def made() -> Any:
            from ._custom import custom_op
            from ._host import host_op

            run = host_op(name, operands, formula, shape, explained)
            return custom_op(
                lambda *x: run(*(v.detach() for v in x)), vjp, name=name, operands=operands,
                formula=formula, gradient=gradient,
            )  # fmt: skip

        @functools.wraps(value)
        def call(*x: Tensor) -> Tensor:
            y: Tensor = made()(*x)
            return y

        return call

    return decorate


def _said(name: str, operand: str, error: Exception, x: Any) -> str:
    if not np.isfinite(x).all():
        return f"{operand}, of shape {x.shape}, has NaN or infinity"
    if name == "cholesky":
        return (
            f"a matrix of {operand}, of shape {x.shape}, is not positive definite; add a small "
            "multiple of the identity, or use eigh"
        )
    if "ingular" in str(error):
        return (
            f"a matrix of {operand}, of shape {x.shape}, is singular; use pinv or lstsq, or add a "
            "small multiple of the identity"
        )
    return f"{operand}, of shape {x.shape}: {error}"


def _matrices(op: str, x: Tensor, square: bool = False, name: str = "x") -> Tensor:
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        kind = "square matrices (..., n, n)" if square else "matrices (..., m, n)"
        raise ShapeError(f"{op}: {name} has shape {x.shape}; expected {kind}")
    return _floating(op, x, name)


def _floating(op: str, x: Tensor, name: str) -> Tensor:
    if x.dtype.name == "bfloat16":
        raise DTypeError(f"{op}: {name} is bfloat16; write {name}.float()")
    return x if x.dtype.is_floating_point else x.float()


def _eye(x: Tensor) -> Tensor:
    return _core.eye(x.shape[-1], dtype=x.dtype, device=x.device)


# ---- equations


@_op(lambda x: x, lambda g, y, x: -(y.mT @ g @ y.mT), "x^-1", "-(y.T @ g @ y.T)")
def _inv(x: Any) -> Any:
    return np.linalg.inv(x)


def inv(x: Tensor) -> Tensor:
    """The inverses of square matrices (..., n, n). ValueError for a singular one."""
    return _inv(_matrices("inv", x, square=True))


def _solve_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    db = _solve(a.mT, g)
    return -(db @ y.mT), db


@_op(lambda a, b: b, _solve_vjp, "a^-1 @ b", ("-(db @ y.T)", "a.T^-1 @ g"))
def _solve(a: Any, b: Any) -> Any:
    return np.linalg.solve(a, b)


def solve(a: Tensor, b: Tensor, *, left: bool = True) -> Tensor:
    """x of a @ x = b, or of x @ a = b with left=False. ValueError where a is singular.

    a  (..., n, n)
    b  (..., n, k), or vectors: (n,), or a's shape without its last axis. Others broadcast
    """
    a, b = _matrices("solve", a, True, "a"), _floating("solve", b, "b")
    if a.dtype != b.dtype:
        raise DTypeError(f"solve: a is {a.dtype.name} and b {b.dtype.name}; convert one of them")
    if b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1]):
        return solve(a, b.unsqueeze(-1)).squeeze(-1)
    if not left:
        return solve(a.mT, b.mT).mT
    if b.shape[-2] != a.shape[-1]:
        raise ShapeError(f"solve: a has shape {a.shape} and b {b.shape}; expected as many rows")
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return _solve(a.broadcast_to([*lead, *a.shape[-2:]]), b.broadcast_to([*lead, *b.shape[-2:]]))


def solve_triangular(
    a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """solve(a, b) where a is triangular; its other half is not looked at.

    unitriangular  nor is its diagonal: it is 1
    """
    a = _matrices("solve_triangular", a, True, "a")
    of = a.triu(int(unitriangular)) if upper else a.tril(-int(unitriangular))
    return solve(of + _eye(a) if unitriangular else of, b, left=left)


def tensorinv(x: Tensor, ind: int = 2) -> Tensor:
    """The inverse of x as a matrix of its first ind axes and the others; these come first then."""
    if not 0 < ind < x.ndim or math.prod(x.shape[:ind]) != math.prod(x.shape[ind:]):
        raise ShapeError(
            f"tensorinv: x has shape {x.shape} and ind is {ind}; expected as many elements in the "
            "axes before ind as in the others"
        )
    n = math.prod(x.shape[:ind])
    return inv(x.reshape(n, n)).reshape([*x.shape[ind:], *x.shape[:ind]])


def tensorsolve(a: Tensor, b: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """x of tensordot(a, x, x.ndim) = b.

    axes  of a, moved behind its others first
    """
    if axes is not None:
        a = a.moveaxis(list(axes), list(range(a.ndim - len(axes), a.ndim)))
    shape = a.shape[b.ndim :]
    if math.prod(shape) != b.numel():
        raise ShapeError(f"tensorsolve: a has shape {a.shape} and b {b.shape}: not a square matrix")
    return solve(a.reshape(b.numel(), b.numel()), b.reshape(-1)).reshape(shape)


# ---- determinants


def _cofactors_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    w = _inv(x).mT
    return w * (g * y).sum((-2, -1), keepdims=True) - y @ g.mT @ w


@_op(lambda x: x, _cofactors_vjp, "d det(x) / dx", "w (g · y) - y @ g.T @ w, w = x^-1.T")
def _cofactors(x: Any) -> Any:
    u, s, v = np.linalg.svd(x)
    n = s.shape[-1]
    others = np.where(np.eye(n, dtype=bool), 1, s[..., None, :]).prod(-1)
    sign = np.linalg.det(u) * np.linalg.det(v)
    return (u * others[..., None, :]) @ v * sign[..., None, None]


@_op(lambda x: x[:-2], lambda g, y, x: g[..., None, None] * _cofactors(x), "det x", "g cofactors")
def _det(x: Any) -> Any:
    return np.linalg.det(x)


def det(x: Tensor) -> Tensor:
    """The determinants of square matrices. The gradient of a singular one is that of its cofactors,
    and has no gradient in its turn: a ValueError."""
    return _det(_matrices("det", x, square=True))


@_op(
    lambda x: (*x[:-2], 2),
    lambda g, y, x: g[..., 1, None, None] * _inv(x).mT,
    "sign(det x), log |det x|",
    "g[1] x^-1.T",
)
def _slogdet(x: Any) -> Any:
    return np.stack(np.linalg.slogdet(x), -1)


def slogdet(x: Tensor) -> Slogdet:
    """The signs and the logarithms of the sizes of determinants: (sign, logabsdet).

    Of a singular matrix 0 and -inf, without gradients.
    """
    y = _slogdet(_matrices("slogdet", x, square=True))
    return Slogdet(y[..., 0], y[..., 1])


# ---- decompositions


def _cholesky_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    # Murray 2016, "Differentiation of the Cholesky decomposition", equation 10.
    p = (y.mT @ g).tril()
    p = p + p.tril(-1).mT
    w = _inv(y)
    return (w.mT @ p @ w) / 2


@_op(lambda x: x, _cholesky_vjp, "y @ y.T = x", "y^-1.T @ sym(y.T @ g) @ y^-1")
def _cholesky(x: Any) -> Any:
    return np.linalg.cholesky(x)


def cholesky(x: Tensor, *, upper: bool = False) -> Tensor:
    """L, lower triangular, of x = L @ L.T; with upper, L.T. Only x's lower half is looked at;
    gradients are of symmetric changes of x. ValueError where x is not positive definite.
    """
    y = _cholesky(_matrices("cholesky", x, square=True))
    return y.mT if upper else y


def _turned(q: Tensor, dq: Tensor, n: int) -> Tensor:
    """The gradient of q's first n columns, with what passes to the others: these turn with them."""
    first, rest = q[..., :n], q[..., n:]
    dfirst = dq[..., :n]
    return dfirst - rest @ (dq[..., n:].mT @ first) if rest.shape[-1] else dfirst


def _qr_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    # Walter and Lehmann 2018, "Algorithmic differentiation of linear algebra functions", (2.7).
    n = x.shape[-1]
    (q, r), (_, dr) = _qr_parts(y, n), _qr_parts(g, n)
    dq, q, r, dr = _turned(q, _qr_parts(g, n)[0], n), q[..., :n], r[..., :n, :], dr[..., :n, :]
    s = r @ dr.mT - dq.mT @ q
    s = s.tril() + s.tril(-1).mT
    return _solve(r, (dq + q @ s).mT).mT


def _qr_parts(y: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """q, (m, m) or (m, n), and r beside it, or under it."""
    rows, columns = y.shape[-2:]
    if columns == rows + n:
        return y[..., :rows], y[..., rows:]
    return y[..., : rows - n, :], y[..., rows - n :, :]


@_op(lambda x: (*x[:-2], x[-2] + x[-1], x[-1]), _qr_vjp, "q @ r = x", "(dq + q @ s) @ r^-1.T")
def _qr(x: Any) -> Any:
    return np.concatenate(np.linalg.qr(x), -2)


@_op(
    lambda x: (*x[:-2], x[-2], x[-2] + x[-1]),
    _qr_vjp,
    "q @ r = x, q square",
    "(dq + q @ s) @ r^-1.T",
)
def _qr_complete(x: Any) -> Any:
    return np.concatenate(np.linalg.qr(x, "complete"), -1)


def qr(x: Tensor, mode: str = "reduced") -> QR:
    """Q with orthonormal columns and R upper triangular of x = Q @ R: (Q, R).

    mode  "reduced": Q is (..., m, k), k the smaller size; "complete": (..., m, m); "r": Q is empty
    ValueError in backward() where R, up to its k-th column, is singular.
    """
    x = _matrices("qr", x)
    choice("qr", "mode", mode, ("reduced", "complete", "r"))
    m, n = x.shape[-2:]
    square = mode == "complete" and m > n
    q, r = _qr_parts((_qr_complete if square else _qr)(x[..., : min(m, n)]), min(m, n))
    if m < n:
        r = _core.concatenate([r, q.mT @ x[..., m:]], -1)
    return QR(_core.empty(0, x.dtype) if mode == "r" else q, r)


def _gaps(s: Tensor, used: Tensor) -> Tensor:
    """s_j - s_i, 1 on the diagonal, and everywhere where no gradient needs them."""
    e = s.unsqueeze(-2) - s.unsqueeze(-1)
    return _core.where(_eye(e).bool() | ~used, 1.0, e)


def _used(*gradients: Tensor) -> Tensor:
    """Whether one of them is other than 0."""
    return functools.reduce(_core.logical_or, [(g != 0).any() for g in gradients])


def _svd_parts(y: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """u above s above v; full, u is square, and so is v."""
    m, n = shape[-2:]
    k = min(m, n)
    full = y.shape[-1] > k or m == n
    u, v = y[..., :m, : m if full else k], y[..., m + 1 :, : n if full else k]
    return u, y[..., m, :k], v


def _svd_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    # Townsend 2016, "Differentiating the singular value decomposition".
    (u, s, v), (du, ds, dv) = _svd_parts(y, x.shape), _svd_parts(g, x.shape)
    k = s.shape[-1]
    used = _used(du, dv)
    du, dv, u, v = _turned(u, du, k), _turned(v, dv, k), u[..., :k], v[..., :k]
    a, b, row, gaps = u.mT @ du, v.mT @ dv, s.unsqueeze(-2), _gaps(s.square(), used)
    inner = (a - a.mT) / gaps * row + s.unsqueeze(-1) * ((b - b.mT) / gaps)
    dx = u @ (inner + _eye(a) * ds.unsqueeze(-2)) @ v.mT
    row = _core.where(used, row, 1.0)
    if u.shape[-2] > k:
        dx = dx + ((du - u @ a) / row) @ v.mT
    if v.shape[-2] > k:
        dx = dx + (u / row) @ (dv - v @ b).mT
    return dx


def _packed(x: Any, full: bool) -> Any:
    u, s, v = np.linalg.svd(x, full)
    v = v.swapaxes(-1, -2)
    m, n = x.shape[-2:]
    y = np.zeros((*x.shape[:-2], m + 1 + n, max(u.shape[-1], v.shape[-1])), x.dtype)
    y[..., :m, : u.shape[-1]], y[..., m, : s.shape[-1]], y[..., m + 1 :, : v.shape[-1]] = u, s, v
    return y


_SVD = _svd_vjp, "u @ diag(s) @ v.T = x", "u @ (du, ds, dv) @ v.T"


@_op(lambda x: (*x[:-2], x[-2] + 1 + x[-1], min(x[-2:])), *_SVD)
def _svd(x: Any) -> Any:
    return _packed(x, full=False)


@_op(lambda x: (*x[:-2], x[-2] + 1 + x[-1], max(x[-2:])), *_SVD)
def _svd_full(x: Any) -> Any:
    return _packed(x, full=True)


def svd(x: Tensor, full_matrices: bool = True) -> SVD:
    """U and Vh with orthonormal columns and rows, S falling, of x = U @ diag(S) @ Vh: (U, S, Vh).

    full_matrices  U is (..., m, m) and Vh (..., n, n); else (..., m, k) and (..., k, n), k the
                   smaller size
    Gradients of U and Vh are NaN or infinite where singular values are equal, or 0.
    """
    x = _matrices("svd", x)
    u, s, v = _svd_parts((_svd_full if full_matrices else _svd)(x), x.shape)
    return SVD(u, s, v.mT)


def svdvals(x: Tensor) -> Tensor:
    """The singular values, falling, (..., k)."""
    return svd(x, full_matrices=False).S


def _eigh_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    # Giles 2008, "Collected matrix derivative results", 3.1.
    w, v, dw, dv = y[..., 0, :], y[..., 1:, :], g[..., 0, :], g[..., 1:, :]
    a = v.mT @ dv
    inner, eye = (a - a.mT) / (2 * _gaps(w, _used(dv))), _eye(a)
    return v @ _core.where(eye.bool(), dw.unsqueeze(-2), inner) @ v.mT


_EIGH = (
    lambda x: (*x[:-2], x[-2] + 1, x[-1]),
    _eigh_vjp,
    "v @ diag(w) @ v.T = x",
    "v @ (dw, dv) @ v.T",
)


@_op(*_EIGH)
def _eigh(x: Any) -> Any:
    w, v = np.linalg.eigh(x)
    return np.concatenate([w[..., None, :], v], -2)


@_op(*_EIGH)
def _eigh_upper(x: Any) -> Any:
    w, v = np.linalg.eigh(x, "U")
    return np.concatenate([w[..., None, :], v], -2)


def eigh(x: Tensor, UPLO: str = "L") -> Eigh:  # noqa: N803 - NumPy's name
    """Eigenvalues, rising, and eigenvectors, in columns, of symmetric matrices.

    UPLO  which half of x is looked at: "L", "U"; gradients are of symmetric changes of x
    Gradients of eigenvectors are NaN or infinite where eigenvalues are equal.
    """
    choice("eigh", "UPLO", UPLO, ("L", "U"))
    y = (_eigh if UPLO == "L" else _eigh_upper)(_matrices("eigh", x, square=True))
    return Eigh(y[..., 0, :], y[..., 1:, :])


def eigvalsh(x: Tensor, UPLO: str = "L") -> Tensor:  # noqa: N803 - NumPy's name
    """The eigenvalues of symmetric matrices, rising."""
    return eigh(x, UPLO).eigenvalues


# ---- least squares, ranks


def _pinv_vjp(g: Tensor, y: Tensor, x: Tensor, rtol: Tensor) -> tuple[Tensor, None]:
    # Golub and Pereyra 1973, equation 4.12.
    gt, yt = g.mT, y.mT
    left, right = gt - x @ (y @ gt), gt - (gt @ y) @ x
    return left @ (y @ yt) + (yt @ y) @ right - yt @ g @ yt, None


@_op(lambda x, rtol: (*x[:-2], x[-1], x[-2]), _pinv_vjp, "x^+")
def _pinv(x: Any, rtol: Any) -> Any:
    return np.linalg.pinv(x, rtol)


def pinv(x: Tensor, rtol: float | None = None, hermitian: bool = False) -> Tensor:
    """The pseudo-inverses (..., n, m) of matrices (..., m, n) (Moore, Penrose).

    rtol       singular values below rtol times the largest count as 0; the dtype's eps times the
               larger size, unless given
    hermitian  x is symmetric, and only its lower half is looked at
    """
    x = _mirrored(_matrices("pinv", x, hermitian), hermitian)
    return _pinv(x, _core.full((), _tolerance(x) if rtol is None else rtol, dtype=x.dtype))


def _mirrored(x: Tensor, hermitian: bool) -> Tensor:
    return x.tril() + x.tril(-1).mT if hermitian else x


def _tolerance(x: Tensor) -> float:
    return max(x.shape[-2:]) * float(np.finfo(x.dtype.name).eps)


def matrix_rank(
    x: Tensor,
    atol: float | Tensor | None = None,
    rtol: float | Tensor | None = None,
    hermitian: bool = False,
) -> Tensor:
    """How many singular values are above max(atol, rtol times the largest), int64; no gradient.

    rtol       the dtype's eps times the larger size, unless rtol or atol is given
    hermitian  x is symmetric, and only its lower half is looked at
    """
    x = _mirrored(_matrices("matrix_rank", x.detach(), hermitian), hermitian)
    if not x.numel():
        return _core.zeros(x.shape[:-2], dtype="int64")
    if rtol is None:
        rtol = _tolerance(x) if atol is None else 0.0
    s = svdvals(x)
    least = _core.maximum(s.max(-1) * rtol, 0.0 if atol is None else atol)
    return (s > least.unsqueeze(-1)).sum(-1)


def lstsq(a: Tensor, b: Tensor, rtol: float | None = None) -> Lstsq:
    """x that makes a @ x - b least, and of those the least x: (solution, residuals, rank,
    singular_values).

    a     (..., m, n)
    b     (..., m, k), or a vector (m,)
    rtol  as in pinv
    The residuals are sums of squares (..., k); empty where m <= n.
    """
    a, b = _matrices("lstsq", a, name="a"), _floating("lstsq", b, "b")
    columns = b.unsqueeze(-1) if b.ndim == 1 else b
    if columns.shape[-2] != a.shape[-2]:
        raise ShapeError(f"lstsq: a has shape {a.shape} and b {b.shape}; expected as many rows")
    x = pinv(a, rtol) @ columns
    more = a.shape[-2] > a.shape[-1]
    left = (a @ x - columns).square().sum(-2) if more else _core.empty(0, a.dtype)
    x = x.squeeze(-1) if b.ndim == 1 else x
    return Lstsq(x, left, matrix_rank(a, rtol=rtol), svdvals(a.detach()))


# ---- the exponential


def _exp_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    # Mathias 1996, "A chain rule for matrix functions": exp of [[A, E], [0, A]] has the
    # derivative along E in its upper right corner.
    a, n = x.mT, x.shape[-1]
    rows = [[a, g], [_core.zeros_like(a), a]]
    block = _core.concatenate([_core.concatenate(row, -1) for row in rows], -2)
    return _matrix_exp(block)[..., :n, n:]


@_op(lambda x: x, _exp_vjp, "exp x", "corner of exp [[x.T, g], [0, x.T]]")
def _matrix_exp(x: Any) -> Any:
    # Higham 2005, "The scaling and squaring method for the matrix exponential revisited": the
    # Padé approximant of degree 13.
    a = x.astype("float64")
    size = float(np.abs(a).sum(-2).max(initial=0.0))
    if not math.isfinite(size):
        return np.full_like(x, np.nan)
    halvings = max(0, math.ceil(math.log2(size / 5.37))) if size else 0
    a = a / 2.0**halvings
    q, power = 13, np.broadcast_to(np.eye(a.shape[-1]), a.shape)
    even = odd = np.zeros_like(a)
    for k in range(q + 1):
        c = math.factorial(2 * q - k) * math.factorial(q)
        term = power * (c / (math.factorial(2 * q) * math.factorial(k) * math.factorial(q - k)))
        even, odd = (even, odd + term) if k % 2 else (even + term, odd)
        power = power @ a
    y = np.linalg.solve(even - odd, even + odd)
    for _ in range(halvings):
        y = y @ y
    return y


def matrix_exp(x: Tensor) -> Tensor:
    """The sums of x^n / n! of square matrices; computed in float64."""
    return _matrix_exp(_matrices("matrix_exp", x, square=True))


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
