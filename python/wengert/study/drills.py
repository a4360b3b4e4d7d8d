"""Fault drills: `wengert study --drill` plants one wrong vjp, or breaks a model, and lets the
reader find the line, with hints. The same faults, and systematic ones (`mutants`), show that
program.check() finds what is wrong.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import wengert
from wengert._core import Tensor

from .list import Line, StudyError
from .program import Program
from .run import Run
from .terminal import Prompt, Session
from .tracing import trace


@dataclass
class Drill:
    """A program with one fault. `lines` are the right answers; `hints` lead there, one by one."""

    name: str
    story: str
    program: Program
    lines: list[int]
    hints: list[str]
    reason: str


# The model, as a script of its own: its names and lines are what the reader sees.
_SOURCE = """\
def step(w1, b1, w2, b2, w3, b3, x, y):
    h = wengert.sigmoid(x @ w1 + b1)
    {middle}
    k = wengert.relu(h @ w2 + b2) + h  # h has two consumers
    z = k @ w3 + b3
    loss = {loss}
    loss.backward()
    return loss
"""
_LOSSES = {
    "bce": "wengert.binary_cross_entropy_with_logits(z, y)",
    "mse": "wengert.mse_loss(wengert.tanh(z), y)",
    "softmax": "-(wengert.softmax(z.reshape((2, 4)), 1) * y.reshape((2, 4))).sum()",
}


def sound(kind: str = "bce", middle: str = "pass") -> Program:
    """The traced step of a 4-4-4-1 network on eight samples, with nothing planted."""
    rng = np.random.default_rng(3)

    def leaf(*shape: int) -> Tensor:
        return wengert.tensor(0.7 * rng.standard_normal(shape), requires_grad=True)

    weights = [leaf(4, 4), leaf(4), leaf(4, 4), leaf(4), leaf(4, 1), leaf(1)]
    x = wengert.tensor(rng.standard_normal((8, 4)))
    y = wengert.tensor((rng.random((8, 1)) > 0.5).astype(np.float64))
    source = _SOURCE.format(middle=middle, loss=_LOSSES[kind])
    linecache.cache["drill.py"] = (len(source), None, source.splitlines(True), "drill.py")
    scope: dict[str, Any] = {"wengert": wengert}
    exec(compile(source, "drill.py", "exec"), scope)
    return trace(scope["step"])(*weights, x, y)


def _find(program: Program, op: str, phase: str = "backward", nth: int = 0) -> Line:
    found = [x for x in program.lines if x.op == op and x.phase == phase]
    if nth >= len(found):
        raise StudyError(f"study: the drill's list has no {op!r} number {nth + 1}")
    return found[nth]


def _planted(
    name: str,
    story: str,
    op: str,
    instead: str,
    reason: str,
    kind: str = "bce",
    nth: int = 0,
    operands: int | None = None,
) -> Callable[[], Drill]:
    def make() -> Drill:
        right = sound(kind)
        line = _find(right, op, nth=nth)
        inputs = line.inputs if operands is None else line.inputs[:operands]
        program = right.with_fault(line.number, instead, inputs)
        hints = [
            "Run check: which vjp disagrees, and which gradients does it spoil?",
            "The lines beside the vjp that disagrees are few: compare each with the formula above "
            "them.",
            f"It is a line that should say '{op}'.",
        ]
        if line.answer is not None:
            asked = right.answers[line.answer].line
            hints.insert(1, f"It stands beside forward line {asked}.")
        return Drill(name, story, program, [line.number], hints, reason)

    return make


def _transpose() -> Drill:
    right = sound()
    # dh = d(h @ w2) @ w2.T: w2 is square, so that a missing transpose has the right shape.
    weights = right.value("w2").number
    line = next(
        x
        for x in right.lines
        if x.op == "matmul" and x.phase == "backward" and right.value("w2.T").number in x.inputs
    )
    program = right.with_fault(line.number, "matmul", [line.inputs[0], weights])
    return Drill(
        "transpose",
        "Training crawls, although every shape fits. One gradient is wrong.",
        program,
        [line.number],
        [
            "Run check: which vjp disagrees?",
            "Square matrices forgive a missing transpose; their gradients do not.",
            "da = g @ transpose(b): which product lacks it?",
        ],
        "the gradient of a product with w2 needs transpose(w2), not w2",
    )


def _broken(
    name: str,
    story: str,
    middle: str,
    answer: Callable[[Program], list[int]],
    hints: list[str],
    reason: str,
) -> Callable[[], Drill]:
    def make() -> Drill:
        program = sound(middle=middle)
        return Drill(name, story, program, answer(program), hints, reason)

    return make


def _readers_of_h(program: Program) -> list[int]:
    """The sigmoid, whose gradient is lost, and the lines that read what was cut off."""
    h = _find(program, "sigmoid", "forward")
    return [h.number] + [x.number for x in program.lines if h.output in x.inputs and not x.edited]


DRILLS: dict[str, Callable[[], Drill]] = {
    "sign": _planted(
        "sign",
        "The loss rises. Somewhere a difference has become a sum.",
        "sub",
        "add",
        "the gradient of the cross-entropy is sigmoid(z) - y",
    ),
    "slope": _planted(
        "slope",
        "The first layer learns, but not what it should.",
        "sigmoid_vjp",
        "tanh_vjp",
        "the slope of a sigmoid is y * (1 - y); 1 - y * y is that of tanh",
    ),
    "gate": _planted(
        "gate",
        "Units that are switched off receive gradients.",
        "relu_vjp",
        "add",
        "relu passes the gradient where its output is above 0, and nothing elsewhere",
    ),
    "batch-sum": _planted(
        "batch-sum",
        "A bias was broadcast over the batch; its gradient comes out too small.",
        "sum",
        "mean",
        "what was broadcast over an axis has the sum over that axis as its gradient, not the mean",
    ),
    "largest": _planted(
        "largest",
        "A bias follows a single sample of the batch.",
        "sum",
        "max",
        "what was broadcast over an axis has the sum over that axis as its gradient",
        nth=1,
    ),
    "average": _planted(
        "average",
        "With larger batches the steps become larger.",
        "div",
        "mul",
        "a mean over n elements gives each of them 1/n of the gradient",
    ),
    "factor": _planted(
        "factor",
        "The steps are half as large as the formula says.",
        "square_vjp",
        "mul",
        "the gradient of x * x is 2 * g * x",
        kind="mse",
    ),
    "missing-term": _planted(
        "missing-term",
        "The class probabilities no longer add up after training.",
        "softmax_vjp",
        "mul",
        "softmax's vjp is y * (g - sum(g * y)); g * y alone forgets that the outputs are coupled",
        kind="softmax",
    ),
    "forgotten-consumer": _planted(
        "forgotten-consumer",
        "h is used twice, and one of its consumers is never heard.",
        "add",
        "copy",
        "a value with several consumers has the sum of their contributions as its gradient",
        operands=1,
    ),
    "cancelled-consumer": _planted(
        "cancelled-consumer",
        "h is used twice, and its consumers work against each other.",
        "add",
        "sub",
        "contributions are added, never subtracted",
    ),
    "transpose": _transpose,
    "detach": _broken(
        "detach",
        "The second layer learns; the first one has no gradient at all.",
        "h = h.detach()",
        _readers_of_h,
        [
            "Run check: for which parameters do the differences see a slope, and no gradient came?",
            "Which forward line is the last to stand alone, with nothing beside it?",
            "A detached tensor is the same memory without history.",
        ],
        "h.detach() cut the way back from the second layer to the first",
    ),
    "half-detach": _broken(
        "half-detach",
        "All parameters have gradients; those of the first layer are too small.",
        "h = h + 0.5 * h.detach()",
        lambda p: [_find(p, "mul", "forward").number, _find(p, "sigmoid", "forward").number],
        [
            "Run check: every vjp is right. Which gradients are not?",
            "So a way from the first layer to the loss exists that no gradient came back on.",
            "Which forward line reads h and has nothing beside it?",
        ],
        "0.5 * h.detach() counts in the forward pass and not in the backward pass",
    ),
    "no-grad": _broken(
        "no-grad",
        "A block of the model was written under no_grad, for speed.",
        "with wengert.no_grad(): h = h * 2.0",
        lambda p: [_find(p, "mul", "forward").number, _find(p, "sigmoid", "forward").number],
        [
            "Run check: which parameters have no gradient?",
            "A line that ran under no_grad has nothing beside it.",
        ],
        "h * 2.0 under no_grad was not recorded, so nothing flows back through it",
    ),
    "in-place": _broken(
        "in-place",
        "The loss is right, and every gradient of the first layer is off by the same factor.",
        "h = h + 0.25\n    with wengert.no_grad(): h.mul_(3.0)",
        lambda p: [x.number for x in p.lines if x.edited and x.phase == "forward"],
        [
            "Run check: every vjp is right. Which gradients are not, and by what factor?",
            "Look for <- in the forward column: an edit in place.",
        ],
        "an edit in place under no_grad changed the values, and the history knows nothing of it",
    ),
}


def drill(name: str) -> Drill:
    """The drill of that name; StudyError lists them where there is none."""
    if name not in DRILLS:
        raise StudyError(f"study: no drill {name!r}; there are {', '.join(DRILLS)}")
    return DRILLS[name]()


# Ops that could stand in a line's place by mistake.
_INSTEAD = {
    1: ("neg", "copy", "abs", "square", "sum", "mean", "max"),
    2: ("add", "sub", "mul", "div", "maximum", "tanh_vjp", "sigmoid_vjp", "relu_vjp", "square_vjp"),
}


def mutants(program: Program) -> Iterator[Program]:
    """The program with one backward line changed, for every line and every change that fits.

    A change is another op, the operands the other way round, or one operand alone. Changes that
    leave the line's result as it is, at these values, are passed over: nothing is wrong with them.
    """
    for line in program.lines:
        if line.phase != "backward" or line.view or line.output is None or not line.inputs:
            continue
        reference: np.ndarray | None = None
        candidates = [(op, line.inputs) for op in _INSTEAD.get(len(line.inputs), ())]
        if len(line.inputs) == 2:
            candidates.append((line.op, line.inputs[::-1]))
            candidates += [("copy", [v]) for v in line.inputs]
            candidates += [("neg", [v]) for v in line.inputs[:1]]
        for op, inputs in candidates:
            if (op, inputs) == (line.op, line.inputs):
                continue
            try:
                wrong = program.with_fault(line.number, op, inputs)
            except ValueError:  # of another shape or dtype
                continue
            if reference is None:
                run = Run(program, wide=True)
                run.to(line.number)
                reference = run.array(line.output)
            run = Run(wrong, wide=True)
            with np.errstate(all="ignore"):
                run.to(line.number)
            if np.allclose(run.array(line.output), reference, rtol=1e-5, atol=0, equal_nan=True):
                continue
            yield wrong


# ---- in the terminal

_HELP = "a line number, or: hint, list, check, step (the stepper), answer, q"


class Asking(Prompt):
    """Which line is wrong? `found` tells whether the reader said it."""

    prompt = "(drill) "

    def __init__(self, d: Drill) -> None:
        """The drill's hints are given one at a time."""
        super().__init__()
        self.drill, self.hints, self.found = d, iter(d.hints), False

    def do_hint(self, _: str) -> None:
        """the next hint"""
        print(next(self.hints, "There are no more hints."))

    def do_list(self, _: str) -> None:
        """the whole list"""
        print(self.drill.program.listing())

    def do_check(self, _: str) -> None:
        """every vjp against differences"""
        print(self.drill.program.check())

    def do_step(self, _: str) -> None:
        """the stepper"""
        Session(self.drill.program).run()

    def do_answer(self, _: str) -> bool:
        """the answer; ends the drill"""
        print(f"Line {' or '.join(map(str, self.drill.lines))}: {self.drill.reason}.")
        return True

    def do_help(self, _: str) -> None:
        """what can be typed"""
        print(_HELP)

    def emptyline(self) -> bool:
        """Nothing."""
        return False

    def default(self, line: str) -> None:
        """A line's number."""
        if not line.isdigit():
            print(_HELP)
        elif int(line) not in self.drill.lines:
            print(f"Line {line} does what it says. hint helps.")
        else:
            print(f"Right: {self.drill.reason}.")
            self.found = True

    def postcmd(self, stop: bool, line: str) -> bool:
        """The right line ends it."""
        return stop or self.found


def run_drill(name: str) -> int:
    """One drill with the reader; 0 where the line was found or the list of drills was wanted."""
    if not name:
        print("wengert study --drill NAME, with one of\n")
        for each, make in DRILLS.items():
            print(f"  {each:20} {make().story}")
        return 0
    asking = Asking(drill(name))
    print(asking.drill.program.listing())
    print(f"\n{asking.drill.story}\nWhich line is wrong? {_HELP}")
    asking.ask()
    return 0 if asking.found else 1
