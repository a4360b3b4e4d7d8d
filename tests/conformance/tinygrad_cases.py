"""tinygrad's cases of test_ops.py by function, shape and option, with PyTorch for the oracle.

tinygrad_calls.txt holds the calls of PyTorch's functions that the tests make, noted while they ran:
a case is a name, and below it its checks, each with a flag, the operands a, b, ... and the call:

    +  values and gradients    =  values    n  values, NumPy's    !  an error    ?  why none

draw(shape, low, high) is drawn in float32, -2 to 2 unless said; ints(shape, low, high) are drawn.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, Differs, call, compare, judged, ours
from op_db import function
from spelled import OWN

import wengert as wg

VERSION = "tinygrad a9069c1"
CALLS = Path(__file__).parent / "tinygrad_calls.txt"


class Names(dict[str, Any]):
    """What the calls name, of one library."""

    def __init__(self, find: Callable[[str], Any], **known: Any) -> None:
        super().__init__(known, inf=math.inf, nan=math.nan, draw=draw, ints=whole)
        self.find = find

    def __missing__(self, name: str) -> Any:
        return self.find(name)


def draw(shape: Any, low: float = -2, high: float = 2) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.tensor(rng.uniform(low, high, shape).astype("float32"))


def whole(shape: Any, low: int, high: int, dtype: Any = torch.int64) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).integers(low, high, shape), dtype=dtype)


def of_torch(name: str) -> Callable[..., Any]:
    """The method, or the function, that takes the arguments."""
    places = (torch.Tensor, torch.nn.functional, torch)
    found = [getattr(p, name) for p in places if hasattr(p, name)]
    found = [torch.where] if name == "where" else found

    def f(*args: Any, **kwargs: Any) -> Any:
        for g in found[:-1]:
            try:
                return g(*args, **kwargs)
            except TypeError:
                pass
        return found[-1](*args, **kwargs)

    return f


# ---- functions of several uses, and those that take other arguments here


def extreme(name: str) -> Callable[..., Any]:
    def f(x: Any, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], wg.Tensor):
            return OWN[f"{name}.binary"](x, *args)
        kwargs = {"dim" if k == "axis" else k: v for k, v in kwargs.items()}
        one = isinstance(kwargs.get("dim", args[0] if args else None), int)
        g = OWN[f"{name}.reduction_with_dim"] if one else getattr(wg, name)
        return call(g, (x, *args), kwargs)

    return f


def div(a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    kind = {None: "no_rounding_mode", "floor": "floor_rounding", "trunc": "trunc_rounding"}
    return OWN[f"div.{kind[rounding_mode]}"](a, b)


def sized(f: Callable[..., Any]) -> Callable[..., Any]:
    """A shape may come as several numbers."""
    return lambda *n, **k: f(n if len(n) != 1 or isinstance(n[0], int) else n[0], **k)


def einsum(text: str, *parts: Any) -> Any:
    return wg.einsum(text, *(parts[0] if isinstance(parts[0], list) else parts))


HERE: dict[str, Callable[..., Any]] = {
    "max": extreme("max"),
    "min": extreme("min"),
    "div": div,
    "einsum": einsum,
    "where": wg.where,
    "__eq__": wg.eq,
    "tensor": lambda data, dtype=None: wg.tensor(data, dtype=dtype),
    "type": lambda x, dtype: x.to(dtype),
    "clip": OWN["clamp"],
    "sum": lambda x, *a, dtype=None, **k: call(
        wg.sum, (x if dtype is None else x.to(dtype), *a), k
    ),
    "max_pool2d_with_indices": lambda *a, **k: wg.nn.functional.max_pool2d(
        *a, **{**k, "return_indices": True}
    ),
    **{name: sized(getattr(wg, name)) for name in ("zeros", "ones", "empty", "rand", "randn")},
}


def of_wengert(name: str) -> Callable[..., Any]:
    f = HERE.get(name) or OWN.get(name)
    if f is None and hasattr(torch.nn.functional, name):
        f = getattr(wg.nn.functional, name, None)
    f = f or function(name, "")
    if f is None:
        raise NotImplementedError(f"no function of the name: {name}")

    def g(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = ours((args, kwargs))
        if "axis" in kwargs and name in OWN:
            kwargs["dim"] = kwargs.pop("axis")
        return call(f, args, kwargs)

    return g


class DTypes:
    def __getattr__(self, name: str) -> Any:
        name = {"bool": "bool_"}.get(name, name)
        if not hasattr(wg, name) or name == "float16":
            raise NotImplementedError(f"no dtype of the name: {name}")
        return getattr(wg, name)


def run(text: str, operands: Sequence[Any], theirs: bool) -> Any:
    given = dict(zip("abcdefghijk", operands, strict=False))
    find, dtypes = (of_torch, torch) if theirs else (of_wengert, DTypes())
    return eval(text, {}, Names(find, dt=dtypes, **given))


def check(line: str) -> None:
    """Raises Differs, or what Wengert raises."""
    flag, _, rest = line.partition(" ")
    if flag == "?":
        return
    given, _, text = rest.partition("| ")
    theirs = [run(x, (), True) for x in given.split(";") if x.strip()]
    mine = [ours(x) for x in theirs]
    if flag == "!":
        try:
            run(text, mine, False)
        except (NotImplementedError, AttributeError):
            raise
        except Exception:
            return
        raise Differs(f"no error: {text}")
    of = [i for i, x in enumerate(theirs) if flag == "+" and x.is_floating_point()]
    for i in of:
        theirs[i].requires_grad_()
        mine[i].requires_grad_()
    got = run(text, mine, False)
    if flag == "n":
        return compare("value", got, run(text, [x.numpy() for x in theirs], True))
    wanted = run(text, theirs, True)
    compare("value", got, wanted, 1e-3, 1e-5)
    if (kind := str(wanted.dtype).removeprefix("torch.")) != str(got.dtype).removeprefix(
        "wengert."
    ):
        raise Differs(f"{got.dtype}, PyTorch {kind}: {text}")
    if not of or not wanted.requires_grad:
        return
    g = torch.autograd.grad(wanted.sum(), [theirs[i] for i in of], allow_unused=True)
    if not got.requires_grad:
        raise Differs(f"the result does not require a gradient: {text}")
    h = wg.grad(got.sum(), [mine[i] for i in of], allow_unused=True)
    for a, b, i in zip(h, g, of, strict=True):
        none = torch.zeros_like(theirs[i])
        compare("gradient", none if a is None else a, none if b is None else b, 1e-3, 1e-4)


def cases(quick: bool = False) -> Iterator[Case]:
    """A case for each name of the table."""
    warnings.simplefilter("ignore")
    name, lines = "", list[str]()
    table: list[tuple[str, list[str]]] = []
    for line in CALLS.read_text().splitlines():
        if not line.startswith(" "):
            name, lines = line, []
            table.append((name, lines))
        else:
            lines.append(line.strip())
    for name, lines in table[:: 6 if quick else 1]:
        if lines[0].startswith("?"):
            yield Case(name, "n/a", lines[0][2:])
        else:
            yield judged(name, lines, check)
