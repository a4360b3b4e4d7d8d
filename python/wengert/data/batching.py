"""From arrays to the batches a training loop eats: split, standardise, shuffle, cut.

NumPy arrays come in and stay NumPy arrays; a batch becomes two tensors when the loop asks for it.
The order of epoch e is a function of (seed, e) alone: nothing has to be remembered to repeat it,
and a run that is resumed in the middle of an epoch sees the same batches as one that never stopped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _explained
from .dataset import Dataset, Samples, Shards, in_order
from .errors import DataError
from .frames import Encoders, is_table, load_frame
from .images import Change, ImageFolder, augmented

if TYPE_CHECKING:
    from wengert._core import Tensor

Array = npt.NDArray[Any]
# x to x, or, by a parameter called `generator`, x and its batch's random numbers to x.
Transform = Callable[..., Array]
Parts = dict[int, tuple[Array, Array]]  # shards of a batch


def shuffled(n: int, seed: int, stream: int = 0) -> npt.NDArray[np.int64]:
    """A permutation of 0..n-1 that depends on (n, seed, stream) and on nothing else.

    Sorting raw PCG64 words, and not Generator.permutation: NumPy promises the former's stream for
    ever, and leaves itself free to change the latter.
    """
    words = np.random.PCG64([seed, stream]).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)


class ShardedBatch(NamedTuple):
    """A batch in `shards` parts: part(s) is the s-th, tensors (x, y). Where the rows do not divide,
    the first parts have one more. See `Batches.sharded`.
    """

    shards: int
    rows: int  # of all parts
    key: tuple[Any, ...]  # tells batches apart; arrays are among it
    part: Callable[[int], tuple[Tensor, Tensor]]


class Batches:
    """One epoch of batches at each `for`, in a seeded order that differs from epoch to epoch.

        data = Batches(x, y, batch_size=32, seed=0)
        for epoch in range(10):
            for x_batch, y_batch in data:       # tensors
                ...

    x: (n, ...) becomes a tensor of `dtype`, batch by batch, after `transform` (NumPy to NumPy);
       an ImageFolder or Shards, too, which read then; a frame of pandas or Polars, an Arrow table,
       a Hugging Face dataset or a dict of columns, with y the name of its target; or a `Dataset`,
       or a list of pairs, which gives (x, y) sample by sample, without y.
    y: (n, ...) whole numbers become int64, other numbers `dtype`.
    transform: one with a parameter `generator` also gets a numpy.random.Generator, which depends on
       seed, epoch and batch alone; None where data are evaluated, not trained on.
    encoders: of a frame's columns of text or with missing cells, as `load_frame` takes them.
    augment: changes such as RandomCrop(28, padding=2), done in order before `transform`; what they
       draw depends on seed, epoch and batch alone.
    workers: so many threads, or with processes=True processes, prepare `prefetch` batches each
       meanwhile. The batches are the same for any number of them.
    A finished pass moves `epoch` on by one; a pass left early (break) is begun again by the next
    `for`. `state_dict` and `load_state_dict` carry epoch and batch, to go on in mid-epoch.

    Each `for`, iter() or zip argument is a pass of its own, over the epoch at which this object
    stands when the pass is made; so zip(data, data) gives each batch beside itself, and a loop in a
    loop has the order of the outer one. `epoch` and `batch` are the place of the pass that moved
    last. load_state_dict sets the place at which passes begin until one of them has given a batch;
    passes that were made before no longer move it.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        *,
        dtype: str = "float32",
        transform: Transform | None = None,
        augment: Sequence[Change] = (),
        workers: int = 0,
        processes: bool = False,
        prefetch: int = 2,
        encoders: Encoders | None = None,
    ) -> None:
        """See the class. Nothing is copied or shuffled until a `for` begins."""
        if isinstance(y, int):  # Batches(dataset, 32)
            y, batch_size = None, y
        self.classes: list[str] | None = None  # of a frame's target
        if encoders and not is_table(x):
            raise DataError(f"Batches: encoders are of columns, and x is {type(x).__name__}")
        if is_table(x):
            x, y, self.classes = _of_frame(x, y, encoders)
        elif y is None:
            x, y = _of_dataset(x)
        if not isinstance(x, (ImageFolder, Shards, Samples)):
            x = np.asarray(x)
        y = y if isinstance(y, Shards) else np.asarray(y)
        for name, part in (("x", x), ("y", y)):
            if isinstance(part, np.ndarray) and part.dtype.kind not in "iubf":
                raise DataError(
                    f"Batches: {name} has dtype {part.dtype}; expected numbers (text: load_frame "
                    "and load_csv encode columns)"
                )
        by_sample = isinstance(x, Samples)
        if not x.shape or (not by_sample and (y.ndim == 0 or len(x) != len(y))):
            raise DataError(
                f"Batches: x {x.shape} and y {y.shape} differ in length; "
                "both need one entry per sample along their first axis"
            )
        if batch_size < 1:
            raise DataError(f"Batches: batch_size is {batch_size}; it must be at least 1")
        if workers < 0 or prefetch < 1 or not all(map(callable, augment)):
            raise DataError(
                f"Batches: workers is {workers}, prefetch {prefetch} and augment {augment!r}; "
                "expected 0 or more workers, 1 or more batches and a list of changes"
            )
        if seed < 0 or epoch < 0:
            raise DataError(f"Batches: seed {seed} and epoch {epoch} must not be negative")
        self.x, self.y = x, y
        self.batch_size, self.shuffle, self.seed, self.drop_last = (
            batch_size,
            shuffle,
            seed,
            drop_last,
        )
        self.dtype, self.transform = dtype, transform
        self.augment, self.workers = list(augment), workers
        self.processes, self.prefetch = processes, prefetch
        self.epoch = epoch
        self.batch = 0  # batches already given out in this epoch
        self._resume_at = 0
        self._loaded = 0  # calls of load_state_dict

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = len(self.x)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    @property
    def samples(self) -> int:
        """Samples in an epoch."""
        n = len(self.x)
        return n - n % self.batch_size if self.drop_last else n

    def indices(self, epoch: int | None = None) -> npt.NDArray[np.int64]:
        """The order in which an epoch (the current one) takes the samples."""
        n = len(self.x)
        if not self.shuffle:
            return np.arange(n, dtype=np.int64)
        return shuffled(n, self.seed, self.epoch if epoch is None else epoch)

    def take(self, rows: Array | slice) -> tuple[Tensor, Tensor]:
        """The tensors of these rows, without what `augment` does."""
        return to_tensors(*self.rows(rows), self.dtype, self.transform)

    def rows(self, rows: Any, began: Callable[[int], None] | None = None) -> tuple[Array, Array]:
        """The arrays (x, y) of these samples, as they are in the source. `began` is told each
        sample of a Dataset before it is read."""
        if isinstance(self.x, Samples):
            return self.x.rows(np.arange(len(self.x))[rows], began)
        return self.x[rows], self.y[rows]

    def _prepare(
        self,
        epoch: int,
        order: Array,
        shards: int,
        mine: Iterable[int],
        batch: int,
        began: Callable[[int], None] | None = None,
    ) -> Parts:
        """The arrays of some shards of a batch. What they draw depends on the shard as well, where
        there are several."""
        rows = self._rows_of(order, batch)
        cut = [rows] if shards == 1 else np.array_split(rows, shards)
        made = {}
        for s in mine:
            if not len(cut[s]):
                continue
            which = (2, s) if shards > 1 else ()
            x, y = self.rows(cut[s], began)
            x, y = augmented(x, y, self.augment, (self.seed, epoch, batch, *which))
            generator = np.random.Generator(np.random.PCG64([self.seed, epoch, batch, 1, *which]))
            made[s] = to_arrays(x, y, self.dtype, self.transform, generator)
        return made

    def _rows_of(self, order: Array, batch: int) -> Array:
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the current epoch, from its beginning or from where it was resumed."""
        return (batch.part(0) for batch in self.sharded(1, [0]))

    def sharded(self, shards: int, mine: Iterable[int]) -> Iterator[ShardedBatch]:
        """As iter(), each batch in so many parts, of which `mine` are prepared: other rows are
        neither read nor changed. What `augment` and `transform` draw depends on the shard, too, so
        that it is the same whoever prepares it.

        >>> from wengert.data import Batches
        >>> (batch,) = Batches(np.eye(5), np.arange(5), 5, shuffle=False).sharded(2, [1])
        >>> batch.rows, batch.part(1)[1].tolist()
        (5, [3, 4])
        """
        return self._pass(shards, list(mine), self.epoch, self._resume_at, self._loaded)

    def _pass(
        self, shards: int, mine: list[int], epoch: int, batch: int, loaded: int
    ) -> Iterator[ShardedBatch]:
        import wengert

        order, rest = self.indices(epoch), range(batch, len(self))
        by_sample = isinstance(self.x, Samples)
        prepare = partial(self._prepare, epoch, order, shards)
        make = partial(prepare, mine)
        made: Iterator[Parts] = (make(b) for b in rest)
        if self.workers:
            ahead = self.workers * self.prefetch
            made = in_order(make, rest, self.workers, ahead, self.processes)

        def part(parts: Parts, b: int, s: int) -> tuple[Tensor, Tensor]:
            x, y = parts[s] if s in parts else prepare([s], b)[s]  # of a rank that was lost
            return wengert.from_numpy(x), wengert.from_numpy(y)

        for b, parts in zip(rest, made, strict=True):
            self._move(epoch, b + 1, loaded)
            rows = self._rows_of(order, b)
            key: tuple[Any, ...] = (self.x.shape, self.seed, epoch, rows)
            if shards > 1 and not by_sample and self.y.ndim == 1:
                key += (np.asarray(self.y[rows]),)
            yield ShardedBatch(shards, len(rows), key, partial(part, parts, b))
        self._move(epoch + 1, 0, loaded)

    def _move(self, epoch: int, batch: int, loaded: int) -> None:
        if loaded == self._loaded:
            self.epoch, self.batch, self._resume_at = epoch, batch, 0

    def state_dict(self) -> dict[str, int]:
        """Where the pass stands: the epoch, and how many of its batches were given out."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next `for` begin at this epoch and batch."""
        epoch, batch = int(state["epoch"]), int(state["batch"])
        if epoch < 0 or not 0 <= batch <= len(self):
            raise DataError(
                f"Batches: no batch {batch} of {len(self)} in epoch {epoch} to resume at"
            )
        self.epoch, self.batch, self._resume_at = epoch, batch, batch
        self._loaded += 1


def _of_frame(
    frame: Any, y: Any, encoders: Encoders | None
) -> tuple[Array, Array, list[str] | None]:
    """(x, y, classes)"""
    if y is None:
        raise DataError(
            f"Batches: x is a table ({type(frame).__name__}) and y None; give the name of its "
            'target column: Batches(frame, "price", 32)'
        )
    if isinstance(y, str):
        table = load_frame(frame, y, encoders=encoders)
        return table.x, table.y, table.classes
    return load_frame(frame, encoders=encoders).x, y, None


def _of_dataset(x: Any) -> tuple[Samples, Array]:
    if isinstance(x, (np.ndarray, ImageFolder, Shards)) or not isinstance(x, Dataset):
        raise DataError(
            f"Batches: x is {type(x).__name__} and y None; without y, x is a Dataset: len(x) and "
            "x[i], which gives (input, target)"
        )
    samples = Samples(x)
    return samples, samples.y


def to_tensors(
    x: Array, y: Array, dtype: str = "float32", transform: Transform | None = None
) -> tuple[Tensor, Tensor]:
    """x as a tensor of `dtype`; y as int64 where it holds whole numbers, else of `dtype`.

    DataError for a number that would become infinite in `dtype`.
    """
    import wengert

    x, y = to_arrays(x, y, dtype, transform)
    return wengert.from_numpy(x), wengert.from_numpy(y)


def to_arrays(
    x: Array,
    y: Array,
    dtype: str,
    transform: Transform | None,
    generator: np.random.Generator | None = None,
) -> tuple[Array, Array]:
    """What to_tensors makes tensors of; `generator` is for a transform that takes one."""
    if transform is not None:
        more = {"generator": generator} if _takes_generator(transform) else {}
        x = transform(x, **more)
    y_dtype = np.dtype(np.int64) if y.dtype.kind in "iub" else np.dtype(dtype)
    return _converted("x", x, np.dtype(dtype)), _converted("y", y, y_dtype)


def _takes_generator(transform: Transform) -> bool:
    try:
        return "generator" in inspect.signature(transform).parameters
    except (TypeError, ValueError):  # of a function of C
        return False


def _converted(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(array, dtype=dtype)
    except FloatingPointError:
        largest = np.abs(array).max()
        raise DataError(
            f"{name} holds numbers up to {largest:g}, which {dtype} does not; scale them (a "
            "Standardizer fitted to data of that size does), leave out such rows, or use "
            "dtype='float64'"
        ) from None


class Split(NamedTuple):
    """Samples to learn from, and samples kept back."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


def split_indices(
    y: Array, fraction: float = 0.2, seed: int = 0, stratify: bool | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(train, test): row numbers in ascending order, a seeded `fraction` of them for the test.

    stratify: take that fraction of every class (None: where y is a vector of whole numbers), so
    that a rare class is in both parts.
    """
    y = np.asarray(y)
    if not 0.0 < fraction < 1.0:
        raise DataError(f"split: fraction is {fraction}; it must lie between 0 and 1, such as 0.2")
    if len(y) < 2:
        raise DataError(f"split: {len(y)} samples cannot be split; two or more are needed")
    if stratify is None:
        stratify = y.ndim == 1 and y.dtype.kind in "iub"
    order = shuffled(len(y), seed)
    test = np.zeros(len(y), dtype=bool)
    if stratify:
        for label in np.unique(y):
            members = order[y[order] == label]
            test[members[: round(fraction * len(members))]] = True
    if not test.any() or test.all():  # not asked to stratify, or every class is tiny
        test[:] = False
        test[order[: min(max(round(fraction * len(y)), 1), len(y) - 1)]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def split(
    x: Array, y: Array, fraction: float = 0.2, seed: int = 0, stratify: bool | None = None
) -> Split:
    """Keep a seeded `fraction` of the samples back for the test; see `split_indices`."""
    x, y = np.asarray(x), np.asarray(y)
    if len(x) != len(y):
        raise DataError(f"split: x {x.shape} and y {y.shape} differ in length")
    train, test = split_indices(y, fraction, seed, stratify)
    return Split(x[train], y[train], x[test], y[test])


class Standardizer:
    """x -> (x - mean) / scale, with mean and scale learned from the training samples only.

        standardize = Standardizer.fit(x_train)
        x_train, x_test = standardize(x_train), standardize(x_test)

    A feature that never varies gets scale 1: it becomes 0 and stays finite. Features may be as
    large or as small as float64 goes: what is squared and summed is first brought near 1.
    """

    def __init__(self, mean: Any, scale: Any) -> None:
        """Numbers, or an entry per feature."""
        self.mean = np.asarray(mean, dtype=np.float64)
        self.scale = np.asarray(scale, dtype=np.float64)

    @classmethod
    def fit(cls, x_train: Array, per_feature: bool = True) -> Standardizer:
        """Measure each feature (per_feature=False: all pixels together, as for images)."""
        x = np.asarray(x_train)
        if x.size == 0:
            raise DataError(f"Standardizer.fit: x of shape {x.shape} holds nothing to measure")
        axis = 0 if per_feature else None
        lowest, highest = (np.asarray(f(axis=axis), dtype=np.float64) for f in (x.min, x.max))
        # Features that are tiny or huge are measured in units of a power of two, which is exact.
        unit = np.frexp(np.maximum(np.abs(lowest), np.abs(highest)))[1]
        unit = np.where(np.abs(unit) > 400, unit, 0)

        def part(s: slice) -> Array:
            return np.ldexp(x[s].astype(np.float64), -unit) if unit.any() else x[s]

        # Two passes over slices: a float64 copy of all of a big uint8 data set is never made.
        slices = [slice(i, i + 4096) for i in range(0, len(x), 4096)]
        count = len(x) if per_feature else x.size
        mean = sum(np.sum(part(s), axis=axis, dtype=np.float64) for s in slices) / count
        spread = sum(np.sum((part(s) - mean) ** 2, axis=axis, dtype=np.float64) for s in slices)
        scale = np.maximum(np.ldexp(np.sqrt(spread / count), unit), 5e-324)
        constant = lowest == highest  # exactly; its deviation above is rounding noise
        mean = np.where(constant, lowest, np.ldexp(mean, unit))
        return cls(mean, np.where(constant, 1.0, scale))

    def __call__(self, x: Array) -> Array:
        """Standardised values, float64."""
        x = np.asarray(x, dtype=np.float64)
        with np.errstate(over="ignore"):
            y = (x - self.mean) / self.scale
            if np.isfinite(y).all():
                return y
            half = (x / 2 - self.mean / 2) / self.scale  # x - mean may have been too large
            return np.where(np.isfinite(y), y, half * 2)

    def inverse(self, x: Array) -> Array:
        """Back to the units that came in."""
        x = np.asarray(x, dtype=np.float64)
        with np.errstate(over="ignore"):
            y = x * self.scale + self.mean
            if np.isfinite(y).all():
                return y
            half = x * (self.scale / 2) + self.mean / 2
            return np.where(np.isfinite(y), y, half * 2)

    def state_dict(self) -> dict[str, Any]:
        """Plain lists, for a checkpoint's JSON."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}


_explained.explain_all(globals())
