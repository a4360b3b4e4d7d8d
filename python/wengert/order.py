"""Functions of order, on the engine's sort and searchsorted: ranks, sets, counts.

Each is also `wengert.NAME`, and a method of Tensor where PyTorch has one. NaN is the largest value
(last in ascending order, first in descending), -0.0 equals 0.0, equal values keep their order, and
the indices given are those of the first ones. Gradients go to the elements that were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import _core, _explained
from ._calls import choice, describe
from ._core import DTypeError, ShapeError, Tensor

__all__ = [
    "argsort",
    "bincount",
    "bucketize",
    "histc",
    "histogram",
    "isin",
    "kthvalue",
    "median",
    "mode",
    "nanmedian",
    "nanquantile",
    "quantile",
    "searchsorted",
    "sort",
    "topk",
    "unique",
    "unique_consecutive",
]


class ValuesAndIndices(NamedTuple):
    """Elements, and where they were along the axis (int64)."""

    values: Tensor
    indices: Tensor


class Histogram(NamedTuple):
    """How many, and the edges of the bins, one more than there are bins."""

    hist: Tensor
    bin_edges: Tensor


def _axis(op: str, x: Tensor, axis: int) -> int:
    """The axis counted from the front; a 0-d tensor has one."""
    ndim = x.ndim or 1
    if not -ndim <= axis < ndim:
        raise IndexError(f"{op}: axis {axis} is out of range; x has shape {x.shape}")
    return axis % ndim


def _size(x: Tensor, axis: int) -> int:
    return x.shape[axis] if x.ndim else 1


def _last(x: Tensor, axis: int) -> Tensor:
    """x with the axis and the last one exchanged."""
    return x if axis == x.ndim - 1 else x.swapaxes(axis, -1)


# ---- ranks


def sort(
    x: Tensor, axis: int = -1, descending: bool = False, stable: bool = False
) -> ValuesAndIndices:
    """x in order along an axis, and the indices; always stable. NaN is the largest."""
    axis = _axis("sort", x, axis)
    return ValuesAndIndices(*_core._sort(x, axis, 0, _size(x, axis), descending))


def argsort(x: Tensor, axis: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that sort() gives, int64."""
    axis = _axis("argsort", x, axis)
    return _core._sort(x.detach(), axis, 0, _size(x, axis), descending)[1]


def topk(
    x: Tensor, k: int, axis: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesAndIndices:
    """The k largest (or smallest) along an axis, in order, and their indices. NaN is the largest.

    Raises ValueError where the axis has fewer than k elements.

    >>> values, indices = wg.topk(wg.tensor([3.0, 9.0, 5.0]), 2)
    >>> values, indices
    (tensor([9., 5.]), tensor([1, 2]))
    """
    axis = _axis("topk", x, axis)
    if not (0 if x.ndim else 1) <= k <= _size(x, axis):
        raise ValueError(
            f"topk: k is {k}, and axis {axis} of x, which has shape {x.shape}, has "
            f"{_size(x, axis)} elements; expected no more than those"
        )
    return ValuesAndIndices(*_core._sort(x, axis, 0, k, largest))


def _ranked(op: str, x: Tensor, axis: int, rank: int, keepdims: bool) -> ValuesAndIndices:
    if _size(x, axis) == 0:
        raise ValueError(f"{op}: axis {axis} of x, which has shape {x.shape}, has no elements")
    found = _core._sort(x, axis, rank, 1, False)
    return ValuesAndIndices(
        *(found if keepdims or not x.ndim else (t.squeeze(axis) for t in found))
    )


def kthvalue(x: Tensor, k: int, axis: int = -1, keepdims: bool = False) -> ValuesAndIndices:
    """The k-th smallest along an axis, k from 1 on, and its index."""
    axis = _axis("kthvalue", x, axis)
    if not 1 <= k <= _size(x, axis):
        raise ValueError(
            f"kthvalue: k is {k}; expected 1 to {_size(x, axis)}, the elements of axis {axis} of "
            f"shape {x.shape}"
        )
    return _ranked("kthvalue", x, axis, k - 1, keepdims)


def _pick(x: Tensor, axis: int, index: Tensor, keepdims: bool) -> ValuesAndIndices:
    """The elements at an index that has one along the axis."""
    values = x.gather(axis, index) if x.ndim else x
    if keepdims or not x.ndim:
        return ValuesAndIndices(values, index)
    return ValuesAndIndices(values.squeeze(axis), index.squeeze(axis))


def _of_all(op: str, x: Tensor, keepdims: bool) -> Tensor:
    """x as one row, of a function that was given no axis."""
    if keepdims:
        raise ValueError(
            f"{op}: keepdims is True without an axis; give axis, or reshape the result"
        )
    return x.flatten()


def median(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """The middle element of all, or along an axis, with its index: of an even number the lower of
    the two. NaN where there is one; median of nothing is NaN.

        values, indices = x.median(1)
    """
    if axis is None:
        flat = _of_all("median", x, keepdims)
        if flat.size == 0 and x.dtype.is_floating_point:
            return _core.full((), math.nan, x.dtype, x.device)
        return median(flat, 0).values
    axis = _axis("median", x, axis)
    rank = max(0, (_size(x, axis) - 1) // 2)
    if not x.dtype.is_floating_point or _size(x, axis) == 0 or not x.ndim:
        return _ranked("median", x, axis, rank, keepdims)
    top = x.detach().argmax(axis, True)  # the first NaN, if there is any
    index = _core._sort(x.detach(), axis, rank, 1, False)[1]
    return _pick(x, axis, _core.where(x.detach().gather(axis, top).isnan(), top, index), keepdims)


def nanmedian(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """median() of the elements that are not NaN; NaN where all are."""
    if axis is None:
        flat = _of_all("nanmedian", x, keepdims)
        return nanmedian(flat, 0).values if flat.size else median(flat)
    axis = _axis("nanmedian", x, axis)
    if not x.dtype.is_floating_point or _size(x, axis) == 0 or not x.ndim:
        return _ranked("nanmedian", x, axis, max(0, (_size(x, axis) - 1) // 2), keepdims)
    numbers = (~x.detach().isnan()).sum(axis, True)
    rank = (numbers - 1).clamp(min=0) // 2
    return _pick(x, axis, argsort(x, axis).gather(axis, rank), keepdims)


def mode(x: Tensor, axis: int = -1, keepdims: bool = False) -> ValuesAndIndices:
    """The most frequent value along an axis, the smallest of several, and the index of its last
    occurrence."""
    axis = _axis("mode", x, axis)
    if not x.ndim:
        return _ranked("mode", x, axis, 0, keepdims)
    if _size(x, axis) == 0:
        raise ValueError(f"mode: axis {axis} of x, which has shape {x.shape}, has no elements")
    values, order = sort(_last(x.detach(), axis))
    after = _core._searchsorted(values, values, True)
    best = (after - _core._searchsorted(values, values, False)).argmax(-1, True)
    index = _last(order.gather(-1, after.gather(-1, best) - 1), axis)
    return _pick(x, axis, index, keepdims)


_BETWEEN = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantile(
    op: str, x: Tensor, q: Any, axis: int | None, keepdims: bool, interpolation: str
) -> Tensor:
    choice(op, "interpolation", interpolation, _BETWEEN)
    q = q if isinstance(q, Tensor) else _core.tensor(q, "float64")
    if q.ndim > 1:
        raise ShapeError(f"{op}: q has shape {q.shape}; expected a number, or one axis of them")
    traced = _core._is_tracing()
    if not traced and not bool(((q >= 0) & (q <= 1)).all()):
        raise ValueError(f"{op}: q is {describe(q.tolist())}; expected numbers from 0 to 1")
    if axis is None:
        y = _quantile(op, x.flatten(), q, 0, False, interpolation)
        return y.reshape(*q.shape, *(1 for _ in x.shape)) if keepdims else y
    axis, n = _axis(op, x, axis), _size(x, axis)
    if n == 0:
        raise ValueError(f"{op}: axis {axis} of x, which has shape {x.shape}, has no elements")
    if not x.ndim:
        return _quantile(op, x.flatten(), q, 0, False, interpolation)
    values = _last(sort(x if x.dtype.is_floating_point else x.float(), axis).values, axis)
    nan = values.detach().isnan()
    ranks = q.to(x.device).double().reshape(-1)
    if op == "nanquantile":
        ranks = ranks * (n - 1 - nan.sum(-1, True)).clamp(min=0)
    else:
        ranks = _core.where(nan[..., -1:], float(n - 1), ranks * (n - 1))

    def at(rank: Tensor) -> Tensor:
        index = rank.detach().long()
        return values.gather(-1, _core.where(index < 0, n, index) if traced else index)

    if interpolation in ("linear", "midpoint"):
        low, high = at(ranks.floor()), at(ranks.ceil())
        share = ranks - ranks.floor().detach() if interpolation == "linear" else ranks * 0 + 0.5
        y = low + _core._times(share.to(low.dtype), high - low)
    else:
        y = at(
            {"lower": ranks.floor, "higher": ranks.ceil, "nearest": ranks.round}[interpolation]()
        )
    y = _last(y, axis)
    if q.ndim:
        y, axis = y.unsqueeze(0).swapaxes(0, axis + 1), axis + 1
    return y if keepdims else y.squeeze(axis)


def quantile(
    x: Tensor,
    q: float | Sequence[float] | Tensor,
    axis: int | None = None,
    keepdims: bool = False,
    interpolation: str = "linear",
) -> Tensor:
    """The q-quantile of all elements, or along an axis: a share q is below it. NaN if there is one.

    The rank q * (n - 1) is between two values: interpolation is "linear", "lower", "higher",
    "nearest" or "midpoint". Of several q the first axis of the result. Integers become float32.

        x.quantile([0.25, 0.75], axis=0)
    """
    return _quantile("quantile", x, q, axis, keepdims, interpolation)


def nanquantile(
    x: Tensor,
    q: float | Sequence[float] | Tensor,
    axis: int | None = None,
    keepdims: bool = False,
    interpolation: str = "linear",
) -> Tensor:
    """quantile() of the elements that are not NaN; NaN where all are."""
    return _quantile("nanquantile", x, q, axis, keepdims, interpolation)


def searchsorted(
    sorted_sequence: Tensor,
    values: Tensor | float,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values would be put into a sorted sequence: before elements that equal them, or, with
    right or side="right", behind them. int64, or int32; of the values' shape.

    sorted_sequence   (n,), or (..., n) for values (..., m); in ascending order along the last axis
    sorter            the indices that sort it, if it is not in order
    """
    if side is not None:
        choice("searchsorted", "side", side, ("left", "right"))
        if right and side == "left":
            raise ValueError('searchsorted: right is True and side is "left"; give one of them')
    if sorter is not None:
        sorted_sequence = sorted_sequence.gather(-1, sorter)
    y = _core._searchsorted(sorted_sequence, values, right or side == "right")
    return y.to("int32") if out_int32 else y


def bucketize(
    x: Tensor | float, boundaries: Tensor, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the bucket of each x: searchsorted(boundaries, x)."""
    if isinstance(boundaries, Tensor) and boundaries.ndim != 1:
        raise ShapeError(f"bucketize: boundaries have shape {boundaries.shape}; expected one axis")
    return searchsorted(boundaries, x, out_int32, right)


# ---- sets


def _groups(
    op: str, x: Tensor, axis: int | None, in_order: bool, inverse: bool, counts: bool
) -> Any:
    shape: tuple[int, ...] = x.shape
    if axis is None or not x.ndim:
        x, back = x.flatten(), [0]
        rows, n = x.unsqueeze(1), x.size
    else:
        axis = _axis(op, x, axis)
        front = [axis, *(d for d in range(x.ndim) if d != axis)]
        back = [front.index(d) for d in range(x.ndim)]
        x, n = x.permute(*front), x.shape[axis]
        shape, rows = (n,), x.reshape(n, x.size // n if n else 0).detach()
    order = _core.arange(n, device=x.device)
    if not in_order:  # by the last column first, as later sorts keep the order of earlier ones
        for column in reversed(range(rows.shape[1])):
            order = order[argsort(rows[order, column], 0)]
        rows = rows[order]
    is_first = (rows[1:] != rows[:-1]).any(1)
    if n:
        is_first = _core.concatenate([_core.ones(1, "bool", x.device), is_first])
    first = is_first.nonzero()[:, 0]
    result = [x[order[first]].permute(*back)]
    if inverse:
        group = _core._searchsorted(first, _core.arange(n, device=x.device), True) - 1
        result.append(_add_at(order, group, n).reshape(shape))
    if counts:
        end = _core.full((min(n, 1),), n, "int64", x.device)
        result.append(_core.concatenate([first[1:], end]) - first)
    return tuple(result) if result[1:] else result[0]


def unique(
    x: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
) -> Any:
    """The distinct elements, or slices along an axis, in ascending order; each NaN is distinct.

    With return_inverse also which of them each element of x is, with return_counts how many there
    are of each: (values, inverse, counts). A slice takes a sort for each of its elements.

        values, counts = x.unique(return_counts=True)
    """
    return _groups("unique", x, axis, False, return_inverse, return_counts)


def unique_consecutive(
    x: Tensor, return_inverse: bool = False, return_counts: bool = False, axis: int | None = None
) -> Any:
    """x without elements, or slices along an axis, that equal the one before; see unique()."""
    return _groups("unique_consecutive", x, axis, True, return_inverse, return_counts)


def isin(
    elements: Tensor | float,
    test_elements: Tensor | float,
    assume_unique: bool = False,
    invert: bool = False,
) -> Tensor:
    """Is each element one of test_elements? bool, of the elements' shape; with invert the opposite.

    assume_unique changes nothing. NaN equals none.
    """
    if not isinstance(test_elements, Tensor):
        found = elements == test_elements
    elif test_elements.size == 0:
        found = _core.asarray(elements) != elements
    else:
        known = sort(test_elements.detach().flatten()).values
        at = _core._searchsorted(known, elements, False).clamp(max=known.size - 1)
        found = known[at] == elements
    return ~found if invert else found  # type: ignore[return-value]


# ---- counts


def _whole(op: str, name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{op}: {name} is {value}; expected {least} or more")


def bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, ... max(x) is in x (n,), or the sum of the weights there.

    int64; with weights their dtype, and float64 for others than float32. At least minlength
    elements. Raises ValueError where x has a negative element.
    """
    op = "bincount"
    _whole(op, "minlength", minlength, 0)
    if x.ndim != 1 or x.dtype.is_floating_point or x.dtype == _core.bool_:
        kind = ShapeError if x.ndim != 1 else DTypeError
        raise kind(f"{op}: x is {describe(x)}; expected integers of one axis")
    x, n = x.long(), minlength
    if x.size:
        if (least := int(x.min().item())) < 0:
            raise ValueError(f"{op}: x has an element {least}; expected 0 or more")
        n = max(n, int(x.max().item()) + 1)
    if weights is None:
        weights = _core.ones(x.shape, "int64", x.device)
    else:
        if weights.shape != x.shape:
            raise ShapeError(f"{op}: weights have shape {weights.shape}, and x has {x.shape}")
        weights = weights if weights.dtype == _core.float32 else weights.double()
    return _add_at(x, weights, n)


def _add_at(rows: Tensor, values: Tensor, n: int) -> Tensor:
    return _core.zeros(n, values.dtype, values.device).index_add(0, rows, values)


def _edges(op: str, x: Tensor, bins: int, low: float, high: float, given: bool) -> Tensor:
    """Edges of bins of one width: between low and high, or between the least and largest x."""
    _whole(op, "bins", bins, 1)
    if not given:
        low, high = (float(x.min().item()), float(x.max().item())) if x.size else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{op}: the range is {low} to {high}; expected finite numbers that rise")
    return _core.linspace(low, high, bins + 1, x.dtype, x.device)


def _floating(op: str, x: Tensor) -> Tensor:
    return x.detach().flatten() if x.dtype.is_floating_point else x.flatten().float()


def _counted(x: Tensor, edges: Tensor, weight: Tensor | None) -> Tensor:
    """The last bin has its right edge. What is in no bin goes to one more, which is left out."""
    bins = edges.size - 1
    at = _core._searchsorted(edges, x, True) - 1
    at = _core.where(x == edges[-1], bins - 1, _core.where((at < 0) | (at > bins), bins, at))
    if weight is None:
        weight = _core.ones(x.shape, "int64", x.device)
    return _add_at(at, weight, bins + 1)[:bins]


def histc(x: Tensor, bins: int = 100, min: float = 0.0, max: float = 0.0) -> Tensor:
    """How many elements are in each of `bins` bins of one width from min to max; of x's dtype.

    If both are 0, between the least and the largest x. Others are not counted.
    """
    x = _floating("histc", x)
    return _counted(x, _edges("histc", x, bins, min, max, min != max), None).to(x.dtype)


def histogram(
    x: Tensor,
    bins: int | Tensor = 10,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Histogram:
    """How many elements, or what sum of their weights, is in each bin, and the bins' edges.

    bins      how many, of one width over `range` (from the least to the largest x), or their edges
    density   the counts over their sum and the bins' widths
    """
    op = "histogram"
    weight = weight if weight is None else weight.flatten()
    x = _floating(op, x)
    if weight is not None and weight.shape != x.shape:
        raise ShapeError(f"{op}: weight has {weight.size} elements, and x has {x.size}")
    if isinstance(bins, Tensor):
        if bins.ndim != 1 or bins.size < 2:
            raise ShapeError(f"{op}: bins have shape {bins.shape}; expected two edges or more")
        edges = bins.to(x.dtype)
    else:
        low, high = range or (0.0, 0.0)
        edges = _edges(op, x, bins, low, high, range is not None)
    counts = _counted(x, edges, weight).to(x.dtype)
    if density:
        counts = counts / counts.sum() / (edges[1:] - edges[:-1])
    return Histogram(counts, edges)


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
