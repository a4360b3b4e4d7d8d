"""Communicators: what `wengert.parallel` asks of a transport, and three that answer.

`Alone` is one rank. `MPI` speaks through mpi4py. `Threads` is a test double: ranks are threads of
one process. NumPy arrays go in and come out; sums in a fixed order are made above, in `tree.py`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

import wengert

Array = npt.NDArray[Any]
_T = TypeVar("_T")

INSTALL = 'pip install "wengert[mpi]" (mpi4py and Open MPI), or pip install mpi4py mpich'
TIMEOUT = 300.0  # seconds
# How launchers tell a process its rank, and how many there are.
_LAUNCHED = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))


class ParallelError(RuntimeError):
    """Ranks that cannot go on together; the message names the rank."""


class RankLostError(ParallelError):
    """A rank has died in the midst of a collective; see `Communicator.agree`."""


class Communicator(Protocol):
    """`size` ranks, of which this is number `rank`. Each method is a collective: all ranks call it,
    in the same order. Used from one thread only: ParallelError otherwise, before anything is sent.
    """

    rank: int
    size: int
    lost: list[int]  # ranks that were lost, by their numbers at the start

    def all_to_all(self, x: Array, sizes: Sequence[int], got: Array) -> None:
        """Sends each other rank its part of x, the next sizes[r] numbers for rank r; got[r] is then
        what rank r has sent to this one. This rank's own part is not copied."""
        ...

    def all_gather(self, x: Array, sizes: Sequence[int]) -> None:
        """x has the parts of all ranks, end to end, sizes[r] numbers of rank r; each rank brings
        its own one, and gets the others'."""
        ...

    def all_reduce(self, x: Array) -> None:
        """Replaces x by its sum over the ranks, in the order that the transport finds fastest."""
        ...

    def share(self, value: Any) -> list[Any]:
        """The objects of all ranks, by rank; each is pickled."""
        ...

    def agree(self, good: bool) -> bool:
        """Whether all ranks say that the step before was good. If not, since a rank was lost, rank
        and size are those of the ranks that are left, afterwards."""
        ...

    def abort(self, message: str) -> None:
        """Ends all ranks, with this message."""
        ...

    def twin(self) -> Communicator | None:
        """The same ranks, for another thread. None: there can be only one."""
        ...


class Alone:
    """One rank: nothing is sent."""

    rank, size = 0, 1

    def __init__(self) -> None:
        """None is lost."""
        self.lost: list[int] = []

    def all_to_all(self, x: Array, sizes: Sequence[int], got: Array) -> None:
        """There are no others."""

    def all_gather(self, x: Array, sizes: Sequence[int]) -> None:
        """x is whole."""

    def all_reduce(self, x: Array) -> None:
        """x is the sum."""

    def share(self, value: Any) -> list[Any]:
        """Its own value."""
        return [value]

    def agree(self, good: bool) -> bool:
        """As it says."""
        return good

    def abort(self, message: str) -> None:
        """Ends the process."""
        raise SystemExit(message)

    def twin(self) -> None:
        """Nothing is sent, so nothing goes on meanwhile."""


class _OneThread:
    """Refuses threads other than the first one that uses it."""

    rank: int
    _owner: int | None = None

    def _enter(self, op: str) -> None:
        here = threading.get_ident()
        if self._owner is None:
            self._owner = here
        if self._owner != here:
            raise ParallelError(
                f"{op}: rank {self.rank}'s communicator belongs to another thread; call it from "
                "that one alone. Nothing was sent"
            )


class MPI(_OneThread):
    """Ranks of MPI, by mpi4py: `mpiexec -n 4 python script.py`.

    comm     an mpi4py communicator, of which a duplicate is used (MPI.COMM_WORLD)
    timeout  seconds after which a collective that does not end is a ParallelError: a rank has died,
             hangs, or cannot be reached (300, or WENGERT_PARALLEL_TIMEOUT)

    ImportError, with the line that installs it, where mpi4py or a library of MPI is missing.
    """

    # Of this process:
    _cut_off = False  # a rank cannot be reached
    _lost: MPI | None = None  # a rank was lost; the communicator of those that are left

    def __init__(self, comm: Any = None, timeout: float | None = None) -> None:
        """See the class. It belongs to the thread that makes it."""
        self._mpi = _import_mpi()
        self._comm = (comm or self._mpi.COMM_WORLD).Dup()
        self.rank, self.size = int(self._comm.rank), int(self._comm.size)
        if timeout is None:
            timeout = float(os.environ.get("WENGERT_PARALLEL_TIMEOUT", TIMEOUT))
        self.timeout = timeout
        self._owner = threading.get_ident()
        self.lost: list[int] = []
        self._left = list(range(self.size))  # by their numbers at the start
        # Open MPI says so to the ranks of mpiexec --with-ft ulfm.
        self._recovers = os.environ.get("OMPI_MCA_mpi_ft_enable") == "1"  # noqa: SIM112

    def all_to_all(self, x: Array, sizes: Sequence[int], got: Array) -> None:
        """See `Communicator`."""
        self._enter("all_to_all")
        given, taken = list(sizes), [got.shape[1]] * self.size
        at, to = _starts(given), _starts(taken)
        given[self.rank] = taken[self.rank] = 0
        self._wait("all_to_all", "Ialltoallv", [x, (given, at)], [got, (taken, to)])

    def all_gather(self, x: Array, sizes: Sequence[int]) -> None:
        """See `Communicator`."""
        self._enter("all_gather")
        self._wait("all_gather", "Iallgatherv", self._mpi.IN_PLACE, [x, list(sizes)])

    def all_reduce(self, x: Array) -> None:
        """See `Communicator`."""
        self._enter("all_reduce")
        self._wait("all_reduce", "Iallreduce", self._mpi.IN_PLACE, x)

    def share(self, value: Any) -> list[Any]:
        """See `Communicator`."""
        import pickle

        self._enter("share")
        packed = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.zeros(self.size, np.int64)
        mine = np.array([len(packed)])
        self._wait("share", "Iallgather", mine, sizes)
        all_ = np.empty(int(sizes.sum()), np.uint8)
        ends = np.cumsum(sizes).tolist()
        all_[ends[self.rank] - len(packed) : ends[self.rank]] = packed
        self.all_gather(all_, sizes.tolist())
        return [
            pickle.loads(all_[end - size : end].tobytes())
            for end, size in zip(ends, sizes.tolist(), strict=True)
        ]

    def agree(self, good: bool) -> bool:
        """See `Communicator`. With `mpiexec --with-ft ulfm` alone are ranks left after a loss."""
        if not self._recovers:
            return good
        try:
            agreed = bool(self._comm.Agree(int(good)))
        except self._mpi.Exception:
            agreed = False
        if not agreed:
            MPI._lost = self
            self._comm.Revoke()
            former, self._comm = self._comm, self._comm.Shrink()
            self.rank, self.size = self._comm.rank, self._comm.size
            at = self._comm.group.Translate_ranks(None, former.group)
            left = [self._left[i] for i in at]
            self.lost, self._left = self.lost + [r for r in self._left if r not in left], left
            print(
                f"rank {former.rank} goes on as rank {self.rank} of {self.size}: of those at the "
                f"start, {numbered(self.lost)} lost, and the step is repeated",
                file=sys.stderr,
                flush=True,
            )
        return agreed

    def abort(self, message: str) -> None:
        """See `Communicator`."""
        print(f"rank {self.rank}: {message}", file=sys.stderr, flush=True)
        if self.lost:
            time.sleep(self.rank)  # asked by two at once after a loss, Open MPI's launcher may hang
        if self._cut_off:
            _end_launcher()
        self._comm.Abort(1)

    def twin(self) -> MPI | None:
        """See `Communicator`. None where MPI was started for one thread."""
        if self._mpi.Query_thread() < self._mpi.THREAD_MULTIPLE:
            return None
        twin = MPI(self._comm, self.timeout)
        twin._owner = None
        return twin

    def _wait(self, op: str, name: str, *buffers: Any) -> None:
        """Calls MPI's `name`, and waits until it is done."""
        try:
            self._poll(op, getattr(self._comm, name)(*buffers))
        except self._mpi.Exception as error:
            if not self._recovers:
                raise
            with suppress(self._mpi.Exception):
                self._comm.Revoke()  # those that wait for this rank are told
            raise RankLostError(f"{op}: rank {self.rank} of {self.size}: {error}") from None

    def _poll(self, op: str, request: Any) -> None:
        """Until it is done. MPI moves a message only while it is called. In between, the core is
        left to others, such as this rank's own computation: for a fiftieth of what was waited."""
        began = time.monotonic()
        while not request.Test():
            spent = time.monotonic() - began
            if spent > self.timeout:
                MPI._cut_off = True
                raise ParallelError(
                    f"{op}: rank {self.rank} of {self.size} has waited for {self.timeout:g} s: "
                    "another rank has died, hangs, or cannot be reached"
                )
            if spent > 1e-3:
                time.sleep(min(spent / 50, 1e-3))


class _Meeting:
    """Where the ranks of `Threads` meet."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.table: list[Any] = [None] * size


class Threads(_OneThread):
    """A test double: `Threads.run(4, fn)` calls fn(communicator) in four threads, the ranks.

    The threads share the process, and so its global generator: no dropout.
    """

    def __init__(self, rank: int, meeting: _Meeting) -> None:
        """By `run`."""
        self.rank, self.size, self._meeting = rank, len(meeting.table), meeting
        self.lost: list[int] = []

    @staticmethod
    def run(size: int, fn: Callable[[Threads], _T], timeout: float = 60.0) -> list[_T]:
        """fn's results, by rank. Where a rank raises, its error, and all others end."""
        meeting = _Meeting(size)
        results: list[Any] = [None] * size
        errors: list[tuple[int, BaseException]] = []

        def work(rank: int) -> None:
            try:
                results[rank] = fn(Threads(rank, meeting))
            except BaseException as error:
                errors.append((rank, error))
                meeting.barrier.abort()

        threads = [threading.Thread(target=work, args=(r,), daemon=True) for r in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout)
        if errors:
            rank, error = errors[0]
            error.add_note(f"raised by rank {rank} of {size}")
            raise error
        if any(thread.is_alive() for thread in threads):
            meeting.barrier.abort()
            raise ParallelError(f"Threads.run: a rank did not end within {timeout:g} s")
        return results

    def share(self, value: Any) -> list[Any]:
        """See `Communicator`."""
        self._enter("share")
        try:
            self._meeting.table[self.rank] = value
            self._meeting.barrier.wait()
            found = list(self._meeting.table)
            self._meeting.barrier.wait()
        except threading.BrokenBarrierError:
            raise ParallelError(f"rank {self.rank}: another rank has ended") from None
        return found

    def all_to_all(self, x: Array, sizes: Sequence[int], got: Array) -> None:
        """See `Communicator`."""
        at = _starts(sizes)[self.rank]
        for r, sent in enumerate(self.share(x.copy())):
            got[r] = sent[at : at + sizes[self.rank]]

    def all_gather(self, x: Array, sizes: Sequence[int]) -> None:
        """See `Communicator`."""
        for at, size, sent in zip(_starts(sizes), sizes, self.share(x.copy()), strict=True):
            x[at : at + size] = sent[at : at + size]

    def all_reduce(self, x: Array) -> None:
        """See `Communicator`."""
        x[...] = sum(self.share(x.copy()))

    def agree(self, good: bool) -> bool:
        """As it says: threads do not die alone."""
        return good

    def abort(self, message: str) -> None:
        """See `Communicator`."""
        self._meeting.barrier.abort()
        raise ParallelError(f"rank {self.rank}: {message}")

    def twin(self) -> Threads:
        """See `Communicator`."""
        return Threads(self.rank, self.share(_Meeting(self.size))[0])


def numbered(ranks: Sequence[int]) -> str:
    """As "rank 2 was", or "ranks 1, 3 were"."""
    rank, was = ("ranks", "were") if len(ranks) > 1 else ("rank", "was")
    return f"{rank} {', '.join(map(str, ranks))} {was}"


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each part begins."""
    return [0, *accumulate(sizes)][:-1]


def repeated(comm: Communicator, fn: Callable[[], _T]) -> _T:
    """fn(), which calls collectives, and again by the ranks that are left where one was lost in the
    midst of it. So it changes nothing that it reads.

    >>> from wengert import parallel
    >>> parallel.repeated(parallel.Alone(), lambda: 3)
    3
    """
    while True:
        try:
            result, good = fn(), True
        except RankLostError:
            good = False
        if comm.agree(good):
            return result


def launched() -> tuple[int, int]:
    """(rank, ranks) as mpiexec told this process; (0, 1) without it. Loads nothing."""
    for rank, size in _LAUNCHED:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


_world: Communicator | None = None


def world() -> Communicator:
    """All ranks that mpiexec has started; `Alone` in a process that it has not. Made once.

    On first use with several ranks: this process takes its share of the host's cores as threads
    (see `threads_per_rank`), unless WENGERT_THREADS says how many; and an error that ends one rank
    ends all of them, so that none waits for ever.
    """
    global _world
    if _world is None:
        if "SLURM_PROCID" not in os.environ and launched()[1] == 1:
            _world = Alone()
        else:
            comm = MPI()
            if comm.size != launched()[1] and launched()[1] > 1:
                raise ParallelError(
                    f"mpiexec has started {launched()[1]} processes, and mpi4py's library sees "
                    f"{comm.size}: they are of different MPIs; start with {mpiexec()}"
                )
            _world = comm
            if comm.size > 1:
                if "WENGERT_THREADS" not in os.environ:
                    wengert.set_num_threads(threads_per_rank(comm))
                _end_together(comm)
    return _world


def threads_per_rank(comm: Communicator) -> int:
    """Cores that this rank has to itself: those that the launcher has bound it to, or, where ranks
    share them, cores / ranks of this host; at least 1."""
    import socket

    mine = (socket.gethostname(), sorted(os.sched_getaffinity(0)))
    others = [set(cores) for host, cores in comm.share(mine) if host == mine[0]]
    together = set().union(*others)
    if sum(map(len, others)) == len(together):  # each has its own
        return len(mine[1])
    return max(1, len(together) // len(others))


def mpiexec() -> str:
    """The launcher's path: that of this environment, or of PATH. FileNotFoundError, with the line
    that installs one, where there is none."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise FileNotFoundError(f"there is no mpiexec: {INSTALL}")
    return found


def _import_mpi() -> Any:
    """mpi4py's module. MPI ends with the process by `_finalize`, not by mpi4py."""
    try:
        import mpi4py

        mpi4py.rc.finalize = False
        from mpi4py import MPI as mpi  # noqa: N811
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportError(f"wengert.parallel needs MPI: {INSTALL} ({reason})") from None
    atexit.unregister(_finalize)
    atexit.register(_finalize, mpi)
    return mpi


def _end_together(comm: MPI) -> None:
    """An exception that ends this process ends all ranks; else they would wait for it."""
    former = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        former(kind, error, trace)
        comm.abort(f"ended by {kind.__name__}; so end all ranks")

    sys.excepthook = hook


def _end_launcher() -> None:
    """Ends Open MPI's launcher of this rank in 5 seconds, as Ctrl-C given twice does: it would wait
    a quarter of an hour for a machine that it cannot reach, whatever its oob_tcp_keepalive options
    say: what it has sent there is unanswered, and TCP counts those retries instead."""
    import subprocess

    parent = os.getppid()
    ask = f"grep -q prte /proc/{parent}/comm && kill {parent}"
    command = ["sh", "-c", f"sleep 5; {ask} && sleep 1 && {ask} && sleep 1 && {ask}"]
    none = subprocess.DEVNULL
    subprocess.Popen(command, start_new_session=True, stdin=none, stdout=none, stderr=none)


def _finalize(mpi: Any) -> None:
    """Ends MPI, as the process ends. After a loss MPI_Finalize may hang, as it waits for the lost
    rank: it is skipped, and the remaining ranks wait for each other here."""
    comm = MPI._lost
    if comm is None:
        if not mpi.Is_finalized():
            mpi.Finalize()
        return
    with suppress(Exception):
        comm.share(None)  # none leaves while another needs it
