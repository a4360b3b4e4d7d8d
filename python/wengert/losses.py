"""Losses, as functions of tensors; each is a few lines of the Wengert list, so each can be studied.

All refuse shapes that differ: (n, 1) against (n,) would broadcast to (n, n) and train wrong.
`reduction` is "mean", "sum", "none", and for mse_loss "half_mean".
"""

from __future__ import annotations

from . import _core, _explained
from ._calls import choice, describe
from ._core import DTypeError, ShapeError, Tensor

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "mse_loss"]


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


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
