"""A training loop to read: forward, loss, backward, update; with checkpoints, curves and care.

    result = fit(model, wengert.cross_entropy, optimizer, Batches(x, y, 32), epochs=10,
                 test=(x_test, y_test), run_dir="runs/mine")

Run directory: config.json, metrics.jsonl (a line an epoch, then a summary), last.safetensors (after
each epoch), best.safetensors (lowest loss on the test part), curves.png, confusion.json.
Resuming is exact: the order of the samples depends on (seed, epoch), the random numbers of a step
(dropout) on (seed, step), and everything else is in the checkpoint, also in mid-epoch.
A loss that is NaN or infinite ends the run with the epoch, the step and the op that made it.
"""

from __future__ import annotations

import json
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import wengert
from wengert import report
from wengert.data import Batches, to_tensors
from wengert.io import load_checkpoint, save_checkpoint
from wengert.nn.module import kept_modes
from wengert.optim import ReduceLROnPlateau

if TYPE_CHECKING:
    from wengert import nn
    from wengert._core import Tensor
    from wengert.optim import LRScheduler, Optimizer

Array = npt.NDArray[Any]
Loss = Callable[["Tensor", "Tensor"], "Tensor"]
Metrics = dict[str, Any]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, why, and what to try."""


@dataclass
class Result:
    """What `fit` hands back."""

    history: list[Metrics]  # an entry for every finished epoch, those before a resume included
    interrupted: bool  # Ctrl-C ended the run
    checkpoint: Path | None  # the last one written
    outputs: Array | None  # of the network for the test samples, after the last epoch


@dataclass
class _Position:
    """Where a run stands; all of it goes into the checkpoint. Sums are over the epoch under way."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the epoch under way
    step: int = 0  # updates since the beginning
    loss_sum: float = 0.0
    correct: int = 0
    samples: int = 0
    seconds: float = 0.0
    best_loss: float | None = None


def fit(
    model: nn.Module,
    loss_fn: Loss,
    optimizer: Optimizer,
    data: Batches,
    *,
    epochs: int,
    test: tuple[Array, Array] | None = None,
    schedule: LRScheduler | None = None,
    classify: bool | None = None,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    config: dict[str, Any] | None = None,
    quiet: bool = True,
) -> Result:
    """Train `model` on `data` for `epochs` epochs (in all, counting those before a resume).

    loss_fn(prediction, y): a mean over the batch.
    test: arrays (x, y), evaluated after every epoch; data.transform and data.dtype apply to them.
    schedule: stepped after every epoch (ReduceLROnPlateau: with the test loss).
    classify: count right answers. None: where y is a vector of whole numbers; True: one-hot too.
    resume: a checkpoint that `fit` wrote. config: noted in config.json and in every checkpoint.
    quiet=False: show a bar, or a line an epoch.
    Ctrl-C ends the step under way, saves and returns with `interrupted` set; a second one raises.
    The global generator is seeded again at every step, from data.seed and the step.
    """
    return _Run(
        model, loss_fn, optimizer, data, epochs, test, schedule, classify, run_dir, config
    ).go(resume, quiet)


class _Run:
    """One call of `fit`: the arguments, the position, and the few things done with both."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Loss,
        optimizer: Optimizer,
        data: Batches,
        epochs: int,
        test: tuple[Array, Array] | None,
        schedule: LRScheduler | None,
        classify: bool | None,
        run_dir: str | Path | None,
        config: dict[str, Any] | None,
    ) -> None:
        if epochs < 1:
            raise ValueError(f"fit: epochs is {epochs}; it must be at least 1")
        if len(data) == 0:
            raise ValueError(
                f"fit: {len(data.x)} samples make no batch of {data.batch_size}; make it smaller"
            )
        self.model, self.loss_fn, self.optimizer, self.data = model, loss_fn, optimizer, data
        self.epochs, self.test, self.schedule = epochs, test, schedule
        if classify is None:
            classify = data.y.ndim == 1 and data.y.dtype.kind in "iub"
        self.classify = classify
        self.dir = Path(run_dir) if run_dir is not None else None
        self.config = config or {}
        self.at = _Position()
        self.history: list[Metrics] = []
        self.outputs: Array | None = None

    @property
    def last(self) -> Path | None:
        return self.dir / "last.safetensors" if self.dir else None

    def go(self, resume: str | Path | None, quiet: bool) -> Result:
        if resume is not None:
            self._restore(resume)
            if self.at.epoch >= self.epochs:
                raise ValueError(
                    f"fit: {resume} has {self.at.epoch} epochs behind it already; "
                    f"to go on, ask for more than {self.epochs}"
                )
            self.history = read_history(Path(resume).parent / "metrics.jsonl", self.at.epoch)
        self._begin_directory()
        self._save("last")  # from now on there is always a checkpoint to come back to
        progress = report.progress(self.epochs, self.epochs * len(self.data), quiet)
        with _finish_step_on_interrupt() as stop:
            try:
                while self.at.epoch < self.epochs and not stop.requested:
                    self._train_epoch(progress, stop)
                    if self.at.batch == len(self.data):
                        self._end_epoch(progress)
                if stop.requested:
                    self._save("last")
            finally:
                progress.close()
        interrupted = self.at.epoch < self.epochs
        if not interrupted:
            self._write_summary()
        return Result(self.history, interrupted, self.last, self.outputs)

    def _train_epoch(self, progress: report.Progress, stop: _Stop) -> None:
        """The loop itself: from where the epoch stands to its end, or to the first Ctrl-C."""
        at = self.at
        self.data.load_state_dict({"epoch": at.epoch, "batch": at.batch})
        self.model.train()
        began, spent_before = time.perf_counter(), at.seconds
        for x, y in self.data:
            loss, prediction = self._forward(x, y)
            value = loss.item()
            if not math.isfinite(value):
                raise self._failure(f"the loss became {value}", x, y)
            self._backward(loss)
            at.batch, at.step = at.batch + 1, at.step + 1
            at.loss_sum += value * len(x)
            at.samples += len(x)
            if self.classify:
                at.correct += right_answers(prediction.detach().numpy(), y.numpy())
            at.seconds = spent_before + time.perf_counter() - began
            progress.step(at.epoch + 1, at.step, self._train_metrics())
            if stop.requested:
                return

    def _forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        wengert.manual_seed(step_seed(self.data.seed, self.at.step))
        prediction = self.model(x)
        return self.loss_fn(prediction, y), prediction

    def _backward(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _step(self, x: Tensor, y: Tensor) -> None:
        self._backward(self._forward(x, y)[0])

    def _train_metrics(self) -> Metrics:
        at = self.at
        return {
            "train_loss": at.loss_sum / at.samples,
            "train_accuracy": at.correct / at.samples if self.classify else None,
            "samples_per_second": at.samples / max(at.seconds, 1e-9),
        }

    def _end_epoch(self, progress: report.Progress) -> None:
        """Test, note, save; only then does the epoch count as finished."""
        at = self.at
        if bad := self._bad_parameter():
            raise self._failure(f"{bad} became NaN or infinite")
        metrics: Metrics = {"epoch": at.epoch + 1, "step": at.step, **self._train_metrics()}
        metrics["lr"] = self.optimizer.lr
        metrics["seconds"] = at.seconds
        if self.test is not None:
            self.outputs = predict(
                self.model,
                self.test[0],
                self.data.dtype,
                self.data.transform,
                max(self.data.batch_size, 256),
            )
            tested = self._test_metrics(self.outputs, self.test[1])
            metrics.update(tested)
            if not math.isfinite(metrics["test_loss"]):
                raise self._failure(f"the loss on the test samples became {metrics['test_loss']}")
        self.history.append(metrics)
        judged = _judged(metrics)
        better = at.best_loss is None or judged < at.best_loss
        best_loss = judged if better else at.best_loss
        self.at = _Position(epoch=at.epoch + 1, step=at.step, best_loss=best_loss)
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(judged)
        elif self.schedule is not None:
            self.schedule.step()
        self._append_metrics(metrics)
        self._save("last")
        if better:
            self._save("best")
        progress.epoch(metrics)

    def _test_metrics(self, outputs: Array, y: Array) -> Metrics:
        with wengert.no_grad():
            loss = self.loss_fn(*to_tensors(outputs, y, self.data.dtype)).item()
        accuracy = right_answers(outputs, y) / len(y) if self.classify else None
        return {"test_loss": loss, "test_accuracy": accuracy}

    # When a number is not a number.

    def _bad_parameter(self) -> str | None:
        for name, parameter in self.model.named_parameters():
            if not np.isfinite(parameter.detach().numpy()).all():
                return name
        return None

    def _failure(
        self, what: str, x: Tensor | None = None, y: Tensor | None = None
    ) -> TrainingError:
        """The error to raise: what happened, where, the first op that did it, and the way out."""
        at = self.at
        where = f"epoch {at.epoch + 1}, " + (
            f"step {at.step + 1}" if x is not None else f"after step {at.step}"
        )
        cause = self._first_bad_op(x, y)
        kept = f"; the last good checkpoint is {self.last}" if self.last else ""
        return TrainingError(
            f"training stopped in {where}: {what}. {cause[:1].upper()}{cause[1:]}. "
            f"Try a smaller learning rate (it was {self.optimizer.lr:g}){kept}"
        )

    def _first_bad_op(self, x: Tensor | None, y: Tensor | None) -> str:
        """Run it again under wengert.trace, whose list says where the first bad number is made.

        If the weights are still good, this batch's forward pass is enough. If not, an earlier
        backward pass or update spoiled them: go back to the last checkpoint and repeat from there,
        which meets the same numbers again.
        """
        from wengert.study.tracing import record

        if x is not None and y is not None and self._bad_parameter() is None:
            if not (np.isfinite(x.numpy()).all() and np.isfinite(y.numpy()).all()):
                return "The batch itself holds NaN or infinity: clean the data"
            try:
                bad = record(partial(self._forward, x, y)).first_bad()
            except (ValueError, ArithmeticError, RuntimeError) as error:
                return _told(error)
            if bad is not None:
                return _told(bad)
        if self.last is None:
            return "Give run_dir, and the op that made it will be named"
        failed_at = self.at.step
        self._restore(self.last)
        self.data.load_state_dict({"epoch": self.at.epoch, "batch": self.at.batch})
        self.model.train()
        try:
            for x, y in self.data:
                if self.at.step > failed_at:
                    break
                program = record(partial(self._step, x, y))
                # A bad number that matters has reached the weights by now.
                if self._bad_parameter() is not None and (bad := program.first_bad()) is not None:
                    return f"In step {self.at.step + 1}, {_told(bad)}"
                self.at.step += 1
        except (ValueError, ArithmeticError, RuntimeError) as error:
            return f"In step {self.at.step + 1}, {_told(error)}"
        return "Repeating the steps from the last checkpoint did not show which op made it"

    # What is kept on disk.

    def _begin_directory(self) -> None:
        if self.dir is None:
            return
        self.dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**self.config, "epochs": self.epochs}, indent=2) + "\n"
        (self.dir / "config.json").write_text(text, encoding="utf-8")
        # A resumed run may come from an older checkpoint: its lines begin where that one stood.
        lines = [json.dumps(metrics) + "\n" for metrics in self.history]
        (self.dir / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")

    def _append_metrics(self, metrics: Metrics) -> None:
        if self.dir is not None:
            with (self.dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")

    def _save(self, name: str) -> None:
        if self.dir is None:
            return
        if bad := self._bad_parameter():
            raise self._failure(f"{bad} became NaN or infinite")
        save_checkpoint(
            self.dir / f"{name}.safetensors",
            model=self.model,
            optimizer=self.optimizer,
            step=self.at.step,
            extra={"fit": asdict(self.at), "config": self.config},
            scheduler=self.schedule,
        )

    def _restore(self, path: str | Path) -> None:
        checkpoint = load_checkpoint(path, self.model, self.optimizer, self.schedule)
        saved = checkpoint.extra.get("fit") if isinstance(checkpoint.extra, dict) else None
        if saved is None:
            raise ValueError(
                f"fit: {path} was not written by fit, so it does not say where to go on"
            )
        self.at = _Position(**saved)

    def _write_summary(self) -> None:
        if self.dir is None:
            return
        history = self.history
        best = min(history, key=_judged)
        self._append_metrics(
            {
                "summary": True,
                "epochs": self.at.epoch,
                "seconds": sum(m["seconds"] for m in history),
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "last": {k: v for k, v in history[-1].items() if k.startswith(("train", "test"))},
                "best_epoch": best["epoch"],
            }
        )


def _told(error: object) -> str:
    """The message, less a place in the code that is only where the command was started."""
    return re.sub(r" at (<frozen \w+>|\S*/bin/wengert):\d+", "", str(error)).rstrip(".")


def _judged(metrics: Metrics) -> float:
    """By what the best epoch is chosen: the test loss, or the training loss if there is no test."""
    loss: float = metrics["test_loss" if "test_loss" in metrics else "train_loss"]
    return loss


def predict(
    model: nn.Module,
    x: Array,
    dtype: str = "float32",
    transform: Callable[[Array], Array] | None = None,
    batch_size: int = 1024,
) -> Array:
    """The network's outputs for the rows of x, in evaluation mode, batch by batch. Afterwards each
    part of the network is in the mode in which it was."""
    parts = []
    with wengert.no_grad(), kept_modes(model):
        model.eval()
        for start in range(0, len(x) or 1, batch_size):
            rows = x[start : start + batch_size]
            parts.append(model(to_tensors(rows, rows[:, :0], dtype, transform)[0]).numpy())
    return np.concatenate(parts)


def right_answers(outputs: Array, y: Array) -> int:
    """Rows whose largest output is at the label, or at the one of a one-hot row."""
    labels = y if y.ndim == 1 else y.argmax(axis=1)
    return int((outputs.argmax(axis=1) == labels).sum())


def step_seed(seed: int, step: int) -> int:
    """A seed for one step. The factor (2^64 / golden ratio) keeps near seeds far apart."""
    return (seed * 0x9E3779B97F4A7C15 + step) % 2**63


@dataclass
class _Stop:
    requested: bool = False


@contextmanager
def _finish_step_on_interrupt() -> Iterator[_Stop]:
    """The first Ctrl-C becomes a wish, so that no update is cut in half; the second one raises."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread alone
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def read_history(path: Path, epochs: int) -> list[Metrics]:
    """The first `epochs` epochs of a metrics.jsonl; none where there is no such file."""
    if not path.is_file():
        return []
    history = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # cut short by a crash; the checkpoint is what counts
            break
        if not line.get("summary") and line["epoch"] <= epochs:
            history.append(line)
    return history
