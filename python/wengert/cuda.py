"""GPUs: whether there are any, their names and memory, and waiting for them.

Tensors are made on a GPU with `device="cuda"` (or "cuda:1") and moved with `Tensor.to`; ops run
where their inputs are. Work is queued: a call returns before the GPU has done it, and reading a
value waits. An error in the data of a queued op, such as an index out of range, is raised by the
next call that waits.
"""

from __future__ import annotations

from . import _core
from ._core import cuda_status as status

__all__ = [
    "device_count",
    "device_name",
    "empty_cache",
    "is_available",
    "memory_allocated",
    "memory_cached",
    "memory_peak",
    "reset_memory_peak",
    "status",
    "synchronize",
]


def is_available() -> bool:
    """Whether library, driver and GPU are all there; `status()` says which is not."""
    return status().startswith("ready")


def device_count() -> int:
    """How many GPUs can be used; 0 where CUDA is not available."""
    return _core._cuda_device_count() if is_available() else 0


def device_name(number: int = 0) -> str:
    """What the GPU calls itself."""
    return _core._cuda_device_name(number)


def synchronize(number: int = 0) -> None:
    """Waits until the GPU has done all that was queued; raises what it found wrong."""
    _core._cuda_synchronize(number)


def memory_allocated(number: int = 0) -> int:
    """Bytes in use by tensors on the GPU."""
    return _core._cuda_memory_allocated(number)


def memory_peak(number: int = 0) -> int:
    """The most bytes that were in use since the start or the last reset_memory_peak()."""
    return _core._cuda_memory_peak(number)


def reset_memory_peak(number: int = 0) -> None:
    """Starts the peak anew from what is in use now."""
    _core._cuda_reset_memory_peak(number)


def memory_cached(number: int = 0) -> int:
    """Bytes that are free and kept for reuse."""
    return _core._cuda_memory_cached(number)


def empty_cache(number: int = 0) -> None:
    """Gives the free bytes back to the GPU, for other programs."""
    _core._cuda_empty_cache(number)
