"""Comments and pages name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# A file with a suffix of ours, maybe with folders; not the end of a longer word, nor a pattern.
NAMED = re.compile(r"(?<![\w./*<{-])((?:[\w.-]+/)*[\w-][\w.-]*\.(?:h|cpp|cu|py|md|sh))\b(?!\()")
# Files of users, of others, and of the build, which examples name.
OTHERS = {"script.py", "Python.h", "nvrtc.h", "file.py", "fast.cu", "p.py", "step.py"}

MADE = "docs/generated/"  # by the build of the site

ROOMS = ("csrc", "python", "tests", "benchmarks", "examples", "docs", ".ci")

pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs the source tree")


def files_here() -> list[str]:
    found = [*ROOT.glob("*.md"), *(p for room in ROOMS for p in (ROOT / room).rglob("*"))]
    names = [str(p.relative_to(ROOT)) for p in found if p.is_file()]
    return [name for name in names if not name.startswith(MADE)]


def prose(path: Path) -> str:
    """A page, or the comments of a source file."""
    text = path.read_text(errors="ignore")
    if path.suffix == ".md":
        return re.sub(r"https?://\S+", "", text)
    mark = "#" if path.suffix == ".py" or not path.suffix else "//"
    comments = re.findall(rf"{mark} ?(.*)", text)
    if path.suffix == ".py":
        comments += re.findall(r'"""(.*?)"""', text, re.DOTALL)
    return re.sub(r"https?://\S+", "", "\n".join(comments))


def missing(text: str, files: list[str]) -> list[str]:
    ends = {part for name in files for part in endings(name)}
    return sorted(
        {
            n
            for n in NAMED.findall(text)
            if n.removeprefix("../") not in ends
            and Path(n).name not in OTHERS
            and not n.removeprefix("../").startswith("generated/")
        }
    )


def endings(name: str) -> list[str]:
    """The name, and what is left of it without its first folders."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def test_files_that_are_named_exist() -> None:
    files = files_here()
    found = {}
    for name in files:
        is_read = name.endswith((".md", ".h", ".cpp", ".cu", ".py")) or name.startswith(".ci/")
        if is_read and not name.startswith(("benchmarks/results/", "tests/test_pages.py")):
            found[name] = missing(prose(ROOT / name), files)
    found = {name: gone for name, gone in found.items() if gone}
    assert not found, found


def test_a_missing_file_is_seen() -> None:
    assert missing("see ops/gone.h and base/pool.h, or run.py", ["csrc/base/pool.h"]) == [
        "ops/gone.h",
        "run.py",
    ]
