"""The object that a NumPy array keeps as its base while it looks at a tensor's memory."""

from __future__ import annotations

from typing import Any


class Memory:
    """Memory under NumPy's array interface, and what keeps it alive."""

    def __init__(self, interface: dict[str, Any], owner: object) -> None:
        self.__array_interface__ = interface
        self.owner = owner
