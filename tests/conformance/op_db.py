"""PyTorch's op_db in float64: values, vjps, second order over all its samples; a case is a name.

A name is looked up as PyTorch has it; OWN holds those with another name or other arguments here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from cases import Case, Differs, array, call, compare, judged, leaves, ours, said
from spelled import OWN
from torch.testing._internal.common_methods_invocations import op_db

import wengert as wg

VERSION = f"torch {torch.__version__.partition('+')[0]}"
F: Any = wg.nn.functional

KINDS = {
    "complex numbers": "complex cfloat cdouble chalf real imag polar fft. stft istft view_as_",
    "sparse tensors": "sparse to_sparse",
    "CUDA source at run time": "jiterator",
    "an inner function of PyTorch's": "_native_batch_norm_legit _segment_reduce _chunk_cat native_ "
    "torch.ops.aten _upsample _batch_norm _softmax_backward _unsafe",
    "values are not defined": "empty new_empty resize_",
    "draws of PyTorch's": "bernoulli cauchy exponential geometric log_normal multinomial normal "
    "rand uniform nn.functional.dropout nn.functional.alpha_dropout nn.functional.rrelu "
    "nn.functional.feature_alpha_dropout.with_train nn.functional.fractional_max_pool svd_lowrank "
    "pca_lowrank",
}


OTHERWISE = {
    "linalg.pinv.hermitian": "PyTorch's gradient takes x for symmetric, ours is of its lower half",
    "nn.functional.ctc_loss": "PyTorch's gradient holds through log_softmax alone: see test_ctc.py",
    "cov": "PyTorch sums weights in float32, as the samples have them: see test_composed.py",
    "masked.logaddexp": "second order at -inf: NaN in PyTorch, 0 here",
    "linalg.norm.subgradients_at_zero": "second order at 0: NaN in PyTorch, 0 here",
}


# Results of vectors, along an axis, whose signs each library chooses, and those beyond the smaller
# size as a whole.
UP_TO_SIGN = {"linalg.eigh": (None, -2), "linalg.svd": (-2, None, -1), "svd": (-2, None, -2)}


def signed(y: list[Any], z: list[Any], axes: Sequence[int | None]) -> Iterator[tuple[Any, Any]]:
    """Results with PyTorch's signs, and PyTorch's."""
    k = min(x.shape[-1] for x in z)
    for a, b, axis in zip(y, z, axes, strict=True):
        if axis is not None and b.numel() and a.shape == b.shape:
            a, b = (x[..., :k] if axis == -2 else x[..., :k, :] for x in (a, b))
            same = (array(a) * array(b)).sum(axis, keepdims=True) >= 0
            a = a * np.where(same, 1.0, -1.0)
        yield a, b


def not_applicable(name: str, op: Any) -> str:
    if name in OTHERWISE:
        return OTHERWISE[name]
    for why, starts in KINDS.items():
        if name.startswith(tuple(starts.split())):
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
    where = {
        "nn.functional": F,
        "linalg": getattr(wg, "linalg", None),
        "special": wg.special,
        "": wg,
    }
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
    if op.name == "linalg.lstsq":  # the driver decides which others are empty in PyTorch
        y, z = y[:1], z[:1]
    if len(y) != len(z):
        raise Differs(f"{len(y)} results, PyTorch {len(z)}")
    if op.name in UP_TO_SIGN:
        y, z = map(list, zip(*signed(y, z, UP_TO_SIGN[op.name]), strict=True))
    for a, b in zip(y, z, strict=True):
        compare("value", a, b)
    if not op.supports_autograd:
        return
    mine = [x for x in leaves((args, kwargs), wg.Tensor) if x.requires_grad]
    other = [x for x in leaves(theirs, torch.Tensor) if x.requires_grad]
    at = [i for i, b in enumerate(z) if isinstance(b, torch.Tensor) and b.requires_grad]
    at = [i for i in at if z[i].numel()]
    if not at or not other:
        return
    if not all(y[i].requires_grad for i in at):  # a constant: PyTorch's gradient is 0
        for g in torch.autograd.grad([z[i].sum() for i in at], other, allow_unused=True):
            if g is not None and (g != 0).any():
                raise Differs("the result does not require a gradient")
        return
    rng = np.random.default_rng(0)
    y, z = [y[i] for i in at], [z[i] for i in at]
    us = [rng.normal(size=tuple(b.shape)) for b in z]
    again = op.supports_gradgrad
    of = [torch.tensor(u, dtype=b.dtype) for u, b in zip(us, z, strict=True)]
    theirs_g = torch.autograd.grad(z, other, of, allow_unused=True, create_graph=again)
    mine_of = [wg.tensor(u, dtype=a.dtype) for u, a in zip(us, y, strict=True)]
    mine_g = wg.grad(y, mine, mine_of, allow_unused=True, create_graph=again)
    zero = [torch.zeros_like(x) for x in other]
    for a, b, none in zip(mine_g, theirs_g, zero, strict=True):
        compare("vjp", none if a is None else a, none if b is None else b)
    if not again:
        return
    vs = [rng.normal(size=tuple(x.shape)) for x in other]
    try:
        theirs_h = hessian(torch, torch.autograd.grad, theirs_g, vs, other)
    except RuntimeError as error:
        if "is not implemented" in str(error):
            return  # of PyTorch's fast attention
        raise
    if theirs_h is None:
        return
    mine_h = hessian(wg, wg.grad, mine_g, vs, mine) or [None] * len(mine)
    for a, b, none in zip(mine_h, theirs_h, zero, strict=True):
        compare("second order", none if a is None else a, none if b is None else b)


def hessian(library: Any, grad: Any, gs: Any, vs: list[Any], of: list[Any]) -> Any:
    """Gradients of the sum of g · v; None where no g has a history."""
    kept = [(g, v) for g, v in zip(gs, vs, strict=True) if g is not None and g.requires_grad]
    terms = [(g * library.tensor(v, dtype=g.dtype)).sum() for g, v in kept]
    return grad([sum(terms[1:], terms[0])], of, allow_unused=True) if terms else None


def samples(op: Any, quick: bool) -> Iterator[Any]:
    dtype = torch.float64 if op.supports_dtype(torch.float64, "cpu") else torch.int64
    grad = op.supports_autograd and dtype is torch.float64
    found = op.sample_inputs("cpu", dtype, requires_grad=grad)
    for n, sample in enumerate(s for s in found if not s.kwargs.get("dropout_p")):
        if quick and n == 4:
            return
        yield sample


def judge(name: str, op: Any, quick: bool) -> Case:
    if why := not_applicable(name, op):
        return Case(name, "n/a", why)
    f = function(op.name, op.variant_test_name)
    if f is None:
        return Case(name, "missing", "no function of the name")
    return judged(name, samples(op, quick), lambda sample: check(op, f, sample))


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
