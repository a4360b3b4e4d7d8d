"""The tests that come inside einops, run on wengert.einops; a case is a test.

They look for the libraries they know: Wengert takes the place of OneFlow there, which few have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import einops
from cases import Case, pytest_cases
from einops import _backends

import wengert.einops

VERSION = f"einops {einops.__version__}"


def cases(quick: bool = False) -> Iterator[Case]:
    """Runs pytest on the package's tests."""
    os.environ["EINOPS_TEST_BACKENDS"] = "wengert"
    _backends.OneFlowBackend = wengert.einops._Backend
    chosen = ["-k", "imperative or einmix"] if quick else []
    for case in pytest_cases([str(Path(einops.__file__).parent / "tests"), *chosen]):
        own = "another library's own, or compiled by it"
        yield case._replace(reason=own) if case.state == "n/a" else case
