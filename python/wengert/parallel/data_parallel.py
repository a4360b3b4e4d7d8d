"""`DataParallel`: the gradients of a batch, computed by ranks, the same bits for any number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import wengert
from wengert import _core, nn
from wengert.data import Batches, ShardedBatch

from . import tree
from .alike import facts_of, require_alike
from .alike import flat as flat_of
from .communicator import Communicator, ParallelError, repeated, world

if TYPE_CHECKING:
    from wengert._core import Tensor

Array = npt.NDArray[Any]
Loss = Callable[["Tensor", "Tensor"], "Tensor"]
REDUCTIONS = ("tree", "mpi")


class NotFiniteError(ParallelError, FloatingPointError):
    """A rank's loss or gradient is NaN or infinite: all ranks raise this at the same step, with the
    weights as they were before it."""


class Sums(NamedTuple):
    """What a step knows of its batches, on all ranks."""

    losses: list[float]  # of each batch, the mean over its rows
    scores: list[float]  # of each batch, the sum of score() over its shards
    stop: bool  # whether a rank asked to stop


class DataParallel(nn.Module):
    """Computes a batch in `shards` parts, spread over the ranks, and adds their gradients.

        mpiexec -n 4 python script.py

        wg.manual_seed(0)                                     # the same weights on each rank
        model = parallel.DataParallel(nn.MLP([64, 32, 10]), shards=4)
        optimizer = optim.Adam(model.parameters())
        for batch in model.batches(Batches(...)):             # each rank prepares its shards alone
            optimizer.zero_grad()
            loss = model.backward(wg.cross_entropy, batch)    # its mean; p.grad is the batch's
            optimizer.step()

    module     the model. All ranks have the same: they are compared at once (`ParallelError`).
    shards     parts of a batch (the number of ranks). Shard s has the rows cut(n, shards)[s]: where
               n rows do not divide, the first n % shards have one more. Each rank takes
               cut(shards, ranks)[rank], so there are at least as many shards as ranks.
    comm       the ranks (`world()`)
    compile    run each shard's forward and backward as a compiled step (`wengert.compile`). The
               exchange is outside it: a list has no line that calls the host, so nothing is hidden
               behind computation.
    reduction  "tree": adds the shards in a fixed binary tree, so bits depend on `shards`, not on
               the number of ranks. "mpi": MPI's own sum of the ranks, in an order of its choosing:
               about half the latency, and no promise of bits.

    The gradient is that of the mean over all rows: a shard of m rows counts m / n. It agrees with
    the unsharded one to rounding, and with shards=1 has its bits. Random numbers (dropout) of a
    shard depend on the global generator and the shard, not on the rank. Buffers (running
    statistics of a batch norm) end as the mean of what the shards make of them. So batch norm
    normalises by shard.

    `model(x)` is for evaluation: with gradients, in training mode, it raises, since no rank would
    know the others' gradients.

    >>> from wengert import parallel
    >>> model = parallel.DataParallel(nn.Linear(3, 2), shards=2)
    >>> loss = model.backward(wg.mse_loss, wg.ones((5, 3)), wg.zeros((5, 2)))
    >>> model.module.weight.grad.shape
    (2, 3)
    """

    def __init__(
        self,
        module: nn.Module,
        shards: int | None = None,
        comm: Communicator | None = None,
        *,
        compile: bool = False,
        reduction: str = "tree",
    ) -> None:
        """See the class. ValueError for arguments that cannot be."""
        super().__init__()
        comm = comm or world()
        shards = comm.size if shards is None else shards
        if not isinstance(shards, int) or isinstance(shards, bool) or shards < comm.size:
            raise ValueError(
                f"DataParallel: shards is {shards!r}, and there are {comm.size} ranks; expected at "
                "least as many shards, or a rank would have no data"
            )
        if reduction not in REDUCTIONS:
            raise ValueError(f"DataParallel: reduction is {reduction!r}; expected 'tree' or 'mpi'")
        require_alike(
            comm,
            {
                **facts_of(module),
                "shards": shards,
                "compile": compile,
                "reduction": reduction,
            },
        )
        self.module, self.shards, self.comm, self.reduction = module, shards, comm, reduction
        self.steps = 0  # calls of backward
        self._plain = self._shard = _shard_of(module)
        if compile:
            self._shard = wengert.compile(self._plain)

    @property
    def mine(self) -> range:
        """The shards that this rank computes."""
        return tree.cut(self.shards, self.comm.size)[self.comm.rank]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model, for evaluation."""
        if self.training and self.shards > 1 and wengert.is_grad_enabled():
            raise ParallelError(
                "DataParallel: a call in training mode records gradients of this rank alone; use "
                "backward(loss_fn, x, y), or eval() and no_grad() to evaluate"
            )
        return self.module(*args, **kwargs)

    def batches(self, data: Batches) -> Iterator[ShardedBatch]:
        """An epoch of `data`, of which this rank prepares its own shards alone. Order and random
        changes depend on the seed, the epoch and the shard, not on the ranks."""
        return data.sharded(self.shards, self.mine)

    def backward(self, loss_fn: Loss, x: Any, y: Any = None) -> Tensor:
        """Adds the gradient of mean loss over the whole batch to each parameter's grad, on each
        rank, and returns that mean.

        loss_fn: (prediction, y) to the mean over the rows. x: a batch of `batches`; or x and y, the
        whole batch, the same on each rank. To accumulate over batches with one exchange:
        `accumulate`.

        NotFiniteError, on all ranks, where a shard's loss or gradient is NaN or infinite.
        """
        batch = x if isinstance(x, ShardedBatch) and y is None else (x, y)
        loss = self.accumulate(loss_fn, [batch]).losses[0]
        kinds = [p.dtype for p in self.module.parameters()]
        return wengert.tensor(loss, kinds[0] if kinds else "float32")

    def accumulate(
        self,
        loss_fn: Loss,
        batches: Sequence[ShardedBatch | tuple[Any, Any]],
        score: Callable[[Tensor, Tensor], float] | None = None,
        stop: bool = False,
    ) -> Sums:
        """As backward of the mean of the batches' losses, with one exchange for all of them.

        score: (prediction, y) of a shard to a number, which is summed. stop: tells all ranks that
        this one wants to stop.
        """
        if _core._is_tracing():
            raise ValueError(
                "compile: DataParallel exchanges gradients between ranks, which no line of a list "
                "does; leave backward outside the compiled step, and use DataParallel(compile=True)"
            )
        given = [self._sharded(batch) for batch in batches]
        params: list[Tensor] = [p for _, p in self.module.named_parameters() if p.requires_grad]
        layout = _Layout(params, [b for _, b in self.module.named_buffers()])
        former = [p.grad.clone() if p.grad is not None else None for p in params]
        kept = [b.clone() for b in layout.buffers]
        seed, counter = wengert.random.default_generator.state.tolist()
        # Repeated by the ranks that are left, where one is lost: none has changed a weight.
        total, sums = repeated(
            self.comm,
            lambda: self._attempt(loss_fn, given, layout, kept, (seed, counter), score, stop),
        )
        if self.shards > 1:
            state = wengert.random.default_generator.state
            state.copy_(wengert.tensor([seed, counter + 2**32], "int64"))
        layout.unpack(total, former, kept)
        self.steps += 1
        return sums

    def _sharded(self, batch: ShardedBatch | tuple[Any, Any]) -> ShardedBatch:
        """The batch; ValueError where it is cut otherwise, or into none."""
        if isinstance(batch, ShardedBatch):
            if batch.shards != self.shards:
                raise ValueError(
                    f"DataParallel: a batch of {batch.shards} shards for a model of {self.shards}; "
                    "take it from model.batches(data)"
                )
            return batch
        x, y = map(_tensor, batch)
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(
                f"DataParallel: a batch of {len(x)} inputs and {len(y)} targets; expected as "
                "many of both, and at least 1"
            )
        rows = [slice(r.start, r.stop) for r in tree.cut(len(x), self.shards)]
        key = (x.shape, y.shape, x.dtype.name, y.dtype.name, *map(flat_of, (x[:1], x[-1:], y)))
        return ShardedBatch(self.shards, len(x), key, lambda s: (x[rows[s]], y[rows[s]]))

    def _attempt(
        self,
        loss_fn: Loss,
        given: list[ShardedBatch],
        layout: _Layout,
        kept: list[Tensor],
        state: tuple[int, int],
        score: Callable[[Tensor, Tensor], float] | None,
        stop: bool,
    ) -> tuple[Array, Sums]:
        """The sum over all shards, and what the step knows of its batches."""
        leaves = min(self.shards, max(batch.rows for batch in given))
        shares = [[len(r) / b.rows for r in tree.cut(b.rows, self.shards)] for b in given]
        owners = [
            range(min(r.start, leaves), min(r.stop, leaves))
            for r in tree.cut(self.shards, self.comm.size)
        ]
        told = np.zeros((len(owners[self.comm.rank]), len(given), 2))
        sums, finite = tree.Tree(leaves), np.ones(len(told))
        for place, s in enumerate(owners[self.comm.rank]):
            self._begin(s, *state, layout.buffers, kept)
            first = True
            for i, batch in enumerate(given):
                if not shares[i][s]:
                    continue
                x, y = (t.to(layout.device) for t in batch.part(s))
                weight = wengert.tensor(shares[i][s] / len(given), layout.kind).to(layout.device)
                loss, prediction = self._shard(loss_fn, x, y, weight, first)
                told[place, i] = loss.item(), score(prediction, y) if score else 0.0
                first = False
            flat = layout.pack(kept, sum(share[s] for share in shares) / len(given))
            finite[place] = _is_finite(flat)
            sums.add(s, flat)
        all_told, all_finite, stops = self._tell(told, finite, stop, owners, given)
        bad = [s for s in range(leaves) if not (all_finite[s] and np.isfinite(all_told[s]).all())]
        if bad:
            self._fail(loss_fn, given, bad[0], all_told[bad[0]], owners, state, layout.device)
        total = self._sum_of(sums, owners, layout)
        losses = []
        for i, batch in enumerate(given):
            counts = [len(r) for r in tree.cut(batch.rows, self.shards)[:leaves]]
            losses.append(math.fsum(all_told[:, i, 0] * counts) / batch.rows)
        return total, Sums(losses, all_told[:, :, 1].sum(axis=0).tolist(), stops)

    def _begin(
        self, s: int, seed: int, counter: int, buffers: Sequence[Tensor], kept: Sequence[Tensor]
    ) -> None:
        """The state in which shard s begins, whoever computed the one before."""
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
        generator = wengert.random.default_generator
        if s == 0:  # as an unsharded step
            generator.state.copy_(wengert.tensor([seed, counter], "int64"))
        else:
            mixed = (
                seed * 0x9E3779B97F4A7C15 + counter * 0xD1B54A32D192ED03 + s * 0x8CB92BA72F3D8DD7
            )
            generator.manual_seed(mixed % 2**63)

    def _tell(
        self,
        told: Array,
        finite: Array,
        stop: bool,
        owners: list[range],
        given: list[ShardedBatch],
    ) -> tuple[Array, Array, bool]:
        """The numbers of all shards, on all ranks: a few bytes. ParallelError where the ranks were
        given different batches."""
        head = self.comm.all_gather(
            np.array([stop, len(given), _checksum(given)], float), [3] * self.comm.size
        ).reshape(-1, 3)
        if other := next((r for r, one in enumerate(head) if (one[1:] != head[0, 1:]).any()), 0):
            raise ParallelError(
                f"step {self.steps + 1}: rank {other} was given another batch than rank 0; give "
                "each rank the whole batch, of which it takes its shards: seed shuffles equally, "
                "and leave a DistributedSampler out"
            )
        batches = len(given)
        each = 1 + 2 * batches
        mine = np.concatenate([finite, told.ravel()])
        all_ = self.comm.all_gather(mine, [len(r) * each for r in owners])
        flags, numbers = [], []
        for leaves in owners:
            flags.append(all_[: len(leaves)])
            numbers.append(all_[len(leaves) : len(leaves) * each].reshape(-1, batches, 2))
            all_ = all_[len(leaves) * each :]
        return np.concatenate(numbers), np.concatenate(flags), bool(head[:, 0].any())

    def _sum_of(self, sums: tree.Tree, owners: list[range], layout: _Layout) -> Array:
        """The sum over all shards."""
        n = layout.size
        if self.reduction == "tree":
            part = tree.reduce(self.comm, sums, owners, n, layout.kind)
            return tree.gather(self.comm, part, n)
        total = np.zeros(n, layout.kind)
        for node in sums.nodes.values():
            total += node
        self.comm.all_reduce(total)
        return total

    def _fail(
        self,
        loss_fn: Loss,
        given: list[ShardedBatch],
        s: int,
        told: Array,
        owners: list[range],
        state: tuple[int, int],
        device: Any,
    ) -> None:
        """NotFiniteError: the step, the rank, the rows, and the line that made it."""
        rank = next(r for r, leaves in enumerate(owners) if s in leaves)
        i = next((i for i, loss in enumerate(told[:, 0]) if not math.isfinite(loss)), 0)
        part = tree.cut(given[i].rows, self.shards)[s]
        line = ""
        if rank == self.comm.rank:
            x, y = (t.to(device) for t in given[i].part(s))
            buffers = [b for _, b in self.module.named_buffers()]
            self._begin(s, *state, buffers, [b.clone() for b in buffers])
            line = _first_bad(partial(self._shard_forward, loss_fn, x, y), x, y)
        line = self.comm.share(line)[rank]
        loss = told[i, 0]
        what = f"the loss is {loss}" if not math.isfinite(loss) else "a gradient is NaN or infinite"
        of = f", batch {i} of {len(given)}" if len(given) > 1 else ""
        raise NotFiniteError(
            f"step {self.steps + 1}, rank {rank}, shard {s} (rows {part.start} to {part.stop - 1} "
            f"of the batch{of}): {what}. {line}"
        )

    def _shard_forward(self, loss_fn: Loss, x: Tensor, y: Tensor) -> Tensor:
        return loss_fn(self.module(x), y)

    @property
    def bytes_per_step(self) -> int:
        """Bytes that this rank sends in a step by the tree, the few numbers of `Sums` left out; for
        batches that have a row for each shard."""
        layout = _Layout(
            [p for p in self.module.parameters() if p.requires_grad],
            [b for _, b in self.module.named_buffers()],
        )
        ranks = self.comm.size
        rounds = max(len(tree.held(r)) for r in tree.cut(self.shards, ranks))
        own = tree.cut(layout.size, ranks)[self.comm.rank]
        to_others = (layout.size - len(own)) * rounds + len(own) * (ranks - 1)
        return int(to_others * np.dtype(layout.kind).itemsize)

    def extra_repr(self) -> str:
        """Shards and ranks."""
        return f"shards={self.shards}, ranks={self.comm.size}"


class _Layout:
    """Where the numbers of a shard lie in one vector: gradients, changes of buffers, and for each
    parameter 1 if it has a gradient."""

    def __init__(self, params: list[Tensor], buffers: list[Tensor]) -> None:
        self.params, self.buffers = params, buffers
        self.size = sum(t.numel() for t in (*params, *buffers)) + len(params)
        wide = any(t.dtype.name == "float64" for t in params)
        self.kind = "float64" if wide or not params else "float32"
        self.device = params[0].device if params else "cpu"

    def pack(self, kept: list[Tensor], share: float) -> Array:
        flat = np.empty(self.size, self.kind)
        at = 0
        for p in self.params:
            flat[at : at + p.numel()] = 0.0 if p.grad is None else flat_of(p.grad)
            at += p.numel()
        for b, before in zip(self.buffers, kept, strict=True):
            flat[at : at + b.numel()] = (flat_of(b).astype(float) - flat_of(before)) * share
            at += b.numel()
        flat[at:] = [p.grad is not None for p in self.params]
        return flat

    def unpack(self, total: Array, former: Sequence[Tensor | None], kept: Sequence[Tensor]) -> None:
        has = total[total.size - len(self.params) :]
        at = 0
        with wengert.no_grad():
            for p, there, before in zip(self.params, has, former, strict=True):
                values = total[at : at + p.numel()].reshape(p.shape)
                at += p.numel()
                if not there:
                    p.grad = before
                    continue
                given = wengert.from_numpy(values).to(p.dtype).to(p.device)
                given = given if before is None else before + given
                if p.grad is None:
                    p.grad = given.clone()
                else:  # in place: a compiled update reads it there
                    p.grad.copy_(given)
            for b, before in zip(self.buffers, kept, strict=True):
                change = total[at : at + b.numel()].reshape(b.shape)
                at += b.numel()
                if not b.dtype.is_floating_point:
                    change = np.rint(change)
                b.copy_(before + wengert.from_numpy(change).to(b.dtype).to(b.device))


def spread(
    comm: Communicator, n: int, size: int, fn: Callable[[int, int], tuple[Array, ...]]
) -> tuple[Array, ...]:
    """fn's arrays for rows 0 to n, on all ranks: each computes some of the pieces of `size` rows,
    fn(start, stop). The pieces, and so the bits, are the same for any number of ranks.

    >>> from wengert import parallel
    >>> parallel.spread(parallel.Alone(), 5, 2, lambda a, b: (np.arange(a, b),))
    (array([0, 1, 2, 3, 4]),)
    """

    def all_pieces() -> list[list[tuple[Array, ...]]]:
        mine = tree.cut(max(1, -(-n // size)), comm.size)[comm.rank]
        return comm.share([fn(i * size, min((i + 1) * size, n)) for i in mine])

    all_ = [piece for pieces in repeated(comm, all_pieces) for piece in pieces]
    return tuple(np.concatenate(each) for each in zip(*all_, strict=True))


def _checksum(batches: list[ShardedBatch]) -> int:
    """Of what tells the batches apart."""
    import zlib

    found = 0
    for batch in batches:
        for fact in (batch.rows, *batch.key):
            told = fact.tobytes() if isinstance(fact, np.ndarray) else repr(fact).encode()
            found = zlib.crc32(told, found)
    return found


def _is_finite(flat: Array) -> bool:
    with np.errstate(all="ignore"):
        return bool(np.isfinite(flat @ flat)) or bool(np.isfinite(flat).all())


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, wengert.Tensor) else wengert.tensor(x)


def _shard_of(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """Forward and backward of a shard, as a function that `compile` takes."""

    def shard(
        loss_fn: Loss, x: Tensor, y: Tensor, share: Tensor, first: bool
    ) -> tuple[Tensor, Tensor]:
        if first:
            for p in module.parameters():
                p.grad = None
        prediction = module(x)
        loss = loss_fn(prediction, y)
        (loss * share).backward()
        return loss.detach(), prediction.detach()

    return shard


def _first_bad(forward: Callable[[], Tensor], x: Tensor, y: Tensor) -> str:
    """The line that first makes a number that is not finite."""
    from wengert.study.tracing import record

    for t, name in ((x, "inputs"), (y, "targets")):
        if t.dtype.is_floating_point and not wengert.isfinite(t).all().item():
            return f"The {name} of these rows hold NaN or infinity: clean the data"
    try:
        bad = record(lambda: forward().backward()).first_bad()
    except (ValueError, ArithmeticError, RuntimeError) as error:
        return str(error)
    return str(bad) if bad is not None else "Its list, run again, has finite numbers only"
