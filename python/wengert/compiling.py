"""Compiled steps: a whole training step, traced once as a Wengert list and replayed without Python.

    @wengert.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = wengert.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    loss = step(x, y)              # as before, but fast
    losses = step.run(100, xs, ys)  # 100 steps in one call; xs and ys have the step as first axis
    print(step.program)            # the list itself

The first call runs as it is, so that optimizers make their state. The next one with given shapes,
dtypes and other arguments is traced: the function is called, but its operations are only recorded,
then run. Later ones replay the same kernels in the same order on the same memory, so the results
have the same bits. A function that raises while it is traced has changed no tensor.

A compiled step gives what the function itself would give, or raises. What the trace read of
Python's state is compared at each call (`_guards.py`): module attributes and structure,
requires_grad, hooks, optimizer groups, generators, globals, variables of functions around it, items
of lists and dicts, bytes of arrays (NumPy's and others'), positions of open files, and that names
which were not there still are not. Where that has changed, the step is traced again; `step.reasons`
says why. An optimizer's numbers are stored in tensors, so they change without a new trace.

A trace is improved by passes (csrc/program/passes/ has a file for each) and its memory planned once
into one block; both leave every bit of the results as it was. `step.program.before` is the list as
traced.

On a GPU the list is recorded once, as one CUDA graph or, for small networks, as a loop inside one
kernel, and `run` launches any number of steps without waiting between them; `step.program.replay`
says which it is, and if neither, why. The passes "graph" and "persistent" stand for these two; only
inside one kernel may small matrix products differ from eager's, by rounding.

A replay overwrites the gradients and values that the trace made; what a step returns is a copy. A
step may not look at values (`if loss > 1:`, `.item()`, `.numpy()`, `x[mask]`, but for `x[mask] =
number`) that depend on its arguments or on tensors outside, change its arguments in place, leave a
tensor that it makes in a list or an attribute, read a clock, open or look for a file, or take from
an iterator: each is an error. What a weak reference in it refers to lives as long as the trace.
What a step does besides computing (printing, counting calls) happens when it is traced, not when it
is replayed; a step that reads what it counts is traced at each call.

Not compared: settings of the interpreter and of other libraries (`sys.setrecursionlimit`,
`numpy.seterr`, a decimal context), random numbers that other libraries draw, and what the step
reads of an installed module by a name that it makes (`getattr(module, "a" + b)`).
"""

from __future__ import annotations

import functools
import gc
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from . import _core
from ._core import Tensor, concatenate, is_grad_enabled, stack
from ._trees import Branch, Constant, flatten, unflatten

__all__ = ["PASSES", "CompiledStep", "Listing", "compile"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_OPTIONS = ("memory", "packing", "graph", "persistent")  # how the list runs
PASSES: tuple[str, ...] = (*_core._pass_names(), *_OPTIONS)
_RENAMED = {"planes": "slices"}

_MAX_TRACES = 64
_WARN_AFTER = 8  # traces for one reason


class _Key(NamedTuple):
    """What a trace was made for: the arguments' form, shapes, dtypes and devices, grad mode."""

    spec: Any
    tensors: tuple[Any, ...]
    grad_enabled: bool


class _Traced:
    """A program, the form of what it returns, and the guards of the state that it read."""

    def __init__(
        self, key: _Key, program: _core._Program, results: Any, guards: _core._Guards, plain: bool
    ) -> None:
        self.key = key
        self.program = program
        self.results = results
        self.guards = guards
        self.plain = plain  # it takes tensors one after another
        self.used = 0  # the number of the last call that looked for it


class CompiledStep(Generic[_P, _T]):
    """What `wengert.compile` makes of a function. Not for two threads at once: that is an error.

    traces   how many traces were made
    reasons  why each of the last max_traces of them was made, as text
    program  the list of the last one, printable; None before
    passes   those that improve it
    """

    def __init__(
        self,
        fn: Callable[_P, _T],
        passes: Iterable[str] | None = None,
        max_traces: int = _MAX_TRACES,
    ) -> None:
        """`fn` takes and returns tensors, or lists, tuples and dicts of them, and constants."""
        functools.update_wrapper(self, fn)
        self._fn = fn
        self.passes = PASSES if passes is None else tuple(_RENAMED.get(p, p) for p in passes)
        for name in self.passes:
            if name not in PASSES:
                raise ValueError(f"compile: no pass {name!r}; there are {', '.join(PASSES)}")
        self._options = {name: name in self.passes for name in _OPTIONS}
        if max_traces < 1:
            raise ValueError(f"compile: max_traces is {max_traces}; expected at least 1")
        self._max_traces = max_traces
        # By key: guards of the state after a trace that left a tensor outside.
        self._escaped: dict[_Key, _core._Guards] = {}
        self._cache: dict[_Key, list[_Traced]] = {}
        self._last: _Traced | None = None
        from ._guards import Recorder, snapshot  # here, so that importing wengert needs no `dis`

        self._recorder, self._snapshot = Recorder(), snapshot
        self._warm = False
        self._lookups = 0
        self._repeated: Counter[str] = Counter()
        self.traces = 0
        self.reasons: list[str] = []
        self.program: Listing | None = None

    def __reduce__(self) -> str | tuple[Any, ...]:
        """For pickle and deepcopy: its function, by name where that is this step; no traces."""
        fn = self._fn
        module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
        if module != "__main__" and getattr(sys.modules.get(module or ""), name, None) is self:
            return name
        return CompiledStep, (fn, self.passes, self._max_traces)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """One step."""
        last = self._last
        if last is not None and last.plain and not kwargs:
            given: Any = args
            values = last.program.try_run(given, last.guards, last.key.grad_enabled)
            if values is not None:
                return unflatten(last.results, values)  # type: ignore[no-any-return]
        if _core._is_tracing() or _core._watches_nan():
            # Inside another step it becomes a part of that list; a watch for NaN asks each op.
            return self._fn(*args, **kwargs)
        tensors: list[Tensor] = []
        spec = flatten((args, kwargs), tensors)
        traced = self._find(self._key(spec, tensors))
        if traced is None:
            return self._run_and_trace(spec, tensors, args, kwargs)  # type: ignore[no-any-return]
        self._last = traced
        return unflatten(traced.results, traced.program.run(tensors))  # type: ignore[no-any-return]

    def _repr_html_(self) -> str:
        """For notebooks: how often and why it was traced, and the list that it replays."""
        from . import _shown

        name = getattr(self._fn, "__qualname__", type(self._fn).__name__)
        title = f"compiled step {name}: {self.traces} trace{'s' * (self.traces != 1)}"
        if self.program is None:
            return _shown.block(title, _shown.said("its second call makes the list"))
        rows = list(Counter(self.reasons).items())
        why = _shown.table(("traced because", "times"), rows) if self.traces > 1 else ""
        return _shown.block(title, why, self.program._repr_html_())

    def run(self, n: int, *batches: Any) -> Any:
        """`n` steps in one call; every tensor in `batches` has the step as its first axis.

        Returns what the step returns, stacked along a new first axis. Steps that must still be
        traced are run one by one first. Raises ShapeError where a first axis is not n.
        """
        if n < 1:
            raise ValueError(f"run: got n = {n}; expected at least 1 step")
        tensors: list[Tensor] = []
        spec = flatten((batches, {}), tensors)
        for i, x in enumerate(tensors):
            if x.ndim == 0 or x.shape[0] != n:
                raise _core.ShapeError(
                    f"run: batch {i} has shape {x.shape}; its first axis must be the step, "
                    f"of size {n}"
                )
        results: Any = None
        singly: list[list[Tensor]] = []
        eager = _core._is_tracing() or _core._watches_nan()
        for at in range(n):
            parts = [x[at] for x in tensors]
            traced = None if eager else self._find(self._key(spec, parts))
            if traced is not None and traced.program.repeats():
                rest = traced.program.run_many(n - at, [x[at:] for x in tensors])
                firsts = [[step[i] for step in singly] for i in range(len(rest))]
                joined = [
                    concatenate([stack(first), last]) if first else last
                    for first, last in zip(firsts, rest, strict=True)
                ]
                return unflatten(traced.results, joined)
            args, kwargs = unflatten(spec, parts)
            returned: list[Tensor] = []
            results = flatten(self(*args, **kwargs), returned)
            singly.append(returned)
        return unflatten(results, [stack(list(values)) for values in zip(*singly, strict=True)])

    def _key(self, spec: Any, tensors: list[Tensor]) -> _Key:
        for i, x in enumerate(tensors):
            if x.requires_grad:
                raise _core.GradientError(
                    f"compile: tensor {i} among the arguments requires a gradient, which cannot "
                    "pass out of a compiled step; detach() it, or let the step use it from outside"
                )
        kinds = tuple((x.shape, x.dtype, x.device) for x in tensors)
        return _Key(spec, kinds, is_grad_enabled())

    def _find(self, key: _Key) -> _Traced | None:
        """The trace that was made for this, if what it read is as it was."""
        self._lookups += 1
        try:
            candidates = self._cache.get(key, ())
        except TypeError as error:
            raise TypeError(
                f"compile: every argument must be a tensor or hashable, a constant ({error})"
            ) from None
        for traced in reversed(candidates):
            if traced.program.fits() and traced.guards.changed() is None:
                traced.used = self._lookups
                return traced
        return None

    def _run_and_trace(self, spec: Any, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        returned: list[Tensor] = []
        if not self._warm:
            result = self._recorder.run(self._fn, args, kwargs, refuse=False)
            results = flatten(result, returned)
            self._warm = True
            return unflatten(results, [y.detach().clone() for y in returned])
        key = self._key(spec, tensors)
        guards = self._snapshot([self._fn, *_constants(spec)], self._recorder.codes)
        unchanged = key in self._escaped and self._escaped[key].changed() is None
        program = _core._Program(tensors)
        program.begin()
        try:
            own_args, own_kwargs = unflatten(spec, program.arguments)
            result = self._recorder.run(self._fn, own_args, own_kwargs, refuse=True)
            results = flatten(result, returned)
            del own_args, own_kwargs, result
        except BaseException:
            program.end()
            program.abandon(tensors)  # nothing has run: all outside is as before the step
            raise
        program.end()
        values = [y.detach() for y in returned]
        returned.clear()
        program.finish(values)
        values.clear()
        left = self._left_outside(program, unchanged, tensors)
        if left:
            self._escaped[key] = self._snapshot([self._fn, *_constants(spec)], self._recorder.codes)
            _drop_oldest(self._escaped, self._max_traces)
        if left or self._recorder.grew:
            # It made state, or it ran code whose reads were not among the guards: the next call is
            # traced. What is outside gets the values that it has before the step, then the step
            # runs: an interrupt before its first update leaves nothing half made.
            if left:
                program.settle(tensors)
            program.improve([])
            return unflatten(results, program.run(tensors))
        self._escaped.pop(key, None)
        program.improve(self.passes, **self._options)
        for others in self._cache.values():
            for other in others:
                program.share_memory(other.program)
        copies = program.run(tensors)
        self._keep(key, program, results, guards, args, kwargs)
        return unflatten(results, copies)

    def _keep(
        self,
        key: _Key,
        program: _core._Program,
        results: Any,
        guards: _core._Guards,
        args: Any,
        kwargs: Any,
    ) -> None:
        reason, advice = self._reason(key)
        # A step that has changed what it read does so at each call, and a replay would not.
        replays = guards.changed() is None
        plain = replays and not kwargs and all(isinstance(x, Tensor) for x in args)
        traced = _Traced(key, program, results, guards, plain)
        traced.used = self._lookups
        if replays:
            self._cache.setdefault(key, []).append(traced)
        kept = [t for others in self._cache.values() for t in others]
        if len(kept) > self._max_traces:
            oldest = min(kept, key=lambda t: t.used)
            self._cache[oldest.key].remove(oldest)
            if not self._cache[oldest.key]:
                del self._cache[oldest.key]
        self._last = traced
        self.traces += 1
        self.reasons.append(reason)
        del self.reasons[: -self._max_traces]
        self.program = Listing(program)
        if advice:
            self._repeated[advice] += 1
            _drop_oldest(self._repeated, self._max_traces)
            if self._repeated[advice] == _WARN_AFTER:
                name = getattr(self._fn, "__qualname__", "the step")
                warnings.warn(
                    f"compile: {name} was traced {self.traces} times, the last time because "
                    f"{reason}. {advice}",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def _reason(self, key: _Key) -> tuple[str, str]:
        """Why a trace is made, and, where it should not be made often, the way out."""
        if self._last is None:
            return "it is the first one", ""
        former = [self._last] if self._last.key == key else []
        for traced in [*former, *reversed(self._cache.get(key, ()))]:
            changed = traced.guards.changed()
            if changed:
                return (
                    f"{changed} has changed",
                    f"Each call that finds {changed} changed is traced; keep it as it is, or keep "
                    "the number in a tensor outside and change it with fill_()",
                )
            return "the gradients at its start, or the precision of matmul, were others", ""
        last = self._last.key
        if last.spec != key.spec:
            pairs = zip(_constants(last.spec), _constants(key.spec), strict=False)
            for a, b in pairs:
                if type(a) is not type(b) or a != b or repr(a) != repr(b):
                    advice = (
                        "A number among the arguments is a constant of its trace: pass a tensor, "
                        "wengert.tensor(number), if it changes often"
                    )
                    number = isinstance(b, (int, float)) and not isinstance(b, bool)
                    return f"an argument was {a!r} and is {b!r}", advice if number else ""
            return "the arguments have another form", ""
        if last.tensors != key.tensors:
            for i, (a, b) in enumerate(zip(last.tensors, key.tensors, strict=False)):
                if a != b:
                    texts = [f"{k.name}{tuple(s)} on {d}" for s, k, d in (a, b)]
                    return f"argument {i} was {texts[0]} and is {texts[1]}", ""
        return "gradients were switched on or off", ""

    def _left_outside(
        self, program: _core._Program, unchanged: bool, tensors: list[Tensor]
    ) -> bool:
        """Whether something outside holds a tensor of the step, such as an optimizer its state.

        ValueError where the trace before did so too, and nothing has changed since: it would go on.
        """
        if not program.escaped():
            return False
        gc.collect()  # a cycle may hold it
        where = program.escaped()
        if not where:
            return False
        if not unchanged:
            return True
        program.abandon(tensors)
        raise ValueError(
            f"compile: the result of {where}, is kept outside the step, in a list or an attribute "
            "perhaps, where later steps would not change it. Return it from the step instead"
        )


def _drop_oldest(kept: dict[Any, Any], most: int) -> None:
    if len(kept) > most:
        del kept[next(iter(kept))]


def _constants(spec: Any) -> list[Any]:
    """The arguments of this form that are no tensors."""
    if isinstance(spec, Branch):
        return [value for item in spec.items for value in _constants(item)]
    return [spec.value] if isinstance(spec, Constant) else []


class Listing:
    """The Wengert list of a compiled step: `lines` has a dict for each line, str() lists them.

    A fused line has the lines that it does in its `body`. `before` is the list as it was traced;
    `fusion` says whether chains are one kernel, on a GPU, and if not, why; None on the CPU.
    `memory` tells bytes: of the `arena` in which all that the step makes has its place, of what is
    `kept` beside it (results, gradients, constants, packed weights), and what `all` lines' results
    would take.
    """

    def __init__(self, program: _core._Program, improved: bool = True) -> None:
        """Reads the program."""
        self.lines: list[dict[str, Any]] = program.lines(improved)
        self.memory: dict[str, int] = program.memory
        self.fusion: str | None = _core.cuda_fusion_status() if program.on_gpu else None
        self.before: Listing | None = Listing(program, improved=False) if improved else None
        self._program = program

    @property
    def replay(self) -> str:
        """How it runs on a GPU, known from the first replay on: as one CUDA graph, inside one
        kernel, or line by line, and why. Empty on the CPU."""
        return self._program.replay

    @property
    def flops(self) -> float:
        """Additions and multiplications of one step; a function such as exp counts as one."""
        return float(sum(line["flops"] for line in self.lines))

    @property
    def bytes(self) -> float:
        """Bytes that the lines read and write."""
        return float(sum(line["bytes"] for line in self.lines))

    def _repr_html_(self) -> str:
        """For notebooks: the lines, those of a fused line's body under it."""
        from . import _shown

        rows: list[tuple[object, ...]] = []
        for number, line in enumerate(self.lines, 1):
            made, where = _written(line), line["place"] or ""
            rows.append((number, made, f"{line['flops']:,.0f}", f"{line['bytes']:,.0f}", where))
            rows += [("", f"    {_written(part)}", "", "", "") for part in line["body"]]
        body = _shown.table(("", "line", "FLOP", "bytes", "place"), rows, 2, ": print(it)")
        title = f"{len(self.before.lines)} lines became {len(self.lines)}" if self.before else ""
        return _shown.block(title, *map(_shown.said, self._head().splitlines()), body)

    def __str__(self) -> str:
        """One line for each line of the list, those of a fused line's body under it."""
        rows = [self._head(), f"{'':4}  {'':90}  {'FLOP':>12}  {'bytes':>12}"]
        for number, line in enumerate(self.lines, 1):
            made, where = _written(line), line["place"] or ""
            rows.append(
                f"{number:4}  {made:90}  {line['flops']:12,.0f}  {line['bytes']:12,.0f}  {where}"
            )
            rows += [f"        {_written(part)}" for part in line["body"]]
        return "\n".join(rows)

    def _head(self) -> str:
        head = (
            f"{len(self.lines)} lines, {self.flops:,.0f} FLOP, {self.bytes:,.0f} bytes read and "
            "written; "
        )
        if self.before:
            head += (
                f"{self.memory['arena']:,} bytes of arena and {self.memory['kept']:,} kept, "
                f"for {self.memory['all']:,} bytes of results"
            )
        else:
            head += f"{self.memory['all']:,} bytes of results"
        if self.fusion and self.before:
            head += f"\nchains of elementwise lines: {self.fusion}"
        if self.before and self.replay:
            head += f"\nreplay: {self.replay}"
        return head


def _written(line: dict[str, Any]) -> str:
    arguments = list(line["inputs"])
    arguments += [f"{key}={value}" for key, value in line["attributes"].items()]
    call = f"{line['op']}({', '.join(arguments)})"
    if line["body"]:
        call = f"{line['op']}:"
    if line["output"] is None:
        return call
    sizes = ", ".join(map(str, line["shape"]))
    sign = "<-" if line["edit"] else "="
    return f"{', '.join(line['outputs'])}: {line['dtype']}[{sizes}] {sign} {call}"


@overload
def compile(
    fn: Callable[_P, _T], *, passes: Iterable[str] | None = None, max_traces: int = _MAX_TRACES
) -> CompiledStep[_P, _T]: ...


@overload
def compile(
    fn: None = None, *, passes: Iterable[str] | None = None, max_traces: int = _MAX_TRACES
) -> Callable[[Callable[_P, _T]], CompiledStep[_P, _T]]: ...


def compile(
    fn: Callable[..., Any] | None = None,
    *,
    passes: Iterable[str] | None = None,
    max_traces: int = _MAX_TRACES,
) -> Any:
    """A step that runs without Python from its third call on; see this module's text.

    passes      names those that improve the list (all of `compiling.PASSES` by default)
    max_traces  how many traces are kept; the one that was not used for longest goes first

    Use it as a function, `compile(step)`, or as a decorator, with or without arguments.

    Arguments and results are tensors, or lists, tuples and dicts of them; other arguments are
    constants, and each value of them has a trace of its own. New shapes or dtypes have another
    trace, and so has every change of what the step reads of Python's state (a layer replaced, a
    frozen parameter, train(), eval(), a global name). A RuntimeWarning says so where one reason
    leads to 8 traces.

    Raises ValueError, with the place, where the step looks at a value, changes an argument in
    place, leaves a tensor outside, reads a clock or takes from an iterator; GradientError for an
    argument that requires a gradient.

    >>> w = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.25)
    >>> @wg.compile
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = (w * x).square().sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [step(wg.ones(2)).item() for _ in range(3)]
    [5.0, 1.25, 0.3125]
    """
    if fn is None:
        return functools.partial(compile, passes=passes, max_traces=max_traces)
    return CompiledStep(fn, passes, max_traces)
