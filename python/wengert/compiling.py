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
dtypes and other arguments is traced: the function is called, but its operations are only written
down, then run. Later ones replay the same kernels in the same order on the same memory, so the
results have the same bits. A function that raises while it is traced has changed no tensor.

A trace is improved by passes (csrc/README.md describes each) and its memory planned once into one
block; both leave every bit of the results as it was. `step.program.before` is the list as traced.

On a GPU the list is put down once, as one CUDA graph or, for small networks, as a loop inside one
kernel, and `run` launches any number of steps without waiting between them; `step.program.replay`
says which it is, and if neither, why. The passes "graph" and "persistent" stand for these two; only
inside one kernel may small matrix products differ from eager's, by rounding.

A replay overwrites the gradients and values that the trace made; what a step returns is a copy. A
step may not look at values (`if loss > 1:`, `.item()`, `.numpy()`, boolean masks), change its
arguments in place, or leave a tensor that it makes in a list or an attribute: each is an error.
Python numbers that it uses are those of the trace: keep what changes in tensors or arguments.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from . import _core
from ._core import Tensor, concatenate, is_grad_enabled, stack
from ._trees import flatten, unflatten

__all__ = ["PASSES", "CompiledStep", "Listing", "compile"]

PASSES: tuple[str, ...] = tuple(_core._pass_names())

_structure = (
    0  # counts changes of modules: layers replaced, parameters replaced, train() and eval()
)


def note_structure() -> None:
    """Told by nn.Module that a module has changed: steps traced before are traced again."""
    global _structure
    _structure += 1


class _Traced(NamedTuple):
    """A program, the form of what it returns, and whether it takes tensors one after another."""

    program: _core._Program
    results: Any
    plain: bool
    grad_enabled: bool


class CompiledStep:
    """What `wengert.compile` makes of a function. Not for two threads at once: that is an error.

    traces   how many traces were made
    program  the list of the last one, printable; None before
    passes   those that improve it
    """

    def __init__(self, fn: Callable[..., Any], passes: Iterable[str] | None = None) -> None:
        """`fn` takes and returns tensors, or lists, tuples and dicts of them, and constants."""
        functools.update_wrapper(self, fn)
        self._fn = fn
        self.passes = PASSES if passes is None else tuple(passes)
        for name in self.passes:
            if name not in PASSES:
                raise ValueError(f"compile: no pass {name!r}; there are {', '.join(PASSES)}")
        self._escaped: set[Any] = set()  # keys whose trace left a tensor outside, once
        self._cache: dict[Any, _Traced] = {}
        self._last: _Traced | None = None
        self._warm = False
        self._structure = -1
        self.traces = 0
        self.program: Listing | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One step."""
        last = self._last
        if last and last.plain and not kwargs and self._structure == _structure:
            values = last.program.try_run(args) if last.grad_enabled == is_grad_enabled() else None
            if values is not None:
                return unflatten(last.results, values)
        if _core._is_tracing():  # inside another step, of whose list it becomes a part
            return self._fn(*args, **kwargs)
        tensors: list[Tensor] = []
        spec = flatten((args, kwargs), tensors)
        traced = self._find(spec, tensors)
        if traced is None:
            return self._run_and_trace(spec, tensors, args, kwargs)
        self._last = traced
        return unflatten(traced.results, traced.program.run(tensors))

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
        for at in range(n):
            parts = [x[at] for x in tensors]
            traced = None if _core._is_tracing() else self._find(spec, parts)
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

    def _key(self, spec: Any, tensors: list[Tensor]) -> Any:
        return spec, tuple((x.shape, x.dtype, x.device) for x in tensors), is_grad_enabled()

    def _find(self, spec: Any, tensors: list[Tensor]) -> _Traced | None:
        if self._structure != _structure:
            self._cache.clear()
            self._last = None
            self._structure = _structure
        try:
            traced = self._cache.get(self._key(spec, tensors))
        except TypeError as error:
            raise TypeError(
                f"compile: every argument must be a tensor or hashable, a constant ({error})"
            ) from None
        return traced if traced is not None and traced.program.fits() else None

    def _run_and_trace(self, spec: Any, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        for i, x in enumerate(tensors):
            if x.requires_grad:
                raise _core.GradientError(
                    f"compile: tensor {i} among the arguments requires a gradient, which cannot "
                    "pass out of a compiled step; detach() it, or let the step use it from outside"
                )
        if not self._warm:
            self._warm = True
            returned: list[Tensor] = []
            results = flatten(self._fn(*args, **kwargs), returned)
            return unflatten(results, [y.detach() for y in returned])
        program = _core._Program(tensors)
        program.begin()
        try:
            own_args, own_kwargs = unflatten(spec, program.arguments)
            returned = []
            results = flatten(self._fn(*own_args, **own_kwargs), returned)
        except BaseException:
            program.end()
            program.abandon(tensors)  # nothing has run: all outside is as before the step
            raise
        program.end()
        values = [y.detach() for y in returned]
        returned.clear()
        program.finish(values)
        values.clear()
        key = self._key(spec, tensors)
        if self._left_outside(program, key, tensors):
            program.improve([])  # every line in its place, so what is outside gets its values
            return unflatten(results, program.run(tensors))
        program.improve(list(self.passes))
        for other in self._cache.values():
            program.share_memory(other.program)
        copies = program.run(tensors)
        plain = not kwargs and all(isinstance(x, Tensor) for x in args)
        self._last = _Traced(program, results, plain, is_grad_enabled())
        self._cache[key] = self._last
        self.traces += 1
        self.program = Listing(program)
        return unflatten(results, copies)

    def _left_outside(self, program: _core._Program, key: Any, tensors: list[Tensor]) -> bool:
        """Whether something outside holds a tensor of the step: once it may, to make its state."""
        if not program.escaped():
            return False
        gc.collect()  # a cycle may hold it
        where = program.escaped()
        if not where:
            return False
        if key not in self._escaped:
            self._escaped.add(key)
            return True
        program.abandon(tensors)
        raise ValueError(
            f"compile: the result of {where}, is kept outside the step, in a list or an attribute "
            "perhaps, where later steps would not change it. Return it from the step instead"
        )


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

    def __str__(self) -> str:
        """One line for each line of the list, those of a fused line's body under it."""
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
        rows = [head, f"{'':4}  {'':90}  {'FLOP':>12}  {'bytes':>12}"]
        for number, line in enumerate(self.lines, 1):
            made, where = _written(line), line["place"] or ""
            rows.append(
                f"{number:4}  {made:90}  {line['flops']:12,.0f}  {line['bytes']:12,.0f}  {where}"
            )
            rows += [f"        {_written(part)}" for part in line["body"]]
        return "\n".join(rows)


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


def compile(fn: Callable[..., Any] | None = None, *, passes: Iterable[str] | None = None) -> Any:
    """A step that runs without Python from its third call on; see this module's text.

    `passes` names those that improve the list (all of `compiling.PASSES` by default). Use it as a
    function, `compile(step)`, or as a decorator, with or without arguments.

    Arguments and results are tensors, or lists, tuples and dicts of them; other arguments are
    constants, and each value of them has a trace of its own. New shapes or dtypes are traced anew;
    so is everything after a module has changed (a layer replaced, train(), eval()).

    Raises ValueError, with the place, where the step looks at a value, changes an argument in
    place, or leaves a tensor outside; GradientError for an argument that requires a gradient.
    """
    if fn is None:
        return functools.partial(compile, passes=passes)
    return CompiledStep(fn, passes)
