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
from .communicator import Communicator, ParallelError, RankLostError, repeated, world
from .exchange import Exchange, Sent, checksum, key_of

if TYPE_CHECKING:
    from wengert._core import Tensor
    from wengert.compiling import Listing

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
    compile    run forward, backward and exchange as a compiled step (`wengert.compile`), in which
               buckets of gradients are sent while the rest of backward runs (exchange.py). On a GPU
               steps run as Python runs them.
    reduction  "tree": adds the shards in a fixed binary tree, so bits depend on `shards`, not on
               the number of ranks. "mpi": MPI's own sum of the ranks, in an order of its choosing,
               with no promise of bits.

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
        self._wire = Exchange(comm, reduction)
        self._plain = self._step = _step_of(module, self._wire)
        if compile:
            self._step = wengert.compile(self._plain)

    @property
    def steps(self) -> int:
        """How many steps there were: calls of backward or accumulate."""
        return self._wire.steps

    @property
    def program(self) -> Listing | None:
        """With compile=True: the list of a step. None before its second one."""
        step: Any = self._step
        return getattr(step, "program", None)

    @property
    def sent(self) -> list[Sent]:
        """The buckets of the last step, with times: `Sent.hidden(model.sent)` is the share of
        communication that was hidden behind computation. Empty on one rank."""
        return self._wire.sent

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
        `accumulate`. In a compiled step of one's own, which takes x and y, its lines are those of
        the step; a rank that is lost is then an error.

        NotFiniteError, on all ranks, where a shard's loss or gradient is NaN or infinite.
        """
        batch = x if isinstance(x, ShardedBatch) and y is None else (x, y)
        kinds = [p.dtype for p in self.module.parameters()]
        kind = kinds[0] if kinds else wengert.float32
        if not _core._is_tracing():
            return wengert.tensor(self.accumulate(loss_fn, [batch]).losses[0], kind)
        if self._device != "cpu":
            raise ValueError(
                "compile: DataParallel sends gradients by way of the CPU, which no line of a GPU's "
                "list does; leave backward outside the compiled step"
            )
        whole = _tensor(x), _tensor(y)
        return self._plain(loss_fn, *self._plan([self._sharded(whole)]), whole)[0].to(kind)

    @property
    def _device(self) -> Any:
        return next((p.device for p in self.module.parameters()), "cpu")

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
        wire = self._wire
        given = [self._sharded(batch) for batch in batches]
        step = self._step if self._device == "cpu" else self._plain
        state = wengert.random.default_generator.state
        params = [p for p in self.module.parameters() if p.requires_grad]
        grads = [p.grad for p in params]
        changed = [state, *self.module.buffers(), *(g for g in grads if g is not None)]
        former, steps = [t.clone() for t in changed], wire.steps

        def undo() -> None:
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            for t, value in zip(changed, former, strict=True):
                t.copy_(value)

        tries = 0

        def attempt() -> None:
            nonlocal tries
            if tries or wire.size != self.comm.size:
                undo()  # a rank was lost: those that are left begin anew
                wire.renew()
            tries += 1
            wire.key, wire.stop, wire.score = _checksum(given), stop, score
            try:
                step(loss_fn, *self._plan(given))
            except RankLostError:
                raise
            except BaseException:
                undo()
                raise

        repeated(self.comm, attempt)
        wire.steps = steps + 1
        scores = wire.told[:, :, 1].sum(axis=0).tolist()
        return Sums(wire.means([batch.rows for batch in given], self.shards), scores, wire.stops)

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
        key = () if _core._is_tracing() else key_of(x, y)
        return ShardedBatch(self.shards, len(x), key, lambda s: (x[rows[s]], y[rows[s]]))

    def _plan(self, given: Sequence[ShardedBatch]) -> tuple[Any, tuple[int, ...], int, int, int]:
        """What a step takes: of each batch and shard of this rank x and y, or None where it has no
        rows; the rows of each batch; the shards, the first one of this rank, and the ranks."""
        mine = self.mine
        parts = tuple(
            tuple(
                tuple(t.to(self._device) for t in batch.part(s)) if s < batch.rows else None
                for batch in given
            )
            for s in mine
            if s < max(batch.rows for batch in given)
        )
        return parts, tuple(b.rows for b in given), self.shards, mine.start, self.comm.size

    @property
    def bytes_per_step(self) -> int:
        """Bytes that this rank sends in a step by the tree, the few numbers of `Sums` left out; for
        batches that have a row for each shard."""
        params = [p for p in self.module.parameters() if p.requires_grad]
        ranks = self.comm.size
        rounds = max(len(tree.held(r)) for r in tree.cut(self.shards, ranks))
        total = 0
        for t in (*params, *self.module.buffers()):
            own = tree.cut(t.numel(), ranks)[self.comm.rank]
            numbers = (t.numel() - len(own)) * rounds + len(own) * (ranks - 1)
            total += numbers * max(4, t.dtype.itemsize)
        return total

    def extra_repr(self) -> str:
        """Shards and ranks."""
        return f"shards={self.shards}, ranks={self.comm.size}"


def _step_of(module: nn.Module, exchange: Exchange) -> Callable[..., Tensor]:
    """A step's forward, backward and exchange, as a function that `compile` takes; it returns the
    batches' mean losses."""

    def step(
        loss_fn: Loss,
        given: tuple[Any, ...],
        rows: tuple[int, ...],
        shards: int,
        begin: int,
        ranks: int,
        compared: Sequence[Tensor] = (),
    ) -> Tensor:
        params: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        buffers = list(module.buffers()) if shards > 1 else []
        former = [p.grad for p in params]
        state = wengert.random.default_generator.state
        counts = [[len(r) for r in tree.cut(n, shards)] for n in rows]
        leaves = min(shards, max(rows))
        exchange.compare(compared, leaves, shards)
        start, kept = state.clone(), [b.clone() for b in buffers]
        sums, parts = tree.Tree(_plus), []
        for s, batches in enumerate(given, begin):
            if s > begin:
                for b, value in zip(buffers, kept, strict=True):
                    b.copy_(value)
            if s > 0:
                exchange.line(
                    "shard_state", f"that of shard {s}, from x", partial(_mix, s), [start], [state]
                )
            weight = 0.0
            for p in params:
                p.grad = None
            for i, batch in enumerate(batches):
                if batch is None:
                    continue
                share = counts[i][s] / rows[i] / len(rows)
                weight += share
                prediction = module(batch[0])
                loss = loss_fn(prediction, batch[1])
                (loss * share).backward()
                parts.append(_Part(s, i, loss.detach(), prediction.detach(), *batch))
            leaf = [None if p.grad is None else _wide(p.grad) for p in params]
            kind = wengert.float64 if _is_double(params) else wengert.float32
            changes = [
                (b - value).to(kind) * weight for b, value in zip(buffers, kept, strict=True)
            ]
            sums.add(s, [*leaf, *changes])
        if shards > 1:
            state.copy_(start + _NEXT)
        alone = ranks == 1
        nodes = [tree.finish(sums.nodes, leaves, _plus)] if alone else list(sums.nodes.values())
        has = [not nodes or any(n[i] is not None for n in nodes) for i in range(len(params))]
        zeros = [wengert.zeros_like(_wide(t.detach())) for t in (*params, *buffers)]
        filled = [
            [zero.clone() if t is None else t for t, zero in zip(node, zeros, strict=True)]
            for node in nodes
        ] or [zeros]
        if not alone:
            exchange.reduce(filled)
        means = wengert.zeros(len(rows), dtype="float64")
        ends = _End(module, exchange, loss_fn, rows, shards, parts, has)
        exchange.line(
            "agree",
            "the mean losses; raises where a number of a rank is NaN or infinite",
            ends.told,
            [start, *(t for part in parts for t in part[2:]), *(filled[0] if alone else ())],
            [means],
        )
        if not _core._is_tracing():
            has = exchange.has
        with wengert.no_grad():
            for p, there, before, total in zip(params, has, former, filled[0], strict=False):
                total = total.to(p.dtype)
                if there:
                    p.grad = total if before is None else before.add_(total)
                else:
                    p.grad = before
            for b, value, total in zip(buffers, kept, filled[0][len(params) :], strict=True):
                change = total if b.dtype.is_floating_point else total.round()
                b.copy_(value + change.to(b.dtype))
        return means

    return step


class _Part(NamedTuple):
    """What a shard makes of a batch."""

    shard: int
    batch: int
    loss: Tensor
    prediction: Tensor
    x: Tensor
    y: Tensor


class _End:
    """The end of a step: what all ranks are told."""

    def __init__(
        self,
        module: nn.Module,
        exchange: Exchange,
        loss_fn: Loss,
        rows: tuple[int, ...],
        shards: int,
        parts: list[_Part],
        has: list[bool],
    ) -> None:
        self.module, self.exchange, self.loss_fn, self.has = module, exchange, loss_fn, has
        self.rows, self.shards = rows, shards
        self.places = [(part.shard, part.batch) for part in parts]
        self.traced = _core._is_tracing()

    def told(self, _: Tensor, means: Tensor, start: Tensor, *given: Tensor) -> None:
        exchange = self.exchange
        own = exchange.owners[exchange.comm.rank]
        numbers = np.zeros((2, len(own), len(self.rows)))
        each = [given[4 * i : 4 * i + 4] for i in range(len(self.places))]
        for (s, i), (loss, prediction, _x, y) in zip(self.places, each, strict=True):
            numbers[0, s - own.start, i] = loss.item()
            if exchange.score is not None:
                numbers[1, s - own.start, i] = exchange.score(prediction, y)
        exchange.check(given[4 * len(each) :])
        if not exchange.tell([has and len(own) > 0 for has in self.has], *numbers):
            self.fail(start, each)
        if self.traced and exchange.has != self.has:
            raise ParallelError(_UNEVEN)
        exchange.steps += 1
        means.copy_(wengert.tensor(exchange.means(self.rows, self.shards), "float64"))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss."""
        return self.loss_fn(self.module(x), y)

    def fail(self, start: Tensor, each: Sequence[Sequence[Tensor]]) -> None:
        """NotFiniteError: the step, the rank, the rows, and the line that made it."""
        exchange = self.exchange
        comm, losses = exchange.comm, exchange.told[:, :, 0]
        spoiled = [s for s in range(len(losses)) if not np.isfinite(losses[s]).all()]
        ranks = [r for r, leaves in enumerate(exchange.owners) if {*spoiled} & {*leaves}]
        rank = ranks[0] if ranks else exchange.finite.index(False)
        found: tuple[int, int, str] | None = None
        if rank == comm.rank:
            state = wengert.random.default_generator.state
            for (s, i), (_loss, _prediction, x, y) in zip(self.places, each, strict=True):
                if ranks and math.isfinite(losses[s, i]):
                    continue
                state.copy_(start)
                if s > 0:
                    _mix(s, state, state, start)
                with wengert.enable_grad():
                    line = _first_bad(partial(self.forward, x, y), x, y)
                found = s, i, line
                if line != _FINITE:
                    break
        found = comm.share(found)[rank]
        assert found is not None
        s, i, line = found
        rows = tree.cut(self.rows[i], self.shards)[s]
        loss = losses[s, i]
        what = "a gradient is NaN or infinite" if math.isfinite(loss) else f"the loss is {loss}"
        batches = losses.shape[1]
        of = f", batch {i} of {batches}" if batches > 1 else ""
        raise NotFiniteError(
            f"step {exchange.steps + 1}, rank {rank}, shard {s} (rows {rows.start} to "
            f"{rows.stop - 1} of the batch{of}): {what}. {line}"
        )


_UNEVEN = (
    "DataParallel: shards differ in which parameters have a gradient, or a rank has no rows, which "
    "a compiled step cannot follow; run this step outside compile"
)
_FINITE = "Its list, run again, has finite numbers only"
_NEXT = wengert.tensor([0, 2**32], "int64")  # a step's random numbers after those of the one before


def _mix(s: int, _: Tensor, state: Tensor, start: Tensor) -> None:
    """The random state of shard s > 0 in a step that begins with `start`."""
    seed, counter = start.tolist()
    mixed = seed * 0x9E3779B97F4A7C15 + counter * 0xD1B54A32D192ED03 + s * 0x8CB92BA72F3D8DD7
    state.copy_(wengert.tensor([mixed % 2**63, 0], "int64"))


def _plus(left: list[Tensor | None], right: list[Tensor | None]) -> list[Tensor | None]:
    with wengert.no_grad():
        return [
            b if a is None else a if b is None else a + b for a, b in zip(left, right, strict=True)
        ]


def _wide(t: Tensor) -> Tensor:
    """In what it is added: float32 for bfloat16; in one piece."""
    return (t if t.dtype.itemsize >= 4 else t.float()).contiguous()


def _is_double(params: list[Tensor]) -> bool:
    return not params or any(p.dtype == wengert.float64 for p in params)


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


def _checksum(batches: Sequence[ShardedBatch]) -> int:
    return checksum(fact for batch in batches for fact in (batch.rows, *batch.key))


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, wengert.Tensor) else wengert.tensor(x)


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
    return str(bad) if bad is not None else _FINITE
