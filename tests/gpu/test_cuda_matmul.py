"""Matrix products on tensor cores, without a GPU: the emulation's, and what nvcc makes of them.

on_gpu_matmul.py and on_gpu_epilogue.py run on the emulated library as if it were a GPU of compute
capability 8.0, with mma, and 9.0, with wgmma, TMA and mbarriers; the second also as one without.
tiles.cpp tests the plain functions. The rest reads ptxas's reports, the PTX and, where there
is a disassembler (`pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm`), the machine code.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_cuda import CSRC, FLAGS, TESTS
from test_cuda import library as library
from test_cuda import run as run_with
from test_cuda_build import NVCC, compile_for, kernels

pytestmark = [
    pytest.mark.skipif(not CSRC.is_dir(), reason="needs the source tree"),
    pytest.mark.skipif(not shutil.which("g++"), reason="no g++"),
]
SOURCE = CSRC / "ops/matmul/tensor_cores.cu"
PRODUCTS = {"1": 1, "2": 3, "3": 6}  # of slices, by their number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "capability", "units"),
    [
        ("on_gpu_matmul.py", "80", "mma"),
        ("on_gpu_matmul.py", "90", "wgmma"),
        ("on_gpu_epilogue.py", "75", "None"),
        ("on_gpu_epilogue.py", "80", "mma"),
        ("on_gpu_epilogue.py", "90", "wgmma"),
    ],
)
def test_products_on_emulated_tensor_cores(
    library: Path, file: str, capability: str, units: str
) -> None:
    # In debugging no memory has by chance what a kernel forgets to write.
    settings = {"WENGERT_EMULATION_CAPABILITY": capability, "WENGERT_CUDA_DEBUG": "1"}
    assert run_with(library, "print(wg.cuda.matmul_units())", **settings) == f"{units}\n"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        env={**os.environ, "WENGERT_CUDA_LIBRARY": str(library), **settings},
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout or units == "None"


def test_without_tensor_cores_all_is_strict(library: Path) -> None:
    code = """
a = wg.rand((130, 130), device="cuda")
strict = (a @ a).cpu().numpy().tobytes()
wg.set_matmul_precision("bf16")
print(wg.cuda.matmul_units(), (a @ a).cpu().numpy().tobytes() == strict)
"""
    assert run_with(library, code, WENGERT_EMULATION_CAPABILITY="75") == "None True\n"


# ---- the plain functions, and what the emulation must notice -------------------------------------


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("tiles") / "tiles"
    sources = [TESTS / "tiles.cpp", TESTS / "emulation.cpp"]
    done = subprocess.run(
        ["g++", *FLAGS, "-O2", f"-I{CSRC}", *sources, "-o", program], capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    return program


def test_the_plain_functions(tiles: Path) -> None:
    done = subprocess.run([tiles], capture_output=True, text=True, timeout=60)
    assert done.stdout == "fine\n", done.stdout + done.stderr


def test_the_emulation_is_as_late_as_it_may_be(tiles: Path) -> None:
    done = subprocess.run([tiles, "late"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "fine\n", done.stdout + done.stderr
    done = subprocess.run([tiles, "stuck"], capture_output=True, text=True, timeout=60)
    assert done.returncode and "wait at different barriers" in done.stderr


# ---- what nvcc makes of the kernels --------------------------------------------------------------


def disassembler() -> str | None:
    """A path for cuobjdump, which looks for nvdisasm there too."""
    spec = find_spec("nvidia")
    folders = [Path(p) / "cu13/bin" for p in spec.submodule_search_locations or ()] if spec else []
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    both = shutil.which("cuobjdump", path=path) and shutil.which("nvdisasm", path=path)
    return path if both else None


@pytest.mark.skipif(not NVCC, reason="no nvcc")
@pytest.mark.parametrize(
    ("architecture", "kernel", "registers", "word"),
    [("90a", "wgmma_tiles", 168, "HGMMA"), ("80", "mma_tiles", 255, "HMMA")],
)
def test_kernels_of_tensor_cores(
    architecture: str, kernel: str, registers: int, word: str, tmp_path: Path
) -> None:
    report, ptx = compile_for(SOURCE, tmp_path, architecture)
    assert "C75" not in report  # wgmma made one after another, or setmaxnreg ignored
    mangled = f"{len(kernel)}{kernel}ILi"
    found = [k for k in kernels(report) if mangled in k[0]]
    assert len(found) == 3
    for name, stack, spilled, used in found:
        assert stack == 0 and spilled == 0, f"{name}: stack {stack}, spills {spilled}"
        assert 64 <= used <= registers, f"{name} uses {used} registers"
    # So many multiplications as the loop over a block of k has when it is unrolled.
    expected = {
        slices: products * (4 * (2 if slices == "1" else 1) if word == "HGMMA" else 16)
        for slices, products in PRODUCTS.items()
    }
    parts = re.split(r"\.entry (\w+)\(", ptx)
    bodies = dict(zip(parts[1::2], parts[2::2], strict=True))
    instruction = "wgmma.mma_async.sync" if word == "HGMMA" else "mma.sync.aligned.m16n8k16"
    counts = {n: t.count(instruction) for n, t in bodies.items() if mangled in n}
    assert {n.split(mangled)[1][0]: c for n, c in counts.items()} == expected
    path = disassembler()
    if not path:
        return
    done = subprocess.run(
        ["cuobjdump", "-sass", tmp_path / "tensor_cores.cubin"],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for text in re.split(r"\n\s*Function : ", done.stdout)[1:]:
        if mangled not in text.split("\n")[0]:
            continue
        slices = text.split(mangled)[1][0]
        assert len(re.findall(rf"\b{word}\.", text)) == expected[slices]
        assert not re.search(r"\b(LDL|STL)\b", text)
        assert ("UTMALDG" if word == "HGMMA" else "LDGSTS.E.BYPASS.128") in text
