"""Shapes: each helper of wengert.shapes and pad against NumPy, with gradients to second order,
compiled, of all dtypes and strides; what it refuses."""

import re

import numpy as np
import pytest

import wengert as wg
from wengert.testing import gradcheck


def np_diag_embed(x, offset=0):
    y = np.zeros((*x.shape[:-1], *[x.shape[-1] + abs(offset)] * 2), x.dtype)
    for i in range(x.shape[-1]):
        y[..., i + max(-offset, 0), i + max(offset, 0)] = x[..., i]
    return y


# name: (of a tensor, of an array, shapes)
CASES = {
    "tile": (lambda x: wg.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3)), [(2, 3), (), (0,)]),
    "tile sizes": (lambda x: x.tile(2, 0), lambda x: np.tile(x, (2, 0)), [(2, 3), (2, 2, 3)]),
    "tile once": (lambda x: x.tile(1), lambda x: x, [(2, 3)]),
    "repeat": (lambda x: wg.repeat(x, 2), lambda x: np.repeat(x, 2), [(2, 3), (), (0, 2)]),
    "repeat axis": (
        lambda x: x.repeat_interleave(3, axis=-2),
        lambda x: np.repeat(x, 3, -2),
        [(2, 3), (2, 0, 2)],
    ),
    "repeat each": (
        lambda x: wg.repeat_interleave(x, wg.tensor([1, 0, 2]), 1),
        lambda x: np.repeat(x, [1, 0, 2], 1),
        [(2, 3), (2, 3, 2)],
    ),
    "Tensor.repeat": (lambda x: x.repeat(2, 1, 2), lambda x: np.tile(x, (2, 1, 2)), [(2, 3), (3,)]),
    "roll": (lambda x: wg.roll(x, 2), lambda x: np.roll(x, 2), [(5,), (2, 3), (), (0,)]),
    "roll axes": (
        lambda x: x.roll((1, -7), (0, -1)),
        lambda x: np.roll(x, (1, -7), (0, -1)),
        [(2, 3), (3, 0), (2, 4, 3)],
    ),
    "flip": (lambda x: wg.flip(x), np.flip, [(5,), (2, 3), (), (0, 2)]),
    "flip axes": (lambda x: x.flip(0, -1), lambda x: np.flip(x, (0, -1)), [(2, 3), (2, 2, 3)]),
    "flipud": (wg.flipud, np.flipud, [(5,), (2, 3)]),
    "fliplr": (wg.fliplr, np.fliplr, [(2, 3), (2, 2, 3)]),
    **{
        f"rot90 {k}": (
            lambda x, k=k: wg.rot90(x, k, (1, 0)),
            lambda x, k=k: np.rot90(x, k, (1, 0)),
            [(2, 3), (2, 3, 2)],
        )
        for k in (-1, 0, 1, 2, 3)
    },
    "movedim": (
        lambda x: x.movedim((0, -1), (1, 0)),
        lambda x: np.moveaxis(x, (0, -1), (1, 0)),
        [(2, 3), (2, 3, 4), (2, 1, 3, 4)],
    ),
    "moveaxis": (lambda x: wg.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1), [(2, 3, 4)]),
    "t": (wg.t, np.transpose, [(2, 3), (3,), ()]),
    "ravel": (wg.ravel, np.ravel, [(2, 3), (), (0, 2)]),
    "unflatten": (
        lambda x: x.unflatten(-1, (2, -1)),
        lambda x: x.reshape(*x.shape[:-1], 2, -1),
        [(4,), (3, 2)],
    ),
    "narrow": (lambda x: x.narrow(1, -2, 2), lambda x: x[:, -2:], [(2, 3), (2, 2, 2)]),
    "select": (lambda x: x.select(-1, -1), lambda x: x[..., -1], [(3,), (2, 3)]),
    "unbind": (lambda x: wg.unbind(x, -1)[1], lambda x: x[..., 1], [(3,), (2, 3)]),
    "unstack": (lambda x: wg.unstack(x)[1], lambda x: x[1], [(3,), (2, 3)]),
    "chunk": (lambda x: x.chunk(3, 1)[-1], lambda x: x[:, 4:], [(2, 5), (1, 6)]),
    "tensor_split": (
        lambda x: wg.tensor_split(x, 3, 1)[1],
        lambda x: np.array_split(x, 3, 1)[1],
        [(2, 5), (1, 2), (1, 7)],
    ),
    "tensor_split at": (
        lambda x: wg.tensor_split(x, (1, 3), -1)[1],
        lambda x: np.array_split(x, (1, 3), -1)[1],
        [(2, 5), (2,)],
    ),
    "atleast_1d": (wg.atleast_1d, np.atleast_1d, [(), (2,)]),
    "atleast_2d": (wg.atleast_2d, np.atleast_2d, [(), (2,), (2, 3)]),
    "atleast_3d": (wg.atleast_3d, np.atleast_3d, [(), (2,), (2, 3), (1, 2, 3)]),
    **{
        name: (
            lambda x, name=name: getattr(wg, name)([x, x]),
            lambda x, name=name: getattr(np, name)([x, x]),
            [(3,), (2, 3), (2, 3, 2)] + [()] * (name != "column_stack"),
        )
        for name in ("hstack", "vstack", "dstack", "column_stack")
    },
    "block_diag": (
        lambda x: wg.block_diag(x, x[:1], x),
        lambda x: np.block(
            [
                [x, np.zeros_like(x), np.zeros_like(x)],
                [np.zeros_like(x[:1]), x[:1], np.zeros_like(x[:1])],
                [np.zeros_like(x), np.zeros_like(x), x],
            ]
        ),
        [(2, 3)],
    ),
    "broadcast_tensors": (
        lambda x: wg.broadcast_tensors(x, wg.ones((2, 1, 3)))[0],
        lambda x: np.broadcast_arrays(x, np.ones((2, 1, 3)))[0],
        [(), (3,), (4, 1)],
    ),
    "meshgrid": (
        lambda x: wg.meshgrid(x, wg.ones(2), x)[2],
        lambda x: np.meshgrid(x, np.ones(2), x)[2],
        [(3,), ()],
    ),
    "meshgrid ij": (
        lambda x: wg.meshgrid([x, wg.ones(2), x], indexing="ij")[0],
        lambda x: np.meshgrid(x, np.ones(2), x, indexing="ij")[0],
        [(3,), (0,)],
    ),
    "tril": (lambda x: x.tril(-1), lambda x: np.tril(x, -1), [(3, 4), (2, 4, 3), (0, 2)]),
    "triu": (lambda x: wg.triu(x, k=1), lambda x: np.triu(x, 1), [(3, 4), (2, 4, 3)]),
    "diag of a vector": (lambda x: x.diag(-2), lambda x: np.diag(x, -2), [(3,), (1,), (0,)]),
    "diag": (lambda x: wg.diag(x, 1), lambda x: np.diag(x, 1), [(3, 4), (4, 3), (3, 1)]),
    "diag_embed": (lambda x: x.diag_embed(2), lambda x: np_diag_embed(x, 2), [(3,), (2, 3)]),
    "diag_embed axes": (
        lambda x: wg.diag_embed(x, -1, 0, 2),
        lambda x: np.moveaxis(np_diag_embed(x, -1), (-2, -1), (0, 2)),
        [(2, 3)],
    ),
    "diagonal": (
        lambda x: x.diagonal(-1, 1, 0),
        lambda x: np.diagonal(x, -1, 1, 0),
        [(3, 4), (4, 3, 2)],
    ),
    "diagonal beyond": (lambda x: wg.diagonal(x, 9), lambda x: np.diagonal(x, 9), [(3, 4)]),
    **{
        f"pad {mode}": (
            lambda x, mode=mode: wg.pad(x, (2, 5), mode),
            lambda x, mode=mode: np.pad(x, (2, 5), mode),
            [(3,), (1, 2), (4, 2, 1)],
        )
        for mode in ("edge", "reflect", "symmetric", "wrap")
    },
}
ALL = [(name, shape) for name, (_, _, shapes) in CASES.items() for shape in shapes]


def draw(shape, dtype="float64"):
    return np.random.default_rng(len(shape)).uniform(-3, 3, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool", "bfloat16"])
@pytest.mark.parametrize(("name", "shape"), ALL)
@pytest.mark.smoke
def test_value(name, shape, dtype):
    call, reference, _ = CASES[name]
    a = draw(shape) > 0 if dtype == "bool" else np.round(draw(shape) * 4).astype("float32")
    a = a if dtype in ("bool", "bfloat16") else a.astype(dtype)
    for turned in (False, True):  # of other strides
        x = wg.tensor(a, dtype)
        y = call(x.mT.contiguous().mT if turned and len(shape) > 1 else x)
        expected = reference(a)
        assert y.dtype.name == dtype
        assert y.shape == expected.shape
        np.testing.assert_array_equal(y.float().numpy(), expected)


@pytest.mark.parametrize(("name", "shape"), ALL)
def test_gradients_and_compiled(name, shape):
    call = CASES[name][0]

    x = wg.tensor(draw(shape))
    assert gradcheck(lambda x: call(x) ** 3, [x], order=2)
    step = wg.value_and_grad(lambda x: (call(x) ** 2).sum())
    compiled = wg.compile(step)
    for again in (x, x + 1.0):
        for got, expected in zip(compiled(again), step(again), strict=True):
            np.testing.assert_array_equal(got.numpy(), expected.numpy())
    assert compiled.traces == 1


def test_views_share_memory():
    x = wg.zeros((3, 3))
    x.diagonal().fill_(1.0)
    x[1:].T.diagonal(1).fill_(2.0)
    x.flip(0)[0] += 5.0
    x.narrow(1, 2, 1).mul_(3.0)
    assert x.tolist() == [[1, 0, 0], [0, 1, 0], [7, 5, 18]]
    for y in (x.ravel(), x.t(), x.movedim(0, 1), x.unflatten(0, (3, 1)), x.flip(()), x.rot90(0)):
        assert y.data_ptr() == x.data_ptr() and y is not x
    for y in (x.tile(1), x.roll(0, 0), x.repeat(1, 1)):  # NumPy and PyTorch copy
        assert y.data_ptr() != x.data_ptr()


def test_edits_of_a_diagonal_have_gradients():
    x, v = wg.ones((2, 3), requires_grad=True), wg.ones(2, requires_grad=True)
    y = x * 2
    y.diagonal(1).mul_(v * 3)
    y.sum().backward()
    assert x.grad.tolist() == [[2, 6, 2], [2, 2, 6]]
    assert v.grad.tolist() == [6, 6]


def test_indices():
    for f, g in ((wg.tril_indices, np.tril_indices), (wg.triu_indices, np.triu_indices)):
        for n, m, k in ((3, 4, 0), (3, 4, 1), (4, 2, -1), (0, 2, 0), (2, 2, 9)):
            got = f(n, m, k)
            assert got.dtype == wg.int64
            np.testing.assert_array_equal(got.numpy(), np.stack(g(n, k, m)))


def test_parts():
    x = wg.arange(5)
    assert [y.tolist() for y in x.chunk(4)] == [[0, 1], [2, 3], [4]]
    assert [y.shape for y in wg.zeros((0, 2)).chunk(3)] == [(0, 2)] * 3
    assert [y.tolist() for y in x.tensor_split(wg.tensor([1, -1]))] == [[0], [1, 2, 3], [4]]
    assert wg.broadcast_shapes((2, 1), 3, ()) == (2, 3)
    assert wg.broadcast_shapes() == ()
    assert wg.broadcast_shapes((0, 1), (1, 4)) == (0, 4)
    a, b = wg.atleast_2d(1.0, [2.0, 3.0])
    assert (a.tolist(), b.tolist()) == ([[1.0]], [[2.0, 3.0]])
    assert x.type_as(wg.ones(1)).dtype == wg.float32
    assert x[:1].expand_as(wg.ones(4)).shape == (4,)
    assert x.reshape_as(wg.ones((1, 5))).shape == x.view_as(wg.ones((1, 5))).shape == (1, 5)


def test_pytorch_names_of_arguments():
    x = wg.arange(6).reshape(2, 3)
    assert x.flip(dims=(0,)).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert x.roll(shifts=1, dims=1).tolist() == [[2, 0, 1], [5, 3, 4]]
    assert wg.tile(x, dims=(1, 2)).shape == (2, 6)
    assert wg.diagonal(x, dim1=1, dim2=0).tolist() == [0, 4]
    assert wg.diag_embed(x, dim1=0, dim2=1).shape == (3, 3, 2)
    assert wg.rot90(x, dims=(0, 1)).tolist() == np.rot90(x.numpy()).tolist()


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
def test_padding_of_pytorch(mode):
    torch = pytest.importorskip("torch")
    for width, shape in (((1, 2), (3, 5)), ((0, 3), (2, 3, 4)), ((3, 2, 1, 0), (2, 3, 4))):
        a = draw(shape, "float32")
        expected = torch.nn.functional.pad(torch.tensor(a), width, mode)
        got = wg.nn.functional.pad(wg.tensor(a), width, mode)
        np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_padding_more_than_there_is():
    for mode, most in (("reflect", 2), ("circular", 3)):
        wg.nn.functional.pad(X, (most, 0), mode)
        with pytest.raises(wg.ShapeError, match=f"pad: {mode} adds {most + 1} to axis 1"):
            wg.nn.functional.pad(X, (0, most + 1), mode)


X = wg.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: X.tile(-1), ValueError, "tile: reps is (-1,); expected whole numbers of 0"),
        (lambda: X.repeat(2), wg.ShapeError, "repeat: got 1 sizes, (2,), for x of shape (2, 3)"),
        (lambda: X.repeat_interleave([1, 2], 1), wg.ShapeError, "got 2 repeats for axis 1"),
        (lambda: X.roll((1, 2), 0), ValueError, "roll: got 2 shifts for 1 axes"),
        (lambda: X.roll(1, 2), IndexError, "roll: axis 2 is out of range; x has shape (2, 3)"),
        (lambda: X.flip(0, -2), ValueError, "flip: axis is (0, -2), of shape (2, 3); name each"),
        (lambda: X.flip(0.5), TypeError, "flip: axis is 0.5 (float); expected a whole number"),
        (lambda: wg.zeros(3).fliplr(), IndexError, "axis 1 is out of range"),
        (lambda: X.rot90(1, (0,)), ValueError, "rot90: axes is (0,); expected two"),
        (lambda: X.movedim((0, 1), 0), ValueError, "expected as many axes"),
        (lambda: wg.zeros((1, 1, 1)).t(), wg.ShapeError, "t: x has shape (1, 1, 1)"),
        (lambda: X.unflatten(1, (2, -1)), wg.ShapeError, "which sizes (2, -1) do not multiply to"),
        (lambda: X.narrow(1, 2, 2), IndexError, "narrow: start 2 and length 2 leave axis 1 of"),
        (lambda: X.narrow(1, 2, -1), IndexError, "narrow: start 2 and length -1"),
        (lambda: X.select(1, 3), IndexError, "index 3 is out of range for axis 1"),
        (lambda: X.chunk(0), ValueError, "chunk: chunks is 0; expected 1 or more"),
        (lambda: X.tensor_split(0), ValueError, "tensor_split: got 0 sections"),
        (lambda: X.tensor_split(10**12), ValueError, "sections of an axis of size"),
        (lambda: wg.block_diag(wg.zeros((1, 1, 1))), wg.ShapeError, "block_diag: tensor 0 has"),
        (lambda: wg.block_diag(), ValueError, "block_diag: got no tensors"),
        (lambda: wg.broadcast_shapes((2,), (3,)), wg.ShapeError, "(2,), (3,) do not broadcast"),
        (lambda: wg.meshgrid(X), wg.ShapeError, "meshgrid: tensor 0 has shape (2, 3)"),
        (lambda: wg.meshgrid(X, indexing="yx"), ValueError, 'expected "xy" or "ij"'),
        (lambda: wg.zeros(2).tril(), wg.ShapeError, "tril: x has shape (2,); expected a matrix"),
        (lambda: wg.zeros((1, 1, 1)).diag(), wg.ShapeError, "diag: x has shape (1, 1, 1)"),
        (lambda: wg.zeros(()).diag_embed(), wg.ShapeError, "diag_embed: x has shape ()"),
        (lambda: X.diagonal(0, 1, -1), ValueError, "axis1 and axis2 are both axis 1 of shape"),
        (lambda: X.diagonal(0, 0, 2), IndexError, "diagonal: axis 2 is out of range"),
        (lambda: wg.pad(wg.zeros(0), 1, "edge"), wg.ShapeError, "has no elements to repeat"),
        (lambda: wg.nn.functional.pad(X, (1,)), ValueError, "expected two numbers for each"),
        (lambda: wg.tile(3, 2), TypeError, "tile: x is 3 (int); expected a Tensor"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_a_number_is_the_constant_to_pad_with():
    assert wg.pad(wg.ones(1), 1, 2.0).tolist() == [2.0, 1.0, 2.0]
    with pytest.raises(TypeError):
        wg.pad(wg.ones(1), 1, None)
