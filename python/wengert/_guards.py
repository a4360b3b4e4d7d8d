"""What a compiled step reads of Python's state, besides tensors' values: the guards of its traces.

A trace holds for as long as each name, attribute, list, dict, cell and flag that the step reads is
what it was when the step was traced. Which ones those are is read from the bytecode that ran
(`Recorder`): `self.model.act` is the attribute "act" of the attribute "model" of each object of
that method's class; where the bytecode does not tell whose attribute it is, it may be any object's.
`snapshot` follows these reads from the step's function through the objects that it finds, and gives
a `_core._Guards` with all of them (csrc/bindings/guards.cpp), which a call then compares.

The bytecode of the user's own code is read exactly or too widely, never too narrowly: too widely
costs a trace that was not needed. State that cannot be compared is refused: iterators, clocks,
large NumPy arrays.
"""

from __future__ import annotations

import dis
import functools
import gc
import io
import re
import sys
import sysconfig
import threading
import types
import weakref
from abc import ABCMeta, get_cache_token
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter, methodcaller
from random import Random, SystemRandom
from typing import Any, NamedTuple

from . import _core
from ._core import Tensor

Trie = dict[str, Any]  # names read of an object; under each, those read of what was there
_nothing: Trie = {}

_LIBRARY = sysconfig.get_path("stdlib")
_PACKAGE = __name__.partition(".")[0]
_LOOKS_BY_NAME = {"vars", "__dict__", "eval", "exec", "globals", "locals"}
_LOOKS_BY_NAME |= {"attrgetter", "methodcaller", "__getattribute__", "dir", "getmembers"}
_TAKES_ARGUMENTS = "PRECALL" if sys.version_info < (3, 12) else "CALL"
_ATTRIBUTE_OF = {"getattr", "hasattr"}  # by a name that may be a constant
_READS_OTHERS = {"copy", "dataclasses", "typing"}  # of the standard library, by name
_IMPORTS = {"import_module", "__import__"}
_NEW_AT_EACH_CALL = {
    *(f"time.{name}{ns}" for name in ("time", "monotonic", "perf_counter") for ns in ("", "_ns")),
    *(f"time.{name}{ns}" for name in ("process_time", "thread_time") for ns in ("", "_ns")),
    *("time.localtime", "time.gmtime", "time.ctime", "time.asctime", "time.strftime"),
    *("time.clock_gettime", "time.clock_gettime_ns", "posix.times", "resource.getrusage"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"),
    *("datetime.date.today", "builtins.input", "_uuid.generate_time_safe"),
    *("io.open", "_io.open", "posix.open", "posix.read", "posix.listdir", "posix.scandir"),
    *("posix.stat", "posix.lstat", "posix.access", "posix.getcwd", "numpy.fromfile"),
}
_NEW_EVEN_IN_THE_LIBRARY = {"posix.urandom", "posix.getrandom"}  # what secrets and uuid draw from
# A compiled step within the step is its function; what an exchange knows is no state of the step.
_SKIPPED = {f"{_PACKAGE}.compiling", __name__, f"{_PACKAGE}.parallel.exchange"}
_MAX_ARRAY_BYTES = 1 << 18
_IMMUTABLE: tuple[type, ...] = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type(...),
    range,
    slice,
)
_IMMUTABLE += (types.CodeType, type(_core.sum), type(Tensor.sum))  # but not what inherits from them


_DICT_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class whose attributes can be set


class Reads(NamedTuple):
    """What one code object reads: of globals, modules, variables of functions around it, its first
    argument where it is a method, and objects that the bytecode does not tell."""

    names: Trie
    modules: Trie  # that it imports itself
    around: Trie
    own: Trie
    any: Trie
    by_name: bool  # it may read any attribute: getattr, vars, ...


def _join(into: Trie, other: Trie) -> None:
    for name, below in other.items():
        _join(into.setdefault(name, {}), below)


@functools.lru_cache(maxsize=4096)
def reads(code: types.CodeType) -> Reads:
    """The reads of a code object, without those of functions within it."""
    instructions = list(dis.get_instructions(code))
    asked = _asked_by_name(instructions)
    by_name = asked is None or not _LOOKS_BY_NAME.isdisjoint(code.co_names)
    found = Reads({}, {}, {}, {}, {name: {} for name in asked or ()}, by_name)
    stores: Counter[str] = Counter()
    for i in instructions:
        if i.opname.startswith("STORE_FAST"):  # one name, or from 3.13 on two
            stores.update(i.argval if isinstance(i.argval, tuple) else (i.argval,))
    first = code.co_varnames[0] if code.co_argcount and code.co_varnames[0] not in stores else None
    is_method = "." in code.co_qualname and not code.co_qualname.rpartition(".")[0].endswith(">")
    if not {"format", "format_map"}.isdisjoint(code.co_names):  # "{.name}".format(x)
        for text in code.co_consts:
            if isinstance(text, str):
                _join(found.any, {key: {} for key in re.findall(r"\.([^\W\d]\w*)", text)})
    variables: dict[str, Trie] = {first: found.own if is_method else found.any} if first else {}
    top: Trie | None = None  # where reads of the object on top of the stack are noted
    module = found.any  # the same for the last imported module
    for i, former in zip(instructions, [None, *instructions], strict=False):
        name, op = i.argval, i.opname
        if op in ("PUSH_NULL", "NOP", "CACHE", "EXTENDED_ARG", "RESUME", "COPY_FREE_VARS"):
            continue
        if i.is_jump_target:
            top = None
        if op in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            top = found.names.setdefault(name, {})
        elif op in ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"):
            top = found.around.setdefault(name, {}) if name in code.co_freevars else None
        elif op.startswith("LOAD_FAST") and op != "LOAD_FAST_AND_CLEAR":
            top = variables.get(name[-1] if isinstance(name, tuple) else name)
        elif op == "STORE_FAST_LOAD_FAST":
            top = variables.get(name[-1])
        elif op in ("LOAD_ATTR", "LOAD_METHOD"):
            top = (found.any if top is None else top).setdefault(name, {})
        elif op == "IMPORT_NAME":
            top = module = found.modules.setdefault(name, {})
        elif op == "IMPORT_FROM":
            top = module.setdefault(name, {})
        elif op == "MATCH_CLASS":  # names after positional ones, which the class has
            keys = former.argval if former else ()
            _join(found.any, {key: {} for key in keys})
            found = found._replace(by_name=found.by_name or bool(i.arg))
        elif op.startswith("LOAD_SUPER_"):
            top = found.own.setdefault(name, {})
        elif op == "STORE_FAST":
            if top is not None and stores[name] == 1:
                variables[name] = top
            top = None
        else:
            top = None
    return found


def _asked_by_name(instructions: list[dis.Instruction]) -> set[str] | None:
    """The names in getattr(x, "name") and hasattr(x, "name"); None if one is not a constant."""
    names: set[str] = set()
    for at, i in enumerate(instructions):
        if i.argval not in _ATTRIBUTE_OF or not i.opname.startswith("LOAD_"):
            continue
        made: list[dis.Instruction] = []  # what put there each argument so far
        for j in instructions[at + 1 :]:
            if j.opname in ("PUSH_NULL", "CACHE", "NOP", "EXTENDED_ARG"):
                continue
            if j.is_jump_target or "JUMP" in j.opname or j.opname == "RETURN_VALUE":
                return None
            if j.opname == _TAKES_ARGUMENTS and len(made) == j.arg:
                break
            effect = dis.stack_effect(j.opcode, j.arg, jump=False)
            kept = len(made) + effect - (1 if effect <= 0 else effect)
            if kept < 0:  # it is handed on
                return None
            made[kept:] = [j] * max(1, effect)
        name = made[1] if len(made) > 1 else None
        if name is None or name.opname != "LOAD_CONST" or not isinstance(name.argval, str):
            return None
        names.add(name.argval)
    return names


class Recorder:
    """A context in which a step runs: `codes` gathers the code that it ran, with its globals."""

    def __init__(self) -> None:
        """Nothing has run."""
        self.codes: dict[types.CodeType, dict[str, Any]] = {}
        self.grew = False  # whether the last run met code that was new

    def run(self, fn: Callable[..., Any], args: Any, kwargs: Any, refuse: bool) -> Any:
        """fn(*args, **kwargs); with `refuse`, reading a clock or a file raises ValueError."""
        refused = (_NEW_AT_EACH_CALL, _NEW_EVEN_IN_THE_LIBRARY) if refuse else (set(), set())
        core = _core._Recorder(*refused, Random.seed.__code__ if refuse else None, _LIBRARY)
        collects = gc.isenabled()
        gc.disable()  # callbacks of the collector are no part of the step
        outer, _here.core = getattr(_here, "core", None), core
        core.start()
        try:
            result = fn(*args, **kwargs)
            if core.refusal:  # and the step went on: `os.path.exists` catches the error
                raise ValueError(core.refusal)
            return result
        finally:
            core.stop()
            _here.core = outer
            if collects:
                gc.enable()
            before = len(self.codes)
            self.codes.update(dict(core.codes()))
            self.grew = len(self.codes) > before


_here = threading.local()  # core: what records this thread


@contextmanager
def unrecorded() -> Iterator[None]:
    """What runs in it is no part of the step: a host line, which runs at each replay."""
    core = getattr(_here, "core", None)
    if core is None:
        yield
        return
    core.stop()
    try:
        yield
    finally:
        core.start()


class _Missing:
    pass


_missing = _Missing()


def snapshot(roots: Iterable[Any], codes: dict[types.CodeType, dict[str, Any]]) -> _core._Guards:
    """Guards of what these codes read of the state that can be reached from their globals and from
    `roots` (the step's function, and arguments that are no tensors), as it is now.

    Raises ValueError where they read an iterator or a large NumPy array.
    """
    roots = list(roots)
    walk = _Walk(codes)
    guards = walk.guards(roots)
    if walk.meets_by_name:  # operator.attrgetter may read any attribute of what was seen before it
        walk = _Walk(codes)
        walk.by_name = True
        guards = walk.guards(roots)
    return guards


class _Walk:
    def __init__(self, codes: dict[types.CodeType, dict[str, Any]]) -> None:
        self.codes = codes
        self.found = _core._Guards()
        self.todo: deque[tuple[Any, str, Trie]] = deque()
        self.seen: set[tuple[int, int]] = set()
        self.keep: list[Any] = []  # so that the numbers in `seen` stay those objects'
        self.dicts: dict[int, tuple[dict[Any, Any], dict[str, str]]] = {}  # keys read, with labels
        self.whole: dict[int, tuple[dict[Any, Any], str]] = {}
        self.any_user: Trie = {}  # and of the standard library, which looks into users' objects
        self.any_package: Trie = {}
        self.by_name = False
        self.meets_by_name = False
        self.of_objects: set[int] = set()  # dicts of objects' attributes
        # Of dicts that may get no other keys: "names", or "all" where order counts; and a label.
        self.keys: dict[int, tuple[str, str]] = {}
        self.owns: dict[type, tuple[Trie, bool]] = {}
        self.special: dict[type, Trie] = {}
        self.inherited: dict[tuple[int, int], dict[str, Any]] = {}

    def guards(self, roots: Iterable[Any]) -> _core._Guards:
        for code, names in self.codes.items():
            if names.get("__name__") in _SKIPPED:
                continue
            of_package = _package_of(names) == _PACKAGE
            _join(self.any_package if of_package else self.any_user, reads(code).any)
            if not _is_library(names) or names.get("__name__") in _READS_OTHERS:
                self.by_name |= reads(code).by_name
            if not _is_library(names) and not _IMPORTS.isdisjoint(code.co_names):
                for name, module in list(sys.modules.items()):
                    if _is_of_user(module):
                        self.read(sys.modules, name, f"module {name!r}")
                        self.push(module, name, _nothing)
            if "num_threads" in code.co_names:
                self.found.add_call(_core.num_threads, _core.num_threads(), "num_threads()")
        for root in roots:
            self.push(root, _name_of(root), _nothing)
        for code, names in self.codes.items():
            if names.get("__name__") not in _SKIPPED:
                self.read_globals(code, names)
        self.follow()
        self.find_functions()
        for at, label in self.whole.values():
            entries = [(key, f"{label}[{key!r}]") for key in at]
            self.found.add_dict(at, "all", f"the set of keys of {label}", entries, False)
        for at, labels in self.dicts.values():
            if id(at) not in self.whole:
                keys, label = self.keys.get(id(at), ("", ""))
                of_object = id(at) in self.of_objects
                if keys == "all":  # their order counts
                    labels = {k: labels[k] for k in (*(k for k in at if k in labels), *labels)}
                self.found.add_dict(at, keys, label, list(labels.items()), of_object)
        return self.found

    def read_globals(self, code: types.CodeType, names: dict[str, Any]) -> None:
        for name, below in reads(code).names.items():
            value = self.read(names, name, f"global {name!r}")
            if value is not _missing:
                self.push(value, name, below)
        if "globals" in code.co_names and not _is_library(names):
            self.look_at_namespace(names, f"module {names.get('__name__')!r}")
        for name, below in reads(code).modules.items():
            for module in _modules(name, str(names.get("__package__") or "")):
                value = self.read(sys.modules, module, f"module {module!r}")
                if value is not _missing:
                    self.push(value, module, below)

    def look_at_namespace(self, at: dict[str, Any], label: str) -> None:
        """Guards of a module's names, of which any may be read."""
        self.keys[id(at)] = "names", f"the set of names of {label}"
        for name in list(at):
            value = self.read(at, name, f"{label}.{name}")
            if not issubclass(type(value), (types.ModuleType, type, types.FunctionType)):
                self.push(value, f"{label}.{name}", _nothing)

    def follow(self) -> None:
        while self.todo:
            value, label, below = self.todo.popleft()
            self.look(value, label, below)

    def find_functions(self) -> None:
        """Functions that ran, read variables around them, and were not met: their cells too."""
        known = {id(c) for f in self.keep if isinstance(f, types.FunctionType) for c in _nested(f)}
        lost = [c for c in self.codes if c.co_freevars and id(c) not in known]
        lost = [c for c in lost if not c.co_qualname.endswith(("<genexpr>", "<listcomp>"))]
        if not lost:
            return
        for f in gc.get_referrers(*lost):
            if isinstance(f, types.FunctionType) and f.__code__ in self.codes:
                self.push(f, f.__qualname__, _nothing)
        self.follow()

    # ---- one read

    def read(self, at: dict[Any, Any], name: str, label: str) -> Any:
        self.dicts.setdefault(id(at), (at, {}))[1].setdefault(name, label)
        return at.get(name, _missing)

    def push(self, value: Any, label: str, below: Trie) -> None:
        if type(value) in _IMMUTABLE:
            return
        if (id(value), id(below)) not in self.seen:
            self.seen.add((id(value), id(below)))
            self.keep.append(value)
            self.keep.append(below)
            self.todo.append((value, label, below))

    # ---- one object, and what is read of it

    def look(self, value: Any, label: str, below: Trie) -> None:
        kind = type(value)
        if kind.__module__ in _SKIPPED:
            self.push(getattr(value, "_fn", None), label, _nothing)
            return
        if isinstance(value, (types.ModuleType, type)):
            of_user = not _is_known(value)
            if self.by_name and _is_of_user(value):
                self.look_at_namespace(vars(value), label)
            if isinstance(value, type) and of_user and (id(value), 0) not in self.seen:
                self.seen.add((id(value), 0))
                self.found.add_object(value, f"a base of {label}")
                for kind in (value, type(value)):
                    self.look_at_special_methods(kind)
                    self.look_at_class(kind, self.own(type(value))[0])
                self.look_at_class(value, self.own(value)[0])
                if isinstance(value, ABCMeta):
                    self.found.add_call(get_cache_token, get_cache_token(), "a registered subclass")
            for names in (below, self.any_user) if of_user else (below,):
                if isinstance(value, type):
                    self.look_at_class(value, names)
                    self.look_at_class(type(value), names)
                    continue
                for name, more in names.items():
                    found = self.read(vars(value), name, f"{label}.{name}")
                    if found is not _missing:
                        self.push(found, f"{label}.{name}", more)
            return
        if (id(value), 0) not in self.seen:  # what is done once for an object
            self.seen.add((id(value), 0))
            self.look_inside(value, label)
            self.look_at_special_methods(kind)
            own, searched = self.own(kind)
            if searched:
                self.look_at_members(value, label)
            self.attributes(value, label, own)
            self.attributes(value, label, self.any_user)
            if _is_in_package(type(value)):
                self.attributes(value, label, self.any_package, certain=False)
            if kind.__flags__ & _HEAP_TYPE:  # now that it has a dict
                self.found.add_object(value, f"the class of {label}")
        if below:
            self.attributes(value, label, below)

    def look_inside(self, value: Any, label: str) -> None:
        """Guards of what a value holds itself: items, cells, flags."""
        if isinstance(value, Tensor):
            self.found.add_tensor(value, f"{label}.requires_grad or a hook of it")
            for hook in gc.get_referents(value):
                if callable(hook) and not isinstance(hook, type):
                    self.push(hook, f"a hook of {label}", _nothing)
        elif isinstance(value, types.FunctionType):
            self.look_at_function(value, label)
        elif isinstance(value, types.MethodType):
            self.push(value.__func__, label, _nothing)
            self.push(value.__self__, label, _nothing)
        elif type(value).__name__ in (
            "builtin_function_or_method",
            "cython_function_or_method",
            "method-wrapper",
        ):
            owner = getattr(value, "__self__", None)
            if not isinstance(owner, (types.ModuleType, type)):
                self.push(owner, label, _nothing)
        elif type(value).__name__ == "_lru_cache_wrapper":
            for part in gc.get_referents(value):  # the function, and the dict of what it gave
                self.push(part, f"the cache of {label}", _nothing)
        elif type(value).__name__ == "_lru_list_elem":
            for part in gc.get_referents(value):
                self.push(part, label, _nothing)
        elif isinstance(value, functools.partial):
            for part in ("func", "args", "keywords"):
                self.slot(value, part, label, _nothing)
        elif isinstance(value, dict):
            self.whole[id(value)] = (value, label)
            if isinstance(value, OrderedDict):  # its order is not the dict's
                self.same_items(value.__iter__, label)
            if isinstance(value, defaultdict):
                self.slot(value, "default_factory", label, _nothing)
            for key, item in value.items():
                self.push(key, f"a key of {label}", _nothing)
                self.push(item, f"{label}[{key!r}]", _nothing)
        elif isinstance(value, list):
            self.found.add_list(value, label)
            for i, item in enumerate(value):
                self.push(item, f"{label}[{i}]", _nothing)
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                self.push(item, f"{label}[{i}]", _nothing)
        elif isinstance(value, (set, frozenset, deque)):
            if not isinstance(value, frozenset):
                self.same_items(value.__iter__, label)
            for item in list(value):
                self.push(item, label, _nothing)
        elif isinstance(value, (bytearray, memoryview, array)) or _is_of_c(type(value)):
            self.look_at_bytes(value, label)
        elif isinstance(value, (attrgetter, methodcaller)):
            self.meets_by_name = True
        elif isinstance(value, (types.MappingProxyType, *_DICT_VIEWS)):
            for part in gc.get_referents(value):
                self.push(part, label, _nothing)
        elif isinstance(value, io.IOBase):
            self.look_at_file(value, label)
        elif isinstance(value, Random) and not isinstance(value, SystemRandom):
            self.found.add_call(value.getstate, value.getstate(), f"the state of {label}")
        elif isinstance(value, ContextVar):
            self.found.add_call(functools.partial(value.get, None), value.get(None), label)
        elif isinstance(value, weakref.ref):
            self.push(value(), label, _nothing)
        elif _is_array(type(value)):
            self.look_at_array(value, label)
        elif type(value).__module__.partition(".")[0] == "numpy":
            self.look_at_numpy(value, label)
        elif _is_iterator(value):
            raise ValueError(
                f"compile: the step reads {label}, an iterator ({type(value).__name__}), which "
                "moves on at each call, and a compiled step would keep what it gave first; take "
                "from it outside, and pass what it gives as an argument"
            )

    def same_items(self, read: Callable[[], Iterable[Any]], label: str) -> None:
        """That these items, which are kept so that their numbers stay theirs, are still there."""

        kept = [*read()]

        def now(kept: list[Any] = kept) -> list[int]:
            return [*map(id, read())]

        self.found.add_call(now, now(), label)

    def look_at_function(self, f: types.FunctionType, label: str) -> None:
        self.found.add_function(f, f"function {f.__qualname__!r}")
        for part in (f.__defaults__, f.__kwdefaults__):
            self.push(part, f"a default of {f.__qualname__!r}", _nothing)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            self.found.add_cell(cell, f"{name!r}")
            below: Trie = {}
            for code in _nested(f):
                _join(below, reads(code).around.get(name, {}))
            try:
                self.push(cell.cell_contents, name, below)
            except ValueError:  # an empty cell
                continue

    def look_at_bytes(self, value: Any, label: str) -> None:
        with memoryview(value) as view:
            if view.nbytes > _MAX_ARRAY_BYTES:
                raise _unseen(value, label, f" of {view.nbytes:,} bytes")
        self.found.add_call(functools.partial(bytes, value), bytes(value), label)

    def look_at_array(self, value: Any, label: str) -> None:
        """An array of NumPy's, or of another library that NumPy reads: its form and bytes."""
        import numpy as np

        def array() -> Any:
            return np.asarray(value.detach() if hasattr(type(value), "detach") else value)

        try:
            x = array()
        except Exception as error:  # any of another library
            raise _unseen(value, label) from error
        if x.nbytes > _MAX_ARRAY_BYTES:
            raise _unseen(value, label, f" of {x.nbytes:,} bytes")
        if x.dtype.hasobject:
            self.same_items(lambda: array().flat, label)
            for item in x.flat:
                self.push(item, label, _nothing)
            return

        def now() -> tuple[Any, ...]:
            x = array()
            return x.shape, x.dtype.str, x.tobytes()

        self.found.add_call(now, now(), label)

    def look_at_file(self, file: io.IOBase, label: str) -> None:
        """The position of a file that may be read; one that cannot tell is new at each call."""
        if file in (sys.stdout, sys.stderr) or file.closed or not file.readable():
            return

        def now() -> object:
            try:
                return file.tell()
            except (OSError, ValueError):
                return object()

        self.found.add_call(now, now(), f"the position of {label}")

    def look_at_numpy(self, value: Any, label: str) -> None:
        import numpy as np

        if isinstance(value, (np.random.Generator, np.random.RandomState)):
            bits = value.bit_generator if isinstance(value, np.random.Generator) else value

            def state() -> str:
                now = bits.state if hasattr(bits, "state") else bits.get_state(legacy=False)
                with np.printoptions(threshold=sys.maxsize):
                    return repr(now)

            self.found.add_call(state, state(), f"the state of {label}")

    def look_at_members(self, module: Any, label: str) -> None:
        """What Module.parameters() finds: attributes that hold tensors or modules, or could."""
        self.keys[id(vars(module))] = "all", f"the set of attributes of {label}"
        for name, value in vars(module).items():
            if _holds_members(value):
                self.read(vars(module), name, f"{label}.{name}")
                self.push(value, f"{label}.{name}", _nothing)

    # ---- attributes

    def own(self, kind: type) -> tuple[Trie, bool]:
        """What the methods of a class that ran read of their first argument; whether one of this
        package's searches its attributes for modules and parameters."""
        if kind not in self.owns:
            trie: Trie = {}
            searched = False
            for cls in kind.__mro__:
                for value in list(vars(cls).values()) if cls is not object else ():
                    for code in _codes_of(value):
                        if code in self.codes:
                            _join(trie, reads(code).own)
                            searched |= reads(code).by_name and _is_in_package(cls)
            self.owns[kind] = (trie, searched and _is_module_class(kind))
        return self.owns[kind]

    def attributes(self, value: Any, label: str, names: Trie, certain: bool = True) -> None:
        """Guards of these attributes. Where it is not certain that they are read of this value, of
        those that are there."""
        try:
            own = object.__getattribute__(value, "__dict__")
        except (AttributeError, TypeError):
            own = None
        if isinstance(value, threading.local):  # another one in each thread
            own = value.__dict__
            self.slot(value, "__dict__", label, _nothing)
        if self.by_name and not _is_in_package(type(value)):
            there = [*_slots_of(type(value)), *(map(str, own) if isinstance(own, dict) else ())]
            names = {**dict.fromkeys(there, _nothing), **names}
            if isinstance(own, dict):
                self.keys.setdefault(id(own), ("names", f"the set of attributes of {label}"))
                self.dicts.setdefault(id(own), (own, {}))
        inherited = self.look_at_class(type(value), names)
        if "__class__" in names:
            self.push(type(value), type(value).__name__, names["__class__"])
        if isinstance(own, dict):
            self.of_objects.add(id(own))
            for name, below in names.items():
                if certain or name in own or name in inherited:
                    found = self.read(own, name, f"{label}.{name}")
                    if found is not _missing:
                        self.push(found, f"{label}.{name}", below)
        for name, found in inherited.items():
            if isinstance(found, types.MemberDescriptorType):
                self.slot(value, name, label, names.get(name, _nothing))

    def look_at_special_methods(self, kind: type) -> None:
        """Guards of what the interpreter looks for in a class though no bytecode names it."""
        if kind in self.special:
            return
        names: Trie = {}
        for cls in kind.__mro__:
            if cls.__flags__ & _HEAP_TYPE:
                at = _core._type_dict(cls)
                self.keys[id(at)] = "names", f"the set of attributes of {cls.__name__}"
                self.dicts.setdefault(id(at), (at, {}))
                every = self.by_name and not _is_known(cls)
                names |= {name: {} for name in at if every or name[:2] == name[-2:] == "__"}
        self.special[kind] = names
        self.look_at_class(kind, names)

    def look_at_class(self, kind: type, names: Trie) -> dict[str, Any]:
        """Guards of these attributes of a class; those that it has."""
        key = (id(kind), id(names))
        if key in self.inherited:
            return self.inherited[key]
        self.keep += [kind, names]
        here: dict[str, Any] = {}
        for name, below in names.items():
            classes = [c for c in kind.__mro__ if name in vars(c)]
            if not classes or not classes[0].__flags__ & _HEAP_TYPE:
                continue
            for cls in kind.__mro__[: kind.__mro__.index(classes[-1]) + 1]:  # super() reads on
                if not cls.__flags__ & _HEAP_TYPE:
                    continue
                found = self.read(_core._type_dict(cls), name, f"{cls.__name__}.{name}")
                if found is _missing:
                    continue
                here.setdefault(name, found)
                self.push(found, f"{cls.__name__}.{name}", below)
                for function in _functions_of(found):
                    self.push(function, f"{cls.__name__}.{name}", _nothing)
        self.inherited[key] = here
        return here

    def slot(self, value: Any, name: str, label: str, below: Trie) -> None:
        there = getattr(value, name, _missing)

        def now(kept: Any = there) -> int:
            return id(getattr(value, name, _missing))

        self.found.add_call(now, now(), f"{label}.{name}")
        if there is not _missing:
            self.push(there, f"{label}.{name}", below)


def _name_of(root: Any) -> str:
    return str(getattr(root, "__qualname__", type(root).__name__))


def _is_known(value: Any) -> bool:
    """A module or class of this package, NumPy, or the standard library."""
    name = value.__module__ if isinstance(value, type) else value.__name__
    package = str(name).partition(".")[0]
    return package in (_PACKAGE, "numpy") or _is_standard(package)


def _is_of_user(module: Any) -> bool:
    """A module that is not installed: any of its names may be read by name."""
    if type(module) is not types.ModuleType or _is_known(module):
        return False
    return "-packages" not in str(vars(module).get("__file__"))


def _is_standard(package: str) -> bool:
    return package in sys.stdlib_module_names and package != "__main__"


def _package_of(names: dict[str, Any]) -> str:
    """Of a module with these names."""
    return str(names.get("__name__", "")).partition(".")[0]


def _is_library(names: dict[str, Any]) -> bool:
    """Whether a module with these names is of this package or the standard library."""
    return _package_of(names) == _PACKAGE or _is_standard(_package_of(names))


def _unseen(value: Any, label: str, size: str = "") -> ValueError:
    return ValueError(
        f"compile: the step reads {label}, an array ({type(value).__name__}){size}, and whether it "
        "has changed cannot be seen at each call; make it a tensor outside the step, or pass it as "
        "an argument"
    )


def _is_array(kind: type) -> bool:
    """One that others change: a NumPy array, or another library's that NumPy reads."""
    if any(cls.__module__ == "numpy" and cls.__name__ == "generic" for cls in kind.__mro__):
        return False
    return any(hasattr(kind, name) for name in ("__array__", "__array_interface__", "__dlpack__"))


def _is_in_package(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == _PACKAGE


def _slots_of(kind: type) -> list[str]:
    classes = [vars(cls) for cls in kind.__mro__ if "__slots__" in vars(cls)]  # not those of C
    return [n for at in classes for n, v in at.items() if isinstance(v, types.MemberDescriptorType)]


def _is_module_class(kind: type) -> bool:
    nn = sys.modules.get(f"{_PACKAGE}.nn.module")
    return nn is not None and issubclass(kind, nn.Module)


def _holds_members(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return not value or any(map(_holds_members, value))
    if isinstance(value, dict):
        return not value or any(map(_holds_members, value.values()))
    return isinstance(value, Tensor) or _is_module_class(type(value))


def _is_of_c(kind: type) -> bool:
    """A class of objects over bytes that others may change."""
    return any(cls.__module__ in ("_ctypes", "mmap") for cls in kind.__mro__)


def _modules(name: str, package: str) -> list[str]:
    """The modules that `import name`, or `from ..name import`, may read."""
    found = [name, name.partition(".")[0]]
    while package:
        found.append(f"{package}.{name}".rstrip("."))
        package = package.rpartition(".")[0]
    return found


def _is_iterator(value: Any) -> bool:
    kind = type(value)
    if kind.__flags__ & _HEAP_TYPE and _is_written_in_python(kind):
        return False
    return hasattr(kind, "__next__") or kind.__name__ == "SimpleQueue"


def _is_written_in_python(kind: type) -> bool:
    return isinstance(vars(kind).get("__next__"), types.FunctionType)


def _nested(f: types.FunctionType) -> list[types.CodeType]:
    """The code of a function and of all functions within it."""
    found, todo = [], [f.__code__]
    while todo:
        code = todo.pop()
        found.append(code)
        todo += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return found


def _functions_of(value: Any) -> list[types.FunctionType]:
    """The functions that an attribute of a class stands for."""
    if isinstance(value, types.FunctionType):
        wrapped = getattr(value, "__wrapped__", None)
        return [value, *(_functions_of(wrapped) if wrapped is not value else [])]
    if isinstance(value, (staticmethod, classmethod)):
        return _functions_of(value.__func__)
    if hasattr(type(value), "__get__") and hasattr(value, "fget"):  # a property, or one of enum's
        parts = (getattr(value, part, None) for part in ("fget", "fset", "fdel"))
        return [f for part in parts for f in _functions_of(part)]
    if isinstance(value, functools.cached_property):
        return _functions_of(value.func)
    return []


def _codes_of(value: Any) -> list[types.CodeType]:
    """The code of these functions, and of functions in their closures (decorated methods)."""
    codes = []
    for f in _functions_of(value):
        codes.append(f.__code__)
        for cell in f.__closure__ or ():
            try:
                inner = cell.cell_contents
            except ValueError:
                continue
            if isinstance(inner, types.FunctionType):
                codes.append(inner.__code__)
    return codes


__all__ = ["Recorder", "reads", "snapshot"]
