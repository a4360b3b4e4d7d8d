"""PyTorch's optim_db: 20 steps of every optimizer, in float64; a case is a configuration.

PyTorch's Muon orthogonalises in bfloat16 whatever the parameters are, so that it is compared to
bfloat16's digits.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from cases import Case, Differs, call, compare, said
from torch.testing._internal.common_optimizers import optim_db

import wengert as wg

VERSION = f"torch {torch.__version__.partition('+')[0]}"
BFLOAT16 = ("Muon",)
OPTIONS = ("foreach", "fused", "capturable", "differentiable")


def check(cls: Any, theirs: Any, kwargs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3))
    a, b = wg.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    own = {k: float(v) if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}
    mine, other = call(cls, ([a],), own), theirs([b], **kwargs)

    if cls.__name__ == "LBFGS":
        target = rng.normal(size=(4, 3))

        def closure(p: Any, optimizer: Any, t: Any) -> Any:
            optimizer.zero_grad()
            loss = ((p - t) ** 4).sum()
            loss.backward()
            return loss

        for _ in range(3):
            mine.step(lambda: closure(a, mine, wg.tensor(target)))
            other.step(lambda: closure(b, other, torch.tensor(target)))
            compare("parameters", a, b)
        return
    for step in range(20):
        g = rng.normal(size=(4, 3))
        a.grad, b.grad = wg.tensor(g), torch.tensor(g)
        mine.step()
        other.step()
        rtol, atol = (1e-2, 1e-2) if cls.__name__ in BFLOAT16 else (1e-10, 1e-12)
        compare(f"parameters after step {step + 1}", a, b, rtol, atol)


def cases(quick: bool = False) -> Iterator[Case]:
    """A case for each configuration that says something of the numbers."""
    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)  # of the scalars that NAdam and ASGD keep
    try:
        yield from configurations()
    finally:
        torch.set_default_dtype(torch.float32)


def configurations() -> Iterator[Case]:
    for info in optim_db:
        name = info.optim_cls.__name__
        for n, given in enumerate(info.optim_inputs_func(device="cpu")):
            case = f"{name} {given.desc}".strip() + f" #{n}"
            kwargs = {k: v for k, v in given.kwargs.items() if k not in OPTIONS}
            if name == "SparseAdam":
                yield Case(case, "n/a", "sparse tensors")
            elif not hasattr(wg.optim, name):
                yield Case(case, "missing", "no optimizer of the name")
            else:
                try:
                    check(getattr(wg.optim, name), info.optim_cls, kwargs)
                    yield Case(case, "passed")
                except Differs as error:
                    yield Case(case, "failed", said(error))
                except Exception as error:  # an option that is missing
                    yield Case(case, "missing", f"{type(error).__name__}: {said(error)}")
