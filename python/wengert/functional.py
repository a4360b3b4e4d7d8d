"""Functions written with the engine's ops, which give their gradients: losses, pad and einsum.

Each is also `wengert.NAME`, and its lines are in the list of a step to study.

Losses refuse shapes that differ: (n, 1) against (n,) would broadcast to (n, n) and train wrong.
Their `reduction` is "mean", "sum", "none", and for mse_loss "half_mean".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from . import _core, _explained
from ._calls import choice, describe
from ._core import DTypeError, ShapeError, Tensor

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "einsum", "mse_loss", "pad"]


# ---- losses


def _reduce(op: str, losses: Tensor, reduction: str, others: tuple[str, ...] = ()) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    choice(op, "reduction", reduction, ("mean", "sum", "none", *others))
    return losses


def _tensors(op: str, **arguments: Tensor) -> None:
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{op}: {name} is {describe(value)}; expected a tensor: "
                f"write wengert.tensor({name})"
            )


def _same_shape(op: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        way_out = f": write target.reshape({a.shape})" if a.size == b.size else ""
        raise ShapeError(
            f"{op}: got a prediction of shape {a.shape} and a target of shape {b.shape}; they must "
            f"be equal{way_out}"
        )


def _check_target(logits: Tensor, target: Tensor) -> None:
    """Raises for a target that is neither class indices nor probabilities."""
    n = logits.shape[0]
    of_classes = not target.dtype.is_floating_point and target.dtype != _core.bool_
    if target.shape == ((n,) if of_classes else logits.shape) and target.dtype != _core.bool_:
        return
    way_out = ""
    if target.shape == logits.shape:  # 1 for the class, 0 for the others
        way_out = ": write target.float()"
    elif target.size == n:
        write = f"{'' if of_classes else '.long()'}{'' if target.ndim == 1 else f'.reshape({n})'}"
        way_out = f": write target{write}"
    kind = DTypeError if target.shape in ((n,), logits.shape) else ShapeError
    raise kind(
        f"cross_entropy: got logits of shape {logits.shape} and a target of shape {target.shape} "
        f"and dtype {target.dtype.name}; expected class indices of shape ({n},) and an integer "
        f"dtype, or probabilities of shape {logits.shape}{way_out}"
    )


def mse_loss(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Squared error: the mean of (prediction - target)², or its sum, or all of them.

    "half_mean" is 1/(2N)·Σ(prediction - target)² over all N elements: its gradient has no factor 2.

    Shapes: any, but equal. Raises ShapeError where they differ.
    """
    _tensors("mse_loss", prediction=prediction, target=target)
    _same_shape("mse_loss", prediction, target)
    losses = (prediction - target).square()
    if reduction == "half_mean":
        return losses.mean() * 0.5
    return _reduce("mse_loss", losses, reduction, ("half_mean",))


def cross_entropy(
    logits: Tensor, target: Tensor, reduction: str = "mean", label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of softmax(logits) against the target, in nats.

    logits  (n, classes), floating
    target  (n,) class indices, an integer dtype; or (n, classes) probabilities, floating

    With label_smoothing s the target is (1 - s)·target + s/classes (Szegedy et al. 2015, arXiv
    1512.00567). Stable for any finite logits. Raises ShapeError, and IndexError for a class index
    that is out of range.
    """
    _tensors("cross_entropy", logits=logits, target=target)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}; expected 0 to 1")
    if logits.ndim != 2:
        way_out = ": put the classes last, and join the other axes with reshape(-1, classes)"
        raise ShapeError(
            f"cross_entropy: got logits of shape {logits.shape}; expected (n, classes)"
            f"{way_out if logits.ndim > 2 else ': write logits[None]' * logits.ndim}"
        )
    _check_target(logits, target)
    if target.dtype.is_floating_point:
        target = target * (1 - label_smoothing) + label_smoothing / logits.shape[1]
        losses = -_core._times(target, logits.log_softmax(1)).sum(1)  # 0 * log(0) is 0
    else:
        losses = _core.cross_entropy_rows(logits, target)
        if label_smoothing:
            uniform = -logits.log_softmax(1).mean(1)
            losses = losses * (1 - label_smoothing) + uniform * label_smoothing
    return _reduce("cross_entropy", losses, reduction)


def binary_cross_entropy_with_logits(
    logits: Tensor, target: Tensor, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of sigmoid(logits) against targets in [0, 1], in nats, element by element.

    Shapes: any, but equal. Stable for any finite logits. Raises ShapeError where shapes differ.
    """
    op = "binary_cross_entropy_with_logits"
    _tensors(op, logits=logits, target=target)
    _same_shape(op, logits, target)
    return _reduce(op, _core.binary_cross_entropy_with_logits_elements(logits, target), reduction)


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
