"""The shape of the code: layers of csrc/, its size, what kernels export, what an import costs.

A file of csrc/ includes from its own folder and from folders with a lower number, no others; only
bindings/ knows Python. Kernel files (*.simd.cpp) are compiled once per instruction set and must not
share a symbol: the linker would keep one copy, maybe one the processor cannot run.
"""

import ast
import graphlib
import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
LAYERS = {"base": 0, "gpu": 1, "tensor": 2, "graph": 3, "ops": 4, "engine": 5, "program": 5}
LAYERS["bindings"] = 6
# Lines that are not blank, at most, per room. Raise one only with a reason.
BUDGETS = {
    # 80 of these fold rows by vectors: a sum of 10 at 10 times, a max of 1,000 at 3 times; 30 fold
    # a channel of all images without a copy: 2.5 times; 6 a short maximum: 2.
    "the core that one must read": 6077,
    # Rows, words, functions: a reader looks up the entry that is needed.
    # 45 are powers by products, x ** 2 at 30 times the rate of libm; 17 x % y at 15 times.
    "catalogues": 1570,
    # 90 of these are batch norm in training, 130 random numbers in vectors: randn at 2.5 times;
    # 45 find small bfloat16, 40 are products of 4 to 28 rows: 1.1 to 4.5 times.
    "further CPU kernels": 4575,
    "compiled steps and study": 2835,  # 190 of these write texts of formulas, 70 hide messages
    # 37 of these are vmap's, 43 host lines', 120 examples in docstrings, 30 sets of names.
    "bindings": 4330,
    "GPU": 6040,
    # Families that one may skip, their CPU and GPU kernels together.
    "ops/custom": 345,  # 74 of these are lines that call the program around the engine
    "ops/order": 490,
    "ops/scan": 640,
    "ops/conv": 3011,  # 310 of these are depthwise, 590 dense, 550 Winograd: 3x3 at 1.3 to 1.7
    "ops/recurrent": 680,
    "gather and scatter": 750,
    "tiles": 735,  # float32 at twice the rate of its own units, where a processor has tiles
    # Numerics that one may take on trust.
    "functions of numbers": 369,
    # vmap: the tracer, and the rules by kind of op.
    "many examples": 325,
}
CATALOGUES = ("base/vocab.h", "ops/functions.h", "ops/composed.cpp", "ops/elementwise/rows.h")
CATALOGUES += ("ops/reduce/folds.h",)
TO_READ = ("base", "tensor", "graph", "engine", "ops/elementwise", "ops/reduce", "ops/memory")

# Likewise the families in ops/.
FAMILIES = {"elementwise": 0, "reduce": 1, "random": 1, "memory": 1, "rows": 2, "update": 2}
FAMILIES |= {
    "conv": 4,
    "custom": 0,
    "recurrent": 4,
    "scan": 2,
    "matmul": 3,
    "order": 3,
    "index": 4,
    "attention": 4,
}

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="needs the source tree")


def sources():
    return sorted(p for p in CSRC.rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".cuh"))


def includes(path):
    """(bracket, file) of each #include."""
    return re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def ours(path):
    return [name for bracket, name in includes(path) if bracket == '"']


def allowed(folder, included):
    return folder == included or LAYERS[included] < LAYERS[folder]


def family(path):
    """The folder in ops/ of a file named from csrc/, or None."""
    return path.parts[1] if path.parts[0] == "ops" and len(path.parts) > 2 else None


def may_include(family, included):
    return family == included or FAMILIES[included] < FAMILIES[family]


@pytest.mark.smoke
def test_the_rule_itself():
    assert allowed("ops", "graph")
    assert allowed("ops", "ops")
    assert not allowed("tensor", "ops")
    assert not allowed("engine", "program")
    assert not allowed("program", "engine")
    assert len(sources()) > 20
    assert may_include("rows", "elementwise") and not may_include("elementwise", "rows")


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(CSRC)))
@pytest.mark.smoke
def test_includes_follow_the_layers(path):
    folder = path.relative_to(CSRC).parts[0]
    assert folder in LAYERS, f"{folder}/ has no layer"
    for name in ours(path):
        if name == "emulation.h":
            continue  # of tests/gpu/: takes the place of CUDA's headers
        assert (CSRC / name).is_file(), f"{path}: {name} is not named from csrc/"
        included = Path(name).parts[0]
        assert allowed(folder, included), f"{folder}/ must not include {name}"
        here, there = family(path.relative_to(CSRC)), family(Path(name))
        if here and there:
            assert may_include(here, there), f"ops/{here}/ must not include {name}"
    for bracket, name in includes(path):
        if bracket == "<" and re.match(r"(pybind11/|Python\.h|numpy/)", name):
            assert folder == "bindings", f"{path}: {name} belongs in bindings/"


def reachable(path, found=None):
    found = set() if found is None else found
    for name in ours(path):
        if name not in found and name != "emulation.h":
            found.add(name)
            reachable(CSRC / name, found)
    return found


@pytest.mark.parametrize("path", sorted(CSRC.rglob("*.simd.cpp")), ids=lambda p: p.name)
def test_kernel_files_see_little(path):
    """Whatever they include is compiled with -mavx...: so nothing with functions of its own."""
    light = {"fn.h", "shape.h", "dtype.h", "error.h", "isa.h", "simd.h", "vocab.h", "pool.h"}
    light |= {"tile.h", "polynomials.h", "device.h", "scratch.h", "special.h"}
    for name in reachable(path):
        folder, file = Path(name).parts[0], Path(name).name
        assert folder in ("base", "ops") or name == "tensor/view.h", f"{path.name} reaches {name}"
        if folder == "base":
            assert file in light, f"{path.name} reaches {name}"


def is_for_gpus(path):
    return (
        path.suffix == ".cu"
        or "gpu" in str(path.relative_to(CSRC))
        or path.name
        in (
            "cuda.cpp",
            "chain_kernel.h",
            "epilogue.h",
            "finish.h",
            "formulas.h",
            "tiles.h",
            "row_threads.h",
        )
    )


def room(path):
    name = str(path.relative_to(CSRC))
    if (own := f"ops/{family(path.relative_to(CSRC))}") in BUDGETS:
        return own
    if re.match(r"ops/elementwise/text\.", name):
        return "compiled steps and study"
    if name in CATALOGUES:
        return "catalogues"
    if name.startswith("ops/matmul/amx"):
        return "tiles"
    if re.search(r"/(scatter|fold)\.", name):
        return "gather and scatter"
    if name in ("base/polynomials.h", "base/special.h"):
        return "functions of numbers"
    if re.search(r"/batch(ing)?\.(h|cpp)", name) and not name.startswith("bindings"):
        return "many examples"
    if is_for_gpus(path):
        return "GPU"
    if name.startswith(TO_READ) or name == "ops/matmul/matmul.cpp" or re.match(r"ops/\w+\.", name):
        return "the core that one must read"
    if name.startswith("ops/"):
        return "further CPU kernels"
    return "bindings" if name.startswith("bindings/") else "compiled steps and study"


@pytest.mark.smoke
def test_size_of_csrc():
    found = dict.fromkeys(BUDGETS, 0)
    for path in sources():
        found[room(path)] += sum(1 for line in path.read_text().splitlines() if line.strip())
    print("csrc/, lines that are not blank:", found, sum(found.values()))
    assert all(found[name] <= most for name, most in BUDGETS.items()), found


def flags_in_cmake():
    """ISA -> flags, as CMakeLists.txt gives them to kernel files."""
    text = (ROOT / "CMakeLists.txt").read_text()
    common = re.search(r"set\(common ([^)]*)\)", text).group(1).split()
    kernel = re.search(r"\$\{kernel_speed\} ([^$]*)\$\{ARGN\}", text).group(1).split()
    found = {
        isa: extra.split() for isa, extra in re.findall(r"add_kernels\((\w+)\s*([^)]*)\)", text)
    }
    assert set(found) == {"baseline", "avx2", "avx512", "avx512bf16"}
    return {isa: [*common, *kernel, *extra] for isa, extra in found.items()}


def weak_symbols(object_file):
    out = subprocess.run(["nm", "-C", object_file], capture_output=True, text=True, check=True)
    rows = (line.split(maxsplit=2) for line in out.stdout.splitlines())
    return [row[2] for row in rows if len(row) == 3 and row[1] in "WVuwv"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="one instruction set here")
@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("nm")), reason="no g++")
@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512bf16"])
def test_kernels_share_no_symbols(isa, tmp_path):
    # -O1 inlines less than what is shipped, so it shows more.
    kernels = sorted(CSRC.rglob("*.simd.cpp"), key=lambda p: p.stat().st_size)
    assert kernels
    flags = [f for f in flags_in_cmake()[isa] if not f.startswith("-O")]
    if isa == "avx512bf16":
        kernels = [CSRC / "ops/matmul/gemm.simd.cpp"]
    for path in kernels if isa == "avx512" else kernels[:2]:
        target = tmp_path / (path.name + ".o")
        command = ["g++", "-std=c++20", "-O1", f"-DWENGERT_ISA={isa}", f"-I{CSRC}", *flags]
        subprocess.run([*command, "-c", path, "-o", target], check=True, timeout=300)
        shared = [s for s in weak_symbols(target) if f"wengert::{isa}::" not in s]
        assert not shared, f"{path.name} for {isa} exports {shared[:5]}"


def test_the_check_of_symbols_can_fail(tmp_path):
    if not (shutil.which("g++") and shutil.which("nm")):
        pytest.skip("no g++")
    source = tmp_path / "leak.cpp"
    source.write_text("inline int leak(int x) { return x * 3; }\nint (*use)(int) = leak;\n")
    subprocess.run(["g++", "-O1", "-c", source, "-o", tmp_path / "leak.o"], check=True)
    assert weak_symbols(tmp_path / "leak.o") == ["leak(int)"]


# ---- imports


def python(code):
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(out.stdout)


def test_import_is_light():
    time_it = (
        "import json, sys, time; t = time.perf_counter(); import {0}; "
        "s = time.perf_counter() - t; print(json.dumps([s, sorted(sys.modules)]))"
    )
    modules = set()
    for name in ("wengert", "wengert.cli"):
        seconds, loaded = python(time_it.format(name))
        assert seconds > 0
        modules.update(loaded)
    for heavy in (
        "numpy",
        "rich",
        "matplotlib",
        "torch",
        "safetensors",
        "wengert.train",
        "wengert.study",
        "wengert._guards",
        "wengert._shown",
        "wengert.losses",
        "wengert.order",
        "wengert.random",
        "wengert.shapes",
    ):
        assert heavy not in modules
    best = {
        name: min(python(time_it.format(name))[0] for _ in range(3))
        for name in ("wengert", "numpy")
    }
    print("import, best of 3:", {name: f"{s * 1000:.1f} ms" for name, s in best.items()})


PYTHON = ROOT / "python" / "wengert"


def module_name(path):
    parts = ["wengert", *path.relative_to(PYTHON).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_submodule_can_be_imported_first():
    names = [module_name(p) for p in PYTHON.rglob("*.py") if p.stem != "__main__"]
    code = "import json, os, sys, numpy\ncodes = {}\n"  # NumPy takes longer than we do
    code += f"for name in {sorted(names)}:\n"
    code += (
        "    if (child := os.fork()) == 0:\n"
        "        try:\n"
        "            __import__(name)\n"
        "        except ImportError as error:\n"
        "            os._exit('pip install \"wengert[' not in str(error))  # an extra, missing\n"
        "        os._exit(0)\n"
        "    codes[name] = os.waitpid(child, 0)[1]\n"
        "print(json.dumps([name for name, code in codes.items() if code]))"
    )
    assert len(names) > 40 and python(code) == []


def imported(path):
    """The modules of the package that a file imports when it runs, those of functions included."""
    package = module_name(path).split(".")[: None if path.stem == "__init__" else -1]
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@pytest.mark.smoke
def test_rooms_of_the_package_have_no_circle():
    """A room is a folder or file of python/wengert: cli needs train, which needs study; none of
    them the other way round, not even in a function."""
    rooms = {p.stem for p in PYTHON.iterdir() if not p.stem.startswith("__")}
    needs = {room: set() for room in rooms}
    for path in PYTHON.rglob("*.py"):
        room = path.relative_to(PYTHON).parts[0].removesuffix(".py")
        if room in rooms:
            names = (name.split(".") for name in imported(path))
            needs[room] |= {n[1] for n in names if n[0] == "wengert" and n[1:]} & rooms - {room}
    assert "study" in needs["train"] and "train" in needs["cli"]
    graphlib.TopologicalSorter(needs).prepare()  # raises CycleError


# ---- headers


def python_files():
    return sorted(
        p
        for folder in ("python", "tests", "examples", "benchmarks")
        for p in (ROOT / folder).rglob("*.py")
    )


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_python_files_say_what_they_are(path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(CSRC)))
def test_cpp_files_say_what_they_are(path):
    if path.suffix == ".cpp" and path.with_suffix(".h").exists():
        return  # the header says it
    assert path.read_text().startswith("// "), f"{path} does not open with a comment"
