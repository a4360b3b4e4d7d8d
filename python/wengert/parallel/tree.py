"""Sums over shards in one order, whoever computes them.

The tree has the shards for leaves. Node i of a level is the sum of nodes 2i and 2i + 1 of the level
below; where there is no node 2i + 1, it is node 2i. So 5 shards are ((0 + 1) + (2 + 3)) + 4.

A rank has shards one after another. It adds what its own shards allow, and sends each other rank a
slice of the nodes that are left (all_to_all); each rank ends the sum of its slice, where it stands;
all_gather puts the slices together. A rank sends as many bytes as in a ring allreduce,
2 (n - 1) / n of the buffer, where the shards of each rank make one node; else the slices of up to
2 log2 S nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """The nodes that a rank has: `add` a leaf after another."""

    def __init__(self, plus: Callable[[Any, Any], Any]) -> None:
        """plus: the sum of two nodes."""
        self.nodes: dict[Node, Any] = {}
        self.plus = plus

    def add(self, leaf: int, values: Any) -> None:
        """Its sums with nodes that are there take their place."""
        level, i = 0, leaf
        self.nodes[level, i] = values
        while i % 2 and (level, i - 1) in self.nodes:
            right, left = self.nodes.pop((level, i)), self.nodes.pop((level, i - 1))
            level, i = level + 1, i // 2
            self.nodes[level, i] = self.plus(left, right)


def held(leaves: range) -> list[Node]:
    """The nodes that are left when these leaves are added."""
    nodes = Tree(lambda left, right: None)
    for leaf in leaves:
        nodes.add(leaf, None)
    return list(nodes.nodes)


def finish(nodes: dict[Node, Any], leaves: int, plus: Callable[[Any, Any], Any]) -> Any:
    """The sum over all leaves, where all nodes are there."""
    level, width, nodes = 0, leaves, dict(nodes)
    while width > 1:
        for i in range(0, width, 2):
            both = [nodes.pop((level, j)) for j in (i, i + 1) if (level, j) in nodes]
            if both:  # one without a neighbour goes up as it is
                nodes[level + 1, i // 2] = plus(*both) if len(both) == 2 else both[0]
        level, width = level + 1, (width + 1) // 2
    return nodes[level, 0]


def allreduce(
    comm: Communicator,
    mine: Sequence[Array],
    owners: Sequence[range],
    room: Callable[[Any, tuple[int, ...], Any], Array] = lambda key, shape, dtype: np.empty(
        shape, dtype
    ),
) -> None:
    """mine[0] becomes the sum over all leaves, of which owners[r] are rank r's. mine: the nodes of
    this rank, `held(owners[rank])`, or any numbers where it has none. room: memory to receive in,
    by key, shape and dtype."""
    sizes = [len(part) for part in cut(len(mine[0]), comm.size)]
    begin = sum(sizes[: comm.rank])
    own = slice(begin, begin + sizes[comm.rank])
    place = mine[0][own]
    held_by = [held(leaves) for leaves in owners]
    nodes: dict[Node, Array] = {}
    for k in range(max(map(len, held_by))):  # a round for each node that a rank may have
        given = mine[min(k, len(mine) - 1)]  # of a rank that has none, nobody reads it
        got = room(("got", k, sizes[comm.rank]), (comm.size, sizes[comm.rank]), given.dtype)
        comm.all_to_all(given, sizes, got)
        for rank, has in enumerate(held_by):
            if k < len(has):
                ours = place if k == 0 else given[own]
                nodes[has[k]] = ours if rank == comm.rank else got[rank]

    def plus(left: Array, right: Array) -> Array:
        return np.add(left, right, out=right if right is place else left)

    total = finish(nodes, max(leaves.stop for leaves in owners), plus)
    if total is not place:
        place[...] = total
    comm.all_gather(mine[0], sizes)
