"""Training over many processes and machines, on MPI: `mpiexec -n 4 python script.py`.

    from wengert import parallel

    model = parallel.DataParallel(model, shards=4)
    for batch in model.batches(batches):                   # each rank prepares its own shards
        optimizer.zero_grad()
        loss = model.backward(wengert.cross_entropy, batch)
        optimizer.step()

A step is the sum over `shards` parts of its batch, added in a fixed tree, whoever computes them:
for given shards, any number of ranks has the same bits. `ZeroRedundancyOptimizer` keeps a part
of the optimizer's state on each rank. `train.fit` takes both; `wengert train` has `--shards`.

MPI, its launcher and its collectives are those of mpi4py: pip install "wengert[mpi]", with Open MPI
from PyPI; MPICH does as well. It is loaded when `world()` is first asked for, under mpiexec only.
"""

from __future__ import annotations

from .. import _explained
from .alike import require_alike
from .communicator import (
    MPI,
    Alone,
    Communicator,
    ParallelError,
    RankLostError,
    Threads,
    launched,
    mpiexec,
    repeated,
    threads_per_rank,
    world,
)
from .data_parallel import DataParallel, NotFiniteError, Sums, spread
from .exchange import Sent
from .tree import cut
from .zero import ZeroRedundancyOptimizer

__all__ = [
    "MPI",
    "Alone",
    "Communicator",
    "DataParallel",
    "NotFiniteError",
    "ParallelError",
    "RankLostError",
    "Sent",
    "Sums",
    "Threads",
    "ZeroRedundancyOptimizer",
    "cut",
    "launched",
    "mpiexec",
    "repeated",
    "require_alike",
    "spread",
    "threads_per_rank",
    "world",
]


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
