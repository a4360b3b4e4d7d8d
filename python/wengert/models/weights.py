"""Weights of a model from a local file: safetensors, or what torch.save wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .. import io
from .._core import Tensor
from ..nn import Module

__all__ = ["load_weights"]

# What training programs call the weights in a file of more than them.
_WITHIN = ("state_dict", "model", "model_state_dict", "ema")


def load_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Copies the weights of a file into `model`; nothing in the file is executed.

    The file is a safetensors file, or one of torch.save (.pt, .pth) with a state_dict, perhaps
    within a dict under one of "state_dict", "model", "model_state_dict" and "ema"; "module." before
    all names is passed over. FileError for a file of another content; ValueError, before anything
    changes, for names or shapes that are not the model's.
    """
    found: Any = io.load(path)
    if isinstance(found, Mapping) and not any(isinstance(x, Tensor) for x in found.values()):
        found = next((found[name] for name in _WITHIN if name in found), found)
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()):
        raise io.FileError(f"{os.fspath(path)}: does not hold weights by name")
    if found and all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): x for name, x in found.items()}
    model.load_state_dict(dict(found))
