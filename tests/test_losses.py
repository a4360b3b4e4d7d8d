"""Losses compared with PyTorch's, over their options: values, gradients, second order, compiled;
limits at infinities and zeros; errors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.testing import assert_close

F = wg.nn.functional
N, C = 6, 4
REDUCTIONS = ("mean", "sum", "none")


def draw(name: str, rng: np.random.Generator) -> Any:
    """An input by its name: what it is, then its shape in the tests below."""
    made = {
        "x": lambda: rng.normal(size=(N, C)) * 2,
        "unit": lambda: rng.uniform(0.05, 0.95, (N, C)),
        "positive": lambda: rng.uniform(0.1, 4, (N, C)),
        "counts": lambda: rng.integers(1, 5, (N, C)).astype("float64"),
        "sign": lambda: rng.choice([-1.0, 1.0], (N, C)),
        "signs": lambda: rng.choice([-1.0, 1.0], N),
        "logs": lambda: np.log(rng.dirichlet(np.ones(C), N)),
        "probabilities": lambda: rng.dirichlet(np.ones(C), N),
        "classes": lambda: rng.integers(0, C, N),
        "weights": lambda: rng.uniform(0.5, 2, C),
        "of some": lambda: np.array([[1, 3, -1, 0], [-1, 2, 2, 2], [0, 1, 2, 3]] * 2),
        "vars": lambda: rng.uniform(0.1, 2, N),
        "few vars": lambda: np.array([[0.5, 2.0, 0.0, 1e-9]] * N),
        "one var": lambda: rng.uniform(0.1, 2, (N, 1)),
        "images": lambda: rng.normal(size=(2, C, 3, 2)),
        "log images": lambda: np.log(rng.dirichlet(np.ones(C), (2, 3, 2)).transpose(0, 3, 1, 2)),
        "pixels": lambda: np.array([[[0, -100], [3, 1], [2, 2]], [[1, 1], [-100, 0], [3, -100]]]),
        "soft pixels": lambda: rng.dirichlet(np.ones(C), (2, 3, 2)).transpose(0, 3, 1, 2),
        "row": lambda: rng.normal(size=C),
        "log row": lambda: np.log(rng.dirichlet(np.ones(C))),
        "class": lambda: np.array(2),
        "some": lambda: np.array([0, -100, 1, 3, -100, 2]),
        "some of 1": lambda: np.array([0, 1, 1, 3, 1, 2]),
    }
    return np.array(made[name](), order="C")


# Function, its inputs, its options. A "NAME=" among the inputs is the name of the next one.
CASES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("l1_loss", ["x", "x"], {}),
    *[("smooth_l1_loss", ["x", "x"], {"beta": b}) for b in (0.0, 0.5, 1.0, 3.0)],
    *[("huber_loss", ["x", "x"], {"delta": d}) for d in (0.5, 1.0, 3.0)],
    ("mse_loss", ["x", "x"], {}),
    ("nll_loss", ["logs", "classes"], {}),
    ("nll_loss", ["logs", "some"], {}),
    ("nll_loss", ["logs", "some of 1", "weights"], {"ignore_index": 1}),
    ("nll_loss", ["log images", "pixels"], {}),
    ("nll_loss", ["log images", "pixels", "weights"], {}),
    ("nll_loss", ["log row", "class", "weights"], {}),
    ("binary_cross_entropy", ["unit", "unit"], {}),
    ("binary_cross_entropy", ["unit", "unit", "positive"], {}),
    ("binary_cross_entropy", ["unit", "unit", "weights"], {}),
    ("binary_cross_entropy_with_logits", ["x", "unit", "weights"], {}),
    ("binary_cross_entropy_with_logits", ["x", "unit", "pos_weight=", "weights"], {}),
    ("binary_cross_entropy_with_logits", ["x", "unit", "positive", "pos_weight=", "weights"], {}),
    ("kl_div", ["logs", "probabilities"], {}),
    ("kl_div", ["logs", "logs"], {"log_target": True}),
    *[
        ("poisson_nll_loss", [first, "counts"], {"log_input": first == "x", "full": full})
        for first in ("x", "positive")
        for full in (False, True)
    ],
    *[
        ("gaussian_nll_loss", ["x", "x", var], {"full": full})
        for var in ("positive", "vars", "one var", "few vars")
        for full in (False, True)
    ],
    *[("hinge_embedding_loss", ["x", "sign"], {"margin": m}) for m in (1.0, 0.3)],
    ("soft_margin_loss", ["x", "sign"], {}),
    *[("margin_ranking_loss", ["x", "x", "sign"], {"margin": m}) for m in (0.0, 0.7)],
    *[
        ("multi_margin_loss", ["x", "classes", *w], {"p": p, "margin": m})
        for p in (1, 2)
        for m in (1.0, 0.4)
        for w in ([], ["weight=", "weights"])
    ],
    ("multi_margin_loss", ["row", "class"], {}),
    ("multilabel_margin_loss", ["x", "of some"], {}),
    ("multilabel_soft_margin_loss", ["x", "unit"], {}),
    ("multilabel_soft_margin_loss", ["x", "unit", "weights"], {}),
    *[("cosine_embedding_loss", ["x", "x", "signs"], {"margin": m}) for m in (0.0, -0.5)],
    *[
        ("triplet_margin_loss", ["x", "x", "x"], {"p": p, "swap": swap, "margin": 2.0})
        for p in (1.0, 2.0, 3.0)
        for swap in (False, True)
    ],
    *[
        ("cross_entropy", given, {"label_smoothing": s})
        for s in (0.0, 0.1)
        for given in (
            ["x", "classes"],
            ["x", "some"],
            ["x", "classes", "weights"],
            ["x", "some", "weights"],
            ["x", "probabilities", "weights"],
            ["images", "pixels"],
            ["images", "pixels", "weights"],
            ["images", "soft pixels"],
            ["images", "soft pixels", "weights"],
            ["row", "class"],
            ["row", "class", "weights"],
            ["log row", "row"],
        )
    ],
    ("cross_entropy", ["x", "some of 1"], {"ignore_index": 1, "label_smoothing": 0.2}),
    ("cross_entropy", ["x", "some of 1", "weights"], {"ignore_index": 1, "label_smoothing": 0.2}),
]
MODULES = {
    "binary_cross_entropy": "BCELoss", "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "cross_entropy": "CrossEntropyLoss", "kl_div": "KLDivLoss", "l1_loss": "L1Loss",
    "mse_loss": "MSELoss", "nll_loss": "NLLLoss", "poisson_nll_loss": "PoissonNLLLoss",
    "gaussian_nll_loss": "GaussianNLLLoss", "smooth_l1_loss": "SmoothL1Loss",
    "multilabel_margin_loss": "MultiLabelMarginLoss",
    "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss",
}  # fmt: skip


def arguments(names: list[str], rng: np.random.Generator) -> tuple[list[Any], dict[str, Any]]:
    """(positional, by name), as arrays."""
    given: list[Any] = []
    named: dict[str, Any] = {}
    key = ""
    for name in names:
        if name.endswith("="):
            key = name[:-1]
        elif key:
            named[key], key = draw(name, rng), ""
        else:
            given.append(draw(name, rng))
    return given, named


def results(
    library: Any,
    function: Any,
    given: list[Any],
    named: dict[str, Any],
    at: Any,
    differ: int = 2,
    orders: int = 2,
) -> Any:
    """Value, gradients of the first inputs, and those of the sum of the gradients' squares."""
    make = library.tensor
    inputs = [make(a) for a in given]
    extra = {k: make(v) if isinstance(v, np.ndarray) else v for k, v in named.items()}
    leaves = [x for x in inputs[:differ] if x.dtype.is_floating_point]
    for x in leaves:
        x.requires_grad_()
    y = function(*inputs, **extra)
    grad = wg.grad if library is wg else library.autograd.grad
    total = (y * make(np.resize(at, tuple(y.shape)))).sum()
    found = [y]
    for order in range(orders):
        more = order + 1 < orders
        g = grad(total, leaves, create_graph=more, allow_unused=True)
        found += [x * 0 if dx is None else dx for dx, x in zip(g, leaves, strict=True)]
        # A sum with the leaves, so that there is always a second order.
        total = sum((dx * dx).sum() for dx in g if dx is not None)
        total = total + sum((x * x).sum() for x in leaves)
    return [x.detach().numpy() for x in found]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{'-'.join(c[1])}-{c[2]}")
def test_against_torch(case: Any) -> None:
    torch = pytest.importorskip("torch")
    name, inputs, options = case
    given, named = arguments(inputs, np.random.default_rng(len(inputs)))
    at = np.random.default_rng(7).normal(size=64)
    for reduction in (*REDUCTIONS, *(["batchmean"] if name == "kl_div" else [])):
        more = {**named, **options, "reduction": reduction}
        differ = 1 if name == "soft_margin_loss" else 2  # for PyTorch
        orders = 1 if name in ("multi_margin_loss", "multilabel_margin_loss") else 2  # likewise
        ours = results(wg, getattr(wg, name), given, more, at, differ, orders)
        theirs = results(torch, getattr(torch.nn.functional, name), given, more, at, differ, orders)
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            assert_close(a, b, 1e-9, 1e-9, equal_nan=True, message=f"{reduction}")
        # The module gives the function's bits.
        module = MODULES.get(name, "".join(map(str.capitalize, name.split("_")))[:-4] + "Loss")
        weights = {k: wg.tensor(v) for k, v in named.items()}
        takes = 3 if name in ("gaussian_nll_loss", "margin_ranking_loss", "triplet_margin_loss",
                              "cosine_embedding_loss") else 2  # fmt: skip
        if len(given) > takes:
            weights["weight"] = wg.tensor(given[takes])
        loss = getattr(nn, module)(**options, **weights, reduction=reduction)
        assert set(loss.state_dict()) == set(weights)
        again = loss(*(wg.tensor(a) for a in given[:takes]))
        assert np.array_equal(again.numpy(), ours[0], equal_nan=True)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{'-'.join(c[1])}-{c[2]}")
def test_compiled_gives_the_bits_of_eager(case: Any) -> None:
    name, inputs, options = case
    if any(some in inputs for some in ("some", "pixels")):
        options = {**options, "ignore_index": -100}
    rng = np.random.default_rng(3)
    function = getattr(wg, name)

    def step(leaf: wg.Tensor, others: Any, named: Any) -> tuple[wg.Tensor, wg.Tensor]:
        leaf.requires_grad_()
        y = function(leaf, *others, **named, **options)
        return y, wg.grad(y, [leaf])[0]

    compiled = wg.compile(step)
    for _ in range(3):
        given, named = arguments(inputs, rng)
        x, *others = map(wg.tensor, given)
        extra = {k: wg.tensor(v) for k, v in named.items()}
        eager = [t.detach().numpy().copy() for t in step(x.clone(), others, extra)]
        found = [t.detach().numpy().copy() for t in compiled(x.clone(), others, extra)]
        for a, b in zip(eager, found, strict=True):
            assert np.array_equal(a, b, equal_nan=True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_focal_loss(rng) -> None:
    """Against its formula: there is none in PyTorch itself."""
    x, t = rng.normal(size=(5, 3)) * 3, rng.integers(0, 2, (5, 3)).astype("float64")
    p = 1 / (1 + np.exp(-x))
    right = np.where(t == 1, p, 1 - p)
    for alpha, gamma in itertools.product((0.25, -1.0, 0.9), (2.0, 0.0, 1.5)):
        side = np.where(t == 1, alpha, 1 - alpha) if alpha >= 0 else 1.0
        expected = -side * (1 - right) ** gamma * np.log(right)
        found = wg.sigmoid_focal_loss(wg.tensor(x), wg.tensor(t), alpha, gamma)
        assert_close(found, expected, 1e-12, 1e-12)
        assert wg.testing.gradcheck(
            lambda x, a=alpha, g=gamma: wg.sigmoid_focal_loss(x, wg.tensor(t), a, g, "mean"),
            [wg.tensor(x)],
        )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_similarity_and_distance(axis, rng) -> None:
    torch = pytest.importorskip("torch")
    a, b = rng.normal(size=(4, 3, 5)), rng.normal(size=(4, 3, 5))
    a[0], b[:, :, 1] = 0.0, 1e-12
    at = rng.normal(size=60)
    ours = results(wg, lambda x, y: wg.cosine_similarity(x, y, axis), [a, b], {}, at)
    theirs = results(
        torch, lambda x, y: torch.nn.functional.cosine_similarity(x, y, axis), [a, b], {}, at
    )
    for x, y in zip(ours[:2], theirs[:2], strict=True):
        assert_close(x, y, 1e-9, 1e-9)
    assert np.array_equal(nn.CosineSimilarity(axis)(wg.tensor(a), wg.tensor(b)).numpy(), ours[0])
    table = wg.cosine_similarity(wg.tensor(a[0, :, None]), wg.tensor(b[0, None]), -1)
    assert table.shape == (3, 3)
    for few, at_axis in (
        (a[:1, :, :1], 1),
        (a[:1, :1], -2),
        (a[1], 0),
    ):  # the axis itself is spread
        ours = wg.cosine_similarity(wg.tensor(few), wg.tensor(b), at_axis)
        theirs = torch.nn.functional.cosine_similarity(torch.tensor(few), torch.tensor(b), at_axis)
        assert_close(ours, theirs.numpy(), 1e-12, 1e-12)
    for p, keep in itertools.product((1.0, 2.0, 3.5, math.inf), (False, True)):
        ours = results(wg, nn.PairwiseDistance(p, keepdims=keep), [a, b], {}, at)
        theirs = results(torch, torch.nn.PairwiseDistance(p, keepdim=keep), [a, b], {}, at)
        for x, y in zip(ours[:3], theirs[:3], strict=True):
            assert_close(x, y, 1e-9, 1e-9)
    same = wg.tensor(a[1], requires_grad=True)
    wg.pairwise_distance(same, same.detach(), eps=0.0).sum().backward()
    assert np.array_equal(same.grad.numpy(), np.zeros((3, 5)))


INF = math.inf
LIMITS = [
    # what is 0, however infinite the other factor is
    (lambda x: wg.nll_loss(x, wg.tensor([0, -100])), [[-1.0, -INF], [-INF, -INF]], 1.0),
    (
        lambda x: wg.nll_loss(x, wg.tensor([0, 1]), wg.tensor([1.0, 0.0])),
        [[-1.0, -INF], [-2.0, -INF]],
        1.0,
    ),
    (
        lambda x: wg.cross_entropy(x, wg.tensor([0, 1]), wg.tensor([1.0, 0.0])),
        [[0.0, -INF], [0.0, -INF]],
        0.0,
    ),
    (lambda x: wg.kl_div(x, wg.tensor([[1.0, 0.0]]), "sum"), [[-1.0, -INF]], 1.0),
    (lambda x: wg.kl_div(x, wg.tensor([[0.0, -INF]]), "sum", True), [[-1.0, -INF]], 1.0),
    (lambda x: wg.poisson_nll_loss(x, wg.tensor([0.0, 1.0]), full=True), [-INF, 0.0], 0.5),
    (
        lambda x: wg.binary_cross_entropy_with_logits(
            x, wg.tensor([1.0, 0.0]), pos_weight=wg.tensor(2.0)
        ),
        [INF, -INF],
        0.0,
    ),
    (lambda x: wg.binary_cross_entropy(x, wg.tensor([0.0, 1.0, 1.0])), [0.0, 1.0, 0.0], 100 / 3),
    (lambda x: wg.sigmoid_focal_loss(x, wg.tensor([1.0, 0.0])).sum(), [INF, -INF], 0.0),
    (lambda x: wg.smooth_l1_loss(x, wg.tensor([0.0, 0.0])), [INF, 1.0], INF),
    (lambda x: wg.huber_loss(x, wg.tensor([0.0, 0.0])), [-INF, 1.0], INF),
    (lambda x: wg.l1_loss(x, wg.tensor([0.0, 0.0])), [-INF, 0.0], INF),
    (lambda x: wg.soft_margin_loss(x, wg.tensor([1.0, -1.0])), [INF, -INF], 0.0),
]


@pytest.mark.parametrize("case", range(len(LIMITS)))
def test_limits(case) -> None:
    function, values, expected = LIMITS[case]
    x = wg.tensor(values, "float64", requires_grad=True)
    y = function(x)
    assert y.item() == pytest.approx(expected)
    y.backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_ignored_targets() -> None:
    x = wg.tensor(np.random.default_rng(0).normal(size=(3, 4)), requires_grad=True)
    none = wg.tensor([-100, -100, -100])
    for loss in (wg.cross_entropy, wg.nll_loss):
        assert math.isnan(loss(x, none).item())
        assert loss(x, none, reduction="sum").item() == 0.0
        with pytest.raises(IndexError, match=r"-1|that is not 0 to 3"):
            loss(x, wg.tensor([-100, 0, -1]))
        with pytest.raises(IndexError, match=r"-100|that is not 0 to 3"):
            loss(x, wg.tensor([-100, 0, 1]), ignore_index=-1)
    with pytest.raises(IndexError, match="write ignore_index=-100"):
        step = wg.compile(lambda: wg.cross_entropy(x, none))
        for _ in range(2):  # the first call is eager
            step()
    # The plain case is one kernel and a mean, and has the bits of the general one.
    t = wg.tensor([1, 0, 3])
    for reduction in REDUCTIONS:
        plain = wg.cross_entropy(x, t, reduction=reduction)
        general = wg.cross_entropy(x, t, ignore_index=-1, reduction=reduction)
        assert_close(plain, general.detach().numpy(), 1e-15)
    step = wg.trace(lambda: wg.cross_entropy(x.detach(), t))()
    assert [line.op for line in step.lines] == ["cross_entropy", "mean"]
    compiled = wg.compile(lambda x, t: wg.cross_entropy(x, t, ignore_index=-1))
    for given in ([1, 0, 3], [-1, 0, 3], [2, -1, -1]):
        expected = wg.cross_entropy(x.detach(), wg.tensor(given), ignore_index=-1).item()
        assert compiled(x.detach(), wg.tensor(given)).item() == expected


ERRORS = [
    (
        lambda x: wg.cross_entropy(x, x, "sum"),
        TypeError,
        r"cross_entropy: weight .*reduction='sum'",
    ),
    (
        lambda x: wg.cross_entropy(x, x, wg.ones(3)),
        wg.ShapeError,
        r"weight has shape \(3,\).*\(4,\)",
    ),
    (lambda x: wg.nll_loss(x, x), wg.ShapeError, r"nll_loss: .*indices of shape \(6,\)"),
    (lambda x: wg.nll_loss(x, wg.ones(6)), wg.DTypeError, r"nll_loss: .*float32.*class indices"),
    (lambda x: wg.l1_loss(x, x[:, :1]), wg.ShapeError, r"l1_loss: .*\(6, 4\).*\(6, 1\)"),
    (lambda x: wg.l1_loss(x, x, "average"), ValueError, r"l1_loss: reduction .*average"),
    (lambda x: wg.l1_loss(x, 3.0), TypeError, r"l1_loss: target is 3.0 .*expected a"),
    (lambda x: wg.smooth_l1_loss(x, x, beta=-1.0), ValueError, "beta is -1"),
    (lambda x: wg.huber_loss(x, x, delta=0.0), ValueError, "delta is 0"),
    (lambda x: wg.binary_cross_entropy(x, x, wg.ones(3)), wg.ShapeError, r"weight .*broadcast"),
    (lambda x: wg.multi_margin_loss(x, wg.zeros(6, "int64"), p=3), ValueError, "p is 3"),
    (lambda x: wg.multi_margin_loss(x, wg.zeros(4, "int64")), wg.ShapeError, "multi_margin_loss"),
    (lambda x: wg.gaussian_nll_loss(x, x, wg.ones(3)), wg.ShapeError, r"var of shape \(3,\)"),
    (lambda x: wg.cosine_embedding_loss(x, x, wg.ones(4)), wg.ShapeError, r"expected \(n, d\)"),
    (lambda x: wg.triplet_margin_loss(x, x, x[0]), wg.ShapeError, "triplet_margin_loss"),
    (lambda x: wg.pairwise_distance(x, x, 0.0), ValueError, "pairwise_distance: p is 0"),
    (lambda x: wg.cross_entropy(x.sum(), x), wg.ShapeError, "cross_entropy"),
    (lambda x: nn.NLLLoss([1.0]), TypeError, "NLLLoss: weight is .*expected"),
    (lambda x: nn.CrossEntropyLoss("sum"), TypeError, "reduction='sum'"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case) -> None:
    call, error, text = ERRORS[case]
    with pytest.raises(error, match=text):
        call(wg.zeros((N, C)))
    assert math.isnan(wg.gaussian_nll_loss(wg.ones(1), wg.ones(1), wg.full(1, -1.0)).item())
    assert math.isnan(wg.binary_cross_entropy(wg.full(1, 1.5), wg.zeros(1)).item())


def test_weights_of_losses_move_and_are_saved() -> None:
    loss = nn.CrossEntropyLoss(wg.ones(C), label_smoothing=0.1).double()
    assert loss.weight.dtype == wg.float64 and list(loss.state_dict()) == ["weight"]
    x, t = wg.zeros((N, C), "float64"), wg.zeros(N, "int64")
    compiled = wg.compile(loss)
    before = compiled(x, t).item()
    loss.label_smoothing = 0.9
    loss.weight = wg.tensor([1.0, 2.0, 3.0, 4.0], "float64")
    assert compiled(x, t).item() == loss(x, t).item() != before
