"""Models that are read top to bottom, and load weights of local files: `bert` and `gpt` for text;
`convnet`, `resnet` and `efficientnet_lite` for images."""

from . import bert, convnet, efficientnet_lite, gpt, resnet
from .weights import load_weights

__all__ = ["bert", "convnet", "efficientnet_lite", "gpt", "load_weights", "resnet"]


def __dir__() -> list[str]:
    return __all__
