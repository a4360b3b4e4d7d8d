"""Test accuracy after training at each `set_matmul_precision`, of several seeds.

    python benchmarks/accuracy.py [digits] [fashion] [--seeds N] [--epochs N]

An MLP with 256 hidden units is trained by Adam, on the digits that come with Wengert or on
Fashion-MNIST (Debian's dataset-fashion-mnist). A seed chooses weights, order and, of the digits,
the test part: the same for every setting. Writes the table to results/accuracy.md.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cores import processor

import wengert as wg
from wengert import _core, nn, optim
from wengert.data import Batches, load_digits, load_idx_directory
from wengert.train import fit

PRECISIONS = ("strict", "fp32", "fast", "bf16")
FASHION = Path("/usr/share/datasets/fashion-mnist")
EPOCHS = {"digits": 30, "fashion": 3}
Part = tuple[np.ndarray, np.ndarray]


def digits(seed: int) -> tuple[Part, Part]:
    """1437 to train on and 360 to test with."""
    x, y = load_digits()
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order] / 16, y[order]
    return (x[360:], y[360:]), (x[:360], y[:360])


def fashion(seed: int) -> tuple[Part, Part]:
    """60,000 and 10,000, with pixels from 0 to 1."""
    del seed
    x, y, x_test, y_test = load_idx_directory(FASHION)
    return (x.reshape(len(x), -1) / np.float32(255), y), (
        x_test.reshape(len(x_test), -1) / np.float32(255),
        y_test,
    )


def accuracy(train: Part, test: Part, epochs: int, seed: int, precision: str) -> float:
    """Percent of the test part."""
    wg.manual_seed(seed)
    model = nn.MLP((train[0].shape[1], 256, 10), activation="relu")
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    data = Batches(*train, 128, seed=seed)
    result = fit(
        model, wg.cross_entropy, optimizer, data, epochs=epochs, test=test, precision=precision
    )
    return 100 * result.test["test_accuracy"]


def rows(names: list[str], seeds: int, epochs: int | None) -> Iterator[str]:
    """Of the table: means, and how far each seed is from its "strict"."""
    for name in names:
        found: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for seed in range(seeds):
            train, test = {"digits": digits, "fashion": fashion}[name](seed)
            for precision in PRECISIONS:
                of = accuracy(train, test, epochs or EPOCHS[name], seed, precision)
                found[precision].append(of)
        for precision, each in found.items():
            apart = np.subtract(each, found["strict"])
            yield (
                f"| {name} | {precision} | {np.mean(each):.2f} | {np.mean(apart):+.2f} | "
                f"{', '.join(f'{a:+.2f}' for a in apart)} |"
            )


def main() -> None:
    """The chosen data sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *EPOCHS], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="30 of the digits, 3 of Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/accuracy.md")
    options = parser.parse_args()
    head = (
        "# Accuracy by precision\n\n"
        f"{datetime.date.today()}, {processor()}, tiles: {_core._tile_status()}; "
        f"{options.seeds} seeds; `python benchmarks/accuracy.py`\n\n"
        '| data | precision | test accuracy, % | less that of "strict" | of each seed |\n'
        "| --- | --- | --- | --- | --- |\n"
    )
    print(head, end="")
    made = []
    for row in rows(options.names or list(EPOCHS), options.seeds, options.epochs):
        print(row, flush=True)
        made.append(row)
    options.out.write_text(head + "\n".join(made) + "\n")


if __name__ == "__main__":
    main()
