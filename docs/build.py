"""Builds the site: `python docs/build.py [FOLDER]`, into build/docs/html unless a folder is given.

A warning is an error, and so is a link within the site that leads nowhere. Needs
`pip install "wengert[docs]"`, and the source tree, whose tables and results the pages show.
"""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

HERE = Path(__file__).resolve().parent


class _Links(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.found.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def broken_links(site: Path) -> list[str]:
    """Links of built pages to files or places of the site that are not there."""
    pages = {page.resolve(): _Links(page) for page in site.rglob("*.html")}
    broken = []
    for page, links in pages.items():
        for link in links.found:
            target, _, anchor = link.partition("#")
            if ":" in target.partition("/")[0] or target.startswith("//"):
                continue  # another site, or data
            path = (page.parent / unquote(target.partition("?")[0])).resolve() if target else page
            path = path / "index.html" if path.is_dir() else path
            lost = not path.exists() or (
                anchor and path in pages and unquote(anchor) not in pages[path].anchors
            )
            # Pages of study fill themselves in when they run.
            if lost and "_static" not in page.parts:
                broken.append(f"{page.relative_to(site.resolve())}: {link}")
    return broken


def build(site: Path) -> int:
    """Sphinx's pages and its check of links, then ours of what it built; the exit code."""
    trees = str(site.parent / f"{site.name}-trees")
    for builder, out in (("html", site), ("linkcheck", site.parent / f"{site.name}-links")):
        options = ["-W", "--keep-going", "-q", "-b", builder, "-d", trees]
        command = [sys.executable, "-m", "sphinx", *options, str(HERE), str(out)]
        if code := subprocess.call(command):
            return code
    broken = broken_links(site)
    print("\n".join([*broken, f"{site}: {len(broken)} broken links"]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if sys.argv[1:] else HERE.parent / "build/docs/html"))
