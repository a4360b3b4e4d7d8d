"""Functions written with the engine's ops, which give their gradients: losses, pad and einsum.

Each is also `wengert.NAME`, and its lines are in the list of a step to study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from . import _core, _explained, losses
from ._core import Tensor
from .losses import *  # noqa: F403

__all__ = ["einsum", "pad"]
__all__ += losses.__all__


# ---- shapes


def pad(
    x: Tensor,
    pad_width: int | tuple[int, int] | Sequence[tuple[int, int]],
    constant_values: float = 0.0,
) -> Tensor:
    """`x` with constants before and after it along each axis; NumPy's arguments.

    pad_width   (before, after) for each axis, or one pair, or one number, for all of them
    """
    if isinstance(pad_width, int):
        pad_width = (pad_width, pad_width)
    given: list[Any] = list(pad_width)
    if len(given) == 2 and all(isinstance(p, int) for p in given):
        given = [given] * x.ndim
    pairs = [tuple(p) if isinstance(p, Sequence) else p for p in given]
    good = len(pairs) == x.ndim and all(
        isinstance(p, tuple) and len(p) == 2 and all(isinstance(n, int) and n >= 0 for n in p)
        for p in pairs
    )
    if not good:
        raise ValueError(
            f"pad: pad_width is {pad_width!r}; give (before, after), whole numbers of 0 or more, "
            f"for each of the {x.ndim} axes of shape {x.shape}, or one pair for all"
        )
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            front, back = (
                _core.full(
                    (*x.shape[:axis], size, *x.shape[axis + 1 :]),
                    constant_values,
                    x.dtype,
                    x.device,
                )
                for size in (before, after)
            )
            x = _core.concatenate([front, x, back], axis)
    return x


def einsum(subscripts: str, *operands: Tensor) -> Tensor:
    """Sums of products, by Einstein's notation: einsum("bij,bjk->bik", a, b) is a batch of a @ b.

    A letter names an axis; letters left out of the result are summed over; "..." stands for the
    axes in front, which broadcast. Without "->" the result has the letters that occur once, in
    order of the alphabet. Operands are joined from left to right, each pair by one matmul.
    """
    inputs, output = _read_subscripts(subscripts, operands)
    result, names = _diagonals(operands[0], inputs[0])
    for i, (operand, given) in enumerate(zip(operands[1:], inputs[1:], strict=True), 2):
        needed = set(output).union(*inputs[i:])
        result, names = _join(result, names, *_diagonals(operand, given), needed)
    result, names = _sum_out(result, names, set(output))
    return result.permute(*map(names.index, output)) if output else result


def _read_subscripts(text: str, operands: tuple[Tensor, ...]) -> tuple[list[list[str]], list[str]]:
    """The names of the axes of each operand and of the result. Those of "..." are numbers."""
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands) or not operands:
        raise ValueError(
            f"einsum: {text!r} speaks of {len(terms)} operands and there are {len(operands)}"
        )
    inputs = []
    for term, operand in zip(terms, operands, strict=True):
        inputs.append(_names(term, operand.ndim, text, operand.shape))
    dots = sorted({name for names in inputs for name in names if name.isdigit()})
    if arrow:
        spread = right.replace("...", "")
        at = right.find("...")
        output = list(spread) if at < 0 else [*right[:at], *dots, *right[at + 3 :]]
    else:
        letters = [name for names in inputs for name in names if not name.isdigit()]
        output = dots + sorted(name for name in set(letters) if letters.count(name) == 1)
    known = {name for names in inputs for name in names}
    if len(set(output)) != len(output) or not set(output) <= known:
        raise ValueError(f"einsum: {text!r}: the result's letters must occur in the operands, once")
    sizes: dict[str, int] = {}
    for names, operand in zip(inputs, operands, strict=True):
        for name, size in zip(names, operand.shape, strict=True):
            if sizes.setdefault(name, size) != size:
                if not name.isdigit() or 1 not in (size, sizes[name]):
                    raise _core.ShapeError(
                        f"einsum: {text!r}: axis {name!r} has size {sizes[name]} in one operand "
                        f"and {size} in another"
                    )
                sizes[name] = max(size, sizes[name])
    return inputs, output


def _names(term: str, ndim: int, text: str, shape: tuple[int, ...]) -> list[str]:
    head, dots, tail = term.partition("...")
    spread = ndim - len(head) - len(tail)
    if not all(c.isalpha() for c in head + tail) or spread < 0 or (spread and not dots):
        raise ValueError(
            f"einsum: {text!r}: {term!r} does not name the axes of an operand of shape {shape}; "
            'expected one letter for each, and "..." for those in front'
        )
    # Counted from the right, so that they broadcast: 99 is the last.
    return [*head, *(str(100 - spread + i) for i in range(spread)), *tail]


def _diagonals(x: Tensor, names: list[str]) -> tuple[Tensor, list[str]]:
    """`x` with each name once: of an axis named twice, its diagonal."""
    names = list(names)
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            order = [i for i in range(x.ndim) if i not in (first, second)]
            x = x.permute(first, second, *order)
            along = _core.arange(x.shape[0], device=x.device)
            x = x[along, along]
            names = [name, *(names[i] for i in order)]
    return x, names


def _sum_out(x: Tensor, names: list[str], needed: set[str]) -> tuple[Tensor, list[str]]:
    gone = [name for name in names if name not in needed]
    if gone:
        x = x.sum(axis=[names.index(name) for name in gone])
    return x, [name for name in names if name in needed]


def _join(
    a: Tensor, a_names: list[str], b: Tensor, b_names: list[str], needed: set[str]
) -> tuple[Tensor, list[str]]:
    """The product of two operands as one matmul, summed over what is not needed later."""
    a, a_names = _sum_out(a, a_names, needed.union(b_names))
    b, b_names = _sum_out(b, b_names, needed.union(a_names))
    shared = [name for name in a_names if name in b_names]
    sizes = dict(zip(a_names, a.shape, strict=True))
    for name, size in zip(b_names, b.shape, strict=True):
        sizes[name] = max(size, sizes.get(name, size)) if sizes.get(name) != 0 else 0
    batch = [name for name in shared if name in needed]
    summed = [name for name in shared if name not in needed]
    rows = [name for name in a_names if name not in shared]
    cols = [name for name in b_names if name not in shared]

    def matrices(x: Tensor, names: list[str], *groups: list[str]) -> Tensor:
        """`x` with its axes in groups: the batch as it is, each other group joined to one."""
        order = [name for group in groups for name in group]
        if order:
            x = x.permute(*map(names.index, order)).broadcast_to([sizes[n] for n in order])
        joined = [math.prod(sizes[n] for n in group) for group in groups[1:]]
        return x.reshape(*(sizes[n] for n in groups[0]), *joined)

    y = matrices(a, a_names, batch, rows, summed) @ matrices(b, b_names, batch, summed, cols)
    names = batch + rows + cols
    return y.reshape(tuple(sizes[name] for name in names)), names


def __getattr__(name: str) -> NoReturn:
    import sys

    from . import _names

    elsewhere = ("wengert.nn.functional", "wengert")
    raise _names.no_attribute(sys.modules[__name__], name, _names.FUNCTIONAL, elsewhere)


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
