"""A small classifier and its step, always begun alike: on the CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import wengert as wg
from wengert import nn, optim

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5),
}


class Training:
    """optimizer: a name in OPTIMIZERS, or what makes one of the parameters."""

    def __init__(
        self,
        optimizer: str | Callable[[Any], optim.Optimizer] = "adam",
        dropout: float = 0.0,
        clip: bool = False,
        device: str = "cpu",
        sizes: Sequence[int] = (6, 8, 3),
        activation: str = "tanh",
    ) -> None:
        wg.manual_seed(1)
        self.model = nn.MLP(sizes, activation=activation, dropout=dropout).to(device)
        made = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
        self.optimizer = made(self.model.parameters())
        self.clip = clip
        wg.manual_seed(2)

    def step(self, x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
        self.optimizer.zero_grad()
        loss = wg.cross_entropy(self.model(x), y)
        loss.backward()
        if self.clip:
            optim.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        return loss

    def weights(self) -> list[list[float]]:
        return [p.detach().flatten().tolist() for p in self.model.parameters()]

    def state(self) -> list[Any]:
        values = [x for p in self.model.parameters() for x in (p.detach(), p.grad)]
        return [x.tolist() for x in values] + [str(self.optimizer.state_dict())]


def batches(n: int, size: int = 16, device: str = "cpu") -> tuple[wg.Tensor, wg.Tensor]:
    rng = np.random.default_rng(0)
    return (
        wg.tensor(rng.normal(size=(n, size, 6)).astype("f")).to(device),
        wg.tensor(rng.integers(0, 3, (n, size))).to(device),
    )
