"""Data that are not one array: the `Dataset` protocol, files larger than memory, and the workers
that prepare batches of them."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from .. import _explained
from .errors import DataError, DataNotFoundError

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]
_T = TypeVar("_T")


@runtime_checkable
class Dataset(Protocol):
    """Samples by number: `len(dataset)` of them, `dataset[i]` an input and its target, (x, y), each
    an array or a number, of one shape for all i.

        class Squares(Dataset):
            def __len__(self): return 100
            def __getitem__(self, i): return np.float32([i]), np.float32(i * i)

        for x, y in Batches(Squares(), batch_size=10, workers=2, processes=True): ...
    """

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int, /) -> Any:
        """Sample number `index`, 0 to len - 1."""


class Samples:
    """A dataset as rows of x and y, fetched when a batch asks for them."""

    def __init__(self, dataset: Dataset) -> None:
        """Looks at sample 0 for shapes and dtypes."""
        self.dataset, self.length = dataset, len(dataset)
        if not self.length:
            raise DataError("Batches: the dataset has no samples")
        x, y = self.sample(0)
        self.shape = (self.length, *x.shape)
        self.y = np.empty((0, *y.shape), y.dtype)  # its form

    def __len__(self) -> int:
        """As when this was made; DataError where the dataset has another length now."""
        if (now := len(self.dataset)) != self.length:
            raise DataError(
                f"Batches: the dataset had {self.length} samples when Batches was made, and has "
                f"{now} now; make Batches again for the new ones"
            )
        return self.length

    def sample(self, i: int, began: Callable[[int], None] | None = None) -> Pair:
        """Arrays (x, y). DataError, from what was raised, with the number of the sample."""
        if began is not None:
            began(i)
        try:
            item = self.dataset[i]
        except Exception as error:
            raise DataError(
                f"Batches: sample {i} of the dataset could not be read: {type(error).__name__}: "
                f"{error}"
            ) from error
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DataError(
                f"Batches: sample {i} of the dataset is {type(item).__name__}; expected a pair, "
                "(x, y)"
            )
        x, y = np.asarray(item[0]), np.asarray(item[1])
        for name, part in (("x", x), ("y", y)):
            if part.dtype.kind not in "iufb":
                raise DataError(
                    f"Batches: {name} of sample {i} has dtype {part.dtype}; expected numbers"
                )
        return x, y

    def rows(self, rows: Sequence[int], began: Callable[[int], None] | None = None) -> Pair:
        """These samples, stacked."""
        len(self)
        pairs = [self.sample(int(i), began) for i in rows]
        for i, pair in zip(rows, pairs, strict=True):
            for name, part, form in zip(
                "xy", pair, (self.shape[1:], self.y.shape[1:]), strict=True
            ):
                if part.shape != form:
                    raise DataError(
                        f"Batches: {name} of sample {i} has shape {part.shape}, that of sample 0 "
                        f"{form}; all must have one shape"
                    )
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])


class Shards:
    """Arrays in .npy files, one after another along their first axis, of any size: rows are read
    from the mapped files when they are asked for.

        x, y = Shards("train/x-*.npy"), Shards("train/y-*.npy")
        for x_batch, y_batch in Batches(x, y, 256, workers=2): ...

    paths: a pattern, whose files are taken in the order of their names, or a list of files. All
    have one dtype, and one shape but for their first axis.
    """

    def __init__(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        """Maps the files; reads their headers."""
        if isinstance(paths, (str, os.PathLike)):
            found = sorted(glob.glob(os.fspath(paths)))  # noqa: PTH207 - of any folder
        else:
            if strange := [path for path in paths if not isinstance(path, (str, os.PathLike))]:
                raise DataError(f"Shards: {strange[0]!r} is no path; expected a list of paths")
            found = [os.fspath(path) for path in paths]
        if not found:
            raise DataNotFoundError(f"Shards: no file matches {paths}; check the pattern")
        self.paths = [Path(path) for path in found]
        self._parts: list[Array] = []
        for path in self.paths:
            if not path.is_file():
                raise DataNotFoundError(f"Shards: no file {path}; check the path")
            try:
                part = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError, OSError) as error:
                raise DataError(f"Shards: {path} is no .npy file of numbers: {error}") from None
            first = self._parts[0] if self._parts else part
            if part.ndim < 1 or part.dtype != first.dtype or part.shape[1:] != first.shape[1:]:
                raise DataError(
                    f"Shards: {path} has {part.dtype} {part.shape}, {self.paths[0]} "
                    f"{first.dtype} {first.shape}; they may differ along the first axis alone"
                )
            self._parts.append(part)
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.shape = (int(self._ends[-1]), *self._parts[0].shape[1:])
        self.dtype, self.ndim = self._parts[0].dtype, self._parts[0].ndim

    def __len__(self) -> int:
        """Rows of all files."""
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Array:
        """These rows (a slice, numbers, one number), as an array in memory."""
        numbers = np.arange(len(self))[rows]
        flat = np.atleast_1d(numbers)
        made = np.empty((len(flat), *self.shape[1:]), self.dtype)
        shard = np.searchsorted(self._ends, flat, side="right")
        for s in np.unique(shard):
            mine = np.flatnonzero(shard == s)
            begin = self._ends[s] - len(self._parts[s])
            order = mine[np.argsort(flat[mine], kind="stable")]  # along the file
            made[order] = self._parts[s][flat[order] - begin]
        return made if np.ndim(numbers) else made[0]


# ---- workers


def in_order(
    make: Callable[[int, Callable[[int], None] | None], _T],
    batches: range,
    workers: int,
    ahead: int,
    processes: bool,
) -> Iterator[_T]:
    """make(b) for each batch, in order: `workers` threads or processes make the next `ahead` ones
    meanwhile."""
    from concurrent.futures import Executor, ThreadPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    seats: Any = None
    pool: Executor
    if processes:
        import ctypes
        import mmap
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        # A fork has the dataset already, needs no guard of the script, and starts at once. Memory
        # of the pool's own, for multiprocessing's is used again while workers of a pass that ended
        # early still write to it: the sample of each worker, and last how many have a seat.
        context = multiprocessing.get_context("fork")
        seats = (ctypes.c_int64 * (workers + 1)).from_buffer(mmap.mmap(-1, 8 * (workers + 1)))
        seats[:] = [-1] * workers + [0]
        pool = ProcessPoolExecutor(workers, context, _sit_down, (make, seats, context.Lock()))
    else:
        pool = ThreadPoolExecutor(workers)

    def submit(b: int) -> Any:
        return pool.submit(_make_here, b) if processes else pool.submit(make, b, None)

    b = batches.start
    try:
        waiting = deque(submit(b) for b in batches[:ahead])
        for i, b in enumerate(batches):  # noqa: B007 - named where a worker dies
            made = waiting.popleft().result()
            if i + ahead < len(batches):
                waiting.append(submit(batches[i + ahead]))
            yield made
    except BrokenProcessPool:
        _tell_who_died(b, sorted({int(s) for s in seats[:workers] if s >= 0}))
    finally:
        pool.shutdown(wait=not processes, cancel_futures=True)


def _tell_who_died(batch: int, samples: list[int]) -> NoReturn:
    where = f"sample{'s' * (len(samples) > 1)} {', '.join(map(str, samples[:20]))} of the dataset"
    raise DataError(
        f"Batches: a worker process died while it made batch {batch}, at "
        f"{where if samples else 'its start'} (killed, out of memory, or a crash of a library); "
        "read that sample without workers to see why, or take fewer workers"
    ) from None


_seat: tuple[Any, Any, int] | None = None  # of a worker process


def _sit_down(make: Any, seats: Any, lock: Any) -> None:
    global _seat
    import ctypes
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: none outlives a killed parent
    with lock:
        number, seats[-1] = seats[-1], seats[-1] + 1
    _seat = make, seats, number


def _make_here(b: int) -> Any:
    assert _seat is not None
    make, seats, number = _seat

    def began(i: int) -> None:
        seats[number] = i

    made = make(b, began)
    seats[number] = -1
    return made


_explained.explain_all(globals(), "Dataset", "in_order")
