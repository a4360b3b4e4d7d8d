"""What a training run shows and leaves behind: progress, learning curves, a confusion matrix.

Progress is a bar where there is a terminal and rich is installed, else one plain line an epoch.
rich and matplotlib are optional (pip install "wengert[train]") and imported only when used.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wengert.io import writing

PIP_LINE = 'pip install "wengert[train]"'
Metrics = dict[str, Any]


def plain(text: str, keep: str = "") -> str:
    """The text without what a terminal would obey: control characters other than those in `keep`,
    marks that reorder text and undecodable bytes become escapes such as \\x1b."""

    def shown(c: str) -> str:
        if c in keep or c.isprintable() or unicodedata.category(c) == "Zs":
            return c
        return c.encode("unicode_escape").decode()

    return text if text.isprintable() else "".join(map(shown, text))


def say(text: str) -> None:
    """Print a line of progress. A run goes on where nothing can be written: a reader that left, a
    full disk."""
    with suppress(OSError):
        print(text, flush=True)


class Progress(Protocol):
    """What the training loop tells while it runs."""

    def step(self, epoch: int, done: int, metrics: Metrics) -> None:
        """A batch is done; `done` of the run's batches are."""

    def epoch(self, metrics: Metrics) -> None:
        """An epoch is done and judged."""

    def close(self) -> None:
        """The run has ended, for whatever reason."""


class Silent:
    """No progress at all."""

    def step(self, epoch: int, done: int, metrics: Metrics) -> None:
        """Say nothing."""

    def epoch(self, metrics: Metrics) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Say nothing."""


class Lines(Silent):
    """One line an epoch, for logs, pipes and notebooks."""

    def __init__(self, epochs: int) -> None:
        """`epochs` of the run, for the time left."""
        self.epochs = epochs
        self.began = time.perf_counter()
        self.first: int | None = None

    def epoch(self, metrics: Metrics) -> None:
        """Print the line."""
        epoch = metrics["epoch"]
        self.first = epoch if self.first is None else self.first
        spent = time.perf_counter() - self.began
        left = spent / (epoch - self.first + 1) * (self.epochs - epoch)
        width = len(str(self.epochs))
        say(
            f"epoch {epoch:{width}}/{self.epochs}  {summary(metrics)}  "
            f"{metrics['samples_per_second']:,.0f} samples/s  {clock(left)} left"
        )


class Bar:
    """One bar for the whole run, with the latest figures beside it, in a line of 80 or more."""

    REFRESH = 0.1  # seconds; rich's bookkeeping costs more than a step of a small network
    WIDE = 136  # columns that the unabridged line needs

    def __init__(self, epochs: int, steps: int) -> None:
        """`epochs` and batches of the whole run."""
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.epochs = epochs
        self.wide = shutil.get_terminal_size().columns >= self.WIDE
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if self.wide else 6),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            *([TextColumn("left")] if self.wide else []),
        )
        self.task = self.bar.add_task(f"epoch 1/{epochs}", total=steps, figures="")
        self.tested: Metrics = {}
        self.next = 0.0
        self.bar.start()

    def step(self, epoch: int, done: int, metrics: Metrics) -> None:
        """Move the bar, at most ten times a second."""
        now = time.monotonic()
        if now >= self.next:
            self.next = now + self.REFRESH
            self._show(epoch, done, {**metrics, **self.tested})

    def epoch(self, metrics: Metrics) -> None:
        """Move the bar, and show the validation part's figures from now on."""
        self.tested = {k: v for k, v in metrics.items() if k.startswith("validation_")}
        self._show(metrics["epoch"], metrics["step"], metrics)

    def _show(self, epoch: int, done: int, metrics: Metrics) -> None:
        rate = metrics["samples_per_second"]
        if self.wide:
            figures = f"{summary(metrics)}  {rate:,.0f} samples/s"
        else:
            short = f"{rate / 1000:.0f}k" if rate >= 1e4 else f"{rate:.0f}"
            figures = f"{brief(metrics)}  {short} samples/s"
        description = f"epoch {epoch}/{self.epochs}"
        self.bar.update(self.task, completed=done, description=description, figures=figures)

    def close(self) -> None:
        """Leave the bar as it is and give the terminal back."""
        self.bar.stop()


def progress(epochs: int, steps: int, quiet: bool = False, ranks: int = 1) -> Progress:
    """The bar, the lines or nothing, whichever suits where the output goes. mpiexec, which starts
    ranks, passes on whole lines only."""
    if quiet:
        return Silent()
    if (
        ranks == 1
        and sys.stdout is not None
        and sys.stdout.isatty()
        and importlib.util.find_spec("rich") is not None
    ):
        return Bar(epochs, steps)
    return Lines(epochs)


def summary(metrics: Metrics) -> str:
    """loss 0.1234  accuracy 97.22 %  validation loss ..., of whatever is there."""
    parts = []
    for key, label in (
        ("train_loss", "loss"),
        ("train_accuracy", "accuracy"),
        ("validation_loss", "validation loss"),
        ("validation_accuracy", "validation accuracy"),
    ):
        value = metrics.get(key)
        if value is not None:
            parts.append(f"{label} {percent(value) if 'accuracy' in key else number(value)}")
    return "  ".join(parts)


def brief(metrics: Metrics) -> str:
    """loss 0.1234  acc 97.2 %  val 96.8 %: the same for a narrow terminal."""
    parts = [f"loss {number(metrics['train_loss'])}"]
    if metrics.get("train_accuracy") is not None:
        parts.append(f"acc {percent(metrics['train_accuracy'], 1)}")
    if metrics.get("validation_accuracy") is not None:
        parts.append(f"val {percent(metrics['validation_accuracy'], 1)}")
    elif metrics.get("validation_loss") is not None:
        parts.append(f"val {number(metrics['validation_loss'])}")
    return "  ".join(parts)


def number(value: float) -> str:
    """A loss in a steady width."""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.2e}"


def percent(share: float, digits: int = 2) -> str:
    """0.9722 as 97.22 %."""
    return f"{100 * share:.{digits}f} %"


def clock(seconds: float) -> str:
    """A duration as a person says it."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
        if minutes >= 60
        else f"{minutes}:{rest:02d}"
    )


def curves(history: list[Metrics], path: Path) -> bool:
    """Draw loss and accuracy by epoch into a PNG; False where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure  # not pyplot: no window, no global state
    from matplotlib.ticker import MaxNLocator

    accuracy = any(m.get("train_accuracy") is not None for m in history)
    figure = Figure(figsize=(9 if accuracy else 5, 3.6), layout="constrained")
    panels = [("loss", "loss")] + ([("accuracy", "accuracy")] if accuracy else [])
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (key, label) in zip(axes, panels, strict=True):
        for part, style in (("train", "-"), ("validation", "--")):
            points = [
                (m["epoch"], m[f"{part}_{key}"])
                for m in history
                if m.get(f"{part}_{key}") is not None
            ]
            if points:
                axis.plot(
                    *zip(*points, strict=True),
                    style,
                    label=part,
                    marker="." if len(points) < 3 else "",
                )
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend()
    if all(m["train_loss"] > 0 for m in history):
        axes[0].set_yscale("log")
    with writing(path) as file:
        figure.savefig(file, format=path.suffix[1:] or "png", dpi=120)
    return True


def confusion(
    labels: npt.NDArray[Any], predicted: npt.NDArray[Any], classes: int
) -> npt.NDArray[np.int64]:
    """counts[i, j]: samples of class i that the network called j."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def confusion_text(counts: npt.NDArray[np.int64], names: list[str]) -> str:
    """The matrix as text: a row per true class, a column per answer, and the share found."""
    names = [plain(name) for name in names]
    if len(names) > 20:
        wrong = [
            (int(counts[i, j]), i, j) for i, j in zip(*np.nonzero(counts), strict=True) if i != j
        ]
        lines = [
            f"{n:6}  {names[i]} taken for {names[j]}"
            for n, i, j in sorted(wrong, reverse=True)[:10]
        ]
        return "\n".join(["most frequent confusions", *(lines or ["  none"])])
    short = [name[:10] for name in names]
    width = max(len(str(counts.max())), *(len(name) for name in short)) + 1
    side = max(len(name) for name in [*short, "true"])
    lines = ["true".rjust(side) + " |" + "".join(name.rjust(width) for name in short) + "   found"]
    lines.append("-" * (side + 1) + "+" + "-" * (width * len(short) + 9))
    for name, row in zip(short, counts, strict=True):
        i = len(lines) - 2
        cells = "".join((str(n) if n else ".").rjust(width) for n in row)
        share = f"{100 * row[i] / row.sum():6.1f} %" if row.sum() else "     - "
        lines.append(f"{name.rjust(side)} |{cells} {share}")
    return "\n".join(lines)
