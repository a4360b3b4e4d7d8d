"""`ZeroRedundancyOptimizer`: each rank keeps and updates a part of the optimizer's state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import wengert
from wengert import _core, optim
from wengert.optim import Optimizer

from . import tree
from .communicator import Communicator, ParallelError, RankLostError, numbered, world

if TYPE_CHECKING:
    from wengert._core import Tensor

Array = npt.NDArray[Any]

# Those that update each number by itself; a part of a tensor is updated as the whole is.
_BY_NUMBER = (
    *("ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "NAdam", "RAdam"),
    *("RMSprop", "Rprop", "SGD"),
)


class _Part(NamedTuple):
    """Numbers start to stop of parameter `param`, as a tensor that shares its memory."""

    group: int
    param: int
    start: int
    stop: int
    tensor: Tensor


class ZeroRedundancyOptimizer(Optimizer):
    """An optimizer whose state is spread over the ranks: 1 / ranks of its memory on each.

        optimizer = parallel.ZeroRedundancyOptimizer(model.parameters(), optim.Adam, lr=1e-3)

    params           as an optimizer takes them, the same on each rank, as are their gradients
                     (DataParallel makes them so)
    optimizer_class  one that updates each number by itself: SGD, Adam, AdamW, RMSprop, Adagrad,
                     Adadelta, Adamax, NAdam, RAdam, Lion, ASGD, Rprop
    comm             the ranks (`world()`)
    options          those of the optimizer

    Rank r updates the numbers cut(n, ranks)[r] of all parameters together, laid end to end, and
    sends them to the others. Parameters have the bits that the optimizer itself would give them.
    `param_groups`, `lr` and schedules are as ever. `state_bytes` tells the memory of this rank.

    A state_dict is the optimizer's own, whatever the number of ranks: all of them call
    `consolidate_state_dict()`, then any of them `state_dict()`. load_state_dict takes one, from the
    optimizer itself or from any number of ranks.

    A part of the state is on one rank alone. So where a rank is lost (`mpiexec --with-ft ulfm`),
    step() and consolidate_state_dict() are a ParallelError that names it: the others cannot go on
    without a checkpoint.

    Source: Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter
    models", 2020 (stage 1); the name is PyTorch's.

    >>> from wengert import parallel
    >>> w = nn.Parameter(wg.ones(4))
    >>> optimizer = parallel.ZeroRedundancyOptimizer([w], optim.Adam, lr=0.5)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> optimizer.state_bytes  # two numbers of float32 for each of four
    32
    """

    def __init__(
        self,
        params: Iterable[Any],
        optimizer_class: type[Optimizer],
        comm: Communicator | None = None,
        **options: Any,
    ) -> None:
        """See the class. ValueError for an optimizer that looks at whole tensors."""
        name = getattr(optimizer_class, "__name__", str(optimizer_class))
        if getattr(optim, name, None) is not optimizer_class or name not in _BY_NUMBER:
            raise ValueError(
                f"ZeroRedundancyOptimizer: {name} may look at more than one number of a tensor, "
                f"whose parts are on other ranks; expected one of {', '.join(_BY_NUMBER)}"
            )
        self.comm = comm or world()
        self._whole = optimizer_class(params, **options)  # options alone: it never makes a state
        self.defaults, self.param_groups = self._whole.defaults, self._whole.param_groups
        self._class = optimizer_class
        self._consolidated: dict[str, Any] | None = None
        self._divide()

    def _divide(self) -> None:
        self._sizes = [0] * self.comm.size
        self._parts: list[list[_Part]] = [[] for _ in self._sizes]
        params = [(g, p) for g, group in enumerate(self.param_groups) for p in group["params"]]
        shares = tree.cut(sum(p.numel() for _, p in params), self.comm.size)
        at = 0
        for i, (g, p) in enumerate(params):
            if not p.is_contiguous():
                raise ValueError(
                    f"ZeroRedundancyOptimizer: parameter {i}, of shape {p.shape}, is a view with "
                    "strides; expected contiguous ones: .clone()"
                )
            flat = p.detach().reshape(-1)
            for rank, share in enumerate(shares):
                start, stop = max(share.start - at, 0), min(share.stop - at, p.numel())
                if start < stop:
                    self._parts[rank].append(_Part(g, i, start, stop, flat[start:stop]))
                    self._sizes[rank] += stop - start
            at += p.numel()
        self._all: list[Tensor] = [p for _, p in params]
        self._mine = self._parts[self.comm.rank]
        self._groups = sorted({part.group for part in self._mine})
        groups = [
            {
                **{k: v for k, v in self.param_groups[g].items() if k in self.defaults},
                "params": [part.tensor for part in self._mine if part.group == g],
            }
            for g in self._groups
        ]
        self._own = self._class(groups) if groups else None  # None: fewer numbers than ranks

    @property
    def _saved_as(self) -> str:
        return str(self._class.__name__)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Not after the numbers were divided: TypeError."""
        raise TypeError(
            "ZeroRedundancyOptimizer: parameters were divided among the ranks; give all groups to "
            "the constructor"
        )

    @property
    def state_bytes(self) -> int:
        """Memory of the state on this rank."""
        groups = self._own.param_groups if self._own is not None else []
        return sum(
            b.numel() * b.dtype.itemsize
            for group in groups
            for cohort in group.cohorts
            for buffers in cohort.state.values()
            for b in buffers
        )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates this rank's numbers, and takes the other ranks'. All ranks call it."""
        loss = None
        if closure is not None:
            with wengert.enable_grad():
                loss = closure()
        if _core._is_tracing():
            raise ValueError(
                "compile: ZeroRedundancyOptimizer sends numbers between ranks, which no line of a "
                "list does; leave its step outside the compiled step"
            )
        self._require_all_parts()
        self._consolidated = None
        self._hand_on_options()
        for part in self._mine:
            grad = self._all[part.param].grad
            part.tensor.grad = None if grad is None else grad.reshape(-1)[part.start : part.stop]
        if self._own is not None:
            self._own.step()
        kinds = {p.dtype.name for p in self._all}
        kind = "float64" if "float64" in kinds else "float32"
        given = [part.tensor.cpu().numpy() for part in self._mine]
        all_ = np.empty(sum(self._sizes), kind)
        at = sum(self._sizes[: self.comm.rank])
        if given:
            all_[at : at + self._sizes[self.comm.rank]] = np.concatenate(given)
        try:
            self.comm.all_gather(all_, self._sizes)
        except RankLostError:
            self.comm.agree(False)
            self._require_all_parts()
        at = 0
        with wengert.no_grad():
            for rank, parts in enumerate(self._parts):
                for part in parts:
                    size = part.stop - part.start
                    if rank != self.comm.rank:
                        values = wengert.from_numpy(all_[at : at + size])
                        part.tensor.copy_(values.to(part.tensor.dtype))
                    at += size
        return loss

    def _require_all_parts(self) -> None:
        if self.comm.size != len(self._sizes):
            raise ParallelError(
                f"ZeroRedundancyOptimizer: {numbered(self.comm.lost)} lost, and the part of the "
                "optimizer's state that was kept there alone. End the job, and go on from the last "
                "checkpoint with any number of ranks: --resume, or train.fit(resume=...)"
            )

    def _hand_on_options(self) -> None:
        if self._own is None:
            return
        for g, own in zip(self._groups, self._own.param_groups, strict=True):
            for name in self.defaults:
                if own[name] != self.param_groups[g][name]:
                    own[name] = self.param_groups[g][name]

    def consolidate_state_dict(self) -> None:
        """Collects the state of all ranks on each of them, for `state_dict`. All ranks call it."""
        self._require_all_parts()
        found = []
        if self._own is not None:
            self._hand_on_options()
            for i, entry in self._own.state_dict()["state"].items():
                part = self._in_own_order()[i]
                values = {k: v.cpu().numpy() for k, v in entry.items()}
                found.append((part.param, part.start, part.stop, values))
        state: dict[int, dict[str, Any]] = {}
        for param, start, stop, values in (one for each in self.comm.share(found) for one in each):
            shape = self._all[param].shape
            for name, value in values.items():
                entry = state.setdefault(param, {})
                if value.ndim == 0:  # counts
                    entry[name] = value
                else:
                    whole = entry.setdefault(name, np.zeros(shape, value.dtype))
                    whole.reshape(-1)[start:stop] = value
        groups, at = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            groups.append({**group, "params": list(range(at, at + count))})
            at += count
        made = {
            i: {name: wengert.tensor(value) for name, value in entry.items()}
            for i, entry in sorted(state.items())
        }
        self._consolidated = {"state": made, "param_groups": groups}

    def _in_own_order(self) -> list[_Part]:
        """The parts as the own optimizer counts them: by group."""
        return [part for g in self._groups for part in self._mine if part.group == g]

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as the optimizer's own. RuntimeError unless it was consolidated since
        the last step."""
        if self._consolidated is None:
            if self.comm.size > 1:
                raise RuntimeError(
                    "ZeroRedundancyOptimizer.state_dict: the state is spread over the ranks; call "
                    "consolidate_state_dict() on all of them first"
                )
            self.consolidate_state_dict()
        assert self._consolidated is not None
        return self._consolidated

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """ValueError that lists everything in `state` that does not fit."""
        self._whole.check_state_dict(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes this rank's part of a whole state."""
        self.check_state_dict(state)
        for group, given in zip(self.param_groups, state["param_groups"], strict=True):
            for name, value in given.items():
                if name != "params":
                    group[name] = value
        self._consolidated = None
        if self._own is None:
            return
        entries = {int(i): entry for i, entry in state["state"].items()}
        mine = {}
        for i, part in enumerate(self._in_own_order()):
            if part.param in entries:
                mine[i] = {
                    name: value if value.ndim == 0 else value.reshape(-1)[part.start : part.stop]
                    for name, value in entries[part.param].items()
                }
        groups: list[dict[str, Any]] = [
            {**self.param_groups[g], "params": list(range(len(own["params"])))}
            for g, own in zip(self._groups, self._own.param_groups, strict=True)
        ]
        self._own.load_state_dict({"state": mine, "param_groups": groups})

    def __repr__(self) -> str:
        """The optimizer, and how many ranks share its state."""
        return f"ZeroRedundancyOptimizer over {self.comm.size} ranks of {self._whole!r}"
