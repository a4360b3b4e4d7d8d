"""Chains of a compiled step as one kernel of a GPU, without a GPU.

The sources that program/gpu/chain.cpp writes are compiled twice: by g++, posing as NVRTC
(nvrtc_by_gcc.cpp), for the emulated GPU, where fused and unfused steps must agree bit for bit; and,
where PyPI's nvidia-cuda-nvrtc is installed, by NVRTC itself for sm_90a.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cuda import CSRC, TESTS, library

__all__ = ["library"]  # a fixture

pytestmark = [
    pytest.mark.skipif(not CSRC.is_dir(), reason="needs the source tree"),
    pytest.mark.skipif(not shutil.which("g++"), reason="no g++"),
]

# Steps of which fused and unfused results must have the same bits; `same` runs both.
STEPS = """
import sys

import wengert as wg
from wengert import nn, optim

CHAINS = ["constants", "dead", "common", "views", "chains"]


def bits(results):
    return [y.cpu().numpy().tobytes() for y in results]


def same(make, *args, lines=None):
    '''make() gives a fresh step; three calls are bit for bit those of the unfused step.'''
    outcomes = []
    for passes in (CHAINS, []):
        f = wg.compile(make(), passes=passes)
        outcomes.append([bits(f(*args)) for _ in range(4)])
        fused = [line for line in f.program.lines if line["op"] == "fused"]
        assert bool(fused) == (passes == CHAINS), f.program
        if lines and fused:
            assert len(fused[0]["body"]) == lines, f.program
    assert outcomes[0] == outcomes[1]


def draw(*shape, seed=0):
    return (wg.rand(shape, generator=wg.Generator(seed)) * 0.8 + 0.1).to("cuda")
"""

LAYOUTS = """
x, bias, column, one = draw(40, 12), draw(12, seed=1), draw(40, 1, seed=2), draw(1, seed=3)
flat = lambda: lambda x: ((x + 1.5).sigmoid() * x,)
for n in (1, 3, 4, 1023, 20_000):
    same(flat, draw(n), lines=3)
same(flat, draw(9)[1:])  # not aligned to 16 bytes
same(lambda: lambda x: (((x + bias) * column - one).tanh(),), x, lines=4)
same(lambda: lambda x: ((x + bias).tanh() * column,), draw(5, 40, 12))
same(lambda: lambda x: ((x[:, 1:8] + bias[:7]).tanh() * column,), x)  # rows of 7, with gaps
same(lambda: lambda x: ((x + bias).tanh() * 2, (x * bias).sum()), x)
many = draw(3, 2, 5, 8)
same(lambda: lambda x: ((x.permute(1, 0, 2, 3) + 1).exp() * 2,), many)
# values between are stored where somebody else needs them
same(lambda: lambda x: ((y := x * bias).exp() + 1, y, y.sum(0)), x)
# a number on the CPU, read at each launch
s = wg.tensor(2.0)
f = wg.compile(lambda x: ((x * s).exp() + 1,))
for k in (1.0, 2.0, 3.0, 4.0):
    s.fill_(k)
    assert bits(f(x)) == bits([(x * s).exp() + 1])
assert f.program.lines[0]["op"] == "fused"
"""

OPS = """
names = {op["name"] for op in wg._core.ops()}
unary = sorted(n for n in names if n + "_vjp" in names)
unary = [n for n in unary if n not in ("attention", "batch_norm", "cross_entropy", "embedding",
                                       "gru", "lstm", "layer_norm", "log_softmax", "rnn_relu",
                                       "rnn_tanh", "softmax")]
assert len(unary) >= 26, unary
extra = {"leaky_relu": (0.1,), "elu": (0.7,), "clamp": (0.2, 0.7)}


def call(name, x):
    if name == "gelu_tanh":
        return wg.gelu(x, "tanh")
    if name == "polygamma":
        return wg.polygamma(1, x)
    if name == "huber":
        return wg._core._huber(x, 0.5)
    return getattr(wg, name)(x, *extra.get(name, ()))


for dtype in ("float32", "float64"):
    x, w = draw(6, 8).to(dtype), draw(6, 8, seed=1).to(dtype)

    def values(x):
        y = w
        for name in unary:
            y = y * call(name, x)
        for f in (wg.maximum, wg.minimum, wg.pow, wg.floor_divide, wg.remainder):
            y = f(y + 2, x)
        y = (y - w) / x
        for f in (wg.eq, wg.ne, wg.lt, wg.le, wg.gt, wg.ge):
            y = wg.where(f(x, w) ^ (x > 0.4), y * 0.9, x)
        return (y, (y > 0.5) & (y < 1.5) | (x < w))

    same(lambda: values, x)
    leaf = x.clone().requires_grad_()

    def gradients(w):
        total = w * 0
        for name in unary:
            total = total + call(name, leaf) * w
        return wg.grad(total, [leaf], w)

    same(lambda: gradients, w)

i, j = draw(7, 12).mul(200).to("int64"), (draw(7, 12, seed=1) * 9 + 1).to("int64")
for dtype in ("uint8", "int32", "int64"):
    a, b = i.to(dtype), j.to(dtype)
    same(lambda: lambda a, b: ((a * b - b) * (a < b), -a, a.float() * 0.5, (a & b) | (a ^ b)), a, b)
    same(lambda: lambda a, b: (((a - b) * b).double().exp().to("int32").bool(),), a, b)
"""

TRAINING = """
x, y = draw(20, 6), draw(20, 1, seed=1)
results = []
for passes in (CHAINS, []):
    wg.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 1), nn.Sigmoid()).to("cuda")
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        loss = wg.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    f = wg.compile(step, passes=passes)
    losses = bits([f(x, y) for _ in range(5)])
    results.append((losses, bits([p.detach() for p in model.parameters()])))
assert results[0] == results[1]
"""

# A fused chain inside a graph: what it takes from the CPU is another number in each step.
RECORDED = """
PASSES = [name for name in wg.compiling.PASSES if name != "persistent"]
n = 5
xs, rates = draw(n, 40, 12), wg.rand(n, generator=wg.Generator(1))
shifts = wg.randint(-3, 3, (n,), wg.Generator(2))
results = []
for passes in (PASSES, ["graph"], []):
    w, scale = draw(40, 12, seed=3), wg.tensor(1.0)

    def step(x, rate, shift):
        y = ((x * scale + shift).tanh() - w) * rate  # from memory of the CPU, and arguments there
        w.add_(y)
        scale.mul_(0.75)
        return y, (y * y).sum()

    f = wg.compile(step, passes=passes)
    found = [bits(f(xs[i], rates[i], shifts[i])) for i in range(n)]
    found += [bits(f.run(n, xs, rates, shifts)) for _ in range(2)]
    results.append([found, bits([w, scale])])
    fused = [line for line in f.program.lines if line["op"] == "fused"]
    assert bool(fused) == ("chains" in passes), f.program
    assert f.program.replay.startswith("one CUDA graph of" if passes else "line by line"), f.program
    assert not passes or len({ys[1] for ys in found[:n]}) == n
assert results[0] == results[1] == results[2]

# A learning rate that is set between two calls.
results = []
for passes in (PASSES, []):
    wg.manual_seed(0)
    model = nn.MLP([12, 8, 3], activation="gelu", dropout=0.2).to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        loss = (model(x) * scale).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    f, found = wg.compile(step, passes=passes), []
    for i in range(6):
        optimizer.lr = 0.1 / (1 + i)
        scale.fill_(1 + i)
        found += bits([f(xs[i % n])])
    results.append((found, bits([p.detach() for p in model.parameters()])))
    assert f.program.replay.startswith("one CUDA graph of" if passes else "line by line"), f.program
assert results[0] == results[1]
"""

SMALL = """
f = wg.compile(lambda x: (x + 1).exp() * 2)
for _ in range(3):
    y = f(draw(8))
g = wg.compile(lambda x: (x * 3).tanh() - 2)
for _ in range(3):
    z = g(draw(8))
print(y.sum().item(), z.sum().item())
print(f.program)
"""


@pytest.fixture(scope="module")
def by_gcc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("nvrtc") / "libnvrtc_by_gcc.so"
    source = TESTS / "nvrtc_by_gcc.cpp"
    command = ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", "-Wall", source, "-o", target]
    subprocess.run(command, check=True)
    return target


class Machine:
    """The emulated GPU with a compiler: what it was given to compile is in `sources`."""

    def __init__(self, folder: Path, library: Path, nvrtc: Path | str) -> None:
        self.sources = folder / "sources"
        self.cache = folder / "cache"
        self.sources.mkdir()
        self.environment = {
            **os.environ,
            "WENGERT_CUDA_LIBRARY": str(library),
            "WENGERT_NVRTC": str(nvrtc),
            "WENGERT_CACHE_DIR": str(self.cache),
            "BY_GCC": str(self.sources),
            "BY_GCC_HEADERS": str(library.parent / "chain_kernel.gch"),
            "BY_GCC_CSRC": str(CSRC),
            "BY_GCC_TESTS": str(TESTS),
        }

    def start(self, code: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", STEPS + code],
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, **more: str) -> str:
        return finished(self.start(code, **more))

    def compiled(self) -> int:
        return len(list(self.sources.iterdir()))


def finished(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-4000:]
    return out


@pytest.fixture
def machine(tmp_path: Path, library: Path, by_gcc: Path) -> Machine:
    return Machine(tmp_path, library, by_gcc)


# ---- the bits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, library: Path, by_gcc: Path) -> Machine:
    return Machine(tmp_path_factory.mktemp("fused"), library, by_gcc)


@pytest.mark.parametrize(
    "steps",
    [LAYOUTS, pytest.param(OPS, marks=pytest.mark.slow), TRAINING, RECORDED],
    ids=["layouts", "ops", "training", "recorded"],
)
def test_fused_kernels_have_the_bits_of_unfused_ones(compiled: Machine, steps: str) -> None:
    before = compiled.compiled()
    compiled.run(steps)
    assert compiled.compiled() > before


NVRTC = importlib.util.find_spec("nvidia") and next(
    (
        path
        for folder in importlib.util.find_spec("nvidia").submodule_search_locations  # type: ignore
        for path in Path(folder).glob("cu13/lib/libnvrtc.so.13")
    ),
    None,
)


@pytest.mark.skipif(not NVRTC, reason="no nvidia-cuda-nvrtc")
def test_nvrtc_compiles_the_same_sources(compiled: Machine) -> None:
    """For sm_90a: no warning, no local memory, 16 bytes at a time where elements lie together."""
    if not compiled.compiled():
        compiled.run(LAYOUTS)
    out = compiled.run(
        """
for path in sys.argv[1:]:
    source = open(path).read()
    code, log = wg._core._cuda_compile(source, "sm_90a")
    assert code[:4] == b"\\x7fELF"
    ptx = ""
    if "each_element<4>" in source and "load<W, float>" in source:
        ptx = wg._core._cuda_compile(source, "compute_90")[0].decode().strip("\\0")
        ptx = ptx.split(".entry")[1]
    print(path, log, ptx, sep="\\0", end="\\1")
try:
    wg._core._cuda_compile("nonsense", "sm_90a")
except wg.DeviceError as error:
    print(error)
""".replace("sys.argv[1:]", repr([str(p) for p in sorted(compiled.sources.iterdir())])),
        WENGERT_NVRTC=str(NVRTC),
    )
    *reports, refused = out.split("\1")
    assert "NVRTC refuses the kernel of a chain" in refused and "nonsense" in refused
    assert len(reports) == compiled.compiled()
    for report in reports:
        path, log, ptx = report.split("\0")
        source = Path(path).read_text()
        for line in filter(None, log.splitlines()):
            assert re.match(r"ptxas info|ptxas  +\.", line) or "bytes stack frame" in line, line
        stack, spilled = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill", log).groups()
        # CUDA's sin, cos and tan reduce huge arguments with a small table on the stack.
        trigonometry = re.search(r'"(sin|cos|tan)"', source)
        # Of four elements these take more than a chain's 64 registers, some in float64 only.
        inverse = "double" in source and re.search(r'"(a(sin|cos|tan)\w*|erf)"', source)
        inverse = inverse or re.search(r'"(lgamma|polygamma)"', source)
        assert int(spilled) <= (160 if inverse else 0), (source, log)
        assert int(stack) <= (80 if inverse else 40 if trigonometry else 0), (source, log)
        assert not ptx or re.search(r"ld\.global(\.nc)?\.v4", ptx), source


# ---- the cache -----------------------------------------------------------------------------------


def test_the_cache_serves_the_next_process(machine: Machine) -> None:
    first = machine.run(SMALL)
    assert machine.compiled() == 2
    files = sorted(machine.cache.iterdir())
    assert len(files) == 2 and all(f.suffix == ".chain" for f in files)
    assert machine.run(SMALL) == first
    assert machine.compiled() == 2
    # One that is damaged is made anew; the other serves.
    whole = files[0].read_bytes()
    for damaged in (whole[:-1], whole[:100] + b"?" + whole[101:], b""):
        files[0].write_bytes(damaged)
        made = machine.compiled()
        assert machine.run(SMALL) == first
        assert machine.compiled() == made + 1
        assert files[0].read_bytes()[-32:] != b"" and len(list(machine.cache.iterdir())) == 2
    assert machine.run(SMALL) == first
    assert machine.compiled() == 5


def test_a_cache_that_cannot_be_written_is_no_error(machine: Machine) -> None:
    expected = machine.run(SMALL)
    (machine.cache.parent / "file").touch()
    for folder in ("/dev/null/cache", str(machine.cache.parent / "file")):
        made = machine.compiled()
        assert machine.run(SMALL, WENGERT_CACHE_DIR=folder) == expected
        assert machine.compiled() == made + 2


def test_the_cache_lies_in_the_home(machine: Machine) -> None:
    home = machine.cache.parent / "home"
    machine.run(SMALL, WENGERT_CACHE_DIR="", HOME=str(home))
    assert len(list((home / ".cache/wengert").iterdir())) == 2
    machine.run(SMALL, WENGERT_CACHE_DIR="", HOME="")  # none at all


def test_two_processes_share_a_cache(machine: Machine) -> None:
    processes = [machine.start(SMALL) for _ in range(2)]
    outputs = {finished(p) for p in processes}
    assert len(outputs) == 1
    assert len(list(machine.cache.iterdir())) == 2
    made = machine.compiled()
    machine.run(SMALL)
    assert machine.compiled() == made


# ---- what is missing -----------------------------------------------------------------------------


def test_without_nvrtc_the_unfused_kernels_run(machine: Machine) -> None:
    said = "print(wg.cuda.fusion_status())"
    fused = machine.run(SMALL + said)
    assert "chains of elementwise lines: fused by NVRTC 13.0" in fused and "= fused:" in fused
    for nvrtc, why in (
        ("", 'not fused: no NVRTC: pip install "wengert[cuda]"'),
        ("/nowhere/libnvrtc.so", 'not fused: no NVRTC: pip install "wengert[cuda]"'),
        ("libc.so.6", "not fused: the library found as NVRTC is none"),
    ):
        plain = machine.run(SMALL + said, WENGERT_NVRTC=nvrtc)
        assert plain.splitlines()[0] == fused.splitlines()[0]
        assert f"chains of elementwise lines: {why}" in plain and "= fused:" not in plain
        assert plain.splitlines()[-1] == why
    code = "from wengert.cli import main; main(['info'])"
    assert "fused by NVRTC 13.0 (compiled steps on a GPU)" in machine.run(code)
    assert 'not fused: no NVRTC: pip install "wengert[cuda]"' in machine.run(code, WENGERT_NVRTC="")
