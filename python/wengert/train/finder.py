"""A learning rate to begin with: the range test of L. N. Smith, arXiv 1506.01186."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import wengert
from wengert import _explained, _shown
from wengert.io import writing

if TYPE_CHECKING:
    from wengert import nn
    from wengert._core import Tensor
    from wengert.data import Batches
    from wengert.optim import Optimizer


@dataclass
class LRFinder:
    """What `find_lr` found: the smoothed loss at each learning rate, and the rate at which it falls
    fastest, None where it nowhere falls."""

    lrs: list[float]
    losses: list[float]
    suggestion: float | None

    def plot(self, path: str | Path | None = None) -> Any:
        """The curve, as a matplotlib figure; written to `path` (.png, .svg, .pdf) where one is
        given. Needs matplotlib: pip install "wengert[train]"."""
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                f'LRFinder.plot needs matplotlib: pip install "wengert[train]" ({error})'
            ) from None
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axis = figure.subplots()
        axis.plot(self.lrs, self.losses)
        if self.suggestion is not None:
            axis.axvline(self.suggestion, linestyle="--", label=f"suggestion {self.suggestion:.2g}")
            axis.legend()
        axis.set_xscale("log")
        axis.set_xlabel("learning rate")
        axis.set_ylabel("loss")
        axis.grid(alpha=0.3)
        if path is not None:
            with writing(path) as file:
                figure.savefig(file, format=Path(path).suffix[1:] or "png", dpi=120)
        return figure

    def _repr_html_(self) -> str:
        """For notebooks: the curve."""
        if not self.lrs:
            return _shown.block("LRFinder", _shown.said("the first loss is not finite"))
        found = self.suggestion
        said = "the loss nowhere falls" if found is None else f"suggestion {found:.2g}"
        at = [math.log10(lr) for lr in self.lrs]
        curve = _shown.plot(
            at, [("loss", self.losses)], "learning rate", share=0, powers=True,
            mark=None if found is None else math.log10(found),
        )  # fmt: skip
        return _shown.block("LRFinder", _shown.said(said), curve)


def find_lr(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    data: Batches,
    *,
    min_lr: float = 1e-7,
    max_lr: float = 1.0,
    steps: int = 100,
) -> LRFinder:
    """Train for `steps` steps while the learning rate rises from min_lr to max_lr by equal factors,
    until the loss is 4 times its lowest; then model, optimizer, data and the global generator are
    as before. The losses are exponential means (0.9).

        found = find_lr(model, wengert.cross_entropy, optimizer, data)
        optimizer.lr = found.suggestion
        found.plot("lr.png")
    """
    if not 0 < min_lr < max_lr or steps < 10:
        raise ValueError(
            f"find_lr: min_lr {min_lr}, max_lr {max_lr}, steps {steps}; expected 0 < min_lr < "
            "max_lr and at least 10 steps"
        )
    kept = deepcopy(model.state_dict()), deepcopy(optimizer.state_dict())
    place, words = data.state_dict(), wengert.default_generator.state.clone()
    rates = [group["lr"] for group in optimizer.param_groups]
    device = next((p.device for p in model.parameters()), "cpu")
    lrs: list[float] = []
    losses: list[float] = []
    mean = 0.0
    modes = [(part, part.training) for part in model.modules()]
    try:
        model.train()
        for i, (x, y) in enumerate(_endless(data)):
            if i == steps:
                break
            lr = min_lr * (max_lr / min_lr) ** (i / (steps - 1))
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            loss = loss_fn(model(x.to(device)), y.to(device))
            if not math.isfinite(loss.item()):
                break
            loss.backward()
            optimizer.step()
            mean = 0.9 * mean + 0.1 * loss.item()
            lrs.append(lr)
            losses.append(mean / (1 - 0.9 ** (i + 1)))
            if losses[-1] > 4 * min(losses):
                break
    finally:
        model.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[1])
        optimizer.zero_grad()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        data.load_state_dict(place)
        for part, mode in modes:
            part.training = mode
        with wengert.no_grad():
            wengert.default_generator.state.copy_(words)
    suggestion = None
    if len(losses) > 2:
        slopes = np.gradient(np.array(losses))
        if slopes.min() < 0:
            suggestion = lrs[int(slopes.argmin())]
    return LRFinder(lrs, losses, suggestion)


def _endless(data: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from data


_explained.explain_all(globals())
