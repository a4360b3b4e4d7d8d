"""Takes the barriers of the CUDA kernels out, one by one, and looks whether that is noticed.

Each __syncthreads() of the .cu files of csrc/ and of the headers that they share is deleted, the
library emulated under ThreadSanitizer (tests/gpu/emulation.h), and tests of that file run: they
must fail. A barrier that nobody misses is either not needed or not tested. Takes some minutes:

    python tests/gpu/barriers.py [files, such as csrc/ops/attention/attention.cu]
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import test_cuda

ROOT = Path(__file__).resolve().parents[2]
# Tests of on_gpu.py that reach the kernels of a file; all of them where a file is not named.
TESTS = {
    "attention.cu": "test_attention and 65-130",
    "copy.cu": "casts",
    "index.cu": "indexing or embedding",
    "simt.cu": "test_matmul or stacks",
    "reduce.cu": "long_reductions",
    "row_threads.h": "rows_of_softmax",
}
SANITIZE = "-fsanitize=thread"


def noticed(library: Path, tests: str) -> bool:
    preload = [
        subprocess.run(["g++", f"-print-file-name={n}"], capture_output=True, text=True).stdout
        for n in ("libtsan.so", "libstdc++.so")
    ]
    environment = {
        **os.environ,
        "WENGERT_CUDA_LIBRARY": str(library),
        "LD_PRELOAD": " ".join(p.strip() for p in preload),
        "TSAN_OPTIONS": "halt_on_error=1:exitcode=66:ignore_noninstrumented_modules=1",
    }
    command = ["python", "-m", "pytest", "-qx", "-p", "no:cacheprovider", "on_gpu.py", "-k", tests]
    if shutil.which("setarch"):  # old sanitizers need it
        command = ["setarch", "-R", *command]
    done = subprocess.run(command, env=environment, cwd=ROOT / "tests" / "gpu", capture_output=True)
    assert done.returncode in (0, 1, 66) or done.returncode < 0, done.stdout
    return done.returncode != 0


def main(files: list[str]) -> int:
    chosen = [Path(f).resolve() for f in files] or [
        *sorted(ROOT.glob("csrc/**/*.cu")),
        ROOT / "csrc/ops/rows/row_threads.h",
    ]
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = {s: test_cuda.compile_one(s, folder, SANITIZE) for s in test_cuda.sources()}
        for path in chosen:
            text, tests = path.read_text(), TESTS.get(path.name, "")
            barriers = list(re.finditer(r"__syncthreads\(\);", text))
            if barriers:  # as it is, all must be well
                assert not noticed(test_cuda.link(folder, list(objects.values()), SANITIZE), tests)
            for barrier in barriers:
                changed = folder / "csrc"
                shutil.rmtree(changed, ignore_errors=True)
                shutil.copytree(ROOT / "csrc", changed)
                place = changed / path.relative_to(ROOT / "csrc")
                place.write_text(text[: barrier.start()] + ";" + text[barrier.end() :])
                built = {}
                for source in objects:
                    copy = changed / source.relative_to(ROOT / "csrc")
                    if source == path or f'"{path.relative_to(ROOT / "csrc")}"' in copy.read_text():
                        built[source] = test_cuda.compile_one(copy, changed, SANITIZE)
                library = test_cuda.link(changed, list({**objects, **built}.values()), SANITIZE)
                found = noticed(library, tests)
                missed += not found
                line = text[: barrier.start()].count("\n") + 1
                print(f"{path.relative_to(ROOT)}:{line}: {'noticed' if found else 'NOT noticed'}")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
