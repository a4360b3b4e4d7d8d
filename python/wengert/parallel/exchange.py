"""`Exchange`: gradients on their way between ranks, while the step goes on computing.

Each bucket of about 4 MB, those of the last layers first, is two lines of the step:
`allreduce_start` copies the gradients and hands them to a thread, which has a communicator of its
own, and `allreduce_wait` takes their sum. In a compiled step the pass `overlap`
(csrc/program/passes/overlap.cpp) moves the first up to the last of its gradients, and the second
down to what needs it.

MPI moves messages only while a thread is in a call of MPI. So the thread asks again and again, with
pauses (`MPI._poll`); for that it needs Python's lock, which a compiled step with such lines
releases while it runs.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import wengert
from wengert import _core
from wengert._guards import unrecorded

from . import tree
from .alike import flat
from .communicator import Communicator, ParallelError

if TYPE_CHECKING:
    from wengert._core import Tensor
    from wengert.study.list import WengertList

Array = npt.NDArray[Any]
Score = Callable[["Tensor", "Tensor"], float]
BUCKET = 4 << 20  # bytes


class Sent(NamedTuple):
    """A bucket of a step, and when what became of it, in seconds."""

    bytes: int
    started: float  # its allreduce_start
    begun: float  # the thread takes it up
    done: float  # its sum is there
    waits: float  # its allreduce_wait
    waited: float  # and the end of that

    @property
    def seconds(self) -> float:
        """On its way."""
        return self.done - self.begun

    @property
    def waiting(self) -> float:
        """Seconds that the step waited for it."""
        return self.waited - self.waits

    @staticmethod
    def hidden(sent: Sequence[Sent]) -> float:
        """The share of the time of communication in which the step did not wait for it."""
        busy = sum(one.seconds for one in sent)
        return max(0.0, 1 - sum(one.waiting for one in sent) / busy) if busy else 0.0


def sent_by(program: WengertList) -> list[tuple[int, int, Sent]]:
    """(line of its allreduce_start, line of its allreduce_wait, times) for each bucket in the list
    of a step; the times are those of the last step that its model has made."""
    found = []
    for exchange in _made:
        count = program.live().value_of(exchange.count)  # of each line's operands, the first
        lines = {
            (x.op, x.attributes.get("bucket")): x.number
            for x in program.lines
            if x.op.startswith("allreduce") and x.inputs[0] == count
        }
        for k, one in enumerate(exchange.sent):
            if ("allreduce_wait", k) in lines:
                both = lines["allreduce_start", k], lines["allreduce_wait", k]
                found.append((*both, one))
    return sorted(found)


class _Begun(NamedTuple):
    future: Future[tuple[float, float]]
    total: Array
    started: float


class Exchange:
    """What the steps of one model send and get."""

    def __init__(self, comm: Communicator, reduction: str) -> None:
        """All ranks make it together."""
        self.comm, self.reduction = comm, reduction
        self.count = wengert.zeros(1, dtype="int64")  # its lines edit it, so they keep their order
        self.owners: list[range] = []  # of leaves, by rank, in the step under way
        self.steps = 0  # finished ones
        self.sent: list[Sent] = []  # in the last step
        # Of the step under way, from outside: what tells its batches apart, whether to stop, and
        # how to score.
        self.key, self.stop = 0, False
        self.score: Score | None = None
        # What it has told: of each leaf and batch, loss and score; whether a rank asked to stop;
        # whether a rank has a gradient of each parameter.
        self.told, self.stops = np.zeros((0, 0, 2)), False
        self.has: list[bool] = []
        self._thread: ThreadPoolExecutor | None = None
        self._memory: dict[Any, Array] = {}
        self.renew()
        _made.add(self)

    def renew(self) -> None:
        """Begins anew with the ranks of `comm`. All of them call it."""
        if self._thread is not None:
            self._thread.submit(int).result()  # it has nothing to do
            self._thread.shutdown()
        self.size = self.comm.size
        twin = self.comm.twin()
        self._comm = self.comm if twin is None else twin  # of the jobs
        self._thread = ThreadPoolExecutor(1, "allreduce") if twin is not None else None
        self._begun: dict[int, _Begun] = {}
        self._failed: BaseException | None = None
        self._finite = True  # this rank's gradients
        self.finite: list[bool] = []  # those of each rank

    # ---- lines

    def line(
        self,
        name: str,
        formula: str,
        call: Callable[..., None],
        read: Iterable[Tensor] = (),
        edited: Sequence[Tensor] = (),
        **more: Any,
    ) -> None:
        """call(*edited, *read), in the order of all these lines."""
        operands = [self.count, *edited, *read]
        with wengert.no_grad(), unrecorded():
            _core._call_host(name, formula, call, operands, 1 + len(edited), **more)

    def compare(self, given: Iterable[Tensor], leaves: int, shards: int) -> None:
        """The line that begins a step, on these x and y, or on batches of that `key`."""
        call = partial(self._compare, leaves, shards)
        self.line("compare_batches", "raises where those of the ranks differ", call, given)

    def reduce(self, nodes: Sequence[Sequence[Tensor]]) -> None:
        """The lines by which nodes[0] become the sums over all leaves; nodes are those of this
        rank."""
        buckets = _buckets(nodes[0])
        for k, bucket in enumerate(buckets):
            size = sum(nodes[0][i].numel() * nodes[0][i].dtype.itemsize for i in bucket)
            self.line(
                "allreduce_start",
                "the operands are sent to the other ranks",
                partial(self._start, k, len(nodes)),
                [node[i] for node in nodes for i in bucket],
                begins=True,
                named=[("bucket", k), ("bytes", size)],
            )
        for k, bucket in enumerate(buckets):
            self.line(
                "allreduce_wait",
                "each operand is its sum over the ranks",
                partial(self._wait, k),
                edited=[nodes[0][i] for i in bucket],
                waits=True,
                named=[("bucket", k)],
            )

    # ---- what they do

    def _compare(self, leaves: int, shards: int, _: Tensor, *given: Tensor) -> None:
        if self._begun and self.comm.size > 1:
            raise ParallelError(
                f"rank {self.comm.rank} left a step in the midst of its exchange, which the other "
                "ranks wait for; end the job, and resume it from its last checkpoint"
            )
        self._begun, self._failed, self._finite, self.sent = {}, None, True, []
        self.owners = [
            range(min(r.start, leaves), min(r.stop, leaves))
            for r in tree.cut(shards, self.comm.size)
        ]
        mine = [float(self.stop), checksum(key_of(*given)) if given else self.key]
        step = self.steps + 1

        def job() -> None:
            head = self._gather(np.array(mine), [2] * self.comm.size).reshape(-1, 2)
            self.stops = bool(head[:, 0].any())
            if (head[:, 1:] != head[0, 1:]).any():
                rank = next(r for r, one in enumerate(head) if (one[1:] != head[0, 1:]).any())
                raise ParallelError(
                    f"step {step}: rank {rank} was given another batch than rank 0; give each rank "
                    "the whole batch, of which it takes its shards: seed shuffles equally, and "
                    "leave a DistributedSampler out"
                )

        self._submit(job)

    def _start(self, k: int, count: int, _: Tensor, *tensors: Tensor) -> None:
        started = time.perf_counter()
        each = len(tensors) // count
        nodes = []
        for n in range(count):
            given = [flat(t) for t in tensors[n * each : (n + 1) * each]]
            nodes.append(self._room((k, n), (sum(map(len, given)),), given[0].dtype))
            np.concatenate(given, out=nodes[n])
            self._finite &= is_finite(nodes[n])

        def job() -> tuple[float, float]:
            begun = time.perf_counter()
            if self.reduction == "mpi":
                for other in nodes[1:]:
                    nodes[0] += other
                self._comm.all_reduce(nodes[0])
            else:
                tree.allreduce(self._comm, nodes, self.owners, self._room)
            return begun, time.perf_counter()

        self._begun[k] = _Begun(self._submit(job), nodes[0], started)

    def _wait(self, k: int, _: Tensor, *tensors: Tensor) -> None:
        waits = time.perf_counter()
        begun = self._begun[k]
        taken, done = self._result(begun.future)
        at = 0
        for t in tensors:
            t.copy_(wengert.from_numpy(begun.total[at : at + t.numel()].reshape(t.shape)))
            at += t.numel()
        waited = time.perf_counter()
        self.sent.append(Sent(begun.total.nbytes, begun.started, taken, done, waits, waited))

    def check(self, tensors: Iterable[Tensor]) -> None:
        """Notes whether they are finite."""
        self._finite &= all(is_finite(flat(t)) for t in tensors)

    def tell(self, has: Sequence[bool], losses: Array, scores: Array) -> bool:
        """Fills `told` and `has` for all ranks; whether all numbers are finite."""
        mine = np.concatenate([[self._finite], has, losses.ravel(), scores.ravel()])
        batches = losses.shape[1]
        sizes = [1 + len(has) + 2 * batches * len(leaves) for leaves in self.owners]
        future = self._submit(lambda: self._gather(mine, sizes))
        parts = np.split(self._result(future), np.cumsum(sizes)[:-1])
        self._begun = {}  # all ranks have come so far
        numbers = [part[1 + len(has) :].reshape(2, -1, batches) for part in parts]
        self.told = np.concatenate(numbers, axis=1).transpose(1, 2, 0)
        self.has = [
            any(column) for column in zip(*(p[1 : 1 + len(has)] for p in parts), strict=True)
        ]
        self.finite = [bool(part[0]) for part in parts]  # by rank
        return all(self.finite) and bool(np.isfinite(self.told[:, :, 0]).all())

    def means(self, rows: Sequence[int], shards: int) -> list[float]:
        """The mean loss of each batch, of so many rows."""
        found = []
        for i, n in enumerate(rows):
            counts = [len(r) for r in tree.cut(n, shards)[: len(self.told)]]
            found.append(math.fsum(self.told[:, i, 0] * counts) / n)
        return found

    # ---- the thread

    def _submit(self, job: Callable[[], Any]) -> Future[Any]:
        """Has the thread do it, after all that it was given before. What one job raises, all later
        ones of the step raise."""

        def guarded() -> Any:
            if self._failed is not None:
                raise self._failed
            try:
                return job()
            except BaseException as error:
                self._failed = error
                raise

        if self._thread is not None:
            return self._thread.submit(guarded)
        done: Future[Any] = Future()
        try:
            done.set_result(guarded())
        except BaseException as error:
            done.set_exception(error)
        return done

    def _result(self, future: Future[Any]) -> Any:
        """Ctrl-C waits: for the others, this rank's part in the step has begun."""
        interrupt = None
        while True:
            try:
                result = future.result()
                break
            except KeyboardInterrupt as error:
                interrupt = error
            except Exception:
                self._begun = {}  # the step has ended, as it does on the other ranks
                raise
        if interrupt is not None:
            raise interrupt
        return result

    def _gather(self, mine: Array, sizes: Sequence[int]) -> Array:
        all_ = np.empty(sum(sizes))
        at = sum(sizes[: self.comm.rank])
        all_[at : at + len(mine)] = mine
        self._comm.all_gather(all_, sizes)
        return all_

    def _room(self, key: Any, shape: tuple[int, ...], dtype: Any) -> Array:
        """Memory that is kept from step to step."""
        found = self._memory.get(key)
        if found is None or found.shape != shape or found.dtype != dtype:
            found = self._memory[key] = np.empty(shape, dtype)
        return found


_made: weakref.WeakSet[Exchange] = weakref.WeakSet()


def _buckets(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Numbers of tensors, the last ones first, of one dtype each."""
    found: list[list[int]] = []
    size = BUCKET
    for i in reversed(range(len(tensors))):
        t = tensors[i]
        if size >= BUCKET or tensors[found[-1][0]].dtype != t.dtype:
            found.append([])
            size = 0
        found[-1].append(i)
        size += t.numel() * t.dtype.itemsize
    return found


def key_of(x: Tensor, y: Tensor) -> tuple[Any, ...]:
    """Shapes, targets, and first and last inputs: enough to tell two batches apart."""
    return (x.shape, y.shape, x.dtype.name, y.dtype.name, *map(flat, (x[:1], x[-1:], y)))


def checksum(facts: Iterable[Any]) -> int:
    """Of arrays, and of what repr() tells apart."""
    import zlib

    found = 0
    for fact in facts:
        told = fact.tobytes() if isinstance(fact, np.ndarray) else repr(fact).encode()
        found = zlib.crc32(told, found)
    return found


def is_finite(values: Array) -> bool:
    """Whether all numbers are."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values @ values)) or bool(np.isfinite(values).all())
