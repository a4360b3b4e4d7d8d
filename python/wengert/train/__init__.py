"""Training: `fit`, the loop to read, and what a run shows and leaves behind (`train.report`)."""

from . import metrics as metrics
from .callbacks import Callback, CSVLogger, JSONLLogger, TensorBoardLogger, Training
from .finder import LRFinder, find_lr
from .loop import (
    SCHEDULES,
    Result,
    TrainingError,
    fit,
    predict,
    read_history,
    right_answers,
    step_seed,
)
from .loop import (
    Loss as Loss,
)
from .metrics import class_weights

__all__ = [
    "SCHEDULES",
    "CSVLogger",
    "Callback",
    "JSONLLogger",
    "LRFinder",
    "Result",
    "TensorBoardLogger",
    "Training",
    "TrainingError",
    "class_weights",
    "find_lr",
    "fit",
    "metrics",
    "predict",
    "read_history",
    "right_answers",
    "step_seed",
]


def __dir__() -> list[str]:
    return __all__
