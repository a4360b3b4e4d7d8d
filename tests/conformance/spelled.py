"""PyTorch's ops that have another name or other arguments here: each in one to four lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import wengert as wg

__all__ = ["OWN"]


def along(dim: Any, x: Any) -> Any:
    """PyTorch's dim: () is all axes."""
    return None if dim is None or dim == () or dim == [] else dim


def constant(f: Callable[..., Any]) -> Callable[..., Any]:
    def call(
        *args: Any, layout: Any = "torch.strided", requires_grad: Any = False, **more: Any
    ) -> Any:
        if str(layout) != "torch.strided":
            raise NotImplementedError("a layout")
        return f(*args, **more)

    return call


def spread(name: str) -> Callable[..., Any]:
    """var and std are over count there unless corrected; PyTorch's over count - 1."""

    def call(
        x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = 1
    ) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        by = correction if unbiased is None else int(unbiased)
        f = getattr(wg, name)
        return f(x, axis=along(dim, x), keepdims=keepdim, correction=1 if by is None else by)

    return call


def extreme(name: str) -> Callable[..., Any]:
    """Values with indices, as PyTorch's max and min along one axis."""

    def call(x: Any, dim: int, keepdim: bool = False) -> Any:
        at = getattr(x, f"arg{name}")(dim, keepdims=True)
        y = x.gather(dim, at) if x.ndim else x
        return (y, at) if keepdim or not x.ndim else (y.squeeze(dim), at.squeeze(dim))

    return call


def copied(f: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        y = f(*args, **kwargs)
        return [v.clone() for v in y] if isinstance(y, (list, tuple)) else y.clone()

    return call


def masked(f: Callable[..., Any], otherwise: float) -> Callable[..., Any]:
    """f of x with what is masked replaced."""

    def call(x: Any, dim: Any = None, *, mask: Any = None, **more: Any) -> Any:
        more = {{"keepdim": "keepdims"}.get(k, k): v for k, v in more.items() if k != "dtype"}
        x = x if mask is None else wg.where(mask, x, otherwise)
        return f(x, axis=along(dim, x), **more)

    return call


def counted(x: Any, dim: Any, mask: Any, keepdim: bool) -> Any:
    kept = wg.ones_like(x) if mask is None else (wg.ones_like(x) * mask)
    return kept.sum(along(dim, x), keepdims=keepdim)


def masked_var(x: Any, dim: Any = None, unbiased: Any = None, *, mask: Any = None,
               keepdim: bool = False, correction: Any = None, dtype: Any = None) -> Any:  # fmt: skip
    by = correction if correction is not None else int(unbiased is not False)
    zeros = x if mask is None else wg.where(mask, x, 0.0)
    n = counted(x, dim, mask, True)
    gap = x - zeros.sum(along(dim, x), keepdims=True) / n
    gap = gap if mask is None else wg.where(mask, gap, 0.0)
    count = counted(x, dim, mask, keepdim)
    return gap.square().sum(along(dim, x), keepdims=keepdim) / wg.maximum(count - by, 0.0)


def masked_mean(x: Any, dim: Any = None, *, mask: Any = None, keepdim: bool = False,
                dtype: Any = None) -> Any:  # fmt: skip
    total = (x if mask is None else wg.where(mask, x, 0.0)).sum(along(dim, x), keepdims=keepdim)
    return total / counted(x, dim, mask, keepdim)


def masked_norm(x: Any, ord: Any, dim: Any = None, *, mask: Any = None, keepdim: bool = False,
                dtype: Any = None) -> Any:  # fmt: skip
    low = math.inf if ord == -math.inf else 0.0
    x = x if mask is None else wg.where(mask, x, low)
    return wg.linalg.vector_norm(x, ord, along(dim, x), keepdims=keepdim)


def masked_normalize(x: Any, ord: Any, dim: Any, *, eps: float = 1e-12, mask: Any = None,
                     dtype: Any = None) -> Any:  # fmt: skip
    y = x if mask is None else wg.where(mask, x, 0.0)
    return y / wg.maximum(masked_norm(x, ord, dim, mask=mask, keepdim=True), eps)


def index_put(x: Any, at: Any, values: Any, accumulate: bool = False) -> Any:
    y = x.clone()
    if accumulate:  # a sum for each place that is named
        places = wg.arange(x.numel()).reshape(x.shape)[tuple(at)]
        values = wg.broadcast_to(values, places.shape).reshape(-1)
        return x.reshape(-1).index_add(0, places.reshape(-1), values).reshape(x.shape)
    y[tuple(at)] = values
    return y


def unfolded(x: Any, dim: int, size: int, step: int) -> Any:
    """Windows along an axis, as the last one."""
    if not x.ndim:
        return x.reshape(1)[: size if step else 0]
    starts = range(0, x.shape[dim] - size + 1, step)
    axis = dim % x.ndim
    y = wg.stack([x.narrow(axis, i, size) for i in starts], axis)
    return y.moveaxis(axis + 1, -1)


def diagonal_scatter(x: Any, src: Any, offset: int, dim1: int, dim2: int) -> Any:
    y = x.clone()
    y.diagonal(offset, dim1, dim2)[...] = src
    return y


def written(x: Any, key: Any, values: Any) -> Any:
    y = x.clone()
    y[key] = values
    return y


def select_scatter(x: Any, src: Any, dim: int, index: int) -> Any:
    return written(x, (*(slice(None),) * (dim % x.ndim), index), src)


def slice_scatter(x: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None,
                  step: int = 1) -> Any:  # fmt: skip
    return written(x, (*(slice(None),) * (dim % x.ndim), slice(start, end, step)), src)


def trapezoid(y: Any, x: Any = None, *, dim: int = -1, dx: float = 1) -> Any:
    return trapezoids(y, x, dim, dx).sum(dim)


def trapezoids(y: Any, x: Any, dim: int, dx: float) -> Any:
    n = y.shape[dim]
    means = (wg.narrow(y, dim, 1, n - 1) + wg.narrow(y, dim, 0, n - 1)) / 2
    if x is None:
        return means * dx
    if x.ndim == 1:
        x = x.reshape(*(-1 if i == dim % y.ndim else 1 for i in range(y.ndim)))
    m = x.shape[dim]
    return means * (wg.narrow(x, dim, 1, m - 1) - wg.narrow(x, dim, 0, m - 1))


def sum_to_size(x: Any, *size: Any) -> Any:
    size = size[0] if len(size) == 1 and isinstance(size[0], (list, tuple)) else size
    lead = x.ndim - len(size)
    axes = [*range(lead), *(lead + i for i, n in enumerate(size) if n == 1)]
    return (x.sum(axes) if axes else x).reshape(*size)


def scaled(beta: float, x: Any, alpha: float, y: Any) -> Any:
    """beta x + alpha y, without x where beta is 0."""
    return y * alpha if beta == 0 else x * beta + y * alpha


def halves(name: str, axis: int) -> Callable[..., Any]:
    def call(x: Any, n: Any) -> Any:
        along = axis if x.ndim > 1 or axis != 1 else 0
        return wg.tensor_split(x, n, along)

    return call


def nan_aware(f: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any) -> Any:
        return wg.where(wg.isnan(a), b, wg.where(wg.isnan(b), a, f(a, b)))

    return call


OWN: dict[str, Callable[..., Any]] = {
    "sub": lambda a, b, alpha=1: a - b * alpha,
    "rsub": lambda a, b, alpha=1: b - a * alpha,
    "add": lambda a, b, alpha=1: a + b * alpha,
    "__rdiv__": lambda a, b: b / a,
    "true_divide": lambda a, b: a / b,
    "div.no_rounding_mode": lambda a, b, rounding_mode=None: a / b,
    "div.floor_rounding": lambda a, b, rounding_mode=None: wg.floor_divide(a, b),
    "div.trunc_rounding": lambda a, b, rounding_mode=None: truncated(a, b),
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "max.binary": lambda a, b: wg.maximum(a, b),
    "min.binary": lambda a, b: wg.minimum(a, b),
    "max.reduction_with_dim": extreme("max"),
    "min.reduction_with_dim": extreme("min"),
    "amax": lambda x, dim=(), keepdim=False: x.max(axis=along(dim, x), keepdims=keepdim),
    "amin": lambda x, dim=(), keepdim=False: x.min(axis=along(dim, x), keepdims=keepdim),
    "fmax": nan_aware(wg.maximum),
    "fmin": nan_aware(wg.minimum),
    "var": spread("var"),
    "std": spread("std"),
    "var.unbiased": spread("var"),
    "std.unbiased": spread("std"),
    "var_mean": lambda x, *a, **k: (spread("var")(x, *a, **k), mean_like(x, *a, **k)),
    "std_mean": lambda x, *a, **k: (spread("std")(x, *a, **k), mean_like(x, *a, **k)),
    "var_mean.unbiased": lambda x, u=True: (spread("var")(x, u), x.mean()),
    "std_mean.unbiased": lambda x, u=True: (spread("std")(x, u), x.mean()),
    "cat": lambda parts, dim=0: joined(parts, dim),
    "concat": lambda parts, dim=0: joined(parts, dim),
    "permute": lambda x, *d, dims=None: x.permute(dims or (d[0] if len(d) == 1 else d)),
    "unsqueeze": lambda x, d: wg.unsqueeze(x, d),
    "squeeze": lambda x, *d: squeezed(x, *d),
    "squeeze.multiple": lambda x, d: squeezed(x, d),
    "contiguous": lambda x, memory_format=None: x.contiguous(),
    "double": lambda x, **_: x.to("float64"),
    "float": lambda x, **_: x.to("float32"),
    "bfloat16": lambda x, **_: x.to("bfloat16"),
    "long": lambda x, **_: x.to("int64"),
    "int": lambda x, **_: x.to("int32"),
    "bool": lambda x, **_: x.to("bool"),
    "byte": lambda x, **_: x.to("uint8"),
    "nonzero": lambda x, as_tuple=False: (
        list(wg.nonzero(wg.atleast_1d(x)).unbind(1)) if as_tuple else wg.nonzero(x)
    ),
    "argwhere": lambda x: wg.nonzero(x),
    "trace": lambda x: x.diagonal().sum() if x.ndim == 2 else wg.einsum("ii->", x),
    "softmax": lambda *a, **k: wg.nn.functional.softmax(*a, **k),
    "log_softmax": lambda *a, **k: wg.nn.functional.log_softmax(*a, **k),
    "where": lambda a, c, b: wg.where(c if c.dtype == wg.bool_ else c != 0, a, b),
    "einsum": lambda parts, text: wg.einsum(text, *parts),
    "clamp": lambda x, min=None, max=None: clamped(x, min, max),
    "equal": lambda a, b: wg.array_equal(a, b),
    "dist": lambda a, b, p=2: wg.linalg.vector_norm(a - b, p),
    "addr": lambda x, a, b, beta=1, alpha=1: scaled(beta, x, alpha, wg.outer(a, b)),
    "addbmm": lambda x, a, b, beta=1, alpha=1: scaled(beta, x, alpha, (a @ b).sum(0)),
    "H": lambda x: x.T,
    "T": lambda x: x.T,
    "mH": lambda x: x.swapaxes(-1, -2),
    "mT": lambda x: x.swapaxes(-1, -2),
    "adjoint": lambda x: x.swapaxes(-1, -2),
    "conj": lambda x: x,
    "conj_physical": lambda x: x.clone(),
    "resolve_conj": lambda x: x,
    "resolve_neg": lambda x: x,
    "positive": lambda x: x,
    "isreal": lambda x: wg.ones_like(x, dtype="bool"),
    "isposinf": lambda x: x == math.inf,
    "isneginf": lambda x: x == -math.inf,
    "sgn": lambda x: wg.sign(x),
    "logaddexp2": lambda a, b: wg.logaddexp(a * math.log(2), b * math.log(2)) / math.log(2),
    "ldexp": lambda a, b: a * 2.0**b,
    "diagflat": lambda x, offset=0: wg.diag(x.reshape(-1), offset),
    "constant_pad_nd": lambda x, pad, value=0: wg.nn.functional.pad(x, pad, value=value),
    "dsplit": halves("dsplit", 2),
    "hsplit": halves("hsplit", 1),
    "vsplit": halves("vsplit", 0),
    "split_with_sizes": lambda x, sizes, dim=0: wg.split(x, sizes, dim),
    "unsafe_split": lambda x, n, dim=0: wg.split(x, n, dim),
    "unsafe_chunk": lambda x, n, dim=0: wg.chunk(x, n, dim),
    "msort": lambda x: wg.sort(x, 0)[0],
    "new_full": lambda x, s, v, dtype=None, **_: wg.full(s, v, dtype or x.dtype),
    "new_ones": lambda x, s, dtype=None, **_: wg.ones(s, dtype or x.dtype),
    "new_zeros": lambda x, s, dtype=None, **_: wg.zeros(s, dtype or x.dtype),
    "full_like": lambda x, v, dtype=None, **_: wg.full_like(x, v, dtype or x.dtype),
    "ones_like": lambda x, dtype=None, **_: wg.ones_like(x, dtype or x.dtype),
    "zeros_like": lambda x, dtype=None, **_: wg.zeros_like(x, dtype or x.dtype),
    "scalar_tensor": lambda v, dtype=None, **_: wg.tensor(v, dtype=dtype),
    "index_put": index_put,
    "select_scatter": select_scatter,
    "slice_scatter": slice_scatter,
    "trapezoid": trapezoid,
    "trapz": trapezoid,
    "cumulative_trapezoid": lambda y, x=None, *, dim=-1, dx=1: wg.cumsum(
        trapezoids(y, x, dim, dx), dim
    ),
    "sum_to_size": sum_to_size,
    "fill": lambda x, value: wg.ones_like(x) * value,
    "repeat": lambda x, *n: x.repeat(*n),
    "cdist": lambda a, b, p=2.0, compute_mode=None: wg.cdist(a, b, p),
    "tril_indices": lambda r, c, offset=0, **_: wg.tril_indices(r, c, offset),
    "triu_indices": lambda r, c, offset=0, **_: wg.triu_indices(r, c, offset),
    "repeat_interleave": lambda x, repeats, dim=None, **_: wg.repeat_interleave(
        x, repeats.tolist() if isinstance(repeats, wg.Tensor) else repeats, dim
    ),
    "cartesian_prod": lambda *x: (
        wg.stack([v.reshape(-1) for v in wg.meshgrid(*x, indexing="ij")], -1)
        if len(x) > 1
        else x[0]
    ),
    "linalg.vander": lambda x, N=None: (
        wg.atleast_1d(x)[..., None] ** wg.arange(N or x.shape[-1]).to(x.dtype)
    ),
    "cholesky": lambda x, upper=False: wg.linalg.cholesky(x, upper=upper),
    "cholesky_inverse": lambda x, upper=False: wg.linalg.inv(x.mT @ x if upper else x @ x.mT),
    "cholesky_solve": lambda b, x, upper=False: wg.linalg.solve(x.mT @ x if upper else x @ x.mT, b),
    "linalg.lstsq": lambda a, b, driver=None: wg.linalg.lstsq(a, b),
    "linalg.pinv.singular": lambda a, b: wg.linalg.pinv(a @ b.mT),
    "linalg.tensorsolve": lambda a, b, dims=None: wg.linalg.tensorsolve(a, b, dims),
    "logdet": lambda x: logdet(*wg.linalg.slogdet(x)),
    "matrix_exp": wg.linalg.matrix_exp,
    "pinverse": lambda x, rcond=None: wg.linalg.pinv(x, rcond),
    "qr": lambda x, some=True: wg.linalg.qr(x, "reduced" if some else "complete"),
    "svd": lambda x, some=True, compute_uv=True: svd(x, some),
    "triangular_solve": lambda b, x, upper=True, transpose=False, unitriangular=False: (
        wg.linalg.solve_triangular(
            x.mT if transpose else x, b, upper=upper != transpose, unitriangular=unitriangular
        ),
        x.clone(),
    ),
    **{f"mvlgamma.mvlgamma_p_{p}": wg.special.multigammaln for p in (1, 3, 5)},
    "polygamma": lambda x, n: x.polygamma(n),
    "special.polygamma": lambda x, n: x.polygamma(n),
    "special.modified_bessel_i0": wg.special.i0,
    "special.modified_bessel_i1": wg.special.i1,
    **{f"signal.windows.{name}": constant(getattr(wg.signal, name)) for name in wg.signal.__all__},
    "gradient": lambda x, spacing=None, dim=None, edge_order=1: wg.gradient(
        x, 1.0 if spacing is None else spacing, dim, edge_order
    ),
    "angle": lambda x: wg.where(x < 0, math.pi, x * 0),
    "logspace": lambda a, b, n, base=10.0, dtype="float32", **_: wg.logspace(a, b, n, base, dtype),
    "to": lambda x, *to, memory_format=None: x.to(
        next(t for t in (getattr(t, "dtype", t) for t in to) if t != "cpu")
    ),
    "slice": lambda x, dim=0, start=None, end=None, step=1: x[
        (*(slice(None),) * dim, slice(start, end, step))
    ],
    "diagonal_scatter": lambda x, src, offset=0, dim1=0, dim2=1: diagonal_scatter(
        x, src, offset, dim1, dim2
    ),
    "prod": lambda x, dim=None, keepdim=False, dtype=None: (
        x if dtype is None else x.to(dtype)
    ).prod(dim, keepdim),
    "nn.functional.pdist": wg.pdist,
    "nn.functional.linear_cross_entropy": lambda x, w, target, linear_bias=None, options=None, **k: (
        wg.nn.functional.cross_entropy(wg.nn.functional.linear(x, w, linear_bias), target, **k)
    ),
    "nn.functional.upsample_bilinear": lambda x, size=None, scale_factor=None: (
        wg.nn.functional.interpolate(x, size, scale_factor, "bilinear", align_corners=True)
    ),
    "nn.functional.upsample_nearest": wg.nn.functional.interpolate,
    "nn.functional.one_hot": lambda x, num_classes=-1: wg.nn.functional.one_hot(
        x, int(x.max()) + 1 if num_classes < 0 else num_classes
    ),
    "nn.functional.feature_alpha_dropout.without_train": lambda x, *_, **__: x,
    "unfold": unfolded,
    "unfold_copy": unfolded,
    "zero_": lambda x: x.clone().zero_(),
    "transpose": lambda x, a, b: wg.transpose(x, a, b) if x.ndim else x,
    "masked.sum": masked(wg.sum, 0.0),
    "masked.prod": masked(wg.prod, 1.0),
    "masked.amax": masked(wg.max, -math.inf),
    "masked.amin": masked(wg.min, math.inf),
    "masked.argmax": masked(wg.argmax, -math.inf),
    "masked.argmin": masked(wg.argmin, math.inf),
    "masked.logsumexp": masked(wg.logsumexp, -math.inf),
    "masked.mean": masked_mean,
    "masked.var": masked_var,
    "masked.std": lambda *a, **k: masked_var(*a, **k).sqrt(),
    "masked.norm": masked_norm,
    "masked.normalize": masked_normalize,
    "masked.softmax": masked(wg.softmax, -math.inf),
    "masked.log_softmax": masked(wg.log_softmax, -math.inf),
    "masked.softmin": masked(lambda x, axis: wg.softmax(-x, axis), math.inf),
    "masked.median": masked(lambda x, axis, **k: wg.nanmedian(x, axis, **k)[0], math.nan),
    "masked.cumsum": masked(wg.cumsum, 0.0),
    "masked.cumprod": masked(wg.cumprod, 1.0),
    "masked.logaddexp": lambda a, b, input_mask=None, other_mask=None: wg.logaddexp(
        a if input_mask is None else wg.where(input_mask, a, -math.inf),
        b if other_mask is None else wg.where(other_mask, b, -math.inf),
    ),
    "masked.select": lambda x, mask: x[mask],
    "masked_select": lambda x, mask: selected(x, mask),
    "permute_copy": copied(
        lambda x, *d, dims=None: x.permute(dims or (d[0] if len(d) == 1 else d))
    ),
    "view_copy": copied(lambda x, *s: x.reshape(*s)),
    "expand_copy": copied(lambda x, s, **_: x.expand(s)),
    "unsqueeze_copy": copied(wg.unsqueeze),
    "squeeze_copy": copied(lambda x, *d: squeezed(x, *d)),
    "alias_copy": copied(lambda x: x),
    "split_with_sizes_copy": copied(lambda x, sizes, dim=0: wg.split(x, sizes, dim)),
}


def mean_like(x: Any, dim: Any = None, *_: Any, keepdim: bool = False, **__: Any) -> Any:
    return x.mean(None if isinstance(dim, bool) else along(dim, x), keepdims=keepdim)


def joined(parts: Any, dim: int) -> Any:
    """PyTorch leaves out empty vectors."""
    kept = [x for x in parts if not isinstance(x, wg.Tensor) or x.shape != (0,)]
    return wg.concatenate(kept or list(parts), dim if kept else 0)


def squeezed(x: Any, *dim: Any) -> Any:
    """PyTorch leaves alone what is not of size 1."""
    if not dim:
        return x.squeeze()
    axes = dim[0] if isinstance(dim[0], (tuple, list)) else dim
    one = [d for d in axes if (x.shape[d] == 1 if x.ndim else d not in (0, -1))]
    return x.squeeze(one) if one else x


def clamped(x: Any, low: Any, high: Any) -> Any:
    numbers = not any(isinstance(bound, wg.Tensor) for bound in (low, high))
    if numbers and not (low is not None and high is not None and low > high):
        return x.clamp(low, high)
    for bound, f in ((low, wg.maximum), (high, wg.minimum)):
        if bound is not None:
            x = f(x, bound)
    return x


def truncated(a: Any, b: Any) -> Any:
    kinds = [x.dtype if isinstance(x, wg.Tensor) else type(x) for x in (a, b)]
    if any(kind is float or getattr(kind, "is_floating_point", False) for kind in kinds):
        return wg.trunc(wg.div(a, b))
    y = wg.floor_divide(a, b)  # of integers: up by one where it is negative and not whole
    return y + ((y < 0) & (y * b != a)).to(y.dtype)


def logdet(sign: Any, size: Any) -> Any:
    return wg.where(sign < 0, math.nan, size)


def svd(x: Any, some: bool) -> Any:
    u, s, vh = wg.linalg.svd(x, full_matrices=not some)
    return u, s, vh.mT


def selected(x: Any, mask: Any) -> Any:
    x, mask = wg.broadcast_tensors(x, mask)
    return x[mask]


for name in ("diagonal", "narrow", "t", "transpose", "unbind"):
    OWN[f"{name}_copy"] = copied(OWN.get(name, getattr(wg, name)))
