"""Models that load from files of pretrained weights: `wengert.models.bert`."""

from . import bert

__all__ = ["bert"]


def __dir__() -> list[str]:
    return __all__
