"""Sums over shards in one order, whoever computes them.

The tree has the shards for leaves. Node i of a level is the sum of nodes 2i and 2i + 1 of the level
below; where there is no node 2i + 1, it is node 2i. So 5 shards are ((0 + 1) + (2 + 3)) + 4.

A rank has shards one after another. It adds what its own shards allow, and sends each other rank a
slice of the nodes that are left (all_to_all); each rank ends the sum of its slice; all_gather puts
the slices together. A rank sends as many bytes as in a ring allreduce, 2 (n - 1) / n of the buffer,
where the shards of each rank make one node; else the slices of up to 2 log2 S nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .communicator import Communicator

Array = npt.NDArray[Any]
Node = tuple[int, int]  # (level, number in it)


def cut(n: int, parts: int) -> list[range]:
    """0..n-1 in `parts` pieces, one after another; the first n % parts have one more."""
    size, more = divmod(n, parts)
    begins = [i * size + min(i, more) for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(begins)]


class Tree:
    """The nodes that a rank has: `add` a leaf after another, then `reduce`."""

    def __init__(self, leaves: int) -> None:
        """Of so many leaves in all."""
        self.leaves = leaves
        self.nodes: dict[Node, Array] = {}

    def add(self, leaf: int, values: Array) -> None:
        """Takes the array over."""
        self.nodes[0, leaf] = values
        at: Node | None = (0, leaf)
        while at is not None:
            at = _join(self.nodes, at)

    def whole(self) -> Array:
        """The sum, where this rank has all leaves."""
        return _finish(self.nodes, self.leaves)


def held(leaves: range) -> list[Node]:
    """The nodes that are left when these leaves are added."""
    nodes: dict[Node, Any] = {}
    for leaf in leaves:
        nodes[0, leaf] = None
        at: Node | None = (0, leaf)
        while at is not None:
            at = _join(nodes, at)
    return list(nodes)


def _join(nodes: dict[Node, Any], at: Node) -> Node | None:
    """Adds an odd node to its left neighbour, if that is there; returns the sum's place."""
    level, i = at
    if i % 2 == 0 or (level, i - 1) not in nodes:
        return None
    left, right = nodes.pop((level, i - 1)), nodes.pop(at)
    if left is not None:
        np.add(left, right, out=left)
    nodes[level + 1, i // 2] = left
    return level + 1, i // 2


def _finish(nodes: dict[Node, Array], leaves: int) -> Array:
    level, width = 0, leaves
    nodes = dict(nodes)
    while width > 1:
        for i in range(0, width, 2):
            if i + 1 == width and (level, i) in nodes:  # no neighbour: it goes up as it is
                nodes[level + 1, i // 2] = nodes.pop((level, i))
            elif (level, i + 1) in nodes:
                _join(nodes, (level, i + 1))
        level, width = level + 1, (width + 1) // 2
    return nodes[level, 0]


def slices(n: int, size: int) -> list[slice]:
    """The part of n numbers that each rank sums."""
    return [slice(r.start, r.stop) for r in cut(n, size)]


def reduce(comm: Communicator, tree: Tree, owners: Sequence[range], n: int, dtype: Any) -> Array:
    """This rank's slice of the sum of n numbers; owners[r] are the leaves of rank r."""
    if comm.size == 1:
        return tree.whole()
    held_by = [held(leaves) for leaves in owners]
    most = max(map(len, held_by))
    parts = slices(n, comm.size)
    mine = [tree.nodes[node] for node in held_by[comm.rank]]
    nodes: dict[Node, Array] = {}
    for k in range(most):  # a round for each node that a rank may have; without one it sends zeros
        sent = [
            mine[k][part] if k < len(mine) else np.zeros(part.stop - part.start, dtype)
            for part in parts
        ]
        for rank, got in enumerate(comm.all_to_all(sent)):
            if k < len(held_by[rank]):
                nodes[held_by[rank][k]] = got
    return _finish(nodes, tree.leaves)


def gather(comm: Communicator, part: Array, n: int) -> Array:
    """The slices of all ranks, together."""
    if comm.size == 1:
        return part
    return comm.all_gather(part, [s.stop - s.start for s in slices(n, comm.size)])
