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
A step is a compiled list (`wengert.compile`): the loss, the line that raises where it is NaN or
infinite, the gradients, the update. On a GPU it is two, and the loss is looked at between them.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import math
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import wengert
from wengert import _core, _explained
from wengert._guards import unrecorded
from wengert.data import Batches, ShardedBatch, to_tensors
from wengert.io import load_checkpoint, save_checkpoint, writing
from wengert.nn.module import kept_modes
from wengert.optim import (
    AveragedModel,
    LambdaLR,
    ReduceLROnPlateau,
    clip_grad_norm_,
    get_ema_avg_fn,
)
from wengert.parallel import (
    Alone,
    DataParallel,
    NotFiniteError,
    ZeroRedundancyOptimizer,
    repeated,
    require_alike,
    spread,
)
from wengert.parallel.alike import facts_of

from . import report
from .callbacks import Callback, Training
from .directory import claimed, replace_text
from .metrics import Metric, chosen, class_weights

if TYPE_CHECKING:
    from wengert import nn
    from wengert._core import Tensor
    from wengert.io import Checkpoint
    from wengert.optim import LRScheduler, Optimizer

__all__ = [
    "SCHEDULES",
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
SCHEDULES = ("constant", "linear", "cosine", "onecycle", "plateau")
_HIGHER_IS_BETTER = re.compile(r"(accuracy|auc|f1|r2|top_k)$")


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, why, and what to try."""


@dataclass
class Result:
    """What `fit` hands back."""

    history: list[Metrics]  # an entry for every finished epoch, those before a resume included
    interrupted: bool  # Ctrl-C ended the run
    checkpoint: Path | None  # the last one written
    best_epoch: int | None  # of the best number that is monitored, the validation loss
    outputs: Array | None  # for the test samples, with the weights that the model ends with
    test: Metrics | None  # test_loss, test_accuracy and other metrics of these outputs


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
    # of what is monitored, the loss unless asked otherwise
    best_loss: float | None = None
    best_epoch: int | None = None


def fit(
    model: nn.Module,
    loss_fn: Loss,
    optimizer: Optimizer,
    data: Batches,
    *,
    epochs: int,
    validation: tuple[Array, Array] | Batches | None = None,
    test: tuple[Array, Array] | Batches | None = None,
    patience: int | None = None,
    schedule: LRScheduler | str | None = None,
    classify: bool | None = None,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = True,
    config: dict[str, Any] | None = None,
    quiet: bool = True,
    callbacks: Sequence[Callback] = (),
    metrics: Sequence[str | Metric] | Mapping[str, str | Metric] = (),
    monitor: str | None = None,
    mode: str | None = None,
    min_delta: float = 0.0,
    warmup: int = 0,
    accumulate: int = 1,
    clip_grad_norm: float | None = None,
    ema: float | None = None,
    class_weight: str | dict[int, float] | None = None,
    precision: str | None = None,
    compile: bool = True,
) -> Result:
    """Train `model` on `data` for `epochs` epochs (in all, counting those before a resume).

    loss_fn(prediction, y): a mean over the batch.
    validation: arrays (x, y), or Batches of a Dataset, say, whose samples are taken in order, not
        augmented; evaluated after every epoch. The model ends with the weights of the
        epoch whose loss on them was lowest; without them, with those of the last epoch.
    test: likewise, evaluated once, after the last epoch.
    data.transform and data.dtype apply to arrays of both. Batches are moved to the model's device.
    patience: stop after so many epochs without a lower validation loss.
    schedule: a schedule, stepped after every epoch (ReduceLROnPlateau: with the validation loss;
        without a validation part, the training loss); or a name of SCHEDULES: "constant", or from
        the learning rate to 0 after each step, "linear" or "cosine"; "onecycle" (its peak is the
        learning rate), "plateau" (a tenth after 10 epochs).
    warmup: steps in which the learning rate first rises from near 0, of a schedule by name.
    classify: count right answers. None: where y is a vector of whole numbers; True: one-hot too.
    run_dir: FileExistsError where another run holds it, or with overwrite=False where it has a run
        and this one is not resumed from it.
    resume: a checkpoint that `fit` wrote. config: noted in config.json and in every checkpoint.
    quiet=False: show a bar, or a line an epoch.
    callbacks: see `Callback`; logs are CSVLogger, JSONLLogger and TensorBoardLogger.
    metrics: names in train.metrics, or functions of (outputs, y) as arrays, evaluated on validation
        and test part: "f1" becomes validation_f1.
    monitor: the number of an epoch that chooses the best one, counts for patience and steps a
        plateau: "validation_f1". mode: "min" or "max" (None: by the name). min_delta: how much
        better it must be to count.
    accumulate: batches whose gradients are averaged in one step.
    clip_grad_norm: the largest norm of all gradients together.
    ema: decay, such as 0.999, of an exponential moving average of the weights, which is what is
        evaluated and what the model ends with.
    class_weight: "balanced", or a dict from class to weight, given to loss_fn as `weight`.
    precision: of products on tensor cores, as wengert.set_matmul_precision; as it was afterwards.
    model may be a parallel.DataParallel, and optimizer a ZeroRedundancyOptimizer, on all ranks:
        steps are then sums over its shards, evaluations are spread over the ranks, and rank 0 alone
        has the directory, callbacks and progress; a run is resumed by any number of ranks.
    compile=False: run each step as Python runs it. A step that cannot be compiled does so, too,
        with a warning.
    A model that is in training mode keeps the modes of its parts; another is put into it.
    Ctrl-C ends the step under way, saves and returns with `interrupted` set; a second one raises.
    The global generator is seeded again at every step, from data.seed and the step.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("resume", "overwrite", "quiet")}
    if isinstance(model, DataParallel) and model.comm.rank:
        arguments |= {"run_dir": None, "callbacks": ()}
        quiet = True
    run = _Run(**arguments)
    former = wengert.get_matmul_precision()
    with claimed(run.dir) if run.dir is not None else nullcontext():
        try:
            wengert.set_matmul_precision(precision or former)
            return run.go(Path(resume) if resume is not None else None, overwrite, quiet)
        finally:
            wengert.set_matmul_precision(former)


class _Run:
    """One call of `fit`: the arguments, the position, and the few things done with both."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Loss,
        optimizer: Optimizer,
        data: Batches,
        epochs: int,
        validation: tuple[Array, Array] | Batches | None,
        test: tuple[Array, Array] | Batches | None,
        patience: int | None,
        schedule: LRScheduler | str | None,
        classify: bool | None,
        run_dir: str | Path | None,
        config: dict[str, Any] | None,
        callbacks: Sequence[Callback],
        metrics: Any,
        monitor: str | None,
        mode: str | None,
        min_delta: float,
        warmup: int,
        accumulate: int,
        clip_grad_norm: float | None,
        ema: float | None,
        class_weight: str | dict[int, float] | None,
        precision: str | None,
        compile: bool,
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
            if isinstance(part, tuple) and not len(part[0]) == len(part[1]) > 0:
                raise ValueError(
                    f"fit: {name} has {len(part[0])} inputs and {len(part[1])} targets; expected "
                    "as many of both, and at least 1"
                )
        for name, value, good in (
            ("accumulate", accumulate, accumulate >= 1),
            ("warmup", warmup, warmup >= 0 and (not warmup or schedule in SCHEDULES[:3])),
            ("clip_grad_norm", clip_grad_norm, clip_grad_norm is None or clip_grad_norm > 0),
            ("ema", ema, ema is None or 0 < ema < 1),
            ("mode", mode, mode in (None, "min", "max")),
            (
                "callbacks",
                callbacks,
                all(any(hasattr(c, event) for event in _EVENTS) for c in callbacks),
            ),
            ("schedule", schedule, not isinstance(schedule, str) or schedule in SCHEDULES),
        ):
            if not good:
                raise ValueError(f"fit: {name} is {value!r}; {_MUST[name]}")
        self.parallel = model if isinstance(model, DataParallel) else None
        self.comm = self.parallel.comm if self.parallel is not None else Alone()
        self.was_rank = self.comm.rank
        if isinstance(model, DataParallel):
            model = model.module
        self.model, self.loss_fn, self.optimizer, self.data = model, loss_fn, optimizer, data
        self.epochs, self.validation, self.test, self.patience = epochs, validation, test, patience
        if classify is None:
            classify = data.y.ndim == 1 and data.y.dtype.kind in "iub"
        self.classify = classify
        if class_weight is not None:
            self.loss_fn = _weighted(loss_fn, class_weight, model, data)
        self.dir = Path(run_dir) if run_dir is not None else None
        self.config = config or {}
        self.at = _Position()
        self.history: list[Metrics] = []
        self.best: dict[str, Tensor] | None = None  # weights, where there is no directory
        self.metrics, self.min_delta, self.accumulate = chosen(metrics), min_delta, accumulate
        self.monitor = monitor or f"{'validation' if validation is not None else 'train'}_loss"
        higher = mode == "max" or (mode is None and _HIGHER_IS_BETTER.search(self.monitor))
        self.sign = -1.0 if higher else 1.0
        self.device = next((p.device for p in model.parameters()), "cpu")
        self.ema = AveragedModel(model, avg_fn=get_ema_avg_fn(ema)) if ema is not None else None
        self.by_step = isinstance(schedule, str) and schedule != "plateau"
        steps = epochs * -(-len(data) // accumulate)
        self.schedule = (
            _schedule(schedule, optimizer, steps, warmup) if isinstance(schedule, str) else schedule
        )
        in_one = self.device == "cpu" and not isinstance(optimizer, ZeroRedundancyOptimizer)
        self._part, self._update = _step(
            model, self.loss_fn, optimizer, clip_grad_norm, self.ema, compile, in_one
        )
        if self.parallel is not None:
            plain = self.parallel._plain
            self.parallel._step = _compiled(plain) if compile else plain
        self.callbacks = list(callbacks)
        self.seen = Training(model, optimizer, epochs, self.dir, history=self.history)

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
            self.history[:] = read_history(resume.with_name("metrics.jsonl"), self.at.epoch)
        self.seen.epoch, self.seen.step = self.at.epoch + 1, self.at.step
        if self.comm.size > 1:
            require_alike(self.comm, self._facts())
        self._tell("on_train_begin")
        self._begin_directory(resume, overwrite)
        self._save("last")  # from now on there is always a checkpoint to come back to
        steps = self.epochs * len(self.data)
        progress = report.progress(self.epochs, steps, quiet, self.comm.size)
        with _finish_step_on_interrupt(self.comm.size > 1) as stop:
            try:
                while not (stop.requested or self._is_done()):
                    self._train_epoch(progress, stop)
                    if self.at.batch == len(self.data):
                        self._end_epoch(progress)
                if stop.requested:
                    self._save("last")
                self._tell("on_train_end")
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
        stopped = self.seen.should_stop and self.at.batch == 0
        return self.at.epoch >= self.epochs or self._patience_is_over() or stopped

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
        self.seen.epoch, self.seen.metrics = at.epoch + 1, {}
        self._tell("on_epoch_begin")
        began, spent_before = time.perf_counter(), at.seconds
        data, total = self.data, len(self.data)
        batches = self._batches(data if self.parallel is None else self.parallel.batches(data))
        for batch in batches:
            group = [batch]
            while len(group) < min(self.accumulate, total - at.batch):
                group.append(next(batches))
            wengert.manual_seed(step_seed(self.data.seed, at.step))
            values, right = self._take_step(group, stop)
            if self.by_step and self.schedule is not None:
                self.schedule.step()
            at.batch, at.step = at.batch + len(group), at.step + 1
            for value, batch in zip(values, group, strict=True):
                rows = batch.rows if isinstance(batch, ShardedBatch) else len(batch[0])
                at.loss_sum += value * rows
                at.samples += rows
            at.correct += right
            at.seconds = spent_before + time.perf_counter() - began
            progress.step(at.epoch + 1, at.step, self._train_metrics())
            self.seen.step, self.seen.loss = at.step, sum(values) / len(values)
            self._tell("on_train_batch_end")
            if stop.requested:
                return

    def _take_step(self, group: list[Any], stop: _Stop) -> tuple[list[float], int]:
        """The losses and right answers of the batches of a step, after the update."""
        values: list[float] = []
        if self.parallel is not None:
            self.optimizer.zero_grad()
            score = _right if self.classify else None
            try:
                sums = self.parallel.accumulate(self.loss_fn, group, score, stop.asked)
            except NotFiniteError as error:
                raise TrainingError(f"training stopped in {self._place()}: {error}") from None
            self._require_rank_0()
            stop.requested = sums.stop
            self._update()
            return sums.losses, round(sum(sums.scores))
        right = 0
        for i, (x, y) in enumerate(group):
            part = self._part(i == 0, i == len(group) - 1, 1 / len(group))
            try:
                loss, prediction = part(x, y)
            except _LossError as error:
                raise self._failure(f"the loss became {error}", x, y) from None
            values.append(loss.item())
            if self.classify:
                right += _right(prediction, y)
        return values, right

    def _require_rank_0(self) -> None:
        if self.was_rank != self.comm.rank == 0:
            raise TrainingError(
                "rank 0, which kept the files, was lost; resume from its last checkpoint"
            )

    def _facts(self) -> dict[str, Any]:
        """What must be the same on all ranks."""
        y = self.data.y
        digest = hashlib.sha256(y.tobytes()) if isinstance(y, np.ndarray) else None
        return {
            **facts_of(self.model),
            "optimizer": self.optimizer,
            "inputs": self.data.x.shape,
            "targets": digest.hexdigest()[:12] if digest is not None else len(y),
            "batch_size": self.data.batch_size,
            "seed": self.data.seed,
            "epochs": self.epochs,
            "accumulate": self.accumulate,
            "place in the run": asdict(self.at),
        }

    def _batches(self, data: Iterable[Any]) -> Iterator[Any]:
        """Those of the epoch, on the model's device. Training is saved where the data fail."""
        batches = iter(data)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                error.add_note(f"training stopped in {self._place()}{self._kept()}")
                raise
            if isinstance(batch, ShardedBatch) or self.device == "cpu":
                yield batch
            else:
                yield tuple(t.to(self.device) for t in batch)

    def _place(self) -> str:
        return f"epoch {self.seen.epoch}, after step {self.at.step}"

    def _kept(self) -> str:
        """Saves the training so far, and says where."""
        if self.comm.size > 1 and isinstance(self.optimizer, ZeroRedundancyOptimizer):
            return ""  # the other ranks would have to send their part of its state
        if self.last is None:
            return "; the model has the training up to there"
        try:
            self._save("last")
        except OSError as error:
            return f"; {self.last} could not be written: {error.strerror}"
        return f"; {self.last} has the training up to there, to resume"

    def _tell(self, event: str) -> None:
        """Calls this method of the callbacks; TrainingError where one raises."""
        for callback in self.callbacks:
            call = getattr(callback, event, None)
            if call is None:
                continue
            try:
                call(self.seen)
            except Exception as error:
                begins = event == "on_train_begin"  # nothing has been trained
                if begins and isinstance(error, OSError):
                    raise
                raise TrainingError(
                    f"training stopped in {self._place()}: {type(callback).__name__}.{event} "
                    f"raised {type(error).__name__}: {error}{'' if begins else self._kept()}"
                ) from error

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
        if self.monitor not in metrics:
            raise ValueError(
                f"fit: monitor is {self.monitor!r}, and an epoch has {', '.join(metrics)}; ask for "
                "it with metrics=, and give a validation part"
            )
        score = metrics[self.monitor]
        better = at.best_loss is None or self.sign * (at.best_loss - score) > self.min_delta
        best = (score, at.epoch + 1) if better else (at.best_loss, at.best_epoch)
        self.at = _Position(at.epoch + 1, step=at.step, best_loss=best[0], best_epoch=best[1])
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(self.sign * score)
        elif self.schedule is not None and not self.by_step:
            self.schedule.step()
        self.seen.metrics = metrics
        failed = None
        try:
            self._tell("on_epoch_end")
        except TrainingError as error:  # the epoch is finished all the same
            failed = error
        if self.comm.size > 1:  # callbacks are rank 0's
            rates = [group["lr"] for group in self.optimizer.param_groups]
            told = (self.seen.should_stop, rates)
            self.seen.should_stop, rates = repeated(self.comm, lambda: self.comm.share(told))[0]
            self._require_rank_0()
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        self.history.append(metrics)
        self._append_metrics(metrics)
        if better:  # first: a run that is killed in between repeats the epoch from last
            self._save("best")
        self._save("last")
        progress.epoch(metrics)
        if failed is not None:
            raise failed

    def _evaluate(self, part: tuple[Array, Array] | Batches) -> tuple[Array, Metrics]:
        """The outputs for a part that is not trained on, and their loss and accuracy."""
        size = max(self.data.batch_size, 256)
        model = self._evaluated()
        if isinstance(part, Batches):

            def judged(start: int, stop: int) -> tuple[Array, ...]:
                x, y = part.rows(slice(start, stop))
                return predict(model, x, part.dtype, part.transform, size), y

            outputs, y = spread(self.comm, len(part.x), size, judged)
        else:
            x, y = part
            dtype, transform = self.data.dtype, self.data.transform
            (outputs,) = spread(
                self.comm,
                len(x),
                size,
                lambda start, stop: (predict(model, x[start:stop], dtype, transform, size),),
            )
        self._require_rank_0()
        given = (t.to(self.device) for t in to_tensors(outputs, y, self.data.dtype))
        with wengert.no_grad():
            loss = self.loss_fn(*given).item()
        accuracy = right_answers(outputs, y) / len(y) if self.classify else None
        more = {name: float(metric(outputs, y)) for name, metric in self.metrics.items()}
        return outputs, {"loss": loss, "accuracy": accuracy, **more}

    # When a number is not a number.

    def _bad_parameter(self) -> str | None:
        for name, parameter in self.model.named_parameters():
            if not _is_finite(parameter.detach()):
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
            if not (_is_finite(x) and _is_finite(y)):
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
            for x, y in self._batches(self.data):
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
        if isinstance(self.optimizer, ZeroRedundancyOptimizer):
            self.optimizer.consolidate_state_dict()
        if self.dir is None:
            if name == "best" and self.validation is not None:
                self.best = copy.deepcopy(self._evaluated().state_dict())
            return
        if bad := self._bad_parameter():
            raise self._failure(f"{bad} became NaN or infinite")
        states = [c.state_dict() if hasattr(c, "state_dict") else None for c in self.callbacks]
        save_checkpoint(
            self.dir / f"{name}.safetensors",
            model=self.model if name == "last" else self._evaluated(),
            optimizer=self.optimizer,
            step=self.at.step,
            extra={"fit": asdict(self.at), "config": self.config, "callbacks": states},
            scheduler=self.schedule,
            averaged=self.ema.state_dict() if self.ema is not None and name == "last" else None,
        )

    def _restore(self, path: Path) -> None:
        try:
            checkpoint = load_checkpoint(path, self.model, self.optimizer, self.schedule)
        except ValueError as error:
            if str(path) in str(error):
                raise
            raise ValueError(f"fit: {path}: {error}") from None
        self.at = _position(checkpoint, path)
        if self.ema is not None:
            if checkpoint.averaged is None:
                raise ValueError(f"fit: {path} has no average of the weights; leave ema out")
            self.ema.load_state_dict(checkpoint.averaged)
        states = checkpoint.extra.get("callbacks") or []
        if self.comm.rank:  # callbacks are rank 0's
            return
        if any(states) and len(states) != len(self.callbacks):
            raise ValueError(
                f"fit: {path} was written with {len(states)} callbacks; resume with the same ones"
            )
        for callback, state in zip(self.callbacks, states, strict=False):
            if state is not None and hasattr(callback, "load_state_dict"):
                callback.load_state_dict(state)

    def _evaluated(self) -> nn.Module:
        return self.model if self.ema is None else self.ema.module

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
        if self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())
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


_EVENTS = [name for name in vars(Callback) if name.startswith("on_")]
_MUST = {
    "callbacks": f"each must have one of {', '.join(_EVENTS)}",
    "accumulate": "it must be at least 1",
    "warmup": "it must be 0 or more, and needs schedule='constant', 'linear' or 'cosine'",
    "clip_grad_norm": "it must be above 0",
    "ema": "it must be between 0 and 1, such as 0.999",
    "mode": "it must be 'min' or 'max'",
    "schedule": f"it must be a schedule of wengert.optim, or one of {', '.join(SCHEDULES)}",
}


def _weighted(loss_fn: Loss, weight: Any, model: nn.Module, data: Batches) -> Loss:
    """The loss with a weight for each class of the data."""
    import inspect

    names = inspect.signature(loss_fn).parameters
    if "weight" not in names:
        raise ValueError(
            "fit: class_weight is given to loss_fn as weight=, which it does not take; "
            "wengert.cross_entropy does"
        )
    if len(data.y) != len(data.x):
        raise ValueError(
            "fit: class_weight needs all targets at once, and a Dataset gives them one by one; "
            "give loss_fn the weights"
        )
    device = next((p.device for p in model.parameters()), "cpu")
    weights = wengert.tensor(class_weights(data.y[:], weight=weight), data.dtype).to(device)
    weighted: Any = loss_fn
    return partial(weighted, weight=weights)


def _schedule(name: str, optimizer: Optimizer, steps: int, warmup: int) -> LRScheduler:
    """A schedule of SCHEDULES over so many steps."""
    if name == "plateau":
        return ReduceLROnPlateau(optimizer)
    half_wave: Callable[[float], float] = lambda t: (1 + math.cos(math.pi * t)) / 2  # noqa: E731
    falls: dict[str, Callable[[float], float]] = {
        "constant": lambda t: 1.0,
        "linear": lambda t: 1 - t,
        "cosine": half_wave,
        # As OneCycleLR, without its momentum.
        "onecycle": lambda t: (
            1 - 0.96 * half_wave(t / 0.3) if t < 0.3 else max(half_wave((t - 0.3) / 0.7), 4e-6)
        ),
    }
    fall, rest = falls[name], max(1, steps - warmup)

    def factor(step: int) -> float:
        return (step + 1) / (warmup + 1) if step < warmup else fall(min(1, (step - warmup) / rest))

    return LambdaLR(optimizer, factor)


def _step(
    model: nn.Module,
    loss_fn: Loss,
    optimizer: Optimizer,
    clip: float | None,
    ema: AveragedModel | None,
    compiled: bool,
    in_one: bool,
) -> tuple[Callable[..., Any], Callable[[], Any]]:
    """part(first of the step, last of it, share of the loss)(x, y), which gives loss and prediction
    after the gradients, and after the update where it is the last; and update(). `in_one`: all that
    is one list."""

    @functools.cache  # a step of tensors alone is replayed soonest
    def part(first: bool, last: bool, share: float) -> Callable[..., Any]:
        def gradients(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            if first:
                optimizer.zero_grad()
            prediction = model(x)
            loss = loss_fn(prediction, y)
            if in_one:
                _require_finite(loss, optimizer)
            (loss if share == 1 else loss * share).backward()
            if in_one and last:
                update()
            return loss.detach(), prediction.detach()

        def in_two(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            loss, prediction = first_half(x, y)
            _check_loss(loss)
            if last:
                second_half()
            return loss, prediction

        first_half = _compiled(gradients) if compiled else gradients
        return first_half if in_one else in_two

    def update() -> None:
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if ema is not None:
            ema.update_parameters(model)

    sends = isinstance(optimizer, ZeroRedundancyOptimizer)
    second_half = _compiled(update) if compiled and not sends else update
    return part, second_half


class _LossError(ArithmeticError):
    """A loss that is NaN or infinite; the text is its value."""


def _check_loss(*operands: Tensor) -> None:
    if not math.isfinite(value := operands[-1].item()):
        raise _LossError(value)


def _require_finite(loss: Tensor, optimizer: Optimizer) -> None:
    """The line that raises _LossError where the loss is not finite. It counts as an edit of the
    numbers of steps, which all updates edit: so it comes before them in every list."""
    counts = [cohort.step for group in optimizer.param_groups for cohort in group.cohorts]
    formula = "raises where the loss is NaN or infinite"
    with wengert.no_grad(), unrecorded():
        _core._call_host(
            "require_finite", formula, _check_loss, [*counts, loss.detach()], len(counts)
        )


def _compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, compiled; where it cannot be, as it is, with a warning."""
    step: Callable[..., Any] = wengert.compile(fn)

    def call(*args: Any) -> Any:
        nonlocal step
        try:
            return step(*args)
        except ValueError as error:  # nothing has run
            if step is fn or not str(error).startswith("compile: "):
                raise
            warnings.warn(
                f"fit: the step runs as Python runs it, more slowly, since {_told(error)}; "
                "compile=False says so without this warning",
                RuntimeWarning,
                stacklevel=2,
            )
            step = fn
            return fn(*args)

    return call


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


def _is_finite(x: Tensor) -> bool:
    return bool(wengert.isfinite(x).all().item())


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
    device = next((p.device for p in model.parameters()), "cpu")
    with wengert.no_grad(), kept_modes(model):
        model.eval()
        for start in range(0, len(x) or 1, batch_size):
            rows = x[start : start + batch_size]
            given = to_tensors(rows, rows[:, :0], dtype, transform)[0].to(device)
            parts.append(model(given).cpu().numpy())
    return np.concatenate(parts)


def right_answers(outputs: Array, y: Array) -> int:
    """Rows whose largest output is at the label, or at the one of a one-hot row."""
    labels = y if y.ndim == 1 else y.argmax(axis=1)
    return int((outputs.argmax(axis=1) == labels).sum())


def _right(prediction: Tensor, y: Tensor) -> int:
    return right_answers(prediction.cpu().numpy(), y.cpu().numpy())


def step_seed(seed: int, step: int) -> int:
    """A seed for one step. The factor (2^64 / golden ratio) keeps near seeds far apart."""
    return (seed * 0x9E3779B97F4A7C15 + step) % 2**63


@dataclass
class _Stop:
    asked: bool = False
    requested: bool = False  # with several ranks, when all know that one was asked


@contextmanager
def _finish_step_on_interrupt(together: bool) -> Iterator[_Stop]:
    """The first Ctrl-C becomes a wish, so that no update is cut in half; the second one raises.

    together: with other ranks, whose launcher passes Ctrl-C on, maybe twice, maybe as SIGTERM."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread alone
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stop.asked and not together:
            raise KeyboardInterrupt
        stop.asked, stop.requested = True, not together

    numbers = (signal.SIGINT, signal.SIGTERM) if together else (signal.SIGINT,)
    before = [signal.signal(number, on_interrupt) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


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
