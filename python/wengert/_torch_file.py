"""Files of torch.save: a zip archive with a pickle and the storages' bytes, or, before PyTorch 1.6,
pickles and bytes one after another.

The pickle is interpreted here, opcode by opcode, and makes only tensors, dicts, lists, tuples,
numbers and text. Nothing else is called or imported: any other name or opcode is an error that says
which. A storage is read once, after its size has been checked against the file's, and the tensors
of one storage are views of it.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import pickletools
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from reprlib import repr as short
from typing import IO, Any

from . import _core
from ._core import Tensor
from ._numbers import CONVERTED, DTYPES, MAX_NDIM, Entry, FileError, converted, read_tensor

# Storages and dtypes by name: the dtypes of safetensors. Byte 0 of a pickle names the storages.
_KINDS = {
    "torch.DoubleStorage": "F64", "torch.FloatStorage": "F32", "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16", "torch.LongStorage": "I64", "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16", "torch.CharStorage": "I8", "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL", "torch.storage.UntypedStorage": "U8",
    "torch.uint16": "U16", "torch.uint32": "U32", "torch.uint64": "U64",
    "torch.float8_e5m2": "F8_E5M2", "torch.float8_e4m3fn": "F8_E4M3",
}  # fmt: skip
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST = 2**63 - 1


class _Name(str):
    """A name that the pickle looked up, such as "collections.OrderedDict"."""


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins so is one of torch.save before PyTorch 1.6."""
    return head[2:14] == b"\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little")


def read(file: IO[bytes], path: str) -> Any:
    """What torch.save wrote to an open file."""
    try:
        if file.read(2) == b"PK":
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, os.fstat(file.fileno()).st_size)
        return _read_legacy(file)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    except OSError as error:  # of a position that is none; a disk's own errors have other numbers
        if error.errno is not None and error.errno != 22:
            raise
        raise FileError(f"{path}: is damaged: {error}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error,
            ValueError, KeyError, IndexError, OverflowError) as error:  # fmt: skip
        raise FileError(f"{path}: is damaged: {str(error)[:200]}") from None


def _read_archive(archive: zipfile.ZipFile, size: int) -> Any:
    entries = {info.filename: info for info in archive.infolist()}
    found = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(found) != 1:
        raise FileError("is a zip archive without a data.pkl: torch.save did not write it")
    top = found[0][: -len("data.pkl")]
    left = size  # that storages may take together: entries may overlap

    def take(name: str) -> zipfile.ZipInfo:
        nonlocal left
        info = entries.get(top + name)
        if info is None:
            raise FileError(f"has no {name}: truncated?")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise FileError(f"its {name} is compressed, and torch.save does not compress; unpack "
                            "it and pack it with `zip -0`")  # fmt: skip
        left -= info.file_size
        if left < 0:
            raise FileError("its parts overlap or go beyond its end: truncated?")
        return info

    def storage(key: str, kind: str, count: int) -> Tensor | None:
        info = take(f"data/{key}")
        _check_bytes(key, kind, count, info.file_size)
        with archive.open(info) as part:
            return read_tensor(part, key, Entry(key, kind, (count,), 0, info.file_size), 0, None)

    if top + "byteorder" in entries and archive.read(take("byteorder")) != b"little":
        raise FileError("its numbers are big-endian; save it again on a little-endian machine")
    return _Pickle(storage).run(io.BytesIO(archive.read(take("data.pkl"))))


def _read_legacy(file: IO[bytes]) -> Any:
    later: dict[str, tuple[str, Tensor]] = {}
    left = os.fstat(file.fileno()).st_size

    def storage(key: str, kind: str, count: int) -> Tensor | None:
        nonlocal left
        left -= count * (DTYPES[kind][1] // 8)
        if left < 0:
            raise FileError(
                f"storage {key!r}, {count} of {kind}, is longer than the file: cut off?"
            )
        later[key] = kind, _core.empty((count,), DTYPES[kind][0])
        return later[key][1]

    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        size = len(pages)
        if _plain(pages) != _LEGACY_MAGIC or _plain(pages) != 1001:
            raise FileError("is a pickle that torch.save did not write")
        about = _plain(pages)
        if not isinstance(about, dict) or about.get("little_endian") is not True:
            raise FileError("its numbers are big-endian; save it again on a little-endian machine")
        found, keys, at = _Pickle(storage).run(pages), _plain(pages), pages.tell()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(later):
        raise FileError("its list of storages is not that of its tensors")
    for key in map(str, keys):
        kind, x = later[key]
        file.seek(at)
        count = int.from_bytes(file.read(8), "little")
        end = at + 8 + x.size * (DTYPES[kind][1] // 8)
        if count != x.size or end > size:
            raise FileError(f"storage {key!r} is cut short: truncated?")
        got = read_tensor(file, key, Entry(key, kind, (count,), at + 8, end), 0, None)
        assert got is not None
        _core._bytes(x).copy_(_core._bytes(got))
        at = end
    return found


def _plain(pages: Any) -> Any:
    return _Pickle(None).run(pages)


def _check_bytes(key: str, kind: str, count: int, got: int) -> None:
    if count * (DTYPES[kind][1] // 8) != got:
        raise FileError(
            f"storage {key!r}, {count} numbers of {kind}, has {got} bytes: truncated or altered"
        )


def _operations(file: Any) -> Iterator[Any]:
    with warnings.catch_warnings():  # of Python's, for escapes in a damaged string
        warnings.simplefilter("ignore", DeprecationWarning)
        yield from pickletools.genops(file)


def _sizes(what: str, given: Any) -> tuple[int, ...]:
    if not isinstance(given, tuple) or not all(type(n) is int and 0 <= n <= _MOST for n in given):
        raise FileError(f"a tensor has the {what} {short(given)}")
    return given


class _Pickle:
    """A pickle's machine: a stack, marks in it, and a memo."""

    def __init__(self, storage: Callable[[str, str, int], Tensor | None] | None) -> None:
        self.storage = storage
        self.storages: dict[str, tuple[str, Tensor]] = {}
        self.wide: dict[tuple[int, str], Tensor] = {}  # by storage and dtype, of untyped ones
        self.memories: set[int] = set()  # the ids of both
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        for opcode, argument, _ in _operations(file):
            if (step := getattr(self, f"on_{opcode.name.lower()}", None)) is not None:
                step(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _VALUES:
                self.stack.append(argument)
            elif opcode.name not in ("PROTO", "FRAME", "STOP"):
                raise FileError(
                    f"its pickle has the opcode {opcode.name}, which load() does not carry out: "
                    "it reads tensors, dicts, lists, numbers and text; save model.state_dict()"
                )
        if len(self.stack) != 1:
            raise FileError(f"its pickle ends with {len(self.stack)} values; expected one")
        _check_result(self.stack[0])
        return self.stack[0]

    def popped(self) -> list[Any]:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    # -- stack and memo

    def on_mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def on_pop(self, _: Any) -> None:
        self.stack.pop()

    def on_pop_mark(self, _: Any) -> None:
        self.popped()

    def on_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def on_put(self, at: int) -> None:
        self.memo[at] = self.stack[-1]

    def on_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def on_get(self, at: int) -> None:
        self.stack.append(self.memo[at])

    on_binput = on_long_binput = on_put
    on_binget = on_long_binget = on_get

    # -- containers

    def on_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def on_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def on_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.popped()))

    def on_list(self, _: Any) -> None:
        self.stack.append(self.popped())

    def on_dict(self, _: Any) -> None:
        items = self.popped()
        self.stack.append({})
        self.fill(items)

    def few(self, n: int) -> None:
        items = [self.stack.pop() for _ in range(n)]
        self.stack.append(tuple(reversed(items)))

    def on_tuple1(self, _: Any) -> None:
        self.few(1)

    def on_tuple2(self, _: Any) -> None:
        self.few(2)

    def on_tuple3(self, _: Any) -> None:
        self.few(3)

    def extend(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if not isinstance(into, list):
            raise FileError(f"its pickle appends to a {type(into).__name__}")
        into.extend(items)

    def on_append(self, _: Any) -> None:
        self.extend([self.stack.pop()])

    def on_appends(self, _: Any) -> None:
        self.extend(self.popped())

    def fill(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if not isinstance(into, dict) or len(items) % 2:
            raise FileError(f"its pickle sets items of a {type(into).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if key is not None and type(key) not in (str, int, float, bool):
                raise FileError(f"a dict has a key of type {type(key).__name__}")
            into[key] = value

    def on_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def on_setitems(self, _: Any) -> None:
        self.fill(self.popped())

    # -- names and calls

    def on_global(self, name: str) -> None:
        self.stack.append(self.known(name.replace(" ", ".", 1)))

    def on_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self.known(f"{module}.{name}"))

    def known(self, name: str) -> _Name:
        if self.storage is None or name not in {*_CALLS, *_KINDS}:
            raise FileError(
                f"its pickle names {name[:200]!r}, which load() never calls: it reads tensors, "
                "dicts, lists, numbers and text; save model.state_dict(), not the model"
            )
        return _Name(name)

    def on_reduce(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Name or name not in _CALLS or not isinstance(arguments, tuple):
            raise FileError(f"its pickle calls {short(name)}, which is no function of a tensor's")
        try:
            self.stack.append(_CALLS[name](self, *arguments))
        except TypeError as error:
            raise FileError(f"its pickle calls {name} with other arguments: {error}") from None

    def on_build(self, _: Any) -> None:
        """Attributes: those of a state_dict, the versions of layers, are passed over."""
        self.stack.pop()
        if type(self.stack[-1]) is not OrderedDict:
            kind = type(self.stack[-1]).__name__
            raise FileError(f"its pickle sets attributes of a {kind} (opcode BUILD)")

    def on_binpersid(self, _: Any) -> None:
        match given := self.stack.pop():
            case ("storage", _Name() as name, str() as key, _, int() as count) | (
                "storage", _Name() as name, str() as key, _, int() as count, None
            ) if name in _KINDS and 0 <= count <= _MOST and self.storage is not None:  # fmt: skip
                pass
            case _:
                raise FileError(f"its pickle refers to {short(given)}, which is not a storage")
        kind = _KINDS[name]
        if key not in self.storages:
            made = self.storage(key, kind, count)
            if made is None:
                raise FileError(f"storage {key!r} has numbers beyond int64")
            self.storages[key] = kind, made
            self.memories.add(id(made))
        if (kind, count) != (self.storages[key][0], self.storages[key][1].size):
            raise FileError(f"storage {key!r} has two dtypes or two sizes")
        self.stack.append(self.storages[key][1])

    def tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any = False,
        hooks: Any = None, metadata: Any = None,
    ) -> Tensor:  # fmt: skip
        """A view of a storage."""
        if id(storage) not in self.memories:
            raise FileError(f"a tensor is in {short(storage)}, which is not a storage")
        shape, strides = _sizes("shape", shape), _sizes("strides", strides)
        (offset,) = _sizes("offset", (offset,))
        if len(shape) > MAX_NDIM or len(shape) != len(strides):
            raise FileError(
                f"a tensor has {len(shape)} axes and {len(strides)} strides; at most {MAX_NDIM} "
                "are supported"
            )
        if math.prod(shape) * storage.itemsize > _MOST:
            raise FileError(f"a tensor of shape {shape} has more bytes than can be counted")
        if 0 in shape:
            return _core.empty(shape, storage.dtype)
        end = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
        if end > storage.size:
            raise FileError(
                f"a tensor of shape {shape}, strides {strides} and offset {offset} goes beyond its "
                f"storage of {storage.size} elements"
            )
        strides = tuple(s if n > 1 else 1 for n, s in zip(shape, strides, strict=True))
        x = _core._strided(storage, shape, strides, offset)
        return x.requires_grad_() if requires_grad is True else x

    def tensor_v3(
        self, storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any,
        dtype: Any, metadata: Any = None,
    ) -> Tensor:  # fmt: skip
        """A view of an untyped storage, of a dtype that has no storage class."""
        kind = _KINDS.get(dtype) if type(dtype) is _Name else None
        if kind not in CONVERTED or not isinstance(storage, Tensor):
            raise FileError(f"a tensor has the dtype {short(dtype)}")
        if (id(storage), kind) not in self.wide:
            raw = storage.numpy().view(CONVERTED[kind])
            made = converted(raw, kind, DTYPES[kind][0])
            if made is None:
                raise FileError("a tensor of uint64 has numbers beyond int64")
            self.wide[id(storage), kind] = made
            self.memories.add(id(made))
        return self.tensor(self.wide[id(storage), kind], offset, shape, strides, requires_grad)

    def parameter(self, x: Any, requires_grad: Any, hooks: Any = None) -> Tensor:
        """A Parameter: a tensor here."""
        if not isinstance(x, Tensor):
            raise FileError(f"a Parameter holds {short(x)}, which is not a tensor")
        return x.detach().requires_grad_() if requires_grad is True else x.detach()

    def ordered(self, pairs: Any = ()) -> Any:
        """An OrderedDict, of lists of two."""
        self.stack.append(OrderedDict())
        self.fill([item for key, value in pairs for item in (key, value)])
        return self.stack.pop()

    def size(self, sizes: Any) -> tuple[int, ...]:
        """A torch.Size: a tuple here."""
        return _sizes("shape", sizes)


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _Pickle.tensor,
    "torch._utils._rebuild_tensor_v2": _Pickle.tensor,
    "torch._utils._rebuild_tensor_v3": _Pickle.tensor_v3,
    "torch._utils._rebuild_parameter": _Pickle.parameter,
    "collections.OrderedDict": _Pickle.ordered,
    "torch.Size": _Pickle.size,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}


def _check_result(result: Any) -> None:
    """That no name is left over as a value."""
    seen: set[int] = set()
    todo = [result]
    while todo:
        value = todo.pop()
        if type(value) is _Name:
            raise FileError(f"its pickle holds {value} as a value")
        if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            todo.extend(value.values() if isinstance(value, dict) else value)
