"""The tutorials: notebooks without outputs in tutorials/, run here and made pages of the site.

A plain runner, which needs no Jupyter: cells are run in order, and what the last expression of each
gives is shown as a notebook shows it.
"""

import ast
import contextlib
import io
import json
import linecache
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import op_pages

HERE = Path(__file__).resolve().parent
TUTORIALS = HERE / "tutorials"


def notebooks() -> list[Path]:
    """In their order."""
    return sorted(TUTORIALS.glob("*.ipynb"))


def cells(notebook: Path) -> list[tuple[str, str]]:
    """("markdown" or "code", text) of each cell."""
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in found]


def run(notebook: Path, names: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(kind, text, what is shown of it as HTML) of each cell; `names` are those of the notebook."""
    for number, (kind, text) in enumerate(cells(notebook), 1):
        yield kind, text, _shown(text, f"cell {number}", names) if kind == "code" else ""


def _shown(text: str, name: str, names: dict[str, Any]) -> str:
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)  # for lists and errors
    tree, value, printed = ast.parse(text), None, io.StringIO()
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), names)
    shown = _pre(printed.getvalue()) if printed.getvalue() else ""
    if hasattr(value, "_repr_html_"):
        return shown + str(value._repr_html_())
    return shown + (_pre(repr(value)) if value is not None else "")


def _pre(text: str) -> str:
    return f'<pre style="font-size:.8em;overflow:auto">{escape(text)}</pre>'


def page(notebook: Path) -> str:
    """A notebook with its outputs, as Markdown."""
    name = notebook.name
    out = [f"{{download}}`The notebook: {name} <../../tutorials/{name}>`", ""]
    names: dict[str, Any] = {"__name__": "__main__"}
    for kind, text, shown in run(notebook, names):
        if kind == "markdown":
            out += [text, ""]
            continue
        out += ["```python", text, "```", ""]
        if shown:
            fence = "`" * 12
            out += [f"{fence}{{raw}} html", f'<div class="output">{shown}</div>', fence, ""]
    head = next(i for i, line in enumerate(out) if line.startswith("# "))
    title, *rest = out[head].splitlines()
    return "\n".join([title, "", *out[:head], *rest, *out[head + 1 :]])


def write(folder: Path) -> None:
    """generated/tutorials/: a page for each, and the list of them, whose order is theirs."""
    (folder / "tutorials").mkdir(parents=True, exist_ok=True)
    for notebook in notebooks():
        op_pages.put(folder / "tutorials" / f"{notebook.stem}.md", page(notebook))
