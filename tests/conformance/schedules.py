"""Learning-rate schedules against PyTorch's: 40 steps; a case is a schedule with arguments."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from cases import Case, Differs, compare, said

import wengert as wg

VERSION = f"torch {torch.__version__.partition('+')[0]}"
GIVEN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("StepLR", {"step_size": 7, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [3, 9, 20], "gamma": 0.3}),
    ("ConstantLR", {"factor": 0.3, "total_iters": 8}),
    ("LinearLR", {"start_factor": 0.2, "end_factor": 0.9, "total_iters": 12}),
    ("ExponentialLR", {"gamma": 0.93}),
    ("PolynomialLR", {"total_iters": 25, "power": 2.0}),
    ("CosineAnnealingLR", {"T_max": 11, "eta_min": 0.001}),
    ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 2, "eta_min": 0.001}),
    ("LambdaLR", {"lr_lambda": lambda step: 0.9**step}),
    ("MultiplicativeLR", {"lr_lambda": lambda step: 0.95}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 6}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 6, "mode": "triangular2"}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 41}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 41, "three_phase": True}),
    ("ReduceLROnPlateau", {"patience": 2, "factor": 0.5}),
)


def rates(library: Any, name: str, kwargs: dict[str, Any]) -> list[float]:
    p = library.ones(2, requires_grad=True)
    p.grad = library.ones(2)
    optimizer = library.optim.SGD([p], lr=0.1, momentum=0.9)
    place = (
        library.optim.lr_scheduler
        if library is torch or hasattr(library.optim, "lr_scheduler")
        else library.optim
    )
    schedule = getattr(place, name)(optimizer, **kwargs)
    found = []
    for step in range(40):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if name == "ReduceLROnPlateau":
            schedule.step(1.0 / (1 + min(step, 9)))
        else:
            schedule.step()
    return found


def cases(quick: bool = False) -> Iterator[Case]:
    """A case for each of GIVEN."""
    warnings.simplefilter("ignore")
    for name, kwargs in GIVEN:
        case = f"{name} {', '.join(k for k in kwargs)}"
        try:
            compare("rates", rates(wg, name, kwargs), rates(torch, name, kwargs), 1e-6, 1e-9)
            yield Case(case, "passed")
        except Differs as error:
            yield Case(case, "failed", said(error))
        except Exception as error:  # an option that is missing
            yield Case(case, "missing", f"{type(error).__name__}: {said(error)}")
