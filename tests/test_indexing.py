"""Getting and setting items, with NumPy as the reference: views, gathers, scatters, gradients, the
rules in place, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.testing import gradcheck

S = np.s_


def numbers(*shape: int, dtype: str = "float64") -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)


def same(actual: wg.Tensor, expected: Any) -> None:
    assert actual.shape == np.shape(expected)
    np.testing.assert_array_equal(actual.numpy(), expected)


# ---- keys ----------------------------------------------------------------------------------------

A = np.array
BASIC: list[Any] = [
    S[0], S[-1], S[1, 2], S[1, 2, 3], S[-2, -1, 0], S[:], S[...], S[()], S[None],
    S[None, ..., None],
    S[1:], S[:2], S[:-1], S[::2], S[::-1], S[2:0:-1], S[-1:-3:-1], S[5:1], S[100:],
    S[:-100:-1], S[1:1],
    S[::3, ::-2], S[1, ::2, -1], S[..., 0], S[..., ::-1], S[0, ..., 1], S[:, None, 1], S[..., 1, :],
    S[:, 1:3, None, 2], S[2:100, 1], S[-100:2], S[:, :, ::-4], S[10**30:], S[: -(10**30)],
]  # fmt: skip
KEYS: list[Any] = [
    *BASIC,
    # integer arrays
    [0, 2], [0, 0, 1], [-1, -3], [[0, 1], [2, 0]], [], S[:, [1, 0]], S[[0, 1], [1, 2]],
    S[[0, 1], 2],
    S[0, [1, 2]], S[[0, 1], :, [1, 2]], S[[[0], [1]], [1, 2, 0]], S[:, [0, 1], [1, 2]],
    S[..., [0, -1]], S[0, :, [1, 2]], S[:, 0, [1, 2]], S[[1], :, 0], S[[0, 1], ..., [0, 1]],
    S[None, [0, 2]], S[[0, 2], None], S[[0, 2], None, [1, 1]], S[::-1, [0, 2]], S[[2, 0], ::-2],
    S[:, [1], ::2], S[[0], [1], [2]], S[A(1)], S[A([1, 0]), A(2)], S[A([[1, 2], [0, 0]], "int32")],
    S[A([1, 0], "uint8")], S[[0, 1], 1:2, None, [2, 3]], S[np.int64(1), [0]], S[:, [], 1],
    S[[0, 1], :, None, 1],
    # tuples in a key are lists
    ((0, 2),), S[:, (1, 0)], S[((0, 1), (2, 0)), 1], S[(0, 1), ..., (1, 2)],
    # masks
    A([True, False, True]), S[:, A([True, False, True, True])], A([False] * 3),
    S[A([True, False, True]), 1],
    S[A([True, False, True]), [0, 1]], S[..., A([True] * 5)], np.arange(12).reshape(3, 4) % 3 == 0,
    S[:, np.arange(20).reshape(4, 5) % 2 == 0], np.arange(60).reshape(3, 4, 5) % 7 == 1,
    True, False,
    S[True, 0], S[np.arange(12).reshape(3, 4) > 5, 2], S[0, A([True, False, False, True]), 1:],
    S[A([True, True, False]), :, [0, 1]], [True, False, True],
]  # fmt: skip


def shown(key: Any) -> str:
    return "".join(str(key).split())[:60]


def tensor_key(key: Any) -> Any:
    """Arrays in a key as tensors."""
    if isinstance(key, tuple):
        return tuple(tensor_key(part) for part in key)
    return wg.tensor(key) if isinstance(key, np.ndarray) else key


@pytest.mark.parametrize("key", KEYS, ids=shown)
@pytest.mark.smoke
def test_get(key: Any) -> None:
    a = numbers(3, 4, 5)
    same(wg.tensor(a)[key], a[key])
    same(wg.tensor(a)[tensor_key(key)], a[key])
    reordered = wg.tensor(a.transpose(2, 0, 1).copy()).permute(1, 2, 0)
    same(reordered[key], a[key])
    backwards = wg.tensor(a[::-1, ::-1].copy())[::-1, ::-1]
    same(backwards[key], a[key])


@pytest.mark.parametrize("key", KEYS, ids=shown)
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint8"])
def test_set(key: Any, dtype: str) -> None:
    a = (numbers(3, 4, 5) % 2).astype(dtype)
    value = (np.arange(a[key].size).reshape(a[key].shape) % 3 + 1).astype(dtype)
    for given in (value, value.ravel()[:1].reshape(()) if value.size else np.zeros((), dtype)):
        expected = a.copy()
        expected[key] = given
        for k in (key, tensor_key(key)):
            x = wg.tensor(a)
            x[k] = wg.tensor(given)
            same(x, expected)
        x = wg.tensor(a)
        x[key] = given  # an array
        same(x, expected)


@pytest.mark.parametrize("key", KEYS, ids=shown)
def test_gradients_through_get_and_set(key: Any) -> None:
    x = wg.tensor(np.random.default_rng(0).normal(size=(3, 4, 5)))
    taken = x[key]
    value = wg.tensor(np.random.default_rng(1).normal(size=taken.shape))
    gradcheck(lambda x: x[key], [x])
    gradcheck(lambda x: x[key].square() * x.sum(), [x], order=2)

    def put(x: wg.Tensor, value: wg.Tensor) -> wg.Tensor:
        y = x * 1.5
        y[key] = value.square()
        return y.sin()

    gradcheck(put, [x, value], order=2, atol=1e-7)
    gradcheck(put, [x, value.sum()], order=1, atol=1e-7)
    gradcheck(lambda v: put(x, v), [value])
    gradcheck(lambda x: put(x, value), [x])


def random_key(random: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Any mixture that NumPy accepts."""
    parts: list[Any] = []
    length = int(random.integers(1, 4))
    arrays = random.random() < 0.5
    axis = 0
    while axis < len(shape) and random.random() < 0.9:
        size = shape[axis]
        kind = random.integers(0, 7 if arrays else 4)
        axis += 1
        if kind == 0 and size:
            parts.append(int(random.integers(-size, size)))
        elif kind == 1:
            parts.append(None)
            axis -= 1
        elif kind in (2, 3) or not size:
            ends = [
                None if random.random() < 0.4 else int(random.integers(-7, 8)) for _ in range(2)
            ]
            parts.append(slice(*ends, [None, 1, 2, -1, -2, -3][random.integers(0, 6)]))
        elif kind == 4:
            parts.append(random.integers(-size, size, length))
        elif kind == 5:
            parts.append(random.integers(-size, size, (2, length) if random.random() < 0.5 else 1))
        else:
            mask = np.zeros(size, bool)
            mask[random.permutation(size)[: min(length, size)]] = True
            parts.append(mask)
    if random.random() < 0.3:
        parts.insert(int(random.integers(0, len(parts) + 1)), ...)
    return tuple(parts)


@pytest.mark.parametrize("seed", range(10))
def test_random_keys(seed: int) -> None:
    random = np.random.default_rng(seed)
    tried = 0
    while tried < 150:
        shape = tuple(
            random.integers(0 if random.random() < 0.1 else 1, 5, random.integers(1, 5)).tolist()
        )
        key, a = random_key(random, shape), numbers(*shape)
        try:
            expected = a[key]
        except IndexError:  # arrays that do not broadcast, and the like: refused here too
            with pytest.raises((IndexError, wg.ShapeError)):
                wg.tensor(a)[key]
            continue
        if len(key) > 7:  # at most 8 dimensions, also on the way
            continue
        tried += 1
        axes = random.permutation(len(shape))
        back = np.argsort(axes)
        x = wg.tensor(a.transpose(axes).copy()).permute(
            *back.tolist()
        )  # the same, in another order
        y = x[tensor_key(key) if tried % 2 else key]
        assert y.shape == expected.shape, key
        np.testing.assert_array_equal(y.numpy(), expected, err_msg=str(key))
        value = random.integers(100, 200, expected.shape[1:] if tried % 3 == 0 else expected.shape)
        changed, z = a.copy(), wg.tensor(a)
        changed[key] = value
        z[key] = wg.tensor(value.astype(float))
        np.testing.assert_array_equal(z.numpy(), changed, err_msg=str(key))


# ---- views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", BASIC, ids=shown)
@pytest.mark.smoke
def test_basic_keys_give_views(key: Any) -> None:
    a = numbers(3, 4, 5)
    x = wg.tensor(a)
    x[key].fill_(-1)
    a[key] = -1
    same(x, a)
    y = x[key]
    x.fill_(7)
    assert not y.size or (y.numpy() == 7).all()


def test_gathers_give_copies() -> None:
    x = wg.tensor(numbers(3, 4))
    x[[0, 1]].fill_(-1)
    x[x > 5].fill_(-1)
    same(x, numbers(3, 4))


def test_assignment_from_itself() -> None:
    """Overlapping parts: as if the value had been copied first."""
    for to, of in ((S[1:], S[:-1]), (S[:-1], S[1:]), (S[:], S[::-1]), (S[::2], S[:5])):
        a = numbers(10)
        x = wg.tensor(a)
        x[to] = x[of]
        a[to] = a[of].copy()
        same(x, a)
    x = wg.tensor(numbers(4, 4))
    x[:] = x.T
    same(x, numbers(4, 4).T)
    x = wg.tensor(numbers(4, 4))
    x[[0, 1, 2, 3]] = x[::-1]
    same(x, numbers(4, 4)[::-1])


def test_repeated_indices_the_last_one_wins() -> None:
    x = wg.zeros((3,))
    x[[0, 1, 0]] = wg.tensor([1.0, 2.0, 3.0])
    assert x.tolist() == [3, 2, 0]


def test_augmented_assignment() -> None:
    a, x = numbers(3, 4), wg.tensor(numbers(3, 4))
    a[1] += 10
    x[1] += 10
    a[:, [0, 2]] *= 2
    x[:, [0, 2]] *= 2
    a[a > 20] -= 5
    x[x > 20] -= 5
    same(x, a)


def test_values_are_converted_to_the_tensors_dtype() -> None:
    x = wg.zeros((3,), "int64")
    x[0] = True
    x[1] = wg.tensor(7, "uint8")
    assert x.tolist() == [1, 7, 0]
    y = wg.zeros((3,))
    y[:] = wg.tensor([1.5, 2.5, 3.5], "float64")
    y[0] = 1
    assert y.tolist() == [1, 2.5, 3.5]
    for value in (1.5, wg.tensor(1.5)):
        with pytest.raises(
            wg.DTypeError, match="setitem: a value of float32 does not fit into a tensor of int64"
        ):
            x[0] = value
    with pytest.raises(ValueError, match=r"300 .*does not fit into uint8"):
        wg.zeros((2,), "uint8")[0] = 300


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.smoke
def test_repeated_indices_gather_gradients() -> None:
    x = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (g,) = wg.grad(x[[0, 2, 2, 2]].sum(), [x])
    assert g.tolist() == [1, 0, 3]
    (g,) = wg.grad((x[[1, 1]] * wg.tensor([10.0, 1.0])).sum(), [x])
    assert g.tolist() == [0, 11, 0]


def test_value_that_was_overwritten_gets_no_gradient() -> None:
    v = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = wg.zeros((2,))
    y[[0, 1, 0]] = v
    assert y.tolist() == [3, 2]
    (g,) = wg.grad(y.sum(), [v])
    assert g.tolist() == [0, 1, 1]


def test_masked_rows_of_an_embedding() -> None:
    table = wg.tensor(numbers(5, 3), requires_grad=True)
    words = wg.tensor([[0, 3], [3, 3]])
    (g,) = wg.grad(table[words].sum(), [table])
    assert g[:, 0].tolist() == [1, 0, 0, 3, 0]
    (g,) = wg.grad(table[wg.tensor([True, False, False, False, True])].sum(), [table])
    assert g[:, 0].tolist() == [1, 0, 0, 0, 1]


def test_assignment_into_a_leaf_is_refused_where_it_is_recorded() -> None:
    x = wg.zeros((3,)).requires_grad_()
    for key in (0, [0, 1], S[1:], ...):
        with pytest.raises(wg.GradientError, match=r"in place: this .* a leaf"):
            x[key] = 1.0
    with wg.no_grad():
        x[0] = 1.0
        x[[1, 2]] = 2.0
    assert x.tolist() == [1, 2, 2]


def test_assignment_into_a_view_is_recorded_for_the_tensor() -> None:
    x = wg.ones((3, 2)).requires_grad_()
    y = x * 2
    row = y[0]
    row[0] = 1.0
    y.T[1] = y.T[0] * 3
    row[wg.tensor([True, False])] = x[2, 0] * 7
    y.sum().backward()
    assert y.tolist() == [[7, 3], [2, 6], [2, 6]]
    assert x.grad is not None and x.grad.tolist() == [[0, 0], [8, 0], [15, 0]]


VIEWS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.T,
    "every other": lambda x: x[:, ::2],
    "backwards": lambda x: x[::-1],
    "block": lambda x: x[1:, 1:3],
    "row": lambda x: x[1],
    "transposed block": lambda x: x.T[1:],
}


@pytest.mark.parametrize("device", ["cpu"])
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_assignment_by_tensors_into_views(view: str, recorded: bool, device: str) -> None:
    start = np.arange(12.0).reshape(3, 4)
    for name in ("mask", "list", "repeated", "with a slice", "pair", "scalar and list"):
        base = wg.tensor(start, dtype="float64", requires_grad=recorded)
        x = base * 1
        a = start.copy()
        target, t = VIEWS[view](a), VIEWS[view](x)
        keys: dict[str, Any] = {
            "mask": target % 2 == 0,
            "list": [0, 1],
            "repeated": [1, 0, 1],
            "with a slice": (slice(None), [1, 0]),
            "pair": ([0, 1], [1, 0]),
            "scalar and list": (1, [0, 1]),
        }
        key = keys[name]
        if target.ndim == 1 and isinstance(key, tuple):
            continue
        values = -1.0 - np.arange(float(target[key].size)).reshape(target[key].shape)
        target[key] = values
        t[wg.tensor(key) if name == "mask" else key] = wg.tensor(values)
        assert x.tolist() == a.tolist(), name
        if recorded:
            x.sum().backward()
            assert base.grad is not None and base.grad.tolist() == (a == start).tolist(), name


@pytest.mark.parametrize("number", [0.5, "a sum"])
@pytest.mark.parametrize("key", ["all", "rows", "columns", "one row", "backwards", "new axis"])
def test_a_number_at_a_mask_in_a_compiled_step(key: str, number: Any) -> None:
    """How many elements the mask names, which changes from call to call, is not asked for."""

    w = wg.tensor(numbers(4, 4), requires_grad=True)

    def step(x: wg.Tensor) -> tuple[wg.Tensor, ...]:
        w.grad = None
        y, up, row = x * w, x > 0, x[0] > 0
        keys: dict[str, Any] = {
            "all": up,
            "rows": row,
            "columns": S[:, up[:, 1]],
            "one row": S[1, row],
            "backwards": S[..., ::-1, row],
            "new axis": S[None, up],
        }
        y[keys[key]] = (x * w).sum() if number == "a sum" else number
        y.square().sum().backward()
        assert w.grad is not None
        return y, w.grad

    compiled = wg.compile(step)
    random = np.random.default_rng(0)
    for _ in range(4):
        x = wg.tensor(random.normal(size=(4, 4)))
        expected = [t.tolist() for t in step(x)]
        assert [t.tolist() for t in compiled(x)] == expected
    assert compiled.program is not None


def test_assignment_by_tensors_takes_no_memory_of_the_whole() -> None:
    x = wg.zeros((4096, 1024), dtype="uint8")
    rows, flags = wg.tensor([5, 7, 4095]), wg.arange(4096) == 9
    for target in (x, x[::-1], x[:, ::2]):
        for key in (rows, flags, [1, 2]):
            wg.reset_memory_peak()
            before = wg.memory_allocated()
            target[key] = 1
            assert wg.memory_peak() - before < x.nbytes // 16
    assert x.sum().item() > 0


def test_assignment_changes_what_was_saved() -> None:
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    z = y.square().sum()
    y[0] = 5.0
    with pytest.raises(wg.GradientError, match=r"square.*(changed|edited)"):
        z.backward()


def test_assignment_after_use_that_saved_nothing() -> None:
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    total = y.sum()
    y[0] = 5.0
    (g,) = wg.grad(total + y.sum(), [x])
    assert g.tolist() == [1, 2]


# ---- other ways in -------------------------------------------------------------------------------


def test_iteration_and_length() -> None:
    a = numbers(3, 2)
    x = wg.tensor(a, requires_grad=True)
    assert len(x) == 3
    for row, expected in zip(x, a, strict=True):
        same(row.detach(), expected)
        assert row.requires_grad
    _, _, third = x
    assert third.detach().tolist() == [4, 5]
    with pytest.raises(TypeError, match="0 dimensions"):
        len(wg.tensor(1.0))
    with pytest.raises(TypeError, match=r"0 dimension"):
        iter(wg.tensor(1.0))


def test_tensors_as_indices() -> None:
    x, items = wg.tensor(numbers(3, 4)), [10, 20, 30]
    assert items[wg.tensor(1)] == 20
    assert x[wg.tensor(1)].tolist() == [4, 5, 6, 7]
    assert x[wg.tensor(1), wg.tensor(2)].item() == 6
    assert numbers(3)[wg.tensor([2, 0]).numpy()].tolist() == [2, 0]
    with pytest.raises(TypeError, match="cannot be used as an integer"):
        items[wg.tensor(1.0)]


def test_nonzero() -> None:
    a = np.random.default_rng(0).integers(0, 2, (3, 4, 5))
    same(wg.tensor(a).nonzero(), np.argwhere(a))
    same(wg.nonzero(wg.tensor(a.astype(float))), np.argwhere(a))
    assert wg.zeros((0, 3)).nonzero().shape == (0, 2)


def test_long_gathers() -> None:
    random = np.random.default_rng(0)
    a, rows = random.normal(size=(1000, 33)), random.integers(-1000, 1000, 50_000)
    x = wg.tensor(a, requires_grad=True)
    same(x[rows].detach(), a[rows])
    (g,) = wg.grad(x[rows].sum(), [x])
    expected = np.bincount(rows % 1000, minlength=1000)
    np.testing.assert_array_equal(g.numpy(), np.repeat(expected[:, None], 33, 1))


# ---- bad input -----------------------------------------------------------------------------------

X = wg.zeros((3, 4))


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (3, IndexError, r"index 3 is out of range for axis 0 of size 3 \(shape \(3, 4\)\)"),
        (-4, IndexError, r"index -4 is out of range for axis 0 of size 3"),
        (S[0, 4], IndexError, r"index 4 is out of range for axis \d of size 4"),
        (S[:, -5], IndexError, r"index -5 is out of range for axis 1 of size 4"),
        ([0, 3], IndexError, r"index 3 is out of range for an axis of size 3"),
        (S[:, [0, -5]], IndexError, r"index -5 is out of range for an axis of size 4"),
        (S[[0], 4], IndexError, r"index 4 is out of range"),
        (
            S[0, 0, 0],
            IndexError,
            r"index: 3 indices for a tensor of 2 dimensions \(shape \(3, 4\)\)",
        ),
        (S[..., 0, ...], IndexError, r"only one '...' may stand in an index"),
        (
            A([True, False]),
            IndexError,
            r"mask of shape \(2,\) does not fit axes 0 on of shape \(3, 4\)",
        ),
        (S[:, A([True] * 3)], IndexError, r"mask of shape \(3,\) does not fit axes 1"),
        (np.ones((3, 5), bool), IndexError, r"mask of shape \(3, 5\)"),
        (np.ones((3, 4, 1), bool), IndexError, r"index: 3 indices for a tensor of 2 dimensions"),
        (S[[0, 1], [0, 1, 2]], wg.ShapeError, r"index: shapes \(2,\) and \(3,\) do not broadcast"),
        (S[::0], ValueError, r"index: a slice's step is zero"),
        (1.0, IndexError, r"index: got 1.0 \(float\); expected an int"),
        ("a", IndexError, r"index: got 'a' \(str\)"),
        (A([0.0, 1.0]), wg.DTypeError, r"index: a tensor of float64 cannot index"),
        (S[0:1.5], TypeError, r"float"),
        (10**30, IndexError, r"cannot fit|too large|out of range"),
    ],
    ids=str,
)
@pytest.mark.smoke
def test_bad_keys(key: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        X[key]
    with pytest.raises(error, match=message):
        wg.zeros((3, 4))[key] = 1.0


@pytest.mark.parametrize("key", [S[0], S[:2], S[[0, 1]], S[X == 0]], ids=str)
def test_values_that_do_not_fit(key: Any) -> None:
    x = wg.zeros((3, 4))
    with pytest.raises(wg.ShapeError, match=r"\(5,\)"):
        x[key] = wg.ones((5,))
    assert x.sum().item() == 0


def test_expanded_tensors_are_not_written() -> None:
    x = wg.zeros((1, 3)).broadcast_to((2, 3))
    for key in (0, S[:, 0], [0, 1]):
        if key == 0:
            x[key] = 1.0  # one row: each of its elements is one place
            assert x.tolist() == [[1, 1, 1]] * 2
            continue
        with pytest.raises(ValueError, match=r"expanded tensor|contiguous"):
            x[key] = 1.0
