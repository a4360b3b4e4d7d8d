"""What a trained network looks at, and for whom it is wrong.

    saliency(model, x)               |d score / d x|                       Simonyan et al. 2013
    input_x_gradient(model, x)       x * d score / d x                     Shrikumar et al. 2016
    integrated_gradients(model, x)   (x - x0) * mean of d score / d x on the way from x0 to x;
                                     its sum is score(x) - score(x0)       Sundararajan et al. 2017
    layer_attribution(model, x)      activation * gradient, for each layer of the traced list
    grad_cam(model, x, layer)        where in an image the score comes from: a convolution's
                                     channels, by their mean gradients    Selvaraju et al. 2017
    bias_table(outputs, y, groups)   accuracy and calibration per class or group, worst samples
    pictures(...)                    attributions beside the images, as PNG (matplotlib)

The score of a sample is the network's output (the logit) for its class: `target`, or the class with
the largest output. The gradients are read from the list that wengert.trace keeps.

A warning that belongs to all of these: an attribution says what the output was sensitive to, not
why the data are as they are; compare it with that of an untrained network before you believe it
(Adebayo et al. 2018, "Sanity checks for saliency maps").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import _core, _explained
from .._core import Tensor
from ..autograd import enable_grad, no_grad
from ..io import writing
from ..nn.module import kept_modes

if TYPE_CHECKING:
    from ..nn import Module

__all__ = [
    "Completeness",
    "Group",
    "bias_table",
    "bias_text",
    "grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "layer_attribution",
    "pictures",
    "saliency",
]

Array = npt.NDArray[Any]


def _inputs(name: str, x: Any) -> Tensor:
    given = x.detach() if isinstance(x, Tensor) else _core.tensor(np.ascontiguousarray(x))
    if not given.dtype.is_floating_point:
        raise _core.DTypeError(
            f"{name}: x is {given.dtype.name}; a gradient needs float32 or float64: x.float()"
        )
    if given.ndim < 2:
        raise _core.ShapeError(
            f"{name}: x has shape {given.shape}; expected (samples, ...): one sample is x[None]"
        )
    return given


def _targets(name: str, outputs: Tensor, target: Any) -> Array:
    """A class for each sample."""
    n, classes = outputs.shape[0], outputs.shape[-1]
    if outputs.ndim != 2:
        raise _core.ShapeError(
            f"{name}: the model gives shape {outputs.shape}; expected (samples, classes)"
        )
    if target is None:
        best: Array = outputs.detach().numpy().argmax(axis=1)
        return best
    chosen = np.asarray(target.numpy() if isinstance(target, Tensor) else target)
    chosen = np.broadcast_to(chosen, (n,)).astype(np.int64)
    if n and not (chosen.min() >= 0 and chosen.max() < classes):
        raise IndexError(f"{name}: target {chosen.max()} is not one of {classes} outputs")
    return chosen


def _score(model: Module, x: Tensor, target: Any, name: str) -> tuple[Tensor, Tensor]:
    """(the sum of the samples' scores, the score of each)."""
    outputs = model(x)
    chosen = _targets(name, outputs, target)
    rows = np.arange(len(chosen))
    scores = outputs[_core.tensor(rows), _core.tensor(chosen)]
    return scores.sum(), scores


def _gradient(model: Module, x: Tensor, target: Any, name: str) -> tuple[Array, Array, Any]:
    """(d score / d x, scores, the program): model in evaluation mode; its own .grad stay."""
    from .tracing import trace

    with kept_modes(model):
        model.eval()
        leaf = x.detach().requires_grad_(True)

        def score(x: Tensor) -> tuple[Array, Array]:
            total, scores = _score(model, x, target, name)
            gradient = _core.grad(total, x)
            return gradient.numpy().copy(), scores.detach().numpy().copy()

        program = trace(score)(leaf)
    return *program.returned, program


def saliency(model: Module, x: Any, target: Any = None) -> Array:
    """|d score / d x| for each sample: how much the score would change with each input.

    x  (samples, ...), a tensor or array, floating; target: a class for all, or one each.
    Returns x's shape. Raises ShapeError, DTypeError, IndexError for what does not fit.
    """
    gradient, _, _ = _gradient(model, _inputs("saliency", x), target, "saliency")
    return np.abs(gradient)


def input_x_gradient(model: Module, x: Any, target: Any = None) -> Array:
    """x * d score / d x: each input's share of the score, to first order. Arguments: see
    saliency."""
    given = _inputs("input_x_gradient", x)
    gradient, _, _ = _gradient(model, given, target, "input_x_gradient")
    product: Array = gradient * given.numpy()
    return product


@dataclass
class Completeness:
    """Integrated gradients must add up to the difference of the scores; here is how well they
    do."""

    attributed: Array  # sum of each sample's attributions
    difference: Array  # score(x) - score(baseline)

    @property
    def error(self) -> float:
        """The largest gap, relative to the largest difference."""
        gap = float(np.abs(self.attributed - self.difference).max(initial=0.0))
        return gap / max(float(np.abs(self.difference).max(initial=0.0)), 1e-30)

    def __str__(self) -> str:
        """Both sums, sample by sample."""
        rows = [f"{'attributed':>12} {'score - score0':>15}"]
        rows += [
            f"{a:12.6g} {d:15.6g}" for a, d in zip(self.attributed, self.difference, strict=True)
        ]
        return "\n".join([*rows, f"largest gap {self.error:.2e} of the largest difference"])


def integrated_gradients(
    model: Module, x: Any, baseline: Any = 0.0, target: Any = None, steps: int = 64
) -> tuple[Array, Completeness]:
    """(x - baseline) times the mean gradient along the straight way from baseline to x.

    baseline  a number, or an array that broadcasts to x: "nothing", such as black.
    steps     points on the way (midpoint rule). More make the sum more exact; a network of relus
              needs some hundreds for 1e-3.

    Returns the attributions, of x's shape, and their Completeness.
    """
    name = "integrated_gradients"
    if steps < 1:
        raise ValueError(f"{name}: steps is {steps}; it must be at least 1")
    given = _inputs(name, x)
    array = given.numpy()
    start = np.broadcast_to(np.asarray(baseline, array.dtype), array.shape)
    with kept_modes(model):
        model.eval()
        chosen = _targets(name, model(given), target)
        ends = [
            _score(model, _core.tensor(np.ascontiguousarray(e)), chosen, name)[1].detach().numpy()
            for e in (array, start)
        ]
    total = np.zeros(array.shape, np.float64)
    for i in range(steps):
        point = start + (array - start) * np.asarray((i + 0.5) / steps, array.dtype)
        at = _core.tensor(np.ascontiguousarray(point, array.dtype))
        total += _gradient(model, at, chosen, name)[0]
    attributions = (array - start) * total / steps
    sums = attributions.reshape(len(array), -1).sum(axis=1)
    difference = ends[0].astype(np.float64) - ends[1]
    return attributions, Completeness(sums, difference)


def layer_attribution(model: Module, x: Any, target: Any = None) -> dict[str, Array]:
    """activation * gradient of every layer's result, by the layer's name in the list.

    Each array has the layer's shape, (samples, units): how much a unit adds to the score, to first
    order. Summed over the units they show how the score is carried from layer to layer.
    """
    _, _, program = _gradient(model, _inputs("layer_attribution", x), target, "layer_attribution")
    run = program.run()
    results: dict[str, int] = {}  # the last line of each layer
    for line in program.lines:
        if line.phase == "forward" and line.layer and line.recorded and program.answers_to(line):
            results[line.layer] = line.number
    found: dict[str, Array] = {}
    values: dict[str, Array] = {}
    for layer, number in sorted(results.items(), key=lambda item: item[1]):
        run.to(number)
        output = program.lines[number - 1].output
        values[layer] = run.array(output)
    for layer, number in results.items():
        answer = program.answers_to(program.lines[number - 1])[0]
        run.to(answer.first - 1)
        found[layer] = values[layer] * run.array(answer.gradient)
    return {layer: found[layer] for layer in values}


def grad_cam(
    model: Module,
    x: Any,
    layer: Module | str,
    target: Any = None,
    *,
    relu: bool = True,
    interpolate: bool = True,
) -> Array:
    """Which places of an image speak for its class, in a layer's eyes (Selvaraju et al. 2017, arXiv
    1610.02391): the sum over the layer's channels of activation times the mean gradient.

        heat = grad_cam(model, images, model.features[-1])      # (n, height, width), 0 or more

    x            (samples, channels, axes ...), one to three axes.
    layer        a module of the model, or its name in named_modules(), that gives (samples,
                 channels, axes ...): as a rule the last before the mean over places.
    target       a class for all, or one each; the likeliest if None.
    relu         keep what speaks for the class alone; else the rest is negative.
    interpolate  to x's axes, linearly; else the map has the layer's.

    Returns (samples, axes ...). Raises KeyError for a layer that the model does not have,
    ValueError for one that does not run once, ShapeError for one without places.
    """
    from ..nn.functional import interpolate as resize

    name, given, found = "grad_cam", _inputs("grad_cam", x), dict(model.named_modules())
    at = found.get(layer) if isinstance(layer, str) else layer
    if all(at is not part for part in found.values()):
        raise ValueError(f"{name}: the model has no layer {layer!r:.60}; see model.named_modules()")
    assert at is not None
    seen: list[Tensor] = []
    handle = at.register_forward_hook(lambda _module, _args, output: seen.append(output))
    try:
        with kept_modes(model), enable_grad():
            model.eval()
            total, _ = _score(model, given.requires_grad_(True), target, name)
    finally:
        handle.remove()
    if len(seen) != 1:
        raise ValueError(f"{name}: the layer ran {len(seen)} times; expected once")
    activation = seen[0]
    if activation.ndim < 3 or activation.shape[0] != given.shape[0]:
        raise _core.ShapeError(
            f"{name}: the layer gives shape {activation.shape}; expected (samples, channels, axes)"
        )
    places = [*range(2, activation.ndim)]
    with no_grad():
        weight = _core.grad(total, activation).mean(places, keepdims=True)
        heat = (weight * activation).sum(1, keepdims=True)
        heat = heat.relu() if relu else heat
        if interpolate and activation.ndim == given.ndim:
            mode = ("linear", "bilinear", "trilinear")[len(places) - 1]
            heat = resize(heat, given.shape[2:], mode=mode)
        made: Array = heat.detach().numpy()[:, 0].copy()
    return made


# ---- for whom it is wrong


@dataclass
class Group:
    """One row of a bias table."""

    name: str
    count: int
    accuracy: float
    confidence: float  # mean probability of the predicted class
    calibration_error: float  # mean gap between confidence and accuracy, over bins of confidence
    worst: list[int] = field(default_factory=list)  # samples with the largest losses in the group
    mistakes: list[tuple[str, int]] = field(default_factory=list)  # predicted instead, how often

    @property
    def overconfidence(self) -> float:
        """Mean confidence less accuracy."""
        return self.confidence - self.accuracy


def bias_table(
    outputs: Any,
    y: Any,
    groups: Sequence[Any] | Array | None = None,
    *,
    names: Sequence[str] | None = None,
    logits: bool = True,
    bins: int = 10,
    worst: int = 5,
) -> list[Group]:
    """Accuracy and calibration for each class, or for each value of `groups`; then in all.

    outputs  (samples, classes): logits, or probabilities with logits=False.
    y        (samples,) class numbers. groups: (samples,) anything, such as a column of the data.
    names    of the classes.
    The calibration error is the expected one (Guo et al. 2017): over equal bins of confidence, the
    gap between mean confidence and accuracy, weighted by the samples in the bin.

    Returns rows sorted by accuracy, lowest first, and last the row "all". Raises ShapeError for
    lengths that differ.
    """
    z = np.asarray(outputs.detach().numpy() if isinstance(outputs, Tensor) else outputs, np.float64)
    labels = np.asarray(y.numpy() if isinstance(y, Tensor) else y).astype(np.int64)
    if z.ndim != 2 or labels.shape != (len(z),):
        raise _core.ShapeError(
            f"bias_table: outputs have shape {z.shape} and y {labels.shape}; expected (n, classes) "
            "and (n,)"
        )
    if len(z) == 0:
        raise ValueError("bias_table: there are no samples")
    if logits:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        z = e / e.sum(axis=1, keepdims=True)
    titles = list(names) if names is not None else [str(i) for i in range(z.shape[1])]
    keys = np.asarray([titles[i] for i in labels]) if groups is None else np.asarray(groups)
    if keys.shape != (len(z),):
        raise _core.ShapeError(f"bias_table: groups have shape {keys.shape}; expected ({len(z)},)")
    answers = z.argmax(axis=1)
    right = answers == labels
    confidence = z.max(axis=1)
    loss = -np.log(np.maximum(z[np.arange(len(z)), labels], 1e-300))

    def row(name: str, at: Array) -> Group:
        where = np.minimum((confidence[at] * bins).astype(int), bins - 1)
        gap = 0.0
        for b in np.unique(where):
            inside = at[where == b]
            gap += abs(confidence[inside].mean() - right[inside].mean()) * len(inside) / len(at)
        order = at[np.argsort(-loss[at], kind="stable")]
        missed, counts = np.unique(answers[at[~right[at]]], return_counts=True)
        mistakes = sorted(zip(counts.tolist(), missed.tolist(), strict=True), reverse=True)[:3]
        return Group(
            name,
            len(at),
            float(right[at].mean()),
            float(confidence[at].mean()),
            float(gap),
            [int(i) for i in order[:worst]],
            [(titles[m], n) for n, m in mistakes],
        )

    rows = [row(str(key), np.flatnonzero(keys == key)) for key in np.unique(keys)]
    rows.sort(key=lambda r: r.accuracy)
    return [*rows, row("all", np.arange(len(z)))]


def bias_text(table: Sequence[Group]) -> str:
    """The table, with the samples that pull each group down."""
    width = max(len(g.name) for g in table)
    lines = [
        f"{'group':{width}} {'n':>6} {'accuracy':>9} {'confidence':>11} {'calib. error':>13}  "
        "taken for (times); worst samples"
    ]
    for g in table:
        taken = ", ".join(f"{name} ({n})" for name, n in g.mistakes) or "-"
        worst = " ".join(map(str, g.worst))
        lines.append(
            f"{g.name:{width}} {g.count:6} {100 * g.accuracy:8.2f}% {100 * g.confidence:10.2f}% "
            f"{100 * g.calibration_error:12.2f}%  {taken}; {worst}"
        )
    return "\n".join(lines)


# ---- pictures


def _laid_out(a: Array, shape: tuple[int, ...]) -> Array:
    """As the image, or, for another number of elements, in rows of a square; the rest is NaN."""
    if a.size == np.prod(shape):
        return a.reshape(shape)
    side = int(np.ceil(a.size**0.5))
    square = np.full(side * -(-a.size // side), np.nan)
    square[: a.size] = a.ravel()
    return square.reshape(-1, side)


def pictures(
    path: str | Path,
    images: Array,
    attributions: dict[str, Array],
    titles: Sequence[str] = (),
) -> Path:
    """A PNG: a row for each sample, its image and beside it each attribution (red for, blue
    against).

    images  (samples, height, width), or with 3 colours after that, from 0 to 1 or bytes: a grey
            copy then shows through where an attribution is small. Attributions have height x width
            elements a sample, or those of layer_attribution (samples, units), which are laid out
            in a square.
    Raises ImportError, with the way out, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            'pictures: matplotlib is not installed: pip install "wengert[train]"'
        ) from None
    n = len(images)
    columns = 1 + len(attributions)
    figure = Figure(figsize=(1.7 * columns, 1.75 * n), layout="constrained")
    axes = figure.subplots(n, columns, squeeze=False)
    for i in range(n):
        axes[i][0].imshow(images[i], cmap="gray_r")
        axes[i][0].set_ylabel(titles[i] if i < len(titles) else str(i), fontsize=8)
        for j, (name, given) in enumerate(attributions.items(), 1):
            a = _laid_out(np.asarray(given[i], np.float64), images[i].shape[:2])
            coloured = images[i].ndim == 3 and a.shape == images[i].shape[:2]
            # A few pixels of a photo have most of its saliency: the rest would not be seen.
            most = float(np.nanquantile(np.abs(a), 0.99 if coloured else 1)) or 1.0
            if coloured:
                axes[i][j].imshow(images[i].mean(2), cmap="gray")
            alpha = np.minimum(abs(a) / most, 1) if coloured else None
            axes[i][j].imshow(a, cmap="RdBu_r", vmin=-most, vmax=most, alpha=alpha)
            if i == 0:
                axes[i][j].set_title(name, fontsize=8)
    axes[0][0].set_title("image", fontsize=8)
    for a in axes.ravel():
        a.set_xticks([])
        a.set_yticks([])
    path = Path(path)
    with writing(path) as file:
        figure.savefig(file, format=path.suffix[1:] or "png", dpi=110)
    return path


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
