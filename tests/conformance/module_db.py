"""PyTorch's module_db in float64: outputs, gradients of inputs and parameters; a case is a module.

A module of Wengert has the arguments and the state_dict of PyTorch's, whose weights are loaded into
it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from cases import Case, Differs, call, compare, judged, leaves, ours
from torch.testing._internal.common_modules import module_db

import wengert as wg

VERSION = f"torch {torch.__version__.partition('+')[0]}"
OTHERWISE = {"CTCLoss": "PyTorch's gradient holds through log_softmax alone: see test_ctc.py"}
RANDOM = ("FractionalMaxPool", "RReLU")


def load(module: Any, theirs: Any) -> None:
    """PyTorch's parameters and buffers, in Wengert's module."""
    state = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    own = module.state_dict()
    if set(own) != set(state):
        raise Differs(f"state_dict has {sorted(own)[:3]}, PyTorch {sorted(state)[:3]}")
    module.load_state_dict({k: wg.tensor(v) for k, v in state.items()})


def double(module: Any) -> Any:
    return module.to("float64") if any(True for _ in module.parameters()) else module


def check(info: Any, sample: Any, training: bool) -> None:
    made, given = sample.constructor_input, sample.forward_input
    theirs = info.module_cls(*made.args, **made.kwargs).double().train(training)
    cls = getattr(wg.nn, info.module_cls.__name__)
    kwargs = {k: v for k, v in made.kwargs.items() if k not in ("device", "dtype")}
    module = call(cls, ours(made.args), ours(kwargs))
    module = double(module)
    module.train() if training else module.eval()
    load(module, theirs)
    wanted = theirs(*given.args, **given.kwargs)
    args, kw = ours((given.args, given.kwargs))
    got = call(module, args, kw)
    y, z = list(leaves(got, wg.Tensor)), list(leaves(wanted, torch.Tensor))
    if len(y) != len(z):
        raise Differs(f"{len(y)} results, PyTorch {len(z)}")
    for a, b in zip(y, z, strict=True):
        compare("value", a, b)
    other = [x for x in leaves((given.args, given.kwargs), torch.Tensor) if x.requires_grad]
    mine = [x for x in leaves((args, kw), wg.Tensor) if x.requires_grad]
    names = [n for n, p in theirs.named_parameters() if p.requires_grad]
    other += [dict(theirs.named_parameters())[n] for n in names]
    mine += [dict(module.named_parameters())[n] for n in names]
    at = [i for i, b in enumerate(z) if b.requires_grad]
    if not at or not other:
        return
    rng = np.random.default_rng(0)
    us = [rng.normal(size=tuple(z[i].shape)) for i in at]
    theirs_g = torch.autograd.grad(
        [z[i] for i in at], other, [torch.tensor(u) for u in us], allow_unused=True
    )
    mine_g = wg.grad([y[i] for i in at], mine, [wg.tensor(u) for u in us], allow_unused=True)
    for a, b, x in zip(mine_g, theirs_g, other, strict=True):
        none = torch.zeros_like(x)
        compare("gradient", none if a is None else a, none if b is None else b)


def cases(quick: bool = False) -> Iterator[Case]:
    """A case for each module."""
    warnings.simplefilter("ignore")
    for info in sorted(module_db, key=lambda m: m.name)[:: 4 if quick else 1]:
        name = info.module_cls.__name__
        if info.name.startswith("ao.") or name.startswith("Lazy") or name.startswith(RANDOM):
            why = "draws of PyTorch's" if name.startswith(RANDOM) else "shapes or types found later"
            yield Case(info.name, "n/a", why)
            continue
        if name in OTHERWISE:
            yield Case(info.name, "n/a", OTHERWISE[name])
            continue
        if not hasattr(wg.nn, name):
            yield Case(info.name, "missing", "no module of the name")
            continue
        yield judged(info.name, samples(info), lambda given, info=info: check(info, *given))


def samples(info: Any) -> Iterator[tuple[Any, bool]]:
    """Its inputs, in training and, where it differs, in evaluation."""
    for training in (True, False) if info.train_and_eval_differ else (True,):
        torch.manual_seed(0)
        for sample in info.module_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
        ):
            yield sample, training
