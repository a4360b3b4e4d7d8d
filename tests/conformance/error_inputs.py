"""PyTorch's error inputs: calls that it refuses, for each op that exists here; a case is a call.

It passes if Wengert raises. What is legal in NumPy, or by a wider rule here, is not applicable and
says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from cases import Case, call, leaves, ours, said
from op_db import VERSION, function
from torch.testing._internal.common_methods_invocations import op_db

import wengert as wg

__all__ = ["VERSION", "cases"]

# What is legal here, by the function's name, and why.
LEGAL = {
    "arange": "no step leads there: empty, as in NumPy",
    "mean": "the mean of integers is a float32, as float64 in NumPy",
    "linalg.cross": "shapes that broadcast, as in NumPy",
}
ALIKE = (
    "__rdiv__ atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor "
    "clamp_max clamp_min copysign eq fmod ge gt heaviside hypot isclose ldexp le logaddexp "
    "logical_and logical_or logical_xor lt max maximum min minimum ne nextafter pow remainder rsub "
    "special.xlog1py sub xlogy"
)
WHY = "a number in a tensor's place, or integers that are promoted, as in NumPy"
LEGAL |= dict.fromkeys(ALIKE.split(), WHY)


def cases(quick: bool = False) -> Iterator[Case]:
    """A case for each error input of each op that has a function here."""
    warnings.simplefilter("ignore")
    for op in sorted(op_db, key=lambda op: (op.name, op.variant_test_name))[:: 6 if quick else 1]:
        f = function(op.name, op.variant_test_name)
        if f is None or op.error_inputs_func is None:
            continue
        try:
            given = list(op.error_inputs("cpu"))
        except Exception:  # the suite's own
            continue
        for n, error in enumerate(given):
            name = f"{op.name}{'.' + op.variant_test_name if op.variant_test_name else ''} #{n}"
            yield judge(name, op.name, f, error)


def judge(name: str, f_name: str, f: Any, error: Any) -> Case:
    message = said(Exception(str(error.error_regex)))
    sample = error.sample_input
    try:
        args, kwargs = ours(((sample.input, *sample.args), sample.kwargs))
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as other:
        return Case(name, "n/a", f"no such argument here: {said(other)}")
    try:
        got = call(f, args, kwargs)
    except (TypeError, ValueError, IndexError, RuntimeError, NotImplementedError):
        return Case(name, "passed")
    shapes = [(t.dtype.name, t.shape) for t in leaves((args, kwargs), wg.Tensor)]
    result = [t.shape for t in leaves(got, wg.Tensor)]
    if why := LEGAL.get(f_name):
        return Case(name, "n/a", f"legal here: {why}")
    return Case(name, "failed", f"PyTorch: {message}; here {shapes} gives {result}")
