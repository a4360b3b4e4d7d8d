"""What a release is made of says the same everywhere, and a missing compiler says what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import wengert as wg

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs the source tree")


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_version() -> None:
    version = settings()["project"]["version"]
    assert version == wg.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, flags=re.M)[1] == version  # type: ignore[index]
    done = subprocess.run(
        [sys.executable, "-m", "wengert", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"wengert {version}\n")


def test_changelog_keeps_its_form() -> None:
    """Keep a Changelog: what is to come first, then versions, newest first; known kinds alone."""
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.*?)\]( - \d{4}-\d\d-\d\d)?$", text, flags=re.M)
    assert versions[0] == ("Unreleased", "")
    assert all(date for _, date in versions[1:])
    kinds = set(re.findall(r"^### (.*)$", text, flags=re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_one_home() -> None:
    urls = settings()["project"]["urls"]
    assert all(url.startswith(urls["Repository"]) for url in urls.values())
    assert f"repository-code: {urls['Repository']}\n" in (ROOT / "CITATION.cff").read_text()


def test_citation_is_valid(tmp_path: Path) -> None:
    if not (tool := shutil.which("cffconvert", path=Path(sys.executable).parent)):
        pytest.skip("pip install cffconvert")
    done = subprocess.run(
        [tool, "--validate", "-i", str(ROOT / "CITATION.cff")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_long_description_has_absolute_links_to_files_that_exist() -> None:
    spec = importlib.util.spec_from_file_location("described", ROOT / ".ci/long_description.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    project = settings()["project"]
    home = project["urls"]["Repository"]
    readme = module.dynamic_metadata({}, project)["readme"]
    assert readme["content-type"] == "text/markdown"
    links = re.findall(r"\]\((.*?)\)", readme["text"])
    assert len(links) > 8
    for link in links:
        assert link.startswith("https://"), link
        if link.startswith(home):
            kind, _, path = link.removeprefix(f"{home}/").partition("/main/")
            assert kind == ("raw" if path.endswith(".png") else "blob")
            assert (ROOT / path).exists(), link
    assert module.absolute("![a](b.png) [c](#d) [e](https://f)", "h") == (
        "![a](h/raw/main/b.png) [c](#d) [e](https://f)"
    )


def test_wheels_are_for_the_pythons_that_are_named() -> None:
    found = settings()
    named = {c.rpartition(" ")[2] for c in found["project"]["classifiers"] if "Python :: 3." in c}
    wheels = {b[2:].rstrip("t-*") for b in found["tool"]["cibuildwheel"]["build"]}
    assert {f"{w[0]}.{w[1:]}" for w in wheels} == named


@pytest.mark.parametrize("name", ["tests", "release"])
def test_workflows_are_read(name: str) -> None:
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    flow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    assert flow["permissions"] == {"contents": "read"}
    for job in flow["jobs"].values():
        for step in job["steps"]:
            script = step.get("run", "")
            if script.startswith(".ci/"):
                assert os.access(ROOT / script, os.X_OK), script
    if name == "release":  # off until a person switches it on
        assert all("RELEASE" in flow["jobs"][j]["if"] for j in ("wheels", "sdist"))
        assert flow["jobs"]["publish"]["needs"] == ["wheels", "sdist"]


def test_missing_compiler_says_what_to_install(tmp_path: Path) -> None:
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if not (cmake := shutil.which("cmake", path=tools)):
        pytest.skip("no cmake")
    done = subprocess.run(
        [cmake, "-S", str(ROOT), "-B", str(tmp_path / "build")],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "no C++ compiler is found: apt install g++" in done.stderr
    assert len((done.stdout + done.stderr).split("\n")) < 12, done.stderr
