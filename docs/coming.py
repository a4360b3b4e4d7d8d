"""The rows of coming_from_pytorch.md and coming_from_jax.md, and what their names stand for."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import wengert as wg
from wengert import nn, optim


class Row(NamedTuple):
    """What one writes there, and here."""

    theirs: str
    ours: str


def rows(page: Path) -> list[Row]:
    """The rows of a page's tables, in order."""
    found = re.findall(r"^\| `(.*?)` \| `(.*?)` \|.*\|$", page.read_text(), flags=re.M)
    return [Row(*pair) for pair in found]


def arrays() -> dict[str, Any]:
    """The operands: x and y of 3 rows and 4 columns, v of 4 numbers, t of 3 classes."""
    random = np.random.default_rng(0)
    made = {k: random.standard_normal(s).astype("float32") for k, s in
            {"x": (3, 4), "y": (3, 4), "v": (4,)}.items()}  # fmt: skip
    return {**made, "t": np.array([0, 2, 1])}


def names(array: Any, **more: Any) -> dict[str, Any]:
    """The names of one side, its operands made by `array`."""
    made = {name: array(value) for name, value in arrays().items()}
    return {**made, "f": lambda v: (v**3).sum(), **more}


def ours() -> dict[str, Any]:
    """Wengert's side."""
    found = names(wg.tensor, wg=wg, nn=nn, optim=optim)
    found["v"].requires_grad_()
    return found


def value(of: Any) -> Any:
    """A result of either side as an array."""
    return np.asarray(of.detach() if hasattr(of, "detach") else of)
