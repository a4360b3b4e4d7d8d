"""Checks of gradients and values, for tests of ops and models.

gradcheck compares the engine's vector-Jacobian products with central differences along random
directions, in float64:   u . (f(x + eps v) - f(x - eps v)) / (2 eps)   against   (u . J) . v
for random u (one for each output) and v (one input at a time). A wrong element of J shows in such a
projection with probability 1. order=2 does the same with the gradient as the function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import _core, _explained
from ._core import Tensor
from .autograd import enable_grad, no_grad

if TYPE_CHECKING:  # NumPy is imported inside the functions: `import wengert` stays light
    import numpy as np

__all__ = ["assert_close", "gradcheck"]

_TOLERANCES = {  # rtol, atol: PyTorch's
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}


def _array(x: Any) -> np.ndarray[Any, Any]:
    import numpy as np

    if not isinstance(x, Tensor):
        return np.asarray(x)
    x = x.detach().cpu()
    return np.asarray((x.float() if _dtype(x) == "bfloat16" else x).numpy())


def _dtype(x: Any) -> str:
    name: str = x.dtype.name
    return name


def assert_close(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    *,
    equal_nan: bool = False,
    check_dtype: bool = True,
    message: str = "",
) -> None:
    """AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere, the shapes
    are equal and (check_dtype) the dtypes too. It shows how many elements differ and the worst.

    Tensors, NumPy arrays and numbers; the tolerances default to those of the less precise dtype:
    bfloat16 1.6e-2 and 1e-5, float32 1.3e-6 and 1e-5, float64 1e-7 and 1e-7, else 0. Equal
    infinities are close.
    """
    import numpy as np

    a, b = _array(actual), _array(expected)
    lead = f"{message}: " if message else ""
    if a.shape != b.shape:
        raise AssertionError(f"{lead}shapes differ: {a.shape}, expected {b.shape}")
    numbers = isinstance(expected, (bool, int, float, list)) or not isinstance(actual, Tensor)
    names = [_dtype(x if isinstance(x, Tensor) else y) for x, y in ((actual, a), (expected, b))]
    if check_dtype and not numbers and names[0] != names[1]:
        raise AssertionError(
            f"{lead}dtypes differ: {names[0]}, expected {names[1]}; check_dtype=False allows it"
        )
    found = [_TOLERANCES[name] for name in names if name in _TOLERANCES]
    default = max(found, default=(0.0, 0.0))
    rtol = default[0] if rtol is None else rtol
    atol = default[1] if atol is None else atol
    wide_a, wide_b = (x.astype(np.float64) for x in (a, b))
    if a.dtype.kind != "f" and b.dtype.kind != "f" and rtol == atol == 0.0:
        good = a == b  # int64 does not fit into float64
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            good = (wide_a == wide_b) | (
                np.isfinite(wide_b) & (np.abs(wide_a - wide_b) <= atol + rtol * np.abs(wide_b))
            )
        if equal_nan:
            good |= np.isnan(wide_a) & np.isnan(wide_b)
    if good.all():
        return
    with np.errstate(invalid="ignore"):
        error = np.where(good, -1.0, np.abs(wide_a - wide_b))
    error[np.isnan(error)] = np.inf
    worst = tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
    where = f" at {worst}" if worst else ""
    raise AssertionError(
        f"{lead}{int((~good).sum())} of {good.size} elements differ (rtol {rtol:g}, atol "
        f"{atol:g}); the worst{where}: {a[worst]!r}, expected {b[worst]!r}, "
        f"difference {abs(float(wide_a[worst]) - float(wide_b[worst])):.3g}"
    )


def _outputs(result: Any) -> list[Tensor]:
    outputs = list(result) if isinstance(result, (list, tuple)) else [result]
    for i, y in enumerate(outputs):
        if not isinstance(y, Tensor):
            raise TypeError(f"gradcheck: output {i} is {type(y).__name__}, not a tensor")
    return [y for y in outputs if y.dtype.is_floating_point]


class _Check:
    """One function at one point: its analytic and numeric derivatives."""

    def __init__(self, fn: Callable[..., Any], inputs: Sequence[Tensor], order: int) -> None:
        self.fn, self.inputs, self.order = fn, list(inputs), order
        self.shapes: list[tuple[int, ...]] | None = None  # of the outputs
        self.places = [i for i, x in enumerate(self.inputs) if x.dtype.is_floating_point]

    def values(self, place: int, at: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """The outputs, with input `place` set to `at`."""
        given = [x.detach() for x in self.inputs]
        given[place] = _core.tensor(at, "float64")
        if self.order == 1:
            with no_grad():
                outputs = _outputs(self.fn(*given))
        else:  # fn itself differentiates
            outputs = _outputs(self.fn(*given))
        found = [_array(y).copy() for y in outputs]
        shapes = [y.shape for y in found]
        if self.shapes is None:
            self.shapes = shapes
        if shapes != self.shapes:
            raise AssertionError(
                f"gradcheck: fn gives outputs of shapes {self.shapes} at the inputs and {shapes} "
                "within eps of them; shapes must not depend on values there: choose other inputs"
            )
        return found

    def vjp(self, us: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """u . J for each differentiable input."""
        import numpy as np

        with enable_grad():
            given = [x.detach() for x in self.inputs]  # keeps strides
            for place in self.places:
                given[place].requires_grad_(True)
            outputs = _outputs(self.fn(*given))
            leaves = [given[place] for place in self.places]
            pairs = [(y, u) for y, u in zip(outputs, us, strict=True) if y.requires_grad]
            gradients: Sequence[Tensor | None] = [None] * len(leaves)
            if pairs:
                gradients = _core.grad(
                    [y for y, _ in pairs],
                    leaves,
                    [_core.tensor(u, "float64") for _, u in pairs],
                    allow_unused=True,
                )
        found = []
        for place, x, g in zip(self.places, leaves, gradients, strict=True):
            if g is None:  # claimed to be zero; the differences will tell
                found.append(np.zeros(x.shape))
                continue
            if g.shape != x.shape or g.dtype != x.dtype:
                raise AssertionError(
                    f"gradcheck: the gradient of input {place} has shape {g.shape} and dtype "
                    f"{g.dtype.name}; the input has {x.shape} and {x.dtype.name}"
                )
            found.append(_array(g).copy())
        return found


def gradcheck(
    fn: Callable[..., Any],
    inputs: Tensor | Sequence[Tensor],
    eps: float = 1e-6,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    order: int = 1,
    seed: int = 0,
    projections: int = 2,
) -> bool:
    """True if the gradients of `fn` at `inputs` are right; AssertionError that shows which are not.

    fn           takes the inputs, returns a tensor or several. It must be smooth within eps of the
                 point: choose inputs away from kinks.
    inputs       float64 tensors; integer and bool ones are passed on and not differentiated.
    rtol, atol   |analytic - numeric| <= atol + rtol * scale, where scale is the sum of the absolute
                 values of the terms of the projection.
    order        1: gradients. 2: gradients, and then the gradients of the gradients, with respect
                 to the inputs and to the incoming gradients.

    The gradients must also be the same bits when computed twice. Raises DTypeError for float32
    inputs, in which differences are too coarse to tell right from wrong.

    >>> x = wg.tensor([0.5, 1.5], dtype="float64", requires_grad=True)
    >>> wg.testing.gradcheck(wg.tanh, [x])
    True
    """
    import numpy as np

    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order is {order!r}; it must be 1 or 2")
    for i, x in enumerate(given):
        if not isinstance(x, Tensor):
            raise TypeError(f"gradcheck: input {i} is {type(x).__name__}, not a tensor")
        if x.dtype.is_floating_point and x.dtype.name != "float64":
            raise _core.DTypeError(
                f"gradcheck: input {i} is {x.dtype.name}; differences need float64: x.double()"
            )
    random = np.random.default_rng(seed)
    check = _Check(fn, given, 1)
    if not check.places:
        raise ValueError("gradcheck: none of the inputs is float64; nothing to differentiate")
    us = _compare(check, random, eps, rtol, atol, projections, "gradcheck")
    if order == 2:
        weights = [_core.tensor(u, "float64") for u in us]

        def gradient(*arguments: Tensor) -> list[Tensor]:
            """(inputs, incoming gradients) to gradients, all differentiable."""
            with enable_grad():
                xs = [
                    x
                    if x.requires_grad or not x.dtype.is_floating_point
                    else x.detach().requires_grad_(True)
                    for x in arguments[: len(given)]
                ]
                outputs = _outputs(fn(*xs))
                pairs = [
                    (y, u)
                    for y, u in zip(outputs, arguments[len(given) :], strict=True)
                    if y.requires_grad
                ]
                leaves = [xs[place] for place in check.places]
                if not pairs:
                    return [_core.zeros_like(x.detach()) for x in leaves]
                found = _core.grad(
                    [y for y, _ in pairs],
                    leaves,
                    [u for _, u in pairs],
                    create_graph=True,
                    allow_unused=True,
                )
                return [
                    _core.zeros_like(x.detach()) if g is None else g
                    for x, g in zip(leaves, found, strict=True)
                ]

        second = _Check(gradient, [*given, *weights], 2)
        _compare(second, random, eps, rtol, atol, projections, "gradcheck (second order)")
    return True


def _compare(
    check: _Check,
    random: np.random.Generator,
    eps: float,
    rtol: float,
    atol: float,
    projections: int,
    title: str,
) -> list[np.ndarray[Any, Any]]:
    """Raises at the first difference; returns the last u."""
    first = check.values(check.places[0], _array(check.inputs[check.places[0]]))
    us: list[np.ndarray[Any, Any]] = []
    for _ in range(projections):
        us = [random.standard_normal(y.shape) for y in first]
        analytic = check.vjp(us)
        again = check.vjp(us)
        for place, a, b in zip(check.places, analytic, again, strict=True):
            if a.tobytes() != b.tobytes():
                raise AssertionError(f"{title}: input {place}: two runs gave different bits")
        for place, gradient in zip(check.places, analytic, strict=True):
            v = random.standard_normal(gradient.shape)
            numeric, numeric_scale = _difference(check, place, us, v, eps)
            left = float((gradient * v).sum())
            scale = max(float(abs(gradient * v).sum()), numeric_scale)
            if not abs(left - numeric) <= atol + rtol * scale:  # NaN fails
                raise AssertionError(
                    f"{title}: the gradient of input {place}, shape {gradient.shape}, is wrong "
                    f"along a random direction: analytic {left:.10g}, numeric {numeric:.10g}, "
                    f"difference {abs(left - numeric):.3g}, allowed {atol + rtol * scale:.3g}"
                    + _worst_element(check, place, us, gradient, eps)
                )
    return us


def _difference(
    check: _Check,
    place: int,
    us: list[np.ndarray[Any, Any]],
    v: np.ndarray[Any, Any],
    eps: float,
) -> tuple[float, float]:
    """u . J . v by central differences, and the sum of the absolute values of its terms."""
    x = _array(check.inputs[place])
    above, below = check.values(place, x + eps * v), check.values(place, x - eps * v)
    total = scale = 0.0
    for u, a, b in zip(us, above, below, strict=True):
        terms = u * ((a - b) / (2.0 * eps))
        total += float(terms.sum())
        scale += float(abs(terms).sum())
    return total, scale


def _worst_element(
    check: _Check,
    place: int,
    us: list[np.ndarray[Any, Any]],
    gradient: np.ndarray[Any, Any],
    eps: float,
    most: int = 256,
) -> str:
    """Text that names the element that differs most, among the first `most`."""
    import numpy as np

    worst, text = -1.0, ""
    for flat in range(min(gradient.size, most)):
        at = tuple(int(i) for i in np.unravel_index(flat, gradient.shape))
        v = np.zeros(gradient.shape)
        v[at] = 1.0
        numeric, _ = _difference(check, place, us, v, eps)
        error = abs(float(gradient[at]) - numeric)
        if not error <= worst:
            worst = np.inf if np.isnan(error) else error
            text = f"analytic {gradient[at]:.10g}, numeric {numeric:.10g}, at element {at}"
    return f"; the worst of its elements: {text}"


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
