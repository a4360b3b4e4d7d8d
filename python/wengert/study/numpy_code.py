"""A program as NumPy: forward and backward, line by line, as one would have to write it by hand.

The code needs NumPy alone, runs by itself, and gives the same gradients to rounding. Each line
keeps its name, its number and the user's source line. Random numbers are those that were drawn. The
optimizer's update is left out: the gradients are the result.

Each op states its own NumPy: elementwise ones write it (csrc/ops/elementwise/text.h), the others
have a text (`numpy` in csrc/graph/op.h). The functions that these call are here.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..io import write_text, writing
from .list import Line, StudyError, WengertList, ops, short, swaps_last
from .run import Run
from .text import summary

EMBED = (
    20_000  # elements of all inputs that are written into the code; more go into a .npz beside it
)
LONGEST = 64  # characters of a formula that stands in its line; a longer one is a function

# Ops whose call gives what their vjp needs, too.
_TWO = (
    "attention", "batch_norm", "batch_norm_vjp", "layer_norm", "sort", "cummax", "cummin",
    "max_pool", "rnn_tanh", "rnn_relu", "lstm", "gru",
    "rnn_tanh_vjp", "rnn_relu_vjp", "lstm_vjp", "gru_vjp",
)  # fmt: skip
_RANDOM = ("uniform", "normal", "integers")
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
    "sigmoid": "def sigmoid(x):\n    return 1 / (1 + np.exp(-x))",
    "erf": "erf = np.vectorize(math.erf, otypes=[float])",
    "lgamma": (
        "lgamma = np.vectorize(  # infinite at 0, -1, ...\n"
        "    lambda x: math.inf if x <= 0 and x % 1 == 0 else math.lgamma(x), otypes=[float])"
    ),
    "erfinv": (
        "@np.vectorize\n"
        "def erfinv(x):\n"
        "    if not abs(x) < 1:\n"
        "        return math.copysign(math.inf, x) if abs(x) == 1 else math.nan\n"
        "    low = math.log1p(-x * x)\n"
        "    c = 2 / (math.pi * 0.147) + low / 2\n"
        "    y = math.sqrt(max(math.sqrt(c * c - low / 0.147) - c, 0))\n"
        "    for _ in range(4):  # Newton's steps\n"
        "        off = math.erf(y) - abs(x) if y < 0.5 else 1 - abs(x) - math.erfc(y)\n"
        "        y -= off * math.sqrt(math.pi) / 2 * math.exp(y * y)\n"
        "    return math.copysign(y, x)"
    ),
    "polygamma": (
        "@np.vectorize\n"
        "def polygamma(n, x):  # derivative n of digamma\n"
        "    if x == -math.inf or (x < 0 and x % 1 == 0 and n % 2 == 0):\n"
        "        return math.nan\n"
        "    if x <= 0 and x % 1 == 0:\n"
        "        return math.inf if n % 2 else math.copysign(math.inf, -x)\n"
        "    sign, factorial = (-1) ** (n + 1), math.factorial(n)\n"
        "    if x < 0.5:\n"
        "        r = x - round(x)\n"
        "        y = polygamma(n, 1 + r) + sign * factorial / r ** (n + 1)\n"
        "        return y + sign * (polygamma(n, 1 - r) - polygamma(n, 1 - x))\n"
        "    y = 0.0\n"
        "    while x < 12 + n:\n"
        "        y, x = y + factorial / x ** (n + 1), x + 1\n"
        "    y += math.factorial(n - 1) / x**n if n else -math.log(x)\n"
        "    y += factorial / (2 * x ** (n + 1))\n"
        "    numbers = [1/6, -1/30, 1/42, -1/30, 5/66, -691/2730, 7/6, -3617/510]\n"
        "    for k, b in enumerate(numbers, 1):\n"
        "        b *= math.factorial(2 * k + n - 1) / math.factorial(2 * k)\n"
        "        y += b / x ** (2 * k + n)\n"
        "    return sign * y"
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
    "cumsum": (
        "def cumsum(x, axis, reverse):\n"
        "    return np.flip(np.flip(x, axis).cumsum(axis), axis) if reverse else x.cumsum(axis)"
    ),
    "scan_of": (
        "def scan_of(best, x, axis):  # and the last index of each\n"
        "    y = best.accumulate(x, axis=axis)\n"
        "    at = np.where((x == y) | (x != x), np.indices(x.shape)[axis], 0)\n"
        "    return y, np.maximum.accumulate(at, axis=axis)"
    ),
    "recurrence": (
        "def recurrence(a, b, axis, reverse):\n"
        "    h, y = 0, np.empty_like(b)\n"
        "    for i in range(b.shape[axis])[:: -1 if reverse else 1]:\n"
        "        at = (slice(None),) * axis + (i,)\n"
        "        y[at] = h = a[at] * h + b[at]\n"
        "    return y"
    ),
    "rows_of": (
        "def rows_of(x, lead):\n"
        "    return x.reshape(int(np.prod(x.shape[:lead])), *x.shape[lead:])"
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
    "sort": (
        "def sort(x, first, count, descending):  # stable; NaN is the largest\n"
        "    i = np.argsort(x[..., ::-1] if descending else x, axis=-1, kind='stable')\n"
        "    i = x.shape[-1] - 1 - i[..., ::-1] if descending else i\n"
        "    i = i[..., first:first + count]\n"
        "    return np.take_along_axis(x, i, -1), i"
    ),
    "searchsorted": (
        "def searchsorted(x, v, right):\n"
        "    side = 'right' if right else 'left'\n"
        "    if x.ndim == 1:\n"
        "        return np.searchsorted(x, v, side)\n"
        "    rows = zip(x.reshape(-1, x.shape[-1]), v.reshape(-1, v.shape[-1]))\n"
        "    return np.reshape([np.searchsorted(a, b, side) for a, b in rows], v.shape)"
    ),
    "places": (
        "def places(index, axis):\n"
        "    at = list(np.indices(index.shape, sparse=True))\n"
        "    at[axis] = index\n"
        "    return tuple(at)"
    ),
    "scatter": (
        "def scatter(x, value, at, reduce, include_self):\n"
        "    y = x.copy()\n"
        "    if reduce == 'set' or not include_self:\n"
        "        y[at] = {'sum': 0, 'prod': 1}.get(reduce, value)\n"
        "    if reduce != 'set':\n"
        "        fold = {'sum': 'add', 'prod': 'multiply', 'amax': 'maximum', 'amin': 'minimum'}\n"
        "        getattr(np, fold[reduce]).at(y, at, value)\n"
        "    return y"
    ),
    "layer_norm": (
        "def layer_norm(x, w=1, b=0, eps=1e-5):\n"
        "    mean = x.mean(axis=-1, keepdims=True)\n"
        "    rstd = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)\n"
        "    return (x - mean) * rstd * w + b, np.concatenate([mean, rstd], axis=-1)"
    ),
    "batch_norm": (
        "def batch_norm(x, w, b, eps):\n"
        "    axes = (0, *range(2, x.ndim))\n"
        "    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)\n"
        "    y = (x - mean) / np.sqrt(var + eps) * w + b\n"
        "    return y, np.stack([mean.ravel(), var.ravel()])"
    ),
    "batch_norm_vjp": (
        "def batch_norm_vjp(g, x, kept, w, eps):\n"
        "    axes = (0, *range(2, x.ndim))\n"
        "    mean, rstd = kept[0].reshape(w.shape), 1 / np.sqrt(kept[1].reshape(w.shape) + eps)\n"
        "    xhat = (x - mean) * rstd\n"
        "    of_g, of_both = g.mean(axis=axes), (g * xhat).mean(axis=axes)\n"
        "    dx = w * rstd * (g - of_g.reshape(w.shape) - xhat * of_both.reshape(w.shape))\n"
        "    return dx, np.stack([of_both, of_g]) * (x.size // x.shape[1])"
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
    "attention_weights": (
        "def attention_weights(scale, is_causal, q, k, mask):  # (n, length, heads, width)\n"
        "    s = scale * np.einsum('nihd,njhd->nhij', q, k)\n"
        "    if mask is not None:\n"
        "        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask\n"
        "    if is_causal:\n"
        "        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)\n"
        "    e = np.where(s == -np.inf, 0, np.exp(s - row_top(s)))\n"
        "    total = e.sum(axis=-1, keepdims=True)\n"
        "    return e / np.where(total == 0, 1, total)"
    ),
    "taken_out": (
        "def taken_out(x):  # what is no number; and for each row 0, or nan if there is any\n"
        "    return np.where(np.isfinite(x), x, 0), np.moveaxis((x - x).sum(axis=-1), 1, -1)"
    ),
    "attention": (
        "def attention(scale, is_causal, q, k, v, mask=None):\n"
        "    p = attention_weights(scale, is_causal, q, k, mask)\n"
        "    v, odd = taken_out(v)\n"
        "    y = np.einsum('nhij,njhd->nihd', p + times(p, odd[:, :, None]), v)\n"
        "    return y, None  # attention_vjp makes p again"
    ),
    "attention_vjp": (
        "def attention_vjp(scale, is_causal, q, k, v, g, y, lse, mask=None):\n"
        "    p = attention_weights(scale, is_causal, q, k, mask)\n"
        "    (v, odd_v), (g, odd_g) = taken_out(v), taken_out(g)\n"
        "    q, k = taken_out(q)[0], taken_out(k)[0]\n"
        "    dp = np.einsum('nihd,njhd->nhij', g, v) + odd_v[:, :, None] + odd_g[..., None]\n"
        "    ds = scale * times(p, dp - times(p, dp).sum(axis=-1, keepdims=True))\n"
        "    dq, dk = np.einsum('nhij,njhd->nihd', ds, k), np.einsum('nhij,nihd->njhd', ds, q)\n"
        "    dv = np.einsum('nhij,nihd->njhd', p + times(p, odd_g[..., None]), g)\n"
        "    return np.concatenate([dq.ravel(), dk.ravel(), dv.ravel()])"
    ),
    "taps": (
        "def taps(sizes, counts, kernel, stride, padding, dilation):\n"
        "    # Each tap t, the windows p that it meets something in, and what, x[i].\n"
        "    for t in np.ndindex(*kernel):\n"
        "        p, i = [...], [...]\n"
        "        for n, m, k, s, b, d in zip(sizes, counts, t, stride, padding, dilation):\n"
        "            at = k * d - b\n"
        "            low = max(0, -(at // s))\n"
        "            high = max(low, min(m, (n - 1 - at) // s + 1))\n"
        "            p.append(slice(low, high))\n"
        "            i.append(slice(low * s + at, max(low * s, (high - 1) * s + 1) + at, s))\n"
        "        yield t, tuple(p), tuple(i)"
    ),
    "grouped": (
        "def grouped(x, axis, groups):\n"
        "    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, "
        "*x.shape[axis + 1:])"
    ),
    "convolution": (
        "def convolution(x, w, out, stride, padding, dilation, groups):\n"
        "    y, sizes = np.zeros(out, x.dtype), (x.shape[2:], out[2:], w.shape[2:])\n"
        "    to, x, w = grouped(y, 1, groups), grouped(x, 1, groups), grouped(w, 0, groups)\n"
        "    for t, p, i in taps(*sizes, stride, padding, dilation):\n"
        "        to[p] += np.einsum('goc,ngc...->ngo...', w[(..., *t)], x[i])\n"
        "    return y"
    ),
    "convolution_input": (
        "def convolution_input(g, w, out, stride, padding, dilation, groups):\n"
        "    y, sizes = np.zeros(out, g.dtype), (out[2:], g.shape[2:], w.shape[2:])\n"
        "    to, g, w = grouped(y, 1, groups), grouped(g, 1, groups), grouped(w, 0, groups)\n"
        "    for t, p, i in taps(*sizes, stride, padding, dilation):\n"
        "        to[i] += np.einsum('goc,ngo...->ngc...', w[(..., *t)], g[p])\n"
        "    return y"
    ),
    "convolution_weight": (
        "def convolution_weight(x, g, out, stride, padding, dilation, groups):\n"
        "    y, sizes = np.zeros(out, x.dtype), (x.shape[2:], g.shape[2:], out[2:])\n"
        "    to, x, g = grouped(y, 0, groups), grouped(x, 1, groups), grouped(g, 1, groups)\n"
        "    for t, p, i in taps(*sizes, stride, padding, dilation):\n"
        "        count = int(np.prod(g[p].shape[3:]))\n"
        "        rows = [v.reshape(*v.shape[:3], count) for v in (g[p], x[i])]\n"
        "        to[(..., *t)] = np.einsum('ngop,ngcp->goc', *rows)\n"
        "    return y"
    ),
    "windows": (
        "def windows(x, out, size, stride, padding, dilation):\n"
        "    y, n = np.zeros(out, x.dtype), len(size)\n"
        "    for t, p, i in taps(x.shape[-n:], out[-2 * n:-n], size, stride, padding, dilation):\n"
        "        y[(*p, *t)] = x[i]\n"
        "    return y"
    ),
    "overlap_add": (
        "def overlap_add(x, out, size, stride, padding, dilation):\n"
        "    y, n = np.zeros(out, x.dtype), len(size)\n"
        "    for t, p, i in taps(out[-n:], x.shape[-2 * n:-n], size, stride, padding, dilation):\n"
        "        y[i] += x[(*p, *t)]\n"
        "    return y"
    ),
    "max_pool": (
        "def max_pool(x, out, size, stride, padding, dilation):  # and where each is\n"
        "    n, places = len(size), np.arange(np.prod(x.shape[-len(size):]))\n"
        "    v, at = np.full((*out, *size), -np.inf, x.dtype), np.zeros((*out, *size), int)\n"
        "    for t, p, i in taps(x.shape[-n:], out[-n:], size, stride, padding, dilation):\n"
        "        v[(*p, *t)], at[(*p, *t)] = x[i], places.reshape(x.shape[-n:])[i]\n"
        "    v, at = (a.reshape(*out, int(np.prod(size))) for a in (v, at))\n"
        "    best = v.argmax(-1)[..., None]\n"
        "    return tuple(np.take_along_axis(a, best, -1)[..., 0] for a in (v, at))"
    ),
    "recurrent": (
        "def recurrent(cell, reverse, x, w, h, last=None):  # and what recurrent_vjp needs\n"
        "    y, kept = np.empty((1 + (cell == 'lstm'), *x.shape[:2], h.shape[1]), x.dtype), []\n"
        "    for t in range(len(x))[::-1 if reverse else 1]:\n"
        "        p = h @ w.T\n"
        "        if cell == 'lstm':\n"
        "            i, f, u, o = np.split(x[t] + p, 4, -1)\n"
        "            i, f, u, o = keep = sigmoid(i), sigmoid(f), np.tanh(u), sigmoid(o)\n"
        "            last = f * last + i * u\n"
        "            h = o * np.tanh(last)\n"
        "        elif cell == 'gru':\n"
        "            r, z, n = np.split(x[t], 3, -1)\n"
        "            pr, pz, q = np.split(p, 3, -1)\n"
        "            r, z, q = sigmoid(r + pr), sigmoid(z + pz), q + last\n"
        "            n = np.tanh(n + r * q)\n"
        "            keep = r, z, n, q\n"
        "            h = n + z * (h - n)\n"
        "        else:\n"
        "            h = np.tanh(x[t] + p) if cell == 'rnn_tanh' else np.maximum(x[t] + p, 0)\n"
        "            keep = h,\n"
        "        y[:, t] = [h, last] if cell == 'lstm' else h\n"
        "        kept.append(np.concatenate(keep, -1))\n"
        "    return y if cell == 'lstm' else y[0], np.stack(kept[::-1] if reverse else kept)"
    ),
    "recurrent_vjp": (
        "def recurrent_vjp(cell, reverse, g, kept, y, w, h, c=None):\n"
        "    y, g, made = *(a if a.ndim == 4 else a[None] for a in (y, g)), []\n"
        "    times = range(y.shape[1])[::1 if reverse else -1]\n"
        "    dh = dc = product = np.zeros_like(h)\n"
        "    for t, before in zip(times, [*times[1:], None]):\n"
        "        h0, c0 = (h, c) if before is None else y[[0, -1], before]\n"
        "        d = g[0, t] + dh + product\n"
        "        k = np.split(kept[t], kept.shape[-1] // h.shape[1], -1)\n"
        "        if cell == 'lstm':\n"
        "            (i, f, u, o), top = k, np.tanh(y[1, t])\n"
        "            dc = dc + g[1, t] + d * o * (1 - top * top)\n"
        "            parts = [dc * u * i * (1 - i), dc * c0 * f * (1 - f), dc * i * (1 - u * u),\n"
        "                     d * top * o * (1 - o)]\n"
        "            dc, back = dc * f, parts\n"
        "        elif cell == 'gru':\n"
        "            r, z, n, q = k\n"
        "            dn = d * (1 - z) * (1 - n * n)\n"
        "            parts = [dn * q * r * (1 - r), d * (h0 - n) * z * (1 - z), dn, dn * r]\n"
        "            dh, back = d * z, parts[:2] + parts[3:]\n"
        "        else:\n"
        "            slope = 1 - k[0] * k[0] if cell == 'rnn_tanh' else k[0] > 0\n"
        "            parts = back = [d * slope]\n"
        "        product = np.concatenate(back, -1) @ w\n"
        "        made.append(np.concatenate(parts, -1))\n"
        "    first = [product, dc] if cell == 'lstm' else [dh, product][cell != 'gru':]\n"
        "    return np.stack(made if reverse else made[::-1]), np.stack(first)"
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
    "product_of_others": (
        "def product_of_others(x):\n"
        "    each = [np.delete(x, i, 1).prod(1, float) for i in range(x.shape[1])]\n"
        "    return np.stack(each, 1).astype(x.dtype)"
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


def to_numpy(program: WengertList, path: str | Path | None = None) -> str:
    """The code; written to `path` too if that is given, and large inputs to a .npz beside it.

    Raises StudyError for an op that this module does not know, and for a program read from a file.
    """
    program.live()
    return _Writer(program).write(Path(path) if path is not None else None)


class _Writer:
    def __init__(self, program: WengertList) -> None:
        self.program = program
        self.names: dict[int, str] = {}
        self.taken = {"np", "math", "step", *_HELPERS, *keyword.kwlist}
        self.inputs: list[int] = []
        self.functions: dict[str, str] = {}  # of elementwise ops with long formulas

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
        drawn = {v for x in lines if x.op in _RANDOM for v in x.outputs}
        for x in lines:
            for v in x.inputs if x.op not in _RANDOM else []:
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
            if x.op in _RANDOM:
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
            f"{summary(program)}",
            '"""\n',
        ]
        helpers = self._helpers("\n".join(body))
        if "math." in helpers:
            head.append("import math")
        head.append("import sys" if path and self._large() else "")
        head.append("import numpy as np\n")
        function = [
            f"\ndef step({arguments}):",
            '    """Results, and the gradient of each leaf."""',
            *body,
            f"    return {pairs[0]}, {pairs[1]}\n",
        ]
        text = "\n".join(x for x in head if x) + "\n" + helpers + "\n".join(function)
        text += "\n" + self._main(path)
        if path is not None:
            write_text(path, text)
        return text

    def _helpers(self, code: str) -> str:
        """The functions that the code calls, and those that they call."""
        known = {**_HELPERS, **self.functions}
        called: set[str] = set()
        while True:
            new = {f for f in known if f not in called and re.search(rf"\b{f}\(", code)}
            if not new:
                return "".join(f"\n{known[f]}\n\n" for f in known if f in called)
            called |= new
            code = "\n".join(known[f] for f in new)

    def _large(self) -> bool:
        return sum(int(np.prod(self.program.values[v].shape)) for v in self.inputs) > EMBED

    def _main(self, path: Path | None) -> str:
        """Code that calls step() on the numbers of the trace."""
        run = Run(self.program)
        arrays: dict[str, Any] = {}
        drawn = {
            v for x in self.program.lines if x.op in _RANDOM
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
        if x.op in _TWO:  # and what its vjp needs
            target = f"{name}, {self.name(x.outputs[1])}"
        text = f"    {target} = {code}"
        source = f"{short(x.place)}: {x.code}" if x.phase == "forward" and x.code else ""
        return f"{text:60}  # {x.number} {source}".rstrip()

    def expression(self, x: Line) -> str:
        """The right side."""
        names = [self.name(v) for v in self.program.operands(x)]
        op = self.program.op(x)
        a: dict[str, Any] = dict(x.attributes)
        known = ops().get(op, {"operands": [], "numpy": [], "numpy_call": ""})
        call = "np.broadcast_arrays({a}, {b})[0]" if op == "flat" else known["numpy_call"]
        if op == "permute" and len(a["axes"]) == 2 and swaps_last(a["axes"]):
            return f"{names[0]}.T"
        if op == "slice":
            stop = a["start"] + a["step"] * a["length"]
            part = f"{a['start']}:{stop if stop >= 0 else ''}:{a['step']}"
            return f"{names[0]}[{':, ' * a['axis']}{part}]"
        if not (call or known["numpy"]):
            raise StudyError(
                f"study: to_numpy does not know the op '{op}' of line {x.number}; the list itself "
                "(print(program)) and the page do"
            )
        fields = {k: _number(v) if type(v) is float else v for k, v in a.items()}
        assert x.output is not None
        fields["out"] = self.program.values[x.output].shape
        fields |= {"all": ", ".join(names), **dict(zip(known["operands"], names, strict=False))}
        text = (call or known["numpy"][-1]).format(**fields)
        if call or (len(known["numpy"]) == 1 and len(text) <= LONGEST):
            return text
        given = [*known["operands"], *a]
        *steps, result = (line.format(**{k: k for k in given}) for line in known["numpy"])
        lines = [f"def {op}({', '.join(given)}):", *steps, f"return {result}"]
        self.functions[op] = "\n    ".join(lines)
        return f"{op}({', '.join(str(fields[k]) for k in given)})"


def _number(x: float) -> str:
    if x != x:
        return "np.nan"
    if x in (float("inf"), float("-inf")):
        return "np.inf" if x > 0 else "(-np.inf)"
    text = str(int(x)) if x == int(x) and abs(x) < 1e15 else repr(x)
    return f"({text})" if x < 0 else text
