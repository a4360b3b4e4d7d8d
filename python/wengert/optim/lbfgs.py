"""L-BFGS with a line search: an optimizer that evaluates the loss as often as it needs.

Source: Nocedal and Wright, "Numerical optimization", 2nd edition: algorithms 7.4 (directions), 3.5
and 3.6 (strong Wolfe conditions), equation 3.59 (interpolation). Stopping rules are PyTorch's.
"""

# ruff: noqa: D107 - options are explained at the class

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .. import _core, _explained
from .._calls import choice
from .._core import Tensor
from ..autograd import enable_grad, no_grad
from .optimizers import Optimizer, ParamGroup, _at_least_0, _check, _options


class _Point(NamedTuple):
    """What is known at x + t * direction; the slope is along the direction."""

    t: float
    loss: float
    grad: Tensor
    slope: float


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum().item())


def _lowest_between(a: _Point, b: _Point, least: float, most: float) -> float:
    """Where the cubic through both is lowest, within bounds; their middle where it is nowhere."""
    a, b = (a, b) if a.t <= b.t else (b, a)
    mean = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square, best = mean * mean - a.slope * b.slope, math.nan
    if square >= 0:
        root = math.sqrt(square)
        over = b.slope - a.slope + 2 * root
        best = b.t - (b.t - a.t) * (b.slope + root - mean) / over if over else math.nan
    return min(max(best, least), most) if math.isfinite(best) else (least + most) / 2


def _strong_wolfe(
    at: Callable[[float], _Point], start: _Point, t: float, longest: float, tolerance: float,
    most: int,
) -> tuple[_Point, int]:  # fmt: skip
    """A point that is low enough and flat enough, and how often `at` was asked."""

    def too_high(point: _Point) -> bool:
        return point.loss > start.loss + 1e-4 * point.t * start.slope

    def flat(point: _Point) -> bool:
        return abs(point.slope) <= -0.9 * start.slope

    before, point, asked = start, at(t), 1
    while asked <= most:  # until two points have such a one between them
        if too_high(point) or (asked > 2 and point.loss >= before.loss):
            break
        if flat(point):
            return point, asked
        if point.slope >= 0:
            break
        least = point.t + 0.01 * (point.t - before.t)
        further = _lowest_between(before, point, least, 10 * point.t)
        before, point, asked = point, at(further), asked + 1
    else:
        before = start
    low, high = (before, point) if before.loss <= point.loss else (point, before)
    was_near = False
    while asked <= most:
        left, right = sorted((low.t, high.t))
        if (right - left) * longest < tolerance:
            break
        t, margin = _lowest_between(low, high, left, right), 0.1 * (right - left)
        near = min(right - t, t - left) < margin
        if near and (was_near or not left < t < right):
            t = right - margin if right - t < t - left else left + margin
            near = False
        was_near = near
        point, asked = at(t), asked + 1
        if too_high(point) or point.loss >= low.loss:
            low, high = (low, point) if low.loss <= point.loss else (point, low)
        elif flat(point):
            return point, asked
        else:
            low, high = point, low if point.slope * (high.t - low.t) >= 0 else high
    return low, asked


class LBFGS(Optimizer):
    """Limited-memory BFGS: step(closure) takes up to max_iter steps along directions that the last
    history_size changes of the gradient give. For the loss of all data, not of batches.

    closure            clears the gradients, computes the loss, calls backward() and returns the
                       loss. It is called up to max_eval times (1.25 * max_iter unless given), and
                       must not change the parameters: RuntimeError
    line_search_fn     "strong_wolfe": how far to go; None: lr each time
    tolerance_grad     done where no element of the gradient is larger
    tolerance_change   done where the loss, or every parameter, changes by less

    If the closure raises, the parameters are as before the step. One group, of one dtype and
    device. A compiled step cannot hold it, since the losses decide what comes next: compile the
    closure.
    """

    _numbers = ("lr",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        options = _options(locals())
        if max_eval is None:
            options["max_eval"] = max_iter * 5 // 4 if isinstance(max_iter, int) else max_iter
        self._memory: dict[str, Any] = {}
        super().__init__(params, options)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """ValueError for a second group."""
        if self.param_groups:
            raise ValueError("LBFGS: it takes one group of parameters")
        super().add_param_group(group)

    def _check_group(self, group: ParamGroup) -> None:
        for name in ("max_iter", "max_eval", "history_size"):
            n = group[name]
            if isinstance(n, bool) or not isinstance(n, int) or n < 1:
                raise ValueError(f"LBFGS: {name} is {n!r}; it must be an int, at least 1")
        for name in ("tolerance_grad", "tolerance_change"):
            _check("LBFGS", name, group[name], "a finite number, 0 or more", _at_least_0)
        if group["line_search_fn"] is not None:
            choice("LBFGS", "line_search_fn", group["line_search_fn"], ("strong_wolfe",))
        if len(kinds := {(p.dtype.name, p.device) for p in group["params"]}) > 1:
            raise ValueError(f"LBFGS: parameters of {sorted(kinds)}; it takes one dtype and device")

    def _flat(self, gradients: bool = False) -> Tensor:
        params = self._params()
        given = [p.grad if gradients else p.detach() for p in params]
        parts = [
            _core.zeros_like(p.detach()) if x is None else x
            for p, x in zip(params, given, strict=True)
        ]
        return _core.concatenate([x.reshape(-1) for x in parts])

    def _set(self, x: Tensor) -> None:
        at = 0
        for p in self._params():
            p.copy_(x[at : at + p.numel()].reshape(p.shape))
            at += p.numel()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Minimizes; returns the loss before it. TypeError without a closure."""
        if not callable(closure):
            raise TypeError("LBFGS.step: it needs a closure that returns the loss")
        if _core._is_tracing():
            raise RuntimeError(
                "LBFGS.step: a compiled step cannot hold it, since losses decide what comes next; "
                "call it outside, with a compiled closure: step(wengert.compile(closure))"
            )
        with no_grad():
            start = self._flat()
            try:
                return self._minimize(closure, start)
            except BaseException:
                self._set(start)
                raise

    def _evaluate(self, closure: Callable[[], Any], x: Tensor) -> tuple[Any, float, Tensor]:
        self._set(x)
        with enable_grad():
            loss = closure()
        if bool((self._flat() != x).logical_and(_core.isfinite(x)).any().item()):
            raise RuntimeError(
                "LBFGS.step: the closure changed the parameters, which are as before the step; it "
                "may compute the loss and gradients alone"
            )
        value = float(loss)
        return loss, math.inf if math.isnan(value) else value, self._flat(True)

    def _minimize(self, closure: Callable[[], Any], x: Tensor) -> Any:
        group, memory = self.param_groups[0], dict(self._memory)
        lr, tolerance = group["lr"], group["tolerance_change"]
        first, loss, grad = self._evaluate(closure, x)
        if not math.isfinite(loss):
            raise ValueError(
                f"LBFGS.step: the loss is {float(first)}; the parameters are as before"
            )
        evals, done = 1, grad.abs().max().item() <= group["tolerance_grad"]
        steps, changes = list(memory.get("old_stps", ())), list(memory.get("old_dirs", ()))
        d, t, former = (memory.get(name) for name in ("d", "t", "prev_flat_grad"))
        taken, before = 0, memory.get("n_iter", 0)
        while not done and taken < group["max_iter"]:
            taken += 1
            if d is None or former is None:
                d, t = -grad, min(1.0, 1.0 / grad.abs().sum().item()) * lr
            else:
                y, s = grad - former, d * t
                if _dot(y, s) > 1e-10:
                    keep = slice(-group["history_size"], None)
                    steps, changes = [*steps, s][keep], [*changes, y][keep]
                d, t = _direction(grad, steps, changes), lr
            former, last, slope = grad, loss, _dot(grad, d)
            if slope > -tolerance:
                break
            if group["line_search_fn"] is not None:
                here, along = x, d

                def at(t: float, here: Tensor = here, along: Tensor = along) -> _Point:
                    _, loss, grad = self._evaluate(closure, here + t * along)
                    return _Point(t, loss, grad, _dot(grad, along))

                longest = d.abs().max().item()
                origin = _Point(0.0, loss, grad, slope)
                allowed = group["max_eval"] - evals
                found, asked = _strong_wolfe(at, origin, t, longest, tolerance, allowed)
                t, loss, grad = found.t, found.loss, found.grad
                x = x + t * d
                evals += asked
            else:
                x = x + t * d
                if taken < group["max_iter"]:
                    _, loss, grad = self._evaluate(closure, x)
                    evals += 1
            self._set(x)
            change = d.abs().max().item() * t
            done = (
                evals >= group["max_eval"]
                or grad.abs().max().item() <= group["tolerance_grad"]
                or change <= tolerance
                or abs(loss - last) < tolerance
            )
        self._memory = {
            "n_iter": before + taken,
            "func_evals": memory.get("func_evals", 0) + evals,
            "d": d, "t": t, "prev_flat_grad": former, "old_stps": steps, "old_dirs": changes,
        }  # fmt: skip
        return first

    def state_dict(self) -> dict[str, Any]:
        """As PyTorch's: the memory of all parameters is the state of parameter 0."""
        return {**super().state_dict(), "state": {0: dict(self._memory)} if self._memory else {}}

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """ValueError that lists what in `state` does not fit."""
        try:
            memory = dict(state["state"]).get(0, {})
            tensors = [memory[name] for name in ("d", "prev_flat_grad") if memory]
            tensors = [x for x in tensors if x is not None] + [*memory.get("old_stps", ())]
            sizes = {x.numel() for x in [*tensors, *memory.get("old_dirs", ())]}
            whole = all(memory.get(name, 0) >= 0 for name in ("n_iter", "func_evals"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"LBFGS.load_state_dict: this is not its state ({error!r})") from None
        n = sum(p.numel() for p in self._params())
        if sizes - {n} or not whole:
            raise ValueError(
                f"LBFGS.load_state_dict: the state is of {sorted(sizes)} parameters, here are {n}"
            )
        super().check_state_dict({**state, "state": {}})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over options and memory (copied). Checked before anything changes."""
        self.check_state_dict(state)
        super().load_state_dict({**state, "state": {}})

        def own(value: Any) -> Any:
            if isinstance(value, list):
                return [own(one) for one in value]
            p = self._params()[0]
            return value.detach().to(p.device).to(p.dtype).clone() if value is not None else None

        memory = dict(state["state"]).get(0, {})
        names = ("d", "prev_flat_grad", "old_stps", "old_dirs")
        self._memory = {**memory, **{k: own(memory[k]) for k in names if memory}}


def _direction(grad: Tensor, steps: list[Tensor], changes: list[Tensor]) -> Tensor:
    """The inverse Hessian that steps and changes of the gradient tell of, times -grad."""
    d, shares = -grad, []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        shares.append(_dot(s, d) / _dot(y, s))
        d = d - shares[-1] * y
    if steps:
        d = d * (_dot(changes[-1], steps[-1]) / _dot(changes[-1], changes[-1]))
    for s, y, share in zip(steps, changes, reversed(shares), strict=True):
        d = d + (share - _dot(y, d) / _dot(y, s)) * s
    return d


_explained.explain_all(globals())
