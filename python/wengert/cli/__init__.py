"""The `wengert` command: train, predict, embed, study, info."""

from .main import *  # noqa: F403
