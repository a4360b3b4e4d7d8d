"""A program as NumPy: forward and backward, line by line, as one would have to write it by hand.

The code needs NumPy alone, runs by itself, and gives the same gradients to rounding. Each line
keeps its name, its number and the user's source line. Random numbers are those that were drawn. The
optimizer's update is left out: the gradients are the result.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..io import write_text, writing
from .listing import Line, Program, StudyError, _short, _swaps_last

EMBED = (
    20_000  # elements of all inputs that are written into the code; more go into a .npz beside it
)

_ONE = {
    "neg": "-{0}", "abs": "np.abs({0})", "sign": "np.sign({0})", "exp": "np.exp({0})",
    "expm1": "np.expm1({0})", "log": "np.log({0})", "log1p": "np.log1p({0})",
    "sqrt": "np.sqrt({0})", "rsqrt": "1 / np.sqrt({0})", "square": "{0} * {0}",
    "sin": "np.sin({0})", "cos": "np.cos({0})", "tanh": "np.tanh({0})",
    "sigmoid": "1 / (1 + np.exp(-{0}))", "relu": "np.maximum({0}, 0)",
    "leaky_relu": "np.where({0} > 0, {0}, times({a}, {0}))",
    "elu": "np.where({0} > 0, {0}, {a} * np.expm1(np.minimum({0}, 0)))",
    "gelu": "times((1 + erf({0} / np.sqrt(2))) / 2, {0})",
    "gelu_tanh": "times((1 + np.tanh(gelu_u({0}))) / 2, {0})",
    "silu": "times(1 / (1 + np.exp(-{0})), {0})",
    "softplus": "np.logaddexp(0, {0})", "erf": "erf({0})",
    "clamp": "np.clip({0}, {a}, {b})", "floor": "np.floor({0})", "ceil": "np.ceil({0})",
    "round": "np.round({0})", "copy": "{0}.copy()", "softmax": "softmax({0})",
    "log_softmax": "log_softmax({0})", "logsumexp": "logsumexp({0})",
}  # fmt: skip
_TWO = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}",
    "pow": "{0} ** {1}", "maximum": "np.maximum({0}, {1})", "minimum": "np.minimum({0}, {1})",
    "floor_divide": "np.floor_divide({0}, {1})", "remainder": "np.remainder({0}, {1})",
    "bce_with_logits":
        "times(np.where({0} > 0, 1 - {1}, -{1}), {0}) + np.log1p(np.exp(-np.abs({0})))",
    "times": "times({0}, {1})", "over": "over({0}, {1})",
    "flat": "np.broadcast_arrays({0}, {1})[0]",
    "matmul": "{0} @ {1}", "eq": "{0} == {1}", "ne": "{0} != {1}", "lt": "{0} < {1}",
    "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}", "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}", "where": "np.where({0}, {1}, {2})",
    "cross_entropy": "logsumexp({0}) - {0}[np.arange(len({0})), {1}]",
    "neg_vjp": "-{0}", "abs_vjp": "times({0}, np.sign({1}))", "exp_vjp": "times({0}, {1})",
    "expm1_vjp": "times({0}, {1} + 1)", "log_vjp": "over({0}, {1})",
    "log1p_vjp": "over({0}, 1 + {1})",
    "sqrt_vjp": "over({0}, 2 * {1})", "rsqrt_vjp": "times(-{0}, {1} ** 3 / 2)",
    "square_vjp": "times(2 * {0}, {1})", "sin_vjp": "times({0}, np.cos({1}))",
    "cos_vjp": "times(-{0}, np.sin({1}))", "tanh_vjp": "times({0}, 1 - {1} * {1})",
    "sigmoid_vjp": "times({0}, {1} * (1 - {1}))",
    "relu_vjp": "np.where({1} <= 0, 0, {0})",
    "leaky_relu_vjp": "np.where({1} > 0, {0}, {a} * {0})",
    "elu_vjp": "np.where({1} > 0, {0}, times({0}, {a} * np.exp(np.minimum({1}, 0))))",
    "gelu_vjp": "times({0}, (1 + erf({1} / np.sqrt(2))) / 2 + times(np.exp(-{1} * {1} / 2), {1}) "
                "/ np.sqrt(2 * np.pi))",
    "gelu_tanh_vjp": "times({0}, gelu_tanh_slope({1}))",
    "silu_vjp": "times({0}, silu_slope({1}))",
    "softplus_vjp": "times({0}, 1 / (1 + np.exp(-{1})))",
    "erf_vjp": "times({0}, 2 / np.sqrt(np.pi) * np.exp(-{1} * {1}))",
    "clamp_vjp": "np.where(({1} < {a}) | ({1} > {b}), 0, {0})",
    "sign_vjp": "0 * {0}", "floor_vjp": "0 * {0}", "ceil_vjp": "0 * {0}", "round_vjp": "0 * {0}",
    "softmax_vjp": "times({0} - times({0}, {1}).sum(axis=-1, keepdims=True), {1})",
    "log_softmax_vjp": "{0} - times({0}.sum(axis=-1, keepdims=True), np.exp({1}))",
    "cross_entropy_vjp":
        "times({0}.reshape(-1, 1), softmax({1}) - np.eye({1}.shape[1], dtype={1}.dtype)[{2}])",
    "embedding": "{0}[{1}]", "embedding_vjp": "embedding_vjp({0}, {1}, {rows})",
    "take_rows": "rows_of({0}, {lead})[{1}]",
    "put_rows": "put_rows({0}, {1}, {2}, {lead}, {add})",
    "region": "region({0}, {shape}, {strides}, {offset})",
    "put_region": "put_region({0}, {1}, {shape}, {strides}, {offset})",
}  # fmt: skip
_HELPERS = {
    "times": (
        "def times(a, b):\n"
        "    with np.errstate(invalid='ignore'):\n"
        "        return np.where(np.equal(a, 0), a, a * b)  # 0 wins over inf and nan"
    ),
    "over": (
        "def over(a, b):\n"
        "    with np.errstate(invalid='ignore', divide='ignore'):\n"
        "        return np.where(np.equal(a, 0), a, a / b)"
    ),
    "erf": "erf = np.vectorize(math.erf, otypes=[float])",
    "gelu_u": "def gelu_u(x):\n    return np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)",
    "gelu_tanh_slope": (
        "def gelu_tanh_slope(x):\n"
        "    x = np.clip(x, -20, 20)\n"
        "    t = np.tanh(gelu_u(x))\n"
        "    du = np.sqrt(2 / np.pi) * (1 + 0.134145 * x * x)\n"
        "    return (1 + t) / 2 + x * (1 - t * t) / 2 * du"
    ),
    "silu_slope": (
        "def silu_slope(x):\n"
        "    s = 1 / (1 + np.exp(-x))\n"
        "    return times(s, 1 + times(1 - s, x))"
    ),
    "row_top": (
        "def row_top(x):\n"
        "    m = x.max(axis=-1, keepdims=True, initial=-np.inf)\n"
        "    return np.where(np.isinf(m), 0, m)"
    ),
    "softmax": (
        "def softmax(x):\n"
        "    e = np.exp(x - row_top(x))\n"
        "    return e / e.sum(axis=-1, keepdims=True)"
    ),
    "log_softmax": (
        "def log_softmax(x):\n"
        "    return x - logsumexp(x)[..., None]"
    ),
    "logsumexp": (
        "def logsumexp(x):\n"
        "    m = row_top(x)\n"
        "    return (m + np.log(np.exp(x - m).sum(axis=-1, keepdims=True)))[..., 0]"
    ),
    "rows_of": (
        "def rows_of(x, lead):\n"
        "    return x.reshape(-1, *x.shape[lead:])"
    ),
    "put_rows": (
        "def put_rows(x, value, rows, lead, add):\n"
        "    y = x.copy()\n"
        "    if add:\n"
        "        np.add.at(rows_of(y, lead), rows, value)\n"
        "    else:\n"
        "        rows_of(y, lead)[rows] = value\n"
        "    return y"
    ),
    "layer_norm": (
        "def layer_norm(x, w=1, b=0, eps=1e-5):\n"
        "    mean = x.mean(axis=-1, keepdims=True)\n"
        "    rstd = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)\n"
        "    return (x - mean) * rstd * w + b, np.concatenate([mean, rstd], axis=-1)"
    ),
    "layer_norm_vjp": (
        "def layer_norm_vjp(g, x, kept, w=1):\n"
        "    mean, rstd = kept[..., :1], kept[..., 1:]\n"
        "    xhat, h = (x - mean) * rstd, g * w\n"
        "    along = h.mean(axis=-1, keepdims=True), (h * xhat).mean(axis=-1, keepdims=True)\n"
        "    return rstd * (h - along[0] - xhat * along[1])"
    ),
    "layer_norm_affine_vjp": (
        "def layer_norm_affine_vjp(g, x, kept):\n"
        "    xhat = (x - kept[..., :1]) * kept[..., 1:]\n"
        "    rows = tuple(range(x.ndim - 1))\n"
        "    return np.stack([(g * xhat).sum(axis=rows), g.sum(axis=rows)])"
    ),
    "attention": (
        "def attention_weights(q, k, scale, is_causal):  # (n, length, heads, width)\n"
        "    s = scale * np.einsum('nihd,njhd->nhij', q, k)\n"
        "    if is_causal:\n"
        "        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)\n"
        "    e = np.where(s == -np.inf, 0, np.exp(s - row_top(s)))\n"
        "    return e / e.sum(axis=-1, keepdims=True)\n\n\n"
        "def taken_out(x):  # what is no number; and for each row 0, or nan if there is any\n"
        "    return np.where(np.isfinite(x), x, 0), np.moveaxis((x - x).sum(axis=-1), 1, -1)\n\n\n"
        "def attention(q, k, v, scale, is_causal):\n"
        "    p = attention_weights(q, k, scale, is_causal)\n"
        "    v, odd = taken_out(v)\n"
        "    return np.einsum('nhij,njhd->nihd', p + times(p, odd[:, :, None]), v)"
    ),
    "attention_vjp": (
        "def attention_vjp(q, k, v, g, scale, is_causal):\n"
        "    p = attention_weights(q, k, scale, is_causal)\n"
        "    (v, odd_v), (g, odd_g) = taken_out(v), taken_out(g)\n"
        "    q, k = taken_out(q)[0], taken_out(k)[0]\n"
        "    dp = np.einsum('nihd,njhd->nhij', g, v) + odd_v[:, :, None] + odd_g[..., None]\n"
        "    ds = scale * times(p, dp - times(p, dp).sum(axis=-1, keepdims=True))\n"
        "    dq, dk = np.einsum('nhij,njhd->nihd', ds, k), np.einsum('nhij,nihd->njhd', ds, q)\n"
        "    dv = np.einsum('nhij,nihd->njhd', p + times(p, odd_g[..., None]), g)\n"
        "    return np.concatenate([dq.ravel(), dk.ravel(), dv.ravel()])"
    ),
    "embedding_vjp": (
        "def embedding_vjp(g, ids, rows):\n"
        "    dtable = np.zeros((rows, g.shape[-1]), g.dtype)\n"
        "    np.add.at(dtable, ids.ravel(), g.reshape(-1, g.shape[-1]))\n"
        "    return dtable"
    ),
    "region": (
        "def region(x, shape, strides, offset):\n"
        "    strides = [s * x.itemsize for s in strides]\n"
        "    return np.lib.stride_tricks.as_strided(x.ravel()[offset:], shape, strides)"
    ),
    "put_region": (
        "def put_region(x, value, shape, strides, offset):\n"
        "    y = np.array(x, order='C')\n"
        "    region(y, shape, strides, offset)[...] = value\n"
        "    return y"
    ),
    "embed": (
        "def embed(x, axis, start, step, length, size):\n"
        "    shape = list(x.shape)\n"
        "    shape[axis] = size\n"
        "    y = np.zeros(shape, x.dtype)\n"
        "    if length:\n"
        "        y[(slice(None),) * axis + (start + step * np.arange(length),)] = x\n"
        "    return y"
    ),
}  # fmt: skip
_NEEDS = {
    "attention": ["row_top", "times"],
    "attention_vjp": ["attention", "row_top", "times"],
    "gelu_tanh_slope": ["gelu_u"],
    "log_softmax": ["logsumexp", "row_top"],
    "logsumexp": ["row_top"],
    "silu_slope": ["times"],
    "softmax": ["row_top"],
    "put_rows": ["rows_of"],
    "put_region": ["region"],
}


def to_numpy(program: Program, path: str | Path | None = None) -> str:
    """The code; written to `path` too if that is given, and large inputs to a .npz beside it.

    Raises StudyError for an op that this module does not know, and for a program read from a file.
    """
    program.live()
    return _Writer(program).write(Path(path) if path is not None else None)


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.names: dict[int, str] = {}
        self.taken = {"np", "math", "step", *_HELPERS, *keyword.kwlist}
        self.inputs: list[int] = []
        self.used: set[str] = set()

    def name(self, v: int) -> str:
        """An identifier for a value; a number for a constant."""
        value = self.program.values[v]
        if value.constant is not None and not value.leaf and v not in self.inputs:
            return _number(value.constant)
        if v not in self.names:
            text = value.name.replace("@", "_from_").replace("'", "")
            text = re.sub(r"\W+", "_", text).strip("_") or "v"
            if text[0].isdigit():
                text = f"p{text}"
            unique, count = text, 1
            while unique in self.taken:
                count += 1
                unique = f"{text}_{count}"
            self.taken.add(unique)
            self.names[v] = unique
        return self.names[v]

    def write(self, path: Path | None) -> str:
        program = self.program
        lines = [x for x in program.lines if x.phase != "update"]
        made: set[int] = set()
        drawn = {v for x in lines if x.op in ("uniform", "normal", "integers") for v in x.outputs}
        for x in lines:
            for v in x.inputs if x.op not in ("uniform", "normal", "integers") else []:
                value = program.values[v]
                edited = any(v in y.edited for y in lines)
                if v in made or v in self.inputs:
                    continue
                if value.constant is None or value.leaf or edited:
                    self.inputs.append(v)
            if not x.edited:
                made |= set(x.outputs) - drawn
            elif x.outputs and x.outputs[0] not in made and x.outputs[0] not in self.inputs:
                self.inputs.append(x.outputs[0])  # overwritten before anything reads it
        body, phase = [], ""
        for x in lines:
            if x.op in ("uniform", "normal", "integers"):
                for v in x.outputs:
                    if v not in self.inputs:
                        self.inputs.append(v)
                continue
            if x.phase != phase:
                phase = x.phase
                body.append(f"    # {phase}")
            body.append(self.line(x))
        gradients = {
            program.values[leaf].name: self.name(after)
            for leaf, _, after in program.leaf_gradients
            if leaf >= 0 and after >= 0 and (after in made or after in self.names)
        }
        results = {program.values[v].name: self.name(v) for v in program.results if v in made}
        pairs = [
            "{" + ", ".join(f"{name!r}: {at}" for name, at in d.items()) + "}"
            for d in (results, gradients)
        ]
        arguments = ", ".join(self.name(v) for v in self.inputs)
        head = [
            '"""One step, forward and backward, in NumPy: written by wengert.study.\n',
            f"{program.summary()}",
            '"""\n',
        ]
        if any(self._helper(h) for h in ("erf",)):
            head.append("import math")
        head.append("import sys" if path and self._large() else "")
        head.append("import numpy as np\n")
        helpers = []
        for name, code in _HELPERS.items():
            if self._helper(name):
                helpers.append(f"\n{code}\n")
        function = [
            f"\ndef step({arguments}):",
            '    """Results, and the gradient of each leaf."""',
            *body,
            f"    return {pairs[0]}, {pairs[1]}\n",
        ]
        text = "\n".join(x for x in head if x) + "\n" + "\n".join(helpers) + "\n".join(function)
        text += "\n" + self._main(path)
        if path is not None:
            write_text(path, text)
        return text

    def _helper(self, name: str) -> bool:
        return name in self.used or any(
            user in self.used and name in needs for user, needs in _NEEDS.items()
        )

    def _large(self) -> bool:
        return sum(int(np.prod(self.program.values[v].shape)) for v in self.inputs) > EMBED

    def _main(self, path: Path | None) -> str:
        """Code that calls step() on the numbers of the trace."""
        run = self.program.run()
        arrays: dict[str, Any] = {}
        drawn = {
            v for x in self.program.lines if x.op in ("uniform", "normal", "integers")
            for v in x.outputs
        }  # fmt: skip
        for v in self.inputs:
            if v not in drawn:
                arrays[self.name(v)] = run.array(v)
        for x in self.program.lines:
            run.forward()
            for v in x.outputs:
                if v in drawn and v in self.inputs:
                    arrays[self.name(v)] = run.array(v)
        text = ['\nif __name__ == "__main__":']
        if self._large():
            if path is None:
                return (
                    "\n# The inputs are too many to stand here: program.to_numpy(path) writes them "
                    "to a .npz beside the code.\n"
                )
            beside = path.with_suffix(".npz")
            with writing(beside) as file:
                np.savez(file, **arrays)
            text.append(
                f"    with np.load(sys.argv[1] if sys.argv[1:] else {beside.name!r}) as file:"
            )
            text.append("        inputs = {name: file[name] for name in file.files}")
        else:
            text.append("    inputs = {")
            for name, array in arrays.items():
                text.append(
                    f"        {name!r}: np.array({array.tolist()!r}, {array.dtype.name!r}),"
                )
            text.append("    }")
            text = [re.sub(r"\bnan\b", "np.nan", re.sub(r"\binf\b", "np.inf", t)) for t in text]
        text += [
            "    results, gradients = step(**inputs)",
            "    for name, value in results.items():",
            "        print(name, value)",
            "    for name, gradient in gradients.items():",
            '        print("gradient of", name, gradient.shape, gradient.ravel()[:4])',
        ]
        return "\n".join(text) + "\n"

    def line(self, x: Line) -> str:
        """One assignment, with the number of its line and the user's source."""
        code = self.expression(x)
        assert x.output is not None
        name = self.name(x.output)
        value = self.program.values[x.output]
        # A 0-d result is a NumPy scalar, which cannot be written into.
        target = f"{name}[...]" if x.edited and value.shape != () else name
        if x.op == "layer_norm":  # and what its vjp needs
            target = f"{name}, {self.name(x.outputs[1])}"
        text = f"    {target} = {code}"
        source = f"{_short(x.place)}: {x.code}" if x.phase == "forward" and x.code else ""
        return f"{text:60}  # {x.number} {source}".rstrip()

    def expression(self, x: Line) -> str:
        """The right side."""
        names = [self.name(v) for v in self.program.operands(x)]
        op = self.program.faults[x.number][0] if x.number in self.program.faults else x.op
        a = x.attributes
        pattern = _ONE.get(op) or _TWO.get(op)
        if pattern is not None:
            self.used |= {h for h in _HELPERS if re.search(rf"\b{h}\(", pattern)}
            return pattern.format(*names, **a)
        if op == "layer_norm":
            self.used.add(op)
            return f"layer_norm({', '.join(names)}, eps={a['eps']})"
        if op in ("layer_norm_vjp", "layer_norm_affine_vjp"):
            self.used.add(op)
            return f"{op}({', '.join(names)})"
        if op in ("attention", "attention_vjp") and len(names) in (3, 6):  # without a mask
            self.used.add(op)
            take = ", ".join(names[: 3 if op == "attention" else 4])
            width = self.program.values[x.inputs[0]].shape[-1]
            # A listing shows six digits of a number.
            usual = width and f"{width**-0.5:g}" == a["scale"]
            scale = f"{width} ** -0.5" if usual else a["scale"]
            return f"{op}({take}, {scale}, {a['is_causal']})"
        if op == "product_of_others":
            n = self.program.values[x.inputs[0]].shape[1]
            rest = f"np.delete({names[0]}, i, 1).prod(1, float) for i in range({n})"
            return f"np.stack([{rest}], 1).astype({names[0]}.dtype)"
        if op == "sum_squares":
            return f"np.square({names[0]}, dtype=float).sum(axis={a['axis']})"
        if op in ("sum", "mean", "prod", "max", "min", "any", "all"):
            return f"{names[0]}.{op}(axis={a['axis']}, keepdims={a['keepdims']})"
        if op in ("argmax", "argmin"):
            axis = re.findall(r"\d+", a["axis"])[0]
            return f"np.{op}({names[0]}, axis={axis}, keepdims={a['keepdims']})"
        if op == "permute":
            if _swaps_last(a["axes"]) and len(re.findall(r"\d+", a["axes"])) == 2:
                return f"{names[0]}.T"
            return f"np.transpose({names[0]}, {a['axes']})"
        if op == "reshape":
            return f"np.reshape({names[0]}, {a['shape']})"
        if op == "expand":
            return f"np.broadcast_to({names[0]}, {a['shape']})"
        if op == "slice":
            lead = ":, " * int(a["axis"])
            start, step, length = int(a["start"]), int(a["step"]), int(a["length"])
            stop: Any = start + step * length
            return f"{names[0]}[{lead}{start}:{stop if stop >= 0 else ''}:{step}]"
        if op == "embed":
            self.used.add("embed")
            rest = ", ".join(str(a[k]) for k in ("axis", "start", "step", "length", "size"))
            return f"embed({names[0]}, {rest})"
        if op == "concatenate":
            return f"np.concatenate([{', '.join(names)}], axis={a.get('axis', 0)})"
        if op == "cast":
            return f"np.asarray({names[0]}).astype({a['dtype']!r})"
        if op == "full":
            kind = self.program.values[x.outputs[0]].dtype
            return f"np.full({a['shape']}, {_number(float(a['value']))}, {kind!r})"
        if op == "arange":
            first, by, count = (float(a[k]) for k in ("start", "step", "count"))
            kind = self.program.values[x.outputs[0]].dtype
            return f"({_number(first)} + {_number(by)} * np.arange({int(count)})).astype({kind!r})"
        if op == "ravel_index":
            return f"np.ravel_multi_index(({', '.join(names)},), {a['sizes']}, mode='wrap')"
        raise StudyError(
            f"study: to_numpy does not know the op '{op}' of line {x.number}; the list itself "
            "(print(program)) and the page do"
        )


def _number(x: float) -> str:
    if x != x:
        return "np.nan"
    if x in (float("inf"), float("-inf")):
        return "np.inf" if x > 0 else "-np.inf"
    return str(int(x)) if x == int(x) and abs(x) < 1e15 else repr(x)
