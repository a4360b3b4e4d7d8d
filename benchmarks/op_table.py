"""The ops that ops.py measures: expressions over x, y, z, with L the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Timed(NamedTuple):
    """Expressions (None: the library has no such op, or no short way), inputs, and shapes for n."""

    wengert: str
    torch: str
    numpy: str | None
    inputs: str = (
        "x"  # letters: x any number, p a positive one, u within (-1, 1), i an index, b a bool
    )
    shape: Callable[[int], tuple[tuple[int, ...], ...]] = lambda n: ((n,),) * 3
    gradient: bool = True
    layer: str | None = None  # what `layer` is in the expressions; its parameters have gradients
    sizes: tuple[int, ...] | None = None  # in place of those that were asked for

    def draw(self, n: int) -> list[Any]:
        random = np.random.default_rng(0)
        made = {
            "x": lambda s: random.normal(size=s).astype(np.float32),
            "p": lambda s: random.uniform(0.2, 3, s).astype(np.float32),
            "u": lambda s: random.uniform(-0.9, 0.9, s).astype(np.float32),
            "b": lambda s: random.random(s) < 0.5,
            "i": lambda s: random.integers(0, 10, s),
        }
        return [made[kind](s) for kind, s in zip(self.inputs, self.shape(n), strict=False)]

    def function(self, library: Any) -> tuple[Callable[..., Any], list[Any]]:
        """Of the inputs; and the layer's parameters, which have the same values in each library."""
        text, layer = getattr(self, library.__name__), None
        if self.layer:
            layer, random = eval(self.layer, {"L": library}), np.random.default_rng(2)
            layer.load_state_dict(
                {
                    name: library.tensor(random.normal(0, 0.1, tuple(p.shape)).astype(np.float32))
                    for name, p in layer.named_parameters()
                }
            )
        fn = eval(f"lambda x, y=None, z=None: {text}", {"L": library, "layer": layer})
        return fn, list(layer.parameters()) if layer else []


def square(n: int) -> tuple[tuple[int, int], ...]:
    side = round(n**0.5)
    return ((side, n // side),) * 3


def row(n: int) -> tuple[tuple[int, ...], ...]:
    return (square(n)[0], (square(n)[0][1],), (square(n)[0][1],))


def _same(name: str, inputs: str = "x", numpy: str | None = "", **more: Any) -> Timed:
    args = ", ".join("xyz"[: len(inputs)])
    spelled = f"L.{numpy or name}({args})" if numpy is not None else None
    return Timed(f"L.{name}({args})", f"L.{name}({args})", spelled, inputs, **more)


def _recurrent(kind: str, h: int) -> Timed:
    """32 times, of one sequence and of 32."""
    return Timed(
        "layer(x)[0]", "layer(x)[0]", None, shape=lambda n: ((32, n // (32 * h), h),),
        layer=f"L.nn.{kind}({h}, {h})", sizes=(32 * h, 32 * 32 * h),
    )  # fmt: skip


UNARY = "exp expm1 sin cos tan tanh sinh cosh square abs floor sign"
OPS: dict[str, Timed] = {
    **{name: _same(name) for name in UNARY.split()},
    **{name: _same(name, "p") for name in ("sqrt", "log", "log1p", "log2", "log10", "reciprocal")},
    **{
        name: _same(name, "u", numpy)
        for name, numpy in (("asin", "arcsin"), ("atan", "arctan"), ("atanh", "arctanh"))
    },
    **{name: _same(name, "x", None) for name in ("relu", "sigmoid", "erf")},
    "rsqrt": _same("rsqrt", "p", None),
    **{
        name: Timed(f"L.nn.functional.{name}(x)", f"L.nn.functional.{name}(x)", None)
        for name in ("gelu", "silu", "softplus", "elu", "mish", "hardswish", "leaky_relu", "selu")
    },
    "add": Timed("x + y", "x + y", "x + y", "xx"),
    "mul": Timed("x * y", "x * y", "x * y", "xx"),
    "div": Timed("x / y", "x / y", "x / y", "xp"),
    "pow": Timed("x ** y", "x ** y", "x ** y", "pp"),
    "maximum": _same("maximum", "xx"),
    "atan2": _same("atan2", "xx", "arctan2"),
    "hypot": _same("hypot", "xx"),
    "logaddexp": _same("logaddexp", "xx"),
    "add a row": Timed("x + y", "x + y", "x + y", "xx", row),
    "less": Timed("x < y", "x < y", "x < y", "xx", gradient=False),
    "where": _same("where", "bxx"),
    "sum": Timed("x.sum()", "x.sum()", "x.sum()"),
    "sum of rows": Timed("x.sum(1)", "x.sum(1)", "x.sum(1)", shape=square),
    "sum of columns": Timed("x.sum(0)", "x.sum(0)", "x.sum(0)", shape=square),
    "mean of rows": Timed("x.mean(1)", "x.mean(1)", "x.mean(1)", shape=square),
    "var of rows": Timed("x.var(1)", "x.var(1, correction=0)", "x.var(1)", shape=square),
    "max of rows": Timed("x.max(1)", "x.amax(1)", "x.max(1)", shape=square),
    "argmax of rows": Timed(
        "x.argmax(1)", "x.argmax(1)", "x.argmax(1)", shape=square, gradient=False
    ),
    "prod of rows": Timed("x.prod(1)", "x.prod(1)", "x.prod(1)", "p", square),
    "logsumexp of rows": Timed("L.logsumexp(x, 1)", "L.logsumexp(x, 1)", None, shape=square),
    "softmax": Timed("L.softmax(x, -1)", "L.softmax(x, -1)", None, shape=square),
    "log_softmax": Timed("L.log_softmax(x, -1)", "L.log_softmax(x, -1)", None, shape=square),
    "layer_norm": Timed(
        "L.nn.functional.layer_norm(x, x.shape[1:], y, z)",
        "L.nn.functional.layer_norm(x, x.shape[1:], y, z)",
        None,
        "xxx",
        row,
    ),
    "rms_norm": Timed(
        "L.nn.functional.rms_norm(x, x.shape[1:], y)",
        "L.nn.functional.rms_norm(x, x.shape[1:], y)",
        None,
        "xx",
        row,
    ),
    "transposed copy": Timed("x.T.contiguous()", "x.T.contiguous()", "x.T.copy()", shape=square),
    "concatenate": Timed("L.concatenate([x, y])", "L.cat([x, y])", "L.concatenate([x, y])", "xx"),
    "flip": Timed("L.flip(x, 0)", "L.flip(x, (0,))", "L.flip(x, 0).copy()"),
    "roll": Timed("L.roll(x, 7, 0)", "L.roll(x, 7, 0)", "L.roll(x, 7, 0)"),
    "tril": Timed("L.tril(x)", "L.tril(x)", "L.tril(x)", shape=square),
    "gather": Timed("x.gather(1, y)", "x.gather(1, y)", None, "xi", square),
    "rows by index": Timed(
        "x[y]", "x[y]", "x[y]", "xi", lambda n: (square(n)[0], (square(n)[0][0],))
    ),
    "cumsum": Timed("L.cumsum(x, 0)", "L.cumsum(x, 0)", "L.cumsum(x, 0)"),
    "cumsum of rows": Timed("L.cumsum(x, 1)", "L.cumsum(x, 1)", "L.cumsum(x, 1)", shape=square),
    "cumsum of columns": Timed("L.cumsum(x, 0)", "L.cumsum(x, 0)", "L.cumsum(x, 0)", shape=square),
    "cumprod of rows": Timed("L.cumprod(x, 1)", "L.cumprod(x, 1)", "L.cumprod(x, 1)", "u", square),
    "sort": Timed("L.sort(x)[0]", "L.sort(x)[0]", "L.sort(x)"),
    "sort of rows": Timed("L.sort(x, 1)[0]", "L.sort(x, 1)[0]", "L.sort(x, 1)", shape=square),
    "argsort": Timed("L.argsort(x)", "L.argsort(x)", "L.argsort(x)", gradient=False),
    "topk of rows": Timed("L.topk(x, 5, 1)[0]", "L.topk(x, 5, 1)[0]", None, shape=square),
    "topk": Timed("L.topk(x, 10)[0]", "L.topk(x, 10)[0]", None),
    "median of rows": Timed("L.median(x, 1)[0]", "L.median(x, 1)[0]", None, shape=square),
    **{f"{kind} {h}": _recurrent(kind, h) for kind in ("LSTM", "GRU") for h in (128, 256, 512)},
    "cross_entropy": Timed(
        "L.nn.functional.cross_entropy(x, y)",
        "L.nn.functional.cross_entropy(x, y)",
        None,
        "xi",
        lambda n: ((n // 10, 10), (n // 10,)),
    ),
    "mse_loss": Timed(
        "L.nn.functional.mse_loss(x, y)", "L.nn.functional.mse_loss(x, y)", None, "xx"
    ),
    "smooth_l1_loss": Timed(
        "L.nn.functional.smooth_l1_loss(x, y)", "L.nn.functional.smooth_l1_loss(x, y)", None, "xx"
    ),
    "matmul": Timed("x @ y", "x @ y", "x @ y", "xx", lambda n: ((round(n**0.5) // 2,) * 2,) * 2),
}
