"""A training loop to read: forward, loss, backward, update; with checkpoints, curves and care.

    result = fit(model, wengert.cross_entropy, optimizer, Batches(x, y, 32), epochs=10,
                 validation=(x_val, y_val), test=(x_test, y_test), run_dir="runs/mine")

The validation part chooses: the best epoch, when to stop, ReduceLROnPlateau's steps. The test part
is looked at once, at the end, with the weights that were chosen; nothing depends on it.
Run directory: config.json, metrics.jsonl (a line an epoch, then a summary), last.safetensors (after
each epoch), best.safetensors (lowest validation loss; without a validation part, lowest training
loss), and from the command line curves.png and confusion.json. One run at a time holds it.
Resuming is exact: the order of the samples depends on (seed, epoch), the random numbers of a step
(dropout) on (seed, step), and everything else is in the checkpoint, also in mid-epoch.
A loss that is NaN or infinite ends the run with the epoch, the step and the op that made it.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import wengert
from wengert import _explained
from wengert.data import Batches, to_tensors
from wengert.io import load_checkpoint, save_checkpoint, writing
from wengert.nn.module import kept_modes
from wengert.optim import ReduceLROnPlateau

from . import report
from .directory import claimed, replace_text

if TYPE_CHECKING:
    from wengert import nn
    from wengert._core import Tensor
    from wengert.io import Checkpoint
    from wengert.optim import LRScheduler, Optimizer

__all__ = [
    "Result",
    "TrainingError",
    "fit",
    "predict",
    "read_history",
    "right_answers",
    "step_seed",
]

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
    best_epoch: int | None  # of the lowest validation loss; without validation, training loss
    outputs: Array | None  # for the test samples, with the weights that the model ends with
    test: Metrics | None  # test_loss and test_accuracy of these outputs


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
    best_epoch: int | None = None


def fit(
    model: nn.Module,
    loss_fn: Loss,
    optimizer: Optimizer,
    data: Batches,
    *,
    epochs: int,
    validation: tuple[Array, Array] | None = None,
    test: tuple[Array, Array] | None = None,
    patience: int | None = None,
    schedule: LRScheduler | None = None,
    classify: bool | None = None,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = True,
    config: dict[str, Any] | None = None,
    quiet: bool = True,
) -> Result:
    """Train `model` on `data` for `epochs` epochs (in all, counting those before a resume).

    loss_fn(prediction, y): a mean over the batch.
    validation: arrays (x, y), evaluated after every epoch. The model ends with the weights of the
        epoch whose loss on them was lowest; without them, with those of the last epoch.
    test: arrays (x, y), evaluated once, after the last epoch.
    data.transform and data.dtype apply to both.
    patience: stop after so many epochs without a lower validation loss.
    schedule: stepped after every epoch (ReduceLROnPlateau: with the validation loss; without a
        validation part, the training loss).
    classify: count right answers. None: where y is a vector of whole numbers; True: one-hot too.
    run_dir: FileExistsError where another run holds it, or with overwrite=False where it has a run
        and this one is not resumed from it.
    resume: a checkpoint that `fit` wrote. config: noted in config.json and in every checkpoint.
    quiet=False: show a bar, or a line an epoch.
    A model that is in training mode keeps the modes of its parts; another is put into it.
    Ctrl-C ends the step under way, saves and returns with `interrupted` set; a second one raises.
    The global generator is seeded again at every step, from data.seed and the step.
    """
    run = _Run(
        model, loss_fn, optimizer, data, epochs, validation, test, patience, schedule, classify,
        run_dir, config,
    )  # fmt: skip
    with claimed(run.dir) if run.dir is not None else nullcontext():
        return run.go(Path(resume) if resume is not None else None, overwrite, quiet)


class _Run:
    """One call of `fit`: the arguments, the position, and the few things done with both."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Loss,
        optimizer: Optimizer,
        data: Batches,
        epochs: int,
        validation: tuple[Array, Array] | None,
        test: tuple[Array, Array] | None,
        patience: int | None,
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
        if patience is not None and (patience < 1 or validation is None):
            raise ValueError(
                f"fit: patience is {patience}; it must be at least 1, and needs a validation part"
            )
        for name, part in (("validation", validation), ("test", test)):
            if part is not None and not len(part[0]) == len(part[1]) > 0:
                raise ValueError(
                    f"fit: {name} has {len(part[0])} inputs and {len(part[1])} targets; expected "
                    "as many of both, and at least 1"
                )
        self.model, self.loss_fn, self.optimizer, self.data = model, loss_fn, optimizer, data
        self.epochs, self.validation, self.test, self.patience = epochs, validation, test, patience
        self.schedule = schedule
        if classify is None:
            classify = data.y.ndim == 1 and data.y.dtype.kind in "iub"
        self.classify = classify
        self.dir = Path(run_dir) if run_dir is not None else None
        self.config = config or {}
        self.at = _Position()
        self.history: list[Metrics] = []
        self.best: dict[str, Tensor] | None = None  # weights, where there is no directory

    @property
    def last(self) -> Path | None:
        return self.dir / "last.safetensors" if self.dir else None

    def go(self, resume: Path | None, overwrite: bool, quiet: bool) -> Result:
        if resume is not None:
            self._restore(resume)
            self._restore_best(resume.with_name("best.safetensors"))
            if self.at.epoch >= self.epochs:
                raise ValueError(
                    f"fit: {resume} has {self.at.epoch} epochs behind it already; "
                    f"to go on, ask for more than {self.epochs}"
                )
            if self._patience_is_over():
                raise ValueError(
                    f"fit: {resume} has {self.at.epoch - (self.at.best_epoch or 0)} epochs without "
                    "a lower validation loss behind it; to go on, ask for a greater patience"
                )
            self.history = read_history(resume.with_name("metrics.jsonl"), self.at.epoch)
        self._begin_directory(resume, overwrite)
        self._save("last")  # from now on there is always a checkpoint to come back to
        progress = report.progress(self.epochs, self.epochs * len(self.data), quiet)
        with _finish_step_on_interrupt() as stop:
            try:
                while not (stop.requested or self._is_done()):
                    self._train_epoch(progress, stop)
                    if self.at.batch == len(self.data):
                        self._end_epoch(progress)
                if stop.requested:
                    self._save("last")
            finally:
                progress.close()
        result = Result(
            self.history, not self._is_done(), self.last, self.at.best_epoch, None, None
        )
        if not result.interrupted:
            self._take_best()
            if self.test is not None:
                result.outputs, tested = self._evaluate(self.test)
                if not math.isfinite(tested["loss"]):
                    raise TrainingError(
                        f"the loss on the test samples is {tested['loss']}: clean the data. The "
                        "run itself is complete"
                    )
                result.test = {f"test_{name}": value for name, value in tested.items()}
            self._write_summary(result.test)
        return result

    def _is_done(self) -> bool:
        return self.at.epoch >= self.epochs or self._patience_is_over()

    def _patience_is_over(self) -> bool:
        at = self.at
        return None not in (self.patience, at.best_epoch) and (
            at.epoch - at.best_epoch >= self.patience  # type: ignore[operator]
        )

    def _train_epoch(self, progress: report.Progress, stop: _Stop) -> None:
        """The loop itself: from where the epoch stands to its end, or to the first Ctrl-C."""
        at = self.at
        self.data.load_state_dict({"epoch": at.epoch, "batch": at.batch})
        self._train_mode()
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

    def _train_mode(self) -> None:
        if not self.model.training:  # else a part in evaluation mode (frozen) stays in it
            self.model.train()

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
        """Judge, note, save; only then does the epoch count as finished."""
        at = self.at
        if bad := self._bad_parameter():
            raise self._failure(f"{bad} became NaN or infinite")
        metrics: Metrics = {"epoch": at.epoch + 1, "step": at.step, **self._train_metrics()}
        metrics["lr"] = self.optimizer.lr
        metrics["seconds"] = at.seconds
        if self.validation is not None:
            _, judged = self._evaluate(self.validation)
            metrics |= {f"validation_{name}": value for name, value in judged.items()}
            if not math.isfinite(judged["loss"]):
                raise self._failure(f"the loss on the validation samples became {judged['loss']}")
        self.history.append(metrics)
        loss = metrics["train_loss" if self.validation is None else "validation_loss"]
        better = at.best_loss is None or loss < at.best_loss
        best = (loss, at.epoch + 1) if better else (at.best_loss, at.best_epoch)
        self.at = _Position(at.epoch + 1, step=at.step, best_loss=best[0], best_epoch=best[1])
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(loss)
        elif self.schedule is not None:
            self.schedule.step()
        self._append_metrics(metrics)
        if better:  # first: a run that is killed in between repeats the epoch from last
            self._save("best")
        self._save("last")
        progress.epoch(metrics)

    def _evaluate(self, part: tuple[Array, Array]) -> tuple[Array, Metrics]:
        """The outputs for a part that is not trained on, and their loss and accuracy."""
        x, y = part
        size = max(self.data.batch_size, 256)
        outputs = predict(self.model, x, self.data.dtype, self.data.transform, size)
        with wengert.no_grad():
            loss = self.loss_fn(*to_tensors(outputs, y, self.data.dtype)).item()
        accuracy = right_answers(outputs, y) / len(y) if self.classify else None
        return outputs, {"loss": loss, "accuracy": accuracy}

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
        self._train_mode()
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

    def _begin_directory(self, resume: Path | None, overwrite: bool) -> None:
        if self.dir is None:
            return
        last = self.dir / "last.safetensors"
        if resume is None or resume.parent.resolve() != self.dir.resolve():
            if not overwrite and os.path.lexists(last):
                raise FileExistsError(
                    f"{self.dir} holds a run already; choose another directory, or resume {last}"
                )
            for name in ("last.safetensors", "best.safetensors"):
                (self.dir / name).unlink(missing_ok=True)
            if resume is not None and self.at.best_epoch is not None:
                best = resume.with_name("best.safetensors").read_bytes()
                with writing(self.dir / "best.safetensors") as file:
                    file.write(best)
        text = json.dumps({**self.config, "epochs": self.epochs}, indent=2) + "\n"
        replace_text(self.dir / "config.json", text)
        # A resumed run may come from an older checkpoint: its lines begin where that one stood.
        lines = [json.dumps(metrics) + "\n" for metrics in self.history]
        replace_text(self.dir / "metrics.jsonl", "".join(lines))
        for name in ("confusion.json", "curves.png"):  # of a run that ended here
            (self.dir / name).unlink(missing_ok=True)

    def _append_metrics(self, metrics: Metrics) -> None:
        if self.dir is not None:
            path = self.dir / "metrics.jsonl"
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(metrics) + "\n")
            except OSError as error:  # of a full disk: without the name
                raise OSError(error.errno, error.strerror, str(path)) from None

    def _save(self, name: str) -> None:
        if self.dir is None:
            if name == "best" and self.validation is not None:
                self.best = copy.deepcopy(self.model.state_dict())
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

    def _restore(self, path: Path) -> None:
        try:
            checkpoint = load_checkpoint(path, self.model, self.optimizer, self.schedule)
        except ValueError as error:
            if str(path) in str(error):
                raise
            raise ValueError(f"fit: {path}: {error}") from None
        self.at = _position(checkpoint, path)

    def _restore_best(self, path: Path) -> None:
        """Which epoch was the best is what best.safetensors beside the checkpoint says: a run may
        have been killed after it was written, and before the checkpoint was."""
        self.at.best_loss = self.at.best_epoch = None
        try:
            checkpoint = load_checkpoint(path)
            at = _position(checkpoint, path)
        except (OSError, ValueError):  # none, or a damaged one: the best of the epochs to come
            return
        if at.epoch <= self.at.epoch + 1:  # else this run goes on from an earlier epoch
            self.at.best_loss, self.at.best_epoch = at.best_loss, at.best_epoch
            self.best = checkpoint.model

    def _take_best(self) -> None:
        """The weights that the validation part chose."""
        if self.validation is None or self.at.best_epoch == self.at.epoch:
            return
        if self.dir is not None:
            load_checkpoint(self.dir / "best.safetensors", self.model)
        elif self.best is not None:
            self.model.load_state_dict(self.best)

    def _write_summary(self, tested: Metrics | None) -> None:
        last = {k: v for k, v in self.history[-1].items() if k.startswith(("train", "validation"))}
        summary: Metrics = {
            "summary": True,
            "epochs": self.at.epoch,
            "seconds": sum(m["seconds"] for m in self.history),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "last": last,
            "best_epoch": self.at.best_epoch,
        }
        if tested is not None:
            epoch = self.at.epoch if self.validation is None else self.at.best_epoch
            summary |= {"tested_epoch": epoch, **tested}
        self._append_metrics(summary)


def _position(checkpoint: Checkpoint, path: Path) -> _Position:
    saved = checkpoint.extra.get("fit") if isinstance(checkpoint.extra, dict) else None
    if saved is None:
        raise ValueError(f"fit: {path} was not written by fit, so it does not say where to go on")
    if isinstance(saved, dict) and "best_epoch" not in saved:  # of a version that chose otherwise
        saved = {**saved, "best_loss": None, "best_epoch": None}
    whole = isinstance(saved, dict) and saved.keys() >= asdict(_Position()).keys()
    try:
        at = _Position(**saved) if whole else _Position(-1)
    except TypeError:
        at = _Position(-1)
    counts = (at.epoch, at.batch, at.step, at.correct, at.samples, at.best_epoch or 0)
    numbers = (at.loss_sum, at.seconds, at.best_loss or 0.0)
    if (
        not all(type(n) is int and 0 <= n < 2**53 for n in counts)
        or not all(type(n) in (int, float) and abs(n) < 1e300 for n in numbers)
        or (at.batch > 0) != (at.samples > 0)
    ):
        raise ValueError(f"fit: {path} does not say rightly where its run stood: it was altered")
    return at


def _told(error: object) -> str:
    """The message, less a place in the code that is only where the command was started."""
    return re.sub(r" at (<frozen \w+>|\S*/bin/wengert):\d+", "", str(error)).rstrip(".")


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
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # cut short by a crash; the checkpoint is what counts
            continue
        known = isinstance(line, dict) and line.keys() >= {"epoch", "train_loss", "seconds"}
        if known and line["epoch"] <= epochs:
            history.append(line)
    return history


def __dir__() -> list[str]:
    return __all__


_explained.explain_all(globals())
