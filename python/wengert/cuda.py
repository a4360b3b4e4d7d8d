"""GPUs: whether there are any, their names and memory, and waiting for them.

Tensors are made on a GPU with `device="cuda"` (or "cuda:1") and moved with `Tensor.to`; ops run
where their inputs are. Work is queued: a call returns before the GPU has done it, and reading a
value waits. An error in the data of a queued op, such as an index out of range, is raised by the
next call that waits.

Each GPU has a default stream, which does its work in order; so nothing has to be ordered by hand.
Work that goes into other `Stream`s is done beside it: what they exchange must be waited for, as in
PyTorch. `Event`s mark points in a stream, to wait for, or to measure time:

    start, end = (wengert.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    y = x @ x
    end.record()
    end.synchronize()
    print(start.elapsed_time(end), "ms")

`device` arguments take a number, "cuda:1", or None for the current device, which is the one that
"cuda" means: number 0 until `set_device` or `with wengert.cuda.device(1):` says otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from . import _core, _explained
from ._core import cuda_fusion_status as fusion_status
from ._core import cuda_status as status

__all__ = [
    "Event",
    "Stream",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "empty_cache",
    "fusion_status",
    "get_device_name",
    "get_matmul_precision",
    "is_available",
    "matmul_units",
    "max_memory_allocated",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "set_device",
    "set_matmul_precision",
    "set_stream",
    "status",
    "stream",
    "synchronize",
]

Which = int | str | None


def _number(given: Which) -> int:
    if given is None or given == "cuda":
        return _core._cuda_current_device()
    if isinstance(given, int):
        return given
    kind, _, number = given.partition(":")
    if kind != "cuda" or not number.isdigit():
        raise ValueError(f'device: got "{given}"; expected a number, "cuda" or "cuda:1"')
    return int(number)


def is_available() -> bool:
    """Whether library, driver and GPU are all there; `status()` says which is not."""
    return status().startswith("ready")


def device_count() -> int:
    """How many GPUs can be used; 0 where CUDA is not available."""
    return _core._cuda_device_count() if is_available() else 0


def get_device_name(device: Which = None) -> str:
    """What the GPU calls itself."""
    return _core._cuda_device_name(_number(device))


def current_device() -> int:
    """The number of the GPU that "cuda" means on this thread."""
    return _core._cuda_current_device()


def set_device(device: Which) -> None:
    """Makes a GPU the one that "cuda" means on this thread. DeviceError if it is not there."""
    _core._cuda_set_device(_number(device))


@contextlib.contextmanager
def device(device: Which) -> Iterator[None]:
    """`with wengert.cuda.device(1):` "cuda" means that GPU inside."""
    before = current_device()
    set_device(device)
    try:
        yield
    finally:
        set_device(before)


def set_matmul_precision(precision: str) -> None:
    """How matrices of float32 are multiplied from now on; also `wengert.set_matmul_precision`.

    "strict" (at the start) multiplies float32 as it is. The others write both operands as slices
    of bfloat16 and add products of slices, on the tensor cores of a GPU, or the matrix tiles (AMX)
    of Intel's servers, Sapphire Rapids and later:

        precision  products  error on tiles  on tensor cores
        "strict"       0     3.0e-7          8.1e-7           the CPU's, and the GPU's, own float32
        "fp32"         6     1.2e-7          1.2e-7           as good as float32
        "fast"         3     4.4e-6          4.5e-6           at most 1e-5
        "bf16"         1     2.4e-3          2.4e-3           operands rounded to bfloat16

    The errors are Frobenius norms, relative to float64, of 256 x 2048 by 2048 x 256 normal
    numbers: on tiles measured; on tensor cores computed with the emulated kernels
    (csrc/gpu/tensor_core.h, whose sums are cut off as those of tensor cores are).

    Infinities and NaN are where "strict" has them. On tiles, results that are not finite, and sums
    that numbers below 2^-110 (8e-34) may decide, are made again in float32. On GPUs, of operands
    smaller than 2^-110, what is below 2^-134 is lost. Results have the same bits every time and
    for any number of threads, but not on GPUs of another kind, nor with other settings.

    Where nothing would be gained, products are strict in every setting: in other dtypes; without
    such units (`matmul_units` tells of GPUs, `wengert info` of tiles); where m * n * k is below
    2^21 or k below 64; on GPUs where m or n is below 64; on tiles where m * n / (m + n) is below
    64 ("fp32"), 32 ("fast") or 24 ("bf16"), or, with "fp32", k above 16384; in convolutions,
    recurrent layers and scaled_dot_product_attention on the CPU. Gradients keep what was set when
    their product was made; a compiled step is traced again. bfloat16 tensors use tiles in every
    setting.

    Raises ValueError for another name.

        wengert.set_matmul_precision("fast")
        y = x @ w
    """
    _core._set_matmul_precision(precision)


def get_matmul_precision() -> str:
    """What `set_matmul_precision` has set; "strict" at the start."""
    return _core._get_matmul_precision()


def matmul_units(device: Which = None) -> str | None:
    """The instructions by which `set_matmul_precision` works on this GPU.

    "wgmma" (compute capability 9.0), "mma" (8.0 and later), or None: every product is strict, since
    the GPU has no such instructions, or the library was built without code that uses them.
    """
    return _core._cuda_matmul_units(_number(device))


def synchronize(device: Which = None) -> None:
    """Waits until the GPU has done all that was queued, in all streams; raises what was wrong."""
    _core._cuda_synchronize(_number(device))


# ---- order ----


@dataclass(init=False, unsafe_hash=True)
class Stream:
    """A queue of a GPU's work, as in PyTorch: done in order, and beside that of other streams.

    Work goes into the stream that is current on the thread: `with wengert.cuda.stream(s):`. What
    one stream made, another may use once it waits for it (`wait_stream`, `wait_event`). Memory goes
    back to the stream in which it was made: a tensor that also works elsewhere needs
    `Tensor.record_stream`, or a wait the other way round before it is freed.

    `backward()` and a compiled step run in the stream that is current when they are called,
    whichever made their inputs. A GPU has 32 streams beside the default one, then they are shared;
    they have no priorities.
    """

    device: int
    """The GPU's number."""
    cuda_stream: int
    """The cudaStream_t, for other libraries."""

    def __init__(self, device: Which = None) -> None:
        """A stream of the GPU, of the current one if none is given."""
        self.device = _number(device)
        self.cuda_stream = _core._cuda_make_stream(self.device)

    @classmethod
    def _of(cls, device: int, cuda_stream: int) -> Stream:
        stream = cls.__new__(cls)
        stream.device, stream.cuda_stream = device, cuda_stream
        return stream

    def query(self) -> bool:
        """Whether all that is queued is done."""
        return _core._cuda_stream_done(self.device, self.cuda_stream, False)

    def synchronize(self) -> None:
        """Waits until all that is queued is done; raises what was found wrong."""
        _core._cuda_stream_done(self.device, self.cuda_stream, True)

    def record_event(self, event: Event | None = None) -> Event:
        """Records an event (a new one if none is given) behind what is queued now."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """What is queued from now on waits for the event, which may be another GPU's."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """What is queued from now on waits for what the other stream has now."""
        self.wait_event(stream.record_event())


def current_stream(device: Which = None) -> Stream:
    """The stream into which this thread's work on a GPU goes; the default one at the start."""
    number = _number(device)
    return Stream._of(number, _core._cuda_stream(number))


def default_stream(device: Which = None) -> Stream:
    """The stream of a GPU that is current where none was set."""
    number = _number(device)
    return Stream._of(number, _core._cuda_default_stream(number))


def set_stream(stream: Stream | None) -> None:
    """Makes a stream current on this thread, for work on its GPU. None changes nothing."""
    if stream is not None:
        _core._cuda_set_stream(stream.device, stream.cuda_stream)


@contextlib.contextmanager
def stream(stream: Stream | None) -> Iterator[None]:
    """`with wengert.cuda.stream(s):` s, and its GPU, are the current ones inside."""
    if stream is None:
        yield
        return
    before = current_stream(stream.device)
    with device(stream.device):
        set_stream(stream)
        try:
            yield
        finally:
            set_stream(before)


class Event:
    """A point in the order of a GPU's work, as in PyTorch.

    `enable_timing=True` gives it a time, for `elapsed_time`. It belongs to the GPU on which it is
    first recorded.
    """

    def __init__(self, enable_timing: bool = False) -> None:
        """An event that was not recorded yet."""
        self._event = _core._CudaEvent(enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Stands behind all that the stream (the current one, if none is given) has now."""
        stream = stream or current_stream()
        self._event.record(stream.device, stream.cuda_stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Lets what the stream (the current one, if none is given) is given from now on wait."""
        stream = stream or current_stream()
        self._event.wait(stream.device, stream.cuda_stream)

    def query(self) -> bool:
        """Whether the GPU has come to it; so it has, to one that was never recorded."""
        return self._event.done(False)

    def synchronize(self) -> None:
        """Waits until the GPU has come to it; raises what was found wrong."""
        self._event.done(True)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another.

        ValueError where either was made without a time, was not recorded, or is still to come.
        """
        return self._event.elapsed_time(end_event._event)


# ---- memory ----


def memory_allocated(device: Which = None) -> int:
    """Bytes in use by tensors on the GPU."""
    return _core._cuda_memory_allocated(_number(device))


def max_memory_allocated(device: Which = None) -> int:
    """The most bytes that were in use since the start or the last reset_peak_memory_stats()."""
    return _core._cuda_memory_peak(_number(device))


def reset_peak_memory_stats(device: Which = None) -> None:
    """Resets the peak to what is in use now."""
    _core._cuda_reset_memory_peak(_number(device))


def memory_reserved(device: Which = None) -> int:
    """Bytes taken from the GPU: those in use, and free ones that are kept to be used again."""
    number = _number(device)
    return _core._cuda_memory_allocated(number) + _core._cuda_memory_cached(number)


def empty_cache(device: Which = None) -> None:
    """Gives the free bytes back to the GPU, for other programs."""
    _core._cuda_empty_cache(_number(device))


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
