"""Optimizers whose update is no elementwise formula: composed of ops, and compiled like them."""

# ruff: noqa: D107 - options and formulas are explained at the classes

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .. import _core, _explained
from .._calls import choice
from .._core import Tensor
from .optimizers import Optimizer, ParamGroup, _above_0, _check, _Cohort, _options, _state


def _norm(x: Tensor) -> Tensor:
    return x.square().sum().sqrt()


class _Composed(Optimizer):
    """A subclass writes `_one`, the update of one parameter, number `i` of the cohort."""

    def _update(self, group: ParamGroup, cohort: _Cohort, grads: list[Tensor]) -> None:
        cohort.step.add_(1)
        for i, (p, g) in enumerate(zip(cohort.params, grads, strict=True)):
            if "maximize" in group.tensors:
                g = g * (1 - 2 * group.tensors["maximize"]).to(p.dtype)
            self._one(group, cohort, i, p, g)

    def _one(self, group: ParamGroup, cohort: _Cohort, i: int, p: Tensor, g: Tensor) -> None:
        raise NotImplementedError


class LAMB(_Composed):
    """Adam's step r = m' / (sqrt(v') + eps) + weight_decay * p, scaled for each parameter:
    p -= lr * |p| / |r| * r, with Euclidean norms; where one of them is 0 the ratio is 1.

    Source: You and others, "Large batch optimization for deep learning: training BERT in 76
    minutes", ICLR 2020, algorithm 2.
    """

    _buffers = ("exp_avg", "exp_avg_sq")
    _numbers = ("lr", "beta1", "beta2", "eps", "weight_decay", "maximize")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _one(self, group: ParamGroup, cohort: _Cohort, i: int, p: Tensor, g: Tensor) -> None:
        m, v = (_state(cohort, name)[i] for name in self._buffers)
        of, t = group.tensors, cohort.step
        for average, beta, value in ((m, of["beta1"], g), (v, of["beta2"], g.square())):
            average.copy_(beta.to(p.dtype) * average + (1 - beta).to(p.dtype) * value)
        bias1, bias2 = ((1 - of[beta] ** t).to(p.dtype) for beta in ("beta1", "beta2"))
        r = m / bias1 / ((v / bias2).sqrt() + of["eps"].to(p.dtype))
        r = r + of["weight_decay"].to(p.dtype) * p
        long, step = _norm(p), _norm(r)
        usable = (long > 0).logical_and(step > 0)
        ratio = _core.where(usable, long / step, 1.0)
        p.sub_(of["lr"].to(p.dtype) * ratio * r)


class Adafactor(_Composed):
    """Adam without momentum, whose average of g^2 is kept as the product of the averages of its
    rows and columns where a parameter has two axes or more (the last two), and whose steps are
    relative to the size of the parameter.

    beta2_decay: g^2 counts t^beta2_decay. eps: the least average, None for the dtype's epsilon, and
    the least size of a parameter. d: the largest root mean square of a step, before lr.

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML
    2018, algorithms 4 and 5; without momentum, as in PyTorch.
    """

    _buffers = ("row_var", "col_var", "variance")
    _numbers = ("lr", "weight_decay", "maximize")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _check_group(self, group: ParamGroup) -> None:
        eps = group["eps"]
        if not isinstance(eps, (tuple, list)) or len(eps) != 2:
            raise ValueError(f"Adafactor: eps is {eps!r}; it must be two numbers")
        for value in eps if eps[0] is not None else eps[1:]:
            _check("Adafactor", "eps", value, "finite numbers, 0 or more", lambda v: v >= 0)
        for name, must, test in (
            ("beta2_decay", "a finite number, 0 or less", lambda v: v <= 0),
            ("d", "a finite number, 1 or more", lambda v: v >= 1),
        ):
            _check("Adafactor", name, group[name], must, test)

    def _shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if name == "row_var":
            return (*shape[:-1], 1)
        return (*shape[:-2], 1, shape[-1]) if name == "col_var" else shape

    def _buffer(self, cohort: _Cohort, name: str, i: int) -> Tensor:
        empty: list[Any] = [None] * len(cohort.params)
        all_, p = cohort.state.setdefault(name, empty), cohort.params[i]
        if all_[i] is None:
            all_[i] = _core.zeros(self._shape(name, p.shape), p.dtype, p.device)
        return all_[i]

    def _one(self, group: ParamGroup, cohort: _Cohort, i: int, p: Tensor, g: Tensor) -> None:
        t, lr = cohort.step.to("float64"), group.lr
        least = group["eps"][0]
        if least is None:
            least = 2.0 ** (-23 if p.dtype == _core.float32 else -52)
        new = (t ** group["beta2_decay"]).to(p.dtype)
        size = _core.maximum(_norm(p) / math.sqrt(p.numel()), group["eps"][1])
        step = size * _core.minimum(lr, 1 / t.sqrt()).to(p.dtype)
        p.mul_((1 - lr * group.tensors["weight_decay"]).to(p.dtype))
        square = g.square()
        if p.ndim > 1:
            rows, columns = (self._buffer(cohort, name, i) for name in ("row_var", "col_var"))
            rows.add_((square.mean(-1, True) - rows) * new)
            columns.add_((square.mean(-2, True) - columns) * new)
            v = rows @ columns / _core.maximum(rows.mean(-2, True), least)
        else:
            variance = self._buffer(cohort, "variance", i)
            variance.add_((square - variance) * new)
            v = variance
        u = g / _core.maximum(v, least * least).sqrt()
        too_large = _core.maximum(_norm(u) / (math.sqrt(p.numel()) * group["d"]), 1.0)
        p.sub_(step / too_large * u)


class Muon(_Composed):
    """Momentum, made orthogonal: b += (1 - momentum) * (g - b); p -= lr * (weight_decay * p +
    ratio * u), where u is b (with nesterov g + momentum * (b - g)) with singular values near 1.

    Takes matrices, the weights of hidden layers: give biases, norms, embeddings and the last layer
    to AdamW. The singular values come from ns_steps steps of Newton and Schulz with
    ns_coefficients a, b, c: x = a * x + (b * x x' + c * (x x')^2) x, in the parameter's dtype
    (PyTorch's are in bfloat16).
    adjust_lr_fn: ratio is sqrt(max(1, rows / columns)) for "original" or None, and
    0.2 * sqrt(max(rows, columns)) for "match_rms_adamw", steps as large as AdamW's.

    Source: Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024; Liu and others,
    "Muon is scalable for LLM training", 2025 (match_rms_adamw).
    """

    _buffers = ("momentum_buffer",)
    _numbers = ("lr", "weight_decay", "momentum")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _check_group(self, group: ParamGroup) -> None:
        for i, p in enumerate(group["params"]):
            if p.ndim != 2:
                raise _core.ShapeError(
                    f"Muon: parameter {i} has shape {p.shape}; it takes matrices; give the others "
                    "to an optimizer of their own, AdamW for instance"
                )
        three = group["ns_coefficients"]
        if not isinstance(three, (tuple, list)) or len(three) != 3:
            raise ValueError(f"Muon: ns_coefficients is {three!r}; it must be three numbers")
        for value in three:
            _check("Muon", "ns_coefficients", value, "three finite numbers", lambda v: True)
        _check("Muon", "eps", group["eps"], "a finite number above 0", _above_0)
        steps = group["ns_steps"]
        if isinstance(steps, bool) or not isinstance(steps, int) or not 0 < steps < 100:
            raise ValueError(f"Muon: ns_steps is {steps!r}; it must be an int from 1 to 99")
        if group["adjust_lr_fn"] is not None:
            kinds = ("original", "match_rms_adamw")
            choice("Muon", "adjust_lr_fn", group["adjust_lr_fn"], kinds)

    def _one(self, group: ParamGroup, cohort: _Cohort, i: int, p: Tensor, g: Tensor) -> None:
        of, average = group.tensors, _state(cohort, "momentum_buffer")[i]
        momentum = of["momentum"].to(p.dtype)
        average.add_((g - average) * (1 - of["momentum"]).to(p.dtype))
        x = g + momentum * (average - g) if group["nesterov"] else average
        rows, columns = p.shape
        if rows > columns:
            x = x.T
        x = x / _core.maximum(_norm(x), group["eps"])
        a, b, c = group["ns_coefficients"]
        for _ in range(group["ns_steps"]):
            square = x @ x.T
            x = a * x + (b * square + c * (square @ square)) @ x
        if rows > columns:
            x = x.T
        ratio = math.sqrt(max(1.0, rows / columns))
        if group["adjust_lr_fn"] == "match_rms_adamw":
            ratio = 0.2 * math.sqrt(max(rows, columns))
        p.mul_((1 - of["lr"] * of["weight_decay"]).to(p.dtype))
        p.sub_((of["lr"] * ratio).to(p.dtype) * x)


_explained.explain_all(globals())
