"""PyTorch's op_db in float64: values, vjps and second order over all of its own samples; a case is a name.

A name is looked up as PyTorch has it; OWN holds those that have another name or other arguments here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from cases import Case, Differs, call, compare, leaves, ours, said
from torch.testing._internal.common_methods_invocations import op_db

import wengert as wg

VERSION = f"torch {torch.__version__.partition('+')[0]}"
F: Any = wg.nn.functional

# Wengert's spelling, where it is another one.
OWN: dict[str, Callable[..., Any]] = {
    "sub": lambda a, b, alpha=1: a - b * alpha,
    "rsub": lambda a, b, alpha=1: b - a * alpha,
    "add": lambda a, b, alpha=1: a + b * alpha,
    "true_divide": lambda a, b: a / b,
    "div.no_rounding_mode": lambda a, b, rounding_mode=None: a / b,
    "div.floor_rounding": lambda a, b, rounding_mode=None: wg.floor_divide(a, b),
    "div.trunc_rounding": lambda a, b, rounding_mode=None: wg.trunc(a / b),
    "cat": lambda parts, dim=0: wg.concatenate(list(parts), dim),
    "concat": lambda parts, dim=0: wg.concatenate(list(parts), dim),
    "permute": lambda x, *d, dims=None: x.permute(dims or (d[0] if len(d) == 1 else d)),
    "unsqueeze": lambda x, d: wg.unsqueeze(x, d),
    "var.unbiased": lambda x, unbiased=True: x.var(correction=int(unbiased)),
    "std.unbiased": lambda x, unbiased=True: x.std(correction=int(unbiased)),
    "contiguous": lambda x, memory_format=None: x.contiguous(),
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "double": lambda x, **_: x.to("float64"),
    "float": lambda x, **_: x.to("float32"),
    "bfloat16": lambda x, **_: x.to("bfloat16"),
    "long": lambda x, **_: x.to("int64"),
    "int": lambda x, **_: x.to("int32"),
    "bool": lambda x, **_: x.to("bool"),
    "byte": lambda x, **_: x.to("uint8"),
}
KINDS = {
    "complex": "complex numbers", "cfloat": "complex numbers", "cdouble": "complex numbers", "chalf": "complex numbers",
    "real": "complex numbers", "imag": "complex numbers", "polar": "complex numbers", "fft.": "complex numbers",
    "sparse": "sparse tensors", "to_sparse": "sparse tensors", "stft": "complex numbers", "istft": "complex numbers",
    "jiterator": "CUDA source at run time", "_native_batch_norm_legit": "an inner function of PyTorch's",
    "_segment_reduce": "an inner function of PyTorch's", "_chunk_cat": "an inner function of PyTorch's",
    "torch.ops.aten": "an inner function of PyTorch's", "_upsample": "an inner function of PyTorch's",
    "_batch_norm": "an inner function of PyTorch's", "_softmax_backward": "an inner function of PyTorch's",
    "_unsafe": "an inner function of PyTorch's", "native_": "an inner function of PyTorch's",
    "empty": "values are not defined", "new_empty": "values are not defined", "quantile_": "",
}  # fmt: skip


def not_applicable(name: str, op: Any) -> str:
    for start, why in KINDS.items():
        if why and name.startswith(start):
            return why
    if not op.supports_dtype(torch.float64, "cpu") and not op.supports_dtype(torch.int64, "cpu"):
        return "neither float64 nor int64"
    return ""


def function(name: str, variant: str) -> Callable[..., Any] | None:
    if (full := f"{name}.{variant}") in OWN:
        return OWN[full]
    if name in OWN:
        return OWN[name]
    place, _, last = name.rpartition(".")
    where = {"nn.functional": F, "linalg": getattr(wg, "linalg", None), "special": wg, "": wg}
    found = getattr(where.get(place), last, None) if place in where else None
    if found is None and place in ("", "special"):
        found = getattr(wg.Tensor, last, None) or getattr(F, last, None)
    return found if callable(found) else None


def outputs(x: Any, kind: type) -> list[Any]:
    return list(leaves(x, kind)) if not isinstance(x, (int, float, bool)) else [x]


def check(op: Any, f: Callable[..., Any], sample: Any) -> None:
    """Raises Differs, or what Wengert raises."""
    theirs = (sample.input, *sample.args), sample.kwargs
    wanted = op(sample.input, *sample.args, **sample.kwargs)
    args, kwargs = ours(theirs)
    got = call(f, args, kwargs)
    y, z = outputs(got, wg.Tensor), outputs(wanted, torch.Tensor)
    if len(y) != len(z):
        raise Differs(f"{len(y)} results, PyTorch {len(z)}")
    for a, b in zip(y, z, strict=True):
        compare("value", a, b)
    if not op.supports_autograd:
        return
    mine = [x for x in leaves((args, kwargs), wg.Tensor) if x.requires_grad]
    other = [x for x in leaves(theirs, torch.Tensor) if x.requires_grad]
    at = [i for i, b in enumerate(z) if isinstance(b, torch.Tensor) and b.requires_grad]
    if not at or not other:
        return
    if not all(y[i].requires_grad for i in at):
        raise Differs("the result does not require a gradient")
    rng = np.random.default_rng(0)
    us = [rng.normal(size=tuple(z[i].shape)) for i in at]
    second = op.supports_gradgrad
    theirs_g = torch.autograd.grad(
        [z[i] for i in at], other, [torch.tensor(u, dtype=z[i].dtype) for u, i in zip(us, at, strict=True)],
        allow_unused=True, create_graph=second,
    )  # fmt: skip
    mine_g = wg.grad(
        [y[i] for i in at], mine, [wg.tensor(u, dtype=y[i].dtype) for u, i in zip(us, at, strict=True)],
        allow_unused=True, create_graph=second,
    )  # fmt: skip
    zero = [torch.zeros_like(x) for x in other]
    for a, b, none in zip(mine_g, theirs_g, zero, strict=True):
        compare("vjp", none if a is None else a, none if b is None else b)
    if not second:
        return
    vs = [rng.normal(size=tuple(x.shape)) for x in other]
    terms = [
        (g * torch.tensor(v, dtype=g.dtype)).sum()
        for g, v in zip(theirs_g, vs, strict=True)
        if g is not None and g.requires_grad
    ]
    if not terms:
        return
    theirs_h = torch.autograd.grad(sum(terms), other, allow_unused=True)
    own = [
        (g * wg.tensor(v, dtype=g.dtype)).sum()
        for g, v in zip(mine_g, vs, strict=True)
        if g is not None and g.requires_grad
    ]
    mine_h = wg.grad([sum(own[1:], own[0])], mine, allow_unused=True) if own else [None] * len(mine)
    for a, b, none in zip(mine_h, theirs_h, zero, strict=True):
        compare("second order", none if a is None else a, none if b is None else b)


def samples(op: Any, quick: bool) -> Iterator[Any]:
    dtype = torch.float64 if op.supports_dtype(torch.float64, "cpu") else torch.int64
    grad = op.supports_autograd and dtype is torch.float64
    for n, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=grad)):
        if quick and n == 4:
            return
        yield sample


def judge(name: str, op: Any, quick: bool) -> Case:
    if why := not_applicable(name, op):
        return Case(name, "n/a", why)
    f = function(op.name, op.variant_test_name)
    if f is None:
        return Case(name, "missing", "no function of the name")
    first, passed, total = "", 0, 0
    state = "passed"
    for sample in samples(op, quick):
        total += 1
        try:
            check(op, f, sample)
            passed += 1
        except Differs as error:
            first = first if state == "failed" else said(error)
            state = "failed"
        except Exception as error:  # what Wengert has no option for
            first = first or f"{type(error).__name__}: {said(error)}"
            state = "missing" if state == "passed" else state
    if state == "passed" and total:
        return Case(name, "passed")
    return Case(
        name,
        state if total else "n/a",
        f"{passed} of {total} samples; {first}" if total else "no samples",
    )


def cases(quick: bool = False) -> Iterator[Case]:
    """A case for each name, in alphabetical order; a variant is a name of its own."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    chosen = sorted(op_db, key=lambda op: (op.name, op.variant_test_name))
    for op in chosen[:: 6 if quick else 1]:
        name = op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")
        try:
            yield judge(name, op, quick)
        except Exception as error:  # the suite's own
            yield Case(name, "n/a", f"PyTorch itself: {said(error)}")
