"""Functions written with the engine's ops, which give their gradients: losses, norms, pad and
einsum.

Each is also `wengert.NAME`, and its lines are in the list of a step to study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from . import _core, _explained, losses
from ._calls import choice
from ._core import Tensor
from .autograd import no_grad
from .losses import *  # noqa: F403
from .random import Generator, bernoulli
from .shapes import narrow

__all__ = ["batch_norm", "dropout", "einsum", "group_norm", "instance_norm", "pad", "rms_norm"]
__all__ += ["scaled_dot_product_attention"]
__all__ += losses.__all__


# ---- dropout


def dropout(
    x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """In training, x with each element 0 with probability p, the others times 1/(1 - p); else x.

    >>> wg.dropout(wg.ones(3), 0.5, training=False)
    tensor([1., 1., 1.])
    """
    if not training or p == 0.0:
        return x
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p is {p}; it is a probability, from 0 to 1")
    keep = 1.0 - p
    mask = bernoulli(keep, x.shape, x.dtype, generator, x.device)
    return x * (mask * (1.0 / keep) if keep > 0.0 else mask)


# ---- attention


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """softmax(query @ key.mT * scale + attn_mask) @ value, without the whole matrix of scores.

    query (..., L, D), key (..., S, D), value (..., S, E); attn_mask broadcasts to (..., L, S): bool
    (True: looked at) or floating (added). is_causal: query i looks at keys 0 to i. scale:
    1 / sqrt(D). A query that may look at no key gets zeros. arXiv 1706.03762, 2205.14135.

    dropout_p    of the weights, whenever it is not 0; the matrix of scores is whole then
    enable_gqa   axis -3 are heads, and several queries' heads, one after another, share the head of
                 a key and value. arXiv 2305.13245

    >>> q, k, v = wg.rand((2, 4, 8)), wg.rand((2, 6, 8)), wg.rand((2, 6, 5))
    >>> wg.scaled_dot_product_attention(q, k, v).shape
    (2, 4, 5)
    """
    if isinstance(dropout_p, bool) or not 0.0 <= dropout_p <= 1.0:
        raise ValueError(
            f"scaled_dot_product_attention: dropout_p is {dropout_p}; expected a probability, from "
            "0 to 1; is_causal comes after it: write is_causal=True"
        )
    if enable_gqa:
        heads = [x.shape[-3] if x.ndim > 2 else 0 for x in (query, key, value)]
        if not all(heads) or heads[0] % heads[1] or heads[0] % heads[2]:
            raise _core.ShapeError(
                "scaled_dot_product_attention: enable_gqa: query, key, value have shapes "
                f"{query.shape}, {key.shape}, {value.shape}; expected three axes or more, and as "
                "many heads (axis -3) in query as in the others, or a multiple"
            )
        key, value = (
            x if n == heads[0] else x.repeat_interleave(heads[0] // n, -3)
            for x, n in zip((key, value), heads[1:], strict=True)
        )
    if dropout_p == 0.0:
        return _core._attention(query, key, value, attn_mask, is_causal, scale)
    weights = _core.attention_weights(query, key, attn_mask, is_causal, scale)
    return dropout(weights, dropout_p, True, generator) @ value


# ---- norms


def rms_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over x's last axes, which have normalized_shape.

    eps None is the dtype's smallest step from 1. Zhang and Sennrich 2019, arXiv 1910.07467.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise _core.ShapeError(
            f"rms_norm: x has shape {x.shape} and normalized_shape is {shape}; x's last axes must "
            "have it"
        )
    if eps is None:
        eps = {"float64": 2.0**-52, "bfloat16": 2.0**-7}.get(x.dtype.name, 2.0**-23)
    y = x * (x.square().mean(list(range(-len(shape), 0)), keepdims=True) + eps).rsqrt()
    return y if weight is None else y * weight


def _channels(op: str, x: Tensor, **given: Tensor | None) -> list[Tensor | None]:
    """Vectors of one number for each channel, so that they broadcast along x's axis 1."""
    if x.ndim < 2:
        raise _core.ShapeError(f"{op}: x has shape {x.shape}; expected (n, channels, ...)")
    for name, value in given.items():
        if value is not None and value.shape != (x.shape[1],):
            raise _core.ShapeError(
                f"{op}: {name} has shape {value.shape}; x, of shape {x.shape}, has {x.shape[1]} "
                f"channels: expected ({x.shape[1]},)"
            )
    shape = (-1, *(1 for _ in x.shape[2:]))
    return [None if value is None else value.reshape(shape) for value in given.values()]


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """x (n, channels, ...), normalised as layer_norm over each of num_groups groups of channels and
    the axes after them, times weight plus bias, (channels,). arXiv 1803.08494."""
    scale, shift = _channels("group_norm", x, weight=weight, bias=bias)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise _core.ShapeError(
            f"group_norm: x has shape {x.shape}; its {x.shape[1]} channels cannot be {num_groups} "
            "groups of one size"
        )
    size = x.shape[1] // num_groups * math.prod(x.shape[2:])
    y = _core.layer_norm(x.reshape(x.shape[0], num_groups, size), size, eps=eps).reshape(x.shape)
    y = y if scale is None else y * scale
    return y if shift is None else y + shift


def _move(running: Tensor | None, now: Tensor, momentum: Any) -> None:
    """A running statistic, moved towards that of a batch."""
    if running is not None:
        with no_grad():
            running.copy_(running * (1 - momentum) + now.detach() * momentum)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) · weight + bias for each channel of x (n, channels, ...).

    In training mean and var are those over all axes but the channels', and the running ones move
    towards them by `momentum` (the variance over count - 1); otherwise they are the running ones.
    Raises ShapeError in training where a channel has one value. arXiv 1502.03167.
    """
    op = "batch_norm"
    vectors = {"running_mean": running_mean, "running_var": running_var}
    mean, var, scale, shift = _channels(op, x, **vectors, weight=weight, bias=bias)
    if training:
        axes = [0, *range(2, x.ndim)]
        count = math.prod(x.shape[axis] for axis in axes)
        if count < 2:
            raise _core.ShapeError(
                f"{op}: x has shape {x.shape}: {count} values for each channel, which have no "
                "variance; give more of them, or call eval()"
            )
        given = [t for t in (weight, bias) if t is not None]
        fused = x.ndim > 2 and x.device == "cpu" and x.dtype.name in ("float32", "float64")
        if fused and all((t.dtype, t.device) == (x.dtype, x.device) for t in given):
            w = _core.ones((x.shape[1],), x.dtype) if weight is None else weight
            b = _core.zeros((x.shape[1],), x.dtype) if bias is None else bias
            y, kept = _core._batch_norm(x, w, b, eps)
            if running_mean is None and running_var is None:
                return y
            mean, var = kept[0], kept[1]
        else:
            y = None
            mean = x.mean(axes, keepdims=True)
            var = (x - mean).square().mean(axes, keepdims=True)
        _move(running_mean, mean.flatten(), momentum)
        _move(running_var, var.flatten() * (count / (count - 1)), momentum)
        if y is not None:
            return y
    if mean is None or var is None:
        raise ValueError(f"{op}: running_mean and running_var are needed where training is False")
    factor = (var + eps).rsqrt()
    y = (x - mean) * (factor if scale is None else factor * scale)
    return y if shift is None else y + shift


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """x (n, channels, ...), each channel of each sample normalised over the axes after it, times
    weight plus bias, (channels,). The running statistics move towards the means of those over the
    samples; without use_input_stats they are used instead. arXiv 1607.08022.
    """
    op = "instance_norm"
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    _channels(op, x, running_mean=running_mean, running_var=running_var)
    if math.prod(x.shape[2:]) < 2:
        raise _core.ShapeError(
            f"{op}: x has shape {x.shape}: one value for each channel, which has no variance"
        )
    if running_mean is not None or running_var is not None:
        flat = x.detach().reshape(*x.shape[:2], math.prod(x.shape[2:]))
        _move(running_mean, flat.mean(2).mean(0), momentum)
        _move(running_var, flat.var(2, correction=1).mean(0), momentum)
    return group_norm(x, x.shape[1], weight, bias, eps)


# ---- shapes


def pad(
    x: Tensor,
    pad_width: int | tuple[int, int] | Sequence[tuple[int, int]],
    mode: str | float = "constant",
    constant_values: float = 0.0,
) -> Tensor:
    """`x` with more elements before and after it along each axis; NumPy's arguments.

    pad_width   (before, after) for each axis, or one pair, or one number, for all of them
    mode        "constant", or the constant itself; "edge": the last element; "reflect": mirrored
                at the last element; "symmetric": mirrored behind it; "wrap": x again

    nn.functional.pad takes PyTorch's arguments.

    >>> wg.pad(wg.tensor([1, 2]), (1, 2))
    tensor([0, 1, 2, 0, 0])
    """
    if not isinstance(mode, str):  # pad(x, 1, 2.0)
        constant_values, mode = mode, "constant"
    choice("pad", "mode", mode, ("constant", "edge", "reflect", "symmetric", "wrap"))
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
        if not (before or after):
            continue
        shape, size = list(x.shape), x.shape[axis]
        if mode == "constant":
            ends = []
            for shape[axis] in (before, after):
                ends.append(_core.full(shape, constant_values, x.dtype, x.device))
            x = _core.concatenate([ends[0], x, ends[1]], axis)
            continue
        if not size:
            raise _core.ShapeError(
                f'pad: axis {axis} of shape {x.shape} has no elements to repeat; mode="constant" '
                "needs none"
            )
        places = _core.tensor(_places(-before, size + after, size, mode), device=x.device)
        x = x.index_select(axis, places)
    return x


def _cropped(x: Tensor, pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, list[tuple[int, int]]]:
    """x without what negative widths cut off, and the widths that are left to pad."""
    for axis, (before, after) in enumerate(pairs):
        size, crop = x.shape[axis], max(-before, 0) + max(-after, 0)
        if crop > size:
            raise _core.ShapeError(
                f"pad: the widths are {(before, after)}, which crops {crop} of the {size} elements "
                f"along axis {axis} of shape {x.shape}"
            )
        if crop:
            x = narrow(x, axis, max(-before, 0), size - crop)
    return x, [(max(before, 0), max(after, 0)) for before, after in pairs]


def _places(start: int, stop: int, size: int, mode: str) -> Any:
    """Where the elements come from that stand from start to stop, before 0 or from size on."""
    import numpy as np

    i = np.arange(start, stop)
    if mode == "edge":
        return i.clip(0, size - 1)
    if mode == "wrap":
        return i % size
    period = 2 * size if mode == "symmetric" else max(2 * (size - 1), 1)
    i %= period
    return np.minimum(i, period - (mode == "symmetric") - i)


def einsum(subscripts: str, *operands: Tensor) -> Tensor:
    """Sums of products, by Einstein's notation: einsum("bij,bjk->bik", a, b) is a batch of a @ b.

    A letter names an axis, and size 1 broadcasts; letters left out of the result are summed over;
    "..." stands for the axes in front. Without "->" the result has the letters that occur once, in
    order of the alphabet. Operands are joined from left to right, each pair by one matmul.

    >>> wg.einsum("ij,kj->ik", wg.ones((2, 3)), wg.ones((4, 3))).shape
    (2, 4)
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
                if 1 not in (size, sizes[name]):
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
