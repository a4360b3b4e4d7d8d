"""Sequences of several lengths, padded or packed, for recurrent layers; names and results are
PyTorch's.

Packed, the elements of time 0 of all sequences come first, then those of time 1, ...: the longest
sequence is first, so the ones that go on are always the first of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ... import _core
from ..._calls import choice
from ..._core import ShapeError, Tensor
from ...losses import _lengths

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class PackedSequence(NamedTuple):
    """What pack_padded_sequence returns: data (elements, ...), how many sequences there are at each
    time (int64), and, where the longest were put first, their order and that back."""

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


def _numbers(sizes: list[int]) -> tuple[list[int], list[int]]:
    """Time and sequence of each element of a packed sequence."""
    return [t for t, n in enumerate(sizes) for _ in range(n)], [b for n in sizes for b in range(n)]


def pack_padded_sequence(
    input: Tensor,
    lengths: Tensor | Sequence[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """The first lengths[b] times of each sequence b of input (L, n, ...), or (n, L, ...).

    enforce_sorted: the lengths must not grow. Else the longest are put first here; layers and
    pad_packed_sequence put them back. ValueError for a length of zero or above L.
    """
    op = "pack_padded_sequence"
    if input.ndim < 2:
        raise ShapeError(f"{op}: input has shape {input.shape}; expected (L, n, ...)")
    x = input.swapaxes(0, 1) if batch_first else input
    found = _lengths(op, "lengths", lengths, x.shape[1], 1, x.shape[0])
    order = sorted(range(len(found)), key=lambda b: -found[b])
    if not found:
        raise ShapeError(f"{op}: the batch is empty, shape {input.shape}")
    if enforce_sorted and order != list(range(len(found))):
        raise ValueError(f"{op}: the lengths grow, {found}; sort them, or enforce_sorted=False")
    sizes = [sum(n > t for n in found) for t in range(found[order[0]])]
    times, sequences = _numbers(sizes)
    data = x[_index(times, x), _index([order[b] for b in sequences], x)]
    batch_sizes = _core.tensor(sizes)
    if enforce_sorted:
        return PackedSequence(data, batch_sizes)
    back = sorted(range(len(order)), key=order.__getitem__)
    return PackedSequence(data, batch_sizes, _index(order, x), _index(back, x))


def _index(numbers: list[int], x: Tensor) -> Tensor:
    return _core.tensor(numbers, "int64").to(x.device)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(L, n, ...), or (n, L, ...), with padding_value behind each sequence, and their lengths, on
    the CPU. total_length: L, at least that of the longest."""
    data, sizes = sequence.data, [int(n) for n in sequence.batch_sizes.tolist()]
    length = len(sizes) if total_length is None else total_length
    if length < len(sizes):
        raise ValueError(
            f"pad_packed_sequence: total_length is {length}; expected {len(sizes)} or more, the "
            "length of the longest sequence"
        )
    numbers, first = [], 0
    for t in range(length):
        n = sizes[t] if t < len(sizes) else 0
        numbers.append([*range(first, first + n), *[len(data)] * (sizes[0] - n)])
        first += n
    rows = _core.tensor(numbers, "int64").to(data.device)
    lengths = _core.tensor([sum(n > b for n in sizes) for b in range(sizes[0])])
    if sequence.unsorted_indices is not None:
        rows = rows[:, sequence.unsorted_indices]
        lengths = lengths[sequence.unsorted_indices.cpu()]
    padding = _core.full((1, *data.shape[1:]), padding_value, data.dtype, data.device)
    y = _core.concatenate([data, padding])[rows]
    return y.swapaxes(0, 1) if batch_first else y, lengths


def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Tensors (L_b, ...) as one (L, n, ...), or (n, L, ...), with padding_value behind each or, of
    padding_side "left", before it; L is the largest L_b."""
    choice("pad_sequence", "padding_side", padding_side, ("right", "left"))
    if not len(sequences):
        raise ValueError("pad_sequence: got no sequences; expected at least one")
    rest = sequences[0].shape[1:]
    for b, x in enumerate(sequences):
        if not x.ndim or x.shape[1:] != rest:
            raise ShapeError(
                f"pad_sequence: sequence {b} has shape {x.shape}; expected (L, "
                f"{', '.join(map(str, rest))}) as of the first"
            )
    length = max(len(x) for x in sequences)
    padded = []
    for x in sequences:
        more = _core.full((length - len(x), *rest), padding_value, x.dtype, x.device)
        padded.append(_core.concatenate([x, more] if padding_side == "right" else [more, x]))
    return _core.stack(padded, 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packs tensors (L_b, ...): see pack_padded_sequence. ValueError for an empty one."""
    lengths = [len(x) for x in sequences]
    for b, n in enumerate(lengths):
        if n == 0:
            raise ValueError(f"pack_sequence: sequence {b} has length 0; expected 1 or more")
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False
) -> list[Tensor]:
    """The sequences (L_b, ...) of a padded batch."""
    x = padded_sequences if batch_first else padded_sequences.swapaxes(0, 1)
    found = _lengths("unpad_sequence", "lengths", lengths, x.shape[0], 1, x.shape[1])
    return [x[b, :n] for b, n in enumerate(found)]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences (L_b, ...) of a packed batch."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))
