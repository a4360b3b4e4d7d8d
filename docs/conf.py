"""Sphinx's settings for the site, which `python docs/build.py` builds.

Pages are Markdown (MyST), as the other pages of the project are; furo shows code and signatures
without boxes around boxes, in light and dark, and needs no JavaScript of others. What can be
generated is: a page per op (op_pages.py), charts (charts.py), tutorials with what they show
(notebooks.py), and the engine's own pages of the examples' programs (the directive `list-page`).
"""

import contextlib
import doctest
import io
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import charts  # noqa: E402
import docstrings  # noqa: E402
import notebooks  # noqa: E402
import op_pages  # noqa: E402
import scaling  # noqa: E402
from docutils import nodes  # noqa: E402
from sphinx.util.docutils import SphinxDirective  # noqa: E402

import wengert  # noqa: E402

project = "Wengert"
author = copyright = "The Wengert developers"
version = release = wengert.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["generated/parts"]
html_theme = "furo"
html_title = f"Wengert {release}"
html_static_path = ["generated/static"]
html_show_sourcelink = html_copy_source = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
pygments_style = "default"

nitpicky = True  # a reference to a name of ours that is not there is an error
nitpick_ignore_regex = [("py:.*", r"(?!wengert\b).*"), ("py:.*", r"wengert\.(.*\.)?_.*")]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
toc_object_entries = False  # as side bars of every page they took most of the time
python_display_short_literal_types = True
linkcheck_ignore = [r"https?://"]  # links within the site are checked; the network is not asked


class ListPage(SphinxDirective):
    """`list-page` NAME: the page that study draws of the program NAME, which the examples above on
    the same page made."""

    required_arguments = 1
    option_spec = {"height": int}  # noqa: RUF012 - as docutils has it

    def run(self) -> list[nodes.Node]:
        """Runs the examples and embeds the page."""
        above = Path(self.env.doc2path(self.env.docname)).read_text().splitlines()[: self.lineno]
        names: dict[str, Any] = {}
        for example in doctest.DocTestParser().get_examples(docstrings.code("\n".join(above))):
            if example.exc_msg is None:  # the tests run those that raise, too
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(example.source, self.env.docname, "single"), names)
        file = f"{self.env.docname.replace('/', '-')}-{self.arguments[0]}.html"
        names[self.arguments[0]].to_html(HERE / "generated/static" / file)
        up = "../" * self.env.docname.count("/")
        text = (
            f'<iframe src="{up}_static/{file}" title="The list of {self.arguments[0]}" '
            f'style="width:100%;height:{self.options.get("height", 620)}px;border:1px solid #8886">'
            f'</iframe><p><a href="{up}_static/{file}">The page by itself</a></p>'
        )
        return [nodes.raw("", text, format="html")]


def setup(app: Any) -> dict[str, Any]:
    """Writes what is generated, before Sphinx looks for pages."""
    (HERE / "generated/static").mkdir(parents=True, exist_ok=True)
    op_pages.write(HERE / "generated")
    charts.write(HERE / "generated")
    scaling.write(HERE / "generated")
    notebooks.write(HERE / "generated")
    app.add_directive("list-page", ListPage)
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("autodoc-process-signature", docstrings.signature)
    return {"parallel_read_safe": False}
