"""Training: `fit`, the loop to read, and what a run shows and leaves behind (`train.report`)."""

from .loop import (
    Loss as Loss,
)
from .loop import (
    Result,
    TrainingError,
    fit,
    predict,
    read_history,
    right_answers,
    step_seed,
)

__all__ = [
    "Result",
    "TrainingError",
    "fit",
    "predict",
    "read_history",
    "right_answers",
    "step_seed",
]


def __dir__() -> list[str]:
    return __all__
