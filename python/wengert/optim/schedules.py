"""Learning-rate schedules: a function of the step number (`lr_at`), not a recurrence."""

# ruff: noqa: D102, D107 - options and formulas are explained at the classes

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

from .. import _explained
from .._calls import choice
from .._core import Tensor
from .optimizers import _NUMBERS, Optimizer, ParamGroup, _below_1, _check


def _groups_of(owner: str, optimizer: Optimizer) -> list[ParamGroup]:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{owner}: optimizer is {type(optimizer).__name__}, not an Optimizer")
    return optimizer.param_groups


class LRScheduler:
    """Base of the schedules: call step() after each epoch, or batch. A subclass writes
    lr_at(base_lr, epoch), the learning rate as a function of the number of steps taken.

    base_lrs are the learning rates of the groups when the first schedule was made; they are kept
    in group["initial_lr"].
    """

    def __init__(self, optimizer: Optimizer) -> None:
        groups = _groups_of(type(self).__name__, optimizer)
        self.optimizer = optimizer
        self.last_epoch = 0
        self.base_lrs: list[float] = [
            group.setdefault("initial_lr", group["lr"]) for group in groups
        ]
        self._last_lrs: list[float] = []
        self._write()

    def lr_at(self, base_lr: float, epoch: int) -> float:
        """The learning rate after `epoch` steps of a group that began with base_lr."""
        raise NotImplementedError(f"{type(self).__name__}: lr_at is not defined")

    def _lrs(self) -> list[float]:
        return [self.lr_at(base, self.last_epoch) for base in self.base_lrs]

    def _write(self) -> None:
        self._last_lrs = self._lrs()
        self._set_groups()

    def _set_groups(self) -> None:
        """Gives the groups what belongs to this position."""
        for group, lr in zip(self.optimizer.param_groups, self._last_lrs, strict=True):
            group["lr"] = lr

    def step(self) -> None:
        """Sets the next learning rate. RuntimeError where something else has set it since: two
        schedules would undo one another's work without a word."""
        now = [group["lr"] for group in self.optimizer.param_groups]
        if now != self._last_lrs:
            raise RuntimeError(
                f"{type(self).__name__}.step: the learning rates are {now}, and this schedule set "
                f"{self._last_lrs}; something else changed them. Join schedules with SequentialLR, "
                "or change schedule.base_lrs instead"
            )
        self.last_epoch += 1
        try:
            self._write()
        except ValueError:  # the schedule has ended
            self.last_epoch -= 1
            raise

    def _repr_html_(self) -> str:
        """For notebooks: the learning rates over the steps, and where the schedule stands."""
        from .. import _shown

        here = f"step {self.last_epoch}, learning rate " + ", ".join(
            f"{lr:.4g}" for lr in self._last_lrs
        )
        end = max(_length(self), self.last_epoch)
        epochs, rates = [], []
        for epoch in sorted({round(i * end / 200) for i in range(201)}):
            try:
                rates.append(self._lrs_of(epoch))
            except Exception:  # a function of the user's may end, as a list of rates does
                break
            epochs.append(float(epoch))
        curves = [(f"group {i}", list(ys)) for i, ys in enumerate(zip(*rates, strict=True))]
        if len({tuple(ys) for _, ys in curves}) == 1:
            curves = [("learning rate", curves[0][1])]
        picture = (
            _shown.plot(epochs, curves, "step", share=0, mark=self.last_epoch) if curves else ""
        )
        return _shown.block(self._kind(), _shown.said(here), picture)

    def _lrs_of(self, epoch: int) -> list[float]:
        """The learning rates after `epoch` steps; the schedule stays where it is."""
        there = copy(self)
        there.last_epoch = epoch
        return there._lrs()

    def get_last_lr(self) -> list[float]:
        """The learning rates that were set last, one for each group."""
        return list(self._last_lrs)

    def state_dict(self) -> dict[str, Any]:
        """Numbers, lists and the class's name; not the optimizer, nor functions."""
        return {
            "class": self._kind(),
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
            "last_lrs": list(self._last_lrs),
        }

    def _kind(self) -> str:
        return type(self).__name__

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """ValueError where `state` is not that of such a schedule; "class" may be missing."""
        name, wanted = self._kind(), self.state_dict()
        groups = len(self.optimizer.param_groups)
        if not isinstance(state, Mapping) or {*state, "class"} != set(wanted):
            had = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(
                f"{name}.load_state_dict: a state of it has {', '.join(wanted)}; this one has {had}"
            )
        if state.get("class", name) != name:
            raise ValueError(
                f"{name}.load_state_dict: this is the state of {state['class']}; make that schedule"
            )
        for key in ("base_lrs", "last_lrs"):
            rates = state[key]
            if not isinstance(rates, (list, tuple)) or len(rates) != groups:
                raise ValueError(
                    f"{name}.load_state_dict: {key} is {rates!r}; it must be a list of {groups}, "
                    "one for each parameter group"
                )
            for rate in rates:
                _check(f"{name}.load_state_dict", key, rate, *_NUMBERS["lr"])
        _whole(f"{name}.load_state_dict", "last_epoch", state["last_epoch"], 0)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a state_dict, and sets the learning rates (and momenta) that belong to it: a
        schedule may be made before or after its optimizer is restored. ValueError, before anything
        is changed, if it does not fit."""
        self.check_state_dict(state)
        self.last_epoch = state["last_epoch"]
        self.base_lrs = [float(lr) for lr in state["base_lrs"]]
        self._last_lrs = [float(lr) for lr in state["last_lrs"]]
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["initial_lr"] = base
        self._set_groups()


def _length(schedule: LRScheduler) -> int:
    """How many steps show what a schedule does."""
    if isinstance(schedule, SequentialLR):
        return max(schedule.milestones, default=0) + _length(schedule.schedulers[-1])
    if isinstance(schedule, OneCycleLR):
        return schedule.total_steps - 1
    if isinstance(schedule, CyclicLR):
        return 3 * schedule.total_size
    if isinstance(schedule, StepLR):
        return 5 * schedule.step_size
    if isinstance(schedule, MultiStepLR):
        return 5 * max(schedule.milestones, default=20) // 4 + 1
    if isinstance(schedule, CosineAnnealingLR):
        return schedule.T_max
    if isinstance(schedule, CosineAnnealingWarmRestarts):
        return schedule.T_0 * (1 + schedule.T_mult + schedule.T_mult**2)
    if isinstance(schedule, (LinearLR, ConstantLR, PolynomialLR)):
        return max(2, 5 * schedule.total_iters // 4)
    if isinstance(schedule, SWALR):
        return max(2, 2 * schedule.anneal_epochs)
    return 100


def _whole(owner: str, name: str, value: int, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{owner}: {name} is {value!r}; it must be an int, at least {least}")
    return value


def _one_each(owner: str, name: str, value: Any, optimizer: Optimizer) -> list[float]:
    """A learning rate for each group: one for all, or a list."""
    groups = len(_groups_of(owner, optimizer))
    rates = list(value) if isinstance(value, (list, tuple)) else [value] * groups
    if len(rates) != groups:
        raise ValueError(f"{owner}: {name} has {len(rates)} numbers for {groups} parameter groups")
    for rate in rates:
        _check(owner, name, rate, *_NUMBERS["lr"])
    return [float(rate) for rate in rates]


class StepLR(LRScheduler):
    """base * gamma^(epoch // step_size)"""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = _whole("StepLR", "step_size", step_size)
        self.gamma = gamma
        super().__init__(optimizer)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        return base_lr * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """base * gamma^(number of milestones reached)"""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(_whole("MultiStepLR", "milestone", m, 0) for m in milestones)
        self.gamma = gamma
        super().__init__(optimizer)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        return base_lr * self.gamma ** bisect_right(self.milestones, epoch)


class ExponentialLR(LRScheduler):
    """base * gamma^epoch"""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        return float(base_lr * self.gamma**epoch)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) * (1 + cos(pi * epoch / T_max)) / 2

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR
    2017, equation 5 (without the restarts).
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803
        self.T_max = _whole("CosineAnnealingLR", "T_max", T_max)
        self.eta_min = eta_min
        super().__init__(optimizer)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        wave = (1.0 + math.cos(math.pi * epoch / self.T_max)) / 2.0
        return self.eta_min + (base_lr - self.eta_min) * wave


class LinearLR(LRScheduler):
    """base times a factor that goes from start_factor to end_factor in total_iters steps, then
    stays: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3.0,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        if not 0.0 < start_factor <= 1.0 or not 0.0 <= end_factor <= 1.0:
            raise ValueError(
                f"LinearLR: the factors are {start_factor} and {end_factor}; they must be in "
                "(0, 1] and [0, 1]"
            )
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _whole("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        part = min(epoch, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * part)


class ConstantLR(LRScheduler):
    """base * factor for total_iters steps, then base"""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3.0, total_iters: int = 5
    ) -> None:
        if not 0.0 <= factor <= 1.0:
            raise ValueError(f"ConstantLR: factor is {factor}; it must be in [0, 1]")
        self.factor = factor
        self.total_iters = _whole("ConstantLR", "total_iters", total_iters, 0)
        super().__init__(optimizer)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        return base_lr * (self.factor if epoch < self.total_iters else 1.0)


class LambdaLR(LRScheduler):
    """base * lr_lambda(epoch); one function, or a list with one for each group. The functions are
    not part of the state_dict."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
    ) -> None:
        groups = len(_groups_of(type(self).__name__, optimizer))
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(
                f"{type(self).__name__}: {len(self.lr_lambdas)} functions for {groups} parameter "
                "groups"
            )
        super().__init__(optimizer)

    def _lrs(self) -> list[float]:
        return self._lrs_at(self.base_lrs, self.last_epoch)

    def _lrs_at(self, bases: list[float], epoch: int) -> list[float]:
        return [base * fn(epoch) for base, fn in zip(bases, self.lr_lambdas, strict=True)]

    def lr_at(self, base_lr: float, epoch: int) -> float:
        return base_lr * self.lr_lambdas[0](epoch)


class MultiplicativeLR(LambdaLR):
    """base * lr_lambda(1) * ... * lr_lambda(epoch); one function, or a list with one for each
    group. The functions are not part of the state_dict."""

    def _lrs(self) -> list[float]:
        if not self.last_epoch:
            return list(self.base_lrs)
        return [
            last * fn(self.last_epoch)
            for last, fn in zip(self._last_lrs, self.lr_lambdas, strict=True)
        ]

    def _lrs_of(self, epoch: int) -> list[float]:
        return self._lrs_at(self.base_lrs, epoch)

    def _lrs_at(self, bases: list[float], epoch: int) -> list[float]:
        return [
            base * math.prod(fn(i) for i in range(1, epoch + 1))
            for base, fn in zip(bases, self.lr_lambdas, strict=True)
        ]

    def lr_at(self, base_lr: float, epoch: int) -> float:
        return self._lrs_at([base_lr], epoch)[0]


class PolynomialLR(LRScheduler):
    """base * (1 - epoch / total_iters)^power, from total_iters on 0"""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters = _whole("PolynomialLR", "total_iters", total_iters)
        _check("PolynomialLR", "power", power, "a finite number above 0", lambda v: v > 0)
        self.power = power
        super().__init__(optimizer)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        left = 1.0 - min(epoch, self.total_iters) / self.total_iters
        return float(base_lr * left**self.power)


class CosineAnnealingWarmRestarts(LRScheduler):
    """CosineAnnealingLR that restarts after T_0 steps, then after T_0 * T_mult, and so on.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR
    2017, equation 5.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,  # noqa: N803
        T_mult: int = 1,  # noqa: N803
        eta_min: float = 0.0,
    ) -> None:
        self.T_0 = _whole("CosineAnnealingWarmRestarts", "T_0", T_0)
        self.T_mult = _whole("CosineAnnealingWarmRestarts", "T_mult", T_mult)
        self.eta_min = eta_min
        super().__init__(optimizer)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        length = self.T_0
        if self.T_mult == 1:
            epoch %= length
        while epoch >= length:
            epoch -= length
            length *= self.T_mult
        wave = (1.0 + math.cos(math.pi * epoch / length)) / 2.0
        return self.eta_min + (base_lr - self.eta_min) * wave


class _CyclesMomentum(LRScheduler):
    """A schedule of the learning rate and, with cycle_momentum, of momentum or beta1."""

    cycle_momentum: bool

    def _check_momentum(self, optimizer: Optimizer) -> None:
        for group in _groups_of(type(self).__name__, optimizer):
            if self.cycle_momentum and not ("betas" in group or group.get("momentum")):
                raise ValueError(
                    f"{type(self).__name__}: the optimizer has no momentum to cycle; pass "
                    "cycle_momentum=False"
                )

    def _momentum(self) -> float:
        """The momentum of this position."""
        raise NotImplementedError

    def _set_groups(self) -> None:
        super()._set_groups()
        if not self.cycle_momentum:
            return
        momentum = self._momentum()
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum


class CyclicLR(_CyclesMomentum):
    """From base_lr up to max_lr in step_size_up steps, down again in step_size_down (as many), and
    so on; momentum (or beta1) goes the other way.

    mode: "triangular"; "triangular2", which halves the height with each cycle; "exp_range", which
    scales it by gamma^epoch. scale_fn: a scale of one's own, of the number of the cycle (from 1)
    or, with scale_mode "iterations", of the epoch; it is not part of the state_dict.

    Source: Smith, "Cyclical learning rates for training neural networks", WACV 2017.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
    ) -> None:
        choice("CyclicLR", "mode", mode, ("triangular", "triangular2", "exp_range"))
        choice("CyclicLR", "scale_mode", scale_mode, ("cycle", "iterations"))
        for name, value in {"base_momentum": base_momentum, "max_momentum": max_momentum}.items():
            _check("CyclicLR", name, value, "a number from 0 to below 1", _below_1)
        bases = _one_each("CyclicLR", "base_lr", base_lr, optimizer)
        self.max_lrs = _one_each("CyclicLR", "max_lr", max_lr, optimizer)
        self.up = _whole("CyclicLR", "step_size_up", step_size_up)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = self.up + _whole("CyclicLR", "step_size_down", down)
        if scale_fn is None:
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
            scales = {"triangular2": lambda cycle: 0.5 ** (cycle - 1), "exp_range": gamma.__pow__}
            scale_fn = scales.get(mode, lambda cycle: 1.0)
        self.scale_fn, self.scale_mode = scale_fn, scale_mode
        self.cycle_momentum = cycle_momentum
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        self._check_momentum(optimizer)
        for group, lr in zip(optimizer.param_groups, bases, strict=True):
            group["initial_lr"] = lr
        super().__init__(optimizer)

    def _height(self, epoch: int) -> float:
        cycle, at = divmod(epoch, self.total_size)
        falling = at > self.up
        height = (self.total_size - at) / (self.total_size - self.up) if falling else at / self.up
        return height * self.scale_fn(cycle + 1 if self.scale_mode == "cycle" else epoch)

    def _lrs(self) -> list[float]:
        height = self._height(self.last_epoch)
        return [
            base + (top - base) * height
            for base, top in zip(self.base_lrs, self.max_lrs, strict=True)
        ]

    def _momentum(self) -> float:
        fall = (self.max_momentum - self.base_momentum) * self._height(self.last_epoch)
        return self.max_momentum - fall

    def lr_at(self, base_lr: float, epoch: int) -> float:
        return base_lr + (self.max_lrs[0] - base_lr) * self._height(epoch)


class OneCycleLR(_CyclesMomentum):
    """From max_lr / div_factor up to max_lr in pct_start of total_steps, then down to
    max_lr / div_factor / final_div_factor; momentum (or beta1) goes the other way. With three_phase
    it goes down as it came up, and in the rest of the steps to the last. The last of total_steps
    calls of step() changes nothing, and one more is an error.

    Source: Smith and Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2018; two phases unless asked, as in PyTorch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        _check("OneCycleLR", "max_lr", max_lr, "a finite number above 0", lambda v: v > 0)
        most = 0.5 if three_phase else 1
        must = f"between 0 and {most}" + " with three_phase" * three_phase
        _check("OneCycleLR", "pct_start", pct_start, must, lambda v: 0 < v < most)
        choice("OneCycleLR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.max_lr, self.total_steps = max_lr, _whole("OneCycleLR", "total_steps", total_steps, 2)
        self.pct_start, self.anneal_strategy = pct_start, anneal_strategy
        self.cycle_momentum, self.three_phase = cycle_momentum, three_phase
        start, peak = max_lr / div_factor, pct_start * total_steps - 1.0
        self.ends = [peak, 2.0 * peak, total_steps - 1.0]
        self.momenta = [max_momentum, base_momentum, max_momentum, max_momentum]
        self.rates = [start, max_lr, start, start / final_div_factor]
        if not three_phase:
            del self.ends[1], self.momenta[2], self.rates[2]
        self._check_momentum(optimizer)
        super().__init__(optimizer)

    def _at(self, points: list[float], epoch: int) -> float:
        if epoch > self.total_steps:
            raise ValueError(
                f"OneCycleLR: step {epoch} of {self.total_steps}; the schedule has ended"
            )
        epoch, phase = min(epoch, self.total_steps - 1), 0
        while phase < len(self.ends) - 1 and epoch >= self.ends[phase]:
            phase += 1
        a, b = points[phase : phase + 2]
        start = self.ends[phase - 1] if phase else 0.0
        part = (epoch - start) / (self.ends[phase] - start)
        if self.anneal_strategy == "linear":
            return a + (b - a) * part
        return b + (a - b) * (1.0 + math.cos(math.pi * part)) / 2.0

    def lr_at(self, base_lr: float, epoch: int) -> float:
        return self._at(self.rates, epoch)

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        super().check_state_dict(state)
        self._at(self.rates, state["last_epoch"])

    def _momentum(self) -> float:
        return self._at(self.momenta, self.last_epoch)


class SWALR(LRScheduler):
    """From the learning rates that it finds at its first step() to swa_lr in anneal_epochs steps,
    then swa_lr, with 0 steps at once: the rates while AveragedModel gathers weights. Until the
    first step() another schedule may be used.

    Source: Izmailov and others, "Averaging weights leads to wider optima and better
    generalization", UAI 2018.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
    ) -> None:
        choice("SWALR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.anneal_epochs = _whole("SWALR", "anneal_epochs", anneal_epochs, 0)
        self.anneal_strategy = anneal_strategy
        self.swa_lrs = _one_each("SWALR", "swa_lr", swa_lr, optimizer)
        super().__init__(optimizer)

    def _left(self, epoch: int) -> float:
        """How much of the way to swa_lr is left."""
        part = min(epoch / self.anneal_epochs, 1.0) if self.anneal_epochs else 1.0
        return (
            1.0 - part if self.anneal_strategy == "linear" else (1 + math.cos(math.pi * part)) / 2
        )

    def _lrs(self) -> list[float]:
        if not self.last_epoch and self.anneal_epochs:
            return [group["lr"] for group in self.optimizer.param_groups]
        left = self._left(self.last_epoch)
        return [
            lr * (1 - left) + base * left
            for base, lr in zip(self.base_lrs, self.swa_lrs, strict=True)
        ]

    def _lrs_of(self, epoch: int) -> list[float]:
        return super()._lrs_of(epoch) if epoch or not self.last_epoch else list(self.base_lrs)

    def lr_at(self, base_lr: float, epoch: int) -> float:
        left = self._left(epoch)
        return self.swa_lrs[0] * (1 - left) + base_lr * left

    def step(self) -> None:
        if not self.last_epoch:
            self._last_lrs = self._lrs()
            self.base_lrs = list(self._last_lrs)
        super().step()


class SequentialLR(LRScheduler):
    """schedulers[0] up to milestones[0], then schedulers[1], which counts from there, and so on.

    warm-up and cosine: SequentialLR(o, [LinearLR(o, 0.1, total_iters=5),
    CosineAnnealingLR(o, 95)], milestones=[5])
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        self.schedulers = list(schedulers)
        self.milestones = [_whole("SequentialLR", "milestone", m) for m in milestones]
        if len(self.schedulers) != len(self.milestones) + 1:
            raise ValueError(
                f"SequentialLR: {len(self.schedulers)} schedulers and {len(self.milestones)} "
                "milestones; there must be one milestone between each two schedulers"
            )
        if any(a >= b for a, b in pairwise(self.milestones)):
            raise ValueError(f"SequentialLR: milestones {self.milestones} must grow")
        for scheduler in self.schedulers:
            if isinstance(scheduler, (ReduceLROnPlateau, _CyclesMomentum)):
                raise TypeError(f"SequentialLR: {type(scheduler).__name__} cannot be a part of it")
            if scheduler.optimizer is not optimizer:
                raise ValueError("SequentialLR: a scheduler belongs to another optimizer")
        super().__init__(optimizer)

    def _kind(self) -> str:
        return f"SequentialLR({', '.join(s._kind() for s in self.schedulers)})"

    def _lrs(self) -> list[float]:
        place = bisect_right(self.milestones, self.last_epoch)
        start = self.milestones[place - 1] if place else 0
        scheduler, epoch = self.schedulers[place], self.last_epoch - start
        if isinstance(scheduler, LambdaLR):
            return scheduler._lrs_at(self.base_lrs, epoch)
        return [scheduler.lr_at(base, epoch) for base in self.base_lrs]


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the learning rate by factor when a metric has not become better for `patience`
    epochs: call step(metric).

    Better means below best - threshold * |best| for mode "min", above best + threshold * |best| for
    "max" (PyTorch has no |.|: there a negative metric that stays as it is counts as better each
    time); with threshold_mode "abs", best - threshold and best + threshold. NaN is not better.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        owner = "ReduceLROnPlateau"
        choice(owner, "mode", mode, ("min", "max"))
        choice(owner, "threshold_mode", threshold_mode, ("rel", "abs"))
        _check(owner, "factor", factor, "a number from 0 to below 1", _below_1)
        self.mode, self.factor = mode, factor
        self.patience = _whole(owner, "patience", patience, 0)
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown = _whole(owner, "cooldown", cooldown, 0)
        self.min_lr, self.eps = min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        super().__init__(optimizer)

    def _repr_html_(self) -> str:
        from .. import _shown

        rates = ", ".join(f"{lr:.4g}" for lr in self._last_lrs)
        text = (
            f"step {self.last_epoch}, learning rate {rates}; it follows the metric: best "
            f"{self.best:.4g}, {self.num_bad_epochs} of {self.patience} epochs of patience used"
        )
        return _shown.block(self._kind(), _shown.said(text))

    def _lrs(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _is_better(self, metric: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "rel":
            # inf * (1 - threshold) is inf: the first number is better than nothing
            margin = self.threshold if sign * self.best > 0 else -self.threshold
            return sign * metric > sign * self.best * (1.0 + margin)
        return sign * metric > sign * self.best + self.threshold

    def step(self, metric: float | Tensor) -> None:  # type: ignore[override]
        value = float(metric)
        self.last_epoch += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                new = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - new > self.eps:
                    group["lr"] = new
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lrs = self._lrs()

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "best": self.best,
            "num_bad_epochs": self.num_bad_epochs,
            "cooldown_counter": self.cooldown_counter,
        }

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        super().check_state_dict(state)
        owner = "ReduceLROnPlateau.load_state_dict"
        for key in ("num_bad_epochs", "cooldown_counter"):
            _whole(owner, key, state[key], 0)
        if type(state["best"]) not in (int, float):
            raise ValueError(f"{owner}: best is {state['best']!r}; it must be a number")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.best = float(state["best"])
        self.num_bad_epochs = state["num_bad_epochs"]
        self.cooldown_counter = state["cooldown_counter"]


_explained.explain_all(globals())
