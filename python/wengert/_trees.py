"""Trees: nested lists, tuples (named ones too) and dicts of tensors and other values.

A tree is taken apart into its tensors and its form, which is hashable if the other values are, and
equal for trees of one structure. Dicts of any kind come back as plain ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ._core import Tensor


# Three kinds of tuple, told apart by their lengths.
class Place(NamedTuple):
    """Where a tensor stood: its number among all."""

    at: int


class Constant(NamedTuple):
    """Any other value; 1, 1.0 and True are different constants, and so are 0.0 and -0.0."""

    kind: Any
    value: Any


class Branch(NamedTuple):
    """A list, tuple or dict."""

    kind: type
    items: tuple[Any, ...]
    keys: tuple[Any, ...] = ()


def constant(value: Any) -> Constant:
    """The form of a value that is no tensor."""
    if type(value) is float:  # equal floats may differ in their sign, equal NaN in nothing
        value = math.nan if value != value else value
        return Constant(math.copysign(1.0, value), value)
    return Constant(type(value), value)


def flatten(tree: Any, tensors: list[Tensor], other: Callable[[Any], Any] = constant) -> Any:
    """The form of a tree; its tensors are appended to `tensors`. `other` may refuse a value."""
    if isinstance(tree, Tensor):
        tensors.append(tree)
        return Place(len(tensors) - 1)
    if isinstance(tree, dict):
        return Branch(dict, tuple(flatten(v, tensors, other) for v in tree.values()), tuple(tree))
    if isinstance(tree, (list, tuple)):
        return Branch(type(tree), tuple(flatten(v, tensors, other) for v in tree))
    return other(tree)


def unflatten(form: Any, tensors: list[Tensor]) -> Any:
    """The tree of this form with these tensors."""
    if isinstance(form, Place):
        return tensors[form.at]
    if isinstance(form, Constant):
        return form.value
    items = [unflatten(item, tensors) for item in form.items]
    if form.kind is dict:
        return dict(zip(form.keys, items, strict=True))
    return form.kind(*items) if hasattr(form.kind, "_fields") else form.kind(items)


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    tensors: list[Tensor] = []
    flatten(tree, tensors)
    return tensors


def map_tensors(fn: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The tree with fn applied to each of its tensors."""
    tensors: list[Tensor] = []
    form = flatten(tree, tensors)
    return unflatten(form, [fn(x) for x in tensors])
