"""What an elementwise op costs: a row in ops/elementwise/rows.h and one in tests/rows.py.

A new op is added so to a copy of the tree, which is built and must have it everywhere. That takes
minutes, so plain pytest leaves this file out: `pytest -m slow tests/test_new_op.py`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs the source tree"),
    *(
        pytest.mark.skipif(not shutil.which(tool, path=TOOLS), reason=f"no {tool}")
        for tool in ("cmake", "ninja", "g++")
    ),
    pytest.mark.skipif(not importlib.util.find_spec("pybind11"), reason="no pybind11"),
]

STRUCT = """
struct Bend {
  ROW("bend", input, floating)
  FN static V value(V x) { return x / (1.0 + abs(x)); }
  template <class V> FN static V vjp(V g, V x) {
    const V d = 1.0 + abs(x);
    return over(over(g, d), d);
  }
};
"""
ROW = '    unary("bend", lambda x: x / (1 + abs(x)), NOT_ZERO, kinks=(((0.0,), (1.0,)),)),\n'


def insert(path: Path, before: str, text: str) -> None:
    source = path.read_text()
    assert source.count(before) == 1, f"{path}: {before!r}"
    path.write_text(source.replace(before, text + before))


def run(tree: Path, *command: object, folder: str = ".") -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=tree / folder,
        env={**os.environ, "PATH": TOOLS, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy, built, with an interpreter of its own."""
    import pybind11

    tree = tmp_path_factory.mktemp("tree")
    for name in ("csrc", "python", "tests"):
        shutil.copytree(
            ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    for name in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)

    insert(tree / "csrc/ops/elementwise/rows.h", "struct Neg {", STRUCT.lstrip())
    insert(tree / "csrc/ops/elementwise/rows.h", "Neg, Abs,", "Bend, ")
    insert(tree / "tests/rows.py", '    unary("neg", ', ROW)

    venv.create(tree / ".venv", with_pip=False, symlinks=True)
    (site,) = (tree / ".venv").rglob("site-packages")
    (site / "paths.pth").write_text("\n".join([str(tree / "python"), *sys.path]))
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    run(tree, "cmake", "-B", "build", "-G", "Ninja", "-DWENGERT_CUDA=OFF", *launcher,
        "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0",
        "-DWENGERT_BASELINE=ON", "-DSKBUILD_PROJECT_VERSION=0",
        f"-DPython_EXECUTABLE={tree}/.venv/bin/python",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}")  # fmt: skip
    run(tree, "cmake", "--build", "build")
    (core,) = (tree / "build").glob("_core*.so")
    shutil.copy(core, tree / "python/wengert")
    return tree


def python(tree: Path, code: str) -> str:
    preamble = "import inspect, pathlib, runpy, numpy as np, pytest, wengert as wg\n"
    preamble += f"assert pathlib.Path(wg.__file__).is_relative_to({str(tree)!r}), wg.__file__\n"
    return run(tree, tree / ".venv/bin/python", "-c", preamble + code)


def test_the_tables_tests_cover_it(tree: Path) -> None:
    """Values, first and second gradients, strides, dtypes, zero sizes and kinks; and its texts."""
    tests = ("-m", "pytest", "-p", "no:cacheprovider", "tests/test_ops.py", "-k")
    said = run(tree, tree / ".venv/bin/python", *tests, "bend or has_a_row or unique")
    assert "skipped" not in said and int(said.split(" passed")[0].split()[-1]) > 30, said


def test_python_has_it(tree: Path) -> None:
    python(
        tree,
        """
assert "bend" in wg.__all__ and "bend" in dir(wg) and "bend" in dir(wg.Tensor)
(op,) = [op for op in wg._core.ops() if op["name"] == "bend"]
assert op["cuda"] and not op["no_gradient"] and op["formula"] == "x / (1 + abs(x))"
for function in (wg.bend, wg.Tensor.bend):
    assert op["formula"] in function.__doc__ and op["gradients"][0] in function.__doc__
assert str(inspect.signature(wg.bend)) == "(x)"
x = wg.tensor([1.0, -3.0])
assert x.bend().tolist() == wg.bend(x).tolist() == wg.bend(input=x).tolist() == [0.5, -0.75]
assert wg.bend(wg.tensor([1, -3])).tolist() == [0.5, -0.75]
assert wg.bend(1.0).item() == 0.5
with pytest.raises(TypeError, match="bend"):
    wg.bend()
assert x.bend().made_by == "bend"
""",
    )
    if sys.version_info[:2] == (3, 11) and importlib.util.find_spec("pybind11_stubgen"):
        run(tree, tree / ".venv/bin/python", "tests/test_stubs.py")
        stub = (tree / "python/wengert/_core.pyi").read_text()
        assert stub.count("def bend(self) -> Tensor:") == 1
        assert stub.count("def bend(x: typing.Any) -> Tensor:") == 1
        assert "'bend'" in stub


def test_steps_have_it(tree: Path) -> None:
    """Its line in a listing, on a page, in NumPy, and fused, bit for bit."""
    python(
        tree,
        """
x = wg.tensor(np.random.default_rng(0).normal(size=(60, 70)).astype("f"), requires_grad=True)

def step(w):
    y = (x * w).bend() + 1
    (g,) = wg.grad(y.square().mean(), [x])
    return y.detach(), g

w = wg.tensor(2.0)

compiled = wg.compile(step)
for _ in range(3):
    for a, b in zip(compiled(w), step(w)):
        assert a.tolist() == b.tolist()
fused = {line["op"] for of in compiled.program.lines if of["op"] == "fused" for line in of["body"]}
assert {"bend", "bend_vjp"} <= fused, compiled.program

x = wg.tensor(np.linspace(-3, 3, 12), requires_grad=True)
program = wg.trace(lambda: (x * 2).bend().square().mean().backward())()
assert {"bend", "bend_vjp"} <= {line.op for line in program.lines}
assert "mul1 / (1 + abs(mul1))" in str(program) and "bend" in program.to_dot()
assert program.check(), program.check()
page = program.to_html("step.html").read_text()
assert "bend: (x) => {" in page and "bend_vjp: (g, x) => {" in page
program.to_numpy("step.py")
ours, theirs = program.gradients(), runpy.run_path("step.py", run_name="__main__")["gradients"]
assert ours.keys() == theirs.keys() and ours
for name in ours:
    np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-12)
""",
    )


def test_gpus_have_it(tree: Path) -> None:
    """In the kernels of single ops, and by name in those of fused chains."""
    said = run(
        tree,
        tree / ".venv/bin/python",
        "-c",
        "import pathlib, test_cuda\n"
        "print(test_cuda.compile_one(test_cuda.CSRC / 'ops/elementwise/elementwise.cu',"
        " pathlib.Path('.')))",
        folder="tests/gpu",
    )
    kernels = run(tree, "nm", "-C", said.strip(), folder="tests/gpu")
    assert "UnaryFormula<wengert::Bend, float>" in kernels
    assert "VjpFormula<wengert::Bend, double>" in kernels
    (tree / "chain.cpp").write_text(
        '#include "ops/elementwise/chain_kernel.h"\n#include <cstdio>\n'
        "using namespace wengert::WENGERT_ISA;\n"
        'int main() { std::printf("%g %g", value<"bend">({}, 3.0), vjp<"bend">({}, 32.0, 3.0)); }\n'
    )
    run(tree, "g++", "-std=c++20", "-Icsrc", "-Itests/gpu", "chain.cpp", "-o", "chain")
    assert run(tree, "./chain") == "0.75 2"
