"""The tests that come inside einops, run on wengert.einops; a case is a test.

They look for the libraries they know: Wengert takes the place of OneFlow there, which few have.
"""

from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import einops
import pytest
from cases import Case, said
from einops import _backends

import wengert.einops

VERSION = f"einops {einops.__version__}"


def cases(quick: bool = False) -> Iterator[Case]:
    """Runs pytest on the package's tests."""
    os.environ["EINOPS_TEST_BACKENDS"] = "wengert"
    _backends.OneFlowBackend = wengert.einops._Backend
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        chosen = ["-k", "imperative or einmix"] if quick else []
        where = str(Path(einops.__file__).parent / "tests")
        with open(os.devnull, "w") as quiet, pytest.MonkeyPatch.context() as patch:  # noqa: PTH123
            patch.setattr("sys.stdout", quiet)
            pytest.main(
                [where, "-p", "no:cacheprovider", "-c", os.devnull, f"--junitxml={report}", *chosen]
            )
        for test in ET.parse(report).getroot().iter("testcase"):
            name = f"{test.get('classname', '').rpartition('.')[2]}.{test.get('name')}"
            wrong = [*test.iter("failure"), *test.iter("error")]
            if wrong:
                yield Case(name, "failed", said(Exception(wrong[0].get("message", ""))))
            elif test.find("skipped") is not None:
                yield Case(name, "n/a", "another library's own, or compiled by it")
            else:
                yield Case(name, "passed")
