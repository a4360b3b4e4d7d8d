"""What nvcc makes of the kernels: no spills, no warnings, 16 bytes at a time where it matters.

Needs nvcc, and no GPU; for the machine code also NVIDIA's disassembler
(`pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm`). The bounds are of one architecture,
sm_90a.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
packages = importlib.util.find_spec("nvidia")  # PyPI's toolkit
TOOLS = os.pathsep.join(
    [
        *(f"{p}/cu13/bin" for p in (packages.submodule_search_locations or () if packages else ())),
        os.environ["PATH"],
        "/usr/local/cuda/bin",
    ]
)

pytestmark = [
    pytest.mark.skipif(not CSRC.is_dir(), reason="needs the source tree"),
    pytest.mark.skipif(not NVCC, reason="no nvcc"),
]


def flags() -> list[str]:
    """Those of CMakeLists.txt that change the code."""
    text = (ROOT / "CMakeLists.txt").read_text()
    line = re.search(r"list\(APPEND nvcc (-fmad.*?) -I", text)
    assert line
    return line[1].split()


def compile_for(source: Path, folder: Path, architecture: str = "90a") -> tuple[str, str]:
    """The report of ptxas, and the PTX."""
    target = f"arch=compute_{architecture},code=sm_{architecture}"
    done = subprocess.run(
        [NVCC, "-std=c++20", *flags(), "-gencode", target, f"-I{CSRC}",
         "-Werror", "all-warnings", "-Xptxas", "-v", "--keep", "--keep-dir", folder,
         "-cubin", source, "-o", folder / f"{source.stem}.cubin"],
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr, next(folder.glob(f"{source.stem}*.ptx")).read_text()


def kernels(report: str) -> list[tuple[str, int, int, int]]:
    """(name, bytes of stack, bytes spilled, registers) of each kernel in a report."""
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores.*?"
        r"Used (\d+) registers",
        report,
        re.DOTALL,
    )
    return [(name, int(stack), int(spilled), int(used)) for name, stack, spilled, used in found]


def machine_code(cubin: Path) -> dict[str, str]:
    """The instructions of each kernel; empty where there is no disassembler."""
    if not (shutil.which("cuobjdump", path=TOOLS) and shutil.which("nvdisasm", path=TOOLS)):
        return {}
    done = subprocess.run(
        [shutil.which("cuobjdump", path=TOOLS), "-sass", cubin],
        env={**os.environ, "PATH": TOOLS}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    parts = re.split(r"^\s*Function : (\w+)\n", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


ELEMENTS = r"map_elementsI\w+EfJff?EE"  # of float32 alone
# Kernels that move 16 bytes at a time, and the instructions which must show that.
QUADS = {
    ELEMENTS: ("LDG.E.128", "STG.E.128"),
    "large_tiles": ("LDG.E.128", "STG.E.128", "LDS.128"),
    "attend": ("LDS.128", "STS.128"),
}


@pytest.mark.parametrize("source", sorted(CSRC.rglob("*.cu")), ids=lambda p: p.name)
def test_kernels_fit_into_registers(source: Path, tmp_path: Path) -> None:
    report, ptx = compile_for(source, tmp_path)
    found = kernels(report)
    assert len(found) == len(re.findall(r"^(?:\.\w+ )?\.entry ", ptx, re.MULTILINE))
    for name, stack, spilled, used in found:
        # CUDA's sin, cos and tan reduce huge arguments with a small table on the stack; polygamma
        # is some hundred operations in double.
        room = 40 if re.search(r"3(Sin|Cos|Tan)", name) else 16 if "9Polygamma" in name else 0
        assert spilled <= (16 if "9Polygamma" in name else 0), f"{name} spills {spilled} bytes"
        assert stack <= room, f"{name} has a stack of {stack} bytes"
        # Two blocks fit; float64 may have one. Of wgmma_tiles test_cuda_matmul.py says more.
        most = 255 if "attendId" in name else 168 if "wgmma_tiles" in name else 128
        assert used <= most, f"{name} uses {used} registers"
    print(f"{source.name}: {len(found)} kernels, at most {max((k[3] for k in found), default=0)} "
          "registers")  # fmt: skip
    bodies = dict(re.findall(r"\.entry (\w+)\(.*?\n\{(.*?)\n\}", ptx, re.DOTALL))
    quads = [name for name in bodies if re.search(rf"{ELEMENTS}|large_tiles", name)]
    if source.stem in ("elementwise", "simt"):
        assert quads
    for name in quads:
        assert re.search(r"ld\.global(\.nc)?\.v4", bodies[name]), f"{name} reads single words"
        assert "st.global.v4" in bodies[name], f"{name} writes single words"
        if "large_tiles" in name:
            assert "ld.shared.v4" in bodies[name]
    code = machine_code(tmp_path / f"{source.stem}.cubin")
    assert not code or set(code) == {k[0] for k in found}
    for name, instructions in code.items():
        if not re.search(r"3(Sin|Cos|Tan)|9Polygamma", name):
            assert not re.search(r"\b(LDL|STL)\b", instructions), f"{name} uses local memory"
        for kernel, wanted in QUADS.items():
            for word in wanted if re.search(rf"\d{kernel}I", name) else ():
                assert word in instructions, f"{name} has no {word}"


def test_code_for_every_architecture_of_a_wheel(tmp_path: Path) -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    wanted = re.search(r"set\(architectures (75 .*?)\)", text)
    assert wanted
    targets = []
    for a in wanted[1].split():
        number, _, virtual = a.partition("-")
        kind = "compute" if virtual else "sm"
        targets += ["-gencode", f"arch=compute_{number},code={kind}_{number}"]
    fatbin = tmp_path / "embedding.fatbin"
    command = [NVCC, "-std=c++20", *flags(), *targets, f"-I{CSRC}", "-Werror", "all-warnings",
               "-fatbin", CSRC / "ops/index/embedding.cu", "-o", fatbin]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    data = fatbin.read_bytes()
    header, end = struct.unpack_from("<HQ", data, 6)
    found = []
    at = header
    while at < header + end:  # 1: PTX, 2: machine code
        kind, _, skip, size = struct.unpack_from("<HHIQ", data, at)
        found.append((kind, struct.unpack_from("<I", data, at + 28)[0]))
        at += skip + size
    assert sorted(found) == [(1, 120), (2, 75), (2, 80), (2, 90), (2, 100), (2, 120)]


def test_the_disassembler_sees_local_memory(tmp_path: Path) -> None:
    source = tmp_path / "local.cu"
    source.write_text(
        "__global__ void f(int* x, int n) { int a[64]; for (int j = 0; j < n; ++j) a[x[j]] = j;"
        " x[0] = a[n]; }"
    )
    cubin = tmp_path / "local.cubin"
    subprocess.run([NVCC, "-arch=sm_90a", "-cubin", source, "-o", cubin], check=True)
    code = machine_code(cubin)
    if not code:
        pytest.skip("no disassembler here")
    assert re.search(r"\b(LDL|STL)\b", code["_Z1fPii"])


def test_the_reading_of_reports() -> None:
    report = """ptxas info    : Compiling entry function '_Z1fv' for 'sm_90a'
ptxas info    : Function properties for _Z1fv
    24 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers, 24 bytes cumulative stack size"""
    assert kernels(report) == [("_Z1fv", 24, 8, 40)]
