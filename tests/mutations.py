"""Random training programs whose Python state is changed between steps, run eagerly and compiled.

`python tests/mutations.py 10000` runs as many programs; each must give the eager program's bits in
every loss and parameter, or raise. test_compile.py runs a few.
"""

from __future__ import annotations

import contextvars
import copy
import ctypes
import enum
import functools
import os
import random
import sys
import threading
import types
import warnings
import weakref
from array import array
from collections import ChainMap, Counter, OrderedDict, UserList, defaultdict, deque, namedtuple
from dataclasses import dataclass, field, replace

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


class CalledTwice(Called):
    def __call__(self, x):
        return x * self.times * 2


class Base:
    k = 1.0


class OtherBase:
    k = 0.5


class Middle(Base):
    pass


class Meta(type):
    def __len__(cls):
        return cls.size

    size = 1


class Measured(metaclass=Meta):
    pass


class Setting:
    """A descriptor with a value of its own."""

    def __init__(self) -> None:
        self.value = 1.0

    def __get__(self, owner, kind=None):
        return self.value


SETTING = Setting()


class Unit(enum.Enum):
    ONE = 1.0
    HALF = 0.5


class Bits(enum.Flag):
    A = 1
    B = 2


Pair = namedtuple("Pair", "first second")


class Odd(Middle):
    """State of kinds that models seldom have; `factor` reads all of it."""

    __slots__ = ("late",)
    setting = SETTING
    table = types.MappingProxyType({"k": 1.0})

    def __init__(self) -> None:
        self.name, self.by_name = "one", False
        self.one, self.two = 1.0, 0.5
        self.default = defaultdict(lambda: 1.0, a=1.0)
        self.ordered = OrderedDict(a=1.0, b=0.5)
        self.counter = Counter("ab")
        self.chain = ChainMap({"k": 1.0}, {"k": 2.0, "j": 1.0})
        self.users = UserList([1.0])
        self.frozen = frozenset({1.0})
        self.objects = (Called(), [Called()])
        self.space = types.SimpleNamespace(k=1.0)
        self.pair = Pair(1.0, 0.5)
        self.unit, self.bits = Unit.ONE, Bits.A
        self.scalar = np.float32(1.0)
        self.array = array("d", [1.0, 0.5])
        self.view = memoryview(bytearray([1, 2]))
        self.c = ctypes.c_double(1.0)
        self.local = threading.local()
        self.local.k = 1.0
        self.weak = weakref.WeakValueDictionary({"a": self.objects[0]})
        self.objects_array = np.array([1.0, None], dtype=object)
        self.deep = outer(1.0)
        self.partial = functools.partial(scaled, 1.0)
        self.cached = functools.lru_cache(read_knob)
        self.slots = Short()
        self.plain = {"a": 0.5, "b": 1.0}
        self.counts, self.count = False, 0

    def __getattr__(self, name):
        if name.startswith("made_"):
            return HIDDEN.get(name, 1.0)
        raise AttributeError(name)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i):
        return self.pair[i]

    def __contains__(self, key) -> bool:
        return key == "k"

    def __rmul__(self, x):
        return x * self.pair.first

    def __enter__(self):
        return self.one

    def __exit__(self, *error) -> None:
        pass

    def __iter__(self):
        yield self.one

    def __eq__(self, other) -> bool:
        return True

    __hash__ = object.__hash__

    @functools.cached_property
    def kept(self):
        return self.one * 2

    @classmethod
    def of_class(cls):
        return cls.k

    @staticmethod
    def static(k=1.0, *, j=1.0):
        return k * j

    def look_by_name(self) -> float:
        return getattr(self, self.name)

    def factor(self) -> float:
        k = self.look_by_name() if self.by_name else 1.0
        k *= self.default["a"] * next(iter(self.ordered.values()))
        k *= self.default["b"] * self.counter["a"] * self.chain["k"] * self.users[0]
        k *= sum(self.frozen) * self.objects[0].times * self.objects[1][0].times * self.space.k
        k *= self.pair.second * self.unit.value * float(self.scalar) * self.array[0]
        k *= self.view[0] * self.c.value * self.local.k
        k *= sum(v.times for v in self.weak.values()) * float(self.objects_array[0])
        k *= self.deep()() * self.partial() * self.kept * self.of_class() * self.static()
        k *= self.k * self.setting * self.table["k"] * self.made_up * len(self) * self[0]
        k *= len(Measured) * float(os.environ.get("WENGERT_TEST_K", "1")) * KNOB * self.cached()
        k *= function_with_names(j=1.0) * decorated(1.0) * Made().k * len(str(self.slots))
        for name in self.plain:
            k = k * self.plain[name] + 0.25
        if self.counts:
            self.count += 1
            k *= 1.0 + self.count % 3
        try:
            k *= self.late
        except AttributeError:
            k *= 2
        with self as times:
            k *= times
        if Bits.B in self.bits:
            k *= 2
        if "k" in self:
            k *= 2
        if self:
            k *= 0.5
        if self != OTHER:
            k *= 0.5
        for times in self:
            k *= times
        import wengert_test_space  # made by World

        return k * wengert_test_space.k


HIDDEN: dict[str, float] = {}


class Short:
    __slots__ = ()

    def __str__(self) -> str:
        return "1"


class Longer(Short):
    __slots__ = ()

    def __str__(self) -> str:
        return "22"


class Made:
    """Made anew in each step."""

    def __init__(self) -> None:
        self.k = 1.0


OTHER = Middle()
KNOB = 1.0


def outer(k):
    j = 1.0

    def middle():
        def inner():
            return k * j

        return inner

    def set_inner(value):
        nonlocal k, j
        k, j = value, 2.0

    middle.set = set_inner
    return middle


def scaled(k, times=1.0):
    return k * times


def read_knob():
    return KNOB


def function_with_names(i=(1.0,), *, j, k=1.0):
    return i[0] * j * k


def decorator(f):
    @functools.wraps(f)
    def wrapper(x):
        return f(x)

    return wrapper


@decorator
def decorated(x):
    return x * 1.0


CLASSES = (Odd, Middle, Base, Meta, Measured, Setting, Called, CalledTwice, Made, Short)
FUNCTIONS = (scaled, read_knob, function_with_names, decorated, decorated.__wrapped__)
THREADS = wg.num_threads()
ORIGINAL_ATTRIBUTES = {c: dict(vars(c)) for c in CLASSES}
ORIGINAL_CODES = {f: (f.__code__, f.__defaults__, f.__kwdefaults__) for f in FUNCTIONS}


def reset() -> None:
    """What mutations change of classes, functions and modules is again as it was."""
    global KNOB
    KNOB = 1.0
    Middle.__bases__ = (Base,)
    for cls, former in ORIGINAL_ATTRIBUTES.items():
        for name in set(vars(cls)) - set(former):
            delattr(cls, name)
        for name, value in former.items():
            if vars(cls).get(name) is not value:
                setattr(cls, name, value)
    SETTING.value = 1.0
    decorated.__closure__[0].cell_contents = decorated.__wrapped__
    HIDDEN.clear()
    for f, (code, defaults, named) in ORIGINAL_CODES.items():
        f.__code__, f.__defaults__ = code, defaults
        f.__kwdefaults__ = dict(named) if named else None
    for key in ("ONE", "HALF"):
        Unit[key]._value_ = {"ONE": 1.0, "HALF": 0.5}[key]
    wg.set_num_threads(THREADS)
    os.environ.pop("WENGERT_TEST_K", None)
    sys.modules["wengert_test_space"] = types.ModuleType("wengert_test_space")
    sys.modules["wengert_test_space"].k = 1.0


VARIABLE: contextvars.ContextVar[float] = contextvars.ContextVar("variable", default=1.0)


OPTIMIZERS = (
    "sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "adamax", "nadam",
    "radam", "rprop", "asgd", "lion",
)  # fmt: skip


class World:
    """A model, an optimizer, much state, and a step that reads all of it."""

    def __init__(self, seed: int, optimizer: str, compiled: bool) -> None:
        wg.manual_seed(seed)
        reset()
        Scaled.shift = 0.0
        Scaled.factor = ORIGINAL_FACTOR
        Scaled.__call__ = nn.Module.__call__
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
        self.odd = Odd()
        self.side = nn.Linear(WIDTH, WIDTH)
        self.tied = nn.Linear(WIDTH, WIDTH)
        self.no_grad = self.retains = False
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
            with wg.no_grad() if self.no_grad else wg.enable_grad():
                h = h + self.side(h.to(self.side.weight.dtype)).float() + self.tied(h)
            if self.retains and h.requires_grad:
                h.register_hook(lambda g: g * 0.5)
            h = h * self.odd * self.odd.factor()
            loss = wg.cross_entropy(self.head(h), y, label_smoothing=self.options.smoothing)
            loss.backward()
            optim.clip_grad_norm_(self.model.parameters(), self.options.clip[0])
            self.opt.step()
            return loss

        self.step = wg.compile(step) if compiled else step

    def make_optimizer(self, count=None):
        params = [*self.model.parameters(), *self.head.parameters()]
        params += [p for m in (self.side, self.tied) for p in m.parameters()]
        params = list(dict.fromkeys(params))[:count]
        return {
            "sgd": lambda: optim.SGD(params, 0.05),
            "momentum": lambda: optim.SGD(params, 0.05, momentum=0.9),
            "adam": lambda: optim.Adam(params, 0.01),
            "adamw": lambda: optim.AdamW(params, 0.01),
            "rmsprop": lambda: optim.RMSprop(params, 0.01),
            "adagrad": lambda: optim.Adagrad(params, 0.05),
            "adadelta": lambda: optim.Adadelta(params, 0.5),
            "adamax": lambda: optim.Adamax(params, 0.01),
            "nadam": lambda: optim.NAdam(params, 0.01),
            "radam": lambda: optim.RAdam(params, 0.01),
            "rprop": lambda: optim.Rprop(params, 0.01),
            "asgd": lambda: optim.ASGD(params, 0.01),
            "lion": lambda: optim.Lion(params, 0.001),
        }[self.kind]()

    def state(self):
        modules = (self.model, self.head, self.side, self.tied)
        tensors = [*(p for m in modules for p in m.parameters()), self.model.mean]
        return [t.detach().numpy().tobytes() for t in tensors]


ORIGINAL_TAIL = Scaled.tail
ORIGINAL_FACTOR = Scaled.factor


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


def tie(w, r):
    if w.tied.weight is w.side.weight:
        w.tied.weight = nn.Parameter(w.side.weight.detach().clone())
    else:
        w.tied.weight = w.side.weight
    w.opt = w.make_optimizer()


def to_dtype(w, r):
    dtype = r.choice(["float32", "float64"])
    if w.tied.weight is w.side.weight:
        tie(w, r)
    w.side.to(dtype)
    w.opt = w.make_optimizer()


def remove_parameter(w, r):
    w.opt = w.make_optimizer(r.randrange(1, 8))


def schedule(make):
    def mutate(w, r):
        scheduler = make(w.opt)
        for _ in range(r.randrange(1, 3)):
            scheduler.step()

    return mutate


def plateau(w, r):
    scheduler = optim.ReduceLROnPlateau(w.opt, patience=0)
    for loss in (1.0, 2.0):
        scheduler.step(loss)


def zero_state(w, r):
    for tensors in w.opt.state_dict()["state"].values():
        for x in tensors.values() if isinstance(tensors, dict) else ():
            if isinstance(x, wg.Tensor):
                with wg.no_grad():
                    x.fill_(0)


def replace_hook(w, r):
    unhook(w, r)
    hook(w, r)


def own_dict(w, r):
    w.called.__dict__ = {"times": number(r)}


def model_dict(w, r):
    w.model.__dict__ = {**vars(w.model), "scale": number(r)}


def swap_class(w, r):
    w.called.__class__ = r.choice([Called, CalledTwice])


def class_attribute(cls, name, make):
    """Sets a class's attribute to make(number), or back to what it was."""

    def mutate(w, r):
        k = number(r)
        former = ORIGINAL_ATTRIBUTES[cls].get(name, mutate)
        if r.random() < 0.5:
            setattr(cls, name, make(k))
        elif former is not mutate:
            setattr(cls, name, former)
        elif name in vars(cls):
            delattr(cls, name)

    return mutate


def odd_class(w, r):
    w.odd.slots.__class__ = r.choice([Short, Longer])


def patched_getattr(k):
    def look(self, name):
        if name == "made_up":
            return k
        raise AttributeError(name)

    return look


def scaled_factor(w, r):
    k = number(r)
    Scaled.factor = r.choice([ORIGINAL_FACTOR, property(lambda self: self.scale * k)])


def module_call(w, r):
    k = number(r)
    Scaled.__call__ = r.choice([nn.Module.__call__, lambda self, x: self.forward(x) * k])


def advance(w, r):
    w.model.drop.generator.state[1] = r.randrange(9)


def knob(w, r):
    global KNOB
    KNOB = number(r)


def codes(f, *others):
    def mutate(w, r):
        f.__code__ = r.choice([ORIGINAL_CODES[f][0], *(o.__code__ for o in others)])

    return mutate


def late(w, r):
    if r.random() < 0.5:
        w.odd.late = number(r)
    elif hasattr(w.odd, "late"):
        del w.odd.late


def forget(w, r):
    vars(w.odd).pop("kept", None)


def wrapped(w, r):
    k = number(r)
    decorated.__closure__[0].cell_contents = r.choice([decorated.__wrapped__, lambda x: x * k])


def environment(w, r):
    os.environ["WENGERT_TEST_K"] = str(number(r))


def imported(w, r):
    module = types.ModuleType("wengert_test_space")
    module.k = number(r)
    sys.modules["wengert_test_space"] = module


def bases(w, r):
    Middle.__bases__ = (r.choice([Base, OtherBase]),)


def enum_value(w, r):
    Unit.ONE._value_ = number(r)


def odd(name, make=number):
    return lambda w, r: setattr(w.odd, name, make(r))


def new_factory(odd, k):
    odd.default.default_factory = lambda: k
    odd.default.pop("b", None)


def edit_odd(f):
    return lambda w, r: f(w.odd, number(r))


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
    "to(dtype)": to_dtype,
    "tied weights": tie,
    "parameters removed": remove_parameter,
    "StepLR": schedule(lambda opt: optim.StepLR(opt, 1, 0.5)),
    "CosineAnnealingLR": schedule(lambda opt: optim.CosineAnnealingLR(opt, 4)),
    "LambdaLR": schedule(lambda opt: optim.LambdaLR(opt, lambda epoch: 0.5**epoch)),
    "ReduceLROnPlateau": plateau,
    "optimizer's state": zero_state,
    "params in another order": lambda w, r: r.shuffle(w.opt.param_groups[0]["params"]),
    "hook replaced": replace_hook,
    "hook of a tensor in the step": lambda w, r: setattr(w, "retains", not w.retains),
    "no_grad": lambda w, r: setattr(w, "no_grad", not w.no_grad),
    "number of threads": lambda w, r: wg.set_num_threads(r.choice([1, 2])),
    "Generator's state": advance,
    "Sequential.eval": lambda w, r: w.model.net.train(r.random() < 0.5),
    "apply": lambda w, r: w.model.apply(lambda m: setattr(m, "training", r.random() < 0.5)),
    "buffer deleted": lambda w, r: w.model.register_buffer("mean", wg.zeros(WIDTH), False),
    "class of an object": swap_class,
    "dict of an object": own_dict,
    "dict of a module": model_dict,
    "property": scaled_factor,
    "__call__ of a module's class": module_call,
    "__call__": class_attribute(Called, "__call__", lambda k: lambda self, x: x * k),
    "__len__": class_attribute(Odd, "__len__", lambda k: lambda self: 2),
    "__bool__": class_attribute(Odd, "__bool__", lambda k: lambda self: k > 0),
    "__getitem__": class_attribute(Odd, "__getitem__", lambda k: lambda self, i: k),
    "__contains__": class_attribute(Odd, "__contains__", lambda k: lambda self, key: k > 0),
    "__rmul__": class_attribute(Odd, "__rmul__", lambda k: lambda self, x: x * k),
    "__enter__": class_attribute(Odd, "__enter__", lambda k: lambda self: k),
    "__iter__": class_attribute(Odd, "__iter__", lambda k: lambda self: iter((k, k))),
    "__eq__": class_attribute(Odd, "__eq__", lambda k: lambda self, other: k > 0),
    "__getattr__": class_attribute(Odd, "__getattr__", patched_getattr),
    "__getattribute__": class_attribute(
        Middle,
        "__getattribute__",
        lambda k: lambda self, name: k if name == "one" else object.__getattribute__(self, name),
    ),
    "method of a metaclass": class_attribute(Meta, "__len__", lambda k: lambda cls: int(k > 0) + 1),
    "attribute of a metaclass": lambda w, r: setattr(Meta, "size", r.choice([1, 2])),
    "bases": bases,
    "__init__ of a class that the step uses": class_attribute(
        Made, "__init__", lambda k: lambda self: setattr(self, "k", k)
    ),
    "__new__ of a class that the step uses": class_attribute(
        Made, "__new__", lambda k: lambda cls: types.SimpleNamespace(k=k)
    ),
    "class of an object with slots": odd_class,
    "dict in another order": lambda w, r: w.odd.plain.update(a=w.odd.plain.pop("a")),
    "layers in another order": lambda w, r: w.model.by_name.update(
        {k: w.model.by_name.pop(k) for k in list(w.model.by_name)[:1]}
    ),
    "a step that counts": odd("counts", lambda r: r.random() < 0.3),
    "counter reset": odd("count", lambda r: 0),
    "attribute of a base": class_attribute(Base, "k", lambda k: k),
    "classmethod": class_attribute(Odd, "of_class", lambda k: classmethod(lambda cls: k)),
    "staticmethod": class_attribute(Odd, "static", lambda k: staticmethod(lambda: k)),
    "method of a descriptor": class_attribute(
        Setting, "__get__", lambda k: lambda self, owner, kind=None: k
    ),
    "descriptor's value": lambda w, r: setattr(SETTING, "value", number(r)),
    "descriptor replaced": class_attribute(Odd, "setting", lambda k: property(lambda self: k)),
    "mapping proxy": class_attribute(Odd, "table", lambda k: types.MappingProxyType({"k": k})),
    "what __getattr__ reads": lambda w, r: HIDDEN.__setitem__("made_up", number(r)),
    "cached_property forgotten": forget,
    "getattr": odd("by_name", lambda r: r.random() < 0.3),
    "name for getattr": odd("name", lambda r: r.choice(["one", "two"])),
    "attribute by that name": odd("two"),
    "empty slot": late,
    "defaultdict": edit_odd(lambda o, k: o.default.__setitem__("a", k)),
    "default_factory": edit_odd(new_factory),
    "OrderedDict": edit_odd(lambda o, k: o.ordered.move_to_end("a")),
    "Counter": edit_odd(lambda o, k: o.counter.update("a")),
    "ChainMap": edit_odd(lambda o, k: o.chain.__setitem__("k", k)),
    "ChainMap's maps": edit_odd(lambda o, k: o.chain.maps.reverse()),
    "UserList": edit_odd(lambda o, k: o.users.__setitem__(0, k)),
    "frozenset": odd("frozen", lambda r: frozenset({number(r)})),
    "object in a tuple": edit_odd(lambda o, k: setattr(o.objects[0], "times", k)),
    "object in a list in a tuple": edit_odd(lambda o, k: setattr(o.objects[1][0], "times", k)),
    "SimpleNamespace": edit_odd(lambda o, k: setattr(o.space, "k", k)),
    "namedtuple": edit_odd(lambda o, k: setattr(o, "pair", o.pair._replace(second=k))),
    "enum": odd("unit", lambda r: r.choice(list(Unit))),
    "enum's value": enum_value,
    "flags": odd("bits", lambda r: r.choice([Bits.A, Bits.B, Bits.A | Bits.B])),
    "NumPy scalar": odd("scalar", lambda r: np.float32(number(r))),
    "NumPy scalar's dtype": odd("scalar", lambda r: r.choice([np.float64, np.int64])(1)),
    "array.array": edit_odd(lambda o, k: o.array.__setitem__(0, k)),
    "array.array reversed": edit_odd(lambda o, k: o.array.reverse()),
    "memoryview": edit_odd(lambda o, k: o.view.__setitem__(0, int(k > 0) + 1)),
    "ctypes": edit_odd(lambda o, k: setattr(o.c, "value", k)),
    "threading.local": edit_odd(lambda o, k: setattr(o.local, "k", k)),
    "WeakValueDictionary": edit_odd(lambda o, k: o.weak.__setitem__("b", o.objects[1][0])),
    "array of objects": edit_odd(lambda o, k: o.objects_array.__setitem__(0, k)),
    "nested closures": edit_odd(lambda o, k: o.deep.set(k)),
    "partial's arguments": odd("partial", lambda r: functools.partial(scaled, number(r))),
    "partial's state": edit_odd(lambda o, k: o.partial.__setstate__((scaled, (k,), {}, None))),
    "lru_cache forgotten": edit_odd(lambda o, k: o.cached.cache_clear()),
    "global of this module": knob,
    "module that the step imports": imported,
    "environment": environment,
    "code of a function": codes(scaled, lambda k, times=1.0: k * times * 2),
    "defaults of a function": lambda w, r: setattr(scaled, "__defaults__", (number(r),)),
    "keyword defaults": lambda w, r: function_with_names.__kwdefaults__.update(k=number(r)),
    "keyword defaults replaced": lambda w, r: setattr(
        function_with_names, "__kwdefaults__", {"k": number(r)}
    ),
    "mutable default": lambda w, r: setattr(function_with_names, "__defaults__", ([number(r)],)),
    "edited default": lambda w, r: (
        isinstance(function_with_names.__defaults__[0], list)
        and function_with_names.__defaults__[0].__setitem__(0, number(r))
    ),
    "decorated function's code": codes(decorated.__wrapped__, lambda x: x * 0.5),
    "decorated function": wrapped,
    "dataclass by replace": lambda w, r: setattr(
        w, "options", replace(w.options, smoothing=r.choice([0.0, 0.1]))
    ),
    "not read": lapse,
}


def program(seed: int, calls: int = 8) -> tuple[int, int]:
    """One program, eager and compiled; how many of its calls raised, and how many traces it had.

    AssertionError where the two differ.
    """
    results = []
    for compiled in (False, True):
        r = random.Random(seed)
        w = World(seed, r.choice(OPTIMIZERS), compiled)
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
    reset()
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
        if r:
            print(f"program {seed} raised", flush=True)
        raised, traces = raised + r, traces + t
    print(f"{sys.argv[1]} programs: {failed} differ, {raised} raised, {traces} traces")
    sys.exit(failed > 0)
