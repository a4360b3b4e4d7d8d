"""Packed and padded sequences, alone and through recurrent layers, compared with PyTorch's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)
from wengert.testing import assert_close

LENGTHS = [[5], [4, 4, 4], [6, 3, 3, 1], [2, 6, 1, 6, 3]]


@pytest.fixture(autouse=True, scope="module")
def oracle() -> None:
    global torch, theirs
    torch = pytest.importorskip("torch")
    theirs = torch.nn.utils.rnn


def same(a: Any, b: Any) -> None:
    """Tensors, or tuples of them, or None."""
    if isinstance(b, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif b is None:
        assert a is None
    else:
        assert_close(a, b.detach().numpy(), 1e-12, 1e-12)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_packing(lengths: list[int], batch_first: bool) -> None:
    n, length = len(lengths), max(lengths) + 1
    x = np.random.default_rng(0).normal(size=(n, length, 2) if batch_first else (length, n, 2))
    ordered = lengths == sorted(lengths, reverse=True)
    for enforce in {ordered, False}:
        ours, other = (
            lib(of(x), of(lengths), batch_first, enforce)
            for lib, of in (
                (pack_padded_sequence, wg.tensor),
                (theirs.pack_padded_sequence, torch.tensor),
            )
        )
        same(ours[:2], other[:2])
        same(
            pad_packed_sequence(ours, batch_first, 7.0),
            theirs.pad_packed_sequence(other, batch_first, 7.0),
        )
        same(
            pad_packed_sequence(ours, not batch_first, total_length=9),
            theirs.pad_packed_sequence(other, not batch_first, total_length=9),
        )
        same(tuple(unpack_sequence(ours)), tuple(theirs.unpack_sequence(other)))


def test_padding() -> None:
    parts = [np.random.default_rng(i).normal(size=(n, 3)) for i, n in enumerate((2, 5, 0, 1))]
    for batch_first in (False, True):
        for side in ("right", "left"):
            ours = pad_sequence([wg.tensor(p) for p in parts], batch_first, -1.0, side)
            same(ours, theirs.pad_sequence([*map(torch.tensor, parts)], batch_first, -1.0, side))
    back = unpad_sequence(pad_sequence([wg.tensor(p) for p in parts[:2]]), [2, 5])
    for a, b in zip(back, parts, strict=False):
        assert_close(a, b)
    packed = pack_sequence([wg.tensor(p) for p in parts[1::2]])
    same(packed[:2], theirs.pack_sequence([torch.tensor(p) for p in parts[1::2]])[:2])


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}, {"proj_size": 2}]
)
def test_recurrent_layers(kind: str, lengths: list[int], options: dict[str, Any]) -> None:
    if "proj_size" in options and kind != "LSTM":
        pytest.skip("LSTM alone projects")
    layer = getattr(nn, kind)(3, 4, **options, dtype="float64")
    other = getattr(torch.nn, kind)(3, 4, **options, dtype=torch.float64)
    other.load_state_dict({k: torch.tensor(v.numpy()) for k, v in layer.state_dict().items()})
    random = np.random.default_rng(0)
    n, count = len(lengths), options.get("num_layers", 1) * (1 + ("bidirectional" in options))
    x = random.normal(size=(max(lengths), n, 3))
    states = [random.normal(size=(count, n, s)) for s in (options.get("proj_size", 4), 4)]
    found = []
    for of, pack, pad, net in (
        (wg.tensor, pack_padded_sequence, pad_packed_sequence, layer),
        (torch.tensor, theirs.pack_padded_sequence, theirs.pad_packed_sequence, other),
    ):
        given, *given_states = (of(a) for a in (x, *states))
        given = given.requires_grad_()
        hx = tuple(s.requires_grad_() for s in given_states) if kind == "LSTM" else given_states[0]
        results = []
        for start in (None, hx):
            packed = pack(given, of(lengths), enforce_sorted=False)
            y, last = net(packed, start)
            padded, sizes = pad(y)
            results += [padded, sizes, last]
            ends = last if kind == "LSTM" else (last,)
            loss = (padded * padded).sum() + sum((s * s).sum() for s in ends)
            loss.backward()
        results += [given.grad, tuple(p.grad for p in net.parameters())]
        found.append(tuple(results))
    same(*found)


def test_sequences_do_not_see_each_other() -> None:
    layer = nn.GRU(2, 3, bidirectional=True, dtype="float64")
    parts = [wg.randn((n, 2), "float64") for n in (3, 5, 1)]
    packed, last = layer(pack_sequence(parts, enforce_sorted=False))
    assert isinstance(packed, PackedSequence)
    for b, (part, y) in enumerate(zip(parts, unpack_sequence(packed), strict=True)):
        alone, end = layer(part)
        assert_close(y, alone.detach(), 1e-12, 1e-12)
        assert_close(last[:, b], end.detach(), 1e-12, 1e-12)


X = wg.zeros((4, 2, 3))
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "zero": (lambda: pack_padded_sequence(X, [4, 0]), ValueError, r"lengths\[1\] is 0; expected 1"),
    "long": (lambda: pack_padded_sequence(X, [5, 1]), ValueError, r"lengths\[0\] is 5"),
    "count": (lambda: pack_padded_sequence(X, [4]), wg.ShapeError, "1 lengths for a batch of 2"),
    "order": (lambda: pack_padded_sequence(X, [1, 4]), ValueError, "enforce_sorted=False"),
    "axes": (lambda: pack_padded_sequence(X[0, 0], [1]), wg.ShapeError, r"expected \(L, n"),
    "batch": (lambda: pack_padded_sequence(X[:, :0], []), wg.ShapeError, "batch is empty"),
    "empty": (lambda: pack_sequence([X[:0, 0]]), ValueError, "sequence 0 has length 0"),
    "none": (lambda: pad_sequence([]), ValueError, "no sequences"),
    "shapes": (lambda: pad_sequence([X[0], X[0, :, :1]]), wg.ShapeError, "sequence 1 has shape"),
    "side": (lambda: pad_sequence([X[0]], padding_side="up"), ValueError, "padding_side"),
    "total": (
        lambda: pad_packed_sequence(pack_padded_sequence(X, [4, 1]), total_length=3),
        ValueError,
        "expected 4 or more",
    ),
    "layer": (
        lambda: nn.RNN(2, 2)(pack_padded_sequence(X, [4, 1])),
        wg.ShapeError,
        r"packed data has shape \(5, 3\); expected \(5, 2\)",
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_errors(what: str) -> None:
    call, kind, text = ERRORS[what]
    with pytest.raises(kind, match=text):
        call()
