"""CUDA without a GPU: the kernels compiled for the CPU, and what is said where it is missing.

The emulated library is built from the .cu files with g++ (tests/gpu/emulation.h), and on_gpu.py run
against it, in a process of its own: which library is used is settled when one is first asked for.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import wengert as wg

TESTS = Path(__file__).resolve().parent
CSRC = TESTS.parents[1] / "csrc"
LIBRARY = "libwengert_cuda_emulated.so"
FLAGS = ["-std=c++20", "-O1", "-fwrapv", "-ffp-contract=off", "-fno-math-errno", "-fPIC",
         "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror",
         f"-Wa,-I{CSRC}", f"-I{TESTS}", "-x", "c++"]  # fmt: skip

pytestmark = [
    pytest.mark.skipif(not CSRC.is_dir(), reason="needs the source tree"),
    pytest.mark.skipif(not shutil.which("g++"), reason="no g++"),
]


def sources() -> list[Path]:
    found = [*CSRC.rglob("*.cu"), TESTS / "emulation.cpp", CSRC / "base/shape.cpp"]
    return sorted(found, key=lambda path: -path.stat().st_size)


def compile_one(source: Path, folder: Path, *more: str) -> Path:
    target = folder / f"{source.parent.name}-{source.name}.o"
    launcher = ["ccache"] if shutil.which("ccache") else []
    includes = f"-I{next((p for p in source.parents if p.name == 'csrc'), CSRC)}"
    command = [*launcher, "g++", *more, *FLAGS, includes, "-c", source, "-o", target]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return target


def link(folder: Path, objects: list[Path], *more: str) -> Path:
    library = folder / LIBRARY
    subprocess.run(["g++", *more, "-shared", "-o", library, *objects], check=True)
    return library


def build(folder: Path, *more: str) -> Path:
    """The emulated library. Headers take long, so several files are compiled as one, as CMake
    does."""
    kernels = [path for path in sources() if path.suffix == ".cu"]
    units = [path for path in sources() if path.suffix != ".cu"]
    for i in range(4):
        units.append(folder / f"unit_{i}.cu")
        units[-1].write_text("".join(f'#include "{path}"\n' for path in kernels[i::4]))
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: compile_one(source, folder, *more), units))
    return link(folder, objects, *more)


@functools.cache
def built(base: Path) -> Path:
    """Built once, also where several processes run the tests."""
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "emulated"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (library := folder / LIBRARY).exists():
            build(folder)
    return library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The emulated library: built once in a session, whoever asks."""
    return built(tmp_path_factory.getbasetemp())


def run(library: Path | str, code: str, **settings: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "import wengert as wg\n" + code],
        env={**os.environ, "WENGERT_CUDA_LIBRARY": str(library), **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- the kernels ---------------------------------------------------------------------------------


def on_gpu(library: Path, *more: str, **settings: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "on_gpu.py", *more],
        env={**os.environ, "WENGERT_CUDA_LIBRARY": str(library), **settings},
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=900,
    )
    return str(done.returncode) + done.stdout[-8000:] + done.stderr[-2000:]


def test_everything_runs_on_the_emulated_gpu(library: Path) -> None:
    """Each result written whole, and nothing behind it: see WENGERT_CUDA_DEBUG in runtime.cu."""
    said = on_gpu(library, WENGERT_CUDA_DEBUG="1")
    assert said.startswith("0") and "[100%]" in said, said


def test_memory_that_is_used_again(library: Path) -> None:
    said = on_gpu(library, "-k", "memory or small_network or every_time or indexing")
    assert said.startswith("0") and "[100%]" in said, said


def test_streams_when_the_default_one_is_late(library: Path) -> None:
    said = on_gpu(library, "-k", "stream or event or pinned or exchange or every_time or one_graph",
                  WENGERT_EMULATION_STREAMS="1")  # fmt: skip
    assert said.startswith("0") and "[100%]" in said, said


@pytest.mark.parametrize("late", ["0", "1"])
@pytest.mark.parametrize("wait", [True, False])
def test_the_emulation_sees_a_missing_wait(library: Path, late: str, wait: bool) -> None:
    """And that memory is given to another stream too early: its owner does not know of the use."""
    out = run(
        library,
        f"""
first, s = wg.cuda.default_stream(), wg.cuda.Stream()
a, b = (first, s) if {late} else (s, first)  # a is late
with wg.cuda.stream(a):
    x = wg.full(999, 5.0, device="cuda")
    if {wait}:
        b.wait_stream(a)
with wg.cuda.stream(b):
    y = x + 1
with wg.cuda.stream(b):
    z = wg.full(2000, 1.0, device="cuda")
    a.wait_stream(b)
with wg.cuda.stream(a):
    w = z + 1
if {wait}:
    z.record_stream(a)
del z
with wg.cuda.stream(b):
    wg.full(2000, 7.0, device="cuda")
wg.cuda.synchronize()
print(y[7].item() == 6.0, w[7].item() == 2.0)
""",
        WENGERT_EMULATION_STREAMS=late,
        WENGERT_CUDA_DEBUG="0",
    )
    assert out == f"{wait} {wait}\n"


def test_the_order_of_threads_and_blocks_does_not_matter(library: Path) -> None:
    """Blocks run one after another here, so one that reads what another writes would go unseen."""
    work = """
import hashlib
digest = hashlib.sha256()
def note(*tensors):
    for t in tensors:
        digest.update(t.detach().cpu().numpy().tobytes())
g = wg.Generator(1)
x = wg.randn((300, 40), "float32", g, "cuda").requires_grad_()
w = wg.randn((40, 130), "float32", g, "cuda").requires_grad_()
i = wg.randint(0, 300, (700,), g, "cuda")
h = wg.layer_norm((x @ w).sigmoid(), 130)
q = h.reshape(2, 150, 2, 65).transpose(1, 2)
y = wg.scaled_dot_product_attention(q, q * 0.5, q + 1, is_causal=True)
loss = wg.cross_entropy(wg.embedding(i, y.reshape(300, 130)), i % 130)
loss = loss + (x[i] * x.softmax(0)[i]).sum()
loss.backward()
note(h, y, loss, x.grad, w.grad, x.sum(0), x.sum(1), x.argmax(), x.T.contiguous(), x.mean())
print(digest.hexdigest())
"""
    assert run(library, work) == run(library, work, WENGERT_EMULATION_BACKWARDS="1")


def test_two_gpus(library: Path) -> None:
    out = run(
        library,
        """
x = wg.arange(6, device="cuda:1").float().requires_grad_()
y = (x.to("cuda:0") * 2).to("cuda:1")
y.sum().backward()
print(y.device, y.tolist(), x.grad.device, x.grad.tolist(), wg.cuda.device_count())
try:
    x + y.to("cuda:0")
except wg.DeviceError as error:
    print(error)
event = wg.cuda.Event()
with wg.cuda.device(1):
    print(wg.ones(1, device="cuda").device, wg.cuda.current_device())
    event.record()
event.wait(wg.cuda.current_stream(0))
try:
    event.record()
except wg.DeviceError as error:
    print(error)
""",
        WENGERT_EMULATION_DEVICES="2",
    )
    assert out.splitlines() == [
        "cuda:1 [0.0, 2.0, 4.0, 6.0, 8.0, 10.0] cuda:1 [2.0, 2.0, 2.0, 2.0, 2.0, 2.0] 2",
        'add: tensors on two devices, cuda:1 and cuda:0; move one with .to("cuda:1")',
        "cuda:1 1",
        "Event.record: this event is of cuda:1; make another for cuda:0",
    ]


def test_no_memory_is_an_exception_after_which_all_goes_on(library: Path) -> None:
    out = run(
        library,
        """
kept = wg.ones(1 << 17, device="cuda")
wg.zeros(1 << 19, device="cuda")          # 2 MiB, cached when freed
wg.zeros(3 << 18, device="cuda")          # 3 MiB: only where the cache is given back
try:
    wg.zeros(1 << 20, device="cuda")
except MemoryError as error:
    print(error)
print(kept.sum().item(), wg.cuda.memory_allocated())
""",
        WENGERT_EMULATION_MEMORY=str(4 << 20),
    )
    first, last = out.splitlines()
    assert "shape (1048576,) and dtype float32 (4194304 bytes) on cuda:0; 524288 bytes" in first
    assert "3670016 are free" in first
    assert last == "131072.0 524288"


def test_a_failed_launch_ends_the_gpu_and_not_the_process(library: Path) -> None:
    out = run(
        library,
        """
for _ in range(2):
    try:
        for _ in range(9):
            x = wg.ones(3, device="cuda")
    except wg.DeviceError as error:
        print(error)
print(wg.ones(3).sum().item())
""",
        WENGERT_EMULATION_FAIL="5",
    )
    first, second, third = out.splitlines()
    assert "full: emulated on the CPU reports: unspecified launch failure" in first
    assert "are lost to this process" in first
    assert second == (
        "cuda:0: is lost since 'full' (unspecified launch failure); "
        "the process cannot use it any more"
    )
    assert third == "3.0"


STEP = """
from wengert import nn, optim
def make(passes):
    wg.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)).to("cuda")
    rule = optim.Adam(model.parameters(), lr=0.1)
    def step(x, y):
        rule.zero_grad()
        loss = wg.cross_entropy(model(x), y)
        loss.backward()
        rule.step()
        return loss
    wg.manual_seed(2)
    return step if passes is None else wg.compile(step, passes=passes)
GRAPH = [name for name in wg.compiling.PASSES if name != "persistent"]
x = wg.randn((16, 6), generator=wg.Generator(3), device="cuda")
y = wg.randint(0, 3, (16,), wg.Generator(4), "cuda")
"""


def test_no_memory_while_a_step_is_recorded_leaves_all_as_it_was(library: Path) -> None:
    out = run(
        library,
        STEP
        + """
step = make(None)
expected = [step(x, y).item() for _ in range(5)]
step = make(GRAPH)
losses = [step(x, y).item()]
hog = []
for n in (1 << 20, 1 << 18, 1 << 17):  # bytes, until a recording has no room
    try:
        while True:
            hog.append(wg.zeros(n, "uint8", device="cuda"))
    except MemoryError:
        pass
try:
    step(x, y)
except MemoryError as error:
    print(error)
del hog
losses += [step(x, y).item() for _ in range(4)]
print(losses == expected, step.program.replay)
""",
        WENGERT_EMULATION_MEMORY=str(8 << 20),
    )
    lines = out.splitlines()
    assert "no memory on cuda:0 for a recorded step" in lines[0]
    assert lines[-1].startswith("True one CUDA graph of")


def test_a_step_on_two_gpus_runs_line_by_line(library: Path) -> None:
    out = run(
        library,
        """
def step(x):
    return ((x * 2).to("cuda:1") + 1).sum()
compiled = wg.compile(step)
x = wg.ones(3, device="cuda:0")
print([compiled(x * float(i)).item() for i in range(4)], compiled.program.replay)
""",
        WENGERT_EMULATION_DEVICES="2",
    )
    assert out == "[3.0, 9.0, 15.0, 21.0] line by line (its tensors are on two GPUs)\n"


def test_a_failed_launch_inside_a_graph(library: Path) -> None:
    out = run(
        library,
        STEP
        + """
step = make(GRAPH)
try:
    for i in range(1000):
        step(x, y)
except wg.DeviceError as error:
    print(error)
try:
    step(x, y)
except wg.DeviceError as error:
    print(error)
print(step.program.replay)
""",
        WENGERT_EMULATION_FAIL="300",
    )
    first, second, third = out.splitlines()
    assert "unspecified launch failure" in first and "are lost to this process" in first
    assert "cuda:0: is lost since" in second
    assert third.startswith("one CUDA graph")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (209, "full: this build has no code for emulated on the CPU (compute capability 0.0); "
              "build with WENGERT_CUDA_ARCHITECTURES for it"),
        (9, "full: was not launched: invalid configuration argument"),
        (1, "full: was not launched: invalid argument"),
        (701, "full: was not launched: too many resources requested for launch"),
        (222, "full: the driver is too old for the code of this build, which it would have to "
              "compile; update it, or build with WENGERT_CUDA_ARCHITECTURES=00"),
    ],
)  # fmt: skip
def test_a_launch_that_did_not_begin_leaves_the_gpu_as_it_was(
    library: Path, error: int, words: str
) -> None:
    code = """
x = wg.ones(3, device="cuda")
try:
    wg.ones(3, device="cuda")
except wg.DeviceError as error:
    print(error)
print((x + x).sum().item(), wg.cuda.memory_allocated())
"""
    settings = {"WENGERT_EMULATION_FAIL": "2", "WENGERT_EMULATION_ERROR": str(error)}
    assert run(library, code, **settings).splitlines() == [words, "6.0 512"]


def test_no_memory_for_a_kernel_or_pinned(library: Path) -> None:
    code = """
x = wg.ones((400, 300), device="cuda")
ids = wg.zeros(60_000, "int64", "cuda")
try:
    wg.embedding(ids, x[:, :1])   # the result would fit, the checked ids do not
except MemoryError as error:
    print(error)
print(x.sum().item())
"""
    out = run(library, code, WENGERT_EMULATION_MEMORY=str(1_300_000)).splitlines()
    assert "no memory on cuda:0 for a kernel's working space of 480000 bytes;" in out[0]
    assert "bytes are in use by tensors" in out[0] and out[1] == "120000.0"


# ---- the emulation itself: it must see what it is there to see -----------------------------------

CHECK = """
#include "gpu/launch.h"
using namespace wengert;
__global__ void turn_round(int* x, bool careful) {
  __shared__ int place[64];
  place[threadIdx.x] = x[threadIdx.x];
  if (careful) __syncthreads();
  x[threadIdx.x] = place[63 - threadIdx.x];
}
__global__ void turn_twice(int* x) {  // a barrier is missing between two that are there
  __shared__ int there[64], back[64];
  there[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  back[threadIdx.x] = there[63 - threadIdx.x];
  x[threadIdx.x] = back[63 - threadIdx.x];
  __syncthreads();
}
__global__ void part(bool together) {
  if (together || threadIdx.x < 7) __syncthreads();
}
int main(int, char** argv) {
  const char what = argv[1][0];
  int x[64];
  for (int i = 0; i < 64; ++i) x[i] = i;
  const auto launch = [](unsigned block, auto f) {
    using F = decltype(f);
    emulation::run({}, block, [](const void* g) { (*static_cast<const F*>(g))(); }, &f);
  };
  if (what == 'r' || what == 's') launch(64, [&] { turn_round(x, what == 's'); });
  if (what == 't') launch(64, [&] { turn_twice(x); });
  if (what == 'b') {  // behind its block's end
    char* block;
    cudaMalloc(reinterpret_cast<void**>(&block), 5);
    launch(32, [&] { if (threadIdx.x == 7) block[5] = 1; });
  }
  Report report{};
  if (what == 'f') launch(64, [&] { wengert::report(&report, Fault::index, threadIdx.x, 0, 64); });
  if (what == 'd') launch(40, [] { part(false); if (threadIdx.x >= 7) __syncwarp(); });
  int* block;
  cudaMalloc(reinterpret_cast<void**>(&block), 4);
  if (what == 'h') return *block;
  return (what == 's' && x[0] != 63) || (what == 'f' && report.got != 0);
}
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    (folder / "check.cpp").write_text(CHECK)
    flags = [f for f in FLAGS if f != "-fvisibility=hidden"]
    command = ["g++", "-fsanitize=thread", *flags, f"-I{CSRC}", folder / "check.cpp",
               TESTS / "emulation.cpp", "-o", folder / "check"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if "tsan" in done.stderr:
        pytest.skip("no ThreadSanitizer here")
    assert not done.returncode, done.stderr
    return folder / "check"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("race", "data race"),
        ("two barriers", "data race"),
        ("different", "wait at different barriers"),
        ("host", "SEGV"),
        ("behind", "wrote behind the end of a block, of 5 bytes"),
        ("sound", ""),
        ("faults at once", ""),
    ],
)
def test_the_emulation_sees(check: Path, what: str, words: str) -> None:
    run = ["setarch", "-R"] if shutil.which("setarch") else []  # old sanitizers need it
    done = subprocess.run([*run, check, what], capture_output=True, text=True, timeout=60)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not start here")
    assert (done.returncode == 0) == (not words), done.stderr
    assert words in done.stderr, done.stderr


# ---- what is missing -----------------------------------------------------------------------------


def test_status_says_what_is_missing(library: Path, tmp_path: Path) -> None:
    said = 'print(wg.cuda.status(), wg.cuda.is_available(), wg.cuda.device_count(), sep="|")'
    assert run(library, said) == (
        "ready: EMULATED on the CPU, to test kernels; emulated on the CPU|True|1\n"
    )
    assert "the CUDA library does not load:" in run(tmp_path / "none.so", said)
    source = tmp_path / "other.cpp"
    source.write_text('extern "C" const void* wengert_cuda_library() { return nullptr; }')
    other = tmp_path / "other.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-o", other, source], check=True)
    assert "belongs to another build of Wengert|False|0" in run(other, said)
    assert "no GPU" in run(library, said, WENGERT_EMULATION_DEVICES="0")
    assert "no NVIDIA driver" in run(library, said, WENGERT_EMULATION_DRIVER="0")
    assert (
        "the NVIDIA driver is too old: it serves CUDA 12.8, and this build needs 13.0; "
        "update the driver|False|0" in run(library, said, WENGERT_EMULATION_DRIVER="12080")
    )


def test_without_cuda_the_error_says_why() -> None:
    if wg.cuda.is_available():
        pytest.skip("there is a GPU")
    assert any(w in wg.cuda_status() for w in ("no CUDA library", "driver", "no GPU"))
    with pytest.raises(wg.DeviceError, match="cuda: "):
        wg.zeros(3, device="cuda")
    assert wg.zeros(3, device="cpu").device == "cpu"
