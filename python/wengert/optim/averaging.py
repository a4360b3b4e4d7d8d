"""Averages of a model's weights over the steps of its training: EMA and SWA."""

# ruff: noqa: D107 - arguments are explained at the class

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from .. import _core, _explained
from .._core import Tensor
from ..autograd import no_grad
from ..nn.module import Module
from ..nn.norms import _BatchNorm
from .optimizers import _check

Average = Callable[[Tensor, Tensor, Tensor], Tensor]
Averages = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]


def _running_mean(averaged: Tensor, current: Tensor, n: Tensor) -> Tensor:
    return averaged + (current - averaged) / (n + 1)


def _moving_mean(decay: float, averaged: Tensor, current: Tensor, n: Tensor) -> Tensor:
    return decay * averaged + (1.0 - decay) * current


def get_swa_avg_fn() -> Average:
    """averaged + (current - averaged) / (n + 1): the mean of all weights so far."""
    return _running_mean


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """decay * averaged + (1 - decay) * current: the exponential moving average."""
    _check("get_ema_avg_fn", "decay", decay, "a number from 0 to 1", lambda v: 0.0 <= v <= 1.0)
    return partial(_moving_mean, decay)


def _of_each(average: Average) -> Averages:
    return partial(_each, average)


def _each(
    average: Average, averaged: Sequence[Tensor], current: Sequence[Tensor], n: Tensor
) -> None:
    for a, b in zip(averaged, current, strict=True):
        a.copy_(average(a, b, n))


def get_swa_multi_avg_fn() -> Averages:
    """get_swa_avg_fn() for lists of tensors; overwrites the first list's."""
    return _of_each(get_swa_avg_fn())


def get_ema_multi_avg_fn(decay: float = 0.999) -> Averages:
    """get_ema_avg_fn(decay) for lists of tensors; overwrites the first list's."""
    return _of_each(get_ema_avg_fn(decay))


class AveragedModel(Module):
    """A copy of a model whose weights are averages: call update_parameters(model) after each step
    of the optimizer, inside a compiled step or beside it, and the averaged model like the model.

    avg_fn(averaged, current, n)  what becomes of a weight after n updates; get_swa_avg_fn() unless
                                  given. The first update copies the weights
    multi_avg_fn                  the same of two lists of tensors; it overwrites the first list's
    use_buffers                   averages floating-point buffers too; else all are copied
    n_averaged                    int64: updates so far

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992;
    Izmailov and others, "Averaging weights leads to wider optima and better generalization", 2018.
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: str | None = None,
        avg_fn: Average | None = None,
        multi_avg_fn: Averages | None = None,
        use_buffers: bool = False,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"AveragedModel: model is {type(model).__name__}, not a Module")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: avg_fn and multi_avg_fn are both given; give one")
        self.module = deepcopy(model)
        if device is not None:
            self.module.to(device)
        where = next((p.device for p in self.module.parameters()), "cpu")
        self.register_buffer("n_averaged", _core.zeros((), "int64").to(where))
        self._averages = multi_avg_fn or _of_each(avg_fn or get_swa_avg_fn())
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """module(...)"""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Takes the weights of `model`, which is of the same form, into the average."""
        pairs = [
            *self._pairs("parameters", self.module.parameters(), model.parameters()),
            *self._pairs("buffers", self.module.buffers(), model.buffers()),
        ]
        parameters = sum(1 for _ in self.module.parameters())
        n = self.n_averaged
        with no_grad():
            taken = []
            for i, (own, given) in enumerate(pairs):
                averaged = i < parameters or (self.use_buffers and own.dtype.is_floating_point)
                if averaged:
                    taken.append((own.detach(), given.detach().to(own.device)))
                else:
                    own.copy_(given)
            results = [own.clone() for own, _ in taken]
            self._averages(results, [given for _, given in taken], n)
            for (own, given), result in zip(taken, results, strict=True):
                own.copy_(_core.where(n == 0, given, result))
            n.add_(1)

    @staticmethod
    def _pairs(kind: str, own: Iterable[Tensor], given: Iterable[Tensor]) -> Any:
        a, b = list(own), list(given)
        if [x.shape for x in a] != [x.shape for x in b]:
            raise ValueError(
                f"AveragedModel.update_parameters: the model's {kind} have shapes "
                f"{[x.shape for x in b]}, the averaged ones {[x.shape for x in a]}; give the model "
                "that it was made of"
            )
        return zip(a, b, strict=True)


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: str | None = None) -> None:
    """Recomputes the running statistics of a model's BatchNorm layers: the averages over the
    batches of `loader`, tensors or tuples that begin with one. Averaged weights need it."""
    kept = (m for m in model.modules() if isinstance(m, _BatchNorm))
    layers = [m for m in kept if m.running_mean is not None]
    if not layers:
        return
    momenta, modes = [m.momentum for m in layers], [(m, m.training) for m in model.modules()]
    try:
        model.train()
        for layer in layers:
            for value, buffer in zip((0, 1, 0), layer.buffers(), strict=True):
                buffer.fill_(value)  # mean, variance, count
            layer.momentum = None
        for batch in loader:
            x = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(x if device is None else x.to(device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode


_explained.explain_all(globals())
