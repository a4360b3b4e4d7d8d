"""ONNX's own node cases, from its wheel, run by wengert.onnx.Backend."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from cases import Case, said
from onnx.backend.test.loader import load_model_tests

import wengert.onnx

VERSION = f"onnx {onnx.__version__}"


def cases(quick: bool = False) -> Iterator[Case]:
    """A case for each, but a few of each kind if quick."""
    warnings.simplefilter("ignore")
    for test in load_model_tests(kind="node")[:: 12 if quick else 1]:
        yield judge(test)


def judge(test: Any) -> Case:
    name = test.name.removeprefix("test_")
    try:
        network = wengert.onnx.Backend.prepare(test.model)
        for inputs, outputs in test.data_sets:
            found = network.run([strange(x) for x in inputs])
            for a, b in zip(found, outputs, strict=True):
                equal(a, b, test)
    except wengert.onnx.UnsupportedError as error:
        return Case(name, "missing", said(error))
    except AssertionError as error:
        return Case(name, "failed", said(error))
    except Exception as error:  # an option that is missing
        return Case(name, "missing", f"{type(error).__name__}: {said(error)}")
    return Case(name, "passed")


def strange(x: Any) -> Any:
    """Inputs as they are; what is no array of numbers there is none of here."""
    if isinstance(x, np.ndarray) and x.dtype.kind not in "fiub":
        raise wengert.onnx.UnsupportedError(f"values of {x.dtype}")
    return x


def equal(a: Any, b: Any, test: Any) -> None:
    if isinstance(b, list):
        assert len(a) == len(b), f"{len(a)} items; expected {len(b)}"
        for x, y in zip(a, b, strict=True):
            equal(x, y, test)
        return
    if b is None:
        assert a is None
        return
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, f"shape {a.shape}; expected {b.shape}"
    assert a.dtype == b.dtype, f"dtype {a.dtype}; expected {b.dtype}"
    close = np.allclose(a, b, rtol=max(test.rtol, 1e-3), atol=max(test.atol, 1e-7), equal_nan=True)
    assert close, f"{a.reshape(-1)[:3]}; expected {b.reshape(-1)[:3]}"
