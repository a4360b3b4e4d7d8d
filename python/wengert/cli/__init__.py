"""The `wengert` command: a file for each command, and what they share."""

from .embed import embed_command, encoder_directory
from .errors import UsageError
from .info import info_command
from .main import build_parser, main
from .options import (
    ACTIVATIONS,
    CHANGEABLE,
    DEFAULTS,
    DESCRIBED,
    LEARNING_RATES,
    LOSSES,
    OPTIMIZERS,
    SETTINGS,
    TEST_FRACTION,
    Setting,
    build_loss,
    build_model,
    build_optimizer,
    read_config,
)
from .predict import predict_command
from .study import study_command
from .train import train_command

__all__ = [
    "ACTIVATIONS",
    "CHANGEABLE",
    "DEFAULTS",
    "DESCRIBED",
    "LEARNING_RATES",
    "LOSSES",
    "OPTIMIZERS",
    "SETTINGS",
    "TEST_FRACTION",
    "Setting",
    "UsageError",
    "build_loss",
    "build_model",
    "build_optimizer",
    "build_parser",
    "embed_command",
    "encoder_directory",
    "info_command",
    "main",
    "predict_command",
    "read_config",
    "study_command",
    "train_command",
]
