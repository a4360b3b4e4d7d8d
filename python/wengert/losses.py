"""Losses, written with the engine's ops, which give their gradients; names, arguments and defaults
are PyTorch's. Each is also `wengert.NAME`, and its lines are in the list of a step to study.

`reduction` is "mean", "sum", "none", and for mse_loss "half_mean". Losses refuse shapes that
differ: (n, 1) against (n,) would broadcast to (n, n) and train wrong. A weight or probability of 0
takes its term out, even one that is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import _core, _explained
from ._calls import choice, describe
from ._core import DTypeError, ShapeError, Tensor
from .shapes import unbind

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "pairwise_distance",
    "poisson_nll_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
]


def _reduce(op: str, losses: Tensor, reduction: str, others: tuple[str, ...] = ()) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    choice(op, "reduction", reduction, ("mean", "sum", "none", *others))
    return losses


def _tensors(op: str, **arguments: Tensor | None) -> None:
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            write = f"reduction={value!r}" if isinstance(value, str) else f"wengert.tensor({name})"
            raise TypeError(f"{op}: {name} is {describe(value)}; expected a tensor: write {write}")


def _same_shape(op: str, a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        way_out = f": write target.reshape({a.shape})" if a.size == b.size else ""
        raise ShapeError(
            f"{op}: got a prediction of shape {a.shape} and a target of shape {b.shape}; they must "
            f"be equal{way_out}"
        )


def _pair(op: str, input: Tensor, target: Tensor, name: str = "input") -> None:
    tensors = isinstance(input, Tensor) and isinstance(target, Tensor)
    if not tensors or input.shape != target.shape:
        _tensors(op, **{name: input}, target=target)
        _same_shape(op, input, target)


def _weighted(op: str, losses: Tensor, weight: Tensor | None) -> Tensor:
    """losses times a weight that broadcasts to them."""
    if weight is None:
        return losses
    _tensors(op, weight=weight)
    try:
        return _core._times(weight.broadcast_to(losses.shape), losses)
    except ShapeError:
        raise ShapeError(
            f"{op}: weight has shape {weight.shape}; it must broadcast to {losses.shape}"
        ) from None


# ---- distances of predictions from targets


def mse_loss(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Squared error: the mean of (prediction - target)², or its sum, or all of them.

    "half_mean" is 1/(2N)·Σ(prediction - target)² over all N elements: its gradient has no factor 2.

    Shapes: any, but equal. Raises ShapeError where they differ.

    >>> wg.mse_loss(wg.tensor([1.0, 2.0]), wg.tensor([0.0, 4.0])).item()
    2.5
    """
    _pair("mse_loss", prediction, target, "prediction")
    losses = (prediction - target).square()
    if reduction == "half_mean":
        return losses.mean() * 0.5
    return _reduce("mse_loss", losses, reduction, ("half_mean",))


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|. Shapes: any, but equal."""
    _pair("l1_loss", input, target)
    return _reduce("l1_loss", (input - target).abs(), reduction)


def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """d = |input - target|: d²/(2·beta) where d < beta, else d - beta/2. beta 0 is l1_loss.

    Shapes: any, but equal. Source: Girshick 2015, arXiv 1504.08083, equation 3.
    """
    op = "smooth_l1_loss"
    _pair(op, input, target)
    if beta < 0:
        raise ValueError(f"{op}: beta is {beta}; it must be 0 or more")
    d = input - target
    losses = _core._huber(d, beta) if beta else d.abs()
    return _reduce(op, losses if beta in (0, 1) else losses * (1 / beta), reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """d = |input - target|: d²/2 where d < delta, else delta·(d - delta/2).

    Shapes: any, but equal. Source: Huber, "Robust estimation of a location parameter", Annals of
    Mathematical Statistics 35, 1964.
    """
    _pair("huber_loss", input, target)
    if not delta > 0:
        raise ValueError(f"huber_loss: delta is {delta}; it must be greater than 0")
    return _reduce("huber_loss", _core._huber(input - target, delta), reduction)


# ---- classes


def _check_target(logits: Tensor, target: Tensor, indices: tuple[int, ...]) -> None:
    """Raises for a target that is neither class indices nor probabilities."""
    of_classes = not target.dtype.is_floating_point and target.dtype != _core.bool_
    if target.shape == (indices if of_classes else logits.shape) and target.dtype != _core.bool_:
        return
    way_out = ""
    if target.shape == logits.shape:  # 1 for the class, 0 for the others
        way_out = ": write target.float()"
    elif target.size == math.prod(indices):
        shape = ", ".join(map(str, indices))
        reshape = "" if target.shape == indices else f".reshape({shape})"
        way_out = f": write target{'' if of_classes else '.long()'}{reshape}"
    kind = DTypeError if target.shape in (indices, logits.shape) else ShapeError
    raise kind(
        f"cross_entropy: got logits of shape {logits.shape} and a target of shape {target.shape} "
        f"and dtype {target.dtype.name}; expected class indices of shape {indices} and an integer "
        f"dtype, or probabilities of shape {logits.shape}{way_out}"
    )


def _class_axis(op: str, x: Tensor) -> tuple[int, tuple[int, ...]]:
    """The axis of the classes, and the shape without it."""
    if x.ndim == 0:
        raise ShapeError(f"{op}: got shape (); expected (classes,) or (n, classes, ...)")
    axis = min(x.ndim - 1, 1)
    return axis, (*x.shape[:axis], *x.shape[axis + 1 :])


def _class_weight(op: str, weight: Tensor | None, classes: int) -> None:
    if weight is not None:
        _tensors(op, weight=weight)
        if weight.shape != (classes,):
            raise ShapeError(
                f"{op}: weight has shape {weight.shape}; expected one for each of the {classes} "
                f"classes: ({classes},)"
            )


def _of_targets(
    target: Tensor, weight: Tensor | None, ignore_index: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """The target with class 0 in the place of ignore_index; each one's weight, 0 where ignored."""
    counts = target != ignore_index
    classes = _core.where(counts, target, 0)
    if weight is None:
        return classes, counts.to(like.dtype)
    return classes, _core.where(counts, weight[classes], 0.0)


def _pick(op: str, x: Tensor, classes: Tensor, axis: int) -> Tensor:
    """The elements of these classes; the axis keeps size 1."""
    n = x.shape[axis]
    at = _core.where(classes < 0, classes - n, classes)  # gather counts -1 from the end
    try:
        return x.gather(axis, at.unsqueeze(axis))
    except IndexError as error:
        raise IndexError(f"{op}: target has a class that is not 0 to {n - 1}: {error}") from None


def _mean_by(op: str, losses: Tensor, weights: Tensor, reduction: str) -> Tensor:
    """The reduction, where a mean is over the sum of the weights."""
    if reduction == "mean":
        return losses.sum() / weights.sum()
    return _reduce(op, losses, reduction)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-weight[target]·input[target]: cross-entropy of log-probabilities against class indices.

    input   (classes,), (n, classes) or (n, classes, d1, ...): log-probabilities
    target  input's shape without the axis of the classes, an integer dtype
    weight  (classes,) or None: of each class

    Targets equal to ignore_index count nothing; the mean is over the weights of those that count,
    and NaN where none does. Raises ShapeError, and IndexError for a class that is out of range.
    """
    op = "nll_loss"
    _tensors(op, input=input, target=target)
    axis, shape = _class_axis(op, input)
    if target.shape != shape or target.dtype.is_floating_point or target.dtype == _core.bool_:
        raise (DTypeError if target.shape == shape else ShapeError)(
            f"{op}: got an input of shape {input.shape} and a target of shape {target.shape} and "
            f"dtype {target.dtype.name}; expected class indices of shape {shape}"
        )
    _class_weight(op, weight, input.shape[axis])
    classes, weights = _of_targets(target, weight, ignore_index, input)
    picked = _pick(op, input, classes, axis).squeeze(axis)
    return _mean_by(op, -_core._times(weights, picked), weights, reduction)


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax(logits) against the target, in nats.

    logits  (classes,), (n, classes) or (n, classes, d1, ...), floating
    target  logits' shape without the axis of the classes: class indices, an integer dtype; or
            logits' shape: probabilities, floating
    weight  (classes,) or None: of each class

    Class indices equal to ignore_index count nothing; the mean is over the weights of those that
    count (NaN where none does), and of probabilities over all n·d1·...

    With label_smoothing s the target is (1 - s)·target + s/classes (Szegedy et al. 2015, arXiv
    1512.00567). Stable for any finite logits. Raises ShapeError, and IndexError for a class index
    that is out of range.

    ignore_index None is PyTorch's default, -100, at no cost where no target has it: the kernel of
    the usual case refuses -100, and only then is it looked for. Compiled steps and GPUs cannot
    do that, and raise: say ignore_index=-100 there.

    >>> logits = wg.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> round(wg.cross_entropy(logits, wg.tensor([0, 1])).item(), 4)
    0.1269
    >>> round(wg.cross_entropy(logits, wg.tensor([1, 1]), reduction="sum").item(), 4)
    2.2539
    """
    op = "cross_entropy"
    _tensors(op, logits=logits, target=target)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing is {label_smoothing}; expected 0 to 1")
    axis, shape = _class_axis(op, logits)
    _check_target(logits, target, shape)
    classes, s = logits.shape[axis], label_smoothing
    _class_weight(op, weight, classes)
    by_class = weight
    if weight is not None and axis < logits.ndim - 1:  # beside the classes
        by_class = weight.reshape(classes, *(1 for _ in shape[axis:]))
    if target.dtype.is_floating_point:
        if ignore_index is not None and ignore_index >= 0:
            raise ValueError(
                f"{op}: ignore_index is {ignore_index}, and target holds probabilities; leave it "
                "out, or give classes"
            )
        target = target * (1 - s) + s / classes
        if by_class is not None:
            target = target * by_class
        losses = -_core._times(target, logits.log_softmax(axis)).sum(axis)  # 0 * log(0) is 0
        return _reduce(op, losses, reduction)

    def rows(target: Tensor) -> Tensor:
        if logits.ndim == 2:
            return _core.cross_entropy_rows(logits, target)
        last = logits if axis == logits.ndim - 1 else logits.permute(0, *range(2, logits.ndim), 1)
        losses = _core.cross_entropy_rows(last.reshape(-1, classes), target.reshape(-1))
        return losses.reshape(shape)

    if weight is None and ignore_index is None:
        try:
            losses = rows(target)
        except IndexError:  # some are -100, or there is no such class: then raised again
            pass
        else:
            if s:
                losses = losses * (1 - s) + -logits.log_softmax(axis).mean(axis) * s
            return _reduce(op, losses, reduction)
    ignored = -100 if ignore_index is None else ignore_index
    counts = target != ignored
    target, weights = _of_targets(target, weight, ignored, logits)
    losses = _core._times(weights, rows(target))
    if s:
        logs = logits.log_softmax(axis)
        if by_class is not None:
            logs = _core._times(by_class, logs)
        losses = losses * (1 - s) + _core._times(counts, -logs.mean(axis)) * s
    return _mean_by(op, losses, weights, reduction)


# ---- probabilities


def binary_cross_entropy_with_logits(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of sigmoid(logits) against targets in [0, 1], in nats, element by element.

    Shapes: any, but equal. Stable for any finite logits. Raises ShapeError where shapes differ.
    weight, of the elements, and pos_weight, on the part of the target (not of 1 - target),
    broadcast to that shape.

    >>> round(wg.binary_cross_entropy_with_logits(wg.zeros(2), wg.tensor([0.0, 1.0])).item(), 4)
    0.6931
    """
    op = "binary_cross_entropy_with_logits"
    _tensors(op, logits=logits, target=target)
    _same_shape(op, logits, target)
    if pos_weight is None:
        losses = _core.binary_cross_entropy_with_logits_elements(logits, target)
    else:
        positive = _weighted(f"{op}: pos_weight", target, pos_weight)
        losses = _core._times(positive, (-logits).softplus())
        losses = losses + _core._times(1 - target, logits.softplus())
    return _reduce(op, _weighted(op, losses, weight), reduction)


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-target·log(input) - (1 - target)·log(1 - input), with logarithms of -100 at the least, so
    that no loss is infinite; its gradient is 0 beyond that.

    input   probabilities, of any shape; NaN outside [0, 1]
    target  in [0, 1], of that shape

    With logits at hand, binary_cross_entropy_with_logits keeps all digits.
    """
    op = "binary_cross_entropy"
    _pair(op, input, target)

    def log(x: Tensor) -> Tensor:  # of 1 where x is 0, whose gradient would be infinite
        zero = x == 0
        return _core.where(zero, -100.0, _core.where(zero, 1.0, x).log().clamp(min=-100.0))

    losses = -(target * log(input) + (1 - target) * log(1 - input))
    return _reduce(op, _weighted(op, losses, weight), reduction)


def kl_div(
    input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """target·(log(target) - input): the Kullback-Leibler divergence, element by element.

    input   log-probabilities, of any shape
    target  probabilities, or with log_target their logarithms, of that shape
    reduction  as for all losses, or "batchmean": the sum over the length of axis 0, which is the
            divergence; "mean" is over all elements
    """
    op = "kl_div"
    _pair(op, input, target)
    if log_target:
        losses = _core._times(target.exp(), target - input)
    else:
        losses = _core._times(target, target.log() - input)
    if reduction == "batchmean":
        return losses.sum() / max(input.shape[0], 1) if input.ndim else losses
    return _reduce(op, losses, reduction, ("batchmean",))


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "none",
) -> Tensor:
    """Cross-entropy of sigmoid(inputs), times (1 - p)^gamma, p the probability of what is true, and
    times alpha where the target is 1, 1 - alpha where it is 0 (alpha below 0: no such factor).

    Shapes: any, but equal. torchvision's. Source: Lin et al. 2017, arXiv 1708.02002.
    """
    op = "sigmoid_focal_loss"
    _pair(op, inputs, targets)
    losses = _core.binary_cross_entropy_with_logits_elements(inputs, targets)
    p = inputs.sigmoid()
    wrong = p * (1 - targets) + (1 - p) * targets
    losses = _core._times(wrong**gamma if gamma else _core.ones_like(wrong), losses)
    if alpha >= 0:
        losses = losses * (alpha * targets + (1 - alpha) * (1 - targets))
    return _reduce(op, losses, reduction)


def _lengths(
    op: str, name: str, given: Tensor | Sequence[int] | int, n: int, least: int, most: int
) -> list[int]:
    """The lengths of the sequences of a batch, as numbers; also of packed ones."""
    values: Any = given.tolist() if isinstance(given, Tensor) else given
    found = [int(v) for v in (values if isinstance(values, (list, tuple)) else [values])]
    if len(found) != n:
        raise ShapeError(f"{op}: {len(found)} {name} for a batch of {n}; expected one for each")
    for i, v in enumerate(found):
        if not least <= v <= most:
            raise ValueError(f"{op}: {name}[{i}] is {v}; expected {least} to {most}")
    return found


def _labels(targets: Tensor, x: Tensor, lengths: Tensor | Sequence[int] | int) -> tuple[Any, Any]:
    """Targets as (n, S), and their lengths."""
    n = x.shape[1]
    if targets.dtype.is_floating_point or targets.ndim not in (1, 2):
        raise ShapeError(
            f"ctc_loss: targets are {targets.dtype.name} of shape {targets.shape}; expected "
            "integers (n, S), or those of all one after another"
        )
    labels = targets.long().to(x.device)
    if labels.ndim == 2 and len(labels) != n:
        raise ShapeError(f"ctc_loss: targets have shape {targets.shape} for a batch of {n}")
    found = _lengths("ctc_loss", "target_lengths", lengths, n, 0, labels.shape[-1])
    if labels.ndim == 2:
        return labels[:, : max(found, default=0)], found
    if sum(found) != len(labels):
        raise ShapeError(
            f"ctc_loss: target_lengths add up to {sum(found)}, and there are {len(labels)} targets"
        )
    end, places = 0, []
    for v in found:
        places.append(
            [min(end + i, end + v - 1) for i in range(max(found))] if v else [0] * max(found)
        )
        end += v
    if not len(labels):
        return labels.reshape(n, 0), found
    return labels[_core.tensor(places, "int64").to(x.device)], found


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int] | int,
    target_lengths: Tensor | Sequence[int] | int,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of all paths through log_probs (T, n, C), of log_softmax, that read
    as the targets, without repeats and then blanks. Or (T, C) and one target.

    targets: classes, integers (n, S), of which target_lengths[i] count, or those of all one after
    another. Of (T, n, C) input_lengths[i] times count. Where a target does not fit into its times
    the loss is infinite, or with zero_infinity 0, and the gradient 0. "mean": of the losses, each
    over its target's length. Lengths beyond T or S are errors. Graves et al., ICML 2006.
    """
    op = "ctc_loss"
    _tensors(op, log_probs=log_probs, targets=targets)
    one = log_probs.ndim == 2
    if log_probs.ndim not in (2, 3) or not log_probs.dtype.is_floating_point:
        raise ShapeError(
            f"{op}: log_probs are {log_probs.dtype.name} of shape {log_probs.shape}; expected a "
            "floating dtype and (T, n, C) or (T, C)"
        )
    x = log_probs.unsqueeze(1) if one else log_probs
    times, n, classes = x.shape
    if not 0 <= blank < classes:
        raise IndexError(f"{op}: blank is {blank}; expected 0 to {classes - 1}, a class")
    given, sizes = _labels(targets.reshape(1, -1) if one else targets, x, target_lengths)
    ends = _lengths(op, "input_lengths", input_lengths, n, 0, times)
    # Classes of the places of a path: blank, label, blank, ..., label, blank. From a label one may
    # go to the next but for the blank between them, unless they are equal.
    count = given.shape[1]
    ours = [[i < size for i in range(count)] for size in sizes]  # others may be anything
    labels = _core.where(given < 0, classes, given)  # an index that gather refuses
    labels = _core.where(_core.tensor(ours, "bool").to(x.device).reshape(n, count), labels, blank)
    blanks = _core.full((n, count, 1), blank, "int64", x.device)
    pairs = _core.concatenate([blanks, labels.unsqueeze(2)], 2).reshape(n, 2 * count)
    path = _core.concatenate([pairs, _core.full((n, 1), blank, "int64", x.device)], 1)
    before = _core.concatenate([_core.full((n, 2), -1, "int64", x.device), path[:, :-2]], 1)
    skips = (path != blank) & (path != before[:, : path.shape[1]])
    try:
        emitted = x.gather(2, path.expand(times, *path.shape))
    except IndexError as error:
        raise IndexError(f"{op}: targets have a class that is not 0 to {classes - 1}") from error
    # log of the probability of being at each place; two in front, at the second of which all begin.
    front = _core.full((n, 2), -math.inf, x.dtype, x.device)
    start = _core.tensor([[-math.inf, 0.0] + [-math.inf] * path.shape[1]], x.dtype).to(x.device)
    a = start.expand(n, path.shape[1] + 2)
    for t, here in enumerate(unbind(emitted)[: max(ends, default=0)]):
        skipped = _core.where(skips, a[:, :-2], -math.inf)
        y = _core.logaddexp(_core.logaddexp(a[:, 2:], a[:, 1:-1]), skipped) + here
        y = _core.concatenate([front, y], 1)
        if t >= min(ends):
            y = _core.where(_core.tensor([[t < end] for end in ends]).to(x.device), y, a)
        a = y
    last = _core.tensor([[2 * size + 2, 2 * size + 1] for size in sizes], "int64").to(x.device)
    total = _core.logsumexp(a.gather(1, last.reshape(n, 2)), 1)
    losses = _core.where(total == -math.inf, 0.0 if zero_infinity else math.inf, -total)
    if reduction == "mean":
        losses = losses / _core.tensor([max(size, 1) for size in sizes], x.dtype).to(x.device)
    return _reduce(op, losses.squeeze(0) if one else losses, reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """-log of the Poisson probability of target without the term log(target!): exp(input) -
    target·input, or without log_input, where input is the rate, input - target·log(input + eps).

    With `full`, Stirling's formula for log(target!) is added where target > 1. Shapes: any, but
    equal.
    """
    op = "poisson_nll_loss"
    _pair(op, input, target)
    if log_input:
        losses = input.exp() - _core._times(target, input)
    else:
        losses = input - target * (input + eps).log()
    if full:
        n = _core.where(target > 1, target, 1.0)
        stirling = n * n.log() - n + 0.5 * (2 * math.pi * n).log()
        losses = losses + _core.where(target > 1, stirling, 0.0)
    return _reduce(op, losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """½(log(var) + (input - target)²/var), with var of eps at the least: -log of the normal density
    of target with mean `input`, but for the constant ½·log(2π), which `full` adds.

    var     a number, or a tensor of input's shape, of that without its last axis, or with one axis
            of size 1. It gets the gradient also where eps takes its place; NaN where it is negative

    Shapes of input and target: any, but equal. Source: Nix and Weigend, ICNN 1994.
    """
    op = "gaussian_nll_loss"
    _pair(op, input, target)
    if not isinstance(var, Tensor):
        var = _core.full_like(input, var)
    if var.shape == input.shape[:-1] and var.shape != input.shape:
        var = var.unsqueeze(-1)
    others = sum(m != n for m, n in zip(var.shape, input.shape, strict=False))
    if var.ndim != input.ndim or others > 1 or (others and 1 not in var.shape):
        raise ShapeError(
            f"{op}: got an input of shape {input.shape} and a var of shape {var.shape}; expected "
            f"the same shape, {input.shape[:-1]}, or one axis of size 1"
        )
    if eps <= 0:
        raise ValueError(f"{op}: eps is {eps}; it must be greater than 0")
    at_least = _core.where(var < 0, math.nan, var.clamp(min=eps))
    var = var + (at_least - var).detach()
    losses = 0.5 * (var.log() + (input - target).square() / var)
    return _reduce(op, losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


# ---- margins


def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """input where target is 1, max(0, margin - input) where it is -1. Shapes: any, but equal."""
    op = "hinge_embedding_loss"
    _pair(op, input, target)
    apart = _core.where(target != 1, (margin - input).clamp(min=0), 0.0)
    return _reduce(op, apart + _core.where(target != -1, input, 0.0), reduction)


def soft_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target·input)), target 1 or -1. Shapes: any, but equal."""
    _pair("soft_margin_loss", input, target)
    return _reduce("soft_margin_loss", (-target * input).softplus(), reduction)


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, -target·(input1 - input2) + margin): target 1 where input1 should be the larger, -1
    where input2 should. Shapes: any, but equal."""
    op = "margin_ranking_loss"
    _tensors(op, input1=input1, input2=input2, target=target)
    _same_shape(op, input1, input2)
    _same_shape(op, input1, target)
    return _reduce(op, (-target * (input1 - input2) + margin).clamp(min=0), reduction)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ max(0, margin - input[target] + input[i])^p over the classes i but the target, divided by
    their number and times weight[target].

    input   (n, classes) or (classes,)
    target  (n,) or (): class indices, an integer dtype
    p       1 or 2
    """
    op = "multi_margin_loss"
    _tensors(op, input=input, target=target)
    if p not in (1, 2):
        raise ValueError(f"{op}: p is {p}; it must be 1 or 2")
    if input.ndim not in (1, 2) or target.shape != input.shape[:-1]:
        raise ShapeError(
            f"{op}: got an input of shape {input.shape} and a target of shape {target.shape}; "
            "expected (n, classes) and (n,), or (classes,) and ()"
        )
    classes = input.shape[-1]
    _class_weight(op, weight, classes)
    at = target.unsqueeze(-1)
    gaps = (margin - _pick(op, input, target, -1) + input).clamp(min=0)
    gaps = gaps.square() if p == 2 else gaps
    if weight is not None:
        gaps = gaps * weight[target].unsqueeze(-1)
    others = at != _core.arange(classes, device=input.device)
    losses = _core.where(others, gaps, 0.0).sum(-1) * (1 / classes)
    return _reduce(op, losses, reduction)


def multilabel_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Σ max(0, 1 - input[j] + input[i]) over the targets j and the classes i that are none, divided
    by the number of classes.

    input   (n, classes) or (classes,)
    target  the same shape, an integer dtype: of each row its classes, and -1 after the last
    """
    op = "multilabel_margin_loss"
    _pair(op, input, target)
    if input.ndim not in (1, 2):
        raise ShapeError(f"{op}: input has shape {input.shape}; expected (n, classes), (classes,)")
    classes = input.shape[-1]
    along = _core.arange(classes, device=input.device)
    ended = (target < 0).unsqueeze(-2) & (along <= along.unsqueeze(-1))  # at or before each
    given = ~ended.any(-1)
    at = _core.where(given, target, 0)
    is_target = ((at.unsqueeze(-1) == along) & given.unsqueeze(-1)).any(-2)
    gaps = (1 - input.gather(-1, at).unsqueeze(-1) + input.unsqueeze(-2)).clamp(min=0)
    counts = given.unsqueeze(-1) & ~is_target.unsqueeze(-2)
    losses = _core.where(counts, gaps, 0.0).sum([-2, -1]) * (1 / classes)
    return _reduce(op, losses, reduction)


def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """binary_cross_entropy_with_logits, its mean over the last axis, the classes."""
    op = "multilabel_soft_margin_loss"
    _pair(op, input, target)
    losses = _core.binary_cross_entropy_with_logits_elements(input, target)
    return _reduce(op, _weighted(op, losses, weight).mean(-1), reduction)


# ---- distances of vectors


def _norm(x: Tensor, p: float, keepdims: bool = False) -> Tensor:
    """(Σ|x|^p)^(1/p) over the last axis; its gradient is 0 where x is."""
    if p == math.inf:
        return x.abs().max(-1, keepdims)
    if p == 1:
        return x.abs().sum(-1, keepdims)
    if not p > 0:
        raise ValueError(f"pairwise_distance: p is {p}; it must be greater than 0")
    powers = (x.square() if p == 2 else x.abs() ** p).sum(-1, keepdims)
    zero = powers == 0
    powers = _core.where(zero, 1.0, powers)
    return _core.where(zero, 0.0, powers.sqrt() if p == 2 else powers ** (1 / p))


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last axis: (..., d) and (..., d), which broadcast, to
    (...), or with keepdims (..., 1)."""
    _tensors("pairwise_distance", x1=x1, x2=x2)
    return _norm(x1 - x2 + eps, p, keepdims)


def cosine_similarity(x1: Tensor, x2: Tensor, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between x1 and x2 along an axis, which is then gone; shapes
    broadcast. Lengths below eps are taken as eps."""
    _tensors("cosine_similarity", x1=x1, x2=x2)
    n = max(x1.ndim, x2.ndim)
    sizes = [(1,) * (n - x.ndim) + x.shape for x in (x1, x2)]
    shape = [b if a == 1 else a for a, b in zip(*sizes, strict=True)]
    x1, x2 = x1.expand(shape), x2.expand(shape)  # lengths are those of the spread vectors

    def length(x: Tensor) -> Tensor:
        return x.square().sum(axis, keepdims=True).clamp(min=eps * eps).sqrt()

    return (x1 / length(x1) * (x2 / length(x2))).sum(axis)


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos(input1, input2) where target is 1, max(0, cos(input1, input2) - margin) where it is
    -1.

    input1, input2  (n, d) or (d,)
    target          (n,) or ()
    """
    op = "cosine_embedding_loss"
    _tensors(op, input1=input1, input2=input2, target=target)
    _same_shape(op, input1, input2)
    if input1.ndim not in (1, 2) or target.shape != input1.shape[:-1]:
        raise ShapeError(
            f"{op}: got inputs of shape {input1.shape} and a target of shape {target.shape}; "
            "expected (n, d) and (n,), or (d,) and ()"
        )
    cosine = cosine_similarity(input1, input2, -1, 1e-6)
    near = _core.where(target == 1, 1 - cosine, 0.0)
    apart = _core.where(target == -1, (cosine - margin).clamp(min=0), 0.0)
    return _reduce(op, near + apart, reduction)


def _triplets(
    op: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) for any distance d."""
    near, apart = distance(anchor, positive), distance(anchor, negative)
    if not (isinstance(near, Tensor) and isinstance(apart, Tensor)):
        raise TypeError(f"{op}: distance_function gave {describe(near)}; it must give a tensor")
    if swap:
        apart = _core.minimum(apart, distance(positive, negative))
    return _reduce(op, (near - apart + margin).clamp(min=0), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin), with pairwise_distance's norm.

    All (n, d) or (d,). swap: the negative is also measured from the positive, and the nearer of
    both counts. Source: Balntas et al., BMVC 2016.
    """
    op = "triplet_margin_loss"
    if not margin > 0:
        raise ValueError(f"{op}: margin is {margin}; expected more than 0")
    _tensors(op, anchor=anchor, positive=positive, negative=negative)
    _same_shape(op, anchor, positive)
    _same_shape(op, anchor, negative)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return _triplets(op, anchor, positive, negative, distance, margin, swap, reduction)


_explained.explain_all(globals())
