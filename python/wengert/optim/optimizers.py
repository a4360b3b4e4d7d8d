"""Optimizers and gradient clipping.

The arithmetic of an update is one operation of the core for all parameters of a group (sgd_step,
adam_step, rmsprop_step). An optimizer's numbers (learning rate, betas, weight decay, ...) and the
step count are stored in tensors, so that a compiled training step sees them change without a new
trace: group["lr"] reads and writes an element of `group.options`.
"""

# ruff: noqa: D105, D107 - options and formulas are explained at the classes

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

from .. import _core, _explained
from .._calls import describe, did_you_mean
from .._core import Tensor
from ..autograd import enable_grad, no_grad

# ---- checks: (what it must be, test) of each option


def _check(owner: str, name: str, value: Any, must: str, test: Callable[[float], bool]) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not test(value):
        raise ValueError(f"{owner}: {name} is {value!r}; it must be {must}")


def _at_least_0(v: float) -> bool:
    return v >= 0.0


def _below_1(v: float) -> bool:
    return 0.0 <= v < 1.0


_NUMBERS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lr": ("a finite number, 0 or more", _at_least_0),
    "momentum": ("a finite number, 0 or more", _at_least_0),
    "dampening": ("a finite number", lambda v: True),
    "weight_decay": ("a finite number, 0 or more", _at_least_0),
    "eps": ("a finite number, 0 or more", _at_least_0),
    "alpha": ("a number from 0 to 1", lambda v: 0.0 <= v <= 1.0),
}


class _Cohort:
    """Parameters that have always been updated together, and so share one step count.

    state[name] is the list of the buffers of that name, one for each parameter.
    """

    def __init__(self, params: list[Tensor], step: Tensor | int = 0) -> None:
        self.params = params
        self.step = _core.tensor(step, "int64")  # a copy
        self.state: dict[str, list[Tensor]] = {}

    def split(self, places: list[int]) -> _Cohort:
        """Takes the parameters at these places out, into a new cohort."""
        taken = _Cohort([self.params[i] for i in places], self.step)
        taken.state = {name: [all_[i] for i in places] for name, all_ in self.state.items()}
        rest = sorted(set(range(len(self.params))) - set(places))
        self.params = [self.params[i] for i in rest]
        self.state = {name: [all_[i] for i in rest] for name, all_ in self.state.items()}
        return taken


class ParamGroup(MutableMapping[str, Any]):
    """The options of some parameters: group["lr"], group["weight_decay"], ...; group["params"].

    options       float64, one element for each name of `numbers`: what the update reads
    lr            its element of that name, a tensor of shape ()
    has_momentum  whether "momentum" is set and not 0: then the update needs buffers
    """

    def __init__(
        self,
        owner: str,
        params: list[Tensor],
        options: Mapping[str, Any],
        numbers: tuple[str, ...] = ("lr",),
    ) -> None:
        self._owner = owner
        self._values: dict[str, Any] = {"params": params}  # None: its value is in `options`
        self.options = _core.zeros(len(numbers), "float64")
        self._numbers = {name: self.options[i] for i, name in enumerate(numbers)}
        self.lr = self._numbers["lr"]
        self.has_momentum = False
        alike: dict[tuple[str, str], list[Tensor]] = {}
        for p in params:
            alike.setdefault((p.dtype.name, p.device), []).append(p)
        self.cohorts = [_Cohort(same) for same in alike.values()]
        for name, value in options.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        if name in self._numbers:
            return self._numbers[name].item()
        if name == "betas" and "beta1" in self._numbers:
            return (self._numbers["beta1"].item(), self._numbers["beta2"].item())
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params" or (name == "lr" and isinstance(value, Tensor) and value.numel() != 1):
            raise ValueError(f"{self._owner}: group[{name!r}] cannot be set to this")
        if name == "lr" and isinstance(value, Tensor):
            value = value.item()
        if name in _NUMBERS:
            _check(self._owner, name, value, *_NUMBERS[name])
        elif name == "betas":
            betas = tuple(value) if isinstance(value, Sequence) else ()
            if len(betas) != 2:
                raise ValueError(f"{self._owner}: betas is {value!r}; it must be two numbers")
            for beta in betas:
                _check(self._owner, "betas", beta, "two numbers from 0 to below 1", _below_1)
            value = betas
        if name == "momentum":
            self.has_momentum = value != 0
        if name in self._numbers:
            self._fill({name: value})
        elif name == "betas" and "beta1" in self._numbers:
            self._fill({"beta1": value[0], "beta2": value[1]})
        else:
            self._values[name] = value
            return
        self._values[name] = None

    def _fill(self, values: Mapping[str, float]) -> None:
        with no_grad():
            for name, value in values.items():
                self._numbers[name].fill_(value)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{self._owner}: options of a group cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.items() if k != "params")
        return f"ParamGroup({len(self['params'])} parameters, {options})"


class Optimizer:
    """Base of the optimizers.

    params: an iterable of leaf tensors, or of dicts {"params": [...], option: value, ...} which
    override the options of the constructor for their parameters (parameter groups).

    A subclass names its options with their defaults, and writes `_update`.
    """

    def __init__(self, params: Iterable[Any], options: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            hint = "model.parameters()" if hasattr(params, "parameters") else "[tensor]"
            raise TypeError(
                f"{name}: params is {type(params).__name__}; it must be a list of tensors or of "
                f"groups: {hint}"
            )
        self.defaults = options
        self.param_groups: list[ParamGroup] = []
        items = list(params)
        if not items:
            raise ValueError(f"{name}: the list of parameters is empty")
        groups = items if isinstance(items[0], Mapping) else [{"params": items}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds parameters with options of their own: {"params": [...], "lr": 0.01}."""
        name = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f'{name}: a parameter group is a dict with "params", not {group!r}')
        given = group["params"]
        params = [given] if isinstance(given, Tensor) else list(given)
        if not params:
            raise ValueError(f"{name}: the list of parameters is empty")
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{name}: parameter {i} is {type(p).__name__}, not a tensor; "
                    "give model.parameters(), or a list of dicts with the key 'params'"
                )
            if not p.is_leaf:
                raise ValueError(
                    f"{name}: parameter {i}, of shape {p.shape}, is the result of an operation; "
                    "only leaves can be optimized: use .detach().requires_grad_()"
                )
            if not p.dtype.is_floating_point:
                raise _core.DTypeError(
                    f"{name}: parameter {i} has dtype {p.dtype.name}; it must be float"
                )
            if p.dtype == _core.bfloat16:
                raise _core.DTypeError(
                    f"{name}: parameter {i} has dtype bfloat16, whose 8 bits lose small updates; "
                    "keep parameters in float32, and convert them where they are used: "
                    "x.bfloat16() @ weight.bfloat16()"
                )
            if id(p) in seen:
                raise ValueError(
                    f"{name}: parameter {i}, of shape {p.shape}, is given twice; "
                    "it would be updated twice in a step"
                )
            seen.add(id(p))
        own = {key: value for key, value in group.items() if key != "params"}
        unknown = [key for key in own if key not in self.defaults]
        if unknown:
            raise ValueError(
                f"{name}: unknown options {', '.join(map(str, unknown))}; known are "
                f"{', '.join(self.defaults)}{did_you_mean(unknown[0], self.defaults)}"
            )
        options = {**self.defaults, **own}
        lr = options["lr"].item() if isinstance(options["lr"], Tensor) else options["lr"]
        _check(name, "lr", lr, *_NUMBERS["lr"])
        new = ParamGroup(name, params, options, self._numbers)
        self._check_group(new)
        self.param_groups.append(new)

    _numbers: ClassVar[tuple[str, ...]] = ("lr",)  # the options that `group.options` holds

    def _check_group(self, group: ParamGroup) -> None:
        """Checks options against one another."""

    def _update(self, group: ParamGroup, cohort: _Cohort, grads: list[Tensor]) -> None:
        raise NotImplementedError(f"{type(self).__name__}: _update is not defined")

    @property
    def lr(self) -> float:
        """The learning rate; ValueError where the groups have different ones."""
        rates = [group["lr"] for group in self.param_groups]
        if any(rate != rates[0] for rate in rates):
            raise ValueError(
                f"{type(self).__name__}: the groups have different learning rates, {rates}; "
                'read optimizer.param_groups[i]["lr"]'
            )
        return float(rates[0])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of all parameters, or fills them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    with no_grad():
                        p.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates each parameter that has a gradient. Returns closure(), which is called first."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        former = _core.set_grad_enabled(False)  # no_grad() takes as long as a small update
        try:
            for group in self.param_groups:
                for cohort in list(group.cohorts):
                    grads = [p.grad for p in cohort.params]
                    if type(None) in map(type, grads):
                        self._refuse_replaced(cohort, grads)
                        with_grad = [i for i, grad in enumerate(grads) if grad is not None]
                        if not with_grad:
                            continue
                        # Bias correction counts a parameter's own steps: those without a gradient
                        # stay behind with the old count.
                        cohort = cohort.split(with_grad)
                        group.cohorts.append(cohort)
                        grads = [grads[i] for i in with_grad]
                    self._update(group, cohort, grads)
        finally:
            _core.set_grad_enabled(former)
        return loss

    def _refuse_replaced(self, cohort: _Cohort, grads: Sequence[Tensor | None]) -> None:
        for p, grad in zip(cohort.params, grads, strict=True):
            if grad is None and getattr(p, "replaced", False):
                raise RuntimeError(
                    f"{type(self).__name__}.step: a parameter of shape {p.shape} was replaced by "
                    "Module.to(dtype) after this optimizer was made; make the optimizer after it"
                )

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """{"state": {i: {"step": tensor, name: tensor}}, "param_groups": [options]}, as PyTorch's;
        i counts the parameters through the groups. Buffers share memory with the optimizer."""
        number = {id(p): i for i, p in enumerate(self._params())}
        state: dict[int, dict[str, Tensor]] = {}
        for group in self.param_groups:
            for cohort in group.cohorts:
                if not cohort.step.item():
                    continue
                for place, p in enumerate(cohort.params):
                    entry = {"step": cohort.step.clone()}
                    entry.update({name: all_[place] for name, all_ in cohort.state.items() if all_})
                    state[number[id(p)]] = entry
        groups = [
            {**group, "params": [number[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """ValueError that lists everything in `state` that does not fit this optimizer."""
        name = type(self).__name__
        problems: list[str] = []
        try:
            sizes = [len(group["params"]) for group in state["param_groups"]]
            entries = {int(i): dict(entry) for i, entry in state["state"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{name}.load_state_dict: this is not the state of an optimizer; it must have "
                f'"state" and "param_groups" ({error!r})'
            ) from None
        own = [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            problems.append(f"groups of {sizes} parameters, here {own}")
        for given in state["param_groups"]:
            unknown = set(given) - set(self.defaults) - {"params", "initial_lr"}
            problems += [f"option {key!r} is not one of {name}" for key in sorted(unknown)]
            problems += [f"option {key!r} is missing" for key in self.defaults if key not in given]
            try:
                options = {key: value for key, value in given.items() if key in self.defaults}
                if len(options) == len(self.defaults):
                    self._check_group(ParamGroup(name, [], options, self._numbers))
                _check(name, "initial_lr", given.get("initial_lr", 0.0), *_NUMBERS["lr"])
            except (TypeError, ValueError) as error:
                problems.append(str(error))
        params = self._params()
        for i, entry in entries.items():
            if not 0 <= i < len(params):
                problems.append(f"state of parameter {i}, and there are {len(params)}")
                continue
            for key, value in entry.items():
                if key == "step":
                    one = isinstance(value, Tensor) and value.numel() == 1
                    count = value.item() if one else value
                    whole = type(count) in (int, float) and 0 <= count < 2**62
                    if not whole or count != int(count):
                        problems.append(f"step of parameter {i} is {count!r}")
                elif not isinstance(value, Tensor):
                    problems.append(f"{key!r} of parameter {i} is {type(value).__name__}")
                elif key not in self._buffers:
                    problems.append(f"{key!r} of parameter {i} is not a buffer of {name}")
                elif value.shape != params[i].shape:
                    problems.append(
                        f"{key!r} of parameter {i} has shape {value.shape}, here {params[i].shape}"
                    )
            if "step" not in entry:
                problems.append(f"step of parameter {i} is missing")
        if problems:
            raise ValueError(
                f"{name}.load_state_dict: the state does not fit, nothing was loaded:\n  "
                + "\n  ".join(problems)
            )

    _buffers: ClassVar[tuple[str, ...]] = ()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over options, step counts and buffers (copied). Checked before anything changes."""
        self.check_state_dict(state)
        entries = {int(i): entry for i, entry in state["state"].items()}
        number = {id(p): i for i, p in enumerate(self._params())}
        for group, given in zip(self.param_groups, state["param_groups"], strict=True):
            for key, value in given.items():
                if key != "params":
                    group[key] = value
            # Parameters with the same count, buffers, dtype and device form a cohort again.
            kinds: dict[tuple[Any, ...], list[Tensor]] = {}
            for p in group["params"]:
                entry = entries.get(number[id(p)], {})
                names = sorted(key for key in entry if key != "step")
                kind = (int(entry.get("step", 0)), p.dtype.name, p.device, *names)
                kinds.setdefault(kind, []).append(p)
            group.cohorts = []
            for (step, _, _, *names), params in kinds.items():
                cohort = _Cohort(params, step)
                for name in names:
                    buffers = [_core.zeros_like(p.detach()) for p in params]
                    for p, buffer in zip(params, buffers, strict=True):
                        buffer.copy_(entries[number[id(p)]][name].detach())
                    cohort.state[name] = buffers
                group.cohorts.append(cohort)

    def __repr__(self) -> str:
        groups = "\n".join(f"  {group!r}" for group in self.param_groups)
        return f"{type(self).__name__}:\n{groups}"


def _zeros(cohort: _Cohort, name: str) -> list[Tensor]:
    """The cohort's buffers of this name, made of zeros at first use."""
    if name not in cohort.state:
        cohort.state[name] = [_core.zeros_like(p.detach()) for p in cohort.params]
    return cohort.state[name]


class SGD(Optimizer):
    """Gradient descent: g += weight_decay * p; m = momentum * m + (1 - dampening) * g (m = g at
    the first step); p -= lr * m, or lr * (g + momentum * m) with nesterov.

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
    in deep learning", ICML 2013; the form of the recurrence is PyTorch's.
    """

    _buffers = ("momentum_buffer",)
    _numbers = ("lr", "momentum", "dampening", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, options)

    def _check_group(self, group: ParamGroup) -> None:
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum above 0 and dampening 0; they are "
                f"{group['momentum']} and {group['dampening']}"
            )

    def _update(self, group: ParamGroup, cohort: _Cohort, grads: list[Tensor]) -> None:
        buffers: list[Tensor] = []
        if group.has_momentum:
            if "momentum_buffer" not in cohort.state:
                cohort.step.zero_()  # the step that starts a buffer copies the gradient into it
            buffers = _zeros(cohort, "momentum_buffer")
        _core.sgd_step(
            cohort.params,
            grads,
            buffers,
            group.options,
            cohort.step,
            group["nesterov"],
        )


class Adam(Optimizer):
    """m, v: averages of g and g^2 with decays betas; p -= lr * m' / (sqrt(v') + eps), where
    m' = m / (1 - beta1^t), v' = v / (1 - beta2^t). weight_decay is added to the gradient.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    _buffers = ("exp_avg", "exp_avg_sq")
    _numbers = ("lr", "beta1", "beta2", "eps", "weight_decay")
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options)

    def _update(self, group: ParamGroup, cohort: _Cohort, grads: list[Tensor]) -> None:
        _core.adam_step(
            cohort.params,
            grads,
            _zeros(cohort, "exp_avg"),
            _zeros(cohort, "exp_avg_sq"),
            group.options,
            cohort.step,
            self._decoupled,
        )


class AdamW(Adam):
    """Adam, with weight decay apart from the gradient: first p -= lr * weight_decay * p.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """v = alpha * v + (1 - alpha) * g^2; p -= lr * g / (sqrt(v) + eps), with momentum on the
    quotient if set.

    Source: Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning", 2012.
    """

    _buffers = ("square_avg", "momentum_buffer")
    _numbers = ("lr", "alpha", "eps", "weight_decay", "momentum")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        options = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
        }
        super().__init__(params, options)

    def _update(self, group: ParamGroup, cohort: _Cohort, grads: list[Tensor]) -> None:
        _core.rmsprop_step(
            cohort.params,
            grads,
            _zeros(cohort, "square_avg"),
            _zeros(cohort, "momentum_buffer") if group.has_momentum else [],
            group.options,
            cohort.step,
        )


# ---- gradient clipping


def _grads(op: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    try:
        params = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        return [p.grad for p in params if p.grad is not None]
    except (TypeError, AttributeError):
        raise TypeError(
            f"{op}: parameters is {describe(parameters)}; expected a tensor or a list of tensors: "
            "model.parameters()"
        ) from None


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False
) -> Tensor:
    """Scales all gradients by one factor so that their Euclidean norm, taken over all of them
    together, is at most max_norm. Returns the norm before (one number).

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, algorithm 1.
    """
    _check("clip_grad_norm_", "max_norm", max_norm, "a finite number, 0 or more", _at_least_0)
    grads = _grads("clip_grad_norm_", parameters)
    if not grads:
        return _core.tensor(0.0)
    # Before, not after: gradients that are scaled by inf or nan are lost.
    if error_if_nonfinite and not all(_core.isfinite(g).all().item() for g in grads):
        raise ValueError(
            "clip_grad_norm_: a gradient has inf or nan in it; nothing was scaled. "
            "A smaller learning rate, or a look at the loss, may help"
        )
    return _core.clip_grad_norm_step(grads, float(max_norm))


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clamps every element of every gradient to [-clip_value, clip_value]."""
    _check("clip_grad_value_", "clip_value", clip_value, "a finite number, 0 or more", _at_least_0)
    for grad in _grads("clip_grad_value_", parameters):
        grad.copy_(_core.clamp(grad, -clip_value, clip_value))


_explained.explain_all(globals(), "clip_grad_norm_", "clip_grad_value_")
