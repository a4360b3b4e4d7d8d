"""Optimizers and gradient clipping.

The arithmetic of an update is one operation of the core for all parameters of a group (sgd_step,
adam_step, ...). An optimizer's numbers (learning rate, betas, weight decay, ...) and the
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


def _above_0(v: float) -> bool:
    return v > 0.0


_NUMBERS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lr": ("a finite number, 0 or more", _at_least_0),
    "momentum": ("a finite number, 0 or more", _at_least_0),
    "dampening": ("a finite number", lambda v: True),
    "weight_decay": ("a finite number, 0 or more", _at_least_0),
    "eps": ("a finite number, 0 or more", _at_least_0),
    "alpha": ("a number from 0 to 1", lambda v: 0.0 <= v <= 1.0),
    "rho": ("a number from 0 to 1", lambda v: 0.0 <= v <= 1.0),
    "lambd": ("a finite number", lambda v: True),
    "t0": ("a finite number", lambda v: True),
    **dict.fromkeys(
        ("lr_decay", "initial_accumulator_value", "momentum_decay"),
        ("a finite number, 0 or more", _at_least_0),
    ),
}
# Options that are two numbers, and what each of the two is called and must be.
_PAIRS = {
    "betas": (("beta1", "beta2"), "two numbers from 0 to below 1", _below_1),
    "etas": (("eta_minus", "eta_plus"), "two numbers above 0", _above_0),
    "step_sizes": (("step_size_min", "step_size_max"), "two numbers above 0", _above_0),
}
# Options that are True or False. A state_dict may lack them: earlier ones do.
_FLAGS = ("nesterov", "maximize", "decoupled_weight_decay", "amsgrad", "centered")


class _Cohort:
    """Parameters that have always been updated together, and so share one step count.

    state[name] is the list of the buffers of that name, one for each parameter; scalars[name] is
    one float64 number that goes on with the steps, as the count does.
    """

    def __init__(self, params: list[Tensor], step: Tensor | int = 0) -> None:
        self.params = params
        self.step = _core.tensor(step, "int64")  # a copy
        self.state: dict[str, list[Tensor]] = {}
        self.scalars: dict[str, Tensor] = {}

    def split(self, places: list[int]) -> _Cohort:
        """Takes the parameters at these places out, into a new cohort."""
        taken = _Cohort([self.params[i] for i in places], self.step)
        taken.state = {name: [all_[i] for i in places] for name, all_ in self.state.items()}
        taken.scalars = {name: number.clone() for name, number in self.scalars.items()}
        rest = sorted(set(range(len(self.params))) - set(places))
        self.params = [self.params[i] for i in rest]
        self.state = {name: [all_[i] for i in rest] for name, all_ in self.state.items()}
        return taken


class ParamGroup(MutableMapping[str, Any]):
    """The options of some parameters: group["lr"], group["weight_decay"], ...; group["params"].

    tensors       name: a number of the options as a float64 tensor of shape ()
    options       those of `numbers` in one piece: what the update reads
    lr            tensors["lr"]
    has_momentum  whether "momentum" is set and not 0: then the update needs buffers
    """

    def __init__(
        self,
        owner: str,
        params: list[Tensor],
        options: Mapping[str, Any],
        numbers: tuple[str, ...] = ("lr",),
        more: tuple[str, ...] = (),
    ) -> None:
        self._owner = owner
        self._values: dict[str, Any] = {"params": params}  # None: its value is in `options`
        all_ = _core.zeros(len(numbers) + len(more), "float64")
        self.options = all_[: len(numbers)]
        self.tensors = {name: all_[i] for i, name in enumerate((*numbers, *more))}
        self.lr = self.tensors["lr"]
        self.has_momentum = False
        alike: dict[tuple[str, str], list[Tensor]] = {}
        for p in params:
            alike.setdefault((p.dtype.name, p.device), []).append(p)
        self.cohorts = [_Cohort(same) for same in alike.values()]
        for name, value in options.items():
            self[name] = value

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy or a pickle, whose tensors are no longer views of one."""
        vars(self).update(state)
        all_ = _core.stack(list(self.tensors.values()))
        self.options = all_[: self.options.numel()]
        self.tensors = {name: all_[i] for i, name in enumerate(self.tensors)}
        self.lr = self.tensors["lr"]

    def __getitem__(self, name: str) -> Any:
        if name in self.tensors:
            value = self.tensors[name].item()
            return bool(value) if name in _FLAGS else value
        if name in _PAIRS and name in self._values:
            return tuple(self.tensors[one].item() for one in _PAIRS[name][0])
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params" or (name == "lr" and isinstance(value, Tensor) and value.numel() != 1):
            raise ValueError(f"{self._owner}: group[{name!r}] cannot be set to this")
        if name == "lr" and isinstance(value, Tensor):
            value = value.item()
        if name in _NUMBERS and (name in self.tensors or name != "eps"):  # Adafactor's are two
            _check(self._owner, name, value, *_NUMBERS[name])
        elif name in _PAIRS:
            names, must, test = _PAIRS[name]
            pair = tuple(value) if isinstance(value, Sequence) else ()
            if len(pair) != 2:
                raise ValueError(f"{self._owner}: {name} is {value!r}; it must be two numbers")
            for one in pair:
                _check(self._owner, name, one, must, test)
        elif name in _FLAGS and not isinstance(value, bool):
            raise ValueError(f"{self._owner}: {name} is {value!r}; it must be True or False")
        if name == "momentum":
            self.has_momentum = value != 0
        if name in self.tensors:
            self._fill({name: value})
        elif name in _PAIRS:
            self._fill(dict(zip(names, pair, strict=True)))
        else:
            self._values[name] = value
            return
        self._values[name] = None

    def _fill(self, values: Mapping[str, float]) -> None:
        with no_grad():
            for name, value in values.items():
                self.tensors[name].fill_(value)

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

    A subclass names its options with their defaults, and its row of csrc/ops/update/rows.h with the
    row's options and states, or writes `_update`.
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
        new = ParamGroup(name, params, options, self._numbers, self._more_numbers)
        self._check_group(new)
        self.param_groups.append(new)

    _row: ClassVar[Callable[..., None]]
    _numbers: ClassVar[tuple[str, ...]] = ("lr",)  # the options that `group.options` holds
    _more_numbers: ClassVar[tuple[str, ...]] = ()  # further ones in `group.tensors`
    _buffers: ClassVar[tuple[str, ...]] = ()
    _scalars: ClassVar[tuple[str, ...]] = ()

    def _check_group(self, group: ParamGroup) -> None:
        """Checks options against one another."""

    def _update(self, group: ParamGroup, cohort: _Cohort, grads: list[Tensor]) -> None:
        self._row(
            cohort.params,
            grads,
            *self._states(group, cohort),
            self._options_of(group, cohort),
            cohort.step,
        )

    def _states(self, group: ParamGroup, cohort: _Cohort) -> list[list[Tensor]]:
        return [_state(cohort, name) for name in self._buffers]

    def _options_of(self, group: ParamGroup, cohort: _Cohort) -> Tensor:
        return group.options

    def _shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the buffer of this name of a parameter."""
        return shape

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
            if set_to_none:
                _core._drop_grads(group["params"])
                continue
            for p in group["params"]:
                if p.grad is not None:
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
                    grads = _core._grads(cohort.params)
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
                    self._update(group, cohort, grads)  # none is None now
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
                    buffers = {name: all_[place] for name, all_ in cohort.state.items() if all_}
                    entry.update({k: buffer for k, buffer in buffers.items() if buffer is not None})
                    entry.update({name: one.clone() for name, one in cohort.scalars.items()})
                    state[number[id(p)]] = entry
        groups = [
            {**group, "params": [number[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    @property
    def _saved_as(self) -> str:
        """The class in a checkpoint."""
        return type(self).__name__

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
            missing = [key for key in self.defaults if key not in given and key not in _FLAGS]
            problems += [f"option {key!r} is missing" for key in missing]
            try:
                options = {key: given.get(key, value) for key, value in self.defaults.items()}
                if not missing:
                    self._check_group(
                        ParamGroup(name, [], options, self._numbers, self._more_numbers)
                    )
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
                elif key in self._scalars:
                    if value.numel() != 1:
                        problems.append(f"{key!r} of parameter {i} has shape {value.shape}")
                elif key not in self._buffers:
                    problems.append(f"{key!r} of parameter {i} is not a buffer of {name}")
                elif value.shape != (wanted := self._shape(key, params[i].shape)):
                    problems.append(
                        f"{key!r} of parameter {i} has shape {value.shape}, here {wanted}"
                    )
            if "step" not in entry:
                problems.append(f"step of parameter {i} is missing")
        if problems:
            raise ValueError(
                f"{name}.load_state_dict: the state does not fit, nothing was loaded:\n  "
                + "\n  ".join(problems)
            )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over options, step counts and buffers (copied). Checked before anything changes."""
        self.check_state_dict(state)
        entries = {int(i): entry for i, entry in state["state"].items()}
        number = {id(p): i for i, p in enumerate(self._params())}
        for group, given in zip(self.param_groups, state["param_groups"], strict=True):
            for key, value in given.items():
                if key != "params":
                    group[key] = value
            # Parameters of the same count, numbers, buffers, dtype and device form a cohort again.
            kinds: dict[tuple[Any, ...], list[Tensor]] = {}
            for p in group["params"]:
                entry = entries.get(number[id(p)], {})
                names = sorted(key for key in entry if key in self._buffers)
                scalars = tuple((key, entry[key].item()) for key in self._scalars if key in entry)
                kind = (int(entry.get("step", 0)), scalars, p.dtype.name, p.device, *names)
                kinds.setdefault(kind, []).append(p)
            group.cohorts = []
            for (step, scalars, _, _, *names), params in kinds.items():
                cohort = _Cohort(params, step)
                cohort.scalars = {key: _core.tensor(one, "float64") for key, one in scalars}
                for name in names:
                    cohort.state[name] = []
                    for p in params:
                        given_ = entries[number[id(p)]][name].detach()
                        buffer = _core.zeros(given_.shape, p.dtype, p.device).copy_(given_)
                        cohort.state[name].append(buffer)
                group.cohorts.append(cohort)

    def __repr__(self) -> str:
        groups = "\n".join(f"  {group!r}" for group in self.param_groups)
        return f"{type(self).__name__}:\n{groups}"


def _options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options among the arguments of a constructor."""
    return {k: v for k, v in arguments.items() if k not in ("self", "params", "__class__")}


def _state(cohort: _Cohort, name: str, first: Tensor | float | None = None) -> list[Tensor]:
    """The cohort's buffers of this name, filled with `first`, or zeros, at first use."""
    if name not in cohort.state:
        cohort.state[name] = [_core.zeros_like(p.detach()) for p in cohort.params]
        if first is not None:
            for buffer in cohort.state[name]:
                buffer.copy_(first)
    return cohort.state[name]


def _scalar(cohort: _Cohort, name: str, first: Tensor | float) -> Tensor:
    if name not in cohort.scalars:
        cohort.scalars[name] = _core.zeros((), "float64").copy_(first)
    return cohort.scalars[name]


class SGD(Optimizer):
    """Gradient descent: g += weight_decay * p; m = momentum * m + (1 - dampening) * g (m = g at
    the first step); p -= lr * m, or lr * (g + momentum * m) with nesterov.

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
    in deep learning", ICML 2013; the form of the recurrence is PyTorch's.

    >>> w = nn.Parameter(wg.ones(2))
    >>> optimizer = optim.SGD([w], lr=0.5)
    >>> (w * wg.tensor([1.0, 2.0])).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [0.5, 0.0]
    """

    _buffers = ("momentum_buffer",)
    _numbers = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
    _row = staticmethod(_core.sgd_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _check_group(self, group: ParamGroup) -> None:
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum above 0 and dampening 0; they are "
                f"{group['momentum']} and {group['dampening']}"
            )

    def _states(self, group: ParamGroup, cohort: _Cohort) -> list[list[Tensor]]:
        if not group.has_momentum:
            return [[]]
        if "momentum_buffer" not in cohort.state:
            cohort.step.zero_()  # the step that starts a buffer copies the gradient into it
        return [_state(cohort, "momentum_buffer")]


class Adam(Optimizer):
    """m, v: averages of g and g^2 with decays betas; p -= lr * m' / (sqrt(v') + eps), where
    m' = m / (1 - beta1^t), v' = v / (1 - beta2^t). weight_decay is added to the gradient, or, with
    decoupled_weight_decay, is AdamW's. amsgrad: the largest v so far takes the place of v.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1;
    Reddi, Kale and Kumar, "On the convergence of Adam and beyond", ICLR 2018 (amsgrad).

    >>> w = nn.Parameter(wg.ones(2))
    >>> optimizer = optim.Adam([w], lr=0.5)
    >>> (w * wg.tensor([1.0, 2.0])).sum().backward()
    >>> optimizer.step()
    >>> [round(x, 4) for x in w.tolist()]
    [0.5, 0.5]
    """

    _buffers = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _numbers = (
        *("lr", "beta1", "beta2", "eps", "weight_decay"),
        *("decoupled_weight_decay", "maximize"),
    )
    _row = staticmethod(_core.adam_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _states(self, group: ParamGroup, cohort: _Cohort) -> list[list[Tensor]]:
        averages = [_state(cohort, name) for name in self._buffers[:2]]
        return [*averages, _state(cohort, self._buffers[2]) if group["amsgrad"] else []]


class AdamW(Adam):
    """Adam, with weight decay apart from the gradient: first p -= lr * weight_decay * p.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad,
            maximize=maximize, decoupled_weight_decay=True,
        )  # fmt: skip

    def _check_group(self, group: ParamGroup) -> None:
        if not group["decoupled_weight_decay"]:
            raise ValueError("AdamW: decoupled_weight_decay is False; that is Adam")


class RMSprop(Optimizer):
    """v = alpha * v + (1 - alpha) * g^2; p -= lr * g / (sqrt(v) + eps), with momentum on the
    quotient if set. centered: v less the square of the average gradient, a variance.

    Source: Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning", 2012;
    Graves, "Generating sequences with recurrent neural networks", 2013 (centered).
    """

    _buffers = ("square_avg", "momentum_buffer", "grad_avg")
    _numbers = ("lr", "alpha", "eps", "weight_decay", "momentum", "maximize")
    _row = staticmethod(_core.rmsprop_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _states(self, group: ParamGroup, cohort: _Cohort) -> list[list[Tensor]]:
        count = 3 if group["centered"] else 2 if group.has_momentum else 1
        return [_state(cohort, name) for name in self._buffers[:count]] + [[]] * (3 - count)


class Adagrad(Optimizer):
    """s += g^2; p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps); s begins at
    initial_accumulator_value.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12, 2011.
    """

    _buffers = ("sum",)
    _numbers = ("lr", "lr_decay", "weight_decay", "eps", "maximize")
    _row = staticmethod(_core.adagrad_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _states(self, group: ParamGroup, cohort: _Cohort) -> list[list[Tensor]]:
        return [_state(cohort, "sum", group["initial_accumulator_value"])]


class Adadelta(Optimizer):
    """v = rho * v + (1 - rho) * g^2; d = sqrt(u + eps) / sqrt(v + eps) * g;
    u = rho * u + (1 - rho) * d^2; p -= lr * d.

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", 2012, algorithm 1.
    """

    _buffers = ("square_avg", "acc_delta")
    _numbers = ("lr", "rho", "eps", "weight_decay", "maximize")
    _row = staticmethod(_core.adadelta_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))


class Adamax(Optimizer):
    """m: average of g with decay beta1; u = max(beta2 * u, |g| + eps);
    p -= lr / (1 - beta1^t) * m / u.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 2.
    """

    _buffers = ("exp_avg", "exp_inf")
    _numbers = ("lr", "beta1", "beta2", "eps", "weight_decay", "maximize")
    _row = staticmethod(_core.adamax_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))


class NAdam(Optimizer):
    """Adam with Nesterov's momentum: the step is ((1 - mu_t) * g / (1 - mu_1 * ... * mu_t) +
    mu_(t+1) * m / (1 - mu_1 * ... * mu_(t+1))) / (sqrt(v') + eps), where
    mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2).

    Source: Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """

    _buffers = ("exp_avg", "exp_avg_sq")
    _scalars = ("mu_product",)
    _numbers = (
        *("lr", "beta1", "beta2", "eps", "weight_decay", "momentum_decay"),
        *("decoupled_weight_decay", "maximize"),
    )
    _row = staticmethod(_core.nadam_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _options_of(self, group: ParamGroup, cohort: _Cohort) -> Tensor:
        product, t = _scalar(cohort, "mu_product", 1.0), cohort.step + 1
        product.mul_(
            group.tensors["beta1"] * (1 - 0.5 * 0.96 ** (t * group.tensors["momentum_decay"]))
        )
        return _core.concatenate([group.options, product.reshape(1)])


class RAdam(Optimizer):
    """Adam whose step is scaled by what is known of the variance of 1 / sqrt(v'); momentum alone in
    the first steps, where nothing is.

    Source: Liu and others, "On the variance of the adaptive learning rate and beyond", ICLR 2020,
    algorithm 2.
    """

    _buffers = ("exp_avg", "exp_avg_sq")
    _numbers = (
        *("lr", "beta1", "beta2", "eps", "weight_decay"),
        *("decoupled_weight_decay", "maximize"),
    )
    _row = staticmethod(_core.radam_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))


class Rprop(Optimizer):
    """Resilient propagation, of gradients of the whole data: each element has a step size, which
    grows by etas[1] where the gradient keeps its sign and shrinks by etas[0] where it changes;
    there the element rests for a step. Step sizes begin at lr.

    Source: Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", ICNN 1993.
    """

    _buffers = ("prev", "step_size")
    _numbers = ("eta_minus", "eta_plus", "step_size_min", "step_size_max", "maximize")
    _more_numbers = ("lr",)
    _row = staticmethod(_core.rprop_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _check_group(self, group: ParamGroup) -> None:
        (less, more), (least, most) = group["etas"], group["step_sizes"]
        if not 0.0 < less < 1.0 < more:
            raise ValueError(f"Rprop: etas is {(less, more)}; expected 0 < etas[0] < 1 < etas[1]")
        if least > most:
            raise ValueError(f"Rprop: step_sizes is {(least, most)}; the least comes first")

    def _states(self, group: ParamGroup, cohort: _Cohort) -> list[list[Tensor]]:
        return [_state(cohort, "prev"), _state(cohort, "step_size", group.lr)]


class ASGD(Optimizer):
    """Averaged gradient descent: p = (1 - lambd * eta) * p - eta * g with
    eta = lr / (1 + lambd * lr * t)^alpha; from step t0 on, state_dict()'s "ax" is the average of p.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J.
    Control and Optimization, 1992.
    """

    _buffers = ("ax",)
    _scalars = ("eta", "mu")
    _numbers = ("lambd", "weight_decay", "maximize")
    _more_numbers = ("lr", "alpha", "t0")
    _row = staticmethod(_core.asgd_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))

    def _options_of(self, group: ParamGroup, cohort: _Cohort) -> Tensor:
        eta, mu = _scalar(cohort, "eta", group.lr), _scalar(cohort, "mu", 1.0)
        return _core.concatenate([group.options, _core.stack([eta, mu])])

    def _update(self, group: ParamGroup, cohort: _Cohort, grads: list[Tensor]) -> None:
        super()._update(group, cohort, grads)
        of, t = group.tensors, cohort.step
        cohort.scalars["eta"].copy_(of["lr"] / (1 + of["lambd"] * of["lr"] * t) ** of["alpha"])
        cohort.scalars["mu"].copy_(1 / _core.maximum(t - of["t0"], 1.0))


class Lion(Optimizer):
    """p -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p);
    m = beta2 * m + (1 - beta2) * g.

    Its steps are larger than Adam's: take a third to a tenth of Adam's lr, and as much more
    weight_decay. Source: Chen and others, "Symbolic discovery of optimization algorithms", 2023,
    algorithm 2.
    """

    _buffers = ("exp_avg",)
    _numbers = ("lr", "beta1", "beta2", "weight_decay", "maximize")
    _row = staticmethod(_core.lion_step)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, _options(locals()))


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
