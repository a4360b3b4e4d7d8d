"""Saving and loading tensors: the safetensors layout, with checksums, written so that a crash
leaves the old file or the new one, whole.

    u64 little endian: length n of the header     n bytes of JSON, padded with spaces to 8     data
    header: {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}, ...}

`__metadata__` of files written here also has "wengert.sha256", a JSON object of SHA-256 digests of
each tensor's bytes, and "wengert.header", the SHA-256 of the rest of the header as canonical JSON.
Any other reader of safetensors reads these files, and files of other writers load here.
Pickles of tensors and modules hold such bytes, for joblib, multiprocessing and the like; load a
pickle, here as everywhere, only where you trust its writer. Nothing in a file of this format is
ever executed, and no size in it is believed before it is checked against the file's own size.
"""

from __future__ import annotations

import json
import math
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as short  # of what a file says, at a bounded length
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from . import _core, _explained
from ._core import Tensor
from ._numbers import (
    CONVERTED,
    DTYPES,
    MAX_NDIM,
    Entry,
    FileError,
    bytes_of,
    digest_of,
    pieces,
    read_tensor,
)

if TYPE_CHECKING:
    from .nn import Module
    from .optim import LRScheduler, Optimizer

__all__ = [
    "Checkpoint",
    "FileError",
    "load",
    "load_checkpoint",
    "load_metadata",
    "save",
    "save_checkpoint",
]

_MAX_HEADER = 100_000_000  # the reference implementation's limit
_TENSORS_KEY, _HEADER_KEY = "wengert.sha256", "wengert.header"

_NAMES = {
    "float64": "F64",
    "int64": "I64",
    "float32": "F32",
    "int32": "I32",
    "bfloat16": "BF16",
    "uint8": "U8",
    "bool": "BOOL",
}


# ---- saving


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors and text to `path`, in place of a file that may be there.

    The file is written under a temporary name in the same directory, synced and renamed: whatever
    happens, `path` is the old file or the new one. OSError (disk full, no permission) leaves the
    old one.

    tensors   name to tensor, of any dtype and strides; metadata: text to text.

    >>> wg.save("weights.safetensors", {"w": wg.ones(2)})
    >>> wg.load("weights.safetensors")
    {'w': tensor([1., 1.])}
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(tensors, Mapping):
        raise TypeError(
            f"save: got {type(path).__name__} as the path and {type(tensors).__name__} as the "
            "tensors; write save(path, {name: tensor}), or save(path, model.state_dict())"
        )
    target = Path(path).resolve()  # a symbolic link stays one
    if target.exists() and not target.is_file():
        raise FileError(f"save: {target} exists and is not a regular file")
    parts = _encoded(tensors, metadata or {})
    with _replacing(target) as file:
        for part in parts:
            for piece in pieces(part):
                file.write(piece)


def _encoded(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[memoryview]:
    """The parts of a file, one after another; all is checked before."""
    arrays = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TypeError(
                f"save: tensors must map names to tensors, and has {name!r}: "
                f"{type(tensor).__name__}"
            )
        if name == "__metadata__" or not _is_text(name):
            raise ValueError(f"save: {name!r} cannot be the name of a tensor")
        arrays[name] = bytes_of(tensor.detach().cpu().contiguous())
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"save: metadata must map text to text, and has {key!r}: {text!r}")
        if key.startswith("wengert.") or not _is_text(key) or not _is_text(text):
            raise ValueError(f"save: {key!r} cannot be a key of metadata, or its text not UTF-8")
    header = _header(tensors, arrays, metadata)
    # Large elements first: each tensor then begins at a multiple of its element's size.
    order = sorted(arrays, key=lambda name: -tensors[name].itemsize)
    head = len(header).to_bytes(8, "little") + header
    return [memoryview(head), *(arrays[name] for name in order)]


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _header(
    tensors: Mapping[str, Tensor], arrays: Mapping[str, memoryview], metadata: Mapping[str, str]
) -> bytes:
    ends: dict[str, tuple[int, int]] = {}
    begin = 0
    for name in sorted(arrays, key=lambda name: -tensors[name].itemsize):
        ends[name] = (begin, begin + arrays[name].nbytes)
        begin = ends[name][1]
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _NAMES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": list(ends[name]),
        }
    digests = {name: digest_of(array) for name, array in arrays.items()}
    header["__metadata__"][_TENSORS_KEY] = json.dumps(digests)
    header["__metadata__"][_HEADER_KEY] = _header_digest(header)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ValueError(f"save: the names and metadata take {len(text)} bytes; {_MAX_HEADER} fit")
    return text


def _header_digest(header: Mapping[str, Any]) -> str:
    """SHA-256 of the header without this digest, as canonical JSON."""
    from hashlib import sha256

    metadata = {k: v for k, v in header["__metadata__"].items() if k != _HEADER_KEY}
    rest = {**header, "__metadata__": metadata}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# ---- replacing a file


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write: at the end it takes the place of the one at `path`, which stays as it is on
    any exception. A terminal, a pipe and the like are written to directly.

    OSError names `path`.
    """
    given = Path(path)
    special = given.absolute().parts[1:2] in (("dev",), ("proc",))  # /dev/stdout may be a file
    if special or (given.exists() and not given.is_file()):
        with given.open("wb") as file:
            yield file
    else:
        with _replacing(given.resolve()) as file:
            yield file


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes text as UTF-8, with `writing`."""
    with writing(path) as file:
        file.write(text.encode())


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """A file to write, which becomes `target` at the end, or disappears on any exception."""
    try:
        with _temporary(target) as file:
            yield file
    except OSError as error:  # of a full disk: without a name, or with the temporary one
        temporary = str(target.with_name(f".{target.name}."))
        if error.errno is None or not str(error.filename or temporary).startswith(temporary):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from None


@contextmanager
def _temporary(target: Path) -> Iterator[IO[bytes]]:
    _remove_stale(target)
    fd, temporary = _open_temporary(target)
    try:
        with os.fdopen(fd, "wb") as file:
            if target.exists():  # keep the permissions of what is replaced
                os.fchmod(fd, stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(fd)
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    parent = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(parent)  # the new name, too, is on the disk
    finally:
        os.close(parent)


def _open_temporary(target: Path) -> tuple[int, Path]:
    """A new locked file. The lock ends with the process: an unlocked one is a dead one's."""
    import fcntl

    while True:
        path = target.with_name(f".{target.name}.{os.urandom(6).hex()}.tmp")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:  # else another process took it for a dead one's just now
                return fd, path
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        os.close(fd)


def _remove_stale(target: Path) -> None:
    """Removes temporary files of this target whose writer died."""
    import fcntl
    import re

    pattern = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{12}\.tmp")
    for path in target.parent.iterdir():
        if not pattern.fullmatch(path.name):
            continue
        try:
            # A pipe of this name would be waited for, were it not for O_NONBLOCK.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(path, flags)
        except OSError:  # gone, or not ours
            continue
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except OSError:  # in use, or gone, or not ours
            pass
        finally:
            os.close(fd)


# ---- loading


class _Header(NamedTuple):
    entries: list[Entry]
    metadata: dict[str, str]  # of the user
    digests: dict[str, str] | None  # of the tensors; None if the file has none
    start: int  # of the data in the file


def load(path: str | os.PathLike[str], verify: bool | None = None, mmap: bool = False) -> Any:
    """Name to tensor, of a safetensors file of any writer; what torch.save wrote, of its files.

    A file of torch.save (.pt, .pth) is read without executing its pickle: tensors, dicts, lists,
    numbers and text come back (Parameters as tensors, all on the CPU; tensors of one storage share
    memory), and anything else is an error that names it. Such a file is always read whole, and
    checked where it has checksums (a zip archive; not the format before PyTorch 1.6).

    Dtypes that Wengert lacks become wider ones that hold the same numbers: F16, F8_E4M3 and F8_E5M2
    float32; I8, I16 and U16 int32; U32 and U64 int64. Tensors of other dtypes (C64, F4, ...), and
    U64 beyond int64, are passed over, with a warning that names them.

    verify   None: checks the checksums if the file has them. True: refuses a file that has none.
             False: does not check the tensors' bytes (the header is checked always).
    mmap     the tensors are pages of the file, read when they are first used; an edit stays in
             this process. Checksums are then only checked with verify=True, which reads all. The
             file must not be shortened meanwhile: the system ends a process that reads beyond it.

    FileError says what is wrong with the file; OSError if it cannot be read.
    """
    with _open(path) as file:
        head = file.read(200)
        if kind := _other_format(head, Path(path).suffix.lower()):
            from . import _torch_file

            if kind == _OF_PYTORCH.format("a zip archive") or _torch_file.is_legacy(head):
                file.seek(0)
                return _torch_file.read(file, os.fspath(path))
    return _load(path, verify, mmap)[0]


def _load(
    path: str | os.PathLike[str], verify: bool | None, mmap: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    with _open(path) as file:
        return _read(file, path, verify, mmap)


def _read(
    file: IO[bytes], path: str | os.PathLike[str], verify: bool | None, mmap: bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    header = _read_header(file, path)
    if verify and header.digests is None:
        raise FileError(
            f"{os.fspath(path)}: has no checksums; load it with verify=None if you trust it"
        )
    pages = _map(file) if mmap and not verify else None
    found: dict[str, Tensor] = {}
    passed_over = []
    for entry in header.entries:
        digest = header.digests[entry.name] if header.digests and verify is not False else None
        tensor = _mapped_tensor(pages, entry, header.start) if pages is not None else None
        if tensor is None and DTYPES[entry.dtype][0]:
            tensor = read_tensor(file, path, entry, header.start, digest)
        if tensor is None:
            passed_over.append(f"{entry.name!r} ({entry.dtype})")
        else:
            found[entry.name] = tensor
    if passed_over:
        shown = ", ".join(passed_over[:10]) + ", ..." * (len(passed_over) > 10)
        warnings.warn(
            f"{os.fspath(path)}: passed over {shown}, whose numbers no dtype here holds; the other "
            f"{len(found)} tensors are loaded",
            stacklevel=5,
        )
    return found, header.metadata


def _map(file: IO[bytes]) -> Any:
    """The file's bytes, as an array whose pages are ours alone once they are written to."""
    import mmap

    import numpy as np

    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)


def _mapped_tensor(pages: Any, entry: Entry, start: int) -> Tensor | None:
    """None for what must be read: dtypes that NumPy lacks or that are converted, bools to check,
    data that is not aligned."""
    dtype, bits = DTYPES[entry.dtype]
    memory = pages[start + entry.begin : start + entry.end]
    if not dtype or entry.dtype in (*CONVERTED, "BF16", "BOOL"):
        return None
    if memory.ctypes.data % (bits // 8) or not memory.size:
        return None
    return _core._from_private(memory.view(dtype).reshape(entry.shape))


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text that was saved along with the tensors; reads only the header."""
    with _open(path) as file:
        return _read_header(file, path).metadata


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a pipe would block
        if Path(path).is_dir():
            raise IsADirectoryError(f"load: {os.fspath(path)} is a directory, not a file")
        raise FileError(f"{os.fspath(path)}: is not a regular file")
    with Path(path).open("rb") as file:
        yield file


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise FileError(f"the key {name!r} occurs twice")
            seen.add(name)
    return result


def _no_constant(text: str) -> Any:
    raise FileError(f"{text} is not JSON")


def _parse(text: bytes | str) -> Any:
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode(),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise FileError("it is nested too deeply") from None
    except FileError:
        raise
    except ValueError as error:  # bad UTF-8, bad JSON, numbers of thousands of digits
        raise FileError(f"it is not JSON in UTF-8 ({error})") from None


def _read_header(file: IO[bytes], path: str | os.PathLike[str]) -> _Header:
    name = os.fspath(path)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(200)
    if head[8:9] != b"{" and (kind := _other_format(head, Path(path).suffix.lower())):
        raise FileError(f"{name}: is {kind}")
    file.seek(0)
    if size < 8:
        raise FileError(f"{name}: has {size} bytes; a safetensors file has at least 8: truncated?")
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise FileError(
            f"{name}: says that its header has {length} bytes, more than the {_MAX_HEADER} "
            "allowed; this is not a safetensors file, or it was altered"
        )
    if 8 + length > size:
        raise FileError(
            f"{name}: says that its header has {length} bytes, and the file has {size}: truncated?"
        )
    text = file.read(length)
    try:
        if len(text) != length:
            raise FileError("the file became shorter while it was read")
        if not text.startswith(b"{"):
            raise FileError("it does not begin with '{'; this is not a safetensors file")
        return _check_header(_parse(text), 8 + length, size - 8 - length)
    except FileError as error:
        raise FileError(f"{name}: the header is wrong: {error}") from None


_OF_PYTORCH = (
    "{} of PyTorch's, which can run any code; wengert.load reads those of torch.save that hold "
    "tensors, dicts, lists, numbers and text: save model.state_dict()"
)
_MAGIC = {
    b"\x93NUMPY": "an array of NumPy's (.npy); numpy.load reads it, wengert.from_numpy takes it",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras' .h5); h5py reads its arrays",
    b"GGUF": "a GGUF file; its numbers are packed in blocks that no dtype here holds",
    b"version https://git-lfs": "a pointer of Git LFS, not the file: run `git lfs pull`",
    **dict.fromkeys(
        (b"<!", b"<html", b"<?xml"), "a web page or XML, not a file of tensors: download it again"
    ),
    **dict.fromkeys((b'{"', b"{\n", b"{\r"), "JSON, not tensors; json.load reads it"),
    b"\x1f\x8b": "packed by gzip; unpack it with gunzip",
}


def _other_format(head: bytes, suffix: str) -> str | None:
    """What a file is that is not of this format, and what to do with it; None if that is not
    known."""
    if head.startswith(b"PK\x03\x04"):
        if b".npy" in head or suffix == ".npz":
            return "NumPy's .npz; numpy.load reads it, wengert.from_numpy takes its arrays"
        if b".pkl" in head or suffix in (".pt", ".pth", ".bin", ".ckpt"):
            return _OF_PYTORCH.format("a zip archive")
        return "a zip archive; unpack it, or save its tensors with wengert.save"
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return _OF_PYTORCH.format("a pickle")
    if suffix == ".onnx":
        return "an ONNX model; wengert.onnx.load reads it (pip install onnx)"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _check_header(header: Any, start: int, size: int) -> _Header:
    """Everything that the header says, against the format and the size of the data."""
    if not isinstance(header, dict):
        raise FileError("it is not a JSON object")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileError("__metadata__ must be an object of texts")
    entries = [_check_entry(k, v, size) for k, v in header.items() if k != "__metadata__"]
    end = 0
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        if entry.begin != end:
            what = "overlaps the one before it" if entry.begin < end else "leaves a gap before it"
            raise FileError(f"the data of {entry.name!r} {what}: {entry.begin}, expected {end}")
        end = entry.end
    if end != size:
        raise FileError(f"the tensors have {end} bytes and the file has {size} bytes of data")
    digests = _check_digests(header, metadata, entries)
    own = {k: v for k, v in metadata.items() if k not in (_TENSORS_KEY, _HEADER_KEY)}
    return _Header(entries, own, digests, start)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _check_entry(name: str, entry: Any, size: int) -> Entry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FileError(f"{name!r} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FileError(f"{name!r} has dtype {short(dtype)}; known are {', '.join(DTYPES)}")
    if isinstance(shape, list) and len(shape) > MAX_NDIM:
        raise FileError(f"{name!r} has {len(shape)} axes; {MAX_NDIM} are supported")
    if not isinstance(shape, list) or not all(_is_size(n) for n in shape):
        raise FileError(f"{name!r} has shape {short(shape)}; it must be a list of sizes, 0 or more")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise FileError(f"{name!r} has data_offsets {short(offsets)}; they must be two positions")
    begin, end = offsets
    bits = math.prod(shape) * DTYPES[dtype][1]  # Python's integers do not overflow
    if (end - begin) * 8 != bits:
        raise FileError(
            f"{name!r}, {dtype} of shape {shape}, needs {-(-bits // 8)} bytes, and its "
            f"data_offsets {offsets} span {end - begin}"
        )
    if end > size:
        raise FileError(f"the data of {name!r} ends at {end}, and there are {size} bytes of data")
    return Entry(name, dtype, tuple(shape), begin, end)


def _check_digests(
    header: dict[str, Any], metadata: dict[str, str], entries: list[Entry]
) -> dict[str, str] | None:
    if _TENSORS_KEY not in metadata and _HEADER_KEY not in metadata:
        return None
    # One key without the other: the other was altered.
    if metadata.get(_HEADER_KEY) != _header_digest(header) or _TENSORS_KEY not in metadata:
        raise FileError("its checksum does not match: the file was altered")
    digests = _parse(metadata[_TENSORS_KEY])
    if not isinstance(digests, dict) or set(digests) != {entry.name for entry in entries}:
        raise FileError("the checksums are not those of the tensors: the file was altered")
    return digests


# ---- pickles


def _pickled(x: Tensor) -> tuple[Any, ...]:
    """What a pickle holds of a tensor: its class, a safetensors file of its values, its device and
    whether it requires a gradient; attributes of a class of its own. Its gradient stays behind."""
    if not x.is_leaf:
        raise _core.GradientError(
            f"pickle: the tensor (made by {x.made_by!r}) has a history, which is not pickled; "
            "pickle x.detach()"
        )
    data = b"".join(_encoded({"x": x}, {}))
    about = (type(x), data, x.requires_grad, x.device)
    return _unpickled, about, getattr(x, "__dict__", None) or None


def _unpickled(cls: type[Tensor], data: bytes, requires_grad: bool, device: str) -> Tensor:
    """The tensor; its bytes are checked as those of a file are, and nothing in them is executed."""
    from io import BytesIO

    found = _read(BytesIO(data), "pickle", True, False)[0]
    if not (isinstance(cls, type) and issubclass(cls, Tensor) and found.keys() == {"x"}):
        raise FileError("pickle: it has not the form in which wengert writes a tensor")
    values = found["x"].to(device)
    if cls is Tensor:
        return Tensor(values, requires_grad)
    made = cls.__new__(cls)
    Tensor.__init__(made, values, requires_grad)
    return made


# ---- checkpoints


class Checkpoint(NamedTuple):
    """What load_checkpoint found."""

    step: int
    extra: Any
    model: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    scheduler: dict[str, Any] | None
    averaged: dict[str, Tensor] | None = None


_CHECKPOINT_KEY = "checkpoint"


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Module | Mapping[str, Tensor],
    optimizer: Optimizer | None = None,
    step: int = 0,
    extra: Any = None,
    scheduler: LRScheduler | None = None,
    averaged: Mapping[str, Tensor] | None = None,
) -> None:
    """Saves everything that training needs to go on, in one file.

    extra   anything made of dicts with text keys, lists, text, numbers, bools and None (epoch,
            history, state of random generators: generator.state.tolist()).
    averaged  state_dict() of an AveragedModel.

    Tensors are named "model." + path, "averaged." + path and "optimizer." + parameter number +
    buffer; the rest is JSON in the metadata, under "checkpoint".
    """
    state = model if isinstance(model, Mapping) else model.state_dict()
    tensors = {f"model.{name}": tensor for name, tensor in state.items()}
    tensors |= {f"averaged.{name}": tensor for name, tensor in (averaged or {}).items()}
    about: dict[str, Any] = {"format": 1, "step": int(step), "extra": extra}
    if optimizer is not None:
        own = optimizer.state_dict()
        about["optimizer"] = {
            "class": optimizer._saved_as,
            "param_groups": own["param_groups"],
        }
        for i, entry in own["state"].items():
            for name, tensor in entry.items():
                tensors[f"optimizer.{i}.{name}"] = tensor
    if scheduler is not None:
        about["scheduler"] = scheduler.state_dict()
    _check_json("extra", extra)
    save(path, tensors, {_CHECKPOINT_KEY: json.dumps(about)})


def _check_json(where: str, value: Any) -> None:
    """TypeError for what JSON would refuse, or change without a word."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"save_checkpoint: {where} has the key {key!r}; keys must be text")
            _check_json(f"{where}[{key!r}]", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_json(f"{where}[{i}]", item)
    elif value is not None and type(value) not in (str, int, float, bool):
        raise TypeError(
            f"save_checkpoint: {where} is {type(value).__name__}; it must be text, a number, "
            "a bool, None, a list or a dict (tensors: .tolist())"
        )


def load_checkpoint(
    path: str | os.PathLike[str],
    model: Module | None = None,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
) -> Checkpoint:
    """Reads a checkpoint, checks all of it, and then puts it into what is given.

    FileError for a file that is damaged or no checkpoint; ValueError where it does not fit the
    model, optimizer or scheduler. After an error none of them is changed.
    """
    name = os.fspath(path)
    tensors, metadata = _load(path, None)
    text = metadata.get(_CHECKPOINT_KEY)
    if text is None:
        raise FileError(f"{name}: is a file of tensors, not a checkpoint; read it with load()")
    try:
        about = json.loads(text, object_pairs_hook=_no_duplicates)
        if about["format"] != 1:
            raise FileError(f"it has format {about['format']!r}; this version reads format 1")
        model_state: dict[str, Tensor] = {}
        means: dict[str, Tensor] = {}
        buffers: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, rest = key.partition(".")
            if kind in ("model", "averaged"):
                (model_state if kind == "model" else means)[rest] = tensor
            else:
                number, _, buffer = rest.partition(".")
                if kind != "optimizer" or str(int(number)) != number:
                    raise FileError(f"it has a tensor {key!r}")
                buffers.setdefault(int(number), {})[buffer] = tensor
        optimizer_state = about.get("optimizer")
        if optimizer_state is not None:
            optimizer_state = {
                "class": optimizer_state["class"],
                "state": buffers,
                "param_groups": optimizer_state["param_groups"],
            }
        if not _is_size(about["step"]):
            raise FileError(f"its step is {about['step']!r}")
        found = Checkpoint(
            about["step"],
            about["extra"],
            model_state,
            optimizer_state,
            about.get("scheduler"),
            means or None,
        )
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        if isinstance(error, FileError) and str(error).startswith(name):
            raise
        raise FileError(f"{name}: is not a whole checkpoint: {error}") from None
    if optimizer is not None:
        if found.optimizer is None:
            raise ValueError(f"{name}: has no optimizer state; it was saved without one")
        if found.optimizer["class"] != optimizer._saved_as:
            raise ValueError(
                f"{name}: has the state of {found.optimizer['class']}, and the optimizer is "
                f"{optimizer._saved_as}"
            )
        optimizer.check_state_dict(found.optimizer)
    if scheduler is not None:
        if found.scheduler is None:
            raise ValueError(f"{name}: has no scheduler state; it was saved without one")
        scheduler.check_state_dict(found.scheduler)
    if model is not None:
        model.load_state_dict(found.model)
    if optimizer is not None and found.optimizer is not None:
        optimizer.load_state_dict(found.optimizer)
    if scheduler is not None and found.scheduler is not None:
        scheduler.load_state_dict(found.scheduler)
    return found


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
