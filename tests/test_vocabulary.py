"""The words of the formulas (exp, tanh, ...) stay within their error bounds, on every ISA here.

tests/ulp.cpp measures them in ulp; here over every 10,007th float32, in full with `ulp 1`.
"""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from test_layers import flags_in_cmake

import wengert as wg

ROOT = Path(__file__).parent.parent
LEVELS = ["baseline", "avx2", "avx512"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are for x86-64")
@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
@pytest.mark.parametrize("isa", LEVELS)
def test_error_bounds(isa: str, tmp_path: Path) -> None:
    if LEVELS.index(isa) > LEVELS.index(wg.simd_level()):
        pytest.skip(f"this processor has no {isa}")
    program = tmp_path / "ulp"
    command = ["g++", "-std=c++20", *flags_in_cmake()[isa], f"-DWENGERT_ISA={isa}"]
    command += ["-I", str(ROOT / "csrc"), str(ROOT / "tests" / "ulp.cpp"), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program, "10007"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("exp", "log", "tanh", "sigmoid", "erf", "sin"):
        assert f"{word} " in done.stdout
