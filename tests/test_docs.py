"""The site in docs/: its examples run, its tables say what is so, it builds without a warning, and
no link within it leads nowhere. The examples of docstrings run too."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import wengert as wg

DOCS = Path(__file__).resolve().parent.parent / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs the source tree")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module(name: str) -> Any:
    """A file of docs/, which is no package."""
    for folder in (DOCS, DOCS.parent / "tests"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def pages() -> list[Path]:
    return sorted(p for p in DOCS.rglob("*.md") if "generated" not in p.parts)


def run(text: str, name: str, names: dict[str, Any]) -> tuple[int, str]:
    """How many examples a text has, and what those that fail print."""
    told: list[str] = []
    test = doctest.DocTestParser().get_doctest(text, names, name, name, 0)
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append)
    return len(test.examples), "".join(told)


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(DOCS)))
def test_examples_of_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page.stem == "scikit_learn":
        pytest.importorskip("sklearn", reason='pip install "wengert[sklearn]"')
    count, told = run(module("docstrings").code(page.read_text()), page.name, {})
    assert not told, told
    if page.parent.name == "how_to" or page.stem in ("getting_started", "engine"):
        assert count > 4


def test_an_example_that_is_wrong_is_seen() -> None:
    page = "```python\n>>> 1 + 1\n3\n```\n\n    >>> 1 + 1\n    4\n"
    count, told = run(module("docstrings").code(page), "page", {})
    assert count == 1 and "Got:\n    2" in told


# ---- tutorials

# What each has come to when it has run.
TUTORIALS = {
    "1_tensors_and_the_list": "len(program) > 5 and w.grad.shape == (3, 1)",
    "2_backprop_by_hand": "all(agree) and len(agree) == 3 and not report and changes['w1'] > 0",
    "3_digits": "accuracy > 0.95 and step.traces == 2",
    "4_a_convnet": "accuracy > 0.95 and not result.interrupted",
    "5_a_custom_op": "found.numpy().tolist() == [0.5, -1.25, 2] and right and step.traces == 1",
    "6_compile_and_study": "len(step.reasons) > 2 and bad.what == 'infinity'",
}


def test_tutorials_are_notebooks_without_outputs() -> None:
    found = module("notebooks").notebooks()
    assert [notebook.stem for notebook in found] == list(TUTORIALS)
    for notebook in found:
        told = json.loads(notebook.read_text())
        assert told["nbformat"] == 4 and len({cell["id"] for cell in told["cells"]}) > 8
        assert not any(c.get("outputs") or c.get("execution_count") for c in told["cells"])


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the runner that makes the site's pages; in Jupyter, too, where nbclient is installed."""
    monkeypatch.chdir(tmp_path)
    notebook = DOCS / "tutorials" / f"{name}.ipynb"
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = [html for _, _, html in module("notebooks").run(notebook, names)]
    assert any("<table" in html or "<iframe" in html for html in shown)
    assert eval(TUTORIALS[name], names), TUTORIALS[name]


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_in_jupyter(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ("nbclient", "ipykernel"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    import nbformat
    from nbclient import NotebookClient

    for name_of in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name_of, str(tmp_path / name_of))
    book = nbformat.read(DOCS / "tutorials" / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    book.cells.append(nbformat.v4.new_code_cell(f"assert {TUTORIALS[name]}"))
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(book, timeout=120, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]
    assert any("text/html" in o.get("data", {}) for o in outputs)


# ---- docstrings


def documented() -> Iterator[tuple[str, str]]:
    """(name, docstring) of every module of the package, and of what is public in it."""
    names = ["wengert", *(m.name for m in pkgutil.walk_packages(wg.__path__, "wengert."))]
    seen = set()
    for name in names:
        if name.endswith(("__main__", "libwengert_cuda")):
            continue
        room = importlib.import_module(name)
        found = [(name, room), *((f"{name}.{n}", getattr(room, n, None)) for n in dir(room))]
        for label, thing in list(found):
            if isinstance(thing, type) and thing.__module__.startswith("wengert"):
                found += [(f"{label}.{n}", getattr(thing, n, None)) for n in vars(thing)]
        for label, thing in found:
            doc = getattr(thing, "__doc__", None)
            of = "__name__" if isinstance(thing, ModuleType) else "__module__"
            ours = str(getattr(thing, of, None) or "wengert").startswith("wengert")
            if ours and isinstance(doc, str) and ">>>" in doc and doc not in seen:
                seen.add(doc)
                yield label, doc


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_examples_of_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, count = [], 0
    for label, doc in documented():
        names = {"wg": wg, "np": np, "nn": wg.nn, "optim": wg.optim}
        some, told = run(doc, label, names)
        count += some
        wrong += [told] if told else []
    assert not wrong, "\n".join(wrong)
    print("examples of docstrings:", count)


CORE = """
    matmul sum mean prod max min softmax log_softmax logsumexp var std cumsum argmax linear where
    layer_norm embedding one_hot concatenate stack arange linspace cross_entropy mse_loss compile
    binary_cross_entropy_with_logits grad backward value_and_grad no_grad trace vmap checkpoint
    einsum pad topk conv2d scaled_dot_product_attention save manual_seed
"""


@pytest.mark.smoke
def test_core_functions_show_an_example() -> None:
    """Those, and every function that is a row: its example is the row's own."""
    rows = {op["name"] for op in wg.ops() if op["numpy"]} & set(dir(wg))
    assert len(rows) > 60
    without = [n for n in (*CORE.split(), *rows) if ">>>" not in (getattr(wg, n).__doc__ or "")]
    by_hand = {"clamp", "gelu", "hardtanh", "polygamma", "nextafter"}
    assert set(without) <= by_hand, without


# ---- coming from


@pytest.mark.parametrize("other", ["pytorch", "jax"])
def test_rows_of_tables(other: str) -> None:
    """Our side runs; where the other library is installed, theirs gives the same."""
    coming = module("coming")
    rows = coming.rows(DOCS / f"coming_from_{other}.md")
    assert len(rows) >= 20
    theirs: dict[str, Any] | None = None
    if other == "pytorch" and importlib.util.find_spec("torch"):
        import torch

        theirs = coming.names(torch.tensor, torch=torch, F=torch.nn.functional)
        theirs["v"].requires_grad_()
    if other == "jax" and importlib.util.find_spec("jax"):
        import jax

        theirs = coming.names(jax.numpy.asarray, jax=jax, jnp=jax.numpy)
    for row in rows:
        if "torch.compile" in row.theirs:  # it needs a compiler and a minute
            continue
        ours = coming.value(eval(row.ours, coming.ours()))
        if theirs is not None:
            expected = coming.value(eval(row.theirs, theirs))
            assert ours.shape == expected.shape, row
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6, err_msg=str(row))


# ---- scaling on paper


def test_the_model_of_scaling_gives_back_what_it_was_made_of() -> None:
    scaling = module("scaling")
    made = scaling.Fit(2e-5, 8e-9)  # 1 Gb/s
    sizes = (1024, 1 << 22, 1 << 26)
    network = {"ranks": 4, "mpi": {str(n): made.allreduce(4, n) for n in sizes}}
    found = scaling.of(network, "mpi")
    assert found.beta == pytest.approx(made.beta, rel=1e-2)
    assert 0 <= found.alpha - made.alpha < 1e-5  # 1 KB has a few bytes, too
    open_, hidden = (
        [scaling.efficiency(made, n, 0.1, 10**7, h) for n in scaling.RANKS] for h in (False, True)
    )
    assert open_[0] == hidden[0] == 1 and open_ == sorted(open_, reverse=True)
    assert all(a <= b for a, b in zip(open_, hidden, strict=True))
    assert hidden[1] == pytest.approx(0.1 / (0.1 + max(0, made.allreduce(2, 10**7) - 0.2 / 3)))
    text = scaling.text()
    assert "| 1,024 |" in text and text.count("<path") > 4


# ---- the site


def test_site_builds_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    for name in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(name, reason='pip install "wengert[docs]"')
    site = tmp_path / "html"
    command = [sys.executable, str(DOCS / "build.py"), str(site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    # A page for every op, with what a page is to have.
    for op in wg.ops():
        assert (site / "generated" / "ops" / f"{op['name']}.html").exists(), op["name"]
    sigmoid = (site / "generated" / "ops" / "sigmoid.html").read_text()
    for part in ("Second order", "Shapes", "Dtypes", "Errors", "Cost", "Conformance", "<svg"):
        assert part in sigmoid, part
    assert "<svg" in (site / "performance.html").read_text()
    for name in TUTORIALS:
        tutorial = (site / "generated" / "tutorials" / f"{name}.html").read_text()
        assert '<div class="output">' in tutorial and f"{name}.ipynb" in tutorial
    assert "_static/engine-program.html" in (site / "engine.html").read_text()
    assert (site / "_static" / "engine-program.html").exists()
    # The check of links can fail.
    broken = module("build").broken_links
    page = site / "index.html"
    page.write_text(page.read_text() + '<a href="gone.html">x</a><a href="ops.html#gone">x</a>')
    assert broken(site) == ["index.html: gone.html", "index.html: ops.html#gone"]
