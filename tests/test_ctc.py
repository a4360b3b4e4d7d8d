"""The CTC loss, compared with PyTorch's and with a sum over all paths."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.testing import assert_close


@pytest.fixture(autouse=True, scope="module")
def oracle() -> None:
    global torch
    torch = pytest.importorskip("torch")


def lattice(seed: int) -> tuple[Any, ...]:
    """Logits, targets, lengths, the blank: with repeats, empty targets, and all that just fit."""
    random = np.random.default_rng(seed)
    n, times, classes = random.integers(1, 5), random.integers(1, 12), random.integers(2, 5)
    blank = int(random.integers(0, classes))
    ends = random.integers(1, times + 1, n)
    sizes = [int(random.integers(0, end + 1)) for end in ends]
    labels = random.integers(0, classes - 1, (n, max(*sizes, 1)))
    labels += labels >= blank
    return random.normal(size=(times, n, classes)) * 2, labels, ends.tolist(), sizes, blank


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("seed", range(40))
def test_as_pytorch(seed: int, reduction: str) -> None:
    logits, labels, ends, sizes, blank = lattice(seed)
    one_row = np.concatenate([row[:size] for row, size in zip(labels, sizes, strict=True)])
    for targets, zero in ((labels, True), (one_row, True), (labels, False)):
        if not zero and reduction != "none":
            continue
        x, y = wg.tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
        ours = nn.CTCLoss(blank, reduction, zero)(
            x.log_softmax(-1), wg.tensor(targets), wg.tensor(ends), sizes
        )
        theirs = torch.nn.CTCLoss(blank, reduction, zero)(
            y.log_softmax(-1), torch.tensor(targets), torch.tensor(ends), torch.tensor(sizes)
        )
        assert_close(ours, theirs.detach().numpy(), 1e-10, 1e-10)
        if zero:
            assert_close(
                wg.grad(ours.sum(), [x])[0],
                torch.autograd.grad(theirs.sum(), y)[0].numpy(),
                1e-9,
                1e-9,
            )


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]


@pytest.mark.parametrize("target", [[], [1], [2, 2], [1, 2, 1]])
def test_all_paths(target: list[int]) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    total = sum(
        np.prod([p[t, c] for t, c in enumerate(path)])
        for path in itertools.product(range(3), repeat=5)
        if collapsed(path) == target
    )
    loss = wg.ctc_loss(
        wg.tensor(np.log(p)), wg.tensor(target, "int64"), [5], [len(target)], reduction="sum"
    )
    assert loss.shape == ()
    assert_close(loss, -math.log(total), 1e-12, 0)


def test_second_order_and_compiled() -> None:
    logits, labels, ends, sizes, blank = lattice(3)

    def loss(x: wg.Tensor) -> wg.Tensor:
        return wg.ctc_loss(x.log_softmax(-1), wg.tensor(labels), ends, sizes, blank, "sum", True)

    assert wg.testing.gradcheck(loss, [wg.tensor(logits)])
    assert wg.testing.gradcheck(loss, [wg.tensor(logits)], order=2)
    # What stands behind a target is not looked at.
    padded = wg.tensor(np.concatenate([labels, np.full_like(labels, -1)], 1))
    x = wg.tensor(logits, "float32")
    assert wg.ctc_loss(x, padded, ends, sizes, blank, "sum", True) == wg.ctc_loss(
        x, wg.tensor(labels), ends, sizes, blank, "sum", True
    )
    assert wg.compile(loss)(x).item() == loss(x).item()


def test_targets_that_do_not_fit() -> None:
    x = wg.zeros((2, 1, 3)).log_softmax(-1).requires_grad_()
    for zero, value in ((False, math.inf), (True, 0.0)):  # a repeat takes a blank between
        loss = wg.ctc_loss(x, wg.tensor([[1, 1]]), [2], [2], zero_infinity=zero)
        assert loss.item() == value
        assert wg.grad(loss, [x])[0].tolist() == np.zeros((2, 1, 3)).tolist()
    assert wg.ctc_loss(x, wg.tensor([[1]]), [0], [0]).item() == 0.0
    assert wg.ctc_loss(x, wg.tensor([[1]]), [0], [1]).item() == math.inf


def test_parts_of_many_times_cost_what_they_are() -> None:
    """The gradient of unbind() is joined by halves: no line has all times but a few."""
    x = wg.ones((64, 2), requires_grad=True)
    program = wg.trace(lambda: sum(t.sum() * i for i, t in enumerate(wg.unbind(x))).backward())()
    whole = [
        line for line in program.lines for v in line.outputs if program.values[v].shape == (64, 2)
    ]
    assert len(whole) < 8
    assert x.grad.tolist() == [[float(i)] * 2 for i in range(64)]


X, Y = wg.zeros((4, 2, 3)), wg.tensor([[1, 2], [2, 1]])
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "input": (lambda: wg.ctc_loss(X, Y, [4, 5], [2, 2]), ValueError, r"input_lengths\[1\] is 5"),
    "target": (lambda: wg.ctc_loss(X, Y, [4, 4], [3, 2]), ValueError, r"target_lengths\[0\] is 3"),
    "less": (lambda: wg.ctc_loss(X, Y, [4, 4], [-1, 2]), ValueError, "is -1; expected 0 to 2"),
    "count": (lambda: wg.ctc_loss(X, Y, [4], [2, 2]), wg.ShapeError, "1 input_lengths for a batch"),
    "sum": (lambda: wg.ctc_loss(X, Y[0], [4, 4], [2, 1]), wg.ShapeError, "add up to 3, and there"),
    "batch": (lambda: wg.ctc_loss(X, Y[:1], [4, 4], [2, 2]), wg.ShapeError, "for a batch of 2"),
    "floats": (lambda: wg.ctc_loss(X, X, [4, 4], [2, 2]), wg.ShapeError, "expected integers"),
    "axes": (lambda: wg.ctc_loss(X[0, 0], Y, [4], [2]), wg.ShapeError, r"\(T, n, C\) or \(T, C\)"),
    "class": (lambda: wg.ctc_loss(X, Y + 1, [4, 4], [2, 2]), IndexError, "not 0 to 2"),
    "negative": (lambda: wg.ctc_loss(X, Y - 2, [4, 4], [2, 2]), IndexError, "not 0 to 2"),
    "blank": (lambda: wg.ctc_loss(X, Y, [4, 4], [2, 2], 3), IndexError, "blank is 3"),
    "reduction": (lambda: wg.ctc_loss(X, Y, [4, 4], [2, 2], 0, "all"), ValueError, "reduction"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_errors(what: str) -> None:
    call, kind, text = ERRORS[what]
    with pytest.raises(kind, match=text):
        call()
