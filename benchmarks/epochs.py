"""Seconds of an epoch of `wengert train` on Fashion-MNIST, and of the same loop in PyTorch.

    python benchmarks/epochs.py /usr/share/datasets/fashion-mnist [--write]

The network is the command's own: 784-128-10, batches of 32, Adam, two threads. An epoch is the
steps on the training part, data preparation in it, without the validation. PyTorch's loop takes its
batches by indexing a tensor that holds the whole set, which is its fastest way. Each row is the
faster of two epochs. --write puts the table into benchmarks/results/epochs.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from cores import processor

import wengert
from wengert import cli, data

LEARNING_RATE, BATCH, THREADS = 0.005, 32, 2


def ours(folder: str, workers: int) -> float:
    with tempfile.TemporaryDirectory() as out:
        setting = f"--epochs 2 --workers {workers} --threads {THREADS} --quiet".split()
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(["train", "--data", folder, "--out", out, *setting])
        lines = (Path(out) / "metrics.jsonl").read_text().splitlines()
    return min(json.loads(line)["seconds"] for line in lines)


def indexed(x: torch.Tensor, y: torch.Tensor) -> Iterator[Any]:
    order = torch.randperm(len(x))
    for start in range(0, len(x), BATCH):
        rows = order[start : start + BATCH]
        yield x[rows], y[rows]


def theirs(x: torch.Tensor, y: torch.Tensor) -> float:
    torch.manual_seed(0)
    layers = torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    loss_fn = torch.nn.CrossEntropyLoss()
    seconds = []
    for _ in range(2):
        began, total = time.perf_counter(), torch.zeros(())
        for x_batch, y_batch in indexed(x, y):
            optimizer.zero_grad()
            loss = loss_fn(model(x_batch), y_batch)
            loss.backward()
            optimizer.step()
            total += loss.detach()  # the epoch's mean, as the command reports it
        total.item()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    parts = data.load(arguments.data, -1, "auto", 0.2, 0)
    count = len(parts.parts.y_train) * 9 // 10  # the command keeps a tenth to validate with
    x = torch.from_numpy(parts.standardizer(parts.parts.x_train[:count]).astype("float32"))
    y = torch.from_numpy(parts.parts.y_train[:count].astype("int64"))
    rows: dict[str, Callable[[], float]] = {
        f"`wengert train --workers {n}`": lambda n=n: ours(arguments.data, n) for n in (0, 1, 2)
    }
    rows["PyTorch, by indexing"] = lambda: theirs(x, y)
    best = {name: run() for name, run in rows.items()}
    first = best["`wengert train --workers 0`"]
    lines = [
        f"Wengert {wengert.__version__}, PyTorch {torch.__version__}, {processor()}, "
        f"{THREADS} threads, {len(x):,} samples an epoch.",
        "",
        "| loop | seconds an epoch | of `--workers 0` |",
        "|---|---:|---:|",
        *(f"| {name} | {s:.2f} | {s / first:.2f} |" for name, s in best.items()),
    ]
    print("\n".join(lines))
    if arguments.write:
        target = Path(__file__).parent / "results" / "epochs.md"
        how = "By `benchmarks/epochs.py`, which says how it is measured."
        target.write_text("\n".join(["# An epoch of Fashion-MNIST", "", how, "", *lines, ""]))


if __name__ == "__main__":
    main()
