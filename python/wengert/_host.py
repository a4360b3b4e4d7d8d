"""Ops whose value is a Python function of NumPy arrays, on the CPU: compiled steps call it too.

Each is a wengert_op (include/wengert/op.h) that ctypes lays out, with functions that take Python's
lock for themselves. It has no gradient: custom_op() gives it one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _core

_VERSION, _MOST_AXES, _MOST_INPUTS = 1, 16, 8  # of op.h
_DTYPES: dict[int, Any] = {5: np.dtype("float32"), 6: np.dtype("float64")}
_CAPSULE = b"wengert.op"
_kept: list[Any] = []  # ops are never freed


class _Array(ctypes.Structure):
    """wengert_array."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("shape", ctypes.c_int64 * _MOST_AXES),
    )

    def sizes(self) -> tuple[int, ...]:
        return tuple(self.shape[: self.ndim])

    def numpy(self) -> Any:
        dtype, shape = _DTYPES[self.dtype], self.sizes()
        if not self.size:
            return np.empty(shape, dtype)
        memory: Any = (ctypes.c_char * (self.size * dtype.itemsize)).from_address(self.data)
        return np.frombuffer(memory, dtype).reshape(shape)


_Arrays = ctypes.POINTER(_Array)
_Infer = ctypes.CFUNCTYPE(ctypes.c_void_p, _Arrays, _Arrays)
_Value = ctypes.CFUNCTYPE(ctypes.c_void_p, _Arrays, _Arrays, ctypes.c_void_p)


class _Op(ctypes.Structure):
    """wengert_op."""

    _fields_ = (
        ("version", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
        ("name", ctypes.c_char_p),
        ("operands", ctypes.c_char_p),
        ("formula", ctypes.c_char_p),
        ("infer", _Infer),
        ("value", _Value),
        ("gradient", ctypes.c_void_p * _MOST_INPUTS),
        ("gradient_of_y", ctypes.c_int32),
        ("flops_per_element", ctypes.c_double),
    )


def host_op(
    name: str,
    operands: Sequence[str],
    formula: str,
    shape: Callable[..., Sequence[int]],
    value: Callable[..., Any],
) -> Callable[..., _core.Tensor]:
    """A function of float32 or float64 tensors of one dtype, which the result has too.

    shape  the result's, from the operands' shapes
    value  the result, from arrays that it may not change; what it raises is a ValueError of the op,
           but Ctrl-C, which stays itself (in a compiled step it is a ValueError too)
    """
    text: list[Any] = []  # of the last error: it outlives the call
    interrupts: list[KeyboardInterrupt] = []

    def guarded(call: Callable[[], None]) -> int | None:
        try:
            call()
        except BaseException as error:  # nothing may pass through C
            if isinstance(error, KeyboardInterrupt):
                interrupts.append(error)
            said = str(error) or type(error).__name__
            text[:] = [ctypes.create_string_buffer(said.encode())]
            return ctypes.addressof(text[0])
        return None

    def infer(given: Any, out: Any) -> int | None:
        def call() -> None:
            sizes = shape(*(x.sizes() for x in given[: len(operands)]))
            out[0].dtype, out[0].ndim = given[0].dtype, len(sizes)
            out[0].shape[: len(sizes)] = sizes

        return guarded(call)

    def fill(given: Any, out: Any, tools: Any) -> int | None:
        def call() -> None:
            out[0].numpy()[...] = value(*(x.numpy() for x in given[: len(operands)]))

        return guarded(call)

    op = _Op(
        _VERSION, len(operands), name.encode(), ", ".join(operands).encode(), formula.encode(),
        _Infer(infer), _Value(fill),
    )  # fmt: skip
    _kept.append(op)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    made: Callable[..., _core.Tensor] = _core._native_op(new(ctypes.addressof(op), _CAPSULE, None))

    def run(*given: _core.Tensor) -> _core.Tensor:
        try:
            return made(*given)
        except ValueError:
            if interrupts:
                raise interrupts.pop() from None
            raise

    return run
