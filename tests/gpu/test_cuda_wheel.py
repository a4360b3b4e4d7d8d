"""The CUDA library of a wheel, for all its architectures: many minutes, so by pytest -m release."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_cuda_build import CSRC, NVCC, ROOT

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(not CSRC.is_dir(), reason="needs the source tree"),
    pytest.mark.skipif(not NVCC, reason="no nvcc"),
]


def test_the_library_of_a_wheel(tmp_path: Path) -> None:
    """For all its architectures: at most 6.5 MB, needing no library of CUDA, exporting one name."""
    pybind11 = pytest.importorskip("pybind11")
    configure = ["cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", "-DWENGERT_CUDA=ON",
                 "-DSKBUILD_PROJECT_VERSION=0", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                 f"-DPython_EXECUTABLE={sys.executable}"]  # fmt: skip
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in (configure, ["cmake", "--build", tmp_path, "--target", "wengert_cuda"]):
        done = subprocess.run(command, capture_output=True, text=True, env=tools)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    library = tmp_path / "libwengert_cuda.so"
    print(f"the CUDA library has {library.stat().st_size:,} bytes")
    assert library.stat().st_size <= 6_500_000
    dynamic = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic.stdout)
    assert needed and not [n for n in needed if n.startswith(("libcu", "libnv"))]
    names = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in names.stdout.splitlines()] == ["wengert_cuda_library"]
