"""What a compiled step reads of Python's state: a change is noticed, or the read is an error."""

import abc
import array
import collections
import dataclasses
import datetime
import io
import itertools
import logging
import math
import operator
import os
import queue
import random
import sys
import time
import types
import typing
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim


class Settings:
    """What steps below read."""

    factor = 1.0

    def __init__(self) -> None:
        self.k = 1.0
        self.items = [1.0]
        self.table = {"k": 1.0}
        self.bytes = array.array("b", [1, 2])
        self.array = np.ones(3, "float32")


class Other(Settings):
    factor = 3.0


def helper(x: wg.Tensor, settings: Settings) -> wg.Tensor:
    return x * settings.k


get_k = operator.attrgetter("k")

READS: dict[str, tuple[Callable[..., wg.Tensor], Callable[[Settings], Any]]] = {
    "attribute": (lambda x, s: x * s.k, lambda s: setattr(s, "k", 2.0)),
    "attribute in a helper": (lambda x, s: helper(x, s), lambda s: setattr(s, "k", 2.0)),
    "getattr": (lambda x, s: x * getattr(s, "k" + ""), lambda s: setattr(s, "k", 2.0)),
    "vars": (lambda x, s: x * vars(s)["k"], lambda s: setattr(s, "k", 2.0)),
    "attrgetter": (lambda x, s: x * get_k(s), lambda s: setattr(s, "k", 2.0)),
    "through a variable": (
        lambda x, s: sum(x * t.k for t in (s,)),
        lambda s: setattr(s, "k", 2.0),
    ),
    "deleted": (lambda x, s: x * getattr(s, "k", 5.0), lambda s: delattr(s, "k")),
    "attribute over the class's": (lambda x, s: x * s.factor, lambda s: setattr(s, "factor", 2.0)),
    "attribute of the class": (
        lambda x, s: x * s.__class__.factor,
        lambda s: setattr(Settings, "factor", 2.0),
    ),
    "type()": (lambda x, s: x * type(s).factor, lambda s: setattr(Settings, "factor", 2.0)),
    "class of the object": (lambda x, s: x * s.factor, lambda s: setattr(s, "__class__", Other)),
    "dict of the object": (lambda x, s: x * s.k, lambda s: setattr(s, "__dict__", {"k": 4.0})),
    "list": (lambda x, s: x * sum(s.items), lambda s: s.items.append(1.0)),
    "length": (lambda x, s: x * len(s.items), lambda s: s.items.append(1.0)),
    "dict": (lambda x, s: x * s.table["k"], lambda s: s.table.update(k=2.0)),
    "dict's keys": (lambda x, s: x * len(s.table), lambda s: s.table.update(j=2.0)),
    "kind of number": (lambda x, s: x.long() * s.k, lambda s: setattr(s, "k", 1)),
    "sign of zero": (
        lambda x, s: x / s.items[0],
        lambda s: s.items.__setitem__(0, -0.0),
    ),
    "array.array": (lambda x, s: x * s.bytes[0], lambda s: s.bytes.reverse()),
    "NumPy array": (lambda x, s: x * s.array, lambda s: s.array.fill(3.0)),
    "element of a NumPy array": (lambda x, s: x * float(s.array[1]), lambda s: s.array.fill(3.0)),
    "environment": (
        lambda x, s: x * float(os.environ.get("WENGERT_TEST_K", "1")),
        lambda s: os.environ.update(WENGERT_TEST_K="2"),
    ),
    "module": (lambda x, s: x * math.tau, lambda s: setattr(math, "tau", 1.0)),
    "function of the package": (
        lambda x, s: nn.functional_of_a_test(x),
        lambda s: setattr(nn, "functional_of_a_test", wg.tanh),
    ),
    "random": (lambda x, s: x * random.random(), lambda s: random.seed(3)),
    "numpy.random": (lambda x, s: x * float(np.random.rand()), lambda s: np.random.seed(3)),
    "numpy generator": (lambda x, s: x * float(GENERATOR.random()), lambda s: None),
    "counter": (lambda x, s: x * s.items.__iadd__([1.0])[-1] * len(s.items), lambda s: None),
}
GENERATOR = np.random.default_rng(1)


@pytest.mark.parametrize("read", READS)
@pytest.mark.smoke
def test_changed_state_is_noticed(read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fn, change = READS[read]
    monkeypatch.setattr(nn, "functional_of_a_test", wg.relu, raising=False)
    monkeypatch.setattr(math, "tau", math.tau)
    results = []
    for compiled in (False, True):
        monkeypatch.setattr(Settings, "factor", 1.0)
        monkeypatch.delenv("WENGERT_TEST_K", raising=False)
        monkeypatch.setattr(math, "tau", 6.0)
        monkeypatch.setattr(nn, "functional_of_a_test", wg.relu)
        random.seed(1)
        np.random.seed(1)
        global GENERATOR
        GENERATOR = np.random.default_rng(1)
        settings = Settings()

        def plain(x: wg.Tensor, settings: Settings = settings, fn: Any = fn) -> wg.Tensor:
            return fn(x, settings)

        step = wg.compile(plain) if compiled else plain
        x = wg.tensor([1.0, -2.0, 0.5])
        seen = [step(x).tolist() for _ in range(4)]
        change(settings)
        results.append(seen + [step(x).tolist() for _ in range(4)])
    assert results[0] == results[1]


def test_state_that_the_step_does_not_read_may_change() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = nn.MLP([4, 5, 3])
            self.optimizer = optim.Adam(self.model.parameters(), lr=0.01)
            self.epoch = self.step_count = 0
            self.history: list[float] = []
            self.step = wg.compile(self._step)

        def _step(self, x: wg.Tensor, y: wg.Tensor) -> wg.Tensor:
            self.optimizer.zero_grad()
            loss = wg.cross_entropy(self.model(x), y)
            if hasattr(self, "scale") or getattr(self.model, "tied", False):
                loss = loss * 2
            loss.backward()
            self.optimizer.step()
            return loss

    trainer = Trainer()
    x, y = wg.randn((6, 4)), wg.tensor([0, 1, 2, 0, 1, 2])
    for i in range(8):
        trainer.history.append(trainer.step(x, y).item())
        trainer.epoch = trainer.step_count = i
        trainer.optimizer.lr = 0.01 / (i + 1)
        trainer.optimizer.param_groups[0]["betas"] = (0.9, 0.99 + i / 1000)
    assert trainer.step.traces == 1


def test_former_traces_serve_again() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    step = wg.compile(lambda x: model(x))
    x = wg.ones((2, 3))
    for _ in range(3):
        step(model.train() and x)
        step(model.eval() and x)
        step(model.eval() and x)
    assert step.traces == 2
    assert step.reasons == ["it is the first one", "model.1.training has changed"]


def test_reasons_name_the_dict_that_got_a_key() -> None:
    table = {"a": 1.0}
    model = nn.Linear(2, 2)
    step = wg.compile(lambda x: model(x) * sum(table.values()) * len(list(model.parameters())))
    for change in (lambda: None, lambda: table.update(b=2.0), lambda: setattr(model, "extra", 3)):
        change()
        for _ in range(3):
            step(wg.ones(2))
    assert step.reasons[1:] == [
        "the set of keys of table has changed",
        "the set of attributes of model has changed",
    ]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda x: x * time.time(), r"time\.time at .*test_guards\.py:\d+"),
        (lambda x: x * time.perf_counter(), r"time\.perf_counter at"),
        (lambda x: x * float(time.strftime("%S")), r"time\.strftime at"),
        (lambda x: x * os.times().user, r"posix\.times at"),
        (lambda x: x * datetime.datetime.now().second, r"datetime\.datetime\.now at"),
        (lambda x: x * uuid.uuid4().int, r"posix\.urandom at"),
        (lambda x: x * random.SystemRandom().random(), r"posix\.urandom at"),
        (lambda x: x * len(open(__file__).read()), r"open at"),  # noqa: PTH123, SIM115
        (lambda x: x * next(NUMBERS), "an iterator"),
        (lambda x: x * next(COUNT), "an iterator"),
        (lambda x: x * QUEUE.get(), "an iterator"),
        (lambda x: x * random.Random().random(), r"random\.Random\.seed at .*test_guards"),
        (lambda x: x * _drawn_anew(), r"random\.Random\.seed at .*test_guards"),
        (lambda x: x * np.fromfile(__file__, "b")[0].item(), r"numpy\.fromfile at"),
        (lambda x: x * len(os.getcwd()), r"posix\.getcwd at"),  # noqa: PTH109
        (lambda x: x * len(Path(__file__).read_text()), r"open at .*test_guards"),
        (lambda x: x + wg.tensor(LARGE).sum(), r"an array \(ndarray\) of 800,000 bytes"),
    ],
)
def test_state_that_cannot_be_compared_is_refused(
    read: Callable[..., wg.Tensor], message: str
) -> None:
    step = wg.compile(read)
    step(wg.ones(2))  # runs as it is
    with pytest.raises(ValueError, match=f"compile: .*{message}"):
        step(wg.ones(2))


NUMBERS = iter(range(1000))
COUNT = itertools.count()
QUEUE: queue.SimpleQueue[float] = queue.SimpleQueue()
QUEUE.put(1.0)
QUEUE.put(2.0)
LARGE = np.zeros(100_000)


def _drawn_anew() -> float:
    random.seed()
    return random.random()


def test_traces_are_bounded_and_numbers_that_change_are_warned_of() -> None:
    step = wg.compile(lambda x, k: (x * k).sum(), max_traces=3)
    x = wg.ones(4)
    step(x, 0.0)
    with pytest.warns(RuntimeWarning, match=r"traced 9 times.* pass a tensor") as caught:
        for i in range(20):
            assert step(x, float(i)).item() == 4.0 * i
    assert len(caught) == 1 and caught[0].filename == __file__
    assert step.traces == 20
    assert "an argument was 18.0 and is 19.0" in step.reasons[-1]
    assert sum(len(traced) for traced in step._cache.values()) == 3
    step(x, 19.0)
    step(x, 18.0)
    assert step.traces == 20  # kept
    with pytest.raises(ValueError, match="max_traces"):
        wg.compile(lambda x: x, max_traces=0)


def test_what_is_kept_of_former_traces_is_bounded() -> None:
    made: dict[int, wg.Tensor] = {}

    @wg.compile(max_traces=2)
    def step(x: wg.Tensor, n: int) -> wg.Tensor:
        return x * n

    @wg.compile(max_traces=2)
    def leaves(x: wg.Tensor, n: int) -> wg.Tensor:
        if n not in made:
            made[n] = x + n
        return x * made[n]

    for n in range(10):
        step(wg.ones(2), n)
        leaves(wg.ones(2), n)
    assert step.traces == 9
    assert step.reasons == [f"an argument was {n} and is {n + 1}" for n in (7, 8)]
    assert 0 < len(leaves._escaped) <= 2


def test_a_step_that_changes_what_it_reads_is_traced_at_each_call() -> None:
    for compiled in (False, True):
        count = [0]

        def step(x: wg.Tensor, count: list[int] = count) -> wg.Tensor:
            count[0] += 1
            return x * count[0]

        run = wg.compile(step) if compiled else step
        seen = []
        for reset in (False, False, False, True, False, False):
            if reset:
                count[0] = 1
            seen.append(run(wg.ones(1)).item())
        assert seen == [1.0, 2.0, 3.0, 2.0, 3.0, 4.0]


# Kinds of state that no name in the bytecode tells of; see mutations.py.
UNNAMED = [
    *("__call__", "__call__ of a module's class", "__len__", "__bool__", "__getitem__", "__iter__"),
    *("__contains__", "__rmul__", "__enter__", "__eq__", "__getattr__", "__getattribute__"),
    *("__init__ of a class that the step uses", "class of an object with slots", "bases"),
    *("method of a metaclass", "attribute of a metaclass", "method of a descriptor"),
    *("OrderedDict", "dict in another order", "layers in another order", "default_factory"),
    *("enum's value", "partial's state", "lru_cache forgotten", "ctypes", "threading.local"),
    *("module that the step imports", "array of objects"),
]


@pytest.mark.parametrize("kind", UNNAMED)
def test_a_kind_of_state(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [mutations.MUTATIONS[kind], mutations.MUTATIONS["not read"]]
    if kind == "lru_cache forgotten":
        changes.append(mutations.MUTATIONS["global of this module"])
    monkeypatch.setattr(mutations, "MUTATIONS", {str(i): f for i, f in enumerate(changes)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for seed in range(3):
            mutations.program(seed)


def test_an_array_of_objects_is_compared_not_used_up() -> None:
    array = np.array([2.0, None], dtype=object)
    step = wg.compile(lambda x: x * array[0])
    assert [step(wg.ones(1)).item() for _ in range(4)] == [2.0] * 4
    assert step.traces == 1


def test_random_programs_whose_state_changes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for seed in range(40):
            raised, traces = mutations.program(seed)
            assert not raised and traces


# ---- state by kind: what makes it, what a step reads of it, what changes it


class Registered(abc.ABC):  # noqa: B024
    pass


class Text(str):
    k = 1.0


class Above:
    k = 1.0

    def scaled(self, x: wg.Tensor) -> wg.Tensor:
        return x * 2


class Below(Above):
    k = 2.0

    def scaled(self, x: wg.Tensor) -> wg.Tensor:
        return super().scaled(x) + super().k

    @classmethod
    def of_class(cls, x: wg.Tensor) -> wg.Tensor:
        return x * cls.k

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


class MadeInTheStep:
    factor = 1.0

    def __new__(cls) -> Any:
        made = super().__new__(cls)
        made.early = cls.factor
        return made

    def __init__(self) -> None:
        self.late = self.factor


@dataclasses.dataclass
class Record:
    k: float = 1.0


@dataclasses.dataclass(slots=True)
class Slots:
    k: float = 1.0


@typing.runtime_checkable
class HasLate(typing.Protocol):
    late: float


def matched(s: Any) -> float:
    match s:
        case Record(k=1.0):
            return 1.0
        case Record(k):
            return k * 2
    return 3.0


def may_have(x: wg.Tensor, objects: list[Any]) -> wg.Tensor:
    for found in objects:
        try:
            x = x * found.late
        except AttributeError:
            x = x * 2
    return x


def new_module() -> types.ModuleType:
    module = sys.modules["wengert_test_module"] = types.ModuleType("wengert_test_module")
    module.k = 1.0  # type: ignore[attr-defined]
    return module


def module_by_name(x: wg.Tensor) -> wg.Tensor:
    import importlib

    return x * importlib.import_module("wengert_test_module").k


def function_of_globals() -> Any:
    names = {"__name__": "a_module", "number": 1.0}
    exec("def read(x): return x * globals().get('number' + '', 3.0)", names)
    return names["read"]


space = types.SimpleNamespace
Case = tuple[Callable[[], Any], Callable[[wg.Tensor, Any], Any], Callable[[Any], Any]]
CASES: dict[str, Case] = {
    "attribute that hasattr did not find": (
        lambda: Record(),
        lambda x, s: x * 2 if hasattr(s, "late") else x,
        lambda s: setattr(s, "late", 1.0),
    ),
    "attribute of a class that hasattr did not find": (
        lambda: type("New", (), {})(),
        lambda x, s: x * 2 if hasattr(s, "late") else x,
        lambda s: setattr(type(s), "late", 1.0),
    ),
    "getattr's default": (
        lambda: type("New", (), {})(),
        lambda x, s: x * getattr(s, "late", 1.0),
        lambda s: (setattr(type(s), "late", 3.0), setattr(s, "late", 5.0)),
    ),
    "class attribute by a name made in the step": (
        lambda: type("New", (), {"k": 1.0})(),
        lambda x, s: x * getattr(s, "k" + ""),
        lambda s: setattr(type(s), "k", 3.0),
    ),
    "attribute that a handler stood in for": (
        lambda: [Record()],
        may_have,
        lambda s: setattr(s[0], "late", 5.0),
    ),
    "attribute of a class that a handler stood in for": (
        lambda: [type("New", (Record,), {})()],
        may_have,
        lambda s: setattr(type(s[0]).__base__, "late", 5.0),
    ),
    "__getattr__ of a class that had none": (
        lambda: [type("New", (), {})()],
        may_have,
        lambda s: setattr(type(s[0]), "__getattr__", lambda self, name: 7.0),
    ),
    "vars": (lambda: space(k=1.0), lambda x, s: x * len(vars(s)), lambda s: setattr(s, "j", 1)),
    "__dict__.get": (
        lambda: space(k=1.0),
        lambda x, s: x * s.__dict__.get("late", 2.0),
        lambda s: setattr(s, "late", 5.0),
    ),
    "__dict__ of a class": (
        lambda: type("New", (), {"k": 1.0}),
        lambda x, s: x * s.__dict__["k"],
        lambda s: setattr(s, "k", 5.0),
    ),
    "vars of a module": (
        new_module,
        lambda x, s: x * vars(s)["k"],
        lambda s: setattr(s, "k", 5.0),
    ),
    "name that a module did not have": (
        new_module,
        lambda x, s: x * getattr(s, "late", 2.0),
        lambda s: setattr(s, "late", 5.0),
    ),
    "import_module": (
        new_module,
        lambda x, s: module_by_name(x),
        lambda s: setattr(s, "k", 5.0),
    ),
    "import_module of another": (
        new_module,
        lambda x, s: module_by_name(x),
        lambda s: setattr(new_module(), "k", 5.0),
    ),
    "globals()": (
        function_of_globals,
        lambda x, s: s(x),
        lambda s: s.__globals__.update(number=5.0),
    ),
    "dataclasses.asdict": (
        Record,
        lambda x, s: x * dataclasses.asdict(s)["k"],
        lambda s: setattr(s, "k", 5.0),
    ),
    "dataclasses.asdict, with slots": (
        Slots,
        lambda x, s: x * dataclasses.asdict(s)["k"],
        lambda s: setattr(s, "k", 5.0),
    ),
    "empty slot": (
        lambda: Slots.__new__(Slots),
        lambda x, s: x * 2 if hasattr(s, "k") else x,
        lambda s: setattr(s, "k", 5.0),
    ),
    "str.format": (
        Record,
        lambda x, s: x * float("{.k}".format(s)),  # noqa: UP032
        lambda s: setattr(s, "k", 5.0),
    ),
    "a pattern of a class": (
        Record,
        lambda x, s: x * matched(s),
        lambda s: setattr(s, "k", 5.0),
    ),
    "a protocol": (
        Record,
        lambda x, s: x * 2 if isinstance(s, HasLate) else x,
        lambda s: setattr(s, "late", 5.0),
    ),
    "a list's bound slot": (
        lambda: [1.0].__len__,
        lambda x, s: x * s(),
        lambda s: s.__self__.append(1.0),
    ),
    "super()'s method": (
        Below,
        lambda x, s: s.scaled(x),
        lambda s: setattr(Above, "scaled", lambda self, x: x * 7),
    ),
    "super()'s attribute": (Below, lambda x, s: s.scaled(x), lambda s: setattr(Above, "k", 7.0)),
    "a class method's class": (
        lambda: Below,
        lambda x, s: s.of_class(x),
        lambda s: setattr(Below, "k", 7.0),
    ),
    "a class that is used in the step": (
        lambda: None,
        lambda x, s: x * MadeInTheStep().late,
        lambda s: setattr(MadeInTheStep, "factor", 7.0),
    ),
    "a class that is used in the step, in __new__": (
        lambda: None,
        lambda x, s: x * MadeInTheStep().early,
        lambda s: setattr(MadeInTheStep, "factor", 7.0),
    ),
    "attribute of text": (
        lambda: Text("2"),
        lambda x, s: x * s.k,
        lambda s: setattr(s, "k", 5.0),
    ),
    "subclass registered": (
        lambda: type("New", (), {})(),
        lambda x, s: x * 2 if isinstance(s, Registered) else x,
        lambda s: Registered.register(type(s)),
    ),
    "view of a dict": (
        lambda: (table := {"k": 1.0}, table.values()),
        lambda x, s: x * sum(s[1]),
        lambda s: s[0].update(k=5.0),
    ),
    "read-only view of a dict": (
        lambda: (table := {"k": 1.0}, types.MappingProxyType(table)),
        lambda x, s: x * s[1]["k"],
        lambda s: s[0].update(k=5.0),
    ),
    "key of a dict": (
        lambda: {Below(): 1.0},
        lambda x, s: x * sum(key.k for key in s),
        lambda s: [setattr(key, "k", 5.0) for key in s],
    ),
    "object in an array": (
        lambda: np.array([Record()], object),
        lambda x, s: x * s[0].k,
        lambda s: setattr(s[0], "k", 5.0),
    ),
    "shape of an array": (
        lambda: np.ones((2, 2)),
        lambda x, s: x * len(s),
        lambda s: s.resize((4, 1), refcheck=False),
    ),
    "text that is read line by line": (
        lambda: io.StringIO("1\n2\n3\n4\n5\n6\n7\n8\n9\n"),
        lambda x, s: x * float(s.readline()),
        lambda s: s.seek(0),
    ),
    "bytes that are read": (
        lambda: io.BytesIO(bytes(range(20))),
        lambda x, s: x * s.read(1)[0],
        lambda s: s.seek(0),
    ),
    "a file's lines": (
        lambda: Path(__file__).open(),  # noqa: SIM115
        lambda x, s: x * len(next(s)),
        lambda s: s.seek(0),
    ),
    "deque": (
        lambda: collections.deque([1.0, 2.0]),
        lambda x, s: x * s[0],
        lambda s: s.rotate(),
    ),
    "level of a logger": (
        lambda: logging.Logger("wengert.test", 10),
        lambda x, s: x * s.getEffectiveLevel(),
        lambda s: s.setLevel(20),
    ),
    "number of threads": (
        lambda: wg.set_num_threads(1),
        lambda x, s: x * wg.num_threads(),
        lambda s: wg.set_num_threads(2),
    ),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.smoke
def test_changed_state_of_each_kind(kind: str) -> None:
    make, read, change = CASES[kind]
    former = [(c, dict(vars(c))) for c in (Above, Below, MadeInTheStep, Record)]
    threads, results = wg.num_threads(), []
    try:
        for compiled in (False, True):
            state = make()
            step = wg.compile(lambda x, s=state: read(x, s)) if compiled else None
            seen = []
            for call in range(7):
                if call == 4:
                    change(state)
                x = wg.tensor([1.0, -2.0, 0.5])
                seen.append((step(x) if step else read(x, state)).tolist())
            results.append(seen)
            for cls, attributes in former:
                for name in {*vars(cls), *attributes} - {"__dict__", "__weakref__"}:
                    if name not in attributes:
                        delattr(cls, name)
                    elif vars(cls)[name] is not attributes[name]:
                        setattr(cls, name, attributes[name])
    finally:
        wg.set_num_threads(threads)
    assert results[0] == results[1]
    assert results[0][3] != results[0][4], "the case changes nothing"


def test_arrays_of_other_libraries() -> None:
    torch, pandas = pytest.importorskip("torch"), pytest.importorskip("pandas")
    tensor = torch.ones(2)
    layer = torch.nn.Linear(1, 1)
    series, frame = pandas.Series([1.0, 2.0]), pandas.DataFrame({"a": [1.0, 2.0]})
    with torch.no_grad():
        layer.weight.fill_(1.0)
    steps = [
        wg.compile(lambda x: x * float(tensor[0])),
        wg.compile(lambda x: x * float(layer.weight.detach()[0, 0])),
        wg.compile(lambda x: x * float(series[0])),
        wg.compile(lambda x: x * float(frame["a"].sum() - 2)),
    ]
    for number in (1.0, 5.0, 2.0):
        tensor[0] = number
        series[0] = number
        frame["a"] = [number, 2.0]
        with torch.no_grad():
            layer.weight.fill_(number)
        for _ in range(3):
            assert [step(wg.ones(())).item() for step in steps] == [number] * 4
    assert all(step.traces == 3 for step in steps)
    large = torch.ones(100_000)
    step = wg.compile(lambda x: x * float(large[0]))
    step(wg.ones(2))
    with pytest.raises(ValueError, match=r"reads large, an array \(Tensor\) of 400,000 bytes"):
        step(wg.ones(2))


def test_a_refused_read_whose_error_is_caught() -> None:
    for read in (
        lambda x: x * (2 if os.path.exists("/no/such/file") else 1),  # noqa: PTH110
        lambda x: x * (2 if Path("/no/such/file").exists() else 1),
        lambda x: _or_one(x, lambda: Path("/no/such/file").read_text()),
    ):
        step = wg.compile(read)
        assert step(wg.ones(())).item() == 1
        with pytest.raises(ValueError, match=r"(posix.stat|open) at .*test_guards.py"):
            step(wg.ones(()))


def _or_one(x: wg.Tensor, read: Callable[[], Any]) -> wg.Tensor:
    try:
        return x * read()
    except (OSError, ValueError):
        return x


def test_an_argument_that_requires_a_gradient_is_an_error_at_each_call() -> None:
    w = wg.ones(3, requires_grad=True)

    @wg.compile
    def step(x: wg.Tensor) -> wg.Tensor:
        w.grad = None
        (x * w).sum().backward()
        assert w.grad is not None
        return w.grad

    for _ in range(3):
        step(wg.ones(3))
    for given in (w, (w * 2), w[:]):  # it met a trace that gave the gradient of w alone
        with pytest.raises(wg.GradientError, match="tensor 0 among the arguments requires"):
            step(given)
        with pytest.raises(wg.GradientError, match="tensor 0 among the arguments requires"):
            step.run(1, given.reshape(1, 3))
    assert step(w.detach()).tolist() == [1.0] * 3
