"""Names that PyTorch and NumPy have and Wengert has not, and what to write instead.

`wengert`, `wengert.nn`, `wengert.optim` look here when a name is missing. Classes get a `Missing`
for each name: unlike a `__getattr__`, it costs their other attributes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, NoReturn

_EINSUM = 'wengert.einsum, as in einsum("ij,jk->ik", a, b)'
_NUMPY = "there is none yet; numpy's, of x.detach().numpy(), has no gradient"
_SPARSE = "there is none: all tensors are dense"

# Of tensors, whether a function or a method.
_OPS = {
    "absolute": "abs()",
    "amax": "max(axis), which gives the values alone",
    "amin": "min(axis), which gives the values alone",
    "clip": "clamp(min, max)",
    "equal": "wengert.array_equal(a, b), or a == b for each element",
}

_IN_PLACE = "under wengert.no_grad() x.copy_(...)"

TENSOR = {
    **_OPS,
    "copy": "clone()",
    "clamp_": _IN_PLACE,
    "cumsum_": _IN_PLACE,
    "data": "detach(), which shares the memory and has no history; copy_(values) in no_grad() sets "
    "them",
    "detach_": "x = x.detach()",
    "dim": "x.ndim",
    "element_size": "x.itemsize",
    "exp_": _IN_PLACE,
    "get_device": "x.device",
    "half": "bfloat16(): there is no float16",
    "indices": "x.argmax(axis): max() gives the values alone",
    "is_cuda": 'x.device != "cpu"',
    "is_floating_point": "x.dtype.is_floating_point",
    "ndimension": "x.ndim",
    "nelement": "x.numel()",
    "new_ones": "wengert.ones(shape, x.dtype, x.device)",
    "new_tensor": "wengert.tensor(data, x.dtype)",
    "new_zeros": "wengert.zeros(shape, x.dtype, x.device)",
    "normal_": "wengert.nn.init.normal_(x)",
    "relu_": _IN_PLACE,
    "short": "int(): there is no int16",
    "sqrt_": _IN_PLACE,
    "to_list": "tolist()",
    "type": "x.dtype, or x.to(dtype)",
    "uniform_": "wengert.nn.init.uniform_(x)",
    "values": "x itself: max() and min() give the values alone",
    "where": "wengert.where(condition, x, y)",
}

WENGERT = {
    **_OPS,
    "FloatTensor": "tensor(data)",
    "LongTensor": 'tensor(data, dtype="int64")',
    "Linear": "wengert.nn.Linear",
    "amp": "model.bfloat16()",
    "array": "tensor(data)",
    "as_tensor": "asarray(data)",
    "autocast": "model.bfloat16()",
    "cat": "concatenate(tensors, axis)",
    "device": 'the name itself: device="cuda"',
    "divide": "div(a, b)",
    "double": "float64",
    "dtype": 'DType, or a name: dtype="float32"',
    "expand_dims": "unsqueeze(x, axis)",
    "float": "float32",
    "float16": "bfloat16: there is no float16",
    "from_file": "wengert.io.load(path)",
    "half": "bfloat16: there is no float16",
    "inference_mode": "no_grad()",
    "is_tensor": "isinstance(x, wengert.Tensor)",
    "jit": "wengert.compile(step)",
    "long": "int64",
    "lr_scheduler": "wengert.optim, which has the schedules",
    "multiply": "mul(a, b)",
    "ndarray": "Tensor",
    "negative": "neg(x)",
    "numel": "x.numel()",
    "power": "pow(a, b)",
    "seed": "manual_seed(seed)",
    "set_default_dtype": "dtype= where a tensor or a layer is made",
    "sparse": _SPARSE,
    "subtract": "sub(a, b)",
    "true_divide": "div(a, b)",
    "use_deterministic_algorithms": "nothing: results are the same bits in every run",
    "utils": "wengert.data.Batches for DataLoader, wengert.optim.clip_grad_norm_",
}

NN = {
    "Buffer": "module.register_buffer(name, tensor)",
    "DataParallel": "nothing: one process runs one model",
    "Swish": "SiLU",
    "Unflatten": "a Module of your own, with x.reshape(...) in forward",
}

MODULE = {
    "register_backward_hook": "register_full_backward_hook(hook)",
    "compile": "wengert.compile(step), of the whole step",
    "half": "bfloat16(): there is no float16",
    "share_memory": "nothing: one process runs one model",
    "to_empty": "wengert.nn.init.skip_init()",
    "type": "to(dtype)",
}

OPTIM = {
    "LinearWarmup": "SequentialLR of LinearLR and another schedule",
    "lr_scheduler": "wengert.optim itself, which has the schedules",
    "swa_utils": "wengert.optim itself, which has AveragedModel, SWALR and update_bn",
}

FUNCTIONAL: dict[str, str] = {}


LINALG = dict.fromkeys(("eig", "eigvals", "lu"), _NUMPY)


# Modules under their former names.
MOVED = {
    "wengert.interpret": "wengert.study.attribution",
    "wengert.report": "wengert.train.report",
    "wengert.shaping": "wengert.functional",
    "wengert.summaries": "wengert.nn.summary",
}


def _text(of: str, name: str, hint: str) -> str:
    says = hint.startswith(("there ", "nothing", "numpy"))
    return f"{of} has no attribute {name!r}: {'' if says else 'write '}{hint}"


def no_attribute(
    module: ModuleType, name: str, known: Mapping[str, str], elsewhere: Iterable[str] = ()
) -> AttributeError:
    """The error for a name that a module does not have: what to write, or who has it."""
    import importlib

    of = f"module {module.__name__!r}"
    if name in known:
        return AttributeError(_text(of, name, known[name]))
    for other in elsewhere if not name.startswith("_") else ():
        if name in importlib.import_module(other).__all__:
            return AttributeError(_text(of, name, f"{other}.{name}"))
    # With name and obj, the traceback adds "Did you mean: ...?".
    return AttributeError(f"{of} has no attribute {name!r}", name=name, obj=module)


class Moved(ModuleType):
    """Stands in sys.modules for a module of MOVED: it has what the module has, with a warning."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)  # of tools that look at every module
        import importlib
        import warnings

        new = MOVED[self.__name__]
        text = f"{self.__name__} is {new} now, and will go"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(new), name)


class Missing:
    """Stands in a class for a name that it does not have: asking for it is an AttributeError that
    says what to write. An attribute of the same name that an object gets is found before it."""

    def __init__(self, hint: str) -> None:
        self.hint = hint

    def __set_name__(self, owner: type, name: str) -> None:
        self.of, self.name = owner.__name__, name

    def __get__(self, obj: Any, owner: type | None = None) -> NoReturn:
        raise AttributeError(_text(self.of, self.name, self.hint))


class MissingToo(Missing):
    """A Missing that an object cannot get."""

    def __set__(self, obj: Any, value: Any) -> NoReturn:
        self.__get__(obj)


def mark_missing(owner: type, known: Mapping[str, str], kind: type[Missing] = Missing) -> None:
    """Gives a class a Missing for each name, and leaves them out of dir() of its objects."""
    for name, hint in known.items():
        if not hasattr(owner, name):
            missing = kind(hint)
            missing.__set_name__(owner, name)
            setattr(owner, name, missing)

    def shown(self: Any) -> list[str]:
        """What there is."""
        here = getattr(self, "__dict__", {})
        return [n for n in object.__dir__(self) if n not in known or n in here or _has(self, n)]

    owner.__dir__ = shown  # type: ignore[assignment]


def _has(obj: object, name: str) -> bool:
    found = next((vars(c)[name] for c in type(obj).__mro__ if name in vars(c)), None)
    return not isinstance(found, Missing)
