"""Recurrent layers and cells compared with PyTorch's of the same state."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from test_transformer import make

import wengert as wg
from wengert import nn
from wengert.testing import assert_close

N, L, D, H = 2, 4, 3, 5

LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True}),
    ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("LSTM", {"bias": False, "num_layers": 3}),
    ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
    ("GRU", {}),
    ("GRU", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("GRU", {"bias": False}),
]


def flat(y: Any) -> list[Any]:
    return [t for part in y for t in flat(part)] if isinstance(y, tuple) else [y]


def compare(ours: Any, theirs: Any, inputs: list[np.ndarray], pair: bool) -> None:
    """Values, gradients of inputs, states and parameters; compiled, the bits of eager. Inputs after
    the first are the state."""
    import torch

    def call(module: Any, xs: list[Any]) -> list[Any]:
        state = [] if len(xs) == 1 else [(xs[1], xs[2])] if pair else [xs[1]]
        return flat(module(xs[0], *state))

    def run(library: Any, module: Any) -> list[Any]:
        xs = [library.tensor(x) for x in inputs]
        for x in xs:
            x.requires_grad_()
        ys = call(module, xs)
        leaves = [*xs, *module.parameters()]
        grad = wg.grad if library is wg else library.autograd.grad
        return [*ys, *grad(sum((y * y * y).sum() for y in ys), leaves)]

    for a, b in zip(run(wg, ours), run(torch, theirs), strict=True):
        assert a.shape == tuple(b.shape)
        assert_close(a, b.detach().numpy(), 1e-9, 1e-10)

    def step(*xs: wg.Tensor) -> tuple[wg.Tensor, ...]:
        ys = call(ours, list(xs))
        return (*ys, *wg.grad(sum(y.sum() for y in ys), list(ours.parameters())))

    compiled = wg.compile(step)
    for shift in range(3):
        xs = [wg.tensor(x + shift) for x in inputs]
        for a, b in zip(compiled(*xs), step(*xs), strict=True):
            assert np.array_equal(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(("name", "options"), LAYERS, ids=str)
def test_layers(name, options, given, batch) -> None:
    ours, theirs = make(name, D, H, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    rng = np.random.default_rng(1)
    shape = (L, D) if not batch else (N, L, D) if options.get("batch_first") else (L, N, D)
    inputs = [rng.normal(size=shape)]
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    sizes = [options.get("proj_size") or H, *([H] if name == "LSTM" else [])]
    if given:
        inputs += [rng.normal(size=(count, N, s) if batch else (count, s)) for s in sizes]
    compare(ours, theirs, inputs, name == "LSTM")


CELLS = [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu", "bias": False}), ("LSTMCell", {}),
         ("LSTMCell", {"bias": False}), ("GRUCell", {}), ("GRUCell", {"bias": False})]  # fmt: skip


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(("name", "options"), CELLS, ids=str)
def test_cells(name, options, given, batch) -> None:
    ours, theirs = make(name, D, H, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    rng = np.random.default_rng(1)
    n = (N,) if batch else ()
    states = [rng.normal(size=(*n, H)) for _ in range(1 + (name == "LSTMCell"))]
    compare(ours, theirs, [rng.normal(size=(*n, D)), *(states if given else [])], len(states) == 2)


def test_dropout_start_and_learning() -> None:
    layer = nn.LSTM(D, 8, 2, dropout=0.5, generator=wg.Generator(0))
    x = wg.tensor(np.random.default_rng(0).normal(size=(L, N, D)), "float32")
    assert layer(x)[0].tolist() != layer(x)[0].tolist()
    layer.eval()
    assert layer(x)[0].tolist() == layer(x)[0].tolist()
    start = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])
    bound = 1 / np.sqrt(8)
    assert abs(start).max() <= bound and abs(start.std() - bound / np.sqrt(3)) < 0.02
    # The sign of the first input is remembered to the end.
    rng = np.random.default_rng(0)
    gru, head = nn.GRU(1, 8, generator=wg.Generator(1)), nn.Linear(8, 1, generator=wg.Generator(2))
    optimizer = wg.optim.Adam([*gru.parameters(), *head.parameters()], lr=0.02)

    @wg.compile
    def step(x: wg.Tensor, t: wg.Tensor) -> wg.Tensor:
        loss = wg.binary_cross_entropy_with_logits(head(gru(x)[0][-1]).squeeze(1), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    for _ in range(150):
        data = rng.normal(size=(6, 32, 1)).astype("float32")
        losses.append(step(wg.tensor(data), wg.tensor((data[0, :, 0] > 0) * 1.0, "float32")).item())
    assert np.mean(losses[:5]) > 0.6 and np.mean(losses[-10:]) < 0.35


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_layer_is_one_line_and_the_same_as_its_cell(name: str, count: int) -> None:
    """Of few and many sequences, whose products go other ways; for any number of threads."""
    layer, cell = getattr(nn, name)(7, 150), getattr(nn, f"{name}Cell")(7, 150)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x = wg.randn((6, count, 7), generator=wg.Generator(3)).requires_grad_()

    def results(parameters: Any, y: wg.Tensor) -> list[wg.Tensor]:
        return [y, *wg.grad((y * y).sum(), [x, *parameters])]

    found = results(layer.parameters(), layer(x)[0])
    threads = wg.num_threads()
    try:
        for n in (1, 3):
            wg.set_num_threads(n)
            for a, b in zip(found, results(layer.parameters(), layer(x)[0]), strict=True):
                assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    finally:
        wg.set_num_threads(threads)
    state, ys = None, []
    for one in x:
        state = cell(one, state)
        ys.append(state[0] if name == "LSTM" else state)
    for a, b in zip(found, results(cell.parameters(), wg.stack(ys)), strict=True):
        assert_close(a.detach(), b.detach().numpy(), 1e-4, 1e-5)
    ops = [line.op for line in wg.trace(layer)(x).lines]
    assert ops.count({"RNN": "rnn_tanh"}.get(name, name.lower())) == 1
    assert "tanh" not in ops and "sigmoid" not in ops


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_numpy_code_of_a_layer(name: str) -> None:
    layer = getattr(nn, name)(3, 4, bidirectional=True, dtype="float64")
    x = wg.randn((3, 2, 3), "float64", generator=wg.Generator(0)).requires_grad_()

    def step() -> None:
        y, _state = layer(x)
        (y * y).sum().backward()

    program = wg.trace(step)()
    scope: dict[str, Any] = {}
    exec(program.to_numpy(), scope)
    run, inputs = program.run(), inspect.signature(scope["step"]).parameters
    names = {re.sub(r"\W+", "_", v.name).strip("_"): v.number for v in program.values}
    _, gradients = scope["step"](**{name: run.array(names[name]) for name in inputs})
    expected = program.gradients()
    assert gradients.keys() == expected.keys() and len(gradients) == 9
    for leaf, g in gradients.items():
        np.testing.assert_allclose(g, expected[leaf], rtol=1e-10, atol=1e-12)


ERRORS = [
    (
        lambda: wg._core._recurrent("gru", [wg.ones((2, 1, 6)), *[wg.ones((6, 2))] * 3], False),
        r"gru: x has shape \(2, 1, 6\), w \(6, 2\) and h \(6, 2\); expected \(T, n, 3 \* h\)",
    ),
    (lambda: nn.LSTM(3, 5)(wg.ones((2, 4))), r"LSTM .*input has shape \(2, 4\); .*\(L, n, 3\)"),
    (lambda: nn.GRU(3, 5)(wg.ones((0, 2, 3))), r"GRU .*input has shape \(0, 2, 3\)"),
    (
        lambda: nn.GRU(3, 5)(wg.ones((4, 2, 3)), wg.ones((1, 2, 4))),
        r"GRU .*a state is \(1, 2, 4\); expected shape \(1, 2, 5\)",
    ),
    (lambda: nn.LSTM(3, 5, 0), "LSTM: num_layers is 0"),
    (lambda: nn.LSTM(3, 5, proj_size=5), "LSTM: proj_size is 5"),
    (lambda: nn.RNN(3, 5, nonlinearity="gelu"), "RNN: nonlinearity .*gelu"),
    (lambda: nn.GRUCell(3, 5)(wg.ones(4)), r"GRUCell .*input has shape \(4,\)"),
    (lambda: nn.LSTM(3, 5)(wg.ones((4, 2, 3)), (1, 2)), r"LSTM .*a state is int"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, text = ERRORS[case]
    with pytest.raises(ValueError, match=text):
        call()
