"""HIPS autograd's tests of NumPy's functions, run on Wengert; complex arguments are left out.

They come with the sdist alone. run.py has pip put it into build/ once; the quick form takes the one
that is there. In these tests `autograd.numpy` is Wengert with NumPy's names, and check_grads
compares values with NumPy's, and gradients in reverse mode with differences of NumPy's values, to
the order that a test asks for.
"""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import Case, NotHere, pytest_cases
from numpy_names import NUMPY, arrays, flat, tensors

import wengert as wg

VERSION = "autograd 1.9.1"
NAME = VERSION.replace(" ", "-")
SHA256 = "7818c5c69ddf9efb7da74097bd741a4c7920133f41966f68537223a15ef798bc"
FILES = "numpy systematic scalar_ops binary_ops truediv linalg jacobian logic direct"
OF_BOTH = "r_ c_ make_diagonal T _dot"  # of arrays and of tensors alike
COMPLEX = "angle clongdouble conj conjugate imag iscomplex real real_if_close"


def sdist(fetch: bool) -> Path:
    """The archive, of the version whose hash is known; NotHere without it."""
    place = Path(__file__).parents[2] / "build" / "conformance"
    path = place / f"{NAME}.tar.gz"
    if fetch and not path.exists():
        wanted = [VERSION.replace(" ", "=="), "--no-deps", "--no-binary", "autograd", "-q"]
        subprocess.run([sys.executable, "-m", "pip", "download", *wanted, "-d", place], check=True)
    if not path.exists():
        raise NotHere("python tests/conformance/run.py hips_autograd")
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise ValueError(f"{path}: its SHA-256 is {found}; expected {SHA256}")
    return path


# ---- what stands for autograd


class Names(ModuleType):
    """autograd.numpy or a part of it: NumPy's function of arrays, Wengert's of tensors."""

    def __init__(self, name: str, theirs: Any, ours: Any, prefix: str = "") -> None:
        super().__init__(name)
        self.theirs, self.ours, self.prefix, self.__version__ = theirs, ours, prefix, np.__version__

    def __getattr__(self, name: str) -> Any:
        full = self.prefix + name
        if name in COMPLEX.split():
            return NotApplicable("complex numbers")
        if name in OF_BOTH.split():
            return NUMPY[full]
        theirs = getattr(self.theirs, name)
        if not callable(theirs) or isinstance(theirs, type):
            return theirs

        def call(*args: Any, **kwargs: Any) -> Any:
            if not any(isinstance(x, wg.Tensor) for x in flat((args, kwargs))):
                return theirs(*args, **kwargs)
            f = NUMPY.get(full) or getattr(self.ours, name, None)
            if f is None:
                raise NotImplementedError(f"no function of the name: {full}")
            return f(*tensors(args), **tensors(kwargs))

        call.__name__ = name
        return call


class NotApplicable(ModuleType):
    """A function, or a module of functions, that skips the test that uses it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        pytest.skip(self.__name__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


OWN = NotApplicable("autograd's own interface")


def leaf(x: Any) -> wg.Tensor:
    """A tensor to differentiate by: of the tape that x is on, if any."""
    if isinstance(x, wg.Tensor):
        return x.clone() if x.requires_grad else x.detach().clone().requires_grad_()
    a = np.asarray(x)
    return wg.tensor(
        a if np.issubdtype(a.dtype, np.floating) else a.astype(float), requires_grad=True
    )


def value_and_grad(f: Callable[..., Any], argnum: int = 0) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        inner = isinstance(args[argnum], wg.Tensor)
        x = leaf(args[argnum])
        y = f(*args[:argnum], x, *args[argnum + 1 :], **kwargs)
        if isinstance(y, bool):
            raise TypeError("not a differentiable value")
        if not isinstance(y, wg.Tensor) or not y.requires_grad:
            g = wg.zeros_like(x)
        else:
            g = wg.grad(y, x, create_graph=inner, allow_unused=True)
            g = wg.zeros_like(x) if g is None else g
        return (y, g) if inner else (arrays(y), arrays(g))

    return call


def grad(f: Callable[..., Any], argnum: int = 0) -> Callable[..., Any]:
    return lambda *args, **kwargs: value_and_grad(f, argnum)(*args, **kwargs)[1]


def jacobian(f: Callable[..., Any], argnum: int = 0) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        inner = isinstance(args[argnum], wg.Tensor)
        x = leaf(args[argnum])
        y = f(*args[:argnum], x, *args[argnum + 1 :])
        rows = [wg.grad(v, x, create_graph=True) for v in y.reshape(-1).unbind()]
        rows = wg.stack(rows).reshape(*y.shape, *x.shape)
        return rows if inner else arrays(rows)

    return call


# ---- the check


def differs(what: str, got: Any, wanted: Any) -> None:
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, expected {wanted.shape}"
    assert np.allclose(got, wanted, rtol=1e-6, atol=1e-6), f"{what}: {got}, expected {wanted}"


def check(f: Callable[..., Any], of: Sequence[int], args: tuple[Any, ...], order: int) -> None:
    """Values against NumPy's; then, for each order, the derivative of a sum in one direction."""
    rng = np.random.default_rng(0)
    xs = [np.asarray(x, float) for i in of for x in flat(args[i])]

    def at(xs: Sequence[Any]) -> list[Any]:
        rest = iter(xs)
        given = [replaced(a, rest) if i in of else a for i, a in enumerate(args)]
        y = f(*given)
        return [v for v in flat(y) if not isinstance(v, bool)]

    wanted = [np.asarray(y, float) for y in at(xs)]
    got = at([wg.tensor(x) for x in xs])
    assert len(got) == len(wanted), f"{len(got)} results, expected {len(wanted)}"
    for y, z in zip(got, wanted, strict=True):
        differs("value", arrays(y), z)

    us = [rng.normal(size=y.shape) for y in wanted]
    vs = [[rng.normal(size=x.shape) for x in xs] for _ in range(order + 1)]

    def scalar(xs: Sequence[Any], degree: int) -> Any:
        """The sum of f's results, weighted by u, or of its derivative of a degree."""
        terms = [(y * u).sum() for y, u in zip(at(xs), us, strict=True)]
        total = sum(terms[1:], terms[0]) if terms else 0.0
        for d in range(degree):
            if not isinstance(total, wg.Tensor) or not total.requires_grad:
                return 0.0
            gs = wg.grad(total, list(xs), create_graph=True, allow_unused=True)
            parts = [(g * v).sum() for g, v in zip(gs, vs[d], strict=True) if g is not None]
            total = sum(parts[1:], parts[0]) if parts else 0.0
        return total

    h = 1e-6
    for degree in range(order):
        v = vs[degree]

        def moved(step: float, degree: int = degree, v: Any = v) -> float:
            places: list[Any] = [x + step * dx for x, dx in zip(xs, v, strict=True)]
            if degree:
                places = [wg.tensor(x, requires_grad=True) for x in places]
            return float(scalar(places, degree))

        mine = scalar([wg.tensor(x, requires_grad=True) for x in xs], degree + 1)
        differs(f"order {degree + 1}", float(mine), (moved(h) - moved(-h)) / (2 * h))


def replaced(x: Any, rest: Iterator[Any]) -> Any:
    return type(x)(replaced(v, rest) for v in x) if isinstance(x, (list, tuple)) else next(rest)


def check_grads(f: Any, argnum: Any = 0, modes: Any = (), order: int = 2) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        of = (argnum,) if isinstance(argnum, int) else tuple(argnum)
        if any(np.iscomplexobj(x) for i in of for x in flat(args[i])):
            pytest.skip("complex numbers")
        check(lambda *a: f(*a, **kwargs), of, args, order)

    return call


def combo_check(f: Any, argnum: Any, modes: Any = (), order: int = 2) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        of = (argnum,) if isinstance(argnum, int) else tuple(argnum)
        options = [[(k, v) for v in vs] for k, vs in kwargs.items()]
        for chosen in itertools.product(*args):
            if not any(np.iscomplexobj(x) for i in of for x in flat(chosen[i])):
                for option in itertools.product(*options):
                    check_grads(f, argnum, modes, order)(*chosen, **dict(option))

    return call


def modules() -> dict[str, ModuleType]:
    top = ModuleType("autograd")
    top.__path__ = []
    top.__dict__.update(
        grad=grad, deriv=grad, value_and_grad=value_and_grad, jacobian=jacobian, tuple=tuple,
        holomorphic_grad=NotApplicable("complex numbers"),
    )  # fmt: skip
    linalg = Names("autograd.numpy.linalg", np.linalg, wg.linalg, "linalg.")
    numpy = Names("autograd.numpy", np, wg)
    numpy.__path__ = []
    numpy.linalg, numpy.random = linalg, np.random
    util = ModuleType("autograd.test_util")
    util.check_grads, util.combo_check = check_grads, combo_check
    top.numpy, top.test_util = numpy, util
    parts = {
        "numpy": numpy, "numpy.linalg": linalg, "numpy.random": np.random, "test_util": util,
        "core": OWN, "extend": OWN,
    }  # fmt: skip
    return {"autograd": top, **{f"autograd.{name}": part for name, part in parts.items()}}


def cases(quick: bool = False) -> Iterator[Case]:
    """Runs pytest on the files."""
    archive = sdist(fetch=not quick)
    files = ["scalar_ops"] if quick else FILES.split()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        where = Path(folder) / NAME / "tests"
        for name, module in modules().items():
            patch.setitem(sys.modules, name, module)
        for case in pytest_cases([str(where / f"test_{name}.py") for name in files]):
            reason = case.reason.partition("NotImplementedError: ")[2]
            yield case._replace(state="missing", reason=reason) if reason else case
