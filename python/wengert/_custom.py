"""Ops of one's own: a function, or a class as PyTorch's autograd.Function, with its own gradient.

A call runs the function without recording, and records one line (csrc/ops/custom/custom.h), whose
gradient is what the other function writes. Where that consists of ops, it can be differentiated in
its turn. Several results are parts of one, since a line has one result: they are laid end to end,
in the widest of their dtypes, and taken out again by views.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from . import _core
from ._calls import describe
from ._core import Tensor, is_grad_enabled
from ._trees import flatten, tensors_of, unflatten
from .autograd import enable_grad, no_grad

__all__ = [
    "CustomOp",
    "Function",
    "checkpoint",
    "custom_op",
    "get_include",
    "once_differentiable",
    "saved_tensors_hooks",
]


class _Op(NamedTuple):
    """An op: its number in the core, its name, and what a call costs."""

    number: int
    name: str
    operands: tuple[str, ...]
    cost: Callable[..., Any] | None = None


class _Meta(NamedTuple):
    """What the gradient of an input is held against; `at` is the argument that it was."""

    at: int
    shape: tuple[int, ...]
    dtype: Any
    device: str
    needed: bool


_builtin: frozenset[str] = frozenset()


def _make_op(
    name: str,
    operands: Sequence[str] = (),
    formula: str = "",
    gradient: str | Sequence[str] = (),
    cost: Callable[..., Any] | None = None,
) -> _Op:
    global _builtin
    if not _builtin:
        _builtin = frozenset(op["name"] for op in _core.ops())
    if name in _builtin:
        name += "_"  # its lines are not taken for those of the library's op
    texts = (gradient,) if isinstance(gradient, str) else tuple(gradient)
    number = _core._own_op(name, ", ".join(operands), formula, list(texts))
    return _Op(number, name, tuple(operands), cost)


class _Call:
    """One call of an op: computes the value, and writes the gradients when it is asked.

    backward  (saved tensors, a gradient for each result, self) -> one for each argument
    """

    def __init__(self, op: _Op, args: Sequence[Any], backward: Callable[..., Any]) -> None:
        self.op, self.count, self.backward = op, len(args), backward
        self.inputs = [_meta(at, x) for at, x in enumerate(args) if isinstance(x, Tensor)]
        self.results: list[_Meta | None] = []  # None for what is no tensor
        self.parts: list[_Meta] = []  # the results to which gradients pass
        self.packed = False
        self.saved: list[_Meta | None] = []  # for each saved tensor, the result that it is

    def run(self, args: Sequence[Any], value: Callable[[], Any], marks: Callable[[], Any]) -> Any:
        """value(); its tensors have this call for their history.

        marks  once value() has run: what to save, and results to which no gradient passes
        """
        found: list[Any] = []
        to_save: Sequence[Any] = ()
        constants: Sequence[Any] = ()
        many = False
        recorded = is_grad_enabled() and any(m.needed for m in self.inputs)

        def make() -> tuple[list[Tensor], list[Tensor], bool, bool]:
            nonlocal many, to_save, constants
            result = value()
            many = isinstance(result, (tuple, list))
            found.extend(result if many else [result])
            to_save, constants = marks()
            fixed = {id(x) for x in constants}
            for at, y in enumerate(found):
                if not isinstance(y, Tensor) and not many:
                    raise TypeError(
                        f"{self.op.name}: its value is {describe(y)}; expected a tensor, or a "
                        "tuple of tensors"
                    )
                meta = _meta(at, y) if isinstance(y, Tensor) else None
                self.results.append(meta)
                if meta is not None and y.dtype.is_floating_point and id(y) not in fixed:
                    self.parts.append(meta)
            passing = [found[m.at] for m in self.parts]
            self.packed = recorded and len(self.parts) > 1
            if self.packed:
                wide = max((x.dtype for x in passing), key=lambda dtype: dtype.itemsize)
                passing = [_core.concatenate([x.reshape(-1).to(wide) for x in passing])]
            kept = [x for x in to_save if x is not None]
            for x in kept:
                self.saved.append(next((m for m in self.parts if found[m.at] is x), None))
            outside = [x for x, m in zip(kept, self.saved, strict=True) if m is None]
            rest = [found[m.at] for m in self._rest()]
            return [*passing, *rest], outside, bool(passing), len(outside) < len(kept)

        flops, size = _cost_of(self.op, args)
        tensors = [x for x in args if isinstance(x, Tensor)]
        outputs = _core._call_own(self.op.number, tensors, make, self.gradients, flops, size)
        if recorded and self.parts and (batching := _core._batching()):
            self._run_for_all(batching, args, outputs[0], found, to_save, constants)
        if self.packed:
            outputs[:1] = self._unpack(outputs[0])
        for m, y in zip([*self.parts, *self._rest()], outputs, strict=True):
            found[m.at] = y
        return tuple(found) if many else found[0]

    def _run_for_all(
        self,
        batching: _core._Batching,
        args: Sequence[Any],
        output: Tensor,
        found: Sequence[Any],
        to_save: Sequence[Any],
        constants: Sequence[Any],
    ) -> None:
        """The same call for all examples of a vmap, whose history it is around that; its gradients
        are those of one example, for each."""

        def whole(x: Any) -> Any:
            all_of = batching.all(x) if isinstance(x, Tensor) else None
            return x if all_of is None else all_of

        given = [whole(x) for x in args]
        differ = [a is not b for a, b in zip(args, given, strict=True)]
        if not any(differ) or not any(isinstance(x, Tensor) and x.requires_grad for x in given):
            return
        results = {
            id(y): y.expand((batching.size, *y.shape)).clone() if whole(y) is y else whole(y)
            for y in found
            if isinstance(y, Tensor)
        }
        kept = [results.get(id(x), whole(x)) for x in to_save if x is not None]
        axes = [
            0 if id(x) in results or whole(x) is not x else None for x in to_save if x is not None
        ]
        fixed = [results[id(x)] for x in constants]

        def backward(saved: list[Tensor], grads: list[Any], call: _Call) -> Any:
            from .func import vmap

            places: list[int] = []

            def of_one(saved: list[Tensor], grads: list[Any]) -> list[Tensor]:
                each = self._one_each(self.backward(saved, grads, self))
                places[:] = [at for at, d in enumerate(each) if d is not None]
                return [each[at] for at in places]

            where = (axes, [None if g is None else 0 for g in grads])
            summed = iter(vmap(of_one, where, randomness="different")(saved, grads))
            filled = dict(zip(places, summed, strict=True))
            return [
                d if d is None or differs else d.sum(0)
                for d, differs in ((filled.get(at), of) for at, of in enumerate(differ))
            ]

        call = _Call(self.op, given, backward)
        batching.end()
        try:
            made = call.run(
                given,
                lambda: tuple(results.get(id(y), y) for y in found),
                lambda: (kept, fixed),
            )
            parts = [made[m.at] for m in self.parts]
            if self.packed:
                wide = [y.reshape(batching.size, -1).to(output.dtype) for y in parts]
                parts = [_core.concatenate(wide, 1)]
        finally:
            batching.begin()
        batching.stand_for(output, parts[0])

    def _rest(self) -> list[_Meta]:
        return [m for m in self.results if m is not None and m not in self.parts]

    def _unpack(self, packed: Tensor) -> list[Tensor]:
        parts, start = [], 0
        for m in self.parts:
            size = math.prod(m.shape)
            parts.append(packed[start : start + size].reshape(m.shape).to(m.dtype))
            start += size
        return parts

    # ---- the gradients

    def gradients(self, g: Tensor, saved: list[Tensor], output: Tensor | None) -> list[Any]:
        """As the core asks for them: of each tensor among the arguments."""
        own = self._unpack if self.packed else lambda x: [x]
        results = dict(zip(self.parts, [] if output is None else own(output), strict=False))
        outside = iter(saved)
        values = [next(outside) if m is None else results[m] for m in self.saved]
        passing = dict(zip(self.parts, own(g), strict=True))
        grads = [
            None if m is None else passing[m] if m in passing
            else _core.zeros(m.shape, dtype=m.dtype, device=m.device)
            for m in self.results
        ]  # fmt: skip
        found = self._one_each(self.backward(values, grads, self))
        places = {m.at for m in self.inputs}
        for at, d in enumerate(found):
            if d is not None and at not in places:
                raise _core.GradientError(
                    f"{self.op.name}: the gradient of {self._named(at)} is {describe(d)}, and the "
                    "argument is no tensor; return None there"
                )
        return [self._checked(m, found[m.at], g) for m in self.inputs]

    def _one_each(self, given: Any) -> list[Any]:
        found = list(given) if isinstance(given, (tuple, list)) else [given]
        while len(found) > self.count and found[-1] is None:
            found.pop()
        if len(found) != self.count:
            raise _core.GradientError(
                f"{self.op.name}: its gradient gave {len(found)} values for {self.count} "
                "arguments; return one for each, None for what has none"
            )
        return found

    def _named(self, at: int) -> str:
        names = self.op.operands
        return f"argument {at}" + (f" ({names[at]})" if at < len(names) else "")

    def _checked(self, m: _Meta, d: Any, g: Tensor) -> Tensor | None:
        what = f"{self.op.name}: the gradient of {self._named(m.at)}"
        if d is None:
            return None
        if not isinstance(d, Tensor):
            raise TypeError(f"{what} is {describe(d)}; return a tensor, or None for zero")
        if not m.needed:
            return None
        if d.shape != m.shape:
            raise _core.ShapeError(
                f"{what} has shape {d.shape}, and the argument {m.shape}; they must be equal: sum "
                "over the axes along which the argument was broadcast"
            )
        if not d.dtype.is_floating_point:
            raise _core.DTypeError(
                f"{what} has dtype {d.dtype.name}, and the argument {m.dtype.name}; return "
                f'.to("{m.dtype.name}") of it'
            )
        if d.device != m.device:
            raise _core.DeviceError(
                f'{what} is on {d.device}, and the argument on {m.device}; return .to("{m.device}")'
                " of it"
            )
        if is_grad_enabled() and g.requires_grad and not d.requires_grad and not _is_zero(d):
            raise _core.GradientError(
                f"{what} has no history, so there is no gradient of it (create_graph): write it "
                "with ops, of what was saved, or mark backward with @once_differentiable"
            )
        return d


class _BatchInfo(NamedTuple):
    """What a batching rule is told of the vmap around it."""

    batch_size: int
    randomness: str


def _for_all(rule: Callable[..., Any] | None, name: str, args: Sequence[Any]) -> Any:
    """What the batching rule says of the arguments of all examples, as the result of one; None
    without a rule, and where the arguments are those of one."""
    batching = _core._batching() if rule else None
    if rule is None or batching is None:
        return None
    all_of = [batching.all(x) if isinstance(x, Tensor) else None for x in args]
    axes = tuple(None if x is None else 0 for x in all_of)
    if not any(axis == 0 for axis in axes):
        return None
    given = [x if whole is None else whole for x, whole in zip(args, all_of, strict=True)]
    batching.end()
    try:
        info = _BatchInfo(batching.size, batching.randomness)
        made = rule(info, axes, *given)
    finally:
        batching.begin()
    if not isinstance(made, tuple) or len(made) != 2:
        raise TypeError(
            f"{name}: its batching rule returned {describe(made)}; expected (result, axes)"
        )
    many = isinstance(made[0], (tuple, list))
    results = tuple(made[0]) if many else (made[0],)
    where = made[1] if isinstance(made[1], (tuple, list)) else (made[1],) * len(results)
    found = []
    for y, axis in zip(results, where, strict=True):
        whole = y if axis is None else y.movedim(axis, 0).contiguous()
        if axis is not None and whole.shape[0] != batching.size:
            raise _core.ShapeError(
                f"{name}: its batching rule returned shape {y.shape} with the examples along axis "
                f"{axis}, and there are {batching.size} examples"
            )
        found.append(whole if axis is None else batching.one(whole, False))
    return tuple(found) if many else found[0]


def _meta(at: int, x: Tensor) -> _Meta:
    return _Meta(at, x.shape, x.dtype, x.device, x.requires_grad)


def _is_zero(x: Tensor) -> bool:
    return not _core._is_tracing() and not bool((x != 0).any())


def _cost_of(op: _Op, args: Sequence[Any]) -> tuple[float, float]:
    if op.cost is None:
        return 0.0, 0.0
    given = op.cost(*args)
    flops, size = given if isinstance(given, tuple) else (given, 0.0)
    return float(flops), float(size)


# ---- PyTorch's spelling


class _Context:
    """What forward leaves for backward: attributes of any name, and saved tensors."""

    __slots__ = ("__dict__", "_saved")
    _saved: tuple[Tensor | None, ...]

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._to_save: tuple[Any, ...] = ()
        self._constants: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for backward, which raises where one of them was changed in place since.

        Inputs and results keep their history, so that the gradient has a gradient.
        """
        for x in tensors:
            if x is not None and not isinstance(x, Tensor):
                raise TypeError(
                    f"save_for_backward: got {describe(x)}; it keeps tensors: set an attribute "
                    "of ctx for anything else"
                )
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """In backward, what save_for_backward() kept."""
        try:
            return self._saved
        except AttributeError:
            raise _core.GradientError(
                "saved_tensors: they are there while backward runs, and not before or after"
            ) from None

    def mark_non_differentiable(self, *results: Tensor) -> None:
        """No gradient passes to these results of forward."""
        self._constants = results

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Refused: an input stays as it is."""
        raise _core.GradientError(
            "mark_dirty: forward may not change its inputs in place; return a new tensor"
        )

    def set_materialize_grads(self, value: bool) -> None:
        """Results that were not used have gradients of zeros; anything else is an error."""
        if not value:
            raise ValueError(
                "set_materialize_grads: False is not supported: the gradient of a "
                "result that was not used is zeros, not None"
            )

    def _for_backward(self, saved: list[Tensor]) -> _Context:
        """The same attributes, with the saved tensors, for one call."""
        other = object.__new__(_Context)
        other.__dict__ = self.__dict__
        kept = iter(saved)
        other._saved = tuple(next(kept) if there else None for there in self._to_save)
        return other


class Function:
    """An op of one's own in PyTorch's spelling: derive, write forward and backward, call apply().

        class Cube(wengert.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x * x

            @staticmethod
            def backward(ctx, g):
                (x,) = ctx.saved_tensors
                return 3 * x * x * g

        y = Cube.apply(x)

    forward(ctx, *args)    a tensor or a tuple; it is not recorded. Or forward(*args) with
                           setup_context(ctx, inputs, output)
    backward(ctx, *grads)  from a gradient for each result (zeros where it was not used), one for
                           each argument: None for what is no tensor or has none
    vmap(info, in_axes, *args)
                           where forward does not consist of ops: what wengert.vmap calls in its
                           place, with setup_context; see custom_op's `batch`
    operands, formula, gradient
                           class attributes for listings: names of the arguments, and texts

    As torch.autograd.Function, but: forward may not change its inputs (mark_dirty raises), and a
    gradient must have its argument's shape. Errors name the class and the argument.
    """

    operands: ClassVar[Sequence[str]] = ()
    formula: ClassVar[str] = ""
    gradient: ClassVar[str | Sequence[str]] = ()
    _op: ClassVar[Any] = None

    def __init__(self) -> None:
        """Refused: it is called by apply()."""
        name = type(self).__name__
        raise TypeError(f"{name}: is not made; call {name}.apply(...)")

    @staticmethod
    def forward(*args: Any) -> Any:
        """The value."""
        raise NotImplementedError("Function: write forward(ctx, ...), a staticmethod")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """What backward needs of the inputs and the output, where forward takes no ctx."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """The gradients of the arguments."""
        raise NotImplementedError("Function: write backward(ctx, *grads), a staticmethod")

    @staticmethod
    def vmap(info: Any, in_axes: tuple[int | None, ...], *args: Any) -> Any:
        """forward on the arguments of many examples, for wengert.vmap; see custom_op's `batch`."""
        raise NotImplementedError("Function: write vmap(info, in_axes, *args), a staticmethod")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """forward, with one line for its history."""
        if cls.__dict__.get("_op") is None:
            cls._op = _make_op(cls.__name__, cls.operands, cls.formula, cls.gradient)
        ctx = _Context(tuple(isinstance(x, Tensor) and x.requires_grad for x in args))
        separate = cls.setup_context is not Function.setup_context

        rule = None if cls.vmap is Function.vmap else cls.vmap

        def value() -> Any:
            if not separate:
                if rule and _core._batching():
                    raise TypeError(
                        f"{cls.__name__}: vmap goes with forward(*args) and setup_context(ctx, "
                        "inputs, output), so that forward needs no ctx"
                    )
                return cls.forward(ctx, *args)
            output = _for_all(rule, cls.__name__, args)
            if output is None:
                output = cls.forward(*args)
            cls.setup_context(ctx, args, output)
            return output

        def marks() -> tuple[Any, Any]:
            saved, constants = ctx._to_save, ctx._constants
            ctx._to_save = tuple(x is not None for x in saved)  # the line keeps them
            ctx._constants = ()
            return saved, constants

        def backward(saved: list[Tensor], grads: list[Any], call: _Call) -> Any:
            return cls.backward(ctx._for_backward(saved), *grads)

        return _Call(cls._op, args, backward).run(args, value, marks)


class _Once(Function):
    """A gradient that cannot be differentiated, beside what it was computed from."""

    @staticmethod
    def forward(ctx: Any, name: str, given: Tensor, *of: Tensor) -> Tensor:
        ctx.name = name
        return given

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _core.GradientError(
            f"{ctx.name}: its gradient has no gradient (@once_differentiable); write backward with "
            "ops, and without that mark"
        )


_Once.__name__ = "once_differentiable"  # in listings


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a backward that may use NumPy: its gradient is computed unrecorded, and asking for the
    gradient of that is a GradientError.
    """

    @functools.wraps(backward)
    def wrapper(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            found = backward(ctx, *grads)
        of = [x for x in (*grads, *ctx.saved_tensors) if isinstance(x, Tensor) and x.requires_grad]
        if not is_grad_enabled() or not of:
            return found
        name = backward.__qualname__.rpartition(".")[0] or backward.__qualname__
        many = isinstance(found, (tuple, list))
        marked = [
            _Once.apply(name, d, *of) if isinstance(d, Tensor) else d
            for d in (found if many else [found])
        ]
        return tuple(marked) if many else marked[0]

    return wrapper


# ---- a function and its gradient


class CustomOp:
    """What custom_op() makes: called like the function that it was made of."""

    def __init__(
        self,
        value: Callable[..., Any],
        vjp: Callable[..., Any],
        op: _Op,
        batch: Callable[..., Any] | None = None,
    ) -> None:
        """See custom_op."""
        functools.update_wrapper(self, value)
        self.value, self.vjp, self._op, self.batch = value, vjp, op, batch

    def __call__(self, *args: Any) -> Any:
        """The value, with one line for its history."""
        made: list[Any] = []
        given: list[Any] = list(args)  # until marks(): then the line keeps the tensors
        vjp = self.vjp

        def value() -> Any:
            result = _for_all(self.batch, self._op.name, args)
            made.append(self.value(*args) if result is None else result)
            return made[0]

        def marks() -> tuple[Any, Any]:
            tensors: list[Tensor] = []
            made[:] = [flatten(tuple(given), tensors), flatten(made[0], tensors)]
            given.clear()
            return tensors, ()

        def backward(saved: list[Tensor], grads: list[Any], call: _Call) -> Any:
            arguments, result = (unflatten(form, saved) for form in made)
            return vjp(tuple(grads) if isinstance(result, tuple) else grads[0], result, *arguments)

        return _Call(self._op, args, backward).run(args, value, marks)


def custom_op(
    value: Any = None,
    vjp: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    operands: Sequence[str] | None = None,
    formula: str = "",
    gradient: str | Sequence[str] = (),
    cost: Callable[..., Any] | None = None,
    batch: Callable[..., Any] | None = None,
) -> Any:
    """An op of one's own: a function with a gradient of its own.

        @wengert.custom_op(vjp=lambda g, y, x: 3 * x * x * g, formula="x ** 3", gradient="3 x^2 g")
        def cube(x):
            return x * x * x

    value     takes tensors and constants, returns a tensor or a tuple of them; nothing in it is
              recorded. Or a class with `value`, `vjp`, and the rest as attributes. Or, alone, the
              capsule of an op in C++ (wengert/op.h in get_include(); examples/custom_op/)
    vjp       vjp(g, y, *arguments): from the gradient of the result y, one gradient for each
              argument, None for a constant. Of a tuple, g and y are tuples
    name      for listings and errors; the function's unless given
    operands  the arguments' names for the texts; the function's unless given
    formula, gradient  texts for listings: the value, and the gradient of each operand
    cost      cost(*arguments): the operations of a call, or (operations, bytes)
    batch     for wengert.vmap, where value does not consist of ops. batch(info, in_axes,
              *arguments) takes the arguments of info.batch_size examples, along axis in_axes[i] of
              argument i (None: all examples share it), and returns (result, axis), or two tuples.
              As torch.autograd.Function.vmap

    A call is one line in a graph and in a study; a compiled step lists the ops that value and vjp
    consist of, and refuses what looks at values. Where vjp consists of ops, it has a gradient.
    Arguments and result are saved; one that is changed in place before backward() is an error. Also
    errors: a gradient of another shape than its argument, a wrong number of them, and functions
    that change what they are given.
    """
    if type(value).__name__ == "PyCapsule":
        return _core._native_op(value)
    if isinstance(value, type):
        of = value
        value, vjp = getattr(of, "value", None), getattr(of, "vjp", vjp)
        name = name or getattr(of, "name", of.__name__)
        operands = getattr(of, "operands", operands)
        formula, gradient = getattr(of, "formula", formula), getattr(of, "gradient", gradient)
        cost, batch = getattr(of, "cost", cost), getattr(of, "batch", batch)
    elif value is None:
        return functools.partial(
            custom_op, vjp=vjp, name=name, operands=operands, formula=formula, gradient=gradient,
            cost=cost, batch=batch,
        )  # fmt: skip
    if not callable(value):
        raise TypeError(f"custom_op: value is {describe(value)}; expected a function")
    if not callable(vjp):
        raise TypeError(f"custom_op: vjp is {describe(vjp)}; expected a function")
    if operands is None:
        operands = [*inspect.signature(value).parameters]
    op = _make_op(name or value.__name__, operands, formula, gradient, cost)
    return CustomOp(value, vjp, op, batch)


def get_include() -> str:
    """The directory of the header wengert/op.h, for extension modules with ops of their own."""
    return str(Path(__file__).parent / "include")


# ---- recomputation


@functools.cache
def _recomputed() -> _Op:
    return _make_op("checkpoint", ["x"], "a function of x, run again in backward")


def _sums(values: list[Tensor]) -> list[Tensor]:
    """By which values are told apart: sums have the same bits each time."""
    with no_grad():
        return [y.sum() for y in values]


def checkpoint(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """fn(*args, **kwargs), without what its lines save for backward(): it is run again there.

    Takes the memory of fn's results and arguments, and the time of fn once more. The result is a
    tensor, or a list, tuple or dict of such; parameters that fn uses have their gradients, random
    numbers are those of the first run, calls may be nested, and gradients have gradients
    (create_graph). The second run does all that fn does besides computing: running statistics of
    layers are updated twice. As torch.utils.checkpoint. (Chen et al. 2016, "Training deep nets with
    sublinear memory cost".)

    A compiled step, and a study, have fn's own lines: a compiled step plans its memory as a whole.

    Raises GradientError in backward() where an argument or a parameter was changed in place since,
    or fn used other tensors in its second run or returned other values, ShapeError where these have
    other shapes.

    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> wg.checkpoint(lambda x: wg.exp(x) * 2, x).sum().backward()
    >>> x.grad.shape
    (2,)
    """
    if not is_grad_enabled() or _core._is_tracing():
        return fn(*args, **kwargs)
    since = _core._next_line()
    result, states = _core._with_draws(lambda: fn(*args, **kwargs))
    outputs: list[Tensor] = []
    form = flatten(result, outputs)
    del result
    sums = _sums(outputs)
    passing = [y for y in outputs if y.requires_grad]
    sources = _core._sources(passing, since)
    if not sources:
        return unflatten(form, outputs)
    given = [x for x in tensors_of((args, kwargs)) if all(x is not s for s in sources)]
    constants = [y for y in outputs if not y.requires_grad]

    def backward(saved: list[Tensor], grads: list[Any], call: _Call) -> Any:
        create_graph = is_grad_enabled()
        now = [state.clone() for state, _ in states]
        again: list[Tensor] = []
        since = _core._next_line()
        with enable_grad():
            try:
                for state, before in states:
                    state.copy_(before)
                flatten(fn(*args, **kwargs), again)
            finally:
                for (state, _), former in zip(states, now, strict=True):
                    state.copy_(former)
        for i, m in enumerate(call.results):
            there = i < len(again) and m is not None and again[i].shape == m.shape
            if not there or len(again) != len(call.results):
                raise _core.ShapeError(
                    "checkpoint: the function, run again for the gradient, returned other shapes "
                    "than at first; let it depend on its arguments alone"
                )
        used = [y for y, m in zip(again, call.results, strict=True) if m in call.parts]
        of = [g for g, m in zip(grads, call.results, strict=True) if m in call.parts]
        found = _core._gradients_since(used, sources, of, since, create_graph)
        for first, second in zip(sums, _sums(again), strict=True):
            if repr(first.item()) != repr(second.item()):  # NaN is NaN
                raise _core.GradientError(
                    "checkpoint: the function, run again for the gradient, returned other values "
                    "than at first; let it depend on its arguments alone, and on nothing that has "
                    "changed since"
                )
        return found

    def value() -> tuple[Tensor, ...]:
        made = tuple(outputs)
        outputs.clear()
        return made

    def marks() -> tuple[Any, Any]:
        kept = [s for s in sources if s.is_leaf] + given
        fixed, constants[:] = list(constants), []
        return kept, fixed

    call = _Call(_recomputed(), sources, backward)
    return unflatten(form, list(call.run(sources, value, marks)))


# ---- what lines save


class saved_tensors_hooks(_core._SavedHooks):  # noqa: N801 - PyTorch's name
    """Inside, what a line saves for backward() is pack(tensor), and unpack(that) when it is needed.

        with wengert.autograd.saved_tensors_hooks(lambda x: x.cpu(), lambda x: x.to("cuda")):
            loss = model(x)

    pack      takes a tensor without history, which it may not change; returns any object
    unpack    returns a tensor of the same shape, dtype and device; called once for what a line
              saved, however often the line is walked
    Leaves, such as parameters, are saved as they are. Of nested hooks the innermost count. As
    torch.autograd.graph.saved_tensors_hooks.

    Raises TypeError and GradientError in backward() for what unpack should not return.
    """

    def __init__(self, pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> None:
        """Two functions."""
        for name, f in (("pack", pack), ("unpack", unpack)):
            if not callable(f):
                raise TypeError(
                    f"saved_tensors_hooks: {name} is {describe(f)}; expected a function"
                )
        super().__init__((pack, unpack))
