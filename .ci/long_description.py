"""The README for the package index, whose pages have no files beside them: its links made absolute.

scikit-build-core calls `dynamic_metadata`; pyproject.toml names it.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def absolute(text: str, home: str) -> str:
    """Markdown with links to files of the project led to its home; pictures, to their bytes."""

    def link(found: re.Match[str]) -> str:
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}[{found[2]}]({home}/{kind}/main/{found[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?://|#|mailto:)([^)]+)\)", link, text)


def dynamic_metadata(settings: Any, project: Any) -> dict[str, Any]:
    """The field `readme`."""
    text = absolute((ROOT / "README.md").read_text(), project["urls"]["Repository"])
    return {"readme": {"content-type": "text/markdown", "text": text}}
