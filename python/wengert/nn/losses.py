"""Losses as modules, around the functions of wengert.losses.

All take (prediction or logits, target) and refuse shapes that differ: an (n, 1) prediction against
an (n,) target would broadcast to (n, n) and train on nonsense.
"""

from __future__ import annotations

import math

from .. import _explained, losses
from .._calls import choice
from .._core import Tensor
from .module import Module

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss"]


class _Loss(Module):
    reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, reduction: str = "mean") -> None:
        choice(type(self).__name__, "reduction", reduction, self.reductions)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """(prediction - target)^2: mean, sum, none, or half_mean = 1/(2N) sum over all N elements."""

    reductions = ("mean", "sum", "none", "half_mean")

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction, target: the same shape; a scalar, or that shape for reduction="none"."""
        return losses.mse_loss(prediction, target, self.reduction)


class CrossEntropyLoss(_Loss):
    """-sum_c t_c log softmax(logits)_c per row; label_smoothing = s takes t to (1-s) t + s/C."""

    def __init__(self, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        """label_smoothing: from 0 to 1."""
        super().__init__(reduction)
        if not (math.isfinite(label_smoothing) and 0.0 <= label_smoothing <= 1.0):
            raise ValueError(
                f"CrossEntropyLoss: label_smoothing is {label_smoothing}; it must be in [0, 1]"
            )
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (N, C) floats. target: (N,) class numbers, or (N, C) probabilities."""
        return losses.cross_entropy(logits, target, self.reduction, self.label_smoothing)


class BCEWithLogitsLoss(_Loss):
    """-t log sigmoid(x) - (1-t) log(1 - sigmoid(x)), without overflow for any logits x."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits, target: the same shape, target in [0, 1]."""
        return losses.binary_cross_entropy_with_logits(logits, target, self.reduction)


_explained.explain_all(globals())
