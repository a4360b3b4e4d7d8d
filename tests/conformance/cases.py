"""What the suites share: a case with its state; arguments that go from PyTorch to Wengert."""

from __future__ import annotations

import os
import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import wengert as wg


class Case(NamedTuple):
    """state: passed, failed, missing (no such function or option), or n/a (with the reason)."""

    name: str
    state: str
    reason: str = ""


class NotHere(Exception):  # noqa: N818 - as below
    """What a suite needs, and its quick form does not fetch; the command that does."""


class Differs(Exception):  # noqa: N818 - a finding, not an error of ours
    """Both gave an answer, and not the same."""


# Spellings of PyTorch's that are Wengert's under another name.
KEYWORDS = {"dim": "axis", "keepdim": "keepdims", "input": "x", "unbiased": "correction"}


def ours(x: Any, known: dict[int, Any] | None = None) -> Any:
    """An argument of PyTorch's as one of Wengert's; a tensor that is given twice stays one."""
    known = {} if known is None else known
    if isinstance(x, torch.Tensor):
        if id(x) not in known:
            known[id(x)] = tensor(x)
        return known[id(x)]
    if isinstance(x, torch.dtype):
        return str(x).removeprefix("torch.")
    if isinstance(x, torch.Size):
        return tuple(x)
    if isinstance(x, torch.device):
        return str(x)
    if isinstance(x, torch.nn.Module):
        return wengert_module(x)
    if callable(x) and getattr(x, "__module__", "").startswith("torch"):
        return getattr(wg.nn.functional, x.__name__)
    if callable(x) and hasattr(torch.nn.functional, getattr(x, "__name__", " ")):
        return getattr(wg.nn.functional, x.__name__)
    if isinstance(x, (list, tuple)):
        items = [ours(v, known) for v in x]
        return items if isinstance(x, list) else tuple(items)
    if isinstance(x, dict):
        return {k: ours(v, known) for k, v in x.items()}
    return x


def wengert_module(x: torch.nn.Module) -> Any:
    """Distances, and the layers that an encoder or decoder is made of."""
    if isinstance(x, (torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer)):
        attention = x.self_attn
        return getattr(wg.nn, type(x).__name__)(
            attention.embed_dim, attention.num_heads, x.linear1.out_features, x.dropout.p,
            getattr(wg.nn.functional, x.activation.__name__), x.norm1.eps,
            attention.batch_first, x.norm_first, x.linear1.bias is not None,
        ).to("float64")  # fmt: skip
    if isinstance(x, torch.nn.PairwiseDistance):
        return wg.nn.PairwiseDistance(x.norm, x.eps, x.keepdim)
    raise NotImplementedError("a module for an argument")


def tensor(x: torch.Tensor) -> wg.Tensor:
    values = x.detach().resolve_neg()
    if x._is_zerotensor():
        values = torch.zeros(x.shape, dtype=x.dtype)
    if x.dtype is torch.bfloat16:
        return wg.tensor(values.float().numpy(), dtype="bfloat16")
    return wg.tensor(values.numpy(), requires_grad=x.requires_grad)


def call(f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """f, with keywords as PyTorch has them, or else as Wengert has."""
    try:
        return f(*args, **kwargs)
    except TypeError as error:
        renamed = {KEYWORDS.get(k, k): v for k, v in kwargs.items()}
        if renamed == kwargs or "keyword" not in str(error):
            raise
        return f(*args, **renamed)


def leaves(x: Any, kind: type) -> Iterator[Any]:
    """Tensors in arguments or results, in order."""
    if isinstance(x, kind):
        yield x
    elif isinstance(x, dict):
        for v in x.values():
            yield from leaves(v, kind)
    elif isinstance(x, (list, tuple)):
        for v in x:
            yield from leaves(v, kind)


def array(x: Any) -> Any:
    if isinstance(x, torch.Tensor) and x._is_zerotensor():
        return np.zeros(x.shape)
    if isinstance(x, (torch.Tensor, wg.Tensor)):
        x = x.detach()
        return np.asarray((x.float() if str(x.dtype).endswith("bfloat16") else x).numpy())
    return np.asarray(x)


def compare(what: str, got: Any, wanted: Any, rtol: float = 1e-7, atol: float = 1e-9) -> None:
    a, b = array(got), array(wanted)
    if a.shape != b.shape:
        raise Differs(f"{what}: shape {a.shape}, PyTorch {b.shape}")
    if a.size and not np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
        same = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
        far = np.where(same, 0, np.nan_to_num(np.abs(a * 1.0 - b), nan=1e300))
        at = np.unravel_index(np.argmax(far), a.shape)
        raise Differs(f"{what}: {a[at] if at else a} for PyTorch's {b[at] if at else b}")


def judged(name: str, samples: Iterable[Any], check: Callable[[Any], None]) -> Case:
    """The case whose samples are checked: a difference counts for more than a missing option."""
    passed = total = 0
    state, first = "passed", ""
    for sample in samples:
        total += 1
        try:
            check(sample)
            passed += 1
        except Differs as error:
            first = first if state == "failed" else said(error)
            state = "failed"
        except Exception as error:  # what Wengert has no option for
            first = first or f"{type(error).__name__}: {said(error)}"
            state = "missing" if state == "passed" else state
    if not total:
        return Case(name, "n/a", "no samples")
    reason = "" if state == "passed" else f"{passed} of {total} samples; {first}"
    return Case(name, state, reason)


def said(error: BaseException) -> str:
    """The first sentence of an error, short enough for a table."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text[:110]


def pytest_cases(arguments: Sequence[str]) -> Iterator[Case]:
    """The tests that another project's pytest finds; one that it skips does not apply."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        options = ["-p", "no:cacheprovider", "-c", os.devnull, f"--junitxml={report}"]
        with open(os.devnull, "w") as quiet, pytest.MonkeyPatch.context() as patch:  # noqa: PTH123
            patch.setattr("sys.stdout", quiet)
            pytest.main([*arguments, *options])
        for test in ET.parse(report).getroot().iter("testcase"):
            name = f"{test.get('classname', '').rpartition('.')[2]}.{test.get('name')}"
            wrong = [*test.iter("failure"), *test.iter("error")]
            skipped = test.find("skipped")
            if wrong:
                yield Case(name, "failed", said(Exception(wrong[0].get("message", ""))))
            elif skipped is not None:
                yield Case(name, "n/a", skipped.get("message", ""))
            else:
                yield Case(name, "passed")
