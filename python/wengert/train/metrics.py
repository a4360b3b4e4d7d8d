"""Metrics of a network's outputs: for `fit(metrics=["f1", "auc"])`, or by themselves.

Each takes `outputs`, (n, classes) of logits or, for two classes, (n,) or (n, 1) of the second
one's, and `y`, (n,) class numbers or (n, classes) one-hot rows, and gives a number. Values are
those of sklearn.metrics. `r2` takes values and targets of one shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _explained

__all__ = [
    "METRICS",
    "accuracy",
    "auc",
    "calibration_error",
    "class_weights",
    "f1",
    "r2",
    "top_k",
]

Array = npt.NDArray[Any]
Metric = Callable[[Array, Array], float]


def _classes(outputs: Array, y: Array) -> tuple[Array, Array]:
    """Scores, float64 (n, classes), and class numbers (n,)."""
    scores, labels = np.asarray(outputs, np.float64), np.asarray(y)
    scores = scores.reshape(len(scores), -1)
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    if labels.ndim > 1:
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
    if len(labels) != len(scores) or not len(labels):
        raise ValueError(
            f"metrics: outputs {np.shape(outputs)} and y {np.shape(y)} differ in length, or are "
            "empty; both need an entry for each sample"
        )
    return scores, labels.astype(np.int64)


def _probabilities(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    made: Array = e / e.sum(axis=1, keepdims=True)
    return made


def accuracy(outputs: Array, y: Array) -> float:
    """The share of samples whose largest output is at the label."""
    scores, labels = _classes(outputs, y)
    return float((scores.argmax(axis=1) == labels).mean())


def top_k(outputs: Array, y: Array, k: int = 5) -> float:
    """The share of samples whose label is among the k largest outputs (of equal ones, those of
    higher numbers count as larger)."""
    scores, labels = _classes(outputs, y)
    best = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def f1(outputs: Array, y: Array) -> float:
    """The mean over the classes, of labels and answers, of 2 * right / (labels + answers)."""
    scores, labels = _classes(outputs, y)
    answers, n = scores.argmax(axis=1), max(scores.shape[1], int(labels.max()) + 1)
    right = np.bincount(labels[answers == labels], minlength=n)
    both = np.bincount(labels, minlength=n) + np.bincount(answers, minlength=n)
    return float((2 * right[both > 0] / both[both > 0]).mean())


def auc(outputs: Array, y: Array) -> float:
    """The area under the ROC curve: how often a sample of a class scores above one of none, ties
    counting half; of more than two classes the mean of each against the rest, by probability.
    Classes without a sample, or with all of them, are left out; ValueError where none is left."""
    scores, labels = _classes(outputs, y)
    p = scores if scores.shape[1] == 2 else _probabilities(scores)
    two = p.shape[1] == 2
    areas = []
    for c in [1] if two else range(p.shape[1]):
        column, mine = (p[:, 1] - p[:, 0] if two else p[:, c]), labels == c
        ones, others = int(mine.sum()), int((~mine).sum())
        if not ones or not others:
            continue
        _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
        areas.append((ranks[mine].sum() - ones * (ones + 1) / 2) / (ones * others))
    if not areas:
        raise ValueError("auc: all samples are of one class, where the area is not defined")
    return float(np.mean(areas))


def calibration_error(outputs: Array, y: Array, bins: int = 15) -> float:
    """The expected calibration error: samples in `bins` by the probability of their answer, the
    mean distance of a bin's accuracy from its mean probability. Guo and others, arXiv 1706.04599.
    """
    scores, labels = _classes(outputs, y)
    p = _probabilities(scores)
    sure, right = p.max(axis=1), p.argmax(axis=1) == labels
    places = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(places, right - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def r2(outputs: Array, y: Array) -> float:
    """1 - squared error / squared distance of y from its mean; the mean over the values of a
    sample. Of a constant target: 1 where it is met exactly, else 0."""
    found, wanted = np.asarray(outputs, np.float64), np.asarray(y, np.float64)
    if found.size != wanted.size or not len(wanted):
        raise ValueError(f"r2: outputs {found.shape} and y {wanted.shape} differ in shape")
    wanted = wanted.reshape(len(wanted), -1)
    error = ((found.reshape(wanted.shape) - wanted) ** 2).sum(axis=0)
    spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    scores = 1 - error / np.where(spread > 0, spread, 1)
    return float(np.where(spread > 0, scores, error == 0).mean())


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "auc": auc,
    "calibration_error": calibration_error,
    "f1": f1,
    "r2": r2,
    "top_k": top_k,
}


def chosen(metrics: Any) -> dict[str, Metric]:
    """The functions that `fit(metrics=...)` asks for, by name."""
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    given = metrics if isinstance(metrics, dict) else {
        name if isinstance(name, str) else getattr(name, "__name__", "metric"): name
        for name in metrics
    }  # fmt: skip
    made = {}
    for name, metric in given.items():
        if isinstance(metric, str) and metric not in METRICS:
            raise ValueError(f"fit: no metric {metric!r}; there are {', '.join(METRICS)}")
        made[name] = METRICS[metric] if isinstance(metric, str) else metric
    return made


def class_weights(y: Array, classes: int | None = None, weight: Any = "balanced") -> Array:
    """A weight for each class, (classes,), float64, for cross_entropy's `weight`.

    weight: "balanced" is n / (classes there * samples of the class), as in scikit-learn, and 0 for
    a class without a sample; a dict from class number to weight leaves the others at 1.
    """
    labels = np.asarray(y)
    labels = labels.argmax(axis=1) if labels.ndim > 1 else labels
    counts = np.bincount(labels.astype(np.int64), minlength=classes or 0)
    if isinstance(weight, dict):
        made = np.ones(len(counts))
        for label, value in weight.items():
            if not 0 <= label < len(counts) or not value >= 0:
                raise ValueError(
                    f"class_weights: {label!r}: {value!r}; expected a class, 0 to "
                    f"{len(counts) - 1}, and a weight, 0 or more"
                )
            made[label] = value
        return made
    if weight != "balanced":
        raise ValueError(f"class_weights: weight is {weight!r}; expected 'balanced' or a dict")
    there = np.maximum(counts, 1) * np.count_nonzero(counts)
    return np.where(counts > 0, len(labels) / there, 0.0)


_explained.explain_all(globals())
