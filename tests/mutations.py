"""Random training programs whose Python state is changed between steps, run eagerly and compiled.

`python tests/mutations.py 10000` runs as many programs; each must give the eager program's bits in
every loss and parameter, or raise. test_compile.py runs a few.
"""

from __future__ import annotations

import contextvars
import copy
import functools
import random
import sys
import types
import warnings
import weakref
from collections import deque
from dataclasses import dataclass, field

import numpy as np

import wengert as wg
from wengert import nn, optim

WIDTH = 4
SOURCE = """
gain = 1.0
activation = wg.tanh
bias = wg.full((4,), 0.25)
def shape(x, times=1.0):
    return activation(x) * gain * times + bias
"""


class Scaled(nn.Module):
    """Attributes of many kinds, read by forward."""

    shift = 0.0

    def __init__(self) -> None:
        self.layers = [nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)]
        self.by_name = {"a": nn.Linear(WIDTH, WIDTH)}
        self.drop = nn.Dropout(0.25, generator=wg.Generator(5))
        self.net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())
        self.on = True
        self.scale = 1.0
        self.mode = "one"
        self.act = wg.relu
        self.pair = (1.0, 0.5)
        self.extra = None
        self.register_buffer("mean", wg.zeros(WIDTH))

    @property
    def factor(self) -> float:
        return self.scale * 2

    def tail(self, x):
        return x + self.shift

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        for layer in self.by_name.values():
            x = x + layer(x)
        if self.on:
            x = self.net(x)
        if self.extra is not None:
            x = x * self.extra
        if self.mode == "two":
            x = -x
        with wg.no_grad():
            self.mean.mul_(0.5).add_(x.detach().mean(0))
        return self.tail(self.drop(x) * self.factor * self.pair[0] + self.mean)


class Slots:
    __slots__ = ("power",)

    def __init__(self) -> None:
        self.power = 1.0


@dataclass
class Options:
    smoothing: float = 0.0
    clip: list[float] = field(default_factory=lambda: [1e9])


class Called:
    def __init__(self) -> None:
        self.times = 1.0

    def __call__(self, x):
        return x * self.times


VARIABLE: contextvars.ContextVar[float] = contextvars.ContextVar("variable", default=1.0)


class World:
    """A model, an optimizer, much state, and a step that reads all of it."""

    def __init__(self, seed: int, optimizer: str, compiled: bool) -> None:
        wg.manual_seed(seed)
        Scaled.shift = 0.0
        Scaled.tail = ORIGINAL_TAIL
        VARIABLE.set(1.0)
        self.space = types.ModuleType("space")
        self.space.wg = wg
        exec(SOURCE, vars(self.space))
        self.model = Scaled()
        self.head = nn.Linear(WIDTH, 3)
        self.spare = nn.Linear(WIDTH, 3)
        self.kind = optimizer
        self.options = Options()
        self.slots = Slots()
        self.called = Called()
        self.set = {1.0}
        self.queue = deque([1.0, 2.0])
        self.bytes = bytearray([1, 2])
        self.array = np.ones(WIDTH, "float32")
        self.nested = [[1.0], {"a": [1.0, 2.0]}]
        self.constants = [wg.full((WIDTH,), 0.5)]
        self.random = random.Random(seed)
        self.draws = False
        self.partial = functools.partial(lambda x, k: x * k, k=1.0)
        self.reference = weakref.ref(self.model)
        self.calls = 0
        self.hooks: list = []
        self.steps_taken = 0  # not read by the step
        self.history: list[float] = []
        self.opt = self.make_optimizer()
        captured = 1.0

        def set_captured(value):
            nonlocal captured
            captured = value

        self.set_captured = set_captured

        def step(x, y):
            self.opt.zero_grad()
            h = self.model(self.space.shape(x) * captured)
            h = self.called(self.partial(h)) ** self.slots.power
            h = h * sum(self.set) * self.queue[0] * self.bytes[0] * self.nested[1]["a"][0]
            h = h * self.array * self.nested[0][0] * VARIABLE.get() + self.constants[0]
            if self.draws:
                h = h * self.random.random()
            if self.reference() is not None:
                h = h + 0.125
            loss = wg.cross_entropy(self.head(h), y, label_smoothing=self.options.smoothing)
            loss.backward()
            optim.clip_grad_norm_(self.model.parameters(), self.options.clip[0])
            self.opt.step()
            return loss

        self.step = wg.compile(step) if compiled else step

    def make_optimizer(self):
        params = [*self.model.parameters(), *self.head.parameters()]
        return {
            "sgd": lambda: optim.SGD(params, 0.05),
            "momentum": lambda: optim.SGD(params, 0.05, momentum=0.9),
            "adam": lambda: optim.Adam(params, 0.01),
            "adamw": lambda: optim.AdamW(params, 0.01),
            "rmsprop": lambda: optim.RMSprop(params, 0.01),
        }[self.kind]()

    def state(self):
        tensors = [*self.model.parameters(), *self.head.parameters(), self.model.mean]
        return [t.detach().numpy().tobytes() for t in tensors]


ORIGINAL_TAIL = Scaled.tail


def layer(w, r):
    return r.choice([w.model.layers[0] if w.model.layers else w.head, w.head, w.model.net[0]])


def parameter(w, r):
    return r.choice(list(layer(w, r).parameters()))


def number(r):
    return r.choice([0.5, 0.75, 1.0, 1.25, -0.5, 2.0])


def set_option(name, values):
    def mutate(w, r):
        group = r.choice(w.opt.param_groups)
        value = r.choice(values)
        if name in group:
            group[name] = value

    return mutate


def momentum(w, r):
    if "momentum" in w.opt.param_groups[0]:
        w.opt.param_groups[0]["nesterov" if r.random() < 0 else "momentum"] = r.choice([0.0, 0.9])


def add_group(w, r):
    if not {id(p) for p in w.spare.parameters()} & {id(p) for p in w.opt._params()}:
        w.opt.add_param_group({"params": list(w.spare.parameters()), "lr": 0.1})


def hook(w, r):
    p, k = parameter(w, r), number(r)
    if p.requires_grad:
        w.hooks.append(p.register_hook(lambda g: g * k))


def unhook(w, r):
    if w.hooks:
        w.hooks.pop(r.randrange(len(w.hooks))).remove()


def shared_hook(w, r):
    p, held = parameter(w, r), w.nested
    if p.requires_grad:
        w.hooks.append(p.register_hook(lambda g: g * held[0][0]))


def new_linear():
    return nn.Linear(WIDTH, WIDTH)


def set_grad(w, r):
    p = parameter(w, r)
    p.grad = r.choice([None, wg.ones(p.shape)])


def backward_outside(w, r):
    if w.head.weight.requires_grad:
        w.head.weight.square().sum().backward()


def bias(w, r):
    w.head.bias = None if w.head.bias is not None else nn.Parameter(wg.zeros(3))


def list_edit(w, r):
    layers = w.model.layers
    what = r.choice(["append", "pop", "reverse", "insert", "set", "del", "extend", "new"])
    if what == "append":
        layers.append(new_linear())
    elif what == "insert":
        layers.insert(0, new_linear())
    elif what == "extend":
        layers.extend([new_linear()])
    elif what == "reverse":
        layers.reverse()
    elif what == "new":
        w.model.layers = [new_linear()]
    elif layers and what == "pop":
        layers.pop()
    elif layers and what == "set":
        layers[0] = new_linear()
    elif layers:
        del layers[0]


def dict_edit(w, r):
    by = w.model.by_name
    what = r.choice(["set", "pop", "update", "clear", "new"])
    if what == "set":
        by[r.choice("abc")] = new_linear()
    elif what == "pop":
        by.pop("a", None)
    elif what == "update":
        by.update(b=new_linear())
    elif what == "clear":
        by.clear()
    else:
        w.model.by_name = {"z": new_linear()}


def module_attribute(name, values):
    def mutate(w, r):
        how = r.choice([setattr, object.__setattr__, lambda m, k, v: vars(m).__setitem__(k, v)])
        how(w.model, name, r.choice(values))

    return mutate


def class_shift(w, r):
    Scaled.shift = number(r)


def instance_shift(w, r):
    if "shift" in vars(w.model):
        del w.model.shift
    else:
        w.model.shift = number(r)


def patched_method(w, r):
    k = number(r)
    Scaled.tail = r.choice([ORIGINAL_TAIL, lambda self, x: x * k])


def shadowed_method(w, r):
    k = number(r)
    if "tail" in vars(w.model):
        del w.model.tail
    else:
        w.model.tail = lambda x: x - k


def in_space(name, values):
    return lambda w, r: setattr(w.space, name, r.choice(values))


def new_default(w, r):
    w.space.shape.__defaults__ = (number(r),)


def new_code(w, r):
    other: dict = {"wg": wg}
    exec(SOURCE.replace("* gain", f"* gain * {number(r)}"), other)
    w.space.shape.__code__ = other["shape"].__code__


def edit(get):
    def mutate(w, r):
        with wg.no_grad():
            get(w, r).mul_(number(r))

    return mutate


def set_attribute(get, name, values=None):
    return lambda w, r: setattr(get(w), name, r.choice(values) if values else number(r))


def item(get, key, new=number):
    return lambda w, r: get(w).__setitem__(key, new(r))


def load_optimizer(w, r):
    state = copy.deepcopy(w.opt.state_dict())
    w.opt.load_state_dict(state)


def new_model(w, r):
    w.model = copy.deepcopy(w.model)
    w.reference = weakref.ref(w.model)
    w.opt = w.make_optimizer()


def assign(w, r):
    w.head.load_state_dict({k: v.clone() for k, v in w.head.state_dict().items()}, assign=True)
    w.opt = w.make_optimizer()


def replace_weight(w, r):
    w.head.weight = nn.Parameter(wg.randn((3, WIDTH)))


def lapse(w, r):  # what the step does not read
    w.steps_taken += 1
    w.history.append(0.0)


MUTATIONS = {
    "freeze": lambda w, r: layer(w, r).requires_grad_(False),
    "unfreeze": lambda w, r: layer(w, r).requires_grad_(),
    "requires_grad": lambda w, r: setattr(parameter(w, r), "requires_grad", r.random() < 0.5),
    "lr": set_option("lr", [0.01, 0.1, 0.0]),
    "weight_decay": set_option("weight_decay", [0.0, 0.1]),
    "betas": set_option("betas", [(0.5, 0.9), (0.9, 0.999)]),
    "eps": set_option("eps", [1e-8, 1e-2]),
    "alpha": set_option("alpha", [0.5, 0.99]),
    "dampening": set_option("dampening", [0.0, 0.5]),
    "nesterov": lambda w, r: (
        set_option("nesterov", [False, True])(w, r)
        if w.kind == "momentum" and w.opt.param_groups[0]["momentum"]
        else None
    ),
    "momentum": momentum,
    "add_param_group": add_group,
    "optimizer.load_state_dict": load_optimizer,
    "optimizer replaced": lambda w, r: setattr(w, "opt", w.make_optimizer()),
    "hook": hook,
    "hook removed": unhook,
    "hook that reads": shared_hook,
    "bias": bias,
    "weight replaced": replace_weight,
    "layer replaced": lambda w, r: setattr(w, "head", nn.Linear(WIDTH, 3)),
    "module swapped": lambda w, r: w.__dict__.update(head=w.spare, spare=w.head),
    "Sequential.append": lambda w, r: w.model.net.append(r.choice([nn.Tanh(), new_linear()])),
    "Sequential item": lambda w, r: setattr(w.model.net, "0", new_linear()),
    "list of layers": list_edit,
    "dict of layers": dict_edit,
    "flag": module_attribute("on", [True, False]),
    "scale": module_attribute("scale", [0.5, 1.0, -1.0, 0.0, -0.0]),
    "mode": module_attribute("mode", ["one", "two"]),
    "function": module_attribute("act", [wg.relu, wg.tanh, wg.sigmoid]),
    "tuple": module_attribute("pair", [(1.0, 0.5), (0.5, 0.5), (1.0, 0.25)]),
    "None": module_attribute("extra", [None, 2.0, 0.5]),
    "class attribute": class_shift,
    "instance attribute over the class's": instance_shift,
    "method patched": patched_method,
    "method shadowed": shadowed_method,
    "global number": in_space("gain", [1.0, 0.5, 2.0]),
    "global function": in_space("activation", [wg.tanh, wg.sigmoid]),
    "global tensor": lambda w, r: setattr(w.space, "bias", wg.full((WIDTH,), number(r))),
    "global tensor edited": edit(lambda w, r: w.space.bias),
    "defaults": new_default,
    "code": new_code,
    "variable around": lambda w, r: w.set_captured(number(r)),
    "slot": set_attribute(lambda w: w.slots, "power", [1.0, 2.0]),
    "dataclass": set_attribute(lambda w: w.options, "smoothing", [0.0, 0.1, 0.2]),
    "dataclass replaced": lambda w, r: setattr(w, "options", Options(r.choice([0.0, 0.1]))),
    "clip": item(lambda w: w.options.clip, 0, lambda r: r.choice([1e9, 0.1])),
    "callable object": set_attribute(lambda w: w.called, "times"),
    "callable replaced": lambda w, r: setattr(w, "called", Called()),
    "partial": lambda w, r: setattr(
        w, "partial", functools.partial(lambda x, k: x * k, k=number(r))
    ),
    "partial's keywords": item(lambda w: w.partial.keywords, "k"),
    "set": lambda w, r: w.set.add(number(r)),
    "set discarded": lambda w, r: len(w.set) > 1 and w.set.pop(),
    "deque": lambda w, r: w.queue.rotate(1),
    "bytearray": lambda w, r: w.bytes.reverse(),
    "array edited": lambda w, r: w.array.__imul__(np.float32(number(r))),
    "array replaced": lambda w, r: setattr(w, "array", np.full(WIDTH, number(r), "float32")),
    "nested list": item(lambda w: w.nested[0], 0),
    "nested dict": item(lambda w: w.nested[1]["a"], 0),
    "nested replaced": lambda w, r: setattr(w, "nested", [[number(r)], {"a": [1.0]}]),
    "tensor in a list": item(lambda w: w.constants, 0, lambda r: wg.full((WIDTH,), number(r))),
    "tensor in a list edited": edit(lambda w, r: w.constants[0]),
    "random numbers": lambda w, r: setattr(w, "draws", not w.draws),
    "random state": lambda w, r: w.random.seed(r.randrange(100)),
    "context variable": lambda w, r: VARIABLE.set(number(r)),
    "weak reference": lambda w, r: setattr(w, "reference", weakref.ref(w.model)),
    "generator replaced": lambda w, r: setattr(
        w.model.drop, "generator", wg.Generator(r.randrange(9))
    ),
    "generator seeded": lambda w, r: w.model.drop.generator.manual_seed(r.randrange(9)),
    "manual_seed": lambda w, r: wg.manual_seed(r.randrange(9)),
    "p": lambda w, r: setattr(w.model.drop, "p", r.choice([0.0, 0.25, 0.5])),
    "train": lambda w, r: w.model.train(),
    "eval": lambda w, r: w.model.eval(),
    "eval below": lambda w, r: w.model.drop.eval(),
    "buffer replaced": lambda w, r: w.model.register_buffer("mean", wg.full((WIDTH,), number(r))),
    "buffer edited": edit(lambda w, r: w.model.mean),
    "parameter edited": edit(parameter),
    "load_state_dict": lambda w, r: w.model.load_state_dict(
        {k: v * 0.5 for k, v in w.model.state_dict().items()}
    ),
    "load_state_dict(assign)": assign,
    "grad": set_grad,
    "backward outside": backward_outside,
    "zero_grad": lambda w, r: w.opt.zero_grad(set_to_none=r.random() < 0.5),
    "model replaced": new_model,
    "not read": lapse,
}


def program(seed: int, calls: int = 8) -> tuple[int, int]:
    """One program, eager and compiled; how many of its calls raised, and how many traces it had.

    AssertionError where the two differ.
    """
    results = []
    for compiled in (False, True):
        r = random.Random(seed)
        w = World(seed, r.choice(["sgd", "momentum", "adam", "adamw", "rmsprop"]), compiled)
        x, y = wg.randn((5, WIDTH)), wg.tensor([0, 1, 2, 0, 1])
        seen: list = []
        done: list[str] = []
        for _ in range(calls):
            try:
                if r.random() < 0.2:  # two steps in one call
                    xs, ys = wg.stack([x, x * 0.5]), wg.stack([y, y])
                    many = getattr(w.step, "run", None)
                    losses = many(2, xs, ys) if many else [w.step(xs[i], ys[i]) for i in (0, 1)]
                    seen.append(([loss.item() for loss in losses], w.state()))
                else:
                    seen.append(([w.step(x, y).item()], w.state()))
            except Exception as error:
                seen.append(error)
                break
            for _ in range(r.choice([0, 0, 1, 1, 2])):
                name = r.choice(list(MUTATIONS))
                done.append(name)
                MUTATIONS[name](w, r)
            done.append("|")
        results.append(seen)
    eager, compiled = results
    raised = 0
    for i, b in enumerate(compiled):
        a = eager[i]
        if isinstance(b, Exception):
            raised = 1
            if not isinstance(a, Exception) and not isinstance(b, (ValueError, wg.GradientError)):
                raise AssertionError(f"program {seed}, call {i}: {done}") from b
        elif isinstance(a, Exception):
            raise AssertionError(f"program {seed}, call {i}: eager raises, {done}") from a
        else:
            same = a[1] == b[1] and np.array_equal(a[0], b[0], equal_nan=True)
            assert same, f"program {seed}, call {i}: {done}"
    return raised, w.step.traces


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)
    start = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    raised = traces = failed = 0
    for seed in range(start, start + int(sys.argv[1])):
        try:
            r, t = program(seed)
        except AssertionError as error:
            failed += 1
            print(error, repr(error.__cause__)[:300], flush=True)
            continue
        raised, traces = raised + r, traces + t
    print(f"{sys.argv[1]} programs: {failed} differ, {raised} raised, {traces} traces")
    sys.exit(failed > 0)
