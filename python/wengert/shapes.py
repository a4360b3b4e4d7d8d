"""Tensors in other shapes: repeated, turned, cut, joined, spread; composed of views, concatenations
and selections, which give the gradients. Names and arguments are PyTorch's and NumPy's.

Each is also `wengert.NAME`, and most are methods of Tensor. A result that can be a view is one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from . import _core, _explained
from ._calls import choice, describe
from ._core import ShapeError, Tensor

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "block_diag",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_tensors",
    "chunk",
    "column_stack",
    "diag",
    "diag_embed",
    "dstack",
    "flip",
    "fliplr",
    "flipud",
    "hstack",
    "meshgrid",
    "moveaxis",
    "movedim",
    "narrow",
    "ravel",
    "repeat",
    "repeat_interleave",
    "roll",
    "rot90",
    "select",
    "t",
    "tensor_split",
    "tile",
    "tril",
    "tril_indices",
    "triu",
    "triu_indices",
    "unbind",
    "unflatten",
    "unstack",
    "vstack",
]


def _axis(op: str, axis: int, x: Tensor, name: str = "axis") -> int:
    """An axis of x, counted from the front. IndexError where there is none."""
    try:
        found = operator.index(axis)
    except TypeError:
        raise TypeError(f"{op}: {name} is {describe(axis)}; expected a whole number") from None
    if not -x.ndim <= found < x.ndim:
        raise IndexError(
            f"{op}: {name} {axis} is out of range; x has shape {x.shape}: "
            + (f"expected {-x.ndim} to {x.ndim - 1}" if x.ndim else "it has no axes")
        )
    return found % x.ndim


def _axes(op: str, axes: int | Iterable[int] | None, x: Tensor) -> list[int]:
    """Different axes of x, or all of them."""
    if axes is None:
        return list(range(x.ndim))
    found = [_axis(op, a, x) for a in (axes if isinstance(axes, Iterable) else (axes,))]
    if len(set(found)) < len(found):
        raise ValueError(f"{op}: axis is {axes}, of shape {x.shape}; name each axis once")
    return found


def _sizes(op: str, name: str, first: Any, more: tuple[Any, ...] = ()) -> tuple[int, ...]:
    """Whole numbers of 0 or more, given one by one or as one sequence."""
    given = tuple(first) if isinstance(first, Iterable) and not more else (first, *more)
    try:
        sizes = tuple(map(operator.index, given))
    except TypeError:
        sizes = (-1,)
    if min(sizes, default=0) < 0:
        raise ValueError(f"{op}: {name} is {given}; expected whole numbers of 0 or more")
    return sizes


def _at(x: Tensor, axis: int, key: Any) -> Tensor:
    """x[key] along an axis."""
    return x[(*(slice(None) for _ in range(axis)), key)]


# ---- repeated


def _spread(x: Tensor, axis: int, times: int, each: bool) -> Tensor:
    """x along an axis several times, or each of its parts."""
    size = x.shape[axis]
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    inner = (before, size, 1, after) if each else (before, 1, size, after)
    outer = (before, size, times, after) if each else (before, times, size, after)
    joined = (*x.shape[:axis], size * times, *x.shape[axis + 1 :])
    return x.reshape(inner).broadcast_to(outer).reshape(joined)


def tile(x: Tensor, reps: int | Sequence[int], *more: int) -> Tensor:
    """x, repeated reps times along each axis, from the last: tile(x, (2, 3)) or tile(x, 2, 3).

    New axes come first, as many as reps has more than x.
    """
    sizes = _sizes("tile", "reps", reps, more)
    y = x.reshape((*(1 for _ in sizes[x.ndim :]), *x.shape))
    for axis, times in enumerate(sizes, y.ndim - len(sizes)):
        if times != 1:
            y = _spread(y, axis, times, False)
    return y.clone() if all(n == 1 for n in sizes) else y


def tensor_repeat(x: Tensor, sizes: int | Sequence[int], *more: int) -> Tensor:
    """x, repeated along each axis, as PyTorch's repeat: x.repeat(2, 3). New axes come first.

    NumPy's, which repeats each element, is wengert.repeat, or x.repeat_interleave(n, axis).
    """
    times = _sizes("repeat", "sizes", sizes, more)
    if len(times) < x.ndim:
        raise ShapeError(
            f"repeat: got {len(times)} sizes, {times}, for x of shape {x.shape}; expected one for "
            "each axis, or more: tile() takes fewer, repeat_interleave() repeats each element"
        )
    return tile(x, times)


tensor_repeat.__name__, tensor_repeat.__qualname__ = "repeat", "Tensor.repeat"


def repeat_interleave(
    x: Tensor, repeats: int | Sequence[int] | Tensor, axis: int | None = None
) -> Tensor:
    """Each element repeated: [a, a, b, b]; along an axis each part of x, else of x as one axis.

    repeats   one number, or one for each part along the axis
    """
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = _axis("repeat_interleave", axis, x)
    if isinstance(repeats, Tensor):
        repeats = repeats.tolist()
    sizes = _sizes("repeat_interleave", "repeats", repeats)
    if len(sizes) == 1:
        return _spread(x, axis, sizes[0], True)
    if len(sizes) != x.shape[axis]:
        raise ShapeError(
            f"repeat_interleave: got {len(sizes)} repeats for axis {axis} of size {x.shape[axis]}, "
            f"shape {x.shape}; expected one, or as many"
        )
    parts = [i for i, times in enumerate(sizes) for _ in range(times)]
    return _at(x, axis, _core.tensor(parts, dtype=_core.int64, device=x.device))


def repeat(x: Tensor, repeats: int | Sequence[int] | Tensor, axis: int | None = None) -> Tensor:
    """Each element repeated, as numpy.repeat does: repeat_interleave under another name.

    PyTorch's x.repeat(2, 3), which repeats x as a whole, is a method, and tile.
    """
    return repeat_interleave(x, repeats, axis)


# ---- turned


def roll(x: Tensor, shifts: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """x with elements moved on by `shifts`, those that leave the end coming in at the front.

    Without an axis x is rolled as one axis, and keeps its shape.
    """
    if axis is None:
        return roll(x.reshape(-1), shifts, 0).reshape(x.shape)
    axes = [_axis("roll", a, x) for a in (axis if isinstance(axis, Iterable) else (axis,))]
    by = list(shifts) if isinstance(shifts, Iterable) else [shifts] * len(axes)
    if len(by) != len(axes):
        raise ValueError(f"roll: got {len(by)} shifts for {len(axes)} axes; give one for each")
    y = x
    for a, shift in zip(axes, by, strict=True):
        size = x.shape[a]
        if size and operator.index(shift) % size:
            y = _core.concatenate(y.split([size - shift % size, shift % size], a)[::-1], a)
    return x.clone() if y is x else y


def flip(x: Tensor, axis: int | Sequence[int] | None = None, *more: int) -> Tensor:
    """x with its elements in the opposite order along the axes, or all; a view, as NumPy's."""
    axes = _axes("flip", (axis, *more) if more else axis, x)  # type: ignore[arg-type] # no None
    return x[tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))]


def flipud(x: Tensor) -> Tensor:
    """x with axis 0 in the opposite order; a view."""
    return flip(x, 0)


def fliplr(x: Tensor) -> Tensor:
    """x with axis 1 in the opposite order; a view."""
    return flip(x, 1)


def rot90(x: Tensor, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """x turned by k quarters, from the first of two axes to the second; a view."""
    a, b = (*_axes("rot90", axes, x), None, None)[:2]
    if a is None or b is None or len(axes) != 2:
        raise ValueError(f"rot90: axes is {tuple(axes)}; expected two")
    if k % 2 == 0:
        return flip(x, (a, b) if k % 4 else ())
    return flip(x.transpose(a, b), a if k % 4 == 1 else b)


def movedim(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """x with the axes `source` at the places `destination`, the others in their order; a view."""
    start, stop = _axes("movedim", source, x), _axes("movedim", destination, x)
    if len(start) != len(stop):
        raise ValueError(
            f"movedim: source is {source} and destination {destination}; expected as many axes"
        )
    order = [a for a in range(x.ndim) if a not in start]
    for place, a in sorted(zip(stop, start, strict=True)):
        order.insert(place, a)
    return x.permute(order)


def moveaxis(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """movedim, by NumPy's name."""
    return movedim(x, source, destination)


def t(x: Tensor) -> Tensor:
    """The axes of a matrix exchanged; a vector or a number as it is. A view."""
    if x.ndim > 2:
        raise ShapeError(f"t: x has shape {x.shape}; expected 2 axes at most: write x.mT")
    return x.permute(range(x.ndim)[::-1])


def ravel(x: Tensor) -> Tensor:
    """x as one axis; a view where the strides allow it."""
    return x.reshape(-1)


def unflatten(x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """An axis as several of these sizes, one of which may be -1."""
    axis = _axis("unflatten", axis, x)
    size, known = x.shape[axis], math.prod(n for n in sizes if n != -1)
    unknown = [n for n in sizes if n == -1]
    if len(unknown) > 1 or (size % known if unknown and known else size != known):
        raise ShapeError(
            f"unflatten: axis {axis} of shape {x.shape} has size {size}, which sizes "
            f"{tuple(sizes)} do not multiply to; one may be -1"
        )
    sizes = [size // known if n == -1 else n for n in sizes]
    return x.reshape((*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


# ---- cut


def narrow(x: Tensor, axis: int, start: int, length: int) -> Tensor:
    """`length` elements along an axis, from `start` on; a view."""
    axis = _axis("narrow", axis, x)
    size = x.shape[axis]
    first = start + size if start < 0 else start
    if not 0 <= first <= first + length <= size:
        raise IndexError(
            f"narrow: start {start} and length {length} leave axis {axis} of size {size}, shape "
            f"{x.shape}"
        )
    return _at(x, axis, slice(first, first + length))


def select(x: Tensor, axis: int, index: int) -> Tensor:
    """x[index] along an axis, which is gone; a view."""
    return _at(x, _axis("select", axis, x), operator.index(index))


def unbind(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts of x along an axis, without the axis; views."""
    axis = _axis("unbind", axis, x)
    n = x.shape[axis]
    if n <= 4:
        return tuple(_at(x, axis, i) for i in range(n))
    # By halves: the gradient of a part has the size of what it is a part of, so parts of the whole
    # would make the cost quadratic.
    first, rest = x.split([n // 2, n - n // 2], axis)
    return (*unbind(first, axis), *unbind(rest, axis))


def unstack(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """unbind, by the array API's name: what stack() joined."""
    return unbind(x, axis)


def chunk(x: Tensor, chunks: int, axis: int = 0) -> list[Tensor]:
    """x in at most `chunks` parts along an axis, of one size but for the last; views.

    As PyTorch's there may be fewer: 5 elements in 4 chunks are [2, 2, 1]. tensor_split() gives as
    many as asked for.
    """
    axis = _axis("chunk", axis, x)
    if chunks < 1:
        raise ValueError(f"chunk: chunks is {chunks}; expected 1 or more")
    size = -(-x.shape[axis] // chunks)
    return x.split(size or [0] * chunks, axis)


def tensor_split(
    x: Tensor, indices_or_sections: int | Sequence[int] | Tensor, axis: int = 0
) -> list[Tensor]:
    """x along an axis in parts, whose number is given, the first of them longer by one; or cut
    before the given indices. As numpy.array_split; views."""
    axis, cuts = _axis("tensor_split", axis, x), indices_or_sections
    size = x.shape[axis]
    if isinstance(cuts, Tensor):
        cuts = cuts.tolist()
    if not isinstance(cuts, Iterable):
        if cuts < 1:
            raise ValueError(f"tensor_split: got {cuts} sections; expected 1 or more")
        if cuts > max(size, 1 << 20):
            raise ValueError(
                f"tensor_split: got {cuts} sections of an axis of size {size}; expected at most "
                "its size, or 1,048,576"
            )
        each, longer = divmod(size, cuts)
        return x.split([each + 1] * longer + [each] * (cuts - longer), axis)
    places = [slice(i, j) for i, j in zip([None, *cuts], [*cuts, None], strict=True)]
    return [_at(x, axis, place) for place in places]


# ---- joined


def _tensors(op: str, given: Iterable[Any], least: int) -> list[Tensor]:
    """Tensors of at least 1, 2 or 3 axes, new ones where NumPy puts them."""
    if isinstance(given, Tensor) and not given.ndim:
        raise ShapeError(f"{op}: tensors is a tensor without axes; expected a list of tensors")
    return [_at_least(x, least) for x in map(_core.asarray, given)]


def _at_least(x: Tensor, least: int) -> Tensor:
    if x.ndim >= least:
        return x
    shape = {0: (1,) * least, 1: (1, *x.shape, 1)[:least], 2: (*x.shape, 1)}[x.ndim]
    return x.reshape(shape)


def _each_at_least(op: str, given: tuple[Any, ...], least: int) -> Any:
    if len(given) == 1 and not isinstance(given[0], (list, tuple)):
        return _at_least(_core.asarray(given[0]), least)
    return tuple(_tensors(op, given[0] if len(given) == 1 else given, least))


def atleast_1d(*tensors: Any) -> Any:
    """A tensor with 1 axis or more; of several, or a list, a tuple of them."""
    return _each_at_least("atleast_1d", tensors, 1)


def atleast_2d(*tensors: Any) -> Any:
    """A tensor with 2 axes or more: (n,) becomes (1, n). Of several, or a list, a tuple."""
    return _each_at_least("atleast_2d", tensors, 2)


def atleast_3d(*tensors: Any) -> Any:
    """A tensor with 3 axes or more: (n,) becomes (1, n, 1), and (m, n) becomes (m, n, 1)."""
    return _each_at_least("atleast_3d", tensors, 3)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: along axis 1, vectors along axis 0."""
    parts = _tensors("hstack", tensors, 1)
    return _core.concatenate(parts, int(bool(parts) and parts[0].ndim > 1))


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other, along axis 0; vectors are rows."""
    return _core.concatenate(_tensors("vstack", tensors, 2))


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors behind each other, along axis 2."""
    return _core.concatenate(_tensors("dstack", tensors, 3), 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side, along axis 1; vectors are columns."""
    parts = _tensors("column_stack", tensors, 1)
    return _core.concatenate([x.unsqueeze(1) if x.ndim == 1 else x for x in parts], 1)


def block_diag(*tensors: Any) -> Tensor:
    """The matrix with these on its diagonal, and zeros elsewhere; vectors are rows."""
    parts = _tensors("block_diag", tensors, 2)
    if not parts:
        raise ValueError("block_diag: got no tensors; expected at least one")
    dtype = _core.concatenate([x.reshape(-1)[:0] for x in parts]).dtype
    width, at, rows = sum(x.shape[-1] for x in parts), 0, []
    for i, x in enumerate(parts):
        if x.ndim > 2:
            raise ShapeError(f"block_diag: tensor {i} has shape {x.shape}; expected 2 axes at most")
        height, size = x.shape
        zeros = (_core.zeros((height, n), dtype, x.device) for n in (at, width - at - size))
        rows.append(_core.concatenate([next(zeros), x, next(zeros)], 1))
        at += size
    return _core.concatenate(rows)


# ---- spread


def broadcast_shapes(*shapes: int | Sequence[int]) -> tuple[int, ...]:
    """The shape that tensors of these shapes broadcast to. ShapeError where there is none."""
    given = [_sizes("broadcast_shapes", "a shape", shape) for shape in shapes]
    result = [1] * max(map(len, given), default=0)
    for shape in given:
        for i, size in enumerate(shape, len(result) - len(shape)):
            if size != 1 and result[i] not in (1, size):
                raise ShapeError(
                    f"broadcast_shapes: {', '.join(map(str, given))} do not broadcast; counted "
                    "from the right, sizes must be equal, or 1, or absent"
                )
            result[i] = result[i] if size == 1 else size
    return tuple(result)


def broadcast_tensors(*tensors: Tensor) -> list[Tensor]:
    """Views of the tensors in the shape that all broadcast to."""
    shape = broadcast_shapes(*(x.shape for x in tensors))
    return [x.broadcast_to(shape) for x in tensors]


def broadcast_arrays(*tensors: Tensor) -> list[Tensor]:
    """broadcast_tensors, by NumPy's name."""
    return broadcast_tensors(*tensors)


def meshgrid(*tensors: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinates of a grid: of each vector its values, in the shape of the grid; views.

    indexing   "xy" (NumPy's default): the grid has shape (n1, n0, n2, ...), so that the first
               vector goes along columns; "ij": (n0, n1, n2, ...)
    """
    choice("meshgrid", "indexing", indexing, ("xy", "ij"))
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    parts = _tensors("meshgrid", given, 1)
    for i, x in enumerate(parts):
        if x.ndim > 1:
            raise ShapeError(f"meshgrid: tensor {i} has shape {x.shape}; expected a vector")
    order = list(range(len(parts)))
    if indexing == "xy":
        order[:2] = order[:2][::-1]
    shape = [parts[i].size for i in order]
    one = [[-1 if j == i else 1 for j in order] for i in range(len(parts))]
    return tuple(x.reshape(s).broadcast_to(shape) for x, s in zip(parts, one, strict=True))


# ---- triangles and diagonals


def _offsets(rows: int, columns: int, device: str) -> Tensor:
    """Column less row of each element of a matrix."""
    count = _core.arange(columns, device=device)
    return count - _core.arange(rows, device=device).unsqueeze(1)


def _triangle(op: str, x: Tensor, keep: Any) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"{op}: x has shape {x.shape}; expected a matrix, or several: 2 axes")
    mask = keep(_offsets(x.shape[-2], x.shape[-1], x.device))
    return _core.where(mask, x, _core.zeros((), x.dtype, x.device))


def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """x (..., n, m) with zeros above the diagonal of this offset."""
    return _triangle("tril", x, lambda offset: offset <= diagonal)


def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """x (..., n, m) with zeros below the diagonal of this offset."""
    return _triangle("triu", x, lambda offset: offset >= diagonal)


def tril_indices(row: int, col: int, offset: int = 0, device: str = "cpu") -> Tensor:
    """Rows and columns, (2, count) int64, of a matrix' elements up to the diagonal of an offset.

    x[*tril_indices(3, 3)]   # the six elements
    """
    return _core.nonzero(_offsets(row, col, device) <= offset).mT


def triu_indices(row: int, col: int, offset: int = 0, device: str = "cpu") -> Tensor:
    """Rows and columns, (2, count) int64, of a matrix' elements from the diagonal of an offset."""
    return _core.nonzero(_offsets(row, col, device) >= offset).mT


def diag(x: Tensor, diagonal: int = 0) -> Tensor:
    """Of a matrix its diagonal of this offset, a view; of a vector the matrix that has it."""
    if x.ndim not in (1, 2):
        raise ShapeError(
            f"diag: x has shape {x.shape}; expected a vector or a matrix: of several, write "
            "x.diagonal(0, -2, -1) or x.diag_embed()"
        )
    return diag_embed(x, diagonal) if x.ndim == 1 else x.diagonal(diagonal)


def diag_embed(x: Tensor, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Tensor:
    """x's last axis as the diagonal of new axes axis1 and axis2, with zeros elsewhere."""
    if not x.ndim:
        raise ShapeError("diag_embed: x has shape (); expected one axis or more")
    size = x.shape[-1] + abs(offset)
    zeros = _core.zeros((*x.shape[:-1], abs(offset)), x.dtype, x.device)
    wide = _core.concatenate([x, zeros], -1).unsqueeze(-1 if offset > 0 else -2)
    here = _offsets(size, size, x.device) == offset
    y = _core.where(here, wide, _core.zeros((), x.dtype, x.device))
    return movedim(y, (-2, -1), (axis1, axis2))


# ---- of Tensor alone


def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """x.expand(other.shape): a view."""
    return x.expand(other.shape)


def reshape_as(x: Tensor, other: Tensor) -> Tensor:
    """x.reshape(other.shape): a view where the strides allow it."""
    return x.reshape(other.shape)


def view_as(x: Tensor, other: Tensor) -> Tensor:
    """x.view(other.shape): a view, or a ShapeError."""
    return x.view(other.shape)


def type_as(x: Tensor, other: Tensor) -> Tensor:
    """x with the dtype of another tensor."""
    return x.to(other.dtype)


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
