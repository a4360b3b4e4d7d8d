"""wengert.linalg's equations and decompositions: values as NumPy's, gradients to second order,
compiled steps, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import linalg
from wengert.testing import assert_close, gradcheck

SHAPES = [(3, 3), (2, 1, 4, 4), (1, 1), (0, 3, 3), (2, 0, 0)]
WIDE = [*SHAPES, (4, 2), (2, 3, 5), (3, 0)]


def matrices(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Any:
    """Well-conditioned where they are square."""
    a = np.random.default_rng(seed).normal(size=shape)
    if shape[-1] == shape[-2]:
        a = a + 3 * np.eye(shape[-1])
    return a.astype(dtype)


def symmetric(a: Any) -> Any:
    return a @ a.swapaxes(-1, -2) + np.eye(a.shape[-1], dtype=a.dtype)


def flat(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple) else [x]


VALUES: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[tuple[int, ...]]]] = {
    "inv": (linalg.inv, np.linalg.inv, SHAPES),
    "det": (linalg.det, np.linalg.det, SHAPES),
    "slogdet": (linalg.slogdet, np.linalg.slogdet, SHAPES),
    "solve": (lambda x: linalg.solve(x, x[..., :2]), lambda x: np.linalg.solve(x, x[..., :2]),
              SHAPES),
    "cholesky": (lambda x: linalg.cholesky(x @ x.mT), lambda x: np.linalg.cholesky(x @ x.mT),
                 SHAPES),
    "eigh": (lambda x: linalg.eigh(x @ x.mT), lambda x: np.linalg.eigh(x @ x.mT), SHAPES),
    "eigh, upper": (lambda x: linalg.eigh(x, "U"), lambda x: np.linalg.eigh(x, "U"), SHAPES),
    "eigvalsh": (linalg.eigvalsh, np.linalg.eigvalsh, SHAPES),
    "qr": (linalg.qr, np.linalg.qr, SHAPES),
    "qr, complete": (lambda x: linalg.qr(x, "complete"), lambda x: np.linalg.qr(x, "complete"),
                     WIDE),
    "svd": (linalg.svd, np.linalg.svd, WIDE),
    "svd, reduced": (lambda x: linalg.svd(x, False), lambda x: np.linalg.svd(x, False), WIDE),
    "svdvals": (linalg.svdvals, np.linalg.svdvals, WIDE),
    "pinv": (linalg.pinv, lambda x: np.linalg.pinv(x, 1e-5), WIDE[:-1]),
    "matrix_rank": (linalg.matrix_rank, np.linalg.matrix_rank, [*SHAPES[:-1], (4, 2), (2, 3, 5)]),
    "matrix_power": (lambda x: linalg.matrix_power(x, -3),
                     lambda x: np.linalg.matrix_power(x, -3), SHAPES),
    "cond": (linalg.cond, np.linalg.cond, SHAPES[:3]),
    "cond 1": (lambda x: linalg.cond(x, 1), lambda x: np.linalg.cond(x, 1), SHAPES[:3]),
    "norm nuc": (lambda x: linalg.norm(x, "nuc", (-2, -1)),
                 lambda x: np.linalg.norm(x, "nuc", (-2, -1)), WIDE[:3]),
    "norm -2": (lambda x: linalg.matrix_norm(x, -2, keepdims=True),
                lambda x: np.linalg.norm(x, -2, (-2, -1), keepdims=True), WIDE[:3]),
}  # fmt: skip


class Array(np.ndarray[Any, Any]):
    """With mT for NumPy 1."""

    @property
    def mT(self) -> Any:
        return self.swapaxes(-1, -2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.smoke
def test_values_are_numpys(name: str, dtype: str) -> None:
    ours, theirs, shapes = VALUES[name]
    for shape in shapes:
        a = matrices(shape, dtype)
        for x, b in ((wg.tensor(a), a), (wg.tensor(a).mT, a.swapaxes(-1, -2).copy())):
            if x.shape != shape and name not in ("inv", "solve", "det", "svdvals"):
                continue
            for y, z in zip(flat(ours(x)), flat(theirs(b.view(Array))), strict=True):
                z = np.asarray(z)
                assert y.shape == z.shape, (shape, name)
                assert name == "matrix_rank" or y.dtype.name == dtype
                assert_close(
                    y, z.astype(y.dtype.name), *((1e-9, 1e-9), (1e-3, 1e-3))[dtype == "float32"]
                )


def test_whole_numbers_become_float32() -> None:
    x = wg.tensor([[2, 0], [0, 4]])
    assert linalg.inv(x).dtype == wg.float32
    assert linalg.det(x).item() == 8.0
    assert linalg.matrix_rank(wg.tensor([[True, True], [True, True]])).item() == 1


def span(q: Any) -> Any:
    return q @ q.mT


def two(x: Any, k: int) -> tuple[Any, Any]:
    return x[..., :k], span(x[..., k:])


GRADIENTS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "inv": (linalg.inv, (2, 3, 3)),
    "solve": (lambda x: linalg.solve(x, x.mT[..., :2]), (2, 3, 3)),
    "solve, a vector": (lambda x: linalg.solve(x, x[0]), (3, 3)),
    "solve, right": (lambda x: linalg.solve(x, x.mT, left=False), (3, 3)),
    "solve, broadcast": (lambda x: linalg.solve(x[0], x), (2, 3, 3)),
    "solve_triangular": (lambda x: linalg.solve_triangular(x, x.mT, upper=True), (3, 3)),
    "unitriangular": (
        lambda x: linalg.solve_triangular(x / 3, x, upper=False, unitriangular=True), (3, 3)
    ),
    "tensorinv": (lambda x: linalg.tensorinv(x.reshape(2, 2, 4)), (4, 4)),
    "tensorsolve": (lambda x: linalg.tensorsolve(x.reshape(2, 2, 4), x[:2, :2]), (4, 4)),
    "det": (linalg.det, (2, 3, 3)),
    "slogdet": (lambda x: linalg.slogdet(x).logabsdet, (2, 3, 3)),
    "cholesky": (lambda x: linalg.cholesky(x @ x.mT), (2, 3, 3)),
    "cholesky, upper": (lambda x: linalg.cholesky(x @ x.mT, upper=True), (3, 3)),
    "eigh": (lambda x: linalg.eigh(x + x.mT), (2, 3, 3)),
    "eigvalsh": (lambda x: linalg.eigvalsh(x + x.mT, "U"), (3, 3)),
    "qr": (linalg.qr, (2, 3, 3)),
    "qr, tall": (linalg.qr, (4, 2)),
    "qr, wide": (linalg.qr, (2, 4)),
    "qr, complete": (lambda x: (*two(linalg.qr(x, "complete").Q, 2), linalg.qr(x).R), (4, 2)),
    "qr, r": (lambda x: linalg.qr(x, "r").R, (3, 2)),
    "svd": (linalg.svd, (2, 3, 3)),
    "svd, tall": (lambda x: linalg.svd(x, False), (4, 2)),
    "svd, wide": (lambda x: linalg.svd(x, False), (2, 4)),
    "svd, full, tall": (lambda x: two(linalg.svd(x).U, 2), (4, 2)),
    "svd, full, wide": (lambda x: two(linalg.svd(x).Vh.mT, 2), (2, 4)),
    "svdvals": (linalg.svdvals, (2, 3, 4)),
    "pinv": (linalg.pinv, (2, 4, 2)),
    "pinv of a lower rank": (lambda x: linalg.pinv(x @ x.mT), (4, 2)),
    "lstsq": (lambda x: linalg.lstsq(x, x[:, :1] ** 2)[:2], (4, 2)),
    "matrix_exp": (linalg.matrix_exp, (2, 3, 3)),
    "matrix_power": (lambda x: linalg.matrix_power(x, -2), (3, 3)),
    "cond": (linalg.cond, (3, 3)),
    "norm nuc": (lambda x: linalg.matrix_norm(x, "nuc"), (2, 3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_to_second_order_and_compiled(name: str) -> None:
    f, shape = GRADIENTS[name]
    x = wg.tensor(matrices(shape), requires_grad=True)
    assert gradcheck(lambda x: flat(f(x)), [x], order=2, rtol=1e-4, atol=1e-5)

    def step(scale: wg.Tensor) -> tuple[wg.Tensor, ...]:
        y = sum((v * scale).sin().sum() for v in flat(f(x * scale)))
        return y, *wg.grad(y, [x])

    compiled = wg.compile(step)
    for value in (1.0, 1.25, 1.0):
        scale = wg.tensor(value, dtype="float64")
        for a, b in zip(step(scale), compiled(scale), strict=True):
            assert (a == b).all()


def test_equal_values_have_gradients_where_they_are_unique() -> None:
    """Of singular values and eigenvalues, though not of their vectors."""
    eye = wg.eye(3, dtype="float64").requires_grad_()
    assert_close(wg.grad(linalg.matrix_norm(eye, "nuc"), eye), np.eye(3))
    assert_close(wg.grad(linalg.eigvalsh(eye).sum(), eye), np.eye(3))
    zero = wg.zeros((2, 3), dtype="float64", requires_grad=True)
    assert np.isfinite(wg.grad(linalg.svdvals(zero).sum(), zero).numpy()).all()
    g = wg.grad(linalg.eigh(eye).eigenvectors[0, 1], eye)
    assert not np.isfinite(g.numpy()).all()


def test_singular_matrices() -> None:
    x = wg.tensor([[1.0, 2.0], [2.0, 4.0]], dtype="float64", requires_grad=True)
    assert linalg.det(x).item() == 0
    g = wg.grad(linalg.det(x), x, create_graph=True)
    assert_close(g, np.array([[4.0, -2.0], [-2.0, 1.0]]))
    with pytest.raises(ValueError, match="inv: a matrix of x"):
        wg.grad(g.square().sum(), x)
    sign, size = linalg.slogdet(x)
    assert (sign.item(), size.item()) == (0.0, -math.inf)
    assert linalg.matrix_rank(x).item() == 1
    assert_close(linalg.lstsq(x, x[0]).solution, np.linalg.lstsq(x.detach().numpy(), [1.0, 2.0])[0])
    assert linalg.cond(x).item() > 1e15


def test_the_exponential() -> None:
    for scale in (0.0, 1e-3, 1.0, 30.0):
        w, v = np.linalg.eigh(symmetric(matrices((4, 4))) * scale)
        expected = (v * np.exp(w - w.max())) @ v.T
        found = linalg.matrix_exp(wg.tensor((v * (w - w.max())) @ v.T))
        assert_close(found, expected, 1e-9, 1e-9)
    assert np.isnan(linalg.matrix_exp(wg.full((2, 2), math.inf)).numpy()).all()


def test_lstsq() -> None:
    a, b = matrices((5, 2)), matrices((5, 3), seed=1)
    found, expected = linalg.lstsq(wg.tensor(a), wg.tensor(b)), np.linalg.lstsq(a, b)
    for y, z in zip(found, expected, strict=True):
        assert_close(y, np.asarray(z).astype(y.dtype.name), 1e-9, 1e-9)
    assert linalg.lstsq(wg.tensor(a), wg.tensor(b[:, 0])).residuals.shape == (1,)


def test_a_study_and_a_training_step() -> None:
    w = wg.tensor(matrices((3, 3)), requires_grad=True)
    optimizer = wg.optim.SGD([w], lr=0.01)

    @wg.compile
    def step(x: wg.Tensor) -> wg.Tensor:
        optimizer.zero_grad()
        loss = (linalg.inv(w) @ x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(wg.ones((3, 1), dtype="float64")).item() for _ in range(20)]
    assert losses[-1] < losses[0]
    w.detach().fill_(0.0)
    with pytest.raises(ValueError, match="inv: a matrix of x, of shape \\(3, 3\\), is singular"):
        step(wg.ones((3, 1), dtype="float64"))
    assert (w == 0).all()


X, S = wg.zeros((2, 3)), wg.zeros((2, 2))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: linalg.inv(X), wg.ShapeError, r"inv: x has shape \(2, 3\); expected square"),
        (lambda: linalg.inv(S), ValueError, "singular; use pinv or lstsq, or add"),
        (lambda: linalg.inv(S.bfloat16()), wg.DTypeError, r"inv: x is bfloat16; write x.float\(\)"),
        (lambda: linalg.svd(wg.zeros(3)), wg.ShapeError, r"svd: x has shape \(3,\)"),
        (lambda: linalg.svd(wg.full((2, 2), math.nan)), ValueError, "svd.*has NaN or infinity"),
        (lambda: linalg.solve(S, X), ValueError, "solve: a matrix of a.* is singular"),
        (lambda: linalg.solve(S, wg.ones((3, 2))), wg.ShapeError, "as many rows"),
        (lambda: linalg.solve(S, X.double()), wg.DTypeError, "a is float32 and b float64"),
        (lambda: linalg.cholesky(-wg.eye(2)), ValueError, "cholesky: .* not positive definite"),
        (lambda: linalg.eigh(S, "l"), ValueError, "eigh: UPLO is"),
        (lambda: linalg.qr(S, "full"), ValueError, "qr: mode is"),
        (lambda: linalg.tensorinv(X), wg.ShapeError, "tensorinv: x has shape"),
        (lambda: linalg.tensorsolve(X, wg.ones(2)), wg.ShapeError, "tensorsolve: a has shape"),
        (lambda: linalg.lstsq(X, wg.ones(3)), wg.ShapeError, "lstsq: a has shape"),
        (lambda: linalg.matrix_norm(X, "two"), ValueError, "matrix_norm: ord is 'two'"),
        (lambda: linalg.eig(X), AttributeError, "there is none yet"),
    ],
)  # fmt: skip
def test_bad_input(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_ctrl_c_in_a_decomposition_is_no_value_error(monkeypatch: pytest.MonkeyPatch) -> None:
    x = wg.eye(3)
    wg.linalg.inv(x)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np.linalg, "inv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wg.linalg.inv(x * 2)
    assert wg.linalg.inv(x * 2).tolist() == (np.eye(3) / 2).tolist()
